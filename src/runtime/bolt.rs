//! A reader of bolt files, which is what containerd keeps its metadata in (go.etcd.io/bbolt).
//!
//! It only reads, with `pread`: no map of the file, so that a file that shrinks is an error and not a signal; and no
//! lock. bolt locks the whole file for as long as it has it open (bbolt `db.go`, `flock`): a lock of ours would hang beside a
//! containerd that runs, or hang one that starts. Instead [`read`] looks before and after whether a transaction was
//! committed meanwhile. Until the next one is committed, nothing that the last one reaches is overwritten: pages that a
//! transaction frees are free for the one after it (bbolt `db.go`, `freePages`, when a writing transaction begins).
//!
//! The file is somebody's, and may be cut short, half written or made to hurt. Every number in it is a claim: pages lie
//! below the high-water mark and say their own number, keys ascend and lie between those of the branch above, elements
//! do not share bytes. So no page is worth more work than its size, and [`MOST_PAGES`] and [`MOST_BYTES`] bound the whole.
//! In memory are at most the pages from the root of a tree to one leaf; their sizes count towards `MOST_BYTES`, too.

mod page;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) mod writer;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;

use page::{HEADER, Kind, Meta, Page};

/// A page and what runs over from it: bolt's largest key and all that CRI writes fit many times.
pub const LARGEST_PAGE: u64 = 16 << 20;

/// So many pages of a file are read. A node's few hundred containers need a few thousand.
pub const MOST_PAGES: u64 = 16_384;

/// So many bytes of a file are read.
pub const MOST_BYTES: u64 = 64 << 20;

/// A tree has no more levels. With 4 KiB pages four of them hold millions of keys.
const DEEPEST: usize = 16;

/// A file that changes while it is read is read again so many times: it has a writer, and the writer is quick.
const ATTEMPTS: usize = 16;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    /// The kernel says so.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// Neither of its two meta pages is one.
    #[error("not a bolt file, or both of its meta pages are damaged")]
    NoMeta,
    /// A page is not what the page above it says.
    #[error("page {page} is damaged: {reason}")]
    Damaged {
        /// Its number; 0 if it is a bucket that lies within another page.
        page: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// It would take too long, or its pages form no tree.
    #[error("more pages than it can have, or more than are read")]
    TooMuch,
    /// A writer was always quicker.
    #[error("it changes all the time")]
    Changing,
}

type Result<T> = std::result::Result<T, BoltError>;

/// What can be read from any place: a file, or bytes in a test.
pub trait ReadAt {
    /// As `pread(2)`: may return less than was asked for, and nothing at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// Does `work` on the file as one transaction left it: again, if another was committed meanwhile.
pub fn read<T>(source: &dyn ReadAt, mut work: impl FnMut(&Database) -> Result<T>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        let database = Database::open(source)?;
        let result = work(&database);
        if database.is_current()? {
            return result;
        }
    }
    Err(BoltError::Changing)
}

/// The file as one transaction left it.
pub struct Database<'a> {
    source: &'a dyn ReadAt,
    meta: Meta,
    /// False if one of the two meta pages is damaged.
    whole: bool,
    pages: Cell<u64>,
    bytes: Cell<u64>,
}

impl<'a> Database<'a> {
    /// Chooses the newer of the valid meta pages, as bbolt does (`db.go`, `meta`).
    pub fn open(source: &'a dyn ReadAt) -> Result<Database<'a>> {
        let first = meta_at(source, 0, 0)?;
        let second = match first {
            Some(first) => meta_at(source, 1, u64::from(first.page_size))?,
            // The page size is written in the meta pages only (bbolt `db.go`, `getPageSizeFromSecondMeta`).
            None => {
                let mut found = None;
                for size in (0..15).map(|n| 1024 << n) {
                    found = meta_at(source, 1, size)?;
                    if found.is_some() {
                        break;
                    }
                }
                found
            }
        };
        let whole = first.is_some() && second.is_some();
        let meta = first.into_iter().chain(second).max_by_key(|meta| meta.txid).ok_or(BoltError::NoMeta)?;
        Ok(Database { source, meta, whole, pages: Cell::new(0), bytes: Cell::new(0) })
    }

    /// False if one of the two meta pages is damaged: what the other one says may be the state before the last change.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// True if no transaction was committed since the file was opened.
    fn is_current(&self) -> Result<bool> {
        let now = Database::open(self.source)?;
        Ok((now.meta, now.whole) == (self.meta, self.whole))
    }

    /// The bucket that holds all others.
    pub fn root(&self) -> Bucket<'_> {
        Bucket { database: self, tree: Tree::Page(self.meta.root) }
    }

