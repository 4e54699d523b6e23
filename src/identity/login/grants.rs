//! Grants: what logins began, and what somebody allowed a client. A grant has all the tokens that come of it; a logout ends it.
//!
//! What ended before its tokens did is in the set of revoked ones, which each request with a token of a grant looks at.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    access_token::AccessClaims,
    account::{Account, Claimed, KeptAccount},
    acts::{
        Act,
        accounts::{BeginAs, Claim, End, Renew},
        codes::{Put, Redeem},
        consents::{Has, Remember},
        grants::{self, Begin, Find, Refresh, Revocable, Revoke},
        spent::{EndToken, Spend},
    },
    code::{CodeId, CodeKey},
    fingerprint::Fingerprint,
    grant::Grant,
    grant_id::GrantId,
    keeper::Keeper,
    keys::{Keys, NoKey},
    page_cookie,
    refresh_token::{GrantKey, RefreshToken},
    session_token::SessionClaims,
    sources::{SourceId, Sources},
    spent::{NotSpent, Spent},
    store::Down,
    table::View,
};
use crate::{
    config::{LONGEST_REDIRECT_URI, LoginTerms, ScopeTags},
    identity::principal::Principal,
    secret::Secret,
};

pub use super::{
    code::{KEPT as CODE_KEPT, NewCode, NoCode, NotRedeemed, Redemption},
    consent::Consent,
    grant::{Admits, Issued, NotBegun, NotRefreshed, Objection, RefreshOf},
    kind::{ClientGrant, GrantKind, KindTag},
    table::GrantSummary,
};

/// How long a login at the pages lasts, and how many one may have.
const PAGE_TERMS: LoginTerms = LoginTerms {
    access_ttl: PAGE_LASTS,
    refresh_ttl: PAGE_LASTS,
    max_age: PAGE_LASTS,
    per_user: 20,
    reuse_grace: Duration::ZERO,
};
const PAGE_LASTS: Duration = Duration::from_secs(12 * 3600);
/// How long one lasts that nobody uses.
const PAGE_IDLE: Duration = Duration::from_secs(3600);

/// What is to be kept cannot be written or read at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWritten;

/// All grants.
pub struct Grants {
    view: Arc<View>,
    keeper: Arc<Keeper>,
    key: Arc<GrantKey>,
    code_key: CodeKey,
}

/// What a logout is given.
pub enum Token {
    /// What a session token says.
    Session(SessionClaims),
    /// A text that looks like a refresh token of a session.
    Refresh(RefreshToken),
    /// What an access token says.
    Access(AccessClaims),
    /// A text that looks like a refresh token of this client.
    ClientRefresh(RefreshToken, Arc<str>),
}

/// A login at the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageLogin {
    /// Who.
    pub principal: Principal,
    /// Of what they logged in with.
    pub fingerprint: Fingerprint,
    /// What it began.
    pub grant: GrantId,
    /// When it ends, however it is used.
    pub ends: SystemTime,
}

impl Grants {
    /// Those that this one keeps. `keys` never change as long as it is the same.
    pub(super) fn new(keeper: Arc<Keeper>, keys: &Keys) -> Result<Self, NoKey> {
        let view = Arc::clone(keeper.view());
        Ok(Self { view, keeper, key: Arc::new(GrantKey::new(keys)?), code_key: CodeKey::new(keys)? })
    }

    async fn run<A: Act>(&self, act: A) -> Result<A::Answer, Down> {
        self.keeper.run(act).await
    }

    fn has_file(&self) -> bool {
        self.keeper.has_file()
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
        self.begin_as(GrantKind::Session, Principal::User(Arc::clone(user)), fingerprint, terms, now).await
    }

