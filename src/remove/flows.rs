//! Tracked connections to pods that are gone.

use nix::errno::Errno;

use crate::engine::done::Done;
use crate::error::{errno_of, gone};
use crate::linux::conntrack;
use crate::remove::ability::Ability;
use crate::remove::live::Live;
use crate::residue::Flows;

/// Has the kernel forget them, one by one.
pub fn remove(live: &Live, Flows { addresses, .. }: &Flows) -> Done {
    let result = forget(live, addresses);
    live.tried(Ability::ChangeRules, result);
    Done::of(result, || "forget tracked connections".into())
}

fn forget(live: &Live, addresses: &std::collections::BTreeSet<std::net::IpAddr>) -> Result<(), Errno> {
    for flow in conntrack::from(&live.host, addresses).map_err(|e| errno_of(&e))? {
        match conntrack::forget(&flow) {
            Err(errno) if !gone(errno as i32) => return Err(errno),
            _ => {}
        }
    }
    Ok(())
}
