//! The life of a request, on one page.
//!
//! The outer function times, records and turns errors into responses; the inner one decides, step by step, and uses
//! `?`. The order of its steps is the security of the gateway, and argued there.

mod credential;
mod login;
mod oauth;
mod stranger;

use std::{net::IpAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts,
};

use self::credential::{credential_field_names, credential_fields, identify, is_secret, report_decoy};
use crate::{
    body::{Body, BrokenOff, Payload, response::empty},
    bridge,
    config::Snapshot,
    downstream::{
        connection::{Connection, ListenerKind, TakeoverSlot},
        cors,
        forwarded::{forwarded_for, is_trusted},
        head,
        incoming::Incoming,
    },
    endpoints::{
        EndpointRequest,
        oauth::metadata,
        shown,
        table::{self, Answer, Endpoint, FoundEndpoint, LogRule, McpEndpoint, Sites, Who},
    },
    error::{Error, ErrorKind},
    identity::{
        Caller, Standing,
        presented::{self, Presented},
    },
    ledger::{Limit, Owner, Resource},
    mcp::{
        header::{self as field_text, Occurrence},
        sse::reader::is_event_stream,
    },
    observe::{AuditedRequest, Record, RequestId, TraceId},
    policy::decide::Ask,
    policy::hosts::{host_is_address, host_is_allowed, host_is_loopback, origin_is_allowed, origin_is_of},
    proxy::{self, relay::Relay},
    request::{
        Request,
        admitted::Admitted,
        host_hint::forbidden,
        rates,
        refuse::{Refused, close, refuse, swallow},
    },
    state::{Live, Worker},
};

/// Answers one request. What goes wrong is an answer too; an error only says that the connection has to close.
///
/// A body over HTTP/1.1 that goes on is left in `slot` for the connection to take over (see [`crate::proxy::relay`]).
pub async fn handle(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    slot: TakeoverSlot<Relay>,
    request: http::Request<Incoming>,
) -> Result<Response<Body>, BrokenOff> {
    let (mut head, body) = request.into_parts();
    let (id, id_field) = worker.next_request_id();
    let live = worker.shared.live().clone();
    let client = client_address(&connection, &live, &head);
    let mut record = begin_record(&worker, &connection, &live, &head, client, id);
    let fields = head::fields(&head.headers);
    // Here, so that a page can read refusals too.
    let FoundEndpoint { endpoint, server } = table::find(head.uri.path());
    let endpoint = endpoint.by(&live.config);
    let is_listed = is_listed_origin(&connection, &live, fields.origin);
    let readers = match endpoint.sites {
        Sites::Open if connection.listener_kind == ListenerKind::Public => Some(cors::ANY),
        Sites::OwnPage => None,
        _ => fields.origin.once().filter(|_| is_listed).cloned(),
    };
    let (closes, awaits_leave) = (fields.closes, fields.awaits_leave);

    let mut request = Request {
        worker: &worker,
        connection: &connection,
        live: &live,
        head: &head,
        fields: &fields,
        host: "",
        endpoint,
        server,
        client,
        is_listed,
        body: Some(body),
        record: &mut record,
    };
    let answered = answer(&mut request).await;
    let body = request.body;
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => {
            record.failed(&error);
            let tried_basic = error.kind == ErrorKind::InvalidToken
                && presented::tries_basic(fields.authorization, live.config.schemes);
            if let Some(body) = body {
                // The fields are not kept while the rest comes.
                head.headers = HeaderMap::new();
                swallow(body, awaits_leave, worker.shared.is_draining()).await;
            }
            if !record.is_admitted() {
                worker.stranger_turns.next().await;
            }
            let (realm, methods, version) = (&live.config.name, endpoint.methods, head.version);
            let metadata = metadata_of(endpoint, &live, &head, &error);
            refuse(&Refused { realm, tried_basic, metadata, id: record.id(), methods, version }, &error)
        }
    };
    if !record.is_admitted() {
        record.show_path(shown::shown(head.uri.path(), |name| live.entries.contains_key(name)));
    }
    if let Some(id) = id_field {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(origin) = &readers {
        cors::allow(origin, response.headers_mut());
    }
    close_if_last(&worker, &connection, head.version, &mut response);
    let is_stream = !matches!(response.body(), Payload::Whole(_)) && is_event_stream(response.headers());
    record.responded(response.status(), is_stream);
    let may_leave_hyper = connection.may_relay() && head.version == Version::HTTP_11 && !closes;
    worker.pool.spares.give(head.headers);
    // Whatever answers: a frame of data behind the answer to HEAD breaks an HTTP/2 connection (RFC 9110 §9.3.2).
    if head.method == Method::HEAD {
        response = without_content(response);
    }
    match response.into_parts() {
        (parts, Payload::Stream(stream)) if may_leave_hyper && stream.can_be_relayed() => {
            let relay = Relay::new(parts.status, &parts.headers, *stream, record).ok_or(BrokenOff)?;
            slot.replace(Some(Box::new(relay)));
            // The connection takes the stream out of hyper now, and drops this future.
            std::future::pending().await
        }
        (parts, payload) => {
            if let Some(watched) = payload.watched() {
                connection.set_response(watched.view());
            }
            Ok(Response::from_parts(parts, Body::new(payload, record)))
        }
    }
}

