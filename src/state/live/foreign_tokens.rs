//! Who has a token of an issuer.

use std::{cell::RefCell, sync::Arc};

use super::Live;
use crate::{
    config::{Issuer, ScopeTags, ScopeWord},
    error::ErrorKind,
    identity::{
        Allowed, Caller, Identity, Principal, Proof, Standing, Vouched,
        audience::Audience,
        foreign::{
            jwt::UnverifiedJwt,
            keys::{IssuerKeys, Known, NotVerified},
            verified::VerifiedJwt,
        },
        login::opened_tokens::{OpenedToken, OpenedTokens, TokenDigest},
        scope::Scope,
        verifier::{Found, Identified},
    },
    ledger::OwnerName,
};

impl Live {
    /// That of `token`, if it looks like one of an issuer, and there is any.
    pub(super) fn foreign_digest(&self, token: &[u8]) -> Option<TokenDigest> {
        (!self.issuers.is_empty() && UnverifiedJwt::is_like(token)).then(|| TokenDigest::of(token))
    }

    /// Who has the token of this digest, if this worker has verified it, and its key is still one of the issuer's. Where it is time to ask
    /// that for its keys, this begins it.
    pub(super) fn known_foreign(
        &self,
        digest: &TokenDigest,
        opened: &RefCell<OpenedTokens>,
    ) -> Option<Caller> {
        let mut opened = opened.borrow_mut();
        opened.hold_for(self.number, self.logins.sealers().as_deref());
        let (caller, _) = opened.find(digest, self.clock.now()).filter(|(_, grant)| grant.is_none())?;
        let vouched = caller.identity.vouched.as_ref()?;
        let keys = self.keys_of(&vouched.issuer)?;
        matches!(keys.known(&vouched.key_id), Known::Keys(_)).then_some(caller)
    }

    /// Whether the key of a token is still one of its issuer's, as far as anybody knows.
    pub(super) fn has_key(&self, vouched: &Vouched) -> bool {
        self.keys_of(&vouched.issuer).is_some_and(|keys| keys.has(&vouched.key_id))
    }

    fn keys_of(&self, issuer: &Arc<Issuer>) -> Option<&IssuerKeys> {
        self.issuers.iter().find(|keys| keys.issuer() == issuer)
    }

    /// Who has a token of an issuer that this worker has not verified yet.
    pub(super) fn by_foreign<'a>(
        &'a self,
        token: &'a [u8],
        digest: TokenDigest,
        opened: &'a RefCell<OpenedTokens>,
    ) -> Identified<'a> {
        let token = UnverifiedJwt::parse(token);
        let of = token.as_ref().and_then(|token| token.issuer());
        let keys = of.and_then(|of| self.issuers.iter().find(|keys| *keys.issuer().issuer == *of));
        let (Some(token), Some(keys)) = (token, keys) else {
            return Identified::Ready(Err(ErrorKind::InvalidToken.into()));
        };
        let key_id: Arc<str> = token.key_id().unwrap_or_default().into();
        let finish = move |verified| self.verified(verified, key_id, keys, digest, opened);
        match keys.verify_now(token, self.clock.now()) {
            Ok(verified) => Identified::Ready(finish(verified)),
            Err(token) => Identified::Later(Box::pin(async move {
                let verified = keys.verify(token, self.clock.now()).await;
                finish(verified)
            })),
        }
    }

    fn verified(
        &self,
        verified: Result<VerifiedJwt, NotVerified>,
        key_id: Arc<str>,
        keys: &IssuerKeys,
        digest: TokenDigest,
        opened: &RefCell<OpenedTokens>,
    ) -> Found {
        let mut token = verified.map_err(|why| match why {
            // Nobody can say what it was worth. A client that is told that it is invalid throws it away.
            NotVerified::NoKeys => {
                let why = keys.status().failed.map_or("they are on their way", |why| why.name());
                let issuer = &keys.issuer().name;
                ErrorKind::Unavailable
                    .with_cause(format!("the keys of the issuer {issuer} are not there: {why}"))
            }
            NotVerified::NotTaken(why) => ErrorKind::InvalidToken.with_cause(why.name()),
        })?;
        let issuer = Arc::clone(keys.issuer());
        let expires = token.expires + issuer.leeway;
        // The rest of what it says is only memory.
        token.claims.retain(|name, _| self.asked_claims.contains(name));
        let asked = Arc::clone(&self.asked_claims);
        let vouched = Arc::new(Vouched { config: self.number, issuer, key_id, token, asked });
        let identity = self.vouched_identity(&vouched, Proof::Foreign(digest.bytes()));
        let identity = Arc::new(identity.ok_or(ErrorKind::InvalidToken)?);
        let name = identity.principal.name().cloned().unwrap_or_default();
        let standing = Standing::Foreign(self.ledger.owner(OwnerName::Foreign(name)));
        let caller = Caller { identity, standing };
        let mut opened = opened.borrow_mut();
        opened.hold_for(self.number, self.logins.sealers().as_deref());
        opened.insert(digest, OpenedToken::of_issuer(caller.clone(), expires));
        Ok(caller)
    }

    /// Who somebody is of whom an issuer says this, by the config in force: `None` if that does not have the issuer, or the token is
    /// for another place than this gateway.
    pub(super) fn vouched_identity(&self, vouched: &Arc<Vouched>, proof: Proof) -> Option<Identity> {
        let Vouched { issuer, token, .. } = &**vouched;
        // Of a claim that was not asked about before, nothing is known.
        let is_known = || self.asked_claims.is_subset(&vouched.asked);
        if !self.config.issuers.contains(issuer) || self.number != vouched.config && !is_known() {
            return None;
        }
        let base = self.base();
        let audience = audience(issuer, token, &base)?;
        let (roles, limits) = vouched.given(&self.config.assignments);
        let tags = self.config.oauth.as_ref().map_or(ScopeTags::default(), |config| config.scope_tags);
        let scope = match &token.scope {
            None => Scope::parse(ScopeWord::ALL, tags),
            Some(words) => Scope::parse(&words.join(" "), tags),
        };
        let allowed = Allowed { client_id: Arc::default(), receiver: None, base, audience, scope };
        Some(Identity {
            principal: Principal::Foreign(format!("{}:{}", issuer.name, token.subject).into()),
            proof,
            roles,
            limits,
            is_disabled: false,
            not_after: Some(token.expires + issuer.leeway + issuer.stream_grace),
            is_decoy: false,
            allowed: Some(Arc::new(allowed)),
            vouched: Some(Arc::clone(vouched)),
        })
    }

    /// What the URL of each place begins with; nothing, if the config does not say it.
    fn base(&self) -> Arc<str> {
        match (&self.config.oauth, &self.config.base_url) {
            (Some(config), _) => Arc::clone(&config.base),
            (None, Some(url)) => url.as_str().trim_end_matches('/').into(),
            (None, None) => Arc::default(),
        }
    }
}

/// For which places of the gateway a token is: all, if it has one of the issuer's `audiences`.
fn audience(issuer: &Issuer, token: &VerifiedJwt, base: &str) -> Option<Audience> {
    if token.audiences.iter().any(|of| issuer.audiences.contains(of)) {
        return Some(Audience::Gateway);
    }
    let mut places: Vec<_> = token.audiences.iter().filter_map(|of| Audience::of(of, base)).collect();
    match places.len() {
        0 => None,
        1 => places.pop(),
        _ => Some(Audience::Several(places.into())),
    }
}
