//! Takes the hidden tools out of an event stream.
//!
//! Of each event, what is before its first `data` line passes at once; from there on it is held to its end, because
//! only then is known whether it is a response that lists tools. Events that are none leave as they came, byte for byte.
//! One that a client may take for a list, and that cannot be read, ends the stream. So does a line that is no field of the
//! format, or that has what some clients take for a line end: they may find data there.
//!
//! Line rules are those of the event stream format (WHATWG HTML, section 9.2.6). Sans-io: bytes in, bytes out.

use std::{borrow::Cow, mem, ops::Range};

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

use crate::mcp::{
    sse::{
        endpoint::BYTE_ORDER_MARK,
        endpoint_guard::ends_line,
        lines::{Cut, LineCutter},
    },
    tool_list::{Inspector, ListError, ListFinding, MAX_HELD, may_hold_result, shortened},
};

/// Filters one stream.
///
/// An event that the end of the stream cuts off is discarded by clients, so nothing is lost with what is held then.
pub struct ListEvents<F> {
    passes: F,
    /// What was read and not yet let go: the current event from its first `data` line on, then the current line.
    held: BytesMut,
    /// Where the current line starts in `held`.
    line: usize,
    /// What the current line is, as far as it was read.
    field: Field,
    /// The current line has a byte.
    has_content: bool,
    /// The last two bytes of the current line, if that has no data.
    last: [u8; 2],
    /// No line was read yet, so the current one may open with a byte order mark.
    first_line: bool,
    lines: LineCutter,
    /// What the data of the current event is seen to be; `None` before its first `data` line.
    event: Option<Inspector>,
    /// The current event lists no tools so far, and is so large that it is no longer held. Should it turn out to be something
    /// else, it is broken off before its end, and clients discard it.
    is_large: bool,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// Too little of it was read.
    Open,
    /// `data`
    Data,
    /// Another field, a comment, or nothing.
    Other,
}