/// The record of the request, which ends with it, however it ends.
fn begin_record(
    worker: &Worker,
    connection: &Rc<Connection>,
    live: &Arc<Live>,
    head: &Parts,
    client: Option<IpAddr>,
    id: RequestId,
) -> Record {
    let observer = Arc::clone(&worker.shared.observer);
    let path = head.uri.path_and_query().cloned();
    let mut record = Record::begin(observer, Rc::clone(connection), head.method.clone(), path, id);
    if let Some(client) = client {
        record.set_client(client);
    }
    if let Some(audit) = &live.audit {
        let config = &live.config;
        record.audit(AuditedRequest::new(audit, live.clone(), config.admin_sees_all, &config.rules));
    }
    record
}

/// Whether the page that makes the request, if it is a page that does, is one that the config lists. The admin listener is no
/// page's to read.
fn is_listed_origin(connection: &Connection, live: &Live, origin: Occurrence<'_>) -> bool {
    match origin {
        Occurrence::Not => true,
        Occurrence::Once(origin) => {
            connection.listener_kind == ListenerKind::Public && is_allowed_origin(live, origin)
        }
        Occurrence::Often => false,
    }
}

/// Where a client that is refused at a place finds how to log in, if the gateway says so.
fn metadata_of(endpoint: &Endpoint, live: &Live, head: &Parts, error: &Error) -> Option<String> {
    let is_place = matches!(endpoint.answer, Answer::Mcp(_));
    let is_asked = matches!(error.kind.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        || error.kind == ErrorKind::GuessLimited;
    if !is_place || !is_asked || !live.config.has_resource_metadata() {
        return None;
    }
    Some(metadata::location(&live.config.base()?, head.uri.path(), head.uri.query()))
}

/// Says that the connection ends with this answer, if it does.
fn close_if_last(
    worker: &Worker,
    connection: &Connection,
    version: Version,
    response: &mut Response<Payload>,
) {
    // A balancer that keeps it would send its next request when it is too late to take one (RFC 9112 §9.6).
    let is_late = version < Version::HTTP_2 && !worker.shared.is_ready();
    if is_late || connection.ends_with_this() {
        connection.close_after_response();
        close(version, response);
    }
}

/// On every answer, so that a user can name one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn answer(request: &mut Request<'_>) -> Result<Response<Payload>, Error> {
    if is_for_gateway(request) {
        request.record.mark_for_gateway();
    }
    // 1. A head that two parsers could read differently is not looked at any further.
    check_head(request)?;
    // 2. A page of a foreign site, or one whose name was rebound to this address, is turned away before it can learn
    //    whether its token is good.
    check_host(request)?;
    check_origin(request)?;
    // 3. A browser asks first, without the token (WHATWG Fetch §3.2.2); so does the default check of HAProxy, by HTTP/1.0.
    if let Some(response) = options(request) {
        return Ok(response);
    }
    match (request.who(), request.endpoint.answer) {
        (Who::Server, Answer::Mcp(mcp_endpoint)) => {
            // 4. Who calls, and whether the server is for them.
            let admitted = admit(request, mcp_endpoint).await?;
            // 5. Whether it may be served now, and so.
            refuse_page(request)?;
            check_method(request)?;
            refuse_new_work(request)?;
            check_rate(request, &admitted)?;
            // 6. Whether the caller has not as much of the gateway already as one may have.
            take_place(request, &admitted)?;
            take_share(request, &admitted)?;
            check_running(&admitted)?;
            // 7. On to the server.
            forward(request, admitted).await
        }
        (who @ (Who::Anyone | Who::Manage(_)), Answer::Gateway(answer)) => {
            admit_operator(request, who).await?;
            check_method(request)?;
            let is_operator = request.connection.listener_kind != ListenerKind::Public;
            let (shared, live) = (&request.worker.shared, request.live);
            answer(&EndpointRequest { shared, live, server: request.server, is_operator })
        }
        (Who::Guest, Answer::Login(endpoint)) if request.live.has_logins() => {
            check_method(request)?;
            let presented = credential_fields(request).presented().ok();
            login::answer(request, endpoint, presented, report_decoy).await
        }
        (Who::Anyone, Answer::Oauth(endpoint)) => {
            check_method(request)?;
            oauth::answer(request, endpoint, report_decoy).await
        }
        (Who::Nobody, _) => Err(ErrorKind::NotFound.into()),
        // The token is checked before anything is said about what exists, so that names cannot be probed.
        _ => identify(request).await.and(Err(ErrorKind::NotFound.into())),
    }
}

