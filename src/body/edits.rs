//! Changes to a response on its way from the server to the client.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind},
    ledger::{ByteRoom, Owner, Resource, Share},
    mcp::sse::{endpoint::EndpointRewriter, tool_filter::ListEvents},
};

/// Gives the client's message URL for a path and query of the server's.
pub type Seal = Box<dyn Fn(&str, Option<&str>) -> String>;

/// Whether the client may see this tool.
pub type Passes = Box<dyn Fn(&str) -> bool>;

/// The edits of one response. Most have none.
#[derive(Default)]
pub struct Edits {
    /// Set on HTTP+SSE streams.
    pub endpoint: Option<EndpointRewriter<Seal>>,
    /// Set on event streams of a server some of whose tools are hidden, if they may list tools.
    pub tools: Option<Box<FilteredEvents>>,
}

/// An event stream without hidden tools. What is held of it is counted for its caller.
pub struct FilteredEvents {
    events: ListEvents<Passes>,
    share: Share,
    room: ByteRoom,
    /// Since when there is none.
    waits_since: Option<Instant>,
    patience: Duration,
}

/// What one read of a server comes to. More than that at once was held before, and is counted on.
const ONE_READ: usize = 64 * 1024;

impl FilteredEvents {
    /// The events of one stream of `owner`'s. It is broken off if the owner has no room for more of it within `patience`.
    pub fn new(passes: Passes, owner: &Arc<Owner>, patience: Duration) -> Self {
        let (events, share, room) = (ListEvents::new(passes), owner.hold(Resource::Bytes, 0), owner.room());
        Self { events, share, room, waits_since: None, patience }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(room) = self.room.poll_or_give_up(cx, self.share.amount()) {
            self.waits_since = None;
            return Poll::Ready(room.map_err(|limit| Error::out_of(Resource::Bytes, limit)));
        }
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        match self.room.waits_for() {
            Some(limit) if since.elapsed() > self.patience => {
                Poll::Ready(Err(Error::out_of(Resource::Bytes, limit)))
            }
            _ => Poll::Pending,
        }
    }

    fn push(&mut self, data: &[u8]) -> Result<Bytes, Error> {
        let out =
            self.events.push(data).map_err(|e| ErrorKind::UpstreamUnreadable.with_cause(e.to_string()))?;
        self.share.set(self.events.held() as u64);
        Ok(match out.len() > ONE_READ {
            true => {
                let held = self.share.owner().hold(Resource::Bytes, out.len() as u64);
                Share::of_bytes(&Arc::new(held), out)
            }
            false => out,
        })
    }
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
            data =
                rewriter.push(data).map_err(|e| ErrorKind::UpstreamUnreachable.with_cause(e.to_string()))?;
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

    /// Whether more may be read.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.tools {
            None => Poll::Ready(Ok(())),
            Some(events) => events.poll_room(cx),
        }
    }

    fn filter(&mut self, data: Bytes) -> Result<Bytes, Error> {
        match &mut self.tools {
            None => Ok(data),
            Some(events) => events.push(&data),
        }
    }
}
