//! MCP 2026-07-28: no session, and `server/discover` decides whether all speak it.

use serde_json::{Value, json};

use super::harness::{Client, Reply, Server, prefixed, story};

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn modern(mut params: Value) -> Value {
    params["_meta"][VERSION] = "2026-07-28".into();
    params
}

fn server(name: &'static str, versions: &[&str], ttl: u64, capabilities: Value) -> Server {
    Server::new(name).on(
        "server/discover",
        Reply::Result(json!({
            "supportedVersions": versions, "capabilities": capabilities, "instructions": name,
            "ttlMs": ttl, "cacheScope": "public", "resultType": "complete",
        })),
    )
}

#[test]
fn if_all_speak_it_the_answer_is_for_all() {
    story(async {
        let one = server("one", &["2026-07-28", "2027-01-01"], 9, json!({ "tools": {} }));
        let two = server("two", &["2026-07-28"], 7, json!({ "tools": {}, "completions": {} }));
        let down = Server::new("down");
        down.is_up.set(false);
        let silent = Server::new("silent").on("server/discover", Reply::Silence);
        let mut client = Client::new(prefixed(), &[&one, &two, &down, &silent]);
        let answer = client.ask(1, "server/discover", modern(json!({ "_meta": { "k": 1 } }))).await;
        assert_eq!(
            answer["result"],
            json!({
                "supportedVersions": ["2026-07-28"],
                "capabilities": {
                    "tools": { "listChanged": true }, "prompts": { "listChanged": true },
                    "resources": { "listChanged": true }, "completions": {},
                },
                "instructions": "one: one\n\ntwo: two",
                "ttlMs": 7, "cacheScope": "private", "resultType": "complete",
                "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "gate", "version": "0.0.0" } },
            })
        );
        assert_eq!(
            one.heard("server/discover")[0]["params"]["_meta"],
            json!({ "k": 1, VERSION: "2026-07-28" })
        );
        assert!(one.heard("initialize").is_empty());
    });
}

#[test]
fn if_one_does_not_the_client_falls_back_to_a_session() {
    story(async {
        let one = server("one", &["2026-07-28"], 9, json!({}));
        let older = Server::with_tools("older", &["a"]);
        let mut client = Client::new(prefixed(), &[&one, &older]);
        let answer = client.ask(1, "server/discover", modern(json!({}))).await;
        assert_eq!(answer["error"]["code"], -32601);
        client.initialize().await;
        assert_eq!(client.names(2, "tools/list").await, ["older__a"]);
        assert_eq!((older.opened.get(), older.heard("initialize").len()), (1, 1));
    });
}

#[test]
fn a_version_that_no_server_speaks_is_refused_in_their_words() {
    story(async {
        let one = Server::new("one")
            .on("server/discover", Reply::Error(-32022))
            .on("tools/list", Reply::Error(-32022));
        let mut client = Client::new(prefixed(), &[&one]);
        for (id, method) in [(1, "server/discover"), (2, "tools/list")] {
            assert_eq!(client.ask(id, method, modern(json!({}))).await["error"]["code"], -32022);
        }
        let apart = [server("x", &["2026-07-28"], 0, json!({})), server("y", &["2027-01-01"], 0, json!({}))];
        let mut client = Client::new(prefixed(), &[&apart[0], &apart[1]]);
        assert_eq!(client.ask(1, "server/discover", modern(json!({}))).await["error"]["code"], -32601);
    });
}

