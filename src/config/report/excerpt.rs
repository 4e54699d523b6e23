//! The line that a problem is about, with a mark below the place, and without any value that may be a secret.
//!
//! Keys that look like names and punctuation are shown. A value is shown only if it is a word, a number or a time span in a
//! place where the table wants one, and the text could be parsed, so that this place is certain. Everything else, comments
//! included, is `…`.

use std::{collections::HashSet, fmt::Write as _};

use jsonc_parser::{ast::Value, common::Ranged};

use crate::config::{
    read::{
        lexer::{Class, Lexeme, tokens},
        lines::LineIndex,
        parse::parse,
    },
    report::shown,
    table::{
        ROOT,
        key::{Object, ValueKind},
    },
};

/// Characters of a key or value that are shown.
const LONGEST: usize = 64;
/// Characters of a line that are shown in front of the place, and from there on; the last token may go beyond.
const HALF: usize = 60;
/// Words that are no secret in any place: those of JSON, and what people write in their place.
const PLAIN: &str =
    "true false null True False None TRUE FALSE NULL undefined NaN Infinity nil yes no on off";

/// A text whose lines can be shown.
pub(crate) struct Excerpts<'a> {
    text: &'a str,
    tokens: Vec<Lexeme>,
    /// Where the values begin that may be shown.
    harmless: HashSet<usize>,
}

impl<'a> Excerpts<'a> {
    /// `document` is what the text was parsed to, if it could be.
    pub(crate) fn new(text: &'a str, document: Option<&Value<'_>>) -> Self {
        let mut harmless = HashSet::new();
        if let Some(document) = document {
            collect(&ROOT, document, &mut harmless);
        }
        Self { text, tokens: tokens(text), harmless }
    }

    /// The line of `offset` and the mark below it, each with its margin and line break.
    pub(crate) fn show(&self, lines: &LineIndex<'_>, offset: usize) -> String {
        let (start, end) = lines.range(offset);
        let offset = offset.clamp(start, end);
        let first = self.tokens.partition_point(|token| token.end <= start);
        let last = self.tokens.partition_point(|token| token.start < end);
        // The token that the place is in or in front of.
        let marked = self.tokens.partition_point(|token| token.end <= offset).clamp(first, last.max(first));
        let from = marked - self.fitting((first..marked).rev());
        let to = marked + self.fitting(marked..last);

        let (mut shown, mut at) = match from > first {
            true => ("… ".to_owned(), self.tokens[from].start),
            false => (String::new(), start),
        };
        let mut mark = None;
        for index in from..to {
            let token = self.tokens[index];
            let (begins, ends) = (token.start.max(start), token.end.min(end));
            if index == marked && offset < begins {
                mark = Some((width(&shown) + width(&self.text[at..offset]), 1));
            }
            shown.extend(self.text[at..begins].chars().map(|_| ' '));
            let text = self.shown(index);
            if index == marked && begins <= offset {
                mark = Some((width(&shown), width(&text)));
            }
            shown.push_str(&text);
            at = ends;
        }
        let (gap, length) =
            mark.unwrap_or_else(|| (width(&shown) + width(self.text.get(at..offset).unwrap_or_default()), 1));
        if to < last {
            shown.push_str(" …");
        }
        let line = lines.line(offset).to_string();
        let (margin, gap, mark) = (" ".repeat(line.len()), " ".repeat(gap), "^".repeat(length.max(1)));
        format!("{margin} |\n{line} | {}\n{margin} | {gap}{mark}\n", shown.trim_end())
    }

    /// The whole line of `offset`.
    fn line(&self, lines: &LineIndex<'_>, offset: usize) -> String {
        let (start, end) = lines.range(offset);
        let first = self.tokens.partition_point(|token| token.end <= start);
        let last = self.tokens.partition_point(|token| token.start < end);
        let (mut shown, mut at) = (String::new(), start);
        for index in first..last {
            let token = self.tokens[index];
            shown += self.text.get(at..token.start).unwrap_or_default();
            shown += &self.shown(index);
            at = token.end.min(end);
        }
        shown
    }

