//! What a server says that it asks for (RFC 9110 §11.6.1, RFC 6750 §3, RFC 9728 §5.1).

use http::{HeaderMap, header};
use url::Url;

/// Bytes of a field that are read at most, and fields.
const LONGEST: usize = 8 << 10;
const MOST: usize = 8;

/// A server's challenge for a bearer token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Where it says what it is.
    pub resource_metadata: Option<Url>,
    /// The scope that it wants, as a list with blanks between.
    pub scope: Option<String>,
    /// What is wrong with the token that it got.
    pub error: Option<String>,
}

impl Challenge {
    /// The first for a bearer token.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let fields = headers.get_all(header::WWW_AUTHENTICATE).iter().take(MOST);
        let texts = fields.filter_map(|value| value.to_str().ok()).filter(|text| text.len() <= LONGEST);
        texts.flat_map(challenges).find(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(
            |(_, parameters)| {
                let find = |name: &str| {
                    let found = parameters.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.clone())
                };
                Self {
                    resource_metadata: find("resource_metadata").and_then(|url| Url::parse(&url).ok()),
                    scope: find("scope"),
                    error: find("error"),
                }
            },
        )
    }

    /// Whether it wants a token that is good for more (RFC 6750 §3.1).
    pub fn wants_scopes(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }

    /// The scopes that it wants.
    pub fn scopes(&self) -> Vec<String> {
        self.scope.as_deref().map(scope_list).unwrap_or_default()
    }
}

/// Scopes of one list at most, and bytes of one.
const MOST_SCOPES: usize = 100;
const LONGEST_SCOPE: usize = 256;

/// The scopes of a list with blanks between. What can be none is left out (RFC 6749 §3.3).
pub(super) fn scope_list(text: &str) -> Vec<String> {
    distinct(text.split(' ').map(str::to_owned))
}

/// Each once, and no more than there may be.
pub(super) fn distinct(scopes: impl IntoIterator<Item = String>) -> Vec<String> {
    let is_scope = |scope: &String| {
        (1..=LONGEST_SCOPE).contains(&scope.len())
            && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
    };
    let mut all = Vec::new();
    for scope in scopes.into_iter().filter(is_scope) {
        if all.len() < MOST_SCOPES && !all.contains(&scope) {
            all.push(scope);
        }
    }
    all
}

type Parameters = Vec<(String, String)>;

/// All challenges of a field. What is not written as the standard has it ends the list.
fn challenges(text: &str) -> Vec<(String, Parameters)> {
    let mut all: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((token, after)) = token(rest) else { return all };
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, all.last_mut()) {
            // A token of 68 characters may end with such signs: that is a challenge without parameters.
            (Some(value), Some((_, parameters))) => {
                let value = value.trim_start_matches([' ', '\t']);
                let Some((value, after)) = quoted(value).or_else(|| {
                    let (value, after) = self::token(value)?;
                    Some((value.to_owned(), after))
                }) else {
                    return all;
                };
                parameters.push((token.to_owned(), value));
                rest = after;
            }
            (Some(_), None) => return all,
            (None, _) => {
                all.push((token.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token at the beginning, and what comes behind it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A quoted text at the beginning, and what comes behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(fields: &[&str]) -> Option<Challenge> {
        let named = |field: &&str| (header::WWW_AUTHENTICATE, HeaderValue::try_from(*field).unwrap());
        Challenge::of(&fields.iter().map(named).collect())
    }

    fn is(url: &str, scope: &str, error: &str) -> Option<Challenge> {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Challenge { resource_metadata: url.parse().ok(), scope: text(scope), error: text(error) })
    }

    #[test]
    fn a_challenge_for_a_bearer_token_is_read_wherever_it_stands() {
        let url = "https://x.example/.well-known/oauth-protected-resource/mcp";
        for (fields, found) in [
            (&[&*format!("Bearer resource_metadata=\"{url}\"")][..], is(url, "", "")),
            (&[&*format!("bearer scope=\"a b\", resource_metadata=\"{url}\"")], is(url, "a b", "")),
            (&["Bearer"], is("", "", "")),
            (&["Basic realm=\"a, Bearer scope=x\"", "Bearer scope=b"], is("", "b", "")),
            (
                &["Basic realm=\"a\", Bearer error=\"insufficient_scope\" , scope = c"],
                is("", "c", "insufficient_scope"),
            ),
            (&["Bearer realm=\"say \\\"hi\\\"\", error=invalid_token"], is("", "", "invalid_token")),
            (&["DPoP algs=\"ES256\", Bearer SCOPE=\"a\""], is("", "a", "")),
            (&["Bearer resource_metadata=\"not a URL\""], is("", "", "")),
            (&["Bearer scope=\"a", "Bearer scope=b"], is("", "", "")),
            (&["Basic realm=\"a\""], None),
            (&["scope=\"a\""], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(of(fields), found, "{fields:?}");
        }
        let challenge = of(&["Bearer error=\"insufficient_scope\", scope=\"b a  b\""]).unwrap();
        assert!(challenge.wants_scopes());
        assert_eq!(challenge.scopes(), ["b", "a"]);
    }

    #[test]
    fn of_too_much_nothing_is_read() {
        assert_eq!(of(&[&format!("Bearer scope=\"{}\"", "x".repeat(LONGEST))]), None);
        assert_eq!(scope_list(&"x".repeat(LONGEST_SCOPE + 1)), Vec::<String>::new());
        let many: Vec<_> = (0..2 * MOST_SCOPES).map(|number| number.to_string()).collect();
        assert_eq!(scope_list(&many.join(" ")).len(), MOST_SCOPES);
    }

    proptest! {
        #[test]
        fn whatever_a_server_writes_is_read_to_an_end(text in "(Bearer|Basic|scope|error|[=,\" \\\\a]|é){0,40}") {
            for (scheme, parameters) in challenges(&text) {
                prop_assert!(!scheme.is_empty() && text.contains(&scheme));
                prop_assert!(parameters.iter().all(|(name, _)| text.contains(name)));
            }
        }
    }
}
