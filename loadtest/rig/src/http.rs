//! The little of HTTP/1.1 that both ends need: heads and bodies. It trusts its peers, which are on this machine.

use std::io;

/// Length of the head that `bytes` begin with, its empty line included.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// Value of a field, whatever the case of its name.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    })
}

/// Value of a query parameter of a request target.
pub fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

/// How far a body goes.
pub enum Framing {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Framing {
    pub fn of(head: &[u8]) -> Self {
        let chunked = |value: &[u8]| value.to_ascii_lowercase().ends_with(b"chunked");
        if field(head, "transfer-encoding").is_some_and(chunked) {
            return Self::Chunked(Chunked::default());
        }
        let length = field(head, "content-length").and_then(|value| str::from_utf8(value).ok()?.parse().ok());
        length.map_or(Self::UntilClose, Self::Length)
    }

    /// Takes what of `bytes` belongs to the body and hands `f` its pieces. Returns how many bytes that was, and whether
    /// the body is complete.
    pub fn feed(&mut self, bytes: &[u8], mut f: impl FnMut(&[u8])) -> io::Result<(usize, bool)> {
        match self {
            Self::Length(left) => {
                let n = (*left).min(bytes.len() as u64);
                *left -= n;
                f(&bytes[..n as usize]);
                Ok((n as usize, *left == 0))
            }
            Self::Chunked(chunked) => chunked.feed(bytes, f),
            Self::UntilClose => {
                f(bytes);
                Ok((bytes.len(), false))
            }
        }
    }
}

/// Decoder of the chunked transfer coding.
#[derive(Default)]
pub struct Chunked {
    at: At,
    left: u64,
}

#[derive(Default, Clone, Copy)]
enum At {
    #[default]
    Size,
    Extension,
    Data,
    DataEnd,
    TrailerStart,
    Trailer,
}

impl Chunked {
    fn feed(&mut self, bytes: &[u8], mut f: impl FnMut(&[u8])) -> io::Result<(usize, bool)> {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            if let At::Data = self.at {
                let (data, behind) = rest.split_at(self.left.min(rest.len() as u64) as usize);
                f(data);
                self.left -= data.len() as u64;
                rest = behind;
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            rest = tail;
            self.at = match (self.at, byte) {
                (At::Size | At::Extension, b'\n') if self.left == 0 => At::TrailerStart,
                (At::Size | At::Extension, b'\n') => At::Data,
                (At::Size, b'\r') | (At::Extension, _) => self.at,
                (At::Size, digit) => match (digit as char).to_digit(16) {
                    Some(digit) => {
                        self.left = self.left << 4 | u64::from(digit);
                        At::Size
                    }
                    None => At::Extension,
                },
                (At::DataEnd, b'\n') => At::Size,
                (At::DataEnd, b'\r') | (At::TrailerStart, b'\r') => self.at,
                (At::TrailerStart, b'\n') => {
                    self.at = At::Size;
                    return Ok((bytes.len() - rest.len(), true));
                }
                (At::Trailer, b'\n') => At::TrailerStart,
                (At::TrailerStart | At::Trailer, _) => At::Trailer,
                (At::DataEnd | At::Data, _) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "chunk is longer than its size"));
                }
            };
        }
        Ok((bytes.len(), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-LENGTH:  12 \r\nX: y\r\n\r\n";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";

    #[test]
    fn a_head_is_found_and_read() {
        assert_eq!(head_end(HEAD), Some(HEAD.len()));
        assert_eq!(head_end(&HEAD[..HEAD.len() - 1]), None);
        assert_eq!(field(HEAD, "content-length"), Some(&b"12"[..]));
        assert_eq!(field(HEAD, "y"), None);
        assert!(matches!(Framing::of(HEAD), Framing::Length(12)));
        assert_eq!(parameter("/sse?a=1&rate=2.5", "rate"), Some("2.5"));
        assert_eq!(parameter("/sse", "rate"), None);
    }

    #[test]
    fn chunks_decode_the_same_however_they_are_cut() {
        let wire = b"5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nnext";
        for step in 1..wire.len() {
            let (mut framing, mut body, mut used) = (Framing::of(CHUNKED), Vec::new(), 0);
            let mut complete = false;
            for piece in wire.chunks(step) {
                let (n, end) = framing.feed(piece, |data| body.extend_from_slice(data)).unwrap();
                used += n;
                complete = end;
                if end {
                    break;
                }
            }
            assert!(complete, "{step}");
            assert_eq!(body, b"hello0123456789");
            assert_eq!(&wire[used..], b"next");
        }
    }

    #[test]
    fn a_wrong_size_is_an_error() {
        assert!(Framing::of(CHUNKED).feed(b"2\r\nabc\r\n", |_| ()).is_err());
    }
}
