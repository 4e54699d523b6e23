//! Which of all servers a client asks for: `?servers=a,b`, or `?tags=a,b` with `?match=any` or `?match=all`.
//!
//! A selector narrows what a token may reach and widens nothing. A server that does not exist and one that the token has no
//! grant for are the same here: neither is selected, and nothing says which it was.

use std::fmt;

use url::form_urlencoded;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// No selector: every server.
    All,
    /// `?servers=`: servers of these names.
    Servers(Vec<Box<str>>),
    /// `?tags=`: servers with at least one of these tags.
    AnyTag(Vec<Box<str>>),
    /// `?tags=…&match=all`: servers with all of these tags.
    AllTags(Vec<Box<str>>),
}

/// Why a query selects nothing that could be meant. Says nothing of what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectorError {
    /// `servers` and `tags` at once: whether both or one must hold would be a guess.
    Both,
    /// `servers` or `tags` without a value. Taken for "all", it would widen what an unset variable was to narrow.
    Empty,
    /// `match` that is neither `any` nor `all`, or comes twice.
    Match,
    /// A selector of 1MCP's, or one in the singular. Passed over, it would widen what it was to narrow.
    Unknown,
}

/// Selectors of another gateway (1MCP), and slips.
const UNKNOWN: &[&str] = &["tag-filter", "preset", "server", "tag"];

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "servers and tags cannot be selected by at once",
            Self::Empty => "servers and tags need at least one value",
            Self::Match => "match is any or all, and comes once",
            Self::Unknown => "tag-filter, preset, server and tag select nothing here; use servers or tags",
        })
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// Reads a raw query (`application/x-www-form-urlencoded`, as the URL standard has it). Parameters that select nothing
    /// are none of its business.
    pub fn parse(query: Option<&str>) -> Result<Self, SelectorError> {
        let (mut servers, mut tags, mut all) = (None, None, None);
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let list = match &*key {
                "servers" => servers.get_or_insert_with(Vec::new),
                "tags" => tags.get_or_insert_with(Vec::new),
                "match" => {
                    let wanted = match &*value {
                        "any" => false,
                        "all" => true,
                        _ => return Err(SelectorError::Match),
                    };
                    if all.replace(wanted).is_some() {
                        return Err(SelectorError::Match);
                    }
                    continue;
                }
                key if UNKNOWN.contains(&key) => return Err(SelectorError::Unknown),
                _ => continue,
            };
            list.extend(value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Box::from));
        }
        match (servers, tags) {
            (Some(_), Some(_)) => Err(SelectorError::Both),
            (Some(list), None) | (None, Some(list)) if list.is_empty() => Err(SelectorError::Empty),
            (Some(servers), None) => Ok(Self::Servers(servers)),
            (None, Some(tags)) if all == Some(true) => Ok(Self::AllTags(tags)),
            (None, Some(tags)) => Ok(Self::AnyTag(tags)),
            (None, None) => Ok(Self::All),
        }
    }

    /// Whether a server is asked for.
    pub fn selects(&self, name: &str, tags: &[String]) -> bool {
        let has = |tag: &str| tags.iter().any(|own| own == tag);
        match self {
            Self::All => true,
            Self::Servers(names) => names.iter().any(|wanted| **wanted == *name),
            Self::AnyTag(wanted) => wanted.iter().any(|tag| has(tag)),
            Self::AllTags(wanted) => wanted.iter().all(|tag| has(tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(query: &str) -> Result<Vec<&'static str>, SelectorError> {
        let selector = Selector::parse(Some(query))?;
        let servers: [(&str, &[&str]); 4] =
            [("db", &["prod", "sql"]), ("files", &["prod"]), ("web", &["dev"]), ("grün, blau", &[])];
        Ok(servers
            .into_iter()
            .filter(|(name, tags)| {
                let tags: Vec<_> = tags.iter().map(|tag| (*tag).to_owned()).collect();
                selector.selects(name, &tags)
            })
            .map(|(name, _)| name)
            .collect())
    }

    #[test]
    fn servers_are_selected_by_name_or_by_tag() {
        for (query, wanted) in [
            ("", &["db", "files", "web", "grün, blau"][..]),
            ("token=x&a", &["db", "files", "web", "grün, blau"]),
            ("servers=web,db", &["db", "web"]),
            ("servers=web&servers=d%62", &["db", "web"]),
            ("servers=web%2Cdb", &["db", "web"]),
            ("servers=nobody", &[]),
            ("servers=DB", &[]),
            ("tags=sql,dev", &["db", "web"]),
            ("tags=prod,sql&match=any", &["db", "files"]),
            ("match=all&tags=prod,+sql,", &["db"]),
            ("match=all", &["db", "files", "web", "grün, blau"]),
            ("Tags=prod", &["db", "files", "web", "grün, blau"]),
        ] {
            assert_eq!(selected(query).unwrap(), wanted, "{query}");
        }
        assert_eq!(Selector::parse(None), Ok(Selector::All));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for (query, why) in [
            ("servers=db&tags=prod", SelectorError::Both),
            ("servers=&tags=", SelectorError::Both),
            ("servers=", SelectorError::Empty),
            ("tags=,%20,", SelectorError::Empty),
            ("tags=a&match=most", SelectorError::Match),
            ("tags=a&match=", SelectorError::Match),
            ("tags=a&match=all&match=any", SelectorError::Match),
            ("tag-filter=web%2Bapi", SelectorError::Unknown),
            ("preset=dev", SelectorError::Unknown),
            ("tags=a&tag=b", SelectorError::Unknown),
        ] {
            assert_eq!(Selector::parse(Some(query)), Err(why), "{query}");
        }
    }
}
