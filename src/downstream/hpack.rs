//! As much of HPACK (RFC 7541) as it takes to find a fragment in the `:path` of a request, and whether there is an `Expect`.
//!
//! h2 cuts a fragment off before anyone can refuse it, and so a path with a `#` would have a second spelling. So header blocks
//! are read here too: which fields are `:path`, and of their values whether there is a `#`. For `Expect`, see
//! [`super::interim`]. The dynamic table is kept as names and sizes. All else is skipped, in time that does not depend on it
//! where it leaves no trace in the table.

use std::collections::VecDeque;

/// A header block that no decoder takes, so that its connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// Most bytes of the dynamic table: the value that every endpoint begins with (RFC 9113 §6.5.2), and h2 asks for no other.
const MOST_TABLE: usize = 4096;
/// What an entry counts beside its name and value (RFC 7541 §4.1).
const ENTRY: usize = 32;
const PATH: &str = ":path";
const EXPECT: &str = "expect";
/// Where [`STATIC_NAMES`] has it, counted from 1.
const EXPECT_INDEX: usize = 35;

/// What a header block holds.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// A `:path` whose value has a `#`. One that is only repeated from the table was found when it came into it.
    pub(super) fragment: bool,
    /// An `Expect`, whatever it asks for.
    pub(super) expect: bool,
}

/// The state of one direction of a connection.
#[derive(Default)]
pub(super) struct HeaderTable {
    /// Newest first.
    table: VecDeque<Entry>,
    size: usize,
    /// What the client took off from [`MOST_TABLE`].
    less: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    size: usize,
    name: Name,
}

/// What counts of a field's name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    length: usize,
    is_path: bool,
    is_expect: bool,
}

impl Name {
    fn of(name: &str) -> Self {
        Self { length: name.len(), is_path: name == PATH, is_expect: name == EXPECT }
    }
}

impl HeaderTable {
    /// Reads a whole header block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Found, Invalid> {
        let mut rest = block;
        let mut found = Found::default();
        while let Some(&first) = rest.first() {
            match first {
                0x80.. => found.expect |= self.is_expect(integer(&mut rest, 7)?),
                0x40.. => self.literal(&mut rest, 6, true, &mut found)?,
                0x20.. => self.resize(integer(&mut rest, 5)?)?,
                _ => self.literal(&mut rest, 4, false, &mut found)?,
            }
        }
        Ok(found)
    }

    /// Whether the field at `index` is an `Expect`.
    fn is_expect(&self, index: usize) -> bool {
        match index.checked_sub(1 + STATIC_NAMES.len()) {
            None => index == EXPECT_INDEX,
            Some(at) => self.table.get(at).is_some_and(|entry| entry.name.is_expect),
        }
    }

    /// Reads a literal field (RFC 7541 §6.2).
    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u32,
        is_kept: bool,
        found: &mut Found,
    ) -> Result<(), Invalid> {
        let name = match integer(rest, prefix)? {
            0 => literal_name(string(rest)?)?,
            index => self.name(index)?,
        };
        let value = string(rest)?;
        found.expect |= name.is_expect;
        // The value of anything else counts by its length alone, and only if it is kept.
        if !name.is_path && !is_kept {
            return Ok(());
        }
        let (mut length, mut has_fragment) = (0, false);
        value.read(|byte| {
            length += 1;
            has_fragment |= byte == b'#';
        })?;
        if is_kept {
            self.insert(Entry { size: ENTRY + name.length + length, name });
        }
        found.fragment |= has_fragment && name.is_path;
        Ok(())
    }

    fn name(&self, index: usize) -> Result<Name, Invalid> {
        match STATIC_NAMES.get(index - 1) {
            Some(name) => Ok(Name::of(name)),
            None => self.table.get(index - 1 - STATIC_NAMES.len()).map(|entry| entry.name).ok_or(Invalid),
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.evict(entry.size);
        if self.size + entry.size <= MOST_TABLE - self.less {
            self.size += entry.size;
            self.table.push_front(entry);
        }
    }

    fn resize(&mut self, size: usize) -> Result<(), Invalid> {
        self.less = MOST_TABLE.checked_sub(size).ok_or(Invalid)?;
        self.evict(0);
        Ok(())
    }

    /// Makes room for an entry of this size (RFC 7541 §4.3, §4.4).
    fn evict(&mut self, room: usize) {
        while self.size + room > MOST_TABLE - self.less
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

/// An integer whose first byte has it in the lowest `prefix` bits (RFC 7541 §5.1).
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Invalid> {
    let mut next = || {
        let (&byte, behind) = rest.split_first().ok_or(Invalid)?;
        *rest = behind;
        Ok(usize::from(byte))
    };
    let most = (1 << prefix) - 1;
    let mut value = next()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        value += (byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Invalid)
}

/// A string literal (RFC 7541 §5.2).
struct Text<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

fn string<'a>(rest: &mut &'a [u8]) -> Result<Text<'a>, Invalid> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Invalid)?;
    *rest = behind;
    Ok(Text { bytes, is_coded })
}

