//! Clients of OAuth get tokens for codes, refresh them, and give them back. Nothing of one kind passes for another, and what comes a
//! second time ends all that came of it. What people do at the pages is done here by another gateway of the same file.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluicegate::{
    config::LoginStore,
    identity::{
        Principal,
        login::{
            Logins,
            access_token::AccessClaims,
            grants::{ClientGrant, NewCode, Redemption},
            passwords,
            store::Opening,
        },
    },
    oauth::flow::new_name,
    secret::Secret,
};
use tempfile::TempDir;

use crate::{
    harness::{CI, DEV, Gate, field, post},
    login::futures,
    recorder::Recorder,
};

const BASE: &str = "http://localhost:8080";
const PASSWORD: &str = "password123";
pub const PORTAL_SECRET: &str = "portal-secret-0123456789-canary";
const AUDITOR_SECRET: &str = "auditor-secret-0123456789-canary";
const CALLBACK: &str = "https://portal.example/callback";
const VERIFIER: &str = "verifier-canary-0123456789-0123456789-01234567";

pub static HASH: LazyLock<String> =
    LazyLock::new(|| passwords::hash(&Secret::new(PASSWORD.into())).unwrap().expose().to_owned());

/// A gateway as an authorization server, and whoever does at its pages what people do.
struct Server {
    gate: Gate,
    pages: Logins,
    _behind: Recorder,
    _directory: TempDir,
}

pub fn config(state: &Path, url: &str, auth: Value) -> Value {
    let client = |secret: &str, roles: &[&str]| {
        json!({
            "secretSha256": hex::encode(Sha256::digest(secret)), "redirectUris": [CALLBACK], "roles": roles,
        })
    };
    let mut config = json!({
        "proxy": {
            "baseUrl": BASE,
            "stateDir": state,
            "auth": {
                "kind": "oauth",
                "tokens": { "dev": DEV, "ci": CI },
                "users": { "alice": { "passwordHash": *HASH, "roles": ["user"] } },
                "clients": {
                    "portal": client(PORTAL_SECRET, &[]),
                    "auditor": client(AUDITOR_SECRET, &["admin"]),
                    "phone": { "redirectUris": [CALLBACK] },
                },
            },
        },
        "mcpServers": { "db": { "url": url }, "files": { "url": url } },
    });
    for (key, value) in auth.as_object().unwrap() {
        config["proxy"]["auth"][key] = value.clone();
    }
    config
}

/// What another gateway does of which only the file is the same.
pub fn another_gateway(state: &Path) -> Logins {
    let logins = Logins::new().unwrap();
    let opening = Opening { now: &SystemTime::now, is_wanted: &|| true };
    logins.keep_store(logins.open_store(&LoginStore::default(), state, opening).unwrap());
    logins
}

/// What this user, whose password is [`PASSWORD`], allows the portal.
pub fn allowed_by(pages: &Logins, user: &str) -> NewCode {
    NewCode {
        principal: Principal::User(user.into()),
        fingerprint: pages.fingerprint(&Secret::new(HASH.clone())).unwrap(),
        client: Arc::new(ClientGrant {
            client_id: "portal".into(),
            client_name: "Portal".into(),
            redirect_host: "portal.example".into(),
            resource: BASE.into(),
            scope: "mcp offline_access".into(),
        }),
        redirect_uri: CALLBACK.into(),
        challenge: Sha256::digest(VERIFIER).into(),
    }
}

/// The access token for what somebody allows a client, and what it says, by none of the endpoints.
pub async fn access_of(gate: &Gate, new: NewCode) -> (String, AccessClaims) {
    let shared = gate.gateway.shared();
    let (grants, live) = (shared.logins.grants().unwrap(), shared.live().clone());
    let (terms, now, client) = (&live.config.login_terms, SystemTime::now(), Arc::clone(&new.client));
    let shown = Redemption {
        client_id: Arc::clone(&client.client_id),
        redirect_uri: None,
        challenge_of_verifier: Some(new.challenge),
        refresh_token_scopes: Vec::new(),
    };
    let code = grants.begin_code(&new_name().unwrap(), new, now).await.unwrap();
    let admits = Box::new(|_: &_, _, _: &_| Ok(()));
    let (issued, _) = grants.redeem(code.expose(), shown, admits, terms, now).await.unwrap();
    let claims = AccessClaims {
        vouched: None,
        principal: issued.principal,
        grant: issued.grant,
        fingerprint: issued.fingerprint,
        client_id: Arc::clone(&client.client_id),
        resource: Arc::clone(&client.resource),
        scope: Arc::clone(&client.scope),
        issued: now,
        expires: issued.expires,
        grant_ends: issued.grant_ends,
    };
    (shared.logins.seal_access(&claims).unwrap().expose().to_owned(), claims)
}

