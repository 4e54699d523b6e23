//! A response on its way in.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;

use super::{
    ExchangeError, Origin, Pool, ReadOutcome, SCRATCH, UpstreamSocket,
    codec::{Head, KeepAlive, ProtocolError},
    origin::tcp,
    outgoing::Outgoing,
    pool::STREAM_READ,
    raw::{Decoding, Passed, RawFraming},
};
use crate::mcp::sse::endpoint_guard::EndpointGuard;

/// Reads of one body after which acknowledgments are delayed (see [`count_read`]): most calls are answered in
/// fewer, and pay nothing. A power of two.
const DELAY_ACKS_AFTER: u32 = 16;

/// What is left of an exchange while the response body runs.
pub(super) struct ExchangeConnection {
    pub(super) origin: Arc<Origin>,
    pub(super) pool: Rc<Pool>,
    pub(super) transport: UpstreamSocket,
    /// The rest of the request, if the server answered before it had everything.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// `Some` if the connection may be used again.
    pub(super) reuse: Option<KeepAlive>,
    /// It is not used again, as its buffers are those of a stream.
    pub(super) is_for_stream: bool,
    /// The last read of a body with its framing filled the worker's buffer: the next takes the larger one. It is here, where it
    /// takes no room of its own.
    pub(super) has_filled: bool,
    /// Reads of the body so far.
    pub(super) reads: u32,
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
        let decoding = Decoding::new(head.framing);
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
        if let Decoding::UntilClose = self.decoding {
            return false;
        }
        let mut ahead = self.framing();
        ahead.push(&self.first).is_ok() && !ahead.is_end()
    }

    fn framing(&self) -> RawFraming {
        RawFraming::from_decoding(self.decoding.clone(), self.guard)
    }

    /// Takes the body out of its decoder, if [`ResponseBody::can_be_raw`]. Beside it, what passes of what came with the head,
    /// framing and all, and how much of that is payload.
    pub fn into_raw(self) -> Option<(RawBody, Bytes, usize)> {
        if !self.can_be_raw() {
            return None;
        }
        let mut framing = self.framing();
        let Passed { payload, instead, .. } = framing.push(&self.first).ok()?;
        let first = instead.map_or(self.first, Bytes::from);
        Some((RawBody { connection: self.connection?, framing }, first, payload))
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
                    // Closed: the end of a body without framing, a loss everywhere else.
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

    /// Drops a body that is not needed. If all of it is here, its connection can be used again.
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

/// Lets the kernel acknowledge every second event of a body that goes on, instead of each by itself.
///
/// Without it, a read that empties the socket sends an acknowledgment at once while the traffic goes one way only
/// (Linux, `tcp_cleanup_rbuf`), which costs about as much again as the read: a sixth of all that an event costs.
/// The kernel goes back to its own ways when an event was left unacknowledged for 40 ms; so this is done again each time that
/// there were eight times as many reads. Not more often, because a server that gathers its small writes (Nagle's algorithm)
/// waits 40 ms for each time.
fn count_read(reads: &mut u32, transport: &UpstreamSocket) {
    *reads = reads.saturating_add(1);
    // As powers of two: 2^4, 2^7, 2^10 …
    let doublings = (*reads / DELAY_ACKS_AFTER).trailing_zeros();
    if reads.is_power_of_two() && *reads >= DELAY_ACKS_AFTER && doublings.is_multiple_of(3) {
        // Nothing depends on it.
        let _ = SockRef::from(tcp(transport)).set_tcp_quickack(false);
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
            self.pool.give(&self.origin, self.transport, keep_alive);
        }
    }
}

/// A response body with its framing left as it is, without extensions and trailers of chunks, which
/// hardly any body has. Chunk sizes are looked at to know where it ends.
pub struct RawBody {
    connection: ExchangeConnection,
    framing: RawFraming,
}

impl RawBody {
    /// Whether the framing is by chunks, and not by a length that is in the head.
    pub fn is_chunked(&self) -> bool {
        self.framing.is_chunked()
    }

    /// Whether the last byte was handed out.
    pub fn is_end(&self) -> bool {
        self.framing.is_end()
    }

    /// Whether a chunk may be put in here, and in an event stream one with an event of its own.
    pub fn is_between_events(&self) -> bool {
        self.framing.is_between_events()
    }

    /// A chunk with a comment is put in here.
    pub fn comment(&mut self) {
        self.framing.comment();
    }

    /// Reads what comes next, framing and all, and returns how much of it is payload. It lies in the worker's buffer, so an
    /// idle body owns none: there it is held for the task's next turn, or handed to `now` if it is more than there is
    /// room for.
    pub fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        now: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<Result<(usize, ReadOutcome<R>), ExchangeError>> {
        let ExchangeConnection { pool, transport, reuse, reads, has_filled, .. } = &mut self.connection;
        let (framing, takes_larger) = (&mut self.framing, *has_filled);
        let mut payload = 0;
        let mut walk = |bytes: &[u8]| {
            if bytes.is_empty() {
                return Err(ExchangeError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            *has_filled = bytes.len() >= SCRATCH;
            let passed = framing.push(bytes)?;
            payload = passed.payload;
            if passed.here < bytes.len() {
                *reuse = None;
            }
            Ok((passed.here, passed.instead))
        };
        let pass = |cx: &mut Context<'_>, bytes: &[u8], walked: Result<(usize, Option<Vec<u8>>), _>| {
            walked.map(|(here, instead)| now(cx, instead.as_deref().unwrap_or(&bytes[..here])))
        };
        let passed = if takes_larger {
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
        let origin = Arc::new(Origin::new(&url, None, &mut Default::default()).unwrap());
        let upload = Upload { body: RequestBody::Whole(Bytes::new()), inspect: None, max_bytes: 0 };
        let head = b"GET / HTTP/1.1\r\n".to_vec();
        let mut exchange =
            Exchange::new(origin, Rc::default(), UpstreamSocket::Left(tcp), Method::GET, head, upload);
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
        tcp(&exchange.transport).readable().await.unwrap();
        let first = read_on(&mut exchange).await;
        assert_eq!(first, "4\r\ntick\r\n");
        // The server ends: seen here, it is seen again by whoever reads the body.
        server.shutdown(std::net::Shutdown::Write).unwrap();
        tcp(&exchange.transport).readable().await.unwrap();
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
        tcp(&exchange.transport).readable().await.unwrap();
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
        let acks_at_once = |body: &RawBody| SockRef::from(tcp(&body.connection.transport)).tcp_quickack();
        SockRef::from(tcp(&body.connection.transport)).set_tcp_quickack(true).unwrap();
        for event in 1..=DELAY_ACKS_AFTER {
            assert!(acks_at_once(&body).unwrap(), "event {event}");
            server.write_all(b"4\r\ntick\r\n").unwrap();
            let read = std::future::poll_fn(|cx| body.poll_read(cx, |_, _| {})).await;
            assert_eq!(read.ok().map(|(payload, _)| payload), Some(4));
        }
        assert!(!acks_at_once(&body).unwrap());
    }
}
