//! Who may pass, case by case.

use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, PATIENCE, field, get, post, until},
    recorder::Recorder,
};

const CHALLENGE: &str = r#"Bearer realm="test gate""#;
const CHALLENGE_INVALID: &str = r#"Bearer realm="test gate", error="invalid_token""#;
const EXPIRED: &str = "expired-token-0123456789abcdef";
const ADMIN: &str = "admin-token-0123456789abcdef";

/// One server per kind of access, all of them the same recorder.
async fn gate_before(server: &Recorder, proxy: Value) -> Gate {
    let mut proxy = proxy;
    proxy["auth"]["kind"] = json!("bearer_token");
    proxy["auth"]["tokens"] = json!({
        "dev": DEV,
        "ci": { "value": CI, "roles": ["deploy"] },
        "old": { "value": EXPIRED, "expires": "2020-01-01T00:00:00Z" },
        "ops": { "value": ADMIN, "roles": ["admin"] },
    });
    Gate::start(json!({
        "proxy": proxy,
        "mcpServers": {
            "db": { "url": server.url("/mcp"), "authTokens": ["dev", "old"] },
            "any": { "url": server.url("/mcp?fixed=1"), "passQuery": true },
            "release": { "url": server.url("/mcp"), "roles": ["deploy"] },
            "nobody": { "url": server.url("/mcp"), "roles": [] },
            "nor-these": { "url": server.url("/mcp"), "authTokens": ["dev", "ci", "ops"], "roles": [] },
            "docs": { "url": server.url("/mcp"), "public": true },
            "events": { "url": server.url("/sse"), "authTokens": ["dev"] },
        },
    }))
    .await
}

fn bare(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// Asserts a refusal: status, challenge, code in the body, and the same id in body and log.
async fn refused(gate: &Gate, request: &str, status: u16, challenge: Option<&str>, error: &str) -> Value {
    let (got, head, body) = gate.ask(request).await;
    assert_eq!(got, status, "{request}\n{head}{body}");
    assert_eq!(field(&head, "www-authenticate"), challenge, "{request}\n{head}");
    assert_eq!(field(&head, "content-type"), Some("application/json"), "{request}\n{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"], error, "{request}\n{body}");
    for key in ["error_description", "message"] {
        assert!(body[key].as_str().is_some_and(|text| !text.is_empty()), "{request}: {key} in {body}");
    }
    let line = gate.log.line("Refused request", &[("request_id", body["request_id"].clone())]).await;
    assert_eq!((&line["reason"], &line["status"]), (&json!(error), &json!(status)), "{request}");
    body
}

