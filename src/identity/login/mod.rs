//! Users who log in with a password, and the tokens that they get for it.

pub mod attempts;
pub mod fingerprint;
mod grant;
pub mod grant_id;
pub mod grants;
pub mod keys;
pub mod opened_tokens;
pub mod passwords;
pub mod pending;
pub mod refresh_token;
pub mod session_token;
pub mod store;
mod table;
pub mod verdicts;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use self::{
    attempts::Attempts,
    fingerprint::Fingerprint,
    grants::Grants,
    keys::{Keys, NoKey},
    passwords::PasswordChecks,
    pending::PendingLogins,
    session_token::{SessionClaims, TokenSealer},
    store::{StoreFault, StoreStatus},
    verdicts::Verdicts,
};
use crate::{
    config::{LoginStorage, LoginStore},
    secret::Secret,
};

/// What logins need and leave behind. It outlives reloads.
pub struct Logins {
    /// What there is from the first config on that has users.
    kept: OnceLock<KeptLogins>,
    status: watch::Sender<StoreStatus>,
    /// The threads that compare passwords.
    pub passwords: PasswordChecks,
    /// Passwords by `Basic` that were right a moment ago.
    pub verdicts: Verdicts,
    /// Logins that the gateway waits for.
    pub pending: PendingLogins,
    /// Who has tried to log in lately.
    pub attempts: Attempts,
}

/// What logins began, and the keys of their tokens. Both are kept, or neither is: no token of before a restart is good whose
/// grant is forgotten.
pub struct KeptLogins {
    sealer: Arc<ArcSwap<TokenSealer>>,
    fingerprints: Keys,
    grants: Grants,
    config: LoginStore,
    directory: PathBuf,
}

impl Logins {
    /// Those of a process that keeps none yet. Fails if the system has no randomness to give.
    pub fn new() -> Result<Self, NoKey> {
        Ok(Self {
            kept: OnceLock::default(),
            status: watch::Sender::default(),
            passwords: PasswordChecks::default(),
            verdicts: Verdicts::new()?,
            pending: PendingLogins::default(),
            attempts: Attempts::default(),
        })
    }

    /// Opens what keeps logins as the config says, in `directory` if it is to be a file. It waits for the disk, and for other
    /// gateways that have the file.
    pub fn open_store(
        &self,
        config: &LoginStore,
        directory: &Path,
        now: SystemTime,
    ) -> Result<KeptLogins, StoreFault> {
        let (sealer, fingerprints, grants) = match config.storage {
            LoginStorage::File => store::open(config, directory, now, self.status.clone()).map(|opened| {
                let grants = Grants::in_file(opened.store, opened.view);
                (opened.sealer, opened.fingerprints, grants)
            })?,
            LoginStorage::Memory => {
                in_memory().map_err(|NoKey| StoreFault::new("the system gives no random numbers"))?
            }
        };
        let (config, directory) = (config.clone(), directory.to_owned());
        Ok(KeptLogins { sealer, fingerprints, grants, config, directory })
    }

    /// Begins to keep logins. What was opened first stays.
    pub fn keep_store(&self, opened: KeptLogins) {
        let _ = self.kept.set(opened);
        self.status.send_if_modified(|status| status.down.take().is_some());
    }

    /// Logins are to be kept, and cannot be; or there are none to keep.
    pub fn report_store(&self, fault: Option<&StoreFault>) {
        self.status.send_modify(|status| status.down = fault.map(|fault| fault.to_string().into()));
    }

    /// Whether logins are kept. Until then, there are none.
    pub fn is_open(&self) -> bool {
        self.kept.get().is_some()
    }

    /// How and where they are kept.
    pub fn kept_as(&self) -> Option<(&LoginStore, &Path)> {
        self.kept.get().map(|kept| (&kept.config, &*kept.directory))
    }

    /// What logins began; `None` if they are not kept.
    pub fn grants(&self) -> Option<&Grants> {
        Some(&self.kept.get()?.grants)
    }

    /// How logins are kept, from now on.
    pub fn status(&self) -> watch::Receiver<StoreStatus> {
        self.status.subscribe()
    }

    /// What tokens know a password by.
    pub fn fingerprint(&self, password_hash: &Secret) -> Result<Fingerprint, NoKey> {
        Fingerprint::of(&self.kept.get().ok_or(NoKey)?.fingerprints, password_hash.expose())
    }

    /// A session token that says this.
    pub fn seal(&self, claims: &SessionClaims) -> Result<Secret, NoKey> {
        self.kept.get().ok_or(NoKey)?.sealer.load().seal(claims)
    }

    /// What makes and opens session tokens at present.
    pub fn sealer(&self) -> Option<Guard<Arc<TokenSealer>>> {
        Some(self.kept.get()?.sealer.load())
    }

    /// What a session token says, whether it holds or not.
    pub fn opened(&self, token: &[u8]) -> Option<SessionClaims> {
        self.kept.get()?.sealer.load().opened(token)
    }
}

fn in_memory() -> Result<(Arc<ArcSwap<TokenSealer>>, Keys, Grants), NoKey> {
    let sealer = Arc::new(ArcSwap::from_pointee(TokenSealer::new(&Keys::random()?)?));
    Ok((sealer, Keys::random()?, Grants::default()))
}
