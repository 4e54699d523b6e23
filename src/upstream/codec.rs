//! HTTP/1.1 responses, sans-io: bytes in, heads and payload ranges out.
//!
//! Written here rather than taken from hyper's client because that one hands over a single chunk at a time, and so
//! costs one write per chunk however many arrived together. It is strict: whatever two parsers could read
//! differently (RFC 9112 §6.3) ends the exchange.

use std::{fmt, mem::MaybeUninit, ops::Range, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

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
    /// How long the server waits for that request, if it told.
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
/// Returns the head and a copy of what stands behind it, or `None` if `buf` ends before the head does.
pub(super) fn parse_head(buf: &[u8], method: &Method) -> Result<Option<(Head, Bytes)>, ProtocolError> {
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
        let (headers, transfer) = fields_of(&buf[start..end], response.headers)?;
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
fn fields_of(head: &[u8], fields: &[httparse::Header<'_>]) -> Result<(HeaderMap, Transfer), ProtocolError> {
    let base = head.as_ptr() as usize;
    let copy = Bytes::copy_from_slice(head);
    let mut map = HeaderMap::with_capacity(fields.len());
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
pub(super) struct Chunked {
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
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Walks over `input`, calling `payload` with each range of it that is payload, and `dispensable` with each that is
    /// neither payload nor needed to frame it: extensions, trailers, zeros in front of a size. Returns how many bytes
    /// belong to this body: all of them, unless it ended.
    pub(super) fn decode(
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Option<(Head, Bytes)>, ProtocolError> {
        parse_head(text.as_bytes(), &Method::POST)
    }

    #[test]
    fn a_head_is_complete_only_with_its_empty_line() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Empty:\r\nTransfer-Encoding: chunked\r\n\r\n";
        for end in 0..text.len() {
            assert!(head(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (parsed, behind) = head(&format!("{text}5\r\nhello")).unwrap().unwrap();
        assert_eq!(behind, "5\r\nhello");
        assert_eq!(parsed.framing, Framing::Chunked);
        assert_eq!(parsed.headers["content-type"], "text/event-stream");
        assert_eq!(parsed.headers["x-empty"], "");
        assert!(parsed.keep_alive.is_some());
    }

    #[test]
    fn interim_responses_are_skipped_and_an_upgrade_is_refused() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
        let (parsed, behind) = head(&format!("{text}x")).unwrap().unwrap();
        assert_eq!((parsed.status.as_u16(), &*behind), (202, b"x".as_slice()));
        assert_eq!(parsed.headers["content-length"], "0");
        assert!(head("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
    }

    #[test]
    fn framing_that_two_parsers_could_read_differently_is_refused() {
        let bad = [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: +5",
            "Content-Length: 5, 5",
            "Content-Length: -1",
            "Content-Length: 0x10",
            "Content-Length: 99999999999999999999",
            "Content-Length:",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
        ];
        for fields in bad {
            assert!(head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).is_err(), "{fields}");
        }
        assert!(head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head("SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }

    #[test]
    fn the_end_of_a_body_follows_rfc_9112() {
        let framing = |text: &str| head(text).unwrap().unwrap().0;
        assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n").framing, Framing::None);
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n").framing, Framing::Length(12));
        let close = framing("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!((close.framing, close.keep_alive), (Framing::UntilClose, None));
        let (to_head, _) =
            parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", &Method::HEAD).unwrap().unwrap();
        assert_eq!(to_head.framing, Framing::None);
    }

    #[test]
    fn a_connection_is_kept_for_as_long_as_the_server_says() {
        let keep_alive = |start: &str, fields: &str| {
            let text = format!("HTTP/{start} 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
            head(&text).unwrap().unwrap().0.keep_alive
        };
        let promised = |seconds| Some(KeepAlive { promised: seconds });
        assert_eq!(keep_alive("1.1", ""), promised(None));
        let five = Some(Duration::from_secs(5));
        assert_eq!(keep_alive("1.1", "Keep-Alive: max=9, timeout=5\r\n"), promised(five));
        assert_eq!(keep_alive("1.1", "Keep-Alive: timeout=soon\r\n"), promised(None));
        assert_eq!(keep_alive("1.1", "Connection: x, Close\r\n"), None);
        assert_eq!(keep_alive("1.0", ""), None);
    }

    #[test]
    fn a_head_without_end_is_refused_at_its_limit() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(MAX_HEAD));
        assert!(head(&endless).is_err());
    }

    #[test]
    fn a_head_is_bounded_however_it_comes() {
        let with = |interim: usize, before: usize, length: usize| {
            let interim =
                format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "a".repeat(before)).repeat(interim);
            let text = format!("{interim}HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(length));
            (text.len(), head(&text).is_ok())
        };
        let (overhead, _) = with(0, 0, 0);
        assert_eq!(with(0, 0, MAX_HEAD - overhead), (MAX_HEAD, true));
        assert_eq!(with(0, 0, MAX_HEAD - overhead + 1), (MAX_HEAD + 1, false));
        let (overhead, _) = with(2, 1000, 0);
        assert_eq!(with(2, 1000, MAX_HEAD - overhead), (MAX_HEAD, true));
        assert_eq!(with(2, 1000, MAX_HEAD - overhead + 1), (MAX_HEAD + 1, false));
        assert!(with(MAX_INTERIM, 0, 0).1 && !with(MAX_INTERIM + 1, 0, 0).1);
    }

    fn decode_in_pieces(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), ProtocolError> {
        let (mut decoder, mut out, mut consumed, mut from) = (Chunked::default(), Vec::new(), 0, 0);
        for to in cuts.iter().copied().chain([input.len()]) {
            let piece = &input[from..to.max(from)];
            consumed += decoder.decode(piece, |range| out.extend_from_slice(&piece[range]), |_| {})?;
            from = to.max(from);
        }
        Ok((out, consumed, decoder.is_done()))
    }

    #[test]
    fn chunks_decode_the_same_wherever_the_input_is_split() {
        let input =
            b"5\r\nhello\r\n6;name=\"v\"\r\n world\r\n00\r\nTrailer: x\r\nOther: y\r\n\r\nHTTP/1.1 200";
        let body = input.len() - b"HTTP/1.1 200".len();
        for cut in 0..=input.len() {
            assert_eq!(
                decode_in_pieces(input, &[cut]).unwrap(),
                (b"hello world".to_vec(), body, true),
                "{cut}"
            );
        }
        let every: Vec<usize> = (1..input.len()).collect();
        assert_eq!(decode_in_pieces(input, &every).unwrap(), (b"hello world".to_vec(), body, true));
    }

    #[test]
    fn malformed_chunks_are_errors() {
        let bad: [&[u8]; 12] = [
            b"\r\n",
            b"x\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n",
            b"00000000000000001\r\n",
            b"8000000000000000\r\n",
            b"ffffffffffffffff\r\n",
            b"5;\x01\r\n",
            b"0\r\nTrailer\n\r\n",
        ];
        for input in bad {
            assert!(decode_in_pieces(input, &[]).is_err(), "{}", input.escape_ascii());
        }
        let endless = [b"5;".as_slice(), &[b'a'; 2000]].concat();
        assert!(decode_in_pieces(&endless, &[]).is_err());
    }

    /// What a client gets of a body that comes cut like this, framing and all.
    fn pass_in_pieces(input: &[u8], cuts: &[usize]) -> Result<Vec<u8>, ProtocolError> {
        let (mut decoder, mut out, mut from) = (Chunked::default(), Vec::new(), 0);
        for to in cuts.iter().copied().chain([input.len()]) {
            let piece = &input[from..to.max(from)];
            let mut cuts = Cuts::default();
            let here = decoder.decode(piece, |_| {}, |range| cuts.push(range))?;
            out.extend(cuts.taken_out_of(&piece[..here]).unwrap_or_else(|| piece[..here].to_vec()));
            from = to.max(from);
        }
        Ok(out)
    }

    /// The payload of a chunked body that is written in the plainest way, and `None` for any other. Zeros in front of a size
    /// may be one.
    fn plain_payload(mut body: &[u8]) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let end = body.windows(2).position(|window| window == b"\r\n")?;
            let line = std::str::from_utf8(&body[..end]).ok()?;
            let is_plain = line.bytes().all(|byte| byte.is_ascii_hexdigit()) && !line.starts_with("00");
            let size = usize::from_str_radix(line, 16).ok().filter(|_| is_plain)?;
            if size == 0 {
                return (line == "0" && &body[end..] == b"\r\n\r\n").then_some(payload);
            }
            payload.extend_from_slice(body.get(end + 2..end + 2 + size)?);
            body = body.get(end + 2 + size..)?.strip_prefix(b"\r\n")?;
        }
    }

    #[test]
    fn a_plain_body_passes_as_it_is_and_any_other_without_what_nobody_needs() {
        let plain = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(pass_in_pieces(plain, &[]).unwrap(), plain);
        let input =
            b"5;a=b;c\r\nhello\r\n00a;\r\n0123456789\r\n0000;x=\"y\"\r\nX: 1\r\nY: 2;3\r\n\r\nHTTP/1.1";
        let passed = b"5\r\nhello\r\n0a\r\n0123456789\r\n0\r\n\r\n";
        for cut in 0..input.len() {
            assert_eq!(pass_in_pieces(input, &[cut]).unwrap(), passed, "{cut}");
        }
        let every: Vec<usize> = (1..input.len()).collect();
        assert_eq!(pass_in_pieces(input, &every).unwrap(), passed);
    }

    proptest! {
        #[test]
        fn whatever_is_chunked_and_cut_anyhow_a_client_decodes_the_same_and_sees_nothing_else(
            chunks in prop::collection::vec(
                ("0{0,9}", prop::collection::vec(any::<u8>(), 1..50), any::<bool>(), "(;[ -~\t]{0,9}){0,2}"),
                0..8,
            ),
            last in ("0{1,9}", "(;[ -~\t]{0,9}){0,2}", "([!-~][ -~\t]{0,9}\r\n){0,3}"),
            cuts in prop::collection::vec(0usize..800, 0..12),
        ) {
            let mut input = Vec::new();
            for (zeros, chunk, upper, extension) in &chunks {
                let size = if *upper { format!("{:X}", chunk.len()) } else { format!("{:x}", chunk.len()) };
                input.extend_from_slice(format!("{zeros}{size}{extension}\r\n").as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            let (zeros, extension, trailers) = &last;
            input.extend_from_slice(format!("{zeros}{extension}\r\n{trailers}\r\n").as_bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.sort_unstable();
            let payload: Vec<u8> = chunks.iter().flat_map(|(_, chunk, _, _)| chunk.clone()).collect();
            let passed = pass_in_pieces(&input, &cuts).unwrap();
            prop_assert_eq!(plain_payload(&passed), Some(payload.clone()));
            prop_assert_eq!(passed, pass_in_pieces(&input, &[]).unwrap());
            prop_assert_eq!(decode_in_pieces(&input, &cuts).unwrap(), (payload, input.len(), true));
        }

        #[test]
        fn what_was_chunked_comes_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10), cuts in prop::collection::vec(0usize..600, 0..8)) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.sort_unstable();
            let (out, consumed, done) = decode_in_pieces(&input, &cuts).unwrap();
            prop_assert_eq!(out, chunks.concat());
            prop_assert_eq!(consumed, input.len());
            prop_assert!(done);
        }

        #[test]
        fn no_input_breaks_the_decoder(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_in_pieces(&input, &[]);
            let _ = parse_head(&input, &Method::GET);
        }
    }
}
