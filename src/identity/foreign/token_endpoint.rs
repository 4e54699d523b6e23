//! A token endpoint, as the gateway asks it: an identity provider's, or an authorization server's (RFC 6749 §3.2, §5).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use url::form_urlencoded::{self, Serializer};
use zeroize::Zeroizing;

use super::source::IssuerAnswer;
use crate::secret::Secret;

/// A form for it, with room for all that may be in it, so that it is not moved, and left behind, as it grows.
pub fn form() -> Serializer<'static, String> {
    Serializer::new(String::with_capacity(32 << 10))
}

/// `client_secret_basic` (RFC 6749 §2.3.1): both are encoded as in a form.
pub fn basic(id: &str, secret: &Secret) -> Option<HeaderValue> {
    let encoded =
        |text: &str| Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>());
    let both = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret.expose())));
    sensitive(&Zeroizing::new(format!("Basic {}", STANDARD.encode(&*both))))
}

/// The field by which an access token asks.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {token}")))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What it gives (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3, RFC 8693 §2.2.1).
#[derive(Deserialize)]
pub struct TokenResponse {
    access_token: Option<Zeroizing<String>>,
    /// `Bearer`, mostly.
    pub token_type: Option<String>,
    /// Who somebody is.
    pub id_token: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    /// What it is good for, as a list with blanks between. Without one, for what was asked.
    pub scope: Option<String>,
    /// What `access_token` is, where it was exchanged.
    pub issued_token_type: Option<String>,
    error: Option<String>,
    /// Numbers for an error, as Microsoft Entra gives them.
    #[serde(default)]
    error_codes: Vec<u64>,
}

/// Some write a number as text. What is neither says nothing.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Whole(u64),
        Fraction(f64),
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Whole(seconds) => Some(seconds),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        Written::Fraction(seconds) => Some(seconds as u64),
        Written::Text(text) => text.trim().parse().ok(),
        Written::Other(_) => None,
    })
}

/// Why it gives nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum NoTokens {
    /// It refuses. Of the other side's text, only words that are known may be looked for.
    Refused {
        /// The code (RFC 6749 §5.2).
        error: String,
        /// Numbers beside it.
        codes: Vec<u64>,
    },
    /// It says that it does not know the client by status alone.
    Unauthorized,
    /// It says no, and not why.
    Unsaid,
    /// It is no answer.
    Unreadable,
}

impl TokenResponse {
    /// What is in this answer. GitHub refuses with 200.
    pub fn of(answer: &IssuerAnswer) -> Result<Self, NoTokens> {
        let parsed: Result<Self, _> = serde_json::from_slice(&answer.body);
        match (answer.status, parsed) {
            (_, Ok(Self { error: Some(error), error_codes: codes, .. })) => {
                Err(NoTokens::Refused { error, codes })
            }
            (StatusCode::OK, Ok(tokens)) => Ok(tokens),
            (StatusCode::OK, Err(_)) => Err(NoTokens::Unreadable),
            (StatusCode::UNAUTHORIZED, _) => Err(NoTokens::Unauthorized),
            _ => Err(NoTokens::Unsaid),
        }
    }

    /// What the endpoint's answer is for.
    pub fn access(&self) -> Option<&str> {
        given(&self.access_token)
    }

    /// What it may be asked by for new ones.
    pub fn refresh(&self) -> Option<Secret> {
        given(&self.refresh_token).map(|token| Secret::new(token.to_owned()))
    }

    /// Whether it is for the field `Authorization: Bearer`.
    pub fn is_bearer(&self) -> bool {
        self.token_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    }

    /// How long the access token is good, if it says so.
    pub fn good_for(&self) -> Option<Duration> {
        /// Nobody means more: ten years.
        const MOST: u64 = 10 * 365 * 24 * 60 * 60;
        self.expires_in.map(|seconds| Duration::from_secs(seconds.min(MOST)))
    }
}

fn given(token: &Option<Zeroizing<String>>) -> Option<&str> {
    token.as_deref().map(String::as_str).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &'static str) -> Result<TokenResponse, NoTokens> {
        let status = StatusCode::from_u16(status).unwrap();
        TokenResponse::of(&IssuerAnswer { status, body: body.into(), fresh_for: None })
    }

    #[test]
    fn how_long_a_token_is_good_is_read_in_each_way_that_it_is_written() {
        for (written, seconds) in [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("3599.7", Some(3599)),
            ("0", Some(0)),
            ("99999999999999", Some(315_360_000)),
            ("-1", Some(0)),
            ("\"soon\"", None),
            ("null", None),
            ("[]", None),
        ] {
            let body =
                Box::leak(format!(r#"{{"access_token":"a","expires_in":{written}}}"#).into_boxed_str());
            let found = of(200, body).ok().unwrap().good_for();
            assert_eq!(found.map(|it| it.as_secs()), seconds, "{written}");
        }
        assert_eq!(of(200, r#"{"access_token":"a"}"#).ok().unwrap().good_for(), None);
    }

    #[test]
    fn a_refusal_is_one_whatever_its_status_and_an_empty_token_is_none() {
        let refused = |error: &str| Some(NoTokens::Refused { error: error.into(), codes: Vec::new() });
        assert_eq!(of(400, r#"{"error":"invalid_grant"}"#).err(), refused("invalid_grant"));
        assert_eq!(of(200, r#"{"error":"x","access_token":"a"}"#).err(), refused("x"));
        assert_eq!(of(401, "{}").err(), Some(NoTokens::Unauthorized));
        assert_eq!(of(403, r#"{"access_token":"a"}"#).err(), Some(NoTokens::Unsaid));
        assert_eq!(of(200, "[]").err(), Some(NoTokens::Unreadable));
        let codes = vec![50_013, 7_000_114];
        let entra = of(400, r#"{"error":"invalid_grant","error_codes":[50013,7000114]}"#);
        assert_eq!(entra.err(), Some(NoTokens::Refused { error: "invalid_grant".into(), codes }));
        let empty = of(200, r#"{"access_token":"","refresh_token":"","token_type":"bearer"}"#).ok().unwrap();
        assert!(empty.access().is_none() && empty.refresh().is_none() && empty.is_bearer());
    }

    #[test]
    fn fields_that_prove_something_are_never_shown() {
        let basic = basic("gate way", &Secret::new("s%c".into())).unwrap();
        assert_eq!(basic.to_str().unwrap(), "Basic Z2F0ZSt3YXk6cyUyNWM=");
        let bearer = bearer("at").unwrap();
        assert!(basic.is_sensitive() && bearer.is_sensitive() && bearer == "Bearer at");
        assert!(super::bearer("a\nb").is_none());
    }
}
