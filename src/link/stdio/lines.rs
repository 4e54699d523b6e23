//! Lines out of a stream of bytes, in bounded memory.

use bytes::Bytes;

use super::oversize::Oversize;
use crate::mcp::message::Id;

/// What a process wrote.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Text(Bytes),
    /// One that was too long to be held.
    TooLong {
        /// Its length in bytes.
        length: u64,
        /// The request that it answers, if it is a response.
        answers: Option<Id>,
    },
}

/// Takes bytes, and yields the lines that they complete.
pub(super) struct Lines {
    longest: usize,
    /// What was not yielded yet: lines from `start` on, the end of the last one still to come.
    held: Vec<u8>,
    start: usize,
    /// No line ends before this.
    searched: usize,
    /// A line too long to be held, on its way past.
    passing: Option<Box<Oversize>>,
    passed: Option<Line>,
}

impl Lines {
    /// Holds lines of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self { longest, held: Vec::new(), start: 0, searched: 0, passing: None, passed: None }
    }

    /// Whether a line too long to be held is on its way past.
    pub(super) fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes what was read. To be called when [`Lines::next`] has no more.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        if let Some(passing) = &mut self.passing {
            let end = memchr::memchr(b'\n', bytes);
            passing.push(&bytes[..end.unwrap_or(bytes.len())]);
            let Some(end) = end else { return };
            self.passed = self.passing.take().map(|passing| passing.end());
            bytes = &bytes[end + 1..];
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next line, if it is complete.
    pub(super) fn next(&mut self) -> Option<Line> {
        if let Some(passed) = self.passed.take() {
            return Some(passed);
        }
        let Some(end) = memchr::memchr(b'\n', &self.held[self.searched..]).map(|at| self.searched + at)
        else {
            self.settle();
            return None;
        };
        let start = std::mem::replace(&mut self.start, end + 1);
        self.searched = end + 1;
        if end - start > self.longest {
            let mut passing = Oversize::default();
            passing.push(&self.held[start..end]);
            return Some(passing.end());
        }
        if start > 0 || end + 1 < self.held.len() {
            return Some(Line::Text(Bytes::copy_from_slice(&self.held[start..end])));
        }
        // Most often one read is one line: no need for another copy.
        let mut line = std::mem::take(&mut self.held);
        (self.start, self.searched) = (0, 0);
        line.truncate(end);
        Some(Line::Text(line.into_boxed_slice().into()))
    }

    /// Keeps nothing but the line that is not complete, and lets that pass if it is too long.
    fn settle(&mut self) {
        if self.start == self.held.len() {
            self.held = Vec::new();
        } else {
            self.held.drain(..self.start);
        }
        self.start = 0;
        self.searched = self.held.len();
        if self.held.len() > self.longest {
            let mut passing = Box::new(Oversize::default());
            passing.push(&self.held);
            self.passing = Some(passing);
            self.held = Vec::new();
            self.searched = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(line: &str) -> Line {
        Line::Text(Bytes::copy_from_slice(line.as_bytes()))
    }

    /// What comes out when `input` arrives in pieces of these sizes.
    fn lines(input: &[u8], longest: usize, sizes: &[usize]) -> Vec<Line> {
        let mut lines = Lines::new(longest);
        let mut found = Vec::new();
        let (mut rest, mut sizes) = (input, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().map_or(1, |size| *size).min(rest.len()));
            rest = after;
            lines.push(piece);
            found.extend(std::iter::from_fn(|| lines.next()));
            assert!(lines.held.len() <= longest, "{} bytes are held", lines.held.len());
        }
        found
    }

    #[test]
    fn an_answer_that_is_too_long_is_known_by_its_id_and_the_lines_around_it_are_whole() {
        let big =
            format!(r#"{{"result":{{"id":1,"x":"{}"}},"jsonrpc":"2.0","id":"\u0061"}}"#, "y".repeat(100));
        let input = format!("before\n{big}\nafter\n");
        let too_long = Line::TooLong { length: big.len() as u64, answers: Some(Id::String("a".into())) };
        for size in [1, 7, 64, 1000] {
            let found = lines(input.as_bytes(), 50, &[size]);
            assert_eq!(found.len(), 3, "{found:?}");
            assert_eq!((&found[0], &found[2]), (&text("before"), &text("after")));
            assert_eq!(found[1], too_long);
        }
    }

    #[test]
    fn nothing_is_held_between_lines() {
        let mut lines = Lines::new(100);
        lines.push(b"a\nb\n");
        assert_eq!([lines.next(), lines.next(), lines.next()], [Some(text("a")), Some(text("b")), None]);
        assert_eq!(lines.held.capacity(), 0);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            input in "[a-c\n]{0,200}",
            sizes in prop::collection::vec(1_usize..40, 1..5),
        ) {
            let complete = input.rsplit_once('\n').map(|(complete, _)| complete);
            let wanted: Vec<_> = complete.iter().flat_map(|complete| complete.split('\n')).map(|line| {
                if line.len() > 20 { Line::TooLong { length: line.len() as u64, answers: None } } else { text(line) }
            }).collect();
            prop_assert_eq!(lines(input.as_bytes(), 20, &sizes), wanted);
        }
    }
}
