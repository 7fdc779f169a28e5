//! Network namespaces, and the connections to what was in them.

use std::fs;
use std::path::Path;

use crate::stage::{World, id, spawn_in};
use support::{Result, demand, sh};

/// Bound elsewhere too, and by another name: every bind of the namespace goes, and nobody's else.
pub fn other_binds() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    sh("mkdir -p /run/snap.docker/netns; touch /run/snap.docker/netns/0a /srv/file
        mount --bind /run/netns/cni-a /run/snap.docker/netns/0a; mount --bind /run/netns/cni-b /srv/file")?;
    world.must_show(&["namespaces"])?;
    let (status, document, changes) = world.hook()?;
    demand(
        changes.is_empty() && status == Some(0),
        format!("{status:?}: {changes:#?} {}", document["steps"]),
    )?;
    demand(!Path::new("/run/snap.docker/netns/0a").exists(), "the file of a bind is left")?;
    demand(Path::new("/srv/file").exists(), "a file that somebody bound it over is gone")
}

/// A hint is not a proof: a bundle names a deserted namespace that runc's state does not.
pub fn contradiction() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    let bundle = world.snap.common.join("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(id('a'));
    let text = fs::read_to_string(bundle.join("config.json"))?.replace("cni-a", "cni-unused");
    fs::write(bundle.join("config.json"), text)?;
    let (status, document, changes) = world.hook()?;
    demand(changes.is_empty(), format!("the world is not as it was: {changes:#?}"))?;
    let told = document["steps"].to_string();
    demand(status == Some(3) && told.contains("cni-unused"), format!("{status:?}: {told}"))
}

/// One of ours that nothing claims is not hidden by that: its end is a port of our bridge.
pub fn unclaimed() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    fs::remove_dir_all(format!("/run/containerd/runc/k8s.io/{}", id('b')))?;
    fs::remove_dir_all(
        world.snap.common.join("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(id('b')),
    )?;
    sh("rm -f /var/lib/cni/results/*bbbbbbbb*")?;
    let (status, document, _) = world.hook()?;
    let told = document["steps"].to_string();
    demand(status == Some(3) && told.contains("/run/netns/cni-b"), format!("{status:?}: {told}"))
}

/// Connections to pods that are gone are forgotten, and no others.
pub fn connections() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    let entry = |source: &str, pod: &str| {
        sh(&format!(
            "conntrack -I -p udp -s {source} -d 192.0.2.1 --sport 4000 --dport 53 --reply-src {pod} --reply-dst {source} \
                --reply-port-src 53 --reply-port-dst 4000 --timeout 600 --status ASSURED,SEEN_REPLY,DST_NAT"
        ))
    };
    for (source, pod) in [("192.0.2.7", "10.1.0.2"), ("192.0.2.8", "10.1.0.20"), ("10.1.0.2", "192.168.50.7")]
    {
        entry(source, pod)?;
    }
    let flows = || {
        sh(
            "conntrack -L 2>/dev/null | grep -o '^udp.* src=[0-9.]* .* src=[0-9.]*' | awk '{print $NF, $0}' | cut -c 1-19 | sort",
        )
    };
    demand(flows()?.contains("src=10.1.0.2 "), format!("the look is blind for connections: {}", flows()?))?;
    let (status, document, _) = world.hook()?;
    demand(status == Some(0), format!("{status:?}: {}", document["steps"]))?;
    let left = flows()?;
    demand(left.contains("src=10.1.0.20 ") && left.contains("src=192.168.50.7 "), format!("gone: {left}"))?;
    demand(!left.contains("src=10.1.0.2 "), format!("left: {left}"))
}

/// Somebody in a namespace makes it his; somebody who has one open only keeps it alive.
pub fn held() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    let mut inside = spawn_in("cni-a")?;
    let open = fs::File::open("/run/netns/cni-b")?;
    let (status, document, changes) = world.hook()?;
    drop(open);
    demand(inside.try_wait()?.is_none(), "the holder was ended")?;
    demand(sh("ip -n cni-a link show eth0").is_ok(), "he has lost his link")?;
    let his = |c: &&String| ["cni-a", "veth1", "cni0", "10.1.0."].iter().any(|part| c.contains(part));
    let left: Vec<_> = changes.iter().filter(|c| !his(c)).collect();
    demand(left.is_empty(), format!("{status:?} {left:#?}"))?;
    let notes = document["notes"].to_string();
    for who in [inside.id(), std::process::id()] {
        demand(
            notes.contains(&format!("process {who} ")),
            format!("the holder {who} is not named: {notes}"),
        )?;
    }
    inside.kill()?;
    inside.wait()?;
    Ok(())
}
