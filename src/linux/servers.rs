//! File systems that wait for a server, and those among them that have been found silent.
//!
//! A look at a path on one of them may never come back, so it is tried in a child first; what does not answer is not
//! looked at, and says so.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::linux::child::{ChildEnd, in_child};
use crate::linux::mountinfo::MountTable;
use crate::linux::sync::locked;

/// How long a server may take for the first answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The mount points of a look that may hang, and what is known of them.
#[derive(Debug, Default)]
pub struct Servers(Mutex<HashMap<PathBuf, Served>>);

#[derive(Debug, Clone, Copy)]
struct Served {
    id: u64,
    /// None until it was asked.
    answers: Option<bool>,
}

impl Servers {
    /// Takes over what a new look's table shows. One that was silent is not asked again: each time costs its patience,
    /// and a look that comes late is no better than none.
    pub fn update(&self, table: &MountTable) {
        // To read what is on a volume's own disk is one thing, to write the last of it another.
        let hanging = table.hanging(|_| false);
        let mut known = locked(&self.0);
        let old = std::mem::take(&mut *known);
        let served = table.mounts.iter().filter(|m| m.may_hang() || m.waits_for_layer(&hanging));
        known.extend(served.map(|mount| {
            let silent = old.get(mount.point()).filter(|o| o.id == mount.id && o.answers == Some(false));
            (mount.point().to_path_buf(), Served { id: mount.id, answers: silent.and_then(|o| o.answers) })
        }));
    }

    /// The mount on the way to this path whose server does not answer; none if all do.
    pub fn silent(&self, path: &Path) -> Option<PathBuf> {
        let mut known = locked(&self.0);
        if known.is_empty() {
            return None;
        }
        path.ancestors().find_map(|point| {
            let served = known.get_mut(point)?;
            let answers = *served.answers.get_or_insert_with(|| answers(point));
            (!answers).then(|| point.to_path_buf())
        })
    }

    /// As `silent`, of what is known already.
    pub fn known_silent(&self, path: &Path) -> Option<PathBuf> {
        let known = locked(&self.0);
        let silent = |point: &&Path| known.get(*point).is_some_and(|served| served.answers == Some(false));
        path.ancestors().find(silent).map(Path::to_path_buf)
    }

    /// True if something at, above or below this path may hang.
    pub fn near(&self, path: &Path) -> bool {
        let known = locked(&self.0);
        known.keys().any(|point| point.starts_with(path) || path.starts_with(point))
    }

    /// The way to this path was tried, and did not end.
    pub fn fell_silent(&self, path: &Path) {
        let mut known = locked(&self.0);
        if let Some(server) = path.ancestors().skip(1).find(|above| known.contains_key(*above)) {
            let server = server.to_path_buf();
            known.entry(server).and_modify(|served| served.answers = Some(false));
        }
    }
}

/// Both ask the server, whatever the kernel remembers: for its size, and for what is in its directory.
fn answers(point: &Path) -> bool {
    let asked = in_child(Instant::now() + ANSWER_TIMEOUT, |_| {
        let _ = nix::sys::statfs::statfs(point);
        let _ = std::fs::read_dir(point).map(|mut entries| entries.next().map(drop));
    });
    matches!(asked, Ok(ChildEnd::Finished(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mountinfo;

    fn table(lines: &str) -> MountTable {
        mountinfo::parse(lines.as_bytes())
    }

    #[test]
    fn what_was_silent_stays_so_while_it_is_mounted() {
        let servers = Servers::default();
        let both = "1 0 0:1 / / rw - tmpfs t rw\n2 1 0:2 / /nowhere rw - nfs4 s:/ rw\n";
        servers.update(&table(both));
        // Nobody is there, so that the question is answered at once.
        assert_eq!(servers.silent(Path::new("/nowhere/x/y")), None);
        servers.fell_silent(Path::new("/nowhere/x"));
        assert_eq!(servers.silent(Path::new("/nowhere/x/y")), Some("/nowhere".into()));
        assert_eq!(servers.silent(Path::new("/nowhere2/x")), None, "by component");
        servers.update(&table(both));
        assert_eq!(servers.silent(Path::new("/nowhere")), Some("/nowhere".into()));
        servers.update(&table(&both.replace("2 1", "3 1")));
        assert_eq!(servers.silent(Path::new("/nowhere")), None, "another mount at the same place");
        servers.update(&table("1 0 0:1 / / rw - tmpfs t rw\n"));
        assert!(!servers.near(Path::new("/nowhere")));
    }

    #[test]
    fn above_and_below_is_near() {
        let servers = Servers::default();
        servers.update(&table("2 1 0:2 / /a/b rw - fuse.x s rw\n"));
        for (path, near) in
            [("/a", true), ("/a/b", true), ("/a/b/c", true), ("/a/c", false), ("/a/bc", false)]
        {
            assert_eq!(servers.near(Path::new(path)), near, "{path}");
        }
    }
}
