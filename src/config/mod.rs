//! From the file that people edit to an immutable [`Snapshot`].

mod snapshot;
pub mod watch;

pub use snapshot::*;
