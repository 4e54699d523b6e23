//! Finds an `endpoint` event in a stream that has none, or none any more.
//!
//! A client of HTTP+SSE (MCP 2024-11-05) sends its messages, and its token with them, wherever such an event says, whenever it
//! comes. Clients look for one in what a GET is answered with, also at the endpoint of the other transport, when they try
//! which of the two a server speaks.
//!
//! Clients do not read a stream alike. So a name is found in every way to write it that some client understands: behind any
//! line end of Unicode (httpx breaks lines as Python's `splitlines` does), with blanks of any kind around it (Go's
//! `TrimSpace`), behind byte order marks, and with its field in any case. What is behind the name does not matter: no other
//! event of MCP begins like that.
//!
//! It is nearly free: a stream that passes is searched for the word, by vector instructions, and is looked at byte by byte only
//! around it and at the end of a piece. Sans-io: pieces in, nothing held.

use std::{error::Error, fmt, sync::LazyLock};

use memchr::memmem::Finder;

const FIELD: &[u8] = b"event";
const NAME: &[u8] = b"endpoint";
/// Letters of the field.
const ALL: u8 = FIELD.len() as u8;
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));

/// Why a stream cannot be passed on. Says nothing of the URL, which is the upstream's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointError {
    /// An event or a line before the end of the `endpoint` event exceeds [`MAX_HELD`](super::endpoint::MAX_HELD).
    TooLong,
    /// The `endpoint` event does not hold one URL in visible ASCII.
    InvalidUrl,
    /// There is an `endpoint` event where none may be, or one that clients read differently.
    Stray,
    /// The URL has another scheme, host or port than the event stream: following it would let an upstream
    /// choose where the gateway connects to.
    ForeignOrigin,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the event stream opens with an event or a line of more than 16 KiB",
            Self::InvalidUrl => "the endpoint event does not hold one URL",
            Self::Stray => "an endpoint event that no client may follow",
            Self::ForeignOrigin => "the endpoint event names another origin than the event stream's",
        })
    }
}

impl Error for EndpointError {}

/// Looks at one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndpointGuard {
    line: Line,
    /// The last two bytes: line ends have up to three.
    last: [u8; 2],
}

/// What the current line is, as far as it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    /// Blanks.
    #[default]
    Start,
    /// So many letters of the field, and behind all of them blanks.
    Field(u8),
    /// The field, a colon, and blanks.
    Value,
    /// And so many letters of the name.
    Name(u8),
    /// Nothing of that kind.
    Other,
}

impl EndpointGuard {
    /// Looks at what comes next of the stream. After an error, nothing of it may pass, and the stream must be closed.
    pub fn look(&mut self, piece: &[u8]) -> Result<(), EndpointError> {
        // A name may have begun in the piece before.
        let mut rest = piece;
        while !matches!(self.line, Line::Start | Line::Other)
            && let Some((&byte, behind)) = rest.split_first()
        {
            self.read(byte)?;
            rest = behind;
        }
        while let Some(at) = FINDER.find(rest) {
            self.skip(&rest[..at])?;
            if self.line == Line::Value {
                return Err(EndpointError::Stray);
            }
            (self.line, self.last) = (Line::Other, *b"nt");
            rest = &rest[at + NAME.len()..];
        }
        self.skip(rest)
    }

    /// Reads bytes in which there is no name. Only those at their end can be the beginning of its line.
    fn skip(&mut self, bytes: &[u8]) -> Result<(), EndpointError> {
        let mut from = bytes.len();
        while from > 0 {
            let byte = bytes[from - 1];
            if byte == b'\n' {
                self.line = Line::Start;
                break;
            }
            if !MAY_COME_BEFORE[usize::from(byte)] {
                self.line = Line::Other;
                break;
            }
            from -= 1;
        }
        if from > 0 {
            self.last = [if from > 1 { bytes[from - 2] } else { 0 }, bytes[from - 1]];
        }
        bytes[from..].iter().try_for_each(|byte| self.read(*byte))
    }

    fn read(&mut self, byte: u8) -> Result<(), EndpointError> {
        let last = self.last;
        self.last = [last[1], byte];
        // What is a line end to some is a blank to others, who may go on with the same line; but for LF, where all end it.
        let is_within = matches!(self.line, Line::Value | Line::Field(ALL));
        if byte == b'\n' || (ends_line(last, byte) && !is_within) {
            self.line = Line::Start;
            return Ok(());
        }
        self.line = match self.line {
            line @ (Line::Start | Line::Value) if is_blank(byte) => line,
            line @ Line::Field(ALL) if is_blank(byte) => line,
            Line::Value if byte == NAME[0] => Line::Name(1),
            Line::Start | Line::Value | Line::Field(ALL) if byte.eq_ignore_ascii_case(&FIELD[0]) => {
                Line::Field(1)
            }
            // Both begin alike.
            Line::Name(1) if byte.eq_ignore_ascii_case(&FIELD[1]) => Line::Field(2),
            Line::Field(letters)
                if FIELD.get(usize::from(letters)).is_some_and(|next| byte.eq_ignore_ascii_case(next)) =>
            {
                Line::Field(letters + 1)
            }
            Line::Field(ALL) if byte == b':' => Line::Value,
            Line::Name(letters) if NAME.get(usize::from(letters)) == Some(&byte) => Line::Name(letters + 1),
            _ => Line::Other,
        };
        if matches!(self.line, Line::Name(letters) if usize::from(letters) == NAME.len()) {
            Err(EndpointError::Stray)
        } else {
            Ok(())
        }
    }
}

