//! Loop devices on files of ours. A block volume is one; unmounting does not always release it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::block::{self, Device};
use crate::linux::loop_device::{BLOCK, backing_file};
use crate::linux::mountinfo::Mount;
use crate::linux::sys;
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::residue::{self, Loop, Residue};
use crate::scope::{Scope, devices, shared};
use crate::snap::profile::Made;
use crate::text::{show, unescape};
use crate::view::View;

/// Those whose backing file lies below one of our roots, or elsewhere in the snap's own directories.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    let devices = match view.host.list(Path::new(BLOCK)) {
        Ok(devices) => devices,
        Err(e) => return finding.blind.push(Blind::new("loop devices", e)),
    };
    let loops = devices.iter().filter(|n| n.as_bytes().starts_with(b"loop"));
    let behind = |name: &OsString| Some((Path::new("/dev").join(name), backing_file(view.host, name)?));
    let mut asked: Vec<_> = loops.filter_map(behind).collect();
    let (mut known, mut above): (Vec<PathBuf>, Vec<Residue>) = Default::default();
    // One may lie on another.
    loop {
        let is_ours = |(_, (backing, _)): &(PathBuf, (PathBuf, bool))| {
            is_file_of_ours(scope, backing) || known.contains(backing)
        };
        let (ours, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(is_ours);
        asked = others;
        if ours.is_empty() {
            break;
        }
        let mut found = Vec::new();
        for (device, (backing, deleted)) in ours {
            if let Err(e) = view.host.reach(&backing) {
                finding.blind.push(Blind::new(format!("the file behind {}", device.display()), e));
            } else if is_here(&view.host.path(&device), &view.host.path(&backing), deleted) {
                known.push(device.clone());
                found.push(Residue::Loop(Loop { device, backing }.into()));
            }
        }
        above.splice(0..0, found);
    }
    finding.residues.extend(above);
}

/// Mappings over files of ours, and other devices that only our mounts used.
pub fn mappings(view: &View, scope: &Scope, finding: &mut Finding) {
    let mut own = Finding::default();
    find(view, scope, &mut own);
    let name = |r: &Residue| match r {
        Residue::Loop(it) => it.device.file_name()?.to_str().map(str::to_owned),
        _ => None,
    };
    let loops: HashSet<String> = own.residues.iter().filter_map(name).collect();
    if loops.is_empty() && scope.devices.is_empty() {
        return;
    }
    let is_mounted = |device: &Device| {
        let numbers = block::numbers(view.host, &device.device);
        view.own_mounts()
            .as_ref()
            .is_ok_and(|t| t.mounts.iter().any(|m| numbers.iter().any(|number| number == m.device())))
    };
    for device in block::list(view.host).into_iter().filter(|d| !loops.contains(&d.device)) {
        let ours = device.is_made_of_others() && devices::is_on(view, &device.device, &loops);
        if ours || scope.devices.contains(&device) && !is_mounted(&device) {
            let command = device.command();
            finding.residues.push(Residue::Device(Box::new(residue::Device { device, ours, command })));
        }
    }
}

/// The numbers of these devices, and of the mappings over them, as a mount table prints them.
pub fn numbers(view: &View, scope: &Scope) -> HashSet<String> {
    let mut finding = Finding::default();
    find(view, scope, &mut finding);
    let numbers = |residue: &Residue| match residue {
        Residue::Loop(it) => block::numbers(view.host, it.device.file_name()?.to_str()?).into(),
        _ => None,
    };
    let mut found: HashSet<String> = finding.residues.iter().filter_map(numbers).flatten().collect();
    if !found.is_empty() {
        let mut mapped = Finding::default();
        mappings(view, scope, &mut mapped);
        let of_mapping = |residue: &Residue| match residue {
            Residue::Device(it) if it.ours => block::numbers(view.host, &it.device.device),
            _ => Vec::new(),
        };
        found.extend(mapped.residues.iter().flat_map(of_mapping));
        found.extend(pools(view, &found));
    }
    found
}

/// The numbers that btrfs has made up for file systems that are on these devices alone.
fn pools(view: &View, devices: &HashSet<String>) -> Vec<String> {
    let mounts = view.own_mounts().as_ref().ok().into_iter().flat_map(|table| &table.mounts);
    let on_btrfs: Vec<&Mount> = mounts.filter(|m| m.fstype() == "btrfs").collect();
    if on_btrfs.is_empty() {
        return Vec::new();
    }
    let all = Path::new("/sys/fs/btrfs");
    let list = |path: &Path| view.host.list(path).unwrap_or_default();
    let members = list(all).into_iter().map(|one| list(&all.join(one).join("devices")));
    let number = |name: &OsString| view.host.read_text(&Path::new("/sys/class/block").join(name).join("dev"));
    let is_ours = |name: &OsString| number(name).is_ok_and(|number| devices.contains(&number));
    let ours: HashSet<OsString> = members.filter(|members| members.iter().all(is_ours)).flatten().collect();
    let is_on = |m: &&&Mount| m.source().file_name().is_some_and(|name| ours.contains(name));
    on_btrfs.iter().filter(is_on).map(|m| m.device().to_owned()).collect()
}

/// Mounts whose file systems are ours to thaw, one for each device: those on devices of ours, and on devices that only mounts
/// of ours use. What else is frozen may be so for somebody's backup.
pub fn file_systems(view: &View, scope: &Scope) -> Vec<Mount> {
    let Ok(table) = view.own_mounts() else { return Vec::new() };
    let on_devices: Vec<&Mount> = table.mounts.iter().filter(|m| m.is_on_device()).collect();
    if on_devices.is_empty() {
        return Vec::new();
    }
    let mut devices = numbers(view, scope);
    devices.extend(scope.devices.iter().flat_map(|device| block::numbers(view.host, &device.device)));
    on_devices.into_iter().filter(|m| devices.remove(m.device())).cloned().collect()
}

