//! Where a server's event stream may lead its client: to the message URL that the gateway made of the server's, and
//! nowhere else.
//!
//! That holds for whatever a GET is answered with, since a client that looks for an `endpoint` event takes one from there,
//! whatever else the answer says of itself. No client takes one from what a POST is answered with: those of Streamable HTTP
//! know no such event, and those of HTTP+SSE do not read answers.

use std::sync::Arc;

use http::{HeaderMap, header};

use super::{credential::Sessions, lists::may_be_events, tools::is_utf8};
use crate::{
    body::Seal,
    config::HttpTarget,
    endpoints::table::McpEndpoint,
    error::{Error, ErrorKind},
    mcp::sse::{endpoint::EndpointRewriter, reader::is_event_stream},
    request::admitted::Admitted,
    upstream::{Head, ResponseBody, client::is_coded},
};

/// Whether the body of an answer to a GET passes at all. An error: nor does its head.
pub(super) fn can_be_looked_at(head: &Head) -> Result<bool, Error> {
    match is_plain(&head.headers) {
        false if head.status.is_success() => Err(ErrorKind::UpstreamUnreachable.with_cause(
            "the answer to a GET is compressed or in another character set, although neither was asked for",
        )),
        is_plain => Ok(is_plain),
    }
}

/// The body of an answer to a GET as a client may have it, and what rewrites it.
pub(super) fn guarded(
    admitted: &Admitted<'_>,
    sessions: Sessions<'_>,
    to: &HttpTarget,
    head: &mut Head,
    body: ResponseBody,
) -> (ResponseBody, Option<EndpointRewriter<Seal>>) {
    if admitted.mcp_endpoint == McpEndpoint::Sse && is_event_stream(&head.headers) {
        (body, Some(rewriter(admitted, sessions, to, head)))
    } else {
        (body.guarded(), None)
    }
}

/// Whether every client reads the bytes of a body as they are.
fn is_plain(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    !is_coded(headers) && (!may_be_events(headers) || types.all(|kind| is_utf8(kind.as_bytes())))
}

fn rewriter(
    admitted: &Admitted<'_>,
    sessions: Sessions<'_>,
    to: &HttpTarget,
    head: &mut Head,
) -> EndpointRewriter<Seal> {
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::ETAG);
    let sessions = sessions.key().into_owned();
    let (server, identity) = (Arc::clone(&admitted.entry.server.name), Arc::clone(&admitted.caller.identity));
    let seal: Seal = Box::new(move |path, query| {
        sessions.seal_message(&server, identity.principal.session_owner(), path, query)
    });
    EndpointRewriter::new(to.url.clone(), seal)
}
