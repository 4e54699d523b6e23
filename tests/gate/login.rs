//! Users log in with a password, call with the session token that they get, refresh it, and log out. What takes that away ends
//! what runs, at once, and nothing of anybody else.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use sluicegate::{identity::login::passwords, ledger::Resource, secret::Secret};

use crate::{
    harness::{CI, DEV, Gate, SSE, Upstream, field, fields, get, open_stream, passes, post, soon, until},
    mcp::{Session, call, command},
    recorder::Recorder,
    tls::{Identity, connected},
};

const PASSWORD: &str = "password123";
const BOBS: &str = "correct horse battery staple";

/// Hashes of both passwords, and of another one.
static HASHES: LazyLock<[String; 3]> = LazyLock::new(|| {
    [PASSWORD, BOBS, "another one"]
        .map(|password| passwords::hash(&Secret::new(password.into())).unwrap().expose().to_owned())
});

/// A gateway with two users beside its tokens. All of them may use `db`; `admin` asks for a role.
fn config(url: &str) -> Value {
    json!({
        "proxy": {
            "auth": {
                "tokens": { "dev": DEV, "ci": CI },
                "users": {
                    "alice": { "passwordHash": HASHES[0], "roles": ["user"] },
                    "bob": { "passwordHash": HASHES[1], "roles": ["user", "admin"] },
                    "carol": { "passwordHash": HASHES[1], "disabled": true },
                },
            },
        },
        "mcpServers": {
            "db": { "url": url },
            "secrets": { "url": url, "roles": ["admin"] },
        },
    })
}

/// A request as a client makes it that has no token.
pub(crate) fn bare(path: &str, body: &str) -> String {
    post(path, "", "", body).replace("Authorization: Bearer \r\n", "")
}

async fn ask(gate: &Gate, path: &str, body: Value) -> (u16, Value) {
    let (status, _, body) = gate.ask(&bare(path, &body.to_string())).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// What a login brings.
struct Tokens {
    token: &'static str,
    refresh: String,
}

impl Tokens {
    fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        // As all tokens of these tests are.
        Self { token: text("token").leak(), refresh: text("refreshToken") }
    }
}

async fn log_in(gate: &Gate, user: &str, password: &str) -> Tokens {
    let (status, answer) = ask(gate, "/auth/login", json!({ "username": user, "password": password })).await;
    assert_eq!(status, 200, "{answer}");
    Tokens::of(&answer)
}

async fn refresh(gate: &Gate, token: &str) -> (u16, Value) {
    ask(gate, "/auth/refresh", json!({ "refreshToken": token })).await
}

async fn status(gate: &Gate, path: &str, token: &str) -> u16 {
    gate.ask(&post(path, token, "", "{}")).await.0
}

