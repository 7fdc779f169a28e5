//! A real containerd with its pods: laid out and configured as a container snap, or as a host has it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Result, built};
use programs::wrap_runc;

mod programs;
mod volumes;

pub use programs::{SLOW_KILLS, fetch, runc, show_installed, show_programs};
pub use volumes::{make_namespace, mount_volumes, mount_volumes_in};

/// Containerd's versions under test, by the Debian release they come from: bookworm, trixie, forky.
pub const VERSIONS: [&str; 3] = ["1.6", "1.7", "2.1"];

/// Where the world shows the programs of every version.
pub const PROGRAMS: &str = "/opt/containerd";

/// Where one containerd keeps its things.
#[derive(Clone, Debug)]
pub struct Layout {
    pub root: PathBuf,
    pub state: PathBuf,
    pub socket: PathBuf,
    /// The service's control group.
    pub service: String,
    /// Name of the pods' bridge and number of their subnet.
    pub network: (&'static str, u8),
}

impl Layout {
    /// As the built-in profile of `snap` says.
    pub fn of_snap(snap: &str) -> Layout {
        let common = PathBuf::from(format!("/var/snap/{snap}/common"));
        Layout {
            root: common.join("var/lib/containerd"),
            state: common.join("run/containerd"),
            socket: common.join("run/containerd.sock"),
            service: format!("system.slice/snap.{snap}.daemon-containerd.service"),
            network: ("cni0", 1),
        }
    }

    /// As a host's own containerd.
    pub fn of_host() -> Layout {
        Layout {
            root: "/var/lib/containerd".into(),
            state: "/run/containerd".into(),
            socket: "/run/containerd/containerd.sock".into(),
            service: "system.slice/containerd.service".into(),
            network: ("cni1", 2),
        }
    }

