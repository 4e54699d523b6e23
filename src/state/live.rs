//! What requests see of one config. It never changes; a reload makes another one.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use prometheus::IntCounter;
use sha2::{Digest as _, Sha256};

use crate::{
    clock::Clock,
    config::{Limits, Server, Snapshot, User},
    error::{Error, ErrorKind},
    identity::{
        Admission, AdmittedParty, Allowed, Caller, Identity, Principal, Proof,
        audience::Audience,
        login::{
            Logins,
            access_token::{self, AccessClaims},
            fingerprint::Fingerprint,
            grant_id::GrantId,
            grants::ClientGrant,
            opened_tokens::{OpenedToken, OpenedTokens, TokenDigest},
            session_token::{self, SessionClaims},
        },
        presented::{Claim, Presented},
        scope::Scope,
        token_table::TokenTable,
        verifier::{Identified, Verifier},
    },
    ledger::{AddressBlock, Ledger, Owner, OwnerName},
    mcp::seal::SessionKey,
    oauth::may_keep,
    observe::{Audit, Observer},
    policy::{
        self,
        decide::{Ask, Decision, Policy, decide},
    },
    servers::{Backend, Origins, PastCallers, ServerEntry, SharedKey},
    upstream::{Origin, Unusable},
    watchdog::Revocation,
};

/// How many there were.
static BUILT: AtomicU64 = AtomicU64::new(1);

/// Everything that requests need of one config.
pub struct Live {
    /// No other has it, by which it is known whose something is that was kept.
    number: u64,
    /// The config itself.
    pub config: Arc<Snapshot>,
    /// `proxy.limits` of the config. A connection keeps these alone, not the whole config.
    pub limits: Arc<Limits>,
    /// Credentials by digest; indexes into `callers`.
    pub tokens: TokenTable,
    /// Is asked about tokens that the table does not have.
    pub verifier: Option<Arc<dyn Verifier>>,
    /// Everybody whom the config names: each credential of a token, in the order of the table, then each user. A caller's slot
    /// is an index into them.
    pub callers: Vec<CallerEntry>,
    /// Slots of each principal.
    by_principal: HashMap<Principal, Vec<usize>>,
    /// Who calls without a credential.
    nobody: Arc<Identity>,
    /// Servers, in the order of the file.
    pub servers: Vec<Arc<ServerEntry>>,
    /// Servers by name.
    pub entries: HashMap<Box<str>, Arc<ServerEntry>>,
    /// Who may have used a server of this name, whether there is one now or not.
    past_callers: HashMap<Box<str>, PastCallers>,
    /// All servers as one: an entry for any valid token, which sees what the token may reach.
    pub all: Arc<ServerEntry>,
    /// What answers decoys, if there are any.
    pub decoy: Option<Arc<ServerEntry>>,
    /// Binds session ids to callers.
    pub sessions: SessionKey,
    /// By which credentials expire.
    pub clock: Arc<Clock>,
    /// `proxy.audit`.
    pub audit: Option<Arc<Audit>>,
    /// Logins of users.
    pub(super) logins: Arc<Logins>,
}

/// Somebody whom the config names, and what is counted for them.
pub struct CallerEntry {
    /// Who it is. A user, as their password proves it; as a session does, comes with the request.
    pub identity: Arc<Identity>,
    /// Of a credential of a token: how it is counted.
    pub credential: Option<CountedCredential>,
    /// What tokens of a login know the password by, or the token, once that was asked for.
    fingerprint: OnceLock<Fingerprint>,
    /// What the token or user has of the gateway.
    pub owner: Arc<Owner>,
    /// `decoy_used_total`, if it is a decoy.
    pub decoy_used: Option<IntCounter>,
}

/// A user who may log in.
pub struct LoginUser<'a> {
    /// As the config has it.
    pub user: &'a User,
    /// Where the config has it.
    pub slot: usize,
    /// Who it is, as the password proves it.
    pub identity: Arc<Identity>,
}

