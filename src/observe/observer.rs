//! The log and the counters together, and what recurs in the log.

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Log, LogLine, Metrics, ServerMetrics, Topic, metrics::OTHER, recurring::Recurring};
use crate::{
    config::{Level, LogConfig, LogFormat},
    downstream::rejection::Rejection,
};

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

    /// Log and counters of a gateway that runs as a process of its own: lines go to standard output, panics too.
    pub fn of_process(config: &LogConfig) -> io::Result<Arc<Self>> {
        let metrics = Metrics::new().map_err(io::Error::other)?;
        let is_terminal = io::stdout().is_terminal();
        let by_default = if is_terminal { LogFormat::Text } else { LogFormat::Json };
        // See no-color.org: whatever it is set to, but not to nothing. A terminal that calls itself dumb shows the escapes.
        let is_coloured = is_terminal
            && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        // Past the buffer of the standard library: of a write that fails, it would keep a part for later.
        let out = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (format, dropped) = (config.format.unwrap_or(by_default), metrics.log_lines_dropped.clone());
        let log = Log::start(config.level, format, is_coloured, Box::new(out), dropped)?;
        let observer = Arc::new(Self::new(log, metrics));
        let of_panics = Arc::clone(&observer);
        std::panic::set_hook(Box::new(move |info| of_panics.panicked(info.location())));
        Ok(observer)
    }

    /// A panic ends the task that it happens in; it must not go unseen. Its message stays out of the log, since it may quote
    /// what a peer sent.
    fn panicked(&self, at: Option<&std::panic::Location<'_>>) {
        self.metrics.panics.inc();
        let msg = "A task panicked; this is a defect, please report it";
        self.log.line(Level::Error, msg).opt("at", at.map(ToString::to_string).as_deref()).send();
    }

    /// With another pause between two lines about one topic. Without any, every line is written: for tests that look for
    /// the line of one request among many.
    pub fn pausing(self, pause: Duration) -> Self {
        Self { recurring: Recurring::with_pause(pause), ..self }
    }

    /// What recurs elsewhere than in the log, with the same pause.
    pub(super) fn another_recurring(&self) -> Recurring {
        self.recurring.anew()
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
