//! A config on a file system that stops answering: a network that went away, a user-space file system that hangs.
//!
//! It needs FUSE and the right to mount; where a system has neither, there is nothing to see here.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
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

    /// A gateway that reads the config here.
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
    assert!(said.contains("waits for a file system that does not answer"), "{said}");
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
const NEAR: &str = "near-token-0123456789abcdef";
const HANGS: &str = "The file system of a file that the config names does not answer";

/// The token in the file with this number.
fn far(number: usize) -> String {
    format!("{number}-{FAR}")
}

/// Files of which some hang, all in one directory; and a config that does not.
struct Mixed {
    files: Files,
    path: PathBuf,
}

impl Mixed {
    fn new(count: usize) -> Self {
        let files = Files::new(&config(&json!({})));
        let dir = files.dir.path();
        fs::create_dir(dir.join("mixed")).unwrap();
        fs::write(dir.join("mixed/near"), NEAR).unwrap();
        for number in 0..count {
            fs::write(dir.join(format!("real/{number}")), far(number)).unwrap();
            symlink(format!("../seen/{number}"), dir.join(format!("mixed/far{number}"))).unwrap();
        }
        let path = dir.join("sluicegate.json");
        Self { files, path }
    }

    /// A config with the files of these numbers, and more.
    fn config(numbers: impl IntoIterator<Item = usize>, more: Value) -> String {
        let mut tokens = more.as_object().unwrap().clone();
        for name in numbers.into_iter().map(|number| format!("far{number}")).chain(["near".to_owned()]) {
            tokens.insert(name.clone(), json!({ "value": { "$file": format!("mixed/{name}") } }));
        }
        config(&Value::Object(tokens))
    }

    async fn serve(&self, config: &str) -> Process {
        fs::write(&self.path, config).unwrap();
        let command = self.files.beside(&serve(&self.path));
        Process::run(command, TempDir::new().unwrap(), self.path.clone()).await
    }

    /// Whoever deploys a token renames it into place.
    fn rotate(&self, number: usize, token: &str) {
        save(&self.files.dir.path().join(format!("real/{number}")), token);
    }
}

/// The config itself answers; most of the files that it names do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_hangs_stays_as_it_was_and_holds_up_nothing_else() {
    let mixed = Mixed::new(70);
    if !mixed.files.are_possible() {
        return;
    }
    let mut gate = mixed.serve(&Mixed::config(0..70, json!({ "leaked": LEAKED }))).await;
    for token in [&far(0), &far(69), LEAKED, NEAR] {
        assert_eq!(gate.get("/nowhere", token).await.0, 404);
    }
    let threads = || fs::read_dir(format!("/proc/{}/task", gate.id())).unwrap().count();
    let before = threads();
    mixed.files.hang(true);
    until("all hang", || gate.log.text().matches(HANGS).count() == 70).await;

    // A file beside them is judged by itself.
    let near = mixed.files.dir.path().join("mixed/near");
    fs::remove_file(&near).unwrap();
    gate.answers("/nowhere", NEAR, 401).await;
    fs::write(&near, NEXT).unwrap();
    gate.answers("/nowhere", NEXT, 404).await;

    // What is saved applies, and of what hangs the last that was read.
    save(&mixed.path, &Mixed::config(2..70, json!({})));
    for token in [LEAKED, &far(0), &far(1)] {
        gate.answers("/nowhere", token, 401).await;
    }
    for token in [NEXT, &far(2), &far(69)] {
        assert_eq!(gate.get("/nowhere", token).await.0, 404);
    }
    let most = before + 3 * 70;
    assert!(threads() <= most, "{} threads, and {before} before", threads());

    // What was taken away is not there again by being named.
    save(&mixed.path, &Mixed::config(1..70, json!({ "leaked": LEAKED })));
    gate.answers("/nowhere", LEAKED, 404).await;
    assert_eq!(gate.get("/nowhere", &far(1)).await.0, 401);
    assert_eq!(gate.get("/nowhere", &far(2)).await.0, 404);
    assert!(gate.log.text().contains("its file system does not answer"), "{}", gate.log.text());

    mixed.rotate(2, "rotated-0123456789abcdef");
    fs::remove_file(mixed.files.dir.path().join("real/3")).unwrap();
    mixed.files.hang(false);
    gate.answers("/nowhere", &far(1), 404).await;
    gate.answers("/nowhere", "rotated-0123456789abcdef", 404).await;
    for token in [far(2), far(3)] {
        gate.answers("/nowhere", &token, 401).await;
    }
    assert_eq!(gate.get("/nowhere", &far(4)).await.0, 404);
    gate.log.line("A file that the config names can be read again", &[]).await;
    until("the threads are back", || threads() <= before).await;

    mixed.files.hang(true);
    until("the next time that it hangs", || gate.log.text().matches(HANGS).count() > 70).await;
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
}

/// A network that went away may end in an error where it does not hang. That says no more of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_file_system_fails_stays_as_it_was_and_one_that_is_gone_does_not() {
    let mixed = Mixed::new(2);
    if !mixed.files.are_possible() {
        return;
    }
    let gate = mixed.serve(&Mixed::config(0..2, json!({ "leaked": LEAKED }))).await;
    let fail = mixed.files.dir.path().join("real/fail");
    for (round, error) in ["EIO", "ESTALE"].into_iter().enumerate() {
        fs::write(&fail, error).unwrap();
        until("both fail", || gate.log.text().matches(HANGS).count() > 2 * round + 1).await;
        // What is saved applies, and of what fails the last that was read.
        save(&mixed.path, &Mixed::config(0..2, json!({})));
        gate.answers("/nowhere", LEAKED, 401).await;
        for token in [far(0), far(1)] {
            assert_eq!(gate.get("/nowhere", &token).await.0, 404, "{error}");
        }
        fs::remove_file(&fail).unwrap();
        let again = "A file that the config names can be read again";
        until("both can be read", || gate.log.text().matches(again).count() > 2 * round + 1).await;
        save(&mixed.path, &Mixed::config(0..2, json!({ "leaked": LEAKED })));
        gate.answers("/nowhere", LEAKED, 404).await;
    }
    fs::remove_file(mixed.files.dir.path().join("real/0")).unwrap();
    gate.answers("/nowhere", &far(0), 401).await;
    assert_eq!(gate.get("/nowhere", &far(1)).await.0, 404);
}

/// It takes longer to read than a load waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_slow_to_read_is_in_force_and_what_it_says_late_is_taken() {
    let mixed = Mixed::new(2);
    if !mixed.files.are_possible() {
        return;
    }
    let gate = mixed.serve(&Mixed::config(0..1, json!({ "leaked": LEAKED }))).await;
    assert_eq!(gate.get("/nowhere", &far(0)).await.0, 404);
    fs::write(mixed.files.dir.path().join("real/slow"), "0.15").unwrap();

    save(&mixed.path, &Mixed::config(0..2, json!({})));
    gate.answers("/nowhere", LEAKED, 401).await;
    assert_eq!(gate.get("/nowhere", &far(0)).await.0, 404);
    // One that is new is taken when it is there.
    gate.answers("/nowhere", &far(1), 404).await;
    assert_eq!(gate.get("/nowhere", &far(0)).await.0, 404);

    mixed.rotate(0, NEXT);
    gate.answers("/nowhere", &far(0), 401).await;
    gate.answers("/nowhere", NEXT, 404).await;
    assert_eq!(gate.get("/nowhere", &far(1)).await.0, 404);
}
