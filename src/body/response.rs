//! Responses of the gateway's own.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{BridgedEvents, Payload};

/// A response without header fields.
pub fn response(status: StatusCode, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    response
}

/// A response without a body.
pub fn empty(status: StatusCode) -> Response<Payload> {
    response(status, Payload::Whole(Bytes::new()))
}

/// An event stream. Nothing on the way may hold it back or change it.
pub fn event_stream(events: BridgedEvents) -> Response<Payload> {
    let mut response = Response::new(Payload::Events(Box::new(events)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// JSON.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Payload> {
    whole(status, "application/json", body)
}

/// Text of this type that is kept by no cache, and taken for no other type by a browser.
pub fn uncached(status: StatusCode, content_type: &'static str, body: String) -> Response<Payload> {
    let mut response = whole(status, content_type, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Payload> {
    let mut response = response(status, Payload::Whole(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
