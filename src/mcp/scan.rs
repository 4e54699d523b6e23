//! What a request says it is, found while its body streams by: the reading that [`Message::parse`] takes of a whole message.
//!
//! [`Message::parse`]: super::message::Message::parse

use crate::mcp::{
    message::{Id, Malformed},
    reading::{Field, Reading, keys::Author},
    walk::JsonWalk,
};

/// A scan over one message of a client's.
pub struct Scan(JsonWalk<Reading>);

/// `params.name`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScannedName<'a> {
    /// Not met so far.
    Absent,
    /// A string.
    Text(&'a str),
    /// No string, or one that parsers do not agree on, or one that is longer than any name.
    Unreadable,
}

impl Default for Scan {
    fn default() -> Self {
        Self(JsonWalk::new(Reading::new(Author::Client)))
    }
}

impl Scan {
    /// Takes what comes next. After an error the message must go no further.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.0.push(bytes)?;
        if self.is_complete() {
            // Not at the end of the body: a server may act on the last byte of the message.
            self.0.visitor.kind()?;
        }
        Ok(())
    }

    /// Nothing comes any more: was it one whole message?
    pub fn finish(&self) -> Result<(), Malformed> {
        self.0.finish()
    }

    /// Whether the message is closed; only white space may follow.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// `method`, once met; a response has none.
    pub fn method(&self) -> Option<&str> {
        self.0.visitor.method()
    }

    /// `params.name`
    pub fn name(&self) -> ScannedName<'_> {
        match self.0.visitor.name() {
            Field::Absent => ScannedName::Absent,
            Field::Text(name) => ScannedName::Text(name),
            _ => ScannedName::Unreadable,
        }
    }

    /// Whether this is `params.name`, `params.uri` or `params.taskId`, as far as was met.
    pub fn names(&self, said: &str) -> bool {
        self.0.visitor.names(said)
    }

    /// `id`, once met, if it is a string or a number.
    pub fn id(&self) -> Option<Id> {
        self.0.visitor.id()
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
