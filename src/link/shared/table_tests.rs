use proptest::prelude::*;

use super::*;
use crate::{
    ledger::{Capacity, Ledger, OwnerName},
    mcp::message::MessageKind as Of,
};

fn parse(text: impl Into<String>) -> Message {
    Message::parse(text.into().into()).unwrap()
}

/// As a server wrote it.
fn written(text: &str) -> Message {
    Message::from_server(text.to_owned().into()).unwrap()
}

/// What the server gets; panics if it gets nothing.
fn sent(table: &mut Table, caller: u64, text: &str) -> Message {
    match table.outward(caller, &Owner::unlimited(), &parse(text)) {
        Outward::Server(message) => message,
        other => panic!("{other:?}"),
    }
}

/// Who gets a server's message, and what; `None` if nobody does.
fn received(table: &mut Table, text: &str) -> Option<(u64, Message, Option<Id>)> {
    match table.inward(&written(text), None) {
        Inward::Caller(caller, FromServer::Message { message, about }) => Some((caller, message, about)),
        Inward::Nowhere => None,
        other => panic!("{other:?}"),
    }
}

/// The number that the server knows a request of this caller's by.
fn number_of(table: &mut Table, caller: u64, text: &str) -> Id {
    sent(table, caller, text).id().unwrap().clone()
}

