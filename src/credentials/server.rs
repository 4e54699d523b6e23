//! The credentials of one server, as one config has it.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, header};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::{
    kept::Kept,
    known::{Place, Slot, Standing, Step, Whose},
    oauth::{self, Challenge, Discovered, OauthError, Purpose, UpstreamClient},
    ready::{Asker, Missing, NotReady, ReadyCredential, sensitive},
    vault::{Flying, Outcome, Vault, landed},
};
use crate::{
    config::{
        ExchangeSubject, Passthrough, ResourceParameter, Server, Target, TokenExchange, TokenPlace,
        UpstreamAuth, UpstreamOauth,
    },
    identity::{
        Principal,
        credential_key::CredentialKey,
        login::upstream::{StoreDown, UpstreamOwner},
    },
    secret::Secret,
};

/// How long what is known of an authorization server is not looked at again.
const DISCOVERED: Duration = Duration::from_secs(3600);
/// How long a credential that was renewed because the server refused it is not renewed for that again.
const AGAIN: Duration = Duration::from_secs(10);
/// The credentials of one server. A reload that leaves `upstreamAuth` and the URL as they are takes it over.
pub struct ServerCredentials {
    /// No other server of any config has it.
    pub(super) number: u64,
    pub(super) server: Arc<str>,
    /// Where the server is, if it is reached over HTTP.
    url: Option<Url>,
    pub(super) config: Arc<UpstreamAuth>,
    /// Fields of a client's request that never pass, since others go in their place.
    replaced: Box<[HeaderName]>,
    pub(super) vault: Arc<Vault>,
    discovered: Mutex<Option<(Instant, Arc<Discovered>)>>,
}

/// What is wanted of a task that gets a credential.
pub(super) struct Wanted {
    pub(super) place: Place,
    pub(super) owner: UpstreamOwner,
    /// What is exchanged.
    pub(super) subject: Option<Secret>,
    /// The server refused the one of this version.
    pub(super) refused: Option<u64>,
    /// Of the place, when the store was read last.
    pub(super) epoch: u64,
}

/// Somebody has changed what the store has, after it was read.
#[derive(Debug)]
pub(super) struct Changed;

impl ServerCredentials {
    /// Those of `server`, which has `config` for that; `kept` are those of the server of this name before.
    pub fn build(
        server: &Server,
        config: &Arc<UpstreamAuth>,
        kept: Option<&Arc<Self>>,
        vault: &Arc<Vault>,
    ) -> Arc<Self> {
        let url = match &server.target {
            Target::Http(target) => Some(target.url.clone()),
            Target::Stdio(_) | Target::Inline(_) => None,
        };
        let is_same =
            |kept: &&Arc<Self>| kept.config == *config && kept.url == url && Arc::ptr_eq(&kept.vault, vault);
        if let Some(kept) = kept.filter(is_same) {
            return Arc::clone(kept);
        }
        let fields = config.places().iter().filter_map(|place| match place {
            TokenPlace::Header(field) => Some(field.header.clone()),
            TokenPlace::Env { .. } => None,
        });
        let replaced = match &**config {
            UpstreamAuth::Passthrough(passthrough) => {
                [header::AUTHORIZATION, passthrough.from.clone()].into()
            }
            _ => fields.collect(),
        };
        Arc::new(Self {
            number: vault.next_number(),
            server: Arc::clone(&server.name),
            url,
            config: Arc::clone(config),
            replaced,
            vault: Arc::clone(vault),
            discovered: Mutex::default(),
        })
    }

    /// As configured.
    pub fn config(&self) -> &Arc<UpstreamAuth> {
        &self.config
    }

    /// Name of the server.
    pub fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Fields of a client's request that never pass to the server, whatever goes in their place.
    pub fn replaced(&self) -> &[HeaderName] {
        &self.replaced
    }

    /// Whether the server itself says to the client whether it takes the credential, which is the client's.
    pub fn is_the_clients(&self) -> bool {
        matches!(*self.config, UpstreamAuth::Passthrough(_))
    }

