//! What somebody sees who runs the gateway by hand.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    harness::{Client, DEV, Lines, Upstream, post, until},
    process::{Process, serve, text},
};

/// Runs what it is told on a terminal of its own, and passes on what is typed and shown.
const TERMINAL: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// A gateway on a terminal.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Lines,
    _dir: tempfile::TempDir,
}

impl Terminal {
    fn run(config: Value, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sluicegate.json");
        std::fs::write(&path, text(config)).unwrap();
        let gate = serve(&path);
        let mut command = Command::new("python3");
        command.args(["-c", TERMINAL]).arg(gate.get_program()).args(gate.get_args()).args(flags);
        command.env_remove("NO_COLOR").env("TERM", "xterm").envs(variables.iter().copied());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (keys, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown = Lines::default();
        let mut to = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                to.write_all(&bytes[..n]).unwrap();
            }
        });
        Self { child, keys, shown, _dir: dir }
    }

    async fn shows(&self, what: &str) -> String {
        until(&format!("{what:?} on the terminal"), || self.shown.text().contains(what)).await;
        self.shown.text()
    }

    /// Ctrl-C.
    fn interrupt(&mut self) {
        self.keys.write_all(b"\x03").unwrap();
        self.keys.flush().unwrap();
    }

    async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until("the end of the gateway", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is behind `addr=` in a line that may have colours.
fn addr(shown: &str) -> &str {
    let behind = shown.split_once("addr=").unwrap().1;
    behind.split('"').nth(1).unwrap()
}

#[tokio::test]
async fn on_a_terminal_the_log_is_text_and_says_how_to_end_it_now() {
    let server = Upstream::bind().await;
    let config = json!({
        "proxy": { "baseUrl": "https://gate.example", "shutdownGrace": "10m" },
        "mcpServers": { "db": { "url": server.url("/mcp") } }
    });
    let mut terminal = Terminal::run(config, &[], &[]);
    let shown = terminal.shows("workers=").await;
    assert!(shown.contains("\x1b[32mINFO \x1b[0m Listening"), "{shown}");
    assert!(shown.contains("\"https://gate.example/\""), "the URL that clients use: {shown}");
    let mut client = Client::new(TcpStream::connect(addr(&shown)).await.unwrap());
    client.send(post("/db", DEV, "", "{}").replace("localhost", "gate.example")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    terminal.interrupt();
    terminal.shows("Ctrl-C again ends it now").await;
    terminal.interrupt();
    assert_eq!(terminal.ended().await, Some(0));
}

#[tokio::test]
async fn a_terminal_has_no_colours_or_json_where_that_is_asked_for() {
    let config = || json!({ "mcpServers": {} });
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut plain = Terminal::run(config(), &[], &[variable]);
        let shown = plain.shows("workers=").await;
        assert!(shown.contains(" INFO  Listening name=\"test gate\" url=\"http://127.0.0.1:"), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown}");
        plain.interrupt();
        assert_eq!(plain.ended().await, Some(0));
    }

    for (config, flags) in [
        (config(), &["--log-format", "json"][..]),
        (json!({ "proxy": { "log": { "format": "json" } }, "mcpServers": {} }), &[]),
    ] {
        let mut json = Terminal::run(config, flags, &[]);
        let shown = json.shows("\"msg\":\"Listening\"").await;
        assert!(!shown.contains('\x1b'), "{shown}");
        json.interrupt();
        assert_eq!(json.ended().await, Some(0));
    }
}

/// Also where it is no terminal, and through reloads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_go_before_what_the_config_says_of_the_log() {
    let config =
        |level: &str| json!({ "proxy": { "log": { "level": level, "format": "text" } }, "mcpServers": {} });
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    std::fs::write(&path, text(config("error"))).unwrap();
    let mut command = serve(&path);
    command.args(["--log-level", "debug", "--log-format=json"]);
    let mut gate = Process::run(command, dir, path).await;
    assert_eq!(gate.get("/health", DEV).await.0, 200);
    gate.log.line("Request", &[("level", json!("DEBUG"))]).await;
    gate.save(config("warn"));
    gate.log.line("Config reloaded", &[]).await;
    let before = gate.log.all().len();
    assert_eq!(gate.get("/health", DEV).await.0, 200);
    until("another line", || gate.log.all()[before..].iter().any(|line| line["msg"] == "Request")).await;
    assert!(!gate.log.text().contains("take effect at the next start"), "the format is that of the flag");
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));

    let run = |flags: &[&str]| serve(Path::new("none.json")).args(flags).output().unwrap();
    for flags in [["--log-level", "loud"], ["--log-format", "xml"]] {
        let output = run(&flags);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(flags[1]) && said.contains(flags[0]), "{said}");
    }
}
