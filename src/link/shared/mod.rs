//! One server for many callers (MCP 2026-07-28).
//!
//! Since that version a server keeps nothing of a caller between requests, so one process can serve everybody, and a
//! call need not wait for a process to start. What stdio lacks is a way to tell callers apart: their ids collide, and
//! everything comes back on one pipe. [`SharedLink`] gives each caller a [`Link`] of its own onto the one link that there
//! is, and each request a number of its own.
//!
//! Callers do not feel each other. Who does not take its answers is cut, instead of stopping the pipe for all. Who leaves
//! takes along what it has sent, and the server is notified to stop working on it. What comes from the server without a sign
//! whom it is for goes to nobody.
//!
//! Log messages bear no such sign, so a request that asks for them must not come here: see [`needs_own`].

mod actor;
mod backlog;
mod caller;
mod suspects;
mod table;
mod tasks;

use std::{
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::SendError},
    task,
};

use crate::link::shared::actor::{Actor, Control, Newcomer};
pub use crate::link::shared::suspects::Involvement;
use crate::link::{FromServer, Link};
use crate::{
    error::Error,
    ledger::{Owner, OwnerName, Share},
    mcp::message::{self, Message},
};

/// A server that many callers share. Cheap to clone, and usable from every thread.
///
/// The server is open while it is needed: from the first request on, until none has been in flight for a while. When it
/// ends by itself, what is in flight fails at once, and the next request opens it again. It closes for good when
/// the last clone and the last attached link are gone.
#[derive(Debug, Clone)]
pub struct SharedLink {
    // Unbounded, and bounded all the same: a link is announced here once when it begins and once when it ends, and whoever
    // holds it holds more memory than that.
    control: mpsc::UnboundedSender<Control>,
    attached: Arc<AtomicUsize>,
}

/// Is given who may have ended a server; gives who is not to go on there.
pub type OnLost = Rc<dyn Fn(&[(OwnerName, Involvement)]) -> Vec<OwnerName>>;

/// How a shared server is kept.
pub struct SharedLinkSettings {
    /// How long it stays open without a request in flight.
    pub idle: Duration,
    /// How many requests of all callers it may have in flight.
    pub requests: usize,
    /// What it costs its owner, if it has one. It ends for good then, once it is idle and nobody is attached.
    pub lease: Lease,
    /// Learns who may have ended the server when that ended by itself; says who is not to go on here.
    pub on_lost: OnLost,
}

impl SharedLinkSettings {
    /// For a server that is no one's, and of whose ends nobody wants to know.
    pub fn new(idle: Duration) -> Self {
        Self { idle, requests: table::REQUESTS, lease: Lease::default(), on_lost: Rc::new(|_| Vec::new()) }
    }
}

/// What a shared server costs its owner. Whoever needs the place for another can take it away.
#[derive(Debug, Clone, Default)]
pub struct Lease(Arc<Mutex<Option<Share>>>);

impl Lease {
    /// A lease that is paid for by `share`.
    pub fn new(share: Share) -> Self {
        Self(Arc::new(Mutex::new(Some(share))))
    }

    /// Who pays.
    pub fn owner(&self) -> Option<Arc<Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|share| Arc::clone(share.owner()))
    }

    /// Ends the lease.
    pub fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Counts a caller for as long as it is attached.
pub(super) struct Attachment(Arc<AtomicUsize>);

impl Attachment {
    fn new(attached: &Arc<AtomicUsize>) -> Self {
        attached.fetch_add(1, Relaxed);
        Self(Arc::clone(attached))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl SharedLink {
    /// Starts the task behind a shared server on this thread. `open` opens the link to the server, as often as needed; how
    /// long to wait after a failure is its affair. If it fails, so do the requests that wait for it. Without a request in
    /// flight for long enough, the link is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio `LocalRuntime` or `LocalSet`.
    pub fn start<O, F>(open: O, settings: SharedLinkSettings) -> Self
    where
        O: Fn() -> F + 'static,
        F: Future<Output = Result<Link, Error>> + 'static,
    {
        let (control, controlled) = mpsc::unbounded_channel();
        task::spawn_local(Actor::new(open, settings, controlled).run());
        Self { control, attached: Arc::default() }
    }

    /// Whether nobody is attached.
    pub fn is_unused(&self) -> bool {
        self.attached.load(Relaxed) == 0
    }

    /// Whether its task is gone: because nobody needed it for a while, or because of a defect or the end of its thread.
    pub fn is_over(&self) -> bool {
        self.control.is_closed()
    }

    /// A link for one caller, who chooses ids as it likes as long as they are unique among its own. Dropping it abandons
    /// what it has in flight. What waits for the caller is counted for `owner`.
    ///
    /// The messages that may wait for the caller are bounded by number and by bytes; one that does not keep up finds
    /// its link ended. `initialize` is answered with an error: what has sessions cannot be shared.
    pub fn attach(&self, owner: &Arc<Owner>) -> Link {
        let (link, server_end) = caller::link();
        let (owner, attachment) = (Arc::clone(owner), Attachment::new(&self.attached));
        let newcomer = Newcomer { server_end, control: self.control.clone(), owner, attachment };
        if let Err(SendError(Control::Attached(Newcomer { server_end, .. }))) =
            self.control.send(Control::Attached(newcomer))
        {
            // There is room: nothing was sent before.
            let _ = server_end
                .to_client
                .try_send(FromServer::Ended { cause: "the thread of the server is gone".into() });
        }
        link
    }
}

/// Whether a message needs a server of its own. On a pipe, log messages do not say which request they are about.
pub fn needs_own(message: &Message) -> bool {
    message.kind() == message::MessageKind::Request && message.sets_log_level()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
