//! What people do to their credentials for a server, and what other processes of the store have done: connect, enter a token, disconnect;
//! and that a server wants scopes. Whatever is in memory of one follows.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::spawn_local, time::sleep};

use super::{
    kept::{GivenBy, Kept},
    known::{Slot, Standing, Whose},
    oauth::{self, Discovered, TokenAnswer, TokenKind, UpstreamClient},
    ready::{Asker, Missing, NotReady, ReadyCredential},
    server::{ServerCredentials, held},
    vault::Told,
};
use crate::{
    config::UpstreamAuth,
    identity::login::upstream::{NotKept, StoreDown, UpstreamOwner, UpstreamRow, UpstreamState, Upstreams},
    secret::Secret,
};

/// Tries to write what others write at the same time.
const TRIES: usize = 8;
/// How often the store is asked what it has made of something, and the pauses.
const REREADS: u32 = 600;
const REREAD_AGAIN: Duration = Duration::from_secs(1);

/// What somebody has connected with.
pub struct ConnectedAs {
    /// What the authorization server gave.
    pub tokens: TokenAnswer,
    /// Who it is. A refresh asks there and nowhere else.
    pub discovered: Discovered,
    /// Who the gateway is there.
    pub client: UpstreamClient,
    /// What was asked for: it counts if the answer does not say what was granted.
    pub scopes: Vec<String>,
}

/// Why a token that somebody enters is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It is no text that may be one: `validation`, and 1 to 8,192 visible characters of ASCII.
    Invalid,
    /// It is not kept.
    NotKept(NotKept),
}

/// How it stands with the credential of somebody, for people to see. No part of it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// What can be done with it; `None`: there is none yet.
    pub is: Option<UpstreamState>,
    /// When its owner connected.
    pub since: Option<SystemTime>,
    /// When it ends by itself: nothing brings another.
    pub ends: Option<SystemTime>,
    /// What it is good for.
    pub scopes: Vec<String>,
    /// All that is to be asked for when its owner connects again.
    pub wanted: Vec<String>,
    /// What the account is called there.
    pub account: Option<Box<str>>,
    /// Who gave it.
    pub issuer: Option<Arc<str>>,
    /// The last four characters of a token that somebody entered, if it is long enough that they do not tell much of it.
    pub tail: Option<Box<str>>,
    /// It was lost three times in ten minutes: nothing is to be begun by itself.
    pub needs_attention: bool,
}

impl ServerCredentials {
    /// How it stands with the credential of `owner`, for people to see.
    pub async fn state(&self, owner: &UpstreamOwner) -> Result<CredentialState, StoreDown> {
        let upstreams = self.vault.upstreams().ok_or(StoreDown)?;
        let Some(row) = upstreams.get(owner, &self.server).await? else {
            return Ok(CredentialState::default());
        };
        let refused = |slot: &Slot| slot.is == Standing::Lacks(Missing::Reconnect);
        let is_refused = self.vault.known.get(&self.place_of_owner(owner), refused).unwrap_or(false);
        let kept = Kept::read(&row.body);
        let is = match (&kept, row.state) {
            (None, _) => UpstreamState::Reconnect,
            (Some(_), UpstreamState::Connected) if is_refused => UpstreamState::Reconnect,
            (Some(_), state) => state,
        };
        let mut state =
            CredentialState { is: Some(is), since: Some(row.since), ..CredentialState::default() };
        let Some(kept) = kept else { return Ok(state) };
        let renews = kept.tokens.as_ref().is_some_and(|tokens| tokens.refresh.is_some());
        state.ends = row.ends.filter(|_| !renews);
        state.wanted = kept.all_scopes();
        state.needs_attention = kept.needs_attention(self.vault.clock.now());
        state.issuer = kept.by.as_ref().map(|by| Arc::clone(&by.discovered.issuer));
        if kept.by.is_none() {
            let token = kept.tokens.as_ref().map(|tokens| tokens.access.expose());
            state.tail = token.and_then(tail).map(Into::into);
        }
        (state.scopes, state.account) = (kept.scopes, kept.account);
        Ok(state)
    }

    /// `owner` has connected. What ran with what they had before ends.
    pub async fn connect(self: &Arc<Self>, owner: &UpstreamOwner, with: ConnectedAs) -> Result<(), NotKept> {
        let ConnectedAs { tokens, discovered, client, scopes } = with;
        let issuer = Arc::clone(&discovered.issuer);
        let new = |connection, now, before: Option<&Kept>| {
            let by = GivenBy::new(discovered.clone(), &client);
            Kept::new(connection, tokens.clone(), Some(by), scopes.clone(), now, before)
        };
        self.begin_connection(owner, new).await?;
        self.vault.tell(Told::Connected, &self.server, owner, Some(&issuer), None);
        Ok(())
    }

