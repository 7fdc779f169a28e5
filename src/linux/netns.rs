//! Network namespaces, by the numbers that the kernel gives them.
//!
//! A number belongs to one namespace as long as that lives, and may be given to another one afterwards: by itself it
//! identifies nothing that was looked at earlier.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::gone;
use crate::linux::host::Host;
use crate::linux::mountinfo::Mount;

/// The number of the namespace that a process is in ("self" or a PID); an error if we may not know.
pub fn of_process(host: &Host, pid: &str) -> io::Result<u64> {
    let link = std::fs::read_link(host.path(Path::new(&format!("/proc/{pid}/ns/net"))))?;
    number(&link).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// True if we may not know where a process is; one that has ended hides nothing.
pub fn is_hidden(asked: &io::Result<u64>) -> bool {
    asked.as_ref().is_err_and(|e| !e.raw_os_error().is_some_and(gone))
}

/// The number of the namespace that a mount shows; none if it shows something else.
pub fn of_mount(mount: &Mount) -> Option<u64> {
    (mount.fstype() == "nsfs").then(|| number(mount.root())).flatten()
}

/// The namespace that is bound at a path now.
pub fn at(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).map(|found| found.ino())
}

/// As the kernel writes it: `net:[4026531840]`.
fn number(name: &Path) -> Option<u64> {
    name.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// A path as it is known everywhere: `/var/run` is a symlink to `/run`, and CNI's own library writes the long form.
pub fn plain(path: &Path) -> PathBuf {
    path.strip_prefix("/var/run").map_or_else(|_| path.to_path_buf(), |below| Path::new("/run").join(below))
}

/// True for a name such as containerd gives to the namespaces that it makes (`cni-…`).
pub fn is_cnis(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"cni-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let own = of_process(&Host::live(), "self").unwrap();
        assert_eq!(own, of_process(&Host::live(), &std::process::id().to_string()).unwrap());
        let line = format!(
            "1 0 0:4 net:[{own}] /run/netns/a rw - nsfs nsfs rw\n2 0 0:4 mnt:[7] /b rw - nsfs n rw\n"
        );
        let table = crate::linux::mountinfo::parse(line.as_bytes());
        assert_eq!(table.mounts.iter().map(of_mount).collect::<Vec<_>>(), [Some(own), None]);
        for odd in ["net:[]", "net:[1", "net:1]", "mnt:[1]", "/net:[1]"] {
            assert_eq!(number(Path::new(odd)), None, "{odd}");
        }
        assert_eq!(plain(Path::new("/var/run/netns/a")), Path::new("/run/netns/a"));
        assert_eq!(plain(Path::new("/var/running")), Path::new("/var/running"));
    }
}
