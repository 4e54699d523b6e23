//! From a request body to a message.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};

use crate::{
    config::Limits,
    error::{Error, Kind},
    identity::Subject,
    mcp::message::Message,
    observe::Record,
    watchdog::{Signal, Watched},
};

/// Largest message. It is held as a whole, since only its end tells whether it is one, and stdio wants it on one line.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// Reads the body, and looks at the message in it.
pub(super) async fn read(
    body: &mut Option<Incoming>,
    limits: &Limits,
    watched: &Watched<Subject>,
    record: &mut Record,
) -> Result<Message, Error> {
    let most = if limits.max_body_bytes > 0 { limits.max_body_bytes.min(MOST_BYTES) } else { MOST_BYTES };
    let text = match body {
        Some(body) if body.size_hint().lower() > most => return Err(Kind::BodyTooLarge.into()),
        Some(body) => {
            watched.set_deadline(Some(limits.body_timeout));
            let text =
                collect(body, most, watched, || watched.set_deadline(Some(limits.body_timeout))).await?;
            watched.set_deadline(None);
            text
        }
        None => Bytes::new(),
    };
    *body = None;
    record.received(text.len() as u64);
    Message::parse(text).map_err(|e| Kind::NotAMessage.because(e.to_string()))
}

async fn collect(
    body: &mut Incoming,
    most: u64,
    watched: &Watched<Subject>,
    progress: impl Fn(),
) -> Result<Bytes, Error> {
    // Nearly always the only one.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    poll_fn(|cx| {
        loop {
            match watched.poll(cx) {
                Some(Signal::Deadline) => return Poll::Ready(Err(Kind::BodyTimeout.into())),
                Some(Signal::Revoked) => {
                    return Poll::Ready(Err(Kind::InvalidToken.because("revoked while it waited")));
                }
                Some(Signal::Cut) => return Poll::Ready(Err(Kind::Unavailable.into())),
                Some(Signal::Drain) => continue,
                None => {}
            }
            let data = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(e)) => return Poll::Ready(Err(Kind::Malformed.because(e.to_string()))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            progress();
            if (first.len() + rest.len() + data.len()) as u64 > most {
                return Poll::Ready(Err(Kind::BodyTooLarge.into()));
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
        }
    })
    .await?;
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
