//! Which texts of a config may be shown where people choose them: names, variables, paths. What does not look like one is
//! `…`, since a secret may have strayed into its place.

use std::fmt::Debug;

/// Stands for what is not shown.
pub(crate) const HIDDEN: &str = "…";

/// Characters of a name that is shown.
const LONGEST_NAME: usize = 40;
/// A name of that many characters, letters and digits, is taken for a secret.
const LONG: usize = 24;
/// Letters and digits in a row, of which that many are taken for a secret.
const RUN: usize = 16;
/// Characters of a variable's name that is shown, and of a path.
const LONGEST_VARIABLE: usize = 64;
const LONGEST_PATH: usize = 1024;
/// What tokens that this program makes begin with.
const TOKEN: &str = "sg_";

/// A key, if it looks like a name, and not like a secret.
pub(crate) fn name(text: &str) -> Option<&str> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '/' | '@');
    let has = |what: fn(char) -> bool| text.contains(what);
    let is_secret = text.starts_with(TOKEN)
        || text.chars().count() >= LONG && has(|c| c.is_ascii_digit()) && has(char::is_alphabetic)
        || text.split(|c: char| !c.is_alphanumeric()).any(is_mixed);
    (!is_secret && text.chars().count() <= LONGEST_NAME && text.chars().all(fits)).then_some(text)
}

/// A key as it is shown.
pub(crate) fn name_or_hidden(text: &str) -> &str {
    name(text).unwrap_or(HIDDEN)
}

/// The first of some names, in quotes.
pub(crate) fn first_names(names: &[impl Debug]) -> String {
    const MOST: usize = 8;
    let first: Vec<_> = names.iter().take(MOST).map(|name| format!("{name:?}")).collect();
    format!("{}{}", first.join(", "), if names.len() > MOST { ", …" } else { "" })
}

/// The name of an environment variable, if it looks like one as people write them.
pub(crate) fn variable(text: &str) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = text.len() <= LONGEST_VARIABLE && text.bytes().all(fits);
    (is_name && !text.split('_').any(is_mixed)).then_some(text)
}

/// A path, if it looks like one.
pub(crate) fn path(text: &str) -> Option<&str> {
    let is_path = text.contains(['/', '.'])
        && text.len() <= LONGEST_PATH
        && !text.contains(|c: char| c.is_control() || c == '=' || c == '+');
    let is_secret = |part: &str| part.starts_with(TOKEN) || is_random(part);
    (is_path && !text.split(|c: char| !c.is_alphanumeric() && c != '_').any(is_secret)).then_some(text)
}

/// Whether so many letters and digits in a row are no word.
fn is_mixed(part: &str) -> bool {
    part.len() >= RUN && part.contains(|c: char| c.is_ascii_digit()) && part.contains(char::is_alphabetic)
}

/// The same of a path, in which hashes are common: those have letters of one case.
fn is_random(part: &str) -> bool {
    let has = |what: fn(&char) -> bool| part.chars().any(|c| what(&c));
    is_mixed(part) && has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_and_what_looks_like_a_secret_is_not() {
        for good in
            ["Authorization", "X-Team", "API_KEY", "ci-2", "alice@example.com", "//old", "Jörg", "node.js"]
        {
            assert_eq!(name(good), Some(good));
        }
        for bad in [
            "Authorization: Bearer abc",
            "API_KEY=abc",
            "sg_abc",
            "two words",
            "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
            "aB3dE5gH7jK9mN1p",
            "AKIAIOSFODNN7EXAMPLE",
            "CANARY-0123456789-abcdef",
            "a-name-of-letters-that-is-longer-than-any-name",
        ] {
            assert_eq!(name(bad), None, "{bad}");
            assert_eq!(name_or_hidden(bad), "…");
        }
    }

    #[test]
    fn variables_and_paths_are_shown_if_they_look_like_ones() {
        for good in ["UNSET", "GITHUB_PERSONAL_ACCESS_TOKEN_2", "_X"] {
            assert_eq!(variable(good), Some(good));
        }
        for bad in ["lower", "sg_SECRET", "SECRETTOKEN0123456789", &"A".repeat(65)] {
            assert_eq!(variable(bad), None, "{bad}");
        }
        for good in ["token.txt", "/run/secrets/ci_token", "./a b/c", "../../etc/ssl/cert.pem"] {
            assert_eq!(path(good), Some(good));
        }
        for bad in [
            "sg_abc",
            "/run/sg_abc",
            "SECRETCA",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2ln",
            "ab/cd+ef==",
            "a/b\nc",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