#[test]
fn two_callers_with_one_id_each_get_their_own_answer_under_it() {
    let mut table = Table::new(REQUESTS);
    let request = r#"{ "jsonrpc":"2.0", "id":"\u0061", "method":"ping" }"#;
    let first = sent(&mut table, 1, request);
    let one = first.id().unwrap().clone();
    assert_eq!(first.text(), &request.replace(r#""\u0061""#, &one.to_string()));
    let two = number_of(&mut table, 2, request);

    let (caller, answer, about) =
        received(&mut table, &format!(r#"{{"result":{{"n": 2.0}},"id":{two}}}"#)).unwrap();
    assert_eq!((caller, about), (2, Some(Id::String("a".into()))));
    assert_eq!(answer.text(), r#"{"result":{"n": 2.0},"id":"\u0061"}"#, "as it was written");
    let error = format!(r#"{{"error":{{"code":-32601,"message":""}},"id":"{one}"}}"#);
    assert_eq!(received(&mut table, &error).unwrap().0, 1, "a number as a string");
    assert!(table.is_empty() && table.callers.is_empty());
    for late in [&one, &two, &Id::number(1), &Id::number(2)] {
        assert!(received(&mut table, &format!(r#"{{"id":{late},"result":{{}}}}"#)).is_none(), "{late}");
    }
}

#[test]
fn numbers_cannot_be_told_from_those_before_and_survive_who_reads_them_as_doubles() {
    let mut table = Table::new(REQUESTS);
    let request = r#"{"id":1,"method":"ping","params":{"_meta":{"progressToken":1}}}"#;
    let mut seen = Vec::new();
    for caller in 0..1_000 {
        let message = sent(&mut table, caller, request);
        assert_eq!(message.id(), message.progress_token());
        let Some(Id::Number(number)) = message.id() else { panic!("{message:?}") };
        let number: u64 = number.parse().unwrap();
        assert!(number < 1 << 53 && !seen.contains(&number));
        seen.push(number);
    }
    let near = seen.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 1 << 30).count();
    assert!(near < 5, "{near} of 1,000 are near the one before");
    // As Lua and JavaScript may write them.
    let as_double = format!("{:e}", seen[0] as f64).parse::<f64>().unwrap();
    assert!(received(&mut table, &format!(r#"{{"id":{as_double:.0},"result":{{}}}}"#)).is_some());
}

#[test]
fn progress_reaches_the_caller_that_asked_for_it_under_its_own_token() {
    let mut table = Table::new(REQUESTS);
    let request = r#"{"id":7,"method":"tools/call","params":{"_meta":{"progressToken":"mine"}}}"#;
    let [one, two] = [1, 2].map(|caller| {
        let sent = sent(&mut table, caller, request);
        assert_eq!(sent.id(), sent.progress_token());
        sent.id().unwrap().clone()
    });
    let three = number_of(&mut table, 3, r#"{"id":7,"method":"tools/call"}"#);

    let progress = |token: &dyn std::fmt::Display| {
        format!(
            r#"{{"method":"notifications/progress","params":{{"progressToken":{token},"progress":0.5}}}}"#
        )
    };
    let (caller, message, about) = received(&mut table, &progress(&two)).unwrap();
    assert_eq!((caller, about), (2, Some(Id::number(7))));
    assert_eq!(message.text(), &progress(&r#""mine""#));
    let quoted = format!("\"{one}\"");
    assert_eq!(received(&mut table, &progress(&quoted)).unwrap().0, 1, "a number as a string");
    assert!(received(&mut table, &progress(&three)).is_none(), "it asked for none");
    for no_token in ["1", "2", r#""mine""#, "null"] {
        assert!(received(&mut table, &progress(&no_token)).is_none(), "no token of ours: {no_token}");
    }
    received(&mut table, &format!(r#"{{"id":{two},"result":{{}}}}"#)).unwrap();
    assert!(received(&mut table, &progress(&two)).is_none(), "it is over");
}

#[test]
fn a_subscription_keeps_the_id_that_its_caller_gave_it_to_the_end() {
    let key = "io.modelcontextprotocol/subscriptionId";
    let mut table = Table::new(REQUESTS);
    let listen = r#"{"id":"s","method":"subscriptions/listen","params":{"notifications":{}}}"#;
    let [one, two] = [1, 2].map(|caller| number_of(&mut table, caller, listen));
    let changed = |id: &dyn std::fmt::Display| {
        format!(r#"{{"method":"notifications/tools/list_changed","params":{{"_meta":{{"{key}":{id}}}}}}}"#)
    };
    let (caller, message, about) = received(&mut table, &changed(&two)).unwrap();
    assert_eq!((caller, about), (2, Some(Id::String("s".into()))));
    assert_eq!(message.text(), &changed(&r#""s""#));

    let end = |id: &dyn std::fmt::Display| {
        format!(r#"{{"id":{id},"result":{{"x":1,"_meta":{{"y":2,"{key}":{id} }}}}}}"#)
    };
    let (caller, message, _) = received(&mut table, &end(&two)).unwrap();
    assert_eq!((caller, message.text()), (2, &end(&r#""s""#).into()));
    assert!(received(&mut table, &changed(&two)).is_none());

    // Or the server ends it as it can on a pipe.
    let cancelled = |id: &dyn std::fmt::Display| {
        format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
    };
    let (caller, message, _) = received(&mut table, &cancelled(&one)).unwrap();
    assert_eq!((caller, message.text()), (1, &cancelled(&r#""s""#).into()));
    assert!(table.is_empty());
}

#[test]
fn a_subscription_id_that_a_caller_makes_up_leads_nobody_astray() {
    let key = "io.modelcontextprotocol/subscriptionId";
    let mut table = Table::new(REQUESTS);
    let other = number_of(&mut table, 1, r#"{"id":1,"method":"subscriptions/listen"}"#);
    let forged = format!(r#"{{"id":1,"method":"tools/call","params":{{"_meta":{{"{key}":{other}}}}}}}"#);
    let sent = sent(&mut table, 2, &forged);
    assert_eq!(sent.subscription_id(), sent.id());
    // A server may send back what came.
    let echo =
        format!(r#"{{"method":"notifications/x","params":{{"_meta":{{"{key}":{}}}}}}}"#, sent.id().unwrap());
    assert_eq!(received(&mut table, &echo).unwrap().0, 2);
    let result = format!(r#"{{"id":{},"result":{{"_meta":{{"{key}":{other}}}}}}}"#, sent.id().unwrap());
    let (caller, message, _) = received(&mut table, &result).unwrap();
    assert_eq!((caller, message.subscription_id()), (2, Some(&Id::number(1))), "nor another's number");
}

#[test]
fn what_does_not_say_whom_it_is_for_is_for_nobody() {
    let mut table = Table::new(REQUESTS);
    let number = number_of(&mut table, 1, r#"{"id":1,"method":"tools/call"}"#);
    let log = r#"{"method":"notifications/message","params":{"level":"info","data":"of the last caller"}}"#;
    for text in [log, r#"{"method":"notifications/tools/list_changed"}"#, r#"{"id":null,"result":{}}"#] {
        assert!(received(&mut table, text).is_none(), "{text}");
    }
    // Unless the transport says it.
    let Inward::Caller(1, FromServer::Message { about: Some(about), .. }) =
        table.inward(&written(log), Some(&number))
    else {
        panic!("not delivered");
    };
    assert_eq!(about, Id::number(1));
}

#[test]
fn what_a_server_writes_in_two_ways_is_for_nobody_and_who_waits_for_it_is_told() {
    let mut table = Table::new(REQUESTS);
    let call = r#"{"id":"r","method":"tools/call","params":{"_meta":{"progressToken":1}}}"#;
    let [one, two] = [1, 2].map(|caller| number_of(&mut table, caller, call));
    for text in [
        format!(
            r#"{{"method":"notifications/progress","params":{{"progressToken":{one},"ProgressToken":{two}}}}}"#
        ),
        format!(
            r#"{{"method":"notifications/progress","params":{{"progressToken":{one},"progressToken":{two}}}}}"#
        ),
        format!(
            r#"{{"method":"notifications/cancelled","params":{{"requestId":{one},"request_id":{two}}}}}"#
        ),
    ] {
        assert!(received(&mut table, &text).is_none(), "{text}");
    }
    let answer = written(&format!(r#"{{"id":{one},"ID":{two},"result":{{}}}}"#));
    let Inward::Caller(1, FromServer::Failed { id, error }) = table.inward(&answer, None) else {
        panic!("not failed");
    };
    assert_eq!((id, error.kind), (Id::String("r".into()), ErrorKind::UpstreamUnreachable));
    let right = format!(r#"{{"id":{two},"result":{{"Id":{one}}}}}"#);
    assert_eq!(received(&mut table, &right).unwrap().0, 2, "what a result holds is nobody's affair");
}

#[test]
fn a_server_that_asks_something_is_told_that_nobody_answers() {
    let mut table = Table::new(REQUESTS);
    let Inward::Server(reply) =
        table.inward(&written(r#"{"id":9,"method":"sampling/createMessage","params":{}}"#), None)
    else {
        panic!("no reply");
    };
    assert_eq!((reply.id(), reply.error_code()), (Some(&Id::number(9)), Some(-32601)));
    let Inward::Server(reply) = table.inward(&written(r#"{"id":9,"method":"ping"}"#), None) else { panic!() };
    assert_eq!(reply.part(Part::Result), Some("{}"), "somebody is there");
}

#[test]
fn a_caller_cancels_its_own_requests_and_nobody_elses() {
    let mut table = Table::new(REQUESTS);
    let call = r#"{"id":"r","method":"tools/call"}"#;
    let number = number_of(&mut table, 1, call);
    let cancel = r#"{"method":"notifications/cancelled","params":{"requestId":"r","reason":"x"}}"#;
    assert!(matches!(table.outward(2, &Owner::unlimited(), &parse(cancel)), Outward::Nowhere));
    let by_number = format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#);
    assert!(matches!(table.outward(2, &Owner::unlimited(), &parse(by_number)), Outward::Nowhere));
    let abandoned = table.outward(1, &Owner::unlimited(), &parse(cancel));
    assert!(matches!(abandoned, Outward::Abandon(id) if id == number));
    assert!(table.is_empty());
    assert!(matches!(table.outward(1, &Owner::unlimited(), &parse(cancel)), Outward::Nowhere), "once");

    let number = number_of(&mut table, 1, call);
    assert_eq!(table.abandon(2, &Id::String("r".into())), None);
    assert_eq!(table.abandon(1, &Id::String("r".into())), Some(number));
    assert_eq!(table.abandon(1, &Id::String("r".into())), None);
    assert!(table.is_empty() && table.callers.is_empty());
}

#[test]
fn a_caller_that_leaves_takes_its_requests_along() {
    let mut table = Table::new(REQUESTS);
    let [one, _, three] = [(1, 1), (2, 1), (1, 2)].map(|(caller, id)| {
        number_of(&mut table, caller, &format!(r#"{{"id":{id},"method":"tools/call"}}"#))
    });
    assert_eq!(table.leave(1), [one, three]);
    assert_eq!(table.leave(1), []);
    assert_eq!(table.take().collect::<Vec<_>>(), [(2, Id::number(1))]);
    assert!(table.is_empty() && table.callers.is_empty());
}

#[test]
fn what_belongs_to_a_session_or_is_not_known_does_not_reach_a_shared_server() {
    let mut table = Table::new(REQUESTS);
    for text in [
        r#"{"id":1,"result":{}}"#,
        r#"{"method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
        r#"{"method":"notifications/initialized"}"#,
        r#"{"method":"notifications/roots/list_changed"}"#,
        r#"{"method":"notifications/tasks/status","params":{"taskId":"t"}}"#,
        r#"{"method":"notifications/of/some/extension"}"#,
        r#"{"method":"tools/call","params":{"name":"t"}}"#,
    ] {
        assert!(matches!(table.outward(1, &Owner::unlimited(), &parse(text)), Outward::Nowhere), "{text}");
    }
    for method in ["initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
        let refused = refusal(&parse(format!(r#"{{"id":"i","method":"{method}"}}"#))).unwrap();
        assert_eq!((refused.kind(), refused.error_code()), (Of::Response, Some(-32601)), "{method}");
    }
    for method in ["server/discover", "subscriptions/listen", "tools/call", "vendor/method"] {
        assert!(refusal(&parse(format!(r#"{{"id":"i","method":"{method}"}}"#))).is_none(), "{method}");
    }
}

#[test]
fn an_owner_leaves_others_their_part_of_requests_and_of_subscriptions_however_many_callers_it_is() {
    let call = r#"{"id":1,"method":"ping"}"#;
    let listen = r#"{"id":1,"method":"subscriptions/listen"}"#;
    for (text, other, capacity) in [(call, listen, REQUESTS), (listen, call, SUBSCRIPTIONS)] {
        let ledger = Ledger::new(|_| Capacity { total: 1, per_owner: 0 });
        let [greedy, modest] = ["greedy", "modest"].map(|name| {
            let owner = ledger.owner(OwnerName::Token(name.into()));
            owner.note_active();
            owner
        });
        let mut table = Table::new(REQUESTS);
        let kind = |outward| match outward {
            Outward::Server(_) => None,
            Outward::Caller(FromServer::Failed { error, .. }) => Some(error.kind),
            other => panic!("{other:?}"),
        };
        let message = parse(text);
        for caller in 0..capacity as u64 * 3 / 4 {
            assert_eq!(kind(table.outward(caller, &greedy, &message)), None, "{caller}");
        }
        assert_eq!(kind(table.outward(10_000, &greedy, &message)), Some(ErrorKind::CallerLimit));
        // Of the other kind there is more, unless that is part of it.
        let has_other = text == listen;
        assert_eq!(kind(table.outward(10_001, &greedy, &parse(other))).is_none(), has_other);
        for caller in 20_000..20_000 + capacity as u64 / 4 - u64::from(has_other) {
            assert_eq!(kind(table.outward(caller, &modest, &message)), None, "{caller}");
        }
        // One leaves, and may come again.
        assert_eq!(table.leave(0).len(), 1);
        assert_eq!(
            kind(table.outward(0, &greedy, &message)),
            Some(ErrorKind::CallerLimit),
            "it has more than its part"
        );
        assert!(table.take().count() >= capacity - 1);
        assert_eq!(kind(table.outward(0, &greedy, &message)), None);
        table.leave(0);
        assert!(table.loads.is_empty() && table.load.requests == 0 && table.load.subscriptions == 0);
    }
}

#[test]
fn a_task_is_asked_for_by_the_owner_of_the_call_that_made_it_and_by_nobody_else() {
    let ledger = Ledger::new(|_| Capacity { total: 1 << 30, per_owner: 0 });
    let [dev, ops] = ["dev", "ops"].map(|name| ledger.owner(OwnerName::Token(name.into())));
    let mut table = Table::new(REQUESTS);
    let mut asked = |owner: &Arc<Owner>, request: &str, result: &str| {
        let request = parse(request);
        if let Some(refused) = table.refusal(owner, &request) {
            return refused.error_code();
        }
        let Outward::Server(sent) = table.outward(1, owner, &request) else { panic!("not sent") };
        let answer = written(&format!(r#"{{"id":{},"result":{result}}}"#, sent.id().unwrap()));
        assert!(matches!(table.inward(&answer, None), Inward::Caller(1, FromServer::Message { .. })));
        None
    };
    let call = r#"{"id":1,"method":"tools/call"}"#;
    let get = |id: &str| format!(r#"{{"id":1,"method":"tasks/get","params":{{"taskId":"{id}"}}}}"#);
    assert_eq!(asked(&dev, call, r#"{"resultType":"task","taskId":"t1"}"#), None);
    assert_eq!(asked(&dev, call, r#"{"task":{"taskId":"t2","status":"working"}}"#), None);
    assert_eq!(asked(&dev, call, r#"{"content":[{"taskId":"t3"}],"x":{"taskId":"t3"}}"#), None);
    for (task, of_dev, of_ops) in
        [("t1", None, Some(-32602)), ("t2", None, Some(-32602)), ("t3", Some(-32602), Some(-32602))]
    {
        assert_eq!(asked(&ops, &get(task), "{}"), of_ops, "{task}");
        // What is said of a task makes none.
        assert_eq!(asked(&dev, &get(task), r#"{"taskId":"t3"}"#), of_dev, "{task}");
    }
    table.closed();
    assert!(table.refusal(&dev, &parse(get("t1"))).is_some(), "it went with its process");
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
        let mut table = Table::new(REQUESTS);
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
                    match table.outward(caller, &Owner::unlimited(), &request) {
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
