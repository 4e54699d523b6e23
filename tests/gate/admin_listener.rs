//! The admin listener: no page of a browser gets at it, whatever the public listener allows, and where others can connect,
//! nobody without a token.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Client, DEV, Gate, OPS, SCRAPER, field, get, operators};

async fn start(admin: &str) -> Gate {
    Gate::start(json!({
        "proxy": {
            "auth": { "tokens": operators() },
            "admin": { "addr": admin },
            "allowedHosts": ["gate.example", "localhost"],
            "allowedOrigins": ["*"],
        },
        "mcpServers": { "db": { "url": "http://127.0.0.1:9/mcp" }, "secret-name": { "url": "http://127.0.0.1:9/mcp" } },
    }))
    .await
}

async fn ask(at: SocketAddr, request: &str) -> (u16, String, String) {
    let mut client = Client::new(TcpStream::connect(at).await.unwrap());
    client.send(request).await;
    client.response().await
}

/// The admin listener's address as its own machine reaches it.
fn near(gate: &Gate) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], gate.gateway.admin_addr().unwrap().port()))
}

fn request(method: &str, path: &str, host: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{fields}\r\n")
}

async fn is_stopped(gate: &Gate) -> bool {
    let (status, _, body) = gate.ask(&get("/servers/db", OPS, "")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["stopped"].as_bool().unwrap()
}

const PATHS: [(&str, &str); 8] = [
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/servers"),
    ("GET", "/servers/db"),
    ("POST", "/servers/db/stop"),
    ("OPTIONS", "/servers/db/stop"),
];

#[tokio::test]
async fn no_page_but_its_own_reaches_it_whatever_the_public_listener_allows() {
    let gate = start("127.0.0.1:0").await;
    let at = near(&gate);
    let port = at.port();
    let host = format!("localhost:{port}");
    for origin in [
        "https://evil.example".to_owned(),
        "http://localhost:5173".to_owned(),
        "http://localhost".to_owned(),
        format!("https://localhost:{port}"),
        // The same listener by another name is another origin: a page there was not served by it under this one.
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}.evil.example"),
        "null".to_owned(),
        String::new(),
    ] {
        for (method, path) in PATHS {
            let asks = "Access-Control-Request-Method: POST\r\n";
            let (status, head, body) =
                ask(at, &request(method, path, &host, &format!("Origin: {origin}\r\n{asks}"))).await;
            assert!(
                status == 403 && body.contains("forbidden_origin"),
                "{origin} {method} {path}: {status} {body}"
            );
            assert!(!head.to_ascii_lowercase().contains("access-control"), "{head}");
        }
    }
    let own = format!("http://{host}");
    for (one, other) in [(&*own, "https://evil.example"), ("https://evil.example", &own), (&own, &own)] {
        let two = format!("Origin: {one}\r\nOrigin: {other}\r\n");
        assert_eq!(ask(at, &request("POST", "/servers/db/stop", &host, &two)).await.0, 403, "{two}");
    }
    assert!(!is_stopped(&gate).await);

    let own = format!("Origin: http://{host}\r\n");
    let (status, head, body) = ask(at, &request("POST", "/servers/db/stop", &host, &own)).await;
    assert_eq!(status, 200, "{body}");
    assert!(!head.to_ascii_lowercase().contains("access-control"), "{head}");
    assert!(is_stopped(&gate).await);
    // To the public listener, the same origins are what the config says.
    let (status, head, _) = gate.ask(&get("/servers", OPS, "Origin: https://evil.example\r\n")).await;
    assert_eq!((status, field(&head, "access-control-allow-origin")), (200, Some("https://evil.example")));
}

