//! Containers on other snapshotters than overlayfs, found by their root file system where nothing else is left of them.
//!
//! RIGHT: a process whose root is a snapshot of ours is ours on every snapshotter: it gets its SIGTERM and is ended;
//! subvolumes, loop devices and snapshots go with the images. Status 0.

use std::fs;

use crate::moved::kill_shims;
use crate::shapes::forget_all;
use crate::stage::{COMMON, Right, Stage, sh};
use support::Result;
use support::picture::{Kind, Thing};
use support::scenes::Scene;

pub const ALL: &[Scene] = &[
    ("snapshots_of_native", || snapshots("1.7", NATIVE, false)),
    ("snapshots_of_native_and_all_else_forgotten", || snapshots("1.7", NATIVE, true)),
    ("snapshots_of_btrfs", || snapshots("1.7", BTRFS, false)),
    ("snapshots_of_btrfs_and_all_else_forgotten", || snapshots("1.7", BTRFS, true)),
    ("snapshots_of_blockfile", || snapshots("2.1", BLOCKFILE, false)),
    ("snapshots_of_blockfile_and_all_else_forgotten", || snapshots("2.1", BLOCKFILE, true)),
    ("snapshots_of_overlayfs_and_all_else_forgotten", || snapshots("1.7", "overlayfs", true)),
    ("snapshots_of_overlayfs_and_all_else_forgotten_hybrid", || snapshots("1.7", "overlayfs", true)),
    ("snapshots_of_overlayfs_elsewhere_and_all_else_forgotten", moved_snapshots),
    ("snapshots_of_devmapper", || snapshots("1.7", DEVMAPPER, false)),
];

const NATIVE: &str = "native";
const BTRFS: &str = "btrfs";
const BLOCKFILE: &str = "blockfile";
const DEVMAPPER: &str = "devmapper";

/// A disk of its own at $SNAP_COMMON, as an administrator mounts one.
fn disk() -> Result<()> {
    sh(&format!("mkdir -p {COMMON} /srv; truncate -s 300M /srv/btrfs; mkfs.btrfs -q /srv/btrfs; mount -o loop /srv/btrfs {COMMON}"))
        .map(drop)
}

fn snapshots(version: &'static str, kind: &'static str, forgotten: bool) -> Result<()> {
    let mut stage = Stage::beside(version, || {
        match kind {
            BTRFS => disk()?,
            DEVMAPPER => drop(sh(crate::devices::NODES)?),
            _ => {}
        }
        Ok(Vec::new())
    })?;
    start(&mut stage, kind, &format!("{COMMON}/var/lib/containerd"))?;
    stage.polite_pods("polite", 2)?;
    stage.stop()?;
    if forgotten {
        kill_shims(&stage)?;
        forget_all()?;
        // Nor are the groups of a shape that says anything; where every hierarchy has some, they stay as they are.
        sh("[ ! -e /sys/fs/cgroup/unified ] || exit 0; cd /sys/fs/cgroup; mkdir odd
            for p in $(cat kubepods/besteffort/*/*/cgroup.procs); do echo $p > odd/cgroup.procs; done
            find kubepods -depth -type d -exec rmdir {} +")?;
    }
    stage.must_show(&[(Kind::Process, if forgotten { 4 } else { 6 })])?;
    // That group is nobody's; and read-only subvolumes go with their own command alone, or are named.
    let told: fn(&Thing) -> bool = |thing| match thing.kind {
        Kind::Cgroup => thing.path.ends_with("odd"),
        Kind::File => thing.path.starts_with("/var/snap/microk8s"),
        _ => false,
    };
    let right = if kind == BTRFS || forgotten { Right::Told(told, &[0, 1, 3]) } else { Right::Clean };
    stage.judge(&right, 2)?;
    Ok(())
}

fn start(stage: &mut Stage, kind: &str, root: &str) -> Result<()> {
    let layout = support::runtime::Layout { root: root.into(), ..Stage::layout() };
    let state = layout.state.display().to_string();
    stage.start(layout, &["--root", root, "--state", &state], |config| {
        let config = config.replacen(
            "[plugins.\"io.containerd.nri",
            &format!("[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"{kind}\"\n[plugins.\"io.containerd.nri"),
            1,
        );
        let more = match kind {
            BLOCKFILE => blockfile()?,
            DEVMAPPER => thin_pool()?,
            _ => "",
        };
        Ok(format!("{config}\n{more}"))
    })?;
    Ok(())
}

fn blockfile() -> Result<&'static str> {
    fs::create_dir_all("/opt/runtimes/scratch")?;
    sh(
        "truncate -s 24M /opt/runtimes/scratch/disk; mkfs.ext4 -q -O ^has_journal /opt/runtimes/scratch/disk",
    )?;
    Ok(
        "[plugins.\"io.containerd.snapshotter.v1.blockfile\"]\nscratch_file = \"/opt/runtimes/scratch/disk\"\nfs_type = \"ext4\"\nmount_options = []\n\
        [[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\nplatform = \"linux/amd64\"\nsnapshotter = \"blockfile\"\n",
    )
}

/// A pool as containerd's documentation makes one (docs/snapshotters/devmapper.md), on files of the snap.
fn thin_pool() -> Result<&'static str> {
    sh(&format!(
        "mkdir -p {COMMON}/pool; cd {COMMON}/pool; truncate -s 400M data; truncate -s 8M meta
         data=$(losetup -f --show data); meta=$(losetup -f --show meta)
         dmsetup create microk8s-pool --table \"0 $(blockdev --getsz $data) thin-pool $meta $data 128 8192 1 skip_block_zeroing\"; dmsetup mknodes"
    ))?;
    Ok(
        "[plugins.\"io.containerd.snapshotter.v1.devmapper\"]\npool_name = \"microk8s-pool\"\nbase_image_size = \"48MB\"\n",
    )
}

/// The root was moved, and neither shims nor files tell to where, but the processes' own roots do.
fn moved_snapshots() -> Result<()> {
    let mut stage = Stage::new("1.7")?;
    fs::create_dir_all("/mnt/big")?;
    fs::create_dir_all(format!("{}/args", crate::stage::DATA))?;
    fs::write(format!("{}/args/containerd", crate::stage::DATA), "--root /mnt/big/lib\n")?;
    start(&mut stage, "overlayfs", "/mnt/big/lib")?;
    stage.polite_pods("polite", 1)?;
    stage.stop()?;
    kill_shims(&stage)?;
    forget_all()?;
    stage.must_show(&[(Kind::Process, 2)])?;
    stage.judge(&Right::Told(|t| t.kind == Kind::File && t.path.starts_with("/mnt/big"), &[1, 3]), 1)?;
    Ok(())
}