#[test]
fn requests_need_nothing_before_them_and_results_say_what_the_era_asks_for() {
    story(async {
        let list = |name: &str, ttl: Option<u64>| {
            Reply::Result(json!({ "tools": [{ "name": name }], "ttlMs": ttl, "resultType": "complete" }))
        };
        let one = Server::new("one")
            .on("tools/list", list("a", Some(500)))
            .on("tools/call", Reply::Text(r#"{"resultType":"input_required","requestState":"x"}"#));
        let two = Server::new("two").on("tools/list", list("b", Some(300)));
        let three = Server::new("three");
        let mut client = Client::new(prefixed(), &[&one, &two, &three]);
        let answer = client.ask(1, "tools/call", modern(json!({ "name": "one__a" }))).await;
        assert_eq!(answer["result"], json!({ "resultType": "input_required", "requestState": "x" }));
        assert_eq!(one.heard("tools/call")[0]["params"], modern(json!({ "name": "a" })));
        let answer = client.ask(2, "tools/list", modern(json!({ "_meta": { "progressToken": 1 } }))).await;
        assert_eq!(
            answer["result"],
            json!({ "tools": [{ "name": "one__a" }, { "name": "two__b" }], "ttlMs": 300, "cacheScope": "private", "resultType": "complete" })
        );
        assert_eq!(one.heard("tools/list")[0]["params"], modern(json!({})));
        client.request(3, "tools/call", modern(json!({ "name": "two__b" }))).await;
        assert_eq!(client.answer(3).await["result"]["from"], "two");
        assert!([&one, &two, &three].iter().all(|it| it.heard("initialize").is_empty()));
    });
}

/// What a member was asked to listen for, and under which id.
fn listen(server: &Server) -> (Value, Value) {
    let heard = server.heard("subscriptions/listen").pop().unwrap();
    (heard["id"].clone(), heard["params"]["notifications"].clone())
}

fn note(method: &str, id: &Value, mut params: Value) -> Value {
    params["_meta"][SUBSCRIPTION] = id.clone();
    json!({ "method": method, "params": params })
}

#[test]
fn one_subscription_is_one_at_each_server() {
    story(async {
        let resources = |uri: &str| Reply::Result(json!({ "resources": [{ "uri": uri }] }));
        let listening = |name| Server::new(name).on("subscriptions/listen", Reply::Silence);
        let one = listening("one").on("resources/list", resources("a://1"));
        let two = listening("two").on("resources/list", resources("b://1"));
        let older = Server::new("older").on("subscriptions/listen", Reply::Error(-32601));
        let mut client = Client::new(prefixed(), &[&one, &two, &older]);
        let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["b://1", "a://1"] });
        client.request("s", "subscriptions/listen", modern(json!({ "notifications": wanted }))).await;
        client.rest().await;
        let ((of_one, wanted_of_one), (of_two, wanted_of_two)) = (listen(&one), listen(&two));
        assert_eq!(wanted_of_one, json!({ "toolsListChanged": true, "resourceSubscriptions": ["a://1"] }));
        assert_eq!(wanted_of_two, json!({ "toolsListChanged": true, "resourceSubscriptions": ["b://1"] }));

        let acknowledged = "notifications/subscriptions/acknowledged";
        one.says(note(acknowledged, &of_one, json!({ "notifications": wanted_of_one }))).await;
        one.says(note("notifications/resources/updated", &of_one, json!({ "uri": "a://1" }))).await;
        assert!(client.rest().await.is_empty(), "the acknowledgement comes first, and is for all");
        two.says(note(
            acknowledged,
            &of_two,
            json!({ "notifications": { "resourceSubscriptions": ["b://1"] } }),
        ))
        .await;
        let (told, about) = client.told(acknowledged).await;
        assert_eq!(
            told["params"],
            json!({ "notifications": { "toolsListChanged": true, "resourceSubscriptions": ["a://1", "b://1"] }, "_meta": { SUBSCRIPTION: "s" } })
        );
        assert_eq!(about.as_deref(), Some("\"s\""));
        let (told, about) = client.told("notifications/resources/updated").await;
        assert_eq!((&told["params"]["_meta"][SUBSCRIPTION], about.as_deref()), (&json!("s"), Some("\"s\"")));
        // Nobody speaks on another's stream.
        one.says(note("notifications/tools/list_changed", &of_two, json!({}))).await;
        two.says(note("notifications/tools/list_changed", &of_two, json!({}))).await;
        client.told("notifications/tools/list_changed").await;
        assert!(client.rest().await.is_empty());

        two.dies();
        let (told, _) = client.told("notifications/tools/list_changed").await;
        assert_eq!(told["params"]["_meta"][SUBSCRIPTION], "s");
        one.says(json!({ "id": of_one, "result": { "resultType": "complete" } })).await;
        assert_eq!(
            client.answer("s").await["result"],
            json!({ "resultType": "complete", "_meta": { SUBSCRIPTION: "s" } })
        );
    });
}