#[tokio::test]
async fn a_name_that_was_rebound_to_it_is_told_nothing() {
    let gate = start("127.0.0.1:0").await;
    let at = near(&gate);
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{}", at.port()),
        "localhost.evil.example".to_owned(),
        // A name of the public listener, and an address that is not this machine's to itself.
        "gate.example".to_owned(),
        "10.0.0.1".to_owned(),
    ] {
        for (method, path) in PATHS {
            let (status, _, body) = ask(at, &request(method, path, &host, "")).await;
            assert!(
                status == 403 && body.contains("forbidden_host"),
                "{host} {method} {path}: {status} {body}"
            );
            assert!(!body.contains("secret-name") && !body.contains("total"), "{body}");
        }
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]", "LOCALHOST:9090"] {
        for (method, path) in &PATHS[..6] {
            assert_eq!(ask(at, &request(method, path, host, "")).await.0, 200, "{host} {path}");
        }
    }
    // Elsewhere kubelets and balancers ask, by whatever name.
    for path in ["/health", "/health/live", "/health/ready", "/status"] {
        let (status, _, body) = gate.ask(&request("GET", path, "10.1.2.3:8080", "")).await;
        assert_eq!(status, 200, "{path}");
        assert!(!body.contains("down"), "{body}");
    }
}

#[tokio::test]
async fn where_others_can_connect_it_asks_for_a_token_and_its_role() {
    let gate = start("0.0.0.0:0").await;
    let at = near(&gate);
    let port = at.port();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    // Scrapers and kubelets call a pod by its address; others by the names of the config.
    for host in
        [format!("10.1.2.3:{port}"), format!("[fd00::1]:{port}"), "gate.example".into(), "localhost".into()]
    {
        for path in ["/health", "/health/live", "/health/ready"] {
            assert_eq!(ask(at, &request("GET", path, &host, "")).await.0, 200, "{host} {path}");
        }
        for (method, path, no_role, metrics, admin) in [
            ("GET", "/metrics", 403, 200, 200),
            ("GET", "/status", 403, 403, 200),
            ("GET", "/servers", 403, 403, 200),
            ("GET", "/servers/db", 403, 403, 200),
            ("POST", "/servers/db/restart", 403, 403, 200),
            ("POST", "/metrics", 403, 405, 405),
            ("OPTIONS", "/servers", 403, 403, 405),
            ("GET", "/servers/nobody", 403, 403, 404),
            ("GET", "/db/mcp", 404, 404, 404),
            ("GET", "/.well-known/x", 404, 404, 404),
            ("GET", "/", 404, 404, 404),
        ] {
            for (token, wanted, error) in [
                (String::new(), 401, "unauthorized"),
                (bearer("nobody"), 401, "invalid_token"),
                (bearer(DEV), no_role, ""),
                (bearer(SCRAPER), metrics, ""),
                (bearer(OPS), admin, ""),
            ] {
                let (status, head, body) = ask(at, &request(method, path, &host, &token)).await;
                assert_eq!(status, wanted, "{host} {method} {path} {token}: {body}");
                assert!(body.contains(error), "{body}");
                assert_eq!(field(&head, "www-authenticate").is_some(), matches!(status, 401 | 403), "{head}");
            }
        }
    }
    // A page gets no further with a token than without.
    for (host, fields) in [
        ("evil.example", bearer(OPS)),
        ("gate.example", format!("{}Origin: https://evil.example\r\n", bearer(OPS))),
    ] {
        assert_eq!(ask(at, &request("POST", "/servers/db/stop", host, &fields)).await.0, 403);
    }
    assert!(!is_stopped(&gate).await);
    // Who rotates a scraper's token sees whether the old one is in use.
    let metrics = gate.metrics();
    let used =
        |line: &&str| line.starts_with("sluicegate_token_used_total") && line.contains("\"prometheus\"");
    assert!(metrics.lines().find(used).is_some_and(|line| line.ends_with("} 8")), "{metrics}");
}

#[tokio::test]
async fn on_the_public_listener_a_scraper_may_read_metrics_and_nothing_else() {
    let gate = start("127.0.0.1:0").await;
    let (status, _, body) = gate.ask(&get("/metrics", SCRAPER, "")).await;
    assert!(status == 200 && body.contains("sluicegate_connections_open"), "{status} {body}");
    for path in ["/servers", "/servers/db", "/servers/nobody"] {
        assert_eq!(gate.ask(&get(path, SCRAPER, "")).await.0, 403, "{path}");
    }
    assert_eq!(gate.ask(&get("/metrics", DEV, "")).await.0, 403);
}
