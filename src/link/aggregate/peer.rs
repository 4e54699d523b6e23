//! A member, as the core knows it.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    Granted,
    lists::{Ask, Listing},
};
use crate::error::{Error, Kind};

/// A member.
pub(super) struct Peer {
    pub(super) name: Arc<str>,
    granted: Granted,
    /// What that said when the link was opened.
    opened: Option<u64>,
    pub(super) phase: Phase,
    /// The limit that kept it from being opened, if that is why it is closed: no fault of the server's.
    pub(super) limit: Option<(Kind, Box<str>)>,
    /// What it said of itself; `None` before that, and in MCP 2026-07-28 until a client asked.
    pub(super) greeting: Option<Greeting>,
    lists: [Listing; Ask::ALL.len()],
}

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no link. From this moment on, one may be opened.
    Closed(Instant),
    /// A link is being opened, or waits for the answer to `initialize`. A late one is not waited for any more.
    Opening { late: bool },
    /// Takes requests.
    Ready,
}

/// What a server says of itself.
pub(super) struct Greeting {
    /// `protocolVersion`; empty in MCP 2026-07-28.
    pub(super) version: Box<str>,
    /// `capabilities`
    pub(super) capabilities: Value,
    /// `instructions`
    pub(super) instructions: Option<Box<str>>,
}

impl Peer {
    pub(super) fn new(name: Arc<str>, granted: Granted, now: Instant) -> Self {
        let phase = Phase::Closed(now);
        Self { name, granted, opened: None, phase, limit: None, greeting: None, lists: Default::default() }
    }

    /// Whether the caller may use it.
    pub(super) fn is_granted(&self) -> bool {
        (self.granted)().is_some()
    }

    /// Why a request for it fails while it is closed.
    pub(super) fn no_link(&self, otherwise: &'static str) -> Error {
        match &self.limit {
            Some((kind, cause)) => kind.because(cause.to_string()),
            None => Kind::UpstreamUnreachable.because(otherwise),
        }
    }

    /// A link to it is opened.
    pub(super) fn open(&mut self) {
        self.opened = (self.granted)();
        self.phase = Phase::Opening { late: false };
        self.limit = None;
    }

    /// Why its link is of no more use, if there is one and it is not.
    pub(super) fn outdated(&self) -> Option<Error> {
        match (self.phase, (self.granted)()) {
            (Phase::Closed(_), _) => None,
            (_, None) => Some(Kind::InsufficientScope.because("the grant was taken away")),
            (_, now) if now != self.opened => {
                Some(Kind::Unavailable.because("the server was restarted or configured anew"))
            }
            _ => None,
        }
    }

    pub(super) fn list(&self, ask: Ask) -> &Listing {
        &self.lists[ask as usize]
    }

    pub(super) fn list_mut(&mut self, ask: Ask) -> &mut Listing {
        &mut self.lists[ask as usize]
    }

    /// Bytes that its lists hold.
    pub(super) fn bytes(&self) -> usize {
        self.lists.iter().map(Listing::bytes).sum()
    }

    /// Whether it may have what is asked for. Who said nothing of itself may have anything.
    pub(super) fn offers(&self, ask: Ask) -> bool {
        ask.capability().is_none_or(|capability| self.has(capability, true))
    }

    /// Whether it declares a capability.
    pub(super) fn has(&self, capability: &str, unless_known: bool) -> bool {
        self.greeting
            .as_ref()
            .map_or(unless_known, |greeting| greeting.capabilities.get(capability).is_some())
    }

    /// Everything that came over a link is forgotten with it.
    pub(super) fn forget(&mut self) {
        self.greeting = None;
        self.lists = Default::default();
    }
}
