//! Drafts a profile from a snap that runs: what its containerd, its shims and its kubelet say.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cli::snap_processes::{self, SnapProcess, program, root_dir_in, root_of_mounts, shims, toml};
use crate::error::{Error, Result};
use crate::linux::host::Host;
use crate::order;
use crate::runtime::told::option;
use crate::snap::Snap;
use crate::snap::profile::{
    Containerd, Kubelet, NetworkNames, Patience, Profile, SYMLINKS, Services, usual_volumes,
};
use crate::text;
use crate::view::View;

/// Refuses to draft where too little would be seen.
pub fn require_root() -> Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Error::NotStarted(
            "profile init needs root: others see too little of a snap's processes to tell where it keeps its things".into(),
        )),
    }
}

/// A profile as seen, and remarks on what was seen and what was not.
pub fn draft(host: &Host, snap: &Snap) -> Result<(Profile, Vec<String>)> {
    let view = View::new(host, None);
    let seen = snap_processes::processes(&view, snap);
    let mut remarks = Vec::new();
    let daemon = seen.iter().find(|s| program(s) == "containerd");
    let containerd = containerd(&view, snap, daemon, &mut remarks)?;
    let (kubelet, supervisors) = kubelet(host, snap, &seen, &mut remarks);
    let runtime = daemon.and_then(|d| d.service.clone());
    if runtime.is_none() {
        remarks.push("services.runtime: the service that runs containerd was not seen".into());
    }
    let data = [&containerd.root, &containerd.state];
    let profile = Profile {
        schema: 1,
        snap: snap.name.clone(),
        data: data.into_iter().filter(|d| d.starts_with("$SNAP")).cloned().collect(),
        containerd,
        kubelet: kubelet.map(|root| Kubelet { root, told_by: Vec::new(), logs: false }),
        services: Services { runtime, supervisors },
        mounts: Vec::new(),
        network: NetworkNames { links: links(host, &mut remarks), ..NetworkNames::default() },
        host_symlinks: symlinks(host, snap),
        volumes: usual_volumes(),
        scripts: None,
        patience: Patience::default(),
    };
    remarks.push("volumes: the usual places; where else a provisioner keeps volumes, you must know".into());
    cgroup_driver(&view, &mut remarks);
    if let Err(e) = check(&profile) {
        remarks.push(format!("not valid as it is: {e}"));
    }
    remarks.push("Read it before you ship it: what 'data' names is deleted with all it holds.".into());
    Ok((profile, remarks.into_iter().map(|r| format!("# {r}")).collect()))
}

fn check(profile: &Profile) -> Result<Profile> {
    Profile::parse(text::json(profile).as_bytes(), "the draft")
}

