//! Whom a message is for.

use serde_json::{Value, json};

use super::harness::{Client, Reply, Server, prefixed, story};
use crate::{error::ErrorKind, mcp::message::READS};

#[test]
fn calls_reach_the_server_that_their_name_says_without_a_list_before() {
    story(async {
        let capable = json!({ "tools": {}, "prompts": {}, "completions": {} });
        let one = Server::new("one").greets("2025-06-18", capable.clone());
        let two = Server::new("two").greets("2025-06-18", capable);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        for (id, method, params, own) in [
            (1, "tools/call", json!({ "name": "two__a__b", "arguments": { "name": "x" } }), "/name"),
            (2, "prompts/get", json!({ "name": "two__a__b" }), "/name"),
            (
                3,
                "completion/complete",
                json!({ "argument": { "name": "n", "value": "" }, "ref": { "type": "ref/prompt", "name": "two__a__b" } }),
                "/ref/name",
            ),
        ] {
            let mut wanted = params.clone();
            *wanted.pointer_mut(own).unwrap() = "a__b".into();
            let answer = client.ask(id, method, params).await;
            assert_eq!(answer["result"], json!({ "from": "two", "params": wanted }));
        }
        for (id, method, params) in [
            (4, "tools/call", json!({ "name": "three__a" })),
            (5, "tools/call", json!({ "arguments": {} })),
            (6, "prompts/get", json!({ "name": "a" })),
            (7, "completion/complete", json!({ "ref": { "type": "ref/other" } })),
            (8, "resources/read", json!({ "uri": "a://b" })),
        ] {
            assert_eq!(client.ask(id, method, params).await["error"]["code"], -32602, "{method}");
        }
        assert_eq!(client.ask(9, "tasks/get", json!({ "taskId": "x" })).await["error"]["code"], -32601);
        assert!(one.heard("tools/call").is_empty());
    });
}

#[test]
fn equal_ids_of_clients_and_servers_never_mix() {
    story(async {
        let (one, two) = (Server::with_tools("one", &[]), Server::with_tools("two", &[]));
        let one = one.on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        client.request(7, "tools/call", json!({ "name": "one__slow" })).await;
        // Ids of another type are other ids.
        client.request("7", "tools/call", json!({ "name": "two__quick" })).await;
        assert_eq!(client.answer("7").await["result"]["from"], "two");
        let sent = one.heard("tools/call")[0]["id"].clone();

        // Both servers ask under the id that the call has, and so does the client.
        for server in [&one, &two] {
            server.says(json!({ "id": sent, "method": "sampling/createMessage", "params": { "of": server.name } })).await;
        }
        let (first, _) = client.told("sampling/createMessage").await;
        let (second, _) = client.told("sampling/createMessage").await;
        assert_ne!(first["id"], second["id"]);
        for asked in [&second, &first] {
            client.says(json!({ "id": asked["id"], "result": { "to": asked["params"]["of"] } })).await;
        }
        // Nobody can answer for another.
        two.says(json!({ "id": sent, "result": "stolen" })).await;
        assert!(client.rest().await.is_empty());
        one.says(json!({ "id": sent, "result": "own" })).await;
        assert_eq!(client.answer(7).await["result"], "own");
        assert!(client.rest().await.is_empty());
        for server in [&one, &two] {
            assert_eq!(server.answers(), [json!({ "id": sent, "result": { "to": server.name } })]);
        }
        client.says(json!({ "id": first["id"], "result": "twice" })).await;
        client.rest().await;
        assert_eq!(one.answers().len() + two.answers().len(), 2);
    });
}

#[test]
fn progress_reaches_the_request_that_it_is_of_in_both_directions() {
    story(async {
        let one = Server::with_tools("one", &[]).on("tools/call", Reply::Silence);
        let two = Server::with_tools("two", &[]).on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        let params = |name: &str, token: Value| json!({ "name": name, "_meta": { "progressToken": token } });
        client.request(1, "tools/call", params("one__a", json!("p"))).await;
        client.request(2, "tools/call", params("two__a", json!(1))).await;
        client.rest().await;
        let progress = |token: &Value| json!({ "method": "notifications/progress", "params": { "progressToken": token, "progress": 0.5 } });
        let token =
            |server: &Server| server.heard("tools/call")[0]["params"]["_meta"]["progressToken"].clone();
        assert_ne!(token(&one), token(&two));
        // A server cannot report on what another does.
        one.says(progress(&token(&two))).await;
        two.says(progress(&token(&two))).await;
        let (told, about) = client.told("notifications/progress").await;
        assert_eq!((&told["params"]["progressToken"], about.as_deref()), (&json!(1), Some("2")));
        one.says(progress(&token(&one))).await;
        let (told, about) = client.told("notifications/progress").await;
        assert_eq!((&told["params"]["progressToken"], about.as_deref()), (&json!("p"), Some("1")));
        assert_eq!(told["params"]["progress"], 0.5);

        // A server's own request, in the course of the first call.
        let call = one.heard("tools/call")[0]["id"].clone();
        let ask = json!({ "id": "s", "method": "elicitation/create", "params": { "_meta": { "progressToken": "p" } } });
        one.says_about(ask, Some(&call)).await;
        let (asked, about) = client.told("elicitation/create").await;
        assert_eq!(about.as_deref(), Some("1"));
        let token = asked["params"]["_meta"]["progressToken"].clone();
        client.note("notifications/progress", json!({ "progressToken": token, "progress": 1 })).await;
        client.rest().await;
        assert_eq!(
            one.heard("notifications/progress")[0]["params"],
            json!({ "progressToken": "p", "progress": 1 })
        );
        assert!(two.heard("notifications/progress").is_empty());
    });
}

