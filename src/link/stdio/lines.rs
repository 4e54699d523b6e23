//! Lines out of a stream of bytes, in bounded memory.

use bytes::Bytes;

use crate::{
    ledger::Limit,
    mcp::oversize::{Answers, Oversize},
};

/// What a process wrote.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OutputLine {
    /// A line, without its end.
    Text(Bytes),
    /// One that was not held.
    Skipped {
        /// Its length in bytes.
        length: u64,
        /// Whose answer it is.
        answers: Answers,
        /// What there was not enough of; else it was too long.
        given_up: Option<Limit>,
    },
}

/// Takes bytes, and yields the lines that they complete.
pub(super) struct LineBuffer {
    longest: usize,
    /// What was not yielded yet: lines from `start` on, the end of the last one still to come.
    held: Vec<u8>,
    start: usize,
    /// No line ends before this.
    searched: usize,
    /// A line that is not held, on its way past, and for want of what, if it is not too long.
    passing: Option<(Box<Oversize>, Option<Limit>)>,
    passed: Option<OutputLine>,
}

impl LineBuffer {
    /// Holds lines of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self { longest, held: Vec::new(), start: 0, searched: 0, passing: None, passed: None }
    }

    /// Whether a line that is not held is on its way past.
    pub(super) fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes what was read. To be called when [`LineBuffer::next`] has no more.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        if let Some((passing, _)) = &mut self.passing {
            let end = memchr::memchr(b'\n', bytes);
            passing.push(&bytes[..end.unwrap_or(bytes.len())]);
            let Some(end) = end else { return };
            self.passed = self.passing.take().map(|(passing, given_up)| passed(*passing, given_up));
            bytes = &bytes[end + 1..];
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next line, if it is complete.
    pub(super) fn next(&mut self) -> Option<OutputLine> {
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
            return Some(passed(passing, None));
        }
        if start > 0 || end + 1 < self.held.len() {
            return Some(OutputLine::Text(Bytes::copy_from_slice(&self.held[start..end])));
        }
        // Most often one read is one line: no need for another copy.
        let mut line = std::mem::take(&mut self.held);
        (self.start, self.searched) = (0, 0);
        line.truncate(end);
        Some(OutputLine::Text(line.into_boxed_slice().into()))
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
            self.let_pass(None);
        }
    }

    /// Holds no more of the line that is not complete. To be called when [`LineBuffer::next`] has no more.
    pub(super) fn give_up(&mut self, limit: Limit) {
        if self.passing.is_none() {
            self.let_pass(Some(limit));
        }
    }

    fn let_pass(&mut self, given_up: Option<Limit>) {
        let mut passing = Box::new(Oversize::default());
        passing.push(&self.held);
        self.passing = Some((passing, given_up));
        self.held = Vec::new();
        self.searched = 0;
    }
}

fn passed(passing: Oversize, given_up: Option<Limit>) -> OutputLine {
    let (length, is_message) = (passing.length(), passing.is_message());
    let answers = match passing.end() {
        // A process may write anything, and most of it is no answer.
        Answers::Unknown if !is_message => Answers::Nobody,
        answers => answers,
    };
    OutputLine::Skipped { length, answers, given_up }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mcp::message::Id;

    fn text(line: &str) -> OutputLine {
        OutputLine::Text(Bytes::copy_from_slice(line.as_bytes()))
    }

    /// What comes out when `input` arrives in pieces of these sizes.
    fn lines(input: &[u8], longest: usize, sizes: &[usize]) -> Vec<OutputLine> {
        let mut lines = LineBuffer::new(longest);
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
        let too_long = OutputLine::Skipped {
            length: big.len() as u64,
            answers: Answers::Request(Id::String("a".into())),
            given_up: None,
        };
        for size in [1, 7, 64, 1000] {
            let found = lines(input.as_bytes(), 50, &[size]);
            assert_eq!(found.len(), 3, "{found:?}");
            assert_eq!((&found[0], &found[2]), (&text("before"), &text("after")));
            assert_eq!(found[1], too_long);
        }
    }

    #[test]
    fn a_line_that_is_given_up_is_known_by_its_id_wherever_that_stands() {
        for line in [r#"{"id":7,"result":"abc"}"#, r#"{"result":"abc","id":7}"#] {
            for cut in 1..line.len() {
                let mut lines = LineBuffer::new(100);
                lines.push(&line.as_bytes()[..cut]);
                assert_eq!(lines.next(), None);
                lines.give_up(Limit::Caller);
                assert_eq!((lines.held(), lines.is_passing()), (0, true));
                lines.push(&line.as_bytes()[cut..]);
                assert_eq!((lines.next(), lines.held()), (None, 0));
                lines.push(b"\nafter\n");
                let (answers, given_up) = (Answers::Request(Id::number(7)), Some(Limit::Caller));
                let passed = OutputLine::Skipped { length: line.len() as u64, answers, given_up };
                assert_eq!(
                    [lines.next(), lines.next(), lines.next()],
                    [Some(passed), Some(text("after")), None]
                );
            }
        }
    }

    #[test]
    fn nothing_is_held_between_lines() {
        let mut lines = LineBuffer::new(100);
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
                if line.len() > 20 { OutputLine::Skipped { length: line.len() as u64, answers: Answers::Nobody, given_up: None } } else { text(line) }
            }).collect();
            prop_assert_eq!(lines(input.as_bytes(), 20, &sizes), wanted);
        }
    }
}
