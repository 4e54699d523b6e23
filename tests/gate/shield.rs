//! What a gateway's own commands can see of it, which run as its user: nothing. What it sees of itself: everything.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::Command,
};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{Client, DEV, until},
    mcp::{modern_call, text},
    process::{Process, serve, text as written},
};

const OPS: &str = "ops-token-0123456789abcdef";
/// Somebody else's token, which only the gateway's environment holds.
const OTHERS: &str = "others-token-0123456789abcdef";
/// Whoever runs these tests; if that is root, to whom nothing is shut, somebody else.
const NOBODY: u32 = 65_534;

fn peek() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/peek.py")
}

/// Has one's own processes look as well: that it would be seen if it could be.
fn config(script: &Path) -> Value {
    let tool = |name: &str, whose: &str| {
        let sh = format!("sleep 60 & python3 \"$0\" {whose}; kill $!");
        json!({ "name": name, "command": "sh", "args": ["-c", sh, script] })
    };
    json!({
        "proxy": { "auth": { "tokens": {
            "dev": DEV, "ops": { "value": OPS, "roles": ["admin"] }, "other": "$env:OTHERS_TOKEN",
        } } },
        "mcpServers": { "own": { "inline": { "tools": [tool("peek", "$PPID"), tool("control", "$!")] } } },
    })
}

/// A gateway that does not run as root, in a directory that it may read.
async fn gate_of_nobody() -> Process {
    started_by(|command| command, "OTHERS_TOKEN").await
}

/// The same, by the command that `wrap` makes of the one that runs the gateway, with somebody's token in a variable.
async fn started_by(wrap: impl FnOnce(Command) -> Command, variable: &str) -> Process {
    let dir = TempDir::new().unwrap();
    let (path, script) = (dir.path().join("sluicegate.json"), dir.path().join("peek.py"));
    fs::copy(peek(), &script).unwrap();
    fs::write(&path, written(config(&script)).replace("OTHERS_TOKEN", variable)).unwrap();
    let mut command = serve(&path);
    if geteuid().is_root() {
        // The build may lie where only root gets.
        let (built, binary) = (env!("CARGO_BIN_EXE_sluicegate"), dir.path().join("sluicegate"));
        fs::hard_link(built, &binary).or_else(|_| fs::copy(built, &binary).map(drop)).unwrap();
        for file in [dir.path(), &path, &script] {
            chown(file, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command = Command::new(binary);
        command.arg("serve").arg("-c").arg(&path);
    }
    let mut command = wrap(command);
    if geteuid().is_root() {
        command.current_dir(dir.path()).uid(NOBODY).gid(NOBODY);
    }
    command.env(variable, OTHERS);
    Process::run(command, dir, path).await
}

/// What a tool says.
async fn called(gate: &Process, tool: &str) -> String {
    let mut client: Client<_> = gate.client().await;
    client.send(modern_call("/own/mcp", DEV, 1, tool, json!({}))).await;
    let (status, _, body) = client.response().await;
    assert_eq!(status, 200, "{body}");
    text(&serde_json::from_str(&body).unwrap()).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_sees_nothing_of_the_gate_and_the_gate_all_of_itself() {
    let gate = gate_of_nobody().await;
    // Of another process of the same user it sees all that it is denied here; what some kernels keep back is not asked for.
    let control = called(&gate, "control").await;
    for what in ["environ", "mem", "maps", "fd", "exe", "cwd", "memory"] {
        assert!(control.split(' ').any(|seen| seen == what), "{what} is not among {control:?}");
    }
    assert_eq!(called(&gate, "peek").await, "");

    for metric in [
        "process_open_fds",
        "process_max_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(gate.metric(OPS, metric).await > 0.0, "{metric}");
    }
    let log = gate.log.text();
    for trouble in ["Cannot run the reaper", "polled", "root"] {
        assert!(!log.contains(trouble), "{log}");
    }
    // It still starts the process that outlives it, by what it can see of itself alone.
    let tasks = fs::read_dir(format!("/proc/{}/task", gate.id())).unwrap().flatten();
    let children: String =
        tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap()).collect();
    let command = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(children.split_whitespace().any(|pid| command(pid).contains("reap-children")), "{children}");
}

/// Ends what a shell started.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_has_the_secrets_and_is_open_to_commands_is_told_of_with_the_way_out() {
    let warning =
        "Commands can read variables of the gateway in the environment of another process of its user";
    for (script, variable, is_open) in
        [("\"$@\"; true", "OPEN_TOKEN", true), ("exec \"$@\"", "SHUT_TOKEN", false)]
    {
        let by_shell = |gate: Command| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(gate.get_program()).args(gate.get_args()).process_group(0);
            shell
        };
        let gate = started_by(by_shell, variable).await;
        let _group = Group(Pid::from_raw(i32::try_from(gate.id()).unwrap()).unwrap());
        if is_open {
            until("it is said", || gate.log.text().contains(warning)).await;
            let line =
                gate.log.all().into_iter().find(|line| line["msg"].as_str().unwrap().starts_with(warning));
            let line = line.unwrap();
            assert_eq!(
                (&line["pid"], &line["process"], &line["variables"]),
                (&json!(gate.id()), &json!("sh"), &json!("OPEN_TOKEN"))
            );
            assert!(line["msg"].as_str().unwrap().contains("start the gateway by exec"), "{line}");
        } else {
            // Said before anybody is answered.
            assert!(gate.metric(OPS, "process_open_fds").await > 0.0);
            assert!(!gate.log.text().contains(warning), "{}", gate.log.text());
        }
        assert!(!gate.log.text().contains(OTHERS));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_crashes_leaves_no_core() {
    let mut gate = gate_of_nobody().await;
    if geteuid().is_root() {
        // How it shows from outside that a process is shut, which holds whatever the kernel does with cores.
        let owner = |name: &str| fs::metadata(format!("/proc/{}/{name}", gate.id())).unwrap().uid();
        assert_eq!(owner("environ"), 0);
        assert_eq!(owner("mem"), 0);
    }
    gate.signal(Signal::ABORT);
    let status = gate.ended().await;
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_of_root_s_says_that_its_commands_see_everything() {
    if !geteuid().is_root() {
        return;
    }
    let root = |gate: &Process| gate.log.text().matches("The gateway runs as root").count();
    let without = json!({
        "proxy": { "auth": { "tokens": { "ops": { "value": OPS, "roles": ["admin"] } } } },
        "mcpServers": {},
    });
    let gate = Process::start(without).await;
    assert!(gate.metric(OPS, "process_open_fds").await > 0.0);
    assert_eq!(root(&gate), 0, "{}", gate.log.text());
    let mut with = config(Path::new(peek()));
    with["proxy"]["auth"]["tokens"]["other"] = json!(OTHERS);
    gate.save(with);
    gate.log.line("Config reloaded", &[]).await;
    assert_eq!(root(&gate), 1, "{}", gate.log.text());
    // Once: it is as it was.
    gate.signal(Signal::HUP);
    until("the next reload", || gate.log.text().matches("Config reloaded").count() == 2).await;
    assert_eq!(root(&gate), 1, "{}", gate.log.text());
}
