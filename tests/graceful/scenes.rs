//! The scenes.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::pods::{GRACE, HOOK, PORTS, Stage, WRITTEN};
use support::scenes::Scene;
use support::{Result, built, demand};

pub const ALL: &[Scene] = &[
    ("pods_of_containerd_1_6_end_as_they_ask", || as_they_ask("1.6")),
    ("pods_of_containerd_1_7_end_as_they_ask", || as_they_ask("1.7")),
    ("pods_of_containerd_2_1_end_as_they_ask", || as_they_ask("2.1")),
    ("control_without_hooks_and_graces", control),
    ("a_paused_pod_has_its_hook_with_containerd_1_6", || paused("1.6")),
    ("a_paused_pod_has_its_hook_with_containerd_2_1", || paused("2.1")),
    ("those_that_serve_others_are_asked_last", last),
    ("without_a_database_all_get_the_same", || unread(None)),
    ("a_damaged_database_is_told", || unread(Some(b"no database"))),
    ("the_deadline_holds_whatever_hooks_do", deadline),
];

const DATA: &str = "/srv/written:/data";
const MOST: u64 = 8;

fn same<T: PartialEq + Debug>(what: &str, is: T, expected: T) -> Result<()> {
    demand(is == expected, format!("{what}: {is:?}, not {expected:?}"))
}

fn exec(words: &[&str]) -> String {
    json!({"exec": {"command": words}}).to_string()
}

/// One pod of each kind: (its name, grace, hook, more options, what runs in it).
fn every_kind(stage: &mut Stage) -> Result<()> {
    stage.runtime.import("docker.io/library/int:1", "/app", &["--stop-signal", "SIGINT"])?;
    let written = ["--mount", DATA];
    let works = exec(&["/app", "hook", "/data/works", "0", "3"]);
    stage.pod("works", &[(GRACE, "20"), (HOOK, &works)], &written, &["/app", "obedient"])?;
    stage.pod(
        "sleeps",
        &[(GRACE, "20"), (HOOK, r#"{"sleep":{"seconds":2}}"#)],
        &[],
        &["/app", "obedient"],
    )?;
    let ports = r#"[{"name":"web","containerPort":8080,"protocol":"TCP"}]"#;
    let get = r#"{"httpGet":{"path":"/stop","port":"web"}}"#;
    let serve = ["/app", "serve", "8080", "/data/request"];
    stage.pod("asked", &[(GRACE, "20"), (HOOK, get), (PORTS, ports)], &written, &serve)?;
    let hangs = exec(&["/app", "hook", "/data/hangs", "sleep"]);
    stage.pod("hangs", &[(GRACE, "3"), (HOOK, &hangs)], &written, &["/app", "obedient"])?;
    let fails = exec(&["/no/such/program", "a secret word"]);
    stage.pod("fails", &[(GRACE, "20"), (HOOK, &fails)], &[], &["/app", "obedient"])?;
    let tls = r#"{"httpGet":{"path":"/stop","port":443,"scheme":"HTTPS"}}"#;
    stage.pod("tls", &[(GRACE, "20"), (HOOK, tls)], &[], &["/app", "obedient"])?;
    let of = |image: &'static str| ["--image", image];
    stage.pod("int", &[(GRACE, "20")], &of("docker.io/library/int:1"), &["/app", "stopper"])?;
    stage.pod("quit", &[(GRACE, "20")], &of("docker.io/library/quit:1"), &["/app", "quitter"])?;
    // The first process of a pid namespace ignores what it has not asked for; in the host's it has the default action.
    let realtime = ["--image", "docker.io/library/realtime:1", "--host-pid", "--host-network"];
    stage.pod("realtime", &[(GRACE, "20")], &realtime, &["/app", "stubborn"])?;
    stage.pod("one", &[(GRACE, "1")], &[], &["/app", "stubborn"])?;
    stage.pod("short", &[(GRACE, "4")], &[], &["/app", "stubborn"])?;
    stage.pod("long", &[(GRACE, "300")], &[], &["/app", "stubborn"])?;
    Ok(())
}

/// The document of a removal after which nothing of ours runs.
fn remove(stage: &Stage) -> Result<Value> {
    let ended = stage.snap.run_hook()?;
    same("exit status", ended.status, Some(0)).map_err(|e| format!("{e}\n{}", ended.output))?;
    ended.cut_document()?;
    let document = stage.snap.document()?;
    println!("{:#}", document["endings"]);
    let secret =
        document.to_string().contains("a secret word") || document.to_string().contains("/data/works");
    demand(!secret, "a hook's command is in the document")?;
    demand(stage.runtime.shims()?.is_empty(), "shims are left")?;
    Ok(document)
}

fn of<'a>(document: &'a Value, pod: &str) -> Result<&'a Value> {
    let name = format!("default/{pod}");
    let all = document["endings"].as_array().ok_or("no endings")?;
    let mut own = all.iter().filter(|ending| ending["pod"] == *name);
    let one = own.next().ok_or_else(|| format!("nothing is said of {pod}"))?;
    demand(own.next().is_none(), format!("{pod} is named twice"))?;
    Ok(one)
}

