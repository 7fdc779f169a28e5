//! What a containerd shim's command line says, and where its socket must be.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The part of a shim's command line that identifies it. The executable does not: an old revision of the
/// snap, kata, gVisor, spin and nvidia all have other names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimArgs {
    /// containerd's socket: whose shim it is.
    pub address: PathBuf,
    /// containerd's namespace.
    pub namespace: String,
    /// The ID it was started with; some shims have none.
    pub id: Option<String>,
}

/// No command line of a shim has fewer bytes than this one.
pub const SHORTEST: &[u8] = b"\0-address\0/\0-namespace\0n";

/// Reads `/proc/PID/cmdline` as a shim's; none if it is not one.
///
/// containerd also runs the same executable for a moment with an action word (`start`, `delete`). Those
/// serve nobody, and are not shims.
pub fn parse(cmdline: &[u8]) -> Option<ShimArgs> {
    let mut address = None;
    let mut namespace = None;
    let mut id = None;
    let mut rest = cmdline.strip_suffix(b"\0").unwrap_or(cmdline).split(|b| *b == 0).skip(1);
    while let Some(arg) = rest.next() {
        match arg {
            b"-address" | b"--address" => address = Some(PathBuf::from(OsStr::from_bytes(rest.next()?))),
            b"-namespace" | b"--namespace" => namespace = Some(name(rest.next()?)?),
            b"-id" | b"--id" => id = Some(name(rest.next()?)?),
            b"start" | b"delete" => return None,
            _ => {}
        }
    }
    Some(ShimArgs { address: address.filter(|a| a.is_absolute())?, namespace: namespace?, id })
}

/// Namespaces and IDs become parts of paths: one component, printable, nothing that leads elsewhere
/// (containerd's own rule: pkg/identifiers).
pub fn name(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = !text.is_empty() && text.len() <= 128 && text.bytes().all(plain) && !text.starts_with('.');
    good.then(|| text.to_owned())
}

/// The socket of a shim: the hash of containerd's address, namespace and the group's ID (containerd
/// `pkg/shim/util_unix.go`; the directory is fixed up to 2.2 whatever `--state` says, `socket_dir` since 2.3).
pub fn socket(directory: &Path, address: &Path, namespace: &str, id: &str) -> PathBuf {
    hashed(directory, &address.join(namespace).join(id))
}

pub fn debug_socket(directory: &Path, address: &Path, namespace: &str, id: &str) -> PathBuf {
    hashed(directory, &address.join(namespace).join(id).join("debug"))
}

fn hashed(directory: &Path, text: &Path) -> PathBuf {
    let mut name = String::with_capacity(64);
    for byte in Sha256::digest(text.as_os_str().as_bytes()) {
        let _ = write!(name, "{byte:02x}");
    }
    directory.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Option<ShimArgs> {
        parse(line.replace(' ', "\0").as_bytes())
    }

    #[test]
    fn any_executable_with_or_without_an_id() {
        let shim =
            args("/snap/x/1/bin/containerd-shim-runc-v2 -namespace k8s.io -id abc -address /run/c.sock")
                .unwrap();
        assert_eq!((shim.namespace.as_str(), shim.id.as_deref()), ("k8s.io", Some("abc")));
        assert_eq!(shim.address, Path::new("/run/c.sock"));
        assert!(
            args("runsc-shim -namespace k8s.io -address /run/c.sock -publish-binary /bin/c")
                .unwrap()
                .id
                .is_none()
        );
    }

    #[test]
    fn the_shortest_is_a_shims() {
        assert!(parse(SHORTEST).is_some());
        assert_eq!(SHORTEST.len(), 24);
    }

    #[test]
    fn helpers_and_others_are_not_shims() {
        for line in [
            "shim -namespace k8s.io -id a -address /run/c.sock start",
            "shim -namespace k8s.io -id a -address /run/c.sock -bundle /b delete",
            "containerd --address /run/c.sock",
            "shim -namespace k8s.io -address relative.sock",
            "shim -namespace ../etc -address /run/c.sock",
            "shim -namespace k8s.io -address",
            "",
        ] {
            assert_eq!(args(line), None, "{line}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a\0", "a b", "ä"] {
            assert_eq!(name(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(name(b"k8s.io").as_deref(), Some("k8s.io"));
    }

    #[test]
    fn the_socket_is_the_hash_of_address_namespace_and_id() {
        // What containerd's formula gives; peers.md F3, checked there against 1.6, 1.7 and 2.1.
        let path = socket(Path::new("/run/containerd/s"), Path::new("/run/c.sock"), "k8s.io", "a");
        let expected = Sha256::digest(b"/run/c.sock/k8s.io/a");
        let hex: String = expected.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(path, Path::new("/run/containerd/s").join(hex));
    }
}
