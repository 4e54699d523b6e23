//! Logins in a file of `proxy.stateDir`, so that they outlive the process, and hold at every gateway that has the file.

#[cfg(test)]
mod account_tests;
mod beside;
mod bodies;
mod database;
mod directory;
mod fault;
mod files;
mod kept_keys;
mod opening;
mod resealing;
mod rows;
mod sealed;
mod secrets;
mod status;
mod thread;
mod upstream_rows;

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub(super) use self::thread::{Down, FileStore};
pub use self::{
    beside::{Listing, Named, Pruned, StoreFile, backup},
    fault::StoreFault,
    kept_keys::NAME as KEYS,
    opening::Opening,
    resealing::Resealed,
    status::StoreStatus,
};
use self::{database::Database, directory::check_directory, secrets::Secrets, thread::Writer};
use super::{
    keys::{Keys, NoKey},
    table::View,
    token_sealers::TokenSealers,
};
use crate::{config::LoginStore, state_dir};

/// What a file that was opened brings.
pub(super) struct Opened {
    pub(super) store: FileStore,
    pub(super) view: Arc<View>,
    pub(super) sealers: Arc<ArcSwap<TokenSealers>>,
    /// Keys of the file's own secret: they stay whatever keys the config names.
    pub(super) lasting: Keys,
}

/// Opens the file in `directory`, and makes what is missing.
pub(super) fn open(
    config: &LoginStore,
    directory: &Path,
    opening: Opening<'_>,
    status: watch::Sender<StoreStatus>,
) -> Result<Opened, StoreFault> {
    let fault = |error: std::io::Error| StoreFault::of(directory, error);
    opening.go_on()?;
    state_dir::make(directory).map_err(fault)?;
    check_directory(directory)?;
    opening.go_on()?;
    let needs_keys = config.jwt_secrets.is_empty() || config.encryption_keys.is_empty();
    let kept = match needs_keys {
        true => Some(kept_keys::load_or_make(directory)?),
        false => kept_keys::load(directory)?,
    };
    let secrets = Secrets::of(config, kept);
    let mut database = Database::open(directory, &secrets.of_columns(), database::MIGRATIONS, opening)?;
    let lasting = Keys::of([database.secret.expose()], b"");
    let no_key = |NoKey| StoreFault::new("the system gives no random numbers, or the cryptography fails");
    let sealers = TokenSealers::new(&secrets.of_tokens(&database.secret, &database.salt)).map_err(no_key)?;
    let sealers = Arc::new(ArcSwap::from_pointee(sealers));
    let view = Arc::<View>::default();
    let news = database.follow(&view).map_err(|error| StoreFault::of(database.path(), error))?;
    let writer = Writer::new(database, Arc::clone(&view), Arc::clone(&sealers), secrets, status);
    let store = writer.start(news).map_err(fault)?;
    Ok(Opened { store, view, sealers, lasting })
}

/// What keeps logins from being kept in `directory`, if something does. Nothing is made or changed.
pub fn fault(config: &LoginStore, directory: &Path) -> Option<StoreFault> {
    check(config, directory).err()
}

fn check(config: &LoginStore, directory: &Path) -> Result<(), StoreFault> {
    match directory.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        _ => check_directory(directory)?,
    }
    let kept = kept_keys::load(directory)?;
    database::check_files(directory)?;
    if config.encryption_keys.is_empty() && kept.is_none() {
        return match database::is_used(directory) {
            true => Err(kept_keys::lost(directory)),
            false => Ok(()),
        };
    }
    database::check(directory, &Secrets::of(config, kept).of_columns())
}

#[cfg(test)]
mod tests;