/// Files of ours to which the kernel swaps: nobody can delete them. To switch swap off may take more memory than there is, so
/// that is the administrator's. Where confinement hides the list, nothing is known.
pub fn swaps(view: &View, scope: &Scope) -> Vec<Blind> {
    let list = view.host.read(Path::new("/proc/swaps")).unwrap_or_default();
    let rows = list.split(|byte| *byte == b'\n').skip(1);
    let files = rows.filter_map(|row| unescape(row.split(u8::is_ascii_whitespace).next()?));
    let files = files.map(|file| PathBuf::from(OsString::from_vec(file)));
    let told = |file: PathBuf| {
        let path = show(&file);
        let why = format!("the kernel swaps to it, and snapd cannot delete it before 'swapoff {path}'");
        Blind::new(format!("the swap file {path}"), (Reason::Unproven, why))
    };
    files.filter(|file| is_file_of_ours(scope, file)).map(told).collect()
}

fn is_file_of_ours(scope: &Scope, file: &Path) -> bool {
    let roots = &scope.roots;
    let below = |root: &PathBuf| file.starts_with(root) && file != root;
    let is_made = |root: &PathBuf| {
        let made = if roots.is_own(&scope.snap, root) { Made::Anything } else { roots.made_in(root) };
        file != root && made.has(root, file)
    };
    // Also in the directory of an earlier revision.
    let own = [&scope.snap.common, &scope.snap.data, &scope.snap.home].map(|path| roots.place_of(path));
    own.iter().any(below) || roots.mounts.iter().any(is_made) || shared::is_of_our_pod(scope, file)
}

/// Loop devices are the whole machine's, and another guest's file may have the same path: the device says which
/// file it is on. Where that cannot be asked, the file has to be here, or the directory that it was in.
fn is_here(device: &Path, backing: &Path, deleted: bool) -> bool {
    let there = |path: &Path| std::fs::symlink_metadata(path);
    let Some((dev, inode)) = File::open(device).ok().and_then(|d| sys::loop_file(&d).ok()) else {
        let witness = if deleted { backing.parent().unwrap_or(backing) } else { backing };
        return there(witness).is_ok();
    };
    if !deleted {
        return there(backing).is_ok_and(|m| (m.dev(), m.ino()) == (dev, inode));
    }
    // The directory that a deleted file was in, or the nearest above it that is left, is on the same file system.
    let left = backing.ancestors().skip(1).find_map(|a| there(a).ok());
    left.is_some_and(|m| m.dev() == dev)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::scope_of;
    use crate::linux::host::Host;

    #[test]
    fn files_of_ours_to_which_the_kernel_swaps_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let view = View::new(&host, None);
        let told = || swaps(&view, &scope_of(&[]));
        assert!(told().is_empty());
        let rows = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/swapfile                               file\t\t1020\t\t0\t\t-2
/var/snap/microk8s/0/a\\040b              file\t\t1020\t\t0\t\t-3
/var/snap/microk8s2/common/swap         file\t\t1020\t\t0\t\t-4\n";
        crate::fixture::file(dir.path(), "proc/swaps", rows);
        let [one] = &told()[..] else { panic!("{:?}", told()) };
        assert_eq!(one.what, "the swap file /var/snap/microk8s/0/a b");
        assert!(one.why.ends_with("'swapoff /var/snap/microk8s/0/a b'"), "{}", one.why);
    }

    #[test]
    fn by_backing_file_below_our_roots() {
        let dir = tempfile::tempdir().unwrap();
        let root = "/var/snap/microk8s/common/var/lib/kubelet";
        for (name, backing) in [
            ("loop0", format!("{root}/plugins/x/img\n")),
            ("loop1", format!("{root}2/img\n")),
            ("loop2", format!("{root}/pods/y/img (deleted)\n")),
            ("loop7", "/var/snap/microk8s/0/img\n".into()),
            ("loop8", "/var/snap/microk8s2/0/img\n".into()),
            ("loop3", "/var/lib/snapd/snaps/microk8s_1.snap\n".into()),
            ("loop5", format!("{root}/not-here/img\n")),
            ("loop6", format!("{root}/not-here/img (deleted)\n")),
            ("sda", format!("{root}/img\n")),
        ] {
            let at = dir.path().join("sys/block").join(name).join("loop");
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join("backing_file"), backing).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("sys/block/loop4")).unwrap();
        crate::fixture::file(dir.path(), "var/snap/microk8s/0/img", "");
        crate::fixture::file(dir.path(), "var/snap/microk8s2/0/img", "");
        for name in ["plugins/x/img", "pods/y/other"] {
            let file = dir.path().join(&root[1..]).join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let host = Host::at(dir.path());
        let mut finding = Finding::default();
        find(&View::new(&host, None), &scope_of(&[]), &mut finding);
        let mut names: Vec<String> = finding.residues.iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(
            names,
            [
                format!("loop device /dev/loop0 of {root}/plugins/x/img"),
                format!("loop device /dev/loop2 of {root}/pods/y/img"),
                "loop device /dev/loop7 of /var/snap/microk8s/0/img".into()
            ]
        );
        assert!(finding.blind.is_empty());
    }
}
