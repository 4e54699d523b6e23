//! `Last-Event-ID` asks for the events that a stream had behind this one. Many servers look for that event among those of all
//! their callers, so between strangers it does not pass.

use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, field, get, post},
    recorder::Recorder,
};

const FIELD: &str = "Last-Event-ID: 7\r\n";

fn config(server: &Recorder, entry: &Value) -> Value {
    let mut db = json!({ "url": server.url("/mcp") });
    db.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    json!({ "mcpServers": { "db": db } })
}

/// What of the field reaches the server.
async fn passed(gate: &Gate, server: &Recorder, token: &str) -> Option<String> {
    let mut passed = Vec::new();
    for request in [get("/db/mcp", token, FIELD), post("/db/mcp", token, FIELD, "{}")] {
        assert_eq!(gate.ask(&request).await.0, 200);
        passed.push(field(&server.only(), "last-event-id").map(str::to_owned));
        server.forget();
    }
    assert_eq!(passed[0], passed[1]);
    passed.remove(0)
}

#[tokio::test]
async fn a_stream_is_taken_up_again_where_no_stranger_can_have_begun_it() {
    for (entry, wanted) in [
        (json!({}), None),
        (json!({ "public": true }), None),
        (json!({ "authTokens": ["dev", "ci"] }), None),
        (json!({ "authTokens": ["dev"] }), Some("7")),
        // The server is known to look whose event it is.
        (json!({ "passLastEventId": true }), Some("7")),
        (json!({ "public": true, "passLastEventId": true }), Some("7")),
        (json!({ "authTokens": ["dev"], "passLastEventId": false }), None),
    ] {
        let server = Recorder::start().await;
        let gate = Gate::start(config(&server, &entry)).await;
        assert_eq!(passed(&gate, &server, DEV).await.as_deref(), wanted, "{entry}");
    }
}

#[tokio::test]
async fn several_credentials_of_one_name_are_one_caller() {
    let server = Recorder::start().await;
    let mut config = config(&server, &json!({}));
    config["proxy"] = json!({ "auth": { "tokens": { "dev": [DEV, CI] } } });
    let gate = Gate::start(config).await;
    for token in [DEV, CI] {
        assert_eq!(passed(&gate, &server, token).await.as_deref(), Some("7"));
    }
}

#[tokio::test]
async fn who_comes_in_the_place_of_another_does_not_take_up_the_other_s_streams() {
    let server = Recorder::start().await;
    let mut gate = Gate::start(config(&server, &json!({ "authTokens": ["dev"] }))).await;
    assert_eq!(passed(&gate, &server, DEV).await.as_deref(), Some("7"));
    gate.reload(config(&server, &json!({ "authTokens": [] })));
    gate.reload(config(&server, &json!({ "authTokens": ["dev"] })));
    assert_eq!(passed(&gate, &server, DEV).await.as_deref(), Some("7"));
    gate.reload(config(&server, &json!({ "authTokens": ["ci"] })));
    assert_eq!(passed(&gate, &server, CI).await, None);
    gate.reload(config(&server, &json!({ "authTokens": ["dev"] })));
    assert_eq!(passed(&gate, &server, DEV).await, None, "it may be a stranger's now");
}

#[tokio::test]
async fn nor_where_the_server_was_out_of_the_config_in_between() {
    let server = Recorder::start().await;
    let mut gate = Gate::start(config(&server, &json!({ "authTokens": ["dev"] }))).await;
    assert_eq!(passed(&gate, &server, DEV).await.as_deref(), Some("7"));
    let mut without = config(&server, &json!({ "authTokens": ["dev"] }));
    let db = without["mcpServers"].as_object_mut().unwrap().remove("db").unwrap();
    without["mcpServers"]["other"] = db;
    gate.reload(without);
    gate.reload(config(&server, &json!({ "authTokens": ["ci"] })));
    assert_eq!(passed(&gate, &server, CI).await, None);
}
