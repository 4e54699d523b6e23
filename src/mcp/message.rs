//! A JSON-RPC message as a gateway sees it: the bytes as they came, and the few fields that say where they go.
//!
//! Only what routing needs is looked up; the rest of a message is skipped over and leaves as it arrived. Where a field has
//! to change on the way (an id that two callers chose alike, the name of a tool), its bytes are replaced in place.

use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ledger::{Owner, Resource, Share};

/// One request, notification or response. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Message(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: Bytes,
    kind: Kind,
    method: Box<str>,
    id: Option<Id>,
    progress_token: Option<Id>,
    request_id: Option<Id>,
    subscription_id: Option<Id>,
    name: Option<Box<str>>,
    version: Option<Box<str>>,
    sets_log_level: bool,
    error_code: Option<i64>,
    spans: Spans,
    /// Counts the text, for as long as it is in memory.
    held: OnceLock<Arc<Share>>,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wants a response.
    Request,
    /// Wants none.
    Notification,
    /// Is one: a result or an error.
    Response,
}

/// A JSON-RPC id or a progress token. Compared by value, since a peer may write an equal string with other escapes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// A number, as written.
    Number(Box<str>),
    /// A string, without its escapes.
    String(Box<str>),
}

/// A part of a message that can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `id`
    Id,
    /// `method`
    Method,
    /// `params`, as a whole
    Params,
    /// `params.name`, `params.uri` or `params.taskId`: see [`Message::name`]
    Name,
    /// `params._meta.progressToken` of a request, `params.progressToken` of `notifications/progress`
    ProgressToken,
    /// `params.requestId` of `notifications/cancelled`
    RequestId,
    /// `params._meta["io.modelcontextprotocol/subscriptionId"]` (MCP 2026-07-28)
    SubscriptionId,
    /// `result`, as a whole
    Result,
}

/// Where the parts are in the text.
#[derive(Debug, Clone, Default)]
struct Spans([Option<(u32, u32)>; 8]);

/// Why something is no message. Says nothing of what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not one JSON text in UTF-8, or one with a field twice that decides where it goes.
    Json,
    /// A batch (only in MCP 2025-03-26), or no object.
    NotAnObject,
    /// JSON, but neither request, notification nor response.
    NotJsonRpc,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "not one JSON text, or one with a field twice",
            Self::NotAnObject => "not one JSON object",
            Self::NotJsonRpc => "neither request, notification nor response",
        })
    }
}

impl std::error::Error for Malformed {}

// serde refuses a known field that comes twice: which of the two counts would be a matter of taste.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Params<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Meta<'a> {
    #[serde(borrow, default, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/subscriptionId")]
    subscription_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/logLevel")]
    log_level: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Failure {
    code: i64,
}

