//! The gate as a whole: build, run, reload, shut down.

pub mod exposed;
mod serve;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    child::Supervisor,
    config::{Level, LogFormat, Snapshot, Tls},
    ledger::Ledger,
    mcp::session::SessionKey,
    observe::{Observer, Topic},
    server::{
        admission::Connections,
        connection::Door,
        listener,
        proxied::is_trusted,
        tls::{self, Certificate, Left, Validity},
    },
    session,
    state::{Backend, Live, SPARE_CONNECTIONS, Shared, capacity},
    upstream::Unusable,
    worker::{self, Arrival},
};

pub use serve::{observe, serve};

/// How often shutdown looks whether the last connection is gone.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long connections that were cut may take to record their end.
const CUT_GRACE: Duration = Duration::from_secs(1);
/// Connections of the admin listener, which has places of its own.
const ADMIN_CONNECTIONS: usize = 64;
/// How often the ledger learns how late it is, and the certificate is looked at.
const CLOCK_TICK: Duration = Duration::from_secs(1);

/// A running gate.
pub struct Gateway {
    shared: Arc<Shared>,
    workers: Arc<[worker::Handle]>,
    certificate: Arc<Certificate>,
    process_key: SessionKey,
    /// What the listeners were started with; a reload cannot change it.
    started_with: Fixed,
    addrs: Vec<SocketAddr>,
    admin_addr: Option<SocketAddr>,
    stop_accepting: CancellationToken,
}

/// The part of a config that needs a restart to change.
#[derive(PartialEq, Eq)]
struct Fixed {
    addr: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    tls: TlsKind,
    workers: usize,
    log_format: LogFormat,
}

#[derive(PartialEq, Eq)]
enum TlsKind {
    Plain,
    Files,
    SelfSigned(Vec<String>),
}

impl Fixed {
    fn of(snapshot: &Snapshot) -> Self {
        let tls = match &snapshot.tls {
            None => TlsKind::Plain,
            Some(Tls::Files(_)) => TlsKind::Files,
            Some(Tls::SelfSigned { names }) => TlsKind::SelfSigned(names.clone()),
        };
        Self {
            addr: snapshot.addr.clone(),
            admin: snapshot.admin,
            tls,
            workers: snapshot.workers,
            log_format: snapshot.log.format,
        }
    }

    /// The keys, and whether their values differ.
    fn compare(&self, other: &Self) -> [(&'static str, bool); 5] {
        [
            ("addr", self.addr != other.addr),
            ("admin.addr", self.admin != other.admin),
            ("tls (kind or names)", self.tls != other.tls),
            ("workers", self.workers != other.workers),
            ("log.format", self.log_format != other.log_format),
        ]
    }

    /// Keys whose values differ.
    fn differs(&self, other: &Self) -> String {
        let differing = self.compare(other).into_iter().filter(|(_, differs)| *differs);
        differing.map(|(key, _)| key).collect::<Vec<_>>().join(", ")
    }
}

/// Why a gate could not start.
#[derive(Debug)]
pub enum StartError {
    /// The operating system refuses something: an address, a thread.
    Io(String, io::Error),
    /// A server cannot be used as configured.
    Server(Unusable),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, e) => write!(f, "{what}: {e}"),
            Self::Server(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl Gateway {
    /// Binds the addresses of `snapshot` and begins to serve. Must be called on a tokio runtime with I/O and time, which
    /// accepts; workers have their own.
    pub async fn start(snapshot: &Snapshot, observer: Arc<Observer>) -> Result<Self, StartError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |e| StartError::Io(what, e)
        };
        let process_key = SessionKey::random().map_err(|e| io("session key")(io::Error::other(e)))?;
        let ledger = Ledger::new(|resource| capacity(&snapshot.limits, resource));
        let live =
            Live::build(snapshot, None, &observer, &ledger, &process_key).map_err(StartError::Server)?;
        let shared = Arc::new(Shared::new(live, ledger, observer));

        let certificate = Arc::new(Certificate::default());
        let acceptor = match certified(snapshot).map_err(io("certificate"))? {
            None => None,
            Some(certified) => {
                certificate.set(certified);
                let config = tls::server_config(Arc::clone(&certificate))
                    .map_err(|e| io("TLS")(io::Error::other(e)))?;
                Some(TlsAcceptor::from(Arc::new(config)))
            }
        };

        let listeners = bind_all(&snapshot.addr)?;
        let admin =
            snapshot.admin.map(|addr| listener::bind(addr).map_err(io(&addr.to_string()))).transpose()?;
        let addrs = local_addrs(&listeners);
        let admin_addr = admin.as_ref().and_then(|listener| listener.local_addr().ok());

        let workers = (0..snapshot.workers.max(1))
            .map(|index| worker::Handle::start(index, Arc::clone(&shared), acceptor.clone()))
            .collect::<io::Result<Arc<[_]>>>()
            .map_err(io("worker thread"))?;
        let stop_accepting = CancellationToken::new();
        let doors =
            listeners.into_iter().map(|listener| (listener, Door::Public, Arc::clone(&shared.connections)));
        let is_remote = admin_addr.is_some_and(|addr| !addr.ip().is_loopback());
        let of_admin = Connections::new(ADMIN_CONNECTIONS, SPARE_CONNECTIONS, ADMIN_CONNECTIONS);
        let admin = admin.map(|listener| (listener, Door::Admin { is_remote }, of_admin));
        for (listener, door, connections) in doors.chain(admin) {
            let (of_evicted, evicted_total) =
                (Arc::downgrade(&workers), shared.observer.metrics.connections_evicted.clone());
            connections.on_evicted(move |evicted| {
                evicted_total.inc();
                // Weak, since workers have the connections, and end when nobody has them.
                if let Some(workers) = of_evicted.upgrade() {
                    workers[evicted.worker].evict(evicted.id);
                }
            });
            let (workers, shared, stop) = (Arc::clone(&workers), Arc::clone(&shared), stop_accepting.clone());
            tokio::spawn(accept(listener, door, connections, workers, shared, stop));
        }
        tokio::spawn(clock(Arc::clone(&shared), Arc::clone(&certificate), stop_accepting.clone()));
        Ok(Self {
            shared,
            workers,
            certificate,
            process_key,
            started_with: Fixed::of(snapshot),
            addrs,
            admin_addr,
            stop_accepting,
        })
    }

