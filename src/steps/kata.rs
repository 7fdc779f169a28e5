//! What Kata keeps of a sandbox outside of the snap's directories.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{PathKind, Residue};
use crate::runtime::sandboxed;
use crate::scope::Scope;
use crate::text::show;
use crate::view::View;

/// Adds it for a sandbox that is proven ours, and for a dead one that nothing contradicts. Any other is told: its virtual
/// machine may be alive, and nothing says whose it is.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    let Ok(table) = view.own_mounts() else { return };
    let (proven, sole) = (scope.proven_ids(), scope.sole_ids());
    let foreign: HashSet<&str> = scope.foreign.iter().map(|id| id.id.as_str()).collect();
    let known: HashSet<&str> = scope.containers.iter().map(|c| c.id.id.as_str()).collect();
    for place in sandboxed::KATA_SANDBOXES {
        // Few machines have Kata. If the place is out of reach, so is all that is in it.
        let Ok(names) = view.host.list(Path::new(place)) else { continue };
        let of_ours = |id: &&str| known.contains(id) && !foreign.contains(id);
        for id in names.iter().filter_map(|name| name.to_str()).filter(of_ours) {
            let path: PathBuf = Path::new(place).join(id);
            // Of a living one only the place that it shares has mounts.
            let of_it = sandboxed::KATA_SANDBOXES.map(|place| Path::new(place).join(id));
            let is_dead =
                || !table.mounts.iter().any(|m| of_it.iter().any(|path| m.point().starts_with(path)));
            if proven.contains(id) || sole.contains(id) && is_dead() {
                let what = PathKind::RuntimeState;
                finding.residues.push(Residue::path(path, what));
            } else {
                let top: PathBuf = path.iter().take(3).collect();
                finding.blind.push(untold(&top, &path));
            }
        }
    }
}

fn untold(top: &Path, path: &Path) -> Blind {
    let why = format!("'{}' bears the ID of a sandbox that only a bundle says is ours", show(path));
    Blind::new(format!("what Kata keeps in {}", show(top)), (Reason::Unproven, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::host::Host;
    use std::fs;

    #[test]
    fn what_is_proven_or_dead_goes_and_the_rest_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["proc/self", "run/vc/sbs/a", "run/vc/sbs/others", "run/kata-containers/shared/sandboxes/a"]
        {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let host = Host::at(dir.path());
        let mount = "2 1 0:2 / /run/kata-containers/shared/sandboxes/a/mounts rw - tmpfs t rw\n";
        let mut scope = crate::fixture::scope_of(&["a"]);
        let mut found = |mounted: bool, proven: bool, contradicted: bool| {
            let table = format!("1 0 0:1 / / rw - tmpfs t rw\n{}", if mounted { mount } else { "" });
            fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
            let container = &mut scope.containers[0];
            container.contradicted = contradicted;
            if !proven {
                container.witnesses = Default::default();
            }
            let mut finding = Finding::default();
            find(&View::new(&host, None), &scope, &mut finding);
            (finding.residues.len(), finding.blind.len())
        };
        assert_eq!(found(true, true, false), (2, 0));
        assert_eq!(found(false, false, false), (2, 0));
        assert_eq!(
            found(true, false, false),
            (0, 2),
            "something lives there, and its run directory is in use"
        );
        assert_eq!(found(false, false, true), (0, 2));
    }
}
