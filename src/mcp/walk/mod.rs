//! A walk over a JSON text as it streams by, in memory that does not depend on the text.
//!
//! Every byte is checked (RFC 8259, UTF-8, no byte order mark), so that nothing is left that two parsers could read
//! differently; only what is in the outermost levels is reported, because that is where JSON-RPC keeps what a gateway
//! decides on. Sans-io: bytes in, in pieces of any size.

mod text;

use std::ops::Range;

use crate::mcp::{
    parts::Malformed,
    walk::text::{Text, Utf8, plain},
};

/// Deepest nesting. No MCP message comes near it, and a parser that recurses may end its process not far beyond.
pub const MAX_DEPTH: usize = 128;
/// Longest key that is reported, in bytes and without its escapes, and longest value unless [`Visit::wants`] says otherwise.
/// Longer ones are walked over.
pub const MAX_TEXT: usize = 1024;
/// Longest number, in bytes. Python refuses integers of more than 4,300 digits, and not every server expects that.
pub const MAX_NUMBER: usize = 1024;

/// Gets to know what is in the outermost levels of a JSON text.
///
/// `depth` is how many objects and arrays are open around it: the text's own value has 0, the members of the outermost
/// object have 1. An error ends the walk.
pub trait Visit {
    /// Deepest level that is reported, at most 3.
    const LEVELS: usize = 2;

    /// A member begins. `None` is a key that parsers do not agree on: one with a zero or half a surrogate pair, or one
    /// longer than [`MAX_TEXT`].
    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed>;

    /// A value was read, or an object or array begins.
    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed>;

    /// Where the key is, with its quotes, that is reported next.
    fn key_at(&mut self, _span: Range<usize>) {}

    /// Where the value is that is over now: reported last if it is a string, a number or a literal.
    fn value_at(&mut self, _depth: usize, _span: Range<usize>) {}

    /// Whether the members or elements of the object or array that was reported last are reported, if they are not too deep.
    fn enters(&self, _depth: usize) -> bool {
        true
    }

    /// Longest string or number that is reported as value of the member that was reported last; 0 if it need not be.
    fn wants(&self, _depth: usize) -> usize {
        MAX_TEXT
    }

    /// Whether [`MAX_DEPTH`] and [`MAX_NUMBER`] hold.
    fn is_bounded(&self) -> bool {
        true
    }
}

