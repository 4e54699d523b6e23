//! A response on its way in.

use std::{
    io,
    ops::Range,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{
    ExchangeError, Origin, Pool, ReadOutcome, SCRATCH, UpstreamSocket,
    codec::{Chunked, Cuts, Framing, Head, KeepAlive, ProtocolError, chunk_size},
    outgoing::Outgoing,
    pool::STREAM_READ,
};
use crate::mcp::sse::{
    end::{EventEnd, SplitMark},
    endpoint::{BYTE_ORDER_MARK, EndpointError},
    endpoint_guard::EndpointGuard,
};

/// Reads of one body after which acknowledgments are delayed (see [`UpstreamSocket::delay_acks`]): most calls are answered in
/// fewer, and pay nothing. A power of two.
const DELAY_ACKS_AFTER: u32 = 16;

/// What is left of an exchange while the response body runs.
pub(super) struct ExchangeConnection {
    pub(super) endpoint: Arc<Origin>,
    pub(super) pool: Rc<Pool>,
    pub(super) transport: UpstreamSocket,
    /// The rest of the request, if the server answered before it had everything.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// `Some` if the connection may be used again.
    pub(super) reuse: Option<KeepAlive>,
    /// It is not used again, as its buffers are those of a stream.
    pub(super) is_for_stream: bool,
    /// Reads of the body so far.
    pub(super) reads: u32,
}

/// Where the payload is, and where it ends.
enum Decoding {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Decoding {
    /// Walks over `bytes`, calling `payload` with each range of it that is payload. Returns how many bytes belong
    /// to this body.
    fn walk(&mut self, bytes: &[u8], payload: impl FnMut(Range<usize>)) -> Result<usize, ProtocolError> {
        self.walk_raw(bytes, payload, |_| {})
    }

    /// The same for a body that passes with its framing, calling `dispensable` with each range that does not pass.
    fn walk_raw(
        &mut self,
        bytes: &[u8],
        mut payload: impl FnMut(Range<usize>),
        dispensable: impl FnMut(Range<usize>),
    ) -> Result<usize, ProtocolError> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                payload(0..here);
                Ok(here)
            }
            Self::Chunked(chunked) => chunked.decode(bytes, payload, dispensable),
            Self::UntilClose => {
                payload(0..bytes.len());
                Ok(bytes.len())
            }
        }
    }

    /// Whether a chunk may begin here.
    fn is_between_chunks(&self) -> bool {
        matches!(self, Self::Chunked(chunked) if chunked.is_between_chunks())
    }

    /// Whether the body is complete. Without framing only the end of the connection tells.
    fn is_end(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }
}

/// A response body: payload without framing, frames as they come.
///
/// All chunks that one read brings become one frame, and so one write to the client. Nothing is read ahead: the
/// server is slowed down by not reading. When the body ends well, the connection goes back to the pool; dropped before, it
/// is closed.
pub struct ResponseBody {
    /// `None` behind the end.
    connection: Option<ExchangeConnection>,
    decoding: Decoding,
    /// Bytes behind the head, not decoded yet.
    first: Bytes,
    /// Looks at the payload, if it must not lead its client elsewhere.
    guard: Option<EndpointGuard>,
}

impl ResponseBody {
    /// The body that follows `head` on `connection`; `first` is what was read behind it.
    pub(super) fn new(mut connection: ExchangeConnection, head: &Head, first: Bytes) -> Self {
        connection.reuse = head.keep_alive.filter(|_| !connection.is_for_stream);
        let decoding = match head.framing {
            Framing::None => Decoding::Length(0),
            Framing::Length(length) => Decoding::Length(length),
            Framing::Chunked => Decoding::Chunked(Chunked::default()),
            Framing::UntilClose => Decoding::UntilClose,
        };
        if decoding.is_end() && !first.is_empty() {
            connection.reuse = None;
        }
        let mut body = Self { connection: Some(connection), decoding, first, guard: None };
        body.release_at_end();
        body
    }

    /// The body, which ends with an error where it has an `endpoint` event. Not for one of which something was read.
    pub fn guarded(self) -> Self {
        Self { guard: Some(EndpointGuard::default()), ..self }
    }

