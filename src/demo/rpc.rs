//! JSON-RPC messages in and out, and the methods that both eras of MCP share.

use http::StatusCode;
use serde_json::{Value, json};

use super::tools::{self, Countdown, Outcome};
use crate::mcp::{
    codes::{INVALID_REQUEST, METHOD_NOT_FOUND, error_response},
    version,
};

/// What a client sent.
pub(super) enum Message {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification,
    /// The answer to a request; this server makes none.
    Response,
}

/// What goes back for one message.
pub(super) enum Reply {
    /// With the HTTP status for the case that this is all there is to say.
    Message(StatusCode, String),
    Countdown(Countdown),
}

/// An error response in the making.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: i64,
    reason: String,
}

impl Failure {
    /// The request was understood and cannot be done.
    pub(super) fn new(code: i64, reason: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, code, reason: reason.into() }
    }

    pub(super) fn bad_request(code: i64, reason: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::new(code, reason) }
    }

    pub(super) fn message(&self, id: &Value) -> String {
        error_response(Some(id), self.code, &self.reason, None)
    }
}

pub(super) fn result(id: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

impl Message {
    pub(super) fn parse(mut value: Value) -> Result<Self, Failure> {
        let invalid = |reason| Err(Failure::bad_request(INVALID_REQUEST, reason));
        if value.get("jsonrpc").is_none_or(|version| version != "2.0") {
            return invalid("not a JSON-RPC 2.0 message");
        }
        let params = value.get_mut("params").map(Value::take).unwrap_or_default();
        if !matches!(params, Value::Null | Value::Object(_)) {
            return invalid("params must be an object");
        }
        match (value.get("id"), value.get("method")) {
            (Some(id @ (Value::String(_) | Value::Number(_))), Some(Value::String(method))) => {
                Ok(Self::Request { id: id.clone(), method: method.clone(), params })
            }
            (None, Some(Value::String(_))) => Ok(Self::Notification),
            (Some(_), None) => Ok(Self::Response),
            _ => invalid("neither a request nor a notification nor a response"),
        }
    }
}

/// Replies to a message, or to a batch (2025-03-26 and before), of a client that began with `initialize`.
pub(super) fn legacy(body: Value) -> Result<Vec<Reply>, Failure> {
    match body {
        Value::Array(batch) if batch.is_empty() => {
            Err(Failure::bad_request(INVALID_REQUEST, "an empty batch"))
        }
        Value::Array(batch) => batch.into_iter().filter_map(|one| legacy_reply(one).transpose()).collect(),
        single => Ok(legacy_reply(single)?.into_iter().collect()),
    }
}

fn legacy_reply(value: Value) -> Result<Option<Reply>, Failure> {
    let Message::Request { id, method, params } = Message::parse(value)? else { return Ok(None) };
    let outcome = match method.as_str() {
        "initialize" => Ok(Outcome::Result(initialize(&params))),
        "ping" | "logging/setLevel" => Ok(Outcome::Result(json!({}))),
        _ => shared(&method, &params),
    };
    Ok(Some(match outcome {
        Ok(Outcome::Result(value)) => Reply::Message(StatusCode::OK, result(&id, &value)),
        Ok(Outcome::Countdown(timing)) => Reply::Countdown(Countdown::legacy(id, timing, &params)),
        Err(failure) => Reply::Message(failure.status, failure.message(&id)),
    }))
}

fn initialize(params: &Value) -> Value {
    json!({
        "protocolVersion": version::negotiate(params["protocolVersion"].as_str()),
        "capabilities": capabilities(),
        "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    })
}

/// Methods that are the same in both eras.
pub(super) fn shared(method: &str, params: &Value) -> Result<Outcome, Failure> {
    match method {
        "tools/list" => Ok(Outcome::Result(tools::list())),
        "tools/call" => tools::call(params),
        _ => Err(Failure::new(METHOD_NOT_FOUND, "method not found")),
    }
}

pub(super) const INSTRUCTIONS: &str = "A server to try a gateway with; its tools touch nothing.";

pub(super) fn capabilities() -> Value {
    json!({ "tools": {}, "logging": {} })
}

pub(super) fn server_info() -> Value {
    json!({ "name": "sluicegate-demo", "version": env!("CARGO_PKG_VERSION") })
}
