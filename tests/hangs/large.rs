//! Nodes far larger than any, and how much memory the hook takes for them.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::stage::Stage;
use crate::worlds::{ADDRESS, COMMON, DEADLINE};
use support::fixture::{self, Bundle, TASKS};
use support::hook::{self, Snap};
use support::look::{Kind, Look};
use support::runtime::in_group;
use support::world::{bind, mount_new};
use support::{Result, demand};

/// Ten thousand processes and five thousand mounts of one pod.
pub fn many_of_one_pod() -> Result<()> {
    const PROCESSES: usize = 10_000;
    const MOUNTS: usize = 5_000;
    let stage = Stage::new(&[])?;
    fs::write(
        stage.snap.dir.join("teardown.json"),
        fs::read_to_string(stage.snap.dir.join("teardown.json"))?
            .replace(&format!("\"deadline\":{DEADLINE}"), "\"deadline\":100"),
    )?;
    let leaf = stage.world.leaves.last().ok_or("no container")?.clone();
    let script = format!(
        "import os, signal, sys\n\
         open(sys.argv[1], 'w').write('0')\n\
         for _ in range({PROCESSES}):\n    if os.fork() == 0:\n        signal.pause()\n\
         print('up', flush=True)\nsignal.pause()"
    );
    let mut shell = Command::new("/usr/bin/python3");
    shell.args(["-c", &script]).arg(leaf.join("cgroup.procs")).stdin(Stdio::null()).stdout(Stdio::piped());
    let (_shell, _) = crate::actor::start(shell)?;
    let at = stage.volume("many");
    for n in 0..MOUNTS {
        let at = at.join(n.to_string());
        fs::create_dir_all(&at)?;
        mount_new("tmpfs", &at, MsFlags::empty(), "size=4k")?;
    }
    let count = fs::read_to_string(leaf.join("cgroup.procs"))?.lines().count();
    if count < PROCESSES {
        let all = fs::read_dir("/proc")?.count();
        let one = fs::read_to_string("/proc/5000/stat").unwrap_or_default();
        return Err(format!("{count} processes are too few, of {all}: {one}").into());
    }
    println!("{count} processes and {MOUNTS} mounts");
    let document = run_within(16 << 10, stage.command()?, || stage.document().ok_or("no document")?)?;
    demand(document["outcome"] == "clean", format!("outcome {}", document["outcome"]))
}

const PODS: usize = 5_000;
const IN_EACH: usize = 4;
const MOUNTS_OF_EACH: usize = 6;
const SERVICE: &str = "system.slice/snap.microk8s.daemon-containerd.service";
const SANDBOXES: &str = "run/containerd/io.containerd.grpc.v1.cri/sandboxes";
const USERS: &str = "/srv/users";

/// Five thousand pods as containerd, runc and kubelet leave them: in each a shim, a sandbox, and an application of two
/// processes; six mounts; bundles, states, sockets and groups.
pub fn five_thousand_pods() -> Result<()> {
    let snap = Snap::install("microk8s")?;
    snap.ship_patience(0, 200)?;
    fs::create_dir_all(USERS)?;
    mount_new("tmpfs", USERS.as_ref(), MsFlags::empty(), "")?;
    let before = Look::now()?;
    let started = Instant::now();
    let pods: Vec<Pod> = (0..PODS).map(Pod::new).collect();
    let image = make_image()?;
    // What lies beside thousands of mounts takes the kernel long to mount; for that time it lies on a mount of its own.
    bind(&root(), &root())?;
    pods.iter().try_for_each(|pod| pod.write(&image))?;
    umount2(&root(), MntFlags::MNT_DETACH)?;
    start_processes(&pods)?;
    let made = Look::now()?.minus(&before);
    let counts =
        [(Kind::Shim, PODS), (Kind::Process, PODS * (IN_EACH - 1)), (Kind::Mount, PODS * MOUNTS_OF_EACH)];
    for (kind, count) in counts {
        demand(made.count(kind) == count, format!("{kind:?}: {count} were to be made: {}", made.summary()))?;
    }
    println!("made in {:.1} s: {}", started.elapsed().as_secs_f64(), made.summary());
    let scope = "system.slice/snap.microk8s.hook.remove-0f1e2d3c.scope";
    let mut command = in_group(scope, &snap.dir.join("meta/hooks/remove").display().to_string())?;
    command.env_clear().envs(snap.environment()).current_dir("/").process_group(0).stdin(Stdio::null());
    let document = run_within(64 << 10, command, || snap.document())?;
    // All that is there is found and removed, by other evidence than bundles; and that not all bundles were looked at is said.
    let blind: Vec<&Value> = each(&document, "blind").collect();
    let too_many = blind.iter().all(|blind| blind["reason"] == "too-many");
    demand(document["outcome"] == "blind" && too_many, format!("it says no more than so: {blind:?}"))?;
    let shims = &document["scope-counts"]["shims"];
    demand(*shims == PODS, format!("all shims are told: {shims}"))?;
    let left = Look::now()?.minus(&before).without(&[Kind::Report]);
    demand(left.is_empty(), format!("nothing is left: {}", left.summary()))
}

