//! What the gateway says about itself.

mod manage;
mod reply;
pub mod server_list;
pub mod shown;
pub mod table;

use http::{Method, Response, StatusCode};

use self::reply::{only_read, text};

use crate::{
    body::Payload,
    endpoints::table::Endpoint,
    error::{Error, ErrorKind},
    ledger::Resource,
    policy::decide::ManageAsk,
    state::GateState,
};

/// `/health`, `/health/live`, `/health/ready` and `/status`. Names of servers are for `operator`s, who came by the admin
/// listener; everyone else gets counts, since names cannot be probed without a token.
pub fn probe(
    shared: &GateState,
    at: Endpoint<'_>,
    method: &Method,
    operator: bool,
) -> Result<Response<Payload>, Error> {
    only_read(method)?;
    let (status, body) = match at {
        Endpoint::Ready if !shared.is_ready() => {
            (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"draining"}"#.to_owned())
        }
        Endpoint::Status => (StatusCode::OK, status(shared, operator)),
        _ => (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()),
    };
    Ok(text(status, "application/json", body))
}

/// `/metrics`: the Prometheus text format.
fn metrics(shared: &GateState, method: &Method) -> Result<Response<Payload>, Error> {
    only_read(method)?;
    let metrics = &shared.observer.metrics;
    for resource in Resource::ALL {
        let (total, used) = shared.ledger.usage(resource);
        metrics.capacity(resource.name(), used, total);
    }
    metrics.connections(shared.connections.open(), shared.connections.limit());
    let live = shared.live();
    metrics.tokens_expire(live.expiries(), live.clock.now());
    let text_format =
        shared.observer.metrics.encode().map_err(|e| ErrorKind::Internal.with_cause(e.to_string()))?;
    Ok(text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text_format))
}

/// What is asked for by whoever wants what is here; `None` if nothing here takes a role.
pub fn asked(at: Endpoint<'_>) -> Option<ManageAsk> {
    match at {
        Endpoint::Metrics => Some(ManageAsk::Metrics),
        Endpoint::Servers | Endpoint::ManagedServer { .. } | Endpoint::Manage { .. } => {
            Some(ManageAsk::Servers)
        }
        _ => None,
    }
}

/// What is for those who may have it (see [`asked`]), or for whoever reaches the admin listener of this machine.
pub fn answer(shared: &GateState, at: Endpoint<'_>, method: &Method) -> Result<Response<Payload>, Error> {
    match at {
        Endpoint::Metrics => metrics(shared, method),
        Endpoint::Servers | Endpoint::ManagedServer { .. } | Endpoint::Manage { .. } => {
            manage::answer(shared, at, method)
        }
        _ => Err(ErrorKind::NotFound.into()),
    }
}

/// Servers of the config, those that take requests, and client connections of this moment.
fn status(shared: &GateState, names: bool) -> String {
    let live = shared.live();
    let (running, down): (Vec<_>, Vec<_>) = live.servers.iter().partition(|route| route.is_running());
    let mut servers = serde_json::json!({ "total": live.servers.len(), "running": running.len() });
    if names {
        servers["down"] = down.iter().map(|route| &*route.server.name).collect();
    }
    let connected = shared.observer.metrics.connections_open.get();
    serde_json::json!({ "servers": servers, "clients": { "connected": connected } }).to_string()
}
