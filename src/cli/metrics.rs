//! A result as metrics: for the textfile collector of Prometheus' node_exporter.

use crate::remove::drain::ending::End;
use crate::report::{Counts, Report};
use crate::text;

struct Metrics {
    out: String,
    /// The label that all have.
    snap: String,
}

/// The metrics of a result, each with its help and its type.
pub fn of(report: &Report) -> String {
    let mut metrics = Metrics { out: String::new(), snap: label("snap", &report.snap.instance) };
    let revision = report.snap.revision.as_deref().unwrap_or_default();
    metrics.add("revision_info", "The revision of the snap.", "revision", &[(revision, 1)]);
    metrics.add("version_info", "The program that wrote the result.", "version", &[(&report.version, 1)]);
    let outcomes = one_of(["clean", "residue", "blind", "interrupted"], &text::name(&report.outcome));
    metrics.add(
        "outcome",
        "1 for the outcome that the last run had, 0 for the others.",
        "outcome",
        &outcomes,
    );
    if let Some(needs) = &report.needs {
        let all = one_of(["none", "reboot", "human"], &text::name(&needs.what));
        metrics.add("needs", "1 for what has to be done now, 0 for the others.", "what", &all);
    }
    let Counts { found, removed, left, blind } = report.counts;
    let states = [("found", found), ("removed", removed), ("left", left), ("blind", blind)];
    let states = states.map(|(state, n)| (state, n as u64));
    let help = "Things that were found, removed and left, and places not looked at (blind).";
    metrics.add("residues", help, "state", &states);
    let killed = report.endings.iter().filter(|ending| ending.end == End::Killed).count();
    for (name, help, value) in [
        ("complete", "0 while the run goes on, and after one that was killed.", report.complete.into()),
        ("exit_status", "The exit status of the run.", report.exit_status.into()),
        ("killed_containers", "Containers that did not end in their grace.", killed as u64),
        ("start_time_seconds", "When the run began, since 1970.", report.started_at),
        ("duration_seconds", "How long the run took.", report.elapsed_ms),
    ] {
        metrics.add(name, help, "", &[("", value)]);
    }
    let steps: Vec<_> = report.steps.iter().map(|step| (step.name.to_string(), step.elapsed_ms)).collect();
    let steps: Vec<_> = steps.iter().map(|(name, ms)| (name.as_str(), *ms)).collect();
    metrics.add("step_duration_seconds", "How long each step took.", "step", &steps);
    metrics.out
}

/// 1 beside the word that it is.
fn one_of<const N: usize>(words: [&'static str; N], it: &str) -> [(&'static str, u64); N] {
    words.map(|word| (word, u64::from(word == it)))
}

impl Metrics {
    /// One metric, with a value for each of what the label says. Durations are given in milliseconds.
    fn add(&mut self, name: &str, help: &str, key: &str, samples: &[(&str, u64)]) {
        self.out
            .push_str(&format!("# HELP snap_teardown_{name} {help}\n# TYPE snap_teardown_{name} gauge\n"));
        for (word, value) in samples {
            let more = if key.is_empty() { String::new() } else { format!(",{}", label(key, word)) };
            let value = if name.ends_with("duration_seconds") { seconds(*value) } else { value.to_string() };
            self.out.push_str(&format!("snap_teardown_{name}{{{}{more}}} {value}\n", self.snap));
        }
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// In whole numbers: printing one fraction would link 20 KB.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_value_is_one_whatever_is_in_it() {
        assert_eq!(super::label("snap", "a\"b\\c\nd"), "snap=\"a\\\"b\\\\c\\nd\"");
        assert_eq!(super::seconds(30_007), "30.007");
    }
}
