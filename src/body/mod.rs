//! Response bodies: one type, which carries the record of its request to the end.

mod collect;
mod edits;
mod pace;
pub mod response;
mod silence;

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::{
    error::{Error, ErrorKind},
    identity::Subject,
    link::{FromServer, Link, shared::CallSender},
    mcp::{
        message::{Id, Message, MessageKind},
        sse::{end::EventEnd, endpoint::BYTE_ORDER_MARK, reader::event},
    },
    observe::{End, Record},
    session::{Registered, UnreadCut, failure, failure_code},
    upstream::ResponseBody,
    watchdog::{Ending, Revocation, Signal, Watched},
};

/// What a response says, before its record is attached.
pub enum Payload {
    /// Something of the gateway's own.
    Whole(Bytes),
    /// A server's response that is here to its end.
    Complete(Bytes),
    /// A server's response on its way through.
    Stream(Box<PassthroughStream>),
    /// An event stream that the gateway makes of a server's messages.
    Events(Box<BridgedEvents>),
}

/// An event stream that the gateway makes of a server's messages.
pub struct BridgedEvents {
    source: Source,
    watched: Watched<Subject>,
    /// As in [`PassthroughStream`].
    stall_limit: Option<Duration>,
    /// Silence after which a comment shows that the stream lives, if any.
    keep_alive: Option<Duration>,
    /// Goes out before what the source yields.
    first: Bytes,
    /// Whether the server was stopped, restarted or configured anew since: then it is not the server that ended it.
    was_renewed: Box<dyn Fn() -> bool>,
}

/// Where the events come from.
pub enum Source {
    /// A session.
    Session(mpsc::Receiver<Bytes>, UnreadCut),
    /// The answer to one request, which is abandoned if the client does not stay for the end (MCP 2026-07-28).
    Call {
        /// The conversation.
        link: Link<CallSender>,
        /// The request.
        id: Id,
        /// Its response went by.
        is_done: bool,
        /// Its place among the sessions, if it has a process of its own.
        place: Option<Registered>,
    },
}

pub use crate::body::{
    collect::Collect,
    edits::{Edits, FilteredEvents, Passes, Seal},
    pace::{Late, Pace, Progress, SMALL},
    silence::{COMMENT, Silence},
};

/// A server's response on its way through.
pub struct PassthroughStream {
    /// The body itself.
    pub upstream: ResponseBody,
    /// What the client is to see otherwise than the server sends it.
    pub edits: Edits,
    /// How it is ended from outside.
    pub watched: Watched<Subject>,
    /// Longest time that the client may leave what it was handed untaken. `None` on HTTP/1.1, where the connection
    /// watches its socket; HTTP/2 holds up a single stream while the socket is free.
    pub stall_limit: Option<Duration>,
    /// Set on event streams into which comments may be put.
    pub silence: Option<Silence>,
    /// Where what was handed out ends.
    pub end: EventEnd,
}

/// A response body and the record that ends with it.
pub struct Body {
    payload: Payload,
    record: Record,
}

/// The stream was broken off, and so must the client's be: nothing is made up to end it well.
#[derive(Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the response was broken off")
    }
}

impl std::error::Error for BrokenOff {}

impl Body {
    /// Joins a payload to its record, whose response head is complete.
    pub fn new(payload: Payload, mut record: Record) -> Self {
        if payload.is_end() {
            record.ended(End::UpstreamEnd);
        }
        Self { payload, record }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // A response that is dropped before its end may have been ended by a signal that was not taken yet.
        if let Some(ending) = self.payload.watched().and_then(Watched::signal).and_then(Signal::ending) {
            self.record.ended(ending.end());
        }
    }
}

