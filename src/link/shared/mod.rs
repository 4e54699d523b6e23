//! One server for many callers (MCP 2026-07-28).
//!
//! Since that version a server keeps nothing of a caller between requests, so one process can serve everybody, and a
//! call need not wait for a process to start. What stdio lacks is a way to tell callers apart: their ids collide, and
//! everything comes back on one pipe. [`SharedLink`] gives each caller a [`Link`] of its own onto the one link that there
//! is, and each request a number of its own.
//!
//! Callers do not affect each other. One that does not take its answers is cut, instead of stopping the pipe for all. When
//! one leaves, what it has sent is dropped, and the server is notified to stop working on it. What comes from the server
//! without a sign whom it is for goes to nobody.
//!
//! Log messages bear no such sign, so a request that asks for them must not come here: see [`needs_own`].

mod actor;
mod backlog;
mod caller;
mod settings;
mod suspects;
mod table;
mod tasks;

use std::sync::Arc;

use tokio::{
    sync::mpsc::{self, error::SendError},
    task,
};

use self::{
    actor::Actor,
    caller::{AttachedCaller, CallerCount, Control},
};
use crate::{
    error::Error,
    ledger::Owner,
    link::{Link, QUEUE, ToServer},
    mcp::message::{self, Message},
};

pub use self::{
    caller::{CallSender, CallerSender},
    settings::{Lease, OnLost, SharedLinkSettings},
    suspects::Involvement,
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
    /// Messages of all callers, which name their caller.
    inbox: mpsc::Sender<(u64, ToServer)>,
    callers: Arc<CallerCount>,
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
        // A sender does not wait for what others wait for, as long as the server may take all of it.
        let (inbox, sent) = mpsc::channel(settings.requests.max(QUEUE));
        task::spawn_local(Actor::new(open, settings, controlled, sent).run());
        Self { control, inbox, callers: Arc::default() }
    }

    /// Whether no caller is attached.
    pub fn is_unused(&self) -> bool {
        self.callers.attached() == 0
    }

    /// Whether its task is gone: because it was not needed for a while, or because of a defect or the end of its thread.
    pub fn is_over(&self) -> bool {
        self.control.is_closed()
    }

    /// A link for one caller, who chooses ids as it likes as long as they are unique among its own. Dropping it abandons
    /// what it has in flight. What waits for the caller is counted for `owner`.
    ///
    /// The messages that may wait for the caller are bounded by number and by bytes; one that does not keep up finds
    /// its link ended. `initialize` is answered with an error: what has sessions cannot be shared.
    pub fn attach(&self, owner: &Arc<Owner>) -> Link<CallSender> {
        let (number, caller, from_server) = AttachedCaller::new(&self.callers, owner);
        let (inbox, control) = (self.inbox.clone(), self.control.clone());
        if let Err(SendError(Control::Attached(_, caller))) = control.send(Control::Attached(number, caller))
        {
            caller.cut("the thread of the server is gone");
        }
        Link { to_server: CallSender::Shared(CallerSender { number, inbox, control }), from_server }
    }
}

/// Whether a message needs a server of its own. On a pipe, log messages do not say which request they are about.
pub fn needs_own(message: &Message) -> bool {
    message.kind() == message::MessageKind::Request && message.sets_log_level()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
