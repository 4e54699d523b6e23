//! The walk over JSON, against serde_json: the same texts, and of those the same members at the same places.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sluicegate::mcp::{
    message::Malformed,
    walk::{JsonWalk, MAX_DEPTH, MAX_NUMBER, MAX_TEXT, Value, Visit},
};

const LEVELS: usize = 3;

/// What a walk tells.
#[derive(Debug, PartialEq)]
enum Told {
    Key(usize, Option<String>, Range<usize>),
    String(usize, Option<String>),
    Number(usize, String),
    Literal(usize),
    Null(usize),
    Object(usize),
    Array(usize),
    End(usize, Range<usize>),
}

#[derive(Default)]
struct Recorder {
    told: Vec<Told>,
    key_at: Range<usize>,
}

impl Visit for Recorder {
    const LEVELS: usize = LEVELS;

    fn key_at(&mut self, span: Range<usize>) {
        self.key_at = span;
    }

    fn key(&mut self, depth: usize, key: Option<&str>) -> Result<(), Malformed> {
        self.told.push(Told::Key(depth, key.map(str::to_owned), self.key_at.clone()));
        Ok(())
    }

    fn value(&mut self, depth: usize, value: Value<'_>) -> Result<(), Malformed> {
        self.told.push(match value {
            Value::String(text) => Told::String(depth, text.map(str::to_owned)),
            Value::Number(text) => Told::Number(depth, text.expect("no number is that long").to_owned()),
            Value::Literal => Told::Literal(depth),
            Value::Null => Told::Null(depth),
            Value::Object => Told::Object(depth),
            Value::Array => Told::Array(depth),
        });
        Ok(())
    }

    fn value_at(&mut self, depth: usize, span: Range<usize>) {
        self.told.push(Told::End(depth, span));
    }
}

/// The first byte says where the text is cut.
pub fn run(input: &[u8]) {
    let Some((&at, text)) = input.split_first() else { return };
    let wanted = reference(text);
    for pieces in super::cuts(text, at) {
        let mut walk = JsonWalk::new(Recorder::default());
        let walked = pieces.iter().try_for_each(|piece| walk.push(piece)).and_then(|()| walk.finish());
        assert_eq!(walked.is_ok(), wanted.is_some(), "{}", text.escape_ascii());
        if let Some(wanted) = &wanted {
            assert_eq!(walk.visitor.told, *wanted, "{}", text.escape_ascii());
        }
    }
}

fn reference(text: &[u8]) -> Option<Vec<Told>> {
    let raw: &RawValue = serde_json::from_slice(text).ok()?;
    if !raw.get().starts_with(['{', '[']) || !is_within_bounds(raw.get()) {
        return None;
    }
    let mut told = Vec::new();
    tell(text.as_ptr().addr(), 0, raw, &mut told);
    Some(told)
}

/// Whether no number is too long and nothing too deep.
fn is_within_bounds(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped, mut number) = (0_usize, false, false, 0_usize);
    for c in text.chars() {
        if in_string {
            (escaped, in_string) = (c == '\\' && !escaped, c != '"' || escaped);
            continue;
        }
        number = if matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E') { number + 1 } else { 0 };
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth > MAX_DEPTH || number > MAX_NUMBER {
            return false;
        }
    }
    true
}

fn span(base: usize, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - base;
    start..start + raw.get().len()
}

/// A string as all readers take it.
fn string(raw: &RawValue) -> Option<String> {
    let text: String = serde_json::from_str(raw.get()).ok()?;
    (text.len() <= MAX_TEXT && !text.contains('\0')).then_some(text)
}

fn tell(base: usize, depth: usize, raw: &RawValue, told: &mut Vec<Told>) {
    match raw.get().as_bytes()[0] {
        b'"' => told.push(Told::String(depth, string(raw))),
        b't' | b'f' => told.push(Told::Literal(depth)),
        b'n' => told.push(Told::Null(depth)),
        b'{' => {
            told.push(Told::Object(depth));
            if depth < LEVELS {
                let members: Members<'_> = serde_json::from_str(raw.get()).expect("an object");
                for (key, value) in members.0 {
                    told.push(Told::Key(depth + 1, string(key), span(base, key)));
                    tell(base, depth + 1, value, told);
                }
            }
        }
        b'[' => {
            told.push(Told::Array(depth));
            if depth < LEVELS {
                let elements: Vec<&RawValue> = serde_json::from_str(raw.get()).expect("an array");
                elements.into_iter().for_each(|element| tell(base, depth + 1, element, told));
            }
        }
        _ => told.push(Told::Number(depth, raw.get().to_owned())),
    }
    told.push(Told::End(depth, span(base, raw)));
}

/// The members of an object in their order, those that come twice included.
pub struct Members<'a>(pub Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
