//! Writes bolt files, for tests: every shape that bbolt makes, and shapes that it never does.

use std::collections::BTreeMap;

pub use super::page::Order;
use super::page::{BRANCH, BUCKET, HEADER, LEAF, MAGIC, META, META_FLAG, VERSION, fnv1a};

/// What a bucket holds.
pub type Tree = BTreeMap<Vec<u8>, Node>;

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Value(Vec<u8>),
    Bucket(Tree),
}

/// Puts a value at the end of a path of buckets.
pub fn put(tree: &mut Tree, path: &[&str], value: impl Into<Vec<u8>>) {
    let (key, above) = path.split_last().unwrap();
    let mut tree = tree;
    for name in above {
        let below = tree.entry(name.as_bytes().to_vec()).or_insert_with(|| Node::Bucket(Tree::new()));
        let Node::Bucket(bucket) = below else { panic!("{name} is no bucket") };
        tree = bucket;
    }
    tree.insert(key.as_bytes().to_vec(), Node::Value(value.into()));
}

/// A file, transaction by transaction.
#[derive(Clone)]
pub struct Writer {
    pub order: Order,
    pub page_size: usize,
    /// So many elements are in a page at most.
    pub fanout: usize,
    /// Buckets of so many bytes at most lie within others.
    pub inline: usize,
    pub bytes: Vec<u8>,
    pub txid: u64,
}

/// An element of a leaf: flags, key, value.
type Element = (u32, Vec<u8>, Vec<u8>);

impl Writer {
    /// An empty database, as bbolt begins one.
    pub fn new(order: Order, page_size: usize) -> Writer {
        let bytes = vec![0; 2 * page_size];
        let mut writer = Writer { order, page_size, fanout: 1000, inline: page_size / 4, bytes, txid: 0 };
        let root = writer.page(LEAF, &[]);
        writer.meta(root);
        writer.txid = 1;
        writer.meta(root);
        writer
    }

    /// One more transaction, after which the file holds this. Nothing of the last one is overwritten.
    pub fn commit(&mut self, tree: &Tree) {
        let root = self.bucket(tree);
        self.txid += 1;
        self.meta(root);
    }

    fn bucket(&mut self, tree: &Tree) -> u64 {
        let elements = self.elements(tree);
        self.tree(elements)
    }

    fn elements(&mut self, tree: &Tree) -> Vec<Element> {
        let mut elements = Vec::new();
        for (key, node) in tree {
            elements.push(match node {
                Node::Value(value) => (0, key.clone(), value.clone()),
                Node::Bucket(below) => (BUCKET, key.clone(), self.below(below)),
            });
        }
        elements
    }

    /// A bucket's value: within this page if it is small and holds no other.
    fn below(&mut self, tree: &Tree) -> Vec<u8> {
        let elements = self.elements(tree);
        let size: usize = elements.iter().map(|(_, key, value)| 16 + key.len() + value.len()).sum();
        let inline = size + HEADER <= self.inline && elements.iter().all(|(flags, ..)| *flags == 0);
        let mut value = Vec::new();
        if inline {
            value.extend_from_slice(&[0; 16]);
            let leaf = self.leaf(0, 0, &elements);
            value.extend(leaf);
        } else {
            let root = self.tree(elements);
            self.u64(&mut value, root);
            self.u64(&mut value, 0);
        }
        value
    }

