//! Requests of the client that wait for members: until each of those that matter has answered, or time is up.

use tokio::time::Instant;

use super::{lazy::Query, lists::ListKind};
use crate::{
    error::Error,
    link::Outbound,
    mcp::message::{Id, Message},
};

/// Requests for lists that one client may have waiting. Each answer is as large as all servers make it, and they come at
/// the same time.
const LISTS: usize = 16;

/// Bytes of requests that one client may have waiting: over HTTP+SSE it need not wait for one before it sends the next.
const WAITING: usize = 16 << 20;

/// A request of the client that waits.
pub(super) struct WaitingRequest {
    /// The core's own name for it.
    pub(super) key: u64,
    /// The client's.
    pub(super) id: Id,
    /// Whether it is of MCP 2026-07-28.
    pub(super) modern: bool,
    /// When it is answered with what is there.
    pub(super) until: Instant,
    /// Lists must be younger than this. [`Core::next`] of the moment when it came, or 0 if any will do.
    pub(super) since: u64,
    /// The client's `_meta`, for requests on its behalf.
    pub(super) meta: Option<String>,
    /// Size of the request.
    pub(super) bytes: usize,
    pub(super) then: WaitFor,
}

/// What a request waits for, and what it wants then.
pub(super) enum WaitFor {
    /// `initialize`
    Initialize,
    /// `server/discover`
    Discover,
    /// A list.
    List(ListKind),
    /// One of the meta-tools, which needs the list of tools.
    Query(Query),
    /// A call that is for this member, which has no link yet.
    Call(usize, Outbound),
    /// A call by a name that no member is known to have; lists may show whose it is.
    Named(ListKind, Outbound),
    /// A call by a URI; lists may show whose it is.
    Uri(Outbound),
    /// `subscriptions/listen` with URIs; lists may show whose they are.
    Listen(Message),
    /// So many members have yet to answer their share; one of them did.
    Shares { left: usize, answer: Option<Result<Message, Error>> },
}

impl WaitFor {
    pub(super) fn lists(&self) -> &'static [ListKind] {
        match self {
            Self::List(ListKind::Tools) | Self::Query(_) | Self::Named(ListKind::Tools, _) => {
                &[ListKind::Tools]
            }
            Self::List(ListKind::Prompts) | Self::Named(_, _) => &[ListKind::Prompts],
            Self::List(ListKind::Resources) => &[ListKind::Resources],
            Self::List(ListKind::Templates) => &[ListKind::Templates],
            Self::List(ListKind::Discover) | Self::Discover => &[ListKind::Discover],
            // What tools are shown with is known by them (MCP Apps).
            Self::Uri(outbound) if outbound.message.name().is_some_and(|uri| uri.starts_with("ui://")) => {
                &[ListKind::Resources, ListKind::Templates, ListKind::Tools]
            }
            Self::Uri(_) | Self::Listen(_) => &[ListKind::Resources, ListKind::Templates],
            Self::Initialize | Self::Call(..) | Self::Shares { .. } => &[],
        }
    }
}

/// Requests of the client that wait, oldest first.
#[derive(Default)]
pub(super) struct Waiting(Vec<WaitingRequest>);

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first is answered with what is there.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.iter().map(|waiter| waiter.until).min()
    }

    /// Why one more of so many bytes may not wait, if it may not.
    pub(super) fn refuses(&self, then: &WaitFor, bytes: usize) -> Option<&'static str> {
        let is_list = |then: &WaitFor| matches!(then, WaitFor::List(_) | WaitFor::Query(_));
        let lists = self.0.iter().filter(|waiter| is_list(&waiter.then)).count();
        let held: usize = self.0.iter().map(|waiter| waiter.bytes).sum();
        match () {
            () if is_list(then) && lists >= LISTS => Some("too many lists at a time"),
            () if held + bytes > WAITING => Some("requests that wait are too large"),
            () => None,
        }
    }

    pub(super) fn push(&mut self, waiter: WaitingRequest) {
        self.0.push(waiter);
    }

    /// Takes out the one at this place, to be put back if it has to wait on.
    pub(super) fn take(&mut self, at: usize) -> Option<WaitingRequest> {
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    pub(super) fn put_back(&mut self, at: usize, waiter: WaitingRequest) {
        self.0.insert(at, waiter);
    }

    /// The client does not wait for it any more.
    pub(super) fn abandon(&mut self, id: &Id) {
        self.0.retain(|waiter| waiter.id != *id);
    }

    /// The client's name for the one of this number.
    pub(super) fn id(&self, key: u64) -> Option<&Id> {
        self.0.iter().find(|waiter| waiter.key == key).map(|waiter| &waiter.id)
    }

    /// Whether somebody waits who asked for this list, or cannot have asked for any yet.
    pub(super) fn wants_list(&self, ask: ListKind) -> bool {
        self.0.iter().any(|waiter| matches!(waiter.then, WaitFor::Initialize)) || self.needs_list(ask)
    }

    /// Whether somebody waits for this list.
    pub(super) fn needs_list(&self, ask: ListKind) -> bool {
        self.0.iter().any(|waiter| waiter.then.lists().contains(&ask))
    }

    /// One member answered its share of a request. A success of one is the success of all.
    pub(super) fn share(&mut self, key: u64, answered: Result<Message, Error>) {
        let Some(waiter) = self.0.iter_mut().find(|waiter| waiter.key == key) else { return };
        let WaitFor::Shares { left, answer } = &mut waiter.then else { return };
        *left = left.saturating_sub(1);
        let rank = |answer: &Result<Message, Error>| match answer {
            Ok(message) if message.error_code().is_none() => 2,
            Ok(_) => 1,
            Err(_) => 0,
        };
        if answer.as_ref().is_none_or(|known| rank(known) < rank(&answered)) {
            *answer = Some(answered);
        }
    }
}
