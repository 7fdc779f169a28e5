//! Block devices under volumes (32): loops over our files, loops that stand for a disk, frozen file systems; device-mapper
//! and LUKS where the kernel has them.
//!
//! RIGHT: over a file of ours the mount, the mapping and the loop are gone, status 0. Over another disk the device whose only
//! mount was ours is at least named as left; one with another user is not touched.

use std::path::Path;

use crate::stage::{COMMON, Right, Stage, demand, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("a_loop_over_our_file", || device(OURS, Above::Nothing)),
    ("a_loop_over_another_disk_whose_only_mount_was_ours", || device(DISK, Above::Nothing)),
    ("a_loop_over_another_disk_with_another_user", shared_loop),
    ("a_raw_block_volume_of_a_disk", raw_block),
    ("a_frozen_volume_is_thawed", frozen),
    ("dm_over_a_loop_of_ours", || device(OURS, Above::Linear)),
    ("dm_over_another_disk", || device(DISK, Above::Linear)),
    ("luks_over_a_loop_of_ours", || device(OURS, Above::Luks)),
    ("luks_over_another_disk_is_named", || device(DISK, Above::Luks)),
    ("dm_with_another_user_stays", shared_mapping),
    ("what_lies_on_a_loop_of_ours_goes_with_it", on_loops),
    ("dm_over_a_raw_block_volume_is_told", over_raw_block),
    ("md_over_a_loop_of_ours", || array(OURS)),
    ("md_over_another_disk_is_named", || array(DISK)),
];

const OURS: &str = "/var/snap/microk8s/common/var/lib/kubelet/plugins/local.csi/disk";
const DISK: &str = "/srv/disk-of-the-host";
const VOLUME: &str = "/var/snap/microk8s/common/var/lib/kubelet/pods/11111111-2222-4333-8444-555555555555/volumes/kubernetes.io~csi/pv/mount";

#[derive(Clone, Copy, PartialEq)]
enum Above {
    Nothing,
    Linear,
    Luks,
}

/// What this kernel cannot do is no test here: `CONFIG_MD` (device-mapper) is not set where its file is missing.
pub fn possible(name: &str) -> bool {
    let mapper = Path::new("/sys/class/misc/device-mapper").exists();
    let needs_mapper = ["dm_", "luks_", "snapshots_of_devmapper"].iter().any(|start| name.starts_with(start));
    let needs_ipvs = name.contains("ipvs");
    // Clones that fetched before there was one lack the program.
    let ipset = Path::new("/sys/module/ip_set").exists() && programs_have("ipset");
    let needs = [("md_", "/sys/module/md_mod"), ("lio_", "/sys/module/target_core_file")];
    let lacks = needs.iter().any(|(start, module)| name.starts_with(start) && !Path::new(module).exists());
    !lacks
        && (ipset || !name.starts_with("ipsets_"))
        && (mapper || !needs_mapper)
        && (!needs_ipvs || Path::new("/proc/net/ip_vs").exists())
}

fn programs_have(name: &str) -> bool {
    support::build_dir().is_ok_and(|built| built.join("../../containerd/others").join(name).exists())
}

/// Attaches, maps, formats and mounts; returns what is mounted.
fn attach(file: &str, above: Above) -> Result<(String, String)> {
    let device = sh(&format!(
        "mkdir -p {VOLUME} $(dirname {file}) /dev/mapper; truncate -s 32M {file}; losetup -f --show {file}"
    ))?;
    let device = device.trim().to_owned();
    let mapped = match above {
        Above::Nothing => device.clone(),
        Above::Linear => {
            sh(&format!(
                "dmsetup create vol-1 --table \"0 $(blockdev --getsz {device}) linear {device} 0\""
            ))?;
            node()?
        }
        Above::Luks => {
            sh(&format!(
                "printf key > /run/lock/key; cryptsetup -q luksFormat --pbkdf-memory 32 --pbkdf-force-iterations 4 --pbkdf-parallel 1 {device} /run/lock/key
                 cryptsetup open --key-file /run/lock/key {device} vol-1; rm /run/lock/key"
            ))?;
            node()?
        }
    };
    sh(&format!("mkfs.ext4 -q {mapped}; mount {mapped} {VOLUME}; echo data > {VOLUME}/file"))?;
    Ok((mapped, device))
}

