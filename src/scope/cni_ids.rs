//! By which IDs CNI's plugins know our containers.
//!
//! CRI tells them a sandbox's own ID; containerd's own clients, ctr and nerdctl, tell them `NAMESPACE-ID` (containerd
//! `cmd/ctr/commands`, `FullID`). A dash may be in either part, so not every such name is one container's alone.

use std::collections::HashSet;

use crate::runtime::cni::is_whole_id;
use crate::scope::{Container, Scope};

/// The IDs by which CNI's plugins know containers of ours.
#[derive(Debug)]
pub struct CniIds<'a> {
    /// The containers' own.
    own: HashSet<&'a str>,
    full: Vec<(String, &'a Container)>,
    /// Those that a container of another namespace may have as well.
    ambiguous: Vec<(String, &'a Container)>,
}

impl<'a> CniIds<'a> {
    /// Of containers that a witness says are ours, and that nobody else has.
    pub fn proven(scope: &'a Scope) -> CniIds<'a> {
        CniIds::of(scope, scope.proven_ids(), Container::is_proven)
    }

    /// Of those that nobody but us has.
    pub fn sole(scope: &'a Scope) -> CniIds<'a> {
        CniIds::of(scope, scope.sole_ids(), Container::may_be_tidied)
    }

    fn of(scope: &'a Scope, own: HashSet<&'a str>, is_ours: fn(&Container) -> bool) -> CniIds<'a> {
        // A pod's is made by CRI.
        let of_clients = |c: &&Container| c.pod.is_none() && !c.sandbox && own.contains(c.id.id.as_str());
        let of_clients = scope.containers.iter().filter(|c| is_ours(c)).filter(of_clients);
        let named = of_clients.map(|c| (format!("{}-{}", c.id.namespace, c.id.id), c));
        let (full, ambiguous) = named.partition(|(_, c)| {
            is_whole_id(&c.id.id) || !c.id.namespace.contains('-') && !c.id.id.contains('-')
        });
        CniIds { own, full, ambiguous }
    }

    /// All that are one container's alone.
    pub fn names(&self) -> HashSet<&str> {
        let full = self.full.iter().map(|(name, _)| name.as_str());
        self.own.iter().copied().chain(full).collect()
    }

    /// The own ID of the container that is called so.
    pub fn container(&self, name: &str) -> Option<&'a str> {
        let full = || Some(self.full.iter().find(|(full, _)| full == name)?.1.id.id.as_str());
        self.own.get(name).copied().or_else(full)
    }

    /// The container of ours that may be called so.
    pub fn ambiguous(&self, name: &str) -> Option<&'a Container> {
        Some(self.ambiguous.iter().find(|(full, _)| full == name)?.1)
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
            (names, ids.ambiguous.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())
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
