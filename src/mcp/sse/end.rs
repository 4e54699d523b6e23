//! Whether an event stream that passes is between two events.
//!
//! Only there may something be put in that is not its server's. To know it takes the last bytes, nothing more: an event ends
//! with an empty line (WHATWG HTML, section 9.2.6). Sans-io: pieces in, three bytes held.
//!
//! A byte order mark means nothing at the very beginning of a stream, and only there (section 9.2.5). Behind a comment that
//! was put in before the first byte it would be part of the first field's name, and the event lost. So there it is taken out.

use crate::mcp::sse::endpoint::BYTE_ORDER_MARK;

/// The end of what has passed of one stream.
#[derive(Debug, Clone, Copy)]
pub struct EventEnd {
    last: [u8; 3],
    has_begun: bool,
    /// A comment was put in before the first byte.
    is_late: bool,
}

/// A byte order mark that comes in parts behind a comment: it can be neither passed nor taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitMark;

impl std::fmt::Display for SplitMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a byte order mark in parts, after a silence")
    }
}

impl Default for EventEnd {
    /// The beginning of a stream, which is before its first event.
    fn default() -> Self {
        Self { last: [b'\n'; 3], has_begun: false, is_late: false }
    }
}

impl EventEnd {
    /// What passes next.
    pub fn push(&mut self, piece: &[u8]) {
        self.last = match *piece {
            [] => return,
            [.., a, b, c] => [a, b, c],
            [b, c] => [self.last[2], b, c],
            [c] => [self.last[1], self.last[2], c],
        };
        self.has_begun = true;
    }

    /// A comment is put in here.
    pub fn comment(&mut self) {
        self.is_late |= !self.has_begun;
    }

    /// Whether `piece`, which passes next, begins with a byte order mark that has to be taken out.
    pub fn has_late_mark(self, piece: &[u8]) -> Result<bool, SplitMark> {
        match piece {
            [] => Ok(false),
            _ if !self.is_late || self.has_begun => Ok(false),
            _ if piece.starts_with(BYTE_ORDER_MARK) => Ok(true),
            _ if BYTE_ORDER_MARK.starts_with(piece) => Err(SplitMark),
            _ => Ok(false),
        }
    }

    /// Whether an event is over and none has begun, to every reader of such streams: some do not end lines at a CR by itself,
    /// so of line ends that are mixed only those count which all of them see. Behind a CR that ends an empty line after
    /// a LF, the rest of a CRLF may be on its way.
    pub fn is_between_events(self) -> bool {
        matches!(self.last, [_, b'\n', b'\n'] | [_, b'\r', b'\r'] | [b'\n', b'\r', b'\n'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_taken_out_behind_a_comment_that_came_before_it_and_nowhere_else() {
        let event = "\u{feff}data: 1\n\n".as_bytes();
        let mut end = EventEnd::default();
        assert_eq!(end.has_late_mark(event), Ok(false), "at the very beginning it means nothing");
        end.comment();
        assert_eq!(end.has_late_mark(b""), Ok(false));
        assert_eq!(end.has_late_mark(event), Ok(true));
        assert_eq!(end.has_late_mark(&event[..2]), Err(SplitMark));
        assert_eq!(end.has_late_mark(b"data"), Ok(false));
        end.push(event);
        assert_eq!(end.has_late_mark(event), Ok(false), "it is the server's");
        let mut begun = EventEnd::default();
        begun.push(b"data: 1\n\n");
        begun.comment();
        assert_eq!(begun.has_late_mark(event), Ok(false));
    }

    #[test]
    fn an_event_is_over_behind_an_empty_line_wherever_the_stream_is_cut() {
        for (stream, is_between) in [
            ("", true),
            ("data: 1\n\n", true),
            ("data: 1\r\n\r\n", true),
            ("data: 1\r\r", true),
            (": a comment\n\n", true),
            ("data: 1\n\n\n", true),
            ("\n", true),
            ("data: 1", false),
            ("data: 1\n", false),
            ("data: 1\r", false),
            ("data: 1\r\n", false),
            ("data: 1\r\n\r", false),
            ("data: 1\n\ndata: 2", false),
            ("data: 1\n\ndata: 2\n", false),
            ("data: 1\n\ni", false),
            ("data: 1\r\n\r\n:", false),
            ("data: 1\r\r\n", false),
            ("\u{feff}", false),
        ] {
            for at in 0..=stream.len() {
                for end in at..=stream.len() {
                    let mut followed = EventEnd::default();
                    for piece in
                        [&stream.as_bytes()[..at], &stream.as_bytes()[at..end], &stream.as_bytes()[end..]]
                    {
                        followed.push(piece);
                    }
                    assert_eq!(followed.is_between_events(), is_between, "{stream:?} cut at {at} and {end}");
                }
            }
        }
    }
}
