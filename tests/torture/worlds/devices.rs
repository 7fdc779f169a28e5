//! Loop devices: over a file of the snap, mounted below kubelet's directory, and over somebody else's.

use std::fs;
use std::path::{Path, PathBuf};

use super::{COMMON, World};
use support::{Result, sh};

/// A loop device, which the whole machine sees. No other world has a file of that name.
pub struct LoopDevice {
    pub node: String,
    pub file: PathBuf,
    pub is_ours: bool,
}

impl LoopDevice {
    pub fn is_attached(&self) -> bool {
        let name = self.node.trim_start_matches("/dev/");
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).unwrap_or_default();
        Path::new(file.trim_end().trim_end_matches(" (deleted)")) == self.file
    }
}

/// None outlives its world, whatever the hook has left.
impl Drop for LoopDevice {
    fn drop(&mut self) {
        if self.is_attached() {
            let _ = sh(&format!("umount -A {0} || true; losetup -d {0}", self.node));
        }
    }
}

impl World {
    pub(super) fn loop_devices(&mut self) -> Result<()> {
        sh("[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
            for n in $(seq 0 63); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done")?;
        let ours = Path::new(COMMON).join("disks");
        let volume = self.places.kubelet.join("plugins/kubernetes.io/csi/disk/globalmount");
        self.loop_device(&ours, &volume, true)?;
        self.mounts.push(volume);
        self.loop_device(Path::new("/srv/disks"), Path::new("/mnt/others-disk"), false)
    }

    fn loop_device(&mut self, dir: &Path, at: &Path, is_ours: bool) -> Result<()> {
        let file = dir.join(format!("disk-{}", self.seed));
        let (shown, point) = (file.display(), at.display());
        let node = sh(&format!(
            "mkdir -p {} {point}; truncate -s 8M {shown}; losetup -f --show {shown}",
            dir.display()
        ))?;
        let node = node.trim().to_owned();
        self.devices.push(LoopDevice { node: node.clone(), file, is_ours });
        // Its bytes change when the disk is unmounted.
        self.hidden.push(dir.to_path_buf());
        sh(&format!("mkfs.ext4 -q {node}; mount {node} {point}")).map(drop)
    }
}
