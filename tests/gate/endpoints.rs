//! Which path answers what to which method, for whom, on which listener, to pages of which origin: all combinations, as
//! they are written down in `endpoints.txt`. `SLUICEGATE_BLESS=1 cargo test --test gate endpoints` writes it anew.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, path::Path};

use serde_json::{Value, json};
use sluicegate::{
    config::Snapshot,
    endpoints::table::{self, Sites},
};
use tokio::net::TcpStream;

use crate::{
    harness::{Client, DEV, Gate, OPS, SCRAPER, field, operators},
    recorder::Recorder,
};

const PAGE: &str = "https://app.example";

/// `db` is reached byte by byte, `open` too and without a token, `own` by messages; `off` is disabled, and `idle` is what
/// the actions are tried at.
const PATHS: [&[&str]; 3] = [
    &[
        "/",
        "/health",
        "/health/",
        "/health/live",
        "/health/ready",
        "/health/other",
        "/status",
        "/metrics",
        "/servers",
        "/servers/db",
        "/servers/none",
        "/servers/idle/start",
        "/servers/idle/stop",
        "/servers/idle/restart",
        "/servers/none/stop",
        "/servers/idle/delete",
        "/mcp",
        "/sse",
        "/message",
        "/mcp/mcp",
        "/db",
        "/db/mcp",
        "/db/sse",
        "/db/message",
        "/db/other",
        "/db/mcp/other",
        "/open/mcp",
        "/open/sse",
        "/own/mcp",
        "/own/sse",
        "/own/message",
        "/off/mcp",
        "/none/mcp",
        "/admin",
        "/admin/x",
        "/debug",
        "/debug/config",
        "/debug/other",
        "/register",
        "/authorize",
        "/token",
        "/token/mcp",
        "/revoke",
        "/oauth",
        "/oauth/",
    ],
    PAGES,
    &[
        "/my",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/db/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/db/mcp",
        "/.well-known/openid-configuration",
        "/.well-known",
        "/db//mcp",
    ],
];
/// The last one is `OPTIONS` as a browser sends it ahead of a call.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "preflight"];
const TOKENS: &[(&str, Option<&str>)] = &[
    ("no token", None),
    ("unknown", Some("unknown-token-0123456789abcdef")),
    ("dev", Some(DEV)),
    ("role metrics", Some(SCRAPER)),
    ("role admin", Some(OPS)),
];
/// `Host` and `Origin`. Which origin is the listener's own is known when it has a port.
const SITES: &[&str] = &["no origin", "own origin", "foreign origin", "foreign host"];

/// What is there with OAuth only, or is another thing then.
const OAUTH_PATHS: [&[&str]; 3] = [
    &["/db/mcp", "/register", "/authorize", "/token", "/revoke", "/oauth"],
    PAGES,
    &[
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/db/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/db/mcp",
        "/.well-known/openid-configuration",
    ],
];

/// Those of OAuth that people, or their programs, come to.
const PAGES: &[&str] = &[
    "/oauth/login",
    "/oauth/callback",
    "/oauth/consent",
    "/oauth/logout",
    "/oauth/introspect",
    "/oauth/grants/x/revoke",
    "/oauth/authorize",
    "/oauth/authorize/db",
    "/oauth/callback/db",
    "/oauth/approve",
    "/oauth/success",
    "/oauth/error",
    "/oauth/services",
    "/oauth/connect",
    "/oauth/disconnect",
    "/oauth/client.json",
    "/oauth/jwks.json",
    "/my/tokens/set",
    "/my/tokens/delete",
    "/oauth/other",
    "/my/tokens",
];

async fn gate(server: &Recorder, admin: &str) -> Gate {
    start(
        server,
        json!({ "auth": { "tokens": operators() }, "admin": { "addr": admin }, "allowedOrigins": [PAGE] }),
    )
    .await
}

/// Nobody can register: who does so often is told that, and not what else there is to say.
async fn gate_with_oauth(server: &Recorder) -> Gate {
    let auth = json!({ "kind": "oauth", "storage": "memory", "registration": "off", "tokens": operators() });
    start(server, json!({ "auth": auth, "baseUrl": PAGE, "allowedHosts": ["localhost"] })).await
}

async fn start(server: &Recorder, proxy: Value) -> Gate {
    Gate::start(json!({
        "proxy": proxy,
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "open": { "url": server.url("/mcp"), "public": true },
            "own": { "inline": { "tools": [{ "name": "nothing", "command": "true" }] } },
            "off": { "url": server.url("/mcp"), "disabled": true },
            "idle": { "url": server.url("/mcp") },
        },
    }))
    .await
}

/// Connections that were left open by the answers before.
struct Asker {
    at: SocketAddr,
    client: Option<Client<TcpStream>>,
}

impl Asker {
    async fn ask(&mut self, request: &str) -> String {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::new(TcpStream::connect(self.at).await.unwrap()),
        };
        client.send(request).await;
        let head = client.head().await;
        let is_stream = field(&head, "transfer-encoding").is_some();
        if !is_stream && field(&head, "connection") != Some("close") {
            let length = field(&head, "content-length").filter(|_| !request.starts_with("HEAD"));
            client.exactly(length.map_or(0, |length| length.parse().unwrap())).await;
            self.client = Some(client);
        }
        head
    }
}

