//! Room for the messages of one session that are on their way to its server.
//!
//! What a caller may have in all is the [ledger](crate::ledger)'s to say. But one session whose server does not read must not
//! take all of that: its messages wait outside, in the client's connection, and if that lasts they are refused.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be on their way: four of the largest messages.
const MOST: u32 = 16 * 1024 * 1024;
/// In which they are counted.
const UNIT: u64 = 1024;
/// How long a message waits for room before it is refused.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Room of one session.
#[derive(Clone)]
pub(super) struct MessageBudget(Arc<Semaphore>);

/// Room that a message takes, until it is dropped.
#[derive(Debug)]
pub struct BudgetPermit(OwnedSemaphorePermit);

impl Default for MessageBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(units(u64::from(MOST)) as usize)))
    }
}

impl MessageBudget {
    /// Waits for room for so many bytes, behind those that came before. `None` if there never is any.
    pub(super) async fn take(&self, bytes: u64) -> Option<BudgetPermit> {
        let permit = Arc::clone(&self.0).acquire_many_owned(units(bytes)).await;
        permit.ok().map(BudgetPermit)
    }
}

impl BudgetPermit {
    /// It is no more than this.
    pub fn shrink_to(&mut self, bytes: u64) {
        let unused = self.0.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.0.split(unused));
    }
}

/// No message is free, and none is more than there can be.
fn units(bytes: u64) -> u32 {
    const ALL: u64 = MOST as u64 / UNIT;
    u32::try_from(bytes.div_ceil(UNIT).clamp(1, ALL)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_waits_until_there_is_some() {
        let room = MessageBudget::default();
        let mut all = room.take(u64::MAX).await.unwrap();
        assert!(tokio::time::timeout(PATIENCE, room.take(1)).await.is_err());
        all.shrink_to(u64::from(MOST) - 2 * UNIT);
        let (one, other) = (room.take(0).await.unwrap(), room.take(UNIT).await.unwrap());
        assert!(tokio::time::timeout(PATIENCE, room.take(UNIT + 1)).await.is_err());
        drop((one, other));
        assert!(room.take(2 * UNIT).await.is_some());
    }
}
