//! The life of a request, on one page.
//!
//! The outer function times, records and turns errors into responses; the inner one decides, step by step, and uses
//! `?`. The order of its steps is the security of the gateway, and argued there.

use std::{net::IpAddr, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
    request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use crate::{
    body::{Body, BrokenOff, Payload},
    bridge,
    downstream::{
        connection::{Connection, ListenerKind, TakeoverSlot},
        cors,
        forwarded::{forwarded_for, is_trusted},
        head::{self, Checked, RequestFields},
        incoming::Incoming,
    },
    endpoints::{
        self, shown,
        table::{Endpoint, McpEndpoint, endpoint},
    },
    error::{Error, ErrorKind},
    identity::{
        presented::{presented, unasked},
        verifier::{Found, Identified},
    },
    ledger::{Owner, Resource},
    mcp::{
        header::{self as field_text, Occurrence},
        sse::reader::is_event_stream,
    },
    observe::{Record, TraceId},
    policy::decide::{Ask, ManageAsk},
    policy::hosts::{host_is_address, host_is_allowed, host_is_loopback, origin_is_allowed, origin_is_of},
    proxy::{self, relay::Relay},
    request::{
        admitted::Admitted,
        host_hint::forbidden,
        refuse::{close, refuse},
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
    request: Request<Incoming>,
) -> Result<Response<Body>, BrokenOff> {
    let (mut head, body) = request.into_parts();
    let mut body = Some(body);
    let observer = Arc::clone(&worker.shared.observer);
    let (id, id_field) = worker.next_request_id();
    let path = head.uri.path_and_query().cloned();
    let mut record = Record::begin(observer, Rc::clone(&connection), head.method.clone(), path, id);
    let live = worker.shared.live().clone();
    let client = client_address(&connection, &live, &head);
    if let Some(client) = client {
        record.client_is(client);
    }
    // Outermost, so that a page can read refusals too. The admin listener is no page's to read.
    let fields = head::fields(&head.headers);
    let is_listed = match fields.origin {
        Occurrence::Not => true,
        Occurrence::Once(origin) => {
            connection.listener_kind == ListenerKind::Public && is_allowed_origin(&live, origin)
        }
        Occurrence::Often => false,
    };
    let allowed_origin = fields.origin.once().filter(|_| is_listed).cloned();
    let (closes, awaits_leave) = (fields.closes, fields.awaits_leave);

    let asked = Asked {
        worker: &worker,
        connection: &connection,
        live: &live,
        head: &head,
        fields: &fields,
        client,
        is_listed,
    };
    let answered = answer(asked, &mut body, &mut record).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => {
            record.failed(&error);
            if let Some(body) = body {
                // What it sent is not kept while the rest comes.
                head.headers = HeaderMap::new();
                // At the end of a drain the connection is about to be cut, and the answer is to go out before.
                let patience = if worker.shared.is_draining() { LAST_PATIENCE } else { PATIENCE };
                swallow(body, awaits_leave, patience).await;
            }
            refuse(&live, &error, &record, &head)
        }
    };
    if !record.is_admitted() {
        record.show_path(shown::shown(head.uri.path(), |name| live.routes.contains_key(name)));
    }
    if let Some(id) = id_field {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(origin) = &allowed_origin {
        cors::allow(origin, response.headers_mut());
    }
    // A balancer that keeps it would send its next request when it is too late to take one (RFC 9112 §9.6).
    let is_late = head.version < Version::HTTP_2 && !worker.shared.is_ready();
    if is_late || connection.ends_with_this() {
        connection.close_after_response();
        close(&head, &mut response);
    }
    let is_stream = !matches!(response.body(), Payload::Whole(_)) && is_event_stream(response.headers());
    record.responded(response.status(), is_stream);
    let may_leave_hyper = connection.relays() && head.version == Version::HTTP_11 && !closes;
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
                connection.responds(watched.view());
            }
            Ok(Response::from_parts(parts, Body::new(payload, record)))
        }
    }
}

/// On every answer, for whoever asks about one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long the rest of a body is waited for that nobody wants, and how long in a drain.
const PATIENCE: Duration = Duration::from_secs(1);
const LAST_PATIENCE: Duration = Duration::from_millis(50);