    /// Addresses that clients can connect to.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Address of the admin listener.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// State that outlives reloads.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Puts `snapshot` into force: everything is built, then swapped once, then what only the old one had is
    /// ended. On an error nothing changed.
    pub fn reload(&mut self, snapshot: &Snapshot) -> Result<(), Unusable> {
        let observer = &self.shared.observer;
        let previous = self.shared.live().clone();
        let ledger = &self.shared.ledger;
        let live = Live::build(snapshot, Some(&previous), observer, ledger, &self.process_key)?;
        let differs = self.started_with.differs(&Fixed::of(snapshot));
        if !differs.is_empty() {
            let msg = "Changed keys that take effect at the next start";
            observer.log.line(Level::Warn, msg).text("keys", &differs).send();
        }
        if let (Some(Tls::Files(Some(renewed))), TlsKind::Files) = (&snapshot.tls, &self.started_with.tls) {
            self.renew(renewed);
        }
        self.shared.swap(Arc::new(live));
        self.retire(&previous);
        observer.log.set_level(snapshot.log.level);
        for worker in &*self.workers {
            worker.reloaded();
        }
        Ok(())
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

    /// Stops accepting, and tells connections to finish. What they have may still be revoked by a [`Gateway::reload`].
    pub fn drain(&self) {
        self.shared.drain();
        self.stop_accepting.cancel();
        self.workers.iter().for_each(worker::Handle::drain);
    }

    /// Resolves once no connection is left.
    pub async fn drained(&self) {
        while self.workers.iter().any(|worker| worker.open() > 0) {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// Cuts what is left, and ends processes: those that are still there after `grace`, or once `hurry` resolves, are killed.
    pub async fn stop(self, grace: Duration, hurry: impl Future<Output = ()>) {
        // Sessions that nobody uses at the moment end here, and with them their processes.
        self.workers.iter().for_each(worker::Handle::cut);
        let children = self.children();
        children.iter().for_each(|supervisor| supervisor.stop());
        let ended = async {
            let _ = tokio::time::timeout(CUT_GRACE, self.drained()).await;
            childless(&children).await;
        };
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep(grace.max(CUT_GRACE)) => {}
            () = hurry => {}
        }
        children.iter().for_each(|supervisor| supervisor.kill_now());
        let _ = tokio::time::timeout(CUT_GRACE, childless(&children)).await;
    }

    fn children(&self) -> Vec<Arc<Supervisor>> {
        let live = self.shared.live();
        live.servers
            .iter()
            .filter_map(|route| match &route.backend {
                Backend::Stdio(supervisor) => Some(Arc::clone(supervisor)),
                _ => None,
            })
            .collect()
    }
}

async fn childless(supervisors: &[Arc<Supervisor>]) {
    while supervisors.iter().any(|supervisor| supervisor.running() > 0) {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// The certificate to start with.
fn certified(snapshot: &Snapshot) -> io::Result<Option<Arc<CertifiedKey>>> {
    Ok(match &snapshot.tls {
        None => None,
        // Without one, nothing is started: see `serve`.
        Some(Tls::Files(certified)) => certified.clone(),
        Some(Tls::SelfSigned { names }) => Some(tls::self_signed(names)?.certified()?),
    })
}

/// Binds every address that this machine has; one of several may be missing (no IPv6), not all.
fn bind_all(addrs: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for addr in addrs {
        let mut addr = *addr;
        if addr.port() == 0 {
            // "localhost:0" is one port on two addresses.
            let first = listeners.first().and_then(|listener| listener.local_addr().ok());
            addr.set_port(first.map_or(0, |first| first.port()));
        }
        match listener::bind(addr) {
            Ok(listener) => listeners.push(listener),
            Err(e) if addrs.len() > 1 && addr.is_ipv6() && e.kind() != io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(StartError::Io(format!("cannot listen on {addr}"), e)),
        }
    }
    Ok(listeners)
}

fn local_addrs(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// What depends on the time of day.
async fn clock(shared: Arc<Shared>, certificate: Arc<Certificate>, stop: CancellationToken) {
    let mut expiry = Expiry::default();
    while !stop.is_cancelled() {
        expiry.look(&certificate, &shared.observer, SystemTime::now());
        tokio::time::sleep(CLOCK_TICK).await;
        shared.ledger.tick(Instant::now());
    }
}

/// How the certificate that is presented comes to its end.
#[derive(Default)]
struct Expiry {
    of: Option<(Arc<CertifiedKey>, Validity)>,
    told: Option<Left>,
}

impl Expiry {
    /// Says once when a third of its lifetime is left, when a tenth is, and when it is over.
    fn look(&mut self, certificate: &Certificate, observer: &Observer, now: SystemTime) {
        let Some(current) = certificate.current() else { return };
        if !self.of.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &current)) {
            self.told = None;
            self.of = Validity::of(&current).map(|validity| (current, validity));
            if let Some((_, validity)) = &self.of {
                observer.metrics.certificate_expires(validity.not_after);
            }
        }
        let Some((_, validity)) = &self.of else { return };
        let left = validity.left(now);
        if self.told.is_some_and(|told| told >= left) {
            return;
        }
        self.told = Some(left);
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

async fn accept(
    listener: TcpListener,
    door: Door,
    connections: Arc<Connections>,
    workers: Arc<[worker::Handle]>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let on_accept = |stream: tokio::net::TcpStream, peer: SocketAddr| {
        // To the worker with the fewest: a few long streams do not pile up on one core.
        let worker = workers.iter().enumerate().min_by_key(|(_, worker)| worker.open());
        if let (Some((index, worker)), Ok(stream)) = (worker, stream.into_std()) {
            let is_balancer = door == Door::Public && is_trusted(&shared.live().trusted_proxies, peer.ip());
            let place = connections.enter(peer.ip().into(), is_balancer, index);
            let (open, limit) = (connections.open(), connections.limit());
            if open > limit
                && let Some(line) = shared.observer.recurring(Topic::Full)
            {
                line.int("open", open as u64).int("limit", limit as u64).send();
            }
            worker.serve(Arrival { stream, peer, door, place });
        }
    };
    let on_error = |e: &io::Error, complain: bool| {
        shared.observer.metrics.accept_errors.inc();
        if complain {
            shared
                .observer
                .log
                .line(Level::Error, "Cannot accept connections")
                .str("cause", &e.to_string())
                .send();
        }
    };
    listener::accept(listener, &connections, on_accept, on_error, stop.cancelled()).await;
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_log_names_the_keys_of_which_the_reference_says_that_they_need_a_restart() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().join("gate.json");
        std::fs::write(&path, r#"{"mcpServers": {}}"#).expect("written");
        let snapshot = config::load(&path, &|_| None).snapshot.expect("a good config");
        let fixed = Fixed::of(&snapshot);
        let mut named = fixed.compare(&fixed).map(|(key, _)| key.to_owned());
        let mut wanted = config::restart_keys();
        named.sort();
        wanted.sort();
        assert_eq!(named.as_slice(), wanted);
    }
}
