//! What a profile may name: words, and paths below the snap's own directories and a few that runtimes share.

use std::path::{Component, Path, PathBuf};

use super::{Patience, Profile, Roots, SYMLINKS, ToldBy, for_shims};
use crate::error::{Error, Position, Result};
use crate::order;
use crate::snap::Snap;
use crate::snap::profile::place;

/// snapd kills a hook after 10 minutes; a profile may not come closer than this.
const MAX_DEADLINE: u64 = 540;

/// Host paths that container runtimes share and that a profile may name besides the snap's own directories.
/// Nothing below them is ours because of where it lies: it must be tied to an owned container besides.
const SHARED: &[&str] =
    &["/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet"];

/// True for one of these, or a path below it.
pub fn is_shared(path: &Path) -> bool {
    SHARED.iter().any(|shared| path.starts_with(shared))
}

impl Profile {
    /// What is no path. Else the key at which a value is wrong, and what is wrong.
    pub(super) fn check_words(&self) -> std::result::Result<(), (String, String)> {
        let fail = |key: &str, reason: String| Err((key.to_owned(), reason));
        if self.schema != 1 {
            return fail("schema", format!("version {} is not known here, only 1", self.schema));
        }
        if !crate::snap::is_name(&self.snap) {
            return fail("snap", format!("{} is not a snap's name", quoted(&self.snap)));
        }
        let supervisors = keyed("services.supervisors", &self.services.supervisors);
        let runtime = self.services.runtime.iter().map(|r| ("services.runtime".to_owned(), r));
        if let Some((key, service)) = runtime.chain(supervisors).find(|(_, s)| !crate::snap::is_app(s)) {
            return fail(&key, format!("{} is not the name of a service", quoted(service)));
        }
        for (key, link) in keyed("network.links", &self.network.links) {
            let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
            if link.is_empty() || link.len() > 15 || !link.bytes().all(plain) || link == "lo" {
                return fail(&key, format!("{} is not the name of a link that may be removed", quoted(link)));
            }
        }
        for (key, comment) in keyed("network.rule-comments", &self.network.rule_comments) {
            if comment.chars().count() < 8 {
                let why = "is too short a comment to prove whose a rule is (8 characters at least)";
                return fail(&key, format!("{} {why}", quoted(comment)));
            }
        }
        let Patience { drain, deadline, maximum_grace, .. } = self.patience;
        if deadline == 0 || deadline > MAX_DEADLINE {
            return fail(
                "patience.deadline",
                format!("{deadline} is not between 1 and {MAX_DEADLINE} seconds"),
            );
        }
        if drain > deadline {
            return fail("patience.drain", format!("{drain} is more than the deadline, {deadline}"));
        }
        if let Some(most) = maximum_grace.filter(|most| *most > deadline) {
            return fail("patience.maximum-grace", format!("{most} is more than the deadline, {deadline}"));
        }
        Ok(())
    }

    /// The profile's paths for one snap.
    pub fn resolve(&self, snap: &Snap) -> Result<Roots> {
        if self.snap != snap.name {
            let reason = format!("it is for snap '{}', not for '{}'", self.snap, snap.name);
            return Err(Error::Profile { from: format!("of '{}'", self.snap), position: None, reason });
        }
        self.roots(snap, b"", &format!("of '{}'", self.snap))
    }

    pub(super) fn roots(&self, snap: &Snap, bytes: &[u8], from: &str) -> Result<Roots> {
        let check = |key: &str, value: &str, may: May| {
            let path = plain(snap, value).and_then(|path| may.allows(snap, &path).map(|()| path));
            path.map_err(|why| at_key(bytes, from, key, &format!("{} is {why}", quoted(value))))
        };
        let all = |key, values, may| {
            keyed(key, values).map(|(key, v)| check(&key, v, may)).collect::<Result<Vec<_>>>()
        };
        let one = |key, value: &Option<String>, may| value.as_deref().map(|v| check(key, v, may)).transpose();
        let c = &self.containerd;
        let kubelet =
            self.kubelet.as_ref().map(|k| check("kubelet.root", &k.root, May::OwnOrShared)).transpose()?;
        let told_by = self.kubelet.as_ref().map_or(&[][..], |k| &k.told_by);
        let mut roots = Roots {
            address: check("containerd.address", &c.address, May::OwnOrShared)?,
            state: check("containerd.state", &c.state, May::OwnOrShared)?,
            root: check("containerd.root", &c.root, May::OwnOrShared)?,
            shim_sockets: check("containerd.shim-sockets", &c.shim_sockets, May::OwnOrShared)?,
            runc: check("containerd.runc", &c.runc, May::OwnOrShared)?,
            fifos: check("containerd.fifos", &c.fifos, May::OwnOrShared)?,
            ctr: one("containerd.ctr", &c.ctr, May::Shipped)?,
            mounts: all("mounts", &self.mounts, May::Own)?,
            cni: check("network.cni", &self.network.cni, May::OwnOrShared)?,
            netns: check("network.netns", &self.network.netns, May::OwnOrShared)?,
            iptables: one("network.iptables", &self.network.iptables, May::Shipped)?,
            host_symlinks: all("host-symlinks", &self.host_symlinks, May::Symlink)?,
            data: all("data", &self.data, May::Data)?,
            volumes: all("volumes", &self.volumes, May::Own)?,
            scripts: one("hooks", &self.scripts, May::Own)?,
            told_by: ToldBy {
                containerd: all("containerd.told-by", &c.told_by, May::Data)?,
                kubelet: all("kubelet.told-by", told_by, May::Own)?,
            },
            logs: self.kubelet.as_ref().is_some_and(|k| k.logs),
            kubelet,
            ..Roots::default()
        };
        // A runtime that was killed leaves both.
        roots.sockets = vec![roots.address.clone(), for_shims(&roots.address)];
        let runtime = [Some(&roots.state), Some(&roots.root), roots.kubelet.as_ref()];
        let runtime = runtime.into_iter().flatten().cloned();
        let (own, shared): (Vec<_>, Vec<_>) = runtime.partition(|root| snap.owns(root));
        roots.mounts.splice(0..0, own);
        roots.shared = shared;
        // One that is named twice holds no more for that.
        order::sort(&mut roots.volumes);
        roots.volumes.dedup();
        Ok(roots)
    }
}

