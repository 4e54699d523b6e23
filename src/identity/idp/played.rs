//! Providers of the tests: their hosts answer as the test says.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use super::{Idp, IdpError, IdpLogin, LoginSecrets};
use crate::{
    config::{IdpConfig, IdpProvider},
    identity::foreign::{
        signer::{NOW, P256, RSA, key_set},
        source::{Ask, Asking, IssuerAnswer, NotFetched, Source},
    },
    secret::{Secret, SecretKey},
};

pub(super) const OIDC: &str = "https://login.corp.example";
pub(super) const TENANT: &str = "7c1b5f3e-0000-4000-8000-000000000001";
pub(super) const TOKENS: &str = "/token";
pub(super) const USER_INFO: &str = "/userinfo";
pub(super) const KEYS: &str = "/keys";
pub(super) const GITHUB_TOKENS: &str = "/login/oauth/access_token";
pub(super) const METADATA: &str = "/.well-known/openid-configuration";

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

/// What a host was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) url: Url,
    pub(super) form: HashMap<String, String>,
    pub(super) authorization: Option<String>,
}

/// All hosts of a provider.
#[derive(Default)]
pub(super) struct Hosts {
    /// By the end of their path.
    pub(super) answers: Mutex<HashMap<&'static str, Vec<Answer>>>,
    pub(super) asked: Mutex<Vec<Asked>>,
}

