//! Findings 7 to 12: what had the hook say that all is well.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};

use crate::attackers::{Container, User};
use crate::bystanders::{Lives, Pod, USER, container_pid, until};
use crate::trial::{Attack, Trial};
use support::runtime::in_group;
use support::{Result, sh};

pub const ALL: &[Attack] = &[
    Attack {
        finding: "7",
        name: "f07_a_container_whose_first_thread_has_ended",
        by: 'A',
        run: |t| leaderless(t, false),
    },
    Attack {
        finding: "7",
        name: "f07_the_same_where_groups_are_read_only",
        by: 'A',
        run: |t| leaderless(t, true),
    },
    Attack {
        finding: "8",
        name: "f08_containers_called_like_groups_of_kubelet_and_systemd",
        by: 'A',
        run: names,
    },
    Attack { finding: "9", name: "f09_a_bundle_that_hides_its_own_network", by: 'A', run: hidden_netns },
    Attack {
        finding: "9",
        name: "f09_a_bundle_that_names_a_foreign_network_for_its_own",
        by: 'A',
        run: swapped_netns,
    },
    Attack {
        finding: "10",
        name: "f10_an_empty_group_called_like_a_sibling_instance",
        by: 'B',
        run: sibling,
    },
    Attack { finding: "10", name: "f10_a_sibling_instance_in_a_guest", by: 'C', run: sibling_in_guest },
    Attack { finding: "11", name: "f11_a_users_process_called_kubelet", by: 'B', run: kubelet },
    Attack { finding: "12", name: "f12_verify_believes_no_result_of_others", by: 'A', run: verify },
    Attack { finding: "12", name: "f12_report_escapes_what_a_file_of_others_says", by: 'A', run: report },
];

/// Runs python3 in a container of ours, with the host's programs shown in it.
pub fn python(trial: &Trial, id: &str, script: &str, options: &[&str]) -> Result<i32> {
    let mut arguments = vec!["-n", "k8s.io", "run", "-d"];
    let mounts: Vec<String> = ["/usr", "/lib", "/lib64", "/etc"]
        .iter()
        .filter(|path| Path::new(path).exists())
        .map(|path| format!("--mount=type=bind,src={path},dst={path},options=rbind:ro"))
        .collect();
    arguments.extend(mounts.iter().map(String::as_str));
    arguments.extend(options);
    arguments.extend(["docker.io/library/app:1", id, "/usr/bin/python3", "-c", script]);
    let runtime = trial.runtime()?;
    runtime.ctr(&arguments)?;
    container_pid(runtime, "k8s.io", id)
}

fn leaderless(trial: &mut Trial, read_only: bool) -> Result<()> {
    trial.ours()?;
    let pid = python(trial, "leaderless", include_str!("leaderless.py"), &[])?;
    until("the first thread has ended, and another has not", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(status.contains("State:\tZ") && fs::read_dir(format!("/proc/{pid}/task"))?.count() > 1)
    })?;
    if read_only {
        let line = "for at in /sys/fs/cgroup/ /sys/fs/cgroup/*/; do
            mount -o remount,bind,ro $at 2>/dev/null || true; done; exec \"$@\"";
        trial.wrapper = ["/bin/sh", "-ec", line, "sh"].map(str::to_owned).to_vec();
        trial.attackers_own("group /sys/fs/cgroup"); // nobody can remove any
    }
    let mut came = trial.hook()?;
    let alive = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count());
    came.must(alive == 0, format!("LEFT of ours: process {pid}, {alive} threads"));
    came.clean()
}

/// Nothing hostile: names that look like something else.
fn names(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    for name in ["podinfo", "burstable", "besteffort", "kubepods", "x.scope", "a.slice", "snap.service"] {
        let group = format!("/k8s.io/{name}");
        trial.runtime()?.ctr(&[
            "-n",
            "k8s.io",
            "run",
            "-d",
            "--cgroup",
            &group,
            "docker.io/library/app:1",
            name,
            "/app",
            "obedient",
        ])?;
    }
    trial.hook()?.clean()
}

fn hidden_netns(trial: &mut Trial) -> Result<()> {
    let id = trial.ours()?.id.clone();
    forget_results(&id)?;
    Container::of(trial).rewrites(&id, |spec| set_netns(spec, "/run/netns/cni-nothing"))?;
    trial.hook()?.clean_or_doubts(&["cni-nothing"])
}

