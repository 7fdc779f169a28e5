//! The bytes of a page, in the byte order of the machine that wrote it (bbolt `internal/common/page.go`, `meta.go`).

use std::ops::{Bound, RangeBounds};

use super::{BoltError, Range, Result};

/// Bytes before a page's elements.
pub const HEADER: usize = 16;

/// Bytes of a meta page after its header.
pub const META: usize = 64;

/// Bytes of an element, in a branch as in a leaf.
const ELEMENT: usize = 16;

pub const MAGIC: u32 = 0xED0C_DAED;
pub const VERSION: u32 = 2;
pub const BRANCH: u16 = 1;
pub const LEAF: u16 = 2;
pub const META_FLAG: u16 = 4;
pub const BUCKET: u32 = 1;

/// Bytes of the checksummed part of a meta page.
const SUMMED: usize = 56;

/// A byte order: that of the machine that wrote the file, as the magic number tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

impl Order {
    pub fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    pub fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    pub fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}

/// What a valid meta page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub order: Order,
    pub page_size: u32,
    /// The page at the root of the outermost bucket.
    pub root: u64,
    /// No page has this number or a higher one.
    pub high_water: u64,
    /// The transaction that wrote it.
    pub txid: u64,
}

/// Reads the meta page of this number, header and all; none if it is not valid.
pub fn meta(bytes: &[u8], id: u64) -> Option<Meta> {
    let body = bytes.get(HEADER..HEADER + META)?;
    let order = [Order::Little, Order::Big].into_iter().find(|o| o.u32(body, 0) == Some(MAGIC))?;
    let header = header(bytes, order)?;
    let page_size = order.u32(body, 8)?;
    let valid = header.id == id
        && header.flags == META_FLAG
        && order.u32(body, 4)? == VERSION
        && order.u64(body, SUMMED)? == fnv1a(body.get(..SUMMED)?)
        && page_size.is_power_of_two()
        && (1 << 10..=16 << 20).contains(&page_size);
    // The root's sequence number at 24 and the list of free pages at 32 are of no use to a reader.
    valid.then_some(Meta {
        order,
        page_size,
        root: order.u64(body, 16)?,
        high_water: order.u64(body, 40)?,
        txid: order.u64(body, 48)?,
    })
}

/// The checksum of meta pages: FNV-1a of 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

/// What stands before a page's elements.
pub struct Header {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    /// Further pages that belong to this one.
    pub overflow: u32,
}

pub fn header(bytes: &[u8], order: Order) -> Option<Header> {
    Some(Header {
        id: order.u64(bytes, 0)?,
        flags: order.u16(bytes, 8)?,
        count: order.u16(bytes, 10)?,
        overflow: order.u32(bytes, 12)?,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Branch,
    Leaf,
}

/// A page of a tree.
pub struct Page {
    pub id: u64,
    pub kind: Kind,
    pub order: Order,
    count: usize,
    bytes: Vec<u8>,
}

impl Page {
    pub fn new(id: u64, bytes: Vec<u8>, order: Order) -> Result<Page> {
        let damaged = |reason| BoltError::Damaged { page: id, reason };
        let header = header(&bytes, order).ok_or_else(|| damaged("no header"))?;
        let kind = match header.flags {
            // What lies within another page is always a leaf.
            BRANCH if id > 0 => Kind::Branch,
            LEAF => Kind::Leaf,
            _ => return Err(damaged("neither branch nor leaf")),
        };
        Ok(Page { id, kind, order, count: header.count.into(), bytes })
    }

    /// The keys of a branch, with the numbers of the pages below them.
    pub fn branches(&self, range: Range) -> Result<Vec<(&[u8], u64)>> {
        let mut check = Check::new(self, range);
        let element = |n| {
            let at = HEADER + n * ELEMENT;
            let (position, length) = (self.order.u32(&self.bytes, at)?, self.order.u32(&self.bytes, at + 4)?);
            Some((self.slice(at, position, 0, length)?, self.order.u64(&self.bytes, at + 8)?))
        };
        (0..self.count)
            .map(|n| {
                let (key, child) = element(n).ok_or_else(|| self.damaged("an element beyond its end"))?;
                check.next(key, 0)?;
                Ok((key, child))
            })
            .collect()
    }

    /// The keys of a leaf, with what they have, and whether that is a bucket.
    pub fn leaves<'k>(
        &'k self,
        range: Range<'k>,
    ) -> impl Iterator<Item = Result<(&'k [u8], &'k [u8], bool)>> {
        let mut check = Check::new(self, range);
        let element = |n| {
            let at = HEADER + n * ELEMENT;
            let word = |n| self.order.u32(&self.bytes, at + n);
            let (flags, position, length, more) = (word(0)?, word(4)?, word(8)?, word(12)?);
            let key = self.slice(at, position, 0, length)?;
            Some((flags, key, self.slice(at, position, length, more)?))
        };
        let mut good = true;
        let next = move |n| {
            let (flags, key, value) = element(n).ok_or_else(|| self.damaged("an element beyond its end"))?;
            check.next(key, value.len())?;
            if flags > BUCKET {
                return Err(self.damaged("an element of an unknown kind"));
            }
            Ok((key, value, flags == BUCKET))
        };
        // After the first that is damaged none is to be believed.
        (0..self.count).map(next).take_while(move |element| std::mem::replace(&mut good, element.is_ok()))
    }

    /// Positions count from where the element itself begins, and lie behind all elements.
    fn slice(&self, element: usize, position: u32, skip: u32, length: u32) -> Option<&[u8]> {
        let start = element.checked_add(position as usize)?.checked_add(skip as usize)?;
        let behind = HEADER + self.count * ELEMENT;
        self.bytes.get(start..start.checked_add(length as usize)?).filter(|_| start >= behind)
    }

    fn damaged(&self, reason: &'static str) -> BoltError {
        BoltError::Damaged { page: self.id, reason }
    }
}

/// What holds of a page's elements, one after the other (bbolt `tx_check.go`, `verifyKeyOrder`).
struct Check<'k> {
    page: &'k Page,
    range: Range<'k>,
    last: Option<&'k [u8]>,
    /// Bytes that no element has claimed yet.
    left: usize,
}

impl<'k> Check<'k> {
    fn new(page: &'k Page, range: Range<'k>) -> Check<'k> {
        Check { page, range, last: None, left: page.bytes.len() }
    }

    fn next(&mut self, key: &'k [u8], value: usize) -> Result<()> {
        let claimed = ELEMENT + key.len() + value;
        self.left =
            self.left.checked_sub(claimed).ok_or_else(|| self.page.damaged("elements share bytes"))?;
        let ascends = self.last.is_none_or(|last| last < key);
        if !ascends || !in_range(self.range, key) {
            return Err(self.page.damaged("a key out of order"));
        }
        self.last = Some(key);
        Ok(())
    }
}

fn in_range(range: Range, key: &[u8]) -> bool {
    let range: (Bound<&[u8]>, Bound<&[u8]>) = range;
    RangeBounds::<&[u8]>::contains(&range, &key)
}