#[tokio::test]
async fn every_refusal_of_the_table_has_its_status_challenge_and_code() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({})).await;
    let authorization = |value: &str| format!("Authorization: {value}\r\n");

    for path in [
        "/db/mcp",
        "/db",
        "/db/",
        "/db/mcp/",
        "/events/sse",
        "/events/message",
        "/metrics",
        "/nope",
        "/nope/mcp",
        "/db/mcp/x",
        "/healthX",
        "/health/other",
        "/metricsX",
        "/servers",
        "/debug/pprof",
    ] {
        refused(&gate, &bare("GET", path, ""), 401, Some(CHALLENGE), "unauthorized").await;
        refused(
            &gate,
            &bare("GET", path, &authorization("Bearer who-is-this")),
            401,
            Some(CHALLENGE_INVALID),
            "invalid_token",
        )
        .await;
        refused(
            &gate,
            &bare("GET", &format!("{path}?token={DEV}"), ""),
            401,
            Some(CHALLENGE),
            "query_token_disabled",
        )
        .await;
    }
    for path in ["/nope", "/nope/mcp", "/db/mcp/x", "/", "/healthX", "/debug/pprof"] {
        refused(&gate, &get(path, DEV, ""), 404, None, "not_found").await;
    }
    for malformed in [
        "Basic ZGV2OmRldg==",
        DEV,
        "Bearer",
        "Bearer ",
        &format!("Bearer{DEV}"),
        &format!("Bearer {DEV} {DEV}"),
        &format!("Bearer {DEV},"),
        &format!("Token {DEV}"),
        &format!("Bearer\t{DEV}"),
        &format!("Bearer \"{DEV}\""),
        &format!("Bearer {}", &DEV[1..]),
        &format!("Bearer {DEV}x"),
        &format!("Bearer {}", DEV.to_uppercase()),
        &format!("Bearer {EXPIRED}"),
    ] {
        let request = bare("GET", "/db/mcp", &authorization(malformed));
        refused(&gate, &request, 401, Some(CHALLENGE_INVALID), "invalid_token").await;
    }
    let twice = authorization(&format!("Bearer {DEV}")).repeat(2);
    refused(&gate, &bare("GET", "/db/mcp", &twice), 401, Some(CHALLENGE_INVALID), "invalid_token").await;

    let scope = Some(r#"Bearer error="insufficient_scope""#);
    refused(&gate, &get("/db/mcp", CI, ""), 403, scope, "insufficient_scope").await;
    refused(&gate, &get("/release/mcp", DEV, ""), 403, scope, "insufficient_scope").await;
    refused(&gate, &get("/metrics", DEV, ""), 403, scope, "insufficient_scope").await;

    let foreign_host = get("/db/mcp", DEV, "").replace("localhost", "rebound.example");
    refused(&gate, &foreign_host, 403, None, "forbidden_host").await;
    let foreign_origin = get("/db/mcp", DEV, "Origin: https://evil.example\r\n");
    refused(&gate, &foreign_origin, 403, None, "forbidden_origin").await;

    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/db/mcp",
        "/.well-known/x",
        "/.well-known",
        // Where older clients look for a login if there is nothing at the others.
        "/",
        "/register",
        "/authorize",
        "/token",
    ] {
        refused(&gate, &bare("GET", path, ""), 404, None, "not_found").await;
        refused(&gate, &bare("GET", path, &authorization("Bearer no")), 404, None, "not_found").await;
    }
    server.saw_nothing("every request was refused").await;
}

#[tokio::test]
async fn a_valid_token_passes_whatever_the_case_of_its_scheme() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({})).await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let request = bare("GET", "/db/mcp", &format!("authorization: {scheme} {DEV}\r\n"));
        assert_eq!(gate.ask(&request).await.0, 200, "{scheme}");
    }
    for (path, token) in
        [("/db", DEV), ("/db/", DEV), ("/db/mcp/", DEV), ("/any/mcp", ADMIN), ("/release", CI)]
    {
        assert_eq!(gate.ask(&get(path, token, "")).await.0, 200, "{path}");
    }
    assert_eq!(server.requests().len(), 9);
    assert!(server.requests().iter().all(|request| !request.to_lowercase().contains("authorization")));
}

#[tokio::test]
async fn an_expired_token_is_refused_in_the_words_of_an_unknown_one() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({})).await;
    let mut answers = Vec::new();
    for token in [EXPIRED, "unknown-token-0123456789abcdef", "x"] {
        let (status, head, body) = gate.ask(&get("/db/mcp", token, "")).await;
        assert_eq!(status, 401);
        let id = serde_json::from_str::<Value>(&body).unwrap()["request_id"].as_str().unwrap().to_owned();
        let date = field(&head, "date").unwrap();
        answers.push((head.replace(date, "now").replace(&id, "id"), body.replace(&id, "id")));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn a_token_in_the_query_passes_where_it_is_allowed_and_goes_no_further() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({ "auth": { "queryToken": true } })).await;
    for (query, upstream) in [
        (format!("?token={DEV}"), "/mcp?fixed=1"),
        (format!("?a=%7e%2F&&b=&token={DEV}&c='x'&A=~+"), "/mcp?fixed=1&a=%7e%2F&&b=&c='x'&A=~+"),
        (format!("?tokens=1&token={}", DEV.replace('-', "%2D")), "/mcp?fixed=1&tokens=1"),
    ] {
        assert_eq!(gate.ask(&bare("GET", &format!("/any/mcp{query}"), "")).await.0, 200, "{query}");
        assert!(server.only().starts_with(&format!("GET {upstream} HTTP/1.1\r\n")), "{}", server.only());
        server.forget();
    }
    // Where both are there, neither decides.
    for token in [CI, DEV] {
        let both = get(&format!("/db/mcp?token={token}&x=1"), DEV, "");
        refused(&gate, &both, 401, Some(CHALLENGE_INVALID), "invalid_token").await;
    }
    let unknown = bare("GET", "/any/mcp?token=unknown", "");
    refused(&gate, &unknown, 401, Some(CHALLENGE_INVALID), "invalid_token").await;
    let empty = bare("GET", "/any/mcp?token=", "");
    refused(&gate, &empty, 401, Some(CHALLENGE_INVALID), "invalid_token").await;
    server.saw_nothing("neither token opens anything").await;
}

