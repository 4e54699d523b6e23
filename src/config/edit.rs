//! Changes to a text of the config that leave every other byte of it as it is: comments, order, indentation, line ends.
//!
//! It goes by the spans of the syntax tree and knows nothing of what the values mean. A comment that is not inside of what
//! is replaced or removed stays, also one behind an element that is removed.

use std::ops::Range;

use jsonc_parser::{
    ast::{Array, Object, ObjectProp},
    common::Ranged,
};

use crate::config::read::lexer::{Class, Lexeme, tokens};

/// A text, and what is to become of it.
pub(crate) struct Editor<'t> {
    text: &'t str,
    tokens: Vec<Lexeme>,
    /// What is in the place of which part. The parts do not overlap, but for removals.
    changes: Vec<(Range<usize>, String)>,
}

impl<'t> Editor<'t> {
    /// `text` is one that the parser takes.
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, tokens: tokens(text), changes: Vec::new() }
    }

    /// The whole text, changed.
    pub(crate) fn finish(self) -> String {
        let whole = 0..self.text.len();
        self.within(whole)
    }

    /// A part of the text, changed.
    pub(crate) fn within(mut self, part: Range<usize>) -> String {
        self.changes.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut made, mut at) = (String::new(), part.start);
        for (range, with) in &self.changes {
            made += self.text.get(at..range.start).unwrap_or_default();
            made += with;
            at = at.max(range.end);
        }
        made + self.text.get(at..part.end).unwrap_or_default()
    }

    /// Puts `with` in the place of a part of the text.
    pub(crate) fn replace(&mut self, part: Range<usize>, with: impl Into<String>) {
        self.changes.push((part, with.into()));
    }

    /// Gives `key` of an object this value, whether the object has the key or not.
    pub(crate) fn set(&mut self, object: &Object<'_>, key: &str, value: &str) {
        if let Some(property) = property(object, key) {
            let value_range = property.value.range();
            return self.replace(value_range.start..value_range.end, value);
        }
        let entry = format!("{}: {value}", serde_json::Value::from(key));
        let Some(last) = object.properties.last() else {
            let inside = object.range.start + 1;
            return self.replace(inside..inside, format!(" {entry} "));
        };
        if !self.begins_line(last.range.start) {
            return self.replace(last.range.end..last.range.end, format!(", {entry}"));
        }
        let comma = self.comma_behind(last.range.end);
        if comma.is_none() {
            self.replace(last.range.end..last.range.end, ",");
        }
        let end = self.behind_comments(comma.as_ref().map_or(last.range.end, |comma| comma.end));
        let line = self.line_break() + self.in_front_of(last.range.start);
        self.replace(end..end, format!("{line}{entry}{}", if comma.is_some() { "," } else { "" }));
    }

    /// Takes a key out of an object.
    pub(crate) fn unset(&mut self, object: &Object<'_>, key: &str) {
        let spans: Vec<_> =
            object.properties.iter().map(|property| property.range.start..property.range.end).collect();
        let is_gone = |index: usize| object.properties[index].name.as_str() == key;
        self.remove(&spans, is_gone);
    }

    /// Takes elements out of a list.
    pub(crate) fn remove_elements(&mut self, list: &Array<'_>, is_gone: impl Fn(usize) -> bool) {
        let spans: Vec<_> =
            list.elements.iter().map(|element| element.range().start..element.range().end).collect();
        self.remove(&spans, is_gone);
    }

    /// Puts an element in front of those that a list has.
    pub(crate) fn push_front(&mut self, list: &Array<'_>, element: &str) {
        let inside = list.range.start + 1;
        let Some(first) = list.elements.first().map(|first| first.range().start) else {
            return self.replace(inside..inside, element);
        };
        if self.begins_line(first) {
            let at = self.behind_comments(inside);
            let line = self.line_break() + self.in_front_of(first);
            return self.replace(at..at, format!("{line}{element},"));
        }
        let blanks = self.text[inside..].len() - self.text[inside..].trim_start_matches([' ', '\t']).len();
        let at = inside + blanks;
        self.replace(at..at, format!("{element}, "));
    }

    /// Makes the value of a property a list of `first` and itself, as `value` says it.
    pub(crate) fn make_list(&mut self, property: &ObjectProp<'_>, first: &str, value: &str) {
        let list = match self.begins_line(property.range.start) {
            false => format!("[{first}, {value}]"),
            true => {
                let outer = self.line_break() + self.in_front_of(property.range.start);
                let inner = format!("{outer}{}", self.indentation_unit());
                format!("[{inner}{first},{inner}{value}{outer}]")
            }
        };
        let range = property.value.range();
        self.replace(range.start..range.end, list);
    }

    /// Removes some of the entries of an object or list, each with its comma. The entry that is last then is followed by a
    /// comma if the last one was before.
    fn remove(&mut self, entries: &[Range<usize>], is_gone: impl Fn(usize) -> bool) {
        let commas: Vec<_> = entries.iter().map(|entry| self.comma_behind(entry.end)).collect();
        for (index, entry) in entries.iter().enumerate().filter(|(index, _)| is_gone(*index)) {
            match &commas[index] {
                Some(comma) if self.text[entry.end..comma.start].trim().is_empty() => {
                    self.erase(entry.start..comma.end);
                }
                // There is a comment in between.
                Some(comma) => {
                    self.erase(entry.clone());
                    self.replace(comma.clone(), "");
                }
                None => self.erase(entry.clone()),
            }
        }
        let kept = (0..entries.len()).rev().find(|index| !is_gone(*index));
        let has_last_gone = entries.len().checked_sub(1) != kept;
        if has_last_gone
            && commas.last().is_some_and(Option::is_none)
            && let Some(comma) = kept.and_then(|kept| commas[kept].clone())
        {
            self.replace(comma, "");
        }
    }

    /// Removes a part of the text, with its line if nothing else is there, else with the blanks on one side.
    fn erase(&mut self, part: Range<usize>) {
        let after = &self.text[part.end..];
        let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
        let rest = &after[blanks..];
        let line_break = ["\r\n", "\n"].into_iter().find(|line_break| rest.starts_with(line_break));
        let before = self.text[..part.start].trim_end_matches([' ', '\t']);
        let range = match (self.begins_line(part.start), line_break) {
            (true, Some(line_break)) => before.len()..part.end + blanks + line_break.len(),
            (true, None) => part.start..part.end + blanks,
            (false, _) if before.len() < part.start => before.len()..part.end,
            (false, Some(_)) => part,
            (false, None) => part.start..part.end + blanks,
        };
        self.replace(range, "");
    }

    /// The comma that follows what ends at `end`, behind comments too.
    fn comma_behind(&self, end: usize) -> Option<Range<usize>> {
        let from = self.tokens.partition_point(|token| token.start < end);
        let next = self.tokens[from..].iter().find(|token| token.class != Class::Comment)?;
        (next.class == Class::Comma).then_some(next.start..next.end)
    }

    /// The end of the comments that follow on the same line.
    fn behind_comments(&self, mut end: usize) -> usize {
        let from = self.tokens.partition_point(|token| token.start < end);
        for token in &self.tokens[from..] {
            if token.class != Class::Comment || self.text[end..token.start].contains('\n') {
                break;
            }
            end = token.end;
        }
        end
    }

    /// What is in front of this on its line: the indentation of what begins a line.
    fn in_front_of(&self, at: usize) -> &'t str {
        &self.text[self.text[..at].rfind('\n').map_or(0, |line_break| line_break + 1)..at]
    }

    /// Whether nothing but blanks is in front of this on its line.
    fn begins_line(&self, at: usize) -> bool {
        self.in_front_of(at).trim_matches([' ', '\t']).is_empty()
    }

    /// What one level of the text is indented by.
    fn indentation_unit(&self) -> &'t str {
        let blanks = |line: &'t str| &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        let lines = self.text.lines().filter(|line| line.trim_start_matches([' ', '\t']).starts_with('"'));
        lines.map(blanks).find(|blanks| !blanks.is_empty()).unwrap_or("  ")
    }

    fn line_break(&self) -> String {
        let is_crlf = self.text.find('\n').is_some_and(|at| self.text[..at].ends_with('\r'));
        if is_crlf { "\r\n" } else { "\n" }.to_owned()
    }
}

