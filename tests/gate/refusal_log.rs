//! What refusals cost the log: one line a reason in ten seconds, and a count of the rest, whoever refuses them.

use std::{collections::BTreeMap, time::Duration};

use rustix::process::Signal;
use rustls::DEFAULT_VERSIONS;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    harness::{CI, Client, DEV, Gate, Upstream, get, post, soon, until},
    process::Process,
    recorder::Recorder,
    tls::{Identity, connected, https_gate},
};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn count(gate: &Gate, metric: &str, reason: &str) -> u64 {
    let name = format!("sluicegate_{metric}{{reason=\"{reason}\"}} ");
    gate.metrics().lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |n| n.parse().unwrap())
}

/// Lines of the log about refusals, by reason.
fn lines(gate: &Gate) -> BTreeMap<String, usize> {
    let mut by_reason = BTreeMap::new();
    for line in gate.log.all().iter().filter(|line| line["msg"] == "Refused request") {
        *by_reason.entry(line["reason"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    by_reason
}

async fn gate_pausing(pause: Duration) -> (Gate, Recorder) {
    let server = Recorder::start().await;
    let config = json!({ "mcpServers": { "db": { "url": server.url("/mcp"), "authTokens": ["dev"] } } });
    (Gate::start_pausing(config, pause).await, server)
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_line_for_each_reason_and_exact_counters() {
    let (gate, _server) = gate_pausing(LONG).await;
    let (mut client, rounds) = (gate.client().await, 100);
    for _ in 0..rounds {
        for request in [
            get("/db/mcp", "nobody", ""),
            get("/db/mcp", "", "").replace("Authorization: Bearer \r\n", ""),
            get("/db/../mcp", DEV, ""),
            get("/db/mcp", DEV, "").replace("localhost", "evil.example"),
            // A valid token may not flood either.
            get("/nothing", DEV, ""),
            get("/db/mcp", CI, ""),
            get("/db/mcp", DEV, "Mcp-Session-Id: forged\r\n"),
        ] {
            client.send(request).await;
            let (status, ..) = client.response().await;
            assert!((400..500).contains(&status));
        }
    }
    let reasons = [
        "invalid_token",
        "unauthorized",
        "bad_path",
        "forbidden_host",
        "not_found",
        "insufficient_scope",
        "session_not_found",
    ];
    let one_each = reasons.map(|reason| (reason.to_owned(), 1)).into();
    // A request that is not refused has its line, as any other: by then those before it are written.
    client.send(get("/db/mcp", DEV, "")).await;
    client.response().await;
    gate.log.line("Authenticated request", &[]).await;
    assert_eq!(lines(&gate), one_each);
    for reason in reasons {
        assert_eq!(count(&gate, "auth_refused_total", reason), rounds, "{reason}");
    }
}

#[tokio::test]
async fn what_was_left_out_is_told_though_nothing_else_is_refused() {
    let (gate, _server) = gate_pausing(Duration::from_millis(300)).await;
    let mut client = gate.client().await;
    for _ in 0..50 {
        client.send(get("/db/mcp", "nobody", "")).await;
        client.response().await;
    }
    // However the pauses fell: every refusal is a line, or is counted in one.
    until("every refusal is told", || {
        let log = gate.log.all();
        let written = log.iter().filter(|line| line["msg"] == "Refused request").count() as u64;
        let suppressed: u64 = log.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
        written + suppressed == 50
    })
    .await;
    let line = gate.log.line("Log lines suppressed", &[("about", json!("Refused request"))]).await;
    assert_eq!((&line["reason"], &line["level"]), (&json!("invalid_token"), &json!("INFO")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_ends_tells_what_it_left_out() {
    let mut gate = Process::start(json!({ "mcpServers": {} })).await;
    let mut client = gate.client().await;
    for _ in 0..20 {
        client.send(get("/nothing", DEV, "")).await;
        client.response().await;
    }
    drop(client);
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
    let told = gate.log.line("Log lines suppressed", &[("reason", json!("not_found"))]).await;
    assert_eq!(told["suppressed"], 19);
    assert_eq!(gate.log.text().matches("Refused request").count(), 2, "its line, and what that is about");
}

/// What hyper refuses before the gateway sees a request.
const REFUSED_BY_HTTP: [(&str, &str, &str); 8] = [
    ("framing", "400", "POST /db/mcp HTTP/1.1\r\nHost: CANARY\r\nContent-Length: 1, 2\r\n\r\n"),
    ("framing", "400", "POST /db/mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: CANARY\r\n\r\n"),
    ("framing", "400", "GET /CANARY HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    ("framing", "400", "GET /CANARY HTTP/3.7\r\n\r\n"),
    ("framing", "400", "CANARY\r\n\r\n"),
    ("framing", "400", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
    ("head_too_large", "431", "GET / HTTP/1.1\r\nHost: localhost\r\nX: LONG\r\n\r\n"),
    ("head_too_large", "414", "GET /LONG HTTP/1.1\r\nHost: localhost\r\n\r\n"),
];

#[tokio::test]
async fn what_http_itself_refuses_is_counted_and_told_once() {
    let server = Recorder::start().await;
    let config = json!({
        "proxy": { "limits": { "headerTimeout": "300ms", "maxHeaderBytes": 1 << 20 } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    });
    let gate = Gate::start_pausing(config, LONG).await;
    let mut counted = BTreeMap::<&str, u64>::new();
    for (reason, status, request) in REFUSED_BY_HTTP {
        for _ in 0..3 {
            let long = "CANARY".repeat(if status == "431" { 1 << 18 } else { 12_000 });
            let mut client = gate.client().await;
            // The gateway may answer, and close, before it has all of it.
            let _ = client.stream.write_all(request.replace("LONG", &long).as_bytes()).await;
            let answer = String::from_utf8_lossy(&client.rest().await).into_owned();
            assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            *counted.entry(reason).or_default() += 1;
        }
    }
    for part in ["GET /CANARY", "GET / HTTP/1.1\r\nX: CANARY"] {
        let mut client = gate.client().await;
        client.send(part).await;
        soon("the end of a head that does not end", client.rest()).await;
        *counted.entry("head_timeout").or_default() += 1;
    }
    // Who connects and leaves, and who is silent, was not refused anything.
    drop(gate.client().await);
    soon("the end of a silent connection", async { gate.client().await.rest().await }).await;
    for (reason, n) in counted {
        until(reason, || count(&gate, "http_rejected_total", reason) == n).await;
        let line = gate.log.line("Rejected connection", &[("reason", json!(reason))]).await;
        assert!(line["peer"].is_string(), "{line}");
    }
    assert_eq!(gate.log.text().matches("Rejected connection").count(), 3, "{}", gate.log.text());
    assert!(!gate.log.text().contains("CANARY"));
    server.saw_nothing("no request was one").await;
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn broken_http2_and_floods_of_it_are_counted_and_told() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let settings = frame(4, 0, 0, &[]);
    let no_preface = b"GET /CANARY HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    // DATA on the connection itself.
    let broken = [PREFACE, &settings, &frame(0, 0, 0, b"CANARY")].concat();
    // Requests that are reset as soon as they are made: GET https://localhost/db.
    let head = [0x82, 0x87, 0x04, 3, b'/', b'd', b'b', 0x01, 9];
    let head = [&head[..], b"localhost"].concat();
    let resets = (0..2_000).flat_map(|n| {
        let stream = 2 * n + 1;
        [frame(1, 5, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let flood = [PREFACE, &settings, &resets.collect::<Vec<_>>()].concat();
    for (reason, bytes) in [("http2", no_preface), ("http2", broken), ("http2_flood", flood)] {
        let before = count(&gate, "http_rejected_total", reason);
        let mut stream = connected(&gate, &identity, &["h2"]).await;
        // It may be cut off in the middle.
        let _ = stream.write_all(&bytes).await;
        Client::new(stream).rest().await;
        until(reason, || count(&gate, "http_rejected_total", reason) == before + 1).await;
        gate.log.line("Rejected connection", &[("reason", json!(reason))]).await;
    }
    assert!(!gate.log.text().contains("CANARY"));
    assert_eq!(count(&gate, "http_rejected_total", "framing"), 0);
}

/// Frames that each cost an answer or a look, and bring nothing.
#[tokio::test]
async fn a_flood_of_frames_that_bring_nothing_ends_with_goaway() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let begin = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let ping = frame(6, 0, 0, &[7; 8]);
    let floods = [
        ("PING", ping.clone()),
        ("PING that answers none", frame(6, 1, 0, &[7; 8])),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 9])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &1_u32.to_be_bytes())),
        ("a type that is none", frame(0x42, 0, 0, &[])),
    ];
    for (n, (name, one)) in (1..).zip(&floods) {
        let mut client = Client::new(connected(&gate, &identity, &["h2"]).await);
        client.send(&begin).await;
        // So many may come, with no harm.
        client.send(one.repeat(990)).await;
        client.send(&ping).await;
        let pong = frame(6, 1, 0, &[7; 8]);
        while !client.buffer.windows(pong.len()).any(|window| window == pong) {
            assert!(client.more().await, "{name}");
        }
        client.buffer.clear();
        let _ = client.stream.write_all(&one.repeat(100)).await;
        let rest = client.rest().await;
        let goaway = rest.windows(17).find(|window| window.starts_with(&[0, 0, 8, 7, 0, 0, 0, 0, 0]));
        assert_eq!(goaway.map(|goaway| goaway[16]), Some(11), "{name}: {rest:?}");
        until(name, || count(&gate, "http_rejected_total", "http2_flood") == n).await;
    }
}

/// All requests behind such a path are refused, and what is open already goes on.
#[tokio::test]
async fn a_path_with_a_fragment_is_no_leave_for_a_flood() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let path = b"/db#x";
    let head = [&[0x82, 0x87, 0x04, path.len() as u8], &path[..], &[0x01, 9], b"localhost"].concat();
    let mut client = Client::new(connected(&gate, &identity, &["h2"]).await);
    client.send([PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, &head)].concat()).await;
    gate.log.line("Refused request", &[("reason", json!("bad_path"))]).await;
    // It may be cut off in the middle.
    let _ = client.stream.write_all(&frame(6, 0, 0, &[7; 8]).repeat(1_100)).await;
    let rest = soon("the end of a flood", client.rest()).await;
    // The first only asks to begin another connection.
    let mut goaways = rest.windows(17).filter(|window| window.starts_with(&[0, 0, 8, 7, 0, 0, 0, 0, 0]));
    assert_eq!(goaways.next_back().map(|goaway| goaway[16]), Some(11));
    until("it is counted", || count(&gate, "http_rejected_total", "http2_flood") == 1).await;
}

/// Go opens its window anew each 4 KiB, gRPC pings while it reads: what they are sent is the reason.
#[tokio::test]
async fn a_client_that_reads_much_may_send_many_frames() {
    let (identity, server) = (Identity::new(), Upstream::bind().await);
    let gate = https_gate(&identity, &server).await;
    let mut client = Client::new(connected(&gate, &identity, &["h2"]).await);
    let block = [
        &[0x82, 0x87, 0x01, 9][..],
        b"localhost",
        &[0x04, 3],
        b"/db",
        &[0x0F, 0x08, 7 + DEV.len() as u8],
        b"Bearer ",
        DEV.as_bytes(),
    ]
    .concat();
    client.send([PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)].concat()).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n").await;
    let sending = tokio::spawn(async move {
        behind.send(vec![b'x'; 8 << 20]).await;
        behind
    });
    let (mut read, mut opened, mut frames) = (0, 0, 0);
    while read < 8 << 20 {
        let head = client.exactly(9).await;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        client.exactly(length).await;
        assert_ne!(head[3], 7, "GOAWAY after {read} bytes and {frames} frames");
        if head[3] == 0 {
            read += length;
            opened += length;
        }
        while opened >= 4096 {
            opened -= 4096;
            frames += 3;
            let more = 4096_u32.to_be_bytes();
            let sent = [frame(8, 0, 0, &more), frame(8, 0, 1, &more), frame(6, 0, 0, &[1; 8])].concat();
            client.send(sent).await;
        }
    }
    assert!(frames > 5_000);
    sending.await.unwrap();
}

#[tokio::test]
async fn handshakes_that_fail_are_counted_and_told_by_whose_fault_it_was() {
    let (identity, stranger) = (Identity::new(), Identity::new());
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "proxy": {
            "tls": identity.config(), "allowedHosts": ["localhost"],
            "limits": { "tlsHandshakeTimeout": "300ms" },
        },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let tcp = async || TcpStream::connect(gate.addr).await.unwrap();

    let mut plain = Client::new(tcp().await);
    plain.send(get("/CANARY", DEV, "")).await;
    plain.rest().await;
    // One that does not trust the certificate says so.
    assert!(stranger.connect(tcp().await, &["h2"], DEFAULT_VERSIONS).await.is_err());
    let mut silent = Client::new(tcp().await);
    silent.rest().await;
    // Who connects and leaves was not refused anything.
    drop(tcp().await);
    for reason in ["tls_handshake", "tls_alert", "tls_timeout"] {
        until(reason, || count(&gate, "http_rejected_total", reason) == 1).await;
        gate.log.line("Rejected connection", &[("reason", json!(reason))]).await;
    }
    assert_eq!(gate.log.text().matches("Rejected connection").count(), 3, "{}", gate.log.text());
    assert!(!gate.log.text().contains("CANARY"));
}

#[tokio::test]
async fn what_the_gate_itself_cannot_do_is_counted_as_well() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "proxy": { "auth": { "tokens": { "ops": { "value": DEV, "roles": ["admin"] } } } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    assert_eq!(gate.ask(&post("/servers/db/stop", DEV, "", "")).await.0, 200);
    let (status, _, body) = gate.ask(&get("/db/mcp", DEV, "")).await;
    assert_eq!(status, 503);
    let body: Value = serde_json::from_str(&body).unwrap();
    let line = gate.log.line("Refused request", &[("request_id", body["request_id"].clone())]).await;
    assert_eq!((&line["level"], &line["reason"]), (&json!("WARN"), &json!("unavailable")));
    assert_eq!(count(&gate, "auth_refused_total", "unavailable"), 1);
}
