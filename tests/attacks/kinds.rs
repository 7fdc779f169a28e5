//! More of the same kinds: groups, shims, threads, names, and too much of everything.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::attackers::{Container, User};
use crate::bystanders::{Lives, Process, Same, result, until, write};
use crate::lies::python;
use crate::trial::{Attack, Trial};
use support::runtime::in_group;
use support::{Result, built, sh};

pub const ALL: &[Attack] = &[
    Attack { finding: "+1", name: "more_groups_of_all_managers_named_by_bundles", by: 'A', run: managers },
    Attack { finding: "+1", name: "more_a_bundle_whose_files_are_the_hosts_root", by: 'A', run: root_binds },
    Attack {
        finding: "+1",
        name: "more_a_container_in_the_hosts_processes_poses_as_a_shim",
        by: 'A',
        run: host_pid_shim,
    },
    Attack {
        finding: "+1",
        name: "more_a_guests_pod_in_the_guests_processes_reads_like_ours",
        by: 'A',
        run: host_pid_guest,
    },
    Attack {
        finding: "+1",
        name: "more_a_runc_state_where_a_container_can_write",
        by: 'A',
        run: planted_state,
    },
    Attack {
        finding: "+4",
        name: "more_a_root_of_a_user_namespace_poses_as_a_shim",
        by: 'B',
        run: namespace_root,
    },
    Attack {
        finding: "+7",
        name: "more_a_child_in_the_hosts_processes_whose_first_thread_has_ended",
        by: 'A',
        run: leaderless_child,
    },
    Attack {
        finding: "+8",
        name: "more_groups_of_others_names_below_a_container_of_ours",
        by: 'A',
        run: nested_groups,
    },
    Attack {
        finding: "+12",
        name: "more_a_result_directory_that_a_user_has_made",
        by: 'B',
        run: result_directory,
    },
    Attack {
        finding: "+13",
        name: "more_sigterm_while_it_goes_through_ten_thousand_bundles",
        by: 'A',
        run: terminated,
    },
    Attack { finding: "+14", name: "more_thousands_of_stray_files", by: 'A', run: strays },
    Attack { finding: "+17", name: "more_names_that_speak_to_the_terminal", by: 'A', run: names },
];

/// An ID of the usual shape.
pub const ID: &str = "3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc";

