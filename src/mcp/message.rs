//! A JSON-RPC message as a gateway sees it: the bytes as they came, and the few fields that say where they go.
//!
//! Only what routing needs is looked up; the rest of a message is skipped over and leaves as it arrived. Where a field has
//! to change on the way (an id that two callers chose alike, the name of a tool), its bytes are replaced in place.

use std::{
    any::Any,
    borrow::Cow,
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use memchr::memmem;

use crate::mcp::{
    codes::error_response,
    reading::{MessageFields, Reading, keys::Author},
    version::OWN_META,
    walk::JsonWalk,
};

pub use super::{
    id::Id,
    parts::{Malformed, MessageKind, Part},
    reading::Reference,
};

use crate::ledger::{Limit, Owner, Resource, Share};

/// Most bytes of one message: a tool may answer with an image in base64, which none of the transports bounds.
pub const MAX_MESSAGE: usize = 4 << 20;

/// One request, notification or response. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Message(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: Bytes,
    author: Author,
    found: MessageFields,
    /// Counts the text, for as long as it is in memory.
    held: OnceLock<Arc<Share>>,
    /// Dropped with the last that was made of it.
    guard: OnceLock<HeldGuard>,
}

/// Something that a message keeps as long as it is in memory.
type HeldGuard = Arc<dyn Any + Send + Sync>;

