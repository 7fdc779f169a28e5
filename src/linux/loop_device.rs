//! Loop devices, by sysfs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::linux::host::Host;

/// Where the kernel lists block devices.
pub const BLOCK: &str = "/sys/block";

/// The file behind a loop device, and whether it has been deleted; none if there is none.
pub fn backing_file(host: &Host, name: &OsStr) -> Option<(PathBuf, bool)> {
    // An unused device has no such file.
    let mut bytes = host.read(&Path::new(BLOCK).join(name).join("loop/backing_file")).ok()?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let deleted = bytes.ends_with(b" (deleted)");
    if deleted {
        bytes.truncate(bytes.len() - b" (deleted)".len());
    }
    Some((PathBuf::from(OsString::from_vec(bytes)), deleted))
}

/// A block device's number, as a mount table prints it.
pub fn number(host: &Host, name: &OsStr) -> Option<String> {
    host.read_text(&Path::new(BLOCK).join(name).join("dev")).ok()
}
