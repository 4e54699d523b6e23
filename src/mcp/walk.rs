//! A walk over a JSON text as it streams by, in memory that does not depend on the text.
//!
//! Every byte is checked (RFC 8259, UTF-8, no byte order mark), so that nothing is left that two parsers could read
//! differently; only what stands in the two outermost levels is told, because that is where JSON-RPC keeps what a
//! gateway decides on. Sans-io: bytes in, in pieces of any size.

use super::message::Malformed;

/// Deepest nesting. No MCP message comes near it, and many servers give up earlier.
pub const MAX_DEPTH: usize = 512;
/// Longest string or number that is told, in bytes and without its escapes. Longer ones are walked over.
pub const MAX_TEXT: usize = 1024;

/// Gets to know what stands in the two outermost levels of a JSON text.
///
/// `depth` is how many objects and arrays are open around it: the text's own value has 0, the members of the outermost
/// object have 1. An error ends the walk.
pub trait Visit {
    /// A member begins. `None` is a key that parsers do not agree on: one with a zero or half a surrogate pair, or one
    /// longer than [`MAX_TEXT`].
    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed>;
    /// A value was read, or an object or array begins.
    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed>;
}

/// A value, or its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Without its escapes; `None` as for [`Visit::key`].
    String(Option<&'a str>),
    /// As written; `None` if longer than [`MAX_TEXT`].
    Number(Option<&'a str>),
    /// `true`, `false` or `null`.
    Literal,
    /// Its members follow.
    Object,
    /// Its elements follow.
    Array,
}

/// Deepest level that is told.
const TOLD: usize = 2;

/// One walk.
pub struct Walk<V> {
    /// What it found.
    pub visitor: V,
    state: State,
    /// How many objects and arrays are open.
    depth: usize,
    /// Which of them are objects: a bit each.
    objects: [u64; MAX_DEPTH / 64],
    text: Text,
    utf8: Utf8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value must begin.
    Value,
    /// A value must begin, or the array just opened ends.
    ValueOrEnd,
    /// A key must begin.
    Key,
    /// A key must begin, or the object just opened ends.
    KeyOrEnd,
    Colon,
    /// Behind a value.
    After,
    /// In a string.
    String(Role),
    /// Behind a backslash.
    Escape(Role),
    /// Behind `\u` and this many digits, which make this number.
    Unicode(Role, u8, u16),
    Number(Number),
    /// What is left of `true`, `false` or `null`.
    Literal(&'static [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Value,
}

/// Behind which part of a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl<V: Visit> Walk<V> {
    /// A walk that has seen nothing yet.
    pub fn new(visitor: V) -> Self {
        Self {
            visitor,
            state: State::Value,
            depth: 0,
            objects: [0; MAX_DEPTH / 64],
            text: Text::default(),
            utf8: Utf8::default(),
        }
    }

    /// Walks on. Behind an error there is nothing to walk on to.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.utf8.push(bytes)?;
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            if let State::String(_) = self.state
                && let plain @ 1.. = plain(rest)
            {
                let (text, behind) = rest.split_at(plain);
                self.text.extend(text);
                rest = behind;
                continue;
            }
            self.step(byte)?;
            rest = behind;
        }
        Ok(())
    }

    /// Whether the outermost value, which must be an object, is closed.
    pub fn is_complete(&self) -> bool {
        self.depth == 0 && self.state == State::After
    }

    /// Nothing comes any more: was it one whole text?
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.is_complete() { Ok(()) } else { Err(Malformed::Json) }
    }

    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        match (self.state, byte) {
            (State::String(role), b'"') => self.end_string(role)?,
            (State::String(role), b'\\') => self.state = State::Escape(role),
            // A control byte; all others were walked over.
            (State::String(_), _) => return Err(Malformed::Json),
            (State::Escape(role), b'u') => self.state = State::Unicode(role, 0, 0),
            (State::Escape(role), _) => {
                let meant = match byte {
                    b'"' | b'\\' | b'/' => byte,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    _ => return Err(Malformed::Json),
                };
                self.text.extend(&[meant]);
                self.state = State::String(role);
            }
            (State::Unicode(role, digits, code), _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::Json)?;
                // A hexadecimal digit fits, and four of them do.
                let code = code << 4 | digit as u16;
                self.state = if digits == 3 {
                    self.text.unit(code);
                    State::String(role)
                } else {
                    State::Unicode(role, digits + 1, code)
                };
            }
            (State::Literal(rest), _) => match rest.split_first() {
                Some((wanted, [])) if *wanted == byte => self.end_value(Value::Literal)?,
                Some((wanted, rest)) if *wanted == byte => self.state = State::Literal(rest),
                _ => return Err(Malformed::Json),
            },
            (State::Number(number), _) => match number.next(byte) {
                Some(next) => {
                    self.text.extend(&[byte]);
                    self.state = State::Number(next);
                }
                None if number.may_end() => {
                    self.end_number()?;
                    return self.step(byte);
                }
                None => return Err(Malformed::Json),
            },
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (State::Colon, b':') => self.state = State::Value,
            (State::Key | State::KeyOrEnd, b'"') => self.begin_string(Role::Key),
            (State::KeyOrEnd, b'}') | (State::ValueOrEnd, b']') => self.close(),
            (State::After, b',') if self.depth > 0 => {
                self.state = if self.is_in_object() { State::Key } else { State::Value };
            }
            (State::After, b'}') if self.depth > 0 && self.is_in_object() => self.close(),
            (State::After, b']') if self.depth > 0 && !self.is_in_object() => self.close(),
            (State::Value | State::ValueOrEnd, _) => self.begin_value(byte)?,
            _ => return Err(Malformed::Json),
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), Malformed> {
        match byte {
            b'{' => self.open(Value::Object)?,
            b'[' => self.open(Value::Array)?,
            // A number at the outermost level would have no end; nothing that is a message begins so.
            _ if self.depth == 0 => return Err(Malformed::NotAnObject),
            b'"' => self.begin_string(Role::Value),
            b't' => self.state = State::Literal(b"rue"),
            b'f' => self.state = State::Literal(b"alse"),
            b'n' => self.state = State::Literal(b"ull"),
            b'-' | b'0'..=b'9' => {
                self.text.begin(self.depth <= TOLD);
                self.text.extend(&[byte]);
                self.state = State::Number(match byte {
                    b'-' => Number::Minus,
                    b'0' => Number::Zero,
                    _ => Number::Integer,
                });
            }
            _ => return Err(Malformed::Json),
        }
        Ok(())
    }

    fn open(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed::Json);
        }
        if self.depth <= TOLD {
            self.visitor.value(self.depth, value)?;
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        self.depth += 1;
        if value == Value::Object {
            self.objects[word] |= bit;
            self.state = State::KeyOrEnd;
        } else {
            self.objects[word] &= !bit;
            self.state = State::ValueOrEnd;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.state = State::After;
    }

    fn is_in_object(&self) -> bool {
        let level = self.depth - 1;
        self.objects[level / 64] & 1 << (level % 64) != 0
    }

    fn begin_string(&mut self, role: Role) {
        self.text.begin(self.depth <= TOLD);
        self.state = State::String(role);
    }

    fn end_string(&mut self, role: Role) -> Result<(), Malformed> {
        let told = self.depth <= TOLD;
        match role {
            Role::Key => {
                self.state = State::Colon;
                if told {
                    self.visitor.key(self.depth, self.text.end())?;
                }
            }
            Role::Value => {
                self.state = State::After;
                if told {
                    self.visitor.value(self.depth, Value::String(self.text.end()))?;
                }
            }
        }
        Ok(())
    }

    fn end_number(&mut self) -> Result<(), Malformed> {
        self.state = State::After;
        if self.depth <= TOLD {
            self.visitor.value(self.depth, Value::Number(self.text.end()))?;
        }
        Ok(())
    }

    fn end_value(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        self.state = State::After;
        if self.depth <= TOLD {
            self.visitor.value(self.depth, value)?;
        }
        Ok(())
    }
}

