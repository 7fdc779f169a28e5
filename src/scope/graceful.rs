//! How each container of ours is to be ended, as its pod and its image ask: gathered with the scope, while what says so is
//! still there.
//!
//! It comes from containerd's database, which pods may reach: a hint, by which nothing becomes ours. What is done by it, it does
//! to containers that other evidence has proven ours.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::runtime::hook_plan::{Hook, Patience, Plan, Why};
use crate::runtime::metadata::{self, Record, Records};
use crate::runtime::{ContainerId, stop_signal};
use crate::scope::{Container, Scope};
use crate::snap::profile::Profile;
use crate::view::View;

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
    patience: Patience,
}

/// How one container is to be ended. What a hook does is not shown: commands and headers hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// Which.
    pub container: ContainerId,
    /// Its name in its pod.
    pub name: Option<String>,
    /// True if others may need it to end well: it serves storage or network to pods.
    pub serves_others: bool,
    /// The kind of its hook.
    pub hook: Option<&'static str>,
    /// All of it.
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
    pub(super) fn union(mut self, older: Graceful) -> Graceful {
        let known: BTreeSet<ContainerId> = self.manners.iter().map(|m| m.container.clone()).collect();
        self.manners.extend(older.manners.into_iter().filter(|m| !known.contains(&m.container)));
        self.manners.sort_by(|a, b| a.container.cmp(&b.container));
        self.unread = older.unread;
        self
    }
}

/// Gathers what is known of our applications.
pub(super) fn gather(view: &View, scope: &Scope, profile: &Profile) -> Graceful {
    let own = &profile.patience;
    let patience = Patience { default: own.drain, most: own.maximum_grace(), hooks: own.hooks };
    let applications: Vec<&Container> = scope.containers.iter().filter(|c| !c.sandbox).collect();
    if applications.is_empty() {
        return Graceful { patience, ..Graceful::default() };
    }
    let (records, unread) = match read(view, scope) {
        Ok(Some(records)) => (records, None),
        Ok(None) => (Records::default(), Some("there is none".to_owned())),
        Err(why) => (Records::default(), Some(why)),
    };
    let known = applications.into_iter().filter_map(|c| manner(scope, &records, c, patience));
    let mut manners: Vec<Manner> = known.collect();
    manners.sort_by(|a, b| a.container.cmp(&b.container));
    Graceful { manners, unread, patience }
}

fn read(view: &View, scope: &Scope) -> Result<Option<Records>, String> {
    let file = scope.roots.root.join(metadata::FILE);
    view.host.reach(&file).map_err(|e| e.to_string())?;
    metadata::read_file(&view.host.path(&file)).map_err(|e| e.to_string())
}

fn manner(scope: &Scope, records: &Records, container: &Container, patience: Patience) -> Option<Manner> {
    let record = records.containers.get(&container.id)?;
    let sandbox = records.sandbox_of(&container.id);
    let serves = |s: &&crate::scope::Shim| {
        s.namespace == container.id.namespace && s.id.as_ref().is_none_or(|id| *id == container.shim_id)
    };
    let shim = scope.shims.iter().any(|s| serves(&s));
    Some(Manner {
        container: container.id.clone(),
        name: record.name.clone(),
        serves_others: serves_others(scope, container),
        hook: record.pre_stop.as_ref().map(|hook| hook.kind()),
        plan: Plan::of(record, sandbox, shim, patience),
    })
}

/// True for what mounts volumes and makes networks for other pods: it has kubelet's directories for plugins, or those of the
/// network plugins, bound into it. Others that end after it could no longer save their work.
fn serves_others(scope: &Scope, container: &Container) -> bool {
    let of_kubelet = |roots: &crate::snap::profile::Roots| {
        let below = ["plugins", "plugins_registry"];
        roots.kubelet.iter().flat_map(|k| below.map(|name| k.join(name))).collect::<Vec<_>>()
    };
    let shared = ["/var/lib/kubelet/plugins", "/var/lib/kubelet/plugins_registry", "/opt/cni/bin", "/etc/cni/net.d"];
    let mut places: Vec<PathBuf> = shared.map(PathBuf::from).into();
    places.extend(of_kubelet(&scope.roots));
    places.extend(of_kubelet(&scope.inside));
    let host = scope.snap.data.join("opt/cni/bin");
    places.push(host);
    container.binds.iter().any(|bind| places.iter().any(|place| bind.starts_with(place)))
}
