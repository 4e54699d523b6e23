use std::{cell::RefCell, time::Duration};

use serde_json::{Value, json};

use crate::link::{
    remote::streamable::*,
    scripted::{
        ACCEPTED, EVENTS, LAST_CHUNK, Peer, Request, Upstream, chunk, demo, http_server, initialize,
        initialized, json_with, message, request, result, soon, status, welcome,
    },
};
use crate::{config::McpTransport::StreamableHttp, mcp::message::MAX_MESSAGE};

/// A message of MCP 2026-07-28.
fn modern(id: u64, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request(id, method, params)
}

fn id(id: u64) -> Option<Id> {
    Some(Id::number(id))
}

/// A server with sessions named `s1`, `s2` and so on, which forgets those that are not the newest.
fn sessions(
    mut call: impl FnMut(&Request) -> Option<String> + 'static,
) -> impl FnMut(&Request) -> Option<String> {
    let mut newest = 0;
    move |request: &Request| {
        let named = format!("s{newest}");
        match (request.line().split(' ').next().unwrap(), request.method()) {
            ("POST", "initialize") => {
                newest += 1;
                let fields = format!("Mcp-Session-Id: s{newest}\r\n");
                Some(json_with(200, &fields, &welcome(&request.body["id"])))
            }
            _ if request.field("mcp-session-id") != Some(&named) => Some(status(404)),
            ("GET", _) => Some(status(405)),
            ("POST", "test/forget") => {
                newest += 1;
                Some(json_with(200, "", &result(&request.body["id"])))
            }
            ("POST", method) if method.starts_with("notifications/") => Some(ACCEPTED.into()),
            ("POST", _) => call(request),
            _ => Some(status(200)),
        }
    }
}

/// A session with a server that has been initialized; the server's answers come from `call`.
async fn session(
    call: impl FnMut(&Request) -> Option<String> + 'static,
) -> (Link, Rc<RefCell<Vec<Request>>>) {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    let seen = upstream.answer_with(sessions(call));
    begin(&mut link).await;
    (link, seen)
}

async fn begin(link: &mut Link) {
    link.say(initialize(0)).await;
    assert_eq!(link.message().await, (welcome(&json!(0)), id(0)));
    link.say(initialized()).await;
}

