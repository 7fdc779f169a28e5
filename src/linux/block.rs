//! Block devices that somebody has attached or mapped, by sysfs.

use std::ffi::OsStr;
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
    } else {
        // /sys/block/sda leads to …/session1/target…
        let way = std::fs::read_link(host.path(&Path::new(BLOCK).join(name))).ok()?;
        let session =
            way.iter().find_map(|part| part.to_str()?.strip_prefix("session").map(str::to_owned))?;
        (Kind::Iscsi, session)
    };
    Some(Device { device, name: called, how })
}

/// The devices that one is made of, or those that are made of it.
pub fn beside(host: &Host, device: &str, which: &str) -> Vec<String> {
    let names = host.list(&Path::new(BLOCK).join(device).join(which)).unwrap_or_default();
    names.into_iter().filter_map(|n| n.into_string().ok()).collect()
}

/// The numbers of a device and of its partitions, as a mount table prints them.
pub fn numbers(host: &Host, device: &str) -> Vec<String> {
    let parts = host.list(&Path::new(BLOCK).join(device)).unwrap_or_default();
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
        }
    }

    /// True for one of device-mapper's.
    pub fn is_mapping(&self) -> bool {
        matches!(self.how, Kind::Crypt | Kind::Lvm | Kind::Mapping)
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
        write("sys/devices/platform/host3/session2/target3:0:0/block/sdb/dev", "8:16\n");
        write("sys/devices/pci/block/sda/dev", "8:0\n");
        for (name, way) in [
            ("sdb", "../devices/platform/host3/session2/target3:0:0/block/sdb"),
            ("sda", "../devices/pci/block/sda"),
        ] {
            std::os::unix::fs::symlink(way, dir.path().join("sys/block").join(name)).unwrap();
        }
        let mut commands: Vec<String> = list(&Host::at(dir.path())).iter().map(Device::command).collect();
        commands.sort();
        assert_eq!(
            commands,
            [
                "cryptsetup close vol-1",
                "iscsiadm -m session -r 2 -u",
                "losetup -d /dev/loop3",
                "lvchange -an /dev/mapper/vg-lv",
                "nbd-client -d /dev/nbd0"
            ]
        );
    }
}