#[tokio::test]
async fn an_empty_list_of_roles_lets_nobody_in_as_one_of_tokens_does() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({})).await;
    for path in ["/nobody/mcp", "/nor-these/mcp", "/nobody/sse"] {
        for token in [DEV, CI, ADMIN] {
            let challenge = Some("Bearer error=\"insufficient_scope\"");
            refused(&gate, &get(path, token, ""), 403, challenge, "insufficient_scope").await;
        }
    }
    server.saw_nothing("nobody has one of no roles").await;
    // Absent and empty are two things where an operator looks.
    let (_, _, listed) = gate.ask(&get("/servers", ADMIN, "")).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let roles = |name: &str| {
        let servers = listed["servers"].as_array().unwrap();
        servers.iter().find(|server| server["name"] == name).unwrap().get("roles").cloned()
    };
    assert_eq!(roles("any"), None);
    assert_eq!(roles("nobody"), Some(json!([])));
    assert_eq!(roles("release"), Some(json!(["deploy"])));
}

#[tokio::test]
async fn a_public_server_asks_for_no_token_and_passes_none_on() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({})).await;
    for request in [
        bare("GET", "/docs/mcp", ""),
        get("/docs/mcp", DEV, ""),
        get("/docs/mcp", "unknown", ""),
        bare("GET", "/docs", "Authorization: Basic ZGV2OmRldg==\r\n"),
        bare("GET", &format!("/docs/mcp?token={DEV}"), ""),
    ] {
        assert_eq!(gate.ask(&request).await.0, 200, "{request}");
        let seen = server.only();
        assert!(seen.starts_with("GET /mcp HTTP/1.1\r\n"), "{seen}");
        assert_eq!(field(&seen, "authorization"), None, "{seen}");
        server.forget();
    }
    let line = gate.log.line("Public request", &[]).await;
    assert_eq!((&line["server"], line.get("token_name")), (&json!("docs"), None));
}

/// What proxies and frameworks have been talked into believing.
const SPOOFS: &[&str] = &[
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: localhost",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /health",
    "X-Forwarded-User: admin",
    "X-Forwarded-Uri: /health",
    "X-Forwarded-Method: OPTIONS",
    "Forwarded: for=127.0.0.1;host=localhost;proto=https",
    "X-Real-IP: 127.0.0.1",
    "X-Client-IP: 127.0.0.1",
    "True-Client-IP: ::1",
    "CF-Connecting-IP: 127.0.0.1",
    "X-Original-URL: /health",
    "X-Original-Host: localhost",
    "X-Rewrite-URL: /docs/mcp",
    "X-Accel-Redirect: /docs/mcp",
    "X-HTTP-Method-Override: OPTIONS",
    "X-Method-Override: OPTIONS",
    "X-Remote-User: admin",
    "X-Authenticated-User: dev",
    "X-Auth-Request-User: dev",
    "X-Token-Name: dev",
    "X-Api-Key: dev",
    "X-Internal: true",
    "User-Agent: kube-probe/1.33",
    "User-Agent: ELB-HealthChecker/2.0",
    "Referer: http://localhost/health",
    "Cookie: session=admin; token=dev",
    "Via: 1.1 localhost",
    "Proxy-Authorization: Bearer dev",
    "Upgrade: websocket",
];

