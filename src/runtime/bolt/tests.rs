use std::cell::Cell;
use std::time::{Duration, Instant};

use super::page::{LEAF, Order};
use super::writer::{Node, Tree, Writer, put};
use super::*;

/// A small generator of numbers, so that a failure can be had again (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// All that can be read, and whether that was all.
fn dump(bucket: &Bucket, depth: usize) -> (Tree, Result<()>) {
    let mut tree = Tree::new();
    let mut inner = Ok(());
    let walked = bucket.each(&mut |key, item| {
        let node = match item {
            Item::Value(value) => Node::Value(value.to_vec()),
            Item::Bucket(_) if depth == 0 => return,
            Item::Bucket(below) => {
                let (tree, all) = dump(&below, depth - 1);
                if inner.is_ok() {
                    inner = all;
                }
                Node::Bucket(tree)
            }
        };
        assert!(tree.insert(key.to_vec(), node).is_none(), "a key twice");
    });
    (tree, walked.and(inner))
}

fn read_all(bytes: &[u8]) -> Result<Tree> {
    read(&bytes, |database| {
        let (tree, all) = dump(&database.root(), 8);
        all.map(|()| tree)
    })
}

fn random_tree(dice: &mut Dice, depth: usize, most: usize) -> Tree {
    let mut tree = Tree::new();
    for _ in 0..dice.below(most) {
        let key: Vec<u8> = (0..1 + dice.below(12)).map(|_| dice.next() as u8).collect();
        let node = if depth > 0 && dice.below(3) == 0 {
            Node::Bucket(random_tree(dice, depth - 1, most))
        } else {
            let length = if dice.below(20) == 0 { 5000 } else { 60 };
            Node::Value((0..dice.below(length)).map(|_| dice.next() as u8).collect())
        };
        tree.insert(key, node);
    }
    tree
}

fn small(order: Order) -> (Writer, Tree) {
    let mut tree = Tree::new();
    for n in 0..40 {
        put(&mut tree, &["a", &format!("key{n:02}")], vec![n; 50]);
        put(&mut tree, &["b", &format!("in{n:02}"), "x"], vec![n; 10]);
    }
    put(&mut tree, &["a", "large"], vec![9; 10_000]);
    let mut writer = Writer::new(order, 1024);
    writer.fanout = 4;
    writer.commit(&tree);
    (writer, tree)
}

#[test]
fn what_was_written_is_read() {
    let mut dice = Dice(1);
    for round in 0..100 {
        let order = [Order::Little, Order::Big][round % 2];
        let mut writer = Writer::new(order, 1024 << dice.below(5));
        writer.fanout = [1000, 2, 3, 7][dice.below(4)];
        writer.inline = [0, 200, 4096][dice.below(3)];
        for _ in 0..1 + dice.below(3) {
            let tree = random_tree(&mut dice, 3, 30);
            writer.commit(&tree);
            assert_eq!(read_all(&writer.bytes).unwrap(), tree, "round {round}");
        }
        assert_eq!(Database::open(&writer.bytes.as_slice()).unwrap().meta.order, order);
    }
}

#[test]
fn buckets_are_found_by_their_path() {
    for order in [Order::Little, Order::Big] {
        let (writer, tree) = small(order);
        let bytes = writer.bytes.as_slice();
        let database = Database::open(&bytes).unwrap();
        let found = database.bucket(&[b"b", b"in17"]).unwrap().unwrap();
        let Node::Bucket(b) = &tree[&b"b"[..]] else { panic!() };
        assert_eq!(Node::Bucket(dump(&found, 1).0), b[&b"in17"[..]]);
        for path in [&[&b"b"[..], b"in99"][..], &[b"b", b""], &[b"a", b"key01"], &[b"c"], &[b""], &[b"zz"]] {
            assert!(database.bucket(path).unwrap().is_none(), "{path:?}");
        }
    }
}

#[test]
fn a_large_value_runs_over_many_pages() {
    let mut tree = Tree::new();
    put(&mut tree, &["a"], vec![7; 3 << 20]);
    put(&mut tree, &["b"], "after");
    let mut writer = Writer::new(Order::Little, 4096);
    writer.commit(&tree);
    assert_eq!(read_all(&writer.bytes).unwrap(), tree);
    put(&mut tree, &["a"], vec![7; 17 << 20]);
    writer.commit(&tree);
    assert!(matches!(read_all(&writer.bytes), Err(BoltError::Damaged { reason: "too long", .. })));
}

#[test]
fn any_bit_of_a_meta_page_makes_the_other_one_count() {
    for order in [Order::Little, Order::Big] {
        let (mut writer, old) = small(order);
        let mut new = old.clone();
        put(&mut new, &["c", "new"], "x");
        writer.commit(&new); // transaction 3 is in meta page 1, transaction 2 in meta page 0
        assert_eq!(read_all(&writer.bytes).unwrap(), new);
        for (slot, left) in [(1, &old), (0, &new)] {
            // The header's count and overflow mean nothing in a meta page.
            for bit in (0..10 * 8).chain(16 * 8..80 * 8) {
                let mut bytes = writer.bytes.clone();
                bytes[slot * 1024 + bit / 8] ^= 1 << (bit % 8);
                assert_eq!(&read_all(&bytes).unwrap(), left, "slot {slot}, bit {bit}");
                assert!(!Database::open(&bytes.as_slice()).unwrap().is_whole());
            }
        }
        for size in [16, 1024, 2048] {
            let mut bytes = writer.bytes.clone();
            bytes[..size].fill(0);
            let result = read_all(&bytes);
            assert_eq!(result.is_ok(), size <= 1024);
        }
    }
}

