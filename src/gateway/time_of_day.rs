//! What depends on the time of day: a clock that goes back, and the ends of the certificate and of tokens.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::Level,
    downstream::{
        self_signed::SelfMade,
        tls::{Certificate, Left, Validity},
    },
    gateway::token_expiry::TokenExpiry,
    observe::Observer,
    state::GatewayState,
};

/// How often the ledger learns how late it is, the certificate is looked at, and so are logins.
const CLOCK_TICK: Duration = Duration::from_secs(1);

/// How far the clock may go back without a word: corrections are smaller.
const BEHIND: Duration = Duration::from_secs(30);

/// Looks once a second, until `stop`.
pub(super) async fn watch(
    shared: Arc<GatewayState>,
    (clock, certificate, self_made): (Arc<Clock>, Arc<Certificate>, Option<Arc<SelfMade>>),
    stop: CancellationToken,
) {
    let mut expiry = Expiry::default();
    let mut of_tokens = TokenExpiry::default();
    let mut is_behind = false;
    while !stop.is_cancelled() {
        // Also when no request asks for the time: the latest one counts.
        of_tokens.look(&shared.live(), &shared.observer.log, clock.now());
        if let Some(grants) = shared.logins.grants() {
            grants.sweep(clock.now());
        }
        let behind = clock.behind();
        if behind >= BEHIND && !is_behind {
            let msg = "The clock went back: tokens expire by the latest time that it showed; if that was wrong, restart";
            shared.observer.log.line(Level::Warn, msg).millis("behind_ms", behind).send();
        }
        is_behind = behind >= BEHIND;
        // A failure is a lack of random numbers, which ends all TLS; that the certificate ends is logged below.
        let _ = self_made.as_ref().map(|made| made.renew(&certificate, SystemTime::now()));
        expiry.look(&certificate, &shared.observer, SystemTime::now());
        tokio::time::sleep(CLOCK_TICK).await;
        shared.ledger.tick(Instant::now());
    }
}

/// How the certificate that is presented comes to its end.
#[derive(Default)]
struct Expiry {
    of: Option<(Arc<CertifiedKey>, Validity)>,
    reported: Option<Left>,
}

impl Expiry {
    /// Says once when a third of its lifetime is left, when a tenth is, and when it is over.
    fn look(&mut self, certificate: &Certificate, observer: &Observer, now: SystemTime) {
        let Some(current) = certificate.current() else { return };
        if !self.of.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &current)) {
            self.reported = None;
            self.of = Validity::of(&current).map(|validity| (current, validity));
            if let Some((_, validity)) = &self.of {
                observer.metrics.certificate_expires(validity.not_after);
            }
        }
        let Some((_, validity)) = &self.of else { return };
        let left = validity.left(now);
        if self.reported.is_some_and(|reported| reported >= left) {
            return;
        }
        self.reported = Some(left);
        let (level, msg) = match left {
            Left::Enough => return,
            Left::Third => (Level::Warn, "A third of the certificate's lifetime is left: renew it"),
            Left::Tenth => (Level::Error, "A tenth of the certificate's lifetime is left: renew it"),
            Left::Nothing => (Level::Error, "The certificate has expired: renew it"),
        };
        let not_after = humantime::format_rfc3339_seconds(validity.not_after);
        observer.log.line(level, msg).display("not_after", not_after).send();
    }
}
