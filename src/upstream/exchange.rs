//! One request to a server and its response, both bodies streaming, all within the task that asked.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Method;

use super::{
    ExchangeError, Origin, Pool, ResponseBody, SCRATCH, UpstreamSocket,
    codec::{self, Head},
    outgoing::{Outgoing, Upload},
    pool::STREAM_READ,
    response::ExchangeConnection,
};

/// A request that was begun on a connection. Dropping it closes the connection, which is how a server learns at once
/// that its client left.
pub struct Exchange {
    origin: Arc<Origin>,
    pool: Rc<Pool>,
    pub(super) transport: UpstreamSocket,
    method: Method,
    outgoing: Outgoing,
    is_for_stream: bool,
    /// The beginning of a response head that did not come in one piece.
    partial_head: Vec<u8>,
}

impl Exchange {
    /// Begins an exchange. `head` is the request head up to, but without, the fields that frame the body and the
    /// empty line; they are added here, so that what frames the body and the body cannot disagree.
    pub fn new(
        origin: Arc<Origin>,
        pool: Rc<Pool>,
        transport: UpstreamSocket,
        method: Method,
        head: Vec<u8>,
        body: Upload,
    ) -> Self {
        let outgoing = Outgoing::new(head, body, &method);
        Self { origin, pool, transport, is_for_stream: false, method, outgoing, partial_head: Vec::new() }
    }

    /// On a connection of [`Origin::connect`] for a stream, which is not used again.
    pub fn mark_for_stream(&mut self) {
        self.is_for_stream = true;
    }

    /// Whether the next step is the client's: part of its body is still to come.
    pub fn waits_for_client(&self) -> bool {
        self.outgoing.waits_for_client
    }

    /// Whether all of the request was written.
    pub fn is_sent(&self) -> bool {
        self.outgoing.is_done()
    }

    /// Request body bytes taken from the client so far.
    pub fn body_bytes(&self) -> u64 {
        self.outgoing.taken
    }

    /// Sends the request and reads until the response head is complete. The request body may still be under way then.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, Bytes), ExchangeError>> {
        // A server may answer, and close, before it has read everything: what it answered counts more than the
        // failure to send the rest.
        let sent = match self.outgoing.poll(&mut self.transport, cx) {
            Poll::Ready(Err(ExchangeError::Io(e))) => Some(e),
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
            // The server has nothing to answer yet.
            Poll::Pending if !self.outgoing.begun => return Poll::Pending,
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                self.pool.spares.give_buffer(self.outgoing.take_buffer());
                None
            }
        };
        let most = self.most();
        loop {
            let (method, partial, pool) = (&self.method, &mut self.partial_head, &self.pool);
            let read = pool.read_up_to(most, &mut self.transport, cx, |_, bytes| {
                if bytes.is_empty() {
                    return Err(ExchangeError::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                let bytes = if partial.is_empty() {
                    bytes
                } else {
                    partial.extend_from_slice(bytes);
                    partial.as_slice()
                };
                match codec::parse_head(bytes, method, &pool.spares)? {
                    Some(complete) => Ok(Some(complete)),
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

    /// Most bytes of one read.
    fn most(&self) -> usize {
        if self.is_for_stream { STREAM_READ } else { SCRATCH }
    }

    /// What has come since the head was complete; nothing if the server closed, which the next read of the body meets again.
    pub fn read_on(&mut self, cx: &mut Context<'_>) -> Result<Bytes, ExchangeError> {
        let most = self.most();
        match self.pool.read_up_to(most, &mut self.transport, cx, |_, bytes| Bytes::copy_from_slice(bytes)) {
            Poll::Ready(read) => Ok(read?),
            Poll::Pending => Ok(Bytes::new()),
        }
    }

    /// The response body that follows `head`; `first` is what was read behind it.
    pub fn into_body(self, head: &Head, first: Bytes) -> ResponseBody {
        let connection = ExchangeConnection {
            origin: self.origin,
            pool: self.pool,
            transport: self.transport,
            outgoing: (!self.outgoing.is_done()).then(|| Box::new(self.outgoing)),
            reuse: None,
            is_for_stream: self.is_for_stream,
            has_filled: false,
            reads: 0,
        };
        ResponseBody::new(connection, head, first)
    }
}
