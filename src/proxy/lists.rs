//! Answers of a server some of whose tools are hidden, if they may list tools.
//!
//! What cannot be read strictly does not pass: see [`tool_list`](crate::mcp::tool_list). An answer that says that all is well
//! is JSON or an event stream; what else it is, is a server's failure. A refusal keeps its status, by which clients choose
//! how to go on, and its body, unless a client could find a result in it.
//!
//! A body in a coding is not decoded: the server got the request for none (`Accept-Encoding: identity`), and so did what
//! is between it and the gateway.

use std::{sync::Arc, task::Context};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::tools::{Tools, is_utf8};
use crate::{
    body::{Collect, FilteredEvents, Pace},
    endpoints::table::McpEndpoint,
    error::{Error, ErrorKind},
    identity::Subject,
    ledger::{Resource, Share},
    mcp::{
        sse::reader::{is_event_stream, is_json},
        tool_list::{ListError, MAX_HELD, body_without_hidden, holds_result},
    },
    observe::Record,
    upstream::{Head, ResponseBody, client::is_coded},
    watchdog::Watched,
};

/// What becomes of the body of an answer.
pub(super) enum BodyRule {
    /// It passes as it comes.
    Pass,
    /// It passes event by event, without hidden tools.
    FilterEvents(Box<FilteredEvents>),
    /// It passes without hidden tools, once it was read to its end.
    FilterWhole,
    /// It does not pass.
    Withhold,
}

/// Fields that describe a body.
const OF_THE_BODY: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CONTENT_LANGUAGE,
    header::CONTENT_DISPOSITION,
];
/// Fields that describe the bytes of a body, and are wrong once one of them changed.
const OF_ITS_BYTES: [HeaderName; 6] = [
    header::ETAG,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

impl Tools {
    /// What becomes of the body of an answer with this head. An error: the answer does not pass.
    pub(super) fn body_rule(&self, head: &Head, record: &mut Record) -> Result<BodyRule, Error> {
        let may_list = self.may_list();
        // A body that answers another request answers nothing else. A stream may, if a server has one for a whole session.
        if !may_list && !may_be_events(&head.headers) {
            return Ok(BodyRule::Pass);
        }
        let (is_events, is_json) = (is_event_stream(&head.headers), is_json(&head.headers));
        let is_plain = !is_coded(&head.headers)
            && head.headers.get(header::CONTENT_TYPE).is_none_or(|kind| is_utf8(kind.as_bytes()));
        Ok(match head.status {
            // The list comes on another stream.
            StatusCode::ACCEPTED if may_list => BodyRule::Withhold,
            status if status.is_success() => match self.mcp_endpoint {
                // On HTTP+SSE all lists do, and what comes with the status is no message.
                McpEndpoint::Message if !is_events && !is_json => BodyRule::Withhold,
                _ if !is_plain => return Err(unreadable(CODED, record)),
                _ if is_events => BodyRule::FilterEvents(self.events()),
                _ if is_json => BodyRule::FilterWhole,
                _ => return Err(unreadable(OTHER, record)),
            },
            _ if !is_plain => {
                let _ = unreadable(CODED, record);
                BodyRule::Withhold
            }
            _ if is_events => BodyRule::FilterEvents(self.events()),
            _ => BodyRule::FilterWhole,
        })
    }

    fn events(&self) -> Box<FilteredEvents> {
        Box::new(FilteredEvents::new(self.passes(), &self.owner, self.patience))
    }

    /// Reads the body to its end, and returns what of it passes.
    pub(super) async fn whole(
        &self,
        head: &mut Head,
        mut upstream: ResponseBody,
        watched: &Watched<Subject>,
        record: &mut Record,
    ) -> Result<Bytes, Error> {
        let mut share = self.owner.hold(Resource::Bytes, 0);
        let pace = Pace::never_silent_for(self.patience);
        let collect = Collect { most: MAX_HELD as u64, watched, pace, late: ErrorKind::UpstreamTimeout };
        let next = |cx: &mut Context<'_>| {
            upstream.poll_data(cx).map(|data| data.map(|data| data.map_err(Error::from)))
        };
        let body = collect.read(&mut share, next).await?;
        drop(upstream);
        let held = |body| Share::of_bytes(&Arc::new(share), body);
        if head.status.is_success() {
            let passes = self.passes();
            let shorter = match &body {
                Some(body) => body_without_hidden(body.clone(), &passes),
                None => Err(ListError::TooLong),
            };
            let shorter = shorter.map_err(|e| unreadable(e, record))?;
            if body.is_some_and(|body| shorter.len() < body.len()) {
                forget_bytes(&mut head.headers);
            }
            head.headers.remove(header::CONTENT_LENGTH);
            return Ok(held(shorter));
        }
        match body {
            Some(body) if !holds_result(&body) => Ok(held(body)),
            body => {
                let _ = unreadable(body.map_or(ListError::TooLong, |_| ListError::Unreadable), record);
                forget_body(&mut head.headers);
                Ok(Bytes::new())
            }
        }
    }
}

const CODED: &str =
    "what may be a list of tools is compressed or in another character set, although neither was asked for";
const OTHER: &str = "what may be a list of tools is neither JSON nor an event stream";

/// An answer does not pass, or its body does not.
fn unreadable(why: impl ToString, record: &mut Record) -> Error {
    let error = ErrorKind::UpstreamUnreadable.with_cause(why.to_string());
    record.withheld(&error);
    error
}

/// Whether some client may take a body for an event stream.
pub(super) fn may_be_events(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"event-stream";
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    types.any(|kind| kind.windows(TYPE.len()).any(|part| part.eq_ignore_ascii_case(TYPE)))
}

/// Removes the fields that describe a body that does not pass.
pub(super) fn forget_body(headers: &mut HeaderMap) {
    for name in &OF_THE_BODY {
        headers.remove(name);
    }
    forget_bytes(headers);
}

/// Removes the fields that describe the bytes of a body that passes otherwise than it came.
pub(super) fn forget_bytes(headers: &mut HeaderMap) {
    for name in &OF_ITS_BYTES {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
}
