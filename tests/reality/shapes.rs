//! Containers and shims of other shapes: gVisor's sandbox in the pod's group and its shim without `-id` (30), groups of no
//! shape that CRI makes, processes in a pod's group instead of a container's.
//!
//! RIGHT: what hangs from a proven shim, or whose root is a snapshot of ours, is ours whatever its group is called: it gets
//! its SIGTERM, is ended, and its groups and states go. Status 0.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::app::a_shim;
use crate::moved::kill_shims;
use crate::stage::{COMMON, Right, Stage, USERS, demand, sh};
use support::picture::{Kind, Thing};
use support::scenes::Scene;
use support::{Result, built};

pub const ALL: &[Scene] = &[
    ("gvisors_sandbox_in_the_pods_group", || gvisor("kubepods/besteffort/pod")),
    ("gvisors_sandbox_in_the_pods_group_hybrid", || gvisor("kubepods/besteffort/pod")),
    ("gvisors_sandbox_in_a_slice", || {
        gvisor("kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod")
    }),
    ("gvisors_real_runsc", || real_runsc(true)),
    ("gvisors_real_runsc_whose_shim_is_dead", || real_runsc(false)),
    ("a_group_of_no_shape_of_cris", || orphan("1.7", "/odd/web-server")),
    ("a_group_of_no_shape_of_cris_2_1", || orphan("2.1", "/odd/web-server")),
    ("a_group_of_no_shape_of_cris_hybrid", || orphan("1.7", "/odd/web-server")),
    ("a_group_called_as_a_users_session", || orphan("1.7", "/user.slice/session-7.scope")),
    ("a_group_that_ctr_was_told_is_told", || chosen(false, false)),
    ("a_group_that_ctr_was_told_is_told_whose_container_was_killed", || chosen(true, false)),
    ("a_group_that_ctr_was_told_is_told_hybrid", || chosen(false, false)),
    ("a_group_that_ctr_was_told_is_told_in_one_of_somebody_elses", || chosen(false, true)),
    ("runcs_states_in_a_directory_that_the_configuration_names", || runcs_root("1.7", false)),
    ("runcs_states_in_a_directory_that_the_configuration_names_1_6", || runcs_root("1.6", false)),
    ("runcs_states_in_a_directory_that_the_configuration_names_2_1", || runcs_root("2.1", false)),
    ("runcs_states_in_a_directory_that_is_named_and_no_shim", || runcs_root("1.7", true)),
    ("a_process_in_its_pods_group", || in_the_pods_group(true)),
    ("a_process_in_its_pods_group_and_no_shim", || in_the_pods_group(false)),
    ("a_container_moved_into_the_root_group", in_the_root_group),
    ("a_container_moved_into_the_slice_of_all_users", || in_the_slice_of_all_users(&Known::All)),
    ("a_container_moved_away_and_all_records_gone", || in_the_slice_of_all_users(&Known::Database)),
    ("a_container_moved_away_and_the_database_gone", || in_the_slice_of_all_users(&Known::Pause)),
    ("a_pod_moved_away_and_all_records_gone", || in_the_slice_of_all_users(&Known::DatabaseAlone)),
    ("a_look_alike_shim_in_another_unit_stays", || look_alike("system.slice/other.service", &[0, 3])),
    ("a_look_alike_shim_in_no_unit_is_doubtful", || look_alike("elsewhere", &[3])),
];

pub const UNIT: &str = "system.slice/snap.microk8s.daemon-containerd.service";
pub const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// A containerd whose runtime has these options.
pub fn with_options(version: &'static str, options: &str) -> Result<Stage> {
    let mut stage = Stage::new(version)?;
    let configure = |config: String| -> Result<String> {
        let runtime = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc";
        Ok(format!(
            "{config}\n[{runtime}]\nruntime_type = \"io.containerd.runc.v2\"\n[{runtime}.options]\n{options}\n"
        ))
    };
    let (root, state) = (format!("{COMMON}/var/lib/containerd"), format!("{COMMON}/run/containerd"));
    stage.start(Stage::layout(), &["--root", &root, "--state", &state], configure)?;
    Ok(stage)
}

