//! Finding 17 and the suspicion S2.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, mkfifo};

use crate::attackers::Container;
use crate::bystanders::{Same, until};
use crate::lies::python;
use crate::trial::{Attack, Trial};
use support::runtime::in_group;
use support::world::mount_new;
use support::{Result, sh};

pub const ALL: &[Attack] = &[
    Attack {
        finding: "17",
        name: "f17_an_empty_group_that_a_foreign_kubelet_shares",
        by: 'A',
        run: shared_group,
    },
    Attack { finding: "17", name: "f17_specs_that_are_devices_are_not_opened", by: 'A', run: devices },
    Attack { finding: "17", name: "f17_directories_nested_deeply_in_a_layer", by: 'A', run: nested },
    Attack { finding: "17", name: "f17_a_link_whose_name_speaks_to_the_terminal", by: 'A', run: link_name },
    Attack { finding: "17", name: "f17_a_users_disk_that_a_container_renames", by: 'A', run: renamed },
    Attack { finding: "S2", name: "s2_a_command_to_copy_is_quoted", by: 'A', run: quoted },
];

fn shared_group(trial: &mut Trial) -> Result<()> {
    drop(in_group("kubepods/burstable", "true")?); // makes the group, and is not run
    trial.bystander(Same::of("find /sys/fs/cgroup -type d -path '*/kubepods/burstable'")?);
    trial.ours()?;
    Container::of(trial).plants("zzz")?.group("/kubepods/burstable/pod1/zzz")?;
    // Whose an empty class is nobody can say where no kubelet of ours has run.
    trial.hook()?.clean_or_doubts(&["zzz", "/kubepods/burstable"])
}

/// To open a watchdog is to start it. Containers may make device nodes: CAP_MKNOD is theirs by default.
fn devices(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    let actor = Container::of(trial);
    let at = |name: &str| Ok::<_, Box<dyn std::error::Error>>(actor.plants(name)?.path().join("config.json"));
    for (name, major, minor) in [("evil-fuse", 10, 229), ("evil-watchdog", 10, 130), ("evil-tty", 5, 0)] {
        mknod(&at(name)?, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))?;
    }
    mkfifo(&at("evil-fifo")?, Mode::from_bits_truncate(0o666))?;
    let _socket = UnixListener::bind(at("evil-socket")?)?;
    fs::create_dir(at("evil-directory")?)?;
    std::os::unix::fs::symlink("/dev/zero", at("evil-link")?)?;
    let strace =
        ["strace", "-f", "-y", "-qq", "--output=/srv/opened", "-e", "trace=open,openat,openat2", "--"];
    trial.wrapper = strace.map(str::to_owned).to_vec();
    let mut came = trial.hook()?;
    let opened = fs::read_to_string("/srv/opened")?;
    let is_special = |line: &&str| {
        let special = ["evil-fuse", "evil-watchdog", "evil-tty"].iter().any(|name| line.contains(name));
        special && line.contains("config.json") && !line.contains("O_PATH")
    };
    for line in opened.lines().filter(is_special).take(3) {
        came.must(false, format!("OPENED: {line}"));
    }
    came.must(opened.contains("config.json"), "strace shows nothing");
    came.clean_or_doubts(&["evil-"])
}

/// Deeper than any recursion, than descriptors last, and than a path can be long.
fn nested(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    let layer =
        trial.snap.common.join("var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/2/fs");
    let script = "import os, sys
for depth, name in ((600, 'd'), (3000, 'a-name-that-makes-paths-long')):
    os.chdir(sys.argv[1])
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    open('file', 'w')";
    let status = Command::new("/usr/bin/python3").args(["-c", script]).arg(&layer).status()?;
    if !status.success() {
        return Err("cannot nest".into());
    }
    trial.hook()?.clean()
}

