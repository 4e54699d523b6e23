//! From the entry of a server to a conversation with what is behind it.

use std::{
    cell::RefCell,
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    child::Supervisor,
    config::{Level, McpTransport},
    credentials::{Asker, Missing, NotReady},
    error::{Error, ErrorKind, Side},
    identity::{
        Admission, AdmittedParty, Caller, Identity, Members, Principal, credential_key::CredentialKey,
    },
    ledger::{Owner, Resource},
    link::{
        self, FromServer, Link, ToServer,
        aggregate::{self, AggregateSettings, Member, MemberReport, MemberTimeouts},
        awaited::{Callers, to_log},
        awaiting::{self, AwaitingServer, OpenServer, Waits, refusal},
        filter::{Filter, WithheldReport},
        remote::server::{HttpServer, LinkCredential, MOST_IN_FLIGHT},
        shared::{self, SharedLink},
    },
    mcp::{
        message::{Id, Message},
        version::LEGACY,
    },
    observe::{Group, Topic},
    policy::{selector::Selector, tools::ToolView},
    request::{admitted::Admitted, missing},
    servers::{Backend, MemberKey, ServerEntry, SharedConversation, SharedKey},
    state::{GatewayState, Live, Worker},
    upstream::client::Client,
};

/// A conversation of the caller's own.
pub(super) struct OpenedLink {
    pub(super) link: Link,
    /// Names of the servers behind it, where those are all servers as one.
    pub(super) members: Members,
    /// Is to say whether the client listens to what servers say of themselves.
    pub(super) listens: Arc<AtomicBool>,
    /// How long it may be without a request or stream.
    pub(super) idle: Duration,
    /// What of it is for whoever began it.
    pub(super) filter: Filter,
    /// The credential of a caller's that the server is called with, by which it ends.
    pub(super) credential: Option<CredentialKey>,
}

/// A conversation of the caller's own. `to` is who may go on with it: the credential of a request that is
/// self-contained, or the token name of a session.
pub(super) fn open(
    worker: &Rc<Worker>,
    admitted: &Admitted<'_>,
    selector: &Selector,
    to: AdmittedParty,
) -> impl Future<Output = Result<OpenedLink, Error>> + use<> {
    let (worker, entry) = (Rc::clone(worker), Arc::clone(&admitted.entry));
    let identity = Arc::clone(to.identity());
    let (view, owner) = (AggregateView::of(admitted, selector, to), Arc::clone(&admitted.owner));
    let principal = admitted.caller.identity.principal.clone();
    async move {
        let listens = Arc::default();
        Ok(match view {
            Some(view) => {
                let link = all(&worker, &view, Arc::clone(&listens));
                let members = view.members.iter().map(|(name, _)| Arc::clone(name)).collect();
                // Members have filters of their own.
                let (idle, filter) = (view.idle, Filter::open());
                OpenedLink { link, members, listens, idle, filter, credential: None }
            }
            None => {
                let waits = Waits::default();
                let is_kept = entry.credentials.as_ref().is_some_and(|credentials| credentials.is_kept());
                let (link, credential) = match reach(&worker, &entry, &owner, &principal, None, Callers::One)
                    .await
                {
                    Ok((link, key)) => (link, is_kept.then_some(key)),
                    Err(NotReached::Missing(missing)) => {
                        let goes_on = once_connected(&worker, &entry.server.name, &owner, &principal);
                        let goes_on = Some(goes_on);
                        let link = await_credential(&worker, &entry, &principal, &missing, &waits, goes_on)?;
                        (link, None)
                    }
                    Err(why) => return Err(why.into_error(&worker.shared, &entry)),
                };
                let idle = entry.server.idle_timeout;
                let filter = filter(&worker.shared, &entry.server.name, identity, waits);
                OpenedLink { link, members: Arc::default(), listens, idle, filter, credential }
            }
        })
    }
}

