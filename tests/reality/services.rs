//! Services that users run (23), of Debian's packages, stopped as their images ask: PostgreSQL by SIGINT, nginx by SIGQUIT.
//!
//! RIGHT: a database with a transaction open is shut down, so that its next start recovers nothing; a web server ends when
//! the answer that it is giving is whole. Both end by themselves, the machine is as it was, and what they wrote is there.
//! Beside each is its control: ended in another way, the same service leaves another trace.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::moved::kill_shims;
use crate::stage::{Right, Stage, USERS, demand, sh};
use support::Result;
use support::picture::Kind;
use support::runtime::{Pod, output};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("postgresql_is_shut_down_as_its_image_asks", || postgresql(true)),
    ("the_control_postgresql_that_is_killed_has_to_recover", || postgresql(false)),
    ("nginx_ends_when_its_answer_is_whole", || nginx(Some("SIGQUIT"))),
    ("the_control_nginx_that_gets_another_signal_cuts_its_answer", || nginx(None)),
];

/// The root file system of an image, as fetched (tests/tools/fetch-containerd).
fn tree(name: &str) -> Result<PathBuf> {
    Ok(support::build_dir()?.join("../../containerd/services").join(name))
}

/// A pod of an image of its own, which has /data from the host.
fn pod(stage: &Stage, name: &str, signal: Option<&str>, user: &[&str], words: &[&str]) -> Result<Pod> {
    let runtime = stage.runtime()?;
    let (image, files) =
        (format!("docker.io/library/{name}:1"), format!("{}:/", tree(name)?.canonicalize()?.display()));
    let asks: Vec<&str> = signal.into_iter().flat_map(|signal| ["--stop-signal", signal]).collect();
    runtime.import(&image, words[0], &[&asks, [files.as_str()].as_slice()].concat())?;
    let mount = format!("{}:/data", data(name));
    let options = ["--image", image.as_str(), "--mount", &mount];
    Ok(runtime.make_pods(name, &[&options, user].concat(), words)?.remove(0))
}

fn data(name: &str) -> String {
    format!("{USERS}/written/{name}")
}

fn address(pod: &Pod) -> Result<String> {
    let line = sh(&format!("nsenter --net --target {} ip -4 -o address show dev eth0", pod.pid))?;
    let network = line.split_whitespace().nth(3).and_then(|network| network.split('/').next());
    Ok(network.ok_or(format!("the pod has no address: {line}"))?.to_owned())
}

/// A service has started when it does what it is there for.
fn wait_for<T>(what: &str, mut try_it: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match try_it() {
            Err(error) if start.elapsed().as_secs() > 40 => return Err(format!("{what}: {error}").into()),
            Err(_) => thread::sleep(Duration::from_millis(100)),
            done => return done,
        }
    }
}

/// The hook says that this pod's container has ended after its signal, and after how many milliseconds.
fn ended_by_itself(report: &Value, name: &str) -> Result<u64> {
    let pod = format!("default/{name}");
    let endings = report["endings"].as_array().ok_or("the report has no endings")?;
    let own: Vec<_> = endings.iter().filter(|ending| ending["pod"] == *pod).collect();
    println!("{}", own.first().unwrap_or(&&Value::Null));
    demand(
        own.len() == 1 && own[0]["end"] == "after-signal",
        format!("{name} has not ended by itself: {endings:#?}"),
    )?;
    Ok(own[0]["elapsed-ms"].as_u64().ok_or("no time")?)
}

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// What the official image does at its first start.
const FIRST_START: &str = "exec >/data/log 2>&1; cd /usr/lib/postgresql/15/bin
    ./initdb --pgdata /data/db --username postgres --auth trust --locale C --wal-segsize 1 --no-sync
    echo 'host all all all trust' >>/data/db/pg_hba.conf
    exec ./postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=''";

/// Work that is done, and work that is not.
const DONE: &str = "CREATE TABLE work AS SELECT generate_series(1, 1000)";
const OPEN: &str = "BEGIN; INSERT INTO work SELECT generate_series(1, 500); SELECT pg_sleep(600)";

fn postgresql(asked: bool) -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    sh(&format!("install -d -m 700 -o 999 -g 999 {}", data("postgresql")))?;
    stage.start_usual()?;
    // It refuses to be root.
    let user = ["--run-as", "999"];
    let pod = pod(&stage, "postgresql", Some("SIGINT"), &user, &["/bin/sh", "-ec", FIRST_START])?;
    let server = address(&pod)?;
    let started = wait_for("the server answers", || output(psql(&server)?.args(["-c", DONE])));
    started.map_err(|error| format!("{error}\n{}", log()))?;
    let mut client = psql(&server)?;
    client.args(["-c", OPEN]);
    stage.keep(client)?; // on the host, and so nobody but the server ends it
    wait_for("a transaction is open", || {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let seen = output(psql(&server)?.args(["-Atc", sleeping]))?;
        demand(seen == b"1\n", "nobody sleeps")
    })?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 9), (Kind::Mount, 5)])?;
    if !asked {
        kill_shims(&stage)?;
        let both = format!("{} {}", pod.containers[0].pid, pod.pid);
        sh(&format!("kill -KILL {both}; for p in {both}; do while [ -e /proc/$p ]; do :; done; done"))?;
    }
    let report = stage.judge(&Right::Clean, 1)?;
    if asked {
        ended_by_itself(&report, "postgresql")?;
    }
    left_behind(asked)
}

