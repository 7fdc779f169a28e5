//! Snapshots in a directory that every containerd has by default, mounted by hand (29): `ctr images mount`, and what `ctr snapshots
//! mounts` prints.
//!
//! RIGHT: the place says nothing, and others may have made it: it is told, with status 3. What docker's containerd has made in the
//! same directory is docker's, and nobody's doubt.

use std::path::Path;

use crate::shared::{may_stay, started};
use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("an_image_that_ctr_has_mounted_elsewhere_is_told", || mounted("1.7", "k8s.io", By::Images, Whose::Ours)),
    ("an_image_that_ctr_has_mounted_elsewhere_is_told_1_6", || {
        mounted("1.6", "k8s.io", By::Images, Whose::Ours)
    }),
    ("an_image_that_ctr_has_mounted_elsewhere_is_told_2_1", || {
        mounted("2.1", "k8s.io", By::Images, Whose::Ours)
    }),
    ("an_image_that_ctr_has_mounted_from_another_namespace_is_told", || {
        mounted("1.7", "default", By::Images, Whose::Ours)
    }),
    ("a_snapshot_that_ctr_has_shown_how_to_mount_is_told", || {
        mounted("1.7", "default", By::Snapshots, Whose::Ours)
    }),
    ("an_image_that_docker_has_mounted_from_a_shared_place_is_its_own", || {
        mounted("1.7", "moby", By::Images, Whose::Dockers)
    }),
];

#[derive(Clone, Copy, PartialEq)]
enum By {
    Images,
    /// A snapshot to write into, and one to read that is no overlay: of one layer containerd shows the directory itself.
    Snapshots,
}

#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Ours,
    Dockers,
}

const AT: &str = "/srv/mounted";

fn mounted(version: &'static str, namespace: &str, by: By, whose: Whose) -> Result<()> {
    let mut stage = started(version)?;
    stage.polite_pods("polite", 1)?;
    let mount = |stage: &Stage| mount(stage, namespace, by);
    match whose {
        Whose::Ours => mount(&stage)?,
        Whose::Dockers => stage.also(mount)?,
    }
    stage.stop()?;
    let by_hand = if whose == Whose::Dockers { 0 } else { 1 };
    stage.must_show(&[(Kind::Process, 3), (Kind::Mount, 3 + by_hand)])?;
    if whose == Whose::Dockers {
        stage.judge(&Right::Told(may_stay, &[0]), 1)?;
    } else {
        let hand: fn(&Thing) -> bool = |thing| thing.kind == Kind::Mount && thing.path.starts_with(AT);
        let report = stage.judge(&Right::Doubt(hand), 1)?;
        demand(report["steps"].to_string().contains(&format!("'umount {AT}")), "not what to type")?;
        demand(!Path::new("/run/containerd").exists(), "more than the mount is left")?;
    }
    demand(sh("mount")?.contains(AT), "somebody's mount is gone")
}

fn mount(stage: &Stage, namespace: &str, by: By) -> Result<()> {
    const IMAGE: &str = "docker.io/library/app:1";
    let runtime = stage.runtime()?;
    let ctr = |words: &[&str]| runtime.ctr(&[&["-n", namespace], words].concat());
    if namespace != "k8s.io" {
        ctr(&["images", "import", &runtime.image().display().to_string()])?;
    }
    sh(&format!("mkdir -p {AT}/w {AT}/r"))?;
    if by == By::Images {
        return ctr(&["images", "mount", IMAGE, &format!("{AT}/r")]).map(drop);
    }
    let all = String::from_utf8(ctr(&["snapshots", "ls"])?)?;
    let is_image = |line: &&str| line.contains("sha256:");
    let of = all.lines().find(is_image).and_then(|line| line.split_whitespace().next()).ok_or("no image")?;
    for (command, at) in [("prepare", "w"), ("view", "r")] {
        let (key, at) = (format!("by-hand-{at}"), format!("{AT}/{at}"));
        ctr(&["snapshots", command, &key, of])?;
        sh(&String::from_utf8(ctr(&["snapshots", "mounts", &at, &key])?)?)?;
    }
    Ok(())
}