/// How a credential is counted.
pub struct CountedCredential {
    /// What metrics call its token or tenant.
    pub label: Arc<str>,
    /// What metrics call it.
    pub id: Arc<str>,
    /// `token_used_total` of this credential.
    pub used: IntCounter,
}

impl CallerEntry {
    /// A request came by it.
    pub fn count_use(&self) {
        if let Some(credential) = &self.credential {
            credential.used.inc();
        }
    }
}

impl Live {
    /// Builds the state for `snapshot`. Connections and keys of `previous` are taken over where the config left them as
    /// they were; `process_key` binds sessions when the config names no key. Credentials expire by `clock`; session tokens are
    /// those of `logins`.
    pub fn build(
        snapshot: Arc<Snapshot>,
        previous: Option<&Self>,
        observer: &Arc<Observer>,
        ledger: &Ledger,
        process_key: &SessionKey,
        (clock, logins): (&Arc<Clock>, &Arc<Logins>),
    ) -> Result<Self, Unusable> {
        let metrics = &observer.metrics;
        let sessions =
            snapshot.session_key.as_ref().map_or_else(|| process_key.clone(), SessionKey::from_secret);
        let credentials = snapshot.credentials.iter().map(|credential| {
            let unnamed = || sessions.name_of_credential(&credential.digest).into();
            let id = credential.id.clone().unwrap_or_else(unnamed);
            let label = credential.label();
            let used = metrics.token_used(&label, &id);
            let name = Arc::clone(&credential.token_name);
            CallerEntry {
                identity: Arc::new(Identity::of(credential)),
                decoy_used: credential.decoy.then(|| metrics.decoy_used(&label)),
                fingerprint: OnceLock::new(),
                owner: ledger.owner(match (credential.decoy, credential.is_tenant) {
                    // Whoever found it takes nothing from the caller whose name it has.
                    (true, _) => OwnerName::Decoy(Arc::clone(&label)),
                    (false, true) => OwnerName::Tenant(name),
                    (false, false) => OwnerName::Token(name),
                }),
                credential: Some(CountedCredential { label, id, used }),
            }
        });
        let users = snapshot.users.iter().map(|user| {
            let proof = Proof::Password(Sha256::digest(user.password_hash.expose()).into());
            CallerEntry {
                identity: Arc::new(Identity::of_user(user, proof)),
                credential: None,
                fingerprint: OnceLock::new(),
                owner: ledger.owner(OwnerName::User(Arc::clone(&user.name))),
                decoy_used: None,
            }
        });
        let callers: Vec<CallerEntry> = credentials.chain(users).collect();
        let identities: Vec<_> = callers.iter().map(|entry| Arc::clone(&entry.identity)).collect();
        let mut servers = Vec::with_capacity(snapshot.servers.len());
        let mut origins = Origins::of(previous.into_iter().flat_map(Self::origins), &snapshot.system_roots);
        for server in &snapshot.servers {
            let kept = previous.and_then(|live| live.entries.get(&*server.name));
            let before = previous.and_then(|live| live.past_callers.get(&*server.name)).cloned();
            let before = before.unwrap_or_default();
            let policy = Policy { servers: server, now: None, admin_sees_all: snapshot.admin_sees_all };
            let entry =
                ServerEntry::build(server, kept, before, &identities, &policy, &mut origins, observer)?;
            servers.push(Arc::new(entry));
        }
        snapshot.system_roots.forget();
        origins.report(observer);
        let mut past_callers = previous.map(|live| live.past_callers.clone()).unwrap_or_default();
        past_callers
            .extend(servers.iter().map(|entry| (Box::from(&*entry.server.name), entry.callers.clone())));
        let mut by_principal: HashMap<_, Vec<usize>> = HashMap::new();
        for (slot, identity) in identities.iter().enumerate() {
            by_principal.entry(identity.principal.clone()).or_default().push(slot);
        }
        let metrics =
            previous.map_or_else(|| metrics.server(Server::ALL), |live| Arc::clone(&live.all.metrics));
        let audit = snapshot.audit.as_ref().map(|config| {
            Arc::new(Audit::start(config, previous.and_then(|live| live.audit.as_deref()), observer))
        });
        let same = previous
            .filter(|live| live.config.aggregate == snapshot.aggregate && live.config.name == snapshot.name)
            .map(|live| &*live.all);
        let rate = previous.map(|live| Arc::clone(&live.all.request_rate)).unwrap_or_default();
        let all = Arc::new(ServerEntry::all(snapshot.session_timeout, &identities, metrics, rate, same));
        let has_decoys = identities.iter().any(|identity| identity.is_decoy);
        let decoy = || Arc::new(ServerEntry::decoy(&snapshot.name, &identities, observer));
        let decoy = has_decoys.then(decoy);
        Ok(Self {
            number: BUILT.fetch_add(1, Ordering::Relaxed),
            decoy,
            limits: Arc::new(snapshot.limits.clone()),
            tokens: TokenTable::build(&snapshot.credentials),
            config: snapshot,
            verifier: None,
            callers,
            by_principal,
            nobody: Arc::new(Identity::NOBODY),
            entries: servers
                .iter()
                .map(|entry| (Box::from(&*entry.server.name), Arc::clone(entry)))
                .collect(),
            servers,
            past_callers,
            all,
            clock: Arc::clone(clock),
            logins: Arc::clone(logins),
            sessions,
            audit,
        })
    }