fn log() -> String {
    fs::read_to_string(format!("{}/log", data("postgresql"))).unwrap_or_else(|error| error.to_string())
}

/// A client, by the programs of the image.
fn psql(server: &str) -> Result<Command> {
    let mut command = Command::new("chroot");
    command.arg(tree("postgresql")?).arg(format!("{BIN}/psql"));
    command.arg(format!("hostaddr={server} user=postgres dbname=postgres")).env("PATH", "/usr/sbin:/usr/bin");
    Ok(command)
}

/// What the server wrote last, and what the next one finds.
fn left_behind(shut_down: bool) -> Result<()> {
    let log = log();
    let state = with_data(&format!("{BIN}/pg_controldata -D /data/db"))?;
    let state = state.lines().find(|line| line.starts_with("Database cluster state:")).unwrap_or(&state);
    let next = with_data(&format!(
        "echo 'SELECT count(*) FROM work' | {BIN}/postgres --single -D /data/db -c dynamic_shared_memory_type=mmap postgres 2>&1"
    ))?;
    println!("{state}");
    let said = format!("{state}\n{log}\nthe next start: {next}");
    let is = |word: &str| state.ends_with(&format!(" {word}"));
    demand(next.contains("count = \"1000\""), format!("the work that was done is not there:\n{said}"))?;
    if shut_down {
        let asked = log.contains("received fast shutdown request");
        let good = asked && log.contains("database system is shut down") && is("shut down");
        demand(good && !next.contains("recovery"), format!("it was not shut down:\n{said}"))
    } else {
        let recovers = next.contains("automatic recovery in progress");
        demand(
            is("in production") && recovers && !log.contains("system is shut down"),
            format!("a killed server looks as one that was shut down:\n{said}"),
        )
    }
}

/// Runs a line within the image's files and the database's, as the server's user.
fn with_data(line: &str) -> Result<String> {
    let script = r#"mount --bind "$1" "$2/data"; exec chroot --userspec=999:999 "$2" /bin/sh -ec "$3""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-ec", script, "sh", &data("postgresql")]);
    command.arg(tree("postgresql")?).arg(line).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(String::from_utf8_lossy(&output(&mut command)?).into_owned())
}

/// More than the buffers between the two hold: the server cannot have sent it all while the client does not read.
const ANSWER: usize = 1 << 20;

/// As root, which gives its work to another user, as the official image has it.
const SLOW_SERVER: &str = "daemon off; user nginx; worker_processes 1; events {}
    http { access_log /data/log; server { listen 8080 sndbuf=8k; root /data; } }";

fn nginx(signal: Option<&str>) -> Result<()> {
    let mut stage = Stage::new("2.1")?;
    let own = data("nginx");
    fs::create_dir_all(&own)?;
    fs::write(format!("{own}/configuration"), SLOW_SERVER)?;
    let content: Vec<u8> = (0..ANSWER).map(|n| (n / 3 % 251) as u8).collect();
    fs::write(format!("{own}/large"), &content)?;
    stage.start_usual()?;
    let words = ["/usr/sbin/nginx", "-c", "/data/configuration"];
    let pod = pod(&stage, "nginx", signal, &[], &words)?;
    let server = format!("{}:8080", address(&pod)?);
    let mut connection = wait_for("the server listens", || Ok(TcpStream::connect(&server)?))?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 4), (Kind::Mount, 5)])?;
    connection.write_all(b"GET /large HTTP/1.0\r\n\r\n")?;
    let mut first = [0; 12];
    connection.read_exact(&mut first)?;
    demand(&first == b"HTTP/1.1 200", format!("it answers {}", String::from_utf8_lossy(&first)))?;
    let master = pod.containers[0].pid;
    let worker = sh(&format!("cat /proc/{master}/task/{master}/children"))?.trim().to_owned();
    let rest = thread::spawn(move || rest(connection, &worker));
    let report = stage.judge(&Right::Clean, 1)?;
    let took = ended_by_itself(&report, "nginx")?;
    let answer = rest.join().map_err(|_| "the client has failed")?;
    let log = fs::read_to_string(format!("{own}/log"))?;
    let whole = answer.ends_with(&content) && log.contains(&format!(" 200 {ANSWER} "));
    let said = format!("the client has {} bytes of {ANSWER}; the server's log: {log}", answer.len());
    // The hook has waited while the client did not read.
    demand(whole == signal.is_some() && (took >= 1000) == whole, format!("{took} ms, {said}"))
}

/// What a slow client still reads when the server is about to end, or has ended.
fn rest(mut connection: TcpStream, worker: &str) -> Vec<u8> {
    let title = format!("/proc/{worker}/cmdline");
    while fs::read_to_string(&title).is_ok_and(|text| !text.is_empty() && !text.contains("shutting down")) {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_secs(1)); // that is how slow it is
    let mut all = Vec::new();
    // One that is cut may end with an error, or with nothing at all: its other end is gone with the pod's network.
    let _ = connection.set_read_timeout(Some(Duration::from_secs(3)));
    let _ = connection.read_to_end(&mut all);
    all
}
