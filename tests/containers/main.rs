//! The remove hook against real containers: containerd, shims and runc of three Debian releases, in private worlds.
//!
//! Every scene has two tests. Its *cure* runs the hook and demands that an independent look finds nothing of ours and
//! misses nothing of anybody else's; its *control* makes the same scene, runs nothing, and demands that the same look
//! finds everything. None is ever skipped: a test that cannot act fails.

mod ends;
mod patience;
mod scene;
mod scenes;

use std::fs::{self, File};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use scenes::Test;
use support::runtime;
use support::scenes::failed as scenes_failed;
use support::world;
use support::{Result, build_dir};

fn main() -> ExitCode {
    match role() {
        Ok(Some(code)) => return code,
        Ok(None) => {}
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut arguments = Arguments::from_args();
    // A world keeps about one processor busy.
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    arguments.test_threads.get_or_insert(processors.min(4));
    let fetched = if arguments.list { Ok(()) } else { runtime::fetch().map_err(|e| e.to_string()) };
    let trials = scenes::all().into_iter().map(|test| trial(test, fetched.clone())).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Plays the part this process was started for inside a world, if any.
fn role() -> Result<Option<ExitCode>> {
    let Some(body) = world::role()? else { return Ok(None) };
    if body == scene::GUEST {
        return scene::be_a_guest().map(|()| Some(ExitCode::SUCCESS));
    }
    let test = scenes::all().into_iter().find(|test| test.name() == body).ok_or("no such test")?;
    Ok(Some(match test.run() {
        Ok(figures) => {
            println!("acted: {figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }))
}

fn trial(test: Test, fetched: std::result::Result<(), String>) -> Trial {
    let name = test.name();
    let run = move || {
        fetched?;
        outside(&test).map_err(|e| scenes_failed(&test.name(), &e.to_string()))
    };
    Trial::test(name, run)
}

/// Starts the test's world and judges it by its exit status and its last word.
fn outside(test: &Test) -> Result<()> {
    let name = test.name();
    let logs = build_dir()?.join("worlds");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{}.log", name.replace("::", "-")));
    let out = File::create(&log)?;
    let status = world::run(&name, test.cgroups, out.try_clone()?.into(), out.into())?.status;
    let text = fs::read_to_string(&log)?;
    match text.lines().rev().find_map(|line| line.strip_prefix("acted: ")) {
        Some(figures) if status.success() => {
            eprintln!("{name}: {figures}");
            Ok(())
        }
        _ => Err(format!("{status}\n{text}").into()),
    }
}
