//! What a change of a server in the config does to what was begun with it: the table of docs/operate.md, key by key.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use test_support::tls::Identity;

use crate::{
    harness::{CI, DEV, Gate, Upstream, field, get, open_stream, passes, post, soon, until},
    mcp::{INITIALIZE, Session, SseSession, call, command, demo, event, is_alive, is_over, names, request},
};

/// Of each key, whether sessions end, and whether streams do, as the table says it.
fn table() -> BTreeMap<String, (bool, bool)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate.md")).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| key | sessions that")).skip(2);
    let mut table = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [keys, sessions, streams] = cells[..] else { panic!("{row}") };
        let ends = |cell: &str| cell.starts_with("end") && !cell.starts_with("end for");
        for key in keys.split(", ") {
            table.insert(key.trim_matches('`').to_owned(), (ends(sessions), ends(streams)));
        }
    }
    table
}

/// The keys of a server, as the reference has them.
fn keys() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("`mcpServers.NAME`\n")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut keys: Vec<_> = rows.map(|row| row.split('`').next().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

#[test]
fn the_table_has_every_key_of_a_server() {
    assert_eq!(table().into_keys().collect::<Vec<_>>(), keys());
}

/// A server that is passed to byte for byte, one that is reached message by message, a command, and tools of the config.
async fn config(db: &Upstream) -> Value {
    let far = format!("http://{}/mcp", demo().await);
    let tool = |name: &str| json!({ "name": name, "command": "true" });
    json!({ "mcpServers": {
        "db": { "url": db.url("/mcp"), "transportType": "streamable-http" },
        "far": { "url": far, "transportType": "streamable-http" },
        "small": command(),
        "own": { "inline": { "tools": [tool("read"), tool("drop")] } },
    } })
}

const OF_SERVER: &str = "a-token-of-the-server-0123456789";

/// A change of a key that leaves the caller what it may use.
fn changed(key: &str) -> Value {
    match key {
        "url" => json!("http://127.0.0.1:9/mcp"),
        "transportType" => json!("sse"),
        "headers" => json!({ "X-Key": "1" }),
        "caFile" => json!("ca.pem"),
        "command" => json!("/usr/bin/env"),
        "args" => json!(["other.py"]),
        "env" => json!({ "GREETING": "good day" }),
        "cwd" => json!("."),
        "inheritEnv" => json!(["PATH", "HOME"]),
        "inline" => json!({ "tools": [{ "name": "read", "command": "false" }] }),
        "disabled" | "cookies" | "warm" => json!(true),
        "upstreamAuth" => json!({ "kind": "static", "token": OF_SERVER }),
        "auth_strategy" => json!("proxy_oauth"),
        "serviceAuths" => json!([{ "type": "bearer", "name": "x", "userToken": OF_SERVER }]),
        "requiresUserToken" => json!(true),
        "authTokens" => json!(["dev"]),
        "users" => json!([]),
        "roles" => json!(["team"]),
        "public" | "passQuery" | "passLastEventId" => json!(false),
        "tags" => json!(["web"]),
        "tools" => json!({ "drop": { "roles": ["nobody"] } }),
        "options" => json!({ "toolFilter": { "mode": "block", "list": ["drop"] } }),
        "idleTimeout" => json!("1h"),
        "timeout" | "keepAlive" => json!("30s"),
        other => panic!("what is another {other}?"),
    }
}

#[tokio::test]
async fn each_key_ends_what_the_table_says_and_nothing_else() {
    let db = Upstream::bind().await;
    let mut config = config(&db).await;
    config["proxy"]["auth"]["tokens"] = json!({ "dev": { "value": DEV, "roles": ["team"] }, "ci": CI });
    for (key, (ends_sessions, ends_streams)) in table() {
        let mut gate = Gate::start(config.clone()).await;
        let (servers, path): (&[&str], _) = match &*key {
            "command" | "args" | "env" | "cwd" | "inheritEnv" | "warm" => (&["small"], "/small/mcp"),
            "inline" => (&["own"], "/own/mcp"),
            "url" | "transportType" | "headers" | "caFile" | "passQuery" | "passLastEventId" | "cookies"
            | "upstreamAuth" | "auth_strategy" | "serviceAuths" | "requiresUserToken" => {
                (&["db", "far"], "/far/sse")
            }
            _ => (&["db", "own"], "/own/mcp"),
        };
        let (mut client, mut behind) = open_stream(gate.addr, &db, DEV).await;
        let mut after = config.clone();
        for server in servers {
            after["mcpServers"][server][&*key] = changed(&key);
        }
        // These say something together with others alone.
        for server in servers {
            let server = &mut after["mcpServers"][server];
            match &*key {
                "auth_strategy" => server["auth_config"] = json!({ "token_source": OF_SERVER }),
                "requiresUserToken" => {
                    server["headers"] = json!({ "Authorization": { "$userToken": "Bearer {{token}}" } });
                    server["serviceAuths"] = changed("serviceAuths");
                }
                _ => {}
            }
        }
        // It would not be admitted where only users are; of tokens, it is as it was.
        if key == "users" {
            servers.iter().for_each(|server| after["mcpServers"][server]["authTokens"] = json!(["dev"]));
        }
        if key == "caFile" {
            let ca = Identity::new().made.ca;
            std::fs::write(gate.dir.path().join("ca.pem"), ca).unwrap();
        }
        if path == "/far/sse" {
            let mut session = SseSession::open(&gate, path, DEV).await;
            gate.reload(after);
            match ends_sessions {
                true => is_over(&mut session.stream).await,
                false => {
                    let answer = session.ask(&request(1, "tools/list", json!({}))).await;
                    assert!(names(&answer).contains(&"echo".into()), "{key}: {answer}");
                }
            }
        } else {
            let session = Session::open(&gate, path, DEV).await;
            let mut listening = session.listen().await;
            gate.reload(after);
            if ends_sessions {
                is_over(&mut listening).await;
            }
            let status = session.post(&request(1, "tools/list", json!({}))).await.0;
            let wanted = match (ends_sessions, &*key) {
                (true, "disabled") => 503,
                (true, _) => 404,
                (false, _) => 200,
            };
            assert_eq!(status, wanted, "{key}");
        }
        match ends_streams {
            true => assert_eq!(soon(&key, client.rest()).await, b"", "{key}"),
            false => passes(&mut behind, &mut client, "data: 1\n\n").await,
        }
    }
}

#[tokio::test]
async fn a_session_has_the_tools_of_the_rules_in_force_and_is_told_when_they_change() {
    let db = Upstream::bind().await;
    let before = config(&db).await;
    let mut gate = Gate::start(before.clone()).await;
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    let (pid, mut listening) = (session.pid().await, session.listen().await);
    let told = async |listening: &mut _| {
        assert_eq!(event(listening).await["method"], "notifications/tools/list_changed");
    };
    let mut ruled = before.clone();
    ruled["mcpServers"]["small"]["tools"] =
        json!({ "e*": { "roles": ["admin"] }, "log": { "roles": ["admin"], "hide": false } });
    gate.reload(ruled.clone());
    told(&mut listening).await;
    let tools = session.tools().await;
    assert!(!tools.contains(&"echo".into()) && tools.contains(&"log".into()), "{tools:?}");
    let refused = session.ask(&call(1, "echo", json!({ "text": "x" }))).await;
    assert_eq!(refused["error"]["message"], "Unknown tool: echo");
    let (status, body) = session.post(&call(2, "log", json!({}))).await;
    assert!(status == 403 && body.contains("tool_forbidden"), "{status} {body}");
    assert_eq!(session.pid().await, pid, "the same process");

    // A reload that changes nothing of it says nothing: the next that is told is of the next.
    ruled["mcpServers"]["small"]["timeout"] = json!("1m");
    gate.reload(ruled);
    gate.reload(before.clone());
    told(&mut listening).await;
    assert_eq!(session.call("echo", json!({ "text": "again" })).await, "again");
    let mut filtered = before;
    filtered["mcpServers"]["small"]["options"] =
        json!({ "toolFilter": { "mode": "allow", "list": ["pid"] } });
    gate.reload(filtered);
    told(&mut listening).await;
    assert_eq!((session.tools().await, session.pid().await), (vec!["pid".to_owned()], pid));
    assert!(is_alive(pid));
}

#[tokio::test]
async fn a_member_of_all_servers_goes_on_with_the_tools_of_the_rules_in_force() {
    let db = Upstream::bind().await;
    let before = config(&db).await;
    let mut gate = Gate::start(before.clone()).await;
    for path in ["/mcp?servers=small,own", "/sse?servers=small,own"] {
        gate.reload(before.clone());
        let mut ruled = before.clone();
        ruled["mcpServers"]["small"]["tools"] = json!({ "e*": { "roles": ["admin"] } });
        ruled["mcpServers"]["own"]["options"] =
            json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
        if path.starts_with("/mcp") {
            let session = Session::open(&gate, path, DEV).await;
            let mut listening = session.listen().await;
            let pid = session.call("small__pid", json!({})).await;
            assert!(session.tools().await.contains(&"own__drop".into()));
            gate.reload(ruled);
            for _ in ["small", "own"] {
                assert_eq!(event(&mut listening).await["method"], "notifications/tools/list_changed");
            }
            let tools = session.tools().await;
            assert!(
                !tools.contains(&"own__drop".into()) && !tools.contains(&"small__echo".into()),
                "{tools:?}"
            );
            let refused = session.ask(&call(1, "small__echo", json!({ "text": "x" }))).await;
            assert!(refused["error"]["message"].as_str().unwrap().starts_with("Unknown tool"), "{refused}");
            assert_eq!(session.call("small__pid", json!({})).await, pid, "the same process");
        } else {
            let mut session = SseSession::open(&gate, path, DEV).await;
            let pid = session.call("small__pid", json!({})).await;
            gate.reload(ruled);
            for _ in ["small", "own"] {
                assert_eq!(session.event().await["method"], "notifications/tools/list_changed");
            }
            assert_eq!(session.call("small__pid", json!({})).await, pid, "the same process");
        }
    }
}

/// A request that was let in before a reload begins a session after it: its body comes only then.
#[tokio::test]
async fn a_session_that_a_request_of_before_a_reload_begins_is_one_of_now_or_none() {
    let db = Upstream::bind().await;
    let before = config(&db).await;
    let mut gate = Gate::start(before.clone()).await;
    let begins = async |gate: &Gate| {
        let whole = post("/own/mcp", DEV, "Expect: 100-continue\r\n", INITIALIZE);
        let head = whole.strip_suffix(INITIALIZE).unwrap();
        let mut client = gate.client().await;
        client.send(head).await;
        assert!(client.head().await.starts_with("HTTP/1.1 100 "), "it is let in");
        client
    };
    let mut client = begins(&gate).await;
    let mut ruled = before.clone();
    ruled["mcpServers"]["own"]["tools"] = json!({ "drop": { "roles": ["admin"] } });
    gate.reload(ruled);
    client.send(INITIALIZE).await;
    let (status, head, body) = client.response().await;
    assert_eq!(status, 200, "{body}");
    let session = format!("Mcp-Session-Id: {}\r\n", field(&head, "mcp-session-id").unwrap());
    let asked = async |body: &str| -> Value {
        serde_json::from_str(&gate.ask(&post("/own/mcp", DEV, &session, body)).await.2).unwrap()
    };
    assert_eq!(names(&asked(&request(1, "tools/list", json!({}))).await), ["read"]);
    let refused = asked(&call(2, "drop", json!({}))).await;
    assert_eq!(refused["error"]["message"], "Unknown tool: drop");

    // What it would begin is of a server that the config does not have any more.
    let mut client = begins(&gate).await;
    let mut other = before;
    other["mcpServers"]["own"]["inline"] = changed("inline");
    gate.reload(other);
    client.send(INITIALIZE).await;
    let (status, head, body) = client.response().await;
    assert!(status == 503 && field(&head, "mcp-session-id").is_none(), "{status} {body}");
    until("nothing is left", || gate.gateway.shared().sessions.is_empty()).await;
}

/// A server that answers `initialize` when it is told to, and then what it is asked.
#[tokio::test]
async fn a_session_whose_server_had_not_answered_before_a_reload_has_the_tools_of_the_rules_in_force() {
    let server = Upstream::bind().await;
    let config = |rules: Value| {
        json!({ "mcpServers": { "db": {
            "url": server.url("/mcp"), "transportType": "streamable-http", "tools": rules,
        } } })
    };
    let mut gate = Gate::start(config(json!({}))).await;
    let mut stream = gate.client().await;
    stream.send(get("/db/sse", DEV, "Accept: text/event-stream\r\n")).await;
    stream.head().await;
    let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
    let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end().to_owned();
    let posts = async |body: &str| {
        let (status, _, said) = gate.ask(&post(&url, DEV, "", body)).await;
        assert_eq!(status, 202, "{said}");
    };
    posts(INITIALIZE).await;
    let mut behind = server.accept().await;
    behind.until(INITIALIZE).await;
    // Now it opens.
    gate.reload(config(json!({ "drop": { "roles": ["admin"] } })));
    let answer = |id: u64, result: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let info = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#;
    behind.send(answer(0, info)).await;
    assert_eq!(event(&mut stream).await["id"], 0);
    let (list, dropped) = (request(1, "tools/list", json!({})), call(2, "drop", json!({})));
    let answered = async {
        loop {
            let mut behind = server.accept().await;
            let head = behind.head().await;
            if head.starts_with("GET") {
                behind.send("HTTP/1.1 405 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
            behind.until(&list).await;
            behind.send(answer(1, r#"{"tools":[{"name":"read"},{"name":"drop"}]}"#)).await;
            return;
        }
    };
    let asks = post(&url, DEV, "", &list);
    let (asked, ()) = tokio::join!(gate.ask(&asks), answered);
    assert_eq!(asked.0, 202);
    // That the rules have changed is told once the session is open, which may be before an answer.
    let mut next_answer = async || {
        loop {
            let event = event(&mut stream).await;
            if event["method"] != "notifications/tools/list_changed" {
                return event;
            }
        }
    };
    assert_eq!(names(&next_answer().await), ["read"]);
    assert_eq!(gate.ask(&post(&url, DEV, "", &dropped)).await.0, 202);
    assert_eq!(next_answer().await["error"]["message"], "Unknown tool: drop");
}

/// Who began a session may have fewer roles by now, and the rules that ask for them are new.
#[tokio::test]
async fn a_session_has_no_more_than_its_caller_has_now_whatever_came_first() {
    let db = Upstream::bind().await;
    let mut first = config(&db).await;
    first["proxy"]["auth"]["tokens"] = json!({ "dev": { "value": DEV, "roles": ["admin"] } });
    let mut gate = Gate::start(first.clone()).await;
    let session = Session::open(&gate, "/own/mcp", DEV).await;
    let all = Session::open(&gate, "/mcp?servers=own", DEV).await;
    assert_eq!(session.post(&call(1, "drop", json!({}))).await.0, 200);
    // As long as no rule asks for the role, nothing is lost with it.
    let mut without = first.clone();
    without["proxy"]["auth"]["tokens"]["dev"]["roles"] = json!([]);
    gate.reload(without.clone());
    assert_eq!(session.post(&call(2, "drop", json!({}))).await.0, 200);
    without["mcpServers"]["own"]["tools"] = json!({ "drop": { "roles": ["admin"] } });
    gate.reload(without);
    assert_eq!(session.post(&call(3, "drop", json!({}))).await.0, 404, "it was begun with the role");
    assert_eq!(all.post(&call(3, "own__drop", json!({}))).await.0, 404, "it was begun with the role");
    until("it has ended", || gate.gateway.shared().sessions.count("own") == 0).await;
}