    /// The bucket at the end of a path of keys, if there is one.
    pub fn bucket(&self, path: &[&[u8]]) -> Result<Option<Bucket<'_>>> {
        let mut bucket = self.root();
        for key in path {
            match bucket.bucket(key)? {
                Some(below) => bucket = below,
                None => return Ok(None),
            }
        }
        Ok(Some(bucket))
    }

    /// Reads a page and what runs over from it.
    fn page(&self, id: u64) -> Result<Page> {
        let damaged = |reason| BoltError::Damaged { page: id, reason };
        if id < 2 || id >= self.meta.high_water {
            return Err(damaged("beyond the file's pages"));
        }
        let size = u64::from(self.meta.page_size);
        let offset = id.checked_mul(size).ok_or_else(|| damaged("beyond the file's pages"))?;
        self.spend(1, size)?;
        let mut bytes = Vec::new();
        self.append(&mut bytes, offset, size, id)?;
        let header = page::header(&bytes, self.meta.order).ok_or_else(|| damaged("no header"))?;
        if header.id != id {
            return Err(damaged("it says that it is another"));
        }
        let more = u64::from(header.overflow);
        let (length, end) = ((more + 1).saturating_mul(size), id.saturating_add(more));
        if length > LARGEST_PAGE.max(size) || end >= self.meta.high_water {
            return Err(damaged("too long"));
        }
        if more > 0 {
            self.spend(more, more * size)?;
            self.append(&mut bytes, offset + size, more * size, id)?;
        }
        Page::new(id, bytes, self.meta.order)
    }

    fn append(&self, to: &mut Vec<u8>, offset: u64, length: u64, id: u64) -> Result<()> {
        let start = to.len();
        to.resize(start + length as usize, 0);
        let wanted = to.get_mut(start..).unwrap_or_default();
        match fill(self.source, wanted, offset)? {
            true => Ok(()),
            false => Err(BoltError::Damaged { page: id, reason: "the file ends before it" }),
        }
    }

    /// A tree has no page twice; a crafted one could take time without end.
    fn spend(&self, pages: u64, bytes: u64) -> Result<()> {
        let (pages, bytes) = (self.pages.get() + pages, self.bytes.get() + bytes);
        self.pages.set(pages);
        self.bytes.set(bytes);
        let most = MOST_PAGES.min(self.meta.high_water);
        if pages > most || bytes > MOST_BYTES { Err(BoltError::TooMuch) } else { Ok(()) }
    }
}

/// The meta page of this number, if there is a valid one at that place. The first one's page size is what it says itself.
fn meta_at(source: &dyn ReadAt, id: u64, offset: u64) -> Result<Option<Meta>> {
    let mut bytes = [0; HEADER + page::META];
    if !fill(source, &mut bytes, offset)? {
        return Ok(None);
    }
    Ok(page::meta(&bytes, id).filter(|meta| id == 0 || u64::from(meta.page_size) == offset))
}

