//! What `/servers` shows, and what its actions do.

use http::{Method, Response};

use crate::endpoints::server_list::{self as servers, ServerView};
use crate::{
    body::Payload,
    config::Level,
    endpoints::table::{Endpoint, ManageAction},
    error::Error,
    servers::{Backend, EndCause, ServerEntry},
    state::GateState,
};

/// `/servers` and everything below.
pub(super) fn answer(
    shared: &GateState,
    at: Endpoint<'_>,
    method: &Method,
) -> Result<Response<Payload>, Error> {
    servers::check_method(at, method)?;
    let live = shared.live().clone();
    let find = |name: &str| live.routes.get(name);
    match at {
        Endpoint::ManagedServer { name } => {
            servers::one(find(name).map(|entry| view(shared, entry)).as_ref())
        }
        Endpoint::Manage { name, action } => {
            let entry = find(name);
            if let Some(entry) = entry {
                act(shared, entry, action);
            }
            servers::one(entry.map(|entry| view(shared, entry)).as_ref())
        }
        _ => {
            let views: Vec<_> = live.servers.iter().map(|entry| view(shared, entry)).collect();
            servers::list(&views)
        }
    }
}

fn view(shared: &GateState, entry: &ServerEntry) -> ServerView {
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
        ..ServerView::new(&entry.server).faring(&entry.health)
    }
}

/// A server that is stopped takes no requests, and what ran is ended. To restart one is to end what runs, and to begin
/// anew with the next request.
fn act(shared: &GateState, entry: &ServerEntry, action: ManageAction) {
    // What the config says is changed in the config.
    if entry.server.disabled {
        return;
    }
    let (cause, msg) = match action {
        ManageAction::Start => (None, "Server started by hand"),
        ManageAction::Stop => (Some(EndCause::Stopped), "Server stopped by hand"),
        ManageAction::Restart => (Some(EndCause::Restarted), "Server restarted by hand"),
    };
    match cause {
        None => entry.start(),
        Some(cause) => {
            shared.end_server(entry, cause);
            shared.note_change();
        }
    }
    shared.observer.log.line(Level::Info, msg).str("server", &entry.server.name).send();
}
