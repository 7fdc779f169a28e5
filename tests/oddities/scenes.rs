//! The scenes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;

use support::fixture::Bundle;
use support::hook::Snap;
use support::runtime::in_group;
use support::scenes::Scene;
use support::{Result, demand, sh};

pub const ALL: &[Scene] = &[
    ("immutable_files_are_named_and_the_rest_goes", immutable),
    ("btrfs_subvolumes_go_and_read_only_ones_too", btrfs),
    ("many_files_need_no_more_memory_than_few", many),
    ("nested_groups", || groups(&[Shape { below: "a/b/init.scope", ..CGROUPFS }])),
    ("nested_groups_hybrid", || groups(&[Shape { below: "a/b/init.scope", ..CGROUPFS }])),
    ("names_of_the_systemd_driver", systemd),
    ("names_of_the_systemd_driver_hybrid", systemd),
    ("threaded_groups_below_a_container", || {
        groups(&[Shape { below: "threads", threaded: "threads", ..CGROUPFS }])
    }),
    ("a_container_whose_own_group_is_threaded", || groups(&[Shape { threaded: ".", ..CGROUPFS }])),
    ("controllers_mounted_together_hybrid", together),
    ("groups_that_are_mounted_read_only", read_only),
];

/// A disk of its own for the snap's data, on a loop device that is given back.
struct Disk(String);

impl Disk {
    fn new(make: &str, megabytes: u32, snap: &Snap) -> Result<Disk> {
        sh("mknod /dev/loop-control c 10 237; for n in $(seq 0 63); do mknod /dev/loop$n b 7 $n; done")?;
        sh(&format!("truncate -s {megabytes}M /srv/disk && {make} /srv/disk"))?;
        let device = sh("losetup -f --show /srv/disk")?.trim().to_owned();
        let disk = Disk(device);
        sh(&format!("mount {} {}", disk.0, snap.common.display()))?;
        fs::create_dir_all(snap.common.join("var/lib/containerd"))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = sh(&format!("umount {0}; losetup -d {0}", self.0));
    }
}

/// Runs the hook: its status, and its document.
fn hook(snap: &Snap) -> Result<(Option<i32>, Value)> {
    let status = snap.run_hook()?.status;
    Ok((status, snap.document()?))
}

