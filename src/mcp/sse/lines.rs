//! Where the lines of an event stream end.
//!
//! CR, LF and CRLF end a line (WHATWG HTML, section 9.2.6). A line is over with its CR: whether LF follows may take a while to
//! know. Sans-io: what each reader keeps of a line is its own affair.

use std::mem;

use memchr::memchr2;

/// What comes first of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// All of them, which is a part of one line.
    Part,
    /// The rest of a line, this long, and one byte that ends it.
    Line(usize),
    /// The LF of a CRLF, whose line is over already.
    LineFeed,
}

/// Cuts a stream into lines, wherever the pieces of it begin.
#[derive(Debug, Default)]
pub(super) struct LineCutter {
    /// Whether the last byte was CR.
    pub(super) after_cr: bool,
}

impl LineCutter {
    /// What comes first of `bytes`; `None` if there are none.
    pub(super) fn cut(&mut self, bytes: &[u8]) -> Option<Cut> {
        let first = bytes.first()?;
        if mem::take(&mut self.after_cr) && *first == b'\n' {
            return Some(Cut::LineFeed);
        }
        let Some(end) = memchr2(b'\r', b'\n', bytes) else { return Some(Cut::Part) };
        self.after_cr = bytes[end] == b'\r';
        Some(Cut::Line(end))
    }
}

impl Cut {
    /// How many of the bytes it is.
    pub(super) fn len(&self, bytes: &[u8]) -> usize {
        match self {
            Self::Part => bytes.len(),
            Self::Line(end) => end + 1,
            Self::LineFeed => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_its_cr_and_a_line_feed_behind_that_is_no_line() {
        let stream = b"a\r\nbc\rd\n\r\n\r\r\n\ne";
        for size in 1..stream.len() {
            let (mut cutter, mut line, mut lines) = (LineCutter::default(), Vec::new(), Vec::new());
            for mut piece in stream.chunks(size) {
                while let Some(cut) = cutter.cut(piece) {
                    let (taken, rest) = piece.split_at(cut.len(piece));
                    piece = rest;
                    match cut {
                        Cut::Part => line.extend_from_slice(taken),
                        Cut::Line(end) => {
                            line.extend_from_slice(&taken[..end]);
                            lines.push(mem::take(&mut line));
                        }
                        Cut::LineFeed => assert_eq!(taken, b"\n"),
                    }
                }
            }
            assert_eq!(lines, [&b"a"[..], b"bc", b"d", b"", b"", b"", b""], "in pieces of {size}");
            assert_eq!(line, b"e");
        }
    }
}
