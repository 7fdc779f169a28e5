//! Control groups that a runtime was told to use and never takes away: those that docker makes containers in (`--cgroup-parent`; runc
//! makes what is missing, and at the end takes away the container's own alone), those that containerd goes into itself or puts its shims
//! into (`[cgroup] path`, `ShimCgroup`), and those of containers that are called otherwise (`ctr run --cgroup`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Blind;
use crate::order;
use crate::runtime::docker::{DAEMON_FILES, OPTIONS, Options, options};
use crate::runtime::groups;
use crate::scope::Scope;
use crate::scope::docker_links;
use crate::snap::units;
use crate::text::{self, show};
use crate::view::View;

/// Each with who tells of it, and what: the file goes with the snap, and the result keeps the groups alone. A user may have made one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldGroups(BTreeMap<PathBuf, String>);

impl ToldGroups {
    /// What was told of a group.
    pub fn of(&self, group: &Path) -> Option<&str> {
        self.0.get(group).map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another one.
    pub(super) fn union(&mut self, older: ToldGroups) {
        for (group, why) in older.0 {
            self.0.entry(group).or_insert(why);
        }
    }

    /// Notes a group and those above it, which are made with it where they are missing.
    fn note(&mut self, view: &View, group: &Path, why: &str) {
        let managed = units::has_systemd(view.host);
        for group in group.ancestors().filter(|group| is_somebodys(group, managed)) {
            self.0.entry(group.to_path_buf()).or_insert_with(|| why.to_owned());
        }
    }
}

impl Serialize for ToldGroups {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        text::list::serialize(&self.0.keys().cloned().collect::<Vec<_>>(), to)
    }
}

impl<'de> Deserialize<'de> for ToldGroups {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ToldGroups, D::Error> {
        let why = || "the snap had its runtime use it".to_owned();
        let groups = text::list::deserialize(from)?;
        Ok(ToldGroups(order::map(groups.into_iter().map(|group| (group, why())))))
    }
}

/// docker keeps some files for each container, and hardly anybody has more containers on a machine.
const MAX_CONTAINERS: usize = 4096;

/// Some container: above their own groups, those of all are the same.
const ANY: &str = "a";

pub(super) fn gather(view: &View, scope: &mut Scope, chosen: &[PathBuf]) -> ToldGroups {
    let mut found = ToldGroups::default();
    for group in chosen {
        found.note(view, group, "a container of this snap was told to use it");
    }
    for (group, file) in &scope.roots.groups {
        found.note(view, group, &format!("{} has containerd or its shims put into it", show(file)));
    }
    of_docker(view, scope, &mut found);
    found
}

fn of_docker(view: &View, scope: &mut Scope, found: &mut ToldGroups) {
    let data = docker_links::data(view, scope);
    if data.is_empty() {
        return;
    }
    let mut unread = Vec::new();
    let mut read = |file: PathBuf| -> Option<(PathBuf, Options)> {
        match options(view.host, &file) {
            Ok(options) => Some((file, options.filter(|it| !it.parent.is_empty())?)),
            Err(e) => {
                unread.push(Blind::new(show(&file), e));
                None
            }
        }
    };
    let homes = [&scope.snap.data, &scope.snap.common].into_iter().chain(&scope.roots.data);
    let files = homes.flat_map(|home| DAEMON_FILES.map(|name| home.join(name)));
    let of_daemon: Vec<_> = files.filter_map(&mut read).collect();
    let mut all = Vec::new();
    for containers in data.into_iter().map(|data| data.join("containers")) {
        let ids = view.host.list(&containers).unwrap_or_default();
        all.extend(ids.iter().take(MAX_CONTAINERS).filter_map(|id| read(containers.join(id).join(OPTIONS))));
    }
    for (file, said) in of_daemon.into_iter().chain(all) {
        for leaf in said.group_of(ANY) {
            let above = leaf.parent().unwrap_or(&leaf);
            found.note(view, above, &format!("{} has containers made in it", show(&file)));
        }
    }
    scope.doubts.extend(unread);
}

/// True for a group that neither docker nor kubelet nor systemd has made for itself, or makes anew.
fn is_somebodys(group: &Path, managed: bool) -> bool {
    let is_managers = groups::is_a_units(group) || group.extension().is_some_and(|e| e == "slice");
    let is_made_anew = groups::is_dockers(group) || groups::is_kubelets(group) || managed && is_managers;
    group.parent().is_some() && !is_made_anew
}

#[cfg(test)]
mod tests;