/// What is still there below a directory, itself included.
fn left(directory: &Path) -> Result<Vec<String>> {
    let text = sh(&format!("find {} 2>/dev/null || true", directory.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn immutable() -> Result<()> {
    let snap = Snap::install("microk8s")?;
    let _disk = Disk::new("mkfs.ext4 -q", 16, &snap)?;
    let data = snap.common.join("var/lib/containerd");
    let at = data.display();
    sh(&format!(
        "mkdir -p {at}/a/b {at}/c; touch {at}/a/b/fixed {at}/a/b/free {at}/c/1 {at}/c/2; chattr +i {at}/a/b/fixed"
    ))?;
    demand(left(&data)?.len() == 8, "the look is blind")?;
    let (status, document) = hook(&snap)?;
    let stays = ["", "/a", "/a/b", "/a/b/fixed"].map(|name| format!("{at}{name}"));
    let now = left(&data)?;
    demand(now == stays, format!("left: {now:?}"))?;
    let why = format!("cannot delete '{at}/a/b/fixed': Operation not permitted");
    demand(status == Some(1) && document.to_string().contains(&why), format!("{status:?}: {document}"))?;
    demand(!document["advice"].to_string().contains("reboot"), format!("no reboot ends that: {document}"))?;
    sh(&format!("chattr -i {at}/a/b/fixed"))?;
    let (status, document) = hook(&snap)?;
    demand(status == Some(0) && left(&data)?.is_empty(), format!("{status:?}: {document}"))
}

/// To the program a subvolume is a directory: its device is another, and its mount is the same one. Layers of images are
/// read-only subvolumes.
fn btrfs() -> Result<()> {
    let snap = Snap::install("microk8s")?;
    let _disk = Disk::new("mkfs.btrfs -q", 128, &snap)?;
    let data = snap.common.join("var/lib/containerd");
    let at = data.display();
    sh(&format!(
        "for name in active committed; do btrfs subvolume create {at}/$name; echo x > {at}/$name/file; done
         mkdir {at}/plain; btrfs subvolume snapshot {at}/active {at}/plain/copy
         btrfs property set {at}/committed ro true"
    ))?;
    demand(left(&data)?.len() == 8, "the look is blind")?;
    let (status, document) = hook(&snap)?;
    let now = left(&data)?;
    demand(now.is_empty(), format!("left: {now:?}"))?;
    demand(status == Some(0), format!("{status:?}: {document}"))
}

/// Makes files by name only, which is quick; each is deleted like any other.
fn fill(directory: &Path, count: usize) -> Result<()> {
    fs::create_dir_all(directory)?;
    let first = directory.join("0");
    fs::write(&first, "x")?;
    for n in 1..count {
        fs::hard_link(&first, directory.join(format!("a-name-of-some-length-{n}")))?;
    }
    Ok(())
}

/// The most memory that any program needed that we have waited for, in kilobytes.
fn peak() -> Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())
}

fn many() -> Result<()> {
    const FEW: usize = 100;
    const MANY: usize = 100_000;
    let snap = Snap::install("microk8s")?;
    let data = snap.common.join("var/lib/containerd");
    let mut peaks = Vec::new();
    for count in [FEW, MANY] {
        fill(&data.join("one"), count)?;
        fill(&data.join("two/three"), count)?;
        let (status, document) = hook(&snap)?;
        demand(status == Some(0) && left(&data)?.is_empty(), format!("{status:?}: {document}"))?;
        peaks.push(peak()?);
    }
    println!("{} files: {} KiB, {} files: {} KiB", 2 * FEW, peaks[0], 2 * MANY, peaks[1]);
    // A name of 30 bytes for each of them would be six times as much.
    demand(peaks[1] - peaks[0] < 1024, format!("memory grows with the number of files: {peaks:?} KiB"))
}

/// How a container's group looks.
#[derive(Clone, Copy)]
struct Shape {
    /// The spec's `cgroupsPath`, before the ID.
    path: &'static str,
    /// Where that is, before and after the ID.
    group: (&'static str, &'static str),
    /// Below the container's own group, the one that its process is in.
    below: &'static str,
    /// Below the container's own group, the one that is made threaded; none if empty.
    threaded: &'static str,
}

const CGROUPFS: Shape = Shape {
    path: "/kubepods/besteffort/pod1/",
    group: ("kubepods/besteffort/pod1/", ""),
    below: "",
    threaded: "",
};

fn id(number: usize) -> String {
    format!("{number:064x}")
}

/// A container of the snap, dead shim and all: its bundle, its groups, and two processes in them.
fn container(snap: &Snap, number: usize, shape: Shape) -> Result<Vec<Child>> {
    let id = id(number);
    Bundle::new(&id, &format!("{}{id}", shape.path)).write(&snap.common.join("run/containerd"))?;
    let leaf = format!("{}{id}{}", shape.group.0, shape.group.1);
    let group = Path::new(&leaf).join(shape.below).display().to_string();
    drop(in_group(&group, "true")?); // makes the groups
    if !shape.threaded.is_empty() {
        fs::write(
            Path::new("/sys/fs/cgroup").join(&leaf).join(shape.threaded).join("cgroup.type"),
            "threaded",
        )?;
    }
    let sleep = |group: &str| {
        let mut command = in_group(group, "sleep")?;
        Ok::<Child, Box<dyn std::error::Error>>(
            command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?,
        )
    };
    let mut children = vec![sleep(&group)?];
    if shape.threaded != "." {
        children.push(sleep(&leaf)?);
    }
    for child in &children {
        let comm = format!("/proc/{}/comm", child.id());
        while fs::read_to_string(&comm)?.trim() != "sleep" {
            std::thread::yield_now();
        }
    }
    witness(&snap.common.join("run/containerd"), &id, &leaf, children[0].id())?;
    Ok(children)
}

/// What proves a container: runc's own state of it, where no container can write.
fn witness(state: &Path, id: &str, leaf: &str, init: u32) -> Result<()> {
    let stat = fs::read_to_string(format!("/proc/{init}/stat"))?;
    let start = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
    let start: u64 = start.ok_or("no start time")?.parse()?;
    let tops = sh("grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5")?;
    let groups: Vec<(String, PathBuf)> = tops
        .lines()
        .map(|top| (top.to_owned(), Path::new(top).join(leaf)))
        .filter(|(_, g)| g.exists())
        .collect();
    let bundle = state.join("io.containerd.runtime.v2.task/k8s.io").join(id);
    let init = (i32::try_from(init)?, start);
    let directory = Path::new("/run/containerd/runc/k8s.io").join(id);
    fs::create_dir_all(&directory)?;
    let text = support::fixture::runc_state(id, init, &groups, &bundle).to_string();
    Ok(fs::write(directory.join("state.json"), text)?)
}

/// Groups with one of these IDs, or of pods, in any hierarchy.
fn groups_left() -> Result<Vec<String>> {
    let text = sh("find /sys/fs/cgroup -type d \\( -name '*00000000*' -o -path '*kubepods*' \\)")?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn all_ended(children: &mut [Child]) -> Result<bool> {
    let mut ended = true;
    for child in children {
        ended &= child.try_wait()?.is_some();
    }
    Ok(ended)
}

/// Containers of these shapes, beside somebody else's in the same pods' groups.
fn groups(shapes: &[Shape]) -> Result<()> {
    let snap = Snap::install("microk8s")?;
    snap.ship_patience(1, 30)?;
    let mut children = Vec::new();
    for (number, shape) in shapes.iter().enumerate() {
        children.extend(container(&snap, number + 1, *shape)?);
    }
    let mut other = in_group(&format!("kubepods/pod-of-others/{}", "f".repeat(64)), "sleep")?
        .arg("1000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let before = groups_left()?;
    demand(
        before.iter().any(|g| g.contains("00000000")) && !all_ended(&mut children)?,
        format!("blind: {before:?}"),
    )?;
    let (status, document) = hook(&snap)?;
    let now = groups_left()?;
    demand(all_ended(&mut children)?, format!("a process of ours is left: {document}"))?;
    let expected: Vec<_> =
        before.into_iter().filter(|g| g.ends_with("/kubepods") || g.contains("others")).collect();
    demand(now == expected, format!("groups: {now:?}, not {expected:?}: {document}"))?;
    demand(other.try_wait()?.is_none(), "somebody else's process was ended")?;
    demand(status == Some(0) && document["outcome"] == "clean", format!("{status:?}: {document}"))?;
    other.kill()?;
    other.wait()?;
    Ok(())
}

fn systemd() -> Result<()> {
    let shape = |slice: &'static str, at: &'static str| Shape {
        path: slice,
        group: (at, ".scope"),
        below: "init.scope",
        threaded: "",
    };
    groups(&[
        shape(
            "kubepods-besteffort-pod1_2.slice:cri-containerd:",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-",
        ),
        shape(
            "kubelet-kubepods-pod3.slice:cri-containerd:",
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod3.slice/cri-containerd-",
        ),
    ])
}

/// Two controllers in one hierarchy, and a name with a comma; the look in `groups` goes through all hierarchies.
fn together() -> Result<()> {
    let names: Vec<PathBuf> = fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path()).collect();
    let mut shared = names.iter().filter(|path| path.display().to_string().contains(',')).peekable();
    demand(shared.peek().is_some(), format!("no two controllers are mounted together: {names:?}"))?;
    for hierarchy in shared {
        fs::create_dir_all(hierarchy.join("kubepods/besteffort/pod1").join(id(1)))?;
        fs::create_dir_all(hierarchy.join("kubepods/pod-of-others").join("f".repeat(64)))?;
    }
    groups(&[CGROUPFS])
}

/// As in a guest that may not change its groups: what runs is ended by signals, the groups are named and stay.
fn read_only() -> Result<()> {
    let snap = Snap::install("microk8s")?;
    snap.ship_patience(1, 30)?;
    let mut children = container(&snap, 1, CGROUPFS)?;
    let before = groups_left()?;
    let read_only = [
        "unshare",
        "--mount",
        "/bin/sh",
        "-ec",
        "mount -o remount,bind,ro /sys/fs/cgroup; exec \"$@\"",
        "sh",
    ];
    let status = snap.start_hook_by(&read_only)?.end()?.status;
    let document = snap.document()?;
    demand(all_ended(&mut children)?, format!("a process of ours is left: {document}"))?;
    demand(groups_left()? == before, "groups were removed that are mounted read-only")?;
    demand(status == Some(0) && document["outcome"] == "clean", format!("{status:?}: {document}"))?;
    let notes = document["notes"].to_string();
    demand(notes.contains("cgroups-read-only") && notes.contains(&id(1)), format!("not told: {notes}"))
}
