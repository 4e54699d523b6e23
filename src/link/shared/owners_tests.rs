//! What one owner sends or leaves unread is not what others wait for.

use super::*;
use crate::ledger::{Capacity, Ledger, OwnerName};

/// Two owners of one ledger, who have both been active lately.
fn two_owners() -> [Arc<Owner>; 2] {
    let ledger = Ledger::new(|_| Capacity { total: 16 << 20, per_owner: 0 });
    ["greedy", "modest"].map(|name| {
        let owner = ledger.owner(OwnerName::Token(name.into()));
        owner.note_active();
        owner
    })
}

#[test]
fn owners_take_turns_and_none_has_more_in_flight_than_others_can_wait_for() {
    on_worker(async {
        let (shared, mut servers) = played();
        let [greedy, modest] = two_owners();
        let (mut many, mut one) = (shared.attach(&greedy), shared.attach(&modest));
        for id in 0..500 {
            many.to_server.send(call(id)).await.unwrap();
        }
        let mut server = servers.recv().await.unwrap();
        settle().await;
        let mut numbers = Vec::new();
        for _ in 0..64 {
            numbers.push(request(&mut server).await);
        }
        settle().await;
        assert!(server.from_client.is_empty(), "the others of the same owner wait");
        one.to_server.send(call(7)).await.unwrap();
        let number = request(&mut server).await;
        answer(&server, &number, r#""at once""#).await;
        assert_eq!(answered(&mut one).await, (Id::number(7), r#""at once""#.into()));
        // Each that is through makes room for one.
        let mut through = 0;
        while let Some(number) = numbers.pop() {
            answer(&server, &number, "{}").await;
            answered(&mut many).await;
            through += 1;
            if through + numbers.len() < 500 {
                numbers.push(request(&mut server).await);
            }
        }
        assert_eq!(through, 500);
    });
}

#[test]
fn what_waits_of_one_owner_leaves_room_for_others() {
    on_worker(async {
        let (shared, mut servers) = played();
        let [greedy, modest] = two_owners();
        let mut many: Vec<_> = (0..1000).map(|_| shared.attach(&greedy)).collect();
        for link in &many {
            link.to_server.send(call(1)).await.unwrap();
        }
        let mut server = servers.recv().await.unwrap();
        settle().await;
        let mut refused = 0;
        for link in &mut many {
            if let Ok(FromServer::Failed { error, .. }) = link.from_server.try_recv() {
                assert_eq!(error.kind, ErrorKind::CallerLimit);
                refused += 1;
            }
        }
        assert!((100..=1000 - 768).contains(&refused), "{refused}");
        let mut one = shared.attach(&modest);
        one.to_server.send(call(7)).await.unwrap();
        let mut before = 0;
        loop {
            let number = request(&mut server).await;
            answer(&server, &number, "{}").await;
            settle().await;
            if one.from_server.try_recv().is_ok() {
                break;
            }
            before += 1;
        }
        assert!(before <= 64, "{before} came before");
    });
}

#[test]
fn an_answer_that_its_caller_has_no_room_for_fails_its_request_alone() {
    on_worker(async {
        let (shared, mut servers) = played();
        let [greedy, modest] = two_owners();
        let (mut many, mut one) = (shared.attach(&greedy), shared.attach(&modest));
        let large = format!(r#""{}""#, "x".repeat(3 << 20));
        many.to_server.send(call(1)).await.unwrap();
        let mut server = servers.recv().await.unwrap();
        let mut kept = Vec::new();
        for id in 1..=4 {
            if id > 1 {
                many.to_server.send(call(id)).await.unwrap();
            }
            let number = request(&mut server).await;
            answer(&server, &number, &large).await;
            match many.from_server.recv().await {
                Some(FromServer::Message { message, .. }) => kept.push(message),
                Some(FromServer::Failed { error, .. }) => {
                    assert_eq!((id, error.kind), (4, ErrorKind::CallerLimit));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kept.len(), 3);
        one.to_server.send(call(7)).await.unwrap();
        let number = request(&mut server).await;
        answer(&server, &number, &large).await;
        assert_eq!(answered(&mut one).await.0, Id::number(7));
        // A message on the way to an answer has no room either: nobody waits for the answer then.
        many.to_server.send(call(5)).await.unwrap();
        let number = request(&mut server).await;
        let progress = format!(
            r#"{{"method":"notifications/other","params":{{"x":{large},"_meta":{{"io.modelcontextprotocol/subscriptionId":{number}}}}}}}"#
        );
        let progress = FromServer::Message { message: message(progress), about: None };
        server.to_client.send(progress).await.unwrap();
        assert_eq!(failure(&mut many).await, (Id::number(5), ErrorKind::CallerLimit));
        assert_eq!(abandoned(&mut server).await, number);
    });
}
