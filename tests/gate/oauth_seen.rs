//! What log, audit and metrics say of requests to the gateway as an authorization server, and what people see at its pages when
//! something fails.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluicegate::{
    identity::{
        Principal,
        login::grants::{ClientGrant, NewCode, NoCode},
    },
    oauth::flow::new_name,
};
use test_support::{
    browser::{Browser, Got, PLAIN, query},
    users::CHEAP_HASHES,
};

use crate::{
    harness::{DEV, Gate, fields},
    oauth_pages::{approve, asking, is_consent, is_sign_in, log_in, target},
};

const CALLBACK: &str = "https://portal.example/callback";
const SECRET: &str = "portal-secret-0123456789-canary";

/// A gateway that leaves `pause` between two log lines about one topic.
async fn start(pause: Duration) -> Gate {
    let config = json!({
        "proxy": {
            "baseUrl": PLAIN,
            "audit": {},
            "rateLimits": { "authFailures": "off" },
            "auth": {
                "kind": "oauth",
                "storage": "memory",
                "tokens": { "dev": DEV },
                "users": { "alice": { "passwordHash": CHEAP_HASHES[0] } },
                "clients": {
                    "portal": { "secretSha256": hex::encode(Sha256::digest(SECRET)), "redirectUris": [CALLBACK] },
                    "phone": { "redirectUris": [CALLBACK] },
                },
            },
        },
        "mcpServers": { "db": { "url": "http://127.0.0.1:9/" } },
    });
    Gate::start_pausing(config, pause).await
}

fn browser(gate: &Gate) -> Browser<'_> {
    Browser::plain(gate.addr, PLAIN)
}

/// Logs in, or tries to, at a page of its own.
async fn sign_in(gate: &Gate, with: &[(&str, &str)]) -> Got {
    let mut browser = browser(gate);
    let csrf = browser.get("/oauth/login").await.hidden("csrf");
    browser.submit("/oauth/login", &[&[("csrf", &*csrf)], with].concat()).await
}

fn refused(gate: &Gate, reason: &str) -> u64 {
    let name = format!("sluicegate_auth_refused_total{{reason=\"{reason}\"}} ");
    gate.metrics().lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |n| n.parse().unwrap())
}

#[tokio::test]
async fn who_fails_to_sign_in_or_to_be_a_client_is_in_the_log_the_audit_and_the_counters() {
    let gate = start(Duration::ZERO).await;
    let of_phone = [("client_id", "phone"), ("grant_type", "refresh_token"), ("refresh_token", "sgr_none")];
    let as_portal = [("client_id", "portal"), ("client_secret", "wrong"), ("token", "x")];
    for (path, form, status, reason, rule) in [
        (
            "/oauth/login",
            &[("username", "alice"), ("password", "wrong")][..],
            403,
            "invalid_credentials",
            Some("proxy.auth.users"),
        ),
        ("/oauth/login", &[("token", "wrong")], 403, "invalid_token", Some("proxy.auth.tokens")),
        ("/token", &as_portal, 401, "invalid_client", Some("proxy.auth.clients")),
        ("/revoke", &as_portal, 401, "invalid_client", Some("proxy.auth.clients")),
        ("/oauth/introspect", &as_portal, 401, "invalid_client", Some("proxy.auth.clients")),
        ("/token", &of_phone, 400, "invalid_grant", None),
    ] {
        let before = refused(&gate, reason);
        let got = match path {
            "/oauth/login" => sign_in(&gate, form).await,
            _ => browser(&gate).submit(path, form).await,
        };
        assert_eq!(got.status, status, "{got:?}");
        let id = fields(&got.head, "x-request-id").next().unwrap().to_owned();
        let known = [("request_id", json!(id)), ("reason", json!(reason)), ("path", json!(path))];
        let line = gate.log.line("Refused request", &known).await;
        assert_eq!((&line["level"], &line["status"]), (&json!("INFO"), &json!(status)), "{line}");
        let line = gate.log.line("Audit", &known).await;
        assert_eq!((&line["verdict"], line.get("principal")), (&json!("deny"), None), "{line}");
        assert_eq!(line.get("rule").and_then(Value::as_str), rule, "{line}");
        assert_eq!(refused(&gate, reason), before + 1, "{path} {reason}");
    }
}

