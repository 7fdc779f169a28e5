//! The profile: where one snap keeps its things.
//!
//! A profile decides what may be removed, so it is read strictly: an unknown key, a path that is not plain, or
//! a root outside of the snap's own directories and the few host paths that container runtimes share, and
//! nothing at all is touched.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::place::{self, Place};
use crate::snap::Snap;
use crate::text;

const MICROK8S: &str = include_str!("profiles/microk8s.json");

/// snapd kills a hook after 10 minutes; a profile may not come closer than this.
const LONGEST: u64 = 540;

/// Host paths that container runtimes share and that a profile may name besides the snap's own directories.
/// Nothing below them is ours because of where it lies: it must be tied to an owned container besides.
const SHARED: &[&str] =
    &["/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet"];

/// Host paths at which snaps put symlinks into their own directories.
pub const SYMLINKS: &[&str] =
    &["/var/lib/kubelet", "/var/lib/calico", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"];

/// A profile as it is written, with `$SNAP…` in its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Version of this format; 1.
    pub schema: u32,
    /// The snap this profile is for.
    pub snap: String,
    /// Where containerd keeps its things.
    pub containerd: Containerd,
    /// Where kubelet keeps its things, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<Kubelet>,
    /// The services that matter for the order.
    #[serde(default, skip_serializing_if = "Services::is_default")]
    pub services: Services,
    /// More roots below which every mount is the snap's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// What the network plugins leave.
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
    /// Symlinks on the host, removed only if they lead into the snap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_symlinks: Vec<String>,
    /// Directories below the snap's own, deleted with all they hold once nothing of the snap runs or is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// A directory of scripts that users put there, run before anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<String>,
    /// How patient to be.
    #[serde(default, skip_serializing_if = "Patience::is_default")]
    pub patience: Patience,
}

/// Where containerd keeps its things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Containerd {
    /// Its socket, exactly as it was given to containerd (`--address`).
    pub address: String,
    /// Its state directory (`--state`).
    pub state: String,
    /// Its root directory (`--root`).
    pub root: String,
    /// Where shims listen.
    #[serde(default = "Containerd::shim_sockets", skip_serializing_if = "is_default_sockets")]
    pub shim_sockets: String,
    /// runc's state, a directory for each containerd namespace below it.
    #[serde(default = "Containerd::runc", skip_serializing_if = "is_default_runc")]
    pub runc: String,
    /// Where the containers' standard streams are.
    #[serde(default = "Containerd::fifos", skip_serializing_if = "is_default_fifos")]
    pub fifos: String,
    /// The `ctr` that the snap ships, for the very last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctr: Option<String>,
}

impl Containerd {
    fn shim_sockets() -> String {
        "/run/containerd/s".into()
    }
    fn runc() -> String {
        "/run/containerd/runc".into()
    }
    fn fifos() -> String {
        "/run/containerd/fifo".into()
    }
}

fn is_default_sockets(value: &str) -> bool {
    value == Containerd::shim_sockets()
}
fn is_default_runc(value: &str) -> bool {
    value == Containerd::runc()
}
fn is_default_fifos(value: &str) -> bool {
    value == Containerd::fifos()
}

/// Where kubelet keeps its things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubelet {
    /// Its root directory (`--root-dir`).
    pub root: String,
}

/// The services that matter for the order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Services {
    /// The service that runs containerd. Named, it may be started as the very last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Services that start containers again when they end; stopped first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supervisors: Vec<String>,
}

impl Services {
    fn is_default(&self) -> bool {
        *self == Services::default()
    }
}

/// What the network plugins leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Links by name, removed only when nothing foreign uses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Comments that the snap's own firewall rules carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rule_comments: Vec<String>,
    /// Where the snap ships its iptables programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iptables: Option<String>,
    /// Where CNI plugins cache results and lease addresses.
    #[serde(default = "Network::cni", skip_serializing_if = "is_default_cni")]
    pub cni: String,
    /// Where network namespaces are bound.
    #[serde(default = "Network::netns", skip_serializing_if = "is_default_netns")]
    pub netns: String,
}

impl Network {
    fn cni() -> String {
        "/var/lib/cni".into()
    }
    fn netns() -> String {
        "/run/netns".into()
    }
    fn is_default(&self) -> bool {
        *self == Network::default()
    }
}

impl Default for Network {
    fn default() -> Self {
        Network {
            links: vec![],
            rule_comments: vec![],
            iptables: None,
            cni: Self::cni(),
            netns: Self::netns(),
        }
    }
}

fn is_default_cni(value: &str) -> bool {
    value == Network::cni()
}
fn is_default_netns(value: &str) -> bool {
    value == Network::netns()
}

