//! What is left of a gateway's children when it is killed, and what is left in a gateway of children that are: nothing.
//!
//! Descriptors, zombies and orphans are counted for a whole process, so each test runs its gateway as a process of its own:
//! this very binary, asked for one of the parts below. That is why it has a `main` of its own; `libtest-mimic` gives it the
//! command line of any other test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, BufRead, BufReader},
    process::{self, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal};
use sluicegate::{
    child::{ProcessTimeouts, Supervisor, reaper},
    config::{InlineTarget, InlineTool, Level, LogFormat, Piece, StdioTarget},
    ledger::Owner,
    link::{FromServer, Link, ToServer, awaited::Callers, inline, stdio},
    mcp::{
        message::{Id, Message, Part},
        schema::InputSchema,
    },
    observe::{Log, Metrics, Observer},
    secret::Secret,
};
use test_support::harness;

/// How long what was orphaned may live.
const ORPHANED: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(20);
/// Tells its own number and that of a child, both of which no end of a pipe impresses.
const FAMILY: &str = r#"sleep 1000 & echo "{\"method\":\"pids\",\"params\":[$$,$!]}"; wait"#;

/// Variable that names the part to play.
const PART: &str = "PART";

const PARTS: [(&str, fn()); 6] = [
    ("gate_that_is_killed", gate_that_is_killed),
    ("gate_that_is_killed_while_tools_run", gate_that_is_killed_while_tools_run),
    ("gate_that_starts_one_after_the_other", gate_that_starts_one_after_the_other),
    ("gate_whose_children_are_killed", gate_whose_children_are_killed),
    ("gate_that_inherits_orphans", gate_that_inherits_orphans),
    ("gate_whose_reaper_is_killed", gate_whose_reaper_is_killed),
];

fn main() -> process::ExitCode {
    if let Ok(part) = env::var(PART) {
        let (_, play) = PARTS.iter().find(|(name, _)| *name == part).expect("a part");
        play();
        println!("played");
        return process::ExitCode::SUCCESS;
    }
    let stories: [(&str, fn()); 6] = [
        ("a_gate_that_is_killed_leaves_no_orphans", a_gate_that_is_killed_leaves_no_orphans),
        (
            "a_gate_that_is_killed_while_it_starts_children_leaves_no_orphans",
            a_gate_that_is_killed_while_it_starts_children_leaves_no_orphans,
        ),
        ("the_reaper_holds_nothing_of_the_gate_open", the_reaper_holds_nothing_of_the_gate_open),
        (
            "children_that_are_killed_leave_neither_descriptors_nor_zombies",
            children_that_are_killed_leave_neither_descriptors_nor_zombies,
        ),
        (
            "a_gate_that_is_the_first_process_of_a_container_buries_what_it_inherits",
            a_gate_that_is_the_first_process_of_a_container_buries_what_it_inherits,
        ),
        (
            "a_reaper_that_was_killed_is_replaced_and_the_new_one_knows_of_everyone",
            a_reaper_that_was_killed_is_replaced_and_the_new_one_knows_of_everyone,
        ),
    ];
    let story = |(name, story): (&str, fn())| {
        Trial::test(name, move || {
            story();
            Ok(())
        })
    };
    libtest_mimic::run(&Arguments::from_args(), stories.into_iter().map(story).collect()).exit_code()
}

// What tests see of processes.

/// State and parent of a process, while it is there.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether it is there, and more than a zombie that waits for whoever adopted it.
fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

fn children(of: i32) -> BTreeSet<i32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == of)).collect()
}

fn descriptors(of: i32) -> usize {
    fs::read_dir(format!("/proc/{of}/fd")).unwrap().count()
}

fn own_id() -> i32 {
    process::id().cast_signed()
}

