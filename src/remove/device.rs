//! One block device that only mounts of ours used.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;

use crate::engine::done::Done;
use crate::error::errno_of;
use crate::linux::block::Kind;
use crate::linux::loop_device::BLOCK;
use crate::linux::sys;
use crate::remove::live::Live;
use crate::residue::Device;

/// Where device-mapper is asked.
const CONTROL: &str = "/dev/mapper/control";

/// Takes away a mapping over files of ours. What lies on another disk was attached by somebody who may want it again.
pub fn remove(_live: &Live, Device { device, ours, command }: &Device) -> Done {
    if *ours && device.how == Kind::Raid {
        let array = Path::new(BLOCK).join(&device.device).join("md/array_state");
        // What mdadm writes to end one. While it is open, the kernel refuses.
        let stopped = std::fs::write(&array, "clear");
        return Done::of_path("stop", &array, stopped.map_err(|e| errno_of(&e)));
    }
    if !ours || !device.is_mapping() {
        let why = match ours {
            true => format!("it lies on files of the snap; '{command}' ends it"),
            false => {
                format!("only the snap used it, but what it lies on is not the snap's; '{command}' ends it")
            }
        };
        return Done::NotPossible { why };
    }
    let control = match File::options().read(true).write(true).open(CONTROL) {
        Ok(control) => control,
        Err(e) => return Done::of_path("open", Path::new(CONTROL), Err(errno_of(&e))),
    };
    match sys::remove_mapping(&control, &device.name) {
        Ok(()) | Err(Errno::ENXIO) => Done::Gone,
        Err(e) => Done::of_path("remove", &Path::new("/dev").join(&device.device), Err(e)),
    }
}
