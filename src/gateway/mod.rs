//! The gateway as a whole: build, run, reload, shut down.

mod change;
mod config_thread;
pub mod exposed;
mod login_store;
mod process;
mod reload;
mod time_of_day;
mod token_expiry;
mod upstream_credentials;
pub mod worker;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use tokio::{net::TcpListener, sync::Notify};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    child::{Supervisor, Supervisors},
    clock::Clock,
    config::{Level, LogFormat, LoginStore, PerAddress, Snapshot, Tls},
    downstream::{
        connection::ListenerKind,
        forwarded::is_trusted,
        listener,
        rejection::Rejection,
        self_signed::SelfMade,
        slots::Connections,
        tls::{self, Certificate},
    },
    gateway::worker::{Arrival, WorkerCommand, WorkerHandle},
    identity::{
        Waits,
        login::{
            Logins,
            keys::NoKey,
            store::{Opening, StoreFault},
        },
    },
    ledger::Ledger,
    mcp::seal::SessionKey,
    oauth::{CachedDocuments, Clients},
    observe::{Observer, Topic},
    servers::Backend,
    state::{GatewayState, Live, SPARE_CONNECTIONS, capacity},
    upstream::{Unusable, document::Documents, internet::Internet},
};

pub use crate::gateway::{
    change::ReloadChange, config_thread::LogFlags, process::serve, reload::NotReloaded,
};

/// How often connections are notified that the gateway drains, once none is accepted any more: the kernel's queue may
/// still hold some when that is decided.
const TELL_DRAIN: Duration = Duration::from_millis(500);
/// How long connections that were cut may take to record their end.
const CUT_GRACE: Duration = Duration::from_secs(1);
/// How long credentials that are being refreshed may take.
const SETTLE: Duration = Duration::from_secs(12);
/// Connections of the admin listener, which has places of its own.
const ADMIN_CONNECTIONS: usize = 64;

/// A running gateway.
pub struct Gateway {
    shared: Arc<GatewayState>,
    workers: Arc<[WorkerHandle]>,
    /// Notified when a worker has less that the end of the gateway waits for.
    less: Arc<Notify>,
    certificate: Arc<Certificate>,
    self_made: Option<Arc<SelfMade>>,
    process_key: SessionKey,
    clock: Arc<Clock>,
    /// What the listeners were started with; a reload cannot change it.
    started_with: RestartKeys,
    /// Reloads go one by one.
    turn: Mutex<()>,
    addrs: Vec<SocketAddr>,
    admin_addr: Option<SocketAddr>,
    stop_accepting: CancellationToken,
}

/// The part of a config that needs a restart to change.
#[derive(Clone, PartialEq, Eq)]
struct RestartKeys {
    addr: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    tls: TlsKind,
    state_dir: Option<PathBuf>,
    /// Where logins are kept, if there are any.
    login_store: Option<LoginStore>,
    workers: usize,
    log_format: Option<LogFormat>,
}

#[derive(Clone, PartialEq, Eq)]
enum TlsKind {
    Plain,
    Files,
    SelfSigned(Vec<String>),
}

/// Where a self-made CA and logins are kept, if there are any.
fn state_dir(snapshot: &Snapshot) -> Option<PathBuf> {
    let has_ca = matches!(snapshot.tls, Some(Tls::SelfSigned { .. }));
    (has_ca || snapshot.keeps_logins()).then(|| snapshot.state_dir.clone())
}