/// A conversation that callers share.
pub(super) fn conversation(
    worker: &Rc<Worker>,
    admitted: &Admitted<'_>,
    selector: &Selector,
) -> Result<Arc<SharedConversation>, Error> {
    let (entry, owner) = (&admitted.entry, &admitted.owner);
    let (worker, idle) = (Rc::clone(worker), entry.server.idle_timeout);
    let links = &entry.shared_links;
    if let Some(view) = AggregateView::of(admitted, selector, admitted.caller.as_credential()) {
        let idle = view.idle;
        let found = links.get(view.key(), Some(owner), |lease| {
            let settings = shared::SharedLinkSettings { lease, ..shared::SharedLinkSettings::new(idle) };
            SharedLink::start(move || std::future::ready(Ok(all(&worker, &view, Arc::default()))), settings)
        });
        return found.map_err(|limit| Error::out_of(Resource::Sessions, limit));
    }
    let principal = &admitted.caller.identity.principal;
    let credential = entry.credential_key(principal);
    let everyone = SharedKey::Everyone(credential);
    // A caller that may have ended the shared process gets one of its own. Without room for that, it may use the shared one only
    // if it was suspected once, and no other caller uses it.
    if links.quarantine().has(owner.name()) {
        let (worker, name, of_link) = (Rc::clone(&worker), Arc::clone(&entry.server.name), Arc::clone(owner));
        let principal = principal.clone();
        let own = links.get(SharedKey::Owner(owner.name().clone(), credential), Some(owner), |lease| {
            let settings = shared::SharedLinkSettings { lease, ..shared::SharedLinkSettings::new(idle) };
            SharedLink::start(move || current(&worker, &name, &of_link, &principal, credential), settings)
        });
        match own {
            Ok(own) => return Ok(own),
            Err(_) if links.is_unused(&everyone) && !links.quarantine().has_again(owner.name()) => {}
            Err(limit) => return Err(Error::out_of(Resource::Sessions, limit)),
        }
    }
    let (name, gateway) = (Arc::clone(&entry.server.name), Arc::clone(worker.shared.ledger.gateway()));
    let principal = principal.clone();
    let found = links.get(everyone, None, |_| {
        let mut settings = shared::SharedLinkSettings {
            on_lost: keep_apart(entry),
            ..shared::SharedLinkSettings::new(idle)
        };
        if matches!(entry.backend, Backend::Http { .. }) {
            settings.requests = MOST_IN_FLIGHT;
        }
        SharedLink::start(move || current(&worker, &name, &gateway, &principal, credential), settings)
    });
    found.map_err(|limit| Error::out_of(Resource::Sessions, limit))
}

/// Keeps callers apart that may have ended the process that they shared: one that ended by itself, not because it was
/// stopped, or is not that of the config any more.
fn keep_apart(entry: &Arc<ServerEntry>) -> shared::OnLost {
    let (quarantine, run_state) = (entry.shared_links.quarantine().clone(), Arc::clone(&entry.run_state));
    let epoch = run_state.epoch();
    let is_process = matches!(entry.backend, Backend::Stdio(_));
    Rc::new(move |suspects| match is_process && run_state.epoch() == epoch {
        true => quarantine.note(suspects),
        false => Vec::new(),
    })
}

/// What somebody sees of all servers as one.
struct AggregateView {
    /// Whose grants are asked. For requests that are self-contained it is the credential, not the name: roles are the
    /// credential's, and a call ends with the grants of the credential that it came by, even if another of the name
    /// keeps them.
    to: AdmittedParty,
    members: Arc<[MemberKey]>,
    owner: Arc<Owner>,
    /// The longest that one of them may lie idle: with all of them, none is kept for less than it would be alone.
    idle: Duration,
}

impl AggregateView {
    /// `None` if the request is for a single server.
    fn of(admitted: &Admitted<'_>, selector: &Selector, to: AdmittedParty) -> Option<Self> {
        matches!(admitted.entry.backend, Backend::All).then(|| {
            let live = &admitted.live;
            let members = members(live, &admitted.caller, selector);
            let idle = members.iter().filter_map(|(name, _)| live.entry(name));
            let idle = idle.map(|entry| entry.server.idle_timeout).max();
            let owner = Arc::clone(&admitted.owner);
            Self { to, members, owner, idle: idle.unwrap_or(admitted.entry.server.idle_timeout) }
        })
    }

    fn key(&self) -> SharedKey {
        let (to, members) = (self.to.clone(), Arc::clone(&self.members));
        SharedKey::View { to, owner: self.owner.name().clone(), members }
    }
}

