//! What the integration tests and the demonstration share: a private world with a snap in it, a real container
//! runtime, and an independent look at what is there.

#![allow(dead_code)] // each program that includes this uses its own part

mod base;
pub mod hook;
pub mod look;
pub mod runtime;
pub mod scenes;
pub mod schema;
pub mod world;

pub use base::{Result, build_dir, built};
