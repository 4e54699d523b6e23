//! What a message to an inline server comes to, in either era of MCP. Nothing here waits.

use serde_json::{Map, Value, json};

use crate::{
    config::{InlineTarget, InlineTool},
    mcp::{
        code::{INVALID_PARAMS, METHOD_NOT_FOUND, UNSUPPORTED_VERSION},
        message::{Id, Kind, Message, Part},
        version::{MODERN, negotiate},
    },
};

/// How long a client may keep the list of tools (MCP 2026-07-28): a reload may change it at any time, and this is how late
/// the change may be seen.
const TTL_MS: u64 = 60_000;

/// What a message comes to.
pub(super) enum Reply {
    /// Nothing to say.
    None,
    /// The answer.
    Message(Box<Message>),
    /// A command has to run first.
    Call(Call),
    /// Nobody waits for this request any more.
    Cancel(Id),
}

/// A call of a tool that is there, with arguments that fit.
pub(super) struct Call {
    /// The request.
    pub(super) id: Id,
    /// Index of the tool.
    pub(super) tool: usize,
    /// What the caller gives.
    pub(super) arguments: Map<String, Value>,
    /// How the result is written.
    pub(super) era: Era,
}

/// Which of the two protocols a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// Begins with `initialize`.
    Legacy,
    /// Every request stands alone (MCP 2026-07-28).
    Modern,
}

/// A call of a tool that is there.
enum Asked {
    /// Its arguments are as the tool wants them.
    Fits { tool: usize, arguments: Map<String, Value> },
    /// They are not, for this reason.
    Mistake(String),
}

/// An error response in the making: code, message, data.
struct Failure(i64, &'static str, Option<Value>);

/// Decides about one message to the server `name`.
pub(super) fn answer(name: &str, target: &InlineTarget, message: &Message) -> Reply {
    let (Kind::Request, Some(id)) = (message.kind(), message.id()) else {
        return match (message.method(), message.request_id()) {
            ("notifications/cancelled", Some(id)) => Reply::Cancel(id.clone()),
            _ => Reply::None,
        };
    };
    let params =
        message.part(Part::Params).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let server = Server { name, target };
    let outcome = match era(message, &params) {
        Ok(era) if message.method() == "tools/call" => match server.call(message, params) {
            Ok(Asked::Fits { tool, arguments }) => {
                return Reply::Call(Call { id: id.clone(), tool, arguments, era });
            }
            Ok(Asked::Mistake(reason)) => Ok((era, super::result::mistake(&reason))),
            Err(failure) => Err(failure),
        },
        Ok(Era::Legacy) => server.legacy(message.method(), &params).map(|result| (Era::Legacy, result)),
        Ok(Era::Modern) => server.modern(message.method()).map(|result| (Era::Modern, result)),
        Err(failure) => Err(failure),
    };
    let answer = match outcome {
        Ok((era, value)) => result(id, era, value),
        Err(Failure(code, reason, data)) => {
            let mut error = json!({ "code": code, "message": reason });
            if let Some(data) = data {
                error["data"] = data;
            }
            parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
        }
    };
    answer.map_or(Reply::None, |message| Reply::Message(Box::new(message)))
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

fn parse(text: String) -> Option<Message> {
    Message::parse(text.into()).ok()
}

/// A request says which era it is of, and a modern one has to say more.
fn era(message: &Message, params: &Value) -> Result<Era, Failure> {
    match message.version() {
        Some(MODERN) => {}
        Some(other) => {
            let data = json!({ "supported": [MODERN], "requested": other });
            return Err(Failure(UNSUPPORTED_VERSION, "unsupported protocol version", Some(data)));
        }
        None if message.method() != "server/discover" => return Ok(Era::Legacy),
        None => {}
    }
    let capabilities =
        params.get("_meta").and_then(|meta| meta.get("io.modelcontextprotocol/clientCapabilities"));
    if message.version().is_none() || !capabilities.is_some_and(Value::is_object) {
        let reason = "params._meta needs io.modelcontextprotocol/protocolVersion and clientCapabilities";
        return Err(Failure(INVALID_PARAMS, reason, None));
    }
    Ok(Era::Modern)
}

struct Server<'a> {
    name: &'a str,
    target: &'a InlineTarget,
}

impl Server<'_> {
    fn legacy(&self, method: &str, params: &Value) -> Result<Value, Failure> {
        Ok(match method {
            "initialize" => {
                let mut result = json!({
                    "protocolVersion": negotiate(params["protocolVersion"].as_str()),
                    "capabilities": capabilities(),
                    "serverInfo": self.info(),
                });
                self.instruct(&mut result);
                result
            }
            "ping" => json!({}),
            "tools/list" => self.list(),
            _ => return Err(Failure(METHOD_NOT_FOUND, "method not found", None)),
        })
    }

    fn modern(&self, method: &str) -> Result<Value, Failure> {
        let mut result = match method {
            "server/discover" => {
                let mut result = json!({
                    "supportedVersions": [MODERN],
                    "capabilities": capabilities(),
                    "_meta": { "io.modelcontextprotocol/serverInfo": self.info() },
                });
                self.instruct(&mut result);
                result
            }
            "tools/list" => self.list(),
            _ => return Err(Failure(METHOD_NOT_FOUND, "method not found", None)),
        };
        result["ttlMs"] = TTL_MS.into();
        // What a token may reach is nobody else's business.
        result["cacheScope"] = "private".into();
        Ok(result)
    }

    fn list(&self) -> Value {
        json!({ "tools": self.target.tools.iter().map(described).collect::<Vec<_>>() })
    }

    /// Which tool is called, and with what. An unknown tool is an error; arguments that do not fit are a result that says
    /// so, for the model to mend (MCP 2025-11-25, "Error Handling" of tools).
    fn call(&self, message: &Message, mut params: Value) -> Result<Asked, Failure> {
        let named = message.name().and_then(|name| self.find(name));
        let Some((tool, described)) = named else {
            return Err(Failure(INVALID_PARAMS, "unknown tool", None));
        };
        let arguments = match params.get_mut("arguments").map(Value::take) {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(given) => given,
        };
        Ok(match (described.input_schema.check(&arguments), arguments) {
            (Ok(()), Value::Object(arguments)) => Asked::Fits { tool, arguments },
            (Err(faults), _) => Asked::Mistake(format!("The arguments do not fit: {faults}")),
            // Not with a schema of type object.
            (Ok(()), _) => Asked::Mistake("The arguments must be an object.".into()),
        })
    }

    fn find(&self, name: &str) -> Option<(usize, &InlineTool)> {
        self.target.tools.iter().enumerate().find(|(_, tool)| *tool.name == *name)
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
