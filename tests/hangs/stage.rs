//! A scene's snap, world and hook, and what a run of it came to.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::check::{self, Snapshot, Verdict};
use crate::support::Result;
use crate::support::hook::{Ended, Snap};
use crate::support::runtime::in_group;
use crate::support::schema;
use crate::support::world::Cgroups;
use crate::worlds::{COMMON, World};

pub struct Stage {
    pub snap: Snap,
    pub world: World,
    pub wrapper: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// The control group that the hook runs in.
    pub group: String,
}

/// What a run came to.
pub struct Came {
    pub verdict: Verdict,
    pub report: Value,
    pub ended: Ended,
}

impl Stage {
    pub const SCOPE: &str = "system.slice/snap.microk8s.hook.remove-0f1e2d3c.scope";

    pub fn new(features: &[&str]) -> Result<Stage> {
        let snap = Snap::install("microk8s")?;
        let world = World::build_of(7, features, Cgroups::V2, &snap)?;
        world.make_group(Stage::SCOPE)?;
        let group = Stage::SCOPE.to_owned();
        Ok(Stage { snap, world, wrapper: Vec::new(), environment: Vec::new(), group })
    }

    pub fn command(&self) -> Result<Command> {
        let hook = self.snap.dir.join("meta/hooks/remove").display().to_string();
        let mut words = self.wrapper.clone();
        words.push(hook);
        let mut command = in_group(&self.group, &words[0])?;
        command.args(&words[1..]).env_clear().envs(self.snap.environment());
        command.envs(self.environment.iter().cloned()).current_dir("/").process_group(0).stdin(Stdio::null());
        Ok(command)
    }

    pub fn start(&self) -> Result<(Child, OwnedFd)> {
        let (reader, writer) = std::io::pipe()?;
        let mut command = self.command()?;
        let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        Ok((child, reader.into()))
    }

    pub fn run(&mut self) -> Result<Came> {
        let before = Snapshot::take(&self.world)?;
        self.run_after(&before)
    }

    pub fn run_after(&mut self, before: &Snapshot) -> Result<Came> {
        let start = Instant::now();
        let (mut child, pipe) = self.start()?;
        // As snapd does: until nobody holds the pipe, however long its holders live.
        let mut output = String::new();
        fs::File::from(pipe).read_to_string(&mut output)?;
        let ended = Ended { status: child.wait()?.code(), output, elapsed: start.elapsed() };
        self.world.collect();
        let report = match self.document() {
            Some(report) => report?,
            None => ended.cut_document()?,
        };
        println!("{:.1} s, {}", ended.elapsed.as_secs_f64(), ended.output.lines().next().unwrap_or_default());
        let verdict = check::judge(&self.world, before, &ended, Some(&report))?;
        if !verdict.harmed.is_empty() || !verdict.lies.is_empty() || verdict.late {
            return Err(format!("{verdict:#?}\n{}", ended.output).into());
        }
        Ok(Came { verdict, report, ended })
    }

    pub fn document(&self) -> Option<Result<Value>> {
        let places = [self.snap.result_file(), self.snap.common.join("teardown.json")];
        let text = places.iter().find_map(|path| fs::read(path).ok())?;
        let checked = |document: Value| schema::check(&document).map(|()| document);
        Some(serde_json::from_slice(&text).map_err(Into::into).and_then(checked))
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        Path::new(COMMON).join("var/lib/kubelet/pods/hang/volumes").join(name)
    }
}

impl Came {
    pub fn must(&self, fact: bool, what: &str) -> Result<()> {
        if fact {
            Ok(())
        } else {
            Err(format!("not so: {what}\n{:#?}\n{}", self.verdict, self.ended.output).into())
        }
    }

    pub fn clean(&self) -> Result<()> {
        self.must(self.verdict.outcome == "clean" && self.verdict.left.is_empty(), "nothing is left")
    }

    pub fn tells_of(&self, words: &[&str]) -> bool {
        let text = self.report["steps"].to_string() + &self.report["advice"].to_string();
        words.iter().all(|word| text.contains(word))
    }
}

impl Stage {
    /// The server was stopped by us after the look; that it is stopped is not the hook's doing.
    pub fn run_after_stopped(&mut self, before: &Snapshot, pid: i32) -> Result<Came> {
        let mut before = before.clone();
        before.stopped(pid);
        self.run_after(&before)
    }
}
