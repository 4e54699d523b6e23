//! Each caller's own account at each server: whatever carries the conversation, a server hears of nobody but the caller whose
//! credential it has, and nobody else sees what it says to that one.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use sluicegate::identity::{Principal, login::upstream::UpstreamOwner};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};

use crate::{
    harness::{Client, Gate, field, get, post, soon},
    mcp::{INITIALIZE, Session, SseSession, is_gone, modern, modern_call, names, request, text},
};

/// A server over Streamable HTTP, both eras, that is somebody's: the token says whose. A token is `canary-OWNER`; the tool `whoami` says
/// OWNER, and another tool is called `is_OWNER`.
#[derive(Clone)]
struct AccountServer {
    url: String,
    /// What came as `Authorization`, and the rest of what came.
    seen: Arc<Mutex<Vec<(String, String)>>>,
    /// Tokens that it does not take any more.
    refused: Arc<Mutex<Vec<String>>>,
}

impl AccountServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let server = Self { url, seen: Arc::default(), refused: Arc::default() };
        let of_task = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(of_task.clone().serve(Client::new(stream)));
            }
        });
        server
    }

    async fn serve(self, mut client: Client<TcpStream>) {
        while let Some(head) = client.next_head().await {
            let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            let body = String::from_utf8(client.exactly(length).await).unwrap();
            let authorization = field(&head, "authorization").unwrap_or_default().to_owned();
            let token = authorization.strip_prefix("Bearer ").unwrap_or_default().to_owned();
            let rest = format!("{}{body}", head.replace(&authorization, ""));
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push((authorization, rest));
            let is_refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(&token);
            let response = match serde_json::from_str::<Value>(&body) {
                _ if is_refused || token.is_empty() => {
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"
                        .to_owned()
                }
                Ok(message) if message["id"].is_null() => {
                    "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned()
                }
                Ok(message) => {
                    let answer = answer(&message, token.strip_prefix("canary-").unwrap_or("nobody"));
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
                        answer.len()
                    )
                }
                Err(_) => "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            client.send(response).await;
        }
    }

    /// Whoever called it, as tokens say.
    fn tokens(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(token, _)| token.clone())
            .collect()
    }

    fn rest(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, rest)| &**rest).collect()
    }
}

fn answer(message: &Value, owner: &str) -> String {
    let text =
        |words: &str| json!({ "content": [{ "type": "text", "text": words }], "resultType": "complete" });
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} }, "serverInfo": { "name": "account", "version": "1" },
        }),
        "server/discover" => json!({
            "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "resultType": "complete",
        }),
        "tools/list" => {
            let tools = ["whoami".to_owned(), format!("is_{owner}")];
            let tools = tools.map(|name| json!({ "name": name, "inputSchema": { "type": "object" } }));
            json!({ "tools": tools, "resultType": "complete" })
        }
        "tools/call" => text(owner),
        _ => return json!({ "jsonrpc": "2.0", "id": message["id"], "error": { "code": -32601, "message": "no" } }).to_string(),
    };
    json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string()
}

/// Of most tests: two over HTTP, two commands.
const SERVERS: [&str; 4] = ["http0", "http1", "cmd0", "cmd1"];

/// How many there are in the test that nobody is mixed with another: users, servers (of which two are commands), rounds.
struct Size {
    users: usize,
    servers: usize,
    rounds: usize,
}

impl Size {
    /// `USERS,SERVERS,ROUNDS` in the environment is for more than there is time for each day.
    fn of_env() -> Self {
        let wanted = std::env::var("SLUICEGATE_ACCOUNTS").unwrap_or_else(|_| "6,4,2".into());
        let mut numbers = wanted.split(',').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Self { users: next(), servers: next(), rounds: next() }
    }
}

/// What a user has of the gateway.
fn token(user: usize) -> &'static str {
    format!("gate-canary-{user}-0123456789abcdef").leak()
}

