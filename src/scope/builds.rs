//! runc's states of docker's builds. docker's daemon runs a build's steps by itself, with runc as it is: where others have their
//! states, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::reason::Reason;
use crate::runtime::runc::{self, RUN};
use crate::scope::Scope;
use crate::scope::docker_links;
use crate::text::show;
use crate::view::View;

/// Each state, with the full paths of the groups that it names and that are called after it.
pub type Builds = BTreeMap<PathBuf, Vec<PathBuf>>;

/// Bundles of builds, below the directory of docker's data.
const BUNDLES: &str = "buildkit/executor";

/// So many states are looked at.
const MAX_STATES: usize = 4096;

/// The states whose own record names a bundle of a build in docker's data, where these are the snap's. Only root writes there. In
/// another instance of the snap the paths read the same; and what lives has to be proven ours by itself.
pub(super) fn gather(view: &View, scope: &mut Scope, sibling: Option<&str>) -> Builds {
    let mut found = Builds::new();
    let data = docker_links::data(view, scope);
    // dockerd has written its own spelling.
    let inside = |data: &Path| match data.strip_prefix(&scope.snap.home) {
        Ok(below) => scope.snap.inside().home.join(below),
        Err(_) => data.to_path_buf(),
    };
    let bundles: Vec<PathBuf> =
        data.iter().flat_map(|data| [data.clone(), inside(data)]).map(|data| data.join(BUNDLES)).collect();
    if bundles.is_empty() {
        return found;
    }
    let names = match view.host.list(Path::new(RUN)) {
        Ok(names) => names,
        Err(e) if e.is_gone() => return found,
        Err(e) => {
            scope.doubts.push(Blind::new("runc's states of builds", e));
            return found;
        }
    };
    for name in names.into_iter().take(MAX_STATES) {
        let state = Path::new(RUN).join(&name);
        let file = state.join("state.json");
        let Ok(bytes) = runc::read_file(view.host, &file) else { continue };
        let Ok(read) = runc::read_runc_state(&file, &bytes) else { continue };
        let is_ours = |bundle: &PathBuf| bundles.iter().any(|all| *bundle == all.join(&name));
        if !read.bundle.as_ref().is_some_and(is_ours) {
            continue;
        }
        let id = name.to_string_lossy();
        let is_proven = || scope.containers.iter().any(|c| c.id.id == *id && c.is_proven());
        let lives = |init| view.processes().as_ref().map_or(true, |all| all.alive(init).is_some());
        let why = match sibling {
            Some(other) => format!("the instance '{other}' has the same paths"),
            None if read.init.is_none_or(|init| !lives(init)) || is_proven() => {
                let is_its = |group: &PathBuf| group.file_name() == Some(&*name);
                found.insert(state, read.groups.into_iter().filter(is_its).collect());
                continue;
            }
            None => "its first process lives, and nothing else proves it ours".into(),
        };
        scope.doubts.push(Blind::new(show(&state), (Reason::Unproven, why)));
    }
    found
}

#[cfg(test)]
mod tests;
