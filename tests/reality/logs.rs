use crate::support::scenes::Scene; pub const ALL: &[Scene] = &[];
