//! A request body that is small is here before a connection to the server is taken, so that a client which sends slowly
//! occupies no server: many serve as many requests at once as they have threads, and read a body with one of them.

use std::{future::poll_fn, sync::Arc, task::Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use memchr::memmem;

use crate::{
    body::{Collect, Pace, SMALL},
    config::Limits,
    downstream::incoming::Incoming,
    error::{Error, ErrorKind},
    identity::{Subject, Waits, presented::Presented},
    ledger::{Owner, Resource, Share},
    mcp::scan::{Scan, ScannedName},
    observe::Record,
    request::{Request, admitted::Admitted},
    upstream::RequestBody,
    watchdog::Watched,
};

/// Within so many bytes of a message its method is looked for.
const INITIALIZE_WITHIN: usize = 4 * 1024;

/// The body as it goes on: whole if it is small by its length, or ended within what has been read of the client already.
pub(super) async fn read_ahead(
    mut body: Incoming,
    limits: &Limits,
    watched: &Watched<Subject>,
    owner: &Arc<Owner>,
    record: &mut Record,
) -> Result<RequestBody, Error> {
    match body.size_hint().exact() {
        Some(0) => Ok(body.into()),
        Some(length) if length <= SMALL => {
            // Nearly always it came with the head.
            let first = match poll_fn(|cx| Poll::Ready(body.poll_data(cx))).await {
                Poll::Ready(Some(data)) => data?,
                Poll::Ready(None) | Poll::Pending => Bytes::new(),
            };
            if first.len() as u64 == length {
                return Ok(RequestBody::Whole(first));
            }
            let mut share = owner.hold(Resource::Bytes, 0);
            let pace = Pace::of_request(limits, Some(length));
            let collect = Collect { most: SMALL, watched, pace, late: ErrorKind::BodyTimeout };
            let mut first = Some(first).filter(|first| !first.is_empty());
            let read = collect.read(&mut share, |cx| match first.take() {
                Some(first) => Poll::Ready(Some(Ok(first))),
                None => body.poll_data(cx),
            });
            match read.await {
                Ok(Some(whole)) => Ok(RequestBody::Whole(Share::of_bytes(&Arc::new(share), whole))),
                Ok(None) => Err(ErrorKind::BodyTooLarge.into()),
                Err(error) => {
                    record.received(share.amount());
                    Err(error)
                }
            }
        }
        Some(_) => Ok(body.into()),
        None => read_what_is_here(body).await,
    }
}

/// Whether what is here of a body is the request that begins a session. It belongs to none that exists, and who forgot its
/// session can only say 404 again and again (MCP 2025-06-18, transports, "Session Management"). A server that reads another
/// message here loses nothing: a client may leave out the id itself.
pub(super) fn begins_session(body: &RequestBody) -> bool {
    let here = body.here();
    // One search for a word is what other messages pay. It is spelled without escapes, and in a message that is short.
    if memmem::find(&here[..here.len().min(INITIALIZE_WITHIN)], b"\"initialize\"").is_none() {
        return false;
    }
    let mut scan = Scan::default();
    scan.push(here).is_ok() && scan.method() == Some("initialize") && scan.id().is_some()
}

/// Notes what a message asks for, if the audit is to name tools and the message says it in what is here of it. It counts more than
/// what fields say.
pub(super) fn note_operation(body: &RequestBody, record: &mut Record, presented: &Presented<'_>) {
    if !record.audited().is_some_and(|audited| audited.shows_tools()) {
        return;
    }
    let mut scan = Scan::default();
    if scan.push(body.here()).is_ok()
        && let Some(method) = scan.method()
    {
        let name = match scan.name() {
            ScannedName::Text(name) => Some(name),
            ScannedName::Absent | ScannedName::Unreadable => None,
        };
        record.set_operation(method, name, |text| presented.is_in(text));
    }
}

/// Bytes of a message that is read for the gateway to answer it.
const LONGEST_MESSAGE: u64 = 4 << 20;

/// The body of a request that does not go on, as a whole; `None` if it is larger than any message that is answered.
pub(super) async fn read_message(
    request: &mut Request<'_>,
    admitted: &Admitted<'_>,
) -> Result<Option<Bytes>, Error> {
    let Some(mut body) = request.body.take() else { return Ok(None) };
    if body.size_hint().lower() > LONGEST_MESSAGE {
        request.body = Some(body);
        return Ok(None);
    }
    let watched = request.worker.watchdog.watch(Subject::Request(admitted.admission(), Waits::Calls));
    let mut share = admitted.owner.hold(Resource::Bytes, 0);
    let pace = Pace::of_request(&admitted.live.limits, body.size_hint().exact());
    let collect = Collect { most: LONGEST_MESSAGE, watched: &watched, pace, late: ErrorKind::BodyTimeout };
    let read = collect.read(&mut share, |cx| body.poll_data(cx)).await;
    request.record.received(share.amount());
    Ok(read?.map(|whole| Share::of_bytes(&Arc::new(share), whole)))
}

/// Over HTTP/1.1, hyper hands over a chunk at a time, one in each turn of the task.
async fn read_what_is_here(mut body: Incoming) -> Result<RequestBody, Error> {
    let mut here = BytesMut::new();
    let mut has_yielded = false;
    while (here.len() as u64) < SMALL {
        match poll_fn(|cx| Poll::Ready(body.poll_data(cx))).await {
            Poll::Ready(Some(data)) => here.extend_from_slice(&data?),
            Poll::Ready(None) => return Ok(RequestBody::Begun(here.freeze(), None)),
            Poll::Pending if has_yielded => break,
            Poll::Pending => {
                tokio::task::yield_now().await;
                has_yielded = true;
                continue;
            }
        }
        has_yielded = false;
    }
    Ok(RequestBody::Begun(here.freeze(), Some(body)))
}