/// Reads a small body that nobody wants, so that its sender is through before it is answered. Otherwise HTTP/2 resets the
/// stream behind the answer (RFC 9113 §8.1), which some clients take for a failure (curl 7.88), and HTTP/1.1 closes
/// a connection with unread bytes, which may lose the answer.
async fn swallow(mut body: Incoming, awaits_leave: bool, patience: Duration) {
    const MOST: u64 = 64 * 1024;
    // A client that asks first is refused before it sends anything.
    if awaits_leave || body.size_hint().lower() > MOST {
        return;
    }
    let mut left = MOST;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, |data| data.len() as u64)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // What has not come by then is left unread.
    let _ = tokio::time::timeout(patience, reading).await;
}

/// A request, and what its answer depends on beside its body.
#[derive(Clone, Copy)]
struct Asked<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Connection,
    /// The config of the moment in which it came.
    live: &'a Arc<Live>,
    head: &'a Parts,
    fields: &'a RequestFields<'a>,
    /// The client that a balancer forwards for.
    client: Option<IpAddr>,
    /// Pages of its `Origin` may call, or it has none.
    is_listed: bool,
}

async fn answer(
    asked: Asked<'_>,
    body: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Response<Payload>, Error> {
    let Asked { worker, connection, live, head, fields, client, is_listed } = asked;
    // 1. A head that two parsers could read differently is not looked at any further.
    let checked = head::check(head, fields, &live.limits, connection.take_fault())?;
    let at = endpoint(head.uri.path());
    // The id of a trace has the form of many a token.
    let trace = fields.traceparent.once().and_then(TraceId::of);
    record.traced(trace.filter(|trace| !is_secret(asked, at, trace.as_str())));
    // 2. What is for operators has a listener of its own, with rules of its own.
    if let ListenerKind::Admin { is_remote } = connection.listener_kind {
        record.is_for_the_gate();
        return administer(asked, &checked, at, is_remote).await;
    }
    // 3. Probes come from load balancers and kubelets, which use addresses for host names. They learn nothing.
    if is_probe(at) {
        record.is_for_the_gate();
        return endpoints::probe(&worker.shared, at, &head.method, false);
    }
    // 4. A page of a foreign site, or one whose name was rebound to this address, is turned away before it can
    //    learn whether its token is good.
    let is_check = checked.host.is_empty() && head.method == Method::OPTIONS;
    if checked.host.is_empty() && !is_check {
        return Err(ErrorKind::Malformed.with_cause("Host is missing"));
    }
    if !is_check && !host_is_allowed(&live.host_rules.hosts, checked.host) {
        return Err(forbidden(
            checked.host,
            "is none of `proxy.allowedHosts`; add it there, or name the gateway as `proxy.baseUrl` does",
            |text| is_secret(asked, at, text),
        ));
    }
    if !is_listed {
        return Err(ErrorKind::ForbiddenOrigin.into());
    }
    // 5. A browser asks first, without the token (WHATWG Fetch §3.2.2); so does the default check of HAProxy, by HTTP/1.0.
    if head.method == Method::OPTIONS {
        record.is_for_the_gate();
        return Ok(options(head, at));
    }
    if at == Endpoint::Unchallenged {
        return Err(ErrorKind::NotFound.into());
    }
    // 6. Who calls. A server that asks for no token is found first; for everything else the token is checked
    //    before anything is revealed about what exists, so that names cannot be probed.
    let route = match at {
        Endpoint::Server { name, mcp_endpoint } => live.routes.get(name).map(|route| (route, mcp_endpoint)),
        Endpoint::All { mcp_endpoint } => Some((&live.all, mcp_endpoint)),
        _ => None,
    };
    let (presented, slot) = match route {
        // Nobody asked for the token that comes all the same, and the server is not to have it.
        Some((route, _)) if route.is_public => {
            let query = query_of_caller(head, at);
            (unasked(fields.authorization, query)?, None)
        }
        _ => {
            let presented = presented(fields.authorization, query_of_caller(head, at), live.query_token);
            let slot = match live.identify(&presented) {
                Identified::Ready(found) => {
                    found.inspect_err(|_| connection.refused(&worker.shared.ledger))?
                }
                Identified::Later(found) => found_later(asked, found).await?,
            };
            (presented?, Some(slot))
        }
    };
    // 7. What it may do.
    let Some((route, mcp_endpoint)) = route else {
        let what = endpoints::asked(at).ok_or(ErrorKind::NotFound)?;
        let owner = operator(live, slot.ok_or(ErrorKind::Unauthorized)?, what)?;
        record.is_for_the_gate();
        connection.admit(owner).map_err(|limit| Error::out_of(Resource::Connections, limit))?;
        return endpoints::answer(&worker.shared, at, &head.method);
    };
    let caller = live.caller(slot);
    if !route.admits(&caller) {
        let decided = live.decide(&caller.identity, &Ask::server(&route.server.name));
        return Err(decided.into_result().err().unwrap_or(ErrorKind::InsufficientScope).into());
    }
    let owner = match slot.map(|slot| &live.credentials[slot]) {
        Some(holder) => {
            holder.used.inc();
            Arc::clone(&holder.owner)
        }
        // Without a token, a request counts for its address, or for that which a balancer forwards for.
        None => connection.owner(client, &worker.shared.ledger),
    };
    let admitted =
        Admitted { live: Arc::clone(live), route: Arc::clone(route), mcp_endpoint, caller, presented, owner };
    record.admitted(
        Arc::clone(&route.server.name),
        Arc::clone(&route.metrics),
        admitted.caller.token_name().cloned(),
    );
    // 8. What a browser loads as a page, a frame or a script would be the gateway's to it, whatever server it comes from.
    if fields.is_for_page {
        return Err(ErrorKind::NotAPage.into());
    }
    // 9. New work is refused while draining; what runs goes on, and its client may still answer its server: whether a POST
    //    is that, its body says. Then, whether the caller has not as much of the gateway already as one may have.
    let is_draining = worker.shared.is_draining();
    if is_draining && head.method != Method::POST {
        return Err(ErrorKind::Unavailable.into());
    }
    let owner = &admitted.owner;
    owner.note_active();
    connection.admit(owner).map_err(|limit| Error::out_of(Resource::Connections, limit))?;
    let share = owner.take(Resource::Requests);
    record.holds(share.map_err(|limit| Error::out_of(Resource::Requests, limit))?);
    if route.run_state.is_stopped() {
        return Err(Error::stopped());
    }
    // What is declared is what is asked: servers of MCP 2026-07-28 refuse what differs. Where the body is read, that counts.
    if let Some(method) = fields.rpc_method.filter(|_| head.method == Method::POST) {
        let name = fields.rpc_name.and_then(field_text::decode);
        record.asks(method.to_str().unwrap_or_default(), name.as_deref(), |text| {
            admitted.presented.is_in(text)
        });
    }
    // 10. On to the server: byte for byte where it speaks the client's transport, message by message elsewhere.
    let answered = if proxy::passes_through(&admitted) {
        proxy::forward(&worker.pool, &worker.watchdog, admitted, &checked, is_draining, body, record).await
    } else {
        bridge::answer(worker, admitted, head, body, record).await
    };
    if let Err(error) = &answered {
        route.health.failed_by(error);
    }
    answered
}

/// Whether `text` of a request head is a token of the config, or holds the one that the request presents.
fn is_secret(asked: Asked<'_>, at: Endpoint<'_>, text: &str) -> bool {
    let Asked { live, head, fields, .. } = asked;
    let presented = unasked(fields.authorization, query_of_caller(head, at));
    live.tokens.find(text.as_bytes()).is_some()
        || presented.map_or(true, |presented| presented.is_in(text.as_bytes()))
}

fn is_probe(at: Endpoint<'_>) -> bool {
    matches!(at, Endpoint::Live | Endpoint::Ready | Endpoint::Status)
}

/// What the admin listener answers. Nothing that a page of a browser can do may reach it: neither one of another origin,
/// whatever the public listener allows, nor one whose name was rebound to this address, which gets nothing at all. On
/// this machine no token is asked for; where others can connect, every request but those for `/health` needs one.
async fn administer(
    asked: Asked<'_>,
    checked: &Checked<'_>,
    at: Endpoint<'_>,
    is_remote: bool,
) -> Result<Response<Payload>, Error> {
    let (Asked { worker, connection, live, head, .. }, host) = (asked, checked.host);
    // Scrapers and kubelets call a pod by its address, which is no name that could be rebound.
    // A health check by HTTP/1.0 has none, and a browser cannot make it.
    let is_served = host_is_loopback(host)
        || (host.is_empty() && matches!(at, Endpoint::Live | Endpoint::Ready))
        || (is_remote && (host_is_address(host) || host_is_allowed(&live.host_rules.hosts, host)));
    if !is_served {
        let way_out = if is_remote {
            "is no address, and none of `proxy.allowedHosts`; add it there, or use an address"
        } else {
            "is no name of this machine; an admin listener on loopback is for this machine only"
        };
        return Err(forbidden(host, way_out, |text| is_secret(asked, at, text)));
    }
    let is_own = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| origin_is_of(host, origin));
    let is_foreign = match asked.fields.origin {
        Occurrence::Not => false,
        Occurrence::Once(origin) => !is_own(origin),
        Occurrence::Often => true,
    };
    if is_foreign {
        return Err(ErrorKind::ForbiddenOrigin.into());
    }
    if is_remote && !matches!(at, Endpoint::Live | Endpoint::Ready) {
        let authorization = asked.fields.authorization;
        let presented = presented(authorization, query_of_caller(head, at), live.query_token);
        let slot = match live.identify(&presented) {
            Identified::Ready(found) => found.inspect_err(|_| connection.refused(&worker.shared.ledger))?,
            Identified::Later(found) => found_later(asked, found).await?,
        };
        let what = endpoints::asked(at);
        let is_here = what.is_some() || is_probe(at);
        let owner =
            operator(live, slot, what.unwrap_or(ManageAsk::Servers)).map_err(|error| match is_here {
                true => error,
                false => ErrorKind::NotFound.into(),
            })?;
        connection.admit(owner).map_err(|limit| Error::out_of(Resource::Connections, limit))?;
    }
    if is_probe(at) {
        endpoints::probe(&worker.shared, at, &head.method, true)
    } else {
        endpoints::answer(&worker.shared, at, &head.method)
    }
}

