use std::{
    future::Future,
    io::{self, Write},
    time::Instant,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use test_basics::waiting::until;
use tokio::time::{sleep, timeout};

use crate::link::stdio::*;
use crate::{
    child::{ProcessTimeouts, tests::target},
    config::{Level, LogFormat, StdioTarget},
    error::ErrorKind,
    ledger::Owner,
    mcp::message::Id,
    observe::{Log, Metrics, Observer},
    secret::Secret,
};

/// Longer than anything here takes, on a machine that is busy.
const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Gate {
    supervisor: Arc<Supervisor>,
    observer: Arc<Observer>,
    log: Sink,
}

impl Gate {
    /// A gateway with one server: a shell that runs `script`.
    fn new(script: &str) -> Self {
        Self::with(target("sh", &["-c", script]), brief())
    }

    fn with(target: StdioTarget, patience: ProcessTimeouts) -> Self {
        let (metrics, log) = (Metrics::new().unwrap(), Sink::default());
        let writer = Log::start(
            Level::Debug,
            LogFormat::Text,
            false,
            Box::new(log.clone()),
            metrics.log_lines_dropped.clone(),
        );
        let observer = Arc::new(Observer::new(writer.unwrap(), metrics));
        let supervisor =
            Supervisor::new("db".into(), target, Arc::clone(&observer), Arc::default(), patience);
        Self { supervisor, observer, log }
    }

    async fn open(&self) -> Link {
        open(&self.supervisor, &Owner::unlimited(), Callers::One).await.unwrap()
    }

    fn logged(&self) -> String {
        let bytes = self.log.0.lock();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn logs(&self, text: &str) {
        until(&format!("{text:?} in the log"), || self.logged().contains(text)).await;
    }

    async fn is_empty(&self) {
        until("the last process to end", || self.supervisor.running() == 0).await;
    }
}

/// Little patience, so that tests are quick; pauses too short to matter where they are not the subject.
fn brief() -> ProcessTimeouts {
    ProcessTimeouts {
        after_stdin: Duration::from_millis(200),
        after_sigterm: Duration::from_millis(200),
        first_pause: Duration::from_millis(1),
        ..ProcessTimeouts::default()
    }
}

async fn within<T>(time: Duration, what: impl Future<Output = T>) -> T {
    timeout(time, what).await.expect("in time")
}

async fn send(link: &Link, text: &str) {
    let message = Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    within(LONG, link.to_server.send(ToServer::Message(message.into()))).await.unwrap();
}

async fn next(link: &mut Link) -> FromServer {
    within(LONG, link.from_server.recv()).await.expect("something")
}

async fn message(link: &mut Link) -> Message {
    match next(link).await {
        FromServer::Message { message, about: None } => message,
        other => panic!("{other:?}"),
    }
}

/// The cause of the end, which comes next, and after which there is nothing.
async fn end(link: &mut Link) -> String {
    let FromServer::Ended { cause } = next(link).await else { panic!("not the end") };
    assert!(within(LONG, link.from_server.recv()).await.is_none());
    cause.into_owned()
}

/// The numbers that a script tells: `{"method":"pids","params":[1,2]}`
async fn pids(link: &mut Link) -> Vec<i32> {
    let told = message(link).await;
    serde_json::from_str(told.part(crate::mcp::message::Part::Params).unwrap()).unwrap()
}

fn signal(pid: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether the process is there, and more than a zombie that waits for whoever adopted it.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const CAT: &str = "exec cat";

#[tokio::test]
async fn what_the_gate_says_itself_is_of_the_era_that_the_conversation_is_of() {
    for (first, claims) in [
        (r#"{"id":1,"method":"tools/call","params":{}}"#, true),
        (r#"{"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#, false),
    ] {
        let gate = Gate::new(CAT);
        let mut link = gate.open().await;
        send(&link, first).await;
        message(&mut link).await;
        link.to_server.send(ToServer::Abandon(Id::number(1))).await.unwrap();
        let cancelled = message(&mut link).await;
        assert_eq!(
            (cancelled.method(), cancelled.request_id()),
            ("notifications/cancelled", Some(&Id::number(1)))
        );
        assert_eq!(
            (cancelled.version(), cancelled.names_capabilities()),
            (claims.then_some("2026-07-28"), claims)
        );
    }
}

#[tokio::test]
async fn messages_pass_in_order_one_a_line_and_the_process_goes_with_the_link() {
    let gate = Gate::new(CAT);
    let mut link = gate.open().await;
    send(&link, "{\"id\":0,\r\n\"method\":\"a\"}").await;
    for id in 1..100 {
        send(&link, &format!(r#"{{"id":{id},"method":"a"}}"#)).await;
        // As many as there may be between a writer that is ahead and a reader that is behind.
        if id >= 10 {
            assert_eq!(message(&mut link).await.id(), Some(&Id::number(id - 10)));
        }
    }
    link.to_server.send(ToServer::Abandon(Id::String("x\"".into()))).await.unwrap();
    for id in 90..100 {
        assert_eq!(message(&mut link).await.id(), Some(&Id::number(id)));
    }
    let cancelled = message(&mut link).await;
    assert_eq!(cancelled.method(), "notifications/cancelled");
    assert_eq!(cancelled.request_id(), Some(&Id::String("x\"".into())));

    assert_eq!(gate.supervisor.running(), 1);
    drop(link);
    gate.is_empty().await;
    gate.logs("Server process ended server=\"db\"").await;
    assert!(!gate.logged().contains("SIG"), "it needed no signal: {}", gate.logged());
}

#[tokio::test]
async fn a_large_message_passes_whole() {
    let gate = Gate::new(CAT);
    let mut link = gate.open().await;
    let text = format!(r#"{{"id":1,"method":"m","params":{{"x":"{}"}}}}"#, "m".repeat(3 << 20));
    send(&link, &text).await;
    let message = message(&mut link).await;
    assert!(message.text() == text.as_bytes());
}

#[tokio::test]
async fn a_user_who_says_no_more_still_gets_what_was_asked_for() {
    let gate = Gate::new(r#"cat >/dev/null; echo '{"id":1,"result":{}}'"#);
    let mut link = gate.open().await;
    send(&link, PING).await;
    let (closed, _) = tokio::sync::mpsc::channel(1);
    link.to_server = closed;
    assert_eq!(message(&mut link).await.id(), Some(&Id::number(1)));
    assert!(end(&mut link).await.contains("exit status: 0"));
}

#[tokio::test]
async fn a_process_that_reads_nothing_blocks_its_own_link_and_no_other() {
    let gate = Gate::new("test -e /dev/null && sleep 1000");
    let deaf = gate.open().await;
    let big = format!(r#"{{"method":"m","params":{{"x":"{}"}}}}"#, "m".repeat(200_000));
    let mut sent = 0;
    // Real time: that a pipe is full has no event.
    while timeout(Duration::from_millis(300), send(&deaf, &big)).await.is_ok() {
        sent += 1;
        assert!(sent < 100, "messages pile up");
    }
    let other = Gate::new(CAT);
    let mut link = other.open().await;
    send(&link, PING).await;
    assert_eq!(message(&mut link).await.method(), "ping");
    drop(deaf);
    gate.is_empty().await;
}

#[tokio::test]
async fn garbage_is_skipped_and_not_shown() {
    let script = r#"echo 'hunter2'; echo; echo '[1]'; printf '\377\n'; echo '{"hunter2":"2.0"}'; exec cat"#;
    let gate = Gate::new(script);
    let mut link = gate.open().await;
    send(&link, PING).await;
    assert_eq!(message(&mut link).await.method(), "ping");
    gate.logs("is no message").await;
    assert_eq!(gate.logged().matches("is no message").count(), 1);
    assert!(!gate.logged().contains("hunter2"));
}

#[tokio::test]
async fn endless_garbage_leaves_time_for_others() {
    let gate = Gate::new("yes");
    let _link = gate.open().await;
    let other = Gate::new(CAT);
    let mut link = other.open().await;
    for _ in 0..20 {
        send(&link, PING).await;
        within(Duration::from_secs(1), link.from_server.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_line_of_100_mb_passes_by() {
    let gate = Gate::new("head -c 100000000 /dev/zero | tr '\\0' x; echo; exec cat");
    let mut link = gate.open().await;
    send(&link, PING).await;
    assert_eq!(message(&mut link).await.method(), "ping");
    gate.logs("bytes=100000000").await;
}

#[tokio::test]
async fn who_asked_for_too_much_is_told_at_once_and_the_process_lives_on() {
    let long = r#"read -r _; printf '{"result":"'; head -c 5000000 /dev/zero | tr '\0' x; echo '","id":1}'; exec cat"#;
    let gate = Gate::new(long);
    let mut link = gate.open().await;
    send(&link, PING).await;
    let FromServer::Failed { id, error } = next(&mut link).await else { panic!("no failure") };
    assert_eq!((id, error.kind), (Id::number(1), ErrorKind::UpstreamUnreachable));
    send(&link, PING).await;
    assert_eq!(message(&mut link).await.method(), "ping");
}

/// Asks three times, and gives what came of each by its id.
async fn outcomes(script: &str) -> (Vec<(String, bool)>, Gate) {
    let gate = Gate::new(script);
    let mut link = gate.open().await;
    for id in ["1", "2", "\"3\""] {
        send(&link, &format!(r#"{{"id":{id},"method":"tools/call"}}"#)).await;
    }
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.push(match next(&mut link).await {
            FromServer::Message { message, .. } => (message.id().unwrap().to_string(), true),
            FromServer::Failed { id, error } => {
                assert_eq!(error.kind, ErrorKind::UpstreamUnreachable);
                (id.to_string(), false)
            }
            FromServer::Ended { cause } => panic!("{cause}"),
        });
    }
    (outcomes, gate)
}

#[tokio::test]
async fn what_cannot_be_read_fails_its_own_call_and_no_other() {
    let script = r#"read -r _; read -r _; read -r _
        printf '\357\273\277\033]0;title\007{"jsonrpc":"2.0","id":1,"result":{}}\n'
        printf '{"jsonrpc":"2.0","id":2,"result":{"text":"caf\351"}}\nping\n{"type":"heartbeat"}\n'
        printf '[{"jsonrpc":"2.0","id":99,"result":{}},{"jsonrpc":"2.0","id":"\\u0033","result":{}}]\n'; exec cat"#;
    let (outcomes, gate) = outcomes(script).await;
    let expected =
        [("1", true), ("2", false), ("\"3\"", true)].map(|(id, is_answer)| (id.to_owned(), is_answer));
    assert_eq!(outcomes, expected);
    gate.logs("Server sent a message that cannot be read").await;
    gate.logs("Server answered what nobody asked").await;
    assert!(!gate.logged().contains("caf"));
}

#[tokio::test]
async fn an_id_in_another_spelling_is_that_of_its_request() {
    let script = r#"read -r _; read -r _; read -r _
        echo '{"id":"1","result":{}}'; echo '{"id":2.0,"result":{}}'; echo '{"id":3e0,"error":{"code":1,"message":""}}'
        exec cat"#;
    let (outcomes, _gate) = outcomes(script).await;
    assert_eq!(outcomes, ["1", "2", "\"3\""].map(|id| (id.to_owned(), true)));
}

#[tokio::test]
async fn a_process_that_is_killed_takes_its_children_along_and_its_user_knows_at_once() {
    let gate = Gate::new(r#"sleep 1000 & echo "{\"method\":\"pids\",\"params\":[$$,$!]}"; wait"#);
    let mut link = gate.open().await;
    let pids = pids(&mut link).await;
    assert!(pids.iter().all(|pid| lives(*pid)));
    signal(pids[0], Signal::KILL);
    let cause = within(Duration::from_secs(1), end(&mut link)).await;
    assert!(cause.contains("SIGKILL"), "{cause}");
    until("the grandchild to end", || !lives(pids[1])).await;
    assert_eq!(gate.supervisor.running(), 0);
}

#[tokio::test]
async fn the_end_is_told_even_if_somebody_left_the_group_with_the_pipes() {
    let gate = Gate::new("setsid sleep 1000 & sleep 0.2; exit 7");
    let cause = end(&mut gate.open().await).await;
    assert!(cause.contains("exit status: 7"), "{cause}");
}

#[tokio::test]
async fn the_last_answer_of_a_process_is_not_lost() {
    let gate = Gate::new(r#"seq -f '{"id":%.0f,"method":"m"}' 1 5000; echo 'out of memory' >&2; exit 1"#);
    let mut link = gate.open().await;
    for id in 1..=5000 {
        assert_eq!(message(&mut link).await.id(), Some(&Id::number(id)));
    }
    assert!(end(&mut link).await.contains("exit status: 1"));
    gate.logs("line=\"out of memory\"").await;
}

/// A user that takes them, however slowly, has the last messages of a process. Each takes its time here, as on a busy machine,
/// and all of them more than an ended process has when nobody takes anything.
#[tokio::test]
async fn the_last_messages_of_a_process_are_not_lost_to_a_slow_user() {
    let gate = Gate::new(r#"seq -f '{"id":%.0f,"method":"m"}' 1 100; exit 1"#);
    let mut link = gate.open().await;
    for id in 1..=100 {
        // Real time: a user that is slow is what is tried.
        sleep(LAST_WORDS / 20).await;
        assert_eq!(message(&mut link).await.id(), Some(&Id::number(id)));
    }
    assert!(end(&mut link).await.contains("exit status: 1"));
}

#[tokio::test]
async fn a_process_that_closes_a_pipe_and_lives_on_is_ended() {
    for (script, pipe) in [("exec >&-; sleep 1000", "output"), ("exec <&-; sleep 1000", "input")] {
        let gate = Gate::new(script);
        let mut link = gate.open().await;
        if pipe == "input" {
            // The first may still fit into a pipe that is about to be closed.
            until("the pipe to be closed", || {
                link.to_server.try_send(ToServer::Abandon(Id::number(1))).is_err()
            })
            .await;
        }
        assert_eq!(end(&mut link).await, format!("the process closed its standard {pipe}"));
        gate.is_empty().await;
        gate.logs("Server process failed").await;
    }
}

#[tokio::test]
async fn sigterm_comes_after_the_end_of_stdin_and_sigkill_after_that() {
    let patience = ProcessTimeouts {
        after_stdin: Duration::from_millis(500),
        after_sigterm: Duration::from_millis(700),
        ..brief()
    };
    for (script, signal, least) in [
        ("echo '{\"method\":\"up\"}'; exec sleep 1000", "SIGTERM", 500),
        ("trap '' TERM; echo '{\"method\":\"up\"}'; while :; do sleep 1; done", "SIGKILL", 1200),
    ] {
        let gate = Gate::with(target("sh", &["-c", script]), patience.clone());
        let mut link = gate.open().await;
        message(&mut link).await;
        // Real time: a process that is killed at once would not have had its time.
        let begin = Instant::now();
        drop(link);
        gate.is_empty().await;
        assert!(begin.elapsed() >= Duration::from_millis(least), "{:?}", begin.elapsed());
        gate.logs(signal).await;
        gate.logs("Server process ended").await;
    }
}

#[tokio::test]
async fn stderr_goes_to_the_log_a_flood_of_it_in_part() {
    let gate = Gate::new(r#"echo "$(printf 'warm\033[2Jup')" >&2; yes flood >&2 & exec cat"#);
    let mut link = gate.open().await;
    gate.logs("Server wrote to stderr server=\"db\" line=\"warm\\u001b[2Jup\"").await;
    gate.logs("Server writes more to stderr than is logged server=\"db\" dropped_bytes=").await;
    send(&link, PING).await;
    assert_eq!(message(&mut link).await.method(), "ping");
    drop(link);
    gate.is_empty().await;
    let lines = gate.logged().matches("line=\"flood\"").count();
    let seconds = 2 + usize::try_from(LONG.as_secs()).unwrap();
    assert!((1..512 * seconds).contains(&lines), "{lines} lines");
}

#[tokio::test]
async fn a_process_that_ends_at_once_is_started_again_after_a_pause() {
    let patience = ProcessTimeouts { first_pause: Duration::from_millis(100), ..brief() };
    let gate = Gate::with(target("sh", &["-c", "exit 3"]), patience);
    // Real time: starts without a pause would be a loop that never rests.
    let begin = Instant::now();
    for _ in 0..4 {
        let mut link = gate.open().await;
        assert!(end(&mut link).await.contains("exit status: 3"));
    }
    // It is no one's: how the pause of an owner grows is in `child::backoff`.
    assert!(begin.elapsed() >= Duration::from_millis(3 * 100), "{:?}", begin.elapsed());
    let metrics = gate.observer.metrics.encode().unwrap();
    assert!(metrics.contains(r#"sluicegate_child_restarts_total{server="db"} 3"#), "{metrics}");
}

#[tokio::test]
async fn who_ends_when_asked_is_no_failure() {
    let gate = Gate::with(target("cat", &[]), ProcessTimeouts { first_pause: LONG, ..brief() });
    for _ in 0..3 {
        drop(within(LONG / 2, gate.open()).await);
        gate.is_empty().await;
    }
    let metrics = gate.observer.metrics.encode().unwrap();
    assert!(metrics.contains(r#"sluicegate_child_restarts_total{server="db"} 0"#), "{metrics}");
}

#[tokio::test]
async fn what_cannot_be_run_is_named_without_its_arguments() {
    let mut missing = target("no-such-program", &["--password=hunter2"]);
    missing.env.push(("KEY".into(), Secret::new("hunter3".into())));
    let mut nowhere = target("cat", &[]);
    nowhere.cwd = Some("/no/such/directory".into());
    let forbidden = target("/", &[]);
    for (target, cause) in [
        (missing, r#"cannot run "no-such-program" of server "db": No such file or directory (os error 2)"#),
        (
            nowhere,
            r#"cannot run "cat" of server "db" in its working directory: No such file or directory (os error 2)"#,
        ),
        (forbidden, r#"cannot run "/" of server "db": Permission denied (os error 13)"#),
    ] {
        let gate = Gate::with(target, brief());
        let error = open(&gate.supervisor, &Owner::unlimited(), Callers::One).await.err().unwrap();
        assert_eq!((error.kind, error.cause.as_deref()), (ErrorKind::UpstreamUnreachable, Some(cause)));
        assert_eq!(gate.supervisor.running(), 0);
    }
}

#[tokio::test]
async fn stop_ends_what_runs_and_nothing_starts_until_it_is_allowed() {
    let gate = Gate::new(CAT);
    let (mut one, mut two) = (gate.open().await, gate.open().await);
    gate.supervisor.stop();
    // Before anyone had time to look.
    gate.supervisor.allow();
    let mut three = gate.open().await;
    assert_eq!(end(&mut one).await, "the server was stopped, restarted or configured anew");
    assert_eq!(end(&mut two).await, "the server was stopped, restarted or configured anew");
    until("the others to end", || gate.supervisor.running() == 1).await;
    send(&three, PING).await;
    assert_eq!(message(&mut three).await.method(), "ping");

    gate.supervisor.stop();
    let error = open(&gate.supervisor, &Owner::unlimited(), Callers::One).await.err().unwrap();
    assert_eq!(error.cause.as_deref(), Some(r#"server "db" is stopped"#));
    gate.is_empty().await;
}

#[tokio::test]
async fn stop_does_not_wait_for_a_pause() {
    let gate =
        Gate::with(target("sh", &["-c", "exit 3"]), ProcessTimeouts { first_pause: 2 * LONG, ..brief() });
    end(&mut gate.open().await).await;
    let owner = Owner::unlimited();
    let (opened, ()) = tokio::join!(within(LONG, open(&gate.supervisor, &owner, Callers::One)), async {
        tokio::task::yield_now().await;
        gate.supervisor.stop();
    });
    assert!(opened.is_err());
    gate.supervisor.allow();
    within(LONG, gate.open()).await;
}

#[tokio::test]
async fn kill_now_does_not_wait_for_anyone() {
    let patient = ProcessTimeouts { after_stdin: 2 * LONG, ..brief() };
    let gate = Gate::with(target("sh", &["-c", "sleep 1000; :"]), patient);
    let (link, dropped) = (gate.open().await, gate.open().await);
    drop(dropped);
    gate.supervisor.kill_now();
    gate.is_empty().await;
    drop(link);
}

#[tokio::test]
async fn a_runtime_that_ends_leaves_no_process() {
    let gate = Gate::new(r#"sleep 1000 & echo "{\"method\":\"pids\",\"params\":[$$,$!]}"; wait"#);
    let supervisor = Arc::clone(&gate.supervisor);
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut link = open(&supervisor, &Owner::unlimited(), Callers::One).await.unwrap();
            pids(&mut link).await
        })
    });
    let pids = worker.join().unwrap();
    until("both to end", || !pids.iter().any(|pid| lives(*pid))).await;
    gate.is_empty().await;
}
