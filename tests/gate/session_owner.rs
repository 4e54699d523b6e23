//! A session that the gateway keeps belongs to the token's name: it outlives the credential that began it, reaches no
//! further than whoever uses it may, and ends when the name may no longer.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::{
    harness::{Gate, get, pause, soon, until},
    mcp::{Session, SseSession, call, command, event, is_alive, is_gone, is_over, modern_call, request},
};

const OLD: &str = "old-token-0123456789abcdef";
const NEW: &str = "new-token-0123456789abcdef";

/// A gateway whose token `alice` has these credentials. `small` takes any token, `deploy` asks for a role.
fn config(alice: Value) -> Value {
    let mut deploy = command();
    deploy["roles"] = json!(["deploy"]);
    json!({
        "proxy": { "auth": { "tokens": { "alice": alice, "bob": "bob-token-0123456789abcdef" } } },
        "mcpServers": { "small": command(), "deploy": deploy },
    })
}

fn with_role(token: &str) -> Value {
    json!({ "value": token, "roles": ["deploy"] })
}

fn expiring(token: &str, after: Duration) -> Value {
    let moment = humantime::format_rfc3339_micros(SystemTime::now() + after).to_string();
    json!({ "value": token, "expires": moment })
}

/// Tool that tells the process of the server `small`, at this path.
fn pid_tool(path: &str) -> &'static str {
    if path == "/mcp" { "small__pid" } else { "pid" }
}

#[tokio::test]
async fn rotation_ends_no_session_and_requests_go_with_their_own_credential() {
    for path in ["/small/mcp", "/mcp"] {
        let mut gate = Gate::start(config(json!([NEW, OLD]))).await;
        let tool = pid_tool(path);
        let begun = Session::open(&gate, path, OLD).await;
        let session = begun.by(NEW);
        let pid = begun.call(tool, json!({})).await;
        let mut by_old = begun.listen().await;

        gate.reload(config(json!([NEW])));
        is_over(&mut by_old).await;
        gate.log.line("Stream closed", &[("reason", json!("token_revoked"))]).await;
        assert_eq!(begun.post(&call(1, tool, json!({}))).await.0, 401);
        assert_eq!(session.call(tool, json!({})).await, pid, "{path}: another process");

        // The same by expiry, and once more round.
        gate.reload(config(json!([OLD, expiring(NEW, Duration::from_millis(200))])));
        soon("the end of the newer one", async {
            while session.post(&call(1, tool, json!({}))).await.0 != 401 {
                pause().await;
            }
        })
        .await;
        let mut listening = begun.listen().await;
        // Workers have looked at what expired when a stream of its is gone.
        assert_eq!(begun.call(tool, json!({})).await, pid, "{path}: another process");
        let changed = if path == "/mcp" { "small__change" } else { "change" };
        begun.call(changed, json!({})).await;
        assert_eq!(event(&mut listening).await["method"], "notifications/tools/list_changed");
    }
}

#[tokio::test]
async fn what_a_session_waits_for_does_not_fail_because_another_credential_of_its_name_goes() {
    let mut gate = Gate::start(config(json!([NEW, OLD]))).await;
    let session = Session::open(&gate, "/small/mcp", OLD).await.by(NEW);
    let mut waiting = session.sent(&call(1, "ask", json!({}))).await;
    crate::mcp::is_stream(&waiting.head().await);
    let question = event(&mut waiting).await;
    gate.reload(config(json!([NEW])));
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } });
    assert_eq!(session.post(&answer.to_string()).await.0, 202);
    assert_eq!(event(&mut waiting).await["id"], 1);
}

#[tokio::test]
async fn a_session_ends_with_its_name_with_all_its_credentials_and_with_its_grant() {
    let mut bobs = config(json!([NEW, OLD]));
    bobs["mcpServers"]["small"]["authTokens"] = json!(["bob"]);
    let mut nobodys = config(json!([]));
    nobodys["proxy"]["auth"]["tokens"].as_object_mut().unwrap().remove("alice");
    let expired =
        config(json!(
            [expiring(NEW, Duration::from_millis(300)), expiring(OLD, Duration::from_millis(600)),]
        ));
    for (after, ends) in [
        (nobodys, ["/small/mcp", "/small/sse", "/mcp"].as_slice()),
        (expired, &["/small/mcp", "/small/sse", "/mcp"]),
        (bobs, &["/small/mcp", "/small/sse"]),
    ] {
        let mut gate = Gate::start(config(json!([NEW, OLD]))).await;
        let mut pids = Vec::new();
        let mut streams = Vec::new();
        for path in ends {
            if *path == "/small/sse" {
                let mut session = SseSession::open(&gate, path, NEW).await;
                pids.push(session.call("pid", json!({})).await.parse().unwrap());
                streams.push(session.stream);
            } else {
                let session = Session::open(&gate, path, OLD).await;
                pids.push(session.call(pid_tool(path), json!({})).await.parse().unwrap());
            }
        }
        assert!(pids.iter().all(|pid| is_alive(*pid)));
        gate.reload(after);
        for pid in pids {
            is_gone(pid).await;
        }
        for stream in &mut streams {
            is_over(stream).await;
        }
        until("no session is left", || gate.gateway.shared().sessions.is_empty()).await;
    }
}

