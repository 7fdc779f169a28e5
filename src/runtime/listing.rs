//! Which bundles lie in a containerd's directories. Containers may write there, and make any number of anything.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::error::Error;
use crate::linux::host::Host;
use crate::order;
use crate::runtime::bundle::ALL_TASKS;
use crate::runtime::{ContainerId, Name, shim};
use crate::snap::profile::Roots;
use crate::text;

/// The state directory of a containerd that was told no other.
const STOCK_STATE: &str = "/run/containerd";

/// What of bundles lies in a containerd's directories.
#[derive(Debug, Default)]
pub struct Listed {
    /// The containers that have a bundle or a work directory, half-deleted ones included, each once.
    pub containers: Vec<ContainerId>,
    /// Symlinks where a directory should be. Whoever made one hides what it leads to, and nothing else.
    pub links: Vec<PathBuf>,
    /// What is no directory, and so holds no bundle.
    pub nonsense: Vec<String>,
    /// Directories in which there was more than is looked at, and how much. What of it is ours has other proof than that it
    /// lies there.
    pub more: Vec<(PathBuf, usize)>,
    /// Directories that could not be looked at.
    pub errors: Vec<Error>,
}

/// No node runs as many containers. Whoever has made more directories wants us to run out of memory.
const MAX_CONTAINERS: usize = 4096;
/// As many things that make no sense are told one by one, and as many links.
const MAX_TOLD: usize = 100;

/// All bundles and work directories of a containerd.
pub fn list_bundles(host: &Host, roots: &Roots) -> Listed {
    let mut listed = Listed::default();
    for base in [&roots.state, &roots.root] {
        listed.tasks(host, base);
    }
    order::sort(&mut listed.containers);
    listed.containers.dedup();
    listed
}

/// The containers that have a bundle with the machine's own containerd, where that is not ours. What hides is none.
pub fn list_neighbours(host: &Host, roots: &Roots) -> HashSet<ContainerId> {
    let state = Path::new(STOCK_STATE);
    if state == roots.state {
        return HashSet::new();
    }
    let mut listed = Listed::default();
    listed.tasks(host, state);
    listed.containers.into_iter().collect()
}

impl Listed {
    /// Adds the containers that have a directory below a containerd's state or root.
    fn tasks(&mut self, host: &Host, base: &Path) {
        let mut left = MAX_CONTAINERS;
        for tasks in ALL_TASKS.map(|tasks| base.join(tasks)) {
            for namespace in self.names(host, &tasks, &mut left) {
                let ids = self.names(host, &tasks.join(&namespace), &mut left).into_iter();
                let namespace = Name::from(namespace);
                let id = |id: String| ContainerId { namespace: namespace.clone(), id: id.into() };
                self.containers.extend(ids.map(id));
            }
        }
    }

    /// Names of directories that containerd could have made. While it deletes one, it calls it `.ID`.
    fn names(&mut self, host: &Host, directory: &Path, left: &mut usize) -> Vec<String> {
        let mut names = Vec::new();
        let (mut odd, mut more) = (0, 0usize);
        let listed = host.each_name(directory, |name, kind| match (plain_name(name), kind) {
            (Some(name), FileType::Directory) if *left > 0 => {
                *left -= 1;
                names.push(name);
            }
            (Some(_), FileType::Directory) => more += 1,
            (_, FileType::Symlink) if self.links.len() < MAX_TOLD => self.links.push(directory.join(name)),
            (_, FileType::Symlink) => more += 1,
            _ => {
                odd += 1;
                if self.nonsense.len() < MAX_TOLD {
                    let path = directory.join(name);
                    self.nonsense.push(format!("{}: neither a bundle nor a namespace", text::show(&path)));
                }
            }
        });
        match listed {
            Ok(()) => {}
            // A file in its place holds no bundle; a symlink leads to where we do not go.
            Err(e) if e.errno() == Some(nix::libc::ENOTDIR) => match host.stat(directory) {
                Ok(there) if there.is_symlink() => self.links.push(directory.to_path_buf()),
                _ => self.nonsense.push(format!("{}: no directory", text::show(directory))),
            },
            Err(e) => self.errors.push(e),
        }
        if odd > MAX_TOLD {
            self.nonsense.push(format!("{}: {odd} such names in all", text::show(directory)));
        }
        if more > 0 {
            self.more.push((directory.to_path_buf(), more));
        }
        names
    }
}

fn plain_name(name: &OsStr) -> Option<String> {
    let bytes = name.as_encoded_bytes();
    shim::name(bytes.strip_prefix(b".").unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::roots;
    use std::fs;

    const TASKS_OF: &str = "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task";

    #[test]
    fn what_is_no_directory_holds_no_bundle_and_hides_none() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = dir.path().join(TASKS_OF);
        fs::create_dir_all(tasks.join("k8s.io/real")).unwrap();
        fs::create_dir_all(tasks.join("k8s.io/.half")).unwrap();
        for file in ["x", "k8s.io/y"] {
            fs::write(tasks.join(file), "").unwrap();
        }
        for link in ["l", "k8s.io/m"] {
            std::os::unix::fs::symlink("/etc", tasks.join(link)).unwrap();
        }
        let listed = list_bundles(&Host::at(dir.path()), &roots());
        let ids: Vec<&str> = listed.containers.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["half", "real"]);
        let mut links: Vec<_> = listed.links.iter().map(|l| l.file_name().unwrap()).collect();
        links.sort();
        assert_eq!(links, ["l", "m"]);
        assert_eq!(listed.nonsense.len(), 2, "{listed:?}");
        assert!(listed.errors.is_empty(), "{listed:?}");
        // The same in the place of the directory above all.
        fs::remove_dir_all(&tasks).unwrap();
        fs::write(&tasks, "").unwrap();
        let listed = list_bundles(&Host::at(dir.path()), &roots());
        assert!(listed.errors.is_empty() && listed.links.is_empty() && listed.nonsense.len() == 1);
    }

    #[test]
    fn any_number_of_names_takes_little_room_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let namespace = dir.path().join(TASKS_OF).join("k8s.io");
        fs::create_dir_all(&namespace).unwrap();
        (0..MAX_CONTAINERS + 5).for_each(|n| fs::create_dir(namespace.join(format!("c{n}"))).unwrap());
        (0..3 * MAX_TOLD).for_each(|n| fs::write(namespace.join(format!("f{n}")), "").unwrap());
        let listed = list_bundles(&Host::at(dir.path()), &roots());
        // One of them is the namespace.
        assert_eq!(listed.containers.len(), MAX_CONTAINERS - 1);
        assert_eq!(listed.more, [(Path::new("/").join(TASKS_OF).join("k8s.io"), 6)]);
        assert!(listed.errors.is_empty());
        assert_eq!(listed.nonsense.len(), MAX_TOLD + 1);
    }
}
