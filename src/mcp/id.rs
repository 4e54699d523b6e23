//! Names of requests and of their progress.

use std::fmt;

/// A JSON-RPC id or a progress token. Compared by value, since a peer may write an equal string with other escapes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// A number, as written.
    Number(Box<str>),
    /// A string, without its escapes.
    String(Box<str>),
}

impl Id {
    /// A number.
    pub fn number(number: u64) -> Self {
        Self::Number(number.to_string().into())
    }

    /// Whether somebody may take this for the other: it is the same text, or the same whole number in another spelling
    /// (`7`, `"7"`, `7.0`, `7e0`), as languages write it that have only floating-point numbers or only strings for ids.
    pub fn is_like(&self, other: &Self) -> bool {
        let (Self::Number(mine) | Self::String(mine)) = self;
        let (Self::Number(others) | Self::String(others)) = other;
        mine == others || self.as_integer().is_some_and(|number| Some(number) == other.as_integer())
    }

    /// The whole number that it is, whichever way it is written, if every reader can hold it (RFC 7493, section 2.2).
    pub fn as_integer(&self) -> Option<i64> {
        const MOST: f64 = 9_007_199_254_740_992.0;
        let (Self::Number(text) | Self::String(text)) = self;
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        // Nothing that only Rust takes for a number, such as `inf`.
        let is_numeric =
            text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let number: f64 = if is_numeric { text.parse().ok()? } else { return None };
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and no larger than 2⁵³")]
        (number.fract() == 0.0 && number.abs() <= MOST).then_some(number as i64)
    }

    /// What a JSON text stands for, if that is an id.
    pub(super) fn read(text: &str) -> Option<Self> {
        match text.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(text).ok().map(|string| Self::String(string.into())),
            b'-' | b'0'..=b'9' => Some(Self::Number(text.into())),
            _ => None,
        }
    }
}

/// As JSON.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => f.write_str(number),
            Self::String(string) => serde_json::Value::from(&**string).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_like_every_spelling_of_the_same_number_and_no_other() {
        let id = |text: &str| Id::read(text).unwrap();
        for spelling in ["7", "\"7\"", "7.0", "7e0", "70e-1", "0.7E+1", "\"7.0\"", "\"\\u0037\""] {
            assert!(id("7").is_like(&id(spelling)) && id(spelling).is_like(&id("\"7\"")), "{spelling}");
        }
        for other in ["8", "7.5", "-7", "\"a\"", "\"\"", "\"inf\"", "\"0x7\"", "1e400"] {
            assert!(!id("7").is_like(&id(other)), "{other}");
        }
        assert!(id("\"a\"").is_like(&id("\"\\u0061\"")) && !id("\"nan\"").is_like(&id("\"NaN\"")));
    }
}
