//! Makes pods through the container runtime interface, as kubelet does: sandbox first, then its containers.
//!
//! One static program, so that it also runs inside a virtual machine. Prints one JSON document on stdout.

mod cri;
mod image;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use cri::{Result, Runtime};
use serde_json::{Value, json};

/// A client of a container runtime's CRI socket, for tests.
#[derive(Parser)]
struct Cli {
    /// The runtime's socket.
    #[arg(long, global = true, default_value = "/run/containerd/containerd.sock")]
    socket: String,
    /// Seconds to wait for the answer to one call.
    #[arg(long, global = true, default_value_t = 240)]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the runtime's name and version.
    Version {
        /// Seconds to wait for a runtime that is still starting.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Make pods.
    Run(Box<Run>),
    /// List the pods and their containers.
    List,
    /// Print what the runtime knows of one container, or with --sandbox of one sandbox.
    Status {
        #[arg(long)]
        sandbox: bool,
        id: String,
    },
    /// Stop and remove pods, all of them if none is named.
    Stop {
        /// Do not remove them, as kubelet leaves a pod that is completed.
        #[arg(long)]
        keep: bool,
        sandboxes: Vec<String>,
    },
    /// Write an image of programs, or of a whole root file system, to be imported with `ctr -n k8s.io images import FILE`.
    Image {
        /// The image's reference, with registry and tag.
        #[arg(long)]
        name: String,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
        /// The image's entry point, words separated by spaces.
        #[arg(long)]
        command: String,
        /// The signal that asks its containers to stop.
        #[arg(long)]
        stop_signal: Option<String>,
        /// FILE:PATH, a program or a directory on this machine and its place in the image.
        #[arg(required = true)]
        programs: Vec<String>,
    },
}

#[derive(Args)]
struct Run {
    /// The pod's name; with --count, pods are called NAME-0, NAME-1 and so on.
    #[arg(long)]
    pod: String,
    /// The pod's uid, with --count followed by -0, -1 and so on.
    #[arg(long)]
    uid: String,
    #[arg(long, default_value = "default")]
    namespace: String,
    /// How many pods to make.
    #[arg(long)]
    count: Option<u32>,
    /// How many pods to make at a time.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// The pod's cgroup, `{uid}` standing for its uid.
    #[arg(long, default_value = "/kubepods/besteffort/pod{uid}")]
    cgroup_parent: String,
    /// Use the host's network instead of a network namespace made by CNI.
    #[arg(long)]
    host_network: bool,
    /// Use the host's pid namespace.
    #[arg(long)]
    host_pid: bool,
    /// Use the host's IPC namespace.
    #[arg(long)]
    host_ipc: bool,
    /// The user id of the containers.
    #[arg(long)]
    run_as: Option<i64>,
    /// The user id of the sandbox's own process.
    #[arg(long)]
    sandbox_as: Option<i64>,
    #[arg(long, default_value = "docker.io/library/app:1")]
    image: String,
    /// All capabilities and devices, as a pod has them that serves storage to others.
    #[arg(long)]
    privileged: bool,
    /// Logs where kubelet would have them written: below /var/log/pods.
    #[arg(long)]
    logs: bool,
    /// HOST:CONTAINER, a bind mount; `{uid}` stands for the pod's uid. What is mounted in HOST:CONTAINER:rshared is
    /// passed on.
    #[arg(long)]
    mount: Vec<String>,
    /// A directory of the container at which the pause image is mounted, as a volume.
    #[arg(long)]
    image_volume: Option<String>,
    /// HOST:CONTAINER, a TCP port of the host that leads to one of the pod's.
    #[arg(long)]
    host_port: Vec<String>,
    /// KEY=VALUE, of the sandbox.
    #[arg(long)]
    annotation: Vec<String>,
    /// KEY=VALUE, of each container.
    #[arg(long)]
    container_annotation: Vec<String>,
    /// KEY=VALUE, of each container; `{name}` and `{uid}` stand for the pod's.
    #[arg(long)]
    container_label: Vec<String>,
    /// NAME=VALUE, in the environment of each container.
    #[arg(long)]
    env: Vec<String>,
    /// What the container runs; `--and` separates several containers of one pod.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime
        .map_err(Into::into)
        .and_then(|r| r.block_on(tokio::task::LocalSet::new().run_until(run(cli))))
    {
        Ok(document) => {
            println!("{document}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("podmaker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<Value> {
    let limit = Duration::from_secs(cli.timeout);
    match cli.command {
        Command::Image { name, out, command, stop_signal, programs } => {
            let pairs: Vec<_> = programs.iter().map(|p| pair(p, ':')).collect::<Result<_>>()?;
            let command: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
            image::write(&out, &name, &pairs, &command, stop_signal.as_deref())?;
            Ok(json!({ "image": name, "file": out }))
        }
        Command::Version { wait } => version(&cli.socket, limit, Duration::from_secs(wait)).await,
        Command::Run(args) => make(&Runtime::connect(&cli.socket, limit).await?, args).await,
        Command::List => list(&Runtime::connect(&cli.socket, limit).await?).await,
        Command::Status { sandbox, id } => {
            let method = if sandbox { "PodSandboxStatus" } else { "ContainerStatus" };
            info(&Runtime::connect(&cli.socket, limit).await?, method, &id).await
        }
        Command::Stop { keep, sandboxes } => {
            stop(&Runtime::connect(&cli.socket, limit).await?, keep, sandboxes).await
        }
    }
}

/// Asks for the version until the runtime answers or `wait` is over: nothing announces that a socket is served.
async fn version(socket: &str, limit: Duration, wait: Duration) -> Result<Value> {
    let start = Instant::now();
    loop {
        match ask_version(socket, limit).await {
            Err(_) if start.elapsed() < wait => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
}

async fn ask_version(socket: &str, limit: Duration) -> Result<Value> {
    let runtime = Runtime::connect(socket, limit).await?;
    let it: cri::VersionResponse = runtime.call("Version", cri::VersionRequest::default()).await?;
    Ok(json!({ "name": it.runtime_name, "version": it.runtime_version, "api": it.runtime_api_version }))
}

async fn make(runtime: &Runtime, args: Box<Run>) -> Result<Value> {
    let pods: Vec<_> = match args.count {
        None => vec![(args.pod.clone(), args.uid.clone())],
        Some(n) => (0..n).map(|i| (format!("{}-{i}", args.pod), format!("{}-{i}", args.uid))).collect(),
    };
    let args: std::rc::Rc<Run> = args.into();
    let mut made = Vec::new();
    for some in pods.chunks(args.parallel.max(1)) {
        let started: Vec<_> = some
            .iter()
            .cloned()
            .map(|(name, uid)| {
                let (runtime, args) = (runtime.clone(), args.clone());
                // An error crosses the task as text: it need not be Send on this one thread, but must be 'static.
                tokio::task::spawn_local(async move {
                    make_one(&runtime, &args, &name, &uid).await.map_err(|e| format!("pod {name}: {e}"))
                })
            })
            .collect();
        for pod in started {
            made.push(pod.await??);
        }
    }
    Ok(json!({ "pods": made }))
}

async fn make_one(runtime: &Runtime, args: &Run, name: &str, uid: &str) -> Result<Value> {
    let own = |host: bool, otherwise: i32| if host { 2 } else { otherwise };
    let namespaces = cri::NamespaceOption {
        network: own(args.host_network, 0),
        pid: own(args.host_pid, 1),
        ipc: own(args.host_ipc, 0),
    };
    let sandbox_config = cri::SandboxConfig {
        metadata: Some(cri::Metadata {
            name: name.into(),
            uid: uid.into(),
            namespace: args.namespace.clone(),
            attempt: 0,
        }),
        hostname: if args.host_network { String::new() } else { name.into() },
        log_directory: log_directory(args, name, uid),
        port_mappings: args.host_port.iter().map(|text| port_mapping(text)).collect::<Result<_>>()?,
        annotations: pairs(&args.annotation)?,
        linux: Some(cri::LinuxSandbox {
            cgroup_parent: args.cgroup_parent.replace("{uid}", uid),
            security: Some(cri::SandboxSecurity {
                namespaces: Some(namespaces.clone()),
                run_as_user: args.sandbox_as.map(|value| cri::Int64Value { value }),
                privileged: args.privileged,
            }),
        }),
    };
    let request = cri::RunSandboxRequest { config: Some(sandbox_config.clone()) };
    let sandbox: cri::Id = runtime.call("RunPodSandbox", request).await?;

    let fill = |label: &String| label.replace("{name}", name).replace("{uid}", uid);
    let labels: Vec<String> = args.container_label.iter().map(fill).collect();
    let mut containers = Vec::new();
    for (i, command) in args.argv.split(|word| word == "--and").enumerate() {
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: format!("app{i}"), attempt: 0 }),
            image: Some(cri::ImageSpec { image: args.image.clone() }),
            command: command.to_vec(),
            envs: pairs(&args.env)?.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
            log_path: if args.logs { format!("app{i}/0.log") } else { String::new() },
            mounts: mounts(args, uid)?,
            labels: pairs(&labels)?,
            annotations: pairs(&args.container_annotation)?,
            linux: Some(cri::LinuxContainer {
                security: Some(cri::ContainerSecurity {
                    namespaces: Some(namespaces.clone()),
                    run_as_user: args.run_as.map(|value| cri::Int64Value { value }),
                    privileged: args.privileged,
                }),
            }),
        };
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let container: cri::Id = runtime.call("CreateContainer", request).await?;
        let _: cri::Empty = runtime.call("StartContainer", cri::Id { id: container.id.clone() }).await?;
        let pid = pid(runtime, "ContainerStatus", &container.id).await?;
        containers.push(json!({ "id": container.id, "pid": pid, "command": command }));
    }
    let pid = pid(runtime, "PodSandboxStatus", &sandbox.id).await?;
    Ok(json!({ "name": name, "uid": uid, "id": sandbox.id, "pid": pid, "containers": containers }))
}

/// As kubelet names it; nowhere if there are to be no logs.
fn log_directory(args: &Run, name: &str, uid: &str) -> String {
    if args.logs { format!("/var/log/pods/{}_{name}_{uid}", args.namespace) } else { String::new() }
}

fn mounts(args: &Run, uid: &str) -> Result<Vec<cri::Mount>> {
    let mount = |text: &String| {
        let text = text.replace("{uid}", uid);
        let (text, propagation) = match text.strip_suffix(":rshared") {
            Some(text) => (text, 2),
            None => (text.as_str(), 0),
        };
        let (host_path, container_path) = pair(text, ':')?;
        Ok(cri::Mount { host_path, container_path, readonly: false, propagation, image: None })
    };
    let of_image = args.image_volume.iter().map(|container_path| {
        let image = Some(cri::ImageSpec { image: "docker.io/library/pause:1".into() });
        Ok(cri::Mount {
            container_path: container_path.clone(),
            readonly: true,
            image,
            ..cri::Mount::default()
        })
    });
    args.mount.iter().map(mount).chain(of_image).collect()
}

/// The process id of a sandbox or container, from the runtime's verbose status.
async fn pid(runtime: &Runtime, method: &str, id: &str) -> Result<Option<i64>> {
    Ok(info(runtime, method, id).await?["pid"].as_i64())
}

/// The runtime's verbose status of a sandbox or container.
async fn info(runtime: &Runtime, method: &str, id: &str) -> Result<Value> {
    let request = cri::StatusRequest { id: id.into(), verbose: true };
    let status: cri::StatusResponse = runtime.call(method, request).await?;
    Ok(status.info.get("info").map_or(Ok(Value::Null), |text| serde_json::from_str(text))?)
}

async fn list(runtime: &Runtime) -> Result<Value> {
    let sandboxes: cri::SandboxList = runtime.call("ListPodSandbox", cri::Empty {}).await?;
    let containers: cri::ContainerList = runtime.call("ListContainers", cri::Empty {}).await?;
    let of = |sandbox: &str| -> Vec<Value> {
        let mine = containers.items.iter().filter(|c| c.pod_sandbox_id == sandbox);
        mine.map(|c| json!({ "id": c.id, "running": c.state == 1 })).collect()
    };
    let pod = |s: &cri::Sandbox| {
        let metadata = s.metadata.clone().unwrap_or_default();
        let containers = of(&s.id);
        json!({ "name": metadata.name, "uid": metadata.uid, "id": s.id, "ready": s.state == 0, "containers": containers })
    };
    Ok(json!({ "pods": sandboxes.items.iter().map(pod).collect::<Vec<_>>() }))
}

async fn stop(runtime: &Runtime, keep: bool, mut sandboxes: Vec<String>) -> Result<Value> {
    if sandboxes.is_empty() {
        let all: cri::SandboxList = runtime.call("ListPodSandbox", cri::Empty {}).await?;
        sandboxes = all.items.into_iter().map(|s| s.id).collect();
    }
    for id in &sandboxes {
        let _: cri::Empty = runtime.call("StopPodSandbox", cri::Id { id: id.clone() }).await?;
        if !keep {
            let _: cri::Empty = runtime.call("RemovePodSandbox", cri::Id { id: id.clone() }).await?;
        }
    }
    Ok(json!({ "stopped": sandboxes }))
}

/// Several of KEY=VALUE.
fn pairs(texts: &[String]) -> Result<HashMap<String, String>> {
    texts.iter().map(|text| pair(text, '=')).collect()
}

fn port_mapping(text: &str) -> Result<cri::PortMapping> {
    let (host, container) = pair(text, ':')?;
    Ok(cri::PortMapping { container_port: container.parse()?, host_port: host.parse()? })
}

fn pair(text: &str, separator: char) -> Result<(String, String)> {
    let (left, right) = text.split_once(separator).ok_or(format!("'{text}' has no '{separator}'"))?;
    Ok((left.into(), right.into()))
}
