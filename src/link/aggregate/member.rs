//! The state of a member.

use std::{rc::Rc, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::link::aggregate::{
    given::GivenUris,
    lists::{ListKind, MemberList},
    settings::{Granted, Member, MemberTimeouts, OpenLink},
};
use crate::{
    error::{Error, ErrorKind},
    link::filter::Filter,
    observe::Health,
};

/// What a member may be known to be slow with: its link, or one of its lists.
#[derive(Debug, Clone, Copy)]
pub(super) enum SlowPart {
    Link,
    List(ListKind),
}

impl SlowPart {
    fn number(self) -> u8 {
        match self {
            Self::Link => 0,
            Self::List(ask) => 1 + ask as u8,
        }
    }
}

/// A member.
pub(super) struct MemberState {
    pub(super) name: Arc<str>,
    granted: Granted,
    patience: Box<dyn Fn() -> MemberTimeouts>,
    health: Arc<Health>,
    /// What of the conversation with it is for the caller.
    pub(super) filter: Rc<Filter>,
    /// What `granted` returned when the link was opened.
    opened: Option<u64>,
    pub(super) phase: LinkPhase,
    /// Since when it is not in use, and how long that may be; both count while its link is open.
    pub(super) idle: (Instant, Duration),
    /// Its link was dropped because it was not in use: with the next one it is what it was.
    pub(super) sleeps: bool,
    /// The limit that kept it from being opened, if that is why it is closed: no fault of the server's.
    pub(super) limit: Option<(ErrorKind, Box<str>)>,
    /// Its `initialize` result; `None` before that, and in MCP 2026-07-28 until a client asked.
    pub(super) greeting: Option<InitializeResult>,
    /// URIs that it gave out in results, with whichever link.
    pub(super) given: GivenUris,
    /// URIs that its tools are shown with.
    pub(super) shows: GivenUris,
    lists: [MemberList; ListKind::ALL.len()],
}

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkPhase {
    /// There is no link. From this moment on, one may be opened.
    Closed(Instant),
    /// A link is being opened since then, or waits for the answer to `initialize`. A late one is not waited for any more.
    Opening { since: Instant, late: bool },
    /// Takes requests.
    Ready,
}

/// What a server says of itself, in the result of `initialize` or `server/discover`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitializeResult {
    /// Empty in MCP 2026-07-28.
    #[serde(default)]
    pub(super) protocol_version: Box<str>,
    #[serde(default)]
    pub(super) capabilities: Value,
    #[serde(default)]
    pub(super) instructions: Option<Box<str>>,
}

impl MemberState {
    /// A member without a link, and what opens one.
    pub(super) fn new(member: Member, now: Instant) -> (Self, OpenLink) {
        let Member { name, open, granted, patience, health, filter } = member;
        let state = Self {
            name,
            granted,
            patience,
            health,
            filter: Rc::new(filter),
            opened: None,
            phase: LinkPhase::Closed(now),
            idle: (now, Duration::MAX),
            sleeps: false,
            limit: None,
            greeting: None,
            given: GivenUris::default(),
            shows: GivenUris::default(),
            lists: Default::default(),
        };
        (state, open)
    }

    /// How long it may take.
    pub(super) fn patience(&self) -> MemberTimeouts {
        (self.patience)()
    }

    /// Whether this was awaited in vain, in whichever conversation, and it has not come in time since.
    pub(super) fn is_slow(&self, wait: SlowPart) -> bool {
        self.health.is_slow(wait.number())
    }

    /// Notes that a call of it failed.
    pub(super) fn failed(&self, error: &Error) {
        self.health.failed_by(error);
    }

    /// Notes for other conversations that this was waited for in vain, or came in time.
    pub(super) fn set_slow(&self, wait: SlowPart, is_slow: bool) {
        self.health.set_slow(wait.number(), is_slow);
    }

    /// Whether the caller may use it.
    pub(super) fn is_granted(&self) -> bool {
        (self.granted)().is_some()
    }

    /// Whether it was restarted or configured anew since it was opened, so that a failure then says nothing of it.
    pub(super) fn is_another(&self) -> bool {
        (self.granted)() != self.opened
    }

    /// Why a request for it fails while it is closed.
    pub(super) fn no_link(&self, otherwise: &'static str) -> Error {
        match &self.limit {
            Some((kind, cause)) => kind.with_cause(cause.to_string()),
            None => ErrorKind::UpstreamUnreachable.with_cause(otherwise),
        }
    }

    /// A link to it is opened. A member that is known to be slow is not waited for: it joins when it answers.
    pub(super) fn open(&mut self, now: Instant) {
        self.opened = (self.granted)();
        self.phase = LinkPhase::Opening { since: now, late: self.is_slow(SlowPart::Link) };
        self.idle = (now, self.patience().idle);
        self.limit = None;
    }

    /// When its link is dropped if it is not used until then.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        let (since, longest) = self.idle;
        since.checked_add(longest).filter(|_| matches!(self.phase, LinkPhase::Ready))
    }

    /// Why its link is of no more use, if there is one and it is not.
    pub(super) fn outdated(&self) -> Option<Error> {
        match (self.phase, (self.granted)()) {
            (LinkPhase::Closed(_), _) => None,
            (_, None) => Some(ErrorKind::InsufficientScope.with_cause("the grant was taken away")),
            _ if self.is_another() => {
                Some(ErrorKind::Unavailable.with_cause("the server was restarted or configured anew"))
            }
            _ => None,
        }
    }

    pub(super) fn list(&self, ask: ListKind) -> &MemberList {
        &self.lists[ask as usize]
    }

    pub(super) fn list_mut(&mut self, ask: ListKind) -> &mut MemberList {
        &mut self.lists[ask as usize]
    }

    /// Bytes that its lists hold.
    pub(super) fn bytes(&self) -> usize {
        self.lists.iter().map(MemberList::bytes).sum()
    }

    /// Whether it may have what is asked for. A member without an `initialize` result may have anything.
    pub(super) fn offers(&self, ask: ListKind) -> bool {
        ask.capability().is_none_or(|capability| self.has(capability, true))
    }

    /// Whether it is asked for a list. For tools it is even if it declares none, as at its own path, where nothing keeps a
    /// client from it.
    pub(super) fn is_asked(&self, ask: ListKind) -> bool {
        ask == ListKind::Tools || self.offers(ask)
    }

    /// Whether something of it is or may be on a list.
    pub(super) fn may_be_on(&self, ask: ListKind) -> bool {
        self.offers(ask) || !self.list(ask).items().is_empty()
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
