//! What the hook is started with and in, and whom it would trust if it were careless.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::dice::Dice;
use crate::stage::Stage;
use support::Result;
use support::world::bind;

/// Names that a careless program would look up in its PATH.
const PROGRAMS: [&str; 14] = [
    "snapctl",
    "ctr",
    "runc",
    "iptables",
    "ip6tables",
    "iptables-nft",
    "iptables-legacy",
    "iptables-save",
    "ip",
    "sh",
    "umount",
    "kill",
    "nsenter",
    "systemctl",
];

/// A umask, descriptors, a directory, ignored signals and an environment that others chose.
pub fn inherited() -> Result<()> {
    let mut stage = Stage::new(&["stacked", "containerd-alive"])?;
    let held = stage.volume("held");
    stage.world.tmpfs(&held)?;
    fs::create_dir_all("/tmp/evil")?;
    for name in PROGRAMS {
        let path = Path::new("/tmp/evil").join(name);
        fs::write(&path, "#!/bin/sh\n: >/run/evil-ran\n")?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let notify = UnixDatagram::bind("/run/notify")?;
    notify.set_nonblocking(true)?;
    let variables = [
        ("PATH", "/tmp/evil"),
        ("NOTIFY_SOCKET", "/run/notify"),
        ("WATCHDOG_USEC", "1"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_FDS", "4"),
        ("RUST_BACKTRACE", "full"),
        ("RUST_LOG", "trace"),
        ("TMPDIR", "/srv/users"),
        ("HOME", "/srv/users"),
        ("BASH_ENV", "/tmp/evil/sh"),
        ("ENV", "/tmp/evil/sh"),
        ("SNAP_COOKIE", "cookie"),
    ];
    stage.environment.extend(variables.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let script = format!(
        "export LD_PRELOAD=/tmp/evil/none.so LD_LIBRARY_PATH=/tmp/evil; umask 0; trap '' CHLD HUP; cd '{0}'; exec 5<'{0}/token' 7<'{0}' 9>>/srv/users/precious; exec \"$@\"",
        held.display()
    );
    stage.wrapper = ["/usr/bin/dash", "-c", &script, "dash"].map(str::to_owned).to_vec();

    // What it would come to, if it stayed open.
    let open = fs::File::open(held.join("token"))?;
    if umount2(&held, MntFlags::empty()).is_ok() {
        return Err("an open file keeps no mount busy here: the scene shows nothing".into());
    }
    drop(open);

    let came = stage.run()?;
    came.clean()?;
    came.must(!Path::new("/run/evil-ran").exists(), "nothing is looked up in PATH")?;
    came.must(notify.recv(&mut [0; 64]).is_err(), "nobody is notified")?;
    for (path, expected) in [("", 0o700), ("teardown.json", 0o600), ("teardown.lock", 0o600)] {
        let mode = fs::metadata(Path::new("/run/snap.microk8s").join(path))?.permissions().mode() & 0o777;
        came.must(mode == expected, &format!("'{path}' has mode {mode:o}"))?;
    }
    Ok(())
}

/// Started from a shell in one of the containers, as an administrator may do who knows no other way in: what ends that
/// container must not end the hook.
pub fn in_a_container() -> Result<()> {
    let mut stage = Stage::new(&["many-containers"])?;
    let leaf = |stage: &Stage| -> Result<String> {
        let last = stage.world.leaves.last().ok_or("no container")?;
        Ok(last.strip_prefix("/sys/fs/cgroup")?.display().to_string())
    };
    stage.group = leaf(&stage)?;
    stage.run()?.clean()?;

    // Where it may not leave the group, it has to spare it.
    stage.world.pod(&mut Dice::new(3))?;
    stage.group = leaf(&stage)?;
    let top = Path::new("/sys/fs/cgroup/cgroup.procs");
    bind(Path::new("/etc/passwd"), top)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, top, None::<&str>, flags, None::<&str>)?;
    let came = stage.run()?;
    umount2(top, MntFlags::empty())?;
    came.must(came.ended.status == Some(1), "it lives to tell")?;
    came.must(came.verdict.left.iter().all(|item| item.starts_with("group ")), "only its own groups are left")
}

/// A pod's group, or the one above all of them, was frozen: with it everything below.
pub fn frozen_above() -> Result<()> {
    let mut stage = Stage::new(&["many-containers", "stubborn"])?;
    for pod in stage.world.pods.clone() {
        fs::write(pod.join("cgroup.freeze"), "1")?;
    }
    stage.run()?.clean()
}

/// A file that not even root may delete, in what is to be deleted.
pub fn immutable_file() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let file = Path::new(crate::worlds::COMMON).join("var/lib/containerd/immutable");
    fs::write(&file, "for ever")?;
    let change = |flag: &str| -> Result<()> {
        let status = Command::new("/usr/bin/chattr").arg(flag).arg(&file).status()?;
        if status.success() { Ok(()) } else { Err(format!("chattr {flag}: {status}").into()) }
    };
    change("+i")?;
    let came = stage.run()?;
    came.must(came.verdict.outcome == "residue" && came.tells_of(&["immutable"]), "the file is named")?;
    came.must(came.verdict.left.len() == 1, "all else is gone")?;
    change("-i")?;
    stage.run()?.clean()
}

/// A process that a privileged pod has moved out of all of its groups, and that shares the host's processes.
pub fn escaped() -> Result<()> {
    let mut stage = Stage::new(&["daemon", "host-pid"])?;
    let elsewhere = stage.world.make_group("/elsewhere")?;
    let mut moved = Vec::new();
    for leaf in stage.world.leaves.clone() {
        // The last is the daemon: its parent has ended, and the shim has taken it.
        for pid in crate::worlds::pids_in(&leaf).into_iter().skip(1) {
            fs::write(elsewhere[0].join("cgroup.procs"), pid.to_string())?;
            moved.push(pid);
        }
    }
    if moved.is_empty() {
        return Err("no process to move: the scene shows nothing".into());
    }
    stage.world.pids.extend(&moved);
    let came = stage.run()?;
    let told = moved.iter().all(|pid| came.tells_of(&[&pid.to_string()]));
    came.must(came.verdict.outcome == "clean" || told, "all gone, or told by number")
}
