//! What a file still grants, whatever else is wrong with it: so that who was taken out is out, although the rest of the file
//! is refused.

use std::{collections::HashMap, sync::Arc};

use crate::config::{
    access::Access,
    schemes::Schemes,
    snapshot::{Credential, Server, Snapshot},
};

/// The tokens and grants that a file has, as far as they can be read. A file that is no JSON has none that are known.
#[derive(Debug, Default)]
pub struct Remaining {
    /// Every credential of which the token is known. A token that cannot be read is not there.
    pub credentials: Vec<Credential>,
    /// In which ways a request may present its credential: all but those of which it is certain that they are off.
    pub schemes: Schemes,
    /// Every server that is there, whatever is wrong with it; `None` if that cannot be known.
    pub servers: Option<HashMap<Arc<str>, RemainingAccess>>,
}

/// What is certain of who may use a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemainingAccess {
    /// Nobody but these.
    pub access: Access,
    /// Nobody at all.
    pub disabled: bool,
}

impl RemainingAccess {
    /// Takes nothing away.
    pub const UNKNOWN: Self = Self { access: Access::Public, disabled: false };
}

impl Remaining {
    /// `in_force` without the credentials, servers and grants that this does not have. Nothing is added.
    pub fn restrict(&self, in_force: &Snapshot) -> Snapshot {
        let credentials = in_force.credentials.iter().filter_map(|old| self.credential(old)).collect();
        let servers = in_force.servers.iter().filter_map(|old| self.server(old)).collect();
        let schemes = in_force.schemes.common(self.schemes);
        Snapshot { credentials, schemes, servers, ..in_force.clone() }
    }

    fn server(&self, old: &Server) -> Option<Server> {
        let Some(servers) = &self.servers else { return Some(old.clone()) };
        let RemainingAccess { access, disabled } = servers.get(&old.name)?;
        Some(Server {
            access: old.access.narrowed_by(access),
            disabled: old.disabled || *disabled,
            ..old.clone()
        })
    }

    fn credential(&self, old: &Credential) -> Option<Credential> {
        let is_it = |new: &&Credential| new.digest == old.digest && new.token_name == old.token_name;
        let new = self.credentials.iter().find(is_it)?;
        let expires = match (old.expires, new.expires) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        let roles = old.roles.iter().filter(|role| new.roles.contains(role)).cloned().collect();
        let decoy = old.decoy || new.decoy;
        Some(Credential { expires, roles, decoy, ..old.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_credential_loses_what_the_file_does_not_have() {
        let hours = |hours: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(3_600 * hours));
        let credential = |name: &str, digest, expires, roles: &[&str]| Credential {
            token_name: name.into(),
            id: None,
            digest: [digest; 32],
            expires,
            roles: roles.iter().map(|&role| role.into()).collect(),
            decoy: false,
        };
        let decoy = |decoy| Credential { decoy, ..credential("d", 4, None, &[]) };
        let remaining = Remaining {
            credentials: vec![
                credential("a", 1, hours(2), &["x"]),
                credential("b", 2, None, &["x", "y"]),
                decoy(true),
            ],
            ..Remaining::default()
        };
        let of = |old| remaining.credential(&old);
        assert_eq!(of(credential("a", 3, None, &[])), None, "another token");
        assert_eq!(of(credential("c", 1, None, &[])), None, "another name");
        assert_eq!(of(credential("a", 1, None, &["x", "y"])), Some(credential("a", 1, hours(2), &["x"])));
        assert_eq!(of(credential("b", 2, hours(1), &["y"])), Some(credential("b", 2, hours(1), &["y"])));
        assert_eq!(of(decoy(false)), Some(decoy(true)));
    }
}
