//! The user's own scripts: a directory that the profile names, run before anything else is touched.
//!
//! They run as we do, so only what nobody but root can change is run, and none may keep the teardown waiting:
//! however a script ends, the run goes on and the report says how.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::linux::child::{self, ProgramEnd};
use crate::order;
use crate::remove::live::Live;
use crate::report::script::{End, Script};
use crate::text;

/// How long one script may take.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// All of them get this part of the time until the deadline at most: the teardown needs the rest.
const SHARE: u32 = 3;

/// Runs the executable files of a directory, by name. A directory that is not there has none.
pub fn run(live: &Live, directory: &Path, deadline: Instant) -> Vec<Script> {
    let all_until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / SHARE;
    let mut names = match trusted(live, directory, true).and_then(|()| live.host.list(directory)) {
        Ok(names) => names,
        Err(e) if e.is_gone() => return Vec::new(),
        Err(e) => return vec![not_run(text::show(directory).into(), e)],
    };
    order::sort(&mut names);
    let mut scripts = Vec::new();
    for name in names {
        if live.interrupts.seen() {
            break;
        }
        if let Some(script) = run_one(live, &directory.join(&name), all_until) {
            log::info!("script {script}");
            scripts.push(script);
        }
    }
    scripts
}

/// Nothing for what is not meant to be run: a directory, a file that is not executable.
fn run_one(live: &Live, file: &Path, all_until: Instant) -> Option<Script> {
    let name = text::escape(file.file_name()?.as_encoded_bytes()).into_owned();
    let metadata = fs::symlink_metadata(file).ok()?;
    if !metadata.is_symlink() && (!metadata.is_file() || metadata.mode() & 0o111 == 0) {
        return None;
    }
    if let Err(e) = trusted(live, file, false) {
        return Some(not_run(name, e));
    }
    let started = Instant::now();
    if started >= all_until {
        return Some(not_run(name, "the scripts before it took all the time that scripts may take"));
    }
    let end = match child::run(file, &[], &environment(), false, all_until.min(started + SCRIPT_TIMEOUT)) {
        Ok((ProgramEnd::TookTooLong, _)) => End::TookTooLong,
        Ok((ProgramEnd::Exited(status), _)) => match status.code() {
            Some(status) => End::Exited(status),
            None => End::Killed(status.signal().unwrap_or(0)),
        },
        Err(e) => End::NotRun(e.to_string()),
    };
    Some(Script { name, elapsed_ms: started.elapsed().as_millis().try_into().unwrap_or(u64::MAX), end })
}

fn not_run(name: String, why: impl ToString) -> Script {
    Script { name, elapsed_ms: 0, end: End::NotRun(why.to_string()) }
}

/// What others than root can change is not for root to run.
fn trusted(live: &Live, path: &Path, directory: bool) -> Result<()> {
    let metadata = live.host.stat(path)?;
    let kind = if directory { metadata.is_dir() } else { metadata.is_file() };
    let ours = metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if kind && ours {
        return Ok(());
    }
    let reason = "it is a symlink, or others than root can change it".into();
    Err(Error::Malformed { path: path.to_path_buf(), reason })
}

/// What snapd gives a hook; nothing else of ours.
fn environment() -> Vec<(&'static str, OsString)> {
    const KEYS: [&str; 14] = [
        "SNAP",
        "SNAP_COMMON",
        "SNAP_DATA",
        "SNAP_NAME",
        "SNAP_INSTANCE_NAME",
        "SNAP_INSTANCE_KEY",
        "SNAP_REVISION",
        "SNAP_VERSION",
        "SNAP_ARCH",
        "SNAP_COOKIE",
        "SNAP_CONTEXT",
        "HOME",
        "TMPDIR",
        "PATH",
    ];
    KEYS.into_iter().filter_map(|key| Some((key, std::env::var_os(key)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(directory: &Path, name: &str, mode: u32, text: &str) {
        let file = directory.join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn run_all(directory: &Path, seconds: u64) -> Vec<Script> {
        let live = crate::fixture::live();
        run(&live, directory, Instant::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn runs_what_is_executable_in_order_and_survives_how_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let marker = dir.path().join("marker");
        script(dir.path(), "10-fine", 0o755, &format!("echo fine >> {}", marker.display()));
        script(dir.path(), "20-fails", 0o700, &format!("echo fails >> {}; exit 7", marker.display()));
        script(dir.path(), "30-dies", 0o700, "kill -9 $$");
        script(dir.path(), "40-not-executable", 0o644, "exit 1");
        script(dir.path(), "50-writable", 0o777, "exit 1");
        std::os::unix::fs::symlink("10-fine", dir.path().join("60-link")).unwrap();
        fs::create_dir(dir.path().join("70-directory")).unwrap();
        let ends: Vec<_> = run_all(dir.path(), 60).into_iter().map(|s| (s.name, s.end)).collect();
        let of = |name: &str| ends.iter().find(|(n, _)| n == name).map(|(_, end)| end.clone());
        assert_eq!(of("10-fine"), Some(End::Exited(0)));
        assert_eq!(of("20-fails"), Some(End::Exited(7)));
        assert_eq!(of("30-dies"), Some(End::Killed(9)));
        assert!(matches!(of("50-writable"), Some(End::NotRun(_))));
        assert!(matches!(of("60-link"), Some(End::NotRun(_))));
        assert_eq!(ends.len(), 5, "{ends:?}");
        assert_eq!(fs::read_to_string(marker).unwrap(), "fine\nfails\n");
    }

    #[test]
    fn one_that_hangs_is_ended_with_its_children_and_the_rest_is_said_not_to_have_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let pid = dir.path().join("pid");
        script(dir.path(), "10-hangs", 0o755, &format!("sleep 600 & echo $! > {}; wait", pid.display()));
        script(dir.path(), "20-late", 0o755, "exit 0");
        let scripts = run_all(dir.path(), 3);
        assert_eq!(scripts[0].end, End::TookTooLong);
        assert!(matches!(scripts[1].end, End::NotRun(_)), "{scripts:?}");
        let child: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        // Killed already; it may take the kernel a moment, and init another, to let go of it.
        let until = Instant::now() + Duration::from_secs(5);
        while crate::linux::proc::identity(child).is_some() && Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(crate::linux::proc::identity(child), None);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        script(dir.path(), "10", 0o755, "exit 0");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let scripts = run_all(dir.path(), 60);
        assert!(matches!(&scripts[..], [Script { end: End::NotRun(_), .. }]), "{scripts:?}");
        assert!(run_all(&dir.path().join("none"), 60).is_empty());
    }
}
