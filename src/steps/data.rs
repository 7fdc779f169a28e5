//! The directories of the profile's `data`: images, snapshots and the runtime's state, which can be had again.

use std::path::{Path, PathBuf};

use crate::error::{Blind, Result};
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{PathKind, Residue};
use crate::runtime::metadata::FILE;
use crate::scope::Scope;
use crate::snap::Snap;
use crate::snap::profile::Made;
use crate::text::show;
use crate::view::View;

/// Those that exist. One that is itself a mount point counts as there while it holds anything: the mount is
/// somebody else's, only what lies in it is ours.
pub fn find(view: &View, scope: &Scope) -> Finding {
    let mut finding = Finding::default();
    for path in &scope.roots.data {
        let there = match scope.roots.is_own(&scope.snap, path) {
            _ if scope.snap.owns_at_run(path) => at_run(view, &scope.snap, path),
            true if is_bound(view, scope, path) => of_runtime(view, path),
            true => is_there(view, path).map(|there| if there { vec![path.clone()] } else { vec![] }),
            false => of_runtime(view, path),
        };
        match there {
            Ok(there) => {
                // The link to a place is what a rerun knows that by.
                let link = if there.is_empty() { link_to(view, scope, path) } else { None };
                let all = there.into_iter().chain(link);
                let data = |path| Residue::path(path, PathKind::Data);
                finding.residues.extend(all.map(data));
            }
            Err(e) => finding.blind.push(Blind::new(show(path), e)),
        }
    }
    for path in &scope.roots.untied {
        let why =
            "the snap's data lead there, and what a containerd made there is another's, or may be; it stays";
        match of_runtime(view, path) {
            Ok(there) if there.is_empty() => {}
            Ok(_) => finding.blind.push(Blind::new(show(path), (Reason::Unproven, why))),
            Err(e) if e.is_gone() => {}
            Err(e) => finding.blind.push(Blind::new(show(path), e)),
        }
    }
    let all = &scope.roots.moved;
    let outer = all.iter().filter(|path| !all.iter().any(|above| *path != above && path.starts_with(above)));
    let moved = outer.filter(|path| view.host.list(path).is_ok_and(|n| !n.is_empty()));
    finding.residues.extend(moved.map(|path| Residue::path(path.clone(), PathKind::Moved)));
    finding
}

/// True for a directory of containerd's at which something is mounted: on it others may keep more.
fn is_bound(view: &View, scope: &Scope, path: &Path) -> bool {
    scope.roots.made_in(path) == Made::Containerds
        && view.own_mounts().as_ref().is_ok_and(|t| t.mounts.iter().any(|m| m.point() == path))
}

fn is_there(view: &View, path: &Path) -> Result<bool> {
    let mounted = view.own_mounts().as_ref().is_ok_and(|t| t.mounts.iter().any(|m| m.point() == path));
    match mounted {
        true => view.host.list(path).map(|names| !names.is_empty()),
        false => view.host.exists(path),
    }
}

/// What is in the snap's own directory in /run, but for our result; or one thing below that.
fn at_run(view: &View, snap: &Snap, path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = match view.host.exists(path)? {
        true if *path == snap.run_dir() => {
            view.host.list(path)?.into_iter().map(|name| path.join(name)).collect()
        }
        true => vec![path.to_path_buf()],
        false => Vec::new(),
    };
    found.retain(|path| !snap.is_result(path));
    Ok(found)
}

/// Outside of the snap's own directories, where a link of the administrator's leads: what containerd makes there, by its
/// names. What else he keeps beside that is his.
fn of_runtime(view: &View, path: &Path) -> Result<Vec<PathBuf>> {
    let names = view.host.list(path)?;
    let made = names.iter().filter(|name| Made::Containerds.has_name(name)).map(|name| path.join(name));
    // What ties it all to us goes last: a later run may have to know.
    let (database, mut found): (Vec<_>, Vec<_>) = made.partition(|made| path.join(FILE).starts_with(made));
    found.extend(database);
    Ok(found)
}

/// The link in the snap's directories by which a place is reached.
fn link_to(view: &View, scope: &Scope, place: &Path) -> Option<PathBuf> {
    let alias = scope.roots.aliases.iter().find(|a| a.place == place)?;
    let link = alias.links.iter().find(|link| **link == alias.name)?;
    (scope.roots.is_own(&scope.snap, link) && view.host.link(link).is_ok()).then(|| link.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::microk8s;
    use crate::linux::host::Host;
    use std::fs;

    const ROOT: &str = "var/snap/microk8s/common/var/lib/containerd";

    #[test]
    fn all_that_is_in_the_snaps_directory_in_run_but_the_result() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run/snap.microk8s");
        for name in ["containerd", "netns"] {
            fs::create_dir_all(run.join(name)).unwrap();
        }
        for name in ["docker.pid", "teardown.json", "teardown.lock", ".teardown.json.1"] {
            fs::write(run.join(name), "").unwrap();
        }
        let host = Host::at(dir.path());
        let (snap, _) = microk8s();
        let found = |path: &str| {
            let found = at_run(&View::new(&host, None), &snap, Path::new(path)).unwrap();
            crate::order::set(found.iter().map(|path| path.display().to_string()))
        };
        let all = ["containerd", "docker.pid", "netns"].map(|name| format!("/run/snap.microk8s/{name}"));
        assert_eq!(found("/run/snap.microk8s"), all.into());
        assert_eq!(found("/run/snap.microk8s/netns").len(), 1);
        assert!(
            found("/run/snap.microk8s/swarm").is_empty()
                && found("/run/snap.microk8s/teardown.json").is_empty()
        );
    }

    #[test]
    fn behind_an_administrators_link_what_containerd_made_then_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at(ROOT).parent().unwrap()).unwrap();
        fs::create_dir_all(at("mnt/big/io.containerd.content.v1.content")).unwrap();
        fs::create_dir_all(at("mnt/big/photos")).unwrap();
        std::os::unix::fs::symlink("/mnt/big", at(ROOT)).unwrap();
        let host = Host::at(dir.path());
        let (snap, profile) = microk8s();
        let view = || View::new(&host, None);
        let mut scope = crate::scope::decide::gather(&view(), &snap, &profile).unwrap();
        let found = |scope: &Scope| {
            let finding = find(&view(), scope);
            let blind = finding.blind.iter().map(|blind| format!("blind {}", blind.what));
            finding.residues.iter().map(ToString::to_string).chain(blind).collect::<Vec<_>>()
        };
        assert_eq!(found(&scope), ["data /mnt/big/io.containerd.content.v1.content"]);
        scope.roots.untied.append(&mut scope.roots.data);
        assert_eq!(found(&scope), ["blind /mnt/big"], "what is recorded there is another's");
        scope.roots.data.append(&mut scope.roots.untied);
        fs::remove_dir(at("mnt/big/io.containerd.content.v1.content")).unwrap();
        assert_eq!(found(&scope), [format!("data /{ROOT}")]);
        fs::remove_file(at(ROOT)).unwrap();
        assert!(found(&scope).is_empty() && at("mnt/big/photos").exists());
    }
}
