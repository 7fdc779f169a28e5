//! The demonstration: a snap's pods outlive their runtime, and the snap's remove hook ends them.
//!
//! All of it happens in a private world (see `tests/support/world.rs`); the machine is compared before and after. The screen
//! shows two pages of it; what is longer goes in full into a file (the world's stderr), which the screen names.

mod pods;
mod screen;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use pods::{imitate_pods, run_pods};
use screen::{Screen, picture};
use support::hook::Snap;
use support::look::{Kind, Look};
use support::runtime::{show_installed, show_programs};
use support::world::{self, Cgroups};
use support::{Result, build_dir, built};

const SNAP: &str = "microk8s";

const INTRODUCTION: &str = "
When a snap that runs containers is removed, snapd stops its services and deletes its files. Its pods stay.
This shows what is left of three of them, and the remove hook that ends it, in namespaces of its own.";

/// The file that a user of the snap would miss, and what it says.
const PRECIOUS: (&str, &str) = ("/srv/users/precious", "still mine");

fn main() -> ExitCode {
    let done = match world::role() {
        Ok(Some(_)) => inside(),
        Ok(None) => outside(),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On the machine: the world, and proof that nothing of it is left.
fn outside() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (whole, svg) = match arguments.as_slice() {
        [whole] => (whole, None),
        [whole, svg] => (whole, Some(svg)),
        _ => return Err("run it as tests/demo".into()),
    };
    let mounts = mounts()?;
    println!("{INTRODUCTION}");
    // The file is there already if tests/demo made it, so that it belongs to whoever called that.
    let file = File::options().create(true).write(true).truncate(true).open(whole)?;
    let (reader, writer) = std::io::pipe()?;
    let screen = std::thread::spawn(move || screen::pass_on(reader));
    // Threads are no matter here: the world is a process of its own.
    let ended = world::run("demo", Cgroups::V2, writer.into(), file.into());
    let shown = screen.join().map_err(|_| "the screen's thread has failed")??;
    let ended = ended?;
    if !ended.status.success() {
        let text = fs::read_to_string(whole)?;
        return Err(
            format!("it has failed: {}\nthe whole: {whole}", text.lines().last().unwrap_or("?")).into()
        );
    }
    // Whatever else is mounted on this machine meanwhile is not for us to judge; where we work, or anything lost, is.
    let build = build_dir()?.display().to_string();
    let new = self::mounts()?;
    let ours = |line: &&String| line.contains(&build) || line.contains(&ended.group);
    let mut changed: Vec<_> = new.difference(&mounts).filter(ours).cloned().collect();
    changed.extend(groups(&ended.group));
    changed.extend(processes(&ended.group)?);
    if !changed.is_empty() {
        return Err(format!("the machine is not as it was:\n{}", changed.join("\n")).into());
    }
    let last = "The machine itself is as it was: no mount, control group or process of this is left on it.";
    println!("{last}\n\nAll of it, uncut: {whole}\nTo give your own snap such a hook: snap/local/README.md");
    match svg {
        Some(svg) => Ok(fs::write(svg, picture(&format!("{INTRODUCTION}\n{shown}{last}\n")))?),
        None => Ok(()),
    }
}

fn mounts() -> Result<BTreeSet<String>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().map(str::to_owned).collect())
}

/// Directories of a world's groups, in whichever hierarchy.
fn groups(name: &str) -> Vec<String> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = hierarchies.chain([top.to_path_buf()]).map(|dir| dir.join(name));
    places.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

/// Processes that are in a world's groups.
fn processes(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if groups.contains(&format!("/{name}/")) {
            found.push(entry.path().display().to_string());
        }
    }
    Ok(found)
}

/// In the world.
fn inside() -> Result<()> {
    let mut screen = Screen;
    let snap = Snap::install(SNAP)?;
    fs::create_dir_all("/srv/users")?;
    fs::write(PRECIOUS.0, PRECIOUS.1)?;
    let tools = ["ip", "iptables-save"].iter().all(|name| Path::new("/usr/sbin").join(name).exists());
    let real = std::env::var_os("SNAP_TEARDOWN_DEMO_IMITATE").is_none()
        && tools
        && (show_installed("1.6")? || show_programs().is_ok());
    let look = || if tools { Look::now() } else { Look::without_programs() };
    let before = look()?;

    let mut pods = if real { run_pods(&mut screen, SNAP)? } else { imitate_pods(&mut screen, &snap)? };
    let full = look()?.minus(&before);
    screen.say(&format!(
        "What is still there, by a look that shares no code with snap-teardown:\n{}",
        in_words(&full)
    ));
    screen.aside(&format!("{full}"));

    remove(&mut screen, &snap)?;
    pods.collect()?;
    after(&mut screen, &snap, || Ok(look()?.minus(&before)))
}

