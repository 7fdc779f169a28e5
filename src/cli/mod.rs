//! What only the command line has: its arguments, its help, and tables for people.

pub mod arguments;
pub mod check;
pub mod help;
pub mod init;
pub mod page;
pub mod pretty;
pub mod progress;
pub mod show;
pub mod sizes;
pub mod table;
