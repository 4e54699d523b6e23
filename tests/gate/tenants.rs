//! Tenants: tokens in a header field of their own.

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Gate, field, get},
    mcp::Session,
    process::Process,
    recorder::Recorder,
};

/// Of the tenant `dev`, beside the token `dev`.
const TENANT: &str = "tenant-token-0123456789abcdef";

fn config(server: &Recorder) -> Value {
    json!({
        "proxy": { "auth": {
            "schemes": ["bearer", "x-api-key"],
            "tokens": { "dev": DEV },
            "tenants": { "header": "X-Customer", "tokens": { "dev": { "value": TENANT, "id": "one", "roles": ["customer"] } } },
        } },
        "mcpServers": {
            "db": { "url": server.url("/mcp"), "roles": ["customer"] },
            "tokens": { "url": server.url("/mcp"), "authTokens": ["dev"] },
            "open": { "url": server.url("/mcp"), "public": true },
            "own": { "inline": { "tools": [{ "name": "nothing", "command": "true" }] } },
        },
    })
}

fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_tenant_comes_in_by_its_field_and_no_server_sees_it() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server)).await;
    let tenant = format!("x-customer: {TENANT}\r\n");
    for path in ["/db/mcp", "/open/mcp"] {
        let repeated = format!("{tenant}X-Custom: {TENANT}\r\nX-Kept: 1\r\n");
        assert_eq!(gate.ask(&request(path, &repeated)).await.0, 200, "{path}");
        let seen = server.only();
        assert!(!seen.contains(TENANT) && field(&seen, "x-customer").is_none(), "{seen}");
        assert_eq!(field(&seen, "x-kept"), Some("1"), "{seen}");
        server.forget();
    }
    gate.log.line("Authenticated request", &[("principal", json!("tenant:dev"))]).await;
    for (path, fields, status) in [
        // A rule that lists tokens lists no tenants, whatever they are called.
        ("/tokens/mcp", tenant.clone(), 403),
        ("/db/mcp", format!("{tenant}Authorization: Bearer {DEV}\r\n"), 401),
        ("/db/mcp", format!("{tenant}X-API-Key: {TENANT}\r\n"), 401),
        ("/db/mcp", format!("{tenant}{tenant}"), 401),
        ("/open/mcp", format!("{tenant}{tenant}"), 401),
        // Neither is the other's.
        ("/db/mcp", format!("Authorization: Bearer {TENANT}\r\n"), 401),
        ("/db/mcp", format!("X-API-Key: {TENANT}\r\n"), 401),
        ("/tokens/mcp", format!("X-Customer: {DEV}\r\n"), 401),
        ("/db/mcp", "X-Customer: \r\n".to_owned(), 401),
        ("/db/mcp", format!("X-Tenant-Token: {TENANT}\r\n"), 401),
        ("/servers", tenant.clone(), 403),
        ("/nowhere", tenant.clone(), 404),
    ] {
        let (found, _, body) = gate.ask(&request(path, &fields)).await;
        assert_eq!(found, status, "{path} {fields} {body}");
    }
    server.saw_nothing("none of them comes in").await;
    // The field that others have for tenants goes to no server either.
    assert_eq!(gate.ask(&get("/tokens/mcp", DEV, "X-Tenant-Token: x\r\nX-Tenant: 1\r\n")).await.0, 200);
    let seen = server.only();
    assert!(field(&seen, "x-tenant-token").is_none() && field(&seen, "x-tenant").is_some(), "{seen}");
    assert!(!gate.log.text().contains(TENANT) && !gate.metrics().contains(TENANT));
    let used = r#"sluicegate_token_used_total{credential="one",token_name="tenant:dev"} 1"#;
    assert!(gate.metrics().contains(used), "{}", gate.metrics());
}

#[tokio::test]
async fn a_tenant_and_a_token_of_one_name_share_no_session() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server)).await;
    let session = Session::open(&gate, "/own/mcp", DEV).await;
    let by = |credential: &str| {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        format!(
            "POST /own/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{}{credential}\r\nContent-Length: {}\r\n\r\n{body}",
            session.field,
            body.len()
        )
    };
    assert_eq!(gate.ask(&by(&format!("X-Customer: {TENANT}"))).await.0, 404);
    assert_eq!(gate.ask(&by(&format!("Authorization: Bearer {DEV}"))).await.0, 200);
}

#[tokio::test]
async fn a_tenant_that_is_taken_out_is_out_and_its_counter_goes() {
    let server = Recorder::start().await;
    let mut gate = Gate::start(config(&server)).await;
    let asked = request("/db/mcp", &format!("X-Customer: {TENANT}\r\n"));
    assert_eq!(gate.ask(&asked).await.0, 200);
    gate.reload(config(&server));
    assert_eq!(gate.ask(&asked).await.0, 200);
    assert!(gate.metrics().contains(r#"token_name="tenant:dev"} 2"#), "{}", gate.metrics());
    let mut without = config(&server);
    without["proxy"]["auth"]["tenants"]["tokens"] = json!({ "other": "other-token-0123456789abcdef" });
    gate.reload(without);
    assert_eq!(gate.ask(&asked).await.0, 401);
    assert!(!gate.metrics().contains("tenant:dev"), "{}", gate.metrics());
    assert_eq!(gate.ask(&get("/tokens/mcp", DEV, "")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_knows_tenants() {
    let server = Recorder::start().await;
    let gate = Process::start(config(&server)).await;
    for (principal, place, allowed) in
        [("tenant:dev", "db", true), ("tenant:dev", "tokens", false), ("token:dev", "db", false)]
    {
        let mut explain = std::process::Command::new(crate::process::program());
        explain.args(["explain", "--as", principal, "--server", place, "-c"]).arg(&gate.path);
        let output = explain.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.success(), allowed, "{principal} {place}: {text}");
        assert!(text.starts_with(&format!("{principal}: ")), "{text}");
    }
}
