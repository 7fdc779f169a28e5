//! The scenes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dice::Dice;
use crate::stage::{Came, Stage};
use crate::{fuse, large, nfs};
use crate::{servers, surroundings};
use support::Result;
use support::hook;
use support::scenes::Scene;
use support::world::mount_new;

pub const ALL: &[Scene] = &[
    ("a_file_server_that_was_stopped", || servers::file_server(fuse::serve)),
    ("an_overlay_on_a_file_server_that_was_stopped", servers::overlay),
    ("a_volume_whose_disk_does_not_answer", servers::disk),
    ("mounts_below_a_server_that_never_answers", || {
        servers::below_silence(fuse::serve, |_| Ok(fs::write(fuse::SILENT, "")?))
    }),
    ("an_nfs_server_that_was_stopped", || servers::file_server(nfs::serve)),
    ("a_root_on_an_nfs_server_that_was_stopped", || {
        servers::roots_on_a_server(nfs::serve, &["var/lib/kubelet"])
    }),
    ("a_root_on_a_server_that_was_stopped", || servers::roots_on_a_server(fuse::serve, &["var/lib/kubelet"])),
    ("all_roots_on_servers_that_were_stopped", || {
        servers::roots_on_a_server(fuse::serve, &["var/lib/kubelet", "var/lib/containerd", "run/containerd"])
    }),
    ("sockets_on_a_server_that_was_stopped", || servers::roots_on_a_server(fuse::serve, &["run"])),
    ("a_bundle_under_a_server_that_was_stopped", servers::bundle_under_a_server),
    ("what_the_hook_inherits", surroundings::inherited),
    ("a_hook_in_a_container_of_ours", surroundings::in_a_container),
    ("pods_frozen_above_their_containers", surroundings::frozen_above),
    ("a_file_that_cannot_be_deleted", surroundings::immutable_file),
    ("a_process_that_left_its_groups", surroundings::escaped),
    ("a_process_that_cannot_be_killed", unkillable),
    ("a_program_of_a_stranger_on_a_server_that_never_answers", servers::program),
    ("frozen_containers", frozen),
    ("shims_that_never_answer", silent_shims),
    ("shims_with_a_full_backlog", full_backlog),
    ("snapctl_that_never_returns", silent_snapctl),
    ("a_journal_that_nobody_reads", silent_journal),
    ("a_full_disk_under_the_result", full_disk),
    ("a_read_only_place_for_the_result", read_only),
    ("killed_at_any_moment", || swept(Signal::SIGKILL)),
    ("terminated_at_any_moment", || swept(Signal::SIGTERM)),
    ("interrupted_at_any_moment", || swept(Signal::SIGINT)),
    ("many_processes_and_mounts_in_little_memory", large::many_of_one_pod),
    ("five_thousand_pods_in_little_memory", large::five_thousand_pods),
];

/// A container's process that waits in the kernel for an answer that does not come.
fn unkillable() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let at = PathBuf::from("/srv/server");
    let _server = fuse::serve(&at)?;
    stage.world.hidden.push(at.clone());
    stage.world.hidden.push(fuse::SILENT.into());
    fs::write(fuse::SILENT, "")?;
    let groups = [stage.world.leaves.last().ok_or("no container")?.clone()];
    let mut stat = Command::new("/bin/sh");
    stat.args(["-c", "echo 0 >\"$1\"; exec /usr/bin/stat -f /srv/server", "sh"])
        .arg(groups[0].join("cgroup.procs"));
    let child = stat.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let pid = child.id();
    // It hangs once it sleeps in the request.
    let start = Instant::now();
    while !fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default().contains("request_wait") {
        if start.elapsed() > Duration::from_secs(5) {
            let wchan = fs::read_to_string(format!("/proc/{pid}/wchan"));
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            return Err(format!("it does not hang: {wchan:?} {stat:?}").into());
        }
        std::thread::sleep(Duration::from_millis(10)); // no event tells
    }
    let came = stage.run()?;
    let pid = pid.to_string();
    came.must(came.verdict.outcome == "residue" && came.tells_of(&[&pid]), "the report names the process")?;
    came.must(came.tells_of(&["reboot"]), "it says that only a reboot helps")?;
    came.must(all_go_on(), "no shim stays stopped")?;
    came.must(stage.snap.common.join("var/lib/containerd").exists(), "data stays while something runs")
}

fn frozen() -> Result<()> {
    let mut stage = Stage::new(&["paused", "many-containers", "stubborn"])?;
    for leaf in stage.world.leaves.clone() {
        fs::write(leaf.join("cgroup.freeze"), "1")?;
    }
    let came = stage.run()?;
    came.clean()
}

/// A hook that may not signal other users' processes, so that it has to ask the shims.
fn without_signals(stage: &mut Stage) {
    stage.wrapper = hook::WITHOUT_KILL.map(str::to_owned).to_vec();
}

fn silent_shims() -> Result<()> {
    let mut stage = Stage::new(&["many-containers", "non-root", "stubborn"])?;
    without_signals(&mut stage);
    let came = stage.run()?;
    came.must(
        came.tells_of(&[]) && came.report["abilities"].to_string().contains("refused"),
        "signals were refused",
    )?;
    came.clean()
}

fn full_backlog() -> Result<()> {
    // In this network namespace: short queues, for which no more files must be open than any machine allows.
    fs::write("/proc/sys/net/core/somaxconn", "128")?;
    let mut stage = Stage::new(&["many-containers", "non-root", "stubborn"])?;
    without_signals(&mut stage);
    let mut held = Vec::new();
    for entry in fs::read_dir("/run/containerd/s")? {
        let path = entry?.path();
        // The first that would have to wait ends it: the queue is full.
        while let Ok(stream) = connect_now(&path) {
            held.push(stream);
        }
    }
    if held.len() < 100 {
        return Err(format!("{} connections do not fill a queue", held.len()).into());
    }
    let came = stage.run()?;
    came.clean()
}