/// The survey, then the hook, as snapd runs it.
fn remove(screen: &mut Screen, snap: &Snap) -> Result<()> {
    screen.title("2. Before you remove it: `snap-teardown survey` looks, and touches nothing");
    let (survey, _) = program(snap, &["survey"])?;
    screen.part_of(&survey, 24);

    screen.title("3. `snap remove microk8s`: snapd stops the services and runs the snap's remove hook");
    let ended = snap.run_hook()?;
    let (summary, document) = ended.output.split_once('\n').unwrap_or((&ended.output, ""));
    screen.aside(document);
    let (report, _) = program(snap, &["report"])?;
    screen.part_of(&report, 17);
    let status = ended.status.ok_or("the hook was killed")?;
    screen.say(&format!("The hook took {} ms, and its exit status is {status}.", ended.elapsed.as_millis()));
    if status == 0 { Ok(()) } else { Err(format!("the hook: {summary}").into()) }
}

/// What our program prints with these arguments, and its exit status.
fn program(snap: &Snap, arguments: &[&str]) -> Result<(String, Option<i32>)> {
    let mut command = Command::new(built("snap-teardown")?);
    command.args(arguments).env_clear().envs(snap.environment()).env("COLUMNS", "100");
    let output = command.stdin(Stdio::null()).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8_lossy(&text).into_owned(), output.status.code()))
}

/// The same look as before the removal, and what became of the user's file.
fn after(screen: &mut Screen, snap: &Snap, look: impl Fn() -> Result<Look>) -> Result<()> {
    screen.title("4. Afterwards: is anything left?");
    let (verify, status) = program(snap, &["verify"])?;
    let first = verify.lines().next().unwrap_or_default();
    screen.say(&format!("snap-teardown verify: {}", first.trim_start_matches("snap-teardown: ")));
    screen.aside(&verify);
    let left = look()?.without(&[Kind::Report]);
    if !left.is_empty() {
        screen.say(&format!("The independent look finds:\n{left}"));
        return Err("something is left".into());
    }
    if status != Some(0) {
        return Err(format!("the verification's status is {status:?}").into());
    }
    screen.say("The same independent look as above: nothing.");
    let precious = fs::read_to_string(PRECIOUS.0)?;
    screen.say(&format!(
        "The file that the pods had mounted from the user's own directory says: '{precious}'."
    ));
    if precious == PRECIOUS.1 { Ok(()) } else { Err("a user's file was changed".into()) }
}

/// How many of each kind, as a person says it.
fn in_words(look: &Look) -> String {
    let words = [
        (Kind::Shim, "containerd shims"),
        (Kind::Process, "processes of the pods"),
        (Kind::Mount, "mounts"),
        (Kind::Netns, "names of network namespaces"),
        (Kind::Link, "network links"),
        (Kind::Rule, "firewall rules and chains"),
        (Kind::Cgroup, "control groups"),
        (Kind::Socket, "sockets"),
        (Kind::Data, "files and directories of images"),
    ];
    let counted = words.iter().map(|(kind, words)| (look.count(*kind), words)).filter(|(n, _)| *n > 0);
    let counted: Vec<_> = counted.map(|(n, words)| format!("{n} {words}")).collect();
    let others = look.len() - words.iter().map(|(kind, _)| look.count(*kind)).sum::<usize>();
    format!("{} and {others} other things", wrap(&counted))
}

fn wrap(words: &[String]) -> String {
    let mut text = String::from("   ");
    let mut width = 3;
    for word in words {
        if width + word.len() + 2 > 96 {
            text.truncate(text.trim_end().len());
            text.push_str("\n   ");
            width = 3;
        }
        text.push_str(&format!("{word}, "));
        width += word.len() + 2;
    }
    text.trim_end_matches(", ").to_owned()
}

/// A path of the world, as text.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
