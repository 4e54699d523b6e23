//! Assertions: what a client signs to prove that it is the one (RFC 7523 §3, `private_key_jwt`), and what an issuer signs for a client
//! that is to act for somebody (ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant).
//!
//! They are no access tokens, and no access token is one: each kind has its `typ`. An assertion is for this gateway's authorization
//! server alone, is good for minutes, and has an id, so that it is used once.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{
    jwks::KeySet,
    jwt::{ASYMMETRIC, BOUND, NoTime, NotTaken, UnverifiedJwt},
    verified::VerifiedJwt,
};
use crate::config::Issuer;

/// How far ahead the end of what a client signs may be.
const LONGEST_OF_CLIENT: Duration = Duration::from_secs(5 * 60);
/// The same of what an issuer signs.
const LONGEST_OF_ISSUER: Duration = Duration::from_secs(60 * 60);
/// How far the clock of a client may be off.
const LEEWAY: Duration = Issuer::LEEWAY;
/// Bytes of an id at most.
const LONGEST_ID: usize = 512;
/// `typ` of what a client signs. Most write `JWT`, or nothing.
const TYPES_OF_CLIENT: [&str; 3] = ["", "jwt", "client-authentication+jwt"];
/// `typ` of an ID-JAG (§3.1).
const TYPE_OF_ID_JAG: &str = "oauth-id-jag+jwt";

/// What is to be remembered of an assertion that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertionId {
    /// `jti`
    pub id: String,
    /// From then on nobody takes it any more.
    pub until: SystemTime,
}

/// What a client signs to prove that it is the one, before that is known.
pub struct ClientAssertion<'a>(UnverifiedJwt<'a>);

impl<'a> ClientAssertion<'a> {
    /// The one that this text is, if it is a JWT.
    pub fn parse(text: &'a str) -> Option<Self> {
        UnverifiedJwt::parse(text.as_bytes()).map(Self)
    }

    /// Which client says that it signed it.
    pub fn client_id(&self) -> Option<&str> {
        self.0.issuer()
    }

    /// Which key is to have signed it.
    pub fn key_id(&self) -> Option<&str> {
        self.0.key_id()
    }

    /// Whether it would prove this client at the authorization server `audience`, if it is signed by a key of the client.
    pub fn check(&self, client_id: &str, audience: &str, now: SystemTime) -> Result<AssertionId, NotTaken> {
        let Self(token) = self;
        token.check_header(&ASYMMETRIC)?;
        if !TYPES_OF_CLIENT.contains(&&*token.typ()?) {
            return Err(NotTaken::Type);
        }
        if token.issuer() != Some(client_id) {
            return Err(NotTaken::Issuer);
        }
        if token.claims().get("sub").and_then(Value::as_str) != Some(client_id) {
            return Err(NotTaken::Subject);
        }
        once(token, audience, LONGEST_OF_CLIENT, LEEWAY, now)
    }

    /// The id of the key among these that signed it. One that names no key is signed by the only one of its kind.
    pub fn verify<'k>(&self, keys: &'k KeySet) -> Result<&'k str, NotTaken> {
        let Self(token) = self;
        let algorithm = token.check_header(&ASYMMETRIC)?;
        let id = if token.names_key() { Some(token.key_id().ok_or(NotTaken::UnknownKey)?) } else { None };
        let (id, key) = keys.named(id, algorithm).ok_or(NotTaken::UnknownKey)?;
        if token.is_signed_by(key, algorithm) { Ok(id) } else { Err(NotTaken::Signature) }
    }
}

/// What an issuer says of somebody for whom a client is to act, before that is known.
pub struct IdJag<'a>(UnverifiedJwt<'a>);

/// What it says, if it is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedIdJag {
    /// Who it is, and with which scope. Its audience is the place that the client is to use.
    pub token: VerifiedJwt,
    /// By which it is used once.
    pub id: AssertionId,
}

impl<'a> IdJag<'a> {
    /// The one that this text is, if it is a JWT.
    pub fn parse(text: &'a str) -> Option<Self> {
        UnverifiedJwt::parse(text.as_bytes()).map(Self)
    }

