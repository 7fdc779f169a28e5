//! The remove hook against layouts that users have: roots that were moved, linked and bound, runtimes of other shapes,
//! docker, devices, rules of others' programs; and things that only look like ours.
//!
//! The oracle is the machine as it was: every scene takes a picture of its world before the first thing of the snap
//! exists, and one after the hook has run and snapd has deleted the snap's directories. What differs must be what the
//! report tells of, thing by thing, and of no other kind than the scene's RIGHT line allows. Each scene first shows that
//! the picture sees what is there; with SNAP_TEARDOWN_HOOK=/bin/true every one of them fails at its demands.
//!
//! The numbers at the tops of the files are those of the complaints in tests/COMPLAINTS.md.

mod addresses;
mod app;
mod apps;
mod bounds;
mod bridges;

mod devices;
mod died;
mod docker;
mod docker_28;
mod dockers;
mod drain;
mod furniture;
mod halfway;
mod held;
mod idle;
mod images;
mod ipc;
mod kata;
mod led;
mod logs;
mod moved;
mod network;
mod options;
mod outside;
mod places;
mod runtimes;
mod server;
mod services;
mod shapes;
mod shared;
mod snapshots;
mod stage;
mod told;
mod top;
mod traces;

use std::process::ExitCode;

use support::scenes::Scene;

fn main() -> ExitCode {
    if let Some(ended) = app::role() {
        return ended.map_or_else(
            |error| {
                eprintln!("{error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let parts: [&[Scene]; 13] = [
        moved::ALL,
        places::ALL,
        docker::ALL,
        kata::ALL,
        shapes::ALL,
        shared::ALL,
        snapshots::ALL,
        bounds::ALL,
        held::ALL,
        images::ALL,
        network::ALL,
        devices::ALL,
        drain::ALL,
    ];
    let mut all = parts.concat();
    all.extend(addresses::ALL);
    all.extend(apps::ALL);
    all.extend(bridges::ALL);
    all.extend(runtimes::ALL);
    all.extend(died::ALL);
    all.extend(docker_28::ALL);
    all.extend(dockers::ALL);
    all.extend(halfway::ALL);
    all.extend(idle::ALL);
    all.extend(led::ALL);
    all.extend(ipc::ALL);
    all.extend(logs::ALL);
    all.extend(options::ALL);
    all.extend(outside::ALL);
    all.extend(services::ALL);
    all.extend(told::ALL);
    all.extend(top::ALL);
    all.extend(traces::ALL);
    support::scenes::main_with_runtimes("reality", all.leak(), devices::possible)
}
