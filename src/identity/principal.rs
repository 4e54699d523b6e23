//! Who calls: a principal, what proves it, and what it has been given.

use std::{
    collections::BTreeSet,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
    time::SystemTime,
};

use super::{
    audience::{Audience, Place},
    foreign::{
        introspection::{Introspector, Verdict},
        verified::VerifiedJwt,
    },
    login::{fingerprint::Fingerprint, grant_id::GrantId},
    scope::Scope,
};
use crate::{
    config::{
        Assignment, CallerLimits, Condition, Credential, Issuer, OauthClient, RuleName, RuleOf, RuleSubject,
        ScopeTags, ScopeWord, Snapshot, User,
    },
    mcp::seal::SessionOwner,
};

/// Who somebody is, whatever proves it. Sessions, shares and conversations belong to a principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Somebody without a credential, at a public server.
    Nobody,
    /// The token of this name, by whichever of its credentials.
    Token(Arc<str>),
    /// The user of this name.
    User(Arc<str>),
    /// The tenant of this name, by whichever of its credentials.
    Tenant(Arc<str>),
    /// The client of OAuth of this name, for itself.
    Client(Arc<str>),
    /// Somebody of an issuer of the config: its name there, a colon, and who it is to that issuer.
    Foreign(Arc<str>),
    /// Somebody of the identity provider: what that is called, a colon, and who it is there. Not an address: those are given to others.
    Idp(Arc<str>),
}

impl Principal {
    /// Whose credential it is.
    pub fn of(credential: &Credential) -> Self {
        let name = Arc::clone(&credential.token_name);
        if credential.is_tenant { Self::Tenant(name) } else { Self::Token(name) }
    }

    /// The name of the token, if it is one.
    pub fn token_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Token(name) => Some(name),
            Self::Nobody
            | Self::User(_)
            | Self::Tenant(_)
            | Self::Client(_)
            | Self::Foreign(_)
            | Self::Idp(_) => None,
        }
    }

    /// The name of the token, user, tenant or client, or that at an issuer or identity provider, if it has one.
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Token(name)
            | Self::User(name)
            | Self::Tenant(name)
            | Self::Client(name)
            | Self::Foreign(name)
            | Self::Idp(name) => Some(name),
            Self::Nobody => None,
        }
    }

    /// As whose session ids are sealed.
    pub fn session_owner(&self) -> SessionOwner<'_> {
        match self {
            Self::Nobody => SessionOwner::Nobody,
            Self::Token(name) => SessionOwner::Token(name),
            Self::User(name) => SessionOwner::User(name),
            Self::Tenant(name) => SessionOwner::Tenant(name),
            Self::Client(name) => SessionOwner::Client(name),
            Self::Foreign(name) => SessionOwner::Foreign(name),
            Self::Idp(name) => SessionOwner::Idp(name),
        }
    }

    /// Whether what proves it is looked for among the grants that are kept. Tokens that nobody allowed anybody are of none.
    pub fn has_grants(&self) -> bool {
        !matches!(self, Self::Client(_) | Self::Foreign(_))
    }
}

/// As it is written in a command: `token:ci`, `user:alice`, `tenant:acme`, `client:ops`, `jwt:corp:SUBJECT`, `idp:google:SUBJECT`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Token(name) => write!(f, "token:{name}"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Tenant(name) => write!(f, "tenant:{name}"),
            Self::Client(name) => write!(f, "client:{name}"),
            Self::Foreign(name) => write!(f, "jwt:{name}"),
            Self::Idp(name) => write!(f, "idp:{name}"),
        }
    }
}

/// The text is no principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPrincipal;

impl fmt::Display for InvalidPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "write `token:NAME`, `user:NAME`, `tenant:NAME`, `client:NAME`, `jwt:ISSUER:SUBJECT`, `idp:PROVIDER:SUBJECT` or `nobody`",
        )
    }
}

impl std::error::Error for InvalidPrincipal {}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        match text.split_once(':') {
            Some(("token", name)) if !name.is_empty() => Ok(Self::Token(name.into())),
            Some(("user", name)) if !name.is_empty() => Ok(Self::User(name.into())),
            Some(("tenant", name)) if !name.is_empty() => Ok(Self::Tenant(name.into())),
            Some(("jwt", name)) if is_of_others(name) => Ok(Self::Foreign(name.into())),
            Some(("idp", name)) if is_of_others(name) => Ok(Self::Idp(name.into())),
            Some(("client", name)) if !name.is_empty() => Ok(Self::Client(name.into())),
            None if text == "nobody" => Ok(Self::Nobody),
            _ => Err(InvalidPrincipal),
        }
    }
}

/// Whether it is a name of others, a colon, and who it is to them.
fn is_of_others(name: &str) -> bool {
    name.split_once(':').is_some_and(|(of, subject)| !of.is_empty() && !subject.is_empty())
}

