//! From the file that people edit to an immutable [`Snapshot`].

mod snapshot;

pub use snapshot::*;
