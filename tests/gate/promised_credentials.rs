//! What the documents of expressjs_mcp (example 08, "Auth Token Passthrough") and of Atrax ("Token Authentication") say about
//! presenting a credential, one test for a section. What was a route there is a server here.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    harness::{Client, Gate, field},
    mcp::{INITIALIZE, call, event, is_stream, modern_call, text},
    process::{Process, save, serve, text as written},
    recorder::Recorder,
};

/// "Available Test Tokens", as far as a config takes them: `api-key-789` is refused as an example, and `your-secret-token` of Atrax.
const USER: &str = "user-token-123";
const ADMIN: &str = "admin-token-456";
const SERVICE: &str = "service-key-789-abc";

/// A gateway with the roles and the routes of the example.
async fn example_08(server: &Recorder) -> Gate {
    let url = server.url("/mcp");
    Gate::start(json!({
        "proxy": { "auth": {
            "schemes": ["bearer", "apikey"],
            "tokens": {
                "user": { "value": USER, "roles": ["user"] },
                "admin": { "value": ADMIN, "roles": ["admin", "user"] },
                "service": { "value": SERVICE, "roles": ["service"] },
            },
        } },
        "mcpServers": {
            "user": { "url": url, "roles": ["user"] },
            "admin-only": { "url": url, "roles": ["admin"] },
            "service": { "url": url, "roles": ["service"] },
            "public": { "url": url, "public": true },
        },
    }))
    .await
}

