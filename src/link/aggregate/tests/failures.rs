//! A server that is down, slow or not granted costs only itself.

use std::{cell::Cell, rc::Rc, time::Duration};

use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::harness::{Client, Reply, Server, prefixed, story};
use crate::{
    error::ErrorKind,
    link::{QUEUE, aggregate::AggregateSettings},
};

#[test]
fn a_dead_server_costs_only_itself_and_comes_back() {
    story(async {
        let (one, two) = (Server::with_tools("one", &["a"]), Server::with_tools("two", &["a"]));
        one.is_up.set(false);
        let begin = Instant::now();
        let mut client = Client::new(prefixed(), &[&one, &two]);
        let greeting = client.initialize().await;
        assert_eq!(greeting["capabilities"]["prompts"], json!({ "listChanged": true }), "it may have some");
        assert_eq!(client.names(1, "tools/list").await, ["two__a"]);
        client.request(2, "tools/call", json!({ "name": "one__a" })).await;
        assert_eq!(client.failure(2).await, ErrorKind::UpstreamUnreachable);
        assert_eq!(client.ask(3, "tools/call", json!({ "name": "two__a" })).await["result"]["from"], "two");
        assert!(begin.elapsed() < Duration::from_secs(1));
        let down = r#"Down { server: "one", kind: UpstreamUnreachable, cause: "upstream_unreachable: connection refused" }"#;
        assert_eq!(
            client.reports.borrow().iter().filter(|it| *it == down).count(),
            1,
            "not dialled by every call"
        );

        one.is_up.set(true);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(client.names(4, "tools/list").await, ["one__a", "two__a"]);
        assert!(client.rest().await.is_empty(), "the list that it came with says so already");
        assert_eq!(one.heard("initialize")[0]["params"], two.heard("initialize")[0]["params"]);
        assert_eq!(one.heard("notifications/initialized").len(), 1);
    });
}

#[test]
fn a_slow_server_is_waited_for_once_and_joins_later() {
    story(async {
        let greeting = json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} } });
        let slow = Server::with_tools("slow", &["a"]).on("initialize", Reply::After(20, greeting));
        let quick = Server::with_tools("quick", &["a"]);
        let mut client = Client::new(prefixed(), &[&slow, &quick]);
        let begin = Instant::now();
        client.initialize().await;
        assert_eq!(begin.elapsed().as_secs(), 5);
        assert_eq!(client.names(1, "tools/list").await, ["quick__a"]);
        assert_eq!(begin.elapsed().as_secs(), 5, "once is enough");
        client.request(2, "tools/call", json!({ "name": "slow__a" })).await;
        assert_eq!(client.failure(2).await, ErrorKind::UpstreamTimeout);
        client.told("notifications/tools/list_changed").await;
        assert_eq!(begin.elapsed().as_secs(), 20);
        assert_eq!(client.names(3, "tools/list").await, ["slow__a", "quick__a"]);
        let reports = client.reports.borrow();
        let of_slow: Vec<_> = reports.iter().filter(|it| it.contains("slow")).collect();
        assert_eq!(
            of_slow,
            [r#"Down { server: "slow", kind: UpstreamTimeout, cause: "no answer in time" }"#]
        );
    });
}

#[test]
fn requests_that_wait_for_a_slow_server_are_bounded_by_bytes() {
    story(async {
        let slow = Server::with_tools("slow", &["a"]).on("initialize", Reply::Silence);
        let quick = Server::with_tools("quick", &["a"]);
        let mut client = Client::in_session(prefixed(), &[&slow, &quick]).await;
        let call = json!({ "name": "slow__a", "arguments": { "x": "x".repeat(5 << 20) } });
        for id in 1..=4 {
            client.request(id, "tools/call", call.clone()).await;
        }
        assert_eq!(client.failure(4).await, ErrorKind::CallerLimit);
        let other = client.ask(5, "tools/call", json!({ "name": "quick__a" })).await;
        assert_eq!(other["result"]["from"], "quick");
        for id in 1..=3 {
            assert_eq!(client.failure(id).await, ErrorKind::UpstreamTimeout);
        }
    });
}

#[test]
fn a_list_that_always_comes_late_comes_all_the_same() {
    story(async {
        let late = json!({ "tools": [{ "name": "a" }] });
        let slow = Server::with_tools("slow", &[]).on("tools/list", Reply::After(7, late));
        let quick = Server::with_tools("quick", &["a"]);
        let mut client = Client::in_session(prefixed(), &[&slow, &quick]).await;
        let begin = Instant::now();
        assert_eq!(client.names(1, "tools/list").await, ["quick__a"]);
        assert_eq!(client.names(2, "tools/list").await, ["quick__a"]);
        assert_eq!(begin.elapsed().as_secs(), 5);
        client.told("notifications/tools/list_changed").await;
        assert_eq!(client.names(3, "tools/list").await, ["slow__a", "quick__a"]);
        assert_eq!(begin.elapsed().as_secs(), 7);
        assert_eq!(slow.heard("tools/list").len(), 1);
    });
}