/// The kernel's own nodes of mappings, which a world's /dev lacks, the one for control, and what hosts with LUKS have.
pub const NODES: &str =
    "mkdir -p -m 700 /run/cryptsetup; major=$(sed -n 's/ *\\([0-9]*\\) device-mapper$/\\1/p' /proc/devices)
     [ -z \"$major\" ] || { dmsetup version; for n in $(seq 0 7); do mknod /dev/dm-$n b $major $n; done; }";

/// The node of the mapping. The one below /dev/mapper is udev's, and goes with the mapping where udev runs.
fn node() -> Result<String> {
    let minor = sh("dmsetup info -c --noheadings -o minor vol-1; rm -f /dev/mapper/vol-1")?;
    Ok(format!("/dev/dm-{}", minor.trim()))
}

fn device(file: &str, above: Above) -> Result<()> {
    let mut stage = Stage::beside("1.7", || sh(NODES).map(|_| Vec::new()))?;
    let others = file == DISK;
    if others {
        stage.also(|_| sh(&format!("truncate -s 32M {DISK}")))?;
    }
    let (mapped, device) = attach(file, above)?;
    stage.must_show(&[(Kind::Device, 1), (Kind::Mount, 1)])?;
    // Whoever attached the disk may want it: named with the command that ends it.
    let named: fn(&Thing) -> bool =
        |thing| thing.kind == Kind::Device || thing.path.starts_with("/dev/mapper");
    let right = if others { Right::Told(named, &[0, 1, 3]) } else { Right::Clean };
    let result = stage.judge(&right, 0);
    sh(&format!("umount {mapped} || true; dmsetup remove vol-1 || true; losetup -d {device} || true")).ok();
    result.map(drop)
}

/// kubelet binds the disk's node for the pod and attaches a loop to that, so that the disk cannot go away. The disk stays.
fn raw_block() -> Result<()> {
    const BLOCKS: &str = "/srv/disk-of-blocks";
    let mut stage = Stage::beside("1.7", || {
        sh(&format!("truncate -s 32M {BLOCKS}; losetup -f {BLOCKS}")).map(|_| Vec::new())
    })?;
    sh(&format!(
        "disk=$(losetup -j {BLOCKS} -O NAME -n); dev={COMMON}/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/pv/dev
         uid=11111111-2222-4333-8444-555555555555; pod={COMMON}/var/lib/kubelet/pods/$uid/volumeDevices/kubernetes.io~csi
         mkdir -p $dev $pod; : > $dev/$uid; mount --bind $disk $dev/$uid; ln -s $dev/$uid $pod/pv; losetup -f $dev/$uid"
    ))?;
    stage.must_show(&[(Kind::Mount, 1), (Kind::Device, 1)])?;
    let result = stage.judge(&Right::Clean, 0);
    let left = format!("losetup -a | sed -n 's,^\\(/dev/loop[0-9]*\\):.*{COMMON}.*volumeDevices.*,\\1,p'");
    sh(&format!("for d in $({left}) $(losetup -j {BLOCKS} -O NAME -n); do losetup -d $d; done")).ok();
    result.map(drop)
}

/// A partition and a pool of btrfs that are mounted elsewhere, and a loop over the loop.
fn on_loops() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh("mkdir -p /mnt/x /mnt/y; truncate -s 8M /srv/own; losetup -f /srv/own").map(|_| Vec::new())
    })?;
    let attach =
        |name: &str| format!("$(truncate -s 128M {COMMON}/{name}; losetup -P -f --show {COMMON}/{name})");
    sh(&format!(
        "mkdir -p {COMMON}; part={}; loop=${{part#/dev/}}; addpart $part 1 2048 65536; node=/dev/${{loop}}p1
         mknod $node b $(tr : ' ' < /sys/block/$loop/${{loop}}p1/dev); mkfs.ext4 -q $node; mount $node /mnt/x; rm $node
         pool={}; mkfs.btrfs -q $pool; mount -t btrfs $pool /mnt/y; below={}; losetup -f -o 4096 $below",
        attach("part"),
        attach("pool"),
        attach("below")
    ))?;
    stage.must_show(&[(Kind::Device, 4), (Kind::Mount, 2)])?;
    let result = stage.judge(&Right::Clean, 0);
    sh(&format!(
        "umount /mnt/x /mnt/y || true; for n in 1 2; do losetup -a | grep -e '({COMMON}/' -e '(/dev/loop' -e '(/srv/own)' | cut -d: -f1 | xargs -r losetup -d; done"
    ))
    .ok();
    result.map(drop)
}

/// What the pod has made of the disk; the disk stays, and so does what others have on theirs.
fn over_raw_block() -> Result<()> {
    let attach =
        |name: &str| format!("truncate -s 32M {DISK}-{name}; disk=$(losetup -f --show {DISK}-{name})");
    let map = "dmsetup create NAME --table \"0 $(blockdev --getsz $disk) linear $disk 0\"";
    let mut stage = Stage::beside("1.7", || {
        sh(&format!("{NODES}; {}; {}; {}", attach("other"), map.replace("NAME", "others"), attach("raw")))?;
        Ok(Vec::new())
    })?;
    sh(&format!(
        "disk=$(losetup -j {DISK}-raw -O NAME -n); dev={COMMON}/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/pv/dev
         mkdir -p $dev; : > $dev/uid; mount --bind $disk $dev/uid; {}",
        map.replace("NAME", "vol-1")
    ))?;
    stage.must_show(&[(Kind::Mount, 1), (Kind::Device, 1)])?;
    let named: fn(&Thing) -> bool = |thing| {
        thing.kind == Kind::Device && thing.name.contains("vol-1") || thing.path.starts_with("/dev/mapper")
    };
    let result = stage.judge(&Right::Told(named, &[1]), 0);
    sh(&format!(
        "dmsetup remove vol-1; dmsetup remove others; for f in other raw; do losetup -j {DISK}-$f -O NAME -n | xargs -r losetup -d; done"
    ))
    .ok();
    let report = result?.to_string();
    demand(report.contains("dmsetup remove vol-1") && !report.contains("others"), report)
}

