//! A residue in one line, for people.

use std::fmt::{Display, Formatter, Result};

use super::*;
use crate::runtime::short;
use crate::text::{self, escape, many, show};

impl Display for Residue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Residue::Service(it) => it.fmt(f),
            Residue::Task(it) => it.fmt(f),
            Residue::Shim(it) => it.fmt(f),
            Residue::Netns(it) => it.fmt(f),
            Residue::Link(it) => it.fmt(f),
            Residue::Rule(it) => it.fmt(f),
            Residue::NftRule(it) => it.fmt(f),
            Residue::Ipset(it) => write!(f, "ipset {}", escape(it.name.as_bytes())),
            Residue::Flows(it) => it.fmt(f),
            Residue::Blackhole(it) => {
                write!(f, "the blackhole route {}/{} of table {}", it.destination, it.prefix, it.table)
            }
            Residue::Mount(it) => it.fmt(f),
            Residue::Loop(it) => it.fmt(f),
            Residue::Device(it) => it.fmt(f),
            Residue::Cgroup(it) => it.fmt(f),
            Residue::Path(it) => it.fmt(f),
            Residue::Detached(it) => it.fmt(f),
            Residue::RuntimeLeftRunning(it) => it.fmt(f),
        }
    }
}

impl Display for Service {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let what = if self.is_scope() { "app" } else { "service" };
        write!(f, "{what} {} ({})", self.name, many(self.processes.len() as u64, "process"))
    }
}

impl Display for Task {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        const MAX_PIDS: usize = 3;
        let role = if self.sandbox { "sandbox" } else { "container" };
        write!(f, "{role} {}", short(&self.container.id))?;
        if let Some(pod) = &self.pod {
            write!(f, " of pod {}", escape(pod.as_bytes()))?;
        }
        let count = self.processes.len();
        let pids: Vec<_> = self.processes.iter().take(MAX_PIDS).map(|p| p.pid.to_string()).collect();
        let more = if count > MAX_PIDS { " …" } else { "" };
        write!(f, " ({}: {}{more})", many(count as u64, "process"), pids.join(" "))
    }
}

impl Display for Shim {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "shim {}", self.process.pid)?;
        self.id.as_deref().map_or(Ok(()), |id| write!(f, " of {}", short(id)))
    }
}

impl Display for Netns {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "network namespace {}", show(&self.path))
    }
}

impl Display for Link {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "link {} ({})", escape(self.name.as_bytes()), escape(self.r#type.as_bytes()))
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let program = escape(self.program.file_name().unwrap_or_default().as_encoded_bytes());
        let what = if self.chain { "chain" } else { "rule" };
        let rule = self.rule.join(" ");
        write!(f, "firewall {what} {program} {}: {}", self.table, escape(rule.as_bytes()))
    }
}

impl Display for NftRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let NftRule { family, table, chain, handle, comment } = self;
        let comment = escape(comment.as_bytes());
        write!(f, "firewall rule nft {family} {table} {chain}: handle {handle} ({comment})")
    }
}

impl Display for Flows {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} tracked connections to pods that are gone", self.count)
    }
}

impl Display for Mount {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let whose = match self.table {
            TableOf::Own => "",
            TableOf::Snap => " in the snap's mount namespace",
            TableOf::Host => " on the host",
        };
        write!(f, "mount {} ({}){whose}", show(&self.point), self.fstype)
    }
}

impl Display for Loop {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "loop device {} of {}", show(&self.device), show(&self.backing))
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "block device /dev/{} ({})", self.device.device, escape(self.device.name.as_bytes()))
    }
}

impl Display for Cgroup {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "cgroup {}", show(&self.path))
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} {}", text::name(&self.what).replace('-', " "), show(&self.path))
    }
}

impl Display for Detached {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "detached mount {}", show(&self.point))
    }
}

impl Display for RuntimeLeftRunning {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "service {}, started by this run and still running", self.name)
    }
}