/// Whether the gateway itself answers, if the request is not refused.
fn is_for_gateway(request: &Request<'_>) -> bool {
    request.endpoint.log == LogRule::Debug
        || request.connection.listener_kind != ListenerKind::Public
        || request.head.method == Method::OPTIONS
}

fn check_head(request: &mut Request<'_>) -> Result<(), Error> {
    let Request { connection, live, head, fields, .. } = *request;
    request.host = head::check(head, fields, &live.limits, connection.take_fault())?.host;
    // The id of a trace has the form of many a token.
    let trace = fields.traceparent.once().and_then(TraceId::of);
    let trace = trace.filter(|trace| !is_secret(request, trace.as_str()));
    request.record.set_trace(trace);
    Ok(())
}

/// Whether the host that the client means is one of this listener's.
fn check_host(request: &Request<'_>) -> Result<(), Error> {
    let Request { connection, live, head, host, endpoint, .. } = *request;
    let is_listed = || host_is_allowed(&live.config.allowed_hosts, host);
    let (is_served, way_out) = match connection.listener_kind {
        ListenerKind::Public if endpoint.sites == Sites::Any => return Ok(()),
        ListenerKind::Public if host.is_empty() && head.method == Method::OPTIONS => return Ok(()),
        ListenerKind::Public if host.is_empty() => {
            return Err(ErrorKind::Malformed.with_cause("Host is missing"));
        }
        ListenerKind::Public => (
            is_listed(),
            "is none of `proxy.allowedHosts`; add it there, or name the gateway as `proxy.baseUrl` does",
        ),
        // A health check by HTTP/1.0 has none, and a browser cannot make it.
        ListenerKind::Admin { .. } if host.is_empty() && endpoint.is_health() => return Ok(()),
        // Scrapers and kubelets call a pod by its address, which is no name that could be rebound.
        ListenerKind::Admin { is_remote: true } => (
            host_is_loopback(host) || host_is_address(host) || is_listed(),
            "is no address, and none of `proxy.allowedHosts`; add it there, or use an address",
        ),
        ListenerKind::Admin { is_remote: false } => (
            host_is_loopback(host),
            "is no name of this machine; an admin listener on loopback is for this machine only",
        ),
    };
    if is_served { Ok(()) } else { Err(forbidden(host, way_out, |text| is_secret(request, text))) }
}

