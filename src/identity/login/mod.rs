//! Users who log in with a password, clients that somebody allowed something, and the tokens that they get for it.

pub mod access_token;
pub mod account;
mod acts;
pub mod attempts;
#[cfg(test)]
mod client_grants_tests;
mod code;
mod consent;
pub mod fingerprint;
mod grant;
pub mod grant_id;
pub mod grants;
mod keeper;
pub mod keys;
mod kind;
mod page_cookie;
pub mod passwords;
pub mod refresh_token;
mod rows;
pub mod sealed_token;
pub mod session_token;
pub mod sources;
pub mod spent;
pub mod store;
mod table;
pub mod token_sealers;
pub mod upstream;
mod upstream_changes;
mod upstream_row;
mod upstream_table;
mod uses;
pub mod verdicts;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;
use zeroize::Zeroizing;

use self::{
    access_token::AccessClaims,
    attempts::Attempts,
    fingerprint::Fingerprint,
    grants::Grants,
    keeper::Keeper,
    keys::{Keys, NoKey, Purpose},
    passwords::PasswordChecks,
    session_token::SessionClaims,
    store::{Opening, StoreFault, StoreStatus},
    token_sealers::TokenSealers,
    upstream::Upstreams,
    verdicts::Verdicts,
};
use super::Principal;
use crate::{
    config::{Issuer, LoginStorage, LoginStore},
    ledger::PendingTable,
    secret::Secret,
};

/// Logins that are waited for: their bodies are not here yet, or they are answered a while later.
const MOST_PENDING: usize = 256;
/// Those of one address.
const PENDING_OF_ONE_ADDRESS: usize = 16;

/// What logins need and leave behind. It outlives reloads.
pub struct Logins {
    /// What there is from the first config on that has users.
    kept: OnceLock<KeptLogins>,
    status: watch::Sender<StoreStatus>,
    /// Whose logins are to end once they are kept.
    taken_away: Mutex<HashSet<Principal>>,
    /// The threads that compare passwords.
    pub passwords: PasswordChecks,
    /// Passwords by `Basic` that were right a moment ago.
    pub verdicts: Verdicts,
    /// Logins that the gateway waits for.
    pub pending: PendingTable,
    /// Who has tried to log in lately.
    pub attempts: Attempts,
}

/// What logins began, and the keys of their tokens. Both are kept, or neither is: no token of before a restart is good whose
/// grant is forgotten.
pub struct KeptLogins {
    sealers: Arc<ArcSwap<TokenSealers>>,
    /// Keys that never change as long as what is kept is the same.
    lasting: Keys,
    grants: Grants,
    upstreams: Upstreams,
    keeper: Arc<Keeper>,
    config: LoginStore,
    directory: PathBuf,
}

impl Logins {
    /// Those of a process that keeps none yet. Fails if the system has no randomness to give.
    pub fn new() -> Result<Self, NoKey> {
        Ok(Self {
            kept: OnceLock::default(),
            status: watch::Sender::default(),
            taken_away: Mutex::default(),
            passwords: PasswordChecks::default(),
            verdicts: Verdicts::new()?,
            pending: PendingTable::new(MOST_PENDING, PENDING_OF_ONE_ADDRESS),
            attempts: Attempts::default(),
        })
    }

    /// Opens what keeps logins as the config says, in `directory` if it is to be a file. It waits for the disk, and for other
    /// gateways that have the file.
    pub fn open_store(
        &self,
        config: &LoginStore,
        directory: &Path,
        opening: Opening<'_>,
    ) -> Result<KeptLogins, StoreFault> {
        let no_key = |NoKey| StoreFault::new("the system gives no random numbers");
        let (sealers, lasting, keeper) = match config.storage {
            LoginStorage::File => {
                let opened = store::open(config, directory, opening, self.status.clone())?;
                let keeper = Keeper::in_file(opened.store, opened.view);
                (opened.sealers, opened.lasting, keeper)
            }
            LoginStorage::Memory => in_memory().map_err(no_key)?,
        };
        let keeper = Arc::new(keeper);
        let grants = Grants::new(Arc::clone(&keeper), &lasting).map_err(no_key)?;
        let upstreams = Upstreams::new(Arc::clone(&keeper));
        let (config, directory) = (config.clone(), directory.to_owned());
        Ok(KeptLogins { sealers, lasting, grants, upstreams, keeper, config, directory })
    }

