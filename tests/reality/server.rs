//! A file server of one file, spoken to over /dev/fuse: what is written to `data` is written on to a file of the
//! server's. It ends at once when it is told to, as most servers of storage do.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal};

use support::Result;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const CREATE: u32 = 35;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The numbers of the directory and of the file.
const ROOT: u64 = 1;
const DATA: u64 = 2;

pub fn serve(at: &Path, store: &Path) -> Result<()> {
    // The first process of a pid namespace has no default actions.
    let signals = SigSet::from_iter([Signal::SIGTERM]);
    signals.thread_block()?;
    std::thread::spawn(move || {
        let _ = signals.wait();
        std::process::exit(0)
    });
    let mut device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(Some("server"), at, Some("fuse.test"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|e| format!("cannot mount at '{}': {e}", at.display()))?;
    let mut server = Server { store: store.to_owned(), file: None, size: 0 };
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = device.read(&mut buffer)?;
        let request = &buffer[..length];
        let operation = u32::from_ne_bytes(request[4..8].try_into()?);
        if matches!(operation, FORGET | BATCH_FORGET | INTERRUPT) {
            continue;
        }
        let (error, body) = server.answer(operation, request)?;
        let mut out = u32::try_from(16 + body.len())?.to_ne_bytes().to_vec();
        out.extend((-error).to_ne_bytes());
        out.extend(&request[8..16]);
        out.extend(body);
        // The one who asked may have been killed meanwhile.
        let _ = device.write_all(&out);
    }
}

struct Server {
    store: std::path::PathBuf,
    file: Option<File>,
    size: u64,
}

impl Server {
    /// An errno, and what follows the header.
    fn answer(&mut self, operation: u32, request: &[u8]) -> Result<(i32, Vec<u8>)> {
        let node = u64::from_ne_bytes(request[16..24].try_into()?);
        let opened = vec![0; 16];
        Ok(match operation {
            INIT => {
                let mut body = [7u32, 31].map(u32::to_ne_bytes).concat();
                body.resize(64, 0);
                body[20..24].copy_from_slice(&65536u32.to_ne_bytes()); // the longest write
                (0, body)
            }
            LOOKUP if self.file.is_none() || !request[40..].starts_with(b"data\0") => {
                (nix::libc::ENOENT, Vec::new())
            }
            LOOKUP => (0, self.entry()),
            CREATE => {
                self.file = Some(File::create(&self.store)?);
                (0, [self.entry(), opened].concat())
            }
            GETATTR | SETATTR => (0, [vec![0; 16], self.attributes(node)].concat()),
            OPEN | OPENDIR => (0, opened),
            WRITE => {
                let offset = u64::from_ne_bytes(request[48..56].try_into()?);
                let data = &request[80..];
                let file = self.file.as_ref().ok_or("a write to what was never made")?;
                file.write_all_at(data, offset)?;
                self.size = self.size.max(offset + data.len() as u64);
                (0, [u32::try_from(data.len())?, 0].map(u32::to_ne_bytes).concat())
            }
            STATFS => (0, vec![0; 80]),
            FLUSH | FSYNC | RELEASE | RELEASEDIR | READDIR => (0, Vec::new()),
            _ => (nix::libc::ENOSYS, Vec::new()),
        })
    }

    fn entry(&self) -> Vec<u8> {
        // The inode's number, its generation, and that neither name nor attributes are valid for any time.
        [[DATA, 0, 0, 0, 0].map(u64::to_ne_bytes).concat(), self.attributes(DATA)].concat()
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let mut attributes = vec![0; 88];
        let (mode, size) = if node == ROOT { (0o40_755u32, 0) } else { (0o100_644, self.size) };
        attributes[..8].copy_from_slice(&node.to_ne_bytes());
        attributes[8..16].copy_from_slice(&size.to_ne_bytes());
        attributes[60..64].copy_from_slice(&mode.to_ne_bytes());
        attributes[64] = 1; // links
        attributes
    }
}