/// Whether the page that makes the request, if it is a page that does, may do so. At the admin listener only pages of its
/// own may, whatever the public listener allows.
fn check_origin(request: &Request<'_>) -> Result<(), Error> {
    let Request { connection, live, head, fields, host, endpoint, is_listed, .. } = *request;
    let is_own = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| origin_is_of(host, origin));
    let may_call = match (connection.listener_kind, fields.origin) {
        (ListenerKind::Public, origin) => match endpoint.sites {
            Sites::Any | Sites::Open => true,
            Sites::Listed => is_listed,
            // A link from anywhere leads to a page; what a page sends, only the gateway's own may.
            Sites::OwnPage => {
                let is_sent = head.method == Method::POST && endpoint.methods.have(&Method::POST);
                !is_sent || is_gateways_own(&live.config, origin)
            }
        },
        (ListenerKind::Admin { .. }, Occurrence::Not) => true,
        (ListenerKind::Admin { .. }, Occurrence::Once(origin)) => is_own(origin),
        (ListenerKind::Admin { .. }, Occurrence::Often) => false,
    };
    if may_call { Ok(()) } else { Err(ErrorKind::ForbiddenOrigin.into()) }
}

/// Whether the gateway's own page makes the request: one at its URL. Browsers say so of each form that they send.
fn is_gateways_own(config: &Snapshot, origin: Occurrence<'_>) -> bool {
    let own = config.base_url.as_ref().map(|base_url| base_url.origin().ascii_serialization());
    let sent = origin.once().map(HeaderValue::as_bytes);
    own.is_some_and(|own| sent == Some(own.as_bytes()))
}

/// The answer to `OPTIONS`, where pages of other sites may call.
fn options(request: &Request<'_>) -> Option<Response<Payload>> {
    let Request { connection, live, head, endpoint, .. } = *request;
    let is_answered = connection.listener_kind == ListenerKind::Public
        && matches!(endpoint.sites, Sites::Listed | Sites::Open)
        && head.method == Method::OPTIONS;
    if !is_answered {
        return None;
    }
    let mut response = empty(StatusCode::NO_CONTENT);
    let allowed = endpoint.methods.allow;
    if cors::is_preflight(head) {
        let own = credential_field_names(live);
        cors::preflight(&head.headers, allowed, own, response.headers_mut());
    } else {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    Some(response)
}

/// Admits the caller to the server that the path names, or to the aggregate.
async fn admit<'a>(request: &mut Request<'a>, mcp_endpoint: McpEndpoint) -> Result<Admitted<'a>, Error> {
    let live = request.live;
    let entry = match request.server {
        None => Some(&live.all),
        Some(name) => live.entries.get(name),
    };
    if let Some(entry) = entry {
        request.record.set_server(&entry.server.name);
    }
    // A server that asks for no token is found first; for every other one, and where there is none, the token is checked
    // before anything is said about what exists, so that names cannot be probed.
    let (presented, caller) = match entry {
        // Nobody asked for the token that comes all the same, and the server is not to have it.
        Some(entry) if entry.is_public => {
            let (presented, caller) = (credential_fields(request).unasked()?, live.caller(None));
            request.record.set_identity(&caller.identity);
            (presented, caller)
        }
        _ => {
            let (presented, caller) = identify(request).await?;
            if caller.identity.is_decoy {
                return admit_decoy(request, mcp_endpoint, presented, caller);
            }
            (presented, caller)
        }
    };
    let refusal = |name, otherwise: ErrorKind| {
        live.decide(&caller.identity, &Ask::server(name)).into_result().err().unwrap_or(otherwise.into())
    };
    let Some(entry) = entry else {
        // Who has a token for another place does not learn either that there is no such server.
        return Err(refusal(request.server.unwrap_or_default(), ErrorKind::NotFound));
    };
    if !entry.admits(&caller) {
        return Err(refusal(&entry.server.name, ErrorKind::InsufficientScope));
    }
    let owner = owner_of(request, &caller);
    request.record.admitted(Arc::clone(&entry.metrics), Arc::clone(&caller.identity));
    let (live, entry) = (Arc::clone(live), Arc::clone(entry));
    Ok(Admitted { live, entry, mcp_endpoint, caller, presented, owner })
}

