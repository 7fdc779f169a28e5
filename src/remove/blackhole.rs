//! One route that leads nowhere.

use crate::engine::done::Done;
use crate::linux::blackhole::{self, Blackhole};
use crate::remove::ability::Ability;
use crate::remove::live::Live;

/// Deletes it.
pub fn remove(live: &Live, route: &Blackhole) -> Done {
    let result = blackhole::delete(route);
    live.tried(Ability::RemoveLinks, result);
    Done::of(result, || format!("delete the route {}/{}", route.destination, route.prefix))
}
