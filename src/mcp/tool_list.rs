//! Lists of tools without those that are hidden.
//!
//! A list has to be whole before it can be shortened, so this is where something is held: one response, of at most
//! [`MAX_HELD`]. What proves to be no list of tools by then passes, whatever its size.

use std::{borrow::Cow, error::Error, fmt};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    message::Malformed,
    splice::splice,
    walk::{Value, Visit, Walk},
};

/// Most bytes of a response that are held until it is known whether it is a list of tools, and which.
pub const MAX_HELD: usize = 4 * 1024 * 1024;

/// Why a response cannot be passed on. Says nothing of what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListError {
    /// A list of tools larger than [`MAX_HELD`], or something in front of one.
    TooLong,
    /// A field that is decided on is there twice, or is not what MCP says it is.
    Unreadable,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a list of tools exceeds 4 MiB, so that it cannot be filtered",
            Self::Unreadable => "a list of tools cannot be read, so that it cannot be filtered",
        })
    }
}

impl Error for ListError {}

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

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
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
    let mut edits = Vec::new();
    match text.trim_start().as_bytes().first() {
        Some(b'{') => edits.extend(edit(text, passes)?),
        Some(b'[') => {
            for message in understood::<Vec<&RawValue>>(text)?.into_iter().flatten() {
                edits.extend(edit(message.get(), passes)?);
            }
        }
        _ => {}
    }
    if edits.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    let edits: Vec<_> = edits.iter().map(|(tools, kept)| (*tools, kept.as_str())).collect();
    // Each is another slice of the text.
    splice(text, &edits).map(Cow::Owned).ok_or(ListError::Unreadable)
}

/// The list in `message`, and what stands in its place if any of it is hidden.
fn edit<'a>(
    message: &'a str,
    passes: &impl Fn(&str) -> bool,
) -> Result<Option<(&'a str, String)>, ListError> {
    let result = understood::<Response<'_>>(message)?.and_then(|response| response.result);
    let Some(result) = result.filter(|result| result.get().starts_with('{')) else { return Ok(None) };
    let tools = understood::<Listed<'_>>(result.get())?.and_then(|listed| listed.tools);
    let Some(tools) = tools.filter(|tools| tools.get().starts_with('[')) else { return Ok(None) };
    let listed = understood::<Vec<&RawValue>>(tools.get())?.unwrap_or_default();
    let is_shown =
        |tool: &&&RawValue| serde_json::from_str::<Tool<'_>>(tool.get()).is_ok_and(|tool| passes(&tool.name));
    let shown: Vec<_> = listed.iter().filter(is_shown).map(|tool| tool.get()).collect();
    Ok((shown.len() < listed.len()).then(|| (tools.get(), format!("[{}]", shown.join(",")))))
}

/// What is no JSON is for nobody to read, and no list. What is JSON, but ambiguous, could be read.
fn understood<'a, T: Deserialize<'a>>(text: &'a str) -> Result<Option<T>, ListError> {
    match serde_json::from_str(text) {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.is_data() => Err(ListError::Unreadable),
        Err(_) => Ok(None),
    }
}

/// Whether a response whose beginning this is lists tools, as far as the beginning shows.
pub(super) fn begins_a_list(beginning: &[u8]) -> bool {
    let mut walk = Walk::new(Watch::default());
    // An error ends the walk, and then nothing behind it can be read either.
    let _ = walk.push(beginning);
    walk.visitor.lists
}

#[derive(Default)]
struct Watch {
    in_result: bool,
    at_tools: bool,
    lists: bool,
}

impl Visit for Watch {
    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed> {
        if depth == 1 {
            self.in_result = key == Some("result");
        }
        self.at_tools = depth == 2 && self.in_result && key == Some("tools");
        Ok(())
    }

    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed> {
        // A batch is not worth a second way to look: one of this size counts as a list.
        self.lists |= value == Value::Array && (depth == 0 || self.at_tools);
        self.at_tools = false;
        Ok(())
    }
}

/// Takes the hidden tools out of a response whose whole body is one message.
pub struct ListBody<F> {
    passes: F,
    held: BytesMut,
    /// It is none, and so large that this was known before its end.
    is_no_list: bool,
}

impl<F: Fn(&str) -> bool> ListBody<F> {
    /// For one response.
    pub fn new(passes: F) -> Self {
        Self { passes, held: BytesMut::new(), is_no_list: false }
    }

    /// Takes what the server sent and returns what can go to the client now, which may be nothing. After an error the
    /// response must be broken off.
    pub fn push(&mut self, piece: Bytes) -> Result<Bytes, ListError> {
        if self.is_no_list {
            return Ok(piece);
        }
        self.held.extend_from_slice(&piece);
        if self.held.len() <= MAX_HELD {
            return Ok(Bytes::new());
        }
        if begins_a_list(&self.held) {
            return Err(ListError::TooLong);
        }
        self.is_no_list = true;
        Ok(std::mem::take(&mut self.held).freeze())
    }

    /// Ends the response and returns what was held back.
    pub fn finish(&mut self) -> Result<Bytes, ListError> {
        let held = std::mem::take(&mut self.held).freeze();
        let Ok(text) = std::str::from_utf8(&held) else { return Err(ListError::Unreadable) };
        Ok(match without_hidden(text, &self.passes)? {
            Cow::Borrowed(_) => held,
            Cow::Owned(shorter) => shorter.into(),
        })
    }
}

#[cfg(test)]
#[path = "tool_list_tests.rs"]
mod tests;
