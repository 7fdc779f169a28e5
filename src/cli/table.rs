//! Tables that fit the page. What is too long goes on in the next line: nothing is cut off, for a path with
//! its end missing names nothing.

use crate::cli::page::Page;
use crate::cli::wrap::{columns, wrap};
use crate::text::printable;

/// A table with a heading.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

const GAP: usize = 2;
const INDENT: usize = 2;
const NARROWEST: usize = 8;
/// How much further a row's later lines begin, so that rows can be told apart.
const HANG: usize = 2;

impl Table {
    /// An empty table.
    pub fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. What a cell says may come from anywhere, and is only shown.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell).into_owned()).collect());
    }

    /// The table as text; nothing if it has no rows.
    pub fn render(&self, page: &Page) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths = self.widths(page.width);
        let numbers: Vec<bool> = (0..self.head.len()).map(|c| self.is_number(c)).collect();
        let head: Vec<String> = self.head.iter().map(|h| (*h).to_owned()).collect();
        let mut out = page.bold(line(&head, &widths, &numbers).trim_end_matches('\n'));
        out.push('\n');
        self.rows.iter().for_each(|row| out.push_str(&line(row, &widths, &numbers)));
        out
    }

    /// Numbers stand to the right.
    fn is_number(&self, column: usize) -> bool {
        let number = |cell: &String| {
            let (number, unit) = cell.split_once(' ').unwrap_or((cell, ""));
            number.chars().all(|c| c.is_ascii_digit() || c == '.')
                && unit.chars().all(|c| c.is_ascii_alphabetic())
        };
        self.rows.iter().filter_map(|r| r.get(column)).all(number)
    }

    /// As wide as what they hold; where that is too much, the widest give way.
    fn widths(&self, page: usize) -> Vec<usize> {
        let longest = |c: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(c)).map(|cell| columns(cell));
            cells.chain([columns(self.head[c])]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.head.len()).map(longest).collect();
        let room = page.saturating_sub(INDENT + GAP * (widths.len() - 1));
        while widths.iter().sum::<usize>() > room {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

/// One row, in as many lines as its longest cell takes.
fn line(cells: &[String], widths: &[usize], numbers: &[bool]) -> String {
    let cells: Vec<Vec<String>> =
        cells.iter().zip(widths).map(|(cell, width)| wrap(cell, *width, HANG)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = String::new();
    for i in 0..height {
        let mut text = " ".repeat(INDENT);
        for (c, width) in widths.iter().enumerate() {
            let part = cells.get(c).and_then(|cell| cell.get(i)).map_or("", String::as_str);
            let fill = " ".repeat(width.saturating_sub(columns(part)));
            if numbers[c] {
                text.push_str(&fill);
                text.push_str(part);
            } else {
                text.push_str(part);
                text.push_str(&fill);
            }
            text.push_str(&" ".repeat(GAP));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cut_off_and_nothing_is_too_wide() {
        let long =
            "/var/snap/microk8s/common/var/lib/kubelet/pods/0f0c/volumes/kubernetes.io~projected/kube-api";
        let mut table = Table::new(&["POD", "WHERE", "COUNT"]);
        table.row(["default/web-5f7".into(), long.into(), "7".into()]);
        for width in [40, 80, 200] {
            let text = table.render(&Page { width, colour: false, all: false });
            assert!(text.lines().all(|l| l.chars().count() <= width), "{text}");
            let cut = |l: &str| l.get(2..).unwrap_or("").trim().to_owned();
            let whole: String = text.lines().skip(1).map(cut).collect();
            assert!(whole.contains("default/web-5f7") || width < 80, "{text}");
        }
        let wide = table.render(&Page { width: 200, colour: false, all: false });
        assert!(wide.contains(long), "{wide}");
    }

    #[test]
    fn a_character_that_takes_two_columns_is_counted_as_two() {
        let mut table = Table::new(&["POD", "WHERE"]);
        table.row(["名前".into(), "/x".into()]);
        table.row(["web-1".into(), "/y".into()]);
        let text = table.render(&Page { width: 80, colour: false, all: false });
        let columns: Vec<usize> = text.lines().map(|l| columns(&l[..l.rfind(['/', 'W']).unwrap()])).collect();
        assert_eq!(columns, [9, 9, 9], "{text}");
    }

    #[test]
    fn colour_is_only_where_it_is_shown() {
        let mut table = Table::new(&["A"]);
        table.row(["x".into()]);
        assert!(!table.render(&Page { width: 80, colour: false, all: false }).contains('\x1b'));
        assert!(table.render(&Page { width: 80, colour: true, all: false }).contains("\x1b[1m"));
    }

    #[test]
    fn a_cell_does_nothing_to_the_terminal() {
        let mut table = Table::new(&["A"]);
        table.row(["x\u{1b}]0;t\u{7}\n\u{202e}y".into()]);
        let text = table.render(&Page { width: 80, colour: false, all: false });
        assert_eq!(text.lines().nth(1), Some("  x\\033]0;t\\007\\012\\342\\200\\256y"));
    }
}
