//! One request to a server and its response, both bodies streaming, all within the task that asked.

use std::{
    fmt, io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use hyper::body::{Body as _, Incoming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Endpoint, Pool, Transport,
    codec::{self, Chunked, Framing, Head, ProtocolError},
};

/// Request frames up to this size are copied behind the head, so that a small call is one write.
const COPY_UP_TO: usize = 16 * 1024;
/// Most request bytes that are gathered before they are written.
const GATHER: usize = 64 * 1024;
/// Size of a read once a body turned out to be large: then bytes are read where they stay, and never copied.
const BULK_READ: usize = 64 * 1024;

/// Why an exchange ended early.
#[derive(Debug)]
pub enum ExchangeError {
    /// The connection to the server failed or ended.
    Io(io::Error),
    /// The server broke HTTP/1.1.
    Protocol(ProtocolError),
    /// The client's body failed: it left, or broke framing.
    Client(hyper::Error),
    /// The client's body is larger than allowed.
    TooLarge,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => e.fmt(f),
            Self::Protocol(e) => e.fmt(f),
            Self::Client(e) => e.fmt(f),
            Self::TooLarge => f.write_str("the request body is too large"),
        }
    }
}

impl std::error::Error for ExchangeError {}

impl From<io::Error> for ExchangeError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<ProtocolError> for ExchangeError {
    fn from(e: ProtocolError) -> Self {
        Self::Protocol(e)
    }
}

/// A request that was begun on a connection. Dropping it closes the connection, which is how a server learns at once
/// that its client left.
pub struct Exchange {
    endpoint: Arc<Endpoint>,
    pool: Rc<Pool>,
    transport: Transport,
    method: Method,
    outgoing: Outgoing,
    /// The beginning of a response head that did not come in one piece.
    partial_head: Vec<u8>,
}

impl Exchange {
    /// Begins an exchange. `head` is the request head up to, but without, the fields that frame the body and the
    /// empty line; they are added here, so that what frames the body and the body cannot disagree.
    pub fn new(
        endpoint: Arc<Endpoint>,
        pool: Rc<Pool>,
        transport: Transport,
        method: Method,
        head: Vec<u8>,
        body: Incoming,
        max_body: u64,
    ) -> Self {
        let outgoing = Outgoing::new(head, body, &method, max_body);
        Self { endpoint, pool, transport, method, outgoing, partial_head: Vec::new() }
    }

    /// Whether the next step is the client's: part of its body is still to come.
    pub fn waits_for_client(&self) -> bool {
        self.outgoing.waits_for_client
    }

    /// Request body bytes taken from the client so far.
    pub fn body_bytes(&self) -> u64 {
        self.outgoing.taken
    }

    /// Sends the request and reads until the response head is complete. The request body may still be under way then.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, Bytes), ExchangeError>> {
        // A server may answer, and close, before it has read everything: what it said counts more than the
        // failure to send the rest.
        let sent = match self.outgoing.poll(&mut self.transport, &self.pool, cx) {
            Poll::Ready(Err(ExchangeError::Io(e))) => Some(e),
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        loop {
            let (method, partial) = (&self.method, &mut self.partial_head);
            let read = self.pool.read(&mut self.transport, cx, |bytes| {
                if bytes.is_empty() {
                    return Err(ExchangeError::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                let bytes = if partial.is_empty() {
                    bytes
                } else {
                    partial.extend_from_slice(bytes);
                    partial.as_slice()
                };
                match codec::parse_head(bytes, method)? {
                    Some((head, len)) => Ok(Some((head, Bytes::copy_from_slice(&bytes[len..])))),
                    None => {
                        if partial.is_empty() {
                            *partial = bytes.to_vec();
                        }
                        Ok(None)
                    }
                }
            });
            match read {
                Poll::Ready(Ok(Ok(Some(complete)))) => return Poll::Ready(Ok(complete)),
                Poll::Ready(Ok(Ok(None))) => {}
                Poll::Ready(Ok(Err(e))) => return Poll::Ready(Err(sent.map_or(e, ExchangeError::Io))),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e.into())),
                Poll::Pending => return sent.map_or(Poll::Pending, |e| Poll::Ready(Err(e.into()))),
            }
        }
    }

    /// The response body that follows `head`; `first` is what was read behind it.
    pub fn into_body(self, head: &Head, first: Bytes) -> ResponseBody {
        let decoding = match head.framing {
            Framing::None => Decoding::Length(0),
            Framing::Length(length) => Decoding::Length(length),
            Framing::Chunked => Decoding::Chunked(Chunked::default()),
            Framing::UntilClose => Decoding::UntilClose,
        };
        let reuse = head.keep_alive.then(|| keep_alive_hint(&head.headers));
        let mut body = ResponseBody {
            decoding,
            undecoded: first,
            ready: None,
            large: false,
            connection: Some(Connection {
                endpoint: self.endpoint,
                pool: self.pool,
                transport: self.transport,
                outgoing: (!self.outgoing.is_done()).then(|| Box::new(self.outgoing)),
                reuse,
            }),
        };
        if body.is_end() && body.undecoded.is_empty() {
            body.release();
        }
        body
    }
}