/// What the portal sends, with its secret in the form.
pub fn of_portal(path: &str, pairs: &[(&str, &str)]) -> String {
    let own = [("client_id", "portal"), ("client_secret", PORTAL_SECRET)];
    posted(path, "", &form(&[&own[..], pairs].concat()))
}

impl Server {
    async fn start_with(auth: Value) -> Self {
        let (behind, directory) = (Recorder::start().await, TempDir::new().unwrap());
        let state: PathBuf = directory.path().join("state");
        let gate = Gate::start(config(&state, &behind.url("/mcp"), auth)).await;
        let pages = another_gateway(&state);
        Self { gate, pages, _behind: behind, _directory: directory }
    }

    async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    fn alice(&self) -> NewCode {
        allowed_by(&self.pages, "alice")
    }

    /// Somebody has allowed a client this.
    async fn code_of(&self, new: NewCode) -> String {
        let grants = self.pages.grants().unwrap();
        grants.begin_code(&new_name().unwrap(), new, SystemTime::now()).await.unwrap().expose().to_owned()
    }

    async fn code(&self) -> String {
        self.code_of(self.alice()).await
    }

    async fn send(&self, path: &str, fields: &str, form: &str) -> (u16, String, Value) {
        let request = posted(path, fields, form);
        let (status, head, body) = self.gate.ask(&request).await;
        let body = match &*body {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap_or_else(|_| panic!("{head} {body}")),
        };
        (status, head, body)
    }

    /// As the portal, by its secret in the form.
    async fn ask(&self, path: &str, pairs: &[(&str, &str)]) -> (u16, Value) {
        let own = [("client_id", "portal"), ("client_secret", PORTAL_SECRET)];
        let (status, _, body) = self.send(path, "", &form(&[&own[..], pairs].concat())).await;
        (status, body)
    }

    async fn redeem(&self, code: &str) -> (u16, Value) {
        self.ask("/token", &redemption(code)).await
    }

