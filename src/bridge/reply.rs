//! From what a session or a call has to say to an HTTP response.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::body::{BridgedEvents, Payload};

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Response<Payload> {
    let mut response = Response::new(Payload::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A message, and nothing before it.
pub(super) fn json(status: StatusCode, message: Bytes) -> Response<Payload> {
    let mut response = Response::new(Payload::Whole(message));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An event stream. Nothing on the way may hold it back or change it.
pub(super) fn stream(events: BridgedEvents) -> Response<Payload> {
    let mut response = Response::new(Payload::Events(Box::new(events)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
