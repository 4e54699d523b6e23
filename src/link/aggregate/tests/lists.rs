//! What a client sees of all servers.

use serde_json::json;

use super::harness::{Client, Heard, Reply, Server, flat, prefixed, story};
use crate::{
    config::Collision,
    ledger::{Owner, Resource},
};

#[test]
fn a_session_is_the_union_of_what_its_servers_are() {
    story(async {
        let one = Server::new("one").on("initialize", Reply::Text(
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{},"instructions":"Be kind."}"#,
        ));
        let two = Server::new("two").greets(
            "2025-03-26",
            json!({ "resources": { "subscribe": true }, "completions": {}, "tasks": {}, "experimental": {} }),
        );
        let mut client = Client::new(prefixed(), &[&one, &two]);
        let greeting = client.initialize().await;
        assert_eq!(
            greeting,
            json!({
                "protocolVersion": "2025-03-26",
                "capabilities": {
                    "tools": { "listChanged": true },
                    "resources": { "listChanged": true, "subscribe": true },
                    "completions": {}, "logging": {},
                },
                "serverInfo": { "name": "gate", "version": "0.0.0" },
                "instructions": "one: Be kind.",
            })
        );
        assert!(client.rest().await.is_empty());
        for server in [&one, &two] {
            let heard = &server.heard("initialize")[0]["params"];
            assert_eq!(
                (&heard["protocolVersion"], &heard["capabilities"]),
                (&json!("2025-11-25"), &json!({ "sampling": {} }))
            );
            assert_eq!(server.heard("notifications/initialized").len(), 1);
        }
        assert_eq!(client.ask(1, "ping", json!({})).await["result"], json!({}));
        assert!(one.heard("ping").is_empty());
        assert_eq!(client.ask(2, "initialize", json!({})).await["error"]["code"], -32600);
    });
}

#[test]
fn lists_are_merged_with_all_their_pages_and_items_keep_their_bytes() {
    story(async {
        let one = Server::new("one")
            .greets("2025-06-18", json!({ "tools": {}, "prompts": {} }))
            .on("tools/list", Reply::Text(
                r#"{"tools":[{ "inputSchema":{"x":1.0e+2, "name":"no"},"name" : "a" }],"nextCursor":"c\u0031","_meta":{}}"#,
            ))
            .on("tools/list?c1", Reply::Text(r#"{"tools":[{"name":"b"},{"title":"no name"},7],"nextCursor":null}"#))
            .on("prompts/list", Reply::Result(json!({ "prompts": [{ "name": "p" }] })));
        let two = Server::with_tools("two", &["a"]);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        client.request(1, "tools/list", json!({})).await;
        let heard = client.hear(|_| true).await;
        let Heard::Message { text, about, .. } = heard else { panic!() };
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{ "inputSchema":{"x":1.0e+2, "name":"no"},"name" : "one__a" },{"name":"one__b"},{"inputSchema":{},"name":"two__a"}]}}"#
        );
        assert_eq!(about.as_deref(), Some("1"));
        assert_eq!(client.names(2, "prompts/list").await, ["one__p"]);
        assert!(two.heard("prompts/list").is_empty(), "it declares none");
        assert_eq!(client.ask(3, "tools/list", json!({ "cursor": "c1" })).await["error"]["code"], -32602);
    });
}

