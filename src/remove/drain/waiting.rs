//! Whom a drain still waits for, and for how long at most: told while it goes on.

use std::time::{Duration, Instant};

use super::course::Drain;
use super::one::One;
use crate::order;
use crate::remove::live::Live;
use crate::text;

/// How often it is shown to whoever watches.
const SHOWN: Duration = Duration::from_secs(1);

/// How often it is logged. A drain that is shorter leaves the journal alone: its result says how each has ended.
const LOGGED: Duration = Duration::from_secs(10);

/// So many are named.
const MAX_NAMED: usize = 3;

/// When it is to be told next.
pub struct Waiting {
    shown: Option<Instant>,
    logged: Instant,
}

impl Waiting {
    pub fn new(live: &Live) -> Waiting {
        let now = Instant::now();
        Waiting { shown: live.show_waiting.map(|_| now + SHOWN), logged: now + LOGGED }
    }

    /// Tells it if it is time to, and says when it will be.
    pub fn tell(&mut self, drain: &Drain, all: &[One]) -> Instant {
        let now = Instant::now();
        if let (Some(show), Some(due)) = (drain.live.show_waiting, self.shown)
            && due <= now
        {
            show(&format!("drain: {}", line(drain, all, now)));
            self.shown = Some(now + SHOWN);
        }
        if self.logged <= now {
            log::info!("snap \"{}\": {}", drain.live.snap.instance, line(drain, all, now));
            self.logged = now + LOGGED;
        }
        self.shown.map_or(self.logged, |shown| shown.min(self.logged))
    }
}

fn line(drain: &Drain, all: &[One], now: Instant) -> String {
    let open = || all.iter().filter(|one| !one.is_over());
    let name = |one: &One| one.task.pod.clone().unwrap_or_else(|| one.task.container.id.to_string());
    let names: Vec<String> = order::set(open().map(name)).into_iter().collect();
    let end = open().map(|one| one.end_of_grace(drain)).max().unwrap_or(now);
    let left = end.saturating_duration_since(now).as_millis().div_ceil(1000);
    format!("waiting for {}, {left} s more at most", text::few(&names, MAX_NAMED))
}
