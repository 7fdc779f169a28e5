//! Findings 13 to 16: what kept the hook from ending, or from doing anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::attackers::{Container, User, children};
use crate::bystanders::{Process, USER, until};
use crate::lies::python;
use crate::trial::{Against, Attack, Trial};
use support::runtime::in_group;
use support::{Result, sh};

pub const ALL: &[Attack] = &[
    Attack { finding: "13", name: "f13_a_users_process_that_nobody_can_read", by: 'B', run: unreadable },
    Attack {
        finding: "13",
        name: "f13_a_pods_process_that_nobody_can_read",
        by: 'A',
        run: unreadable_in_pod,
    },
    Attack { finding: "14", name: "f14_a_stray_file_among_the_namespaces", by: 'A', run: |t| stray(t, "x") },
    Attack {
        finding: "14",
        name: "f14_a_stray_file_among_the_bundles",
        by: 'A',
        run: |t| stray(t, "k8s.io/x"),
    },
    Attack { finding: "14", name: "f14_a_symlink_among_the_namespaces", by: 'A', run: |t| link(t, "x") },
    Attack { finding: "14", name: "f14_a_symlink_among_the_bundles", by: 'A', run: |t| link(t, "k8s.io/x") },
    Attack { finding: "15", name: "f15_a_users_shim_held_back_by_its_child", by: 'B', run: held_back },
    Attack { finding: "15", name: "f15_a_users_deep_groups", by: 'B', run: deep_groups },
    Attack {
        finding: "15",
        name: "f15_a_users_many_groups_below_a_containers_name",
        by: 'B',
        run: many_groups,
    },
    Attack {
        finding: "15",
        name: "f15_a_containers_many_groups_below_its_own",
        by: 'A',
        run: many_own_groups,
    },
    Attack { finding: "15", name: "f15_a_users_group_called_like_a_unit_of_ours", by: 'B', run: unit },
    Attack {
        finding: "16",
        name: "f16_one_large_spec_in_ten_bundles",
        by: 'A',
        run: |t| specs(t, 10, 540_000, ""),
    },
    Attack {
        finding: "16",
        name: "f16_a_thousand_specs_within_the_bounds",
        by: 'A',
        run: |t| specs(t, 1000, 100, "/long"),
    },
    Attack { finding: "16", name: "f16_very_many_doubtful_bundles", by: 'A', run: many_doubts },
];

/// Distributions let everybody open it. The program is there for everybody to read.
fn fuse() -> Result<()> {
    crate::bystanders::write("/srv/stall/stall.py", STALL)?;
    sh("mknod -m 666 /dev/fuse c 10 229; chmod 666 /dev/fuse; mkdir -p /home/user/at; chown -R 1000:1000 /home/user").map(drop)
}

const STALL: &str = include_str!("stall.py");

