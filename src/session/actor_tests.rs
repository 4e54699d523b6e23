use std::cell::Cell;
use std::{rc::Rc, sync::Arc};

use super::*;
use crate::{
    identity::{Admission, AdmittedParty, Identity},
    ledger::{Capacity, Ledger, Owner, OwnerName, Resource},
    link::ServerEnd,
    session::{Registry, SessionId},
    watchdog::{TICK, Watchdog},
};

/// A session whose server is the test.
struct World {
    server: ServerEnd,
    session: SessionHandle,
    registry: Registry,
    dog: Rc<Watchdog<Subject>>,
    owner: Arc<Owner>,
    stream: Option<mpsc::Receiver<Bytes>>,
}

impl World {
    fn new(is_sse: bool) -> Self {
        let (link, server) = Link::pair();
        let (registry, dog) = (Registry::default(), Rc::new(Watchdog::default()));
        let (sender, events) = mpsc::channel(EVENTS);
        let grant = Admission::new(AdmittedParty::Principal(Arc::new(Identity::NOBODY)), "db".into(), 0);
        let settings = SessionSettings {
            listens: Arc::default(),
            style: if is_sse { Style::Sse(sender) } else { Style::Streamable },
            idle: Duration::from_secs(60),
            watched: dog.watch(Subject::Session(grant, Cell::new(true))),
            members: Arc::default(),
            begun_by: Arc::new(Identity::NOBODY),
            filter: Filter::open(),
            changes: watch::channel(0).1,
        };
        let id = SessionId::random().unwrap();
        let owner =
            Ledger::new(|_| Capacity { total: 10_000, per_owner: 0 }).owner(OwnerName::Token("dev".into()));
        let share = owner.take(Resource::Sessions).unwrap();
        let registered = registry.add(id, Arc::from("db"), share);
        let session = start(link, settings, registered);
        Self { server, session, registry, dog, owner, stream: is_sse.then_some(events) }
    }

    /// Posts without waiting for the answer.
    fn post(&self, text: &'static str) -> tokio::task::JoinHandle<Option<SessionReply>> {
        let session = self.session.clone();
        tokio::task::spawn_local(async move { session.post(message(text).into(), Wants::default()).await })
    }

    async fn at_server(&mut self) -> String {
        match self.server.from_client.recv().await {
            Some(ToServer::Message(outbound)) => text(outbound.message.text()),
            Some(ToServer::Abandon(id)) => format!("abandon {id}"),
            None => "end".into(),
        }
    }

    async fn says(&self, text: &'static str) {
        let message = FromServer::Message { message: message(text), about: None };
        self.server.to_client.send(message).await.unwrap();
    }

    async fn is_over(&self) {
        while !self.registry.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

fn message(text: &'static str) -> Message {
    Message::parse(text.into()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a story on one thread, as a worker does.
fn story(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), story).await.unwrap() });
}

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"p"}}}"#;
const OTHER: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{}}"#;
const DONE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#;
const SAMPLE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#;
const LOG: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;

#[test]
fn an_answer_without_anything_before_it_is_an_answer() {
    story(async {
        let mut world = World::new(false);
        let reply = world.post(CALL);
        assert_eq!(world.at_server().await, CALL);
        world.says(DONE).await;
        let Some(SessionReply::Answer(answer)) = reply.await.unwrap() else { panic!("no answer") };
        assert_eq!(text(answer.text()), DONE);
    });
}

#[test]
fn what_belongs_to_a_request_comes_before_its_answer_and_what_belongs_to_none_where_the_client_listens() {
    story(async {
        let mut world = World::new(false);
        let mut listener = world.session.listen(None).await.unwrap().0;
        let (first, second) = (world.post(CALL), world.post(OTHER));
        let _ = (world.at_server().await, world.at_server().await);
        world.says(PROGRESS).await;
        let Some(SessionReply::Events(mut events)) = first.await.unwrap() else { panic!("no events") };
        world.says(LOG).await;
        assert!(text(&listener.recv().await.unwrap()).contains("notifications/message"));
        world.says(DONE).await;
        assert!(text(&events.recv().await.unwrap()).contains("progress"));
        assert_eq!(text(&events.recv().await.unwrap()), format!("event: message\ndata: {DONE}\n\n"));
        assert_eq!(events.recv().await, None, "the response is the last");
        // Now there is one request, and what the server asks belongs to it.
        world.says(SAMPLE).await;
        assert!(matches!(second.await.unwrap(), Some(SessionReply::Events(_))));
    });
}

