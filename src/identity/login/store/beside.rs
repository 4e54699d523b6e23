//! The file of logins for a command: beside gateways that have it open, or without one. Nothing is made, and nothing is moved to
//! another version of the schema: that is for a gateway that starts.

use std::{fs, io, path::Path, sync::Arc, time::SystemTime};

use super::{
    database::{self, Database},
    directory::check_directory,
    fault::StoreFault,
    kept_keys,
    resealing::Resealed,
    rows::{FileRows, PORTION},
    secrets::Secrets,
    upstream_rows::UpstreamName,
};
use crate::{
    config::LoginStore,
    identity::{
        login::{
            acts::{Act as _, accounts::EndAll},
            keys::Keys,
            rows::UpstreamRows as _,
            table::{GrantSummary, View},
            upstream_row::{PairId, UpstreamOwner, UpstreamRow},
        },
        principal::Principal,
    },
    state_dir,
};

/// The file, open for a command.
pub struct StoreFile {
    database: Database,
    /// In the order of the config.
    keys: Keys,
}

/// What is in the file, without anything that is secret.
#[derive(Debug, Default)]
pub struct Listing {
    /// The grants that are not over, with whom each is of.
    pub grants: Vec<(Principal, GrantSummary)>,
    /// Credentials for servers.
    pub upstream: Vec<UpstreamRow>,
    /// Rows that do not open.
    pub faults: Vec<String>,
}

/// What nothing names any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Credentials: whose, and for which server.
    pub upstream: Vec<(String, String)>,
    /// Registered clients: for which server, and at which issuer.
    pub clients: Vec<(String, String)>,
}

/// What is named, by what stands open in the rows.
pub trait Named {
    /// Whether this owner may have a credential for this server.
    fn has_upstream(&self, owner: &UpstreamOwner, server: &str) -> bool;
    /// Whether the gateway may be registered at this issuer for this server.
    fn has_client(&self, server: &str, issuer: &str) -> bool;
}

impl StoreFile {
    /// Opens the file in `directory`. What is written is sealed with the key that sealed the file, so that gateways which run open it.
    pub fn open(config: &LoginStore, directory: &Path) -> Result<Self, StoreFault> {
        if !database::is_used(directory) {
            return Err(database::none(directory));
        }
        check_directory(directory)?;
        let kept = kept_keys::load(directory)?;
        if config.encryption_keys.is_empty() && kept.is_none() {
            return Err(kept_keys::lost(directory));
        }
        let keys = Secrets::of(config, kept).of_columns();
        Ok(Self { database: Database::open_as_it_is(directory, &keys)?, keys })
    }

    fn fault(&self, error: impl std::fmt::Display) -> StoreFault {
        StoreFault::of(self.database.path(), error)
    }

