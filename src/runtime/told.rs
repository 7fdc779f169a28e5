//! Where the snap's own configuration tells containerd and kubelet to work: their arguments, and containerd's TOML.
//!
//! Users move roots to bigger disks there. Only what is needed of both formats is read; what is not understood moves
//! nothing, and is told.

mod toml;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Why};
use crate::linux::host::Host;
use crate::linux::place;
use crate::order;
use crate::reason::Reason;
use crate::runtime::docker::{self, CONTAINERDS, DAEMON_FILES};
use crate::snap::Snap;
use crate::snap::profile::{ToldBy, Unresolved, for_shims};
use crate::text::{self, show};

/// Where it was told to work; none where it was not told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredRoots {
    /// containerd's state directory.
    #[serde(with = "text::option")]
    pub state: Option<PathBuf>,
    /// containerd's root directory.
    #[serde(with = "text::option")]
    pub root: Option<PathBuf>,
    /// containerd's socket.
    #[serde(default, with = "text::option")]
    pub address: Option<PathBuf>,
    /// Its other sockets: for its shims, for plugins, for who looks into it.
    #[serde(skip)]
    pub sockets: Vec<PathBuf>,
    /// kubelet's root directory. It is not kept for a later run, which reads the same in kubelet's files.
    #[serde(skip)]
    pub kubelet: Option<PathBuf>,
    /// docker's own directory while it runs, likewise.
    #[serde(skip)]
    pub docker: Option<PathBuf>,
    /// Where kubelet has logs of pods written; the same.
    #[serde(skip)]
    pub pod_logs: Option<PathBuf>,
    /// Control groups that containerd goes into itself, or puts its shims into, each with the file that says so.
    #[serde(skip)]
    pub groups: Vec<(PathBuf, PathBuf)>,
}

/// The keys of containerd's configuration that name its address, up to version 3 and since version 4.
const ADDRESS: [&str; 2] = ["grpc.address", "plugins.io.containerd.server.v1.grpc.address"];

/// The same of its other sockets.
const SOCKETS: [&str; 5] = [
    "debug.address",
    "ttrpc.address",
    "plugins.io.containerd.nri.v1.nri.socket_path",
    "plugins.io.containerd.server.v1.debug.address",
    "plugins.io.containerd.server.v1.ttrpc.address",
];

/// The key of the group that containerd goes into itself, with all that it starts.
const GROUP: &str = "cgroup.path";

/// How the keys end of a group that it has shims of runc's go into, one for each runtime of CRI's.
const SHIMS_GROUP: &str = ".ShimCgroup";

/// As many files of one configuration are read, which may import each other.
const MAX_FILES: usize = 64;

/// As many files are read that change a configuration of kubelet's, and in directories so deep.
const MAX_DROP_INS: usize = 256;
const MAX_DEPTH: usize = 8;

/// Reads these files, the last one counting most; arguments before and after a configuration count more than that. What cannot
/// be read, and a place that is not followed, comes back with the reason: there may be what nobody looks for.
pub fn read(host: &Host, snap: &Snap, files: &ToldBy) -> (ConfiguredRoots, Vec<Unresolved>) {
    let mut reader = Reader { host, snap, told: ConfiguredRoots::default(), unread: Vec::new() };
    let (toml, arguments): (Vec<&PathBuf>, Vec<_>) =
        files.containerd.iter().partition(|f| f.extension().is_some_and(|e| e == "toml"));
    toml.iter().for_each(|file| reader.configuration(file, &mut Vec::new()));
    for file in arguments {
        let words = reader.words(file);
        if let Some(file) = option(&words, &["--config", "-c"]) {
            reader.configuration(Path::new(&file), &mut Vec::new());
        }
        reader.take(file, option(&words, &["--root"]), is_ones, |told| &mut told.root);
        reader.take(file, option(&words, &["--state"]), is_ones, |told| &mut told.state);
        reader.take(file, option(&words, &["--address", "-a"]), is_there, |told| &mut told.address);
    }
    for file in &files.kubelet {
        let words = reader.words(file);
        // Of what kubelet has there, only what it makes itself is followed.
        reader.take(file, option(&words, &["--root-dir"]), is_there, |told| &mut told.kubelet);
        let named = |name| option(&words, &[name]).map(PathBuf::from);
        let mut all: Vec<PathBuf> = named("--config").into_iter().collect();
        if let Some(directory) = named("--config-dir") {
            reader.drop_ins(&directory, &mut all, MAX_DEPTH);
        }
        for file in all {
            let text = reader.text(&file);
            reader.take(&file, pod_logs(&text), is_ones, |told| &mut told.pod_logs);
        }
    }
    if let Some(address) = &reader.told.address {
        reader.told.sockets.extend([address.clone(), for_shims(address)]);
    }
    (reader.told, reader.unread)
}

