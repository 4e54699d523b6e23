//! What of an HTTP/2 connection the gateway sees before h2 does: the plain text, above TLS.
//!
//! It notices a path with a fragment, which h2 cuts off, and floods of frames that each cost an answer or a look and bring
//! nothing, of which h2 bounds some kinds only. It finds requests with an `Expect` for [`super::interim`].
//!
//! What is found about paths is reported for the connection, since nothing at this level says which request of hyper's a
//! header block becomes. A client that sends one such path is out of order with all that it asks from then on.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::downstream::{
    connection::Connection,
    hpack::{Found, HeaderTable},
    interim::{Expectations, OutgoingFrames},
};

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: usize = 24;
pub(super) const HEAD: usize = 9;
/// Types of frames (RFC 9113 §6).
const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// Flag of SETTINGS (RFC 9113 §6.5).
pub(super) const ACK: u8 = 0x01;
/// Flag of DATA (§6.1), and of frames of header blocks (§6.2).
const END_STREAM: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Most bytes of SETTINGS: h2 is set to take no frame that is longer.
const MOST_SETTINGS: usize = 16 * 1024;
/// The setting that says how large a table of header fields its sender keeps (RFC 9113 §6.5.2).
const HEADER_TABLE_SIZE: [u8; 2] = [0, 1];

/// Which stream a frame is of, as it is written.
pub(super) type StreamId = [u8; 4];

/// Frames as they come.
pub(super) struct Frames {
    fields: HeaderTable,
    /// Bytes to come that nothing is to be learnt from.
    skipped: usize,
    /// The beginning of a frame that did not come in one piece.
    partial: Vec<u8>,
    /// The beginning of a header block that did not come in one frame, and its stream.
    block: Vec<u8>,
    stream: Option<StreamId>,
    /// Most bytes of a header block.
    most: usize,
    /// Frames so far that bring nothing, and those that begin a request or end one.
    idle: u64,
    requests: u64,
    /// Windows that the client opened further.
    windows: u64,
    /// The highest stream that was opened.
    last_stream: StreamId,
    /// The header block is that of a request, not of trailers.
    is_request: bool,
    expectations: Rc<Expectations>,
    /// Stream of the request that was seen last, if it has an `Expect`.
    expecting: Option<StreamId>,
    /// Something was [`BadFrames`]. Frames are counted from then on, and nothing more is learnt of them.
    is_rejected: bool,
}

/// The head of a frame.
#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: StreamId,
    length: usize,
}

/// What came of looking at a frame.
enum Looked {
    Done,
    /// Its payload has to be there.
    WantsMore,
}

/// The client has sent a path with a fragment, or something that h2 ends the connection for.
struct BadFrames;

impl Frames {
    /// For a connection whose header lists may have so many bytes.
    pub(super) fn new(most: usize, expectations: Rc<Expectations>) -> Self {
        Self {
            fields: HeaderTable::default(),
            skipped: PREFACE,
            partial: Vec::new(),
            block: Vec::new(),
            stream: None,
            // Those that are too large for h2 to serve it reads all the same, up to a multiple.
            most: most.saturating_mul(4),
            idle: 0,
            requests: 0,
            windows: 0,
            last_stream: [0; 4],
            is_request: false,
            expectations,
            expecting: None,
            is_rejected: false,
        }
    }

