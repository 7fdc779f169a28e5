//! The processes of a world. Every one of them is this program again, told by its environment what to be; its command
//! line says whatever the world wants it to look like.
//!
//!   shim     a stand-in for a shim: parent of its containers' orphans, started with a shim's command line
//!   launch   puts one container into its groups and namespaces, as runc does, and ends
//!   contain  a container's first process: changes its root, then behaves
//!   be       any other process: behaves
//!   guest    a machine in the machine: own pid, mount and network namespaces, own directories, its own shims

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::wait::wait;
use nix::unistd::{chdir, dup2_stdout, pivot_root, setsid};
use serde::{Deserialize, Serialize};

use support::{Result, runtime};

mod behave;

pub use behave::in_between;
use behave::{be, name};

const PLAY: &str = "TORTURE_PLAY";
const PART: &str = "TORTURE_PART";

/// What a process is and does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Part {
    pub behaviour: Behaviour,
    /// Its name; what ps shows.
    pub name: String,
    pub groups: Vec<PathBuf>,
    pub uid: u32,
    pub directory: Option<PathBuf>,
    /// Its group may hold so many processes and no more (pids.max), which ends a bomb that nothing else would end.
    pub limited: bool,
    /// A file or directory that it keeps open.
    pub holds: Option<PathBuf>,
    pub containers: Vec<Contained>,
    /// A socket that it listens on, without ever answering.
    pub socket: Option<PathBuf>,
    /// A network namespace that it is in, by its file.
    pub network: Option<PathBuf>,
    pub guest: Option<Guest>,
}

/// One container of a shim.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Contained {
    pub id: String,
    pub part: Part,
    pub rootfs: PathBuf,
    pub own_pid: bool,
    pub own_net: bool,
    /// The network namespace of its pod, where that has a name.
    pub network: Option<PathBuf>,
    /// The bundle, if runc itself is to make it.
    pub runc: Option<PathBuf>,
}

/// What a machine in the machine has.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Guest {
    pub shim: Vec<String>,
    pub groups: Vec<PathBuf>,
    pub overlays: Vec<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behaviour {
    /// Ends at SIGTERM.
    #[default]
    Obedient,
    /// Goes on at SIGTERM.
    Stubborn,
    /// Has a stubborn descendant in a session of its own, whose parent has ended.
    Daemon,
    /// Has a descendant that is stopped.
    Stopped,
    /// Has a descendant that it traces.
    Traced,
    /// Has many descendants that come again when they are killed.
    Bomb,
}

pub fn role() -> Option<Result<()>> {
    let play = std::env::var(PLAY).ok()?;
    let part = std::env::var(PART).ok()?;
    Some(serde_json::from_str(&part).map_err(Into::into).and_then(|part| perform(&play, part)))
}

