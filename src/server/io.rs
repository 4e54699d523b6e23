//! What the gate watches on a client's byte stream.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Close, Connection};

/// Notices a client that takes nothing: the socket itself, below TLS.
pub(super) struct Socket<T: Close> {
    inner: T,
    connection: Rc<Connection>,
    /// The last write took nothing.
    stalled: bool,
}

impl<T: Close> Socket<T> {
    pub(super) fn new(inner: T, connection: Rc<Connection>) -> Self {
        Self { inner, connection, stalled: false }
    }

    /// Tells the connection what changed, and leaves its memory alone as long as nothing does.
    fn note(&mut self, written: &Poll<io::Result<usize>>) {
        match (written, self.stalled) {
            (Poll::Pending, false) => self.connection.write_stalled(),
            (Poll::Ready(_), true) => self.connection.write_progressed(),
            _ => {}
        }
        self.stalled = written.is_pending();
    }
}

/// A connection that ends while its client takes nothing was cut: what the client has not taken is for nobody.
impl<T: Close> Drop for Socket<T> {
    fn drop(&mut self) {
        if self.stalled {
            self.inner.hard();
        }
    }
}

impl<T: Close + AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Close + AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(&written);
        written
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // rustls hands over slices even if there is one; for one, the kernel has a shorter way.
        let written = match bufs {
            [one] => Pin::new(&mut self.inner).poll_write(cx, one),
            bufs => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
        };
        self.note(&written);
        written
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

/// Notices the beginning of an HTTP/1.1 request: the plain text, above TLS.
///
/// It starts the clock for the rest of the head, and it sees a fragment in the request line, which hyper would cut
/// off before anyone can refuse it, and line ends that are a LF alone, which hyper takes for what they are not to everybody
/// (RFC 9112 §2.2 leaves that to the recipient). It also sees when a client ends its side. A request that a client sends before it has the answer to the one before is
/// not looked at: its fragment is cut off, a LF is a line end, and nothing else of it changes.
pub(super) struct RequestLine<T> {
    inner: T,
    connection: Rc<Connection>,
    /// Bytes that were read already, by whoever had the stream before.
    before: Bytes,
}

impl<T> RequestLine<T> {
    pub(super) fn new(inner: T, connection: Rc<Connection>) -> Self {
        Self { inner, connection, before: Bytes::new() }
    }

    /// Puts bytes back that belong to the next request.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.before = bytes;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for RequestLine<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = if self.before.is_empty() {
            Pin::new(&mut self.inner).poll_read(cx, buf)
        } else {
            let put_back = self.before.len().min(buf.remaining());
            buf.put_slice(&self.before.split_to(put_back));
            Poll::Ready(Ok(()))
        };
        if let Poll::Ready(Ok(())) = read {
            let bytes = &buf.filled()[before..];
            if bytes.is_empty() {
                if buf.remaining() > 0 && !self.connection.has_left() {
                    return Poll::Pending;
                }
            } else if self.connection.is_in_head() {
                self.connection.head(bytes);
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for RequestLine<T> {
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