/// Each thing in the lists of this name that the document's steps have.
fn each<'a>(document: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    document["steps"].as_array().into_iter().flatten().flat_map(move |step| step[name].as_array()).flatten()
}

/// Runs the hook, gives its result, and fails if it takes more memory than this. A debug build has 8 MiB more of program
/// text; what is promised is promised of the release build, with which CI runs this, too.
fn run_within(kib: u64, mut command: Command, document: impl FnOnce() -> Result<Value>) -> Result<Value> {
    let start = Instant::now();
    let (reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    drop(command); // it holds the pipe's other end
    let output = std::thread::spawn(move || {
        let mut output = String::new();
        let mut reader = reader;
        reader.read_to_string(&mut output).map(|_| output)
    });
    let peak = peak_of(&mut child)?;
    let output = output.join().map_err(|_| "the reader panicked")??;
    let document = document()?;
    let took = start.elapsed().as_secs_f64();
    println!("peak {peak} KiB of {kib}, {took:.1} s, {}", document["outcome"]);
    let debug = cfg!(debug_assertions) && std::env::var_os(hook::OTHER_HOOK).is_none();
    let limit = if debug { kib + (8 << 10) } else { kib };
    demand(peak > 0 && peak < limit, format!("peak {peak} KiB\n{output}"))?;
    Ok(document)
}

/// The most memory that a hook has taken when it ends, in KiB.
fn peak_of(child: &mut Child) -> Result<u64> {
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        // The kernel keeps the highest value; only what the last few milliseconds added could be missed.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let is_hook = status.lines().next() == Some("Name:\tremove");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).filter(|_| is_hook);
        peak = peak
            .max(line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2)); // a sample, not a wait
    }
    Ok(peak)
}

/// A pod of two containers, the first of them its sandbox.
struct Pod {
    number: usize,
    uid: String,
    ids: [String; 2],
}

impl Pod {
    fn new(number: usize) -> Pod {
        let mut dice = Dice::new(number as u64);
        let uid = format!("{}-5eed-4000-8000-{}", dice.hex(8), dice.hex(12));
        Pod { number, uid, ids: [dice.hex(64), dice.hex(64)] }
    }

    fn group(&self, id: &str) -> PathBuf {
        Path::new("/kubepods/besteffort").join(format!("pod{}", self.uid)).join(id)
    }

    fn group_directory(&self, id: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup/kubepods/besteffort").join(format!("pod{}", self.uid)).join(id)
    }

    /// What its shim is started with.
    fn shim_line(&self) -> Vec<String> {
        fixture::shim_line("/snap/microk8s/1", ADDRESS, &self.ids[0])
    }

    /// Its files, groups and mounts: all but what names a process.
    fn write(&self, image: &str) -> Result<()> {
        let common = Path::new(COMMON);
        let volumes = common.join("var/lib/kubelet/pods").join(&self.uid);
        let socket = fixture::socket_of(ADDRESS, &self.ids[0]);
        let shm = common.join(SANDBOXES).join(&self.ids[0]).join("shm");
        let token = volumes.join("volumes/kubernetes.io~projected/kube-api-access-5eed7");
        let (data, part) = (
            volumes.join("volumes/kubernetes.io~local-volume/data"),
            volumes.join("volume-subpaths/data/app/0"),
        );
        for (n, id) in self.ids.iter().enumerate() {
            fs::create_dir_all(self.group_directory(id))?;
            let mut bundle = Bundle::new(id, &self.group(id).display().to_string())
                .of_sandbox(&self.ids[0])
                .of_pod(&format!("application-{:010}-{:05}", self.number, self.number))
                .annotated("sandbox-uid", &self.uid);
            let binds = [
                shm.clone(),
                token.clone(),
                data.clone(),
                volumes.join("etc-hosts"),
                volumes.join("containers/app/5eed5eed"),
            ];
            let binds = binds.iter().take(if n == 0 { 1 } else { 5 });
            bundle.spec["mounts"] = binds.map(|from| json!({ "destination": "/x", "type": "bind", "source": from, "options": ["rbind"] })).collect();
            let bundle = bundle.write_in(&bundles())?;
            fixture::write_address(&bundle, &socket)?;
            let work = root().join(TASKS).join(id);
            fs::create_dir_all(&work)?;
            symlink(&work, bundle.join("work"))?;
            let layer = fixture::snapshot(&root(), 100 + 2 * self.number + n);
            for directory in [layer.join("fs"), layer.join("work"), bundle.join("rootfs")] {
                fs::create_dir_all(directory)?;
            }
            let options = format!("{image},upperdir={0}/fs,workdir={0}/work", layer.display());
            mount(
                Some("overlay"),
                &bundle.join("rootfs"),
                Some("overlay"),
                MsFlags::empty(),
                Some(&*options),
            )?;
        }
        for directory in [&shm, &token, &data, &part] {
            fs::create_dir_all(directory)?;
        }
        mount_new("tmpfs", &shm, MsFlags::empty(), "size=64k")?;
        mount_new("tmpfs", &token, MsFlags::empty(), "size=64k")?;
        bind(USERS.as_ref(), &data)?;
        bind(USERS.as_ref(), &part)?;
        fs::create_dir_all("/run/containerd/s")?;
        UnixListener::bind(socket).map(drop)?; // its name is what stays
        Ok(())
    }

