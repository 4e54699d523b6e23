//! What one caller takes of the gateway is not taken from another.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::ledger::Resource;
use tokio::net::TcpStream;

use crate::{
    harness::{CI, Client, DEV, Gate, Upstream, field, get, open_stream, passes, post, soon, until},
    mcp::{INITIALIZE, Session, call, command, modern_call, request, text},
    recorder::Recorder,
};

/// A command server, public or not, behind a gateway with these limits.
async fn gate_with(limits: Value, public: bool) -> Gate {
    let mut small = command();
    if public {
        small["public"] = json!(true);
    }
    let servers = json!({ "small": small, "other": command() });
    Gate::start(json!({ "proxy": { "limits": limits }, "mcpServers": servers })).await
}

/// A request of `token` has been admitted, so that it is one of those for whom something is kept.
async fn is_active(gate: &Gate, token: &str) {
    assert_eq!(gate.ask(&modern_call("/other/mcp", token, 1, "echo", json!({}))).await.0, 200);
}

/// Statuses of as many attempts to begin a session.
async fn sessions(gate: &Gate, path: &str, token: &str, attempts: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..attempts {
        statuses.push(gate.ask(&post(path, token, "", INITIALIZE)).await.0);
    }
    statuses
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|seen| **seen == status).count()
}

