//! One scene: a snap whose pods run, whatever else runs beside them, and the demands on its teardown.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use support::Result;
use support::hook::{Ended, Snap};
use support::look::{Kind, Look, NAMESPACE};
use support::runtime::{
    Layout, Manner, Pod, Runtime, make_namespace, mount_volumes, mount_volumes_in, show_programs,
};
use support::world;

/// The user's own directory, which pods mount: nothing in it may be touched.
pub const USERS: &str = "/srv/users";

/// The body of a guest.
pub const GUEST: &str = "guest";

/// Two pods of a snap of the same name, until the one who started us goes away.
pub fn be_a_guest() -> Result<()> {
    let runtime = Runtime::start(Layout::of_snap("microk8s"), "1.6")?;
    runtime.pods("guest", 2, &["/app", "obedient"])?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

pub struct Scene {
    pub snap: Snap,
    pub runtime: Option<Runtime>,
    pub pods: Vec<Pod>,
    /// Who else is there, kept running to the end.
    pub others: Vec<Runtime>,
    /// What is unusual about our runtime.
    pub manner: Manner,
    guest: Option<Child>,
    version: &'static str,
    /// The world without anything of ours.
    before: Look,
    /// The world when the hook starts.
    full: Look,
    volumes: usize,
}

impl Scene {
    /// An installed snap, its runtime not yet started.
    pub fn new(version: &'static str) -> Result<Scene> {
        fs::create_dir_all(USERS)?;
        fs::write(Path::new(USERS).join("precious"), "not ours")?;
        let snap = Snap::install("microk8s")?;
        show_programs()?;
        // The names that these programs make on their own are there before anyone looks.
        Look::now()?;
        Ok(Scene {
            snap,
            runtime: None,
            pods: Vec::new(),
            others: Vec::new(),
            manner: Manner::default(),
            guest: None,
            version,
            before: Look::now()?,
            full: Look::default(),
            volumes: 0,
        })
    }

    /// Another runtime with its own pods, to be there before ours.
    pub fn beside(&mut self, layout: Layout, version: &str, pods: usize) -> Result<Vec<Pod>> {
        let runtime = Runtime::start(layout, version)?;
        let made = runtime.pods(&format!("other{}", self.others.len()), pods, &["/app", "obedient"])?;
        self.others.push(runtime);
        self.before = Look::now()?;
        Ok(made)
    }

    /// Our runtime, started at first use.
    pub fn runtime(&mut self) -> Result<&mut Runtime> {
        if self.runtime.is_none() {
            let layout = Layout::of_snap(&self.snap.name);
            self.runtime = Some(Runtime::start_in(self.manner, layout, self.version)?);
        }
        self.runtime.as_mut().ok_or_else(|| "no runtime".into())
    }

    /// Pods of ours, each with volumes such as kubelet mounts.
    pub fn pods(&mut self, name: &str, count: usize, app: &[&str]) -> Result<&[Pod]> {
        self.make_pods(name, &["--count", &count.to_string()], app)
    }

    pub fn make_pods(&mut self, name: &str, options: &[&str], app: &[&str]) -> Result<&[Pod]> {
        let pods = self.runtime()?.make_pods(name, options, app)?;
        for pod in &pods {
            let (kubelet, users) = (self.snap.common.join("var/lib/kubelet"), Path::new(USERS));
            match self.manner.namespace {
                Some(namespace) => mount_volumes_in(namespace, &kubelet, &pod.uid, users)?,
                None => mount_volumes(&kubelet, &pod.uid, users)?,
            }
            self.volumes += 1;
        }
        self.pods.extend(pods);
        Ok(&self.pods)
    }

    /// Gives the snap a mount namespace of its own, in which its runtime and all its mounts will be.
    pub fn in_a_namespace(&mut self) -> Result<()> {
        make_namespace(NAMESPACE)?;
        self.manner.namespace = Some(NAMESPACE);
        self.before = Look::now()?;
        Ok(())
    }

    /// Ends our containerd as snapd does, and looks: the hook's moment.
    pub fn stop(&mut self) -> Result<()> {
        self.runtime()?.kill()?;
        self.freeze_frame()
    }

    pub fn freeze_frame(&mut self) -> Result<()> {
        self.full = Look::now()?;
        Ok(())
    }

    /// What is there of ours now.
    pub fn ours(&self) -> Result<Look> {
        Ok(Look::now()?.minus(&self.before))
    }

    /// The control: a look that nobody has tidied up for finds every kind of thing.
    pub fn must_show(&self, kinds: &[Kind]) -> Result<String> {
        let ours = self.ours()?;
        let missing: BTreeSet<_> = kinds.iter().filter(|kind| ours.count(**kind) == 0).collect();
        if !missing.is_empty() {
            return Err(format!("the look is blind for {missing:?}; it shows {ours}").into());
        }
        if ours.count(Kind::Mount) < 2 * self.volumes {
            return Err(format!("only {} mounts", ours.count(Kind::Mount)).into());
        }
        Ok(format!("{} pods, left alone: {}", self.pods.len(), ours.summary()))
    }

    /// The cure: the hook succeeds, nothing of ours is there, nothing else is missing, and the reports say so.
    pub fn must_be_torn_down(&mut self) -> Result<String> {
        let ended = self.snap.run_hook()?;
        self.judge(&ended)
    }

    pub fn judge(&mut self, ended: &Ended) -> Result<String> {
        self.judge_as(ended, 0, "clean")
    }

    pub fn judge_as(&mut self, ended: &Ended, status: i32, expected: &str) -> Result<String> {
        self.nothing_left().map_err(|e| format!("{e}\nhook: {:?}\n{}", ended.status, ended.output))?;
        if ended.status != Some(status) {
            return Err(format!("the hook's status is {:?}: {}", ended.status, ended.output).into());
        }
        outcome(&self.snap.document()?, expected)?;
        outcome(&ended.cut_document()?, expected)?;
        let found = self.full.minus(&self.before).len();
        Ok(format!("{} pods, {found} things, hook {} ms", self.pods.len(), ended.elapsed.as_millis()))
    }

    pub fn nothing_left(&mut self) -> Result<()> {
        if let Some(runtime) = &mut self.runtime {
            runtime.collect()?; // ours to collect when somebody else has ended it
        }
        let now = Look::now()?;
        let left = now.minus(&self.before).without(&[Kind::Report]);
        if !left.is_empty() {
            return Err(format!("left behind: {left}").into());
        }
        let lost = self.before.minus(&now);
        if !lost.is_empty() {
            return Err(format!("a bystander lost: {lost}").into());
        }
        let precious = fs::read_to_string(Path::new(USERS).join("precious"));
        if precious.as_deref().ok() != Some("not ours") {
            return Err(format!("the user's data are gone: {precious:?}").into());
        }
        Ok(())
    }

    /// A guest that runs the same snap: its shims have our very addresses, and we see them.
    pub fn beside_guest(&mut self) -> Result<()> {
        let mut guest = world::guest(GUEST)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(guest.stdout.take().ok_or("no pipe")?).read_line(&mut said)?;
        if said.trim() != "ready" {
            return Err(format!("the guest says '{said}'").into());
        }
        self.guest = Some(guest);
        self.before = Look::now()?;
        let twins = Runtime::shims_at(&Layout::of_snap(&self.snap.name))?.len();
        if twins == 2 { Ok(()) } else { Err(format!("the guest shows {twins} shims, not 2").into()) }
    }

    /// A container of the first other runtime, with an id of our choice, in a containerd namespace of its own.
    pub fn other_container(&mut self, namespace: &str, id: &str) -> Result<()> {
        let ours_so_far = self.ours()?;
        let other = self.others.first().ok_or("there is no other runtime")?;
        let archive = other.image().display().to_string();
        other.ctr(&["-n", namespace, "images", "import", &archive])?;
        let image = "docker.io/library/app:1";
        other.ctr(&["-n", namespace, "run", "-d", image, id, "/app", "obedient"])?;
        self.before.add_all(&self.ours()?.minus(&ours_so_far));
        Ok(())
    }

    /// Starts afresh after a teardown: what is there now is no longer of interest.
    pub fn forget(&mut self) -> Result<()> {
        self.runtime = None;
        self.pods.clear();
        self.volumes = 0;
        self.before = Look::now()?;
        Ok(())
    }

    pub fn bundle(&mut self, id: &str) -> Result<PathBuf> {
        Ok(self.runtime()?.bundle(id))
    }
}

pub fn outcome(document: &Value, expected: &str) -> Result<()> {
    if document["schema"] == 1 && document["outcome"] == expected {
        return Ok(());
    }
    Err(format!("the outcome is not {expected}: {document}").into())
}
