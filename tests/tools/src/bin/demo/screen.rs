//! What the demonstration shows: on the screen, in the file that holds the whole, and in the README's picture.

use std::io::{BufRead, BufReader, IsTerminal, PipeReader};

use support::Result;

/// The two places to which the demonstration writes: a short text, and all of it.
pub struct Screen;

impl Screen {
    pub fn title(&mut self, text: &str) {
        self.say(&format!("\n{TITLE}{text}\n"));
    }

    /// For both.
    pub fn say(&mut self, text: &str) {
        println!("{}", text.trim_end_matches('\n'));
        eprintln!("{}", text.replace(TITLE, "== "));
    }

    /// Only for those who read all of it.
    pub fn aside(&mut self, text: &str) {
        eprintln!("{text}");
    }

    /// The first paragraphs for the screen, as many as fit into `lines`, and how many lines more there are.
    pub fn part_of(&mut self, text: &str, lines: usize) {
        eprintln!("{text}");
        let all: Vec<&str> = text.trim_end().lines().collect();
        // Up to where a paragraph ends, so that no table is torn.
        let end = all.iter().take(lines + 1).rposition(|line| line.is_empty());
        let end = if all.len() <= lines { all.len() } else { end.unwrap_or(lines) };
        for line in &all[..end] {
            println!("{}", format!("  {line:.104}").trim_end());
        }
        if all.len() > end {
            println!("  … and {} more lines, in the file named below", all.len() - end);
        }
    }
}

/// Begins a title, on its way from the world to the screen.
const TITLE: char = '\u{1}';

/// Shows what comes through the pipe as it comes, titles bold on a terminal, and returns it.
pub fn pass_on(from: PipeReader) -> std::result::Result<String, std::io::Error> {
    let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut all = String::new();
    for line in BufReader::new(from).lines() {
        let line = line?;
        match line.strip_prefix(TITLE) {
            Some(title) if bold => println!("\u{1b}[1m{title}\u{1b}[0m"),
            Some(title) => println!("{title}"),
            None => println!("{line}"),
        }
        all.push_str(&line);
        all.push('\n');
    }
    Ok(all)
}

const LINE: usize = 17;
const COLUMNS: usize = 108;

/// A picture of a terminal with this text, as SVG.
pub fn picture(text: &str) -> String {
    let lines: Vec<&str> = text.trim_matches('\n').lines().collect();
    let (width, height) = (COLUMNS * 8, (lines.len() + 2) * LINE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>tests/demo: a container snap is removed</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1c1f26\"/>\n\
         <g font-family=\"DejaVu Sans Mono,Menlo,Consolas,monospace\" font-size=\"13\" fill=\"#d5d9e0\" xml:space=\"preserve\">\n"
    );
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let (line, look) = match line.strip_prefix(TITLE) {
            Some(title) => (title, " fill=\"#8fd18a\" font-weight=\"bold\""),
            None => (*line, ""),
        };
        let escaped = line.replace('&', "&amp;").replace('<', "&lt;");
        svg.push_str(&format!(
            "<text x=\"16\" y=\"{}\"{look}>{escaped}</text>\n",
            (number + 1) * LINE + LINE / 2
        ));
    }
    svg + "</g>\n</svg>\n"
}

/// A table without lines, its columns as wide as they must be.
pub fn table(rows: &[Vec<String>]) -> Result<String> {
    let columns = rows.iter().map(Vec::len).max().ok_or("a table without rows")?;
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("   {}", cells.join("  ").trim_end())
    };
    Ok(rows.iter().map(line).collect::<Vec<_>>().join("\n"))
}