/// What proved a principal in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Nothing.
    Nothing,
    /// A static token with this SHA-256.
    StaticToken([u8; 32]),
    /// A session token, whichever of its login.
    Session {
        /// What the login began.
        grant: GrantId,
        /// Of the password that the user logged in with.
        fingerprint: Fingerprint,
    },
    /// An access token of a client, whichever of its grant.
    Access {
        /// What was allowed to the client.
        grant: GrantId,
        /// Of what the principal had logged in with.
        fingerprint: Fingerprint,
    },
    /// The password itself, by `Basic`: that with this SHA-256 of its hash.
    Password([u8; 32]),
    /// A token of an issuer, with this SHA-256.
    Foreign([u8; 32]),
    /// What a client proves itself by, with this SHA-256.
    Client([u8; 32]),
}

/// What an issuer says of somebody.
#[derive(Debug, PartialEq)]
pub struct Vouched {
    /// Number of the config by which it was taken.
    pub config: u64,
    /// As the config had it when the token was looked at.
    pub issuer: Arc<Issuer>,
    /// By which key its token is signed, if it is a JWT.
    pub key_id: Option<Arc<str>>,
    /// What the issuer said of the token, if it was asked.
    pub confirmed: Option<Confirmed>,
    /// What its token says, of the claims that were asked about.
    pub token: VerifiedJwt,
    /// Which those are.
    pub asked: Arc<BTreeSet<String>>,
}

/// What an issuer said of a token that it was asked about.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmed {
    /// By whom it was asked.
    pub by: Arc<Introspector>,
    /// What it said.
    pub verdict: Arc<Verdict>,
}

impl Vouched {
    /// What `assignments` give to it: roles, and limits. What several give adds up.
    pub fn given(&self, assignments: &[Assignment]) -> (Vec<String>, CallerLimits) {
        given(assignments, |condition| self.token.meets(condition, &self.issuer))
    }

    /// For which places of the gateway its token is: all, if it has one of the issuer's `audiences`.
    fn audience(&self, base: &str) -> Option<Audience> {
        let Self { issuer, token, .. } = self;
        if token.audiences.iter().any(|of| issuer.audiences.contains(of)) {
            return Some(Audience::Gateway);
        }
        let mut places: Vec<_> = token.audiences.iter().filter_map(|of| Audience::of(of, base)).collect();
        match places.len() {
            0 => None,
            1 => places.pop(),
            _ => Some(Audience::Several(places.into())),
        }
    }
}

/// What `assignments` give to somebody who meets their conditions or not: roles, and limits. What several give adds up.
pub fn given(assignments: &[Assignment], meets: impl Fn(&Condition) -> bool) -> (Vec<String>, CallerLimits) {
    let (mut roles, mut limits) = (Vec::new(), CallerLimits::ALL);
    for assignment in assignments.iter().filter(|of| meets(&of.condition)) {
        roles.extend(assignment.roles.iter().cloned());
        let Assignment { limits: CallerLimits { servers, tags }, .. } = assignment;
        add(&mut limits.servers, servers);
        add(&mut limits.tags, tags);
    }
    (roles, limits)
}

/// Several limits of one kind are the sum of what they leave.
fn add<T: Clone>(sum: &mut Option<Vec<T>>, limit: &Option<Vec<T>>) {
    if let Some(limit) = limit {
        sum.get_or_insert_default().extend(limit.iter().cloned());
    }
}

/// Equal are those of which the same was said: what it is about is compared with each request.
impl Eq for Vouched {}

/// A principal, as one credential proves it. Decisions are made about this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub principal: Principal,
    /// What proves that.
    pub proof: Proof,
    /// What the config has given to it. The roles of a static token are its credential's: two credentials of one name may
    /// differ in them.
    pub roles: Vec<String>,
    /// `servers` and `tags`: what the config limits it to.
    pub limits: CallerLimits,
    /// Whether the config has it and lets it in no more.
    pub is_disabled: bool,
    /// From this moment on it is not valid.
    pub not_after: Option<SystemTime>,
    /// It may have nothing, and is not to know: see `decoy` of a token.
    pub is_decoy: bool,
    /// What of that was allowed to the client that acts for it; `None` is all, since nobody acts for it.
    pub allowed: Option<Arc<Allowed>>,
    /// Of somebody of an issuer: what that says of it.
    pub vouched: Option<Arc<Vouched>>,
}

/// What a principal allowed a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Which client.
    pub client_id: Arc<str>,
    /// Where the client was sent back to, by which the log names it. `None` as long as this process has not heard of the grant.
    pub receiver: Option<Arc<str>>,
    /// `proxy.baseUrl`, by which the place was found.
    pub base: Arc<str>,
    /// The place that it is for.
    pub audience: Audience,
    /// What it is limited to there.
    pub scope: Scope,
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.proof.hash(state);
    }
}

