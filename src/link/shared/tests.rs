#[path = "owners_tests.rs"]
mod owners;

use std::{cell::Cell, future::ready, rc::Rc, thread, time::Duration};

use tokio::{
    runtime::{Builder, LocalOptions},
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{
    error::ErrorKind,
    ledger::Owner,
    link::{FromServer, Outbound, QUEUE, ServerEnd, ToServer},
    mcp::message::{self, Id},
};

const IDLE: Duration = Duration::from_secs(60);

/// Runs a test on a thread as workers have them, whose clock runs only while nobody has anything to do.
fn on_worker(test: impl Future<Output = ()>) {
    run(test, true);
}

/// The same with a clock as it is, for tests of several threads: one that waits for another is not idle.
fn on_one_of_many_workers(test: impl Future<Output = ()>) {
    run(async { timeout(Duration::from_secs(60), test).await.unwrap() }, false);
}

fn run(test: impl Future<Output = ()>, is_paused: bool) {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(is_paused).build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test);
}

/// A shared server whose links are played by the test.
fn played() -> (SharedLink, mpsc::UnboundedReceiver<ServerEnd>) {
    let (opened, server_end) = mpsc::unbounded_channel();
    let open = move || {
        let (link, server_end) = Link::pair();
        opened.send(server_end).unwrap();
        ready(Ok(link))
    };
    (SharedLink::start(open, SharedLinkSettings::new(IDLE)), server_end)
}

fn message(text: impl Into<String>) -> Message {
    Message::parse(text.into().into()).unwrap()
}

