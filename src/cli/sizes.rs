//! Sizes as people say them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::json;
use crate::report::size::{Disk, Goes, Holds, Size};
use crate::text::{self, many};

/// How much of each kind goes in this way, or stays; nothing where nothing does.
pub fn told(sizes: &[Size], goes: Goes) -> String {
    const KINDS: [(Holds, &str); 5] = [
        (Holds::Images, "images"),
        (Holds::Snapshots, "snapshots"),
        (Holds::Volumes, "volumes"),
        (Holds::EmptyDirs, "emptyDirs"),
        (Holds::Other, "other data"),
    ];
    let mut said = Vec::new();
    for (what, name) in KINDS {
        let of_kind = sizes.iter().filter(|size| size.goes == goes && size.what == what);
        let (bytes, _, more) = sum(of_kind);
        if bytes > 0 || more {
            said.push(format!("{name} {}", in_words(bytes, more)));
        }
    }
    said.join(", ")
}

/// How much goes with a directory that the run deletes.
pub fn of(sizes: &[Size], directory: &Path) -> String {
    let (bytes, files, more) =
        sum(sizes.iter().filter(|size| size.goes == Goes::WithTheRun && size.path == directory));
    match files {
        0 => String::new(),
        files => format!("{} in {}", in_words(bytes, more), many(files, "file")),
    }
}

/// The file systems that a document tells, by hand: the code that serde derives for a struct is 2 KB.
pub fn disks_in(document: &str) -> Option<Vec<Disk>> {
    type Fields<'a> = BTreeMap<String, &'a RawValue>;
    fn field<T: DeserializeOwned>(of: &Fields, name: &str) -> Option<T> {
        json::parse(of.get(name)?.get().as_bytes()).ok()
    }
    let keys: Fields = json::parse(document.as_bytes()).ok()?;
    let disks: Vec<Fields> = json::parse(keys.get("disks")?.get().as_bytes()).ok()?;
    let disk = |it: &Fields| {
        Some(Disk {
            path: text::path::<serde_json::Error>(&field::<String>(it, "path")?).ok()?,
            free_bytes_before: field(it, "free-bytes-before")?,
            free_bytes_after: field(it, "free-bytes-after")?,
        })
    };
    disks.iter().map(disk).collect()
}

/// Of each file system how much came back, where that is worth a word.
pub fn came_back(disks: &[Disk]) -> String {
    const WORTH_A_WORD: u64 = 1 << 20;
    let mut said = Vec::new();
    for Disk { path, free_bytes_before, free_bytes_after } in disks {
        let more = free_bytes_after.saturating_sub(*free_bytes_before);
        if more >= WORTH_A_WORD {
            said.push(format!("{} came back on {}", human(more), text::show(path)));
        }
    }
    said.join(", ")
}

fn sum<'a>(sizes: impl Iterator<Item = &'a Size>) -> (u64, u64, bool) {
    sizes.fold((0, 0, false), |(bytes, files, more), size| {
        (u64::saturating_add(bytes, size.bytes), u64::saturating_add(files, size.files), more | size.more)
    })
}

fn in_words(bytes: u64, more: bool) -> String {
    match (bytes, more) {
        (0, true) => "not measured".into(),
        (_, true) => format!("at least {}", human(bytes)),
        _ => human(bytes),
    }
}

/// Bytes in the unit that people would use.
fn human(bytes: u64) -> String {
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
    fn what_came_back_is_told_where_it_is_worth_a_word() {
        let disk = |path: &str, before, after| Disk {
            path: path.into(),
            free_bytes_before: before,
            free_bytes_after: after,
        };
        let disks = [disk("/", 5 << 30, 8 << 30), disk("/less", 9 << 30, 8 << 30), disk("/few", 5, 6)];
        assert_eq!(came_back(&disks), "3.0 GiB came back on /");
        assert_eq!(came_back(&disks[1..]), "");
        let document = format!("{{\"schema\":1,\"disks\":{}}}", text::json(&disks));
        assert_eq!(disks_in(&document).unwrap(), disks);
        assert_eq!(disks_in("{}"), None);
    }

    #[test]
    fn each_kind_is_said_once_and_what_was_not_counted_is_said() {
        let size = |what, goes, bytes, more| Size { what, goes, path: "/x".into(), bytes, files: 2, more };
        let (run, snap) = (Goes::WithTheRun, Goes::WithTheSnap);
        let sizes = [
            size(Holds::Volumes, snap, 1 << 20, false),
            size(Holds::Volumes, snap, 2 << 20, false),
            size(Holds::EmptyDirs, snap, 0, false),
            size(Holds::Other, snap, 0, true),
            size(Holds::Images, run, 1 << 30, true),
        ];
        assert_eq!(told(&sizes, snap), "volumes 3.0 MiB, other data not measured");
        assert_eq!(told(&sizes, run), "images at least 1.0 GiB");
        assert_eq!(told(&sizes, Goes::Stays), "");
        assert_eq!(of(&sizes, Path::new("/x")), "at least 1.0 GiB in 2 files");
        assert_eq!(of(&sizes, Path::new("/y")), "");
    }
}
