//! Servers that are called with the account of whoever calls: whose goes where, how it is kept good, and when it is over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluicegate::{
    clock::Clock,
    credentials::{
        ConnectedAs, ServerCredentials,
        oauth::{self, AuthorizationAsk},
    },
    identity::login::upstream::{UpstreamOwner, UpstreamState},
    secret::Secret,
};
use test_support::{
    issuer::TestIssuer,
    upstream_issuer::{CLIENT, CLIENT_SECRET, Tokens, UpstreamIssuer},
};

use crate::{
    harness::{CI, Client, DEV, Gate, Upstream, field, get, open_stream, passes, post, soon},
    login::futures,
    mcp::{call, modern_call},
};

const BASE: &str = "http://localhost";
const EVE: &str = "eve-token-0123456789abcdef";

/// Tokens whose owners have accounts of their own at servers.
fn config(servers: Value) -> Value {
    json!({
        "proxy": { "baseUrl": BASE, "auth": {
            "kind": "oauth", "storage": "memory", "registration": "off",
            "tokens": { "dev": DEV, "ci": CI, "eve": EVE },
        } },
        "mcpServers": servers,
    })
}

/// A clock that is so many seconds ahead.
fn clock() -> (Clock, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let of_clock = Arc::clone(&ahead);
    let now = move || SystemTime::now() + Duration::from_secs(of_clock.load(Ordering::Relaxed));
    (Clock::by(now), ahead)
}

fn credentials(gate: &Gate, server: &str) -> Arc<ServerCredentials> {
    let live = gate.gateway.shared().live().clone();
    live.entries[server].credentials.clone().expect("it has credentials of its own")
}

fn owner(name: &str) -> UpstreamOwner {
    name.parse().unwrap()
}

/// Somebody connects as this account, as a browser would have them do.
async fn connect(gate: &Gate, upstream: &UpstreamIssuer, server: &str, name: &str, account: &str) {
    let (credentials, outgoing) = (credentials(gate, server), gate.gateway.shared().credentials.outgoing());
    let discovered = credentials.discovered(None).await.unwrap();
    let client = credentials.client(&discovered).await.unwrap();
    let oauth = credentials.oauth().unwrap();
    let verifier = "a-verifier-of-43-characters-0123456789abcdef";
    let scopes = oauth::scopes(oauth, &discovered, &[]);
    let redirect_uri = oauth.redirect_uri.as_deref().unwrap();
    let resource = discovered.resource.as_deref();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let ask = AuthorizationAsk { state: "s", challenge: &challenge, redirect_uri, scopes: &scopes, resource };
    let url = oauth::authorization_url(&discovered, oauth, &client, &ask).unwrap();
    upstream.at_browser(account);
    let back = upstream.sends_back(url.as_str()).await;
    let code = back.split(['?', '&']).find_map(|pair| pair.strip_prefix("code=")).unwrap();
    let (code, verifier) = (Secret::new(code.into()), Secret::new(verifier.into()));
    let tokens = oauth::redeem(&outgoing, &discovered, &client, &code, &verifier, redirect_uri, resource)
        .await
        .unwrap();
    let with = ConnectedAs { tokens, discovered: (*discovered).clone(), client, scopes };
    credentials.connect(&owner(name), with).await.unwrap();
}

/// What the server answers to a call by this token.
async fn whoami(gate: &Gate, server: &str, token: &str) -> (u16, String) {
    let (status, _, body) =
        gate.ask(&post(&format!("/{server}/mcp"), token, "", &call(1, "whoami", json!({})))).await;
    (status, body)
}