    /// Whether it is kept in the store, because somebody has connected, or entered it.
    pub fn is_kept(&self) -> bool {
        match &*self.config {
            UpstreamAuth::UserOauth(_) | UpstreamAuth::SharedOauth(_) | UpstreamAuth::UserToken(_) => true,
            UpstreamAuth::ClientCredentials(_) | UpstreamAuth::Exchange(_) | UpstreamAuth::Passthrough(_) => {
                false
            }
        }
    }

    /// Whose the credential is that the server is called with for a principal.
    pub fn owner(&self, principal: &Principal) -> UpstreamOwner {
        match self.config.is_per_principal() {
            true => UpstreamOwner::Principal(principal.clone()),
            false => UpstreamOwner::Everyone,
        }
    }

    /// Which credential the server is called with for a principal, as far as that is known here: whoever keeps something for it asks
    /// [`Self::obtain`] first, and takes the key from what that gives. Without a connection it is a key of the principal's own. All callers
    /// of a `shared_oauth` have that of the connection, so that what runs by it ends with it. [`CredentialKey::STATIC`] is that of
    /// `client_credentials`, which nobody connects.
    pub fn key(&self, principal: &Principal) -> CredentialKey {
        let without = || self.key_without_connection(principal);
        match self.is_kept() {
            true => self.known_key(principal).flatten().unwrap_or_else(without),
            false => without(),
        }
    }

    /// Whether what was begun with this credential may go on: it is the one that the server is called with for the principal. What is not
    /// known here is not gone.
    pub fn is_current(&self, principal: &Principal, key: CredentialKey) -> bool {
        match self.known_key(principal).filter(|_| self.is_kept()) {
            Some(current) => current.unwrap_or_else(|| self.key_without_connection(principal)) == key,
            None => true,
        }
    }

    /// The key of the connection, if there is one; `None` if nobody has looked.
    fn known_key(&self, principal: &Principal) -> Option<Option<CredentialKey>> {
        let is_known = |slot: &Slot| (slot.is != Standing::Unread || slot.key.is_some()).then_some(slot.key);
        self.vault.known.get(&self.place_of(principal), is_known).flatten()
    }

    /// It is not that of any connection, which are random.
    fn key_without_connection(&self, principal: &Principal) -> CredentialKey {
        self.key_of_owner(&self.owner(principal))
    }

    pub(super) fn key_of_owner(&self, owner: &UpstreamOwner) -> CredentialKey {
        match &*self.config {
            UpstreamAuth::ClientCredentials(_) => CredentialKey::STATIC,
            _ => key_of(&[owner.to_string().as_bytes()]),
        }
    }

    fn place_of(&self, principal: &Principal) -> Place {
        let whose = match self.config.is_per_principal() {
            true => Whose::Principal(principal.clone()),
            false => Whose::Everyone,
        };
        Place { server: self.number, whose }
    }

    pub(super) fn place_of_owner(&self, owner: &UpstreamOwner) -> Place {
        let whose = match owner {
            UpstreamOwner::Everyone => Whose::Everyone,
            UpstreamOwner::Principal(principal) => Whose::Principal(principal.clone()),
        };
        Place { server: self.number, whose }
    }

    /// The credential of a principal, if it can be sent as it is: one look-up.
    pub fn ready(&self, principal: &Principal) -> Option<Arc<ReadyCredential>> {
        match &*self.config {
            // That depends on what the caller brought.
            UpstreamAuth::Exchange(_) | UpstreamAuth::Passthrough(_) => None,
            _ => {
                let now = self.vault.clock.now();
                self.vault.known.get(&self.place_of(principal), |slot| slot.ready_at(now)).flatten()
            }
        }
    }

    /// The credential for `asker`, who waits for it only if there is none that is good: one that is about to end is refreshed meanwhile. To
    /// be called on a worker.
    pub async fn obtain(self: &Arc<Self>, asker: &Asker<'_>) -> Outcome {
        if let UpstreamAuth::Passthrough(passthrough) = &*self.config {
            return Ok(self.passed_through(passthrough, asker));
        }
        let wanted = self.wanted(asker, None)?;
        let now = self.vault.clock.now();
        let step = self.vault.known.get(&wanted.place, |slot| slot.step(now)).unwrap_or(Step::Wait);
        let owner = wanted.owner.clone();
        let outcome = match step {
            Step::Send(ready) => Ok(ready),
            Step::Renew(ready) => {
                drop(self.begin(wanted));
                Ok(ready)
            }
            Step::Wait => landed(self.begin(wanted)).await,
            Step::Fail(why) => Err(NotReady::Unavailable(why)),
            Step::Lack(missing) => Err(missing.into()),
        };
        if let Err(NotReady::Missing(missing)) = &outcome {
            self.vault.tell_missing(&self.server, &owner, missing);
        }
        outcome
    }

