//! Event streams, read and written: what carries messages over HTTP.
//!
//! The format is that of WHATWG HTML, section 9.2.6. Sans-io: bytes in, events out. A stream that only passes is not read
//! like this but left alone, or has one event replaced ([`super::endpoint`]).

use std::{mem, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use memchr::memchr;

use crate::ledger::{Limit, Share};
use crate::mcp::{
    message::{MAX_MESSAGE, Message},
    oversize::{Answers, Oversize},
    sse::{
        endpoint::BYTE_ORDER_MARK,
        lines::{Cut, LineCutter},
    },
};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// `event`; empty is the same as `message`.
    pub name: Bytes,
    /// `data`; its lines are joined by LF. May be empty.
    pub data: Bytes,
}

impl SseEvent {
    /// Whether it carries a message: it has the default name, and is not one of those that only set an id (MCP 2025-11-25).
    pub fn is_message(&self) -> bool {
        (self.name.is_empty() || self.name == "message") && !self.data.is_empty()
    }
}

/// An event that was not held: of more than [`MAX_MESSAGE`] bytes, or [given up](EventReader::give_up). It is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedEvent {
    /// Whose answer it is.
    pub answers: Answers,
    /// What there was not enough of; else it was too large.
    pub given_up: Option<Limit>,
}

/// Reads the events of one stream.
///
/// ```
/// # use sluicegate::mcp::sse::reader::EventReader;
/// let mut reader = EventReader::default();
/// reader.push("id: 7\ndata: {}\n\n: still he".into());
/// assert_eq!(reader.next().unwrap().unwrap().data, "{}");
/// assert_eq!(reader.next(), Ok(None));
/// assert_eq!(reader.last_id(), Some(&b"7"[..]));
/// ```
#[derive(Debug, Default)]
pub struct EventReader {
    /// Not read yet.
    chunk: Bytes,
    /// Beginning of a line whose end is not here yet.
    line: BytesMut,
    /// A line was read, so that none can open with a byte order mark any more.
    begun: bool,
    lines: LineCutter,
    name: Bytes,
    data: Data,
    /// Of the event that is being read; counts only once that is complete.
    id: Bytes,
    last_id: Bytes,
    retry: Option<Duration>,
    /// An event that is not held, on its way past.
    passing: Option<Box<SkippingEvent>>,
}

/// An event that is not held, on its way past.
#[derive(Debug, Default)]
struct SkippingEvent {
    message: Oversize,
    given_up: Option<Limit>,
    /// The line that is under way.
    line: SkippingLine,
}

/// A line of which no more is kept than tells which field it is.
#[derive(Debug)]
enum SkippingLine {
    /// So much of it is here.
    Begins(Vec<u8>),
    Data,
    Other,
}

impl Default for SkippingLine {
    fn default() -> Self {
        Self::Begins(Vec::new())
    }
}

impl SkippingEvent {
    /// The next part of the line that is under way.
    fn push(&mut self, part: &[u8]) {
        const DATA: &[u8] = b"data:";
        match &mut self.line {
            SkippingLine::Data => self.message.push(part),
            SkippingLine::Other => {}
            SkippingLine::Begins(head) => {
                let (more, rest) = part.split_at((DATA.len() - head.len()).min(part.len()));
                head.extend_from_slice(more);
                if !DATA.starts_with(head) {
                    self.line = SkippingLine::Other;
                } else if head.len() == DATA.len() {
                    self.line = SkippingLine::Data;
                    // A space that may be here is none of a string's.
                    self.message.push(rest);
                }
            }
        }
    }

    /// The end of that line. Says whether it was empty, and with it the event over.
    fn end_line(&mut self) -> bool {
        matches!(std::mem::take(&mut self.line), SkippingLine::Begins(head) if head.is_empty())
    }
}

/// The `data` of the current event.
#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    /// As nearly always: a slice of what was read.
    Line(Bytes),
    Lines(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Line(line) => line.len(),
            Self::Lines(lines) => lines.len(),
        }
    }

    fn push(&mut self, line: Bytes) {
        let mut lines = match mem::take(self) {
            Self::None => {
                *self = Self::Line(line);
                return;
            }
            Self::Line(first) => BytesMut::from(first),
            Self::Lines(lines) => lines,
        };
        lines.extend_from_slice(b"\n");
        lines.extend_from_slice(&line);
        *self = Self::Lines(lines);
    }
}

