//! A message that cannot be held or cannot be read, looked at as it passes: which request does it answer?
//!
//! The caller who asked for too much gets an error at once, in place of a time-out; and no one else is hurt, as they
//! would be if the process were ended for it. Some peers write the id first, some behind the result, so all of the line
//! is looked at: strings, brackets, and what is on the outermost level.

use super::message::{Id, Message};

/// The longest id that is looked for, in bytes.
const LONGEST_ID: usize = 128;
/// Most ids that are looked at in one message.
const MOST_IDS: usize = 4;

/// Whose answer a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// That of this request.
    Request(Id),
    /// It has several ids, and may be the answer to any of these requests.
    OneOf(Vec<Id>),
    /// Nobody's: it is a notification, or a request of the server's.
    Nobody,
    /// It may be anybody's.
    Unknown,
}

impl Answers {
    /// The ids that an answer has.
    pub fn ids(&self) -> &[Id] {
        match self {
            Self::Request(id) => std::slice::from_ref(id),
            Self::OneOf(ids) => ids,
            Self::Nobody | Self::Unknown => &[],
        }
    }

    /// Whether it may be the answer to this request and says so.
    pub fn names(&self, id: &Id) -> bool {
        self.ids().iter().any(|named| named.is_like(id))
    }
}

/// A message on its way past.
#[derive(Debug, Default)]
pub struct Oversize {
    length: u64,
    /// Brackets that are open.
    depth: u64,
    in_string: bool,
    escaped: bool,
    /// The name or value on the outermost level that is under way, cut where it is longer than any that counts.
    token: Vec<u8>,
    key: Key,
    /// JSON texts of `id`.
    ids: Vec<Vec<u8>>,
    has_method: bool,
    has_params: bool,
    /// It has a result or an error.
    has_outcome: bool,
    has_version: bool,
}

/// The key whose value is under way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    Id,
    Method,
}

impl Oversize {
    /// Looks at the next part of the message.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            if !self.in_string {
                self.between_strings(byte);
                continue;
            }
            self.keep(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                // Most of a long line is one long string.
                _ if self.depth != 1 || self.token.len() > LONGEST_ID => {
                    bytes = &bytes[memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len())..];
                }
                _ => {}
            }
        }
    }

    fn between_strings(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                if self.depth == 1 {
                    self.end_value();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => {
                // JSON has more than one spelling of a key, and some readers take any case of it.
                let escaped = memchr::memchr(b'\\', &self.token).is_some();
                let plain = escaped.then(|| serde_json::from_slice::<String>(&self.token).ok()).flatten();
                let quoted = self.token.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\""));
                let key = plain.as_ref().map_or(quoted.unwrap_or_default(), String::as_bytes);
                self.key = match key {
                    b"method" => Key::Method,
                    key if key.eq_ignore_ascii_case(b"id") => Key::Id,
                    _ => Key::Other,
                };
                self.has_method |= self.key == Key::Method;
                match key {
                    b"jsonrpc" => self.has_version = true,
                    b"params" => self.has_params = true,
                    b"result" | b"error" => self.has_outcome = true,
                    _ => {}
                }
                self.token.clear();
            }
            b',' if self.depth == 1 => self.end_value(),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() <= LONGEST_ID {
            self.token.push(byte);
        }
    }

    fn end_value(&mut self) {
        let value = std::mem::take(&mut self.token);
        match std::mem::take(&mut self.key) {
            Key::Id if value.len() <= LONGEST_ID && self.ids.len() < MOST_IDS => self.ids.push(value),
            // Some write down what they do not have.
            Key::Method if value == b"null" => self.has_method = false,
            Key::Id | Key::Method | Key::Other => {}
        }
    }

    /// Bytes of the message so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether its keys say that it was meant as a message. Log lines have results and errors, too: without a version, it
    /// takes an id to make an answer of them.
    pub fn is_message(&self) -> bool {
        self.has_version
            || self.has_method
            || self.has_outcome && self.ids.iter().any(|id| read(id).is_some())
    }

    /// The message is over: whose answer is it?
    pub fn end(self) -> Answers {
        if self.has_method {
            return Answers::Nobody;
        }
        let mut ids: Vec<Id> = Vec::new();
        for id in self.ids.iter().filter_map(|id| read(id)) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        match ids.len() {
            // No answer has parameters.
            0 if self.has_params => Answers::Nobody,
            0 => Answers::Unknown,
            1 => ids.pop().map_or(Answers::Unknown, Answers::Request),
            _ => Answers::OneOf(ids),
        }
    }
}