    /// Whether the body can be passed on with its framing as it is: not if the server must close to end it, or waits
    /// for the rest of the request; and not if it is complete already, because then there is nothing to gain.
    pub fn can_be_raw(&self) -> bool {
        let Some(ExchangeConnection { outgoing: None, .. }) = &self.connection else { return false };
        let mut guarded = Guarded::by(self.guard);
        match &self.decoding {
            Decoding::Length(left) => {
                guarded.look(&self.first);
                *left > self.first.len() as u64 && guarded.result.is_ok()
            }
            Decoding::Chunked(chunked) => {
                let mut ahead = Chunked::clone(chunked);
                let walked = ahead.decode(&self.first, |range| guarded.look(&self.first[range]), |_| {});
                walked.is_ok() && !ahead.is_done() && guarded.result.is_ok()
            }
            Decoding::UntilClose => false,
        }
    }

    /// Takes the body out of its decoder, if [`ResponseBody::can_be_raw`]. Beside it, what passes of what came with the head,
    /// framing and all, and how much of that is payload.
    pub fn into_raw(self) -> Option<(RawBody, Bytes, usize)> {
        let can_be_raw = self.can_be_raw();
        let Self { connection, mut decoding, first, guard } = self;
        let connection = connection.filter(|_| can_be_raw)?;
        let (mut payload, mut cuts) = (0, Cuts::default());
        let mut guarded = Guarded::by(guard);
        let mut end = EventEnd::default();
        let count = |range: Range<usize>| {
            payload += range.len();
            end.push(&first[range.clone()]);
            guarded.look(&first[range]);
        };
        decoding.walk_raw(&first, count, |range| cuts.push(range)).ok()?;
        let guard = guarded.guard;
        let first = cuts.taken_out_of(&first).map_or(first, Bytes::from);
        Some((RawBody { connection, decoding, guard, end, large: false }, first, payload))
    }

    /// Length of the payload still to come, if the server declared it.
    pub fn remaining(&self) -> Option<u64> {
        match self.decoding {
            Decoding::Length(length) => Some(length),
            Decoding::Chunked(_) | Decoding::UntilClose => self.is_end().then_some(0),
        }
    }

    /// Whether the body ended as its framing says.
    pub fn is_end(&self) -> bool {
        self.connection.is_none()
    }

    /// The next payload, or the end. The connection is given back with the last payload already, since a reader that
    /// knows the length does not ask for the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ExchangeError>>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            connection.poll_outgoing(cx)?;
            let first = std::mem::take(&mut self.first);
            let data = if first.is_empty() {
                let ExchangeConnection { pool, transport, reuse, reads, is_for_stream, .. } = connection;
                let decoding = &mut self.decoding;
                let most = if *is_for_stream { STREAM_READ } else { SCRATCH };
                let read = pool.read_up_to(most, transport, cx, |_, bytes| match bytes {
                    [] => Ok(None),
                    bytes => payload_of(decoding, reuse, bytes).map(Some),
                });
                let read = ready!(read)??;
                count_read(reads, transport);
                match read {
                    Some(data) => data,
                    // Closed: the end where nothing else tells it, a loss everywhere else.
                    None if matches!(self.decoding, Decoding::UntilClose) => {
                        self.connection = None;
                        continue;
                    }
                    None => {
                        return Poll::Ready(Some(Err(ExchangeError::Io(
                            io::ErrorKind::UnexpectedEof.into(),
                        ))));
                    }
                }
            } else if let Decoding::Length(_) = self.decoding {
                // What came with the head is often the whole body, and needs no further copy.
                let here = self.decoding.walk(&first, |_| {})?;
                if here < first.len() {
                    connection.reuse = None;
                }
                if here == first.len() { first } else { first.slice(..here) }
            } else {
                payload_of(&mut self.decoding, &mut connection.reuse, &first)?
            };
            if let Some(guard) = &mut self.guard {
                guard.look(&data)?;
            }
            self.release_at_end();
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }

    /// All of the body, if it came with the head.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let Some(ExchangeConnection { outgoing: None, reuse, .. }) = &mut self.connection else {
            return None;
        };
        let is_here = self.guard.is_none()
            && match self.decoding {
                Decoding::Length(left) => left <= self.first.len() as u64,
                // The last chunk, without trailers, as servers send it.
                Decoding::Chunked(_) => self.first.ends_with(b"0\r\n\r\n"),
                Decoding::UntilClose => false,
            };
        if !is_here {
            return None;
        }
        let whole = match &mut self.decoding {
            Decoding::Chunked(chunked) => {
                // A read that ends like this need not be the end.
                let mut ahead = Decoding::Chunked(chunked.clone());
                let whole = payload_of(&mut ahead, reuse, &self.first).ok().filter(|_| ahead.is_end())?;
                self.decoding = ahead;
                whole
            }
            decoding => {
                let here = decoding.walk(&self.first, |_| {}).ok()?;
                if here < self.first.len() {
                    *reuse = None;
                }
                self.first.split_to(here)
            }
        };
        self.first = Bytes::new();
        self.release_at_end();
        Some(whole)
    }

    /// Lets go of a body that nobody wants. If all of it is here, its connection can be used again.
    pub fn discard(mut self) {
        let first = std::mem::take(&mut self.first);
        if self.decoding.walk(&first, |_| {}).is_ok_and(|here| here == first.len()) {
            self.release_at_end();
        }
    }

    /// Gives the connection back once the body is through.
    fn release_at_end(&mut self) {
        if self.decoding.is_end()
            && let Some(connection) = self.connection.take()
        {
            connection.release();
        }
    }
}