    /// Begins to keep logins. What was opened first stays.
    pub fn keep_store(&self, opened: KeptLogins) {
        if self.kept.set(opened).is_ok() {
            self.status.send_if_modified(|status| status.down.take().is_some());
            self.kept.get().into_iter().for_each(|kept| kept.keeper.begin_to_write());
        }
    }

    /// These have lost what they had logged in with, by a config that came before the store was open. What a config takes away does
    /// not come back with the next one.
    pub fn note_taken_away(&self, from: impl IntoIterator<Item = Principal>) {
        self.taken_away.lock().extend(from);
    }

    /// Those who did.
    pub fn taken_away(&self) -> HashSet<Principal> {
        std::mem::take(&mut self.taken_away.lock())
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

    /// Credentials for servers; `None` if they are not kept.
    pub fn upstream(&self) -> Option<&Upstreams> {
        Some(&self.kept.get()?.upstreams)
    }

    /// How logins are kept, from now on.
    pub fn status(&self) -> watch::Receiver<StoreStatus> {
        self.status.subscribe()
    }

    /// What tokens know a password by.
    pub fn fingerprint(&self, password_hash: &Secret) -> Result<Fingerprint, NoKey> {
        Fingerprint::of(self.lasting()?, password_hash.expose())
    }

    /// What tokens know the static token by that somebody logged in with at the pages; `digest` is its SHA-256.
    pub fn fingerprint_of_token(&self, digest: &[u8; 32]) -> Result<Fingerprint, NoKey> {
        Fingerprint::of_token(self.lasting()?, digest)
    }

    /// What tokens know the identity provider by at which somebody logged in.
    pub fn fingerprint_of_idp(&self, parts: [&str; 3]) -> Result<Fingerprint, NoKey> {
        Fingerprint::of_idp(self.lasting()?, parts)
    }

    /// What tokens know that by, with this SHA-256, by which a client proved itself.
    pub fn fingerprint_of_client(&self, credential: &[u8; 32]) -> Result<Fingerprint, NoKey> {
        Fingerprint::of_client(self.lasting()?, credential)
    }

    /// What tokens know an issuer by, and that, with this SHA-256, by which the client proved itself that brought what the issuer said.
    pub fn fingerprint_of_assertion(
        &self,
        issuer: &Issuer,
        credential: &[u8; 32],
    ) -> Result<Fingerprint, NoKey> {
        Fingerprint::of_assertion(self.lasting()?, issuer, credential)
    }

    /// A key that stays the same as long as logins are kept in the same place.
    pub fn key(&self, purpose: Purpose) -> Result<Zeroizing<[u8; 32]>, NoKey> {
        self.lasting()?.first(purpose)
    }

    fn lasting(&self) -> Result<&Keys, NoKey> {
        Ok(&self.kept.get().ok_or(NoKey)?.lasting)
    }

    /// A session token that says this.
    pub fn seal(&self, claims: &SessionClaims) -> Result<Secret, NoKey> {
        self.kept.get().ok_or(NoKey)?.sealers.load().session.seal(claims)
    }

    /// What makes and opens the gateway's own tokens at present.
    pub fn sealers(&self) -> Option<Guard<Arc<TokenSealers>>> {
        Some(self.kept.get()?.sealers.load())
    }

    /// What a session token says, whether it holds or not.
    pub fn opened(&self, token: &[u8]) -> Option<SessionClaims> {
        self.kept.get()?.sealers.load().session.opened(token)
    }

    /// An access token that says this.
    pub fn seal_access(&self, claims: &AccessClaims) -> Result<Secret, NoKey> {
        self.kept.get().ok_or(NoKey)?.sealers.load().access.seal(claims)
    }

    /// What an access token says, whether it holds or not.
    pub fn opened_access(&self, token: &[u8]) -> Option<AccessClaims> {
        self.kept.get()?.sealers.load().access.opened(token)
    }
}

fn in_memory() -> Result<(Arc<ArcSwap<TokenSealers>>, Keys, Keeper), NoKey> {
    let sealers = Arc::new(ArcSwap::from_pointee(TokenSealers::new(&Keys::random()?)?));
    Ok((sealers, Keys::random()?, Keeper::in_memory()))
}
