//! What can be seen from outside: the log, the metrics, and the record of each request that feeds both.

mod log;
mod metrics;
mod record;

use std::sync::Arc;

pub use log::{Line, Log};
pub use metrics::{Metrics, ServerMetrics};
pub use record::{End, Record};

/// Log and counters of one gate.
pub struct Observer {
    /// The log.
    pub log: Log,
    /// The counters.
    pub metrics: Metrics,
    /// Counters of requests that are for no configured server.
    pub other: Arc<ServerMetrics>,
}

impl Observer {
    /// Joins a log and its counters.
    pub fn new(log: Log, metrics: Metrics) -> Self {
        let other = metrics.server(metrics::OTHER);
        Self { log, metrics, other }
    }
}