/// Waits for a request that begins so.
async fn has_come(seen: &Rc<RefCell<Vec<Request>>>, line: &str) {
    soon(line, async {
        while !seen.borrow().iter().any(|request| request.line() == line) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Methods of the requests that came, by their session.
fn methods(seen: &Rc<RefCell<Vec<Request>>>) -> Vec<(String, String)> {
    let posts = seen.borrow();
    let posts = posts.iter().filter(|request| request.line().starts_with("POST"));
    posts
        .map(|post| (post.field("mcp-session-id").unwrap_or("-").to_owned(), post.method().to_owned()))
        .collect()
}

#[tokio::test(flavor = "local")]
async fn a_session_lists_calls_and_hears_of_progress() {
    let mut link = open(http_server(&format!("http://{}/mcp", demo().await), StreamableHttp));
    link.say(initialize(0)).await;
    let (answer, about) = link.message().await;
    assert_eq!((&answer["result"]["protocolVersion"], about), (&json!("2025-11-25"), id(0)));
    link.say(initialized()).await;
    link.say(request(1, "tools/list", json!({}))).await;
    let (answer, about) = link.message().await;
    assert_eq!((&answer["result"]["tools"][0]["name"], about), (&json!("echo"), id(1)));

    let call = json!({ "name": "countdown", "arguments": { "n": 2, "interval_ms": 0 }, "_meta": { "progressToken": 9 } });
    link.say(request(2, "tools/call", call)).await;
    for expected in [1, 2] {
        let (progress, about) = link.message().await;
        assert_eq!((&progress["params"]["progress"], about), (&json!(expected), id(2)));
    }
    let (answer, about) = link.message().await;
    assert_eq!((&answer["result"]["content"][0]["text"], about), (&json!("liftoff"), id(2)));
}

#[tokio::test(flavor = "local")]
async fn requests_without_a_session_say_in_headers_what_they_are() {
    let mut link = open(http_server(&format!("http://{}/mcp", demo().await), StreamableHttp));
    link.say(modern(1, "server/discover", json!({}))).await;
    assert_eq!(link.message().await.0["result"]["resultType"], "complete");
    link.say(modern(2, "tools/call", json!({ "name": "echo", "arguments": { "text": "hi" } }))).await;
    assert_eq!(link.message().await.0["result"]["content"][0]["text"], "hi");
    // The demo compares the header with the body, and would tell a difference from an unknown tool.
    link.say(modern(3, "tools/call", json!({ "name": "köln " }))).await;
    assert_eq!(link.message().await.0["error"]["message"], "unknown tool");
    // A refusal with a body that answers is an answer: -32601 comes with status 404.
    link.say(modern(4, "no/such", json!({}))).await;
    let (answer, about) = link.message().await;
    assert_eq!((&answer["error"]["code"], about), (&json!(-32601), id(4)));
}

#[tokio::test(flavor = "local")]
async fn fields_that_came_with_a_request_go_on_with_it() {
    let upstream = Upstream::bind().await;
    let link = open(upstream.http_server(StreamableHttp));
    let params =
        vec![(http::HeaderName::from_static("mcp-param-region"), http::HeaderValue::from_static("eu"))];
    let called = message(modern(1, "tools/call", json!({ "name": "a" })));
    let outbound = Outbound { params, ..called.into() };
    link.to_server.send(ToServer::Message(outbound)).await.unwrap();
    let (_peer, request) = upstream.request().await;
    assert_eq!(request.line(), "POST /mcp?key=1");
    for (name, value) in [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "a"),
        ("mcp-param-region", "eu"),
        ("x-team", "blue"),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }
    assert_eq!(request.field("mcp-session-id"), None);
}

#[tokio::test(flavor = "local")]
async fn a_session_is_named_in_all_that_follows_and_deleted_when_the_link_goes() {
    let (mut link, seen) = session(|request| Some(json_with(200, "", &result(&request.body["id"])))).await;
    link.say(request(1, "tools/list", json!({}))).await;
    link.message().await;
    has_come(&seen, "GET /mcp?key=1").await;
    drop(link);
    has_come(&seen, "DELETE /mcp?key=1").await;
    let seen = seen.borrow();
    assert_eq!(seen[0].field("mcp-session-id"), None);
    assert_eq!(seen[0].field("mcp-protocol-version"), None);
    for request in &seen[1..] {
        assert_eq!(request.field("mcp-session-id"), Some("s1"), "{request:?}");
        // As the server chose, not as the client asked.
        assert_eq!(request.field("mcp-protocol-version"), Some("2025-06-18"), "{request:?}");
        assert_eq!(request.field("x-team"), Some("blue"), "{request:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_belongs_to_no_request_comes_on_a_stream_that_is_taken_up_where_it_ended() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    link.say(initialize(0)).await;
    let (mut peer, asked) = upstream.request().await;
    peer.send(json_with(200, "Mcp-Session-Id: s\r\n", &welcome(&asked.body["id"]))).await;
    link.message().await;
    link.say(initialized()).await;
    let notified = soon("the notification", peer.next()).await.unwrap();
    assert_eq!(notified.method(), "notifications/initialized");
    peer.send(ACCEPTED).await;
    let listens = soon("the stream is asked for", peer.next()).await.unwrap();
    assert_eq!((listens.line(), listens.field("last-event-id")), ("GET /mcp?key=1", None));
    assert_eq!(listens.field("accept"), Some("text/event-stream"));
    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    peer.send(EVENTS).await;
    peer.event(&format!("retry: 0\nid: e1\ndata: {changed}\n\n")).await;
    assert_eq!(link.message().await, (changed.clone(), None));
    drop(peer);

    let (mut peer, again) = upstream.request().await;
    assert_eq!((again.line(), again.field("last-event-id")), ("GET /mcp?key=1", Some("e1")));
    peer.send(EVENTS).await;
    // Nobody asked for a response here, and what is no message is no reason to stop listening.
    peer.message(result(&json!(0))).await;
    peer.event("data: nonsense\n\n").await;
    peer.message(changed.clone()).await;
    assert_eq!(link.message().await, (changed, None));
}

#[tokio::test(flavor = "local")]
async fn a_server_may_ask_the_client_while_a_call_runs() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    link.say(request(1, "tools/call", json!({ "name": "draw" }))).await;
    let (mut calling, _) = upstream.request().await;
    calling.send(EVENTS).await;
    let asks = request(1, "sampling/createMessage", json!({}));
    calling.message(asks.clone()).await;
    assert_eq!(link.message().await, (asks, id(1)));
    let answer = result(&json!(1));
    link.say(answer.clone()).await;
    let (mut answering, answered) = upstream.request().await;
    assert_eq!(answered.body, answer);
    answering.send(ACCEPTED).await;
    calling.message(result(&json!(1))).await;
    assert_eq!(link.message().await, (result(&json!(1)), id(1)));
}

#[tokio::test(flavor = "local")]
async fn nothing_overtakes_the_beginning_of_a_session() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    link.say(initialize(0)).await;
    let (mut peer, first) = upstream.request().await;
    assert_eq!(first.method(), "initialize");
    link.say(initialized()).await;
    link.say(request(1, "tools/list", json!({}))).await;
    // Real time: that nothing comes has no event.
    let none = tokio::time::timeout(Duration::from_millis(50), upstream.request()).await;
    assert!(none.is_err(), "something overtook initialize");
    peer.send(json_with(200, "", &welcome(&json!(0)))).await;
    assert_eq!(link.message().await.0, welcome(&json!(0)));
    assert_eq!(soon("the notification", peer.next()).await.unwrap().method(), "notifications/initialized");
    // Real time: that nothing comes has no event.
    let none = tokio::time::timeout(Duration::from_millis(50), upstream.request()).await;
    assert!(none.is_err(), "the request overtook the notification");
    peer.send(ACCEPTED).await;
    let mut methods = Vec::new();
    tokio::select! {
        request = peer.next() => methods.push(request.unwrap().method().to_owned()),
        (_peer, request) = upstream.request() => methods.push(request.method().to_owned()),
    }
    // The stream of the session is asked for, too.
    assert!(methods == ["tools/list"] || methods == [""], "{methods:?}");
}

#[tokio::test(flavor = "local")]
async fn a_server_that_asks_while_it_handles_a_notification_is_answered() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    link.say(request(1, "tools/call", json!({ "name": "slow" }))).await;
    let (mut calling, _) = upstream.request().await;
    calling.send(EVENTS).await;
    link.say(json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" })).await;
    let (mut notified, _) = upstream.request().await;
    let asks = request(7, "roots/list", json!({}));
    calling.message(asks.clone()).await;
    assert_eq!(link.message().await, (asks, id(1)));
    link.say(result(&json!(7))).await;
    let (mut answering, answer) = upstream.request().await;
    assert_eq!((&answer.body["id"], answer.body.get("method")), (&json!(7), None));
    answering.send(ACCEPTED).await;
    notified.send(ACCEPTED).await;
    calling.message(result(&json!(1))).await;
    assert_eq!(link.message().await, (result(&json!(1)), id(1)));
}

#[tokio::test(flavor = "local")]
async fn a_session_that_is_unknown_is_begun_again_however_the_server_says_so() {
    let of_nobody = |id: Value, code: i64| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": "no" } });
    let text = |text: &str| {
        format!("HTTP/1.1 400 X\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}", text.len())
    };
    for (refusal, is_forgotten) in [
        (json_with(400, "", &of_nobody(json!(null), -32000)), true),
        (json_with(400, "", &of_nobody(json!("server-error"), -32600)), true),
        (text("Bad Request: No valid session ID provided"), true),
        (json_with(404, "", &of_nobody(json!(null), -32001)), true),
        (json_with(400, "", &of_nobody(json!(null), -32700)), false),
        (json_with(400, "", &of_nobody(json!(1), -32602)), false),
        (text("Bad Request"), false),
    ] {
        let mut refusal = Some(refusal);
        let (mut link, seen) = session(move |request| {
            Some(refusal.take().unwrap_or_else(|| json_with(200, "", &result(&request.body["id"]))))
        })
        .await;
        link.say(request(1, "tools/call", json!({ "name": "pay" }))).await;
        let began = |seen: &RefCell<Vec<Request>>| {
            seen.borrow().iter().filter(|request| request.method() == "initialize").count()
        };
        match is_forgotten {
            true => assert_eq!(link.message().await, (result(&json!(1)), id(1))),
            false => {
                assert!(matches!(link.hear().await, FromServer::Failed { .. } | FromServer::Message { .. }))
            }
        }
        assert_eq!(began(&seen), if is_forgotten { 2 } else { 1 });
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_that_nobody_waits_for_is_dropped_or_cancelled_as_its_era_wants() {
    let upstream = Upstream::bind().await;
    let link = open(upstream.http_server(StreamableHttp));
    link.say(modern(1, "tools/call", json!({ "name": "a" }))).await;
    let (mut peer, _) = upstream.request().await;
    link.to_server.send(ToServer::Abandon(Id::number(1))).await.unwrap();
    soon("the connection is closed", peer.closed()).await;

    link.say(request(2, "tools/call", json!({ "name": "a" }))).await;
    let (_calling, _) = upstream.request().await;
    // Unknown, or answered long ago: nothing to tell.
    link.to_server.send(ToServer::Abandon(Id::number(7))).await.unwrap();
    link.to_server.send(ToServer::Abandon(Id::number(2))).await.unwrap();
    let (_telling, told) = upstream.request().await;
    assert_eq!((told.method(), &told.body["params"]["requestId"]), ("notifications/cancelled", &json!(2)));
}

#[tokio::test(flavor = "local")]
async fn a_forgotten_session_is_begun_again_and_the_message_runs_once() {
    let ran = Rc::new(Cell::new(0));
    let counted = Rc::clone(&ran);
    let (mut link, seen) = session(move |request| {
        counted.set(counted.get() + 1);
        Some(json_with(200, "", &result(&request.body["id"])))
    })
    .await;
    link.say(request(1, "test/forget", json!({}))).await;
    link.message().await;
    // Both meet the loss, one sees to it.
    link.say(request(2, "tools/call", json!({ "name": "pay" }))).await;
    link.say(request(3, "tools/call", json!({ "name": "pay" }))).await;
    let mut answered = [link.message().await, link.message().await].map(|(answer, _)| answer["id"].as_u64());
    answered.sort_unstable();
    assert_eq!((answered, ran.get()), ([Some(2), Some(3)], 2));
    let methods = methods(&seen);
    let began = methods.iter().filter(|(_, method)| method == "initialize").count();
    let finished = methods.iter().filter(|(_, method)| method == "notifications/initialized").count();
    assert_eq!((began, finished), (2, 2), "{methods:?}");
    let seen = seen.borrow();
    let again = seen.iter().rfind(|request| request.method() == "initialize").unwrap();
    assert_eq!(again.body["params"], initialize(0)["params"]);
    assert_eq!((again.field("mcp-session-id"), again.field("x-team")), (None, Some("blue")));
}

#[tokio::test(flavor = "local")]
async fn a_session_that_is_forgotten_at_once_is_not_begun_a_third_time() {
    let (mut link, seen) = session(|_| Some(status(404))).await;
    link.say(request(1, "tools/call", json!({ "name": "pay" }))).await;
    let error = link.failure(1).await;
    // The client has to begin anew, and so it is told.
    assert_eq!(
        (error.kind, error.cause.unwrap()),
        (ErrorKind::SessionNotFound, "the server forgot the session twice".into())
    );
    assert!(link.end().await.contains("twice"));
    assert_eq!(methods(&seen).iter().filter(|(_, method)| method == "initialize").count(), 2);
}

#[tokio::test(flavor = "local")]
async fn a_server_that_forgets_and_then_hangs_fails_one_call_and_not_those_after_it() {
    let upstream = Upstream::bind().await;
    let mut impatient = upstream.http_server(StreamableHttp);
    impatient.client.head_timeout = Duration::from_millis(100);
    let mut link = open(impatient);
    let mut serve = sessions(|request| Some(json_with(200, "", &result(&request.body["id"]))));
    let mut began = 0;
    upstream.answer_with(move |request| {
        began += usize::from(request.method() == "initialize");
        let hangs = began == 2 && request.method() == "initialize";
        if hangs { Some(EVENTS.into()) } else { serve(request) }
    });
    begin(&mut link).await;
    link.say(request(1, "test/forget", json!({}))).await;
    link.message().await;
    link.say(request(2, "tools/call", json!({ "name": "pay" }))).await;
    assert_eq!(link.failure(2).await.kind, ErrorKind::UpstreamTimeout);
    link.say(request(3, "tools/call", json!({ "name": "pay" }))).await;
    assert_eq!(link.message().await, (result(&json!(3)), id(3)));
}

#[tokio::test(flavor = "local")]
async fn a_404_that_answers_its_request_is_an_answer() {
    let unknown =
        |id: &Value| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "?" } });
    let (mut link, seen) =
        session(move |request| Some(json_with(404, "", &unknown(&request.body["id"])))).await;
    link.say(request(1, "no/such", json!({}))).await;
    assert_eq!(link.message().await.0, unknown(&json!(1)));
    assert_eq!(methods(&seen).iter().filter(|(_, method)| method == "initialize").count(), 1);
}

/// A call whose POST got the beginning of a stream that can be taken up again.
async fn polled() -> (Upstream, Link) {
    let upstream = Upstream::bind().await;
    let link = open(upstream.http_server(StreamableHttp));
    link.say(request(1, "tools/call", json!({ "name": "slow" }))).await;
    let (mut peer, _) = upstream.request().await;
    peer.send(EVENTS).await;
    peer.event("id: e1\nretry: 0\ndata:\n\n").await;
    peer.send(LAST_CHUNK).await;
    (upstream, link)
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_a_server_has_fetched_later_is_fetched() {
    let (upstream, mut link) = polled().await;
    let (mut peer, first) = listens(&upstream).await;
    assert_eq!(first.field("last-event-id"), Some("e1"));
    peer.send(status(503)).await;
    let second = soon("another try", peer.next()).await.unwrap();
    assert_eq!(second.field("last-event-id"), Some("e1"));
    peer.send(EVENTS).await;
    let progress =
        json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 1 } });
    peer.event(&format!("id: e2\ndata: {progress}\n\n")).await;
    assert_eq!(link.message().await, (progress, id(1)));
    drop(peer);
    let (mut peer, third) = listens(&upstream).await;
    assert_eq!((third.line(), third.field("last-event-id")), ("GET /mcp?key=1", Some("e2")));
    peer.send(EVENTS).await;
    peer.message(result(&json!(1))).await;
    assert_eq!(link.message().await, (result(&json!(1)), id(1)));
}