/// The property of this name.
pub(crate) fn property<'o, 'a>(object: &'o Object<'a>, key: &str) -> Option<&'o ObjectProp<'a>> {
    object.properties.iter().find(|property| property.name.as_str() == key)
}

#[cfg(test)]
mod tests {
    use jsonc_parser::ast::Value;

    use super::*;
    use crate::config::read::parse::parse;

    /// The text behind what `edit` does to its root.
    fn edited(text: &str, edit: impl FnOnce(&mut Editor<'_>, &Value<'_>)) -> String {
        let (value, _) = parse(text).unwrap();
        let mut editor = Editor::new(text);
        edit(&mut editor, &value);
        let made = editor.finish();
        assert!(parse(&made).is_ok(), "{made}");
        made
    }

    fn set(text: &str) -> String {
        edited(text, |editor, root| editor.set(root.as_object().unwrap(), "k", "1"))
    }

    fn without(text: &str, gone: &[usize]) -> String {
        edited(text, |editor, root| editor.remove_elements(root.as_array().unwrap(), |at| gone.contains(&at)))
    }

    #[test]
    fn a_key_is_set_in_the_style_of_its_object() {
        for (before, after) in [
            ("{}", "{ \"k\": 1 }"),
            (r#"{ "a": 2 }"#, r#"{ "a": 2, "k": 1 }"#),
            (r#"{ "a": 2, }"#, r#"{ "a": 2, "k": 1, }"#),
            ("{\n  \"a\": 2\n}\n", "{\n  \"a\": 2,\n  \"k\": 1\n}\n"),
            ("{\r\n\t\"a\": 2, // c\r\n}", "{\r\n\t\"a\": 2, // c\r\n\t\"k\": 1,\r\n}"),
            ("{\n  \"a\": 2 // c\n}", "{\n  \"a\": 2, // c\n  \"k\": 1\n}"),
            ("{\n  \"a\": 2 /* c\n d */ }", "{\n  \"a\": 2, /* c\n d */\n  \"k\": 1 }"),
            (
                "{\n  \"a\": 2 /* c */ , /* d */ /* e */\n}",
                "{\n  \"a\": 2 /* c */ , /* d */ /* e */\n  \"k\": 1,\n}",
            ),
            ("{ \"k\": [2, // c\n3] /* d */ }", "{ \"k\": 1 /* d */ }"),
        ] {
            assert_eq!(set(before), after);
        }
    }

    #[test]
    fn a_key_is_taken_out() {
        let unset = |text: &str| edited(text, |editor, root| editor.unset(root.as_object().unwrap(), "k"));
        for (before, after) in [
            (r#"{ "k": 1 }"#, "{ }"),
            (r#"{"k": 1, "a": 2}"#, r#"{"a": 2}"#),
            (r#"{ "a": 2, "k": 1 }"#, r#"{ "a": 2 }"#),
            (r#"{ "a": 2, "k": 1, }"#, r#"{ "a": 2, }"#),
            ("{\n  \"a\": 2, // a\n  \"k\": 1 // k\n}", "{\n  \"a\": 2 // a\n  // k\n}"),
            ("{\n  \"a\": 2,\n  \"k\": 1\n}", "{\n  \"a\": 2\n}"),
            ("{ \"k\": 1 /* c */ , \"a\": 2 }", "{ /* c */  \"a\": 2 }"),
        ] {
            assert_eq!(unset(before), after.to_owned(), "{before}");
        }
    }

    #[test]
    fn elements_are_taken_out_with_their_commas_and_comments_stay() {
        for (before, gone, after) in [
            ("[1, 2, 3]", &[0][..], "[2, 3]"),
            ("[1, 2, 3]", &[2], "[1, 2]"),
            ("[1, 2, 3]", &[1, 2], "[1]"),
            ("[1, 2, 3]", &[0, 2], "[2]"),
            ("[ 1, 2, ]", &[1], "[ 1, ]"),
            ("[1, 2, 3]", &[0, 1, 2], "[]"),
            ("[\r\n  1, // one\r\n  2, // two\r\n]", &[0], "[\r\n  // one\r\n  2, // two\r\n]"),
            ("[\n  1,\n  // of two\n  2\n]", &[1], "[\n  1\n  // of two\n]"),
            ("[\n  1,\n  2\n]", &[0, 1], "[\n]"),
        ] {
            assert_eq!(without(before, gone), after, "{before}");
        }
    }

    #[test]
    fn an_element_comes_in_front_in_the_style_of_the_list() {
        let push = |text: &str| edited(text, |editor, root| editor.push_front(root.as_array().unwrap(), "0"));
        for (before, after) in [
            ("[]", "[0]"),
            ("[1]", "[0, 1]"),
            ("[ 1, ]", "[ 0, 1, ]"),
            ("[/* one */ 1]", "[0, /* one */ 1]"),
            ("[ // all\n  // one\n  1\n]", "[ // all\n  0,\n  // one\n  1\n]"),
        ] {
            assert_eq!(push(before), after);
        }
    }

    #[test]
    fn a_value_becomes_a_list() {
        let list = |text: &str| {
            edited(text, |editor, root| editor.make_list(&root.as_object().unwrap().properties[0], "0", "1"))
        };
        assert_eq!(list(r#"{ "a": "1" }"#), r#"{ "a": [0, 1] }"#);
        assert_eq!(
            list("{\r\n\t\"a\": \"1\", // c\r\n}"),
            "{\r\n\t\"a\": [\r\n\t\t0,\r\n\t\t1\r\n\t], // c\r\n}"
        );
    }
}