/// Where docker's daemon is told to work by its own file, as far as its containerd was not told by name. No other file of these
/// counts: who may write at such a place is not known.
pub fn by_docker(host: &Host, snap: &Snap, told: ConfiguredRoots) -> (ConfiguredRoots, Vec<Unresolved>) {
    let mut reader = Reader { host, snap, told: ConfiguredRoots::default(), unread: Vec::new() };
    for home in [&snap.common, &snap.data] {
        for file in DAEMON_FILES.iter().rev().map(|name| home.join(name)) {
            let options = match docker::options(host, &file) {
                Ok(options) => options.unwrap_or_default(),
                Err(e) => reader.note(&file, e.into()),
            };
            reader.take(&file, options.data, is_ones, |told| &mut told.root);
            reader.take(&file, options.exec, is_ones, |told| &mut told.docker);
        }
    }
    let ConfiguredRoots { root: data, docker: exec, .. } = reader.told;
    let containerds = |place: &PathBuf| place.join(CONTAINERDS);
    let root = told.root.or(data.as_ref().map(containerds));
    let state = told.state.or(exec.as_ref().map(containerds));
    (ConfiguredRoots { root, state, docker: exec, ..told }, reader.unread)
}

struct Reader<'a> {
    host: &'a Host,
    snap: &'a Snap,
    told: ConfiguredRoots,
    unread: Vec<Unresolved>,
}

impl Reader<'_> {
    fn words(&mut self, file: &Path) -> Vec<String> {
        words_of(self.snap, &self.text(file))
    }

    /// The text of a file, which may be a link that root has made.
    fn text(&mut self, file: &Path) -> String {
        let read = place::of(self.host, file)
            .and_then(|place| self.host.read(&place.path).or_else(gone_is_empty).map_err(Why::from));
        let bytes = read.unwrap_or_else(|why| {
            let text = format!("{}; it may name other directories to work in", why.text);
            self.note(file, Why { text, ..why })
        });
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn note<T: Default>(&mut self, path: &Path, why: Why) -> T {
        let Why { reason, text: why, .. } = why;
        self.unread.push(Unresolved { path: path.to_path_buf(), reason, why });
        T::default()
    }

    /// A path that says where something is, in one way only, and that may be followed; any other is told.
    fn path(&mut self, file: &Path, text: Option<String>, may: fn(&Path) -> bool) -> Option<PathBuf> {
        let text = text.filter(|text| !text.is_empty())?;
        let path = PathBuf::from(&text);
        if place::is_plain(&path) && !text.contains(['$', '\\']) && may(&path) {
            return Some(path.components().collect());
        }
        let why = format!("it names '{}', where nobody looks: that is no plain place", show(&path));
        self.note(file, (Reason::Malformed, why).into())
    }

    /// Takes such a path, and keeps what was told before where there is none.
    fn take(
        &mut self,
        file: &Path,
        text: Option<String>,
        may: fn(&Path) -> bool,
        of: fn(&mut ConfiguredRoots) -> &mut Option<PathBuf>,
    ) {
        if let Some(path) = self.path(file, text, may) {
            *of(&mut self.told) = Some(path);
        }
    }

    /// A configuration and what it imports, which counts more. containerd reads none twice.
    fn configuration(&mut self, file: &Path, seen: &mut Vec<PathBuf>) {
        if seen.iter().any(|other| other == file) {
            return;
        }
        if seen.len() == MAX_FILES {
            let why = "it is one file too many; it may name other directories to work in";
            return self.note(file, (Reason::TooMany, why.to_owned()).into());
        }
        seen.push(file.to_path_buf());
        let text = self.text(file);
        let mut imports = Vec::new();
        toml::each(&text, &mut |key, texts| {
            let path = || texts.first().map(|value| fill(self.snap, value));
            match key {
                "root" => self.take(file, path(), is_ones, |told| &mut told.root),
                "state" => self.take(file, path(), is_ones, |told| &mut told.state),
                key if ADDRESS.contains(&key) => self.take(file, path(), is_there, |told| &mut told.address),
                key if SOCKETS.contains(&key) => {
                    let socket = self.path(file, path(), is_there);
                    self.told.sockets.extend(socket)
                }
                key if key == GROUP || key.ends_with(SHIMS_GROUP) => {
                    // containerd takes one without a slash from the top, too.
                    let from_top = |path: String| format!("/{}", path.trim_start_matches('/'));
                    let path = path().filter(|path| !path.is_empty()).map(from_top);
                    let group = self.path(file, path, is_there);
                    self.told.groups.extend(group.map(|group| (group, file.to_path_buf())));
                }
                "imports" => imports.extend(texts),
                _ => {}
            }
        });
        for pattern in imports {
            let pattern = file.parent().unwrap_or(Path::new("/")).join(fill(self.snap, &pattern));
            self.matches(&pattern).iter().for_each(|file| self.configuration(file, seen));
        }
    }

    /// The files that change a configuration of kubelet's (since 1.28), in a directory and in those below it: in the order of their
    /// names, each counting more than the ones before.
    fn drop_ins(&mut self, directory: &Path, found: &mut Vec<PathBuf>, left: usize) {
        if left == 0 || found.len() > MAX_DROP_INS {
            let why =
                "it has too many files, or they lie too deep; one may name other directories to work in";
            return self.note(directory, (Reason::TooMany, why.to_owned()).into());
        }
        let listed = place::of(self.host, directory).and_then(|place| match self.host.list(&place.path) {
            Err(e) if e.is_gone() => Ok(Vec::new()),
            listed => listed.map_err(Why::from),
        });
        let mut names = listed.unwrap_or_else(|why| self.note(directory, why));
        order::sort(&mut names);
        for path in names.iter().map(|name| directory.join(name)) {
            if self.host.stat(&path).is_ok_and(|it| it.is_dir()) {
                self.drop_ins(&path, found, left - 1);
            } else if path.as_os_str().as_encoded_bytes().ends_with(b".conf") {
                found.push(path);
            }
        }
    }

    /// The files of a pattern with one `*` in its name; any other pattern is told.
    fn matches(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|n| n.to_str()))
        else {
            return Vec::new();
        };
        // Without a star, containerd takes all of it as it is.
        if !pattern.as_os_str().as_encoded_bytes().contains(&b'*') {
            return vec![pattern.to_path_buf()];
        }
        let (before, after) = name.split_once('*').unwrap_or((name, ""));
        let rest = [directory.as_os_str().as_encoded_bytes(), before.as_bytes(), after.as_bytes()].concat();
        if rest.iter().any(|byte| b"*?[".contains(byte)) {
            let why = "which files that means is not followed; they may name other directories to work in";
            return self.note(pattern, (Reason::Malformed, why.to_owned()).into());
        }
        let names = self.host.list(directory).unwrap_or_else(|error| self.note(directory, error.into()));
        let fits =
            |n: &str| n.len() >= before.len() + after.len() && n.starts_with(before) && n.ends_with(after);
        let mut found: Vec<PathBuf> =
            names.iter().filter(|n| n.to_str().is_some_and(fits)).map(|n| directory.join(n)).collect();
        order::sort(&mut found);
        found
    }
}