fn call(id: u64) -> ToServer {
    ToServer::Message(message(format!(r#"{{"id":{id},"method":"tools/call"}}"#)).into())
}

/// The number under which the server gets its next request.
async fn request(server_end: &mut ServerEnd) -> Id {
    match server_end.from_client.recv().await {
        Some(ToServer::Message(Outbound { message, .. })) => message.id().unwrap().clone(),
        other => panic!("{other:?}"),
    }
}

async fn abandoned(server_end: &mut ServerEnd) -> Id {
    match server_end.from_client.recv().await {
        Some(ToServer::Abandon(id)) => id,
        other => panic!("{other:?}"),
    }
}

async fn answer(server_end: &ServerEnd, number: &Id, result: &str) {
    let message = message(format!(r#"{{"id":{number},"result":{result}}}"#));
    server_end.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
}

/// The next message for a caller: its own id, and the result.
async fn answered(link: &mut Link<CallSender>) -> (Id, String) {
    match link.from_server.recv().await {
        Some(FromServer::Message { message, .. }) => {
            let result = message.part(message::Part::Result).unwrap_or_default().to_owned();
            (message.id().unwrap().clone(), result)
        }
        other => panic!("{other:?}"),
    }
}

async fn failure(link: &mut Link<CallSender>) -> (Id, ErrorKind) {
    match link.from_server.recv().await {
        Some(FromServer::Failed { id, error }) => (id, error.kind),
        other => panic!("{other:?}"),
    }
}

/// Lets everybody do what there is to do: the clock moves only when nobody has anything left.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[test]
fn the_server_opens_with_the_first_request_and_closes_when_none_has_been_in_flight_for_a_while() {
    on_worker(async {
        let (shared, mut servers) = played();
        let mut link = shared.attach(&Owner::unlimited());
        settle().await;
        assert!(servers.is_empty(), "nobody asked for anything");

        link.to_server.send(call(1)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let number = request(&mut server).await;
        let before = number.clone();
        sleep(10 * IDLE).await;
        assert!(!server.from_client.is_closed(), "a request is in flight");
        answer(&server, &number, "{}").await;
        assert_eq!(answered(&mut link).await.0, Id::number(1));

        let since = Instant::now();
        assert!(server.from_client.recv().await.is_none(), "idle, although a caller is there");
        assert!((IDLE..IDLE + Duration::from_secs(1)).contains(&since.elapsed()), "{:?}", since.elapsed());

        link.to_server.send(call(2)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let number = request(&mut server).await;
        assert_ne!(number, before, "numbers go on");
        answer(&server, &number, "{}").await;
        assert_eq!(answered(&mut link).await.0, Id::number(2));
    });
}

#[test]
fn a_crash_fails_what_is_in_flight_at_once_and_the_next_request_opens_again() {
    on_worker(async {
        let (shared, mut servers) = played();
        let mut callers = [shared.attach(&Owner::unlimited()), shared.attach(&Owner::unlimited())];
        for caller in &callers {
            caller.to_server.send(call(1)).await.unwrap();
        }
        let mut server = servers.recv().await.unwrap();
        request(&mut server).await;
        request(&mut server).await;

        let since = Instant::now();
        server.to_client.send(FromServer::Ended { cause: "killed".into() }).await.unwrap();
        drop(server);
        for caller in &mut callers {
            assert_eq!(failure(caller).await, (Id::number(1), ErrorKind::UpstreamUnreachable));
        }
        assert!(since.elapsed() < Duration::from_millis(10), "{:?}", since.elapsed());
        assert!(servers.is_empty(), "nothing to open it for");

        callers[0].to_server.send(call(2)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let number = request(&mut server).await;
        answer(&server, &number, "{}").await;
        assert_eq!(answered(&mut callers[0]).await.0, Id::number(2));

        // One that goes without a word has gone too.
        callers[1].to_server.send(call(2)).await.unwrap();
        request(&mut server).await;
        drop(server);
        assert_eq!(failure(&mut callers[1]).await, (Id::number(2), ErrorKind::UpstreamUnreachable));
    });
}

#[test]
fn those_who_wait_for_a_server_that_does_not_open_are_told_why() {
    on_worker(async {
        let attempts = Rc::new(Cell::new(0));
        let open = {
            let attempts = Rc::clone(&attempts);
            move || {
                attempts.set(attempts.get() + 1);
                async {
                    sleep(Duration::from_secs(5)).await;
                    Err(ErrorKind::UpstreamTimeout.with_cause("it says nothing"))
                }
            }
        };
        let shared = SharedLink::start(open, SharedLinkSettings::new(IDLE));
        let mut callers: Vec<_> = (0..50).map(|_| shared.attach(&Owner::unlimited())).collect();
        for caller in &callers {
            caller.to_server.send(call(1)).await.unwrap();
        }
        for caller in &mut callers {
            assert_eq!(failure(caller).await, (Id::number(1), ErrorKind::UpstreamTimeout));
        }
        assert_eq!(attempts.get(), 1);
        callers[0].to_server.send(call(2)).await.unwrap();
        assert_eq!(failure(&mut callers[0]).await.0, Id::number(2));
        assert_eq!(attempts.get(), 2);
    });
}

#[test]
fn a_caller_that_leaves_has_its_requests_abandoned_and_nobody_elses() {
    on_worker(async {
        let (shared, mut servers) = played();
        let (leaves, mut stays) = (shared.attach(&Owner::unlimited()), shared.attach(&Owner::unlimited()));
        leaves.to_server.send(call(1)).await.unwrap();
        settle().await;
        stays.to_server.send(call(1)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let (of_first, of_second) = (request(&mut server).await, request(&mut server).await);

        drop(leaves);
        assert_eq!(abandoned(&mut server).await, of_first);
        answer(&server, &of_first, r#""late""#).await;
        answer(&server, &of_second, r#""right""#).await;
        assert_eq!(answered(&mut stays).await, (Id::number(1), r#""right""#.into()));

        stays.to_server.send(call(2)).await.unwrap();
        let number = request(&mut server).await;
        stays.to_server.send(ToServer::Abandon(Id::number(2))).await.unwrap();
        assert_eq!(abandoned(&mut server).await, number);
    });
}

#[test]
fn a_caller_that_takes_nothing_is_cut_and_others_do_not_feel_it() {
    on_worker(async {
        for (size, fit) in [(0, 1024), (1024 * 1024, 4)] {
            let (shared, mut servers) = played();
            let (mut deaf, mut other) =
                (shared.attach(&Owner::unlimited()), shared.attach(&Owner::unlimited()));
            let with_progress =
                message(r#"{"id":1,"method":"tools/call","params":{"_meta":{"progressToken":1}}}"#);
            deaf.to_server.send(ToServer::Message(with_progress.into())).await.unwrap();
            let mut server = servers.recv().await.unwrap();
            let number = request(&mut server).await;

            let filler = "x".repeat(size - size.min(200));
            for _ in 0..fit + 1 {
                let progress = message(format!(
                    r#"{{"method":"notifications/progress","params":{{"progressToken":{number},"m":"{filler}"}}}}"#
                ));
                server.to_client.send(FromServer::Message { message: progress, about: None }).await.unwrap();
            }
            assert_eq!(abandoned(&mut server).await, number, "the server need not go on");

            other.to_server.send(call(1)).await.unwrap();
            let number = request(&mut server).await;
            answer(&server, &number, "{}").await;
            assert_eq!(answered(&mut other).await.0, Id::number(1));

            for _ in 0..fit {
                let got = deaf.from_server.recv().await;
                assert!(matches!(got, Some(FromServer::Message { .. })), "what was there before stays");
            }
            let last = deaf.from_server.recv().await;
            let Some(FromServer::Ended { cause }) = last else { panic!("{last:?}") };
            assert_eq!(cause, "the caller does not keep up");
            assert!(deaf.from_server.recv().await.is_none());
            deaf.to_server.send(call(2)).await.unwrap();
            other.to_server.send(call(3)).await.unwrap();
            let number = request(&mut server).await;
            answer(&server, &number, "{}").await;
            assert_eq!(answered(&mut other).await.0, Id::number(3), "what it sends after that goes nowhere");
        }
    });
}

#[test]
fn who_keeps_up_is_not_cut_however_much_there_is_and_one_message_may_be_large() {
    on_worker(async {
        let (shared, mut servers) = played();
        let mut link = shared.attach(&Owner::unlimited());
        for id in 0..20 {
            link.to_server.send(call(id)).await.unwrap();
            if id == 0 {
                settle().await;
            }
        }
        let mut server = servers.recv().await.unwrap();
        let large = format!(r#""{}""#, "x".repeat(5 * 1024 * 1024));
        for id in 0..20 {
            let number = request(&mut server).await;
            answer(&server, &number, &large).await;
            assert_eq!(answered(&mut link).await, (Id::number(id), large.clone()));
        }
    });
}

#[test]
fn a_server_that_takes_nothing_makes_callers_wait_and_nothing_else() {
    on_worker(async {
        let (shared, mut servers) = played();
        let mut first = shared.attach(&Owner::unlimited());
        first.to_server.send(call(1)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let number = request(&mut server).await;

        // More than link, backlog and inbox hold together, each in a caller of its own.
        let callers: Vec<_> = (0..2000).map(|_| shared.attach(&Owner::unlimited())).collect();
        for caller in &callers {
            caller.to_server.send(call(7)).await.unwrap();
        }
        settle().await;
        assert_eq!(server.from_client.len(), QUEUE);

        // What comes from the server passes nevertheless.
        answer(&server, &number, r#""still here""#).await;
        assert_eq!(answered(&mut first).await, (Id::number(1), r#""still here""#.into()));

        // They lose patience. Nobody is left but one, and the server wakes up.
        drop(callers);
        settle().await;
        first.to_server.send(call(2)).await.unwrap();
        let mut taken = 0;
        loop {
            match server.from_client.recv().await {
                Some(ToServer::Message(outbound)) if taken < QUEUE => {
                    assert_eq!(outbound.message.method(), "tools/call");
                    taken += 1;
                }
                Some(ToServer::Abandon(_)) => {}
                Some(ToServer::Message(outbound)) => {
                    answer(&server, outbound.message.id().unwrap(), "2").await;
                    break;
                }
                None => panic!("closed"),
            }
        }
        assert_eq!(taken, QUEUE, "what was not sent before they left is not sent");
        assert_eq!(answered(&mut first).await, (Id::number(2), "2".into()));
    });
}

#[test]
fn what_waits_can_be_taken_back() {
    on_worker(async {
        let (shared, mut servers) = played();
        let link = shared.attach(&Owner::unlimited());
        for id in 0..QUEUE as u64 + 3 {
            link.to_server.send(call(id)).await.unwrap();
        }
        let mut server = servers.recv().await.unwrap();
        settle().await;
        link.to_server.send(ToServer::Abandon(Id::number(QUEUE as u64 + 1))).await.unwrap();
        settle().await;
        for _ in 0..QUEUE + 2 {
            request(&mut server).await;
        }
        settle().await;
        assert!(server.from_client.is_empty(), "neither the request, nor that nobody waits for it");
    });
}

#[test]
fn a_server_that_asks_is_answered_but_not_more_than_it_listens() {
    on_worker(async {
        let (shared, mut servers) = played();
        let mut link = shared.attach(&Owner::unlimited());
        link.to_server.send(call(1)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let number = request(&mut server).await;
        for id in 0..1000 {
            let message = message(format!(r#"{{"id":{id},"method":"sampling/createMessage"}}"#));
            server.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
        }
        answer(&server, &number, "{}").await;
        assert_eq!(answered(&mut link).await.0, Id::number(1));
        for id in 0..2 * QUEUE as u64 {
            assert_eq!(request(&mut server).await, Id::number(id));
        }
        settle().await;
        assert!(server.from_client.is_empty(), "in its link and in line, and no more");
    });
}

#[test]
fn what_is_not_for_a_shared_server_does_not_open_one() {
    on_worker(async {
        let (shared, servers) = played();
        let mut link = shared.attach(&Owner::unlimited());
        let initialize = message(r#"{"id":1,"method":"initialize","params":{}}"#);
        link.to_server.send(ToServer::Message(initialize.into())).await.unwrap();
        match link.from_server.recv().await {
            Some(FromServer::Message { message, about: Some(about) }) => {
                assert_eq!((message.error_code(), about), (Some(-32601), Id::number(1)));
            }
            other => panic!("{other:?}"),
        }
        let cancelled = message(r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#);
        link.to_server.send(ToServer::Message(cancelled.into())).await.unwrap();
        settle().await;
        assert!(servers.is_empty());

        let logs = r#"{"id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}}"#;
        assert!(needs_own(&message(logs)));
        assert!(!needs_own(&message(r#"{"id":1,"method":"tools/call"}"#)));
        let notification = logs.replacen("\"id\":1,", "", 1);
        assert!(!needs_own(&message(notification)), "nobody would hear what is logged");
    });
}

#[test]
fn a_notification_reaches_nobody_but_the_server_of_a_request_that_it_cancels() {
    on_worker(async {
        let (shared, mut servers) = played();
        let (stays, other) = (shared.attach(&Owner::unlimited()), shared.attach(&Owner::unlimited()));
        stays.to_server.send(call(1)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let number = request(&mut server).await;
        for notification in [
            r#"{"method":"notifications/of/some/extension","params":{"n":1}}"#.to_owned(),
            r#"{"method":"notifications/initialized"}"#.to_owned(),
            r#"{"method":"notifications/roots/list_changed"}"#.to_owned(),
            r#"{"method":"notifications/tasks/status","params":{"taskId":"t"}}"#.to_owned(),
            format!(
                r#"{{"method":"notifications/progress","params":{{"progressToken":{number},"progress":1}}}}"#
            ),
            // Not a request of this caller's, by whichever name.
            format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#),
            r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#.to_owned(),
            r#"{"method":"tools/call","params":{"name":"t"}}"#.to_owned(),
        ] {
            other.to_server.send(ToServer::Message(message(notification).into())).await.unwrap();
        }
        settle().await;
        assert!(server.from_client.is_empty());
        let own = r#"{"method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}"#;
        stays.to_server.send(ToServer::Message(message(own).into())).await.unwrap();
        assert_eq!(abandoned(&mut server).await, number, "nothing of what the caller wrote");
    });
}

#[test]
fn the_server_closes_with_the_last_handle_and_the_last_caller() {
    on_worker(async {
        let (shared, mut servers) = played();
        let mut link = shared.attach(&Owner::unlimited());
        drop(shared);
        link.to_server.send(call(1)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let number = request(&mut server).await;
        answer(&server, &number, "{}").await;
        assert_eq!(answered(&mut link).await.0, Id::number(1));
        drop(link);
        assert!(timeout(IDLE / 2, server.from_client.recv()).await.unwrap().is_none());
    });
}

#[test]
fn a_link_to_a_server_whose_thread_is_gone_ends_at_once() {
    let mut kept = None;
    on_worker(async { kept = Some(played().0) });
    let mut link = kept.unwrap().attach(&Owner::unlimited());
    on_worker(async move {
        assert!(matches!(link.from_server.recv().await, Some(FromServer::Ended { .. })));
        assert!(link.from_server.recv().await.is_none());
    });
}

/// Calls of each of fifty callers: ten thousand together.
const CALLS: u64 = 200;

#[test]
fn fifty_callers_on_four_threads_with_the_same_ids_each_get_their_own_answers() {
    on_one_of_many_workers(async {
        let (shared, mut servers) = played();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let callers = (0..50).filter(|caller| caller % 4 == thread);
                    on_one_of_many_workers(async move {
                        let tasks: Vec<_> = callers
                            .map(|caller| {
                                tokio::task::spawn_local(calls(shared.attach(&Owner::unlimited()), caller))
                            })
                            .collect();
                        for task in tasks {
                            task.await.unwrap();
                        }
                    });
                })
            })
            .collect();
        drop(shared);

        // Answers the later ones of what it has first, now and then.
        let mut server = servers.recv().await.unwrap();
        let mut held = Vec::new();
        while let Some(what) = server.from_client.recv().await {
            let ToServer::Message(outbound) = what else { panic!("{what:?}") };
            held.push(outbound.message);
            if held.len() % 7 == 0 || server.from_client.is_empty() {
                while let Some(request) = held.pop() {
                    let mark = request.part(message::Part::Name).unwrap();
                    answer(&server, request.id().unwrap(), mark).await;
                }
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Keeps three calls in flight.
async fn calls(mut link: Link<CallSender>, caller: u64) {
    let call = |id: u64| {
        let text = format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"{caller}/{id}"}}}}"#);
        ToServer::Message(message(text).into())
    };
    let mut got = std::collections::HashSet::new();
    for id in 0..CALLS + 3 {
        if id < CALLS {
            link.to_server.send(call(id)).await.unwrap();
        }
        if id >= 3 {
            let (id, result) = answered(&mut link).await;
            assert_eq!(result, format!(r#""{caller}/{id}""#));
            got.insert(id);
        }
    }
    assert_eq!(got.len(), CALLS as usize);
}
