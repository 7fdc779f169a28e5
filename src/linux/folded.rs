//! Texts in which paths follow one another, in little room: an overlay's options name a dozen directories that begin alike,
//! and there may be ten thousand overlays.
//!
//! Each path is written as how many bytes of the one before it are its own, too, how many follow, and these.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What stands before a path.
const BEFORE_PATHS: &[u8] = b",:=\0";

/// The bytes before those that follow.
const HEAD: usize = 3;

/// Adds a text, folded.
pub fn fold(text: &[u8], to: &mut Vec<u8>) {
    let paths = text.chunk_by(|before, after| *after != b'/' || !BEFORE_PATHS.contains(before));
    let mut last: &[u8] = &[];
    for part in paths.flat_map(|path| path.chunks(usize::from(u16::MAX))) {
        let alike = part.iter().zip(last).take(usize::from(u8::MAX)).take_while(|(own, its)| own == its);
        let same = alike.count();
        let rest = &part[same..];
        to.push(same as u8);
        to.extend((rest.len() as u16).to_le_bytes());
        to.extend(rest);
        last = part;
    }
}

/// The text again.
pub fn unfold(mut folded: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut last = 0;
    while let Some(([same, low, high], rest)) = folded.split_first_chunk::<HEAD>() {
        let begin = text.len();
        text.extend_from_within(last..last + usize::from(*same));
        let (part, rest) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])));
        text.extend(part);
        (last, folded) = (begin, rest);
    }
    text
}

/// Some paths: what is bound into a container lies mostly below one directory of its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths(Box<[u8]>);

impl Paths {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// They, in their order.
    pub fn list(&self) -> Vec<PathBuf> {
        let text = unfold(&self.0);
        let paths = text.split_inclusive(|byte| *byte == END);
        paths.map(|path| OsStr::from_bytes(path.strip_suffix(&[END]).unwrap_or(path)).into()).collect()
    }
}

impl From<Vec<PathBuf>> for Paths {
    fn from(paths: Vec<PathBuf>) -> Paths {
        let text = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), &[END]]).collect::<Vec<_>>();
        let mut folded = Vec::new();
        fold(&text.concat(), &mut folded);
        Paths(folded.into())
    }
}

/// No path has it.
const END: u8 = b'\0';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_folded_is_the_same_again_and_smaller_where_paths_are_alike() {
        let of = |n| format!("/var/snap/microk8s/common/var/lib/containerd/snapshots/{n}/fs");
        let layers = &format!("lowerdir={}:{},upperdir={},workdir={}", of(1), of(22), of(3), of(4));
        let long = ["/", &"x".repeat(70_000), ":/", &"x".repeat(70_000)].concat();
        for text in ["", "/", "rw", "rw,size=4k", "a=/:/:/,:,/b", "=/a:/a:/ab:/a", layers, &long] {
            let mut folded = Vec::new();
            fold(text.as_bytes(), &mut folded);
            assert_eq!(unfold(&folded), text.as_bytes());
        }
        let mut folded = b"before ".to_vec();
        fold(layers.as_bytes(), &mut folded);
        assert!(folded.starts_with(b"before ") && folded.len() < 7 + layers.len() / 2);
    }

    #[test]
    fn paths_are_the_same_again() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        for names in [&[][..], &["/a"], &["/a:/b", "/a:/b,/c", "/", "/aa/b"]] {
            assert_eq!(Paths::from(paths(names)).list(), paths(names));
            assert_eq!(Paths::from(paths(names)).is_empty(), names.is_empty());
        }
    }
}