impl<F: Fn(&str) -> bool> ListEvents<F> {
    /// For one stream.
    pub fn new(passes: F) -> Self {
        Self {
            passes,
            held: BytesMut::new(),
            line: 0,
            field: Field::Open,
            has_content: false,
            last: [0; 2],
            first_line: true,
            lines: LineCutter::default(),
            event: None,
            is_large: false,
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes what the server sent and returns what can go to the client now, which may be nothing. How the stream is cut
    /// into pieces does not change the bytes that go out. After an error the stream must be closed.
    pub fn push(&mut self, piece: &[u8]) -> Result<Bytes, ListError> {
        let mut out = BytesMut::new();
        let mut rest = piece;
        while let Some(cut) = self.lines.cut(rest) {
            let (taken, left) = rest.split_at(cut.len(rest));
            rest = left;
            self.held.extend_from_slice(taken);
            let content = match cut {
                Cut::Part => taken,
                Cut::Line(end) => &taken[..end],
                Cut::LineFeed => {
                    self.line = self.held.len();
                    self.let_go(&mut out);
                    continue;
                }
            };
            self.has_content |= !content.is_empty();
            let is_whole = cut != Cut::Part;
            self.look_at(content, is_whole)?;
            if is_whole {
                self.end_line(&mut out)?;
            }
            self.bound(&mut out)?;
        }
        Ok(out.freeze())
    }

    /// Looks at `content`, which came last of the current line.
    fn look_at(&mut self, content: &[u8], is_whole: bool) -> Result<(), ListError> {
        match (self.field, &mut self.event) {
            (Field::Other, _) => one_line(&mut self.last, content)?,
            (Field::Data, Some(inspector)) => inspector.push(content),
            (Field::Data | Field::Open, _) => {
                let line = &self.held[self.line..self.held.len() - usize::from(is_whole)];
                let line = if self.first_line { without_mark(line, is_whole) } else { Some(line) };
                let (field, value) =
                    line.map_or(Ok((Field::Open, &[][..])), |line| decided(line, is_whole))?;
                self.field = field;
                if let (Field::Other, Some(line)) = (field, line) {
                    self.last = [0; 2];
                    one_line(&mut self.last, line)?;
                }
                if field == Field::Data {
                    match &mut self.event {
                        // The lines of an event's data are joined by LF.
                        Some(inspector) => inspector.push(b"\n"),
                        None => self.event = Some(Inspector::default()),
                    }
                    if let Some(inspector) = &mut self.event {
                        inspector.push(value);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the current line, whose last byte in `held` is its line end (of CRLF, the CR).
    fn end_line(&mut self, out: &mut BytesMut) -> Result<(), ListError> {
        if !mem::take(&mut self.has_content)
            && let Some(inspector) = self.event.take()
        {
            self.end_event(&inspector, out)?;
        }
        self.first_line = false;
        self.field = Field::Open;
        self.line = self.held.len();
        self.let_go(out);
        Ok(())
    }

    /// Lets go of what is held, unless it is of an event with data, or too little of a line to tell.
    fn let_go(&mut self, out: &mut BytesMut) {
        if self.event.is_some() && !self.is_large {
            return;
        }
        // Nothing stays behind: a stream may be idle for hours.
        let mut held = mem::take(&mut self.held);
        if self.field == Field::Open {
            self.held.extend_from_slice(&held[self.line..]);
            held.truncate(self.line);
        }
        self.line = 0;
        out.unsplit(held);
    }

    /// Emits the held event without hidden tools.
    fn end_event(&mut self, inspector: &Inspector, out: &mut BytesMut) -> Result<(), ListError> {
        let event = mem::take(&mut self.held);
        let shorter = match (inspector.finish(), mem::take(&mut self.is_large)) {
            (ListFinding::Nothing, _) => None,
            (ListFinding::List, true) => return Err(ListError::TooLong),
            (ListFinding::Odd, _) | (ListFinding::NoJson, true) => return Err(ListError::Unreadable),
            (ListFinding::NoJson, false) if may_hold_result(&data(&event)) => {
                return Err(ListError::Unreadable);
            }
            (ListFinding::NoJson, false) => None,
            (ListFinding::List, false) => {
                let data = data(&event);
                let text = std::str::from_utf8(&data).map_err(|_| ListError::Unreadable)?;
                match shortened(text, &self.passes)? {
                    Cow::Borrowed(_) => None,
                    // On one line: a line break in JSON can only be between tokens.
                    Cow::Owned(shorter) => Some(shorter.replace('\n', " ")),
                }
            }
        };
        let Some(shorter) = shorter else {
            out.extend_from_slice(&event);
            return Ok(());
        };
        let mut is_written = false;
        for (line, value) in lines(&event) {
            match value {
                None => out.extend_from_slice(&event[line]),
                Some(value) if !mem::replace(&mut is_written, true) => {
                    let field = &event[line.start..value.start];
                    out.extend_from_slice(field);
                    // A line may be empty data by its name alone.
                    if !field.ends_with(b" ") && !field.ends_with(b":") {
                        out.extend_from_slice(b":");
                    }
                    out.extend_from_slice(shorter.as_bytes());
                    out.extend_from_slice(&event[value.end..line.end]);
                }
                // A CR in front of the line that is left out and a LF behind it would be one line end.
                Some(value) if out.ends_with(b"\r") => {
                    out.truncate(out.len() - 1);
                    out.extend_from_slice(&event[value.end..line.end]);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Keeps what is held within bounds.
    fn bound(&mut self, out: &mut BytesMut) -> Result<(), ListError> {
        if !self.is_large && self.held.len() <= MAX_HELD {
            return Ok(());
        }
        match self.event.as_ref().map(Inspector::so_far) {
            Some(ListFinding::Nothing) => self.is_large = true,
            Some(ListFinding::NoJson | ListFinding::Odd) => return Err(ListError::Unreadable),
            // A list, or a comment or an id of this size, which nobody sends and nothing can be reported about.
            Some(ListFinding::List) | None => return Err(ListError::TooLong),
        }
        self.let_go(out);
        Ok(())
    }
}

/// A line without the byte order mark that it opens with. `None` if what was read of it may be the beginning of one.
fn without_mark(line: &[u8], is_whole: bool) -> Option<&[u8]> {
    match line.strip_prefix(BYTE_ORDER_MARK) {
        Some(line) => Some(line),
        None if !is_whole && BYTE_ORDER_MARK.starts_with(line) => None,
        None => Some(line),
    }
}

/// What a line is whose beginning this is, and what there is of its value. An error: nothing that the format knows.
fn decided(line: &[u8], is_whole: bool) -> Result<(Field, &[u8]), ListError> {
    const NAMES: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];
    let name = match memchr(b':', line) {
        Some(colon) => &line[..colon],
        None if !is_whole && NAMES.iter().any(|name| name.starts_with(line)) => {
            return Ok((Field::Open, &[]));
        }
        None => line,
    };
    match name {
        b"data" if !is_whole && line == b"data:" => Ok((Field::Open, &[])),
        b"data" => Ok((Field::Data, value(line).unwrap_or_default())),
        name if name.is_empty() || NAMES.contains(&name) => Ok((Field::Other, &[])),
        _ => Err(ListError::Unreadable),
    }
}

/// Checks that `content`, which comes behind the `last` two bytes of a line without data, is of one line to every client.
fn one_line(last: &mut [u8; 2], content: &[u8]) -> Result<(), ListError> {
    for byte in content {
        if ends_line(*last, *byte) || (*byte < b' ' && *byte != b'\t') {
            return Err(ListError::Unreadable);
        }
        *last = [last[1], *byte];
    }
    Ok(())
}

/// The data of the event whose first bytes these are.
fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let mut values = lines(event).filter_map(|(_, value)| value);
    let Some(first) = values.next() else { return Cow::Borrowed(&[]) };
    let mut data = Cow::Borrowed(&event[first]);
    for value in values {
        let data = data.to_mut();
        data.push(b'\n');
        data.extend_from_slice(&event[value]);
    }
    data
}

/// The lines of an event, each with its end, and where their values are if they are `data`.
fn lines(event: &[u8]) -> impl Iterator<Item = (Range<usize>, Option<Range<usize>>)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = event.get(start..).filter(|rest| !rest.is_empty())?;
        let content = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let end = match &rest[content..] {
            [] => content,
            [b'\r', b'\n', ..] => content + 2,
            _ => content + 1,
        };
        let mark = if start == 0 && rest.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let stop = start + content;
        let value = value(&rest[mark..content]).map(|value| stop - value.len()..stop);
        let line = start..start + end;
        start = line.end;
        Some((line, value))
    })
}

/// The value of a `data` line.
fn value(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tool_filter_tests.rs"]
mod tests;
