use std::time::Duration;

use serde_json::{Value, json};

use crate::config::McpTransport::Sse;
use crate::link::{
    remote::sse::*,
    scripted::{
        ACCEPTED, EVENTS, LAST_CHUNK, Peer, Request, Upstream, chunk, demo, http_server, initialize,
        initialized, json_with, request, result, soon, status, welcome,
    },
};

/// How a stream begins whose messages are posted to `/m?s=<session>`.
fn begins(session: &str) -> String {
    format!("{EVENTS}{}", chunk(&format!("event: endpoint\ndata: /m?s={session}\n\n")))
}

/// A link with its stream open, from the server's side too; request 1 was posted and taken.
async fn began(upstream: &Upstream) -> (Link, Peer, Peer) {
    let mut link = open(upstream.http_server(Sse));
    link.say(initialize(0)).await;
    let (mut stream, asked) = upstream.request().await;
    assert_eq!(asked.line(), "GET /mcp?key=1");
    assert_eq!((asked.field("accept"), asked.field("x-team")), (Some("text/event-stream"), Some("blue")));
    stream.send(begins("1")).await;
    let (mut posts, posted) = upstream.request().await;
    assert_eq!(
        (posted.line(), posted.method(), posted.field("x-team")),
        ("POST /m?s=1", "initialize", Some("blue"))
    );
    posts.send(ACCEPTED).await;
    stream.message(welcome(&json!(0))).await;
    assert_eq!(link.message().await, (welcome(&json!(0)), None));
    (link, stream, posts)
}

async fn next(peer: &mut Peer) -> Request {
    soon("a request", peer.next()).await.expect("the connection closed")
}

/// The next request, on one of these connections, which is the last then, or on another.
async fn next_on(upstream: &Upstream, peers: &mut Vec<Peer>) -> Request {
    const MOMENT: Duration = Duration::from_millis(1);
    soon("a request", async {
        loop {
            for at in 0..peers.len() {
                if let Ok(Some(request)) = tokio::time::timeout(MOMENT, peers[at].next()).await {
                    let peer = peers.remove(at);
                    peers.push(peer);
                    return request;
                }
            }
            if let Ok(peer) = tokio::time::timeout(MOMENT, upstream.accept()).await {
                peers.push(peer);
            }
        }
    })
    .await
}

/// Takes the message that was posted last.
async fn taken(peers: &mut [Peer]) {
    peers.last_mut().unwrap().send(ACCEPTED).await;
}

#[tokio::test(flavor = "local")]
async fn a_session_calls_and_hears_of_progress_from_whichever_thread_it_is_used() {
    let mut link = open(http_server(&format!("http://{}/sse", demo().await), Sse));
    let user = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            link.say(initialize(0)).await;
            assert_eq!(link.message().await.0["result"]["protocolVersion"], "2025-11-25");
            link.say(initialized()).await;
            let call = json!({ "name": "countdown", "arguments": { "n": 2, "interval_ms": 0 }, "_meta": { "progressToken": 9 } });
            link.say(request(1, "tools/call", call)).await;
            let mut heard = Vec::new();
            while heard.len() < 3 {
                heard.push(link.message().await.0);
            }
            heard
        })
    });
    let heard = soon("the calls", async {
        while !user.is_finished() {
            test_basics::waiting::pause().await;
        }
        user.join().unwrap()
    })
    .await;
    assert_eq!(
        [&heard[0], &heard[1]].map(|progress| progress["params"]["progress"].as_u64()),
        [Some(1), Some(2)]
    );
    assert_eq!(heard[2]["result"]["content"][0]["text"], "liftoff");
}

#[tokio::test(flavor = "local")]
async fn nothing_overtakes_the_beginning_of_a_session() {
    let upstream = Upstream::bind().await;
    let (link, _stream, mut posts) = began(&upstream).await;
    link.say(initialized()).await;
    link.say(request(1, "tools/list", json!({}))).await;
    assert_eq!(next(&mut posts).await.method(), "notifications/initialized");
    // Real time: that nothing comes has no event.
    let none = tokio::time::timeout(Duration::from_millis(50), upstream.request()).await;
    assert!(none.is_err(), "the request overtook the notification");
    posts.send(ACCEPTED).await;
    assert_eq!(next(&mut posts).await.method(), "tools/list");
}

