//! Lists of tools without those that are hidden.
//!
//! What a client takes for a list is up to the client: some skip a byte order mark, take `NaN`, a comma too many or a raw
//! line break in a string, match keys in any case, or of two take the last. So a text is walked over strictly
//! ([`walk`](super::walk)), and what the walk does not take for plain JSON, or finds a key in twice that is decided on,
//! does not pass, unless no client could find a result in it.
//!
//! A list has to be whole before it can be shortened, so this is where something is held: one response, of at most
//! [`MAX_HELD`].

use std::{borrow::Cow, error::Error, fmt};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::{
    message::{MAX_MESSAGE, Malformed},
    method::{Method, TOOLS_LIST},
    reading::keys::is_spelling_of,
    splice::splice,
    walk::{JsonWalk, Value, Visit},
};

/// Most bytes of a response that are held until it is known whether it is a list of tools, and which.
pub const MAX_HELD: usize = MAX_MESSAGE;

/// Why a response cannot be passed on. Says nothing of what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListError {
    /// A list of tools larger than [`MAX_HELD`], or something in front of one.
    TooLong,
    /// It may be a list, and clients could read it in more than one way.
    Unreadable,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "what may be a list of tools exceeds 4 MiB, so that it cannot be filtered",
            Self::Unreadable => {
                "what may be a list of tools is no plain JSON, or has a key twice or in a second spelling, so that it cannot be filtered"
            }
        })
    }
}

impl Error for ListError {}

/// Whether the response to a request of this method may list tools: not if it is one of MCP that asks for something else.
/// Of an unknown one the server may make what it likes.
pub fn may_list(method: &str) -> bool {
    method == TOOLS_LIST || Method::of(method) == Method::OTHER && !method.starts_with("notifications/")
}

/// The message without the hidden tools, if it is a response that lists tools, or a batch with one (MCP 2025-03-26). All
/// other bytes stay. A tool whose name cannot be read is hidden.
///
/// ```
/// # use sluicegate::mcp::tool_list::without_hidden;
/// let list = r#"{"id":1,"result":{"tools":[{"name":"read"},{"name":"drop"}],"nextCursor":"x"}}"#;
/// assert_eq!(
///     without_hidden(list, &|name: &str| name == "read").unwrap(),
///     r#"{"id":1,"result":{"tools":[{"name":"read"}],"nextCursor":"x"}}"#
/// );
/// ```
pub fn without_hidden<'a>(text: &'a str, passes: &impl Fn(&str) -> bool) -> Result<Cow<'a, str>, ListError> {
    let mut inspector = Inspector::default();
    inspector.push(text.as_bytes());
    match inspector.finish() {
        ListFinding::Nothing => Ok(Cow::Borrowed(text)),
        ListFinding::List => shortened(text, passes),
        ListFinding::Odd => Err(ListError::Unreadable),
        ListFinding::NoJson if may_hold_result(text.as_bytes()) => Err(ListError::Unreadable),
        ListFinding::NoJson => Ok(Cow::Borrowed(text)),
    }
}

/// The same for the whole body of the answer to a request that may ask for a list. Only JSON passes, or nothing at all.
pub fn body_without_hidden(body: Bytes, passes: &impl Fn(&str) -> bool) -> Result<Bytes, ListError> {
    if body.is_empty() {
        return Ok(body);
    }
    let mut inspector = Inspector::default();
    inspector.push(&body);
    let shorter = match (inspector.finish(), std::str::from_utf8(&body)) {
        (ListFinding::Nothing, _) => return Ok(body),
        (ListFinding::List, Ok(text)) => match shortened(text, passes)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(shorter) => Some(shorter),
        },
        _ => return Err(ListError::Unreadable),
    };
    Ok(shorter.map_or(body, Bytes::from))
}

/// Whether some client may find the result of a request in a body, or in the data of an event.
pub fn holds_result(body: &[u8]) -> bool {
    let mut inspector = Inspector::default();
    inspector.push(body);
    match inspector.finish() {
        ListFinding::Nothing | ListFinding::List => inspector.walk.visitor.has_result,
        ListFinding::Odd => true,
        ListFinding::NoJson => may_hold_result(body),
    }
}

/// The same for what is no plain JSON: it takes an object, whose key may be written with escapes, or in an encoding with a zero
/// byte to each letter.
pub(super) fn may_hold_result(text: &[u8]) -> bool {
    if !text.contains(&b'{') {
        return false;
    }
    let text = String::from_utf8_lossy(text);
    let letters = text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    text.contains(['\\', '\0']) || letters.collect::<String>().contains("result")
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
}

/// What is left of a text in which a list was seen.
pub(super) fn shortened<'a>(
    text: &'a str,
    passes: &impl Fn(&str) -> bool,
) -> Result<Cow<'a, str>, ListError> {
    let mut edits = Vec::new();
    if text.trim_start().starts_with('[') {
        for message in read::<Vec<&RawValue>>(text)? {
            let mut inspector = Inspector::default();
            inspector.push(message.get().as_bytes());
            match inspector.finish() {
                ListFinding::Nothing => {}
                // A batch in a batch is none.
                ListFinding::List if message.get().starts_with('{') => {
                    edits.extend(edit(message.get(), passes)?)
                }
                ListFinding::List | ListFinding::Odd => return Err(ListError::Unreadable),
                ListFinding::NoJson if may_hold_result(message.get().as_bytes()) => {
                    return Err(ListError::Unreadable);
                }
                ListFinding::NoJson => {}
            }
        }
    } else {
        edits.extend(edit(text, passes)?);
    }
    if edits.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    let edits: Vec<_> = edits.iter().map(|(tools, kept)| (*tools, kept.as_str())).collect();
    // Each is another slice of the text.
    splice(text, &edits).map(Cow::Owned).ok_or(ListError::Unreadable)
}

