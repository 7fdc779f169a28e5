//! The machine as something to act on, and what acting on it has shown.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result, errno_name, is_refusal};
use crate::linux::holders::{NetnsUsers, Users};
use crate::linux::host::Host;
use crate::linux::interrupts::Interrupts;
use crate::linux::mount_namespace::MountNamespace;
use crate::linux::proc::ProcessId;
use crate::linux::sync::locked;
use crate::remove::ability::{Abilities, Ability, Answer};
use crate::remove::drain::ending::Ending;
use crate::residue::{Detached, Residue};
use crate::runtime::ContainerId;
use crate::snap::Snap;
use crate::snap::profile::{Roots, Services};

/// Proof that we look at the machine itself, and so may act on it; and what a remover needs besides its residue.
pub struct Live {
    /// "/", to read from.
    pub host: Host,
    /// Who asks us to stop.
    pub interrupts: Interrupts,
    pub snap: Snap,
    /// Where it keeps its things.
    pub roots: Roots,
    /// The services that matter for the order.
    pub services: Services,
    /// The snap's mount namespace, when we are outside of it.
    pub snap_namespace: Option<MountNamespace>,
    /// Shown about once a second, while applications are waited for: who they are, and for how long still.
    pub show_waiting: Option<fn(&str)>,
    experience: Mutex<Experience>,
}

/// For how long it is taken as known who uses a network namespace.
const FRESH: Duration = Duration::from_millis(500);

/// What acting on the machine has shown.
#[derive(Default)]
struct Experience {
    abilities: Abilities,
    /// What can no longer be seen and is still there: detached mounts, a runtime that we started.
    remembered: Vec<Residue>,
    held_namespaces: Vec<HeldNamespace>,
    /// When links that lead into removed network namespaces should be gone by themselves.
    links_settled: Option<Instant>,
    /// Who uses which network namespace, and when that was looked up.
    netns_users: Option<(Instant, Users)>,
    /// How containers ended.
    endings: Vec<Ending>,
    /// Groups of ours that we are in ourselves, and could not leave.
    own_groups: Vec<PathBuf>,
    /// Shims that are stopped, and are to be killed or to go on.
    held: HashSet<ProcessId>,
    /// Processes that were opened for a signal, and are to be signalled again or waited for.
    opened: HashMap<ProcessId, OwnedFd>,
}

/// A network namespace that was unbound and that somebody still uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNamespace {
    /// Where it was bound.
    pub path: PathBuf,
    /// Who uses it.
    pub users: Vec<String>,
}

impl Live {
    /// The machine itself, if what we see as /proc is our own PID namespace's: else every PID in it would be
    /// somebody else's to us.
    pub fn new(interrupts: Interrupts, snap: &Snap, roots: Roots, services: &Services) -> Result<Live> {
        let own = std::fs::read_link("/proc/self").ok().and_then(|p| p.to_str()?.parse::<u32>().ok());
        if own != Some(std::process::id()) {
            return Err(Error::NotStarted(
                "/proc is not mounted, or not that of our own PID namespace".into(),
            ));
        }
        Ok(Live {
            host: Host::live(),
            interrupts,
            snap: snap.clone(),
            roots,
            services: services.clone(),
            snap_namespace: None,
            show_waiting: None,
            experience: Mutex::default(),
        })
    }

