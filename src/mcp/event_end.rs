//! Whether an event stream that passes stands between two events.
//!
//! Only there may something be put in that is not its server's. To know it takes the last bytes, nothing more: an event ends
//! with an empty line (WHATWG HTML, section 9.2.6). Sans-io: pieces in, three bytes held.

/// The end of what has passed of one stream.
#[derive(Debug, Clone, Copy)]
pub struct EventEnd([u8; 3]);

impl Default for EventEnd {
    /// The beginning of a stream, which is before its first event.
    fn default() -> Self {
        Self([b'\n'; 3])
    }
}

impl EventEnd {
    /// What passes next.
    pub fn push(&mut self, piece: &[u8]) {
        match *piece {
            [] => {}
            [.., a, b, c] => self.0 = [a, b, c],
            [b, c] => self.0 = [self.0[2], b, c],
            [c] => self.0 = [self.0[1], self.0[2], c],
        }
    }

    /// Whether an event is over and none has begun, to every reader of such streams: some do not end lines at a CR by itself,
    /// so of line ends that are mixed only those count which all of them see. Behind a CR that ends an empty line after
    /// a LF, the rest of a CRLF may be on its way.
    pub fn is_between_events(self) -> bool {
        matches!(self.0, [_, b'\n', b'\n'] | [_, b'\r', b'\r'] | [b'\n', b'\r', b'\n'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