/// What a bundle is called, and the group that it names, as its manager shapes it.
const GROUPS: [(&str, &str); 18] = [
    ("ssh.service", "/system.slice/ssh.service"),
    ("ssh", "/system.slice/ssh"),
    ("snap.other.daemon.service", "/system.slice/snap.other.daemon.service"),
    ("daemon", "/system.slice/snap.other2:daemon"),
    ("init.scope", "/init.scope"),
    ("4711", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4711.scope"),
    ("8c7b", "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-8c7b"),
    ("vm1", "/machine.slice/machine-qemu-1-vm1"),
    (ID, "/system.slice/docker-3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc.scope"),
    (ID, "/machine.slice/libpod-3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc.scope"),
    (
        ID,
        "/machine.slice/libpod-conmon-3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc.scope",
    ),
    (ID, "/docker/3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc"),
    (ID, "/system.slice/nerdctl-3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc.scope"),
    (ID, "/kubepods.slice/crio-3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc.scope"),
    (
        ID,
        "/kubepods/besteffort/pod-of-others/3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc",
    ),
    (
        ID,
        "/kubepods.slice/cri-containerd-3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc3333cccc.scope",
    ),
    ("guest", "/lxc.payload.guest"),
    ("guest2", "/lxc.payload/guest2"),
];

/// Each in a bundle of its own; those of one ID in namespaces of their own, as containerd has them.
fn managers(trial: &mut Trial) -> Result<()> {
    for (_, group) in GROUPS {
        trial.bystander(Process::in_group(group.trim_start_matches('/'))?);
    }
    trial.ours()?;
    for (number, (id, group)) in GROUPS.iter().enumerate() {
        let namespace = if *id == ID { format!("n{number}") } else { "k8s.io".into() };
        let spec = json!({"linux": {"cgroupsPath": group}}).to_string();
        write(&trial.tasks().join(namespace).join(id).join("config.json").display().to_string(), &spec)?;
    }
    trial.hook()?.doubts(&["docker-3333", "k8s.io/ssh", ID])
}

fn root_binds(trial: &mut Trial) -> Result<()> {
    write("/srv/precious/file", "not ours")?;
    sh("mkdir /srv/disk; mount -t tmpfs x /srv/disk; echo not ours >/srv/disk/file")?;
    trial.bystander(Same::of("grep -r . /srv/precious /srv/disk; grep -c . /etc/passwd")?);
    trial.ours()?;
    let binds = ["/", "/srv/disk", "/srv/precious"]
        .map(|path| json!({"type": "bind", "source": path, "destination": path, "options": ["rbind"]}));
    let bundle = Container::of(trial).plants("evil")?;
    let bundle = bundle.spec(json!({"root": {"path": "/"}, "mounts": binds}))?;
    for name in ["rootfs", "work"] {
        symlink("/srv/precious", bundle.path().join(name))?;
    }
    trial.hook()?.clean_or_doubts(&["evil"])
}

/// Root, of our own PID namespace, its working directory a bundle with mode 0700: made by a container with a volume.
fn host_pid_shim(trial: &mut Trial) -> Result<()> {
    trial.bystander(Process::of_user(User::SESSION)?);
    result("k3s", "eth0", "x", json!([]))?;
    result("k3s", ID, "eth0", json!([]))?;
    trial.bystander(Same::of("find /var/lib/cni -name 'k3s-*' | sort")?);
    trial.ours()?;
    let address = trial.runtime()?.layout.socket.display().to_string();
    let actor = Container::of(trial);
    for name in ["3", "eth0"] {
        let bundle = actor.plants(name)?.group(&format!("/{}", User::SESSION))?;
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o700))?;
        let script = format!(
            "import os; os.chdir('/common/run/containerd/io.containerd.runtime.v2.task/k8s.io/{name}')
os.execv('/usr/bin/python3', ['containerd-shim-runc-v2', '-c', 'import time; time.sleep(9999)', '-namespace', 'k8s.io',
    '-id', '{name}', '-address', '{address}'])"
        );
        let volume =
            format!("--mount=type=bind,src={},dst=/common,options=rbind:rw", trial.snap.common.display());
        let options = ["--with-ns", "pid:/proc/1/ns/pid", &volume];
        let pid = python(trial, &format!("poser{name}"), &script, &options)?;
        until("it poses", || Ok(fs::read(format!("/proc/{pid}/cmdline"))?.starts_with(b"containerd-shim")))?;
    }
    trial.hook()?.doubts(&["session-3", "k8s.io/3"])
}

/// A guest with the same snap, and its pod with `hostPID`: one process namespace below us, and by its path on our snapshots.
fn host_pid_guest(trial: &mut Trial) -> Result<()> {
    let app = built("app")?.display().to_string();
    let script = format!(
        "mount -t tmpfs x /var/snap
        at=/var/snap/microk8s/common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1
        mkdir -p $at/fs $at/work $at/lower $at/root; cp {app} $at/lower/app
        for h in /sys/fs/cgroup /sys/fs/cgroup/*; do
            [ ! -d $h/lxc.payload.guest ] || (mkdir -p $h/lxc.payload.guest/kubepods/pod1/{ID}) || true; done
        unshare --mount sh -ec \"for h in /sys/fs/cgroup/lxc.payload.guest /sys/fs/cgroup/*/lxc.payload.guest; do
                [ ! -d \\$h ] || echo \\$\\$ >\\$h/kubepods/pod1/{ID}/cgroup.procs; done
            mount -t overlay overlay -o lowerdir=$at/lower,upperdir=$at/fs,workdir=$at/work $at/root
            exec chroot $at/root /app obedient\" &
        wait"
    );
    let mut command = in_group("lxc.payload.guest", "unshare")?;
    command.args(["--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", &script]);
    let guest = command.stdin(std::process::Stdio::null()).spawn()?;
    until("the guest's pod runs", || {
        Ok(sh(&format!(
            "for p in $(find /sys/fs/cgroup -path '*/pod1/{ID}/cgroup.procs' -exec cat {{}} +); do cat /proc/$p/comm 2>/dev/null || true; done"
        ))?
        .contains("app"))
    })?;
    trial.bystander(Lives(guest));
    trial.ours()?;
    trial.hook()?.clean()
}

