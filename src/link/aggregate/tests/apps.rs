//! Extensions that members and clients agree on (MCP Apps), and resources that members give out beside their lists.

use serde_json::{Value, json};

use super::harness::{Client, Reply, Server, prefixed, story};

/// A server with resources, none of them on a list.
fn with_resources(name: &'static str) -> Server {
    Server::new(name)
        .greets("2025-06-18", json!({ "tools": {}, "prompts": {}, "resources": { "subscribe": true } }))
        .on("resources/list", Reply::Result(json!({ "resources": [{ "uri": format!("file:///{name}") }] })))
}

async fn reads(client: &mut Client, id: u64, uri: &str) -> Value {
    let answer = client.ask(id, "resources/read", json!({ "uri": uri })).await;
    if answer["error"].is_object() {
        answer["error"]["code"].clone()
    } else {
        answer["result"]["from"].clone()
    }
}

#[test]
fn extensions_and_experimental_capabilities_of_members_reach_the_client() {
    story(async {
        let one = Server::new("one").greets(
            "2025-06-18",
            json!({ "extensions": { "io.modelcontextprotocol/ui": { "a": 1 } }, "experimental": {} }),
        );
        let two = Server::new("two").greets(
            "2025-06-18",
            json!({
                "extensions": { "io.modelcontextprotocol/ui": { "a": 2, "b": 3 }, "com.example/x": {} },
                "experimental": { "y": { "z": true } },
            }),
        );
        let odd = Server::new("odd").greets("2025-06-18", json!({ "extensions": 7, "experimental": [] }));
        let mut client = Client::new(prefixed(), &[&odd, &one, &two]);
        let capabilities = client.initialize().await["capabilities"].clone();
        let extensions = json!({ "io.modelcontextprotocol/ui": { "a": 1, "b": 3 }, "com.example/x": {} });
        assert_eq!(capabilities["extensions"], extensions);
        assert_eq!(capabilities["experimental"], json!({ "y": { "z": true } }));

        let discovered = json!({
            "supportedVersions": ["2026-07-28"], "capabilities": { "extensions": { "com.example/x": {} } },
            "resultType": "complete",
        });
        let modern = Server::new("modern").on("server/discover", Reply::Result(discovered));
        let mut client = Client::new(prefixed(), &[&modern]);
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
        let answer = client.ask(1, "server/discover", json!({ "_meta": meta })).await;
        assert_eq!(answer["result"]["capabilities"]["extensions"], json!({ "com.example/x": {} }));
    });
}

#[test]
fn a_resource_that_a_result_links_to_is_read_where_the_link_came_from() {
    story(async {
        let link = |uri: &str| json!({ "type": "resource_link", "uri": uri, "name": "n" });
        let embedded = json!({ "type": "resource", "resource": { "uri": "file:///embedded", "text": "x" } });
        let message = json!({ "role": "user", "content": link("file:///prompted") });
        let one = with_resources("one");
        let two = with_resources("two")
            .on("tools/call", Reply::Result(json!({ "content": [link("file:///linked"), embedded] })))
            .on("prompts/get", Reply::Result(json!({ "messages": [message] })));
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        assert_eq!(reads(&mut client, 1, "file:///linked").await, -32602, "of two, nobody knows whose it is");
        client.ask(2, "tools/call", json!({ "name": "two__a" })).await;
        client.ask(3, "prompts/get", json!({ "name": "two__p" })).await;
        for (id, uri) in [(4, "file:///linked"), (5, "file:///embedded"), (6, "file:///prompted")] {
            assert_eq!(reads(&mut client, id, uri).await, "two", "{uri}");
        }
        let subscribed = client.ask(7, "resources/subscribe", json!({ "uri": "file:///linked" })).await;
        assert_eq!(subscribed["result"]["from"], "two");
        // Who lists it has it, whoever else says so.
        let two = two.on("tools/call", Reply::Result(json!({ "content": [link("file:///one")] })));
        client.ask(8, "tools/call", json!({ "name": "two__a" })).await;
        assert_eq!(client.names(9, "resources/list").await, ["file:///one", "file:///two"]);
        assert_eq!(reads(&mut client, 10, "file:///one").await, "one");
        // What has another server's place has given out nothing.
        two.epoch.set(1);
        assert_eq!(reads(&mut client, 11, "file:///linked").await, -32602);
    });
}

