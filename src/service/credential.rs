//! The step of a request that asks who calls: where its credential may be, and whose it is.

use std::pin::Pin;

use http::{HeaderName, StatusCode};

use crate::{
    config::Schemes,
    endpoints::{
        shown,
        table::{Answer, McpEndpoint},
    },
    error::Error,
    identity::{
        Caller,
        presented::{self, CredentialFields, Presented},
        verifier::{Found, Identified},
    },
    ledger::Resource,
    mcp::{header::Occurrence, seal},
    observe::{Group, Topic},
    policy::hosts::origin_is_of,
    request::{Request, rates},
    state::Live,
};

/// Whether `text` of a request head is a token of the config, or holds the one that the request presents.
pub(super) fn is_secret(request: &Request<'_>, text: &str) -> bool {
    let presented = credential_fields(request).unasked();
    request.live.tokens.find(text.as_bytes()).is_some()
        || presented.map_or(true, |presented| presented.is_in(text.as_bytes()))
}

/// The credential behind the request's token. A token of the config is known at once, and nothing waits.
pub(super) async fn identify<'a>(request: &mut Request<'a>) -> Result<(Presented<'a>, Caller), Error> {
    let live = request.live;
    let presented = credential_fields(request).presented();
    let address = request.client.unwrap_or(request.connection.address).into();
    let may_ask = || rates::check_guesses(request);
    let caller = match live.identify(&presented, address, &request.worker.opened_tokens, &may_ask) {
        Identified::Ready(found) => found.map_err(|why| refuse_credential(request, why))?,
        Identified::Later(found) => found_later(request, found).await?,
    };
    request.record.set_identity(&caller.identity);
    if caller.identity.is_decoy {
        report_decoy(request, live, &caller);
    }
    Ok((presented?, caller))
}

/// The connection is no caller's any more, and the address has one failure more; unless nobody looked whether the credential is
/// good.
fn refuse_credential(request: &Request<'_>, why: Error) -> Error {
    if why.kind.status() == StatusCode::UNAUTHORIZED {
        request.connection.refused(&request.worker.shared.ledger);
    }
    rates::refusal_of(request, why)
}

/// The credential behind a token that somebody has to be asked about. Until it is known who calls, the request counts for its
/// address.
async fn found_later(
    request: &Request<'_>,
    found: Pin<Box<dyn Future<Output = Found> + '_>>,
) -> Result<Caller, Error> {
    let Request { worker, live, .. } = *request;
    let share = request.address_owner().take(Resource::Requests);
    let _share = share.map_err(|limit| Error::out_of(Resource::Requests, limit))?;
    let caller = found.await.map_err(|why| refuse_credential(request, why))?;
    worker.shared.is_in_force(live)?;
    Ok(caller)
}

/// Fields besides `Authorization` that carry a credential and that a page can set.
pub(super) fn credential_field_names(live: &Live) -> impl Iterator<Item = &HeaderName> {
    let x_api_key = live.config.schemes.x_api_key.then_some(&presented::X_API_KEY);
    x_api_key.into_iter().chain(&live.config.tenant_header)
}

/// Where in the request a credential may be.
pub(super) fn credential_fields<'a>(request: &Request<'a>) -> CredentialFields<'a> {
    let Request { live, head, fields, .. } = *request;
    let query = query_of_caller(request);
    // A browser adds cookies to what pages of other ports and of neighbouring hosts send.
    let cookie = live.config.schemes.cookie && is_of_own_page(request);
    let schemes = Schemes { cookie, ..live.config.schemes };
    CredentialFields::of(
        &head.headers,
        fields.authorization,
        query,
        schemes,
        live.config.tenant_header.as_ref(),
    )
}

/// Whether a page of the gateway's own makes the request, or no page does that says so.
fn is_of_own_page(request: &Request<'_>) -> bool {
    let base_url = request.live.config.base_url.as_ref();
    let is_own = |origin: &str| {
        origin_is_of(request.host, origin)
            || base_url.is_some_and(|base_url| base_url.origin().ascii_serialization() == origin)
    };
    match request.fields.origin {
        Occurrence::Not => true,
        Occurrence::Once(origin) => origin.to_str().is_ok_and(is_own),
        Occurrence::Often => false,
    }
}

/// Where `token` is the caller's. The query of a message URL is the server's own, sealed by the gateway, and may hold a
/// parameter of this name.
fn query_of_caller<'a>(request: &Request<'a>) -> Option<&'a str> {
    request.head.uri.query().map(|query| match request.endpoint.answer {
        Answer::Mcp(McpEndpoint::Message) => seal::behind_seal(query),
        _ => query,
    })
}

/// A decoy of the config `live` was presented, for whatever: that is what it is there for.
pub(super) fn report_decoy(request: &Request<'_>, live: &Live, caller: &Caller) {
    let Request { worker, head, record, .. } = request;
    let holder = caller.standing.slot().map(|slot| &live.callers[slot]);
    if let Some(used) = holder.and_then(|holder| holder.decoy_used.as_ref()) {
        used.inc();
    }
    let credential = holder.and_then(|holder| holder.credential.as_ref());
    let name = credential.map_or("", |credential| &*credential.label);
    if let Some(line) = worker.shared.observer.recurring(Topic::Decoy(Group::of(name))) {
        let path = shown::shown(head.uri.path(), |name| live.entries.contains_key(name));
        record.point_out(line.str("token_name", name).str("path", &path)).send();
    }
}
