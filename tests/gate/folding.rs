//! What one caller writes is read as the gateway reads it, or not at all: in front of a server that takes keys in any
//! spelling and of two the last ([`folding_server.py`](folding_server.py)), no caller reaches the calls of another.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    decisive_keys,
    harness::{CI, Client, DEV, Gate, field, get, post},
    mcp::{INITIALIZE, INITIALIZED, SseSession, command, event, modern, modern_call, text},
    recorder::Recorder,
    spellings::{MANY, spellings},
};

const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

/// More numbers than a server that counts has given out by now.
const GUESSES: u64 = 40;

fn folding() -> Value {
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/folding_server.py");
    json!({ "command": "python3", "args": [server], "inheritEnv": ["PATH"] })
}

/// The server `x`; `f` with a tool filter.
fn config() -> Value {
    let mut filtered = folding();
    filtered["options"] = json!({ "toolFilter": { "mode": "block", "list": ["nothing"] } });
    json!({ "mcpServers": { "x": folding(), "f": filtered } })
}

/// What an attacker says: the header fields of MCP 2026-07-28 as they would be right for the body as the gateway might read
/// it, and the body.
struct Attack {
    method: &'static str,
    name: Option<String>,
    body: String,
}

impl Attack {
    fn post(&self, path: &str, token: &str) -> String {
        let name = self.name.as_ref().map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
        let fields = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {}\r\n{name}", self.method);
        post(path, token, &fields, &self.body)
    }
}

