//! How a reader waits for bytes, and who of many that wait for each other gives up.
//!
//! What a reader has read of a message counts while it waits for room for the rest. So a few readers can take all that there
//! is, and none would ever come to the end of its message. One of them then gives up what it holds: one in a while, so that
//! what it frees lets the others go on.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{Limit, Owner, Resource};

/// How often a reader looks whether there is room for more bytes. Only while there is none.
const RETRY: Duration = Duration::from_millis(20);
/// How long a reader waits whose owner has more than its part.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one waits whose owner has not: others have to give up before.
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// Least time between two readers of one owner that give up.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until an owner may have a byte more, as often as it is asked.
pub struct ByteRoom {
    owner: Arc<Owner>,
    /// For what it waits, and until when before it looks again.
    waits: Option<(Limit, Pin<Box<Sleep>>)>,
    /// Since when it waits.
    since: Option<Instant>,
}

impl ByteRoom {
    /// Whether there is room now.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Err(limit) = self.owner.has_room() {
            self.since.get_or_insert_with(Instant::now);
            let (why, sleep) = self.waits.get_or_insert_with(|| (limit, Box::pin(sleep(RETRY))));
            *why = limit;
            ready!(sleep.as_mut().poll(cx));
            self.waits = None;
        }
        (self.waits, self.since) = (None, None);
        Poll::Ready(())
    }

    /// The same for a reader that holds `unfinished` bytes of a message. The error is that it has to give up the message, for
    /// want of this.
    pub fn poll_or_give_up(&mut self, cx: &mut Context<'_>, unfinished: u64) -> Poll<Result<(), Limit>> {
        if self.poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let waited = self.since.map(|since| since.elapsed());
        match self.waits_for() {
            Some(limit)
                if unfinished > 0
                    && waited.is_some_and(|waited| waited >= self.owner.patience(limit))
                    && self.owner.may_give_up() =>
            {
                (self.waits, self.since) = (None, None);
                Poll::Ready(Err(limit))
            }
            _ => Poll::Pending,
        }
    }

    /// The limit for which it waits, if it does.
    pub fn waits_for(&self) -> Option<Limit> {
        self.waits.as_ref().map(|(limit, _)| *limit)
    }

    /// Waits until there is room.
    pub async fn open(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// Waits until there is room, or until what a reader holds of its message has to go.
    pub async fn open_or_give_up(&mut self, unfinished: u64) -> Result<(), Limit> {
        poll_fn(|cx| self.poll_or_give_up(cx, unfinished)).await
    }
}

impl Owner {
    /// Waits until the owner may have a byte more: its readers stop reading until then.
    pub fn room(self: &Arc<Self>) -> ByteRoom {
        ByteRoom { owner: Arc::clone(self), waits: None, since: None }
    }

    /// How long a reader of this owner waits for want of this before it gives up.
    fn patience(&self, limit: Limit) -> Duration {
        let at = Resource::Bytes as usize;
        let quarter = self.totals.capacity[at].load(super::Relaxed) / 4;
        match limit {
            Limit::Gateway if self.used(Resource::Bytes) < quarter => LONG_PATIENCE,
            Limit::Gateway | Limit::Caller => PATIENCE,
        }
    }

    /// Whether a reader of this owner may give up now: one at a time.
    fn may_give_up(&self) -> bool {
        let mut last = self.gave_up.lock();
        let is_due = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Capacity, Ledger, OwnerName};

    #[tokio::test(start_paused = true)]
    async fn readers_that_wait_for_each_other_give_up_one_by_one_until_one_comes_to_its_end() {
        let ledger = Ledger::new(|_| Capacity { total: 100, per_owner: 0 });
        let dev = ledger.owner(OwnerName::Token("dev".into()));
        let mut held: Vec<_> = (0..4).map(|_| Some((dev.hold(Resource::Bytes, 25), dev.room()))).collect();
        let began = Instant::now();
        let mut gone = 0;
        while gone == 0 {
            assert!(began.elapsed() < Duration::from_secs(3), "nobody gives up");
            tokio::time::sleep(RETRY).await;
            for reader in &mut held {
                let Some((share, room)) = reader else { continue };
                let next = poll_fn(|cx| Poll::Ready(room.poll_or_give_up(cx, share.amount()))).await;
                if matches!(next, Poll::Ready(Err(Limit::Gateway))) {
                    *reader = None;
                    gone += 1;
                }
            }
        }
        assert!(began.elapsed() >= PATIENCE);
        assert_eq!((gone, dev.used(Resource::Bytes)), (1, 75));
        for (_, room) in held.iter_mut().flatten() {
            assert_eq!(room.open_or_give_up(25).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_less_than_its_part_waits_longer_and_who_holds_nothing_gives_nothing_up() {
        let ledger = Ledger::new(|_| Capacity { total: 100, per_owner: 0 });
        let [small, large] = ["small", "large"].map(|name| ledger.owner(OwnerName::Token(name.into())));
        let _large = large.hold(Resource::Bytes, 90);
        let _small = small.hold(Resource::Bytes, 10);
        let began = Instant::now();
        assert_eq!(small.room().open_or_give_up(10).await, Err(Limit::Gateway));
        assert!(began.elapsed() >= LONG_PATIENCE);
        let began = Instant::now();
        assert_eq!(large.room().open_or_give_up(90).await, Err(Limit::Gateway));
        assert!(began.elapsed() < 2 * PATIENCE);
        let mut room = large.room();
        let never = tokio::time::timeout(10 * LONG_PATIENCE, room.open_or_give_up(0)).await;
        assert!(never.is_err());
    }
}
