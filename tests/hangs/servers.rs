//! File servers that do not answer any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::check::Snapshot;
use crate::fuse;
use crate::stage::Stage;
use crate::worlds::COMMON;
use support::Result;

pub fn stop(child: &Child) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGSTOP)?;
    Ok(())
}

/// Starts a server and mounts what it has.
type Serve = fn(&Path) -> Result<Child>;

pub fn file_server(serve: Serve) -> Result<()> {
    let mut stage = Stage::new(&["stacked"])?;
    let at = stage.volume("server");
    let server = serve(&at)?;
    let pid = i32::try_from(server.id())?;
    // A mount below it, which cannot be named without asking the server.
    stage.world.mounts.push(at.clone());
    let before = Snapshot::take(&stage.world)?;
    stop(&server)?;
    let came = stage.run_after_stopped(&before, pid)?;
    came.must(came.verdict.outcome == "clean" || came.tells_of(&["server"]), "clean, or the report names it")
}

pub fn overlay() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let server_at = PathBuf::from("/srv/server");
    let server = fuse::serve(&server_at)?;
    let pid = i32::try_from(server.id())?;
    let at = stage.volume("overlay");
    fs::create_dir_all(&at)?;
    fs::create_dir_all("/srv/over/upper")?;
    fs::create_dir_all("/srv/over/work")?;
    let options = "lowerdir=/srv/server,upperdir=/srv/over/upper,workdir=/srv/over/work";
    mount(Some("overlay"), &at, Some("overlay"), MsFlags::empty(), Some(options))
        .map_err(|e| format!("cannot mount an overlay on the server: {e}"))?;
    stage.world.mounts.push(at);
    // Not to be entered by our own look, either.
    stage.world.hidden.push(server_at);
    stage.world.hidden.push("/srv/over".into());
    let before = Snapshot::take(&stage.world)?;
    stop(&server)?;
    let came = stage.run_after_stopped(&before, pid)?;
    came.must(came.verdict.outcome == "clean" || came.tells_of(&["overlay"]), "clean, or the report names it")
}

/// Mounts that cannot be reached without a server that takes requests and answers none, so that who asks cannot even be
/// killed. They cost the run a moment, not a moment each; and those that are left hanging do not keep a second run out.
pub fn below_silence(serve: Serve, silence: fn(&Child) -> Result<()>) -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let at = stage.volume("server");
    let server = serve(&at)?;
    stage.world.mounts.push(at.clone());
    for n in 0..40 {
        stage.world.tmpfs_once(&at.join(format!("d{n}")))?;
    }
    let mut before = Snapshot::take(&stage.world)?;
    silence(&server)?;
    if fs::exists(fuse::SILENT)? {
        stage.world.hidden.push(fuse::SILENT.into());
    } else {
        before.stopped(i32::try_from(server.id())?);
    }
    let came = stage.run_after(&before)?;
    came.must(
        came.verdict.outcome == "clean" || came.tells_of(&["server"]),
        "clean, or the report names it",
    )?;
    came.must(came.report["out-of-time"] == false, "it costs a moment, not a moment for each mount")?;
    let came = stage.run_after(&before)?;
    came.must(!came.ended.output.contains("another run"), "the first run keeps nobody out")?;
    came.must(came.verdict.outcome == "clean" || came.tells_of(&["server"]), "clean, or the report names it")
}

/// Directories in which the hook has to look, on a server that was stopped.
pub fn roots_on_a_server(serve: Serve, roots: &[&str]) -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let mut servers = Vec::new();
    for root in roots {
        let at = Path::new(COMMON).join(root);
        servers.push(serve(&at)?);
        stage.world.hidden.push(at);
    }
    // What was in them is covered, and nobody's business any more.
    let covered = |path: &PathBuf| roots.iter().any(|root| path.starts_with(Path::new(COMMON).join(root)));
    stage.world.mounts.retain(|mount| !covered(mount));
    stage.world.paths.retain(|path| !covered(path));
    let mut before = Snapshot::take(&stage.world)?;
    for server in &servers {
        stop(server)?;
        before.stopped(i32::try_from(server.id())?);
    }
    let came = stage.run_after(&before)?;
    came.must(
        came.verdict.outcome != "clean" && came.tells_of(&["does not answer"]),
        "it says what is silent",
    )
}

