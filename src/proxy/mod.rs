//! The byte path: one admitted request, to its server and back.

mod cookies;
mod drain;
mod endpoint;
mod fields;
mod headers;
mod lists;
mod query;
pub mod relay;
mod small_body;
mod tools;

use std::{borrow::Cow, future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version, header, request::Parts};
use hyper::body::Body as _;

use self::{lists::BodyRule, tools::Tools};
use crate::{
    body::{Edits, Late, Pace, PassthroughStream, Payload, Silence, response::response},
    config::{HttpTarget, McpTransport as Speaks},
    downstream::head::Checked,
    endpoints::table::McpEndpoint,
    error::{Error, ErrorKind},
    identity::{Subject, Waits},
    mcp::{
        accept::{names_events, takes_events},
        header::{LAST_EVENT_ID, SESSION_ID},
        seal,
        sse::{end::EventEnd, reader::is_event_stream},
    },
    observe::Record,
    request::{Request, admitted::Admitted},
    servers::Backend,
    upstream::{Exchange, Framing, Head, Upload, client::is_coded},
    watchdog::{Ending, Watched},
};

/// Whether the server speaks the transport of this endpoint, so that bytes can pass as they are.
pub fn passes_through(admitted: &Admitted<'_>) -> bool {
    let Backend::Http { target, .. } = &admitted.entry.backend else { return false };
    (target.transport == Speaks::StreamableHttp) == (admitted.mcp_endpoint == McpEndpoint::Mcp)
}