#[tokio::test]
async fn nothing_that_a_stranger_repeats_at_these_endpoints_costs_a_line_each_time() {
    // Of ten tokens a minute, the last one is good.
    const ROUNDS: u64 = 8;
    let gate = start(Duration::from_secs(3600)).await;
    let asked = target(&asking("phone", CALLBACK));
    for _ in 0..ROUNDS {
        let mut browser = browser(&gate);
        for path in
            [&*asked, "/authorize", "/authorize?client_id=none", "/oauth/login", "/oauth", "/oauth/consent"]
        {
            browser.get(path).await;
        }
        for (path, form) in [
            ("/token", &[("client_id", "portal"), ("client_secret", "wrong")][..]),
            ("/token", &[("client_id", "phone"), ("grant_type", "none")]),
            ("/token", &[("client_id", "phone"), ("grant_type", "refresh_token"), ("refresh_token", "x")]),
            ("/revoke", &[("client_id", "phone"), ("token", "x")]),
            ("/revoke", &[]),
            ("/oauth/introspect", &[("client_id", "phone"), ("token", "x")]),
            ("/register", &[("x", "y")]),
            ("/oauth/login", &[("csrf", "x"), ("token", "wrong")]),
            ("/oauth/consent", &[("csrf", "x")]),
            ("/oauth/logout", &[("csrf", "x")]),
            ("/oauth/grants/x/revoke", &[("csrf", "x")]),
        ] {
            browser.submit(path, form).await;
        }
        assert_eq!(sign_in(&gate, &[("token", "wrong")]).await.status, 403);
        sign_in(&gate, &[("username", "alice"), ("password", "wrong")]).await;
    }
    // By then those before it are written.
    assert_eq!(sign_in(&gate, &[("token", DEV)]).await.leads_to().as_deref(), Some("/oauth"));
    gate.log.line("Somebody signed in at the pages", &[]).await;
    let mut counts = BTreeMap::<_, usize>::new();
    for line in gate.log.all().iter().filter(|line| line["level"] != "DEBUG") {
        *counts.entry((line["msg"].to_string(), line["reason"].to_string())).or_default() += 1;
    }
    // Whoever is known has a line of each of these two.
    let of_known = counts.remove(&(json!("Request").to_string(), "null".into()));
    assert!(of_known.is_none_or(|count| count == 1), "{counts:?}");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(refused(&gate, "invalid_token"), ROUNDS);
}

#[tokio::test]
async fn a_browser_is_known_for_an_hour_from_the_last_question_on() {
    let gate = start(Duration::ZERO).await;
    let mut browser = browser(&gate);
    browser.get("/oauth/login").await;
    let name = "sg-flow";
    let first = browser.cookies[name].clone();
    let set_anew = format!("{name}={first}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
    let asked = target(&asking("phone", CALLBACK));
    let page = browser.get(&asked).await;
    assert!(fields(&page.head, "set-cookie").any(|cookie| cookie == set_anew), "{page:?}");
    let page = log_in(&mut browser, &page, "alice").await;
    assert!(is_consent(&page), "{page:?}");
    assert!(fields(&page.head, "set-cookie").any(|cookie| cookie == set_anew), "{page:?}");
    // What leads on needs it no more.
    let done = approve(&mut browser, &page, &["mcp"]).await;
    assert_eq!(fields(&done.head, "set-cookie").next(), None, "{done:?}");
}

#[tokio::test]
async fn what_fails_is_a_page_and_who_has_signed_in_stays_so() {
    let gate = start(Duration::ZERO).await;
    let asked = target(&asking("portal", CALLBACK));
    // Alice lets the portal in, for which the config vouches: she is not asked again.
    let mut first = browser(&gate);
    let page = first.get(&asked).await;
    let page = log_in(&mut first, &page, "alice").await;
    assert!(approve(&mut first, &page, &["mcp"]).await.answer("code").is_some());
    // She has as many codes as she may have.
    let shared = gate.gateway.shared();
    let live = shared.live().clone();
    let (grants, now) = (shared.logins.grants().unwrap(), live.clock.now());
    let client = Arc::new(ClientGrant {
        client_id: "phone".into(),
        client_name: "Phone".into(),
        redirect_host: "portal.example".into(),
        resource: PLAIN.into(),
        scope: "mcp".into(),
    });
    loop {
        let new = NewCode {
            principal: Principal::User("alice".into()),
            fingerprint: live.fingerprint(0).unwrap(),
            client: Arc::clone(&client),
            redirect_uri: CALLBACK.into(),
            challenge: [7; 32],
        };
        if let Err(why) = grants.begin_code(&new_name().unwrap(), new, now).await {
            assert_eq!(why, NoCode::Full);
            break;
        }
    }
    let mut other = browser(&gate);
    let page = other.get(&asked).await;
    assert!(is_sign_in(&page), "{page:?}");
    let page = log_in(&mut other, &page, "alice").await;
    assert!(is_consent(&page), "who has so many is asked again: {page:?}");
    let got = approve(&mut other, &page, &["mcp"]).await;
    assert_eq!(got.status, 503, "{got:?}");
    let retry_after = fields(&got.head, "retry-after").next();
    assert!(got.head.contains("text/html") && retry_after == Some("5"), "{got:?}");
    let id = fields(&got.head, "x-request-id").next().unwrap();
    assert!(got.body.contains(id) && got.body.contains("Whoever runs this gateway"), "{got:?}");
    let known = [("request_id", json!(id)), ("reason", json!("unavailable"))];
    let line = gate.log.line("Refused request", &known).await;
    assert_eq!(line["cause"], "there are as many codes as may be", "{line}");
    assert_eq!(refused(&gate, "unavailable"), 1);
    assert_eq!(other.get("/oauth").await.status, 200, "she is signed in");
    // A program gets what programs read.
    let form = [("client_id", "none"), ("client_secret", "x")];
    let (status, head, _) = gate
        .ask(&format!(
            "POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{}",
            query(&form).len(),
            query(&form)
        ))
        .await;
    assert!(status == 401 && head.contains("application/json"), "{head}");
}