/// `Keep-Alive: timeout=5`
fn keep_alive_hint(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value.split(',').find_map(|parameter| parameter.trim().strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// The request on its way out.
struct Outgoing {
    /// Bytes to write: the head, chunk framing, and frames small enough to copy.
    buffer: Vec<u8>,
    /// How much of `buffer` is written.
    written: usize,
    /// A frame too large to copy, to be written behind `buffer`.
    frame: Bytes,
    body: Option<Incoming>,
    chunked: bool,
    waits_for_client: bool,
    taken: u64,
    max_body: u64,
}

impl Outgoing {
    fn new(mut buffer: Vec<u8>, body: Incoming, method: &Method, max_body: u64) -> Self {
        use io::Write as _;
        let exact = body.size_hint().exact();
        let has_body = !body.is_end_stream();
        let chunked = has_body && exact.is_none();
        if chunked {
            buffer.extend_from_slice(b"transfer-encoding: chunked\r\n");
        } else if has_body || method == Method::POST {
            // A Vec takes every write.
            let _ = write!(buffer, "content-length: {}\r\n", exact.unwrap_or(0));
        }
        buffer.extend_from_slice(b"\r\n");
        Self {
            buffer,
            written: 0,
            frame: Bytes::new(),
            body: has_body.then_some(body),
            chunked,
            waits_for_client: false,
            taken: 0,
            max_body,
        }
    }

    fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written()
    }

    fn is_written(&self) -> bool {
        self.written == self.buffer.len() && self.frame.is_empty()
    }

    /// Writes until everything is sent. Whatever of the body is there already goes out with the head.
    fn poll(
        &mut self,
        transport: &mut Transport,
        pool: &Pool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ExchangeError>> {
        loop {
            self.gather(cx)?;
            if self.is_written() {
                return if self.body.is_some() {
                    Poll::Pending
                } else {
                    pool.put_buffer(std::mem::take(&mut self.buffer));
                    self.written = 0;
                    // Only TLS holds anything back.
                    Pin::new(transport).poll_flush(cx).map_err(ExchangeError::Io)
                };
            }
            while !self.is_written() {
                ready!(self.poll_write(transport, cx))?;
            }
            self.buffer.clear();
            self.written = 0;
            if self.body.is_some() {
                ready!(Pin::new(&mut *transport).poll_flush(cx))?;
            }
        }
    }

    /// Takes from the client what is ready, up to [`GATHER`].
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), ExchangeError> {
        use io::Write as _;
        while self.frame.is_empty() && self.buffer.len() - self.written < GATHER {
            let Some(body) = &mut self.body else { break };
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    self.waits_for_client = true;
                    break;
                }
                Poll::Ready(Some(frame)) => frame.map_err(ExchangeError::Client)?,
                Poll::Ready(None) => {
                    self.body = None;
                    self.waits_for_client = false;
                    if self.chunked {
                        self.buffer.extend_from_slice(b"0\r\n\r\n");
                    }
                    break;
                }
            };
            self.waits_for_client = false;
            // Trailers are not forwarded (RFC 9110 §6.5.1 lets an intermediary drop them).
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.taken += data.len() as u64;
            if self.max_body > 0 && self.taken > self.max_body {
                return Err(ExchangeError::TooLarge);
            }
            if self.chunked {
                let _ = write!(self.buffer, "{:x}\r\n", data.len());
            }
            if data.len() <= COPY_UP_TO {
                self.buffer.extend_from_slice(&data);
                if self.chunked {
                    self.buffer.extend_from_slice(b"\r\n");
                }
            } else {
                self.frame = data;
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let had_frame = !self.frame.is_empty();
        let head = &self.buffer[self.written..];
        let mut transport = Pin::new(transport);
        let n = ready!(match (head.is_empty(), had_frame) {
            (false, true) => {
                let slices = [io::IoSlice::new(head), io::IoSlice::new(&self.frame)];
                transport.as_mut().poll_write_vectored(cx, &slices)
            }
            (false, false) => transport.as_mut().poll_write(cx, head),
            (true, _) => transport.as_mut().poll_write(cx, &self.frame),
        })?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_head = n.min(head.len());
        self.written += of_head;
        let _ = self.frame.split_to(n - of_head);
        if had_frame && self.frame.is_empty() && self.chunked {
            // The frame's chunk ends; `buffer` before it is written by now.
            self.buffer.clear();
            self.written = 0;
            self.buffer.extend_from_slice(b"\r\n");
        }
        Poll::Ready(Ok(()))
    }
}

/// What is left of an exchange while the response body runs.
struct Connection {
    endpoint: Arc<Endpoint>,
    pool: Rc<Pool>,
    transport: Transport,
    /// The rest of the request, if the server answered before it had everything.
    outgoing: Option<Box<Outgoing>>,
    /// `Some` if the connection may be used again, with the server's own idle limit if it told.
    reuse: Option<Option<Duration>>,
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
            ready!(connection.pool.read(transport, cx, |bytes| (bytes.len(), decode(decoding, bytes))))?;
        self.large = len == super::SCRATCH;
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
        self.large = len > super::SCRATCH;
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
        if let Some(connection) = self.connection.take()
            && let (Some(hint), None) = (connection.reuse, &connection.outgoing)
        {
            connection.pool.give(&connection.endpoint, connection.transport, hint);
        }
    }
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