#[test]
fn of_a_list_only_the_field_that_was_asked_for_is_read() {
    story(async {
        let one = Server::with_tools("one", &[]).on(
            "tools/list",
            Reply::Text(
                r#"{"tools":[{"name":"a","uri":7,"uri":8}],"resources":null,"prompts":7,"prompts":8,"ttlMs":"x"}"#,
            ),
        );
        let two = Server::with_tools("two", &[]).on("tools/list", Reply::Text(r#"{"tools":null}"#));
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        assert_eq!(client.names(1, "tools/list").await, ["one__a"]);
        let reports = client.reports.borrow();
        assert!(reports.is_empty(), "null is how Go writes an empty list: {reports:?}");
    });
}

#[test]
fn a_list_that_fails_is_reported_and_what_came_of_it_is_kept() {
    story(async {
        for (reply, names, why) in [
            (Reply::Error(-32603), &[][..], "it answered with error -32603"),
            (Reply::Text("7"), &[], "the result is no object"),
            (Reply::Text(r#"{"tools":7}"#), &[], "what should be the list is none"),
            (Reply::Text(r#"{"tools":[{"name":"a"}],"tools":[]}"#), &[], "the result is no object"),
            (
                Reply::Text(r#"{"tools":[{"name":"a"}],"nextCursor":7}"#),
                &["one__a"],
                "nextCursor is no string",
            ),
            (
                Reply::Text(r#"{"tools":[{"name":"a"}],"nextCursor":"x"}"#),
                &["one__a"],
                "it answered with error -32602",
            ),
        ] {
            let one = Server::with_tools("one", &[]).on("tools/list", reply);
            let one = one.on("tools/list?x", Reply::Error(-32602));
            let two = Server::with_tools("two", &["a"]);
            let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
            let expected: Vec<_> = names.iter().copied().chain(["two__a"]).collect();
            assert_eq!(client.names(1, "tools/list").await, expected);
            let reports = client.reports.borrow().join("");
            let list =
                r#"ListFailed { server: "one", method: "tools/list", kind: UpstreamUnreachable, cause: "#;
            assert_eq!(reports, format!("{list}{why:?} }}"));
        }
    });
}

#[test]
fn tools_are_asked_for_as_at_the_own_path_even_if_none_are_declared() {
    story(async {
        let shy = Server::with_tools("shy", &["a"]).greets("2025-06-18", json!({}));
        let none = Server::new("none");
        let failing = Server::new("failing").on("tools/list", Reply::Error(-32603));
        let mut client = Client::in_session(prefixed(), &[&shy, &none, &failing]).await;
        assert_eq!(client.names(1, "tools/list").await, ["shy__a"]);
        assert!(client.reports.borrow().is_empty(), "they never said that they have any");
        shy.is_up.set(false);
        shy.dies();
        client.told("notifications/tools/list_changed").await;
    });
}

#[test]
fn a_list_is_asked_for_anew_whenever_the_client_asks() {
    story(async {
        let one = Server::with_tools("one", &["a"]);
        let mut client = Client::in_session(prefixed(), &[&one]).await;
        assert_eq!(client.names(1, "tools/list").await, ["one__a"]);
        let one = one.on("tools/list", Reply::Result(json!({ "tools": [{ "name": "b" }] })));
        assert_eq!(client.names(2, "tools/list").await, ["one__b"]);
        assert_eq!(one.heard("tools/list").len(), 2);
    });
}

#[test]
fn lists_without_end_end() {
    story(async {
        let looping = Server::new("looping")
            .greets("2025-06-18", json!({ "tools": {} }))
            .on("tools/list", Reply::Result(json!({ "tools": [{ "name": "a" }], "nextCursor": "x" })))
            .on("tools/list?x", Reply::Result(json!({ "tools": [{ "name": "b" }], "nextCursor": "x" })));
        let many: Vec<_> = (0..10_001).map(|number| json!({ "name": number.to_string() })).collect();
        let huge: Vec<_> =
            (0..17).map(|number| json!({ "name": number.to_string(), "x": "x".repeat(1 << 20) })).collect();
        let many = Server::with_tools("many", &[]).on("tools/list", Reply::Result(json!({ "tools": many })));
        let huge = Server::with_tools("huge", &[]).on("tools/list", Reply::Result(json!({ "tools": huge })));
        let mut client = Client::in_session(prefixed(), &[&looping, &many, &huge]).await;
        let names = client.names(1, "tools/list").await;
        let of = |server: &str| names.iter().filter(|name| name.starts_with(server)).count();
        assert_eq!((of("looping"), of("many"), of("huge")), (2, 10_000, 15));
        let reports = client.reports.borrow().join(" ");
        for server in ["looping", "many", "huge"] {
            assert!(reports.contains(&format!("TooMany {{ server: \"{server}\" }}")), "{reports}");
        }
    });
}

#[test]
fn what_members_list_is_counted_for_whoever_sees_them_as_long_as_it_is_kept() {
    story(async {
        let tools: Vec<_> =
            (0..4).map(|number| json!({ "name": format!("t{number}"), "x": "x".repeat(1 << 20) })).collect();
        let one = Server::with_tools("one", &[]).on("tools/list", Reply::Result(json!({ "tools": tools })));
        let mut settings = flat(Collision::Prefix);
        let owner = Owner::unlimited();
        settings.owner = owner.clone();
        let late = Server::with_tools("late", &[]).on("tools/list", Reply::Silence);
        let mut client = Client::in_session(settings, &[&one, &late]).await;
        client.request(1, "tools/list", json!({})).await;
        // One has answered, and the other is waited for.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(owner.used(Resource::Bytes) > 4 << 20, "{}", owner.used(Resource::Bytes));
        assert_eq!(client.answer(1).await["result"]["tools"].as_array().unwrap().len(), 4);
        let names = owner.used(Resource::Bytes);
        assert!((16..1024).contains(&names), "names, of what is listed and of what is offered: {names}");
        one.is_granted.set(false);
        client.ask(2, "ping", json!({})).await;
        assert_eq!(owner.used(Resource::Bytes), 16, "the names that were offered");
        drop(client);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(owner.used(Resource::Bytes), 0);
    });
}

#[test]
fn in_flat_naming_a_name_of_two_servers_follows_the_rule() {
    story(async {
        for (rule, names, call, reached) in [
            (Collision::Error, &["x", "z"][..], "y", None),
            (Collision::First, &["x", "y", "z"], "y", Some("one")),
            (Collision::Prefix, &["x", "one__y", "two__y", "z"], "two__y", Some("two")),
        ] {
            let (one, two) = (Server::with_tools("one", &["x", "y"]), Server::with_tools("two", &["y", "z"]));
            let mut client = Client::in_session(flat(rule), &[&one, &two]).await;
            // Without a list before: the gateway looks for itself.
            let answer = client.ask(1, "tools/call", json!({ "name": call })).await;
            assert_eq!(answer["result"]["from"].as_str(), reached, "{rule:?}");
            assert_eq!(client.names(2, "tools/list").await, names);
            assert_eq!(client.ask(3, "tools/call", json!({ "name": "z" })).await["result"]["from"], "two");
            let collisions = client.reports.borrow().iter().filter(|it| it.starts_with("Collision")).count();
            assert_eq!(collisions, usize::from(rule == Collision::Error), "reported once");
            if reached.is_none() {
                assert_eq!(answer["error"]["code"], -32602);
                assert_eq!(answer["error"]["message"], "Unknown tool: y");
            }
        }
    });
}

#[test]
fn a_flat_name_that_a_client_was_given_does_not_change_its_meaning_when_its_server_dies() {
    story(async {
        let (one, two) = (Server::with_tools("one", &["x"]), Server::with_tools("two", &["x"]));
        let mut client = Client::in_session(flat(Collision::First), &[&one, &two]).await;
        assert_eq!(client.names(1, "tools/list").await, ["x"]);
        one.is_up.set(false);
        one.dies();
        client.told("notifications/tools/list_changed").await;
        client.request(2, "tools/call", json!({ "name": "x" })).await;
        client.failure(2).await;
        assert!(two.heard("tools/call").is_empty());
    });
}

#[test]
fn a_resource_that_two_servers_list_is_the_first_ones() {
    story(async {
        let list = |uris: &[&str]| {
            let resources: Vec<_> = uris.iter().map(|uri| json!({ "uri": uri })).collect();
            Reply::Result(json!({ "resources": resources }))
        };
        let capable = json!({ "resources": { "subscribe": true } });
        let one = Server::new("one")
            .greets("2025-06-18", capable.clone())
            .on("resources/list", list(&["a://1", "b://1"]));
        let two = Server::new("two")
            .greets("2025-06-18", capable)
            .on("resources/list", list(&["b://1", "c://1"]))
            .on(
                "resources/templates/list",
                Reply::Result(json!({ "resourceTemplates": [{ "uriTemplate": "a://{id}/x" }] })),
            );
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        assert_eq!(client.names(1, "resources/list").await, ["a://1", "b://1", "c://1"]);
        assert_eq!(client.names(2, "resources/templates/list").await, ["a://{id}/x"]);
        assert!(client.reports.borrow().iter().any(|it| it.contains("b://1") && it.starts_with("Collision")));
        for (id, method, uri, from) in [
            (3, "resources/read", "b://1", "one"),
            (4, "resources/subscribe", "c://1", "two"),
            (5, "resources/unsubscribe", "c://1", "two"),
            // By template, although the scheme is the first one's too; then by scheme.
            (6, "resources/read", "a://7/x", "two"),
            (8, "resources/read", "c://7", "two"),
        ] {
            let answer = client.ask(id, method, json!({ "uri": uri })).await;
            assert_eq!(answer["result"]["from"], from, "{method} {uri}");
            assert_eq!(answer["result"]["params"]["uri"], uri);
        }
        // Both have that scheme, and neither is more likely to have this one.
        assert_eq!(client.ask(7, "resources/read", json!({ "uri": "a://7" })).await["error"]["code"], -32602);
        let stranger = client.ask(9, "resources/read", json!({ "uri": "https://secret/?k=1" })).await;
        assert_eq!(stranger["error"]["code"], -32602);
        assert!([&one, &two].iter().all(|it| {
            it.heard("resources/read").iter().all(|it| it["params"]["uri"] != "https://secret/?k=1")
        }));
    });
}

#[test]
fn three_tools_stand_for_all() {
    story(async {
        let one = Server::with_tools("one", &[]).on("tools/list", Reply::Text(
            r#"{"tools":[{"name":"add","description":"Adds numbers.\nSlowly.","inputSchema":{"n":1.0e+2}},{"name":"sub"}]}"#,
        )).on("tools/call", Reply::Text(r#"{ "content":[], "x":1.0e+2 }"#));
        let two = Server::with_tools("two", &["add"]);
        let mut settings = prefixed();
        settings.lazy = true;
        let mut client = Client::in_session(settings, &[&one, &two]).await;
        assert_eq!(client.names(1, "tools/list").await, ["tool_list", "tool_schema", "tool_invoke"]);
        assert!(one.heard("tools/list").is_empty());
        let bogus = client.ask(20, "tools/list", json!({ "cursor": "bogus" })).await;
        assert_eq!(bogus["error"]["code"], -32602);

        let call = |name: &str, arguments: serde_json::Value| json!({ "name": name, "arguments": arguments });
        let all = client.ask(2, "tools/call", json!({ "name": "tool_list" })).await;
        assert_eq!(all["result"]["content"][0]["text"], "one__add: Adds numbers.\none__sub: \ntwo__add: ");
        assert_eq!(
            all["result"]["structuredContent"]["tools"][0],
            json!({ "name": "one__add", "description": "Adds numbers." })
        );
        let some = client
            .ask(3, "tools/call", call("tool_list", json!({ "server": "one", "query": "NUMBERS" })))
            .await;
        assert_eq!(some["result"]["structuredContent"]["tools"].as_array().unwrap().len(), 1);

        client.request(4, "tools/call", call("tool_schema", json!({ "name": "one__add" }))).await;
        let Heard::Message { text, .. } = client.hear(|_| true).await else { panic!() };
        assert!(text.contains(r#""structuredContent":{"name":"one__add","description":"Adds numbers.\nSlowly.","inputSchema":{"n":1.0e+2}}"#), "{text}");

        let mut params = call("tool_invoke", json!({ "name": "one__add", "arguments": { "name": "x" } }));
        params["_meta"] = json!({ "progressToken": "p", "k": 1 });
        client.request(5, "tools/call", params).await;
        let Heard::Message { text, .. } = client.hear(|_| true).await else { panic!() };
        assert_eq!(text, r#"{"jsonrpc":"2.0","id":5,"result":{ "content":[], "x":1.0e+2 }}"#);
        let heard = &one.heard("tools/call")[0];
        assert_eq!(heard["params"]["name"], "add");
        assert_eq!(heard["params"]["arguments"], json!({ "name": "x" }));
        assert_eq!(heard["params"]["_meta"], json!({ "progressToken": heard["id"], "k": 1 }));

        for (id, params) in [
            (6, call("tool_invoke", json!({ "arguments": {} }))),
            (7, call("tool_invoke", json!({ "name": "one__add", "arguments": [] }))),
            (8, call("tool_list", json!({ "server": 1 }))),
            (9, call("tool_schema", json!({ "name": "nobody" }))),
        ] {
            assert_eq!(client.ask(id, "tools/call", params).await["result"]["isError"], true, "{id}");
        }
        // A field is not for the tool behind it, which nobody could check.
        let before = one.heard("tools/call").len();
        let invoke = call("tool_invoke", json!({ "name": "one__add", "arguments": { "region": "eu" } }));
        client.request_with_field(12, "tools/call", invoke).await;
        assert_eq!(client.answer(12).await["error"]["code"], -32020);
        assert_eq!(one.heard("tools/call").len(), before);
        let stranger = client.ask(10, "tools/call", call("tool_invoke", json!({ "name": "nobody" }))).await;
        assert_eq!(stranger["error"]["code"], -32602);
        one.is_granted.set(false);
        let all = client.ask(11, "tools/call", json!({ "name": "tool_list" })).await;
        assert_eq!(all["result"]["content"][0]["text"], "two__add: ");
    });
}
