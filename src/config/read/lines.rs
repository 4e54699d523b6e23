//! Where in a text an offset is: line and column, by one index of its lines.

/// The lines of a text.
pub(crate) struct LineIndex<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
    /// Characters in front of each part of so many bytes: a file may be one long line, of which each position is asked for.
    counts: Vec<usize>,
}

/// Bytes of which the characters are counted for a position.
const PART: usize = 512;

impl<'a> LineIndex<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let parts = text.as_bytes().chunks(PART).map(characters);
        let counts = std::iter::once(0).chain(parts.scan(0, |all, part| {
            *all += part;
            Some(*all)
        }));
        Self { text, starts, counts: counts.collect() }
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
        (line, self.characters(offset) - self.characters(self.starts[line - 1]) + 1)
    }

    /// Characters in front of `offset`, which is between two of them.
    fn characters(&self, offset: usize) -> usize {
        let part = offset / PART;
        self.counts[part] + characters(&self.text.as_bytes()[part * PART..offset])
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

/// Characters that begin in a part of a text: all bytes of UTF-8 but those that go on with one.
fn characters(part: &[u8]) -> usize {
    part.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_long_line_count_characters_as_well() {
        let text = format!("{}\n{}", "aö€😀".repeat(300), "ä".repeat(700));
        let index = LineIndex::new(&text);
        for (offset, _) in text.char_indices().chain([(text.len(), ' ')]) {
            let before = &text[..offset];
            let line = before.rsplit('\n').next().unwrap_or_default();
            let position = (before.matches('\n').count() + 1, line.chars().count() + 1);
            assert_eq!(index.position(offset), position, "at {offset}");
        }
    }

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