impl RestartKeys {
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
            state_dir: state_dir(snapshot),
            login_store: snapshot.has_grants().then(|| snapshot.login_store.clone()),
            workers: snapshot.workers,
            log_format: snapshot.log.format,
        }
    }

    /// The keys, and whether their values differ.
    fn compare(&self, other: &Self) -> [(&'static str, bool); 9] {
        let is_moved =
            self.state_dir.is_some() && other.state_dir.is_some() && self.state_dir != other.state_dir;
        // Users who come later are kept as the config says then.
        let stores = self.login_store.as_ref().zip(other.login_store.as_ref());
        let is_other = |differs: fn(&LoginStore, &LoginStore) -> bool| {
            stores.is_some_and(|(old, new)| differs(old, new))
        };
        [
            ("addr", self.addr != other.addr),
            ("admin.addr", self.admin != other.admin),
            ("tls (kind or names)", self.tls != other.tls),
            ("stateDir", is_moved),
            ("auth.storage", is_other(|old, new| old.storage != new.storage)),
            ("auth.jwtSecret", is_other(|old, new| old.jwt_secrets != new.jwt_secrets)),
            ("auth.encryptionKey", is_other(|old, new| old.encryption_keys != new.encryption_keys)),
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

/// Why a gateway could not start.
#[derive(Debug)]
pub enum StartError {
    /// The operating system refuses something: an address, a thread.
    Io(String, io::Error),
    /// It cannot listen there.
    Bind(SocketAddr, io::Error),
    /// A server cannot be used as configured.
    Server(Unusable),
    /// Logins cannot be kept.
    Logins(StoreFault),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, e) => write!(f, "{what}: {e}"),
            Self::Bind(addr, e) => write!(f, "cannot listen on {addr}: {e}{}", way_out(*addr, e)),
            Self::Server(e) => e.fmt(f),
            Self::Logins(e) => write!(f, "logins cannot be kept: {e}"),
        }
    }
}

/// How an address can be had after all.
fn way_out(addr: SocketAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if addr.port() < 1024 => {
            ". A port below 1024 needs a right: give it to the program (`setcap cap_net_bind_service=+ep` and its path) or \
             to the service (systemd: `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or use a port from 1024 on"
        }
        io::ErrorKind::AddrInUse => {
            ". Another program listens there, maybe another gateway (`ss -ltnp` says which): end it, or use another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            ". No interface of this machine has this address: `ip addr` shows those it has"
        }
        _ => "",
    }
}

impl std::error::Error for StartError {}

/// A gateway that is built and does not listen yet.
pub struct Prepared {
    shared: Arc<GatewayState>,
    certificate: Arc<Certificate>,
    self_made: Option<Arc<SelfMade>>,
    acceptor: Option<TlsAcceptor>,
    process_key: SessionKey,
    clock: Arc<Clock>,
}

impl Prepared {
    /// Builds everything that `snapshot` asks for. It may read files (the certificates that the system trusts), so it is
    /// no work for the thread that accepts.
    /// Credentials expire by `clock`.
    pub fn new(snapshot: Arc<Snapshot>, observer: Arc<Observer>, clock: Clock) -> Result<Self, StartError> {
        let clock = Arc::new(clock);
        let process_key = SessionKey::random().map_err(|e| io("session key")(io::Error::other(e)))?;
        let ledger = Arc::new(Ledger::new(|resource| capacity(&snapshot.limits, resource)));
        let no_key = |NoKey| io("keys of logins")(io::Error::other("the system gives no random numbers"));
        let logins = Arc::new(Logins::new().map_err(no_key)?);
        if snapshot.has_grants() {
            let opening = Opening { now: &|| clock.now(), is_wanted: &|| true };
            let opened = logins.open_store(&snapshot.login_store, &snapshot.state_dir, opening);
            logins.keep_store(opened.map_err(StartError::Logins)?);
        }
        let of_process = (&clock, &logins);
        let live = Live::build(Arc::clone(&snapshot), None, &observer, &ledger, &process_key, of_process)
            .map_err(StartError::Server)?;
        // Some may have gone while the gateway did not run.
        live.keep_logins();
        observer.metrics.config_runs(snapshot.hash);
        observer.log.keep_recent(snapshot.debug);
        let shared = Arc::new(GatewayState::new(live, ledger, observer));

        let certificate = Arc::new(Certificate::default());
        let presented = snapshot
            .tls
            .as_ref()
            .map(|tls| presented(tls, &snapshot.state_dir))
            .transpose()
            .map_err(io("certificate of `proxy.tls`"))?;
        let (acceptor, self_made) = match presented {
            None => (None, None),
            Some((certified, self_made)) => {
                certificate.set(certified);
                let config = tls::server_config(Arc::clone(&certificate))
                    .map_err(|e| io("TLS")(io::Error::other(e)))?;
                (Some(TlsAcceptor::from(Arc::new(config))), self_made)
            }
        };
        Ok(Self { shared, certificate, self_made, acceptor, process_key, clock })
    }

