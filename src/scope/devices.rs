//! Block devices under our mounts that nobody else uses. Once the mounts are gone nothing tells any more that they were for us.

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{major, minor};

use crate::linux::block::{self, Device};
use crate::linux::loop_device::BLOCK;
use crate::linux::mountinfo::{Mount, MountTable};
use crate::scope::Scope;
use crate::scope::held::Held;
use crate::view::View;

/// Those that are mounted at places of ours alone, and what these are made of.
pub fn gather(view: &View, scope: &Scope) -> Vec<Device> {
    let Ok(table) = view.own_mounts() else { return Vec::new() };
    let held = Held::of(table, &scope.roots, &scope.snap, scope, &HashSet::new());
    let (ours, others): (Vec<&Mount>, Vec<&Mount>) =
        table.mounts.iter().filter(|m| m.is_on_device()).partition(|m| held.is_placed(m));
    let nodes = nodes(view, table, &held);
    // A node has few of these, and most have no mount of ours.
    if ours.is_empty() && nodes.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<Device> = Vec::new();
    let all = block::list(view.host);
    let uses = |mounts: &[&Mount], device: &Device| {
        let numbers = block::numbers(view.host, &device.device);
        let path = [format!("/dev/{}", device.device), format!("/dev/mapper/{}", device.name)];
        // btrfs has a number of its own.
        mounts.iter().any(|m| {
            numbers.iter().any(|number| number == m.device())
                || path.iter().any(|p| m.source().as_os_str() == p.as_str())
        })
    };
    let free = |device: &Device| !uses(&others, device);
    found.extend(all.iter().filter(|device| uses(&ours, device) && free(device)).cloned());
    for number in nodes {
        let is_it = |d: &&Device| d.is_remote() && block::numbers(view.host, &d.device).contains(&number);
        found.extend(all.iter().find(|d| is_it(d) && free(d)).cloned());
        found.extend(made_of(view, &number, &all, &free));
    }
    let mut known = HashSet::new();
    found.retain(|device| known.insert(device.device.clone()));
    let mut at = 0;
    while let Some(above) = found.get(at).map(|device| device.device.clone()) {
        for name in block::beside(view.host, &above, "slaves") {
            let below = all.iter().find(|device| device.device == name && free(device));
            let known: HashSet<&str> = found.iter().map(|device| device.device.as_str()).collect();
            let holders = block::beside(view.host, &name, "holders");
            let alone = holders.iter().all(|holder| known.contains(holder.as_str()));
            let new = below.filter(|device| alone && !known.contains(device.device.as_str())).cloned();
            found.extend(new);
        }
        at += 1;
    }
    found
}

/// The numbers of disks that pods have as they are: kubelet binds the disk's node for each.
fn nodes(view: &View, table: &MountTable, held: &Held) -> Vec<String> {
    let is_node = |m: &&Mount| matches!(m.fstype(), "devtmpfs" | "tmpfs") && m.root() != Path::new("/");
    let binds = table.mounts.iter().filter(is_node).filter(|m| held.is_placed(m));
    let number = |m: &Mount| {
        let node = view.host.stat(m.point()).ok().filter(|node| node.file_type().is_block_device())?;
        Some(format!("{}:{}", major(node.rdev()), minor(node.rdev())))
    };
    binds.filter_map(number).collect()
}

/// What is made of a disk that only pods have: the pods' doing, unless somebody else uses any of it.
fn made_of(view: &View, number: &str, all: &[Device], free: &dyn Fn(&Device) -> bool) -> Vec<Device> {
    let mut found: Vec<Device> = Vec::new();
    let mut asked = vec![Path::new("/sys/dev/block").join(number)];
    while let Some(below) = asked.pop() {
        for name in view.host.list(&below.join("holders")).unwrap_or_default() {
            let holder = all.iter().find(|d| *d.device == *name && d.is_made_of_others() && free(d));
            let Some(holder) = holder else { return Vec::new() };
            if !found.contains(holder) {
                asked.push(Path::new(BLOCK).join(&name));
                found.push(holder.clone());
            }
        }
    }
    // What lies on another keeps that, so it is told first.
    found.reverse();
    found
}

/// True if nothing but files of ours is below a device.
pub fn is_on(view: &View, device: &str, ours: &HashSet<String>) -> bool {
    let below = block::beside(view.host, device, "slaves");
    let is_part = |name: &str| ours.iter().any(|own| name.strip_prefix(own.as_str()).is_some_and(is_number));
    let is_ours = |name: &String| ours.contains(name) || is_part(name) || is_on(view, name, ours);
    !below.is_empty() && below.iter().all(is_ours)
}

/// True for what the kernel adds to a loop device's name for a partition of it.
fn is_number(rest: &str) -> bool {
    rest.strip_prefix('p').is_some_and(|number| number.parse::<u16>().is_ok())
}