/// What a guard says of the ranges that one walk finds.
struct Guarded {
    guard: Option<EndpointGuard>,
    result: Result<(), EndpointError>,
}

impl Guarded {
    fn by(guard: Option<EndpointGuard>) -> Self {
        Self { guard, result: Ok(()) }
    }

    fn look(&mut self, payload: &[u8]) {
        if let (Some(guard), Ok(())) = (&mut self.guard, &self.result) {
            self.result = guard.look(payload);
        }
    }
}

/// Payload of `bytes` in one new buffer. Bytes behind the end of the body forbid to use the connection again.
fn payload_of(
    decoding: &mut Decoding,
    reuse: &mut Option<KeepAlive>,
    bytes: &[u8],
) -> Result<Bytes, ProtocolError> {
    let mut data = BytesMut::with_capacity(bytes.len());
    let here = decoding.walk(bytes, |range| data.extend_from_slice(&bytes[range]))?;
    if here < bytes.len() {
        *reuse = None;
    }
    Ok(data.freeze())
}

/// Delays acknowledgments to the sender of a body that goes on, and does so again each time that there were eight times as
/// many reads: the kernel stops delaying after a pause. Not more often, because a server that gathers its small writes
/// (Nagle's algorithm) waits 40 ms for each time.
fn count_read(reads: &mut u32, transport: &UpstreamSocket) {
    *reads = reads.saturating_add(1);
    // As powers of two: 2^4, 2^7, 2^10 …
    let doublings = (*reads / DELAY_ACKS_AFTER).trailing_zeros();
    if reads.is_power_of_two() && *reads >= DELAY_ACKS_AFTER && doublings.is_multiple_of(3) {
        transport.delay_acks();
    }
}

impl ExchangeConnection {
    /// Sends the rest of the request, if the server answered before it had everything.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Result<(), ExchangeError> {
        let Some(outgoing) = &mut self.outgoing else { return Ok(()) };
        match outgoing.poll(&mut self.transport, cx) {
            Poll::Ready(Ok(())) => self.outgoing = None,
            // The server no longer reads; its answer may still be complete.
            Poll::Ready(Err(ExchangeError::Io(_))) => {
                self.outgoing = None;
                self.reuse = None;
            }
            Poll::Ready(Err(e)) => return Err(e),
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Back to the pool, if both bodies are through and the server does not close it.
    fn release(self) {
        if let (Some(keep_alive), None) = (self.reuse, &self.outgoing) {
            self.pool.give(&self.endpoint, self.transport, keep_alive);
        }
    }
}

/// A response body with its framing left as it is, but for what nobody needs of it: extensions and trailers of chunks, which
/// hardly any body has. Chunk sizes are looked at to know where it ends.
pub struct RawBody {
    connection: ExchangeConnection,
    decoding: Decoding,
    guard: Option<EndpointGuard>,
    /// Where what was handed out ends, if it is an event stream.
    end: EventEnd,
    /// The last read filled the worker's buffer: the next takes the larger one.
    large: bool,
}

impl RawBody {
    /// Whether the framing is by chunks, and not by a length that is in the head.
    pub fn is_chunked(&self) -> bool {
        matches!(self.decoding, Decoding::Chunked(_))
    }

    /// Whether the last byte was handed out.
    pub fn is_end(&self) -> bool {
        self.decoding.is_end()
    }

    /// Whether a chunk may be put in here, and in an event stream one with an event of its own.
    pub fn is_between_events(&self) -> bool {
        self.decoding.is_between_chunks() && self.end.is_between_events()
    }

    /// A chunk with a comment is put in here.
    pub fn comment(&mut self) {
        self.end.comment();
    }

