//! The few system calls that no library we use offers in a safe form.
//!
//! With what stands in for parts of glibc, the only place where `unsafe` is allowed.
#![allow(unsafe_code)]

#[cfg(all(target_env = "gnu", not(debug_assertions)))]
mod glibc;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid};

/// Forks. The child does this work, and ends.
pub fn fork(work: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: the child runs `work` and leaves by _exit. Threads exist only while shims are asked and while much
    // is read (in_two.rs), and none of that overlaps with this; glibc's fork leaves its allocator usable in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            work();
            // SAFETY: ends the child at once; no destructor of the parent's may run twice.
            unsafe { nix::libc::_exit(0) }
        }
    }
}

/// Has a program's process do this before it becomes the program. It may make system calls only: no allocation, no lock.
pub fn before_exec(command: &mut Command, work: fn() -> io::Result<()>) {
    // SAFETY: what callers pass makes system calls only.
    unsafe { command.pre_exec(work) };
}

/// Sends a signal by its number, which a real-time one has only.
pub fn signal(pid: i32, number: i32) -> Result<(), Errno> {
    // SAFETY: takes two numbers and touches no memory of ours.
    Errno::result(unsafe { nix::libc::kill(pid, number) }).map(drop)
}

/// The same to a process that was opened.
pub fn signal_through(process: BorrowedFd, number: i32) -> Result<(), Errno> {
    let none: *const nix::libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for as long as it is borrowed, and no details are handed over.
    let result = unsafe {
        nix::libc::syscall(nix::libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, none, 0u32)
    };
    Errno::result(result).map(drop)
}

/// Which process used a semaphore of a set last (GETPID of semctl(2)); 0 for none.
pub fn semaphore_user(set: i32, number: i32) -> Result<i32, Errno> {
    // SAFETY: this command takes no further argument and touches no memory of ours.
    Errno::result(unsafe { nix::libc::semctl(set, number, nix::libc::GETPID) })
}

/// Takes the backing file from a loop device (LOOP_CLR_FD of linux/loop.h). The kernel may put it off until
/// the last user closes the device, and says nothing of that.
pub fn clear_loop(device: &File) -> Result<(), Errno> {
    const LOOP_CLR_FD: nix::libc::c_ulong = 0x4C01;
    // SAFETY: the request takes no argument and touches no memory of ours.
    let result = unsafe { nix::libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _, 0) };
    Errno::result(result).map(drop)
}

/// Makes a read-only subvolume of btrfs writable, such as a snapshot of an image (BTRFS_IOC_SUBVOL_SETFLAGS of linux/btrfs.h).
/// The kernel refuses it for any directory but a subvolume's topmost one.
pub fn make_subvolume_writable(top: BorrowedFd) -> Result<(), Errno> {
    const SUBVOL_SETFLAGS: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<u64>(0x94, 26);
    let no_flags = 0u64;
    // SAFETY: the kernel reads one u64, and the descriptor is open for as long as it is borrowed.
    let result = unsafe { nix::libc::ioctl(top.as_raw_fd(), SUBVOL_SETFLAGS as _, &raw const no_flags) };
    Errno::result(result).map(drop)
}

/// Which file is behind a loop device: its device number and inode (LOOP_GET_STATUS64 of linux/loop.h).
pub fn loop_file(device: &File) -> Result<(u64, u64), Errno> {
    const LOOP_GET_STATUS64: nix::libc::c_ulong = 0x4C05;
    // `struct loop_info64` is 232 bytes long and begins with lo_device and lo_inode.
    let mut info = [0u64; 29];
    // SAFETY: the kernel writes a `struct loop_info64`, and the buffer is exactly as long as one.
    let result = unsafe { nix::libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, info.as_mut_ptr()) };
    Errno::result(result).map(|_| (info[0], info[1]))
}

/// Thaws a file system that somebody has frozen (FITHAW of linux/fs.h), by any directory of it. EINVAL if it is not frozen.
pub fn thaw(directory: &File) -> Result<(), Errno> {
    // _IOWR('X', 120, int)
    const FITHAW: nix::libc::c_ulong = 0xC004_5878;
    // SAFETY: the kernel takes no notice of the argument, and touches no memory of ours.
    let result = unsafe { nix::libc::ioctl(directory.as_raw_fd(), FITHAW as _, 0) };
    Errno::result(result).map(drop)
}

/// Takes away a mapping of device-mapper by its name (DM_DEV_REMOVE of linux/dm-ioctl.h). The kernel refuses while it is in
/// use.
pub fn remove_mapping(control: &File, name: &str) -> Result<(), Errno> {
    // _IOWR(0xfd, 4, struct dm_ioctl)
    const DM_DEV_REMOVE: nix::libc::c_ulong = 0xC138_FD04;
    const SIZE: u32 = 312;
    const NAME: usize = 48;
    // `struct dm_ioctl`: version, data_size, data_start, ..., name at byte 48, 128 bytes long. Aligned as its u64.
    let mut request = [0u64; SIZE as usize / 8];
    let mut bytes = [0u8; SIZE as usize];
    if name.is_empty() || name.len() > 127 {
        return Err(Errno::EINVAL);
    }
    bytes[..4].copy_from_slice(&4u32.to_ne_bytes());
    bytes[12..16].copy_from_slice(&SIZE.to_ne_bytes());
    bytes[16..20].copy_from_slice(&SIZE.to_ne_bytes());
    bytes[NAME..NAME + name.len()].copy_from_slice(name.as_bytes());
    for (word, piece) in request.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(piece.try_into().unwrap_or_default());
    }
    // SAFETY: the kernel reads and writes a `struct dm_ioctl` of data_size bytes, and the buffer is exactly as long.
    let result = unsafe { nix::libc::ioctl(control.as_raw_fd(), DM_DEV_REMOVE as _, request.as_mut_ptr()) };
    Errno::result(result).map(drop)
}

/// In a child of ours, which has no use for any other: closes every descriptor but the first three and this one.
pub fn close_all_but(kept: RawFd) {
    let kept = kept.unsigned_abs();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: the child leaves by _exit, so that no owner of one of these closes it a second time.
            unsafe {
                nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0u32);
            }
        }
    }
}

/// Closes every descriptor that we inherited besides the first three: an open file pins what it lies on.
pub fn close_inherited() {
    // SAFETY: called first thing in main, before we have opened anything of our own.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, 3u32, u32::MAX, 0u32);
    }
}
