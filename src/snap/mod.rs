//! The snap whose leftovers are to go: its names and its directories.

pub mod bom;
pub mod hostfs;
pub mod profile;
pub mod units;

use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::linux::host::Host;
use crate::linux::identity::by_age;
use crate::text;

/// Where snapd mounts snaps: on Ubuntu and Debian, and on distributions that follow Fedora.
const MOUNT_DIRS: [&str; 2] = ["/snap", "/var/lib/snapd/snap"];

/// The snap and its directories, as they are called where we run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snap {
    pub name: String,
    /// The instance's name: the snap's, with `_key` for a parallel instance.
    pub instance: String,
    /// The revision, where it is known.
    pub revision: Option<String>,
    /// `$SNAP`.
    #[serde(with = "text")]
    pub dir: PathBuf,
    /// `$SNAP_COMMON`.
    #[serde(with = "text")]
    pub common: PathBuf,
    /// `$SNAP_DATA`.
    #[serde(with = "text")]
    pub data: PathBuf,
    /// `/var/snap/…`: below it lies all data of all revisions.
    #[serde(with = "text")]
    pub home: PathBuf,
}

impl Snap {
    /// From the environment that snapd gives a hook. The environment is not trusted: its directories must be
    /// the ones that snapd uses for these names.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Snap> {
        let need = |key: &str| {
            let value = get(key).filter(|v| !v.is_empty());
            value.ok_or_else(|| {
                Error::NotStarted(format!("${key} is not set: this is a snap's remove hook, run by snapd"))
            })
        };
        let name = need("SNAP_NAME")?;
        let instance = get("SNAP_INSTANCE_NAME").filter(|v| !v.is_empty()).unwrap_or_else(|| name.clone());
        let revision = need("SNAP_REVISION")?;
        let (dir, common, data) = (need("SNAP")?, need("SNAP_COMMON")?, need("SNAP_DATA")?);
        check_names(&name, &instance)?;
        if !is_revision(&revision) {
            return Err(Error::NotStarted(format!(
                "$SNAP_REVISION is not a revision: '{}'",
                revision.escape_debug()
            )));
        }
        // Inside a parallel instance, snapd maps its directories to the snap's own name.
        let expect = |key: &str, value: &str, allowed: &[String]| match allowed.iter().any(|a| a == value) {
            true => Ok(PathBuf::from(value)),
            false => Err(Error::NotStarted(format!(
                "${key} is '{}', expected '{}'",
                value.escape_debug(),
                allowed[0]
            ))),
        };
        let names = [&name, &instance];
        let dirs: Vec<_> =
            MOUNT_DIRS.iter().flat_map(|m| names.map(|n| format!("{m}/{n}/{revision}"))).collect();
        let dir = expect("SNAP", &dir, &dirs)?;
        let common = expect("SNAP_COMMON", &common, &names.map(|n| format!("/var/snap/{n}/common")))?;
        let data = expect("SNAP_DATA", &data, &names.map(|n| format!("/var/snap/{n}/{revision}")))?;
        let home = common.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Snap { name, instance, revision: Some(revision), dir, common, data, home })
    }

    /// From outside of the snap, by its instance name; also once it is no longer installed.
    pub fn by_name(host: &Host, instance: &str) -> Result<Snap> {
        let name = instance.split('_').next().unwrap_or(instance);
        check_names(name, instance)?;
        let current = |below: &str| {
            let link = host.path(&Path::new(below).join(instance).join("current"));
            std::fs::read_link(link).ok()?.to_str().filter(|r| is_revision(r)).map(str::to_owned)
        };
        let mount_dir = MOUNT_DIRS.iter().find(|m| current(m).is_some()).unwrap_or(&MOUNT_DIRS[0]);
        let revision = current(mount_dir).or_else(|| current("/var/snap"));
        let last = revision.clone().unwrap_or_else(|| "current".into());
        let home = Path::new("/var/snap").join(instance);
        Ok(Snap {
            name: name.to_owned(),
            instance: instance.to_owned(),
            revision,
            dir: Path::new(mount_dir).join(instance).join(&last),
            common: home.join("common"),
            data: home.join(&last),
            home,
        })
    }

    /// True if snapd has it installed, enabled or not.
    pub fn is_installed(&self, host: &Host) -> bool {
        MOUNT_DIRS.iter().any(|dir| host.exists(&Path::new(dir).join(&self.instance)).unwrap_or(true))
    }

    /// True if snapd has it installed and enabled: then there is a current revision.
    pub fn is_enabled(&self, host: &Host) -> bool {
        let current = |below: &&str| Path::new(below).join(&self.instance).join("current");
        MOUNT_DIRS.iter().any(|dir| host.exists(&current(dir)).unwrap_or(true))
    }

    /// Other instances of it that snapd has installed.
    pub fn other_instances(&self, host: &Host) -> Vec<String> {
        let mut others = Vec::new();
        for dir in MOUNT_DIRS {
            for name in host.list(Path::new(dir)).unwrap_or_default() {
                let Some(name) = name.to_str().filter(|name| *name != self.instance) else { continue };
                if name.split('_').next() == Some(self.name.as_str()) {
                    others.push(name.to_owned());
                }
            }
        }
        others
    }

    /// The version that `meta/snap.yaml` gives, where that can be read.
    pub fn version(&self, host: &Host) -> Option<String> {
        let text = host.read_text(&self.dir.join("meta/snap.yaml")).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix("version:"))?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// True if snapd runs us for it.
    pub fn runs_us(&self) -> bool {
        let name = ["SNAP_INSTANCE_NAME", "SNAP_NAME"].into_iter().find_map(std::env::var_os);
        name.is_some_and(|name| name == self.instance.as_str())
    }

    /// Refuses an instance of which the machine has no trace. Within a mount namespace of its own it has the paths of the
    /// snap's own name, so a mistyped key would take what is another instance's.
    pub fn require_trace(&self, host: &Host) -> Result<()> {
        let instance = &self.instance;
        if *instance == self.name {
            return Ok(());
        }
        let mut places: Vec<PathBuf> = MOUNT_DIRS.iter().map(|m| Path::new(m).join(instance)).collect();
        places.push(self.home_on_host());
        places.push(Path::new("/run").join(format!("snap.{instance}")));
        let units =
            ["", "systemd", "unified"].map(|h| Path::new("/sys/fs/cgroup").join(h).join("system.slice"));
        let unit = format!("snap.{instance}.");
        let has_unit = |dir: &PathBuf| {
            let entries = std::fs::read_dir(host.path(dir)).into_iter().flatten().flatten();
            entries.into_iter().any(|entry| entry.file_name().as_bytes().starts_with(unit.as_bytes()))
        };
        if places.iter().any(|place| host.exists(place).unwrap_or(true)) || units.iter().any(has_unit) {
            return Ok(());
        }
        Err(Error::NotStarted(format!(
            "there is no instance '{instance}' on this machine, and nothing of one"
        )))
    }

    /// Directories such as a snap of this name would have, to check a profile against.
    pub fn stand_in(name: &str) -> Snap {
        let home = Path::new("/var/snap").join(name);
        Snap {
            name: name.to_owned(),
            instance: name.to_owned(),
            revision: Some("x1".into()),
            dir: Path::new("/snap").join(name).join("x1"),
            common: home.join("common"),
            data: home.join("x1"),
            home,
        }
    }

    /// The same snap with its directories as processes inside it know them: a parallel instance runs in a
    /// mount namespace in which they carry the snap's name.
    pub fn inside(&self) -> Snap {
        let swap = |path: &Path| match path.strip_prefix(&self.home) {
            Ok(below) => Path::new("/var/snap").join(&self.name).join(below),
            Err(_) => path.to_path_buf(),
        };
        Snap {
            common: swap(&self.common),
            data: swap(&self.data),
            home: Path::new("/var/snap").join(&self.name),
            ..self.clone()
        }
    }

    /// `/var/snap/INSTANCE`, as the host calls it: in a parallel instance's hook, the paths of the environment are those
    /// of the snap's own name, which on the host are another instance's.
    pub fn home_on_host(&self) -> PathBuf {
        Path::new("/var/snap").join(&self.instance)
    }

    /// True for a path of the host strictly below what is this instance's there.
    pub fn owns_on_host(&self, path: &Path) -> bool {
        let mut roots = MOUNT_DIRS.iter().map(|m| Path::new(m).join(&self.instance));
        let below = |root: &Path| path.starts_with(root) && path != root;
        below(&self.home_on_host()) || roots.any(|root| below(&root))
    }

    /// The instance's own directory below /run, which snapd's template lets it use and nobody takes away.
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/snap.{}", self.instance))
    }

    /// True for what we write there ourselves: the result, also one that is not finished, and the lock.
    pub fn is_result(&self, path: &Path) -> bool {
        let name = path.strip_prefix(self.run_dir()).ok().and_then(|below| below.iter().next());
        let name = name.map_or(&b""[..], |name| name.as_encoded_bytes());
        name.starts_with(b"teardown.") || name.starts_with(b".teardown.")
    }

    /// True for that directory or a path below it.
    pub fn owns_at_run(&self, path: &Path) -> bool {
        path.starts_with(self.run_dir())
    }

    /// True for a path strictly below the snap's common or data directory.
    pub fn owns(&self, path: &Path) -> bool {
        [&self.common, &self.data].into_iter().any(|root| path.starts_with(root) && path != root)
    }

    /// True for what is known to have been there before the snap was: somebody else has made it. `snap restore` makes the common
    /// directory anew, and not the one above.
    pub fn is_younger_than(&self, host: &Host, path: &Path) -> bool {
        [&self.common, &self.home].into_iter().all(|own| by_age(host, path, own) == Some(Ordering::Less))
    }
}

