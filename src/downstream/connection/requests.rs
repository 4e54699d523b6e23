//! Where the requests of an HTTP/1 connection begin and end, and what hyper does not report of their heads.
//!
//! hyper cuts a fragment off before anyone can refuse it, and takes a LF alone for a line end, which it is not to everybody
//! (RFC 9112 §2.2 leaves that to the recipient). Both are looked for in every head, also in one that a client sends before it
//! has the answer to the request before. So bodies are followed to their end. Only what hyper takes has to be followed
//! right, for hyper closes where it refuses; behind a body whose end is not certain, no request is served.

use std::mem;

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request line has a fragment.
    Fragment,
    /// A line of the head ends with a LF alone.
    BareLf,
    /// Where it begins is not certain.
    Unknown,
}

/// What a client sends, followed as far as it is needed to know what comes next.
pub(super) struct Requests {
    at: At,
    /// What is wrong with the head that is under way.
    bad: Option<Fault>,
    /// How the body behind it is framed.
    framing: Framing,
    /// A line of which the end is still to come.
    line: Vec<u8>,
    longest_line: usize,
    /// Heads that are complete and good, of requests that have not begun.
    ahead: usize,
    /// What is wrong with the request behind those. Nothing behind that one is looked at.
    fault: Option<Fault>,
}

/// Where the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between two requests, or in empty lines before a request line, which are skipped (RFC 9112 §2.2).
    Between,
    RequestLine,
    Fields,
    /// In a body that has so many bytes left.
    Body(u64),
    ChunkSize,
    /// In a chunk that has so many bytes left, with the line end behind it.
    Chunk(u64),
    Trailers,
    /// Behind what is followed.
    Lost,
}

/// How a body is framed (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// There is none.
    None,
    Length(u64),
    Chunked,
    /// Not certain.
    Unclear,
}

/// How far the client is with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadProgress {
    /// No byte of it is here.
    None,
    /// A part of its head is.
    Begun,
    /// Its head is.
    Complete,
}

impl Requests {
    /// Those of a connection that was just accepted. A head may not have a longer line.
    pub(super) fn new(longest_line: usize) -> Self {
        Self {
            at: At::Between,
            bad: None,
            framing: Framing::None,
            line: Vec::new(),
            longest_line,
            ahead: 0,
            fault: None,
        }
    }

    /// The next request begins. Says what is wrong with it.
    pub(super) fn begins(&mut self) -> Option<Fault> {
        match self.ahead.checked_sub(1) {
            Some(ahead) => {
                self.ahead = ahead;
                None
            }
            None => {
                let fault = self.fault;
                self.lose();
                fault.or(self.fault)
            }
        }
    }

    /// Whether nothing can be served behind the request that began last.
    pub(super) fn are_over(&self) -> bool {
        self.ahead == 0 && self.fault == Some(Fault::Unknown)
    }

    pub(super) fn progress(&self) -> HeadProgress {
        match self.at {
            _ if self.ahead > 0 || self.fault.is_some() => HeadProgress::Complete,
            At::RequestLine | At::Fields => HeadProgress::Begun,
            _ => HeadProgress::None,
        }
    }

    /// The client sent this.
    pub(super) fn received(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Between => match bytes {
                    [b'\r' | b'\n', rest @ ..] => rest,
                    _ => self.request_line(bytes),
                },
                At::Fields if self.line.is_empty() => self.fields(bytes),
                At::Body(left) => {
                    let (rest, left) = behind(bytes, left);
                    self.at = if left == 0 { At::Between } else { At::Body(left) };
                    rest
                }
                At::Chunk(left) => {
                    let (rest, left) = behind(bytes, left);
                    self.at = if left == 0 { At::ChunkSize } else { At::Chunk(left) };
                    rest
                }
                At::RequestLine | At::Fields | At::ChunkSize | At::Trailers => self.any_line(bytes),
                At::Lost => return,
            };
        }
    }

    /// What begins with a request line. Returns what is behind it, or behind the head.
    fn request_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.at = At::RequestLine;
        match memchr::memchr2(b'\n', b'#', bytes) {
            Some(end) if bytes[end] == b'\n' => {
                self.request_line_ended(&bytes[..end]);
                self.fields(&bytes[end + 1..])
            }
            _ => self.any_line(bytes),
        }
    }

    /// What begins with a field line. Returns what is behind the head.
    fn fields<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (mut start, mut block) = (0, 0);
        while block < bytes.len() {
            let mut ends = line_feeds(&bytes[block..]);
            if ends == 0 {
                // A long line, for which a search is cheaper.
                let behind = bytes.get(block + BLOCK..).unwrap_or_default();
                block = memchr::memchr(b'\n', behind).map_or(bytes.len(), |at| block + BLOCK + at);
                continue;
            }
            while ends != 0 {
                let end = block + ends.trailing_zeros() as usize;
                ends &= ends - 1;
                let line = &bytes[start..end];
                start = end + 1;
                if is_plain(line) {
                    continue;
                }
                match line {
                    b"\r" => self.head_ended(),
                    [line @ .., b'\r'] => self.framing = self.framing.with(line),
                    _ => self.line_ended(line),
                }
                if self.at != At::Fields {
                    return &bytes[start..];
                }
            }
            block += BLOCK;
        }
        self.keep(&bytes[start..])
    }

    /// Takes one line, which may have begun in an earlier read.
    fn any_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else { return self.keep(bytes) };
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(&bytes[..end]);
        if self.at == At::RequestLine {
            self.bad = line.contains(&b'#').then_some(Fault::Fragment);
            self.request_line_ended(&line);
        } else {
            self.line_ended(&line);
        }
        &bytes[end + 1..]
    }

    /// The end of this line is still to come.
    fn keep<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.line.len() + bytes.len() > self.longest_line {
            self.lose();
        } else {
            self.line.extend_from_slice(bytes);
        }
        &[]
    }

    /// What comes now is not followed.
    #[cold]
    fn lose(&mut self) {
        (self.at, self.line, self.fault) = (At::Lost, Vec::new(), Some(Fault::Unknown));
    }

    #[inline]
    fn request_line_ended(&mut self, line: &[u8]) {
        if !line.ends_with(b"\r") {
            self.bad = Some(Fault::BareLf);
        }
        // What follows, if it is granted, is no HTTP (RFC 9110 §9.3.6).
        let is_tunnel = line.starts_with(b"CONNECT ");
        (self.at, self.framing) = (At::Fields, if is_tunnel { Framing::Unclear } else { Framing::None });
    }

    /// A line is here that is no request line. Its LF is not in it any more.
    fn line_ended(&mut self, line: &[u8]) {
        let line = match (self.at, line) {
            (_, [line @ .., b'\r']) => line,
            (At::Fields, line) => {
                self.bad = Some(Fault::BareLf);
                line
            }
            _ => return self.lose(),
        };
        match self.at {
            At::Fields if line.is_empty() => self.head_ended(),
            At::Fields => self.framing = self.framing.with(line),
            At::ChunkSize => match chunk_size(line) {
                Some(0) => self.at = At::Trailers,
                // With the line end behind it.
                Some(size) => self.at = At::Chunk(size + 2),
                None => self.lose(),
            },
            At::Trailers if line.is_empty() => self.at = At::Between,
            _ => {}
        }
    }

    fn head_ended(&mut self) {
        if let Some(bad) = self.bad {
            (self.at, self.fault) = (At::Lost, Some(bad));
            return;
        }
        self.ahead += 1;
        self.at = match self.framing {
            Framing::None | Framing::Length(0) => At::Between,
            Framing::Length(length) => At::Body(length),
            Framing::Chunked => At::ChunkSize,
            Framing::Unclear => return self.lose(),
        };
    }
}