/// What is written down of an answer.
fn noted(head: &str) -> String {
    let mut noted = head[9..12].to_owned();
    for (name, field_name) in
        [("allow", "allow"), ("challenge", "www-authenticate"), ("methods", "access-control-allow-methods")]
    {
        if let Some(value) = field(head, field_name) {
            let value = value.trim_start_matches("Bearer ").replace("realm=\"test gate\"", "realm");
            write!(noted, " {name}[{value}]").unwrap();
        }
    }
    noted
}

/// Names that have the same value are put together, in their order.
fn grouped<V: PartialEq>(of: impl IntoIterator<Item = (String, V)>) -> Vec<(String, V)> {
    let mut groups: Vec<(String, V)> = Vec::new();
    for (name, value) in of {
        match groups.iter_mut().find(|(_, other)| *other == value) {
            Some((names, _)) => write!(names, ", {name}").unwrap(),
            None => groups.push((name, value)),
        }
    }
    groups
}

/// All that one path answers, as text.
async fn path_answers(asker: &mut Asker, path: &str, own_origin: &str, config: &Snapshot) -> String {
    let sites = table::find(path).endpoint.by(config).sites;
    let mut by_method = Vec::new();
    for method in METHODS {
        let mut by_site = Vec::new();
        for site in SITES {
            let mut by_token = Vec::new();
            for (name, token) in TOKENS {
                let (method, asks) = match *method {
                    "preflight" => ("OPTIONS", "Access-Control-Request-Method: POST\r\n"),
                    method => (method, ""),
                };
                let (host, origin) = match *site {
                    "no origin" => ("localhost", None),
                    "own origin" => ("localhost", Some(own_origin)),
                    "foreign origin" => ("localhost", Some("https://foreign.example")),
                    _ => ("foreign.example", None),
                };
                let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
                let token =
                    token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{origin}{token}{asks}\r\n"
                );
                let answer = asker.ask(&request).await;
                // Whatever it says, a page of an allowed origin may read it, and no other. What is open, all may.
                let may_read = match sites {
                    Sites::Open => Some("*"),
                    Sites::OwnPage => None,
                    Sites::Any | Sites::Listed => {
                        (*site == "own origin" && own_origin == PAGE).then_some(PAGE)
                    }
                };
                assert_eq!(field(&answer, "access-control-allow-origin"), may_read, "{request}{answer}");
                by_token.push((name.to_string(), noted(&answer)));
            }
            let tokens = match grouped(by_token) {
                tokens if tokens.len() == 1 => vec![("anyone".to_owned(), tokens[0].1.clone())],
                tokens => tokens,
            };
            by_site.push((site.to_string(), tokens));
        }
        by_method.push((method.to_string(), grouped(by_site)));
    }
    let mut text = String::new();
    for (methods, sites) in grouped(by_method) {
        writeln!(text, "  {methods}").unwrap();
        for (sites, tokens) in sites {
            writeln!(text, "    {sites}").unwrap();
            for (tokens, answer) in tokens {
                writeln!(text, "      {tokens}: {answer}").unwrap();
            }
        }
    }
    text
}

#[tokio::test]
async fn each_path_answers_as_it_is_written_down() {
    let server = Recorder::start().await;
    let (near, far) = (gate(&server, "127.0.0.1:0").await, gate(&server, "0.0.0.0:0").await);
    let with_oauth = gate_with_oauth(&server).await;
    let admin = |gate: &Gate| SocketAddr::from(([127, 0, 0, 1], gate.gateway.admin_addr().unwrap().port()));
    let mut found = String::new();
    for (listener, gate, at, own_origin, paths) in [
        ("public listener", &near, near.addr, PAGE, PATHS),
        ("admin listener of this machine", &near, admin(&near), "http://localhost", PATHS),
        ("admin listener that others reach", &far, admin(&far), "http://localhost", PATHS),
        ("public listener, with OAuth", &with_oauth, with_oauth.addr, PAGE, OAUTH_PATHS),
    ] {
        let config = gate.gateway.shared().live().config.clone();
        let mut asker = Asker { at, client: None };
        let mut by_path = Vec::new();
        for path in paths.concat() {
            let answers = path_answers(&mut asker, path, own_origin, &config).await;
            by_path.push((path.to_string(), answers));
        }
        for (paths, answers) in grouped(by_path) {
            writeln!(found, "{listener}: {paths}\n{answers}").unwrap();
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gate/endpoints.txt");
    if std::env::var_os("SLUICEGATE_BLESS").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap();
    let differs = differences(&written, &found);
    assert!(differs.is_empty(), "{differs}");
}

/// Lines that only one of two texts has, in number and kind.
fn differences(written: &str, found: &str) -> String {
    let mut counts = BTreeMap::<&str, i64>::new();
    found.lines().for_each(|line| *counts.entry(line).or_default() += 1);
    written.lines().for_each(|line| *counts.entry(line).or_default() -= 1);
    let differs = counts.into_iter().filter(|(_, count)| *count != 0);
    differs.map(|(line, count)| format!("{count:+} {line}\n")).collect()
}