/// A value, or its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Without its escapes; `None` as for [`Visit::key`].
    String(Option<&'a str>),
    /// As written; `None` if longer than what is reported.
    Number(Option<&'a str>),
    /// `true` or `false`.
    Literal,
    /// `null`
    Null,
    /// Its members follow.
    Object,
    /// Its elements follow.
    Array,
}

/// One walk.
pub struct JsonWalk<V> {
    /// What it found.
    pub visitor: V,
    state: State,
    open: Open,
    text: Text,
    utf8: Utf8,
    /// Bytes of the pieces before this one.
    before: usize,
    /// Where the string, number or literal begins that is being read.
    start: usize,
    /// Where the objects and arrays begin that are open on reported levels.
    starts: [usize; 4],
    /// Deepest level that is reported here: within what is not entered, that which it is on.
    visible_depth: usize,
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
    /// What is left of `true`, `false` or `null`, and which it is.
    Literal(&'static [u8], Value<'static>),
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

impl<V: Visit> JsonWalk<V> {
    /// A walk that has seen nothing yet.
    pub fn new(visitor: V) -> Self {
        Self {
            visitor,
            state: State::Value,
            open: Open::default(),
            text: Text::default(),
            utf8: Utf8::default(),
            before: 0,
            start: 0,
            starts: [0; 4],
            visible_depth: V::LEVELS,
        }
    }

    /// Walks on. Behind an error there is nothing to walk on to.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        // What comes before a bad character is walked over, so that what was told does not depend on where pieces are cut.
        let valid = self.utf8.push(bytes);
        let bytes = valid.map_or_else(|good| &bytes[..good], |()| bytes);
        self.text.resume(0);
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at = match self.state {
                State::String(role) => self.string(role, bytes, at)?,
                State::Escape(role) => self.escape(role, byte, at + 1)?,
                State::Unicode(role, digits, code) => self.unicode(role, digits, code, byte, at + 1)?,
                State::Number(number) => self.number(number, bytes, at)?,
                State::Literal(rest, value) => self.literal(rest, value, byte, at + 1)?,
                _ => self.between(bytes, at)?,
            };
        }
        if let State::String(_) | State::Number(_) = self.state {
            self.text.pause(bytes, bytes.len());
        }
        self.before += bytes.len();
        valid.map_err(|_| Malformed::Json)
    }

    /// Whether the outermost value, which must be an object, is closed.
    pub fn is_complete(&self) -> bool {
        self.open.depth == 0 && self.state == State::After
    }

    /// Nothing comes any more: was it one whole text?
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.is_complete() { Ok(()) } else { Err(Malformed::Json) }
    }

    /// Goes on until a string, a number or a literal begins, or the piece ends.
    fn between(&mut self, bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
        while let Some(&byte) = bytes.get(at) {
            let start = at;
            at += 1;
            match (self.state, byte) {
                (_, b' ' | b'\t' | b'\n' | b'\r') => {}
                (State::Colon, b':') => self.state = State::Value,
                (State::Key | State::KeyOrEnd, b'"') => {
                    self.begin(State::String(Role::Key), start);
                    self.text.begin(if self.is_visible() { MAX_TEXT } else { 0 }, at);
                    return Ok(at);
                }
                (State::KeyOrEnd, b'}') | (State::ValueOrEnd, b']') => self.close(at),
                (State::After, b',') if self.open.depth > 0 => {
                    self.state = if self.open.is_object() { State::Key } else { State::Value };
                }
                (State::After, b'}') if self.open.depth > 0 && self.open.is_object() => self.close(at),
                (State::After, b']') if self.open.depth > 0 && !self.open.is_object() => self.close(at),
                (State::Value | State::ValueOrEnd, b'{') => self.open(Value::Object, start)?,
                (State::Value | State::ValueOrEnd, b'[') => self.open(Value::Array, start)?,
                (State::Value | State::ValueOrEnd, _) => {
                    self.scalar(byte, start)?;
                    return Ok(at);
                }
                _ => return Err(Malformed::Json),
            }
        }
        Ok(at)
    }

    /// A string, a number or a literal begins with `byte`.
    fn scalar(&mut self, byte: u8, start: usize) -> Result<(), Malformed> {
        if self.open.depth == 0 {
            // A number at the outermost level would have no end; nothing that is a message begins so.
            return Err(Malformed::NotAnObject);
        }
        let state = match byte {
            b'"' => State::String(Role::Value),
            b't' => State::Literal(b"rue", Value::Literal),
            b'f' => State::Literal(b"alse", Value::Literal),
            b'n' => State::Literal(b"ull", Value::Null),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Integer),
            _ => return Err(Malformed::Json),
        };
        self.begin(state, start);
        let most = if self.is_visible() { self.visitor.wants(self.open.depth) } else { 0 };
        self.text.begin(most, if byte == b'"' { start + 1 } else { start });
        Ok(())
    }

    fn string(&mut self, role: Role, bytes: &[u8], at: usize) -> Result<usize, Malformed> {
        let end = at + plain(&bytes[at..]);
        match bytes.get(end) {
            None => {}
            Some(b'\\') => {
                self.text.pause(bytes, end);
                self.state = State::Escape(role);
            }
            Some(b'"') => self.end_string(role, bytes, end)?,
            // A control byte; all others were walked over.
            Some(_) => return Err(Malformed::Json),
        }
        Ok(end + 1)
    }

    fn escape(&mut self, role: Role, byte: u8, next: usize) -> Result<usize, Malformed> {
        let meant = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Unicode(role, 0, 0);
                return Ok(next);
            }
            _ => return Err(Malformed::Json),
        };
        self.text.extend(&[meant]);
        self.text.resume(next);
        self.state = State::String(role);
        Ok(next)
    }

    fn unicode(
        &mut self,
        role: Role,
        digits: u8,
        code: u16,
        byte: u8,
        next: usize,
    ) -> Result<usize, Malformed> {
        let digit = char::from(byte).to_digit(16).ok_or(Malformed::Json)?;
        // A hexadecimal digit fits, and four of them do.
        let code = code << 4 | digit as u16;
        if digits == 3 {
            self.text.unit(code);
            self.text.resume(next);
            self.state = State::String(role);
        } else {
            self.state = State::Unicode(role, digits + 1, code);
        }
        Ok(next)
    }

    fn number(&mut self, mut number: Number, bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
        let is_over = loop {
            let Some(&byte) = bytes.get(at) else { break false };
            match number.next(byte) {
                Some(next) => number = next,
                None if number.may_end() => break true,
                None => return Err(Malformed::Json),
            }
            at += 1;
        };
        let end = self.before + at;
        if end - self.start > MAX_NUMBER && self.visitor.is_bounded() {
            return Err(Malformed::TooDeep);
        }
        self.state = if is_over { State::After } else { State::Number(number) };
        if is_over && self.is_visible() {
            self.visitor.value(self.open.depth, Value::Number(self.text.end(bytes, at)))?;
            self.visitor.value_at(self.open.depth, self.start..end);
        }
        Ok(at)
    }

    fn literal(
        &mut self,
        rest: &'static [u8],
        value: Value<'static>,
        byte: u8,
        next: usize,
    ) -> Result<usize, Malformed> {
        match rest.split_first() {
            Some((wanted, [])) if *wanted == byte => {
                self.state = State::After;
                if self.is_visible() {
                    self.visitor.value(self.open.depth, value)?;
                    self.visitor.value_at(self.open.depth, self.start..self.before + next);
                }
            }
            Some((wanted, rest)) if *wanted == byte => self.state = State::Literal(rest, value),
            _ => return Err(Malformed::Json),
        }
        Ok(next)
    }

    fn end_string(&mut self, role: Role, bytes: &[u8], end: usize) -> Result<(), Malformed> {
        self.state = if role == Role::Key { State::Colon } else { State::After };
        if !self.is_visible() {
            return Ok(());
        }
        let (depth, span) = (self.open.depth, self.start..self.before + end + 1);
        match role {
            Role::Key => {
                self.visitor.key_at(span);
                self.visitor.key(depth, self.text.end(bytes, end))
            }
            Role::Value => {
                self.visitor.value(depth, Value::String(self.text.end(bytes, end)))?;
                self.visitor.value_at(depth, span);
                Ok(())
            }
        }
    }

    fn begin(&mut self, state: State, start: usize) {
        self.state = state;
        self.start = self.before + start;
    }

    fn open(&mut self, value: Value<'_>, start: usize) -> Result<(), Malformed> {
        if self.open.depth >= MAX_DEPTH && self.visitor.is_bounded() {
            return Err(Malformed::TooDeep);
        }
        if self.is_visible() {
            self.starts[self.open.depth] = self.before + start;
            self.visitor.value(self.open.depth, value)?;
            if !self.visitor.enters(self.open.depth) {
                self.visible_depth = self.open.depth;
            }
        }
        let is_object = value == Value::Object;
        self.open.push(is_object);
        self.state = if is_object { State::KeyOrEnd } else { State::ValueOrEnd };
        Ok(())
    }

    fn close(&mut self, next: usize) {
        self.open.pop();
        self.state = State::After;
        if self.is_visible() {
            let depth = self.open.depth;
            if depth == self.visible_depth {
                self.visible_depth = V::LEVELS;
            }
            self.visitor.value_at(depth, self.starts[depth]..self.before + next);
        }
    }

    fn is_visible(&self) -> bool {
        const { assert!(V::LEVELS < 4, "`starts` has room for no more") };
        self.open.depth <= self.visible_depth
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

/// The objects and arrays that are open.
#[derive(Default)]
struct Open {
    depth: usize,
    /// Which of them are objects: a bit each.
    objects: [u64; MAX_DEPTH / 64],
    /// The same of those beyond [`MAX_DEPTH`], where that does not hold.
    deeper: Vec<u64>,
}

impl Open {
    fn push(&mut self, is_object: bool) {
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if word >= self.objects.len() + self.deeper.len() {
            self.deeper.push(0);
        }
        let word = match self.objects.get_mut(word) {
            Some(word) => word,
            None => &mut self.deeper[word - MAX_DEPTH / 64],
        };
        if is_object {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn is_object(&self) -> bool {
        let level = self.depth - 1;
        let word = self.objects.get(level / 64).or_else(|| self.deeper.get(level / 64 - MAX_DEPTH / 64));
        word.is_some_and(|word| word & 1 << (level % 64) != 0)
    }
}