    /// Another credential in place of `used`, which the server has refused by this challenge: by 401, or by 403 for want of scopes. It says
    /// that nothing was done, so the request may be sent once more.
    pub async fn refused(
        self: &Arc<Self>,
        asker: &Asker<'_>,
        used: &ReadyCredential,
        challenge: Option<&Challenge>,
    ) -> Outcome {
        const WHY: &str = "the server refuses a credential that is as new as it can be";
        if let Some(challenge) = challenge.filter(|challenge| challenge.wants_scopes()) {
            return Err(self.lacks(asker, used, challenge.scopes()).await);
        }
        let Some(flying) = self.begin_refused(asker, used)? else {
            return Err(NotReady::Refused(WHY));
        };
        let mut outcome = landed(flying).await;
        let is_same = |outcome: &Outcome| matches!(outcome, Ok(ready) if ready.version == used.version);
        // Somebody was at it already, who did not know that it is refused.
        if is_same(&outcome)
            && let Some(flying) = self.begin_refused(asker, used)?
        {
            outcome = landed(flying).await;
        }
        if is_same(&outcome) { Err(NotReady::Refused(WHY)) } else { outcome }
    }

    /// The same for one who cannot wait for another, since the request cannot be sent once more: the next one has it.
    pub fn note_refused(self: &Arc<Self>, asker: &Asker<'_>, used: &ReadyCredential) {
        let _ = self.begin_refused(asker, used);
    }

    /// Another in place of `used`, on its way; `None` if it was renewed for that a moment ago.
    fn begin_refused(
        self: &Arc<Self>,
        asker: &Asker<'_>,
        used: &ReadyCredential,
    ) -> Result<Option<Flying>, NotReady> {
        if self.is_the_clients() {
            return Err(NotReady::Refused("the server refuses what the caller brought"));
        }
        let wanted = self.wanted(asker, Some(used.version))?;
        let now = self.vault.clock.now();
        let was_renewed = |slot: &Slot| {
            let is_this = slot.ready.as_ref().is_none_or(|ready| ready.version == used.version);
            is_this && slot.refused.is_some_and(|at| now < at + AGAIN)
        };
        let was_renewed = self.vault.known.get(&wanted.place, was_renewed).unwrap_or(false);
        Ok((!was_renewed).then(|| self.begin(wanted)))
    }

    fn begin(self: &Arc<Self>, wanted: Wanted) -> Flying {
        let place = wanted.place.clone();
        let this = Arc::clone(self);
        self.vault.join(&place, || async move { this.fly(wanted).await })
    }

    fn wanted(&self, asker: &Asker<'_>, refused: Option<u64>) -> Result<Wanted, NotReady> {
        const NOBODY_SIGNS_IN: &str = "the server is called with an account of each caller's own, and users, named tokens and people of the \
                                       identity provider alone sign in here to connect one";
        if self.is_kept() && self.config.is_per_principal() && !signs_in(asker.principal) {
            return Err(Missing::NoSubject(NOBODY_SIGNS_IN).into());
        }
        let owner = self.owner(asker.principal);
        let (place, subject) = match &*self.config {
            UpstreamAuth::Exchange(exchange) => {
                let subject = subject(exchange, asker)?;
                let whose = Whose::Subject(Sha256::digest(subject.expose()).into());
                (Place { server: self.number, whose }, Some(subject.clone()))
            }
            _ => (self.place_of(asker.principal), None),
        };
        let epoch = self.vault.known.epoch(&place);
        Ok(Wanted { place, owner, subject, refused, epoch })
    }