/// Which paths a key may name.
#[derive(Clone, Copy)]
enum May {
    /// Strictly below `$SNAP_COMMON` or `$SNAP_DATA`.
    Own,
    /// Own, or the instance's own directory in /run, or below that.
    Data,
    /// Own, or one of the paths that container runtimes share on a host.
    OwnOrShared,
    /// A known place for a symlink.
    Symlink,
    /// Below `$SNAP`.
    Shipped,
}

impl May {
    fn allows(self, snap: &Snap, path: &Path) -> std::result::Result<(), &'static str> {
        let shared = || is_shared(path) || snap.owns_at_run(path);
        let (allowed, reason) = match self {
            May::Own => (snap.owns(path), "not below $SNAP_COMMON or $SNAP_DATA"),
            May::Data => (
                snap.owns(path) || snap.owns_at_run(path),
                "neither below $SNAP_COMMON or $SNAP_DATA nor in /run/snap.$SNAP_INSTANCE_NAME",
            ),
            May::OwnOrShared => (
                snap.owns(path) || shared(),
                "neither below $SNAP_COMMON or $SNAP_DATA nor a path that container runtimes share",
            ),
            May::Symlink => (
                SYMLINKS.iter().any(|s| path == Path::new(s)),
                "not a known place for a container snap's symlink",
            ),
            May::Shipped => (path.starts_with(&snap.dir) && path != snap.dir, "not below $SNAP"),
        };
        if allowed { Ok(()) } else { Err(reason) }
    }
}

/// Fills in `$SNAP…` and insists on a plain absolute path.
fn plain(snap: &Snap, value: &str) -> std::result::Result<PathBuf, &'static str> {
    let filled = match value.strip_prefix('$') {
        // What snapd makes for each instance.
        None => match value.strip_prefix("/run/snap.$SNAP_INSTANCE_NAME") {
            Some("") => snap.run_dir(),
            Some(below) if below.starts_with('/') => {
                PathBuf::from(format!("/run/snap.{}{below}", snap.instance))
            }
            Some(_) => return Err("a variable where none is known"),
            None if value.contains('$') => return Err("a variable where none is known"),
            None => PathBuf::from(value),
        },
        Some(rest) => {
            let (variable, below) = rest.split_once('/').unwrap_or((rest, ""));
            let base = match variable {
                "SNAP" => &snap.dir,
                "SNAP_COMMON" => &snap.common,
                "SNAP_DATA" => &snap.data,
                _ => return Err("an unknown variable (known: $SNAP, $SNAP_COMMON, $SNAP_DATA)"),
            };
            if below.is_empty() { base.clone() } else { base.join(below) }
        }
    };
    if value.contains('\0') {
        return Err("a path with a zero byte");
    }
    let odd = value.contains("//") || value.contains("/./") || value.ends_with('/') || value.ends_with("/.");
    if !filled.is_absolute() {
        return Err("not an absolute path");
    }
    if filled.components().any(|c| c == Component::ParentDir) {
        return Err("a path with '..'");
    }
    if odd { Err("not a plain path ('//', '/.' or a '/' at its end)") } else { Ok(filled) }
}

/// Each value of a list with its key.
fn keyed<'a>(key: &str, values: &'a [String]) -> impl Iterator<Item = (String, &'a String)> {
    values.iter().enumerate().map(move |(n, value)| (format!("{key}[{n}]"), value))
}

/// A value as it may be shown.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.escape_debug())
}

pub(super) fn at_key(bytes: &[u8], from: &str, key: &str, reason: &str) -> Error {
    let (from, position) = (from.to_owned(), place::of_key(bytes, key));
    Error::Profile { from, position, reason: format!("{key}: {reason}") }
}

/// Why the parser gave up, in the words of people who write profiles.
pub(super) fn unread(bytes: &[u8], from: &str, error: &serde_json::Error) -> Error {
    let mut place = Position { line: error.line(), column: error.column().max(1) };
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    let of_value = said.strip_prefix("invalid type: ").or_else(|| said.strip_prefix("invalid value: "));
    let what = match of_value.and_then(|what| what.rsplit_once(", expected ")) {
        Some((found, wanted)) => {
            let wanted = match wanted {
                "a sequence" => "a list",
                "u32" | "u64" => "a whole number",
                "a string" => "a string",
                "a boolean" => "true or false",
                _ => "an object",
            };
            let found = found.replacen("sequence", "a list", 1).replacen("map", "an object", 1);
            let key = place::key_at(bytes, &place);
            // The parser stops before some values, and behind others.
            place = key.as_deref().and_then(|key| place::of_key(bytes, key)).unwrap_or(place);
            let key = key.map(|key| key + ": ").unwrap_or_default();
            format!("{key}{found}, where {wanted} is expected")
        }
        None => said.to_owned(),
    };
    Error::Profile { from: from.to_owned(), position: Some(place), reason: what }
}