/// The share of an operator who may have what is asked for; that the token was used is counted.
fn operator(live: &Live, slot: usize, what: ManageAsk) -> Result<&Arc<Owner>, Error> {
    let holder = &live.credentials[slot];
    live.decide(&holder.identity, &Ask::Manage(what)).into_result()?;
    holder.used.inc();
    Ok(&holder.owner)
}

/// The credential behind a token that somebody has to be asked about. Until it is known who calls, the request counts for its
/// address.
async fn found_later(
    asked: Asked<'_>,
    found: Pin<Box<dyn Future<Output = Found> + '_>>,
) -> Result<usize, Error> {
    let Asked { worker, connection, live, client, .. } = asked;
    let address = connection.owner(client, &worker.shared.ledger);
    let share = address.take(Resource::Requests);
    let _share = share.map_err(|limit| Error::out_of(Resource::Requests, limit))?;
    let slot = found.await.inspect_err(|_| connection.refused(&worker.shared.ledger))?;
    // What a reload took away meanwhile was not taken from this request, which nobody watches over before it is admitted.
    if !Arc::ptr_eq(live, &worker.shared.live()) {
        return Err(ErrorKind::Unavailable.with_cause("the config changed while the token was checked"));
    }
    Ok(slot)
}

/// Where `token` is the caller's. The query of a message URL is the server's own, sealed by the gateway, and may hold a
/// parameter of this name.
fn query_of_caller<'a>(head: &'a Parts, at: Endpoint<'_>) -> Option<&'a str> {
    head.uri.query().map(|query| match at {
        Endpoint::Server { mcp_endpoint: McpEndpoint::Message, .. }
        | Endpoint::All { mcp_endpoint: McpEndpoint::Message } => proxy::behind_seal(query),
        _ => query,
    })
}

/// The address of the client that a balancer forwards for.
fn client_address(connection: &Connection, live: &Live, head: &Parts) -> Option<IpAddr> {
    let trusted = &live.trusted_proxies;
    let is_balancer =
        connection.listener_kind == ListenerKind::Public && is_trusted(trusted, connection.address);
    if is_balancer { forwarded_for(&head.headers, trusted) } else { None }
}

/// Where any origin is allowed, a stranger's is repeated in the answer; none that is one is longer than this.
const LONGEST_ORIGIN: usize = 512;

fn is_allowed_origin(live: &Live, origin: &HeaderValue) -> bool {
    let is_allowed =
        |origin: &str| origin_is_allowed(&live.host_rules.origins, live.host_rules.loopback_origins, origin);
    origin.len() <= LONGEST_ORIGIN && origin.to_str().is_ok_and(is_allowed)
}

fn options(head: &Parts, at: Endpoint<'_>) -> Response<Payload> {
    let mut response = Response::new(Payload::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    if cors::is_preflight(head) {
        cors::preflight(&head.headers, response.headers_mut());
    } else {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(at.methods()));
    }
    response
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
