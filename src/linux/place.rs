//! Where a path really leads: the place behind its symlinks, if only root can have made them.
//!
//! The kernel tells of mounts and working directories by places, people name directories as they like. A path is gone
//! through part by part, by descriptors, and no part is followed by the kernel. As soon as one part is a link, every
//! directory on the way must be such that nobody but root can put another link there.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;

use crate::error::Why;
use crate::linux::host::Host;
use crate::reason::Reason;

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The path in the kernel's spelling. What does not exist is spelled as it would be.
    pub path: PathBuf,
    /// The links on the way, each by the place at which it lies.
    pub links: Vec<PathBuf>,
}

/// The place of a path; or why it is not followed there.
pub fn of(host: &Host, path: &Path) -> Result<Place, Why> {
    // In a fixture its maker stands for root.
    let root = if host.is_live() { 0 } else { rustix::process::geteuid().as_raw() };
    for_owner(host, root, path)
}

fn for_owner(host: &Host, root: u32, path: &Path) -> Result<Place, Why> {
    Walk { host, root, at: PathBuf::from("/"), open: Vec::new(), links: Vec::new() }.go(path)
}

/// A way that is gone part by part.
struct Walk<'a> {
    host: &'a Host,
    /// Whose links are followed.
    root: u32,
    /// How far it is by now.
    at: PathBuf,
    /// The directories from the root on to there.
    open: Vec<OwnedFd>,
    links: Vec<PathBuf>,
}

impl Walk<'_> {
    fn go(mut self, path: &Path) -> Result<Place, Why> {
        self.restart()?;
        let mut trusted = Trust(Ok(()));
        let mut rest: VecDeque<OsString> = parts(path);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                if self.open.len() > 1 {
                    self.open.pop();
                    self.at.pop();
                }
                continue;
            }
            let next = self.at.join(&name);
            self.host.reach(&next).map_err(Why::from)?;
            let Some(above) = self.open.last() else {
                return Err((Reason::Failed, "no directory to begin at").into());
            };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = match openat(above, &name, flags, Mode::empty()) {
                Ok(opened) => opened,
                // Nothing is there, nor below.
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    self.at = next;
                    self.at.extend(rest.drain(..));
                    break;
                }
                Err(e) => return Err(io::Error::from(e).into()),
            };
            trusted.judge(above, &self.at, self.root);
            let Ok(target) = readlinkat(&opened, c"", Vec::new()) else {
                self.open.push(opened);
                self.at = next;
                continue;
            };
            self.take_link(&opened, next)?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                self.restart()?;
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
        if !self.links.is_empty() {
            trusted.0?;
        }
        Ok(Place { path: self.at, links: self.links })
    }

    /// Back to "/".
    fn restart(&mut self) -> Result<(), Why> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, self.host.path(Path::new("/")), flags, Mode::empty());
        self.open = vec![root.map_err(io::Error::from).map_err(Why::from)?];
        self.at = PathBuf::from("/");
        Ok(())
    }

    fn take_link(&mut self, link: &OwnedFd, at: PathBuf) -> Result<(), Why> {
        let owner = fstat(link).map_err(io::Error::from).map_err(Why::from)?.st_uid;
        if owner != self.root {
            let why = format!("the link '{}' belongs to user {owner}", crate::text::show(&at));
            return Err((Reason::Unproven, why).into());
        }
        if self.links.len() >= MAX_LINKS {
            return Err((Reason::TooMany, "too many links").into());
        }
        self.links.push(at);
        Ok(())
    }
}

/// Whether nobody but root can have put a link anywhere on the way; of a way without links nobody asks.
struct Trust(Result<(), Why>);

