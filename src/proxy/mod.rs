//! The MCP path: one admitted request, to its server and back.

mod headers;

use std::{
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use crate::{
    auth,
    body::{Payload, Seal, Stream},
    config::{HttpTarget, Transport as Speaks},
    error::{Error, Kind},
    identity::{Grant, Subject},
    mcp::{endpoint::EndpointRewriter, session::SessionKey},
    observe::Record,
    route::Door,
    state::{Backend, Live, Route},
    upstream::{Endpoint, Exchange, ExchangeError, Head, Pool},
    watchdog::{Signal, Watchdog, Watched},
};

/// The newest MCP version with sessions is 2025-11-25; from this one on a session id means nothing.
const STATELESS_SINCE: &str = "2026-07-28";

/// A request that may pass.
pub struct Admitted {
    /// To this server.
    pub route: Arc<Route>,
    /// At this of its endpoints.
    pub door: Door,
    /// Name of the token; `None` on a public server.
    pub token_name: Option<Arc<str>>,
    /// The token as presented, so that it is kept from going on in another field.
    pub token: Vec<u8>,
    /// What it was admitted by.
    pub grant: Grant,
    /// Seals session ids.
    pub sessions: SessionKey,
    /// Time-outs and sizes.
    pub limits: Limits,
}

/// The limits that one exchange needs.
#[derive(Clone, Copy)]
pub struct Limits {
    connect: Duration,
    head: Duration,
    body: Duration,
    max_body: u64,
}

impl Limits {
    /// The limits of `live` for requests on `route`.
    pub fn of(live: &Live, route: &Route) -> Self {
        let limits = &live.limits;
        Self {
            connect: limits.connect_timeout,
            head: route.server.timeout.unwrap_or(limits.upstream_timeout),
            body: limits.body_timeout,
            max_body: limits.max_body_bytes,
        }
    }
}

/// Sends the request on and returns the response as soon as its head is here.
pub async fn forward(
    pool: &Rc<Pool>,
    watchdog: &Rc<Watchdog<Subject>>,
    admitted: Admitted,
    head: &Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<Response<Payload>, Error> {
    let Backend::Http { endpoint, target: to } = &admitted.route.backend else {
        return Err(Kind::UpstreamUnreachable.because("servers that run a command are not supported yet"));
    };
    // 1. Where to: the server's endpoint for this door, in its own words.
    let target = request_target(&admitted, to, head)?;
    // 2. As whom: the server sees its own session id.
    let session = open_session(&admitted, &head.headers)?;
    // 3. By which connection.
    let watched = watchdog.watch(Subject::Request(admitted.grant.clone()));
    let transport = match pool.take(endpoint) {
        Some(transport) => transport,
        None => connect(endpoint, admitted.limits.connect).await?,
    };
    // 4. With what head. An event stream whose first event is to be read must not come compressed.
    let wants_identity = admitted.door == Door::Sse;
    let mut out = pool.take_buffer();
    headers::write_request(&mut out, head, &target, &endpoint.authority, to, session, &admitted.token, wants_identity);
    // 5. Send, and wait for the response head, no longer.
    let exchange = Exchange::new(
        Arc::clone(endpoint),
        Rc::clone(pool),
        transport,
        head.method.clone(),
        out,
        body,
        admitted.limits.max_body,
    );
    let (mut response_head, first, exchange) = response_head(exchange, &watched, admitted.limits, record).await?;
    // 6. What the client may see of it.
    if response_head.status.is_redirection() && response_head.headers.contains_key(header::LOCATION) {
        return Err(Kind::UpstreamRedirect.into());
    }
    let upstream = exchange.into_body(&response_head, first);
    headers::clean_response(&mut response_head.headers);
    seal_session(&admitted, &mut response_head)?;
    let rewriter = endpoint_rewriter(&admitted, to, &mut response_head)?;
    let Head { status, headers, .. } = response_head;
    let mut response = Response::new(Payload::Stream(Box::new(Stream { upstream, rewriter, watched })));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The path and query that the server gets.
fn request_target(admitted: &Admitted, to: &HttpTarget, head: &Parts) -> Result<String, Error> {
    let name = &admitted.route.server.name;
    let methods: &[Method] = match admitted.door {
        Door::Mcp => &[Method::POST, Method::GET, Method::DELETE],
        Door::Sse => &[Method::GET],
        Door::Message => &[Method::POST],
    };
    let wanted = if admitted.door == Door::Mcp { Speaks::StreamableHttp } else { Speaks::Sse };
    if to.transport != wanted {
        // 404 rather than a failure of ours: it is what sends a client to the other transport.
        return Err(Kind::NotFound.because("the server speaks the other transport"));
    }
    if !methods.contains(&head.method) {
        return Err(Kind::MethodNotAllowed.into());
    }
    let query = head.uri.query().unwrap_or_default();
    match admitted.door {
        Door::Mcp | Door::Sse => Ok(headers::target(to, &auth::without_token(query, &admitted.token))),
        Door::Message => {
            let query = message_query(query);
            let opened = admitted.sessions.open_message(name, admitted.token_name.as_deref(), query);
            opened.ok_or_else(|| Kind::SessionNotFound.into())
        }
    }
}

/// The query that the gate gave out, without what a client put behind it. A `token` parameter in front of the seal
/// is the server's own.
fn message_query(query: &str) -> &str {
    let sealed = query.find("sluicegate=").unwrap_or(0);
    let end = query[sealed..].find('&').map_or(query.len(), |at| sealed + at);
    &query[..end]
}

/// The server's own session id behind the one that the client sent.
fn open_session<'a>(admitted: &Admitted, headers: &'a HeaderMap) -> Result<Option<&'a [u8]>, Error> {
    let Some(presented) = headers.get(headers::SESSION_ID) else { return Ok(None) };
    let name = &admitted.route.server.name;
    match admitted.sessions.open(name, admitted.token_name.as_deref(), presented.as_bytes()) {
        Some(id) => Ok(Some(id)),
        // Without sessions the field is noise that a server ignores, and so do we.
        None if headers.get("mcp-protocol-version").is_some_and(|version| version == STATELESS_SINCE) => Ok(None),
        None => Err(Kind::SessionNotFound.into()),
    }
}

/// Replaces the server's session id by one that only this caller can use, and only here.
fn seal_session(admitted: &Admitted, head: &mut Head) -> Result<(), Error> {
    if let Some(id) = head.headers.get(headers::SESSION_ID) {
        let sealed = admitted.sessions.seal(&admitted.route.server.name, admitted.token_name.as_deref(), id.as_bytes());
        let sealed = sealed.map_err(|e| Kind::UpstreamUnreachable.because(e.to_string()))?;
        head.headers.insert(headers::SESSION_ID, sealed);
    }
    Ok(())
}

/// For an HTTP+SSE stream: what leads its client's messages back through the gate.
fn endpoint_rewriter(admitted: &Admitted, to: &HttpTarget, head: &mut Head) -> Result<Option<EndpointRewriter<Seal>>, Error> {
    if admitted.door != Door::Sse || head.status != StatusCode::OK || !is_event_stream(&head.headers) {
        return Ok(None);
    }
    if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Kind::UpstreamUnreachable.because("the event stream is compressed although identity was asked for"));
    }
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::ETAG);
    let (sessions, server) = (admitted.sessions.clone(), Arc::clone(&admitted.route.server.name));
    let token_name = admitted.token_name.clone();
    let seal: Seal =
        Box::new(move |path, query| sessions.seal_message(&server, token_name.as_deref(), path, query));
    Ok(Some(EndpointRewriter::new(to.url.clone(), seal)))
}

