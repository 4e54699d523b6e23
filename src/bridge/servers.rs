//! From a route to a conversation with what stands behind it.

use std::{future::Future, pin::Pin, rc::Rc, sync::Arc, time::SystemTime};

use crate::{
    config::{Server, Transport},
    error::{Error, Kind},
    identity::Grant,
    link::{self, Link, aggregate, http::Place, shared::Shared},
    proxy::Admitted,
    selector::Selector,
    state::{Backend, Live, Route, Worker},
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
pub(super) fn attach(worker: &Rc<Worker>, admitted: &Admitted<'_>, selector: &Selector) -> Link {
    let (route, idle) = (&admitted.route, admitted.route.server.idle_timeout);
    if !matches!(route.backend, Backend::All) {
        let (worker, name) = (Rc::clone(worker), Arc::clone(&route.server.name));
        return route.shared_links.attach("", || {
            Shared::start(move || current(&worker, &name), idle)
        });
    }
    // Who sees the same servers by the same token shares: the token matters, since it may lose one of them.
    let caller = Caller::of(admitted);
    let members = members(&admitted.live, admitted.credential, selector);
    let token = admitted.token_name().map_or("", |name| name);
    let key = format!("{token}\n{}", members.join(","));
    let worker = Rc::clone(worker);
    route.shared_links.attach(&key, || {
        Shared::start(move || std::future::ready(Ok(all(&worker, &caller, &members))), idle)
    })
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
    let live = worker.shared.live();
    let members = members.iter().map(|name| member(worker, caller, name)).collect();
    aggregate::open(members, settings(worker, &live))
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
        Backend::Stdio(supervisor) => link::stdio::open(supervisor).await?,
        Backend::Inline(server) => link::inline::open(Arc::clone(server)),
        Backend::All => return Err(Kind::Internal.because("all servers as one are no member of themselves")),
    };
    Ok(match &route.server.tool_filter {
        Some(filter) => link::filter::wrap(link, Arc::clone(filter)),
        None => link,
    })
}

/// A conversation with the server that has this name now.
fn current(
    worker: &Rc<Worker>,
    name: &Arc<str>,
) -> Pin<Box<dyn Future<Output = Result<Link, Error>>>> {
    let (worker, name) = (Rc::clone(worker), Arc::clone(name));
    Box::pin(async move {
        let route = worker.shared.live().route(&name).cloned();
        let route = route.ok_or_else(|| Kind::UpstreamUnreachable.because("the server is gone"))?;
        one(&worker, &route).await
    })
}
