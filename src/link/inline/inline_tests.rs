//! Conversations with an inline server, whose commands are real processes.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use test_basics::waiting::until;

use super::*;
use crate::{
    config::{INHERITED, LogFormat, Piece},
    ledger::Owner,
    link::Outbound,
    mcp::{schema::InputSchema, version::LEGACY},
    observe::{Log, Metrics},
    secret::Secret,
};

/// What nothing here should take; a test that gets there has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn tool(name: &str, schema: Value, command: &str, args: &[&str]) -> InlineTool {
    let piece = |arg: &&str| match arg.strip_prefix('<').and_then(|arg| arg.strip_suffix('>')) {
        Some(name) => vec![Piece::Argument(name.into())],
        None => vec![Piece::Text(Secret::new((*arg).into()))],
    };
    InlineTool {
        name: name.into(),
        description: Some(format!("Does {name}")),
        input_schema: InputSchema::compile(schema).expect("a schema"),
        command: command.into(),
        args: args.iter().map(piece).collect(),
        env: Vec::new(),
        timeout: PATIENCE,
    }
}

/// A tool without arguments that runs a shell script; `$OUT` is `out`.
fn script(name: &str, text: &str, out: &Path) -> InlineTool {
    let mut tool = tool(name, json!({ "type": "object" }), "sh", &["-c", text]);
    tool.env.push(("OUT".into(), Secret::new(out.to_string_lossy().into_owned())));
    tool
}

fn server(tools: Vec<InlineTool>) -> Arc<InlineServer> {
    let metrics = Metrics::new().expect("metrics");
    let dropped = metrics.log_lines_dropped.clone();
    let log = Log::start(Level::Error, LogFormat::Json, false, Box::new(io::sink()), dropped).expect("a log");
    let target = InlineTarget { description: Some("For tests".into()), tools };
    Arc::new(InlineServer::new("tests".into(), target, Arc::new(Observer::new(log, metrics)), Arc::default()))
}

/// The client's side of a link.
struct Client(Link, Arc<InlineServer>);

impl Client {
    fn of(tools: Vec<InlineTool>) -> Self {
        let server = server(tools);
        Self(open(Arc::clone(&server), Owner::unlimited()), server)
    }

    async fn send(&self, message: Value) {
        let message = crate::mcp::message::Message::parse(message.to_string().into()).expect("a message");
        self.0.to_server.send(ToServer::Message(Outbound::from(message))).await.expect("a server");
    }

    async fn next(&mut self) -> FromServer {
        let next = tokio::time::timeout(PATIENCE, self.0.from_server.recv()).await.expect("in time");
        next.expect("the conversation goes on")
    }

    async fn answer(&mut self) -> Value {
        match self.next().await {
            FromServer::Message { message, .. } => serde_json::from_slice(message.text()).expect("JSON"),
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({ "jsonrpc": "2.0", "id": "q", "method": method, "params": params })).await;
        let answer = self.answer().await;
        assert_eq!(answer["id"], "q");
        answer
    }

    async fn begin(&self, id: u32, tool: &str) {
        let params = json!({ "name": tool, "arguments": {} });
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })).await;
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let mut answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].take()
    }
}

/// The texts of a result, one a line.
fn said(result: &Value) -> String {
    let texts = result["content"].as_array().expect("content").iter();
    texts.map(|content| content["text"].as_str().expect("text").to_owned() + "\n").collect()
}

/// The number that a script wrote to `file`, once it is there.
async fn number_in(file: &Path) -> u32 {
    let mut number = None;
    until("a process wrote its number", || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        number = text.strip_suffix('\n').and_then(|text| text.parse().ok());
        number.is_some()
    })
    .await;
    number.expect("a number")
}

/// Whether nothing of the process runs any more. A zombie of somebody else's counts as gone.
fn is_gone(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => true,
    }
}

fn out(directory: &TempDir) -> PathBuf {
    directory.path().join("out")
}

