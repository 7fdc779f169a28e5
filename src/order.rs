//! Sorting, compiled once for all types. The standard library's sort links 3 KB of code for each type that is sorted, or that
//! is collected into a tree. Here indices are sorted, and the items put in their order; so use these functions instead of
//! `slice::sort`, `set` and `map` instead of `collect`, and `retain` instead of the set's, where the program's size matters.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Sorts; what is equal keeps its order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Sorts by something of each; what is equal keeps its order.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |a, b| key(a).cmp(&key(b)));
}

/// Sorts as it is told to; what is equal keeps its order.
pub fn sort_by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let mut from = indices(items.len(), &|a, b| compare(&items[a], &items[b]));
    for start in 0..items.len() {
        // The item that belongs here leaves its own place free for another one, and so on, until the circle is closed.
        let mut place = start;
        loop {
            let next = std::mem::replace(&mut from[place], place as u32) as usize;
            if next == start || next == place {
                break;
            }
            items.swap(place, next);
            place = next;
        }
    }
}

/// Which item belongs at each place. There is no room for four billion of anything.
fn indices(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..count as u32).collect();
    indices.sort_by(|a, b| compare(*a as usize, *b as usize));
    indices
}

/// A set of these items, filled one by one: `collect` would sort them first.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// A map of these, in the same way; of those with the same key, the last one.
pub fn map<K: Ord, V>(items: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(items);
    map
}

/// Keeps some of a set, which is filled anew: to take one out links more code than all of these.
pub fn retain<T: Ord>(set: &mut BTreeSet<T>, keep: impl Fn(&T) -> bool) {
    let all = std::mem::take(set);
    set.extend(all.into_iter().filter(keep));
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_order_of_the_standard_library() {
        let mut state = 7_u32;
        for count in (0..40).chain([1000]) {
            for keys in [1, 3, 1000] {
                let mut items: Vec<(u32, usize)> = Vec::new();
                for at in 0..count {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    items.push(((state >> 8) % keys, at));
                }
                let mut expected = items.clone();
                expected.sort_by_key(|item| item.0);
                super::sort_by_key(&mut items, |item| item.0);
                assert_eq!(items, expected);
                items.reverse();
                super::sort(&mut items);
                expected.sort();
                assert_eq!(items, expected);
            }
        }
    }
}
