//! What the gateway watches on a client's byte stream.

use std::{
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::downstream::{connection::Connection, rejection::PlainHttp};

/// Notices a client that takes nothing: the socket itself, below TLS.
pub(super) struct Socket {
    inner: TcpStream,
    connection: Rc<Connection>,
    /// The last write took nothing.
    stalled: bool,
    /// The next byte is the first, and has to be one of TLS.
    expects_tls: bool,
}

impl Socket {
    pub(super) fn new(inner: TcpStream, connection: Rc<Connection>) -> Self {
        Self { inner, connection, stalled: false, expects_tls: false }
    }

    /// The same, for one that has to begin with a handshake. Reading fails with [`PlainHttp`] where HTTP comes instead.
    pub(super) fn expecting_tls(mut self) -> Self {
        self.expects_tls = true;
        self
    }

    /// Waits until there is something to read, which stays where it is.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is what reading meets as well.
        self.inner.poll_read_ready(cx).map(drop)
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

/// A connection that ends while its client takes nothing was cut: what the client has not taken is dropped.
impl Drop for Socket {
    fn drop(&mut self) {
        if self.stalled {
            // The kernel keeps nothing of it, where it would try on for a minute, and the other side meets a reset.
            let _ = self.inner.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        // A method begins with a letter, a record of TLS with 20 to 23 (RFC 8446 §5.1).
        if self.expects_tls
            && let Some(first) = buf.filled().get(before)
        {
            self.expects_tls = false;
            if first.is_ascii_alphabetic() {
                return Poll::Ready(Err(io::Error::other(PlainHttp)));
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
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

/// Shows the connection what its client sends over HTTP/1: the plain text, above TLS. It also sees when a client ends its side.
pub(super) struct Received<T> {
    inner: T,
    connection: Rc<Connection>,
    /// Bytes that were read already, before the stream came here.
    before: Bytes,
}

impl<T> Received<T> {
    pub(super) fn new(inner: T, connection: Rc<Connection>) -> Self {
        Self { inner, connection, before: Bytes::new() }
    }

    /// Puts bytes back that were read last, and belong to the next request.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        // Of what was put back before, not all need have been read again.
        self.before = match (bytes.is_empty(), self.before.is_empty()) {
            (true, _) => return,
            (false, true) => bytes,
            (false, false) => Bytes::from([bytes, mem::take(&mut self.before)].concat()),
        };
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Received<T> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.before.is_empty() {
            let put_back = self.before.len().min(buf.remaining());
            buf.put_slice(&self.before.split_to(put_back));
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read {
            let bytes = &buf.filled()[before..];
            if bytes.is_empty() {
                if buf.remaining() > 0 && !self.connection.has_left() {
                    return Poll::Pending;
                }
            } else {
                self.connection.received(bytes);
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Received<T> {
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
