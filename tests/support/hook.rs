//! Runs the remove hook as snapd does, and reads what it says.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::runtime::in_group;
use super::{Result, built};

/// Names another program to be run in the hook's place, for the proof that the tests would notice.
pub const OTHER_HOOK: &str = "SNAP_TEARDOWN_HOOK";

/// Names an AppArmor profile to run the hook under, as snapd confines it.
const PROFILE: &str = "SNAP_TEARDOWN_HOOK_PROFILE";

/// Runs the hook so that it may signal nobody of another user.
pub const WITHOUT_KILL: [&str; 3] = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"];

/// Runs the hook as an older seccomp profile or kernel does: no process can be opened.
pub const WITHOUT_PIDFDS: [&str; 8] = [
    "strace",
    "-f",
    "-qq",
    "--output=/dev/null",
    "-e",
    "trace=pidfd_open",
    "-e",
    "inject=pidfd_open:error=EPERM",
];

/// An installed snap: its directories, and the hook in its place.
pub struct Snap {
    pub name: String,
    pub dir: PathBuf,
    pub common: PathBuf,
}

pub struct Ended {
    pub status: Option<i32>,
    pub output: String,
    pub elapsed: Duration,
}

impl Snap {
    pub fn install(name: &str) -> Result<Snap> {
        let dir = PathBuf::from(format!("/snap/{name}/1"));
        let common = PathBuf::from(format!("/var/snap/{name}/common"));
        fs::create_dir_all(dir.join("meta/hooks"))?;
        fs::create_dir_all(&common)?;
        fs::create_dir_all(format!("/var/snap/{name}/1"))?;
        std::os::unix::fs::symlink("1", format!("/snap/{name}/current"))?;
        let program = match std::env::var_os(OTHER_HOOK) {
            Some(other) => PathBuf::from(other),
            None => built("remove")?,
        };
        let hook = dir.join("meta/hooks/remove");
        fs::copy(&program, &hook).map_err(|e| format!("cannot copy '{}': {e}", program.display()))?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        Ok(Snap { name: name.into(), dir, common })
    }

    /// Ships a profile: the built-in one, with another patience.
    pub fn ship_patience(&self, drain: u64, deadline: u64) -> Result<()> {
        self.ship(json!({ "drain": drain, "deadline": deadline }))
    }

    /// The same with all of its keys.
    pub fn ship(&self, patience: Value) -> Result<()> {
        let path = super::sources().join("src/snap/profile").join(format!("{}.json", self.name));
        let mut profile: Value = serde_json::from_slice(&fs::read(path)?)?;
        profile["patience"] = patience;
        fs::write(self.dir.join("teardown.json"), profile.to_string())?;
        Ok(())
    }