    async fn refresh(&self, token: &str) -> (u16, Value) {
        self.ask("/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn tokens(&self) -> Tokens {
        let (status, answer) = self.redeem(&self.code().await).await;
        assert_eq!(status, 200, "{answer}");
        Tokens::of(&answer)
    }

    /// What an auditor is told of a token.
    async fn introspect(&self, token: &str) -> Value {
        let own = [("client_id", "auditor"), ("client_secret", AUDITOR_SECRET), ("token", token)];
        let (status, _, body) = self.send("/oauth/introspect", "", &form(&own)).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn is_active(&self, token: &str) -> bool {
        self.introspect(token).await["active"] == true
    }
}

#[derive(Clone)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    pub fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

pub fn redemption(code: &str) -> Vec<(&str, &str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ]
}

pub fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A form as a client sends it that has no token.
pub fn posted(path: &str, fields: &str, form: &str) -> String {
    let request = post(path, "", fields, form).replace("Authorization: Bearer \r\n", "");
    request.replace("application/json", "application/x-www-form-urlencoded")
}

#[tokio::test]
async fn a_client_gets_tokens_for_a_code_refreshes_them_and_gives_them_back() {
    let server = Server::start().await;
    let code = server.code().await;
    let own = [("client_id", "portal"), ("client_secret", PORTAL_SECRET)];
    let asked = form(&[&own[..], &redemption(&code)].concat());
    let (status, head, answer) = server.send("/token", "Origin: https://claude.ai\r\n", &asked).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(field(&head, "cache-control"), Some("no-store"));
    assert_eq!(field(&head, "access-control-allow-origin"), Some("*"));
    assert_eq!(field(&head, "access-control-allow-credentials"), None);
    assert_eq!(
        (&answer["token_type"], &answer["expires_in"], &answer["scope"]),
        (&json!("Bearer"), &json!(3_600), &json!("mcp offline_access"))
    );
    let first = Tokens::of(&answer);
    assert!(first.access.starts_with("sga_") && first.refresh.starts_with("sgr_"));

    let (status, answer) = server.refresh(&first.refresh).await;
    assert_eq!(status, 200, "{answer}");
    let next = Tokens::of(&answer);
    assert!(next.access != first.access && next.refresh != first.refresh);
    let (_, again) = server.refresh(&first.refresh).await;
    assert_eq!(again["refresh_token"], answer["refresh_token"], "within the grace, the same successor");

    let known = server.introspect(&next.access).await;
    for (key, value) in [
        ("active", json!(true)),
        ("client_id", json!("portal")),
        ("sub", json!("user:alice")),
        ("username", json!("alice")),
        ("aud", json!(BASE)),
        ("iss", json!(BASE)),
        ("scope", json!("mcp offline_access")),
        ("token_type", json!("Bearer")),
    ] {
        assert_eq!(known[key], value, "{known}");
    }
    let (status, body) = server.ask("/revoke", &[("token", &first.access)]).await;
    assert_eq!((status, body), (200, Value::Null));
    for token in [&first.access, &next.access] {
        assert_eq!(server.introspect(token).await, json!({ "active": false }));
    }
    let (status, answer) = server.refresh(&next.refresh).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert_eq!(server.ask("/revoke", &[("token", &first.access)]).await.0, 200, "and again");

    let by_refresh = server.tokens().await;
    let (status, _) =
        server.ask("/revoke", &[("token", &by_refresh.refresh), ("token_type_hint", "access_token")]).await;
    assert!(status == 200 && !server.is_active(&by_refresh.access).await);

    let log = server.gate.log.text();
    for secret in
        [&code, &first.access, &first.refresh, &next.refresh, PORTAL_SECRET, AUDITOR_SECRET, VERIFIER]
    {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn a_code_that_comes_twice_and_a_refresh_token_that_comes_late_end_all_that_came_of_them() {
    let server = Server::start_with(json!({ "refreshReuseGrace": "0s" })).await;
    let code = server.code().await;
    let (_, answer) = server.redeem(&code).await;
    let tokens = Tokens::of(&answer);
    let (_, answer) = server.refresh(&tokens.refresh).await;
    let next = Tokens::of(&answer);
    assert!(server.is_active(&tokens.access).await && server.is_active(&next.access).await);
    let (status, answer) = server.redeem(&code).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert!(!server.is_active(&tokens.access).await && !server.is_active(&next.access).await);
    assert_eq!(server.refresh(&next.refresh).await.0, 400);
    let msg = "A code was used again: what it brought is ended";
    server.gate.log.line(msg, &[("principal", json!("user:alice"))]).await;

    let (tokens, other) = (server.tokens().await, server.tokens().await);
    let (_, answer) = server.refresh(&tokens.refresh).await;
    let next = Tokens::of(&answer);
    let (status, answer) = server.refresh(&tokens.refresh).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert!(!server.is_active(&next.access).await && server.is_active(&other.access).await);
    assert_eq!(server.refresh(&next.refresh).await.0, 400);
    let msg = "A refresh token of a client was used again: its grant is ended";
    server.gate.log.line(msg, &[("principal", json!("user:alice"))]).await;
    assert_eq!(server.refresh(&other.refresh).await.0, 200);
}

/// Which one of its grant a refresh token is.
fn generation(token: &str) -> u32 {
    sluicegate::identity::login::refresh_token::RefreshToken::parse(token).unwrap().generation
}

#[tokio::test]
async fn a_hundred_refreshes_at_once_are_one_rotation_and_one_successor() {
    let server = Server::start().await;
    let tokens = server.tokens().await;
    let all = futures((0..100).map(|_| server.refresh(&tokens.refresh))).await;
    let successors: std::collections::HashSet<_> =
        all.iter().map(|(status, answer)| (*status, answer["refresh_token"].to_string())).collect();
    assert_eq!(successors.len(), 1, "{successors:?}");
    let next = Tokens::of(&all[0].1).refresh;
    assert_eq!((generation(&tokens.refresh), generation(&next)), (0, 1));
    let (status, answer) = server.refresh(&next).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(generation(&Tokens::of(&answer).refresh), 2, "one rotation, however many asked");
}

#[tokio::test]
async fn what_is_wrong_with_a_code_brings_nothing_and_uses_it_up() {
    let server = Server::start().await;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let changes: [(&str, Option<&str>, &str); 8] = [
        ("code_verifier", None, "invalid_grant"),
        ("code_verifier", Some("wrong-verifier-0123456789-0123456789-0123456789"), "invalid_grant"),
        // What "plain" would take.
        ("code_verifier", Some(&challenge), "invalid_grant"),
        ("redirect_uri", Some("https://portal.example/callback?x"), "invalid_grant"),
        ("resource", Some("http://localhost:8080/db"), "invalid_target"),
        ("resource", Some("https://elsewhere.example/"), "invalid_target"),
        ("client_id", Some("auditor"), "invalid_client"),
        ("client_id", Some("phone"), "invalid_grant"),
    ];
    for (name, value, error) in changes {
        let code = server.code().await;
        let mut pairs = redemption(&code);
        pairs.extend([("client_id", "portal"), ("client_secret", PORTAL_SECRET)]);
        pairs.retain(|(other, _)| *other != name && !(value == Some("phone") && *other == "client_secret"));
        pairs.extend(value.map(|value| (name, value)));
        let (status, _, answer) = server.send("/token", "", &form(&pairs)).await;
        let wanted = if error == "invalid_client" { 401 } else { 400 };
        assert_eq!((status, &answer["error"]), (wanted, &json!(error)), "{name} {value:?}");
        // Who did not prove that it is a client has not come with the code at all.
        let (status, _) = server.redeem(&code).await;
        assert_eq!(status, if error == "invalid_client" { 200 } else { 400 }, "{name} {value:?}");
    }
    // The same place in other words, and no redirect URI, as OAuth 2.1 has it.
    let code = server.code().await;
    let mut pairs = redemption(&code);
    pairs.retain(|(name, _)| *name != "redirect_uri");
    pairs.push(("resource", "http://LOCALHOST:8080/"));
    assert_eq!(server.ask("/token", &pairs).await.0, 200);
}

#[tokio::test]
async fn a_refresh_may_ask_for_less_and_what_is_refused_uses_up_nothing() {
    let server = Server::start_with(json!({ "refreshReuseGrace": "0s" })).await;
    let tokens = server.tokens().await;
    let with = |name: &'static str, value: &'static str, token: &str| {
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", token), (name, value)];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let server = &server;
        async move {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            server.ask("/token", &pairs).await
        }
    };
    for (name, value, error) in [
        ("scope", "files:write", "invalid_scope"),
        ("resource", "https://elsewhere.example/mcp", "invalid_target"),
        ("resource", "http://localhost:8080/db/other", "invalid_target"),
        ("client_id", "phone", "invalid_request"),
    ] {
        let (status, answer) = with(name, value, &tokens.refresh).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{name} {value}");
    }
    let (status, answer) = with("resource", "http://localhost:8080/db/mcp", &tokens.refresh).await;
    assert_eq!(status, 200, "{answer}");
    let narrow = Tokens::of(&answer);
    assert_eq!(server.introspect(&narrow.access).await["aud"], "http://localhost:8080/db");
    // As at the first time, what means nothing here is left out.
    let (status, answer) = with("scope", "server:db openid", &narrow.refresh).await;
    assert_eq!((status, &answer["scope"]), (200, &json!("server:db")));
    // The grant itself is as wide as it was.
    let (status, answer) = server.refresh(&Tokens::of(&answer).refresh).await;
    assert_eq!((status, &answer["scope"]), (200, &json!("mcp offline_access")));
}

#[tokio::test]
async fn a_client_that_is_none_is_told_so_in_the_way_in_which_it_asked() {
    let server = Server::start().await;
    let basic = |text: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(text));
    let secret = PORTAL_SECRET;
    let good = basic(&format!("portal:{secret}"));
    for (fields, own, is_by_field) in [
        (String::new(), vec![], false),
        (String::new(), vec![("client_id", "nobody")], false),
        (String::new(), vec![("client_id", "sgc_AAAA")], false),
        (String::new(), vec![("client_id", "portal")], false),
        (String::new(), vec![("client_id", "portal"), ("client_secret", "wrong")], false),
        (String::new(), vec![("client_id", "portal"), ("client_secret", AUDITOR_SECRET)], false),
        (String::new(), vec![("client_id", "phone"), ("client_secret", secret)], false),
        (basic("portal:wrong"), vec![], true),
        (basic(&format!("nobody:{secret}")), vec![], true),
        (basic("portal:"), vec![], true),
        (format!("Authorization: Bearer {secret}\r\n"), vec![], true),
        (format!("Authorization: Bearer {DEV}\r\n"), vec![("client_id", "portal")], true),
    ] {
        for path in ["/token", "/revoke", "/oauth/introspect"] {
            let code = server.code().await;
            let asked = [&own[..], &redemption(&code), &[("token", "x")]].concat();
            let (status, head, answer) = server.send(path, &fields, &form(&asked)).await;
            assert_eq!(
                (status, &answer["error"]),
                (401, &json!("invalid_client")),
                "{path} {fields} {own:?}"
            );
            assert_eq!(field(&head, "www-authenticate").is_some(), is_by_field, "{path} {head}");
            assert_eq!(field(&head, "cache-control"), Some("no-store"));
        }
    }
    // What is not asked for as it has to be.
    let twice = "grant_type=refresh_token&refresh_token=x&refresh_token=y";
    for (path, fields, asked) in [
        ("/token", "", twice.to_owned()),
        ("/token?x=y", "", form(&redemption("x"))),
        ("/token", &*good, form(&[("client_id", "auditor")])),
        ("/token", &good, form(&[("client_secret", secret)])),
        ("/token", &good, String::new()),
        ("/token", &good, form(&[("grant_type", "authorization_code")])),
        ("/token", &good, form(&[("grant_type", "refresh_token")])),
        ("/revoke", &good, String::new()),
        ("/token", &*format!("{good}{good}"), form(&redemption("x"))),
    ] {
        let (status, _, answer) = server.send(path, fields, &asked).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{path} {asked}");
    }
    for kind in ["password", "implicit", "urn:ietf:params:oauth:grant-type:device_code"] {
        let (status, _, answer) = server.send("/token", &good, &form(&[("grant_type", kind)])).await;
        assert_eq!((status, &answer["error"]), (400, &json!("unsupported_grant_type")));
    }
    let json_body = post("/token", "", &good, "{}").replace("Authorization: Bearer \r\n", "");
    let (status, _, body) = server.gate.ask(&json_body).await;
    assert!(status == 400 && body.contains("invalid_request"), "{status} {body}");
    let code = server.code().await;
    assert_eq!(server.send("/token", &good, &form(&redemption(&code))).await.0, 200, "by the field alone");
    let preflight = "OPTIONS /token HTTP/1.1\r\nHost: localhost\r\nOrigin: https://claude.ai\r\n\
                     Access-Control-Request-Method: POST\r\n\r\n";
    let (status, head, _) = server.gate.ask(preflight).await;
    assert!(status == 204 && field(&head, "access-control-allow-origin") == Some("*"), "{head}");
    let log = server.gate.log.text();
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn a_client_learns_of_its_own_tokens_alone_and_nobody_revokes_those_of_others() {
    let server = Server::start().await;
    let new = server.alice();
    let of_phone = ClientGrant { client_id: "phone".into(), ..(*new.client).clone() };
    let code = server.code_of(NewCode { client: Arc::new(of_phone), ..new }).await;
    let asked = form(&[&redemption(&code)[..], &[("client_id", "phone")]].concat());
    let (status, _, answer) = server.send("/token", "", &asked).await;
    assert_eq!(status, 200, "{answer}");
    let phones = Tokens::of(&answer);
    let portals = server.tokens().await;
    assert_eq!(server.ask("/oauth/introspect", &[("token", &portals.access)]).await.1["active"], true);
    assert_eq!(server.ask("/oauth/introspect", &[("token", &phones.access)]).await.1["active"], false);
    assert!(server.is_active(&phones.access).await, "who has the role may know");
    let public = form(&[("client_id", "phone"), ("token", &phones.access)]);
    assert_eq!(server.send("/oauth/introspect", "", &public).await.0, 401, "anybody could be that client");
    for token in [&phones.access, &phones.refresh] {
        assert_eq!(server.ask("/revoke", &[("token", token)]).await.0, 200);
    }
    assert_eq!(server.refresh(&phones.refresh).await.0, 400);
    assert!(server.is_active(&phones.access).await, "it is not of the one who asked");
}

#[tokio::test]
async fn a_user_or_a_token_that_is_taken_away_takes_its_clients_with_it() {
    let mut server = Server::start().await;
    let of_alice = server.tokens().await;
    let digest: [u8; 32] = Sha256::digest(CI).into();
    let new = NewCode {
        principal: Principal::Token("ci".into()),
        fingerprint: server.pages.fingerprint_of_token(&digest).unwrap(),
        ..server.alice()
    };
    let (_, answer) = server.redeem(&server.code_of(new.clone()).await).await;
    let of_ci = Tokens::of(&answer);
    assert_eq!(server.introspect(&of_ci.access).await["sub"], "token:ci");
    let waiting = [server.code().await, server.code_of(new).await];
    let state = server._directory.path().join("state");
    let url = server._behind.url("/mcp");
    let other = passwords::hash(&Secret::new("another one".into())).unwrap();
    let users = json!({ "alice": { "passwordHash": other.expose() } });
    let without = json!({ "users": users, "tokens": { "dev": DEV, "ci": "another-ci-token-0123456789" } });
    server.gate.reload(config(&state, &url, without));
    for code in &waiting {
        assert_eq!(server.redeem(code).await.1["error"], "invalid_grant");
    }
    for tokens in [&of_alice, &of_ci] {
        assert!(!server.is_active(&tokens.access).await);
        assert_eq!(server.refresh(&tokens.refresh).await.1["error"], "invalid_grant");
    }
    // Nor does it come back with the config of before.
    server.gate.reload(config(&state, &url, json!({})));
    for tokens in [&of_alice, &of_ci] {
        assert!(!server.is_active(&tokens.access).await);
        assert_eq!(server.refresh(&tokens.refresh).await.0, 400);
    }
}

#[tokio::test]
async fn a_refresh_that_would_bring_nothing_of_use_is_refused_and_uses_up_nothing() {
    let mut server = Server::start_with(json!({ "refreshReuseGrace": "0s" })).await;
    let new = server.alice();
    let narrow = ClientGrant { scope: "mcp".into(), ..(*new.client).clone() };
    let new = NewCode { client: Arc::new(narrow), ..new };
    let (_, answer) = server.redeem(&server.code_of(new.clone()).await).await;
    let mut refresh = Tokens::of(&answer).refresh;
    let waiting = server.code_of(new).await;
    let state = server._directory.path().join("state");
    let url = server._behind.url("/mcp");
    let before = config(&state, &url, json!({ "refreshReuseGrace": "0s" }));
    // Its scope has no refresh tokens any more; its place is none of this gateway any more.
    let mut without = before.clone();
    without["proxy"]["auth"]["refreshTokenScopes"] = json!(["offline_access"]);
    let mut moved = before.clone();
    moved["proxy"]["baseUrl"] = json!("http://localhost:9090");
    for other in [without, moved] {
        server.gate.reload(other);
        for _ in 0..2 {
            assert_eq!(server.refresh(&refresh).await.1["error"], "invalid_grant");
        }
        server.gate.reload(before.clone());
        let (status, answer) = server.refresh(&refresh).await;
        assert_eq!(status, 200, "{answer}");
        refresh = Tokens::of(&answer).refresh;
    }
    let mut moved = before.clone();
    moved["proxy"]["baseUrl"] = json!("http://localhost:9090");
    server.gate.reload(moved);
    assert_eq!(server.redeem(&waiting).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn a_client_whose_kind_is_let_in_no_more_loses_what_it_has_and_may_give_it_back() {
    let mut server = Server::start().await;
    let body = json!({ "redirect_uris": ["https://app.example/cb"] }).to_string();
    let request = post("/register", "", "", &body).replace("Authorization: Bearer \r\n", "");
    let (status, _, answer) = server.gate.ask(&request).await;
    assert_eq!(status, 201, "{answer}");
    let registered =
        serde_json::from_str::<Value>(&answer).unwrap()["client_id"].as_str().unwrap().to_owned();
    let state = server._directory.path().join("state");
    let url = server._behind.url("/mcp");
    let document = "https://docs.example/client.json".to_owned();
    let mut access = Vec::new();
    for id in [&registered, &document] {
        let new = server.alice();
        let of_it = ClientGrant {
            client_id: id.as_str().into(),
            redirect_host: "app.example".into(),
            ..(*new.client).clone()
        };
        let new = NewCode { client: Arc::new(of_it), ..new };
        access.push(access_of(&server.gate, new).await.0);
    }
    // What opens a server is active, and nothing else is.
    for (registration, opens) in [
        (json!("open"), [true, true]),
        (json!("off"), [false, false]),
        (json!(["claude.ai"]), [false, false]),
        (json!(["docs.example"]), [false, true]),
        (json!(["app.example"]), [true, true]),
    ] {
        server.gate.reload(config(&state, &url, json!({ "registration": registration })));
        for (token, opens) in access.iter().zip(opens) {
            let status = server.gate.ask(&post("/db", token, "", "{}")).await.0;
            assert_eq!(status, if opens { 200 } else { 401 }, "{registration}");
            assert_eq!(server.is_active(token).await, opens, "{registration}");
        }
    }
    let mut moved = config(&state, &url, json!({}));
    moved["proxy"]["baseUrl"] = json!("http://localhost:9090");
    server.gate.reload(moved);
    assert!(!server.is_active(&access[0]).await, "it is of another gateway");
    server.gate.reload(config(&state, &url, json!({ "registration": "off" })));
    for (id, token) in [&registered, &document].into_iter().zip(&access) {
        let own = form(&[("client_id", id), ("token", token)]);
        assert_eq!(server.send("/revoke", "", &own).await.0, 200);
    }
    server.gate.reload(config(&state, &url, json!({})));
    for token in &access {
        assert!(!server.is_active(token).await, "it was given back");
    }
}

#[tokio::test]
async fn what_a_config_takes_from_its_clients_does_not_come_back_with_them() {
    let mut server = Server::start().await;
    let state = server._directory.path().join("state");
    let url = server._behind.url("/mcp");
    let before = config(&state, &url, json!({}));
    let mut without = before.clone();
    without["proxy"]["auth"]["clients"].as_object_mut().unwrap().remove("portal");
    let mut elsewhere = before.clone();
    elsewhere["proxy"]["auth"]["clients"]["portal"]["redirectUris"] = json!(["https://other.example/cb"]);
    let mut no_oauth = before.clone();
    no_oauth["proxy"]["auth"]["kind"] = json!("bearer_token");
    no_oauth["proxy"]["auth"].as_object_mut().unwrap().remove("clients");
    for (other, comes_back) in [(without.clone(), false), (elsewhere, false), (no_oauth, true)] {
        let Tokens { access, refresh, .. } = server.tokens().await;
        let ask = post("/db", &access, "", "{}");
        assert_eq!(server.gate.ask(&ask).await.0, 200);
        server.gate.reload(other.clone());
        assert_eq!(server.gate.ask(&ask).await.0, 401, "{other}");
        server.gate.reload(before.clone());
        assert_eq!(server.gate.ask(&ask).await.0, if comes_back { 200 } else { 401 }, "{other}");
        assert_eq!(server.refresh(&refresh).await.0, if comes_back { 200 } else { 400 }, "{other}");
    }
}

/// A file with a mistake changes nothing, and what it takes away is taken away all the same.
#[tokio::test]
async fn a_client_that_a_refused_file_does_not_have_is_out() {
    let server = Server::start().await;
    let state = server._directory.path().join("state");
    let url = server._behind.url("/mcp");
    let Tokens { access, refresh } = server.tokens().await;
    let ask = post("/db", &access, "", "{}");
    assert_eq!(server.gate.ask(&ask).await.0, 200);
    let mut without = config(&state, &url, json!({}));
    without["proxy"]["auth"]["clients"].as_object_mut().unwrap().remove("portal");
    without["proxy"]["keepAlive"] = json!("a while");
    let path = server._directory.path().join("refused.json");
    std::fs::write(&path, without.to_string()).unwrap();
    let remaining = sluicegate::config::load(&path, &|_| None).remaining.unwrap();
    assert!(server.gate.gateway.restrict(&remaining).unwrap().is_some());
    assert_eq!(server.gate.ask(&ask).await.0, 401);
    assert_eq!(server.refresh(&refresh).await.0, 401, "there is no such client");
}