/// What ended it, and between which seconds.
fn ended(document: &Value, pod: &str, end: &str, from: u64, to: u64) -> Result<()> {
    let ending = of(document, pod)?;
    let took = ending["elapsed-ms"].as_u64().ok_or("no time")?;
    let good = ending["end"] == end && (from * 1000..to * 1000).contains(&took);
    demand(good, format!("{pod}: not {end} between {from} and {to} s: {ending}"))
}

fn hook(document: &Value, pod: &str, outcome: &str, status: Option<u64>) -> Result<()> {
    let hook = &of(document, pod)?["hook"];
    same(pod, (hook["outcome"].as_str(), hook["status"].as_u64()), (Some(outcome), status))?;
    // Where no status says how it failed, words do.
    let told = hook["error"].as_str().is_some_and(|error| !error.is_empty());
    same(pod, told, outcome == "failed" && status.is_none())
}

fn survey(stage: &Stage) -> Result<Value> {
    let mut command = Command::new(built("snap-teardown")?);
    command.args(["survey", "--snap", &stage.snap.name, "--json"]);
    let document: Value = serde_json::from_slice(&command.output()?.stdout)?;
    support::hook::check(&document)?;
    Ok(document)
}

fn note(document: &Value, kind: &str) -> Vec<String> {
    let notes = document["notes"].as_array().into_iter().flatten().filter(|note| note["kind"] == kind);
    let items = notes.flat_map(|note| note["items"].as_array().into_iter().flatten());
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn as_they_ask(version: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    stage.snap.ship(json!({"drain": 5, "maximum-grace": MOST, "deadline": 60}))?;
    every_kind(&mut stage)?;
    stage.runtime.kill()?;

    let before = survey(&stage)?;
    let graces = note(&before, "graces");
    for line in ["default/works app0: 8 s, SIGTERM, preStop exec", "default/quit app0: 8 s, SIGQUIT"] {
        demand(graces.iter().any(|item| item == line), format!("{line}: {graces:#?}"))?;
    }
    demand(graces.iter().any(|item| item.contains("SIGRTMIN+3")), format!("{graces:#?}"))?;
    let cut = note(&before, "cut-short");
    demand(cut.iter().any(|item| item == "default/long app0: 8 s of 300 s"), format!("{cut:#?}"))?;
    same("not run", note(&before, "hooks-not-run"), vec!["default/tls app0: httpGet (https)".to_owned()])?;

    let document = remove(&stage)?;
    ended(&document, "works", "after-signal", 3, 8)?;
    hook(&document, "works", "done", Some(0))?;
    demand(Path::new(WRITTEN).join("works").exists(), "the hook has not done its work")?;
    ended(&document, "sleeps", "after-signal", 2, 7)?;
    hook(&document, "sleeps", "done", None)?;
    hook(&document, "asked", "done", Some(200))?;
    let request = fs::read_to_string(Path::new(WRITTEN).join("request"))?;
    demand(request.starts_with("GET /stop HTTP/1.1\r\n"), request)?;
    ended(&document, "hangs", "after-signal", 3, 8)?;
    hook(&document, "hangs", "grace-over", None)?;
    ended(&document, "fails", "after-signal", 0, 6)?;
    hook(&document, "fails", "failed", None)?;
    hook(&document, "tls", "not-run", None)?;
    for pod in ["int", "quit", "realtime", "tls", "asked"] {
        ended(&document, pod, "after-signal", 0, 6)?;
    }
    ended(&document, "one", "killed", 2, 4)?;
    ended(&document, "short", "killed", 4, 6)?;
    ended(&document, "long", "killed", MOST, MOST + 3)?;
    same(
        "long",
        (&of(&document, "long")?["asked"], &of(&document, "long")?["grace"]),
        (&json!(300), &json!(MOST)),
    )
}

/// The drain as it was: no hook, one grace for all. The same pods, and the marks are missing.
fn control() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.snap.ship(json!({"drain": 2, "maximum-grace": 2, "hooks": false, "deadline": 60}))?;
    every_kind(&mut stage)?;
    stage.runtime.kill()?;
    let document = remove(&stage)?;
    for mark in ["works", "request", "hangs"] {
        demand(!Path::new(WRITTEN).join(mark).exists(), format!("{mark} was written without hooks"))?;
    }
    for pod in ["works", "sleeps", "asked", "hangs", "fails"] {
        ended(&document, pod, "after-signal", 0, 2)?;
        same(pod, &of(&document, pod)?["hook"]["reason"], &json!("turned-off"))?;
    }
    for pod in ["one", "short", "long"] {
        ended(&document, pod, "killed", 2, 4)?;
    }
    Ok(())
}