#[test]
fn the_page_size_is_found_without_the_first_meta_page() {
    for shift in 0..=14 {
        let mut writer = Writer::new(Order::Big, 1024 << shift);
        let mut tree = Tree::new();
        put(&mut tree, &["a", "b"], "c");
        writer.commit(&tree);
        writer.commit(&tree);
        writer.bytes[..80].fill(0);
        assert_eq!(read_all(&writer.bytes).unwrap(), tree, "{}", 1024 << shift);
    }
}

#[test]
fn what_is_no_bolt_file_is_an_error() {
    let files = [vec![], vec![0; 100], vec![0; 1 << 16], b"SQLite format 3\0".repeat(1000), vec![0xff; 9000]];
    for bytes in files {
        assert!(matches!(read_all(&bytes), Err(BoltError::NoMeta)), "{}", bytes.len());
    }
    assert!(matches!(read_all(&Writer::new(Order::Little, 1024).bytes).map(|t| t.len()), Ok(0)));
}

/// Only what was written is read, wherever the file ends.
#[test]
fn a_file_that_is_cut_short_shows_nothing_else() {
    for order in [Order::Little, Order::Big] {
        let (writer, tree) = small(order);
        let (mut whole, mut part) = (0, 0);
        for length in (0..writer.bytes.len()).step_by(64).chain([writer.bytes.len()]) {
            let bytes = &writer.bytes[..length];
            let Ok(database) = Database::open(&bytes) else { continue };
            let (seen, all) = dump(&database.root(), 8);
            assert!(is_part(&seen, &tree), "{length}");
            assert!(all.is_err() || seen == tree || seen.is_empty(), "{length}");
            whole += usize::from(seen == tree);
            part += usize::from(all.is_err());
        }
        assert!(whole >= 1 && part > 100, "{whole} whole, {part} in part");
    }
}

fn is_part(part: &Tree, of: &Tree) -> bool {
    part.iter().all(|(key, node)| match (node, of.get(key)) {
        (Node::Bucket(part), Some(Node::Bucket(of))) => is_part(part, of),
        (node, same) => Some(node) == same,
    })
}