fn link_name(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    sh(
        "name=$(printf 'a\\033[31mRED'); ip link add \"$name\" type veth peer name other; ip link set \"$name\" master cni0",
    )?;
    trial.attackers_own("\u{1b}[31mRED");
    trial.attackers_own("other (");
    trial.attackers_own("cni0"); // a foreign port may keep it
    trial.attackers_own("10.1."); // and with it its routes
    trial.hook()?.ends(&[0, 1, 3], &[])
}

/// In the container's own mount namespace nothing is mounted there, so that it may rename the directory, and with it goes
/// what is mounted at it in ours.
fn renamed(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    let common = trial.snap.common.clone();
    let storage = common.join("default-storage");
    fs::create_dir_all(&storage)?;
    let script = "import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
signal.sigwait([signal.SIGUSR1])
os.rename('/common/default-storage', '/common/var/lib/kubelet/pods/x')
signal.pause()";
    let volume = format!("--mount=type=bind,src={},dst=/common,options=rbind:rw", common.display());
    let pid = python(trial, "renames", script, &[&volume])?;
    until("it waits", || Ok(fs::read_to_string(format!("/proc/{pid}/wchan"))?.contains("sigtimedwait")))?;
    mount_new("tmpfs", &storage, nix::mount::MsFlags::empty(), "")?;
    fs::write(storage.join("precious"), "not ours")?;
    sh(&format!("mkdir /srv/disk; mount --bind {} /srv/disk", storage.display()))?;
    trial.bystander(Same::of("find /srv/disk; cat /srv/disk/precious")?);
    trial.attackers_own("/srv/disk");
    kill(Pid::from_raw(pid), Signal::SIGUSR1)?;
    let moved = common.join("var/lib/kubelet/pods/x");
    until("it is renamed", || Ok(moved.join("precious").exists()))?;
    trial.attackers_own("kubelet/pods/x");
    let mut came = trial.hook()?;
    let told = came.document["steps"].to_string().contains("kubelet/pods/x")
        || came.told().contains("kubelet/pods/x");
    came.must(
        moved.join("precious").exists() || told,
        "UNTOLD: the user's disk was unmounted, and no word of it",
    );
    came.ends(&[0, 1, 3], &[])
}

/// Names that a shell would run, if they were pasted into one.
fn quoted(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    let volumes = trial.snap.common.join("var/lib/kubelet/pods/evil/volumes");
    for name in
        ["a$(touch${IFS}$HOME-pwned)", "b;touch${IFS}$HOME-pwned;", "c`touch${IFS}$HOME-pwned`", "d'e'f"]
    {
        let at = volumes.join(name);
        fs::create_dir_all(&at)?;
        mount_new("tmpfs", &at, nix::mount::MsFlags::empty(), "")?;
    }
    // In a mount namespace of its own the hook cannot reach what pid 1 has mounted, and says how the administrator does.
    trial.wrapper = ["unshare", "--mount"].map(str::to_owned).to_vec();
    trial.attackers_own("/microk8s/common/");
    let mut came = trial.hook()?;
    let text: String =
        came.output.lines().take_while(|line| !line.starts_with('{')).collect::<Vec<_>>().join(" ");
    let command = text.split("umount ").nth(1).map(|rest| format!("umount {rest}")).unwrap_or_default();
    came.must(command.contains("pods/evil"), format!("UNTOLD: no command to copy: {text}"));
    // An administrator pastes it. What comes behind the command's line is no part of it; a shell says so, and goes on.
    let pasted = Command::new("/bin/sh")
        .args(["-c", &command])
        .env("HOME", "/srv/home")
        .env("PATH", "/usr/bin:/usr/sbin")
        .output()?;
    came.must(!Path::new("/srv/home-pwned").exists(), format!("INJECTED: {command}: {pasted:?}"));
    let mounted = sh("grep -c pods/evil /proc/self/mountinfo || true")?;
    came.must(mounted.trim() == "0", format!("the command does not do what it says: {command}: {pasted:?}"));
    came.ends(&[1], &["pods/evil"])
}
