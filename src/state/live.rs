//! What requests see of one config. It never changes; a reload makes another one.

mod foreign_tokens;
mod loss;
mod machines;
mod own_tokens;
mod people;
mod token_sources;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use sha2::{Digest as _, Sha256};

use self::token_sources::GoneSources;
pub use self::token_sources::TokenSource;

use crate::{
    clock::Clock,
    config::{ClientProof, Issuer, Limits, Server, Snapshot, User},
    credentials::Vault,
    error::{Error, ErrorKind},
    identity::{
        Admission, Caller, Identity, Principal, Proof, Standing,
        foreign::{introspection::Introspector, keys::IssuerKeys, recent::Recent, source::Source},
        idp::Idp,
        login::{Logins, access_token, fingerprint::Fingerprint, session_token},
        opened_tokens::OpenedTokens,
        presented::{Claim, Presented},
        token_table::TokenTable,
        verifier::Identified,
    },
    ledger::{AddressBlock, Ledger, Owner, OwnerName},
    mcp::seal::SessionKey,
    observe::{Audit, Observer},
    policy::{
        self,
        decide::{Ask, Decision, Policy, decide},
    },
    servers::{Backend, Origins, PastCallers, ServerEntry},
    upstream::{Origin, Unusable, issuers::Issuers},
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
    /// Keys of issuers whose tokens are taken, in the order of the file. They survive reloads that leave an issuer as it was.
    pub issuers: Vec<IssuerKeys>,
    /// Those of the issuers that are asked about tokens. What they said survives reloads that leave the issuer as it was.
    introspectors: Vec<Arc<Introspector>>,
    /// Tokens of issuers that were good when they came last, to whichever worker.
    seen_foreign: Arc<Mutex<Recent<()>>>,
    /// Keys of clients that publish them somewhere, by the client. They survive reloads that leave the place as it was.
    pub client_keys: HashMap<Arc<str>, IssuerKeys>,
    /// By what tokens came that are of no grant, and come no more.
    gone_sources: GoneSources,
    /// Claims that `assign` asks about.
    asked_claims: Arc<BTreeSet<String>>,
    /// Where their keys come from.
    issuer_source: Arc<dyn Source>,
    /// The identity provider, if there is one. It survives reloads that leave it as it was.
    idp: Option<Idp>,
    /// What grants know it by, once that was asked for.
    idp_fingerprint: OnceLock<Fingerprint>,
    /// Everybody whom the config names: each credential of a token, in the order of the table, then each user, then whatever proves a
    /// client that is a caller of its own. A caller's slot is an index into them.
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
    /// What servers' credentials share.
    pub(super) vault: Arc<Vault>,
    /// Of which those whom an issuer vouches for have their part.
    ledger: Arc<Ledger>,
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
    /// they were; `process_key` binds sessions when the config names no key. Credentials expire by `clock`; session
    /// tokens and access tokens are those of `logins`.
    pub fn build(
        snapshot: Arc<Snapshot>,
        previous: Option<&Self>,
        observer: &Arc<Observer>,
        ledger: &Arc<Ledger>,
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
        let clients = snapshot.oauth.iter().flat_map(|config| &config.clients);
        let clients = clients.filter(|client| client.is_caller()).flat_map(|client| {
            let owner = ledger.owner(OwnerName::Client(Arc::clone(&client.name)));
            client.credentials().into_iter().map(move |credential| CallerEntry {
                identity: Arc::new(Identity::of_client(client, Proof::Client(credential))),
                credential: None,
                fingerprint: OnceLock::new(),
                owner: Arc::clone(&owner),
                decoy_used: None,
            })
        });
        let callers: Vec<CallerEntry> = credentials.chain(users).chain(clients).collect();
        let identities: Vec<_> = callers.iter().map(|entry| Arc::clone(&entry.identity)).collect();
        let vault = previous.map(|live| Arc::clone(&live.vault));
        let vault = vault.unwrap_or_else(|| Arc::new(Vault::new(logins, observer, clock)));
        let mut servers = Vec::with_capacity(snapshot.servers.len());
        let mut origins = Origins::of(previous.into_iter().flat_map(Self::origins), &snapshot.system_roots);
        for server in &snapshot.servers {
            let kept = previous.and_then(|live| live.entries.get(&*server.name));
            let before = previous.and_then(|live| live.past_callers.get(&*server.name)).cloned();
            // Of those whom others vouch for, nobody knows how many there are.
            let before = match snapshot.admits_unnamed() {
                false => before.unwrap_or_default(),
                true => PastCallers::Several,
            };
            let policy = Policy { servers: server, now: None, admin_sees_all: snapshot.admin_sees_all };
            let of_gateway = (observer, &vault);
            let entry =
                ServerEntry::build(server, kept, before, &identities, &policy, &mut origins, of_gateway)?;
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
        let issuer_source: Arc<dyn Source> = previous
            .map_or_else(|| Arc::new(Issuers::default()) as _, |live| Arc::clone(&live.issuer_source));
        let keys_of = |issuer: &Arc<Issuer>| {
            let kept = previous.and_then(|live| live.issuers.iter().find_map(|keys| keys.of_reload(issuer)));
            kept.unwrap_or_else(|| IssuerKeys::new(Arc::clone(issuer), Arc::clone(&issuer_source)))
        };
        let issuers = snapshot.issuers.iter().map(keys_of).collect();
        let idp = snapshot.oauth.as_ref().and_then(|oauth| oauth.idp.as_ref()).map(|config| {
            let kept = previous.and_then(|live| live.idp.as_ref()?.of_reload(config));
            kept.unwrap_or_else(|| Idp::new(Arc::clone(config), Arc::clone(&issuer_source)))
        });
        let client_keys = snapshot.oauth.iter().flat_map(|config| &config.clients).filter_map(|client| {
            let ClientProof::KeysAt(url) = &client.proof else { return None };
            let of = Arc::new(Issuer::with_keys_at(&client.name, url));
            let kept = previous.and_then(|live| live.client_keys.get(&client.name)?.of_reload(&of));
            let keys = kept.unwrap_or_else(|| IssuerKeys::new(of, Arc::clone(&issuer_source)));
            Some((Arc::clone(&client.name), keys))
        });
        let client_keys = client_keys.collect();
        let asked_claims = snapshot.assignments.iter().flat_map(|of| of.condition.claims());
        let asked_claims = Arc::new(asked_claims.map(str::to_owned).collect());
        let introspector_of = |issuer: &Arc<Issuer>| {
            let mut before = previous.into_iter().flat_map(|live| &live.introspectors);
            let kept = before.find(|of| of.is_same(issuer, &asked_claims)).cloned();
            let of_before = previous.into_iter().flat_map(|live| &live.introspectors);
            let mut of_before = of_before.filter(|of| of.issuer().issuer == issuer.issuer);
            let new = || {
                let before = of_before.next().map(Arc::as_ref);
                Introspector::new(issuer, &asked_claims, &issuer_source, clock, before).map(Arc::new)
            };
            kept.or_else(new)
        };
        let introspectors = snapshot.issuers.iter().filter_map(introspector_of).collect();
        let has_decoys = identities.iter().any(|identity| identity.is_decoy);
        let decoy = || Arc::new(ServerEntry::decoy(&snapshot.name, &identities, observer));
        let decoy = has_decoys.then(decoy);
        Ok(Self {
            number: BUILT.fetch_add(1, Ordering::Relaxed),
            decoy,
            limits: Arc::new(snapshot.limits.clone()),
            tokens: TokenTable::build(&snapshot.credentials),
            issuers,
            introspectors,
            seen_foreign: previous.map(|live| Arc::clone(&live.seen_foreign)).unwrap_or_default(),
            client_keys,
            gone_sources: GoneSources::after(
                previous.map(|live| (&live.gone_sources, &*live.config)),
                &snapshot,
                clock.now(),
            ),
            asked_claims,
            config: snapshot,
            issuer_source,
            idp,
            idp_fingerprint: OnceLock::new(),
            ledger: Arc::clone(ledger),
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
            vault,
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
    /// refusals take the same time, but for those of a session token, an access token or a password. `address` is where it comes from,
    /// `opened` what is known of session tokens and access tokens, and of those of issuers. Before one of an issuer is looked at that is
    /// not known, `may_ask` says whether that may be.
    pub fn identify<'a>(
        &'a self,
        presented: &'a Result<Presented<'_>, ErrorKind>,
        address: AddressBlock,
        opened: &'a RefCell<OpenedTokens>,
        may_ask: &dyn Fn() -> Result<(), Error>,
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
        // For the same reason.
        let foreign = match presented {
            Ok(Presented { claim: Claim::AnyToken, .. }) => self.foreign_digest(token),
            _ => None,
        };
        if let Some(caller) = foreign.and_then(|digest| self.known_foreign(&digest, opened)) {
            return Identified::Ready(Ok(caller));
        }
        let slot = match &foreign {
            Some(digest) => self.tokens.find_digest(&digest.bytes()),
            None => self.tokens.find(token),
        };
        Identified::Ready(match (slot, presented) {
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
            // Whether a secret is that of a name, or of a tenant, is not for an issuer to say.
            (None, Ok(Presented { claim: Claim::AnyToken, .. })) => match foreign {
                Some(digest) => return self.by_foreign((token, digest, address), opened, may_ask),
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

    /// Ends the logins of users and tokens that the config does not have, or with another secret, and what was allowed to clients by
    /// them, or to a client of an earlier config. What else the config takes tokens from is kept from then on.
    pub fn keep_logins(&self) {
        self.keep_logins_but(&HashSet::new());
    }

    /// The same of a store that was opened a moment ago, and of those whom it was taken away from before that.
    pub fn keep_logins_but(&self, taken_away: &HashSet<Principal>) {
        if let Some(grants) = self.logins.grants() {
            grants.keep(|principal, fingerprint, client| {
                !taken_away.contains(principal)
                    && self.has_principal(principal, fingerprint)
                    && !client.is_some_and(|client| self.takes_away(client))
            });
            self.keep_sources(grants);
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
            Principal::Idp(_) => self.has_person(principal, fingerprint),
            Principal::Nobody | Principal::Tenant(_) | Principal::Client(_) | Principal::Foreign(_) => false,
        }
    }

    /// The identity of somebody who logged in, and may still.
    pub fn identity_of(&self, principal: &Principal, fingerprint: Fingerprint) -> Option<Arc<Identity>> {
        self.logged_in(principal, fingerprint).map(|(identity, _)| identity)
    }

    /// The same, with how the config knows them.
    fn logged_in(
        &self,
        principal: &Principal,
        fingerprint: Fingerprint,
    ) -> Option<(Arc<Identity>, Standing)> {
        if let Principal::Idp(name) = principal {
            let person = self.person(principal, fingerprint)?;
            return Some((Arc::new(person), self.standing_of_person(name)));
        }
        let slot = self.slot_of_login(principal, fingerprint)?;
        Some((Arc::clone(&self.callers[slot].identity), Standing::Named(slot)))
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

    /// A principal of the config, as the first of its credentials has it, or of its identity provider.
    pub fn identity_named(&self, principal: &Principal) -> Option<Arc<Identity>> {
        match principal {
            Principal::Idp(_) => self.person_named(principal).map(Arc::new),
            _ => self.first_of(principal).map(|entry| Arc::clone(&entry.identity)),
        }
    }

    /// Whom such a principal counts for.
    pub fn owner_of(&self, principal: &Principal) -> Option<Arc<Owner>> {
        match principal {
            Principal::Idp(name) => Some(self.ledger.owner(OwnerName::Idp(Arc::clone(name)))),
            _ => self.first_of(principal).map(|entry| Arc::clone(&entry.owner)),
        }
    }

    /// Its first credential. Whoever found a decoy that has its name is somebody else.
    fn first_of(&self, principal: &Principal) -> Option<&CallerEntry> {
        let mut entries = self.slots_of(principal).iter().map(|slot| &self.callers[*slot]);
        entries.find(|entry| !entry.identity.is_decoy)
    }

    /// What tokens know the password of the user at this index by, or the token that is there; `None` as long as logins are not
    /// kept. It is made of a secret of the store, which may be opened after the config is in force.
    pub fn fingerprint(&self, slot: usize) -> Option<Fingerprint> {
        let CallerEntry { fingerprint: known, identity, .. } = &self.callers[slot];
        known.get().copied().or_else(|| {
            let fingerprint = match (self.user_at(slot), &identity.proof) {
                (Some(user), _) => self.logins.fingerprint(&user.password_hash),
                (None, Proof::StaticToken(digest)) => self.logins.fingerprint_of_token(digest),
                (None, Proof::Client(credential)) => self.logins.fingerprint_of_client(credential),
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
        self.user_in(*self.slots_of(&Principal::User(name.into())).first()?)
    }

    /// The user at this index, if it is one who may log in.
    pub(super) fn user_in(&self, slot: usize) -> Option<LoginUser<'_>> {
        let user = self.user_at(slot).filter(|user| !user.disabled)?;
        Some(LoginUser { user, slot, identity: Arc::clone(&self.callers[slot].identity) })
    }

    /// The user of a grant, who may still log in, and with the password of the grant.
    pub fn user_of_grant(&self, principal: &Principal, fingerprint: Fingerprint) -> Option<LoginUser<'_>> {
        self.slot_of_login(principal, fingerprint).and_then(|slot| self.user_in(slot))
    }

    /// The caller at this index, or who has no credential.
    pub fn caller(&self, slot: Option<usize>) -> Caller {
        let identity = slot.map_or(&self.nobody, |slot| &self.callers[slot].identity);
        let standing = slot.map_or(Standing::Nobody, Standing::Named);
        Caller { identity: Arc::clone(identity), standing }
    }

    /// The decision in full. What is kept of it for each request is [`ServerEntry::admits`].
    pub fn decide(&self, identity: &Identity, ask: &Ask<'_>) -> Decision {
        let now = Some(self.clock.now());
        decide(&Policy { servers: self, now, admin_sees_all: self.config.admin_sees_all }, identity, ask)
    }

    /// Whether the caller at this index is let in, and its credential has not expired.
    pub fn is_valid(&self, slot: usize) -> bool {
        let identity = &self.callers[slot].identity;
        !identity.is_disabled && identity.not_after.is_none_or(|end| self.clock.now() < end)
    }

    fn slots_of(&self, principal: &Principal) -> &[usize] {
        self.by_principal.get(principal).map_or(&[], Vec::as_slice)
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
        self.config.has_grants()
            || !self.config.issuers.is_empty()
            || self.callers.iter().any(|entry| entry.identity.not_after.is_some())
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