/// A call as the document has them, with this `Authorization`.
fn invoke(server: &str, authorization: &str) -> String {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "data" } })
        .to_string();
    let field =
        if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
    format!(
        "POST /{server}/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{field}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Status and `error` of the answers.
async fn answers(gate: &Gate, server: &str, authorization: &str) -> (u16, Value) {
    let (status, _, body) = gate.ask(&invoke(server, authorization)).await;
    (status, serde_json::from_str::<Value>(&body).unwrap()["error"].clone())
}

#[tokio::test]
async fn expressjs_authentication_schemes_1_bearer_token() {
    let server = Recorder::start().await;
    let gate = example_08(&server).await;
    assert_eq!(answers(&gate, "user", &format!("Bearer {USER}")).await, (200, Value::Null));
    assert!(!server.only().contains(USER));
}

#[tokio::test]
async fn expressjs_authentication_schemes_2_api_key() {
    let server = Recorder::start().await;
    let gate = example_08(&server).await;
    assert_eq!(answers(&gate, "service", &format!("ApiKey {SERVICE}")).await, (200, Value::Null));
    assert!(!server.only().contains(SERVICE));
    gate.log.line("Authenticated request", &[("token_name", json!("service"))]).await;
}

#[tokio::test]
async fn expressjs_authenticated_tool_invocation_and_admin_endpoints() {
    let server = Recorder::start().await;
    let gate = example_08(&server).await;
    for (place, authorization, status) in [
        ("user", format!("Bearer {USER}"), 200),
        ("user", format!("Bearer {ADMIN}"), 200),
        ("admin-only", format!("Bearer {ADMIN}"), 200),
        // "Insufficient Permissions"
        ("admin-only", format!("Bearer {USER}"), 403),
        ("admin-only", format!("ApiKey {SERVICE}"), 403),
        ("service", format!("Bearer {USER}"), 403),
    ] {
        assert_eq!(answers(&gate, place, &authorization).await.0, status, "{place} {authorization}");
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn expressjs_public_endpoints() {
    let server = Recorder::start().await;
    let gate = example_08(&server).await;
    assert_eq!(answers(&gate, "public", "").await, (200, Value::Null));
    // A credential changes nothing, and goes no further.
    for authorization in
        [format!("Bearer {USER}"), "Bearer invalid-token".into(), format!("ApiKey {SERVICE}")]
    {
        server.forget();
        assert_eq!(answers(&gate, "public", &authorization).await, (200, Value::Null));
        assert!(field(&server.only(), "authorization").is_none());
    }
}

#[tokio::test]
async fn expressjs_no_auth_bypass() {
    let server = Recorder::start().await;
    let gate = example_08(&server).await;
    for place in ["user", "admin-only", "service", "nowhere"] {
        assert_eq!(answers(&gate, place, "").await, (401, json!("unauthorized")), "{place}");
    }
    // The example takes a word away wherever it finds it; here a token needs its scheme.
    for authorization in [USER.to_owned(), format!("{USER}Bearer "), format!("Token {USER}"), "Bearer".into()]
    {
        assert_eq!(
            answers(&gate, "user", &authorization).await,
            (401, json!("invalid_token")),
            "{authorization}"
        );
    }
    server.saw_nothing("nobody came in").await;
    assert_eq!(answers(&gate, "user", &format!("Bearer {USER}")).await.0, 200);
}

#[tokio::test]
async fn expressjs_token_validation_and_failed_authentication() {
    let server = Recorder::start().await;
    let gate = example_08(&server).await;
    for authorization in
        ["Bearer invalid-token", "ApiKey invalid-token", "Basic dXNlcjp1c2VyLXRva2VuLTEyMw=="]
    {
        assert_eq!(
            answers(&gate, "user", authorization).await,
            (401, json!("invalid_token")),
            "{authorization}"
        );
    }
    server.saw_nothing("all tokens are validated before a server has anything").await;
}

#[tokio::test]
async fn expressjs_multi_tenant_saas() {
    let server = Recorder::start().await;
    let url = server.url("/mcp");
    let gate = Gate::start(json!({
        "proxy": { "auth": { "tokens": { "user": { "value": USER, "roles": ["user"] } }, "tenants": { "tokens": {
            "acme": { "value": "acme-token-0123456789", "servers": ["acme"] },
            "globex": { "value": "globex-token-0123456789", "servers": ["globex"] },
        } } } },
        "mcpServers": { "acme": { "url": url }, "globex": { "url": url } },
    }))
    .await;
    for (place, token, status) in [
        ("acme", "acme-token-0123456789", 200),
        ("globex", "globex-token-0123456789", 200),
        ("acme", "globex-token-0123456789", 403),
        ("globex", "acme-token-0123456789", 403),
        ("acme", "unknown-token-0123456789", 401),
    ] {
        let call = invoke(place, "")
            .replace("Content-Length", &format!("x-tenant-token: {token}\r\nContent-Length"));
        assert_eq!(gate.ask(&call).await.0, status, "{place} {token}");
        assert!(server.requests().iter().all(|seen| !seen.contains("tenant")));
    }
    assert_eq!(server.requests().len(), 2);
}

const MCP_TOKEN: &str = "a-token-of-atrax-0123456789";

fn atrax(token: &str) -> Value {
    json!({
        "proxy": {
            "auth": { "kind": "bearer_token", "queryToken": true, "tokens": { "main": token } },
            "aggregate": { "mode": "flat", "onCollision": "first" },
        },
        "mcpServers": { "own": { "inline": { "tools": [
            { "name": "greet", "command": "echo", "args": ["hello"] },
        ] } } },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn atrax_configuration_with_the_token_in_an_environment_variable() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    save(&path, &written(atrax("${MCP_TOKEN}")));
    let mut command = serve(&path);
    command.env("MCP_TOKEN", MCP_TOKEN);
    let gate = Process::run(command, dir, path).await;
    assert_eq!(gate.get("/nowhere", MCP_TOKEN).await.0, 404);
    assert_eq!(gate.get("/nowhere", "${MCP_TOKEN}").await.0, 401);
}

#[tokio::test]
async fn atrax_via_http_bearer_authentication() {
    let gate = Gate::start(atrax(MCP_TOKEN)).await;
    let (status, _, body) = gate.ask(&modern_call("/mcp", MCP_TOKEN, 1, "greet", json!({}))).await;
    assert_eq!((status, &*text(&serde_json::from_str(&body).unwrap())), (200, "hello\n"));
}

/// A session over HTTP+SSE, as MCP Inspector has it, with this in each request.
async fn inspects(gate: &Gate, fields: &str, query: &str) {
    let mut stream: Client<TcpStream> = gate.client().await;
    stream
        .send(format!(
            "GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{fields}\r\n"
        ))
        .await;
    is_stream(&stream.head().await);
    let opening = String::from_utf8(stream.chunk().await.unwrap()).unwrap();
    let url = opening.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end();
    assert!(!url.contains(MCP_TOKEN), "{url}");
    let url = if query.is_empty() { url.to_owned() } else { format!("{url}&{query}") };
    for message in [INITIALIZE.to_owned(), call(1, "greet", json!({}))] {
        let (status, _, body) = gate
            .ask(&format!(
                "POST {url} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{message}",
                message.len()
            ))
            .await;
        assert_eq!(status, 202, "{body}");
        let answer = event(&mut stream).await;
        if answer["id"] == 1 {
            assert_eq!(text(&answer), "hello\n");
        }
    }
}

#[tokio::test]
async fn atrax_example_usage_with_mcp_inspector() {
    let gate = Gate::start(atrax(MCP_TOKEN)).await;
    inspects(&gate, &format!("Authorization: Bearer {MCP_TOKEN}\r\n"), "").await;
}

#[tokio::test]
async fn atrax_via_query_parameter() {
    let gate = Gate::start(atrax(MCP_TOKEN)).await;
    inspects(&gate, "", &format!("token={MCP_TOKEN}")).await;
    assert!(!gate.log.text().contains(MCP_TOKEN), "URLs are logged without it");
}

#[tokio::test]
async fn atrax_security_model() {
    let gate = Gate::start(atrax(MCP_TOKEN)).await;
    let bare = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for path in ["/health", "/status"] {
        assert_eq!(gate.ask(&bare(path)).await.0, 200, "{path} is public");
    }
    for path in ["/sse", "/message", "/servers", "/servers/own", "/servers/other", "/own/mcp", "/any/other"] {
        assert_eq!(gate.ask(&bare(path)).await.0, 401, "{path} is protected");
    }
}
