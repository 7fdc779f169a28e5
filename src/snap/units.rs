//! snapd's units: which snap, and which of its services, a control group is of.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::linux::host::Host;

/// True if systemd runs this machine (sd_booted(3)), so that slices and scopes are its own; also where that cannot be told.
pub fn has_systemd(host: &Host) -> bool {
    host.exists(Path::new("/run/systemd/system")).unwrap_or(true)
}

/// The service of this snap whose group a path is, or is in: `/system.slice/snap.NAME.SERVICE.service`.
pub fn service_of<'a>(group: &'a Path, instance: &str) -> Option<&'a str> {
    unit_of_snap(group)?.strip_prefix(instance)?.strip_prefix('.')?.strip_suffix(".service")
}

/// The instance name of the snap whose unit (service or scope) a path is, or is in.
pub fn snap_of(group: &Path) -> Option<&str> {
    let unit = unit_of_snap(group)?;
    unit.strip_suffix(".service").or_else(|| unit.strip_suffix(".scope"))?.split('.').next()
}

/// The unit directly below the system's slice, if its name begins with `snap.`, without that. Only systemd makes groups
/// there; a user, a container or a guest may make a group of any name elsewhere. Every group of the machine is asked.
fn unit_of_snap(group: &Path) -> Option<&str> {
    let below = group.as_os_str().as_bytes().strip_prefix(b"/system.slice/")?;
    let unit = below.split(|b| *b == b'/').next()?;
    std::str::from_utf8(unit.strip_prefix(b"snap.")?).ok()
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

    #[test]
    fn a_unit_lies_directly_below_the_systems_slice() {
        let below = Path::new("/system.slice/snap.microk8s.d.service/kubepods/pod1");
        assert_eq!((service_of(below, "microk8s"), snap_of(below)), (Some("d"), Some("microk8s")));
        for group in [
            "/user.slice/user-1000.slice/user@1000.service/snap.microk8s.d.service",
            "/system.slice/x.service/snap.microk8s.d.service",
            "/lxc.payload.a/system.slice/snap.microk8s.d.service",
            "/snap.microk8s.d.service",
            "system.slice/snap.microk8s.d.service",
        ] {
            let group = Path::new(group);
            assert_eq!((service_of(group, "microk8s"), snap_of(group)), (None, None), "{group:?}");
        }
    }
}
