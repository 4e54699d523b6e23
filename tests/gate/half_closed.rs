//! A client that ends its side of the connection behind a call waits for the answer; one that leaves is noticed.

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, get, post, soon},
    mcp::INITIALIZE,
    tls::{Identity, connected},
};

/// The rest of a call whose client has ended its side: it gets the answer, and the connection ends.
async fn is_answered<T: AsyncRead + AsyncWrite + Unpin>(
    mut client: Client<T>,
    server: &Upstream,
    events: bool,
) {
    client.send(post("/db", DEV, "", "{}")).await;
    client.stream.shutdown().await.unwrap();
    let mut behind = server.accept().await;
    behind.head().await;
    behind.exactly(2).await;
    if events {
        behind.send(SSE).await;
        client.head().await;
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            behind.send(chunk(event)).await;
            assert_eq!(client.chunk().await.as_deref(), Some(event.as_bytes()));
        }
        behind.send("0\r\n\r\n").await;
        assert_eq!(client.chunk().await, None);
    } else {
        behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        let (status, _, body) = client.response().await;
        assert_eq!((status, body.as_str()), (200, "{}"));
    }
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_call_of_a_client_that_ended_its_side_is_answered() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    for events in [false, true] {
        is_answered(gate.client().await, &server, events).await;
    }
    let identity = Identity::new();
    let gate = Gate::start(json!({
        "proxy": { "tls": identity.config(), "allowedHosts": ["localhost"] },
        "mcpServers": { "db": { "url": server.url("/mcp") } }
    }))
    .await;
    for events in [false, true] {
        is_answered(Client::new(connected(&gate, &identity, &["http/1.1"]).await), &server, events).await;
    }
}

#[tokio::test]
async fn so_it_is_where_messages_pass_and_for_what_the_gate_answers_itself() {
    let gate = Gate::start(json!({
        "mcpServers": { "own": { "inline": { "tools": [
            { "name": "t", "command": "true", "inputSchema": { "type": "object" } }
        ] } } }
    }))
    .await;
    for (request, status) in [
        (post("/own/mcp", DEV, "Accept: application/json, text/event-stream\r\n", INITIALIZE), 200),
        (post("/own/mcp", DEV, "", "no message"), 400),
        (post("/nobody/mcp", "wrong", "", "{}"), 401),
    ] {
        let mut client = gate.client().await;
        client.send(&request).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.response().await.0, status, "{request}");
        client.rest().await;
    }
}

/// Closes it, as far as the other side can see: nothing of it is there to be reset.
fn leave(client: Client<TcpStream>) {
    drop(client);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_whether_it_waits_for_an_answer_or_a_stream() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    for (request, head) in [
        (post("/db", DEV, "", "{}"), ""),
        (post("/db", DEV, "", "{}"), SSE),
        (post("/db", DEV, "", "{}").replace("Length: 2", "Length: 3"), ""),
        (post("/db", DEV, "", "{}").replace("Length: 2", "Length: 70000"), ""),
        (get("/db", DEV, ""), ""),
        (get("/db", DEV, ""), SSE),
    ] {
        let mut client = gate.client().await;
        client.send(&request).await;
        let mut behind = None;
        if !request.contains("Length: 3\r\n") {
            let mut server = server.accept().await;
            server.head().await;
            server.send(head).await;
            behind = Some(server);
        }
        if !head.is_empty() {
            client.head().await;
        }
        leave(client);
        if let Some(mut behind) = behind {
            soon("the end of the server's connection", behind.rest()).await;
        }
    }
    crate::harness::until("no connection is left", || {
        gate.metrics().contains("sluicegate_connections_open 0")
    })
    .await;
}
