//! HTTP/1.1 responses, sans-io: bytes in, heads and payload ranges out.
//!
//! Written here rather than taken from hyper's client because that one hands over a single chunk at a time, and so
//! costs one write per chunk however many arrived together. It is strict: whatever two parsers could read
//! differently (RFC 9112 §6.3) ends the exchange.

use std::{fmt, mem::MaybeUninit, ops::Range, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::spares::Spares;

/// Largest response head that is accepted, in bytes, with the interim responses before it.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Most interim responses before a response.
const MAX_INTERIM: usize = 16;
/// Most header lines in a response head.
const MAX_HEADERS: usize = 128;
/// Most bytes of chunk extensions within one size line, and of all trailers together. Both are dropped unread, so all that
/// they could do is keep us busy.
const MAX_EXTENSION: u32 = 1024;
/// Largest size of a chunk: what every client can count to.
const MAX_CHUNK: u64 = i64::MAX as u64;
const MAX_TRAILERS: u32 = 16 * 1024;

/// How the end of a body is known (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes are left.
    Length(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

/// A response head.
#[derive(Debug)]
pub struct Head {
    /// Status code.
    pub status: StatusCode,
    /// Header fields as received; names in lower case, values untouched.
    pub headers: HeaderMap,
    /// How the body ends.
    pub framing: Framing,
    /// `Some` if the connection may carry another request afterwards.
    pub keep_alive: Option<KeepAlive>,
}

/// A connection that may carry another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long the server waits for that request, if it says so.
    pub promised: Option<Duration>,
}

/// What a server sent is not HTTP/1.1, or is ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolError(pub &'static str);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ProtocolError {}

/// Parses the response head at the start of `buf`, skipping interim (1xx) responses.
///
/// Returns the head and a copy of what is behind it, or `None` if `buf` ends before the head does.
pub fn parse_head(
    buf: &[u8],
    method: &Method,
    spares: &Spares,
) -> Result<Option<(Head, Bytes)>, ProtocolError> {
    let mut start = 0;
    for _ in 0..=MAX_INTERIM {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, &buf[start..], &mut fields)
            .map_err(|_| ProtocolError("the response head is not HTTP/1.1"))?;
        let end = if let httparse::Status::Complete(len) = parsed { start + len } else { buf.len() };
        if end > MAX_HEAD {
            return Err(ProtocolError("the response head is too large"));
        }
        if parsed.is_partial() {
            return Ok(None);
        }
        let code = response.code.unwrap_or_default();
        if code == 101 {
            return Err(ProtocolError("the server switched protocols unasked"));
        }
        if (100..200).contains(&code) {
            start = end;
            continue;
        }
        let status =
            StatusCode::from_u16(code).map_err(|_| ProtocolError("the status code is out of range"))?;
        let http11 = response.version == Some(1);
        let (headers, transfer) = fields_of(&buf[start..end], response.headers, spares)?;
        let framing = transfer.framing(status, method, http11)?;
        let keep_alive = (http11 && framing != Framing::UntilClose && !transfer.closes)
            .then_some(KeepAlive { promised: transfer.promised });
        let behind = Bytes::copy_from_slice(&buf[end..]);
        return Ok(Some((Head { status, headers, framing, keep_alive }, behind)));
    }
    Err(ProtocolError("too many interim responses before the response head"))
}

/// What the fields of a head say about how it is transferred.
#[derive(Default)]
struct Transfer {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    promised: Option<Duration>,
}

/// One copy of the whole head, of which every value is a slice, and what the fields say about the transfer, found in the
/// same walk.
fn fields_of(
    head: &[u8],
    fields: &[httparse::Header<'_>],
    spares: &Spares,
) -> Result<(HeaderMap, Transfer), ProtocolError> {
    let base = head.as_ptr() as usize;
    let copy = spares.copy(head);
    // One more, for the request id: a map that grows is made again.
    let mut map = spares.map(fields.len() + 1);
    let mut transfer = Transfer::default();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| ProtocolError("a header name is invalid"))?;
        transfer.learn(&name, field.value)?;
        let at = field.value.as_ptr() as usize;
        // An empty value may point anywhere.
        let value = if field.value.is_empty() {
            Bytes::new()
        } else {
            copy.slice(at - base..at - base + field.value.len())
        };
        let value =
            HeaderValue::from_maybe_shared(value).map_err(|_| ProtocolError("a header value is invalid"))?;
        map.append(name, value);
    }
    Ok((map, transfer))
}

