//! The pods of the demonstration: real ones, or where a machine cannot have them, what looks like them.

use std::fs;
use std::path::Path;
use std::process::Child;

use support::fixture::{self, Bundle};
use support::hook::Snap;
use support::runtime::{Layout, Pod, Runtime, in_group, mount_volumes};
use support::{Result, built, world};

use crate::screen::{Screen, table};
use crate::{SNAP, shown};

/// Name, how many of it, and what `app` (../app.rs) plays in it.
const PODS: [(&str, usize, &str); 2] = [("web", 2, "obedient"), ("db", 1, "parent")];

const NAMESPACE: &str = "shop";

/// Whatever of the pods is ours to collect.
#[derive(Default)]
pub struct Pods(Vec<Child>);

impl Pods {
    pub fn collect(&mut self) -> Result<()> {
        for child in &mut self.0 {
            child.try_wait()?;
        }
        Ok(())
    }
}

/// Pods of a real containerd, which is then killed as a removal leaves it.
pub fn run_pods(screen: &mut Screen, snap: &str) -> Result<Pods> {
    screen.title(&format!("1. The snap '{snap}' runs a real containerd, with three pods"));
    let mut runtime = Runtime::start(Layout::of_snap(snap), "1.6")?;
    let mut rows = vec![["POD", "APPLICATION", "SANDBOX", "ADDRESS", "VOLUMES"].map(str::to_owned).to_vec()];
    for (name, count, role) in PODS {
        let pods = runtime.make_pods(
            name,
            &["--namespace", NAMESPACE, "--count", &count.to_string()],
            &["/app", role],
        )?;
        for (number, pod) in pods.iter().enumerate() {
            mount_volumes(&kubelet(snap), &pod.uid, Path::new("/srv/users"))?;
            rows.push(row(&format!("{NAMESPACE}/{name}-{number}"), pod)?);
        }
    }
    screen.say(&table(&rows)?);
    screen.say("\nContainerd ends, as it does when snapd stops the snap's services. Its pods do not.");
    runtime.kill()?;
    Ok(Pods::default())
}

fn row(name: &str, pod: &Pod) -> Result<Vec<String>> {
    let application = pod.containers.first().ok_or("a pod without a container")?;
    let address = address_of(pod.pid).unwrap_or_else(|| "-".into());
    let cells = [
        name.into(),
        format!("pid {}", application.pid),
        format!("pid {}", pod.pid),
        address,
        "a token (tmpfs), /srv/users".into(),
    ];
    Ok(cells.into())
}

/// The address of a process's network namespace that is not the loopback's.
fn address_of(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).ok()?;
    let lines: Vec<_> = text.lines().collect();
    let local = lines.windows(2).filter(|two| two[1].contains("/32 host LOCAL"));
    let addresses = local.filter_map(|two| two[0].split_whitespace().last());
    addresses.map(str::to_owned).find(|address| !address.starts_with("127."))
}

fn kubelet(snap: &str) -> std::path::PathBuf {
    Path::new("/var/snap").join(snap).join("common/var/lib/kubelet")
}

/// Real processes in real groups, with bundles and mounts in the places where containerd keeps them.
pub fn imitate_pods(screen: &mut Screen, snap: &Snap) -> Result<Pods> {
    screen.title(&format!(
        "1. The snap '{SNAP}', imitated: processes, mounts and groups as three pods have them"
    ));
    let mut children = Vec::new();
    let app = built("app")?;
    let mut rows = vec![["POD", "APPLICATION", "VOLUMES"].map(str::to_owned).to_vec()];
    let names = PODS.iter().flat_map(|(name, count, _)| (0..*count).map(move |i| format!("{name}-{i}")));
    for (i, name) in names.enumerate() {
        let (id, uid) = (i.to_string().repeat(64), format!("{name}-0000-4000-8000"));
        let group = format!("kubepods/besteffort/pod{uid}/{id}");
        let bundle = Bundle::new(&id, &format!("/{group}")).of_sandbox(&id);
        let bundle = bundle.annotated("sandbox-name", &name).annotated("sandbox-namespace", NAMESPACE);
        let bundle = bundle.write(&snap.common.join("run/containerd"))?;
        fs::create_dir(bundle.join("rootfs"))?;
        mount_overlay(snap, &id, &bundle.join("rootfs"))?;
        mount_volumes(&kubelet(SNAP), &uid, Path::new("/srv/users"))?;
        let process = in_group(&group, &app.display().to_string())?.arg("obedient").spawn()?;
        rows.push(vec![
            format!("{NAMESPACE}/{name}"),
            format!("pid {}", process.id()),
            "a token (tmpfs), /srv/users".into(),
        ]);
        children.push(process);
    }
    screen.say(&table(&rows)?);
    screen.say("\nThe runtime of such a snap ends when snapd stops the snap's services. Its pods do not.");
    Ok(Pods(children))
}

fn mount_overlay(snap: &Snap, id: &str, at: &Path) -> Result<()> {
    let snapshot = fixture::snapshot(&snap.common.join("var/lib/containerd"), id);
    let [lower, upper, work] = ["lower", "fs", "work"].map(|name| snapshot.join(name));
    for dir in [&lower, &upper, &work] {
        fs::create_dir_all(dir)?;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", shown(&lower), shown(&upper), shown(&work));
    world::mount_new("overlay", at, nix::mount::MsFlags::empty(), &options)
}
