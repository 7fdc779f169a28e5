//! A scene's world: the picture before the snap, the snap and its runtime, and the verdict after the hook.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use support::Result;
use support::hook::Snap;
use support::picture::{Difference, Kind, Options, Picture, Thing, tables_of};
use support::runtime::{Layout, Manner, Pod, Runtime, in_group, output};
use support::told::Told;

use crate::furniture::{at_rest, furnish, options};

pub const COMMON: &str = "/var/snap/microk8s/common";
pub const DATA: &str = "/var/snap/microk8s/1";

/// The user's own directory; every file below it counts with its contents.
pub const USERS: &str = "/srv/users";

/// A process of the application, or anything else that is only kept until the end of the scene.
pub struct Stage {
    pub snap: Snap,
    pub runtime: Option<Runtime>,
    pub others: Vec<Runtime>,
    pub children: Vec<Child>,
    pub version: &'static str,
    before: Picture,
    options: Options,
    profile: Option<Value>,
}

/// The end that is right.
pub enum Right {
    /// Status 0, and the machine is as it was.
    Clean,
    /// As it was but for these, each of them told; with one of these statuses.
    Told(fn(&Thing) -> bool, &'static [i32]),
    /// Whose it is cannot be known: nothing of others is lost, these are named, and the status is 3.
    Doubt(fn(&Thing) -> bool),
}

impl Stage {
    /// A world, its picture, and the snap with the profile that is built in.
    pub fn new(version: &'static str) -> Result<Stage> {
        Stage::beside(version, || Ok(Vec::new()))
    }

    /// The same, with others there before.
    pub fn beside(version: &'static str, others: impl FnOnce() -> Result<Vec<Runtime>>) -> Result<Stage> {
        furnish(true)?;
        let others = others()?;
        Stage::from_here(version, others)
    }

    /// The same, with a pod of another containerd, which works on or was stopped as its service: the pod lives on.
    pub fn beside_pod_of(layout: Layout, stopped: bool) -> Result<Stage> {
        Stage::beside("1.7", || {
            let mut other = Runtime::start(layout, "1.7")?;
            other.pods("other", 1, &["/app", "obedient"])?;
            if stopped {
                other.kill()?;
            }
            Ok(vec![other])
        })
    }

    pub fn from_here(version: &'static str, others: Vec<Runtime>) -> Result<Stage> {
        let options = options()?;
        let before = at_rest(&options)?;
        let snap = Snap::install("microk8s")?;
        let (runtime, children) = (None, Vec::new());
        Ok(Stage { snap, runtime, others, children, version, before, options, profile: None })
    }

    /// Ships a profile: the built-in one, changed.
    pub fn profile(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut profile: Value = match self.profile.take() {
            Some(profile) => profile,
            None => serde_json::from_slice(&fs::read(
                Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snap/profile/microk8s.json"),
            )?)?,
        };
        change(&mut profile);
        fs::write(self.snap.dir.join("teardown.json"), profile.to_string())?;
        self.profile = Some(profile);
        Ok(())
    }

    /// The built-in layout.
    pub fn layout() -> Layout {
        Layout::of_snap("microk8s")
    }

    /// Starts our containerd: by these words, after what has been written into its configuration.
    pub fn start(
        &mut self,
        layout: Layout,
        words: &[&str],
        configure: impl FnOnce(String) -> Result<String>,
    ) -> Result<&Runtime> {
        let place = Runtime::prepare(Manner::default(), &layout, self.version)?;
        let config = fs::read_to_string(&place.config)?;
        fs::write(&place.config, configure(config)?)?;
        let mut daemon = in_group(&layout.service, "containerd")?;
        daemon.args(words).args(["--address".as_ref(), layout.socket.as_os_str()]);
        if !words.contains(&"--config") {
            daemon.arg("--config").arg(&place.config);
        }
        Ok(self.runtime.insert(Runtime::start_daemon(daemon, place, layout)?))
    }

    /// Starts our containerd as the built-in profile has it, or at other roots with all the rest the same.
    pub fn start_at(&mut self, root: &str, state: &str) -> Result<&Runtime> {
        let layout = Layout { root: root.into(), state: state.into(), ..Stage::layout() };
        self.start(layout, &["--root", root, "--state", state], Ok)
    }

    pub fn start_usual(&mut self) -> Result<&Runtime> {
        self.start_at(&format!("{COMMON}/var/lib/containerd"), &format!("{COMMON}/run/containerd"))
    }