/// Sends the request on and returns the response as soon as its head is here. The body is taken only when it goes on.
pub async fn forward(request: &mut Request<'_>, admitted: Admitted<'_>) -> Result<Response<Payload>, Error> {
    let checked = &request.checked();
    let Request { worker, head, body, record, .. } = request;
    let (pool, is_draining) = (&worker.pool, worker.shared.is_draining());
    let Backend::Http { origin, target: to } = &admitted.entry.backend else {
        return Err(ErrorKind::Internal.with_cause("this server is not reached byte for byte"));
    };
    let limits = &admitted.live.limits;
    let head_timeout = admitted.entry.server.timeout.unwrap_or(limits.upstream_timeout);
    // 1. Where to: path and query as the server has them.
    let target = request_target(&admitted, to, head)?;
    // A body that says that it is too large is not begun.
    let declared = body.as_ref().map_or(0, |body| body.size_hint().lower());
    if limits.max_body_bytes > 0 && declared > limits.max_body_bytes {
        return Err(ErrorKind::BodyTooLarge.into());
    }
    if is_draining && body.as_ref().is_none_or(|body| body.is_end_stream()) {
        return Err(ErrorKind::Unavailable.into());
    }
    // 2. As whom: the server sees its own session id.
    let session = open_session(&admitted, checked);
    let view = admitted.entry.tool_view(&admitted.caller);
    let tools =
        view.map(|view| Tools::new(view, &admitted, head_timeout, head, body.as_ref())).transpose()?;
    // 3. By which connection, for which a small body does not have to be waited for.
    let watched =
        worker.watchdog.watch(Subject::Request(admitted.admission(), waits(admitted.mcp_endpoint, checked)));
    let incoming = body.take().ok_or_else(|| ErrorKind::Internal.with_cause("the request body is gone"))?;
    let pace = Pace::of_request(limits, incoming.size_hint().exact());
    let upload = small_body::read_ahead(incoming, limits, &watched, &admitted.owner, record).await?;
    if tools.is_none() && head.method == Method::POST {
        small_body::note_operation(&upload, record, &admitted.presented);
    }
    let session = match session {
        Ok(None) => None,
        // Clients whose session is over name it all the same, in the request that begins the next.
        _ if small_body::begins_session(&upload) => None,
        Ok(session) => session,
        Err(error) => {
            *body = upload.into_rest();
            return Err(error);
        }
    };
    // A stream of events may be silent, or unread, for hours.
    let is_stream = head.method == Method::GET && names_events(&head.headers);
    let connected = match if is_stream { None } else { pool.take(origin) } {
        Some(transport) => Ok(transport),
        None => origin.connect(limits.connect_timeout, is_stream).await,
    };
    let transport = match connected {
        Ok(transport) => transport,
        Err(error) => {
            *body = upload.into_rest();
            return Err(error);
        }
    };
    // 4. With what head. What is to be read of the response must not come compressed.
    let mut out = pool.spares.buffer();
    let words = headers::HeadInput {
        target: &target,
        authority: &origin.authority,
        session,
        tenant_header: admitted.live.config.tenant_header.as_ref(),
        presented: &admitted.presented,
        wants_identity: head.method == Method::GET || tools.is_some(),
        passes_last_event_id: to.pass_last_event_id.unwrap_or(admitted.entry.has_no_strangers()),
    };
    headers::write_request(&mut out, checked, to, &words);
    // 5. Send, and wait for the response head, no longer.
    let upload = Upload {
        body: upload,
        inspect: drain::inspect(is_draining, tools.as_ref().and_then(Tools::inspect)),
        max_bytes: limits.max_body_bytes,
    };
    let mut exchange =
        Exchange::new(Arc::clone(origin), Rc::clone(pool), transport, head.method.clone(), out, upload);
    if is_stream {
        exchange.mark_for_stream();
    }
    let answered = response_head(&mut exchange, &watched, pace, head_timeout, record).await;
    if let Some(tools) = &tools {
        tools.note_operation(record, &admitted.presented);
    }
    let answered = answered.and_then(|answered| {
        tools.as_ref().map_or(Ok(()), Tools::answered)?;
        Ok(answered)
    });
    let (mut response_head, first) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            let Some(answer) = tools.and_then(|tools| tools.answer(&error)) else { return Err(error) };
            record.failed(&error);
            return Ok(answer);
        }
    };
    admitted.entry.health.answered_with(response_head.status);
    // 6. What the client may see of it.
    ErrorKind::refuse_challenge(response_head.status)?;
    let status = response_head.status;
    if status.is_redirection()
        && status != StatusCode::NOT_MODIFIED
        && response_head.headers.contains_key(header::LOCATION)
    {
        return Err(ErrorKind::UpstreamRedirect.into());
    }
    let mut upstream = exchange.into_body(&response_head, first);
    let cookies_of = to.cookies.then_some(&*admitted.entry.server.name);
    if headers::clean_response(&mut response_head.headers, cookies_of) {
        seal_session(&admitted, &mut response_head)?;
    }
    let mut rule = match &tools {
        Some(tools) if !upstream.is_end() => tools.body_rule(&response_head, record)?,
        _ => BodyRule::Pass,
    };
    let mut rewriter = None;
    if head.method == Method::GET && !upstream.is_end() && !matches!(rule, BodyRule::Withhold) {
        if endpoint::can_be_looked_at(&response_head)? {
            (upstream, rewriter) = endpoint::guarded(&admitted, to, &mut response_head, upstream);
        } else {
            rule = BodyRule::Withhold;
        }
    }
    let stall_limit = (head.version == Version::HTTP_2).then_some(limits.slow_reader_timeout);
    // Over HTTP/2, a client may leave one of its streams unread, which is then ended as one.
    let may_be_complete =
        matches!(rule, BodyRule::Pass) && rewriter.is_none() && head.version != Version::HTTP_2;
    let complete = may_be_complete.then(|| upstream.take_whole()).flatten();
    let payload = match (complete, rule, &tools) {
        (Some(complete), ..) => Payload::Complete(complete),
        (None, BodyRule::FilterWhole, Some(tools)) => {
            // Boxed, so that it is no part of every request's task.
            let whole = tools.whole(&mut response_head, upstream, &watched, record);
            Payload::Whole(Box::pin(whole).await?)
        }
        (None, BodyRule::Withhold, _) => {
            upstream.discard();
            lists::forget_body(&mut response_head.headers);
            Payload::Whole(Bytes::new())
        }
        (None, rule, _) => {
            let mut edits = Edits { endpoint: rewriter, tools: None };
            if let BodyRule::FilterEvents(events) = rule {
                lists::forget_bytes(&mut response_head.headers);
                edits.tools = Some(events);
            }
            // Into what has a length, or is compressed, or is a part of something, nothing can be put.
            let takes_comments = upstream.remaining().is_none()
                && response_head.status != StatusCode::PARTIAL_CONTENT
                && is_event_stream(&response_head.headers)
                && !is_coded(&response_head.headers);
            let silence = takes_comments.then(|| Silence::begin(&watched, admitted.keep_alive())).flatten();
            let end = EventEnd::default();
            Payload::Stream(Box::new(PassthroughStream {
                upstream,
                edits,
                watched,
                stall_limit,
                silence,
                end,
            }))
        }
    };
    let Head { status, headers, .. } = response_head;
    let mut response = response(status, payload);
    *response.headers_mut() = headers;
    Ok(response)
}