fn config(servers: &[AccountServer], users: usize, note: &str) -> Value {
    let tokens: serde_json::Map<_, _> = (0..users)
        .map(|user| (format!("u{user}"), json!({ "value": token(user), "roles": ["admin"] })))
        .collect();
    let account = json!({ "kind": "user_token", "displayName": "Accounts", "instructions": note });
    let http = |server: &AccountServer| {
        let mut account = account.clone();
        account["header"] = json!("Authorization");
        json!({ "url": server.url, "upstreamAuth": account })
    };
    let command = json!({
        "command": "python3",
        "args": [concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/account_server.py")],
        "env": { "ACCOUNT": { "$userToken": "{{token}}" } },
        "inheritEnv": ["PATH"],
        "upstreamAuth": account,
    });
    let http = servers.iter().enumerate().map(|(number, server)| (format!("http{number}"), http(server)));
    let commands = ["cmd0", "cmd1"].map(|name| (name.to_owned(), command.clone()));
    let servers: serde_json::Map<_, _> = http.chain(commands).collect();
    json!({
        "proxy": {
            "baseUrl": "http://localhost:8080",
            "auth": { "kind": "oauth", "storage": "memory", "tokens": tokens },
        },
        "mcpServers": servers,
    })
}

fn owner(user: usize) -> UpstreamOwner {
    UpstreamOwner::Principal(Principal::Token(format!("u{user}").into()))
}

fn credentials(gate: &Gate, server: &str) -> Arc<sluicegate::credentials::ServerCredentials> {
    let live = gate.gateway.shared().live().clone();
    Arc::clone(live.entry(server).unwrap().credentials.as_ref().unwrap())
}

/// Somebody enters the token of their account.
async fn enter(gate: &Gate, user: usize, server: &str, account: &str) {
    credentials(gate, server).set_token(&owner(user), &format!("canary-{account}")).await.unwrap();
}

async fn leave(gate: &Gate, user: usize, server: &str) {
    let credentials = credentials(gate, server);
    // As on a worker.
    let leaves = async move { credentials.disconnect(&owner(user)).await.unwrap() };
    LocalSet::new().run_until(leaves).await;
}

async fn ask(gate: &Gate, request: &str) -> Value {
    let (status, _, body) = gate.ask(request).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn call(tool: &str) -> String {
    request(7, "tools/call", json!({ "name": tool, "arguments": {} }))
}

/// What every way to each server says of whom it is for.
async fn owners(gate: &Gate, user: usize, server: &str) -> Vec<String> {
    let token = token(user);
    let (path, sse) = (format!("/{server}/mcp"), format!("/{server}/sse"));
    let mut said = Vec::new();
    // Bytes, or a session with a process.
    let session = gate.ask(&post(&path, token, "", INITIALIZE)).await;
    assert_eq!(session.0, 200, "{}", session.2);
    let fields = match field(&session.1, "mcp-session-id") {
        Some(id) => format!("Mcp-Session-Id: {id}\r\n"),
        None => String::new(),
    };
    said.push(text(&ask(gate, &post(&path, token, &fields, &call("whoami"))).await));
    gate.ask(&get(&path, token, &fields).replacen("GET", "DELETE", 1)).await;
    // Messages to a server of the other transport, or to a process.
    let mut session = SseSession::open(gate, &sse, token).await;
    said.push(text(&session.ask(&call("whoami")).await));
    // Self-contained: over a conversation that callers share, with a process or behind all servers as one.
    said.push(text(&ask(gate, &modern_call(&path, token, 1, "whoami", json!({}))).await));
    let whole = format!("{server}__whoami");
    said.push(text(&ask(gate, &modern_call("/mcp", token, 1, &whole, json!({}))).await));
    for (path, prefix) in [(&*path, ""), ("/mcp", &*format!("{server}__"))] {
        let list = ask(gate, &modern(path, token, 2, "tools/list", json!({}))).await;
        let names = names(&list);
        let own: Vec<_> =
            names.iter().filter_map(|name| name.strip_prefix(&*format!("{prefix}is_"))).collect();
        assert_eq!(own.len(), 1, "{names:?}");
        said.push(own[0].to_owned());
    }
    // All servers as one, in a session.
    let session = Session::open(gate, "/mcp", token).await;
    said.push(session.call(&whole, json!({})).await);
    session.delete().await;
    said
}

#[tokio::test]
async fn nobody_is_called_for_another_whatever_carries_it() {
    let size = Size::of_env();
    let mut servers = Vec::new();
    for _ in 2..size.servers {
        servers.push(AccountServer::start().await);
    }
    let mut gate = Arc::new(Gate::start(config(&servers, size.users, "first")).await);
    let names: Vec<String> = (0..servers.len())
        .map(|number| format!("http{number}"))
        .chain(["cmd0", "cmd1"].map(str::to_owned))
        .collect();
    // Each has processes while it asks.
    let turns = Arc::new(Semaphore::new(32));
    for round in 0..size.rounds {
        for (user, server) in (0..size.users).flat_map(|user| names.iter().map(move |server| (user, server)))
        {
            enter(&gate, user, server, &format!("r{round}_u{user}_{server}")).await;
        }
        if round % 2 == 1 {
            Arc::get_mut(&mut gate).unwrap().reload(config(&servers, size.users, &format!("round {round}")));
        }
        let mut asked = JoinSet::new();
        for (user, server) in (0..size.users).flat_map(|user| names.iter().map(move |server| (user, server)))
        {
            let (gate, server, turns) = (Arc::clone(&gate), server.clone(), Arc::clone(&turns));
            asked.spawn(async move {
                let _turn = turns.acquire().await.unwrap();
                let wanted = format!("r{round}_u{user}_{server}");
                for (way, said) in owners(&gate, user, &server).await.into_iter().enumerate() {
                    assert_eq!(said, wanted, "way {way}");
                }
            });
        }
        while let Some(checked) = asked.join_next().await {
            checked.unwrap();
        }
    }
    let tokens: Vec<_> = servers.iter().flat_map(AccountServer::tokens).collect();
    assert!(tokens.iter().all(|token| token.starts_with("Bearer canary-")), "{tokens:?}");
    for (number, server) in servers.iter().enumerate() {
        let own = format!("_http{number}");
        assert!(server.tokens().iter().all(|token| token.ends_with(&own)), "another server's token");
        assert!(!server.rest().contains("canary"), "a token stands where none belongs");
    }
    let log = gate.log.text();
    assert!(!log.contains("canary"), "{log}");
    for path in ["/servers", "/servers/cmd0", "/status", "/health"] {
        let (_, head, body) = gate.ask(&get(path, token(0), "")).await;
        assert!(!head.contains("canary") && !body.contains("canary"), "{path}: {body}");
    }
    assert!(!gate.metrics().contains("canary"));
}

/// A server that waits says where to go, in a session over Streamable HTTP.
async fn waits(session: &Session, server: &str) {
    assert_eq!(session.tools().await, [format!("connect_{server}")]);
    let refused = session.ask(&call("whoami")).await;
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    let url = format!("http://localhost:8080/my/tokens#{server}");
    assert!(text(&refused).contains(&url), "{refused}");
    let meta = &refused["result"]["_meta"]["sluicegate/authorization"]["error"];
    assert_eq!((&meta["code"], &meta["data"]["tokenSetupUrl"]), (&json!("token_required"), &json!(url)));
    assert!(text(&session.ask(&call(&format!("connect_{server}"))).await).contains(&url));
}

#[tokio::test]
async fn a_session_goes_on_with_the_server_once_a_token_is_there() {
    let servers = [AccountServer::start().await, AccountServer::start().await];
    let gate = Gate::start(config(&servers, 2, "how")).await;
    for server in ["http0", "cmd0"] {
        let session = Session::open(&gate, &format!("/{server}/mcp"), token(0)).await;
        waits(&session, server).await;
        let mut stream = session.listen().await;
        enter(&gate, 0, server, &format!("mine_{server}")).await;
        let told = crate::mcp::event(&mut stream).await;
        assert_eq!(told["method"], "notifications/tools/list_changed", "{told}");
        assert_eq!(session.call("whoami", json!({})).await, format!("mine_{server}"));
        // Another account is another conversation.
        enter(&gate, 0, server, "another").await;
        crate::mcp::is_over(&mut stream).await;
        assert_eq!(session.post(&call("whoami")).await.0, 404);
        let mut session = SseSession::open(&gate, &format!("/{server}/sse"), token(0)).await;
        assert_eq!(session.call("whoami", json!({})).await, "another");
    }
    assert!(servers[0].tokens().iter().all(|token| token.starts_with("Bearer canary-")));
}

#[tokio::test]
async fn among_all_servers_the_one_that_waits_has_one_tool_until_a_token_is_there() {
    let servers = [AccountServer::start().await, AccountServer::start().await];
    let gate = Gate::start(config(&servers, 2, "how")).await;
    enter(&gate, 0, "http1", "one").await;
    let session = Session::open(&gate, "/mcp", token(0)).await;
    let wanted = [
        "cmd0__connect_cmd0",
        "cmd1__connect_cmd1",
        "http0__connect_http0",
        "http1__is_one",
        "http1__whoami",
    ];
    assert_eq!(session.tools().await, wanted);
    let refused = session.ask(&call("http0__whoami")).await;
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    let mut stream = session.listen().await;
    enter(&gate, 0, "cmd0", "two").await;
    let told = soon("a change", crate::mcp::event(&mut stream)).await;
    assert_eq!(told["method"], "notifications/tools/list_changed", "{told}");
    assert_eq!(session.call("cmd0__whoami", json!({})).await, "two");
    let names = session.tools().await;
    assert!(
        names.contains(&"cmd0__is_two".to_owned()) && !names.contains(&wanted[0].to_owned()),
        "{names:?}"
    );
}

#[tokio::test]
async fn who_can_be_led_to_a_page_is_and_the_call_goes_on_from_there() {
    let servers = [AccountServer::start().await, AccountServer::start().await];
    let gate = Gate::start(config(&servers, 2, "how")).await;
    for (server, path, tool) in
        [("http0", "/http0/mcp", "whoami"), ("cmd0", "/cmd0/mcp", "whoami"), ("cmd1", "/mcp", "cmd1__whoami")]
    {
        let calls = |user: usize, more: Value| {
            let mut params = json!({ "name": tool, "arguments": { "a": 1 } });
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let call = modern(path, token(user), 1, "tools/call", params);
            // What the helper says of the client's capabilities is that it has none.
            let body = call.split_once("\r\n\r\n").unwrap().1;
            let able = body.replace(
                r#""io.modelcontextprotocol/clientCapabilities":{}"#,
                r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{"url":{}}}"#,
            );
            call.replace(body, &able).replace(
                &format!("Content-Length: {}", body.len()),
                &format!("Content-Length: {}", able.len()),
            )
        };
        let asked = ask(&gate, &calls(0, json!({}))).await;
        let key = format!("connect_{server}");
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        assert_eq!(asked["result"]["inputRequests"][&*key]["params"]["mode"], "url");
        let state = asked["result"]["requestState"].clone();
        let back = |action: &str| json!({ "requestState": state, "inputResponses": { &*key: { "action": action } } });
        // Of somebody else, or for another call.
        let mut others = back("accept");
        let (status, _, body) = gate.ask(&calls(1, others.clone())).await;
        assert_eq!(status, 400, "{body}");
        others["arguments"] = json!({ "a": 2 });
        assert_eq!(gate.ask(&calls(0, others)).await.0, 400);
        let declined = ask(&gate, &calls(0, back("decline"))).await;
        assert_eq!(declined["result"]["isError"], true, "{declined}");
        enter(&gate, 0, server, &format!("led_{server}")).await;
        let answer = ask(&gate, &calls(0, back("accept"))).await;
        assert_eq!(text(&answer), format!("led_{server}"));
    }
    let rest = servers[0].rest();
    assert!(!rest.contains("sluicegate-connect") && !rest.contains("inputResponses"), "{rest}");
}

#[tokio::test]
async fn processes_end_with_the_account_that_they_were_started_for() {
    let servers = [AccountServer::start().await, AccountServer::start().await];
    let gate = Gate::start(config(&servers, 2, "how")).await;
    for user in 0..2 {
        enter(&gate, user, "cmd0", &format!("u{user}")).await;
    }
    let pid = async |user: usize| {
        text(&ask(&gate, &modern_call("/cmd0/mcp", token(user), 1, "pid", json!({}))).await).parse().unwrap()
    };
    let (first, second): (u32, u32) = (pid(0).await, pid(1).await);
    assert_ne!(first, second);
    assert_eq!((pid(0).await, pid(1).await), (first, second), "a process is shared by the calls of one");
    let session = Session::open(&gate, "/cmd0/mcp", token(0)).await;
    let own = session.pid().await;
    leave(&gate, 0, "cmd0").await;
    is_gone(first).await;
    is_gone(own).await;
    assert_eq!(pid(1).await, second, "that of another goes on");
    let list = ask(&gate, &modern("/cmd0/mcp", token(0), 2, "tools/list", json!({}))).await;
    assert_eq!(names(&list), ["connect_cmd0"]);
}

#[tokio::test]
async fn a_server_that_is_not_to_have_a_tool_instead_is_refused_with_the_address() {
    let servers = [AccountServer::start().await, AccountServer::start().await];
    let mut config = config(&servers, 1, "how");
    for server in SERVERS {
        config["mcpServers"][server]["upstreamAuth"]["awaiting"] = json!("refuse");
    }
    let gate = Gate::start(config).await;
    for server in ["http0", "cmd0"] {
        let path = format!("/{server}/mcp");
        for request in [
            post(&path, token(0), "", INITIALIZE),
            modern(&path, token(0), 1, "tools/list", json!({})),
            modern(&path, token(0), 1, "prompts/get", json!({ "name": "x" })),
        ] {
            let (status, head, body) = gate.ask(&request).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &body["error"]),
                (403, &json!("upstream_authorization_required")),
                "{request}"
            );
            assert_eq!(body["connect_url"], format!("http://localhost:8080/my/tokens#{server}"));
            assert_eq!(field(&head, "www-authenticate"), None, "it is no matter of the client's login");
        }
        let refused = ask(&gate, &modern_call(&path, token(0), 1, "whoami", json!({}))).await;
        assert_eq!(refused["result"]["isError"], true);
    }
    assert!(servers.iter().all(|server| server.tokens().is_empty()), "nobody was called");
}
