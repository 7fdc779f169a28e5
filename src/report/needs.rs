//! What has to be done now, in one word: for scripts that act by it.

use crate::reason::Reason;
use crate::report::note::NoteKind;
use crate::report::{Command, Left, Needs, Outcome, RunFacts, StepReport, What};
use crate::residue::{self, Residue, TableOf};
use crate::scope::Scope;
use crate::scope::held::goes_with;

/// Where nothing outlives a boot.
const VOLATILE: [&str; 2] = ["/run", "/dev/shm"];

impl Needs {
    pub(super) fn of(outcome: Outcome, steps: &[StepReport], facts: &RunFacts, scope: &Scope) -> Needs {
        let left = || steps.iter().flat_map(|s| &s.left);
        let hidden = || steps.iter().flat_map(|s| &s.blind).map(|blind| blind.reason);
        let needs = |what, because: &mut dyn Iterator<Item = Reason>| {
            let because = Reason::each_once(because);
            Needs { what, because }
        };
        if facts.command == Command::Survey {
            // What is there is no fault; what stands in the way of a removal is.
            let at_own = facts.notes.iter().any(|note| note.kind == NoteKind::OwnMounts);
            let on_host = (at_own || left().any(|l| is_on_host(&l.residue))).then_some(Reason::OnHost);
            let found = needs(What::Human, &mut hidden().chain(on_host));
            let what = if found.because.is_empty() { What::None } else { What::Human };
            return Needs { what, ..found };
        }
        let only_reboot = |l: &&Left| l.only_a_reboot_ends(&facts.stuck);
        let of_reboot = || left().filter(only_reboot).map(|l| l.reason);
        let all_end = || left().all(|l| ends_with_the_boot(&l.residue, facts, scope));
        match outcome {
            Outcome::Clean => needs(What::None, &mut std::iter::empty()),
            Outcome::Residue if hidden().next().is_none() && of_reboot().next().is_some() && all_end() => {
                needs(What::Reboot, &mut of_reboot())
            }
            _ => {
                let cut = (outcome == Outcome::Interrupted).then_some(Reason::Interrupted);
                needs(What::Human, &mut left().map(|l| l.reason).chain(hidden()).chain(cut))
            }
        }
    }
}

impl Left {
    /// True if nothing else ends it: it cannot be killed, or who would have to be ended is not known. `stuck` are the
    /// processes that wait in the kernel.
    pub(super) fn only_a_reboot_ends(&self, stuck: &[i32]) -> bool {
        match &*self.residue {
            Residue::Detached(mount) => {
                mount.holders_unknown || mount.holders.iter().any(|h| stuck.contains(&h.process.pid))
            }
            other => other.processes().iter().any(|p| stuck.contains(&p.pid)),
        }
    }
}

fn is_on_host(residue: &Residue) -> bool {
    matches!(residue, Residue::Mount(residue::Mount { table: TableOf::Host, .. }))
}

/// True for what is gone after a boot: of files, those that lie in memory; and those in the snap's own directories if its own
/// hook has left them, or in what a layout shows of these, since with these snapd goes on.
fn ends_with_the_boot(residue: &Residue, facts: &RunFacts, scope: &Scope) -> bool {
    match residue {
        // systemd would start them again.
        Residue::Service(service) => service.is_scope(),
        Residue::RuntimeLeftRunning(_) => false,
        Residue::Mount(_) => !is_on_host(residue),
        Residue::Path(residue::Path { path, .. }) => {
            VOLATILE.iter().any(|top| path.starts_with(top))
                || facts.in_hook
                    && facts.command == Command::Remove
                    && (scope.snap.owns(path)
                        || facts
                            .mounts
                            .as_ref()
                            .is_some_and(|table| goes_with(table, &scope.snap.home, path)))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
