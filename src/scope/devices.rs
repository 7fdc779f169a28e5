//! Block devices under our mounts that nobody else uses. Once the mounts are gone nothing tells any more that they were for us.

use std::collections::HashSet;

use crate::linux::block::{self, Device};
use crate::linux::mountinfo::Mount;
use crate::scope::Scope;
use crate::scope::held::Held;
use crate::view::View;

/// Those that are mounted at places of ours alone, and what these are made of.
pub fn gather(view: &View, scope: &Scope) -> Vec<Device> {
    let Ok(table) = view.own_mounts() else { return Vec::new() };
    let held = Held::of(table, &scope.roots, &scope.snap, scope, &HashSet::new());
    let (ours, others): (Vec<&Mount>, Vec<&Mount>) =
        table.mounts.iter().filter(|m| m.is_on_device()).partition(|m| held.is_placed(m));
    // A node has few of these, and most have no mount of ours.
    if ours.is_empty() {
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

/// True if nothing but files of ours is below a mapping.
pub fn is_on(view: &View, device: &str, ours: &HashSet<String>) -> bool {
    let below = block::beside(view.host, device, "slaves");
    !below.is_empty() && below.iter().all(|name| ours.contains(name) || is_on(view, name, ours))
}
