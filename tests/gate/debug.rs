//! `/debug`: how the gateway is at this moment, for operators who asked for it, and for nobody else.

use serde_json::{Value, json};

use crate::{
    harness::{CI, Client, DEV, Gate, OPS, SCRAPER, Upstream, get, open_stream, operators},
    mcp::{Session, command},
    process::Process,
};

const PATHS: [&str; 7] = [
    "/debug",
    "/debug/config",
    "/debug/connections",
    "/debug/sessions",
    "/debug/processes",
    "/debug/ledger",
    "/debug/log",
];

fn config(debug: bool, servers: Value) -> Value {
    json!({
        "proxy": { "auth": { "tokens": operators() }, "admin": { "addr": "127.0.0.1:0" }, "debug": debug },
        "mcpServers": servers,
    })
}

async fn at_admin(gate: &Gate, path: &str) -> (u16, String) {
    let addr = gate.gateway.admin_addr().unwrap();
    let mut client = Client::new(tokio::net::TcpStream::connect(addr).await.unwrap());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let (status, _, body) = client.response().await;
    (status, body)
}

async fn shown(gate: &Gate, path: &str) -> Value {
    let (status, head, body) = gate.ask(&get(path, OPS, "")).await;
    assert_eq!(status, 200, "{path}: {body}");
    assert!(head.to_ascii_lowercase().contains("cache-control: no-store"), "{head}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn it_is_for_admins_and_off_it_is_a_path_like_any_that_leads_nowhere() {
    let mut gate = Gate::start(config(true, json!({ "db": command() }))).await;
    for path in PATHS {
        let no_token = get(path, "x", "").replace("Authorization: Bearer x\r\n", "");
        for (request, status) in [
            (no_token, 401),
            (get(path, "unknown-token-0123456789", ""), 401),
            (get(path, DEV, ""), 403),
            (get(path, SCRAPER, ""), 403),
            (get(path, OPS, ""), 200),
            (get(path, OPS, "").replacen("GET", "HEAD", 1), 200),
            (get(path, OPS, "").replacen("GET", "POST", 1), 405),
            (get(path, OPS, "Origin: https://evil.example\r\n"), 403),
        ] {
            let mut client = gate.client().await;
            client.send(&request).await;
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{head}");
        }
        assert_eq!(at_admin(&gate, path).await.0, 200, "{path}");
    }
    assert_eq!(gate.ask(&get("/debug/other", OPS, "")).await.0, 404);
    let index = shown(&gate, "/debug").await;
    assert_eq!(index["paths"], json!(PATHS[1..]));

    gate.reload(config(false, json!({ "db": command() })));
    for path in PATHS.into_iter().chain(["/debug/other", "/debug/"]) {
        for token in [DEV, SCRAPER, OPS] {
            let (status, _, body) = gate.ask(&get(path, token, "")).await;
            assert!(status == 404 && body.contains("not_found"), "{path}: {status} {body}");
        }
        assert_eq!(gate.ask(&get(path, "unknown-token-0123456789", "")).await.0, 401, "{path}");
        assert_eq!(at_admin(&gate, path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn it_shows_what_there_is() {
    let server = Upstream::bind().await;
    let servers = json!({ "db": { "url": server.url("/mcp") }, "files": command() });
    let gate = Gate::start(config(true, servers)).await;
    let _stream = open_stream(gate.addr, &server, DEV).await;
    let session = Session::open(&gate, "/files/mcp", DEV).await;
    assert!(!session.tools().await.is_empty());
    let connections = shown(&gate, "/debug/connections").await;
    assert_eq!(connections["streams"], json!({ "db": 1, "files": 0, "mcp": 0 }));
    let number = |key: &str| connections[key].as_u64().unwrap();
    assert!(
        number("open") >= 2 && number("admitted") >= 1 && number("limit") > number("open"),
        "{connections}"
    );
    assert_eq!(shown(&gate, "/debug/sessions").await, json!({ "total": 1, "servers": { "files": 1 } }));
    let files = json!({ "files": { "running": 1, "restarts": 0, "stopped": false } });
    assert_eq!(shown(&gate, "/debug/processes").await, json!({ "total": 1, "servers": files }));
    let ledger = shown(&gate, "/debug/ledger").await;
    assert_eq!(
        (&ledger["owners"]["token:dev"]["sessions"], &ledger["totals"]["sessions"]["used"]),
        (&json!(1), &json!(1))
    );
    assert!(ledger["owners"]["token:dev"]["requests"].as_u64() >= Some(1), "{ledger}");
    let log = shown(&gate, "/debug/log").await;
    let lines = log["lines"].as_array().unwrap();
    assert!(
        lines.iter().any(|line| line["msg"] == "Authenticated request" && line["server"] == "db"),
        "{log}"
    );
}

#[tokio::test]
async fn the_config_is_the_one_in_force_and_has_no_secret() {
    const CANARY: &str = "canary-0123456789abcdef";
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("ca.pem"), CANARY).unwrap();
    let config = json!({
        "proxy": {
            "auth": { "tokens": {
                "ops": { "value": OPS, "roles": ["admin"] },
                "canary": [CANARY, { "value": format!("another-{CANARY}"), "expires": "2099-01-01T00:00:00Z" }],
            } },
            "sessionKey": format!("{CANARY}{CANARY}"),
            "debug": true,
            "baseUrl": format!("http://localhost/{CANARY}"),
            "stateDir": dir.path().join(CANARY),
            "audit": { "file": dir.path().join(CANARY) },
        },
        "mcpServers": {
            "db": { "url": format!("http://127.0.0.1:1/{CANARY}?key={CANARY}"), "headers": { "X-Key": CANARY },
                    "authTokens": ["canary"] },
            "files": { "command": CANARY, "args": [CANARY], "env": { "KEY": CANARY }, "cwd": dir.path(), "tags": ["web"] },
            "own": { "inline": { "description": CANARY, "tools": [
                { "name": "x", "description": CANARY, "command": "true", "args": [CANARY], "env": { "KEY": CANARY } },
            ] } },
        },
    });
    let mut gate = Gate::start(config.clone()).await;
    gate.ask(&get(&format!("/db/mcp?x={CANARY}"), CANARY, "")).await;
    for path in PATHS {
        let shown = shown(&gate, path).await.to_string();
        assert!(!shown.contains("0123456789abcdef"), "{path}: {shown}");
    }
    let first = shown(&gate, "/debug/config").await;
    let servers = &first["config"]["mcpServers"];
    assert_eq!(servers["db"], json!({ "url": "…", "headers": { "X-Key": "…" }, "authTokens": ["canary"] }));
    assert_eq!(
        (&servers["files"]["tags"], &servers["files"]["env"]),
        (&json!(["web"]), &json!({ "KEY": "…" }))
    );
    assert_eq!(first["config"]["proxy"]["debug"], true);
    let mut changed = config;
    changed["mcpServers"].as_object_mut().unwrap().remove("files");
    gate.reload(changed);
    let second = shown(&gate, "/debug/config").await;
    assert!(second["config"]["mcpServers"]["files"].is_null() && first["hash"] != second["hash"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_refused_config_takes_away_is_not_shown_as_in_force() {
    let mut good = config(true, json!({ "db": command(), "files": command() }));
    good["proxy"]["auth"]["tokens"]["ci"] = json!(CI);
    let gate = Process::start(good.clone()).await;
    let mut broken = good;
    broken["mcpServers"].as_object_mut().unwrap().remove("files");
    broken["proxy"]["auth"]["tokens"].as_object_mut().unwrap().remove("ci");
    broken["proxy"]["name"] = json!(7);
    gate.save(broken);
    gate.answers("/db/mcp", CI, 401).await;
    let (_, shown) = gate.get("/debug/config", OPS).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let proxy = &shown["config"]["proxy"];
    assert_eq!((&proxy["name"], &proxy["auth"]["tokens"]["ci"]), (&json!("test gate"), &Value::Null));
    assert_eq!(proxy["auth"]["tokens"]["dev"], "…");
    assert!(
        shown["config"]["mcpServers"]["files"].is_null() && shown["config"]["mcpServers"]["db"].is_object()
    );
}

#[tokio::test]
async fn the_log_is_kept_only_while_it_can_be_seen_and_only_so_much_of_it() {
    let servers = || json!({ "own": { "inline": { "tools": [{ "name": "x", "command": "true" }] } } });
    let mut gate = Gate::start(config(false, servers())).await;
    let log = gate.observer.log.clone();
    gate.ask(&get("/own/mcp", DEV, "")).await;
    assert!(log.recent().is_empty());
    gate.reload(config(true, servers()));
    let mut client = gate.client().await;
    for _ in 0..600 {
        client.send(get("/own/mcp", DEV, "")).await;
        client.response().await;
    }
    assert_eq!(shown(&gate, "/debug/log").await["lines"].as_array().unwrap().len(), 500);
    gate.reload(config(false, servers()));
    gate.ask(&get("/own/mcp", DEV, "")).await;
    assert!(log.recent().is_empty());
}
