//! /var/log/pods and /var/log/containers of our pods (38).
//!
//! RIGHT: those of the snap's own pods, known by their uids, go with MicroK8s; with a profile that does not ask for it they
//! are named with their size. Those of others stay.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::stage::{COMMON, DATA, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("logs_of_our_pods_go", || logs(true, "1.7")),
    ("logs_of_our_pods_go_2_1", || logs(true, "2.1")),
    ("logs_behind_a_link_that_a_group_may_change_are_told", behind_a_link),
    ("logs_of_what_has_exited_go", || exited("1.7", Where::Own)),
    ("logs_of_what_has_exited_go_2_1", || exited("2.1", Where::Own)),
    ("what_cri_keeps_of_what_has_exited_goes_from_a_shared_state_directory", || exited("1.7", Where::State)),
    ("what_cri_keeps_of_what_has_exited_goes_from_a_shared_state_directory_2_1", || {
        exited("2.1", Where::State)
    }),
    ("logs_of_a_completed_pod_in_a_shared_database_are_told", || exited("1.7", Where::Nothing)),
    ("logs_are_named_where_the_profile_does_not_ask", || logs(false, "1.7")),
    ("logs_of_a_users_symlink_stay", links),
    ("logs_elsewhere_go", || elsewhere(true, &[("kubelet.yaml", "podLogsDir: /other/dir\n")])),
    ("logs_elsewhere_are_named_where_the_profile_does_not_ask", || {
        elsewhere(false, &[("kubelet.yaml", "{\"podLogsDir\": \"/other/dir\"}\n")])
    }),
    ("logs_elsewhere_by_a_file_that_changes_kubelets_configuration_go", || elsewhere(true, &CHANGED)),
    ("logs_elsewhere_by_a_file_that_changes_kubelets_configuration_are_named", || elsewhere(false, &CHANGED)),
];

/// kubelet's configuration, and what a user has in the directory that `--config-dir` names.
const CHANGED: [(&str, &str); 4] = [
    ("kubelet.yaml", "podLogsDir: /never/there\n"),
    ("kubelet.d/10-logs.conf", "podLogsDir: /nor/there\n"),
    ("kubelet.d/20-logs.conf", "podLogsDir: /other/dir\n"),
    ("kubelet.d/30-logs.conf.old", "podLogsDir: /no/more\n"),
];

const OTHERS: &str = "/var/log/pods/default_somebodys_99999999-2222-4333-8444-555555555555";

fn others() -> Result<()> {
    sh(&format!(
        "mkdir -p {OTHERS}/app0 /var/log/containers; echo precious > {OTHERS}/app0/0.log
         ln -s {OTHERS}/app0/0.log /var/log/containers/somebodys_default_app0-{}.log; mkdir -p /var/log/pods/mine; echo x > /var/log/pods/note",
        "9".repeat(64)
    ))
    .map(drop)
}

/// Pods with logs where kubelet has them written, and the links that kubelet makes for them.
fn pods(stage: &Stage) -> Result<()> {
    for name in ["one", "two"] {
        for pod in stage.runtime()?.make_pods(name, &["--logs"], &["/app", "obedient"])? {
            sh(&format!(
                "ln -s /var/log/pods/default_{name}_{}/app0/0.log /var/log/containers/{name}_default_app0-{}.log",
                pod.uid, pod.containers[0].id
            ))?;
        }
    }
    Ok(())
}

fn logs(asked: bool, version: &'static str) -> Result<()> {
    let mut stage = Stage::beside(version, || others().map(|()| Vec::new()))?;
    if !asked {
        // Another snap than MicroK8s, whose packager says nothing of logs.
        stage.profile(|profile| {
            let keep = ["schema", "snap", "containerd", "kubelet"];
            if let Some(map) = profile.as_object_mut() {
                map.retain(|key, _| keep.contains(&key.as_str()));
            }
        })?;
    }
    stage.start_usual()?;
    pods(&stage)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::File, 40)])?;
    let named: fn(&Thing) -> bool = |thing| thing.kind == Kind::File && thing.path.starts_with("/var/log");
    let right = if asked { Right::Clean } else { Right::Told(named, &[0, 1, 3]) };
    stage.judge(&right, 0)?;
    Ok(())
}