    /// Looks at what comes next, up to the end of a request's head with an `Expect`. Says how many bytes it has looked at.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.expecting.is_none() {
            if self.skipped > 0 {
                let here = self.skipped.min(rest.len());
                self.skipped -= here;
                rest = &rest[here..];
                continue;
            }
            if self.partial.is_empty()
                && let here @ 1.. = self.frame(rest)
            {
                rest = &rest[here..];
                continue;
            }
            let missing = wanted(&self.partial) - self.partial.len();
            let (taken, behind) = rest.split_at(missing.min(rest.len()));
            self.partial.extend_from_slice(taken);
            rest = behind;
            let partial = std::mem::take(&mut self.partial);
            if self.frame(&partial) == 0 {
                self.partial = partial;
            }
        }
        bytes.len() - rest.len()
    }

    /// Looks at the frame that `bytes` begin with; returns how many of them belong to it, 0 if more have to come.
    fn frame(&mut self, bytes: &[u8]) -> usize {
        let Some((head, payload)) = bytes.split_first_chunk::<HEAD>() else { return 0 };
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        // The first bit has no meaning.
        let stream = [stream[0] & 0x7F, stream[1], stream[2], stream[3]];
        let frame = Frame { kind, flags, stream, length };
        if !self.is_rejected {
            match self.look(frame, payload) {
                Ok(Looked::Done) => {}
                Ok(Looked::WantsMore) => return 0,
                Err(BadFrames) => {
                    self.is_rejected = true;
                    self.block = Vec::new();
                }
            }
        }
        self.count(frame);
        let here = bytes.len().min(HEAD + length);
        self.skipped = HEAD + length - here;
        here
    }

    /// Counts a frame, whatever is in it.
    fn count(&mut self, Frame { kind, flags, stream, length }: Frame) {
        match kind {
            HEADERS => {
                self.requests += 1;
                self.last_stream = self.last_stream.max(stream);
            }
            CONTINUATION => {}
            _ => {
                let is_data = kind == DATA && (length > 0 || flags & END_STREAM != 0);
                self.idle += u64::from(!is_data);
                self.windows += u64::from(kind == WINDOW_UPDATE);
            }
        }
    }

    /// Learns what counts of a frame.
    fn look(&mut self, frame: Frame, rest: &[u8]) -> Result<Looked, BadFrames> {
        let Frame { kind, flags, stream, length } = frame;
        if !matches!(kind, HEADERS | CONTINUATION) {
            if kind == SETTINGS && flags & ACK == 0 {
                if length > MOST_SETTINGS {
                    return Err(BadFrames);
                }
                let Some(payload) = rest.get(..length) else { return Ok(Looked::WantsMore) };
                self.expectations.settings(table_size(payload));
            }
            if kind == RST_STREAM || (kind == DATA && flags & END_STREAM != 0) {
                self.expectations.ended(stream);
            }
            // Nothing else may stand within a header block (RFC 9113 §4.3).
            return if self.stream.is_none() { Ok(Looked::Done) } else { Err(BadFrames) };
        }
        if self.block.len() + length > self.most {
            return Err(BadFrames);
        }
        let Some(payload) = rest.get(..length) else { return Ok(Looked::WantsMore) };
        let fragment = match (kind, self.stream) {
            (HEADERS, None) => {
                self.is_request = stream > self.last_stream;
                if !self.is_request {
                    self.expectations.ended(stream);
                }
                fragment(payload, flags, stream)?
            }
            (CONTINUATION, Some(begun)) if begun == stream => payload,
            _ => return Err(BadFrames),
        };
        self.stream = Some(stream).filter(|_| flags & END_HEADERS == 0);
        if self.stream.is_some() || !self.block.is_empty() {
            self.block.extend_from_slice(fragment);
        }
        if self.stream.is_none() {
            let block = std::mem::take(&mut self.block);
            let block = if block.is_empty() { fragment } else { &block };
            match self.fields.read(block) {
                Ok(Found { fragment: false, expect }) => {
                    self.expecting = Some(stream).filter(|_| expect && self.is_request);
                }
                Ok(Found { fragment: true, .. }) | Err(_) => return Err(BadFrames),
            }
        }
        Ok(Looked::Done)
    }
}

/// How many bytes of a frame it takes to know more of it.
fn wanted(partial: &[u8]) -> usize {
    match partial.first_chunk::<HEAD>() {
        None => HEAD,
        Some([a, b, c, ..]) => HEAD + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)),
    }
}

/// What of the payload of a HEADERS frame is of the header block.
fn fragment(payload: &[u8], flags: u8, stream: [u8; 4]) -> Result<&[u8], BadFrames> {
    let mut rest = payload;
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (&length, behind) = rest.split_first().ok_or(BadFrames)?;
        (padding, rest) = (usize::from(length), behind);
    }
    if flags & PRIORITY != 0 {
        let (priority, behind) = rest.split_first_chunk::<5>().ok_or(BadFrames)?;
        let [a, b, c, d, _] = *priority;
        // Of a stream that depends on itself h2 skips the block, and is out of step with its client from there on.
        if [a & 0x7F, b, c, d] == stream {
            return Err(BadFrames);
        }
        rest = behind;
    }
    rest.len().checked_sub(padding).and_then(|length| rest.get(..length)).ok_or(BadFrames)
}

/// What SETTINGS say of the table of header fields. h2 takes the last word.
fn table_size(payload: &[u8]) -> Option<u32> {
    let (settings, _) = payload.as_chunks::<6>();
    settings
        .iter()
        .rev()
        .find_map(|[a, b, value @ ..]| ([*a, *b] == HEADER_TABLE_SIZE).then(|| u32::from_be_bytes(*value)))
}

/// How many frames that bring nothing a client may send in [`CALM_FOR`], beside those that its requests and our answers give
/// reason for.
const MOST_IDLE: u64 = 1000;
const CALM_FOR: Duration = Duration::from_secs(10);
/// So many bytes of answers are reason for one: Go opens its window anew each 4 KiB, and gRPC pings while it reads.
const BYTES_PER_IDLE: u64 = 512;

