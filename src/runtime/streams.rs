//! The streams of containers that `ctr` has started: FIFOs in directories of random names, `RANDOM/ID-stdout`.

use std::collections::BTreeSet;
use std::ffi::OsString;

use crate::linux::host::Host;
use crate::order;
use crate::snap::profile::Roots;

/// The container whose stream this is by its name.
pub fn container_of(name: &OsString) -> Option<&str> {
    let name = name.to_str()?;
    ["-stdin", "-stdout", "-stderr"].iter().find_map(|end| name.strip_suffix(end))
}

/// The containers of all streams. What is out of our reach has none.
pub fn ids(host: &Host, roots: &Roots) -> BTreeSet<String> {
    let directories = host.list(&roots.fifos).unwrap_or_default();
    let names = directories.iter().flat_map(|name| host.list(&roots.fifos.join(name)).unwrap_or_default());
    order::set(names.filter_map(|name| container_of(&name).map(str::to_owned)))
}
