//! What a request carries.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::downstream::incoming::Incoming;

/// The body of a request to a server.
pub enum RequestBody {
    /// A client's, as it arrives.
    Incoming(Incoming),
    /// A client's of unknown length, of which this is here already, and the rest of it, if there is more.
    Begun(Bytes, Option<Incoming>),
    /// Here as a whole; empty is none.
    Whole(Bytes),
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self::Incoming(body)
    }
}

impl RequestBody {
    /// What of it has been read of the client.
    pub fn here(&self) -> &[u8] {
        match self {
            Self::Incoming(_) => &[],
            Self::Begun(here, _) | Self::Whole(here) => here,
        }
    }

    /// What of it the client has yet to send.
    pub fn into_rest(self) -> Option<Incoming> {
        match self {
            Self::Incoming(body) => Some(body),
            Self::Begun(_, rest) => rest,
            Self::Whole(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Whole(body) | Self::Begun(body, _) if !body.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(body)))))
            }
            Self::Incoming(body) | Self::Begun(_, Some(body)) => Pin::new(body).poll_frame(cx),
            Self::Whole(_) | Self::Begun(_, None) => Poll::Ready(None),
        }
    }

    /// A body of unknown length stays one, even if nothing was in it: it leaves framed as it came.
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            Self::Begun(..) => false,
            Self::Whole(body) => body.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            Self::Begun(..) => SizeHint::default(),
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
        }
    }
}
