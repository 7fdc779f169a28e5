//! A remove hook that does nothing and says that all is well: the tasks of the proof must fail with it.

fn main() {}
