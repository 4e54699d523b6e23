//! What an aggregate is made of, and what it reports.

use std::{
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    config::Naming,
    error::{Error, ErrorKind},
    ledger::Owner,
    link::{Link, filter::Filter},
    observe::Health,
};

/// A link that is being opened. It may stay on the thread that opens it.
pub type LinkFuture = Pin<Box<dyn Future<Output = Result<Link, Error>>>>;

/// Opens a link.
pub(super) type OpenLink = Box<dyn Fn() -> LinkFuture>;

/// What a caller may use now: `None` for nothing, else a number that is another one when what is behind the name is
/// not what it was.
pub type Granted = Box<dyn Fn() -> Option<u64>>;

/// One of the servers.
pub struct Member {
    /// Its key in `mcpServers`.
    pub name: Arc<str>,
    /// Opens a link to it. Called again, not more often than every few seconds, when a link has ended and is needed.
    pub open: OpenLink,
    /// Whether the caller may use it now. Asked before anything is done for anyone, so it has to be cheap. When it says
    /// no, the member's link is dropped, and what it offered is as unknown as what never was. When it says another number
    /// than before, the link is dropped too, and a new one opened when it is needed.
    pub granted: Granted,
    /// How long it may take. Asked anew for each call.
    pub patience: Box<dyn Fn() -> MemberTimeouts>,
    /// Whether it is well, by all who use it.
    pub health: Arc<Health>,
    /// What of the conversation with it is for the caller.
    pub filter: Filter,
}

/// How long a member may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberTimeouts {
    /// For its answer to a call, or the first that it says about it, if the config says so of this server.
    pub answer: Option<Duration>,
    /// For its answer to `initialize`. Then its link is given up.
    pub start: Duration,
    /// Without a request for it and without anybody who listens, before its link is dropped until it is needed.
    pub idle: Duration,
}

/// How members look as one.
pub struct AggregateSettings {
    /// What tools and prompts are called.
    pub naming: Naming,
    /// Whether three meta-tools stand for all tools.
    pub lazy: bool,
    /// Longest wait for one member, until it answers `initialize`, `server/discover` or a page of a list.
    pub discovery_timeout: Duration,
    /// For whom the lists of members are counted as long as they are kept.
    pub owner: Arc<Owner>,
    /// `serverInfo.name`.
    pub name: String,
    /// `serverInfo.version`.
    pub version: String,
    /// Changes when what [`Member::granted`] says may have changed: then it is asked, even if nothing else happens.
    pub changes: watch::Receiver<u64>,
    /// Whether the client listens to what servers say of themselves.
    pub listens: Arc<AtomicBool>,
    /// Gets what becomes of members, for the log and `/status`.
    pub report: Rc<dyn Fn(MemberReport<'_>)>,
}

/// What becomes of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberReport<'a> {
    /// The server does not, and the union is without it until it does.
    Down {
        /// The server.
        server: &'a str,
        /// What it is an error of: it may be the caller's own limit.
        kind: ErrorKind,
        /// Why.
        cause: &'a str,
    },
    /// One of its lists came.
    Listed {
        /// The server.
        server: &'a str,
        /// What the list is asked for by.
        method: &'static str,
    },
    /// One of its lists did not, so that the union is without what is on it.
    ListFailed {
        /// The server.
        server: &'a str,
        /// What the list is asked for by.
        method: &'static str,
        /// What it is an error of.
        kind: ErrorKind,
        /// Why.
        cause: &'a str,
    },
    /// Two servers offer something of the same name, and not both can have it.
    Collision {
        /// The name, as clients would see it.
        name: &'a str,
        /// The servers, in the order of the file.
        servers: [&'a str; 2],
    },
    /// The server lists more than is kept: the rest is not offered.
    TooMany {
        /// The server.
        server: &'a str,
    },
}
