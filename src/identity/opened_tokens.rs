//! Tokens that a worker has opened or verified: the gateway's own, and those of issuers. One that comes again is known by its digest,
//! which costs a fraction of what that costs.

use std::{collections::HashMap, ops::Range, sync::Arc, time::SystemTime};

use super::{
    Caller, Identity,
    login::{
        grant_id::GrantId,
        sealed_token::{Claims, Common, LEEWAY},
        token_sealers::TokenSealers,
    },
    token_digest::TokenDigest,
};

/// Tokens of a generation at most: some 200 bytes each, and who has them, once for each grant.
const MOST: usize = 4096;

/// What a worker knows of tokens. It holds for one config, and for one set of keys.
///
/// There are two generations. Once one is full, it is the older one, and what was the older one is forgotten. A token of the older one
/// that comes again is of the younger one from then on. So those that are in use stay, however many others come, and a token that
/// comes again soon costs one look-up.
#[derive(Default)]
pub struct OpenedTokens {
    config: u64,
    sealers: Option<Arc<TokenSealers>>,
    /// How often what is known of people of the identity provider had changed.
    login_changes: u64,
    younger: Generation,
    older: Generation,
}

#[derive(Default)]
struct Generation {
    known: HashMap<TokenDigest, OpenedToken>,
    /// Whose the tokens of a grant are, as the last of them had it.
    holders: HashMap<GrantId, Arc<Identity>>,
}

/// One of them.
pub struct OpenedToken {
    /// Who has it.
    pub caller: Caller,
    /// What one of the gateway's own belongs to, which may be revoked meanwhile.
    pub grant: Option<GrantId>,
    valid: Range<SystemTime>,
}

impl OpenedToken {
    /// Of a token that says `claims`.
    pub fn new(caller: Caller, claims: &impl Claims) -> Self {
        let Common { grant, issued, expires, grant_ends, .. } = claims.common();
        let since = issued.checked_sub(LEEWAY).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { caller, grant: Some(grant), valid: since..expires.min(grant_ends) }
    }

    /// One of an issuer, which is good until then.
    pub fn of_issuer(caller: Caller, expires: SystemTime) -> Self {
        Self { caller, grant: None, valid: SystemTime::UNIX_EPOCH..expires }
    }
}

impl OpenedTokens {
    /// From now on it holds for the config of this number and for these keys: whatever is of others is forgotten.
    pub fn hold_for(&mut self, config: u64, sealers: Option<&Arc<TokenSealers>>) {
        let is_same = self.sealers.as_ref().map(Arc::as_ptr) == sealers.map(Arc::as_ptr);
        if self.config != config || !is_same {
            *self = Self { config, sealers: sealers.cloned(), ..Self::default() };
        }
    }

    /// The same for what is known of people of the identity provider, which is as it was after so many changes.
    pub fn hold_for_logins(&mut self, changes: u64) {
        if self.login_changes != changes {
            (self.younger, self.older) = Default::default();
            self.login_changes = changes;
        }
    }

    /// Who has the token of this digest, if it is known and has not expired; and what it belongs to, if it is the gateway's own. Whether
    /// its grant is revoked, or its key withdrawn, is for others to say.
    pub fn find(&mut self, digest: &TokenDigest, now: SystemTime) -> Option<(Caller, Option<GrantId>)> {
        let said =
            |token: &OpenedToken| token.valid.contains(&now).then(|| (token.caller.clone(), token.grant));
        if let Some(token) = self.younger.known.get(digest) {
            return said(token);
        }
        let token = self.older.known.remove(digest)?;
        let found = said(&token)?;
        self.insert(*digest, token);
        Some(found)
    }

    /// Remembers one.
    pub fn insert(&mut self, digest: TokenDigest, token: OpenedToken) {
        if self.younger.known.len() >= MOST {
            self.older = std::mem::take(&mut self.younger);
        }
        let OpenedToken { caller, grant, .. } = &token;
        if let Some(grant) = grant {
            self.younger.holders.insert(*grant, Arc::clone(&caller.identity));
        }
        self.younger.known.insert(digest, token);
    }

