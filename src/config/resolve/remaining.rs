//! What a file still grants, whatever else is wrong with it: so that who was taken out is out, although the rest of the file
//! is refused.

use std::{collections::HashMap, sync::Arc};

use crate::config::{
    access::{Access, CallerLimits},
    idp::IdpConfig,
    issuers::{Assignment, Introspection, Issuer},
    oauth::{ClientProof, OauthClient, OauthConfig},
    schemes::Schemes,
    scope_word::ScopeWord,
    snapshot::{Credential, Server, Snapshot, User},
    tool_rules::ToolRules,
};

/// The tokens and grants that a file has, as far as they can be read. A file that is no JSON has none that are known.
#[derive(Debug, Default)]
pub struct Remaining {
    /// Every credential of which the token is known. A token that cannot be read is not there.
    pub credentials: Vec<Credential>,
    /// In which ways a request may present its credential: all but those of which it is certain that they are off.
    pub schemes: Schemes,
    /// Every user of whom the hash is known.
    pub users: Vec<User>,
    /// Every issuer of whom all is known; `None` if that cannot be known.
    pub issuers: Option<Vec<Arc<Issuer>>>,
    /// Every entry of `assign` of which it is known whom it is for; `None` if that cannot be known.
    pub assignments: Option<Vec<Assignment>>,
    /// Every client of which the entry is known; `None` if that cannot be known.
    pub clients: Option<Vec<OauthClient>>,
    /// The identity provider, if there is one; `None` if that cannot be known, or what is said of it.
    pub idp: Option<Option<Arc<IdpConfig>>>,
    /// What can be read of its `allowedDomains`, and of its `allowedOrgs`, whatever is wrong with the rest: nobody else is let in. `None`
    /// if there is no such list, or an empty one.
    pub admitted: [Option<Vec<String>>; 2],
    /// Every pair of `idJag` that is known; `None` if that cannot be known.
    pub id_jag: Option<Vec<(Arc<str>, Arc<str>)>>,
    /// Whether the role `admin` passes the rules of servers, unless it is certain that it does not.
    pub admin_sees_all: bool,
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
    /// No tags but these, by which callers may be limited; `None` if they are not known.
    pub tags: Option<Vec<String>>,
    /// Rules for its tools that hold beside those that there are; `None` if they are not known.
    pub tool_rules: Option<Arc<ToolRules>>,
}

impl RemainingAccess {
    /// Takes nothing away.
    pub const UNKNOWN: Self = Self { access: Access::Public, disabled: false, tags: None, tool_rules: None };
}

impl Remaining {
    /// `in_force` without the credentials, servers and grants that this does not have. Nothing is added.
    pub fn restrict(&self, in_force: &Snapshot) -> Snapshot {
        let credentials = in_force.credentials.iter().filter_map(|old| self.credential(old)).collect();
        let users = in_force.users.iter().filter_map(|old| self.user(old)).collect();
        let issuers = in_force.issuers.iter().filter_map(|old| self.issuer(old)).collect();
        let left = in_force.assignments.iter().map(|old| self.assignment(old));
        let assignments = left.chain(self.added_limits(&in_force.assignments)).collect();
        let oauth = in_force.oauth.as_ref().map(|old| self.oauth(old));
        let servers = in_force.servers.iter().filter_map(|old| self.server(old)).collect();
        let schemes = in_force.schemes.common(self.schemes);
        let admin_sees_all = in_force.admin_sees_all && self.admin_sees_all;
        Snapshot {
            credentials,
            users,
            issuers,
            assignments,
            oauth,
            schemes,
            admin_sees_all,
            servers,
            ..in_force.clone()
        }
    }

    fn server(&self, old: &Server) -> Option<Server> {
        let Some(servers) = &self.servers else { return Some(old.clone()) };
        let RemainingAccess { access, disabled, tags, tool_rules } = servers.get(&old.name)?;
        let has = |tag: &&String| tags.as_ref().is_none_or(|tags| tags.contains(tag));
        Some(Server {
            access: old.access.narrowed_by(access),
            disabled: old.disabled || *disabled,
            tags: old.tags.iter().filter(has).cloned().collect(),
            tool_rules: match (&old.tool_rules, tool_rules) {
                (Some(old), Some(new)) => Some(Arc::new(old.joined(new))),
                (None, Some(new)) if **new != ToolRules::default() => Some(Arc::clone(new)),
                (old, _) => old.clone(),
            },
            ..old.clone()
        })
    }

