//! What a server wrote where a message belongs: a message, several, one that cannot be read, or none at all.
//!
//! Real servers write more than messages: a byte order mark, control sequences for a terminal, lines of a log, heartbeats,
//! text in Latin-1. What is no message is ignored. What was meant as one and cannot be read may be an answer: then
//! its request fails, at once and alone.

use bytes::Bytes;

use crate::mcp::{
    message::{Malformed, Message},
    oversize::{Answers, Oversize},
    sse::endpoint::BYTE_ORDER_MARK,
};

/// What a text of a server's comes to.
#[derive(Debug)]
pub enum ServerOutput {
    /// A message.
    Message(Message),
    /// Several in one array (MCP 2025-03-26, "Batching").
    Batch(Batch),
    /// It was meant as a message, and cannot be read.
    Unreadable {
        /// Whose answer it was.
        answers: Answers,
        /// What is wrong with it.
        why: Malformed,
    },
    /// It is no message, and was not meant as one.
    Noise(Malformed),
}

impl ServerOutput {
    /// Reads what a server wrote.
    pub fn read(text: Bytes) -> Self {
        let (text, why) = match Message::from_server_or_text(text) {
            Ok(message) => return Self::Message(message),
            Err(not) => not,
        };
        let bare = bare(&text);
        match bare {
            [b'[', elements @ ..] if elements.trim_ascii_start().first() == Some(&b'{') => {
                Self::Batch(Batch { rest: text.slice_ref(elements) })
            }
            [b'{', ..] if bare.len() < text.len() => Self::object(text.slice_ref(bare)),
            _ => Self::unreadable(bare, why),
        }
    }

    fn object(text: Bytes) -> Self {
        match Message::from_server_or_text(text) {
            Ok(message) => Self::Message(message),
            Err((text, why)) => Self::unreadable(&text, why),
        }
    }

    fn unreadable(text: &[u8], why: Malformed) -> Self {
        if text.first() != Some(&b'{') {
            return Self::Noise(why);
        }
        let mut passing = Oversize::default();
        passing.push(text);
        match passing.is_message() {
            true => Self::Unreadable { answers: passing.end(), why },
            false => Self::Noise(why),
        }
    }
}

/// The messages of an array, of which each is read by itself: one that cannot be read is no reason to lose the others.
#[derive(Debug)]
pub struct Batch {
    rest: Bytes,
}

impl Iterator for Batch {
    type Item = ServerOutput;

    fn next(&mut self) -> Option<ServerOutput> {
        let start = self.rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
        let rest = &self.rest[start..];
        if rest[0] == b']' {
            self.rest = Bytes::new();
            return None;
        }
        let element = rest[..end_of_element(rest)].trim_ascii_end();
        let behind = start + element.len();
        // A copy: one message must not keep the array in memory.
        let element = Bytes::copy_from_slice(element);
        self.rest = self.rest.split_off(behind);
        Some(ServerOutput::object(element))
    }
}

/// Where the first element of what is left of an array ends.
fn end_of_element(text: &[u8]) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b',' | b']' if depth == 0 => return at,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
}

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// The text without what a terminal or an editor would not show in front of it and behind it.
fn bare(text: &[u8]) -> &[u8] {
    let mut bare = text;
    while let Some(length) = invisible(bare) {
        bare = &bare[length..];
    }
    // JSON has no ESC, so a sequence behind a message begins with the first.
    let end = memchr::memchr(ESCAPE, bare).unwrap_or(bare.len());
    let mut behind = &bare[end..];
    while let Some(length) = invisible(behind) {
        behind = &behind[length..];
    }
    let end = if behind.is_empty() { end } else { bare.len() };
    let shown = bare[..end].iter().rposition(|byte| !is_control(*byte)).map_or(0, |last| last + 1);
    &bare[..shown]
}