    /// Has documents of clients come from this Internet, and not from the one that there is: for tests.
    pub fn in_internet(mut self, internet: Arc<dyn Internet>) -> Self {
        // Nobody else has it yet.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.clients = Clients::of(CachedDocuments::of(Documents::of(Arc::clone(&internet))));
            shared.credentials.in_internet(internet);
        }
        self
    }

    /// Binds the addresses and begins to serve. Must be called on a tokio runtime with I/O and time, which accepts; workers
    /// have their own.
    pub fn open(self) -> Result<Gateway, StartError> {
        let Self { shared, certificate, self_made, acceptor, process_key, clock } = self;
        let snapshot = Arc::clone(&shared.live().config);
        let listeners = bind_all(&snapshot.addr)?;
        let admin = snapshot
            .admin
            .map(|addr| listener::bind(addr).map_err(|e| StartError::Bind(addr, e)))
            .transpose()?;
        let addrs = local_addrs(&listeners);
        let admin_addr = admin.as_ref().and_then(|listener| listener.local_addr().ok());

        let count = snapshot.workers.max(1);
        let less = Arc::<Notify>::default();
        let start = |index| {
            WorkerHandle::start(index, count, Arc::clone(&shared), acceptor.clone(), Arc::clone(&less))
        };
        let workers = (0..count).map(start).collect::<io::Result<Arc<[_]>>>().map_err(io("worker thread"))?;
        let stop_accepting = CancellationToken::new();
        let public = listeners
            .into_iter()
            .map(|listener| (listener, ListenerKind::Public, Arc::clone(&shared.connections)));
        let is_remote = admin_addr.is_some_and(|addr| !addr.ip().is_loopback());
        let per_address = PerAddress { connections: ADMIN_CONNECTIONS, handshakes: ADMIN_CONNECTIONS };
        let of_admin = Connections::new(ADMIN_CONNECTIONS, SPARE_CONNECTIONS, per_address);
        let admin = admin.map(|listener| (listener, ListenerKind::Admin { is_remote }, of_admin));
        for (listener, listener_kind, connections) in public.chain(admin) {
            let (of_evicted, observer) = (Arc::downgrade(&workers), Arc::clone(&shared.observer));
            connections.on_evicted(move |evicted| {
                observer.metrics.connections_evicted.inc();
                if let Some(address) = evicted.beyond {
                    observer.rejected(Rejection::PerAddress, &address.to_string());
                }
                // Weak, since workers own the connections, and end once no handle to them is left.
                if let Some(workers) = of_evicted.upgrade() {
                    workers[evicted.worker].send(WorkerCommand::Evict(evicted.id));
                }
            });
            let (workers, shared, stop) = (Arc::clone(&workers), Arc::clone(&shared), stop_accepting.clone());
            tokio::spawn(accept(listener, listener_kind, connections, workers, shared, stop));
        }
        let of_clock = (Arc::clone(&clock), Arc::clone(&certificate), self_made.clone());
        tokio::spawn(time_of_day::watch(Arc::clone(&shared), of_clock, stop_accepting.clone()));
        tokio::spawn(login_store::watch(Arc::downgrade(&shared)));
        tokio::spawn(login_store::open(Arc::downgrade(&shared)));
        tokio::spawn(upstream_credentials::watch(Arc::downgrade(&shared)));
        let gateway = Gateway {
            shared,
            workers,
            less,
            certificate,
            self_made,
            process_key,
            clock,
            started_with: RestartKeys::of(&snapshot),
            turn: Mutex::default(),
            addrs,
            admin_addr,
            stop_accepting,
        };
        gateway.warm();
        Ok(gateway)
    }
}

impl Gateway {
    /// Binds the addresses of `snapshot` and begins to serve. Must be called on a tokio runtime with I/O and time, which
    /// accepts; workers have their own.
    pub async fn start(snapshot: &Snapshot, observer: Arc<Observer>) -> Result<Self, StartError> {
        Prepared::new(Arc::new(snapshot.clone()), observer, Clock::default())?.open()
    }

