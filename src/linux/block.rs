//! Block devices that somebody has attached or mapped, by sysfs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::linux::host::Host;
use crate::linux::loop_device::{BLOCK, number};

/// How a device came to be, which says how it ends. A disk that is built in is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file as a device.
    Loop,
    /// A mapping of dm-crypt.
    Crypt,
    /// A logical volume.
    Lvm,
    /// Another mapping of device-mapper.
    Mapping,
    /// A network block device.
    Nbd,
    /// An image of Ceph.
    Rbd,
    /// A disk of an iSCSI session.
    Iscsi,
    /// A disk of NVMe over fabrics.
    Nvme,
    /// An array of md.
    Raid,
    /// A disk with a cache before it.
    Bcache,
    /// A mirror of DRBD.
    Drbd,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    /// The kernel's name, such as `dm-0`.
    pub device: String,
    /// What it is called by those who made it.
    pub name: String,
    /// How it came to be.
    pub how: Kind,
}

/// All of these that are in use.
pub fn list(host: &Host) -> Vec<Device> {
    let names = host.list(Path::new(BLOCK)).unwrap_or_default();
    names.iter().filter_map(|name| read(host, name)).collect()
}

/// The device by this name of the kernel's, if it is one that somebody has attached.
pub fn read(host: &Host, name: &OsStr) -> Option<Device> {
    let device = name.to_str()?.to_owned();
    let text = |below: &str| host.read_text(&Path::new(BLOCK).join(name).join(below)).ok();
    let number: String = device.chars().filter(char::is_ascii_digit).collect();
    let (how, called) = if device.starts_with("loop") {
        (Kind::Loop, text("loop/backing_file")?)
    } else if device.starts_with("dm-") {
        let uuid = text("dm/uuid").unwrap_or_default();
        let how = match uuid.split('-').next() {
            Some("CRYPT") => Kind::Crypt,
            Some("LVM") => Kind::Lvm,
            _ => Kind::Mapping,
        };
        (how, text("dm/name")?)
    } else if device.starts_with("nbd") {
        text("pid").map(|_| (Kind::Nbd, device.clone()))?
    } else if device.starts_with("rbd") {
        let below =
            |key: &str| host.read_text(&PathBuf::from(format!("/sys/bus/rbd/devices/{number}/{key}"))).ok();
        (Kind::Rbd, format!("{}/{}", below("pool").unwrap_or_default(), below("name").unwrap_or_default()))
    } else if device.starts_with("nvme") {
        (Kind::Nvme, over_fabrics(host, &device)?)
    } else if device.starts_with("md") {
        text("md/array_state").filter(|state| state != "clear").map(|_| (Kind::Raid, device.clone()))?
    } else if device.starts_with("bcache") {
        text("bcache/state").map(|_| (Kind::Bcache, device.clone()))?
    } else if device.starts_with("drbd") {
        text("size").filter(|size| size != "0").map(|_| (Kind::Drbd, device.clone()))?
    } else {
        // /sys/block/sda leads to …/session1/target…
        let way = std::fs::read_link(host.path(&Path::new(BLOCK).join(name))).ok()?;
        let session =
            way.iter().find_map(|part| part.to_str()?.strip_prefix("session").map(str::to_owned))?;
        (Kind::Iscsi, session)
    };
    Some(Device { device, name: called, how })
}

/// The qualified name (NQN) of the subsystem that a disk of NVMe is in, unless one of its controllers is in this machine. Where
/// several lead to it, /sys/block has the disk in the subsystem; else in its controller.
fn over_fabrics(host: &Host, device: &str) -> Option<String> {
    let above = Path::new(BLOCK).join(device).join("device");
    let text = |file: &Path| host.read_text(file).ok();
    let listed = below(host, &above);
    let is_controller = |name: &&OsString| name.to_str().is_some_and(is_a_controllers);
    let ways = listed.iter().filter(is_controller).map(|name| above.join(name));
    let transports: Vec<String> =
        ways.chain([above.clone()]).filter_map(|way| text(&way.join("transport"))).collect();
    let is_far = |transport: &String| ["tcp", "rdma", "fc"].contains(&transport.as_str());
    let all_are_far = !transports.is_empty() && transports.iter().all(is_far);
    text(&above.join("subsysnqn")).filter(|_| all_are_far)
}

/// True for a name that means nothing to a shell: the server has chosen it.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-_".contains(&b))
}

