//! containerd's root and state on another disk (26), told in every place in which a user may tell it.
//!
//! RIGHT: the applications get their SIGTERM, everything that runs or is mounted is ended, the bundles and the snapshots
//! of these containers may go; what else lies at the new place is named and not deleted; a container of the same ID that
//! is another runtime's stays.

use std::fs;
use std::path::Path;

use crate::stage::{COMMON, DATA, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Runtime, in_group};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("moved_root_and_state", || moved("1.7", Told::Words, Moved::BOTH)),
    ("moved_root_and_state_1_6", || moved("1.6", Told::Words, Moved::BOTH)),
    ("moved_root_and_state_2_1", || moved("2.1", Told::Words, Moved::BOTH)),
    ("moved_root_and_state_hybrid", || moved("1.7", Told::Words, Moved::BOTH)),
    ("moved_root_alone", || moved("1.7", Told::Words, Moved { state: None, ..Moved::BOTH })),
    ("moved_state_alone", || moved("1.7", Told::Words, Moved { root: None, ..Moved::BOTH })),
    ("moved_by_the_configuration", || moved("1.7", Told::Config, Moved::BOTH)),
    ("moved_by_the_configuration_2_1", || moved("2.1", Told::Config, Moved::BOTH)),
    ("moved_by_an_imported_configuration", || moved("1.7", Told::Import, Moved::BOTH)),
    ("moved_root_alone_by_an_imported_configuration", || {
        moved("2.1", Told::Import, Moved { state: None, ..Moved::BOTH })
    }),
    ("moved_and_told_by_living_shims_alone", || moved("1.7", Told::Nowhere, Moved::BOTH)),
    ("moved_and_all_shims_killed", || moved("1.7", Told::Words, Moved { kill_shims: true, ..Moved::BOTH })),
    ("moved_and_in_no_unit_of_snapd", || moved("1.7", Told::Words, Moved { unit: false, ..Moved::BOTH })),
    ("moved_in_no_unit_and_told_nowhere", doubtful),
    ("moved_beside_a_foreign_container_of_the_same_id", beside_same_id),
    ("moved_through_an_argument_with_an_equals_sign", || moved("1.7", Told::Equals, Moved::BOTH)),
];

const ROOT: &str = "/mnt/big/lib";
const STATE: &str = "/mnt/big/run";
const SESSION: &str = "user.slice/session-1.scope";

/// Where the new place is written down.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// args/containerd, as MicroK8s has it.
    Words,
    /// The same, as `--root=PATH`.
    Equals,
    /// `root` and `state` in the configuration.
    Config,
    /// The same, in a file that the configuration imports.
    Import,
    /// In no file: on the command line of a containerd that has ended.
    Nowhere,
}

struct Moved {
    root: Option<&'static str>,
    state: Option<&'static str>,
    unit: bool,
    kill_shims: bool,
}

impl Moved {
    const BOTH: Moved = Moved { root: Some(ROOT), state: Some(STATE), unit: true, kill_shims: false };
}

/// What may be left if it is named: files at the new place, and nothing that runs or is mounted.
fn at_the_new_place(thing: &Thing) -> bool {
    thing.kind == Kind::File && thing.path.starts_with("/mnt/big")
}

fn moved(version: &'static str, told: Told, moved: Moved) -> Result<()> {
    // The user's session is there before he starts anything in it.
    let session = || in_group(SESSION, "true").map(|_| Vec::new());
    let mut stage = if moved.unit { Stage::new(version)? } else { Stage::beside(version, session)? };
    start(&mut stage, told, &moved)?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    if moved.kill_shims {
        kill_shims(&stage)?;
    }
    let shims = if moved.kill_shims { 0 } else { 2 };
    stage.must_show(&[(Kind::Process, 4 + shims), (Kind::Mount, 8), (Kind::Cgroup, 4), (Kind::File, 40)])?;
    // Of a state directory nothing stays once its containers are gone, but the directory of the administrator's above it.
    let administrators: fn(&Thing) -> bool = |thing| thing.path.as_path() == Path::new("/mnt/big");
    let right = match moved.root {
        Some(_) => Right::Told(at_the_new_place, &[1, 3]),
        None => Right::Told(administrators, &[0]),
    };
    stage.judge(&right, 2)?;
    Ok(())
}

/// The shims name our address, and nothing else ties them to us: they are named, and nobody is ended.
fn doubtful() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    start(&mut stage, Told::Nowhere, &Moved { unit: false, ..Moved::BOTH })?;
    let pods = stage.runtime()?.make_pods("doubtful", &["--count", "2"], &["/app", "obedient"])?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::Mount, 8), (Kind::Cgroup, 4), (Kind::File, 40)])?;
    let shim: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::Process && thing.looks.contains("(containerd-shim");
    stage.judge(&Right::Doubt(shim), 0)?;
    let alive = |pod: &support::runtime::Pod| Path::new(&format!("/proc/{}", pod.containers[0].pid)).exists();
    demand(pods.iter().all(alive), "a doubtful container was ended")
}