    fn credential(&self, old: &Credential) -> Option<Credential> {
        let is_it = |new: &&Credential| {
            new.digest == old.digest && new.token_name == old.token_name && new.is_tenant == old.is_tenant
        };
        let new = self.credentials.iter().find(is_it)?;
        let expires = match (old.expires, new.expires) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        let decoy = old.decoy || new.decoy;
        let (roles, limits) = (common(&old.roles, &new.roles), old.limits.narrowed_by(&new.limits));
        Some(Credential { expires, roles, limits, decoy, ..old.clone() })
    }

    /// With another password, it is no more the one who came in.
    fn user(&self, old: &User) -> Option<User> {
        let is_it = |new: &&User| new.name == old.name && new.password_hash == old.password_hash;
        let new = self.users.iter().find(is_it)?;
        let (roles, limits) = (common(&old.roles, &new.roles), old.limits.narrowed_by(&new.limits));
        Some(User { roles, limits, disabled: old.disabled || new.disabled, ..old.clone() })
    }

    /// Whose tokens mean something else, or whose keys are elsewhere, is no more the one whose tokens were taken.
    fn issuer(&self, old: &Arc<Issuer>) -> Option<Arc<Issuer>> {
        let Some(issuers) = &self.issuers else { return Some(Arc::clone(old)) };
        let new = issuers.iter().find(|new| new.name == old.name)?;
        let narrowed = Issuer {
            audiences: common(&old.audiences, &new.audiences),
            algorithms: common(&old.algorithms, &new.algorithms),
            types: common(&old.types, &new.types),
            leeway: old.leeway.min(new.leeway),
            stream_grace: old.stream_grace.min(new.stream_grace),
            // One that is asked only from now on would have tokens taken that were not.
            introspection: introspection(old, new),
            ..(**new).clone()
        };
        let is_it = old.introspection.is_some() == narrowed.introspection.is_some()
            && old.issuer == new.issuer
            && old.jwks_url == new.jwks_url
            && old.principal_claim == new.principal_claim
            && old.scope_claim == new.scope_claim
            && old.tenant_id == new.tenant_id
            // An empty list must not come to mean something else.
            && old.audiences.is_empty() == narrowed.audiences.is_empty();
        is_it.then(|| if narrowed == **old { Arc::clone(old) } else { Arc::new(narrowed) })
    }

    fn oauth(&self, old: &Arc<OauthConfig>) -> Arc<OauthConfig> {
        let clients = match &self.clients {
            Some(known) => old.clients.iter().filter_map(|old| client(old, known)).collect(),
            None => old.clients.clone(),
        };
        let idp = old.idp.as_ref().and_then(|old| match &self.idp {
            Some(new) => idp(old, new.as_ref()?),
            None => Some(Arc::clone(old)),
        });
        let idp = idp.and_then(|idp| self.admitting(idp));
        let id_jag = match &self.id_jag {
            Some(known) => common(&old.id_jag, known),
            None => old.id_jag.clone(),
        };
        match clients == old.clients && idp == old.idp && id_jag == old.id_jag {
            true => Arc::clone(old),
            false => Arc::new(OauthConfig { clients, idp, id_jag, ..(**old).clone() }),
        }
    }

    /// The provider, of which nobody is let in whom the lists do not let in, as far as they can be read.
    fn admitting(&self, idp: Arc<IdpConfig>) -> Option<Arc<IdpConfig>> {
        let left = |old: &[String], list: &Option<Vec<String>>| match list {
            None => Some(old.to_vec()),
            Some(list) if old.is_empty() => Some(list.clone()).filter(|left| !left.is_empty()),
            Some(list) => Some(common(old, list)).filter(|left| !left.is_empty()),
        };
        let [domains, orgs] = &self.admitted;
        let allowed_domains = left(&idp.allowed_domains, domains)?;
        let allowed_orgs = left(&idp.allowed_orgs, orgs)?;
        let is_same = allowed_domains == idp.allowed_domains && allowed_orgs == idp.allowed_orgs;
        let narrowed = || Arc::new(IdpConfig { allowed_domains, allowed_orgs, ..IdpConfig::clone(&idp) });
        Some(if is_same { Arc::clone(&idp) } else { narrowed() })
    }

