//! Whether a message may pass to a server some of whose tools are hidden, decided while it streams by.
//!
//! The body of a call may be of any size, and its `name` may be behind the largest of its arguments. Nothing is held
//! back for that: the beginning goes on while the call is undecided, and no harm can come of it. Each piece is looked at
//! before it goes on, so the piece that decides against the call, which is the one that completes the name of a hidden
//! tool (or `tools/call`, where that comes last), stays here with all that follows. The server is left with the beginning
//! of a JSON text in an HTTP body that never ends as its framing says, which is nothing that it can act on.
//!
//! A message that is decided is still looked at to its end, because a second `name` would decide it again.

use http::HeaderValue;

use crate::mcp::{
    codes::{HEADER_MISMATCH, INVALID_PARAMS, error_response},
    header,
    message::{Id, Malformed},
    method::TOOLS_CALL,
    scan::{Scan, ScannedName},
};

/// What `Mcp-Method` and `Mcp-Name` say (MCP 2026-07-28), which must be what the body says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Declared {
    /// Nothing.
    #[default]
    Absent,
    /// This.
    Value(Box<str>),
    /// It cannot be read, or is there twice.
    Unreadable,
}

/// What is known of a message so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is not known what it is.
    Open,
    /// It calls no hidden tool.
    Passes,
    /// It goes no further.
    Refused(Refusal),
}

/// Why a well-formed message goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It calls a tool that is hidden.
    Hidden,
    /// Its header fields say something else than its body.
    Mismatch,
}

/// Looks at one message on its way to a server.
pub struct CallGuard<F> {
    scan: Scan,
    passes: F,
    method: Declared,
    name: Declared,
    verdict: Verdict,
}

impl<F: Fn(&str) -> bool> CallGuard<F> {
    /// A guard that lets calls of those tools pass of which `passes` says so. `method` and `name` are what the message's
    /// header fields declare.
    pub fn new(passes: F, method: Declared, name: Declared) -> Self {
        Self { scan: Scan::default(), passes, method, name, verdict: Verdict::Open }
    }

    /// Looks at the next piece, which may go on unless the answer is a refusal or an error. Goes on reading behind a
    /// refusal, for the `id`.
    pub fn push(&mut self, piece: &[u8]) -> Result<Verdict, Malformed> {
        self.scan.push(piece)?;
        if !matches!(self.verdict, Verdict::Refused(_)) {
            self.verdict = self.decide()?;
        }
        Ok(self.verdict)
    }

    /// Nothing comes any more. Only a message that is whole and decided may end.
    pub fn finish(&mut self) -> Result<Verdict, Malformed> {
        self.scan.finish()?;
        Ok(self.verdict)
    }

    fn decide(&self) -> Result<Verdict, Malformed> {
        let is_complete = self.scan.is_complete();
        let Some(method) = self.scan.method() else {
            return Ok(match (is_complete, &self.method, &self.name) {
                (false, ..) => Verdict::Open,
                (true, Declared::Absent, Declared::Absent) => Verdict::Passes,
                (true, ..) => Verdict::Refused(Refusal::Mismatch),
            });
        };
        if !self.method.agrees(method) {
            return Ok(Verdict::Refused(Refusal::Mismatch));
        }
        if method != TOOLS_CALL {
            return Ok(match &self.name {
                Declared::Absent => Verdict::Passes,
                Declared::Value(name) if self.scan.names(name) => Verdict::Passes,
                Declared::Value(_) if !is_complete => Verdict::Open,
                Declared::Value(_) | Declared::Unreadable => Verdict::Refused(Refusal::Mismatch),
            });
        }
        match self.scan.name() {
            ScannedName::Absent if !is_complete => Ok(Verdict::Open),
            ScannedName::Absent | ScannedName::Unreadable => Err(Malformed::NotJsonRpc),
            ScannedName::Text(name) if !self.name.agrees(name) => Ok(Verdict::Refused(Refusal::Mismatch)),
            ScannedName::Text(name) if !(self.passes)(name) => Ok(Verdict::Refused(Refusal::Hidden)),
            ScannedName::Text(_) => Ok(Verdict::Passes),
        }
    }

    /// `method`, once met.
    pub fn method(&self) -> Option<&str> {
        self.scan.method()
    }

    /// The name of what is called, once met.
    pub fn name(&self) -> Option<&str> {
        match self.scan.name() {
            ScannedName::Text(name) => Some(name),
            ScannedName::Absent | ScannedName::Unreadable => None,
        }
    }

    /// `id`, once met.
    pub fn id(&self) -> Option<Id> {
        self.scan.id()
    }

    /// The JSON-RPC response to a refused request: what a server says that never had the tool. `None` for a hidden tool
    /// if no `id` was met: a notification, or one that did not get so far.
    pub fn answer(&self, refusal: Refusal) -> Option<String> {
        let id = self.scan.id().map(|id| id.to_string());
        let (id, code, message) = match (refusal, self.scan.name()) {
            (Refusal::Hidden, ScannedName::Text(name)) => {
                (id?, INVALID_PARAMS, format!("Unknown tool: {name}"))
            }
            (Refusal::Hidden, _) => (id?, INVALID_PARAMS, "Unknown tool".to_owned()),
            (Refusal::Mismatch, _) => (
                id.unwrap_or_else(|| "null".to_owned()),
                HEADER_MISMATCH,
                "Mcp-Method or Mcp-Name differs from the body".to_owned(),
            ),
        };
        Some(error_response(Some(id), code, &message, None))
    }
}

impl Declared {
    /// What the values of one header field declare.
    pub fn read<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => {
                header::decode(value).map_or(Self::Unreadable, |value| Self::Value(value.into()))
            }
            (Some(_), Some(_)) => Self::Unreadable,
        }
    }

    fn agrees(&self, said: &str) -> bool {
        match self {
            Self::Absent => true,
            Self::Value(declared) => **declared == *said,
            Self::Unreadable => false,
        }
    }
}

#[cfg(test)]
#[path = "tool_call_tests.rs"]
mod tests;
