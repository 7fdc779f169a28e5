//! What text is printed on: how wide it is, and whether it shows colour.

use std::io::IsTerminal;

use crate::cli::wrap::wrap;
use crate::text::printable;

#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// In columns.
    pub width: usize,
    /// True if it shows colour.
    pub colour: bool,
    /// True if it shows all of what is many.
    pub all: bool,
}

/// Narrower than this, tables would be columns of letters.
const NARROWEST: usize = 40;
const USUAL: usize = 80;

impl Page {
    /// Standard output, as it is now. What `COLUMNS` says wins over what the terminal says.
    pub fn of_output() -> Page {
        let output = std::io::stdout();
        let set = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
        let real = || rustix::termios::tcgetwinsize(&output).ok().map(|size| usize::from(size.ws_col));
        let width = set.or_else(real).filter(|w| *w > 0).unwrap_or(USUAL).max(NARROWEST);
        // https://no-color.org: set to anything but nothing.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Page { width, colour: output.is_terminal() && !unwanted && !dumb, all: false }
    }

    /// How many of a kind are shown, if this is what is usual.
    pub fn most(&self, usual: usize) -> usize {
        if self.all { usize::MAX } else { usual }
    }

    /// Headings.
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What is good.
    pub fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What is not.
    pub fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    /// What is neither.
    pub fn yellow(&self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    /// A paragraph in lines that fit, the first with this before it and the others indented as far. What it says may come
    /// from anywhere, and is only shown.
    pub fn paragraph(&self, before: &str, text: &str) -> String {
        let text = &printable(text);
        let indent = before.chars().count();
        let lines = wrap(text, self.width.saturating_sub(indent).max(20), 0);
        let mut out = String::new();
        for (i, line) in lines.iter().enumerate() {
            let start = if i == 0 { before.to_owned() } else { " ".repeat(indent) };
            out.push_str(format!("{start}{line}").trim_end());
            out.push('\n');
        }
        out
    }
}