#[test]
fn what_is_cancelled_is_cancelled_where_it_runs() {
    story(async {
        let one = Server::with_tools("one", &[]).on("tools/call", Reply::Silence);
        let two = Server::with_tools("two", &[]).on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        for id in [1, 2] {
            client.request(id, "tools/call", json!({ "name": "one__a" })).await;
        }
        client.note("notifications/cancelled", json!({ "requestId": 2, "reason": "r" })).await;
        client.abandon(1).await;
        client.note("notifications/cancelled", json!({ "requestId": 3 })).await;
        client.rest().await;
        let calls = one.heard("tools/call");
        assert_eq!(
            one.heard("notifications/cancelled"),
            [
                json!({ "method": "notifications/cancelled", "params": { "requestId": calls[1]["id"], "reason": "r" } })
            ]
        );
        assert_eq!(one.heard("abandoned")[0]["params"]["id"], calls[0]["id"].to_string());
        assert!(two.heard("notifications/cancelled").is_empty());
        for call in calls {
            one.says(json!({ "id": call["id"], "result": {} })).await;
        }
        assert!(client.rest().await.is_empty(), "nobody waits for these answers");

        // And the other way round.
        one.says(json!({ "id": 5, "method": "roots/list" })).await;
        let (asked, _) = client.told("roots/list").await;
        two.says(json!({ "method": "notifications/cancelled", "params": { "requestId": 5 } })).await;
        one.says(json!({ "method": "notifications/cancelled", "params": { "requestId": 5 } })).await;
        let (cancelled, _) = client.told("notifications/cancelled").await;
        assert_eq!(cancelled["params"]["requestId"], asked["id"]);
        assert!(client.rest().await.is_empty());
    });
}

#[test]
fn what_concerns_all_reaches_all() {
    story(async {
        let logging = json!({ "logging": {} });
        let one = Server::new("one")
            .greets("2025-06-18", logging.clone())
            .on("logging/setLevel", Reply::Result(json!({})));
        let two = Server::new("two").greets("2025-06-18", logging).on("logging/setLevel", Reply::Silence);
        let three = Server::with_tools("three", &[]);
        let mut client = Client::in_session(prefixed(), &[&one, &two, &three]).await;
        client.note("notifications/roots/list_changed", json!({})).await;
        // One of them does not answer: the client waits, and not forever.
        assert_eq!(client.ask(1, "logging/setLevel", json!({ "level": "debug" })).await["result"], json!({}));
        assert_eq!([&one, &two, &three].map(|it| it.heard("logging/setLevel").len()), [1, 1, 0]);
        assert_eq!(
            [&one, &two, &three].map(|it| it.heard("notifications/roots/list_changed").len()),
            [1, 1, 1]
        );

        let log =
            r#"{ "method":"notifications/message","params":{"level":"info","logger":"x","data":1.0e+2}}"#;
        two.says(log).await;
        assert_eq!(client.told("notifications/message").await.0["params"]["logger"], "x");
        two.says(r#"{"method":"notifications/resources/updated","params":{"uri":"a://b"}}"#).await;
        assert_eq!(client.told("notifications/resources/updated").await.0["params"]["uri"], "a://b");

        let one = one.on("logging/setLevel", Reply::Error(-32602));
        let _ = two.on("logging/setLevel", Reply::Error(-32602));
        assert_eq!(client.ask(2, "logging/setLevel", json!({ "level": "?" })).await["error"]["code"], -32602);
        drop(one);
    });
}

#[test]
fn a_change_of_a_list_is_passed_on_and_counts_even_while_the_list_is_on_its_way() {
    story(async {
        let one = Server::with_tools("one", &["old"]).on("tools/list", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one]).await;
        client.request(1, "tools/list", json!({})).await;
        client.rest().await;
        let before = one.heard("tools/list")[0]["id"].clone();
        let one = one.on("tools/list", Reply::Result(json!({ "tools": [{ "name": "new" }] })));
        one.says(r#"{"method":"notifications/tools/list_changed"}"#).await;
        one.says(json!({ "id": before, "result": { "tools": [{ "name": "old" }] } })).await;
        client.told("notifications/tools/list_changed").await;
        assert_eq!(client.answer(1).await["result"]["tools"][0]["name"], "one__new");
    });
}

#[test]
fn a_client_that_never_waits_is_refused_and_goes_on() {
    story(async {
        let one = Server::with_tools("one", &[]).on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one]).await;
        for id in 1..=1_025 {
            client.request(id, "tools/call", json!({ "name": "one__a" })).await;
        }
        assert_eq!(client.failure(1_025).await, crate::error::ErrorKind::CallerLimit);
        client.abandon(1).await;
        let _ = one.on("tools/call", Reply::Result(json!("done")));
        assert_eq!(client.ask(2_000, "tools/call", json!({ "name": "one__a" })).await["result"], "done");
    });
}

