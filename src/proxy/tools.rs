//! Tools that are not for the caller, on the byte path: calls of them stay here, lists come without those that are hidden.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Body as _;

use crate::{
    body::{Passes, Payload, response::json},
    downstream::incoming::Incoming,
    endpoints::table::McpEndpoint,
    error::{Error, ErrorKind},
    identity::presented::Presented,
    ledger::Owner,
    mcp::{
        header::{LAST_EVENT_ID, METHOD, NAME},
        message::Malformed,
        tool_call::{CallGuard, Declared, Refusal, Verdict},
        tool_list,
    },
    observe::Record,
    policy::tools::{ToolCall, ToolView},
    request::admitted::Admitted,
    upstream::{Inspect, Pass, client::is_coded},
};

/// Most bytes of a refused request that are read on: for its `id`, which many clients write last, and because a client
/// that is still sending may miss an answer.
const DRAINED: usize = 1024 * 1024;

/// The tools of one server, for one request.
pub(super) struct Tools {
    view: ToolView,
    pub(super) mcp_endpoint: McpEndpoint,
    /// For whom is counted what is held.
    pub(super) owner: Arc<Owner>,
    /// Longest that the server may leave the gateway waiting.
    pub(super) patience: Duration,
    /// The server may answer with what was asked for elsewhere, whatever the body says: it is a GET, or asks for events that
    /// were missed.
    is_stream: bool,
    /// `None` for a request without a body.
    guard: Option<Rc<RefCell<BodyCheck>>>,
}

/// Looks at the body of one request.
struct BodyCheck {
    view: ToolView,
    guard: CallGuard<Passes>,
    refused: Option<Refusal>,
    drained: usize,
}

impl Tools {
    /// What looks at a request with this head. Fails for a body that the server could read otherwise than the gateway.
    pub(super) fn new(
        view: ToolView,
        admitted: &Admitted<'_>,
        patience: Duration,
        head: &Parts,
        body: Option<&Incoming>,
    ) -> Result<Self, Error> {
        let has_body = body.is_some_and(|body| !body.is_end_stream());
        let declared = |name| Declared::read(head.headers.get_all(name));
        let (method, name) = (declared(METHOD), declared(NAME));
        // What fields say, and no body does, some server may act on.
        if !has_body && (method != Declared::Absent || name != Declared::Absent) {
            return Err(refused(Refusal::Mismatch));
        }
        let guard = if has_body || head.method == Method::POST {
            is_plain_json(&head.headers)?;
            let of_guard = view.clone();
            let may_call: Passes = Box::new(move |tool| of_guard.may_call(tool));
            let guard = CallGuard::new(may_call, method, name);
            Some(Rc::new(RefCell::new(BodyCheck { view: view.clone(), guard, refused: None, drained: 0 })))
        } else {
            None
        };
        let is_stream = head.method == Method::GET || head.headers.contains_key(LAST_EVENT_ID);
        let (mcp_endpoint, owner) = (admitted.mcp_endpoint, Arc::clone(&admitted.owner));
        Ok(Self { view, mcp_endpoint, owner, patience, is_stream, guard })
    }

    /// What looks at the request body on its way.
    pub(super) fn inspect(&self) -> Option<Inspect> {
        let watch = Rc::clone(self.guard.as_ref()?);
        Some(Box::new(move |piece| watch.borrow_mut().look(piece)))
    }

    /// Notes for an audit what the request asks for, as far as its body has said it. It counts more than what fields say.
    pub(super) fn note_operation(&self, record: &mut Record, presented: &Presented<'_>) {
        let Some(watch) = self.guard.as_ref().filter(|_| record.audited().is_some()) else { return };
        let watch = watch.borrow();
        if let Some(method) = watch.guard.method() {
            record.set_operation(method, watch.guard.name(), |text| presented.is_in(text));
        }
    }

    /// The server answered, maybe before it had the whole request. Fails if that was refused meanwhile. From here on, no
    /// refusal waits for the rest of it: it can only break the response off.
    pub(super) fn answered(&self) -> Result<(), Error> {
        let Some(watch) = &self.guard else { return Ok(()) };
        let mut watch = watch.borrow_mut();
        watch.drained = DRAINED;
        watch.refused.map_or(Ok(()), |refusal| Err(watch.error(refusal)))
    }