    fn experience(&self) -> MutexGuard<'_, Experience> {
        locked(&self.experience)
    }

    /// What was tried so far, and what confinement said.
    pub fn abilities(&self) -> Abilities {
        self.experience().abilities.clone()
    }

    /// Notes how an attempt went. "Gone" tells nothing about what is allowed.
    pub fn tried(&self, ability: Ability, result: std::result::Result<(), Errno>) {
        let abilities = &mut self.experience().abilities;
        match result {
            Ok(()) => drop(abilities.entry(ability).or_insert(Answer::Granted)),
            Err(errno) if is_refusal(errno) => {
                abilities.insert(ability, Answer::Refused(errno_name(errno)));
            }
            Err(_) => {}
        }
    }

    /// True if it was tried, and never refused.
    pub fn granted(&self, ability: Ability) -> bool {
        self.experience().abilities.get(&ability) == Some(&Answer::Granted)
    }

    /// True if it was tried and refused.
    pub fn refused(&self, ability: Ability) -> bool {
        matches!(self.experience().abilities.get(&ability), Some(Answer::Refused(_)))
    }

    /// What no look can see any more.
    pub fn remembered(&self) -> Vec<Residue> {
        self.experience().remembered.clone()
    }

    /// Keeps a residue in mind that no later look can see, once: mounts may have been stacked, and each attempt on one
    /// may leave a child that hangs.
    pub fn remember(&self, mut residue: Residue) {
        let remembered = &mut self.experience().remembered;
        let key = residue.key();
        if let Some(at) = remembered.iter().position(|known| known.key() == key)
            && let (Residue::Detached(new), Residue::Detached(known)) = (&mut residue, remembered.remove(at))
        {
            let Detached { holders, holders_unknown, .. } = *known;
            new.holders.extend(holders);
            new.holders_unknown |= holders_unknown;
        }
        remembered.push(residue);
    }

    /// Who uses a network namespace: looked up for all of them at once, and again when that is no longer fresh.
    pub fn users_of_netns(&self, inode: u64, search: fn() -> Users) -> NetnsUsers {
        let known = &mut self.experience().netns_users;
        let fresh = known.take().filter(|(at, _)| at.elapsed() < FRESH);
        let (at, users) = fresh.unwrap_or_else(|| (Instant::now(), search()));
        let found = users.get(&inode).cloned().unwrap_or_default();
        *known = Some((at, users));
        found
    }

    /// Keeps in mind who keeps a network namespace alive that was just unbound.
    pub fn note_users_of_netns(&self, path: &Path, users: Vec<String>) {
        self.experience().held_namespaces.push(HeldNamespace { path: path.to_path_buf(), users });
    }

    /// The network namespaces that were unbound and that somebody still uses.
    pub fn held_namespaces(&self) -> Vec<HeldNamespace> {
        self.experience().held_namespaces.clone()
    }

    /// Notes how a container ended.
    pub fn note_ending(&self, ending: Ending) {
        self.experience().endings.push(ending);
    }

    /// True if it was asked to end, and has had its time.
    pub fn has_ending(&self, container: &ContainerId) -> bool {
        self.experience().endings.iter().any(|known| known.container == *container)
    }

    /// How containers ended.
    pub fn endings(&self) -> Vec<Ending> {
        self.experience().endings.clone()
    }

    /// When links that lead into removed network namespaces should be gone by themselves.
    pub fn links_settled(&self) -> Option<Instant> {
        self.experience().links_settled
    }

    /// The kernel removes the links of a namespace that nobody uses by then.
    pub fn links_settle_by(&self, until: Instant) {
        self.experience().links_settled = Some(until);
    }

    /// A shim is stopped. It stays open, if no more than so many do.
    pub fn note_held(&self, shim: ProcessId, opened: Option<OwnedFd>, most: usize) {
        let experience = &mut *self.experience();
        experience.held.insert(shim);
        let opened = opened.filter(|_| experience.opened.len() < most);
        experience.opened.extend(opened.map(|opened| (shim, opened)));
    }

    /// True if a process was stopped: it has been killed, or is about to go on.
    pub fn forget_held(&self, process: ProcessId) -> bool {
        self.experience().held.remove(&process)
    }

    /// The shims that are stopped.
    pub fn held(&self) -> Vec<ProcessId> {
        self.experience().held.iter().copied().collect()
    }

    /// True if any shim is stopped.
    pub fn holds_any(&self) -> bool {
        !self.experience().held.is_empty()
    }

    /// Keeps a process open that is to be signalled or waited for.
    pub fn keep_open(&self, process: ProcessId, opened: OwnedFd) {
        self.experience().opened.insert(process, opened);
    }

    /// A process that was kept open.
    pub fn take_open(&self, process: ProcessId) -> Option<OwnedFd> {
        self.experience().opened.remove(&process)
    }

    /// We are in this control group, and cannot leave it.
    pub fn stays_in(&self, group: PathBuf) {
        self.experience().own_groups.push(group);
    }

    /// True if a control group or one below it holds ourselves: it cannot be ended as a whole.
    pub fn is_inside(&self, group: &Path) -> bool {
        self.experience().own_groups.iter().any(|own| own.starts_with(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::linux::holders::Holder;

    #[test]
    fn a_detached_mount_is_remembered_once_with_all_its_holders() {
        let live = fixture::live();
        let detached = |pid, holders_unknown| {
            let holder = Holder { process: ProcessId { pid, start: 1 }, comm: "x".into(), uid: 0 };
            let (point, fstype) = ("/v".into(), "ext4".into());
            Residue::Detached(Box::new(Detached { point, fstype, holders: vec![holder], holders_unknown }))
        };
        live.remember(detached(2, true));
        live.remember(detached(3, false));
        let remembered = live.remembered();
        let [Residue::Detached(detached)] = &remembered[..] else { panic!("{remembered:?}") };
        assert!(detached.holders_unknown);
        assert_eq!(detached.holders.iter().map(|h| h.process.pid).collect::<Vec<_>>(), [3, 2]);
    }
}
