//! What comes too often is refused, and nobody else for it.

use serde_json::{Value, json};

use test_support::browser::{Browser, PLAIN, form};

use crate::{
    harness::{CI, DEV, Gate, field, post},
    mcp::{command, modern_call},
};

fn config(rate_limits: Value) -> Value {
    let mut open = command();
    open["public"] = json!(true);
    json!({
        "proxy": { "rateLimits": rate_limits, "trustedProxies": ["127.0.0.1"] },
        "mcpServers": { "one": command(), "two": command(), "open": open },
    })
}

async fn gate_with(rate_limits: Value) -> Gate {
    Gate::start(config(rate_limits)).await
}

/// Status of a call with a token, whose client is at this address.
async fn call(gate: &Gate, server: &str, token: &str, client: &str) -> u16 {
    answer(gate, server, token, client).await.0
}

async fn answer(gate: &Gate, server: &str, token: &str, client: &str) -> (u16, String, String) {
    let request = modern_call(&format!("/{server}/mcp"), token, 1, "echo", json!({}));
    gate.ask(&request.replacen("\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n"), 1)).await
}

/// Statuses of so many calls with a token that nobody has.
async fn guesses(gate: &Gate, client: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(call(gate, "one", "sg_a-guess", client).await);
    }
    statuses
}

fn limited(gate: &Gate, key: &str) -> String {
    let metrics = gate.metrics();
    let name = format!("sluicegate_rate_limited_total{{key=\"{key}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
}

#[tokio::test]
async fn a_caller_that_comes_too_often_is_answered_when_to_come_again_and_others_are_served() {
    let mut gate = gate_with(json!({ "principal": "2/h" })).await;
    assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 200);
    assert_eq!(call(&gate, "two", DEV, "192.0.2.2").await, 200, "wherever it calls, and from");
    let (status, head, body) = answer(&gate, "one", DEV, "192.0.2.3").await;
    assert_eq!(status, 429, "{head}{body}");
    // Half an hour for each.
    let wait: u32 = field(&head, "retry-after").unwrap().parse().unwrap();
    assert!((1_500..=1_800).contains(&wait), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"], "rate_limited");
    assert!(body["message"].as_str().unwrap().contains("Retry-After") && body["request_id"].is_string());
    assert_eq!(field(&head, "www-authenticate"), None);

    assert_eq!(call(&gate, "one", CI, "192.0.2.1").await, 200);
    for _ in 0..5 {
        assert_eq!(
            call(&gate, "open", DEV, "192.0.2.1").await,
            200,
            "without a credential it is no principal"
        );
    }
    let line = gate.log.line("Refused request", &[("reason", json!("rate_limited"))]).await;
    assert_eq!(
        (&line["token_name"], &line["server"], &line["cause"]),
        (&json!("dev"), &json!("one"), &json!("principal"))
    );
    assert_eq!((limited(&gate, "principal"), limited(&gate, "peer")), ("1".into(), "0".into()));

    // A reload keeps what was counted, and another rate goes on with it.
    let mut other = config(json!({ "principal": "2/h" }));
    other["proxy"]["name"] = json!("another");
    gate.reload(other);
    assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 429);
    let end = format!("DELETE /one/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\n\r\n");
    assert_ne!(gate.ask(&end).await.0, 429, "who ends a session gives something back");
    gate.reload(config(json!({ "principal": "off" })));
    assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 200);
    gate.reload(config(json!({ "principal": "2/h" })));
    assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 429);
}

#[tokio::test]
async fn an_address_counts_with_all_its_callers_and_of_ipv6_a_network_is_one() {
    let gate = gate_with(json!({ "peer": "2/h", "allow": ["198.51.100.0/24"] })).await;
    assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 200);
    assert_eq!(call(&gate, "open", "", "192.0.2.1").await, 200);
    assert_eq!(call(&gate, "one", CI, "192.0.2.1").await, 429);
    assert_eq!(call(&gate, "one", DEV, "192.0.2.2").await, 200);
    for client in ["2001:db8::1", "2001:db8::2:1"] {
        assert_eq!(call(&gate, "open", "", client).await, 200);
    }
    assert_eq!(call(&gate, "open", "", "2001:db8::3").await, 429);
    assert_eq!(call(&gate, "open", "", "2001:db8:0:1::3").await, 200);
    for _ in 0..5 {
        assert_eq!(call(&gate, "one", DEV, "198.51.100.7").await, 200, "it is allowed any number");
    }
    assert_eq!(limited(&gate, "peer"), "2");
}

