//! What is wrong with a text that is no JSON, in words that lead to the cause.
//!
//! A parser reports where it gave up. This walks the tokens once more with what people do in mind: quotes that were
//! forgotten, brackets that are missing further up, and what other languages write.

use crate::config::read::{
    lexer::{Class, Lexeme, tokens},
    lines::LineIndex,
};

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    Key,
    Colon,
    /// A comma, or the end of what is open.
    Comma,
    Nothing,
}

/// What people have in place of straight double quotes.
const QUOTES: &str = "“”„‟«»‘’'`";

/// A place in the text, and what to say of it.
type Found = (usize, String);

/// The first thing that is wrong with `text`. `None` leaves it to the parser to say so.
pub(crate) fn diagnose(text: &str, lines: &LineIndex<'_>) -> Option<Found> {
    if let Some(at) = text.find('\0') {
        let message = "a zero byte: this is UTF-16, or no text at all; save the file as UTF-8";
        return Some((at, message.into()));
    }
    let tokens: Vec<Lexeme> = tokens(text);
    let walk = Walk { text, lines, all: &tokens };
    walk.language().or_else(|| walk.walk())
}

struct Walk<'a> {
    text: &'a str,
    lines: &'a LineIndex<'a>,
    all: &'a [Lexeme],
}

impl Walk<'_> {
    fn text(&self, token: &Lexeme) -> &str {
        &self.text[token.start..token.end]
    }

    /// Whether it is another language altogether.
    fn language(&self) -> Option<Found> {
        let mut plain = self.all.iter().filter(|token| !matches!(token.class, Class::Hash | Class::Comment));
        let first = plain.next()?;
        let (second, third) = (plain.next().map(|token| token.class), plain.next().map(|token| token.class));
        // A part of a page, as it is there.
        if first.class == Class::String && second == Some(Class::Colon) {
            return say(
                first.start,
                "the braces around this are missing; put { in front of it, and } at its end",
            );
        }
        let word = self.text(first);
        let name = match (first.class, second, third) {
            (Class::Word, ..) if word.starts_with('<') => "XML or HTML",
            (Class::Word, ..) if word == "---" || word == "-" => "YAML",
            (Class::Word, Some(Class::Colon), _) => "YAML",
            (Class::Word, Some(Class::Symbol('=')), _) => "TOML or INI",
            (Class::Open(b'['), Some(Class::Word), Some(Class::Close(b']'))) => "TOML or INI",
            _ => return None,
        };
        let message = format!(
            "this looks like {name}, and the config is JSON: an object {{ … }} with its keys in double quotes; \
             `sluicegate init` writes a starter"
        );
        Some((first.start, message))
    }

    fn walk(&self) -> Option<Found> {
        let mut next = Next::Value;
        let mut open: Vec<usize> = Vec::new();
        let mut crooked = None;
        let mut previous: Option<usize> = None;
        for (index, token) in self.all.iter().enumerate() {
            let at = token.start;
            next = match (next, token.class) {
                (_, Class::Comment) => continue,
                (_, Class::Hash) => return say(at, "comments begin with // here, not with #"),
                (Next::Nothing, _) => {
                    return say(
                        at,
                        "the file goes on after its closing bracket; remove what follows, or that bracket",
                    );
                }
                (Next::Value | Next::Key, Class::Symbol(c)) if QUOTES.contains(c) => {
                    return say(at, quote(c));
                }
                (Next::Colon, Class::Symbol('=')) => {
                    return say(at, "a colon stands between a key and its value, not =");
                }
                (_, Class::Symbol(';')) => return say(at, "entries are separated by commas, not by ;"),
                (Next::Comma, Class::Symbol(c)) if QUOTES.contains(c) => {
                    return self.no_comma(previous, token);
                }
                (_, Class::Symbol(c)) => return say(at, format!("{c} means nothing in JSON; remove it")),

                (Next::Value | Next::Key | Next::Comma, Class::Close(bracket)) => {
                    match self.close(&open, bracket, token) {
                        Some(found) => return Some(found),
                        None if next == Next::Value && bracket == b'}' => {
                            return say(at, "a value is missing in front of this }, after the key's colon");
                        }
                        None => self.pop(&mut open, token, &mut crooked),
                    }
                }
                (Next::Colon, Class::Close(_) | Class::Comma) => {
                    return say(at, "a colon and a value are missing here, after the key");
                }

                (Next::Value, Class::Open(bracket)) => {
                    open.push(index);
                    if bracket == b'{' { Next::Key } else { Next::Value }
                }
                (Next::Value | Next::Key, Class::String) => match self.escape(token) {
                    Some(found) => return Some(found),
                    None if next == Next::Key => Next::Colon,
                    None => after_value(&open),
                },
                (Next::Value, Class::Word) => match self.word(index) {
                    Some(found) => return Some(found),
                    None => after_value(&open),
                },
                (Next::Value | Next::Key, Class::Comma) => {
                    return say(
                        at,
                        "nothing stands in front of this comma; remove it, or write what is missing",
                    );
                }
                (Next::Value, Class::Colon) => {
                    return say(at, "a value is missing here; there is a colon too many");
                }

                (Next::Key, Class::Word) => return self.bare_key(index),
                (Next::Key, Class::Open(_) | Class::Colon) => {
                    return say(at, "a key is missing in front of this; write \"key\": value");
                }

                (Next::Colon, Class::Colon) => Next::Value,
                (Next::Colon, _) => return self.no_colon(previous, index),

                (Next::Comma, Class::Comma) => match open.last().map(|&index| self.all[index].class) {
                    Some(Class::Open(b'{')) => Next::Key,
                    _ => Next::Value,
                },
                (Next::Comma, Class::Colon) => {
                    return say(
                        at,
                        "a colon too many; entries with keys stand in { … }, and a key has one value",
                    );
                }
                (Next::Comma, _) => return self.no_comma(previous, token),
                (_, Class::Unclosed) => {
                    return say(at, "the string that begins here is not closed on its line; end it with \"");
                }
            };
            previous = Some(index);
        }
        let last = *open.last()?;
        let (index, message) = match crooked {
            Some((index, closer)) => {
                let (bracket, line) = (self.bracket(index), self.lines.line(self.all[closer].start));
                (
                    index,
                    format!(
                        "this {bracket} is not closed: what closes it, on line {line}, stands as if it closed another one \
                     further out"
                    ),
                )
            }
            None => {
                let (bracket, closing) = (self.bracket(last), closing(self.bracket(last)));
                let cause = format!("the file is cut off, or a {closing} is missing");
                (last, format!("this {bracket} is never closed: {cause}"))
            }
        };
        Some((self.all[index].start, message))
    }

    fn bracket(&self, index: usize) -> char {
        match self.all[index].class {
            Class::Open(bracket) => bracket as char,
            _ => '{',
        }
    }

    /// What is wrong with this closing bracket.
    fn close(&self, open: &[usize], bracket: u8, token: &Lexeme) -> Option<Found> {
        let bracket = bracket as char;
        let Some(&last) = open.last() else {
            return say(token.start, format!("this {bracket} closes nothing; remove it"));
        };
        let opened = self.bracket(last);
        if closing(opened) == bracket {
            return None;
        }
        let (line, wanted) = (self.lines.line(self.all[last].start), closing(opened));
        say(
            token.start,
            format!(
                "this {bracket} comes while the {opened} of line {line} is open; a {wanted} is missing in front of it"
            ),
        )
    }

    /// Takes the innermost bracket off. One that is closed further to the left than it was opened is probably closed by the
    /// bracket of another one.
    fn pop(&self, open: &mut Vec<usize>, token: &Lexeme, crooked: &mut Option<(usize, usize)>) -> Next {
        let Some(opener) = open.pop() else { return Next::Nothing };
        let begin = |offset| self.lines.range(offset).0;
        let indent = |offset| {
            let line = &self.text[begin(offset)..];
            line.len() - line.trim_start_matches([' ', '\t']).len()
        };
        let (opened, closed) = (self.all[opener].start, token.start);
        let is_first = self.text[begin(closed)..closed].trim().is_empty();
        if is_first && begin(opened) != begin(closed) && indent(closed) < indent(opened) && crooked.is_none()
        {
            let closer = self.all.partition_point(|other| other.start < closed);
            *crooked = Some((opener, closer));
        }
        after_value(open)
    }

    /// What is wrong with a word in the place of a value.
    fn word(&self, index: usize) -> Option<Found> {
        let (token, word) = (&self.all[index], self.text(&self.all[index]));
        if matches!(word, "true" | "false" | "null") || is_number(word) {
            return None;
        }
        let digits = word.trim_start_matches(['+', '-']);
        let is_digit = |c: char| c.is_ascii_digit();
        let message = match word {
            "True" | "TRUE" => "write true, in small letters",
            "False" | "FALSE" => "write false, in small letters",
            "None" | "NULL" | "Null" | "nil" | "undefined" => "is null in JSON; leave the key out instead",
            "yes" | "Yes" | "on" | "On" => "write true",
            "no" | "No" | "off" | "Off" => "write false",
            "..." | "…" => "a placeholder is left here; replace it",
            _ if word.contains(is_invisible) => return say(token.start, invisible(word)),
            _ if word.starts_with('\\') => "a backslash stands here; remove it",
            _ if word.starts_with('$') => "a reference is text: put it in double quotes",
            _ if self.is_odd(token) => "the double quote in front of this value is missing",
            _ if word.starts_with('+') && is_number(digits) => "a number has no + in front; remove it",
            _ if digits.starts_with("0x") => "numbers are decimal here",
            _ if digits.starts_with('0') && digits.chars().all(is_digit) => {
                "a number has no leading zero; remove it, or put text in double quotes"
            }
            _ if digits.chars().all(|c| is_digit(c) || c == '.') && digits.matches('.').count() == 1 => {
                "a number has digits on both sides of its point"
            }
            _ if digits.starts_with(is_digit)
                && digits.trim_start_matches(is_digit).chars().all(char::is_alphabetic) =>
            {
                "a number with a unit is text: put it in double quotes, as in \"30s\""
            }
            _ => "this is no JSON value; put text in double quotes",
        };
        say(token.start, message)
    }

    /// What is wrong with a word in the place of a key.
    fn bare_key(&self, index: usize) -> Option<Found> {
        let token = &self.all[index];
        let follower = self.all.get(index + 1).filter(|next| next.start == token.end);
        let is_half_quoted = follower.is_some_and(|next| {
            matches!(next.class, Class::String | Class::Unclosed) && self.text(next)[1..].starts_with(':')
        });
        let message = match self.text(token) {
            word if word.contains(is_invisible) => return say(token.start, invisible(word)),
            _ if is_half_quoted => "the double quote in front of this key is missing",
            "..." | "…" => "a placeholder is left here; replace it",
            _ => "keys stand in double quotes here: write \"key\": value",
        };
        say(token.start, message)
    }

    /// What is wrong with what follows a key.
    fn no_colon(&self, key: Option<usize>, index: usize) -> Option<Found> {
        let key = &self.all[key?];
        let inside = self.text(key).trim_matches('"').trim_end();
        let token = &self.all[index];
        // `"addr: "127…`: what seems to be the key ends with the quote that opens the value.
        if inside.ends_with(':') && token.start == key.end {
            return say(
                key.start,
                "the double quote at the end of this key is missing; write \"key\": value",
            );
        }
        if token.class == Class::Unclosed && token.start == key.end {
            return say(token.start, "there is a double quote too many here; remove one");
        }
        say(key.end, "a colon is missing here, between the key and its value")
    }

    fn no_comma(&self, previous: Option<usize>, token: &Lexeme) -> Option<Found> {
        let end = previous.map_or(0, |index| self.all[index].end);
        // `"a"b"`: a quote inside of a string that is not escaped.
        if token.start == end && matches!(token.class, Class::Word | Class::Unclosed | Class::String) {
            let message =
                "the text goes on behind its closing quote; write \\\" for a quote inside of a text";
            return say(token.start, message);
        }
        say(end, "a comma is missing here, between two entries")
    }

    /// A backslash that means nothing.
    fn escape(&self, token: &Lexeme) -> Option<Found> {
        let text = self.text(token);
        let mut bytes = text.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            if byte == b'\\'
                && let Some((_, escaped)) = bytes.next()
                && !b"\"\\/bfnrtu".contains(&escaped)
            {
                let message = "a single backslash is the beginning of an escape; write \\\\ for a backslash, as in \"C:\\\\Users\"";
                return say(token.start + at, message);
            }
        }
        None
    }

    /// Whether a quote is missing on the line of the token.
    fn is_odd(&self, token: &Lexeme) -> bool {
        let end = self.lines.range(token.start).1;
        let later = self.all.iter().skip(self.all.partition_point(|other| other.start <= token.start));
        later.take_while(|other| other.start < end).any(|other| other.class == Class::Unclosed)
    }
}

fn say(at: usize, message: impl Into<String>) -> Option<Found> {
    Some((at, message.into()))
}

fn quote(c: char) -> String {
    match c {
        '\'' => "strings stand in double quotes here, not in single ones".into(),
        '`' => "strings stand in double quotes here, not in backticks".into(),
        _ => format!(
            "{c} is a typographic quote, which word processors and web pages make; write \" in its place"
        ),
    }
}

fn after_value(open: &[usize]) -> Next {
    if open.is_empty() { Next::Nothing } else { Next::Comma }
}

fn closing(bracket: char) -> char {
    if bracket == '{' { '}' } else { ']' }
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && !c.is_ascii())
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
}

fn invisible(word: &str) -> String {
    let code = word.chars().find(|c| is_invisible(*c)).map_or(0, u32::from);
    format!("an invisible character (U+{code:04X}) stands here; remove it")
}

/// RFC 8259, section 6.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (word, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}
