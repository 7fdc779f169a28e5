//! Ordered, verified teardown of a container snap.
//!
//! When a snap that runs containers is removed, snapd stops its services and then runs its remove hook. What
//! the snap leaves behind at that moment (shims, pause and application processes, mounts, network namespaces,
//! cgroups, sockets, images) is found here, ended in order, looked for again, and reported as one JSON
//! document.
//!
//! # The house
//!
//! Folders are floors. A file imports only from floors below its own; two rooms on one floor do not know each
//! other. `tests/floors.rs` holds that. From the top:
//!
//! | floor | what it does |
//! | --- | --- |
//! | `cli`, `program` | the command line; what both programs do around a run |
//! | `run` | **the story**: survey, verify, remove. Start reading at `run::remove` |
//! | `report` | **tell**: the document, its summary, the result file, the journal |
//! | `steps`, `remove` | **find**, and **act**: one file for each step, one for each kind of thing |
//! | `scope`, `engine` | **decide** what is ours, once; **order** the rounds, efforts, graces and gates |
//! | `view`, `residue` | one look at the machine; the kinds of things that can be left |
//! | `runtime` | what containerd, runc, shims and CNI plugins wrote down |
//! | `snap` | which snap, and where it keeps its things: the profile |
//! | `linux` | facts and primitives of Linux; knows no snap and no container |
//! | `error`, `reason` | errors; the words for why something is left or unknown |
//! | `text`, `json`, `order`, `bits` | names with odd bytes; reading JSON; sorting; small sets |
//!
//! What finds never acts, what acts never decides what is ours, and nothing that a remover claims counts: the
//! last look does.
//!
//! # Where a new thing goes
//!
//! A new kind of residue is a struct in `residue`, a finder in `steps`, a remover in `remove`, and its part of
//! `report/schema.json`. A new step is a file in `steps` and its row in the plan (`steps::plan`), with the
//! reason for its place.

mod bits;
mod cli;
mod engine;
mod error;
#[cfg(test)]
mod fixture;
mod json;
mod linux;
mod order;
mod program;
mod reason;
mod remove;
mod report;
mod residue;
mod run;
mod runtime;
mod scope;
mod snap;
mod steps;
mod text;
mod view;

#[doc(hidden)]
pub mod testing;

pub use cli::main;
pub use program::hook;
