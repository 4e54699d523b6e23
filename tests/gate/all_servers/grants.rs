//! Who sees and reaches which of all servers, and which of their tools.

use serde_json::{Value, json};

use super::{UNKNOWN, asked, config, config_with, is_unknown, open, seen};
use crate::{
    harness::{CI, DEV, Gate, get, pause, post, soon, until},
    mcp::{INITIALIZE, Session, call, event, is_alive, is_gone, is_over, modern, modern_call},
    recorder::Recorder,
};

#[tokio::test]
async fn a_token_sees_and_reaches_only_what_it_was_granted() {
    let hidden = Recorder::start().await;
    let mut config = config().await;
    config["mcpServers"]["hidden"] = json!({ "url": hidden.url("/mcp"), "authTokens": ["ci"] });
    config["mcpServers"]["small"]["authTokens"] = json!(["dev"]);
    config["mcpServers"]["own"]["public"] = json!(true);
    let gate = Gate::start(config).await;

    let session = open(&gate).await;
    assert_eq!(seen(&session).await, ["demo", "own", "small"]);
    is_unknown(&session, "hidden__echo").await;
    // What nobody has heard of and what the token may not reach look alike.
    is_unknown(&session, "nobody__echo").await;
    let selected = Session::open(&gate, "/mcp?servers=hidden", DEV).await;
    assert_eq!(selected.tools().await, [""; 0]);
    is_unknown(&selected, "hidden__echo").await;
    let (_, answer) = asked(&gate, &modern_call("/mcp", DEV, 1, "hidden__echo", json!({}))).await;
    assert_eq!(answer["error"]["message"], "Unknown tool: hidden__echo");
    let (_, listed) = asked(&gate, &modern("/mcp", DEV, 1, "tools/list", json!({}))).await;
    assert!(!listed.to_string().contains("hidden"), "{listed}");
    hidden.saw_nothing("the token has no grant").await;
    assert!(!session.greeting.to_string().contains("hidden"));

    // The other token has no process started for it.
    let other = Session::open(&gate, "/mcp?servers=small,demo", CI).await;
    assert_eq!(seen(&other).await, ["demo"]);
    is_unknown(&other, "small__echo").await;

    for request in [post("/mcp", "nobody", "", INITIALIZE), get("/sse", "nobody", "")] {
        let (status, body) = asked(&gate, &request).await;
        assert_eq!((status, &body["error"]), (401, &json!("invalid_token")));
        let without = request.replacen("Authorization: Bearer nobody\r\n", "", 1);
        let (status, body) = asked(&gate, &without).await;
        assert_eq!((status, &body["error"]), (401, &json!("unauthorized")));
    }
    // A session is its caller's.
    let foreign = gate.ask(&post("/mcp", CI, &session.field, &call(1, "demo__clock", json!({})))).await;
    assert_eq!(foreign.0, 404);
    // And of all servers, not of one that it contains.
    let elsewhere = gate.ask(&post("/small/mcp", DEV, &session.field, &call(1, "pid", json!({})))).await;
    assert_eq!(elsewhere.0, 404);
}

#[tokio::test]
async fn in_lazy_mode_grants_hold_in_every_one_of_the_three_tools() {
    let hidden = Recorder::start().await;
    let mut config = config_with(json!({ "lazy": true })).await;
    config["mcpServers"]["hidden"] = json!({ "url": hidden.url("/mcp"), "authTokens": ["ci"] });
    let gate = Gate::start(config).await;
    let session = open(&gate).await;
    assert!(!session.call("tool_list", json!({})).await.contains("hidden"));
    assert_eq!(session.call("tool_schema", json!({ "name": "hidden__x" })).await, "Unknown tool: hidden__x");
    let invoke = json!({ "name": "hidden__x", "arguments": {} });
    let answer = session.ask(&call(1, "tool_invoke", invoke)).await;
    assert_eq!(answer["error"]["message"], "Unknown tool: hidden__x");
    is_unknown(&session, "hidden__x").await;
    hidden.saw_nothing("the token has no grant").await;
}

#[tokio::test]
async fn a_grant_that_is_taken_away_is_gone_at_the_next_call() {
    let before = config().await;
    let mut gate = Gate::start(before.clone()).await;
    let session = open(&gate).await;
    let mut listening = session.listen().await;
    assert_eq!(seen(&session).await, ["demo", "own", "small"]);
    let pid = session.call("small__pid", json!({})).await.parse().unwrap();
    let shared = asked(&gate, &modern_call("/mcp", DEV, 1, "small__pid", json!({}))).await;
    assert_eq!(shared.0, 200);

    let mut after = before.clone();
    after["mcpServers"]["small"]["authTokens"] = json!(["ci"]);
    gate.reload(after);
    assert_eq!(event(&mut listening).await["method"], "notifications/tools/list_changed");
    is_unknown(&session, "small__sleep").await;
    assert_eq!(seen(&session).await, ["demo", "own"]);
    is_gone(pid).await;
    let (_, answer) = asked(&gate, &modern_call("/mcp", DEV, 1, "small__sleep", json!({}))).await;
    assert_eq!(answer["error"]["message"], "Unknown tool: small__sleep");
    assert!(!gate.log.text().contains("sleeping"), "the server saw a call");
    assert_eq!(session.call("demo__echo", json!({ "text": "on" })).await, "on");

    gate.reload(before);
    assert_eq!(session.call("small__echo", json!({ "text": "back" })).await, "back");
}

