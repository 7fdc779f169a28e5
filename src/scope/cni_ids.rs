//! By which IDs CNI's plugins know our containers.
//!
//! CRI tells them a sandbox's own ID; containerd's own clients, ctr and nerdctl, tell them `NAMESPACE-ID` (containerd
//! `cmd/ctr/commands`, `FullID`). A dash may be in either part, so not every such name is one container's alone.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::runtime::cni::is_whole_id;
use crate::scope::{Container, Scope};

/// IDs of CNI's, each with the container's own.
#[derive(Debug, Default)]
pub struct CniIds<'a> {
    ids: HashMap<Cow<'a, str>, &'a str>,
    /// Those that a container of another namespace may have as well.
    pub ambiguous: HashMap<String, &'a Container>,
}

impl<'a> CniIds<'a> {
    /// Of containers that a witness says are ours, and that nobody else has.
    pub fn proven(scope: &'a Scope) -> CniIds<'a> {
        CniIds::of(scope, scope.proven_ids(), &Container::is_proven)
    }

    /// Of those that nobody but us has.
    pub fn sole(scope: &'a Scope) -> CniIds<'a> {
        CniIds::of(scope, scope.sole_ids(), &Container::may_be_tidied)
    }

    fn of(scope: &'a Scope, own: HashSet<&'a str>, is_ours: &dyn Fn(&Container) -> bool) -> CniIds<'a> {
        let mut all = CniIds::default();
        // A pod's is made by CRI.
        let of_clients = scope.containers.iter().filter(|c| c.pod.is_none() && !c.sandbox && is_ours(c));
        for container in of_clients.filter(|c| own.contains(c.id.id.as_str())) {
            let (namespace, id) = (&container.id.namespace, container.id.id.as_str());
            let full = format!("{namespace}-{id}");
            match is_whole_id(id) || !namespace.contains('-') && !id.contains('-') {
                true => drop(all.ids.insert(full.into(), id)),
                false => drop(all.ambiguous.insert(full, container)),
            }
        }
        all.ids.extend(own.into_iter().map(|id| (id.into(), id)));
        all
    }

    /// All that are one container's alone.
    pub fn names(&self) -> HashSet<&str> {
        self.ids.keys().map(Cow::as_ref).collect()
    }

    /// The container's own ID.
    pub fn container(&self, name: &str) -> Option<&'a str> {
        self.ids.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;

    #[test]
    fn a_name_that_two_containers_may_have_is_neithers() {
        let whole = "0123456789abcdef".repeat(4);
        let mut scope = scope_of(&["web", "web-1", &whole, "pod"]);
        let rename = |scope: &mut Scope, n: usize, namespace: &str| {
            scope.containers[n].id.namespace = namespace.into();
            scope.containers[n].pod = None;
            scope.containers[n].sandbox = false;
        };
        rename(&mut scope, 0, "default");
        rename(&mut scope, 1, "default");
        rename(&mut scope, 2, "my-team");
        scope.containers[3].sandbox = true;
        let sorted = |scope: &Scope| {
            let ids = CniIds::proven(scope);
            let mut names: Vec<String> = ids.names().into_iter().map(str::to_owned).collect();
            crate::order::sort(&mut names);
            (names, ids.ambiguous.keys().cloned().collect::<Vec<_>>())
        };
        let team = format!("my-team-{whole}");
        let (names, ambiguous) = sorted(&scope);
        assert_eq!(names, [&whole, "default-web", &team, "pod", "web", "web-1"]);
        assert_eq!(ambiguous, ["default-web-1"]);
        assert_eq!(CniIds::proven(&scope).container(&team), Some(&*whole));
        rename(&mut scope, 0, "a-b");
        assert!(!sorted(&scope).0.contains(&"a-b-web".into()), "it may be b-web in the namespace a");
        // Another containerd has one of the same name.
        rename(&mut scope, 0, "default");
        scope.foreign.push(scope.containers[0].id.clone());
        assert!(!sorted(&scope).0.iter().any(|name| name.ends_with("web")));
        scope.foreign.clear();
        scope.containers[0].witnesses = Default::default();
        assert!(!sorted(&scope).0.iter().any(|name| name.ends_with("web")), "a hint alone");
        assert!(CniIds::sole(&scope).names().contains("default-web"));
    }
}
