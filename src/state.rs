//! What requests see: [`Shared`] outlives reloads, [`Live`] is built from one config and never changes.

use std::{
    cell::Cell,
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::{ArcSwap, Guard};
use prometheus::IntCounter;

use crate::{
    auth::{TokenTable, may_use},
    config::{Access, Credential, HttpTarget, Limits, Server, Snapshot, Target},
    identity::{Grant, Subject},
    mcp::session::SessionKey,
    observe::{Metrics, Observer, ServerMetrics},
    upstream::{Endpoint, Pool, Unusable},
    watchdog::Watchdog,
};

/// What outlives a reload.
pub struct Shared {
    live: ArcSwap<Live>,
    /// Log and counters.
    pub observer: Arc<Observer>,
    draining: AtomicBool,
}

impl Shared {
    /// State of a gate that starts with `live`.
    pub fn new(live: Live, observer: Arc<Observer>) -> Self {
        Self { live: ArcSwap::from_pointee(live), observer, draining: AtomicBool::new(false) }
    }

    /// The config of this moment. Hold it for as long as decisions must agree, not across a wait.
    pub fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// Makes `live` the config of every request that begins from now on.
    pub fn swap(&self, live: Arc<Live>) {
        self.live.store(live);
    }

    /// Whether the gate is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Nothing new is taken from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// What the requests of one worker share: one thread, so nothing of it is locked.
pub struct Worker {
    /// State of the gate.
    pub shared: Arc<Shared>,
    /// Connections to servers that wait for a request.
    pub pool: Rc<Pool>,
    /// Deadlines and cuts of what runs here.
    pub watchdog: Rc<Watchdog<Subject>>,
    next_id: Cell<u64>,
}

impl Worker {
    /// A worker of the gate whose state is `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        let next_id = Cell::new(first_request_id());
        Self { shared, pool: Rc::default(), watchdog: Rc::default(), next_id }
    }

    /// An id for the next request: unique within the process, and unlikely to repeat in the next one.
    pub fn next_request_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
        id
    }
}

fn first_request_id() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness ids begin at zero; they are for reading logs, not for secrets.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Everything that requests need of one config.
pub struct Live {
    /// `proxy.name`, as it stands in a challenge.
    pub realm: String,
    /// `proxy.auth.queryToken`.
    pub query_token: bool,
    /// Hosts and origins that may call.
    pub doors: Doors,
    /// What a peer may cost.
    pub limits: Limits,
    /// Credentials by digest; indexes into `credentials`.
    pub tokens: TokenTable,
    /// Every credential.
    pub credentials: Vec<Holder>,
    /// Servers by name.
    pub routes: HashMap<Box<str>, Arc<Route>>,
    /// Binds session ids to callers.
    pub sessions: SessionKey,
}

/// Which hosts and origins a request may name.
pub struct Doors {
    /// `proxy.allowedHosts`.
    pub hosts: Vec<crate::config::HostPattern>,
    /// `proxy.allowedOrigins`.
    pub origins: Vec<String>,
    /// Whether any loopback origin is the gate's own.
    pub loopback_origins: bool,
}

/// A credential and what is counted for it.
pub struct Holder {
    /// As configured.
    pub credential: Credential,
    /// `token_used_total` of this credential.
    pub used: IntCounter,
}

/// A server: where requests for it go, and who may send them.
pub struct Route {
    /// As configured.
    pub server: Server,
    /// What stands behind it.
    pub backend: Backend,
    /// By index of the credential: whether it may pass. Unused where `is_public`.
    allowed: Vec<bool>,
    /// Whether no token is asked for.
    pub is_public: bool,
    /// Counters of this server.
    pub metrics: Arc<ServerMetrics>,
}

/// What stands behind a route.
pub enum Backend {
    /// An HTTP server.
    Http {
        /// Where to connect to.
        endpoint: Arc<Endpoint>,
        /// As configured.
        target: HttpTarget,
    },
    /// A kind of server that this build cannot run yet.
    Unsupported,
}

