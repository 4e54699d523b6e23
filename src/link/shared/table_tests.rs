use proptest::prelude::*;

use super::*;
use crate::mcp::message::Kind as Of;

fn parse(text: impl Into<String>) -> Message {
    Message::parse(text.into().into()).unwrap()
}

/// What the server gets; panics if it gets nothing.
fn sent(table: &mut Table, caller: u64, text: &str) -> Message {
    match table.outward(caller, &parse(text)) {
        Outward::Server(message) => message,
        other => panic!("{other:?}"),
    }
}

/// Who gets a server's message, and what; `None` if nobody does.
fn received(table: &mut Table, text: &str) -> Option<(u64, Message, Option<Id>)> {
    match table.inward(&parse(text), None) {
        Inward::Caller(caller, FromServer::Message { message, about }) => Some((caller, message, about)),
        Inward::Nowhere => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_callers_with_one_id_each_get_their_own_answer_under_it() {
    let mut table = Table::default();
    let request = r#"{ "jsonrpc":"2.0", "id":"\u0061", "method":"ping" }"#;
    assert_eq!(sent(&mut table, 1, request).text(), r#"{ "jsonrpc":"2.0", "id":1, "method":"ping" }"#);
    assert_eq!(sent(&mut table, 2, request).id(), Some(&Id::number(2)));

    let (caller, answer, about) = received(&mut table, r#"{"result":{"n": 2.0},"id":2}"#).unwrap();
    assert_eq!((caller, about), (2, Some(Id::String("a".into()))));
    assert_eq!(answer.text(), r#"{"result":{"n": 2.0},"id":"\u0061"}"#, "as it was written");
    let (caller, ..) = received(&mut table, r#"{"error":{"code":-32601,"message":""},"id":1}"#).unwrap();
    assert_eq!(caller, 1);
    assert!(table.is_empty() && table.callers.is_empty());
    for late in [1, 2, 3] {
        assert!(received(&mut table, &format!(r#"{{"id":{late},"result":{{}}}}"#)).is_none(), "{late}");
    }
}

#[test]
fn progress_reaches_the_caller_that_asked_for_it_under_its_own_token() {
    let mut table = Table::default();
    let request = r#"{"id":7,"method":"tools/call","params":{"_meta":{"progressToken":"mine"}}}"#;
    for caller in [1, 2] {
        let sent = sent(&mut table, caller, request);
        assert_eq!(
            (sent.id(), sent.progress_token()),
            (Some(&Id::number(caller)), Some(&Id::number(caller)))
        );
    }
    sent(&mut table, 3, r#"{"id":7,"method":"tools/call"}"#);

    let progress = |token: &str| {
        format!(
            r#"{{"method":"notifications/progress","params":{{"progressToken":{token},"progress":0.5}}}}"#
        )
    };
    let (caller, message, about) = received(&mut table, &progress("2")).unwrap();
    assert_eq!((caller, about), (2, Some(Id::number(7))));
    assert_eq!(message.text(), &progress(r#""mine""#));
    assert_eq!(received(&mut table, &progress(r#""1""#)).unwrap().0, 1, "a number as a string");
    assert!(received(&mut table, &progress("3")).is_none(), "it asked for none");
    assert!(received(&mut table, &progress(r#""mine""#)).is_none(), "no token of ours");
    received(&mut table, r#"{"id":2,"result":{}}"#).unwrap();
    assert!(received(&mut table, &progress("2")).is_none(), "it is over");
}

#[test]
fn a_subscription_keeps_the_id_that_its_caller_gave_it_to_the_end() {
    let key = "io.modelcontextprotocol/subscriptionId";
    let mut table = Table::default();
    for caller in [1, 2] {
        sent(
            &mut table,
            caller,
            r#"{"id":"s","method":"subscriptions/listen","params":{"notifications":{}}}"#,
        );
    }
    let changed = |id: &str| {
        format!(r#"{{"method":"notifications/tools/list_changed","params":{{"_meta":{{"{key}":{id}}}}}}}"#)
    };
    let (caller, message, about) = received(&mut table, &changed("2")).unwrap();
    assert_eq!((caller, about), (2, Some(Id::String("s".into()))));
    assert_eq!(message.text(), &changed(r#""s""#));

    let end = |id: &str| format!(r#"{{"id":{id},"result":{{"x":1,"_meta":{{"y":2,"{key}":{id} }}}}}}"#);
    let (caller, message, _) = received(&mut table, &end("2")).unwrap();
    assert_eq!((caller, message.text()), (2, &end(r#""s""#).into()));
    assert!(received(&mut table, &changed("2")).is_none());

    // Or the server ends it as it can on a pipe.
    let cancelled =
        |id: &str| format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    let (caller, message, _) = received(&mut table, &cancelled("1")).unwrap();
    assert_eq!((caller, message.text()), (1, &cancelled(r#""s""#).into()));
    assert!(table.is_empty());
}

#[test]
fn what_does_not_say_whom_it_is_for_is_for_nobody() {
    let mut table = Table::default();
    sent(&mut table, 1, r#"{"id":1,"method":"tools/call"}"#);
    let log = r#"{"method":"notifications/message","params":{"level":"info","data":"of the last caller"}}"#;
    for text in [log, r#"{"method":"notifications/tools/list_changed"}"#, r#"{"id":null,"result":{}}"#] {
        assert!(received(&mut table, text).is_none(), "{text}");
    }
    // Unless the transport says it.
    let Inward::Caller(1, FromServer::Message { about: Some(about), .. }) =
        table.inward(&parse(log), Some(&Id::number(1)))
    else {
        panic!("not delivered");
    };
    assert_eq!(about, Id::number(1));
}

#[test]
fn a_server_that_asks_something_is_told_that_nobody_answers() {
    let mut table = Table::default();
    let Inward::Server(reply) =
        table.inward(&parse(r#"{"id":9,"method":"sampling/createMessage","params":{}}"#), None)
    else {
        panic!("no reply");
    };
    assert_eq!((reply.id(), reply.error_code()), (Some(&Id::number(9)), Some(-32601)));
}

#[test]
fn a_caller_cancels_its_own_requests_and_nobody_elses() {
    let mut table = Table::default();
    sent(&mut table, 1, r#"{"id":"r","method":"tools/call"}"#);
    let cancel = r#"{"method":"notifications/cancelled","params":{"requestId":"r","reason":"x"}}"#;
    assert!(matches!(table.outward(2, &parse(cancel)), Outward::Nowhere));
    assert_eq!(sent(&mut table, 1, cancel).request_id(), Some(&Id::number(1)));
    assert!(table.is_empty());
    assert!(matches!(table.outward(1, &parse(cancel)), Outward::Nowhere), "once");

    sent(&mut table, 1, r#"{"id":"r","method":"tools/call"}"#);
    assert_eq!(table.abandon(2, &Id::String("r".into())), None);
    assert_eq!(table.abandon(1, &Id::String("r".into())), Some(Id::number(2)));
    assert_eq!(table.abandon(1, &Id::String("r".into())), None);
    assert!(table.is_empty() && table.callers.is_empty());
}

#[test]
fn a_caller_that_leaves_takes_its_requests_along() {
    let mut table = Table::default();
    for (caller, id) in [(1, 1), (2, 1), (1, 2)] {
        sent(&mut table, caller, &format!(r#"{{"id":{id},"method":"tools/call"}}"#));
    }
    assert_eq!(table.leave(1), [Id::number(1), Id::number(3)]);
    assert_eq!(table.leave(1), []);
    assert_eq!(table.take().collect::<Vec<_>>(), [(2, Id::number(1))]);
    assert!(table.is_empty() && table.callers.is_empty());
}

#[test]
fn what_a_shared_server_could_not_understand_does_not_reach_it() {
    let mut table = Table::default();
    for text in [
        r#"{"id":1,"result":{}}"#,
        r#"{"method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
    ] {
        assert!(matches!(table.outward(1, &parse(text)), Outward::Nowhere), "{text}");
    }
    sent(&mut table, 1, r#"{"method":"notifications/of/some/extension"}"#);
    let refused = refusal(&parse(r#"{"id":"i","method":"initialize"}"#)).unwrap();
    assert_eq!((refused.kind(), refused.error_code()), (Of::Response, Some(-32601)));
    assert!(refusal(&parse(r#"{"id":"i","method":"server/discover"}"#)).is_none());
}

#[test]
fn a_caller_has_only_so_many_requests_in_flight_and_others_do_not_feel_it() {
    let mut table = Table::default();
    let request = r#"{"id":1,"method":"ping"}"#;
    for _ in 0..PER_CALLER {
        sent(&mut table, 1, request);
    }
    let refused = table.outward(1, &parse(request));
    let Outward::Caller(FromServer::Failed { error, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(error.kind, Kind::Unavailable);
    sent(&mut table, 2, request);
    received(&mut table, r#"{"id":1,"result":{}}"#).unwrap();
    sent(&mut table, 1, request);
}

/// Callers in [`every_answer_reaches_its_caller`].
const CALLERS: u64 = 50;

#[derive(Debug, Clone)]
enum Step {
    Call(u64),
    /// The server answers one of what it has, whichever.
    Answer(prop::sample::Index),
    Progress(prop::sample::Index),
    Leave(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        40 => (0..CALLERS).prop_map(Step::Call),
        39 => any::<prop::sample::Index>().prop_map(Step::Answer),
        20 => any::<prop::sample::Index>().prop_map(Step::Progress),
        1 => (0..CALLERS).prop_map(Step::Leave),
    ];
    // Two in five steps are a call.
    prop::collection::vec(step, 25_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Fifty callers count their requests from 0, each for itself: ten thousand calls with the same ids.
    #[test]
    fn every_answer_reaches_its_caller(steps in steps()) {
        let mut table = Table::default();
        let mut next_id = [0_u64; CALLERS as usize];
        // What the server has: number, and a mark that only the right caller knows.
        let mut at_server: Vec<(Id, u64, u64)> = Vec::new();
        let mut calls = 0;
        for step in steps {
            match step {
                Step::Call(caller) => {
                    let id = next_id[caller as usize];
                    next_id[caller as usize] += 1;
                    let request = parse(format!(
                        r#"{{"id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{id}}},"name":"{caller}:{id}"}}}}"#
                    ));
                    match table.outward(caller, &request) {
                        Outward::Server(sent) => {
                            let mark = format!("{caller}:{id}");
                            prop_assert_eq!(sent.name(), Some(&*mark));
                            prop_assert_eq!(sent.id(), sent.progress_token());
                            prop_assert!(at_server.iter().all(|(known, ..)| Some(known) != sent.id()));
                            at_server.push((sent.id().unwrap().clone(), caller, id));
                            calls += 1;
                        }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::Answer(which) if !at_server.is_empty() => {
                    let (number, caller, id) = at_server.swap_remove(which.index(at_server.len()));
                    let got = received(&mut table, &format!(r#"{{"id":{number},"result":"{caller}:{id}"}}"#));
                    let (to, message, _) = got.unwrap();
                    prop_assert_eq!((to, message.id()), (caller, Some(&Id::number(id))));
                }
                Step::Progress(which) if !at_server.is_empty() => {
                    let (number, caller, id) = &at_server[which.index(at_server.len())];
                    let got = received(
                        &mut table,
                        &format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{number}}}}}"#),
                    );
                    let (to, message, about) = got.unwrap();
                    prop_assert_eq!((to, message.progress_token()), (*caller, Some(&Id::number(*id))));
                    prop_assert_eq!(about, Some(Id::number(*id)));
                }
                Step::Leave(caller) => {
                    let mut left = table.leave(caller);
                    at_server.retain(|(number, of, _)| {
                        let stays = *of != caller;
                        assert!(stays || left.contains(number), "not abandoned");
                        left.retain(|known| stays || known != number);
                        stays
                    });
                    prop_assert!(left.is_empty(), "abandoned, but answered before");
                }
                Step::Answer(_) | Step::Progress(_) => {}
            }
        }
        prop_assert!(calls > 9_000, "{calls}");
        prop_assert_eq!(table.flights.len(), at_server.len());
        prop_assert_eq!(table.callers.values().map(Vec::len).sum::<usize>(), at_server.len());
    }
}
