//! How long members may take, and who waits for them.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::harness::{Client, Reply, Server, prefixed, story};
use crate::error::ErrorKind;

const SECOND: Duration = Duration::from_secs(1);

fn greeting() -> Value {
    json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} } })
}

fn tools(names: &[&str]) -> Value {
    json!({ "tools": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() })
}

#[test]
fn a_call_takes_no_longer_than_the_timeout_of_its_server() {
    story(async {
        let slow = Server::with_tools("slow", &["a"]).on("tools/call", Reply::Silence);
        let slow = slow.takes(|patience| patience.answer = Some(7 * SECOND));
        let other = Server::with_tools("other", &["a"]).on("tools/call", Reply::After(20, json!("at last")));
        let mut client = Client::in_session(prefixed(), &[&slow, &other]).await;
        let begin = Instant::now();
        client.request(1, "tools/call", json!({ "name": "slow__a" })).await;
        client.request(2, "tools/call", json!({ "name": "other__a" })).await;
        assert_eq!(client.failure(1).await, ErrorKind::UpstreamTimeout);
        assert_eq!(begin.elapsed().as_secs(), 7);
        assert!(client.rest().await.is_empty());
        let asked = &slow.heard("tools/call")[0]["id"];
        assert_eq!(slow.heard("abandoned")[0]["params"]["id"], asked.to_string(), "it need not go on");
        assert!(slow.health.is_failing());
        assert_eq!(client.answer(2).await["result"], "at last", "nothing is said of this one");
    });
}

#[test]
fn a_call_of_which_its_server_says_something_may_take_longer() {
    story(async {
        let slow = Server::with_tools("slow", &["a"]).on("tools/call", Reply::After(20, json!("at last")));
        let slow = slow.takes(|patience| patience.answer = Some(7 * SECOND));
        let mut client = Client::in_session(prefixed(), &[&slow]).await;
        let params = json!({ "name": "slow__a", "_meta": { "progressToken": "p" } });
        client.request(1, "tools/call", params).await;
        sleep(5 * SECOND).await;
        let token = slow.heard("tools/call")[0]["params"]["_meta"]["progressToken"].clone();
        let params = json!({ "progressToken": token, "progress": 1 });
        slow.says(json!({ "method": "notifications/progress", "params": params })).await;
        assert_eq!(client.answer(1).await["result"], "at last");
    });
}

#[test]
fn a_link_is_not_waited_for_longer_than_the_timeout_of_its_server() {
    story(async {
        let slow = Server::with_tools("slow", &["a"]).on("initialize", Reply::Silence);
        let slow = slow.takes(|patience| patience.answer = Some(2 * SECOND));
        let mut client = Client::in_session(prefixed(), &[&slow]).await;
        let begin = Instant::now();
        client.request(1, "tools/call", json!({ "name": "slow__a" })).await;
        assert_eq!(client.failure(1).await, ErrorKind::UpstreamTimeout);
        assert_eq!(begin.elapsed().as_secs(), 2);
    });
}

#[test]
fn who_never_answers_initialize_is_given_up() {
    story(async {
        let silent = Server::with_tools("silent", &["a"]).on("initialize", Reply::Silence);
        let mut client = Client::in_session(prefixed(), &[&silent]).await;
        sleep(24 * SECOND).await;
        assert_eq!((silent.opened.get(), silent.ended.get()), (1, 0));
        sleep(2 * SECOND).await;
        assert_eq!((silent.opened.get(), silent.ended.get()), (1, 1));
        let given_up =
            r#"Down { server: "silent", kind: UpstreamTimeout, cause: "no answer to initialize in time" }"#;
        assert!(client.reports.borrow().iter().any(|it| it == given_up), "{:?}", client.reports);
        // It is tried again when somebody needs it.
        sleep(3 * SECOND).await;
        let silent = silent.on("initialize", Reply::Result(greeting()));
        let answer = client.ask(1, "tools/call", json!({ "name": "silent__a" })).await;
        assert_eq!((&answer["result"]["from"], silent.opened.get()), (&json!("silent"), 2));
    });
}

