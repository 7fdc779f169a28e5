//! A file server of a few lines, spoken to over /dev/fuse: a directory that lists nothing, and has a directory by every
//! name that begins with `d` and a program ([`PROGRAM`]), until it is told to stop answering.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use support::Result;

const AT: &str = "HANGS_FUSE_AT";

/// While this file exists the server takes requests and answers none.
pub const SILENT: &str = "/run/fuse-is-silent";

/// A name by which it has a copy of `sleep`.
pub const PROGRAM: &str = "program";
const PROGRAM_INODE: u64 = u64::MAX;

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const FORGET: u32 = 2;

/// Starts a server whose file system is mounted at `at`.
pub fn serve(at: &Path) -> Result<Child> {
    fs::create_dir_all(at)?;
    if !Path::new("/dev/fuse").exists() {
        let mode = Mode::from_bits_truncate(0o600);
        mknod("/dev/fuse", SFlag::S_IFCHR, mode, makedev(10, 229))
            .map_err(|e| format!("no /dev/fuse: {e}"))?;
    }
    let mut command = Command::new("/proc/self/exe");
    command.env(AT, at).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(crate::actor::start(command)?.0)
}

pub fn role() -> Option<Result<()>> {
    let at = std::env::var_os(AT)?;
    Some(run(Path::new(&at)))
}

fn run(at: &Path) -> Result<()> {
    let mut device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(Some("server"), at, Some("fuse.test"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|e| format!("cannot mount at '{}': {e}", at.display()))?;
    let program = fs::read("/usr/bin/sleep")?;
    let mut buffer = vec![0; 1 << 17];
    let mut said = false;
    loop {
        let length = device.read(&mut buffer)?;
        let word =
            |at: usize| u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
        if length < 40 || Path::new(SILENT).exists() {
            continue;
        }
        let (operation, unique) = (word(4), buffer[8..16].to_vec());
        if operation == FORGET {
            continue;
        }
        let name = buffer[40..length].split(|byte| *byte == 0).next().unwrap_or_default();
        let is_program = buffer[16..24] == PROGRAM_INODE.to_ne_bytes();
        let (error, body) = match operation {
            LOOKUP if name == PROGRAM.as_bytes() => (0, found(PROGRAM_INODE, file(program.len()))),
            LOOKUP => entry(name),
            GETATTR if is_program => (0, [vec![0; 16], file(program.len())].concat()),
            OPEN => (0, vec![0; 16]),
            READ => {
                let (start, size) = (word(48) as usize, word(56) as usize);
                let rest = program.get(start..).unwrap_or_default();
                (0, rest[..size.min(rest.len())].to_vec())
            }
            _ => answer(operation),
        };
        let mut out = u32::try_from(16 + body.len())?.to_ne_bytes().to_vec();
        out.extend((-error).to_ne_bytes());
        out.extend(unique);
        out.extend(body);
        // The one who asked may have been killed meanwhile.
        let _ = device.write_all(&out);
        if !said {
            println!("up");
            said = true;
        }
    }
}

/// A directory, if that is what the name stands for.
fn entry(name: &[u8]) -> (i32, Vec<u8>) {
    let number = name.strip_prefix(b"d").and_then(|n| std::str::from_utf8(n).ok()?.parse::<u64>().ok());
    let Some(number) = number else { return (nix::libc::ENOENT, Vec::new()) };
    (0, found(number + 2, directory(number + 2)))
}

/// What a look for a name gives.
fn found(inode: u64, attributes: Vec<u8>) -> Vec<u8> {
    // The inode's number, its generation, and that neither name nor attributes are valid for any time.
    [[inode, 0, 0, 0, 0].map(u64::to_ne_bytes).concat(), attributes].concat()
}

/// The attributes of the program.
fn file(size: usize) -> Vec<u8> {
    let mut attributes = directory(PROGRAM_INODE);
    attributes[8..16].copy_from_slice(&(size as u64).to_ne_bytes());
    attributes[60..64].copy_from_slice(&0o100755u32.to_ne_bytes());
    attributes
}

/// The attributes of a directory.
fn directory(inode: u64) -> Vec<u8> {
    let mut attributes = vec![0; 88];
    attributes[..8].copy_from_slice(&inode.to_ne_bytes());
    attributes[60..64].copy_from_slice(&0o40755u32.to_ne_bytes());
    attributes[64] = 2; // links
    attributes
}

/// An errno, and what follows the header.
fn answer(operation: u32) -> (i32, Vec<u8>) {
    let mut body = Vec::new();
    match operation {
        INIT => {
            body.extend([7u32, 31].map(u32::to_ne_bytes).concat());
            body.resize(64, 0);
            body[20..24].copy_from_slice(&65536u32.to_ne_bytes()); // the longest write
        }
        GETATTR => {
            // Valid for no time at all, so that every look asks the server.
            body.resize(16, 0);
            body.extend(directory(1));
        }
        OPENDIR => body.resize(16, 0),
        STATFS => body.resize(80, 0),
        READDIR | RELEASEDIR | RELEASE => {}
        _ => return (nix::libc::ENOSYS, body),
    }
    (0, body)
}