    /// How many of these tokens fit into half of the width.
    fn fitting(&self, indexes: impl Iterator<Item = usize>) -> usize {
        let mut width = 0;
        let fits = |index: &usize| {
            let fits = width < HALF;
            width += crate::config::report::excerpt::width(&self.shown(*index)) + 1;
            fits
        };
        indexes.take_while(fits).count()
    }

    /// A token as it is shown.
    fn shown(&self, index: usize) -> String {
        let token = &self.tokens[index];
        let text = &self.text[token.start..token.end];
        let is_harmless = self.harmless.contains(&token.start);
        match token.class {
            Class::Open(_) | Class::Close(_) | Class::Colon | Class::Comma | Class::Symbol(_) => {
                text.to_owned()
            }
            Class::String if is_harmless => plain(text),
            Class::String if self.is_key(index) => match shown::name(text.trim_matches(['"', '\''])) {
                Some(_) => plain(text),
                None => "\"…\"".to_owned(),
            },
            Class::String => "\"…\"".to_owned(),
            Class::Unclosed => "\"…".to_owned(),
            Class::Word if is_harmless || PLAIN.split(' ').any(|word| word == text) => plain(text),
            Class::Word => "…".to_owned(),
            Class::Hash => "# …".to_owned(),
            Class::Comment if text.starts_with("//") => "// …".to_owned(),
            Class::Comment => "/* … */".to_owned(),
        }
    }

    /// Whether a string is where keys do: in front of a colon, and not behind one.
    fn is_key(&self, index: usize) -> bool {
        let is_no_comment = |token: &&Lexeme| !matches!(token.class, Class::Comment | Class::Hash);
        let next = self.tokens[index + 1..].iter().find(is_no_comment);
        let previous = self.tokens[..index].iter().rev().find(is_no_comment);
        next.is_some_and(|token| token.class == Class::Colon)
            && previous.is_some_and(|token| {
                matches!(
                    token.class,
                    Class::Open(b'{') | Class::Comma | Class::String | Class::Word | Class::Close(_)
                )
            })
    }
}

/// The lines between the first and the last that differ, as they were (`-`) and as they are to be (`+`).
pub(crate) fn changed_lines(before: &str, after: &str) -> String {
    let parsed = [before, after].map(|text| parse(text).ok());
    let [old, new] = [before, after].map(|text| text.split('\n').collect::<Vec<_>>());
    let alike = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let left = old.len().min(new.len()) - alike;
    let alike_at_end = old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(old, new)| old == new);
    let alike_at_end = alike_at_end.count();
    let mut shown = String::new();
    for (sign, text, lines, document) in [('-', before, old, &parsed[0]), ('+', after, new, &parsed[1])] {
        let excerpts = Excerpts::new(text, document.as_ref().map(|(value, _)| value));
        let index = LineIndex::new(text);
        let mut offset: usize = lines[..alike].iter().map(|line| line.len() + 1).sum();
        for (number, line) in lines.iter().enumerate().take(lines.len() - alike_at_end).skip(alike) {
            // Writing to a string does not fail.
            let _ = writeln!(shown, "{sign} {} | {}", number + 1, excerpts.line(&index, offset));
            offset += line.len() + 1;
        }
    }
    shown
}

