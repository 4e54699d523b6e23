//! Scopes: what of a principal's rights a token has (RFC 6749 §3.3).

use crate::config::{ScopeTags, ScopeWord};

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

    /// What is left of it with the words that `keeps` keeps.
    pub fn only(&self, keeps: impl Fn(&str) -> bool) -> Self {
        let words = self.words.iter().filter(|word| keeps(word)).cloned().collect();
        Self { words, tags: self.tags }
    }

    /// Its words with a blank between each two.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// Whether it has this word.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// Whether it has all that the rules give.
    pub fn is_all(&self) -> bool {
        self.has(ScopeWord::ALL)
    }

    /// Whether it reaches the server of this name, which has these tags.
    pub fn covers_server<'a>(&'a self, name: &str, has_tags: &[String]) -> bool {
        let tag = |word: &'a String| match ScopeWord::of(word) {
            ScopeWord::Tag(tag) => Some(tag),
            _ => None,
        };
        let mut tags = self.words.iter().filter_map(tag).peekable();
        let is_tagged = |tag: &str| has_tags.iter().any(|has| has == tag);
        self.is_all()
            || self.words.iter().any(|word| ScopeWord::of(word) == ScopeWord::Server(name))
            || match self.tags {
                ScopeTags::All => tags.peek().is_some() && tags.all(is_tagged),
                ScopeTags::Any => tags.any(is_tagged),
            }
    }

    fn tag_words(&self) -> impl Iterator<Item = &String> {
        self.words.iter().filter(|word| is_tag(word))
    }

    /// Whether it opens nothing that `wider` does not open. Fewer words are not always less: where a server has to have all tags,
    /// each tag that is left out lets in more of them, so they stay together.
    pub fn is_within(&self, wider: &Self) -> bool {
        let is_there =
            |word: &String| wider.has(word) || wider.is_all() && ScopeWord::of(word).is_of_servers();
        let has_fewer_tags =
            || self.tag_words().next().is_some() && wider.tag_words().any(|tag| !self.has(tag));
        let is_split = wider.tags == ScopeTags::All && !wider.is_all() && has_fewer_tags();
        self.words.iter().all(is_there) && !is_split
    }

    /// What can be left out of it by itself, so that what is left is within it: its words, but the tags as one where a server has to
    /// have all of them.
    pub fn parts(&self) -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        let mut tags = None;
        for word in &self.words {
            match tags {
                Some(at) if is_tag(word) => parts[at] = format!("{} {word}", parts[at]),
                _ => {
                    if self.tags == ScopeTags::All && is_tag(word) {
                        tags = Some(parts.len());
                    }
                    parts.push(word.clone());
                }
            }
        }
        parts
    }

    /// Whether it may reach any server.
    pub fn covers_some(&self) -> bool {
        let mut words = self.words.iter().map(|word| ScopeWord::of(word));
        words.any(|word| word == ScopeWord::All || word.is_of_servers())
    }

    /// What a token needs that is to have these words too: all at once, since what clients ask for takes the place of what they had.
    pub fn with<'a>(&self, more: impl IntoIterator<Item = &'a str>) -> String {
        let mut all: Vec<&str> =
            self.words.iter().map(String::as_str).filter(|word| *word != ScopeWord::OFFLINE).collect();
        for word in more {
            if !all.contains(&word) {
                all.push(word);
            }
        }
        all.join(" ")
    }
}

fn is_tag(word: &str) -> bool {
    matches!(ScopeWord::of(word), ScopeWord::Tag(_))
}

/// What of `asked` there is, in its order: words that mean nothing here are left out. `is_server` and `is_tag` know the names,
/// `is_of_tool` what rules of tools ask for.
pub fn known(
    asked: &Scope,
    is_server: impl Fn(&str) -> bool,
    is_tag: impl Fn(&str) -> bool,
    is_of_tool: impl Fn(&str) -> bool,
) -> Scope {
    let is_known = |word: &str| match ScopeWord::of(word) {
        ScopeWord::All | ScopeWord::Offline => true,
        ScopeWord::Server(name) => is_server(name),
        ScopeWord::Tag(tag) => is_tag(tag),
        ScopeWord::Other(word) => is_of_tool(word),
    };
    asked.only(is_known)
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
    fn a_scope_is_within_another_if_it_opens_nothing_else() {
        for (scope, wider, all, any) in [
            ("mcp", "mcp offline_access", true, true),
            ("offline_access mcp", "mcp offline_access", true, true),
            ("server:db tag:web", "mcp", true, true),
            ("tag:web", "mcp tag:web tag:eu", true, true),
            ("", "tag:web tag:eu", true, true),
            ("tag:eu tag:web", "tag:web tag:eu", true, true),
            ("server:db", "tag:web tag:eu server:db", true, true),
            ("tag:web", "tag:web tag:eu", false, true),
            ("tag:web server:db", "tag:web tag:eu server:db", false, true),
            // Somebody may change what several tags mean.
            ("tag:web tag:eu", "tag:web", false, false),
            ("mcp", "tag:web", false, false),
            ("mcp", "server:db", false, false),
            ("files:write", "mcp", false, false),
            ("mcp offline_access", "mcp", false, false),
        ] {
            let is_within = |tags| Scope::parse(scope, tags).is_within(&Scope::parse(wider, tags));
            assert_eq!(is_within(ScopeTags::All), all, "{scope:?} within {wider:?}, all");
            assert_eq!(is_within(ScopeTags::Any), any, "{scope:?} within {wider:?}, any");
        }
    }

    #[test]
    fn what_is_left_of_a_scope_without_some_of_its_parts_is_within_it() {
        let text = "server:db tag:web mcp tag:eu offline_access tag:x";
        let parts = |tags| Scope::parse(text, tags).parts();
        assert_eq!(parts(ScopeTags::All), ["server:db", "tag:web tag:eu tag:x", "mcp", "offline_access"]);
        assert_eq!(parts(ScopeTags::Any).join(" "), text);
        for tags in [ScopeTags::All, ScopeTags::Any] {
            let narrow = Scope::parse("server:db tag:web tag:eu files:write", tags);
            let parts = narrow.parts();
            for chosen in 0..1 << parts.len() {
                let left = parts.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
                let left: Vec<_> = left.map(|(_, part)| part.as_str()).collect();
                assert!(Scope::parse(&left.join(" "), tags).is_within(&narrow), "{left:?}");
            }
        }
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
        let asked = Scope::parse(asked, ScopeTags::All);
        let known = known(&asked, |name| name == "db", |tag| tag == "web", |word| word == "files:write");
        assert_eq!(known.text(), "mcp server:db tag:web files:write offline_access");
    }
}