#[tokio::test]
async fn nothing_but_a_token_opens_a_server_whatever_else_a_request_claims() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({})).await;
    let methods = [
        "GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND", "QUERY",
        "SEARCH",
    ];
    let paths = [
        "/db/mcp",
        "/db",
        "/events/sse",
        "/events/message?sessionId=1",
        "/metrics",
        "/nope/mcp",
        "/health/../db/mcp",
    ];
    assert!(SPOOFS.len() >= 30);
    tokio::time::timeout(PATIENCE * 6, async {
        for method in methods {
            for path in paths {
                // On one connection as far as it goes: what one request claims must not stay for the next.
                let mut client = gate.client().await;
                for spoof in SPOOFS {
                    client.send(bare(method, path, &format!("{spoof}\r\nContent-Length: 0\r\n"))).await;
                    let head = client.head().await;
                    let wanted: &[&str] = match method {
                        "OPTIONS" => &["204", "400"],
                        "TRACE" | "CONNECT" => &["405", "400"],
                        _ => &["401", "400"],
                    };
                    assert!(wanted.contains(&&head[9..12]), "{method} {path} {spoof}\n{head}");
                    assert_eq!(
                        head.contains(" 400 "),
                        path.contains(".."),
                        "{method} {path} {spoof}\n{head}"
                    );
                    let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
                    if method != "HEAD" {
                        client.exactly(length).await;
                    }
                    if field(&head, "connection") == Some("close") {
                        client = gate.client().await;
                    }
                }
            }
        }
    })
    .await
    .expect("the whole matrix in time");
    server.saw_nothing("no request had a token").await;
}

#[tokio::test]
async fn probes_need_no_token_and_tell_nothing_of_the_servers() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({})).await;
    for path in ["/health", "/health/", "/health/live", "/health/ready", "/health/ready/"] {
        // A kubelet asks by address.
        for host in ["localhost", "10.1.2.3:8443"] {
            let (status, head, body) = gate.ask(&bare("GET", path, "").replace("localhost", host)).await;
            assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#), "{path}\n{head}");
        }
    }
    until("the connections so far are closed", || gate.metrics().contains("sluicegate_connections_open 0"))
        .await;
    let (status, _, body) = gate.ask(&bare("GET", "/status", "")).await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({ "servers": { "total": 7, "running": 7 }, "clients": { "connected": 1 } }));
    assert_eq!(gate.ask(&bare("POST", "/health", "Content-Length: 0\r\n")).await.0, 405);
}

#[tokio::test]
async fn metrics_are_for_admins_and_for_the_admin_listener() {
    let server = Recorder::start().await;
    let gate = gate_before(&server, json!({ "admin": { "addr": "127.0.0.1:0" } })).await;
    let (status, head, body) = gate.ask(&get("/metrics", ADMIN, "")).await;
    assert_eq!(status, 200);
    assert_eq!(field(&head, "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(body.contains("sluicegate_"), "{body}");

    let admin = gate.gateway.admin_addr().unwrap();
    let ask = async |request: String| {
        let mut client = crate::harness::Client::new(tokio::net::TcpStream::connect(admin).await.unwrap());
        client.send(request).await;
        client.response().await
    };
    let (status, _, body) = ask(bare("GET", "/metrics", "")).await;
    assert_eq!(status, 200);
    assert!(body.contains("sluicegate_"), "{body}");
    for request in [get("/db/mcp", DEV, ""), post("/docs/mcp", DEV, "", "{}"), bare("GET", "/docs/mcp", "")] {
        assert_eq!(ask(request.clone()).await.0, 404, "{request}");
    }
    server.saw_nothing("the admin listener leads to no server").await;
}
