//! `sluicegate store list`: grants, and credentials for servers, without anything that is secret.

use std::time::SystemTime;

use serde_json::{Value as Json, json};

use super::{
    common::{NONE, columns},
    token_places::{relative, rfc3339},
};
use crate::identity::{
    Principal,
    login::{
        grants::{GrantKind, GrantSummary},
        store::Listing,
        upstream::UpstreamRow,
    },
};

/// What is printed of it.
pub(super) fn text(Listing { grants, upstream, .. }: &Listing, as_json: bool, now: SystemTime) -> String {
    if as_json {
        let grants = grants.iter().map(|(principal, grant)| json_of_grant(principal, grant));
        return format!("{:#}\n", grants.chain(upstream.iter().map(json_of_upstream)).collect::<Json>());
    }
    let head = ["WHO", "WHAT", "STATE", "SINCE", "LAST", "ENDS"].map(str::to_owned);
    let grants = grants.iter().map(|(principal, grant)| cells_of_grant(principal, grant, now));
    let upstream = upstream.iter().map(|row| cells_of_upstream(row, now));
    columns(&std::iter::once(head).chain(grants).chain(upstream).collect::<Vec<_>>())
}

/// What a grant is for.
fn kind(kind: &GrantKind) -> &'static str {
    match kind {
        GrantKind::Session => "session",
        GrantKind::Page => "pages",
        GrantKind::Client(_) => "client",
    }
}

fn json_of_grant(principal: &Principal, grant: &GrantSummary) -> Json {
    json!({
        "principal": principal.to_string(),
        "kind": kind(&grant.kind),
        "client": grant.kind.client().map(|client| json!({
            "id": &*client.client_id,
            "name": &*client.client_name,
            "host": &*client.redirect_host,
            "resource": &*client.resource,
            "scope": &*client.scope,
        })),
        "server": null,
        "state": "active",
        "since": rfc3339(grant.began),
        "lastUse": rfc3339(grant.used),
        "changed": null,
        "ends": rfc3339(grant.ends),
    })
}

fn json_of_upstream(row: &UpstreamRow) -> Json {
    json!({
        "principal": row.owner.to_string(),
        "kind": "server",
        "client": null,
        "server": &*row.server,
        "state": row.state.name(),
        "since": rfc3339(row.since),
        "lastUse": null,
        "changed": rfc3339(row.changed),
        "ends": null,
    })
}

fn cells_of_grant(principal: &Principal, grant: &GrantSummary, now: SystemTime) -> [String; 6] {
    let what = match grant.kind.client() {
        Some(client) => {
            format!("client {} ({})", client.client_name.escape_debug(), client.redirect_host.escape_debug())
        }
        None => kind(&grant.kind).to_owned(),
    };
    [
        principal.to_string().escape_debug().to_string(),
        what,
        "active".to_owned(),
        rfc3339(grant.began),
        format!("used {}", relative(grant.used, now)),
        rfc3339(grant.ends),
    ]
}

fn cells_of_upstream(row: &UpstreamRow, now: SystemTime) -> [String; 6] {
    [
        row.owner.to_string().escape_debug().to_string(),
        format!("server {}", row.server.escape_debug()),
        row.state.name().to_owned(),
        rfc3339(row.since),
        format!("written {}", relative(row.changed, now)),
        NONE.to_owned(),
    ]
}