impl EventReader {
    /// Takes what came next. Call [`next`](Self::next) until there is no more before the next chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut both = BytesMut::from(mem::take(&mut self.chunk));
            both.extend_from_slice(&chunk);
            self.chunk = both.freeze();
        }
    }

    /// The next event that is here completely. How the stream was cut into chunks makes no difference.
    #[expect(clippy::should_implement_trait, reason = "an iterator would be over when more is to come")]
    pub fn next(&mut self) -> Result<Option<SseEvent>, SkippedEvent> {
        loop {
            if self.passing.is_some() {
                return self.pass().map_or(Ok(None), Err);
            }
            let Some(line) = self.next_line() else {
                if self.passing.is_some() {
                    continue;
                }
                return Ok(None);
            };
            if !line.is_empty() {
                self.read_field(&line);
                continue;
            }
            // The id counts even if there is no data, and so no event (9.2.6).
            self.last_id = self.id.clone();
            let name = mem::take(&mut self.name);
            match mem::take(&mut self.data) {
                Data::None => {}
                Data::Line(data) => return Ok(Some(SseEvent { name, data })),
                Data::Lines(data) => return Ok(Some(SseEvent { name, data: data.freeze() })),
            }
        }
    }

    /// Holds no more of the event that is not complete. To be called when [`next`](Self::next) has no more.
    pub fn give_up(&mut self, limit: Limit) {
        if self.passing.is_none() {
            self.let_pass(Some(limit));
        }
    }

    /// Whether an event that is not held is on its way past.
    pub fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    fn let_pass(&mut self, given_up: Option<Limit>) {
        let mut passing = Box::new(SkippingEvent { given_up, ..SkippingEvent::default() });
        match mem::take(&mut self.data) {
            Data::None => {}
            Data::Line(data) => passing.message.push(&data),
            Data::Lines(data) => passing.message.push(&data),
        }
        passing.push(&mem::take(&mut self.line));
        self.passing = Some(passing);
    }

    /// Goes on in an event that is not held; `Some` at its end.
    fn pass(&mut self) -> Option<SkippedEvent> {
        loop {
            let passing = self.passing.as_mut()?;
            let end = match self.lines.cut(&self.chunk) {
                Some(Cut::Line(end)) => end,
                Some(Cut::LineFeed) => {
                    self.chunk.advance(1);
                    continue;
                }
                Some(Cut::Part) | None => {
                    passing.push(&mem::take(&mut self.chunk));
                    return None;
                }
            };
            passing.push(&self.chunk.split_to(end));
            self.chunk.advance(1);
            self.begun = true;
            if passing.end_line() {
                self.last_id = self.id.clone();
                self.name = Bytes::new();
                let SkippingEvent { message, given_up, .. } = *self.passing.take()?;
                return Some(SkippedEvent { answers: message.end(), given_up });
            }
        }
    }

    /// Bytes that are held, because the event that they belong to is not complete.
    pub fn held(&self) -> usize {
        self.chunk.len() + self.line.len() + self.data.len()
    }

    /// Where the stream can be taken up again: the id of the last complete event that had one.
    pub fn last_id(&self) -> Option<&[u8]> {
        (!self.last_id.is_empty()).then_some(&*self.last_id)
    }

    /// How long the server asks to wait before the stream is taken up again.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The next complete line, without its end. If there is none, the event may have become too large to be held.
    fn next_line(&mut self) -> Option<Bytes> {
        let end = loop {
            match self.lines.cut(&self.chunk) {
                Some(Cut::Line(end)) => break end,
                Some(Cut::LineFeed) => self.chunk.advance(1),
                Some(Cut::Part) | None => {
                    if self.line.len() + self.chunk.len() + self.data.len() > MAX_MESSAGE {
                        self.let_pass(None);
                    } else {
                        self.line.extend_from_slice(&mem::take(&mut self.chunk));
                    }
                    return None;
                }
            }
        };
        let rest = self.chunk.split_to(end);
        self.chunk.advance(1);
        let mut line = if self.line.is_empty() {
            rest
        } else {
            self.line.extend_from_slice(&rest);
            mem::take(&mut self.line).freeze()
        };
        if !mem::replace(&mut self.begun, true) && line.starts_with(BYTE_ORDER_MARK) {
            drop(line.split_to(BYTE_ORDER_MARK.len()));
        }
        Some(line)
    }

    fn read_field(&mut self, line: &Bytes) {
        let (name, value) = match memchr(b':', line) {
            Some(colon) => {
                let space = usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], line.slice(colon + 1 + space..))
            }
            None => (&line[..], Bytes::new()),
        };
        match name {
            b"data" => {
                if self.data.len() + value.len() < MAX_MESSAGE {
                    self.data.push(value);
                } else {
                    self.let_pass(None);
                    if let Some(passing) = &mut self.passing {
                        passing.message.push(&value);
                    }
                }
            }
            b"event" => self.name = value,
            b"id" if memchr(0, &value).is_none() => self.id = value,
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let milliseconds = std::str::from_utf8(&value).ok().and_then(|digits| digits.parse().ok());
                self.retry = milliseconds.map(Duration::from_millis).or(self.retry);
            }
            _ => {}
        }
    }
}