    /// The answer to a request that failed with `error`, if it was for what the server would answer too. A client of
    /// HTTP+SSE waits for it on its event stream, which is elsewhere, and learns it from the status.
    pub(super) fn answer(&self, error: &Error) -> Option<Response<Payload>> {
        let watch = self.guard.as_ref()?.borrow();
        let status = match (watch.refused?, error.kind) {
            (Refusal::Hidden, ErrorKind::ToolNotAllowed) if self.mcp_endpoint == McpEndpoint::Mcp => {
                StatusCode::OK
            }
            (Refusal::Mismatch, ErrorKind::Malformed) => StatusCode::BAD_REQUEST,
            _ => return None,
        };
        Some(json(status, watch.guard.answer(watch.refused?)?))
    }

    /// Whether the response may list tools: any on a stream that is not the answer to one request, and any to a request
    /// that is not known yet, because the server answered before it had all of it.
    pub(super) fn may_list(&self) -> bool {
        let asks =
            |watch: &Rc<RefCell<BodyCheck>>| watch.borrow().guard.method().is_none_or(tool_list::may_list);
        self.is_stream || self.guard.as_ref().is_some_and(asks)
    }

    /// Whether the client may see a tool.
    pub(super) fn passes(&self) -> Passes {
        let view = self.view.clone();
        Box::new(move |tool| view.lists(tool))
    }
}

impl BodyCheck {
    /// The error that a refusal is: a tool that is not hidden says what it requires.
    fn error(&self, refusal: Refusal) -> Error {
        match (refusal, self.guard.name().map(|name| self.view.call(name, None))) {
            (Refusal::Hidden, Some(ToolCall::Forbidden(error))) => error,
            _ => refused(refusal),
        }
    }

    fn look(&mut self, piece: Option<&[u8]>) -> Result<Pass, Error> {
        let Some(piece) = piece else {
            return match self.guard.finish().map_err(malformed)? {
                Verdict::Refused(refusal) => Err(self.error(refusal)),
                Verdict::Open | Verdict::Passes => Ok(Pass::Send),
            };
        };
        match self.guard.push(piece).map_err(malformed)? {
            Verdict::Passes => Ok(Pass::Send),
            Verdict::Open => Ok(Pass::Wait),
            Verdict::Refused(refusal) => {
                self.refused = Some(refusal);
                self.drained += piece.len();
                if self.drained > DRAINED { Err(self.error(refusal)) } else { Ok(Pass::Drop) }
            }
        }
    }
}

fn malformed(why: Malformed) -> Error {
    ErrorKind::Malformed.with_cause(why.to_string())
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Hidden => ErrorKind::ToolNotAllowed.into(),
        Refusal::Mismatch => ErrorKind::Malformed.with_cause("Mcp-Method or Mcp-Name differs from the body"),
    }
}

/// Checks that a body is the JSON that it looks like. Some servers decode whatever coding and character set the head names,
/// so that the bytes that the gateway reads (as UTF-7, say) would mean something else to them.
fn is_plain_json(headers: &HeaderMap) -> Result<(), Error> {
    if is_coded(headers) {
        return Err(
            ErrorKind::Malformed.with_cause("the body is compressed, which a tool filter cannot look into")
        );
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (kind, more) = (types.next(), types.next());
    if more.is_some() || kind.is_some_and(|kind| !is_utf8(kind.as_bytes())) {
        return Err(ErrorKind::Malformed.with_cause("the body is in another character set than UTF-8"));
    }
    Ok(())
}

/// Whether a content type names no other character set than UTF-8, however a parser takes its parameters apart.
pub(super) fn is_utf8(kind: &[u8]) -> bool {
    let Ok(kind) = std::str::from_utf8(kind) else { return false };
    let kind: String = kind.to_ascii_lowercase().split([' ', '\t', '"']).collect();
    let mut named = kind.split("charset").skip(1);
    let (first, more) = (named.next(), named.next());
    let is_utf8 = |rest: &str| matches!(rest.split(';').next(), Some("=utf-8" | "=utf8"));
    more.is_none() && first.is_none_or(is_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_server_reads_as_utf_8_is_looked_into() {
        for good in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"; x=y",
            "Application/JSON ; CharSet = utf8",
        ] {
            assert!(is_utf8(good.as_bytes()), "{good}");
        }
        for bad in [
            "application/json; charset=utf-7",
            "application/json; charset=\"utf-16le\"",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset*=us-ascii''utf-7",
            "application/json; x=\";charset=utf-8\"; charset=utf-7",
            "application/json; charset",
            "application/json; charset=utf-8x",
        ] {
            assert!(!is_utf8(bad.as_bytes()), "{bad}");
        }
    }
}