    /// `owner` has entered a token. What ran with the one that they had before ends.
    pub async fn set_token(self: &Arc<Self>, owner: &UpstreamOwner, text: &str) -> Result<(), NotTaken> {
        let UpstreamAuth::UserToken(config) = &*self.config else { return Err(NotTaken::Invalid) };
        if !config.takes(text) {
            return Err(NotTaken::Invalid);
        }
        let new = |connection, now, before: Option<&Kept>| {
            let tokens = TokenAnswer {
                access: Secret::new(text.to_owned()),
                refresh: None,
                ends: None,
                scopes: None,
                account: None,
                fault: None,
            };
            Kept::new(connection, tokens, None, Vec::new(), now, before)
        };
        self.begin_connection(owner, new).await.map_err(NotTaken::NotKept)?;
        self.vault.tell(Told::Connected, &self.server, owner, None, None);
        Ok(())
    }

    async fn begin_connection(
        self: &Arc<Self>,
        owner: &UpstreamOwner,
        new: impl Fn([u8; 16], SystemTime, Option<&Kept>) -> Kept,
    ) -> Result<(), NotKept> {
        let upstreams = self.vault.upstreams().ok_or(NotKept::Down)?;
        let mut connection = [0; 16];
        getrandom::fill(&mut connection).map_err(|_| NotKept::Down)?;
        let place = self.place_of_owner(owner);
        for _ in 0..TRIES {
            let epoch = self.vault.known.epoch(&place);
            let there = upstreams.get(owner, &self.server).await?;
            let before = there.as_ref().and_then(|row| Kept::read(&row.body));
            let now = self.vault.clock.now();
            let mut kept = new(connection, now, before.as_ref());
            kept.origin = self.origin();
            let row = UpstreamRow {
                owner: owner.clone(),
                server: Arc::clone(&self.server),
                state: UpstreamState::Connected,
                body: kept.written(),
                version: 0,
                since: now,
                changed: now,
                ends: kept.tokens.as_ref().and_then(|tokens| tokens.ends),
            };
            match upstreams.put(row, there.map(|row| row.version)).await {
                Ok(Ok(version)) => {
                    self.vault.known.supersede(epoch, &place, |slot| {
                        *slot = Slot::default();
                        held(&kept, self.ready_of(&kept, version))(slot);
                    });
                    self.vault.note_change();
                    return Ok(());
                }
                // Somebody else has written it meanwhile.
                Ok(Err(_)) => {}
                Err(why) => {
                    // It may be written all the same.
                    self.reread_later(owner);
                    return Err(why);
                }
            }
        }
        Err(NotKept::Down)
    }

    /// `owner` has nothing any more. What ran with it ends, and its issuer is told. To be called on a worker.
    pub async fn disconnect(self: &Arc<Self>, owner: &UpstreamOwner) -> Result<(), StoreDown> {
        let upstreams = self.vault.upstreams().ok_or(StoreDown)?;
        let place = self.place_of_owner(owner);
        let epoch = self.vault.known.epoch(&place);
        let removed = match upstreams.remove(owner, &self.server).await {
            Ok(removed) => removed,
            Err(why) => {
                // It is meant in any case, and may be done later.
                self.reread_later(owner);
                return Err(why);
            }
        };
        let absent = self.absent();
        self.vault.known.supersede(epoch, &place, |slot| *slot = Slot::lacking(absent, None, None));
        self.vault.note_change();
        let Some(kept) = removed.and_then(|row| Kept::read(&row.body)) else { return Ok(()) };
        let issuer = kept.by.as_ref().map(|by| Arc::clone(&by.discovered.issuer));
        self.vault.tell(Told::Disconnected, &self.server, owner, issuer.as_deref(), None);
        self.revoke(kept);
        Ok(())
    }

    /// Has the issuer revoke what it gave, if it can do that. It is tried once, and nobody waits for it.
    pub(super) fn revoke(self: &Arc<Self>, kept: Kept) {
        let this = Arc::clone(self);
        let running = self.vault.run();
        drop(spawn_local(async move {
            let Kept { tokens: Some(tokens), by: Some(by), .. } = kept else { return };
            let Some(client) = this.oauth().and_then(|oauth| by.client(oauth)) else { return };
            let (token, kind) = match &tokens.refresh {
                Some(refresh) => (refresh, TokenKind::Refresh),
                None => (&tokens.access, TokenKind::Access),
            };
            let _ = oauth::revoke(&this.vault.outgoing(), &by.discovered, &client, token, kind).await;
            drop(running);
        }));
    }

    /// The store did not say whether it has written what somebody did. What it does, it does in turn, so that it is done, or never will be,
    /// once it answers again.
    fn reread_later(self: &Arc<Self>, owner: &UpstreamOwner) {
        self.vault.known.doubt(&self.place_of_owner(owner));
        self.vault.note_change();
        let (this, owner) = (Arc::clone(self), owner.clone());
        drop(spawn_local(async move {
            for _ in 0..REREADS {
                if this.reread(&owner).await.is_ok() {
                    break;
                }
                sleep(REREAD_AGAIN).await;
            }
        }));
    }