    /// Entries add up, so one that is gone stays, and gives nothing: without it, its limits would be gone, too.
    fn assignment(&self, old: &Assignment) -> Assignment {
        let Some(assignments) = &self.assignments else { return old.clone() };
        let alike = || assignments.iter().filter(|new| new.condition == old.condition);
        let new = alike().find(|new| *new == old).or_else(|| alike().next());
        let Some(new) = new else {
            let CallerLimits { servers, tags } = &old.limits;
            let limits = CallerLimits {
                servers: servers.as_ref().map(|_| vec![]),
                tags: tags.as_ref().map(|_| vec![]),
            };
            return Assignment { condition: old.condition.clone(), roles: Vec::new(), limits };
        };
        let limits = old.limits.narrowed_by(&new.limits);
        Assignment { condition: old.condition.clone(), roles: common(&old.roles, &new.roles), limits }
    }
}

/// What is left of an identity provider: whom both admit. Another one knows others.
fn idp(old: &Arc<IdpConfig>, new: &IdpConfig) -> Option<Arc<IdpConfig>> {
    let is_it = old.provider == new.provider && old.place() == new.place() && old.client_id == new.client_id;
    // An empty list admits everybody, so none must become empty.
    let both = |old: &[String], new: &[String]| match (old.is_empty(), new.is_empty()) {
        (_, true) => Some(old.to_vec()),
        (true, false) => Some(new.to_vec()),
        (false, false) => Some(common(old, new)).filter(|both| !both.is_empty()),
    };
    if !is_it {
        return None;
    }
    let narrowed = IdpConfig {
        allowed_domains: both(&old.allowed_domains, &new.allowed_domains)?,
        allowed_orgs: both(&old.allowed_orgs, &new.allowed_orgs)?,
        recheck: old.recheck.min(new.recheck),
        ..IdpConfig::clone(old)
    };
    Some(if narrowed == **old { Arc::clone(old) } else { Arc::new(narrowed) })
}

impl Remaining {
    /// The limits of entries that are new, for those whom nothing limited so far. What several entries leave adds up, so such a
    /// limit has nothing that another one does not leave.
    fn added_limits<'a>(&'a self, in_force: &'a [Assignment]) -> impl Iterator<Item = Assignment> {
        let all = self.assignments.iter().flatten();
        let new = all.filter(move |new| in_force.iter().all(|old| old.condition != new.condition));
        let limit = move |new: &Assignment| {
            let CallerLimits { mut servers, mut tags } = new.limits.clone();
            for old in in_force {
                keep_common(&mut servers, &old.limits.servers);
                keep_common(&mut tags, &old.limits.tags);
            }
            let limits = CallerLimits { servers, tags };
            Assignment { condition: new.condition.clone(), roles: Vec::new(), limits }
        };
        new.map(limit).filter(|added| added.limits != CallerLimits::ALL)
    }
}

/// How an issuer is asked that was asked in the same way before.
fn introspection(old: &Issuer, new: &Issuer) -> Option<Introspection> {
    let (old, new) = (old.introspection.as_ref()?, new.introspection.as_ref()?);
    let cache_ttl = old.cache_ttl.min(new.cache_ttl);
    let is_same = *old == Introspection { cache_ttl: old.cache_ttl, ..new.clone() };
    is_same.then(|| Introspection { cache_ttl, ..new.clone() })
}

/// Of one limit, what the other one, if it is there, leaves too.
fn keep_common<T: PartialEq>(limit: &mut Option<Vec<T>>, other: &Option<Vec<T>>) {
    if let (Some(limit), Some(other)) = (limit, other) {
        limit.retain(|it| other.contains(it));
    }
}

/// What is left of a client. With another secret, the old one opens nothing; without one, it may be that it could not be read.
fn client(old: &OauthClient, known: &[OauthClient]) -> Option<OauthClient> {
    let new = known.iter().find(|new| new.name == old.name)?;
    Some(OauthClient {
        name: Arc::clone(&old.name),
        proof: match (&old.proof, &new.proof) {
            (old, ClientProof::None) => old.clone(),
            (ClientProof::Keys(old), ClientProof::Keys(new)) => ClientProof::Keys(common(old, new).into()),
            (_, new) => new.clone(),
        },
        grants: old.grants.common(new.grants),
        redirect_uris: common(&old.redirect_uris, &new.redirect_uris),
        roles: common(&old.roles, &new.roles),
        limits: old.limits.narrowed_by(&new.limits),
        // One that has all takes nothing away.
        scopes: match new.scopes.iter().any(|word| word == ScopeWord::ALL) {
            true => old.scopes.clone(),
            false => common(&old.scopes, &new.scopes),
        },
    })
}

