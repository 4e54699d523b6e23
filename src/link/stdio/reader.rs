//! A process's standard output, as messages.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{net::unix::pipe, sync::mpsc::Sender, time::sleep};

use super::{
    super::{FromServer, awaited::Awaited},
    lines::{LineBuffer, OutputLine},
};
use crate::{
    child::{self, Life, OutputSeen, Supervisor},
    config::Level,
    error::{Error, ErrorKind},
    ledger::{ByteRoom, Resource, Share},
    mcp::{
        incoming::{Batch, ServerOutput},
        message::MAX_MESSAGE,
    },
    observe::{Observer, Topic},
};

/// Rest after a read that held no message, only what is thrown away: the least of it, and how many times as long as
/// the work took. So a process that floods gets at most a tenth of its worker, and waits meanwhile.
const REST: (Duration, u32) = (Duration::from_millis(1), 9);
/// How often the log says that a process writes what is no message.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// Reads messages off a pipe.
pub(super) struct Reader {
    stdout: pipe::Receiver,
    lines: LineBuffer,
    /// What is left of a line with several messages.
    batch: Option<Batch>,
    awaited: Arc<Mutex<Awaited>>,
    /// A message that its user did not take yet.
    ready: Option<FromServer>,
    noise: Noise,
    /// Counts what is held of lines that are not complete, for whoever reads this.
    share: Share,
    room: ByteRoom,
    /// Gets each message.
    spoke: Arc<OutputSeen>,
    /// Bytes that are still to be read, if that is known.
    left: Option<u64>,
    /// Messages that were passed on.
    passed: u64,
}

impl Reader {
    pub(super) fn new(
        stdout: pipe::Receiver,
        supervisor: &Supervisor,
        life: &Life,
        awaited: Arc<Mutex<Awaited>>,
    ) -> Self {
        let (server, observer) = (Arc::clone(supervisor.name()), Arc::clone(supervisor.observer()));
        let noise = Noise { server, observer, last_logged: None, lines: 0, bytes: 0 };
        let (share, room) = (life.owner().hold(Resource::Bytes, 0), life.owner().room());
        let (lines, spoke) = (LineBuffer::new(MAX_MESSAGE), life.spoke());
        Self {
            stdout,
            lines,
            batch: None,
            awaited,
            ready: None,
            noise,
            share,
            room,
            spoke,
            left: None,
            passed: 0,
        }
    }

    /// The process has ended: what it wrote is what lies in the pipe now, and whoever left its group may hold that open, and
    /// write on.
    pub(super) fn read_what_is_left(&mut self) {
        self.left = Some(rustix::io::ioctl_fionread(&self.stdout).unwrap_or(0));
    }

    /// How many messages were passed on, and how much is known to be left: it tells whether somebody takes what comes.
    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        (self.passed, self.left)
    }

    /// Passes messages on to the end of the pipe; those that nobody is there to take are dropped. Can be dropped at any
    /// time and begun again: no message is lost.
    pub(super) async fn forward(&mut self, to_client: &Sender<FromServer>) {
        loop {
            let begin = Instant::now();
            let mut messages = 0_usize;
            let mut noise = self.lines.is_passing();
            while let Some(next) = self.ready.take().or_else(|| self.next(&mut noise)) {
                messages += 1;
                self.ready = Some(next);
                let place = to_client.reserve().await;
                if let (Ok(place), Some(next)) = (place, self.ready.take()) {
                    place.send(next);
                    self.passed += 1;
                }
            }
            if self.left == Some(0) {
                return;
            }
            if noise && messages == 0 {
                sleep(REST.0.max(begin.elapsed() * REST.1)).await;
            }
            self.share.set(self.lines.held() as u64);
            // What is not held needs no room.
            if !self.lines.is_passing()
                && let Err(limit) = self.room.open_or_give_up(self.share.amount()).await
            {
                self.lines.give_up(limit);
                self.share.set(0);
            }
            let lines = &mut self.lines;
            let read = child::read(&mut self.stdout, |bytes| {
                lines.push(bytes);
                bytes.len()
            });
            match read.await {
                Ok(bytes @ 1..) => self.left = self.left.map(|left| left.saturating_sub(bytes as u64)),
                _ => return,
            }
        }
    }

    /// Reads to the end of the pipe and drops what comes.
    pub(super) async fn discard(&mut self) {
        while matches!(child::read(&mut self.stdout, <[u8]>::len).await, Ok(1..)) {
            sleep(REST.0).await;
        }
    }

    /// The next message. Sets `noise` if something else was met on the way.
    fn next(&mut self, noise: &mut bool) -> Option<FromServer> {
        loop {
            if let Some(incoming) = self.batch.as_mut().and_then(Iterator::next) {
                match self.heard(incoming, 0) {
                    Some(heard) => return Some(heard),
                    None => continue,
                }
            }
            self.batch = None;
            match self.lines.next()? {
                OutputLine::Text(text) => {
                    let length = text.len() as u64;
                    if let Some(heard) = self.heard(ServerOutput::read(text), length) {
                        return Some(heard);
                    }
                }
                OutputLine::Skipped { length, answers, given_up } => {
                    let error = match given_up {
                        Some(limit) => {
                            self.noise.gave_up();
                            Error::out_of(Resource::Bytes, limit)
                        }
                        None => {
                            self.noise.heard(length);
                            ErrorKind::UpstreamUnreachable.with_cause("an answer longer than 4 MiB")
                        }
                    };
                    if let Some(id) = self.awaited.lock().lost(&answers) {
                        return Some(FromServer::Failed { id, error });
                    }
                }
            }
            *noise = true;
        }
    }

    /// What a line of so many bytes comes to, or a part of one.
    fn heard(&mut self, incoming: ServerOutput, length: u64) -> Option<FromServer> {
        match incoming {
            ServerOutput::Message(message) => {
                self.spoke.note();
                // What was read of it does not count twice: others would wait for room that there is.
                let held = self.lines.held() as u64;
                if held < self.share.amount() {
                    self.share.set(held);
                }
                message.hold_for(self.share.owner());
                self.awaited.lock().message(message)
            }
            ServerOutput::Batch(batch) => {
                self.batch = Some(batch);
                None
            }
            ServerOutput::Unreadable { answers, why } => self.awaited.lock().unreadable(&answers, why),
            ServerOutput::Noise(_) => {
                self.noise.heard(length);
                None
            }
        }
    }
}

/// What a process wrote that is no message. The log learns of it, but nothing of what was written: it may be anything.
struct Noise {
    server: Arc<str>,
    observer: Arc<Observer>,
    last_logged: Option<Instant>,
    lines: u64,
    bytes: u64,
}

impl Noise {
    /// A message that there was no room for. Of one that was an answer, its request says so as well.
    fn gave_up(&self) {
        if let Some(line) = self.observer.recurring(Topic::GaveUp) {
            line.str("server", &self.server).send();
        }
    }

    fn heard(&mut self, bytes: u64) {
        self.lines += 1;
        self.bytes += bytes;
        if self.last_logged.is_some_and(|last_logged| last_logged.elapsed() < COMPLAINTS) {
            return;
        }
        self.last_logged = Some(Instant::now());
        let line = self
            .observer
            .log
            .line(Level::Warn, "Server wrote to stdout what is no message, or too long for one");
        line.str("server", &self.server)
            .int("lines", std::mem::take(&mut self.lines))
            .int("bytes", std::mem::take(&mut self.bytes))
            .send();
    }
}