/// Its shim knows that it goes on, and so runs its hook.
fn paused(version: &str) -> Result<()> {
    let mut stage = Stage::new(version)?;
    let writes = exec(&["/app", "hook", "/data/paused", "0"]);
    stage.pod("paused", &[(GRACE, "20"), (HOOK, &writes)], &["--mount", DATA], &["/app", "obedient"])?;
    let id = stage.id("paused", 0).id;
    stage.runtime.ctr(&["-n", "k8s.io", "task", "pause", &id])?;
    stage.runtime.kill()?;
    let document = remove(&stage)?;
    hook(&document, "paused", "done", Some(0))?;
    ended(&document, "paused", "after-signal", 0, 10)?;
    demand(Path::new(WRITTEN).join("paused").exists(), "the hook has not run")
}

/// A driver for storage is asked when the pods that may use it have ended, or have had their grace.
fn last() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let plugins = stage.snap.common.join("var/lib/kubelet/plugins");
    fs::create_dir_all(&plugins)?;
    let mount = format!("{}:/csi", plugins.display());
    stage.pod("driver", &[(GRACE, "20")], &["--mount", &mount], &["/app", "obedient"])?;
    let sleep = [(GRACE, "20"), (HOOK, r#"{"sleep":{"seconds":3}}"#)];
    stage.pod("user", &sleep, &[], &["/app", "obedient"])?;
    stage.runtime.kill()?;
    let document = remove(&stage)?;
    ended(&document, "user", "after-signal", 3, 10)?;
    ended(&document, "driver", "after-signal", 3, 12)
}

/// The profile's grace and SIGTERM for all, as ever, and a note that says why.
fn unread(instead: Option<&[u8]>) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    stage.snap.ship(json!({"drain": 3, "deadline": 60}))?;
    let writes = exec(&["/app", "hook", "/data/works", "0"]);
    stage.pod("works", &[(GRACE, "20"), (HOOK, &writes)], &["--mount", DATA], &["/app", "obedient"])?;
    stage.pod("stubborn", &[(GRACE, "20")], &[], &["/app", "stubborn"])?;
    stage.runtime.kill()?;
    match instead {
        None => fs::remove_file(stage.file())?,
        Some(bytes) => fs::write(stage.file(), bytes)?,
    }
    let told = survey(&stage)?.to_string().contains("containerd's database cannot be used");
    demand(told, "no note")?;
    let document = remove(&stage)?;
    demand(!Path::new(WRITTEN).join("works").exists(), "a hook ran that nobody knows of")?;
    ended(&document, "works", "after-signal", 0, 3)?;
    ended(&document, "stubborn", "killed", 3, 5)
}

/// Pods that want all the time there is, and more.
fn deadline() -> Result<()> {
    let mut stage = Stage::new("2.1")?;
    stage.snap.ship(json!({"drain": 5, "maximum-grace": 20, "deadline": 20}))?;
    let hangs = exec(&["/app", "hook", "/data/hangs", "sleep"]);
    let options = ["--mount", DATA];
    stage.pod("hangs", &[(GRACE, "600"), (HOOK, &hangs)], &options, &["/app", "stubborn"])?;
    let get = r#"{"httpGet":{"port":9}}"#;
    stage.pod("nobody", &[(GRACE, "600"), (HOOK, get)], &[], &["/app", "stubborn"])?;
    stage.runtime.kill()?;
    let document = remove(&stage)?;
    let took = document["elapsed-ms"].as_u64().ok_or("no time")?;
    demand(took < 20_000 && document["out-of-time"] == false, format!("{took} ms"))?;
    hook(&document, "hangs", "grace-over", None)?;
    hook(&document, "nobody", "failed", None)?;
    ended(&document, "nobody", "killed", 10, 18)?;
    ended(&document, "hangs", "killed", 10, 18)
}
