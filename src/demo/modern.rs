//! MCP 2026-07-28: every request is self-contained and says in headers what its body says.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{
    respond,
    response::{Response, accepted, json},
    rpc::{self, Failure, Message, Reply},
    tools::{Countdown, Outcome},
};
use crate::mcp::{
    codes::{INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_VERSION, error_response, unsupported},
    header::PROTOCOL_VERSION,
    message, modern,
    version::{LEGACY, MODERN},
};

/// How long a client may keep an answer that never changes while the server runs.
const TTL_MS: u64 = 300_000;

/// Whether a request is of this era or of a later one, which this server has to refuse in modern terms.
pub(super) fn is_modern(headers: &HeaderMap, body: &Value) -> bool {
    let is_initialize = body.get("method").is_some_and(|method| method == "initialize");
    meta(&body["params"], "protocolVersion").is_some()
        || !is_initialize && version(headers).is_some_and(|named| !LEGACY.contains(&named))
}

pub(super) fn answer(headers: &HeaderMap, body: Value) -> Response {
    if let Err(error) = check(headers, &body) {
        return json(StatusCode::BAD_REQUEST, error);
    }
    let (id, method, params) = match Message::parse(body) {
        Ok(Message::Request { id, method, params }) => (id, method, params),
        Ok(Message::Notification | Message::Response) => return accepted(),
        Err(failure) => return json(failure.status, failure.message(&Value::Null)),
    };
    respond(vec![match dispatch(&method, &params) {
        Ok(Outcome::Result(value)) => Reply::Message(StatusCode::OK, rpc::result(&id, &complete(value))),
        Ok(Outcome::Countdown(timing)) => {
            Reply::Countdown(Countdown::modern(id, timing, &params, meta(&params, "logLevel")))
        }
        // Distinguishes a server that lacks the method from one that lacks this endpoint, which has no such body.
        Err(failure) if failure.code == METHOD_NOT_FOUND => {
            Reply::Message(StatusCode::NOT_FOUND, failure.message(&id))
        }
        Err(failure) => Reply::Message(failure.status, failure.message(&id)),
    }])
}

/// Marks a result as final.
pub(super) fn complete(mut result: Value) -> Value {
    result["resultType"] = "complete".into();
    result
}

fn dispatch(method: &str, params: &Value) -> Result<Outcome, Failure> {
    let outcome = match method {
        "server/discover" => Outcome::Result(json!({
            "supportedVersions": [MODERN],
            "capabilities": rpc::capabilities(),
            "instructions": rpc::INSTRUCTIONS,
            "_meta": { "io.modelcontextprotocol/serverInfo": rpc::server_info() },
        })),
        _ => rpc::shared(method, params)?,
    };
    Ok(match outcome {
        Outcome::Result(mut result) if method != "tools/call" => {
            result["ttlMs"] = TTL_MS.into();
            result["cacheScope"] = "public".into();
            Outcome::Result(result)
        }
        other => other,
    })
}

/// What the gateway checks of such requests. The error is the body of the response.
fn check(headers: &HeaderMap, body: &Value) -> Result<(), Bytes> {
    // A header alone is enough to ask for a version that is not served.
    if meta(&body["params"], "protocolVersion").is_none()
        && let Some(version) = version(headers).filter(|version| *version != MODERN)
    {
        let (id, data) = (body.get("id"), Some(unsupported(version)));
        return Err(error_response(id, UNSUPPORTED_VERSION, "unsupported protocol version", data).into());
    }
    let message = message::Message::parse(body.to_string().into())
        .map_err(|why| Failure::bad_request(INVALID_REQUEST, why.to_string()).message(&Value::Null))?;
    modern::check(headers, &message, None).map(drop).map_err(|rejection| rejection.body())
}

fn meta<'a>(params: &'a Value, name: &str) -> Option<&'a Value> {
    params.get("_meta")?.get(format!("io.modelcontextprotocol/{name}"))
}

fn version(headers: &HeaderMap) -> Option<&str> {
    headers.get(PROTOCOL_VERSION)?.to_str().ok()
}
