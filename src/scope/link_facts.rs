//! What the kernel says of links, addresses and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use crate::linux::links::{self, Block, Link};
use crate::linux::mount_namespace::is_nsfs;
use crate::scope::network::OwnedLink;
use crate::scope::{Container, netns_of};
use crate::snap::profile::Roots;
use crate::view::View;

/// What the kernel says of links, addresses and routes.
pub(super) struct Facts {
    pub links: Vec<Link>,
    pub addresses: Vec<Block>,
    pub routes: Vec<Block>,
    /// Our sandboxes by the ID of their network namespace.
    pub sandboxes: BTreeMap<i32, String>,
    /// Sandboxes of ours whose network namespace is no longer bound.
    pub unbound: BTreeSet<String>,
    /// Links that an earlier run knew to be ours.
    pub proven: Vec<OwnedLink>,
}

impl Facts {
    pub fn read(view: &View, attached: &[&Container], roots: &Roots) -> std::io::Result<Facts> {
        // A namespace gets its ID when a link that leads there is first listed.
        let all = links::links()?;
        let mut facts = Facts {
            links: all,
            addresses: links::addresses()?,
            routes: links::routes()?,
            sandboxes: BTreeMap::new(),
            unbound: BTreeSet::new(),
            proven: Vec::new(),
        };
        for container in attached {
            let id = container.id.id.clone();
            let opened = netns_of(container, roots)
                .filter(|p| view.host.reach(p).is_ok() && is_nsfs(p))
                .map(File::open);
            match opened.transpose()? {
                Some(netns) => {
                    if let Some(nsid) = links::netns_id(&netns)? {
                        facts.sandboxes.insert(nsid, id);
                    }
                }
                None => drop(facts.unbound.insert(id)),
            }
        }
        Ok(facts)
    }

    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    /// The kernel gives an index to one link only.
    pub fn is_proven(&self, link: &Link) -> bool {
        self.proven.iter().any(|p| p.index == link.index && p.name == link.name && p.r#type == link.kind)
    }
}
