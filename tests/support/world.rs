//! A private world: own mount, pid, network, ipc, uts and cgroup namespaces, an own root directory, and control
//! groups below one group of its own. Whatever happens in it, nothing of it is left when its first process ends.
//!
//! The program that uses this runs itself again, once for each role:
//!
//! * *keeper*, outside: makes the groups, starts the world, removes the groups when it has ended, even after Ctrl-C;
//! * *init*, the world's pid 1: builds the root directory, collects orphans as a real init does;
//! * *body*: the test or the demonstration.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, alarm, chdir, pivot_root};

use super::{Result, build_dir};

mod root;

/// Which control group file systems the world has at /sys/fs/cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cgroups {
    /// cgroup2 alone, whatever the machine's own set-up is.
    V2,
    /// Version 1 hierarchies, the machine's own where it has any, and cgroup2 at `unified`.
    Hybrid,
}

impl Cgroups {
    /// The version 1 hierarchies of a hybrid world, as /proc/self/cgroup names them. Where everything is version 2 on
    /// this machine, these are controllers that version 2 does not have, so that nobody can be using them there; runc
    /// needs no others. Their hierarchies end with the world that mounts them.
    pub fn v1_hierarchies() -> Vec<String> {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let names = text.lines().filter_map(|line| line.split(':').nth(1));
        let mut own: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if own.is_empty() {
            own = ["name=systemd", "devices", "freezer"].map(str::to_owned).into();
        }
        // Two in one hierarchy, as most machines with version 1 have some, but for those where nobody uses these.
        let unused = |name: &str| {
            let all = fs::read_to_string("/proc/cgroups").unwrap_or_default();
            all.lines().any(|line| line.split_whitespace().take(2).eq([name, "0"]))
        };
        if !own.iter().any(|name| name.contains(',')) && TOGETHER.split(',').all(unused) {
            own.push(TOGETHER.to_owned());
        }
        own
    }
}

const TOGETHER: &str = "net_cls,net_prio";
const ROLE: &str = "SNAP_TEARDOWN_TEST_ROLE";
const BODY: &str = "SNAP_TEARDOWN_TEST_BODY";
const CGROUPS: &str = "SNAP_TEARDOWN_TEST_CGROUPS";
const GROUP: &str = "SNAP_TEARDOWN_TEST_GROUP";
const DIR: &str = "SNAP_TEARDOWN_TEST_DIR";

/// Names a directory whose `usr` is laid over the machine's, with programs that are not installed.
pub const LAYER: &str = "SNAP_TEARDOWN_TEST_LAYER";

const LIMIT: &str = "SNAP_TEARDOWN_TEST_LIMIT";

/// No world of a test takes longer; a body that hangs is a failure, not a stuck suite.
pub const LIMIT_SECONDS: u32 = 120;

/// How a world ended.
pub struct Ended {
    pub status: ExitStatus,
    /// The name of its groups in every hierarchy.
    pub group: String,
}

/// Runs the body called `body` in a new world; its output goes to `out`.
pub fn run(body: &str, cgroups: Cgroups, out: Stdio, err: Stdio) -> Result<Ended> {
    run_for(LIMIT_SECONDS, body, cgroups, out, err)
}

/// As `run`, with another limit in seconds.
pub fn run_for(limit: u32, body: &str, cgroups: Cgroups, out: Stdio, err: Stdio) -> Result<Ended> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root: it makes namespaces, mounts and containers (try sudo)".into());
    }
    let group = new_group()?;
    let mut keeper = again("keeper", body, cgroups)?;
    keeper.env(LIMIT, limit.to_string()).env(GROUP, &group);
    let status = keeper.stdin(Stdio::null()).stdout(out).stderr(err).spawn()?.wait()?;
    Ok(Ended { status, group })
}

/// A name that no other world has, ever. A pid is not enough: a keeper that was killed has left its groups, and in another
/// PID namespace, or later, somebody else gets its number.
fn new_group() -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let random = uuid.split('-').next().ok_or("the kernel gives no UUID")?;
    Ok(format!("snap-teardown-{}-{random}", std::process::id()))
}

