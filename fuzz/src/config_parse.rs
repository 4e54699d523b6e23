//! The text of a config: JSON with comments and trailing commas, and nothing looser. Against serde_json, which gets the same
//! text with those made blank.

use jsonc_parser::ast::Value;
use serde_json::value::RawValue;
use sluicegate::config::read::parse::parse;

use super::json::Members;

/// Deepest text that is compared: parsers give up at different depths.
const DEEPEST: usize = 100;

/// The whole input is the text.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.starts_with('\u{feff}')
        || text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count() > DEEPEST
    {
        return;
    }
    let blank = blank(text);
    let wanted = blank.as_deref().and_then(|blank| serde_json::from_str::<&RawValue>(blank).ok());
    match parse(text) {
        Ok((tree, faults)) => {
            let Some(wanted) = wanted else {
                assert!(!faults.is_empty(), "only the config's parser takes {text:?}");
                return;
            };
            let is_same = compare(&tree, wanted);
            assert!(is_same || !faults.is_empty(), "{text:?}");
        }
        Err(_) => assert!(wanted.is_none_or(has_half_a_pair), "only serde takes {text:?}"),
    }
}

/// Whether some string is none to Rust.
fn has_half_a_pair(value: &RawValue) -> bool {
    match value.get().as_bytes()[0] {
        b'"' => serde_json::from_str::<String>(value.get()).is_err(),
        b'{' => {
            let members: Members<'_> = serde_json::from_str(value.get()).expect("an object");
            members.0.into_iter().any(|(key, value)| has_half_a_pair(key) || has_half_a_pair(value))
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).expect("an array");
            elements.into_iter().any(has_half_a_pair)
        }
        _ => false,
    }
}

/// The text with comments, trailing commas and the white space of Unicode made blank, character by character; `None` if a
/// comment has no end.
pub fn blank(text: &str) -> Option<String> {
    let mut out: Vec<char> = text.chars().collect();
    let is_break = |c: &char| matches!(c, '\r' | '\n');
    let (mut at, mut comma, mut has_value) = (0, None, false);
    while at < out.len() {
        let start = at;
        match out[at] {
            '"' => {
                at += 1;
                while at < out.len() && out[at] != '"' {
                    at += 1 + usize::from(out[at] == '\\');
                }
                at += 1;
                (comma, has_value) = (None, true);
            }
            '/' if matches!(out.get(at + 1), Some('/' | '*')) => {
                at = match out[at + 1] {
                    '/' => out[at..].iter().position(is_break).map_or(out.len(), |end| at + end),
                    _ => at + 4 + out[at + 2..].windows(2).position(|two| two == ['*', '/'])?,
                };
                out[start..at].iter_mut().filter(|c| !is_break(c)).for_each(|c| *c = ' ');
            }
            ',' => {
                comma = has_value.then_some(at);
                (at, has_value) = (at + 1, false);
            }
            c if c.is_whitespace() => {
                if !is_break(&c) {
                    out[at] = ' ';
                }
                at += 1;
            }
            c => {
                if let ('}' | ']', Some(comma)) = (c, comma) {
                    out[comma] = ' ';
                }
                comma = None;
                has_value = !matches!(c, '{' | '[' | ':');
                at += 1;
            }
        }
    }
    Some(out.into_iter().collect())
}

/// Whether both parsers read the same.
fn compare(ours: &Value<'_>, raw: &RawValue) -> bool {
    let text = raw.get();
    let string = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    match ours {
        Value::StringLit(ours) => string(raw).as_deref() == Some(&*ours.value),
        Value::NumberLit(ours) => ours.value == text,
        Value::BooleanLit(ours) => text == if ours.value { "true" } else { "false" },
        Value::NullKeyword(_) => text == "null",
        Value::Array(ours) => {
            let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else { return false };
            ours.elements.len() == elements.len()
                && ours.elements.iter().zip(elements).all(|(ours, raw)| compare(ours, raw))
        }
        Value::Object(ours) => {
            let Ok(members) = serde_json::from_str::<Members<'_>>(text) else { return false };
            ours.properties.len() == members.0.len()
                && ours.properties.iter().zip(members.0).all(|(ours, (key, value))| {
                    string(key).as_deref() == Some(ours.name.as_str()) && compare(&ours.value, value)
                })
        }
    }
}
