//! What does not answer, and what ends us half-way: file servers, shims, snapd, the journal, a full disk, signals.
//!
//! The deadline holds to within a few seconds, the report says what was abandoned, and a second run ends clean.

#[path = "../torture/actor.rs"]
mod actor;
#[path = "../torture/check.rs"]
mod check;
#[path = "../torture/dice.rs"]
mod dice;
mod fuse;
mod scenes;
#[path = "../support/mod.rs"]
mod support;
#[path = "../torture/worlds.rs"]
mod worlds;

use std::fs::{self, File};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use support::world::{self, Cgroups};
use support::{Result, build_dir};

fn main() -> ExitCode {
    let played = fuse::role().or_else(actor::in_between).or_else(actor::role);
    let result = match played {
        Some(result) => result.map(|()| ExitCode::SUCCESS),
        None => run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    if let Some(body) = world::role()? {
        let (_, scene) = scenes::ALL.iter().find(|(name, _)| *name == body).ok_or("no such scene")?;
        scene()?;
        println!("acted");
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let trials = scenes::ALL.iter().map(|(name, _)| Trial::test(*name, move || outside(name))).collect();
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn outside(name: &str) -> std::result::Result<(), Failed> {
    in_a_world(name).map_err(|e| Failed::from(e.to_string()))
}

fn in_a_world(name: &str) -> Result<()> {
    let logs = build_dir()?.join("worlds");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("hang-{name}"));
    let errors = File::create(log.with_extension("err"))?;
    let status = world::run(name, Cgroups::V2, File::create(&log)?.into(), errors.into())?.status;
    let text = fs::read_to_string(&log)?;
    if status.success() && text.lines().last() == Some("acted") {
        print!("{}", text.trim_end_matches("acted\n"));
        return Ok(());
    }
    let complaints = fs::read_to_string(log.with_extension("err"))?;
    Err(format!("{status}: {}\n{text}", complaints.trim()).into())
}
