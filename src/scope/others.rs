//! Containers in directories that runtimes share whose living shims say that they are another's.

use super::gather::Gather;
use crate::linux::proc::Proc;
use crate::runtime::processes::Processes;
use crate::runtime::{ContainerId, short};
use crate::scope::{Bystander, BystanderKind, Container};
use crate::snap::profile::is_shared;

/// Processes of a container are no deeper below its shim.
const MAX_DEEP: usize = 1000;

impl Gather<'_> {
    /// The shim by which a container is another's: each process in its group descends from one that runs in another's unit. No
    /// container of ours can make that so, for it can neither choose its shim's unit nor become a child of another's shim. In a
    /// directory that is the snap's alone, a bundle that claims such a container contradicts that, and is a doubt.
    pub(super) fn anothers_shim(
        &self,
        container: &Container,
        alive: &[&Proc],
        processes: &Processes,
    ) -> Option<i32> {
        if container.is_proven() || !is_shared(&self.roots.state) {
            return None;
        }
        let shim_of = |process: &Proc| {
            let mut above = process.parent;
            for _ in 0..MAX_DEEP {
                if self.anothers_shims.contains(&above) {
                    return Some(above);
                }
                above = processes.get(above)?.parent;
            }
            None
        };
        let mut first = None;
        for process in alive {
            first = first.or(Some(shim_of(process)?));
        }
        first
    }

    /// Leaves a container to another. Nothing that bears its ID is ours.
    pub(super) fn leave(&mut self, id: &ContainerId, shim: i32) {
        if self.anothers.contains(id) {
            return;
        }
        self.anothers.push(id.clone());
        self.note_foreign(id);
        let of_shim = format!("the shim {shim}");
        let unit = self.bystanders.iter().find(|bystander| bystander.what == of_shim);
        let why = format!("{of_shim} is above it, of which: {}", unit.map_or("", |bystander| &bystander.why));
        let what = format!("the container {}", short(&id.id));
        self.bystanders.push(Bystander::anothers(BystanderKind::Container, what, why));
    }
}

#[cfg(test)]
mod tests;