    /// Reads what comes next, framing and all, and tells how much of it is payload. It lies in the worker's buffer, so an
    /// idle body owns none: there it is held for the task's next turn, or handed to `now` if it is more than there is
    /// room for.
    pub fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        now: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<Result<(usize, ReadOutcome<R>), ExchangeError>> {
        let ExchangeConnection { pool, transport, reuse, reads, .. } = &mut self.connection;
        let (decoding, was_large, large) = (&mut self.decoding, self.large, &mut self.large);
        let (mut payload, mut guarded) = (0, Guarded::by(self.guard));
        let (kept, end) = (&mut self.guard, &mut self.end);
        let mut walk = |bytes: &[u8]| {
            if bytes.is_empty() {
                return Err(ExchangeError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            *large = bytes.len() >= SCRATCH;
            let mut cuts = Cuts::default();
            let (mut mark, was_between) = (Ok(None), decoding.is_between_chunks());
            let count = |range: Range<usize>| {
                payload += range.len();
                match end.has_late_mark(&bytes[range.clone()]) {
                    Ok(false) => {}
                    Ok(true) => mark = Ok(Some(range.start)),
                    Err(split) => mark = Err(split),
                }
                end.push(&bytes[range.clone()]);
                guarded.look(&bytes[range]);
            };
            let here = decoding.walk_raw(bytes, count, |range| cuts.push(range))?;
            guarded.result?;
            *kept = guarded.guard;
            if here < bytes.len() {
                *reuse = None;
            }
            let split = |split: SplitMark| ExchangeError::Io(io::Error::other(split.to_string()));
            if let Some(start) = mark.map_err(split)? {
                // The size of its chunk has to be here to be changed, and a chunk of nothing would be the last.
                let size = was_between.then(|| chunk_size(&bytes[..start])).flatten();
                let size = size.and_then(|size| size.checked_sub(BYTE_ORDER_MARK.len() as u64));
                let size = size.filter(|left| *left > 0).ok_or_else(|| split(SplitMark))?;
                payload -= BYTE_ORDER_MARK.len();
                let mut plainer = format!("{size:x}\r\n").into_bytes();
                cuts.begin_behind(start + BYTE_ORDER_MARK.len());
                plainer.extend_from_slice(&cuts.taken_out_of(&bytes[..here]).unwrap_or_default());
                return Ok((here, Some(plainer)));
            }
            Ok((here, cuts.taken_out_of(&bytes[..here])))
        };
        let pass = |cx: &mut Context<'_>, bytes: &[u8], walked: Result<(usize, Option<Vec<u8>>), _>| {
            walked.map(|(here, plainer)| now(cx, plainer.as_deref().unwrap_or(&bytes[..here])))
        };
        let passed = if was_large {
            let read = pool.read_large(transport, cx, |cx, bytes| pass(cx, bytes, walk(bytes)));
            ReadOutcome::Done(ready!(read)?)
        } else {
            ready!(pool.read_or_hold(transport, cx, |cx, bytes, room| match walk(bytes) {
                Ok((here, None)) if here <= room => ReadOutcome::Deferred(here),
                walked => ReadOutcome::Done(pass(cx, bytes, walked)),
            }))?
        };
        count_read(reads, transport);
        Poll::Ready(Ok((
            payload,
            match passed {
                ReadOutcome::Done(done) => ReadOutcome::Done(done?),
                ReadOutcome::Deferred(held) => ReadOutcome::Deferred(held),
            },
        )))
    }

    /// Gives the connection back; the body must be at its end.
    pub fn release(self) {
        if self.is_end() {
            self.connection.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::Method;
    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::upstream::{Exchange, RequestBody, Upload};

    /// An exchange that was answered with the head of an event stream, and its server's end.
    async fn answered() -> (Exchange, Head, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = listener.accept().await.unwrap().0.into_std().unwrap();
        server.set_nonblocking(false).unwrap();
        server.set_nodelay(true).unwrap();
        let endpoint = Arc::new(Origin::new(&url, None, &mut Default::default()).unwrap());
        let upload = Upload { body: RequestBody::Whole(Bytes::new()), inspect: None, max_bytes: 0 };
        let head = b"GET / HTTP/1.1\r\n".to_vec();
        let mut exchange =
            Exchange::new(endpoint, Rc::default(), UpstreamSocket::Tcp(tcp), Method::GET, head, upload);
        server.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let (head, first) = std::future::poll_fn(|cx| exchange.poll_head(cx)).await.unwrap();
        assert_eq!(first, "");
        (exchange, head, server)
    }

    #[tokio::test]
    async fn what_comes_behind_a_head_that_came_alone_is_read_with_it_and_its_end_is_not_lost() {
        let (mut exchange, head, mut server) = answered().await;
        let read_on = async |exchange: &mut Exchange| {
            std::future::poll_fn(|cx| Poll::Ready(exchange.read_on(cx))).await.unwrap()
        };
        assert_eq!(read_on(&mut exchange).await, "", "nothing came yet");
        server.write_all(b"4\r\ntick\r\n").unwrap();
        exchange.transport.tcp().readable().await.unwrap();
        let first = read_on(&mut exchange).await;
        assert_eq!(first, "4\r\ntick\r\n");
        // The server ends: seen here, it is seen again by whoever reads the body.
        server.shutdown(std::net::Shutdown::Write).unwrap();
        exchange.transport.tcp().readable().await.unwrap();
        assert_eq!(read_on(&mut exchange).await, "");
        let mut body = exchange.into_body(&head, first);
        assert_eq!(std::future::poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap(), "tick");
        assert!(matches!(
            std::future::poll_fn(|cx| body.poll_data(cx)).await,
            Some(Err(ExchangeError::Io(e))) if e.kind() == io::ErrorKind::UnexpectedEof
        ));
    }

    #[tokio::test]
    async fn what_is_taken_as_a_whole_is_all_of_the_body_and_else_nothing_is_taken() {
        for (first, whole, else_next) in [
            ("4\r\ntick\r\n0\r\n\r\n", Some("tick"), ""),
            ("2\r\nti\r\n2\r\nck\r\n0\r\n\r\n", Some("tick"), ""),
            // The data only looks like a last chunk.
            ("a\r\nabc0\r\n\r\n", None, "abc0\r\n\r\n"),
            ("4\r\ntick\r\n", None, "tick"),
            ("4\r\ntick\r\n0\r\nX: y\r\n\r\n", None, "tick"),
        ] {
            let (exchange, head, _server) = answered().await;
            let mut body = exchange.into_body(&head, first.into());
            assert_eq!(body.take_whole().as_deref(), whole.map(str::as_bytes), "{first:?}");
            assert_eq!(body.is_end(), whole.is_some(), "{first:?}");
            if whole.is_none() {
                let next = std::future::poll_fn(|cx| body.poll_data(cx)).await.unwrap().unwrap();
                assert_eq!(next, else_next, "{first:?}");
            }
        }
    }

    #[tokio::test]
    async fn of_a_stream_no_more_is_read_at_a_time_than_may_wait_for_a_client_that_does_not_read() {
        let (mut exchange, head, mut server) = answered().await;
        exchange.mark_for_stream();
        let (event, many) = ([b'x'; 1024], 3 * STREAM_READ / 1024);
        for _ in 0..many {
            server.write_all(&[b"400\r\n", &event[..], b"\r\n"].concat()).unwrap();
        }
        server.write_all(b"0\r\n\r\n").unwrap();
        exchange.transport.tcp().readable().await.unwrap();
        let first = std::future::poll_fn(|cx| Poll::Ready(exchange.read_on(cx))).await.unwrap();
        assert!((1..=STREAM_READ).contains(&first.len()), "{}", first.len());
        let mut body = exchange.into_body(&head, first);
        let mut whole = 0;
        while let Some(data) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
            let data = data.unwrap();
            assert!(data.len() <= STREAM_READ, "{}", data.len());
            whole += data.len();
        }
        assert_eq!(whole, many * 1024);
    }

    #[tokio::test]
    async fn a_stream_that_goes_on_is_acknowledged_late_and_a_short_one_at_once() {
        let (exchange, head, mut server) = answered().await;
        let (mut body, ..) = exchange.into_body(&head, Bytes::new()).into_raw().unwrap();
        let acks_at_once = |body: &RawBody| SockRef::from(body.connection.transport.tcp()).tcp_quickack();
        SockRef::from(body.connection.transport.tcp()).set_tcp_quickack(true).unwrap();
        for event in 1..=DELAY_ACKS_AFTER {
            assert!(acks_at_once(&body).unwrap(), "event {event}");
            server.write_all(b"4\r\ntick\r\n").unwrap();
            let read = std::future::poll_fn(|cx| body.poll_read(cx, |_, _| {})).await;
            assert_eq!(read.ok().map(|(payload, _)| payload), Some(4));
        }
        assert!(!acks_at_once(&body).unwrap());
    }
}
