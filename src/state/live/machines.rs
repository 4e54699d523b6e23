//! Tokens of the gateway's own that nobody has allowed anybody: of a client for itself, and of one for somebody of whom an issuer says
//! who it is. No grant is kept for them. What they are good for is asked of the config in force, each time.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Live,
    token_sources::{self, TokenSource},
};
use crate::{
    config::{Issuer, OauthClient},
    identity::{
        Allowed, Identity, Principal, Proof, Standing, Vouched,
        audience::Audience,
        foreign::{keys::IssuerKeys, verified::VerifiedJwt},
        login::{
            access_token::AccessClaims,
            fingerprint::Fingerprint,
            grants::Grants,
            sources::{A_SECOND, Sources},
        },
        scope::Scope,
    },
    ledger::{Owner, OwnerName},
};

/// Bytes of what an issuer said of somebody that a token has room for.
const MOST_SAID: usize = 1024;

/// What an issuer said of somebody, as a token has it.
#[derive(Serialize, Deserialize)]
struct Said {
    /// Which claims were asked about: of others, nothing is known.
    asked: BTreeSet<String>,
    claims: Map<String, Value>,
}

impl Live {
    /// What tokens of this client know that by which it proved itself, if it is a caller of its own by it, and its slot.
    pub fn client_caller(&self, client: &str, credential: &[u8; 32]) -> Option<(usize, Fingerprint)> {
        let slots = self.slots_of(&Principal::Client(client.into()));
        let is_it = |slot: &usize| self.callers[*slot].identity.proof == Proof::Client(*credential);
        let slot = slots.iter().copied().find(is_it)?;
        Some((slot, self.fingerprint(slot)?))
    }

    /// When a token of this source is to say that it was made, at `now`: later than the source was gone, which may be in this second.
    pub fn made_at(&self, source: &TokenSource, now: SystemTime) -> SystemTime {
        self.gone_at(source).map_or(now, |gone| now.max(gone + A_SECOND))
    }

    /// Whether the source of a token that was made then was gone meanwhile.
    pub(super) fn was_gone_since(&self, source: &TokenSource, made: SystemTime) -> bool {
        self.gone_at(source).is_some_and(|gone| made <= gone)
    }

    /// When it was seen last that a config does not have the source: by this process, or by any that has the file of logins.
    fn gone_at(&self, source: &TokenSource) -> Option<SystemTime> {
        let kept = self.logins.grants().and_then(|grants| grants.source_gone(&source.id()));
        kept.max(self.gone_sources.at(source))
    }

    /// Has it kept which sources the config has, and which are gone.
    pub(super) fn keep_sources(&self, grants: &Grants) {
        let has = token_sources::sources(&self.config).iter().map(TokenSource::id).collect();
        grants.keep_sources(Sources { has, gone: self.gone_sources.all(), now: self.clock.now() });
    }

    /// Whether logins are kept, without which there are no tokens of the gateway's own.
    pub fn logins_are_open(&self) -> bool {
        self.logins.is_open()
    }

    /// Whether the config lets a client have this scope where no user allows it something.
    pub(super) fn may_still_ask_for(&self, client_id: &str, scope: &Scope) -> bool {
        let config = self.config.oauth.as_ref();
        config.and_then(|config| Some((config.client(client_id)?, config.scope_tags))).is_some_and(
            |(client, tags)| scope.under(tags).is_within(&Scope::parse(&client.scopes.join(" "), tags)),
        )
    }

    /// The keys of the issuer that says so of itself, if this client gets tokens by what that says.
    pub fn issuer_for(&self, issuer: &str, client: &OauthClient) -> Option<&IssuerKeys> {
        let config = self.config.oauth.as_ref()?;
        let keys = self.issuers.iter().find(|keys| *keys.issuer().issuer == *issuer)?;
        config.takes_assertions(&keys.issuer().name, client).then_some(keys)
    }

    /// Whom somebody of an issuer counts for.
    pub fn owner_of_foreign(&self, name: &Arc<str>) -> Arc<Owner> {
        self.ledger.owner(OwnerName::Foreign(Arc::clone(name)))
    }