/// The options of a runtime may name where runc keeps its states.
fn runcs_root(version: &'static str, without_shims: bool) -> Result<()> {
    let mut stage = with_options(version, "Root = \"/run/own-runc\"")?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    if without_shims {
        kill_shims(&stage)?;
    }
    demand(Path::new("/run/own-runc/k8s.io").exists(), "runc works elsewhere")?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Cgroup, 2), (Kind::Mount, 4)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// A bundle of ours, as containerd writes it, for a container that no runc has made.
pub fn bundle(id: &str, sandbox: &str, uid: &str) -> Result<PathBuf> {
    let bundle = Path::new(COMMON).join(TASKS).join(id);
    fs::create_dir_all(&bundle)?;
    sh(&format!("chmod 700 {}; chmod 711 {COMMON}/run/containerd", bundle.display()))?;
    let kind = if id == sandbox { "sandbox" } else { "container" };
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "annotations": {
            "io.kubernetes.cri.container-type": kind,
            "io.kubernetes.cri.sandbox-id": sandbox,
            "io.kubernetes.cri.sandbox-name": "pod",
            "io.kubernetes.cri.sandbox-namespace": "default",
            "io.kubernetes.cri.sandbox-uid": uid,
        },
        "linux": {"cgroupsPath": format!("/kubepods/besteffort/pod{uid}/{id}")},
    });
    fs::write(bundle.join("config.json"), spec.to_string())?;
    Ok(bundle)
}

pub const UID: &str = "11111111-2222-4333-8444-555555555555";

fn gvisor(pod: &str) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let (sandbox, app) = ("a".repeat(64), "b".repeat(64));
    let at = bundle(&sandbox, &sandbox, UID)?;
    bundle(&app, &sandbox, UID)?;
    let uid = if pod.contains(".slice") { format!("{}.slice", UID.replace('-', "_")) } else { UID.into() };
    let group = format!("{pod}{uid}");
    sh(&format!(
        "for h in /sys/fs/cgroup $(ls -d /sys/fs/cgroup/* 2>/dev/null); do [ -e $h/cgroup.procs ] || continue
            case $h in /sys/fs/cgroup|/sys/fs/cgroup/unified|/sys/fs/cgroup/systemd|/sys/fs/cgroup/pids) ;; *) continue;; esac
            mkdir -p $h/{group}/{sandbox} $h/{group}/{app}; done
         mkdir -p /run/containerd/runsc/k8s.io {USERS}/written
         for id in {sandbox} {app}; do echo '{{}}' > /run/containerd/runsc/k8s.io/${{id}}_sandbox:{sandbox}.state
            : > /run/containerd/runsc/k8s.io/${{id}}_sandbox:{sandbox}.lock; done"
    ))?;
    let words = [
        "-namespace",
        "k8s.io",
        "-address",
        &format!("{COMMON}/run/containerd.sock"),
        "-publish-binary",
        "containerd",
    ];
    let program = built("app")?.display().to_string();
    let command = a_shim(&words, &at, UNIT, &group, &[&program, "slow", &format!("{USERS}/written/gvisor")])?;
    stage.keep(command)?;
    until("the sandbox runs", || {
        sh(&format!("cat $(sed 's,.*,/proc/&/comm,' /sys/fs/cgroup/{group}/cgroup.procs /sys/fs/cgroup/unified/{group}/cgroup.procs 2>/dev/null)"))
            .is_ok_and(|names| names.trim() == "app")
    })?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Cgroup, 4), (Kind::File, 10)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// How many processes are in a group.
fn members(group: &str) -> Result<usize> {
    Ok(sh(&format!("cat /sys/fs/cgroup/{group}/cgroup.procs /sys/fs/cgroup/unified/{group}/cgroup.procs 2>/dev/null || true"))?
        .lines()
        .count())
}

/// True if a shim and its child are in a group, and have become what they are to be.
fn settled(group: &str) -> Result<bool> {
    let names =
        sh(&format!("for p in $(cat /sys/fs/cgroup/{group}/cgroup.procs); do cat /proc/$p/comm; done"))?;
    Ok(names.lines().count() == 2
        && names.lines().any(|name| name == "app")
        && !names.lines().any(|name| name.ends_with("sh")))
}