    pub fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| "no runtime was started".into())
    }

    /// Pods whose applications write a file of their own when they get a SIGTERM, and only after a while.
    pub fn polite_pods(&self, name: &str, count: usize) -> Result<Vec<Pod>> {
        let mut pods = Vec::new();
        for n in 0..count {
            fs::create_dir_all(format!("{USERS}/written"))?;
            let mount = format!("{USERS}/written:/out");
            let name = format!("{name}{n}");
            let out = format!("/out/{name}");
            let options = ["--mount", mount.as_str()];
            pods.extend(self.runtime()?.make_pods(&name, &options, &["/app", "slow", &out])?);
        }
        Ok(pods)
    }

    /// Every application of `polite_pods` has ended in its own time.
    fn all_were_polite(&self, count: usize) -> Result<()> {
        let written = fs::read_dir(format!("{USERS}/written")).map_or(0, |entries| entries.flatten().count());
        demand(
            written == count,
            format!("{written} of {count} applications ended by themselves, the others were killed"),
        )
    }

    /// Ends our containerd as snapd does: shims and pods live on.
    pub fn stop(&mut self) -> Result<()> {
        self.runtime.as_mut().ok_or("no runtime")?.kill()
    }

    pub fn keep(&mut self, mut command: Command) -> Result<i32> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let pid = i32::try_from(child.id())?;
        self.children.push(child);
        Ok(pid)
    }

    /// What others do after the picture is taken: it is part of the machine as it was.
    pub fn also<T>(&mut self, others: impl FnOnce(&Stage) -> Result<T>) -> Result<T> {
        let earlier = Picture::take(&self.options)?;
        let made = others(self)?;
        self.before.adopt(&at_rest(&self.options)?, &earlier);
        Ok(made)
    }

    /// What is there now and others use as well, whoever made it first: it is part of the machine as it was.
    pub fn shared(&mut self, is: impl Fn(&Thing) -> bool) -> Result<()> {
        let now = Picture::take(&self.options)?;
        self.before.adopt(&now, &now.without(is));
        Ok(())
    }

    /// True if a look now is the same as one of before.
    pub fn picture(&self) -> Result<Picture> {
        Picture::take(&self.options)
    }

    pub fn now(&self) -> Result<Difference> {
        Ok(Picture::take(&self.options)?.since(&self.before))
    }

    /// The control: the picture sees these kinds of things, at least as many of each.
    pub fn must_show(&self, kinds: &[(Kind, usize)]) -> Result<()> {
        let now = self.now()?;
        for (kind, least) in kinds {
            let seen = now.count(*kind);
            demand(
                seen >= *least,
                format!("the scene is not what it should be: {seen} of {least} {kind:?}\n{now:.20}"),
            )?;
        }
        println!(
            "scene: {}",
            kinds.iter().map(|(k, _)| format!("{k:?} {}", now.count(*k))).collect::<Vec<_>>().join(", ")
        );
        Ok(())
    }

    /// Runs the hook and judges it.
    pub fn judge(&mut self, right: &Right, polite: usize) -> Result<Value> {
        println!("scene: complete"); // what fails from here on has failed at what it demands (tests/support/open.rs)
        let ended = self.snap.run_hook()?;
        let report = self.snap.document();
        if Path::new("/dev/mapper/control").exists() {
            sh("dmsetup mknodes")?; // udev's part on a machine
        }
        let unread =
            report.as_ref().err().map_or_else(String::new, |error| format!("\nthe document: {error}"));
        let answer =
            self.verdict(right, polite, ended.status, report.as_ref().ok(), ended.elapsed.as_secs_f64());
        answer.map_err(|e| {
            let said = ended.output.lines().take(12).collect::<Vec<_>>().join("\n");
            format!(
                "{e}{unread}\nstatus {:?}, {:.1} s, said: {said}",
                ended.status,
                ended.elapsed.as_secs_f64()
            )
            .into()
        })
    }

    fn verdict(
        &mut self,
        right: &Right,
        polite: usize,
        status: Option<i32>,
        report: Option<&Value>,
        seconds: f64,
    ) -> Result<Value> {
        for runtime in self.runtime.iter_mut().chain(&mut self.others) {
            runtime.collect()?;
        }
        for child in &mut self.children {
            child.try_wait()?;
        }
        let empty = json!({});
        let report = report.unwrap_or(&empty);
        let told = Told::by(report);
        let has_none = report.get("outcome").is_none();
        let mut wrong: Vec<String> =
            told.untrue().iter().map(|what| format!("told, and not there: {what}")).collect();
        if has_none {
            wrong.push("there is no document that can be read".into());
        }
        let mounted = be_snapd();
        let untold = mounted.iter().filter(|at| !told.of_path(at));
        wrong.extend(
            untold.map(|at| format!("snapd refuses to remove the snap: '{}' is mounted", at.display())),
        );
        // What snapd did not get to delete is not the hook's to tell.
        let snapds = |thing: &Thing| {
            let below = |dir| thing.path.starts_with(dir);
            !mounted.is_empty()
                && thing.kind == Kind::File
                && (below("/var/snap/microk8s") || below("/snap/microk8s"))
        };
        let now = self.now()?.only(|thing| !allowed(thing, polite) && !snapds(thing));
        let (may, statuses): (fn(&Thing) -> bool, &[i32]) = match right {
            Right::Clean => (|_| false, &[0]),
            Right::Told(may, statuses) => (*may, statuses),
            Right::Doubt(_) => (|_| true, &[3]),
        };
        let not_right = now.only(|thing| !may(thing));
        let named: fn(&Thing) -> bool = if let Right::Doubt(named) = right { *named } else { |_| true };
        let there = now.more.iter().chain(now.other.iter().map(|(thing, _)| thing));
        let silent: Vec<_> = there.filter(|thing| named(thing) && !told.of(thing)).collect();
        if !now.less.is_empty() {
            wrong.push(format!(
                "somebody has lost:\n{:.6}",
                Difference { less: now.less.clone(), ..Difference::default() }
            ));
        }
        if !not_right.is_empty() {
            wrong.push(format!("not as it was:\n{not_right:.6}"));
        }
        if !silent.is_empty() {
            let some: String = silent.iter().take(10).map(|t| format!("\n  {t}")).collect();
            wrong.push(format!(
                "{} things are there, and the report is silent about them:{some}",
                silent.len()
            ));
        }
        let lives = |thing: &Thing| !matches!(thing.kind, Kind::File | Kind::Setting);
        if status == Some(0) && !now.only(lives).is_empty() {
            wrong.push(format!("status 0, and this is there:\n{:.4}", now.only(lives)));
        }
        if !status.is_some_and(|status| statuses.contains(&status)) {
            wrong.push(format!("status {status:?}, not one of {statuses:?}; outcome {}", report["outcome"]));
        }
        if let Err(error) = self.all_were_polite(polite) {
            wrong.push(error.to_string());
        }
        if seconds > 60.0 {
            wrong.push(format!("it took {seconds:.0} s"));
        }
        if wrong.is_empty() { Ok(report.clone()) } else { Err(wrong.join("\n").into()) }
    }
}

