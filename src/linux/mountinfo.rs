//! Reads `/proc/PID/mountinfo`: bytes in, mounts out.
//!
//! The `procfs` crate gives the whole table up over one bad line and leaves mount points escaped, so an
//! unmount by its strings would miss. Here a bad line costs that line only, and is counted: a table with bad
//! lines is one in which something could hide.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::linux::folded::{fold, unfold};
use crate::text::unescape_to;

/// One line of the table. There may be tens of thousands, each for a whole look: what the kernel tells in words lies in one
/// text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's mount ID, unique among the mounts that exist now.
    pub id: u64,
    /// The mount ID of the parent.
    pub parent: u64,
    /// True if it, or its file system, is read-only.
    pub read_only: bool,
    /// Peer group if shared.
    pub shared: bool,
    /// Where, unescaped, as seen from the reading process's root. Residues share it: it is the longest of a mount's words.
    pub point: Arc<Path>,
    /// Its other words, one after the other, in the order of `Word`; the options folded.
    words: Box<[u8]>,
    /// Where each of them ends but the last.
    ends: [u32; 4],
}

#[derive(Clone, Copy)]
enum Word {
    Device,
    Root,
    Fstype,
    Source,
    Options,
}

/// A whole table, in the kernel's order (a mount stands after what it was mounted on).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    /// The good lines.
    pub mounts: Vec<Mount>,
    /// How many lines could not be understood.
    pub bad_lines: usize,
}

/// Parses a mountinfo table. Never fails: a line that makes no sense is counted, not guessed.
pub fn parse(bytes: &[u8]) -> MountTable {
    parse_some(bytes, |_| true)
}

/// The same of those lines alone whose device is asked for; of a bad line it may be anything.
pub fn parse_some(bytes: &[u8], asked: impl Fn(&[u8]) -> bool) -> MountTable {
    let mut parser = Parser::default();
    let is_asked = |line: &&[u8]| line.split(|b| *b == b' ').nth(2).is_none_or(&asked);
    bytes.split(|b| *b == b'\n').filter(is_asked).for_each(|line| parser.take(line));
    parser.finish()
}