/// Whether a client sends more frames than it has reason for.
struct FrameBudget {
    since: Instant,
    /// [`Frames::idle`] and [`Frames::requests`] when the time began.
    idle: u64,
    requests: u64,
    /// Bytes sent to the client since.
    sent: u64,
}

impl FrameBudget {
    fn is_disturbed(&mut self, frames: &Frames, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= CALM_FOR {
            *self = Self { since: now, idle: frames.idle, requests: frames.requests, sent: 0 };
        }
        let reasons = frames.requests - self.requests + self.sent / BYTES_PER_IDLE;
        frames.idle - self.idle > MOST_IDLE + reasons
    }
}

/// A client's side of an HTTP/2 connection.
pub(super) struct Http2Stream<T> {
    inner: T,
    connection: Rc<Connection>,
    frames: Frames,
    calm: FrameBudget,
    outgoing: OutgoingFrames,
    expectations: Rc<Expectations>,
    /// What came behind a head with an `Expect`, and is not for h2 yet.
    withheld: Bytes,
}

impl<T> Http2Stream<T> {
    pub(super) fn new(
        inner: T,
        connection: Rc<Connection>,
        expectations: Rc<Expectations>,
        most: usize,
    ) -> Self {
        Self {
            inner,
            calm: FrameBudget { since: connection.now(), idle: 0, requests: 0, sent: 0 },
            connection,
            frames: Frames::new(most, Rc::clone(&expectations)),
            outgoing: OutgoingFrames::new(Rc::clone(&expectations)),
            expectations,
            withheld: Bytes::new(),
        }
    }
}

impl<T: AsyncWrite + Unpin> Http2Stream<T> {
    /// Ends the connection. h2 cannot be asked for that with a reason; so it is done here, unless a frame of h2's own is under
    /// way, and h2 meets an error.
    fn calm_down(&mut self, cx: &mut Context<'_>) -> io::Error {
        self.connection.calm_down();
        if self.outgoing.is_between_frames() {
            let mut goaway = [0; HEAD + 8];
            (goaway[2], goaway[3]) = (8, GOAWAY);
            goaway[HEAD..HEAD + 4].copy_from_slice(&self.frames.last_stream);
            goaway[HEAD + 4..].copy_from_slice(&u32::from(h2::Reason::ENHANCE_YOUR_CALM).to_be_bytes());
            // Who does not take it does not hear of it.
            let _ = Pin::new(&mut self.inner).poll_write(cx, &goaway);
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
        }
        io::Error::other("too many control frames")
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.outgoing.push(bytes);
        self.calm.sent += bytes.len() as u64;
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Http2Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.expectations.withholds() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let was_withheld = !this.withheld.is_empty();
        let read = if was_withheld {
            buf.put_slice(&this.withheld[..this.withheld.len().min(buf.remaining())]);
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut this.inner).poll_read(cx, buf)
        };
        if let Poll::Ready(Ok(())) = read {
            let (windows, was_rejected) = (this.frames.windows, this.frames.is_rejected);
            let seen = this.frames.push(&buf.filled()[before..]);
            if let Some(stream) = this.frames.expecting.take() {
                this.expectations.gives(stream, cx);
                if !was_withheld {
                    this.withheld = Bytes::copy_from_slice(&buf.filled()[before + seen..]);
                }
                buf.set_filled(before + seen);
            }
            if this.frames.is_rejected && !was_rejected {
                this.connection.reject();
                this.expectations.give_up();
            }
            if this.frames.windows > windows {
                this.connection.took_something();
            }
            if this.calm.is_disturbed(&this.frames, this.connection.now()) {
                return Poll::Ready(Err(this.calm_down(cx)));
            }
        }
        if was_withheld {
            this.withheld.advance(buf.filled().len() - before);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Http2Stream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let most = ready!(this.outgoing.poll_due(&mut this.inner, cx))?;
        let written = Pin::new(&mut this.inner).poll_write(cx, &buf[..most.min(buf.len())]);
        if let Poll::Ready(Ok(n)) = written {
            self.sent(&buf[..n]);
        }
        written
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let most = ready!(this.outgoing.poll_due(&mut this.inner, cx))?;
        let written = match bufs.iter().find(|buf| !buf.is_empty()) {
            // What follows may have to wait.
            Some(first) if most < usize::MAX => {
                Pin::new(&mut this.inner).poll_write(cx, &first[..most.min(first.len())])
            }
            _ => Pin::new(&mut this.inner).poll_write_vectored(cx, bufs),
        };
        if let Poll::Ready(Ok(mut left)) = written {
            for buf in bufs {
                let here = left.min(buf.len());
                self.sent(&buf[..here]);
                left -= here;
            }
        }
        written
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.outgoing.poll_due(&mut this.inner, cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