/// Every way that is known to reach the request that the server knows by the number `n`. `echo` and `progress` are what the
/// tools of that name are called.
fn attacks(n: u64, echo: &str, progress: &str) -> Vec<Attack> {
    let call = |tool: &str, text: &str| Attack {
        method: "tools/call",
        name: Some(tool.to_owned()),
        body: text
            .replace("<TOOL>", &format!(r#""name":"{tool}","arguments":{{"text":"evil"}}"#))
            .replace("<META>", META)
            .replace("<N>", &n.to_string()),
    };
    let notification = |method: &'static str, text: &str| Attack {
        method,
        name: None,
        body: text.replace("<N>", &n.to_string()),
    };
    vec![
        // An answer of its own to somebody else's call.
        call(
            echo,
            r#"{"jsonrpc":"2.0","id":1,"ID":<N>,"method":"tools/call","params":{<TOOL>,"_meta":{<META>}}}"#,
        ),
        call(
            echo,
            r#"{"jsonrpc":"2.0","id":1,"Id":<N>,"method":"tools/call","params":{<TOOL>,"_meta":{<META>}}}"#,
        ),
        call(
            echo,
            r#"{"jsonrpc":"2.0","id":1,"id\u0000":<N>,"method":"tools/call","params":{<TOOL>,"_meta":{<META>}}}"#,
        ),
        call(
            echo,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"\u{131}d\":<N>,\"method\":\"tools/call\",\"params\":{<TOOL>,\"_meta\":{<META>}}}",
        ),
        // Progress of its own, in somebody else's stream.
        call(
            progress,
            r#"{"id":1,"method":"tools/call","params":{<TOOL>,"_meta":{<META>,"progressToken":1,"PROGRESSTOKEN":<N>}}}"#,
        ),
        call(
            progress,
            r#"{"id":1,"method":"tools/call","params":{<TOOL>,"_meta":{<META>,"progress_token":<N>}}}"#,
        ),
        call(
            progress,
            "{\"id\":1,\"method\":\"tools/call\",\"params\":{<TOOL>,\"_meta\":{<META>,\"progressTo\u{212a}en\":<N>}}}",
        ),
        call(
            progress,
            r#"{"id":1,"method":"tools/call","params":{<TOOL>,"_meta":{<META>},"_Meta":{<META>,"progressToken":<N>}}}"#,
        ),
        call(
            progress,
            r#"{"id":1,"method":"tools/call","params":{<TOOL>,"_meta":{<META>}},"Params":{<TOOL>,"_meta":{<META>,"progressToken":<N>}}}"#,
        ),
        // The end of somebody else's call.
        notification(
            "notifications/x",
            r#"{"method":"notifications/x","Method":"notifications/cancelled","params":{"requestId":<N>,"x":"evil"}}"#,
        ),
        notification(
            "notifications/cancelled",
            r#"{"method":"notifications/cancelled","params":{"requestId":1,"RequestId":<N>,"x":"evil"}}"#,
        ),
        notification(
            "notifications/cancelled",
            r#"{"method":"notifications/cancelled","params":{"request_id":<N>,"x":"evil"}}"#,
        ),
        notification(
            "Notifications/Cancelled",
            r#"{"method":"Notifications/Cancelled","params":{"requestId":<N>,"x":"evil"}}"#,
        ),
        // A tool that no header field names.
        Attack {
            method: "ping",
            name: None,
            body: format!(
                r#"{{"id":1,"method":"ping","Method":"tools/call","params":{{"name":"{echo}","arguments":{{"text":"evil"}},"_meta":{{{META}}}}}}}"#
            ),
        },
        Attack {
            method: "tools/call",
            name: Some("other".to_owned()),
            body: format!(
                r#"{{"id":1,"method":"tools/call","params":{{"name":"other","NAME":"{echo}","arguments":{{"text":"evil"}},"_meta":{{{META}}}}}}}"#
            ),
        },
        // Log messages where everybody's go.
        call(
            echo,
            r#"{"id":1,"method":"tools/call","params":{<TOOL>,"_meta":{<META>,"io.modelcontextprotocol/LogLevel":"debug"}}}"#,
        ),
        // Something that a server may send back, to whom it names.
        call(
            echo,
            r#"{"id":1,"method":"tools/call","params":{<TOOL>,"_meta":{<META>,"io.modelcontextprotocol/subscriptionid":<N>}}}"#,
        ),
        // What ends a server that recurses, or that expects numbers to be small.
        call(
            echo,
            &format!(
                r#"{{"id":1,"method":"tools/call","params":{{<TOOL>,"_meta":{{<META>}},"x":{}{}}}}}"#,
                "[".repeat(3_000),
                "]".repeat(3_000)
            ),
        ),
        call(
            echo,
            &format!(
                r#"{{"id":1,"method":"tools/call","params":{{<TOOL>,"_meta":{{<META>}},"x":{}}}}}"#,
                "1".repeat(5_000)
            ),
        ),
    ]
}

/// A call that waits for `release`, once the server has it.
async fn held(gate: &Gate, path: &str, token: &str, tool: &str) -> Client<TcpStream> {
    let before = holding(gate);
    let mut client = gate.client().await;
    client.send(modern_call(path, token, 1, tool, json!({}))).await;
    crate::harness::until("the call is held", || holding(gate) > before).await;
    client
}

fn holding(gate: &Gate) -> usize {
    gate.log.all().iter().filter(|line| line["line"] == "holding").count()
}

/// One caller attacks while another one's call waits on the same process.
async fn attacked(path: &str, prefix: &str, victim: &str, attacker: &str) {
    let gate = Gate::start(config()).await;
    let tool = |name: &str| format!("{prefix}{name}");
    let mut waiting = held(&gate, path, victim, &tool("hold")).await;
    let mut listening = gate.client().await;
    listening.send(modern(path, victim, 2, "subscriptions/listen", json!({ "notifications": {} }))).await;
    listening.head().await;
    assert_eq!(event(&mut listening).await["method"], "notifications/subscriptions/acknowledged");

    let mut passed = Vec::new();
    let mut client = gate.client().await;
    for attack in (1..=GUESSES).flat_map(|n| attacks(n, &tool("echo"), &tool("progress"))) {
        client.send(attack.post(path, attacker)).await;
        let (status, head, body) = client.response().await;
        if status != 400 {
            passed.push(format!("{status} {body} for {}", &attack.body[..attack.body.len().min(300)]));
        }
        if field(&head, "connection") == Some("close") {
            client = gate.client().await;
        }
    }

    // The call that waits has its own answer, and nothing came before it but its own progress.
    let (status, _, body) = gate.ask(&modern_call(path, victim, 3, &tool("release"), json!({}))).await;
    assert_eq!(status, 200, "{body}");
    let head = waiting.head().await;
    assert!(head.contains("text/event-stream"), "answered by somebody else: {head}");
    let progress = event(&mut waiting).await;
    assert_eq!(progress["params"], json!({ "progressToken": 1, "progress": 1 }), "somebody else's");
    let answer = event(&mut waiting).await;
    assert_eq!((&answer["id"], text(&answer)), (&json!(1), "released".into()));
    assert!(passed.is_empty(), "{} passed, first {}", passed.len(), passed[0]);
    let seen = modern_call(path, victim, 4, &tool("seen"), json!({ "word": "evil" }));
    let answer: Value = serde_json::from_str(&gate.ask(&seen).await.2).unwrap();
    assert_eq!(text(&answer), "0", "lines that reached the server");
}

#[tokio::test]
async fn strangers_on_one_process_do_not_reach_each_other() {
    attacked("/x/mcp", "", CI, DEV).await;
}

#[tokio::test]
async fn nor_do_they_behind_a_tool_filter() {
    attacked("/f/mcp", "", CI, DEV).await;
}

#[tokio::test]
async fn nor_do_programs_with_one_token_among_all_servers_as_one() {
    attacked("/mcp", "x__", DEV, DEV).await;
}

#[tokio::test]
async fn what_belongs_to_a_session_is_not_done_to_a_process_that_callers_share() {
    let gate = Gate::start(config()).await;
    for (method, params) in [
        ("initialize", json!({ "protocolVersion": "2025-11-25" })),
        ("logging/setLevel", json!({ "level": "debug" })),
        ("resources/subscribe", json!({ "uri": "x://y" })),
        ("resources/unsubscribe", json!({ "uri": "x://y" })),
        ("tasks/list", json!({})),
    ] {
        let (status, _, body) = gate.ask(&modern("/x/mcp", DEV, 1, method, params)).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
    // Taken, and passed on to nobody.
    for method in [
        "notifications/of/some/extension",
        "notifications/initialized",
        "notifications/roots/list_changed",
        "notifications/cancelled",
    ] {
        let body = json!({ "method": method, "params": { "requestId": 1, "word": "evil" } }).to_string();
        let attack = Attack { method: "", name: None, body };
        let request = attack.post("/x/mcp", DEV).replace("Mcp-Method: ", &format!("Mcp-Method: {method}"));
        assert_eq!(gate.ask(&request).await.0, 202, "{method}");
    }
    let seen = modern_call("/x/mcp", DEV, 4, "seen", json!({ "word": "evil" }));
    let answer: Value = serde_json::from_str(&gate.ask(&seen).await.2).unwrap();
    assert_eq!(text(&answer), "0");
    assert!(!gate.log.text().contains("did "), "what a server did");
}

#[tokio::test]
async fn a_session_takes_no_ambiguous_message_either() {
    let gate = Gate::start(config()).await;
    for (path, tool) in [("/x/sse", "echo"), ("/f/sse", "echo"), ("/sse", "x__echo")] {
        let mut session = SseSession::open(&gate, path, DEV).await;
        for attack in attacks(7, tool, tool) {
            let (status, _, body) = gate.ask(&post(&session.url, DEV, "", &attack.body)).await;
            assert!(status == 400 && body.contains("not_a_message"), "{status} {body} {}", attack.body);
        }
        assert_eq!(session.call(tool, json!({ "text": "goes on" })).await, "goes on");
    }
}

#[tokio::test]
async fn two_calls_whose_ids_a_server_could_take_for_one_are_refused_before() {
    let gate = Gate::start(json!({ "mcpServers": { "small": command() } })).await;
    for id in ["1.0", "1e0", "-0", "9007199254740993", r#""\ud800""#, r#""a\u0000""#, "[1]", "{}", "true"] {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{"_meta":{{{META}}}}}}}"#);
        let attack = Attack { method: "tools/list", name: None, body };
        let (status, _, body) = gate.ask(&attack.post("/small/mcp", DEV)).await;
        assert!(status == 400 && body.contains("not_a_message"), "{id}: {status} {body}");
    }
}

/// Where messages come in, and how a client of each place sends one.
async fn doors(gate: &Gate) -> Vec<(String, String, &'static str)> {
    let modern = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: TOOL\r\n";
    let mut doors: Vec<_> = [("/x/mcp", "echo"), ("/f/mcp", "echo"), ("/mcp", "x__echo"), ("/h/mcp", "echo")]
        .into_iter()
        .map(|(path, tool)| (path.to_owned(), modern.replace("TOOL", tool), tool))
        .collect();
    for (path, tool) in [("/x/sse", "echo"), ("/sse", "x__echo")] {
        let mut stream = gate.client().await;
        stream.send(get(path, DEV, "Accept: text/event-stream\r\n")).await;
        stream.head().await;
        let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
        let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end().to_owned();
        for message in [INITIALIZE, INITIALIZED] {
            assert_eq!(gate.ask(&post(&url, DEV, "", message)).await.0, 202);
        }
        doors.push((url, String::new(), tool));
        // Read, so that what is answered does not stop the session.
        tokio::spawn(async move {
            while stream.more().await {
                stream.buffer.clear()
            }
        });
    }
    doors
}

/// Keys that the gateway decides on or renames, by where they stand.
const KEYS: [(&str, &[&str]); 6] = [
    ("TOP", decisive_keys::TOP),
    ("PARAMS", decisive_keys::PARAMS),
    ("META", decisive_keys::META),
    ("REF", decisive_keys::REFERENCE),
    ("FILTER", decisive_keys::FILTER),
    ("ERROR", &["code"]),
];

#[tokio::test]
async fn no_spelling_of_a_key_that_counts_passes_any_door() {
    let server = Recorder::start().await;
    let mut config = config();
    let options = json!({ "toolFilter": { "mode": "block", "list": ["nothing"] } });
    config["mcpServers"]["h"] = json!({ "url": server.url("/mcp"), "options": options });
    let gate = Gate::start(config).await;
    let mut tried = 0;
    for (path, fields, tool) in doors(&gate).await {
        let message = |place: &str, member: &str| {
            let template = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"<tool>","arguments":{"text":"a"},"_meta":{<meta>,"progressToken":1<META>}<PARAMS>}<TOP>}"#;
            let text = template.replace("<meta>", META).replace("<tool>", tool);
            let at = |of: &str| if of == place { member } else { "" };
            let params = match place {
                "REF" => format!(r#","ref":{{"x":1{member}}}"#),
                "FILTER" => format!(r#","notifications":{{"x":1{member}}}"#),
                _ => at("PARAMS").to_owned(),
            };
            if place == "ERROR" {
                // What only an answer has.
                return format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"message":""{member}}}}}"#);
            }
            text.replace("<TOP>", at("TOP")).replace("<PARAMS>", &params).replace("<META>", at("META"))
        };
        let mut client = gate.client().await;
        client.send(post(&path, DEV, &fields, &message("", ""))).await;
        let (status, _, body) = client.response().await;
        assert!(matches!(status, 200 | 202), "{path}: {status} {body}");
        server.forget();
        let mut client = gate.client().await;
        for (place, key) in KEYS.iter().flat_map(|(place, keys)| keys.iter().map(move |key| (*place, *key))) {
            let all = spellings(key);
            assert!(all.len() >= MANY);
            // From all of them: they are sorted, and the first are of few kinds.
            for spelling in (0..MANY).map(|n| &all[n * all.len() / MANY]) {
                client.send(post(&path, DEV, &fields, &message(place, &format!(",{spelling}:{{}}")))).await;
                let (status, head, body) = client.response().await;
                let is_ours = body.contains("not_a_message") || body.contains("bad_request");
                assert!(status == 400 && is_ours, "{path} {place} {spelling}: {status} {body}");
                if field(&head, "connection") == Some("close") {
                    client = gate.client().await;
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 6 * MANY * KEYS.iter().map(|(_, keys)| keys.len()).sum::<usize>());
    // The byte path sends what is undecided on: none of it is a whole message.
    for request in server.requests().iter().filter(|request| request.contains(r#""id":1,"#)) {
        assert!(
            serde_json::from_str::<Value>(request.split("\r\n\r\n").nth(1).unwrap_or_default()).is_err(),
            "{request}"
        );
    }
}
