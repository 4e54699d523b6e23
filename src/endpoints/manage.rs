//! What `/servers` shows, and what its actions do.

use http::Response;

use crate::{
    body::Payload,
    config::Level,
    endpoints::{
        EndpointRequest,
        server_list::{self, ServerView},
    },
    error::Error,
    servers::{Backend, EndCause, ServerEntry},
    state::GatewayState,
};

/// `/servers`: all of them.
pub(super) fn list(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let views: Vec<_> = request.live.servers.iter().map(|entry| view(request.shared, entry)).collect();
    server_list::list(&views)
}

/// `/servers/{server}`: one of them.
pub(super) fn show(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    server_list::one(named(request).map(|entry| view(request.shared, entry)).as_ref())
}

/// It takes requests again.
pub(super) fn start(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    act(request, None, "Server started by hand")
}

/// It takes no requests, and what ran is ended.
pub(super) fn stop(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    act(request, Some(EndCause::Stopped), "Server stopped by hand")
}

/// What runs is ended, and the next request begins anew.
pub(super) fn restart(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    act(request, Some(EndCause::Restarted), "Server restarted by hand")
}

fn named<'a>(request: &EndpointRequest<'a>) -> Option<&'a ServerEntry> {
    request.live.entries.get(request.server?).map(|entry| &**entry)
}

fn view(shared: &GatewayState, entry: &ServerEntry) -> ServerView {
    let name = &entry.server.name;
    let supervisors = match &entry.backend {
        Backend::Stdio(supervisors) => Some(supervisors),
        _ => None,
    };
    ServerView {
        running: entry.is_running(),
        stopped: entry.run_state.is_stopped(),
        sessions: shared.sessions.count(name),
        processes: supervisors.map_or(0, |supervisors| supervisors.running()),
        restarts: supervisors.map_or(0, |supervisors| supervisors.restarts()),
        ..ServerView::of(&entry.server, &entry.health)
    }
}

/// Starts a server, or ends what runs of it, and shows what it is then.
fn act(
    request: &EndpointRequest<'_>,
    end: Option<EndCause>,
    msg: &'static str,
) -> Result<Response<Payload>, Error> {
    let shared = request.shared;
    // What the config says is changed in the config.
    if let Some(entry) = named(request).filter(|entry| !entry.server.disabled) {
        match end {
            None => entry.start(),
            Some(cause) => shared.end_server(entry, cause),
        }
        shared.note_change();
        shared.observer.log.line(Level::Info, msg).str("server", &entry.server.name).send();
    }
    show(request)
}
