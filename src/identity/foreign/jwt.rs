//! JSON Web Tokens of an issuer: which are taken, and what they say (RFC 7519, RFC 8725, RFC 9068).
//!
//! Whoever sends a token has chosen every byte of it. So its algorithm is one that the config lists and of the kind of the key,
//! the key is one that the issuer publishes under its id, and a token that brings a key (`jwk`, `x5c`), says where one is (`jku`,
//! `x5u`), or wants something understood that is not (`crit`, `b64`, `zip`) is none. What costs nothing is looked at before the
//! signature is, and before keys are fetched for it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{jwks::KeySet, verified::VerifiedJwt};
use crate::config::Issuer;

/// Bytes of a token at most.
pub const LONGEST: usize = 8 << 10;
/// Characters of a subject at most (OpenID Connect Core §2).
const LONGEST_SUBJECT: usize = 255;
/// Members of a header that bring a key, say where one is, or change how the token is read.
const NOT_IN_HEADER: [&str; 7] = ["crit", "b64", "zip", "jwk", "jku", "x5u", "x5c"];
/// Claims of tokens that tell a client who logged in (OpenID Connect Core §2, §3.3.2.11; FAPI 1.0) or out (RFC 8417).
pub(super) const NOT_IN_ACCESS_TOKEN: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "events"];
/// The same, as Keycloak and Amazon Cognito say it.
pub(super) const ID_TOKEN: [(&str, &str); 2] = [("typ", "ID"), ("token_use", "id")];

/// Algorithms of signatures by which nobody who can check one can make one: none has a shared secret.
pub const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What a token has that is bound to a key (RFC 7800, RFC 8705, RFC 9449): it is for whoever proves to have that, which nobody does here.
pub(super) const BOUND: &str = "cnf";

/// For how many a token may be: each costs memory as long as it is known.
const MOST_AUDIENCES: usize = 64;
/// Farther than any clock goes.
pub(super) const FARTHEST: Duration = Duration::from_secs(1 << 40);

/// Why a token is not taken. It is for the log: its sender only hears that it is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It is for another kind of thing, such as a login.
    Type,
    /// It brings a key, or wants something understood that is not.
    Header,
    /// Its algorithm is none that is taken.
    Algorithm,
    /// It names no key, or none of the issuer's of that kind.
    UnknownKey,
    /// It is not signed by that key.
    Signature,
    /// It is somebody else's.
    Issuer,
    /// It says who logged in where, and not who may call what.
    IdToken,
    /// It has no end, or that is over.
    Expired,
    /// It begins later, or was made later.
    NotYet,
    /// It is of another tenant.
    Tenant,
    /// It names nobody.
    Subject,
    /// It says for nobody that it is for them.
    Audience,
    /// Its issuer, which was asked, says so.
    Inactive,
    /// It is for somebody else.
    OtherAudience,
    /// It is good for longer than it may be.
    Lifetime,
    /// It has no id, by which it would be known that it was used.
    NoId,
    /// It is another client's.
    Client,
    /// It is for no place of this gateway.
    Resource,
}

impl NotTaken {
    /// As the log calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "its typ is none of the issuer's",
            Self::Header => "its header brings a key, or an extension",
            Self::Algorithm => "its alg is none of the issuer's",
            Self::UnknownKey => "its kid is none of the issuer's keys",
            Self::Signature => "its signature is wrong",
            Self::Issuer => "its iss is another",
            Self::IdToken => "it is an ID token",
            Self::Expired => "it has expired",
            Self::NotYet => "it is not valid yet",
            Self::Tenant => "its tid is another tenant",
            Self::Subject => "it names nobody",
            Self::Audience => "it has no aud",
            Self::Inactive => "its issuer says that it is not active",
            Self::OtherAudience => "its aud is not the issuer of this gateway alone",
            Self::Lifetime => "it has no iat, or ends too far ahead",
            Self::NoId => "it has no jti",
            Self::Client => "its client_id is another client",
            Self::Resource => "its resource is no place of this gateway",
        }
    }
}

