//! A member, as the core knows it.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    Check,
    lists::{Ask, Listing},
};

/// A member.
pub(super) struct Peer {
    pub(super) name: Arc<str>,
    pub(super) is_granted: Check,
    pub(super) is_current: Check,
    pub(super) phase: Phase,
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
    pub(super) fn new(name: Arc<str>, is_granted: Check, is_current: Check, now: Instant) -> Self {
        let phase = Phase::Closed(now);
        Self { name, is_granted, is_current, phase, greeting: None, lists: Default::default() }
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