#[tokio::test]
async fn a_user_logs_in_calls_refreshes_and_logs_out() {
    let server = Recorder::start().await;
    let mut audited = config(&server.url("/mcp"));
    audited["proxy"]["audit"] = json!({});
    let gate = Gate::start(audited).await;
    let (status_, head, body) =
        gate.ask(&bare("/auth/login", r#"{"username": "alice", "password": "password123"}"#)).await;
    assert_eq!(status_, 200, "{body}");
    assert_eq!(field(&head, "cache-control"), Some("no-store"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&answer["user"], &answer["roles"]), (&json!("alice"), &json!(["user"])));
    assert_eq!(answer["expiresIn"], 900);
    let first = Tokens::of(&answer);
    assert!(first.token.starts_with("sgs_") && first.refresh.starts_with("sgr_"));

    assert_eq!(status(&gate, "/db", first.token).await, 200);
    assert_eq!(status(&gate, "/secrets", first.token).await, 403, "alice lacks the role");
    let bobs = log_in(&gate, "bob", BOBS).await;
    assert_eq!(status(&gate, "/secrets", bobs.token).await, 200);
    let seen = server.requests().concat();
    assert!(!seen.contains("sgs_") && !seen.to_lowercase().contains("authorization"), "{seen}");

    let (status_, answer) = refresh(&gate, &first.refresh).await;
    assert_eq!((status_, &answer["user"]), (200, &json!("alice")));
    let next = Tokens::of(&answer);
    assert_ne!((next.token, &next.refresh), (first.token, &first.refresh));
    for token in [first.token, next.token] {
        assert_eq!(status(&gate, "/db", token).await, 200);
    }

    let (status_, _, body) =
        gate.ask(&bare("/auth/logout", &json!({ "refreshToken": next.refresh }).to_string())).await;
    assert_eq!((status_, &*body), (204, ""));
    for token in [first.token, next.token] {
        assert_eq!(status(&gate, "/db", token).await, 401);
    }
    assert_eq!(refresh(&gate, &next.refresh).await.0, 401);
    assert_eq!(status(&gate, "/db", bobs.token).await, 200, "bob is still there");

    let log = gate.log.text();
    for secret in [PASSWORD, BOBS, first.token, &first.refresh, next.token, &next.refresh] {
        assert!(!log.contains(secret), "{log}");
    }
    gate.log.line("User logged in", &[("principal", json!("user:alice"))]).await;
    for path in ["/auth/login", "/auth/refresh", "/auth/logout", "/db"] {
        let fields = [("verdict", "allow"), ("principal", "user:alice"), ("path", path)];
        gate.log.line("Audit", &fields.map(|(key, value)| (key, json!(value)))).await;
    }
    let (status_, _) = ask(&gate, "/auth/login", json!({ "username": "alice", "password": "wrong" })).await;
    assert_eq!(status_, 401);
    let fields = [("verdict", "deny"), ("reason", "invalid_credentials"), ("path", "/auth/login")];
    gate.log.line("Audit", &fields.map(|(key, value)| (key, json!(value)))).await;
}

#[tokio::test]
async fn a_logout_takes_any_token_of_the_login_and_says_the_same_of_any_other() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let logout = |body: Value| bare("/auth/logout", &body.to_string());
    for way in 0..3 {
        let tokens = log_in(&gate, "alice", PASSWORD).await;
        let other = log_in(&gate, "alice", PASSWORD).await;
        let request = match way {
            0 => logout(json!({ "refreshToken": tokens.refresh })),
            1 => logout(json!({ "token": tokens.token })),
            _ => post("/auth/logout", tokens.token, "", "").replace("Content-Type: application/json\r\n", ""),
        };
        for _ in 0..2 {
            let (status, _, body) = gate.ask(&request).await;
            assert_eq!((status, &*body), (204, ""), "{request}");
        }
        assert_eq!(status(&gate, "/db", tokens.token).await, 401);
        assert_eq!(status(&gate, "/db", other.token).await, 200, "another login of hers");
    }
    for body in
        [json!({}), json!({ "token": DEV }), json!({ "token": "sgs_x" }), json!({ "refreshToken": "sgr_x" })]
    {
        assert_eq!(gate.ask(&logout(body)).await.0, 204);
    }
    assert_eq!(status(&gate, "/db", DEV).await, 200, "a token of the config is no login");
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_look_alike_and_too_many_are_refused() {
    let server = Recorder::start().await;
    let mut audited = config(&server.url("/mcp"));
    audited["proxy"]["audit"] = json!({});
    let gate = Gate::start(audited).await;
    let mut answers = HashSet::new();
    for (user, password) in
        [("alice", BOBS), ("nobody", PASSWORD), ("carol", BOBS), ("", ""), ("Alice", PASSWORD)]
    {
        let (status, head, body) = gate
            .ask(&bare("/auth/login", &json!({ "username": user, "password": password }).to_string()))
            .await;
        let mut body: Value = serde_json::from_str(&body).unwrap();
        let id = body.as_object_mut().unwrap().remove("request_id").unwrap();
        let head = head.replace(id.as_str().unwrap(), "");
        let head: Vec<_> = head.lines().filter(|line| !line.to_lowercase().starts_with("date:")).collect();
        answers.insert((status, head.join("\n"), body.to_string()));
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
    let (status_, head, body) = answers.into_iter().next().unwrap();
    assert!(status_ == 401 && body.contains("invalid_credentials"), "{status_} {body}");
    assert!(head.to_lowercase().contains("www-authenticate: bearer realm=\"test gate\""), "{head}");

    let mut attempts = 1;
    loop {
        let (status, answer) =
            ask(&gate, "/auth/login", json!({ "username": "alice", "password": "wrong" })).await;
        attempts += 1;
        if status == 429 {
            assert_eq!(answer["error"], "rate_limited");
            break;
        }
        // Real time: another one each six seconds.
        assert!(status == 401 && attempts < 60, "{status} {attempts}");
    }
    assert!(attempts > 10);
    let right = ask(&gate, "/auth/login", json!({ "username": "alice", "password": PASSWORD })).await;
    assert_eq!(right.0, 429, "before anything is compared");
    log_in(&gate, "bob", BOBS).await;
    assert_eq!(status(&gate, "/db", DEV).await, 200, "tokens are no affair of this");
    for reason in ["invalid_credentials", "rate_limited"] {
        let fields = [("verdict", "deny"), ("reason", reason), ("path", "/auth/login")];
        let line = gate.log.line("Audit", &fields.map(|(key, value)| (key, json!(value)))).await;
        assert!(line["principal"].is_null(), "nobody knows who that is: {line}");
    }
    assert!(!gate.log.text().contains("password123"));
}

#[tokio::test]
async fn what_is_no_login_is_refused_before_a_password_is_looked_at() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let good = json!({ "username": "alice", "password": PASSWORD }).to_string();
    let as_type = |content_type: &str| {
        bare("/auth/login", &good).replace("Content-Type: application/json", content_type)
    };
    let long = json!({ "username": "alice", "password": "x".repeat(9_000) }).to_string();
    let twice = r#"{"username": "alice", "password": "x", "password": "password123"}"#;
    let foreign = bare("/auth/login", &good).replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n");
    for (request, wanted, code) in [
        (as_type("Content-Type: application/x-www-form-urlencoded"), 415, "not_json"),
        (as_type("Content-Type: text/plain"), 415, "not_json"),
        (as_type("X-Nothing: 1"), 415, "not_json"),
        (bare("/auth/login", &long), 413, "payload_too_large"),
        (bare("/auth/login", ""), 400, "invalid_request"),
        (bare("/auth/login", "{"), 400, "invalid_request"),
        (bare("/auth/login", "[]"), 400, "invalid_request"),
        (bare("/auth/login", &format!("{good}x")), 400, "invalid_request"),
        (bare("/auth/login", twice), 400, "invalid_request"),
        (bare("/auth/login", r#"{"username": "alice"}"#), 400, "invalid_request"),
        (bare("/auth/refresh", "{}"), 400, "invalid_request"),
        (bare("/auth/refresh", r#"{"refreshToken": 1}"#), 400, "invalid_request"),
        (bare("/auth", r#"{"userId": "alice"}"#), 400, "invalid_request"),
        (
            bare("/auth", &format!(r#"{{"userId": "alice", "password": "{PASSWORD}", "token": "{DEV}"}}"#)),
            400,
            "invalid_request",
        ),
        (get("/auth/login", DEV, ""), 405, "method_not_allowed"),
        (bare("/auth/login/x", &good), 401, "unauthorized"),
        (foreign, 403, "forbidden_origin"),
    ] {
        let (status, _, body) = gate.ask(&request).await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["error"]), (wanted, &json!(code)), "{request}");
    }
    for content_type in
        ["Content-Type: Application/JSON; charset=utf-8", "content-type: application/json ;x=y"]
    {
        assert_eq!(gate.ask(&as_type(content_type)).await.0, 200, "{content_type}");
    }
    server.saw_nothing("none of it is for a server").await;
}

#[tokio::test]
async fn without_users_there_is_no_login() {
    let server = Recorder::start().await;
    let mut without = config(&server.url("/mcp"));
    without["proxy"]["auth"].as_object_mut().unwrap().remove("users");
    let gate = Gate::start(without).await;
    for path in ["/auth/login", "/auth/refresh", "/auth/logout", "/auth"] {
        let body = r#"{"username": "alice", "password": "password123"}"#;
        assert_eq!(gate.ask(&bare(path, body)).await.0, 401, "{path}");
        assert_eq!(gate.ask(&post(path, DEV, "", body)).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn no_kind_of_token_passes_for_another() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let other = Gate::start(config(&server.url("/mcp"))).await;
    let tokens = log_in(&gate, "alice", PASSWORD).await;
    let elsewhere = log_in(&other, "alice", PASSWORD).await;
    for token in [
        &tokens.refresh,
        &tokens.refresh.replace("sgr_", "sgs_"),
        elsewhere.token,
        PASSWORD,
        "sgs_",
        "sgs_AAAA",
    ] {
        assert_eq!(status(&gate, "/db", token).await, 401, "{token}");
    }
    let as_refresh = tokens.token.replace("sgs_", "sgr_");
    for token in [tokens.token, &as_refresh, &elsewhere.refresh, DEV, "", "sgr_", PASSWORD] {
        assert_eq!(refresh(&gate, token).await.0, 401, "{token}");
    }
    server.saw_nothing("no server has seen any of it").await;
    assert_eq!(refresh(&gate, &tokens.refresh).await.0, 200, "nor was the login ended");
}

#[tokio::test]
async fn a_hundred_refreshes_at_once_are_one_and_a_later_one_ends_the_login() {
    let server = Upstream::bind().await;
    let mut strict = config(&server.url("/mcp"));
    strict["proxy"]["auth"]["sessions"] = json!({ "reuseGrace": "0s" });
    let mut gate = Gate::start(config(&server.url("/mcp"))).await;
    let tokens = log_in(&gate, "alice", PASSWORD).await;
    let refreshing = (0..100).map(|_| refresh(&gate, &tokens.refresh));
    let mut successors = HashSet::new();
    for (status, answer) in futures(refreshing).await {
        assert_eq!(status, 200, "{answer}");
        successors.insert(Tokens::of(&answer).refresh);
    }
    assert_eq!(successors.len(), 1);
    let next = successors.into_iter().next().unwrap();

    let mine = open_stream(gate.addr, &server, tokens.token).await;
    let bobs_token = log_in(&gate, "bob", BOBS).await.token;
    let (mut bobs, mut behind_bobs) = open_stream(gate.addr, &server, bobs_token).await;
    gate.reload(strict);
    assert_eq!(refresh(&gate, &tokens.refresh).await.0, 401);
    let (mut client, _behind) = mine;
    client.rest().await;
    assert_eq!(status(&gate, "/db", tokens.token).await, 401);
    assert_eq!(refresh(&gate, &next).await.0, 401, "the login is ended, and with it what came of it");
    passes(&mut behind_bobs, &mut bobs, "data: for bob\n\n").await;
    gate.log
        .line("A refresh token was used again: its login is ended", &[("principal", json!("user:alice"))])
        .await;
}

/// What all of them come to, at once.
pub(crate) async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut all {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if all.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn whatever_takes_a_login_away_ends_its_streams_and_no_others() {
    type Change = fn(&mut Value);
    let ways: [(&str, Option<Change>, u16); 5] = [
        ("logout", None, 401),
        ("disabled", Some(|auth| auth["users"]["bob"]["disabled"] = json!(true)), 401),
        ("removed", Some(|auth| drop(auth["users"].as_object_mut().unwrap().remove("bob"))), 401),
        ("password", Some(|auth| auth["users"]["bob"]["passwordHash"] = json!(HASHES[2])), 401),
        ("role", Some(|auth| auth["users"]["bob"]["roles"] = json!(["user"])), 403),
    ];
    for (way, change, wanted) in ways {
        let server = Upstream::bind().await;
        let mut config = config(&server.url("/mcp"));
        config["mcpServers"]["db"]["roles"] = json!(["admin", "reader"]);
        config["proxy"]["auth"]["users"]["alice"]["roles"] = json!(["reader"]);
        let mut gate = Gate::start(config.clone()).await;
        let bobs = log_in(&gate, "bob", BOBS).await;
        let alices = log_in(&gate, "alice", PASSWORD).await;
        let (mut lost, mut behind_lost) = open_stream(gate.addr, &server, bobs.token).await;
        let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, alices.token).await;
        passes(&mut behind_lost, &mut lost, "data: for bob\n\n").await;
        match change {
            None => {
                let body = json!({ "refreshToken": bobs.refresh }).to_string();
                assert_eq!(gate.ask(&bare("/auth/logout", &body)).await.0, 204);
            }
            Some(change) => {
                let mut changed = config.clone();
                change(&mut changed["proxy"]["auth"]);
                gate.reload(changed);
            }
        }
        assert_eq!(lost.rest().await, b"", "{way}: nothing more came");
        gate.log.line("Stream closed", &[("reason", json!("token_revoked"))]).await;
        assert_eq!(gate.ask(&get("/db", bobs.token, "")).await.0, wanted, "{way}");
        if wanted == 401 {
            assert_eq!(refresh(&gate, &bobs.refresh).await.0, 401, "{way}");
        }
        passes(&mut behind_kept, &mut kept, "data: for alice\n\n").await;

        // What a config took away does not come back with the next one.
        gate.reload(config);
        if wanted == 401 {
            assert_eq!(gate.ask(&get("/db", bobs.token, "")).await.0, 401, "{way}");
        }
        let (status, _) = refresh(&gate, &bobs.refresh).await;
        assert_eq!(status, if wanted == 401 { 401 } else { 200 }, "{way}");
    }
}

#[tokio::test]
async fn a_session_of_mcp_outlives_refresh_and_login_and_is_of_no_token_of_the_same_name() {
    let mut config = config("http://127.0.0.1:9/mcp");
    config["mcpServers"] = json!({ "small": command() });
    config["proxy"]["auth"]["tokens"]["alice"] = json!("alice-token-0123456789abcdef");
    let gate = Gate::start(config).await;
    let first = log_in(&gate, "alice", PASSWORD).await;
    let session = Session::open(&gate, "/small/mcp", first.token).await;
    let pid = session.pid().await;
    let refreshed = Tokens::of(&refresh(&gate, &first.refresh).await.1);
    assert_eq!(session.by(refreshed.token).pid().await, pid);
    let again = log_in(&gate, "alice", PASSWORD).await;
    let body = json!({ "token": first.token }).to_string();
    assert_eq!(gate.ask(&bare("/auth/logout", &body)).await.0, 204);
    assert_eq!(session.by(again.token).pid().await, pid, "it belongs to alice, not to a login");
    assert_eq!(session.post("{}").await.0, 401);
    let bobs = log_in(&gate, "bob", BOBS).await;
    for other in [bobs.token, "alice-token-0123456789abcdef"] {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        assert_eq!(session.by(other).post(ping).await.0, 404);
    }
}

#[tokio::test]
async fn who_logs_in_too_often_loses_the_oldest_login() {
    let server = Recorder::start().await;
    let mut config = config(&server.url("/mcp"));
    config["proxy"]["auth"]["sessions"] = json!({ "perUser": 2, "accessTtl": "1h" });
    let gate = Gate::start(config).await;
    let mut logins = Vec::new();
    for _ in 0..3 {
        logins.push(log_in(&gate, "alice", PASSWORD).await);
    }
    let mut statuses = Vec::new();
    for login in &logins {
        statuses.push(status(&gate, "/db", login.token).await);
    }
    assert_eq!(statuses, [401, 200, 200]);
}

#[tokio::test]
async fn atrax_clients_log_in_as_they_do_there() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let body = json!({ "userId": "bob", "password": BOBS }).to_string();
    let (status_, head, body) = gate.ask(&bare("/auth", &body)).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status_, 200, "{answer}");
    assert_eq!((&answer["success"], &answer["userId"]), (&json!(true), &json!("bob")));
    assert_eq!(answer["roles"], json!(["user", "admin"]));
    humantime::parse_rfc3339(answer["expiresAt"].as_str().unwrap()).unwrap();
    let cookies: Vec<_> = fields(&head, "set-cookie").collect();
    let [cookie] = cookies[..] else { panic!("{cookies:?}") };
    let (token, rest) = cookie.strip_prefix("token=").unwrap().split_once("; ").unwrap();
    assert_eq!(rest, "Path=/; HttpOnly; Secure; SameSite=Strict; Max-Age=900");
    assert_eq!(status(&gate, "/secrets", token).await, 200);

    for (token, user, is_endless) in [(token, "bob", false), (DEV, "dev", true)] {
        let (status, _, body) = gate.ask(&bare("/auth", &json!({ "token": token }).to_string())).await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["userId"]), (200, &json!(user)), "{answer}");
        assert_eq!(answer["expiresAt"].is_null(), is_endless, "{answer}");
    }
    let (status, answer) = ask(&gate, "/auth", json!({ "token": "wrong" })).await;
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_token")));
    let (status, answer) = ask(&gate, "/auth", json!({ "userId": "bob", "password": PASSWORD })).await;
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_credentials")));
}

#[tokio::test]
async fn passwords_that_are_compared_hold_nobody_up() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let guesses: Vec<_> =
        (0..40).map(|n| json!({ "username": format!("user{n}"), "password": "wrong" })).collect();
    let guessing = guesses.into_iter().map(|guess| ask(&gate, "/auth/login", guess));
    let calls = async {
        for _ in 0..40 {
            assert_eq!(status(&gate, "/db", DEV).await, 200);
        }
    };
    let (answers, ()) = tokio::join!(futures(guessing), calls);
    let mut statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [401, 429], "one address has four compared at a time");
    until("its places are given back", || gate.gateway.shared().logins.passwords.is_idle()).await;
    log_in(&gate, "alice", PASSWORD).await;
}

#[tokio::test]
async fn a_token_in_a_body_is_judged_by_the_config_of_the_moment_in_which_the_body_is_there() {
    let server = Recorder::start().await;
    let before = config(&server.url("/mcp"));
    let mut gate = Gate::start(before.clone()).await;
    let mut without_ci = before.clone();
    without_ci["proxy"]["auth"]["tokens"]["ci"] = json!([]);
    let mut without_users = before.clone();
    without_users["proxy"]["auth"].as_object_mut().unwrap().remove("users");
    for (after, wanted) in [(without_ci, 401), (without_users, 503)] {
        gate.reload(before.clone());
        let whole = bare("/auth", &json!({ "token": CI }).to_string());
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        let mut client = gate.client().await;
        client.send(format!("{head}\r\nExpect: 100-continue\r\n\r\n")).await;
        assert!(
            client.head().await.starts_with("HTTP/1.1 100 "),
            "the head is judged, and the body is waited for"
        );
        gate.reload(after);
        client.send(body).await;
        let (status, _, body) = client.response().await;
        assert_eq!(status, wanted, "{body}");
    }
}

/// A request with a name and a password by `Basic`.
pub fn by_basic(path: &str, name: &str, password: impl AsRef<[u8]>) -> String {
    post(path, "", "", "{}").replace("Authorization: Bearer \r\n", &basic(name, password))
}

fn basic(name: &str, password: impl AsRef<[u8]>) -> String {
    let pair = STANDARD.encode([name.as_bytes(), b":", password.as_ref()].concat());
    format!("Authorization: Basic {pair}\r\n")
}

fn basic_config(url: &str) -> Value {
    let mut config = config(url);
    config["proxy"]["auth"]["schemes"] = json!(["bearer", "basic"]);
    config
}

#[tokio::test]
async fn a_password_opens_by_basic_as_long_as_it_is_the_users() {
    let server = Recorder::start().await;
    let mut before = basic_config(&server.url("/mcp"));
    before["proxy"]["audit"] = json!({});
    // A token of the same name is somebody else.
    before["proxy"]["auth"]["tokens"]["alice"] = json!("alice-token-0123456789abcdef");
    let mut gate = Gate::start(before.clone()).await;
    let opens = async |gate: &Gate, path: &str, name: &str, password: &str| {
        gate.ask(&by_basic(path, name, password)).await.0
    };
    // Far more often than somebody may try: the first alone is compared.
    for _ in 0..40 {
        assert_eq!(opens(&gate, "/db", "alice", PASSWORD).await, 200);
    }
    assert_eq!(opens(&gate, "/secrets", "alice", PASSWORD).await, 403);
    assert_eq!(opens(&gate, "/secrets", "bob", BOBS).await, 200);
    assert_eq!(opens(&gate, "/db", "alice", "alice-token-0123456789abcdef").await, 200);
    assert_eq!(opens(&gate, "/db", "alice", log_in(&gate, "alice", PASSWORD).await.token).await, 200);
    let seen = server.requests().concat();
    assert!(!seen.to_lowercase().contains("authorization") && !seen.contains(PASSWORD), "{seen}");
    for principal in ["user:alice", "user:bob", "token:alice"] {
        let fields = [("verdict", "allow"), ("principal", principal)];
        gate.log.line("Audit", &fields.map(|(key, value)| (key, json!(value)))).await;
    }

    // What takes it away counts at once, whatever is remembered.
    type Change = fn(&mut Value);
    let changes: [(Change, u16); 4] = [
        (|users| users["alice"]["passwordHash"] = json!(HASHES[2]), 401),
        (|users| users["alice"]["disabled"] = json!(true), 401),
        (|users| drop(users.as_object_mut().unwrap().remove("alice")), 401),
        (|users| users["alice"]["servers"] = json!([]), 403),
    ];
    for (change, wanted) in changes {
        let mut changed = before.clone();
        change(&mut changed["proxy"]["auth"]["users"]);
        gate.reload(changed);
        assert_eq!(opens(&gate, "/db", "alice", PASSWORD).await, wanted);
        assert_eq!(opens(&gate, "/db", "bob", BOBS).await, 200);
        gate.reload(before.clone());
        assert_eq!(opens(&gate, "/db", "alice", PASSWORD).await, 200);
    }
    let mut changed = before.clone();
    changed["proxy"]["auth"]["users"]["alice"]["passwordHash"] = json!(HASHES[2]);
    gate.reload(changed);
    assert_eq!(opens(&gate, "/db", "alice", "another one").await, 200);
    let log = gate.log.text();
    for secret in [PASSWORD, BOBS, "another one", &STANDARD.encode(format!("alice:{PASSWORD}"))] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn a_password_that_is_wrong_by_basic_says_nothing_and_is_guessed_a_few_times() {
    let server = Recorder::start().await;
    let mut config = basic_config(&server.url("/mcp"));
    config["proxy"]["audit"] = json!({});
    let gate = Gate::start(config).await;
    assert_eq!(gate.ask(&by_basic("/db", "bob", BOBS)).await.0, 200);
    let mut answers = HashSet::new();
    for (name, password) in [
        ("alice", "wrong".as_bytes()),
        ("alice", BOBS.as_bytes()),
        ("mallory", PASSWORD.as_bytes()),
        ("carol", BOBS.as_bytes()),
        ("alice", b"password123\xFF"),
        ("alice", DEV.as_bytes()),
        ("dev", PASSWORD.as_bytes()),
    ] {
        let (status, head, body) = gate.ask(&by_basic("/db", name, password)).await;
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["request_id"].take();
        let challenges: Vec<_> = fields(&head, "www-authenticate").map(str::to_owned).collect();
        answers.insert((status, challenges, body.to_string()));
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
    let (status_, challenges, body) = answers.into_iter().next().unwrap();
    assert!(status_ == 401 && body.contains("\"invalid_token\""), "{status_} {body}");
    let invalid = "Bearer realm=\"test gate\", error=\"invalid_token\"";
    assert_eq!(challenges, [invalid, "Basic realm=\"test gate\", charset=\"UTF-8\""]);

    let mut attempts = 0;
    let (head, body) = loop {
        let (status, head, body) = gate.ask(&by_basic("/db", "bob", format!("guess {attempts}"))).await;
        attempts += 1;
        if status == 429 {
            break (head, body);
        }
        // Real time: another one each six seconds.
        assert!(status == 401 && attempts < 60, "{status} {attempts}");
    };
    assert!(attempts > 9 && body.contains("\"rate_limited\""), "{attempts} {body}");
    assert!(field(&head, "retry-after").is_some() && field(&head, "www-authenticate").is_none(), "{head}");
    assert_eq!(gate.ask(&by_basic("/db", "bob", BOBS)).await.0, 200, "who is known is not kept out by it");
    let login = ask(&gate, "/auth/login", json!({ "username": "bob", "password": BOBS })).await;
    assert_eq!(login.0, 429, "it is one count for both");
    let of_logins = "sluicegate_rate_limited_total{key=\"logins\"} 2";
    assert!(gate.metrics().contains(of_logins), "{}", gate.metrics());
    for reason in ["invalid_token", "rate_limited"] {
        let fields = [("verdict", "deny"), ("reason", reason), ("path", "/db")];
        let line = gate.log.line("Audit", &fields.map(|(key, value)| (key, json!(value)))).await;
        assert!(line["principal"].is_null(), "nobody knows who that is: {line}");
    }
    let log = gate.log.text();
    assert!(!log.contains("guess") && !log.contains(PASSWORD) && !log.contains(BOBS), "{log}");
}

#[tokio::test]
async fn wrong_passwords_by_basic_count_as_other_credentials_that_are_not_good() {
    let server = Recorder::start().await;
    let mut config = basic_config(&server.url("/mcp"));
    config["proxy"]["rateLimits"] = json!({ "authFailures": "3/h" });
    let gate = Gate::start(config).await;
    let mut statuses = Vec::new();
    for guess in 0..4 {
        statuses.push(gate.ask(&by_basic("/db", &format!("name{guess}"), "wrong")).await.0);
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    assert_eq!(gate.ask(&by_basic("/db", "alice", PASSWORD)).await.0, 200, "a good one is let in");
}

#[tokio::test]
async fn calls_that_bring_a_password_at_once_wait_for_one_comparison() {
    let server = Recorder::start().await;
    let gate = Gate::start(basic_config(&server.url("/mcp"))).await;
    // Of one address, four are compared at a time.
    let right = by_basic("/db", "alice", PASSWORD);
    let wrong = by_basic("/db", "bob", "wrong");
    let calls = (0..60).map(|n| gate.ask(if n % 2 == 0 { &right } else { &wrong }));
    for (n, (status, _, body)) in futures(calls).await.into_iter().enumerate() {
        assert_eq!(status, if n % 2 == 0 { 200 } else { 401 }, "{body}");
    }
    until("nothing is compared", || gate.gateway.shared().logins.passwords.is_idle()).await;
}

#[tokio::test]
async fn a_stream_by_basic_ends_with_the_password_and_a_session_is_of_the_user() {
    let server = Upstream::bind().await;
    let mut before = basic_config(&server.url("/mcp"));
    before["mcpServers"]["db"]["roles"] = json!(["admin", "reader"]);
    before["mcpServers"]["small"] = command();
    before["proxy"]["auth"]["users"]["alice"]["roles"] = json!(["reader"]);
    let stream_of = async |gate: &Gate, name: &str, password: &str| {
        let mut client = gate.client().await;
        client.send(get("/db", "", "").replace("Authorization: Bearer \r\n", &basic(name, password))).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.send(SSE).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        (client, behind)
    };
    type Change = fn(&mut Value);
    let ways: [(&str, Change, u16); 4] = [
        ("disabled", |users| users["bob"]["disabled"] = json!(true), 401),
        ("removed", |users| drop(users.as_object_mut().unwrap().remove("bob")), 401),
        ("password", |users| users["bob"]["passwordHash"] = json!(HASHES[2]), 401),
        ("role", |users| users["bob"]["roles"] = json!(["user"]), 403),
    ];
    let mut gate = Gate::start(before.clone()).await;
    let (mut kept, mut behind_kept) = stream_of(&gate, "alice", PASSWORD).await;
    for (way, change, wanted) in ways {
        let (mut lost, mut behind_lost) = stream_of(&gate, "bob", BOBS).await;
        passes(&mut behind_lost, &mut lost, "data: for bob\n\n").await;
        let mut changed = before.clone();
        change(&mut changed["proxy"]["auth"]["users"]);
        gate.reload(changed);
        assert_eq!(lost.rest().await, b"", "{way}: nothing more came");
        assert_eq!(gate.ask(&by_basic("/db", "bob", BOBS)).await.0, wanted, "{way}");
        passes(&mut behind_kept, &mut kept, "data: for alice\n\n").await;
        gate.reload(before.clone());
    }

    let token = log_in(&gate, "alice", PASSWORD).await.token;
    let session = Session::open(&gate, "/small/mcp", token).await;
    let pid = session.pid().await;
    let call = |name: &str, password: &str| {
        let call = post("/small/mcp", "", &session.field, &call(7, "pid", json!({})));
        call.replace("Authorization: Bearer \r\n", &basic(name, password))
    };
    let (status, _, body) = gate.ask(&call("alice", PASSWORD)).await;
    assert!(status == 200 && body.contains(&pid.to_string()), "{status} {body}");
    assert_eq!(gate.ask(&call("bob", BOBS)).await.0, 404);
}

#[tokio::test]
async fn bodies_that_do_not_end_take_nothing_from_anybody_and_keep_nobody_out() {
    let server = Recorder::start().await;
    let mut config = config(&server.url("/mcp"));
    config["proxy"]["limits"] = json!({ "maxRequests": 8 });
    let gate = Gate::start(config).await;
    let pending = &gate.gateway.shared().logins.pending;
    let begun = bare("/auth/login", "{").replace("Content-Length: 1\r\n", "Content-Length: 8000\r\n");
    let mut clients = Vec::new();
    for count in 1..=16 {
        let mut client = gate.client().await;
        client.send(&begun).await;
        clients.push(client);
        until("it has a place", || pending.count() == count).await;
    }
    let mut later = Vec::new();
    for _ in 0..16 {
        let mut client = gate.client().await;
        client.send(&begun).await;
        later.push(client);
    }
    for client in &mut clients {
        let (status, _, body) = soon("it gives way", client.response()).await;
        assert_eq!(status, 503, "{body}");
    }
    assert_eq!(pending.count(), 16);
    let (_, used) = gate.gateway.shared().ledger.usage(Resource::Requests);
    assert_eq!(used, 0, "they hold no place of the gateway's requests");
    assert_eq!(status(&gate, "/db", DEV).await, 200);
    log_in(&gate, "alice", PASSWORD).await;
    for client in &later {
        let answered = client.stream.try_read(&mut [0; 1]);
        let waits = answered.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(waits, "a body that is whole drives out nobody");
    }
    drop(later);
    until("their places are given back", || pending.count() == 0).await;
}

#[tokio::test]
async fn logins_count_for_their_address_and_refreshes_for_their_user() {
    let server = Recorder::start().await;
    let mut limited = config(&server.url("/mcp"));
    limited["proxy"]["rateLimits"] = json!({ "peer": "3/h" });
    let gate = Gate::start(limited.clone()).await;
    let mut statuses = Vec::new();
    for (path, body) in
        [("/auth/logout", "{}"), ("/auth/login", "x"), ("/auth/refresh", "{}"), ("/auth", "{}")]
    {
        statuses.push(gate.ask(&bare(path, body)).await.0);
    }
    assert_eq!(statuses, [204, 400, 400, 429]);

    limited["proxy"]["rateLimits"] = json!({ "principal": "2/h" });
    let mut gate = Gate::start(limited).await;
    let mut tokens = log_in(&gate, "alice", PASSWORD).await;
    for _ in 0..2 {
        tokens = Tokens::of(&refresh(&gate, &tokens.refresh).await.1);
    }
    let (status_, answer) = refresh(&gate, &tokens.refresh).await;
    assert_eq!((status_, &answer["error"]), (429, &json!("rate_limited")), "{answer}");
    assert_eq!(status(&gate, "/db", tokens.token).await, 429, "calls of hers count for the same");
    for wanted in [200, 200, 429] {
        assert_eq!(ask(&gate, "/auth", json!({ "token": DEV })).await.0, wanted);
    }
    gate.reload(config(&server.url("/mcp")));
    assert_eq!(refresh(&gate, &tokens.refresh).await.0, 200, "it was not used up");
    let body = json!({ "token": tokens.token }).to_string();
    assert_eq!(gate.ask(&bare("/auth/logout", &body)).await.0, 204);
}

/// A request by HTTP/2, whose body comes behind its head, even if it is empty.
async fn ask_h2(
    gate: &Gate,
    identity: &Identity,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let stream = connected(gate, identity, &["h2"]).await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let head = http::Request::post(format!("https://localhost{path}"));
    let head = fields.iter().fold(head, |head, (name, value)| head.header(*name, *value));
    let head = head.header("content-length", body.len()).body(()).unwrap();
    let (answer, mut sending) = client.send_request(head, false).unwrap();
    sending.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    let mut answer = soon("an answer", answer).await.unwrap();
    let mut read = Vec::new();
    while let Some(data) = soon("its body", answer.body_mut().data()).await {
        read.extend_from_slice(&data.unwrap());
    }
    (answer.status().as_u16(), String::from_utf8(read).unwrap())
}

#[tokio::test]
async fn a_logout_whose_body_turns_out_to_be_empty_needs_no_content_type() {
    let (server, identity) = (Recorder::start().await, Identity::new());
    let mut config = config(&server.url("/mcp"));
    config["proxy"]["tls"] = identity.config();
    let gate = Gate::start(config).await;
    let json = ("content-type", "application/json");
    let login = json!({ "username": "alice", "password": PASSWORD }).to_string();
    let (status, answer) = ask_h2(&gate, &identity, "/auth/login", &[json], &login).await;
    assert_eq!(status, 200, "{answer}");
    let tokens = Tokens::of(&serde_json::from_str(&answer).unwrap());
    let bearer = format!("Bearer {}", tokens.token);
    let mine = ("authorization", &*bearer);
    assert_eq!(
        ask_h2(&gate, &identity, "/auth/logout", &[mine], "{}").await.0,
        415,
        "a body says what it is"
    );
    assert_eq!(ask_h2(&gate, &identity, "/db", &[mine, json], "{}").await.0, 200);
    assert_eq!(ask_h2(&gate, &identity, "/auth/logout", &[mine], "").await.0, 204);
    assert_eq!(ask_h2(&gate, &identity, "/db", &[mine, json], "{}").await.0, 401);
    assert_eq!(ask_h2(&gate, &identity, "/auth/login", &[], "").await.0, 415);
}

#[tokio::test]
async fn the_audit_names_whose_refresh_token_was_used_again_whatever_strangers_do() {
    let server = Recorder::start().await;
    let mut audited = config(&server.url("/mcp"));
    audited["proxy"]["audit"] = json!({});
    audited["proxy"]["auth"]["sessions"] = json!({ "reuseGrace": "0s" });
    let gate = Gate::start_pausing(audited, Duration::from_secs(3600)).await;
    let mut used = Vec::new();
    for (user, password) in [("alice", PASSWORD), ("bob", BOBS)] {
        let tokens = log_in(&gate, user, password).await;
        assert_eq!(refresh(&gate, &tokens.refresh).await.0, 200);
        used.push((user, tokens));
    }
    assert_eq!(refresh(&gate, "sgr_x").await.0, 401);
    for (user, tokens) in used {
        let (status, answer) = refresh(&gate, &tokens.refresh).await;
        assert_eq!((status, &answer["error"]), (401, &json!("invalid_token")), "it learns nothing");
        let fields = [
            ("verdict", "deny"),
            ("principal", &format!("user:{user}")),
            ("reason", "refresh_token_reused"),
            ("rule", "proxy.auth.sessions.reuseGrace"),
            ("path", "/auth/refresh"),
        ];
        gate.log.line("Audit", &fields.map(|(key, value)| (key, json!(value)))).await;
    }
}

#[tokio::test]
async fn a_logout_is_of_one_user() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    let (alices, bobs) = (log_in(&gate, "alice", PASSWORD).await, log_in(&gate, "bob", BOBS).await);
    let both = json!({ "refreshToken": alices.refresh, "token": bobs.token });
    let (status_, answer) = ask(&gate, "/auth/logout", both).await;
    assert_eq!((status_, &answer["error"]), (400, &json!("invalid_request")));
    for token in [alices.token, bobs.token] {
        assert_eq!(status(&gate, "/db", token).await, 200, "nothing was ended");
    }
}

#[tokio::test]
async fn a_reload_while_a_password_is_compared_refuses_a_login_only_if_the_user_changed() {
    let server = Recorder::start().await;
    let (mut other, mut changed) = (config(&server.url("/mcp")), config(&server.url("/mcp")));
    other["proxy"]["name"] = json!("another");
    changed["proxy"]["auth"]["users"]["alice"]["passwordHash"] = json!(HASHES[2]);
    let mut gate = Gate::start(config(&server.url("/mcp"))).await;
    for (reloaded, wanted) in [(other, 200), (changed, 503)] {
        let shared = Arc::clone(gate.gateway.shared());
        let passwords = &shared.logins.passwords;
        // What costs most, for others, so that it has to wait.
        let others: Vec<_> = (1..=8)
            .map(|last| {
                let place = passwords.place(IpAddr::from([192, 0, 2, last]).into()).unwrap();
                let hash = HASHES[2].replace("m=19456,t=2", "m=65536,t=4");
                passwords.compare(Secret::new("x".into()), Secret::new(hash), place)
            })
            .collect();
        until("two of them are compared", || passwords.waiting() == 6).await;
        let mut client = gate.client().await;
        let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
        client.send(bare("/auth/login", &body)).await;
        until("it waits", || passwords.waiting() == 7).await;
        gate.reload(reloaded);
        drop(others);
        let (status, _, body) = soon("an answer", client.response()).await;
        assert_eq!(status, wanted, "{body}");
    }
}
