//! What of the network is ours.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What of the network is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Network {
    /// Links of ours.
    pub links: Vec<OwnedLink>,
    /// Names of the CNI networks that our sandboxes were attached to.
    pub networks: BTreeSet<String>,
    /// Names of the interfaces by which they were.
    pub interfaces: BTreeSet<String>,
    /// Addresses that they were given, and that nobody else has.
    pub addresses: BTreeSet<IpAddr>,
    /// Why links of ours could not be told from others, if they could not.
    pub blind: Option<String>,
}

/// A link of ours, with what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OwnedLink {
    /// The kernel's index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub r#type: String,
    /// Why it is ours.
    pub because: String,
}

impl Network {
    /// What either knows.
    pub fn union(mut self, older: Network) -> Network {
        let known: HashSet<u32> = self.links.iter().map(|l| l.index).collect();
        self.links.extend(older.links.into_iter().filter(|l| !known.contains(&l.index)));
        self.networks.extend(older.networks);
        self.interfaces.extend(older.interfaces);
        self.addresses.extend(older.addresses);
        self
    }
}