/// The event that carries `message`.
pub fn event(message: &Message) -> Bytes {
    event_after(b"", message)
}

/// The same, with these lines in front.
pub fn event_after(lines: &[u8], message: &Message) -> Bytes {
    let line = message.line();
    let parts = [lines, b"event: message\ndata: ", &line, b"\n\n"];
    let mut event = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        event.extend_from_slice(part);
    }
    match message.held() {
        Some(held) => Share::of_bytes(&held, event.freeze()),
        None => event.freeze(),
    }
}

const JSON: &[u8] = b"application/json";
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a body is `text/event-stream` to whoever reads it, whatever its parameters.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    is_of_type(headers, EVENT_STREAM)
}

/// Whether a body is `application/json` to whoever reads it, whatever its parameters.
pub fn is_json(headers: &HeaderMap) -> bool {
    is_of_type(headers, JSON)
}

/// Whether the only `Content-Type` of a body is one that MCP has: `application/json` or `text/event-stream`.
pub fn is_mcp_type(content_type: &HeaderValue) -> bool {
    let value = content_type.as_bytes();
    has_essence(value, JSON) || has_essence(value, EVENT_STREAM)
}

fn is_of_type(headers: &HeaderMap, essence: &[u8]) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    // Of several types, in fields or in a list, some take the first and browsers the last (WHATWG Fetch, "extract a MIME
    // type").
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    has_essence(value, essence)
}