/// runc's states are believed since only root can make them: these lie where a container can write.
fn planted_state(trial: &mut Trial) -> Result<()> {
    let session = Process::of_user(User::SESSION)?;
    let pid = session.pid();
    trial.bystander(session);
    trial.ours()?;
    let bundle = Container::of(trial).plants("3")?.group(&format!("/{}", User::SESSION))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let start: u64 = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok())
        .ok_or("no start")?;
    let state = json!({
        "id": "3", "init_process_pid": pid, "init_process_start": start, "cgroup_paths": {"": format!("/sys/fs/cgroup/{}", User::SESSION)},
        "config": {"labels": [format!("bundle={}", bundle.path().display())], "namespaces": []}
    });
    for below in ["run/containerd/runc/k8s.io/3", "run/containerd/runc/3", "run/runc/k8s.io/3"] {
        write(&trial.snap.common.join(below).join("state.json").display().to_string(), &state.to_string())?;
    }
    // "run/runc" is no place of containerd's, and stays with the snap's data.
    trial.hook()?.doubts(&["session-3", "k8s.io/3"])
}

fn namespace_root(trial: &mut Trial) -> Result<()> {
    result("k3s", ID, "eth0", json!([]))?;
    trial.bystander(Same::of("find /var/lib/cni -name 'k3s-*'")?);
    trial.ours()?;
    let pid = User::poses_as_shim(trial, "unshare -Ur", "eth0")?;
    trial.attackers_own("python3");
    trial.attackers_own("user.slice");
    trial.hook()?.clean_or_doubts(&["eth0", &pid.to_string()])
}

/// With a container's first process the rest of its PID namespace ends; not so in the host's.
fn leaderless_child(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    let script = format!(
        "import os, signal\nif os.fork() == 0:\n    exec({:?})\nsignal.pause()",
        include_str!("leaderless.py")
    );
    let pid = python(trial, "leaderless", &script, &["--with-ns", "pid:/proc/1/ns/pid"])?;
    let mut child = 0;
    until("the child's first thread has ended", || {
        let Some(pid) = crate::attackers::children(u32::try_from(pid)?)?.first().copied() else {
            return Ok(false);
        };
        child = pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(status.contains("State:\tZ") && fs::read_dir(format!("/proc/{pid}/task"))?.count() > 1)
    })?;
    // Its shim would end all of the group when the first process ends, if it came to that before its own end.
    let runtime = trial.runtime.as_mut().ok_or("no runtime")?;
    runtime.kill()?;
    for shim in runtime.shims()? {
        if fs::read(format!("/proc/{shim}/cmdline"))?
            .split(|byte| *byte == 0)
            .any(|word| word == b"leaderless")
        {
            kill(Pid::from_raw(shim), Signal::SIGKILL)?;
            until("the shim has ended", || Ok(!Path::new(&format!("/proc/{shim}")).exists()))?;
        }
    }
    let mut came = trial.hook()?;
    let alive = fs::read_dir(format!("/proc/{child}/task")).map_or(0, |tasks| tasks.count());
    came.must(alive == 0, format!("LEFT of ours: process {child}, {alive} threads"));
    came.clean()
}

fn nested_groups(trial: &mut Trial) -> Result<()> {
    let container = trial.ours()?.containers.first().ok_or("no container")?.id.clone();
    let made = sh(&format!(
        "for at in $(find /sys/fs/cgroup -type d -name '*{container}*'); do
            mkdir -p $at/kubepods/besteffort/pod-of-others/{ID} $at/system.slice/ssh.service; echo made
         done"
    ))?;
    if !made.contains("made") {
        return Err("no group of the container's".into());
    }
    trial.hook()?.clean()
}

