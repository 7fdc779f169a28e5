//! The scenes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use snap_teardown::testing::ContainerId;
use snap_teardown::testing::bolt::BoltError;
use snap_teardown::testing::metadata::{self, Record, Records, Sandbox};
use snap_teardown::testing::pre_stop::PreStop;

use crate::hooks;
use crate::pods::{DELETION, GRACE, HOOK, Stage, Told};
use support::scenes::Scene;
use support::{Result, demand};

pub const ALL: &[Scene] = &[
    ("containerd_1_6_says_the_same", || says_the_same("1.6")),
    ("containerd_1_7_says_the_same", || says_the_same("1.7")),
    ("containerd_2_1_says_the_same", || says_the_same("2.1")),
    ("hooks_run_with_containerd_1_6_killed", || hooks::run("1.6")),
    ("hooks_run_with_containerd_1_7_killed", || hooks::run("1.7")),
    ("hooks_run_with_containerd_2_1_killed", || hooks::run("2.1")),
    ("read_while_containerd_1_6_writes", || while_it_writes("1.6")),
    ("read_while_containerd_2_1_writes", || while_it_writes("2.1")),
];

pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<()> {
    demand(ours == theirs, format!("{what}: we read {ours:?}, containerd says {theirs:?}"))
}

/// Every kind of pod, read beside a running containerd and after it was killed, is as containerd itself has it.
fn says_the_same(version: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.every_kind()?;
    let asked = stage.asked()?;
    demand(asked.len() == 12, format!("{} containers, not 5 pods with 6 and one by hand", asked.len()))?;
    let running = stage.read()?;
    agree(&running, &asked)?;
    signals_and_hooks(&stage, &running)?;
    stage.runtime.kill()?;
    let killed = stage.read()?;
    agree(&killed, &asked)?;
    demand(killed == running, format!("after the kill it reads otherwise: {killed:#?}"))?;
    let bytes = fs::read(stage.file())?;
    let files = damaged(&bytes, &killed)?;
    println!(
        "containerd {version}: {} containers in {} KiB, {files} damaged files",
        asked.len(),
        bytes.len() >> 10
    );
    Ok(())
}