/// As whom it is called.
async fn account(gate: &Gate, server: &str, token: &str) -> String {
    let (status, body) = whoami(gate, server, token).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

/// Nothing that an issuer gave stands in the log or in what the gateway says of itself.
fn nothing_is_told(gate: &Gate, upstream: &UpstreamIssuer) {
    let told = format!("{}{}", gate.log.text(), gate.metrics());
    for token in upstream.issued() {
        assert!(!told.contains(&token), "{token}");
    }
    assert!(!told.contains("canary-of-the-issuer"));
    let gates = [DEV, CI, EVE];
    for call in upstream.calls() {
        let token = call.token.unwrap_or_default();
        assert!(!gates.iter().any(|gates| token.contains(gates)), "the server got a token of the gateway's");
    }
}

#[tokio::test]
async fn each_caller_reaches_a_server_with_their_own_account_and_no_other() {
    let upstream = UpstreamIssuer::start().await;
    let gate = Gate::start(config(json!({ "files": upstream.server_config(json!({})) }))).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    connect(&gate, &upstream, "files", "token:ci", "bob").await;
    // On connections to the server that they share.
    let calls = (0..60).map(|number| {
        let (token, is) = if number % 2 == 0 { (DEV, "alice") } else { (CI, "bob") };
        let gate = &gate;
        async move { assert_eq!(account(gate, "files", token).await, is) }
    });
    futures(calls).await;
    let before = upstream.calls().len();
    // Who has none reaches nothing, whatever they bring.
    for fields in ["", "X-Upstream-Authorization: Bearer x\r\n"] {
        let asked = post("/files/mcp", EVE, fields, &call(1, "whoami", json!({})));
        let (_, _, body) = gate.ask(&asked).await;
        assert!(body.contains("/oauth/authorize?server_id=files"), "{body}");
    }
    assert_eq!(upstream.calls().len(), before);
    gate.log.line("Upstream credential missing", &[("principal", json!("token:eve"))]).await;
    gate.log.line("Upstream credential connected", &[("principal", json!("token:ci"))]).await;
    nothing_is_told(&gate, &upstream);
}

#[tokio::test]
async fn a_token_that_has_ended_is_refreshed_once_for_all_who_wait() {
    let upstream = UpstreamIssuer::start().await;
    let (clock, ahead) = clock();
    let servers = json!({ "files": upstream.server_config(json!({})) });
    let gate = Gate::start_by(config(servers), Duration::ZERO, clock).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    connect(&gate, &upstream, "files", "token:ci", "bob").await;
    for round in 1..=2 {
        ahead.fetch_add(7200, Ordering::Relaxed);
        upstream.expires_access();
        let calls = (0..100).map(|_| {
            let gate = &gate;
            async move { assert_eq!(account(gate, "files", DEV).await, "alice") }
        });
        futures(calls).await;
        assert_eq!((upstream.asked("/token refresh_token"), upstream.reused()), (round, 0));
    }
    assert_eq!(account(&gate, "files", CI).await, "bob");
    assert_eq!((upstream.asked("/token refresh_token"), upstream.reused()), (3, 0));
    assert!(gate.metrics().contains(r#"upstream_auth_total{result="refreshed",server="files"} 3"#));
    nothing_is_told(&gate, &upstream);
}

#[tokio::test]
async fn what_a_server_refuses_is_renewed_and_asked_once_more_if_it_is_held() {
    let upstream = UpstreamIssuer::start().await;
    let gate = Gate::start(config(json!({ "files": upstream.server_config(json!({})) }))).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    upstream.expires_access();
    assert_eq!(account(&gate, "files", DEV).await, "alice");
    assert_eq!(upstream.asked("/token refresh_token"), 1);
    // It refuses what is as new as it can be: that is no reason to ask the issuer again and again.
    upstream.expires_access();
    let (status, head, body) = gate.ask(&post("/files/mcp", DEV, "", &call(1, "whoami", json!({})))).await;
    assert!(status == 502 && body.contains("upstream_unauthorized"), "{status} {body}");
    assert_eq!(field(&head, "www-authenticate"), None);
    assert_eq!(upstream.asked("/token refresh_token"), 1);
    nothing_is_told(&gate, &upstream);
}

#[tokio::test]
async fn what_is_too_large_to_be_held_fails_once_and_the_next_is_answered() {
    let upstream = UpstreamIssuer::start().await;
    let gate = Gate::start(config(json!({ "files": upstream.server_config(json!({})) }))).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    upstream.expires_access();
    let large = call(1, "whoami", json!({ "text": "x".repeat(32 << 10) }));
    let (status, _, body) = gate.ask(&post("/files/mcp", DEV, "", &large)).await;
    assert!(status == 502 && body.contains("upstream_unauthorized"), "{status} {body}");
    soon("the renewed token", async { while whoami(&gate, "files", DEV).await.0 != 200 {} }).await;
    assert_eq!(upstream.asked("/token refresh_token"), 1);
}

#[tokio::test]
async fn what_an_issuer_takes_back_is_lost_and_it_is_not_asked_again() {
    let upstream = UpstreamIssuer::start().await;
    let gate = Gate::start(config(json!({ "files": upstream.server_config(json!({})) }))).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    upstream.revokes("alice");
    for _ in 0..3 {
        let (_, body) = whoami(&gate, "files", DEV).await;
        assert!(body.contains("/oauth/authorize?server_id=files"), "{body}");
    }
    assert_eq!(upstream.asked("/token refresh_token"), 1);
    let state = credentials(&gate, "files").state(&owner("token:dev")).await.unwrap();
    assert_eq!(state.is, Some(UpstreamState::Reconnect));
    let lost = gate.log.line("Upstream credential lost", &[("principal", json!("token:dev"))]).await;
    assert!(lost["cause"].as_str().unwrap().starts_with("invalid_grant"), "{lost}");
    connect(&gate, &upstream, "files", "token:dev", "carol").await;
    assert_eq!(account(&gate, "files", DEV).await, "carol");
}

#[tokio::test]
async fn a_server_that_has_its_tokens_from_another_issuer_now_is_connected_there() {
    let mut upstream = UpstreamIssuer::start().await;
    let gate = Gate::start(config(json!({ "files": upstream.server_config(json!({})) }))).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    upstream.moves().await;
    let (_, body) = whoami(&gate, "files", DEV).await;
    assert!(body.contains("/oauth/authorize?server_id=files"), "{body}");
    // What the old one gave is shown to the old one alone, and the gateway registers anew.
    connect(&gate, &upstream, "files", "token:dev", "bob").await;
    assert_eq!((account(&gate, "files", DEV).await, upstream.asked("/register")), ("bob".into(), 2));
    let state = credentials(&gate, "files").state(&owner("token:dev")).await.unwrap();
    assert_eq!(state.issuer.as_deref(), Some(&*upstream.issuer()));
    nothing_is_told(&gate, &upstream);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_locks_nobody_out() {
    for broken in [Tokens::Fails, Tokens::Babbles, Tokens::Redirects] {
        let upstream = UpstreamIssuer::start().await;
        let (clock, ahead) = clock();
        let servers = json!({ "files": upstream.server_config(json!({})) });
        let gate = Gate::start_by(config(servers), Duration::ZERO, clock).await;
        connect(&gate, &upstream, "files", "token:dev", "alice").await;
        upstream.tokens(broken.clone());
        // It is time to refresh it, and it is good as yet.
        ahead.fetch_add(3500, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(account(&gate, "files", DEV).await, "alice", "{broken:?}");
        }
        // Now it has ended.
        ahead.fetch_add(200, Ordering::Relaxed);
        soon("the end of it", async {
            loop {
                let (status, body) = whoami(&gate, "files", DEV).await;
                if status == 502 && body.contains("upstream_auth_unavailable") {
                    return;
                }
            }
        })
        .await;
        let state = credentials(&gate, "files").state(&owner("token:dev")).await.unwrap();
        assert_eq!(state.is, Some(UpstreamState::Connected), "{broken:?}");
        upstream.tokens(Tokens::Gives);
        ahead.fetch_add(120, Ordering::Relaxed);
        assert_eq!(account(&gate, "files", DEV).await, "alice", "{broken:?}");
        nothing_is_told(&gate, &upstream);
    }
}

#[tokio::test]
async fn a_server_that_wants_more_scopes_says_so_and_the_rest_goes_on() {
    let upstream = UpstreamIssuer::start().await;
    upstream.wants("read");
    let gate = Gate::start(config(json!({ "files": upstream.server_config(json!({})) }))).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    upstream.wants_for_tools("write");
    let (_, body) = whoami(&gate, "files", DEV).await;
    assert!(body.contains("/oauth/authorize?server_id=files"), "{body}");
    let state = credentials(&gate, "files").state(&owner("token:dev")).await.unwrap();
    assert_eq!(state.is, Some(UpstreamState::NeedsScopes));
    assert_eq!(state.wanted, ["read", "write"]);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    assert_eq!(gate.ask(&post("/files/mcp", DEV, "", list)).await.0, 200, "that needs none");
    assert_eq!(upstream.asked("/token refresh_token"), 0);
}

/// A server that takes a token which each caller enters, and whose side the test plays.
fn by_hand(server: &Upstream) -> Value {
    json!({ "db": { "url": server.url("/mcp"), "upstreamAuth": { "kind": "user_token", "header": "Authorization" } } })
}

async fn enter(gate: &Gate, name: &str, token: &str) {
    credentials(gate, "db").set_token(&owner(name), token).await.unwrap();
}

#[tokio::test]
async fn what_runs_with_an_account_ends_with_it_and_what_others_run_goes_on() {
    let server = Upstream::bind().await;
    let gate = Gate::start(config(by_hand(&server))).await;
    enter(&gate, "token:dev", "token-of-dev").await;
    enter(&gate, "token:ci", "token-of-ci").await;
    let (mut dev, _behind_dev) = open_stream(gate.addr, &server, DEV).await;
    let (mut ci, mut behind_ci) = open_stream(gate.addr, &server, CI).await;
    // Another token.
    enter(&gate, "token:dev", "other-token-of-dev").await;
    soon("the end of the stream", dev.rest()).await;
    gate.log.line("Stream closed", &[("reason", json!("token_revoked"))]).await;
    let (mut dev, _behind_dev) = open_stream(gate.addr, &server, DEV).await;
    passes(&mut behind_ci, &mut ci, "data: 1\n\n").await;
    // None.
    let of_worker = tokio::task::LocalSet::new();
    of_worker
        .run_until(async { credentials(&gate, "db").disconnect(&owner("token:dev")).await.unwrap() })
        .await;
    soon("the end of the stream", dev.rest()).await;
    passes(&mut behind_ci, &mut ci, "data: 2\n\n").await;
    let (_, _, body) = gate.ask(&get("/db", DEV, "Accept: text/event-stream\r\n")).await;
    assert!(body.contains("/my/tokens#db"), "{body}");
}

#[tokio::test]
async fn a_session_that_began_with_one_account_is_not_found_with_another() {
    let server = Upstream::bind().await;
    let gate = Gate::start(config(by_hand(&server))).await;
    let ask = async |fields: &str| {
        let mut client = gate.client().await;
        client.send(post("/db/mcp", DEV, fields, &call(1, "x", json!({})))).await;
        client
    };
    let answer = async |behind: &mut Client<_>, fields: &str| {
        behind
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: 2\r\n\r\n{{}}"
            ))
            .await;
    };
    enter(&gate, "token:dev", "token-of-dev").await;
    let mut client = ask("").await;
    let mut behind = server.accept().await;
    let head = behind.head().await;
    assert_eq!(field(&head, "authorization"), Some("Bearer token-of-dev"), "{head}");
    answer(&mut behind, "Mcp-Session-Id: s1\r\n").await;
    let (_, head, _) = client.response().await;
    let session = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());
    drop(behind);
    let mut client = ask(&session).await;
    let mut behind = server.accept().await;
    assert_eq!(field(&behind.head().await, "mcp-session-id"), Some("s1"));
    answer(&mut behind, "").await;
    assert_eq!(client.response().await.0, 200);
    enter(&gate, "token:dev", "other-token-of-dev").await;
    let (status, _, body) = ask(&session).await.response().await;
    assert!(status == 404 && body.contains("session_not_found"), "{status} {body}");
}

#[tokio::test]
async fn a_token_of_the_gateways_own_is_fetched_once_and_kept_to_its_end() {
    let upstream = UpstreamIssuer::start().await;
    let (clock, ahead) = clock();
    let auth = json!({ "kind": "client_credentials", "clientId": CLIENT, "clientSecret": CLIENT_SECRET });
    let gate =
        Gate::start_by(config(json!({ "jobs": upstream.server_config(auth) })), Duration::ZERO, clock).await;
    let all = || {
        let calls = (0..50).map(|number| {
            let (gate, token) = (&gate, [DEV, CI, EVE][number % 3]);
            async move { assert_eq!(account(gate, "jobs", token).await, "the-gateway") }
        });
        futures(calls)
    };
    all().await;
    assert_eq!(upstream.asked("/token client_credentials"), 1);
    ahead.fetch_add(7200, Ordering::Relaxed);
    all().await;
    assert_eq!(upstream.asked("/token client_credentials"), 2);
    upstream.expires_access();
    assert_eq!(account(&gate, "jobs", DEV).await, "the-gateway");
    assert_eq!(upstream.asked("/token client_credentials"), 3);
    nothing_is_told(&gate, &upstream);
}

#[tokio::test]
async fn a_token_of_an_issuer_is_exchanged_and_nobody_elses_is() {
    let (upstream, issuer) = (UpstreamIssuer::start().await, TestIssuer::start().await);
    let auth = json!({
        "kind": "exchange", "tokenUrl": format!("{}/token", upstream.issuer()),
        "clientId": CLIENT, "clientSecret": CLIENT_SECRET, "audience": "files", "allowPrivateIssuers": null,
    });
    let mut server = upstream.server_config(auth);
    server["upstreamAuth"].as_object_mut().unwrap().remove("allowPrivateIssuers");
    let mut config = config(json!({ "files": server }));
    config["proxy"]["auth"]["issuers"] = json!({ "corp": issuer.config() });
    config["proxy"]["auth"]["assign"] = json!([{ "if": { "issuer": "corp" }, "servers": ["files"] }]);
    let gate = Gate::start(config).await;
    let (alice, bob) = (issuer.token("alice", json!({})), issuer.token("bob", json!({})));
    for _ in 0..3 {
        assert_eq!(account(&gate, "files", &alice).await, "alice");
        assert_eq!(account(&gate, "files", &bob).await, "bob");
    }
    assert_eq!(upstream.subjects(), [alice.clone(), bob.clone()]);
    // A token of the gateway's own is nothing to exchange.
    let (status, body) = whoami(&gate, "files", DEV).await;
    assert_ne!((status, body.contains("\"alice\"")), (200, true));
    // Nor where the gateway keeps a conversation, in which somebody else's was exchanged.
    let of_all = |token: &str| modern_call("/mcp", token, 1, "files__whoami", json!({}));
    let (_, _, body) = gate.ask(&of_all(&alice)).await;
    assert!(body.contains("alice"), "{body}");
    let calls = upstream.calls().len();
    let (_, _, body) = gate.ask(&of_all(DEV)).await;
    assert!(body.contains("Unknown tool"), "{body}");
    let (status, _, body) = gate.ask(&get("/files/sse", DEV, "Accept: text/event-stream\r\n")).await;
    assert!(status == 403 && body.contains("upstream_authorization_required"), "{status} {body}");
    assert_eq!((upstream.subjects().len(), upstream.calls().len()), (2, calls));
    for call in upstream.calls() {
        assert!(![&alice, &bob].contains(&&call.token.unwrap_or_default()), "what came in never goes out");
    }
    nothing_is_told(&gate, &upstream);
}

#[tokio::test]
async fn who_cannot_sign_in_is_not_sent_to_where_they_would_have_to() {
    let (upstream, issuer) = (UpstreamIssuer::start().await, TestIssuer::start().await);
    let auth = json!({ "kind": "user_oauth", "allowPrivateIssuers": true });
    let mut config = config(json!({ "files": upstream.server_config(auth) }));
    config["proxy"]["auth"]["issuers"] = json!({ "corp": issuer.config() });
    config["proxy"]["auth"]["assign"] = json!([{ "if": { "issuer": "corp" }, "servers": ["files"] }]);
    let gate = Gate::start(config).await;
    let (status, body) = whoami(&gate, "files", &issuer.token("alice", json!({}))).await;
    assert!(body.contains("sign in here") && !body.contains("/oauth/authorize"), "{status} {body}");
    let (_, body) = whoami(&gate, "files", DEV).await;
    assert!(body.contains("/oauth/authorize?server_id=files"), "{body}");
}

#[tokio::test]
async fn what_is_passed_through_is_the_callers_own_field_and_never_the_gateways_token() {
    let server = Upstream::bind().await;
    let auth = json!({ "kind": "passthrough", "from": "X-Upstream-Authorization", "unsafe": true });
    let gate =
        Gate::start(config(json!({ "db": { "url": server.url("/mcp"), "upstreamAuth": auth } }))).await;
    let mut client = gate.client().await;
    let fields = "X-Upstream-Authorization: Bearer of-the-server\r\nX_Upstream_Authorization: Bearer x\r\n";
    client.send(post("/db/mcp", DEV, fields, &call(1, "x", json!({})))).await;
    let mut behind = server.accept().await;
    let head = behind.head().await;
    assert_eq!(field(&head, "authorization"), Some("Bearer of-the-server"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("upstream") && !head.contains(DEV), "{head}");
    // The server itself says what it takes, but for what would send the client elsewhere.
    behind.send("HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer x=y\r\nContent-Length: 0\r\n\r\n").await;
    let (status, head, _) = client.response().await;
    assert_eq!((status, field(&head, "www-authenticate")), (401, None));
    for own in [
        format!("Bearer {DEV}"),
        format!("Bearer {CI}"),
        DEV.to_owned(),
        format!("x{DEV}x"),
        "Bearer sga_x".into(),
    ] {
        let fields = format!("X-Upstream-Authorization: {own}\r\n");
        let (status, _, body) = gate.ask(&post("/db/mcp", DEV, &fields, "{}")).await;
        assert!(status == 403 && body.contains("credential of the gateway"), "{own}: {status} {body}");
    }
    assert!(!server.was_reached().await);
}

#[tokio::test]
async fn a_reload_with_another_client_asks_to_connect_again_and_one_that_changes_nothing_does_not() {
    let upstream = UpstreamIssuer::start().await;
    let (clock, ahead) = clock();
    let registered = config(json!({ "files": upstream.server_config(json!({})) }));
    let mut gate = Gate::start_by(registered.clone(), Duration::ZERO, clock).await;
    connect(&gate, &upstream, "files", "token:dev", "alice").await;
    gate.reload(registered.clone());
    assert_eq!(account(&gate, "files", DEV).await, "alice");
    let other = json!({ "clientId": CLIENT, "clientSecret": CLIENT_SECRET });
    gate.reload(config(json!({ "files": upstream.server_config(other) })));
    // As long as it is good, it is good.
    assert_eq!(account(&gate, "files", DEV).await, "alice");
    ahead.fetch_add(7200, Ordering::Relaxed);
    let (_, body) = whoami(&gate, "files", DEV).await;
    assert!(body.contains("/oauth/authorize?server_id=files"), "{body}");
    assert_eq!(upstream.asked("/token refresh_token"), 0, "the refresh token is of the other client");
}

#[tokio::test]
async fn of_two_gateways_of_one_store_one_refreshes_and_what_is_over_in_one_is_over_in_both() {
    let (upstream, server) = (UpstreamIssuer::start().await, Upstream::bind().await);
    let state = tempfile::TempDir::new().unwrap();
    let (clock_of_one, ahead) = clock();
    let of_other = Arc::clone(&ahead);
    let clock_of_other =
        Clock::by(move || SystemTime::now() + Duration::from_secs(of_other.load(Ordering::Relaxed)));
    let mut servers = by_hand(&server);
    servers["files"] = upstream.server_config(json!({}));
    let mut config = config(servers);
    config["proxy"]["stateDir"] = json!(state.path().join("state"));
    config["proxy"]["auth"]["storage"] = json!("file");
    let one = Gate::start_by(config.clone(), Duration::ZERO, clock_of_one).await;
    let other = Gate::start_by(config, Duration::ZERO, clock_of_other).await;
    connect(&one, &upstream, "files", "token:dev", "alice").await;
    assert_eq!(account(&other, "files", DEV).await, "alice");
    for round in 1..=2 {
        ahead.fetch_add(7200, Ordering::Relaxed);
        upstream.expires_access();
        let calls = (0..60).map(|number| {
            let gate = if number % 2 == 0 { &one } else { &other };
            async move { assert_eq!(account(gate, "files", DEV).await, "alice") }
        });
        futures(calls).await;
        assert_eq!((upstream.asked("/token refresh_token"), upstream.reused()), (round, 0));
    }
    enter(&one, "token:dev", "token-of-dev").await;
    let (mut stream, _behind) = open_stream(other.addr, &server, DEV).await;
    enter(&one, "token:dev", "other-token-of-dev").await;
    soon("the end of the stream", stream.rest()).await;
    let (_client, mut behind) = open_stream_of(&other, &server).await;
    assert_eq!(field(&behind.head().await, "authorization"), Some("Bearer other-token-of-dev"));
}

async fn open_stream_of(
    gate: &Gate,
    server: &Upstream,
) -> (Client<tokio::net::TcpStream>, Client<tokio::net::TcpStream>) {
    let mut client = gate.client().await;
    client.send(get("/db", DEV, "Accept: text/event-stream\r\n")).await;
    (client, server.accept().await)
}