fn containerd(
    view: &View,
    snap: &Snap,
    daemon: Option<&SnapProcess>,
    remarks: &mut Vec<String>,
) -> Result<Containerd> {
    let (shim_address, shim_state) = shims(view, snap);
    let arguments = daemon.map_or(&[][..], |d| &d.arguments[..]);
    let config = option(arguments, &["--config", "-c"])
        .and_then(|file| view.host.read(Path::new(&file)).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    if daemon.is_none() && shim_address.is_none() {
        return Err(Error::NotStarted(format!(
            "neither a containerd nor a shim of snap '{}' is seen to run: start the snap, and ask again as root",
            snap.instance
        )));
    }
    let mut found = |key: &str, ways: [Option<String>; 3], default: &str| {
        let from = ["the command line", "the configuration file", "a shim"];
        let hit = ways.into_iter().zip(from).find_map(|(value, from)| Some((value?, from)));
        let (value, from) = hit.unwrap_or_else(|| (default.into(), "not seen: containerd's own default"));
        remarks.push(format!("containerd.{key}: {value} ({from})"));
        in_words_of_the_snap(snap, &value)
    };
    let set = |section: &str, key: &str| toml(&config, section, key);
    Ok(Containerd {
        // A shim's -address is the very text that its socket's name is made of.
        address: found(
            "address",
            [option(arguments, &["--address", "-a"]), set("grpc", "address"), shim_address],
            "/run/containerd/containerd.sock",
        ),
        state: found(
            "state",
            [option(arguments, &["--state"]), set("", "state"), shim_state],
            "/run/containerd",
        ),
        root: found("root", [option(arguments, &["--root"]), set("", "root"), None], "/var/lib/containerd"),
        shim_sockets: "/run/containerd/s".into(),
        runc: "/run/containerd/runc".into(),
        fifos: "/run/containerd/fifo".into(),
        ctr: snap_processes::ctr(view.host, daemon, snap),
        told_by: Vec::new(),
    })
}

/// kubelet's root directory, and the services that would start containers again.
fn kubelet(
    host: &Host,
    snap: &Snap,
    seen: &[SnapProcess],
    remarks: &mut Vec<String>,
) -> (Option<String>, Vec<String>) {
    let is_kubelet = |s: &&SnapProcess| {
        matches!(program(s), "kubelet" | "kubelite" | "k3s" | "k0s" | "dockerd")
            || option(&s.arguments, &["--root-dir"]).is_some()
    };
    let mut supervisors: Vec<String> =
        seen.iter().filter(is_kubelet).filter_map(|s| s.service.clone()).collect();
    order::sort(&mut supervisors);
    supervisors.dedup();
    let from_arguments = || seen.iter().find_map(|s| option(&s.arguments, &["--root-dir"]));
    let from_files = || seen.iter().flat_map(|s| &s.arguments).find_map(|a| root_dir_in(host, snap, a));
    let from_mounts = || seen.iter().find_map(|s| root_of_mounts(host, snap, s.pid));
    let root = from_arguments().or_else(from_files).or_else(from_mounts);
    match &root {
        Some(root) => remarks.push(format!("kubelet.root: {root}")),
        None => remarks.push("kubelet.root: no kubelet was seen, nor a mount of one".into()),
    }
    (root.map(|r| in_words_of_the_snap(snap, &r)), supervisors)
}

/// Links of the well-known names that are there now.
fn links(host: &Host, remarks: &mut Vec<String>) -> Vec<String> {
    let names = host.list(Path::new("/sys/class/net")).unwrap_or_default();
    let names: Vec<String> = names.into_iter().filter_map(|n| n.into_string().ok()).collect();
    let known = Profile::built_in("microk8s").ok().flatten().map(|p| p.network.links).unwrap_or_default();
    let of_pods = names.iter().filter(|n| n.starts_with("veth") || n.starts_with("cali")).count();
    if of_pods > 0 {
        remarks.push(format!("{of_pods} links of single pods are there too; they are found without a name"));
    }
    let links: Vec<String> = known.into_iter().filter(|k| names.contains(k)).collect();
    if !links.is_empty() {
        remarks.push("network.links: present on this machine; whose they are, you must know".into());
    }
    links
}

fn symlinks(host: &Host, snap: &Snap) -> Vec<String> {
    let leads_here = |link: &&&str| {
        let target = std::fs::read_link(host.path(Path::new(link)));
        target.is_ok_and(|target| target.starts_with(&snap.home))
    };
    SYMLINKS.iter().filter(leads_here).map(|link| (*link).to_owned()).collect()
}

fn cgroup_driver(view: &View, remarks: &mut Vec<String>) {
    let Ok(tree) = view.cgroups() else { return };
    let has = |name: &str| {
        tree.each().any(|(_, g)| g.iter().any(|part| part == OsStr::from_bytes(name.as_bytes())))
    };
    let driver = match (has("kubepods.slice"), has("kubepods")) {
        (true, _) => "systemd",
        (_, true) => "cgroupfs",
        _ => return,
    };
    remarks
        .push(format!("control groups: {}, driver {driver}; nothing to set, both are found", tree.layout()));
}

/// A path with `$SNAP…` where it begins with one of the snap's directories.
fn in_words_of_the_snap(snap: &Snap, value: &str) -> String {
    let inside = snap.inside();
    let current = snap.home.join("current");
    let known = [
        ("$SNAP_COMMON", &snap.common),
        ("$SNAP_COMMON", &inside.common),
        ("$SNAP_DATA", &snap.data),
        ("$SNAP_DATA", &inside.data),
        ("$SNAP_DATA", &current),
    ];
    let below = known.into_iter().find_map(|(name, path)| {
        let below = Path::new(value).strip_prefix(path).ok()?.to_str()?;
        Some(format!("{name}/{below}"))
    });
    below.unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::file;

    fn process(root: &Path, pid: i32, comm: &str, arguments: &[&str]) {
        let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 184 0 0 0");
        file(root, &format!("proc/{pid}/stat"), format!("{stat} {}\n", ["0"; 27].join(" ")).as_bytes());
        file(root, &format!("proc/{pid}/cmdline"), (arguments.join("\0") + "\0").as_bytes());
        file(root, &format!("proc/{pid}/mountinfo"), b"");
    }

    fn unit(root: &Path, service: &str, pid: i32) {
        let group = format!("system.slice/snap.own.{service}.service");
        file(root, &format!("sys/fs/cgroup/{group}/cgroup.procs"), format!("{pid}\n").as_bytes());
        file(root, &format!("proc/{pid}/cgroup"), format!("0::/{group}\n").as_bytes());
    }

    /// A machine with a snap "own" that runs containerd and a kubelet.
    fn machine(root: &Path) {
        let mounts = b"30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        file(root, "proc/self/mountinfo", mounts);
        file(root, "sys/fs/cgroup/cgroup.procs", b"");
        process(
            root,
            10,
            "containerd",
            &[
                "/snap/own/1/bin/containerd",
                "--config",
                "/var/snap/own/1/c.toml",
                "--state=/var/snap/own/common/run/c",
            ],
        );
        unit(root, "daemon-containerd", 10);
        process(root, 11, "kubelet", &["/snap/own/1/kubelet", "--kubelet-args-file=/var/snap/own/1/args"]);
        unit(root, "daemon-kubelet", 11);
        file(root, "var/snap/own/1/args", b"--v=2\n--root-dir=${SNAP_COMMON}/kubelet\n");
        let config = "root = \"/var/snap/own/common/lib/c\"\n[grpc]\n  address = '/var/snap/own/common/c.sock'\n[x]\nroot = 'no'\n";
        file(root, "var/snap/own/1/c.toml", config.as_bytes());
        file(root, "sys/class/net/cni0/ifindex", b"3\n");
        std::fs::create_dir_all(root.join("var/lib")).unwrap();
        std::os::unix::fs::symlink("/var/snap/own/common/kubelet", root.join("var/lib/kubelet")).unwrap();
        std::fs::create_dir_all(root.join("snap/own/1")).unwrap();
        std::os::unix::fs::symlink("1", root.join("snap/own/current")).unwrap();
    }

    #[test]
    fn a_running_snap_is_read_from_what_it_says_of_itself() {
        let tree = tempfile::tempdir().unwrap();
        machine(tree.path());
        let host = Host::at(tree.path());
        let (profile, remarks) = draft(&host, &Snap::by_name(&host, "own").unwrap()).unwrap();
        let c = &profile.containerd;
        assert_eq!(
            (c.address.as_str(), c.state.as_str(), c.root.as_str()),
            ("$SNAP_COMMON/c.sock", "$SNAP_COMMON/run/c", "$SNAP_COMMON/lib/c"),
            "{remarks:?}"
        );
        assert_eq!(profile.kubelet.as_ref().map(|k| k.root.as_str()), Some("$SNAP_COMMON/kubelet"));
        assert_eq!(profile.services.runtime.as_deref(), Some("daemon-containerd"));
        assert_eq!(profile.services.supervisors, ["daemon-kubelet"]);
        assert_eq!(profile.network.links, ["cni0"]);
        assert_eq!(profile.host_symlinks, ["/var/lib/kubelet"]);
        assert_eq!(profile.data, ["$SNAP_COMMON/lib/c", "$SNAP_COMMON/run/c"]);
        check(&profile).unwrap();
    }

    #[test]
    fn a_snap_that_does_not_run_is_refused() {
        let tree = tempfile::tempdir().unwrap();
        machine(tree.path());
        let host = Host::at(tree.path());
        let error = draft(&host, &Snap::by_name(&host, "other").unwrap()).unwrap_err();
        assert!(error.to_string().contains("start the snap"), "{error}");
    }
}
