//! Pods with the host's IPC namespace (`hostIPC`), and what they leave in it (47).
//!
//! RIGHT: shared memory, semaphores and queues of System V that a pod of ours has made are named, with the command that removes them;
//! status 3. Those of others stay, and are nobody's doubt; so are those of pods with a namespace of their own, which go with it.
//! Of POSIX's shared memory, which is files in /dev/shm, nothing tells who has made it: it stays, and a note says who could.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::stage::{Right, Stage, demand, sh};
use support::Result;
use support::picture::Kind;
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("shared_memory_of_a_pod_in_the_hosts_namespace_is_told", || left("1.7", true)),
    ("shared_memory_of_a_pod_in_the_hosts_namespace_is_told_1_6", || left("1.6", true)),
    ("shared_memory_of_a_pod_in_the_hosts_namespace_is_told_2_1", || left("2.1", true)),
    ("shared_memory_of_others_beside_a_pod_in_the_hosts_namespace_is_nobodys_doubt", tidy),
    ("very_much_shared_memory_of_a_pod_in_the_hosts_namespace_costs_little", very_much),
    ("posix_shared_memory_of_a_pod_in_the_hosts_namespace_stays_and_its_place_is_told", || posix(true)),
    ("posix_shared_memory_of_a_pod_in_its_own_namespace_goes_with_it", || posix(false)),
    ("shared_memory_of_a_pod_in_its_own_namespace_goes_with_it", || left("1.7", false)),
];

/// Makes one object of each kind and uses it. At SIGTERM it ends, and takes them away if it was told to.
const MAKER: &str = r#"my ($take) = @ARGV;
    my $m = shmget(0, 4096, 0600) // die; my $s = semget(0, 3, 0600) // die; my $q = msgget(0, 0600) // die;
    shmwrite($m, "x", 0, 1); semop($s, pack("s3", 0, 1, 0)); msgsnd($q, pack("l! a*", 1, "x"), 0);
    $SIG{TERM} = sub { if ($take) { shmctl($m, 0, 0); semctl($s, 0, 0, 0); msgctl($q, 0, 0) } exit };
    sleep 1 while 1"#;

const LIBRARIES: [&str; 6] =
    ["--mount", "/usr:/usr", "--mount", "/usr/lib:/lib", "--mount", "/usr/lib64:/lib64"];

fn objects() -> Result<usize> {
    Ok(sh("cat /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg")?.lines().count() - 3)
}

fn until_made(count: usize) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while objects()? != count {
        demand(Instant::now() < until, "the objects are not made")?;
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A user's program with the same, and objects of which the makers have ended.
fn others(stage: &mut Stage) -> Result<()> {
    stage.also(|_| sh("ipcmk -M 8192 -S 2 -Q"))?;
    let mut maker = Command::new("perl");
    maker.args(["-e", MAKER]);
    stage.keep(maker)?;
    until_made(6)?;
    stage.shared(|thing| matches!(thing.kind, Kind::Ipc | Kind::Process))
}

fn pods(stage: &Stage, host: bool, take: &str) -> Result<()> {
    let mut options = LIBRARIES.to_vec();
    if host {
        options.push("--host-ipc");
    }
    stage.runtime()?.make_pods("maker", &options, &["/usr/bin/perl", "-e", MAKER, take]).map(drop)
}

fn left(version: &'static str, host: bool) -> Result<()> {
    let mut stage = Stage::new(version)?;
    others(&mut stage)?;
    stage.start_usual()?;
    pods(&stage, host, "")?;
    if host {
        until_made(9)?;
    }
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Ipc, if host { 3 } else { 0 })])?;
    let right = if host { Right::Doubt(|thing| thing.kind == Kind::Ipc) } else { Right::Clean };
    let report = stage.judge(&right, 0)?;
    demand(objects()? == if host { 9 } else { 6 }, "objects are gone")?;
    let said = report["steps"].to_string();
    demand(
        !host || ["ipcrm -m", "ipcrm -s", "ipcrm -q"].iter().all(|word| said.contains(word)),
        "not what to type",
    )
}

fn tidy() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    others(&mut stage)?;
    stage.start_usual()?;
    pods(&stage, true, "1")?;
    until_made(9)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3), (Kind::Ipc, 3)])?;
    stage.judge(&Right::Clean, 0)?;
    demand(objects()? == 6, "others' objects are gone")
}

/// As many as the kernel allows by default: of shared memory 4096, of the others 32000.
fn very_much() -> Result<()> {
    const MAKER: &str = r#"for (1..3999) { shmget(0, 4096, 0600) // die }
        for (1..30000) {
            my $s = semget(0, 16, 0600) // die; semop($s, pack("s3", $_, 1, 0)) for 0..15;
            my $q = msgget(0, 0600) // die; msgsnd($q, pack("l! a*", 1, "x"), 0) }
        $SIG{TERM} = sub { exit }; sleep 1 while 1"#;
    let mut stage = Stage::new("1.7")?;
    stage.start_usual()?;
    sh("echo '32000 1024000000 500 32000' > /proc/sys/kernel/sem; echo 32000 > /proc/sys/kernel/msgmni")?;
    let options = [&LIBRARIES[..], &["--host-ipc"]].concat();
    stage.runtime()?.make_pods("maker", &options, &["/usr/bin/perl", "-e", MAKER])?;
    until_made(64000 - 1)?;
    // So many cannot be named each.
    stage.shared(|thing| thing.kind == Kind::Ipc)?;
    stage.stop()?;
    let start = Instant::now();
    let report = stage.judge(&Right::Doubt(|thing| thing.kind == Kind::Ipc), 0)?;
    let said = report["steps"].to_string();
    demand(said.contains(" more") && said.len() < 100_000, "too much is said")?;
    demand(start.elapsed() < Duration::from_secs(20), format!("it took {:?}", start.elapsed()))
}

fn posix(host: bool) -> Result<()> {
    const MAKER: &str =
        r#"open(my $f, ">", "/dev/shm/of-pod") or die; close $f; $SIG{TERM} = sub { exit }; sleep 1 while 1"#;
    let file = Path::new("/dev/shm/of-pod");
    let mut stage = Stage::new("1.7")?;
    stage.also(|_| sh("echo precious > /dev/shm/others"))?;
    stage.start_usual()?;
    let mut options = LIBRARIES.to_vec();
    if host {
        options.push("--host-ipc");
    }
    stage.runtime()?.make_pods("maker", &options, &["/usr/bin/perl", "-e", MAKER])?;
    let until = Instant::now() + Duration::from_secs(if host { 10 } else { 1 });
    while Instant::now() < until && !file.exists() {
        sleep(Duration::from_millis(20));
    }
    demand(file.exists() == host, "the file is not where it should be")?;
    stage.shared(|thing| thing.path == file)?;
    stage.stop()?;
    stage.must_show(&[(Kind::Process, 3)])?;
    let report = stage.judge(&Right::Clean, 0)?;
    demand(file.exists() == host && Path::new("/dev/shm/others").exists(), "a file is gone")?;
    demand(report["notes"].to_string().contains("/dev/shm (default/maker)") == host, "its place is not told")
}
