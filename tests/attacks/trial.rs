//! One attack's course, and the rules that hold after every one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bystanders::Bystander;
use crate::measure;
use crate::support::hook::{self, Ended, Snap};
use crate::support::look::{Kind, Look};
use crate::support::runtime::{Layout, Pod, Runtime, mount_volumes, output, show_programs};
use crate::support::{Result, built};

/// One row of a table.
pub struct Attack {
    /// The finding of security.md it stands for; `+` for one that it does not list.
    pub finding: &'static str,
    pub name: &'static str,
    /// Who does it: A, B, C or D.
    pub by: char,
    pub run: fn(&mut Trial) -> Result<()>,
}

impl Attack {
    pub fn kind(&self) -> String {
        format!("{} {}", self.finding, self.by)
    }
}

/// What a hook may need at most, in kilobytes, and how long its result may be.
const MEMORY: u64 = 32 << 10;
const RESULT: u64 = 4 << 20;

/// The hook's deadline, in seconds, where an attack sets no other.
const DEADLINE: u64 = 30;

/// What the machine may add to a deadline: it is shared, and programs have to be started and collected.
const SLACK: Duration = Duration::from_secs(3);

/// How many things a complaint lists.
const SHOWN: usize = 8;

const PEAK: &str = "/srv/peak";

/// What every pod of ours leaves.
const KINDS: [Kind; 13] = [
    Kind::Shim,
    Kind::Process,
    Kind::Mount,
    Kind::Cgroup,
    Kind::Socket,
    Kind::RuncState,
    Kind::Bundle,
    Kind::Data,
    Kind::Netns,
    Kind::Link,
    Kind::Address,
    Kind::Rule,
    Kind::CniState,
];

pub struct Trial {
    pub snap: Snap,
    pub runtime: Option<Runtime>,
    pub pods: Vec<Pod>,
    pub deadline: u64,
    /// What becomes the hook, such as a program that takes a capability away.
    pub wrapper: Vec<String>,
    /// When it gets a SIGTERM.
    pub terminate: Option<Duration>,
    bystanders: Vec<Box<dyn Bystander>>,
    /// Parts of the names of what the attacker made: it may stay or go.
    attackers: Vec<String>,
    before: Look,
    profile: Value,
}

/// Whom a hook runs against, who cannot be looked at meanwhile.
pub enum Against {
    Nobody,
    User(Child),
    /// The first process of a container of ours: what is below it ends with it.
    OurProcess(i32),
}

/// What came of a run.
pub struct Came {
    pub status: Option<i32>,
    pub output: String,
    pub document: Value,
    complaints: Vec<String>,
}

impl Trial {
    pub fn new() -> Result<Trial> {
        let snap = Snap::install("microk8s")?;
        show_programs()?;
        Look::now()?; // the first look at firewalls makes their tables
        Ok(Trial {
            snap,
            runtime: None,
            pods: Vec::new(),
            deadline: DEADLINE,
            wrapper: Vec::new(),
            terminate: None,
            bystanders: Vec::new(),
            attackers: Vec::new(),
            before: Look::default(),
            profile: built_in_profile()?,
        })
    }

    /// Somebody who must not be harmed; before anything of ours.
    pub fn bystander(&mut self, bystander: impl Bystander + 'static) {
        self.bystanders.push(Box::new(bystander));
    }

    /// What the attacker made is nobody's loss, and nobody's leftover.
    pub fn attackers_own(&mut self, part_of_name: impl Into<String>) {
        self.attackers.push(part_of_name.into());
    }

    /// One pod of ours, with everything that pods leave, and the proof that it is there.
    pub fn ours(&mut self) -> Result<&Pod> {
        self.ours_with(&[])
    }

    /// As `ours`, with more of podmaker's options.
    pub fn ours_with(&mut self, options: &[&str]) -> Result<&Pod> {
        self.before = Look::now()?;
        let runtime = Runtime::start(Layout::of_snap(&self.snap.name), "1.6")?;
        let host = self.snap.common.join("var/lib/kubelet");
        let users = Path::new("/srv/users");
        fs::create_dir_all(users)?;
        for pod in runtime.make_pods("ours", &[&["--count", "1"], options].concat(), &["/app", "obedient"])? {
            mount_volumes(&host, &pod.uid, users)?;
            self.pods.push(pod);
        }
        self.runtime = Some(runtime);
        let ours = Look::now()?.minus(&self.before);
        let blind: Vec<_> = KINDS.iter().filter(|kind| ours.count(**kind) == 0).collect();
        if !blind.is_empty() {
            return Err(format!("the scene is incomplete: no {blind:?} in {ours}").into());
        }
        self.pods.first().ok_or_else(|| "no pod".into())
    }

