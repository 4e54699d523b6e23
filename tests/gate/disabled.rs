//! A server with `"disabled": true`: as one that was stopped by hand, but by the config, and for as long as that says so.

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Gate, Upstream, field, get, open_stream, post, soon},
    mcp::{INITIALIZE, Session, command, is_over},
};

const OPS: &str = "ops-token-0123456789abcdef";

fn config(disabled: bool, url: &str) -> Value {
    let mut small = command();
    small["disabled"] = disabled.into();
    json!({
        "proxy": { "auth": { "tokens": { "dev": DEV, "ops": { "value": OPS, "roles": ["admin"] } } } },
        "mcpServers": { "small": small, "other": command(), "db": { "url": url, "disabled": disabled } },
    })
}

async fn shown(gate: &Gate, name: &str) -> Value {
    let (status, _, body) = gate.ask(&get(&format!("/servers/{name}"), OPS, "")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn is_out(gate: &Gate, path: &str) {
    let (status, head, body) = gate.ask(&post(path, DEV, "", INITIALIZE)).await;
    assert!(status == 503 && body.contains(r#""unavailable""#), "{path} {status} {body}");
    assert!(body.contains("This server is stopped") && !body.contains("capacity"), "{body}");
    assert!(field(&head, "retry-after").is_some(), "{head}");
}

#[tokio::test]
async fn a_disabled_server_is_as_one_that_was_stopped_until_the_config_says_otherwise() {
    let url = "http://127.0.0.1:9/mcp";
    let mut gate = Gate::start(config(true, url)).await;
    for name in ["small", "db"] {
        let view = shown(&gate, name).await;
        assert_eq!((&view["running"], &view["stopped"]), (&json!(false), &json!(true)), "{view}");
        is_out(&gate, &format!("/{name}/mcp")).await;
        // It is the config's to start it.
        for action in ["start", "restart", "stop"] {
            let (status, _, body) = gate.ask(&post(&format!("/servers/{name}/{action}"), OPS, "", "")).await;
            assert!(status == 200 && body.contains(r#""stopped":true"#), "{action} {status} {body}");
        }
        is_out(&gate, &format!("/{name}/mcp")).await;
    }
    let session = Session::open(&gate, "/mcp", DEV).await;
    assert_eq!(session.call("other__echo", json!({ "text": "on" })).await, "on");
    assert!(!session.tools().await.iter().any(|name| name.starts_with("small")), "it is no member");

    gate.reload(config(false, url));
    let session = Session::open(&gate, "/small/mcp", DEV).await;
    assert_eq!(session.call("echo", json!({ "text": "on" })).await, "on");
    assert_eq!(shown(&gate, "small").await["stopped"], json!(false));
    assert_eq!(shown(&gate, "small").await["processes"], json!(1));

    gate.reload(config(true, url));
    is_out(&gate, "/small/mcp").await;
    let mut left = Value::Null;
    soon("its process ends", async {
        while left != json!(0) {
            left = shown(&gate, "small").await["processes"].clone();
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_a_server_that_is_disabled_ends() {
    let server = Upstream::bind().await;
    let url = server.url("/mcp");
    let mut gate = Gate::start(config(false, &url)).await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, DEV).await;
    gate.reload(config(true, &url));
    is_over(&mut client).await;
    assert!(!behind.more().await, "the server's side is closed, too");

    gate.reload(config(false, &url));
    open_stream(gate.addr, &server, DEV).await;
}
