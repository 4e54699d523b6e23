//! What a caller is limited to, and what the role `admin` passes: on requests, lists, the aggregate, and by removal.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    harness::{Client, DEV, Gate, Upstream, get, passes, post, soon},
    mcp::{INITIALIZE, modern, names},
    process::Process,
    recorder::Recorder,
};

const WEB: &str = "web-token-0123456789abcdef";
const ONE: &str = "one-token-0123456789abcdef";
const NONE: &str = "none-token-0123456789abcdef";
const ADMIN: &str = "admin-token-0123456789abcdef";
const KEPT_IN: &str = "kept-in-token-0123456789abcdef";

/// Tokens that are limited in one way each, before servers of which `a` and `b` have tags and `c` is public.
fn config(url: &str) -> Value {
    let tool = json!([{ "name": "t", "command": "true" }]);
    let inline = |more: Value| {
        let mut server = json!({ "inline": { "tools": tool } });
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server
    };
    json!({
        "proxy": { "auth": { "tokens": {
            "dev": DEV,
            "web": { "value": WEB, "tags": ["web"] },
            "one": { "value": ONE, "servers": ["b"] },
            "none": { "value": NONE, "servers": [], "tags": [] },
            "admin": { "value": ADMIN, "roles": ["admin"] },
            "kept-in": { "value": KEPT_IN, "roles": ["admin"], "servers": ["b"] },
        } } },
        "mcpServers": {
            "db": { "url": url, "tags": ["web", "sql"] },
            "a": inline(json!({ "tags": ["web"] })),
            "b": inline(json!({ "authTokens": ["dev", "one"] })),
            "c": inline(json!({ "public": true })),
        },
    })
}

async fn status(gate: &Gate, server: &str, token: &str) -> u16 {
    gate.ask(&post(&format!("/{server}/mcp"), token, "", INITIALIZE)).await.0
}

/// The tools that the aggregate lists.
async fn listed(gate: &Gate, token: &str) -> Vec<String> {
    let (status, _, body) = gate.ask(&modern("/mcp", token, 1, "tools/list", json!({}))).await;
    assert_eq!(status, 200, "{body}");
    names(&serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_caller_gets_no_further_than_its_servers_and_tags() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server.url("/mcp"))).await;
    for (token, wanted, tools) in [
        (DEV, [200, 200, 200, 200], &["a__t", "b__t", "c__t"][..]),
        (WEB, [200, 200, 403, 200], &["a__t", "c__t"]),
        (ONE, [403, 403, 200, 200], &["b__t", "c__t"]),
        (NONE, [403, 403, 403, 200], &["c__t"]),
        (ADMIN, [200, 200, 403, 200], &["a__t", "c__t"]),
        (KEPT_IN, [403, 403, 403, 200], &["c__t"]),
    ] {
        for (name, wanted) in ["db", "a", "b", "c"].into_iter().zip(wanted) {
            assert_eq!(status(&gate, name, token).await, wanted, "{name} {token}");
        }
        assert_eq!(listed(&gate, token).await, tools, "{token}");
    }
    // The way there does not matter, and what is closed is as if it were not there.
    for (path, tools) in [("/mcp?servers=b", &[][..]), ("/mcp?tags=web", &["a__t"])] {
        let (_, _, body) = gate.ask(&modern(path, WEB, 1, "tools/list", json!({}))).await;
        assert_eq!(names(&serde_json::from_str(&body).unwrap()), tools, "{path}");
    }
    let line = gate.log.line("Refused request", &[("reason", json!("insufficient_scope"))]).await;
    assert_eq!(line["status"], 403);
}

#[tokio::test]
async fn admin_sees_all_opens_the_rules_of_servers_and_not_the_limits_of_the_caller() {
    let server = Recorder::start().await;
    let mut config = config(&server.url("/mcp"));
    config["proxy"]["auth"]["adminSeesAll"] = json!(true);
    let gate = Gate::start(config).await;
    assert_eq!(listed(&gate, ADMIN).await, ["a__t", "b__t", "c__t"]);
    assert_eq!((status(&gate, "b", ADMIN).await, status(&gate, "b", KEPT_IN).await), (200, 200));
    assert_eq!((status(&gate, "db", KEPT_IN).await, status(&gate, "b", WEB).await), (403, 403));
    // What the gateway says of itself is no server.
    assert_eq!(gate.ask(&get("/servers", KEPT_IN, "")).await.0, 200);
}

async fn open_stream(gate: &Gate, server: &Upstream, token: &str) -> [Client<tokio::net::TcpStream>; 2] {
    let (client, behind) = crate::harness::open_stream(gate.addr, server, token).await;
    [client, behind]
}

/// Takes something away from whoever has the token `web`.
type Removal = fn(&mut Value);

