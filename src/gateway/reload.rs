//! Another config for a gateway that runs.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::MutexGuard;
use rustls::sign::CertifiedKey;

use super::{
    Gateway, RestartKeys, TlsKind,
    change::{Ended, ReloadChange},
    worker::WorkerCommand,
};
use crate::{
    config::{Level, LoginStorage, LoginStore, Remaining, Server, Snapshot, Tls},
    downstream::tls::{Left, Validity},
    identity::credential_key::CredentialKey,
    servers::{Backend, EndCause},
    state::Live,
    upstream::Unusable,
};

/// How long to wait for workers to say what they ended. One that is busy for longer goes uncounted.
const COUNT_WITHIN: Duration = Duration::from_secs(1);

/// Why a config does not replace the one that is in force.
#[derive(Debug)]
pub enum NotReloaded {
    /// It has no server, and the one in force has some.
    Empty,
    /// A server cannot be used as configured.
    Server(Unusable),
}

impl fmt::Display for NotReloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "it has no server, which looks like a mistake; set `proxy.allowEmpty: true` if it is none",
            ),
            Self::Server(e) => e.fmt(f),
        }
    }
}

impl Gateway {
    /// Puts `snapshot` into force: everything is built, then swapped once, then what only the old one had is
    /// ended. Of what its files lack, what was there before stays. On an error nothing changed.
    pub fn reload(&self, snapshot: &Snapshot) -> Result<ReloadChange, NotReloaded> {
        let turn = self.turn.lock();
        let in_force = self.in_force();
        let snapshot = complete(snapshot.clone(), &in_force);
        let has_servers = |snapshot: &Snapshot| !snapshot.servers.is_empty();
        if !has_servers(&snapshot) && !snapshot.allow_empty && has_servers(&in_force) {
            return Err(NotReloaded::Empty);
        }
        let differs = self.fixed().differs(&RestartKeys::of(&snapshot));
        let renewed = match (&snapshot.tls, &self.started_with.tls) {
            (Some(Tls::Files(Some(renewed))), TlsKind::Files) => Some(Arc::clone(renewed)),
            _ => None,
        };
        let (level, keeps_recent) = (snapshot.log.level, snapshot.debug);
        let mut change = self.put_into_force(&turn, snapshot).map_err(NotReloaded::Server)?;
        if !differs.is_empty() {
            let msg = "Changed keys that take effect at the next start";
            self.shared.observer.log.line(Level::Warn, msg).text("keys", &differs).send();
        }
        if let Some(renewed) = renewed {
            change.lacks_certificate = !self.renew(&renewed);
        }
        self.shared.observer.log.set_level(level);
        self.shared.observer.log.keep_recent(keeps_recent);
        Ok(change)
    }

    /// What a reload cannot change. Logins may have come later than the start.
    fn fixed(&self) -> RestartKeys {
        let mut fixed = self.started_with.clone();
        if let Some((store, directory)) = self.shared.logins.kept_as() {
            fixed.login_store = Some(store.clone());
            if store.storage == LoginStorage::File {
                fixed.state_dir = Some(directory.to_owned());
            }
        }
        fixed
    }

    /// Takes away what `remaining` does not have, and leaves everything else as it is: of a config that is refused, that
    /// much applies. `None` if nothing is taken away.
    pub fn restrict(&self, remaining: &Remaining) -> Result<Option<ReloadChange>, NotReloaded> {
        let turn = self.turn.lock();
        let in_force = self.in_force();
        let restricted = remaining.restrict(&in_force);
        if restricted.credentials == in_force.credentials
            && restricted.users == in_force.users
            && restricted.issuers == in_force.issuers
            && restricted.assignments == in_force.assignments
            && restricted.oauth == in_force.oauth
            && restricted.admin_sees_all == in_force.admin_sees_all
            && restricted.servers == in_force.servers
            && restricted.schemes == in_force.schemes
        {
            return Ok(None);
        }
        self.put_into_force(&turn, restricted).map(Some).map_err(NotReloaded::Server)
    }

    fn put_into_force(
        &self,
        _turn: &MutexGuard<'_, ()>,
        snapshot: Snapshot,
    ) -> Result<ReloadChange, Unusable> {
        let (observer, ledger) = (&self.shared.observer, &self.shared.ledger);
        let previous = self.shared.live().clone();
        let mut change = ReloadChange::between(&previous.config, &snapshot);
        let live = Live::build(
            Arc::new(snapshot),
            Some(&previous),
            observer,
            ledger,
            &self.process_key,
            (&self.clock, &self.shared.logins),
        )?;
        // Before the store may be opened with what it takes away.
        if !self.shared.logins.is_open() {
            self.shared.logins.note_taken_away(previous.taken_away_by(&live));
        }
        let revoked_before = self.shared.revoked();
        observer.metrics.config_runs(live.config.hash);
        self.shared.swap(Arc::new(live));
        self.retire(&previous);
        let live = self.shared.live().clone();
        live.keep_logins();
        change.ended = Some(Ended { generation: self.shared.note_change(), revoked_before });
        self.warm();
        Ok(change)
    }

