//! The one reading of a message: what a walk over it tells of the fields that a gateway decides on or renames.
//!
//! Servers do not agree on what an odd message means: of two equal keys some take the first and some the last, some match
//! keys without regard to case, some take a number for another one. What is decided or renamed here holds only if it is the
//! server's reading too. So of a client's message each key that counts may come once and in one spelling, and a value that
//! counts must be one that all readers agree on; what is else is refused. A server's message is only noted to be ambiguous.

pub(crate) mod keys;
mod outcome;

use std::{mem, ops::Range};

pub use crate::mcp::reading::outcome::Reference;
pub(super) use crate::mcp::reading::outcome::{MessageFields, Spans};
use crate::mcp::{
    id::Id,
    method::{Method, RequestObject},
    parts::{Malformed, MessageKind, Part},
    reading::{
        keys::{Author, Folded, MessageKey, ObjectKind, Spelling, is_ambiguous_method},
        outcome::MAX_NAME,
    },
    walk::{MAX_TEXT, Value, Visit},
};

/// Unknown keys of MCP's own in one `_meta`.
const MAX_RESERVED: usize = 32;

/// A value that counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Field {
    /// Not there.
    #[default]
    Absent,
    /// `null`
    Null,
    /// A number, as written.
    Number(Box<str>),
    /// A string, without its escapes.
    Text(Box<str>),
    /// An object.
    Object,
    /// Something else, or what readers do not agree on.
    Other,
}

/// What was found so far.
pub(super) struct Reading {
    author: Author,
    is_ambiguous: bool,
    /// A bit for each [`MessageKey`] that was met.
    met: u64,
    reserved: Vec<Box<[u8]>>,
    /// What the open objects on reported levels are.
    places: [ObjectKind; 4],
    /// The member that is being read in each.
    members: [Option<MessageKey>; 4],
    key_at: Range<usize>,
    spans: Spans,
    /// Where what may be the name is: see [`name_slot`].
    names: [Option<(u32, u32)>; 5],
    /// Where `params.progressToken` is.
    progress_at: Option<(u32, u32)>,
    /// Where the member `progressToken` of `_meta` begins: with its key.
    token_member: Option<u32>,
    /// The values of the keys that are kept.
    fields: [Field; MessageKey::KEPT],
}

impl Reading {
    pub(super) fn new(author: Author) -> Self {
        Self {
            author,
            is_ambiguous: false,
            met: 0,
            reserved: Vec::new(),
            places: [ObjectKind::Elsewhere; 4],
            members: [None; 4],
            key_at: 0..0,
            spans: Spans::default(),
            names: [None; 5],
            progress_at: None,
            token_member: None,
            fields: [const { Field::Absent }; MessageKey::KEPT],
        }
    }

    fn is_strict(&self) -> bool {
        self.author == Author::Client
    }

    fn met(&mut self, key: MessageKey) -> bool {
        let bit = 1 << key as u64;
        let was_met = self.met & bit != 0;
        self.met |= bit;
        was_met
    }

    /// Something that two readers may read differently.
    fn ambiguous(&mut self) -> Result<(), Malformed> {
        if self.is_strict() {
            return Err(Malformed::Ambiguous);
        }
        self.is_ambiguous = true;
        Ok(())
    }

    /// Checks and keeps a value.
    fn keep(&mut self, key: MessageKey, value: Value<'_>) -> Result<(), Malformed> {
        // Text of which readers make this or that.
        let is_garbled = value == Value::String(None) && longest(key) > 0;
        if self.is_strict() && (is_garbled || !is_readable(key, &value)) {
            return Err(if key == MessageKey::Method {
                Malformed::NotJsonRpc
            } else {
                Malformed::Unreadable
            });
        }
        // Nothing is made of what is not kept.
        let Some(place) = self.fields.get_mut(key as usize) else { return Ok(()) };
        *place = match value {
            Value::Null => Field::Null,
            Value::Object => Field::Object,
            Value::String(Some(text)) => Field::Text(text.into()),
            Value::Number(Some(number)) => Field::Number(number.into()),
            _ => Field::Other,
        };
        Ok(())
    }

    fn field(&self, key: MessageKey) -> &Field {
        &self.fields[key as usize]
    }

    fn take(&mut self, key: MessageKey) -> Field {
        mem::take(&mut self.fields[key as usize])
    }