/// The servers that the caller may use and the selector selects, in the order of the config.
fn members(live: &Live, caller: &Caller, selector: &Selector) -> Arc<[MemberKey]> {
    live.servers
        .iter()
        .filter(|entry| entry.admits_as_member(caller) && entry.has_subject(caller))
        .filter(|entry| selector.selects(&entry.server.name, &entry.server.tags))
        .map(|entry| (Arc::clone(&entry.server.name), entry.credential_key(&caller.identity.principal)))
        .collect()
}

fn all(worker: &Rc<Worker>, view: &AggregateView, listens: Arc<AtomicBool>) -> Link {
    let members = view.members.iter().map(|(name, _)| member(worker, view, name)).collect();
    let (live, shared) = (worker.shared.live(), Arc::clone(&worker.shared));
    let settings = AggregateSettings {
        naming: live.config.aggregate.naming.clone(),
        lazy: live.config.aggregate.lazy,
        discovery_timeout: live.config.aggregate.discovery_timeout,
        owner: Arc::clone(&view.owner),
        name: live.config.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        changes: shared.changes(),
        listens,
        report: Rc::new(move |report| report_member(&shared, report)),
    };
    aggregate::open(members, settings)
}

/// A member, with the credential that whoever sees the view has at the moment.
fn member(worker: &Rc<Worker>, view: &AggregateView, name: &Arc<str>) -> Member {
    let shared = Arc::clone(&worker.shared);
    // That it was stopped meanwhile shows in the epoch.
    let admission = Admission::new(view.to.clone(), Arc::clone(name), 0);
    let (worker, of_open, owner) = (Rc::clone(worker), Arc::clone(name), Arc::clone(&view.owner));
    let waits = Waits::default();
    let filter = filter(&shared, name, Arc::clone(view.to.identity()), waits.clone());
    let (of_patience, of_config) = (Arc::clone(name), Arc::clone(&shared));
    let patience = move || {
        let live = of_config.live();
        let server = live.entry(&of_patience).map(|entry| &entry.server);
        let answer = server.and_then(|server| server.timeout);
        let start = answer.unwrap_or(live.limits.upstream_timeout);
        MemberTimeouts {
            answer,
            start,
            idle: server.map_or(live.all.server.idle_timeout, |it| it.idle_timeout),
        }
    };
    let health = shared.live().entry(name).map(|entry| Arc::clone(&entry.health)).unwrap_or_default();
    let principal = view.to.identity().principal.clone();
    let open = move || -> Pin<Box<dyn Future<Output = Result<Link, Error>>>> {
        let (worker, name, owner) = (Rc::clone(&worker), Arc::clone(&of_open), Arc::clone(&owner));
        let (principal, waits) = (principal.clone(), waits.clone());
        Box::pin(async move {
            let entry = entry_of(&worker, &name)?;
            waits.set(false);
            match reach(&worker, &entry, &owner, &principal, None, Callers::Many).await {
                Err(NotReached::Missing(missing)) => {
                    await_credential(&worker, &entry, &principal, &missing, &waits, None)
                }
                reached => {
                    reached.map(|(link, _)| link).map_err(|why| why.into_error(&worker.shared, &entry))
                }
            }
        })
    };
    Member {
        patience: Box::new(patience),
        health,
        filter,
        name: Arc::clone(name),
        open: Box::new(open),
        granted: Box::new(move || {
            let live = shared.live();
            let entry = live.entry(&admission.server)?;
            let admits = || live.still_admits_member(&admission);
            let epoch = entry.run_state.epoch();
            (!entry.run_state.is_stopped() && admits()).then(|| match &entry.credentials {
                None => epoch,
                // With another credential it is another server.
                Some(credentials) => {
                    let mut hasher = DefaultHasher::new();
                    (epoch, credentials.key(&admission.to.identity().principal)).hash(&mut hasher);
                    hasher.finish()
                }
            })
        }),
    }
}

