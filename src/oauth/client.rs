//! What a client is.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    config::{ClientProof, GrantTypes, OauthClient},
    secret::Secret,
};

/// Bytes of a client's name that are kept: what is longer is cut.
pub(super) const LONGEST_NAME: usize = 128;
/// Redirect URIs of one client, unless it is of the config.
pub(super) const MOST_REDIRECTS: usize = 20;

/// Whether a client that says this of itself asks for codes: what it leaves out, or empty, is for codes (RFC 7591 §2). It may list
/// whatever else it can do elsewhere: VS Code lists what is for devices.
pub(super) fn asks_for_codes(grant_types: Option<&[String]>, response_types: Option<&[String]>) -> bool {
    let has = |list: Option<&[String]>, word: &str| {
        list.is_none_or(|list| list.is_empty() || list.iter().any(|other| other == word))
    };
    has(grant_types, "authorization_code") && has(response_types, "code")
}

/// A program that asks for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// By what it calls itself in requests.
    pub id: Arc<str>,
    /// What people know it by. It says so itself, unless it is of the config.
    pub name: Arc<str>,
    /// Where it may be sent back to.
    pub redirect_uris: Vec<Arc<str>>,
    /// How it proves itself.
    pub auth: ClientAuth,
    /// By what it gets tokens.
    pub grants: GrantTypes,
    /// Who says what it is.
    pub kind: ClientKind,
}

/// How a client proves that it is the one.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not at all: it runs where anybody can look into it. What it gets is bound to a verifier (PKCE).
    None,
    /// By a secret, of which this is the SHA-256.
    Secret([u8; 32]),
    /// By what it signs with one of the keys that the config has of it, or says where they are.
    Keys,
}

impl std::fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Secret(_) => "Secret(…)",
            Self::Keys => "Keys",
        })
    }
}

/// Who says what a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// The config.
    Config,
    /// A document at the URL that is its id: whoever has that host.
    Document,
    /// The client itself, at `/register`.
    Registered,
}

impl Client {
    /// One of the config.
    pub fn of_config(client: &OauthClient) -> Self {
        Self {
            id: Arc::clone(&client.name),
            name: Arc::clone(&client.name),
            redirect_uris: client.redirect_uris.clone(),
            auth: match &client.proof {
                ClientProof::None => ClientAuth::None,
                ClientProof::Secret(digest) => ClientAuth::Secret(*digest),
                ClientProof::Keys(_) | ClientProof::KeysAt(_) => ClientAuth::Keys,
            },
            grants: client.grants,
            kind: ClientKind::Config,
        }
    }

    /// One with a document, of which nothing was read.
    pub(super) fn of_unread_document(id: &str) -> Self {
        Self {
            id: id.into(),
            name: id.into(),
            redirect_uris: Vec::new(),
            auth: ClientAuth::None,
            grants: GrantTypes::DEFAULT,
            kind: ClientKind::Document,
        }
    }

    /// Whether it is the client who shows this, if it is not by keys that it proves itself. One that has a secret has to show it, and one that has none shows none.
    /// Constant in time.
    pub fn is_proved_by(&self, shown: Option<&Secret>) -> bool {
        match (&self.auth, shown) {
            (ClientAuth::None, shown) => shown.is_none_or(|shown| shown.expose().is_empty()),
            (ClientAuth::Secret(_), None) | (ClientAuth::Keys, _) => false,
            (ClientAuth::Secret(digest), Some(shown)) => {
                Sha256::digest(shown.expose()).as_slice().ct_eq(digest).into()
            }
        }
    }
}

/// A name as it is kept.
pub(super) fn cut(name: &str) -> &str {
    let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CallerLimits;

    #[test]
    fn a_client_with_a_secret_shows_it_and_one_without_shows_none() {
        let secret = |text: &str| Secret::new(text.into());
        let of = |secret: Option<&str>| {
            Client::of_config(&OauthClient {
                name: "ops".into(),
                proof: secret.map_or(ClientProof::None, |of| ClientProof::Secret(Sha256::digest(of).into())),
                grants: GrantTypes::DEFAULT,
                redirect_uris: Vec::new(),
                roles: Vec::new(),
                limits: CallerLimits::ALL,
                scopes: Vec::new(),
            })
        };
        let (confidential, public) = (of(Some("a secret")), of(None));
        assert!(confidential.is_proved_by(Some(&secret("a secret"))));
        for bad in ["", "a secre", "a secret ", "A secret"] {
            assert!(!confidential.is_proved_by(Some(&secret(bad))), "{bad}");
            assert_eq!(public.is_proved_by(Some(&secret(bad))), bad.is_empty());
        }
        assert!(!confidential.is_proved_by(None) && public.is_proved_by(None));
        assert_eq!(format!("{:?}", confidential.auth), "Secret(…)");
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        assert_eq!(cut("Claude"), "Claude");
        assert_eq!(cut(&"é".repeat(100)).len(), LONGEST_NAME);
        assert_eq!(cut(&format!("x{}", "é".repeat(100))).len(), LONGEST_NAME - 1);
    }
}
