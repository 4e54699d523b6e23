//! What a file still grants, whatever else is wrong with it: so that who was taken out is out, although the rest of the file
//! is refused.

use std::{collections::HashMap, sync::Arc};

use crate::config::snapshot::{Access, Credential, Server, Snapshot};

/// The tokens and grants that a file has, as far as they can be read. A file that is no JSON has none that are known.
#[derive(Debug, Default)]
pub struct Remaining {
    /// Every credential of which the token is known. A token that cannot be read is not there.
    pub credentials: Vec<Credential>,
    /// Whether `?token=` may carry the token, unless it is certain that it may not.
    pub query_token: bool,
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
        let query_token = in_force.query_token && self.query_token;
        Snapshot { credentials, query_token, servers, ..in_force.clone() }
    }

    fn server(&self, old: &Server) -> Option<Server> {
        let Some(servers) = &self.servers else { return Some(old.clone()) };
        let RemainingAccess { access, disabled } = servers.get(&old.name)?;
        Some(Server { access: both(&old.access, access), disabled: old.disabled || *disabled, ..old.clone() })
    }

    fn credential(&self, old: &Credential) -> Option<Credential> {
        let is_it = |new: &&Credential| new.digest == old.digest && new.token_name == old.token_name;
        let new = self.credentials.iter().find(is_it)?;
        let expires = match (old.expires, new.expires) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        let roles = old.roles.iter().filter(|role| new.roles.contains(role)).cloned().collect();
        Some(Credential { expires, roles, ..old.clone() })
    }
}

/// Who may use a server by the one rule and by the other.
fn both(one: &Access, other: &Access) -> Access {
    fn common<T: PartialEq + Clone>(one: Option<&Vec<T>>, other: Option<&Vec<T>>) -> Option<Vec<T>> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.iter().filter(|it| other.contains(it)).cloned().collect()),
            (one, other) => one.or(other).cloned(),
        }
    }
    match (one, other) {
        (Access::Public, rule) | (rule, Access::Public) => rule.clone(),
        (Access::AnyToken, rule) | (rule, Access::AnyToken) => rule.clone(),
        (Access::Only { tokens, roles }, Access::Only { tokens: others, roles: other_roles }) => {
            // Of two lists of roles, one role of each would do; those in both are fewer, never more.
            let (tokens, roles) =
                (common(tokens.as_ref(), others.as_ref()), common(roles.as_ref(), other_roles.as_ref()));
            Access::Only { tokens, roles }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn only(tokens: Option<&[&str]>, roles: Option<&[&str]>) -> Access {
        let tokens = tokens.map(|names| names.iter().map(|&name| name.into()).collect());
        Access::Only { tokens, roles: roles.map(|roles| roles.iter().map(|&role| role.into()).collect()) }
    }

    #[test]
    fn a_rule_only_ever_gets_narrower() {
        let (ab, b) = (only(Some(&["a", "b"]), None), only(Some(&["b", "c"]), Some(&["x"])));
        for (one, other, both_of_them) in [
            (&Access::Public, &Access::AnyToken, &Access::AnyToken),
            (&Access::Public, &ab, &ab),
            (&Access::AnyToken, &ab, &ab),
            (&Access::Public, &Access::Public, &Access::Public),
            (&ab, &b, &only(Some(&["b"]), Some(&["x"]))),
            (&only(None, Some(&["x", "y"])), &b, &only(Some(&["b", "c"]), Some(&["x"]))),
        ] {
            assert_eq!(&both(one, other), both_of_them);
            assert_eq!(&both(other, one), both_of_them);
        }
    }

    #[test]
    fn a_credential_loses_what_the_file_does_not_have() {
        let hours = |hours: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(3_600 * hours));
        let credential = |name: &str, digest, expires, roles: &[&str]| Credential {
            token_name: name.into(),
            id: None,
            digest: [digest; 32],
            expires,
            roles: roles.iter().map(|&role| role.into()).collect(),
        };
        let remaining = Remaining {
            credentials: vec![credential("a", 1, hours(2), &["x"]), credential("b", 2, None, &["x", "y"])],
            ..Remaining::default()
        };
        let of = |old| remaining.credential(&old);
        assert_eq!(of(credential("a", 3, None, &[])), None, "another token");
        assert_eq!(of(credential("c", 1, None, &[])), None, "another name");
        assert_eq!(of(credential("a", 1, None, &["x", "y"])), Some(credential("a", 1, hours(2), &["x"])));
        assert_eq!(of(credential("b", 2, hours(1), &["y"])), Some(credential("b", 2, hours(1), &["y"])));
    }
}