#[tokio::test]
async fn what_is_taken_away_ends_the_streams_that_it_had_opened_and_no_others() {
    let removals: [(&str, Removal); 5] = [
        ("a tag of the caller", |config| config["proxy"]["auth"]["tokens"]["web"]["tags"] = json!(["other"])),
        ("a server of the caller", |config| {
            config["proxy"]["auth"]["tokens"]["web"]["servers"] = json!(["a"])
        }),
        ("a tag of the server", |config| config["mcpServers"]["db"]["tags"] = json!(["sql"])),
        ("a role of the caller", |config| {
            config["proxy"]["auth"]["tokens"]["web"]["roles"] = json!(["other"])
        }),
        ("what the role admin passes", |config| config["proxy"]["auth"]["adminSeesAll"] = json!(false)),
    ];
    let server = Upstream::bind().await;
    let mut before = config(&server.url("/mcp"));
    before["proxy"]["auth"]["adminSeesAll"] = json!(true);
    before["proxy"]["auth"]["tokens"]["web"]["roles"] = json!(["admin"]);
    before["proxy"]["auth"]["tokens"]["dev"] = json!({ "value": DEV, "roles": ["x"] });
    before["mcpServers"]["db"]["roles"] = json!(["x"]);
    let mut gate = Gate::start(before.clone()).await;
    for (what, remove) in removals {
        gate.reload(before.clone());
        let [mut goes, mut behind_goes] = open_stream(&gate, &server, WEB).await;
        let [mut stays, mut behind_stays] = open_stream(&gate, &server, DEV).await;
        passes(&mut behind_goes, &mut goes, "data: 1\n\n").await;
        let mut after = before.clone();
        remove(&mut after);
        gate.reload(after);
        soon(what, goes.rest()).await;
        passes(&mut behind_stays, &mut stays, "data: 2\n\n").await;
        assert_eq!(gate.ask(&get("/db", WEB, "")).await.0, 403, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_refused_config_takes_away_of_tags_and_limits_is_gone_all_the_same() {
    let server = Upstream::bind().await;
    let before = config(&server.url("/mcp"));
    let gate = Process::start(before.clone()).await;
    let removals: [(&str, Removal); 3] = [
        ("a tag of the caller", |config| config["proxy"]["auth"]["tokens"]["web"]["tags"] = json!([])),
        ("a limit that is new", |config| config["proxy"]["auth"]["tokens"]["web"]["servers"] = json!(["b"])),
        ("a tag of the server", |config| config["mcpServers"]["a"]["tags"] = json!(["sql"])),
    ];
    for (what, remove) in removals {
        gate.save(before.clone());
        gate.answers("/a/mcp", WEB, 405).await;
        let mut bad = before.clone();
        remove(&mut bad);
        bad["proxy"]["unheardOf"] = json!(1);
        gate.save(bad);
        gate.answers("/a/mcp", WEB, 403).await;
        assert_eq!(gate.get("/a/mcp", DEV).await.0, 405, "{what}");
    }
}

#[tokio::test]
async fn explain_names_the_line_of_the_limit_and_of_the_user() {
    let text = r#"{
  "proxy": { "auth": {
    "adminSeesAll": true,
    "tokens": {
      "web": { "value": "web-token-0123456789abcdef", "tags": ["web"], "servers": ["a", "b"] },
      "ops": { "value": "ops-token-0123456789abcdef", "roles": ["admin"] }
    },
    "users": {
      "alice": {
        "passwordHash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "servers": ["a"]
      },
      "bob": { "passwordHash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "disabled": true }
    }
  } },
  "mcpServers": {
    "a": { "url": "http://127.0.0.1:1/mcp", "tags": ["web"],
           "users": ["alice", "bob"], "authTokens": ["web"] },
    "b": { "url": "http://127.0.0.1:1/mcp" },
    "c": { "url": "http://127.0.0.1:1/mcp", "authTokens": ["web"] }
  }
}"#;
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    std::fs::write(&path, text).unwrap();
    for (who, server, code, said) in [
        (
            "token:web",
            "a",
            0,
            "may use the server `a`\n  sluicegate.json:5:55: proxy.auth.tokens.web.tags: the caller is limited to tags of which the server has one",
        ),
        (
            "token:web",
            "b",
            1,
            "may not use the server `b` (403 insufficient_scope)\n  sluicegate.json:5:55: proxy.auth.tokens.web.tags: ",
        ),
        (
            "token:web",
            "c",
            1,
            "sluicegate.json:5:72: proxy.auth.tokens.web.servers: the caller is limited to other servers",
        ),
        (
            "token:ops",
            "a",
            0,
            "sluicegate.json:3:5: proxy.auth.adminSeesAll: lets the role `admin` pass the rules of servers",
        ),
        ("token:ops", "b", 0, "sluicegate.json:19:5: mcpServers.b: any valid caller may"),
        (
            "user:alice",
            "a",
            0,
            "user:alice: may use the server `a`\n  sluicegate.json:11:9: proxy.auth.users.alice.servers: ",
        ),
        ("user:alice", "b", 1, "sluicegate.json:11:9: proxy.auth.users.alice.servers: "),
        ("user:alice", "c", 1, "sluicegate.json:20:45: mcpServers.c.authTokens: does not name the caller"),
        ("user:alice", "servers", 1, "the caller has no role that opens it"),
        (
            "user:bob",
            "a",
            1,
            "(401 invalid_token)\n  sluicegate.json:13:101: proxy.auth.users.bob.disabled: the user is disabled",
        ),
        ("user:alise", "a", 2, "there is no such user in `proxy.auth.users`; did you mean \"alice\"?"),
    ] {
        let mut explain = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        explain.current_dir(dir.path()).args([
            "explain",
            "-c",
            "sluicegate.json",
            "--as",
            who,
            "--server",
            server,
        ]);
        let explained = explain.output().unwrap();
        let printed =
            [explained.stdout, explained.stderr].map(|out| String::from_utf8(out).unwrap()).concat();
        assert!(printed.contains(said), "{who} {server}: {printed}");
        assert_eq!(explained.status.code(), Some(code), "{who} {server}: {printed}");
    }
}