/// `podLogsDir` in a KubeletConfiguration, which is YAML or JSON.
fn pod_logs(text: &str) -> Option<String> {
    let mut values = text.split(['\n', ',', '{', '}']).filter_map(|part| {
        let (key, value) = part.split_once(':')?;
        let value = value.split(" #").next().unwrap_or_default();
        let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        (bare(key) == "podLogsDir").then(|| bare(value))
    });
    values.next()
}

/// True for whatever is below the top.
fn is_there(path: &Path) -> bool {
    path.parent().is_some()
}

/// True for what one program can have alone.
fn is_ones(path: &Path) -> bool {
    !place::is_furniture(path)
}

fn gone_is_empty(error: Error) -> Result<Vec<u8>> {
    if error.is_gone() { Ok(Vec::new()) } else { Err(error) }
}

/// The words of a file of arguments, with the snap's directories in the place of their variables.
pub fn words(host: &Host, snap: &Snap, file: &Path) -> Vec<String> {
    words_of(snap, &host.read_text(file).unwrap_or_default())
}

fn words_of(snap: &Snap, text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(str::split_whitespace).map(|word| fill(snap, word.trim_matches(['"', '\'']))).collect()
}

/// The value of the last of these options, in either of its forms.
pub fn option(words: &[String], names: &[&str]) -> Option<String> {
    let of = |at: usize| {
        let word = &words[at];
        names.iter().find_map(|name| match word.strip_prefix(name)? {
            "" => words.get(at + 1).cloned(),
            rest => rest.strip_prefix('=').map(|v| v.trim_matches(['"', '\'']).to_owned()),
        })
    };
    (0..words.len()).rev().find_map(of)
}

/// Puts the snap's directories in the place of their variables.
fn fill(snap: &Snap, text: &str) -> String {
    let mut text = text.to_owned();
    for (name, path) in [("SNAP_COMMON", &snap.common), ("SNAP_DATA", &snap.data)] {
        let path = path.to_string_lossy();
        for variable in [format!("${{{name}}}"), format!("${name}")] {
            text = text.replace(&variable, &path);
        }
    }
    text
}

#[cfg(test)]
mod tests;
