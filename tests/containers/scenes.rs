//! The scenes: what is set up, what a look must show then, and what the teardown must achieve.

use std::fs;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ends::{interrupted, killed_in_the_middle, twice};
use crate::patience::{
    by_slow_shims, in_their_time, one_grace, paused, slow, slow_shims, stubborn, without_pidfds,
};
use crate::scene::Scene;
use support::Result;
use support::look::{Kind, OF_PODS};
use support::runtime::Layout;
use support::world::Cgroups;

/// A scene, on one kind of control groups and one version of containerd.
#[derive(Clone)]
pub struct Definition {
    name: &'static str,
    cgroups: Cgroups,
    version: &'static str,
    set_up: fn(&mut Scene) -> Result<()>,
    /// What the control's look may miss.
    absent: &'static [Kind],
    cure: fn(&mut Scene) -> Result<String>,
}

/// One of a scene's two tests.
pub struct Test {
    pub cgroups: Cgroups,
    cure: bool,
    definition: Definition,
}

impl Test {
    pub fn name(&self) -> String {
        format!("{}::{}", if self.cure { "cure" } else { "control" }, self.definition.name)
    }

    /// Inside the world.
    pub fn run(&self) -> Result<String> {
        let mut scene = Scene::new(self.definition.version)?;
        (self.definition.set_up)(&mut scene)?;
        let kinds: Vec<_> =
            OF_PODS.into_iter().filter(|kind| !self.definition.absent.contains(kind)).collect();
        let shown = scene.must_show(&kinds)?;
        // tests/noop-proof tells by this line that a test has failed at its demands, not at its scene.
        println!("scene: {shown}");
        if self.cure { (self.definition.cure)(&mut scene) } else { Ok(shown) }
    }
}

pub fn all() -> Vec<Test> {
    let mut tests = Vec::new();
    for definition in definitions() {
        for cure in [true, false] {
            // Where nothing was ever there, nothing can be left alone.
            if cure || definition.absent.len() < OF_PODS.len() {
                tests.push(Test { cgroups: definition.cgroups, cure, definition: definition.clone() });
            }
        }
    }
    tests
}

