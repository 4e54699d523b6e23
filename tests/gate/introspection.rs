//! Tokens that only their issuer can read: it is asked, and what it takes back ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use sluicegate::clock::Clock;
use test_support::issuer::{AUDIENCE, CLIENT_SECRET, Introspection, TestIssuer, active};

use crate::{
    harness::{DEV, Gate, Upstream, field, get, open_stream, passes, pause, post, soon, until},
    recorder::Recorder,
    users::CHEAP_HASHES,
};

const BASE: &str = "http://localhost";
const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";

/// A gateway behind which everything is asked about at `introspection`.
fn config(issuer: &TestIssuer, introspection: &Introspection, server: &str) -> Value {
    let mut corp = issuer.config();
    corp["introspection"] = introspection.config();
    json!({
        "proxy": {
            "baseUrl": BASE,
            "rateLimits": { "authFailures": "off" },
            "auth": {
                "tokens": { "dev": DEV },
                "issuers": { "corp": corp },
                "assign": [
                    { "if": { "issuer": "corp", "claim": "groups", "has": "eng" }, "roles": ["eng"] },
                    { "if": { "claim": "client_id", "has": "robot" }, "roles": ["admin"] },
                ],
            },
        },
        "mcpServers": { "db": { "url": server }, "code": { "url": server, "roles": ["eng"] } },
    })
}

/// A clock that is as many half minutes ahead as the number says.
fn clock() -> (Clock, Arc<AtomicU32>) {
    let ahead = Arc::new(AtomicU32::new(0));
    let of_clock = Arc::clone(&ahead);
    let by = move || SystemTime::now() + of_clock.load(Ordering::Relaxed) * Duration::from_secs(30);
    (Clock::by(by), ahead)
}

async fn status(gate: &Gate, path: &str, token: &str) -> u16 {
    gate.ask(&post(path, token, "", "{}")).await.0
}