/// True in a process that was started for a role.
pub fn is_inside() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// For `main`: plays the role this process was started for, if any. Returns the name of the body to run.
pub fn role() -> Result<Option<String>> {
    let Ok(role) = std::env::var(ROLE) else { return Ok(None) };
    let body = std::env::var(BODY)?;
    let cgroups = if std::env::var(CGROUPS)? == "V2" { Cgroups::V2 } else { Cgroups::Hybrid };
    match role.as_str() {
        "keeper" => std::process::exit(keep(&body, cgroups)?),
        "init" => std::process::exit(init(&body, cgroups)?),
        "guest" => furnish_guest().map(|()| Some(body)),
        _ => Ok(Some(body)),
    }
}

/// A world in the world, as an LXD guest is one: own pid, mount, network and cgroup namespaces, and directories of its
/// own under the same names. The body called `body` runs in it.
pub fn guest(body: &str) -> Result<Command> {
    let mut command = super::runtime::in_group("lxc.payload.guest", "unshare")?;
    let exe = std::env::current_exe()?;
    let again = again("guest", body, Cgroups::V2)?;
    command
        .args(["--cgroup", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(exe);
    command.envs(again.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ok(command)
}

/// Inside a guest: its own directories over the world's.
fn furnish_guest() -> Result<()> {
    for dir in ["/run", "/var/snap", "/var/lib", "/opt/runtimes"] {
        fs::create_dir_all(dir)?;
        mount_new("tmpfs", Path::new(dir), MsFlags::empty(), "mode=755")?;
    }
    // The kernel refuses the same file system twice in one place.
    umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH)?;
    mount_new("cgroup2", Path::new("/sys/fs/cgroup"), MsFlags::empty(), "")?;
    set_loopback_up()
}

fn set_loopback_up() -> Result<()> {
    let up = match Command::new("ip").args(["link", "set", "lo", "up"]).status() {
        // Only the demonstration runs on a machine without iproute2, and it needs no loopback then.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        up => up?,
    };
    if up.success() { Ok(()) } else { Err("cannot set the loopback interface up".into()) }
}

/// This program once more, in another role.
fn again(role: &str, body: &str, cgroups: Cgroups) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    // Not the caller's PATH: `su` leaves out what only root uses, and iptables and ip are there.
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // A world has no udev: libdevmapper makes the nodes of mappings itself.
    command.env("DM_DISABLE_UDEV", "1");
    command.env(ROLE, role).env(BODY, body).env(CGROUPS, format!("{cgroups:?}"));
    Ok(command)
}

fn keep(body: &str, cgroups: Cgroups) -> Result<i32> {
    // Signals that end the test run end the world; then the groups are still to be removed.
    let signals = SigSet::from_iter([
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGALRM,
        Signal::SIGCHLD,
    ]);
    signals.thread_block()?;
    set_pdeathsig(Signal::SIGTERM)?;
    alarm::set(std::env::var(LIMIT)?.parse()?);

    let group = std::env::var(GROUP)?;
    let dir = build_dir()?.join("worlds").join(&group);
    fs::create_dir_all(&dir)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| format!("cannot make '/' private (a chroot whose root is no mount?): {e}"))?;
    mount_new("tmpfs", &dir, MsFlags::empty(), "mode=755")?;
    let groups = make_groups(&dir, cgroups, &group)?;

    unshare(
        CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )?;
    let mut world = again("init", body, cgroups)?.env(DIR, &dir).spawn()?;
    let status = loop {
        let signal = signals.wait()?;
        if signal != Signal::SIGCHLD {
            eprintln!("world: {signal}, ending it");
            world.kill()?;
            groups.iter().try_for_each(|group| thaw(group))?;
        }
        if let Some(status) = world.try_wait()? {
            break status;
        }
    };
    for group in groups {
        remove_groups(&group)?;
    }
    umount2(&dir, MntFlags::MNT_DETACH)?;
    fs::remove_dir(&dir)?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// One group for the world in every hierarchy it will see. They are left mounted below `dir`.
fn make_groups(dir: &Path, cgroups: Cgroups, group: &str) -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    let mut hierarchies = vec![("cgroup2", String::new(), "unified".to_owned())];
    if cgroups == Cgroups::Hybrid {
        hierarchies.extend(Cgroups::v1_hierarchies().into_iter().map(|name| {
            let options = if name.starts_with("name=") { format!("none,{name}") } else { name.clone() };
            ("cgroup", options, name.trim_start_matches("name=").to_owned())
        }));
    }
    for (kind, options, name) in hierarchies {
        let at = dir.join("groups").join(name);
        fs::create_dir_all(&at)?;
        mount_new(kind, &at, MsFlags::empty(), &options)?;
        let own = at.join(group);
        fs::create_dir(&own).map_err(|e| format!("cannot make '{}': {e}", own.display()))?;
        // A version 1 cpuset takes no process before it has processors and memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if kind == "cgroup" && own.join(file).exists() {
                fs::write(own.join(file), fs::read(at.join(file))?)?;
                fs::write(own.join("cgroup.clone_children"), "1")?;
            }
        }
        groups.push(own);
    }
    Ok(groups)
}