fn literal_name(text: Text<'_>) -> Result<Name, Invalid> {
    let (mut length, mut is_path, mut is_expect) = (0, true, true);
    text.read(|byte| {
        is_path &= PATH.as_bytes().get(length) == Some(&byte);
        is_expect &= EXPECT.as_bytes().get(length) == Some(&byte);
        length += 1;
    })?;
    let (is_path, is_expect) = (is_path && length == PATH.len(), is_expect && length == EXPECT.len());
    Ok(Name { length, is_path, is_expect })
}

impl Text<'_> {
    /// Calls `then` with each byte that it stands for.
    fn read(&self, mut then: impl FnMut(u8)) -> Result<(), Invalid> {
        if !self.is_coded {
            self.bytes.iter().copied().for_each(then);
            return Ok(());
        }
        let (mut code, mut bits) = (0_u64, 0);
        for &byte in self.bytes {
            code = code << 8 | u64::from(byte);
            bits += 8;
            while let Some((symbol, length)) = first_symbol(code, bits) {
                bits -= length;
                code &= (1 << bits) - 1;
                then(u8::try_from(symbol).map_err(|_| Invalid)?);
            }
            if bits >= LONGEST {
                return Err(Invalid);
            }
        }
        // Padded with the beginning of the longest code, which is all ones.
        if bits < 8 && code == (1 << bits) - 1 { Ok(()) } else { Err(Invalid) }
    }
}

/// The symbol that the first of these bits are the code of, and how many they are.
fn first_symbol(code: u64, bits: usize) -> Option<(u16, usize)> {
    (SHORTEST..=bits.min(LONGEST)).find_map(|length| {
        let Codes { first, symbols } = CODES.of_length[length];
        let at = (code >> (bits - length)).checked_sub(first)?;
        let at = usize::try_from(at).ok().filter(|at| *at < symbols.1)?;
        Some((CODES.symbols[symbols.0 + at], length))
    })
}

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The Huffman code of RFC 7541, appendix B, from the lengths of its codes: it is canonical, so codes of one length follow
/// each other in the order of their symbols.
static CODES: Code = Code::new();

struct Code {
    of_length: [Codes; LONGEST + 1],
    /// In the order of their codes.
    symbols: [u16; LENGTHS.len()],
}

#[derive(Clone, Copy)]
struct Codes {
    first: u64,
    /// Where their symbols begin, and how many they are.
    symbols: (usize, usize),
}

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            of_length: [Codes { first: 0, symbols: (0, 0) }; LONGEST + 1],
            symbols: [0; LENGTHS.len()],
        };
        let (mut next, mut placed, mut length) = (0, 0, SHORTEST);
        while length <= LONGEST {
            code.of_length[length] = Codes { first: next, symbols: (placed, 0) };
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[placed] = symbol as u16;
                    placed += 1;
                    next += 1;
                }
                symbol += 1;
            }
            code.of_length[length].symbols.1 = placed - code.of_length[length].symbols.0;
            next <<= 1;
            length += 1;
        }
        code
    }
}

/// Length of the code of each byte, and of the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Names of the static table (RFC 7541, appendix A).
const STATIC_NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    PATH,
    PATH,
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    EXPECT,
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

#[cfg(test)]
#[path = "hpack_tests.rs"]
mod tests;