#[tokio::test]
async fn who_has_a_token_that_its_issuer_knows_may_do_what_the_config_gives_for_what_that_says() {
    let (issuer, introspection) = (TestIssuer::start().await, Introspection::start().await);
    let server = Recorder::start().await;
    let gate = Gate::start(config(&issuer, &introspection, &server.url("/mcp"))).await;
    for (token, says, opens) in [
        ("t0", json!({}), ["db"].as_slice()),
        ("t1", json!({ "groups": ["eng"] }), &["db", "code"]),
        ("t2", json!({ "groups": ["eng"], "scope": "openid server:code" }), &["code"]),
        ("t3", json!({ "scope": "openid" }), &[]),
        ("t4", json!({ "groups": ["eng"], "aud": format!("{BASE}/code/mcp") }), &["code"]),
        ("t5", json!({ "aud": ["other", AUDIENCE], "iss": issuer.url() }), &["db"]),
        ("t6", json!({ "client_id": "robot", "token_type": "bearer" }), &["db"]),
    ] {
        introspection.says(token, active("bob", says.clone()));
        for name in ["db", "code"] {
            let status = status(&gate, &format!("/{name}/mcp"), token).await;
            assert_eq!(status == 200, opens.contains(&name), "{says} {name} {status}");
        }
        assert_eq!(introspection.asked(token), 1, "over all workers");
    }
    assert_eq!(gate.ask(&get("/servers", "t6", "")).await.0, 200);
    gate.log.line("Authenticated request", &[("principal", json!("jwt:corp:bob"))]).await;
    for (token, says) in [
        ("b0", json!({ "active": false })),
        ("b1", json!({ "active": "true" })),
        ("b2", json!({ "iss": "https://elsewhere.example" })),
        ("b3", json!({ "aud": null })),
        ("b4", json!({ "aud": "elsewhere" })),
        ("b5", json!({ "sub": null })),
        ("b6", json!({ "exp": 1 })),
        ("b7", json!({ "token_type": "DPoP" })),
    ] {
        introspection.says(token, active("bob", says.clone()));
        let (status, head, _) = gate.ask(&post("/db/mcp", token, "", "{}")).await;
        let challenge = field(&head, "www-authenticate").unwrap_or_default();
        assert!(status == 401 && challenge.contains("invalid_token"), "{says} {status}");
    }
    let seen = server.requests();
    assert!(seen.iter().all(|request| field(request, "authorization").is_none()));
    let shown = gate.log.text() + &gate.metrics();
    assert!(!shown.contains(CLIENT_SECRET) && !shown.contains("Basic "), "no secret is anywhere");
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_of_another_kind() {
    let (issuer, introspection) = (TestIssuer::start().await, Introspection::start().await);
    let server = Recorder::start().await;
    let mut with_prefix = config(&issuer, &introspection, &server.url("/mcp"));
    with_prefix["proxy"]["auth"]["issuers"]["corp"]["introspection"]["tokenPrefix"] = json!("corp_");
    with_prefix["proxy"]["auth"]["schemes"] = json!(["bearer", "x-api-key", "basic"]);
    let mut with_users = config(&issuer, &introspection, &server.url("/mcp"));
    for config in [&mut with_prefix, &mut with_users] {
        config["proxy"]["auth"]["users"] = json!({ "alice": { "passwordHash": CHEAP_HASHES[0] } });
    }
    let mut gate = Gate::start(with_users).await;
    assert_eq!(status(&gate, "/db/mcp", DEV).await, 200);
    let elsewhere = issuer.token("bob", json!({ "iss": "https://elsewhere.example" }));
    let expired = issuer.token("bob", json!({ "exp": 1 }));
    let long = "a".repeat(9 << 10);
    for token in ["sg_x", "sga_x", "sgs_x", "sgr_x", "sgc_x", "a%20b", &elsewhere, &expired, &long] {
        assert_eq!(status(&gate, "/db/mcp", token).await, 401, "{token}");
    }
    let body = json!({ "token": TOKEN }).to_string();
    assert_eq!(gate.ask(&post("/auth", "", "", &body)).await.0, 401, "nobody logs in with it");
    assert_eq!(introspection.asked_in_all(), 0);
    gate.reload(with_prefix);
    introspection.says("corp_x", active("bob", json!({})));
    introspection.says("sap_x", active("bob", json!({})));
    assert_eq!(status(&gate, "/db/mcp", "sap_x").await, 401);
    let basic = "GET /db/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Ym9iOmNvcnBfeA==\r\n\r\n";
    assert_eq!(gate.ask(basic).await.0, 401, "whose password it is, an issuer does not say");
    assert_eq!(introspection.asked_in_all(), 0);
    assert_eq!(status(&gate, "/db/mcp", "corp_x").await, 200);
    assert_eq!(introspection.asked_in_all(), 1);
}

#[tokio::test]
async fn a_stream_ends_once_the_issuer_takes_its_token_back_and_no_other_loses_a_byte() {
    let (issuer, introspection) = (TestIssuer::start().await, Introspection::start().await);
    let server = Upstream::bind().await;
    let (clock, ahead) = clock();
    let config = config(&issuer, &introspection, &server.url("/mcp"));
    let gate = Gate::start_by(config, Duration::ZERO, clock).await;
    // One that only the issuer can read, and one that says by itself what it is.
    let jwt = issuer.token("alice", json!({}));
    for token in [TOKEN, &jwt] {
        introspection.says(TOKEN, active("bob", json!({})));
        introspection.says(&jwt, active("alice", json!({})));
        introspection.says("other", active("carol", json!({ "exp": null })));
        let (mut cut, _behind) = open_stream(gate.addr, &server, token).await;
        let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, "other").await;
        let asked = || (introspection.asked(token), introspection.asked("other"));
        let before = asked();
        ahead.fetch_add(1, Ordering::Relaxed);
        until("it is asked again about both", || {
            let now = asked();
            now.0 > before.0 && now.1 > before.1
        })
        .await;
        passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;
        introspection.revokes(token);
        ahead.fetch_add(1, Ordering::Relaxed);
        soon("the end of the stream", cut.rest()).await;
        assert_eq!(status(&gate, "/db/mcp", token).await, 401);
        passes(&mut behind_kept, &mut kept, "data: 2\n\n").await;
        // For a while, nobody has to say that the other one is good.
        introspection.is_down(true);
        ahead.fetch_add(2, Ordering::Relaxed);
        passes(&mut behind_kept, &mut kept, "data: 3\n\n").await;
        assert_eq!(status(&gate, "/db/mcp", "other").await, 503);
        ahead.fetch_add(11, Ordering::Relaxed);
        soon("the end of the other", kept.rest()).await;
        introspection.is_down(false);
    }
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_has_nobody_log_in_anew() {
    let (issuer, introspection) = (TestIssuer::start().await, Introspection::start().await);
    let server = Recorder::start().await;
    let gate = Gate::start(config(&issuer, &introspection, &server.url("/mcp"))).await;
    introspection.says(TOKEN, active("bob", json!({})));
    introspection.is_down(true);
    let (status, head, body) = gate.ask(&post("/db/mcp", TOKEN, "", "{}")).await;
    assert!(status == 503 && field(&head, "retry-after").is_some(), "{status} {body}");
    assert!(field(&head, "www-authenticate").is_none());
    let line = gate.log.line("Refused request", &[("reason", json!("unavailable"))]).await;
    assert!(line.to_string().contains("the issuer corp does not say what the token is"), "{line}");
    assert_eq!(gate.ask(&post("/db/mcp", DEV, "", "{}")).await.0, 200, "others notice nothing");
    introspection.is_down(false);
    let is_let_in = async {
        while gate.ask(&post("/db/mcp", TOKEN, "", "{}")).await.0 != 200 {
            pause().await;
        }
    };
    soon("an answer of the issuer, which is asked again after a second", is_let_in).await;
}

#[tokio::test]
async fn whoever_guesses_too_often_has_nobody_asked_and_a_token_that_is_known_passes() {
    let (issuer, introspection) = (TestIssuer::start().await, Introspection::start().await);
    let server = Recorder::start().await;
    let mut config = config(&issuer, &introspection, &server.url("/mcp"));
    config["proxy"]["rateLimits"]["authFailures"] = json!("3/h");
    let gate = Gate::start(config).await;
    introspection.says("known", active("bob", json!({})));
    introspection.says("new", active("bob", json!({})));
    assert_eq!(status(&gate, "/db/mcp", "known").await, 200);
    for n in 0..3 {
        assert_eq!(status(&gate, "/db/mcp", &format!("guess-{n}")).await, 401);
    }
    let asked = introspection.asked_in_all();
    // A token is not looked at any more that nobody knows, whoever could tell.
    let forged = issuer.token("bob", json!({})) + "A";
    for token in ["guess-4", "new", &forged] {
        let (status, head, body) = gate.ask(&post("/db/mcp", token, "", "{}")).await;
        assert!(status == 429 && field(&head, "retry-after").is_some(), "{token} {status} {body}");
    }
    assert_eq!(introspection.asked_in_all(), asked);
    assert_eq!(status(&gate, "/db/mcp", "known").await, 200);
    assert_eq!(status(&gate, "/db/mcp", DEV).await, 200);
}

#[tokio::test]
async fn clients_learn_which_issuer_has_tokens_for_a_place_without_oauth_too() {
    let (issuer, introspection) = (TestIssuer::start().await, Introspection::start().await);
    let server = Recorder::start().await;
    let mut config = config(&issuer, &introspection, &server.url("/mcp"));
    let mut gate = Gate::start(config.clone()).await;
    for (place, path) in [("/db/mcp", "/db/mcp"), ("/none/mcp?a=b", "/none/mcp?a=b"), ("", "")] {
        let (status, head, body) =
            gate.ask(&get(&format!("/.well-known/oauth-protected-resource{path}"), "", "")).await;
        let said: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, field(&head, "access-control-allow-origin")), (200, Some("*")), "{path}");
        assert_eq!(said["resource"], format!("{BASE}{place}"));
        assert_eq!(said["authorization_servers"], json!([issuer.url()]));
    }
    for token in ["", "sg_x"] {
        let (status, head, _) = gate.ask(&post("/db/mcp", token, "", "{}")).await;
        let challenge = field(&head, "www-authenticate").unwrap();
        let location = format!(
            "resource_metadata=\"{BASE}/.well-known/oauth-protected-resource/db/mcp\", scope=\"mcp\""
        );
        assert!(status == 401 && challenge.contains(&location), "{challenge}");
    }
    for path in ["/.well-known/oauth-authorization-server", "/authorize", "/token"] {
        assert_eq!(gate.ask(&get(path, "", "")).await.0, 404, "{path}");
    }
    // Without an issuer, or a URL of its own, the gateway has nothing to say.
    config["proxy"].as_object_mut().unwrap().remove("baseUrl");
    gate.reload(config.clone());
    config["proxy"]["auth"]["issuers"] = json!({});
    config["proxy"]["auth"]["assign"] = json!([]);
    for _ in 0..2 {
        assert_eq!(gate.ask(&get("/.well-known/oauth-protected-resource/db/mcp", "", "")).await.0, 404);
        let (_, head, _) = gate.ask(&post("/db/mcp", "", "", "{}")).await;
        assert!(!field(&head, "www-authenticate").unwrap().contains("resource_metadata"));
        gate.reload(config.clone());
    }
}

#[tokio::test]
async fn whoever_has_the_issuer_asked_what_it_cannot_say_is_one_who_guesses() {
    let (issuer, introspection) = (TestIssuer::start().await, Introspection::start().await);
    let server = Recorder::start().await;
    let mut config = config(&issuer, &introspection, &server.url("/mcp"));
    config["proxy"]["rateLimits"]["authFailures"] = json!("3/h");
    let gate = Gate::start(config).await;
    introspection.says("known", active("bob", json!({})));
    assert_eq!(status(&gate, "/db/mcp", "known").await, 200);
    introspection.is_down(true);
    for n in 0..3 {
        assert_eq!(status(&gate, "/db/mcp", &format!("unknown-{n}")).await, 503);
    }
    let asked = introspection.asked_in_all();
    assert_eq!(status(&gate, "/db/mcp", "unknown-4").await, 429);
    assert_eq!(introspection.asked_in_all(), asked);
    for token in ["known", DEV] {
        assert_eq!(status(&gate, "/db/mcp", token).await, 200, "{token}");
    }
}
