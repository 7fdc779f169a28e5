//! What pods with the host's IPC namespace have left in it. Others may have come to use it: it is told, and not touched.

use crate::error::Blind;
use crate::linux::ipc::{self, Object};
use crate::reason::Reason;
use crate::residue::finding::Finding;
use crate::scope::Scope;
use crate::scope::ipc::{WHAT, processes_of};
use crate::view::View;

/// So many are named.
const MOST_TOLD: usize = 20;

/// Adds what has outlived the process of ours that made or used it.
pub fn find(view: &View, scope: &Scope, finding: &mut Finding) {
    let Ok(processes) = view.processes() else { return };
    if scope.ipc.is_empty() {
        return;
    }
    let by = processes_of(&scope.ipc);
    let over = |object: &Object| {
        let process = *by.get(&(object.table, object.id))?;
        processes.alive(process).is_none().then(|| told(object, process.pid))
    };
    match ipc::list(view.host) {
        Ok(objects) => {
            let mut told = objects.iter().filter_map(over);
            finding.blind.extend(told.by_ref().take(MOST_TOLD));
            let more = told.count();
            if more > 0 {
                finding.blind.push(Blind::new(WHAT, (Reason::TooMany, format!("{more} more"))));
            }
        }
        Err(e) => finding.blind.push(Blind::new(WHAT, e)),
    }
}

fn told(object: &Object, pid: i32) -> Blind {
    let Object { table, id, bytes, attached, .. } = object;
    let (what, option, did) = match *table {
        "shm" => (format!("System V shared memory {id}, {bytes} bytes, attached by {attached}"), "m", "made"),
        "sem" => (format!("System V semaphores {id}"), "s", "used"),
        _ => (format!("System V message queue {id}, {bytes} bytes"), "q", "used"),
    };
    let why = format!(
        "process {pid} of a pod with the host's IPC namespace {did} it, and others may use it; look (ipcs), then 'ipcrm -{option} {id}'"
    );
    Blind::new(what, (Reason::Unproven, why))
}
