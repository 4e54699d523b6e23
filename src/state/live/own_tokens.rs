//! Who has a token of the gateway's own: a session token, or the access token of a client.

use std::{cell::RefCell, sync::Arc};

use super::{Live, token_sources::TokenSource};
use crate::{
    identity::{
        Allowed, Caller, Identity, Principal, Proof, Standing,
        audience::Audience,
        login::{
            access_token::{self, AccessClaims},
            grant_id::GrantId,
            grants::ClientGrant,
            refresh_token,
            session_token::{self, SessionClaims},
        },
        opened_tokens::{OpenedToken, OpenedTokens},
        scope::Scope,
        token_digest::TokenDigest,
    },
    oauth::{has_taken_away, may_keep},
};

impl Live {
    /// Whether this is a secret of the config, or looks like a token of the gateway's own.
    pub fn has_issued(&self, text: &[u8]) -> bool {
        const PREFIXES: [&str; 3] = [access_token::PREFIX, session_token::PREFIX, refresh_token::PREFIX];
        self.tokens.find(text).is_some() || PREFIXES.iter().any(|prefix| text.starts_with(prefix.as_bytes()))
    }

    /// Who has this session token, or access token, if it holds.
    pub(super) fn by_own_token(
        &self,
        token: &[u8],
        is_access: bool,
        opened: &RefCell<OpenedTokens>,
    ) -> Option<Caller> {
        let (sealers, grants, now) = (self.logins.sealers()?, self.logins.grants()?, self.clock.now());
        let is_good = |caller: &Caller, grant| {
            let is_let_in = match &caller.standing {
                Standing::Named(slot) => self.is_valid(*slot),
                // What is known of people of the identity provider is the same as when it was looked at.
                Standing::Foreign(_) => true,
                Standing::Nobody => false,
            };
            is_let_in && !grants.is_revoked(grant)
        };
        let note_use = |caller: &Caller, grant| {
            if is_access && caller.identity.principal.has_grants() {
                grants.note_use(grant, now);
            }
        };
        let mut opened = opened.borrow_mut();
        opened.hold_for(self.number, Some(&sealers));
        opened.hold_for_logins(grants.changes());
        let digest = TokenDigest::of(token);
        if let Some((caller, Some(grant))) = opened.find(&digest, now) {
            if !is_good(&caller, grant) {
                return None;
            }
            note_use(&caller, grant);
            return Some(caller);
        }
        let (token, grant) = if is_access {
            let claims = sealers.access.open(token, now)?;
            (OpenedToken::new(self.by_access(&claims, &opened)?, &claims), claims.grant)
        } else {
            let claims = sealers.session.open(token, now)?;
            (OpenedToken::new(self.by_session(&claims, &opened)?, &claims), claims.grant)
        };
        let caller = token.caller.clone();
        if !is_good(&caller, grant) {
            return None;
        }
        note_use(&caller, grant);
        // What another gateway has begun a moment ago is not known whole yet.
        if caller.identity.allowed.as_ref().is_none_or(|allowed| allowed.receiver.is_some()) {
            opened.insert(digest, token);
        }
        Some(caller)
    }

    /// The user of a session token, with the password of the login.
    fn by_session(&self, claims: &SessionClaims, opened: &OpenedTokens) -> Option<Caller> {
        let slot = self.slot_of_login(&Principal::User(Arc::clone(&claims.user)), claims.fingerprint)?;
        let proof = Proof::Session { grant: claims.grant, fingerprint: claims.fingerprint };
        let identity = self.callers[slot].identity.proved_by(proof, claims.grant_ends);
        let standing = Standing::Named(slot);
        Some(Caller { identity: opened.shared(claims.grant, identity), standing })
    }

    /// For whom the client of an access token acts, with what it was allowed.
    fn by_access(&self, claims: &AccessClaims, opened: &OpenedTokens) -> Option<Caller> {
        let (identity, standing) = self.identity_of_access(claims)?;
        Some(Caller { identity: opened.shared(claims.grant, identity), standing })
    }