/// What becomes of the members of all servers as one, for the log and `/status`.
fn report_member(shared: &GatewayState, report: MemberReport<'_>) {
    let observer = &shared.observer;
    let health = |server: &str| shared.live().entry(server).map(|entry| Arc::clone(&entry.health));
    match report {
        MemberReport::Listed { server, method } => {
            health(server).iter().for_each(|health| health.listed(method))
        }
        // Who ends the gateway knows that its servers go.
        MemberReport::Down { .. } | MemberReport::ListFailed { .. } if shared.is_draining() => {}
        // That this caller may have no more, or that there is no more, is no problem of the server's.
        MemberReport::Down { server, kind, cause } | MemberReport::ListFailed { server, kind, cause, .. }
            if kind.side() != Side::Upstream =>
        {
            observer.metrics.refused(kind.code());
            if let Some(line) = observer.recurring(Topic::Refused(kind)) {
                line.str("server", server).text("cause", cause).send();
            }
        }
        MemberReport::ListFailed { server, method, kind, cause } => {
            health(server).iter().for_each(|health| health.list_failed(method, cause));
            observer.metrics.upstream_error(server, kind.code());
            if let Some(line) = observer.recurring(Topic::ListFailed(Group::of(server))) {
                line.str("server", server).str("rpc_method", method).text("cause", cause).send();
            }
        }
        MemberReport::Down { server, kind, cause } => {
            health(server).iter().for_each(|health| health.failed(cause));
            observer.metrics.upstream_error(server, kind.code());
            if let Some(line) = observer.recurring(Topic::LeftOut(Group::of(server))) {
                line.str("server", server).text("cause", cause).send();
            }
        }
        MemberReport::Collision { name, servers: [first, second] } => {
            if let Some(line) = observer.recurring(Topic::Collision) {
                line.text("name", name).str("server", first).str("other", second).send();
            }
        }
        MemberReport::TooMany { server } => {
            if let Some(line) = observer.recurring(Topic::TooMany) {
                line.str("server", server).send();
            }
        }
    }
}

/// Why there is no conversation with a server.
enum NotReached {
    /// There is no credential to call it with.
    Missing(Missing),
    Failed(Error),
}

