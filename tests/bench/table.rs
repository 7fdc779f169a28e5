//! What the samples say together: medians, ratios, and whether they are within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::sample::{Order, Subject, Taken, Told};

#[derive(Default)]
pub struct Results {
    /// By number of pods and subject, one for each repeat.
    told: BTreeMap<(usize, Subject), Vec<Told>>,
    /// By number of pods: system calls by program and name.
    calls: BTreeMap<usize, BTreeMap<String, BTreeMap<String, u64>>>,
}

/// A demand: what it is about, what was found, what it may be at most.
struct Demand {
    what: String,
    found: f64,
    most: f64,
    /// What the guard lets pass: ratios of times jump about on a busy machine, counts do not.
    guard: f64,
}

/// Our system calls for each further pod, the deletion of its 55 files and 25 directories included.
const MOST_CALLS: f64 = 280.0;
/// Our system calls for each further pod of others, beyond those that a pass over its processes takes.
const MOST_CALLS_BESIDE: f64 = 16.0;
/// Peak memory of a forced teardown, up to so many pods, and what the guard lets pass.
const MOST_MIB: [(usize, f64, f64); 3] = [
    (30, 3.0, 3.0),
    (110, 6.0, 6.0),
    (1000, 16.0, 24.0), // not met: 21
];

impl Results {
    pub fn add(&mut self, order: &Order, told: Told) {
        if order.trace {
            self.calls.entry(order.pods).or_default().extend(told.calls);
        } else {
            self.told.entry((order.pods, order.subject)).or_default().push(told);
        }
    }

    pub fn counts(&self) -> BTreeSet<usize> {
        self.told.keys().map(|(pods, _)| *pods).collect()
    }

    /// The median over all repeats, in seconds.
    pub fn seconds(&self, pods: usize, program: &str) -> Option<f64> {
        median(self.taken(pods, program).map(|t| t.seconds).collect())
    }

    fn taken<'a>(&'a self, pods: usize, program: &'a str) -> impl Iterator<Item = &'a Taken> {
        let of = self.told.iter().filter(move |((n, _), _)| *n == pods);
        of.flat_map(|(_, told)| told).filter_map(move |t| t.taken.get(program)).flatten()
    }

    /// The median of what two repeats of the same number have to do with each other: a machine that slows down between
    /// repeats slows both.
    fn paired(&self, pods: usize, ours: Subject, ratio: impl Fn(&Told, &Told) -> Option<f64>) -> Option<f64> {
        let floors = self.told.get(&(pods, Subject::Floor))?;
        let ours = self.told.get(&(pods, ours))?;
        median(ours.iter().zip(floors).filter_map(|(ours, floor)| ratio(ours, floor)).collect())
    }

    fn forced_ratio(&self, pods: usize) -> Option<f64> {
        self.paired(pods, Subject::Forced, |ours, floor| {
            Some(of(ours, "forced")? / (of(floor, "floor")? + 2.0 * of(floor, "pass")?))
        })
    }

    fn nothing_ratio(&self, pods: usize, to: &str) -> Option<f64> {
        self.paired(pods, Subject::Floor, |_, floor| Some(of(floor, "nothing")? / of(floor, to)?))
    }

    /// What the slowest application takes to end is its own affair.
    fn graceful_ratio(&self, pods: usize) -> Option<f64> {
        let forced = self.told.get(&(pods, Subject::Forced))?;
        let graceful = self.told.get(&(pods, Subject::Graceful))?;
        let pairs = graceful.iter().zip(forced);
        median(pairs.filter_map(|(g, f)| Some((of(g, "graceful")? - g.slowest) / of(f, "forced")?)).collect())
    }

    /// The median of the processor time over all repeats, in seconds.
    fn cpu(&self, pods: usize, program: &str) -> Option<f64> {
        median(self.taken(pods, program).map(|t| t.cpu_seconds).collect())
    }

