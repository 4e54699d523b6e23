//! A config on a file system that stops answering: a network that went away, a user-space file system that hangs.
//!
//! It needs FUSE and the right to mount; where a system has neither, there is nothing to see here.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::until,
    process::{Process, save, serve, text},
};

const OPS: &str = "ops-token-0123456789abcdef";
const EXPIRES: &str = "expires-token-0123456789abcdef";
const NEXT: &str = "next-token-0123456789abcdef";
const SUCCESSFUL: &str = "sluicegate_config_last_reload_successful";

fn config(tokens: &Value) -> String {
    let mut all = json!({ "ops": { "value": OPS, "roles": ["admin"] } });
    all.as_object_mut().unwrap().extend(tokens.as_object().unwrap().clone());
    text(json!({
        "proxy": { "workers": 1, "auth": { "kind": "bearer_token", "tokens": all } },
        "mcpServers": { "db": { "url": "http://127.0.0.1:9/mcp" } }
    }))
}

/// A directory, and what shows its files until it hangs.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new(config: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::create_dir(dir.path().join("seen")).unwrap();
        let files = Self { dir };
        fs::write(files.config(), config).unwrap();
        files
    }

    /// The config where it does not hang.
    fn config(&self) -> PathBuf {
        self.dir.path().join("real/sluicegate.json")
    }

    fn hang(&self, hangs: bool) {
        let file = self.dir.path().join("real/hang");
        if hangs { fs::write(file, "").unwrap() } else { fs::remove_file(file).unwrap() }
    }

    /// `program` with these arguments beside the files.
    fn beside(&self, program: &Command) -> Command {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/hung_files.py"));
        command.args([self.dir.path().join("real"), self.dir.path().join("seen")]);
        command.arg(program.get_program()).args(program.get_args());
        command
    }

    /// A gate that reads the config here.
    fn serve(&self) -> Command {
        self.beside(&serve(&self.dir.path().join("seen/sluicegate.json")))
    }

    /// Whether this system lets a test have such files.
    fn are_possible(&self) -> bool {
        let output = self.beside(&Command::new("true")).output().unwrap();
        if !output.status.success() {
            eprintln!("no file system to hang: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_whose_config_cannot_be_read_serves_closes_expired_tokens_and_ends() {
    let expires = SystemTime::now() + Duration::from_secs(10);
    let expiring =
        json!({ "value": EXPIRES, "expires": humantime::format_rfc3339_millis(expires).to_string() });
    let files = Files::new(&config(&json!({ "expires": expiring })));
    if !files.are_possible() {
        return;
    }
    let mut gate = Process::run(files.serve(), TempDir::new().unwrap(), files.config()).await;
    assert_eq!(gate.get("/nowhere", EXPIRES).await.0, 404);

    files.hang(true);
    let msg = "The config cannot be read at present: its file system does not answer; the last good one stays in force";
    gate.log.line(msg, &[("level", json!("ERROR"))]).await;
    assert_eq!(gate.metric(OPS, SUCCESSFUL).await, 0.0);
    assert_eq!(gate.metric(OPS, r#"sluicegate_config_reloads_total{result="failure"}"#).await, 1.0);
    gate.signal(Signal::HUP);
    gate.answers("/nowhere", EXPIRES, 401).await;

    files.hang(false);
    gate.log.line("The config can be read again", &[]).await;
    // What was asked for meanwhile is done.
    gate.log.line("Config reloaded", &[]).await;
    assert_eq!(gate.metric(OPS, SUCCESSFUL).await, 1.0);
    save(&files.config(), &config(&json!({ "next": NEXT })));
    gate.answers("/nowhere", NEXT, 404).await;

    files.hang(true);
    until("the next time that it hangs", || gate.log.text().matches(msg).count() == 2).await;
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_hangs_says_so_and_ends_when_it_is_told_to() {
    let files = Files::new(&config(&json!({})));
    if !files.are_possible() {
        return;
    }
    files.hang(true);
    let mut gate = files.serve().stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(gate.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(said.contains("cannot be read at present"), "{said}");
    kill_process(Pid::from_child(&gate), Signal::TERM).unwrap();
    let mut ended = None;
    until("the end of the process", || {
        ended = gate.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert_eq!(ended.unwrap().code(), Some(0));
}

const FAR: &str = "far-token-0123456789abcdef";
const LEAKED: &str = "leaked-token-0123456789abcdef";

/// The config itself answers; some of the files that it names do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_hangs_is_missing_and_holds_up_nothing_else() {
    let with = |more: Value| {
        let mut tokens = more.as_object().unwrap().clone();
        tokens.insert("far".into(), json!({ "value": { "$file": "seen/far" } }));
        for other in 0..20 {
            tokens.insert(format!("far{other}"), json!({ "value": { "$file": format!("seen/{other}") } }));
        }
        config(&Value::Object(tokens))
    };
    let files = Files::new(&config(&json!({})));
    if !files.are_possible() {
        return;
    }
    fs::write(files.dir.path().join("real/far"), FAR).unwrap();
    for other in 0..20 {
        fs::write(files.dir.path().join(format!("real/{other}")), format!("{other}-{FAR}")).unwrap();
    }
    let path = files.dir.path().join("sluicegate.json");
    fs::write(&path, with(json!({ "leaked": LEAKED }))).unwrap();
    let mut gate = Process::run(files.beside(&serve(&path)), TempDir::new().unwrap(), path.clone()).await;
    for token in [FAR, LEAKED] {
        assert_eq!(gate.get("/nowhere", token).await.0, 404);
    }
    let threads = || fs::read_dir(format!("/proc/{}/task", gate.id())).unwrap().count();
    let before = threads();

    // That it hangs is no change: what was read is in force.
    files.hang(true);
    let hangs = "The file system of a file that the config names does not answer";
    gate.log.line(hangs, &[("level", json!("ERROR"))]).await;
    assert_eq!(gate.get("/nowhere", FAR).await.0, 404);

    // What is saved meanwhile applies, and to load means to take such a file for missing.
    for next in [json!({}), json!({ "next": NEXT })] {
        save(&path, &with(next));
        let msg = "Config reloaded, but for files that cannot be used";
        gate.log.line(msg, &[("level", json!("ERROR"))]).await;
        gate.answers("/nowhere", LEAKED, 401).await;
        gate.answers("/nowhere", FAR, 401).await;
    }
    gate.answers("/nowhere", NEXT, 404).await;
    assert!(gate.log.text().contains("its file system does not answer"), "{}", gate.log.text());
    assert!(threads() <= before + 5, "{} threads, and {before} before", threads());
    assert_eq!(gate.metric(OPS, SUCCESSFUL).await, 0.0);

    files.hang(false);
    gate.log.line("A file that the config names can be read again", &[]).await;
    gate.answers("/nowhere", FAR, 404).await;
    until("the threads are back", || threads() <= before).await;
    assert_eq!(gate.metric(OPS, SUCCESSFUL).await, 1.0);

    files.hang(true);
    until("the next time that it hangs", || gate.log.text().matches(hangs).count() > 21).await;
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
}
