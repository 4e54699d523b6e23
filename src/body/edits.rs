//! What a response says otherwise to the client than its server sent it.

use bytes::Bytes;

use crate::mcp::{endpoint::EndpointRewriter, tool_events::ListEvents, tool_list::ListBody};

/// Gives the client's message URL for a path and query of the server's.
pub type Seal = Box<dyn Fn(&str, Option<&str>) -> String>;

/// Says of which tools the client may know.
pub type Passes = Box<dyn Fn(&str) -> bool>;

/// The edits of one response. Most have none.
#[derive(Default)]
pub struct Edits {
    /// Set at the beginning of an HTTP+SSE stream, until its `endpoint` event went by.
    pub endpoint: Option<EndpointRewriter<Seal>>,
    /// Set on responses of a server some of whose tools are hidden, if they may list tools.
    pub tools: Option<ToolEdit>,
}

/// Takes hidden tools out of a response.
pub enum ToolEdit {
    /// `application/json`
    Body(ListBody<Passes>),
    /// `text/event-stream`
    Events(ListEvents<Passes>),
}

impl Edits {
    /// Whether the response passes as it comes.
    pub fn is_empty(&self) -> bool {
        self.endpoint.is_none() && self.tools.is_none()
    }

    /// Takes what the server sent and returns what goes to the client now, which may be nothing. An error says why the
    /// response must be broken off.
    pub(super) fn push(&mut self, data: Bytes) -> Result<Bytes, String> {
        let mut data = data;
        if let Some(rewriter) = &mut self.endpoint {
            data = rewriter.push(data).map_err(|e| e.to_string())?;
            if rewriter.is_done() {
                self.endpoint = None;
            }
        }
        self.filter(data)
    }

    /// Ends the response, and the edits with it. Returns what was held back.
    pub(super) fn finish(&mut self) -> Result<Bytes, String> {
        let held = self.endpoint.take().map(|mut rewriter| rewriter.finish()).unwrap_or_default();
        let mut last = self.filter(held)?;
        if let Some(ToolEdit::Body(mut list)) = self.tools.take() {
            last = list.finish().map_err(|e| e.to_string())?;
        }
        Ok(last)
    }

    fn filter(&mut self, data: Bytes) -> Result<Bytes, String> {
        match &mut self.tools {
            None => Ok(data),
            Some(ToolEdit::Body(list)) => list.push(data),
            Some(ToolEdit::Events(events)) => events.push(&data),
        }
        .map_err(|e| e.to_string())
    }
}
