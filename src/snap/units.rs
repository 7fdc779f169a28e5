//! snapd's units: which snap, and which of its services, a control group is of.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::linux::host::Host;

/// Where only root can have units: the system's, and those of root's own session, which has had a slice for apps since systemd 245.
const ROOTS: [&str; 3] = [
    "/system.slice",
    "/user.slice/user-0.slice/user@0.service/app.slice",
    "/user.slice/user-0.slice/user@0.service",
];

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

/// A scope of one of the snap's apps or hooks: `snap run` has it made in the session of who runs it, or, for root without one,
/// below the system's slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppScope<'a> {
    /// Its unit's name without `snap.NAME.`.
    pub name: &'a str,
    /// Only root can have made it. A user may call his own so, too.
    pub is_roots: bool,
}

/// The scope of this snap that a group is.
pub fn scope_of<'a>(group: &'a Path, instance: &str) -> Option<AppScope<'a>> {
    let is_users = group.as_os_str().as_bytes().starts_with(b"/user.slice/");
    let is_roots = group.parent().is_some_and(|parent| ROOTS.iter().any(|roots| parent == Path::new(roots)));
    let unit = group.file_name().filter(|_| is_users || is_roots)?.to_str()?;
    let name = unit.strip_prefix("snap.")?.strip_prefix(instance)?.strip_prefix('.')?;
    name.ends_with(".scope").then_some(AppScope { name, is_roots })
}

/// The unit directly below the system's slice, or among the apps of root's session, if its name begins with `snap.`, without
/// that. Only systemd makes groups there; a user, a container or a guest may make a group of any name elsewhere. Every group of
/// the machine is asked.
fn unit_of_snap(group: &Path) -> Option<&str> {
    let path = group.as_os_str().as_bytes();
    let below =
        ROOTS.iter().find_map(|roots| path.strip_prefix(roots.as_bytes())?.strip_prefix(b"/snap."))?;
    std::str::from_utf8(below.split(|b| *b == b'/').next()?).ok()
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
    fn a_scope_may_be_in_anybodys_session_and_is_roots_in_his_alone() {
        let session = |user: &str| format!("/user.slice/user-{user}.slice/user@{user}.service");
        for (group, roots, snap) in [
            ("/system.slice/snap.x.a-1.scope".to_owned(), Some(true), Some("x")),
            (session("0") + "/app.slice/snap.x.a-1.scope", Some(true), Some("x")),
            (session("0") + "/snap.x.a-1.scope", Some(true), Some("x")),
            (session("0") + "/x.slice/snap.x.a-1.scope", Some(false), None),
            (session("0") + "/snap.x.b-1.scope/guest/snap.x.a-1.scope", Some(false), Some("x")),
            (session("1000") + "/app.slice/snap.x.a-1.scope", Some(false), None),
            (session("1000") + "/app.slice/snap.x_y.a-1.scope", None, None),
            ("/system.slice/snap.x.d.service/guest/snap.x.a-1.scope".into(), None, Some("x")),
            ("/system.slice/snap.x.a-1.service".into(), None, Some("x")),
            ("/machine.slice/snap.x.a-1.scope".into(), None, None),
        ] {
            let group = Path::new(&group);
            let scope = roots.map(|is_roots| AppScope { name: "a-1.scope", is_roots });
            assert_eq!((scope_of(group, "x"), snap_of(group)), (scope, snap), "{group:?}");
        }
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