fn common<T: PartialEq + Clone>(old: &[T], new: &[T]) -> Vec<T> {
    old.iter().filter(|it| new.contains(it)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{config::issuers::Condition, secret::Secret};

    #[test]
    fn a_credential_loses_what_the_file_does_not_have() {
        let hours = |hours: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(3_600 * hours));
        let credential = |name: &str, digest, expires, roles: &[&str]| Credential {
            token_name: name.into(),
            is_tenant: false,
            id: None,
            digest: [digest; 32],
            expires,
            roles: roles.iter().map(|&role| role.into()).collect(),
            decoy: false,
            limits: CallerLimits { servers: None, tags: Some(vec![name.into(), "t".into()]) },
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
        assert_eq!(of(Credential { is_tenant: true, ..credential("a", 1, None, &[]) }), None, "of a tenant");
        assert_eq!(of(credential("a", 1, None, &["x", "y"])), Some(credential("a", 1, hours(2), &["x"])));
        assert_eq!(of(credential("b", 2, hours(1), &["y"])), Some(credential("b", 2, hours(1), &["y"])));
        assert_eq!(of(decoy(false)), Some(decoy(true)));
        let narrower = Credential {
            limits: CallerLimits {
                servers: Some(vec!["db".into()]),
                tags: Some(vec!["t".into(), "u".into()]),
            },
            ..credential("b", 2, None, &["y"])
        };
        let left = CallerLimits { servers: Some(vec!["db".into()]), tags: Some(vec!["t".into()]) };
        assert_eq!(of(narrower.clone()).map(|left| left.limits), Some(left));
    }

    #[test]
    fn a_limit_of_somebody_of_an_issuer_that_the_file_adds_holds_and_adds_nothing() {
        let entry = |has: &str, roles: &[&str], servers: Option<&[&str]>| Assignment {
            condition: Condition { claim: Some(("groups".into(), has.into())), ..Condition::default() },
            roles: roles.iter().map(|&role| role.into()).collect(),
            limits: CallerLimits {
                servers: servers.map(|all| all.iter().map(|&name| name.into()).collect()),
                tags: None,
            },
        };
        let added = |in_force: &[Assignment], file: &[Assignment]| {
            let remaining = Remaining { assignments: Some(file.to_vec()), ..Remaining::default() };
            remaining.added_limits(in_force).collect::<Vec<_>>()
        };
        let (guest, role) = (entry("guest", &["x"], Some(&["db", "wiki"])), entry("eng", &["x"], None));
        assert_eq!(added(&[], std::slice::from_ref(&guest)), [entry("guest", &[], Some(&["db", "wiki"]))]);
        assert_eq!(added(std::slice::from_ref(&guest), std::slice::from_ref(&guest)), [], "it is not new");
        assert_eq!(added(&[], &[role]), [], "a role is nothing that is taken away");
        let other = entry("ops", &[], Some(&["db", "code"]));
        assert_eq!(added(&[other], &[guest]), [entry("guest", &[], Some(&["db"]))], "they add up");
        assert_eq!(Remaining::default().added_limits(&[]).count(), 0);
    }

    #[test]
    fn a_user_loses_what_the_file_does_not_have() {
        let user = |name: &str, hash: &str, roles: &[&str], disabled| User {
            name: name.into(),
            password_hash: Secret::new(hash.into()),
            roles: roles.iter().map(|&role| role.into()).collect(),
            limits: CallerLimits::ALL,
            disabled,
        };
        let users = vec![user("a", "1", &["x"], false), user("b", "2", &["x", "y"], true)];
        let remaining = Remaining { users, ..Remaining::default() };
        let of = |old| remaining.user(&old);
        assert_eq!(of(user("a", "9", &[], false)), None, "another password");
        assert_eq!(of(user("c", "1", &[], false)), None, "another name");
        assert_eq!(of(user("a", "1", &["x", "y"], false)), Some(user("a", "1", &["x"], false)));
        assert_eq!(of(user("b", "2", &["y"], false)), Some(user("b", "2", &["y"], true)));
    }
}
