//! JSON-RPC messages in and out, and the methods that both eras of MCP share.

use http::StatusCode;
use serde_json::{Value, json};

use super::tools::{self, Countdown, Outcome};
use crate::mcp::version;

pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;

/// What a client sent.
pub(super) enum Message {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    /// The answer to a request; this server makes none.
    Response,
}

/// What goes back for one message.
pub(super) enum Reply {
    None,
    /// With the HTTP status for the case that this is all there is to say.
    Message(StatusCode, Value),
    Countdown(Countdown),
}

/// An error response in the making.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    code: i32,
    reason: String,
    data: Option<Value>,
}

impl Failure {
    /// The request was understood and cannot be done.
    pub(super) fn new(code: i32, reason: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, code, reason: reason.into(), data: None }
    }

    pub(super) fn bad_request(code: i32, reason: impl Into<String>) -> Self {
        Self::new(code, reason).with_status(StatusCode::BAD_REQUEST)
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn with_data(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }

    pub(super) fn is_unknown_method(&self) -> bool {
        self.code == METHOD_NOT_FOUND
    }

    pub(super) fn message(&self, id: &Value) -> Value {
        let mut error = json!({ "code": self.code, "message": self.reason });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        json!({ "jsonrpc": "2.0", "id": id, "error": error })
    }
}

pub(super) fn result(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
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
            (None, Some(Value::String(method))) => Ok(Self::Notification { method: method.clone(), params }),
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
        Value::Array(batch) => batch.into_iter().map(legacy_reply).collect(),
        single => Ok(vec![legacy_reply(single)?]),
    }
}

fn legacy_reply(value: Value) -> Result<Reply, Failure> {
    let Message::Request { id, method, params } = Message::parse(value)? else { return Ok(Reply::None) };
    let outcome = match method.as_str() {
        "initialize" => Ok(Outcome::Result(initialize(&params))),
        "ping" | "logging/setLevel" => Ok(Outcome::Result(json!({}))),
        _ => shared(&method, &params),
    };
    Ok(match outcome {
        Ok(Outcome::Result(value)) => Reply::Message(StatusCode::OK, result(&id, &value)),
        Ok(Outcome::Countdown(timing)) => Reply::Countdown(Countdown::legacy(id, timing, &params)),
        Err(failure) => Reply::Message(failure.status, failure.message(&id)),
    })
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