#[cfg(test)]
thread_local! {
    /// How many texts were read as messages on this thread.
    pub(crate) static READS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many times an id or a token is kept on the way to a server.
const NAME_COPIES: u64 = 2;
/// Bytes of them that count for nothing.
const SMALL_NAMES: u64 = 512;

impl Message {
    /// Reads a message of a client's, and refuses what two servers could read differently. The text is kept as it is.
    pub fn parse(text: Bytes) -> Result<Self, Malformed> {
        Self::read(text, Author::Client)
    }

    /// Reads a message of a server's: what is odd about it is [noted](Self::is_ambiguous), and no more.
    pub fn from_server(text: Bytes) -> Result<Self, Malformed> {
        Self::read(text, Author::Server)
    }

    /// The same; the error comes with the text, which may be something else.
    pub(super) fn from_server_or_text(text: Bytes) -> Result<Self, (Bytes, Malformed)> {
        match Self::look(&text, Author::Server) {
            Ok(found) => Ok(Self::found(text, Author::Server, found)),
            Err(why) => Err((text, why)),
        }
    }

    fn read(text: Bytes, author: Author) -> Result<Self, Malformed> {
        let found = Self::look(&text, author)?;
        Ok(Self::found(text, author, found))
    }

    fn look(text: &[u8], author: Author) -> Result<MessageFields, Malformed> {
        #[cfg(test)]
        READS.set(READS.get() + 1);
        let mut walk = JsonWalk::new(Reading::new(author));
        walk.push(text)?;
        walk.finish()?;
        walk.visitor.finish()
    }

    fn found(text: Bytes, author: Author, found: MessageFields) -> Self {
        Self(Arc::new(Inner { text, author, found, held: OnceLock::new(), guard: OnceLock::new() }))
    }

    /// A request of the gateway's own. `params` is JSON.
    pub fn request(id: &Id, method: &str, params: &str) -> Result<Self, Malformed> {
        let method = serde_json::Value::from(method);
        Self::from_server(
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#).into(),
        )
    }

    /// A notification of the gateway's own. `params` is JSON.
    pub fn notification(method: &str, params: &str) -> Result<Self, Malformed> {
        let method = serde_json::Value::from(method);
        Self::from_server(format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#).into())
    }

    /// The cancellation of this request of a session (up to MCP 2025-11-25).
    pub fn cancelled(request: &Id) -> Result<Self, Malformed> {
        Self::notification("notifications/cancelled", &format!(r#"{{"requestId":{request}}}"#))
    }

    /// The same where there is no session (MCP 2026-07-28), and no stream whose end would say it. It claims its version as a
    /// request does: some servers (the TypeScript SDK) choose the era of a process by the first message that tells, and take
    /// one without a claim for a message of an older version.
    pub fn cancelled_modern(request: &Id) -> Result<Self, Malformed> {
        Self::notification(
            "notifications/cancelled",
            &format!(r#"{{"requestId":{request},"_meta":{OWN_META}}}"#),
        )
    }

    /// A response of the gateway's own. `result` is JSON.
    pub fn result_for(id: &Id, result: &str) -> Result<Self, Malformed> {
        Self::from_server(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into())
    }

    /// An error response of the gateway's own.
    pub fn error_for(id: &Id, code: i64, message: &str) -> Result<Self, Malformed> {
        Self::from_server(error_response(Some(id), code, message, None).into())
    }

    /// The message as it came.
    pub fn text(&self) -> &Bytes {
        &self.0.text
    }

    /// The message on one line, without its end, as stdio wants it, also for readers that take line ends of Unicode for the end of one.
    ///
    /// A line break can only be between tokens: JSON strings hold none. Those of Unicode can only be in strings, where
    /// Node's `readline` and Python's `splitlines` would end the line; there they are escaped.
    pub fn line(&self) -> Bytes {
        let text = &self.0.text;
        let has_breaks = memchr::memchr2(b'\n', b'\r', text).is_some();
        if !has_breaks
            && (text.is_ascii() || LINE_ENDS.iter().all(|(end, _)| memmem::find(text, end).is_none()))
        {
            return text.clone();
        }
        let mut line = Vec::with_capacity(text.len() + 16);
        let mut rest = &text[..];
        while let Some((&byte, behind)) = rest.split_first() {
            if let Some((end, escape)) = LINE_ENDS.iter().find(|(end, _)| rest.starts_with(end)) {
                line.extend_from_slice(escape);
                rest = &rest[end.len()..];
            } else {
                line.push(if matches!(byte, b'\n' | b'\r') { b' ' } else { byte });
                rest = behind;
            }
        }
        line.into()
    }

    /// What it is.
    pub fn kind(&self) -> MessageKind {
        self.0.found.kind
    }

    /// Whether somebody may read another id, token or method in it than is here. No client's message is.
    pub fn is_ambiguous(&self) -> bool {
        self.0.found.is_ambiguous
    }

    /// `method`; empty for a response.
    pub fn method(&self) -> &str {
        &self.0.found.method
    }

    /// `id`; `None` for a notification, and for an error response to something that could not be read.
    pub fn id(&self) -> Option<&Id> {
        self.0.found.id.as_ref()
    }

    /// `id`, if it is a request: that of the response that it waits for.
    pub fn response_id(&self) -> Option<&Id> {
        self.id().filter(|_| self.kind() == MessageKind::Request)
    }

    /// What the progress of a request is reported under, or what `notifications/progress` is about.
    pub fn progress_token(&self) -> Option<&Id> {
        self.0.found.progress_token.as_ref()
    }

    /// The request that `notifications/cancelled` is about.
    pub fn request_id(&self) -> Option<&Id> {
        self.0.found.request_id.as_ref()
    }

    /// The request that the message cancels, if it is a cancellation.
    pub fn cancels(&self) -> Option<&Id> {
        self.request_id().filter(|_| self.method() == "notifications/cancelled")
    }

    /// The `subscriptions/listen` request that a server's message belongs to (MCP 2026-07-28).
    pub fn subscription_id(&self) -> Option<&Id> {
        self.0.found.subscription_id.as_ref()
    }

    /// What is called, got, read or completed: `params.name`, `params.uri` or `params.taskId`, or of `completion/complete`
    /// `params.ref.name` or `params.ref.uri`. MCP 2026-07-28 repeats most of them in `Mcp-Name`.
    pub fn name(&self) -> Option<&str> {
        self.0.found.name.as_deref()
    }

    /// What [`Message::name`] is of `completion/complete`.
    pub fn reference(&self) -> Option<Reference> {
        self.0.found.reference
    }

    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`: from MCP 2026-07-28 on, every request has it.
    pub fn version(&self) -> Option<&str> {
        self.0.found.version.as_deref()
    }

    /// Whether [`Message::version`] is there, be it text or not.
    pub fn names_version(&self) -> bool {
        self.0.found.names_version
    }

    /// Whether `params._meta["io.modelcontextprotocol/clientCapabilities"]` is there (MCP 2026-07-28).
    pub fn names_capabilities(&self) -> bool {
        self.0.found.names_capabilities
    }

    /// Whether the request asks for log messages (MCP 2026-07-28), which say nothing of the request they are about.
    pub fn sets_log_level(&self) -> bool {
        self.0.found.sets_log_level
    }

    /// Whether the request asks for another page than the first of a list.
    pub fn has_cursor(&self) -> bool {
        self.0.found.has_cursor
    }

    /// The task that a server's response is about, which it may have made: `result.taskId` (SEP-2663) or `result.task.taskId`
    /// (MCP 2025-11-25).
    pub fn task_id(&self) -> Option<&str> {
        self.0.found.task_id.as_deref()
    }

    /// Whether `params._meta["io.modelcontextprotocol/related-task"]` is there (MCP 2025-11-25).
    pub fn names_related_task(&self) -> bool {
        self.0.found.names_related_task
    }

    /// `error.code` of a server's error response.
    pub fn error_code(&self) -> Option<i64> {
        self.0.found.error_code
    }

    /// The JSON text of a part.
    pub fn part(&self, part: Part) -> Option<&str> {
        self.0.found.spans.get(part).and_then(|span| std::str::from_utf8(&self.0.text[span]).ok())
    }

    /// `params._meta` for requests that are made on behalf of this one. The progress token stays behind: it stands for one
    /// request, and these are many.
    pub fn meta_without_token(&self) -> Option<String> {
        let meta = self.0.found.spans.get(Part::Meta)?;
        let text =
            std::str::from_utf8(&self.0.text[meta.clone()]).ok().filter(|text| text.starts_with('{'))?;
        let token = self.0.found.token_member.map(|start| start as usize);
        let Some((start, end)) = token.zip(self.0.found.token_end()) else { return Some(text.to_owned()) };
        let (before, after) = (text.get(..start - meta.start)?, text.get(end - meta.start..)?);
        // With the comma behind it, or if it is the last, with the one in front.
        let (before, after) = match after.trim_start().strip_prefix(',') {
            Some(after) => (before, after),
            None => (before.trim_end().strip_suffix(',').unwrap_or(before), after),
        };
        Some([before, after].concat())
    }

    /// The message with other JSON texts for some of its parts. A part that it does not have stays away. No part may lie within
    /// another that is replaced too.
    pub fn with(&self, replacements: &[(Part, Cow<'_, str>)]) -> Result<Self, Malformed> {
        let Inner { text: old, author, found, .. } = &*self.0;
        let mut edits: Vec<_> = replacements
            .iter()
            .filter_map(|(part, new)| Some((found.spans.get(*part)?, *part, new.as_ref())))
            .collect();
        edits.sort_unstable_by_key(|(span, ..)| span.start);
        let grown: usize = edits.iter().map(|(_, _, new)| new.len()).sum();
        let mut text = Vec::with_capacity(old.len() + grown);
        let mut at = 0;
        for (span, _, new) in &edits {
            text.extend_from_slice(old.get(at..span.start).ok_or(Malformed::Json)?);
            text.extend_from_slice(new.as_bytes());
            at = span.end;
        }
        text.extend_from_slice(&old[at..]);
        let text = Bytes::from(text);
        let mut moved = Some(found.clone());
        for (_, part, new) in &edits {
            moved = moved.and_then(|moved| moved.replaced(*part, new));
        }
        // What holds other parts has to be read again.
        let message = match moved {
            Some(mut found) => {
                found.shift(|position| shifted(position, &edits));
                Self::found(text, *author, found)
            }
            None => Self::read(text, *author)?,
        };
        Ok(message.held_like(self))
    }

    /// The message, counted for whom that is counted for which it was made of.
    pub fn held_like(self, other: &Self) -> Self {
        if let Some(held) = other.0.held.get() {
            self.hold_for(held.owner());
        }
        if let Some(guard) = other.0.guard.get() {
            self.0.guard.get_or_init(|| Arc::clone(guard));
        }
        self
    }

    /// Counts the message for `owner` as long as it is in memory, unless it is counted already.
    pub fn hold_for(&self, owner: &Arc<Owner>) {
        self.0.held.get_or_init(|| Arc::new(owner.hold(Resource::Bytes, self.0.text.len() as u64)));
    }

    /// Keeps `guard` as long as the message is in memory, or what is made of it.
    pub fn keep(&self, guard: Arc<dyn Any + Send + Sync>) {
        self.0.guard.get_or_init(|| guard);
    }

    /// Counts the message by a share that was taken while it was read.
    pub fn held_by(&self, share: Share) {
        self.0.held.get_or_init(|| Arc::new(share));
    }

    /// Counts the message for another owner from now on, unless it is shared. The error is that this owner may not have it.
    pub fn pass_to(&mut self, owner: &Arc<Owner>) -> Result<(), Limit> {
        let Some(inner) = Arc::get_mut(&mut self.0) else { return Ok(()) };
        match inner.held.get_mut() {
            // What was made of it may be counted by the same share, and is not passed on.
            Some(held) => Arc::get_mut(held).map_or(Ok(()), |held| held.pass_to(owner)),
            None => {
                let share = owner.take_some(Resource::Bytes, inner.text.len() as u64)?;
                self.held_by(share);
                Ok(())
            }
        }
    }

    /// Counts its id and progress token for `owner`: they are kept until the request is answered, long after the message. Those
    /// of usual size are not worth counting. The error is that the owner may not have them.
    pub fn names_held_for(&self, owner: &Arc<Owner>) -> Result<Option<Share>, Limit> {
        let parts = [Part::Id, Part::ProgressToken].map(|part| self.part(part).map_or(0, str::len) as u64);
        let bytes = parts.iter().sum::<u64>() * NAME_COPIES;
        if bytes > SMALL_NAMES { owner.take_some(Resource::Bytes, bytes).map(Some) } else { Ok(None) }
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
}

/// Characters that end a line for some readers, and how JSON writes them otherwise: next line, line separator, paragraph
/// separator.
const LINE_ENDS: [(&[u8], &[u8]); 3] =
    [(b"\xC2\x85", b"\\u0085"), (b"\xE2\x80\xA8", b"\\u2028"), (b"\xE2\x80\xA9", b"\\u2029")];

/// Where the end of the `position` bytes that was at the front is now.
fn shifted(position: u32, edits: &[(Range<usize>, Part, &str)]) -> u32 {
    let mut shifted = position as usize;
    for (span, _, new) in edits.iter().rev().filter(|(span, ..)| span.end <= position as usize) {
        shifted = shifted - span.len() + new.len();
    }
    // A text of 4 GiB is not held anywhere.
    u32::try_from(shifted).unwrap_or(u32::MAX)
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
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, MessageKind::Request),
            (r#" {"method":"tools/call","id":"a","params":null} "#, MessageKind::Request),
            (r#"{"method":"notifications/initialized"}"#, MessageKind::Notification),
            (r#"{"id":1,"result":{}}"#, MessageKind::Response),
            (r#"{"id":1,"result":null}"#, MessageKind::Response),
            (r#"{"id":null,"error":{"code":-32700,"message":"x"}}"#, MessageKind::Response),
        ] {
            assert_eq!(parse(text).kind(), kind, "{text}");
        }
        for (text, why) in [
            ("", Malformed::Json),
            ("{", Malformed::Json),
            ("{} {}", Malformed::Json),
            (r#"{"id":1,"id":2,"method":"ping"}"#, Malformed::Ambiguous),
            (r#"{"id":1,"method":"a","params":{"name":"a","name":"b"}}"#, Malformed::Ambiguous),
            (
                r#"{"id":1,"method":"a","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
                Malformed::Ambiguous,
            ),
            ("[]", Malformed::NotAnObject),
            ("1", Malformed::NotAnObject),
            ("{}", Malformed::NotJsonRpc),
            (r#"{"id":1}"#, Malformed::NotJsonRpc),
            (r#"{"id":null,"method":"ping"}"#, Malformed::NotJsonRpc),
            (r#"{"id":{},"method":"ping"}"#, Malformed::Unreadable),
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
    fn a_message_is_one_line_for_whoever_knows_other_line_breaks() {
        let message = parse(
            "{\"id\":1,\n\"method\":\"m\",\r\n\"params\":{\"a\":\"x\u{2028}y\u{85}\u{2029}é\u{2027}\"}}",
        );
        let line = message.line();
        assert_eq!(
            line,
            "{\"id\":1, \"method\":\"m\",  \"params\":{\"a\":\"x\\u2028y\\u0085\\u2029é\u{2027}\"}}"
        );
        let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&line), value(message.text()));
        let plain = parse("{\"method\":\"m\",\"params\":{\"a\":\"é\u{2027}\"}}");
        assert_eq!(plain.line().as_ptr(), plain.text().as_ptr(), "not copied");
    }

    #[test]
    fn messages_of_the_gates_own_are_messages() {
        let id = Id::String("a\"b".into());
        assert_eq!(Message::request(&id, "ping", "{}").unwrap().id(), Some(&id));
        assert_eq!(Message::notification("x", "{}").unwrap().kind(), MessageKind::Notification);
        assert_eq!(Message::cancelled(&id).unwrap().request_id(), Some(&id));
        assert_eq!(Message::result_for(&id, "{}").unwrap().part(Part::Result), Some("{}"));
        assert_eq!(Message::error_for(&id, -32603, "no").unwrap().error_code(), Some(-32603));
    }
}
