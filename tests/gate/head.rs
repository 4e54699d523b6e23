//! An answer to HEAD has the head of the answer to GET and no content (RFC 9110 §9.3.2), whatever answers it.

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use serde_json::json;

use crate::{
    harness::{Client, DEV, Gate, Upstream, field, get, soon},
    tls::{Http2, Identity, connected, http2},
};

/// Paths with a status each: probes, endpoints of the gateway's, a server, nothing; and refusals for want of a token.
const ASKED: &[(&str, &str, u16)] = &[
    ("/health", "", 200),
    ("/health/live", "", 200),
    ("/health/ready", "", 200),
    ("/status", "", 200),
    ("/metrics", OPS, 200),
    ("/servers", OPS, 200),
    ("/servers/db", OPS, 200),
    ("/servers/db", "", 401),
    ("/servers/db", DEV, 403),
    ("/servers/none", OPS, 404),
    ("/servers/db/stop", OPS, 405),
    ("/db/mcp", "", 401),
    ("/db/mcp", "a-token-that-nobody-has", 401),
    ("/db/mcp", DEV, 405),
    ("/cmd/mcp", DEV, 405),
    ("/mcp", DEV, 405),
    ("/db/sse", DEV, 405),
    ("/.well-known/oauth-protected-resource", "", 404),
];
const OPS: &str = "token-of-the-operators";

async fn gate(identity: &Identity) -> Gate {
    let server = Upstream::bind().await;
    Gate::start(json!({
        "proxy": {
            "tls": identity.config(), "allowedHosts": ["localhost"],
            "auth": { "tokens": { "dev": DEV, "ops": { "value": OPS, "roles": ["admin"] } } },
        },
        "mcpServers": { "db": { "url": server.url("/mcp") }, "cmd": { "command": "cat" } },
    }))
    .await
}

async fn ask(client: &mut Http2, method: &str, path: &str, token: &str) -> Response<Incoming> {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::new())
        .unwrap();
    soon(path, client.send_request(request)).await.unwrap()
}

#[tokio::test]
async fn an_answer_to_head_has_no_content_over_http2() {
    let identity = Identity::new();
    let gate = gate(&identity).await;
    let mut client = http2(&gate, &identity).await;
    for (path, token, status) in ASKED {
        let response = ask(&mut client, "HEAD", path, token).await;
        assert_eq!(response.status(), *status, "{path}");
        let length = response.headers().get("content-length").cloned();
        // This client fails if a frame of data comes.
        let content = soon(path, response.into_body().collect()).await.expect(path).to_bytes();
        assert_eq!(content, Bytes::new(), "{path}");
        assert!(length.is_some_and(|length| length != "0"), "{path}");
    }
    // A proxy that asks what is allowed, on the same connection.
    let response = ask(&mut client, "OPTIONS", "/db/mcp", "").await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn nor_has_it_over_http1_and_its_length_is_that_of_get() {
    let identity = Identity::new();
    let gate = gate(&identity).await;
    let mut client = Client::new(connected(&gate, &identity, &["http/1.1"]).await);
    for (path, token, status) in ASKED {
        client.send(get(path, token, "").replacen("GET", "HEAD", 1)).await;
        // What came behind a head would be in front of the next one.
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        let length = field(&head, "content-length").map(|length| length.parse::<usize>().unwrap());
        // What changes from one moment to the next, or is not the same for both.
        if matches!(*path, "/metrics" | "/servers" | "/servers/db" | "/status") || *status == 405 {
            assert!(length > Some(0), "{path}: {head}");
            continue;
        }
        client.send(get(path, token, "")).await;
        let (of_get, _, body) = client.response().await;
        assert_eq!((of_get, length), (*status, Some(body.len())), "{path}");
    }
}
