//! What the report says, and whether that is so.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Item;
use super::machine::mounts_of;
use crate::worlds::{World, start_time};

/// True where nothing proves whose containers live: their shims are gone, runc's states are gone or cut short, and another
/// instance of the snap has the same paths. They are told as doubts.
pub fn is_unproven(world: &World) -> bool {
    let one_of = |features: [&str; 2]| features.iter().any(|feature| world.has(feature));
    world.has("parallel-instance")
        && one_of(["shim-killed", "no-shim"])
        && one_of(["state-deleted", "state-cut"])
}

/// True for a doubt for which the world has a reason: something forged, or a mount of a user's.
pub fn is_right(world: &World, blind: &Value) -> bool {
    is_of_a_user(blind) || world.doubts.iter().any(|word| blind.to_string().contains(word))
}

/// True for a doubt of this path.
pub fn is_named(blind: &Value, path: &Path) -> bool {
    blind["what"].as_str().is_some_and(|what| Path::new(what) == path)
}

/// A mount that a user has put into the snap's directories: nothing says whose it is, and it keeps snapd from removing them.
fn is_of_a_user(blind: &Value) -> bool {
    blind["why"].as_str().is_some_and(|why| why.starts_with("it lies in the snap's directories"))
}

pub fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A path as the document writes it: text, or bytes where it is none.
fn path_of(value: &Value) -> PathBuf {
    match value {
        Value::String(text) => PathBuf::from(text),
        Value::Array(bytes) => {
            let bytes = bytes.iter().filter_map(|byte| byte.as_u64()).map(|byte| byte as u8).collect();
            PathBuf::from(std::ffi::OsString::from_vec(bytes))
        }
        Value::Object(map) => map.values().next().map(path_of).unwrap_or_default(),
        _ => PathBuf::new(),
    }
}

fn same(value: &Value, path: &Path) -> bool {
    path_of(value).as_os_str().as_bytes() == path.as_os_str().as_bytes()
}

/// True if an entry of the report tells of an item, with who holds it where somebody does.
pub fn speaks_of(left: &Value, item: &Item) -> bool {
    let residue = &left["residue"];
    let kind = residue["kind"].as_str().unwrap_or_default();
    match item {
        Item::Process(pid, _) => {
            let number = |value: &Value| value["pid"].as_i64() == Some(i64::from(*pid));
            number(&residue["process"]) || each(&residue["processes"]).any(number)
        }
        Item::Mount(point) => matches!(kind, "mount" | "detached") && same(&residue["point"], point),
        Item::Group(path) => {
            kind == "cgroup" && same(&residue["path"], path)
                || each(&residue["groups"]).any(|g| same(g, path))
        }
        Item::Moved(path) => same(&residue["path"], path),
        Item::Path(path) => {
            path.starts_with(path_of(&residue["path"])) && !same(&residue["path"], Path::new(""))
        }
        Item::Link(name) => kind == "link" && residue["name"] == name.as_str(),
        Item::Device(node) => {
            matches!(kind, "loop" | "device") && Path::new(node).ends_with(path_of(&residue["device"]))
        }
        Item::Busy(point, pid) => {
            let mut holders = each(&residue["holders"]).chain(each(&left["holders"]));
            same(&residue["point"], point)
                && holders.any(|holder| holder["process"]["pid"].as_i64() == Some(i64::from(*pid)))
        }
    }
}

/// Why a residue that the report tells of is not there.
pub fn untrue(residue: &Value) -> Option<String> {
    let alive = |id: &Value| {
        let pid = id["pid"].as_i64().unwrap_or(0) as i32;
        start_time(pid).ok() == id["start"].as_u64()
    };
    match residue["kind"].as_str().unwrap_or_default() {
        "mount" => {
            let point = path_of(&residue["point"]);
            let table = if residue["table"] == "host" { "1" } else { "self" };
            let there = mounts_of(table).is_ok_and(|all| all.values().any(|p| *p == point));
            (!there).then(|| "no such mount".into())
        }
        "cgroup" | "path" => {
            let path = path_of(&residue["path"]);
            path.symlink_metadata().err().map(|e| e.to_string())
        }
        "shim" | "process" => (!alive(&residue["process"])).then(|| "it has ended".into()),
        "task" | "service" => (!each(&residue["processes"]).any(alive)).then(|| "all have ended".into()),
        _ => None,
    }
}