impl Number {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::E,
            (Self::E, b'+' | b'-') => Self::ESign,
            (Self::E | Self::ESign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::Exponent)
    }
}

/// The string or number that is being read, if it is to be told.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    /// The first half of a surrogate pair, whose second must follow.
    half: Option<u16>,
    wanted: bool,
    readable: bool,
}

impl Text {
    fn begin(&mut self, wanted: bool) {
        self.bytes.clear();
        self.half = None;
        self.wanted = wanted;
        self.readable = true;
    }

    /// Bytes that are their own meaning.
    fn extend(&mut self, bytes: &[u8]) {
        if !self.wanted {
            return;
        }
        if self.half.is_some() || self.bytes.len() + bytes.len() > MAX_TEXT {
            self.give_up();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// A UTF-16 code unit, as `\u` has it.
    fn unit(&mut self, unit: u16) {
        if !self.wanted {
            return;
        }
        let units = [self.half.take().unwrap_or_default(), unit];
        match (units, unit) {
            ([0, _], 0xD800..=0xDBFF) => self.half = Some(unit),
            // Where strings end at a zero byte, "a\u0000b" is "a".
            ([0, _], 0) => self.give_up(),
            ([0, _], _) => self.character(&[unit]),
            _ => self.character(&units),
        }
    }

    fn character(&mut self, units: &[u16]) {
        match char::decode_utf16(units.iter().copied()).next() {
            Some(Ok(character)) => self.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        self.wanted = false;
        self.readable = false;
    }

    fn end(&mut self) -> Option<&str> {
        let whole = self.readable && self.half.is_none();
        std::str::from_utf8(&self.bytes).ok().filter(|_| whole)
    }
}

/// Checks UTF-8 across pieces.
#[derive(Default)]
struct Utf8 {
    /// The beginning of a character that a piece cut.
    cut: [u8; 4],
    len: usize,
}

impl Utf8 {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while self.len > 0
            && let Some((&byte, rest)) = bytes.split_first()
        {
            self.cut[self.len] = byte;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.cut[..self.len]) {
                Ok(_) => self.len = 0,
                Err(e) if e.error_len().is_none() => {}
                Err(_) => return Err(Malformed::Json),
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
            Err(_) => Err(Malformed::Json),
        }
    }
}

/// How many bytes at the front of `bytes` stand for themselves in a string: all but quote, backslash and control bytes.
/// Eight at a time, since nearly everything in a large message is inside of strings.
fn plain(bytes: &[u8]) -> usize {
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