#[test]
fn what_comes_before_the_client_listens_is_kept_for_it() {
    story(async {
        let mut world = World::new(false);
        world.says(LOG).await;
        let reply = world.post(CALL);
        world.at_server().await;
        world.says(DONE).await;
        assert!(matches!(reply.await.unwrap(), Some(SessionReply::Answer(_))));
        let mut listener = world.session.listen(None).await.unwrap().0;
        assert!(text(&listener.recv().await.unwrap()).contains("notifications/message"));
    });
}

#[test]
fn an_answer_to_the_server_and_a_notification_are_taken_at_once() {
    story(async {
        let mut world = World::new(false);
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        ] {
            let reply = world.post(text);
            assert!(matches!(reply.await.unwrap(), Some(SessionReply::Accepted)));
            assert_eq!(world.at_server().await, text);
        }
    });
}

#[test]
fn a_second_request_with_the_same_id_is_refused_while_the_first_runs() {
    story(async {
        let mut world = World::new(false);
        let _first = world.post(CALL);
        world.at_server().await;
        let Some(SessionReply::Refused(error)) = world.post(CALL).await.unwrap() else {
            panic!("it was taken")
        };
        assert_eq!(error.kind, ErrorKind::DuplicateId);
    });
}

#[test]
fn a_cancelled_request_leaves_no_client_hanging() {
    story(async {
        let mut world = World::new(false);
        let reply = world.post(CALL);
        world.at_server().await;
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert!(matches!(world.post(cancel).await.unwrap(), Some(SessionReply::Accepted)));
        assert_eq!(world.at_server().await, cancel);
        let Some(SessionReply::Events(mut events)) = reply.await.unwrap() else { panic!("no events") };
        assert_eq!(events.recv().await, None);
    });
}