#[tokio::test(flavor = "local")]
async fn an_answer_may_be_faster_than_that_of_its_post() {
    let upstream = Upstream::bind().await;
    let (mut link, mut stream, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/list", json!({}))).await;
    next(&mut posts).await;
    stream.message(result(&json!(1))).await;
    assert_eq!(link.message().await.0, result(&json!(1)));
    // Answered is answered, whatever the POST comes to, and a second answer is no one's.
    posts.send(status(500)).await;
    stream.message(result(&json!(1))).await;
    let asks = request(7, "ping", json!({}));
    stream.message(asks.clone()).await;
    assert_eq!(link.message().await, (asks, None));
}

#[tokio::test(flavor = "local")]
async fn a_refused_message_fails_alone() {
    let upstream = Upstream::bind().await;
    let (mut link, _stream, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/list", json!({}))).await;
    next(&mut posts).await;
    posts.send(status(403)).await;
    assert!(link.failure(1).await.to_string().contains("the server answered 403"));
    link.say(request(2, "tools/list", json!({}))).await;
    next(&mut posts).await;
    let refusal = json!({ "jsonrpc": "2.0", "id": 2, "error": { "code": -32602, "message": "no" } });
    posts.send(json_with(400, "", &refusal)).await;
    assert_eq!(link.message().await.0, refusal);
}

#[tokio::test(flavor = "local")]
async fn a_lost_stream_fails_what_waits_and_ends_the_conversation() {
    let upstream = Upstream::bind().await;
    let (mut link, mut stream, posts) = began(&upstream).await;
    let mut posts = vec![posts];
    for number in [1, 2] {
        link.say(request(number, "tools/call", json!({ "name": "pay" }))).await;
        next_on(&upstream, &mut posts).await;
        taken(&mut posts).await;
    }
    stream.message(result(&json!(1))).await;
    assert_eq!(link.message().await.0, result(&json!(1)));
    stream.send(LAST_CHUNK).await;
    assert_eq!(link.failure(2).await.kind, ErrorKind::UpstreamUnreachable);
    assert_eq!(link.end().await, "the event stream ended");
}

#[tokio::test(flavor = "local")]
async fn what_cannot_be_told_from_an_answer_is_that_to_the_only_call_and_the_conversation_goes_on() {
    let oversize = format!("data: {{\"result\":\"{}\"}}\n\n", "x".repeat(crate::mcp::message::MAX_MESSAGE));
    for (event, cause) in [("data: {]\n\n", "no message"), (&oversize, "larger than 4 MiB")] {
        let upstream = Upstream::bind().await;
        let (mut link, mut stream, mut posts) = began(&upstream).await;
        link.say(request(1, "tools/call", json!({ "name": "pay" }))).await;
        next(&mut posts).await;
        tokio::join!(stream.event(event), async {
            assert!(link.failure(1).await.to_string().contains(cause));
        });
        let asks = request(7, "ping", json!({}));
        stream.message(asks.clone()).await;
        assert_eq!(link.message().await, (asks, None));
    }
}

#[tokio::test(flavor = "local")]
async fn what_is_no_message_is_skipped_and_what_cannot_be_read_fails_its_own_call() {
    let upstream = Upstream::bind().await;
    let (mut link, mut stream, posts) = began(&upstream).await;
    let mut posts = vec![posts];
    for id in 1..=4 {
        link.say(request(id, "tools/call", json!({ "name": "pay" }))).await;
        next_on(&upstream, &mut posts).await;
        taken(&mut posts).await;
    }
    for noise in ["ping", r#"{"type":"heartbeat"}"#, "[]", r#"{"jsonrpc":"2.0","id":99,"result":{}}"#] {
        stream.event(&format!("data: {noise}\n\n")).await;
    }
    stream.event("data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"caf\\x\"}\n\n").await;
    assert!(link.failure(2).await.to_string().contains("no message"));
    let batch =
        [r#"{"id":"1","result":{"content":[]}}"#, r#"{"id":4,"result":tru}"#, r#"{"id":3.0,"result":{}}"#];
    stream.event(&format!("data: [{}]\n\n", batch.join(","))).await;
    assert_eq!(link.message().await.0["id"], 1);
    link.failure(4).await;
    assert_eq!(link.message().await.0["id"], 3);
}

#[tokio::test(flavor = "local")]
async fn messages_go_side_by_side_and_a_server_that_asks_meanwhile_is_answered() {
    let upstream = Upstream::bind().await;
    let (mut link, mut stream, mut notified) = began(&upstream).await;
    link.say(json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" })).await;
    next(&mut notified).await;
    // None of these is taken before the last is here.
    let mut peers = Vec::new();
    for id in 1..=2 {
        link.say(request(id, "tools/call", json!({ "name": "slow" }))).await;
        let (peer, asked) = upstream.request().await;
        assert_eq!(asked.body["id"], id);
        peers.push(peer);
    }
    let asks = request(7, "roots/list", json!({}));
    stream.message(asks.clone()).await;
    assert_eq!(link.message().await, (asks, None));
    link.say(result(&json!(7))).await;
    let (mut answering, answer) = upstream.request().await;
    assert_eq!((&answer.body["id"], answer.body.get("method")), (&json!(7), None));
    answering.send(ACCEPTED).await;
    link.say(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }))
        .await;
    let mut answering = vec![answering];
    assert_eq!(next_on(&upstream, &mut answering).await.method(), "notifications/cancelled");
    for mut peer in peers {
        peer.send(ACCEPTED).await;
    }
    notified.send(ACCEPTED).await;
    stream.message(result(&json!(2))).await;
    assert_eq!(link.message().await.0["id"], 2);
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_is_too_large_fails_its_request_and_the_conversation_goes_on() {
    let upstream = Upstream::bind().await;
    let (mut link, mut stream, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/call", json!({ "name": "big" }))).await;
    next(&mut posts).await;
    posts.send(ACCEPTED).await;
    let filler = "x".repeat(crate::mcp::message::MAX_MESSAGE);
    let notification =
        format!(r#"data: {{"method":"notifications/message","params":{{"data":"{filler}"}}}}"#);
    let answer = format!(r#"data: {{"result":{{"x":"{filler}"}},"id":1}}"#);
    let events = format!("{notification}\n\n{answer}\n\n");
    tokio::join!(stream.event(&events), async {
        assert!(link.failure(1).await.to_string().contains("larger than 4 MiB"));
    });
    let asks = request(7, "ping", json!({}));
    stream.message(asks.clone()).await;
    assert_eq!(link.message().await.0, asks);
}

#[tokio::test(flavor = "local")]
async fn a_request_that_nobody_waits_for_is_cancelled_and_its_answer_left_out() {
    let upstream = Upstream::bind().await;
    let (mut link, mut stream, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/call", json!({ "name": "slow" }))).await;
    next(&mut posts).await;
    posts.send(ACCEPTED).await;
    link.to_server.send(ToServer::Abandon(Id::number(7))).await.unwrap();
    link.to_server.send(ToServer::Abandon(Id::number(1))).await.unwrap();
    let told = next_on(&upstream, &mut vec![posts]).await;
    assert_eq!((told.method(), &told.body["params"]["requestId"]), ("notifications/cancelled", &json!(1)));
    stream.message(result(&json!(1))).await;
    let asks = request(7, "ping", json!({}));
    stream.message(asks.clone()).await;
    assert_eq!(link.message().await.0, asks);
}

#[tokio::test(flavor = "local")]
async fn a_dropped_link_closes_the_stream() {
    let upstream = Upstream::bind().await;
    let (link, mut stream, _posts) = began(&upstream).await;
    drop(link);
    soon("the stream is closed", stream.closed()).await;
}

/// The gateway asks for this session, on the connection that is free now and on one for posts.
async fn begins_again(upstream: &Upstream, free: Peer, session: &str) -> (Request, Peer, Peer) {
    let mut stream = free;
    assert_eq!(next(&mut stream).await.line(), "GET /mcp?key=1");
    stream.send(begins(session)).await;
    let (mut posts, began) = upstream.request().await;
    assert_eq!((began.line(), began.method()), (&*format!("POST /m?s={session}"), "initialize"));
    assert_eq!(began.body["params"], initialize(0)["params"]);
    posts.send(ACCEPTED).await;
    (began, stream, posts)
}

/// The gateway begins session 2.
async fn begun_again(upstream: &Upstream, free: Peer) -> (Peer, Peer) {
    let (began, mut stream, mut posts) = begins_again(upstream, free, "2").await;
    stream.message(welcome(&began.body["id"])).await;
    assert_eq!(next(&mut posts).await.method(), "notifications/initialized");
    posts.send(ACCEPTED).await;
    (stream, posts)
}

#[tokio::test(flavor = "local")]
async fn a_forgotten_session_is_begun_again_and_the_message_runs_once() {
    let upstream = Upstream::bind().await;
    let (mut link, mut old, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/call", json!({ "name": "slow" }))).await;
    next(&mut posts).await;
    posts.send("HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    link.say(request(2, "tools/call", json!({ "name": "pay" }))).await;
    let (mut posts, posted) = upstream.request().await;
    assert_eq!(posted.line(), "POST /m?s=1");
    posts.send(status(404)).await;
    // The other call was forgotten with its session.
    assert!(link.failure(1).await.to_string().contains("forgot the session"));
    soon("the old stream is closed", old.closed()).await;

    let (mut stream, mut posts) = begun_again(&upstream, posts).await;
    let repeated = next(&mut posts).await;
    assert_eq!((&repeated.body["id"], &repeated.body["params"]["name"]), (&json!(2), &json!("pay")));
    posts.send(ACCEPTED).await;
    stream.message(result(&json!(2))).await;
    // The client sees its answer, and nothing of how the session was begun.
    assert_eq!(link.message().await, (result(&json!(2)), None));
}

#[tokio::test(flavor = "local")]
async fn no_id_of_the_clients_is_taken_for_that_of_the_gates_own_request() {
    let upstream = Upstream::bind().await;
    let (mut link, _old, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/call", json!({ "name": "pay" }))).await;
    next(&mut posts).await;
    posts.send(status(404)).await;
    let (began, mut stream, posts) = begins_again(&upstream, posts, "2").await;
    let first = began.body["id"].clone();
    stream.message(welcome(&first)).await;
    let mut posts = vec![posts];
    for _ in 0..2 {
        next_on(&upstream, &mut posts).await;
        taken(&mut posts).await;
    }
    // A call with that id is under way when a session is lost again.
    let mut call = request(1, "tools/call", json!({ "name": "slow" }));
    call["id"] = first.clone();
    link.say(call).await;
    assert_eq!(next_on(&upstream, &mut posts).await.body["id"], first);
    taken(&mut posts).await;
    link.say(request(2, "tools/call", json!({ "name": "pay" }))).await;
    next_on(&upstream, &mut posts).await;
    posts.last_mut().unwrap().send(status(404)).await;
    let mut failed: Vec<Value> = Vec::new();
    for _ in 0..2 {
        match link.hear().await {
            FromServer::Failed { id, .. } => failed.push(serde_json::from_str(&id.to_string()).unwrap()),
            other => panic!("no failure: {other:?}"),
        }
    }
    assert!(failed.contains(&json!(1)) && failed.contains(&first), "{failed:?}");
    assert!(next_on(&upstream, &mut posts).await.line().starts_with("GET "));
    posts.last_mut().unwrap().send(begins("3")).await;
    let began = next_on(&upstream, &mut posts).await;
    assert_eq!(began.method(), "initialize");
    assert_ne!(began.body["id"], first);
}

#[tokio::test(flavor = "local")]
async fn a_session_that_is_forgotten_at_once_is_not_begun_a_third_time() {
    let upstream = Upstream::bind().await;
    let (mut link, _old, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/call", json!({ "name": "pay" }))).await;
    next(&mut posts).await;
    posts.send(status(404)).await;
    let (mut stream, mut posts) = begun_again(&upstream, posts).await;
    assert_eq!(next(&mut posts).await.body["id"], 1);
    posts.send(status(404)).await;
    assert!(link.failure(1).await.to_string().contains("the server answered 404"));
    // The conversation goes on in the session that there is.
    link.say(request(2, "tools/list", json!({}))).await;
    assert_eq!(next(&mut posts).await.line(), "POST /m?s=2");
    posts.send(ACCEPTED).await;
    stream.message(result(&json!(2))).await;
    assert_eq!(link.message().await.0, result(&json!(2)));
}

#[tokio::test(flavor = "local")]
async fn a_session_that_cannot_be_begun_again_is_over() {
    let upstream = Upstream::bind().await;
    let (mut link, _old, mut posts) = began(&upstream).await;
    link.say(request(1, "tools/call", json!({ "name": "pay" }))).await;
    next(&mut posts).await;
    posts.send(status(404)).await;
    assert_eq!(next(&mut posts).await.line(), "GET /mcp?key=1");
    posts.send(status(503)).await;
    assert!(link.failure(1).await.to_string().contains("the server answered 503"));
    assert!(link.end().await.contains("the server answered 503"));
}

#[tokio::test(flavor = "local")]
async fn a_server_that_is_not_there_or_no_such_server_ends_the_conversation() {
    let elsewhere = format!("{EVENTS}{}", chunk("event: endpoint\ndata: http://127.0.0.2:1/m\n\n"));
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi".to_owned();
    for (answer, kind, cause) in [
        (None, ErrorKind::UpstreamUnreachable, "refused"),
        (Some(status(404)), ErrorKind::UpstreamUnreachable, "the server answered 404"),
        (Some(page), ErrorKind::UpstreamUnreachable, "no event stream"),
        (Some(elsewhere), ErrorKind::UpstreamUnreachable, "another origin"),
        (Some(format!("{EVENTS}{LAST_CHUNK}")), ErrorKind::UpstreamUnreachable, "before the endpoint event"),
        (Some(EVENTS.into()), ErrorKind::UpstreamTimeout, "no endpoint event in time"),
    ] {
        let upstream = Upstream::bind().await;
        let mut http_server = upstream.http_server(Sse);
        http_server.client.head_timeout =
            Duration::from_millis(if kind == ErrorKind::UpstreamTimeout { 50 } else { 10_000 });
        let mut link = open(http_server);
        match answer {
            Some(answer) => drop(upstream.answer_with(move |_| Some(answer.clone()))),
            None => drop(upstream),
        }
        link.say(initialize(1)).await;
        let error = link.failure(1).await;
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(cause), "{error}");
        let ended = link.end().await;
        assert!(ended.contains(cause) && !ended.contains("key=1"), "{ended}");
    }
}
