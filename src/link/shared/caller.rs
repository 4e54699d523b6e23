//! One caller of a shared server: both ends of its link.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::mpsc::{self, error::SendError};

use crate::{
    ledger::{Limit, Owner},
    link::{FromServer, ToServer},
    mcp::message::MAX_MESSAGE,
};

/// Messages that may wait for one caller. More than in other links: there, who reads slowly slows down the server. Here
/// that would slow down everyone, so there has to be room for a burst.
const MESSAGES: usize = 1024;
/// Bytes of messages that may wait for one caller. A message that waits alone may be larger.
const BYTES: usize = MAX_MESSAGE;

/// What befalls callers. Never waits behind messages.
pub(super) enum Control {
    /// The one of this number has come.
    Attached(u64, AttachedCaller),
    /// It has left.
    Left(u64),
}

/// Callers of one shared server.
#[derive(Debug, Default)]
pub(super) struct CallerCount {
    attached: AtomicUsize,
    last: AtomicU64,
}

impl CallerCount {
    /// How many there are.
    pub(super) fn attached(&self) -> usize {
        self.attached.load(Relaxed)
    }
}

/// Counts a caller for as long as it is attached.
pub(super) struct Attachment(Arc<CallerCount>);

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.attached.fetch_sub(1, Relaxed);
    }
}

/// Towards the server, for who makes one call. Dropping it ends the link.
#[derive(Debug)]
pub enum CallSender {
    /// The server has this caller alone.
    Own(mpsc::Sender<ToServer>),
    /// The server has others too.
    Shared(CallerSender),
}

/// The way of one caller to a shared server.
#[derive(Debug)]
pub struct CallerSender {
    pub(super) number: u64,
    pub(super) inbox: mpsc::Sender<(u64, ToServer)>,
    pub(super) control: mpsc::UnboundedSender<Control>,
}

impl CallSender {
    /// Sends a message; waits while the server takes none. The error is that it takes nothing any more.
    pub async fn send(&self, what: ToServer) -> Result<(), SendError<ToServer>> {
        match self {
            Self::Own(server) => server.send(what).await,
            Self::Shared(CallerSender { number, inbox, .. }) => {
                inbox.send((*number, what)).await.map_err(|SendError((_, what))| SendError(what))
            }
        }
    }
}

impl Drop for CallerSender {
    fn drop(&mut self) {
        // Fails where the task is gone, and then nothing is left to clear away.
        let _ = self.control.send(Control::Left(self.number));
    }
}

/// Why a caller does not get a message.
#[derive(Debug)]
pub(super) enum DeliveryRefusal {
    /// It does not take what comes.
    Full,
    /// Its owner may not have so many bytes: the message is dropped, and the request that it is for fails.
    NoRoom(Limit),
}

/// Towards one caller.
pub(super) struct AttachedCaller {
    to_client: mpsc::Sender<FromServer>,
    /// Sizes of the messages that were sent last, of which as many count as wait.
    sizes: VecDeque<usize>,
    waiting: usize,
    owner: Arc<Owner>,
    _attachment: Attachment,
}

impl AttachedCaller {
    /// A new caller, its number, which no other has, and what it gets its messages from.
    pub(super) fn new(
        callers: &Arc<CallerCount>,
        owner: &Arc<Owner>,
    ) -> (u64, Self, mpsc::Receiver<FromServer>) {
        // One more than may wait, so that there is always room for the last word.
        let (to_client, from_server) = mpsc::channel(MESSAGES + 1);
        callers.attached.fetch_add(1, Relaxed);
        let number = callers.last.fetch_add(1, Relaxed);
        let (owner, _attachment) = (Arc::clone(owner), Attachment(Arc::clone(callers)));
        (number, Self { to_client, sizes: VecDeque::new(), waiting: 0, owner, _attachment }, from_server)
    }

    /// For whom what waits for it is counted.
    pub(super) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Hands a message to the caller, who must not make anyone wait.
    pub(super) fn push(&mut self, mut what: FromServer) -> Result<(), DeliveryRefusal> {
        let size = match &mut what {
            FromServer::Message { message, .. } => {
                message.pass_to(&self.owner).map_err(DeliveryRefusal::NoRoom)?;
                message.text().len()
            }
            FromServer::Failed { .. } | FromServer::Ended { .. } => 0,
        };
        let queued = self.to_client.max_capacity() - self.to_client.capacity();
        while self.sizes.len() > queued
            && let Some(taken) = self.sizes.pop_front()
        {
            self.waiting -= taken;
        }
        if queued >= MESSAGES || queued > 0 && self.waiting + size > BYTES {
            return Err(DeliveryRefusal::Full);
        }
        self.sizes.push_back(size);
        self.waiting += size;
        // Not full, as was just seen. If it is closed, the caller is gone, and that it left is on the way.
        let _ = self.to_client.try_send(what);
        Ok(())
    }

    /// Ends the caller's link.
    pub(super) fn cut(self, cause: impl Into<Cow<'static, str>>) {
        // There is room, and a caller that is gone needs no reason.
        let _ = self.to_client.try_send(FromServer::Ended { cause: cause.into() });
    }
}
