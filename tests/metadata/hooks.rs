//! Hooks and stop signals of real pods whose containerd was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use snap_teardown::testing::ContainerId;
use snap_teardown::testing::exec::{self, MOST_PER_SHIM, Started};
use snap_teardown::testing::hook_plan::{Hook, Patience, Plan, Why};
use snap_teardown::testing::metadata::Records;
use snap_teardown::testing::pre_stop::PreStop;
use snap_teardown::testing::{http, shim};

use crate::pods::{Stage, WRITTEN};
use crate::scenes::same;
use support::{Result, demand};

const PATIENCE: Patience = Patience { default: 30, most: 90, hooks: true };

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub fn run(version: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.every_kind()?;
    stage.runtime.kill()?;
    let records = stage.read()?;
    let plan = |pod: &str, command: Option<&[&str]>| {
        let id = stage.id(pod, 0);
        let mut record = records.containers[&id].clone();
        if let Some(command) = command {
            record.pre_stop = Some(PreStop::Exec(command.iter().map(|word| (*word).to_owned()).collect()));
        }
        Plan::of(&record, records.sandbox_of(&id), true, PATIENCE)
    };
    limits(&stage, &records)?;
    request(&plan("http", None))?;

    let shim = Asked::new(&stage, &records, "exec")?;
    let took = Instant::now();
    same("status", shim.run(&plan("exec", None))?, 0)?;
    let took = took.elapsed();
    as_the_container(&fs::read_to_string(Path::new(WRITTEN).join("hook"))?)?;
    let other = shim.run(&plan("exec", Some(&["/app", "hook", "/data/other", "3"])))?;
    same("status", other, 3)?;
    let failed = shim.start(&plan("exec", Some(&["/no/such/program"])));
    demand(failed.is_err(), "a program that is not there was started")?;
    within_the_container(&shim, &plan("exec", Some(&["/app", "hook", "/data/sleeps", "sleep"])))?;
    many(&stage, &shim, &plan("exec", None))?;
    stop(&stage, &plan("exec", None))?;
    println!("containerd {version}: a command took {} ms, {} in one shim", took.as_millis(), MOST_PER_SHIM);
    Ok(())
}

/// Each pod's own grace, and what is not run.
fn limits(stage: &Stage, records: &Records) -> Result<()> {
    for (pod, asked, limit, signal, not_run) in [
        ("exec", 60, 60, 3, None),
        ("http", 30, 30, 37, None),
        ("sleep", 0, 0, 15, Some(Why::NoGrace)),
        ("two", 4, 4, 15, Some(Why::TcpSocket)),
        ("bare", 30, 30, 15, None),
    ] {
        let id = stage.id(pod, 0);
        let plan = Plan::of(&records.containers[&id], records.sandbox_of(&id), true, PATIENCE);
        same(pod, (plan.asked, plan.limit, plan.signal), (asked, limit, signal))?;
        let why = match plan.hook {
            Hook::NotRun(_, why) => Some(why),
            _ => None,
        };
        same(pod, why, not_run)?;
    }
    Ok(())
}

/// The pod gets the request as it was made, and nobody else can be asked.
fn request(plan: &Plan) -> Result<()> {
    let Hook::Http(to, text) = &plan.hook else { return Err(format!("no request: {plan:?}").into()) };
    demand(text.starts_with("GET /stop?now=1 HTTP/1.1\r\n") && text.contains("X-A: b\r\n"), text)?;
    same("status", http::ask(*to, text, soon())?, 200)?;
    same("request", fs::read_to_string(Path::new(WRITTEN).join("request"))?, text.clone())?;
    let nobody = http::ask((to.ip(), to.port() + 1).into(), text, soon());
    demand(nobody.is_err(), "another port answers, too")
}

/// User, directory and environment are those of the container.
fn as_the_container(said: &str) -> Result<()> {
    demand(said.starts_with("7 /\n"), said)?;
    demand(said.lines().any(|line| line == "TOKEN=a secret"), said)
}

/// A shim, and the container in it whose hooks it runs.
struct Asked {
    socket: PathBuf,
    container: ContainerId,
}

impl Asked {
    fn new(stage: &Stage, records: &Records, pod: &str) -> Result<Asked> {
        let container = stage.id(pod, 0);
        let sandbox = records.containers[&container].sandbox_id.clone().ok_or("no sandbox")?;
        let address = &stage.runtime.layout.socket;
        let socket = shim::socket(Path::new("/run/containerd/s"), address, "k8s.io", &sandbox);
        Ok(Asked { socket, container })
    }

    fn start(&self, plan: &Plan) -> Result<Started> {
        let Hook::Exec(process) = &plan.hook else { return Err(format!("no command: {plan:?}").into()) };
        Ok(exec::start(&self.socket, &self.container, process, soon())?)
    }

    fn run(&self, plan: &Plan) -> Result<u32> {
        let started = self.start(plan)?;
        ended(started.pid, 10_000)?;
        Ok(exec::finish(&self.socket, &self.container, &started, soon())?)
    }
}

/// Waits for the end of a process that may have ended already.
fn ended(pid: i32, milliseconds: u16) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or("no process")?;
    let Ok(descriptor) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return Ok(());
    };
    let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&descriptor), PollFlags::POLLIN)];
    match poll(&mut ready, PollTimeout::from(milliseconds))? {
        0 => Err("it has not ended".into()),
        _ => Ok(()),
    }
}

/// It is in the container's own group, goes on when nobody listens, and its status says how it ended.
fn within_the_container(shim: &Asked, plan: &Plan) -> Result<()> {
    let started = shim.start(plan)?;
    let group = fs::read_to_string(format!("/proc/{}/cgroup", started.pid))?;
    demand(group.contains(shim.container.id.as_str()), format!("it is in {group}"))?;
    let file = Path::new(WRITTEN).join("sleeps");
    let until = soon();
    while !file.exists() {
        demand(Instant::now() < until, "it does nothing")?;
        std::thread::yield_now();
    }
    demand(ended(started.pid, 100).is_err(), "it ended with our connection")?;
    let in_time = Instant::now() + Duration::from_millis(300);
    let early = exec::finish(&shim.socket, &shim.container, &started, in_time);
    demand(early.is_err(), format!("a status of what runs: {early:?}"))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(started.pid), Signal::SIGKILL)?;
    ended(started.pid, 10_000)?;
    same("status", exec::finish(&shim.socket, &shim.container, &started, soon())?, 137)?;
    demand(exec::finish(&shim.socket, &shim.container, &started, soon()).is_err(), "it was not forgotten")
}

/// As many as one shim is asked for, with nobody left who could take its events: not even a dead socket.
fn many(stage: &Stage, shim: &Asked, plan: &Plan) -> Result<()> {
    let mut events = stage.runtime.layout.socket.clone().into_os_string();
    events.push(".ttrpc");
    fs::remove_file(events)?;
    for _ in 0..MOST_PER_SHIM {
        same("status", shim.run(plan)?, 0)?;
    }
    Ok(())
}

/// The signal that the image names ends what SIGTERM does not.
fn stop(stage: &Stage, plan: &Plan) -> Result<()> {
    let init = stage.pods["exec"].containers[0].pid;
    let tell =
        |signal: i32| nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), Signal::try_from(signal)?);
    tell(15)?;
    demand(ended(init, 300).is_err(), "SIGTERM ended it already")?;
    tell(plan.signal)?;
    ended(init, 10_000).map_err(|_| "its own signal did not end it".into())
}
