//! Words of scopes (RFC 6749 §3.3): which of them mean something of their own here. Any other is of the user's own, for tools.

use std::fmt;

/// What a word of a scope means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeWord<'a> {
    /// All that the rules of the config give.
    All,
    /// A refresh token is wanted. It opens nothing.
    Offline,
    /// The server of this name.
    Server(&'a str),
    /// The servers with this tag; beside others, as `scopeTags` says.
    Tag(&'a str),
    /// What a rule of tools may ask for.
    Other(&'a str),
}

impl<'a> ScopeWord<'a> {
    /// [`Self::All`], as it is written.
    pub const ALL: &'static str = "mcp";
    /// [`Self::Offline`], as it is written.
    pub const OFFLINE: &'static str = "offline_access";
    const SERVER: &'static str = "server:";
    const TAG: &'static str = "tag:";

    /// That of this text.
    pub fn of(text: &'a str) -> Self {
        match (text.strip_prefix(Self::SERVER), text.strip_prefix(Self::TAG)) {
            (Some(name), _) => Self::Server(name),
            (_, Some(tag)) => Self::Tag(tag),
            _ if text == Self::ALL => Self::All,
            _ if text == Self::OFFLINE => Self::Offline,
            _ => Self::Other(text),
        }
    }

    /// Whether it names servers.
    pub fn is_of_servers(self) -> bool {
        matches!(self, Self::Server(_) | Self::Tag(_))
    }
}

impl fmt::Display for ScopeWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(Self::ALL),
            Self::Offline => f.write_str(Self::OFFLINE),
            Self::Server(name) => write!(f, "{}{name}", Self::SERVER),
            Self::Tag(tag) => write!(f, "{}{tag}", Self::TAG),
            Self::Other(word) => f.write_str(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_written_as_it_is_read() {
        for (text, word) in [
            ("mcp", ScopeWord::All),
            ("offline_access", ScopeWord::Offline),
            ("server:db", ScopeWord::Server("db")),
            ("tag:web", ScopeWord::Tag("web")),
            ("tag:server:x", ScopeWord::Tag("server:x")),
            ("server:", ScopeWord::Server("")),
            ("MCP", ScopeWord::Other("MCP")),
            ("tags:web", ScopeWord::Other("tags:web")),
            ("files:write", ScopeWord::Other("files:write")),
        ] {
            assert_eq!((ScopeWord::of(text), word.to_string().as_str()), (word, text));
        }
    }
}
