//! Whether the identity provider still stands by what it said of somebody.
//!
//! It is asked where somebody waits for an answer: a client that refreshes its token, a browser at a page. Of all who wait, in all
//! processes of one store, one asks. That is a task of the worker, which goes on when whoever waited has left: a provider gives another
//! refresh token each time, and the one that was used is worth nothing any more.
//!
//! It is also asked where a limit of `assign` hangs on a claim of which it was not kept what the provider says, since no entry asked about
//! it. Until it is known, such a limit must not be lost: nothing that somebody has opens anything.
//!
//! A no ends all that somebody has. Where there is no answer, they are who they were for a day: the provider being down must not lock
//! out everybody at once, and must not let them in for ever. After that day nobody is revoked either, since nobody has said no: they
//! are told to come again.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, task::spawn_local};

use super::{GatewayState, Live};
use crate::{
    config::Level,
    identity::{
        Principal,
        idp::{Idp, IdpError, KeptClaims},
        login::{
            account::{Account, Claimed, KeptAccount},
            grants::Grants,
        },
    },
};

/// How long somebody is who they were although the provider does not answer.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long is waited for the answer. It may come later all the same.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the log says of somebody who is [`Rechecked::Unanswered`].
pub const NOT_ANSWERED: &str =
    "the identity provider has not answered for a day, or not yet what a limit of `assign` asks about";

/// How it stands with somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rechecked {
    /// What is known of them holds. Whether they are let in by it is another question.
    Known,
    /// Nothing is known of them, or not any more.
    Gone,
    /// The provider has not answered for too long, or not yet what a limit asks about.
    Unanswered,
}

/// Asks about somebody, if it is time to. To be called on a worker.
pub async fn recheck(shared: &Arc<GatewayState>, live: &Arc<Live>, principal: &Principal) -> Rechecked {
    let Some((idp, account)) = live.idp().zip(live.account(principal)) else { return Rechecked::Gone };
    let recheck = idp.config().recheck;
    let now = live.clock.now();
    let is_due =
        |account: &Account, recheck| account.is_due(recheck, now) || !account.knows(live.limiting_claims());
    if !is_due(&account, recheck) {
        return Rechecked::Known;
    }
    let mut done = begin(shared, live, idp, principal);
    // Whether it ended or takes longer, what is known then counts.
    let _ = tokio::time::timeout(PATIENCE, async { while done.changed().await.is_ok() {} }).await;
    match live.account(principal) {
        None => Rechecked::Gone,
        Some(account) if !is_due(&account, recheck + GRACE) => Rechecked::Known,
        Some(_) => Rechecked::Unanswered,
    }
}

/// What is dropped once the provider was asked about somebody.
fn begin(
    shared: &Arc<GatewayState>,
    live: &Arc<Live>,
    idp: &Idp,
    principal: &Principal,
) -> watch::Receiver<()> {
    let mut running = shared.rechecks.running.lock();
    if let Some(done) = running.get(principal) {
        return done.clone();
    }
    let (ends, done) = watch::channel(());
    running.insert(principal.clone(), done.clone());
    let turn = Turn { shared: Arc::clone(shared), principal: principal.clone(), _ends: ends };
    let (idp, now) = (idp.clone(), live.clock.now());
    let claims = live.limiting_claims().map(str::to_owned).collect();
    spawn_local(async move { turn.ask(&idp, claims, now).await });
    done
}

/// One who asks, until it is dropped: also with its worker.
struct Turn {
    shared: Arc<GatewayState>,
    principal: Principal,
    _ends: watch::Sender<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.rechecks.running.lock().remove(&self.principal);
    }
}

impl Turn {
    async fn ask(&self, idp: &Idp, claims: Vec<String>, now: SystemTime) {
        let Some(grants) = self.shared.logins.grants() else { return };
        let recheck = idp.config().recheck;
        let kept = match grants.claim_recheck(&self.principal, recheck, claims, now).await {
            Ok(Claimed::Due(kept)) => kept,
            // Another gateway of the store is at it, or has done it a moment ago.
            Ok(Claimed::Gone | Claimed::Fresh | Claimed::Asked) | Err(_) => return,
        };
        let answered = self.answer(grants, idp, &kept, now).await;
        if let Ok(account) = &answered
            && grants.renew_account(account.clone(), kept.asked).await.is_err()
        {
            self.log(Level::Warn, "What the identity provider says of somebody cannot be kept", None);
        }
        match answered {
            Ok(_) => {
                // What they were given may be less now.
                self.shared.note_change();
            }
            // They have logged in meanwhile, which counts for more than what they had before.
            Err(IdpError::Refused(_))
                if grants.account(&self.principal).is_some_and(|now| now.checked != kept.account.checked) => {
            }
            Err(IdpError::Refused(why)) => {
                // Here it ends in any case, and in the store as soon as that can be written.
                let _ = grants.end_account(&self.principal).await;
                self.shared.note_change();
                let msg = "The identity provider lets somebody in no more: all that they had is ended";
                self.log(Level::Warn, msg, Some(why));
            }
            Err(IdpError::Unavailable(why) | IdpError::Broken(why)) => {
                let msg = "The identity provider cannot be asked whether somebody may still come";
                self.log(Level::Warn, msg, Some(why));
            }
        }
    }

    /// What the provider says now, if the config in force still admits them by it. What it is to be asked by the next time is written
    /// before anything else is asked, and whatever comes of that.
    async fn answer(
        &self,
        grants: &Grants,
        idp: &Idp,
        kept: &KeptAccount,
        now: SystemTime,
    ) -> Result<KeptAccount, IdpError> {
        let keep = kept.keep.as_ref();
        let keep = keep.ok_or(IdpError::Refused("it gave nothing by which it can be asked again"))?;
        let name = self.principal.name().map_or("", |name| name);
        let (_, subject) = name.split_once(':').ok_or(IdpError::Refused("they have no subject"))?;
        let asked = idp.ask_again(keep).await?;
        if let Some(next) = asked.next()
            && grants.renew_account(kept.asked_by(next.clone()), kept.asked).await.is_err()
        {
            let msg = "What the identity provider is to be asked by the next time cannot be kept";
            self.log(Level::Warn, msg, None);
        }
        let login = asked.login(subject, now).await?;
        let live = self.shared.live().clone();
        let said = KeptClaims::of(&login.claims, idp.config(), &live.config.assignments);
        if said.loses_limit(&live.config.assignments) {
            return Err(IdpError::Refused(
                "a limit of `assign` asks about more than is kept of somebody: 512 bytes",
            ));
        }
        let KeptClaims { claims, known, .. } = said;
        live.admitted(&self.principal, &claims).map_err(IdpError::Refused)?;
        let before = Account::clone(&kept.account);
        let account = Account { display: login.display.into(), claims, known, checked: now, ..before };
        Ok(KeptAccount::new(account, login.keep))
    }

    fn log(&self, level: Level, msg: &'static str, why: Option<&'static str>) {
        let line = self.shared.observer.log.line(level, msg).display("principal", &self.principal);
        line.opt_plain("reason", why).send();
    }
}
