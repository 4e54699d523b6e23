//! The byte path: one admitted request, to its server and back.

mod cookies;
mod credential;
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

use self::{
    credential::{NotSent, Sent, Sessions},
    lists::BodyRule,
    tools::Tools,
};
use crate::{
    body::{Edits, Late, Pace, PassthroughStream, Payload, Silence, response::response},
    config::{HttpTarget, McpTransport as Speaks},
    credentials::Missing,
    downstream::head::Checked,
    endpoints::table::McpEndpoint,
    error::{Error, ErrorKind},
    identity::{Subject, Waits},
    mcp::{
        accept::{names_events, takes_events},
        connect,
        header::{LAST_EVENT_ID, SESSION_ID},
        message::Message,
        seal,
        sse::{end::EventEnd, reader::is_event_stream},
    },
    observe::Record,
    request::{
        Request,
        admitted::Admitted,
        missing::{self, Recipient},
    },
    servers::Backend,
    upstream::{Exchange, Framing, Head, RequestBody, Upload, client::is_coded},
    watchdog::{Ending, Watched},
};

/// Whether the server speaks the transport of this endpoint, so that bytes can pass as they are.
pub fn passes_through(admitted: &Admitted<'_>) -> bool {
    let Backend::Http { target, .. } = &admitted.entry.backend else { return false };
    (target.transport == Speaks::StreamableHttp) == (admitted.mcp_endpoint == McpEndpoint::Mcp)
}

/// Sends the request on and returns the response as soon as its head is here. The body is taken only when it goes on.
pub async fn forward(request: &mut Request<'_>, admitted: Admitted<'_>) -> Result<Response<Payload>, Error> {
    match forward_by(request, &admitted, None).await {
        Ok(response) => Ok(response),
        Err(NotSent::Error(error)) => Err(error),
        // Boxed, so that it is no part of every request's task.
        Err(NotSent::Missing(missing, body)) => {
            Box::pin(without_credential(request, &admitted, missing, body)).await
        }
    }
}

/// What a request comes to whose server is called with a credential of the caller's, which is missing. It goes on if it comes back from
/// where its client was sent for one, and there is one by now.
async fn without_credential(
    request: &mut Request<'_>,
    admitted: &Admitted<'_>,
    missing: Missing,
    body: Option<Bytes>,
) -> Result<Response<Payload>, Error> {
    let body = match body {
        Some(body) => Some(body),
        None => small_body::read_message(request, admitted).await?,
    };
    let message = body.and_then(|body| Message::parse(body).ok());
    let entry = &admitted.entry;
    let Some(back) = message.as_ref().filter(|message| connect::may_come_back(message.text())) else {
        return missing::answer(&missing, admitted, entry, message.as_ref(), request.record);
    };
    let body = match credential::recipient(request, admitted, back).await? {
        Recipient::Nobody(answer) => return Ok(answer),
        Recipient::Server => Bytes::copy_from_slice(back.text()),
        Recipient::ServerWithout(rest) => rest.into_bytes(),
    };
    match forward_by(request, admitted, Some(body)).await {
        Ok(response) => Ok(response),
        Err(NotSent::Error(error)) => Err(error),
        Err(NotSent::Missing(missing, _)) => {
            missing::answer(&missing, admitted, entry, Some(back), request.record)
        }
    }
}

