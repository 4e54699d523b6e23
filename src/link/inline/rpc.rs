//! What a message to an inline server comes to, in either era of MCP. Nothing here waits.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    config::{InlineTarget, InlineTool},
    mcp::{
        codes::{INVALID_PARAMS, METHOD_NOT_FOUND, UNSUPPORTED_VERSION, error_response, unsupported},
        era::Era,
        message::{Id, Message, Part},
        version::{MODERN, negotiate},
    },
};

/// How long a client may keep the list of tools (MCP 2026-07-28): a reload may change it at any time, and this is how late
/// the change may be seen.
const TTL_MS: u64 = 60_000;

/// What a message comes to.
pub(super) enum InlineReply {
    /// The answer, if there is one.
    Answer(Option<Message>),
    /// The tool of this index has to run first. The arguments are not read here: what is small as a text may be large as a
    /// tree.
    Call(usize),
    /// The client waits for this request no longer.
    Cancel(Id),
}

/// An error response in the making: code, message.
type Failure = (i64, &'static str);

/// Decides about one message to the server `name`.
pub(super) fn answer(name: &str, target: &InlineTarget, message: &Message) -> InlineReply {
    let Some(id) = message.response_id() else {
        return message.cancels().map_or(InlineReply::Answer(None), |id| InlineReply::Cancel(id.clone()));
    };
    let server = InlineView { name, target };
    let era = Era::of(message);
    if let Some(other) = message.version().filter(|version| *version != MODERN) {
        let reason = "unsupported protocol version";
        let refusal = error_response(Some(id), UNSUPPORTED_VERSION, reason, Some(unsupported(other)));
        return InlineReply::Answer(Message::parse(refusal.into()).ok());
    }
    let is_complete = match era {
        Era::Legacy => message.method() != "server/discover",
        Era::Modern => message.names_capabilities(),
    };
    let outcome = match (message.method(), era) {
        _ if !is_complete => Err((
            INVALID_PARAMS,
            "params._meta needs io.modelcontextprotocol/protocolVersion and clientCapabilities",
        )),
        ("tools/call", _) => match server.find(message) {
            Some(tool) => return InlineReply::Call(tool),
            // An unknown tool is an error; arguments that do not fit are a result that says so, for the model to mend (MCP
            // 2025-11-25, "Error Handling" of tools).
            None => Err((INVALID_PARAMS, "unknown tool")),
        },
        (_, Era::Legacy) => server.legacy(message),
        (_, Era::Modern) => server.modern(message),
    };
    InlineReply::Answer(match outcome {
        Ok(value) => result(id, era, value),
        Err((code, reason)) => error(id, code, reason),
    })
}

/// The response with this result; `None` only if it could not be read back, which no result can cause.
pub(super) fn result(id: &Id, era: Era, mut result: Value) -> Option<Message> {
    if era == Era::Modern {
        result["resultType"] = "complete".into();
    }
    Message::result_for(id, &result.to_string()).ok()
}

/// An error response; `None` as with [`result`].
pub(super) fn error(id: &Id, code: i64, reason: &str) -> Option<Message> {
    Message::error_for(id, code, reason).ok()
}

/// What counts in `params` of `initialize`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialize<'a> {
    #[serde(borrow)]
    protocol_version: Cow<'a, str>,
}

struct InlineView<'a> {
    name: &'a str,
    target: &'a InlineTarget,
}

impl InlineView<'_> {
    fn legacy(&self, message: &Message) -> Result<Value, Failure> {
        Ok(match message.method() {
            "initialize" => {
                let params = message.part(Part::Params);
                let wanted = params.and_then(|params| serde_json::from_str::<Initialize<'_>>(params).ok());
                let mut result = json!({
                    "protocolVersion": negotiate(wanted.as_ref().map(|wanted| &*wanted.protocol_version)),
                    "capabilities": capabilities(),
                    "serverInfo": self.info(),
                });
                self.instruct(&mut result);
                result
            }
            "ping" => json!({}),
            "tools/list" => self.list(message)?,
            _ => return Err((METHOD_NOT_FOUND, "method not found")),
        })
    }

    fn modern(&self, message: &Message) -> Result<Value, Failure> {
        let mut result = match message.method() {
            "server/discover" => {
                let mut result = json!({
                    "supportedVersions": [MODERN],
                    "capabilities": capabilities(),
                    "_meta": { "io.modelcontextprotocol/serverInfo": self.info() },
                });
                self.instruct(&mut result);
                result
            }
            "tools/list" => self.list(message)?,
            _ => return Err((METHOD_NOT_FOUND, "method not found")),
        };
        result["ttlMs"] = TTL_MS.into();
        // What one token may reach is not for caches that others use.
        result["cacheScope"] = "private".into();
        Ok(result)
    }

    /// The list is whole, so that no cursor was ever given out.
    fn list(&self, message: &Message) -> Result<Value, Failure> {
        if message.has_cursor() {
            return Err((INVALID_PARAMS, "unknown cursor"));
        }
        Ok(json!({ "tools": self.target.tools.iter().map(described).collect::<Vec<_>>() }))
    }

    /// Index of the tool that is called.
    fn find(&self, message: &Message) -> Option<usize> {
        let name = message.name()?;
        self.target.tools.iter().position(|tool| *tool.name == *name)
    }

    fn info(&self) -> Value {
        json!({ "name": self.name, "version": env!("CARGO_PKG_VERSION") })
    }

    fn instruct(&self, result: &mut Value) {
        if let Some(description) = &self.target.description {
            result["instructions"] = description.as_str().into();
        }
    }
}

fn capabilities() -> Value {
    json!({ "tools": {} })
}

fn described(tool: &InlineTool) -> Value {
    let mut described = json!({ "name": tool.name, "inputSchema": tool.input_schema.json() });
    if let Some(description) = &tool.description {
        described["description"] = description.as_str().into();
    }
    described
}
