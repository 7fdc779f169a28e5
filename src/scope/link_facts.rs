//! What the kernel says of links, addresses and routes.

use std::collections::BTreeMap;
use std::fs::File;

use crate::linux::links::{self, Block, Link};
use crate::linux::routes;
use crate::runtime::short;
use crate::scope::netns::Namespaces;
use crate::scope::network::OwnedLink;

/// What the kernel says of links, addresses and routes.
#[derive(Default)]
pub(super) struct Facts {
    pub links: Vec<Link>,
    pub addresses: Vec<Block>,
    pub routes: Vec<Block>,
    /// Our sandboxes by the ID of their network namespace.
    pub sandboxes: BTreeMap<i32, String>,
    /// Namespaces that are another's, and why.
    pub others: BTreeMap<i32, String>,
    /// Namespaces that nobody claims and nobody is in.
    pub deserted: BTreeMap<i32, String>,
    /// Links that an earlier run knew to be ours.
    pub proven: Vec<OwnedLink>,
}

impl Facts {
    pub fn read(namespaces: &Namespaces) -> std::io::Result<Facts> {
        // A namespace gets its ID when a link that leads there is first listed.
        let all = links::links()?;
        let mut facts = Facts {
            links: all,
            addresses: links::addresses()?,
            routes: routes::elsewhere()?,
            ..Facts::default()
        };
        for (inode, door) in &namespaces.doors {
            // One that has ended meanwhile leads nowhere.
            let Ok(netns) = File::open(door) else { continue };
            let Some(nsid) = links::netns_id(&netns)? else { continue };
            if let Some(why) = namespaces.others.get(inode) {
                facts.others.insert(nsid, why.clone());
            } else if let Some(own) = namespaces.ours.iter().find(|own| own.inode == Some(*inode)) {
                facts.sandboxes.insert(nsid, short(&own.sandbox).to_owned());
            }
        }
        Ok(facts)
    }

    /// Looks up which of these links lead to bound namespaces that nobody is in and nobody has claimed.
    pub fn learn_deserted(&mut self, namespaces: &Namespaces) {
        let empty = |(inode, _): &(&u64, &std::path::PathBuf)| !namespaces.inhabited.contains(inode);
        for (_, path) in namespaces.unclaimed.iter().filter(empty) {
            let nsid = File::open(path).and_then(|netns| links::netns_id(&netns));
            if let Ok(Some(nsid)) = nsid {
                self.deserted.insert(nsid, crate::text::show(path).into_owned());
            }
        }
    }

    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    /// The kernel gives an index to one link only.
    pub fn is_proven(&self, link: &Link) -> bool {
        self.proven.iter().any(|p| p.index == link.index && p.name == link.name && p.r#type == link.kind)
    }

    /// The other end of a veth, if that is in our network namespace, too.
    pub fn other_end(&self, link: &Link) -> Option<&Link> {
        let index = link.peer.filter(|_| link.kind == "veth" && link.peer_netns.is_none())?;
        self.links.iter().find(|l| l.index == index && l.kind == "veth")
    }

    pub fn ports<'a>(&'a self, link: &'a Link) -> impl Iterator<Item = &'a Link> {
        self.links.iter().filter(|l| l.master == Some(link.index))
    }

    /// Addresses and routes of a link.
    pub fn blocks<'a>(&'a self, link: &'a Link) -> impl Iterator<Item = &'a Block> {
        self.addresses.iter().chain(&self.routes).filter(|b| b.link == link.index)
    }
}