/// Parses a table while it is read. The text of thousands of pods' mounts is larger than what is kept of it, and never there as a
/// whole.
pub fn read(from: impl Read) -> io::Result<MountTable> {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let (mut parser, mut line) = (Parser::default(), Vec::new());
    while from.read_until(b'\n', &mut line)? > 0 {
        parser.take(line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
    }
    Ok(parser.finish())
}

/// A table line by line.
#[derive(Default)]
struct Parser {
    table: MountTable,
    /// Room to put a line's words together.
    words: Vec<u8>,
    options: Vec<u8>,
}

impl Parser {
    fn take(&mut self, line: &[u8]) {
        match self.parse(line) {
            _ if line.is_empty() => {}
            Some(mount) => self.table.mounts.push(mount),
            None => self.table.bad_lines += 1,
        }
    }

    fn finish(mut self) -> MountTable {
        // It stays for a whole look, and has grown to up to twice its size.
        self.table.mounts.shrink_to_fit();
        self.table
    }

    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` (proc_pid_mountinfo(5)).
    fn parse(&mut self, line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|b| *b == b' ');
        let id = number(fields.next()?)?;
        let parent = number(fields.next()?)?;
        let device = fields.next().filter(|device| device.contains(&b':') && is_text(device))?;
        let root = fields.next()?;
        let point = fields.next().filter(|point| point.starts_with(b"/"))?;
        let read_only = has_ro(fields.next()?);
        let mut shared = false;
        loop {
            match fields.next()? {
                b"-" => break,
                tag => shared |= tag.starts_with(b"shared:"),
            }
        }
        let fstype = fields.next().filter(|fstype| is_text(fstype))?;
        let source = fields.next()?;
        let options = fields.next().unwrap_or_default();
        let Parser { words, options: unescaped, .. } = self;
        words.clear();
        unescaped.clear();
        unescape_to(words, point)?;
        let point = Path::new(OsStr::from_bytes(words)).into();
        words.clear();
        let mut ends = [0; 4];
        for (field, end) in [device, root, fstype, source].into_iter().zip(&mut ends) {
            unescape_to(words, field)?;
            *end = u32::try_from(words.len()).ok()?;
        }
        unescape_to(unescaped, options)?;
        fold(unescaped, words);
        let read_only = read_only || has_ro(unescaped);
        Some(Mount { id, parent, read_only, shared, point, words: words.as_slice().into(), ends })
    }
}

fn is_text(field: &[u8]) -> bool {
    !field.is_empty() && std::str::from_utf8(field).is_ok()
}

fn has_ro(options: &[u8]) -> bool {
    options.split(|b| *b == b',').any(|o| o == b"ro")
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

impl Mount {
    fn word(&self, word: Word) -> &[u8] {
        let at = word as usize;
        let end = |at: usize| self.ends.get(at).map_or(self.words.len(), |end| *end as usize);
        &self.words[at.checked_sub(1).map_or(0, end)..end(at)]
    }

    fn text(&self, word: Word) -> &str {
        std::str::from_utf8(self.word(word)).unwrap_or_default()
    }

    fn path(&self, word: Word) -> &Path {
        Path::new(OsStr::from_bytes(self.word(word)))
    }

    /// Device, as the kernel prints it ("8:1").
    pub fn device(&self) -> &str {
        self.text(Word::Device)
    }

    /// The part of the file system that is mounted.
    pub fn root(&self) -> &Path {
        self.path(Word::Root)
    }

    pub fn point(&self) -> &Path {
        &self.point
    }

    /// File system type, such as "overlay" or "fuse.sshfs".
    pub fn fstype(&self) -> &str {
        self.text(Word::Fstype)
    }

    /// What is mounted (a device, a server, or a label).
    pub fn source(&self) -> &Path {
        self.path(Word::Source)
    }

    /// The file system's own options; overlay names its directories here.
    pub fn options(&self) -> Vec<u8> {
        unfold(self.word(Word::Options))
    }
}

impl MountTable {
    /// The mounts strictly below `root`, by path component.
    pub fn below<'a>(&'a self, root: &'a Path) -> impl Iterator<Item = &'a Mount> {
        self.mounts.iter().filter(move |m| m.point().starts_with(root) && m.point() != root)
    }
}

impl MountTable {
    /// The mounts that wait for a server, or for a device that only `ours` use.
    ///
    /// A volume's device may be served by pods that were ended a moment ago (iSCSI, NVMe over TCP, RBD): to write the
    /// last of it then takes for ever. A device on which something else lies, too, is the machine's own disk.
    pub fn hanging(&self, ours: impl Fn(&Mount) -> bool) -> Vec<&Path> {
        let not_ours = self.mounts.iter().filter(|m| m.is_on_disk() && !ours(m));
        let disks: HashSet<&str> = not_ours.map(|m| m.device()).collect();
        let waits = |m: &&Mount| m.may_hang() || (m.is_on_disk() && !disks.contains(m.device()));
        self.mounts.iter().filter(waits).map(|m| m.point()).collect()
    }
}

impl Mount {
    /// True if unmounting this may wait for a server: its own, that of one of the `hanging` mounts on the way to
    /// it, or of one that an overlay's layers lie on.
    pub fn waits_for(&self, hanging: &[&Path]) -> bool {
        self.may_hang()
            || hanging.iter().any(|h| self.point().starts_with(h))
            || self.waits_for_layer(hanging)
    }

    /// True for an overlay that is made of directories on one of the `hanging` mounts.
    pub fn waits_for_layer(&self, hanging: &[&Path]) -> bool {
        !hanging.is_empty() && self.layers().iter().any(|layer| hanging.iter().any(|h| layer.starts_with(h)))
    }

    /// The directories that an overlay is made of.
    pub fn layers(&self) -> Vec<PathBuf> {
        let options = if self.fstype() == "overlay" { self.options() } else { Vec::new() };
        let values = options.split(|b| *b == b',').filter_map(|option| {
            let at = option.iter().position(|b| *b == b'=')?;
            matches!(&option[..at], b"lowerdir" | b"lowerdir+" | b"upperdir" | b"workdir")
                .then_some(&option[at + 1..])
        });
        let paths = values.flat_map(|v| v.split(|b| *b == b':'));
        paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
    }
}

impl Mount {
    /// True if a system call that enters this mount may wait for something other than this machine's own
    /// disks: FUSE, network file systems, and whatever we do not know.
    pub fn may_hang(&self) -> bool {
        const PROMPT: &[&str] = &[
            "tmpfs",
            "proc",
            "sysfs",
            "cgroup",
            "cgroup2",
            "nsfs",
            "devtmpfs",
            "devpts",
            "mqueue",
            "ramfs",
            "bpf",
            "debugfs",
            "tracefs",
            "securityfs",
            "squashfs",
            "hugetlbfs",
            "pstore",
            "configfs",
            "binfmt_misc",
            "rpc_pipefs",
            "overlay",
        ];
        let on_loop = self.source().as_os_str().as_encoded_bytes().starts_with(b"/dev/loop");
        !(PROMPT.contains(&self.fstype()) || self.is_on_disk()) || (on_loop && self.fstype() != "squashfs")
    }

    /// True if what is mounted is a block device.
    pub fn is_on_device(&self) -> bool {
        self.source().starts_with("/dev") && !self.device().starts_with("0:") || self.is_on_disk()
    }

    /// True if its file system lies on a block device, and writes there when it goes.
    fn is_on_disk(&self) -> bool {
        matches!(self.fstype(), "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "zfs" | "f2fs" | "vfat")
    }
}

#[cfg(test)]
mod tests;
