//! Scopes: what of a principal's rights a token has (RFC 6749 §3.3).

use std::sync::Arc;

use crate::config::ScopeTags;

/// All that the rules of the config give.
pub const ALL: &str = "mcp";
/// A refresh token is wanted. It opens nothing.
pub const OFFLINE: &str = "offline_access";
const SERVER: &str = "server:";
const TAG: &str = "tag:";

/// What a token is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    words: Vec<String>,
    tags: ScopeTags,
}

impl Scope {
    /// The words of `text`, of which those about tags mean what `scopeTags` of the config says.
    pub fn parse(text: &str, tags: ScopeTags) -> Self {
        let mut words: Vec<String> = Vec::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
        Self { words, tags }
    }

    /// Its words.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The same words, where `scopeTags` is this.
    pub fn under(&self, tags: ScopeTags) -> Self {
        Self { words: self.words.clone(), tags }
    }

    /// What `scopeTags` said when it was read.
    pub fn tags(&self) -> ScopeTags {
        self.tags
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// Whether it has all that the rules give.
    pub fn is_all(&self) -> bool {
        self.has(ALL)
    }

    /// Whether it reaches the server of this name, which has these tags.
    pub fn covers_server(&self, name: &str, has_tags: &[String]) -> bool {
        let mut tags = self.words.iter().filter_map(|word| word.strip_prefix(TAG)).peekable();
        let is_tagged = |tag: &str| has_tags.iter().any(|has| has == tag);
        self.is_all()
            || self.words.iter().any(|word| word.strip_prefix(SERVER) == Some(name))
            || match self.tags {
                ScopeTags::All => tags.peek().is_some() && tags.all(is_tagged),
                ScopeTags::Any => tags.any(is_tagged),
            }
    }

    /// Whether it may reach any server.
    pub fn covers_some(&self) -> bool {
        let reaches = |word: &String| *word == ALL || word.starts_with(SERVER) || word.starts_with(TAG);
        self.words.iter().any(reaches)
    }

    /// What a token needs that is to have these words too: all at once, since what clients ask for takes the place of what they had.
    pub fn with<'a>(&self, more: impl IntoIterator<Item = &'a str>) -> String {
        let mut all: Vec<&str> =
            self.words.iter().map(String::as_str).filter(|word| *word != OFFLINE).collect();
        for word in more {
            if !all.contains(&word) {
                all.push(word);
            }
        }
        all.join(" ")
    }

    /// What it takes to reach a server.
    pub fn of_server(name: &str) -> String {
        format!("{SERVER}{name}")
    }
}

/// What the gateway itself gives a meaning to, so that no rule may ask for it.
pub fn is_own(word: &str) -> bool {
    word == ALL || word == OFFLINE || word.starts_with(SERVER) || word.starts_with(TAG)
}

/// What of `asked` there is, in its order: words that mean nothing here are left out. `is_server` and `is_tag` know the names,
/// `is_of_tool` what rules of tools ask for.
pub fn known(
    asked: &str,
    is_server: impl Fn(&str) -> bool,
    is_tag: impl Fn(&str) -> bool,
    is_of_tool: impl Fn(&str) -> bool,
) -> Arc<str> {
    let is_known = |word: &&str| match (word.strip_prefix(SERVER), word.strip_prefix(TAG)) {
        (Some(name), _) => is_server(name),
        (_, Some(tag)) => is_tag(tag),
        _ => *word == ALL || *word == OFFLINE || is_of_tool(word),
    };
    let words = Scope::parse(asked, ScopeTags::All);
    words.words.iter().map(String::as_str).filter(is_known).collect::<Vec<_>>().join(" ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(scope: &str, tags: ScopeTags, server: &str, has: &[&str]) -> bool {
        let has: Vec<_> = has.iter().map(ToString::to_string).collect();
        Scope::parse(scope, tags).covers_server(server, &has)
    }

    #[test]
    fn a_scope_reaches_the_servers_that_it_names_and_those_with_its_tags() {
        for (scope, server, has, all, any) in [
            ("mcp", "db", &[][..], true, true),
            ("files:write mcp", "db", &[], true, true),
            ("server:db", "db", &[], true, true),
            ("server:db", "db2", &[], false, false),
            ("server:d", "db", &["d"], false, false),
            ("tag:web", "db", &["web"], true, true),
            ("tag:web", "db", &["webs"], false, false),
            ("tag:web tag:eu", "db", &["web"], false, true),
            ("tag:web tag:eu", "db", &["eu", "web", "x"], true, true),
            ("tag:web tag:eu server:db", "db", &[], true, true),
            ("tag:web tag:eu server:files", "db", &["web"], false, true),
            ("", "db", &["web"], false, false),
            ("offline_access files:write", "db", &["files:write"], false, false),
            ("MCP", "db", &[], false, false),
            ("tag:", "db", &["web"], false, false),
        ] {
            assert_eq!(covers(scope, ScopeTags::All, server, has), all, "{scope:?} {server} {has:?}, all");
            assert_eq!(covers(scope, ScopeTags::Any, server, has), any, "{scope:?} {server} {has:?}, any");
        }
        let reaches = |scope| Scope::parse(scope, ScopeTags::All).covers_some();
        assert!(reaches("tag:x") && reaches("server:x") && reaches("mcp"));
        assert!(!reaches("") && !reaches("offline_access files:write"));
    }

    #[test]
    fn what_is_needed_is_said_all_at_once() {
        let scope = Scope::parse("mcp offline_access  mcp", ScopeTags::All);
        assert_eq!(scope.with(["files:write", "mcp"]), "mcp files:write");
        assert_eq!(Scope::parse("", ScopeTags::All).with(["mcp"]), "mcp");
    }

    #[test]
    fn what_nobody_knows_is_left_out() {
        let asked = "mcp server:db server:none tag:web tag:none files:write other offline_access mcp openid";
        let known = known(asked, |name| name == "db", |tag| tag == "web", |word| word == "files:write");
        assert_eq!(&*known, "mcp server:db tag:web files:write offline_access");
    }
}