fn has_essence(value: &[u8], essence: &[u8]) -> bool {
    value.get(..essence.len()).is_some_and(|start| start.eq_ignore_ascii_case(essence))
        && value.get(essence.len()).is_none_or(|next| matches!(next, b';' | b' ' | b'\t'))
        && memchr(b',', value).is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mcp::message::Id;

    /// Name, data, last id.
    type Read = (String, String, Option<Vec<u8>>);

    /// Events of a stream in these pieces.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Read>, SkippedEvent> {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        for piece in pieces {
            reader.push(Bytes::copy_from_slice(piece));
            while let Some(SseEvent { name, data }) = reader.next()? {
                events.push((text(name), text(data), reader.last_id().map(<[u8]>::to_vec)));
            }
        }
        Ok(events)
    }

    fn event(name: &str, data: &str, id: Option<&str>) -> Read {
        (name.into(), data.into(), id.map(|id| id.as_bytes().to_vec()))
    }

    #[test]
    fn events_are_read_by_the_rules_of_the_format_wherever_they_are_cut() {
        let stream = "\u{feff}event: endpoint\ndata: /m?s=1\n\n\
             : ping\n\n\
             id: 1\r\ndata:first\r\ndata:  second\r\n\r\n\
             data\rid\revent:x\r\r\
             retry: 20\nid: a\0b\nid: 2\n\n\
             unknown: x\ndata: \u{e9}\n\n\
             data: cut off";
        let expected = [
            event("endpoint", "/m?s=1", None),
            event("", "first\n second", Some("1")),
            event("x", "", None),
            event("", "é", Some("2")),
        ];
        assert_eq!(read([stream.as_bytes()]).unwrap(), expected);
        assert_eq!(read(stream.as_bytes().chunks(1)).unwrap(), expected);
        for cut in 0..stream.len() {
            let (a, b) = stream.as_bytes().split_at(cut);
            assert_eq!(read([a, b]).unwrap(), expected, "{cut}");
        }
    }

    #[test]
    fn an_event_is_there_as_soon_as_its_last_line_ends() {
        assert_eq!(read([b"data: x\r\n\r".as_slice()]).unwrap(), [event("", "x", None)]);
        assert_eq!(read([b"data: x\r\n".as_slice()]).unwrap(), []);
    }

    #[test]
    fn the_time_to_wait_is_digits_only() {
        let mut reader = EventReader::default();
        for (text, retry) in [
            ("retry: 1500\n", Some(1500)),
            ("retry: 1 s\nretry:\nretry: -1\nretry: 99999999999999999999\n", Some(1500)),
            ("retry: 0\n", Some(0)),
        ] {
            reader.push(text.into());
            assert_eq!(reader.next(), Ok(None));
            assert_eq!(reader.retry(), retry.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn an_event_beyond_the_limit_is_not_held_but_known_by_its_id_and_others_follow() {
        let long = "x".repeat(MAX_MESSAGE);
        let answers = Answers::Request(Id::number(7));
        let passed = Err(SkippedEvent { answers: answers.clone(), given_up: None });
        for event in [
            format!("data: {{\"result\":\"{long}\",\"id\":7}}\n\n"),
            format!("event: message\r\ndata:{{\"id\":7,\r\nid: 1\r\ndata: \"result\":\"{long}\"}}\r\n\r\n"),
            format!(
                "data: {{\"id\":7,\"result\":[0\n{}data: ]}}\n\n",
                "data: ,123456789\n".repeat(MAX_MESSAGE / 10)
            ),
        ] {
            for size in [30_000, event.len()] {
                let mut reader = EventReader::default();
                let mut found = Vec::new();
                for chunk in event.as_bytes().chunks(size) {
                    reader.push(Bytes::copy_from_slice(chunk));
                    match reader.next() {
                        Ok(None) => {}
                        other => found.push(other),
                    }
                    assert!(reader.held() <= MAX_MESSAGE);
                }
                assert_eq!(found, std::slice::from_ref(&passed));
                assert!(reader.held() <= 1, "the rest of a line end");
                reader.push("data: after\n\n".into());
                assert_eq!(reader.next().unwrap().unwrap().data, "after");
            }
        }
        let given_up = Some(Limit::Caller);
        let small = "data: {\"result\":{},\ndata: \"id\":7}\n\n";
        for cut in 1..small.len() - 1 {
            let mut reader = EventReader::default();
            reader.push(Bytes::copy_from_slice(&small.as_bytes()[..cut]));
            assert_eq!(reader.next(), Ok(None));
            reader.give_up(Limit::Caller);
            assert_eq!(reader.held(), 0);
            reader.push(Bytes::copy_from_slice(&small.as_bytes()[cut..]));
            assert_eq!(reader.next(), Err(SkippedEvent { answers: answers.clone(), given_up }), "{cut}");
            reader.push("data: after\n\n".into());
            assert_eq!(reader.next().unwrap().unwrap().data, "after");
        }
        // Comments add up to nothing.
        let comments = ": 0123456789abcdef\n".repeat(MAX_MESSAGE / 16);
        assert_eq!(read(comments.as_bytes().chunks(30_000)), Ok(Vec::new()));
        let fits = format!("data: {}\n\n", "x".repeat(MAX_MESSAGE - 100));
        assert_eq!(read(fits.as_bytes().chunks(30_000)).unwrap()[0].1.len(), MAX_MESSAGE - 100);
    }

    #[test]
    fn a_message_is_written_as_one_event_on_one_line() {
        let message = Message::parse("{\r\n\"id\":1,\n\"result\":{}}\n".into()).unwrap();
        let written = crate::mcp::sse::reader::event(&message);
        assert_eq!(written, "event: message\ndata: {  \"id\":1, \"result\":{}} \n\n");
        let read = read([&written[..]]).unwrap();
        assert!(Message::parse(read[0].1.clone().into()).is_ok());
    }

    #[test]
    fn media_types_are_told_whatever_their_case_and_parameters() {
        let of = |value: &'static str| {
            HeaderMap::from_iter([(header::CONTENT_TYPE, http::HeaderValue::from_static(value))])
        };
        assert!(is_event_stream(&of("Text/Event-Stream; charset=utf-8")));
        assert!(!is_event_stream(&of("text/event-streams")));
        assert!(is_json(&of("application/json")) && !is_json(&of("application/json-seq")));
        assert!(!is_json(&HeaderMap::new()));
        assert!(
            !is_json(&of("application/json, text/html")) && !is_json(&of("application/json;a=b, text/html"))
        );
        let mut twice = of("application/json");
        twice.append(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        assert!(!is_json(&twice));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(lines in prop::collection::vec("(data|id|event|retry|)(:| |)[a-z\u{e9} ]{0,4}(\n|\r|\r\n)", 0..12), cuts in prop::collection::vec(0usize..100, 0..6)) {
            let stream = lines.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
            prop_assert_eq!(read(pieces).unwrap(), read([&stream[..]]).unwrap());
        }
    }
}