/// Reads an id as it is read of any other response.
fn read(id: &[u8]) -> Option<Id> {
    let text = [br#"{"id":"#, id, br#","result":0}"#].concat();
    Message::from_server(text.into()).ok()?.id().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(line: &str) -> Answers {
        let mut whole = Oversize::default();
        whole.push(line.as_bytes());
        let mut bytewise = Oversize::default();
        line.as_bytes().chunks(1).for_each(|byte| bytewise.push(byte));
        assert_eq!((whole.length(), bytewise.length()), (line.len() as u64, line.len() as u64));
        let answers = whole.end();
        assert_eq!(answers, bytewise.end());
        answers
    }

    #[test]
    fn the_id_of_a_response_is_found_wherever_it_stands() {
        let id = Answers::Request(Id::number(7));
        assert_eq!(answers(r#"{"jsonrpc":"2.0","id":7,"result":{"id":1}}"#), id);
        assert_eq!(answers(r#"{"result":["}{\"id\":1,",{"id":2}],"jsonrpc":"2.0", "id" : 7 }"#), id);
        assert_eq!(answers(r#"{"error":{"message":"\\","id":"]"},"id":7}"#), id);
        assert_eq!(answers(r#"{"id":"a\"b,}","result":1}"#), Answers::Request(Id::String("a\"b,}".into())));
        let long = format!(r#"{{"{0}":"{0}","id":7,"result":"{0}"}}"#, "x".repeat(500));
        assert_eq!(answers(&long), id);
    }

    #[test]
    fn several_ids_are_all_found_and_the_same_twice_is_one() {
        assert_eq!(answers(r#"{"id":7,"id":7,"result":0}"#), Answers::Request(Id::number(7)));
        let both = answers(r#"{"id":7,"result":0,"id":"8"}"#);
        assert_eq!(both, Answers::OneOf(vec![Id::number(7), Id::String("8".into())]));
        assert!(both.names(&Id::number(7)) && both.names(&Id::number(8)) && !both.names(&Id::number(9)));
    }

    #[test]
    fn a_result_or_an_error_alone_makes_no_message() {
        for (line, is_message) in [
            (r#"{"level":"info","result":ok}"#, false),
            (r#"{"level":"info","error":ok,"id":null}"#, false),
            (r#"{"level":"info","params":{},"x":ok}"#, false),
            (r#"{"jsonrpc":"2.0","x":ok}"#, true),
            (r#"{"result":ok,"id":7}"#, true),
            (r#"{"error":ok,"id":"a"}"#, true),
            (r#"{"method":"x","params":ok}"#, true),
        ] {
            let mut passing = Oversize::default();
            passing.push(line.as_bytes());
            assert_eq!(passing.is_message(), is_message, "{line}");
        }
        assert_eq!(answers(r#"{"jsonrpc":"2.0","params":{"x":ok}}"#), Answers::Nobody);
    }

    #[test]
    fn what_is_no_response_answers_nothing() {
        for line in
            [r#"{"id":7,"method":"sampling/createMessage","params":{}}"#, r#"{"params":{},"method":"x"}"#]
        {
            assert_eq!(answers(line), Answers::Nobody, "{line}");
        }
        for line in [
            r#"{"result":{"id":7}}"#,
            r#"{"id":null,"error":{}}"#,
            r#"{"id":{"id":7},"result":0}"#,
            r#"[{"id":7,"result":0}]"#,
            "id: 7",
            "\"id\":7",
            "}}}}",
            "\"",
            "",
        ] {
            assert_eq!(answers(line), Answers::Unknown, "{line}");
        }
        assert_eq!(
            answers(&format!(r#"{{"id":"{}","result":0}}"#, "x".repeat(LONGEST_ID))),
            Answers::Unknown
        );
    }
}
