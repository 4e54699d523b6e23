//! MCP 2026-07-28: every request is self-contained and says in headers what its body says.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{
    respond,
    response::{Response, accepted, json},
    rpc::{self, Failure, Message, Reply},
    tools::{Countdown, Outcome},
};
use crate::mcp::version;

const VERSION: &str = version::MODERN;
const HEADER_MISMATCH: i32 = -32020;
const UNSUPPORTED_VERSION: i32 = -32022;

/// How long a client may keep an answer that never changes while the server runs.
const TTL_MS: u64 = 300_000;

/// Whether a request is of this era or of a later one, which this server has to refuse in modern terms.
pub(super) fn is_modern(headers: &HeaderMap, body: &Value) -> bool {
    let is_initialize = body.get("method").is_some_and(|method| method == "initialize");
    meta(&body["params"], "protocolVersion").is_some()
        || !is_initialize
            && text(headers, "mcp-protocol-version").is_some_and(|named| !version::LEGACY.contains(&named))
}

pub(super) fn answer(headers: &HeaderMap, body: Value) -> Response {
    let (id, outcome, params) = match Message::parse(body) {
        Ok(Message::Request { id, method, params }) => {
            let outcome = check(headers, &method, &params)
                .and_then(|()| check_meta(&params))
                .and_then(|()| dispatch(&method, &params));
            (id, outcome, params)
        }
        Ok(Message::Notification { method, params }) => match check(headers, &method, &params) {
            Ok(()) => return accepted(),
            Err(failure) => (Value::Null, Err(failure), params),
        },
        Ok(Message::Response) => {
            let failure = Failure::bad_request(rpc::INVALID_REQUEST, "clients do not send responses");
            return json(failure.status, &failure.message(&Value::Null));
        }
        Err(failure) => return json(failure.status, &failure.message(&Value::Null)),
    };
    respond(vec![match outcome {
        Ok(Outcome::Result(value)) => Reply::Message(StatusCode::OK, rpc::result(&id, &complete(value))),
        Ok(Outcome::Countdown(timing)) => {
            Reply::Countdown(Countdown::modern(id, timing, &params, meta(&params, "logLevel")))
        }
        // Tells a server that lacks the method from one that lacks this endpoint, which has no such body.
        Err(failure) if failure.is_unknown_method() => {
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
            "supportedVersions": [VERSION],
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

/// Headers must be there and agree with the body.
fn check(headers: &HeaderMap, method: &str, params: &Value) -> Result<(), Failure> {
    let mismatch = |name| {
        Failure::bad_request(HEADER_MISMATCH, format!("header {name} is missing or differs from the body"))
    };
    let version = text(headers, "mcp-protocol-version").ok_or_else(|| mismatch("MCP-Protocol-Version"))?;
    if meta(params, "protocolVersion").is_some_and(|named| named != version) {
        return Err(mismatch("MCP-Protocol-Version"));
    }
    if version != VERSION {
        return Err(Failure::bad_request(UNSUPPORTED_VERSION, "unsupported protocol version")
            .with_data(json!({ "supported": [VERSION], "requested": version })));
    }
    if text(headers, "mcp-method") != Some(method) {
        return Err(mismatch("Mcp-Method"));
    }
    if method == "tools/call" {
        let name = text(headers, "mcp-name").and_then(decoded);
        if name.is_none() || name.as_deref() != params["name"].as_str() {
            return Err(mismatch("Mcp-Name"));
        }
    }
    Ok(())
}

/// What a request must say of its client.
fn check_meta(params: &Value) -> Result<(), Failure> {
    if meta(params, "protocolVersion").is_none_or(|version| !version.is_string())
        || meta(params, "clientCapabilities").is_none_or(|capabilities| !capabilities.is_object())
    {
        let reason = "params._meta needs io.modelcontextprotocol/protocolVersion and clientCapabilities";
        return Err(Failure::bad_request(rpc::INVALID_PARAMS, reason));
    }
    Ok(())
}

fn meta<'a>(params: &'a Value, name: &str) -> Option<&'a Value> {
    params.get("_meta")?.get(format!("io.modelcontextprotocol/{name}"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header value that may be `=?base64?…?=`, which is how text beyond ASCII travels.
fn decoded(value: &str) -> Option<String> {
    match value.strip_prefix("=?base64?").and_then(|value| value.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}
