//! What clients send behind the heads of their requests.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::{
    downstream::interim::Leave,
    error::{Error, ErrorKind},
};

/// The body of a client's request, as it arrives.
pub struct Incoming {
    body: hyper::body::Incoming,
    /// What its client may be waiting for before it sends anything. Over HTTP/1.1, hyper sees to that.
    leave: Option<Leave>,
}

impl Incoming {
    pub(super) fn new(body: hyper::body::Incoming, leave: Option<Leave>) -> Self {
        Self { body, leave }
    }

    /// The next piece of it; trailers are an empty one.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let frame = ready!(Pin::new(self).poll_frame(cx));
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
            Err(e) => Err(ErrorKind::Malformed.with_cause(e.to_string())),
        }))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        // Who has begun to send does not wait (RFC 9110 §10.1.1).
        if let Some(leave) = self.leave.take()
            && polled.is_pending()
        {
            leave.give();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