#[tokio::test]
async fn a_legacy_client_shakes_hands_lists_and_calls() {
    let schema =
        json!({ "type": "object", "properties": { "what": { "type": "string" } }, "required": ["what"] });
    let mut client = Client::of(vec![tool("say", schema.clone(), "printf", &["%s|", "--", "<what>", "end"])]);
    for version in LEGACY {
        let answer = client.ask("initialize", json!({ "protocolVersion": version })).await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        assert_eq!(answer["result"]["instructions"], "For tests");
        assert_eq!(answer["result"]["serverInfo"]["name"], "tests");
    }
    let answer = client.ask("initialize", json!({ "protocolVersion": "2099-01-01" })).await;
    assert_eq!(answer["result"]["protocolVersion"], LEGACY[0]);
    client.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));

    let listed = client.ask("tools/list", json!({})).await["result"].take();
    assert_eq!(
        listed,
        json!({ "tools": [{ "name": "say", "description": "Does say", "inputSchema": schema }] })
    );
    let result = client.call("say", json!({ "what": "two words; $(id) 'é'" })).await;
    assert_eq!(result, json!({ "content": [{ "type": "text", "text": "--|two words; $(id) 'é'|end|" }] }));
    for unknown in ["prompts/list", "server/nothing"] {
        assert_eq!(client.ask(unknown, json!({})).await["error"]["code"], -32601);
    }
    assert_eq!(client.ask("tools/call", json!({ "name": "other" })).await["error"]["code"], -32602);
}

#[tokio::test]
async fn a_modern_client_discovers_and_every_request_says_its_version() {
    let mut client = Client::of(vec![tool("yes", json!({ "type": "object" }), "echo", &["yes"])]);
    let meta = |version: &str| {
        json!({ "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientCapabilities": {} })
    };
    let found = client.ask("server/discover", json!({ "_meta": meta("2026-07-28") })).await["result"].take();
    assert_eq!(found["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!((&found["resultType"], &found["instructions"]), (&json!("complete"), &json!("For tests")));
    let listed = client.ask("tools/list", json!({ "_meta": meta("2026-07-28") })).await["result"].take();
    assert_eq!((&listed["tools"][0]["name"], &listed["cacheScope"]), (&json!("yes"), &json!("private")));
    let called = client.ask("tools/call", json!({ "name": "yes", "_meta": meta("2026-07-28") })).await;
    assert_eq!(called["result"]["resultType"], "complete");
    assert_eq!(said(&called["result"]), "yes\n\n");

    let refused = client.ask("tools/list", json!({ "_meta": meta("2027-01-01") })).await["error"].take();
    assert_eq!(refused["code"], -32022);
    assert_eq!(refused["data"], json!({ "supported": ["2026-07-28"], "requested": "2027-01-01" }));
    for params in [json!({}), json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } })]
    {
        assert_eq!(client.ask("server/discover", params).await["error"]["code"], -32602);
    }
    let handshake = client.ask("initialize", json!({ "_meta": meta("2026-07-28") })).await;
    assert_eq!(handshake["error"]["code"], -32601, "there is none in this version");
}

#[tokio::test]
async fn arguments_that_do_not_fit_never_reach_the_command() {
    let directory = TempDir::new().expect("a directory");
    let schema = json!({ "type": "object", "properties": { "file": { "type": "string", "minLength": 1 } },
                         "required": ["file"], "additionalProperties": false });
    let mut client = Client::of(vec![tool("touch", schema, "touch", &["--", "<file>"])]);
    let file = out(&directory).to_string_lossy().into_owned();
    for (arguments, told) in [
        (json!({}), "missing properties 'file'"),
        (json!({ "file": "" }), "/file: length must be >=1"),
        (json!({ "file": file, "more": 1 }), "'more' not allowed"),
        (json!({ "file": format!("{file}\0") }), "/file: a zero byte"),
        (json!([file]), "want object"),
    ] {
        let result = client.call("touch", arguments).await;
        assert_eq!(result["isError"], true);
        assert!(said(&result).contains(told), "{result}");
    }
    assert!(!out(&directory).exists());
    assert!(client.call("touch", json!({ "file": file })).await.get("isError").is_none());
    assert!(out(&directory).exists());
}

