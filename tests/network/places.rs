//! Loop devices, sockets and symlinks outside of the snap's own directories.

use std::fs;
use std::path::Path;

use crate::stage::{World, write};
use support::{Result, demand, sh};

/// A loop device on a file; the world has no devices of its own.
fn attach(file: &Path) -> Result<String> {
    let device = sh(&format!(
        "mkdir -p {0} && truncate -s 1M {1} && losetup -f --show {1}",
        file.parent().ok_or("no parent")?.display(),
        file.display()
    ))?;
    Ok(device.trim().to_owned())
}

fn backing(device: &str) -> Option<String> {
    let name = device.rsplit('/').next()?;
    fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()
}

/// Loop devices are the whole machine's: whatever happens here, they are given back.
struct Devices(Vec<String>);

impl Drop for Devices {
    fn drop(&mut self) {
        for device in self.0.iter().filter(|d| backing(d).is_some()) {
            let _ = sh(&format!("losetup -d {device}"));
        }
    }
}

pub fn loops() -> Result<()> {
    sh("mknod /dev/loop-control c 10 237; for n in $(seq 0 31); do mknod /dev/loop$n b 7 $n; done")?;
    let world = World::new()?;
    let plugins = world.snap.common.join("var/lib/kubelet/plugins/kubernetes.io");
    let mut devices = Devices(vec![]);
    let earlier = world.snap.common.with_file_name("0").join("disk.img");
    for file in
        [plugins.join("volume"), plugins.join("deleted"), plugins.join("busy"), "/srv/other".into(), earlier]
    {
        devices.0.push(attach(&file)?);
    }
    let [ours, deleted, busy, other, earlier] = &devices.0[..] else { return Err("no devices".into()) };
    fs::remove_file(plugins.join("deleted"))?;
    demand(devices.0.iter().all(|d| backing(d).is_some()), "the look is blind for loop devices")?;
    let user = fs::File::open(busy)?;
    let (status, document, _) = world.hook()?;
    demand(backing(ours).is_none() && backing(deleted).is_none(), "a loop device of ours is left")?;
    demand(backing(earlier).is_none(), "a loop device of an earlier revision is left")?;
    demand(backing(other).is_some(), "somebody else's loop device is gone")?;
    demand(backing(busy).is_some() && status == Some(1), "what the last look saw was not believed")?;
    demand(document.to_string().contains(busy.as_str()), "the busy device is not named")?;
    drop(user);
    demand(backing(busy).is_none(), "the kernel has not put it off")
}

pub fn files() -> Result<()> {
    let world = World::new()?;
    let kubelet = world.snap.common.join("var/lib/kubelet");
    for name in ["plugins_registry/r.sock", "plugins/driver/csi.sock", "device-plugins/d.sock"] {
        let path = kubelet.join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        drop(std::os::unix::net::UnixListener::bind(path)?);
    }
    fs::create_dir_all("/opt/cni")?;
    std::os::unix::fs::symlink("/var/snap/microk8s/common/var/lib/kubelet", "/var/lib/kubelet")?;
    std::os::unix::fs::symlink("/var/lib/somebody/calico", "/var/lib/calico")?;
    std::os::unix::fs::symlink("/snap/microk8s/current/cni", "/opt/cni/bin")?;
    write("/var/snap/microk8s/common/default-storage/precious", "the user's")?;
    let (status, document, _) = world.hook()?;
    demand(status == Some(0), format!("{document}"))?;
    for gone in ["/var/lib/kubelet", "/opt/cni/bin"] {
        demand(fs::symlink_metadata(gone).is_err(), format!("{gone} is left"))?;
    }
    demand(fs::symlink_metadata("/var/lib/calico").is_ok(), "somebody else's symlink is gone")?;
    demand(
        Path::new("/var/snap/microk8s/common/default-storage/precious").exists(),
        "the user's data is gone",
    )?;
    let sockets = sh(&format!("find {} -type s", kubelet.display()))?;
    demand(sockets.is_empty(), format!("left: {sockets}"))
}
