//! What somebody allowed a client before, so that they are not asked again.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use super::fingerprint::Fingerprint;
use crate::{
    config::ScopeTags,
    identity::{principal::Principal, scope::Scope},
};

/// How long it is remembered.
pub(super) const KEPT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Of one principal: what is more pushes out the oldest.
pub(super) const MOST_OF_ONE: usize = 100;

/// What somebody allowed a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Who.
    pub principal: Principal,
    /// Of what they had logged in with: with another password, they are asked again.
    pub fingerprint: Fingerprint,
    /// Which client.
    pub client_id: Arc<str>,
    /// Where it is sent back to, as its request has it: at another place of the same host, it may be another program.
    pub redirect_uri: Arc<str>,
    /// For which place.
    pub resource: Arc<str>,
    /// What is allowed there: words with a blank between each two.
    pub scope: Arc<str>,
}

/// A consent as it is looked for: there is one for each principal, client, redirect and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ConsentId(pub(super) [u8; 32]);

/// A consent, and when it was given.
#[derive(Clone)]
pub(super) struct KeptConsent {
    pub(super) consent: Consent,
    pub(super) given: SystemTime,
}

impl KeptConsent {
    /// From when on it is forgotten.
    pub(super) fn kept_until(&self) -> SystemTime {
        self.given + KEPT
    }
}

impl Consent {
    pub(super) fn id(&self) -> ConsentId {
        let mut hash = Sha256::new();
        let principal = self.principal.to_string();
        for part in [&*principal, &*self.client_id, &*self.redirect_uri, &*self.resource] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        ConsentId(hash.finalize().into())
    }

    /// Whether what is asked for now was allowed then, where several tags mean this.
    pub(super) fn covers(&self, asked: &Self, tags: ScopeTags) -> bool {
        self.id() == asked.id()
            && self.fingerprint == asked.fingerprint
            && Scope::parse(&asked.scope, tags).is_within(&Scope::parse(&self.scope, tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_covers_the_same_and_less_and_nothing_else() {
        let given = Consent {
            principal: Principal::User("alice".into()),
            fingerprint: Fingerprint::new([1; 8]),
            client_id: "https://client.example/m".into(),
            redirect_uri: "https://client.example/cb".into(),
            resource: "https://mcp.example.com".into(),
            scope: "server:db tag:web tag:eu".into(),
        };
        assert!(given.covers(&given, ScopeTags::All));
        for less in ["server:db", "tag:eu tag:web", "tag:web tag:eu server:db", ""] {
            assert!(given.covers(&Consent { scope: less.into(), ..given.clone() }, ScopeTags::All), "{less}");
        }
        // One tag alone is more servers than both, unless a server may have any of them.
        let one_tag = Consent { scope: "tag:web".into(), ..given.clone() };
        assert!(!given.covers(&one_tag, ScopeTags::All) && given.covers(&one_tag, ScopeTags::Any));
        for other in [
            Consent { principal: Principal::Token("alice".into()), ..given.clone() },
            Consent { fingerprint: Fingerprint::new([2; 8]), ..given.clone() },
            Consent { client_id: "https://client.example/mc".into(), ..given.clone() },
            Consent { redirect_uri: "https://client.example/cb2".into(), ..given.clone() },
            Consent { resource: "https://mcp.example.com/db".into(), ..given.clone() },
            Consent { scope: "server:db tag:db".into(), ..given.clone() },
            Consent { scope: "server:db tag".into(), ..given.clone() },
        ] {
            assert!(!given.covers(&other, ScopeTags::Any), "{other:?}");
        }
    }
}
