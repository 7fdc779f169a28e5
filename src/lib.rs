//! Ordered, verified teardown of a container snap.
//!
//! When a snap that runs containers is removed, snapd stops its services and then runs its remove hook. What
//! the snap leaves behind at that moment (shims, pause and application processes, mounts, network namespaces,
//! control groups, sockets, images) is found here, ended in order, looked for again, and reported as one JSON
//! document.
//!
//! # How to read this crate
//!
//! A run ([`run`]) goes through these stations:
//!
//! * [`snap`] and [`profile`] say which snap, and where it keeps its things. A bad profile ends the run before
//!   anything is touched.
//! * [`host`] is a root to read from, [`view`] one look at it: processes ([`mod@proc`]), mount tables ([`mountinfo`], [`namespace`]),
//!   control groups ([`cgroup`]), each read once; what lies on a file server that does not answer is not looked at
//!   ([`servers`]).
//! * [`scope`] decides, once, what is ours, from the [`evidence`] that containerd and runc wrote down and from
//!   what [`shim`]s say on their command lines.
//! * [`steps`] is the plan: an ordered list, each row with a function that finds [`residue`] and touches nothing.
//! * [`scripts`] runs what users have put beside their snap, before anything is touched.
//! * [`engine`] goes over the plan in rounds; it orders, waits and counts, and knows no kind of residue.
//! * [`remove`] acts, one residue at a time, on a [`live`] machine only. [`sys`] holds the few unsafe system calls.
//! * [`report`] puts what the last look saw into words; [`result`] writes it down, [`logging`] tells the journal.
//!
//! What looks never acts, what acts never decides what is ours, and nothing that a remover claims counts: the
//! last look does.

pub mod cgroup;
pub mod cni;
pub mod engine;
pub mod error;
pub mod evidence;
pub mod firewall;
pub mod holders;
pub mod host;
pub mod live;
pub mod logging;
pub mod mountinfo;
pub mod namespace;
pub mod netlink;
pub mod network;
pub mod nft;
pub mod notes;
pub mod place;
pub mod proc;
pub mod profile;
pub mod program;
pub mod remove;
pub mod report;
pub mod residue;
pub mod result;
pub mod run;
pub mod runtime;
pub mod scope;
pub mod scripts;
pub mod servers;
pub mod shim;
pub mod snap;
pub mod step;
pub mod steps;
pub mod sys;
pub mod text;
pub mod view;