/// A JSON object. One that has a member twice is none: of two readers, each could take another one (RFC 7515 §4, RFC 7519 §4).
pub(super) struct Members(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

impl Members {
    /// Those that a part of a token is. What one reader of base64 takes and another does not is none: padding, bits after the last
    /// byte, the other alphabet.
    fn of(part: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Who it is about.
    pub(super) fn subject(&self, issuer: &Issuer) -> Result<&str, NotTaken> {
        let subject = self.text(&issuer.principal_claim).ok_or(NotTaken::Subject)?;
        // It is written in a log and in header fields.
        let is_name = (1..=LONGEST_SUBJECT).contains(&subject.chars().count())
            && !subject.chars().any(char::is_control);
        is_name.then_some(subject).ok_or(NotTaken::Subject)
    }

    /// For whom it is.
    pub(super) fn audiences(&self) -> Result<Vec<String>, NotTaken> {
        let all = match self.0.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => texts(all).ok_or(NotTaken::Audience)?,
            _ => Vec::new(),
        };
        let is_for_somebody =
            (1..=MOST_AUDIENCES).contains(&all.len()) && all.iter().all(|one| !one.is_empty());
        is_for_somebody.then_some(all).ok_or(NotTaken::Audience)
    }

    /// The words of its scope. What has none opens nothing.
    pub(super) fn scope(&self, issuer: &Issuer) -> Option<Vec<String>> {
        let claim = issuer.scope_claim.as_deref()?;
        Some(VerifiedJwt::scope_of(&self.0, claim).unwrap_or_default())
    }

    /// The moment of a claim, if it is there. One that is no number is no moment, and not none.
    pub(super) fn time(&self, claim: &str) -> Result<Option<SystemTime>, NoTime> {
        let Some(value) = self.0.get(claim) else { return Ok(None) };
        // RFC 7519 §2: it may have a fraction.
        let seconds = value.as_f64().ok_or(NoTime)?;
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| NoTime)?;
        Ok(Some(SystemTime::UNIX_EPOCH + since.min(FARTHEST)))
    }
}

/// A token of which nothing is known yet.
pub struct UnverifiedJwt<'a> {
    header: Members,
    claims: Members,
    /// What is signed.
    message: &'a str,
    signature: &'a str,
}

impl<'a> UnverifiedJwt<'a> {
    /// Whether a token begins as each of them does, with a JSON object in base64. Nothing else is said of it.
    pub fn is_like(token: &[u8]) -> bool {
        // `{` with a printable character behind it, or with a line's end.
        (token.starts_with(b"ey") || token.starts_with(b"ew")) && token.len() <= LONGEST
    }

    /// The token that this text is, if it is one: three parts, the first two of them JSON objects.
    pub fn parse(token: &'a [u8]) -> Option<Self> {
        Self::parse_within(token, LONGEST)
    }

    /// The same, of so many bytes at most.
    pub(in crate::identity) fn parse_within(token: &'a [u8], most: usize) -> Option<Self> {
        let text = str::from_utf8(token).ok().filter(|text| text.len() <= most)?;
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        // Also where there are more parts: a point is no character of base64.
        Some(Self { header: Members::of(header)?, claims: Members::of(claims)?, message, signature })
    }

    /// Who says that they made it.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// Which key is to have signed it. A token that names none is not taken, not even of an issuer with one key: which one is meant
    /// would then hang on how many there are at the moment.
    pub fn key_id(&self) -> Option<&str> {
        self.header.text("kid").filter(|id| !id.is_empty())
    }

    /// Whether it would be taken if its issuer had signed it: asked before a key is fetched for it.
    pub fn check(&self, issuer: &Issuer, now: SystemTime) -> Result<(), NotTaken> {
        self.check_header(&issuer.algorithms)?;
        let typ = self.typ()?;
        if typ.is_empty() || !issuer.types.contains(&typ) {
            return Err(NotTaken::Type);
        }
        if self.issuer() != Some(&issuer.issuer) {
            return Err(NotTaken::Issuer);
        }
        if self.claims.has(BOUND) {
            return Err(NotTaken::Type);
        }
        if NOT_IN_ACCESS_TOKEN.iter().any(|claim| self.claims.has(claim))
            || ID_TOKEN.iter().any(|(claim, value)| self.claims.text(claim) == Some(value))
        {
            return Err(NotTaken::IdToken);
        }
        if issuer.tenant_id.as_deref().is_some_and(|tenant| self.claims.text("tid") != Some(tenant)) {
            return Err(NotTaken::Tenant);
        }
        if self.end()? + issuer.leeway <= now {
            return Err(NotTaken::Expired);
        }
        for claim in ["nbf", "iat"] {
            let since = self.claims.time(claim).map_err(|NoTime| NotTaken::NotYet)?;
            if since.is_some_and(|since| since > now + issuer.leeway) {
                return Err(NotTaken::NotYet);
            }
        }
        self.claims.subject(issuer)?;
        self.claims.audiences()?;
        self.key_id().map(drop).ok_or(NotTaken::UnknownKey)
    }