impl Identity {
    /// Somebody without a credential.
    pub const NOBODY: Self = Self {
        principal: Principal::Nobody,
        proof: Proof::Nothing,
        roles: Vec::new(),
        limits: CallerLimits::ALL,
        is_disabled: false,
        not_after: None,
        is_decoy: false,
        allowed: None,
        vouched: None,
    };

    /// What a credential of the config proves.
    pub fn of(credential: &Credential) -> Self {
        Self {
            principal: Principal::of(credential),
            proof: Proof::StaticToken(credential.digest),
            roles: credential.roles.clone(),
            limits: credential.limits.clone(),
            is_disabled: false,
            not_after: credential.expires,
            is_decoy: credential.decoy,
            allowed: None,
            vouched: None,
        }
    }

    /// A user of the config, proved by `proof`.
    pub fn of_user(user: &User, proof: Proof) -> Self {
        Self {
            principal: Principal::User(Arc::clone(&user.name)),
            proof,
            roles: user.roles.clone(),
            limits: user.limits.clone(),
            is_disabled: user.disabled,
            not_after: None,
            is_decoy: false,
            allowed: None,
            vouched: None,
        }
    }

    /// Somebody of whom an issuer says this, by `config`; `None` if the token is for another place than this gateway.
    pub fn vouched_for(vouched: &Arc<Vouched>, config: &Snapshot, proof: Proof) -> Option<Self> {
        let Vouched { issuer, token, .. } = &**vouched;
        let base = config.base().unwrap_or_default();
        let audience = vouched.audience(&base)?;
        let tags = config.oauth.as_ref().map_or(ScopeTags::default(), |config| config.scope_tags);
        let scope = match &token.scope {
            None => Scope::parse(ScopeWord::ALL, tags),
            Some(words) => Scope::parse(&words.join(" "), tags),
        };
        let allowed = Allowed { client_id: Arc::default(), receiver: None, base, audience, scope };
        let not_after = token.expires + issuer.leeway + issuer.stream_grace;
        Some(Self::of_vouched(vouched, &config.assignments, proof, allowed, not_after))
    }

    /// Somebody of whom an issuer says this, who was allowed so much until then.
    pub fn of_vouched(
        vouched: &Arc<Vouched>,
        assignments: &[Assignment],
        proof: Proof,
        allowed: Allowed,
        not_after: SystemTime,
    ) -> Self {
        let (roles, limits) = vouched.given(assignments);
        let Vouched { issuer, token, .. } = &**vouched;
        Self {
            principal: Principal::Foreign(format!("{}:{}", issuer.name, token.subject).into()),
            proof,
            roles,
            limits,
            is_disabled: false,
            not_after: Some(not_after),
            is_decoy: false,
            allowed: Some(Arc::new(allowed)),
            vouched: Some(Arc::clone(vouched)),
        }
    }

    /// A client of the config, for itself, proved by `proof`.
    pub fn of_client(client: &OauthClient, proof: Proof) -> Self {
        Self {
            principal: Principal::Client(Arc::clone(&client.name)),
            proof,
            roles: client.roles.clone(),
            limits: client.limits.clone(),
            ..Self::NOBODY
        }
    }

    /// The same principal, as something else proves it that ends at `not_after`.
    pub fn proved_by(&self, proof: Proof, not_after: SystemTime) -> Self {
        Self { proof, not_after: Some(not_after), ..self.clone() }
    }