#[test]
fn what_a_tool_is_shown_with_is_read_where_the_tool_is() {
    story(async {
        let shown = |uri: &str| {
            let tool = json!({ "name": "a", "_meta": { "ui": { "resourceUri": uri } } });
            Reply::Result(json!({ "tools": [tool] }))
        };
        let one = with_resources("one").on("tools/list", shown("ui://one/view"));
        let two = with_resources("two").on("tools/list", shown("ui://two/view"));
        // Listed by the client, by the gateway for itself, or never, because three tools stand for all.
        for (lists, lazy) in [(true, false), (false, false), (false, true)] {
            let mut settings = prefixed();
            settings.lazy = lazy;
            let mut client = Client::in_session(settings, &[&one, &two]).await;
            if lists {
                client.names(1, "tools/list").await;
            }
            assert_eq!(reads(&mut client, 2, "ui://two/view").await, "two", "{lists} {lazy}");
            assert_eq!(reads(&mut client, 3, "ui://one/view").await, "one");
            assert_eq!(reads(&mut client, 4, "ui://three/view").await, -32602);
        }
    });
}

/// One that says that what is another's is its own gets nothing of it.
#[test]
fn what_two_servers_claim_and_none_lists_is_nobody_s() {
    story(async {
        let shown = |uri: &str| {
            let tool = json!({ "name": "a", "_meta": { "ui": { "resourceUri": uri } } });
            Reply::Result(json!({ "tools": [tool] }))
        };
        let template = |of: &str| Reply::Result(json!({ "resourceTemplates": [{ "uriTemplate": of }] }));
        let links = |uris: &[&str]| {
            let link = |uri: &&str| json!({ "type": "resource_link", "uri": uri, "name": "n" });
            Reply::Result(json!({ "content": uris.iter().map(link).collect::<Vec<_>>() }))
        };
        let attic = with_resources("attic")
            .on("tools/list", shown("ui://bank/app"))
            .on("resources/templates/list", template("shared://{+path}"))
            .on("tools/call", links(&["bank://rows/1", "file:///bank", "ui://bank/own", "note://both"]));
        let own = json!({ "name": "b", "_meta": { "ui": { "resourceUri": "ui://bank/own" } } });
        let app = json!({ "name": "a", "_meta": { "ui/resourceUri": "ui://bank/app" } });
        let bank = with_resources("bank")
            .on("tools/list", Reply::Result(json!({ "tools": [app, own] })))
            .on(
                "resources/templates/list",
                Reply::Result(json!({ "resourceTemplates": [
                { "uriTemplate": "bank://rows/{id}" }, { "uriTemplate": "shared://{+path}" },
            ] })),
            )
            .on("tools/call", links(&["note://both"]));
        let mut client = Client::in_session(prefixed(), &[&attic, &bank]).await;
        // Said in a result, before anything is listed.
        client.ask(1, "tools/call", json!({ "name": "attic__a" })).await;
        for (id, uri, from) in [
            (2, "file:///bank", json!("bank")),
            (3, "bank://rows/1", json!("bank")),
            (4, "ui://bank/own", json!("bank")),
            (5, "ui://bank/app", json!(-32602)),
            (6, "shared://x", json!(-32602)),
            // Until a second one claims it.
            (7, "note://both", json!("attic")),
        ] {
            assert_eq!(reads(&mut client, id, uri).await, from, "{uri}");
        }
        client.ask(8, "tools/call", json!({ "name": "bank__a" })).await;
        assert_eq!(reads(&mut client, 9, "note://both").await, -32602);
        let refused = client.ask(10, "resources/read", json!({ "uri": "ui://bank/app" })).await;
        let why = refused["error"]["message"].as_str().unwrap();
        assert!(why.starts_with("Several servers claim this resource, and none lists it"), "{why}");
        // Who may not be used claims nothing.
        attic.is_granted.set(false);
        assert_eq!(reads(&mut client, 11, "ui://bank/app").await, "bank");
    });
}
