//! What a survey and a result have in common.

use std::collections::BTreeMap;

use crate::cli::page::Page;
use crate::cli::table::Table;
use crate::order;
use crate::report::advice::Advice;
use crate::report::{Command, Outcome, Report};
use crate::text;

/// More rows of a kind than this are for machines to read.
pub const MAX_NAMED: usize = 60;

/// That there are more than is shown.
pub fn more(all: usize, shown: usize) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        hidden => format!("  … and {hidden} more (all of them: --all)\n"),
    }
}

pub fn section(page: &Page, title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n{}\n{body}", page.bold(title)) }
}

/// The outcome, and where and when.
pub fn head(report: &Report, page: &Page) -> String {
    headline(report, page) + &facts(report, page)
}

/// The outcome.
pub fn headline(report: &Report, page: &Page) -> String {
    let all_seen = report.command == Command::Remove || nix::unistd::geteuid().is_root();
    let first =
        match all_seen {
            true => String::new(),
            false => page.yellow(&page.paragraph(
                "",
                "Not run as root, so what follows is neither whole nor sure: run it with sudo.",
            )),
        };
    let line = page.paragraph("", &report.headline());
    let line = match (report.command, report.outcome) {
        (Command::Survey, _) => page.bold(line.trim_end()) + "\n",
        (_, Outcome::Clean) => page.green(&line),
        (_, Outcome::Residue) => page.red(&line),
        (_, Outcome::Blind | Outcome::Interrupted) => page.yellow(&line),
    };
    first + &line
}

/// Where and when.
pub fn facts(report: &Report, page: &Page) -> String {
    let host = &report.host;
    let facts = [
        Some(moment(report.started_at)),
        report.snap.revision.as_ref().map(|r| format!("revision {r}")),
        report.snap.containerd.as_ref().map(|v| format!("containerd {v}")),
        Some(format!("profile {}", report.profile)),
        Some(format!("cgroup {}", host.cgroup)),
        Some(format!("kernel {}", host.kernel)),
        host.label.as_ref().map(|l| format!("AppArmor {l}")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    page.paragraph("", &facts.join(", "))
}

/// Commands are not broken where the page ends: they are there to be copied.
pub fn what_to_do(advice: &Advice, page: &Page) -> String {
    let (sentence, commands) = advice.in_commands();
    let mut out = page.paragraph("  - ", &sentence);
    commands.iter().for_each(|command| out.push_str(&format!("    {}\n", text::printable(command))));
    out
}

pub fn blind(report: &Report, page: &Page) -> String {
    let mut table = Table::new(&["WHAT", "WHY"]);
    let all = order::set(report.steps.iter().flat_map(|s| &s.blind).map(|b| (&b.what, &b.why)));
    // To whom is not root, all of it is closed for the same reason.
    let most = page.most(if nix::unistd::geteuid().is_root() { MAX_NAMED } else { 3 });
    all.iter().take(most).for_each(|(what, why)| table.row([(*what).clone(), (*why).clone()]));
    let mut body = table.render(page);
    body.push_str(&more(all.len(), most));
    section(page, "could not be looked at", &body)
}

/// Many look alike for the same reason: one row for each reason.
pub fn bystanders(report: &Report, page: &Page) -> String {
    const NAMED: usize = 5;
    let mut reasons: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
    for bystander in report.scope.iter().flat_map(|s| &s.bystanders) {
        reasons.entry(&bystander.why).or_default().push(&bystander.what);
    }
    let mut table = Table::new(&["WHAT", "WHY"]);
    for (why, what) in reasons {
        table.row([text::few(&what, page.most(NAMED)), why.clone()]);
    }
    section(page, "looks like the snap's, is not, and is left alone", &table.render(page))
}

pub fn printable(word: &str) -> String {
    text::escape(word.as_bytes()).into_owned()
}

/// A moment of the wall clock, in UTC: no time zone files are read.
fn moment(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days are counted from 1 March of year 0, so that the day that some years have more is a year's last.
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let day = day - (153 * shifted + 2) / 5 + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(moment(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(moment(1_795_467_600), "2026-11-23 21:00:00 UTC");
    }

    #[test]
    fn a_command_stays_one_line_however_narrow_the_page() {
        let points = vec![format!("/{}/reboot", "long".repeat(30)), "/x y".into()];
        let page = Page { width: 40, colour: false, all: false };
        let text = what_to_do(&Advice::UnmountOnHost { points: points.clone() }, &page);
        assert!(text.ends_with(&format!("\n    umount {}\n    umount '/x y'\n", points[0])), "{text}");
    }
}
