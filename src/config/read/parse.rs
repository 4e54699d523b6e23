//! Text to syntax tree: JSON with comments and trailing commas, and nothing looser than that.
//!
//! Looser dialects would turn a file that was cut off or half written into a smaller config that parses.

use jsonc_parser::{
    ParseOptions,
    ast::{ObjectPropName, Value},
    common::Ranged,
    errors::{ParseError, ParseErrorKind},
    parse_to_ast,
};

use crate::config::{
    read::{lines::LineIndex, syntax},
    report::problem::Location,
};

/// What is wrong with the text, and where.
#[derive(Debug)]
pub struct SyntaxFault {
    pub(crate) at: Location,
    pub(crate) message: String,
    /// Whether it is a control character inside of a text, which then is to blame for what else is wrong with the text.
    pub(crate) is_control: bool,
}

/// Parses `text` (without a byte order mark). The faults beside a tree are those that leave one.
pub fn parse(text: &str) -> Result<(Value<'_>, Vec<SyntaxFault>), SyntaxFault> {
    parse_lines(text, &LineIndex::new(text))
}

/// The same, with the lines of the text known.
///
/// Faults that leave a tree (a key that is there twice) come with it, so that the rest of the file is checked too.
pub(crate) fn parse_lines<'t>(
    text: &'t str,
    lines: &LineIndex<'_>,
) -> Result<(Value<'t>, Vec<SyntaxFault>), SyntaxFault> {
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
    let root = Location::default();
    match parse_to_ast(text, &Default::default(), &strict) {
        Ok(parsed) => match parsed.value {
            Some(value) => {
                let mut faults = Vec::new();
                inspect(text, lines, &value, &root, &mut faults);
                Ok((value, faults))
            }
            None => Err(SyntaxFault {
                at: root,
                message: "the file is empty; `sluicegate init` writes a starter".into(),
                is_control: false,
            }),
        },
        Err(error) => {
            use ParseErrorKind as Kind;
            let found = match error.kind() {
                Kind::NestingDepthExceeded | Kind::UnterminatedCommentBlock => None,
                _ => syntax::diagnose(text, lines),
            };
            let (offset, message) = found.unwrap_or_else(|| (error.range().start, explain(&error)));
            Err(SyntaxFault { at: Location { offset, ..root }, message, is_control: false })
        }
    }
}

/// Finds what the parser lets through: keys that are there twice, and raw control characters in strings.
fn inspect(
    text: &str,
    lines: &LineIndex<'_>,
    value: &Value<'_>,
    at: &Location,
    faults: &mut Vec<SyntaxFault>,
) {
    match value {
        Value::Object(object) => {
            let mut seen = std::collections::HashMap::new();
            for property in &object.properties {
                let offset = property.range.start;
                let name = property.name.as_str();
                let here = at.key(name, offset);
                if let Some(first) = seen.insert(name, offset) {
                    let line = lines.line(first);
                    let message = format!("this key is there twice, first on line {line}; keep one of them");
                    faults.push(SyntaxFault { at: here.clone(), message, is_control: false });
                }
                if let ObjectPropName::String(name) = &property.name {
                    control_characters(text, name.range.start, name.range.end, &here, faults);
                }
                inspect(text, lines, &property.value, &here, faults);
            }
        }
        Value::Array(array) => {
            for (index, element) in array.elements.iter().enumerate() {
                inspect(text, lines, element, &at.index(index, element.range().start), faults);
            }
        }
        Value::StringLit(string) => {
            control_characters(text, string.range.start, string.range.end, at, faults)
        }
        Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => {}
    }
}

fn control_characters(text: &str, start: usize, end: usize, at: &Location, faults: &mut Vec<SyntaxFault>) {
    if let Some(found) = text[start..end].bytes().position(|byte| byte < 0x20) {
        let at = Location { offset: start + found, path: at.path.clone() };
        let message =
            "a line break or control character inside a string; close the string, or write it as \\n or \\t";
        faults.push(SyntaxFault { at, message: message.into(), is_control: true });
    }
}

/// What only the parser finds.
fn explain(error: &ParseError) -> String {
    use ParseErrorKind as Kind;
    match error.kind() {
        Kind::UnterminatedCommentBlock => "this comment is never closed; end it with */".into(),
        Kind::NestingDepthExceeded => "this is nested deeper than any config needs; flatten it".into(),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            let first = letters.next().map(|first| first.to_ascii_lowercase());
            format!("{}; mend the JSON here", first.into_iter().chain(letters).collect::<String>())
        }
    }
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
        let (line, column) = LineIndex::new(text).position(fault.at.offset);
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
}
