//! Whether a report speaks of a thing that is there, and whether what it speaks of is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::picture::{Kind, Thing};

/// What a report says is left, is doubtful, or is worth a note.
pub struct Told {
    /// Every text, whole.
    texts: Vec<String>,
    words: BTreeSet<String>,
    paths: BTreeSet<PathBuf>,
    pids: BTreeSet<u64>,
    /// The residues, for the question whether they are there.
    residues: Vec<Value>,
    pub blind: usize,
}

impl Told {
    pub fn by(report: &Value) -> Told {
        let mut told = Told {
            texts: Vec::new(),
            words: BTreeSet::new(),
            paths: BTreeSet::new(),
            pids: BTreeSet::new(),
            residues: Vec::new(),
            blind: 0,
        };
        for step in each(&report["steps"]) {
            each(&step["left"]).chain(each(&step["blind"])).for_each(|entry| told.hear(entry));
            told.residues.extend(each(&step["left"]).map(|left| left["residue"].clone()));
            told.blind += each(&step["blind"]).count();
        }
        each(&report["notes"]).chain(each(&report["advice"])).for_each(|entry| told.hear(entry));
        told
    }

    fn hear(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.hear_text(text),
            Value::Array(all) => all.iter().for_each(|value| self.hear(value)),
            Value::Object(map) => {
                if let Some(pid) = map.get("pid").and_then(Value::as_u64) {
                    self.pids.insert(pid);
                }
                map.values().for_each(|value| self.hear(value));
            }
            _ => {}
        }
    }

    fn hear_text(&mut self, text: &str) {
        self.texts.push(text.to_owned());
        if text.starts_with('/') {
            self.paths.insert(text.into());
        }
        for word in text.split(|c: char| c.is_whitespace() || "'\"`,;()[]{}".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            if word.starts_with('/') {
                self.paths.insert(word.into());
            }
            self.words.insert(word.to_owned());
        }
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let number = words.peek().map(|next| next.trim_matches(|c: char| !c.is_ascii_digit()));
            if matches!(word.trim_matches('('), "pid" | "process" | "shim")
                && let Some(Ok(pid)) = number.map(str::parse)
            {
                self.pids.insert(pid);
            }
        }
    }

    /// True if somebody who reads the report can know that this is there.
    pub fn of(&self, thing: &Thing) -> bool {
        match thing.kind {
            Kind::Process => number_in(&thing.name).is_some_and(|pid| self.pids.contains(&pid)),
            // A mapping is told by its name; where udev runs, the node goes with it.
            Kind::File if thing.path.starts_with("/dev/mapper") => {
                thing.path.file_name().is_some_and(|name| self.words.contains(&*name.to_string_lossy()))
            }
            Kind::Mount | Kind::Cgroup | Kind::File => self.of_path(&thing.path),
            Kind::Socket if thing.path.is_absolute() => self.of_path(&thing.path),
            Kind::Device => self.of_path(&thing.path) || self.of_words(&thing.name, 4),
            // By the setting's name in either spelling.
            Kind::Setting => {
                let name = thing.name.trim_start_matches("setting ");
                let follows = name.contains(".conf.") && !name.ends_with("route_localnet");
                // The kernel changes those of each link with the one for all.
                let name = if follows && name.contains(".ipv4.") { "ip_forward" } else { name };
                self.of_path(&thing.path) || self.texts.iter().any(|text| text.contains(name))
            }
            // Virtual servers are told all at once: by their number, and with the command that removes all.
            Kind::Rule if thing.name.starts_with("ipvs ") => {
                self.texts.iter().any(|text| text.contains("virtual servers (IPVS)"))
            }
            // By the command that removes it: its name is what it is, its key and its number.
            Kind::Ipc => {
                let option = match thing.name.split_whitespace().next() {
                    Some("shmid") => "m",
                    Some("semid") => "s",
                    _ => "q",
                };
                let number = thing.name.split_whitespace().last().unwrap_or_default();
                self.texts.iter().any(|text| text.ends_with(&format!("'ipcrm -{option} {number}'")))
            }
            // A route is told with its link, a rule with its chain or comment, a flow with its address.
            _ => self.of_words(&thing.name, 4),
        }
    }

    /// Itself, or a directory that it is in, unless that is one of the machine's own.
    pub fn of_path(&self, path: &Path) -> bool {
        const MACHINES: [&str; 12] =
            ["/", "/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/run", "/srv", "/sys", "/usr", "/var"];
        let own = |told: &&PathBuf| !MACHINES.iter().any(|machines| told.as_path() == Path::new(machines));
        self.paths.iter().filter(own).any(|told| path.starts_with(told))
    }

    /// One of its own words, of at least this length, but for those that say what kind of a thing it is.
    fn of_words(&self, name: &str, length: usize) -> bool {
        const KINDS: [&str; 24] = [
            "link",
            "chain",
            "table",
            "filter",
            "mangle",
            "ipvs",
            "ipset",
            "iptables-legacy-save",
            "ip6tables-legacy-save",
            "ACCEPT",
            "FORWARD",
            "PREROUTING",
            "POSTROUTING",
            "OUTPUT",
            "INPUT",
            "scope",
            "proto",
            "kernel",
            "host",
            "inet",
            "device",
            "flow",
            "comment",
            "inet6",
        ];
        let words = name.split(|c: char| c.is_whitespace() || "\"=,()".contains(c));
        words.filter(|word| word.len() >= length && !KINDS.contains(word)).any(|word| {
            self.words.contains(word)
                || word.split_once('/').is_some_and(|(address, _)| self.words.contains(address))
        })
    }

    /// What is told as left, and is not there.
    pub fn untrue(&self) -> Vec<String> {
        self.residues.iter().filter(|residue| gone(residue)).map(Value::to_string).collect()
    }
}

fn gone(residue: &Value) -> bool {
    let path = |key: &str| residue[key].as_str().map(PathBuf::from).unwrap_or_default();
    let ended = |process: &Value| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process["pid"])).unwrap_or_default();
        let start = stat.rsplit_once(") ").and_then(|(_, tail)| tail.split_whitespace().nth(19));
        start.and_then(|start| start.parse::<u64>().ok()) != process["start"].as_u64()
    };
    match residue["kind"].as_str().unwrap_or_default() {
        "mount" if residue["table"] == "own" => {
            let table = super::picture::tables_of(Path::new("/proc/self/mountinfo"));
            !table.iter().any(|mount| mount.point == path("point"))
        }
        "cgroup" | "path" => path("path").symlink_metadata().is_err(),
        "shim" | "process" => ended(&residue["process"]),
        "task" | "service" => each(&residue["processes"]).all(ended),
        _ => false,
    }
}

fn number_in(name: &str) -> Option<u64> {
    name.split_whitespace().find_map(|word| word.parse().ok())
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