    fn take_text(&mut self, key: MessageKey) -> Option<Box<str>> {
        match self.take(key) {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }

    fn take_id(&mut self, key: MessageKey) -> Option<Id> {
        match self.take(key) {
            Field::Number(number) => Some(Id::Number(number)),
            Field::Text(text) => Some(Id::String(text)),
            _ => None,
        }
    }

    /// Whether the message has this key with a value.
    fn has(&self, key: MessageKey) -> bool {
        !matches!(self.field(key), Field::Absent | Field::Null)
    }

    /// What kind of message it is, of one that was read to its end.
    pub(super) fn kind(&self) -> Result<MessageKind, Malformed> {
        let is_there = |key| *self.field(key) != Field::Absent;
        let (method, id) = (self.field(MessageKey::Method), self.field(MessageKey::Id));
        let is_id = matches!(id, Field::Number(_) | Field::Text(_));
        // `"error": null` beside a result says that there was none.
        let (has_result, has_error) = (is_there(MessageKey::Result), self.has(MessageKey::Error));
        let kind = match (method, id) {
            (Field::Text(_), _) if is_id => MessageKind::Request,
            (Field::Text(_), Field::Absent) => MessageKind::Notification,
            (Field::Absent, _) if has_result || has_error => MessageKind::Response,
            // Some servers write down what they do not have.
            (Field::Null, _) if !self.is_strict() && (has_result || has_error) => MessageKind::Response,
            _ => return Err(Malformed::NotJsonRpc),
        };
        if self.is_strict() {
            let is_both = match kind {
                MessageKind::Response => has_result && has_error,
                MessageKind::Request | MessageKind::Notification => has_result || is_there(MessageKey::Error),
            };
            // Some servers look for a result first, and some for a method.
            if is_both || self.has(MessageKey::Id) && !is_id {
                return Err(Malformed::NotJsonRpc);
            }
            self.check_name()?;
        }
        Ok(kind)
    }

    /// What is called, got or read has to be text where it is there at all: some readers make text of anything.
    fn check_name(&self) -> Result<(), Malformed> {
        let is_text = |key| matches!(self.field(key), Field::Absent | Field::Text(_));
        let subject = self.method().map_or(RequestObject::Unknown, |method| Method::of(method).subject());
        let is_named = match subject {
            RequestObject::Name => is_text(MessageKey::Name),
            RequestObject::Uri => is_text(MessageKey::Uri),
            RequestObject::TaskId => is_text(MessageKey::TaskId),
            RequestObject::Reference | RequestObject::Unknown => true,
        };
        if is_named { Ok(()) } else { Err(Malformed::Unreadable) }
    }

    /// `method`, once met.
    pub(super) fn method(&self) -> Option<&str> {
        match self.field(MessageKey::Method) {
            Field::Text(method) => Some(method),
            _ => None,
        }
    }

    /// `params.name`, once met.
    pub(super) fn name(&self) -> &Field {
        self.field(MessageKey::Name)
    }

    /// Whether this is what is called, got or read, as far as was met.
    pub(super) fn names(&self, said: &str) -> bool {
        let mut keys = [MessageKey::Name, MessageKey::Uri, MessageKey::TaskId].into_iter();
        keys.any(|key| matches!(self.field(key), Field::Text(name) if **name == *said))
    }

    /// `id`, once met, if it is a string or a number.
    pub(super) fn id(&self) -> Option<Id> {
        match self.field(MessageKey::Id) {
            Field::Number(number) => Some(Id::Number(number.clone())),
            Field::Text(text) => Some(Id::String(text.clone())),
            _ => None,
        }
    }

    /// What the `ref` of `completion/complete` is about.
    fn reference(&self) -> Option<Reference> {
        let [of, name, uri] =
            [MessageKey::ReferenceType, MessageKey::ReferenceName, MessageKey::ReferenceUri]
                .map(|key| self.field(key));
        match (of, name, uri) {
            (Field::Text(of), Field::Text(_), _) if &**of == "ref/prompt" => Some(Reference::Prompt),
            (Field::Text(of), _, Field::Text(_)) if &**of == "ref/resource" => Some(Reference::Resource),
            (Field::Absent, Field::Text(_), Field::Absent) => Some(Reference::Prompt),
            (Field::Absent, Field::Absent, Field::Text(_)) => Some(Reference::Resource),
            _ => None,
        }
    }

    /// What it all comes to, once it was read to its end.
    pub(super) fn finish(mut self) -> Result<MessageFields, Malformed> {
        let kind = self.kind()?;
        let method = self.take_text(MessageKey::Method).unwrap_or_default();
        let subject = match kind {
            MessageKind::Response => RequestObject::Unknown,
            MessageKind::Request | MessageKind::Notification => Method::of(&method).subject(),
        };
        let reference = if subject == RequestObject::Reference { self.reference() } else { None };
        let key = match (subject, reference) {
            (RequestObject::Name, _) => MessageKey::Name,
            (RequestObject::Uri, _) => MessageKey::Uri,
            (RequestObject::TaskId, _) => MessageKey::TaskId,
            (RequestObject::Reference, Some(Reference::Resource)) => MessageKey::ReferenceUri,
            (RequestObject::Reference, _) => MessageKey::ReferenceName,
            (RequestObject::Unknown, _) if self.has(MessageKey::Name) => MessageKey::Name,
            (RequestObject::Unknown, _) => MessageKey::Uri,
        };
        let name = self.take_text(key).filter(|_| subject != RequestObject::Reference || reference.is_some());
        self.spans.set(Part::Name, self.names[name_slot(key)].filter(|_| name.is_some()));
        let token = match kind {
            MessageKind::Request => MessageKey::ProgressToken,
            MessageKind::Notification | MessageKind::Response => {
                self.spans.set(Part::ProgressToken, self.progress_at);
                MessageKey::Progress
            }
        };
        Ok(MessageFields {
            kind,
            is_ambiguous: self.is_ambiguous,
            id: self.take_id(MessageKey::Id),
            progress_token: self.take_id(token),
            request_id: self.take_id(MessageKey::RequestId),
            subscription_id: self.take_id(MessageKey::SubscriptionId),
            name,
            reference,
            names_version: self.has(MessageKey::Version),
            version: self.take_text(MessageKey::Version),
            names_capabilities: matches!(self.field(MessageKey::Capabilities), Field::Object),
            sets_log_level: self.has(MessageKey::LogLevel),
            has_cursor: self.has(MessageKey::Cursor),
            error_code: match self.field(MessageKey::Code) {
                Field::Number(code) => code.parse().ok(),
                _ => None,
            },
            task_id: self.take_text(MessageKey::MadeTaskId).filter(|_| kind == MessageKind::Response),
            names_related_task: self.has(MessageKey::RelatedTask),
            method,
            spans: self.spans,
            token_member: self.token_member,
        })
    }
}

/// Longest text that a member may have, in bytes; 0 if it may have any, since it is not looked at.
fn longest(key: MessageKey) -> usize {
    match key {
        MessageKey::Params
        | MessageKey::Meta
        | MessageKey::Result
        | MessageKey::ResultMeta
        | MessageKey::ResultTask
        | MessageKey::Error
        | MessageKey::Arguments
        | MessageKey::Reference
        | MessageKey::Filter
        | MessageKey::InitialCapabilities
        | MessageKey::InitialClient
        | MessageKey::Capabilities
        | MessageKey::Client
        | MessageKey::RelatedTask
        | MessageKey::Subscriptions
        | MessageKey::ToolsChanged
        | MessageKey::PromptsChanged
        | MessageKey::ResourcesChanged => 0,
        MessageKey::Name
        | MessageKey::Uri
        | MessageKey::TaskId
        | MessageKey::Cursor
        | MessageKey::ReferenceName
        | MessageKey::ReferenceUri
        | MessageKey::MadeTaskId => MAX_NAME,
        _ => MAX_TEXT,
    }
}

/// Whether all readers take a value of a client's for the same.
fn is_readable(key: MessageKey, value: &Value<'_>) -> bool {
    match key {
        MessageKey::Method => matches!(value, Value::String(Some(method)) if !is_ambiguous_method(method)),
        // Of an array, some take what is first for the first field.
        MessageKey::Params | MessageKey::Meta => matches!(value, Value::Object | Value::Null),
        // What stands for a request is compared by some as text, by some as a number, by some as a floating-point one.
        MessageKey::Id
        | MessageKey::Progress
        | MessageKey::ProgressToken
        | MessageKey::RequestId
        | MessageKey::SubscriptionId => match value {
            Value::Number(Some(number)) => is_plain_integer(number),
            Value::String(Some(_)) | Value::Null => true,
            _ => false,
        },
        _ => true,
    }
}

/// Whether a number is a whole one, written as such, that every reader can hold (RFC 7493, section 2.2).
fn is_plain_integer(number: &str) -> bool {
    const MOST: i64 = (1 << 53) - 1;
    let is_small = number.parse::<i64>().is_ok_and(|number| (-MOST..=MOST).contains(&number));
    is_small && number != "-0"
}

impl Visit for Reading {
    const LEVELS: usize = 3;

