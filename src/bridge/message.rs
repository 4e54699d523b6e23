//! From a request body to a message.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};

use crate::{
    config::Limits,
    error::{Error, Kind},
    identity::Subject,
    ledger::{Limit, Owner, Resource, Share},
    mcp::message::Message,
    observe::Record,
    watchdog::{Signal, Watched},
};

/// Largest message. It is held as a whole, since only its end tells whether it is one, and stdio wants it on one line.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// Reads the body, and looks at the message in it. What is read is counted for `owner`; while that has no room, nothing more
/// is read.
pub(super) async fn read(
    body: &mut Option<Incoming>,
    limits: &Limits,
    watched: &Watched<Subject>,
    owner: &Arc<Owner>,
    record: &mut Record,
) -> Result<Message, Error> {
    let most = if limits.max_body_bytes > 0 { limits.max_body_bytes.min(MOST_BYTES) } else { MOST_BYTES };
    let mut share = owner.hold(Resource::Bytes, 0);
    let text = match body {
        Some(body) if body.size_hint().lower() > most => return Err(Kind::BodyTooLarge.into()),
        Some(body) => {
            let text = collect(body, most, watched, limits.body_timeout, &mut share).await?;
            watched.set_deadline(None);
            text
        }
        None => Bytes::new(),
    };
    *body = None;
    record.received(text.len() as u64);
    let message = Message::parse(text).map_err(|e| Kind::NotAMessage.because(e.to_string()))?;
    message.held_by(share);
    Ok(message)
}

async fn collect(
    body: &mut Incoming,
    most: u64,
    watched: &Watched<Subject>,
    timeout: Duration,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let owner = Arc::clone(share.owner());
    let mut room = pin!(owner.room());
    let mut waits_for_room = false;
    // Nearly always the only one.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    watched.set_deadline(Some(timeout));
    poll_fn(|cx| {
        loop {
            match watched.poll(cx) {
                Some(Signal::Deadline) if waits_for_room => {
                    let limit = owner.has_room().err().unwrap_or(Limit::Gate);
                    return Poll::Ready(Err(Error::out_of(Resource::Bytes, limit)));
                }
                Some(Signal::Deadline) => return Poll::Ready(Err(Kind::BodyTimeout.into())),
                Some(Signal::Revoked) => {
                    return Poll::Ready(Err(Kind::InvalidToken.because("revoked while it waited")));
                }
                Some(Signal::Cut) => return Poll::Ready(Err(Kind::Unavailable.into())),
                Some(Signal::Drain) => continue,
                None => {}
            }
            waits_for_room = owner.has_room().is_err();
            if waits_for_room {
                ready!(room.as_mut().poll(cx));
                room.set(owner.room());
            }
            let data = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(e)) => return Poll::Ready(Err(Kind::Malformed.because(e.to_string()))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            watched.set_deadline(Some(timeout));
            share.grow(data.len() as u64);
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
