//! What a walk has in its hands: the text that is being reported, and whether the bytes are UTF-8.

/// The string or number that is being read, if it is to be reported.
///
/// A text that came in one piece and without escapes is reported from where it is; any other is put together here.
#[derive(Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    /// Where in the piece the bytes begin that stand for themselves and are not in `bytes` yet.
    run: usize,
    /// The first half of a surrogate pair, whose second must follow.
    half: Option<u16>,
    /// Longest text that is reported, in bytes; 0 if this one is not.
    most: usize,
    is_readable: bool,
}

impl Text {
    /// A text begins at `at`.
    pub(super) fn begin(&mut self, most: usize, at: usize) {
        self.bytes.clear();
        self.half = None;
        self.most = most;
        self.is_readable = most > 0;
        self.run = at;
    }

    /// Bytes from `at` on stand for themselves again.
    pub(super) fn resume(&mut self, at: usize) {
        self.run = at;
    }

    /// The bytes up to `end` stood for themselves, and what follows does not, or is not there yet.
    pub(super) fn pause(&mut self, piece: &[u8], end: usize) {
        let run = piece.get(self.run..end).unwrap_or_default();
        if !run.is_empty() {
            self.extend(run);
        }
    }

    /// Bytes that an escape stands for.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if !self.is_readable {
            return;
        }
        if self.half.is_some() || self.bytes.len() + bytes.len() > self.most {
            self.is_readable = false;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// A UTF-16 code unit, as `\u` has it.
    pub(super) fn unit(&mut self, unit: u16) {
        let units = [self.half.take().unwrap_or_default(), unit];
        match (units, unit) {
            ([0, _], 0xD800..=0xDBFF) => self.half = Some(unit),
            // Where strings end at a zero byte, "a\u0000b" is "a".
            ([0, _], 0) => self.is_readable = false,
            ([0, _], _) => self.character(&[unit]),
            _ => self.character(&units),
        }
    }

    fn character(&mut self, units: &[u16]) {
        match char::decode_utf16(units.iter().copied()).next() {
            Some(Ok(character)) => self.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => self.is_readable = false,
        }
    }

    /// The text, which ends at `end`.
    pub(super) fn end<'a>(&'a mut self, piece: &'a [u8], end: usize) -> Option<&'a str> {
        let is_in_one_run = self.bytes.is_empty() && self.half.is_none();
        if is_in_one_run && self.is_readable {
            let run = piece.get(self.run..end).filter(|run| run.len() <= self.most)?;
            return std::str::from_utf8(run).ok();
        }
        self.pause(piece, end);
        let is_whole = self.is_readable && self.half.is_none();
        std::str::from_utf8(&self.bytes).ok().filter(|_| is_whole)
    }
}

/// Checks UTF-8 across pieces.
#[derive(Default)]
pub(super) struct Utf8 {
    /// The beginning of a character that a piece cut.
    cut: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Checks the next piece. The error is how many of its bytes come before what is no character.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut bytes = piece;
        while self.len > 0
            && let Some((&byte, rest)) = bytes.split_first()
        {
            self.cut[self.len] = byte;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.cut[..self.len]) {
                Ok(_) => self.len = 0,
                Err(e) if e.error_len().is_none() => {}
                Err(_) => return Err(piece.len() - bytes.len() - 1),
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(e) if e.error_len().is_none() => {
                let cut = &bytes[e.valid_up_to()..];
                self.cut[..cut.len()].copy_from_slice(cut);
                self.len = cut.len();
                Ok(())
            }
            Err(e) => Err(piece.len() - bytes.len() + e.valid_up_to()),
        }
    }
}

/// How many bytes at the front of `bytes` stand for themselves in a string: all but quote, backslash and control bytes.
/// Eight at a time, since nearly everything in a large message is inside of strings.
pub(super) fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is below `limit`; above the first such byte there may be false ones.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quote | backslash | below(word, 0x20);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}
