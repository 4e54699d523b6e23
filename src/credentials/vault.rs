//! What outlives reloads of credentials.

use tokio::sync::watch;

/// What all servers' credentials share. There is one, which outlives reloads.
#[derive(Default)]
pub struct Vault {
    /// The generation of what is admitted, which is the gateway's.
    changes: watch::Sender<u64>,
}

impl Vault {
    /// What is told when something changes that admits requests: a credential, or, by the gateway, a config.
    pub fn changes(&self) -> &watch::Sender<u64> {
        &self.changes
    }
}
