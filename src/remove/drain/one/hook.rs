//! A container's preStop hook: begun, waited for, and told.

use std::time::{Duration, Instant};

use super::{Command, One, STATUS_TIMEOUT, State, milliseconds};
use crate::error::Result;
use crate::linux::proc::identity;
use crate::remove::drain::course::Drain;
use crate::remove::drain::ending::{HookEnding, Outcome};
use crate::remove::drain::watch::Watched;
use crate::remove::drain::work::Job;
use crate::runtime::exec::Started;
use crate::runtime::hook_plan::Hook;
use crate::text::name;

/// The error of a hook for which no thread could be started.
pub(super) const NO_THREAD: &str = "no thread could be made for it";

/// So long before the end of its grace an answer may be given up.
const MOMENT: Duration = Duration::from_millis(200);

/// So many characters of an error are told.
const LONGEST_ERROR: usize = 500;

impl One<'_> {
    pub(super) fn begin_hook(&mut self, drain: &mut Drain) {
        let now = Instant::now();
        let hook = std::mem::replace(&mut self.plan.hook, Hook::None);
        let has_hook = !matches!(hook, Hook::None | Hook::NotRun(..));
        if has_hook && self.limit <= now {
            self.hook_ended(Outcome::GraceOver, None, now);
            return self.tell(drain);
        }
        let mut until = self.limit;
        let job = match hook {
            Hook::None => return self.tell(drain),
            Hook::NotRun(_, why) => {
                self.hook_not_run(&name(&why));
                return self.tell(drain);
            }
            Hook::Sleep(seconds) => {
                until = until.min(now + Duration::from_secs(seconds.min(self.plan.limit)));
                None
            }
            Hook::Http(to, text) => Some(Job::Request(to, text)),
            Hook::Exec(process) => match self.shim() {
                Some(shim) if drain.may_ask(&shim.socket) => Some(Job::Start(shim, process)),
                Some(_) => {
                    self.hook_not_run("too-many");
                    return self.tell(drain);
                }
                None => {
                    self.hook_not_run("no-shim");
                    return self.tell(drain);
                }
            },
        };
        self.state = State::Hook { until, began: now, command: Command::None };
        if let Some(job) = job
            && !drain.work.begin(self.at, job, until)
        {
            self.hook_failed(drain, NO_THREAD);
        }
    }

    pub(super) fn started(&mut self, drain: &mut Drain, result: Result<Started>) {
        let State::Hook { command, .. } = &mut self.state else { return };
        let started = match result {
            Ok(started) => started,
            Err(e) => return self.hook_failed(drain, &e.to_string()),
        };
        // One that has ended is there until its shim has collected it; that it has, is an end, too.
        let watched = identity(started.pid).and_then(|id| Watched::new(id, 0));
        match watched {
            Some(watched) => *command = Command::Runs(started, watched),
            None => {
                let until = Instant::now() + STATUS_TIMEOUT;
                *command = Command::Ended;
                let finish = self.shim().map(|shim| Job::Finish(shim, started));
                if !finish.is_some_and(|job| drain.work.begin(self.at, job, until)) {
                    self.hook_failed(drain, NO_THREAD);
                }
            }
        }
    }

    pub(super) fn hook_not_run(&mut self, why: &str) {
        let kind = self.kind.unwrap_or_default().to_owned();
        let reason = Some(why.to_owned());
        let outcome = Outcome::NotRun;
        self.hook = Some(HookEnding { kind, outcome, status: None, reason, error: None, elapsed_ms: 0 });
    }

    pub(super) fn hook_ended(&mut self, outcome: Outcome, status: Option<u32>, began: Instant) {
        let kind = self.kind.unwrap_or_default().to_owned();
        let elapsed_ms = milliseconds(began);
        self.hook = Some(HookEnding { kind, outcome, status, reason: None, error: None, elapsed_ms });
    }

    /// Its hook could not be run to its end.
    pub(super) fn hook_failed(&mut self, drain: &mut Drain, error: &str) {
        let State::Hook { began, ref command, .. } = self.state else { return };
        // An answer is given up a moment before the grace is over. Unless the command had ended, that is what ended it.
        if Instant::now() + MOMENT >= self.limit && !matches!(command, Command::Ended) {
            return self.hook_over(drain, Outcome::GraceOver, None);
        }
        self.hook_ended(Outcome::Failed, None, began);
        if let Some(hook) = &mut self.hook {
            // It may quote what the container says.
            let mut told: String = error.chars().take(LONGEST_ERROR).collect();
            if told.len() < error.len() {
                told.push('…');
            }
            hook.error = Some(told);
        }
        self.tell(drain);
    }

    /// Its hook has ended, or is no longer waited for.
    pub(super) fn hook_over(&mut self, drain: &mut Drain, outcome: Outcome, status: Option<u32>) {
        let State::Hook { began, .. } = self.state else { return };
        self.hook_ended(outcome, status, began);
        self.tell(drain);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::error::Error;
    use crate::fixture;
    use crate::remove::drain::work::{Answer, Work};
    use crate::residue::Task;
    use crate::runtime::ContainerId;
    use crate::scope::graceful::Graceful;

    /// What is said of a hook to which something happens so long before the end of its grace.
    fn said(left: Duration, command: Command, happens: fn(&mut One, &mut Drain)) -> (Outcome, bool) {
        let task = Task {
            container: ContainerId { namespace: "k8s.io".into(), id: "a".into() },
            pod: None,
            sandbox: false,
            processes: vec![],
            paused: false,
            groups: vec![],
            socket: None,
            witnesses: Default::default(),
        };
        let live = fixture::live();
        let (began, end) = (Instant::now(), Instant::now() + Duration::from_secs(100));
        let work = Work::new().unwrap();
        let mut drain = Drain { live: &live, work, began, end, deadline: end, commands: Default::default() };
        let mut one = One::new(0, &task, &Graceful::default());
        one.limit = began + left;
        one.state = State::Hook { until: one.limit, began, command };
        happens(&mut one, &mut drain);
        let hook = live.endings().remove(0).hook.unwrap();
        (hook.outcome, hook.error.is_some())
    }

    #[test]
    fn what_gets_no_answer_at_the_end_of_its_grace_was_ended_by_that_and_did_not_fail() {
        let long = Duration::from_secs(50);
        fn no_answer() -> Error {
            Error::NotStarted("no answer".into())
        }
        let not_started: fn(&mut One, &mut Drain) =
            |one, drain| one.answered(drain, Answer::Started(Err(no_answer())));
        let not_requested: fn(&mut One, &mut Drain) =
            |one, drain| one.answered(drain, Answer::Answered(Err(std::io::ErrorKind::TimedOut.into())));
        for happens in [not_started, not_requested] {
            assert_eq!(said(long, Command::None, happens), (Outcome::Failed, true));
            assert_eq!(said(MOMENT * 3, Command::None, happens), (Outcome::Failed, true));
            assert_eq!(said(MOMENT / 2, Command::None, happens), (Outcome::GraceOver, false));
        }
        // One that had ended had not the grace for its end: only its status is not known.
        let no_status: fn(&mut One, &mut Drain) =
            |one, drain| one.answered(drain, Answer::Finished(Err(no_answer())));
        assert_eq!(said(MOMENT / 2, Command::Ended, no_status), (Outcome::Failed, true));
        let time_is_up: fn(&mut One, &mut Drain) = |one, drain| one.time_is_up(drain, true);
        assert_eq!(said(Duration::ZERO, Command::None, time_is_up), (Outcome::GraceOver, false));
        assert_eq!(said(Duration::ZERO, Command::Ended, time_is_up), (Outcome::Failed, true));
    }
}
