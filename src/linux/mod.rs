//! Facts and primitives of Linux. Nothing here knows a snap or a container.

pub mod block;
pub mod cgroup;
pub mod child;
pub mod firewall;
pub mod holders;
pub mod host;
pub mod interrupts;
pub mod links;
pub mod loop_device;
pub mod mount_namespace;
pub mod mountinfo;
pub mod netlink;
pub mod nft;
pub mod place;
pub mod proc;
pub mod process;
pub mod servers;
pub mod sockets;
pub mod sync;
pub mod sys;
pub mod tree;
