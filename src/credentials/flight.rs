//! How a credential is got: read, refreshed, asked for, exchanged. One task does it, for all who wait.
//!
//! What a refresh gives is saved first and judged later: an issuer that gives another refresh token each time has forgotten the one
//! before. What it refuses is lost, and its owner has to connect again. That it cannot be asked is nothing that is lost: what is there
//! is used to its end, and it is asked again after pauses that grow.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{task::spawn_local, time::sleep};

use super::{
    kept::{self, GivenBy, Kept},
    known::{Pause, Slot, Standing},
    oauth::{self, Discovered, OauthError, OauthRefusal, Purpose, SubjectKind, TokenAnswer, UpstreamClient},
    ready::{Missing, NotReady, ReadyCredential},
    server::{Changed, ServerCredentials, Wanted},
    vault::{Outcome, Told},
};
use crate::{
    config::{TokenExchange, UpstreamAuth, UpstreamOauth},
    identity::{
        credential_key::CredentialKey,
        login::upstream::{NotKept, StoreDown, UpstreamOwner, UpstreamRow, UpstreamState, Upstreams},
    },
};

const DOWN: NotReady = NotReady::Unavailable("credentials cannot be kept at present");
/// How often it is looked whether another process has refreshed it, and how many times: as long as that has it for itself, and a bit.
const LOOK: Duration = Duration::from_millis(200);
const MOST_LOOKS: u32 = 320;
/// How often what a refresh gave is offered to a store that takes nothing, and the pauses.
const SAVES: u32 = 20;
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// How long a credential is not sent that the server refused, and that nothing renews.
const REFUSED: Duration = Duration::from_secs(60);

