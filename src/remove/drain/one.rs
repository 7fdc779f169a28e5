//! One container on its way to its end.

use std::time::{Duration, Instant};

use super::course::Drain;
use super::ending::{End, Ending, HookEnding, Outcome};
use super::watch::Watched;
use super::work::{Answer, AtShim, Job};
use crate::engine::done::Done;
use crate::engine::step::Effort;
use crate::error::{Error, Result, errno_of};
use crate::linux::proc::identity;
use crate::remove::ability::Ability;
use crate::remove::task::{self, ANSWER_TIMEOUT};
use crate::residue::Task;
use crate::runtime::exec::Started;
use crate::runtime::hook_plan::{LEAST, Plan};
use crate::runtime::stop_signal;
use crate::scope::graceful::{Graceful, Manner};
use crate::text::escape;

mod hook;

/// How long a shim gets to answer how a command ended: it waits for nothing then.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a container is.
enum State {
    /// Its turn has not come.
    Waiting,
    /// It is to go on, if it was paused.
    Resuming,
    /// Its hook runs, until then at most.
    Hook { until: Instant, began: Instant, command: Command },
    /// It was told to stop, and has until then.
    Told { until: Instant },
    /// It has ended, or is no longer waited for.
    Over,
}

/// Where a hook's command is.
enum Command {
    /// There is none; or it is being started.
    None,
    Runs(Started, Watched),
    /// Its status was asked for.
    Ended,
}

/// One container.
pub struct One<'a> {
    at: usize,
    pub(super) task: &'a Task,
    plan: Plan,
    name: Option<String>,
    kind: Option<&'static str>,
    pub(super) serves_others: bool,
    init: Option<Watched>,
    state: State,
    limit: Instant,
    signal: Option<String>,
    hook: Option<HookEnding>,
    done: Done,
}

