//! `proxy.auth`: who may come in. Tokens are hashed here and forgotten.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use sha2::{Digest, Sha256};

use super::{
    key::{Given, Label, Map, OneOrMany},
    problem::Place,
    reader::{Context, Text},
    reference::Origin,
    snapshot::Credential,
    table::{self, CredentialKeys, TokenKeys},
};

/// Shorter tokens can be guessed in an afternoon by someone who has a hash of them.
const SHORT: usize = 16;

/// What `proxy.auth` says.
#[derive(Debug, Default)]
pub(super) struct Auth {
    pub(super) query_token: bool,
    pub(super) credentials: Vec<Credential>,
    /// Every name in `tokens`, whether its credentials are good or not; `None` if they could not be read.
    pub(super) names: Option<Vec<Arc<str>>>,
}

pub(super) fn resolve(cx: &mut Context<'_>, auth: &Given<table::Auth>) -> Auth {
    if !auth.is_there() {
        return Auth { names: Some(Vec::new()), ..Auth::default() };
    }
    let Some(table::Auth(keys)) = &auth.value else { return Auth::default() };
    let query_token = keys.query_token;
    match &keys.tokens.value {
        Some(tokens) => {
            let (names, credentials) = read_tokens(cx, tokens);
            Auth { query_token, credentials, names: Some(names) }
        }
        None => {
            // They may be there under a wrong name.
            let are_absent = !keys.tokens.is_there() && !keys.here.has_unknown;
            Auth { query_token, names: are_absent.then(Vec::new), ..Auth::default() }
        }
    }
}

fn read_tokens(
    cx: &mut Context<'_>,
    tokens: &Map<OneOrMany<CredentialKeys>>,
) -> (Vec<Arc<str>>, Vec<Credential>) {
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut credentials: Vec<Credential> = Vec::new();
    let mut owners: HashMap<[u8; 32], Arc<str>> = HashMap::new();
    for token in &tokens.entries {
        let name: Arc<str> = token.name.as_str().into();
        names.push(name.clone());
        if name.is_empty() || name.len() > 128 || name.contains(char::is_control) {
            cx.error(
                &token.key,
                "a token needs a name of 1 to 128 characters on one line; logs and metrics show it",
            );
        }
        let Some(several) = &token.value else { continue };
        if several.is_empty {
            cx.warning(
                &several.at,
                "has no credential, so nobody can use it; add one, or remove the name",
            );
        }
        for (position, keys) in &several.values {
            let Some(credential) = read_credential(cx, keys, &name, *position) else { continue };
            match owners.insert(credential.digest, name.clone()) {
                Some(owner) if owner == name => {
                    cx.warning(keys.at(), "is the same token as one before it; remove one of them");
                    continue;
                }
                Some(owner) => {
                    cx.error(
                        keys.at(),
                        format!("is the same token as {owner:?} has; give every name its own token"),
                    );
                    continue;
                }
                None => credentials.push(credential),
            }
        }
    }
    (names, credentials)
}

fn read_credential(
    cx: &mut Context<'_>,
    keys: &CredentialKeys,
    name: &Arc<str>,
    position: usize,
) -> Option<Credential> {
    let keys = match keys {
        CredentialKeys::Token(keys) => keys,
        CredentialKeys::Plain(text) => {
            let digest = read_plain(cx, text)?;
            let (roles, tags) = (Vec::new(), Vec::new());
            return Some(Credential { token_name: name.clone(), position, digest, expires: None, roles, tags });
        }
    };
    let TokenKeys { here, sha256, value, expires, roles, tags } = keys;
    let expires = match (expires.is_there(), &expires.value) {
        (false, _) => Some(None),
        // An expiry that cannot be read must not become a token that never expires.
        (true, text) => text.as_ref().and_then(|text| read_expiry(cx, text)).map(Some),
    };
    let digest = match (sha256.found(), value.found()) {
        (Some(_), None) => read_hash(cx, sha256.value.as_ref()?)?,
        (None, Some(_)) => read_plain(cx, value.value.as_ref()?)?,
        (Some(_), Some(value)) => {
            cx.error(&value.key, "cannot stand beside `sha256`; keep one of them");
            return None;
        }
        (None, None) => {
            if !here.has_unknown {
                cx.error(&here.at, "needs a `sha256`; `sluicegate token new` prints a token and its hash");
            }
            return None;
        }
    };
    let (roles, tags) = (words(roles), words(tags));
    Some(Credential { token_name: name.clone(), position, digest, expires: expires?, roles, tags })
}

/// `tags` or `roles`.
pub(super) fn words(labels: &[Label]) -> Vec<String> {
    labels.iter().map(|label| label.0.clone()).collect()
}

fn read_plain(cx: &mut Context<'_>, text: &Text) -> Option<[u8; 32]> {
    let token = &text.value;
    if token.is_empty() {
        cx.error(&text.at, "is empty, which would let anyone in; `sluicegate token new` makes a good one");
        return None;
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        cx.error(
            &text.at,
            "has a space or a character that cannot be sent in a header; use letters, digits and -._~+/=",
        );
        return None;
    }
    match text.origin {
        Origin::Default => {
            cx.warning(
                &text.at,
                "opens with the default that stands in this file; set the variable before others connect",
            );
        }
        _ if token.len() < SHORT => {
            let message = "is short enough to be guessed; `sluicegate token new` makes a good one";
            cx.warning(&text.at, format!("{message} (at least {SHORT} characters)"));
        }
        _ => {}
    }
    cx.note_secret(text);
    Some(Sha256::digest(token).into())
}

fn read_hash(cx: &mut Context<'_>, text: &Text) -> Option<[u8; 32]> {
    // The value is never shown: it may be the token itself, pasted into the wrong place.
    match decode_hex(&text.value) {
        Some(digest) if digest == <[u8; 32]>::from(Sha256::digest("")) => {
            cx.error(
                &text.at,
                "is the hash of nothing; hash the token itself, or use `sluicegate token new`",
            );
            None
        }
        Some(digest) => Some(digest),
        None => {
            let length = text.value.chars().count();
            cx.error(
                &text.at,
                format!("must be 64 hex digits, not these {length} characters; `sluicegate token new` prints an entry"),
            );
            None
        }
    }
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| (pair[at] as char).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(digest)
}

fn read_expiry(cx: &mut Context<'_>, text: &Text) -> Option<SystemTime> {
    let Ok(expires) = humantime::parse_rfc3339(&text.value) else {
        cx.error(&text.at, "is no date and time; write it in UTC, as in \"2027-01-31T00:00:00Z\"");
        return None;
    };
    if expires <= cx.now {
        expired(cx, &text.at);
    }
    Some(expires)
}

// A warning, so that a config does not become unusable by the passing of time.
fn expired(cx: &mut Context<'_>, at: &Place) {
    cx.warning(at, "has passed, so this credential is refused; remove it, or give it a later date");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_taken_in_either_case_and_nothing_else_is() {
        let hash = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00a08";
        assert_eq!(decode_hex(hash), Some(Sha256::digest("test").into()));
        for bad in [&hash[..62], &hash.replace('9', "+"), &hash.replace('9', " "), &"é".repeat(32), ""] {
            assert_eq!(decode_hex(bad), None, "{bad}");
        }
    }
}