    /// The config that is in force.
    pub fn in_force(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.live().config)
    }

    /// Addresses that clients can connect to.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Address of the admin listener.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// The CA of the certificate, if the gateway makes it.
    pub fn self_made(&self) -> Option<&Arc<SelfMade>> {
        self.self_made.as_ref()
    }

    /// State that outlives reloads.
    pub fn shared(&self) -> &Arc<GatewayState> {
        &self.shared
    }

    /// Goes on serving; `/health/ready` answers 503, so that balancers send no new clients.
    pub fn leave(&self) {
        self.shared.leave();
    }

    /// Takes no connection any more; those that are there are served.
    pub fn stop_accepting(&self) {
        self.stop_accepting.cancel();
    }

    /// Begins nothing any more, and has connections finish. What they have may still be revoked by a
    /// [`Gateway::reload`].
    pub fn drain(&self) {
        self.shared.drain();
        self.workers.iter().for_each(|worker| worker.send(WorkerCommand::Drain));
    }

    /// Resolves once no connection is left. Connections are accepted as long as a client may have to answer its server
    /// before that can answer it; streams that only listen end once no answer is waited for.
    pub fn drained(&self) -> impl Future<Output = ()> + use<> {
        let (workers, stop_accepting) = (Arc::clone(&self.workers), self.stop_accepting.clone());
        let less = Arc::clone(&self.less);
        async move {
            let waits = |for_what| workers.iter().any(|worker| worker.waits(for_what));
            let mut is_listening_ended = false;
            let mut reported: Option<Instant> = None;
            loop {
                let mut is_less = pin!(less.notified());
                // From here on, so that what ends during the look counts.
                is_less.as_mut().enable();
                if !stop_accepting.is_cancelled() && !waits(Waits::Converses) {
                    stop_accepting.cancel();
                }
                // Those that were accepted meanwhile, too.
                if stop_accepting.is_cancelled()
                    && reported.is_none_or(|reported| reported.elapsed() >= TELL_DRAIN)
                {
                    reported = Some(Instant::now());
                    workers.iter().for_each(|worker| worker.send(WorkerCommand::Drain));
                }
                if !is_listening_ended && !waits(Waits::Calls) {
                    is_listening_ended = true;
                    workers.iter().for_each(|worker| worker.send(WorkerCommand::EndListening));
                }
                if stop_accepting.is_cancelled() && workers.iter().all(|worker| worker.open() == 0) {
                    return;
                }
                tokio::select! {
                    () = is_less => {}
                    () = stop_accepting.cancelled(), if !stop_accepting.is_cancelled() => {}
                    () = tokio::time::sleep(TELL_DRAIN) => {}
                }
            }
        }
    }

    /// Resolves once every worker has ended what is not admitted since the change of this generation.
    pub async fn wait_applied(&self, generation: u64) {
        for worker in &*self.workers {
            worker.wait_applied(generation).await;
        }
    }

    /// Cuts what is left, and ends processes: those that are still there after `grace`, or once `hurry` resolves, are killed. So long,
    /// an answer of the identity provider is waited for.
    pub async fn stop(&self, grace: Duration, hurry: impl Future<Output = ()>) {
        self.stop_accepting.cancel();
        // Requests of all workers first: if a session or a process ended before, what waits for it on another worker would take
        // that for a failure of the server.
        let cut: Vec<_> = self.workers.iter().map(WorkerHandle::cut_requests).collect();
        let all_cut = async {
            for requests in cut {
                requests.await;
            }
        };
        let _ = tokio::time::timeout(CUT_GRACE, all_cut).await;
        // Sessions that no request uses at the moment end here, and with them their processes.
        self.workers.iter().for_each(|worker| worker.send(WorkerCommand::Cut));
        let children = self.children();
        children.iter().for_each(|supervisors| supervisors.each(Supervisor::stop));
        let ended = async {
            let _ = tokio::time::timeout(CUT_GRACE, self.drained()).await;
            childless(&children).await;
            self.shared.rechecks.done().await;
        };
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep(grace.max(CUT_GRACE)) => {}
            () = hurry => {}
        }
        children.iter().for_each(|supervisors| supervisors.each(Supervisor::kill_now));
        // An issuer that was asked for another refresh token has forgotten the one that is kept. It has ten seconds.
        let settled = tokio::time::timeout(SETTLE, self.shared.credentials.settle()).await;
        if settled.is_err() {
            let msg = "A credential for a server may be lost: its issuer or the store does not answer";
            self.shared.observer.log.line(Level::Error, msg).send();
        }
        if let Some(grants) = self.shared.logins.grants() {
            let flushed = tokio::time::timeout(CUT_GRACE, grants.flush()).await;
            if !matches!(flushed, Ok(Ok(()))) {
                let msg =
                    "What ended logins a moment ago may not be written: the store of logins does not answer";
                self.shared.observer.log.line(Level::Error, msg).send();
            }
        }
        let _ = tokio::time::timeout(CUT_GRACE, childless(&children)).await;
        if let Some(audit) = &self.shared.live().audit {
            audit.close();
        }
    }

    fn children(&self) -> Vec<Arc<Supervisors>> {
        let live = self.shared.live();
        live.servers
            .iter()
            .filter_map(|entry| match &entry.backend {
                Backend::Stdio(supervisors) => Some(Arc::clone(supervisors)),
                _ => None,
            })
            .collect()
    }
}

