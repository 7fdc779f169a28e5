//! One attack's course, and the rules that hold after every one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bystanders::Bystander;
use crate::judge::Came;
use crate::measure;
use support::hook::{Ended, Snap};
use support::look::{Look, OF_PODS};
use support::runtime::{Layout, Pod, Runtime, mount_volumes, output, show_programs};
use support::{Result, built};

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

/// The hook's deadline, in seconds, where an attack sets no other.
const DEADLINE: u64 = 30;

/// What the machine may add to a deadline: it is shared, and programs have to be started and collected.
const SLACK: Duration = Duration::from_secs(3);

/// Where the measure of its memory goes.
pub const PEAK: &str = "/srv/peak";

pub struct Trial {
    pub snap: Snap,
    pub runtime: Option<Runtime>,
    pub pods: Vec<Pod>,
    pub deadline: u64,
    /// What becomes the hook, such as a program that takes a capability away.
    pub wrapper: Vec<String>,
    /// When it gets a SIGTERM.
    pub terminate: Option<Duration>,
    pub(crate) bystanders: Vec<Box<dyn Bystander>>,
    /// Parts of the names of what the attacker made: it may stay or go.
    pub(crate) attackers: Vec<String>,
    pub(crate) before: Look,
    profile: Value,
}

/// Whom a hook runs against, who cannot be looked at meanwhile.
pub enum Against {
    Nobody,
    User(Child),
    /// The first process of a container of ours: what is below it ends with it.
    OurProcess(i32),
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
        let blind: Vec<_> = OF_PODS.iter().filter(|kind| ours.count(**kind) == 0).collect();
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
            match killpg(group, Signal::SIGTERM) {
                Err(Errno::ESRCH) => complaints.push("early: it had ended before SIGTERM came".into()),
                sent => sent?,
            }
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

    /// Runs the command line program that was kept outside of the snap: its status and its output.
    pub fn program(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let program = match std::env::var_os(support::hook::OTHER_HOOK) {
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

/// The built-in profile, as the program prints it.
fn built_in_profile() -> Result<Value> {
    let mut command = Command::new(built("snap-teardown")?);
    Ok(serde_json::from_slice(&output(command.args(["profile", "show", "--snap", "microk8s"]))?)?)
}