    /// The exponent of the power law that fits a figure best, over all counts.
    fn exponent(&self, figure: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let points: Vec<(f64, f64)> = self
            .counts()
            .into_iter()
            .filter_map(|pods| Some(((pods as f64).ln(), figure(pods)?.ln())))
            .collect();
        let n = points.len() as f64;
        let (mx, my) =
            (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
        let above: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
        let below: f64 = points.iter().map(|(x, _)| (x - mx).powi(2)).sum();
        (points.len() > 1).then_some(above / below)
    }

    /// But for futex(2): how often two threads wait for each other depends on what else runs on the machine.
    fn calls(&self, pods: usize, program: &str) -> Option<u64> {
        let calls = self.calls.get(&pods)?.get(program)?;
        Some(calls.iter().filter(|(name, _)| *name != "futex").map(|(_, count)| count).sum())
    }

    /// For each further pod, where two counts were traced; what a run costs in any case is left out.
    fn calls_per_pod(&self, program: &str) -> Option<f64> {
        let (few, many) = (*self.calls.keys().next()?, *self.calls.keys().next_back()?);
        let more = self.calls(many, program)? as f64 - self.calls(few, program)? as f64;
        (many > few).then(|| more / (many - few) as f64)
    }

    fn demands(&self) -> Vec<Demand> {
        let mut demands = Vec::new();
        let mut demand = |what: String, found: Option<f64>, most: f64, guard: f64| {
            demands.extend(found.map(|found| Demand { what, found, most, guard }));
        };
        for pods in self.counts() {
            // With few pods the fixed cost of a run weighs more; the demand is on many.
            let [forced, nothing] = match pods {
                ..110 => [f64::INFINITY; 2],
                110 => [1.2, 1.25],
                _ => [1.25; 2],
            };
            demand(format!("forced / (floor + 2 passes), {pods} pods"), self.forced_ratio(pods), forced, 3.0);
            demand(
                format!("nothing to do / pass, {pods} pods of others"),
                self.nothing_ratio(pods, "pass"),
                nothing,
                6.0, // of a few milliseconds
            );
            let wide = format!("nothing to do / wide, {pods} pods of others");
            demand(wide, self.nothing_ratio(pods, "wide"), f64::INFINITY, 6.0);
            let graceful = format!("(graceful - slowest application) / forced, {pods} pods");
            demand(graceful, self.graceful_ratio(pods), 1.3, 3.0);
            let peak = self.taken(pods, "forced").map(|t| t.peak_kib).max();
            let bounds = MOST_MIB.into_iter().find(|(up_to, ..)| pods <= *up_to);
            let (_, most, guard) = bounds.unwrap_or((0, f64::INFINITY, f64::INFINITY));
            demand(
                format!("peak memory of forced in MiB, {pods} pods"),
                peak.map(|k| k as f64 / 1024.0),
                most,
                guard,
            );
        }
        let exponent = self.exponent(|pods| self.seconds(pods, "forced"));
        demand("exponent of forced over the number of pods".into(), exponent, 1.05, 1.5);
        let exponent = self.exponent(|pods| self.cpu(pods, "forced"));
        demand("the same of its processor time".into(), exponent, 1.05, 1.3);
        let calls = self.calls_per_pod("forced");
        demand("system calls of forced for each further pod".into(), calls, MOST_CALLS, MOST_CALLS);
        let beside = self.calls_per_pod("nothing").zip(self.calls_per_pod("pass"));
        let what = "system calls of nothing for each further pod of others, beyond a pass";
        let beside = beside.map(|(nothing, pass)| nothing - pass);
        demand(what.into(), beside, MOST_CALLS_BESIDE, MOST_CALLS_BESIDE);
        demands
    }

    pub fn within_bounds(&self) -> bool {
        let demands = self.demands();
        demands
            .iter()
            .filter(|d| d.found > d.guard)
            .for_each(|d| eprintln!("bench: {}: {:.2}", d.what, d.found));
        demands.iter().all(|d| d.found <= d.guard)
    }

    /// All of it, in Markdown.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.times(&mut out);
        let _ = writeln!(out, "\n| demand | found | at most | |\n| --- | --- | --- | --- |");
        for Demand { what, found, most, .. } in self.demands() {
            let (most, word) = match most {
                f64::INFINITY => ("-".into(), "no demand"),
                most => (format!("{most}"), if found <= most { "met" } else { "NOT met" }),
            };
            let _ = writeln!(out, "| {what} | {found:.2} | {most} | {word} |");
        }
        self.phases(&mut out);
        self.system_calls(&mut out);
        out
    }

    fn times(&self, out: &mut String) {
        let programs = ["pass", "wide", "nothing", "floor", "forced", "graceful", "peer"];
        let _ = writeln!(out, "Medians in milliseconds, processor time in brackets:\n");
        let _ =
            writeln!(out, "| pods | {} |\n|{}", programs.join(" | "), " --- |".repeat(programs.len() + 1));
        for pods in self.counts() {
            let cell = |program: &&str| {
                let both = self.seconds(pods, program).zip(self.cpu(pods, program));
                both.map_or("-".into(), |(s, cpu)| format!("{:.1} ({:.1})", s * 1e3, cpu * 1e3))
            };
            let cells: Vec<String> = programs.iter().map(cell).collect();
            let _ = writeln!(out, "| {pods} | {} |", cells.join(" | "));
        }
        for ((pods, subject), told) in &self.told {
            if *subject == Subject::Peer {
                let _ = writeln!(out, "\nLeft by the peer of {pods} pods: {}", told[0].left);
            }
        }
    }

    fn phases(&self, out: &mut String) {
        let _ = writeln!(out, "\nMilliseconds by step, medians:\n");
        for ((pods, subject), told) in &self.told {
            let names: Vec<&String> = told[0].phases.iter().map(|(name, _)| name).collect();
            if names.is_empty() {
                continue;
            }
            let steps = names.iter().enumerate().map(|(i, name)| {
                let ms = median(told.iter().filter_map(|t| Some(t.phases.get(i)?.1)).collect());
                format!("{name} {:.0}", ms.unwrap_or_default())
            });
            let steps: Vec<String> = steps.collect();
            let _ = writeln!(out, "* {subject:?}, {pods} pods: {}", steps.join(", "));
        }
    }

    fn system_calls(&self, out: &mut String) {
        let _ = writeln!(out, "\nSystem calls, counted in runs of their own:\n");
        for (pods, programs) in &self.calls {
            for (program, calls) in programs {
                let mut most: Vec<(&String, &u64)> = calls.iter().collect();
                most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
                let total: u64 = calls.values().sum();
                let top: Vec<String> = most.iter().take(12).map(|(name, n)| format!("{name} {n}")).collect();
                let each = total as f64 / *pods as f64;
                let _ = writeln!(
                    out,
                    "* {program}, {pods} pods: {total}, {each:.0} for each: {}",
                    top.join(", ")
                );
            }
        }
    }
}

fn of(told: &Told, program: &str) -> Option<f64> {
    median(told.taken.get(program)?.iter().map(|t| t.seconds).collect())
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    match all.len() {
        0 => None,
        n if n % 2 == 1 => Some(all[middle]),
        _ => Some((all[middle - 1] + all[middle]) / 2.0),
    }
}
