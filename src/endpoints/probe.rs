//! What load balancers and monitors ask for.

use http::{Response, StatusCode};

use crate::{
    body::{Payload, response::uncached},
    endpoints::EndpointRequest,
    error::Error,
};

/// `/health`: the process answers.
pub(super) fn health(_: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    Ok(json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned()))
}

/// `/health/ready`: the gateway takes requests.
pub(super) fn ready(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    match request.shared.is_ready() {
        true => health(request),
        false => Ok(json(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"draining"}"#.to_owned())),
    }
}

/// `/status`: counts, and for an operator the names of servers that take no requests. Names cannot be probed without a token.
pub(super) fn status(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    Ok(json(StatusCode::OK, counts(request)))
}

fn json(status: StatusCode, body: String) -> Response<Payload> {
    uncached(status, "application/json", body)
}

/// Servers of the config, those that take requests, and client connections of this moment.
fn counts(request: &EndpointRequest<'_>) -> String {
    let live = request.live;
    let (running, down): (Vec<_>, Vec<_>) = live.servers.iter().partition(|entry| entry.is_running());
    let mut servers = serde_json::json!({ "total": live.servers.len(), "running": running.len() });
    if request.is_operator {
        servers["down"] = down.iter().map(|entry| &*entry.server.name).collect();
    }
    let connected = request.shared.observer.metrics.connections_open.get();
    serde_json::json!({ "servers": servers, "clients": { "connected": connected } }).to_string()
}
