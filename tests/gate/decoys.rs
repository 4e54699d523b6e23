//! `"decoy": true`: whoever uses such a token gets an empty server whatever they ask for, and is heard of.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, Upstream, field, get, open_stream, post, until},
    mcp::{INITIALIZE, Session, SseSession, call, command, modern, modern_call, names, request},
    process::Process,
    recorder::Recorder,
};

const BAIT: &str = "bait-token-0123456789abcdef";
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn config(servers: Value) -> Value {
    let tokens = json!({
        "dev": DEV,
        "ci": [CI, { "value": BAIT, "decoy": true }],
        "old": { "value": "expired-token-0123456789", "decoy": true, "expires": "2020-01-01T00:00:00Z" },
    });
    json!({
        "proxy": { "auth": { "tokens": tokens, "queryToken": true }, "name": "Gate of tests" },
        "mcpServers": servers,
    })
}

/// How often a decoy was used.
fn used(gate: &Gate, name: &str) -> u64 {
    let series = format!("sluicegate_decoy_used_total{{token_name=\"{name}\"}} ");
    let metrics = gate.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

/// `body` without what is of one request alone.
fn refusal((status, head, body): (u16, String, String)) -> (u16, Option<String>, String) {
    let mut body: Value = serde_json::from_str(&body).unwrap();
    body["request_id"].take();
    (status, field(&head, "www-authenticate").map(str::to_owned), body.to_string())
}

#[tokio::test]
async fn an_empty_server_answers_whatever_is_asked_for_and_no_other_hears_of_it() {
    let server = Recorder::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let mark = dir.path().join("started");
    let starts = json!({ "command": "touch", "args": [mark] });
    let servers = json!({
        "db": { "url": server.url("/mcp"), "authTokens": ["ci"] },
        "events": { "url": server.url("/sse") },
        "files": starts,
        "own": { "inline": { "tools": [{ "name": "mark", "command": "touch", "args": [mark] }] } },
    });
    let gate = Gate::start_pausing(config(servers), LONG).await;
    assert_eq!((used(&gate, "ci"), used(&gate, "old")), (0, 0), "it is there before it is used");
    for name in ["/db", "/events", "/files", "/own", "", "/no-such-server"] {
        let path = format!("{name}/mcp");
        let session = Session::open(&gate, &path, BAIT).await;
        let greeting = &session.greeting["result"];
        assert_eq!(
            (&greeting["serverInfo"]["name"], &greeting["protocolVersion"]),
            (&json!("Gate of tests"), &json!("2025-11-25"))
        );
        assert_eq!(session.tools().await, [""; 0], "{path}");
        assert_eq!(session.ask(&request(2, "ping", json!({}))).await["result"], json!({}));
        assert_eq!(session.ask(&call(3, "mark", json!({}))).await["error"]["code"], -32602);
        assert_eq!(session.ask(&request(4, "resources/list", json!({}))).await["error"]["code"], -32601);
        assert_eq!(session.delete().await, 204);

        let (status, _, body) = gate.ask(&modern(&path, BAIT, 1, "tools/list", json!({}))).await;
        assert_eq!((status, names(&serde_json::from_str(&body).unwrap())), (200, Vec::new()), "{body}");
        let (_, _, body) = gate.ask(&modern_call(&path, BAIT, 1, "mark", json!({}))).await;
        assert!(body.contains("-32602"), "{body}");

        let mut session = SseSession::open(&gate, &format!("{name}/sse/"), BAIT).await;
        assert!(session.url.starts_with(&format!("{name}/message?")), "{}", session.url);
        let listed = session.ask(&request(1, "tools/list", json!({}))).await;
        assert_eq!(names(&listed), [""; 0]);
    }
    let (status, ..) = gate
        .ask(
            &post(&format!("/db/mcp?token={BAIT}"), "", "", INITIALIZE)
                .replace("Authorization: Bearer \r\n", ""),
        )
        .await;
    assert_eq!(status, 200);
    server.saw_nothing("a decoy").await;
    assert!(!mark.exists());
    // As often as it was used, of which the log has one warning; and no line of its own for each.
    let line = gate.log.line("A decoy token is used", &[]).await;
    assert_eq!(
        (&line["level"], &line["token_name"], &line["path"]),
        (&json!("WARN"), &json!("ci"), &json!("/db/mcp"))
    );
    assert!(
        line["peer"].as_str().unwrap().starts_with("127.0.0.1:") && line["request_id"].is_string(),
        "{line}"
    );
    assert!(used(&gate, "ci") > 60);
    assert_eq!(gate.log.text().matches("A decoy token is used").count(), 1);
    let is_own = |line: &Value| line["msg"] == "Authenticated request" && line["level"] != "DEBUG";
    assert!(!gate.log.all().iter().any(is_own));
    assert!(!gate.log.text().contains("no-such-server"), "what a thief asks for may be a secret, too");
}

#[tokio::test]
async fn what_is_no_server_is_refused_as_to_any_token_without_a_role() {
    let gate = Gate::start(config(json!({ "db": command() }))).await;
    for path in ["/servers", "/metrics", "/servers/db", "/nothing/at/all", "/db/mcp/x", "/.well-known/x", "/"]
    {
        let by_bait = refusal(gate.ask(&get(path, BAIT, "")).await);
        assert_eq!(by_bait, refusal(gate.ask(&get(path, DEV, "")).await), "{path}");
    }
    let stop = |token| post("/servers/db/stop", token, "", "");
    assert_eq!(refusal(gate.ask(&stop(BAIT)).await), refusal(gate.ask(&stop(DEV)).await));
    assert_eq!(used(&gate, "ci"), 6, "where a token is asked for, it counts");
    // Past its end it is a token like any other.
    let (status, _, body) = refusal(gate.ask(&get("/db/mcp", "expired-token-0123456789", "")).await);
    assert!(status == 401 && body.contains("invalid_token"), "{status} {body}");
    assert_eq!(used(&gate, "old"), 0);
}

#[tokio::test]
async fn decoys_have_sixteen_places_and_take_none_from_others() {
    let gate = Gate::start(config(json!({ "db": command() }))).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut client = gate.client().await;
        client.send(get("/db/sse", BAIT, "Accept: text/event-stream\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        streams.push(client);
    }
    let (status, _, body) = gate.ask(&post("/db/mcp", BAIT, "", INITIALIZE)).await;
    assert!(status == 429 && body.contains("caller_limit"), "{status} {body}");
    let session = Session::open(&gate, "/db/mcp", DEV).await;
    assert!(!session.tools().await.is_empty());
    // A connection of theirs is a stranger's still, which makes room for others.
    let (_, taken) = gate.gateway.shared().ledger.usage(sluicegate::ledger::Resource::Connections);
    assert!(taken <= 3, "{taken}");
    drop(streams);
    until("there is room again", || gate.gateway.shared().decoys.available_permits() == 16).await;
    let mut sessions = Vec::new();
    until("the sessions end", || gate.gateway.shared().sessions.count(".decoy") == 0).await;
    for _ in 0..16 {
        sessions.push(Session::open(&gate, "/db/mcp", BAIT).await);
    }
    let (status, ..) = gate.ask(&post("/db/mcp", BAIT, "", INITIALIZE)).await;
    assert_eq!(status, 429);
}

#[tokio::test]
async fn who_uses_a_decoy_takes_nothing_from_the_caller_whose_name_it_has() {
    let server = Recorder::start().await;
    let mut config = config(json!({ "db": { "url": server.url("/mcp") }, "files": command() }));
    config["proxy"]["limits"] = json!({ "perCaller": { "requests": 2, "sessions": 3 } });
    config["proxy"]["rateLimits"] = json!({ "principal": "6/h" });
    config["proxy"]["debug"] = json!(true);
    config["proxy"]["auth"]["tokens"]["ops"] =
        json!({ "value": "ops-token-0123456789abcdef", "roles": ["admin"] });
    let gate = Gate::start(config).await;
    let _decoys_session = Session::open(&gate, "/db/mcp", BAIT).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut client = gate.client().await;
        client.send(get("/db/sse", BAIT, "Accept: text/event-stream\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        streams.push(client);
    }
    while gate.ask(&post("/db/mcp", BAIT, "", INITIALIZE)).await.0 != 429 {}
    // What it has is all its own.
    let session = Session::open(&gate, "/files/mcp", CI).await;
    assert!(!session.tools().await.is_empty());
    assert_eq!(gate.ask(&get("/db/mcp", CI, "")).await.0, 200);
    let (status, _, body) = gate.ask(&get("/debug/ledger", "ops-token-0123456789abcdef", "")).await;
    let ledger: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200, "{ledger}");
    assert_eq!(ledger["owners"]["decoy:ci"]["requests"], 2, "{ledger}");
    assert!(ledger["owners"]["token:ci"]["requests"].is_null(), "{ledger}");
}

#[tokio::test]
async fn a_credential_that_becomes_a_decoy_loses_all_that_it_had() {
    let server = Upstream::bind().await;
    let servers = json!({ "db": { "url": server.url("/mcp") }, "files": command() });
    let mut gate = Gate::start(config(servers.clone())).await;
    let (mut stream, behind) = open_stream(gate.addr, &server, CI).await;
    let session = Session::open(&gate, "/files/mcp", CI).await;
    let all = Session::open(&gate, "/mcp", CI).await;
    assert!(!session.tools().await.is_empty() && !all.tools().await.is_empty());
    // The other credential of the name is one already: what the name began is not for it.
    for of_ci in [&session, &all] {
        let (status, body) = of_ci.by(BAIT).post(&request(1, "tools/list", json!({}))).await;
        assert_eq!(status, 404, "{body}");
    }
    let mut changed = config(servers);
    changed["proxy"]["auth"]["tokens"]["ci"][0] = json!({ "value": CI, "decoy": true });
    gate.reload(changed);
    stream.rest().await;
    drop(behind);
    gate.log.line("Stream closed", &[("reason", json!("token_revoked"))]).await;
    for of_ci in [&session, &all] {
        let (status, body) = of_ci.post(&request(1, "tools/list", json!({}))).await;
        assert_eq!(status, 404, "{body}");
    }
    assert_eq!(Session::open(&gate, "/files/mcp", CI).await.tools().await, [""; 0]);
    // And what a decoy had, when it is one no more.
    let decoy = Session::open(&gate, "/files/mcp", CI).await;
    gate.reload(config(json!({ "files": command() })));
    assert_eq!(decoy.post(&request(1, "tools/list", json!({}))).await.0, 404);
    let mut none = config(json!({ "files": command() }));
    none["proxy"]["auth"]["tokens"] = json!({ "ci": CI });
    gate.reload(none);
    assert!(!gate.metrics().contains("decoy_used_total{"), "{}", gate.metrics());
}

#[tokio::test]
async fn the_audit_says_that_it_was_a_decoy_and_is_not_filled_by_it() {
    let server = Recorder::start().await;
    let mut config = config(json!({ "db": { "url": server.url("/mcp") } }));
    config["proxy"]["audit"] = json!({});
    let gate = Gate::start_pausing(config, LONG).await;
    for path in ["/db/mcp", "/servers", "/none/mcp"] {
        for _ in 0..20 {
            gate.ask(&post(path, BAIT, "", INITIALIZE)).await;
        }
    }
    let lines: Vec<_> = gate.log.all().into_iter().filter(|line| line["msg"] == "Audit").collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line = &lines[0];
    assert_eq!(
        [&line["verdict"], &line["principal"], &line["server"], &line["rule"], &line["reason"]],
        [
            &json!("deny"),
            &json!("token:ci"),
            &json!("db"),
            &json!("proxy.auth.tokens.ci[1].decoy"),
            &json!("decoy")
        ],
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_that_is_refused_makes_a_decoy_all_the_same() {
    let server = Recorder::start().await;
    let servers = json!({ "db": { "url": server.url("/mcp") } });
    let gate = Process::start(config(servers.clone())).await;
    assert_eq!(gate.get("/db/mcp", CI).await.0, 200);
    let mut broken = config(servers);
    broken["proxy"]["auth"]["tokens"]["ci"][0] = json!({ "value": CI, "decoy": true });
    broken["proxy"]["addr"] = json!("nowhere");
    gate.save(broken);
    // A stream of no session, which is what an empty server has.
    gate.answers("/db/mcp", CI, 405).await;
    gate.signal(Signal::TERM);
}