/// /run is root's, but for what was there before; a result goes where only root reads it, or elsewhere.
fn result_directory(trial: &mut Trial) -> Result<()> {
    write("/srv/precious/file", "not ours")?;
    trial.bystander(Same::of("stat -c '%a %U %s' /srv/precious/file; cat /srv/precious/file")?);
    trial.ours()?;
    fs::DirBuilder::new().mode(0o777).create("/run/snap.microk8s")?;
    fs::set_permissions("/run/snap.microk8s", fs::Permissions::from_mode(0o777))?;
    chown("/run/snap.microk8s", Some(1000), Some(1000))?;
    for name in ["teardown.json", "teardown.lock", ".teardown.json", "teardown.json.new", "teardown.json.tmp"]
    {
        symlink("/srv/precious/file", Path::new("/run/snap.microk8s").join(name))?;
    }
    trial.hook()?.ends(&[0, 3], &[])
}

fn terminated(trial: &mut Trial) -> Result<()> {
    trial.bystander(Process::of_user(User::SESSION)?);
    trial.ours()?;
    let actor = Container::of(trial);
    let first = actor.plants("evil0")?.group(&format!("/{}", User::SESSION))?;
    for n in 1..10_000 {
        let bundle = actor.plants(&format!("evil{n}"))?;
        fs::hard_link(first.path().join("config.json"), bundle.path().join("config.json"))?;
    }
    trial.attackers_own(""); // whatever is left is told: see the status
    trial.terminate = Some(std::time::Duration::from_millis(500));
    let mut came = trial.hook()?;
    let outcome = came.document["outcome"].as_str().unwrap_or_default().to_owned();
    came.must(
        ["interrupted", "residue"].contains(&outcome.as_str()),
        format!("LIE: it was interrupted, and says {outcome:?}"),
    );
    came.ends(&[1, 3], &[])
}

fn strays(trial: &mut Trial) -> Result<()> {
    trial.ours()?;
    let at = trial.tasks();
    for n in 0..20_000 {
        fs::write(at.join(format!("k8s.io/stray-{n}")), "")?;
        fs::write(at.join(format!("stray-{n}")), "")?;
    }
    trial.hook()?.clean()
}

/// In every place that a container chooses a name for, and that reaches terminal, journal or document.
fn names(trial: &mut Trial) -> Result<()> {
    trial.bystander(Process::of_user(User::SESSION)?);
    trial.ours()?;
    let evil = "x\u{1b}]0;owned\u{7}\u{1b}[31m\nclean: all is well\u{9b}\u{202e}";
    let tasks = trial.tasks();
    for namespace in ["k8s.io", evil] {
        let spec = json!({
            "linux": {"cgroupsPath": format!("/{}", User::SESSION), "namespaces": [{"type": "network", "path": format!("/run/netns/{evil}")}]},
            "annotations": {"io.kubernetes.cri.sandbox-name": evil, "io.kubernetes.cri.sandbox-namespace": evil,
                "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": evil}
        });
        write(
            &tasks.join(namespace).join(evil).join("config.json").display().to_string(),
            &spec.to_string(),
        )?;
    }
    let held = trial.snap.common.join("var/lib/kubelet/pods").join(evil).join("volumes/held");
    fs::create_dir_all(&held)?;
    support::world::mount_new("tmpfs", &held, nix::mount::MsFlags::empty(), "")?;
    let script = format!(
        "import ctypes, signal; ctypes.CDLL(None).prctl(15, b'\\x1b[31m\\nclean:'); signal.pause() # {}",
        evil.len()
    );
    python(trial, "evil-name", &script, &[])?;
    let mut came = trial.hook()?;
    let (_, said) = trial.program(&["report", "--snap", "microk8s"])?;
    for text in [said, came.output.clone()] {
        let faked = text.lines().any(|line| line.starts_with("clean: all is well"));
        let raw = text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}');
        came.must(!raw && !faked, format!("OUTPUT: {text:?}"));
    }
    came.clean_or_doubts(&["owned"])
}