/// The list in `message`, and what is in its place if any of it is hidden.
fn edit<'a>(
    message: &'a str,
    passes: &impl Fn(&str) -> bool,
) -> Result<Option<(&'a str, String)>, ListError> {
    let Some(result) = read::<Response<'_>>(message)?.result else { return Ok(None) };
    let Some(tools) = read::<Listed<'_>>(result.get())?.tools else { return Ok(None) };
    let listed = read::<Vec<&RawValue>>(tools.get())?;
    let is_shown = |tool: &&&RawValue| name(tool.get()).is_some_and(|name| passes(&name));
    let shown: Vec<_> = listed.iter().filter(is_shown).map(|tool| tool.get()).collect();
    Ok((shown.len() < listed.len()).then(|| (tools.get(), format!("[{}]", shown.join(",")))))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ListError> {
    serde_json::from_str(text).map_err(|_| ListError::Unreadable)
}

/// The name of a tool, if all clients take it for that.
fn name(tool: &str) -> Option<Box<str>> {
    let mut walk = JsonWalk::new(Tool::default());
    walk.push(tool.as_bytes()).and_then(|()| walk.finish()).ok()?;
    walk.visitor.name
}

#[derive(Default)]
struct Tool {
    name: Option<Box<str>>,
    at_name: bool,
}

impl Visit for Tool {
    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed> {
        if depth == 1 {
            let key = key.ok_or(Malformed::Json)?;
            self.at_name = key == "name" && self.name.is_none();
            if !self.at_name && is_spelling_of(key, "name") {
                return Err(Malformed::Json);
            }
        }
        Ok(())
    }

    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed> {
        match (depth, value) {
            (0, Value::Object) => {}
            (0, _) => return Err(Malformed::NotAnObject),
            (1, Value::String(Some(name))) if self.at_name => self.name = Some(name.into()),
            (1, _) if self.at_name => return Err(Malformed::Json),
            _ => {}
        }
        Ok(())
    }
}

/// Reads one text while it comes, and finds out whether it lists tools.
pub(super) struct Inspector {
    walk: JsonWalk<ListVisitor>,
    /// The walk met something that it does not take, and what follows was not walked over.
    has_failed: bool,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListFinding {
    /// JSON without a list.
    Nothing,
    /// A list of tools, or a batch, which may have one.
    List,
    /// JSON of which clients could make this or that: a key that is decided on comes twice or in a second spelling, or what
    /// it stands for is something else than MCP says.
    Odd,
    /// No JSON, as far as a strict parser goes.
    NoJson,
}

impl Default for Inspector {
    fn default() -> Self {
        Self { walk: JsonWalk::new(ListVisitor::default()), has_failed: false }
    }
}

impl Inspector {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.has_failed = self.has_failed || self.walk.push(bytes).is_err();
    }

    /// What it is so far; only [`ListFinding::Nothing`] may change.
    pub(super) fn so_far(&self) -> ListFinding {
        let ListVisitor { is_odd, is_list, .. } = self.walk.visitor;
        match self.has_failed {
            _ if is_odd => ListFinding::Odd,
            true => ListFinding::NoJson,
            false if is_list => ListFinding::List,
            false => ListFinding::Nothing,
        }
    }

    /// What it is, now that nothing comes any more.
    pub(super) fn finish(&self) -> ListFinding {
        match self.so_far() {
            ListFinding::Nothing | ListFinding::List if self.walk.finish().is_err() => ListFinding::NoJson,
            seen => seen,
        }
    }
}

#[derive(Default)]
struct ListVisitor {
    /// The member of the outermost object that is being read is `result`.
    in_result: bool,
    /// The value that comes next is `result.tools`.
    at_tools: bool,
    has_result: bool,
    has_tools: bool,
    is_batch: bool,
    is_list: bool,
    is_odd: bool,
}

impl ListVisitor {
    fn odd(&mut self) -> Result<(), Malformed> {
        self.is_odd = true;
        Err(Malformed::Json)
    }
}

impl Visit for ListVisitor {
    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed> {
        let is_of_message = depth == 1 + usize::from(self.is_batch);
        let is_of_result = depth == 2 && self.in_result;
        if !is_of_message && !is_of_result {
            return Ok(());
        }
        let Some(key) = key else { return self.odd() };
        let (name, met) = match is_of_message {
            true => ("result", &mut self.has_result),
            false => ("tools", &mut self.has_tools),
        };
        let is_it = key == name;
        // Of a batch, each message is looked at by itself.
        if is_spelling_of(key, name) && (std::mem::replace(met, true) || !is_it) && !self.is_batch {
            return self.odd();
        }
        match is_of_message {
            true => self.in_result = is_it && !self.is_batch,
            false => self.at_tools = is_it,
        }
        Ok(())
    }

    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed> {
        match (depth, value) {
            (0, Value::Array) => (self.is_batch, self.is_list) = (true, true),
            // A message in a list in a batch is none, and yet there.
            (1, Value::Array) if self.is_batch => self.has_result = true,
            (1, Value::Array | Value::String(_) | Value::Number(_)) if self.in_result => return self.odd(),
            (2, Value::Array) if self.at_tools => (self.is_list, self.at_tools) = (true, false),
            (2, Value::Object | Value::String(_) | Value::Number(_)) if self.at_tools => return self.odd(),
            // `null`, as Go writes a list without elements.
            (2, _) => self.at_tools = false,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tool_list_tests.rs"]
mod tests;
