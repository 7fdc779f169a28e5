//! One loop device.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use nix::libc::EBUSY;

use crate::host::Host;
use crate::live::is_refusal;
use crate::report::{Done, Rung};
use crate::steps::loops;
use crate::sys;

/// Takes the file from the device. The kernel says yes at once and does it when the last user closes the device,
/// so it is asked again what is behind it.
pub fn remove(device: &Path, backing: &Path) -> Done {
    let name = device.file_name().unwrap_or(OsStr::new(""));
    let there = || loops::backing_file(&Host::live(), name).is_some_and(|(file, _)| file == backing);
    if !there() {
        return Done::Gone;
    }
    let opened = match File::open(device) {
        Ok(opened) => opened,
        Err(e) => {
            let errno = e.raw_os_error().unwrap_or(0);
            return if is_refusal(errno) {
                Done::refused(Rung::Remove, errno)
            } else {
                Done::failed("open", device, errno)
            };
        }
    };
    let cleared = sys::clear_loop(&opened);
    drop(opened);
    match cleared {
        Ok(()) if there() => Done::Failed {
            error: format!("{} is in use, and goes when its last user closes it", crate::text::show(device)),
            errno: EBUSY,
        },
        Ok(()) => Done::Gone,
        Err(e) if crate::error::gone(e as i32) || e == nix::errno::Errno::ENXIO => Done::Gone,
        Err(e) if is_refusal(e as i32) => Done::refused(Rung::Remove, e as i32),
        Err(e) => Done::failed("detach", device, e as i32),
    }
}
