//! Error codes of JSON-RPC 2.0 (section 5.1) and MCP. The gateway's own failures have none of these: their codes are
//! statuses of HTTP.

use std::fmt::Display;

use serde_json::{Value, json};

use crate::mcp::version::MODERN;

/// The error response with this code. `id` is JSON; without it the response has none.
pub fn error_response(id: Option<impl Display>, code: i64, message: &str, data: Option<Value>) -> String {
    let id = id.map(|id| format!(r#""id":{id},"#)).unwrap_or_default();
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data;
    }
    format!(r#"{{"jsonrpc":"2.0",{id}"error":{error}}}"#)
}

/// The `data` of [`UNSUPPORTED_VERSION`].
pub fn unsupported(requested: &str) -> Value {
    json!({ "supported": [MODERN], "requested": requested })
}

/// Not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// Not a request that can be made here.
pub const INVALID_REQUEST: i64 = -32600;
/// The method does not exist.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// A parameter is wrong; also for a tool, a prompt, a resource or a cursor that is unknown.
pub const INVALID_PARAMS: i64 = -32602;
/// A header field says something else than the body (MCP 2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// The client lacks a capability (MCP 2026-07-28).
pub const MISSING_CAPABILITY: i64 = -32021;
/// The server does not speak the version (MCP 2026-07-28).
pub const UNSUPPORTED_VERSION: i64 = -32022;