#[test]
fn a_subscription_whose_client_is_gone_is_given_up_everywhere_and_one_that_nobody_takes_is_refused() {
    story(async {
        let one = Server::new("one").on("subscriptions/listen", Reply::Silence);
        let two = Server::new("two").on("subscriptions/listen", Reply::Silence);
        let mut client = Client::new(prefixed(), &[&one, &two]);
        let wanted = modern(json!({ "notifications": { "toolsListChanged": true } }));
        client.request(1, "subscriptions/listen", wanted.clone()).await;
        client.rest().await;
        client.abandon(1).await;
        client.rest().await;
        for server in [&one, &two] {
            assert_eq!(server.heard("abandoned")[0]["params"]["id"], listen(server).0.to_string());
            let _ = (*server).clone().on("subscriptions/listen", Reply::Error(-32601));
        }
        assert_eq!(client.ask(2, "subscriptions/listen", wanted).await["error"]["code"], -32601);
    });
}

#[test]
fn a_server_that_joins_later_gets_the_subscription_too() {
    story(async {
        let one = Server::new("one").on("subscriptions/listen", Reply::Silence);
        let two = Server::new("two").on("subscriptions/listen", Reply::Silence);
        two.is_up.set(false);
        let mut client = Client::new(prefixed(), &[&one, &two]);
        let wanted = json!({ "toolsListChanged": true });
        client.request(1, "subscriptions/listen", modern(json!({ "notifications": wanted }))).await;
        client.rest().await;
        one.says(note(
            "notifications/subscriptions/acknowledged",
            &listen(&one).0,
            json!({ "notifications": wanted }),
        ))
        .await;
        client.told("notifications/subscriptions/acknowledged").await;
        two.is_up.set(true);
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        client.ask(2, "tools/call", modern(json!({ "name": "two__a" }))).await;
        client.told("notifications/tools/list_changed").await;
        let (id, heard) = listen(&two);
        assert_eq!(heard, wanted);
        two.says(note("notifications/subscriptions/acknowledged", &id, json!({ "notifications": wanted })))
            .await;
        two.says(note("notifications/tools/list_changed", &id, json!({}))).await;
        client.told("notifications/tools/list_changed").await;
        assert!(client.rest().await.is_empty(), "acknowledged once");
    });
}

#[test]
fn a_server_acknowledges_once_however_often_it_says_so() {
    story(async {
        let one = Server::new("one").on("subscriptions/listen", Reply::Silence);
        let two = Server::new("two").on("subscriptions/listen", Reply::Silence);
        let mut client = Client::new(prefixed(), &[&one, &two]);
        let wanted = json!({ "toolsListChanged": true });
        client.request(1, "subscriptions/listen", modern(json!({ "notifications": wanted }))).await;
        client.rest().await;
        let acknowledged = "notifications/subscriptions/acknowledged";
        let more = json!({ "notifications": { "resourceSubscriptions": ["a://1"] } });
        for _ in 0..3 {
            one.says(note(acknowledged, &listen(&one).0, more.clone())).await;
            assert!(client.rest().await.is_empty());
        }
        two.says(note(acknowledged, &listen(&two).0, json!({ "notifications": wanted }))).await;
        let (told, _) = client.told(acknowledged).await;
        assert_eq!(told["params"]["notifications"]["resourceSubscriptions"], json!(["a://1"]));
    });
}