    fn key_at(&mut self, span: Range<usize>) {
        self.key_at = span;
    }

    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed> {
        let place = self.places[depth];
        self.members[depth] = None;
        let Some(key) = key else { return self.ambiguous() };
        let escaped = (self.key_at.end - self.key_at.start).saturating_sub(key.len() + 2);
        match place.spelling(self.author, key, escaped) {
            Spelling::Exact(key) => {
                if self.met(key) {
                    self.ambiguous()?;
                }
                self.members[depth] = Some(key);
                if key == MessageKey::ProgressToken {
                    self.token_member = u32::try_from(self.key_at.start).ok();
                }
                Ok(())
            }
            Spelling::Other => Ok(()),
            Spelling::Reserved => {
                let folded: Box<[u8]> = Folded::of(key).bytes().into();
                if folded.is_empty() || self.reserved.len() >= MAX_RESERVED || self.reserved.contains(&folded)
                {
                    return self.ambiguous();
                }
                self.reserved.push(folded);
                Ok(())
            }
            Spelling::Second => self.ambiguous(),
        }
    }

    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed> {
        let is_object = value == Value::Object;
        if depth == 0 {
            self.places[1] = ObjectKind::Message;
            return if is_object { Ok(()) } else { Err(Malformed::NotAnObject) };
        }
        let member = self.members[depth];
        if matches!(value, Value::Object | Value::Array) && depth < Self::LEVELS {
            self.members[depth + 1] = None;
            self.places[depth + 1] = match (member, self.author) {
                (Some(MessageKey::Params), _) if is_object => ObjectKind::Params,
                (Some(MessageKey::Meta | MessageKey::ResultMeta), _) if is_object => ObjectKind::Meta,
                (Some(MessageKey::Reference), Author::Client) if is_object => ObjectKind::Reference,
                (Some(MessageKey::Filter), Author::Client) if is_object => ObjectKind::Filter,
                (Some(MessageKey::Result), Author::Server) if is_object => ObjectKind::Result,
                (Some(MessageKey::ResultTask), Author::Server) if is_object => ObjectKind::Task,
                (Some(MessageKey::Error), _) if is_object => ObjectKind::Error,
                _ => ObjectKind::Elsewhere,
            };
        }
        let Some(member) = member else { return Ok(()) };
        self.keep(member, value)
    }