    /// Waits until the workers have ended what is not admitted any more, and counts that.
    pub(super) async fn count_ended(&self, mut change: ReloadChange) -> ReloadChange {
        if let Some(Ended { generation, revoked_before }) = change.ended.take() {
            let _ = tokio::time::timeout(COUNT_WITHIN, self.wait_applied(generation)).await;
            change.cut = self.shared.revoked().saturating_sub(revoked_before);
        }
        change
    }

    /// Starts those commands for once that are to be `warm`, and were not yet.
    pub(super) fn warm(&self) {
        let live = self.shared.live();
        for (entry, worker) in live.servers.iter().zip(self.workers.iter().cycle()) {
            if let Backend::Stdio(supervisors) = &entry.backend
                && entry.server.warm
                // There is none for nobody in particular.
                && entry.credentials.is_none()
                && !entry.run_state.is_stopped()
            {
                let supervisor = supervisors.get(CredentialKey::STATIC);
                if supervisor.begins_warm() {
                    worker.send(WorkerCommand::Warm(supervisor));
                }
            }
        }
    }

    /// Presents another certificate from now on, and says whether it does: not one that no client takes at this moment in
    /// place of one that they do.
    fn renew(&self, renewed: &Arc<CertifiedKey>) -> bool {
        let now = SystemTime::now();
        let problem = |pair: &CertifiedKey| {
            let validity = Validity::of(pair)?;
            match (validity.has_begun(now), validity.left(now)) {
                (false, _) => Some("The new certificate is not valid yet; the last good one stays"),
                (true, Left::Nothing) => Some("The new certificate has expired; the last good one stays"),
                (true, _) => None,
            }
        };
        let is_good = |current: Arc<CertifiedKey>| problem(&current).is_none();
        if let Some(msg) = problem(renewed)
            && self.certificate.current().is_some_and(is_good)
        {
            self.shared.observer.log.line(Level::Error, msg).send();
            return false;
        }
        self.certificate.set(Arc::clone(renewed));
        true
    }

    /// Ends what only `previous` had of servers that the gateway talks to itself.
    fn retire(&self, previous: &Live) {
        let live = self.shared.live();
        for (token_name, credential) in previous.counted().filter(|old| !live.counts(old)) {
            self.shared.observer.metrics.token_removed(token_name, credential);
        }
        for gone in previous.decoys().filter(|old| live.decoys().all(|new| new != *old)) {
            self.shared.observer.metrics.decoy_removed(gone);
        }
        for old in &previous.servers {
            match live.entries.get(&*old.server.name) {
                Some(new) if old.goes_on_as(&new.server) => {
                    if !Arc::ptr_eq(&new.shared_links, &old.shared_links) {
                        old.shared_links.clear();
                    }
                }
                new => self.shared.end_server(old, EndCause::Replaced(new.map(|new| &**new))),
            }
        }
        // Views go on with other servers behind them: what they list may be something else.
        if Arc::ptr_eq(&previous.all.shared_links, &live.all.shared_links) {
            live.all.shared_links.retain(|key| live.admits_view(key));
        } else {
            previous.all.shared_links.clear();
        }
    }
}

/// `snapshot` with what is in files that it cannot use as it is `in_force`. Who may use a server never is there.
fn complete(mut snapshot: Snapshot, in_force: &Snapshot) -> Snapshot {
    for lost in &snapshot.lost.servers {
        let before = in_force.servers.iter().find(|server| server.name == lost.name);
        if let Some(before) = before {
            let server = Server {
                access: lost.access.clone(),
                tags: lost.tags.clone(),
                tool_rules: lost.tool_rules.clone(),
                ..before.clone()
            };
            snapshot.servers.insert(lost.index.min(snapshot.servers.len()), server);
        }
    }
    if snapshot.lost.session_key {
        snapshot.session_key.clone_from(&in_force.session_key);
    }
    if snapshot.lost.login_keys {
        let LoginStore { jwt_secrets, encryption_keys, .. } = &in_force.login_store;
        snapshot.login_store.jwt_secrets.clone_from(jwt_secrets);
        snapshot.login_store.encryption_keys.clone_from(encryption_keys);
    }
    snapshot
}