fn definitions() -> Vec<Definition> {
    let usual = Definition {
        name: "",
        cgroups: Cgroups::V2,
        version: "1.6",
        set_up: |_| Ok(()),
        absent: &[],
        cure: |scene| scene.must_be_torn_down(),
    };
    let hybrid = Definition { cgroups: Cgroups::Hybrid, ..usual.clone() };
    let (v1_7, v2_1) =
        (Definition { version: "1.7", ..usual.clone() }, Definition { version: "2.1", ..usual.clone() });
    let hybrid_2_1 = Definition { version: "2.1", ..hybrid.clone() };
    vec![
        Definition { name: "one_pod", set_up: |s| obedient(s, 1), ..usual.clone() },
        Definition { name: "ten_pods", set_up: |s| obedient(s, 10), ..usual.clone() },
        Definition { name: "ten_pods_hybrid", set_up: |s| obedient(s, 10), ..hybrid.clone() },
        Definition { name: "ten_pods_hybrid_2_1", set_up: |s| obedient(s, 10), ..hybrid_2_1.clone() },
        Definition { name: "twenty_pods", set_up: |s| obedient(s, 20), ..usual.clone() },
        Definition { name: "twenty_pods_1_7", set_up: |s| obedient(s, 20), ..v1_7.clone() },
        Definition { name: "twenty_pods_2_1", set_up: |s| obedient(s, 20), ..v2_1.clone() },
        Definition { name: "fifty_pods", set_up: |s| obedient(s, 50), ..usual.clone() },
        Definition { name: "mixed_pods", set_up: mixed, ..usual.clone() },
        Definition { name: "mixed_pods_1_7", set_up: mixed, ..v1_7.clone() },
        Definition { name: "mixed_pods_2_1", set_up: mixed, ..v2_1.clone() },
        Definition { name: "mixed_pods_hybrid", set_up: mixed, ..hybrid.clone() },
        Definition { name: "slow_pods", set_up: slow, cure: in_their_time, ..usual.clone() },
        Definition { name: "slow_pods_by_looking", set_up: slow, cure: without_pidfds, ..usual.clone() },
        Definition { name: "slow_shims", set_up: slow_shims, cure: by_slow_shims, ..usual.clone() },
        Definition { name: "slow_shims_1_7", set_up: slow_shims, cure: by_slow_shims, ..v1_7.clone() },
        Definition { name: "slow_shims_2_1", set_up: slow_shims, cure: by_slow_shims, ..v2_1.clone() },
        Definition { name: "stubborn_pods", set_up: |s| stubborn(s, 1), cure: one_grace, ..usual.clone() },
        Definition { name: "paused", set_up: paused, cure: in_their_time, ..usual.clone() },
        Definition { name: "paused_2_1", set_up: paused, cure: in_their_time, ..v2_1.clone() },
        Definition { name: "paused_hybrid", set_up: paused, cure: in_their_time, ..hybrid.clone() },
        Definition { name: "shims_killed", set_up: shims_killed, absent: &[Kind::Shim], ..usual.clone() },
        Definition { name: "shims_killed_2_1", set_up: shims_killed, absent: &[Kind::Shim], ..v2_1.clone() },
        Definition {
            name: "shims_killed_hybrid",
            set_up: shims_killed,
            absent: &[Kind::Shim],
            ..hybrid.clone()
        },
        Definition {
            name: "bundles_deleted",
            set_up: bundles_deleted,
            absent: &[Kind::Bundle],
            ..usual.clone()
        },
        Definition {
            name: "bundles_deleted_2_1",
            set_up: bundles_deleted,
            absent: &[Kind::Bundle],
            ..v2_1.clone()
        },
        Definition {
            name: "bundles_deleted_and_shims_killed",
            set_up: |scene| {
                bundles_deleted(scene)?;
                kill_shims(scene)
            },
            absent: &[Kind::Bundle, Kind::Shim],
            ..usual.clone()
        },
        Definition { name: "bundles_half_deleted", set_up: bundles_half_deleted, ..usual.clone() },
        Definition { name: "containerd_running", set_up: running, ..usual.clone() },
        Definition { name: "containerd_running_2_1", set_up: running, ..v2_1.clone() },
        Definition { name: "beside_the_hosts_containerd", set_up: beside_host, ..usual.clone() },
        Definition { name: "beside_a_namesake", set_up: beside_namesake, cure: told, ..v2_1.clone() },
        Definition { name: "beside_the_same_id", set_up: beside_same_id, ..usual.clone() },
        Definition { name: "beside_a_guest", set_up: beside_guest, ..usual.clone() },
        Definition { name: "beside_the_hosts_containerd_hybrid", set_up: beside_host, ..hybrid.clone() },
        Definition { name: "a_shim_called_spin", set_up: |s| other_shim(s, "spin.v1"), ..usual.clone() },
        Definition { name: "a_shim_called_kata_1_7", set_up: |s| other_shim(s, "kata.v2"), ..v1_7.clone() },
        Definition { name: "a_shim_called_runsc_2_1", set_up: |s| other_shim(s, "runsc.v1"), ..v2_1.clone() },
        Definition { name: "from_outside", set_up: outside, cure: by_saved_copy, ..usual.clone() },
        Definition { name: "from_outside_2_1", set_up: outside, cure: by_saved_copy, ..v2_1.clone() },
        Definition {
            name: "from_outside_shims_killed",
            set_up: |scene| {
                outside(scene)?;
                kill_shims(scene)
            },
            absent: &[Kind::Shim],
            cure: by_saved_copy,
            ..usual.clone()
        },
        Definition { name: "nothing_to_do", absent: &OF_PODS, ..usual.clone() },
        Definition { name: "twice", set_up: |s| obedient(s, 2), cure: twice, ..usual.clone() },
        Definition {
            name: "killed_in_the_middle",
            set_up: |s| obedient(s, 10),
            cure: killed_in_the_middle,
            ..usual.clone()
        },
        Definition { name: "interrupted", set_up: |s| stubborn(s, 2), cure: interrupted, ..usual.clone() },
    ]
}

fn obedient(scene: &mut Scene, count: usize) -> Result<()> {
    scene.pods("app", count, &["/app", "obedient"])?;
    scene.stop()
}

/// Pods as clusters have them: several containers, other users, the host's network and pid namespace, children.
fn mixed(scene: &mut Scene) -> Result<()> {
    scene.pods("two", 2, &["/app", "obedient", "--and", "/app", "parent"])?;
    scene.make_pods("user", &["--run-as", "65535", "--sandbox-as", "65535"], &["/app", "obedient"])?;
    scene.make_pods("net", &["--host-network"], &["/app", "obedient"])?;
    // The first process obeys and its child does not: without a pid namespace of its own, the child lives on.
    scene.make_pods("pid", &["--host-network", "--host-pid"], &["/app", "parent"])?;
    let guaranteed = ["--cgroup-parent", "/kubepods/pod{uid}"];
    scene.make_pods("guaranteed", &guaranteed, &["/app", "obedient"])?;
    scene.stop()
}

