//! snapd's units: which snap, and which of its services, a control group is of.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The service of this snap whose group a path is in: `snap.NAME.SERVICE.service` among its components.
pub fn service_of<'a>(group: &'a Path, instance: &str) -> Option<&'a str> {
    units_of_snaps(group)
        .find_map(|unit| unit.strip_prefix(instance)?.strip_prefix('.')?.strip_suffix(".service"))
}

/// The instance name of any snap's unit (service or scope) in a path: `snap.NAME.…`.
pub fn snap_of(group: &Path) -> Option<&str> {
    units_of_snaps(group).find_map(|unit| {
        unit.strip_suffix(".service").or_else(|| unit.strip_suffix(".scope"))?.split('.').next()
    })
}

/// The components of a path that begin with `snap.`, without that. Every group of the machine is asked.
fn units_of_snaps(group: &Path) -> impl Iterator<Item = &str> {
    let parts = group.as_os_str().as_bytes().split(|b| *b == b'/');
    parts.filter_map(|part| std::str::from_utf8(part.strip_prefix(b"snap.")?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_matched_by_whole_name() {
        let group = Path::new("/system.slice/snap.microk8s.daemon-containerd.service");
        assert_eq!(service_of(group, "microk8s"), Some("daemon-containerd"));
        assert_eq!(service_of(group, "micro"), None);
        assert_eq!(service_of(Path::new("/system.slice/snap.microk8s_b.d.service"), "microk8s"), None);
        assert_eq!(snap_of(Path::new("/system.slice/snap.microk8s_b.d.service")), Some("microk8s_b"));
        assert_eq!(snap_of(Path::new("/system.slice/snap.x.hook.remove-1.scope")), Some("x"));
        assert_eq!(snap_of(Path::new("/system.slice/snap.mount")), None);
    }
}
