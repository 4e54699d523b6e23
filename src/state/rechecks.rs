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