    pub fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| "no runtime of ours".into())
    }

    /// Where the snap's containerd has its bundles.
    pub fn tasks(&self) -> PathBuf {
        self.snap.common.join("run/containerd/io.containerd.runtime.v2.task")
    }

    /// Changes the profile that the snap ships.
    pub fn profile(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.profile);
    }

    /// Runs the hook as snapd does, with containerd ended, and looks.
    pub fn hook(&mut self) -> Result<Came> {
        self.hook_against(|| Ok(Against::Nobody))
    }

    /// The same, against what nobody can look at: it starts after the first look, and is ended before the last.
    pub fn hook_against(&mut self, attack: impl FnOnce() -> Result<Against>) -> Result<Came> {
        self.set_out()?;
        let mut attacker = attack()?;
        let wrapper: Vec<String> = measure::by(PEAK)?.into_iter().chain(self.wrapper.clone()).collect();
        let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let running = self.snap.start_hook_by(&words)?;
        let group = Pid::from_raw(i32::try_from(running.child.id())?);
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || send.send(running.end().map_err(|e| e.to_string())));
        let limit = Duration::from_secs(self.deadline) + SLACK;
        let mut complaints = Vec::new();
        if let Some(moment) = self.terminate {
            std::thread::sleep(moment); // the moment is the question
            killpg(group, Signal::SIGTERM)?;
        }
        let mut ended = receive.recv_timeout(limit);
        if ended.is_err() {
            complaints.push(format!("late: it runs on after {limit:?}"));
            killpg(group, Signal::SIGTERM)?;
            ended = receive.recv_timeout(Duration::from_secs(4));
        }
        if ended.is_err() {
            complaints.push("deaf: it runs on four seconds after SIGTERM".into());
            killpg(group, Signal::SIGKILL)?;
            ended = receive.recv_timeout(Duration::from_secs(4));
        }
        match &mut attacker {
            Against::Nobody => {}
            Against::User(child) => {
                child.kill()?;
                child.wait()?;
            }
            // The hook should have ended it; and while it lives, nobody can look.
            Against::OurProcess(pid) => {
                if kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok() {
                    complaints.push(format!("LEFT of ours: process {pid}, that nobody can read"));
                }
            }
        }
        let hung = Ended { status: None, output: String::new(), elapsed: limit };
        self.judge(ended.unwrap_or(Ok(hung))?, complaints)
    }

    /// What has to be so when the hook starts.
    pub fn set_out(&mut self) -> Result<()> {
        let patience = json!({ "drain": 1, "deadline": self.deadline });
        self.profile["patience"] = patience;
        fs::write(self.snap.dir.join("teardown.json"), self.profile.to_string())?;
        if let Some(runtime) = &mut self.runtime {
            runtime.kill()?;
        }
        for bystander in &mut self.bystanders {
            if let Some(harm) = bystander.harm()? {
                return Err(format!("the scene is incomplete: {}: {harm}", bystander.name()).into());
            }
        }
        let ours = Look::now()?.minus(&self.before);
        println!("scene: {} bystanders; beside them: {}", self.bystanders.len(), ours.summary());
        Ok(())
    }

    /// The rules that hold after every attack.
    fn judge(&mut self, ended: Ended, mut complaints: Vec<String>) -> Result<Came> {
        for bystander in &mut self.bystanders {
            if let Some(harm) = bystander.harm()? {
                complaints.push(format!("HARMED: {}: {harm}", bystander.name()));
            }
        }
        let now = Look::now()?;
        let is_attackers = |thing: &str| self.attackers.iter().any(|part| thing.contains(part.as_str()));
        let things = |look: Look| {
            let all: Vec<String> =
                format!("{:.500}", look.without(&[Kind::Report])).lines().map(str::to_owned).collect();
            all.into_iter().skip(1).filter(|line| !is_attackers(line)).collect::<Vec<_>>()
        };
        let lost = things(self.before.minus(&now));
        let left = things(now.minus(&self.before));
        for (word, things) in [("LOST of others", &lost), ("LEFT of ours", &left)] {
            complaints.extend(things.iter().take(SHOWN).map(|thing| format!("{word}: {}", thing.trim())));
            if things.len() > SHOWN {
                complaints.push(format!("{word}: and {} more", things.len() - SHOWN));
            }
        }
        if ended.status == Some(0) && !left.is_empty() {
            complaints.push("LIE: status 0, and something of ours is left".into());
        }
        let document = self.document(&ended, &mut complaints);
        self.bounds(&mut complaints);
        Ok(Came { status: ended.status, output: ended.output, document, complaints })
    }

    /// There is always a report, and it agrees with the status.
    fn document(&self, ended: &Ended, complaints: &mut Vec<String>) -> Value {
        let elsewhere = |error| match document_elsewhere(&self.snap) {
            Ok(document) => Ok(document),
            Err(_) => Err(error),
        };
        let document = match self.snap.document().or_else(elsewhere) {
            Ok(document) => document,
            Err(error) => {
                complaints.push(format!("NO REPORT: {error}"));
                return Value::Null;
            }
        };
        if document["exit-status"].as_i64() != ended.status.map(i64::from) {
            complaints
                .push(format!("LIE: status {:?}, the report says {}", ended.status, document["exit-status"]));
        }
        let elapsed = document["elapsed-ms"].as_u64().unwrap_or(u64::MAX);
        if elapsed > (self.deadline + 1) * 1000 {
            complaints.push(format!("late: {elapsed} ms, the deadline is {} s", self.deadline));
        }
        if let Err(error) = ended.cut_document() {
            complaints.push(format!("OUTPUT: {error}"));
        }
        if ended.output.chars().any(|c| c.is_control() && c != '\n') {
            complaints.push(format!("OUTPUT: control characters: {:?}", ended.output));
        }
        document
    }

    fn bounds(&self, complaints: &mut Vec<String>) {
        match fs::read_to_string(PEAK).ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(peak) if peak <= MEMORY => println!("peak: {peak} KiB"),
            peak => complaints.push(format!("MEMORY: {peak:?} KiB of {MEMORY}")),
        }
        let length = fs::metadata(self.snap.result_file()).map_or(0, |m| m.len());
        if length > RESULT {
            complaints.push(format!("RESULT: {length} bytes of {RESULT}"));
        }
    }

    /// Runs the command line program that was kept outside of the snap: its status and its output.
    pub fn program(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let program = match std::env::var_os(crate::support::hook::OTHER_HOOK) {
            Some(other) => other.into(),
            None => built("snap-teardown")?,
        };
        let out = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()?;
        let text = [out.stdout, out.stderr].concat();
        Ok((out.status.code(), String::from_utf8_lossy(&text).into_owned()))
    }
}