    /// What of this a token is to have, and who it is by that: `None` if that is more than it has room for. It is not cut: what
    /// `assign` limits somebody to would be lost, too.
    pub fn said_of(&self, token: &VerifiedJwt) -> Option<Arc<str>> {
        let mut claims = token.claims.clone();
        claims.retain(|name, _| self.asked_claims.contains(name));
        let said = serde_json::to_string(&Said { asked: (*self.asked_claims).clone(), claims }).ok()?;
        (said.len() <= MOST_SAID).then(|| said.into())
    }

    /// For whom a client acts by this access token, of whom an issuer has said this.
    pub(super) fn identity_by_assertion(
        &self,
        claims: &AccessClaims,
        said: &str,
    ) -> Option<(Identity, Standing)> {
        let Principal::Foreign(name) = &claims.principal else { return None };
        let (issuer, subject) = name.split_once(':')?;
        let issuer = self.config.issuers.iter().find(|of| *of.name == *issuer)?;
        let Said { asked, claims: of_issuer } = serde_json::from_str(said).ok()?;
        let credential = self.credential_of(issuer, &claims.client_id, claims.fingerprint)?;
        let source =
            TokenSource::Issuer(Arc::clone(&issuer.issuer), Arc::clone(&claims.client_id), credential);
        if !self.asked_claims.is_subset(&asked) || self.was_gone_since(&source, claims.issued) {
            return None;
        }
        let token = VerifiedJwt {
            subject: subject.to_owned(),
            audiences: vec![claims.resource.to_string()],
            scope: Some(claims.scope.split(' ').map(str::to_owned).collect()),
            expires: claims.expires,
            claims: of_issuer,
        };
        let vouched = Arc::new(Vouched {
            config: self.number,
            issuer: Arc::clone(issuer),
            key_id: None,
            confirmed: None,
            token,
            asked: Arc::new(asked),
        });
        let proof = Proof::Access { grant: claims.grant, fingerprint: claims.fingerprint };
        let identity = self.asserted(&vouched, &claims.client_id, proof, claims.grant_ends)?;
        Some((identity, Standing::Foreign(self.owner_of_foreign(name))))
    }

    /// By what this client proved itself when it got a token by what the issuer said, if it has that still.
    fn credential_of(&self, issuer: &Issuer, client_id: &str, fingerprint: Fingerprint) -> Option<[u8; 32]> {
        let mut credentials = self.config.oauth.as_ref()?.client(client_id)?.credentials().into_iter();
        credentials.find(|credential| {
            self.logins.fingerprint_of_assertion(issuer, credential).ok() == Some(fingerprint)
        })
    }

    /// Who somebody is now of whom an issuer said something, by a token of its own or by one of the gateway's.
    pub(super) fn vouched_now(&self, identity: &Identity) -> Option<Identity> {
        let vouched = identity.vouched.as_ref()?;
        match identity.proof {
            Proof::Access { .. } => {
                let client_id = &identity.allowed.as_ref()?.client_id;
                self.asserted(vouched, client_id, identity.proof, identity.not_after?)
            }
            _ => self.vouched_identity(vouched, identity.proof),
        }
    }

    /// Who somebody is for whom this client acts, if the config lets it do so by the word of the issuer.
    fn asserted(
        &self,
        vouched: &Arc<Vouched>,
        client_id: &Arc<str>,
        proof: Proof,
        not_after: SystemTime,
    ) -> Option<Identity> {
        let config = self.config.oauth.as_ref()?;
        let Vouched { issuer, token, .. } = &**vouched;
        let Proof::Access { fingerprint, .. } = proof else { return None };
        let is_taken = config.client(client_id).is_some_and(|of| config.takes_assertions(&issuer.name, of))
            && self.credential_of(issuer, client_id, fingerprint).is_some();
        let scope = Scope::parse(&token.scope.as_ref()?.join(" "), config.scope_tags);
        if !is_taken || !self.may_still_ask_for(client_id, &scope) {
            return None;
        }
        let allowed = Allowed {
            client_id: Arc::clone(client_id),
            receiver: Some(Arc::clone(client_id)),
            base: Arc::clone(&config.base),
            audience: Audience::of(token.audiences.first()?, &config.base)?,
            scope,
        };
        self.identity_of_vouched(vouched, proof, allowed, not_after)
    }
}
