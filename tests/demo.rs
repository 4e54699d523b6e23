//! The built-in MCP server of `sluicegate demo`, called over real sockets the way clients of each MCP version do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{io, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sluicegate::demo;
use test_support::harness::{PATIENCE, until};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

struct Demo {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

impl Demo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(demo::serve(listener, async { drop(stopped.await) }));
        Self { addr, stop, served }
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let socket = TcpStream::connect(self.addr).await.unwrap();
        let (mut client, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target);
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", self.addr.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        client.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    async fn post(&self, headers: &[(&str, &str)], message: &Value) -> Response<Incoming> {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send(Method::POST, "/mcp", &headers, message.to_string()).await
    }

    /// Status and answer of a request that is answered with JSON.
    async fn ask(&self, headers: &[(&str, &str)], message: &Value) -> (StatusCode, Value) {
        let response = self.post(headers, message).await;
        let status = response.status();
        assert_eq!(response.headers()["content-type"], "application/json", "{status}");
        (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }
}

/// Reads a stream event by event.
struct Events(Incoming);

impl Events {
    fn of(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self(response.into_body())
    }

    /// The next event; `None` at the end of the stream. Each one is written as one chunk.
    async fn next(&mut self) -> Option<String> {
        let frame = self.0.frame().await?.ok()?;
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// The message in the next event.
    async fn message(&mut self) -> Value {
        let event = self.next().await.expect("the stream ended early");
        let data = event.strip_prefix("event: message\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
        serde_json::from_str(data.unwrap_or_else(|| panic!("not a message: {event}"))).unwrap()
    }
}

fn request(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn call(tool: &str, arguments: Value) -> Value {
    request("tools/call", json!({ "name": tool, "arguments": arguments }))
}

/// The same as a client of MCP 2026-07-28 sends it, without the headers.
fn modern(mut message: Value, meta: Value) -> Value {
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    for (name, value) in meta.as_object().unwrap() {
        message["params"]["_meta"][name] = value.clone();
    }
    message
}

fn modern_headers<'a>(method: &'a str, name: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    headers.extend(name.map(|name| ("mcp-name", name)));
    headers
}

fn session_of(headers: &HeaderMap) -> String {
    headers["mcp-session-id"].to_str().unwrap().to_owned()
}

const NONE: &[(&str, &str)] = &[];

#[tokio::test]
async fn every_version_with_a_handshake_is_spoken() {
    let demo = Demo::start().await;
    for (asked, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let (status, answer) =
            demo.ask(NONE, &request("initialize", json!({ "protocolVersion": asked }))).await;
        assert_eq!((status, &answer["result"]["protocolVersion"]), (StatusCode::OK, &json!(answered)));
        assert_eq!(answer["result"]["serverInfo"]["name"], "sluicegate-demo");
    }
}

#[tokio::test]
async fn a_session_begins_with_initialize_and_ends_with_delete() {
    let demo = Demo::start().await;
    let hello = request("initialize", json!({ "protocolVersion": "2025-11-25" }));
    let id = session_of(demo.post(NONE, &hello).await.headers());
    assert_ne!(id, session_of(demo.post(NONE, &hello).await.headers()));

    let mine: &[_] = &[("mcp-session-id", &*id), ("mcp-protocol-version", "2025-11-25")];
    let ready = demo.post(mine, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    assert_eq!(ready.status(), StatusCode::ACCEPTED);
    assert_eq!(ready.into_body().collect().await.unwrap().to_bytes(), "");

    let (_, tools) = demo.ask(mine, &request("tools/list", json!({}))).await;
    let names: Vec<_> =
        tools["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["echo", "clock", "countdown"]);
    assert!(tools["result"].get("resultType").is_none(), "that is for a later version");

    let idle = demo.send(Method::GET, "/mcp", mine, "").await;
    assert_eq!(idle.headers()["content-type"], "text/event-stream", "its head comes though no event does");

    assert_eq!(demo.send(Method::DELETE, "/mcp", mine, "").await.status(), StatusCode::OK);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(demo.send(method, "/mcp", mine, "").await.status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(demo.post(mine, &request("ping", json!({}))).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_lone_curl_needs_no_session() {
    let demo = Demo::start().await;
    let (status, said) = demo.ask(NONE, &call("echo", json!({ "text": "hé\nllo" }))).await;
    assert_eq!((status, &said["result"]["content"][0]["text"]), (StatusCode::OK, &json!("hé\nllo")));

    let (_, time) = demo.ask(NONE, &call("clock", json!({}))).await;
    let time = time["result"]["content"][0]["text"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");

    let (_, pong) = demo.ask(NONE, &request("ping", json!({}))).await;
    assert_eq!(pong, json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
}

#[tokio::test]
async fn events_of_a_countdown_come_one_by_one() {
    let demo = Demo::start().await;
    // The second event is a minute away, so the first one cannot have waited for it.
    let mut slow =
        Events::of(demo.post(NONE, &call("countdown", json!({ "n": 2, "interval_ms": 60_000 }))).await);
    let first = slow.message().await;
    assert_eq!((&first["method"], &first["params"]["data"]), (&json!("notifications/message"), &json!("2")));

    let mut watched = call("countdown", json!({ "n": 3, "interval_ms": 1 }));
    watched["params"]["_meta"] = json!({ "progressToken": "t" });
    let mut events = Events::of(demo.post(NONE, &watched).await);
    for progress in 1..=3 {
        let event = events.message().await;
        assert_eq!(event["method"], "notifications/progress");
        assert_eq!(event["params"]["progressToken"], "t");
        assert_eq!(event["params"]["progress"], progress);
    }
    let last = events.message().await;
    assert_eq!((&last["id"], &last["result"]["content"][0]["text"]), (&json!(1), &json!("liftoff")));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn the_longest_countdown_arrives_whole() {
    let demo = Demo::start().await;
    let mut events =
        Events::of(demo.post(NONE, &call("countdown", json!({ "n": 10_000, "interval_ms": 0 }))).await);
    let mut text = String::new();
    while let Some(event) = events.next().await {
        text.push_str(&event);
    }
    assert_eq!(text.matches("notifications/message").count(), 10_000);
    assert!(text.contains("liftoff"));
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_told_to_the_model() {
    let demo = Demo::start().await;
    for (tool, arguments) in [
        ("echo", json!({})),
        ("echo", json!({ "text": 1 })),
        ("countdown", json!({})),
        ("countdown", json!({ "n": 0 })),
        ("countdown", json!({ "n": 10_001 })),
        ("countdown", json!({ "n": 1.5 })),
        ("countdown", json!({ "n": 1, "interval_ms": 60_001 })),
        ("countdown", json!({ "n": 1, "interval_ms": -1 })),
    ] {
        let (status, answer) = demo.ask(NONE, &call(tool, arguments.clone())).await;
        assert_eq!(
            (status, &answer["result"]["isError"]),
            (StatusCode::OK, &json!(true)),
            "{tool} {arguments}"
        );
    }
    for wrong in [call("rm", json!({})), request("tools/call", Value::Null)] {
        let (status, answer) = demo.ask(NONE, &wrong).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::OK, &json!(-32602)));
    }
}

#[tokio::test]
async fn a_batch_is_answered_as_a_stream_in_order() {
    let demo = Demo::start().await;
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let batch =
        json!([request("ping", json!({})), note, call("countdown", json!({ "n": 1, "interval_ms": 1 }))]);
    let mut events = Events::of(demo.post(NONE, &batch).await);
    assert_eq!(events.message().await["result"], json!({}));
    assert_eq!(events.message().await["params"]["data"], "1");
    assert_eq!(events.message().await["result"]["content"][0]["text"], "liftoff");
    assert_eq!(events.next().await, None);
    assert_eq!(demo.post(NONE, &json!([note])).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_is_no_json_rpc_is_refused_and_what_is_unknown_is_said() {
    let demo = Demo::start().await;
    for (body, status, code) in [
        (json!([]), 400, -32600),
        (json!({}), 400, -32600),
        (json!(7), 400, -32600),
        (json!({ "jsonrpc": "1.0", "id": 1, "method": "ping" }), 400, -32600),
        (json!({ "jsonrpc": "2.0", "id": null, "method": "ping" }), 400, -32600),
        (json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": [] }), 400, -32600),
        (request("no/such", json!({})), 200, -32601),
        (request("server/discover", json!({})), 200, -32601),
    ] {
        let (got, answer) = demo.ask(NONE, &body).await;
        assert_eq!((got.as_u16(), &answer["error"]["code"]), (status, &json!(code)), "{body}");
    }
    let json_type: &[_] = &[("content-type", "application/json; charset=utf-8")];
    for (method, target, headers, body, status) in [
        (Method::POST, "/mcp", json_type, "{".to_owned(), 400),
        (Method::POST, "/mcp", json_type, " ".repeat(1024 * 1024 + 1), 413),
        (Method::POST, "/mcp", NONE, "{}".to_owned(), 415),
        (Method::POST, "/mcp", &[("content-type", "text/plain")], "{}".to_owned(), 415),
        (Method::PUT, "/mcp", NONE, String::new(), 405),
        (Method::DELETE, "/mcp", NONE, String::new(), 400),
        (Method::POST, "/sse", NONE, String::new(), 405),
        (Method::GET, "/message", NONE, String::new(), 405),
        (Method::POST, "/message", json_type, "{}".to_owned(), 404),
        (Method::POST, "/message?sessionId=guess", json_type, "{}".to_owned(), 404),
        (Method::GET, "/", NONE, String::new(), 404),
    ] {
        let response = demo.send(method.clone(), target, headers, body).await;
        assert_eq!(response.status().as_u16(), status, "{method} {target}");
    }
}

#[tokio::test]
async fn web_pages_from_elsewhere_stay_out() {
    let demo = Demo::start().await;
    for (header, status) in [
        (("host", "evil.example"), 403),
        (("host", "127.0.0.1.evil.example:80"), 403),
        (("origin", "https://evil.example"), 403),
        (("origin", "null"), 403),
        (("host", "localhost"), 200),
        (("host", "[::1]:1"), 200),
        (("origin", "http://localhost:5173"), 200),
    ] {
        let response = demo.post(&[header], &request("ping", json!({}))).await;
        assert_eq!(response.status().as_u16(), status, "{header:?}");
    }
}

#[tokio::test]
async fn the_stateless_version_discovers_lists_and_calls() {
    let demo = Demo::start().await;
    let discover = modern(request("server/discover", json!({})), json!({}));
    let (status, found) = demo.ask(&modern_headers("server/discover", None), &discover).await;
    assert_eq!((status, &found["result"]["supportedVersions"]), (StatusCode::OK, &json!(["2026-07-28"])));
    let list = modern(request("tools/list", json!({})), json!({}));
    let (_, listed) = demo.ask(&modern_headers("tools/list", None), &list).await;
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 3);
    for cacheable in [found, listed] {
        let result = &cacheable["result"];
        assert_eq!((&result["resultType"], &result["cacheScope"]), (&json!("complete"), &json!("public")));
        assert!(result["ttlMs"].is_u64());
    }

    let echo = modern(call("echo", json!({ "text": "hi" })), json!({}));
    for name in ["echo", "=?base64?ZWNobw==?="] {
        let mut headers = modern_headers("tools/call", Some(name));
        headers.push(("mcp-session-id", "of-another-era"));
        let response = demo.post(&headers, &echo).await;
        assert!(response.headers().get("mcp-session-id").is_none());
        let said: Value =
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(said["result"]["content"][0]["text"], "hi");
        assert_eq!(said["result"]["resultType"], "complete");
        assert!(said["result"].get("ttlMs").is_none());
    }

    let note = json!({ "jsonrpc": "2.0", "method": "notifications/x" });
    let noted = demo.post(&modern_headers("notifications/x", None), &note).await;
    assert_eq!(noted.status(), StatusCode::ACCEPTED);
    for method in [Method::GET, Method::DELETE] {
        let refused = demo.send(method, "/mcp", &[("mcp-protocol-version", "2026-07-28")], "").await;
        assert_eq!((refused.status().as_u16(), &refused.headers()["allow"]), (405, &"POST".parse().unwrap()));
    }
}

#[tokio::test]
async fn the_stateless_version_streams_what_the_request_opts_into() {
    let demo = Demo::start().await;
    let headers = modern_headers("tools/call", Some("countdown"));
    for (meta, first) in [
        (json!({ "io.modelcontextprotocol/logLevel": "info" }), "notifications/message"),
        (json!({ "progressToken": 7 }), "notifications/progress"),
        (json!({ "io.modelcontextprotocol/logLevel": "error" }), ": 1\n\n"),
        (json!({}), ": 1\n\n"),
    ] {
        let count = modern(call("countdown", json!({ "n": 1, "interval_ms": 1 })), meta);
        let mut events = Events::of(demo.post(&headers, &count).await);
        assert!(events.next().await.unwrap().contains(first), "{first}");
        assert_eq!(events.message().await["result"]["resultType"], "complete");
    }
}

#[tokio::test]
async fn the_stateless_version_refuses_what_contradicts_itself() {
    let demo = Demo::start().await;
    let ping = || modern(request("tools/list", json!({})), json!({}));
    let echo = || modern(call("echo", json!({ "text": "hi" })), json!({}));
    let later = modern(ping(), json!({ "io.modelcontextprotocol/protocolVersion": "2027-01-01" }));
    let mut no_capabilities = ping();
    no_capabilities["params"]["_meta"]
        .as_object_mut()
        .unwrap()
        .remove("io.modelcontextprotocol/clientCapabilities");
    let version = ("mcp-protocol-version", "2026-07-28");
    let new = ("mcp-protocol-version", "2027-01-01");
    let list = ("mcp-method", "tools/list");
    let tool = ("mcp-method", "tools/call");
    for (headers, body, status, code) in [
        (vec![], ping(), 400, -32020),
        (vec![version], ping(), 400, -32020),
        (vec![version, tool], ping(), 400, -32020),
        (vec![("mcp-protocol-version", "2025-11-25"), list], ping(), 400, -32020),
        (vec![version, tool], echo(), 400, -32020),
        (vec![version, tool, ("mcp-name", "clock")], echo(), 400, -32020),
        (vec![version, tool, ("mcp-name", "=?base64?!?=")], echo(), 400, -32020),
        (vec![new, list], later, 400, -32022),
        (vec![new, list], request("tools/list", json!({})), 400, -32022),
        (vec![version, list], no_capabilities, 400, -32602),
        (vec![version, list], request("tools/list", json!({})), 400, -32602),
        (vec![version, list], json!([ping()]), 400, -32600),
        (vec![version, ("mcp-method", "ping")], modern(request("ping", json!({})), json!({})), 404, -32601),
    ] {
        let (got, answer) = demo.ask(&headers, &body).await;
        assert_eq!((got.as_u16(), &answer["error"]["code"]), (status, &json!(code)), "{headers:?} {answer}");
        if code == -32022 {
            assert_eq!(
                answer["error"]["data"],
                json!({ "supported": ["2026-07-28"], "requested": "2027-01-01" })
            );
        }
    }
}

#[tokio::test]
async fn the_two_endpoint_transport_answers_on_its_stream() {
    let demo = Demo::start().await;
    let mut stream = Events::of(demo.send(Method::GET, "/sse", NONE, "").await);
    let first = stream.next().await.unwrap();
    let target = first.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end().to_owned();
    assert!(target.starts_with("/message?sessionId="));

    let post = async |message: Value| {
        let json_type: &[_] = &[("content-type", "application/json")];
        demo.send(Method::POST, &target, json_type, message.to_string()).await.status()
    };
    assert_eq!(
        post(request("initialize", json!({ "protocolVersion": "2024-11-05" }))).await,
        StatusCode::ACCEPTED
    );
    assert_eq!(stream.message().await["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(post(call("countdown", json!({ "n": 1, "interval_ms": 1 }))).await, StatusCode::ACCEPTED);
    assert_eq!(stream.message().await["params"]["data"], "1");
    assert_eq!(stream.message().await["result"]["content"][0]["text"], "liftoff");

    // The server learns that the client left when the connection closes, which takes a moment.
    drop(stream);
    let gone = async {
        while post(request("ping", json!({}))).await != StatusCode::NOT_FOUND {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone)
        .await
        .expect("the session outlives its stream");
}

#[tokio::test]
async fn shutdown_cuts_open_streams() {
    let demo = Demo::start().await;
    let mut idle = Events::of(demo.send(Method::GET, "/mcp", NONE, "").await);
    let mut busy =
        Events::of(demo.post(NONE, &call("countdown", json!({ "n": 9, "interval_ms": 60_000 }))).await);
    busy.message().await;
    demo.stop.send(()).unwrap();
    demo.served.await.unwrap().unwrap();
    assert_eq!(idle.next().await, None);
    assert_eq!(busy.next().await, None);
}

#[tokio::test]
async fn it_serves_nobody_but_this_machine() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = demo::serve(listener, async {}).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn it_also_runs_inside_a_local_set() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let addr = listener.local_addr().unwrap();
        let served =
            tokio::task::spawn_local(async { demo::serve(listener, async { drop(stopped.await) }).await });
        let demo = Demo { addr, stop, served: tokio::spawn(async { Ok(()) }) };
        demo.ask(NONE, &request("ping", json!({}))).await;
        demo.stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    });
}

/// `sluicegate demo --oauth` as a process of its own; killed when dropped.
struct WithOauth {
    child: std::process::Child,
    /// All that it prints up to the end of its guide.
    told: String,
    tmp: tempfile::TempDir,
}

impl WithOauth {
    async fn start() -> Self {
        let tmp = tempfile::TempDir::new().unwrap();
        let mut command = std::process::Command::new(test_support::process::program());
        command.args(["demo", "--oauth"]).env("TMPDIR", tmp.path()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = io::BufReader::new(child.stdout.take().unwrap());
        let reading = tokio::task::spawn_blocking(|| {
            let mut told = String::new();
            for line in io::BufRead::lines(out) {
                let line = line.unwrap();
                told.push_str(&line);
                told.push('\n');
                // The last line that it prints by itself.
                if line.trim_start().starts_with("{\"mcpServers\"") {
                    break;
                }
            }
            told
        });
        let told = tokio::time::timeout(PATIENCE, reading).await.expect("it tells nothing more").unwrap();
        Self { child, told, tmp }
    }

    /// What stands behind a word of the guide.
    fn value(&self, name: &str) -> &str {
        let line = self.told.lines().find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}: {}", self.told)).split_whitespace().next().unwrap()
    }

    async fn end(mut self) {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let mut status = None;
        until("the end of the demo", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        assert!(status.unwrap().success());
        assert_eq!(std::fs::read_dir(self.tmp.path()).unwrap().count(), 0, "something is left behind");
    }
}

impl Drop for WithOauth {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser's request to the gateway: status, head and body.
async fn browse(
    addr: SocketAddr,
    method: Method,
    target: &str,
    cookie: &str,
    form: &str,
) -> (u16, HeaderMap, String) {
    let socket = TcpStream::connect(addr).await.unwrap();
    let (mut client, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", addr.to_string())
        .header("origin", format!("http://{addr}"))
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::<Bytes>::new(form.to_owned().into()))
        .unwrap();
    let (head, body) = client.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_program_logs_in_by_itself_and_then_it_is_the_turn_of_whoever_started_the_demo() {
    let demo = WithOauth::start().await;
    let (_, story) = demo.told.split_once("What the program did").unwrap_or_else(|| panic!("{}", demo.told));
    // Each step, in order: what was sent, and what came back.
    let mut rest = story;
    for step in [
        "> POST /demo/mcp  tools/list",
        "< 401  WWW-Authenticate: Bearer realm=",
        "> GET /.well-known/oauth-protected-resource/demo/mcp",
        "> GET /.well-known/oauth-authorization-server",
        "> POST /register",
        "< 201  client_id sgc_",
        "> GET /authorize?response_type=code",
        "< 200  the page \"Sign in\"",
        "> POST /oauth/login  username=alice",
        "< 200  the page \"Let Demo program in?\"",
        "> POST /oauth/consent  answer=approve",
        "?code=",
        "> POST /token  grant_type=authorization_code",
        "< 200  access_token sga_",
        "> POST /demo/mcp  tools/list, Authorization: Bearer sga_",
        "< 200  echo, clock, countdown",
        "tools/call echo",
        "< 200  \"hello\"",
        "> POST /token  grant_type=refresh_token",
        "< 200  access_token sga_",
        "> POST /revoke",
        "> POST /demo/mcp  tools/list, Authorization: Bearer sga_",
        "< 401  error invalid_token",
        "Your turn.",
    ] {
        let (_, behind) = rest.split_once(step).unwrap_or_else(|| panic!("no {step}:\n{rest}\n---\n{story}"));
        rest = behind;
    }
    // All secrets are longer than this, and no word is.
    let is_long = |word: &&str| word.len() > 40;
    let words =
        story.split(|character: char| !character.is_ascii_alphanumeric() && !"-_".contains(character));
    assert_eq!(words.filter(is_long).collect::<Vec<_>>(), Vec::<&str>::new());
    let password = demo.value("password");
    assert_eq!(
        demo.told.matches(password).count(),
        1,
        "the password is shown where it is for whoever reads, and nowhere else"
    );

    let url: url::Url = demo.value("URL").parse().unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
    let (status, headers, page) = browse(addr, Method::GET, "/oauth/login", "", "").await;
    assert_eq!(status, 200, "{page}");
    let cookie =
        |headers: &HeaderMap| headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = format!("csrf={csrf}&username={}&password={password}", demo.value("user"));
    let (status, signed_in, page) =
        browse(addr, Method::POST, "/oauth/login", &cookie(&headers), &form).await;
    assert_eq!((status, &signed_in["location"]), (303, &"/oauth".parse().unwrap()), "{page}");
    let (status, _, page) = browse(addr, Method::GET, "/oauth", &cookie(&signed_in), "").await;
    assert!(
        status == 200 && page.contains("No program has been let in."),
        "what it had is given back: {page}"
    );
    demo.end().await;
}
