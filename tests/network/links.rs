//! Links and rules: ours go, and what may be another's stays, and is told.

use std::cell::RefCell;
use std::fs;
use std::process::Child;

use crate::stage::{World, look};
use support::runtime::in_group;
use support::{Result, demand, sh};

pub fn everything() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    world.must_show(&["links", "addresses", "routes", "rules", "namespaces", "cni", "snap"])?;
    let (status, document, changes) = world.hook()?;
    demand(changes.is_empty(), format!("the world is not as it was: {changes:#?}"))?;
    demand(status == Some(0) && document["outcome"] == "clean", format!("{status:?}: {document}"))?;
    demand(sh("ip netns exec cni-f ip link show eth0").is_ok(), "the other's pod has lost its link")
}

/// Ours go, but for the bridge, over which something foreign goes.
pub fn kept_by(commands: &str) -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    for command in commands.split('|') {
        sh(command)?;
    }
    let full = look()?;
    let (_, document, changes) = world.hook()?;
    demand(
        !changes.iter().any(|c| c.starts_with("harmed")),
        format!("something of others is gone: {changes:#?}"),
    )?;
    let left: Vec<_> =
        changes.iter().filter(|c| c.contains("veth") || c.contains("cali0") || c.contains("rules")).collect();
    demand(left.is_empty(), format!("something of ours is left: {left:#?}"))?;
    let after = look()?;
    for part in ["links", "addresses", "routes"] {
        let gone: Vec<_> = full[part]
            .difference(&after[part])
            .filter(|l| l.contains("cni0") && !l.contains("veth"))
            .collect();
        demand(gone.is_empty(), format!("gone with the bridge: {gone:?}"))?;
    }
    let notes = document["notes"].to_string();
    demand(notes.contains("the link cni0"), format!("not said why cni0 is left: {notes}"))
}

/// Beside another kubelet the bridge of our pods is ours, and goes; the tunnel and the chains may be his, and stay, told.
pub fn another_kubelet() -> Result<()> {
    let rival = Rival::new("system.slice/kubelet.service")?;
    let world = World::new()?;
    world.add_ours()?;
    let (status, document, changes) = world.hook()?;
    rival.must_live()?;
    let harmed: Vec<_> = changes.iter().filter(|c| c.starts_with("harmed")).collect();
    demand(harmed.is_empty(), format!("something of others is gone: {harmed:#?}"))?;
    let may_be_his = |c: &&String| c.contains("KUBE-") || c.contains("flannel.1");
    let left: Vec<_> = changes.iter().filter(|c| !may_be_his(c)).collect();
    demand(left.is_empty(), format!("something of ours is left: {left:#?}"))?;
    demand(changes.iter().any(|c| c.contains("KUBE-")), "chains that may be the other's are gone")?;
    let told = document["steps"].to_string();
    demand(status == Some(3), format!("{status:?}: {told}"))?;
    for name in ["flannel.1", "kube-proxy and kubelet", "another kubelet"] {
        demand(told.contains(name), format!("no word of {name}: {told}"))?;
    }
    Ok(())
}

/// What a user calls his process keeps nothing of ours.
pub fn a_users_kubelet() -> Result<()> {
    let rival = Rival::new("user.slice/user-1000.slice/session-1.scope")?;
    let world = World::new()?;
    world.add_ours()?;
    let (status, document, changes) = world.hook()?;
    rival.must_live()?;
    demand(changes.is_empty() && status == Some(0), format!("{status:?}: {changes:#?} {}", document["steps"]))
}

struct Rival(RefCell<Child>);

impl Rival {
    fn new(group: &str) -> Result<Rival> {
        fs::create_dir_all("/opt/other")?;
        fs::copy("/bin/sleep", "/opt/other/kubelet")?;
        let child = in_group(group, "/opt/other/kubelet")?.arg("100").spawn()?;
        let comm = format!("/proc/{}/comm", child.id());
        while fs::read_to_string(&comm)?.trim() != "kubelet" {
            std::thread::yield_now();
        }
        Ok(Rival(child.into()))
    }

    fn must_live(&self) -> Result<()> {
        demand(self.0.borrow_mut().try_wait()?.is_none(), "the other kubelet was ended")
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let child = self.0.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A service that leads to another's pod: the chains are not ours alone, and stay, told.
pub fn rules_that_lead_elsewhere() -> Result<()> {
    let world = World::new()?;
    world.add_ours()?;
    sh("iptables-nft -t nat -A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 192.168.50.7:80")?;
    let (status, document, changes) = world.hook()?;
    let told = document["steps"].to_string();
    demand(changes.iter().all(|c| c.contains("KUBE-") && c.starts_with("left")), format!("{changes:#?}"))?;
    demand(status == Some(3) && told.contains("192.168.50.7"), format!("{status:?}: {told}"))
}