impl Payload {
    /// How this is ended from outside, even while it is not polled.
    pub fn watched(&self) -> Option<&Watched<Subject>> {
        match self {
            Self::Whole(_) | Self::Complete(_) => None,
            Self::Stream(stream) => Some(&stream.watched),
            Self::Events(events) => Some(&events.watched),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Events(_) => false,
            Self::Whole(bytes) | Self::Complete(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.upstream.is_end() && stream.edits.is_empty(),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Self { payload, record } = self.get_mut();
        let data = match payload {
            Payload::Whole(bytes) | Payload::Complete(bytes) if bytes.is_empty() => None,
            Payload::Whole(bytes) | Payload::Complete(bytes) => Some(Ok(std::mem::take(bytes))),
            Payload::Stream(stream) => ready!(stream.poll_watched(cx, record)),
            Payload::Events(events) => ready!(events.poll_watched(cx, record)),
        };
        Poll::Ready(match data {
            Some(Ok(data)) => {
                record.sent(data.len());
                if payload.is_end() {
                    record.ended(End::UpstreamEnd);
                }
                Some(Ok(Frame::data(data)))
            }
            Some(Err(end)) => {
                record.ended(end);
                Some(Err(BrokenOff))
            }
            None => {
                record.ended(End::UpstreamEnd);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.payload.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.payload {
            Payload::Whole(bytes) | Payload::Complete(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Payload::Events(_) => SizeHint::default(),
            // An edited stream changes its length.
            Payload::Stream(stream) if !stream.edits.is_empty() => SizeHint::default(),
            Payload::Stream(stream) => {
                stream.upstream.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

impl Ending {
    /// What becomes of a request that has no answer yet and waits for its server.
    pub fn error(self) -> Error {
        match self {
            Self::Revoked(Revocation::Token) => ErrorKind::InvalidToken.with_cause("revoked while it waited"),
            Self::Revoked(Revocation::Grant) => {
                ErrorKind::InsufficientScope.with_cause("it lost the server while it waited")
            }
            Self::Revoked(Revocation::Server) => {
                ErrorKind::NotFound.with_cause("the server was removed while it waited")
            }
            Self::Revoked(Revocation::Connection) => {
                ErrorKind::Unavailable.with_cause("the account at the server was changed while it waited")
            }
            Self::Cut => ErrorKind::Unavailable.into(),
            Self::Deadline => ErrorKind::UpstreamTimeout.into(),
        }
    }

    /// How a response ended that had begun. It has a deadline for what its client does not take.
    pub fn end(self) -> End {
        match self {
            Self::Revoked(_) => End::TokenRevoked,
            Self::Cut => End::Drain,
            Self::Deadline => End::SlowReader,
        }
    }
}

/// How a response that runs was ended from outside. A deadline that passed before this was asked ends nothing: the client has
/// taken what it was for.
pub fn poll_stopped(watched: &Watched<Subject>, cx: &mut Context<'_>) -> Option<End> {
    watched.poll_ending(cx).filter(|ending| *ending != Ending::Deadline).map(Ending::end)
}

/// The code of the JSON-RPC error in an event of the gateway's own, if it is one. Hardly any event is looked at twice
/// for it.
fn error_code(event: &Bytes) -> Option<i64> {
    memchr::memmem::find(event, b"\"error\"")?;
    let (data, end) =
        (memchr::memmem::find(event, b"data: ")? + b"data: ".len(), event.len().checked_sub(2)?);
    Message::from_server(event.get(data..end).map(|_| event.slice(data..end))?).ok()?.error_code()
}

impl BridgedEvents {
    /// A stream of what `source` yields, with a comment after a silence of `keep_alive`, unless that is zero.
    ///
    /// `was_renewed` says whether the server was stopped, restarted or configured anew since.
    pub fn new(
        source: Source,
        watched: Watched<Subject>,
        stall_limit: Option<Duration>,
        keep_alive: Duration,
        was_renewed: Box<dyn Fn() -> bool>,
    ) -> Self {
        let keep_alive = Some(keep_alive).filter(|silence| !silence.is_zero());
        Self { source, watched, stall_limit, keep_alive, first: Bytes::new(), was_renewed }
    }

    /// The stream with this in front.
    pub fn beginning_with(self, first: Bytes) -> Self {
        Self { first, ..self }
    }

    /// Whoever asks for more has taken what it was handed before. The signal comes before data: a source that always has
    /// something must not outlive what admitted it.
    fn poll_watched(
        &mut self,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Option<Result<Bytes, End>>> {
        let was_silent = match self.watched.poll_ending(cx) {
            None => false,
            Some(Ending::Deadline) => true,
            Some(ending) => return Poll::Ready(Some(Err(ending.end()))),
        };
        if let Some(data) = self.poll(cx, record) {
            self.watched.set_deadline(self.stall_limit);
            return Poll::Ready(data);
        }
        if was_silent {
            self.watched.set_deadline(self.stall_limit);
            return Poll::Ready(Some(Ok(Bytes::from_static(COMMENT))));
        }
        self.watched.set_deadline(self.keep_alive);
        Poll::Pending
    }

    /// What is there now; `None` if nothing is.
    fn poll(&mut self, cx: &mut Context<'_>, record: &mut Record) -> Option<Option<Result<Bytes, End>>> {
        if !self.first.is_empty() {
            return Some(Some(Ok(std::mem::take(&mut self.first))));
        }
        let (link, id, is_done) = match &mut self.source {
            Source::Session(events, unread) => {
                return match events.poll_recv(cx) {
                    Poll::Ready(None) if unread.was_cut() => Some(Some(Err(End::SlowReader))),
                    Poll::Ready(None) if (self.was_renewed)() => Some(Some(Err(End::Drain))),
                    Poll::Ready(event) => {
                        if record.has_operation() {
                            record.answered(event.as_ref().and_then(error_code));
                        }
                        Some(event.map(Ok))
                    }
                    Poll::Pending => None,
                };
            }
            Source::Call { is_done: true, .. } => return Some(None),
            Source::Call { link, id, is_done, .. } => (link, id, is_done),
        };
        let Poll::Ready(next) = link.from_server.poll_recv(cx) else { return None };
        let message = match next {
            // How a server on a pipe ends a subscription: over HTTP the end of the stream says it.
            Some(FromServer::Message { message, .. }) if message.method() == "notifications/cancelled" => {
                *is_done = true;
                return Some(None);
            }
            Some(FromServer::Message { message, .. }) => {
                *is_done = message.kind() == MessageKind::Response;
                record.answered(message.error_code());
                Some(message)
            }
            Some(FromServer::Failed { .. } | FromServer::Ended { .. }) | None if (self.was_renewed)() => {
                return Some(Some(Err(End::Drain)));
            }
            Some(FromServer::Failed { error, .. }) => {
                *is_done = true;
                record.answered(Some(failure_code(&error)));
                failure(id, &error)
            }
            Some(FromServer::Ended { cause }) => {
                *is_done = true;
                let error = ErrorKind::UpstreamUnreachable.with_cause(cause);
                record.answered(Some(failure_code(&error)));
                failure(id, &error)
            }
            None => None,
        };
        Some(Some(message.map(|message| event(&message)).ok_or(End::UpstreamLost)))
    }
}

/// A piece of a stream into which comments are put.
fn pass(end: &mut EventEnd, mut data: Bytes, record: &mut Record) -> Result<Bytes, End> {
    let has_mark = end.has_late_mark(&data).map_err(|split| {
        record.set_cause(split.to_string());
        End::UpstreamLost
    })?;
    end.push(&data);
    if has_mark {
        data.advance(BYTE_ORDER_MARK.len());
    }
    Ok(data)
}

impl PassthroughStream {
    /// Whether the response may go on outside of hyper (see [`crate::proxy::relay`]).
    pub fn can_be_relayed(&self) -> bool {
        self.edits.is_empty() && self.upstream.can_be_raw()
    }

    /// Whoever asks for more has taken what it was handed before.
    fn poll_watched(
        &mut self,
        cx: &mut Context<'_>,
        record: &mut Record,
    ) -> Poll<Option<Result<Bytes, End>>> {
        if self.stall_limit.is_some() {
            self.watched.set_deadline(None);
        }
        let polled = self.poll(cx, record);
        let data = match &mut self.silence {
            None => ready!(polled),
            Some(silence) => match polled {
                Poll::Ready(data) => {
                    silence.broken(&self.watched);
                    match data {
                        Some(Ok(data)) => Some(pass(&mut self.end, data, record)),
                        over => over,
                    }
                }
                Poll::Pending if !silence.is_due(&self.watched) => return Poll::Pending,
                Poll::Pending if !self.end.is_between_events() => return Poll::Pending,
                Poll::Pending => {
                    self.end.comment();
                    Some(Ok(Bytes::from_static(COMMENT)))
                }
            },
        };
        self.watched.set_deadline(self.stall_limit);
        Poll::Ready(data)
    }

    fn poll(&mut self, cx: &mut Context<'_>, record: &mut Record) -> Poll<Option<Result<Bytes, End>>> {
        if let Some(end) = poll_stopped(&self.watched, cx) {
            return Poll::Ready(Some(Err(end)));
        }
        loop {
            if let Err(error) = ready!(self.edits.poll_room(cx)) {
                record.withheld(&error);
                return Poll::Ready(Some(Err(End::UpstreamLost)));
            }
            let edited = match ready!(self.upstream.poll_data(cx)) {
                Some(Ok(data)) if self.edits.is_empty() => return Poll::Ready(Some(Ok(data))),
                Some(Ok(data)) => self.edits.push(data),
                Some(Err(e)) => {
                    record.upstream_lost(e.to_string());
                    return Poll::Ready(Some(Err(End::UpstreamLost)));
                }
                None if self.edits.is_empty() => return Poll::Ready(None),
                None => self.edits.finish(),
            };
            match edited {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(data))),
                Err(error) => {
                    record.withheld(&error);
                    return Poll::Ready(Some(Err(End::UpstreamLost)));
                }
            }
        }
    }
}
