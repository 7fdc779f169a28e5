//! The machine as something to act on, and what was found out by trying.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, errno_name};
use crate::host::Host;
use crate::namespace::SnapNamespace;
use crate::notes::Note;
use crate::remove::netns::Users;
use crate::report::Advice;
use crate::residue::Residue;
use crate::sys::Interrupts;

/// Proof that we look at the machine itself, and so may act on it.
pub struct Live {
    /// "/", to read from.
    pub host: Host,
    /// Who asks us to stop.
    pub interrupts: Interrupts,
    /// What confinement grants and refuses, as found out by trying.
    pub abilities: Mutex<Abilities>,
    /// What can no longer be seen and is still there: detached mounts, a runtime that we started.
    pub remembered: Mutex<Vec<Residue>>,
    /// What the user should know of how it went.
    pub notes: Mutex<Vec<Note>>,
    /// When links that lead into removed network namespaces should be gone by themselves.
    pub links_settled: Mutex<Option<Instant>>,
    /// Who uses which network namespace; looked up once.
    pub netns_users: Mutex<Option<Users>>,
    /// Groups of ours that we are in ourselves, and could not leave.
    pub own_groups: Mutex<Vec<PathBuf>>,
    /// The snap's mount namespace, when we are outside of it.
    pub snap_namespace: Option<SnapNamespace>,
}

/// What confinement may grant or refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// Signal a shim directly.
    SignalShim,
    /// Signal a sandbox's process directly.
    SignalSandbox,
    /// Signal an application's process directly.
    SignalApplication,
    /// Signal a service's process directly.
    SignalService,
    /// Ask a shim over its ttrpc socket.
    AskShim,
    /// Write `cgroup.kill`, and remove groups.
    WriteCgroups,
    /// Read and remove what runc and containerd keep under /run/containerd.
    RuntimeState,
    /// Unmount.
    Unmount,
    /// Talk to snapd.
    Snapctl,
    /// Remove links.
    RemoveLinks,
    /// Change firewall rules.
    ChangeRules,
}

impl Ability {
    /// What would allow this, if it was refused.
    pub fn allowed_with(self, answer: &Answer) -> Option<Advice> {
        let Answer::Refused(errno) = answer else { return None };
        let (what, with) = match self {
            Ability::SignalShim | Ability::SignalSandbox | Ability::SignalService => {
                ("signalling", "the plug process-control on the hook")
            }
            Ability::SignalApplication => (
                "signalling applications",
                "the line 'signal (receive) peer=snap.<name>.hook.remove,' in the pods' AppArmor profile",
            ),
            Ability::AskShim => ("asking shims", "the plug docker-support on the hook"),
            Ability::WriteCgroups => {
                ("writing control groups", "the plug docker-support (privileged-containers) on the hook")
            }
            Ability::RuntimeState => ("/run/containerd", "the plug docker-support on the hook"),
            Ability::Unmount => ("unmounting", "the plug kubernetes-support or docker-support on the hook"),
            Ability::Snapctl => ("snapctl", "a run within the snap's hook"),
            Ability::RemoveLinks => ("removing links", "the plug network-control on the hook"),
            Ability::ChangeRules => ("changing firewall rules", "the plug firewall-control on the hook"),
        };
        Some(Advice::Allow { refused: format!("{what} ({errno})"), with: with.into() })
    }
}

/// Granted or refused; one refusal among grants is shown as a refusal, with what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It worked whenever it was tried.
    Granted,
    /// It was refused at least once, with this errno.
    Refused(String),
}

/// Everything that was tried.
pub type Abilities = BTreeMap<Ability, Answer>;

impl Live {
    /// The machine itself, if what we see as /proc is our own PID namespace's: else every PID in it would be
    /// somebody else's to us.
    pub fn new(interrupts: Interrupts) -> Result<Live> {
        let own = std::fs::read_link("/proc/self").ok().and_then(|p| p.to_str()?.parse::<u32>().ok());
        if own != Some(std::process::id()) {
            return Err(Error::Usage("/proc is not mounted, or not that of our own PID namespace".into()));
        }
        Ok(Live {
            host: Host::live(),
            interrupts,
            abilities: Mutex::default(),
            remembered: Mutex::default(),
            notes: Mutex::default(),
            links_settled: Mutex::default(),
            netns_users: Mutex::default(),
            own_groups: Mutex::default(),
            snap_namespace: None,
        })
    }

    /// Notes how an attempt went. "Gone" tells nothing about what is allowed.
    pub fn tried(&self, ability: Ability, result: std::result::Result<(), i32>) {
        let mut abilities = lock(&self.abilities);
        match result {
            Ok(()) => drop(abilities.entry(ability).or_insert(Answer::Granted)),
            Err(errno) if is_refusal(errno) => {
                abilities.insert(ability, Answer::Refused(errno_name(errno)));
            }
            Err(_) => {}
        }
    }

    /// True if it was tried and refused.
    pub fn refused(&self, ability: Ability) -> bool {
        matches!(lock(&self.abilities).get(&ability), Some(Answer::Refused(_)))
    }

    /// Keeps something in mind that the user should know.
    pub fn note(&self, note: Note) {
        lock(&self.notes).push(note);
    }

    /// Keeps a residue in mind that no later look can see, once: mounts may have been stacked, and each attempt on one
    /// may leave a child that hangs.
    pub fn remember(&self, mut residue: Residue) {
        let mut remembered = lock(&self.remembered);
        let key = residue.key();
        if let Some(at) = remembered.iter().position(|known| known.key() == key) {
            let known = remembered.remove(at);
            if let (
                Residue::Detached { holders, holders_unknown, .. },
                Residue::Detached { holders: more, holders_unknown: unknown, .. },
            ) = (&mut residue, known)
            {
                holders.extend(more);
                *holders_unknown |= unknown;
            }
        }
        remembered.push(residue);
    }
}

/// True for the errors by which confinement, not the thing itself, says no.
pub fn is_refusal(errno: i32) -> bool {
    use nix::libc::{EACCES, ENOSYS, EPERM, EROFS};
    matches!(errno, EACCES | EPERM | EROFS | ENOSYS)
}

/// A panic while the lock was held aborts the process, so a poisoned lock cannot be met.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::residue::{Holder, ProcessId};

    #[test]
    fn a_detached_mount_is_remembered_once_with_all_its_holders() {
        let live = Live::new(Interrupts::take().unwrap()).unwrap();
        let detached = |pid, holders_unknown| Residue::Detached {
            point: "/v".into(),
            fstype: "ext4".into(),
            holders: vec![Holder { process: ProcessId { pid, start: 1 }, comm: "x".into(), uid: 0 }],
            holders_unknown,
        };
        live.remember(detached(2, true));
        live.remember(detached(3, false));
        let remembered = lock(&live.remembered);
        let [Residue::Detached { holders, holders_unknown: true, .. }] = &remembered[..] else {
            panic!("{remembered:?}")
        };
        assert_eq!(holders.iter().map(|h| h.process.pid).collect::<Vec<_>>(), [3, 2]);
    }
}
