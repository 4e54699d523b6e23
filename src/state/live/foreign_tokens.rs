//! Who has a token of an issuer.

use std::{cell::RefCell, sync::Arc, time::SystemTime};

use zeroize::Zeroizing;

use super::Live;
use crate::{
    config::Issuer,
    error::{Error, ErrorKind},
    identity::{
        Admission, AdmittedParty, Allowed, Caller, Confirmed, Identity, Proof, Standing, Vouched,
        foreign::{
            introspection::{AskedToken, Introspector, NotConfirmed, Verdict},
            jwt::UnverifiedJwt,
            keys::{IssuerKeys, Known, NotVerified},
            verified::VerifiedJwt,
        },
        opened_tokens::{OpenedToken, OpenedTokens},
        token_digest::TokenDigest,
        verifier::{Found, Identified},
    },
    ledger::{AddressBlock, OwnerName},
};

/// A token, by what it is known, and where it comes from.
type Sent<'a> = (&'a [u8], TokenDigest, AddressBlock);

impl Live {
    /// That of `token`, if it may be one of an issuer.
    pub(super) fn foreign_digest(&self, token: &[u8]) -> Option<TokenDigest> {
        let may_be = !self.issuers.is_empty()
            && (UnverifiedJwt::is_like(token) || self.introspectors.iter().any(|of| of.may_have(token)));
        may_be.then(|| TokenDigest::of(token))
    }

    /// Who has the token of this digest, if this worker has verified it, and nobody has taken it back since. Where it is time to ask its
    /// issuer for its keys, this begins it.
    pub(super) fn known_foreign(
        &self,
        digest: &TokenDigest,
        opened: &RefCell<OpenedTokens>,
    ) -> Option<Caller> {
        let mut opened = opened.borrow_mut();
        opened.hold_for(self.number, self.logins.sealers().as_deref());
        let now = self.clock.now();
        let (caller, _) = opened.find(digest, now).filter(|(_, grant)| grant.is_none())?;
        let Vouched { issuer, key_id, confirmed, .. } = &**caller.identity.vouched.as_ref()?;
        let has_key = match key_id {
            Some(id) => {
                let keys = self.keys_of(issuer)?;
                keys.has_fresh(id) || matches!(keys.known(id), Known::Keys(_))
            }
            None => true,
        };
        let is_confirmed = confirmed.as_ref().is_none_or(|of| of.verdict.is_good(now));
        (has_key && is_confirmed).then_some(caller)
    }

    /// Whether the key of a token is still one of its issuer's, as far as anybody knows, and nobody has said that it was revoked.
    pub(super) fn still_vouches(&self, vouched: &Vouched) -> bool {
        let Vouched { issuer, key_id, confirmed, .. } = vouched;
        let has_key = |id: &Arc<str>| self.keys_of(issuer).is_some_and(|keys| keys.has(id));
        key_id.as_ref().is_none_or(has_key)
            && confirmed.as_ref().is_none_or(|of| of.by.lets_go_on(&of.verdict))
    }

    /// Has an issuer asked again about the token of something that runs, if it is time. To be called on a worker.
    pub fn keep_asking(&self, admission: &Admission) {
        let AdmittedParty::Credential(identity) = &admission.to else { return };
        if let Some(Confirmed { by, verdict }) =
            identity.vouched.as_ref().and_then(|of| of.confirmed.as_ref())
        {
            by.keep_asking(verdict);
        }
    }

    fn keys_of(&self, issuer: &Arc<Issuer>) -> Option<&IssuerKeys> {
        self.issuers.iter().find(|keys| keys.issuer() == issuer)
    }

