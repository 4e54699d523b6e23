//! The supervisors of one command.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::Supervisor;
use crate::identity::credential_key::CredentialKey;

/// How long a process may take to end whose credential is worth nothing any more.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// The supervisors of one command: one for each credential that its processes are started with. What ends or starts the
/// command ends or starts it for all of them.
pub struct Supervisors {
    /// For the credentials of the config.
    first: Arc<Supervisor>,
    others: Mutex<HashMap<CredentialKey, Arc<Supervisor>>>,
}

impl Supervisors {
    /// Those of the command of `first`, which is for the credentials of the config.
    pub fn new(first: Arc<Supervisor>) -> Self {
        Self { first, others: Mutex::default() }
    }

    /// The one whose processes have this credential.
    pub fn get(&self, credential: CredentialKey) -> Arc<Supervisor> {
        if credential == CredentialKey::STATIC {
            return Arc::clone(&self.first);
        }
        let mut others = self.others.lock();
        if let Some(supervisor) = others.get(&credential) {
            return Arc::clone(supervisor);
        }
        // Each process has its supervisor. So what stays is in use, or has failed lately.
        others.retain(|_, supervisor| Arc::strong_count(supervisor) > 1 || supervisor.has_failed_lately());
        let supervisor = self.first.sibling();
        others.insert(credential, Arc::clone(&supervisor));
        supervisor
    }

    /// Ends the processes that have this credential, which is worth nothing any more. One that takes its time does not have it for
    /// longer than a moment. Must be called within a runtime.
    pub fn end(&self, credential: CredentialKey) {
        let Some(supervisor) = self.others.lock().remove(&credential) else { return };
        supervisor.stop();
        if supervisor.running() > 0 {
            tokio::spawn(async move {
                tokio::select! {
                    () = supervisor.childless() => {}
                    () = tokio::time::sleep(LAST_MOMENT) => supervisor.kill_now(),
                }
            });
        }
    }

    /// All of them at this moment.
    pub fn all(&self) -> Vec<Arc<Supervisor>> {
        [&self.first].into_iter().chain(self.others.lock().values()).cloned().collect()
    }

    /// Does this with each.
    pub fn each(&self, act: impl Fn(&Supervisor)) {
        // In this order: one that is made meanwhile is found below, or begins as the first is now.
        act(&self.first);
        self.others.lock().values().for_each(|supervisor| act(supervisor));
    }

    /// Processes that were started and are not reaped yet.
    pub fn running(&self) -> usize {
        self.all().iter().map(|supervisor| supervisor.running()).sum()
    }

    /// Resolves once there are none.
    pub async fn childless(&self) {
        for supervisor in self.all() {
            supervisor.childless().await;
        }
    }

    /// How often a process was started again after one had ended by itself.
    pub fn restarts(&self) -> u64 {
        // They count together.
        self.first.restarts()
    }
}