impl Source for Hosts {
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a> {
        let form = ask.text().unwrap_or_default();
        self.asked.lock().push(Asked {
            url: url.clone(),
            form: url::form_urlencoded::parse(form.as_bytes()).into_owned().collect(),
            authorization: ask.authorization.map(|value| value.to_str().unwrap().to_owned()),
        });
        let mut answers = self.answers.lock();
        let place =
            answers.keys().copied().filter(|place| url.path().ends_with(place)).max_by_key(|it| it.len());
        let of_place = place.and_then(|place| answers.get_mut(place));
        let answer = of_place.map(|all| if all.len() > 1 { all.remove(0) } else { all[0].clone() });
        Box::pin(async move {
            match answer.unwrap_or(Answer::Fails(NotFetched::Unreachable)) {
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
}

impl Hosts {
    pub(super) fn will(&self, place: &'static str, answer: impl Into<Answer>) {
        self.will_each(place, vec![answer.into()]);
    }

    /// These in turn, and the last one from then on.
    pub(super) fn will_each(&self, place: &'static str, answers: Vec<Answer>) {
        self.answers.lock().insert(place, answers);
    }

    pub(super) fn asked(&self, place: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked.url.path().ends_with(place)).cloned().collect()
    }
}

pub(super) fn config(provider: IdpProvider) -> IdpConfig {
    let issuer = match provider {
        IdpProvider::Google => IdpConfig::GOOGLE.into(),
        IdpProvider::Github => IdpConfig::GITHUB.into(),
        IdpProvider::Azure => IdpConfig::azure_issuer(TENANT),
        IdpProvider::Oidc => OIDC.into(),
    };
    IdpConfig {
        provider,
        issuer: issuer.into(),
        discovery_url: None,
        client_id: "gate".into(),
        client_secret: Some(Secret::new("s&cr:t".into())),
        redirect_uri: "https://gate.example/oauth/callback".into(),
        authorization_url: None,
        token_url: None,
        user_info_url: None,
        scopes: Vec::new(),
        tenant_id: (provider == IdpProvider::Azure).then(|| TENANT.into()),
        allowed_orgs: Vec::new(),
        allowed_domains: vec!["corp.example".into()],
        recheck: IdpConfig::RECHECK,
    }
}

pub(super) fn secrets() -> LoginSecrets {
    LoginSecrets::of(&SecretKey::new([7; 32]))
}

pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A provider, its hosts, and what its next ID token says.
pub(super) struct Played {
    pub(super) config: IdpConfig,
    pub(super) hosts: Arc<Hosts>,
    pub(super) header: Value,
    pub(super) claims: Value,
    pub(super) iss: Option<String>,
    pub(super) idp: Option<Idp>,
}

pub(super) fn metadata(issuer: &str) -> Value {
    let at = |path: &str| format!("https://at.idp.example{path}");
    json!({
        "issuer": issuer,
        "authorization_endpoint": at("/authorize?p=1"),
        "token_endpoint": at(TOKENS),
        "userinfo_endpoint": at(USER_INFO),
        "jwks_uri": at(KEYS),
        "scopes_supported": ["openid", "email", "offline_access"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "private_key_jwt"],
    })
}

impl Played {
    pub(super) fn new(provider: IdpProvider) -> Self {
        let config = config(provider);
        let hosts = Arc::new(Hosts::default());
        hosts.will(METADATA, metadata(&config.issuer));
        hosts.will(KEYS, Answer::Json(200, key_set(&[&RSA, &P256])));
        hosts.will(USER_INFO, json!({ "sub": "u1" }));
        let mut claims = json!({
            "iss": &*config.issuer, "sub": "u1", "aud": "gate", "iat": NOW - 1, "exp": NOW + 300,
            "nonce": secrets().nonce.expose(), "email": "Alice@Corp.example", "email_verified": true,
        });
        match provider {
            IdpProvider::Google => {
                claims["hd"] = json!("corp.example");
                claims["azp"] = json!("gate");
            }
            IdpProvider::Azure => {
                claims["tid"] = json!(TENANT);
                claims["oid"] = json!("o1");
                claims["preferred_username"] = json!("alice@corp.example");
                claims["email"] = json!("ceo@other.example");
            }
            _ => {}
        }
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": RSA.id() });
        Self { config, hosts, header, claims, iss: None, idp: None }
    }

    /// GitHub, where somebody is in two organizations.
    pub(super) fn github() -> Self {
        let mut played = Self::new(IdpProvider::Github);
        played.config.allowed_orgs = vec!["Corp".into()];
        let hosts = &played.hosts;
        hosts.will(
            GITHUB_TOKENS,
            json!({ "access_token": "gho_a", "token_type": "bearer", "scope": "read:user" }),
        );
        hosts.will(
            "/user",
            json!({ "id": 583_231, "login": "alice", "name": "Alice", "email": "any@evil.example" }),
        );
        hosts.will(
            "/user/emails",
            json!([
                { "email": "old@evil.example", "primary": false, "verified": true },
                { "email": "alice@corp.example", "primary": true, "verified": true, "visibility": null },
            ]),
        );
        hosts.will("/user/orgs", json!([{ "login": "corp", "id": 1 }, { "login": "other", "id": 2 }]));
        played
    }

    pub(super) fn idp(&mut self) -> Idp {
        let (config, hosts) = (Arc::new(self.config.clone()), Arc::clone(&self.hosts) as Arc<dyn Source>);
        self.idp.get_or_insert_with(|| Idp::new(config, hosts)).clone()
    }

    pub(super) fn id_token(&self) -> String {
        RSA.signed(&self.header.to_string(), &self.claims.to_string())
    }

    /// The answer of the token endpoint with this ID token.
    pub(super) fn gives(&self, id_token: &str) {
        let tokens = json!({
            "access_token": "at", "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt1", "id_token": id_token,
        });
        self.hosts.will(TOKENS, tokens);
    }

    pub(super) async fn finish(&mut self) -> Result<IdpLogin, IdpError> {
        let (idp, code) = (self.idp(), Secret::new("the code".into()));
        idp.finish(&code, self.iss.as_deref(), &secrets(), now()).await
    }

    /// What comes of a login with the ID token.
    pub(super) async fn login(&mut self) -> Result<IdpLogin, IdpError> {
        if self.config.provider != IdpProvider::Github {
            self.gives(&self.id_token());
        }
        self.finish().await
    }

    pub(super) async fn recheck(
        &mut self,
        keep: &str,
        subject: &str,
    ) -> (Result<IdpLogin, IdpError>, String) {
        match self.idp().ask_again(&Secret::new(keep.into())).await {
            Ok(asked) => {
                let next = asked.next().map_or(keep, Secret::expose).to_owned();
                (asked.login(subject, now()).await, next)
            }
            Err(why) => (Err(why), keep.to_owned()),
        }
    }

    pub(super) async fn begin(&mut self) -> (String, HashMap<String, String>) {
        let mut url = self.idp().begin(&secrets()).await.unwrap();
        let query = url.query_pairs().into_owned().collect();
        url.set_query(None);
        (url.into(), query)
    }
}

/// Sets a claim; takes it out, if it is null.
pub(super) fn claim(played: &mut Played, name: &str, value: Value) {
    match value {
        Value::Null => drop(played.claims.as_object_mut().unwrap().remove(name)),
        value => played.claims[name] = value,
    }
}

pub(super) fn kind(error: IdpError) -> &'static str {
    match error {
        IdpError::Refused(_) => "refused",
        IdpError::Unavailable(_) => "unavailable",
        IdpError::Broken(_) => "broken",
    }
}
