//! `proxy.audit`: one line for each decision about a request, which keeps nobody waiting and has no secret.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, OPS, Upstream, get, open_stream, operators, post, shutdown, until},
    mcp::{Session, call, command, modern_call},
    process::Process,
    recorder::Recorder,
};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);
const NO_TOKEN: &str = "GET /db/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn file(gate: &Gate) -> PathBuf {
    gate.dir.path().join("audit.log")
}

/// The lines of an audit file, each of which must be one JSON object. A write that crosses a page of the file can be seen
/// in part, so what no line break ends yet is no line.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines, once there are so many.
async fn so_many(path: &Path, count: usize) -> Vec<Value> {
    until(&format!("{count} audit lines"), || lines(path).len() >= count).await;
    let lines = lines(path);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

/// What a line says of the decision, without what every line has.
fn decision(line: &Value) -> Value {
    let mut line = line.clone();
    let fields = line.as_object_mut().unwrap();
    for key in ["time", "level", "msg", "peer", "request_id", "line"] {
        let is_there = fields.remove(key).is_some();
        assert!(is_there || key == "line", "no {key}: {fields:?}");
    }
    line
}

fn config(audit: Value, servers: Value) -> Value {
    let mut tokens = operators();
    tokens["ci"] = json!(CI);
    json!({ "proxy": { "auth": { "tokens": tokens }, "audit": audit }, "mcpServers": servers })
}

#[tokio::test]
async fn each_decision_is_a_line_with_who_what_and_the_rule_that_decides() {
    let server = Recorder::start().await;
    let servers = json!({
        "db": { "url": server.url("/mcp"), "authTokens": ["dev"] },
        "docs": { "url": server.url("/mcp"), "public": true },
        "open": { "url": server.url("/mcp") },
    });
    let gate = Gate::start(config(json!({ "file": "audit.log" }), servers)).await;
    let dev = json!({ "principal": "token:dev", "token_name": "dev" });
    let with = |more: Value, who: &Value| {
        let mut wanted = who.clone();
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wanted
    };
    let (ci, ops) = (
        json!({ "principal": "token:ci", "token_name": "ci" }),
        json!({ "principal": "token:ops", "token_name": "ops" }),
    );
    let (allow, deny, get_) = ("allow", "deny", "GET");
    let by_tokens = "mcpServers.db.authTokens";
    for (request, status, wanted) in [
        (
            get("/db/mcp", DEV, ""),
            200,
            with(
                json!({ "verdict": allow, "server": "db", "rule": by_tokens, "method": get_, "path": "/db/mcp" }),
                &dev,
            ),
        ),
        (
            post("/db/mcp", DEV, "Mcp-Method: tools/call\r\nMcp-Name: CANARY\r\n", "{}"),
            200,
            with(
                json!({ "verdict": allow, "server": "db", "rule": by_tokens, "method": "POST", "path": "/db/mcp",
                        "rpc_method": "tools/call" }),
                &dev,
            ),
        ),
        (
            get("/db/mcp", CI, ""),
            403,
            with(
                json!({ "verdict": deny, "server": "db", "rule": by_tokens, "reason": "insufficient_scope", "method": get_,
                        "path": "/db/mcp" }),
                &ci,
            ),
        ),
        (
            get("/open/mcp", CI, ""),
            200,
            with(
                json!({ "verdict": allow, "server": "open", "rule": "mcpServers.open", "method": get_, "path": "/open/mcp" }),
                &ci,
            ),
        ),
        (
            get("/docs/mcp", "x", "").replace("Authorization: Bearer x\r\n", ""),
            200,
            json!({ "verdict": allow, "principal": "nobody", "server": "docs", "rule": "mcpServers.docs.public",
                    "method": get_, "path": "/docs/mcp" }),
        ),
        (
            NO_TOKEN.into(),
            401,
            json!({ "verdict": deny, "server": "db", "rule": "no_token", "reason": "unauthorized", "method": get_,
                    "path": "/db/mcp" }),
        ),
        (
            get("/db/mcp", "CANARY", ""),
            401,
            json!({ "verdict": deny, "server": "db", "rule": "proxy.auth.tokens", "reason": "invalid_token",
                    "method": get_, "path": "/db/mcp" }),
        ),
        (
            get("/db/mcp?token=CANARY", "x", "").replace("Authorization: Bearer x\r\n", ""),
            401,
            json!({ "verdict": deny, "server": "db", "rule": "proxy.auth.queryToken", "reason": "query_token_disabled",
                    "method": get_, "path": "/db/mcp" }),
        ),
        (
            get("/CANARY/mcp", "CANARY", ""),
            401,
            json!({ "verdict": deny, "rule": "proxy.auth.tokens", "reason": "invalid_token", "method": get_, "path": "/…/mcp" }),
        ),
        (
            get("/CANARY/mcp", DEV, ""),
            404,
            with(json!({ "verdict": deny, "reason": "not_found", "method": get_, "path": "/…/mcp" }), &dev),
        ),
        (
            get("/db/mcp", DEV, "").replace("localhost", "CANARY.example"),
            403,
            json!({ "verdict": deny, "rule": "proxy.allowedHosts", "reason": "forbidden_host", "method": get_,
                    "path": "/db/mcp" }),
        ),
        (
            get("/db/mcp", DEV, "Mcp-Session-Id: CANARY\r\n"),
            404,
            with(
                json!({ "verdict": deny, "server": "db", "reason": "session_not_found", "method": get_, "path": "/db/mcp" }),
                &dev,
            ),
        ),
        // Who may pass may ask in a way that is not served.
        (
            get("/db/message", DEV, ""),
            405,
            with(
                json!({ "verdict": allow, "server": "db", "rule": by_tokens, "reason": "method_not_allowed",
                        "method": get_, "path": "/db/message" }),
                &dev,
            ),
        ),
        (
            get("/servers", OPS, ""),
            200,
            with(
                json!({ "verdict": allow, "rule": "proxy.auth.tokens.ops.roles", "method": get_, "path": "/servers" }),
                &ops,
            ),
        ),
        (
            post("/servers/db/stop", DEV, "", ""),
            403,
            with(
                json!({ "verdict": deny, "rule": "proxy.auth.tokens.dev", "reason": "insufficient_scope",
                        "method": "POST", "path": "/servers/db/stop" }),
                &dev,
            ),
        ),
    ] {
        let before = lines(&file(&gate)).len();
        assert_eq!(gate.ask(&request).await.0, status, "{request}");
        let lines = so_many(&file(&gate), before + 1).await;
        let line = lines.last().unwrap();
        assert_eq!(decision(line), wanted, "{request}");
        assert_eq!(
            (&line["msg"], line["peer"].as_str().map(|peer| &peer[..10])),
            (&json!("Audit"), Some("127.0.0.1:"))
        );
    }
    // What nobody decides about has no line: health, a preflight, what is no request.
    let count = lines(&file(&gate)).len();
    for (request, status) in [
        ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 200),
        ("OPTIONS /db/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 204),
        (get("/db//mcp", DEV, ""), 400),
        ("GET /.well-known/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
    ] {
        assert_eq!(gate.ask(&request).await.0, status, "{request}");
    }
    gate.ask(&get("/db/mcp", DEV, "")).await;
    let lines = so_many(&file(&gate), count + 1).await;
    // The same number as in the log, and the line of the file.
    let last = lines.last().unwrap();
    assert_eq!(last["line"], 1);
    let id = last["request_id"].as_str().unwrap();
    let logged = gate.log.line_with("request_id", id).await;
    assert_eq!((&logged["peer"], &logged["msg"]), (&last["peer"], &json!("Authenticated request")));
    let mode = fs::metadata(file(&gate)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!fs::read_to_string(file(&gate)).unwrap().contains("CANARY"));
}

#[tokio::test]
async fn a_call_says_its_tool_if_it_is_asked_to_and_in_the_aggregate_whose_it_is() {
    let hidden = json!({ "mode": "block", "list": ["pid"] });
    let mut files = command();
    files["options"] = json!({ "toolFilter": hidden });
    let mut own = command();
    own["authTokens"] = json!(["ci"]);
    let servers = json!({ "files": files, "own": own });
    for shows in [true, false] {
        let audit = json!({ "file": "audit.log", "tools": shows });
        let gate = Gate::start(config(audit, servers.clone())).await;
        let mut before = 0;
        for (path, prefix) in [("/mcp", "files__"), ("/files/mcp", "")] {
            for tool in ["echo", "pid"] {
                gate.ask(&modern_call(path, DEV, 1, &format!("{prefix}{tool}"), json!({ "text": "CANARY" })))
                    .await;
                before += 1;
                let lines = so_many(&file(&gate), before).await;
                let line = &lines[before - 1];
                let (verdict, rule, reason) = match (tool, path) {
                    ("echo", _) => ("allow", "mcpServers.files.options.toolFilter", Value::Null),
                    _ => ("deny", "mcpServers.files.options.toolFilter", json!("tool_not_allowed")),
                };
                let shown = if shows { json!(tool) } else { Value::Null };
                assert_eq!(
                    [
                        &line["verdict"],
                        &line["server"],
                        &line["rule"],
                        &line["reason"],
                        &line["tool"],
                        &line["path"]
                    ],
                    [&json!(verdict), &json!("files"), &json!(rule), &reason, &shown, &json!(path)],
                    "{line}"
                );
                assert_eq!((&line["rpc_method"], &line["token_name"]), (&json!("tools/call"), &json!("dev")));
            }
        }
        // Whoever may not use a member does not learn that there is one; the audit says what was tried.
        gate.ask(&modern_call("/mcp", DEV, 1, "own__echo", json!({}))).await;
        let session = Session::open(&gate, "/mcp", DEV).await;
        session.ask(&call(1, "own__echo", json!({}))).await;
        let tried = |line: &&Value| line["server"] == "own";
        until("both calls", || lines(&file(&gate)).iter().filter(tried).count() == 2).await;
        for line in lines(&file(&gate)).iter().filter(tried) {
            assert_eq!(
                (&line["verdict"], &line["rule"], &line["reason"]),
                (&json!("deny"), &json!("mcpServers.own.authTokens"), &json!("insufficient_scope")),
                "{line}"
            );
        }
        assert!(!fs::read_to_string(file(&gate)).unwrap().contains("CANARY"));
    }
}

#[tokio::test]
async fn the_aggregate_says_whose_tool_is_called_whatever_it_is_called() {
    let hidden = json!({ "mode": "block", "list": ["pid"] });
    let mut files = command();
    files["options"] = json!({ "toolFilter": hidden });
    for aggregate in
        [json!({ "mode": "flat" }), json!({ "lazy": true }), json!({ "mode": "flat", "lazy": true })]
    {
        let mut config = config(json!({ "file": "audit.log", "tools": true }), json!({ "files": files }));
        config["proxy"]["aggregate"] = aggregate.clone();
        let gate = Gate::start(config).await;
        let (is_flat, is_lazy) = (aggregate["mode"] == "flat", aggregate["lazy"] == true);
        let prefix = if is_flat { "" } else { "files__" };
        let session = Session::open(&gate, "/mcp", DEV).await;
        let of_files = || lines(&file(&gate)).into_iter().filter(|line| line["server"] == "files");
        for modern in [true, false] {
            let before = of_files().count();
            let name = format!("{prefix}echo");
            let (tool, arguments) = match is_lazy {
                true => ("tool_invoke", json!({ "name": name, "arguments": { "text": "CANARY" } })),
                false => (&*name, json!({ "text": "CANARY" })),
            };
            match modern {
                true => assert_eq!(gate.ask(&modern_call("/mcp", DEV, 1, tool, arguments)).await.0, 200),
                false => drop(session.ask(&call(1, tool, arguments)).await),
            }
            until("the line of the call", || of_files().count() > before).await;
            let line = of_files().next_back().unwrap();
            let shown = if is_lazy { Value::Null } else { json!("echo") };
            assert_eq!(
                [&line["verdict"], &line["rule"], &line["tool"]],
                [&json!("allow"), &json!("mcpServers.files.options.toolFilter"), &shown],
                "{aggregate} {line}"
            );
        }
        assert!(!fs::read_to_string(file(&gate)).unwrap().contains("CANARY"));
    }
}

#[tokio::test]
async fn strangers_have_a_line_a_reason_and_whoever_is_known_has_one_a_request() {
    let server = Recorder::start().await;
    let servers = json!({ "db": { "url": server.url("/mcp"), "authTokens": ["dev"] } });
    let gate = Gate::start_pausing(config(json!({ "file": "audit.log" }), servers), LONG).await;
    let (mut client, rounds) = (gate.client().await, 50);
    for _ in 0..rounds {
        for request in [get("/db/mcp", "nobody", ""), NO_TOKEN.into(), get("/db/mcp", CI, "")] {
            client.send(request).await;
            assert!((401..=403).contains(&client.response().await.0));
        }
    }
    let count = |reason: &str| lines(&file(&gate)).iter().filter(|line| line["reason"] == reason).count();
    until("each refusal of a token that is known", || count("insufficient_scope") == rounds).await;
    assert_eq!((count("invalid_token"), count("unauthorized")), (1, 1));
    // At the end it says how many more there were.
    drop(client);
    let Gate { gateway, dir, .. } = gate;
    shutdown(gateway, Duration::ZERO).await;
    let lines = lines(&dir.path().join("audit.log"));
    for reason in ["invalid_token", "unauthorized"] {
        let left_out: u64 = lines
            .iter()
            .filter(|line| line["reason"] == reason)
            .filter_map(|line| line["suppressed"].as_u64())
            .sum();
        assert_eq!(left_out, rounds as u64 - 1, "{reason}");
    }
}

#[tokio::test]
async fn a_reload_turns_it_on_moves_it_and_turns_it_off_and_without_a_file_it_is_in_the_log() {
    let server = Recorder::start().await;
    let servers = json!({ "db": { "url": server.url("/mcp") } });
    let mut gate = Gate::start(config(json!({ "file": "one.log" }), servers.clone())).await;
    let without = || {
        let mut config = config(json!({}), servers.clone());
        config["proxy"].as_object_mut().unwrap().remove("audit");
        config
    };
    let path = |name: &str| gate.dir.path().join(name);
    let (one, two) = (path("one.log"), path("two.log"));
    assert_eq!(gate.ask(&get("/db/mcp", DEV, "")).await.0, 200);
    so_many(&one, 1).await;
    gate.reload(config(json!({ "file": "two.log" }), servers.clone()));
    gate.ask(&get("/db/mcp", DEV, "")).await;
    so_many(&two, 1).await;
    // The same place again, which nothing is lost of.
    gate.reload(config(json!({ "file": "two.log", "tools": true }), servers.clone()));
    gate.ask(&get("/db/mcp", DEV, "")).await;
    so_many(&two, 2).await;
    let in_log = |gate: &Gate| gate.log.all().iter().filter(|line| line["msg"] == "Audit").count();
    assert_eq!(in_log(&gate), 0);
    gate.reload(without());
    gate.ask(&get("/db/mcp", DEV, "")).await;
    // Whatever the level of the log is.
    let mut quiet = config(json!({}), servers.clone());
    quiet["proxy"]["log"] = json!({ "level": "error" });
    gate.reload(quiet);
    gate.ask(&get("/db/mcp", DEV, "")).await;
    let line = gate.log.line("Audit", &[]).await;
    assert_eq!((&line["verdict"], &line["server"]), (&json!("allow"), &json!("db")));
    assert_eq!((lines(&one).len(), lines(&two).len(), in_log(&gate)), (1, 2, 1));
    assert_eq!(gate.observer.metrics.audit_dropped.get(), 0);
}

/// Where bytes pass, nothing has to read them; the audit has what is said where it is looked for.
#[tokio::test]
async fn a_call_that_passes_byte_for_byte_has_its_tool_from_the_body() {
    let server = Recorder::start().await;
    let block = json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
    let servers = json!({
        "db": { "url": server.url("/mcp") }, "few": { "url": server.url("/mcp"), "options": block },
    });
    let large = call(1, "read", json!({ "text": "x".repeat(100_000) }));
    let (read, fields) = (call(1, "read", json!({})), "Mcp-Method: tools/call\r\nMcp-Name: write\r\n");
    for tools in [true, false] {
        let audit = json!({ "file": "audit.log", "tools": tools });
        let gate = Gate::start(config(audit, servers.clone())).await;
        let said = async |request: String, lines: usize| {
            assert_eq!(gate.ask(&request).await.0, 200, "{request}");
            let line = so_many(&file(&gate), lines).await.pop().unwrap();
            let field = |name: &str| line[name].as_str().map(str::to_owned);
            (field("rpc_method"), field("tool"), field("verdict").unwrap())
        };
        let is = |method: Option<&str>, tool: Option<&str>, verdict: &str| {
            (method.map(str::to_owned), tool.filter(|_| tools).map(str::to_owned), verdict.to_owned())
        };
        // Not asked for, the body is not read.
        let method = tools.then_some("tools/call");
        let small = said(post("/db/mcp", DEV, "", &read), 1).await;
        assert_eq!(small, is(method, Some("read"), "allow"));
        let lied = said(post("/db/mcp", DEV, fields, &read), 2).await;
        assert_eq!(lied, is(Some("tools/call"), Some(if tools { "read" } else { "write" }), "allow"));
        let list =
            said(post("/db/mcp", DEV, "", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), 3).await;
        assert_eq!(list, is(tools.then_some("tools/list"), None, "allow"));
        // One that is larger than what is awaited is not looked into, and has what its fields say.
        assert_eq!(said(post("/db/mcp", DEV, "", &large), 4).await, is(None, None, "allow"));
        let declared = said(post("/db/mcp", DEV, fields, &large), 5).await;
        assert_eq!(declared, is(Some("tools/call"), Some("write"), "allow"));
        // Where it is looked into all the same, it has what it says itself, and a refusal names the tool, too.
        let filtered = said(post("/few/mcp", DEV, "", &large), 6).await;
        assert_eq!(filtered, is(Some("tools/call"), Some("read"), "allow"));
        let refused = said(post("/few/mcp", DEV, "", &call(1, "drop", json!({}))), 7).await;
        assert_eq!(refused, is(Some("tools/call"), Some("drop"), "deny"));
        // What is no message is none, and goes its way.
        assert_eq!(said(post("/db/mcp", DEV, "", "{"), 8).await, is(None, None, "allow"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_moved_is_opened_again_at_sighup() {
    let server = Recorder::start().await;
    let dir = tempfile::TempDir::new().unwrap();
    let (path, moved) = (dir.path().join("audit.log"), dir.path().join("audit.log.1"));
    let servers = json!({ "db": { "url": server.url("/mcp") } });
    let gate = Process::start(config(json!({ "file": path }), servers)).await;
    assert_eq!(gate.get("/db/mcp", DEV).await.0, 200);
    so_many(&path, 1).await;
    fs::rename(&path, &moved).unwrap();
    // Until then it goes where the file went.
    assert_eq!(gate.get("/db/mcp", DEV).await.0, 200);
    so_many(&moved, 2).await;
    gate.signal(Signal::HUP);
    gate.log.line("Config reloaded", &[]).await;
    assert_eq!(gate.get("/db/mcp", DEV).await.0, 200);
    so_many(&path, 1).await;
    so_many(&moved, 2).await;
}

#[tokio::test]
async fn neither_a_full_disk_nor_a_reader_that_stalls_keeps_a_request_or_the_end_waiting() {
    let server = Recorder::start().await;
    let servers = json!({ "db": { "url": server.url("/mcp") } });
    let gate = Gate::start(config(json!({ "file": "/dev/full" }), servers.clone())).await;
    assert_eq!(gate.ask(&get("/db/mcp", DEV, "")).await.0, 200);
    let line = gate.log.line_with("file", "/dev/full").await;
    assert_eq!(line["level"], "ERROR", "{line}");
    until("the lost line is counted", || gate.observer.metrics.audit_dropped.get() >= 1).await;
    assert!(gate.metrics().contains("sluicegate_audit_dropped_total "));

    // To open a pipe waits for who reads it.
    let mut gate = Gate::start(config(json!({ "file": "other.log" }), servers.clone())).await;
    let pipe = gate.dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    gate.reload(config(json!({ "file": "pipe" }), servers));
    let mut client = gate.client().await;
    // More than wait.
    for _ in 0..8192 + 100 {
        client.send(get("/db/mcp", DEV, "")).await;
        assert_eq!(client.response().await.0, 200);
    }
    assert!(gate.observer.metrics.audit_dropped.get() >= 100);
    drop(client);
    let Gate { gateway, dir, .. } = gate;
    shutdown(gateway, Duration::ZERO).await;
    drop(dir);
}

#[tokio::test]
async fn no_secret_is_in_it_wherever_a_client_puts_one() {
    const CANARY: &str = "canary-0123456789abcdef";
    /// Its name and it, as `Basic` has them.
    const BASIC: &str = "Y2FuYXJ5OmNhbmFyeS0wMTIzNDU2Nzg5YWJjZGVm";
    let schemes = ["bearer", "basic", "apikey", "x-api-key", "cookie"];
    let server = Recorder::start().await;
    let mut tokens = operators();
    tokens["canary"] = json!(CANARY);
    let servers = json!({
        "db": { "url": server.url("/mcp") },
        "docs": { "url": server.url("/mcp"), "public": true },
        "files": command(),
    });
    let config = json!({
        "proxy": { "auth": { "tokens": tokens, "queryToken": true, "schemes": schemes }, "audit": { "file": "audit.log", "tools": true } },
        "mcpServers": servers,
    });
    let gate = Gate::start(config).await;
    let mut count = 0;
    for path in ["/db/mcp", "/docs/mcp", "/files/mcp", "/mcp"] {
        for request in [
            modern_call(path, CANARY, 1, CANARY, json!({ "text": CANARY })),
            modern_call(path, CANARY, 1, "echo", json!({ CANARY: CANARY })),
            modern_call(path, CANARY, 1, &format!("x{CANARY}x"), json!({})),
            post(&format!("{path}?token={CANARY}"), "", "", &call(1, CANARY, json!({})))
                .replace("Authorization: Bearer \r\n", ""),
            get(
                path,
                CANARY,
                &format!("Mcp-Session-Id: {CANARY}\r\nX-Custom: {CANARY}\r\ntraceparent: {CANARY}\r\n"),
            ),
            modern_call(path, "x", 1, CANARY, json!({})).replace("Bearer x", &format!("Basic {BASIC}")),
            modern_call(path, "x", 1, BASIC, json!({})).replace("Bearer x", &format!("Basic {BASIC}")),
            modern_call(path, "x", 1, CANARY, json!({})).replace("Bearer x", &format!("ApiKey {CANARY}")),
            modern_call(path, "x", 1, CANARY, json!({}))
                .replace("Authorization: Bearer x", &format!("X-API-Key: {CANARY}")),
            modern_call(path, "x", 1, CANARY, json!({}))
                .replace("Authorization: Bearer x", &format!("Cookie: a=b; token={CANARY}")),
            get(path, CANARY, "").replace("GET ", &format!("{CANARY} ")),
            get(path, DEV, "").replace("Bearer ", &format!("{CANARY} ")),
            get(&format!("{path}/{CANARY}"), CANARY, ""),
        ] {
            gate.ask(&request).await;
            count += 1;
        }
    }
    until("a line for each", || lines(&file(&gate)).len() >= count - 8).await;
    let text = fs::read_to_string(file(&gate)).unwrap();
    assert!(!text.contains("0123456789abcdef") && !text.contains(&BASIC[..12]), "{text}");
    assert!(text.matches("\"verdict\":\"allow\",\"principal\":\"token:canary\"").count() > 20);
    assert!(!gate.log.text().contains("0123456789abcdef"));
}

#[tokio::test]
async fn a_stream_has_its_line_when_it_begins_and_one() {
    let server = Upstream::bind().await;
    let servers = json!({ "db": { "url": server.url("/mcp") } });
    let gate = Gate::start(config(json!({ "file": "audit.log" }), servers)).await;
    let (client, behind) = open_stream(gate.addr, &server, DEV).await;
    so_many(&file(&gate), 1).await;
    drop((client, behind));
    gate.log.line("Stream closed", &[]).await;
    so_many(&file(&gate), 1).await;
    // Whoever leaves before there is an answer was let in all the same.
    let mut client = gate.client().await;
    client.send(get("/db/mcp", DEV, "")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    drop(client);
    so_many(&file(&gate), 2).await;
}

#[tokio::test]
async fn the_path_of_a_request_that_is_cut_before_its_refusal_is_not_shown() {
    let server = Recorder::start().await;
    let servers = json!({ "db": { "url": server.url("/mcp") } });
    let gate = Gate::start(config(json!({ "file": "audit.log" }), servers)).await;
    let mut client = gate.client().await;
    // Of a small body the rest is awaited, so that its client is there to read the refusal.
    client.send("POST /CANARY/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").await;
    until("the refusal", || gate.metrics().contains("auth_refused_total{reason=\"unauthorized\"} 1")).await;
    let Gate { gateway, dir, log, .. } = gate;
    shutdown(gateway, Duration::ZERO).await;
    let line = log.line("Refused request", &[]).await;
    assert_eq!((&line["path"], &line["reason"]), (&json!("…"), &json!("unauthorized")), "{line}");
    assert_eq!(so_many(&dir.path().join("audit.log"), 1).await[0]["path"], "…");
    assert!(!log.text().contains("CANARY"));
}
