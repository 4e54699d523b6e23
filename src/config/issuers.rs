//! `proxy.auth.issuers` and `proxy.auth.assign`: whose tokens are taken beside the gateway's own, and what those who come with them are
//! given.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::Algorithm;
use url::Url;

use super::access::CallerLimits;
use crate::secret::Secret;

/// Somebody who issues JSON Web Tokens for the gateway (RFC 9068).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Key in `proxy.auth.issuers`.
    pub name: Arc<str>,
    /// `issuer`: what `iss` of its tokens is, byte for byte.
    pub issuer: Arc<str>,
    /// `jwksUrl`: where its keys are. `None`: where its metadata says.
    pub jwks_url: Option<Url>,
    /// `audiences`: values of `aud` that a token for all of the gateway has. Besides, it may be the URL of a place of the gateway.
    pub audiences: Vec<String>,
    /// `algorithms` of signatures that are taken. None of them has a shared secret.
    pub algorithms: Vec<Algorithm>,
    /// `typ`: values of that member that are taken, in lower case and without `application/`.
    pub types: Vec<String>,
    /// `principalClaim`: the claim that says who it is.
    pub principal_claim: String,
    /// `scopeClaim`: the claim that has the scope; `None`: tokens have none, and rules alone limit what they open.
    pub scope_claim: Option<String>,
    /// `tenantId`: what `tid` is, of an issuer that has tenants.
    pub tenant_id: Option<String>,
    /// `leeway`: how far its clock may be off.
    pub leeway: Duration,
    /// `streamGrace`: how long a stream goes on when its token has expired.
    pub stream_grace: Duration,
    /// `introspection`: how it is asked about tokens.
    pub introspection: Option<Introspection>,
}

/// How an issuer is asked about tokens (RFC 7662): those that only it can read, and whether one that others can read was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// `url`: where it answers.
    pub url: Url,
    /// `clientId`: as whom the gateway asks.
    pub client_id: String,
    /// `clientSecret`: what proves that.
    pub client_secret: Secret,
    /// `cacheTtl`: how long a yes is taken for one.
    pub cache_ttl: Duration,
    /// `tokenPrefix`: what its tokens begin with that are no JWTs; needed where several issuers are asked.
    pub token_prefix: Option<String>,
}

impl Introspection {
    /// `cacheTtl` where the config does not say it.
    pub const CACHE_TTL: Duration = Duration::from_secs(30);
    /// The longest `cacheTtl`: a token that was revoked is good so long.
    pub const LONGEST_CACHE_TTL: Duration = Duration::from_secs(10 * 60);
}

impl Issuer {
    /// Somebody whose keys are there, and of whom nothing else is known.
    pub fn with_keys_at(name: &str, url: &Url) -> Self {
        Self {
            name: name.into(),
            issuer: name.into(),
            jwks_url: Some(url.clone()),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            types: Vec::new(),
            principal_claim: Self::PRINCIPAL_CLAIM.into(),
            scope_claim: None,
            tenant_id: None,
            leeway: Self::LEEWAY,
            stream_grace: Self::STREAM_GRACE,
            introspection: None,
        }
    }

    /// `algorithms` where the config does not say it.
    pub const ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];
    /// `typ` where the config does not say it (RFC 9068 §2.1).
    pub const TYPES: [&str; 1] = ["at+jwt"];
    /// `principalClaim` where the config does not say it.
    pub const PRINCIPAL_CLAIM: &str = "sub";
    /// `scopeClaim` where the config does not say it.
    pub const SCOPE_CLAIM: &str = "scope";
    /// `leeway` where the config does not say it.
    pub const LEEWAY: Duration = Duration::from_secs(30);
    /// The longest `leeway`: a token that lives that much longer is no more one of an hour.
    pub const LONGEST_LEEWAY: Duration = Duration::from_secs(5 * 60);
    /// `streamGrace` where the config does not say it.
    pub const STREAM_GRACE: Duration = Duration::ZERO;
}

/// An entry of `assign`: who meets the condition is given this. What several entries give adds up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// `if`
    pub condition: Condition,
    /// `roles`
    pub roles: Vec<String>,
    /// `servers` and `tags`
    pub limits: CallerLimits,
}

/// `if` of an entry: all that is there holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// `issuer`: the name of one of `issuers`.
    pub issuer: Option<Arc<str>>,
    /// `email`: a verified address, or `*` for any name and what is from the `@` on. Its ASCII letters are small, and no others are
    /// changed: other ways to compare find letters alike that are not.
    pub email: Option<String>,
    /// `claim` and `has`: a claim, and a text that it is, or that is in its list.
    pub claim: Option<(String, String)>,
}

impl Assignment {
    /// Whether it gives anything, so that whoever meets its condition is meant to come. What is left of an entry that was taken out of a
    /// refused file gives nothing.
    pub fn gives(&self) -> bool {
        let CallerLimits { servers, tags } = &self.limits;
        let leaves_servers = servers.as_ref().map(|list| !list.is_empty());
        let leaves_tags = tags.as_ref().map(|list| !list.is_empty());
        !self.roles.is_empty()
            || leaves_servers.or(leaves_tags).is_some()
                && leaves_servers != Some(false)
                && leaves_tags != Some(false)
    }

    /// Whether it limits those who meet its condition.
    pub fn limits_somebody(&self) -> bool {
        self.limits != CallerLimits::ALL
    }

    /// Whether whoever meets it may log in by the identity provider, where nothing else says who may.
    pub fn admits(&self) -> bool {
        self.gives() && self.condition.singles_out()
    }
}

impl Condition {
    /// Whether not just anybody of an issuer meets it: it asks for more than where somebody comes from, and that an address is verified.
    pub fn singles_out(&self) -> bool {
        self.email.is_some() || self.claim.as_ref().is_some_and(|(name, _)| name != Self::EMAIL[1])
    }

    /// The claim with an address, and the one that says whether it was verified (OpenID Connect Core §5.1).
    pub const EMAIL: [&str; 2] = ["email", "email_verified"];

    /// The claims that it asks about.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let claim = self.claim.as_ref().map(|(name, _)| name.as_str());
        // Whoever asks for the address as a claim asks whether it is verified, too.
        let is_of_email = self.email.is_some() || claim.is_some_and(|name| Self::EMAIL.contains(&name));
        claim.into_iter().chain(Self::EMAIL.into_iter().filter(move |_| is_of_email))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_anybody_meets_or_that_gives_nothing_admits_nobody() {
        let given = |condition: &Condition, roles: &[&str], servers: Option<&[&str]>| Assignment {
            condition: condition.clone(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            limits: CallerLimits {
                servers: servers.map(|servers| servers.iter().map(|server| (*server).into()).collect()),
                tags: None,
            },
        };
        let of_claim = |name: &str, has: &str| Condition {
            claim: Some((name.into(), has.into())),
            ..Condition::default()
        };
        let eng = of_claim("groups", "eng");
        let of_corp = Condition { email: Some("*@corp.example".into()), ..Condition::default() };
        for condition in [&eng, &of_corp] {
            assert!(
                given(condition, &["dev"], None).admits() && given(condition, &[], Some(&["db"])).admits()
            );
            assert!(given(condition, &["dev"], Some(&[])).admits(), "a role may open other places");
            assert!(!given(condition, &[], None).admits() && !given(condition, &[], Some(&[])).admits());
        }
        let google = Condition { issuer: Some("google".into()), ..Condition::default() };
        for condition in [&google, &of_claim("email_verified", "true")] {
            assert!(!given(condition, &["dev"], None).admits(), "{condition:?}");
        }
    }
}