/// What a request waits for, as far as its head says.
fn waits(mcp_endpoint: McpEndpoint, checked: &Checked<'_>) -> Waits {
    let head = checked.parts;
    match (mcp_endpoint, &head.method) {
        // A stream that was lost is taken up again: that of a call, as a rule.
        (McpEndpoint::Mcp, &Method::GET) if !head.headers.contains_key(LAST_EVENT_ID) => Waits::Listens,
        (McpEndpoint::Mcp, _) if checked.fields.is_modern => {
            if checked.fields.listens {
                Waits::Listens
            } else {
                Waits::Calls
            }
        }
        // The answers to all calls of an HTTP+SSE session come on its one stream.
        (McpEndpoint::Sse, _) => Waits::Converses,
        // Only where events may come before the answer can there be a question among them.
        (McpEndpoint::Mcp, _) if checked.fields.takes_both || takes_events(&head.headers) => Waits::Converses,
        _ => Waits::Calls,
    }
}

/// The path and query that the server gets.
fn request_target<'a>(
    admitted: &Admitted<'_>,
    to: &'a HttpTarget,
    head: &Parts,
) -> Result<Cow<'a, str>, Error> {
    let query = head.uri.query().unwrap_or_default();
    match admitted.mcp_endpoint {
        McpEndpoint::Mcp | McpEndpoint::Sse => {
            Ok(query::target(to, &query::without_token(query, &admitted.presented)))
        }
        McpEndpoint::Message => {
            let query = seal::up_to_seal(query);
            let (server, owner) = admitted.session_owner();
            let opened = admitted.live.sessions.open_message(server, owner, query);
            opened.map(Cow::Owned).ok_or_else(|| ErrorKind::SessionNotFound.into())
        }
    }
}

/// The server's own session id behind the one that the client sent.
fn open_session<'a>(admitted: &Admitted<'_>, checked: &Checked<'a>) -> Result<Option<&'a [u8]>, Error> {
    // An empty one is none.
    let Some(presented) = checked.fields.session.filter(|presented| !presented.is_empty()) else {
        return Ok(None);
    };
    let (server, owner) = admitted.session_owner();
    match admitted.live.sessions.open(server, owner, presented.as_bytes()) {
        Some(id) => Ok(Some(id)),
        // Without sessions the field is noise that a server ignores, and so do we.
        None if checked.fields.is_modern => Ok(None),
        None => Err(ErrorKind::SessionNotFound.into()),
    }
}

/// Replaces the server's session id by one that only this caller can use, and only here.
fn seal_session(admitted: &Admitted<'_>, head: &mut Head) -> Result<(), Error> {
    if let Some(id) = head.headers.get(SESSION_ID) {
        let (server, owner) = admitted.session_owner();
        let sealed = admitted.live.sessions.seal(server, owner, id.as_bytes());
        let sealed = sealed.map_err(|e| ErrorKind::UpstreamUnreachable.with_cause(e.to_string()))?;
        head.headers.insert(SESSION_ID, sealed);
    }
    Ok(())
}

/// Drives the exchange to its response head. Each side has its own clock: the client while its body is awaited,
/// the server once it has all that there is.
async fn response_head(
    exchange: &mut Exchange,
    watched: &Watched<Subject>,
    pace: Pace,
    head_timeout: Duration,
    record: &mut Record,
) -> Result<(Head, Bytes), Error> {
    let mut body = pace.begin(watched.now());
    let mut progress = None;
    let mut counted = 0;
    let (head, mut first) = poll_fn(|cx| {
        match watched.poll_ending(cx) {
            None => {}
            Some(Ending::Deadline) if exchange.waits_for_client() => {
                match body.look(watched.now(), exchange.body_bytes()) {
                    Ok(left) => watched.set_deadline(Some(left)),
                    Err(Late) => return Poll::Ready(Err(ErrorKind::BodyTimeout.into())),
                }
            }
            Some(ending) => return Poll::Ready(Err(ending.error())),
        }
        let polled = exchange.poll_head(cx).map_err(Error::from);
        let now = (exchange.waits_for_client(), exchange.body_bytes());
        if polled.is_pending() && progress != Some(now) {
            let waited = progress.replace(now).is_some_and(|(waited, _)| waited);
            let left = match now.0 {
                false => head_timeout,
                true => {
                    if !waited {
                        body.resume(watched.now());
                    }
                    body.look(watched.now(), now.1).map_err(|Late| ErrorKind::BodyTimeout)?
                }
            };
            watched.set_deadline(Some(left));
        }
        record.received(now.1 - counted);
        counted = now.1;
        polled
    })
    .await?;
    watched.set_deadline(None);
    // Many servers write the head by itself and the body right behind it. What the worker has to do besides goes first, and
    // then both are often there, to leave in one write; a worker with nothing else to do is back here in a microsecond.
    if first.is_empty() && !matches!(head.framing, Framing::None | Framing::Length(0)) {
        tokio::task::yield_now().await;
        first = poll_fn(|cx| Poll::Ready(exchange.read_on(cx))).await?;
    }
    Ok((head, first))
}