fn check_names(name: &str, instance: &str) -> Result<()> {
    let key = |rest: &str| {
        (1..=10).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let is_instance =
        instance == name || instance.strip_prefix(name).and_then(|r| r.strip_prefix('_')).is_some_and(key);
    if is_name(name) && is_instance {
        return Ok(());
    }
    Err(Error::NotStarted(format!("'{}' is not the name of a snap", instance.escape_debug())))
}

/// snapd's rule for names (snap/naming/validate.go): lower case, digits and dashes, a letter at least, no dash
/// at either end and no two in a row.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let dashes = name.starts_with('-') || name.ends_with('-') || name.contains("--");
    (2..=40).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !dashes
}

/// snapd's rule for apps: letters, digits, single dashes between them.
pub fn is_app(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !name.is_empty()
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

fn is_revision(revision: &str) -> bool {
    let number = revision.strip_prefix('x').unwrap_or(revision);
    !number.is_empty() && number.len() <= 9 && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(change: &[(&str, &str)]) -> Result<Snap> {
        let plain = [
            ("SNAP", "/snap/microk8s/7"),
            ("SNAP_NAME", "microk8s"),
            ("SNAP_INSTANCE_NAME", "microk8s"),
            ("SNAP_COMMON", "/var/snap/microk8s/common"),
            ("SNAP_DATA", "/var/snap/microk8s/7"),
            ("SNAP_REVISION", "7"),
        ];
        Snap::from_environment(|key| {
            let found = change.iter().chain(&plain).find(|(k, _)| *k == key);
            found.map(|(_, v)| v.to_string())
        })
    }

    #[test]
    fn takes_what_snapd_gives() {
        let snap = environment(&[]).unwrap();
        assert_eq!((snap.name.as_str(), snap.home.as_path()), ("microk8s", Path::new("/var/snap/microk8s")));
        let parallel =
            environment(&[("SNAP_INSTANCE_NAME", "microk8s_b"), ("SNAP", "/snap/microk8s_b/7")]).unwrap();
        assert_eq!(parallel.instance, "microk8s_b");
    }

    #[test]
    fn refuses_what_snapd_would_not_give() {
        for bad in [
            ("SNAP_NAME", ""),
            ("SNAP_NAME", "../etc"),
            ("SNAP_COMMON", "/"),
            ("SNAP_COMMON", "/var/snap/other/common"),
            ("SNAP_COMMON", ""),
            ("SNAP_DATA", "/var/snap/microk8s/8"),
            ("SNAP", "/home/me/microk8s/7"),
            ("SNAP_REVISION", "7/.."),
            ("SNAP_INSTANCE_NAME", "other"),
            ("SNAP_INSTANCE_NAME", "microk8s_"),
            ("SNAP_INSTANCE_NAME", "microk8s_B"),
        ] {
            assert!(matches!(environment(&[bad]), Err(Error::NotStarted(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_snap_owns_what_is_below_its_directories_and_not_these_themselves() {
        let snap = Snap::stand_in("microk8s");
        assert!(snap.owns(Path::new("/var/snap/microk8s/common/x")));
        for foreign in
            ["/var/snap/microk8s/common", "/var/snap/microk8s/commons/x", "/var/snap/microk8s2/common/x", "/"]
        {
            assert!(!snap.owns(Path::new(foreign)), "{foreign}");
        }
    }

    #[test]
    fn inside_a_parallel_instance_paths_carry_the_snaps_name() {
        let snap = Snap::by_name(&Host::at(tempfile::tempdir().unwrap().path()), "microk8s_b").unwrap();
        assert_eq!(snap.common, Path::new("/var/snap/microk8s_b/common"));
        assert_eq!(snap.inside().common, Path::new("/var/snap/microk8s/common"));
    }
}