#[test]
fn who_hangs_costs_the_next_session_nothing_and_joins_when_it_answers() {
    story(async {
        let hanging = Server::with_tools("hanging", &["a"]).on("initialize", Reply::Silence);
        let quick = Server::with_tools("quick", &["a"]);
        let begin = Instant::now();
        drop(Client::in_session(prefixed(), &[&hanging, &quick]).await);
        assert_eq!(begin.elapsed().as_secs(), 5, "somebody has to find out");

        let hanging = hanging.on("initialize", Reply::After(3, greeting()));
        let begin = Instant::now();
        let mut client = Client::in_session(prefixed(), &[&hanging, &quick]).await;
        assert_eq!(client.names(1, "tools/list").await, ["quick__a"]);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        client.told("notifications/tools/list_changed").await;
        assert_eq!(client.names(2, "tools/list").await, ["hanging__a", "quick__a"]);
        assert_eq!(begin.elapsed().as_secs(), 3);

        // In time this time, so it is waited for again.
        let begin = Instant::now();
        let mut client = Client::in_session(prefixed(), &[&hanging, &quick]).await;
        assert_eq!(begin.elapsed().as_secs(), 3);
        assert_eq!(client.names(1, "tools/list").await, ["hanging__a", "quick__a"]);
    });
}

#[test]
fn a_list_that_hangs_costs_the_next_session_nothing_and_is_seen_when_it_comes() {
    story(async {
        let hanging = Server::with_tools("hanging", &[]).on("tools/list", Reply::After(7, tools(&["a"])));
        let quick = Server::with_tools("quick", &["a"]);
        let mut first = Client::in_session(prefixed(), &[&hanging, &quick]).await;
        let begin = Instant::now();
        assert_eq!(first.names(1, "tools/list").await, ["quick__a"]);
        assert_eq!(begin.elapsed().as_secs(), 5);
        for _ in 0..2 {
            // Late again: the one after it does not wait either.
            let begin = Instant::now();
            let mut next = Client::in_session(prefixed(), &[&hanging, &quick]).await;
            assert_eq!(next.names(1, "tools/list").await, ["quick__a"]);
            assert_eq!(begin.elapsed(), Duration::ZERO);
            next.told("notifications/tools/list_changed").await;
            assert_eq!(next.names(2, "tools/list").await, ["hanging__a", "quick__a"]);
        }
        let failed = r#"ListFailed { server: "hanging", method: "tools/list", kind: UpstreamTimeout, cause: "no answer in time" }"#;
        assert_eq!(first.reports.borrow()[0], failed);
    });
}

#[test]
fn a_server_that_nobody_needs_is_let_go_after_its_own_idle_time_and_comes_back() {
    story(async {
        let one = Server::with_tools("one", &["a"]).takes(|patience| patience.idle = 10 * SECOND);
        let two = Server::with_tools("two", &["a"]);
        let two = two.on("tools/call", Reply::After(30, json!("at last")));
        let two = two.takes(|patience| patience.idle = 10 * SECOND);
        let settings = prefixed();
        let listens = settings.listens.clone();
        let mut client = Client::in_session(settings, &[&one, &two]).await;
        client.request(1, "tools/call", json!({ "name": "two__a" })).await;
        sleep(8 * SECOND).await;
        client.ask(2, "tools/call", json!({ "name": "one__a" })).await;
        sleep(8 * SECOND).await;
        assert_eq!(one.ended.get(), 0, "it had something to do");
        sleep(3 * SECOND).await;
        assert_eq!((one.ended.get(), two.ended.get()), (1, 0), "a call runs");
        assert_eq!(client.answer(1).await["result"], "at last");
        assert_eq!(one.opened.get(), 1, "no call of another brings it back");
        assert!(client.rest().await.is_empty(), "nothing has changed");
        assert_eq!(client.ask(3, "tools/call", json!({ "name": "one__a" })).await["result"]["from"], "one");
        assert_eq!((one.opened.get(), client.rest().await.is_empty()), (2, true));

        // Who listens hears what it has to say.
        listens.store(true, Relaxed);
        sleep(60 * SECOND).await;
        assert_eq!((one.ended.get(), two.ended.get()), (1, 0));
        listens.store(false, Relaxed);
        sleep(21 * SECOND).await;
        assert_eq!((one.ended.get(), two.ended.get()), (2, 1));
        assert_eq!(client.names(4, "tools/list").await, ["one__a", "two__a"]);
        assert!(
            client.reports.borrow().iter().all(|it| !it.starts_with("Down")),
            "nothing is wrong with them"
        );
    });
}

#[test]
fn without_a_session_a_list_that_hangs_is_waited_for_once() {
    story(async {
        let hanging = Server::with_tools("hanging", &["a"]).on("tools/list", Reply::Silence);
        let quick = Server::with_tools("quick", &["a"]);
        let begin = Instant::now();
        for _ in 0..2 {
            let mut client = Client::new(prefixed(), &[&hanging, &quick]);
            assert_eq!(client.names(1, "tools/list").await, ["quick__a"]);
            assert_eq!(begin.elapsed().as_secs(), 5);
        }
    });
}
