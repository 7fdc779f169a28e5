//! The remove hook against real links, network namespaces, firewall rules and loop devices, in private worlds, beside
//! somebody else's.
//!
//! Nobody's containers run here (tests/containers has those): a sandbox is its bundle, its network namespace, and what
//! CNI's plugins would have made for it. Each scene first looks at the others' world, then adds ours, demands that the
//! look has changed in every part (the control), runs the hook, and demands that the look is the first one again.

mod scenes;
#[path = "../support/mod.rs"]
mod support;

use std::process::{ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use support::world::{self, Cgroups};

fn main() -> ExitCode {
    match world::role() {
        Ok(None) => {}
        Ok(Some(body)) => return play(&body),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let trial = |(name, _): &(&'static str, scenes::Scene)| {
        let name = *name;
        Trial::test(name, move || outside(name).map_err(Into::into))
    };
    libtest_mimic::run(&arguments, scenes::ALL.iter().map(trial).collect()).exit_code()
}

/// Inside a world.
fn play(body: &str) -> ExitCode {
    let scene = scenes::ALL.iter().find(|(name, _)| *name == body);
    let played = scene.map(|(_, scene)| scene()).unwrap_or_else(|| Err("no such scene".into()));
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn outside(name: &str) -> Result<(), String> {
    let ended =
        world::run(name, Cgroups::V2, Stdio::inherit(), Stdio::inherit()).map_err(|e| e.to_string())?;
    if ended.status.success() { Ok(()) } else { Err(format!("the scene ended with {}", ended.status)) }
}
