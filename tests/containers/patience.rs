//! Applications that need their time, or ignore that it is over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::scene::Scene;
use support::Result;
use support::hook::{WITHOUT_KILL, WITHOUT_PIDFDS};
use support::runtime::SLOW_KILLS;

/// Seconds that applications of the stubborn scenes are given.
const GRACE: u64 = 3;

pub fn stubborn(scene: &mut Scene, count: usize) -> Result<()> {
    scene.snap.ship_patience(GRACE, 60)?;
    scene.pods("stubborn", count, &["/app", "stubborn"])?;
    scene.stop()
}

const MARKERS: &str = "/srv/markers";

/// Applications that end well only if they are given two seconds, and say so in a file outside.
fn make_slow(scene: &mut Scene, user: &str) -> Result<()> {
    let mount = format!("{MARKERS}/{{uid}}:/markers");
    let options = ["--count", "3", "--mount", &mount, "--run-as", user];
    scene.make_pods("slow", &options, &["/app", "slow", "/markers/done"])?;
    for pod in &scene.pods {
        fs::set_permissions(Path::new(MARKERS).join(&pod.uid), fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

pub fn slow(scene: &mut Scene) -> Result<()> {
    make_slow(scene, "0")?;
    scene.stop()
}

/// Applications of another user, whom a hook that may not signal them asks to stop through shims that take their time.
pub fn slow_shims(scene: &mut Scene) -> Result<()> {
    make_slow(scene, "65535")?;
    fs::write(SLOW_KILLS, "")?;
    scene.stop()
}

/// A shim drops what it was asked for when the asker hangs up, so the hook must not.
pub fn by_slow_shims(scene: &mut Scene) -> Result<String> {
    let ended = scene.snap.start_hook_by(&WITHOUT_KILL)?.end()?;
    let figures = scene.judge(&ended)?;
    they_had_their_time(scene)?;
    let refused = scene.snap.document()?["abilities"]["signal-application"]["refused"] == "EPERM";
    if refused { Ok(figures) } else { Err("the hook's own signals were not refused".into()) }
}

fn they_had_their_time(scene: &Scene) -> Result<()> {
    for pod in &scene.pods {
        let marker = Path::new(MARKERS).join(&pod.uid).join("done");
        fs::read(&marker).map_err(|e| format!("no time to stop cleanly: '{}': {e}", marker.display()))?;
    }
    Ok(())
}

pub fn paused(scene: &mut Scene) -> Result<()> {
    make_slow(scene, "0")?;
    let ids: Vec<_> = scene.pods.iter().map(|pod| pod.containers[0].id.clone()).collect();
    for id in ids {
        scene.runtime()?.ctr(&["-n", "k8s.io", "tasks", "pause", &id])?;
    }
    scene.stop()
}

/// All of them had their two seconds, together and not one after the other.
pub fn in_their_time(scene: &mut Scene) -> Result<String> {
    in_their_time_by(scene, &[])
}

/// What cannot be waited for is looked at until it has ended.
pub fn without_pidfds(scene: &mut Scene) -> Result<String> {
    in_their_time_by(scene, &WITHOUT_PIDFDS)
}

fn in_their_time_by(scene: &mut Scene, wrapper: &[&str]) -> Result<String> {
    let ended = scene.snap.start_hook_by(wrapper)?.end()?;
    let figures = scene.judge(&ended)?;
    they_had_their_time(scene)?;
    // Three applications of two seconds each, and whatever the machine needs; one after another they take six.
    if ended.elapsed >= Duration::from_millis(5500) {
        return Err(format!("the hook took {:?} for what ends in two seconds", ended.elapsed).into());
    }
    Ok(figures)
}

/// However many applications ignore SIGTERM, they cost one grace.
pub fn one_grace(scene: &mut Scene) -> Result<String> {
    let one = scene.snap.run_hook()?;
    scene.judge(&one)?;
    fs::remove_file(scene.snap.result_file())?;
    scene.forget()?;
    stubborn(scene, 6)?;
    let six = scene.snap.run_hook()?;
    scene.judge(&six)?;
    if one.elapsed < Duration::from_secs(GRACE) || six.elapsed > one.elapsed.mul_f32(1.5) {
        return Err(format!("one took {:?}, six took {:?}", one.elapsed, six.elapsed).into());
    }
    Ok(format!("1 stubborn pod: {} ms, 6: {} ms", one.elapsed.as_millis(), six.elapsed.as_millis()))
}
