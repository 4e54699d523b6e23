//! The main job once through.

use serde_json::json;

use crate::harness::{CI, DEV, Gate, Upstream, field, get, post, soon};

#[tokio::test]
async fn a_call_with_a_token_reaches_its_server_and_the_token_does_not() {
    let server = Upstream::bind().await;
    let gate =
        Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp"), "authTokens": ["dev"] } } }))
            .await;

    let mut client = gate.client().await;
    client.send(post("/db/mcp", DEV, "X-Kept: yes\r\n", r#"{"id":1}"#)).await;
    let mut behind = server.accept().await;
    let head = behind.head().await;
    assert!(head.starts_with("POST /mcp HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some(server.addr.to_string().as_str()));
    assert_eq!(field(&head, "x-kept"), Some("yes"));
    assert_eq!(field(&head, "authorization"), None);
    assert_eq!(behind.exactly(8).await, br#"{"id":1}"#);
    behind.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await;

    let (status, head, body) = client.response().await;
    assert_eq!((status, body.as_str()), (200, "{}"), "{head}");
    let line = gate.log.line("Authenticated request", &[]).await;
    assert_eq!(
        (&line["token_name"], &line["server"], &line["status"]),
        (&json!("dev"), &json!("db"), &json!(200))
    );

    let (status, _, body) = gate.ask(&get("/db/mcp", CI, "")).await;
    assert_eq!(status, 403, "{body}");
}

#[tokio::test]
async fn events_pass_one_by_one_and_the_connection_serves_again() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;

    let mut client = gate.client().await;
    client.send(get("/db", DEV, "Accept: text/event-stream\r\n")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let head = soon("the head, before any event", client.head()).await;
    assert_eq!(field(&head, "content-type"), Some("text/event-stream"));
    for n in 0..3 {
        let event = format!("data: {n}\n\n");
        behind.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
    }
    behind.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    gate.log.line("Stream closed", &[("reason", json!("upstream_end")), ("bytes_out", json!(27))]).await;

    // The client's connection carries the next request; the server's was opened for a stream, and has gone with it.
    client.send(get("/db", DEV, "")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.response().await.0, 204);
}