/// `nvme0`, and not `nvme0n1` or `nvme0c0n1`.
fn is_a_controllers(name: &str) -> bool {
    name.strip_prefix("nvme").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// The devices that one is made of, or those that are made of it.
pub fn beside(host: &Host, device: &str, which: &str) -> Vec<String> {
    let names = host.list(&Path::new(BLOCK).join(device).join(which)).unwrap_or_default();
    names.into_iter().filter_map(|n| n.into_string().ok()).collect()
}

/// What is below a device. sysfs has a link there, which `Host::list` refuses.
fn below(host: &Host, at: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(host.path(at)).into_iter().flatten();
    entries.flatten().map(|entry| entry.file_name()).collect()
}

/// The numbers of a device and of its partitions, as a mount table prints them.
pub fn numbers(host: &Host, device: &str) -> Vec<String> {
    let parts = below(host, &Path::new(BLOCK).join(device));
    let parts = parts.iter().filter(|p| p.as_encoded_bytes().starts_with(device.as_bytes()));
    let of_part = |part| host.read_text(&Path::new(BLOCK).join(device).join(part).join("dev")).ok();
    number(host, OsStr::new(device)).into_iter().chain(parts.filter_map(of_part)).collect()
}

impl Device {
    /// What ends it.
    pub fn command(&self) -> String {
        let Device { device, name, how } = self;
        match how {
            Kind::Loop => format!("losetup -d /dev/{device}"),
            Kind::Crypt => format!("cryptsetup close {name}"),
            Kind::Lvm => format!("lvchange -an /dev/mapper/{name}"),
            Kind::Mapping => format!("dmsetup remove {name}"),
            Kind::Nbd => format!("nbd-client -d /dev/{device}"),
            Kind::Rbd => format!("rbd device unmap /dev/{device}"),
            Kind::Iscsi => format!("iscsiadm -m session -r {name} -u"),
            Kind::Nvme if is_plain(name) => format!("nvme disconnect -n {name}"),
            Kind::Nvme => format!("nvme disconnect -d {device}"),
            Kind::Raid => format!("mdadm --stop /dev/{device}"),
            Kind::Bcache => format!("echo 1 > /sys/block/{device}/bcache/stop"),
            Kind::Drbd => format!("drbdsetup detach {}", device.trim_start_matches("drbd")),
        }
    }

    /// True for one of device-mapper's.
    pub fn is_mapping(&self) -> bool {
        matches!(self.how, Kind::Crypt | Kind::Lvm | Kind::Mapping)
    }

    /// True for one that is made of other devices of this machine.
    pub fn is_made_of_others(&self) -> bool {
        self.is_mapping() || matches!(self.how, Kind::Raid | Kind::Bcache)
    }

    /// True for one that whoever gives it to a pod has attached for it.
    pub fn is_remote(&self) -> bool {
        matches!(self.how, Kind::Nbd | Kind::Rbd | Kind::Iscsi | Kind::Nvme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_with_the_command_that_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| crate::fixture::file(dir.path(), path, text);
        write("sys/block/loop3/loop/backing_file", "/srv/disk\n");
        write("sys/block/loop4/size", "0\n");
        write("sys/block/dm-0/dm/name", "vol-1\n");
        write("sys/block/dm-0/dm/uuid", "CRYPT-LUKS2-1-vol-1\n");
        write("sys/block/dm-1/dm/name", "vg-lv\n");
        write("sys/block/dm-1/dm/uuid", "LVM-x\n");
        write("sys/block/nbd0/pid", "7\n");
        write("sys/block/nbd1/size", "0\n");
        write("sys/block/md9/md/array_state", "active\n");
        write("sys/block/md8/md/array_state", "clear\n");
        write("sys/block/bcache0/bcache/state", "no cache\n");
        write("sys/block/drbd1/size", "8\n");
        write("sys/block/drbd2/size", "0\n");
        write("sys/devices/platform/host3/session2/target3:0:0/block/sdb/dev", "8:16\n");
        write("sys/devices/pci/block/sda/dev", "8:0\n");
        write("sys/devices/pci/block/sda/sda1/dev", "8:1\n");
        for (name, way) in [
            ("sdb", "../devices/platform/host3/session2/target3:0:0/block/sdb"),
            ("sda", "../devices/pci/block/sda"),
        ] {
            std::os::unix::fs::symlink(way, dir.path().join("sys/block").join(name)).unwrap();
        }
        // One that is built in, one behind its controller, and two of a subsystem that several controllers lead to.
        write("sys/block/nvme0n1/device/transport", "pcie\n");
        write("sys/block/nvme0n1/device/subsysnqn", "nqn.built-in\n");
        write("sys/devices/nvme1/transport", "tcp\n");
        write("sys/devices/nvme1/subsysnqn", "nqn.2014-08.org.x:uuid:1_a\n");
        write("sys/block/nvme1n1/size", "8\n");
        let device = dir.path().join("sys/block/nvme1n1/device");
        std::os::unix::fs::symlink("../../devices/nvme1", device).unwrap();
        for (disk, second) in [("nvme2n1", "rdma"), ("nvme4n1", "pcie")] {
            write(&format!("sys/block/{disk}/device/subsysnqn"), "nqn.x;reboot\n");
            write(&format!("sys/block/{disk}/device/nvme2/transport"), "tcp\n");
            write(&format!("sys/block/{disk}/device/nvme3/transport"), &format!("{second}\n"));
        }
        assert_eq!(numbers(&Host::at(dir.path()), "sda"), ["8:0", "8:1"]);
        let mut commands: Vec<String> = list(&Host::at(dir.path())).iter().map(Device::command).collect();
        commands.sort();
        assert_eq!(
            commands,
            [
                "cryptsetup close vol-1",
                "drbdsetup detach 1",
                "echo 1 > /sys/block/bcache0/bcache/stop",
                "iscsiadm -m session -r 2 -u",
                "losetup -d /dev/loop3",
                "lvchange -an /dev/mapper/vg-lv",
                "mdadm --stop /dev/md9",
                "nbd-client -d /dev/nbd0",
                "nvme disconnect -d nvme2n1",
                "nvme disconnect -n nqn.2014-08.org.x:uuid:1_a"
            ]
        );
    }
}