    /// The server of this name; all servers as one are [`Server::ALL`].
    pub fn entry(&self, name: &str) -> Option<&Arc<ServerEntry>> {
        match name {
            Server::ALL => Some(&self.all),
            Server::DECOY => self.decoy.as_ref(),
            name => self.entries.get(name),
        }
    }

    /// The credential behind what a request presents. One without a token, or with a malformed one, pays for a look-up too: all
    /// refusals take the same time, but for those of a session token or a password. `address` is where it comes from, `opened` what is
    /// known of session tokens.
    pub fn identify<'a>(
        &'a self,
        presented: &'a Result<Presented<'_>, ErrorKind>,
        address: AddressBlock,
        opened: &RefCell<OpenedTokens>,
    ) -> Identified<'a> {
        let token = presented.as_ref().map_or(&[][..], |presented| &*presented.token);
        let is_access = self.config.oauth.is_some() && token.starts_with(access_token::PREFIX.as_bytes());
        let is_session = self.has_logins() && token.starts_with(session_token::PREFIX.as_bytes());
        // First, since a digest of so long a token costs as much as opening it.
        if (is_access || is_session)
            && let Ok(presented) = presented
            && let Some(caller) = self.by_own_token(token, is_access, opened)
            && presented.may_prove(&caller.identity.principal)
        {
            return Identified::Ready(Ok(caller));
        }
        Identified::Ready(match (self.tokens.find(token), presented) {
            (_, Err(refused)) => Err((*refused).into()),
            (Some(slot), Ok(presented)) if self.is_proved_by(slot, presented) => Ok(self.caller(Some(slot))),
            // Nobody can say what it was worth. A client that is told that it is invalid throws it away.
            (None, Ok(_)) if (is_access || is_session) && !self.logins.is_open() => {
                Err(Error::logins_not_kept())
            }
            (None, Ok(Presented { claim: Claim::AnyToken, .. })) if is_access || is_session => {
                Err(ErrorKind::InvalidToken.into())
            }
            // Also if it is the secret of somebody else: what is no token of this name is compared, whatever it is.
            (_, Ok(Presented { claim: Claim::Named(name), .. })) if self.has_logins() => {
                return self.by_basic(name, token, address);
            }
            // Whether a secret is that of a name, or of a tenant, is not for the verifier of tokens to say.
            (None, Ok(Presented { claim: Claim::AnyToken, .. })) => match &self.verifier {
                Some(verifier) => return verifier.identify(token),
                None => Err(ErrorKind::InvalidToken.into()),
            },
            _ => Err(ErrorKind::InvalidToken.into()),
        })
    }

    /// Whether what a request presents counts for the credential at this index, whose secret it has.
    fn is_proved_by(&self, slot: usize, presented: &Presented<'_>) -> bool {
        presented.may_prove(&self.callers[slot].identity.principal) && self.is_valid(slot)
    }

    /// Whether users may log in.
    pub fn has_logins(&self) -> bool {
        !self.config.users.is_empty()
    }

    /// Who has this session token, or access token, if it holds.
    fn by_own_token(&self, token: &[u8], is_access: bool, opened: &RefCell<OpenedTokens>) -> Option<Caller> {
        let (sealers, grants, now) = (self.logins.sealers()?, self.logins.grants()?, self.clock.now());
        let is_good = |slot: Option<usize>, grant| {
            slot.is_some_and(|slot| self.is_valid(slot)) && !grants.is_revoked(grant)
        };
        let mut opened = opened.borrow_mut();
        opened.hold_for(self.number, &sealers);
        let digest = TokenDigest::of(token);
        if let Some(OpenedToken { caller, grant, .. }) = opened.find(&digest, now) {
            if !is_good(caller.slot, *grant) {
                return None;
            }
            if is_access {
                grants.note_use(*grant, now);
            }
            return Some(caller.clone());
        }
        let (token, grant) = if is_access {
            let claims = sealers.access.open(token, now)?;
            (OpenedToken::new(self.by_access(&claims, &opened)?, &claims), claims.grant)
        } else {
            let claims = sealers.session.open(token, now)?;
            (OpenedToken::new(self.by_session(&claims, &opened)?, &claims), claims.grant)
        };
        let caller = token.caller.clone();
        if !is_good(caller.slot, grant) {
            return None;
        }
        if is_access {
            grants.note_use(grant, now);
        }
        opened.insert(digest, token);
        Some(caller)
    }

    /// The user of a session token, with the password of the login.
    fn by_session(&self, claims: &SessionClaims, opened: &OpenedTokens) -> Option<Caller> {
        let slot = self.slot_by_password(&Principal::User(Arc::clone(&claims.user)), claims.fingerprint);
        let proof = Proof::Session { grant: claims.grant, fingerprint: claims.fingerprint };
        let identity = self.callers[slot?].identity.proved_by(proof, claims.grant_ends);
        Some(Caller { identity: opened.shared(claims.grant, identity), slot })
    }

    /// For whom the client of an access token acts, with what it was allowed.
    fn by_access(&self, claims: &AccessClaims, opened: &OpenedTokens) -> Option<Caller> {
        let (identity, slot) = self.identity_of_access(claims)?;
        Some(Caller { identity: opened.shared(claims.grant, identity), slot: Some(slot) })
    }

    /// What an access token says, if it is taken at the place that it is for.
    pub fn taken_access(&self, token: &[u8]) -> Option<AccessClaims> {
        let (sealers, grants) = (self.logins.sealers()?, self.logins.grants()?);
        let claims = sealers.access.open(token, self.clock.now())?;
        let is_taken = !grants.is_revoked(claims.grant) && self.identity_of_access(&claims).is_some();
        is_taken.then_some(claims)
    }

    fn identity_of_access(&self, claims: &AccessClaims) -> Option<(Identity, usize)> {
        let config = self.config.oauth.as_ref()?;
        let AccessClaims { principal, grant, fingerprint, client_id, resource, scope, .. } = claims;
        let slot = self.slot_of_login(principal, *fingerprint)?;
        let allowed = Allowed {
            client_id: Arc::clone(client_id),
            base: Arc::clone(&config.base),
            audience: Audience::of(resource, &config.base)?,
            scope: Scope::parse(scope, config.scope_tags),
        };
        let proof = Proof::Access { grant: *grant, fingerprint: *fingerprint };
        let identity = self.callers[slot].identity.proved_by(proof, claims.grant_ends);
        let identity = Identity { allowed: Some(Arc::new(allowed)), ..identity };
        self.still_allows(&identity, *grant).then_some((identity, slot))
    }

    /// Whether the config still lets the client in that was allowed something, if one acts, and has the place by which it was found.
    fn still_allows(&self, identity: &Identity, grant: GrantId) -> bool {
        let (Some(allowed), Some(config)) = (&identity.allowed, &self.config.oauth) else {
            return identity.allowed.is_none();
        };
        let client = self.logins.grants().and_then(|grants| grants.client_of(grant, self.clock.now()));
        let receiver = client.as_ref().map(|client| &*client.redirect_host);
        allowed.base == config.base && may_keep(&allowed.client_id, receiver, config)
    }

    /// Whether a client may have tokens of what it was allowed: the config still lets it in, and the place is one of this gateway.
    pub fn still_serves(&self, client: &ClientGrant) -> bool {
        self.config.oauth.as_ref().is_some_and(|config| {
            Audience::of(&client.resource, &config.base).is_some()
                && may_keep(&client.client_id, Some(&client.redirect_host), config)
        })
    }

    /// What was allowed, as the config now reads it; `None` if it reads it as before.
    fn reread(&self, identity: &Identity) -> Option<Identity> {
        let (allowed, config) = (identity.allowed.as_ref()?, self.config.oauth.as_ref()?);
        let is_same = allowed.scope.tags() == config.scope_tags;
        (!is_same).then(|| {
            let allowed = Allowed { scope: allowed.scope.under(config.scope_tags), ..(**allowed).clone() };
            Identity { allowed: Some(Arc::new(allowed)), ..identity.clone() }
        })
    }

    /// Ends the logins of users that the config does not have, or with another password.
    pub fn keep_logins(&self) {
        if let Some(grants) = self.logins.grants() {
            grants.keep(|principal, fingerprint| self.has_principal(principal, fingerprint));
        }
    }

    /// The same of a store that was opened a moment ago, and of those whom it was taken away from before that.
    pub fn keep_logins_but(&self, taken_away: &HashSet<Principal>) {
        if let Some(grants) = self.logins.grants() {
            grants.keep(|principal, fingerprint| {
                !taken_away.contains(principal) && self.has_principal(principal, fingerprint)
            });
        }
    }

    /// Who could log in here, and cannot by `next`, or not with the same.
    pub fn taken_away_by(&self, next: &Self) -> Vec<Principal> {
        let is_left = |entry: &CallerEntry| {
            let Identity { principal, proof, .. } = &*entry.identity;
            let is_same = |slot: &usize| next.callers[*slot].identity.proof == *proof && next.is_valid(*slot);
            next.slots_of(principal).iter().any(is_same)
        };
        let gone = self.callers.iter().filter(|entry| !is_left(entry));
        gone.map(|entry| entry.identity.principal.clone()).collect()
    }

    /// Whether somebody who logged in may still, with the password or the token that they logged in with.
    pub fn has_principal(&self, principal: &Principal, fingerprint: Fingerprint) -> bool {
        match principal {
            Principal::User(_) | Principal::Token(_) => self.slot_of_login(principal, fingerprint).is_some(),
            Principal::Nobody | Principal::Tenant(_) => false,
        }
    }

    /// The identity of somebody who logged in, and may still.
    pub fn identity_of(&self, principal: &Principal, fingerprint: Fingerprint) -> Option<&Arc<Identity>> {
        self.slot_of_login(principal, fingerprint).map(|slot| &self.callers[slot].identity)
    }

    /// The slot of what somebody logged in with, if it is still good.
    fn slot_of_login(&self, principal: &Principal, fingerprint: Fingerprint) -> Option<usize> {
        let is_same = |slot: &usize| {
            self.fingerprint(*slot) == Some(fingerprint)
                && self.is_valid(*slot)
                && !self.callers[*slot].identity.is_decoy
        };
        self.slots_of(principal).iter().copied().find(is_same)
    }

    /// A principal of the config, as the first of its credentials has it.
    pub fn identity_named(&self, principal: &Principal) -> Option<&Arc<Identity>> {
        self.slots_of(principal).first().map(|slot| &self.callers[*slot].identity)
    }

    /// Whom a principal of the config counts for.
    pub fn owner_of(&self, principal: &Principal) -> Option<&Arc<Owner>> {
        self.slots_of(principal).first().map(|slot| &self.callers[*slot].owner)
    }

    fn has_grant(&self, grant: GrantId) -> bool {
        self.logins.grants().is_some_and(|grants| grants.has(grant, self.clock.now()))
    }

    /// The slot of a user who still has this password.
    fn slot_by_password(&self, user: &Principal, fingerprint: Fingerprint) -> Option<usize> {
        let slot = *self.slots_of(user).first()?;
        (self.fingerprint(slot) == Some(fingerprint)).then_some(slot)
    }

    /// What tokens know the password of the user at this index by, or the token that is there; `None` as long as logins are not
    /// kept. It is made of a secret of the store, which may be opened after the config is in force.
    pub fn fingerprint(&self, slot: usize) -> Option<Fingerprint> {
        let CallerEntry { fingerprint: known, identity, .. } = &self.callers[slot];
        known.get().copied().or_else(|| {
            let fingerprint = match (self.user_at(slot), &identity.proof) {
                (Some(user), _) => self.logins.fingerprint(&user.password_hash),
                (None, Proof::StaticToken(digest)) => self.logins.fingerprint_of_token(digest),
                (None, _) => return None,
            };
            let fingerprint = fingerprint.ok()?;
            Some(*known.get_or_init(|| fingerprint))
        })
    }

    fn user_at(&self, slot: usize) -> Option<&User> {
        self.config.users.get(slot.checked_sub(self.config.credentials.len())?)
    }

    /// The user of this name, if it is one who may log in.
    pub fn user(&self, name: &str) -> Option<LoginUser<'_>> {
        let slot = *self.slots_of(&Principal::User(name.into())).first()?;
        let user = self.user_at(slot).filter(|user| !user.disabled)?;
        Some(LoginUser { user, slot, identity: Arc::clone(&self.callers[slot].identity) })
    }

    /// The user of a grant, who may still log in, and with the password of the grant.
    pub fn user_of_grant(&self, name: &str, fingerprint: Fingerprint) -> Option<LoginUser<'_>> {
        self.user(name).filter(|user| self.fingerprint(user.slot) == Some(fingerprint))
    }

    /// The caller at this index, or who has no credential.
    pub fn caller(&self, slot: Option<usize>) -> Caller {
        let identity = slot.map_or(&self.nobody, |slot| &self.callers[slot].identity);
        Caller { identity: Arc::clone(identity), slot }
    }

    /// The decision in full. What is kept of it for each request is [`ServerEntry::admits`].
    pub fn decide(&self, identity: &Identity, ask: &Ask<'_>) -> Decision {
        let now = Some(self.clock.now());
        decide(&Policy { servers: self, now, admin_sees_all: self.config.admin_sees_all }, identity, ask)
    }

    /// Whether what was let in by `admission` would be let in now.
    pub fn still_admits(&self, admission: &Admission) -> bool {
        self.loss(admission).is_none()
    }

    /// Whether those who share this would be let in now, if it is all servers as one.
    pub fn admits_view(&self, key: &SharedKey) -> bool {
        let SharedKey::View { to, .. } = key else { return true };
        self.still_admits(&Admission::new(to.clone(), Server::ALL.into(), 0))
    }

    /// Whether the server of `admission` would be there now as one behind all servers as one, which are the place of it.
    pub fn still_admits_member(&self, admission: &Admission) -> bool {
        self.loss_of(admission, true).is_none()
    }

    /// What was lost since, if what was let in by `admission` would not be let in now.
    pub fn loss(&self, admission: &Admission) -> Option<Revocation> {
        self.loss_of(admission, false)
    }

    fn loss_of(&self, admission: &Admission, is_member: bool) -> Option<Revocation> {
        let Some(entry) = self.entry(&admission.server) else { return Some(Revocation::Server) };
        if entry.is_public {
            return None;
        }
        let found;
        let (principal, slots, members) = match &admission.to {
            AdmittedParty::Principal(identity) => {
                (&identity.principal, self.slots_of(&identity.principal), None)
            }
            AdmittedParty::Credential(identity) => {
                found = match &identity.proof {
                    Proof::Nothing => None,
                    Proof::StaticToken(digest) => self.tokens.find_digest(digest),
                    Proof::Session { grant, fingerprint } => {
                        let is_over = !self.has_grant(*grant) || !identity.is_valid_at(self.clock.now());
                        self.slot_by_password(&identity.principal, *fingerprint).filter(|_| !is_over)
                    }
                    Proof::Access { grant, fingerprint } => {
                        // The token may have expired: what it began goes on as long as the grant.
                        let is_over = !self.has_grant(*grant)
                            || !identity.is_valid_at(self.clock.now())
                            || !self.still_allows(identity, *grant);
                        self.slot_of_login(&identity.principal, *fingerprint).filter(|_| !is_over)
                    }
                    Proof::Password(_) => {
                        let slot = self.slots_of(&identity.principal).first().copied();
                        slot.filter(|slot| self.callers[*slot].identity.proof == identity.proof)
                    }
                };
                (&identity.principal, found.as_slice(), admission.members.get())
            }
        };
        let mut valid = slots.iter().filter(|slot| self.is_valid(**slot)).peekable();
        // Somebody is left, who may no longer use it.
        let loss = if valid.peek().is_some() { Revocation::Grant } else { Revocation::Token };
        let members = members.map_or(&[][..], |members| &members[..]);
        // A credential may have been given to another principal, who has no part in what was begun by it.
        let is_same = |slot: usize| self.callers[slot].identity.principal == *principal;
        let reread = self.reread(admission.to.identity());
        let identity = reread.as_ref().unwrap_or(admission.to.identity());
        // A session is its principal's, whose requests are asked each by itself.
        let is_allowed = matches!(admission.to, AdmittedParty::Principal(_))
            || (if is_member { entry.is_reached(identity) } else { entry.is_allowed(identity) })
                && members
                    .iter()
                    .filter_map(|server| self.entry(server))
                    .all(|entry| entry.is_public || entry.is_reached(identity));
        let admits = |slot: &usize| {
            is_same(*slot)
                && is_allowed
                && entry.allows(*slot)
                && self.reaches_as_much_as_its_name(*slot, members)
                && self.keeps_tools(*slot, admission, entry, members)
        };
        (!valid.any(admits)).then_some(loss)
    }

    /// Whether the caller at this index is let in, and its credential has not expired.
    pub fn is_valid(&self, slot: usize) -> bool {
        let identity = &self.callers[slot].identity;
        !identity.is_disabled && identity.not_after.is_none_or(|end| self.clock.now() < end)
    }

    fn slots_of(&self, principal: &Principal) -> &[usize] {
        self.by_principal.get(principal).map_or(&[], Vec::as_slice)
    }

    /// Whether any credential of this principal opens the server.
    fn admits_principal(&self, principal: &Principal, entry: &ServerEntry) -> bool {
        self.slots_of(principal).iter().any(|slot| entry.allows(*slot) && self.is_valid(*slot))
    }

    /// Whether the credential may use every one of these servers that its principal may use. A session belongs to the
    /// principal, and reaches what any of its credentials may reach; roles are the credential's, so one with fewer must not
    /// get further by the session of another.
    fn reaches_as_much_as_its_name(&self, slot: usize, servers: &[Arc<str>]) -> bool {
        let principal = &self.callers[slot].identity.principal;
        servers
            .iter()
            .filter_map(|server| self.entry(server))
            .all(|entry| entry.is_public || entry.allows(slot) || !self.admits_principal(principal, entry))
    }

    /// Whether the caller may use the tools of these servers that were there for those on whose rights it relies: for itself as
    /// it was, and for whoever began the session.
    fn keeps_tools(
        &self,
        slot: usize,
        admission: &Admission,
        entry: &ServerEntry,
        members: &[Arc<str>],
    ) -> bool {
        let of_slot = &self.callers[slot].identity;
        // A session has what its principal may have, a client what it was allowed of that.
        let client = match &admission.to {
            AdmittedParty::Credential(identity) => {
                self.reread(identity).map_or_else(|| identity.allowed.clone(), |of| of.allowed)
            }
            AdmittedParty::Principal(_) => None,
        };
        let limited = client.map(|allowed| Identity { allowed: Some(allowed), ..(**of_slot).clone() });
        let identity = limited.as_ref().unwrap_or(of_slot);
        let covers = |entry: &ServerEntry| {
            entry.tools_cover(identity, admission.to.identity())
                && admission.begun_by.get().is_none_or(|other| entry.tools_cover(identity, other))
        };
        covers(entry) && members.iter().filter_map(|server| self.entry(server)).all(|entry| covers(entry))
    }

    /// Whether the server was stopped or restarted by hand after `admission` was given.
    pub fn was_stopped_since(&self, admission: &Admission) -> bool {
        let run_state = self.entry(&admission.server).map(|entry| &entry.run_state);
        run_state.is_some_and(|run_state| run_state.is_stopped() || run_state.stops() != admission.stops)
    }

    /// Where servers over HTTP are.
    pub fn origins(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.servers.iter().filter_map(|entry| match &entry.backend {
            Backend::Http { origin, .. } => Some(origin),
            _ => None,
        })
    }

    /// Whether connections to `origin` may still be of use.
    pub fn uses(&self, origin: &Arc<Origin>) -> bool {
        self.origins().any(|used| Arc::ptr_eq(used, origin))
    }

    /// Names of tokens that end by themselves, and when the last credential of each does.
    pub fn expiries(&self) -> impl Iterator<Item = (&str, SystemTime)> {
        self.by_principal.iter().filter_map(|(principal, slots)| {
            let ends = slots.iter().map(|slot| self.callers[*slot].identity.not_after);
            let last = ends.collect::<Option<Vec<_>>>()?.into_iter().max()?;
            Some((&**principal.token_name()?, last))
        })
    }

    /// Token name and id of each credential: the labels that its requests are counted by.
    pub fn counted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.callers.iter().filter_map(|entry| {
            let CountedCredential { label, id, .. } = entry.credential.as_ref()?;
            Some((&**label, &**id))
        })
    }

    /// Names of tokens of which a credential is a decoy.
    pub fn decoys(&self) -> impl Iterator<Item = &str> {
        let decoys = self.callers.iter().filter(|entry| entry.decoy_used.is_some());
        decoys.filter_map(|entry| Some(&*entry.credential.as_ref()?.label))
    }

    /// Whether there is a credential of this name and id.
    pub fn counts(&self, (token_name, id): &(&str, &str)) -> bool {
        let has = |principal| {
            let of_slot = |slot: &usize| self.callers[*slot].credential.as_ref();
            self.slots_of(&principal).iter().filter_map(of_slot).any(|of| *of.id == **id)
        };
        has(Principal::Token((*token_name).into()))
            || token_name.strip_prefix("tenant:").is_some_and(|name| has(Principal::Tenant(name.into())))
    }

    /// The credentials that end by themselves: whose they are, what metrics call them, and when.
    pub fn ending(&self) -> impl Iterator<Item = (&Identity, &str, SystemTime)> {
        self.callers.iter().filter_map(|entry| {
            Some((&*entry.identity, &*entry.credential.as_ref()?.id, entry.identity.not_after?))
        })
    }

    /// Whether a principal has a credential that lasts beyond `end`.
    pub fn outlasts(&self, principal: &Principal, end: SystemTime) -> bool {
        let slots = self.slots_of(principal);
        slots.iter().any(|slot| self.callers[*slot].identity.not_after.is_none_or(|other| other > end))
    }

    /// Whether any credential ends by itself, as logins do.
    pub fn has_expiry(&self) -> bool {
        self.config.has_grants() || self.callers.iter().any(|entry| entry.identity.not_after.is_some())
    }
}

impl policy::decide::Servers for Live {
    fn server(&self, name: &str) -> Option<&Server> {
        self.entries.get(name).map(|entry| &entry.server)
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
