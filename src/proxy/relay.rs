//! The second body path: a response over HTTP/1.1 that has left hyper.
//!
//! hyper parsed the request and the gateway decided on it; once the server answers with a body that goes on, above all
//! an event stream, nothing is left to decide per event. So the connection is taken out of hyper, and the server's bytes
//! pass with their framing as it is: one read into the worker's buffer, one write from it, no allocation, no task hop.
//! Only chunk sizes are looked at, to know where the body ends and hyper gets the connection back; extensions and
//! trailers, which hardly any server sends, are taken out. What answers a GET is searched for an `endpoint` event, at
//! which it ends.

use std::{
    cell::RefCell,
    io::Write as _,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::{BufMut as _, Bytes};
use http::{HeaderMap, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    body::{COMMENT, PassthroughStream, Silence, poll_stopped},
    downstream::connection,
    identity::Subject,
    observe::{End, Record},
    upstream::{DeferredRead, RawBody, ReadOutcome},
    watchdog::Watched,
};

/// While the response runs, no more is read of what a client sends behind its request, once so many bytes of it are here. What
/// hyper had read before counts, and may alone be more.
const EARLY: usize = 16 * 1024;

/// A response on its way from server to client.
pub struct Relay {
    body: RawBody,
    watched: Watched<Subject>,
    record: Record,
    /// What was read in the turn before, and goes out in this one; see [`Relay::poll_relay`].
    held: Option<DeferredRead>,
    /// What the client has not taken yet. Empty, and without memory, unless it is slower than the server.
    unsent: Vec<u8>,
    sent: usize,
    /// The beginning of the client's next request.
    early: Vec<u8>,
    /// Something was written that TLS may hold back.
    unflushed: bool,
    /// Set on event streams into which comments may be put.
    silence: Option<Silence>,
}

/// [`COMMENT`] as a chunk.
const COMMENT_CHUNK: &[u8] = b"3\r\n:\n\n\r\n";

impl Relay {
    /// A relay for the response with this head, if its body can go that way. The record has seen the head.
    pub fn new(
        status: StatusCode,
        headers: &HeaderMap,
        stream: PassthroughStream,
        mut record: Record,
    ) -> Option<Self> {
        let PassthroughStream { upstream, watched, edits: _, stall_limit: _, silence, end: _ } = stream;
        let (body, first, payload) = upstream.into_raw()?;
        let mut unsent = head(status, headers, body.is_chunked());
        unsent.extend_from_slice(&first);
        record.sent(payload);
        Some(Self {
            body,
            watched,
            record,
            held: None,
            unsent,
            sent: 0,
            early: Vec::new(),
            unflushed: true,
            silence,
        })
    }

    /// Reads what the client sends: the next request, too early, or its end.
    fn poll_client<T: AsyncRead + Unpin>(&mut self, stream: &mut T, cx: &mut Context<'_>) -> Result<(), End> {
        while self.early.len() < EARLY {
            let mut bytes = [const { MaybeUninit::uninit() }; 1024];
            let mut buf = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.early.put_slice(buf.filled()),
                Poll::Ready(_) => return Err(End::ClientGone),
            }
        }
        Ok(())
    }

    /// Reads in one turn of its task and writes in the next. All that one look at the sockets found readable is read first,
    /// stream after stream, and then written, stream after stream: the kernel's two paths each run warm, and a
    /// client that the first write wakes finds the others' events on its way, where event by event it would go back to sleep
    /// between them, and waking it is the dearest thing of all.
    fn poll_relay<T>(&mut self, stream: &mut T, cx: &mut Context<'_>) -> Poll<Result<(), End>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(end) = poll_stopped(&self.watched, cx) {
            return Poll::Ready(Err(end));
        }
        self.poll_client(stream, cx)?;
        if let Some(held) = self.held.take() {
            held.take(|bytes| write(stream, cx, bytes, &mut self.unsent))?;
        }
        loop {
            while self.sent < self.unsent.len() {
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.unsent[self.sent..]));
                self.sent += written.ok().filter(|n| *n > 0).ok_or(End::ClientGone)?;
            }
            if self.sent > 0 {
                (self.unsent, self.sent) = (Vec::new(), 0);
            }
            if self.body.is_end() {
                return Pin::new(stream).poll_flush(cx).map_err(|_| End::ClientGone);
            }
            let unsent = &mut self.unsent;
            let read = self.body.poll_read(cx, |cx, bytes| write(stream, cx, bytes, unsent));
            let Poll::Ready(read) = read else { break };
            self.unflushed = true;
            if let Some(silence) = &mut self.silence {
                silence.broken(&self.watched);
            }
            match read {
                Ok((payload, passed)) => {
                    self.record.sent(payload);
                    match passed {
                        ReadOutcome::Done(written) => written?,
                        ReadOutcome::Deferred(held) => {
                            self.held = Some(held);
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                    }
                }
                Err(e) => {
                    self.record.upstream_lost(e.to_string());
                    return Poll::Ready(Err(End::UpstreamLost));
                }
            }
        }
        if let Some(silence) = &mut self.silence
            && silence.is_due(&self.watched)
            && self.body.is_between_events()
        {
            self.body.comment();
            write(stream, cx, COMMENT_CHUNK, &mut self.unsent)?;
            self.record.sent(COMMENT.len());
            self.unflushed = true;
        }
        if self.unflushed {
            self.unflushed = Pin::new(stream).poll_flush(cx).map_err(|_| End::ClientGone)?.is_pending();
        }
        Poll::Pending
    }
}

/// Writes what the client takes at once, and leaves the rest in `unsent`, which is empty.
fn write<T>(stream: &mut T, cx: &mut Context<'_>, bytes: &[u8], unsent: &mut Vec<u8>) -> Result<(), End>
where
    T: AsyncWrite + Unpin,
{
    if bytes.is_empty() {
        // What was read was nothing that passes.
        return Ok(());
    }
    match Pin::new(stream).poll_write(cx, bytes) {
        Poll::Ready(Ok(n)) if n > 0 => unsent.extend_from_slice(&bytes[n..]),
        Poll::Ready(_) => return Err(End::ClientGone),
        Poll::Pending => unsent.extend_from_slice(bytes),
    }
    Ok(())
}

impl connection::StreamTakeover for Relay {
    fn begin(&mut self, early: Bytes) {
        // An empty slice would still hold the buffer that it was cut from.
        if !early.is_empty() {
            self.early = early.into();
        }
    }

    fn poll<T>(&mut self, stream: &mut T, cx: &mut Context<'_>) -> Poll<bool>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let ended = ready!(self.poll_relay(stream, cx));
        self.record.ended(ended.err().unwrap_or(End::UpstreamEnd));
        Poll::Ready(ended.is_ok())
    }

    fn finish(self: Box<Self>) -> Bytes {
        self.body.release();
        self.early.into()
    }
}

/// The response head as hyper would write it, and the chunk framing that the server chose.
fn head(status: StatusCode, headers: &HeaderMap, is_chunked: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    // A Vec takes every write.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if !headers.contains_key(header::DATE) {
        write_date(&mut out);
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn write_date(out: &mut Vec<u8>) {
    thread_local! {
        /// The second that was formatted last.
        static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let second = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            *last = second;
            *text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        }
        let _ = write!(out, "date: {text}\r\n");
    });
}