    /// Beside a snap's, so that every path of it begins with the text of the snap's.
    pub fn beside_snap(snap: &str) -> Layout {
        let mut layout = Layout::of_snap(snap);
        for path in [&mut layout.root, &mut layout.state, &mut layout.socket] {
            path.as_mut_os_string().push("2");
        }
        layout.service = format!("system.slice/snap.{snap}2.daemon-containerd.service");
        layout.network = ("cni2", 3);
        layout
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Pod {
    pub uid: String,
    pub id: String,
    pub pid: i32,
    pub containers: Vec<Container>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Container {
    pub id: String,
    pub pid: i32,
}

/// What is unusual about a runtime.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// The name and version of the runtime whose shim it starts, such as `kata.v2`: the real shim under another name.
    pub shim: Option<&'static str>,
    /// The file at which the mount namespace is bound that it runs in, as snapd binds a snap's.
    pub namespace: Option<&'static str>,
}

/// What a containerd runs with: its own directory, its configuration, its version's programs, and the search path.
pub struct Place {
    pub own: PathBuf,
    pub config: PathBuf,
    pub programs: PathBuf,
    pub path: String,
}

pub struct Runtime {
    pub layout: Layout,
    daemon: Child,
    pub programs: PathBuf,
    log: PathBuf,
}

impl Runtime {
    /// Starts a containerd and gives it the test's image.
    pub fn start(layout: Layout, version: &str) -> Result<Runtime> {
        Runtime::start_in(Manner::default(), layout, version)
    }

    pub fn start_in(manner: Manner, layout: Layout, version: &str) -> Result<Runtime> {
        let place = Runtime::prepare(manner, &layout, version)?;
        let mut daemon = match manner.namespace {
            Some(file) => {
                let mut daemon = in_group(&layout.service, "nsenter")?;
                daemon.arg(format!("--mount={file}")).arg("containerd");
                daemon
            }
            None => in_group(&layout.service, "containerd")?,
        };
        daemon
            .arg("--config")
            .arg(&place.config)
            .arg("--root")
            .arg(&layout.root)
            .arg("--state")
            .arg(&layout.state)
            .arg("--address")
            .arg(&layout.socket);
        Runtime::start_daemon(daemon, place, layout)
    }

    /// Writes what a containerd needs to run, and tells where.
    pub fn prepare(manner: Manner, layout: &Layout, version: &str) -> Result<Place> {
        let programs = Path::new(PROGRAMS).join(version);
        let own = PathBuf::from("/opt/runtimes").join(layout.network.0);
        fs::create_dir_all(own.join("bin"))?;
        let wrapped = wrap_runc(&own)?;
        write_cni(&own, layout.network)?;
        let config = own.join("config.toml");
        fs::write(&config, configuration(&own, manner.shim))?;
        if let Some(shim) = manner.shim {
            let name = format!("containerd-shim-{}", shim.replace('.', "-"));
            fs::copy(programs.join("containerd-shim-runc-v2"), wrapped.join(name))?;
        }
        for dir in [layout.root.parent(), layout.socket.parent(), Some(Path::new("/run/netns"))] {
            fs::create_dir_all(dir.ok_or("a path of the layout has no parent")?)?;
        }
        let path = format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", wrapped.display(), programs.display());
        Ok(Place { own, config, programs, path })
    }

    /// Starts a containerd by this command, and gives it the test's image.
    pub fn start_daemon(mut daemon: Command, place: Place, layout: Layout) -> Result<Runtime> {
        let log = place.own.join("log");
        let daemon = daemon
            .env("PATH", place.path)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()?;
        let runtime = Runtime { layout, daemon, programs: place.programs, log };
        let answer = runtime.podmaker(&["version", "--wait", "30"]);
        answer.map_err(|error| format!("{error}\n{}", runtime.last_words()))?;
        runtime.import_image()?;
        Ok(runtime)
    }

    fn import_image(&self) -> Result<()> {
        self.import("docker.io/library/pause:1", "/app pause", &[])?;
        self.import("docker.io/library/app:1", "/app", &[])
    }

    /// Imports an image of the tests' program, made with more of podmaker's options.
    pub fn import(&self, name: &str, command: &str, options: &[&str]) -> Result<()> {
        let out = self.image().display().to_string();
        let program = format!("{}:/app", built("app")?.display());
        let mut args = vec!["image", "--name", name, "--out", &out, "--command", command];
        args.extend(options);
        args.push(&program);
        self.podmaker(&args)?;
        self.ctr(&["-n", "k8s.io", "images", "import", &out]).map(drop)
    }

    /// Makes `count` pods with one container each that runs `app`.
    pub fn pods(&self, name: &str, count: usize, app: &[&str]) -> Result<Vec<Pod>> {
        self.make_pods(name, &["--count", &count.to_string()], app)
    }

    /// As `pods`, with more of podmaker's options.
    pub fn make_pods(&self, name: &str, options: &[&str], app: &[&str]) -> Result<Vec<Pod>> {
        #[derive(Deserialize)]
        struct Made {
            pods: Vec<Pod>,
        }
        let uid = format!("{name}-0000-4000-8000");
        let mut args = vec!["run", "--pod", name, "--uid", &uid];
        args.extend(options);
        args.push("--");
        args.extend(app);
        let made: Made = serde_json::from_slice(&self.podmaker(&args)?)?;
        if app.first() == Some(&"/app") {
            made.pods.iter().flat_map(|pod| &pod.containers).try_for_each(wait_for_app)?;
        }
        Ok(made.pods)
    }

    /// Asks through the container runtime interface.
    pub fn podmaker(&self, args: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(built("podmaker")?);
        let result = output(command.arg("--socket").arg(&self.layout.socket).args(args));
        result.map_err(|e| format!("{e}\n{}", self.last_words()).into())
    }

    pub fn ctr(&self, args: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(self.programs.join("ctr"));
        command.arg("--address").arg(&self.layout.socket).args(args).env("PATH", "/usr/sbin:/usr/bin");
        output(&mut command)
    }

    /// Ends containerd at once, as it ends when snapd has stopped its service: shims and pods live on.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon.wait()?;
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Collects a daemon that somebody else has ended; one that runs is left alone.
    pub fn collect(&mut self) -> Result<()> {
        self.daemon.try_wait()?;
        Ok(())
    }

    /// The archive of the image that its pods run.
    pub fn image(&self) -> PathBuf {
        self.log.with_file_name("image.tar")
    }

    /// The directory of a container's bundle.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.layout.state.join("io.containerd.runtime.v2.task/k8s.io").join(id)
    }

    /// The process ids of this runtime's shims.
    pub fn shims(&self) -> Result<Vec<i32>> {
        Runtime::shims_at(&self.layout)
    }

    /// The process ids of the shims that name this layout's socket.
    pub fn shims_at(layout: &Layout) -> Result<Vec<i32>> {
        let address = layout.socket.as_os_str().as_encoded_bytes();
        let mut shims = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
            let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
            let words: Vec<_> = line.split(|b| *b == 0).collect();
            if words.windows(2).any(|two| two == [b"-address", address]) {
                shims.push(pid);
            }
        }
        Ok(shims)
    }