/// Whether a line ends with this byte, behind the `last` two: where the format ends lines (WHATWG HTML, section 9.2.6), and
/// where Unicode does (UAX #14, and the separators of ASCII).
pub(crate) fn ends_line(last: [u8; 2], byte: u8) -> bool {
    match byte {
        b'\n'..=b'\r' | 0x1C..=0x1E => true,
        // U+0085, U+2028 and U+2029.
        0x85 => last[1] == 0xC2,
        0xA8 | 0xA9 => last == [0xE2, 0x80],
        _ => false,
    }
}

/// Whether a byte may be of a blank, a control character, or a byte order mark. Of bytes beyond ASCII, this is more than
/// that, which is no harm: nobody else puts them between a field and its colon.
pub(super) const fn is_blank(byte: u8) -> bool {
    match byte {
        0..=b' ' | 0x7F => true,
        // Of U+0085, 00A0, 1680, 2000 to 200A, 2028, 2029, 202F, 205F, 3000 and FEFF.
        0xC2 | 0xE1 | 0xE2 | 0xE3 | 0xEF => true,
        0x80..=0x8A | 0x9A | 0x9F | 0xA0 | 0xA8 | 0xA9 | 0xAF | 0xBB | 0xBF => true,
        _ => false,
    }
}

/// Whether a byte may be of what comes before a name in its line, or of the beginning of the name.
const MAY_COME_BEFORE: [bool; 256] = {
    let mut may = [false; 256];
    let mut byte = 0;
    while byte < may.len() {
        may[byte] = is_blank(byte as u8) || byte as u8 == b':';
        byte += 1;
    }
    let mut at = 0;
    while at < FIELD.len() {
        may[FIELD[at] as usize] = true;
        may[FIELD[at].to_ascii_uppercase() as usize] = true;
        at += 1;
    }
    let mut at = 0;
    while at < NAME.len() {
        may[NAME[at] as usize] = true;
        at += 1;
    }
    may
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a stream that comes in these pieces is found to have a name.
    fn finds<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mut guard = EndpointGuard::default();
        pieces.into_iter().any(|piece| guard.look(piece).is_err())
    }

    /// The same, byte by byte, and by the rules alone.
    fn has(stream: &[u8]) -> bool {
        let mut guard = EndpointGuard::default();
        stream.iter().any(|byte| guard.read(*byte).is_err())
    }

    #[test]
    fn a_name_is_found_wherever_it_is_cut() {
        for (stream, wanted) in [
            ("event: endpoint", true),
            ("event:endpoint\n", true),
            ("data: endpoint\nevent:  \t endpoint", true),
            ("endpointendpoint\u{85}EVENT\u{a0}:\u{3000}endpoint", true),
            ("x\u{2028}\u{feff}\u{feff} Event : endpoint-2", true),
            ("data: endpoint\r\rdata: endpoint\revent\u{2028}event: endpoint", true),
            ("id: 1\u{b}\u{c}\u{1c}\u{1d}\u{1e}event: endpoint", true),
            ("data: event: endpoint\n", false),
            ("event: x endpoint\nevent endpoint\nevents: endpoint\nevent:: endpoint\n", false),
            ("event: endpoin\nt\nevent: Endpoint\n eventdata: endpoint\nevent:\nendpoint", false),
            // Who breaks lines at LF only takes these for one line, who breaks them elsewhere for two.
            ("event:\rendpoint", true),
            ("event\r: \u{2028}\u{b}endpoint", true),
            ("event\revent: endpoint", true),
            ("event:\revent: endpoint", true),
            ("event: \u{85}Event: endpoint", true),
            ("\u{e9}event: endpoint \u{4e2d}event: endpoint \u{3042}.event: endpoint", false),
            ("event: end\npoint: endpoint\n: event: endpoint", false),
        ] {
            let stream = stream.as_bytes();
            assert_eq!(has(stream), wanted, "{}", stream.escape_ascii());
            assert_eq!(finds([stream]), wanted, "{}", stream.escape_ascii());
            assert_eq!(finds(stream.chunks(1)), wanted, "{}", stream.escape_ascii());
            for at in 0..=stream.len() {
                assert_eq!(finds([&stream[..at], &stream[at..]]), wanted, "{} {at}", stream.escape_ascii());
            }
        }
    }

    #[test]
    fn the_bytes_of_a_line_end_count_only_if_they_are_together() {
        assert!(finds([&b"x\xE2\x80"[..], b"\xA8event: endpoint"]));
        assert!(!finds([&b"x\xE2\x80"[..], b"x", b"\xA8event: endpoint"]));
    }

    #[test]
    fn a_stream_that_is_made_to_cost_time_costs_little() {
        // Each of these goes over the same bytes again and again if what was read is not left behind.
        for piece in ["endpoint", "event:", "event", " ", "\u{2003}", "e", "endpoin"] {
            let piece = piece.repeat(1 << 20);
            assert!(!finds([b"data: ", piece.as_bytes()]));
        }
    }

    proptest! {
        #[test]
        fn what_is_skipped_would_have_been_read_as_nothing(
            parts in prop::collection::vec("(event|Event|endpoint|end|data|:|: |\n|\r|\u{85}|\u{2028}|\u{a0}|\u{feff}|\u{e9}| |x)", 0..30),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let stream = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
            prop_assert_eq!(finds(pieces), has(&stream));
        }
    }
}