#[tokio::test]
async fn arguments_that_are_larger_than_a_command_takes_are_refused_and_large_ones_wait_unread() {
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    let mut client = Client::of(vec![tool("count", schema, "printf", &["%s", "<text>"])]);
    let large = "x".repeat(100 << 10);
    assert_eq!(said(&client.call("count", json!({ "text": large })).await), format!("{large}\n"));
    let result = client.call("count", json!({ "text": large, "more": [large, large] })).await;
    assert_eq!(result["isError"], true);
    assert!(said(&result).contains("larger than 256 KiB"), "{result}");
    let result = client.call("count", json!({ "text": [large] })).await;
    assert!(said(&result).contains("want string"), "{result}");
    // Without a turn, nothing large is read.
    let turns = Arc::clone(&client.1.turns);
    let mut taken = Vec::new();
    for _ in 0..RUNNING {
        taken.push(turns.take(&Owner::unlimited()).await);
    }
    let params = json!({ "name": "count", "arguments": { "text": [large] } });
    client.send(json!({ "jsonrpc": "2.0", "id": "large", "method": "tools/call", "params": params })).await;
    let mistake = client.call("count", json!({ "text": [1] })).await;
    assert!(said(&mistake).contains("want string"), "at once: {mistake}");
    drop(taken);
    let answer = client.answer().await;
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!("large"), &json!(true)));
}

#[tokio::test]
async fn a_command_that_fails_says_how() {
    let directory = TempDir::new().expect("a directory");
    let mut client = Client::of(vec![
        script("three", "echo before; echo why >&2; exit 3", &out(&directory)),
        script("shot", "kill -TERM $$", &out(&directory)),
        tool("gone", json!({ "type": "object" }), "/nowhere/secret-place/program", &[]),
    ]);
    let result = client.call("three", json!({})).await;
    assert_eq!(result["isError"], true);
    assert_eq!(said(&result), "before\n\nThe command ended with exit code 3.\nwhy\n\n");
    assert_eq!(said(&client.call("shot", json!({})).await), "The command was ended by signal 15.\n");
    let result = client.call("gone", json!({})).await;
    assert_eq!(result["isError"], true);
    assert!(said(&result).contains("could not be started") && !said(&result).contains("secret"), "{result}");
}

#[tokio::test]
async fn a_command_sees_its_own_environment_and_no_secret_of_the_gate() {
    let hidden: Vec<_> = std::env::vars().filter(|(name, _)| !INHERITED.contains(&name.as_str())).collect();
    assert!(!hidden.is_empty(), "there is something to hide");
    let mut env = tool("env", json!({ "type": "object" }), "env", &[]);
    env.env.push(("OWN".into(), Secret::new("value".into())));
    let mut client = Client::of(vec![env]);
    let seen = said(&client.call("env", json!({})).await);
    let names: Vec<_> = seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert!(names.contains(&"OWN") && names.contains(&"PATH"), "{names:?}");
    assert!(hidden.iter().all(|(name, _)| !names.contains(&name.as_str())), "{names:?}");
}

#[tokio::test]
async fn a_command_that_reads_finds_nothing() {
    let mut client = Client::of(vec![tool("cat", json!({ "type": "object" }), "cat", &[])]);
    assert_eq!(said(&client.call("cat", json!({})).await), "\n");
}

