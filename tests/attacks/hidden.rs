//! What confinement hides (plug set A: the namespaces and roots of others, and the mount tables of other users), and what has
//! gone on purpose: nobody may be silent about what then cannot be told, nor stopped by it for ever.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::attackers::Container;
use crate::bystanders::{Process, until};
use crate::kinds::ID;
use crate::lies::python;
use crate::trial::{Attack, Trial};
use support::{Result, sh};

pub const ALL: &[Attack] = &[
    Attack { finding: "+1", name: "more_a_hidden_process_with_a_parent_elsewhere", by: 'A', run: bystander },
    Attack { finding: "+7", name: "more_a_hidden_orphan_of_a_user", by: 'A', run: users_orphan },
    Attack { finding: "+7", name: "more_a_hidden_orphan_of_roots", by: 'A', run: roots_orphan },
    Attack { finding: "+7", name: "more_an_orphan_that_has_changed_its_root", by: 'A', run: changed_root },
];

/// The hook may not look into other processes, and these mount tables are refused, as AppArmor refuses those of others' users.
fn hide(trial: &mut Trial, tables: &[i32]) {
    let words = "setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace";
    let strace = "strace -f -qq --output=/dev/null -e trace=openat -e inject=openat:error=EACCES";
    let mut wrapper: Vec<String> = words.split(' ').map(str::to_owned).collect();
    if !tables.is_empty() {
        wrapper.extend(strace.split(' ').map(str::to_owned));
        let refused =
            tables.iter().flat_map(|pid| ["mountinfo", "cgroup"].map(|f| format!("/proc/{pid}/{f}")));
        wrapper.extend(refused.flat_map(|file| ["-P".to_owned(), file]));
    }
    trial.wrapper = wrapper;
}

/// A process of another user in a group that root has made, which a planted bundle names: a guest's, say.
fn bystander(trial: &mut Trial) -> Result<()> {
    let guest = Process::of_user("lxc/web")?;
    let pid = i32::try_from(guest.pid())?;
    trial.bystander(guest);
    trial.ours()?;
    Container::of(trial).plants("web")?.group("/lxc/web")?;
    hide(trial, &[pid]);
    trial.hook()?.doubts(&["lxc/web"])
}

/// A container's process of which nothing is left but itself and its group.
fn orphan(trial: &mut Trial, id: &str, group: &str, script: &str, options: &[&str]) -> Result<i32> {
    trial.ours()?;
    let pid = python(trial, id, script, &[&["--cgroup", group], options].concat())?;
    let runtime = trial.runtime.as_mut().ok_or("no runtime")?;
    runtime.kill()?;
    for shim in runtime.shims()? {
        if fs::read(format!("/proc/{shim}/cmdline"))?
            .split(|byte| *byte == 0)
            .any(|word| word == id.as_bytes())
        {
            kill(Pid::from_raw(shim), Signal::SIGKILL)?;
            until("the shim has ended", || Ok(!Path::new(&format!("/proc/{shim}")).exists()))?;
        }
    }
    let common = trial.snap.common.display().to_string();
    sh(&format!(
        "for at in $(find {common} /run/containerd -depth -type d -path '*/k8s.io/{id}'); do
            [ ! -e $at/address ] || rm -f $(sed s,unix://,, $at/address)
            umount $at/rootfs 2>/dev/null || true; rm -r $at; done"
    ))?;
    Ok(pid)
}

fn users_orphan(trial: &mut Trial) -> Result<()> {
    let pid = orphan(trial, "web", "/odd/web", "import os, time; os.setuid(1000); time.sleep(9999)", &[])?;
    until(
        "it is a user's",
        || Ok(fs::read_to_string(format!("/proc/{pid}/status"))?.contains("Uid:\t1000")),
    )?;
    hide(trial, &[pid]);
    for part in ["/odd", "python3", "/web-std"] {
        trial.attackers_own(part);
    }
    trial.hook()?.doubts(&[&format!("process {pid} ")])
}

/// Its mount table can be read, and not its user namespace.
fn roots_orphan(trial: &mut Trial) -> Result<()> {
    let pid = orphan(trial, "web", "/odd/web", "import time; time.sleep(9999)", &["--privileged"])?;
    hide(trial, &[]);
    trial.attackers_own(""); // what is not removed for its sake is told
    trial.hook()?.ends(&[1, 3], &[&format!("process {pid} ")])
}

/// Every container may change its root (CAP_SYS_CHROOT); then no mount table shows where it was.
fn changed_root(trial: &mut Trial) -> Result<()> {
    let group = format!("/odd/{ID}");
    let script = "import os, time; os.mkdir('/new'); os.chroot('/new'); os.chdir('/'); time.sleep(9999)";
    let pid = orphan(trial, ID, &group, script, &[])?;
    until("it has changed its root", || Ok(fs::read_link(format!("/proc/{pid}/root"))?.ends_with("new")))?;
    for part in [ID, "/odd", "python3"] {
        trial.attackers_own(part);
    }
    trial.hook()?.doubts(&[ID])
}