    /// Leaves, and as many levels of branches above them as it takes.
    fn tree(&mut self, elements: Vec<Element>) -> u64 {
        let mut level = Vec::new();
        let mut rest = elements.as_slice();
        loop {
            let mut size = HEADER;
            let fits = rest.iter().take(self.fanout).take_while(|(_, key, value)| {
                size += 16 + key.len() + value.len();
                size <= self.page_size
            });
            let count = fits.count().max(1).min(rest.len());
            let (now, later) = rest.split_at(count);
            let first = now.first().map(|(_, key, _)| key.clone()).unwrap_or_default();
            level.push((first, self.leaf_page(now)));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        while level.len() > 1 {
            let fanout = self.fanout.clamp(2, 16);
            let groups: Vec<Vec<(Vec<u8>, u64)>> = level.chunks(fanout).map(<[_]>::to_vec).collect();
            level = groups.iter().map(|group| (group[0].0.clone(), self.branch(group))).collect();
        }
        level[0].1
    }

    pub fn leaf_page(&mut self, elements: &[Element]) -> u64 {
        let id = (self.bytes.len() / self.page_size) as u64;
        let length = self.leaf(id, 0, elements).len();
        let overflow = length.div_ceil(self.page_size).max(1) - 1;
        let bytes = self.leaf(id, overflow as u32, elements);
        self.append(bytes)
    }

    fn leaf(&self, id: u64, overflow: u32, elements: &[Element]) -> Vec<u8> {
        let mut bytes = self.header(id, LEAF, elements.len(), overflow);
        let mut data = Vec::new();
        for (n, (flags, key, value)) in elements.iter().enumerate() {
            let position = (elements.len() - n) * 16 + data.len();
            [*flags, position as u32, key.len() as u32, value.len() as u32]
                .iter()
                .for_each(|number| self.u32(&mut bytes, *number));
            data.extend_from_slice(key);
            data.extend_from_slice(value);
        }
        bytes.extend(data);
        bytes
    }

    pub fn branch(&mut self, children: &[(Vec<u8>, u64)]) -> u64 {
        let id = (self.bytes.len() / self.page_size) as u64;
        let mut bytes = self.header(id, BRANCH, children.len(), 0);
        let mut data = Vec::new();
        for (n, (key, child)) in children.iter().enumerate() {
            let position = (children.len() - n) * 16 + data.len();
            self.u32(&mut bytes, position as u32);
            self.u32(&mut bytes, key.len() as u32);
            self.u64(&mut bytes, *child);
            data.extend_from_slice(key);
        }
        bytes.extend(data);
        let overflow = bytes.len().div_ceil(self.page_size) - 1;
        bytes[..HEADER].copy_from_slice(&self.header(id, BRANCH, children.len(), overflow as u32));
        self.append(bytes)
    }

    fn page(&mut self, flags: u16, rest: &[u8]) -> u64 {
        let id = (self.bytes.len() / self.page_size) as u64;
        let mut bytes = self.header(id, flags, 0, 0);
        bytes.extend_from_slice(rest);
        self.append(bytes)
    }

    fn append(&mut self, bytes: Vec<u8>) -> u64 {
        let id = (self.bytes.len() / self.page_size) as u64;
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(self.page_size), 0);
        id
    }

    /// Writes the meta page of this transaction.
    pub fn meta(&mut self, root: u64) {
        let high_water = (self.bytes.len() / self.page_size) as u64;
        let slot = self.txid % 2;
        let mut page = self.header(slot, META_FLAG, 0, 0);
        let mut meta = Vec::new();
        [MAGIC, VERSION, self.page_size as u32, 0].iter().for_each(|number| self.u32(&mut meta, *number));
        [root, 0, u64::MAX, high_water, self.txid].iter().for_each(|number| self.u64(&mut meta, *number));
        let sum = fnv1a(&meta);
        self.u64(&mut meta, sum);
        assert_eq!(meta.len(), META);
        page.extend(meta);
        let at = slot as usize * self.page_size;
        self.bytes[at..at + page.len()].copy_from_slice(&page);
    }

    fn header(&self, id: u64, flags: u16, count: usize, overflow: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.u64(&mut bytes, id);
        for number in [flags, count as u16] {
            bytes.extend(match self.order {
                Order::Little => number.to_le_bytes(),
                Order::Big => number.to_be_bytes(),
            });
        }
        self.u32(&mut bytes, overflow);
        bytes
    }

    pub fn u32(&self, to: &mut Vec<u8>, number: u32) {
        to.extend(match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        });
    }

    pub fn u64(&self, to: &mut Vec<u8>, number: u64) {
        to.extend(match self.order {
            Order::Little => number.to_le_bytes(),
            Order::Big => number.to_be_bytes(),
        });
    }
}
