//! A response on its way in.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::{
    Endpoint, ExchangeError, Pool, SCRATCH, Transport,
    codec::{Chunked, Framing, Head, ProtocolError},
    outgoing::Outgoing,
};

/// Size of a read once a body turned out to be large: then bytes are read where they stay, and never copied.
const BULK_READ: usize = 64 * 1024;

/// What is left of an exchange while the response body runs.
pub(super) struct Connection {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) pool: Rc<Pool>,
    pub(super) transport: Transport,
    /// The rest of the request, if the server answered before it had everything.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// `Some` if the connection may be used again, with the server's own idle limit if it told.
    pub(super) reuse: Option<Option<Duration>>,
}

enum Decoding {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// A response body: payload without framing, frames as they come.
///
/// All chunks that one read brings become one frame, and so one write to the client. Nothing is read ahead: the
/// server is slowed down by not reading. When the body ends well, the connection goes back to the pool; dropped before, it
/// is closed.
pub struct ResponseBody {
    connection: Option<Connection>,
    decoding: Decoding,
    /// Bytes behind the head, not decoded yet.
    undecoded: Bytes,
    /// Rest of a large read that was decoded in place.
    ready: Option<Bytes>,
    /// The last read filled the worker's buffer: the next goes to a buffer of its own.
    large: bool,
}

impl ResponseBody {
    /// The body that follows `head` on `connection`; `first` is what was read behind it.
    pub(super) fn new(mut connection: Connection, head: &Head, first: Bytes) -> Self {
        connection.reuse = head.keep_alive.then(|| keep_alive_hint(&head.headers));
        let decoding = match head.framing {
            Framing::None => Decoding::Length(0),
            Framing::Length(length) => Decoding::Length(length),
            Framing::Chunked => Decoding::Chunked(Chunked::default()),
            Framing::UntilClose => Decoding::UntilClose,
        };
        let mut body =
            Self { connection: Some(connection), decoding, undecoded: first, ready: None, large: false };
        if body.is_end() && body.undecoded.is_empty() {
            body.release();
        }
        body
    }

    /// Whether the body can be passed on with its chunk framing as it is, and is not complete already: then there
    /// would be nothing to gain.
    pub fn can_be_raw(&self) -> bool {
        match (&self.decoding, &self.connection) {
            (Decoding::Chunked(chunked), Some(Connection { outgoing: None, .. })) if self.ready.is_none() => {
                let mut ahead = Chunked::clone(chunked);
                ahead.decode(&self.undecoded, |_| {}).is_ok() && !ahead.is_done()
            }
            _ => false,
        }
    }

    /// Takes the body out of its decoder, if [`ResponseBody::can_be_raw`].
    pub fn into_raw(self) -> Option<RawBody> {
        match (self.decoding, self.connection) {
            (Decoding::Chunked(chunked), Some(connection)) => {
                Some(RawBody { connection, chunked, first: self.undecoded })
            }
            _ => None,
        }
    }

    /// Length of the payload still to come, if the server declared it.
    pub fn remaining(&self) -> Option<u64> {
        match self.decoding {
            Decoding::Length(length) => Some(length),
            _ if self.connection.is_none() => Some(0),
            _ => None,
        }
    }

    /// Whether the body ended as its framing says.
    pub fn is_end(&self) -> bool {
        match &self.decoding {
            Decoding::Length(length) => *length == 0,
            Decoding::Chunked(chunked) => chunked.is_done() && self.ready.is_none(),
            Decoding::UntilClose => self.connection.is_none(),
        }
    }

    /// The next payload, or the end. The connection is given back with the last payload already, since a reader that
    /// knows the length does not ask for the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ExchangeError>>> {
        let data = self.poll_payload(cx);
        if self.is_end() && self.undecoded.is_empty() {
            self.release();
        }
        data
    }

    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ExchangeError>>> {
        loop {
            if let Some(ready) = self.ready.take() {
                match self.decode_in_place(ready) {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                    Ok(None) => {}
                    Err(e) => return Poll::Ready(Some(Err(e.into()))),
                }
            }
            if !self.undecoded.is_empty() {
                let undecoded = std::mem::take(&mut self.undecoded);
                match self.decode(&undecoded) {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(e) => return Poll::Ready(Some(Err(e.into()))),
                }
            }
            if self.is_end() {
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(cx)) {
                Ok(None) => {}
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Err(e) => return Poll::Ready(Some(Err(e))),
            }
        }
    }

    /// One read; `None` is to be asked again.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ExchangeError>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
        if let Some(outgoing) = &mut connection.outgoing {
            match outgoing.poll(&mut connection.transport, &connection.pool, cx) {
                Poll::Ready(Ok(())) => connection.outgoing = None,
                // The server no longer reads; its answer may still be complete.
                Poll::Ready(Err(ExchangeError::Io(_))) => {
                    connection.outgoing = None;
                    connection.reuse = None;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {}
            }
        }
        if self.large {
            return self.poll_read_large(cx);
        }
        let (decoding, transport) = (&mut self.decoding, &mut connection.transport);
        let (len, decoded) =
            ready!(connection.pool.read(transport, cx, |_, bytes| (bytes.len(), decode(decoding, bytes))))?;
        self.large = len == SCRATCH;
        if len == 0 {
            return Poll::Ready(self.closed());
        }
        let (data, surplus) = decoded?;
        if surplus {
            self.forbid_reuse();
        }
        Poll::Ready(Ok(Some(data).filter(|data| !data.is_empty())))
    }