fn is_control(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// Length of the byte order mark, the control sequence (ECMA-48, section 5) or the control character at the front.
fn invisible(text: &[u8]) -> Option<usize> {
    if text.starts_with(BYTE_ORDER_MARK) {
        return Some(BYTE_ORDER_MARK.len());
    }
    let &[first, ref rest @ ..] = text else { return None };
    if first != ESCAPE {
        return is_control(first).then_some(1);
    }
    let length = match rest.first() {
        None => 0,
        // Parameters and intermediate bytes, then one that ends it.
        Some(b'[') => {
            let inner = rest[1..].iter().take_while(|byte| (0x20..=0x3f).contains(*byte)).count();
            (inner + 2).min(rest.len())
        }
        // A string, up to BEL or ESC \.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = memchr::memchr2(BELL, ESCAPE, rest)?;
            end + 1 + usize::from(rest[end] == ESCAPE && rest.get(end + 1) == Some(&b'\\'))
        }
        Some(_) => {
            let inner = rest.iter().take_while(|byte| (0x20..=0x2f).contains(*byte)).count();
            (inner + 1).min(rest.len())
        }
    };
    Some(1 + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::Id;

    fn read(text: &[u8]) -> ServerOutput {
        ServerOutput::read(Bytes::copy_from_slice(text))
    }

    /// The id of the response that was read, as it is written.
    fn answered(incoming: ServerOutput) -> String {
        let ServerOutput::Message(message) = incoming else { panic!("{incoming:?}") };
        message.id().unwrap().to_string()
    }

    fn lost(incoming: ServerOutput) -> Answers {
        let ServerOutput::Unreadable { answers, .. } = incoming else { panic!("{incoming:?}") };
        answers
    }

    #[test]
    fn what_a_terminal_does_not_show_is_no_part_of_a_message() {
        let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"text":"]\u001b"}}"#;
        for around in [
            "\u{feff}@",
            "\u{1b}]0;a title\u{7}@",
            "\u{1b}]0;a {title}\u{1b}\\@",
            "\u{1b}[?25l\u{1b}[2K\u{1b}[1;31m@\u{1b}[0m",
            "\u{1b}(B\u{1b}=@",
            "\r\n\0\u{8}\u{feff} @\r",
            "@\u{1b}]0;{}\u{7}",
        ] {
            assert_eq!(answered(read(around.replace('@', answer).as_bytes())), "7", "{around:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_known_by_its_id() {
        let seven = Answers::Request(Id::number(7));
        for text in [
            &b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"text\":\"caf\xe9\"}}"[..],
            b"{\"result\":{\"text\":\"caf\xe9\"},\"id\":7,\"jsonrpc\":\"2.0\"}",
            b"\x1b[0m{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":NaN}",
            b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[{\"text\":\"cut o",
            b"{\"jsonrpc\":\"2.0\",\"id\":7}",
            b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}{\"jsonrpc\":\"2.0\"",
        ] {
            assert_eq!(lost(read(text)), seven, "{}", text.escape_ascii());
        }
        assert_eq!(lost(read(b"{\"method\":\"x\",\"params\":\"\xe9\"}")), Answers::Nobody);
        assert_eq!(lost(read(b"{\"jsonrpc\":\"2.0\",\"result\":\"\xe9")), Answers::Unknown);
    }

    #[test]
    fn what_was_not_meant_as_a_message_is_none() {
        for text in [
            "",
            "ping",
            "[INFO] ready",
            "[]",
            "[1,{}]",
            r#"DEBUG sent {"jsonrpc":"2.0","id":7,"result":{}}"#,
            r#"{"type":"heartbeat"}"#,
            r#"{"level":"info","id":7,"msg":"ready"}"#,
            "{ id: 7, result: 'x' }",
            "{'id': 7, 'result': 1}",
            "{",
            "\"",
            "null",
            "\u{1b}]0;a title without an end",
            "\u{1b}[",
            "\u{1b}",
        ] {
            let read = read(text.as_bytes());
            assert!(matches!(read, ServerOutput::Noise(_)), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn a_batch_is_taken_apart_and_what_is_broken_of_it_is_lost_alone() {
        let batch =
            b"\xef\xbb\xbf[ {\"id\":1,\"result\":{\"x\":\"],\\\"\"}} ,{\"id\":2,\"result\":\"\xe9\"},\
            7, [{\"id\":8,\"result\":0}], {\"method\":\"m\"} ]";
        let ServerOutput::Batch(batch) = read(batch) else { panic!("no batch") };
        let read: Vec<_> = batch.collect();
        assert_eq!(read.len(), 5, "{read:?}");
        let mut read = read.into_iter();
        assert_eq!(answered(read.next().unwrap()), "1");
        assert_eq!(lost(read.next().unwrap()), Answers::Request(Id::number(2)));
        assert!(read.by_ref().take(2).all(|noise| matches!(noise, ServerOutput::Noise(_))));
        assert!(matches!(read.next(), Some(ServerOutput::Message(message)) if message.method() == "m"));
        // Cut off.
        let ServerOutput::Batch(cut) = self::read(b"[{\"id\":1,\"result\":0},{\"id\":2,\"result\":") else {
            panic!()
        };
        assert_eq!(cut.count(), 2);
    }
}