/// Whom a request counts for, which is counted as one.
fn owner_of(request: &Request<'_>, caller: &Caller) -> Arc<Owner> {
    match &caller.standing {
        Standing::Nobody => request.address_owner(),
        Standing::Named(slot) => {
            let holder = &request.live.callers[*slot];
            holder.count_use();
            Arc::clone(&holder.owner)
        }
        Standing::Foreign(owner) => Arc::clone(owner),
    }
}

/// Whoever presents a decoy gets an empty server, whether there is one of the name that they ask for or not.
fn admit_decoy<'a>(
    request: &mut Request<'a>,
    mcp_endpoint: McpEndpoint,
    presented: Presented<'a>,
    caller: Caller,
) -> Result<Admitted<'a>, Error> {
    let Request { live, head, .. } = *request;
    let holder = &live.callers[caller.standing.slot().ok_or(ErrorKind::Unauthorized)?];
    let entry = live.decoy.as_ref().ok_or_else(|| ErrorKind::Internal.with_cause("no server for decoys"))?;
    holder.count_use();
    let record = &mut request.record;
    // The warning counts them. What a thief repeats is not to fill the log.
    record.mark_for_gateway();
    record.admitted(Arc::clone(&entry.metrics), Arc::clone(&caller.identity));
    record.show_path(shown::shown(head.uri.path(), |name| live.entries.contains_key(name)));
    let (live, entry, owner) = (Arc::clone(live), Arc::clone(entry), Arc::clone(&holder.owner));
    Ok(Admitted { live, entry, mcp_endpoint, caller, presented, owner })
}

/// Admits the caller to what the gateway says of itself, and counts that its credential was used.
async fn admit_operator(request: &mut Request<'_>, who: Who) -> Result<(), Error> {
    let Who::Manage(what) = who else {
        if request.endpoint.is_managed() {
            request.record.set_managed(None);
        }
        return Ok(());
    };
    request.record.set_managed(Some(what));
    let (_, caller) = identify(request).await?;
    request.live.decide(&caller.identity, &Ask::Manage(what)).into_result()?;
    let owner = owner_of(request, &caller);
    rates::check(request, &owner, None)?;
    take_connection(request, &owner)
}

/// What a browser loads as a page, a frame or a script would be the gateway's to it, whatever server it comes from.
fn refuse_page(request: &Request<'_>) -> Result<(), Error> {
    if request.fields.is_for_page { Err(ErrorKind::NotAPage.into()) } else { Ok(()) }
}

fn check_method(request: &Request<'_>) -> Result<(), Error> {
    let is_served = request.endpoint.methods.have(&request.head.method);
    if is_served { Ok(()) } else { Err(ErrorKind::MethodNotAllowed.into()) }
}

/// New work is refused while draining; what runs goes on, and its client may still answer its server: whether a POST is that, its
/// body says.
fn refuse_new_work(request: &Request<'_>) -> Result<(), Error> {
    let is_refused = request.worker.shared.is_draining() && request.head.method != Method::POST;
    if is_refused { Err(ErrorKind::Unavailable.into()) } else { Ok(()) }
}