fn even_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Message {
    /// Looks at one message. The text is kept as it is.
    pub fn parse(text: Bytes) -> Result<Self, Malformed> {
        let str = std::str::from_utf8(&text).map_err(|_| Malformed::Json)?;
        if !str.trim_start().starts_with('{') {
            let is_json = serde_json::from_str::<&RawValue>(str).is_ok();
            return Err(if is_json { Malformed::NotAnObject } else { Malformed::Json });
        }
        let envelope: Envelope<'_> = serde_json::from_str(str).map_err(|_| Malformed::Json)?;
        let is_object = |raw: &&RawValue| raw.get().starts_with('{');
        let params: Params<'_> = match envelope.params.filter(is_object) {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| Malformed::Json)?,
            None => Params::default(),
        };
        let meta: Meta<'_> = match params.meta.filter(is_object) {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| Malformed::Json)?,
            None => Meta::default(),
        };
        let id = envelope.id.and_then(Id::read);
        let kind = match (envelope.method, &id) {
            (Some(_), Some(_)) => Kind::Request,
            (Some(_), None) if envelope.id.is_none() => Kind::Notification,
            (None, _) if envelope.result.is_some() || envelope.error.is_some() => Kind::Response,
            _ => return Err(Malformed::NotJsonRpc),
        };
        let method = match envelope.method {
            Some(raw) => string(raw).ok_or(Malformed::NotJsonRpc)?,
            None => Box::default(),
        };
        let name = match &*method {
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => params.uri,
            "tasks/get" | "tasks/update" | "tasks/cancel" | "tasks/result" => params.task_id,
            _ => params.name.or(params.uri),
        };
        let progress_token = if kind == Kind::Request { meta.progress_token } else { params.progress_token };
        let mut spans = Spans::default();
        for (part, raw) in [
            (Part::Id, envelope.id),
            (Part::Method, envelope.method),
            (Part::Params, envelope.params),
            (Part::Name, name),
            (Part::ProgressToken, progress_token),
            (Part::RequestId, params.request_id),
            (Part::SubscriptionId, meta.subscription_id),
            (Part::Result, envelope.result),
        ] {
            spans.0[part as usize] = raw.and_then(|raw| span(str, raw.get()));
        }
        Ok(Self(Arc::new(Inner {
            kind,
            method,
            id,
            progress_token: progress_token.and_then(Id::read),
            request_id: params.request_id.and_then(Id::read),
            subscription_id: meta.subscription_id.and_then(Id::read),
            name: name.and_then(string),
            version: meta.version.and_then(string),
            sets_log_level: meta.log_level.is_some(),
            error_code: envelope
                .error
                .and_then(|raw| serde_json::from_str::<Failure>(raw.get()).ok())
                .map(|failure| failure.code),
            spans,
            text,
            held: OnceLock::new(),
        })))
    }

    /// A request of the gate's own. `params` is JSON.
    pub fn request(id: &Id, method: &str, params: &str) -> Result<Self, Malformed> {
        let method = serde_json::Value::from(method);
        Self::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#).into())
    }

    /// A notification of the gate's own. `params` is JSON.
    pub fn notification(method: &str, params: &str) -> Result<Self, Malformed> {
        let method = serde_json::Value::from(method);
        Self::parse(format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#).into())
    }

    /// That nobody waits for the answer to this request any more (before MCP 2026-07-28, and on stdio).
    pub fn cancelled(request: &Id) -> Result<Self, Malformed> {
        Self::notification("notifications/cancelled", &format!(r#"{{"requestId":{request}}}"#))
    }

    /// A response of the gate's own. `result` is JSON.
    pub fn result_for(id: &Id, result: &str) -> Result<Self, Malformed> {
        Self::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into())
    }

    /// An error response of the gate's own.
    pub fn error_for(id: &Id, code: i64, message: &str) -> Result<Self, Malformed> {
        let error = serde_json::json!({ "code": code, "message": message });
        Self::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into())
    }

    /// The message as it came.
    pub fn text(&self) -> &Bytes {
        &self.0.text
    }

    /// The message on one line, without its end, as stdio wants it. A line break can only stand between tokens: JSON
    /// strings hold none.
    pub fn line(&self) -> Bytes {
        if memchr::memchr2(b'\n', b'\r', &self.0.text).is_none() {
            return self.0.text.clone();
        }
        self.0.text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// `method`; empty for a response.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// `id`; `None` for a notification, and for an error response to something that could not be read.
    pub fn id(&self) -> Option<&Id> {
        self.0.id.as_ref()
    }

    /// What the progress of a request is reported under, or what `notifications/progress` is about.
    pub fn progress_token(&self) -> Option<&Id> {
        self.0.progress_token.as_ref()
    }

    /// The request that `notifications/cancelled` is about.
    pub fn request_id(&self) -> Option<&Id> {
        self.0.request_id.as_ref()
    }

    /// The `subscriptions/listen` request that a notification belongs to (MCP 2026-07-28).
    pub fn subscription_id(&self) -> Option<&Id> {
        self.0.subscription_id.as_ref()
    }

    /// What is called, got or read: what MCP 2026-07-28 repeats in `Mcp-Name`.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`: from MCP 2026-07-28 on, every request has it.
    pub fn version(&self) -> Option<&str> {
        self.0.version.as_deref()
    }

    /// Whether the request asks for log messages (MCP 2026-07-28), which say nothing of the request they are about.
    pub fn sets_log_level(&self) -> bool {
        self.0.sets_log_level
    }

    /// `error.code` of an error response.
    pub fn error_code(&self) -> Option<i64> {
        self.0.error_code
    }

    /// The JSON text of a part.
    pub fn part(&self, part: Part) -> Option<&str> {
        self.span(part).and_then(|span| std::str::from_utf8(&self.0.text[span]).ok())
    }

    /// The message with other JSON texts for some of its parts. A part that it does not have stays away. No part may lie within
    /// another that is replaced too.
    pub fn with(&self, replacements: &[(Part, Cow<'_, str>)]) -> Result<Self, Malformed> {
        let mut found: Vec<_> =
            replacements.iter().filter_map(|(part, new)| Some((self.span(*part)?, new))).collect();
        found.sort_by_key(|(span, _)| span.start);
        let mut text = Vec::with_capacity(self.0.text.len() + 32);
        let mut at = 0;
        for (span, new) in found {
            text.extend_from_slice(self.0.text.get(at..span.start).ok_or(Malformed::Json)?);
            text.extend_from_slice(new.as_bytes());
            at = span.end;
        }
        text.extend_from_slice(&self.0.text[at..]);
        let message = Self::parse(text.into())?;
        if let Some(held) = self.0.held.get() {
            message.hold_for(held.owner());
        }
        Ok(message)
    }

    /// Counts the message for `owner` as long as it is in memory, unless it is counted already.
    pub fn hold_for(&self, owner: &Arc<Owner>) {
        self.0.held.get_or_init(|| Arc::new(owner.hold(Resource::Bytes, self.0.text.len() as u64)));
    }

    /// Counts the message by a share that was taken while it was read.
    pub fn held_by(&self, share: Share) {
        self.0.held.get_or_init(|| Arc::new(share));
    }

    /// Counts the message for another owner from now on, if nobody else has it.
    pub fn pass_to(&mut self, owner: &Arc<Owner>) {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.held = OnceLock::new();
            self.hold_for(owner);
        }
    }

    /// What counts the message: to be kept by what is made of it.
    pub fn held(&self) -> Option<Arc<Share>> {
        self.0.held.get().cloned()
    }

    /// The message as it came, counted as long as it is in memory.
    pub fn into_bytes(self) -> Bytes {
        match self.0.held.get() {
            Some(held) => Share::of_bytes(held, self.0.text.clone()),
            None => self.0.text.clone(),
        }
    }

    fn span(&self, part: Part) -> Option<Range<usize>> {
        self.0.spans.0[part as usize].map(|(start, end)| start as usize..end as usize)
    }
}

impl Id {
    /// A number.
    pub fn number(number: u64) -> Self {
        Self::Number(number.to_string().into())
    }

    fn read(raw: &RawValue) -> Option<Self> {
        match raw.get().as_bytes().first()? {
            b'"' => string(raw).map(Self::String),
            b'-' | b'0'..=b'9' => Some(Self::Number(raw.get().into())),
            _ => None,
        }
    }
}

/// As JSON.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => f.write_str(number),
            Self::String(string) => serde_json::Value::from(&**string).fmt(f),
        }
    }
}