/// A pod's own file server, mounted where its bundle is and then stopped.
pub fn bundle_under_a_server() -> Result<()> {
    let mut stage = Stage::new(&["many-containers"])?;
    let bundles = Path::new(COMMON).join("run/containerd/io.containerd.runtime.v2.task/k8s.io");
    let at = fs::read_dir(&bundles)?.next().ok_or("no bundle")??.path();
    let server = fuse::serve(&at)?;
    let pid = i32::try_from(server.id())?;
    stage.world.mounts.push(at);
    let before = Snapshot::take(&stage.world)?;
    stop(&server)?;
    let came = stage.run_after_stopped(&before, pid)?;
    came.must(came.verdict.outcome == "clean" || came.tells_of(&["does not answer"]), "clean, or it says why")
}

/// Somebody's process in mounts of its own, where its program lies on a server below a path of the snap's: an unprivileged pod may
/// have a volume of NFS there. The path may be read; the file must not be asked for.
pub fn program() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let at = PathBuf::from("/srv/server");
    let server = fuse::serve(&at)?;
    stage.world.hidden.push(at);
    stage.world.hidden.push(fuse::SILENT.into());
    let below = format!("{COMMON}/stranger");
    let script = format!(
        "mount -t tmpfs tmpfs /var/snap && mkdir -p {below} && mount --bind /srv/server {below} && exec {below}/{} 1000",
        fuse::PROGRAM
    );
    let mut stranger = Command::new("unshare").args(["-m", "/bin/sh", "-e", "-c", &script]).spawn()?;
    let exe = PathBuf::from(format!("/proc/{}/exe", stranger.id()));
    let start = std::time::Instant::now();
    while !fs::read_link(&exe)?.starts_with(&below) {
        if start.elapsed() > Duration::from_secs(5) {
            return Err("the program does not start".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = Snapshot::take(&stage.world)?;
    fs::write(fuse::SILENT, "")?;
    let came = stage.run_after(&before);
    stranger.kill()?;
    drop(server);
    let came = came?;
    came.must(came.ended.elapsed < Duration::from_secs(10), "nobody waits for the server")?;
    came.clean()
}

/// A volume on a disk that takes no more writes: the kernel takes the mount out of the table, and waits for the last
/// write in the one who unmounted.
pub fn disk() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let at = stage.volume("disk");
    fs::create_dir_all(&at)?;
    sh("mknod /dev/loop-control c 10 237; for n in $(seq 0 31); do mknod /dev/loop$n b 7 $n; done")?;
    sh("mkdir /srv/below && truncate -s 40M /srv/below.img && mkfs.ext4 -q -F /srv/below.img &&
        mount -o loop /srv/below.img /srv/below &&
        truncate -s 20M /srv/below/disk.img && mkfs.ext4 -q -F /srv/below/disk.img")?;
    sh(&format!("mount -o loop /srv/below/disk.img {0} && echo unwritten >{0}/file", at.display()))?;
    stage.world.mounts.push(at);
    stage.world.hidden.push("/srv/below".into());
    sh("fsfreeze -f /srv/below")?;
    let came = stage.run().and_then(|came| Ok((came, stage.run()?)));
    sh("fsfreeze -u /srv/below")?;
    let (came, again) = came?;
    came.must(came.verdict.outcome == "residue", "it is not called clean")?;
    came.must(came.tells_of(&["detached", "volumes/disk"]), "the report names it")?;
    // The child that hangs is still there.
    again.must(again.ended.elapsed < Duration::from_secs(10), "nobody keeps the lock")?;
    again.must(again.tells_of(&["detached", "volumes/disk"]), "a later run names it, too")
}

fn sh(script: &str) -> Result<()> {
    let status = Command::new("/bin/sh").args(["-e", "-c", script]).status()?;
    if status.success() { Ok(()) } else { Err(format!("'{script}': {status}").into()) }
}
