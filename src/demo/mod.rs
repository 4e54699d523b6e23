//! What `sluicegate demo` puts around the gateway, so that there is something to try before anything is configured: the MCP server
//! behind it, and with `--oauth` a program that its user lets in. It has no part in the gateway.
//!
//! The server speaks every published version of MCP over HTTP, so that any client can try the gateway with it: Streamable HTTP on
//! `/mcp` (2025-03-26 to 2026-07-28) and HTTP+SSE on `/sse` and `/message` (2024-11-05).

mod modern;
mod program;
mod response;
mod rpc;
mod run;
mod sessions;
mod tools;
mod wire;
mod with_oauth;

use std::{convert::Infallible, io, mem, pin::pin, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, StatusCode, header, uri::Authority};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

pub use self::run::run;
use self::{
    response::{Response, accepted, events, json, open_stream, plain},
    rpc::Reply,
    sessions::Sessions,
};
use crate::mcp::{codes::PARSE_ERROR, header::SESSION_ID};

/// Largest request body, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// How long accepting rests after an error such as a lack of file descriptors, which does not go away by asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the demo until `shutdown` completes, then cuts what is still open.
///
/// It asks for no token, so `listener` must be bound to a loopback address; anything else is `InvalidInput`.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the demo server is for loopback addresses only",
        ));
    }
    let sessions = Arc::new(Sessions::default());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let sessions = sessions.clone();
                    connections.spawn(async move {
                        let service = service_fn(|request| {
                            let sessions = sessions.clone();
                            async move { Ok::<_, Infallible>(answer(&sessions, request).await) }
                        });
                        // How a connection ended is the client's affair.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

async fn answer(sessions: &Sessions, request: Request<Incoming>) -> Response {
    if !is_local(request.headers()) {
        return plain(StatusCode::FORBIDDEN, "Host and Origin must be local\n");
    }
    let method = request.method().clone();
    match (request.uri().path(), method) {
        ("/mcp", Method::POST) => post(sessions, request).await,
        ("/mcp", Method::GET | Method::DELETE) if modern::is_modern(request.headers(), &Value::Null) => {
            not_allowed("POST")
        }
        ("/mcp", method @ (Method::GET | Method::DELETE)) => match session_of(request.headers()) {
            Some(id) if !sessions.knows(id) => unknown_session(),
            None if method == Method::DELETE => plain(StatusCode::BAD_REQUEST, "Mcp-Session-Id is missing\n"),
            Some(id) if method == Method::DELETE => {
                sessions.end(id);
                plain(StatusCode::OK, "")
            }
            // This server has nothing to say on its own: the stream stays open and silent.
            _ => open_stream(),
        },
        ("/mcp", _) => not_allowed("GET, POST, DELETE"),
        ("/sse", Method::GET) => sessions.open_stream().map_or_else(|_| no_randomness(), events),
        ("/sse", _) => not_allowed("GET"),
        ("/message", Method::POST) => message(sessions, request).await,
        ("/message", _) => not_allowed("POST"),
        _ => plain(StatusCode::NOT_FOUND, "the demo server has /mcp, /sse and /message\n"),
    }
}

/// A POST of Streamable HTTP, of either era.
async fn post(sessions: &Sessions, request: Request<Incoming>) -> Response {
    let (headers, body) = match read(request).await {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    if modern::is_modern(&headers, &body) {
        return modern::answer(&headers, body);
    }
    // Its tools keep no state, so a session id is not demanded (a plain curl works), but a wrong one is refused.
    match session_of(&headers) {
        Some(id) if !sessions.knows(id) => return unknown_session(),
        _ => {}
    }
    let starts_session = body.get("method").is_some_and(|method| method == "initialize");
    let mut response = match rpc::legacy(body) {
        Ok(replies) => respond(replies),
        Err(failure) => return json(failure.status, failure.message(&Value::Null)),
    };
    if starts_session && response.status() == StatusCode::OK {
        match sessions.start() {
            Ok(id) => response.headers_mut().insert(SESSION_ID, id),
            Err(_) => return no_randomness(),
        };
    }
    response
}

/// One answer goes out as JSON; a tool that streams and a batch go out as events.
fn respond(mut replies: Vec<Reply>) -> Response {
    match &mut replies[..] {
        [] => accepted(),
        [Reply::Message(status, message)] => json(*status, mem::take(message)),
        _ => response::stream(replies),
    }
}

/// A POST of HTTP+SSE: the answer comes on the stream.
async fn message(sessions: &Sessions, request: Request<Incoming>) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let Some(stream) = query.strip_prefix("sessionId=").and_then(|id| sessions.stream(id)) else {
        return unknown_session();
    };
    match read(request).await.map(|(_, body)| rpc::legacy(body)) {
        Ok(Ok(replies)) => {
            tokio::spawn(response::deliver(replies, stream));
            accepted()
        }
        Ok(Err(failure)) => json(failure.status, failure.message(&Value::Null)),
        Err(refused) => refused,
    }
}

/// Headers and body of a POST, or the refusal of what is not JSON.
async fn read(request: Request<Incoming>) -> Result<(HeaderMap, Value), Response> {
    let (head, body) = request.into_parts();
    let content_type =
        head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Also keeps web pages out, which can post any other type without asking first.
    if !content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json\n"));
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => match serde_json::from_slice(&body.to_bytes()) {
            Ok(value) => Ok((head.headers, value)),
            Err(_) => {
                let failure = rpc::Failure::bad_request(PARSE_ERROR, "the body is not JSON");
                Err(json(failure.status, failure.message(&Value::Null)))
            }
        },
        Err(_) => Err(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB\n")),
    }
}

/// Whether the request was meant for a local server: a web page that rebinds its name to loopback keeps its name.
fn is_local(headers: &HeaderMap) -> bool {
    let local = |authority: &str| {
        authority
            .parse::<Authority>()
            .is_ok_and(|authority| matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]"))
    };
    let host = headers.get(header::HOST).map(|host| host.to_str().is_ok_and(local));
    let origin = headers.get(header::ORIGIN).map(|origin| {
        origin
            .to_str()
            .is_ok_and(|origin| origin.split_once("://").is_some_and(|(_, authority)| local(authority)))
    });
    host != Some(false) && origin != Some(false)
}

fn session_of(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(SESSION_ID).map(|id| id.as_bytes())
}

fn unknown_session() -> Response {
    plain(StatusCode::NOT_FOUND, "unknown session\n")
}

fn no_randomness() -> Response {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "the system has no randomness for a session id\n")
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "");
    response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static(allow));
    response
}
