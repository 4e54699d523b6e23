//! Words for who calls and what they were let into.

use std::sync::Arc;

/// What a running request was admitted by. Kept as long as its stream runs, so that a reload can ask whether it would
/// still be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// SHA-256 of the token; `None` where the server is public.
    pub digest: Option<[u8; 32]>,
    /// Name of the server.
    pub server: Arc<str>,
    /// How often the server had been stopped by hand.
    pub stops: u64,
}

/// What a worker watches over.
#[derive(Debug)]
pub enum Subject {
    /// A client connection.
    Connection,
    /// A request that waits for its server or streams.
    Request(Grant),
}
