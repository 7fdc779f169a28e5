//! Where in a JSON text a value stands.
//!
//! The parser says in which line it gave up, but not at which key; and what is found wrong after it has neither. People
//! who wrote the text want both.

use crate::error::Position;
use crate::json;

/// Deeper than this the parser does not go either.
const MAX_DEPTH: usize = 128;

/// What a value lies in.
enum Level {
    /// An object, and the key whose value comes next, once it is read.
    Object { key: Option<String> },
    /// A list, and the number of the value that comes next.
    List(usize),
}

/// The position of a byte of the text.
fn position(text: &[u8], at: usize) -> Position {
    let before = &text[..at.min(text.len())];
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    Position { line: 1 + before.iter().filter(|b| **b == b'\n').count(), column: at - start + 1 }
}

/// Where the value of a key stands (`network.links[1]`), or the nearest around it that is there.
pub fn of_key(text: &[u8], key: &str) -> Option<Position> {
    let mut nearest: Option<(usize, usize)> = None;
    visit(text, &mut |path, at| {
        let around = path.is_empty()
            || key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if around && nearest.is_none_or(|(length, _)| path.len() > length) {
            nearest = Some((path.len(), at));
        }
    });
    nearest.map(|(_, at)| position(text, at))
}

/// The key of the last value that begins at or before a place, or behind the blanks there: a parser that finds a value
/// of the wrong kind stops in front of it.
pub fn key_at(text: &[u8], place: &Position) -> Option<String> {
    let lines = text.split_inclusive(|b| *b == b'\n').take(place.line.saturating_sub(1));
    let place = lines.map(<[u8]>::len).sum::<usize>() + place.column.saturating_sub(1);
    let blanks = text.iter().skip(place).take_while(|b| b.is_ascii_whitespace() || **b == b':').count();
    let mut last = None;
    visit(text, &mut |path, at| {
        if at <= place + blanks {
            last = Some(path.to_owned());
        }
    });
    last.filter(|key| !key.is_empty())
}

/// The key of the object in which a place is; none in the outermost one.
pub fn open_at(text: &[u8], place: &Position) -> Option<String> {
    let lines = text.split_inclusive(|b| *b == b'\n').take(place.line.saturating_sub(1));
    let end = lines.map(<[u8]>::len).sum::<usize>() + place.column.saturating_sub(1);
    let open = visit(&text[..end.min(text.len())], &mut |_, _| {});
    open.split_last().map(|(_, above)| path(above)).filter(|key| !key.is_empty())
}

/// Tells each value's key and where it begins, as far as the text is JSON. Returns what is still open at its end.
fn visit(text: &[u8], tell: &mut impl FnMut(&str, usize)) -> Vec<Level> {
    let mut open: Vec<Level> = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b':' => {}
            b'{' | b'[' if open.len() < MAX_DEPTH => {
                tell(&path(&open), at);
                open.push(if *byte == b'{' { Level::Object { key: None } } else { Level::List(0) });
            }
            b'{' | b'[' => return open,
            b'}' | b']' => drop(open.pop()),
            b',' => match open.last_mut() {
                Some(Level::Object { key }) => *key = None,
                Some(Level::List(n)) => *n += 1,
                None => return open,
            },
            _ => {
                let end = end_of(text, at);
                match open.last_mut() {
                    Some(Level::Object { key: key @ None }) => *key = Some(word(&text[at..end])),
                    _ => tell(&path(&open), at),
                }
                at = end - 1;
            }
        }
        at += 1;
    }
    open
}

/// Behind a string, or behind a number or a word.
fn end_of(text: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    if text[at] != b'"' {
        let ends =
            |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"');
        while text.get(end).is_some_and(|b| !ends(b)) {
            end += 1;
        }
        return end;
    }
    while let Some(byte) = text.get(end) {
        match byte {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    text.len()
}

/// A key as it is meant.
fn word(quoted: &[u8]) -> String {
    json::parse(quoted).unwrap_or_else(|_| String::from_utf8_lossy(quoted).into_owned())
}

fn path(open: &[Level]) -> String {
    let mut path = String::new();
    for level in open {
        match level {
            Level::Object { key } => {
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(&format!("{dot}{}", key.as_deref().unwrap_or_default()));
            }
            Level::List(n) => path.push_str(&format!("[{n}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = br#"{
  "a": {"b": ["x,\"]", {"c": -1.5e3}], "b2": null},
  "d": "\u002fetc"
}"#;

    #[test]
    fn every_value_has_a_key_and_a_place() {
        let mut all = Vec::new();
        visit(TEXT, &mut |key, at| all.push((key.to_owned(), TEXT[at])));
        let keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["", "a", "a.b", "a.b[0]", "a.b[1]", "a.b[1].c", "a.b2", "d"]);
        assert_eq!(all[5].1, b'-');
        assert_eq!(of_key(TEXT, "a.b[1].c"), Some(Position { line: 2, column: 30 }));
        assert_eq!(of_key(TEXT, "d"), Some(Position { line: 3, column: 8 }));
        assert_eq!(key_at(TEXT, &Position { line: 2, column: 34 }).as_deref(), Some("a.b[1].c"));
    }

    #[test]
    fn what_is_not_there_is_where_it_would_be() {
        assert_eq!(of_key(TEXT, "a.nothing"), of_key(TEXT, "a"));
        assert_eq!(of_key(TEXT, "a.b3"), of_key(TEXT, "a"));
        assert_eq!(of_key(TEXT, "nothing"), Some(Position { line: 1, column: 1 }));
        assert_eq!(of_key(b"", "a"), None);
    }

    #[test]
    fn no_text_is_too_broken() {
        for length in 0..TEXT.len() {
            visit(&TEXT[..length], &mut |_, at| assert!(at < length));
            let _ = visit(&TEXT[length..], &mut |_, _| {});
        }
        for text in ["\"\\", "]]],,,", "{{{{", "[1,[2,", "\"a\\\"", "{\"a\"\"b\"}", "}{"] {
            visit(text.as_bytes(), &mut |_, at| assert!(at < text.len()));
        }
        visit(&[b'['; 100_000], &mut |key, _| assert!(key.len() <= 3 * MAX_DEPTH));
    }
}