impl<'a> One<'a> {
    pub(super) fn new(at: usize, task: &'a Task, graceful: &Graceful) -> One<'a> {
        let manner = graceful.of(&task.container);
        One {
            at,
            task,
            plan: graceful.plan(&task.container),
            name: manner.and_then(|m: &Manner| Some(escape(m.name.as_ref()?.as_bytes()).into_owned())),
            kind: manner.and_then(|m| m.hook),
            serves_others: manner.is_some_and(|m| m.serves_others),
            init: None,
            state: State::Waiting,
            limit: Instant::now(),
            signal: None,
            hook: None,
            done: Done::Gone,
        }
    }

    /// It has had its grace.
    pub(super) fn pass_over(&mut self) {
        self.state = State::Over;
        self.done = Done::Failed { error: "its grace was over, and it was killed".into(), errno: None };
    }

    /// Watches its first process.
    pub(super) fn watch(&mut self, drain: &Drain, open: &mut usize) {
        if self.is_over() {
            return;
        }
        self.init = self.task.processes.first().and_then(|init| Watched::new(*init, *open));
        *open += 1;
        if self.init.is_none() {
            self.ended(drain);
        }
    }

    /// When its grace is over, as far as that is known before its turn comes.
    pub(super) fn end_of_grace(&self, drain: &Drain) -> Instant {
        match self.state {
            State::Waiting => (drain.began + Duration::from_secs(self.plan.limit)).min(drain.end),
            _ => self.due().map_or(self.limit, |due| due.max(self.limit)),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// True if nothing but force is left for it then.
    pub(super) fn is_due_to_be_killed(&self, then: Instant) -> bool {
        matches!(self.state, State::Told { until } if until <= then)
    }

    /// When something is to be done, whatever happens.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting | State::Over => None,
            State::Resuming => Some(self.limit),
            State::Hook { until, .. } | State::Told { until } => Some(until),
        }
    }

    pub(super) fn watched(&self) -> impl Iterator<Item = &Watched> {
        let command = match &self.state {
            State::Hook { command: Command::Runs(_, command), .. } => Some(command),
            _ => None,
        };
        self.init.iter().chain(command)
    }

    pub(super) fn done(self) -> Done {
        self.done
    }

    fn shim(&self) -> Option<AtShim> {
        let container = self.task.container.clone();
        self.task.socket.clone().map(|socket| AtShim { socket, container })
    }

    /// Its turn has come. Its grace counts from the start of the drain.
    pub(super) fn begin(&mut self, drain: &mut Drain) {
        let own = drain.began + Duration::from_secs(self.plan.limit);
        self.limit = own.min(drain.end - Duration::from_secs(LEAST)).max(Instant::now());
        self.state = State::Resuming;
        if !self.task.paused {
            return self.begin_hook(drain);
        }
        // By its shim, which else goes on to take it for paused, and refuses to run a command in it.
        let until = self.limit.max(Instant::now() + Duration::from_secs(LEAST)).min(drain.end);
        self.limit = until;
        let begun = self.shim().is_some_and(|shim| drain.work.begin(self.at, Job::Resume(shim), until));
        if !begun {
            self.resumed(drain, false);
        }
    }

    fn resumed(&mut self, drain: &mut Drain, by_shim: bool) {
        if !by_shim {
            self.task.groups.iter().for_each(|group| task::thaw(drain.live, group));
        }
        self.begin_hook(drain);
    }

    /// Tells it to stop. However long its hook took, it has two seconds from now.
    fn tell(&mut self, drain: &mut Drain) {
        let now = Instant::now();
        let used = now.saturating_duration_since(drain.began).as_secs();
        // Its grace counts from the start; what its hook has left of it is counted in whole seconds.
        let own = match self.hook {
            None => drain.began + Duration::from_secs(self.plan.limit),
            Some(_) => now + Duration::from_secs(self.plan.after(used)),
        };
        let until = own.max(now + Duration::from_secs(LEAST)).min(drain.end);
        self.state = State::Told { until };
        self.signal = Some(stop_signal::name(self.plan.signal));
        match task::ask(drain.live, self.task, self.plan.signal) {
            Done::NeedsShim { errno } => {
                self.done = Done::NeedsShim { errno };
                self.signal_by_shim(drain, self.plan.signal, false);
            }
            Done::Gone => self.ended(drain),
            other => self.done = other,
        }
    }

    fn signal_by_shim(&mut self, drain: &mut Drain, number: stop_signal::Number, all: bool) {
        let deadline = drain.deadline;
        let until = deadline.min(Instant::now() + ANSWER_TIMEOUT);
        let job = self.shim().map(|shim| Job::Signal { shim, number, all, deadline });
        let begun = job.is_some_and(|job| drain.work.begin(self.at, job, until));
        if !begun {
            self.cannot_be_told(drain, "it has no shim that could be asked");
        }
    }

    /// Nobody can tell it anything: to wait on would be for nothing.
    fn cannot_be_told(&mut self, drain: &Drain, why: &str) {
        self.done = self.done.clone().without_shim(why);
        if !self.is_over() {
            self.signal = None;
            self.over(drain, End::Killed);
        }
    }

    /// What was to happen until now has not, or was to be waited for until now.
    pub(super) fn time_is_up(&mut self, drain: &mut Drain, last: bool) {
        let slept = self.kind == Some("sleep");
        match self.state {
            State::Waiting | State::Over => {}
            State::Resuming => self.resumed(drain, false),
            State::Hook { until, .. } if slept && until < self.limit => {
                self.hook_over(drain, Outcome::Done, None);
            }
            State::Hook { command: Command::Ended, .. } => self.hook_failed(drain, "its status was not told"),
            State::Hook { .. } => self.hook_over(drain, Outcome::GraceOver, None),
            State::Told { .. } => self.kill(drain, last),
        }
    }

    /// Its grace is over. If nobody is waited for any more, the step that kills does it, all in one go.
    fn kill(&mut self, drain: &mut Drain, last: bool) {
        self.over(drain, End::Killed);
        if last {
            return self.pass_over();
        }
        let mut all = self.task.clone();
        for group in &self.task.groups {
            let pids = crate::linux::cgroup::group::pids(&drain.live.host, group).unwrap_or_default();
            all.processes.extend(pids.into_iter().filter_map(identity));
        }
        if let Done::NeedsShim { errno } = task::remove(drain.live, &all, Effort::Force) {
            self.done = Done::NeedsShim { errno };
            self.signal_by_shim(drain, nix::libc::SIGKILL, true);
        }
        self.pass_over();
    }

    /// Something that is watched has ended.
    pub(super) fn look(&mut self, drain: &mut Drain) {
        if self.is_over() {
            return;
        }
        if self.init.as_ref().is_some_and(Watched::has_ended) {
            return self.ended(drain);
        }
        let State::Hook { command, until, .. } = &mut self.state else { return };
        if !matches!(command, Command::Runs(_, watched) if watched.has_ended()) {
            return;
        }
        let Command::Runs(started, _) = std::mem::replace(command, Command::Ended) else { return };
        *until = Instant::now() + STATUS_TIMEOUT;
        let until = *until;
        let begun =
            self.shim().is_some_and(|shim| drain.work.begin(self.at, Job::Finish(shim, started), until));
        if !begun {
            self.hook_failed(drain, hook::NO_THREAD);
        }
    }

    /// A shim or the pod has answered.
    pub(super) fn answered(&mut self, drain: &mut Drain, answer: Answer) {
        match answer {
            Answer::Resumed(result) => {
                tried(drain, &result);
                if matches!(self.state, State::Resuming) {
                    self.resumed(drain, result.is_ok());
                }
            }
            Answer::Started(result) => {
                tried(drain, &result);
                self.started(drain, result);
            }
            Answer::Finished(Ok(status)) => {
                let outcome = if status == 0 { Outcome::Done } else { Outcome::Failed };
                self.hook_over(drain, outcome, Some(status));
            }
            Answer::Finished(Err(e)) => self.hook_failed(drain, &e.to_string()),
            Answer::Answered(result) => {
                let refused = result.as_ref().map(drop).map_err(errno_of);
                drain.live.tried(Ability::AskPod, refused);
                match result {
                    Ok(status) => self.hook_over(drain, Outcome::Done, Some(status.into())),
                    Err(e) => self.hook_failed(drain, &e.to_string()),
                }
            }
            Answer::Signalled(Ok(answered)) => {
                if answered {
                    drain.live.tried(Ability::AskShim, Ok(()));
                }
                self.done = Done::Asked { rung: crate::engine::done::Rung::Shim };
            }
            Answer::Signalled(Err(e)) => {
                drain.live.tried(Ability::AskShim, Err(e.errno_or_unknown()));
                self.cannot_be_told(drain, &e.to_string());
            }
        }
    }

    /// It has ended by itself.
    fn ended(&mut self, drain: &Drain) {
        if let State::Hook { began, .. } = self.state {
            self.hook_ended(Outcome::ContainerEnded, None, began);
        }
        self.over(drain, if self.signal.is_some() { End::AfterSignal } else { End::AfterHook });
        self.done = Done::Gone;
    }

    fn over(&mut self, drain: &Drain, end: End) {
        self.state = State::Over;
        drain.live.note_ending(Ending {
            container: self.task.container.clone(),
            pod: self.task.pod.clone(),
            name: self.name.clone(),
            end,
            elapsed_ms: milliseconds(drain.began),
            asked: self.plan.asked,
            grace: self.plan.limit,
            signal: self.signal.clone(),
            hook: self.hook.clone(),
        });
    }
}

fn tried<T>(drain: &Drain, result: &Result<T>) {
    if let Err(e) = result {
        log::debug!("{e}");
    }
    drain.live.tried(Ability::AskShim, result.as_ref().map(drop).map_err(Error::errno_or_unknown));
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
