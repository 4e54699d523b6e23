//! The log and the counters together, and what recurs in the log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Log, LogLine, Metrics, ServerMetrics, Topic, metrics::OTHER, recurring::Recurring};
use crate::downstream::rejection::Rejection;

/// Log and counters of one gateway.
pub struct Observer {
    /// The log.
    pub log: Log,
    /// The counters.
    pub metrics: Metrics,
    /// Counters of requests that are for no configured server.
    pub other: Arc<ServerMetrics>,
    recurring: Recurring,
}

impl Observer {
    /// Joins a log and its counters.
    pub fn new(log: Log, metrics: Metrics) -> Self {
        let other = metrics.server(OTHER);
        Self { log, metrics, other, recurring: Recurring::default() }
    }

    /// With another pause between two lines about one topic. Without any, every line is written: for tests that look for
    /// the line of one request among many.
    pub fn pausing(self, pause: Duration) -> Self {
        Self { recurring: Recurring::with_pause(pause), ..self }
    }

    /// Begins a line about something that may recur as often as a peer likes. `None` if there was one less than ten seconds
    /// ago; then this one is counted, and the next says how many were left out (`suppressed`).
    ///
    /// Counters are for the caller to keep: they stay exact.
    pub fn recurring(&self, topic: Topic) -> Option<LogLine<'_>> {
        let left_out = self.recurring.admit(topic, Instant::now())?;
        let line = self.log.line(topic.level(), topic.msg()).opt("reason", topic.reason());
        Some(if left_out == 0 { line } else { line.int("suppressed", left_out) })
    }

    /// Says what was left out of topics that do not recur any more. For each tick of a worker: it looks at a few dozen
    /// numbers, and writes at most one line in ten seconds for each topic.
    pub fn tick(&self) {
        self.say_left_out(false);
    }

    /// Says what was left out, and ends the log.
    pub fn close(&self) {
        self.say_left_out(true);
        self.log.close();
    }

    fn say_left_out(&self, at_end: bool) {
        for (topic, left_out) in self.recurring.overdue(Instant::now(), at_end) {
            self.log
                .line(topic.level(), "Log lines suppressed")
                .str("about", topic.msg())
                .opt("reason", topic.reason())
                .int("suppressed", left_out)
                .send();
        }
    }

    /// Counts a connection that ended before a request of it could be judged, and says so.
    pub fn rejected(&self, rejection: Rejection, peer: &str) {
        self.metrics.rejected(rejection);
        if let Some(line) = self.recurring(Topic::Rejected(rejection)) {
            line.plain("peer", peer).send();
        }
    }
}
