//! What a response says otherwise to the client than its server sent it.

use bytes::Bytes;

use crate::{
    error::{Error, Kind},
    mcp::{endpoint::EndpointRewriter, tool_events::ListEvents},
};

/// Gives the client's message URL for a path and query of the server's.
pub type Seal = Box<dyn Fn(&str, Option<&str>) -> String>;

/// Says of which tools the client may know.
pub type Passes = Box<dyn Fn(&str) -> bool>;

/// The edits of one response. Most have none.
#[derive(Default)]
pub struct Edits {
    /// Set at the beginning of an HTTP+SSE stream, until its `endpoint` event went by.
    pub endpoint: Option<EndpointRewriter<Seal>>,
    /// Set on event streams of a server some of whose tools are hidden, if they may list tools.
    pub tools: Option<Box<ListEvents<Passes>>>,
}

impl Edits {
    /// Whether the response passes as it comes.
    pub fn is_empty(&self) -> bool {
        self.endpoint.is_none() && self.tools.is_none()
    }

    /// Takes what the server sent and returns what goes to the client now, which may be nothing. An error says why the
    /// response must be broken off.
    pub(super) fn push(&mut self, data: Bytes) -> Result<Bytes, Error> {
        let mut data = data;
        if let Some(rewriter) = &mut self.endpoint {
            data = rewriter.push(data).map_err(|e| Kind::UpstreamUnreachable.because(e.to_string()))?;
            if rewriter.is_done() {
                self.endpoint = None;
            }
        }
        self.filter(data)
    }

    /// Ends the response, and the edits with it. Returns what was held back.
    pub(super) fn finish(&mut self) -> Result<Bytes, Error> {
        let held = self.endpoint.take().map(|mut rewriter| rewriter.finish()).unwrap_or_default();
        let last = self.filter(held);
        self.tools = None;
        last
    }

    fn filter(&mut self, data: Bytes) -> Result<Bytes, Error> {
        match &mut self.tools {
            None => Ok(data),
            Some(events) => events.push(&data).map_err(|e| Kind::UpstreamUnreadable.because(e.to_string())),
        }
    }
}