pub fn kill_shims(stage: &Stage) -> Result<()> {
    let shims = stage.runtime()?.shims()?;
    for pid in &shims {
        sh(&format!("kill -KILL {pid}; while [ -e /proc/{pid} ]; do :; done"))?;
    }
    demand(!shims.is_empty(), "there are no shims")
}

fn start(stage: &mut Stage, told: Told, moved: &Moved) -> Result<()> {
    let root = moved.root.map_or(format!("{COMMON}/var/lib/containerd"), str::to_owned);
    let state = moved.state.map_or(format!("{COMMON}/run/containerd"), str::to_owned);
    let mut layout = Layout { root: root.clone().into(), state: state.clone().into(), ..Stage::layout() };
    if !moved.unit {
        layout.service = SESSION.into();
    }
    fs::create_dir_all(format!("{DATA}/args"))?;
    fs::create_dir_all("/mnt/big")?;
    let toml = format!("{DATA}/args/containerd.toml");
    let common =
        ["--config ${SNAP_DATA}/args/containerd.toml", "--address ${SNAP_COMMON}/run/containerd.sock"];
    let (own_root, own_state) = ("${SNAP_COMMON}/var/lib/containerd", "${SNAP_COMMON}/run/containerd");
    let words = match told {
        Told::Words => vec![format!("--root {root}"), format!("--state {state}")],
        Told::Equals => vec![format!("--root={root}"), format!("--state={state}")],
        Told::Nowhere => vec![format!("--root {own_root}"), format!("--state {own_state}")],
        Told::Config | Told::Import => vec![],
    };
    let lines: Vec<_> = common.iter().map(|line| line.to_string()).chain(words).collect();
    fs::write(format!("{DATA}/args/containerd"), lines.join("\n") + "\n")?;

    let keys = format!("root = \"{root}\"\nstate = \"{state}\"\n");
    let configure = |config: String| -> Result<String> {
        let config = match told {
            Told::Config => config.replacen('\n', &format!("\n{keys}"), 1),
            Told::Import => {
                fs::create_dir_all(format!("{DATA}/args/conf.d"))?;
                fs::write(format!("{DATA}/args/conf.d/disk.toml"), format!("version = 2\n{keys}"))?;
                config.replacen('\n', &format!("\nimports = [\"{DATA}/args/conf.d/*.toml\"]\n"), 1)
            }
            _ => config,
        };
        fs::write(&toml, &config)?;
        Ok(config)
    };
    let toml = format!("{DATA}/args/containerd.toml");
    let mut words = vec!["--config", &*toml];
    if !matches!(told, Told::Config | Told::Import) {
        words.extend(["--root", &root, "--state", &state]);
    }
    stage.start(layout, &words, configure)?;
    demand(
        Path::new(&state).join("io.containerd.runtime.v2.task").exists(),
        "containerd does not work at the new place",
    )
}

/// Two containerds, each with a container of one ID: ours at moved roots, the host's in a namespace of its own.
fn beside_same_id() -> Result<()> {
    let id = "a".repeat(64);
    let mut stage = Stage::beside("1.7", || {
        let other = Runtime::start(Layout::of_host(), "1.7")?;
        run(&other, "other", &id)?;
        Ok(vec![other])
    })?;
    start(&mut stage, Told::Words, &Moved::BOTH)?;
    stage.polite_pods("polite", 1)?;
    run(stage.runtime()?, "k8s.io", &id)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 5), (Kind::Mount, 5)])?;
    // That the other's goes on is in the picture: what is less than before is wrong.
    stage.judge(&Right::Told(at_the_new_place, &[1, 3]), 1)?;
    Ok(())
}

/// A container of this ID, made as `ctr run` makes one.
pub fn run(runtime: &Runtime, namespace: &str, id: &str) -> Result<()> {
    run_with(runtime, namespace, id, &[])
}

/// The same with more options.
pub fn run_with(runtime: &Runtime, namespace: &str, id: &str, options: &[&str]) -> Result<()> {
    let archive = runtime.image().display().to_string();
    runtime.ctr(&["-n", namespace, "images", "import", &archive])?;
    let words =
        [&["-n", namespace, "run", "-d"], options, &["docker.io/library/app:1", id, "/app", "obedient"]];
    runtime.ctr(&words.concat())?;
    Ok(())
}