#[test]
fn lists_that_are_asked_for_by_the_hundred_are_not_held_by_the_hundred() {
    story(async {
        let one = Server::with_tools("one", &[]).on("tools/list", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one]).await;
        for id in 1..=17 {
            client.request(id, "tools/list", json!({})).await;
        }
        assert_eq!(client.failure(17).await, crate::error::ErrorKind::CallerLimit);
        assert_eq!(client.answer(16).await["result"], json!({ "tools": [] }));
        assert_eq!(one.heard("tools/list").len(), 1, "who asks for the same waits for the same");
    });
}

#[test]
fn numbers_cannot_be_guessed_and_a_server_may_write_them_as_text() {
    story(async {
        let one = Server::new("one").on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one]).await;
        for id in 1..=50 {
            let meta = json!({ "progressToken": id, "io.modelcontextprotocol/subscriptionId": 7 });
            client.request(id, "tools/call", json!({ "name": "one__t", "_meta": meta })).await;
        }
        assert!(client.rest().await.is_empty());
        let numbers: Vec<u64> =
            one.heard("tools/call").iter().map(|call| call["id"].as_u64().unwrap()).collect();
        assert_eq!(numbers.len(), 50);
        let near = numbers.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 1 << 30).count();
        assert!(near < 3, "{numbers:?}");
        for call in one.heard("tools/call") {
            let meta = &call["params"]["_meta"];
            assert_eq!(
                (&meta["progressToken"], &meta["io.modelcontextprotocol/subscriptionId"]),
                (&call["id"], &call["id"])
            );
        }
        let answer = json!({ "id": numbers[6].to_string(), "result": { "n": 7 } });
        one.says(answer).await;
        assert_eq!(client.answer(7).await["result"]["n"], 7);
    });
}

#[test]
fn what_a_server_writes_in_two_ways_is_for_nobody_and_who_waits_for_it_is_told() {
    story(async {
        let one = Server::new("one").on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one]).await;
        for id in [1, 2] {
            let params = json!({ "name": "one__t", "_meta": { "progressToken": id } });
            client.request(id, "tools/call", params).await;
        }
        assert!(client.rest().await.is_empty());
        let calls = one.heard("tools/call");
        let (first, second) = (&calls[0]["id"], &calls[1]["id"]);
        one.says(format!(
            r#"{{"method":"notifications/progress","params":{{"progressToken":{first},"PROGRESSTOKEN":{second}}}}}"#
        ))
        .await;
        one.says(r#"{"method":"notifications/message","Method":"x","params":{}}"#).await;
        one.says(r#"{"id":9,"ID":8,"method":"roots/list"}"#).await;
        assert!(client.rest().await.is_empty());
        assert_eq!(one.answers()[0]["error"]["code"], -32600, "who asks hears that it was not understood");
        one.says(format!(r#"{{"id":{first},"Id":{second},"result":{{}}}}"#)).await;
        assert_eq!(client.failure(1).await, ErrorKind::UpstreamUnreachable);
        one.says(format!(r#"{{"id":{second},"result":{{"Id":{first}}}}}"#)).await;
        client.answer(2).await;
    });
}

#[test]
fn a_call_is_read_once_on_its_way_and_its_answer_once_on_the_way_back() {
    story(async {
        let link = r#"{"content":[{"type":"resource_link","uri":"a:1","name":"a"}]}"#;
        let one = Server::with_tools("one", &["add"]).on("tools/call", Reply::Text(link));
        let two = Server::with_tools("two", &["add"]).on("tools/call", Reply::Error(-32602));
        for (lazy, first_id) in [(false, 10), (true, 20)] {
            let mut settings = prefixed();
            settings.lazy = lazy;
            let mut client = Client::in_session(settings, &[&one, &two]).await;
            for (id, name) in [(first_id, "one__add"), (first_id + 1, "two__add")] {
                let call = json!({ "name": name, "arguments": { "n": 1 }, "_meta": { "progressToken": 7 } });
                let invoke = json!({ "name": "tool_invoke", "arguments": call });
                let before = READS.get();
                client.ask(id, "tools/call", if lazy { invoke } else { call }).await;
                assert_eq!(READS.get() - before, 2, "{name}, lazy: {lazy}");
            }
        }
        assert_eq!(one.heard("tools/call").len() + two.heard("tools/call").len(), 4);
    });
}