/// How patient to be, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Patience {
    /// How long applications get to end by themselves. One grace for all of them together.
    #[serde(default = "Patience::drain")]
    pub drain: u64,
    /// When the whole run ends, whatever is left.
    #[serde(default = "Patience::deadline")]
    pub deadline: u64,
}

impl Patience {
    fn drain() -> u64 {
        30
    }
    fn deadline() -> u64 {
        240
    }
    fn is_default(&self) -> bool {
        *self == Patience::default()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Patience { drain: Self::drain(), deadline: Self::deadline() }
    }
}

/// A profile whose paths are known: absolute, plain, and allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Roots {
    /// containerd's socket.
    #[serde(with = "text")]
    pub address: PathBuf,
    /// containerd's state directory.
    #[serde(with = "text")]
    pub state: PathBuf,
    /// containerd's root directory.
    #[serde(with = "text")]
    pub root: PathBuf,
    /// Where shims listen.
    #[serde(with = "text")]
    pub shim_sockets: PathBuf,
    /// runc's state.
    #[serde(with = "text")]
    pub runc: PathBuf,
    /// The containers' standard streams.
    #[serde(with = "text")]
    pub fifos: PathBuf,
    /// The `ctr` that the snap ships.
    #[serde(with = "text::option")]
    pub ctr: Option<PathBuf>,
    /// kubelet's root directory.
    #[serde(with = "text::option")]
    pub kubelet: Option<PathBuf>,
    /// Every root below which a mount is the snap's: containerd's, kubelet's and the profile's own.
    #[serde(with = "text::list")]
    pub mounts: Vec<PathBuf>,
    /// Where CNI plugins cache results and lease addresses.
    #[serde(with = "text")]
    pub cni: PathBuf,
    /// Where network namespaces are bound.
    #[serde(with = "text")]
    pub netns: PathBuf,
    /// Where the snap ships its iptables programs.
    #[serde(with = "text::option")]
    pub iptables: Option<PathBuf>,
    /// Symlinks on the host.
    #[serde(with = "text::list")]
    pub host_symlinks: Vec<PathBuf>,
    /// Directories to delete.
    #[serde(with = "text::list")]
    pub data: Vec<PathBuf>,
    /// The users' scripts.
    #[serde(with = "text::option")]
    pub hooks: Option<PathBuf>,
}

impl Profile {
    /// The built-in profile for a snap, if there is one.
    pub fn built_in(snap: &str) -> Result<Option<Profile>> {
        match snap {
            "microk8s" => Profile::parse(MICROK8S.as_bytes(), "microk8s (built in)").map(Some),
            _ => Ok(None),
        }
    }

    /// Reads a profile file.
    pub fn read(host: &Host, file: &Path) -> Result<Profile> {
        Profile::parse(&host.read(file)?, &format!("'{}'", text::show(file)))
    }

    /// The profile for a snap: the one it ships, else the built-in one. A snap with neither is refused.
    pub fn of_snap(host: &Host, snap: &Snap) -> Result<(Profile, String)> {
        let shipped = snap.dir.join("teardown.json");
        if host.exists(&shipped)? {
            return Ok((Profile::read(host, &shipped)?, text::show(&shipped).into_owned()));
        }
        match Profile::built_in(&snap.name)? {
            Some(profile) => Ok((profile, "built in".into())),
            None => Err(Error::Usage(format!(
                "snap '{}' has no profile: ship one as {} (see 'snap-teardown profile --help')",
                snap.name,
                text::show(&shipped)
            ))),
        }
    }

    /// Parses a profile. `from` names it in errors.
    pub fn parse(bytes: &[u8], from: &str) -> Result<Profile> {
        let wrong = |reason: String| Error::Profile { from: from.to_owned(), reason };
        let profile: Profile = serde_json::from_slice(bytes).map_err(|e| wrong(unread(bytes, &e)))?;
        profile.check_words().map_err(|(key, reason)| wrong(at_key(bytes, &key, &reason)))?;
        // Paths are checked with a stand-in for the snap's directories, so that a bad one shows without a snap.
        profile.roots(&Snap::stand_in(&profile.snap), bytes, from)?;
        Ok(profile)
    }