/// A command that plays a part, looking like `line`.
pub fn command(play: &str, part: &Part, line: &[String]) -> Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    if let Some(first) = line.first() {
        command.arg0(first).args(&line[1..]);
    }
    command.env_clear().env(PLAY, play).env(PART, serde_json::to_string(part)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Environment for a part that somebody else starts.
pub fn environment(play: &str, part: &Part) -> Result<Vec<String>> {
    Ok(vec![format!("{PLAY}={play}"), format!("{PART}={}", serde_json::to_string(part)?)])
}

/// Starts a part and waits until it says that it is ready; its answer is returned.
pub fn start(mut command: Command) -> Result<(Child, String)> {
    let mut child = command.spawn().map_err(|e| format!("cannot start a part: {e}"))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.is_empty() {
        return Err(format!("a part ended before it was ready: {:?}", child.wait()?).into());
    }
    Ok((child, line.trim().to_owned()))
}

fn perform(play: &str, part: Part) -> Result<()> {
    for group in &part.groups {
        let file = group.join("cgroup.procs");
        fs::write(&file, "0").map_err(|e| format!("cannot enter '{}': {e}", group.display()))?;
    }
    match play {
        "shim" => shim(part),
        "launch" => launch(part),
        "contain" => contain(part),
        "guest" => guest(part),
        "in-guest" => in_guest(part),
        _ => be(part),
    }
}

fn ready(answer: &str) -> Result<()> {
    println!("{answer}");
    std::io::stdout().flush()?;
    dup2_stdout(&File::options().write(true).open("/dev/null")?)?;
    Ok(())
}

fn shim(part: Part) -> Result<()> {
    prctl::set_child_subreaper(true)?;
    setsid()?;
    if let Some(directory) = &part.directory {
        chdir(directory)?;
    }
    // Kept open to the end; nobody ever accepts.
    let _socket = part.socket.as_ref().map(UnixListener::bind).transpose()?;
    let mut pids = Vec::new();
    for container in &part.containers {
        pids.push(match &container.runc {
            Some(bundle) => by_runc(container, bundle)?,
            None => by_hand(container)?,
        });
    }
    name(&part.name)?;
    ready(&serde_json::to_string(&pids)?)?;
    loop {
        if wait().is_err() {
            std::thread::sleep(Duration::from_millis(100)); // nobody to collect
        }
    }
}

fn by_hand(container: &Contained) -> Result<i32> {
    let part = Part {
        containers: vec![container.clone()],
        groups: container.part.groups.clone(),
        ..Part::default()
    };
    let (mut launcher, pid) = start(command("launch", &part, &["runc".into(), "init".into()])?)?;
    launcher.wait()?;
    Ok(pid.parse()?)
}

fn by_runc(container: &Contained, bundle: &Path) -> Result<i32> {
    let root = "/run/containerd/runc/k8s.io";
    let file = bundle.join("init.pid");
    // runc's child keeps the descriptors that it is given: so none that anybody waits for.
    let log = File::create("/run/runc.log")?;
    let runc = runtime::runc()?;
    let mut create = Command::new(&runc);
    create
        .args(["--root", root, "create", "--bundle"])
        .arg(bundle)
        .arg("--pid-file")
        .arg(&file)
        .arg(&container.id);
    create.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    create.stdout(Stdio::null()).stderr(log);
    for mut command in [create, {
        let mut begin = Command::new(&runc);
        begin.args(["--root", root, "start", &container.id]).stdout(Stdio::null());
        begin
    }] {
        if !command.status()?.success() {
            let log = fs::read_to_string("/run/runc.log").unwrap_or_default();
            return Err(format!("{command:?} failed: {log}").into());
        }
    }
    let pid: i32 = fs::read_to_string(file)?.trim().parse()?;
    // It has started when it has become our program; its tree is complete when it says so in a file of its own.
    let said = container.rootfs.join("ready");
    for _ in 0..500 {
        if fs::metadata(&said).is_ok_and(|file| file.len() > 0) {
            return Ok(pid);
        }
        std::thread::sleep(Duration::from_millis(10)); // a file in another mount namespace announces nothing
    }
    Err("a container of runc's did not come up".into())
}

fn launch(part: Part) -> Result<()> {
    let container = part.containers.into_iter().next().ok_or("launch: which container?")?;
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    flags.set(CloneFlags::CLONE_NEWPID, container.own_pid);
    flags.set(CloneFlags::CLONE_NEWNET, container.own_net && container.network.is_none());
    if let Some(network) = &container.network {
        setns(File::open(network)?, CloneFlags::CLONE_NEWNET)?;
    }
    unshare(flags)?;
    let inner =
        Part { groups: Vec::new(), directory: Some(container.rootfs.clone()), ..container.part.clone() };
    let (child, _) = start(command("contain", &inner, std::slice::from_ref(&container.part.name))?)?;
    println!("{}", child.id());
    Ok(())
}

fn contain(part: Part) -> Result<()> {
    let root = part.directory.clone().ok_or("contain: no root")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), None::<&str>)?;
    fs::create_dir_all(root.join("dev"))?;
    fs::write(root.join("dev/null"), "")?;
    fs::set_permissions(root.join("dev/null"), fs::Permissions::from_mode(0o666))?;
    chdir(&root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    be(Part { directory: None, ..part })
}

fn guest(part: Part) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET)?;
    let groups = part.guest.as_ref().map(|guest| guest.groups.clone()).unwrap_or_default();
    let inner = Part { groups, ..part };
    let (mut child, answer) = start(command("in-guest", &inner, &["/sbin/init".into()])?)?;
    ready(&answer)?;
    child.wait()?;
    Ok(())
}

fn in_guest(part: Part) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)?;
    // What is mounted outside of the directories below is the machine's: a guest has another root.
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let points = table.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| point.starts_with("/mnt/") || point.starts_with("/srv/")) {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
    for at in ["/var/snap", "/run"] {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    }
    let own = part.guest.clone().ok_or("no guest")?;
    for (snapshot, rootfs) in &own.overlays {
        overlay(snapshot, rootfs)?;
    }
    let shim = Part { guest: None, groups: Vec::new(), ..part };
    let (_shim, answer) = start(command("shim", &shim, &own.shim)?)?;
    ready(&answer)?;
    loop {
        if wait().is_err() {
            std::thread::sleep(Duration::from_millis(100)); // nobody to collect
        }
    }
}

/// Mounts a container's root file system as containerd's snapshotter has it.
pub fn overlay(snapshot: &Path, rootfs: &Path) -> Result<()> {
    let lower = snapshot.with_file_name(format!("{}0", snapshot.file_name().unwrap_or_default().display()));
    for dir in [lower.join("fs/proc"), snapshot.join("fs"), snapshot.join("work"), rootfs.to_path_buf()] {
        fs::create_dir_all(&dir).map_err(|e| format!("cannot make '{}': {e}", dir.display()))?;
    }
    fs::write(lower.join("fs/layer"), "of an image")?;
    fs::write(lower.join("fs/ready"), "")?;
    fs::set_permissions(lower.join("fs/ready"), fs::Permissions::from_mode(0o666))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join("fs").display(),
        snapshot.join("fs").display(),
        snapshot.join("work").display()
    );
    mount(Some("overlay"), rootfs, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|e| format!("cannot mount the overlay at '{}': {e}", rootfs.display()).into())
}
