//! Logins by providers whose hosts answer as the test says.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use http::StatusCode;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::{task::yield_now, time::advance};
use url::Url;

use super::{Idp, IdpError, IdpLogin, KeptClaims, LoginSecrets};
use crate::{
    config::{Assignment, CallerLimits, Condition, IdpConfig, IdpProvider},
    identity::foreign::{
        signer::{NOW, OTHER_RSA, P256, RSA, Signer, base64, key_set},
        source::{Ask, Asking, IssuerAnswer, NotFetched, Source},
    },
    secret::{Secret, SecretKey},
};

const OIDC: &str = "https://login.corp.example";
const TENANT: &str = "7c1b5f3e-0000-4000-8000-000000000001";
const TOKENS: &str = "/token";
const USER_INFO: &str = "/userinfo";
const KEYS: &str = "/keys";
const GITHUB_TOKENS: &str = "/login/oauth/access_token";
const METADATA: &str = "/.well-known/openid-configuration";

/// What a host answers.
#[derive(Clone)]
enum Answer {
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
struct Asked {
    url: Url,
    form: HashMap<String, String>,
    authorization: Option<String>,
}

/// All hosts of a provider.
#[derive(Default)]
struct Hosts {
    /// By the end of their path.
    answers: Mutex<HashMap<&'static str, Vec<Answer>>>,
    asked: Mutex<Vec<Asked>>,
}

impl Source for Hosts {
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a> {
        let form = ask.form.as_deref().map(String::as_str).unwrap_or_default();
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
    fn will(&self, place: &'static str, answer: impl Into<Answer>) {
        self.will_each(place, vec![answer.into()]);
    }

    /// These in turn, and the last one from then on.
    fn will_each(&self, place: &'static str, answers: Vec<Answer>) {
        self.answers.lock().insert(place, answers);
    }

    fn asked(&self, place: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked.url.path().ends_with(place)).cloned().collect()
    }
}

fn config(provider: IdpProvider) -> IdpConfig {
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

fn secrets() -> LoginSecrets {
    LoginSecrets::of(&SecretKey::new([7; 32]))
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A provider, its hosts, and what its next ID token says.
struct Played {
    config: IdpConfig,
    hosts: Arc<Hosts>,
    header: Value,
    claims: Value,
    iss: Option<String>,
    idp: Option<Idp>,
}

fn metadata(issuer: &str) -> Value {
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
    fn new(provider: IdpProvider) -> Self {
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
    fn github() -> Self {
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

    fn idp(&mut self) -> Idp {
        let (config, hosts) = (Arc::new(self.config.clone()), Arc::clone(&self.hosts) as Arc<dyn Source>);
        self.idp.get_or_insert_with(|| Idp::new(config, hosts)).clone()
    }

    fn id_token(&self) -> String {
        RSA.signed(&self.header.to_string(), &self.claims.to_string())
    }

    /// The answer of the token endpoint with this ID token.
    fn gives(&self, id_token: &str) {
        let tokens = json!({
            "access_token": "at", "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt1", "id_token": id_token,
        });
        self.hosts.will(TOKENS, tokens);
    }

    async fn finish(&mut self) -> Result<IdpLogin, IdpError> {
        let (idp, code) = (self.idp(), Secret::new("the code".into()));
        idp.finish(&code, self.iss.as_deref(), &secrets(), now()).await
    }

    /// What comes of a login with the ID token.
    async fn login(&mut self) -> Result<IdpLogin, IdpError> {
        if self.config.provider != IdpProvider::Github {
            self.gives(&self.id_token());
        }
        self.finish().await
    }

    async fn recheck(&mut self, keep: &str, subject: &str) -> (Result<IdpLogin, IdpError>, String) {
        let mut keep = Secret::new(keep.into());
        let login = self.idp().recheck(&mut keep, subject, now()).await;
        (login, keep.expose().to_owned())
    }

    async fn begin(&mut self) -> (String, HashMap<String, String>) {
        let mut url = self.idp().begin(&secrets()).await.unwrap();
        let query = url.query_pairs().into_owned().collect();
        url.set_query(None);
        (url.into(), query)
    }
}

/// What each request for a code has, beside this.
fn asks(query: &HashMap<String, String>, more: &[(&str, &str)]) {
    let secrets = secrets();
    let challenge = secrets.challenge();
    let mut expected: HashMap<_, _> = [
        ("response_type", "code"),
        ("client_id", "gate"),
        ("redirect_uri", "https://gate.example/oauth/callback"),
        ("state", secrets.state.expose()),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]
    .into_iter()
    .chain(more.iter().copied())
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if query.contains_key("nonce") {
        expected.insert("nonce".into(), secrets.nonce.expose().into());
    }
    assert_eq!(query, &expected);
    assert!(query.values().all(|value| value != secrets.verifier.expose()));
}

fn kept(login: &IdpLogin) -> Option<&str> {
    login.keep.as_ref().map(Secret::expose)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn somebody_logs_in_by_google_and_google_is_asked_about_them_again() {
    let mut google = Played::new(IdpProvider::Google);
    let (url, query) = google.begin().await;
    assert_eq!(url, "https://at.idp.example/authorize");
    asks(
        &query,
        &[
            ("p", "1"),
            ("scope", "openid email profile"),
            ("nonce", ""),
            ("access_type", "offline"),
            ("prompt", "consent"),
            ("hd", "corp.example"),
        ],
    );
    google.iss = Some(IdpConfig::GOOGLE.into());
    let login = google.login().await.unwrap();
    assert_eq!((&*login.subject, &*login.display, kept(&login)), ("u1", "alice@corp.example", Some("rt1")));
    assert_eq!(
        (&login.claims["hd"], &login.claims["email"]),
        (&json!("corp.example"), &json!("alice@corp.example"))
    );
    let asked = &google.hosts.asked(TOKENS)[0];
    let form = |name: &str| asked.form.get(name).map(String::as_str);
    assert_eq!(form("grant_type"), Some("authorization_code"));
    assert_eq!((form("code"), form("redirect_uri")), (Some("the code"), Some(&*google.config.redirect_uri)));
    assert_eq!(form("code_verifier"), Some(secrets().verifier.expose()));
    // `gate:s%26cr%3At`
    assert_eq!(asked.authorization.as_deref(), Some("Basic Z2F0ZTpzJTI2Y3IlM0F0"));
    assert_eq!((form("client_secret"), form("client_id")), (None, None));
    assert!(google.hosts.asked(USER_INFO).is_empty(), "all is in the ID token");
    assert_eq!(
        google.hosts.asked(METADATA)[0].url.as_str(),
        "https://accounts.google.com/.well-known/openid-configuration"
    );

    google.claims.as_object_mut().unwrap().remove("nonce");
    let tokens = json!({ "access_token": "at2", "token_type": "Bearer", "id_token": google.id_token() });
    google.hosts.will(TOKENS, tokens);
    let (login, keep) = google.recheck("rt1", "u1").await;
    assert_eq!((kept(&login.unwrap()), &*keep), (Some("rt1"), "rt1"), "it gives no new one");
    let asked = google.hosts.asked(TOKENS).pop().unwrap();
    assert_eq!((&*asked.form["grant_type"], &*asked.form["refresh_token"]), ("refresh_token", "rt1"));
    assert_eq!(google.hosts.asked(METADATA).len(), 1, "and is asked once what it says of itself");
    assert_eq!(google.hosts.asked(KEYS).len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn somebody_of_a_tenant_of_entra_is_who_its_directory_says() {
    let mut entra = Played::new(IdpProvider::Azure);
    entra.claims["groups"] = json!(["g1", "g2"]);
    let (_, query) = entra.begin().await;
    asks(&query, &[("p", "1"), ("scope", "openid email profile offline_access"), ("nonce", "")]);
    let login = entra.login().await.unwrap();
    assert_eq!((&*login.subject, &*login.display), ("o1", "alice@corp.example"));
    assert_eq!(
        (&login.claims["email"], &login.claims["groups"][1]),
        (&json!("alice@corp.example"), &json!("g2"))
    );
    let (login, keep) = entra.recheck("rt0", "o1").await;
    assert_eq!((login.unwrap().subject, keep), ("o1".into(), "rt1".into()));
    entra.hosts.will(TOKENS, json!({ "access_token": "at", "refresh_token": "rt2" }));
    let (login, keep) = entra.recheck("rt1", "o1").await;
    assert_eq!(login, Err(IdpError::Broken("it gave no ID token")));
    assert_eq!(keep, "rt2", "which it has to be asked by the next time, all the same");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_any_other_provider_userinfo_says_what_the_id_token_does_not() {
    let mut oidc = Played::new(IdpProvider::Oidc);
    let (_, query) = oidc.begin().await;
    let scope = "openid email profile offline_access";
    asks(&query, &[("p", "1"), ("scope", scope), ("nonce", ""), ("prompt", "consent")]);
    let claims = oidc.claims.as_object_mut().unwrap();
    claims.remove("email");
    claims.insert("email_verified".into(), json!(true));
    oidc.hosts.will(
        USER_INFO,
        json!({ "sub": "u1", "email": "alice@corp.example", "email_verified": true, "groups": ["eng"], "iss": "x" }),
    );
    let login = oidc.login().await.unwrap();
    assert_eq!((&*login.display, &login.claims["groups"]), ("alice@corp.example", &json!(["eng"])));
    assert_eq!(login.claims["iss"], OIDC, "and not what the ID token does say");
    assert_eq!(oidc.hosts.asked(USER_INFO)[0].authorization.as_deref(), Some("Bearer at"));
    // A refresh without an ID token.
    oidc.hosts.will(TOKENS, json!({ "access_token": "at2", "token_type": "bearer", "refresh_token": "rt2" }));
    let (login, keep) = oidc.recheck("rt1", "u1").await;
    let login = login.unwrap();
    assert_eq!((&*login.subject, kept(&login), &*keep), ("u1", Some("rt2"), "rt2"));
    assert_eq!(oidc.recheck("rt2", "u2").await.0, Err(IdpError::Broken("userinfo is of somebody else")));

    // One that does not know the scope is not asked for it, unless the config says so.
    let mut plain = Played::new(IdpProvider::Oidc);
    let mut without = metadata(OIDC);
    without.as_object_mut().unwrap().remove("scopes_supported");
    without.as_object_mut().unwrap().remove("userinfo_endpoint");
    plain.hosts.will(METADATA, without);
    plain.config.scopes = vec!["groups".into(), "email".into()];
    let (_, query) = plain.begin().await;
    asks(&query, &[("p", "1"), ("scope", "openid email profile groups"), ("nonce", "")]);
    plain.gives(&plain.id_token());
    plain.hosts.will(TOKENS, json!({ "id_token": plain.id_token() }));
    let login = plain.finish().await.unwrap();
    assert_eq!((&*login.subject, kept(&login)), ("u1", None), "it cannot be asked again");
    plain.idp = None;
    plain.config.scopes = vec!["offline_access".into()];
    let (_, query) = plain.begin().await;
    assert_eq!((&*query["scope"], &*query["prompt"]), ("openid email profile offline_access", "consent"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn somebody_of_github_is_their_number_there_with_the_address_that_it_has_verified() {
    let mut github = Played::github();
    let (url, query) = github.begin().await;
    assert_eq!(url, "https://github.com/login/oauth/authorize");
    asks(&query, &[("scope", "read:user user:email read:org")]);
    for iss in [None, Some("https://github.com"), Some("https://github.com/login/oauth")] {
        github.iss = iss.map(str::to_owned);
        let login = github.login().await.unwrap();
        assert_eq!((&*login.subject, &*login.display), ("583231", "alice@corp.example"));
        assert_eq!(
            (&login.claims["login"], &login.claims["orgs"]),
            (&json!("alice"), &json!(["corp", "other"]))
        );
        assert_eq!(kept(&login), Some("gho_a"));
    }
    let asked = github.hosts.asked(GITHUB_TOKENS).remove(0);
    assert_eq!((&*asked.form["client_id"], &*asked.form["client_secret"]), ("gate", "s&cr:t"));
    assert_eq!((asked.authorization, &*asked.form["code_verifier"]), (None, secrets().verifier.expose()));
    let api: Vec<String> =
        github.hosts.asked.lock().iter().skip(1).take(3).map(|asked| asked.url.to_string()).collect();
    assert_eq!(
        api,
        [
            "https://api.github.com/user",
            "https://api.github.com/user/emails",
            "https://api.github.com/user/orgs?per_page=100&page=1"
        ]
    );
    assert_eq!(github.hosts.asked("/user")[0].authorization.as_deref(), Some("Bearer gho_a"));

    let (login, keep) = github.recheck("gho_a", "583231").await;
    assert_eq!((login.unwrap().subject, keep), ("583231".into(), "gho_a".into()));
    let (login, _) = github.recheck("gho_a", "1").await;
    assert_eq!(login, Err(IdpError::Broken("it answers for somebody else than was asked about")));
    // An app whose tokens end.
    github.hosts.will(GITHUB_TOKENS, json!({ "access_token": "ghu_b", "refresh_token": "ghr_2" }));
    assert_eq!(kept(&github.login().await.unwrap()), Some("ghr_2"));
    let (login, keep) = github.recheck("ghr_1", "583231").await;
    assert_eq!((kept(&login.unwrap()), &*keep), (Some("ghr_2"), "ghr_2"));
    assert_eq!(github.hosts.asked(GITHUB_TOKENS).pop().unwrap().form["refresh_token"], "ghr_1");
    assert_eq!(github.hosts.asked("/user").pop().unwrap().authorization.as_deref(), Some("Bearer ghu_b"));
    for (answer, expected) in [
        ((401, json!({ "message": "Bad credentials" })), "refused"),
        ((403, json!({ "message": "Sorry. Your account was suspended" })), "refused"),
        ((403, json!({ "message": "API Rate limit exceeded for user" })), "unavailable"),
        ((404, json!({})), "refused"),
        ((422, json!({})), "broken"),
        ((200, json!({ "login": "alice" })), "broken"),
        ((200, json!({ "id": 0, "login": "alice" })), "broken"),
        ((200, json!({ "id": -1, "login": "alice" })), "broken"),
        ((200, json!({ "id": "583231", "login": "alice" })), "broken"),
        ((200, json!({ "id": 583_231, "login": "a\nb" })), "broken"),
        ((200, json!([])), "broken"),
    ] {
        github.hosts.will("/user", answer.clone());
        let found = github.recheck("gho_a", "583231").await.0.unwrap_err();
        assert_eq!(kind(found), expected, "{answer:?}");
    }
}

fn kind(error: IdpError) -> &'static str {
    match error {
        IdpError::Refused(_) => "refused",
        IdpError::Unavailable(_) => "unavailable",
        IdpError::Broken(_) => "broken",
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whom_github_does_not_vouch_for_as_the_config_asks_is_refused() {
    let address = |email: &str, primary: bool, verified: bool| json!([{ "email": email, "primary": primary, "verified": verified }]);
    let many = |count: usize| json!(vec![json!({ "login": "other", "id": 1 }); count]);
    let cases: [(&str, Answer); 10] = [
        ("/user/emails", address("alice@corp.example", true, false).into()),
        ("/user/emails", address("alice@corp.example", false, true).into()),
        ("/user/emails", address("alice@evil.example", true, true).into()),
        ("/user/emails", json!([]).into()),
        ("/user/emails", (404, json!({})).into()),
        ("/user/emails", (403, json!({})).into()),
        ("/user/orgs", json!([]).into()),
        ("/user/orgs", json!([{ "login": "corporation" }]).into()),
        ("/user/orgs", (403, json!({})).into()),
        ("/user/orgs", many(100).into()),
    ];
    for (place, answer) in cases {
        let mut github = Played::github();
        github.hosts.will(place, answer);
        let refused = github.login().await.unwrap_err();
        assert_eq!(kind(refused), "refused", "{place} {}", refused.reason());
    }
    // The organization is on the second page.
    let mut github = Played::github();
    let pages = vec![many(100).into(), json!([{ "login": "CORP" }]).into()];
    github.hosts.will_each("/user/orgs", pages);
    assert!(github.login().await.is_ok());
    assert_eq!(github.hosts.asked("/user/orgs")[1].url.query(), Some("per_page=100&page=2"));
    // Of GitHub Enterprise.
    let mut own = Played::github();
    own.config.user_info_url = Some("https://git.corp.example/api/v3/user".parse().unwrap());
    own.config.token_url = Some("https://git.corp.example/login/oauth/access_token".parse().unwrap());
    own.config.authorization_url = Some("https://git.corp.example/login/oauth/authorize".parse().unwrap());
    own.config.issuer = "https://git.corp.example".into();
    assert!(own.login().await.is_ok());
    assert!(own.hosts.asked.lock().iter().all(|asked| asked.url.host_str() == Some("git.corp.example")));
    assert_eq!(own.hosts.asked("/emails")[0].url.path(), "/api/v3/user/emails");
    assert!(own.begin().await.0.starts_with("https://git.corp.example/"));
}

/// A login that is wrong in one way.
type Wrong = (&'static str, fn(&mut Played));

/// Sets a claim; takes it out, if it is null.
fn claim(played: &mut Played, name: &str, value: Value) {
    match value {
        Value::Null => drop(played.claims.as_object_mut().unwrap().remove(name)),
        value => played.claims[name] = value,
    }
}

fn signed_by(played: &mut Played, signer: &Signer, algorithm: Algorithm, header: &Value) {
    let token = signer.signed_by(algorithm, &header.to_string(), &played.claims.to_string());
    played.gives(&token);
}

fn by_secret(played: &mut Played, secret: &[u8]) {
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": RSA.id() });
    let message = format!("{}.{}", base64(header.to_string()), base64(played.claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    played.gives(&format!("{message}.{}", base64(tag)));
}

/// In an ID token of a good signature.
const WRONG_CLAIMS: &[Wrong] = &[
    ("no nonce", |it| claim(it, "nonce", json!(null))),
    ("nonce of another login", |it| claim(it, "nonce", json!("other"))),
    ("empty nonce", |it| claim(it, "nonce", json!(""))),
    ("nonce in a list", |it| claim(it, "nonce", json!([secrets().nonce.expose()]))),
    ("state as nonce", |it| claim(it, "nonce", json!(secrets().state.expose()))),
    ("iss of another", |it| claim(it, "iss", json!("https://evil.example"))),
    ("iss with a slash", |it| claim(it, "iss", json!(format!("{OIDC}/")))),
    ("iss in capitals", |it| claim(it, "iss", json!("https://LOGIN.corp.example"))),
    ("iss in a list", |it| claim(it, "iss", json!([OIDC]))),
    ("no iss", |it| claim(it, "iss", json!(null))),
    ("aud of another client", |it| claim(it, "aud", json!("other"))),
    ("no aud", |it| claim(it, "aud", json!(null))),
    ("no aud in the list", |it| claim(it, "aud", json!([]))),
    ("aud in a longer text", |it| claim(it, "aud", json!("gate other"))),
    ("several aud without azp", |it| claim(it, "aud", json!(["gate", "other"]))),
    ("several aud, none of them this client", |it| {
        claim(it, "aud", json!(["one", "other"]));
        claim(it, "azp", json!("gate"));
    }),
    ("several aud with the azp of another", |it| {
        claim(it, "aud", json!(["gate", "other"]));
        claim(it, "azp", json!("other"));
    }),
    ("azp of another", |it| claim(it, "azp", json!("other"))),
    ("azp that is no text", |it| claim(it, "azp", json!(["gate"]))),
    ("aud with what is no text", |it| {
        claim(it, "aud", json!(["gate", 1]));
        claim(it, "azp", json!("gate"));
    }),
    ("expired", |it| claim(it, "exp", json!(NOW - 31))),
    ("no exp", |it| claim(it, "exp", json!(null))),
    ("exp that is no number", |it| claim(it, "exp", json!("2100-01-01"))),
    ("made later", |it| claim(it, "iat", json!(NOW + 31))),
    ("no iat", |it| claim(it, "iat", json!(null))),
    ("not yet", |it| claim(it, "nbf", json!(NOW + 31))),
    ("no sub", |it| claim(it, "sub", json!(null))),
    ("empty sub", |it| claim(it, "sub", json!(""))),
    ("sub that is a number", |it| claim(it, "sub", json!(1))),
    ("sub with a line end", |it| claim(it, "sub", json!("u\n1"))),
    ("long sub", |it| claim(it, "sub", json!("u".repeat(256)))),
    ("an access token of Keycloak", |it| claim(it, "typ", json!("Bearer"))),
    ("an access token of Cognito", |it| claim(it, "token_use", json!("access"))),
    ("a logout token", |it| claim(it, "events", json!({}))),
    ("an access token", |it| it.header["typ"] = json!("at+jwt")),
    ("an identity assertion", |it| it.header["typ"] = json!("oauth-id-jag+jwt")),
    ("an extension in the header", |it| it.header["crit"] = json!(["typ"])),
    ("a key in the header", |it| it.header["jwk"] = RSA.jwk.clone()),
    ("a place of keys in the header", |it| it.header["jku"] = json!("https://evil.example/keys")),
];

/// In the signature, or in what is no ID token at all. They give tokens themselves.
const WRONG_TOKENS: &[Wrong] = &[
    ("alg none", |it| {
        let header = json!({ "alg": "none", "typ": "JWT" });
        it.gives(&format!("{}.{}.", base64(header.to_string()), base64(it.claims.to_string())));
    }),
    ("alg none with a kid", |it| {
        let header = json!({ "alg": "None", "typ": "JWT", "kid": RSA.id() });
        it.gives(&format!("{}.{}.", base64(header.to_string()), base64(it.claims.to_string())));
    }),
    ("HS256 with the public key", |it| by_secret(it, &RSA.der)),
    ("HS256 with the client's secret", |it| by_secret(it, b"s&cr:t")),
    ("HS256 with nothing", |it| by_secret(it, b"")),
    ("key of another issuer", |it| {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": OTHER_RSA.id() });
        signed_by(it, &OTHER_RSA, Algorithm::RS256, &header);
    }),
    ("key of another issuer under the id of this one's", |it| {
        let header = it.header.clone();
        signed_by(it, &OTHER_RSA, Algorithm::RS256, &header);
    }),
    ("no kid", |it| signed_by(it, &RSA, Algorithm::RS256, &json!({ "alg": "RS256", "typ": "JWT" }))),
    ("alg of another key", |it| {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": RSA.id() });
        signed_by(it, &P256, Algorithm::ES256, &header);
    }),
    ("other claims under the signature", |it| {
        let token = it.id_token();
        let (_, signature) = token.rsplit_once('.').unwrap();
        claim(it, "sub", json!("u2"));
        let other = it.id_token();
        let (message, _) = other.rsplit_once('.').unwrap();
        it.gives(&format!("{message}.{signature}"));
    }),
    ("no signature", |it| {
        let token = it.id_token();
        it.gives(&token[..=token.rfind('.').unwrap()]);
    }),
    ("two parts", |it| {
        let token = it.id_token();
        it.gives(&token[..token.rfind('.').unwrap()]);
    }),
    ("five parts", |it| it.gives(&format!("{}.a.b", it.id_token()))),
    ("a claim that is there twice", |it| {
        let claims = it.claims.to_string();
        let claims = format!("{{\"sub\":\"u2\",{}", &claims[1..]);
        it.gives(&RSA.signed(&it.header.to_string(), &claims));
    }),
    ("too long", |it| {
        claim(it, "padding", json!("x".repeat(33 << 10)));
        it.gives(&it.id_token());
    }),
    ("an opaque token", |it| it.gives("ya29.abc")),
    ("an empty one", |it| it.gives("")),
    ("none", |it| it.hosts.will(TOKENS, json!({ "access_token": "at", "token_type": "Bearer" }))),
    ("null", |it| it.hosts.will(TOKENS, json!({ "access_token": "at", "id_token": null }))),
    ("of a type that is not known", |it| {
        it.hosts
            .will(TOKENS, json!({ "access_token": "at", "token_type": "DPoP", "id_token": it.id_token() }));
    }),
    ("beside an error", |it| {
        it.hosts.will(
            TOKENS,
            json!({ "id_token": it.id_token(), "access_token": "at", "error": "access_denied" }),
        );
    }),
    ("with a status that is none of success", |it| {
        it.hosts.will(TOKENS, (400, json!({ "id_token": it.id_token(), "access_token": "at" })));
    }),
    ("broken off", |it| {
        let text = json!({ "id_token": it.id_token(), "access_token": "at" }).to_string();
        it.hosts.will(TOKENS, Answer::Json(200, text[..text.len() - 1].to_owned()));
    }),
    ("twice", |it| {
        let token = it.id_token();
        let text = format!("{{\"id_token\":\"{token}\",\"id_token\":\"{token}\",\"access_token\":\"at\"}}");
        it.hosts.will(TOKENS, Answer::Json(200, text));
    }),
    ("in 10 MB", |it| {
        let text = json!({ "id_token": it.id_token(), "access_token": "at", "x": "x".repeat(10 << 20) });
        it.hosts.will(TOKENS, text);
    }),
    ("HTML", |it| it.hosts.will(TOKENS, Answer::Json(200, "<html>".into()))),
    ("elsewhere", |it| it.hosts.will(TOKENS, Answer::Fails(NotFetched::Redirect))),
    ("no code that it knows", |it| it.hosts.will(TOKENS, (400, json!({ "error": "invalid_grant" })))),
    ("no verifier that it knows", |it| it.hosts.will(TOKENS, (400, json!({ "error": "invalid_request" })))),
];

/// Around the ID token, which is good.
const WRONG_ANSWERS: &[Wrong] = &[
    ("mix-up: iss of another provider", |it| it.iss = Some("https://evil.example".into())),
    ("mix-up: iss with a slash", |it| it.iss = Some(format!("{OIDC}/"))),
    ("mix-up: empty iss", |it| it.iss = Some(String::new())),
    ("mix-up: no iss of one that always writes it", |it| {
        let mut metadata = metadata(OIDC);
        metadata["authorization_response_iss_parameter_supported"] = json!(true);
        it.hosts.will(METADATA, metadata);
    }),
    ("metadata of another issuer", |it| it.hosts.will(METADATA, metadata("https://evil.example"))),
    ("metadata without a token endpoint", |it| {
        let mut metadata = metadata(OIDC);
        metadata["token_endpoint"] = json!("http://at.idp.example/token");
        it.hosts.will(METADATA, metadata);
    }),
    ("keys over http", |it| {
        let mut metadata = metadata(OIDC);
        metadata["jwks_uri"] = json!("http://at.idp.example/keys");
        it.hosts.will(METADATA, metadata);
    }),
    ("keys on this machine", |it| {
        let mut metadata = metadata(OIDC);
        metadata["jwks_uri"] = json!("http://127.0.0.1/keys");
        it.hosts.will(METADATA, metadata);
    }),
    ("metadata that is none", |it| it.hosts.will(METADATA, Answer::Json(200, "{".into()))),
    ("metadata of 10 MB", |it| {
        let mut metadata = metadata(OIDC);
        metadata["x"] = json!("x".repeat(10 << 20));
        it.hosts.will(METADATA, metadata);
    }),
    ("metadata elsewhere", |it| it.hosts.will(METADATA, Answer::Fails(NotFetched::Redirect))),
    ("no keys", |it| it.hosts.will(KEYS, json!({ "keys": [] }))),
    ("keys that are none", |it| it.hosts.will(KEYS, Answer::Json(200, "<html>".into()))),
    ("keys elsewhere", |it| it.hosts.will(KEYS, Answer::Fails(NotFetched::Redirect))),
    ("a secret as key", |it| {
        it.hosts.will(
            KEYS,
            json!({ "keys": [{ "kty": "oct", "kid": RSA.id(), "k": "c2VjcmV0", "alg": "HS256" }] }),
        );
    }),
    ("userinfo of somebody else", |it| it.hosts.will(USER_INFO, json!({ "sub": "u2" }))),
    ("userinfo of nobody", |it| it.hosts.will(USER_INFO, json!({ "email": "alice@corp.example" }))),
    ("userinfo that refuses", |it| it.hosts.will(USER_INFO, (401, json!({})))),
    ("userinfo that is broken off", |it| {
        it.hosts.will(USER_INFO, Answer::Json(200, "{\"sub\":\"u1\"".into()))
    }),
    ("userinfo that is a list", |it| it.hosts.will(USER_INFO, json!(["u1"]))),
    ("no address", |it| claim(it, "email", json!(null))),
    ("an address that is not verified", |it| claim(it, "email_verified", json!(false))),
    ("an address of which nothing is said", |it| claim(it, "email_verified", json!(null))),
    ("an address that is verified in a text", |it| claim(it, "email_verified", json!("true"))),
    ("an address elsewhere", |it| claim(it, "email", json!("alice@corp.example.evil.example"))),
    ("two addresses", |it| claim(it, "email", json!("alice@corp.example,alice@evil.example"))),
    ("an address that userinfo verifies for another", |it| {
        claim(it, "email_verified", json!(null));
        it.hosts.will(USER_INFO, json!({ "sub": "u1", "email": "x@evil.example", "email_verified": true }));
    }),
    ("an address of userinfo that the ID token verifies", |it| {
        claim(it, "email", json!(null));
        it.hosts
            .will(USER_INFO, json!({ "sub": "u1", "email": "alice@corp.example", "email_verified": false }));
    }),
];

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_a_hundred_wrong_answers_none_lets_anybody_in() {
    let mut count = 0;
    for (name, wrong) in [WRONG_CLAIMS, WRONG_TOKENS, WRONG_ANSWERS].concat() {
        let mut oidc = Played::new(IdpProvider::Oidc);
        oidc.gives(&oidc.id_token());
        wrong(&mut oidc);
        if !WRONG_TOKENS.iter().any(|(of, _)| *of == name) {
            oidc.gives(&oidc.id_token());
        }
        let found = oidc.finish().await;
        assert!(found.is_err(), "{name}: {found:?}");
        count += 1;
    }
    assert!(count >= 90, "{count}");
    let mut good = Played::new(IdpProvider::Oidc);
    good.iss = Some(OIDC.into());
    assert!(good.login().await.is_ok());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_good_id_token_may_look_like_is_taken() {
    let good: &[Wrong] = &[
        ("one aud in a list", |it| claim(it, "aud", json!(["gate"]))),
        ("several aud with azp", |it| {
            claim(it, "aud", json!(["other", "gate"]));
            claim(it, "azp", json!("gate"));
        }),
        ("no typ", |it| drop(it.header.as_object_mut().unwrap().remove("typ"))),
        ("its clock is behind", |it| claim(it, "exp", json!(NOW - 29))),
        ("its clock is ahead", |it| claim(it, "iat", json!(NOW + 29))),
        ("an ID token of Keycloak", |it| claim(it, "typ", json!("ID"))),
        ("200 groups", |it| claim(it, "groups", json!(vec!["7c1b5f3e-0000-4000-8000-000000000001"; 200]))),
        ("verified by userinfo", |it| {
            claim(it, "email_verified", json!(null));
            let address = it.claims["email"].clone();
            it.hosts.will(USER_INFO, json!({ "sub": "u1", "email": address, "email_verified": true }));
        }),
    ];
    for (name, good) in good {
        let mut oidc = Played::new(IdpProvider::Oidc);
        good(&mut oidc);
        let login = oidc.login().await;
        assert!(login.is_ok(), "{name}: {login:?}");
    }
    let mut by_p256 = Played::new(IdpProvider::Oidc);
    let header = json!({ "alg": "ES256", "kid": P256.id() });
    signed_by(&mut by_p256, &P256, Algorithm::ES256, &header);
    assert!(by_p256.finish().await.is_ok());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn google_and_entra_are_asked_for_more_than_the_address() {
    let wrong: &[(IdpProvider, Wrong)] = &[
        (IdpProvider::Google, ("no hd", |it| claim(it, "hd", json!(null)))),
        (IdpProvider::Google, ("hd that is empty", |it| claim(it, "hd", json!("")))),
        (IdpProvider::Google, ("not verified", |it| claim(it, "email_verified", json!(false)))),
        (
            IdpProvider::Google,
            ("another domain", |it| {
                claim(it, "email", json!("alice@evil.example"));
            }),
        ),
        (IdpProvider::Azure, ("tid of another", |it| claim(it, "tid", json!("other")))),
        (IdpProvider::Azure, ("no tid", |it| claim(it, "tid", json!(null)))),
        (IdpProvider::Azure, ("no oid", |it| claim(it, "oid", json!(null)))),
        (IdpProvider::Azure, ("no tenant in the config", |it| it.config.tenant_id = None)),
        (
            IdpProvider::Azure,
            ("an address that anybody may write", |it| {
                claim(it, "preferred_username", json!("x@evil.example"));
                claim(it, "email", json!("alice@corp.example"));
            }),
        ),
        (
            IdpProvider::Azure,
            ("no name", |it| {
                claim(it, "preferred_username", json!(null));
                claim(it, "email", json!("alice@corp.example"));
            }),
        ),
        (
            IdpProvider::Azure,
            ("a name that is no address", |it| {
                claim(it, "preferred_username", json!("+491701234567"));
            }),
        ),
        (
            IdpProvider::Azure,
            ("the issuer of all tenants", |it| {
                claim(it, "iss", json!("https://login.microsoftonline.com/common/v2.0"));
            }),
        ),
    ];
    for (provider, (name, wrong)) in wrong {
        let mut played = Played::new(*provider);
        wrong(&mut played);
        let login = played.login().await;
        assert!(login.is_err(), "{provider:?} {name}: {login:?}");
    }
    let mut private = Played::new(IdpProvider::Google);
    private.config.allowed_domains = vec!["gmail.com".into()];
    claim(&mut private, "hd", json!(null));
    claim(&mut private, "email", json!("alice@gmail.com"));
    assert!(private.login().await.is_ok(), "which Google itself gives");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_provider_says_instead_is_a_no_or_asks_to_come_again_or_is_against_the_protocol() {
    for (status, error, expected) in [
        (400, "invalid_grant", "refused"),
        (400, "interaction_required", "refused"),
        (400, "access_denied", "refused"),
        (200, "bad_refresh_token", "refused"),
        (400, "temporarily_unavailable", "unavailable"),
        (400, "invalid_client", "broken"),
        (401, "invalid_client", "broken"),
        (401, "", "broken"),
        (403, "", "broken"),
        (400, "invalid_scope", "broken"),
        (400, "unsupported_grant_type", "broken"),
        (400, "anything <b>else</b>", "broken"),
    ] {
        let mut oidc = Played::new(IdpProvider::Oidc);
        let answer =
            if error.is_empty() { json!({}) } else { json!({ "error": error, "error_description": "x" }) };
        oidc.hosts.will(TOKENS, (status, answer));
        let found = oidc.recheck("rt1", "u1").await.0.unwrap_err();
        assert_eq!(kind(found), expected, "{status} {error}");
        assert!(!found.reason().contains('<'), "none of its words is in the log");
    }
    for (answer, expected) in [
        (Answer::Fails(NotFetched::Unreachable), "unavailable"),
        (Answer::Fails(NotFetched::Timeout), "unavailable"),
        (Answer::Fails(NotFetched::Failing), "unavailable"),
        (Answer::Never, "unavailable"),
        (Answer::Fails(NotFetched::Redirect), "broken"),
        (Answer::Fails(NotFetched::NotADocument), "broken"),
    ] {
        for place in [METADATA, TOKENS, USER_INFO] {
            let mut oidc = Played::new(IdpProvider::Oidc);
            oidc.gives(&oidc.id_token());
            oidc.hosts.will(place, answer.clone());
            assert_eq!(kind(oidc.recheck("rt0", "u1").await.0.unwrap_err()), expected, "{place}");
        }
        let mut oidc = Played::new(IdpProvider::Oidc);
        oidc.hosts.will(KEYS, answer.clone());
        assert_eq!(
            kind(oidc.login().await.unwrap_err()),
            "unavailable",
            "of keys, there may be some the next time"
        );
    }
    let mut oidc = Played::new(IdpProvider::Oidc);
    oidc.gives(&oidc.id_token());
    oidc.hosts.will(USER_INFO, Answer::Fails(NotFetched::Timeout));
    let (found, keep) = oidc.recheck("rt0", "u1").await;
    assert_eq!(
        (kind(found.unwrap_err()), &*keep),
        ("unavailable", "rt1"),
        "the refresh has been, all the same"
    );
    // Somebody else, and somebody who is not admitted any more.
    assert_eq!(oidc.recheck("rt0", "u2").await.0.map_err(kind), Err("unavailable"));
    oidc.hosts.will(USER_INFO, json!({ "sub": "u1" }));
    assert_eq!(oidc.recheck("rt0", "u2").await.0.map_err(kind), Err("broken"));
    claim(&mut oidc, "email", json!("alice@left.example"));
    oidc.gives(&oidc.id_token());
    assert_eq!(oidc.recheck("rt0", "u1").await.0.map_err(kind), Err("refused"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_gateway_proves_itself_as_the_provider_takes_it() {
    let ways = |played: &Played| -> Vec<&'static str> {
        let way = |asked: &Asked| match (&asked.authorization, asked.form.get("client_secret")) {
            (Some(_), None) => "basic",
            (None, Some(_)) => "post",
            (None, None) => "none",
            _ => "both",
        };
        played.hosts.asked(TOKENS).iter().map(way).collect()
    };
    let refused = || Answer::from((401, json!({ "error": "invalid_client" })));
    let good = |played: &Played| Answer::from(json!({ "access_token": "at", "id_token": played.id_token() }));
    let mut oidc = Played::new(IdpProvider::Oidc);
    oidc.hosts.will_each(TOKENS, vec![refused(), good(&oidc)]);
    assert!(oidc.finish().await.is_ok() && oidc.finish().await.is_ok());
    assert_eq!(ways(&oidc), ["basic", "post", "post"], "and remembers which way");
    let mut wrong = Played::new(IdpProvider::Oidc);
    wrong.hosts.will(TOKENS, refused());
    assert_eq!(wrong.finish().await, Err(IdpError::UNKNOWN_CLIENT));
    assert_eq!(ways(&wrong), ["basic", "post"]);
    for (listed, secret, expected) in [
        (json!(["client_secret_post"]), Some("x"), &["post"][..]),
        (json!(["client_secret_basic"]), Some("x"), &["basic"]),
        (json!(["private_key_jwt"]), Some("x"), &[]),
        (json!(null), Some("x"), &["basic"]),
        (json!(["none"]), None, &["none"]),
    ] {
        let mut oidc = Played::new(IdpProvider::Oidc);
        oidc.config.client_secret = secret.map(|secret| Secret::new(secret.into()));
        let mut metadata = metadata(OIDC);
        metadata["token_endpoint_auth_methods_supported"] = listed.clone();
        oidc.hosts.will(METADATA, metadata);
        assert_eq!(oidc.login().await.is_ok(), !expected.is_empty(), "{listed}");
        assert_eq!(ways(&oidc), expected, "{listed}");
        assert!(oidc.hosts.asked(TOKENS).iter().all(|asked| {
            asked.authorization.is_some() != (asked.form.get("client_id").map(String::as_str) == Some("gate"))
        }));
    }
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn metadata_and_keys_stay_whatever_happens_to_their_host_and_are_fetched_once_for_all() {
    let mut oidc = Played::new(IdpProvider::Oidc);
    let fetches = |played: &Played| (played.hosts.asked(METADATA).len(), played.hosts.asked(KEYS).len());
    oidc.gives(&oidc.id_token());
    let idp = oidc.idp();
    let all: Vec<_> = (0..20)
        .map(|_| {
            let idp = idp.clone();
            tokio::task::spawn_local(async move {
                idp.finish(&Secret::new("c".into()), None, &secrets(), now()).await.is_ok()
            })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap());
    }
    assert_eq!(fetches(&oidc), (1, 1));
    oidc.hosts.will(METADATA, Answer::Never);
    oidc.hosts.will(KEYS, Answer::Fails(NotFetched::Unreachable));
    pass(3600).await;
    for _ in 0..10 {
        assert!(oidc.login().await.is_ok());
    }
    pass(0).await;
    assert_eq!(fetches(&oidc), (2, 2), "none begins sooner than 30 s after one that failed");
    pass(30).await;
    oidc.hosts.will(METADATA, Answer::from(metadata("https://evil.example")));
    assert!(oidc.login().await.is_ok());
    assert_eq!(fetches(&oidc).0, 3);
    pass(30).await;
    oidc.hosts.will(METADATA, metadata(OIDC));
    oidc.hosts.will(KEYS, Answer::Json(200, key_set(&[&OTHER_RSA])));
    assert!(oidc.login().await.is_ok(), "who gets older keys does not wait");
    pass(1).await;
    assert_eq!(kind(oidc.login().await.unwrap_err()), "unavailable", "its key was taken back");
    // A reload that leaves it where it was leaves what is known of it.
    let before = fetches(&oidc);
    let more = IdpConfig { scopes: vec!["groups".into()], ..oidc.config.clone() };
    let after = idp.of_reload(&Arc::new(more)).unwrap();
    assert_eq!((&*after.config().scopes, fetches(&oidc)), (&["groups".to_owned()][..], before));
    assert!(after.begin(&secrets()).await.unwrap().query().unwrap().contains("groups"));
    assert_eq!(fetches(&oidc), before);
    let elsewhere = IdpConfig { issuer: "https://other.example".into(), ..oidc.config.clone() };
    assert!(idp.of_reload(&Arc::new(elsewhere)).is_none());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn where_the_config_says_where_metadata_is_the_slash_of_an_issuer_may_be_missing() {
    let mut oidc = Played::new(IdpProvider::Oidc);
    let slash = format!("{OIDC}/");
    oidc.hosts.will(METADATA, metadata(&slash));
    claim(&mut oidc, "iss", json!(slash));
    assert_eq!(oidc.login().await, Err(IdpError::Broken(NotFetched::OtherIssuer.name())));
    oidc.idp = None;
    oidc.config.discovery_url = Some(format!("{OIDC}{METADATA}").parse().unwrap());
    assert!(oidc.login().await.is_ok());
    claim(&mut oidc, "iss", json!(OIDC));
    assert!(oidc.login().await.is_err(), "its ID tokens have the one of its metadata");
    // Auth0 has one, and it is in the path of its metadata once.
    let mut auth0 = Played::new(IdpProvider::Oidc);
    auth0.config.issuer = slash.clone().into();
    auth0.hosts.will(METADATA, metadata(&slash));
    claim(&mut auth0, "iss", json!(slash));
    assert!(auth0.login().await.is_ok());
    assert_eq!(auth0.hosts.asked(METADATA)[0].url.as_str(), format!("{OIDC}{METADATA}"));
}

fn asks_for(claim: &str, has: &str) -> Assignment {
    let condition = Condition { claim: Some((claim.into(), has.into())), ..Condition::default() };
    Assignment { condition, roles: Vec::new(), limits: CallerLimits::default() }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

#[test]
fn of_claims_what_the_config_asks_about_is_kept_and_then_what_fits() {
    let mut config = config(IdpProvider::Oidc);
    config.allowed_orgs = vec!["corp".into()];
    let few = object(json!({
        "email": "alice@corp.example", "email_verified": true, "sub": "u1", "aud": "gate", "hd": "corp.example",
        "groups": ["eng", 7, { "deep": 1 }], "roles": "reader", "team": "x", "level": 3, "secret": "no", "orgs": ["Corp"],
    }));
    let kept = KeptClaims::of(
        &few,
        &config,
        &[asks_for("team", "y"), asks_for("level", "3"), asks_for("none", "x")],
    );
    let expected = json!({
        "email": "alice@corp.example", "email_verified": true, "hd": "corp.example", "groups": ["eng", 7],
        "roles": "reader", "team": "x", "level": 3, "orgs": ["Corp"],
    });
    assert_eq!((Value::Object(kept.claims), kept.dropped), (expected, Vec::<String>::new()));

    let ids: Vec<String> = (0..200).map(|at| format!("7c1b5f3e-0000-4000-8000-{at:012}")).collect();
    let mut orgs: Vec<String> = (0..100).map(|at| format!("org-{at}")).collect();
    orgs.push("CORP".into());
    let many = object(json!({
        "email": "alice@corp.example", "email_verified": true, "groups": ids, "orgs": orgs, "long": "x".repeat(600),
        "_claim_names": { "roles": "src1", "address": "src1" },
    }));
    let asked = [asks_for("groups", &ids[199]), asks_for("groups", &ids[7]), asks_for("long", "x")];
    let kept = KeptClaims::of(&many, &config, &asked);
    let bytes = Value::Object(kept.claims.clone()).to_string().len();
    assert!(bytes <= KeptClaims::LONGEST && bytes > KeptClaims::LONGEST - 45, "{bytes}");
    let has =
        |name: &str, text: &str| kept.claims[name].as_array().unwrap().iter().any(|entry| entry == text);
    assert!(has("groups", &ids[199]) && has("groups", &ids[7]) && has("orgs", "CORP"));
    assert_eq!(config.admits(&kept.claims), Ok(()));
    assert!(kept.claims.contains_key("email_verified") && !kept.claims.contains_key("long"));
    assert_eq!(kept.dropped, ["long", "groups", "orgs", "roles"]);
}
