//! The benchmark: our teardown of real pods, side by side with the kernel's floor and with somebody else's hook.
//!
//! Every sample has a private world of its own, in which pods are made and their runtime is killed; samples of all
//! subjects take turns, so that a machine that slows down slows all of them. `README.md` says how to run it.

mod chart;
mod plain;
mod sample;
mod table;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use sample::{Order, Subject, Told};
use support::world::{self, Cgroups};
use support::{Result, build_dir};
use table::Results;

const USAGE: &str = "\
usage: bench [--pods N,N...] [--repeats N] [--peer COMMAND] [--cni] [--svg FILE] [--guard]
  --pods     how many pods, several counts separated by commas (10,110)
  --repeats  how often each sample is taken (3)
  --peer     another hook to be measured, as a shell command; its files must lie in the source tree, /usr or /etc;
             the runtime is left running for it
  --cni      pods with network namespaces made by CNI, which the floor leaves alone
  --svg      where to draw the curves (target/bench.svg)
  --guard    fail if a ratio or a count of system calls is out of bounds";

struct Options {
    pods: Vec<usize>,
    repeats: usize,
    peer: Option<String>,
    cni: bool,
    svg: PathBuf,
    guard: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options {
            pods: vec![10, 110],
            repeats: 3,
            peer: None,
            cni: false,
            svg: "target/bench.svg".into(),
            guard: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--pods" => {
                    options.pods =
                        value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?
                }
                "--repeats" => options.repeats = value()?.parse()?,
                "--peer" => options.peer = Some(value()?),
                "--svg" => options.svg = value()?.into(),
                "--cni" => options.cni = true,
                "--guard" => options.guard = true,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    // Before anything else: these are timed, and must not pay for the reading of options.
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "--as-program") {
        be(&args[1..])?;
        return Ok(true);
    }
    if let Some(order) = world::role()? {
        sample::inside(&order)?;
        return Ok(true);
    }
    let options = Options::parse(args.into_iter())?;
    println!("{}\n", plain::FLOOR);
    let mut results = Results::default();
    for n in 1..=options.repeats {
        for order in orders(&options, false) {
            let told = sample(&order)?;
            let (subject, pods) = (order.subject, order.pods);
            eprintln!(
                "{n}/{}: {subject:?} {pods} pods (built in {:.0} s)",
                options.repeats, told.build_seconds
            );
            results.add(&order, told);
        }
    }
    for order in orders(&options, true) {
        let told = sample(&order)?;
        eprintln!("system calls of {:?} with {} pods counted", order.subject, order.pods);
        results.add(&order, told);
    }
    let text = results.text();
    println!("{text}");
    fs::write(build_dir()?.join("bench.txt"), &text)?;
    fs::write(&options.svg, chart::draw(&results))?;
    println!("curves: {}", options.svg.display());
    Ok(!options.guard || results.within_bounds())
}

fn be(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("clock") => sample::clock(&args[1..]),
        Some("pass") => plain::pass(),
        Some("wide") => plain::wide(),
        Some("floor") => plain::floor(&args[1]),
        _ => Err("no such program".into()),
    }
}

/// One world for each subject and count. System calls are counted at the smaller counts only: tracing is slow, and the
/// number for each pod does not depend on how many there are.
fn orders(options: &Options, trace: bool) -> Vec<Order> {
    let mut subjects = vec![Subject::Floor, Subject::Forced];
    if !trace {
        subjects.push(Subject::Graceful);
        subjects.extend(options.peer.as_ref().map(|_| Subject::Peer));
    }
    let counts = options.pods.iter().filter(|pods| !trace || **pods <= 110);
    counts
        .flat_map(|pods| {
            subjects.iter().map(|subject| Order {
                subject: *subject,
                pods: *pods,
                cni: options.cni,
                trace,
                peer: options.peer.clone(),
            })
        })
        .collect()
}

fn sample(order: &Order) -> Result<Told> {
    let path = build_dir()?.join("bench.json");
    let limit = 300 + u32::try_from(order.pods)? * 2;
    let body = serde_json::to_string(order)?;
    let out = Stdio::from(File::create(&path)?);
    let status = world::run_for(limit, &body, Cgroups::V2, out, Stdio::inherit())?.status;
    let text = fs::read_to_string(&path)?;
    if !status.success() {
        return Err(format!("the world of {body} ended with {status}: {text}").into());
    }
    let last = text.lines().last().ok_or("a sample told nothing")?;
    Ok(serde_json::from_str(last)?)
}