/// The next request, on a new connection.
async fn listens(upstream: &Upstream) -> (Peer, Request) {
    let (peer, request) = upstream.request().await;
    assert_eq!(request.line(), "GET /mcp?key=1");
    (peer, request)
}

#[tokio::test(flavor = "local")]
async fn a_call_whose_answer_is_lost_has_failed_and_is_not_repeated() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    let progress =
        json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 1 } });
    let seen = upstream.answer_with({
        let progress = progress.clone();
        move |request| {
            Some(match request.body["params"]["name"].as_str().unwrap() {
                "ends" => format!("{EVENTS}{}{LAST_CHUNK}", chunk(&format!("data: {progress}\n\n"))),
                "garbage" => format!("{EVENTS}{}", chunk("data: {]\n\n")),
                "json" => json_with(200, "", &json!({ "some": "thing" })),
                "other" => json_with(200, "", &result(&json!(99))),
                "page" => "HTTP/1.1 200 X\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi".into(),
                "zipped" => json_with(200, "Content-Encoding: gzip\r\n", &json!({})),
                "nothing" => ACCEPTED.into(),
                "no http" => "SSH-2.0-OpenSSH\r\n\r\n".into(),
                "refused" => status(403),
                "unauthorized" => json_with(401, "", &result(&request.body["id"])),
                "proxy" => status(407),
                "elsewhere" => {
                    "HTTP/1.1 307 X\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n".into()
                }
                name => panic!("{name}"),
            })
        }
    });
    for (at, (name, kind, cause)) in [
        ("ends", ErrorKind::UpstreamUnreachable, "the event stream ended before the answer"),
        ("garbage", ErrorKind::UpstreamUnreachable, "no message"),
        ("json", ErrorKind::UpstreamUnreachable, "no message"),
        ("other", ErrorKind::UpstreamUnreachable, "no answer to its request"),
        ("page", ErrorKind::UpstreamUnreachable, "neither JSON nor an event stream"),
        ("zipped", ErrorKind::UpstreamUnreachable, "compressed"),
        ("nothing", ErrorKind::UpstreamUnreachable, "neither JSON nor an event stream"),
        ("no http", ErrorKind::UpstreamUnreachable, "HTTP/1.1"),
        ("refused", ErrorKind::UpstreamUnreachable, "the server answered 403"),
        ("unauthorized", ErrorKind::UpstreamUnauthorized, "the server answered 401"),
        ("proxy", ErrorKind::UpstreamUnauthorized, "the server answered 407"),
        ("elsewhere", ErrorKind::UpstreamRedirect, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let number = at as u64;
        link.say(request(number, "tools/call", json!({ "name": name }))).await;
        if name == "ends" {
            assert_eq!(link.message().await, (progress.clone(), id(number)));
        }
        let error = link.failure(number).await;
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(error.to_string().contains(cause), "{name}: {error}");
        assert_eq!(seen.borrow().len(), at + 1, "{name} came more than once");
    }
}