impl Came {
    /// Another rule of this attack alone.
    pub fn must(&mut self, fact: bool, what: impl Into<String>) {
        if !fact {
            self.complaints.push(what.into());
        }
    }

    /// A doubtful thing is blind: never clean, and named.
    pub fn doubts(self, names: &[&str]) -> Result<()> {
        self.ends(&[3], names)
    }

    /// What was planted proves nothing, and hides nothing: whether it is told is the hook's choice.
    pub fn clean_or_doubts(self, names: &[&str]) -> Result<()> {
        if self.status == Some(3) { self.ends(&[3], names) } else { self.ends(&[0, 3], &[]) }
    }

    pub fn clean(self) -> Result<()> {
        self.ends(&[0], &[])
    }

    /// The last word: one of these statuses, and one of these names in what the report says of doubts and of what is left.
    pub fn ends(mut self, statuses: &[i32], names: &[&str]) -> Result<()> {
        if !self.status.is_some_and(|status| statuses.contains(&status)) {
            self.complaints.push(format!("STATUS: {:?}, not of {statuses:?}", self.status));
        }
        let told = self.told();
        if !names.is_empty() && !names.iter().any(|name| told.contains(name)) {
            self.complaints.push(format!("UNTOLD: none of {names:?} is in blind, left or notes"));
        }
        if self.complaints.is_empty() {
            return Ok(());
        }
        let first = self.output.lines().next().unwrap_or_default();
        println!("told: {told:.3000}");
        Err(format!(
            "complaint: {}\nstatus {:?}: {first:?}",
            self.complaints.join("\ncomplaint: "),
            self.status
        )
        .into())
    }

    /// What the report says of doubts, of what is left, and besides.
    pub fn told(&self) -> String {
        let steps = self.document["steps"].as_array().cloned().unwrap_or_default();
        let mut told: Vec<Value> =
            steps.iter().flat_map(|s| [s["left"].clone(), s["blind"].clone()]).collect();
        let scope = &self.document["scope"];
        told.extend([
            self.document["notes"].clone(),
            scope["blind"].clone(),
            scope["network"]["blind"].clone(),
        ]);
        Value::from(told).to_string()
    }
}

/// Runs lines of shell as root.
pub fn sh(line: &str) -> Result<String> {
    let mut command = Command::new("/bin/sh");
    command.args(["-ec", line]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(String::from_utf8_lossy(&output(&mut command)?).into_owned())
}

/// The built-in profile, as the program prints it.
fn built_in_profile() -> Result<Value> {
    let mut command = Command::new(built("snap-teardown")?);
    Ok(serde_json::from_slice(&output(command.args(["profile", "show", "--snap", "microk8s"]))?)?)
}

/// The document where it goes if it cannot go where it belongs: root's, and nobody else's to read.
fn document_elsewhere(snap: &Snap) -> Result<Value> {
    let path = snap.common.join("teardown.json");
    let found = fs::symlink_metadata(&path)?;
    if !found.is_file() || found.uid() != 0 || found.mode() & 0o777 != 0o600 {
        return Err(format!("'{}' is not root's alone", path.display()).into());
    }
    let document = serde_json::from_slice(&fs::read(path)?)?;
    hook::check(&document)?;
    Ok(document)
}
