//! Paths in JSON: readable when they are plain, and never lossy when they are not.
//!
//! A path on Linux is bytes. What is not printable UTF-8 is written as `\ooo`, the way mountinfo does it, so
//! that a hostile name can neither break a document nor fake a line of it, and can still be read back. Characters
//! that turn the direction of text or cannot be seen count as not printable.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The path as text, with odd bytes as `\ooo`.
pub fn show(path: &Path) -> Cow<'_, str> {
    escape(path.as_os_str().as_bytes())
}

/// Any bytes as text, with odd bytes as `\ooo`.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    // Nearly all are plain ASCII, which needs no decoding to be told.
    let plain = bytes.iter().all(|b| matches!(b, b' '..=b'~') && *b != b'\\');
    if let Ok(text) = std::str::from_utf8(bytes)
        && (plain || !text.chars().any(|c| is_odd(c) || c == '\\'))
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_odd(c) || c == '\\' {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|b| push_octal(&mut out, b));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|b| push_octal(&mut out, *b));
    }
    Cow::Owned(out)
}

/// True for a character that does something to a terminal or to a line besides being shown: control characters, which
/// begin escape sequences and lines, and those that turn the direction of what follows, or are not seen at all.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text that may have come from anywhere, in part, as one line that a terminal or the journal only shows. What was
/// escaped before stays as it is.
pub fn printable(text: &str) -> Cow<'_, str> {
    replace_odd(text, |out, c| {
        let mut buffer = [0; 4];
        c.encode_utf8(&mut buffer).bytes().for_each(|b| push_octal(out, b));
    })
}

/// JSON that says the same, and does nothing to a terminal: such characters stand within strings only, and serde_json
/// leaves most of them as they are.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    replace_odd(json, |out, c| {
        let mut buffer = [0; 2];
        c.encode_utf16(&mut buffer).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
    })
}

fn replace_odd(text: &str, replace: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let plain = text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if plain || !text.chars().any(is_odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_odd(c) { replace(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// The JSON of anything.
pub fn json(value: &impl Serialize) -> String {
    let mut json = Vec::new();
    match write_json(&mut json, value) {
        Ok(()) => String::from_utf8(json).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// Writes the JSON of anything. All that we write goes through here: for each kind of writer the code for a whole document
/// would be there once more.
pub fn write_json(to: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(to, value).map_err(io::Error::from)
}

/// Writes what [`printable_json`] makes of a value's JSON, piece by piece: the document of a large world is larger than all
/// else that we know.
pub fn write_printable_json(to: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let mut pieces = io::BufWriter::with_capacity(PIECE, PrintableJson(to));
    write_json(&mut pieces, value)?;
    pieces.flush()
}

/// Of a document that has kilobytes for each pod.
const PIECE: usize = 64 << 10;

/// Passes JSON on as [`printable_json`] does. serde_json writes strings in whole characters, and a buffer keeps writes whole.
struct PrintableJson<'a>(&'a mut dyn Write);

impl Write for PrintableJson<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const DELETE: u8 = 0x7f;
        match std::str::from_utf8(bytes) {
            // serde_json has escaped the other control characters.
            Ok(text) if !text.is_ascii() || bytes.contains(&DELETE) => {
                self.0.write_all(printable_json(text).as_bytes())?;
            }
            _ => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One word for a POSIX shell. What is not printable goes through its printf, so that the command can be read before
/// it is run.
pub fn shell_word(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+:,@%=".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(is_odd)
    {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut out = String::from("\"$(printf '");
    for byte in bytes {
        match byte {
            b if plain(b) && *b != b'%' => out.push(char::from(*b)),
            b => push_octal(&mut out, *b),
        }
    }
    out + "')\""
}

fn push_octal(out: &mut String, byte: u8) {
    out.push_str(&format!("\\{byte:03o}"));
}

/// Undoes [`escape`]. The kernel escapes mountinfo in the same way, so this reads both.
pub fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(field.len());
    unescape_to(&mut out, field)?;
    Some(out)
}

/// The same at the end of what is there.
pub fn unescape_to(out: &mut Vec<u8>, field: &[u8]) -> Option<()> {
    // As nearly all are; a mount table has megabytes of them.
    if !field.contains(&b'\\') {
        out.extend_from_slice(field);
        return Some(());
    }
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'\\' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let digits = tail.get(..3)?;
        let value = digits
            .iter()
            .try_fold(0u32, |n, d| matches!(d, b'0'..=b'7').then(|| n * 8 + u32::from(d - b'0')))?;
        out.push(u8::try_from(value).ok()?);
        rest = &tail[3..];
    }
    Some(())
}

/// For `#[serde(with = "text")]` on a path.
pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show(path))
}

/// For `#[serde(with = "text")]` on a path.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    path(&String::deserialize(from)?)
}

/// The path that was written as this text.
pub fn path<E: serde::de::Error>(text: &str) -> Result<PathBuf, E> {
    let bytes = unescape(text.as_bytes()).ok_or_else(|| E::custom("a path with a bad escape"))?;
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// The same for a list of paths.
pub mod list {
    use super::*;
    use serde::ser::SerializeSeq;

    /// For `#[serde(with = "text::list")]`.
    pub fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        let mut seq = to.serialize_seq(Some(paths.len()))?;
        paths.iter().try_for_each(|p| seq.serialize_element(&show(p)))?;
        seq.end()
    }

    /// For `#[serde(with = "text::list")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Vec::<One>::deserialize(from).map(|all| all.into_iter().map(|One(p)| p).collect())
    }

    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "super::deserialize")] PathBuf);
}