    /// What its issuer says, if it is taken.
    pub fn verify(self, issuer: &Issuer, keys: &KeySet, now: SystemTime) -> Result<VerifiedJwt, NotTaken> {
        self.check(issuer, now)?;
        self.check_signature(keys, &issuer.algorithms)?;
        Ok(VerifiedJwt {
            subject: self.claims.subject(issuer)?.to_owned(),
            audiences: self.claims.audiences()?,
            scope: self.claims.scope(issuer),
            expires: self.end()?,
            claims: self.claims.0,
        })
    }

    /// Whether one of these keys has signed it, by one of these algorithms. What it says is not looked at.
    pub(in crate::identity) fn check_signature(
        &self,
        keys: &KeySet,
        algorithms: &[Algorithm],
    ) -> Result<(), NotTaken> {
        let algorithm = self.check_header(algorithms)?;
        let key = self.key_id().and_then(|id| keys.find(id, algorithm)).ok_or(NotTaken::UnknownKey)?;
        self.is_signed_by(key, algorithm).then_some(()).ok_or(NotTaken::Signature)
    }

    /// The algorithm of its signature, if it is one of these, and the header wants nothing else.
    pub(super) fn check_header(&self, algorithms: &[Algorithm]) -> Result<Algorithm, NotTaken> {
        let named = self.header.text("alg").and_then(|name| name.parse().ok());
        let algorithm =
            named.filter(|algorithm| algorithms.contains(algorithm)).ok_or(NotTaken::Algorithm)?;
        if NOT_IN_HEADER.iter().any(|member| self.header.has(member)) {
            return Err(NotTaken::Header);
        }
        Ok(algorithm)
    }

    /// A text of its header.
    pub(in crate::identity) fn header_text(&self, member: &str) -> Option<&str> {
        self.header.text(member)
    }

    /// What it says.
    pub(in crate::identity) fn claims(&self) -> &Map<String, Value> {
        &self.claims.0
    }

    /// The same, for one who keeps it.
    pub(in crate::identity) fn into_claims(self) -> Map<String, Value> {
        self.claims.0
    }

    /// `typ`, as it is compared (RFC 7515 §4.1.9): empty, if it is not there.
    pub(super) fn typ(&self) -> Result<String, NotTaken> {
        let typ = match self.header.0.get("typ") {
            None => String::new(),
            Some(typ) => typ.as_str().ok_or(NotTaken::Type)?.to_ascii_lowercase(),
        };
        Ok(typ.strip_prefix("application/").unwrap_or(&typ).to_owned())
    }

    /// Whether this key has signed it.
    pub(super) fn is_signed_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        crypto::verify(self.signature, self.message.as_bytes(), key, algorithm).unwrap_or(false)
    }

    /// Whether it has a `kid`, of whatever kind.
    pub(super) fn names_key(&self) -> bool {
        self.header.has("kid")
    }

    /// Who it is about.
    pub(super) fn subject(&self, issuer: &Issuer) -> Result<&str, NotTaken> {
        self.claims.subject(issuer)
    }

    pub(super) fn end(&self) -> Result<SystemTime, NotTaken> {
        self.time("exp").ok().flatten().ok_or(NotTaken::Expired)
    }

    /// The moment of a claim, if it is there. One that is no number is no moment, and not none.
    pub(in crate::identity) fn time(&self, claim: &str) -> Result<Option<SystemTime>, NoTime> {
        self.claims.time(claim)
    }
}

/// What is there is no moment.
pub(in crate::identity) struct NoTime;

/// All of a list, if they are texts.
fn texts(all: &[Value]) -> Option<Vec<String>> {
    all.iter().map(|one| one.as_str().map(str::to_owned)).collect()
}