/// Sends the request on. `given`: its body, if that was read already.
async fn forward_by(
    request: &mut Request<'_>,
    admitted: &Admitted<'_>,
    given: Option<Bytes>,
) -> Result<Response<Payload>, NotSent> {
    let checked = &request.checked();
    let Request { worker, head, body, record, .. } = request;
    let (pool, is_draining) = (&worker.pool, worker.shared.is_draining());
    let Backend::Http { origin, target: to } = &admitted.entry.backend else {
        return Err(ErrorKind::Internal.with_cause("this server is not reached byte for byte").into());
    };
    let limits = &admitted.live.limits;
    let head_timeout = admitted.entry.server.timeout.unwrap_or(limits.upstream_timeout);
    // 1. As whom: with which credential the server is called, if it is not the config's.
    // A body that says that it is too large is not begun.
    let declared = body.as_ref().map_or(0, |body| body.size_hint().lower());
    if limits.max_body_bytes > 0 && declared > limits.max_body_bytes {
        return Err(Error::from(ErrorKind::BodyTooLarge).into());
    }
    if is_draining && body.as_ref().is_none_or(|body| body.is_end_stream()) {
        return Err(Error::from(ErrorKind::Unavailable).into());
    }
    let watched =
        worker.watchdog.watch(Subject::Request(admitted.admission(), waits(admitted.mcp_endpoint, checked)));
    let mut sent = credential::of(admitted, head, &watched).await?;
    let sessions = Sessions::of(admitted, sent.as_ref());
    // 2. Where to: path and query as the server has them, and its own session id.
    let target = request_target(admitted, sessions, to, head)?;
    let session = open_session(admitted, sessions, checked);
    let view = admitted.entry.tool_view(&admitted.caller);
    let tools = view.map(|view| Tools::new(view, admitted, head_timeout, head, body.as_ref())).transpose()?;
    // 3. By which connection, for which a small body does not have to be waited for.
    let is_given = given.is_some();
    let pace = Pace::of_request(limits, body.as_ref().and_then(|body| body.size_hint().exact()));
    let mut upload = match given {
        Some(given) => RequestBody::Whole(given),
        None => {
            let incoming =
                body.take().ok_or_else(|| ErrorKind::Internal.with_cause("the request body is gone"))?;
            small_body::read_ahead(incoming, limits, &watched, &admitted.owner, record).await?
        }
    };
    // What came back from the gateway's own question does not go on as it is.
    if sent.is_some() && !is_given && credential::is_for_gateway(upload.here(), &admitted.entry.server.name) {
        match Box::pin(credential::for_gateway(worker, admitted, head, record, &upload)).await? {
            Some(Recipient::Nobody(answer)) => return Ok(answer),
            Some(Recipient::ServerWithout(rest)) => upload = RequestBody::Whole(rest.into_bytes()),
            Some(Recipient::Server) | None => {}
        }
    }
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
            return Err(error.into());
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
            return Err(error.into());
        }
    };
    // 4. With what head. What is to be read of the response must not come compressed.
    let wants_identity = head.method == Method::GET || tools.is_some();
    let request_head = |sent: Option<&Sent<'_>>| {
        let mut out = pool.spares.buffer();
        let (credential, replaced) = sent.map(Sent::fields).unwrap_or_default();
        let words = headers::HeadInput {
            target: &target,
            authority: &origin.authority,
            session,
            tenant_header: admitted.live.config.tenant_header.as_ref(),
            presented: &admitted.presented,
            wants_identity,
            passes_last_event_id: to.pass_last_event_id.unwrap_or(admitted.entry.has_no_strangers()),
            credential,
            replaced,
        };
        headers::write_request(&mut out, checked, to, &words);
        out
    };
    let out = request_head(sent.as_ref());
    // 5. Send, and wait for the response head, no longer.
    let mut held = sent.as_ref().and_then(|_| credential::held(&upload));
    let pace_again = held.as_ref().map(|_| pace.clone());
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
    let (mut response_head, mut first) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            let Some(answer) = tools.and_then(|tools| tools.answer(&error)) else { return Err(error.into()) };
            record.failed(&error);
            return Ok(answer);
        }
    };
    // What refuses the credential did nothing: it is asked once more, with another.
    if let Some(sent) = &mut sent
        && sent.is_refused_by(&response_head)
    {
        let is_held = exchange.is_sent() && held.is_some();
        exchange.into_body(&response_head, first).discard();
        let another = Box::pin(sent.another(admitted, head, &response_head, is_held, &watched)).await;
        if let Err(NotSent::Missing(missing, _)) = another {
            return Err(NotSent::Missing(missing, held.and_then(credential::bytes_of)));
        }
        another?;
        let (Some(body), Some(pace)) = (held.take(), pace_again) else {
            return Err(Error::from(ErrorKind::UpstreamUnauthorized).into());
        };
        let transport = match if is_stream { None } else { pool.take(origin) } {
            Some(transport) => transport,
            None => origin.connect(limits.connect_timeout, is_stream).await?,
        };
        let out = request_head(Some(sent));
        // It was looked at as a whole before.
        let upload = Upload { body, inspect: None, max_bytes: limits.max_body_bytes };
        exchange =
            Exchange::new(Arc::clone(origin), Rc::clone(pool), transport, head.method.clone(), out, upload);
        if is_stream {
            exchange.mark_for_stream();
        }
        let answered = Box::pin(self::response_head(&mut exchange, &watched, pace, head_timeout, record));
        (response_head, first) = answered.await?;
    }
    admitted.entry.health.answered_with(response_head.status);
    // 6. What the client may see of it.
    if !sent.as_ref().is_some_and(Sent::is_the_clients) {
        ErrorKind::refuse_challenge(response_head.status)?;
    }
    let status = response_head.status;
    if status.is_redirection()
        && status != StatusCode::NOT_MODIFIED
        && response_head.headers.contains_key(header::LOCATION)
    {
        return Err(Error::from(ErrorKind::UpstreamRedirect).into());
    }
    let mut upstream = exchange.into_body(&response_head, first);
    let cookies_of = to.cookies.then_some(&*admitted.entry.server.name);
    if headers::clean_response(&mut response_head.headers, cookies_of) {
        seal_session(admitted, sessions, &mut response_head)?;
    }
    let mut rule = match &tools {
        Some(tools) if !upstream.is_end() => tools.body_rule(&response_head, record)?,
        _ => BodyRule::Pass,
    };
    let mut rewriter = None;
    if head.method == Method::GET && !upstream.is_end() && !matches!(rule, BodyRule::Withhold) {
        if endpoint::can_be_looked_at(&response_head)? {
            (upstream, rewriter) = endpoint::guarded(admitted, sessions, to, &mut response_head, upstream);
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
    sessions: Sessions<'_>,
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
            let opened = sessions.key().open_message(server, owner, query);
            opened.map(Cow::Owned).ok_or_else(|| ErrorKind::SessionNotFound.into())
        }
    }
}

/// The server's own session id behind the one that the client sent.
fn open_session<'a>(
    admitted: &Admitted<'_>,
    sessions: Sessions<'_>,
    checked: &Checked<'a>,
) -> Result<Option<&'a [u8]>, Error> {
    // An empty one is none.
    let Some(presented) = checked.fields.session.filter(|presented| !presented.is_empty()) else {
        return Ok(None);
    };
    let (server, owner) = admitted.session_owner();
    match sessions.key().open(server, owner, presented.as_bytes()) {
        Some(id) => Ok(Some(id)),
        // Without sessions the field is noise that a server ignores, and so do we.
        None if checked.fields.is_modern => Ok(None),
        None => Err(ErrorKind::SessionNotFound.into()),
    }
}

/// Replaces the server's session id by one that only this caller can use, and only here.
fn seal_session(admitted: &Admitted<'_>, sessions: Sessions<'_>, head: &mut Head) -> Result<(), Error> {
    if let Some(id) = head.headers.get(SESSION_ID) {
        let (server, owner) = admitted.session_owner();
        let sealed = sessions.key().seal(server, owner, id.as_bytes());
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
