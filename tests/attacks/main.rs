//! The remove hook against forged evidence and hostile users, beside real bystanders, in private worlds.
//!
//! Every attack is one function and one row of a table (`harm`, `lies`, `denial`, `lesser`; `kinds`, `ties` and `hidden` for what security.md does not list). It sets up bystanders
//! (`bystanders.rs`), a pod of ours with everything that pods leave, and lets an attacker (`attackers.rs`) do his worst:
//!
//! * **A**, a container that can write below $SNAP_COMMON;
//! * **B**, a local user without privilege, uid 1000 for real;
//! * **C**, another snap or runtime whose names collide;
//! * **D**, the packager of a profile.
//!
//! Then the hook runs (`trial.rs`), and `judge.rs` holds the rules that are the same for all: every bystander is alive and whole, what is
//! proven ours is gone, status and report are true, the deadline holds, memory and result are bounded. To add an attack, add a
//! function and a row; to add a rule, add a complaint in `judge.rs`.

mod attackers;
mod bystanders;
mod denial;
mod harm;
mod hidden;
mod judge;
mod kinds;
mod lesser;
mod lies;
mod measure;
mod podman;
mod ties;
mod trial;

use std::fs::{self, File};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;

use support::open::Open;
use support::world::{self, Cgroups};
use support::{Result, build_dir, runtime};
use trial::{Attack, Trial};

/// Seconds a world may take: the slowest waits for two deadlines on a busy machine.
const LIMIT: u32 = 240;

const TABLES: [&[Attack]; 7] =
    [harm::ALL, lies::ALL, denial::ALL, lesser::ALL, kinds::ALL, ties::ALL, hidden::ALL];

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    if let Some(code) = measure::role()? {
        return Ok(code);
    }
    if let Some(body) = world::role()? {
        let name = body.split("::").next().unwrap_or_default();
        let attack = TABLES.iter().copied().flatten().find(|attack| attack.name == name);
        (attack.ok_or("no such attack")?.run)(&mut Trial::new()?)?;
        println!("acted: no complaint");
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    if !arguments.list {
        fetch()?;
    }
    let both = [("v2", Cgroups::V2), ("hybrid", Cgroups::Hybrid)];
    let each =
        TABLES.iter().copied().flatten().flat_map(|attack| both.map(|(word, groups)| (attack, word, groups)));
    let all: Vec<_> = each
        .map(|(attack, word, groups)| (format!("{}::{word}", attack.name), attack.kind(), groups))
        .collect();
    let names: Vec<_> = all.iter().map(|(name, _, _)| name.as_str()).collect();
    let open = Arc::new(Open::of("attacks", &names)?);
    let test = |(name, kind, cgroups): &(String, String, Cgroups)| {
        let (body, cgroups) = (name.clone(), *cgroups);
        // Both take ten minutes; the second time only if asked for (tests/run --all).
        open.trial(name, kind, move || outside(&body, cgroups)).with_ignored_flag(cgroups == Cgroups::Hybrid)
    };
    Ok(libtest_mimic::run(&arguments, all.iter().map(test).collect()).exit_code())
}

/// The runtimes, and podman as a bystander.
fn fetch() -> Result<()> {
    runtime::fetch()?;
    let program = support::sources().join("tests/tools/fetch-podman");
    let status = std::process::Command::new(program).arg(podman::fetched()?).status()?;
    if status.success() { Ok(()) } else { Err("cannot fetch podman".into()) }
}

/// Starts the attack's world, and judges it by its exit status and its last word.
fn outside(name: &str, cgroups: Cgroups) -> Result<()> {
    let logs = build_dir()?.join("worlds");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("attack-{}.log", name.replace("::", "-")));
    let out = File::create(&log)?;
    let status = world::run_for(LIMIT, name, cgroups, out.try_clone()?.into(), out.into())?.status;
    let text = fs::read_to_string(&log)?;
    if status.success() && text.lines().any(|line| line.starts_with("acted: ")) {
        return Ok(());
    }
    Err(format!("{status}: {text}").into())
}