    fn value_at(&mut self, depth: usize, span: Range<usize>) {
        let Some(key) = self.members[depth] else { return };
        // A text of 4 GiB is not held anywhere.
        let span = u32::try_from(span.start).ok().zip(u32::try_from(span.end).ok());
        match key {
            MessageKey::Name
            | MessageKey::Uri
            | MessageKey::TaskId
            | MessageKey::ReferenceName
            | MessageKey::ReferenceUri => {
                self.names[name_slot(key)] = span;
            }
            MessageKey::Progress => self.progress_at = span,
            // No token, which stays none.
            MessageKey::ProgressToken if *self.field(MessageKey::ProgressToken) == Field::Null => {}
            _ => {
                if let Some(part) = part(key) {
                    self.spans.set(part, span);
                }
            }
        }
    }

    fn enters(&self, depth: usize) -> bool {
        depth < Self::LEVELS && self.places[depth + 1] != ObjectKind::Elsewhere
    }

    fn wants(&self, depth: usize) -> usize {
        self.members[depth].map_or(0, longest)
    }

    fn is_bounded(&self) -> bool {
        self.is_strict()
    }
}

/// The part of a message that a member is.
fn part(key: MessageKey) -> Option<Part> {
    Some(match key {
        MessageKey::Id => Part::Id,
        MessageKey::Params => Part::Params,
        MessageKey::Result => Part::Result,
        MessageKey::Meta => Part::Meta,
        MessageKey::Arguments => Part::Arguments,
        MessageKey::Filter => Part::Filter,
        MessageKey::ProgressToken => Part::ProgressToken,
        MessageKey::RequestId => Part::RequestId,
        MessageKey::SubscriptionId => Part::SubscriptionId,
        _ => return None,
    })
}

/// Which of the members is the name depends on the method, which may come last.
fn name_slot(key: MessageKey) -> usize {
    match key {
        MessageKey::Name => 0,
        MessageKey::Uri => 1,
        MessageKey::TaskId => 2,
        MessageKey::ReferenceName => 3,
        _ => 4,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
