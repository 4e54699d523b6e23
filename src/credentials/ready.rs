//! A credential that can be sent, and why there is none.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{
    config::TokenField,
    identity::{Principal, credential_key::CredentialKey},
    secret::Secret,
};

/// Who needs a credential, and what they brought of which one may be made.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// The token of an issuer of the config by which they came, which was verified. For `exchange`.
    pub foreign_token: Option<&'a Secret>,
    /// Their request. For `passthrough`.
    pub incoming: Option<&'a HeaderMap>,
}

impl<'a> Asker<'a> {
    /// Somebody who brought nothing.
    pub fn of(principal: &'a Principal) -> Self {
        Self { principal, foreign_token: None, incoming: None }
    }
}

/// A credential that can be sent.
#[derive(Debug)]
pub struct ReadyCredential {
    /// Header fields of a request, which go in place of the client's. Their values are sensitive, and wiped.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Variables of a process.
    pub env: Vec<(String, Secret)>,
    /// Which credential it is. It is the same after a refresh, and another once somebody has connected anew.
    pub key: CredentialKey,
    /// Another one after each refresh.
    pub version: u64,
    /// When it was got.
    pub(super) got: SystemTime,
    /// When it ends, if that is known.
    pub(super) ends: Option<SystemTime>,
}

impl ReadyCredential {
    /// When it was got, by the clock of the gateway.
    pub fn got(&self) -> SystemTime {
        self.got
    }

    /// Whether it is good at this moment, as far as is known.
    pub(super) fn is_good(&self, now: SystemTime) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }
}

/// A field with this token in it; `None` if the token is no text that can stand there.
pub(super) fn field_with(field: &TokenField, token: &Secret) -> Option<(HeaderName, HeaderValue)> {
    Some((field.header.clone(), sensitive(field.format.with(token).expose().as_bytes())?))
}

/// A value that no log shows, and that is wiped once nobody has it.
pub(super) fn sensitive(value: &[u8]) -> Option<HeaderValue> {
    let wiped = Bytes::from_owner(Zeroizing::new(value.to_vec()));
    let mut value = HeaderValue::from_maybe_shared(wiped).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why there is no credential, where it is for people to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Its owner has not connected yet.
    Awaiting,
    /// What was there is not taken any more: its owner has to connect again.
    Reconnect,
    /// The server wants these scopes, of which some were not granted: its owner has to connect again.
    Scopes(Vec<String>),
    /// Its owner has not entered a token yet.
    Token,
    /// It cannot be made of what the caller brought, for this reason.
    NoSubject(&'static str),
}

impl Missing {
    /// As log and metrics call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Awaiting => "awaiting",
            Self::Reconnect => "reconnect",
            Self::Scopes(_) => "needs_scopes",
            Self::Token => "token",
            Self::NoSubject(_) => "no_subject",
        }
    }
}

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReady {
    /// People have to act.
    Missing(Missing),
    /// It cannot be got at present.
    Unavailable(&'static str),
    /// The server takes none, although it is as new as it can be.
    Refused(&'static str),
}

impl From<Missing> for NotReady {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(Missing::NoSubject(why)) => f.write_str(why),
            Self::Missing(missing) => {
                write!(f, "the credential for the server is missing: {}", missing.name())
            }
            Self::Unavailable(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_shows_itself_to_nobody_but_who_sends_it() {
        let value = sensitive(b"Bearer abc").unwrap();
        assert!(value.is_sensitive() && value.as_bytes() == b"Bearer abc");
        assert!(!format!("{value:?}").contains("abc"));
        assert!(sensitive(b"a\r\nb").is_none());
    }
}