#[test]
fn when_a_server_dies_its_calls_fail_its_questions_are_withdrawn_and_its_tools_are_gone() {
    story(async {
        let one = Server::with_tools("one", &["a"]).on("tools/call", Reply::Silence);
        let two = Server::with_tools("two", &["a"]).on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        client.request(1, "tools/call", json!({ "name": "one__a" })).await;
        client.request(2, "tools/call", json!({ "name": "two__a" })).await;
        client.request(3, "tools/list", json!({})).await;
        client.rest().await;
        one.says(json!({ "id": 1, "method": "sampling/createMessage" })).await;
        let (asked, _) = client.told("sampling/createMessage").await;
        one.is_up.set(false);
        one.dies();
        assert_eq!(client.failure(1).await, ErrorKind::UpstreamUnreachable);
        assert_eq!(client.told("notifications/cancelled").await.0["params"]["requestId"], asked["id"]);
        client.told("notifications/tools/list_changed").await;
        assert!(client.rest().await.is_empty(), "the other call goes on");
        assert_eq!(client.names(4, "tools/list").await, ["two__a"]);

        // A call opens it again, when it may.
        one.is_up.set(true);
        let one = one.on("tools/call", Reply::Result(json!("back")));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(client.ask(5, "tools/call", json!({ "name": "one__a" })).await["result"], "back");
        client.told("notifications/tools/list_changed").await;
        assert_eq!(one.opened.get(), 2);
    });
}

#[test]
fn a_grant_that_is_taken_away_counts_at_once() {
    story(async {
        let (one, two) = (Server::with_tools("one", &["a"]), Server::with_tools("two", &["a"]));
        let hidden = Server::with_tools("hidden", &["a"]);
        hidden.is_granted.set(false);
        let two = two.on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one, &two, &hidden]).await;
        assert_eq!(client.names(1, "tools/list").await, ["one__a", "two__a"]);
        assert_eq!(hidden.opened.get(), 0);
        client.request(2, "tools/call", json!({ "name": "two__a" })).await;
        client.rest().await;

        two.is_granted.set(false);
        // Nothing of it passes any more, even if it is the server that speaks first.
        two.says(r#"{"method":"notifications/message","params":{}}"#).await;
        assert_eq!(client.failure(2).await, ErrorKind::InsufficientScope);
        client.told("notifications/tools/list_changed").await;
        let unknown = |name: &str| json!({ "code": -32602, "message": format!("Unknown tool: {name}") });
        for (id, name) in [(3, "two__a"), (4, "hidden__a"), (5, "nobody__a")] {
            let answer = client.ask(id, "tools/call", json!({ "name": name })).await;
            assert_eq!(answer["error"], unknown(name), "what is not granted looks like what is not there");
        }
        assert_eq!(client.names(6, "tools/list").await, ["one__a"]);
        assert!(client.rest().await.is_empty());
        assert_eq!((two.ended.get(), two.heard("tools/call").len()), (1, 1));

        assert!(client.reports.borrow().iter().all(|it| !it.starts_with("Down")), "nothing is wrong with it");
        two.is_granted.set(true);
        assert_eq!(client.names(7, "tools/list").await, ["one__a", "two__a"]);
    });
}

#[test]
fn a_change_is_seen_although_nobody_does_anything() {
    story(async {
        let one = Server::with_tools("one", &["a"]).on("tools/call", Reply::Silence);
        let two = Server::with_tools("two", &["a"]).on("tools/call", Reply::Silence);
        let changes = watch::Sender::new(0);
        let settings = AggregateSettings { changes: changes.subscribe(), ..prefixed() };
        let mut client = Client::in_session(settings, &[&one, &two]).await;
        client.request(1, "tools/call", json!({ "name": "one__a" })).await;
        client.request(2, "tools/call", json!({ "name": "two__a" })).await;
        client.rest().await;
        one.is_granted.set(false);
        two.epoch.set(1);
        changes.send_replace(1);
        assert_eq!(client.failure(1).await, ErrorKind::InsufficientScope);
        assert_eq!(client.failure(2).await, ErrorKind::Unavailable);
        assert_eq!((one.ended.get(), two.ended.get()), (1, 1));

        // What has another server's place is there at once.
        let two = two.on("tools/call", Reply::Result(json!("new")));
        assert_eq!(client.ask(3, "tools/call", json!({ "name": "two__a" })).await["result"], "new");
        assert_eq!((one.opened.get(), two.opened.get()), (1, 2));
    });
}

