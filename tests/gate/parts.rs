//! A file that a server needs cannot be used: that server stays as it was, and the rest of the config applies.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{CI, DEV, Gate, Upstream, field, get},
    mcp::{Session, command},
};

const KEY: &str = "a-session-key-that-is-long-enough-0123456789";

/// Servers that need files of `dir`, one that needs none, and a session key from a file.
fn config(dir: &Path, server: &Upstream) -> Value {
    let file = |name: &str| json!({ "$file": dir.join(name) });
    let with = |more: Value| {
        let mut server = command();
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server
    };
    json!({
        "proxy": {
            "auth": { "kind": "bearer_token", "tokens": { "dev": DEV, "ci": CI } },
            "sessionKey": file("session-key"),
        },
        "mcpServers": {
            "keyed": { "url": server.url("/mcp"), "headers": { "X-Api-Key": file("api-key") } },
            "trusting": { "url": "https://127.0.0.1:9/mcp", "caFile": dir.join("ca.pem") },
            "small": with(json!({ "env": { "SECRET": file("secret") } })),
            "placed": with(json!({ "cwd": dir.join("place") })),
            "plain": { "url": server.url("/plain") },
        }
    })
}

#[tokio::test]
async fn a_file_that_is_gone_keeps_its_server_as_it_was_and_nothing_else() {
    let (server, dir) = (Upstream::bind().await, TempDir::new().unwrap());
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let made = sluicegate::downstream::self_signed::self_signed(&["localhost".to_owned()]).unwrap();
    write("session-key", KEY);
    write("api-key", "first");
    write("secret", "secret");
    write("ca.pem", &made.ca);
    fs::create_dir(dir.path().join("place")).unwrap();
    let mut gate = Gate::start(config(dir.path(), &server)).await;
    let pid = async |session: &Session| session.pid().await;
    let (small, placed) =
        (Session::open(&gate, "/small/mcp", DEV).await, Session::open(&gate, "/placed/mcp", DEV).await);
    let pids = (pid(&small).await, pid(&placed).await);
    let api_key = async |gate: &Gate| {
        let mut client = gate.client().await;
        client.send(get("/keyed", DEV, "Connection: close\r\n")).await;
        let mut behind = server.accept().await;
        let head = behind.head().await;
        behind.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}").await;
        assert_eq!(client.response().await.0, 200);
        field(&head, "x-api-key").map(str::to_owned)
    };
    assert_eq!(api_key(&gate).await.as_deref(), Some("first"));

    for name in ["session-key", "api-key", "secret", "ca.pem"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    fs::remove_dir(dir.path().join("place")).unwrap();
    let mut after = config(dir.path(), &server);
    after["proxy"]["auth"]["tokens"].as_object_mut().unwrap().remove("ci");
    after["mcpServers"]["small"]["authTokens"] = json!(["dev"]);
    after["mcpServers"]["more"] = json!({ "url": "http://127.0.0.1:9/mcp" });
    // This one was never whole.
    after["mcpServers"]["never"] =
        json!({ "url": "http://127.0.0.1:9/", "headers": { "X": { "$file": "none" } } });
    gate.reload(after);
    assert_eq!(gate.ask(&get("/small", CI, "")).await.0, 401, "what is removed is gone");
    assert_eq!(gate.ask(&get("/more", DEV, "")).await.0, 502, "what is new is there");
    assert_eq!(gate.ask(&get("/trusting", DEV, "")).await.0, 502);
    assert_eq!(gate.ask(&get("/never", DEV, "")).await.0, 404);
    assert_eq!(api_key(&gate).await.as_deref(), Some("first"));
    // The same processes, in sessions that the same key opens.
    assert_eq!((pid(&small).await, pid(&placed).await), pids);

    write("api-key", "second");
    for (name, text) in [("session-key", KEY), ("secret", "secret"), ("ca.pem", &made.ca)] {
        write(name, text);
    }
    fs::create_dir(dir.path().join("place")).unwrap();
    gate.reload(config(dir.path(), &server));
    assert_eq!(api_key(&gate).await.as_deref(), Some("second"));
    assert_eq!((pid(&small).await, pid(&placed).await), pids);
}
