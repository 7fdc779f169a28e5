//! The snap's remove hook.
fn main() {}
