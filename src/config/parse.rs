//! Text to syntax tree: JSON with comments and trailing commas, and nothing looser than that.
//!
//! Looser dialects would turn a file that was cut off or half written into a smaller config that parses.

use jsonc_parser::{
    ParseOptions, ParseStringErrorKind,
    ast::{ObjectPropName, Value},
    common::Ranged,
    errors::{ParseError, ParseErrorKind},
    parse_to_ast,
};

use super::problem::Place;

/// What is wrong with the text, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Place,
    pub(super) message: String,
}

/// Parses `text` (without a byte order mark).
///
/// Faults that leave a tree (a key that is there twice) come with it, so that the rest of the file is checked too.
pub(super) fn parse(text: &str) -> Result<(Value<'_>, Vec<Fault>), Fault> {
    let strict = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let root = Place { offset: 0, path: String::new() };
    match parse_to_ast(text, &Default::default(), &strict) {
        Ok(parsed) => match parsed.value {
            Some(value) => {
                let mut faults = Vec::new();
                inspect(text, &value, &root, &mut faults);
                Ok((value, faults))
            }
            None => Err(Fault {
                at: root,
                message: "the file is empty; `sluicegate init` writes a starter".into(),
            }),
        },
        Err(error) => {
            let at = Place { offset: error.range().start, ..root };
            Err(Fault { at, message: explain(&error) })
        }
    }
}

/// Finds what the parser lets through: keys that are there twice, and raw control characters in strings.
fn inspect(text: &str, value: &Value<'_>, at: &Place, faults: &mut Vec<Fault>) {
    match value {
        Value::Object(object) => {
            let mut seen = std::collections::HashMap::new();
            for property in &object.properties {
                let offset = property.range.start;
                let name = property.name.as_str();
                let here = at.key(name, offset);
                if let Some(first) = seen.insert(name, offset) {
                    let line = text[..first].matches('\n').count() + 1;
                    let message = format!("this key is there twice, first on line {line}; keep one of them");
                    faults.push(Fault { at: here.clone(), message });
                }
                if let ObjectPropName::String(name) = &property.name {
                    control_characters(text, name.range.start, name.range.end, &here, faults);
                }
                inspect(text, &property.value, &here, faults);
            }
        }
        Value::Array(array) => {
            for (index, element) in array.elements.iter().enumerate() {
                inspect(text, element, &at.index(index, element.range().start), faults);
            }
        }
        Value::StringLit(string) => {
            control_characters(text, string.range.start, string.range.end, at, faults)
        }
        Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => {}
    }
}

fn control_characters(text: &str, start: usize, end: usize, at: &Place, faults: &mut Vec<Fault>) {
    if let Some(found) = text[start..end].bytes().position(|byte| byte < 0x20) {
        let at = Place { offset: start + found, path: at.path.clone() };
        let message =
            "a line break or control character inside a string; close the string, or write it as \\n or \\t";
        faults.push(Fault { at, message: message.into() });
    }
}

fn explain(error: &ParseError) -> String {
    use ParseErrorKind as Kind;
    match error.kind() {
        Kind::UnterminatedObject => "this { is never closed: the file is cut off, or a } is missing".into(),
        Kind::UnterminatedArray => "this [ is never closed: the file is cut off, or a ] is missing".into(),
        Kind::UnterminatedCommentBlock => "this comment is never closed; end it with */".into(),
        Kind::String(ParseStringErrorKind::UnterminatedStringLiteral) => {
            "this string is never closed; end it with \"".into()
        }
        Kind::ExpectedComma => "a comma is missing here, between two entries".into(),
        Kind::ExpectedColonAfterObjectKey => "a key needs a colon and a value after it".into(),
        Kind::ExpectedObjectValue => "a value is missing after this key's colon".into(),
        Kind::ExpectedStringObjectProperty => "keys stand in double quotes here: write \"key\": value".into(),
        Kind::SingleQuotedStringsNotAllowed => {
            "strings stand in double quotes here, not in single ones".into()
        }
        Kind::MultipleRootJsonValues => {
            "the file goes on after its closing bracket; remove what follows".into()
        }
        Kind::NestingDepthExceeded => "this is nested deeper than any config needs; flatten it".into(),
        Kind::UnexpectedWord => "this is no JSON value; put text in double quotes".into(),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            let first = letters.next().map(|first| first.to_ascii_lowercase());
            format!("{}; mend the JSON here", first.into_iter().chain(letters).collect::<String>())
        }
    }
}

/// Line and column of `offset`, both from 1, the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    // A parser may point one past the end, or into a character; neither may cost the message.
    let end = (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let before = &text[..end];
    let start_of_line = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start_of_line..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
  // a comment
  "proxy": { "addr": ":8080", "workers": 2, },
  "mcpServers": { "a": { "url": "http://h/mcp", "authTokens": ["x", "y"] } } /* end */
}"#;

    fn fault(text: &str) -> String {
        let fault = match parse(text) {
            Err(fault) => fault,
            Ok((_, faults)) => faults.into_iter().next().expect("a fault"),
        };
        let (line, column) = position(text, fault.at.offset);
        format!("{line}:{column} {} {}", fault.at.path, fault.message)
    }

    #[test]
    fn comments_and_trailing_commas_are_fine() {
        let (_, faults) = parse(GOOD).expect("parses");
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        for end in 0..GOOD.len() {
            assert!(parse(&GOOD[..end]).is_err(), "accepted when cut to {:?}", &GOOD[..end]);
        }
    }

    #[test]
    fn nothing_looser_is_accepted() {
        for text in [
            "{a: 1}",
            "{'a': 1}",
            r#"{"a": 1 "b": 2}"#,
            "[1 2]",
            "{} {}",
            "[0x10]",
            "[+1]",
            "[.5]",
            "[1.]",
            "[NaN]",
            "[01]",
            "[,]",
            "[1,,2]",
            "{,}",
            "[TRUE]",
            r#"["\x41"]"#,
            r#"["\ud800"]"#,
            "[\"a\nb\"]",
            "{\"a\tb\": 1}",
        ] {
            fault(text);
        }
    }

    #[test]
    fn the_second_of_two_equal_keys_is_shown_even_if_it_is_written_differently() {
        let told = fault("{\n \"a\": {\"b\": 1,\n  \"\\u0062\": 2}}");
        assert_eq!(told, "3:3 a.b this key is there twice, first on line 2; keep one of them");
    }

    #[test]
    fn deep_nesting_ends_in_a_message_and_not_in_a_crash() {
        for unit in ["[", "{\"a\":"] {
            assert!(fault(&unit.repeat(100_000)).contains("nested deeper"));
        }
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("é\n\"ü\": x", 9), (2, 6));
        assert_eq!(position("ab", 99), (1, 3));
    }
}