    /// The environment that snapd gives to everything of a snap.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME", "/root".into()),
            ("TMPDIR", "/tmp".into()),
            ("SNAP", self.dir.display().to_string()),
            ("SNAP_COMMON", self.common.display().to_string()),
            ("SNAP_DATA", format!("/var/snap/{}/1", self.name)),
            ("SNAP_NAME", self.name.clone()),
            ("SNAP_INSTANCE_NAME", self.name.clone()),
            ("SNAP_INSTANCE_KEY", String::new()),
            ("SNAP_REVISION", "1".into()),
            ("SNAP_VERSION", "1.0".into()),
        ]
    }

    /// Starts the hook: no arguments, snapd's environment, one pipe for both outputs, a scope of its own.
    pub fn start_hook(&self) -> Result<Running> {
        self.start_hook_by(&[])
    }

    /// The same, by a program that becomes the hook.
    pub fn start_hook_by(&self, wrapper: &[&str]) -> Result<Running> {
        let scope = format!("system.slice/snap.{}.hook.remove-0f1e2d3c.scope", self.name);
        let hook = self.dir.join("meta/hooks/remove");
        let hook = hook.display().to_string();
        let mut command = match std::env::var(PROFILE) {
            Ok(profile) => {
                let mut command = in_group(&scope, "aa-exec")?;
                command.args(["--profile", &profile, "--", &hook]);
                command
            }
            Err(_) => {
                let line: Vec<&str> = wrapper.iter().copied().chain([hook.as_str()]).collect();
                let mut command = in_group(&scope, line[0])?;
                command.args(&line[1..]);
                command
            }
        };
        command.env_clear().envs(self.environment());
        start(command)
    }

    /// Runs a copy of the command line program that was kept outside of the snap, as an administrator does.
    pub fn run_saved_copy(&self) -> Result<Ended> {
        let program =
            std::env::var_os(OTHER_HOOK).map_or_else(|| built("snap-teardown"), |other| Ok(other.into()))?;
        let copy = Path::new("/root/snap-teardown");
        fs::copy(&program, copy).map_err(|e| format!("cannot copy '{}': {e}", program.display()))?;
        fs::set_permissions(copy, fs::Permissions::from_mode(0o755))?;
        let mut command = Command::new(copy);
        command
            .args(["remove", "--yes", "--snap", &self.name])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        start(command)?.end()
    }

    pub fn run_hook(&self) -> Result<Ended> {
        self.start_hook()?.end()
    }

    pub fn result_file(&self) -> PathBuf {
        format!("/run/snap.{}/teardown.json", self.name).into()
    }

    /// The result document, checked against its schema and the rules of its file.
    pub fn document(&self) -> Result<Value> {
        let path = self.result_file();
        let file = File::open(&path).map_err(|e| format!("cannot open '{}': {e}", path.display()))?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode != 0o600 {
            return Err(format!("'{}' has mode {mode:o}", path.display()).into());
        }
        let document: Value = serde_json::from_reader(file)?;
        check(&document)?;
        Ok(document)
    }
}

/// Starts a program with one pipe for both outputs.
fn start(mut command: Command) -> Result<Running> {
    let (reader, writer) = std::io::pipe()?;
    command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let start = Instant::now();
    let child = command.spawn()?;
    drop(command); // it holds the pipe's other end
    Ok(Running { child, reader: Some(reader), start })
}

pub struct Running {
    pub child: Child,
    reader: Option<std::io::PipeReader>,
    start: Instant,
}

impl Running {
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for the hook as snapd does: until it has ended and nobody holds its pipe.
    pub fn end(mut self) -> Result<Ended> {
        let mut output = Vec::new();
        if let Some(mut reader) = self.reader.take() {
            reader.read_to_end(&mut output)?;
        }
        let status = self.child.wait()?.code();
        let elapsed = self.start.elapsed();
        Ok(Ended { status, output: String::from_utf8_lossy(&output).into_owned(), elapsed })
    }
}

impl Ended {
    /// The cut document in the last line of the output, checked, within the bounds of what snapd keeps.
    pub fn cut_document(&self) -> Result<Value> {
        if self.output.len() > 8192 || self.output.lines().count() > 100 {
            let lines = self.output.lines().count();
            return Err(format!("{} bytes in {lines} lines of output", self.output.len()).into());
        }
        let last = self.output.lines().last().ok_or("the hook printed nothing")?;
        let document = serde_json::from_str(last).map_err(|e| format!("last line of output: {e}: {last}"))?;
        check(&document)?;
        Ok(document)
    }
}

/// An error that names every place where the document breaks the schema.
#[cfg(feature = "suite")]
pub fn check(document: &Value) -> Result<()> {
    let text = include_bytes!("../../src/report/schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_slice(text)?)?;
    let wrong: Vec<_> = schema.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("against the schema: {}", wrong.join("; ")).into()) }
}

/// The demonstration shows documents, and leaves it to the suites to check them.
#[cfg(not(feature = "suite"))]
pub fn check(_: &Value) -> Result<()> {
    Ok(())
}
