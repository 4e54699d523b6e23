//! From a route to a conversation with what stands behind it.

use std::{future::Future, pin::Pin, rc::Rc, sync::Arc, time::SystemTime};

use crate::{
    config::{Level, Transport},
    error::{Error, Kind},
    identity::{Grant, Grantee, Members},
    link::{
        self, Link,
        aggregate::{self, Member, Report, Settings},
        place::Place,
        shared::Shared,
    },
    proxy::Admitted,
    selector::Selector,
    state::{Backend, Joint, Live, Route, Shared as GateState, Worker},
};

/// A conversation of the caller's own. `to` is who may go on with it: the credential of a request that stands alone, or the
/// token name of a session. With it come the names of the servers behind it, where those are all servers as one.
pub(super) fn open(
    worker: &Rc<Worker>,
    admitted: &Admitted<'_>,
    selector: &Selector,
    to: Grantee,
) -> impl Future<Output = Result<(Link, Members), Error>> + use<> {
    let (worker, route) = (Rc::clone(worker), Arc::clone(&admitted.route));
    let view = View::of(admitted, selector, to);
    async move {
        match view {
            Some(view) => Ok((all(&worker, &view), view.members)),
            None => Ok((one(&worker, &route).await?, Arc::default())),
        }
    }
}

/// A conversation that callers share.
pub(super) fn joint(worker: &Rc<Worker>, admitted: &Admitted<'_>, selector: &Selector) -> Arc<Joint> {
    let (route, idle) = (&admitted.route, admitted.route.server.idle_timeout);
    let worker = Rc::clone(worker);
    let Some(view) = View::of(admitted, selector, admitted.grant().to) else {
        let name = Arc::clone(&route.server.name);
        return route.shared_links.get("", || Shared::start(move || current(&worker, &name), idle));
    };
    let key = view.key();
    route.shared_links.get(&key, || Shared::start(move || std::future::ready(Ok(all(&worker, &view))), idle))
}

/// What somebody sees of all servers as one.
struct View {
    /// Whose grants are asked. For requests that stand alone it is the credential, not the name: roles are the credential's,
    /// and a call ends with the grants of the credential that it came by, even if another of the name keeps them.
    to: Grantee,
    members: Members,
}

impl View {
    /// `None` if the request is for a single server.
    fn of(admitted: &Admitted<'_>, selector: &Selector, to: Grantee) -> Option<Self> {
        matches!(admitted.route.backend, Backend::All)
            .then(|| Self { to, members: members(&admitted.live, admitted.credential, selector) })
    }

    /// Who sees the same by the same token shares a conversation.
    fn key(&self) -> String {
        format!("{:x?}\n{}", self.to, self.members.join(","))
    }
}

/// Names of the servers that the credential may reach and the selector selects, in the order of the config.
fn members(live: &Live, credential: Option<usize>, selector: &Selector) -> Members {
    live.servers
        .iter()
        .filter(|route| route.is_public || credential.is_some_and(|index| route.allows(index)))
        .filter(|route| selector.selects(&route.server.name, &route.server.tags))
        .map(|route| Arc::clone(&route.server.name))
        .collect()
}

fn all(worker: &Rc<Worker>, view: &View) -> Link {
    let members = view.members.iter().map(|name| member(worker, &view.to, name)).collect();
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

fn member(worker: &Rc<Worker>, to: &Grantee, name: &Arc<str>) -> Member {
    let shared = Arc::clone(&worker.shared);
    // That it was stopped meanwhile shows in the epoch.
    let grant = Grant::new(to.clone(), Arc::clone(name), 0);
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
fn tell(shared: &GateState, report: Report<'_>) {
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