impl Transfer {
    fn learn(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), ProtocolError> {
        match *name {
            header::CONTENT_LENGTH => {
                let length = parse_length(value).ok_or(ProtocolError("Content-Length is not a number"))?;
                if self.length.replace(length).is_some() {
                    return Err(ProtocolError("Content-Length is given twice"));
                }
            }
            header::TRANSFER_ENCODING => {
                let repeated = std::mem::replace(&mut self.chunked, true);
                if repeated || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ProtocolError("Transfer-Encoding is not chunked alone"));
                }
            }
            header::CONNECTION => {
                let mut options = value.split(|b| *b == b',');
                self.closes |= options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
            _ if name == "keep-alive" => self.promised = promised(value),
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, status: StatusCode, method: &Method, http11: bool) -> Result<Framing, ProtocolError> {
        if self.chunked && !http11 {
            return Err(ProtocolError("Transfer-Encoding in HTTP/1.0"));
        }
        if self.chunked && self.length.is_some() {
            return Err(ProtocolError("Transfer-Encoding and Content-Length are both given"));
        }
        if method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
            return Ok(Framing::None);
        }
        Ok(match self.length {
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }
}

/// `Keep-Alive: timeout=5`
fn promised(value: &[u8]) -> Option<Duration> {
    let mut parameters = value.split(|b| *b == b',');
    let seconds = parameters.find_map(|parameter| parameter.trim_ascii().strip_prefix(b"timeout="))?;
    parse_length(seconds).map(Duration::from_secs)
}

/// Digits only: no sign, no space, no list (RFC 9110 §8.6).
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

/// Where in a chunked body (RFC 9112 §7.1) the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the size; no digit seen yet, or some.
    Size {
        digits: u8,
    },
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// Decoder of a chunked body. It finds out where payload is and where the body ends, and copies nothing.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    /// Payload bytes left in the current chunk.
    remaining: u64,
    /// Extension or trailer bytes seen.
    skipped: u32,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size { digits: 0 }, remaining: 0, skipped: 0 }
    }
}

impl Chunked {
    /// Whether the last chunk and its trailers are behind us.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether a chunk may begin here.
    pub fn is_between_chunks(&self) -> bool {
        self.state == (State::Size { digits: 0 })
    }

