//! What an administrator asks before a removal, in ten lines: who ends, and how; what is lost; what stays; what to do first.

use crate::cli::page::Page;
use crate::cli::sizes;
use crate::error::Blind;
use crate::order;
use crate::reason::Reason;
use crate::report::advice::{Advice, word};
use crate::report::note::{Note, NoteKind};
use crate::report::size::Goes;
use crate::report::{Outcome, Report};
use crate::residue::Residue;
use crate::snap::profile::Profile;
use crate::text::{self, many};

/// So many containers, directories and commands are named here.
const NAMED: usize = 3;

/// The answers.
pub fn answers(report: &Report, profile: &Profile, page: &Page) -> String {
    let is_there = report.outcome != Outcome::Clean;
    let mut out = String::new();
    if is_there {
        out.push_str(&page.paragraph("  ends   ", &ends(report, profile, page)));
    }
    out.push_str(&page.paragraph("  lost   ", lost(report).as_deref().unwrap_or("no data was seen")));
    out.push_str(&page.paragraph("  stays  ", &stays(report, page)));
    if is_there || !is_free(report) {
        out.push_str(&first(report, page));
    }
    out
}

/// True for a note that the answers have told, names that were too many for them aside.
pub fn has_told(note: &Note) -> bool {
    use NoteKind::{Cluster, Graces, HostVolumes, Instances, NetworkVolumes, Pods};
    match note.kind {
        Cluster | Instances | Pods => true,
        Graces | HostVolumes | NetworkVolumes => note.items.len() <= NAMED,
        _ => false,
    }
}

fn note(report: &Report, kind: NoteKind) -> Option<&Note> {
    report.notes.iter().find(|note| note.kind == kind)
}

fn items(report: &Report, kind: NoteKind) -> &[String] {
    note(report, kind).map_or(&[], |note| &note.items)
}

/// Pods by their names, each with the ways in which its containers are asked to end.
fn ends(report: &Report, profile: &Profile, page: &Page) -> String {
    let graces = items(report, NoteKind::Graces);
    let pods = items(report, NoteKind::Pods);
    let named = if graces.is_empty() { pods } else { graces };
    if named.is_empty() {
        return "no container runs".into();
    }
    let shown = named.len().min(page.most(NAMED));
    let more = match named.len() - shown {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "{} ({}), in {} s at most: {}{more}",
        many(pods.len() as u64, "pod"),
        many(number(report, |r| matches!(r, Residue::Task(_))), "container"),
        profile.patience.deadline,
        named[..shown].join("; ")
    )
}

/// How many of a kind are there, each once.
pub fn number(report: &Report, of: fn(&Residue) -> bool) -> u64 {
    let all = report.steps.iter().flat_map(|step| &step.left).map(|left| &*left.residue);
    order::set(all.filter(|residue| of(residue)).map(Residue::key)).len() as u64
}

/// What of the snap's data is lost, and when; none if there is nothing.
pub fn lost(report: &Report) -> Option<String> {
    let told = |goes| sizes::told(&report.sizes, goes);
    let mut lost = told(Goes::WithTheRun);
    let with_the_snap = told(Goes::WithTheSnap);
    if !with_the_snap.is_empty() {
        lost.push_str(if lost.is_empty() { "with the snap: " } else { "; with the snap: " });
        lost.push_str(&with_the_snap);
    }
    (!lost.is_empty()).then_some(lost)
}

fn stays(report: &Report, page: &Page) -> String {
    let mut stays: Vec<String> = Vec::new();
    if report.sizes.iter().any(|size| size.goes == Goes::WithTheSnap) {
        stays.push("the snapshot that snapd may make of what goes with the snap (not with --purge)".into());
    }
    let others = items(report, NoteKind::Instances);
    if !others.is_empty() {
        stays.push(format!("other instances: {}", text::few(others, page.most(NAMED))));
    }
    for kind in [NoteKind::HostVolumes, NoteKind::NetworkVolumes] {
        let named = items(report, kind);
        if !named.is_empty() {
            stays.push(text::few(named, page.most(NAMED)));
        }
    }
    let outside = sizes::told(&report.sizes, Goes::Stays);
    if !outside.is_empty() {
        stays.push(format!("outside of the snap: {outside}"));
    }
    if stays.is_empty() { "nothing that was seen".into() } else { stays.join("; ") }
}

/// What stands in the way, with what to type.
fn first(report: &Report, page: &Page) -> String {
    let mut out = String::new();
    let mut way = |sentence: &str, commands: &[String]| {
        let label = if out.is_empty() { "  first  " } else { "         " };
        out.push_str(&page.paragraph(label, sentence));
        for (at, command) in commands.iter().enumerate() {
            if at == page.most(NAMED) {
                out.push_str("           … (all of them: --all)\n");
                break;
            }
            out.push_str(&format!("           {}\n", text::printable(command)));
        }
    };
    let silent: Vec<String> =
        in_doubt(report, true).iter().map(|point| format!("umount -f -l {}", word(point))).collect();
    let points = mounts(report);
    let of_mounts = doubts(report).filter(|blind| blind.mount.is_some());
    let of_mounts = order::set(of_mounts.map(|blind| (&blind.what, &blind.why)));
    let unknown = report.counts.blind.saturating_sub(of_mounts.len());
    if !silent.is_empty() {
        way(
            "a mount does not answer: bring its server back, or give it up, with what was not written there yet:",
            &silent,
        );
    }
    if !points.is_empty() {
        let (sentence, commands) = Advice::UnmountOnHost { points }.in_commands();
        way(&sentence, &commands);
    }
    if let Some(note) = membership(report) {
        way(&note.told(page.most(NAMED)), &[]);
    }
    if unknown > 0 {
        way(&format!("{} could not be looked at (below)", many(unknown as u64, "place")), &[]);
    }
    if is_free(report) {
        way("Nothing was seen that would stand in the way of the removal.", &[]);
    }
    out
}

/// True if nothing stands in the way.
pub fn is_free(report: &Report) -> bool {
    mounts(report).is_empty() && membership(report).is_none() && report.counts.blind == 0
}

/// Where something is mounted over which snapd fails: what is nothing of the snap's, and what only the host can unmount.
fn mounts(report: &Report) -> Vec<String> {
    let mut points = in_doubt(report, false);
    for advice in &report.advice {
        if let Advice::UnmountOnHost { points: advised } = advice {
            points.extend_from_slice(advised);
        }
    }
    points
}

/// The mounts that do not answer, or the others that doubts are about; deepest first, since only so they can be unmounted one
/// after the other.
fn in_doubt(report: &Report, silent: bool) -> Vec<String> {
    let mut points = Vec::new();
    for blind in doubts(report).filter(|blind| (blind.reason == Reason::Silent) == silent) {
        if let Some(point) = blind.mount.as_ref().filter(|point| !points.contains(*point)) {
            // The table has a mount before those that stand on it.
            points.insert(0, point.clone());
        }
    }
    points
}

fn doubts(report: &Report) -> impl Iterator<Item = &Blind> {
    report.steps.iter().flat_map(|step| &step.blind)
}

/// That the node is a member of a cluster.
fn membership(report: &Report) -> Option<&Note> {
    note(report, NoteKind::Cluster)
}

#[cfg(test)]
mod tests;
