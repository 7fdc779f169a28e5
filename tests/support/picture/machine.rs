//! The part of a picture that is the machine's own: block devices, System V's objects, settings, units, files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Kind, Mount, Picture, Result, names, run, tables_of};

impl Picture {
    pub(super) fn devices(&mut self) -> Result<()> {
        let seen = self.own_devices();
        let backed =
            run(&["losetup", "--list", "--noheadings", "--output", "NAME,BACK-MAJ:MIN"]).unwrap_or_default();
        let here: BTreeSet<&str> = backed
            .lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
            .filter(|(_, device)| seen.contains(device.trim()))
            .map(|(name, _)| name)
            .collect();
        for name in names("/sys/block") {
            let read =
                |file: &str| fs::read_to_string(format!("/sys/block/{name}/{file}")).unwrap_or_default();
            // In a private world, one over a file of another world is not of this one.
            let elsewhere =
                self.options.world && name.starts_with("loop") && !here.contains(&*format!("/dev/{name}"));
            if read("size").trim() == "0" || elsewhere {
                continue;
            }
            let behind = [
                read("loop/backing_file"),
                read("dm/name"),
                names(format!("/sys/block/{name}/slaves")).join(" "),
            ];
            let looks = behind.iter().map(|text| text.trim()).collect::<Vec<_>>().join(" ");
            self.add_at(
                Kind::Device,
                format!("device {name} {}", looks.trim()),
                looks,
                format!("/dev/{name}").into(),
            );
        }
        for line in fs::read_to_string("/proc/swaps").unwrap_or_default().lines().skip(1) {
            self.add(
                Kind::Device,
                format!("swap {}", line.split_whitespace().next().unwrap_or_default()),
                "",
            );
        }
        for (file, name) in [("shm", "shmid"), ("sem", "semid"), ("msg", "msqid")] {
            for line in
                fs::read_to_string(format!("/proc/sysvipc/{file}")).unwrap_or_default().lines().skip(1)
            {
                let words: Vec<_> = line.split_whitespace().take(2).collect();
                self.add(Kind::Ipc, format!("{name} {}", words.join(" ")), "");
            }
        }
        for session in names("/sys/class/iscsi_session") {
            self.add(Kind::Device, format!("iscsi {session}"), "");
        }
        Ok(())
    }

    /// The devices that a file of this world can be on: its own file systems', without the machine's that it shows.
    fn own_devices(&self) -> BTreeSet<String> {
        let table = tables_of(Path::new("/proc/self/mountinfo"));
        let shown: BTreeSet<_> =
            table.iter().filter(|m| m.point == Path::new("/usr")).map(|m| m.device.clone()).collect();
        table.into_iter().map(|m| m.device).filter(|device| !shown.contains(device)).collect()
    }

    pub(super) fn loaded(&mut self) {
        let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        for line in profiles.lines() {
            self.add(Kind::Loaded, format!("profile {line}"), "");
        }
        if Path::new("/run/systemd/system").exists() {
            let units =
                run(&["systemctl", "list-units", "--all", "--plain", "--no-legend"]).unwrap_or_default();
            for line in units.lines() {
                let words: Vec<_> = line.split_whitespace().take(4).collect();
                self.add(
                    Kind::Loaded,
                    format!("unit {}", words.first().unwrap_or(&"")),
                    words[1..].join(" "),
                );
            }
        }
    }

    pub(super) fn settings(&mut self, dir: &Path) {
        // Counters, clocks and dice, and what exists for a link alone and goes with it.
        const NO_SETTINGS: [&str; 9] = [
            "random",
            "ns_last_pid",
            "nf_conntrack_count",
            "stat_refresh",
            "tainted",
            "pty/nr",
            "core_pattern",
            "hung_task_detect_count",
            "sched_domain",
        ];
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let text = path.display().to_string();
            let Ok(metadata) = entry.metadata() else { continue };
            if NO_SETTINGS.iter().any(|name| text.ends_with(name)) || metadata.mode() & 0o400 == 0 {
                continue;
            }
            if metadata.is_dir() {
                self.settings(&path);
            } else if let Ok(value) = fs::read_to_string(&path) {
                let name = text.trim_start_matches("/proc/sys/").replace('/', ".");
                self.add_at(Kind::Setting, format!("setting {name}"), value.trim(), path);
            }
        }
    }

    /// Names and modes; neither sizes nor times. Not below what a server or a container's layers answer for.
    pub(super) fn files(&mut self, dir: &Path, mounts: &[Mount]) {
        const REMOTE: [&str; 13] = [
            "proc", "sysfs", "cgroup", "cgroup2", "devpts", "overlay", "fuse", "nfs", "nfs4", "cifs",
            "autofs", "tracefs", "debugfs",
        ];
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if self.options.without.contains(&path) {
                continue;
            }
            let looks = self.looks_of_file(&path, &metadata);
            self.add_at(Kind::File, path.display().to_string(), looks, path.clone());
            let on = mounts.iter().rev().find(|mount| mount.point == path);
            let remote = on.is_some_and(|m| REMOTE.contains(&&*m.kind) || m.kind.starts_with("fuse."));
            if metadata.is_dir() && !remote {
                self.files(&path, mounts);
            }
        }
    }

    fn looks_of_file(&self, path: &Path, metadata: &fs::Metadata) -> String {
        let kind = metadata.file_type();
        let head = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
        if kind.is_symlink() {
            return format!("{head} -> {}", fs::read_link(path).unwrap_or_default().display());
        }
        if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
            return format!("{head} special {}", metadata.rdev());
        }
        if kind.is_file() && self.options.contents.iter().any(|tree| path.starts_with(tree)) {
            return format!(
                "{head} {:?}",
                fs::read(path).ok().map(|c| String::from_utf8_lossy(&c).into_owned())
            );
        }
        head
    }
}