impl Trust {
    fn judge(&mut self, directory: &OwnedFd, at: &Path, root: u32) {
        if self.0.is_err() {
            return;
        }
        let why = match fstat(directory) {
            Ok(it) if it.st_uid != root && it.st_uid != 0 => format!("belongs to user {}", it.st_uid),
            Ok(it) if it.st_mode & 0o002 != 0 && it.st_mode & 0o1000 == 0 => "is writable by all".into(),
            Ok(it) if it.st_mode & 0o020 != 0 && it.st_gid != 0 && it.st_mode & 0o1000 == 0 => {
                format!("is writable by group {}", it.st_gid)
            }
            Ok(_) => return,
            Err(e) => format!("cannot be looked at: {e}"),
        };
        let why = format!("a link is on the way, and the directory '{}' {why}", crate::text::show(at));
        self.0 = Err((Reason::Unproven, why).into());
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |c: Component| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

/// True for a path that says where it is by itself.
pub fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// Directories of the top level that distributions have, besides `lib` and its like.
const FURNITURE: &[&str] = &[
    "bin",
    "boot",
    "cdrom",
    "dev",
    "efi",
    "etc",
    "gnu",
    "home",
    "lost+found",
    "media",
    "mnt",
    "net",
    "nix",
    "opt",
    "ostree",
    "proc",
    "root",
    "run",
    "sbin",
    "snap",
    "srv",
    "sys",
    "sysroot",
    "tmp",
    "usr",
    "var",
    "writable",
];

/// True for the top itself, and for what every machine has directly below it: nobody has such a one alone.
pub fn is_furniture(path: &Path) -> bool {
    let mut names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let first = names.next().map(|name| name.to_string_lossy());
    let has = |name: &str| name.starts_with("lib") || FURNITURE.contains(&name);
    names.next().is_none() && first.is_none_or(|name| has(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["var/common", "mnt/big/kubelet/pods"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let host = Host::at(dir.path());
        (dir, host)
    }

    fn path(host: &Host, path: &str) -> String {
        of(host, Path::new(path)).unwrap().path.display().to_string()
    }

    #[test]
    fn links_of_every_shape_lead_to_the_place() {
        let (dir, host) = tree();
        let at = |name: &str| dir.path().join(name);
        symlink("/mnt/big/kubelet", at("var/common/absolute")).unwrap();
        symlink("../../mnt/big/kubelet", at("var/common/relative")).unwrap();
        symlink("/var/common/relative", at("var/common/second")).unwrap();
        symlink("/nowhere/x", at("var/common/dangling")).unwrap();
        symlink("/var/common/loop", at("var/common/loop")).unwrap();
        for name in ["absolute", "relative", "second"] {
            assert_eq!(
                path(&host, &format!("/var/common/{name}/pods/new")),
                "/mnt/big/kubelet/pods/new",
                "{name}"
            );
        }
        assert_eq!(path(&host, "/var/common/dangling/y"), "/nowhere/x/y");
        assert_eq!(path(&host, "/var/common/plain/y"), "/var/common/plain/y");
        let second = of(&host, Path::new("/var/common/second")).unwrap();
        assert_eq!(second.links, ["/var/common/second", "/var/common/relative"].map(PathBuf::from));
        assert!(of(&host, Path::new("/var/common/loop")).is_err());
    }

    #[test]
    fn a_link_that_others_could_have_made_is_not_followed() {
        let (dir, host) = tree();
        symlink("/mnt/big/kubelet", dir.path().join("var/common/k")).unwrap();
        let open =
            |mode| fs::set_permissions(dir.path().join("mnt"), fs::Permissions::from_mode(mode)).unwrap();
        open(0o777);
        let why = of(&host, Path::new("/var/common/k/pods")).unwrap_err().text;
        assert!(why.contains("'/mnt' is writable by all"), "{why}");
        assert_eq!(
            path(&host, "/mnt/big/kubelet"),
            "/mnt/big/kubelet",
            "without a link that is nobody's business"
        );
        open(0o755);
        assert_eq!(path(&host, "/var/common/k"), "/mnt/big/kubelet");
    }

    #[test]
    fn what_every_machine_has_is_nobodys_alone() {
        for path in ["/", "/usr", "/lib64", "/libx32/", "/mnt", "/snap", "/var/"] {
            assert!(is_furniture(Path::new(path)), "{path}");
        }
        for path in ["/x", "/data", "/mnt/big", "/var/lib", "/usr2"] {
            assert!(!is_furniture(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_users_link_is_not_followed() {
        let (dir, host) = tree();
        let link = dir.path().join("var/common/k");
        symlink("/mnt/big/kubelet", &link).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let why = for_owner(&host, own + 1, Path::new("/var/common/k")).unwrap_err().text;
        assert!(why.contains(&format!("'/var/common/k' belongs to user {own}")), "{why}");
    }
}