    /// Who has a token of an issuer that this worker does not know, or has to ask about again. One that says whose it is goes to nobody
    /// else. `may_ask` is asked about one that no worker has seen.
    pub(super) fn by_foreign<'a>(
        &'a self,
        sent: Sent<'a>,
        opened: &'a RefCell<OpenedTokens>,
        may_ask: &dyn Fn() -> Result<(), Error>,
    ) -> Identified<'a> {
        let (token, digest, _) = sent;
        // Whose token was good when it came last does not pay for others of the address.
        if self.seen_foreign.lock().get(&digest).is_none()
            && let Err(why) = may_ask()
        {
            return Identified::Ready(Err(why));
        }
        match UnverifiedJwt::parse(token) {
            Some(jwt) => self.by_jwt(jwt, sent, opened),
            None => match self.introspectors.iter().find(|of| of.may_have(token)) {
                Some(introspector) => self.by_asking(introspector, asked_about(sent, None), None, opened),
                None => Identified::Ready(Err(ErrorKind::InvalidToken.into())),
            },
        }
    }

    fn by_jwt<'a>(
        &'a self,
        jwt: UnverifiedJwt<'a>,
        sent: Sent<'a>,
        opened: &'a RefCell<OpenedTokens>,
    ) -> Identified<'a> {
        let keys = jwt.issuer().and_then(|of| self.issuers.iter().find(|keys| *keys.issuer().issuer == *of));
        let Some(keys) = keys else { return Identified::Ready(Err(ErrorKind::InvalidToken.into())) };
        let key_id: Arc<str> = jwt.key_id().unwrap_or_default().into();
        let introspector = self.introspectors.iter().find(|of| of.issuer() == keys.issuer());
        // What is no good token by itself, its issuer is not asked about.
        let finish = move |verified: Result<VerifiedJwt, NotVerified>| {
            let mut jwt = match verified {
                Ok(jwt) => jwt,
                Err(why) => return Identified::Ready(Err(not_verified(why, keys))),
            };
            // The rest of what it says is only memory.
            jwt.claims.retain(|name, _| self.asked_claims.contains(name));
            match introspector {
                Some(introspector) => {
                    self.by_asking(introspector, asked_about(sent, Some(jwt)), Some(key_id), opened)
                }
                None => {
                    Identified::Ready(self.vouched(keys.issuer(), Some(key_id), None, jwt, sent.1, opened))
                }
            }
        };
        match keys.verify_now(jwt, self.clock.now()) {
            Ok(verified) => finish(verified),
            Err(jwt) => Identified::Later(Box::pin(async move {
                let verified = keys.verify(jwt, self.clock.now()).await;
                match finish(verified) {
                    Identified::Ready(found) => found,
                    Identified::Later(found) => found.await,
                }
            })),
        }
    }

    /// Who has a token that its issuer is asked about, unless it was a moment ago.
    fn by_asking<'a>(
        &'a self,
        introspector: &'a Arc<Introspector>,
        asked: AskedToken,
        key_id: Option<Arc<str>>,
        opened: &'a RefCell<OpenedTokens>,
    ) -> Identified<'a> {
        let digest = asked.digest;
        let is_new = self.seen_foreign.lock().get(&digest).is_none();
        let finish = move |outcome: Result<Arc<Verdict>, NotConfirmed>| {
            let verdict = outcome.map_err(|why| match why {
                NotConfirmed::NotTaken(why) => ErrorKind::InvalidToken.with_cause(why.name()),
                // Nobody can say what it was worth. A client that is told that it is invalid throws it away.
                NotConfirmed::Unsaid(why) => {
                    let issuer = &introspector.issuer().name;
                    let cause = format!("the issuer {issuer} does not say what the token is: {}", why.name());
                    let counts_as_guess = is_new && why.was_asked();
                    Error { counts_as_guess, ..ErrorKind::Unavailable.with_cause(cause) }
                }
            })?;
            let said = verdict.said().clone();
            let confirmed = Confirmed { by: Arc::clone(introspector), verdict };
            self.vouched(introspector.issuer(), key_id, Some(confirmed), said, digest, opened)
        };
        match introspector.known(&digest) {
            Some(outcome) => Identified::Ready(finish(outcome)),
            None => Identified::Later(Box::pin(async move { finish(introspector.ask(&asked).await) })),
        }
    }

    /// Who has a token of which its issuer says this, from now on known to this worker.
    fn vouched(
        &self,
        issuer: &Arc<Issuer>,
        key_id: Option<Arc<str>>,
        confirmed: Option<Confirmed>,
        token: VerifiedJwt,
        digest: TokenDigest,
        opened: &RefCell<OpenedTokens>,
    ) -> Found {
        let (issuer, asked) = (Arc::clone(issuer), Arc::clone(&self.asked_claims));
        let expires = token.expires + issuer.leeway;
        let vouched = Arc::new(Vouched { config: self.number, issuer, key_id, confirmed, token, asked });
        let identity = self.vouched_identity(&vouched, Proof::Foreign(digest.bytes()));
        let identity = Arc::new(identity.ok_or(ErrorKind::InvalidToken)?);
        let name = identity.principal.name().cloned().unwrap_or_default();
        let standing = Standing::Foreign(self.ledger.owner(OwnerName::Foreign(name)));
        let caller = Caller { identity, standing };
        let mut opened = opened.borrow_mut();
        opened.hold_for(self.number, self.logins.sealers().as_deref());
        opened.insert(digest, OpenedToken::of_issuer(caller.clone(), expires));
        self.seen_foreign.lock().insert(digest, ());
        Ok(caller)
    }

    /// Who somebody is of whom an issuer says this, by the config in force: `None` if that does not have the issuer, or the token is
    /// for another place than this gateway.
    pub(super) fn vouched_identity(&self, vouched: &Arc<Vouched>, proof: Proof) -> Option<Identity> {
        if !self.may_vouch(vouched) {
            return None;
        }
        Identity::vouched_for(vouched, &self.config, proof)
    }

    /// The same, of what was allowed to it.
    pub(super) fn identity_of_vouched(
        &self,
        vouched: &Arc<Vouched>,
        proof: Proof,
        allowed: Allowed,
        not_after: SystemTime,
    ) -> Option<Identity> {
        let assignments = &self.config.assignments;
        self.may_vouch(vouched).then(|| Identity::of_vouched(vouched, assignments, proof, allowed, not_after))
    }

    /// Whether the config in force has the issuer, as it was, and asks about nothing that was not asked about.
    fn may_vouch(&self, vouched: &Vouched) -> bool {
        // Of a claim that was not asked about before, nothing is known.
        let is_known = || self.asked_claims.is_subset(&vouched.asked);
        self.config.issuers.contains(&vouched.issuer) && (self.number == vouched.config || is_known())
    }
}

/// A token that its issuer is asked about; `jwt` is what it says itself.
fn asked_about((token, digest, from): Sent<'_>, jwt: Option<VerifiedJwt>) -> AskedToken {
    AskedToken { digest, token: Zeroizing::new(token.to_vec()), jwt, from: Some(from) }
}

fn not_verified(why: NotVerified, keys: &IssuerKeys) -> Error {
    match why {
        // Nobody can say what it was worth. A client that is told that it is invalid throws it away.
        NotVerified::NoKeys => {
            let why = keys.status().failed.map_or("they are on their way", |why| why.name());
            let issuer = &keys.issuer().name;
            ErrorKind::Unavailable.with_cause(format!("the keys of the issuer {issuer} are not there: {why}"))
        }
        NotVerified::NotTaken(why) => ErrorKind::InvalidToken.with_cause(why.name()),
    }
}
