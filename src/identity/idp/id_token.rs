//! ID tokens: which are taken (OpenID Connect Core §3.1.3.7), and whom they name.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{error::IdpError, secrets::LoginSecrets};
use crate::{
    config::{IdpConfig, IdpProvider},
    identity::foreign::{
        jwt::{ASYMMETRIC, NotTaken, UnverifiedJwt},
        keys::FetchedKeys,
    },
};

/// Bytes of one at most. Entra writes up to 200 groups into one.
const LONGEST: usize = 32 << 10;
/// How far the provider's clock may be off.
const LEEWAY: Duration = Duration::from_secs(30);
/// What Keycloak's and Cognito's other tokens say that they are.
const OTHER_KINDS: [(&str, &[&str]); 2] =
    [("typ", &["Bearer", "Refresh", "Offline", "Logout"]), ("token_use", &["access"])];

/// An ID token of which nothing is known yet.
pub(super) struct UnverifiedIdToken<'a>(UnverifiedJwt<'a>);

/// What an ID token is held to.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) config: &'a IdpConfig,
    /// The issuer, as its metadata writes it.
    pub(super) issuer: &'a str,
    /// The login that it is for. `None`: it comes of a refresh, and may have no `nonce` (OpenID Connect Core §12.2).
    pub(super) login: Option<&'a LoginSecrets>,
    pub(super) now: SystemTime,
}

impl<'a> UnverifiedIdToken<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, IdpError> {
        let parsed = UnverifiedJwt::parse_within(token.as_bytes(), LONGEST);
        parsed.map(Self).ok_or(IdpError::Broken("its ID token is none"))
    }

    /// Which key is to have signed it.
    pub(super) fn key_id(&self) -> Result<&str, IdpError> {
        self.0.key_id().ok_or(IdpError::Broken(NotTaken::UnknownKey.name()))
    }

    /// Whether it would be taken if the provider had signed it: asked before a key is fetched for it.
    pub(super) fn check(&self, expected: Expected<'_>) -> Result<(), IdpError> {
        let Expected { config, issuer, login, now } = expected;
        let broken = |why| Err(IdpError::Broken(why));
        let typ = self.0.header_text("typ").unwrap_or("JWT").to_ascii_lowercase();
        let is_other =
            |(claim, values): (&str, &[&str])| self.text(claim).is_some_and(|is| values.contains(&is));
        // RFC 8417 §2.2: what is of events logs out.
        let is_id_token = matches!(&*typ, "jwt" | "application/jwt")
            && !OTHER_KINDS.into_iter().any(is_other)
            && !self.0.claims().contains_key("events");
        if !is_id_token {
            return broken("its token is of another kind than an ID token");
        }
        if self.text("iss") != Some(issuer) {
            return broken("iss of its ID token is another");
        }
        if !is_for(self.0.claims(), &config.client_id) {
            return broken("its ID token is for another client");
        }
        let time = |claim| self.0.time(claim).map_err(|_| IdpError::Broken("a time of its ID token is none"));
        match time("exp")? {
            Some(end) if now < end + LEEWAY => {}
            _ => return broken("its ID token has expired"),
        }
        if time("iat")?.is_none_or(|made| made > now + LEEWAY)
            || time("nbf")?.is_some_and(|since| since > now + LEEWAY)
        {
            return broken("its ID token is of a later time");
        }
        if login.is_some_and(|login| !self.text("nonce").is_some_and(|nonce| login.is_nonce(nonce))) {
            return broken("nonce of its ID token is another: it is of another login");
        }
        if config.provider == IdpProvider::Azure
            && (config.tenant_id.is_none() || self.text("tid") != config.tenant_id.as_deref())
        {
            return broken("its ID token is of another tenant");
        }
        self.subject(config.provider).map(drop)
    }

    /// Who it is, and all that the provider says of them, if it has signed it.
    pub(super) fn verify(
        self,
        keys: &FetchedKeys,
        expected: Expected<'_>,
    ) -> Result<(String, Map<String, Value>), IdpError> {
        self.check(expected)?;
        keys.check_signature(&self.0, &ASYMMETRIC).map_err(not_signed)?;
        let subject = self.subject(expected.config.provider)?.to_owned();
        Ok((subject, self.0.into_claims()))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.0.claims().get(claim).and_then(Value::as_str)
    }

    /// Who it is. `sub` of Entra is another one for each client, so somebody would be another one to a client that is made anew.
    fn subject(&self, provider: IdpProvider) -> Result<&str, IdpError> {
        let sub = self.text("sub").filter(|sub| is_subject(sub));
        let subject = match provider {
            IdpProvider::Azure => sub.and(self.text("oid").filter(|oid| is_subject(oid))),
            _ => sub,
        };
        subject.ok_or(IdpError::Broken("its ID token names nobody"))
    }
}

/// Why the provider has not signed it. Of a key that is not known, the provider may have begun to use it a moment ago: keys are asked
/// for again within half a minute.
pub(super) fn not_signed(why: NotTaken) -> IdpError {
    match why {
        NotTaken::UnknownKey => IdpError::Unavailable(why.name()),
        _ => IdpError::Broken(why.name()),
    }
}

/// Whether a subject is one: it is written in a log and in header fields. As long as OpenID Connect Core §2 lets it be.
pub(super) fn is_subject(text: &str) -> bool {
    (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Whether `aud` has the client, and `azp` says that it asked, where it is there, or where others are meant, too.
fn is_for(claims: &Map<String, Value>, client: &str) -> bool {
    let is_client = |value: &Value| value.as_str() == Some(client);
    let (is_audience, is_alone) = match claims.get("aud") {
        Some(Value::Array(all)) => {
            (all.iter().all(Value::is_string) && all.iter().any(is_client), all.len() == 1)
        }
        Some(one) => (is_client(one), true),
        None => (false, false),
    };
    is_audience && claims.get("azp").map_or(is_alone, is_client)
}
