//! Who attacks, and what each of them can do. Nobody here uses more than he has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::bystanders::{Lives, USER, until};
use crate::trial::Trial;
use support::runtime::in_group;
use support::{Result, sh};

/// Attacker A: a container with a volume at $SNAP_COMMON, so that it writes there as root, and nowhere else.
pub struct Container {
    tasks: PathBuf,
}

/// A bundle that nobody runs.
pub struct Bundle {
    at: PathBuf,
    spec: Value,
}

impl Container {
    pub fn of(trial: &Trial) -> Container {
        Container { tasks: trial.tasks() }
    }

    /// An empty directory where containerd has its bundles.
    pub fn plants(&self, id: &str) -> Result<Bundle> {
        let at = self.tasks.join("k8s.io").join(id);
        fs::create_dir_all(&at)?;
        Ok(Bundle { at, spec: json!({}) })
    }

    /// Rewrites a file of a bundle that runs.
    pub fn rewrites(&self, id: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let path = self.tasks.join("k8s.io").join(id).join("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut spec);
        Ok(fs::write(path, spec.to_string())?)
    }
}

impl Bundle {
    pub fn group(mut self, path: &str) -> Result<Bundle> {
        self.spec["linux"]["cgroupsPath"] = path.into();
        self.write()
    }

    pub fn netns(mut self, path: &str) -> Result<Bundle> {
        self.spec["linux"]["namespaces"] = json!([{"type": "network", "path": path}]);
        self.write()
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Result<Bundle> {
        self.spec["annotations"][key] = value.into();
        self.write()
    }

    pub fn spec(mut self, spec: Value) -> Result<Bundle> {
        self.spec = spec;
        self.write()
    }

    pub fn address(self, address: &str) -> Result<Bundle> {
        self.file("address", address)
    }

    pub fn file(self, name: &str, text: &str) -> Result<Bundle> {
        fs::write(self.at.join(name), text)?;
        Ok(self)
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    fn write(self) -> Result<Bundle> {
        fs::write(self.at.join("config.json"), self.spec.to_string())?;
        Ok(self)
    }
}

/// Attacker B: a local user, logged in.
pub struct User;

impl User {
    pub const SESSION: &'static str = "user.slice/user-1000.slice/session-3.scope";
    /// What systemd delegates to every user on version 2.
    pub const DELEGATED: &'static str = "user.slice/user-1000.slice/user@1000.service";

    /// Makes a group that is his manager's or below it, and gives him both, as systemd delegates them.
    pub fn is_given(group: &str) -> Result<()> {
        drop(in_group(group, "true")?);
        sh(&format!("find /sys/fs/cgroup -path '*{}*' | xargs chown 1000:1000", User::DELEGATED)).map(drop)
    }

    /// A command line of his, by `sh -c`; it is there when it says "up", or when `sleep` or `python3` has become it.
    pub fn runs(group: &str, directory: &Path, script: &str) -> Result<Child> {
        let mut command = User::command(group, &["sh", "-ec", script])?;
        Ok(command.current_dir(directory).spawn()?)
    }

    pub fn command(group: &str, words: &[&str]) -> Result<Command> {
        let mut command = in_group(group, USER[0])?;
        command.args(&USER[1..]).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/home/user");
        Ok(command)
    }

    /// A process of his session that looks like the shim of this ID, of our containerd: its arguments are his to choose, and
    /// containerd lets everybody enter the directory (0711) in which it sleeps. `before` is a program that becomes it. Whatever
    /// it says of itself, it must live: nothing proves it ours.
    pub fn poses_as_shim(trial: &mut Trial, before: &str, id: &str) -> Result<u32> {
        let address = trial.runtime()?.layout.socket.display().to_string();
        let arguments = format!("-namespace k8s.io -id {id} -address {address}");
        let script = format!("exec {before} /usr/bin/python3 -c 'import time; time.sleep(9999)' {arguments}");
        let child = User::runs(User::SESSION, &trial.tasks().join("k8s.io"), &script)?;
        until("a process poses as a shim", || Ok(!posing(&address)?.is_empty()))?;
        let pid = child.id();
        trial.bystander(Lives(child));
        Ok(pid)
    }
}

/// Processes of python3 with this among their arguments.
pub fn posing(word: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        if words[0].ends_with(b"python3") && words.contains(&word.as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The processes whose parent this is.
pub fn children(parent: u32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let of =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if of == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}
