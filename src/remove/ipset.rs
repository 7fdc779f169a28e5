//! One set that firewall rules named.

use crate::engine::done::Done;
use crate::linux::ipset;
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::Ipset;

/// Destroys it. A rule of nf_tables that named it lets go of it a moment after it is gone: until then it is busy.
pub fn remove(live: &Live, Ipset { name }: &Ipset) -> Done {
    let result = ipset::destroy(name);
    live.tried(Ability::ChangeRules, result);
    Done::of(result, || format!("destroy the ipset {name}"))
}
