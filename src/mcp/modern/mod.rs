//! What MCP 2026-07-28 says in header fields, checked against what the body says.
//!
//! Since that version a request repeats in its head what is in its body, so that whoever routes or counts need not
//! read bodies. That is only safe if somebody who reads both refuses those that differ: else one hop acts on the head and
//! the next on the body. A server behind Streamable HTTP does that itself. A server behind stdio sees no head, so the
//! gateway has to, and it has to give the answers a status, which stdio does not have either.
//!
//! The rules are those of Streamable HTTP, sections "Request Metadata" and "Server Validation" (SEP-2243, SEP-2575, and
//! SEP-2663 for tasks).

mod fields;
mod tool_headers;

use std::borrow::Cow;

use self::fields::{RejectionReason, differs, folded, is_param, missing, only};
use crate::mcp::{
    codes::{
        HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, MISSING_CAPABILITY,
        UNSUPPORTED_VERSION, error_response, unsupported,
    },
    header,
    message::{Id, Message, MessageKind, Part},
    method::Method,
    version::MODERN,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, de::IgnoredAny};

pub use crate::mcp::modern::tool_headers::ToolHeaders;

/// Bytes of what a subscription asks for (`params.notifications`), and resources that it may name. The gateway reads
/// that as a tree, and keeps it as long as the subscription is open.
const MOST_WANTED: (usize, usize) = (256 * 1024, 1000);
const PROTOCOL_VERSION: &str = "MCP-Protocol-Version";
const METHOD: &str = "Mcp-Method";
const NAME: &str = "Mcp-Name";

/// Why a request is refused: answered with status 400, and [`ModernRejection::body`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModernRejection {
    id: Option<Id>,
    code: i64,
    reason: Cow<'static, str>,
    /// What belongs to a version that is not served.
    requested: Option<Box<str>>,
}

impl ModernRejection {
    /// The status that goes with it.
    pub const STATUS: StatusCode = StatusCode::BAD_REQUEST;

    /// The code of the error.
    pub fn code(&self) -> i64 {
        self.code
    }

    /// The JSON-RPC error response. Without `id` if what it answers had none. Names fields, but of what was in them nothing
    /// but the version, as the specification wants it.
    pub fn body(&self) -> Bytes {
        let data = self.requested.as_deref().map(unsupported);
        error_response(self.id.as_ref(), self.code, &self.reason, data).into()
    }
}

/// Why this `subscriptions/listen` is more than the gateway reads.
pub fn too_many_wanted(message: &Message) -> Option<&'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wanted {
        // Of no size, so any number of them takes none.
        resource_subscriptions: Option<Vec<IgnoredAny>>,
    }
    let wanted = message.part(Part::Filter)?;
    let uris = serde_json::from_str::<Wanted>(wanted).ok().and_then(|wanted| wanted.resource_subscriptions);
    match (wanted.len(), uris.map_or(0, |uris| uris.len())) {
        (bytes, uris) if bytes <= MOST_WANTED.0 && uris <= MOST_WANTED.1 => None,
        _ => Some("params.notifications asks for too much: at most 1000 resources and 256 KiB"),
    }
}

/// Compares head and body of a POST of [`MODERN`], and returns its `Mcp-Param-*` fields for whoever is next.
///
/// `tools` is what the server's tools want repeated in `Mcp-Param-*`; without it those fields are not compared. What the
/// body alone gets wrong is left to the server, except for the fields of `_meta` without which no request is one: by the
/// time a server says so, nobody can tell that this was the reason for its `-32602`, which takes status 400. Another
/// version than [`MODERN`] is refused: what stands for a caller in it is not known here, so that it cannot be
/// distinguished on a link that callers share, and a process whose first message is of it may serve nothing else to
/// anybody.
pub fn check(
    headers: &HeaderMap,
    message: &Message,
    tools: Option<&ToolHeaders>,
) -> Result<Vec<(HeaderName, HeaderValue)>, ModernRejection> {
    let outcome = match message.kind() {
        MessageKind::Response => {
            Err((INVALID_REQUEST, "clients do not send responses in this version".into()))
        }
        MessageKind::Request | MessageKind::Notification => compare(headers, message, tools),
    };
    outcome.map_err(|(code, reason)| ModernRejection {
        id: message.id().cloned(),
        code,
        reason,
        requested: message.version().filter(|_| code == UNSUPPORTED_VERSION).map(Into::into),
    })?;
    Ok(headers
        .iter()
        .filter(|(name, _)| is_param(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect())
}

/// The status for a response to a request of [`MODERN`] that has no status of its own.
///
/// `-32602` is not distinguished by its code alone. Where it is about `_meta`, [`check`] has refused the request
/// already; what is left is about arguments, and an answer like any other.
pub fn status(response: &Message) -> StatusCode {
    match response.error_code() {
        Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION) => StatusCode::BAD_REQUEST,
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}

fn compare(
    headers: &HeaderMap,
    message: &Message,
    tools: Option<&ToolHeaders>,
) -> Result<(), RejectionReason> {
    // Before the header: both SDKs tell a client first that its body is not of this version.
    let is_complete = message.version().is_some() && message.names_capabilities();
    let is_unreadable = message.names_version() && message.version().is_none();
    if message.kind() == MessageKind::Request && !is_complete || is_unreadable {
        let reason = "params._meta needs io.modelcontextprotocol/protocolVersion and clientCapabilities";
        return Err((INVALID_PARAMS, reason.into()));
    }
    let version = only(headers, PROTOCOL_VERSION)?.ok_or_else(|| missing(PROTOCOL_VERSION))?;
    if message.version().is_some_and(|named| header::plain(version) != Some(named)) {
        return Err(differs(PROTOCOL_VERSION));
    }
    if message.version().is_some_and(|named| named != MODERN) {
        return Err((UNSUPPORTED_VERSION, "this version is not served here".into()));
    }
    let method = only(headers, METHOD)?.ok_or_else(|| missing(METHOD))?;
    if header::plain(method) != Some(message.method()) {
        return Err(differs(METHOD));
    }
    if Method::of(message.method()).repeats_name() {
        match (only(headers, NAME)?, message.name()) {
            (None, None) => {}
            (None, Some(_)) => return Err(missing(NAME)),
            (Some(value), name) if name.is_some() && header::decode(value).as_deref() == name => {}
            (Some(_), _) => return Err(differs(NAME)),
        }
    }
    // Each name is there once, so two that are equal without their punctuation are two spellings.
    let mut params: Vec<_> = headers.keys().filter(|name| is_param(name)).map(folded).collect();
    params.sort_unstable();
    if let Some(pair) = params.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(differs(&String::from_utf8_lossy(&pair[0])));
    }
    match (tools, message.name()) {
        (Some(tools), Some(tool)) if message.method() == "tools/call" => {
            tools.compare(tool, headers, message.part(Part::Arguments))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