/// What is to be done about what the store has.
enum Verdict {
    /// Nothing.
    Ready(Arc<ReadyCredential>),
    /// It is refreshed.
    Refresh(Box<(UpstreamRow, Kept)>),
    /// It is worth nothing any more, for this reason.
    Lose(Box<(UpstreamRow, Kept)>, &'static str),
    /// It is read again: somebody has changed it meanwhile.
    Again,
}

/// Why there is nobody to ask for a refresh.
enum NoGiver {
    /// The config names somebody else by now.
    Changed(&'static str),
    Unavailable(&'static str),
}

impl ServerCredentials {
    /// Gets what is wanted.
    pub(super) async fn fly(self: Arc<Self>, mut wanted: Wanted) -> Outcome {
        let config = Arc::clone(&self.config);
        match &*config {
            UpstreamAuth::UserOauth(_) | UpstreamAuth::SharedOauth(_) | UpstreamAuth::UserToken(_) => {
                self.kept_for(&mut wanted).await
            }
            UpstreamAuth::ClientCredentials(oauth) => self.by_client(oauth, &wanted).await,
            UpstreamAuth::Exchange(exchange) => self.exchanged(exchange, &wanted).await,
            UpstreamAuth::Passthrough(_) => Err(NotReady::Unavailable("the caller brings it")),
        }
    }

    /// What the store has, which is refreshed if it has to be.
    async fn kept_for(self: &Arc<Self>, wanted: &mut Wanted) -> Outcome {
        let upstreams = self.vault.upstreams().ok_or(DOWN)?;
        let mut looks = 0;
        loop {
            wanted.epoch = self.vault.known.epoch(&wanted.place);
            let wanted = &*wanted;
            let row = upstreams.get(&wanted.owner, &self.server).await.map_err(|StoreDown| DOWN)?;
            let (row, kept) = match self.judge(wanted, row)? {
                Verdict::Ready(ready) => return Ok(ready),
                Verdict::Lose(lost, why) => match self.lose(upstreams, wanted, *lost, why).await {
                    Some(outcome) => return outcome,
                    None => continue,
                },
                Verdict::Refresh(due) => *due,
                Verdict::Again => continue,
            };
            if let Some(outcome) = self.paused(wanted, &row, &kept) {
                return outcome;
            }
            let giver = match (self.oauth(), &kept.by) {
                (Some(oauth), Some(by)) => self.giver(oauth, by).await,
                _ => Err(NoGiver::Changed("the config has no authorization server for it any more")),
            };
            let (discovered, client) = match giver {
                Ok(giver) => giver,
                Err(NoGiver::Unavailable(why)) => return self.fail(wanted, Some((&row, &kept)), why),
                Err(NoGiver::Changed(why)) => match self.lose(upstreams, wanted, (row, kept), why).await {
                    Some(outcome) => return outcome,
                    None => continue,
                },
            };
            let now = self.vault.clock.now();
            let is_ours = upstreams.lock(&wanted.owner, &self.server, now).await.map_err(|StoreDown| DOWN)?;
            if !is_ours {
                looks += 1;
                if looks > MOST_LOOKS {
                    return self.fail(
                        wanted,
                        Some((&row, &kept)),
                        "another gateway is at it, and does not end",
                    );
                }
                sleep(LOOK).await;
                continue;
            }
            // Another may have done it between the look and the lock.
            let again = upstreams.get(&wanted.owner, &self.server).await.map_err(|StoreDown| DOWN)?;
            if again.as_ref().map(|again| again.version) != Some(row.version) {
                let _ = upstreams.unlock(&wanted.owner, &self.server).await;
                continue;
            }
            if let Some(outcome) = self.refresh(upstreams, wanted, (row, kept), (discovered, client)).await {
                return outcome;
            }
        }
    }

    /// What is to be done about what the store has. What can be sent is known from then on.
    fn judge(&self, wanted: &Wanted, row: Option<UpstreamRow>) -> Result<Verdict, NotReady> {
        let now = self.vault.clock.now();
        let Some(row) = row else {
            return match self.lack(wanted.epoch, &wanted.place, self.absent(), None) {
                Ok(()) => Err(self.absent().into()),
                Err(Changed) => Ok(Verdict::Again),
            };
        };
        let Some(kept) = Kept::read(&row.body) else {
            return Err(NotReady::Unavailable("what is kept of the credential cannot be read"));
        };
        let is_usable = row.state != UpstreamState::Reconnect && self.is_for_here(&kept);
        let Some(tokens) = kept.tokens.as_ref().filter(|_| is_usable) else {
            return match self.lack(wanted.epoch, &wanted.place, Missing::Reconnect, Some(kept.key())) {
                Ok(()) => Err(Missing::Reconnect.into()),
                Err(Changed) => Ok(Verdict::Again),
            };
        };
        let ready = kept.ready(self.config.places(), kept.key(), row.version);
        let is_good = ready.is_some_and(|ready| ready.is_good(now));
        let is_refused = wanted.refused == Some(row.version);
        let is_due = kept.due().is_some_and(|due| due <= now);
        match (is_good, tokens.refresh.is_some()) {
            (true, _) if !is_due && !is_refused => {
                match self.hold(wanted.epoch, &wanted.place, &kept, row.version) {
                    Ok(Some(ready)) => Ok(Verdict::Ready(ready)),
                    Ok(None) => Err(NotReady::Unavailable("it cannot be sent")),
                    Err(Changed) => Ok(Verdict::Again),
                }
            }
            (_, true) => Ok(Verdict::Refresh(Box::new((row, kept)))),
            // Of an account that all callers have, one of them does not have it refused for the others.
            (true, false) if wanted.owner == UpstreamOwner::Everyone => Err(NotReady::Refused(
                "the server refuses what an admin has connected, and nothing renews it",
            )),
            (true, false) => {
                // The server may err. It is not thrown away, and tried again after a while.
                let pause = Pause::of(REFUSED, now, "the server refuses it");
                self.forget_discovered();
                let lacks = self.vault.known.change_since(wanted.epoch, &wanted.place, |slot| {
                    *slot = Slot::lacking(Missing::Reconnect, Some(kept.key()), Some(pause));
                });
                if lacks.is_none() {
                    return Ok(Verdict::Again);
                }
                let issuer = kept.by.as_ref().map(|by| &*by.discovered.issuer);
                self.vault.tell(
                    Told::Failed,
                    &self.server,
                    &wanted.owner,
                    issuer,
                    Some("the server refuses it"),
                );
                Err(Missing::Reconnect.into())
            }
            (false, false) => Ok(Verdict::Lose(Box::new((row, kept)), "it has ended, and nothing renews it")),
        }
    }

    /// What comes of it while nothing is tried.
    fn paused(&self, wanted: &Wanted, row: &UpstreamRow, kept: &Kept) -> Option<Outcome> {
        let now = self.vault.clock.now();
        let pause = self.vault.known.get(&wanted.place, |slot| slot.pause).flatten();
        let pause = pause.filter(|pause| now < pause.until)?;
        Some(self.meanwhile(wanted, Some((row, kept)), pause))
    }

    /// It could not be got. What is there is sent to its end, unless it is that which the server refuses.
    fn fail(&self, wanted: &Wanted, there: Option<(&UpstreamRow, &Kept)>, why: &'static str) -> Outcome {
        let now = self.vault.clock.now();
        let before = self.vault.known.get(&wanted.place, |slot| slot.pause).flatten();
        let issuer = there.and_then(|(_, kept)| kept.by.as_ref()).map(|by| &*by.discovered.issuer);
        self.vault.tell(Told::Failed, &self.server, &wanted.owner, issuer, Some(why));
        self.meanwhile(wanted, there, Pause::after(before, now, why))
    }

    fn meanwhile(&self, wanted: &Wanted, there: Option<(&UpstreamRow, &Kept)>, pause: Pause) -> Outcome {
        const CHANGED: NotReady = NotReady::Unavailable("it was changed while it was being got");
        let now = self.vault.clock.now();
        if let Some((row, kept)) = there {
            // What was read a while ago may be gone.
            self.hold(wanted.epoch, &wanted.place, kept, row.version).map_err(|Changed| CHANGED)?;
        }
        let ready = self.vault.known.change_since(wanted.epoch, &wanted.place, |slot| {
            slot.pause = Some(pause);
            slot.ready.clone()
        });
        let ready = ready.ok_or(CHANGED)?;
        let is_usable =
            |ready: &Arc<ReadyCredential>| ready.is_good(now) && wanted.refused != Some(ready.version);
        ready.filter(is_usable).ok_or(NotReady::Unavailable(pause.why))
    }

    /// Who is asked for a refresh, and by whom: those who gave it, unless the config names others by now.
    async fn giver(
        &self,
        oauth: &UpstreamOauth,
        by: &GivenBy,
    ) -> Result<(Discovered, UpstreamClient), NoGiver> {
        const OTHER_ISSUER: NoGiver = NoGiver::Changed("the config names another issuer by now");
        const OTHER_CLIENT: NoGiver = NoGiver::Changed("the config names another client by now");
        let unavailable = |why: OauthError| NoGiver::Unavailable(why.reason());
        let issuer = &by.discovered.issuer;
        if oauth.issuer.as_ref().is_some_and(|named| named != issuer) {
            return Err(OTHER_ISSUER);
        }
        let mut discovered = by.discovered.clone();
        if let (Some(token), Some(_)) = (&oauth.token_url, &oauth.authorization_url) {
            // The config says where all is: nothing is looked for.
            let now = oauth::discover(&self.vault.outgoing(), oauth, Purpose::Code, token, None).await;
            let resource = discovered.resource;
            discovered = now.map_err(unavailable)?;
            discovered.resource = resource;
            if discovered.issuer != *issuer {
                return Err(OTHER_ISSUER);
            }
        }
        let client = match &oauth.client_id {
            Some(id) if **id != *by.client_id => return Err(OTHER_CLIENT),
            // The secret may be another by now.
            Some(_) => self.client(&discovered).await.map_err(unavailable)?,
            None => {
                let is_document =
                    oauth.client_metadata_url.as_ref().map(url::Url::as_str) == Some(&*by.client_id);
                let client = by.client(oauth).filter(|client| client.is_registered || is_document);
                client.ok_or(OTHER_CLIENT)?
            }
        };
        Ok((discovered, client))
    }

    /// Asks the issuer; the lock is given back. `None`: somebody else has changed it meanwhile, which is looked at.
    async fn refresh(
        self: &Arc<Self>,
        upstreams: &Upstreams,
        wanted: &Wanted,
        (row, kept): (UpstreamRow, Kept),
        (discovered, client): (Discovered, UpstreamClient),
    ) -> Option<Outcome> {
        let Some(refresh) = kept.tokens.as_ref().and_then(|tokens| tokens.refresh.as_ref()) else {
            return Some(Err(NotReady::Unavailable("nothing renews it")));
        };
        let began = Instant::now();
        let resource = discovered.resource.as_deref();
        let outgoing = &self.vault.outgoing();
        let answered = oauth::refresh(outgoing, &discovered, &client, refresh, &kept.scopes, resource).await;
        self.vault.observer.metrics.upstream_refresh.observe(began.elapsed().as_secs_f64());
        match answered {
            Ok(tokens) => self.save(upstreams, wanted, row, kept, tokens).await,
            Err(OauthError::Refused(
                refusal @ (OauthRefusal::InvalidGrant | OauthRefusal::UnauthorizedClient),
            )) => self.lose(upstreams, wanted, (row, kept), refusal.reason()).await,
            // Of a client that the config names, that is the operator's to mend: nobody has to connect again for it.
            Err(OauthError::Refused(refusal @ OauthRefusal::InvalidClient)) if client.is_registered => {
                let _ = upstreams.remove_client(&self.server, &discovered.issuer).await;
                self.lose(upstreams, wanted, (row, kept), refusal.reason()).await
            }
            Err(why) => {
                let _ = upstreams.unlock(&wanted.owner, &self.server).await;
                Some(self.fail(wanted, Some((&row, &kept)), why.reason()))
            }
        }
    }

    /// Keeps what a refresh gave, whatever it is worth, and then looks at it.
    async fn save(
        self: &Arc<Self>,
        upstreams: &Upstreams,
        wanted: &Wanted,
        row: UpstreamRow,
        kept: Kept,
        tokens: TokenAnswer,
    ) -> Option<Outcome> {
        let now = self.vault.clock.now();
        let expected = row.version;
        let renewed = kept.refreshed(tokens, now);
        let row = row_of(row, &renewed, now);
        let version = match upstreams.put(row.clone(), Some(expected)).await {
            Ok(Ok(version)) => version,
            Ok(Err(_)) => {
                // Whoever connected or disconnected meanwhile has the last word, and what came of the old is not left behind.
                self.revoke(renewed);
                return None;
            }
            Err(_) => {
                self.save_later(wanted, row.clone(), expected);
                expected + 1
            }
        };
        let issuer = renewed.by.as_ref().map(|by| &*by.discovered.issuer);
        self.vault.tell(Told::Refreshed, &self.server, &wanted.owner, issuer, None);
        let Ok(held) = self.hold(wanted.epoch, &wanted.place, &renewed, version) else { return None };
        if wanted.refused.is_some() {
            self.vault.known.change(&wanted.place, |slot| slot.refused = Some(now));
        }
        if let Some(ready) = held.filter(|ready| ready.is_good(now)) {
            return Some(Ok(ready));
        }
        const NO_USE: &str = "what the issuer gave cannot be sent, or has ended already";
        let row = UpstreamRow { version, ..row };
        Some(self.fail(wanted, Some((&row, &renewed)), NO_USE))
    }

    /// The store takes nothing at present. What is in memory alone is all that there is, so it is offered again.
    fn save_later(self: &Arc<Self>, wanted: &Wanted, row: UpstreamRow, expected: u64) {
        const WHY: &str = "what the issuer gave cannot be kept at present";
        self.vault.tell(Told::Failed, &self.server, &wanted.owner, None, Some(WHY));
        let (this, running) = (Arc::clone(self), self.vault.run());
        drop(spawn_local(async move {
            for _ in 0..SAVES {
                sleep(SAVE_AGAIN).await;
                let Some(upstreams) = this.vault.upstreams() else { break };
                match upstreams.put(row.clone(), Some(expected)).await {
                    // It is written, or was: by the first try, or by somebody who has the last word.
                    Ok(_) => break,
                    Err(NotKept::Down) => {}
                    Err(NotKept::Full | NotKept::TooLong) => break,
                }
            }
            drop(running);
        }));
    }

    /// It is worth nothing any more: its owner has to connect again. `None`: somebody else has changed it meanwhile.
    async fn lose(
        &self,
        upstreams: &Upstreams,
        wanted: &Wanted,
        (row, kept): (UpstreamRow, Kept),
        why: &'static str,
    ) -> Option<Outcome> {
        let now = self.vault.clock.now();
        let (expected, key) = (row.version, kept.key());
        let issuer = kept.by.as_ref().map(|by| Arc::clone(&by.discovered.issuer));
        let emptied = kept.without_tokens(now);
        let row = UpstreamRow { state: UpstreamState::Reconnect, ..row_of(row, &emptied, now) };
        if let Ok(Err(_)) = upstreams.put(row, Some(expected)).await {
            return None;
        }
        self.forget_discovered();
        if self.lack(wanted.epoch, &wanted.place, Missing::Reconnect, Some(key)).is_err() {
            return None;
        }
        self.vault.tell(Told::Lost, &self.server, &wanted.owner, issuer.as_deref(), Some(why));
        self.vault.note_change();
        Some(Err(Missing::Reconnect.into()))
    }

    /// A token that the gateway gets for itself.
    async fn by_client(&self, oauth: &UpstreamOauth, wanted: &Wanted) -> Outcome {
        if let Some(known) = self.known_token(wanted) {
            return known;
        }
        let asked = async {
            let discovered = self.discovered(None).await?;
            let client = self.client(&discovered).await?;
            let (scopes, resource) = (oauth::scopes(oauth, &discovered, &[]), discovered.resource.as_deref());
            oauth::client_credentials(&self.vault.outgoing(), &discovered, &client, &scopes, resource).await
        };
        match asked.await {
            Ok(tokens) => self.hold_token(wanted, &tokens, CredentialKey::STATIC),
            Err(why) => {
                self.forget_discovered();
                self.fail(wanted, None, why.reason())
            }
        }
    }

    /// A token that is made of the caller's.
    async fn exchanged(&self, exchange: &TokenExchange, wanted: &Wanted) -> Outcome {
        if let Some(known) = self.known_token(wanted) {
            return known;
        }
        let Some(subject) = &wanted.subject else {
            return Err(NotReady::Unavailable("there is nothing to exchange"));
        };
        let kind = SubjectKind::AccessToken;
        match oauth::exchange(&self.vault.outgoing(), exchange, subject, kind).await {
            Ok(tokens) => self.hold_token(wanted, &tokens, self.key_of_owner(&wanted.owner)),
            // That the issuer gives nothing for this caller is nothing that a wait would mend.
            Err(OauthError::Refused(
                refusal @ (OauthRefusal::InvalidGrant
                | OauthRefusal::AccessDenied
                | OauthRefusal::InteractionRequired
                | OauthRefusal::ApplicationOnly),
            )) => {
                let missing = Missing::NoSubject(refusal.reason());
                let now = self.vault.clock.now();
                let pause = Pause::of(REFUSED, now, refusal.reason());
                self.vault.known.change(&wanted.place, |slot| {
                    *slot = Slot::lacking(missing.clone(), None, Some(pause));
                });
                self.vault.tell(Told::Failed, &self.server, &wanted.owner, None, Some(refusal.reason()));
                Err(missing.into())
            }
            Err(why) => self.fail(wanted, None, why.reason()),
        }
    }

    /// What is to be said without asking anybody, of a token that is in memory alone.
    fn known_token(&self, wanted: &Wanted) -> Option<Outcome> {
        let now = self.vault.clock.now();
        let (ready, pause) = self.vault.known.get(&wanted.place, |slot| (slot.ready_at(now), slot.pause))?;
        let is_another = |ready: &Arc<ReadyCredential>| wanted.refused != Some(ready.version);
        if let Some(ready) = ready.filter(is_another) {
            return Some(Ok(ready));
        }
        let pause = pause.filter(|pause| now < pause.until)?;
        Some(self.meanwhile(wanted, None, pause))
    }

    /// A token that is in memory alone is known from now on.
    fn hold_token(&self, wanted: &Wanted, tokens: &TokenAnswer, key: CredentialKey) -> Outcome {
        let now = self.vault.clock.now();
        let version = self.vault.next_number();
        let ready = kept::ready(tokens, self.config.places(), key, version, now);
        let Some(ready) = ready.filter(|ready| ready.is_good(now)).map(Arc::new) else {
            return self.fail(wanted, None, "what the issuer gave cannot be sent, or has ended already");
        };
        let (of_slot, due) = (Arc::clone(&ready), kept::due(tokens, now));
        self.vault.known.change(&wanted.place, |slot| {
            slot.is = Standing::Held;
            (slot.ready, slot.due, slot.pause) = (Some(of_slot), due, None);
            if wanted.refused.is_some() {
                slot.refused = Some(now);
            }
        });
        self.vault.tell(Told::Refreshed, &self.server, &wanted.owner, None, None);
        Ok(ready)
    }
}

/// What is kept from now on in place of what a row had.
fn row_of(row: UpstreamRow, kept: &Kept, now: SystemTime) -> UpstreamRow {
    let ends = kept.tokens.as_ref().and_then(|tokens| tokens.ends);
    UpstreamRow { body: kept.written(), changed: now, ends, ..row }
}
