//! Header fields: how often one is there, and text in those that repeat a request's body (MCP 2026-07-28, Streamable
//! HTTP, "Value Encoding").
//!
//! A field value holds visible ASCII, and blanks only within. Whatever else a name or an argument is made of travels as
//! `=?base64?…?=`; so does text that looks like that already. Who compares such a field with a body has to undo it first.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};

/// The session of a request (Streamable HTTP, up to MCP 2025-11-25).
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// Where a stream that was lost is taken up again (WHATWG HTML, section 9.2.4).
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The version of MCP that a request is of.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method of a request (MCP 2026-07-28).
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// What a request is about (MCP 2026-07-28).
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// A field of which there should be one.
#[derive(Debug, Clone, Copy, Default)]
pub enum Occurrence<'a> {
    /// It is not there.
    #[default]
    Not,
    /// With this value.
    Once(&'a HeaderValue),
    /// More than once.
    Often,
}

impl<'a> Occurrence<'a> {
    /// The same with one more.
    pub fn and(self, value: &'a HeaderValue) -> Self {
        if matches!(self, Self::Not) { Self::Once(value) } else { Self::Often }
    }

    /// Its value, if it is there once.
    pub fn once(self) -> Option<&'a HeaderValue> {
        if let Self::Once(value) = self { Some(value) } else { None }
    }
}

/// The text in a field value, without the blanks around it (RFC 9110, section 5.5). `None` if it has bytes that no
/// field of MCP may have, or if what should be base64 is not the one way to write some UTF-8 text.
pub fn decode(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = plain(value)?;
    let Some(encoded) = encoded(text) else { return Some(Cow::Borrowed(text)) };
    // Refuses wrong padding and stray bits: two texts for one value are two readings of one request.
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned)
}

/// The field value for a text.
pub fn encode(text: &str) -> HeaderValue {
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && encoded(text).is_none();
    let plain = if is_plain { HeaderValue::from_str(text).ok() } else { None };
    plain.unwrap_or_else(|| {
        let mut encoded = String::from(PREFIX);
        STANDARD.encode_string(text, &mut encoded);
        encoded.push_str(SUFFIX);
        // Base64 and the marks around it are visible ASCII, so the default, an empty value, cannot come to pass.
        HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""))
    })
}

/// The text of a field value that is never encoded, without the blanks around it.
pub(super) fn plain(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(|text| text.trim_matches([' ', '\t']))
}

/// What is between the marks.
fn encoded(text: &str) -> Option<&str> {
    text.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_has_a_value_only_if_it_is_there_once() {
        let (one, other) = (HeaderValue::from_static("1"), HeaderValue::from_static("2"));
        assert_eq!(Occurrence::Not.once(), None);
        assert_eq!(Occurrence::Not.and(&one).once(), Some(&one));
        assert_eq!(Occurrence::Not.and(&one).and(&other).once(), None);
        assert_eq!(Occurrence::Not.and(&one).and(&one).and(&one).once(), None);
    }

    #[test]
    fn text_travels_as_the_specification_shows() {
        for (text, field) in [
            ("us-west1", "us-west1"),
            ("us west 1", "us west 1"),
            ("", ""),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("\tindented", "=?base64?CWluZGVudGVk?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode(text), field, "{text:?}");
            assert_eq!(decode(&HeaderValue::from_static(field)).as_deref(), Some(text), "{field}");
        }
    }

    #[test]
    fn a_value_is_base64_only_between_both_marks_and_in_their_very_case() {
        for field in ["SGVsbG8=", "=?base64?SGVsbG8=", "SGVsbG8=?=", "=?BASE64?SGVsbG8=?=", "=?base64?="] {
            assert_eq!(decode(&HeaderValue::from_static(field)).as_deref(), Some(field));
        }
        assert_eq!(decode(&HeaderValue::from_static(" \t a b\t ")).as_deref(), Some("a b"));
        assert_eq!(decode(&HeaderValue::from_static("=?base64??=")).as_deref(), Some(""));
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_not_read() {
        for field in [
            "=?base64?SGVsbG8?=",     // no padding
            "=?base64?SGVs!!!bG8=?=", // no base64
            "=?base64?SGVsbG9=?=",    // stray bits
            "=?base64?/w==?=",        // no UTF-8
        ] {
            assert_eq!(decode(&HeaderValue::from_static(field)), None, "{field}");
        }
        assert_eq!(decode(&HeaderValue::from_bytes(b"gr\xfcn").unwrap()), None);
    }

    proptest! {
        #[test]
        fn every_text_arrives_as_it_was(text in any::<String>()) {
            let value = encode(&text);
            let decoded = decode(&value).map(Cow::into_owned);
            prop_assert_eq!(decoded, Some(text));
        }
    }
}
