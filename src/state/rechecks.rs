//! Whom the identity provider is being asked about.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::identity::Principal;

/// Those who are asked about at this moment. Their senders are dropped once that is done.
#[derive(Default)]
pub struct Rechecks {
    pub(super) running: Mutex<HashMap<Principal, watch::Receiver<()>>>,
}

impl Rechecks {
    /// Waits until nobody is asked about. A provider that has answered has given something to be asked by the next time: who stops
    /// before that is kept has nothing any more.
    pub async fn done(&self) {
        loop {
            let one = self.running.lock().values().next().cloned();
            let Some(mut one) = one else { return };
            while one.changed().await.is_ok() {}
        }
    }
}
