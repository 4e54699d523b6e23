//! `/debug`: how the gateway is at this moment, for whoever runs it and has set `proxy.debug`. Otherwise there is no such path.
//! Only what an operator may read aloud: names and numbers.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::{
    body::{Payload, response::uncached},
    endpoints::EndpointRequest,
    error::Error,
    ledger::{OwnerName, Resource},
    servers::Backend,
};

/// Owners of which the ledger is shown at most.
const MOST_OWNERS: usize = 1000;
/// The paths below, which the first names.
pub(super) const PATHS: [&str; 6] = [
    "/debug/config",
    "/debug/connections",
    "/debug/sessions",
    "/debug/processes",
    "/debug/ledger",
    "/debug/log",
];

/// `/debug`: what there is.
pub(super) fn index(_: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    answer(&json!({ "version": env!("CARGO_PKG_VERSION"), "paths": PATHS }))
}

/// `/debug/config`: the config in force, without any text that may be a secret. Tokens and servers that were taken away from it
/// since are not in it.
pub(super) fn config(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let config = &request.live.config;
    let mut shown = config.redacted.as_deref().cloned().unwrap_or_default();
    for (pointer, is_tenant) in [("/proxy/auth/tokens", false), ("/proxy/auth/tenants/tokens", true)] {
        let of_kind = config.credentials.iter().filter(|credential| credential.is_tenant == is_tenant);
        retain(&mut shown, pointer, |name| of_kind.clone().any(|credential| *credential.token_name == *name));
    }
    let is_user = |name: &str| config.users.iter().any(|user| *user.name == *name);
    retain(&mut shown, "/proxy/auth/users", is_user);
    retain(&mut shown, "/mcpServers", |name| request.live.entries.contains_key(name));
    answer(&json!({ "hash": config.hash, "config": shown }))
}

/// `/debug/connections`: of clients, and event streams by server.
pub(super) fn connections(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let (connections, live) = (&request.shared.connections, request.live);
    let streams: BTreeMap<&str, i64> = live
        .servers
        .iter()
        .chain([&live.all])
        .map(|entry| (&*entry.server.name, entry.metrics.streams_open.get()))
        .collect();
    answer(&json!({
        "open": connections.open(),
        "admitted": connections.admitted(),
        "limit": connections.limit(),
        "streams": streams,
    }))
}

/// `/debug/sessions`: those that the gateway keeps, by server.
pub(super) fn sessions(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let counts = request.shared.sessions.counts();
    answer(&json!({ "total": counts.values().sum::<usize>(), "servers": counts }))
}

/// `/debug/processes`: of command servers.
pub(super) fn processes(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let mut processes = Map::new();
    for entry in &request.live.servers {
        if let Backend::Stdio(supervisors) = &entry.backend {
            let shown = json!({
                "running": supervisors.running(),
                "restarts": supervisors.restarts(),
                "stopped": entry.run_state.is_stopped(),
            });
            processes.insert(entry.server.name.to_string(), shown);
        }
    }
    let (_, all) = request.shared.ledger.usage(Resource::Processes);
    answer(&json!({ "total": all, "servers": processes }))
}

/// `/debug/ledger`: who has how much of what.
pub(super) fn ledger(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let ledger = &request.shared.ledger;
    let totals: Map<String, Value> = Resource::ALL
        .into_iter()
        .map(|resource| {
            let (limit, used) = ledger.usage(resource);
            (resource.name().to_owned(), json!({ "used": used, "limit": limit }))
        })
        .collect();
    let mut owners = BTreeMap::new();
    for owner in ledger.owners(MOST_OWNERS) {
        let name = match owner.name() {
            OwnerName::Token(name) => format!("token:{name}"),
            OwnerName::User(name) => format!("user:{name}"),
            OwnerName::Tenant(name) => format!("tenant:{name}"),
            OwnerName::Client(name) => format!("client:{name}"),
            OwnerName::Foreign(name) => format!("jwt:{name}"),
            OwnerName::Idp(name) => format!("idp:{name}"),
            OwnerName::Decoy(name) => format!("decoy:{name}"),
            OwnerName::Address(address) => format!("address:{address}"),
            OwnerName::Gateway => "gateway".to_owned(),
        };
        let has = Resource::ALL.into_iter().map(|resource| (resource.name(), owner.used(resource)));
        owners.insert(name, has.filter(|(_, used)| *used > 0).collect::<BTreeMap<_, _>>());
    }
    answer(&json!({ "totals": totals, "owners": owners }))
}

/// `/debug/log`: its last lines, the oldest first.
pub(super) fn log(request: &EndpointRequest<'_>) -> Result<Response<Payload>, Error> {
    let line = |line: Vec<u8>| {
        let text = String::from_utf8_lossy(&line);
        serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.trim_end()))
    };
    let lines: Vec<Value> = request.shared.observer.log.recent().into_iter().map(line).collect();
    answer(&json!({ "lines": lines }))
}

/// Leaves of the object at `pointer` the entries with these names.
fn retain(shown: &mut Value, pointer: &str, is_there: impl Fn(&str) -> bool) {
    if let Some(Value::Object(entries)) = shown.pointer_mut(pointer) {
        entries.retain(|name, _| is_there(name));
    }
}

fn answer(shown: &Value) -> Result<Response<Payload>, Error> {
    Ok(uncached(StatusCode::OK, "application/json", shown.to_string()))
}