    /// The field that the caller brought, as it is. Without one nothing goes out, and the server says what it wants.
    fn passed_through(&self, passthrough: &Passthrough, asker: &Asker<'_>) -> Arc<ReadyCredential> {
        let mut values = asker.incoming.into_iter().flat_map(|fields| fields.get_all(&passthrough.from));
        // Of several, nobody knows which the server would take.
        let value = values.next().filter(|_| values.next().is_none());
        let value = value.and_then(|value| sensitive(value.as_bytes()));
        let key = match &value {
            Some(value) => key_of(&[asker.principal.to_string().as_bytes(), value.as_bytes()]),
            None => self.key_without_connection(asker.principal),
        };
        Arc::new(ReadyCredential {
            fields: value.map(|value| (header::AUTHORIZATION, value)).into_iter().collect(),
            env: Vec::new(),
            key,
            version: 0,
            got: self.vault.clock.now(),
            ends: None,
        })
    }

    /// What the gateway is as a client of the server's authorization server, if it is one.
    pub fn oauth(&self) -> Option<&UpstreamOauth> {
        match &*self.config {
            UpstreamAuth::ClientCredentials(oauth)
            | UpstreamAuth::UserOauth(oauth)
            | UpstreamAuth::SharedOauth(oauth) => Some(oauth),
            UpstreamAuth::UserToken(_) | UpstreamAuth::Exchange(_) | UpstreamAuth::Passthrough(_) => None,
        }
    }

    /// The authorization server of the server. What is known is looked at again after an hour, after [`Self::forget_discovered`], and for
    /// a challenge that says where to look.
    pub async fn discovered(&self, challenge: Option<&Challenge>) -> Result<Arc<Discovered>, OauthError> {
        const NONE: OauthError = OauthError::Broken("there is no authorization server in `upstreamAuth`");
        let oauth = self.oauth().ok_or(NONE)?;
        let purpose = match &*self.config {
            UpstreamAuth::ClientCredentials(_) => Purpose::ClientCredentials,
            _ => Purpose::Code,
        };
        let mut known = self.discovered.lock().await;
        if let Some((at, discovered)) = &*known
            && at.elapsed() < DISCOVERED
            && challenge.is_none_or(|challenge| challenge.resource_metadata.is_none())
        {
            return Ok(Arc::clone(discovered));
        }
        // Of a command, the config says it all.
        let url = self.url.as_ref().or(oauth.token_url.as_ref()).ok_or(NONE)?;
        let mut found = oauth::discover(&self.vault.outgoing(), oauth, purpose, url, challenge).await?;
        // A command is at no URL that a token could be for.
        if self.url.is_none() && oauth.resource == ResourceParameter::Auto {
            found.resource = None;
        }
        let found = Arc::new(found);
        *known = Some((Instant::now(), Arc::clone(&found)));
        Ok(found)
    }

    /// Something failed by what is known of the authorization server, or the server takes nothing of it any more: it may be another now,
    /// and is looked at again.
    pub fn forget_discovered(&self) {
        // Whoever has it locked looks at it now.
        if let Ok(mut discovered) = self.discovered.try_lock() {
            *discovered = None;
        }
    }

    /// Who the gateway is at this authorization server: one that registers is kept, and is the same the next time.
    pub async fn client(&self, discovered: &Discovered) -> Result<UpstreamClient, OauthError> {
        const NONE: OauthError = OauthError::Broken("there is no client in `upstreamAuth`");
        let oauth = self.oauth().ok_or(NONE)?;
        let issuer = &*discovered.issuer;
        let mut registered = None;
        if let Some(upstreams) = self.vault.upstreams().filter(|_| oauth.client_id.is_none()) {
            let kept = upstreams.client(&self.server, issuer).await;
            let down = |StoreDown| OauthError::Unavailable("credentials cannot be kept at present");
            registered = kept.map_err(down)?.and_then(|body| UpstreamClient::read(&body, &oauth.client_key));
        }
        let before = registered.clone();
        let client = oauth::client(
            &self.vault.outgoing(),
            oauth,
            discovered,
            oauth.redirect_uri.as_deref().unwrap_or_default(),
            registered,
            GATEWAY,
        )
        .await?;
        if client.is_registered
            && before.as_ref() != Some(&client)
            && let Some(upstreams) = self.vault.upstreams()
        {
            let kept = upstreams.put_client(&self.server, issuer, client.written()).await;
            kept.map_err(|_| OauthError::Unavailable("the registered client cannot be kept at present"))?;
        }
        Ok(client)
    }

