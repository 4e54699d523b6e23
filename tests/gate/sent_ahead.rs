//! Requests that a client sends before it has the answer to the one before (pipelined): each head is looked at as if it came alone.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, field, get, post, soon},
    recorder::Recorder,
};

async fn gate_before(server: &Recorder) -> Gate {
    Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await
}

/// Heads that are refused, and what the body of the refusal says.
fn faulty() -> Vec<(String, &'static str)> {
    vec![
        (get("/db/mcp#x", DEV, ""), "bad_path"),
        (get("/db/mcp", DEV, "X-A: 1\n"), "bad_request"),
        (get("/db/mcp", DEV, "").replacen("\r\n", "\n", 1), "bad_request"),
        (get("/db/mcp", DEV, "").replace("\r\n", "\n"), "bad_request"),
        (post("/db/mcp", DEV, "X-A: 1\n", "{}"), "bad_request"),
    ]
}

/// Requests of each framing that are answered with 200.
fn good() -> Vec<String> {
    let with = |rest: &str| {
        format!("POST /db/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {DEV}\r\n{rest}")
    };
    vec![
        get("/db/mcp", DEV, ""),
        get("/health", DEV, ""),
        format!("\r\n{}", post("/db/mcp", DEV, "X-Hash: #\r\n", "{\n\"#\"\r\n\r\n}")),
        with("Content-Length: 0\r\n\r\n"),
        with("Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"),
        with(
            "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3;e=\"#\"\r\n{\n\n\r\n01\r\n}\r\n0\r\nX-T: #\r\n\r\n",
        ),
    ]
}

/// The next response that is none of 100 (Continue).
async fn response<T>(client: &mut Client<T>) -> (u16, String, String)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let response = client.response().await;
        if response.0 != 100 {
            return response;
        }
    }
}

#[tokio::test]
async fn what_is_refused_alone_is_refused_behind_any_request_and_ends_the_connection() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let unserved = post("/db/mcp", DEV, "X-Unserved: 1\r\n", "{}");
    for good in good() {
        for (bad, code) in faulty() {
            server.forget();
            let mut client = gate.client().await;
            client.send(format!("{good}{good}{bad}{unserved}")).await;
            for _ in 0..2 {
                assert_eq!(response(&mut client).await.0, 200, "{good:?} {bad:?}");
            }
            let (status, head, body) = response(&mut client).await;
            assert_eq!((status, field(&head, "connection")), (400, Some("close")), "{good:?} {bad:?}");
            assert!(body.contains(code), "{good:?} {bad:?}: {body}");
            assert_eq!(client.rest().await, b"");
            let served = server.requests();
            assert_eq!(served.len(), if good.contains("/health") { 0 } else { 2 }, "{served:#?}");
            assert!(!served.iter().any(|request| request.contains("X-A")), "{served:#?}");
        }
    }
}

#[tokio::test]
async fn all_that_is_good_is_served_wherever_the_bytes_part() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let all = good().concat();
    for at in (0..all.len()).step_by(7) {
        server.forget();
        let mut client = gate.client().await;
        client.send(&all[..at]).await;
        // What is sent apart is not always read apart; that each byte may be the last of a read, unit tests show.
        tokio::task::yield_now().await;
        client.send(&all[at..]).await;
        for request in good() {
            assert_eq!(response(&mut client).await.0, 200, "{at}: {request:?}");
        }
        assert_eq!(server.requests().len(), good().len() - 1, "{at}");
    }
}

/// The gateway answers while the rest of a body is still to come, takes the rest, and reads on behind it.
#[tokio::test]
async fn behind_a_body_that_nobody_wants_the_next_head_is_looked_at() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    // The body looks like a request with a fragment, which nobody is to take it for.
    let refused = post("/db/mcp", "unknown", "", &"GET /# HTTP/1.1\n\n".repeat(20));
    let (first, rest) = refused.split_at(refused.len() - 100);
    for (bad, code) in faulty() {
        let mut client = gate.client().await;
        client.send(first).await;
        tokio::task::yield_now().await;
        client.send(format!("{rest}{}{bad}", get("/health", DEV, ""))).await;
        assert_eq!((client.response().await.0, client.response().await.0), (401, 200));
        let (status, _, body) = client.response().await;
        assert_eq!(status, 400, "{bad:?}");
        assert!(body.contains(code), "{bad:?}: {body}");
    }
    server.saw_nothing("none was let pass").await;
}