fn swapped_netns(trial: &mut Trial) -> Result<()> {
    let other = "2222bbbb2222bbbb2222bbbb2222bbbb2222bbbb2222bbbb2222bbbb2222bbbb";
    trial.bystander(Pod::new(other, "cni-22222222-2222-2222-2222-222222222222", "vethother")?);
    let id = trial.ours()?.id.clone();
    let name = "cni-22222222-2222-2222-2222-222222222222";
    Container::of(trial).rewrites(&id, |spec| set_netns(spec, &format!("/var/run/netns/{name}")))?;
    trial.hook()?.doubts(&[name])
}

/// CNI's own results lead to the namespace, too; where they are gone, only the root's own witnesses do.
fn forget_results(id: &str) -> Result<()> {
    sh(&format!("rm -f /var/lib/cni/results/*{id}*")).map(drop)
}

fn set_netns(spec: &mut Value, path: &str) {
    for namespace in spec["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
        if namespace["type"] == "network" {
            namespace["path"] = path.into();
        }
    }
}

fn our_rule() -> Result<()> {
    sh("iptables -A FORWARD -m comment --comment 'generated for MicroK8s pods' -j ACCEPT").map(drop)
}

/// The groups that a user makes by delegation: his from the top of what he was given.
fn sibling(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    our_rule()?;
    User::is_given(User::DELEGATED)?;
    let name = "snap.microk8s_x.a.scope";
    let made = sh(&format!(
        "for at in $(find /sys/fs/cgroup -type d -path '*/{}'); do {} mkdir $at/{name}; echo made; done",
        User::DELEGATED,
        USER.join(" ")
    ))?;
    if !made.contains("made") {
        return Err("he could not make the group".into());
    }
    trial.attackers_own("user.slice");
    trial.hook()?.clean_or_doubts(&[name])
}

fn sibling_in_guest(trial: &mut Trial) -> Result<()> {
    let group = "lxc.payload.guest/system.slice/snap.microk8s_x.daemon-containerd.service";
    let mut command = in_group(group, "unshare")?;
    // unshare stays, and its child is the guest's first process.
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "9999"]);
    let guest = command.stdin(std::process::Stdio::null()).spawn()?;
    until("a guest runs", || Ok(!crate::attackers::children(guest.id())?.is_empty()))?;
    trial.bystander(Lives(guest));
    trial.ours()?;
    our_rule()?;
    trial.hook()?.clean_or_doubts(&["microk8s_x"])
}

fn kubelet(trial: &mut Trial) -> Result<()> {
    fs::create_dir_all("/home/user")?;
    fs::copy("/usr/bin/sleep", "/home/user/kubelet")?;
    fs::set_permissions("/home/user/kubelet", fs::Permissions::from_mode(0o755))?;
    let child = User::command(User::SESSION, &["/home/user/kubelet", "9999"])?.spawn()?;
    until("a process is called kubelet", || {
        Ok(fs::read_to_string(format!("/proc/{}/comm", child.id()))?.trim() == "kubelet")
    })?;
    trial.bystander(Lives(child));
    trial.ours()?;
    trial.hook()?.clean_or_doubts(&["kubelet"])
}

/// The result of a removal, made by a real one, put where a container can write, with its scope emptied.
fn forged_result(trial: &mut Trial, change: impl FnOnce(&mut Value)) -> Result<()> {
    trial.ours()?;
    let came = trial.hook()?;
    let mut document = came.document.clone();
    came.clean()?;
    change(&mut document);
    fs::remove_file(trial.snap.result_file())?;
    let path = trial.snap.common.join("teardown.json");
    fs::write(&path, document.to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(chown(&path, Some(1000), Some(1000))?)
}

fn verify(trial: &mut Trial) -> Result<()> {
    forged_result(trial, |document| {
        document["scope"]["containers"] = json!([]);
        document["scope"]["shims"] = json!([]);
    })?;
    let (status, said) = trial.program(&["verify", "--snap", "microk8s"])?;
    if status == Some(3) { Ok(()) } else { Err(format!("complaint: LIE: verify: {status:?}: {said}").into()) }
}

fn report(trial: &mut Trial) -> Result<()> {
    let evil = "x\u{1b}]0;owned\u{7}\u{1b}[31m\nclean: all is well\u{9b}31m\u{202e}";
    forged_result(trial, |document| {
        document["snap"]["instance"] = evil.into();
        document["notes"] = json!([{"kind": "pods", "text": evil, "items": [evil]}]);
    })?;
    let (status, said) = trial.program(&["report", "--snap", "microk8s"])?;
    let raw = said.chars().filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}').count();
    let faked = said.lines().any(|line| line.starts_with("clean: all is well"));
    if raw == 0 && !faked {
        return Ok(());
    }
    Err(format!("complaint: OUTPUT: {status:?}: {said:?}").into())
}
