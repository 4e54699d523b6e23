//! Text to tokens, whatever the text is: what is no JSON has tokens, too, and strings end at the end of their line.
//!
//! For messages about texts that the parser refuses, and to show a line without the values that are in it.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// `{` or `[`.
    Open(u8),
    /// `}` or `]`.
    Close(u8),
    Colon,
    Comma,
    /// From quote to quote.
    String,
    /// From a quote to the end of the line.
    Unclosed,
    /// `//` or `/*`.
    Comment,
    /// `#`, to the end of the line.
    Hash,
    /// A character that people paste where JSON has another.
    Symbol(char),
    /// Anything else, up to white space or one of the above: numbers, `true`, and what is no JSON.
    Word,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexeme {
    pub(crate) class: Class,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What is in place of straight quotes, colons and commas in texts that were made for people.
const SYMBOLS: &str = "“”„‟«»‘’'`;=";

fn is_space(c: char) -> bool {
    // What the parser passes over.
    c.is_whitespace()
}

/// All tokens of `text`. Between them there is white space and nothing else.
pub(crate) fn tokens(text: &str) -> Vec<Lexeme> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let to_end_of_line = || rest.find('\n').map_or(rest, |end| &rest[..end]).trim_end_matches('\r').len();
        let (class, length) = match c {
            c if is_space(c) => {
                at += c.len_utf8();
                continue;
            }
            '{' | '[' => (Class::Open(c as u8), 1),
            '}' | ']' => (Class::Close(c as u8), 1),
            ':' => (Class::Colon, 1),
            ',' => (Class::Comma, 1),
            '"' => match string(rest) {
                Some(length) => (Class::String, length),
                None => (Class::Unclosed, to_end_of_line()),
            },
            '#' => (Class::Hash, to_end_of_line()),
            // The parser ends it at a carriage return as well.
            '/' if rest.starts_with("//") => (Class::Comment, rest.find(['\r', '\n']).unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => {
                (Class::Comment, rest.find("*/").map_or(rest.len(), |end| end + 2))
            }
            c if SYMBOLS.contains(c) => (Class::Symbol(c), c.len_utf8()),
            _ => {
                let ends = |c: char| is_space(c) || "{}[]:,\"#".contains(c) || SYMBOLS.contains(c);
                (Class::Word, rest.find(ends).unwrap_or(rest.len()))
            }
        };
        found.push(Lexeme { class, start: at, end: at + length });
        at += length;
    }
    found
}

/// Length of the string that `text` begins with, if it ends on its line.
fn string(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\n' => return None,
            // What is escaped is no end, unless it is that of the line.
            b'\\' if bytes.next().is_none_or(|(_, byte)| byte == b'\n') => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(&str, Class)> {
        tokens(text).iter().map(|token| (&text[token.start..token.end], token.class)).collect()
    }

    #[test]
    fn what_is_no_json_has_tokens_too() {
        assert_eq!(
            shown("{\"a\\\"b\": “x”, # y\n tr-1 /* c\n*/ \"z\r\n]"),
            [
                ("{", Class::Open(b'{')),
                ("\"a\\\"b\"", Class::String),
                (":", Class::Colon),
                ("“", Class::Symbol('“')),
                ("x", Class::Word),
                ("”", Class::Symbol('”')),
                (",", Class::Comma),
                ("# y", Class::Hash),
                ("tr-1", Class::Word),
                ("/* c\n*/", Class::Comment),
                ("\"z", Class::Unclosed),
                ("]", Class::Close(b']')),
            ]
        );
    }

    #[test]
    fn every_text_comes_to_its_end() {
        for text in ["", "\"", "\"\\", "\"\\\n", "/", "/*", "é", "\u{a0}\u{0}", "\\", "a/b//c"] {
            assert!(tokens(text).iter().all(|token| token.end > token.start), "{text:?}");
        }
    }
}
