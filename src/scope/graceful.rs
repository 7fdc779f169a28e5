//! How each container of ours is to be ended, as its pod and its image ask: gathered with the scope, while what says so is
//! still there.
//!
//! It comes from containerd's database, which pods may reach: a hint, by which nothing becomes ours. What is done by it, it does
//! to containers that other evidence has proven ours.

use serde::{Serialize, Serializer};

use crate::order;
use crate::runtime::hook_plan::{Hook, Patience, Plan, Why};
use crate::runtime::metadata::Record;
use crate::runtime::{ContainerId, stop_signal};

/// How each container is to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Graceful {
    /// What is known of each application, sorted by its container.
    pub manners: Vec<Manner>,
    /// Why containerd's database could not be used, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// What holds for all.
    #[serde(skip)]
    pub patience: Patience,
}

/// How one container is to be ended. What a hook does is not shown: commands and headers hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    pub container: ContainerId,
    /// Its name in its pod.
    pub name: Option<String>,
    /// True if others may need it to end well: it serves storage or network to pods.
    pub serves_others: bool,
    /// The kind of its hook.
    pub hook: Option<&'static str>,
    pub plan: Plan,
}

impl Manner {
    /// Why its hook is not run.
    pub fn not_run(&self) -> Option<Why> {
        match self.plan.hook {
            Hook::NotRun(_, why) => Some(why),
            _ => None,
        }
    }
}

/// One, as the document has it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown<'a> {
    #[serde(flatten)]
    container: &'a ContainerId,
    name: &'a Option<String>,
    asked: u64,
    grace: u64,
    signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_run: Option<Why>,
}

impl Serialize for Manner {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Manner { container, name, hook, plan, .. } = self;
        let signal = stop_signal::name(plan.signal);
        let (asked, grace, not_run) = (plan.asked, plan.limit, self.not_run());
        Shown { container, name, asked, grace, signal, hook: *hook, not_run }.serialize(to)
    }
}

impl Default for Graceful {
    fn default() -> Graceful {
        let patience = Patience { default: 0, most: 0, hooks: false };
        Graceful { manners: Vec::new(), unread: None, patience }
    }
}

impl Graceful {
    /// What is known of a container, if anything is.
    pub fn of(&self, container: &ContainerId) -> Option<&Manner> {
        let at = self.manners.binary_search_by(|manner| manner.container.cmp(container)).ok()?;
        self.manners.get(at)
    }

    /// The plan for a container; for one of which nothing is known, the profile's grace and SIGTERM.
    pub fn plan(&self, container: &ContainerId) -> Plan {
        let unknown = || Plan::of(&Record::default(), None, false, self.patience);
        self.of(container).map_or_else(unknown, |manner| manner.plan.clone())
    }

    /// What the older one knows and this one does not, added: the database goes with all the rest, and that it is gone then is
    /// no news.
    pub fn union(mut self, older: Graceful) -> Graceful {
        let known = order::set(self.manners.iter().map(|m| m.container.clone()));
        self.manners.extend(older.manners.into_iter().filter(|m| !known.contains(&m.container)));
        order::sort_by(&mut self.manners, |a, b| a.container.cmp(&b.container));
        self.unread = older.unread;
        self
    }
}
