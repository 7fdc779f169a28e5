//! Damaged databases: some of what they held is lost, and nothing is mixed up.

use super::*;

/// What CRI is said to have said of a container is what it did say of it: nothing of another, and nothing made up.
fn nothing_mixed_up(records: &Records, whole: &Records) {
    for (container, record) in &records.containers {
        let Some(good) = whole.containers.get(container) else {
            assert!(record.pod.is_none() && record.sandbox.is_none() && record.pre_stop.is_none());
            continue;
        };
        if record.sandbox_id.is_some() && record.sandbox.is_none() {
            assert_eq!((&record.pod, &record.sandbox_id), (&good.pod, &good.sandbox_id));
            assert_eq!(
                (record.termination_grace, record.stop_signal),
                (good.termination_grace, good.stop_signal)
            );
            assert_eq!((&record.pre_stop, &record.ports), (&good.pre_stop, &good.ports));
            assert!(record.process.is_none() || record.process == good.process);
        }
        assert!(record.sandbox.is_none() || record.sandbox == good.sandbox);
    }
}

/// Damage to what holds the pages together, and pages that are others': some is lost, nothing is mixed up.
#[test]
fn a_damaged_tree_shows_no_wrong_container() {
    let mut dice = Dice(5);
    let mut lost = 0;
    for round in 0..1500 {
        let order = [Order::Little, Order::Big][round % 2];
        let mut writer = Writer::new(order, 1024);
        writer.fanout = [3, 1000][dice.below(2)];
        writer.commit(&pods(1 + round % 3));
        let whole = read(&writer.bytes.as_slice()).unwrap();
        for _ in 0..1 + dice.below(4) {
            let (count, page) = (writer.bytes.len() / 1024, dice.below(writer.bytes.len() / 1024) * 1024);
            match dice.below(3) {
                0 => writer.bytes[page + dice.below(16)] ^= 1 << dice.below(8),
                1 => writer.bytes[page..page + 1024].fill(0),
                _ => {
                    // A page in another's place, under that one's number.
                    let from = dice.below(count) * 1024;
                    let number = writer.bytes[page..page + 8].to_vec();
                    writer.bytes.copy_within(from..from + 1024, page);
                    writer.bytes[page..page + 8].copy_from_slice(&number);
                }
            }
        }
        let started = Instant::now();
        if let Ok(records) = read(&writer.bytes.as_slice()) {
            nothing_mixed_up(&records, &whole);
            lost += usize::from(records.containers.len() < whole.containers.len());
        }
        assert!(started.elapsed() < Duration::from_secs(5), "round {round}");
    }
    assert!(lost > 100, "{lost}");
}

/// Any damage at all: no panic, no time without end, and none is taken for one that has another name.
#[test]
fn a_damaged_file_shows_no_name_but_those_it_holds() {
    let mut dice = Dice(6);
    let whole = [Order::Little, Order::Big].map(|order| file(&pods(3), order));
    let names = read(&whole[0].as_slice()).unwrap().containers;
    let (mut read_some, mut remarked) = (0, 0);
    for round in 0..1500 {
        let mut bytes = whole[round % 2].clone();
        for _ in 0..1 + dice.below(8) {
            let at = dice.below(bytes.len());
            match dice.below(4) {
                0 => bytes[at] ^= 1 << dice.below(8),
                1 => bytes[at] = dice.next() as u8,
                2 => bytes.truncate(at),
                _ => {
                    let end = (at + dice.below(300)).min(bytes.len());
                    bytes[at..end].fill(dice.next() as u8);
                }
            }
            bytes.push(0); // never empty
        }
        let Ok(records) = read(&bytes.as_slice()) else { continue };
        read_some += usize::from(!records.containers.is_empty());
        remarked += usize::from(records.remarks.count > 0);
        for (container, record) in &records.containers {
            let known = names.contains_key(container);
            assert!(known || record.sandbox.is_none() && record.pre_stop.is_none(), "{container:?}");
        }
    }
    assert!(read_some > 300 && remarked > 100, "{read_some}, {remarked}");
}

#[test]
fn a_file_that_ends_anywhere_shows_no_wrong_container() {
    let bytes = file(&pods(2), Order::Little);
    let whole = read(&bytes.as_slice()).unwrap();
    for length in (0..bytes.len()).step_by(64) {
        if let Ok(records) = read(&&bytes[..length]) {
            nothing_mixed_up(&records, &whole);
        }
    }
}