/// What snapd does after the hook: it refuses if a mount is left below the snap's data, and these are returned; else the
/// snap's directories go, and with its units their groups.
fn be_snapd() -> Vec<PathBuf> {
    let his = |at: &Path| [COMMON, "/var/snap/microk8s"].iter().any(|own| at == Path::new(own));
    let table = tables_of(Path::new("/proc/self/mountinfo")).into_iter().map(|mount| mount.point);
    let mounted: Vec<_> = table.filter(|at| at.starts_with("/var/snap/microk8s") && !his(at)).collect();
    if mounted.is_empty() {
        let _ = sh("rm -rf --one-file-system /var/snap/microk8s /snap/microk8s /root/snap-teardown 2>/dev/null || true
            rm -rf --one-file-system /var/snap/microk8s/common/* /var/snap/microk8s/1 2>/dev/null || true");
    }
    let _ = sh("find /sys/fs/cgroup -depth -type d -path '*.slice/snap.microk8s.*' -exec rmdir {} + 2>/dev/null || true
        find /sys/fs/cgroup -depth -type d -name system.slice -exec rmdir {} + 2>/dev/null || true");
    mounted
}

/// The report itself; what applications wrote.
fn allowed(thing: &Thing, polite: usize) -> bool {
    let path = thing.path.as_path();
    let written = format!("{USERS}/written");
    let result = ["", "/teardown.json", "/teardown.lock"];
    result.iter().any(|name| path == Path::new(&format!("/run/snap.microk8s{name}")))
        || path.starts_with("/run/snapd")
        // The scene itself made the directory.
        || path == Path::new(&written)
        || polite > 0 && path.starts_with(written)
        // Made by whoever asks a world's systemd hierarchy for a service first.
        || thing.kind == Kind::Cgroup && path.ends_with("system.slice")
}

pub fn sh(line: &str) -> Result<String> {
    let mut command = Command::new("/bin/sh");
    command.args(["-ec", line]).env("PATH", "/opt/others/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(String::from_utf8_lossy(&output(&mut command)?).into_owned())
}

pub fn demand(condition: bool, what: impl Into<String>) -> Result<()> {
    if condition { Ok(()) } else { Err(what.into().into()) }
}