#[tokio::test]
async fn output_beyond_the_limit_is_cut_and_the_command_still_ends() {
    let directory = TempDir::new().expect("a directory");
    let mut client = Client::of(vec![
        script("much", "head -c 5000000 /dev/zero; echo end > \"$OUT\"", &out(&directory)),
        script("bytes", "printf 'a\\377b'", &out(&directory)),
        script("errors", "head -c 5000000 /dev/zero >&2; exit 1", &out(&directory)),
    ]);
    let result = client.call("much", json!({})).await;
    assert_eq!(result["content"][0]["text"].as_str().expect("text").len(), MOST_OUTPUT);
    assert_eq!(result["content"][1]["text"], "[cut: the output is longer than 1024 KiB]");
    assert!(out(&directory).exists());
    assert_eq!(said(&client.call("bytes", json!({})).await), "a\u{fffd}b\n");
    let errors = client.call("errors", json!({})).await;
    assert_eq!(errors["content"][1]["text"].as_str().expect("text").len(), 64 << 10);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let directory = TempDir::new().expect("a directory");
    let mut slow = script("slow", "echo partial; sleep 1000 & echo $! > \"$OUT\"; wait", &out(&directory));
    slow.timeout = Duration::from_millis(500);
    let mut client = Client::of(vec![slow]);
    let result = client.call("slow", json!({})).await;
    assert_eq!(result["isError"], true);
    assert_eq!(said(&result), "partial\n\nThe command did not end within 500ms and was killed.\n");
    let grandchild = number_in(&out(&directory)).await;
    until("its child is gone", || is_gone(grandchild)).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_holds_up_nobody_and_is_ended() {
    let directory = TempDir::new().expect("a directory");
    let mut client =
        Client::of(vec![script("leave", "sleep 1000 & echo $! > \"$OUT\"; echo done", &out(&directory))]);
    let result = client.call("leave", json!({})).await;
    assert_eq!(result, json!({ "content": [{ "type": "text", "text": "done\n" }] }));
    let left = number_in(&out(&directory)).await;
    until("what it left is gone", || is_gone(left)).await;
}

#[tokio::test]
async fn a_cancelled_call_ends_its_command_and_gets_no_answer() {
    for is_modern in [false, true] {
        let directory = TempDir::new().expect("a directory");
        let mut client = Client::of(vec![
            script("wait", "echo $$ > \"$OUT\"; exec sleep 1000", &out(&directory)),
            script("now", "echo now", &out(&directory)),
        ]);
        client.begin(1, "wait").await;
        let pid = number_in(&out(&directory)).await;
        if is_modern {
            client.0.to_server.send(ToServer::Abandon(Id::Number("1".into()))).await.expect("a server");
        } else {
            let params = json!({ "requestId": 1 });
            client
                .send(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }))
                .await;
        }
        until("the command is gone, and no zombie is left", || !Path::new(&format!("/proc/{pid}")).exists())
            .await;
        client.begin(2, "now").await;
        assert_eq!(client.answer().await["id"], 2, "the next thing said is about another call");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_commands_along() {
    let directory = TempDir::new().expect("a directory");
    let client = Client::of(vec![script("wait", "echo $$ > \"$OUT\"; exec sleep 1000", &out(&directory))]);
    client.begin(1, "wait").await;
    let pid = number_in(&out(&directory)).await;
    drop(client);
    until("the command is gone", || !Path::new(&format!("/proc/{pid}")).exists()).await;
}

#[tokio::test]
async fn too_many_calls_of_one_client_are_refused_and_those_of_others_wait_for_their_turn() {
    let directory = TempDir::new().expect("a directory");
    let server = server(vec![
        script("wait", "echo started >> \"$OUT\"; exec sleep 1000", &out(&directory)),
        script("now", "echo now", &out(&directory)),
    ]);
    let started = || std::fs::read_to_string(out(&directory)).unwrap_or_default().lines().count();
    let mut greedy = Client(open(Arc::clone(&server), Owner::unlimited()), Arc::clone(&server));
    for id in 0..CALLS as u32 {
        greedy.begin(id, "wait").await;
    }
    until("all of them run", || started() == CALLS).await;
    greedy.begin(0, "now").await;
    assert_eq!(greedy.answer().await["error"]["code"], -32600, "an id is taken while its call runs");
    greedy.begin(99, "now").await;
    match greedy.next().await {
        FromServer::Failed { id, error } => {
            assert_eq!((id, error.kind), (Id::Number("99".into()), ErrorKind::CallerLimit));
        }
        other => panic!("{other:?}"),
    }

    let mut other = Client(open(Arc::clone(&server), Owner::unlimited()), server);
    other.begin(1, "now").await;
    assert_eq!(other.ask("ping", json!({})).await["result"], json!({}), "who waits can still talk");
    assert!(other.0.from_server.try_recv().is_err(), "no turn is free");
    drop(greedy);
    assert_eq!(said(&other.answer().await["result"]), "now\n\n");
}