    /// What is no path. Else the key at which a value is wrong, and what is wrong.
    fn check_words(&self) -> std::result::Result<(), (String, String)> {
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
            if comment.len() < 8 {
                let why = "is too short a comment to prove whose a rule is (8 characters at least)";
                return fail(&key, format!("{} {why}", quoted(comment)));
            }
        }
        let Patience { drain, deadline } = self.patience;
        if deadline == 0 || deadline > LONGEST {
            return fail("patience.deadline", format!("{deadline} is not between 1 and {LONGEST} seconds"));
        }
        if drain > deadline {
            return fail("patience.drain", format!("{drain} is more than the deadline, {deadline}"));
        }
        Ok(())
    }

    /// The profile's paths for one snap.
    pub fn resolve(&self, snap: &Snap) -> Result<Roots> {
        if self.snap != snap.name {
            let reason = format!("it is for snap '{}', not for '{}'", self.snap, snap.name);
            return Err(Error::Profile { from: format!("of '{}'", self.snap), reason });
        }
        self.roots(snap, b"", &format!("of '{}'", self.snap))
    }

    fn roots(&self, snap: &Snap, bytes: &[u8], from: &str) -> Result<Roots> {
        let check = |key: &str, value: &str, may: May| {
            let path = plain(snap, value).and_then(|path| may.allows(snap, &path).map(|()| path));
            path.map_err(|why| Error::Profile {
                from: from.to_owned(),
                reason: at_key(bytes, key, &format!("{} is {why}", quoted(value))),
            })
        };
        let all = |key, values, may| {
            keyed(key, values).map(|(key, v)| check(&key, v, may)).collect::<Result<Vec<_>>>()
        };
        let one = |key, value: &Option<String>, may| value.as_deref().map(|v| check(key, v, may)).transpose();
        let c = &self.containerd;
        let kubelet = self.kubelet.as_ref().map(|k| check("kubelet.root", &k.root, May::Own)).transpose()?;
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
            data: all("data", &self.data, May::Own)?,
            hooks: one("hooks", &self.hooks, May::Own)?,
            kubelet,
        };
        let runtime = [Some(&roots.state), Some(&roots.root), roots.kubelet.as_ref()];
        let runtime: Vec<_> = runtime.into_iter().flatten().filter(|r| snap.owns(r)).cloned().collect();
        roots.mounts.splice(0..0, runtime);
        Ok(roots)
    }
}

/// Which paths a key may name.
#[derive(Clone, Copy)]
enum May {
    /// Strictly below `$SNAP_COMMON` or `$SNAP_DATA`.
    Own,
    /// Own, or one of the paths that container runtimes share on a host.
    OwnOrShared,
    /// A known place for a symlink.
    Symlink,
    /// Below `$SNAP`.
    Shipped,
}

impl May {
    fn allows(self, snap: &Snap, path: &Path) -> std::result::Result<(), &'static str> {
        let shared = || {
            let of_snap = PathBuf::from(format!("/run/snap.{}", snap.instance));
            SHARED.iter().any(|s| path.starts_with(s)) || path.starts_with(of_snap)
        };
        let (allowed, reason) = match self {
            May::Own => (snap.owns(path), "not below $SNAP_COMMON or $SNAP_DATA"),
            May::OwnOrShared => (
                snap.owns(path) || shared(),
                "neither below $SNAP_COMMON or $SNAP_DATA nor a path that container runtimes share",
            ),
            May::Symlink => (
                SYMLINKS.iter().any(|s| path == Path::new(s)),
                "not a known place for a container snap's symlink",
            ),
            May::Shipped => (path.starts_with(&snap.dir), "not below $SNAP"),
        };
        if allowed { Ok(()) } else { Err(reason) }
    }
}

