//! What a request says it is, found while its body streams by.
//!
//! Servers do not agree on what an odd message means: of two equal keys some take the first and some the last, and some
//! (Go's `encoding/json`, .NET's web defaults) match keys without regard to case. A decision about `method` and
//! `params.name` holds only if it is the server's reading too. So each key that is decided on may come once, in whatever
//! spelling, escaped or not; everything else about the text must be plain JSON (see [`walk`](super::walk)).

use super::{
    message::{Id, Malformed},
    walk::{Value, Visit, Walk},
};

/// A scan over one message.
pub struct Scan(Walk<Fields>);

/// `params.name`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Name {
    /// Not met so far.
    #[default]
    Absent,
    /// A string.
    Text(Box<str>),
    /// No string, or one that parsers do not agree on, or one longer than [`MAX_TEXT`](super::walk::MAX_TEXT).
    Unreadable,
}

#[derive(Default)]
struct Fields {
    method: Option<Box<str>>,
    name: Name,
    id: Option<Id>,
    /// The member of the outermost object that is being read.
    top: Option<Top>,
    /// Which of [`Top::ALL`] were met.
    met: [bool; Top::ALL.len()],
    met_name: bool,
    /// The value that comes next is `params.name`.
    at_name: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Top {
    Method,
    Params,
    Id,
    Version,
}

impl Top {
    const ALL: [(&'static str, Self); 4] =
        [("method", Self::Method), ("params", Self::Params), ("id", Self::Id), ("jsonrpc", Self::Version)];
}

impl Default for Scan {
    fn default() -> Self {
        Self(Walk::new(Fields::default()))
    }
}

impl Scan {
    /// Takes what comes next. After an error the message must go no further.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.0.push(bytes)
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
        self.0.visitor.method.as_deref()
    }

    /// `params.name`
    pub fn name(&self) -> &Name {
        &self.0.visitor.name
    }

    /// `id`, once met, if it is a string or a number.
    pub fn id(&self) -> Option<&Id> {
        self.0.visitor.id.as_ref()
    }
}

impl Visit for Fields {
    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed> {
        if depth == 1 {
            let key = key.ok_or(Malformed::Json)?;
            let known = Top::ALL.iter().position(|(name, _)| is_spelling_of(key, name));
            self.top = known.map(|at| Top::ALL[at].1);
            match known {
                Some(at) if std::mem::replace(&mut self.met[at], true) => return Err(Malformed::Json),
                _ => {}
            }
        } else if self.top == Some(Top::Params) {
            let key = key.ok_or(Malformed::Json)?;
            self.at_name = is_spelling_of(key, "name");
            if self.at_name && std::mem::replace(&mut self.met_name, true) {
                return Err(Malformed::Json);
            }
        }
        Ok(())
    }

    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed> {
        match (depth, self.top, value) {
            (0, _, Value::Object) => {}
            (0, _, _) => return Err(Malformed::NotAnObject),
            (1, Some(Top::Method), Value::String(method)) => {
                self.method = Some(method.ok_or(Malformed::Json)?.into());
            }
            (1, Some(Top::Method), _) => return Err(Malformed::NotJsonRpc),
            (1, Some(Top::Id), Value::String(Some(id))) => self.id = Some(Id::String(id.into())),
            (1, Some(Top::Id), Value::Number(Some(id))) => self.id = Some(Id::Number(id.into())),
            (2, Some(Top::Params), value) if std::mem::take(&mut self.at_name) => {
                self.name = match value {
                    Value::String(Some(name)) => Name::Text(name.into()),
                    _ => Name::Unreadable,
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether some server takes `key` for `name`. Upper case first, as there are letters that only have that in common: the
/// dotless i and the long s.
pub(super) fn is_spelling_of(key: &str, name: &str) -> bool {
    key.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).eq(name.chars())
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
