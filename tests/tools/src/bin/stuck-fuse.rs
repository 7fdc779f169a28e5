//! A FUSE server that answers nothing after the handshake: `stuck-fuse DIRECTORY` mounts there, prints "ready", and reads
//! requests for ever. Whoever touches the directory then waits in the kernel and cannot be killed: a request that its
//! server has read is waited out (fs/fuse/dev.c). It ends, and frees them, when this program is killed.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// The kernel's first request (linux/fuse.h).
const INIT: u32 = 26;

fn main() -> Result<(), Box<dyn Error>> {
    let at = std::env::args().nth(1).ok_or("usage: stuck-fuse DIRECTORY")?;
    let mut device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(Some("stuck"), at.as_str(), Some("fuse.stuck"), MsFlags::empty(), Some(options.as_str()))?;
    let mut request = vec![0; 1 << 17];
    loop {
        let size = match device.read(&mut request) {
            Ok(size) => size,
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => return Ok(()), // unmounted
            Err(error) => return Err(error.into()),
        };
        // The request's header: its length, the operation, and the number that the answer must repeat.
        if size < 40 || request[4..8] != INIT.to_ne_bytes() {
            continue;
        }
        device.write_all(&handshake(&request[8..16]))?;
        println!("ready");
    }
}

/// The answer to INIT: a header, then `struct fuse_init_out` with our version of the protocol and the longest write.
fn handshake(unique: &[u8]) -> Vec<u8> {
    let mut answer = [80u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat();
    answer.extend(unique);
    answer.extend([7u32, 31].map(u32::to_ne_bytes).concat());
    answer.resize(80, 0);
    answer[36..40].copy_from_slice(&4096u32.to_ne_bytes());
    answer
}
