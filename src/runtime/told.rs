//! Where the snap's own configuration tells containerd and kubelet to work: their arguments, and containerd's TOML.
//!
//! Users move roots to bigger disks there. Only what is needed of both formats is read; what is not understood moves
//! nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::linux::host::Host;
use crate::order;
use crate::snap::Snap;
use crate::snap::profile::ToldBy;
use crate::text;

/// Where it was told to work; none where it was not told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredRoots {
    /// containerd's state directory.
    #[serde(with = "text::option")]
    pub state: Option<PathBuf>,
    /// containerd's root directory.
    #[serde(with = "text::option")]
    pub root: Option<PathBuf>,
    /// kubelet's root directory. It is not kept for a later run, which reads the same in kubelet's files.
    #[serde(skip)]
    pub kubelet: Option<PathBuf>,
}

/// Files of one configuration that import each other are read this far.
const MAX_FILES: usize = 16;

/// Reads these files, the last one counting most; arguments before and after a configuration count more than that.
pub fn read(host: &Host, snap: &Snap, files: &ToldBy) -> ConfiguredRoots {
    let mut told = ConfiguredRoots::default();
    let mut left = MAX_FILES;
    let (toml, arguments): (Vec<&PathBuf>, Vec<_>) =
        files.containerd.iter().partition(|f| f.extension().is_some_and(|e| e == "toml"));
    toml.iter().for_each(|file| configuration(host, snap, file, &mut told, &mut left));
    for file in arguments {
        let words = words(host, snap, file);
        if let Some(file) = option(&words, &["--config", "-c"]) {
            configuration(host, snap, Path::new(&file), &mut told, &mut left);
        }
        told.root = option(&words, &["--root"]).and_then(plain).or(told.root);
        told.state = option(&words, &["--state"]).and_then(plain).or(told.state);
    }
    for file in &files.kubelet {
        told.kubelet = option(&words(host, snap, file), &["--root-dir"]).and_then(plain).or(told.kubelet);
    }
    told
}

/// A path that says where something is, and in one way only.
fn plain(text: String) -> Option<PathBuf> {
    let path = PathBuf::from(&text);
    let odd =
        text.contains("/../") || text.ends_with("/..") || text.contains('$') || path.components().count() < 3;
    (path.is_absolute() && !odd).then(|| path.components().collect())
}

/// The words of a file of arguments, with the snap's directories in the place of their variables.
pub fn words(host: &Host, snap: &Snap, file: &Path) -> Vec<String> {
    let text = host.read_text(file).unwrap_or_default();
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

/// A configuration and what it imports, which counts more.
fn configuration(host: &Host, snap: &Snap, file: &Path, told: &mut ConfiguredRoots, left: &mut usize) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    let text = host.read_text(file).unwrap_or_default();
    let mut imports = String::new();
    let mut in_imports = false;
    // Both keys stand before the first table.
    for line in text.lines().map(str::trim) {
        if !in_imports && line.starts_with('[') {
            break;
        }
        if in_imports {
            imports.push_str(line);
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.trim();
            match key.trim().trim_matches('"') {
                "root" => {
                    told.root = string(value).map(|v| fill(snap, &v)).and_then(plain).or(told.root.take())
                }
                "state" => {
                    told.state = string(value).map(|v| fill(snap, &v)).and_then(plain).or(told.state.take())
                }
                "imports" => {
                    imports.push_str(value);
                    in_imports = true;
                }
                _ => {}
            }
        }
        in_imports = in_imports && !line.contains(']');
    }
    for pattern in strings(&imports) {
        let pattern = file.parent().unwrap_or(Path::new("/")).join(fill(snap, &pattern));
        matches(host, &pattern).iter().for_each(|file| configuration(host, snap, file, told, left));
    }
}

fn string(value: &str) -> Option<String> {
    strings(value).into_iter().next()
}

/// The strings of a line or a list.
fn strings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['"', '\'', '#']) {
        let quote = char::from(rest.as_bytes()[start]);
        let Some((one, more)) = rest[start + 1..].split_once(quote) else { break };
        if quote == '#' {
            break;
        }
        found.push(one.to_owned());
        rest = more;
    }
    found
}

/// The files of a pattern with one `*` in its name.
fn matches(host: &Host, pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    let Some((before, after)) = name.split_once('*') else { return vec![pattern.to_path_buf()] };
    let names = host.list(directory).unwrap_or_default();
    let fits = |n: &str| n.len() >= before.len() + after.len() && n.starts_with(before) && n.ends_with(after);
    let mut found: Vec<PathBuf> =
        names.iter().filter(|n| n.to_str().is_some_and(fits)).map(|n| directory.join(n)).collect();
    order::sort(&mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn told(files: &[(&str, &str)]) -> ConfiguredRoots {
        let dir = tempfile::tempdir().unwrap();
        let args = dir.path().join("var/snap/microk8s/x1/args");
        fs::create_dir_all(args.join("conf.d")).unwrap();
        files.iter().for_each(|(name, text)| fs::write(args.join(name), text).unwrap());
        let (snap, profile) = crate::fixture::microk8s();
        let roots = profile.resolve(&snap).unwrap();
        read(&Host::at(dir.path()), &snap, &roots.told_by)
    }

    fn path(path: &str) -> Option<PathBuf> {
        Some(path.into())
    }

    #[test]
    fn arguments_in_every_spelling() {
        let told = told(&[
            (
                "containerd",
                "--config ${SNAP_DATA}/args/containerd.toml\n# --root /no/no\n--root /mnt/big/lib/\n--state=$SNAP_COMMON/run/c\n",
            ),
            ("kubelet", "--kubeconfig=x\n--root-dir=\"/mnt/big/kubelet\"\n"),
        ]);
        let state = path("/var/snap/microk8s/common/run/c");
        assert_eq!(
            told,
            ConfiguredRoots { root: path("/mnt/big/lib"), state, kubelet: path("/mnt/big/kubelet") }
        );
    }

    #[test]
    fn configurations_and_what_they_import() {
        let told = told(&[
            ("containerd", "--config ${SNAP_DATA}/args/containerd.toml\n"),
            (
                "containerd.toml",
                "version = 2\nroot = '/mnt/a/lib' # mine\nimports = [\n  \"conf.d/*.toml\",\n]\n[plugins]\nroot = \"/mnt/b/lib\"\n",
            ),
            ("conf.d/disk.toml", "state = \"/mnt/c/run\"\n"),
            ("conf.d/ignored", "state = \"/mnt/d/run\"\n"),
        ]);
        assert_eq!(
            told,
            ConfiguredRoots { root: path("/mnt/a/lib"), state: path("/mnt/c/run"), kubelet: None }
        );
    }

    #[test]
    fn what_is_no_plain_place_moves_nothing() {
        for bad in ["relative", "/", "/mnt", "/mnt/../etc/x", "${HOME}/x", ""] {
            assert_eq!(
                told(&[("containerd", &format!("--root {bad}\n--state={bad}\n"))]),
                ConfiguredRoots::default(),
                "{bad}"
            );
        }
        let own = "imports = [\"containerd-template.toml\"]\nroot = \"/mnt/a/b\"\n";
        assert_eq!(
            told(&[("containerd-template.toml", own)]).root,
            path("/mnt/a/b"),
            "one that imports itself ends"
        );
    }
}
