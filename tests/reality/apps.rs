//! Apps of the snap that somebody has started (`snap run`): systemd puts each into a scope of its own. snapd ends none of them
//! before the hook, and after it only where `--terminate` asks for that.
//!
//! RIGHT: what root's app has left behind, with nobody who waits for it, is ended, status 0. What somebody may still use is
//! named with the command that ends it, status 3, and so is a user's app; both live on. A scope that only a user calls so, and
//! in which nothing of the snap runs, is nothing. The scope in which the hook itself runs, or who has started it, is never told.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::in_group;
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("what_an_app_has_left_behind_ends", || left_behind(&format!("system.slice/{UNIT}"))),
    ("what_an_app_has_left_behind_ends_hybrid", || left_behind(&format!("system.slice/{UNIT}"))),
    ("what_an_app_of_roots_session_has_left_behind_ends", || left_behind(&format!("{ROOTS}/{UNIT}"))),
    ("an_app_that_somebody_waits_for_is_told", waited_for),
    ("an_app_with_a_terminal_is_told", with_terminal),
    ("a_users_app_is_told", || users(true)),
    ("a_scope_that_only_a_user_calls_so_is_nothing", || users(false)),
    ("the_app_that_has_started_the_hook_goes_on", ancestor),
];

const UNIT: &str = "snap.microk8s.kubectl-0c1d2e3f-1111-4222-8333-444444444444.scope";
const ROOTS: &str = "user.slice/user-0.slice/user@0.service/app.slice";
const USERS: &str = "user.slice/user-1000.slice/user@1000.service/app.slice";
const PROGRAM: &str = "/snap/microk8s/1/kubectl";

/// The app's program is there as the snap is, and the scopes' slices are the machine's.
fn stage() -> Result<Stage> {
    let stage = Stage::beside("1.7", || {
        for root in [ROOTS, USERS] {
            in_group(root, "true")?.status()?;
        }
        Ok(Vec::new())
    })?;
    fs::copy("/bin/sleep", PROGRAM)?;
    Ok(stage)
}

fn left_behind(scope: &str) -> Result<()> {
    let mut stage = stage()?;
    let mut app = in_group(scope, "/bin/sh")?;
    app.args(["-c", &format!("setsid {PROGRAM} 600 </dev/null >/dev/null 2>&1 &")]).status()?;
    stage.must_show(&[(Kind::Process, 1)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// Its shell waits for it.
fn waited_for() -> Result<()> {
    let mut stage = stage()?;
    let scope = format!("system.slice/{UNIT}");
    let groups = format!("find /sys/fs/cgroup -path \"*/{scope}/cgroup.procs\"");
    let line = format!(
        "read go </tmp/go; sh -c 'for g in $({groups}); do echo 0 >$g; done; exec {PROGRAM} 600' & wait"
    );
    stage.also(|_| sh("mkfifo /tmp/go"))?;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]);
    let earlier = stage.keep(shell)?;
    stage.shared(|thing| thing.name.starts_with(&format!("process {earlier} ")))?;
    in_group(&scope, "true")?.status()?;
    sh("echo go >/tmp/go")?;
    told(&mut stage)
}

/// Nobody is above it, and it has a terminal: somebody's multiplexer may have started there.
fn with_terminal() -> Result<()> {
    let mut stage = stage()?;
    let program = format!(
        "import fcntl, os, pty, termios\nif os.fork() > 0: os._exit(0)\nos.setsid()\nmaster, slave = pty.openpty()\n\
         fcntl.ioctl(slave, termios.TIOCSCTTY, 0)\nos.set_inheritable(master, True)\nos.execv('{PROGRAM}', ['kubectl', '600'])"
    );
    let mut app = in_group(&format!("system.slice/{UNIT}"), "/usr/bin/python3")?;
    app.args(["-c", &program]).status()?;
    told(&mut stage)
}

fn told(stage: &mut Stage) -> Result<()> {
    sleep(Duration::from_millis(300));
    stage.must_show(&[(Kind::Process, 1)])?;
    let app: fn(&Thing) -> bool = |thing| matches!(thing.kind, Kind::Process | Kind::Cgroup);
    let report = stage.judge(&Right::Told(app, &[3]), 0)?;
    let blind = report["steps"][1]["blind"].to_string();
    demand(blind.contains("'kill "), format!("no command ends it: {blind}"))
}

/// A user may call a scope as he likes.
fn users(the_snaps: bool) -> Result<()> {
    let mut stage = stage()?;
    let mut app = in_group(&format!("{USERS}/{UNIT}"), "setpriv")?;
    let program = if the_snaps { PROGRAM } else { "/bin/sleep" };
    app.args(["--reuid=1000", "--regid=1000", "--clear-groups", program, "600"]);
    if the_snaps {
        stage.keep(app)?;
        return told(&mut stage);
    }
    let pid = stage.keep(app)?;
    sleep(Duration::from_millis(300));
    stage.shared(|thing| matches!(thing.kind, Kind::Process | Kind::Cgroup))?;
    stage.judge(&Right::Clean, 0)?;
    demand(fs::exists(format!("/proc/{pid}"))?, "the user's program was ended")
}

/// An app of the snap runs the hook, and nobody waits for it.
fn ancestor() -> Result<()> {
    let stage = stage()?;
    let hook = stage.snap.dir.join("meta/hooks/remove");
    let script = format!("setsid sh -c '{}; echo $? >/tmp/ended' >/tmp/said 2>&1 &", hook.display());
    let mut app = in_group(&format!("system.slice/{UNIT}"), "/bin/sh")?;
    app.args(["-c", &script]).env_clear().envs(stage.snap.environment()).status()?;
    let said = || fs::read_to_string("/tmp/said").unwrap_or_default();
    for _ in 0..300 {
        if fs::exists("/tmp/ended")? {
            let status = fs::read_to_string("/tmp/ended")?;
            let whole = status.trim() == "0" && said().contains(": clean: ");
            return demand(whole, format!("the hook ended with {status}: {}", said()));
        }
        sleep(Duration::from_millis(100));
    }
    Err(format!("who has started the hook was ended: {}", said()).into())
}