#[tokio::test]
async fn a_call_that_runs_ends_with_the_grant_for_its_server() {
    let before = config().await;
    let mut gate = Gate::start(before.clone()).await;
    let session = open(&gate).await;
    let mut waiting = session.sent(&call(1, "small__sleep", json!({}))).await;
    let mut modern = gate.client().await;
    modern.send(modern_call("/mcp", DEV, 1, "small__sleep", json!({}))).await;
    until("both calls run", || gate.log.text().matches("sleeping").count() == 2).await;
    let mut after = before;
    after["mcpServers"]["small"]["authTokens"] = json!(["ci"]);
    gate.reload(after);
    for client in [&mut waiting, &mut modern] {
        let (status, _, body) = client.response().await;
        assert!(status == 403 && body.contains("insufficient_scope"), "{status} {body}");
    }
}

#[tokio::test]
async fn a_token_that_is_taken_out_ends_its_session_and_no_other() {
    let before = config().await;
    let mut gate = Gate::start(before.clone()).await;
    let (session, other) = (open(&gate).await, Session::open(&gate, "/mcp", CI).await);
    let mut listening = session.listen().await;
    let pid = session.call("small__pid", json!({})).await.parse().unwrap();
    let kept = other.call("small__pid", json!({})).await.parse().unwrap();
    let mut after = before;
    after["proxy"] = json!({ "auth": { "tokens": { "ci": CI } } });
    gate.reload(after);
    is_gone(pid).await;
    is_over(&mut listening).await;
    assert_eq!(session.post(&call(1, "demo__clock", json!({}))).await.0, 401);
    assert!(is_alive(kept));
    assert_eq!(other.call("small__echo", json!({ "text": "on" })).await, "on");
}

#[tokio::test]
async fn a_hidden_tool_stays_hidden_among_all() {
    let mut config = config().await;
    let hide = |names: Value| json!({ "toolFilter": { "mode": "block", "list": names } });
    config["mcpServers"]["small"]["options"] = hide(json!(["pid", "sleep"]));
    config["mcpServers"]["demo"]["options"] = json!({ "toolFilter": { "mode": "allow", "list": ["clock"] } });
    let mut gate = Gate::start(config.clone()).await;
    let session = open(&gate).await;
    let tools = session.tools().await;
    assert!(tools.contains(&"small__echo".into()) && tools.contains(&"demo__clock".into()), "{tools:?}");
    for hidden in ["small__pid", "small__sleep", "demo__echo", "demo__countdown"] {
        assert!(!tools.iter().any(|tool| tool == hidden), "{tools:?}");
        let answer = session.ask(&call(1, hidden, json!({}))).await;
        assert_eq!(answer["error"]["code"], UNKNOWN, "{answer}");
        let (_, answer) = asked(&gate, &modern_call("/mcp", DEV, 1, hidden, json!({}))).await;
        assert_eq!(answer["error"]["code"], UNKNOWN, "{answer}");
    }
    assert!(!gate.log.text().contains("sleeping"), "the server saw a call");

    // Also one that is hidden while a session runs.
    assert_eq!(session.call("small__echo", json!({ "text": "x" })).await, "x");
    assert!(session.call("demo__clock", json!({})).await.ends_with('Z'));
    let _listening = session.listen().await;
    config["mcpServers"]["small"]["options"] = hide(json!(["pid", "sleep", "echo"]));
    config["mcpServers"]["demo"]["options"] = json!({ "toolFilter": { "mode": "allow", "list": [] } });
    gate.reload(config);
    for hidden in ["small__echo", "demo__clock"] {
        until_hidden(&session, hidden).await;
        let (_, answer) = asked(&gate, &modern_call("/mcp", DEV, 1, hidden, json!({}))).await;
        assert_eq!(answer["error"]["code"], UNKNOWN, "{answer}");
    }
}

/// Calls until the call is one of an unknown tool; while a link is renewed it may fail, but it must not succeed.
async fn until_hidden(session: &Session, tool: &str) {
    soon("the tool is hidden", async {
        loop {
            let (status, body) = session.post(&call(1, tool, json!({}))).await;
            let answer: Value = serde_json::from_str(&body).unwrap();
            assert!(answer.get("result").is_none(), "{tool}: {answer}");
            if answer["error"]["code"] == UNKNOWN {
                return;
            }
            assert_eq!(status, 502, "{body}");
            pause().await;
        }
    })
    .await;
}

/// A token that is given to another name takes nothing along of what was begun under the name before.
#[tokio::test]
async fn what_runs_ends_when_its_credential_becomes_another_s() {
    let mut before = config().await;
    before["mcpServers"]["small"]["authTokens"] = json!(["team"]);
    let mut after = before.clone();
    before["proxy"]["auth"]["tokens"] = json!({ "team": [DEV, CI] });
    after["proxy"]["auth"]["tokens"] = json!({ "team": CI, "guest": DEV });
    let mut gate = Gate::start(before).await;
    let session = open(&gate).await;
    let mut listening = session.listen().await;
    let mut calling = session.sent(&call(1, "small__sleep", json!({}))).await;
    until("the call runs", || gate.log.text().contains("sleeping")).await;
    let direct = Session::open(&gate, "/small/mcp", DEV).await;
    let mut listening_there = direct.listen().await;

    gate.reload(after);
    for stream in [&mut listening, &mut listening_there] {
        soon("the end of what was begun as another", is_over(stream)).await;
    }
    let (status, _, body) = calling.response().await;
    assert!(status == 403 && body.contains("insufficient_scope"), "{status} {body}");
    assert_eq!(gate.ask(&post("/mcp", DEV, &session.field, &call(2, "small__echo", json!({})))).await.0, 404);
}
