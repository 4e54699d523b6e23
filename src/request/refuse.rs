//! What a refusal looks like.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, Version, header, request::Parts};

use crate::{
    body::Payload,
    endpoints::table::endpoint,
    error::{Error, ErrorKind},
    observe::Record,
    state::Live,
};

/// The only place where an error becomes a response.
pub fn refuse(live: &Live, error: &Error, record: &Record, head: &Parts) -> Response<Payload> {
    let (code, sentence, id) = (error.kind.code(), error.kind.sentence(), record.id());
    let body = serde_json::json!({ "error": code, "error_description": sentence, "message": sentence, "request_id": id.as_str() });
    let mut response = Response::new(Payload::Whole(Bytes::from(body.to_string())));
    *response.status_mut() = error.kind.status();
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let challenge = match error.kind {
        ErrorKind::Unauthorized | ErrorKind::QueryTokenDisabled => {
            Some(format!("Bearer realm=\"{}\"", quoted(&live.realm)))
        }
        ErrorKind::InvalidToken => {
            Some(format!("Bearer realm=\"{}\", error=\"invalid_token\"", quoted(&live.realm)))
        }
        ErrorKind::InsufficientScope => Some("Bearer error=\"insufficient_scope\"".to_owned()),
        _ => None,
    };
    if let Some(challenge) = challenge.and_then(|challenge| HeaderValue::try_from(challenge).ok()) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    match error.kind {
        ErrorKind::Unavailable | ErrorKind::Stopped | ErrorKind::CallerLimit => {
            drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5")))
        }
        ErrorKind::MethodNotAllowed => {
            let allowed = endpoint(head.uri.path()).methods();
            drop(headers.insert(header::ALLOW, HeaderValue::from_static(allowed)));
        }
        // Where the next request would begin is uncertain, or the rest of a body is still to come.
        ErrorKind::Malformed | ErrorKind::BodyTooLarge | ErrorKind::BodyTimeout => close(head, &mut response),
        _ => {}
    }
    response
}

/// Has the connection closed behind the response.
pub fn close(head: &Parts, response: &mut Response<Payload>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    // To an answer of HTTP/1.1, hyper adds that the connection stays, if a client of HTTP/1.0 asked for that.
    if head.version == Version::HTTP_10 {
        *response.version_mut() = head.version;
    }
}

/// A quoted-string (RFC 9110 §5.6.4) of what of `text` can be in one.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}
