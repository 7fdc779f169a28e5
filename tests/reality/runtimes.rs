//! Containers that something else makes than runc and its shim of the second generation: crun, whose state has no `state.json`,
//! so that nothing of runc's record proves a container; and the shims of the first generation, which containerd 1.6 and 1.7 still
//! have (`io.containerd.runtime.v1.linux`), with bundles in a directory of their own.
//!
//! RIGHT: bundle, shim and root file system prove it; it gets its SIGTERM, is ended, and its states and groups go. Status 0.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::moved::kill_shims;
use crate::shapes::with_options;
use crate::stage::{COMMON, Right, Stage, demand};
use support::picture::Kind;
use support::runtime::{Layout, Runtime};
use support::scenes::Scene;
use support::{Result, build_dir};

pub const ALL: &[Scene] = &[
    ("containers_of_crun", || crun(false)),
    ("containers_of_crun_hybrid", || crun(false)),
    ("containers_of_crun_whose_shims_are_dead", || crun(true)),
    ("containers_of_the_first_shims_hybrid", || first_shims("1.7", false)),
    ("containers_of_the_first_shims_that_are_dead_hybrid", || first_shims("1.6", true)),
    ("containers_of_the_first_shims_of_another_stay_hybrid", of_another),
];

/// What crun of Debian cannot make here is taken out of the bundle first: a share of the processor (as for runc), the filter for
/// devices, for which a machine may not let it lock memory; and containerd's version of the specification is too new for it.
const STRIPPED: &str = r#"s/"shares":[0-9]*,\?//; s/"devices":\[{"allow"[^]]*\],\?//; s/"ociVersion":"[^"]*"/"ociVersion":"1.0.2"/"#;

const CRUN: &str = "/opt/runtimes/crun";

/// crun with its libraries, which the machine may not have.
fn install() -> Result<()> {
    let from = build_dir()?.join("../../containerd/podman");
    let (lib, bin) = (from.join("lib"), from.join("bin/crun"));
    fs::write(
        CRUN,
        format!(
            "#!/bin/sh\nfor w; do [ \"$p\" != --bundle ] || sed -i '{STRIPPED}' \"$w/config.json\"; p=$w; done\n\
             LD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
            lib.display(),
            bin.display()
        ),
    )?;
    Ok(fs::set_permissions(CRUN, fs::Permissions::from_mode(0o755))?)
}

fn crun(without_shims: bool) -> Result<()> {
    let mut stage = with_options("1.7", &format!("BinaryName = \"{CRUN}\""))?;
    install()?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    if without_shims {
        kill_shims(&stage)?;
    }
    let states = fs::read_dir("/run/containerd/runc/k8s.io")?.flatten();
    let of_crun = states.filter(|state| state.path().join("status").exists()).count();
    demand(of_crun > 0 && !Path::new("/run/runc").exists(), "no state is crun's")?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Cgroup, 2), (Kind::Mount, 4)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// These know control groups of version 1 alone.
const FIRST: &str = "io.containerd.runtime.v1.linux";

fn first_shims(version: &'static str, dead: bool) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.start_usual()?;
    run_by_hand(stage.runtime()?)?;
    stage.stop()?;
    if dead {
        kill_shims(&stage)?;
    }
    demand(
        Path::new(COMMON).join("run/containerd").join(FIRST).join("k8s.io/by-hand").exists(),
        "it has no bundle",
    )?;
    stage.must_show(&[(Kind::Process, 1), (Kind::Cgroup, 2), (Kind::Mount, 1)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

fn run_by_hand(runtime: &Runtime) -> Result<()> {
    let image = "docker.io/library/app:1";
    let options = ["-n", "k8s.io", "run", "-d", "--net-host", "--runtime", FIRST];
    runtime.ctr(&[&options[..], &[image, "by-hand", "/app", "obedient"]].concat()).map(drop)
}

/// A containerd of the host's has one of the same ID, in its own directories.
fn of_another() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        let other = Runtime::start(Layout::of_host(), "1.7")?;
        run_by_hand(&other)?;
        Ok(vec![other])
    })?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 2)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}
