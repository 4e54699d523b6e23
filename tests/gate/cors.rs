//! Calls from pages in a browser.

use serde_json::json;

use crate::{
    harness::{DEV, Gate, field, get},
    recorder::Recorder,
};

const PAGE: &str = "https://app.example.com";

async fn gate_before(server: &Recorder) -> Gate {
    Gate::start(json!({
        "proxy": { "allowedOrigins": [PAGE] },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await
}

fn preflight(path: &str, origin: &str, asks: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: {asks}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_grants_what_mcp_clients_send() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let of_mcp = "GET, POST, DELETE, OPTIONS";
    for (path, methods) in [
        ("/db/mcp", of_mcp),
        ("/db", of_mcp),
        ("/db/sse", "GET, OPTIONS"),
        ("/db/message?x=1", "POST, OPTIONS"),
        ("/nope/mcp", of_mcp),
        ("/metrics", "GET, HEAD"),
    ] {
        let asks = "authorization,content-type, mcp-param-region ,Mcp-Param-Tenant,x-evil";
        let (status, head, body) = gate.ask(&preflight(path, PAGE, asks)).await;
        assert_eq!((status, body.as_str()), (204, ""), "{path}\n{head}");
        assert_eq!(field(&head, "access-control-allow-origin"), Some(PAGE));
        assert_eq!(field(&head, "vary"), Some("Origin"));
        assert_eq!(field(&head, "access-control-allow-credentials"), None, "{head}");
        let granted: Vec<String> = field(&head, "access-control-allow-headers")
            .unwrap()
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        for name in [
            "authorization",
            "content-type",
            "accept",
            "mcp-session-id",
            "mcp-protocol-version",
            "last-event-id",
            "mcp-method",
            "mcp-name",
            "mcp-param-region",
            "mcp-param-tenant",
        ] {
            assert!(granted.iter().any(|granted| granted == name), "{name}\n{head}");
        }
        assert!(!granted.iter().any(|granted| granted == "x-evil"), "{head}");
        assert_eq!(field(&head, "access-control-allow-methods"), Some(methods), "{path}");
    }
    server.saw_nothing("a preflight ends at the gateway").await;
}

#[tokio::test]
async fn a_preflight_is_not_answered_with_as_much_as_a_stranger_can_ask_for() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    for (name, most) in [("mcp-param-a", 128), ("mcp-param-a-tool-with-a-longer-name-than-most-have", 100)] {
        let names: Vec<String> = (0..15_000 / name.len()).map(|n| format!("{name}{n}")).collect();
        let (status, head, _) = gate.ask(&preflight("/db/mcp", PAGE, &names.join(","))).await;
        assert_eq!(status, 204);
        let allowed = field(&head, "access-control-allow-headers").unwrap();
        assert!(allowed.ends_with(|c: char| c.is_ascii_digit()), "{allowed}");
        assert!(allowed.len() < 5_000 && allowed.matches(name).count() <= most, "{allowed}");
        // What any browser asks for is there.
        assert!(allowed.contains(&format!(", {name}0, {name}1,")), "{allowed}");
    }
    let anyone = Gate::start(json!({
        "proxy": { "allowedOrigins": ["*"] }, "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let origin = format!("https://{}.example", "a".repeat(4_000));
    let (status, head, _) = anyone.ask(&get("/db/mcp", DEV, &format!("Origin: {origin}\r\n"))).await;
    assert_eq!(status, 403);
    assert!(head.len() < 1_000, "{head}");
    server.saw_nothing("neither was a request for it").await;
}

#[tokio::test]
async fn a_foreign_page_is_turned_away_and_may_not_even_read_why() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    for origin in [
        "https://evil.example",
        "null",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
    ] {
        for request in [
            preflight("/db/mcp", origin, "authorization"),
            get("/db/mcp", DEV, &format!("Origin: {origin}\r\n")),
        ] {
            let (status, head, body) = gate.ask(&request).await;
            assert_eq!(status, 403, "{request}\n{head}");
            assert!(body.contains("forbidden_origin"), "{body}");
            assert!(!head.to_ascii_lowercase().contains("access-control-"), "{head}");
        }
    }
    server.saw_nothing("the origins are foreign").await;
}

/// Which of two another parser takes is not known. The admin listener does the same: see `admin_listener`.
#[tokio::test]
async fn two_origins_are_none_that_is_allowed() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    for (one, other) in [(PAGE, "https://evil.example"), ("https://evil.example", PAGE), (PAGE, PAGE)] {
        let two = format!("Origin: {one}\r\nOrigin: {other}\r\n");
        let asks = format!("{two}Access-Control-Request-Method: POST\r\n");
        for request in [
            get("/db/mcp", DEV, &two),
            get("/db/mcp", DEV, &asks).replacen("GET", "OPTIONS", 1),
            get("/servers", DEV, &two),
        ] {
            let (status, head, body) = gate.ask(&request).await;
            assert!(status == 403 && body.contains("forbidden_origin"), "{request}\n{head}{body}");
            assert!(!head.to_ascii_lowercase().contains("access-control-"), "{head}");
        }
    }
    server.saw_nothing("the origins are two").await;
}

#[tokio::test]
async fn a_page_can_read_refusals_and_answers() {
    let server = Recorder::answering(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: X-Theirs\r\nAccess-Control-Allow-Private-Network: true\r\nVary: Accept\r\nContent-Length: 2\r\n\r\n{}",
    )
    .await;
    let gate = gate_before(&server).await;
    let origin = format!("Origin: {PAGE}\r\n");
    for (token, path, wanted) in
        [(DEV, "/db/mcp", 200), ("unknown", "/db/mcp", 401), (DEV, "/nope", 404), (DEV, "/db//mcp", 400)]
    {
        let (status, head, _) = gate.ask(&get(path, token, &origin)).await;
        assert_eq!(status, wanted);
        let rules: Vec<&str> =
            head.lines().filter(|line| line.to_ascii_lowercase().starts_with("access-control-")).collect();
        assert_eq!(rules.len(), 2, "{head}");
        assert_eq!(field(&head, "access-control-allow-origin"), Some(PAGE), "{head}");
        assert_eq!(
            field(&head, "access-control-expose-headers"),
            Some("Mcp-Session-Id, WWW-Authenticate, X-Request-Id"),
            "{head}"
        );
        assert!(head.lines().any(|line| line.eq_ignore_ascii_case("vary: origin")), "{head}");
    }
    // The server does not learn from which page.
    assert_eq!(field(&server.only(), "origin"), None);
    // And without an Origin there is nothing to rule on.
    let (_, head, _) = gate.ask(&get("/db/mcp", DEV, "")).await;
    assert!(!head.to_ascii_lowercase().contains("access-control-"), "{head}");
}

#[tokio::test]
async fn a_gate_on_loopback_takes_pages_of_this_machine() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    for origin in ["http://localhost:5173", "http://127.0.0.1", "https://[::1]:6274"] {
        let (status, head, _) = gate.ask(&preflight("/db/mcp", origin, "authorization")).await;
        assert_eq!((status, field(&head, "access-control-allow-origin")), (204, Some(origin)), "{head}");
    }
}
