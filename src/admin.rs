//! What the gate says about itself.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::{
    body::Payload,
    error::{Error, Kind},
    route::Place,
    state::Shared,
};

/// `/health`, `/health/live`, `/health/ready` and `/status`.
pub fn probe(shared: &Shared, at: Place<'_>, method: &Method) -> Result<Response<Payload>, Error> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Kind::MethodNotAllowed.into());
    }
    let (status, body) = match at {
        Place::Ready if shared.is_draining() => {
            (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"draining"}"#.to_owned())
        }
        Place::Status => (StatusCode::OK, status(shared)),
        _ => (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()),
    };
    Ok(text(status, "application/json", body))
}

/// `/metrics`: the Prometheus text format.
pub fn metrics(shared: &Shared, method: &Method) -> Result<Response<Payload>, Error> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Kind::MethodNotAllowed.into());
    }
    let text_format = shared.observer.metrics.encode().map_err(|e| Kind::Internal.because(e.to_string()))?;
    Ok(text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text_format))
}

/// Servers of the config, those that can run, and client connections of this moment.
fn status(shared: &Shared) -> String {
    let live = shared.live();
    let running = live.servers.iter().filter(|route| route.is_running()).count();
    let connected = shared.observer.metrics.connections_open.get();
    serde_json::json!({
        "servers": { "total": live.servers.len(), "running": running },
        "clients": { "connected": connected },
    })
    .to_string()
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Payload> {
    let mut response = Response::new(Payload::Whole(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