    /// What `owner` has may be another, or gone: what is in memory of it is read again. To be awaited anywhere.
    pub async fn reread(&self, owner: &UpstreamOwner) -> Result<(), StoreDown> {
        if !self.is_kept() {
            return Ok(());
        }
        let place = self.place_of_owner(owner);
        let before = self.vault.known.get(&place, |slot| slot.key).flatten();
        let epoch = self.vault.known.epoch(&place);
        let upstreams = self.vault.upstreams().ok_or(StoreDown)?;
        let row = upstreams.get(owner, &self.server).await?;
        let kept = row.as_ref().and_then(|row| Kept::read(&row.body));
        let now = kept.as_ref().map(Kept::key);
        self.vault.known.supersede(epoch, &place, |slot| match (&row, &kept) {
            (Some(row), Some(kept)) if kept.tokens.is_some() && self.is_for_here(kept) => {
                held(kept, self.ready_of(kept, row.version))(slot);
            }
            (Some(_), Some(_)) => *slot = Slot::lacking(Missing::Reconnect, now, None),
            (Some(_), None) => *slot = Slot::default(),
            (None, _) => *slot = Slot::lacking(self.absent(), None, None),
        });
        if now != before {
            self.vault.note_change();
        }
        Ok(())
    }

    /// The same of everybody of whom something is in memory.
    pub async fn reread_all(&self) -> Result<(), StoreDown> {
        for whose in self.vault.known.of_server(self.number) {
            match whose {
                Whose::Everyone => self.reread(&UpstreamOwner::Everyone).await?,
                Whose::Principal(principal) => self.reread(&UpstreamOwner::Principal(principal)).await?,
                Whose::Subject(_) => {}
            }
        }
        Ok(())
    }

    /// The server wants scopes: what there is stays good for what it is good for.
    pub(super) async fn lacks(
        &self,
        asker: &Asker<'_>,
        used: &ReadyCredential,
        scopes: Vec<String>,
    ) -> NotReady {
        const DOWN: NotReady = NotReady::Unavailable("credentials cannot be kept at present");
        let is_connected = matches!(&*self.config, UpstreamAuth::UserOauth(_) | UpstreamAuth::SharedOauth(_));
        let Some(upstreams) = self.vault.upstreams().filter(|_| is_connected) else {
            return NotReady::Refused("the server wants scopes that the config does not ask for");
        };
        let owner = self.owner(asker.principal);
        let wanted = self.note_wanted(upstreams, &owner, used, scopes).await;
        let missing = match wanted {
            Ok(WantedScopes::More(all)) => Missing::Scopes(all),
            Ok(WantedScopes::Granted) => {
                return NotReady::Refused("the server wants scopes that the credential has");
            }
            Ok(WantedScopes::Gone) => Missing::Reconnect,
            Err(_) => return DOWN,
        };
        self.vault.tell_missing(&self.server, &owner, &missing);
        missing.into()
    }

    /// Keeps that these scopes are wanted, if they were not granted: who asks again for what they have goes in a circle.
    async fn note_wanted(
        &self,
        upstreams: &Upstreams,
        owner: &UpstreamOwner,
        used: &ReadyCredential,
        scopes: Vec<String>,
    ) -> Result<WantedScopes, NotKept> {
        let place = self.place_of_owner(owner);
        for _ in 0..TRIES {
            let epoch = self.vault.known.epoch(&place);
            let Some(row) = upstreams.get(owner, &self.server).await? else { return Ok(WantedScopes::Gone) };
            let Some(mut kept) = Kept::read(&row.body).filter(|kept| kept.key() == used.key) else {
                return Ok(WantedScopes::Gone);
            };
            if !scopes.is_empty() && scopes.iter().all(|scope| kept.scopes.contains(scope)) {
                return Ok(WantedScopes::Granted);
            }
            let is_new = kept.wants(scopes.clone()) || row.state != UpstreamState::NeedsScopes;
            let all = kept.all_scopes();
            if !is_new {
                return Ok(WantedScopes::More(all));
            }
            let (state, changed) = (UpstreamState::NeedsScopes, self.vault.clock.now());
            let expected = Some(row.version);
            let row = UpstreamRow { state, changed, body: kept.written(), ..row };
            if let Ok(version) = upstreams.put(row, expected).await? {
                // Changed since: it is read again by whoever wants it.
                let _ = self.hold(epoch, &place, &kept, version);
                return Ok(WantedScopes::More(all));
            }
        }
        Err(NotKept::Down)
    }
}

/// What comes of it that a server wants scopes.
enum WantedScopes {
    /// All that is to be asked for.
    More(Vec<String>),
    /// They were granted.
    Granted,
    /// There is nothing that could have more.
    Gone,
}

/// The end of a token, for its owner to know it by.
fn tail(token: &str) -> Option<&str> {
    const LENGTH: usize = 4;
    token.get(token.len().checked_sub(LENGTH)?..).filter(|_| token.len() >= 5 * LENGTH)
}