#[test]
fn a_server_that_is_configured_anew_is_reached_anew() {
    story(async {
        let (one, two) = (Server::with_tools("one", &["a"]), Server::with_tools("two", &["a"]));
        let two = two.on("tools/call", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        client.request(1, "tools/call", json!({ "name": "two__a" })).await;
        client.rest().await;
        two.epoch.set(1);
        let two = two.on("tools/call", Reply::Result(json!({ "from": "the new one" })));
        assert_eq!(client.ask(2, "tools/call", json!({ "name": "one__a" })).await["result"]["from"], "one");
        assert_eq!(client.failure(1).await, ErrorKind::Unavailable);
        let answer = client.ask(3, "tools/call", json!({ "name": "two__a" })).await;
        assert_eq!(answer["result"]["from"], "the new one");
        assert_eq!((two.ended.get(), two.opened.get(), one.opened.get()), (1, 2, 1));
        assert!(client.reports.borrow().iter().all(|it| !it.starts_with("Down")), "nothing is wrong with it");
    });
}

#[test]
fn errors_of_a_servers_list_are_seen_only_if_nobody_has_more() {
    story(async {
        let one = Server::with_tools("one", &[]).on("tools/list", Reply::Error(-32000));
        let two = Server::with_tools("two", &["a"]);
        let mut client = Client::in_session(prefixed(), &[&one, &two]).await;
        assert_eq!(client.names(1, "tools/list").await, ["two__a"]);
        two.is_granted.set(false);
        assert_eq!(client.ask(2, "tools/list", json!({})).await["error"]["code"], -32000);
        one.is_granted.set(false);
        assert!(client.names(3, "tools/list").await.is_empty());
    });
}

#[test]
fn without_any_server_there_is_a_session_all_the_same() {
    story(async {
        let down = Server::new("down");
        down.is_up.set(false);
        let refusing = Server::new("refusing").on("initialize", Reply::Error(-32602));
        let mut client = Client::new(prefixed(), &[&down, &refusing]);
        assert_eq!(client.initialize().await["protocolVersion"], "2025-11-25");
        assert!(client.names(1, "tools/list").await.is_empty());
        assert_eq!(refusing.ended.get(), 1);
    });
}

#[test]
fn links_end_with_the_client() {
    story(async {
        let one = Server::with_tools("one", &[]);
        let client = Client::in_session(prefixed(), &[&one]).await;
        drop(client);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(one.ended.get(), 1);
    });
}

#[test]
fn a_server_that_reads_nothing_costs_only_itself() {
    story(async {
        for (size, calls, notes) in [(1 << 20, 30, 0), (1, 10, 2_100)] {
            let deaf = Server::with_tools("deaf", &[]).on("tools/call", Reply::Deafness);
            let two = Server::with_tools("two", &[]);
            let mut client = Client::in_session(prefixed(), &[&deaf, &two]).await;
            for id in 1..=calls {
                let arguments = json!({ "x": "x".repeat(size) });
                client.request(id, "tools/call", json!({ "name": "deaf__a", "arguments": arguments })).await;
            }
            let answer = client.ask(2_000, "tools/call", json!({ "name": "two__a" })).await;
            assert_eq!(answer["result"]["from"], "two");
            for _ in 0..notes {
                client.note("notifications/roots/list_changed", json!({})).await;
            }
            for id in 1..=calls {
                assert_eq!(client.failure(id).await, ErrorKind::UpstreamUnreachable, "{size} {id}");
            }
            let stuck = r#"Down { server: "deaf", kind: UpstreamUnreachable, cause: "it does not take what it is sent" }"#;
            assert!(client.reports.borrow().iter().any(|it| it == stuck));
            let answer = client.ask(2_001, "tools/call", json!({ "name": "two__a" })).await;
            assert_eq!(answer["result"]["from"], "two");
        }
    });
}

#[test]
fn a_client_that_reads_nothing_stops_its_servers_and_misses_nothing() {
    story(async {
        let one = Server::with_tools("one", &[]);
        let mut client = Client::in_session(prefixed(), &[&one]).await;
        let sent = Rc::new(Cell::new(0));
        let (talking, count) = (one.clone(), Rc::clone(&sent));
        tokio::task::spawn_local(async move {
            for number in 0..1_000 {
                talking.says(json!({ "method": "notifications/message", "params": number })).await;
                count.set(number);
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(sent.get() < 3 * QUEUE, "{}", sent.get());
        // It may go on to speak itself.
        client.request(1, "tools/call", json!({ "name": "one__a" })).await;
        for number in 0..1_000 {
            assert_eq!(client.told("notifications/message").await.0["params"], number);
        }
        assert_eq!(client.answer(1).await["result"]["from"], "one");
    });
}
