//! A result as metrics: for the textfile collector of Prometheus' node_exporter.

use crate::remove::drain::ending::End;
use crate::report::{Counts, Outcome, Report, What};
use crate::text;

/// One value for each set of labels.
struct Metrics {
    out: String,
    /// The label that all have.
    snap: String,
}

/// The metrics of a result, each with its help and its type.
pub fn of(report: &Report) -> String {
    let mut metrics = Metrics { out: String::new(), snap: label("snap", &report.snap.instance) };
    let revision = report.snap.revision.as_deref().unwrap_or_default();
    let about = format!(",{},{}", label("version", &report.version), label("revision", revision));
    metrics.add(
        "info",
        "The program that wrote the result, and the snap's revision.",
        &[(about, "1".into())],
    );
    let outcomes = [Outcome::Clean, Outcome::Residue, Outcome::Blind, Outcome::Interrupted];
    let outcomes = outcomes.map(|it| one_of("outcome", &text::name(&it), it == report.outcome));
    metrics.add("outcome", "1 for the outcome that the last run had, 0 for the others.", &outcomes);
    if let Some(needs) = &report.needs {
        let all = [What::None, What::Reboot, What::Human];
        let all = all.map(|it| one_of("what", &text::name(&it), it == needs.what));
        metrics.add("needs", "1 for what has to be done now, 0 for the others.", &all);
    }
    let plain = |value: u64| [(String::new(), value.to_string())];
    metrics.add(
        "complete",
        "0 while the run goes on, and after one that was killed.",
        &plain(report.complete.into()),
    );
    metrics.add("exit_status", "The exit status of the run.", &plain(report.exit_status.into()));
    let Counts { found, removed, left, blind } = report.counts;
    let states = [("found", found), ("removed", removed), ("left", left), ("blind", blind)];
    let states = states.map(|(state, n)| (format!(",{}", label("state", state)), n.to_string()));
    metrics.add(
        "residues",
        "Things that were found, removed and left, and places not looked at (blind).",
        &states,
    );
    let killed = report.endings.iter().filter(|ending| ending.end == End::Killed).count();
    metrics.add("killed_containers", "Containers that did not end in their grace.", &plain(killed as u64));
    metrics.add("start_time_seconds", "When the run began, since 1970.", &plain(report.started_at));
    let whole = [(String::new(), seconds(report.elapsed_ms))];
    metrics.add("duration_seconds", "How long the run took.", &whole);
    let steps = report.steps.iter();
    let steps =
        steps.map(|step| (format!(",{}", label("step", &step.name.to_string())), seconds(step.elapsed_ms)));
    metrics.add("step_duration_seconds", "How long each step took.", &steps.collect::<Vec<_>>());
    metrics.out
}

impl Metrics {
    fn add(&mut self, name: &str, help: &str, samples: &[(String, String)]) {
        let head = format!("# HELP snap_teardown_{name} {help}\n# TYPE snap_teardown_{name} gauge\n");
        self.out.push_str(&head);
        for (labels, value) in samples {
            self.out.push_str(&format!("snap_teardown_{name}{{{}{labels}}} {value}\n", self.snap));
        }
    }
}

fn one_of(name: &str, word: &str, is_it: bool) -> (String, String) {
    (format!(",{}", label(name, word)), u8::from(is_it).to_string())
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