fn kill(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn until(what: &str, longest: Duration, mut holds: impl FnMut() -> bool) {
    // Real time: processes go on meanwhile.
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < longest, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// This binary, to play a part.
fn play(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(PART, part);
    command
}

fn plays_well(part: &str) {
    let output = play(part).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.ends_with("played\n"), "{told}");
}

// What parts are made of.

fn observer() -> Arc<Observer> {
    reaper::enable(env!("CARGO_BIN_EXE_sluicegate"));
    let metrics = Metrics::new().unwrap();
    let log = Log::start(
        Level::Error,
        LogFormat::Text,
        false,
        Box::new(io::stderr()),
        metrics.log_lines_dropped.clone(),
    );
    Arc::new(Observer::new(log.unwrap(), metrics))
}

fn gate(script: &str) -> Arc<Supervisor> {
    let target = StdioTarget {
        command: "sh".into(),
        args: vec![Secret::new("-c".into()), Secret::new(script.into())],
        env: Vec::new(),
        cwd: None,
        inherit_env: vec!["PATH".into()],
    };
    let patience = ProcessTimeouts { longest_pause: Duration::ZERO, ..ProcessTimeouts::default() };
    Supervisor::new("db".into(), target, observer(), Arc::default(), patience)
}

fn on_runtime(part: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(part);
}

async fn family(link: &mut Link) -> [i32; 2] {
    match link.from_server.recv().await {
        Some(FromServer::Message { message, .. }) => {
            serde_json::from_str(message.part(Part::Params).unwrap()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

async fn end(link: &mut Link) {
    let next = tokio::time::timeout(Duration::from_secs(1), link.from_server.recv()).await;
    assert!(matches!(next, Ok(Some(FromServer::Ended { .. }))), "{next:?}");
}

fn reaper_of(gate: i32) -> i32 {
    let is_reaper = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"reap-children\0"))
    };
    children(gate).into_iter().find(is_reaper).expect("a reaper")
}

fn gate_that_is_killed() {
    on_runtime(async {
        let supervisor = gate(FAMILY);
        let mut links = Vec::new();
        for _ in 0..3 {
            let mut link = stdio::open(&supervisor, &Owner::unlimited(), Callers::One).await.unwrap();
            let [child, grandchild] = family(&mut link).await;
            println!("family {child} {grandchild}");
            links.push(link);
        }
        std::future::pending::<()>().await;
    });
}

fn gate_that_is_killed_while_tools_run() {
    const TOOL: &str = r#"sleep 1000 & echo "family $$ $!" >&9; wait"#;
    let text = |text: &str| vec![Piece::Text(Secret::new(text.into()))];
    // What a tool writes is told when it has ended, so it tells its family past the gateway.
    let told = format!("exec 9>/proc/{}/fd/1; {TOOL}", own_id());
    let tool = InlineTool {
        name: "wait".into(),
        description: None,
        input_schema: InputSchema::compile(serde_json::json!({ "type": "object" })).unwrap(),
        command: "sh".into(),
        args: vec![text("-c"), text(&told)],
        env: Vec::new(),
        timeout: LONG,
    };
    let target = InlineTarget { description: None, tools: vec![tool] };
    on_runtime(async {
        let link = inline::open(
            Arc::new(inline::InlineServer::new("tools".into(), target, observer(), Arc::default())),
            Owner::unlimited(),
        );
        for call in 0..3 {
            let call = Message::request(&Id::number(call), "tools/call", r#"{"name":"wait"}"#).unwrap();
            link.to_server.send(ToServer::Message(call.into())).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
}

/// A gateway with three families, once they are there: the gateway, and them.
fn gate_with_families(part: &str) -> (process::Child, Vec<i32>) {
    let mut gate = play(part).stdout(Stdio::piped()).spawn().unwrap();
    let mut families = Vec::new();
    for line in BufReader::new(gate.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(family) = line.strip_prefix("family ") {
            families.extend(family.split(' ').map(|pid| pid.parse::<i32>().unwrap()));
        }
        if families.len() == 6 {
            break;
        }
    }
    assert_eq!(families.len(), 6);
    assert!(families.iter().all(|pid| lives(*pid)));
    (gate, families)
}

fn a_gate_that_is_killed_leaves_no_orphans() {
    let rounds = env::var("ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let mut slowest = Duration::ZERO;
    for round in 0..2 * rounds {
        let part = ["gate_that_is_killed", "gate_that_is_killed_while_tools_run"][round % 2];
        let (mut gate, families) = gate_with_families(part);
        let reaper = reaper_of(gate.id().cast_signed());
        gate.kill().unwrap();
        // Real time: the figure is printed, and the bound of what is waited for is the promise.
        let killed = Instant::now();
        gate.wait().unwrap();
        until("orphans to end", ORPHANED, || !families.iter().any(|pid| lives(*pid)));
        until("the reaper to end", ORPHANED, || !lives(reaper));
        slowest = slowest.max(killed.elapsed());
    }
    println!("{} gates were killed; the last process was gone after {slowest:?} at most", 2 * rounds);
}

/// Processes with this argument.
fn with_argument(wanted: &str) -> Vec<i32> {
    let has = |line: Vec<u8>| line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes());
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(has)).collect()
}

fn gate_that_starts_one_after_the_other() {
    let mark = env::var("MARK").unwrap();
    on_runtime(async {
        let supervisor = gate(&format!("sleep {mark} & sleep {mark} & wait"));
        // Until it is killed.
        loop {
            drop(stdio::open(&supervisor, &Owner::unlimited(), Callers::One).await.unwrap());
        }
    });
}

fn a_gate_that_is_killed_while_it_starts_children_leaves_no_orphans() {
    for round in 0..10 {
        // Seconds to sleep, and what these processes are known by.
        let mark = format!("{}.{}{round}", 1000 + round, process::id());
        let mut gate = play("gate_that_starts_one_after_the_other")
            .env("MARK", &mark)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("grandchildren", LONG, || !with_argument(&mark).is_empty());
        // Real time: at another moment of a start each time.
        thread::sleep(Duration::from_millis(round));
        gate.kill().unwrap();
        gate.wait().unwrap();
        until("orphans to end", ORPHANED, || with_argument(&mark).iter().all(|pid| !lives(*pid)));
    }
}

fn the_reaper_holds_nothing_of_the_gate_open() {
    let (mut gate, families) = gate_with_families("gate_that_is_killed");
    let reaper = reaper_of(gate.id().cast_signed());
    assert_eq!(descriptors(reaper), 3);
    let environment = fs::read(format!("/proc/{reaper}/environ")).unwrap();
    assert!(environment.is_empty());
    gate.kill().unwrap();
    gate.wait().unwrap();
    until("orphans to end", ORPHANED, || !families.iter().any(|pid| lives(*pid)));
}

fn gate_whose_children_are_killed() {
    on_runtime(async {
        let supervisor = gate(FAMILY);
        let mut before = None;
        for round in 0..200 {
            let mut link = stdio::open(&supervisor, &Owner::unlimited(), Callers::One).await.unwrap();
            let [child, _] = family(&mut link).await;
            kill(child);
            end(&mut link).await;
            drop(link);
            // Real time: tasks that have told everything may still have a step to go.
            tokio::time::sleep(Duration::from_millis(1)).await;
            // Some are for good: those of the runtime and of the reaper.
            if round == 2 {
                before = Some(descriptors(own_id()));
            }
        }
        until("descriptors to be closed", LONG, || Some(descriptors(own_id())) == before);
        assert_eq!(supervisor.running(), 0);
        assert_eq!(children(own_id()), BTreeSet::from([reaper_of(own_id())]), "zombies");
    });
}

fn children_that_are_killed_leave_neither_descriptors_nor_zombies() {
    plays_well("gate_whose_children_are_killed");
}

fn gate_that_inherits_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    on_runtime(async {
        let supervisor = gate(FAMILY);
        let mut link = stdio::open(&supervisor, &Owner::unlimited(), Callers::One).await.unwrap();
        let [child, grandchild] = family(&mut link).await;
        kill(child);
        end(&mut link).await;
        harness::until("the grandchild is buried", || stat(grandchild).is_none()).await;
        assert_eq!(children(own_id()), BTreeSet::from([reaper_of(own_id())]));
    });
}

fn a_gate_that_is_the_first_process_of_a_container_buries_what_it_inherits() {
    plays_well("gate_that_inherits_orphans");
}

fn gate_whose_reaper_is_killed() {
    on_runtime(async {
        let supervisor = gate(FAMILY);
        let mut first = stdio::open(&supervisor, &Owner::unlimited(), Callers::One).await.unwrap();
        let [_, grandchild] = family(&mut first).await;
        let reaper = reaper_of(own_id());
        kill(reaper);
        until("the reaper to end", LONG, || !lives(reaper));
        let mut second = stdio::open(&supervisor, &Owner::unlimited(), Callers::One).await.unwrap();
        let [_, other] = family(&mut second).await;
        println!("family {grandchild} {other}");
        assert_ne!(reaper_of(own_id()), reaper);
        // The end that this is about is not one that destructors see.
        kill(own_id());
    });
}

fn a_reaper_that_was_killed_is_replaced_and_the_new_one_knows_of_everyone() {
    let output = play("gate_whose_reaper_is_killed").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let (_, family) = told.split_once("family ").expect("a family");
    let orphans: Vec<i32> = family.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(orphans.len(), 2);
    until("orphans to end", ORPHANED, || !orphans.iter().any(|pid| lives(*pid)));
}