    /// What was read since `epoch` is known from now on. `None`: it cannot be sent.
    pub(super) fn hold(
        &self,
        epoch: u64,
        place: &Place,
        kept: &Kept,
        version: u64,
    ) -> Result<Option<Arc<ReadyCredential>>, Changed> {
        let ready = self.ready_of(kept, version);
        let held = held(kept, ready.clone());
        self.vault.known.change_since(epoch, place, held).ok_or(Changed).map(|()| ready)
    }

    pub(super) fn ready_of(&self, kept: &Kept, version: u64) -> Option<Arc<ReadyCredential>> {
        kept.ready(self.config.places(), kept.key(), version).map(Arc::new)
    }

    /// People have to act from now on, by what was read since `epoch`.
    pub(super) fn lack(
        &self,
        epoch: u64,
        place: &Place,
        missing: Missing,
        key: Option<CredentialKey>,
    ) -> Result<(), Changed> {
        let lacks = |slot: &mut Slot| *slot = Slot::lacking(missing, key, None);
        self.vault.known.change_since(epoch, place, lacks).ok_or(Changed)
    }

    /// Whether what was kept is for this server as the config has it now: of this kind, for where it is, from whom the config names.
    /// A token that is for another place is nobody's business here.
    pub(super) fn is_for_here(&self, kept: &Kept) -> bool {
        let is_entered = matches!(*self.config, UpstreamAuth::UserToken(_));
        if kept.origin != self.origin() {
            return false;
        }
        match (&kept.by, self.oauth()) {
            (None, _) => is_entered,
            (Some(_), None) => false,
            (Some(by), Some(oauth)) => {
                let at = &by.discovered;
                oauth.issuer.as_ref().is_none_or(|issuer| *issuer == at.issuer)
                    && oauth.token_url.as_ref().is_none_or(|url| *url == at.token)
            }
        }
    }

    /// Where the server is: scheme, host and port.
    pub(super) fn origin(&self) -> Option<String> {
        self.url.as_ref().map(|url| url.origin().ascii_serialization())
    }

    /// What there is before somebody has connected.
    pub(super) fn absent(&self) -> Missing {
        match &*self.config {
            UpstreamAuth::UserToken(_) => Missing::Token,
            _ => Missing::Awaiting,
        }
    }
}

/// Makes a slot one of what is kept.
pub(super) fn held(kept: &Kept, ready: Option<Arc<ReadyCredential>>) -> impl FnOnce(&mut Slot) {
    let (key, due) = (kept.key(), kept.due());
    move |slot| {
        slot.is = Standing::Held;
        (slot.key, slot.ready, slot.due, slot.pause) = (Some(key), ready, due, None);
    }
}

/// What the gateway is called where it registers.
const GATEWAY: &str = "Sluicegate";

impl Drop for ServerCredentials {
    fn drop(&mut self) {
        self.vault.known.forget_server(self.number);
    }
}

/// What is exchanged: a token that the gateway has verified, of whoever is at the other end of this request.
fn subject<'a>(exchange: &TokenExchange, asker: &Asker<'a>) -> Result<&'a Secret, Missing> {
    match exchange.subject {
        ExchangeSubject::Caller => asker.foreign_token.ok_or(Missing::NoSubject(
            "the server is for callers with a token of an issuer of proxy.auth.issuers, which is exchanged for one of the server's",
        )),
        ExchangeSubject::Login => {
            Err(Missing::NoSubject("a login keeps no token that could be exchanged for one of the server's"))
        }
    }
}

/// Whether somebody can sign in at the pages of the gateway.
fn signs_in(principal: &Principal) -> bool {
    match principal {
        Principal::User(_) | Principal::Token(_) | Principal::Idp(_) => true,
        Principal::Nobody | Principal::Tenant(_) | Principal::Client(_) | Principal::Foreign(_) => false,
    }
}

fn key_of(parts: &[&[u8]]) -> CredentialKey {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    CredentialKey::of_caller(id)
}
