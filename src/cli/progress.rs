//! One line on standard error that says what is waited for, while it is waited for; on a terminal only.

use std::io::{IsTerminal, Write};

use crate::engine::step::{Effort, Step};

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
    pub fn tell(&mut self, step: &Step, count: usize, effort: Effort) {
        if !self.terminal {
            return;
        }
        let what = match effort {
            Effort::Ask => "asked to end",
            Effort::Force | Effort::Last => "to remove",
        };
        let most = match step.grace.as_secs() {
            0 => String::new(),
            seconds => format!(", waiting up to {seconds} s"),
        };
        let _ = write!(std::io::stderr(), "\r\x1b[K{}: {count} {what}{most} ", step.name);
        self.shown = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
