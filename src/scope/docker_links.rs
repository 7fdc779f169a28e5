//! Links that nothing but docker's own record ties to us. What proves a bridge ours is a container of ours in it; a docker
//! that was stopped in order has ended its containers and left its bridges. And what it made for networks of macvlan and ipvlan
//! to stand on (a vlan, a dummy) is a port of nothing.

use std::path::{Path, PathBuf};

use crate::error::Blind;
use crate::linux::links::Link;
use crate::order;
use crate::reason::Reason;
use crate::scope::Scope;
use crate::scope::network::{DOCKERD, Network};
use crate::text::{escape, show};
use crate::view::View;

/// docker's record of its networks, below the directory of its data.
const RECORD: &str = "network/files/local-kv.db";

/// A few networks take some tens of kilobytes.
const MAX_RECORD: u64 = 8 << 20;

/// The records of dockers whose data are in the snap's own directories, or were moved out of these.
pub(super) fn records(view: &View, scope: &Scope) -> Vec<PathBuf> {
    let roots = scope.roots.mounts.iter().chain(&scope.roots.data);
    let mut files: Vec<PathBuf> = roots.map(|root| root.join(RECORD)).collect();
    files.retain(|file| scope.roots.is_own(&scope.snap, file));
    files.extend(scope.roots.docker.iter().map(|data| data.join(RECORD)));
    order::sort(&mut files);
    files.dedup();
    files.retain(|file| view.host.exists(file).unwrap_or(true));
    files
}

/// Where the data of these dockers are.
pub(super) fn data(view: &View, scope: &Scope) -> Vec<PathBuf> {
    let below = Path::new(RECORD).components().count();
    let records = records(view, scope).into_iter();
    records.filter_map(|file| file.ancestors().nth(below).map(Path::to_path_buf)).collect()
}

/// What docker's records say.
#[derive(Default)]
pub(super) struct Records {
    read: Vec<(PathBuf, String)>,
    blind: Vec<Blind>,
}

/// Who made a bridge, by these records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    /// docker, as far as it knows: what it does not know it takes away as its own.
    Docker,
    /// Somebody who made it before docker was told to use it.
    Another,
    /// Both are written there: bolt leaves in its pages what it has deleted.
    Either,
    /// It is not named.
    Nobody,
}

/// docker's own default.
const DEFAULT: &str = "docker0";

/// What any two dockers share. It finds them there when it is started again, and writes down each time that they were there before.
pub(super) const SHARED: [&str; 2] = [DEFAULT, "docker_gwbridge"];

impl Records {
    pub fn read(view: &View, files: &[PathBuf]) -> Records {
        let mut records = Records::default();
        for file in files {
            match view.host.read_at_most(file, MAX_RECORD) {
                Ok(bytes) => {
                    records.read.push((file.clone(), String::from_utf8_lossy(&bytes).into_owned()));
                }
                Err(e) => records.blind.push(Blind::new(show(file), e)),
            }
        }
        records
    }

    /// The keys of a network's record stand in the alphabet's order (libnetwork's `bridge_store.go`; `ifaceCreator` has the
    /// numbers).
    pub fn maker(&self, bridge: &str) -> Maker {
        let name = format!("\"BridgeName\":\"{bridge}\"");
        let written =
            |before: &str| self.read.iter().any(|(_, text)| text.contains(&format!("{before}{name}")));
        let another = !SHARED.contains(&bridge) && written("\"BridgeIfaceCreator\":2,");
        match (written("\"BridgeIfaceCreator\":1,"), another) {
            (true, true) => Maker::Either,
            (false, true) => Maker::Another,
            (true, false) => Maker::Docker,
            (false, false) if written("") => Maker::Docker,
            (false, false) => Maker::Nobody,
        }
    }
}

/// The links that these records name and that are there. They are told and not removed, since a container may be able to
/// write to a record. Every docker has a docker0: beside another one that is alive, it is taken for that one's.
pub(super) fn left(records: &Records, links: &[Link], network: &Network) -> Vec<Blind> {
    let mut found = records.blind.clone();
    for (file, text) in &records.read {
        let named = |link: &&Link| match link.kind.as_str() {
            "bridge" => {
                text.contains(&format!("\"BridgeName\":\"{}\"", link.name))
                    && records.maker(&link.name) != Maker::Another
            }
            "vlan" | "dummy" => is_made_for(text, &link.name),
            _ => false,
        };
        let ours = |link: &Link| network.links.iter().any(|own| own.index == link.index);
        let others = |link: &Link| link.name == DEFAULT && network.rivals.contains_key(DOCKERD);
        let what = |link: &Link| format!("the link {}", escape(link.name.as_bytes()));
        let told = |link: &Link| network.blind.iter().any(|blind| blind.what == what(link));
        let there = links.iter().filter(|l| !ours(l) && !others(l) && !told(l)).filter(named);
        found.extend(there.map(|link| {
            let why = format!("{} names it, and no container of this snap is in it", show(file));
            Blind::new(what(link), (Reason::Unproven, why))
        }));
    }
    found
}

/// True for a link that docker itself has made for a network to stand on. One that was there before is its maker's. The keys of
/// a network's record stand in the alphabet's order.
fn is_made_for(text: &str, name: &str) -> bool {
    const MADE: &str = "\"CreatedSubIface\":";
    let parent = format!("\"Parent\":\"{name}\"");
    text.split(MADE).skip(1).any(|record| record.starts_with("true") && record.contains(&parent))
}

#[cfg(test)]
mod tests;
