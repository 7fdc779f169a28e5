//! What containerd, runc, shims and CNI plugins wrote down, and how a shim is asked.

pub mod bolt;
pub mod exec;
pub mod hook_plan;
pub mod http;
pub mod http_hook;
pub mod metadata;
pub mod pre_stop;
pub mod stop_signal;

pub use crate::residue::ContainerId;
pub use crate::scope::Pod;
pub use crate::shim;
