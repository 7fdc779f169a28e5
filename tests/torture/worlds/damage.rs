//! What crashes, full disks and earlier removals leave.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::{World, pids_in};
use crate::dice::Dice;
use support::Result;

impl World {
    /// What crashes, full disks and earlier removals leave. Never all evidence of a container at once: nobody could
    /// know it then.
    pub(super) fn damage(&mut self, dice: &mut Dice) -> Result<()> {
        let ids = self.ids.clone();
        let own: Vec<i32> = self.pids.clone();
        let bundle_damage = ["half-deleted", "bundle-deleted", "config-cut"].iter().any(|d| self.has(d));
        for id in &ids {
            let bundle = self.bundle(id);
            let state = self.state_of(id);
            if bundle_damage && dice.percent(60) {
                if self.has("half-deleted") {
                    // containerd renames it before it deletes; mounts move with their directory.
                    fs::rename(&bundle, bundle.with_file_name(format!(".{id}"))).ok();
                    self.follow(&bundle, &bundle.with_file_name(format!(".{id}")));
                } else if self.has("bundle-deleted") {
                    for file in ["config.json", "address", "bootstrap.json", "runtime", "init.pid"] {
                        fs::remove_file(bundle.join(file)).ok();
                    }
                } else if let Ok(text) = fs::read(bundle.join("config.json")) {
                    fs::write(bundle.join("config.json"), &text[..text.len() / 2])?;
                }
            } else if self.has("state-cut") && dice.percent(60) {
                let text = fs::read(state.join("state.json"))?;
                fs::write(state.join("state.json"), &text[..dice.below(text.len() as u64) as usize])?;
            } else if self.has("state-deleted") && dice.percent(60) {
                fs::remove_dir_all(&state)?;
            }
        }
        // Others may use a directory that containerd was moved to, too: with one, a bundle is no evidence by itself.
        let is_moved = self.has("state-moved") || self.has("root-moved");
        let only_bundles = is_moved && (self.has("state-cut") || self.has("state-deleted"));
        if self.has("init-dead") && !only_bundles {
            // A container whose first process has died, and whose shim still serves it.
            let id = dice.one_of(&ids).clone();
            for leaf in self.leaves.clone().iter().filter(|l| l.display().to_string().contains(&id)) {
                for pid in pids_in(leaf) {
                    kill(pid);
                }
            }
        }
        if self.has("paused") {
            self.pause(dice)?;
        }
        if (self.has("shim-killed") || self.has("no-shim")) && !bundle_damage {
            for pid in own.iter().filter(|pid| is_shim(**pid)) {
                if self.has("no-shim") || dice.percent(60) {
                    kill(*pid);
                }
            }
        }
        for child in &mut self.children {
            child.try_wait()?;
        }
        Ok(())
    }

    fn follow(&mut self, from: &Path, to: &Path) {
        for path in self.mounts.iter_mut().chain(&mut self.paths) {
            if let Ok(below) = path.strip_prefix(from) {
                *path = to.join(below);
            }
        }
    }

    fn pause(&mut self, dice: &mut Dice) -> Result<()> {
        let leaf = dice.one_of(&self.leaves).clone();
        let name = leaf.file_name().unwrap_or_default().to_owned();
        for leaf in self.leaves.iter().filter(|l| l.file_name() == Some(&name)) {
            let (file, word) = if leaf.join("cgroup.freeze").exists() {
                ("cgroup.freeze", "1")
            } else {
                ("freezer.state", "FROZEN")
            };
            let path = leaf.join(file);
            if path.exists() && (!self.hybrid || file == "freezer.state") {
                fs::OpenOptions::new().write(true).open(path)?.write_all(word.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn is_shim(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(4).any(|w| w == b"shim"))
}

/// Ends a process and waits until it has ended.
fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    for _ in 0..200 {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = state.rsplit_once(") ").map_or("", |(_, tail)| tail).chars().next();
        if matches!(state, None | Some('Z')) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5)); // it is not our child
    }
}