impl From<Error> for NotReached {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NotReady> for NotReached {
    fn from(why: NotReady) -> Self {
        match why {
            NotReady::Missing(missing) => Self::Missing(missing),
            NotReady::Unavailable(why) => Self::Failed(ErrorKind::UpstreamAuthUnavailable.with_cause(why)),
            NotReady::Refused(why) => Self::Failed(ErrorKind::UpstreamUnauthorized.with_cause(why)),
        }
    }
}

impl NotReached {
    fn into_error(self, shared: &GatewayState, entry: &ServerEntry) -> Error {
        match self {
            Self::Missing(missing) => missing::notice_of(entry, &shared.live(), &missing)
                .map_or(ErrorKind::UpstreamAuthorizationRequired.into(), |notice| refusal(&notice)),
            Self::Failed(error) => error,
        }
    }
}

/// One conversation with one server, for `owner`, of which these are the callers. The server is called with the credential of
/// `principal`, which is returned, and has to be `wanted`, if that is known. Which of its tools are for whom is for those who use it.
async fn reach(
    worker: &Rc<Worker>,
    entry: &Arc<ServerEntry>,
    owner: &Arc<Owner>,
    principal: &Principal,
    wanted: Option<CredentialKey>,
    callers: Callers,
) -> Result<(Link, CredentialKey), NotReached> {
    if entry.run_state.is_stopped() {
        return Err(Error::stopped().into());
    }
    let credential = match &entry.credentials {
        None => None,
        Some(credentials) => {
            // Held from before, so that a token which is exchanged is found.
            let holder = entry.key_holders.hold(credentials.key(principal), principal);
            let ready = match credentials.ready(principal) {
                Some(ready) => ready,
                None => {
                    let foreign_token = holder.token();
                    let foreign_token = foreign_token.as_ref();
                    credentials.obtain(&Asker { foreign_token, ..Asker::of(principal) }).await?
                }
            };
            if wanted.is_some_and(|wanted| wanted != ready.key) {
                let cause = "the server was connected anew, or disconnected";
                return Err(ErrorKind::Unavailable.with_cause(cause).into());
            }
            let holder = entry.key_holders.hold(ready.key, principal);
            Some((credentials, ready, holder))
        }
    };
    let live = worker.shared.live().clone();
    let key = credential.as_ref().map_or(CredentialKey::STATIC, |(_, ready, _)| ready.key);
    let link = match &entry.backend {
        Backend::Http { origin, target } => {
            let credential = credential.map(|(credentials, ready, holder)| {
                let (of_notice, shared) = (Arc::clone(entry), Arc::clone(&worker.shared));
                LinkCredential {
                    credentials: Arc::clone(credentials),
                    of: principal.clone(),
                    key: ready.key,
                    foreign_token: Box::new(move || holder.token()),
                    notice: Box::new(move |missing| missing::notice_of(&of_notice, &shared.live(), missing)),
                    lacks: Default::default(),
                }
            });
            let http_server = HttpServer {
                client: Client {
                    origin: Arc::clone(origin),
                    pool: Rc::clone(&worker.pool),
                    connect_timeout: live.limits.connect_timeout,
                    head_timeout: entry.server.timeout.unwrap_or(live.limits.upstream_timeout),
                },
                target: target.clone(),
                owner: Arc::clone(owner),
                health: Arc::clone(&entry.health),
                report: to_log(Arc::clone(&worker.shared.observer), Arc::clone(&entry.server.name)),
                line: Default::default(),
                callers,
                credential,
            };
            match target.transport {
                McpTransport::StreamableHttp => link::remote::streamable::open(http_server),
                McpTransport::Sse => link::remote::sse::open(http_server),
            }
        }
        Backend::Stdio(supervisors) => {
            let supervisor = supervisors.get(key);
            if let Some((_, ready, holder)) = credential {
                supervisor.give(ready.env.clone(), holder);
            }
            supervisor.set_longest_start(entry.server.timeout.unwrap_or(live.limits.upstream_timeout));
            link::stdio::open(&supervisor, owner, callers).await?
        }
        Backend::Inline(server) => link::inline::open(Arc::clone(server), Arc::clone(owner)),
        Backend::All => {
            let cause = "all servers as one are no member of themselves";
            return Err(ErrorKind::Internal.with_cause(cause).into());
        }
    };
    Ok((link, key))
}

/// A conversation in the place of a server that waits for a credential of `principal`. `goes_on`: it goes on with the server itself once
/// there is one.
fn await_credential(
    worker: &Rc<Worker>,
    entry: &ServerEntry,
    principal: &Principal,
    missing: &Missing,
    waits: &Waits,
    goes_on: Option<OpenServer>,
) -> Result<Link, Error> {
    let shared = Arc::clone(&worker.shared);
    let notice =
        missing::notice_of(entry, &shared.live(), missing).ok_or(ErrorKind::UpstreamAuthorizationRequired)?;
    if !notice.has_tool {
        return Err(refusal(&notice));
    }
    let (name, principal, changes) = (Arc::clone(&entry.server.name), principal.clone(), shared.changes());
    let key = move || match shared.live().entry(&name) {
        Some(entry) => entry.credential_key(&principal),
        None => CredentialKey::STATIC,
    };
    let (key, waits) = (Box::new(key), waits.clone());
    Ok(awaiting::open(AwaitingServer { notice, key, changes, waits, open: goes_on }))
}

/// Opens a conversation of one caller with the server that has this name now, once there is a credential to call it with.
fn once_connected(
    worker: &Rc<Worker>,
    name: &Arc<str>,
    owner: &Arc<Owner>,
    principal: &Principal,
) -> OpenServer {
    let (worker, name) = (Rc::clone(worker), Arc::clone(name));
    let (owner, principal) = (Arc::clone(owner), principal.clone());
    Box::new(move || {
        let (worker, name) = (Rc::clone(&worker), Arc::clone(&name));
        let (owner, principal) = (Arc::clone(&owner), principal.clone());
        Box::pin(async move {
            let entry = entry_of(&worker, &name)?;
            match reach(&worker, &entry, &owner, &principal, None, Callers::One).await {
                Err(NotReached::Missing(_)) => Ok(None),
                reached => reached.map(Some).map_err(|why| why.into_error(&worker.shared, &entry)),
            }
        })
    })
}

fn entry_of(worker: &Worker, name: &str) -> Result<Arc<ServerEntry>, Error> {
    let entry = worker.shared.live().entry(name).cloned();
    entry.ok_or_else(|| ErrorKind::UpstreamUnreachable.with_cause("the server is gone"))
}

/// What of a conversation with the server of this name is for `identity`, by the config in force. What the gateway says while the server
/// waits for a credential is for everybody.
fn filter(shared: &Arc<GatewayState>, name: &Arc<str>, identity: Arc<Identity>, waits: Waits) -> Filter {
    let (of_tools, of_name) = (Arc::clone(shared), Arc::clone(name));
    // Looked up once for each config. Of a server that is gone, until its conversations end, it is what it was.
    let known = RefCell::new((None::<Arc<ServerEntry>>, None::<ToolView>));
    let tools = move || {
        if waits.get() {
            return None;
        }
        let live = of_tools.live();
        let mut known = known.borrow_mut();
        if let Some(entry) = live.entry(&of_name)
            && !known.0.as_ref().is_some_and(|of_known| Arc::ptr_eq(of_known, entry))
        {
            *known = (Some(Arc::clone(entry)), entry.tool_view_as(&identity));
        }
        known.1.clone()
    };
    Filter::new(Box::new(tools), report_withheld(shared, name))
}

/// Commands that are started at a time before anybody needs them.
static WARMING: Semaphore = Semaphore::const_new(4);

/// How long one of them may take: whoever wants it installed has it installed by then.
const WARM: Duration = Duration::from_secs(10 * 60);

/// Starts a command before anybody needs it, waits until it answers, and ends it. What it had to install for that is there
/// when somebody comes.
pub async fn warm(shared: Arc<GatewayState>, supervisor: Arc<Supervisor>) {
    let Ok(_turn) = WARMING.acquire().await else { return };
    supervisor.set_longest_start(WARM);
    let info = json!({ "name": "sluicegate", "version": env!("CARGO_PKG_VERSION") });
    let params = json!({ "protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": info });
    let answered = async {
        let mut link = link::stdio::open(&supervisor, shared.ledger.gateway(), Callers::One).await?;
        let request = Message::request(&Id::number(0), "initialize", &params.to_string());
        let request = request.map_err(|why| ErrorKind::Internal.with_cause(why.to_string()))?;
        // If it has just ended, that is what comes next.
        let _ = link.to_server.send(ToServer::Message(request.into())).await;
        match link.from_server.recv().await {
            Some(FromServer::Ended { cause }) => Err(ErrorKind::UpstreamUnreachable.with_cause(cause)),
            Some(FromServer::Failed { error, .. }) => Err(error),
            Some(FromServer::Message { .. }) => Ok(()),
            None => Err(ErrorKind::UpstreamUnreachable.into()),
        }
    };
    let failed = match tokio::time::timeout(WARM, answered).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer to initialize".to_owned()),
    };
    let log = &shared.observer.log;
    match failed {
        None => log.line(Level::Info, "Server is warm").str("server", supervisor.name()).send(),
        // Who is ended by a stop or a reload did not fail.
        Some(_) if supervisor.is_stopped() => {}
        Some(cause) => {
            log.line(Level::Warn, "Server could not be warmed")
                .str("server", supervisor.name())
                .text("cause", &cause)
                .send();
        }
    }
}

