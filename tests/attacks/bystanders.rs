//! Whoever must not be harmed: real processes, containers, network namespaces and files of other owners.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use support::runtime::{Layout, Runtime, in_group};
use support::{Result, sh};

pub trait Bystander {
    fn name(&self) -> String;
    /// What has become of it, if it is not as it was.
    fn harm(&mut self) -> Result<Option<String>>;
}

/// Runs as this user, for real: no privilege is left. Needs none of the user's files.
pub const USER: [&str; 6] =
    ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all", "--"];

/// A process in a group of its own: a login session, a service, a guest, whatever the group's name says.
pub struct Process {
    what: String,
    child: Child,
}

impl Process {
    pub fn in_group(group: &str) -> Result<Process> {
        Process::start(group, in_group(group, "sleep")?.arg("9999"))
    }

    /// The same, of uid 1000.
    pub fn of_user(group: &str) -> Result<Process> {
        let mut command = in_group(group, USER[0])?;
        command.args(&USER[1..]).args(["sleep", "9999"]);
        Process::start(group, &mut command)
    }

    /// Started, and become what it is to be: in its group, by its own name.
    pub fn start(what: &str, command: &mut Command) -> Result<Process> {
        let child = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let process = Process { what: what.into(), child };
        until(&format!("'{what}' runs"), || {
            let line = fs::read(format!("/proc/{}/cmdline", process.child.id())).unwrap_or_default();
            Ok(line.starts_with(b"sleep\0"))
        })?;
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Bystander for Process {
    fn name(&self) -> String {
        format!("process {} in '{}'", self.child.id(), self.what)
    }

    fn harm(&mut self) -> Result<Option<String>> {
        Ok(self.child.try_wait()?.map(|status| format!("DEAD: {status}")))
    }
}

/// A pod's network of another runtime: a named namespace with a process in it, a veth, CNI's result and lease.
pub struct Pod {
    netns: String,
    link: String,
    holder: Process,
}

impl Pod {
    /// `id` is the container's, for CNI; `netns` its namespace's name; `link` the host's end of its veth.
    pub fn new(id: &str, netns: &str, link: &str) -> Result<Pod> {
        sh(&format!(
            "ip netns add {netns}; ip link add {link} type veth peer name eth0 netns {netns}; ip link set {link} up
             ip -n {netns} addr add 10.77.0.9/24 dev eth0; ip -n {netns} link set eth0 up"
        ))?;
        result(
            "k3s",
            id,
            "eth0",
            json!([{"name": link}, {"name": "eth0", "sandbox": format!("/var/run/netns/{netns}")}]),
        )?;
        lease("k3s", "10.77.0.9", id)?;
        let group = format!("kubepods/besteffort/pod-of-others/{id}");
        let mut command = in_group(&group, "ip")?;
        // ip becomes the program by exec, in the namespace.
        let holder = Process::start(&group, command.args(["netns", "exec", netns, "sleep", "9999"]))?;
        Ok(Pod { netns: netns.into(), link: link.into(), holder })
    }
}

impl Bystander for Pod {
    fn name(&self) -> String {
        format!("the pod in {}", self.netns)
    }

    fn harm(&mut self) -> Result<Option<String>> {
        if let Some(harm) = self.holder.harm()? {
            return Ok(Some(harm));
        }
        let (netns, pid) = (&self.netns, self.holder.pid());
        if sh(&format!("nsenter --net=/proc/{pid}/ns/net ip link show eth0")).is_err() {
            return Ok(Some("CUT OFF: it has lost its eth0".into()));
        }
        if sh(&format!("ip link show {}", self.link)).is_err() {
            return Ok(Some(format!("CUT OFF: {} is gone", self.link)));
        }
        let bound = sh(&format!("stat -Lc %i /run/netns/{netns} /proc/{pid}/ns/net | uniq | wc -l"));
        Ok((bound.ok().as_deref() != Some("1\n")).then(|| format!("UNBOUND: /run/netns/{netns}")))
    }
}

/// What CNI keeps of an attachment: the container's and network's name are in it, as in the file's.
pub fn result(network: &str, id: &str, interface: &str, interfaces: serde_json::Value) -> Result<PathBuf> {
    let text = json!({
        "kind": "cniCacheV1", "containerId": id, "networkName": network, "ifName": interface,
        "result": {"cniVersion": "0.4.0", "interfaces": interfaces, "ips": [{"version": "4", "address": "10.77.0.9/24"}]}
    });
    write(&format!("/var/lib/cni/results/{network}-{id}-{interface}"), &text.to_string())
}

/// An address that host-local has given to a container.
pub fn lease(network: &str, address: &str, id: &str) -> Result<PathBuf> {
    write(&format!("/var/lib/cni/networks/{network}/{address}"), &format!("{id}\r\neth0"))
}

pub fn write(path: &str, text: &str) -> Result<PathBuf> {
    fs::create_dir_all(Path::new(path).parent().ok_or("no parent")?)?;
    fs::write(path, text).map_err(|e| format!("cannot write '{path}': {e}"))?;
    Ok(path.into())
}

/// The host's own containerd with one container that CRI knows nothing of, in Docker's namespace.
pub struct Containerd {
    pub runtime: Runtime,
    pub id: String,
    pub pid: i32,
    start: String,
}

impl Containerd {
    /// A container that runs as root, or with more of `ctr`'s options (of 1.7) as somebody else.
    pub fn with(id: &str, options: &[&str]) -> Result<Containerd> {
        let version = if options.is_empty() { "1.6" } else { "1.7" };
        let runtime = Runtime::start(Layout::of_host(), version)?;
        let archive = runtime.image().display().to_string();
        runtime.ctr(&["-n", "moby", "images", "import", &archive])?;
        let run = ["-n", "moby", "run", "-d"];
        runtime.ctr(&[&run[..], options, &["docker.io/library/app:1", id, "/app", "stubborn"]].concat())?;
        let pid = container_pid(&runtime, "moby", id)?;
        let start = started(pid).ok_or("the container has ended")?;
        Ok(Containerd { runtime, id: id.into(), pid, start })
    }

    /// The socket of its container's shim.
    pub fn socket(&self) -> Result<PathBuf> {
        let bundle = self.runtime.layout.state.join("io.containerd.runtime.v2.task/moby").join(&self.id);
        let address = fs::read_to_string(bundle.join("address"))?;
        Ok(address.trim_start_matches("unix://").into())
    }

    /// The group of its container in the unified hierarchy, or version 1's.
    pub fn group(&self) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid))?;
        let line = text.lines().find(|line| line.contains(&self.id)).ok_or("a container in no group")?;
        Ok(line.splitn(3, ':').nth(2).unwrap_or_default().to_owned())
    }
}