#[tokio::test]
async fn one_token_alone_has_all_sessions_and_beside_others_it_leaves_them_theirs() {
    let gate = gate_with(json!({ "maxSessions": 4 }), false).await;
    assert_eq!(sessions(&gate, "/small/mcp", DEV, 5).await, [200, 200, 200, 200, 503]);

    let gate = gate_with(json!({ "maxSessions": 4 }), false).await;
    is_active(&gate, CI).await;
    assert_eq!(sessions(&gate, "/small/mcp", DEV, 4).await, [200, 200, 200, 429]);
    let (_, head, body) = gate.ask(&post("/small/mcp", DEV, "", INITIALIZE)).await;
    assert!(field(&head, "retry-after").is_some() && body.contains(r#""caller_limit""#), "{head}{body}");
    assert_eq!(sessions(&gate, "/small/mcp", CI, 2).await, [200, 503]);
    let line = gate.log.line("Refused request", &[("reason", json!("caller_limit"))]).await;
    assert_eq!(
        (&line["token_name"], &line["cause"]),
        (&json!("dev"), &json!("sessions: the caller's limit"))
    );
    assert!(gate.metrics().contains(r#"auth_refused_total{reason="caller_limit"} 2"#));
}

/// All servers as one, beside a process that is the only one that a caller may have.
async fn gate_of_one_process(pause: Duration) -> (Gate, Session) {
    let small = json!({ "command": "sleep", "args": ["5"], "inheritEnv": ["PATH"] });
    let inline = json!({ "inline": { "tools": [{ "name": "wait", "command": "sleep", "args": ["5"] }] } });
    let config = json!({
        "proxy": { "limits": { "perCaller": { "processes": 1 } } },
        "mcpServers": { "other": command(), "small": small, "tools": inline },
    });
    let gate = Gate::start_pausing(config, pause).await;
    let session = Session::open(&gate, "/other/mcp", DEV).await;
    (gate, session)
}

#[tokio::test]
async fn a_limit_that_a_call_meets_behind_the_gate_is_the_callers_and_no_fault_of_the_server() {
    let (gate, _session) = gate_of_one_process(Duration::ZERO).await;
    for (path, tool) in
        [("/mcp", "small__x"), ("/mcp", "small__x"), ("/tools/mcp", "wait"), ("/mcp", "tools__wait")]
    {
        let (status, head, body) = gate.ask(&modern_call(path, DEV, 1, tool, json!({}))).await;
        assert_eq!(status, 429, "{path} {tool}: {head}{body}");
        assert!(field(&head, "retry-after").is_some() && body.contains(r#""caller_limit""#), "{head}{body}");
    }
    let line = gate.log.line("Refused request", &[("server", json!("small"))]).await;
    assert_eq!((&line["reason"], &line["level"]), (&json!("caller_limit"), &json!("INFO")));
    assert!(!gate.log.text().contains("Server left out"), "{}", gate.log.text());
    assert_eq!(gate.gateway.shared().live().entry("small").unwrap().health.problem(), None);
    assert_eq!(gate.upstream_errors(), 0);
}

#[tokio::test]
async fn what_becomes_of_members_is_a_line_now_and_then_however_often_a_caller_makes_it_so() {
    let (gate, _session) = gate_of_one_process(Duration::from_secs(3600)).await;
    for id in 0..5 {
        let path = format!("/mcp?servers=small,other&match=any&n={id}");
        Session::open(&gate, &path, DEV).await;
    }
    gate.log.line("Refused request", &[("reason", json!("caller_limit"))]).await;
    let lines = gate.log.all();
    assert_eq!(lines.iter().filter(|line| line["msg"] == "Refused request").count(), 1);
    let refused = gate.metrics();
    let refused = refused
        .lines()
        .find_map(|line| line.strip_prefix(r#"sluicegate_auth_refused_total{reason="caller_limit"} "#));
    assert_eq!(refused, Some("10"));
}

#[tokio::test]
async fn a_thousand_anonymous_sessions_leave_room_for_a_token() {
    let gate = gate_with(json!({ "maxSessions": 8, "maxProcesses": 16 }), true).await;
    is_active(&gate, DEV).await;
    let anonymous = INITIALIZE.len();
    let initialize = format!(
        "POST /small/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {anonymous}\r\n\r\n{INITIALIZE}"
    );
    let mut client = gate.client().await;
    let mut statuses = Vec::new();
    for _ in 0..1000 {
        client.send(&initialize).await;
        statuses.push(client.response().await.0);
    }
    assert_eq!((count(&statuses, 200), count(&statuses, 429)), (6, 994));
    assert_eq!(sessions(&gate, "/other/mcp", DEV, 2).await, [200, 200]);
}

#[tokio::test]
async fn limits_of_one_caller_hold_whatever_is_free() {
    let each = json!({ "perCaller": { "sessions": 1, "requests": 2 } });
    let gate = gate_with(each, false).await;
    let first = Session::open(&gate, "/small/mcp", DEV).await;
    assert_eq!(sessions(&gate, "/small/mcp", DEV, 1).await, [429]);
    assert_eq!(sessions(&gate, "/small/mcp", CI, 1).await, [200]);

    let (_one, _two) = (first.listen().await, first.sent(&call(1, "sleep", json!({}))).await);
    gate.log.line("Server wrote to stderr", &[("line", json!("sleeping"))]).await;
    assert_eq!(first.post(&call(2, "echo", json!({}))).await.0, 429);
    is_active(&gate, CI).await;
    drop(_one);
    until("one of two requests is through", || {
        gate.gateway.shared().ledger.usage(sluicegate::ledger::Resource::Requests).1 == 1
    })
    .await;
    assert_eq!(first.post(&call(2, "echo", json!({}))).await.0, 200);
}

#[tokio::test]
async fn max_per_user_of_mcp_front_is_such_a_limit() {
    let config = |most| json!({ "proxy": { "sessions": { "maxPerUser": most } }, "mcpServers": { "small": command() } });
    let mut gate = Gate::start(config(1)).await;
    assert_eq!(sessions(&gate, "/small/mcp", DEV, 2).await, [200, 429]);
    gate.reload(config(0));
    assert_eq!(sessions(&gate, "/small/mcp", DEV, 2).await, [200, 200]);
}

#[tokio::test]
async fn views_of_some_servers_are_sessions_and_the_oldest_that_nobody_uses_goes() {
    let servers: serde_json::Map<_, _> = (0..5).map(|n| (format!("s{n}"), command())).collect();
    let limits = json!({ "maxSessions": 2, "maxProcesses": 12 });
    let gate = Gate::start(json!({ "proxy": { "limits": limits }, "mcpServers": servers })).await;
    let processes = || gate.gateway.shared().ledger.usage(sluicegate::ledger::Resource::Processes).1;
    for subset in 1..32 {
        let names: Vec<_> = (0..5).filter(|n| subset >> n & 1 == 1).map(|n| format!("s{n}")).collect();
        let path = format!("/mcp?servers={}", names.join(","));
        let tool = format!("{}__echo", names[0]);
        let (status, _, body) = gate.ask(&modern_call(&path, DEV, 1, &tool, json!({ "text": "x" }))).await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(processes() <= 12, "{}", processes());
        assert!(gate.gateway.shared().ledger.usage(sluicegate::ledger::Resource::Sessions).1 <= 2);
        // Processes of a view that goes take a moment to end.
        until("processes of two views at most", || processes() <= 10).await;
    }
}

#[tokio::test]
async fn who_breaks_its_own_process_keeps_nobody_else_waiting() {
    let gate = gate_with(json!({}), false).await;
    for _ in 0..6 {
        let session = Session::open(&gate, "/small/mcp", DEV).await;
        assert_eq!(session.post(&call(1, "die", json!({}))).await.0, 502);
    }
    // The next start for the same token is due in seconds.
    let mut waits = gate.client().await;
    waits.send(post("/small/mcp", DEV, "", INITIALIZE)).await;
    let other = Session::open(&gate, "/small/mcp", CI).await;
    assert_eq!(other.call("echo", json!({ "text": "at once" })).await, "at once");
    assert!(waits.buffer.is_empty());
    let nothing = waits.stream.try_read(&mut [0; 1]);
    assert!(nothing.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "it still waits");
}

#[tokio::test]
async fn who_may_have_broken_a_process_that_all_share_gets_one_of_its_own() {
    let gate = gate_with(json!({}), false).await;
    let pid = async |token| {
        let (status, _, body) = gate.ask(&modern_call("/small/mcp", token, 1, "pid", json!({}))).await;
        assert_eq!(status, 200, "{body}");
        text(&serde_json::from_str(&body).unwrap())
    };
    assert_eq!(pid(DEV).await, pid(CI).await, "they share one");
    assert_eq!(gate.ask(&modern_call("/small/mcp", DEV, 1, "die", json!({}))).await.0, 502);
    let shared = pid(CI).await;
    let own = pid(DEV).await;
    assert_ne!(own, shared);
    assert_eq!(gate.ask(&modern_call("/small/mcp", DEV, 1, "die", json!({}))).await.0, 502);
    assert_eq!(pid(CI).await, shared, "which another's end does not touch");
}

#[tokio::test]
async fn health_is_told_while_every_place_is_taken() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({
        "proxy": { "limits": { "maxConnections": 2 }, "admin": { "addr": "127.0.0.1:0" } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let streams = [open_stream(gate.addr, &server, DEV).await, open_stream(gate.addr, &server, DEV).await];
    let admin = gate.gateway.admin_addr().unwrap();
    for (addr, path) in [(gate.addr, "/health/live"), (admin, "/health/live"), (admin, "/metrics")] {
        let mut client = Client::new(TcpStream::connect(addr).await.unwrap());
        client.send(get(path, "", "")).await;
        let (status, _, body) = client.response().await;
        assert_eq!(status, 200, "{path}");
        if path == "/metrics" {
            assert!(body.contains("sluicegate_connections_limit 2"), "{body}");
            assert!(body.contains(r#"sluicegate_capacity_used{resource="connections"} 2"#), "{body}");
        }
    }
    let (status, head, _) = gate.ask(&get("/db", DEV, "")).await;
    assert_eq!((status, field(&head, "retry-after").is_some()), (503, true));
    gate.log.line("Connection limit reached; those without an admitted request make room", &[]).await;
    drop(streams);
}

#[tokio::test]
async fn connections_that_ask_for_nothing_make_room_for_those_that_do() {
    // Those of a balancer, too, which have not even said for whom they are.
    for trusted in [&[][..], &["127.0.0.1"]] {
        let server = Upstream::bind().await;
        let gate = Gate::start(json!({
            "proxy": { "trustedProxies": trusted, "limits": { "maxConnections": 4 } },
            "mcpServers": { "db": { "url": server.url("/mcp") } },
        }))
        .await;
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(gate.client().await);
        }
        for client in &mut silent[..60] {
            assert!(soon("the oldest are closed", client.rest()).await.is_empty());
        }
        let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
        passes(&mut behind, &mut client, "data: 1\n\n").await;
        let metrics = gate.metrics();
        let evicted =
            metrics.lines().find_map(|line| line.strip_prefix("sluicegate_connections_evicted_total "));
        let evicted: usize = evicted.unwrap().parse().unwrap();
        assert!((60..70).contains(&evicted), "{evicted} of 101 connections were closed");
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_before_it_is_admitted_and_drives_out_its_own() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({
        "proxy": { "limits": { "perAddress": { "connections": 2 } } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    // Those that were admitted do not count.
    let streams = [open_stream(gate.addr, &server, DEV).await, open_stream(gate.addr, &server, CI).await];
    let (mut first, second) = (gate.client().await, gate.client().await);
    let third = gate.client().await;
    assert!(soon("the oldest is closed", first.rest()).await.is_empty());
    gate.log
        .line("Rejected connection", &[("reason", json!("per_address")), ("peer", json!("127.0.0.1"))])
        .await;
    for mut stays in [second, third] {
        stays.send(get("/health", "", "")).await;
        assert_eq!(stays.response().await.0, 200);
    }
    drop(streams);
}

/// A request with `X-Forwarded-For`, on a connection of its own.
async fn forwarded(gate: &Gate, address: &str, body: &str) -> u16 {
    let length = body.len();
    let request = format!(
        "POST /small/mcp HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    gate.ask(&request).await.0
}

#[tokio::test]
async fn callers_behind_a_trusted_balancer_are_as_many_owners() {
    let mut small = command();
    small["public"] = json!(true);
    let config = |trusted: &[&str]| {
        json!({
            "proxy": { "limits": { "perCaller": { "sessions": 1 } }, "trustedProxies": trusted },
            "mcpServers": { "small": small },
        })
    };
    let mut gate = Gate::start(config(&["127.0.0.1"])).await;
    for last in 1..=50 {
        assert_eq!(forwarded(&gate, &format!("192.0.2.{last}"), INITIALIZE).await, 200, "{last}");
    }
    assert_eq!(forwarded(&gate, "198.51.100.1, 192.0.2.7", INITIALIZE).await, 429, "it has one already");
    gate.log.line("Public request", &[("peer", json!("192.0.2.50"))]).await;

    gate.reload(config(&["192.0.2.0/24"]));
    assert_eq!(forwarded(&gate, "198.51.100.1", INITIALIZE).await, 200, "127.0.0.1 has none yet");
    assert_eq!(forwarded(&gate, "198.51.100.2", INITIALIZE).await, 429, "nobody else is believed");
}

#[tokio::test]
async fn proxy_protocol_names_the_client_of_a_connection_and_only_from_a_balancer() {
    let header = |last: u8| {
        let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
        [&fixed[..], &[192, 0, 2, last, 127, 0, 0, 1, 0x12, 0x67, 0x1f, 0x90]].concat()
    };
    let config = |trusted: &[&str]| json!({ "proxy": { "trustedProxies": trusted }, "mcpServers": {} });
    let mut gate = Gate::start(config(&["127.0.0.1"])).await;
    let mut client = gate.client().await;
    client.send([&header(1)[..], get("/none", DEV, "").as_bytes()].concat()).await;
    assert_eq!(client.response().await.0, 404);
    gate.log.line("Refused request", &[("peer", json!("192.0.2.1:4711"))]).await;
    // A balancer may as well send none, or speak for itself.
    assert_eq!(gate.ask(&get("/health", "", "")).await.0, 200);
    let mut client = gate.client().await;
    client.send([b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", get("/health", "", "").as_bytes()].concat()).await;
    assert_eq!(client.response().await.0, 200);
    for broken in [
        &header(2)[..14],
        &b"\r\n\r\n\0\r\nQUIX\n\x21\x11\0\x0c"[..],
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..],
    ] {
        let mut client = gate.client().await;
        client.send(broken).await;
        client.stream.set_nodelay(true).unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
        assert!(soon("the end of a broken header", client.rest()).await.is_empty());
    }

    gate.reload(config(&[]));
    let mut client = gate.client().await;
    client.send([&header(3)[..], get("/health", "", "").as_bytes()].concat()).await;
    let answer = String::from_utf8(soon("a refusal", client.rest()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn messages_that_wait_are_held_up_to_a_limit_and_then_nothing_more_is_read() {
    let gate =
        gate_with(json!({ "maxHeldBytes": 16 << 20, "bodyTimeout": "1s", "upstreamTimeout": "2s" }), false)
            .await;
    is_active(&gate, CI).await;
    // A server that reads nothing: it writes without end, and nobody takes that.
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let _flood = session.stream(&call(1, "flood", json!({}))).await;
    let large =
        request(2, "tools/call", json!({ "name": "echo", "arguments": { "text": "x".repeat(3 << 20) } }));
    let mut waiting = Vec::new();
    let held = || gate.gateway.shared().ledger.usage(sluicegate::ledger::Resource::Bytes).1;
    for id in 0..20 {
        let mut client = session.client().await;
        let body = large.replacen(":2,", &format!(":{},", 100 + id), 1);
        // More than the gateway takes; what it does not read waits with the client.
        let field = session.field.clone();
        waiting.push(tokio::spawn(async move {
            let request = post("/small/mcp", DEV, &field, &body);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, request.as_bytes()).await;
            let _ = client.more().await;
            String::from_utf8_lossy(&client.buffer).into_owned()
        }));
    }
    let mut refused = 0;
    for waiting in waiting {
        let answer = soon("an answer to each", waiting).await.unwrap();
        refused += usize::from(answer.contains(" 429 ") || answer.contains(" 503 "));
        assert!(held() <= 20 << 20, "{}", held());
    }
    assert!(refused >= 10, "{refused}");
    is_active(&gate, CI).await;
}

#[tokio::test]
async fn a_connection_whose_token_was_taken_out_counts_for_nobody() {
    let server = Recorder::start().await;
    let config = |tokens: Value| {
        json!({
            "proxy": { "auth": { "tokens": tokens } },
            "mcpServers": { "db": { "url": server.url("/mcp") } },
        })
    };
    let mut gate = Gate::start(config(json!({ "dev": DEV, "ci": CI }))).await;
    let used = |gate: &Gate| gate.gateway.shared().ledger.usage(Resource::Connections).1;
    let mut client = gate.client().await;
    client.send(post("/db", CI, "", "{}")).await;
    assert_eq!(client.response().await.0, 200);
    assert_eq!(used(&gate), 1);
    gate.reload(config(json!({ "dev": DEV })));
    client.send(post("/db", CI, "", "{}")).await;
    assert_eq!(client.response().await.0, 401);
    assert_eq!(used(&gate), 0);
    // It is as good as any other for somebody who may call.
    client.send(post("/db", DEV, "", "{}")).await;
    assert_eq!(client.response().await.0, 200);
    assert_eq!(used(&gate), 1);
}