    /// The end of the daemon's log, for an error message.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text
            .lines()
            .rev()
            .filter(|l| l.contains("level=error") || l.contains("level=warn"))
            .take(8)
            .collect();
        lines.join("\n")
    }
}

/// Waits until the tests' own program has blocked its signals, or has ended. Containerd says that a container runs while it is still
/// runc's, and as the first process of its PID namespace it would never get a signal that comes too early.
fn wait_for_app(container: &Container) -> Result<()> {
    const SIGURG: u64 = 1 << 22;
    let start = Instant::now();
    let is_ready = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & SIGURG != 0)
    };
    let status = || fs::read_to_string(format!("/proc/{}/status", container.pid));
    while status().is_ok_and(|status| !is_ready(&status)) {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("the program of container {} does not start", container.id).into());
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Runs a command and returns what it printed; its complaints make the error.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let out = command.output().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    Err(format!("{command:?}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr)).into())
}

/// A command that enters a control group in every hierarchy before it becomes `program`, as a service does.
pub fn in_group(group: &str, program: &str) -> Result<Command> {
    let mut files = Vec::new();
    for root in group_roots()? {
        let dir = root.join(group);
        fs::create_dir_all(&dir)?;
        files.push(dir.join("cgroup.procs"));
    }
    let mut command = Command::new("/bin/sh");
    let script = r#"while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@""#;
    command.args(["-ec", script, "sh"]).args(files).arg("--").arg(program);
    Ok(command)
}

/// Where services have a group: the unified hierarchy, and systemd's own where there is one.
fn group_roots() -> Result<Vec<PathBuf>> {
    let top = PathBuf::from("/sys/fs/cgroup");
    if top.join("cgroup.procs").exists() {
        return Ok(vec![top]);
    }
    Ok(["unified", "systemd", "pids"].map(|name| top.join(name)).into_iter().filter(|p| p.exists()).collect())
}

fn write_cni(own: &Path, (bridge, subnet): (&str, u8)) -> Result<()> {
    fs::create_dir_all(own.join("net.d"))?;
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": format!("{bridge}-pods"),
        "plugins": [
            {
                "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true,
                "ipam": { "type": "host-local", "subnet": format!("10.{subnet}.0.0/16") }
            },
            { "type": "portmap", "capabilities": { "portMappings": true } }
        ]
    });
    fs::write(own.join("net.d/10-pods.conflist"), network.to_string())?;
    Ok(())
}

fn configuration(own: &Path, shim: Option<&str>) -> String {
    let other = shim.map(|shim| {
        format!(
            r#"[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "other"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.other]
runtime_type = "io.containerd.{shim}"
"#
        )
    });
    // Lower out-of-memory scores need a privilege that a machine may withhold; they change nothing here. The resource
    // interface has one socket for the whole host, so that only one containerd could have it.
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:1"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{PROGRAMS}/1.6/cni"
conf_dir = "{}/net.d"
[plugins."io.containerd.nri.v1.nri"]
disable = true
{}"#,
        own.display(),
        other.unwrap_or_default()
    )
}