impl Route {
    /// Whether there is anything to send requests to.
    pub fn can_run(&self) -> bool {
        matches!(self.backend, Backend::Http { .. })
    }

    /// Whether the credential at this index may use the server.
    pub fn allows(&self, credential: usize) -> bool {
        self.allowed.get(credential).copied().unwrap_or(false)
    }
}

impl Live {
    /// Builds the state for `snapshot`. Connections and keys of `previous` are taken over where the config left them as
    /// they were; `process_key` binds sessions when the config names no key.
    pub fn build(
        snapshot: &Snapshot,
        previous: Option<&Self>,
        metrics: &Metrics,
        process_key: &SessionKey,
    ) -> Result<Self, Unusable> {
        let credentials: Vec<Holder> = snapshot
            .credentials
            .iter()
            .map(|credential| Holder {
                credential: credential.clone(),
                used: metrics.token_used(&credential.token_name, credential.position),
            })
            .collect();
        let mut routes = HashMap::with_capacity(snapshot.servers.len());
        for server in &snapshot.servers {
            let kept = previous.and_then(|live| live.routes.get(&*server.name));
            let route = Route {
                backend: backend(&server.target, previous)?,
                allowed: snapshot.credentials.iter().map(|c| may_use(&server.access, c)).collect(),
                is_public: server.access == Access::Public,
                metrics: kept
                    .map_or_else(|| metrics.server(&server.name), |route| Arc::clone(&route.metrics)),
                server: server.clone(),
            };
            routes.insert(Box::from(&*server.name), Arc::new(route));
        }
        Ok(Self {
            realm: snapshot.name.clone(),
            query_token: snapshot.query_token,
            doors: Doors {
                hosts: snapshot.allowed_hosts.clone(),
                origins: snapshot.allowed_origins.clone(),
                loopback_origins: snapshot.loopback_origins,
            },
            limits: snapshot.limits.clone(),
            tokens: TokenTable::build(&snapshot.credentials),
            credentials,
            routes,
            sessions: snapshot
                .session_key
                .as_ref()
                .map_or_else(|| process_key.clone(), SessionKey::from_secret),
        })
    }

    /// Whether what was admitted by `grant` would be admitted now.
    pub fn still_admits(&self, grant: &Grant, now: SystemTime) -> bool {
        let Some(route) = self.routes.get(&*grant.server) else { return false };
        if route.is_public {
            return true;
        }
        let Some(digest) = &grant.digest else { return false };
        self.tokens
            .find_digest(digest)
            .is_some_and(|index| self.credentials[index].is_valid(|| now) && route.allows(index))
    }

    /// Whether connections to `endpoint` may still be of use.
    pub fn uses(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.routes.values().any(|route| match &route.backend {
            Backend::Http { endpoint: used, .. } => Arc::ptr_eq(used, endpoint),
            Backend::Unsupported => false,
        })
    }

    /// Whether any credential ends by itself.
    pub fn has_expiry(&self) -> bool {
        self.credentials.iter().any(|holder| holder.credential.expires.is_some())
    }
}

impl Holder {
    /// Whether the role `admin` was given to it.
    pub fn is_admin(&self) -> bool {
        self.credential.roles.iter().any(|role| role == "admin")
    }

    /// Whether the credential has not expired.
    pub fn is_valid(&self, now: impl FnOnce() -> SystemTime) -> bool {
        self.credential.expires.is_none_or(|expires| now() < expires)
    }
}

fn backend(target: &Target, previous: Option<&Live>) -> Result<Backend, Unusable> {
    let Target::Http(target) = target else { return Ok(Backend::Unsupported) };
    let kept = previous.and_then(|live| {
        live.routes.values().find_map(|route| match &route.backend {
            Backend::Http { endpoint, .. } if endpoint.is_same_place(&target.url, target.ca_pem.as_ref()) => {
                Some(Arc::clone(endpoint))
            }
            _ => None,
        })
    });
    let endpoint = match kept {
        Some(endpoint) => endpoint,
        None => Arc::new(Endpoint::new(&target.url, target.ca_pem.clone())?),
    };
    Ok(Backend::Http { endpoint, target: target.clone() })
}