    /// runc's states of its containers, whose first processes these are.
    fn write_states(&self, inits: &[i32]) -> Result<()> {
        for (id, &init) in self.ids.iter().zip(inits) {
            let bundle = bundles().join(id);
            let groups = [(String::new(), self.group_directory(id))];
            let state = fixture::runc_state(id, (init, start_time(init)?), &groups, &bundle);
            let at = Path::new("/run/containerd/runc/k8s.io").join(id);
            fs::create_dir_all(&at)?;
            fs::write(at.join("state.json"), state.to_string())?;
            fs::write(bundle.join("init.pid"), init.to_string())?;
        }
        Ok(())
    }
}

/// containerd's root directory.
fn root() -> PathBuf {
    Path::new(COMMON).join("var/lib/containerd")
}

fn bundles() -> PathBuf {
    Path::new(COMMON).join("run/containerd").join(TASKS)
}

/// The lower layers that all root file systems share, as an overlay's option.
fn make_image() -> Result<String> {
    let layers = [11, 12, 13].map(|n| fixture::snapshot(&root(), n).join("fs"));
    layers.iter().try_for_each(fs::create_dir_all)?;
    Ok(format!("lowerdir={}", layers.map(|layer| layer.display().to_string()).join(":")))
}

/// Field 22 of `stat`; names have no spaces here.
fn start_time(pid: i32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.split(' ').nth(21).ok_or("a short stat")?.parse()?)
}

/// Forks all processes from one small one, which is cheap, and gives the shims their command lines. Each line that it reads is a
/// pod's: the shim's directory, its command line in hexadecimal digits, and the groups of its containers.
const FORKS: &str = r#"
    open my $stat, '<', '/proc/self/stat' or die; my @stat = split ' ', <$stat>; my ($begin, $end) = @stat[47, 48];
    sub enter { open my $procs, '>', "$_[0]/cgroup.procs" or die "$_[0]: $!"; syswrite $procs, 0 or die "$_[0]: $!"; close $procs }
    sub rest { open STDOUT, '>', '/dev/null'; open STDIN, '<', '/dev/null'; sleep while 1 }
    enter shift;
    while (<STDIN>) {
        my ($directory, $line, @groups) = split;
        my $number = $.;
        fork and next;
        chdir $directory or die "$directory: $!";
        my @inits;
        pipe my $until, my $ready or die;
        for my $at (0..$#groups) {
            my $init = fork;
            if (!$init) { enter $groups[$at]; chdir '/'; $0 = $at ? 'app' : 'pause'; fork if $at; close $ready; rest }
            push @inits, $init;
        }
        close $ready;
        readline $until; # ends when all of them are there
        $0 = 'containerd-shim';
        open my $memory, '+<', '/proc/self/mem' or die; sysseek $memory, $begin, 0 or die;
        syswrite $memory, pack "a@{[$end - $begin]}", pack 'H*', $line or die "memory: $!"; close $memory;
        syswrite STDOUT, "$number @inits\n";
        rest;
    }
"#;

fn start_processes(pods: &[Pod]) -> Result<()> {
    let mut orders = String::new();
    for pod in pods {
        let line: String = pod.shim_line().join("\0").bytes().map(|byte| format!("{byte:02x}")).collect();
        let groups = pod.ids.each_ref().map(|id| pod.group_directory(id).display().to_string()).join(" ");
        writeln!(orders, "{} {line} {groups}", bundles().join(&pod.ids[0]).display())?;
    }
    let service = Path::new("/sys/fs/cgroup").join(SERVICE);
    fs::create_dir_all(&service)?;
    let mut perl = Command::new("/usr/bin/perl");
    // As many bytes of arguments as a shim has.
    perl.args(["-e", FORKS]).arg(service).arg("x".repeat(512)).env_clear();
    let mut perl = perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = perl.stdin.take().ok_or("no input")?;
    let writer = std::thread::spawn(move || stdin.write_all(orders.as_bytes()));
    let lines = BufReader::new(perl.stdout.take().ok_or("no output")?).lines().take(pods.len());
    for line in lines {
        let numbers = line?.split(' ').map(str::parse).collect::<std::result::Result<Vec<i32>, _>>()?;
        let (at, inits) = numbers.split_first().ok_or("an empty line")?;
        pods[usize::try_from(*at)? - 1].write_states(inits)?;
    }
    writer.join().map_err(|_| "the writer panicked")??;
    demand(perl.wait()?.success(), "not all processes were made")
}