/// Says in the log and the counters that a list of the server's does not pass.
pub(super) fn report_withheld(shared: &Arc<GatewayState>, server: &Arc<str>) -> WithheldReport {
    let (shared, server) = (Arc::clone(shared), Arc::clone(server));
    Box::new(move |error| {
        let observer = &shared.observer;
        observer.metrics.upstream_error(&server, error.kind.code());
        if let Some(line) = observer.recurring(Topic::Withheld) {
            line.str("server", &server).text("cause", error.cause.as_deref().unwrap_or_default()).send();
        }
    })
}

/// A conversation with the server that has this name now, for `owner`, which callers share: those for whom it is called with
/// `credential`, which is that of `principal`.
fn current(
    worker: &Rc<Worker>,
    name: &Arc<str>,
    owner: &Arc<Owner>,
    principal: &Principal,
    credential: CredentialKey,
) -> Pin<Box<dyn Future<Output = Result<Link, Error>>>> {
    let (worker, name) = (Rc::clone(worker), Arc::clone(name));
    let (owner, principal) = (Arc::clone(owner), principal.clone());
    Box::pin(async move {
        let entry = entry_of(&worker, &name)?;
        let reached = reach(&worker, &entry, &owner, &principal, Some(credential), Callers::Many).await;
        reached.map(|(link, _)| link).map_err(|why| why.into_error(&worker.shared, &entry))
    })
}
