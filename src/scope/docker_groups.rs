//! Control groups that docker was told to make containers in (`--cgroup-parent`). runc makes those that are missing, and at the end
//! takes away the container's own alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::runtime::docker::{DAEMON_FILES, OPTIONS, Options, options};
use crate::runtime::groups;
use crate::scope::Scope;
use crate::scope::docker_links;
use crate::snap::units;
use crate::text::show;
use crate::view::View;

/// Each with the file of docker's that names it. A user may have made it.
pub type DockerGroups = BTreeMap<PathBuf, PathBuf>;

/// docker keeps some files for each container, and hardly anybody has more containers on a machine.
const MAX_CONTAINERS: usize = 4096;

/// Some container: above their own groups, those of all are the same.
const ANY: &str = "a";

pub(super) fn gather(view: &View, scope: &mut Scope) -> DockerGroups {
    let mut found = DockerGroups::default();
    let data = docker_links::data(view, scope);
    if data.is_empty() {
        return found;
    }
    let managed = units::has_systemd(view.host);
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
            for above in leaf.ancestors().skip(1).filter(|above| is_somebodys(above, managed)) {
                found.entry(above.to_path_buf()).or_insert_with(|| file.clone());
            }
        }
    }
    scope.doubts.extend(unread);
    found
}

/// True for a group that neither docker nor another manager makes anew.
fn is_somebodys(group: &Path, managed: bool) -> bool {
    let is_managers = groups::is_of_a_manager(group) || group.extension().is_some_and(|e| e == "slice");
    let is_made_anew = groups::is_dockers(group) || groups::is_kubelets(group) || managed && is_managers;
    group.parent().is_some() && !is_made_anew
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, scope_of};
    use crate::linux::host::Host;

    #[test]
    fn those_above_containers_by_dockers_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let mut scope = scope_of(&[]);
        let data = scope.roots.mounts[0].clone();
        let at = |name: &str| format!("{}/{name}", &data.display().to_string()[1..]);
        file(dir.path(), &at("containers/a/hostconfig.json"), r#"{"CgroupParent":"/deep/er"}"#);
        assert!(gather(&View::new(&host, None), &mut scope).is_empty(), "no docker has worked there");
        file(dir.path(), &at("network/files/local-kv.db"), "");
        file(dir.path(), &at("containers/b/hostconfig.json"), r#"{"CgroupParent":""}"#);
        file(dir.path(), &at("containers/c/hostconfig.json"), r#"{"CgroupParent":"/docker"}"#);
        file(dir.path(), &at("containers/d/hostconfig.json"), "{");
        file(dir.path(), "var/snap/microk8s/common/daemon.json", r#"{"cgroup-parent":"all"}"#);
        let found = gather(&View::new(&host, None), &mut scope);
        let found: Vec<String> = found.keys().map(|group| group.display().to_string()).collect();
        assert_eq!(found, ["/all", "/deep", "/deep/er"]);
        assert_eq!(scope.doubts.len(), 1, "one file makes no sense");
    }
}