/// Two thousand files with bytes changed, cut out or put in: each is read or refused, in time.
#[test]
fn damaged_files_are_read_or_refused() {
    let whole = [Order::Little, Order::Big].map(|order| small(order).0);
    let mut dice = Dice(20);
    let (mut read, mut refused) = (0, 0);
    for round in 0..2000 {
        let mut writer = whole[round % 2].clone();
        for _ in 0..1 + dice.below(6) {
            // Half of it where it hurts most: at the beginning of a page.
            let page = dice.below(writer.bytes.len() / 1024) * 1024;
            let within = [64, 1024][dice.below(2)];
            let at = page + dice.below(within);
            match dice.below(5) {
                0 => writer.bytes[at] ^= 1 << dice.below(8),
                1 => writer.bytes[at] = dice.next() as u8,
                2 => drop(writer.bytes.remove(at)),
                3 => writer.bytes[at..page + 1024].fill([0, 0xff][dice.below(2)]),
                _ => {
                    let from = dice.below(writer.bytes.len() / 1024) * 1024;
                    writer.bytes.copy_within(from..from + 1024, page);
                }
            }
        }
        let started = Instant::now();
        match read_all(&writer.bytes) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
        assert!(started.elapsed() < Duration::from_secs(5), "round {round}: {:?}", started.elapsed());
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}

/// A root of our own making.
fn crafted(make: impl FnOnce(&mut Writer) -> u64) -> Result<Tree> {
    let mut writer = Writer::new(Order::Little, 1024);
    let root = make(&mut writer);
    writer.txid += 1;
    writer.meta(root);
    let started = Instant::now();
    let result = read_all(&writer.bytes);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    result
}

#[test]
fn pages_that_form_no_tree_end_the_reading() {
    let key = |n: usize| format!("{n:04}").into_bytes();
    // A branch below itself.
    let result = crafted(|w| {
        let own = (w.bytes.len() / 1024) as u64;
        w.branch(&[(key(0), own), (key(1), own)])
    });
    assert!(result.is_err());
    // Sixteen levels of which each has twenty times the one below: 20^16 ways to an empty leaf.
    let result = crafted(|w| {
        let mut below = w.leaf_page(&[]);
        for _ in 0..15 {
            below = w.branch(&(0..20).map(|n| (key(n), below)).collect::<Vec<_>>());
        }
        below
    });
    assert!(matches!(result, Err(BoltError::TooMuch)), "{result:?}");
    // One level too many, and one that is just right.
    for (levels, good) in [(15, true), (16, false)] {
        let result = crafted(|w| {
            let mut below = w.leaf_page(&[(0, key(0), vec![1])]);
            for _ in 0..levels {
                below = w.branch(&[(key(0), below)]);
            }
            below
        });
        assert_eq!(result.is_ok(), good, "{levels}: {result:?}");
    }
    // A bucket that holds itself.
    let result = crafted(|w| {
        let own = (w.bytes.len() / 1024) as u64;
        let mut value = Vec::new();
        w.u64(&mut value, own);
        w.u64(&mut value, 0);
        w.leaf_page(&[(1, key(0), value)])
    });
    assert!(matches!(result, Err(BoltError::TooMuch)), "{result:?}");
}

#[test]
fn keys_that_are_out_of_order_or_share_bytes_are_refused() {
    let leaf = |keys: &[&str]| {
        let elements: Vec<_> = keys.iter().map(|key| (0, key.as_bytes().to_vec(), vec![1])).collect();
        crafted(|w| w.leaf_page(&elements))
    };
    assert_eq!(leaf(&["a", "b", "c"]).unwrap().len(), 3);
    for keys in [&["a", "c", "b"][..], &["a", "a"], &["b", ""]] {
        assert!(leaf(keys).is_err(), "{keys:?}");
    }
    // A leaf with a key that belongs below the next branch.
    let result = crafted(|w| {
        let one = w.leaf_page(&[(0, b"a".to_vec(), vec![]), (0, b"m".to_vec(), vec![])]);
        let two = w.leaf_page(&[(0, b"n".to_vec(), vec![])]);
        w.branch(&[(b"a".to_vec(), one), (b"c".to_vec(), two)])
    });
    assert!(matches!(result, Err(BoltError::Damaged { reason: "a key out of order", .. })), "{result:?}");
    // Many elements whose values are the whole page.
    let result = crafted(|w| {
        let id = w.leaf_page(&(0..20).map(|n| (0, vec![n], vec![0; 10])).collect::<Vec<_>>());
        for n in 0..20 {
            let at = id as usize * 1024 + 16 + n * 16;
            w.bytes[at + 12..at + 16].copy_from_slice(&300u32.to_le_bytes());
        }
        id
    });
    assert!(matches!(result, Err(BoltError::Damaged { .. })), "{result:?}");
}

#[test]
fn one_damaged_leaf_hides_no_other() {
    let (mut writer, _) = small(Order::Little);
    let whole = read_all(&writer.bytes).unwrap();
    let count = |tree: &Tree| match &tree[&b"a"[..]] {
        Node::Bucket(a) => a.len(),
        Node::Value(_) => 0,
    };
    // The leaf that begins with key08.
    let at = writer.bytes.windows(5).position(|w| w == b"key08").unwrap() / 1024 * 1024;
    assert_eq!(writer.bytes[at + 8], LEAF as u8);
    writer.bytes[at + 8] = 0x77;
    let bytes = writer.bytes.as_slice();
    let database = Database::open(&bytes).unwrap();
    let (seen, all) = dump(&database.root(), 8);
    assert!(all.is_err());
    assert_eq!((count(&whole), count(&seen)), (41, 37));
}

/// A file that turns into the next version after so many reads.
struct Turning {
    versions: Vec<Vec<u8>>,
    every: usize,
    reads: Cell<usize>,
}

impl ReadAt for Turning {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let now = self.reads.replace(self.reads.get() + 1) / self.every;
        let bytes = self.versions[now.min(self.versions.len() - 1)].as_slice();
        ReadAt::read_at(&bytes, buffer, offset)
    }
}

#[test]
fn a_file_that_changes_is_read_as_one_transaction_left_it() {
    // Each version overwrites the pages of the one before the last, as bbolt does.
    let version = |n: u8| {
        let mut tree = Tree::new();
        (0..30).for_each(|key| put(&mut tree, &["a", &format!("{key:02}")], vec![n; 100]));
        let mut writer = Writer::new(Order::Little, 1024);
        writer.fanout = 3;
        writer.txid = u64::from(n) + 1;
        writer.commit(&tree);
        writer.bytes
    };
    let versions: Vec<_> = (0..60).map(version).collect();
    let (mut later, mut never) = (0, 0);
    for (every, start) in (1..40).flat_map(|every| [0, every / 3, every - 1].map(|start| (every, start))) {
        let source = Turning { versions: versions.clone(), every, reads: Cell::new(start) };
        let read = read(&source, |database| {
            let (tree, all) = dump(&database.root(), 8);
            all.map(|()| tree)
        });
        match read {
            Ok(tree) => {
                let Node::Bucket(a) = &tree[&b"a"[..]] else { panic!() };
                let Some(Node::Value(first)) = a.values().next() else { panic!() };
                assert!(a.len() == 30 && a.values().all(|v| *v == Node::Value(first.clone())), "{every}");
                later += usize::from(first[0] > 0);
            }
            Err(BoltError::Changing) => never += 1,
            Err(other) => panic!("{every}: {other}"),
        }
    }
    assert!(later > 10 && never > 10, "{later} read at a later try, {never} not at all");
}
