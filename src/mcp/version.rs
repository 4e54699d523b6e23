//! Versions of MCP. They are names: which of two is newer cannot be derived from the text of one that is not listed here.

/// Versions with an `initialize` handshake, newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The version in which every request is self-contained.
pub const MODERN: &str = "2026-07-28";

/// `_meta` of the messages of [`MODERN`] that the gateway itself writes.
pub const OWN_META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// What a server answers to `initialize`: the version that was asked for if it has the handshake, else the newest one that
/// has it; the client then stays or leaves.
pub fn negotiate(asked: Option<&str>) -> &'static str {
    LEGACY.into_iter().find(|known| Some(*known) == asked).unwrap_or(LEGACY[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_own_version_or_the_newest() {
        for version in LEGACY {
            assert_eq!(negotiate(Some(version)), version);
        }
        for unknown in [None, Some(""), Some(MODERN), Some("2099-01-01")] {
            assert_eq!(negotiate(unknown), "2025-11-25");
        }
    }
}