/// A KubeletConfiguration names another directory for them (`podLogsDir`), in which others' are, too.
fn elsewhere(asked: bool, files: &[(&str, &str)]) -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /var/log/containers /other/dir/default_somebodys_99999999-2222-4333-8444-555555555555/app0 /other/dir/mine; echo x > /other/dir/note")
            .map(|_| Vec::new())
    })?;
    if !asked {
        stage.profile(|profile| profile["kubelet"]["logs"] = json!(false))?;
    }
    sh(&format!(
        "mkdir -p {DATA}/args/kubelet.d; cd {DATA}/args
         echo '--config=${{SNAP_DATA}}/args/kubelet.yaml --config-dir=${{SNAP_DATA}}/args/kubelet.d' > kubelet"
    ))?;
    for (name, text) in files {
        std::fs::write(format!("{DATA}/args/{name}"), format!("kind: KubeletConfiguration\n{text}"))?;
    }
    stage.start_usual()?;
    pods(&stage)?;
    // As kubelet has them written there.
    sh("for d in one two; do mv /var/log/pods/default_${d}_* /other/dir; done; rmdir /var/log/pods
        cd /var/log/containers; for l in *; do t=$(readlink $l); ln -sfn /other/dir/${t#/var/log/pods/} $l; done")?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::File, 40)])?;
    let named: fn(&Thing) -> bool = |thing| {
        let path = &thing.path;
        thing.kind == Kind::File
            && (path.starts_with("/var/log/containers") || path.starts_with("/other/dir"))
    };
    let right = if asked { Right::Clean } else { Right::Told(named, &[0]) };
    let report = stage.judge(&right, 0)?;
    demand(asked || report["notes"].to_string().contains("KiB)"), format!("their size is not told: {report}"))
}

/// Ubuntu's /var/log is writable by a group, which could lead a link that lies there anywhere.
fn behind_a_link() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /data/pods; chgrp 4 /var/log; chmod 775 /var/log; ln -s /data/pods /var/log/pods")?;
        others().map(|()| Vec::new())
    })?;
    stage.start_usual()?;
    pods(&stage)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 6), (Kind::File, 40)])?;
    let report = stage.judge(&Right::Doubt(|thing| thing.path.starts_with("/var/log/containers")), 0)?;
    demand(report["steps"].to_string().contains("/var/log/pods"), format!("they are not named: {report}"))
}

/// The directory of a pod's logs leads elsewhere: what is there stays.
fn links() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        others()?;
        sh("mkdir -p /srv/users/logs/app0; echo precious > /srv/users/logs/app0/0.log").map(|_| Vec::new())
    })?;
    stage.start_usual()?;
    let made = stage.runtime()?.make_pods("linked", &[], &["/app", "obedient"])?;
    sh(&format!("ln -s /srv/users/logs /var/log/pods/default_linked_{}", made[0].uid))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3)])?;
    let link: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::File && thing.path.starts_with("/var/log/pods");
    stage.judge(&Right::Told(link, &[0, 1, 3]), 0)?;
    Ok(())
}

/// What of our containerd's directories is the snap's own.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Own,
    /// All but the state.
    State,
    Nothing,
}

/// A pod in which one container has exited and one runs, and a pod that is completed: of these nothing but containerd's database
/// tells.
fn exited(version: &'static str, place: Where) -> Result<()> {
    let mut stage = Stage::beside(version, || others().map(|()| Vec::new()))?;
    let (own_root, own_state) = (format!("{COMMON}/var/lib/containerd"), format!("{COMMON}/run/containerd"));
    let root = if place == Where::Nothing { "/var/lib/containerd" } else { &own_root };
    let state = if place == Where::Own { &own_state } else { "/run/containerd" };
    if place != Where::Own {
        let data = if place == Where::State { json!([own_root]) } else { json!([]) };
        stage.profile(|profile| {
            profile["containerd"]["state"] = json!(state);
            profile["containerd"]["root"] = json!(root);
            profile["data"] = data;
        })?;
    }
    stage.start_at(root, state)?;
    let runtime = stage.runtime()?;
    for name in ["mixed", "job"] {
        let words: &[&str] = &["/app", "obedient", "--and", "/app", "obedient"];
        let pod = runtime.make_pods(name, &["--logs"], words)?.remove(0);
        for (n, container) in pod.containers.iter().enumerate() {
            sh(&format!(
                "ln -s /var/log/pods/default_{name}_{}/app{n}/0.log /var/log/containers/{name}_default_app{n}-{}.log",
                pod.uid, container.id
            ))?;
        }
        if name == "job" {
            runtime.podmaker(&["stop", "--keep", &pod.id])?;
            // kubelet's part.
            sh(&format!("find /sys/fs/cgroup -depth -type d -path '*/pod{}*' -exec rmdir {{}} +", pod.uid))?;
            continue;
        }
        let gone = &pod.containers[0].id;
        runtime.ctr(&["-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", gone])?;
        let until = Instant::now() + Duration::from_secs(10);
        let bundle = runtime.layout.state.join("io.containerd.runtime.v2.task/k8s.io").join(gone);
        while bundle.exists() {
            demand(Instant::now() < until, "containerd has not put the bundle away")?;
            sleep(Duration::from_millis(50));
        }
        // As kubelet leaves it of an earlier restart: only the link.
        sh(&format!("rm -r /var/log/pods/default_{name}_{}/app0", pod.uid))?;
    }
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::File, 40)])?;
    let of_job: fn(&Thing) -> bool = |thing| {
        let path = thing.path.to_string_lossy();
        let log =
            path.starts_with("/var/log/pods/default_job_") || path.starts_with("/var/log/containers/job_");
        log || path.starts_with("/run/containerd") || path.starts_with("/var/lib/containerd")
    };
    let right = if place == Where::Nothing { Right::Told(of_job, &[3]) } else { Right::Clean };
    stage.judge(&right, 0)?;
    Ok(())
}