/// Those of a program and its children that cannot be read within a second.
fn unreadable_of(pid: u32) -> Result<bool> {
    for child in children_below(pid)? {
        let script = format!("timeout -s KILL 1 cat /proc/{child}/cmdline >/dev/null");
        if !Command::new("/bin/sh").args(["-c", &script]).env("PATH", "/usr/bin").status()?.success()
            && Path::new(&format!("/proc/{child}")).exists()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn children_below(pid: u32) -> Result<Vec<i32>> {
    let mut all = children(pid)?;
    let mut at = 0;
    while at < all.len() {
        all.extend(children(u32::try_from(all[at])?).unwrap_or_default());
        at += 1;
    }
    Ok(all)
}

fn unreadable(trial: &mut Trial) -> Result<()> {
    fuse()?;
    drop(in_group(User::SESSION, "true")?);
    trial.ours()?;
    trial.attackers_own("python3");
    trial.deadline = 5;
    let came = trial.hook_against(|| {
        let child =
            User::command(User::SESSION, &["python3", "/srv/stall/stall.py", "/home/user/at"])?.spawn()?;
        until("a process that nobody can read", || unreadable_of(std::process::id()))?;
        Ok(Against::User(child))
    })?;
    came.clean_or_doubts(&["process", "cmdline", "command line"])
}

/// A privileged pod may do the same, as root; that one is ours to end.
fn unreadable_in_pod(trial: &mut Trial) -> Result<()> {
    fuse()?;
    trial.ours()?;
    trial.deadline = 10;
    let script = "import sys; sys.argv = ['stall', '/tmp', 'wait']; exec(open('/stall/stall.py').read())";
    let options = [
        "--privileged",
        "--device=/dev/fuse",
        "--mount=type=bind,src=/srv/stall,dst=/stall,options=rbind:ro",
    ];
    let pid = python(trial, "stall", script, &options)?;
    until("the pod waits for its signal", || {
        Ok(fs::read_to_string(format!("/proc/{pid}/wchan"))?.contains("sigtimedwait"))
    })?;
    let came = trial.hook_against(|| {
        kill(Pid::from_raw(pid), Signal::SIGUSR1)?;
        until("a process that nobody can read", || unreadable_of(u32::try_from(pid)?))?;
        Ok(Against::OurProcess(pid))
    })?;
    came.clean_or_doubts(&["process", "cmdline", "command line"])
}

fn stray(trial: &mut Trial, name: &str) -> Result<()> {
    trial.ours()?;
    fs::write(trial.tasks().join(name), "")?;
    trial.hook()?.clean()
}

/// Leads to a directory of the user's own.
fn link(trial: &mut Trial, name: &str) -> Result<()> {
    let at = Path::new("/srv/precious/bundle");
    fs::create_dir_all(at)?;
    fs::write(at.join("config.json"), json!({"linux": {"cgroupsPath": "/lxc/bundle"}}).to_string())?;
    trial.bystander(Process::in_group("lxc/bundle")?);
    trial.bystander(crate::bystanders::Same::of(
        "find /srv/precious | sort; cat /srv/precious/bundle/config.json",
    )?);
    trial.ours()?;
    let target = if name.contains('/') { at } else { Path::new("/srv/precious") };
    symlink(target, trial.tasks().join(name))?;
    trial.hook()?.clean_or_doubts(&[name])
}

fn held_back(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    let pid = User::poses_as_shim(trial, "unshare -Upf", "zz")?;
    trial.attackers_own("python3");
    trial.attackers_own("user.slice");
    trial.hook()?.clean_or_doubts(&["zz", &pid.to_string()])
}

fn deep_groups(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    User::is_given(User::DELEGATED)?;
    let deep: String = (1..=66).map(|n| format!("/{n}")).collect();
    sh(&format!(
        "for at in $(find /sys/fs/cgroup -type d -path '*/{}'); do {} mkdir -p $at/d{deep}; done",
        User::DELEGATED,
        USER.join(" ")
    ))?;
    trial.attackers_own("user.slice");
    trial.hook()?.clean_or_doubts(&["user.slice"])
}

/// More groups than are looked through, below one that is called like a container's: what runs in it cannot be told.
fn many_groups(trial: &mut Trial) -> Result<()> {
    let group = format!("{}/{}", User::DELEGATED, "b0".repeat(32));
    User::is_given(&group)?;
    trial.bystander(Process::of_user(&group)?);
    make_very_many_groups(&group, &USER, 42)?;
    trial.ours()?;
    trial.hook()?.clean_or_doubts(&["b0b0b0"])
}

/// The same below the group of a container of ours, as one that may write its control group can.
fn many_own_groups(trial: &mut Trial) -> Result<()> {
    let containers = &trial.ours()?.containers;
    let id = containers.first().ok_or("no container")?.id.clone();
    // 42 would do for what is looked through, 100 for what is kept in memory: 20,000 groups. Each takes the kernel its time.
    trial.deadline = 120;
    make_very_many_groups(&id, &["env"], 100)?;
    trial.hook()?.clean()
}

/// More groups with others below them than are looked through, as this user, where the kernel lets containers and users make
/// some: version 1 has no delegation of its controllers.
fn make_very_many_groups(below: &str, user: &[&str], hundreds: usize) -> Result<()> {
    let make =
        format!("for n in $(seq {hundreds}); do mkdir $n && (cd $n && mkdir -p $(seq -f %g/x 100)); done");
    sh(&format!(
        "for at in $(find /sys/fs/cgroup -type d -path '*/{below}'); do
           [ ! -e $at/cgroup.controllers ] || (cd $at && {} sh -c '{make}')
         done",
        user.join(" ")
    ))
    .map(drop)
}

fn unit(trial: &mut Trial) -> Result<()> {
    let group = format!("{}/snap.microk8s.a.service", User::DELEGATED);
    let script = "exec python3 -c 'import time; time.sleep(9999)' -namespace n -address /foo";
    let child = User::runs(&group, Path::new("/"), script)?;
    until("his process runs", || Ok(!crate::attackers::posing("/foo")?.is_empty()))?;
    trial.bystander(crate::bystanders::Lives(child));
    trial.ours()?;
    trial.hook()?.clean_or_doubts(&["snap.microk8s.a.service"])
}

/// One spec with this many binds, under many names.
fn specs(trial: &mut Trial, bundles: usize, binds: usize, path: &str) -> Result<()> {
    trial.ours()?;
    let path = path.repeat(200);
    let mounts: Vec<Value> = (0..binds)
        .map(|n| json!({"type": "bind", "source": format!("/srv{path}/{n}"), "destination": "/x"}))
        .collect();
    let text = json!({ "mounts": mounts }).to_string();
    println!("{} bytes in {bundles} bundles", text.len());
    let actor = Container::of(trial);
    let first = actor.plants("large0")?.file("config.json", &text)?;
    for n in 1..bundles {
        let bundle = actor.plants(&format!("large{n}"))?;
        fs::hard_link(first.path().join("config.json"), bundle.path().join("config.json"))?;
    }
    trial.hook()?.clean_or_doubts(&["large"])
}

/// Ten thousand bundles, every one a doubt: told, but not at any length.
fn many_doubts(trial: &mut Trial) -> Result<()> {
    trial.bystander(Process::of_user(User::SESSION)?);
    trial.ours()?;
    trial.deadline = 60;
    let actor = Container::of(trial);
    let name = "a-name-that-is-rather-long-so-that-all-of-them-take-room-".repeat(2);
    let first = actor.plants(&format!("{name}0"))?.group(&format!("/{}", User::SESSION))?;
    for n in 1..10_000 {
        let bundle = actor.plants(&format!("{name}{n}"))?;
        fs::hard_link(first.path().join("config.json"), bundle.path().join("config.json"))?;
    }
    trial.hook()?.clean_or_doubts(&["session-3.scope", &name])
}
