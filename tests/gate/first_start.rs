//! Commands that take long the first time, because they are installed then (`npx`, `uvx`).

use std::path::PathBuf;

use serde_json::{Value, json};
use sluicegate::servers::Backend;
use tempfile::TempDir;

use crate::{
    harness::{DEV, Gate, get, post, until},
    mcp::{INITIALIZE, Session, call},
};

// Real time: the script of another process polls for a file.
/// Installs itself when the file GO is there, whatever its standard input says, as npm does; then it is the small server.
const INSTALLS: &str = r#"
import os, sys, time
go, done, server = sys.argv[1:]
if not os.path.exists(done):
    sys.stderr.write("installing\n"); sys.stderr.flush()
    while not os.path.exists(go):
        time.sleep(0.01)
    open(done, "w").close()
os.execvp("python3", ["python3", server])
"#;

struct Installer {
    dir: TempDir,
}

impl Installer {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn goes(&self) {
        std::fs::write(self.file("go"), "").unwrap();
    }

    async fn is_done(&self) {
        until("it is installed", || self.file("done").exists()).await;
    }

    fn server(&self) -> Value {
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/stdio_server.py");
        json!({
            "command": "python3", "args": ["-c", INSTALLS, self.file("go"), self.file("done"), server],
            "inheritEnv": ["PATH"],
        })
    }
}

async fn start(server: Value, upstream_timeout: &str) -> Gate {
    let proxy = json!({
        "limits": { "upstreamTimeout": upstream_timeout }, "aggregate": { "discoveryTimeout": "100ms" },
    });
    Gate::start(json!({ "proxy": proxy, "mcpServers": { "new": server } })).await
}

fn processes(gate: &Gate) -> usize {
    let live = gate.gateway.shared().live();
    let Backend::Stdio(supervisors) = &live.entry("new").unwrap().backend else { panic!("no command") };
    supervisors.running()
}

async fn are_installing(gate: &Gate, count: usize) {
    until("it is being installed", || gate.log.text().matches("installing").count() == count).await;
}

#[tokio::test]
async fn a_first_start_is_let_finish_when_its_session_leaves() {
    let installer = Installer::new();
    let gate = start(installer.server(), "60s").await;
    let (first, second) = (Session::open(&gate, "/mcp", DEV).await, Session::open(&gate, "/mcp", DEV).await);
    // At its own path, too, where the client waits for it.
    let mut third = gate.client().await;
    third.send(post("/new/mcp", DEV, "", INITIALIZE)).await;
    are_installing(&gate, 3).await;
    assert_eq!((first.delete().await, second.delete().await), (204, 204));
    drop(third);
    // One is enough. The others were told to end after it, so that it would be gone by now.
    until("the others are ended", || processes(&gate) == 1).await;
    installer.goes();
    installer.is_done().await;
    until("nobody needs it any more", || processes(&gate) == 0).await;
    // From now on, it does not take long, so that nothing is left over when a session goes.
    let session = Session::open(&gate, "/new/mcp", DEV).await;
    assert_eq!(session.call("echo", json!({ "text": "here" })).await, "here");
    std::fs::remove_file(installer.file("done")).unwrap();
    std::fs::remove_file(installer.file("go")).unwrap();
    let again = Session::open(&gate, "/mcp", DEV).await;
    are_installing(&gate, 4).await;
    assert_eq!((again.delete().await, session.delete().await), (204, 204));
    until("all are gone", || processes(&gate) == 0).await;
}

#[tokio::test]
async fn a_first_start_is_not_let_finish_for_longer_than_it_may_take() {
    let installer = Installer::new();
    let gate = start(installer.server(), "1s").await;
    let session = Session::open(&gate, "/mcp", DEV).await;
    are_installing(&gate, 1).await;
    assert_eq!(session.delete().await, 204);
    until("it is given up", || processes(&gate) == 0).await;
    assert!(!installer.file("done").exists());
}

/// It ends because the gateway lets go of its standard input, whatever it was about to say.
#[tokio::test]
async fn a_command_that_ends_when_its_first_client_leaves_has_not_failed() {
    for code in ["0", "3"] {
        let ends =
            format!("import sys; sys.stderr.write('installing\\n'); sys.stdin.read(); sys.exit({code})");
        let gate =
            start(json!({ "command": "python3", "args": ["-c", ends], "inheritEnv": ["PATH"] }), "60s").await;
        for count in 1..=2 {
            let mut client = gate.client().await;
            client.send(get("/new/sse", DEV, "")).await;
            client.head().await;
            are_installing(&gate, count).await;
            drop(client);
            until("it has ended", || gate.log.text().matches("Server process ended").count() == count).await;
        }
        assert!(!gate.log.text().contains("Server process failed"), "{}", gate.log.text());
        let live = gate.gateway.shared().live();
        let route = live.entry("new").unwrap();
        assert!(route.is_running() && route.health.last_failure().is_none());
        let Backend::Stdio(supervisors) = &route.backend else { panic!("no command") };
        assert_eq!(supervisors.restarts(), 0);
    }
}

#[tokio::test]
async fn a_command_that_is_to_be_warm_is_started_once_before_anybody_comes() {
    let installer = Installer::new();
    installer.goes();
    let mut server = installer.server();
    server["warm"] = json!(true);
    let mut gate = start(server.clone(), "60s").await;
    gate.log.line("Server is warm", &[("server", json!("new"))]).await;
    assert!(installer.file("done").exists());
    until("it is ended", || processes(&gate) == 0).await;
    let started = |gate: &Gate| gate.log.text().matches("Server process started").count();
    // A reload is no reason to do it again, another command is.
    server["tags"] = json!(["x"]);
    gate.reload(json!({ "mcpServers": { "new": server } }));
    assert_eq!(started(&gate), 1);
    let session = Session::open(&gate, "/new/mcp", DEV).await;
    assert_eq!(session.ask(&call(1, "echo", json!({ "text": "x" }))).await["id"], 1);
    server["env"] = json!({ "OTHER": "1" });
    gate.reload(json!({ "mcpServers": { "new": server } }));
    until("the other one is warm", || gate.log.text().matches("Server is warm").count() == 2).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_warmed_is_said_to_be_so() {
    let gate = start(json!({ "command": "false", "warm": true }), "60s").await;
    let line = gate.log.line("Server could not be warmed", &[("server", json!("new"))]).await;
    assert_eq!(line["level"], "WARN");
    assert!(line["cause"].as_str().unwrap().contains("exit status: 1"), "{line}");
}
