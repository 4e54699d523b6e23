//! Takes the hidden tools out of an event stream.
//!
//! Of each event, what stands before its first `data` line passes at once; from there on it is held to its end, because
//! only then is known whether it is a response that lists tools. Events that are none leave as they came, byte for byte.
//!
//! Line rules are those of the event stream format (WHATWG HTML, section 9.2.6). Sans-io: bytes in, bytes out.

use std::{borrow::Cow, mem, ops::Range};

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::tool_list::{ListError, MAX_HELD, begins_a_list, without_hidden};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Filters one stream.
///
/// An event that the end of the stream cuts off is discarded by clients, so nothing is lost with what is held then.
pub struct ListEvents<F> {
    passes: F,
    /// What was read and not yet let go: the current event from its first `data` line on, then the current line.
    held: BytesMut,
    /// Where the current line starts in `held`.
    line: usize,
    /// Bytes of the current line so far.
    line_len: usize,
    /// The current event has a `data` line in `held`.
    has_data: bool,
    /// No line was read yet, so the current one may open with a byte order mark.
    first_line: bool,
    /// The last line ended in CR, so a LF that follows is the rest of its end and not an empty line.
    after_cr: bool,
    /// The current event lists no tools, and is so large that this was known before its end.
    is_no_list: bool,
}

impl<F: Fn(&str) -> bool> ListEvents<F> {
    /// For one stream.
    pub fn new(passes: F) -> Self {
        Self {
            passes,
            held: BytesMut::new(),
            line: 0,
            line_len: 0,
            has_data: false,
            first_line: true,
            after_cr: false,
            is_no_list: false,
        }
    }

    /// Takes what the server sent and returns what can go to the client now, which may be nothing. How the stream is cut
    /// into pieces does not change the bytes that go out. After an error the stream must be closed.
    pub fn push(&mut self, piece: &[u8]) -> Result<Bytes, ListError> {
        let mut out = BytesMut::new();
        let mut rest = piece;
        while let Some(&next) = rest.first() {
            let ends_crlf = mem::take(&mut self.after_cr) && next == b'\n';
            let line_end = if ends_crlf { Some(0) } else { memchr2(b'\r', b'\n', rest) };
            let (taken, left) = rest.split_at(line_end.map_or(rest.len(), |at| at + 1));
            rest = left;
            self.held.extend_from_slice(taken);
            if ends_crlf {
                self.let_go(&mut out);
            } else if let Some(len) = line_end {
                self.line_len += len;
                self.after_cr = taken.ends_with(b"\r");
                self.end_line(&mut out)?;
            } else {
                self.line_len += taken.len();
            }
            self.bound(&mut out)?;
        }
        Ok(out.freeze())
    }

    /// Ends the current line, whose last byte in `held` is its line end (of CRLF, the CR).
    fn end_line(&mut self, out: &mut BytesMut) -> Result<(), ListError> {
        if mem::take(&mut self.line_len) == 0 {
            self.is_no_list = false;
            if mem::take(&mut self.has_data) {
                self.end_event(out)?;
            }
        } else if !self.is_no_list {
            let line = &self.held[self.line..self.held.len() - 1];
            let line =
                if self.first_line { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
            self.has_data |= value(line).is_some();
        }
        self.first_line = false;
        self.let_go(out);
        Ok(())
    }

    /// Lets go of what is held, unless it is data.
    fn let_go(&mut self, out: &mut BytesMut) {
        if !self.has_data {
            // Nothing stays behind: a stream may be idle for hours.
            out.unsplit(mem::take(&mut self.held));
        }
        self.line = self.held.len();
    }

    /// Emits the held event without hidden tools.
    fn end_event(&mut self, out: &mut BytesMut) -> Result<(), ListError> {
        let event = mem::take(&mut self.held);
        let data = data(&event);
        let text = String::from_utf8_lossy(&data);
        let Cow::Owned(shorter) = without_hidden(&text, &self.passes)? else {
            out.extend_from_slice(&event);
            return Ok(());
        };
        // On one line: a line break in JSON can only stand between tokens.
        let shorter = shorter.replace('\n', " ");
        let mut is_written = false;
        for (line, value) in lines(&event) {
            match value {
                None => out.extend_from_slice(&event[line]),
                Some(value) if !mem::replace(&mut is_written, true) => {
                    out.extend_from_slice(&event[line.start..value.start]);
                    out.extend_from_slice(shorter.as_bytes());
                    out.extend_from_slice(&event[value.end..line.end]);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Keeps what is held within bounds.
    fn bound(&mut self, out: &mut BytesMut) -> Result<(), ListError> {
        if !self.is_no_list && self.held.len() > MAX_HELD {
            let data = data(&self.held);
            // Empty: a comment or an id of this size, which nobody sends and nothing can be said of.
            if data.is_empty() || begins_a_list(&data) {
                return Err(ListError::TooLong);
            }
            self.is_no_list = true;
            self.has_data = false;
        }
        if self.is_no_list {
            self.let_go(out);
        }
        Ok(())
    }
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
#[path = "tool_events_tests.rs"]
mod tests;
