//! `/metrics`: the Prometheus text format.

use http::{Response, StatusCode};

use crate::{
    body::{Payload, response::uncached},
    endpoints::EndpointRequest,
    error::{Error, ErrorKind},
    ledger::Resource,
};

pub(super) fn text_format(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let shared = request.shared;
    let metrics = &shared.observer.metrics;
    for resource in Resource::ALL {
        let (total, used) = shared.ledger.usage(resource);
        metrics.capacity(resource.name(), used, total);
    }
    metrics.connections(shared.connections.open(), shared.connections.limit());
    metrics.tokens_expire(request.live.expiries(), request.live.clock.now());
    metrics.keys_age(request.live.issuers.iter().filter_map(|keys| {
        let (_, age) = keys.status().keys?;
        Some((&*keys.issuer().name, age))
    }));
    let text_format = metrics.encode().map_err(|e| ErrorKind::Internal.with_cause(e.to_string()))?;
    Ok(uncached(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text_format))
}