    /// Somebody has logged in at the pages: the value of their cookie. The second half as of [`Self::begin`].
    pub async fn begin_page(
        &self,
        principal: &Principal,
        fingerprint: Fingerprint,
        now: SystemTime,
    ) -> Result<(Secret, PageLogin, bool), NotBegun> {
        let begun = self.begin_as(GrantKind::Page, principal.clone(), fingerprint, &PAGE_TERMS, now).await?;
        let (Issued { principal, grant, grant_ends: ends, .. }, has_ended_another) = begun;
        let cookie = page_cookie::make(&self.key, grant);
        Ok((cookie, PageLogin { principal, fingerprint, grant, ends }, has_ended_another))
    }

    /// Somebody has logged in at the pages by the identity provider. As of [`Self::begin_page`]. `account` is what that says of them.
    pub async fn begin_page_as(
        &self,
        account: KeptAccount,
        now: SystemTime,
    ) -> Result<(Secret, PageLogin, bool), NotBegun> {
        if !account.fits() {
            return Err(NotBegun::TooLong);
        }
        let (principal, fingerprint) = (account.account.principal.clone(), account.account.fingerprint);
        let grant = Grant::new(GrantKind::Page, principal, fingerprint, &PAGE_TERMS, now)
            .map_err(|_| NotBegun::NoRandomness)?;
        let begin = Begin { grant, terms: PAGE_TERMS, key: Arc::clone(&self.key), now };
        let (issued, has_ended_another) =
            self.run(BeginAs { account, begin }).await.unwrap_or(Err(NotBegun::Down))?;
        let Issued { principal, grant, grant_ends: ends, .. } = issued;
        let cookie = page_cookie::make(&self.key, grant);
        Ok((cookie, PageLogin { principal, fingerprint, grant, ends }, has_ended_another))
    }

    /// What is known of somebody of the identity provider.
    pub fn account(&self, principal: &Principal) -> Option<Arc<Account>> {
        self.view.accounts.get(principal)
    }

    /// How often something else was known than before by which tokens open: what somebody's provider says, or that it is gone by what a
    /// token came. What was opened is to be looked at anew.
    pub fn changes(&self) -> u64 {
        self.view.accounts.changes() + self.view.gone_sources.changes()
    }

    /// When it was seen last that a config does not have this source of tokens, by whoever has the file.
    pub fn source_gone(&self, id: &SourceId) -> Option<SystemTime> {
        self.view.gone_sources.get(id)
    }

    /// Has it written which sources of tokens the config has. In memory no token outlives the process, which knows it itself.
    pub fn keep_sources(&self, sources: Sources) {
        if self.has_file() {
            self.view.change(|table| table.unwritten_sources = Some(Arc::new(sources)));
            self.write_revoked();
        }
    }

    /// Whether whoever asks this is to ask the provider about somebody, since it is longer ago than `recheck` that it was, or it is not
    /// known what it says of these claims.
    pub async fn claim_recheck(
        &self,
        principal: &Principal,
        recheck: Duration,
        claims: Vec<String>,
        now: SystemTime,
    ) -> Result<Claimed, NotWritten> {
        let claim = Claim { principal: principal.clone(), recheck, claims, now };
        self.run(claim).await.map_err(|Down| NotWritten)
    }

    /// The provider has said `account` when it was asked at `asked`.
    pub async fn renew_account(&self, account: KeptAccount, asked: SystemTime) -> Result<(), NotWritten> {
        if !account.fits() {
            return Err(NotWritten);
        }
        self.run(Renew { account, asked }).await.map_err(|Down| NotWritten)
    }

    /// Somebody is let in no more: all that came of it ends, here at once.
    pub async fn end_account(&self, principal: &Principal) -> Result<(), NotWritten> {
        self.view.end_of(principal, self.has_file());
        self.run(End(principal.clone())).await.map_err(|Down| NotWritten)
    }

