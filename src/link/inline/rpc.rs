//! What a message to an inline server comes to, in either era of MCP. Nothing here waits.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    config::{InlineTarget, InlineTool},
    mcp::{
        codes::{INVALID_PARAMS, METHOD_NOT_FOUND, UNSUPPORTED_VERSION, error_response, unsupported},
        era::Era,
        message::{Id, Message, MessageKind, Part},
        version::{MODERN, negotiate},
    },
};

/// How long a client may keep the list of tools (MCP 2026-07-28): a reload may change it at any time, and this is how late
/// the change may be seen.
const TTL_MS: u64 = 60_000;

/// What a message comes to.
pub(super) enum InlineReply {
    /// Nothing to say.
    None,
    /// The answer.
    Message(Box<Message>),
    /// A command has to run first.
    Call(InlineCall),
    /// Nobody waits for this request any more.
    Cancel(Id),
}

/// A call of a tool that is there.
pub(super) struct InlineCall {
    /// The request.
    pub(super) id: Id,
    /// Index of the tool.
    pub(super) tool: usize,
    /// The request, which is kept to the end: it counts what is kept of it. Its arguments are not read here: what is small as
    /// a text may be large as a tree.
    pub(super) request: Message,
    /// How the result is written.
    pub(super) era: Era,
}

/// An error response in the making: code, message, data.
struct Failure(i64, &'static str, Option<Value>);

/// Decides about one message to the server `name`.
pub(super) fn answer(name: &str, target: &InlineTarget, message: &Message) -> InlineReply {
    let (MessageKind::Request, Some(id)) = (message.kind(), message.id()) else {
        return match (message.method(), message.request_id()) {
            ("notifications/cancelled", Some(id)) => InlineReply::Cancel(id.clone()),
            _ => InlineReply::None,
        };
    };
    let server = InlineView { name, target };
    let outcome = match era(message) {
        Ok(era) if message.method() == "tools/call" => match server.find(message) {
            Some(tool) => {
                return InlineReply::Call(InlineCall { id: id.clone(), tool, request: message.clone(), era });
            }
            // An unknown tool is an error; arguments that do not fit are a result that says so, for the model to mend (MCP
            // 2025-11-25, "Error Handling" of tools).
            None => Err(Failure(INVALID_PARAMS, "unknown tool", None)),
        },
        Ok(Era::Legacy) => server.legacy(message).map(|result| (Era::Legacy, result)),
        Ok(Era::Modern) => server.modern(message).map(|result| (Era::Modern, result)),
        Err(failure) => Err(failure),
    };
    let answer = match outcome {
        Ok((era, value)) => result(id, era, value),
        Err(Failure(code, reason, data)) => {
            Message::parse(error_response(Some(id), code, reason, data).into()).ok()
        }
    };
    answer.map_or(InlineReply::None, |message| InlineReply::Message(Box::new(message)))
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

/// A request says which era it is of, and a modern one has to say more.
fn era(message: &Message) -> Result<Era, Failure> {
    match message.version() {
        Some(MODERN) => {}
        Some(other) => {
            let reason = "unsupported protocol version";
            return Err(Failure(UNSUPPORTED_VERSION, reason, Some(unsupported(other))));
        }
        None if message.method() != "server/discover" => return Ok(Era::Legacy),
        None => {}
    }
    let meta = message.part(Part::Meta).and_then(|meta| serde_json::from_str::<Meta<'_>>(meta).ok());
    let capabilities = meta.and_then(|meta| meta.client_capabilities);
    if message.version().is_none() || !capabilities.is_some_and(|raw| raw.get().starts_with('{')) {
        let reason = "params._meta needs io.modelcontextprotocol/protocolVersion and clientCapabilities";
        return Err(Failure(INVALID_PARAMS, reason, None));
    }
    Ok(Era::Modern)
}

/// What counts in `params._meta`.
#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    client_capabilities: Option<&'a RawValue>,
}

/// What counts in `params` of `initialize`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialize<'a> {
    #[serde(borrow)]
    protocol_version: Option<&'a RawValue>,
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
                let wanted = wanted.and_then(|params| params.protocol_version);
                let wanted = wanted.and_then(|version| serde_json::from_str::<String>(version.get()).ok());
                let mut result = json!({
                    "protocolVersion": negotiate(wanted.as_deref()),
                    "capabilities": capabilities(),
                    "serverInfo": self.info(),
                });
                self.instruct(&mut result);
                result
            }
            "ping" => json!({}),
            "tools/list" => self.list(message)?,
            _ => return Err(Failure(METHOD_NOT_FOUND, "method not found", None)),
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
            _ => return Err(Failure(METHOD_NOT_FOUND, "method not found", None)),
        };
        result["ttlMs"] = TTL_MS.into();
        // What a token may reach is nobody else's business.
        result["cacheScope"] = "private".into();
        Ok(result)
    }

    /// The list is whole, so that no cursor was ever given out.
    fn list(&self, message: &Message) -> Result<Value, Failure> {
        if message.has_cursor() {
            return Err(Failure(INVALID_PARAMS, "unknown cursor", None));
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