    fn write<T>(
        &mut self,
        now: SystemTime,
        work: impl FnOnce(&mut FileRows<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreFault> {
        let done = self.database.write(now, work);
        done.map_err(|error| self.fault(error))
    }

    /// What this principal has, or all, at this server, or at all of them. Grants are of no server.
    pub fn list(
        &mut self,
        owner: Option<&UpstreamOwner>,
        server: Option<&str>,
        now: SystemTime,
    ) -> Result<Listing, StoreFault> {
        let is_its = |other: &UpstreamOwner| owner.is_none_or(|owner| owner == other);
        let (mut grants, mut faults) = (Vec::new(), Vec::new());
        if server.is_none() {
            let view = View::default();
            let news = self.database.follow(&view).map_err(|error| self.fault(error))?;
            faults = news.faults;
            grants = view.all(now);
            grants.retain(|(principal, _)| is_its(&UpstreamOwner::Principal(principal.clone())));
        }
        let mut upstream = self.write(now, |rows| rows.all_credentials(usize::MAX))?;
        upstream.retain(|row| is_its(&row.owner) && server.is_none_or(|server| *row.server == *server));
        faults.extend(self.database.take_faults());
        Ok(Listing { grants, upstream, faults })
    }

    /// Ends the grants of a principal, or of this client alone, with what was allowed to clients. How many those were.
    pub fn revoke(
        &mut self,
        principal: &Principal,
        client_id: Option<&str>,
        now: SystemTime,
    ) -> Result<usize, StoreFault> {
        let end = EndAll { principal: principal.clone(), client_id: client_id.map(Arc::from) };
        self.write(now, |rows| end.run(rows).map(|(ended, _)| ended))
    }

    /// Removes what an owner has at this server, or at all of them. At which.
    pub fn disconnect(
        &mut self,
        owner: &UpstreamOwner,
        server: Option<&str>,
        now: SystemTime,
    ) -> Result<Vec<String>, StoreFault> {
        let owner = owner.to_string();
        self.write(now, |rows| {
            let names = rows.credential_names(Some(&owner), server)?;
            for UpstreamName { id, .. } in &names {
                rows.remove_credential(PairId(*id))?;
            }
            Ok(names.into_iter().map(|name| name.server).collect())
        })
    }

    /// Removes what nothing names, some at a time; or says what that would be.
    pub fn prune(
        &mut self,
        named: &dyn Named,
        is_dry_run: bool,
        now: SystemTime,
    ) -> Result<Pruned, StoreFault> {
        let (credentials, clients) =
            self.write(now, |rows| Ok((rows.credential_names(None, None)?, rows.client_names()?)))?;
        let is_unnamed = |name: &UpstreamName| {
            let owner = name.owner.parse();
            !owner.is_ok_and(|owner| named.has_upstream(&owner, &name.server))
        };
        let credentials: Vec<_> = credentials.into_iter().filter(is_unnamed).collect();
        let is_unnamed = |(_, server, issuer): &([u8; 32], String, String)| !named.has_client(server, issuer);
        let clients: Vec<_> = clients.into_iter().filter(is_unnamed).collect();
        if !is_dry_run {
            for portion in credentials.chunks(PORTION as usize) {
                self.write(now, |rows| {
                    portion.iter().try_for_each(|name| rows.remove_credential(PairId(name.id)))
                })?;
            }
            self.write(now, |rows| clients.iter().try_for_each(|(id, ..)| rows.remove_client(PairId(*id))))?;
        }
        Ok(Pruned {
            upstream: credentials.into_iter().map(|name| (name.owner, name.server)).collect(),
            clients: clients.into_iter().map(|(_, server, issuer)| (server, issuer)).collect(),
        })
    }

    /// Seals all of it with the first key of the config.
    pub fn rekey(&mut self) -> Result<Resealed, StoreFault> {
        self.database.rekey(&self.keys)
    }
}

/// Copies the file in `directory` to `to`, as it is at one moment: also while gateways write to it. What is sealed stays so. How many
/// bytes that are.
pub fn backup(directory: &Path, to: &Path) -> Result<u64, StoreFault> {
    let fault = |error: io::Error| StoreFault::of(to, error);
    let is_there = || io::Error::other("is there already, and stays as it is; name another file");
    if to.symlink_metadata().is_ok() {
        return Err(fault(is_there()));
    }
    if !database::is_used(directory) {
        return Err(database::none(directory));
    }
    check_directory(directory)?;
    let connection = database::connect_as_it_is(directory)?;
    let name = to.file_name().ok_or_else(|| fault(io::Error::other("names no file")))?.to_string_lossy();
    let new = to.with_file_name(state_dir::temporary(&name).map_err(fault)?);
    let done = database::copy_into(&connection, &new).and_then(|length| {
        // Fails where somebody else has made one meanwhile.
        match fs::hard_link(&new, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(is_there()),
            // Not every file system has links.
            Err(_) if to.symlink_metadata().is_ok() => return Err(is_there()),
            Err(_) => fs::rename(&new, to)?,
            Ok(()) => fs::remove_file(&new)?,
        }
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(parent)?.sync_all()?;
        Ok(length)
    });
    done.map_err(|error| {
        // Best effort: what is left has a name that nothing looks for.
        let _ = fs::remove_file(&new);
        fault(error)
    })
}