/// Fills in `$SNAP…` and insists on a plain absolute path.
fn plain(snap: &Snap, value: &str) -> std::result::Result<PathBuf, &'static str> {
    let filled = match value.strip_prefix('$') {
        None => PathBuf::from(value),
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
    let odd = value.contains('\0')
        || value.contains("//")
        || value.contains("/./")
        || value.ends_with('/')
        || value.ends_with("/.");
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

/// What is wrong at a key, after where that is.
fn at_key(bytes: &[u8], key: &str, reason: &str) -> String {
    match place::of_key(bytes, key) {
        Some(Place { line, column }) => format!("line {line}, column {column}: {key}: {reason}"),
        None => format!("{key}: {reason}"),
    }
}

/// Why the parser gave up, in the words of people who write profiles.
fn unread(bytes: &[u8], error: &serde_json::Error) -> String {
    let place = Place { line: error.line(), column: error.column() };
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    let of_value = said.strip_prefix("invalid type: ").or_else(|| said.strip_prefix("invalid value: "));
    let what = match of_value.and_then(|what| what.rsplit_once(", expected ")) {
        Some((found, wanted)) => {
            let wanted = match wanted {
                "a sequence" => "a list",
                "u32" | "u64" => "a whole number",
                "a string" => "a string",
                _ => "an object",
            };
            let found = found.replacen("sequence", "a list", 1).replacen("map", "an object", 1);
            let key = place::key_at(bytes, &place).map(|key| key + ": ").unwrap_or_default();
            format!("{key}{found}, where {wanted} is expected")
        }
        None => said.to_owned(),
    };
    format!("line {}, column {}: {what}", place.line, place.column)
}

impl Patience {
    /// The drain's grace.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.drain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Profile> {
        let mut value: serde_json::Value = serde_json::from_str(MICROK8S).unwrap();
        edit(&mut value);
        Profile::parse(serde_json::to_string_pretty(&value).unwrap().as_bytes(), "test")
    }

    #[test]
    fn the_built_in_profile_is_valid_and_names_no_user_data() {
        let profile = Profile::built_in("microk8s").unwrap().unwrap();
        let roots = profile.resolve(&Snap::stand_in("microk8s")).unwrap();
        assert_eq!(
            roots.data,
            ["/var/snap/microk8s/common/var/lib/containerd", "/var/snap/microk8s/common/run/containerd"]
                .map(PathBuf::from)
        );
        assert_eq!(roots.mounts.len(), 3);
    }

    #[test]
    fn no_profile_makes_a_foreign_directory_removable() {
        for bad in [
            "/",
            "/etc",
            "/home/me",
            "/root",
            "/var",
            "/var/snap",
            "/var/snap/other/common/x",
            "/var/snap/microk8s",
            "/var/snap/microk8s/common",
            "$SNAP_COMMON",
            "$SNAP_DATA",
            "$HOME/x",
            "relative",
            "",
            "$SNAP_COMMON/../x",
            "$SNAP_COMMON/x/",
            "$SNAP_COMMON//x",
            "$SNAP_COMMON/./x",
            "/var/snap/microk8s2/common/x",
            "/run/containerd",
            "/var/lib/containerd",
            "$SNAP_COMMONS/x",
            "/var/snap/microk8s/common/../../other",
            "$SNAP/x",
        ] {
            let error = edited(|p| p["data"] = serde_json::json!([bad])).expect_err(bad);
            assert!(matches!(error, Error::Profile { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let error = edited(|p| p["mounts"] = serde_json::json!(["/etc"])).unwrap_err().to_string();
        assert!(
            error.contains("line 22, column 5: mounts[0]: \"/etc\" is not below $SNAP_COMMON"),
            "{error}"
        );
        let error = edited(|p| p["colour"] = 1.into()).unwrap_err().to_string();
        assert!(error.contains("unknown field `colour`") && error.contains("line"), "{error}");
        // The same value twice, one of them allowed; a value in other letters than it means; keys that are not there.
        for (text, said) in [
            (
                "\n\"containerd\": {\"address\": \"/etc\", \"state\": \"/run/containerd\", \"root\": \"/etc\"}",
                "line 2, column 27: containerd.address: \"/etc\" is neither",
            ),
            (
                "\n\"containerd\": {\"address\": \"/run/containerd/s\", \"state\": \"/run/containerd\", \"root\": \"\\u002fetc\"}",
                "line 2, column 84: containerd.root: \"/etc\" is neither",
            ),
            (
                "\n\"containerd\": {\"address\": 7, \"state\": \"/run/containerd\", \"root\": \"/x\"}",
                "containerd.address: integer `7`, where a string is expected",
            ),
            (
                "\n\"network\": {\"links\": \"cni0\"}",
                "network.links: string \"cni0\", where a list is expected",
            ),
            ("\n\"patience\": {\"drain\": [3]}", "patience.drain: a list, where a whole number is expected"),
            ("\n\"containerd\": {\"address\": \"/x\"}", "line 2, column 31: missing field `state`"),
        ] {
            let error =
                Profile::parse(format!("{{\"schema\": 1, \"snap\": \"own\", {text}}}").as_bytes(), "test");
            let error = error.expect_err(text).to_string();
            assert!(error.contains(said), "{error}");
        }
        for (change, said) in [
            ("schema", "schema: version 2 is"),
            ("snap", "snap: \"2\" is not"),
            ("patience", "patience.deadline: 0"),
        ] {
            let value = match change {
                "schema" => 2.into(),
                "snap" => "2".into(),
                _ => serde_json::json!({"deadline": 0}),
            };
            let error = edited(|p| p[change] = value).unwrap_err().to_string();
            assert!(error.contains("line ") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn patience_stays_below_snapds() {
        assert!(edited(|p| p["patience"] = serde_json::json!({"deadline": 541})).is_err());
        assert!(edited(|p| p["patience"] = serde_json::json!({"drain": 100, "deadline": 99})).is_err());
        assert!(edited(|p| p["patience"] = serde_json::json!({"drain": 0, "deadline": 540})).is_ok());
    }

    #[test]
    fn words_are_checked() {
        assert!(edited(|p| p["network"]["links"] = serde_json::json!(["lo"])).is_err());
        assert!(edited(|p| p["network"]["links"] = serde_json::json!(["a/b"])).is_err());
        assert!(edited(|p| p["network"]["rule-comments"] = serde_json::json!([""])).is_err());
        assert!(edited(|p| p["services"]["runtime"] = "a b".into()).is_err());
        assert!(edited(|p| p["snap"] = "Micro".into()).is_err());
        assert!(edited(|p| p["schema"] = 2.into()).is_err());
    }
}
