//! An NFS server of a few lines (RFC 1813, version 3 with its mount protocol, over TCP): a directory that lists nothing,
//! and has a directory by every name that begins with `d`. It needs a kernel with an NFS client; see tests/uml.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};

use support::Result;

const ROLE: &str = "HANGS_NFS";
const PORT: u16 = 2049;

const MOUNT: u32 = 100_005;
const NFS: u32 = 100_003;

/// Starts a server and mounts what it has at `at`. No attribute and no name is remembered, so that every look asks.
pub fn serve(at: &Path) -> Result<Child> {
    std::fs::create_dir_all(at)?;
    let mut command = Command::new("/proc/self/exe");
    command.env(ROLE, "1").stdin(Stdio::null()).stdout(Stdio::piped());
    let (server, _) = crate::actor::start(command)?;
    let options = format!(
        "vers=3,proto=tcp,port={PORT},mountport={PORT},mountproto=tcp,mountvers=3,nolock,noac,lookupcache=none,hard,\
         addr=127.0.0.1"
    );
    mount(Some("127.0.0.1:/server"), at, Some("nfs"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|e| format!("cannot mount nfs at '{}': {e}", at.display()))?;
    Ok(server)
}

/// True if this kernel has an NFS client.
pub fn is_possible() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some("nfs"))
}

pub fn role() -> Option<Result<()>> {
    std::env::var_os(ROLE).map(|_| run())
}

fn run() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", PORT))?;
    println!("up");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || talk(stream).map_err(|e| eprintln!("{e}")));
    }
    Ok(())
}

/// Answers one connection's calls, each in one fragment of the record marking (RFC 5531, 11).
fn talk(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        let mut call = vec![0; (u32::from_be_bytes(head) & 0x7fff_ffff) as usize];
        stream.read_exact(&mut call)?;
        let reply = answer(&call);
        let length = 0x8000_0000 | reply.len() as u32;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())?;
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(bytes.get(at..at + 4).unwrap_or(&[0; 4]));
    u32::from_be_bytes(word)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Where what a call's opaque or string begins, ends: its length and its bytes, filled up to whole words.
fn after(call: &[u8], at: usize) -> usize {
    at + 4 + (word(call, at) as usize).next_multiple_of(4)
}

fn answer(call: &[u8]) -> Vec<u8> {
    let (program, procedure) = (word(call, 12), word(call, 20));
    // After who asks and how he proves it come the arguments, which mostly begin with a handle.
    let arguments = after(call, after(call, 24 + 4) + 4);
    let inode = word(call, arguments + 8);
    let body = match (program, procedure) {
        (MOUNT, 1) => [words(&[0]), handle(1), words(&[1, 1])].concat(),
        (NFS, 1) => [words(&[0]), attributes(inode)].concat(),
        (NFS, 3) => lookup(call, after(call, arguments), inode),
        (NFS, 4) => [words(&[0, 1]), attributes(inode), words(&[0x3f])].concat(),
        // To make one there: all that may be there are. Nothing is said of how it was before, and after.
        (NFS, 9) => words(&[17, 0, 0]),
        // No entry, and no more of them.
        (NFS, 16 | 17) => [words(&[0, 1]), attributes(inode), words(&[0, 0, 0, 1])].concat(),
        (NFS, 18) => [words(&[0, 1]), attributes(inode), words(&[0; 13])].concat(),
        (NFS, 19) => {
            let sizes = [1 << 16, 1 << 16, 4096, 1 << 16, 1 << 16, 4096, 1 << 16, 0, 1 << 30, 0, 1, 0x1b];
            [words(&[0, 1]), attributes(inode), words(&sizes)].concat()
        }
        (NFS, 20) => [words(&[0, 1]), attributes(inode), words(&[32, 255, 1, 1, 0, 1])].concat(),
        (_, 0) | (MOUNT, _) => Vec::new(),
        _ => words(&[10_004, 0, 0]), // not supported
    };
    // A reply, accepted, with no proof, done.
    [words(&[word(call, 0), 1, 0, 0, 0, 0]), body].concat()
}

fn handle(inode: u32) -> Vec<u8> {
    words(&[8, 0, inode])
}

fn lookup(call: &[u8], at: usize, parent: u32) -> Vec<u8> {
    let name = call.get(at + 4..at + 4 + word(call, at) as usize).unwrap_or_default();
    let number = name.strip_prefix(b"d").and_then(|n| std::str::from_utf8(n).ok()?.parse::<u32>().ok());
    match number {
        None => [words(&[2, 1]), attributes(parent)].concat(),
        Some(n) => {
            [words(&[0]), handle(n + 2), words(&[1]), attributes(n + 2), words(&[1]), attributes(parent)]
                .concat()
        }
    }
}

/// A directory: type, mode, links, owner, group, size, space, device, file system, inode and three times.
fn attributes(inode: u32) -> Vec<u8> {
    words(&[2, 0o755, 2, 0, 0, 0, 4096, 0, 4096, 0, 0, 0, 7, 0, inode, 1, 0, 1, 0, 1, 0])
}