    /// Who says that they made it.
    pub fn issuer(&self) -> Option<&str> {
        self.0.issuer()
    }

    /// Which key is to have signed it.
    pub fn key_id(&self) -> Option<&str> {
        self.0.key_id()
    }

    /// Whether it would be taken from this client at the authorization server `audience`, if `issuer` has signed it.
    pub fn check(
        &self,
        issuer: &Issuer,
        client_id: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<AssertionId, NotTaken> {
        let Self(token) = self;
        token.check_header(&issuer.algorithms)?;
        if token.typ()? != TYPE_OF_ID_JAG {
            return Err(NotTaken::Type);
        }
        if token.issuer() != Some(&issuer.issuer) {
            return Err(NotTaken::Issuer);
        }
        let text = |claim| token.claims().get(claim).and_then(Value::as_str);
        if issuer.tenant_id.as_deref().is_some_and(|tenant| text("tid") != Some(tenant)) {
            return Err(NotTaken::Tenant);
        }
        if token.claims().contains_key(BOUND) {
            return Err(NotTaken::Type);
        }
        if text("client_id") != Some(client_id) {
            return Err(NotTaken::Client);
        }
        self.resource()?;
        token.subject(issuer)?;
        token.key_id().ok_or(NotTaken::UnknownKey)?;
        once(token, audience, LONGEST_OF_ISSUER, issuer.leeway, now)
    }

    /// What it says, if it is taken.
    pub fn verify(
        self,
        issuer: &Issuer,
        keys: &KeySet,
        client_id: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<VerifiedIdJag, NotTaken> {
        let id = self.check(issuer, client_id, audience, now)?;
        self.0.check_signature(keys, &issuer.algorithms)?;
        let audiences = vec![self.resource()?.to_owned()];
        let Self(token) = self;
        let token = VerifiedJwt {
            subject: token.subject(issuer)?.to_owned(),
            audiences,
            // Its own claim, whatever access tokens of the issuer call theirs: one that says nothing allows nothing.
            scope: Some(VerifiedJwt::scope_of(token.claims(), "scope").unwrap_or_default()),
            expires: token.end()?,
            claims: token.into_claims(),
        };
        Ok(VerifiedIdJag { token, id })
    }

    /// The place of the gateway that it is for. One for several is for none: the token that it brings has one.
    fn resource(&self) -> Result<&str, NotTaken> {
        match self.0.claims().get("resource") {
            Some(Value::String(one)) => Ok(one),
            Some(Value::Array(all)) if all.len() == 1 => all[0].as_str().ok_or(NotTaken::Resource),
            _ => Err(NotTaken::Resource),
        }
    }
}

/// What all assertions have alike: they are for this authorization server alone, for a short while, and have an id.
fn once(
    token: &UnverifiedJwt<'_>,
    audience: &str,
    longest: Duration,
    leeway: Duration,
    now: SystemTime,
) -> Result<AssertionId, NotTaken> {
    // One that is for others, too, could be used here by each of them.
    let is_for_this = match token.claims().get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.len() == 1 && all[0] == audience,
        _ => false,
    };
    if !is_for_this {
        return Err(NotTaken::OtherAudience);
    }
    let end = token.end()?;
    if end + leeway <= now {
        return Err(NotTaken::Expired);
    }
    if end > now + longest + leeway {
        return Err(NotTaken::Lifetime);
    }
    for claim in ["nbf", "iat"] {
        let since = token.time(claim).map_err(|NoTime| NotTaken::NotYet)?;
        if claim == "iat" && since.is_none() {
            return Err(NotTaken::Lifetime);
        }
        if since.is_some_and(|since| since > now + leeway) {
            return Err(NotTaken::NotYet);
        }
    }
    let id =
        token.claims().get("jti").and_then(Value::as_str).filter(|id| (1..=LONGEST_ID).contains(&id.len()));
    Ok(AssertionId { id: id.ok_or(NotTaken::NoId)?.to_owned(), until: end + leeway })
}
