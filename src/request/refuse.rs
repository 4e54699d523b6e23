//! What a refusal looks like.

use std::time::Duration;

use http::{HeaderValue, Response, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::{
    body::{Payload, response::uncached},
    config::ScopeWord,
    downstream::incoming::Incoming,
    endpoints::table::Methods,
    error::{Error, ErrorKind},
    observe::RequestId,
};

/// What a refusal says besides its error.
pub struct Refused<'a> {
    /// `proxy.name`
    pub realm: &'a str,
    /// The request presented a name and its secret by `Basic`.
    pub tried_basic: bool,
    /// Where the metadata is of the place that was asked for, if clients can log in.
    pub metadata: Option<String>,
    /// `request_id`
    pub id: RequestId,
    /// What is served at the path.
    pub methods: Methods,
    /// Of the request.
    pub version: Version,
}

/// The only place where an error becomes a response.
pub fn refuse(refused: &Refused<'_>, error: &Error) -> Response<Payload> {
    let Refused { realm, tried_basic, metadata, id, methods, version } = refused;
    let (code, sentence) = (error.kind.code(), error.sentence());
    let mut body = serde_json::json!({ "error": code, "error_description": sentence, "message": sentence, "request_id": id.as_str() });
    if let Some(url) = &error.connect_url {
        body["connect_url"] = (&**url).into();
    }
    let mut response = uncached(error.kind.status(), "application/json", body.to_string());
    let headers = response.headers_mut();
    // What a client without a token is to ask for. Clients read the first challenge, so it is one (MCP 2026-07-28, authorization).
    let way_in =
        metadata.as_ref().map(|url| format!(", resource_metadata=\"{url}\", scope=\"{}\"", ScopeWord::ALL));
    let way_in = way_in.unwrap_or_default();
    let challenge = match error.kind {
        ErrorKind::Unauthorized | ErrorKind::QueryTokenDisabled => {
            Some(format!("Bearer realm=\"{}\"{way_in}", quoted(realm)))
        }
        // A password is no way into the rest: what is asked for there is a token (RFC 9110 §15.5.2 asks for a challenge).
        ErrorKind::InvalidCredentials => Some(format!("Bearer realm=\"{}\"{way_in}", quoted(realm))),
        // Whose token has expired is to find the way to another one, whoever guesses at the same address.
        ErrorKind::InvalidToken | ErrorKind::GuessLimited => {
            Some(format!("Bearer realm=\"{}\", error=\"invalid_token\"{way_in}", quoted(realm)))
        }
        ErrorKind::InsufficientScope => {
            let needed = error.scope_needed.as_ref().map(|scope| format!(", scope=\"{}\"", quoted(scope)));
            let place = metadata.as_ref().filter(|_| needed.is_some());
            let place = place.map(|url| format!(", resource_metadata=\"{url}\""));
            let (needed, place) = (needed.unwrap_or_default(), place.unwrap_or_default());
            Some(format!("Bearer error=\"insufficient_scope\"{needed}{place}"))
        }
        _ => None,
    };
    if let Some(challenge) = challenge.and_then(|challenge| HeaderValue::try_from(challenge).ok()) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    // Behind the one that MCP clients look for, and for those only that know the scheme: a browser would ask whoever sits there
    // for a password.
    if *tried_basic && error.kind == ErrorKind::InvalidToken {
        let basic = format!("Basic realm=\"{}\", charset=\"UTF-8\"", quoted(realm));
        if let Ok(basic) = HeaderValue::try_from(basic) {
            headers.append(header::WWW_AUTHENTICATE, basic);
        }
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    match error.kind {
        ErrorKind::MethodNotAllowed => {
            drop(headers.insert(header::ALLOW, HeaderValue::from_static(methods.allow)));
        }
        // Where the next request would begin is uncertain, or the rest of a body is still to come.
        ErrorKind::Malformed | ErrorKind::BodyTooLarge | ErrorKind::BodyTimeout => {
            close(*version, &mut response)
        }
        _ => {}
    }
    response
}

/// How long the rest of the body of a refused request is waited for, and how long in a drain: at its end the connection is about
/// to be cut, and the answer is to go out before.
const PATIENCE: Duration = Duration::from_secs(1);
const LAST_PATIENCE: Duration = Duration::from_millis(50);

/// Reads the small body of a refused request, so that its sender is through before it is answered. Otherwise HTTP/2 resets the
/// stream behind the answer (RFC 9113 §8.1), which some clients take for a failure (curl 7.88), and HTTP/1.1 closes
/// a connection with unread bytes, which may lose the answer.
pub async fn swallow(mut body: Incoming, awaits_leave: bool, is_draining: bool) {
    const MOST: u64 = 64 * 1024;
    // A client that asks first is refused before it sends anything.
    if awaits_leave || body.size_hint().lower() > MOST {
        return;
    }
    let patience = if is_draining { LAST_PATIENCE } else { PATIENCE };
    let mut left = MOST;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, |data| data.len() as u64)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // What has not come by then is left unread.
    let _ = tokio::time::timeout(patience, reading).await;
}

/// Has the connection closed behind the response.
pub fn close(version: Version, response: &mut Response<Payload>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    // To an answer of HTTP/1.1, hyper adds that the connection stays, if a client of HTTP/1.0 asked for that.
    if version == Version::HTTP_10 {
        *response.version_mut() = version;
    }
}

/// A quoted-string (RFC 9110 §5.6.4) of what of `text` can be in one.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}
