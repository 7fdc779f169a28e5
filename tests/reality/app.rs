use crate::support::Result; pub fn role() -> Option<Result<()>> { None }
