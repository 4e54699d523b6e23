//! Another config for a gate that runs.

use std::{
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use rustls::sign::CertifiedKey;

use super::{Fixed, Gateway, TlsKind};
use crate::{
    config::{Level, Snapshot, Tls},
    server::tls::{Left, Validity},
    session,
    state::{Backend, Live},
    upstream::Unusable,
};

impl Gateway {
    /// Puts `snapshot` into force: everything is built, then swapped once, then what only the old one had is
    /// ended. On an error nothing changed.
    pub fn reload(&self, snapshot: &Snapshot) -> Result<(), Unusable> {
        // What it guards is a turn, which no panic can leave half done.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Arc::new(snapshot.clone());
        let observer = &self.shared.observer;
        let previous = self.shared.live().clone();
        let ledger = &self.shared.ledger;
        let live = Live::build(&snapshot, Some(&previous), observer, ledger, &self.process_key, &self.clock)?;
        let differs = self.started_with.differs(&Fixed::of(&snapshot));
        if !differs.is_empty() {
            let msg = "Changed keys that take effect at the next start";
            observer.log.line(Level::Warn, msg).text("keys", &differs).send();
        }
        if let (Some(Tls::Files(Some(renewed))), TlsKind::Files) = (&snapshot.tls, &self.started_with.tls) {
            self.renew(renewed);
        }
        observer.log.set_level(snapshot.log.level);
        let hash = i64::try_from(snapshot.hash).unwrap_or(i64::MAX);
        self.in_force.store(snapshot);
        self.shared.swap(Arc::new(live));
        observer.metrics.config_hash.set(hash);
        self.retire(&previous);
        for worker in &*self.workers {
            worker.reloaded();
        }
        self.warm();
        Ok(())
    }

    /// Starts those commands for once that are to be `warm`, and were not yet.
    pub(super) fn warm(&self) {
        let live = self.shared.live();
        for (route, worker) in live.servers.iter().zip(self.workers.iter().cycle()) {
            if let Backend::Stdio(supervisor) = &route.backend
                && route.server.warm
                && !route.switch.is_stopped()
                && supervisor.begins_warm()
            {
                worker.warm(Arc::clone(supervisor));
            }
        }
    }

    /// Presents another certificate from now on: not one that is over in place of one that is not.
    fn renew(&self, renewed: &Arc<CertifiedKey>) {
        let now = SystemTime::now();
        let is_over =
            |pair: &CertifiedKey| Validity::of(pair).is_some_and(|it| it.left(now) == Left::Nothing);
        if is_over(renewed) && self.certificate.current().is_some_and(|current| !is_over(&current)) {
            let msg = "The new certificate has expired; the last good one stays";
            self.shared.observer.log.line(Level::Error, msg).send();
            return;
        }
        self.certificate.set(Arc::clone(renewed));
    }

    /// Ends what only `previous` had of servers that the gate talks to itself.
    fn retire(&self, previous: &Live) {
        let live = self.shared.live();
        for (token_name, credential) in previous.counted().filter(|old| !live.counts(old)) {
            self.shared.observer.metrics.token_removed(token_name, credential);
        }
        for old in &previous.servers {
            let name = &old.server.name;
            if live.routes.get(&**name).is_some_and(|new| Arc::ptr_eq(&new.shared_links, &old.shared_links)) {
                continue;
            }
            old.switch.begin_epoch();
            old.health.forget();
            old.shared_links.clear();
            self.shared.sessions.of(name).iter().for_each(session::Handle::close);
            if let Backend::Stdio(supervisor) = &old.backend
                && !live.runs(supervisor)
            {
                supervisor.stop();
            }
        }
        self.shared.note_change();
    }
}