#[tokio::test]
async fn a_server_has_so_many_requests_of_all_and_none_of_those_that_are_refused_for_their_caller() {
    let gate = gate_with(json!({ "server": "3/h", "principal": "2/h" })).await;
    for expected in [200, 200, 429, 429, 429] {
        assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, expected);
    }
    assert_eq!(call(&gate, "one", CI, "192.0.2.1").await, 200, "the third");
    assert_eq!(call(&gate, "one", CI, "192.0.2.1").await, 429);
    assert_eq!((limited(&gate, "principal"), limited(&gate, "server")), ("3".into(), "1".into()));
    for expected in [200, 200, 200, 429] {
        assert_eq!(call(&gate, "open", "", "192.0.2.1").await, expected, "each server has its own");
    }
}

#[tokio::test]
async fn who_guesses_tokens_is_slowed_down_and_keeps_nobody_out_who_has_one() {
    let gate = gate_with(json!({ "authFailures": "3/h", "allow": ["198.51.100.7"] })).await;
    assert_eq!(guesses(&gate, "192.0.2.1", 5).await, [401, 401, 401, 429, 429]);
    let (_, head, _) = answer(&gate, "one", "sg_a-guess", "192.0.2.1").await;
    assert!(field(&head, "retry-after").is_some(), "{head}");
    assert!(
        field(&head, "www-authenticate").unwrap().contains("invalid_token"),
        "to find another one: {head}"
    );
    assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 200, "a good token of the same address");
    let nothing = "GET /one/mcp HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    let (status, head, _) = gate.ask(nothing).await;
    assert_eq!(
        (status, field(&head, "www-authenticate").is_some()),
        (401, true),
        "who tries nothing is told what to try"
    );
    assert_eq!(guesses(&gate, "192.0.2.2", 1).await, [401], "another address");
    assert_eq!(guesses(&gate, "198.51.100.7", 5).await, [401; 5], "it is allowed any number");

    // Wherever it is tried.
    for path in ["/nowhere/mcp", "/servers", "/metrics", "/mcp", "/two/sse"] {
        let guess = post(path, "sg_a-guess", "X-Forwarded-For: 192.0.2.1\r\n", "{}");
        assert_eq!(gate.ask(&guess).await.0, 429, "{path}");
    }
    assert_eq!(limited(&gate, "authFailures"), "8");
}

#[tokio::test]
async fn by_default_twenty_failures_a_minute_are_answered_and_nothing_else_is_limited() {
    let gate = gate_with(json!({})).await;
    let statuses = guesses(&gate, "192.0.2.1", 25).await;
    let refused = statuses.iter().filter(|status| **status == 429).count();
    // One more every three seconds.
    assert!(statuses[..20] == [401; 20] && (1..=5).contains(&refused), "{statuses:?}");
    for _ in 0..50 {
        assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 200);
    }
}

#[tokio::test]
async fn a_browser_that_comes_too_often_is_shown_a_page_and_a_program_an_error() {
    let gate = Gate::start(json!({
        "proxy": {
            "baseUrl": PLAIN,
            "rateLimits": { "peer": "1/h" },
            "auth": { "kind": "oauth", "storage": "memory", "tokens": { "dev": DEV } },
        },
        "mcpServers": { "one": command() },
    }))
    .await;
    let mut browser = Browser::plain(gate.addr, PLAIN);
    assert_eq!(browser.get("/oauth/login").await.status, 200);
    for path in ["/oauth/login", "/authorize", "/oauth", "/oauth/callback"] {
        let page = browser.get(path).await;
        let (kind, wait) = (field(&page.head, "content-type"), field(&page.head, "retry-after"));
        assert!(page.status == 429 && kind == Some("text/html; charset=utf-8") && wait.is_some(), "{page:?}");
    }
    let (status, head, _) = gate.ask(&form("/token", "", &[("grant_type", "refresh_token")])).await;
    assert_eq!((status, field(&head, "content-type")), (429, Some("application/json")));
    gate.log.line("Refused request", &[("path", json!("/oauth/login")), ("status", json!(429))]).await;
}

#[tokio::test]
async fn who_tries_tokens_where_people_log_in_is_told_to_wait_as_who_tries_passwords_is() {
    let gate = Gate::start(json!({
        "proxy": {
            "baseUrl": PLAIN,
            "auth": { "kind": "oauth", "storage": "memory", "tokens": { "dev": DEV } },
        },
        "mcpServers": { "one": command() },
    }))
    .await;
    let mut browser = Browser::plain(gate.addr, PLAIN);
    let page = browser.get("/oauth/login").await;
    let csrf = page.hidden("csrf");
    for _ in 0..10 {
        let page = browser.submit("/oauth/login", &[("csrf", &csrf), ("token", "sg_a-guess")]).await;
        assert!(!page.body.contains("Too many"), "{page:?}");
    }
    let page = browser.submit("/oauth/login", &[("csrf", &csrf), ("token", DEV)]).await;
    assert!(page.leads_to().is_none() && limited(&gate, "logins") == "1", "{page:?}");
    assert_eq!(call(&gate, "one", DEV, "192.0.2.1").await, 200, "where it is no login, it is good");
}
