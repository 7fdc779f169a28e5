//! containerd's roots directly below "/" (26).
//!
//! RIGHT: such a root is a place like others, but for the directories that every machine has there: those are told, and left.

use std::fs;

use crate::moved::kill_shims;
use crate::stage::{DATA, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::Layout;
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("roots_directly_below_the_top", || top("1.7", Way::Words, false)),
    ("roots_directly_below_the_top_2_1", || top("2.1", Way::Config, false)),
    ("roots_directly_below_the_top_and_all_shims_killed", || top("1.7", Way::Words, true)),
    ("roots_that_every_machine_has_are_told", distributions),
    ("roots_directly_below_the_top_where_another_works_stay", || anothers(Some("/x"), "/y", false)),
    ("roots_on_another_disk_where_another_works_stay", || {
        anothers(Some("/mnt/big/lib"), "/mnt/big/run", false)
    }),
    ("roots_on_another_disk_where_another_has_stopped_stay", || {
        anothers(Some("/mnt/big/lib"), "/mnt/big/run", true)
    }),
    ("state_on_another_disk_where_another_works_stays", || anothers(None, "/mnt/big/run", false)),
];

/// Where it is written down.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    /// args/containerd.
    Words,
    /// The configuration.
    Config,
    Nowhere,
}

fn top(version: &'static str, way: Way, killed: bool) -> Result<()> {
    let mut stage = Stage::new(version)?;
    let layout = Layout { root: "/x".into(), state: "/y".into(), ..Stage::layout() };
    start(&mut stage, layout, way, &["root = \"/x\"\nstate = \"/y\"\n", "--root /x\n--state=/y\n"])?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    let shims = if killed { 0 } else { 2 };
    if killed {
        kill_shims(&stage)?;
    }
    stage.must_show(&[(Kind::Process, 4 + shims), (Kind::Mount, 8), (Kind::Cgroup, 4), (Kind::File, 40)])?;
    let left: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::File && (thing.path.starts_with("/x") || thing.path.starts_with("/y"));
    stage.judge(&Right::Told(left, &[1, 3]), 2)?;
    Ok(())
}

/// Starts our containerd with this in its configuration, or its arguments.
pub fn start(stage: &mut Stage, layout: Layout, way: Way, [config, words]: &[&str; 2]) -> Result<()> {
    fs::create_dir_all(format!("{DATA}/args"))?;
    let toml = format!("{DATA}/args/containerd.toml");
    let known = "--config ${SNAP_DATA}/args/containerd.toml\n";
    let words = if way == Way::Words { *words } else { "" };
    fs::write(format!("{DATA}/args/containerd"), format!("{known}{words}"))?;
    let (root, state) = (layout.root.display().to_string(), layout.state.display().to_string());
    let file = toml.clone();
    stage.start(layout, &["--config", &toml, "--root", &root, "--state", &state], |text| {
        let text = if way == Way::Config { text.replacen('\n', &format!("\n{config}"), 1) } else { text };
        fs::write(&file, &text)?;
        Ok(text)
    })?;
    Ok(())
}

/// What is there is the distribution's, whatever the arguments say.
fn distributions() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /srv/io.containerd.x /opt/pods; echo precious > /srv/io.containerd.x/a; echo precious > /opt/pods/a")
            .map(|_| Vec::new())
    })?;
    fs::create_dir_all(format!("{DATA}/args"))?;
    fs::write(format!("{DATA}/args/containerd"), "--root /srv\n--state=/opt\n")?;
    let report = stage.judge(&Right::Told(|_| false, &[3]), 0)?;
    let told = report["steps"].to_string();
    demand(told.contains("'/srv'") && told.contains("'/opt'"), format!("they are not told: {told}"))
}

/// Our containerd never worked there, and another does, or did until its service was stopped: its pods live on.
fn anothers(root: Option<&'static str>, state: &'static str, stopped: bool) -> Result<()> {
    let mut layout = Layout { state: state.into(), ..Layout::of_host() };
    if let Some(root) = root {
        layout.root = root.into();
    }
    let mut stage = Stage::beside_pod_of(layout, stopped)?;
    fs::create_dir_all(format!("{DATA}/args"))?;
    let root = root.map(|root| format!("--root {root}\n")).unwrap_or_default();
    fs::write(format!("{DATA}/args/containerd"), format!("{root}--state={state}\n"))?;
    let report = stage.judge(&Right::Told(|_| false, &[1, 3]), 0)?;
    demand(report["steps"].to_string().contains(state), format!("the place is not told: {report}"))
}