#[tokio::test]
async fn a_credential_with_fewer_roles_gets_no_further_by_the_session_of_one_with_more() {
    let mut gate = Gate::start(config(json!([with_role(OLD), NEW]))).await;
    let strong = Session::open(&gate, "/mcp", OLD).await;
    assert!(strong.tools().await.contains(&"deploy__echo".into()));
    let weak = strong.by(NEW);
    let forbidden = call(1, "deploy__note", json!({ "text": "reached" }));
    for body in [&forbidden, &call(1, "small__pid", json!({})), &request(1, "tools/list", json!({}))] {
        let (status, answer) = weak.post(body).await;
        assert!(status == 404 && answer.contains("session_not_found"), "{status} {answer}");
    }
    let listen = get("/mcp", NEW, &format!("Accept: text/event-stream\r\n{}", strong.field));
    assert_eq!(gate.ask(&listen).await.0, 404);
    assert_eq!(weak.delete().await, 404, "nor may it end the session");
    // A session of its own has what it may use.
    let own = Session::open(&gate, "/mcp", NEW).await;
    assert!(!own.tools().await.contains(&"deploy__echo".into()));
    assert!(!own.post(&forbidden).await.1.contains("noted"));
    assert_eq!(
        own.by(OLD).call("small__echo", json!({ "text": "more may use less" })).await,
        "more may use less"
    );
    // And so do requests that are self-contained.
    let (_, _, body) =
        gate.ask(&modern_call("/mcp", NEW, 1, "deploy__note", json!({ "text": "reached" }))).await;
    assert!(body.contains("Unknown tool"), "{body}");

    // Without the stronger one, the session is left with what the other may use, and is its.
    let pid = strong.call("small__pid", json!({})).await;
    gate.reload(config(json!([NEW])));
    assert_eq!(weak.call("small__pid", json!({})).await, pid);
    assert!(!weak.tools().await.contains(&"deploy__echo".into()));
    assert!(!weak.post(&forbidden).await.1.contains("noted"));
    assert!(!gate.log.text().contains("reached"), "{}", gate.log.text());
}

#[tokio::test]
async fn a_credential_that_loses_a_role_loses_what_it_runs_and_the_other_of_its_name_does_not() {
    let mut gate = Gate::start(config(json!([with_role(OLD), with_role(NEW)]))).await;
    let by_old = Session::open(&gate, "/mcp", OLD).await;
    let by_new = by_old.by(NEW);
    let mut keeps = by_old.sent(&call(1, "deploy__ask", json!({}))).await;
    let question = event_behind_head(&mut keeps).await;
    let mut loses = by_new.sent(&call(2, "deploy__sleep", json!({}))).await;
    let mut loses_modern = gate.client().await;
    loses_modern.send(modern_call("/mcp", NEW, 3, "deploy__sleep", json!({}))).await;
    let mut keeps_modern = gate.client().await;
    keeps_modern.send(modern_call("/mcp", OLD, 4, "deploy__sleep", json!({}))).await;
    until("all calls run", || gate.log.text().matches("sleeping").count() == 3).await;

    gate.reload(config(json!([with_role(OLD), NEW])));
    let (status, _, body) = loses.response().await;
    assert!(status == 403 && body.contains("insufficient_scope"), "{status} {body}");
    let (status, _, body) = loses_modern.response().await;
    assert!(status == 403 && body.contains("insufficient_scope"), "{status} {body}");
    assert_eq!(by_new.post(&call(5, "deploy__note", json!({ "text": "reached" }))).await.0, 404);

    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } });
    assert_eq!(by_old.post(&answer.to_string()).await.0, 202);
    assert_eq!(event(&mut keeps).await["id"], 1);
    assert_eq!(by_old.call("deploy__echo", json!({ "text": "on" })).await, "on");
    // Real time: that nothing comes has no event.
    let early = tokio::time::timeout(Duration::from_millis(300), keeps_modern.more()).await;
    assert!(
        early.is_err() || !String::from_utf8_lossy(&keeps_modern.buffer).contains("error"),
        "it was ended"
    );
    assert!(!gate.log.text().contains("reached"));
}

async fn event_behind_head(client: &mut crate::harness::Client<tokio::net::TcpStream>) -> Value {
    crate::mcp::is_stream(&client.head().await);
    event(client).await
}