#[tokio::test(flavor = "local")]
async fn a_message_of_more_than_4_mib_fails_its_request_alone() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    upstream.answer_with(|request| {
        let filler = "x".repeat(MAX_MESSAGE);
        let mut body = result(&request.body["id"]);
        Some(match request.body["params"]["name"].as_str().unwrap() {
            "event" => format!("{EVENTS}{}", chunk(&format!("data: {filler}\n\n"))),
            "body" => {
                body["filler"] = filler.into();
                json_with(200, "", &body)
            }
            _ => {
                body["filler"] = filler[..MAX_MESSAGE - 200].into();
                format!("{EVENTS}{}{LAST_CHUNK}", chunk(&format!("data: {body}\n\n")))
            }
        })
    });
    for (number, name) in [(1, "event"), (2, "body")] {
        link.say(request(number, "tools/call", json!({ "name": name }))).await;
        let error = link.failure(number).await;
        assert!(error.to_string().contains("larger than 4 MiB"), "{error}");
    }
    link.say(request(3, "tools/call", json!({ "name": "fits" }))).await;
    assert_eq!(link.message().await.0["id"], 3);
}

#[tokio::test(flavor = "local")]
async fn a_server_that_is_not_there_fails_requests_and_ends_a_session_before_it_begins() {
    let upstream = Upstream::bind().await;
    let url = upstream.url.clone();
    drop(upstream);
    let mut link = open(http_server(&url, StreamableHttp));
    link.say(modern(1, "tools/list", json!({}))).await;
    assert_eq!(link.failure(1).await.kind, ErrorKind::UpstreamUnreachable);
    link.say(initialize(2)).await;
    assert_eq!(link.failure(2).await.kind, ErrorKind::UpstreamUnreachable);
    let cause = link.end().await;
    assert!(cause.contains("refused") && !cause.contains("key=1"), "{cause}");
}

