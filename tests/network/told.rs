//! What is told: by the survey, in the journal, and where a program is missing.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::stage::{World, id, write};
use support::fixture::Bundle;
use support::hook::{self, Snap};
use support::runtime::in_group;
use support::{Result, built, demand, sh};

/// The notes of a survey, as topic and items.
fn notes(snap: &Snap) -> Result<BTreeMap<String, String>> {
    let output = Command::new(built("snap-teardown")?)
        .args(["survey", "--json"])
        .env_clear()
        .envs(snap.environment())
        .output()?;
    let document: Value = serde_json::from_slice(&output.stdout)?;
    hook::check(&document)?;
    let notes = document["notes"].as_array().ok_or("no notes")?;
    let of = |note: &Value| (note["kind"].as_str().unwrap_or_default().to_owned(), note["items"].to_string());
    Ok(notes.iter().map(of).collect())
}

pub fn survey() -> Result<()> {
    let world = World::new()?;
    let known = notes(&world.snap)?;
    let quiet =
        ["listeners", "cluster", "pods", "host-volumes"].iter().all(|kind| !known.contains_key(*kind));
    demand(quiet, format!("told of what is not there: {known:?}"))?;
    world.add_ours()?;
    write(
        "/var/snap/microk8s/1/var/kubernetes/backend/cluster.yaml",
        "- Address: 10.0.0.1:19001\n  ID: 1\n- Address: 10.0.0.2:19001\n  ID: 2\n",
    )?;
    let mut bundle = Bundle::new(&id('d'), &format!("/kubepods/podb/{}", id('d'))).of_sandbox(&id('b'));
    bundle.spec["mounts"] = json!(
        ["/srv/database", "/dev/shm", "/dev/null"].map(|source| json!({"type": "bind", "source": source}))
    );
    bundle.write(&world.snap.common.join("run/containerd"))?;
    // A child that a service left behind, and one of somebody else's.
    let socket = |group: &str, port: u16| {
        let mut command = in_group(group, "python3")?;
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).stdin(Stdio::null());
        Ok::<Child, Box<dyn std::error::Error>>(command.spawn()?)
    };
    sh("ip6tables-nft -t nat -N cali-others")?;
    let mut children = [
        socket("system.slice/snap.microk8s.daemon-kubelite.service", 16443)?,
        socket("system.slice/other.service", 16444)?,
    ];
    while sh("ss -Hltn 'sport >= 16443 and sport <= 16444' | wc -l")?.trim() != "2" {
        std::thread::yield_now();
    }
    let known = notes(&world.snap)?;
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    let items = |kind: &str| known.get(kind).cloned().unwrap_or_default();
    let ports = items("listeners");
    demand(ports.contains("127.0.0.1:16443") && !ports.contains("16444"), format!("{known:?}"))?;
    demand(items("cluster").contains("10.0.0.2:19001"), format!("{known:?}"))?;
    let volumes = items("host-volumes");
    // The host's shared memory is the only directory of the kernel's in which pods leave files.
    let are_told = volumes.contains("/srv/database") && volumes.contains("/dev/shm");
    demand(are_told && !volumes.contains("/dev/null"), format!("{known:?}"))?;
    demand(items("kube-proxy-rules").contains("Calico (ip6tables-nft nat"), format!("{known:?}"))
}

pub fn no_program() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    // An empty directory hides the programs from the hook, and from it alone.
    sh("mkdir -p /run/empty && mount --bind /run/empty /usr/sbin")?;
    let ended = world.snap.run_hook()?;
    sh("/bin/umount /usr/sbin")?;
    let document = world.snap.document()?;
    demand(
        ended.status == Some(3) && document["outcome"] == "blind",
        format!("{:?}: {document}", ended.status),
    )?;
    demand(document.to_string().contains("firewall rules (iptables, nft)"), "the blind spot is not named")
}

/// A journal of the world's own, since the machine's is not to be spoken to.
pub fn journal() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    let socket = UnixDatagram::bind("/dev/log")?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60)))?;
    // A queue of datagrams is short, so somebody reads all the time.
    let reader = std::thread::spawn(move || {
        let (mut lines, mut buffer) = (Vec::new(), [0; 8192]);
        while let Ok(length) = socket.recv(&mut buffer) {
            lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            if lines.last().is_some_and(|line| line.ends_with(" end")) {
                break;
            }
        }
        lines
    });
    let ended = world.snap.run_hook()?;
    UnixDatagram::unbound()?.send_to(b"the end", "/dev/log")?;
    let lines = reader.join().map_err(|_| "the reader has ended")?;
    let document = world.snap.document()?;
    // Daemon's information, or daemon's warning.
    let text = |line: &str| {
        let rest = line.strip_prefix("<30>").or(line.strip_prefix("<28>"))?;
        Some(rest.strip_prefix("snap-teardown[")?.split_once("]: ")?.1.to_owned())
    };
    let own: Vec<String> = lines.iter().filter_map(|line| text(line)).collect();
    demand(own.len() + 1 == lines.len(), format!("lines of another form: {lines:#?}"))?;
    let steps = document["steps"].as_array().ok_or("no steps")?;
    let mut expected = 0;
    for step in steps.iter().filter(|step| step["counts"]["found"].as_u64() > Some(0)) {
        let (name, counts) = (step["name"].as_str().unwrap_or_default(), &step["counts"]);
        let begin = format!(
            "snap \"microk8s\": {name}: {} found, {} removed, {} left",
            counts["found"], counts["removed"], counts["left"]
        );
        let count = own.iter().filter(|line| line.starts_with(&begin)).count();
        demand(count == 1, format!("{count} lines '{begin}' in {lines:#?}"))?;
        expected += 1;
    }
    let result = own.iter().filter(|line| ended.output.lines().next() == Some(line.as_str())).count();
    demand(
        expected >= 3 && result == 1,
        format!("{result} lines with the result in {lines:#?}\n{}", ended.output),
    )
}