#[test]
fn everyone_who_waits_hears_that_the_server_is_gone() {
    story(async {
        let mut world = World::new(false);
        let first = world.post(CALL);
        world.at_server().await;
        world.says(PROGRESS).await;
        let Some(SessionReply::Events(mut events)) = first.await.unwrap() else { panic!("no events") };
        let second = world.post(OTHER);
        world.at_server().await;
        world.server.to_client.send(FromServer::Ended { cause: "it was killed".into() }).await.unwrap();
        let Some(SessionReply::Refused(error)) = second.await.unwrap() else { panic!("no error") };
        assert_eq!(error.kind, ErrorKind::UpstreamUnreachable);
        assert!(text(&events.recv().await.unwrap()).contains("progress"));
        assert!(text(&events.recv().await.unwrap()).contains(r#""code":502"#));
        world.is_over().await;
        assert!(world.session.post(message(OTHER).into(), Wants::default()).await.is_none());
    });
}

#[test]
fn a_server_that_reads_nothing_does_not_keep_what_it_says_from_the_client_nor_the_session_from_its_end() {
    story(async {
        let world = World::new(false);
        let mut listener = world.session.listen(None).await.unwrap().0;
        let posts: Vec<_> = (0..40).map(|_| world.post(LOG)).collect();
        world.says(LOG).await;
        assert!(listener.recv().await.is_some());
        world.session.close();
        world.is_over().await;
        posts.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn a_client_of_one_stream_that_reads_nothing_stops_the_server_and_nobody_else() {
    story(async {
        let mut world = World::new(true);
        let (mut said, flood) = (0, message(LOG));
        // The stream, the link and one in between: then the server has to wait.
        while said < 1000 {
            let full =
                world.server.to_client.try_send(FromServer::Message { message: flood.clone(), about: None });
            match full {
                Ok(()) => said += 1,
                Err(_) if said > EVENTS + crate::link::QUEUE => break,
                Err(_) => tokio::task::yield_now().await,
            }
        }
        assert!(said < 3 * EVENTS, "{said} messages were taken");
        assert!(matches!(world.post(LOG).await.unwrap(), Some(SessionReply::Accepted)));
        assert_eq!(world.at_server().await, LOG);
    });
}

#[test]
fn a_stream_that_is_listened_on_and_not_read_holds_up_no_call_and_is_cut() {
    story(async {
        let mut world = World::new(false);
        let mut listener = world.session.listen(None).await.unwrap().0;
        let (call, other) = (world.post(CALL), world.post(OTHER));
        world.at_server().await;
        world.at_server().await;
        // Once the stream is cut, this is where such messages go.
        let other = tokio::task::spawn_local(async move {
            if let Some(SessionReply::Events(mut events)) = other.await.unwrap() {
                while events.recv().await.is_some() {}
            }
        });
        for _ in 0..3000 {
            world.says(LOG).await;
        }
        world.says(DONE).await;
        assert!(matches!(call.await.unwrap(), Some(SessionReply::Answer(_))));
        let mut read = 0;
        while listener.recv().await.is_some() {
            read += 1;
        }
        assert_eq!(read, EVENTS, "what it had been handed");
        // What came last is there when it listens again.
        let mut again = world.session.listen(None).await.unwrap().0;
        assert!(again.recv().await.is_some());
        other.abort();
    });
}

#[test]
fn a_client_that_reads_slowly_misses_nothing() {
    story(async {
        let world = World::new(false);
        let mut listener = world.session.listen(None).await.unwrap().0;
        let flood = async {
            for n in 0..3000 {
                let text = format!(r#"{{"method":"notifications/message","params":{{"n":{n}}}}}"#);
                let message = Message::from_server(text.into()).unwrap();
                world.server.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
            }
        };
        let reads = async {
            for n in 0..3000 {
                assert!(text(&listener.recv().await.unwrap()).contains(&format!(r#"{{"n":{n}}}"#)));
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(flood, reads);
    });
}

#[test]
fn a_ping_is_answered_where_the_client_listens_nowhere_and_passed_on_where_it_does() {
    const PING: &str = r#"{"jsonrpc":"2.0","id":"p1","method":"ping"}"#;
    const PONG: &str = r#"{"jsonrpc":"2.0","id":"p1","result":{}}"#;
    story(async {
        let mut world = World::new(false);
        world.says(PING).await;
        assert_eq!(world.at_server().await, PONG);
        let reply = world.post(CALL);
        world.at_server().await;
        world.says(PING).await;
        assert_eq!(world.at_server().await, PONG, "the call goes on to its answer");
        world.says(PROGRESS).await;
        let Some(SessionReply::Events(mut events)) = reply.await.unwrap() else { panic!("no events") };
        assert!(text(&events.recv().await.unwrap()).contains("progress"));
        world.says(PING).await;
        assert!(text(&events.recv().await.unwrap()).contains(PING));
        let mut listener = world.session.listen(None).await.unwrap().0;
        drop(events);
        world.says(PING).await;
        assert!(text(&listener.recv().await.unwrap()).contains(PING));
    });
}

#[test]
fn who_takes_only_json_gets_its_answer_and_what_came_before_where_it_listens() {
    story(async {
        let mut world = World::new(false);
        let session = world.session.clone();
        let reply = tokio::task::spawn_local(async move {
            let wants = Wants { only_json: true, ..Wants::default() };
            session.post(message(CALL).into(), wants).await
        });
        world.at_server().await;
        for _ in 0..200 {
            world.says(PROGRESS).await;
        }
        world.says(DONE).await;
        let Some(SessionReply::Answer(answer)) = reply.await.unwrap() else { panic!("no answer") };
        assert_eq!(text(answer.text()), DONE);
        let mut listener = world.session.listen(None).await.unwrap().0;
        assert!(text(&listener.recv().await.unwrap()).contains("progress"));
    });
}

#[test]
fn a_session_that_nobody_uses_ends_and_one_that_somebody_listens_to_stays() {
    story(async {
        let mut world = World::new(false);
        let listener = world.session.listen(None).await.unwrap().0;
        let mut now = std::time::Instant::now();
        for _ in 0..3 {
            now += Duration::from_secs(60) + 2 * TICK;
            world.dog.tick(now);
            assert!(matches!(world.post(LOG).await.unwrap(), Some(SessionReply::Accepted)));
            world.at_server().await;
        }
        drop(listener);
        while !world.registry.is_empty() {
            now += Duration::from_secs(30);
            world.dog.tick(now);
            tokio::task::yield_now().await;
        }
        assert_eq!(world.at_server().await, "end");
    });
}

#[test]
fn a_session_ends_with_its_token() {
    story(async {
        let mut world = World::new(false);
        tokio::task::yield_now().await;
        world.dog.signal(|_| Some(Signal::Revoked(crate::watchdog::Revocation::Token)));
        assert_eq!(world.at_server().await, "end");
        world.is_over().await;
    });
}

#[test]
fn over_http_sse_everything_comes_in_the_one_stream_and_its_end_is_the_sessions() {
    story(async {
        let mut world = World::new(true);
        assert!(matches!(world.post(CALL).await.unwrap(), Some(SessionReply::Accepted)));
        assert_eq!(world.at_server().await, CALL);
        for said in [LOG, PROGRESS, SAMPLE, DONE] {
            world.says(said).await;
        }
        let mut stream = world.stream.take().unwrap();
        for said in [LOG, PROGRESS, SAMPLE, DONE] {
            assert_eq!(text(&stream.recv().await.unwrap()), format!("event: message\ndata: {said}\n\n"));
        }
        drop(stream);
        assert_eq!(world.at_server().await, "end");
        world.is_over().await;
    });
}

#[test]
fn a_client_that_prefers_a_stream_has_one_at_once_and_may_come_back_to_it() {
    story(async {
        let mut world = World::new(false);
        let wants = Wants { stream: true, resumable: true, only_json: false };
        let Some(SessionReply::Events(mut events)) = world.session.post(message(CALL).into(), wants).await
        else {
            panic!("no events")
        };
        world.at_server().await;
        assert!(text(&events.recv().await.unwrap()).starts_with("id: 1.0\nretry: "));
        world.says(PROGRESS).await;
        assert!(text(&events.recv().await.unwrap()).starts_with("id: 1.1\n"));
        drop(events);
        world.says(PROGRESS).await;
        let mut again = world.session.listen(EventId::parse("1.1")).await.unwrap().0;
        assert!(text(&again.recv().await.unwrap()).starts_with("id: 1.2\n"));
        world.says(DONE).await;
        assert!(text(&again.recv().await.unwrap()).contains(DONE));
        assert_eq!(again.recv().await, None);
        // Lost again, behind the end: the answer is still there.
        let mut again = world.session.listen(EventId::parse("1.2")).await.unwrap().0;
        assert!(text(&again.recv().await.unwrap()).contains(DONE));
        assert_eq!(again.recv().await, None);
    });
}

#[test]
fn a_request_that_takes_long_can_be_given_its_stream() {
    story(async {
        let mut world = World::new(false);
        let reply = world.post(CALL);
        world.at_server().await;
        world.session.stream(Id::number(1)).await;
        let Some(SessionReply::Events(mut events)) = reply.await.unwrap() else { panic!("no events") };
        world.says(DONE).await;
        assert_eq!(text(&events.recv().await.unwrap()), format!("event: message\ndata: {DONE}\n\n"));
    });
}

#[test]
fn a_server_that_talks_to_itself_does_not_keep_a_session_that_nobody_uses() {
    story(async {
        let mut world = World::new(false);
        let mut now = std::time::Instant::now();
        for _ in 0..10 {
            now += Duration::from_secs(30);
            world.dog.tick(now);
            let log = FromServer::Message { message: message(LOG), about: None };
            let _ = world.server.to_client.try_send(log);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        assert!(world.registry.is_empty(), "five minutes, where one is allowed");
        assert_eq!(world.at_server().await, "end");
    });
}

#[test]
fn a_call_that_takes_longer_than_a_session_may_idle_is_use_and_so_is_its_end() {
    story(async {
        let mut world = World::new(false);
        let call = world.post(CALL);
        world.at_server().await;
        let mut now = std::time::Instant::now();
        for _ in 0..10 {
            now += Duration::from_secs(30);
            world.dog.tick(now);
            tokio::task::yield_now().await;
        }
        world.says(DONE).await;
        assert!(matches!(call.await.unwrap(), Some(SessionReply::Answer(_))));
        world.dog.tick(now + Duration::from_secs(50));
        assert!(matches!(world.post(LOG).await.unwrap(), Some(SessionReply::Accepted)));
    });
}

#[test]
fn a_server_that_closes_its_ears_and_then_answers_is_heard() {
    story(async {
        for _ in 0..20 {
            let world = World::new(false);
            let call = world.post(CALL);
            let World { server: ServerEnd { mut from_client, to_client }, session, .. } = world;
            from_client.recv().await.unwrap();
            drop(from_client);
            let note = tokio::task::spawn_local({
                let session = session.clone();
                async move { session.post(message(LOG).into(), Wants::default()).await }
            });
            let answer = FromServer::Message { message: message(DONE), about: None };
            to_client.send(answer).await.unwrap();
            to_client.send(FromServer::Ended { cause: "it ended".into() }).await.unwrap();
            assert!(matches!(call.await.unwrap(), Some(SessionReply::Answer(_))), "the answer was lost");
            let _ = note.await;
        }
    });
}

#[test]
fn what_is_kept_for_a_client_that_does_not_listen_is_bounded_by_bytes_too() {
    story(async {
        let world = World::new(false);
        for n in 0..5 {
            let padding = "x".repeat(BACKLOG_BYTES / 3);
            let text =
                format!(r#"{{"method":"notifications/message","params":{{"n":{n},"x":"{padding}"}}}}"#);
            let message = Message::parse(text.into()).unwrap();
            world.server.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
        }
        while world.server.to_client.capacity() < world.server.to_client.max_capacity() {
            tokio::task::yield_now().await;
        }
        let mut listener = world.session.listen(None).await.unwrap().0;
        for n in [3, 4] {
            let kept = text(&listener.recv().await.unwrap());
            assert!(kept.contains(&format!(r#""n":{n},"#)), "{}", &kept[..100]);
        }
    });
}

#[test]
fn large_ids_and_tokens_are_counted_as_long_as_their_call_waits() {
    story(async {
        let mut world = World::new(true);
        let call = |id: char| {
            let (id, token) = (id.to_string().repeat(1000), "t".repeat(1000));
            let text =
                format!(r#"{{"id":"{id}","method":"x","params":{{"_meta":{{"progressToken":"{token}"}}}}}}"#);
            Outbound::from(Message::parse(text.into()).unwrap())
        };
        for id in ['a', 'b'] {
            assert!(matches!(
                world.session.post(call(id), Wants::default()).await,
                Some(SessionReply::Accepted)
            ));
            world.at_server().await;
        }
        let held = world.owner.used(Resource::Bytes);
        assert!((8_000..=10_000).contains(&held), "{held}");
        let refused = world.session.post(call('c'), Wants::default()).await;
        let Some(SessionReply::Refused(error)) = refused else { panic!("there is no room") };
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let answer = format!(r#"{{"id":"{}","result":{{}}}}"#, "a".repeat(1000));
        let message = Message::from_server(answer.into()).unwrap();
        world.server.to_client.send(FromServer::Message { message, about: None }).await.unwrap();
        world.stream.as_mut().unwrap().recv().await.unwrap();
        assert_eq!(world.owner.used(Resource::Bytes), held / 2);
    });
}

#[test]
fn who_comes_back_again_and_again_has_what_it_missed_once() {
    story(async {
        let mut world = World::new(false);
        let wants = Wants { stream: true, resumable: true, only_json: false };
        let Some(SessionReply::Events(stalled)) = world.session.post(message(CALL).into(), wants).await
        else {
            panic!("no events")
        };
        world.at_server().await;
        // More than the client takes where it is.
        for _ in 0..EVENTS + 4 {
            world.says(PROGRESS).await;
        }
        let mut last = stalled;
        for _ in 0..100 {
            let again = world.session.listen(EventId::parse("1.0")).await.unwrap().0;
            drop(std::mem::replace(&mut last, again));
        }
        for n in 1..=EVENTS + 4 {
            assert!(text(&last.recv().await.unwrap()).starts_with(&format!("id: 1.{n}\n")));
        }
        world.says(DONE).await;
        assert!(text(&last.recv().await.unwrap()).contains(DONE));
        assert_eq!(last.recv().await, None);
    });
}
