//! The one thing in an HTTP+SSE stream that a gateway must change: where the client posts its messages.
//!
//! In MCP 2024-11-05 the first `endpoint` event of the stream names the URL for messages, as the upstream
//! sees itself. Passed on as it is, it leads past the gateway or to another route, so its data is replaced.
//! Nothing else is: comments, ids, line ends, the order of fields and every other event leave as they came.
//! A second such event, or one that clients read differently, ends the stream ([`EndpointGuard`]).
//!
//! Line rules are those of the event stream format (WHATWG HTML, section 9.2.6). Sans-io: bytes in, bytes out.

use std::{mem, ops::Range};

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use url::Url;

use crate::mcp::sse::{
    endpoint_guard::{EndpointGuard, ends_line, is_blank},
    lines::{Cut, LineCutter},
};

pub use crate::mcp::sse::endpoint_guard::EndpointError;

/// Most bytes that are held back until an event is known not to be, or to be, the `endpoint` event.
pub const MAX_HELD: usize = 16 * 1024;

/// U+FEFF in UTF-8, which means nothing at the beginning of a text.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Rewrites the data of the first `endpoint` event of one stream, and lets no other pass.
///
/// `seal` gets the path and the raw query of the upstream's message URL and returns what the client sees instead
/// (path-absolute, without a line end).
///
/// ```
/// # use sluicegate::mcp::sse::endpoint::EndpointRewriter;
/// let upstream = "http://127.0.0.1:3000/sse".parse().unwrap();
/// let mut rewriter = EndpointRewriter::new(upstream, |path, query| format!("/db{path}?{}", query.unwrap_or("")));
/// let out = rewriter.push("event: endpoint\ndata: message?sessionId=7\n\n".into()).unwrap();
/// assert_eq!(out, "event: endpoint\ndata: /db/message?sessionId=7\n\n");
/// assert_eq!(rewriter.push("data: {}\n\n".into()).unwrap(), "data: {}\n\n");
/// assert!(rewriter.push("event: endpoint\ndata: elsewhere\n\n".into()).is_err());
/// ```
pub struct EndpointRewriter<F> {
    upstream: Url,
    seal: F,
    /// What was read and not yet let go: the current event from its first `data` line on, then the current line.
    /// Lines before that one need not wait, because nothing in them would change.
    held: BytesMut,
    /// Where the current line starts in `held`.
    line: usize,
    /// No line was read yet, so the current one may open with a byte order mark.
    first_line: bool,
    lines: LineCutter,
    /// The current event is named `endpoint`, as far as it was read.
    is_endpoint: bool,
    /// It was, and maybe has another name by now.
    was_endpoint: bool,
    /// Some clients take a line of the current event for data that others do not see.
    is_ambiguous: bool,
    /// Which line ends there were: LF, and CR alone. Some clients end lines at LF only.
    had_lf: bool,
    had_bare_cr: bool,
    data: Data,
    /// The event went out. From here on there is none.
    done: bool,
    guard: EndpointGuard,
}

/// The `data` of the current event.
#[derive(PartialEq)]
enum Data {
    None,
    /// One line; its value lies here in `held`.
    Line(Range<usize>),
    Lines,
}

impl<F: Fn(&str, Option<&str>) -> String> EndpointRewriter<F> {
    /// A rewriter for the stream that `upstream_sse_url` answered with.
    pub fn new(upstream_sse_url: Url, seal: F) -> Self {
        Self {
            upstream: upstream_sse_url,
            seal,
            held: BytesMut::new(),
            line: 0,
            first_line: true,
            lines: LineCutter::default(),
            is_endpoint: false,
            was_endpoint: false,
            is_ambiguous: false,
            had_lf: false,
            had_bare_cr: false,
            data: Data::None,
            done: false,
            guard: EndpointGuard::default(),
        }
    }

