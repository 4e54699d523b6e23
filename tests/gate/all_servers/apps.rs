//! MCP Apps through all servers as one: the extension is declared, and a tool's view is read where the tool is.

use serde_json::json;

use super::{config, open};
use crate::{
    harness::Gate,
    mcp::{call, request},
    scripted::{Scripted, answers, greets},
};

#[tokio::test]
async fn an_app_finds_its_extension_its_view_and_what_its_results_link_to() {
    let extension = json!({ "io.modelcontextprotocol/ui": { "mimeTypes": ["text/html;profile=mcp-app"] } });
    let declared = extension.clone();
    let server = Scripted::start(move |asked| match asked["method"].as_str() {
        Some("initialize") => {
            greets(asked, json!({ "tools": {}, "resources": {}, "extensions": declared.clone() }))
        }
        Some("tools/list") => {
            let tool = json!({ "name": "chart", "_meta": { "ui": { "resourceUri": "ui://app/chart" } } });
            answers(asked, json!({ "result": { "tools": [tool] } }))
        }
        Some("tools/call") => {
            let link = json!({ "type": "resource_link", "uri": "note://of-the-app", "name": "n" });
            answers(asked, json!({ "result": { "content": [link] } }))
        }
        Some("resources/read") => {
            let contents = json!([{ "uri": asked["params"]["uri"], "text": "by the app" }]);
            answers(asked, json!({ "result": { "contents": contents } }))
        }
        Some("resources/list") => answers(asked, json!({ "result": { "resources": [] } })),
        Some(method) if asked["id"].is_number() => {
            answers(asked, json!({ "error": { "code": -32601, "message": method } }))
        }
        _ => None,
    })
    .await;
    // `small` has a resource of the scheme `note`, too.
    let mut config = config().await;
    config["mcpServers"]["app"] = json!({ "url": server.url() });
    let gate = Gate::start(config).await;
    let session = open(&gate).await;
    assert_eq!(session.greeting["result"]["capabilities"]["extensions"], extension);
    session.ask(&call(1, "app__chart", json!({}))).await;
    for uri in ["ui://app/chart", "note://of-the-app"] {
        let read = session.ask(&request(2, "resources/read", json!({ "uri": uri }))).await;
        assert_eq!(read["result"]["contents"][0]["text"], "by the app", "{uri} {read}");
    }
}