/// False if the source ends before the buffer is full.
fn fill(source: &dyn ReadAt, mut buffer: &mut [u8], mut offset: u64) -> Result<bool> {
    while !buffer.is_empty() {
        match source.read_at(buffer, offset) {
            Ok(0) => return Ok(false),
            Ok(length) => {
                offset += length as u64;
                buffer = buffer.get_mut(length..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// A sorted set of keys, each with bytes or with a bucket.
pub struct Bucket<'a> {
    database: &'a Database<'a>,
    tree: Tree,
}

enum Tree {
    /// The number of the page at its root.
    Page(u64),
    /// One leaf, within the page of the bucket around it: most small buckets are so.
    Inline(Vec<u8>),
}

/// What a key has.
pub enum Item<'a, 'b> {
    /// Bytes.
    Value(&'b [u8]),
    Bucket(Bucket<'a>),
}

/// Where a page's keys lie, by what the branches above it say.
type Range<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

type Visit<'v, 'a> = &'v mut dyn FnMut(&[u8], Item<'a, '_>);

impl<'a> Bucket<'a> {
    /// Shows every key and what it has, in order. What is damaged is passed over; the first of it is the error that comes
    /// after all that could be read.
    pub fn each(&self, visit: Visit<'_, 'a>) -> Result<()> {
        self.visit(None, visit)
    }

    /// The bucket of this key, if there is one.
    pub fn bucket(&self, key: &[u8]) -> Result<Option<Bucket<'a>>> {
        let mut found = None;
        let damage = self.visit(Some(key), &mut |_, item| {
            if let Item::Bucket(bucket) = item {
                found = Some(bucket);
            }
        });
        // What is damaged behind the key does not matter to it.
        if found.is_some() { Ok(found) } else { damage.map(|()| None) }
    }

    fn visit(&self, wanted: Option<&[u8]>, visit: Visit<'_, 'a>) -> Result<()> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        match &self.tree {
            Tree::Page(id) => self.descend(*id, 1, all, wanted, visit),
            Tree::Inline(bytes) => {
                let page = Page::new(0, bytes.clone(), self.database.meta.order)?;
                self.leaf(&page, all, wanted, visit)
            }
        }
    }

    fn descend(
        &self,
        id: u64,
        depth: usize,
        range: Range,
        wanted: Option<&[u8]>,
        visit: Visit<'_, 'a>,
    ) -> Result<()> {
        let page = self.database.page(id)?;
        if page.kind == Kind::Leaf {
            return self.leaf(&page, range, wanted, visit);
        }
        if depth == DEEPEST {
            return Err(BoltError::Damaged { page: id, reason: "too deep" });
        }
        let children = page.branches(range)?;
        let mut damage = Ok(());
        for (n, (key, child)) in children.iter().enumerate() {
            let next = children.get(n + 1).map_or(range.1, |(key, _)| Bound::Excluded(*key));
            let within: Range = (Bound::Included(*key), next);
            if wanted.is_some_and(|key| !std::ops::RangeBounds::<&[u8]>::contains(&within, &key)) {
                continue;
            }
            match self.descend(*child, depth + 1, within, wanted, visit) {
                Err(error @ (BoltError::TooMuch | BoltError::Io(_))) => return Err(error),
                other => damage = damage.and(other),
            }
        }
        damage
    }

    fn leaf(&self, page: &Page, range: Range, wanted: Option<&[u8]>, visit: Visit<'_, 'a>) -> Result<()> {
        for element in page.leaves(range) {
            let (key, value, is_bucket) = element?;
            if wanted.is_some_and(|wanted| wanted != key) {
                continue;
            }
            match is_bucket {
                false => visit(key, Item::Value(value)),
                true => visit(key, Item::Bucket(self.below(page, value)?)),
            }
        }
        Ok(())
    }

    /// A bucket's value: the number of its root page and a sequence number; number 0 says that a leaf follows right here
    /// (bbolt `internal/common/bucket.go`, `InBucket`).
    fn below(&self, page: &Page, value: &[u8]) -> Result<Bucket<'a>> {
        let damaged = BoltError::Damaged { page: page.id, reason: "a bucket that is none" };
        let tree = match (page.order.u64(value, 0), value.get(16..)) {
            (Some(0), Some(rest)) => Tree::Inline(rest.to_vec()),
            (Some(id), Some(_)) => Tree::Page(id),
            _ => return Err(damaged),
        };
        Ok(Bucket { database: self.database, tree })
    }
}
