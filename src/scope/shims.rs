//! Which shims are ours: by the address they were started with, their PID namespace, and their unit or bundles.

use std::path::{Path, PathBuf};

use super::gather::Gather;
use crate::error::Blind;
use crate::linux::proc::Proc;
use crate::runtime::ContainerId;
use crate::runtime::bundle::{self, Bundle};
use crate::runtime::shim::{self, ShimArgs};
use crate::scope::{Bystander, BystanderKind, Container, Proof, Shim};
use crate::snap::units;
use crate::text;

/// As many PIDs are named.
const MAX_NAMED: usize = 10;

impl Gather<'_> {
    pub(super) fn shims(&mut self) {
        let view = self.view;
        let processes = match view.processes() {
            Ok(processes) => processes,
            Err(e) => return self.blind.push(Blind::new("processes", e)),
        };
        let hidden: Vec<i32> =
            processes.hidden.iter().copied().filter(|pid| !self.is_in_container(*pid)).collect();
        if !hidden.is_empty() {
            let pids: Vec<String> = hidden.iter().take(MAX_NAMED).map(i32::to_string).collect();
            let hidden = hidden.len();
            self.blind.push(Blind::new(
                "processes",
                format!(
                    "the command lines of {hidden} of root's processes cannot be read: {}",
                    pids.join(" ")
                ),
            ));
        }
        self.blind
            .extend(processes.unreadable.iter().map(|(pid, why)| Blind::new(format!("process {pid}"), why)));
        let depth = view.pid_namespace_depth(None);
        for process in processes.iter() {
            let Some(args) = processes.shim(process.id.pid) else { continue };
            if args.address != self.inside.address {
                self.another_containerds(process, &args.address, depth);
                continue;
            }
            match self.disprove(process, args, depth) {
                None => {
                    let socket = args.id.as_ref().map(|id| self.socket_of(&args.namespace, id));
                    let (namespace, id) = (args.namespace.clone(), args.id.clone());
                    self.shims.push(Shim { process: process.id, namespace, id, socket });
                }
                Some(why) => self.bystanders.push(Bystander {
                    kind: BystanderKind::Shim,
                    what: format!("the shim {}", process.id.pid),
                    why,
                }),
            }
        }
        self.shims.sort_by_key(|s| s.process);
        self.shim_ids();
    }

    /// True for a process in a group of a container of ours: it goes with that, and is no shim.
    fn is_in_container(&self, pid: i32) -> bool {
        let groups = self.view.membership(pid);
        self.containers.values().any(|c| c.cgroups.iter().any(|group| groups.contains(group)))
    }

    /// A shim of another containerd is nobody's business here, but for one that runs in a service of this very snap:
    /// then the profile does not say where the snap's containerd listens, and what it runs cannot be found.
    fn another_containerds(&mut self, process: &Proc, address: &Path, own_depth: Option<usize>) {
        let pid = process.id.pid;
        if self.view.unit_of(pid) != Some(self.snap.instance.as_str()) {
            return;
        }
        let service =
            self.view.membership(pid).iter().any(|g| units::service_of(g, &self.snap.instance).is_some());
        if service && self.view.pid_namespace_depth(Some(pid)) == own_depth {
            let why = format!(
                "shim {pid} runs in a service of the snap and serves a containerd at '{}', which the profile does not name",
                text::show(address)
            );
            self.blind.push(Blind::new("containers of another containerd of the snap", why));
        }
    }

    /// A shim whose bundle is gone still proves that a container of its ID was ours.
    fn shim_ids(&mut self) {
        for shim in self.shims.clone() {
            let Some(id) = shim.id else { continue };
            let id = ContainerId { namespace: shim.namespace, id };
            if !self.foreign.contains(&id) {
                self.claim(id, Bundle::default(), Proof::ShimId);
            }
        }
    }

    fn socket_of(&self, namespace: &str, id: &str) -> PathBuf {
        // A shim is nearly always named after its first container.
        let first = self.containers.get(&ContainerId { namespace: namespace.into(), id: id.into() });
        let serves = |c: &&Container| c.id.namespace == namespace && c.shim_id == id && c.socket.is_some();
        first
            .filter(serves)
            .or_else(|| self.containers.values().find(serves))
            .and_then(|c| c.socket.clone())
            .unwrap_or_else(|| shim::socket(&self.roots.shim_sockets, &self.inside.address, namespace, id))
    }

    /// Why a process whose command line says that it is our shim is not; none if it is.
    fn disprove(&self, process: &Proc, args: &ShimArgs, own_depth: Option<usize>) -> Option<String> {
        let pid = process.id.pid;
        let depth = self.view.pid_namespace_depth(Some(pid));
        if own_depth.is_none() || depth != own_depth {
            return Some("it runs in another PID namespace".into());
        }
        match self.view.unit_of(pid) {
            Some(snap) if snap == self.snap.instance => return None,
            Some(other) => return Some(format!("it runs in a unit of snap '{other}'")),
            None => {}
        }
        let serves = |c: &Container| {
            c.id.namespace == args.namespace
                && args.id.as_ref().is_some_and(|id| c.shim_id == *id || c.id.id == *id)
        };
        if self.containers.values().any(serves) || (self.sibling.is_none() && self.works_in_our_bundles(pid))
        {
            return None;
        }
        Some("it runs in no unit of the snap and serves none of its bundles".into())
    }

    /// A shim's working directory is its bundle, and stays known when the bundle has been deleted.
    fn works_in_our_bundles(&self, pid: i32) -> bool {
        let link = self.view.host.path(Path::new(&format!("/proc/{pid}/cwd")));
        std::fs::read_link(link).is_ok_and(|cwd| cwd.starts_with(self.inside.state.join(bundle::TASKS)))
    }
}
