//! Grants: what logins began. A grant is one login of one user, with all the tokens that come of it; a logout ends it.
//!
//! What ended before its tokens did is in the set of revoked ones, which each request with a session token looks at.

use std::{sync::Arc, time::SystemTime};

use super::{
    fingerprint::Fingerprint,
    grant::{self, Grant},
    grant_id::GrantId,
    refresh_token::RefreshToken,
    session_token::SessionClaims,
    store::{FileStore, Revocable},
    table::View,
};
use crate::config::LoginTerms;

pub use super::grant::{Issued, NotBegun, NotRefreshed};

/// That a grant is revoked could not be written yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWritten;

/// Where grants are kept.
enum Store {
    /// In the view alone.
    Memory,
    /// In a file, of which the view has what was last read.
    File(FileStore),
}

/// All grants.
pub struct Grants {
    view: Arc<View>,
    store: Store,
}

impl Default for Grants {
    /// Those of this process alone.
    fn default() -> Self {
        Self { view: Arc::default(), store: Store::Memory }
    }
}

/// What a logout is given.
pub enum Token {
    /// What a session token says.
    Session(SessionClaims),
    /// A text that looks like a refresh token.
    Refresh(RefreshToken),
}

impl Grants {
    pub(super) fn in_file(store: FileStore, view: Arc<View>) -> Self {
        Self { view, store: Store::File(store) }
    }

    /// A user has logged in. If the user has as many grants as one may have, the one that was refreshed longest ago is revoked,
    /// which the second half of the answer says.
    pub async fn begin(
        &self,
        user: &Arc<str>,
        fingerprint: Fingerprint,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<(Issued, bool), NotBegun> {
        let new = Grant::new(user, fingerprint, terms, now).map_err(|_| NotBegun::NoRandomness)?;
        match &self.store {
            Store::Memory => self.view.change(|table| {
                let Ok(begun) = grant::begin(table, new, terms, now);
                begun
            }),
            Store::File(file) => file.begin(new, terms, now).await,
        }
    }

    /// What comes of a refresh token: the next one.
    pub async fn refresh(
        &self,
        token: RefreshToken,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<Issued, NotRefreshed> {
        match &self.store {
            Store::Memory => self.view.change(|table| {
                let Ok(refreshed) = grant::refresh(table, &token, terms, now);
                refreshed
            }),
            Store::File(file) => file.refresh(token, terms, now).await,
        }
    }

    /// Ends the grants of these tokens: in this process at once, then wherever they are kept. Whose they were; `None` if they had
    /// ended.
    pub async fn revoke(&self, tokens: Vec<Token>, now: SystemTime) -> Result<Option<Arc<str>>, NotWritten> {
        let has_file = matches!(self.store, Store::File(_));
        let mut whose = None;
        let mut unknown = Vec::new();
        for token in tokens {
            let id = match &token {
                Token::Session(claims) => Some(claims.grant),
                Token::Refresh(token) => self.user_of(token).map(|_| token.grant),
            };
            let known = id.and_then(|id| self.revoke_here(id, has_file));
            match (known, token) {
                (Some(user), _) => whose = Some(user),
                (None, Token::Refresh(token)) => unknown.push(Revocable::Token(token)),
                (None, Token::Session(claims)) => {
                    // Begun at another gateway a moment ago. It is none that anybody can make up.
                    if has_file && now < claims.expires && !self.view.is_revoked(claims.grant) {
                        self.view.change(|table| table.end(claims.grant, claims.grant_ends));
                    }
                    unknown.push(Revocable::Grant(claims.grant));
                }
            }
        }
        match &self.store {
            Store::Memory => Ok(whose),
            Store::File(file) => {
                let before = file.revoke(unknown).await.map_err(|_| NotWritten)?;
                Ok(whose.or(before))
            }
        }
    }

    fn revoke_here(&self, id: GrantId, has_file: bool) -> Option<Arc<str>> {
        self.view.change(|table| {
            let Ok(whose) = grant::revoke(table, id);
            if has_file && whose.is_some() {
                table.unwritten.insert(id);
            }
            whose
        })
    }

    /// Ends a grant that nobody was told of. What cannot be written at present is written later.
    pub fn withdraw(&self, id: GrantId) {
        self.revoke_here(id, matches!(self.store, Store::File(_)));
        self.write_revoked();
    }

    /// Ends the grants of users that `keeps` does not keep. What a config takes away does not come back with the next one.
    pub fn keep(&self, keeps: impl Fn(&str, Fingerprint) -> bool) {
        self.view.keep(keeps, matches!(self.store, Store::File(_)));
        self.write_revoked();
    }

    /// At once, so that it is over also if this process ends.
    fn write_revoked(&self) {
        if let Store::File(file) = &self.store {
            file.write_revoked();
        }
    }

    /// Who a refresh token is of, if this process knows its grant.
    pub fn user_of(&self, token: &RefreshToken) -> Option<Arc<str>> {
        self.view.user_of(token)
    }

    /// Who a token is of, in the same way.
    pub fn user_of_any(&self, token: &Token) -> Option<Arc<str>> {
        match token {
            Token::Session(claims) => Some(Arc::clone(&claims.user)),
            Token::Refresh(token) => self.user_of(token),
        }
    }

    /// Removes what has ended by itself.
    pub fn sweep(&self, now: SystemTime) {
        self.view.sweep(now);
    }

    /// Whether there is such a grant: neither revoked nor over. Of one that is in a file, this process may not have heard yet:
    /// nobody has a token of it who did not log in.
    pub fn has(&self, id: GrantId, now: SystemTime) -> bool {
        self.view.has(id, now).unwrap_or(matches!(self.store, Store::File(_)))
    }

    /// Whether a grant was revoked while tokens of it have not ended.
    pub fn is_revoked(&self, id: GrantId) -> bool {
        self.view.is_revoked(id)
    }

    /// Waits until what was revoked is written. Fails if it cannot be.
    pub async fn flush(&self) -> Result<(), NotWritten> {
        match &self.store {
            Store::Memory => Ok(()),
            Store::File(file) => file.revoke(Vec::new()).await.map(drop).map_err(|_| NotWritten),
        }
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
