//! Containers that crun makes instead of runc: its state has no `state.json`, so nothing of runc's record proves a container.
//!
//! RIGHT: bundle, shim and root file system prove it; it gets its SIGTERM, is ended, and its states and groups go. Status 0.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::moved::kill_shims;
use crate::stage::{COMMON, Right, Stage, demand};
use support::picture::Kind;
use support::scenes::Scene;
use support::{Result, build_dir};

pub const ALL: &[Scene] = &[
    ("containers_of_crun", || crun(false)),
    ("containers_of_crun_hybrid", || crun(false)),
    ("containers_of_crun_whose_shims_are_dead", || crun(true)),
];

/// What crun of Debian cannot make here is taken out of the bundle first: a share of the processor (as for runc), the filter for
/// devices, for which a machine may not let it lock memory; and containerd's version of the specification is too new for it.
const STRIPPED: &str = r#"s/"shares":[0-9]*,\?//; s/"devices":\[{"allow"[^]]*\],\?//; s/"ociVersion":"[^"]*"/"ociVersion":"1.0.2"/"#;

/// crun with its libraries, which the machine may not have.
fn install() -> Result<&'static str> {
    const AT: &str = "/opt/runtimes/crun";
    let from = build_dir()?.join("../../containerd/podman");
    let (lib, bin) = (from.join("lib"), from.join("bin/crun"));
    fs::write(
        AT,
        format!(
            "#!/bin/sh\nfor w; do [ \"$p\" != --bundle ] || sed -i '{STRIPPED}' \"$w/config.json\"; p=$w; done\n\
             LD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
            lib.display(),
            bin.display()
        ),
    )?;
    fs::set_permissions(AT, fs::Permissions::from_mode(0o755))?;
    Ok(AT)
}

fn crun(without_shims: bool) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let program = install()?;
    let configure = |config: String| -> Result<String> {
        let runtime = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc";
        Ok(format!(
            "{config}\n[{runtime}]\nruntime_type = \"io.containerd.runc.v2\"\n[{runtime}.options]\nBinaryName = \"{program}\"\n"
        ))
    };
    let (root, state) = (format!("{COMMON}/var/lib/containerd"), format!("{COMMON}/run/containerd"));
    stage.start(Stage::layout(), &["--root", &root, "--state", &state], configure)?;
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