/// Looks until it is so; for ten seconds at most.
pub fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let start = std::time::Instant::now();
    while !so() {
        if start.elapsed().as_secs() > 10 {
            return Err(format!("not so after ten seconds: {what}").into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Debian's runsc in runc's place: its sandbox and gofer, under the shim that Debian has for runc. That shim knows no
/// second container of a sandbox, so it is one of `ctr run`.
fn real_runsc(shim: bool) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    // This version takes controllers for granted that a world has not: without a group of its own, sandbox and gofer are
    // where the shim is.
    let strip = r#"for w; do [ "$p" != --bundle ] || sed -i 's/"cgroupsPath":"[^"]*",\?//' "$w/config.json"; p=$w; done"#;
    let run = "exec /opt/others/bin/runsc --platform=ptrace --network=none --ignore-cgroups \"$@\"";
    fs::write("/opt/runtimes/runsc", format!("#!/bin/sh\n{strip}\n{run}\n"))?;
    sh("chmod 755 /opt/runtimes/runsc")?;
    let runtime = stage.runtime()?;
    let archive = runtime.image().display().to_string();
    runtime.ctr(&["-n", "k8s.io", "images", "import", &archive])?;
    let words = [
        "-n",
        "k8s.io",
        "run",
        "-d",
        "--runc-binary",
        "/opt/runtimes/runsc",
        "docker.io/library/app:1",
        "web",
    ];
    runtime.ctr(&[&words[..], &["/app", "obedient"]].concat())?;
    stage.stop()?;
    let mut least = 3;
    if !shim {
        kill_shims(&stage)?;
        least = 2;
    }
    stage.must_show(&[(Kind::Process, least), (Kind::Mount, 1)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// Its shim, its bundle and runc's state are gone; its root is one of our snapshots.
fn orphan(version: &'static str, group: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.start_usual()?;
    let runtime = stage.runtime()?;
    let archive = runtime.image().display().to_string();
    runtime.ctr(&["-n", "k8s.io", "images", "import", &archive])?;
    runtime.ctr(&[
        "-n",
        "k8s.io",
        "run",
        "-d",
        "--cgroup",
        group,
        "docker.io/library/app:1",
        "web",
        "/app",
        "obedient",
    ])?;
    stage.stop()?;
    kill_shims(&stage)?;
    forget_all()?;
    stage.must_show(&[(Kind::Process, 1), (Kind::Cgroup, 1)])?;
    stage.judge(&Right::Clean, 0)?;
    Ok(())
}

/// `ctr run --cgroup`: the group has a name of its own, and who has made it nobody knows once it is empty.
fn chosen(dead: bool, beside: bool) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        if beside {
            sh(
                "mkdir -p /sys/fs/cgroup/some/bodys; setsid sleep 1000 >/dev/null 2>&1 & echo $! > /sys/fs/cgroup/some/bodys/cgroup.procs",
            )?;
        }
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    crate::moved::run_with(stage.runtime()?, "k8s.io", "web", &["--cgroup", "/some/chosen"])?;
    stage.stop()?;
    if dead {
        kill_shims(&stage)?;
        let procs = sh("find /sys/fs/cgroup -path '*some/chosen/cgroup.procs'")?;
        sh(&format!("for p in $(cat {procs}); do kill -KILL $p; while [ -e /proc/$p ]; do :; done; done"))?;
    }
    stage.must_show(&[(Kind::Process, if dead { 0 } else { 2 }), (Kind::Cgroup, 1), (Kind::File, 4)])?;
    let group: fn(&Thing) -> bool = |thing| {
        thing.kind == Kind::Cgroup && (thing.path.ends_with("some/chosen") || thing.path.ends_with("some"))
    };
    let report = stage.judge(&Right::Told(group, &[3]), 0)?;
    let told = report["steps"].to_string().matches("was told to use it").count();
    demand(told > 0, "it is not told by whom")?;
    demand(!beside || told == 1, "somebody's is told as well")
}

/// No bundle and no state is left of any container; the mounts of their roots are not either, but in their own namespaces.
pub fn forget_all() -> Result<()> {
    sh(&format!(
        "for m in $(awk '{{print $5}}' /proc/self/mountinfo | grep io.containerd.runtime.v2.task | sort -r); do umount -l $m; done
         rm -rf --one-file-system {COMMON}/run/containerd/io.containerd.runtime.v2.task {COMMON}/var/lib/containerd/io.containerd.runtime.v2.task /run/containerd/runc /run/containerd/s"
    ))
    .map(drop)
}

fn in_the_pods_group(shim: bool) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    let (uid, pid) = (pods[0].uid.clone(), pods[0].containers[0].pid);
    sh(&format!("echo {pid} > /sys/fs/cgroup/kubepods/besteffort/pod{uid}/cgroup.procs"))?;
    stage.stop()?;
    if !shim {
        kill_shims(&stage)?;
    }
    stage.must_show(&[(Kind::Process, if shim { 3 } else { 2 }), (Kind::Cgroup, 4)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// As a privileged process can move itself.
fn in_the_root_group() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    sh(&format!(
        "mkdir /sys/fs/cgroup/elsewhere; echo {} > /sys/fs/cgroup/elsewhere/cgroup.procs",
        pods[0].containers[0].pid
    ))?;
    stage.stop()?;
    kill_shims(&stage)?;
    stage.must_show(&[(Kind::Process, 2), (Kind::Cgroup, 4)])?;
    // Nobody knows who made that group: it may stay, told or not.
    stage.judge(
        &Right::Told(|thing| thing.kind == Kind::Cgroup && thing.path.ends_with("elsewhere"), &[0, 1, 3]),
        1,
    )?;
    Ok(())
}

/// What is known of a container whose process is elsewhere.
#[derive(PartialEq)]
enum Known {
    All,
    /// No bundle, no state of runc's.
    Database,
    /// The same, and no pause process in its pod.
    DatabaseAlone,
    /// Nothing; but its pod's pause process runs where it was.
    Pause,
}

/// It is ended alone: the slice is for whoever logs in, and stays.
fn in_the_slice_of_all_users(known: &Known) -> Result<()> {
    let slice = "/sys/fs/cgroup/user.slice";
    let mut stage = Stage::beside("1.7", || sh(&format!("mkdir {slice}")).map(|_| Vec::new()))?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    sh(&format!("echo {} > {slice}/cgroup.procs", pods[0].containers[0].pid))?;
    stage.stop()?;
    kill_shims(&stage)?;
    let mut least = 2;
    if *known == Known::DatabaseAlone {
        sh(
            "for f in $(find /sys/fs/cgroup/kubepods -name cgroup.procs); do for p in $(cat $f); do kill -KILL $p; done; done",
        )?;
        least = 1;
    }
    if *known != Known::All {
        forget_all()?;
    }
    if *known == Known::Pause {
        sh(&format!("rm -r {COMMON}/var/lib/containerd/io.containerd.metadata.v1.bolt"))?;
    }
    stage.must_show(&[(Kind::Process, least), (Kind::Cgroup, 4)])?;
    stage.judge(&Right::Clean, 1)?;
    Ok(())
}

/// A process that names our address, in a group that is not our unit's, with a child of its own: it claims to be ours and
/// is not proven to be. It stays; in another's unit it may be a bystander, in none it is doubtful.
fn look_alike(group: &'static str, statuses: &'static [i32]) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let address = format!("{COMMON}/run/containerd.sock");
    let words = ["-namespace", "k8s.io", "-address", &address, "-id", "web"];
    let program = built("app")?.display().to_string();
    let child = stage.also(|_| {
        let child = start(a_shim(&words, Path::new("/srv"), group, group, &[&program, "obedient"])?)?;
        until("it runs", || settled(group).unwrap_or(false))?;
        Ok(child)
    })?;
    stage.children.push(child);
    stage.judge(&Right::Told(|_| false, statuses), 0)?;
    demand(members(group)? == 2, "it was ended")
}

fn start(mut command: std::process::Command) -> Result<std::process::Child> {
    Ok(command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn()?)
}
