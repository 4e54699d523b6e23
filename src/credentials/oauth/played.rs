//! Authorization servers of the tests: their hosts answer as the test says.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::*;
use crate::{
    clock::Clock,
    config::{ClientAuthWay, UpstreamOauth},
    identity::foreign::source::{Ask, Asking, Heading, IssuerAnswer, NotFetched, Source},
    secret::Secret,
};

pub(super) const SERVER: &str = "https://mcp.example/team/mcp";
pub(super) const ISSUER: &str = "https://login.example";
pub(super) const REDIRECT: &str = "https://gate.example/oauth/callback/db";
/// Where the server says what it is, if its challenge does not say otherwise.
pub(super) const OF_PATH: &str = "https://mcp.example/.well-known/oauth-protected-resource/team/mcp";
pub(super) const OF_ROOT: &str = "https://mcp.example/.well-known/oauth-protected-resource";
pub(super) const OF_ISSUER: &str = "https://login.example/.well-known/oauth-authorization-server";
pub(super) const TOKEN: &str = "https://login.example/token";
pub(super) const REGISTER: &str = "https://login.example/register";
/// Seconds of Unix at which the tests are.
pub(super) const NOW: u64 = 1_800_000_000;

/// What a host answers.
#[derive(Clone)]
pub(super) enum Answer {
    Json(u16, String),
    Fails(NotFetched),
    Never,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Json(200, value.to_string())
    }
}

impl From<(u16, Value)> for Answer {
    fn from((status, value): (u16, Value)) -> Self {
        Self::Json(status, value.to_string())
    }
}

impl From<NotFetched> for Answer {
    fn from(why: NotFetched) -> Self {
        Self::Fails(why)
    }
}

/// What was asked, and by whose word: that of the config, or of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) url: String,
    pub(super) is_public: bool,
    pub(super) text: String,
    pub(super) authorization: Option<String>,
}

impl Asked {
    /// What is in its form.
    pub(super) fn form(&self) -> HashMap<String, String> {
        form_urlencoded::parse(self.text.as_bytes()).into_owned().collect()
    }

    /// A field of its form.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        self.form().remove(name)
    }
}

/// All hosts.
#[derive(Default)]
pub(super) struct World {
    answers: Mutex<HashMap<String, Answer>>,
    pub(super) challenge: Mutex<Option<String>>,
    pub(super) asked: Mutex<Vec<Asked>>,
}

/// The hosts, as they are asked by one whose word may be trusted, or not.
struct Seen(Arc<World>, bool);

impl Source for Seen {
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a> {
        assert_eq!(most, 64 << 10);
        self.note(url, &ask);
        let answer = self.0.answers.lock().get(url.as_str()).cloned();
        Box::pin(async move {
            match answer.unwrap_or(Answer::Json(404, "{}".into())) {
                Answer::Json(status, text) if text.len() <= most => Ok(IssuerAnswer {
                    status: StatusCode::from_u16(status).unwrap(),
                    body: text.into(),
                    fresh_for: None,
                }),
                Answer::Json(..) => Err(NotFetched::NotADocument),
                Answer::Fails(why) => Err(why),
                Answer::Never => std::future::pending().await,
            }
        })
    }

    fn head<'a>(&'a self, url: &'a Url, ask: Ask) -> Heading<'a> {
        self.note(url, &ask);
        let challenge = self.0.challenge.lock().clone();
        let answer = self.0.answers.lock().get(url.as_str()).cloned();
        Box::pin(async move {
            let mut headers = HeaderMap::new();
            match (answer, challenge) {
                (Some(Answer::Fails(why)), _) => Err(why),
                (Some(Answer::Never), _) => std::future::pending().await,
                (Some(Answer::Json(status, _)), _) => Ok((StatusCode::from_u16(status).unwrap(), headers)),
                (None, Some(challenge)) => {
                    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::try_from(challenge).unwrap());
                    Ok((StatusCode::UNAUTHORIZED, headers))
                }
                (None, None) => Ok((StatusCode::NOT_FOUND, headers)),
            }
        })
    }
}

impl Seen {
    fn note(&self, url: &Url, ask: &Ask) {
        assert!(ask.authorization.as_ref().is_none_or(HeaderValue::is_sensitive));
        self.0.asked.lock().push(Asked {
            url: url.to_string(),
            is_public: self.1,
            text: ask.text().unwrap_or_default().to_owned(),
            authorization: ask.authorization.as_ref().map(|value| value.to_str().unwrap().to_owned()),
        });
    }
}