/// What comes too often is refused. Who ends a session gives back what others may need.
fn check_rate(request: &Request<'_>, admitted: &Admitted<'_>) -> Result<(), Error> {
    match request.head.method {
        Method::DELETE => Ok(()),
        _ => rates::check(request, &admitted.owner, Some(&admitted.entry)),
    }
}

/// The connection becomes one of the caller's. That of a decoy stays one that makes room for others.
fn take_place(request: &mut Request<'_>, admitted: &Admitted<'_>) -> Result<(), Error> {
    if admitted.entry.is_decoy() {
        let place = Arc::clone(&request.worker.shared.decoys).try_acquire_owned();
        let place = place.map_err(|_| Error::out_of(Resource::Requests, Limit::Caller))?;
        request.record.hold_for_decoy(place);
        return Ok(());
    }
    admitted.owner.note_active();
    take_connection(request, &admitted.owner)
}

/// The request is one of the caller's until its record ends.
fn take_share(request: &mut Request<'_>, admitted: &Admitted<'_>) -> Result<(), Error> {
    let share = admitted.owner.take(Resource::Requests);
    request.record.hold(share.map_err(|limit| Error::out_of(Resource::Requests, limit))?);
    Ok(())
}

fn check_running(admitted: &Admitted<'_>) -> Result<(), Error> {
    if admitted.entry.run_state.is_stopped() { Err(Error::stopped()) } else { Ok(()) }
}

/// The connection is from now on one of the caller's.
fn take_connection(request: &Request<'_>, owner: &Arc<Owner>) -> Result<(), Error> {
    request.connection.admit(owner).map_err(|limit| Error::out_of(Resource::Connections, limit))
}

/// On to the server: byte for byte where it speaks the client's transport, message by message elsewhere.
async fn forward(request: &mut Request<'_>, admitted: Admitted<'_>) -> Result<Response<Payload>, Error> {
    let Request { head, fields, .. } = *request;
    // What is declared is what is asked: servers of MCP 2026-07-28 refuse what differs. Where the body is read, that counts.
    if let Some(method) = fields.rpc_method.filter(|_| head.method == Method::POST) {
        let name = fields.rpc_name.and_then(field_text::decode);
        request.record.set_operation(method.to_str().unwrap_or_default(), name.as_deref(), |text| {
            admitted.presented.is_in(text)
        });
    }
    let entry = Arc::clone(&admitted.entry);
    let answered = if proxy::passes_through(&admitted) && !bridge::keeps(request, &admitted).await {
        proxy::forward(request, admitted).await
    } else {
        bridge::answer(request, admitted).await
    };
    if let Err(error) = &answered {
        entry.failed_by(error);
    }
    answered
}

/// The address of the client that a balancer forwards for.
fn client_address(connection: &Connection, live: &Live, head: &Parts) -> Option<IpAddr> {
    let trusted = &live.config.trusted_proxies;
    let is_balancer =
        connection.listener_kind == ListenerKind::Public && is_trusted(trusted, connection.address);
    if is_balancer { forwarded_for(&head.headers, trusted) } else { None }
}

/// Where any origin is allowed, a stranger's is repeated in the answer; none that is one is longer than this.
const LONGEST_ORIGIN: usize = 512;

fn is_allowed_origin(live: &Live, origin: &HeaderValue) -> bool {
    let is_allowed =
        |origin: &str| origin_is_allowed(&live.config.allowed_origins, live.config.loopback_origins, origin);
    origin.len() <= LONGEST_ORIGIN && origin.to_str().is_ok_and(is_allowed)
}

/// The answer to HEAD: the head that GET would have, with the length of what does not follow.
fn without_content(response: Response<Payload>) -> Response<Payload> {
    let (mut parts, payload) = response.into_parts();
    if let Payload::Whole(bytes) | Payload::Complete(bytes) = payload
        && !bytes.is_empty()
    {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| bytes.len().into());
    }
    Response::from_parts(parts, Payload::Whole(Bytes::new()))
}
