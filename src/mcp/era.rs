//! The two protocols that are called MCP, and which of them a request speaks.
//!
//! What the head says of that is read here alone, by the proxy, by the bridge and by the check of heads, so that they agree on
//! a field that comes twice or with blanks around its value.

use http::{HeaderMap, HeaderValue};

use crate::mcp::{
    header::{self, METHOD, PROTOCOL_VERSION},
    message::Message,
    method::LISTEN,
    version::MODERN,
};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Begins with `initialize` (up to MCP 2025-11-25).
    Legacy,
    /// Every request is self-contained (MCP 2026-07-28 and later).
    Modern,
}

impl Era {
    /// That of a message by itself.
    pub fn of(message: &Message) -> Self {
        if message.version().is_some() { Self::Modern } else { Self::Legacy }
    }
}

/// Whether a request is of MCP 2026-07-28 or later, and not of the versions that have sessions.
///
/// What the body says of its version counts, whatever it says: a server has to be asked before it can be said to lack
/// one. Versions are names, not numbers, so a header alone counts only if it is known. `message` is `None` for what has
/// no body, such as GET.
pub fn is_modern(headers: &HeaderMap, message: Option<&Message>) -> bool {
    if message.is_some_and(Message::names_version) {
        return true;
    }
    if message.is_some_and(|message| message.method() == "initialize") {
        return false;
    }
    headers.get_all(PROTOCOL_VERSION).iter().any(names_modern)
}

/// Whether this is what `MCP-Protocol-Version` says in MCP 2026-07-28.
pub fn names_modern(version: &HeaderValue) -> bool {
    header::plain(version) == Some(MODERN)
}

/// Whether the head says that a request asks for notifications, and so for no answer that comes to an end.
pub fn listens(headers: &HeaderMap) -> bool {
    headers.get_all(METHOD).iter().any(names_listen)
}

/// Whether this is what `Mcp-Method` says of such a request.
pub fn names_listen(method: &HeaderValue) -> bool {
    header::plain(method) == Some(LISTEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::version::OWN_META;

    fn parse(text: &str) -> Message {
        Message::parse(text.to_owned().into()).unwrap()
    }

    #[test]
    fn the_body_says_what_version_a_request_is_of_and_a_header_only_if_it_is_known() {
        let modern = parse(&format!(r#"{{"id":1,"method":"tools/list","params":{{"_meta":{OWN_META}}}}}"#));
        let future = parse(
            r#"{"id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"v999.0.0"}}}"#,
        );
        let bare = parse(r#"{"id":1,"method":"tools/list"}"#);
        let initialize = parse(r#"{"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#);
        let removed = parse(&format!(r#"{{"id":1,"method":"initialize","params":{{"_meta":{OWN_META}}}}}"#));
        for (version, message, wanted) in [
            (Some("2026-07-28"), Some(&modern), true),
            (None, Some(&modern), true),
            (Some("2025-11-25"), Some(&modern), true),
            (Some("v999.0.0"), Some(&future), true),
            (Some("2026-07-28"), Some(&bare), true),
            (Some(" 2026-07-28 "), Some(&bare), true),
            (Some("2025-11-25"), Some(&bare), false),
            (Some("2099-01-01"), Some(&bare), false),
            (None, Some(&bare), false),
            (None, Some(&initialize), false),
            (Some("2026-07-28"), Some(&initialize), false),
            (Some("2026-07-28"), Some(&removed), true),
            (Some("2026-07-28"), None, true),
            (Some("2025-11-25"), None, false),
            (None, None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(version) = version {
                headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(version));
            }
            assert_eq!(is_modern(&headers, message), wanted, "{version:?} {message:?}");
        }
    }
}