fn kill_shims(scene: &mut Scene) -> Result<()> {
    for pid in scene.runtime()?.shims()? {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        await_that("the shim has ended", || Ok(ended(pid)))?;
    }
    scene.freeze_frame()
}

fn shims_killed(scene: &mut Scene) -> Result<()> {
    obedient(scene, 4)?;
    kill_shims(scene)
}

/// Deletes the bundles as a careless script does: what is mounted there goes out of sight, the rest is removed.
fn bundles_deleted(scene: &mut Scene) -> Result<()> {
    obedient(scene, 4)?;
    for id in ids(scene) {
        let bundle = scene.bundle(&id)?;
        umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH)?;
        fs::remove_dir_all(&bundle)?;
    }
    scene.freeze_frame()
}

/// Containerd deletes a bundle by giving it a hidden name first; here it ended just then.
fn bundles_half_deleted(scene: &mut Scene) -> Result<()> {
    obedient(scene, 4)?;
    for id in ids(scene).into_iter().step_by(2) {
        let bundle = scene.bundle(&id)?;
        fs::rename(&bundle, bundle.with_file_name(format!(".{id}")))?;
    }
    scene.freeze_frame()
}

fn ids(scene: &Scene) -> Vec<String> {
    let of_pod = |pod: &support::runtime::Pod| {
        let apps = pod.containers.iter().map(|container| container.id.clone());
        apps.chain([pod.id.clone()]).collect::<Vec<_>>()
    };
    scene.pods.iter().flat_map(of_pod).collect()
}

fn running(scene: &mut Scene) -> Result<()> {
    scene.pods("app", 4, &["/app", "obedient"])?;
    scene.freeze_frame()
}

fn beside_host(scene: &mut Scene) -> Result<()> {
    scene.beside(Layout::of_host(), "1.7", 2)?;
    obedient(scene, 4)
}

/// A runtime whose every path begins with the text of ours.
fn beside_namesake(scene: &mut Scene) -> Result<()> {
    scene.beside(Layout::beside_snap("microk8s"), "1.6", 2)?;
    obedient(scene, 4)
}

/// Another runtime's container that has the id of one of ours, in another namespace.
fn beside_same_id(scene: &mut Scene) -> Result<()> {
    scene.beside(Layout::of_host(), "1.7", 1)?;
    scene.pods("app", 2, &["/app", "obedient"])?;
    let id = scene.pods[0].containers[0].id.clone();
    scene.other_container("other", &id)?;
    scene.stop()
}

/// The real shim under the name that another runtime's has; what runs is what each says of itself.
fn other_shim(scene: &mut Scene, name: &'static str) -> Result<()> {
    scene.manner.shim = Some(name);
    obedient(scene, 4)?;
    let file = format!("containerd-shim-{}", name.replace('.', "-"));
    let shims = scene.runtime()?.shims()?;
    let named = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(&file));
    if shims.len() == 4 && shims.iter().all(named) {
        Ok(())
    } else {
        Err(format!("not 4 shims {file}").into())
    }
}

/// A strict snap: its mounts are in its own mount namespace, and we are outside of that.
fn outside(scene: &mut Scene) -> Result<()> {
    scene.in_a_namespace()?;
    obedient(scene, 4)?;
    let own = fs::read_to_string("/proc/self/mountinfo")?;
    if own.contains("/var/snap/microk8s/common/var/lib/kubelet") {
        Err("the mounts are out here".into())
    } else {
        Ok(())
    }
}

fn by_saved_copy(scene: &mut Scene) -> Result<String> {
    let ended = scene.snap.run_saved_copy()?;
    scene.judge(&ended)
}

/// A guest's shims and containers look exactly like ours, but for the pid namespace that they live in.
fn beside_guest(scene: &mut Scene) -> Result<()> {
    scene.beside_guest()?;
    obedient(scene, 2)
}

/// All of ours is gone; what else lives in the snap's directories is told, for the snap cannot be removed before it.
fn told(scene: &mut Scene) -> Result<String> {
    let ended = scene.snap.run_hook()?;
    scene.judge_as(&ended, 3, "blind")
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a process that is not our child has ended.
pub fn ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// Nothing wakes us for these; the loop is bounded and says what it waited for.
pub fn await_that(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("after {PATIENCE:?}, it is still not so that {what}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
