//! One caller of a shared server: its virtual link, seen from the side of the actor.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use tokio::{
    sync::mpsc,
    task::{self, AbortHandle},
};

use super::{
    Attachment,
    actor::{Control, Newcomer},
};
use crate::{
    ledger::{Limit, Owner},
    link::{FromServer, Link, QUEUE, ServerEnd, ToServer},
};

/// Messages that may wait for one caller. More than in other links: there, who reads slowly slows down the server. Here
/// that would slow down everyone, so there has to be room for a burst.
const MESSAGES: usize = 1024;
/// Bytes of messages that may wait for one caller. A message that waits alone may be larger.
const BYTES: usize = 4 * 1024 * 1024;

/// Why a caller does not get a message.
#[derive(Debug)]
pub(super) enum DeliveryRefusal {
    /// It does not take what comes.
    Full,
    /// Its owner may not have so many bytes: the message is dropped, and the request that it is for fails.
    NoRoom(Limit),
}

/// Towards one caller.
pub(super) struct Caller {
    to_client: mpsc::Sender<FromServer>,
    /// Sizes of the messages that were sent last, of which as many count as wait.
    sizes: VecDeque<usize>,
    waiting: usize,
    feeder: AbortHandle,
    owner: Arc<Owner>,
    _attachment: Attachment,
}

/// Both ends of a caller's virtual link.
pub(super) fn link() -> (Link, ServerEnd) {
    let (to_server, from_client) = mpsc::channel(QUEUE);
    // One more than may wait, so that there is always room for the last word.
    let (to_client, from_server) = mpsc::channel(MESSAGES + 1);
    (Link { to_server, from_server }, ServerEnd { to_client, from_client })
}

impl Caller {
    /// Takes over the far end of a virtual link: what the caller sends goes to `inbox` under its number, and when
    /// it is gone, `control` learns of it.
    pub(super) fn new(number: u64, newcomer: Newcomer, inbox: mpsc::Sender<(u64, ToServer)>) -> Self {
        let Newcomer { server_end, control, owner, attachment } = newcomer;
        let to_client = server_end.to_client.clone();
        let feeder = task::spawn_local(async move {
            feed(number, server_end, &inbox).await;
            // If nobody is there to hear it, nothing is left to clear away.
            let _ = control.send(Control::Left(number));
        });
        let feeder = feeder.abort_handle();
        Self { to_client, sizes: VecDeque::new(), waiting: 0, feeder, owner, _attachment: attachment }
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
        // Not full, as was just seen. If it is closed, the caller is gone and its feeder says so.
        let _ = self.to_client.try_send(what);
        Ok(())
    }

    /// Ends the virtual link.
    pub(super) fn cut(self, cause: impl Into<Cow<'static, str>>) {
        // There is room, and a caller that is gone needs no reason.
        let _ = self.to_client.try_send(FromServer::Ended { cause: cause.into() });
    }
}

/// The feeder holds an end of the channel to the caller; without it the caller could not see the end of the link.
impl Drop for Caller {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

/// Passes on what a caller sends, until it is gone. While the server takes nothing, this is what waits.
async fn feed(number: u64, mut server_end: ServerEnd, inbox: &mpsc::Sender<(u64, ToServer)>) {
    let gone = server_end.to_client.closed();
    let pass = async {
        while let Some(what) = server_end.from_client.recv().await {
            if inbox.send((number, what)).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = pass => {}
        () = gone => {}
    }
}
