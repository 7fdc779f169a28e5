//! One loop device.

use std::ffi::OsStr;
use std::fs::File;

use nix::errno::Errno;

use crate::engine::done::Done;
use crate::error::errno_of;
use crate::linux::{loop_device, sys};
use crate::remove::live::Live;
use crate::residue::Loop;

/// Takes the file from the device. The kernel says yes at once and does it when the last user closes the device,
/// so it is asked again what is behind it.
pub fn remove(live: &Live, Loop { device, backing }: &Loop) -> Done {
    let name = device.file_name().unwrap_or(OsStr::new(""));
    let there = || loop_device::backing_file(&live.host, name).is_some_and(|(file, _)| file == *backing);
    if !there() {
        return Done::Gone;
    }
    let cleared = match File::open(device) {
        Ok(opened) => sys::clear_loop(&opened),
        Err(e) => return Done::of_path("open", device, Err(errno_of(&e))),
    };
    match cleared {
        Ok(()) if there() => Done::Failed {
            error: format!("{} is in use, and goes when its last user closes it", crate::text::show(device)),
            errno: Some(Errno::EBUSY),
        },
        // No file is behind it any more.
        Err(Errno::ENXIO) => Done::Gone,
        other => Done::of_path("detach", device, other),
    }
}