    async fn begin_as(
        &self,
        kind: GrantKind,
        principal: Principal,
        fingerprint: Fingerprint,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<(Issued, bool), NotBegun> {
        let grant =
            Grant::new(kind, principal, fingerprint, terms, now).map_err(|_| NotBegun::NoRandomness)?;
        let begin = Begin { grant, terms: *terms, key: Arc::clone(&self.key), now };
        self.run(begin).await.unwrap_or(Err(NotBegun::Down))
    }

    /// Whose the cookie of a login at the pages is, if it holds. That somebody came with it is noted.
    pub async fn find_page(&self, cookie: &str, now: SystemTime) -> Result<Option<PageLogin>, NotWritten> {
        let Some(id) = page_cookie::grant(&self.key, cookie) else { return Ok(None) };
        let mut found = self.view.grant(id);
        if found.is_none() && self.has_file() && !self.view.is_revoked(id) {
            // Begun at another gateway a moment ago. It is none that anybody can make up.
            found = self.run(Find(id)).await.map_err(|Down| NotWritten)?;
        }
        let holds = |grant: &Grant| {
            let is_page = grant.kind == GrantKind::Page;
            is_page && now < grant.over() && now < self.view.used(grant) + PAGE_IDLE
        };
        let Some(grant) = found.filter(holds) else { return Ok(None) };
        self.view.uses.note(id, now);
        let Grant { principal, fingerprint, id: grant, ends, .. } = grant;
        Ok(Some(PageLogin { principal, fingerprint, grant, ends }))
    }

    /// What somebody allowed a client by a request that no other has the name of: a code, for which the client gets a grant. A request
    /// has one code: the same again for who allows the same, and none once it was used.
    pub async fn begin_code(&self, request: &str, new: NewCode, now: SystemTime) -> Result<Secret, NoCode> {
        if !new.client.fits() || new.redirect_uri.len() > LONGEST_REDIRECT_URI {
            return Err(NoCode::TooLong);
        }
        let (code, id) = self.code_key.code(request);
        self.run(Put { id, new, now }).await.unwrap_or(Err(NoCode::Down))?;
        Ok(code)
    }

    /// What a code brings, which whoever shows it uses up. The second half as of [`Self::begin`].
    pub async fn redeem(
        &self,
        code: &str,
        shown: Redemption,
        admits: Admits,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<(Issued, bool), NotRedeemed> {
        let (id, key) = (CodeId::of(code), Arc::clone(&self.key));
        let redeem = Redeem { id, shown, admits, terms: *terms, key, now };
        self.run(redeem).await.unwrap_or(Err(NotRedeemed::Down))
    }

    /// What comes of a refresh token: the next one. `admits` is asked before it is used up.
    pub async fn refresh(
        &self,
        token: RefreshToken,
        of: RefreshOf,
        admits: Admits,
        terms: &LoginTerms,
        now: SystemTime,
    ) -> Result<Issued, NotRefreshed> {
        let Some(is_by_key) = self.proof(&token, of.tag()) else { return Err(NotRefreshed::Invalid) };
        let refresh =
            Refresh { token, is_by_key, of, admits, terms: *terms, key: Arc::clone(&self.key), now };
        self.run(refresh).await.unwrap_or(Err(NotRefreshed::Down))
    }

    /// Whether the key has made a refresh token, or else only the grant itself can say it; `None` if it is none in any case, which
    /// is said before any grant is looked for.
    fn proof(&self, token: &RefreshToken, kind: KindTag) -> Option<bool> {
        let is_by_key = self.key.has_made(kind, token);
        (is_by_key || kind == KindTag::Session && self.view.has_own_secrets()).then_some(is_by_key)
    }

    /// Ends the grants of these tokens: in this process at once, then wherever they are kept. What cannot be written at present is
    /// written later. If a client had one, its user is asked again the next time. Whose they were; `None` if they had ended.
    pub async fn revoke(&self, tokens: Vec<Token>, now: SystemTime) -> Result<Option<Principal>, NotWritten> {
        let has_file = self.has_file();
        let mut whose = None;
        let (mut unknown, mut consents) = (Vec::new(), Vec::new());
        for token in tokens {
            let (id, proof, client, tokens_end) = match token {
                Token::Session(claims) => {
                    (claims.grant, None, None, Some((claims.expires, claims.grant_ends)))
                }
                Token::Access(claims) => {
                    (claims.grant, None, None, Some((claims.expires, claims.grant_ends)))
                }
                Token::Refresh(token) => match self.proof(&token, KindTag::Session) {
                    Some(is_by_key) => (token.grant, (!is_by_key).then_some(token), None, None),
                    None => continue,
                },
                Token::ClientRefresh(token, client) => match self.proof(&token, KindTag::Client) {
                    Some(_) => (token.grant, None, Some(client), None),
                    None => continue,
                },
            };
            let this = Revocable { id, proof, client };
            if let Some(grant) = self.view.grant(id) {
                if this.is(&grant) {
                    self.revoke_here(id);
                    consents.extend(consent_of(&grant.principal, &grant.kind));
                    whose = Some(grant.principal);
                }
                continue;
            }
            // Begun at another gateway a moment ago. It is none that anybody can make up.
            if let Some((expires, grant_ends)) = tokens_end
                && has_file
                && now < expires
                && !self.view.is_revoked(id)
            {
                self.view.change(|table| table.end(id, grant_ends));
            }
            unknown.push(this);
        }
        let certain: Vec<_> = unknown.iter().filter_map(Revocable::certain).collect();
        if !has_file && consents.is_empty() {
            return Ok(whose);
        }
        match self.run(Revoke { these: unknown, consents }).await {
            Ok(before) => Ok(whose.or(before)),
            Err(Down) => {
                self.view.change(|table| table.note_unwritten(certain));
                Err(NotWritten)
            }
        }
    }

    /// Uses something up that may be used once.
    pub async fn spend(&self, spent: Spent, now: SystemTime) -> Result<(), NotSpent> {
        self.run(Spend { spent, now }).await.unwrap_or(Err(NotSpent::Down))
    }

    /// Ends a token of `client` that is of no grant which is kept, at every gateway of the file.
    pub async fn end_token(
        &self,
        client: &str,
        claims: &AccessClaims,
        now: SystemTime,
    ) -> Result<(), NotSpent> {
        let (grant, until) = (claims.grant, claims.expires);
        if now >= until {
            return Ok(());
        }
        let spent = Spent::token(client, &grant.bytes(), until);
        match self.run(EndToken { grant, spent, now }).await.unwrap_or(Err(NotSpent::Down)) {
            Err(NotSpent::Again) => Ok(()),
            done => done,
        }
    }

    fn revoke_here(&self, id: GrantId) -> Option<Principal> {
        let has_file = self.has_file();
        self.view.change(|table| {
            let Ok(whose) = grants::revoke(table, id);
            if has_file && whose.is_some() {
                table.note_unwritten([id]);
            }
            whose
        })
    }

    /// Ends the login at the pages that this cookie is of.
    pub async fn end_page(&self, cookie: &str) -> Result<Option<Principal>, NotWritten> {
        match page_cookie::grant(&self.key, cookie) {
            Some(id) => self.end(id, Vec::new()).await,
            None => Ok(None),
        }
    }

    /// The grants of somebody that are not over, the one that began last first.
    pub fn list(&self, principal: &Principal, now: SystemTime) -> Vec<GrantSummary> {
        self.view.list(principal, now)
    }

    /// The grants of clients that others than `own` have: `most` of them, those that began last, and how many there are.
    pub fn of_others(
        &self,
        own: &Principal,
        most: usize,
        now: SystemTime,
    ) -> (Vec<(Principal, GrantSummary)>, usize) {
        self.view.of_others(own, most, now)
    }

    /// Ends the grant of somebody that [`Self::list`] calls so. If a client had it, they are asked again the next time. What it
    /// was for; `None` if they have none.
    pub async fn revoke_id(
        &self,
        principal: &Principal,
        shown_id: &str,
    ) -> Result<Option<GrantKind>, NotWritten> {
        let Some((id, kind)) = self.view.shown(principal, shown_id) else { return Ok(None) };
        self.end(id, consent_of(principal, &kind).into_iter().collect()).await?;
        Ok(Some(kind))
    }

    async fn end(
        &self,
        id: GrantId,
        consents: Vec<(Principal, Arc<str>)>,
    ) -> Result<Option<Principal>, NotWritten> {
        let whose = self.revoke_here(id);
        let revoke = Revoke { these: vec![Revocable { id, proof: None, client: None }], consents };
        match self.run(revoke).await {
            Ok(before) => Ok(whose.or(before)),
            Err(Down) => {
                self.view.change(|table| table.note_unwritten([id]));
                Err(NotWritten)
            }
        }
    }

    /// Something comes by a grant. Costs a request no lock.
    pub fn note_use(&self, id: GrantId, now: SystemTime) {
        self.view.uses.note(id, now);
    }

    /// Remembers what somebody allowed a client, so that they are not asked again for the same or less.
    pub async fn remember_consent(&self, consent: Consent, now: SystemTime) -> Result<(), NotWritten> {
        self.run(Remember { consent, now }).await.map_err(|Down| NotWritten)
    }

    /// Whether somebody allowed a client this, or more, before, where several tags mean this, and need not be asked again.
    pub async fn has_consent(
        &self,
        asked: Consent,
        tags: ScopeTags,
        now: SystemTime,
    ) -> Result<bool, NotWritten> {
        self.run(Has { asked, tags, now }).await.map_err(|Down| NotWritten)
    }

    /// Ends a grant that nobody was told of. What cannot be written at present is written later.
    pub fn withdraw(&self, id: GrantId) {
        self.revoke_here(id);
        self.write_revoked();
    }

    /// Ends the grants that `keeps` does not keep: of whom, and which client. What a config takes away does not come back with the
    /// next one.
    pub fn keep(&self, keeps: impl Fn(&Principal, Fingerprint, Option<&ClientGrant>) -> bool) {
        self.view.keep(keeps, self.has_file());
        self.write_revoked();
    }

    fn write_revoked(&self) {
        self.keeper.write_revoked();
    }

    /// Who a refresh token of a grant of this kind is of, if this process knows the grant.
    pub fn principal_of(&self, token: &RefreshToken, kind: KindTag) -> Option<Principal> {
        let is_by_key = self.proof(token, kind)?;
        self.view.principal_of(token, kind, is_by_key)
    }

    /// Removes what has ended by itself.
    pub fn sweep(&self, now: SystemTime) {
        self.view.sweep(now);
    }

    /// Whether there is such a grant: neither revoked nor over. Of one that is in a file, this process may not have heard yet:
    /// nobody has a token of it who did not log in. And what a client was allowed by it, if this process has heard of it.
    pub fn find(&self, id: GrantId, now: SystemTime) -> (bool, Option<Arc<ClientGrant>>) {
        match self.view.kind(id, now) {
            Some(kind) => (kind.is_some(), kind.and_then(|kind| kind.client().cloned())),
            None => (self.has_file(), None),
        }
    }

    /// The first half of [`Self::find`].
    pub fn has(&self, id: GrantId, now: SystemTime) -> bool {
        self.find(id, now).0
    }

    /// Whether a grant was revoked while tokens of it have not ended.
    pub fn is_revoked(&self, id: GrantId) -> bool {
        self.view.is_revoked(id)
    }

    /// Waits until what was revoked is written. Fails if it cannot be.
    pub async fn flush(&self) -> Result<(), NotWritten> {
        if !self.has_file() {
            return Ok(());
        }
        let nothing = Revoke { these: Vec::new(), consents: Vec::new() };
        self.run(nothing).await.map(drop).map_err(|Down| NotWritten)
    }
}

/// What is forgotten with a grant of this kind: who allowed it, and which client.
fn consent_of(principal: &Principal, kind: &GrantKind) -> Option<(Principal, Arc<str>)> {
    kind.client().map(|client| (principal.clone(), Arc::clone(&client.client_id)))
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
