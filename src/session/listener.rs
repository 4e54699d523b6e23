//! The stream that a client listens on, and what waits for a client that reads it slowly.
//!
//! It is a stream of its own: a client that opened it and does not read must not keep its calls from their answers. So what
//! it does not take waits here, up to a bound. Then the server waits, as long as the client still takes something; a client
//! that does not loses the stream.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

/// Events that may wait for the client beside those in its channel.
const EVENTS: usize = 1024;
/// Bytes of them.
const BYTES: usize = 256 * 1024;
/// How long a full queue holds up the session while the client takes nothing at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says of a stream that is over whether it was cut because its client did not read it. Of most it can never be.
#[derive(Debug, Clone, Default)]
pub struct UnreadCut(Option<Arc<AtomicBool>>);

impl UnreadCut {
    /// Whether it was.
    pub fn was_cut(&self) -> bool {
        self.0.as_ref().is_some_and(|cut| cut.load(Relaxed))
    }
}

/// The stream that a client listens on.
pub(super) struct StandaloneStream {
    client: mpsc::Sender<Bytes>,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// When the client last took an event, or there was room for one.
    taken: Instant,
    /// On HTTP+SSE it is the only stream, of calls too: what does not fit holds up the server, and nothing is cut here.
    is_only: bool,
    unread: UnreadCut,
}

impl StandaloneStream {
    pub(super) fn new(client: mpsc::Sender<Bytes>, is_only: bool) -> Self {
        let unread = UnreadCut((!is_only).then(Arc::default));
        Self { client, waiting: VecDeque::new(), bytes: 0, taken: Instant::now(), is_only, unread }
    }

    /// For the reader of the stream.
    pub(super) fn unread(&self) -> UnreadCut {
        self.unread.clone()
    }

    /// It ends because its client takes nothing.
    pub(super) fn cut(&self) {
        self.unread.0.iter().for_each(|cut| cut.store(true, Relaxed));
    }

    /// One more event for the client.
    pub(super) fn push(&mut self, event: Bytes) {
        self.bytes += event.len();
        self.waiting.push_back(event);
        self.pass_on();
    }

    /// Hands to the client what there is room for. One that left misses it.
    pub(super) fn pass_on(&mut self) {
        while !self.waiting.is_empty()
            && let Ok(place) = self.client.try_reserve()
            && let Some(event) = self.waiting.pop_front()
        {
            self.bytes -= event.len();
            self.taken = Instant::now();
            place.send(event);
        }
    }

    /// Whether something waits for room.
    pub(super) fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether no more may wait. `has_room` says whether there is room to spare in memory.
    pub(super) fn is_full(&self, has_room: bool) -> bool {
        match self.waiting.len() {
            0 => false,
            _ if self.is_only => true,
            waiting => waiting >= EVENTS || self.bytes >= BYTES || !has_room,
        }
    }

    /// Waits until the client takes another event, or is gone.
    pub(super) async fn room(&self) {
        let _ = self.client.reserve().await;
    }

    /// Waits until the client has taken nothing for too long. To be asked while it is full.
    pub(super) async fn until_unread(&self) {
        match self.is_only {
            true => std::future::pending().await,
            false => tokio::time::sleep_until(self.taken + PATIENCE).await,
        }
    }

    /// Waits until the client is gone.
    pub(super) async fn closed(&self) {
        self.client.closed().await;
    }

    /// What the client was not handed.
    pub(super) fn into_rest(self) -> VecDeque<Bytes> {
        self.waiting
    }
}
