//! Paths in JSON: readable when they are plain, and never lossy when they are not.
//!
//! A path on Linux is bytes. What is not printable UTF-8 is written as `\ooo`, the way mountinfo does it, so
//! that a hostile name can neither break a document nor fake a line of it, and can still be read back.

use std::borrow::Cow;
use std::ffi::OsString;
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
        && (plain || !text.chars().any(|c| c.is_control() || c == '\\'))
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
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

fn push_octal(out: &mut String, byte: u8) {
    out.push_str(&format!("\\{byte:03o}"));
}

/// Undoes [`escape`]. The kernel escapes mountinfo in the same way, so this reads both.
pub fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    // As nearly all are; a mount table has megabytes of them.
    if !field.contains(&b'\\') {
        return Some(field.to_vec());
    }
    let mut out = Vec::with_capacity(field.len());
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
    Some(out)
}

/// For `#[serde(with = "text")]` on a path.
pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show(path))
}

/// For `#[serde(with = "text")]` on a path.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(from)?;
    let bytes =
        unescape(text.as_bytes()).ok_or_else(|| serde::de::Error::custom("a path with a bad escape"))?;
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
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => to.serialize_some(&show(path)),
            None => to.serialize_none(),
        }
    }

    /// For `#[serde(with = "text::option")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        #[derive(Deserialize)]
        struct One(#[serde(deserialize_with = "super::deserialize")] PathBuf);
        Ok(Option::<One>::deserialize(from)?.map(|One(p)| p))
    }
}

/// The word that JSON has for a unit variant.
pub fn name(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (1..=255).collect();
        assert_eq!(unescape(escape(&all).as_bytes()).unwrap(), all);
        assert_eq!(escape(b"/plain/path"), "/plain/path");
        assert_eq!(escape(b"a\nb\\c\xff"), "a\\012b\\134c\\377");
    }
}
