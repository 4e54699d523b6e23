//! Who calls: a principal, what proves it, and what it has been given.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
    time::SystemTime,
};

use crate::config::Credential;

/// Who somebody is, whatever proves it. Sessions, shares and conversations belong to a principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Somebody without a credential, at a public server.
    Nobody,
    /// The token of this name, by whichever of its credentials.
    Token(Arc<str>),
}

impl Principal {
    /// The name of the token, if it is one.
    pub fn token_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Token(name) => Some(name),
            Self::Nobody => None,
        }
    }
}

/// As it is written in a command: `token:ci`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Token(name) => write!(f, "token:{name}"),
        }
    }
}

/// The text is no principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPrincipal;

impl fmt::Display for InvalidPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write `token:NAME` or `nobody`")
    }
}

impl std::error::Error for InvalidPrincipal {}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        match text.split_once(':') {
            Some(("token", name)) if !name.is_empty() => Ok(Self::Token(name.into())),
            None if text == "nobody" => Ok(Self::Nobody),
            _ => Err(InvalidPrincipal),
        }
    }
}

/// What proved a principal in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Nothing.
    Nothing,
    /// A static token with this SHA-256.
    StaticToken([u8; 32]),
}

/// A principal, as one credential proves it. Decisions are made about this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub principal: Principal,
    /// What proves that.
    pub proof: Proof,
    /// What the config has given to it. The roles of a static token are its credential's: two credentials of one name may
    /// differ in them.
    pub roles: Vec<String>,
    /// From this moment on it is not valid.
    pub not_after: Option<SystemTime>,
    /// It may have nothing, and is not to know: see `decoy` of a token.
    pub is_decoy: bool,
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.proof.hash(state);
    }
}

impl Identity {
    /// Somebody without a credential.
    pub const NOBODY: Self = Self {
        principal: Principal::Nobody,
        proof: Proof::Nothing,
        roles: Vec::new(),
        not_after: None,
        is_decoy: false,
    };

    /// What a credential of the config proves.
    pub fn of(credential: &Credential) -> Self {
        Self {
            principal: Principal::Token(Arc::clone(&credential.token_name)),
            proof: Proof::StaticToken(credential.digest),
            roles: credential.roles.clone(),
            not_after: credential.expires,
            is_decoy: credential.decoy,
        }
    }

    /// Whether this role was given to it.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|given| given == role)
    }

    /// Whether it has not expired at this moment.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_after.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_principal_is_written_as_it_is_read() {
        for principal in [Principal::Nobody, Principal::Token("ci".into()), Principal::Token("a:b".into())] {
            assert_eq!(principal.to_string().parse(), Ok(principal));
        }
        for bad in ["", "ci", "token", "token:", "user:alice", "nobody:", "Token:ci"] {
            assert_eq!(bad.parse::<Principal>(), Err(InvalidPrincipal), "{bad:?}");
        }
        assert_eq!(InvalidPrincipal.to_string(), "write `token:NAME` or `nobody`");
    }

    #[test]
    fn an_identity_has_what_its_credential_has() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        let mut credential = Credential {
            token_name: "ci".into(),
            id: Some("1".into()),
            digest: [7; 32],
            expires: Some(end),
            roles: vec!["admin".into(), "deploy".into()],
            decoy: false,
        };
        let identity = Identity::of(&credential);
        assert_eq!(identity.principal.token_name().map(|name| &**name), Some("ci"));
        assert_eq!(identity.proof, Proof::StaticToken([7; 32]));
        assert!(identity.has_role("deploy") && identity.has_role("admin") && !identity.has_role("dep"));
        assert!(identity.is_valid_at(end - Duration::from_nanos(1)) && !identity.is_valid_at(end));
        assert!(!identity.is_valid_at(end + Duration::from_secs(1)));
        credential.expires = None;
        assert!(Identity::of(&credential).is_valid_at(end));
        assert_eq!(Identity::NOBODY.principal.token_name(), None);
        assert!(!Identity::NOBODY.has_role("admin"));
    }
}
