//! Where in a text an offset is: line and column, by one index of its lines.

/// The lines of a text.
pub(crate) struct LineIndex<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// A parser may point one past the end, or into a character; neither may cost the message.
    fn floor(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        (0..=end).rev().find(|&at| self.text.is_char_boundary(at)).unwrap_or(0)
    }

    /// Line of `offset`, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset.min(self.text.len()))
    }

    /// Line and column of `offset`, both from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let (line, offset) = (self.line(offset), self.floor(offset));
        (line, self.text[self.starts[line - 1]..offset].chars().count() + 1)
    }

    /// Offsets between which the line of `offset` stands, without what ends it.
    pub(crate) fn range(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.starts[line - 1];
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let text = self.text[start..end].trim_end_matches('\r');
        (start, start + text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        assert_eq!(LineIndex::new("é\n\"ü\": x").position(9), (2, 6));
        assert_eq!(LineIndex::new("ab").position(99), (1, 3));
        assert_eq!(LineIndex::new("").position(0), (1, 1));
        assert_eq!(LineIndex::new("a\n").position(2), (2, 1));
        assert_eq!(LineIndex::new("é").position(1), (1, 1), "into a character");
    }

    #[test]
    fn a_line_ends_before_its_line_break() {
        let text = "ab\r\ncd\n";
        let line = |offset| {
            let (start, end) = LineIndex::new(text).range(offset);
            &text[start..end]
        };
        assert_eq!([line(0), line(3), line(4), line(6), line(7)], ["ab", "ab", "cd", "cd", ""]);
    }
}
