//! A test program made of scenes, each in a private world of its own.

use std::fs::{self, File};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed};
use nix::fcntl::{Flock, FlockArg};

use super::open::Open;
use super::world::{self, Cgroups};
use super::{Result, build_dir};

pub type Scene = (&'static str, fn() -> Result<()>);

/// The last word of a scene that came to its end.
const ACTED: &str = "acted";

/// The whole of the `main` of tests/`suite`: the list of tests outside, one scene inside a world. What is not possible on
/// this kernel is no test here: it is named, and tests/uml/run runs it on another one.
pub fn main(suite: &str, all: &'static [Scene], possible: fn(&str) -> bool) -> ExitCode {
    run(suite, all, possible).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

/// The same for scenes of real containers: whoever starts them, and not only lists them, has the runtimes first.
pub fn main_with_runtimes(suite: &str, all: &'static [Scene], possible: fn(&str) -> bool) -> ExitCode {
    let lists = std::env::args().any(|word| word == "--list");
    if !lists
        && !world::is_inside()
        && let Err(error) = super::runtime::fetch()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    main(suite, all, possible)
}

fn run(suite: &str, all: &'static [Scene], possible: fn(&str) -> bool) -> Result<ExitCode> {
    if let Some(body) = world::role()? {
        let (_, scene) = all.iter().find(|(name, _)| *name == body).ok_or("no such scene")?;
        scene()?;
        println!("{ACTED}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        all.iter().map(|(name, _)| *name).partition(|name| possible(name));
    if !elsewhere.is_empty() {
        eprintln!("not on this kernel, but by tests/uml/run: {}", elsewhere.join(" "));
    }
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let open = Arc::new(Open::of(suite, &names)?);
    // Some of a suite that takes long repeat others, or take minutes: only if asked for (tests/run --all).
    let late = |name: &str| {
        suite == "reality" && groups_of(name) == Cgroups::Hybrid || name.starts_with("five_thousand_")
    };
    let trial =
        |name: &'static str| open.trial(name, "", move || outside(name)).with_ignored_flag(late(name));
    Ok(libtest_mimic::run(&arguments, here.into_iter().map(trial).collect()).exit_code())
}

/// Set by tests/run: a suite ends with its first failure, instead of minutes later.
const FIRST_FAILURE_ENDS: &str = "SNAP_TEARDOWN_FIRST_FAILURE_ENDS";

/// Says at once why a test has failed, while the others of its suite still run.
pub fn failed(name: &str, reason: &str) -> Failed {
    eprintln!("\n--- {name} has failed:\n{reason}\n---");
    if std::env::var_os(FIRST_FAILURE_ENDS).is_some() {
        // The worlds that still run end with us: their keepers are told, and take their groups away.
        println!("test {name} ... FAILED");
        std::process::exit(101);
    }
    Failed::from(reason.to_owned())
}

/// The groups of a scene's world: version 2 alone, unless its name says otherwise.
fn groups_of(name: &str) -> Cgroups {
    if name.ends_with("_hybrid") { Cgroups::Hybrid } else { Cgroups::V2 }
}

/// Scenes with loop devices, by words of their names.
const WITH_LOOPS: &[&str] = &["loop", "blockfile", "btrfs", "devmapper", "dm_", "luks_", "frozen"];

/// Loop devices are the whole machine's: as soon as one scene has let a number go, another one has it. So such scenes run
/// one after the other, whatever suite and clone they are of.
fn alone_with_loops(name: &str) -> Result<Option<Flock<File>>> {
    if !WITH_LOOPS.iter().any(|word| name.contains(word)) {
        return Ok(None);
    }
    let Ok(control) = File::open("/dev/loop-control") else { return Ok(None) };
    Ok(Some(Flock::lock(control, FlockArg::LockExclusive).map_err(|(_, error)| error)?))
}

/// Starts the scene's world, and judges it by its exit status and its last word.
fn outside(name: &str) -> Result<()> {
    let logs = build_dir()?.join("worlds");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("scene-{name}"));
    let errors = File::create(log.with_extension("err"))?;
    // Nothing takes as long as a dockerd that starts and ends beside another one, or thousands of pods.
    let long = name.starts_with("docker_") || name.starts_with("five_thousand_");
    let limit = if long { 300 } else { world::LIMIT_SECONDS };
    let _alone = alone_with_loops(name)?;
    let status =
        world::run_for(limit, name, groups_of(name), File::create(&log)?.into(), errors.into())?.status;
    let text = fs::read_to_string(&log)?;
    if status.success() && text.lines().last() == Some(ACTED) {
        print!("{}", text.trim_end().trim_end_matches(ACTED));
        return Ok(());
    }
    let complaints = fs::read_to_string(log.with_extension("err"))?;
    Err(format!("{status}: {}\n{text}", complaints.trim()).into())
}
