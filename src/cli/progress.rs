//! One line on standard error that says what is waited for, while it is waited for; on a terminal only.

use std::io::{IsTerminal, Write};

use crate::cli::page::Page;
use crate::engine::step::{Effort, Step, StepName};
use crate::order;
use crate::residue::Residue;
use crate::text::printable;

/// The line.
pub struct Progress {
    shown: bool,
    terminal: bool,
}

impl Progress {
    /// Nothing yet.
    pub fn new() -> Progress {
        Progress { shown: false, terminal: std::io::stderr().is_terminal() }
    }

    /// Says what is done now, in place of what was done before.
    pub fn tell(&mut self, step: &Step, residues: &[Residue], effort: Effort) {
        if !self.terminal {
            return;
        }
        show(&line(step, residues, effort));
        self.shown = true;
    }

    /// What shows whom a step still waits for, in place of what was told of the step.
    pub fn show_waiting(&self) -> Option<fn(&str)> {
        self.terminal.then_some(show)
    }
}

fn show(line: &str) {
    // A line that goes on in the next one could not be taken back.
    let width = Page::of_output().width.saturating_sub(2);
    let line: String = printable(line).chars().take(width).collect();
    let _ = write!(std::io::stderr(), "\r\x1b[K{line} ");
}

/// What is waited for, with the pods by name.
fn line(step: &Step, residues: &[Residue], effort: Effort) -> String {
    const MAX_NAMED: usize = 3;
    let what = match effort {
        Effort::Ask if step.name == StepName::Drain => "asked to end, each within its grace",
        Effort::Ask => "asked to end",
        Effort::Force | Effort::Last => "to remove",
    };
    let pods = order::set(residues.iter().filter_map(|residue| match residue {
        Residue::Task(task) => task.pod.as_deref(),
        _ => None,
    }));
    let named: Vec<&str> = pods.iter().take(MAX_NAMED).copied().collect();
    let more = if pods.len() > MAX_NAMED { ", …" } else { "" };
    let names = if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) };
    format!("{}: {} {what}{names}", step.name, residues.len())
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::residue;
    use crate::runtime::ContainerId;

    #[test]
    fn who_is_waited_for_has_a_name() {
        let step = Step { name: StepName::Drain, efforts: &[], grace: Duration::ZERO, gates: &[] };
        let task = |pod: &str| {
            Residue::Task(Box::new(residue::Task {
                container: ContainerId { namespace: "k8s.io".into(), id: "a".into() },
                pod: Some(pod.into()),
                sandbox: false,
                processes: vec![],
                groups: vec![],
                paused: false,
                socket: None,
                witnesses: Default::default(),
            }))
        };
        let said = line(&step, &["prod/db-0", "prod/web", "prod/db-0"].map(task), Effort::Ask);
        assert_eq!(said, "drain: 3 asked to end, each within its grace: prod/db-0, prod/web");
        let said = line(&step, &["a", "b", "c", "d\u{1b}[2J"].map(task), Effort::Force);
        assert_eq!(said, "drain: 4 to remove: a, b, c, …");
    }
}