#[tokio::test(flavor = "local")]
async fn an_error_is_an_answer_to_initialize_and_the_client_may_try_again() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    let refusal = json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32602, "message": "version" } });
    let refused = refusal.clone();
    let seen = upstream.answer_with(move |request| {
        let is_first = request.body["id"] == 1;
        // A session id on a refusal is no session.
        Some(if is_first {
            json_with(400, "Mcp-Session-Id: s\r\n", &refused)
        } else {
            json_with(200, "", &welcome(&request.body["id"]))
        })
    });
    link.say(initialize(1)).await;
    assert_eq!(link.message().await, (refusal, id(1)));
    link.say(initialize(2)).await;
    assert_eq!(link.message().await, (welcome(&json!(2)), id(2)));
    link.say(request(3, "ping", json!({}))).await;
    assert_eq!(link.message().await.1, id(3));
    assert!(seen.borrow().iter().all(|request| request.field("mcp-session-id").is_none()));
}

#[tokio::test(flavor = "local")]
async fn a_server_that_does_not_answer_in_time_is_told_that_nobody_waits() {
    let upstream = Upstream::bind().await;
    let mut impatient = upstream.http_server(StreamableHttp);
    impatient.client.head_timeout = Duration::from_millis(50);
    let mut link = open(impatient);
    link.say(request(1, "tools/call", json!({ "name": "slow" }))).await;
    let (mut peer, _) = upstream.request().await;
    assert_eq!(link.failure(1).await.kind, ErrorKind::UpstreamTimeout);
    soon("the connection is closed", peer.closed()).await;
    let (_telling, told) = upstream.request().await;
    assert_eq!((told.method(), &told.body["params"]["requestId"]), ("notifications/cancelled", &json!(1)));

    // A body that stalls behind its head is no answer either.
    link.say(modern(2, "tools/call", json!({ "name": "slow" }))).await;
    let (mut peer, stalled) = upstream.request().await;
    assert_eq!(stalled.body["id"], 2);
    peer.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{").await;
    assert_eq!(link.failure(2).await.kind, ErrorKind::UpstreamTimeout);
}

#[tokio::test(flavor = "local")]
async fn a_client_that_takes_nothing_stops_the_server_and_then_gets_everything() {
    const EVENTS_SENT: usize = 1000;
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    link.say(request(1, "tools/call", json!({ "name": "flood" }))).await;
    let (mut peer, _) = upstream.request().await;
    let filler = "x".repeat(64 * 1024);
    let mut flood = Box::pin(async {
        peer.send(EVENTS).await;
        for number in 0..EVENTS_SENT {
            peer.message(
                json!({ "method": "notifications/message", "params": { "data": number, "filler": filler } }),
            )
            .await;
        }
        peer.message(result(&json!(1))).await;
    });
    // Real time: that a write waits has no event.
    let stopped = tokio::time::timeout(Duration::from_millis(300), &mut flood).await;
    assert!(stopped.is_err(), "64 MiB went somewhere");
    let taken = async {
        for number in 0..EVENTS_SENT {
            assert_eq!(link.message().await.0["params"]["data"], number);
        }
        assert_eq!(link.message().await.0, result(&json!(1)));
    };
    soon("the flood", async { tokio::join!(flood, taken) }).await;
}

#[tokio::test(flavor = "local")]
async fn requests_beyond_the_bound_are_refused_and_the_others_wait_on() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    for number in 0..=MOST_IN_FLIGHT as u64 {
        link.say(request(number, "tools/call", json!({ "name": "wait" }))).await;
    }
    assert_eq!(link.failure(MOST_IN_FLIGHT as u64).await.kind, ErrorKind::CallerLimit);
    let (mut peer, first) = upstream.request().await;
    peer.send(json_with(200, "", &result(&first.body["id"]))).await;
    assert_eq!(link.message().await.0, result(&first.body["id"]));
    // There is room again.
    link.say(request(1000, "tools/call", json!({ "name": "wait" }))).await;
    assert_eq!(soon("the request", peer.next()).await.unwrap().body["id"], 1000);
}

#[tokio::test(flavor = "local")]
async fn what_a_client_cancelled_is_not_fetched_again() {
    let upstream = Upstream::bind().await;
    let mut link = open(upstream.http_server(StreamableHttp));
    link.say(request(1, "tools/call", json!({ "name": "slow" }))).await;
    let (mut calling, _) = upstream.request().await;
    calling.send(EVENTS).await;
    calling.event("id: e1\nretry: 0\ndata:\n\n").await;
    link.say(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }))
        .await;
    let (mut telling, told) = upstream.request().await;
    assert_eq!(told.method(), "notifications/cancelled");
    telling.send(ACCEPTED).await;
    calling.send(LAST_CHUNK).await;
    link.failure(1).await;
}