    /// What an access token says, if it is taken at the place that it is for.
    pub fn taken_access(&self, token: &[u8]) -> Option<AccessClaims> {
        let (sealers, grants) = (self.logins.sealers()?, self.logins.grants()?);
        let claims = sealers.access.open(token, self.clock.now())?;
        let is_taken = !grants.is_revoked(claims.grant) && self.identity_of_access(&claims).is_some();
        is_taken.then_some(claims)
    }

    fn identity_of_access(&self, claims: &AccessClaims) -> Option<(Identity, Standing)> {
        let config = self.config.oauth.as_ref()?;
        if let Some(said) = &claims.vouched {
            return self.identity_by_assertion(claims, said);
        }
        let AccessClaims { principal, grant, fingerprint, client_id, resource, scope, .. } = claims;
        let (of_login, standing) = self.logged_in(principal, *fingerprint)?;
        if let (Principal::Client(name), Proof::Client(credential)) = (principal, &of_login.proof)
            && self.was_gone_since(&TokenSource::Client(Arc::clone(name), *credential), claims.issued)
        {
            return None;
        }
        let (_, client) = self.grant(principal, *grant);
        let allowed = Allowed {
            client_id: Arc::clone(client_id),
            receiver: match principal {
                Principal::Client(name) => Some(Arc::clone(name)),
                _ => client.as_ref().map(|client| Arc::clone(&client.redirect_host)),
            },
            base: Arc::clone(&config.base),
            audience: Audience::of(resource, &config.base)?,
            scope: Scope::parse(scope, config.scope_tags),
        };
        let proof = Proof::Access { grant: *grant, fingerprint: *fingerprint };
        let identity = of_login.proved_by(proof, claims.grant_ends);
        let identity = Identity { allowed: Some(Arc::new(allowed)), ..identity };
        self.still_allows(&identity, client.as_deref()).then_some((identity, standing))
    }

    /// Whether there is a grant of this principal that is not over, and what a client was allowed by it, as far as this process has
    /// heard of it.
    pub(super) fn grant(&self, of: &Principal, id: GrantId) -> (bool, Option<Arc<ClientGrant>>) {
        let Some(grants) = self.logins.grants() else { return (false, None) };
        match of.has_grants() {
            true => grants.find(id, self.clock.now()),
            false => (!grants.is_revoked(id), None),
        }
    }

    /// Whether the config still lets the client in that was allowed something, if one acts, and has the place by which it was found.
    /// `client` is what its grant says.
    pub(super) fn still_allows(&self, identity: &Identity, client: Option<&ClientGrant>) -> bool {
        let (Some(allowed), Some(config)) = (&identity.allowed, &self.config.oauth) else {
            return identity.allowed.is_none();
        };
        let target = client.map(|client| &*client.redirect_host);
        allowed.base == config.base
            && may_keep(&allowed.client_id, target, config)
            && (identity.principal.has_grants() || self.may_still_ask_for(&allowed.client_id, &allowed.scope))
    }

    /// Whether a client may have tokens of what it was allowed: the config still lets it in, and the place is one of this gateway.
    pub fn still_serves(&self, client: &ClientGrant) -> bool {
        self.config.oauth.as_ref().is_some_and(|config| {
            Audience::of(&client.resource, &config.base).is_some()
                && may_keep(&client.client_id, Some(&client.redirect_host), config)
        })
    }

    /// Whether the config takes away what was allowed to a client. Without OAuth it does not: that may come back.
    pub(super) fn takes_away(&self, client: &ClientGrant) -> bool {
        let config = self.config.oauth.as_ref();
        config.is_some_and(|config| has_taken_away(&client.client_id, &client.redirect_host, config))
    }

    /// What was allowed, as the config now reads it; `None` if it reads it as before.
    pub(super) fn reread(&self, identity: &Identity) -> Option<Identity> {
        let (allowed, config) = (identity.allowed.as_ref()?, self.config.oauth.as_ref()?);
        let is_same = allowed.scope.tags() == config.scope_tags;
        (!is_same).then(|| {
            let allowed = Allowed { scope: allowed.scope.under(config.scope_tags), ..(**allowed).clone() };
            Identity { allowed: Some(Arc::new(allowed)), ..identity.clone() }
        })
    }
}