    /// Walks over `input`, calling `payload` with each range of it that is payload, and `dispensable` with each that is
    /// neither payload nor needed to frame it: extensions, trailers, zeros in front of a size. Returns how many bytes
    /// belong to this body: all of them, unless it ended.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut payload: impl FnMut(Range<usize>),
        mut dispensable: impl FnMut(Range<usize>),
    ) -> Result<usize, ProtocolError> {
        let mut at = 0;
        while at < input.len() {
            if self.state == (State::Size { digits: 0 }) {
                while let Some((chunk, behind)) = plain_chunk(input, at) {
                    payload(chunk);
                    at = behind;
                }
            }
            let Some(&byte) = input.get(at) else { break };
            match self.state {
                State::Data => {
                    let here = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - at);
                    payload(at..at + here);
                    self.remaining -= here as u64;
                    at += here;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    continue;
                }
                State::Size { digits } => match (byte, char::from(byte).to_digit(16)) {
                    (_, Some(_)) if digits == 16 || self.remaining > MAX_CHUNK >> 4 => {
                        return Err(ProtocolError("a chunk size is too large"));
                    }
                    (_, Some(digit)) => {
                        if digit == 0 && self.remaining == 0 && digits > 0 {
                            dispensable(at..at + 1);
                        }
                        self.remaining = self.remaining << 4 | u64::from(digit);
                        self.state = State::Size { digits: digits + 1 };
                    }
                    (b'\r', _) if digits > 0 => self.state = State::SizeLf,
                    (b';', _) if digits > 0 => {
                        dispensable(at..at + 1);
                        self.skipped = 0;
                        self.state = State::Extension;
                    }
                    _ => return Err(ProtocolError("a chunk size is not a hexadecimal number")),
                },
                State::Extension => match byte {
                    b'\r' => self.state = State::SizeLf,
                    _ => {
                        self.skip(byte, MAX_EXTENSION)?;
                        dispensable(at..at + 1);
                    }
                },
                State::SizeLf => {
                    expect(byte, b'\n')?;
                    self.skipped = 0;
                    self.state = if self.remaining == 0 { State::TrailerStart } else { State::Data };
                }
                State::DataCr => {
                    expect(byte, b'\r')?;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    expect(byte, b'\n')?;
                    self.state = State::Size { digits: 0 };
                }
                State::TrailerStart if byte == b'\r' => self.state = State::EndLf,
                State::TrailerStart | State::Trailer => {
                    dispensable(at..at + 1);
                    if byte == b'\r' {
                        self.state = State::TrailerLf;
                    } else {
                        self.skip(byte, MAX_TRAILERS)?;
                        self.state = State::Trailer;
                    }
                }
                State::TrailerLf => {
                    expect(byte, b'\n')?;
                    dispensable(at..at + 1);
                    self.state = State::TrailerStart;
                }
                State::EndLf => {
                    expect(byte, b'\n')?;
                    self.state = State::Done;
                    return Ok(at + 1);
                }
                State::Done => return Ok(at),
            }
            at += 1;
        }
        Ok(at)
    }

    fn skip(&mut self, byte: u8, most: u32) -> Result<(), ProtocolError> {
        self.skipped += 1;
        if self.skipped > most || (byte.is_ascii_control() && byte != b'\t') {
            return Err(ProtocolError("a chunk extension or trailer is malformed"));
        }
        Ok(())
    }
}

/// A chunk that is here as a whole, with a plain size: nearly all chunks of an event stream, found without going
/// through the states for each byte. Its payload, and where the next begins; whatever else it is, the states tell.
fn plain_chunk(input: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    /// More would not fit a read.
    const MOST_DIGITS: usize = 6;
    let digits = input[at..].iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let line = input.get(at..at + digits).filter(|line| line.len() <= MOST_DIGITS)?;
    if matches!(line.first(), None | Some(b'0')) {
        return None;
    }
    let size =
        line.iter().fold(0, |size, digit| size << 4 | char::from(*digit).to_digit(16).unwrap_or(0) as usize);
    let start = at + digits + 2;
    let end = start + size;
    let whole = input.get(start - 2..start)? == b"\r\n" && input.get(end..end + 2)? == b"\r\n";
    whole.then_some((start..end, end + 2))
}

/// The size of the chunk that begins `head`.
pub(super) fn chunk_size(head: &[u8]) -> Option<u64> {
    let digits = head.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    u64::from_str_radix(std::str::from_utf8(&head[..digits]).ok()?, 16).ok()
}

/// Ranges of one input that do not pass.
#[derive(Default)]
pub(super) struct Cuts(Vec<Range<usize>>);

impl Cuts {
    /// Notes a range behind those noted before.
    pub(super) fn push(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.0.push(range),
        }
    }

    /// Cuts all that is before this.
    pub(super) fn begin_behind(&mut self, start: usize) {
        self.0.retain(|cut| cut.start >= start);
        self.0.insert(0, 0..start);
    }

    /// `input` without them; `None` if there are none.
    pub(super) fn taken_out_of(self, input: &[u8]) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let mut kept = Vec::with_capacity(input.len());
        let mut at = 0;
        for cut in self.0 {
            kept.extend_from_slice(&input[at..cut.start]);
            at = cut.end;
        }
        kept.extend_from_slice(&input[at..]);
        Some(kept)
    }
}

fn expect(byte: u8, wanted: u8) -> Result<(), ProtocolError> {
    if byte == wanted { Ok(()) } else { Err(ProtocolError("a chunk does not end where its size says")) }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
