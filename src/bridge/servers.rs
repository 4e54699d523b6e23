//! From a route to a conversation with what stands behind it.

use std::{future::Future, pin::Pin, rc::Rc, sync::Arc, time::SystemTime};

use crate::{
    config::{Level, Transport},
    error::{Error, Kind},
    identity::Grant,
    link::{
        self, Link,
        aggregate::{self, Member, Report, Settings},
        place::Place,
        shared::Shared,
    },
    proxy::Admitted,
    selector::Selector,
    state::{Backend, Joint, Live, Route, Worker},
};

/// A conversation of the caller's own.
pub(super) fn open(
    worker: &Rc<Worker>,
    admitted: &Admitted<'_>,
    selector: &Selector,
) -> impl Future<Output = Result<Link, Error>> + use<> {
    let worker = Rc::clone(worker);
    let (route, caller) = (Arc::clone(&admitted.route), Caller::of(admitted));
    let members = members(&admitted.live, admitted.credential, selector);
    async move {
        match &route.backend {
            Backend::All => Ok(all(&worker, &caller, &members)),
            _ => one(&worker, &route).await,
        }
    }
}

/// A conversation that callers share.
pub(super) fn joint(worker: &Rc<Worker>, admitted: &Admitted<'_>, selector: &Selector) -> Arc<Joint> {
    let (route, idle) = (&admitted.route, admitted.route.server.idle_timeout);
    if !matches!(route.backend, Backend::All) {
        let (worker, name) = (Rc::clone(worker), Arc::clone(&route.server.name));
        return route.shared_links.get("", || Shared::start(move || current(&worker, &name), idle));
    }
    // Who sees the same servers by the same token shares: the token matters, since it may lose one of them, or expire
    // before another of its name.
    let caller = Caller::of(admitted);
    let members = members(&admitted.live, admitted.credential, selector);
    let key = format!("{:x?}\n{}", caller.digest, members.join(","));
    let worker = Rc::clone(worker);
    route
        .shared_links
        .get(&key, || Shared::start(move || std::future::ready(Ok(all(&worker, &caller, &members))), idle))
}

/// Who looks at all servers as one.
#[derive(Clone)]
struct Caller {
    digest: Option<[u8; 32]>,
}

impl Caller {
    fn of(admitted: &Admitted<'_>) -> Self {
        Self { digest: admitted.grant().digest }
    }
}

/// Names of the servers that the credential may reach and the selector selects, in the order of the config.
fn members(live: &Live, credential: Option<usize>, selector: &Selector) -> Vec<Arc<str>> {
    live.servers
        .iter()
        .filter(|route| route.is_public || credential.is_some_and(|index| route.allows(index)))
        .filter(|route| selector.selects(&route.server.name, &route.server.tags))
        .map(|route| Arc::clone(&route.server.name))
        .collect()
}

fn all(worker: &Rc<Worker>, caller: &Caller, members: &[Arc<str>]) -> Link {
    let members = members.iter().map(|name| member(worker, caller, name)).collect();
    let (live, shared) = (worker.shared.live(), Arc::clone(&worker.shared));
    let settings = Settings {
        naming: live.aggregate.naming.clone(),
        lazy: live.aggregate.lazy,
        discovery_timeout: live.aggregate.discovery_timeout,
        name: live.realm.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        changes: shared.changes(),
        report: Rc::new(move |report| tell(&shared, report)),
    };
    aggregate::open(members, settings)
}

fn member(worker: &Rc<Worker>, caller: &Caller, name: &Arc<str>) -> Member {
    let shared = Arc::clone(&worker.shared);
    // That it was stopped meanwhile shows in the epoch.
    let grant = Grant { digest: caller.digest, server: Arc::clone(name), stops: 0 };
    let (worker, of_open) = (Rc::clone(worker), Arc::clone(name));
    Member {
        name: Arc::clone(name),
        open: Box::new(move || current(&worker, &of_open)),
        granted: Box::new(move || {
            let live = shared.live();
            let switch = &live.route(&grant.server)?.switch;
            let admits = || live.still_admits(&grant, SystemTime::now());
            (!switch.is_stopped() && admits()).then(|| switch.epoch())
        }),
    }
}

/// What becomes of the members of all servers as one, for the log and `/status`.
fn tell(shared: &crate::state::Shared, report: Report<'_>) {
    let line = |level, msg| shared.observer.log.line(level, msg);
    let problem = |server: &str, cause: Option<&str>| {
        if let Some(route) = shared.live().route(server) {
            route.switch.set_problem(cause);
        }
    };
    match report {
        Report::Up { server } => problem(server, None),
        // Who ends the gate knows that its servers go.
        Report::Down { .. } if shared.is_draining() => {}
        Report::Down { server, cause } => {
            problem(server, Some(cause));
            line(Level::Warn, "Server left out of all servers as one")
                .str("server", server)
                .text("cause", cause)
                .send();
        }
        Report::Collision { name, servers: [first, second] } => {
            line(Level::Warn, "Two servers offer the same name")
                .text("name", name)
                .str("server", first)
                .str("other", second)
                .send();
        }
        Report::TooMany { server } => {
            line(Level::Warn, "Server lists more than is kept; the rest is not offered")
                .str("server", server)
                .send();
        }
    }
}

/// One conversation with one server.
async fn one(worker: &Rc<Worker>, route: &Route) -> Result<Link, Error> {
    if route.switch.is_stopped() {
        return Err(Kind::Unavailable.because("the server was stopped"));
    }
    let live = worker.shared.live().clone();
    let link = match &route.backend {
        Backend::Http { endpoint, target } => {
            let place = Place {
                endpoint: Arc::clone(endpoint),
                target: target.clone(),
                pool: Rc::clone(&worker.pool),
                connect_timeout: live.limits.connect_timeout,
                head_timeout: route.server.timeout.unwrap_or(live.limits.upstream_timeout),
            };
            match target.transport {
                Transport::StreamableHttp => link::streamable::open(place),
                Transport::Sse => link::sse::open(place),
            }
        }
        Backend::Stdio(supervisor) => {
            let opened = link::stdio::open(supervisor).await;
            route.switch.set_problem(opened.as_ref().err().and_then(|error| error.cause.as_deref()));
            opened?
        }
        Backend::Inline(server) => link::inline::open(Arc::clone(server)),
        Backend::All => return Err(Kind::Internal.because("all servers as one are no member of themselves")),
    };
    Ok(match &route.server.tool_filter {
        Some(filter) => link::filter::wrap(link, Arc::clone(filter)),
        None => link,
    })
}

/// A conversation with the server that has this name now.
fn current(worker: &Rc<Worker>, name: &Arc<str>) -> Pin<Box<dyn Future<Output = Result<Link, Error>>>> {
    let (worker, name) = (Rc::clone(worker), Arc::clone(name));
    Box::pin(async move {
        let route = worker.shared.live().route(&name).cloned();
        let route = route.ok_or_else(|| Kind::UpstreamUnreachable.because("the server is gone"))?;
        one(&worker, &route).await
    })
}