    /// What the rules of servers ask about it; `None` without a credential.
    pub fn rule_subject(&self) -> Option<RuleSubject<'_>> {
        let name = match &self.principal {
            Principal::Nobody => return None,
            Principal::Token(name) => RuleName::Token(name),
            Principal::User(name) => RuleName::User(name),
            Principal::Tenant(_) | Principal::Client(_) | Principal::Foreign(_) | Principal::Idp(_) => {
                RuleName::Unlisted
            }
        };
        let scopes = self.allowed.as_ref().map(|allowed| allowed.scope.words());
        Some(RuleSubject { name, roles: &self.roles, limits: &self.limits, scopes })
    }

    /// Whether what it proves itself by is for this place.
    pub fn is_for(&self, place: Place<'_>) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.audience.covers(place))
    }

    /// The client that acts for it, as the log names it.
    pub fn client(&self) -> Option<&str> {
        self.allowed.as_ref()?.receiver.as_deref()
    }

    /// What its scope would have to be, with these words added.
    pub fn scope_with<'a>(&self, more: impl IntoIterator<Item = &'a str>) -> Box<str> {
        match &self.allowed {
            Some(allowed) => allowed.scope.with(more).into(),
            None => more.into_iter().collect::<Vec<_>>().join(" ").into(),
        }
    }

    /// The entry of the config that it is of.
    pub fn rule_of(&self) -> Option<RuleOf> {
        match (&self.principal, self.proof) {
            (Principal::User(name), _) => Some(RuleOf::User(Arc::clone(name))),
            (Principal::Client(name), _) => Some(RuleOf::Client(Arc::clone(name))),
            (_, Proof::StaticToken(digest)) => Some(RuleOf::Credential(digest)),
            (
                _,
                Proof::Nothing
                | Proof::Session { .. }
                | Proof::Access { .. }
                | Proof::Password(_)
                | Proof::Foreign(_)
                | Proof::Client(_),
            ) => None,
        }
    }

    /// Whether this role was given to it.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|given| given == role)
    }

    /// Whether it is let in, and has not expired at this moment.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        !self.is_disabled && self.not_after.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_principal_is_written_as_it_is_read() {
        for principal in [
            Principal::Nobody,
            Principal::Token("ci".into()),
            Principal::Token("a:b".into()),
            Principal::User("alice".into()),
            Principal::Tenant("acme".into()),
            Principal::Client("ops".into()),
            Principal::Foreign("corp:a:b".into()),
            Principal::Idp("google:a:b".into()),
        ] {
            assert_eq!(principal.to_string().parse(), Ok(principal));
        }
        for bad in [
            "",
            "ci",
            "token",
            "token:",
            "user:",
            "client:",
            "User:alice",
            "nobody:",
            "Token:ci",
            "jwt:corp",
            "jwt:corp:",
            "jwt::a",
            "idp:google",
            "idp::a",
        ] {
            assert_eq!(bad.parse::<Principal>(), Err(InvalidPrincipal), "{bad:?}");
        }
        assert_eq!(
            InvalidPrincipal.to_string(),
            "write `token:NAME`, `user:NAME`, `tenant:NAME`, `client:NAME`, `jwt:ISSUER:SUBJECT`, `idp:PROVIDER:SUBJECT` or `nobody`"
        );
    }

    #[test]
    fn an_identity_has_what_its_credential_has() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        let mut credential = Credential {
            token_name: "ci".into(),
            is_tenant: false,
            id: Some("1".into()),
            digest: [7; 32],
            expires: Some(end),
            roles: vec!["admin".into(), "deploy".into()],
            decoy: false,
            limits: CallerLimits { servers: None, tags: Some(vec!["web".into()]) },
        };
        let identity = Identity::of(&credential);
        assert_eq!(identity.principal.token_name().map(|name| &**name), Some("ci"));
        assert_eq!(identity.proof, Proof::StaticToken([7; 32]));
        assert!(identity.has_role("deploy") && identity.has_role("admin") && !identity.has_role("dep"));
        assert!(identity.is_valid_at(end - Duration::from_nanos(1)) && !identity.is_valid_at(end));
        assert!(!identity.is_valid_at(end + Duration::from_secs(1)));
        credential.expires = None;
        let tenant = Identity::of(&Credential { is_tenant: true, ..credential.clone() });
        assert_eq!(tenant.principal, Principal::Tenant("ci".into()));
        assert_eq!(tenant.principal.token_name(), None);
        assert_eq!(tenant.rule_subject().map(|of| of.name), Some(RuleName::Unlisted));
        assert!(Identity::of(&credential).is_valid_at(end));
        assert_eq!(Identity::NOBODY.principal.token_name(), None);
        assert!(!Identity::NOBODY.has_role("admin") && Identity::NOBODY.rule_subject().is_none());
        assert_eq!(identity.limits, credential.limits);
        assert_eq!(identity.rule_subject().map(|of| of.name), Some(RuleName::Token("ci")));
    }

    #[test]
    fn a_user_has_what_the_config_gives_it_unless_it_is_disabled() {
        let mut user = User {
            name: "alice".into(),
            password_hash: Secret::new("$argon2id$…".into()),
            roles: vec!["dev".into()],
            limits: CallerLimits { servers: Some(vec!["db".into()]), tags: None },
            disabled: false,
        };
        let identity = Identity::of_user(&user, Proof::Nothing);
        assert_eq!(identity.principal, Principal::User("alice".into()));
        assert_eq!((identity.principal.token_name(), &identity.limits), (None, &user.limits));
        assert_eq!(identity.rule_subject().map(|of| of.name), Some(RuleName::User("alice")));
        assert!(identity.has_role("dev") && identity.is_valid_at(SystemTime::now()));
        user.disabled = true;
        assert!(!Identity::of_user(&user, Proof::Nothing).is_valid_at(SystemTime::UNIX_EPOCH));
        assert!(!format!("{user:?}").contains("argon2id"));
    }
}