impl World {
    pub(super) fn has(&self, url: &str, answer: impl Into<Answer>) {
        self.answers.lock().insert(url.to_owned(), answer.into());
    }

    pub(super) fn asked(&self, url: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked.url == url).cloned().collect()
    }

    /// The last that was asked there.
    pub(super) fn last(&self, url: &str) -> Asked {
        self.asked(url).pop().unwrap_or_else(|| panic!("nothing was asked at {url}"))
    }

    /// Where something was asked, in this order.
    pub(super) fn places(&self) -> Vec<String> {
        self.asked.lock().iter().map(|asked| asked.url.clone()).collect()
    }
}

/// What the authorization server says of itself, with `more`, in which null takes something out.
pub(super) fn metadata(more: Value) -> Value {
    let mut metadata = json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://login.example/authorize?p=1",
        "token_endpoint": TOKEN,
        "registration_endpoint": REGISTER,
        "revocation_endpoint": "https://login.example/revoke",
        "code_challenge_methods_supported": ["plain", "S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "none", "tls_client_auth"],
        "scopes_supported": ["read", "write"],
        "authorization_response_iss_parameter_supported": true,
    });
    for (name, value) in more.as_object().unwrap() {
        metadata[name] = value.clone();
    }
    metadata.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    metadata
}

pub(super) fn resource(more: Value) -> Value {
    let mut document =
        json!({ "resource": SERVER, "authorization_servers": [ISSUER, "https://other.example"] });
    for (name, value) in more.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

/// A config that says nothing.
pub(super) fn config() -> UpstreamOauth {
    UpstreamOauth::default()
}

/// A server with its authorization server, and the gateway in front of it.
pub(super) struct Played {
    pub(super) world: Arc<World>,
    pub(super) outgoing: Outgoing,
    pub(super) config: UpstreamOauth,
    pub(super) purpose: Purpose,
    pub(super) server: Url,
}

impl Played {
    /// All is as it should be.
    pub(super) fn new() -> Self {
        let played = Self::bare();
        played.world.has(OF_PATH, resource(json!({})));
        played.world.has(OF_ISSUER, metadata(json!({})));
        played
    }

    /// Nobody says anything.
    pub(super) fn bare() -> Self {
        let world = Arc::<World>::default();
        let seen = |is_public| Arc::new(Seen(Arc::clone(&world), is_public)) as Arc<dyn Source>;
        let clock = Arc::new(Clock::by(|| SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)));
        let outgoing = Outgoing::by(seen(false), seen(true), clock);
        let server = SERVER.parse().unwrap();
        Self { world, outgoing, config: config(), purpose: Purpose::Code, server }
    }

    pub(super) async fn discover(&self) -> Result<Discovered, OauthError> {
        discover(&self.outgoing, &self.config, self.purpose, &self.server, None).await
    }

    pub(super) async fn client(&self) -> Result<UpstreamClient, OauthError> {
        let discovered = self.discover().await.unwrap();
        client(&self.outgoing, &self.config, &discovered, REDIRECT, None, "the gate").await
    }

    /// What comes of a code, where the token endpoint answers so.
    pub(super) async fn redeem(&self, answer: impl Into<Answer>) -> Result<TokenAnswer, OauthError> {
        self.world.has(TOKEN, answer);
        let discovered = self.discover().await.unwrap();
        let (code, verifier) = (secret("the code"), secret("the verifier"));
        redeem(&self.outgoing, &discovered, &confidential(), &code, &verifier, REDIRECT, Some(SERVER)).await
    }

    /// What comes of a refresh token, where the token endpoint answers so.
    pub(super) async fn refresh(&self, answer: impl Into<Answer>) -> Result<TokenAnswer, OauthError> {
        self.world.has(TOKEN, answer);
        let discovered = self.discover().await.unwrap();
        let scopes = ["read".to_owned()];
        refresh(&self.outgoing, &discovered, &confidential(), &secret("rt1"), &scopes, Some(SERVER)).await
    }
}

pub(super) fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

/// A client with a secret.
pub(super) fn confidential() -> UpstreamClient {
    UpstreamClient {
        client_id: "gate".into(),
        way: ClientAuthWay::Basic,
        secret: Some(secret("s&cr:t")),
        key: None,
        issuer: ISSUER.into(),
        is_registered: false,
        redirect_uri: None,
        ends: None,
    }
}

/// The answer of a token endpoint.
pub(super) fn tokens() -> Value {
    json!({ "access_token": "at1", "token_type": "bearer", "expires_in": 300, "refresh_token": "rt2" })
}