fn agree(records: &Records, asked: &BTreeMap<ContainerId, Told>) -> Result<()> {
    demand(records.remarks.count == 0, format!("{:?}", records.remarks))?;
    same("containers", records.containers.keys().collect::<Vec<_>>(), asked.keys().collect())?;
    for (container, told) in asked {
        let record = &records.containers[container];
        agree_on_record(record, told).map_err(|e| format!("{}: {e}", container.id))?;
        let cri = match told.record["Labels"]["io.cri-containerd.kind"].as_str() {
            Some("sandbox") => agree_on_sandbox(record, &told.cri),
            Some(_) => agree_on_container(record, &told.cri),
            None => demand(record.sandbox.is_none() && record.pod.is_none(), "CRI knows nothing of it"),
        };
        cri.map_err(|e| format!("{}: {e}\n{:#}", container.id, told.cri))?;
    }
    Ok(())
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn agree_on_record(record: &Record, told: &Told) -> Result<()> {
    let Told { record: theirs, .. } = told;
    same("image", record.image.as_deref(), text(&theirs["Image"]))?;
    same("snapshotter", record.snapshotter.as_deref(), text(&theirs["Snapshotter"]))?;
    same("snapshot", record.snapshot.as_deref(), text(&theirs["SnapshotKey"]))?;
    same("runtime", record.runtime.as_deref(), text(&theirs["Runtime"]["Name"]))?;
    let wanted = matches!(record.pre_stop, Some(PreStop::Exec(_)));
    let process: Option<Value> = record.process.as_deref().map(serde_json::from_str).transpose()?;
    same("process", process, wanted.then(|| theirs["Spec"]["process"].clone()))
}

fn agree_on_container(record: &Record, cri: &Value) -> Result<()> {
    let config = &cri["config"];
    same("sandbox", record.sandbox_id.as_deref(), text(&cri["sandboxID"]))?;
    let labels = &config["labels"];
    if let Some(name) = text(&labels["io.kubernetes.container.name"]) {
        let pod = record.pod.as_ref().ok_or("no pod")?;
        same("pod", Some(pod.name.as_str()), text(&labels["io.kubernetes.pod.name"]))?;
        same("pod's uid", Some(pod.uid.as_str()), text(&labels["io.kubernetes.pod.uid"]))?;
        same("namespace", Some(pod.namespace.as_str()), text(&labels["io.kubernetes.pod.namespace"]))?;
        same("name", record.name.as_deref(), Some(name))?;
    } else {
        same("name", record.name.as_deref(), text(&config["metadata"]["name"]))?;
        demand(
            record.pod.as_ref().is_some_and(|pod| pod.name.starts_with("bare")),
            "its sandbox has its pod",
        )?;
    }
    let seconds = |seconds: Option<u64>| seconds.map(|n| n.to_string());
    let annotations = &config["annotations"];
    let theirs = |key: &str| text(&annotations[key]).map(str::to_owned);
    same("grace", seconds(record.termination_grace), theirs(GRACE))?;
    same("grace of deletion", seconds(record.deletion_grace), theirs(DELETION))?;
    same("hook", record.pre_stop.is_some(), theirs(HOOK).is_some())
}

fn agree_on_sandbox(record: &Record, cri: &Value) -> Result<()> {
    let sandbox = record.sandbox.as_ref().ok_or("not taken for a sandbox")?;
    let pod = record.pod.as_ref().ok_or("no pod")?;
    let config = &cri["config"];
    let theirs = &config["metadata"];
    let ours = json!({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid});
    same("pod", &ours, theirs)?;
    same("handler", Some(sandbox.handler.as_str()).filter(|h| !h.is_empty()), text(&cri["runtimeHandler"]))?;
    same("group", sandbox.cgroup_parent.as_deref(), text(&config["linux"]["cgroup_parent"]))?;
    let namespaces = &config["linux"]["security_context"]["namespace_options"];
    same("host's network", sandbox.host_network, namespaces["network"] == 2)?;
    let namespaces = cri["runtimeSpec"]["linux"]["namespaces"].as_array().ok_or("no spec")?;
    let netns = namespaces.iter().find(|namespace| namespace["type"] == "network");
    let netns = netns.and_then(|namespace| text(&namespace["path"])).map(std::path::Path::new);
    same("network namespace", sandbox.netns.as_deref(), netns)?;
    let result = &cri["cniResult"]["Interfaces"];
    let configs = result["eth0"]["IPConfigs"].as_array().cloned().unwrap_or_default();
    let theirs: Vec<_> = configs.iter().filter_map(|config| text(&config["IP"])).collect();
    let ours: Vec<_> = sandbox.addresses.iter().map(ToString::to_string).collect();
    same("addresses", ours.iter().map(String::as_str).collect::<Vec<_>>(), theirs)?;
    links(sandbox)
}

/// The interfaces are there, under these names and with these addresses.
fn links(sandbox: &Sandbox) -> Result<()> {
    let pairs = sandbox.links.iter().filter(|link| link.name.starts_with("veth")).count();
    same("pairs of interfaces", pairs, usize::from(!sandbox.host_network))?;
    // /sys was mounted for the network that the world is in.
    let table = fs::read_to_string("/proc/net/dev")?;
    for link in &sandbox.links {
        demand(table.contains(&format!("{}:", link.name)), format!("no interface {}: {table}", link.name))?;
        demand(link.mac.len() == 17, format!("{link:?}"))?;
    }
    Ok(())
}

/// What no interface of containerd tells: as the images and the pods were made.
fn signals_and_hooks(stage: &Stage, records: &Records) -> Result<()> {
    let of = |name: &str, n: usize| &records.containers[&stage.id(name, n)];
    let command = ["/app", "hook", "/data/hook", "0"].map(str::to_owned).to_vec();
    same("hook", of("exec", 0).pre_stop.clone(), Some(PreStop::Exec(command)))?;
    same("hook", of("sleep", 0).pre_stop.clone(), Some(PreStop::Sleep(5)))?;
    same("hook", of("two", 1).pre_stop.clone(), Some(PreStop::TcpSocket))?;
    let Some(PreStop::HttpGet(get)) = &of("http", 0).pre_stop else { return Err("no request".into()) };
    same("request", (get.path.as_str(), get.port, get.headers.len()), ("/stop?now=1", Some(8080), 1))?;
    for (name, signal) in
        [("exec", Some(3)), ("http", Some(37)), ("sleep", None), ("two", None), ("bare", None)]
    {
        same("signal", of(name, 0).stop_signal, signal)?;
    }
    let by_hand = &records.containers[&ContainerId { namespace: "default".into(), id: "by-hand".into() }];
    same("signal", by_hand.stop_signal, Some(37))
}

/// The real file, damaged in a thousand ways: it is read or refused in time, and shows no container that is not there.
fn damaged(bytes: &[u8], whole: &Records) -> Result<usize> {
    // SplitMix64: the same damage every time.
    let mut state = 1u64;
    let mut dice = move |n: usize| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    };
    let mut files: Vec<Vec<u8>> = (0..bytes.len()).step_by(4096).map(|end| bytes[..end].to_vec()).collect();
    for round in 0..1000 {
        let mut file = bytes.to_vec();
        for _ in 0..=dice(8) {
            let page = dice(file.len() / 4096) * 4096;
            // The beginning of a page is where it hurts.
            let at = page + dice([32, 4096][round % 2]);
            match dice(3) {
                0 => file[at] ^= 1 << dice(8),
                1 => file[at..page + 4096].fill(dice(256) as u8),
                _ => file.copy_within(page..page + 4096, dice(bytes.len() / 4096) * 4096),
            }
        }
        files.push(file);
    }
    let (mut read, count) = (0, files.len());
    for file in files {
        let started = Instant::now();
        if let Ok(records) = metadata::read(&file.as_slice()) {
            read += 1;
            for (container, record) in &records.containers {
                let cri = record.sandbox.is_some() || record.pre_stop.is_some() || record.process.is_some();
                demand(!cri || whole.containers.contains_key(container), format!("made up: {container:?}"))?;
            }
        }
        demand(started.elapsed() < Duration::from_secs(5), format!("{:?}", started.elapsed()))?;
    }
    demand(read > 100, format!("only {read} of {count} were read at all"))?;
    Ok(count)
}