#[tokio::test]
async fn what_comes_while_a_stream_runs_is_looked_at_too() {
    for (bad, code) in faulty() {
        let server = Upstream::bind().await;
        let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
        let mut client = gate.client().await;
        // The next request begins in the read that brings this one, and ends while the stream runs.
        let (early, late) = bad.split_at(10);
        client.send(format!("{}{early}", get("/db/mcp", DEV, ""))).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind.send(format!("{SSE}{}", chunk("data: 1\n\n"))).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(client.chunk().await.as_deref(), Some(b"data: 1\n\n".as_slice()));
        client.send(late).await;
        behind.send(chunk("data: 2\n\n")).await;
        assert_eq!(client.chunk().await.as_deref(), Some(b"data: 2\n\n".as_slice()));
        behind.send("0\r\n\r\n").await;
        assert_eq!(client.chunk().await, None);
        let (status, _, body) = client.response().await;
        assert_eq!(status, 400, "{bad:?}");
        assert!(body.contains(code), "{bad:?}: {body}");
    }
}

/// hyper takes such a request; where its body ends, others may see differently.
#[tokio::test]
async fn behind_a_request_whose_end_is_not_certain_the_connection_closes() {
    let server = Recorder::start().await;
    let gate = gate_before(&server).await;
    let unserved = get("/db/mcp", DEV, "X-Unserved: 1\r\n");
    let twice = post("/db/mcp", DEV, "Content-Length: 2\r\n", "{}");
    let old = twice.replace("HTTP/1.1", "HTTP/1.0").replace("\r\nHost", "\r\nConnection: keep-alive\r\nHost");
    for request in [&twice, &old] {
        let mut client = gate.client().await;
        client.send(format!("{request}{unserved}")).await;
        let (status, head, _) = client.response().await;
        assert_eq!((status, field(&head, "connection")), (200, Some("close")), "{head}");
        assert_eq!(client.rest().await, b"");
    }
    let tunnel = get("localhost:443", DEV, "").replace("GET ", "CONNECT ");
    let mut client = gate.client().await;
    client.send(format!("{tunnel}{unserved}")).await;
    let (status, head, _) = client.response().await;
    assert!(matches!(status, 400 | 405), "{head}");
    assert_eq!(field(&head, "connection"), Some("close"), "{head}");
    assert_eq!(client.rest().await, b"");
    assert!(!server.requests().concat().contains("X-Unserved"));
}

#[tokio::test]
async fn a_head_that_was_begun_ahead_has_no_more_time_than_another() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "proxy": { "limits": { "headerTimeout": "300ms" } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let request = get("/db/mcp", DEV, "");
    for begun in [1, 10, request.len() - 1] {
        let mut client = gate.client().await;
        client.send(format!("{request}{}", &request[..begun])).await;
        assert_eq!(client.response().await.0, 200);
        assert_eq!(client.rest().await, b"", "{begun}");
    }
    gate.log.line("Rejected connection", &[("reason", json!("head_timeout"))]).await;
}

/// What a client sends while a stream runs is put back behind it; what of that was not read again is put back once more.
#[tokio::test]
async fn nothing_is_lost_behind_streams_that_follow_each_other() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    let lines = |name: char| (0..10_000).map(|n| format!("{name}{n:05}\n")).collect::<String>();
    let bodies: Vec<_> = ["a", "b", "c", "d"].map(|name| lines(name.chars().next().unwrap())).into();
    let small = "{}".to_owned();
    let sent = [&bodies[0], &small, &bodies[1], &small, &small, &bodies[2], &bodies[3]];
    let all: String = sent.iter().map(|body| post("/db/mcp", DEV, "", body)).collect();
    let (reader, mut writer) = gate.client().await.stream.into_split();
    let mut client = Client::new(tokio::io::join(reader, tokio::io::sink()));
    let sending = tokio::spawn(async move {
        writer.write_all(all.as_bytes()).await.expect("sent");
        writer
    });
    let mut behind = server.accept().await;
    for body in sent {
        let head = behind.head().await;
        assert!(head.starts_with("POST "), "{head}");
        let came = behind.exactly(body.len()).await;
        assert!(came == body.as_bytes(), "a body is not what was sent");
        behind.send(format!("{SSE}{}", chunk("data: 1\n\n"))).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(client.chunk().await.as_deref(), Some(b"data: 1\n\n".as_slice()));
        behind.send("0\r\n\r\n").await;
        assert_eq!(client.chunk().await, None);
    }
    drop(soon("the end of sending", sending).await.unwrap());
}
