//! The event stream that answers one call, and answers it again if the client loses it on the way
//! (MCP 2025-11-25, transports, "Resumability and Redelivery").

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::mcp::{
    message::Message,
    sse::reader::{event, event_after},
};

/// Events that may wait for a client that reads slowly. Beyond them the server waits.
pub const EVENTS: usize = 16;
/// Events of one call that are kept for a client that comes back.
const KEPT_EVENTS: usize = 64;
/// Bytes of them. What exceeds either cannot be had again.
const KEPT_BYTES: usize = 256 * 1024;
/// Milliseconds after which a client may come back: `retry` of the stream.
const RETRY: u32 = 1000;

/// Where a client is in the stream of a call: what `Last-Event-ID` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// The call.
    pub call: u64,
    /// Its events so far.
    pub events: u64,
}

impl EventId {
    /// Reads an event id of ours.
    pub fn parse(id: &str) -> Option<Self> {
        let (call, events) = id.split_once('.')?;
        Some(Self { call: call.parse().ok()?, events: events.parse().ok()? })
    }
}

/// The event stream of one call.
pub(super) struct CallStream {
    call: u64,
    client: mpsc::Sender<Bytes>,
    kept: Option<Kept>,
    is_over: bool,
}

#[derive(Default)]
struct Kept {
    /// Events before those in `events`.
    before: u64,
    events: VecDeque<Bytes>,
    bytes: usize,
}

/// A stream that was taken up again, with what its client missed, and where the client was before if it is not over.
pub(super) type Resumed = (mpsc::Receiver<Bytes>, Option<mpsc::Sender<Bytes>>);

/// An event on its way to a client.
pub(super) type Delivery = (mpsc::Sender<Bytes>, Bytes);

impl CallStream {
    /// Begins the stream of this call, and gives the client's end of it. One that is `resumable` opens with an event
    /// that has an id and no message, so that a client can come back from the first moment on.
    pub(super) fn begin(call: u64, resumable: bool) -> (Self, mpsc::Receiver<Bytes>) {
        let (client, events) = mpsc::channel(EVENTS);
        if resumable {
            // There is room: it is the first.
            let _ = client.try_send(format!("id: {call}.0\nretry: {RETRY}\ndata:\n\n").into());
        }
        (Self { call, client, kept: resumable.then(Kept::default), is_over: false }, events)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.client.is_closed()
    }

    /// The next event. Without room to spare, nothing is kept for a client that comes back.
    pub(super) fn deliver(&mut self, message: &Message, has_room: bool) -> Delivery {
        let Some(kept) = &mut self.kept else { return (self.client.clone(), event(message)) };
        let id = format!("id: {}.{}\n", self.call, kept.before + kept.events.len() as u64 + 1);
        let event = event_after(id.as_bytes(), message);
        kept.bytes += event.len();
        kept.events.push_back(event.clone());
        let (events, bytes) = if has_room { (KEPT_EVENTS, KEPT_BYTES) } else { (0, 0) };
        while kept.events.len() > events || kept.bytes > bytes {
            kept.bytes -= kept.events.pop_front().map_or(0, |event| event.len());
            kept.before += 1;
        }
        (self.client.clone(), event)
    }

    /// Goes on with a client that has seen the stream up to `at`, if it is of this call and what follows is kept. What the
    /// client missed waits nowhere but in what it gets here, and is gone with it.
    pub(super) fn resume(&mut self, at: EventId) -> Option<Resumed> {
        let kept = self.kept.as_ref().filter(|_| at.call == self.call)?;
        let seen = usize::try_from(at.events.checked_sub(kept.before)?).ok()?;
        let (client, events) = mpsc::channel(EVENTS.max(kept.events.len()));
        for event in kept.events.iter().skip(seen) {
            // There is room for all of them.
            let _ = client.try_send(event.clone());
        }
        let before = (!self.is_over).then(|| mem::replace(&mut self.client, client));
        Some((events, before))
    }

    /// What is left when the call is over: only what a client may come back for.
    pub(super) fn end(self) -> Option<Self> {
        let (nobody, _) = mpsc::channel(1);
        self.kept.is_some().then_some(Self { client: nobody, is_over: true, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: usize) -> Message {
        Message::parse(format!(r#"{{"id":{n},"result":"{}"}}"#, "x".repeat(n)).into()).unwrap()
    }

    fn texts(mut events: mpsc::Receiver<Bytes>) -> Vec<String> {
        std::iter::from_fn(|| events.try_recv().ok())
            .map(|event| String::from_utf8(event.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_has_not_seen() {
        let (mut stream, mut events) = CallStream::begin(7, true);
        assert_eq!(events.try_recv().unwrap(), "id: 7.0\nretry: 1000\ndata:\n\n");
        for n in 1..=3 {
            stream.deliver(&message(n), true);
        }
        let first = stream.client.clone();
        let (rest, before) = stream.resume(EventId::parse("7.1").unwrap()).unwrap();
        assert!(before.unwrap().same_channel(&first), "where it was before");
        let rest = texts(rest);
        assert_eq!(rest.len(), 2);
        assert!(rest[0].starts_with("id: 7.2\nevent: message\ndata: {\"id\":2,"), "{rest:?}");
        assert_eq!(stream.resume(EventId { call: 7, events: 0 }).unwrap().0.len(), 3);
        assert!(stream.resume(EventId { call: 8, events: 0 }).is_none());
        let mut over = stream.end().unwrap();
        assert_eq!(over.resume(EventId { call: 7, events: 2 }).unwrap().0.len(), 1);
        assert_eq!(over.resume(EventId { call: 7, events: 99 }).unwrap().0.len(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_gone_cannot_be_had() {
        let (mut stream, _events) = CallStream::begin(1, true);
        for _ in 0..KEPT_EVENTS + 2 {
            stream.deliver(&message(1), true);
        }
        assert!(stream.resume(EventId { call: 1, events: 1 }).is_none());
        assert_eq!(stream.resume(EventId { call: 1, events: 2 }).unwrap().0.len(), KEPT_EVENTS);
        stream.deliver(&message(KEPT_BYTES), true);
        assert!(stream.resume(EventId { call: 1, events: 3 }).is_none());
    }

    #[test]
    fn a_stream_that_cannot_be_resumed_has_no_ids() {
        let (mut stream, mut events) = CallStream::begin(1, false);
        assert!(events.try_recv().is_err());
        assert!(stream.deliver(&message(1), true).1.starts_with(b"event: message\n"));
        assert!(stream.resume(EventId { call: 1, events: 0 }).is_none());
        assert!(stream.end().is_none());
        for id in ["", "1", "1.", ".1", "a.b", "1.2.3"] {
            assert_eq!(EventId::parse(id), None, "{id}");
        }
    }
}