/// The process of a container, as containerd knows it.
pub fn container_pid(runtime: &Runtime, namespace: &str, id: &str) -> Result<i32> {
    let text = String::from_utf8(runtime.ctr(&["-n", namespace, "tasks", "ls"])?)?;
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(id)).ok_or("no such task")?;
    Ok(line.split_whitespace().nth(1).ok_or("no pid")?.parse()?)
}

/// When a process was started; none for one that has ended.
pub fn started(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}

impl Bystander for Containerd {
    fn name(&self) -> String {
        format!("container moby/{} (process {}) of another containerd", self.id, self.pid)
    }

    fn harm(&mut self) -> Result<Option<String>> {
        if started(self.pid).as_ref() != Some(&self.start) {
            return Ok(Some("DEAD".into()));
        }
        let socket = self.socket()?;
        if let Err(error) = UnixStream::connect(&socket) {
            return Ok(Some(format!(
                "CUT OFF: its shim's socket: {error}; dies when its containerd restarts"
            )));
        }
        let tasks = String::from_utf8(self.runtime.ctr(&["-n", "moby", "tasks", "ls"])?)?;
        Ok((!tasks.contains("RUNNING")).then(|| format!("not RUNNING for its containerd: {tasks}")))
    }
}

/// Somebody else's socket, who listens.
pub struct Listener {
    path: PathBuf,
    _listener: UnixListener,
}

impl Listener {
    pub fn at(path: &str) -> Result<Listener> {
        fs::create_dir_all(Path::new(path).parent().ok_or("no parent")?)?;
        Ok(Listener { path: path.into(), _listener: UnixListener::bind(path)? })
    }
}

impl Bystander for Listener {
    fn name(&self) -> String {
        format!("the socket {}", self.path.display())
    }

    fn harm(&mut self) -> Result<Option<String>> {
        Ok(UnixStream::connect(&self.path).err().map(|error| format!("CUT OFF: {error}")))
    }
}

/// Files with their contents, and links with their addresses: whatever a command prints has to stay the same.
pub struct Same {
    command: String,
    before: String,
}

impl Same {
    pub fn of(command: &str) -> Result<Same> {
        Ok(Same { command: command.into(), before: sh(command)? })
    }
}

impl Bystander for Same {
    fn name(&self) -> String {
        format!("what '{}' shows", self.command)
    }

    fn harm(&mut self) -> Result<Option<String>> {
        let now = sh(&self.command).unwrap_or_else(|error| error.to_string());
        Ok((now != self.before).then(|| format!("CHANGED: {now:?}, was {:?}", self.before)))
    }
}

/// Lives, whatever it has become.
pub struct Lives(pub std::process::Child);

impl Bystander for Lives {
    fn name(&self) -> String {
        format!("process {}", self.0.id())
    }

    fn harm(&mut self) -> Result<Option<String>> {
        Ok(self.0.try_wait()?.map(|status| format!("DEAD: {status}")))
    }
}

/// Waits until something is so that no event tells of.
pub fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = std::time::Instant::now();
    while !so()? {
        if start.elapsed().as_secs() > 20 {
            return Err(format!("not so after 20 seconds: {what}").into());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}
