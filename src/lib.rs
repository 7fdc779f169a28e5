//! Ordered, verified teardown of a container snap.