fn string(raw: &RawValue) -> Option<Box<str>> {
    serde_json::from_str::<Cow<'_, str>>(raw.get()).ok().map(|string| string.into_owned().into())
}

/// Where `part` lies in `whole`, which it is a slice of.
fn span(whole: &str, part: &str) -> Option<(u32, u32)> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    Some((u32::try_from(start).ok()?, u32::try_from(start + part.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Message {
        Message::parse(text.into()).unwrap()
    }

    #[test]
    fn the_kind_of_a_message_follows_from_its_fields() {
        for (text, kind) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Kind::Request),
            (r#" {"method":"tools/call","id":"a","params":[1]} "#, Kind::Request),
            (r#"{"method":"notifications/initialized"}"#, Kind::Notification),
            (r#"{"id":1,"result":{}}"#, Kind::Response),
            (r#"{"id":1,"result":null}"#, Kind::Response),
            (r#"{"id":null,"error":{"code":-32700,"message":"x"}}"#, Kind::Response),
        ] {
            assert_eq!(parse(text).kind(), kind, "{text}");
        }
        for (text, why) in [
            ("", Malformed::Json),
            ("{", Malformed::Json),
            ("{} {}", Malformed::Json),
            (r#"{"id":1,"id":2,"method":"ping"}"#, Malformed::Json),
            (r#"{"id":1,"method":"a","params":{"name":"a","name":"b"}}"#, Malformed::Json),
            (
                r#"{"id":1,"method":"a","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
                Malformed::Json,
            ),
            ("[]", Malformed::NotAnObject),
            ("1", Malformed::NotAnObject),
            ("{}", Malformed::NotJsonRpc),
            (r#"{"id":1}"#, Malformed::NotJsonRpc),
            (r#"{"id":null,"method":"ping"}"#, Malformed::NotJsonRpc),
            (r#"{"id":{},"method":"ping"}"#, Malformed::NotJsonRpc),
            (r#"{"id":1,"method":7}"#, Malformed::NotJsonRpc),
        ] {
            assert_eq!(Message::parse(text.into()).unwrap_err(), why, "{text}");
        }
        assert_eq!(
            Message::parse(Bytes::from_static(b"{\"method\":\"\xff\"}")).unwrap_err(),
            Malformed::Json
        );
    }

    #[test]
    fn what_routing_needs_is_found_wherever_it_stands() {
        let message = parse(
            r#"{"params":{"arguments":{"name":"x","id":9},"name":"gr\u00fcn","_meta":{"progressToken":"p",
            "io.modelcontextprotocol/protocolVersion":"2026-07-28"}},"id":"\u0061","method":"tools\/call"}"#,
        );
        assert_eq!(message.method(), "tools/call");
        assert_eq!(message.id(), Some(&Id::String("a".into())));
        assert_eq!(message.name(), Some("grün"));
        assert_eq!(message.progress_token(), Some(&Id::String("p".into())));
        assert_eq!(message.version(), Some("2026-07-28"));
        assert!(!message.line().contains(&b'\n'));

        let read = parse(r#"{"id":1,"method":"resources/read","params":{"name":"no","uri":"file:///a"}}"#);
        assert_eq!(read.name(), Some("file:///a"));
        let progress =
            parse(r#"{"method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#);
        assert_eq!(progress.progress_token(), Some(&Id::number(7)));
        let cancelled = parse(r#"{"method":"notifications/cancelled","params":{"requestId":-3}}"#);
        assert_eq!(cancelled.request_id(), Some(&Id::Number("-3".into())));
        assert_eq!(parse(r#"{"id":1,"error":{"code":-32601,"message":""}}"#).error_code(), Some(-32601));
    }

    #[test]
    fn parts_are_replaced_in_place_and_the_rest_keeps_its_bytes() {
        let message = parse(
            r#"{ "id" : 1 , "method":"tools/call","params":{"name":"db__q","_meta":{"progressToken":1},"x":1.0e+2}}"#,
        );
        let sent = message
            .with(&[
                (Part::ProgressToken, "77".into()),
                (Part::Id, Id::number(42).to_string().into()),
                (Part::Name, r#""q""#.into()),
                (Part::RequestId, "5".into()),
            ])
            .unwrap();
        assert_eq!(
            sent.text(),
            &r#"{ "id" : 42 , "method":"tools/call","params":{"name":"q","_meta":{"progressToken":77},"x":1.0e+2}}"#
        );
        assert_eq!((sent.id(), sent.name()), (Some(&Id::number(42)), Some("q")));
        assert_eq!(message.part(Part::Params).unwrap().len(), 55);
        assert!(message.with(&[(Part::Params, "{}".into()), (Part::Name, "1".into())]).is_err());
    }

    #[test]
    fn messages_of_the_gates_own_are_messages() {
        let id = Id::String("a\"b".into());
        assert_eq!(Message::request(&id, "ping", "{}").unwrap().id(), Some(&id));
        assert_eq!(Message::notification("x", "{}").unwrap().kind(), Kind::Notification);
        assert_eq!(Message::cancelled(&id).unwrap().request_id(), Some(&id));
        assert_eq!(Message::result_for(&id, "{}").unwrap().part(Part::Result), Some("{}"));
        assert_eq!(Message::error_for(&id, -32603, "no").unwrap().error_code(), Some(-32603));
    }
}