/// Columns that it takes.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// A text on one line that no terminal takes for a command, and not too long.
fn plain(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
    };
    let mut shown: String =
        text.chars().take(LONGEST).map(|c| if is_odd(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// Notes where values begin that are a word, a number or a time span by the table.
fn collect(object: &'static Object, value: &Value<'_>, harmless: &mut HashSet<usize>) {
    let Value::Object(found) = value else { return };
    for property in &found.properties {
        if let Some(key) = object.key(property.name.as_str()) {
            descend(&key.kind, &property.value, harmless);
        }
    }
}

fn descend(kind: &ValueKind, value: &Value<'_>, harmless: &mut HashSet<usize>) {
    match (*kind, value) {
        (ValueKind::Object(object) | ValueKind::SecretOr(object), Value::Object(_)) => {
            collect(object, value, harmless)
        }
        (ValueKind::OneOrMany(of) | ValueKind::List(of), Value::Array(list)) => {
            list.elements.iter().for_each(|value| descend(of, value, harmless));
        }
        (ValueKind::OneOrMany(of) | ValueKind::OrNull(of) | ValueKind::OrFalse(of), _) => {
            descend(of, value, harmless)
        }
        (ValueKind::Map { of, .. }, Value::Object(found)) => {
            found.properties.iter().for_each(|property| descend(of, &property.value, harmless));
        }
        (ValueKind::Number { .. } | ValueKind::Duration(_), Value::NumberLit(_)) => {
            harmless.insert(value.range().start);
        }
        (ValueKind::Duration(_), Value::StringLit(text))
            if humantime::parse_duration(&text.value).is_ok() =>
        {
            harmless.insert(value.range().start);
        }
        // A moment.
        (ValueKind::Text(_), Value::StringLit(text)) if humantime::parse_rfc3339(&text.value).is_ok() => {
            harmless.insert(value.range().start);
        }
        (ValueKind::Word(words), Value::StringLit(text)) if words.find(&text.value).is_some() => {
            harmless.insert(value.range().start);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, mark: &str) -> String {
        let offset = text.find(mark).expect("it is there");
        let parsed = crate::config::read::parse::parse(text).ok();
        let document = parsed.as_ref().map(|(document, _)| document);
        Excerpts::new(text, document).show(&LineIndex::new(text), offset)
    }

    #[test]
    fn keys_are_shown_and_values_only_where_they_cannot_be_secrets() {
        let text = "{\n\t\"proxy\": { \"addr\": \"secret\", \"workers\": 12, \"log\": { \"level\": \"loud\" } } // secret\n}";
        let shown =
            "  |\n2 |  \"proxy\": { \"addr\": \"…\", \"workers\": 12, \"log\": { \"level\": \"…\" } } // …\n";
        assert_eq!(show(text, "\"workers"), format!("{shown}  |                          ^^^^^^^^^\n"));
        let text = text.replace("loud", "info");
        assert!(show(&text, "info").contains("\"level\": \"info\" }"), "{}", show(&text, "info"));
    }

    #[test]
    fn of_a_text_that_is_no_json_no_value_is_shown() {
        let text =
            "{\n  \"tokens\": { \"ci\": “secret”, 'dev': secret, \"a\": True, \"b\": 12345 # secret\n}";
        assert_eq!(
            show(text, "“"),
            "  |\n2 |   \"tokens\": { \"ci\": “…”, '…': …, \"a\": True, \"b\": … # …\n  |                     ^\n"
        );
        let text = "{\"tokens\": {\"a: \"s3cret\", \"b\": \"s3cret\"},\n\"c\": \"s3cret";
        assert!(!show(text, "b").contains("s3cret") && !show(text, "\"c").contains("s3cret"));
    }

    #[test]
    fn a_place_between_tokens_or_behind_the_last_is_marked_all_the_same() {
        assert_eq!(show("{\"a\": 1  }", "  }"), "  |\n1 | {\"a\": …  }\n  |        ^\n");
        let lines = LineIndex::new("{ ");
        assert_eq!(Excerpts::new("{ ", None).show(&lines, 9), "  |\n1 | {\n  |   ^\n");
        assert_eq!(Excerpts::new("", None).show(&LineIndex::new(""), 0), "  |\n1 | \n  | ^\n");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let entry = |index: usize| format!("\"key{index}\": {{}}");
        let text = format!("{{{}}}", (0..1000).map(entry).collect::<Vec<_>>().join(", "));
        let shown = show(&text, "\"key500\"");
        assert!(shown.lines().all(|line| line.chars().count() < 220), "{shown}");
        let (line, mark) = (shown.lines().nth(1).expect("a line"), shown.lines().nth(2).expect("a mark"));
        let at = mark.chars().take_while(|c| *c != '^').count();
        assert!(line.chars().skip(at).collect::<String>().starts_with("\"key500\""), "{shown}");
    }
}
