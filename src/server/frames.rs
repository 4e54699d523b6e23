//! Notices a path with a fragment among the requests of an HTTP/2 connection, before h2 cuts the fragment off: the plain text,
//! above TLS.
//!
//! What is found is told for the connection, since nothing at this level says which request of hyper's a header block
//! becomes. A client that sends one such path is out of order with all that it asks from then on.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{connection::Connection, hpack::Paths};

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// Types of frames (RFC 9113 §6).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// Flags of the two (RFC 9113 §6.2).
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Frames as they come.
pub(super) struct Frames {
    paths: Paths,
    /// Bytes to come that nothing is to be learnt from.
    skipped: usize,
    /// The beginning of a frame that did not come in one piece.
    partial: Vec<u8>,
    /// The beginning of a header block that did not come in one frame, and its stream.
    block: Vec<u8>,
    stream: Option<[u8; 4]>,
    /// Most bytes of a header block.
    most: usize,
}

/// The client has sent a path with a fragment, or something that h2 ends the connection for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejected;

impl Frames {
    /// For a connection whose header lists may have so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            paths: Paths::default(),
            skipped: PREFACE,
            partial: Vec::new(),
            block: Vec::new(),
            stream: None,
            // Those that are too large for h2 to serve it reads all the same, up to a multiple.
            most: most.saturating_mul(4),
        }
    }

    /// Looks at what comes next. After an error there is nothing more to be learnt.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Rejected> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.skipped > 0 {
                let here = self.skipped.min(rest.len());
                self.skipped -= here;
                rest = &rest[here..];
                continue;
            }
            if self.partial.is_empty()
                && let whole @ 1.. = self.frame(rest)?
            {
                rest = &rest[whole..];
                continue;
            }
            let missing = wanted(&self.partial) - self.partial.len();
            let (taken, behind) = rest.split_at(missing.min(rest.len()));
            self.partial.extend_from_slice(taken);
            rest = behind;
            let partial = std::mem::take(&mut self.partial);
            if self.frame(&partial)? == 0 {
                self.partial = partial;
            }
        }
        Ok(())
    }

    /// Looks at the frame that `bytes` begin with; returns how many belong to it, 0 if more have to come.
    fn frame(&mut self, bytes: &[u8]) -> Result<usize, Rejected> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(0) };
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if !matches!(kind, HEADERS | CONTINUATION) {
            self.skipped = length;
            // Nothing else may stand within a header block (RFC 9113 §4.3).
            return if self.stream.is_none() { Ok(HEAD) } else { Err(Rejected) };
        }
        if self.block.len() + length > self.most {
            return Err(Rejected);
        }
        let Some(payload) = rest.get(..length) else { return Ok(0) };
        // The first bit has no meaning.
        let stream = [stream[0] & 0x7F, stream[1], stream[2], stream[3]];
        let fragment = match (kind, self.stream) {
            (HEADERS, None) => fragment(payload, flags, stream)?,
            (CONTINUATION, Some(begun)) if begun == stream => payload,
            _ => return Err(Rejected),
        };
        self.stream = Some(stream).filter(|_| flags & END_HEADERS == 0);
        if self.stream.is_some() || !self.block.is_empty() {
            self.block.extend_from_slice(fragment);
        }
        if self.stream.is_none() {
            let block = std::mem::take(&mut self.block);
            let block = if block.is_empty() { fragment } else { &block };
            match self.paths.has_fragment(block) {
                Ok(false) => {}
                Ok(true) | Err(_) => return Err(Rejected),
            }
        }
        Ok(HEAD + length)
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
fn fragment(payload: &[u8], flags: u8, stream: [u8; 4]) -> Result<&[u8], Rejected> {
    let mut rest = payload;
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (&length, behind) = rest.split_first().ok_or(Rejected)?;
        (padding, rest) = (usize::from(length), behind);
    }
    if flags & PRIORITY != 0 {
        let (priority, behind) = rest.split_first_chunk::<5>().ok_or(Rejected)?;
        let [a, b, c, d, _] = *priority;
        // Of a stream that depends on itself h2 skips the block, and is out of step with its client from there on.
        if [a & 0x7F, b, c, d] == stream {
            return Err(Rejected);
        }
        rest = behind;
    }
    rest.len().checked_sub(padding).and_then(|length| rest.get(..length)).ok_or(Rejected)
}

/// A client's side of an HTTP/2 connection.
pub(super) struct Http2Stream<T> {
    inner: T,
    connection: Rc<Connection>,
    frames: Frames,
}

impl<T> Http2Stream<T> {
    pub(super) fn new(inner: T, connection: Rc<Connection>, most: usize) -> Self {
        Self { inner, connection, frames: Frames::new(most) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Http2Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read
            && !self.connection.is_rejected()
            && self.frames.push(&buf.filled()[before..]).is_err()
        {
            self.connection.reject();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Http2Stream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