/// The same for a path that may be absent.
pub mod option {
    use super::*;

    /// For `#[serde(with = "text::option")]`.
    pub fn serialize<S: Serializer, P: AsRef<Path>>(path: &Option<P>, to: S) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => to.serialize_some(&show(path.as_ref())),
            None => to.serialize_none(),
        }
    }

    /// For `#[serde(with = "text::option")]`.
    pub fn deserialize<'de, D: Deserializer<'de>, P: From<PathBuf>>(from: D) -> Result<Option<P>, D::Error> {
        #[derive(Deserialize)]
        struct One(#[serde(deserialize_with = "super::deserialize")] PathBuf);
        Ok(Option::<One>::deserialize(from)?.map(|One(p)| p.into()))
    }
}

/// The word that JSON has for a unit variant.
pub fn name(value: &impl Serialize) -> String {
    json(value).trim_matches('"').to_owned()
}

/// So many of them.
pub fn many(number: u64, what: &str) -> String {
    let more = match number {
        1 => "",
        _ if what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {what}{more}")
}

/// The first of some names, and how many more there are.
pub fn few<T: std::borrow::Borrow<str>>(names: &[T], most: usize) -> String {
    let shown = names.len().min(most);
    let more = match names.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names[..shown].join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [many(1, "process"), many(2, "process"), many(0, "pod")],
            ["1 process", "2 processes", "0 pods"]
        );
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (1..=255).collect();
        assert_eq!(unescape(escape(&all).as_bytes()).unwrap(), all);
        assert_eq!(escape(b"/plain/path"), "/plain/path");
        assert_eq!(escape(b"a\nb\\c\xff"), "a\\012b\\134c\\377");
    }

    #[test]
    fn what_speaks_to_a_terminal_is_only_shown() {
        let hostile = "a\u{1b}]0;x\u{7}\u{9b}31m\nb\u{202e}c\u{2066}d\u{7f}\u{85}\u{2028}e";
        let shown = printable(hostile);
        assert!(!shown.chars().any(is_odd), "{shown:?}");
        assert_eq!(printable("a\\012b é 名"), "a\\012b é 名", "what was escaped is not escaped again");
        assert_eq!(unescape(escape(hostile.as_bytes()).as_bytes()).unwrap(), hostile.as_bytes());
        assert!(!escape(hostile.as_bytes()).chars().any(is_odd));
        let json = json(&[hostile, "\u{e0041}"]);
        let safe = printable_json(&json);
        assert!(!safe.chars().any(is_odd), "{safe:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), [hostile, "\u{e0041}"]);
        let mut written = Vec::new();
        write_printable_json(&mut written, &[hostile, "\u{e0041}"]).unwrap();
        assert_eq!(written, safe.as_bytes());
    }

    #[test]
    fn a_word_is_one_to_a_shell_and_the_same_one() {
        for word in
            ["/a/b", "a b", "x;touch y", "$(id)`id`", "d'e'f", "", "-", "\u{1b}[31m\n'%s\\", "a\u{202e}b"]
        {
            let command = format!("printf %s {}", shell_word(word.as_bytes()));
            let said = std::process::Command::new("/bin/sh").args(["-c", &command]).output().unwrap();
            assert_eq!(said.stdout, word.as_bytes(), "{command}");
            assert!(!command.chars().any(is_odd), "{command:?}");
        }
    }
}
