//! What comes from the snap's files, or holds them, and is none of the snap's processes, mounts and devices: what somebody has
//! bound, what he runs, what the kernel serves.
//!
//! RIGHT: it is told with what ends it, status 3; what another has of the same kind stays without a word.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::stage::{COMMON, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::runtime::{Layout, Runtime};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("namespaces_of_pods_that_are_bound_to_files_are_told", namespaces),
    ("a_program_of_ours_that_somebody_runs_is_told", program),
    ("interpreters_that_a_container_has_registered_are_told", interpreter),
    ("directories_that_kubelet_makes_go_while_they_are_empty", kubelets),
    ("a_containerd_of_ours_in_a_unit_of_an_administrators_is_told", administrators),
    ("what_a_second_containerd_in_the_snaps_directories_runs_is_told", second),
    ("a_guests_process_whose_root_is_called_like_the_snaps_stays", guests_root),
    ("lio_target_on_a_file_of_ours_is_told", target),
];

/// With the namespace of its processes stays nothing but a number; a mount namespace keeps all that is mounted in it.
fn namespaces() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /mnt/ns; mount -t tmpfs -o size=64k n /mnt/ns; mount --make-private /mnt/ns; : > /mnt/ns/own; : > /mnt/ns/pods
            unshare --ipc=/mnt/ns/own true")?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    let pods = stage.polite_pods("polite", 1)?;
    sh(&format!("mount --bind /proc/{}/ns/ipc /mnt/ns/pods", pods[0].containers[0].pid))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 6)])?;
    let bound: fn(&Thing) -> bool = |thing| thing.path.starts_with("/mnt/ns/pods");
    let report = stage.judge(&Right::Told(bound, &[3]), 1)?;
    one_of(&report, "'umount /mnt/ns/pods'")
}

/// Somebody's own program, and one of a guest's whose place has the same name, are nobody's business.
fn program() -> Result<()> {
    const PLACE: &str = "/var/snap/microk8s/common/bin/sleep";
    let guest = format!(
        "mount -t tmpfs guest /var/snap; mkdir -p {COMMON}/bin; cp /usr/bin/sleep {PLACE}
         exec {PLACE} 1000"
    );
    let mut stage = Stage::beside("1.7", || sh("cp /usr/bin/sleep /srv/sleep").map(|_| Vec::new()))?;
    sh(&format!("mkdir -p {COMMON}/bin; cp /usr/bin/sleep {PLACE}"))?;
    let of_others = stage.also(|_| {
        let mut own = Command::new("/srv/sleep");
        let mut guests = Command::new("unshare");
        guests.args(["--mount", "--propagation", "private", "/bin/sh", "-ec", &guest]);
        let all = [own.arg("1000").spawn()?, guests.spawn()?];
        let exe = format!("/proc/{}/exe", all[1].id());
        crate::shapes::until("the guest's program runs", || {
            std::fs::read_link(&exe).is_ok_and(|exe| exe == std::path::Path::new(PLACE))
        })?;
        Ok(all)
    })?;
    stage.children.extend(of_others);
    let mut command = Command::new(PLACE);
    command.arg("1000");
    let pid = stage.keep(command)?;
    stage.must_show(&[(Kind::Process, 1)])?;
    let told: fn(&Thing) -> bool = |thing| thing.kind == Kind::Process;
    let report = stage.judge(&Right::Told(told, &[3]), 0)?;
    one_of(&report, &format!("'kill {pid}'"))
}

/// binfmt is the whole machine's: what is registered here has to go again.
fn interpreter() -> Result<()> {
    let all = "/proc/sys/fs/binfmt_misc";
    let register = |name: &str, file: &str| {
        format!("cp /usr/bin/true {file}; echo ':{name}:E::{name}::{file}:F' > {all}/register")
    };
    let clear = || {
        sh(&format!(
            "for n in snap-teardown-own snap-teardown-pod; do [ ! -e {all}/$n ] || echo -1 > {all}/$n; done"
        ))
    };
    let mut stage = Stage::beside("1.7", || {
        sh(&format!("[ -e {all}/register ] || mount -t binfmt_misc binfmt_misc {all}"))?;
        clear()?;
        sh(&register("snap-teardown-own", "/srv/users/own"))?;
        Ok(Vec::new())
    })?;
    stage.start_usual()?;
    stage.runtime()?.make_pods("binfmt", &["--privileged"], &["/app"])?;
    sh(&format!("{}; rm /srv/pods", register("snap-teardown-pod", "/srv/pods")))?;
    stage.stop()?;
    let result = stage.judge(&Right::Told(|_| false, &[3]), 0);
    clear()?;
    one_of(&result?, &format!("'echo -1 > {all}/snap-teardown-pod'"))
}

fn kubelets() -> Result<()> {
    let mut stage = Stage::beside("1.7", || sh("mkdir -p /var/log/containers").map(|_| Vec::new()))?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    sh("mkdir -p /var/log/pods /var/log/containers")?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4)])?;
    stage.judge(&Right::Clean, 1).map(drop)
}

