//! How logins are kept at present.

use std::sync::Arc;

/// For whoever tells it, and ends what runs.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    /// How often something was revoked elsewhere: what runs by it has to end.
    pub revocations: u64,
    /// Why they cannot be kept.
    pub down: Option<Arc<str>>,
    /// Rows that do not open: somebody has changed the file.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<Arc<str>>,
}