/// A containerd that makes and removes containers all the time: each look shows what was there at one moment.
fn while_it_writes(version: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.pod("stays", &[(GRACE, "7")], &[], &["/app", "obedient"])?;
    let stays = stage.id("stays", 0);
    let source = File::open(stage.file())?;
    let done = AtomicBool::new(false);
    let (mut reads, mut states, mut changing, mut last) = (0u32, 0u32, 0u32, Records::default());
    std::thread::scope(|scope| -> Result<()> {
        let work = scope.spawn(|| {
            let made = churn(&stage);
            done.store(true, Ordering::Relaxed);
            made.map_err(|e| e.to_string())
        });
        while !done.load(Ordering::Relaxed) {
            match metadata::read(&source) {
                Err(BoltError::Changing) => changing += 1,
                Err(error) => return Err(error.to_string().into()),
                Ok(records) => {
                    demand(records.remarks.count == 0, format!("{:?}", records.remarks))?;
                    let grace = records.containers.get(&stays).and_then(|record| record.termination_grace);
                    demand(grace == Some(7), "a container was not seen, or not whole")?;
                    reads += 1;
                    states += u32::from(records != last);
                    last = records;
                }
            }
        }
        Ok(work.join().map_err(|_| "the churn panicked")??)
    })?;
    println!("containerd {version}: {reads} reads of {states} states, {changing} given up");
    demand(
        states > 20 && reads > 20 * changing,
        format!("{reads} reads, {states} states, {changing} given up"),
    )
}

/// Containers without tasks come and go: a few transactions each.
fn churn(stage: &Stage) -> Result<()> {
    let image = stage.runtime.image().display().to_string();
    stage.runtime.ctr(&["-n", "default", "images", "import", &image])?;
    for n in 0..60 {
        let name = format!("c{n}");
        stage.runtime.ctr(&[
            "-n",
            "default",
            "containers",
            "create",
            "docker.io/library/realtime:1",
            &name,
            "/app",
        ])?;
        if n % 3 > 0 {
            stage.runtime.ctr(&["-n", "default", "containers", "rm", &name])?;
        }
    }
    Ok(())
}
