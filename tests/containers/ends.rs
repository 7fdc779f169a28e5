//! Hooks that run twice, and hooks that are ended before they have finished.

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::{Scene, outcome};
use crate::scenes::{await_that, ended};
use support::Result;

pub fn twice(scene: &mut Scene) -> Result<String> {
    let first = scene.must_be_torn_down()?;
    fs::remove_file(scene.snap.result_file())?;
    scene.must_be_torn_down()?;
    Ok(first)
}

/// snapd kills a hook that takes too long: at once, and without a word.
pub fn killed_in_the_middle(scene: &mut Scene) -> Result<String> {
    let first = scene.pods[0].containers[0].pid;
    let mut hook = scene.snap.start_hook()?;
    await_that("the first pod's process has ended", || Ok(ended(first) || !hook.is_running()?))?;
    hook.child.kill()?;
    let killed = hook.end()?;
    if killed.status.is_some() {
        return Err(format!("the hook had ended before it could be killed: {}", killed.output).into());
    }
    if scene.nothing_left().is_ok() {
        return Err("the hook was killed too late: nothing is left for the second run".into());
    }
    let document = scene.snap.document().map_err(|e| format!("a killed hook leaves its survey: {e}"))?;
    if document["outcome"] == "clean" {
        return Err(format!("a killed hook calls itself clean: {document}").into());
    }
    scene.must_be_torn_down()
}

/// Told to stop, the hook reports what is left, and says that it was interrupted.
pub fn interrupted(scene: &mut Scene) -> Result<String> {
    let mut hook = scene.snap.start_hook()?;
    let survey = scene.snap.result_file();
    await_that("the survey is written", || Ok(survey.exists() || !hook.is_running()?))?;
    let pid = Pid::from_raw(i32::try_from(hook.child.id())?);
    let asked = Instant::now();
    kill(pid, Signal::SIGTERM)?;
    let ended = hook.end()?;
    if ended.status != Some(1) {
        return Err(format!("an interrupted hook's status is {:?}: {}", ended.status, ended.output).into());
    }
    outcome(&scene.snap.document()?, "interrupted")?;
    outcome(&ended.cut_document()?, "interrupted")?;
    let after = asked.elapsed();
    let again = scene.must_be_torn_down()?;
    Ok(format!("interrupted in {} ms; then {again}", after.as_millis()))
}