/// It works in the snap's directories, listens at the snap's socket, and nothing but that says that it is the snap's. Its
/// pods are ours, and end.
fn administrators() -> Result<()> {
    const UNIT: &str = "system.slice/users-containerd.service";
    let mut stage = Stage::new("1.7")?;
    let layout = Layout { service: UNIT.into(), ..Stage::layout() };
    let (root, state) = (layout.root.display().to_string(), layout.state.display().to_string());
    let pid = stage.start(layout, &["--root", &root, "--state", &state], Ok)?.pid();
    stage.polite_pods("polite", 1)?;
    // What it has for itself stays with it.
    let its: fn(&Thing) -> bool = |thing| match thing.kind {
        Kind::Socket => thing.name.starts_with("tcp"),
        Kind::Cgroup => thing.path.ends_with(UNIT),
        _ => ["/run/containerd", "/run/containerd/runc", "/run/containerd/s"]
            .map(Path::new)
            .contains(&&*thing.path),
    };
    stage.shared(its)?;
    stage.must_show(&[(Kind::Process, 4), (Kind::Socket, 3), (Kind::Mount, 4)])?;
    let listens: fn(&Thing) -> bool = |thing| matches!(thing.kind, Kind::Process | Kind::Socket);
    let report = stage.judge(&Right::Told(listens, &[3]), 1)?;
    let told = report["steps"].to_string();
    demand(told.contains(&format!("process {pid} listens there")), format!("it is not told: {told}"))
}

/// No profile names it, its shim is dead and its mounts are gone, but for those that its container sees.
fn second() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    let layout = Layout { service: "system.slice/users.service".into(), ..Layout::beside_snap("microk8s") };
    let mut second = Runtime::start(layout, "1.7")?;
    second.ctr(&["-n", "k8s.io", "run", "-d", "docker.io/library/app:1", "web", "/app", "obedient"])?;
    stage.stop()?;
    second.kill()?;
    for pid in second.shims()? {
        sh(&format!("kill -KILL {pid}; while [ -e /proc/{pid} ]; do :; done"))?;
    }
    sh(&format!("umount {}/rootfs", second.bundle("web").display()))?;
    stage.must_show(&[(Kind::Process, 4), (Kind::Mount, 4)])?;
    stage.judge(&Right::Doubt(|thing| thing.kind == Kind::Process), 1).map(drop)
}

/// It sees another directory of that name: as a container of the guest's, and as one in the guest's own process namespace.
fn guests_root() -> Result<()> {
    let program = support::built("app")?.display().to_string();
    let guest = format!(
        "mount -t tmpfs guest /var/snap; mkdir -p {COMMON}/second; cd {COMMON}/second
         mkdir low up work at up/old; cp {program} low/app
         mount -t overlay o -o lowerdir=$PWD/low,upperdir=$PWD/up,workdir=$PWD/work at
         enter='mount --bind at at; cd at; pivot_root . old; exec /app obedient'
         unshare --mount sh -ec \"$enter\" & unshare --mount --pid --fork sh -ec \"$enter\" & wait"
    );
    let mut stage = Stage::new("1.7")?;
    let child = stage.also(|_| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "/bin/sh", "-ec", &guest]);
        let child = command.spawn()?;
        // unshare(1) waits for one of them, and sees the same.
        let roots =
            "for p in /proc/[0-9]*; do awk '$5 == \"/\" && /upperdir=.*second/' $p/mountinfo; done | wc -l";
        crate::shapes::until("the guest's programs run", || {
            sh(roots).is_ok_and(|count| count.trim() == "3")
        })?;
        Ok(child)
    })?;
    stage.children.push(child);
    stage.start_usual()?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 4)])?;
    stage.judge(&Right::Clean, 1).map(drop)
}

fn target() -> Result<()> {
    let core = "/sys/kernel/config/target/core";
    let make = |name: &str, file: &str| {
        format!(
            "truncate -s 8M {file}; mkdir -p {core}/fileio_0/{name}; echo fd_dev_name={file},fd_dev_size=8388608 > {core}/fileio_0/{name}/control
             echo 1 > {core}/fileio_0/{name}/enable"
        )
    };
    let mut stage = Stage::beside("1.7", || {
        sh(&format!(
            "[ -e {core} ] || mount -t configfs configfs /sys/kernel/config; {}",
            make("own", "/srv/own-disk")
        ))?;
        Ok(Vec::new())
    })?;
    sh(&format!("mkdir -p {COMMON}; {}", make("pods", &format!("{COMMON}/disk"))))?;
    let result = stage.judge(&Right::Told(|_| false, &[3]), 0);
    sh(&format!("rmdir {core}/fileio_0/own {core}/fileio_0/pods {core}/fileio_0")).ok();
    one_of(&result?, &format!("{core}/fileio_0/pods"))
}

/// That is told, and nothing else.
fn one_of(report: &Value, what: &str) -> Result<()> {
    let blind: Vec<String> =
        report["steps"].as_array().into_iter().flatten().map(|step| step["blind"].to_string()).collect();
    let told = blind.join("\n");
    demand(told.contains(what), format!("it is not told: {told}"))?;
    demand(told.matches("\"what\"").count() == 1, format!("more is told: {told}"))
}
