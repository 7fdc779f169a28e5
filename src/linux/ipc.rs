//! What processes share by System V's means and what stays when they end: memory, semaphores, queues of messages (sysvipc(7)).

use std::path::Path;

use crate::error::Result;
use crate::linux::host::Host;
use crate::linux::sys;

/// The kernel's tables, what it calls an object's number there, and who is named: who made one, or used it last.
const TABLES: [(&str, &str, &[&str]); 3] =
    [("shm", "shmid", &["cpid"]), ("sem", "semid", &[]), ("msg", "msqid", &["lspid", "lrpid"])];

/// Of a set of semaphores so many are asked who used them.
const MOST_ASKED: i64 = 16;

/// One object in our own IPC namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    /// `shm`, `sem` or `msg`.
    pub table: &'static str,
    pub id: i32,
    /// The processes that the kernel names with it; they may have ended, and others have their numbers.
    pub pids: Vec<i32>,
    /// Bytes of memory, or of messages.
    pub bytes: i64,
    /// By how many processes memory is mapped.
    pub attached: i64,
}

/// All of them. A kernel that has none has no tables.
pub fn list(host: &Host) -> Result<Vec<Object>> {
    let who: fn(i32, i32) -> Option<i32> = match host.is_live() {
        true => |set, number| sys::semaphore_user(set, number).ok(),
        false => |_, _| None,
    };
    let mut all = Vec::new();
    for (table, number, named) in TABLES {
        match host.read(&Path::new("/proc/sysvipc").join(table)) {
            Ok(text) => parse(&text, (table, number, named), who, &mut all),
            Err(e) if e.is_gone() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Takes the rows of a table. Who used semaphores last it does not tell: the kernel is asked by `who`.
fn parse(
    text: &[u8],
    (table, number, named): (&'static str, &str, &[&str]),
    who: fn(i32, i32) -> Option<i32>,
    all: &mut Vec<Object>,
) {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::split_whitespace);
    let head: Vec<&str> = lines.next().into_iter().flatten().collect();
    for row in lines {
        let row: Vec<&str> = row.collect();
        let at = |name: &str| row.get(head.iter().position(|word| *word == name)?)?.parse::<i64>().ok();
        let small = |name: &str| i32::try_from(at(name)?).ok();
        let Some(id) = small(number) else { continue };
        let used =
            (0..at("nsems").unwrap_or(0).min(MOST_ASKED)).filter_map(|n| who(id, i32::try_from(n).ok()?));
        let pids = named.iter().filter_map(|name| small(name)).chain(used).filter(|pid| *pid != 0).collect();
        let bytes = at("size").or(at("cbytes")).unwrap_or(0);
        all.push(Object { table, id, pids, bytes, attached: at("nattch").unwrap_or(0) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_known_by_their_names() {
        let mut all = Vec::new();
        let shm = b"       key      shmid perms                  size  cpid  lpid nattch   uid\n\
                    -1515879161          5  1600                  4096   812   813      2     0\n garbage\n";
        parse(shm, TABLES[0], |_, _| None, &mut all);
        let sem = b"       key      semid perms      nsems\n         0          7   600          3\n";
        parse(sem, TABLES[1], |set, number| (set == 7).then_some(number * 10), &mut all);
        let msg =
            b"       key      msqid perms      cbytes       qnum lspid lrpid\n  9  8  644  12  1  44  0\n";
        parse(msg, TABLES[2], |_, _| None, &mut all);
        parse(b"", TABLES[2], |_, _| None, &mut all);
        let object = |table, id, pids: &[i32], bytes, attached| Object {
            table,
            id,
            pids: pids.to_vec(),
            bytes,
            attached,
        };
        let expected = [
            object("shm", 5, &[812], 4096, 2),
            object("sem", 7, &[10, 20], 0, 0),
            object("msg", 8, &[44], 12, 0),
        ];
        assert_eq!(all, expected);
    }
}
