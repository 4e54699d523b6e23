//! From a request body to a message.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body as _;

use crate::{
    body::{Collect, Pace},
    config::Limits,
    downstream::incoming::Incoming,
    error::{Error, ErrorKind},
    identity::Subject,
    ledger::{Owner, Resource},
    mcp::message::{MAX_MESSAGE, Message},
    observe::Record,
    watchdog::Watched,
};

/// Largest message. It is held as a whole, since only its end tells whether it is one, and stdio wants it on one line.
const MOST_BYTES: u64 = MAX_MESSAGE as u64;

/// How many bytes a message may turn out to be.
pub(super) fn size(body: Option<&Incoming>) -> u64 {
    body.map_or(0, |body| body.size_hint().upper().unwrap_or(MOST_BYTES).min(MOST_BYTES))
}

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
        Some(body) if body.size_hint().lower() > most => return Err(ErrorKind::BodyTooLarge.into()),
        Some(body) => {
            let pace = Pace::of_request(limits, body.size_hint().exact());
            let collect = Collect { most, watched, pace, late: ErrorKind::BodyTimeout };
            collect.read(&mut share, |cx| body.poll_data(cx)).await?.ok_or(ErrorKind::BodyTooLarge)?
        }
        None => Bytes::new(),
    };
    *body = None;
    record.received(text.len() as u64);
    let message = Message::parse(text).map_err(|e| ErrorKind::NotAMessage.with_cause(e.to_string()))?;
    message.held_by(share);
    Ok(message)
}
