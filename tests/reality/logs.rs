//! /var/log/pods and /var/log/containers of our pods (38).
//!
//! RIGHT: those of the snap's own pods, known by their uids, go with MicroK8s; with a profile that does not ask for it they
//! are named with their size. Those of others stay.

use crate::stage::{Right, Stage, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("logs_of_our_pods_go", || logs(true, "1.7")),
    ("logs_of_our_pods_go_2_1", || logs(true, "2.1")),
    ("logs_are_named_where_the_profile_does_not_ask", || logs(false, "1.7")),
    ("logs_of_a_users_symlink_stay", links),
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