/// Removes a group and those below it. The world has ended, so they are empty.
fn remove_groups(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group).map_err(|e| format!("cannot remove '{}': {e}", group.display()))?;
    Ok(())
}

fn init(body: &str, cgroups: Cgroups) -> Result<i32> {
    set_pdeathsig(Signal::SIGKILL)?;
    let dir = PathBuf::from(std::env::var(DIR)?);
    let group = dir.file_name().ok_or("the world's directory has no name")?.to_owned();
    let mut hierarchies = Vec::new();
    for entry in fs::read_dir(dir.join("groups"))? {
        let entry = entry?;
        fs::write(entry.path().join(&group).join("cgroup.procs"), "0")?;
        hierarchies.push(entry.file_name().to_string_lossy().into_owned());
    }
    // The keeper still needs its own view of the file system, to remove the groups.
    unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS)?;

    let root = dir.join("root");
    fs::create_dir(&root)?;
    mount_new("tmpfs", &root, MsFlags::empty(), "mode=755")?;
    root::build(&root, cgroups, &hierarchies)?;
    chdir(&root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    set_loopback_up()?;
    // The groups' root stays free of processes, as the kernel demands before controllers are handed down.
    let unified =
        if cgroups == Cgroups::V2 { "/sys/fs/cgroup/world" } else { "/sys/fs/cgroup/unified/world" };
    fs::create_dir(unified)?;
    fs::write(format!("{unified}/cgroup.procs"), "0")?;

    let main = again("body", body, cgroups)?.spawn()?;
    let main = Pid::from_raw(i32::try_from(main.id())?);
    let code = loop {
        match wait()? {
            WaitStatus::Exited(pid, code) if pid == main => break code,
            WaitStatus::Signaled(pid, signal, _) if pid == main => break 128 + signal as i32,
            _ => {}
        }
    };
    thaw(Path::new("/sys/fs/cgroup/freezer"))?;
    Ok(code)
}

/// Thaws what a test left frozen: in version 1, frozen processes cannot be killed, and the world could not end.
fn thaw(group: &Path) -> Result<()> {
    if !group.join("freezer.state").exists() && !group.ends_with("freezer") {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            thaw(&path)?;
        }
    }
    // The root of the hierarchy has no such file, and nothing to thaw.
    match fs::OpenOptions::new().write(true).open(group.join("freezer.state")) {
        Ok(mut file) => Ok(file.write_all(b"THAWED")?),
        Err(_) => Ok(()),
    }
}

/// What a world shows of the machine under its own name and does not own, wherever that lies: the source tree, and the
/// build. Tests that run at the same time write there, so a picture of "what must not change" leaves it out.
pub fn machines_own() -> Result<Vec<PathBuf>> {
    let target = build_dir()?;
    let target = target.ancestors().nth(2).unwrap_or(&target).to_path_buf();
    let sources = super::sources();
    // There are no sources where a program was brought alone.
    let sources = sources.exists().then(|| sources.to_path_buf());
    Ok(sources.into_iter().chain([target]).collect())
}

pub fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|e| format!("cannot bind '{}' to '{}': {e}", from.display(), to.display()).into())
}

pub fn mount_new(kind: &str, at: &Path, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), flags, Some(options))
        .map_err(|e| format!("cannot mount {kind} ({options}) at '{}': {e}", at.display()).into())
}