/// An array, made as `mdadm --build` does, whose only mount is a volume of ours.
fn array(file: &str) -> Result<()> {
    let mut stage = Stage::beside("1.7", || sh(NODES).map(|_| Vec::new()))?;
    let others = file == DISK;
    if others {
        stage.also(|_| sh(&format!("truncate -s 32M {DISK}")))?;
    }
    sh(&format!(
        "mkdir -p {VOLUME} $(dirname {file}); truncate -s 32M {file}; disk=$(losetup -f --show {file})
         echo md_test > /sys/module/md_mod/parameters/new_array; md=/sys/block/md_test/md; echo linear > $md/level; echo 1 > $md/raid_disks
         cat /sys/block/${{disk#/dev/}}/dev > $md/new_dev; echo 0 > $md/dev-${{disk#/dev/}}/slot; echo 32768 > $md/dev-${{disk#/dev/}}/size
         echo active > $md/array_state; mknod /dev/md_test b $(tr : ' ' < /sys/block/md_test/dev)
         mkfs.ext4 -q /dev/md_test; mount /dev/md_test {VOLUME}; rm /dev/md_test"
    ))?;
    stage.must_show(&[(Kind::Device, 2), (Kind::Mount, 1)])?;
    let right = if others { Right::Told(|thing| thing.kind == Kind::Device, &[1]) } else { Right::Clean };
    let result = stage.judge(&right, 0);
    sh(&format!(
        "umount {VOLUME} || true; echo clear > /sys/block/md_test/md/array_state || true; losetup -a | grep -e '(/srv/disk' -e '({COMMON}/' | cut -d: -f1 | xargs -r losetup -d"
    ))
    .ok();
    let report = result?.to_string();
    demand(!others || report.contains("mdadm --stop /dev/md_test"), report)
}

/// The host has the same disk mounted for itself.
fn shared_loop() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh(&format!(
            "truncate -s 32M {DISK}; mkfs.ext4 -q {DISK}; mkdir -p /mnt/own; d=$(losetup -f --show {DISK}); mount $d /mnt/own
             echo precious > /mnt/own/file"
        ))
        .map(|_| Vec::new())
    })?;
    sh(&format!("mkdir -p {VOLUME}; mount $(losetup -j {DISK} -O NAME -n) {VOLUME}"))?;
    stage.must_show(&[(Kind::Mount, 1)])?;
    let result = stage.judge(&Right::Clean, 0);
    let kept = sh("cat /mnt/own/file");
    sh(&format!("umount /mnt/own; losetup -j {DISK} -O NAME -n | xargs -r losetup -d")).ok();
    demand(kept?.trim() == "precious", "the host's own mount is gone")?;
    result.map(drop)
}

/// A backup has frozen the volume and never thawed it: an unmount would wait for ever.
fn frozen() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    let (mapped, _) = attach(OURS, Above::Nothing)?;
    sh(&format!("fsfreeze --freeze {VOLUME}"))?;
    stage.must_show(&[(Kind::Device, 1), (Kind::Mount, 1)])?;
    let result = stage.judge(&Right::Clean, 0);
    // A file system that is frozen outlives its last mount, and its device with it.
    sh(&format!(
        "set +e; fsfreeze --unfreeze {VOLUME} 2>/dev/null; umount {mapped} 2>/dev/null; mkdir -p /mnt/again; mount {mapped} /mnt/again 2>/dev/null
         fsfreeze --unfreeze /mnt/again 2>/dev/null; umount /mnt/again 2>/dev/null; losetup -d {mapped} 2>/dev/null; true"
    ).replace('\n', ";"))
    .ok();
    result.map(drop)
}

fn shared_mapping() -> Result<()> {
    let mut stage = Stage::beside("1.7", || {
        sh(&format!(
            "mkdir -p /dev/mapper /mnt/own; truncate -s 32M {DISK}; d=$(losetup -f --show {DISK})
             dmsetup create vol-1 --table \"0 $(blockdev --getsz $d) linear $d 0\"; dmsetup mknodes
             mkfs.ext4 -q /dev/mapper/vol-1; mount /dev/mapper/vol-1 /mnt/own; echo precious > /mnt/own/file"
        ))
        .map(|_| Vec::new())
    })?;
    sh(&format!("mkdir -p {VOLUME}; mount /dev/mapper/vol-1 {VOLUME}; test -d {COMMON}"))?;
    stage.must_show(&[(Kind::Mount, 1)])?;
    let result = stage.judge(&Right::Clean, 0);
    sh(&format!("umount /mnt/own; dmsetup remove vol-1; losetup -j {DISK} -O NAME -n | xargs -r losetup -d"))
        .ok();
    result.map(drop)
}