impl Framing {
    /// With what a field line says. Two fields that say something are not certain, even if they say the same: what is
    /// behind such a request does not need to be served.
    fn with(self, line: &[u8]) -> Self {
        let said = if let Some(length) = value_of(line, b"content-length") {
            number(length, 10).map_or(Self::Unclear, Self::Length)
        } else if let Some(coding) = value_of(line, b"transfer-encoding") {
            if coding.eq_ignore_ascii_case(b"chunked") { Self::Chunked } else { Self::Unclear }
        } else {
            return self;
        };
        if self == Self::None { said } else { Self::Unclear }
    }
}

/// Bytes that are looked through for line ends at a time.
const BLOCK: usize = 64;

/// Where in the block that `bytes` begin with a LF is: a bit for each byte. Written for what compilers make of it, ten
/// instructions for 16 bytes: a search for each line costs twice as much.
#[inline]
fn line_feeds(bytes: &[u8]) -> u64 {
    let Some(block) = bytes.first_chunk::<BLOCK>() else { return line_feeds(&padded(bytes)) };
    let hits: [u8; BLOCK] = std::array::from_fn(|at| u8::from(block[at] == b'\n'));
    let (eights, _) = hits.as_chunks();
    // Moves the low bits of eight bytes into the highest.
    let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    eights.iter().rev().fold(0, |mask, eight| mask << 8 | bits(eight))
}

#[inline(never)]
fn padded(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

/// Whether a field line, without its LF, needs no closer look: it ends as it should, and does not say how the body is framed.
#[inline]
fn is_plain(line: &[u8]) -> bool {
    // `Content-Length` and `Transfer-Encoding` have an E there, and hardly any other field.
    matches!(line, [_, _, _, _, _, _, _, _, _, tenth, .., b'\r'] if tenth | 0x20 != b'e')
}

/// The value of a field line, if the field has this name.
#[inline]
fn value_of<'a, const N: usize>(line: &'a [u8], name: &[u8; N]) -> Option<&'a [u8]> {
    let (first, rest) = line.split_first_chunk::<N>()?;
    let value = rest.strip_prefix(b":")?;
    is_name(first, name).then(|| value.trim_ascii())
}

/// Whether this is the name, whose letters are small. It looks at eight bytes at a time.
#[inline]
fn is_name(name: &[u8], wanted: &[u8]) -> bool {
    // Of bytes that may be in a name, this makes only the two forms of a letter equal.
    let small = |eight: &[u8; 8]| u64::from_ne_bytes(*eight) | u64::from_ne_bytes([0x20; 8]);
    let (eights, wanted_eights) = (name.as_chunks().0, wanted.as_chunks().0);
    let are_equal = eights.iter().zip(wanted_eights).all(|(eight, wanted)| small(eight) == small(wanted));
    are_equal && name.last_chunk().map(small) == wanted.last_chunk().map(small)
}

/// What is behind `left` bytes, and how many of those are still to come.
fn behind(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (&bytes[here..], left - here as u64)
}

/// Size of a chunk (RFC 9112 §7.1). What is behind the digits is space, as some send it, and extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, behind) = line.split_at(digits);
    let is_extension = matches!(behind.trim_ascii_start(), [] | [b';', ..]) && !behind.contains(&b'\r');
    number(size, 16).filter(|_| is_extension)
}

/// Digits only: no sign, no space, and no more than fit for sure.
fn number(digits: &[u8], radix: u8) -> Option<u64> {
    const MOST_DIGITS: usize = 15;
    if digits.is_empty() || digits.len() > MOST_DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |number, byte| {
        let digit = if byte.is_ascii_digit() { byte - b'0' } else { (byte | 0x20).wrapping_sub(b'a' - 10) };
        (digit < radix).then(|| number * u64::from(radix) + u64::from(digit))
    })
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
