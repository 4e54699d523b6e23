//! What a child writes to its standard error, as lines of the gateway's log.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::unix::pipe;

use super::scratch;
use crate::{config::Level, observe::Observer};

/// Bytes of a line that are kept.
const LINE: usize = 256;
/// What may be logged in a [`WINDOW`], in bytes.
const RATE: usize = 64 * 1024;
/// What a line costs at least: the gateway's log holds so many lines and no more, and the others' are among them.
const LINE_COST: usize = 128;
const WINDOW: Duration = Duration::from_secs(1);
/// Rest after each read beyond the rate. The child waits meanwhile, and the worker does other things.
const PAUSE: Duration = Duration::from_millis(10);

/// Copies a child's standard error to the log.
pub(super) struct Stderr {
    /// `None` after its end.
    pipe: Option<pipe::Receiver>,
    lines: StderrLines,
}

impl Stderr {
    pub(super) fn new(pipe: pipe::Receiver, server: Arc<str>, observer: Arc<Observer>) -> Self {
        Self { pipe: Some(pipe), lines: StderrLines::new(server, observer, Instant::now()) }
    }

    /// Copies, and never returns; can be dropped at any time and begun again.
    pub(super) async fn copy(&mut self) -> Infallible {
        loop {
            let window_left = self.lines.window_left();
            let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
            let lines = &mut self.lines;
            let read = scratch::read(pipe, |bytes| {
                lines.take(bytes, Instant::now());
                bytes.len()
            });
            let read = match window_left {
                // So that the last word of a burst is how much of it is missing.
                Some(left) => match tokio::time::timeout(left, read).await {
                    Ok(read) => read,
                    Err(_) => {
                        self.lines.open_window(Instant::now());
                        continue;
                    }
                },
                None => read.await,
            };
            match read {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(_) if self.lines.dropped > 0 => tokio::time::sleep(PAUSE).await,
                Ok(_) => {}
            }
        }
    }

    /// Copies what is there already, when the child has ended: its last words are the most wanted.
    pub(super) fn finish(mut self) {
        let mut buf = [0; 4096];
        let now = Instant::now();
        // A grandchild that left the group may still write: no more is taken than a pipe usually holds.
        for _ in 0..16 {
            match self.pipe.as_ref().map(|pipe| pipe.try_read(&mut buf)) {
                Some(Ok(read)) if read > 0 => self.lines.take(&buf[..read], now),
                _ => break,
            }
        }
        self.lines.end_line();
        self.lines.report();
    }
}

/// Bytes to log lines, no more of them than the rate allows.
struct StderrLines {
    server: Arc<str>,
    observer: Arc<Observer>,
    /// The line so far, at most [`LINE`] bytes of it.
    line: Vec<u8>,
    window: Instant,
    spent: usize,
    /// Bytes that were not logged since this was last logged, without the ends of lines that are too long.
    dropped: u64,
}

impl StderrLines {
    fn new(server: Arc<str>, observer: Arc<Observer>, now: Instant) -> Self {
        Self { server, observer, line: Vec::new(), window: now, spent: 0, dropped: 0 }
    }

    fn take(&mut self, mut bytes: &[u8], now: Instant) {
        if now.duration_since(self.window) >= WINDOW {
            self.open_window(now);
        }
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.extend(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        // An empty buffer between lines, not one of the longest line ever.
        let line = std::mem::take(&mut self.line);
        if line.trim_ascii().is_empty() {
            return;
        }
        let cost = line.len().max(LINE_COST);
        if self.spent + cost > RATE {
            self.dropped += line.len() as u64;
            return;
        }
        self.spent += cost;
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        let line = self.observer.log.line(Level::Info, "Server wrote to stderr");
        line.str("server", &self.server).str("line", &text).send();
    }

    /// How long the window still lasts, if something was dropped in it.
    fn window_left(&self) -> Option<Duration> {
        (self.dropped > 0).then(|| WINDOW.saturating_sub(self.window.elapsed()))
    }

    fn open_window(&mut self, now: Instant) {
        self.window = now;
        self.spent = 0;
        self.report();
    }

    fn report(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let line = self.observer.log.line(Level::Warn, "Server writes more to stderr than is logged");
            line.str("server", &self.server).int("dropped_bytes", dropped).send();
        }
    }
}