fn connect_now(path: &Path) -> Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

fn silent_snapctl() -> Result<()> {
    let mut stage = Stage::new(&["containerd-alive"])?;
    // The programs' directory is shown read-only: one more layer over it.
    for dir in ["/opt/bin/upper", "/opt/bin/work"] {
        fs::create_dir_all(dir)?;
    }
    fs::write("/opt/bin/upper/snapctl", "#!/bin/sh\nexec sleep 1000\n")?;
    fs::set_permissions("/opt/bin/upper/snapctl", fs::Permissions::from_mode(0o755))?;
    let options = "lowerdir=/usr/bin,upperdir=/opt/bin/upper,workdir=/opt/bin/work";
    mount(Some("overlay"), "/usr/bin", Some("overlay"), MsFlags::empty(), Some(options))?;
    stage.environment.push(("SNAP_COOKIE".into(), "cookie".into()));
    let came = stage.run()?;
    came.clean()
}

fn silent_journal() -> Result<()> {
    let mut stage = Stage::new(&["bind-outside"])?;
    let journal = UnixDatagram::bind("/dev/log")?;
    let filler = UnixDatagram::unbound()?;
    filler.set_nonblocking(true)?;
    let mut sent = 0;
    while filler.send_to(b"nobody reads this", "/dev/log").is_ok() {
        sent += 1;
    }
    let came = stage.run()?;
    drop(journal);
    came.must(sent > 0 && came.ended.elapsed < Duration::from_secs(8), "it does not wait for the journal")?;
    came.clean()
}

fn full_disk() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    result_on(&mut stage, "size=4k", MsFlags::empty())?;
    fs::write("/run/snap.microk8s/filler", vec![b'x'; 4096]).ok();
    fs::set_permissions("/run/snap.microk8s", fs::Permissions::from_mode(0o755))?;
    let came = stage.run()?;
    told_elsewhere(&stage, &came)
}

fn read_only() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    result_on(&mut stage, "size=4k", MsFlags::MS_RDONLY)?;
    let came = stage.run()?;
    told_elsewhere(&stage, &came)
}

fn result_on(stage: &mut Stage, options: &str, flags: MsFlags) -> Result<()> {
    fs::create_dir_all("/run/snap.microk8s")?;
    mount_new("tmpfs", Path::new("/run/snap.microk8s"), flags, options)?;
    stage.world.hidden.push("/run/snap.microk8s".into());
    Ok(())
}

fn told_elsewhere(stage: &Stage, came: &Came) -> Result<()> {
    let there = stage.snap.common.join("teardown.json");
    came.must(there.exists(), "the document is in the snap's directory")?;
    came.must(!stage.snap.result_file().exists(), "no half document is where it belongs")?;
    came.must(came.ended.cut_document()?["file"].as_str() == there.to_str(), "it says where")?;
    came.clean()
}

/// False if a process stays stopped; one that may go on has a moment to do so.
fn all_go_on() -> bool {
    let state = |stat: String| stat.rsplit_once(") ").map(|(_, fields)| fields.starts_with('T'));
    let stopped = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok().and_then(state);
    let any = || fs::read_dir("/proc").into_iter().flatten().flatten().any(|e| stopped(e) == Some(true));
    let start = Instant::now();
    while any() {
        if start.elapsed() > Duration::from_secs(1) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10)); // no event tells
    }
    true
}

/// Ends the hook later and later in its course, each time with new pods, until it ends by itself.
fn swept(signal: Signal) -> Result<()> {
    const STEP: Duration = Duration::from_millis(40);
    let mut stage = Stage::new(&["stubborn", "stacked"])?;
    let mut dice = Dice::new(signal as u64);
    let (mut kills, mut outcomes) = (0, BTreeSet::new());
    let mut delay = Duration::ZERO;
    loop {
        let (mut child, pipe) = stage.start()?;
        std::thread::sleep(delay); // the moment is the question
        let ended_before = child.try_wait()?.is_some();
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        if !ended_before {
            kill(pid, signal)?;
            kills += 1;
        }
        let mut output = String::new();
        fs::File::from(pipe).read_to_string(&mut output)?;
        child.wait()?;
        // Nothing, a complete old document, or a complete new one: never a part of one.
        if let Some(document) = stage.document() {
            let document = document.map_err(|e| format!("after {delay:?}: {e}"))?;
            outcomes.insert(format!(
                "{}{}",
                document["outcome"].as_str().unwrap_or("?"),
                if document["complete"] == true { "" } else { " (survey)" }
            ));
        }
        if ended_before {
            break;
        }
        delay += STEP;
        if delay > Duration::from_secs(4) {
            return Err("the hook never ended by itself".into());
        }
        // Always something to do, never more than the hook can do in the time.
        stage.world.collect();
        if stage.world.pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).count() < 2 {
            stage.world.pod(&mut dice)?;
        }
    }
    stage.world.collect();
    // The rerun: all that was begun is finished, nothing is frozen, no file of a half-written document is left.
    let came = stage.run()?;
    came.clean()?;
    let names: Vec<_> = fs::read_dir("/run/snap.microk8s")?.flatten().map(|e| e.file_name()).collect();
    let half: Vec<_> = names.iter().filter(|n| n.to_string_lossy().starts_with(".teardown.json")).collect();
    came.must(half.is_empty(), "no half-written file is left")?;
    println!("{kills} times {signal}, documents: {outcomes:?}");
    came.must(kills >= 10, "it was ended at ten moments at least")
}