    fn poll_read_large(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ExchangeError>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
        let mut bytes = BytesMut::zeroed(BULK_READ);
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut connection.transport).poll_read(cx, &mut buf))?;
        let len = buf.filled().len();
        self.large = len > SCRATCH;
        if len == 0 {
            return Poll::Ready(self.closed());
        }
        bytes.truncate(len);
        Poll::Ready(self.decode_in_place(bytes.freeze()).map_err(Into::into))
    }

    /// The server closed: the end where the framing allows it, an error everywhere else.
    fn closed(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        match self.decoding {
            Decoding::UntilClose => {
                self.connection = None;
                Ok(None)
            }
            _ => Err(ExchangeError::Io(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Decodes `bytes` into one new buffer.
    fn decode(&mut self, bytes: &[u8]) -> Result<Bytes, ProtocolError> {
        let (data, surplus) = decode(&mut self.decoding, bytes)?;
        if surplus {
            self.forbid_reuse();
        }
        Ok(data)
    }

    /// Cuts the next payload out of `bytes` without a copy and keeps the rest for the next call.
    fn decode_in_place(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, ProtocolError> {
        match &mut self.decoding {
            Decoding::Chunked(chunked) => {
                let mut payload = None;
                // Decode up to the end of the first payload range, so that the rest can wait undecoded.
                let consumed = chunked.decode_one(&bytes, |range| payload = Some(range))?;
                let data = payload.map(|range| bytes.slice(range));
                let rest = bytes.split_off(consumed);
                if !rest.is_empty() {
                    if chunked.is_done() {
                        self.forbid_reuse();
                    } else {
                        self.ready = Some(rest);
                    }
                }
                Ok(data)
            }
            Decoding::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                let surplus = here < bytes.len();
                *left -= here as u64;
                bytes.truncate(here);
                if surplus {
                    self.forbid_reuse();
                }
                Ok(Some(bytes))
            }
            Decoding::UntilClose => Ok(Some(bytes)),
        }
    }

    fn forbid_reuse(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.reuse = None;
        }
    }

    /// Gives the connection back once both bodies are through; otherwise closes it.
    fn release(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
    }
}

impl Connection {
    /// Back to the pool, if both bodies are through and the server does not close it.
    fn release(self) {
        if let (Some(hint), None) = (self.reuse, &self.outgoing) {
            self.pool.give(&self.endpoint, self.transport, hint);
        }
    }
}

/// A chunked response body with its framing left as it is. Only chunk sizes are looked at, to know where it ends.
pub struct RawBody {
    connection: Connection,
    chunked: Chunked,
    first: Bytes,
}

impl RawBody {
    /// Whether the last chunk was handed out.
    pub fn is_end(&self) -> bool {
        self.chunked.is_done()
    }

    /// Hands what comes next, framing and all, and how much of it is payload, to `then`. The bytes lie in the
    /// worker's buffer, so an idle body owns none.
    pub fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        then: impl FnOnce(&mut Context<'_>, &[u8], usize) -> R,
    ) -> Poll<Result<R, ExchangeError>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            let (body, payload, surplus) = walk(&mut self.chunked, &first)?;
            if surplus {
                self.connection.reuse = None;
            }
            return Poll::Ready(Ok(then(cx, body, payload)));
        }
        let (chunked, reuse) = (&mut self.chunked, &mut self.connection.reuse);
        let read = self.connection.pool.read(&mut self.connection.transport, cx, |cx, bytes| {
            if bytes.is_empty() {
                return Err(ExchangeError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            let (body, payload, surplus) = walk(chunked, bytes)?;
            if surplus {
                *reuse = None;
            }
            Ok(then(cx, body, payload))
        });
        Poll::Ready(ready!(read)?)
    }

    /// Gives the connection back; the body must be at its end.
    pub fn release(self) {
        if self.is_end() {
            self.connection.release();
        }
    }
}

/// The part of `bytes` that belongs to the body, its payload bytes, and whether there was more behind.
fn walk<'a>(chunked: &mut Chunked, bytes: &'a [u8]) -> Result<(&'a [u8], usize, bool), ProtocolError> {
    let mut payload = 0;
    let consumed = chunked.decode(bytes, |range| payload += range.len())?;
    Ok((&bytes[..consumed], payload, consumed < bytes.len()))
}

/// `Keep-Alive: timeout=5`
fn keep_alive_hint(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value.split(',').find_map(|parameter| parameter.trim().strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Payload of `bytes` in one new buffer, and whether there was more behind the end of the body.
fn decode(decoding: &mut Decoding, bytes: &[u8]) -> Result<(Bytes, bool), ProtocolError> {
    match decoding {
        Decoding::Length(left) => {
            let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= here as u64;
            Ok((Bytes::copy_from_slice(&bytes[..here]), here < bytes.len()))
        }
        Decoding::Chunked(chunked) => {
            let mut data = BytesMut::with_capacity(bytes.len());
            let consumed = chunked.decode(bytes, |range| data.extend_from_slice(&bytes[range]))?;
            Ok((data.freeze(), consumed < bytes.len()))
        }
        Decoding::UntilClose => Ok((Bytes::copy_from_slice(bytes), false)),
    }
}