/// Whether a body is `text/event-stream`, whatever its parameters.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = b"text/event-stream";
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.get(..essence.len()).is_some_and(|start| start.eq_ignore_ascii_case(essence))
            && value.get(essence.len()).is_none_or(|next| matches!(next, b';' | b' ' | b'\t'))
    })
}

async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<crate::upstream::Transport, Error> {
    endpoint.connect(timeout).await.map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => Kind::UpstreamTimeout.because("no connection within connectTimeout"),
        _ => Kind::UpstreamUnreachable.because(e.to_string()),
    })
}

/// Drives the exchange to its response head. Each side has its own clock: the client while its body is awaited,
/// the server once it has all that there is.
async fn response_head(
    mut exchange: Exchange,
    watched: &Watched<Subject>,
    limits: Limits,
    record: &mut Record,
) -> Result<(Head, Bytes, Exchange), Error> {
    let mut progress = None;
    let mut counted = 0;
    let (head, first) = poll_fn(|cx| {
        match watched.poll(cx) {
            Some(Signal::Deadline) if exchange.waits_for_client() => return Poll::Ready(Err(Kind::BodyTimeout.into())),
            Some(Signal::Deadline) => return Poll::Ready(Err(Kind::UpstreamTimeout.into())),
            Some(Signal::Revoked) => return Poll::Ready(Err(Kind::InvalidToken.because("revoked while it waited"))),
            Some(Signal::Cut) => return Poll::Ready(Err(Kind::Unavailable.into())),
            Some(Signal::Drain) | None => {}
        }
        let polled = exchange.poll_head(cx).map_err(refusal);
        let now = (exchange.waits_for_client(), exchange.body_bytes());
        if polled.is_pending() && progress != Some(now) {
            progress = Some(now);
            watched.set_deadline(Some(Instant::now() + if now.0 { limits.body } else { limits.head }));
        }
        record.received(now.1 - counted);
        counted = now.1;
        polled
    })
    .await?;
    watched.set_deadline(None);
    Ok((head, first, exchange))
}

fn refusal(e: ExchangeError) -> Error {
    match e {
        ExchangeError::TooLarge => Kind::BodyTooLarge.into(),
        ExchangeError::Client(e) => Kind::Malformed.because(e.to_string()),
        ExchangeError::Io(_) | ExchangeError::Protocol(_) => Kind::UpstreamUnreachable.because(e.to_string()),
    }
}
