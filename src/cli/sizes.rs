//! How much a directory holds, as far as can be told in a moment.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::sections::many;
use crate::linux::child::{self, ChildEnd};
use crate::order;
use crate::text;

/// Images are hundreds of thousands of files: counting them all may take longer than anybody waits for.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// Sizes of directories, each counted once.
#[derive(Default)]
pub struct Sizes(HashMap<PathBuf, String>);

impl Sizes {
    /// In words.
    pub fn of(&mut self, directory: &Path) -> &str {
        self.0.entry(directory.to_path_buf()).or_insert_with(|| measure(directory))
    }
}

/// What lies two levels below a directory, the largest first: names from there, and bytes. None if a moment was not enough to
/// count it all, or not all could be read. A disk that somebody has mounted there does not count.
pub fn parts(directory: &Path) -> Option<Vec<(String, u64)>> {
    let until = Instant::now() + COUNT_TIMEOUT;
    let counted = child::in_child(until + COUNT_TIMEOUT / 4, |out| {
        let device = fs::symlink_metadata(directory).map(|m| m.dev()).unwrap_or(0);
        let is_here = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|m| m.is_dir() && m.dev() == device);
        let below = |directory: &Path| {
            fs::read_dir(directory).into_iter().flatten().flatten().filter(is_here).map(|entry| entry.path())
        };
        for part in below(directory).flat_map(|above| below(&above)) {
            let mut count = Count::default();
            if !count.add(&part, device, until) {
                return;
            }
            let name = text::show(part.strip_prefix(directory).unwrap_or(&part)).into_owned();
            let _ = writeln!(out, "{} {name}", count.bytes);
        }
        let _ = writeln!(out, "{WHOLE}");
    });
    let Ok(ChildEnd::Finished(output)) = counted else { return None };
    let output = String::from_utf8_lossy(&output);
    let output = output.strip_suffix(&format!("{WHOLE}\n"))?;
    let line = |line: &str| {
        line.split_once(' ').and_then(|(bytes, name)| Some((name.to_owned(), bytes.parse().ok()?)))
    };
    let mut parts: Vec<(String, u64)> =
        output.lines().filter_map(line).filter(|(_, bytes)| *bytes > 0).collect();
    order::sort_by(&mut parts, |a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Some(parts)
}

/// The last line of a count that came to its end.
const WHOLE: &str = "whole";

/// Counted in a child: a directory may hold a mount whose server does not answer.
fn measure(directory: &Path) -> String {
    let until = Instant::now() + COUNT_TIMEOUT;
    let counted = child::in_child(until + COUNT_TIMEOUT / 4, |out| {
        let mut count = Count::default();
        let device = |path: &Path| fs::symlink_metadata(path).map(|m| m.dev()).unwrap_or(0);
        let above = directory.parent().map_or(0, device);
        // A disk that is mounted just there is not deleted with the directory.
        if device(directory) != above {
            return;
        }
        let whole = count.add(directory, above, until);
        let _ = write!(out, "{} {} {}", u8::from(whole), count.bytes, count.files);
    });
    let Ok(ChildEnd::Finished(output)) = counted else { return "not measured: it takes too long".into() };
    let numbers: Vec<u64> =
        String::from_utf8_lossy(&output).split(' ').filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [1, bytes, files] => format!("{} in {}", human(bytes), many(files, "file")),
        [_, bytes, files] => format!("more than {} in {files} files", human(bytes)),
        _ => "a file system of its own, not measured".into(),
    }
}

#[derive(Default)]
struct Count {
    bytes: u64,
    files: u64,
}

impl Count {
    /// False if not everything was counted: time was up, or it could not be read. Stays on one file system: what is mounted there is
    /// not deleted with the directory either.
    fn add(&mut self, directory: &Path, device: u64, until: Instant) -> bool {
        let Ok(entries) = fs::read_dir(directory) else { return false };
        let mut whole = true;
        for entry in entries.flatten() {
            if Instant::now() >= until {
                return false;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            self.bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                whole &= self.add(&entry.path(), device, until);
            } else {
                self.files += 1;
            }
        }
        whole
    }
}

/// Bytes in the unit that people would use.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10) / 1024;
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match tenths {
        100.. => format!("{} {}", tenths / 10, UNITS[unit]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_say_them() {
        let all = [0, 512, 10 << 10, 3 << 20, 1_288_490_189, 5 << 40].map(human);
        assert_eq!(all, ["0.0 KiB", "0.5 KiB", "10 KiB", "3.0 MiB", "1.2 GiB", "5.0 TiB"]);
    }

    #[test]
    fn the_largest_parts_come_first() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("common/default-storage/claim/data", 50_000), ("common/var/log/x", 100_000), ("7/args/x", 10)]
        {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, vec![1; bytes]).unwrap();
        }
        fs::create_dir_all(dir.path().join("common/a b")).unwrap();
        let names: Vec<String> = parts(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[..2], ["common/var", "common/default-storage"]);
    }

    #[test]
    fn a_directory_is_counted_with_what_is_below_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let said = measure(dir.path());
        assert!(said.ends_with(" in 2 files") && said.contains("KiB"), "{said}");
    }
}