    /// The same as `identity`, which is kept once for all tokens of a grant: it may be large, and they may be many.
    pub fn shared(&self, grant: GrantId, identity: Identity) -> Arc<Identity> {
        let mut known = [&self.younger, &self.older].into_iter().filter_map(|of| of.holders.get(&grant));
        known.find(|known| ***known == identity).map_or_else(|| Arc::new(identity), Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{
        Standing,
        login::{fingerprint::Fingerprint, keys::Keys, session_token::SessionClaims},
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn token() -> OpenedToken {
        let claims = SessionClaims {
            user: "alice".into(),
            grant: GrantId::new([7; 16]),
            fingerprint: Fingerprint::new([0; 8]),
            issued: at(100),
            expires: at(1_000),
            grant_ends: at(900),
        };
        let caller = Caller { identity: Arc::new(Identity::NOBODY), standing: Standing::Named(0) };
        OpenedToken::new(caller, &claims)
    }

    fn sealers() -> Arc<TokenSealers> {
        Arc::new(TokenSealers::new(&Keys::random().unwrap()).unwrap())
    }

    #[test]
    fn a_token_is_known_while_it_is_good_and_for_the_config_and_keys_that_it_was_opened_with() {
        let (mut opened, digest, keys) = (OpenedTokens::default(), TokenDigest::of(b"a"), sealers());
        let is_known = |opened: &mut OpenedTokens, at| opened.find(&digest, at).is_some();
        let restart = |opened: &mut OpenedTokens| {
            opened.hold_for(1, Some(&keys));
            opened.insert(digest, token());
        };
        restart(&mut opened);
        for (seconds, wanted) in [(39, false), (40, true), (899, true), (900, false), (999, false)] {
            assert_eq!(is_known(&mut opened, at(seconds)), wanted, "at {seconds}");
        }
        assert!(opened.find(&TokenDigest::of(b"b"), at(500)).is_none());
        opened.hold_for(1, Some(&keys));
        assert!(is_known(&mut opened, at(500)), "nothing changed");
        opened.hold_for(2, Some(&keys));
        assert!(!is_known(&mut opened, at(500)), "another config");
        restart(&mut opened);
        opened.hold_for(1, Some(&sealers()));
        assert!(!is_known(&mut opened, at(500)), "other keys");
    }

    #[test]
    fn what_is_said_of_people_holds_until_something_else_is_said() {
        let (mut opened, digest) = (OpenedTokens::default(), TokenDigest::of(b"a"));
        opened.hold_for_logins(0);
        opened.insert(digest, token());
        opened.hold_for_logins(0);
        assert!(opened.find(&digest, at(500)).is_some());
        opened.hold_for_logins(1);
        assert!(opened.find(&digest, at(500)).is_none());
    }

    fn numbered(number: usize) -> TokenDigest {
        TokenDigest::of(&number.to_be_bytes())
    }

    #[test]
    fn however_many_there_are_so_many_are_known_and_no_more() {
        let mut opened = OpenedTokens::default();
        for number in 0..5 * MOST {
            opened.insert(numbered(number), token());
            assert!(opened.find(&numbered(number), at(500)).is_some());
            let counts = [&opened.younger, &opened.older].map(|of| of.known.len());
            assert!(counts.iter().all(|count| *count <= MOST), "{counts:?}");
        }
        assert!(opened.find(&numbered(0), at(500)).is_none());
    }

    #[test]
    fn those_that_are_in_use_are_known_however_many_others_come() {
        let mut opened = OpenedTokens::default();
        let in_use = 0..MOST / 2;
        in_use.clone().for_each(|number| opened.insert(numbered(number), token()));
        for number in MOST..5 * MOST {
            opened.insert(numbered(number), token());
            let used = number % in_use.len();
            assert!(opened.find(&numbered(used), at(500)).is_some(), "{used} after {number}");
        }
        // What has expired is forgotten where it comes again.
        opened.older = std::mem::take(&mut opened.younger);
        assert!(
            opened.find(&numbered(0), at(5_000)).is_none() && opened.find(&numbered(0), at(500)).is_none()
        );
    }
}