    /// Takes what the upstream sent and returns what can go to the client now, which may be nothing.
    ///
    /// How the stream is cut into chunks changes neither the bytes that go out nor whether it fails.
    /// After an error the stream must be closed.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, EndpointError> {
        if self.done {
            self.guard.look(&chunk)?;
            return Ok(chunk);
        }
        let mut out = BytesMut::with_capacity(self.held.len() + chunk.len());
        let mut rest = &chunk[..];
        while !self.done {
            let was_cr = self.lines.after_cr;
            let Some(cut) = self.lines.cut(rest) else { break };
            self.had_bare_cr |= was_cr && cut != Cut::LineFeed;
            let (taken, left) = rest.split_at(cut.len(rest));
            rest = left;
            self.held.extend_from_slice(taken);
            if self.held.len() > MAX_HELD {
                return Err(EndpointError::TooLong);
            }
            self.had_lf |= taken.ends_with(b"\n");
            match cut {
                Cut::Part => {}
                Cut::Line(_) => self.end_line(&mut out)?,
                Cut::LineFeed => {
                    self.guard.look(taken)?;
                    self.release(&mut out);
                }
            }
        }
        self.guard.look(rest)?;
        out.extend_from_slice(rest);
        Ok(out.freeze())
    }

    /// Ends the stream and returns what was held back, verbatim, unless it is the start of an `endpoint` event.
    ///
    /// Clients discard an event that the end of the stream cuts off, so withholding this one changes nothing for
    /// them; a client that does not discard it would be sent to the upstream's own URL.
    pub fn finish(&mut self) -> Bytes {
        let is_stray = self.line < self.held.len() && self.read_line(self.held.len()).is_err();
        let held = mem::take(&mut self.held).freeze();
        if self.was_endpoint || is_stray { Bytes::new() } else { held }
    }

    /// Ends the current line, whose last byte in `held` is its line end (of CRLF, the CR).
    fn end_line(&mut self, out: &mut BytesMut) -> Result<(), EndpointError> {
        let is_blank = self.read_line(self.held.len() - 1)?;
        if is_blank {
            if self.was_endpoint {
                self.rewrite(out)?;
                self.done = true;
                return Ok(());
            }
            self.data = Data::None;
            self.is_ambiguous = false;
        }
        self.release(out);
        Ok(())
    }

    /// Reads the current line, which ends before `end`, into the event; returns whether it is empty.
    fn read_line(&mut self, end: usize) -> Result<bool, EndpointError> {
        let mut start = self.line;
        if mem::take(&mut self.first_line) && self.held[start..end].starts_with(BYTE_ORDER_MARK) {
            start += BYTE_ORDER_MARK.len();
        }
        let line = &self.held[start..end];
        self.is_ambiguous |= is_ambiguous(line);
        let (name, value) = match memchr(b':', line) {
            Some(colon) => {
                let space = usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], start + colon + 1 + space..end)
            }
            None => (line, end..end),
        };
        let is_name = name == b"event" && self.held[value.clone()] == b"endpoint"[..];
        match name {
            b"event" => self.is_endpoint = is_name,
            b"data" if self.data == Data::None => self.data = Data::Line(value),
            b"data" => self.data = Data::Lines,
            _ => {}
        }
        self.was_endpoint |= is_name;
        if self.was_endpoint && (self.is_ambiguous || (self.had_lf && self.had_bare_cr)) {
            return Err(EndpointError::Stray);
        }
        if is_name {
            self.guard = EndpointGuard::default();
            return Ok(false);
        }
        // With the end of the line, which some clients do not take for one.
        self.guard.look(&self.held[start..])?;
        Ok(start == end)
    }

    /// Lets go of what is held, unless data waits for the name of its event.
    fn release(&mut self, out: &mut BytesMut) {
        if self.data == Data::None {
            out.extend_from_slice(&self.held);
            self.held.clear();
        }
        self.line = self.held.len();
    }

    /// Emits the held `endpoint` event with its data replaced.
    fn rewrite(&mut self, out: &mut BytesMut) -> Result<(), EndpointError> {
        // Some clients keep the name of an event without data for the next one, and some take the first of several names.
        let (true, Data::Line(value)) = (self.is_endpoint, mem::replace(&mut self.data, Data::None)) else {
            return Err(EndpointError::Stray);
        };
        let held = mem::take(&mut self.held);
        let (path, query) = resolve(&self.upstream, &held[value.clone()])?;
        let sealed = (self.seal)(&path, query.as_deref());
        out.extend_from_slice(&held[..value.start]);
        out.extend_from_slice(sealed.as_bytes());
        out.extend_from_slice(&held[value.end..]);
        Ok(())
    }
}

/// Whether some clients find data in a line that others do not see there: behind a line end of Unicode, or in a field with
/// blanks around its name or in another case.
fn is_ambiguous(line: &[u8]) -> bool {
    let mut last = [0; 2];
    for &byte in line {
        if ends_line(last, byte) {
            return true;
        }
        last = [last[1], byte];
    }
    let field = &line[..memchr(b':', line).unwrap_or(line.len())];
    let begin = field.iter().position(|byte| !is_blank(*byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_blank(*byte)).map_or(begin, |at| at + 1);
    field != b"data" && field[begin..end].eq_ignore_ascii_case(b"data")
}

/// Path and query that the data of an `endpoint` event leads to, as the upstream wrote them; `stream` is the URL of
/// the event stream that it came by.
pub fn resolve(stream: &Url, data: &[u8]) -> Result<(String, Option<String>), EndpointError> {
    // URL parsers skip spaces around a URL. Anything else outside visible ASCII they re-encode or skip,
    // each in its own way; no upstream needs that, and refusing it keeps the raw query safe to repeat.
    let text = str::from_utf8(data).map_err(|_| EndpointError::InvalidUrl)?.trim_matches(' ');
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(EndpointError::InvalidUrl);
    }
    let resolved = stream.join(text).map_err(|_| EndpointError::InvalidUrl)?;
    if resolved.origin() != stream.origin() {
        return Err(EndpointError::ForeignOrigin);
    }
    let query = raw_query(text).or(resolved.query()).map(str::to_owned);
    Ok((resolved.path().to_owned(), query))
}

/// The query of a URL reference byte for byte; [`Url::query`] would percent-encode some of it.
fn raw_query(reference: &str) -> Option<&str> {
    let without_fragment = reference.split('#').next().unwrap_or_default();
    Some(without_fragment.split_once('?')?.1)
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