async fn childless(of_commands: &[Arc<Supervisors>]) {
    for supervisors in of_commands {
        supervisors.childless().await;
    }
}

fn io(what: &str) -> impl Fn(io::Error) -> StartError {
    let what = what.to_owned();
    move |e| StartError::Io(what.clone(), e)
}

/// A certificate, and its CA if the gateway makes it.
type Presented = (Arc<CertifiedKey>, Option<Arc<SelfMade>>);

/// What to start with. A config that asks for TLS is not served without.
fn presented(tls: &Tls, state_dir: &Path) -> io::Result<Presented> {
    match tls {
        Tls::Files(Some(certified)) => Ok((Arc::clone(certified), None)),
        Tls::Files(None) => {
            Err(io::Error::other("its files cannot be used; mend them, or take the key away"))
        }
        Tls::SelfSigned { names } => {
            let now = SystemTime::now();
            let made = SelfMade::open(state_dir, names, now)?;
            Ok((made.certificate(now)?, Some(Arc::new(made))))
        }
    }
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
            Err(e) => return Err(StartError::Bind(addr, e)),
        }
    }
    Ok(listeners)
}

fn local_addrs(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

async fn accept(
    listener: TcpListener,
    listener_kind: ListenerKind,
    connections: Arc<Connections>,
    workers: Arc<[WorkerHandle]>,
    shared: Arc<GatewayState>,
    stop: CancellationToken,
) {
    let on_accept = |stream: tokio::net::TcpStream, peer: SocketAddr| {
        // To the worker with the fewest: a few long streams do not pile up on one core.
        let worker = workers.iter().enumerate().min_by_key(|(_, worker)| worker.open());
        if let (Some((index, worker)), Ok(stream)) = (worker, stream.into_std()) {
            let is_balancer = listener_kind == ListenerKind::Public
                && is_trusted(&shared.live().config.trusted_proxies, peer.ip());
            let connection_slot = connections.enter(peer.ip().into(), is_balancer, index);
            let (open, limit) = (connections.open(), connections.limit());
            if open > limit
                && let Some(line) = shared.observer.recurring(Topic::Full)
            {
                line.int("open", open).int("limit", limit).send();
            }
            worker.hand_over(Arrival { stream, peer, listener_kind, connection_slot });
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
    fn an_address_that_cannot_be_had_says_how_it_can() {
        let said = |addr: &str, errno| {
            StartError::Bind(addr.parse().expect("an address"), io::Error::from_raw_os_error(errno))
                .to_string()
        };
        let denied = said("0.0.0.0:443", libc::EACCES);
        assert!(denied.starts_with("cannot listen on 0.0.0.0:443: "), "{denied}");
        assert!(
            denied.contains("setcap cap_net_bind_service=+ep") && denied.contains("AmbientCapabilities"),
            "{denied}"
        );
        assert!(!said("0.0.0.0:8443", libc::EACCES).contains("setcap"), "that is something else");
        assert!(said("[::1]:8443", libc::EADDRINUSE).contains("ss -ltnp"));
        assert!(said("10.0.0.1:8443", libc::EADDRNOTAVAIL).contains("ip addr"));
    }

    #[test]
    fn the_log_names_the_keys_of_which_the_reference_says_that_they_need_a_restart() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().join("gate.json");
        std::fs::write(&path, r#"{"mcpServers": {}}"#).expect("written");
        let snapshot = config::load(&path, &|_| None).snapshot.expect("a good config");
        let fixed = RestartKeys::of(&snapshot);
        let mut named = fixed.compare(&fixed).map(|(key, _)| key.to_owned());
        let mut wanted = config::restart_keys();
        named.sort();
        wanted.sort();
        assert_eq!(named.as_slice(), wanted);
    }
}
