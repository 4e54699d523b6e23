use std::net::IpAddr;

use super::*;

fn address(last: u8) -> AddressBlock {
    IpAddr::from([192, 0, 2, last]).into()
}

fn most(connections: usize) -> PerAddress {
    PerAddress { connections, handshakes: 2 }
}

/// Connections, and which of them had to go.
fn connections(
    limit: usize,
    spare: usize,
    per_address: usize,
) -> (Arc<Connections>, std::sync::mpsc::Receiver<Evicted>) {
    patient(limit, spare, per_address, PATIENCE)
}

/// The same with another patience.
fn patient(
    limit: usize,
    spare: usize,
    per_address: usize,
    patience: Duration,
) -> (Arc<Connections>, std::sync::mpsc::Receiver<Evicted>) {
    let connections = Connections::new(limit, spare, most(per_address));
    connections.unadmitted.lock().patience = patience;
    let (evict, evicted) = std::sync::mpsc::channel();
    connections.on_evicted(move |goes| evict.send(goes).unwrap());
    (connections, evicted)
}

#[test]
fn beyond_the_limit_the_oldest_stranger_goes_and_who_was_admitted_stays() {
    let (connections, evicted) = connections(3, 2, 100);
    let mut admitted = connections.enter(address(1), false, 0);
    admitted.admitted();
    let oldest = connections.enter(address(2), false, 1);
    let second = connections.enter(address(3), false, 0);
    assert_eq!((evicted.try_iter().count(), connections.open()), (0, 3));
    let third = connections.enter(address(4), false, 0);
    let fourth = connections.enter(address(5), false, 0);
    let gone: Vec<_> = evicted.try_iter().collect();
    let goes = |worker, place: &ConnectionSlot| Evicted { worker, id: place.id(), beyond: None };
    assert_eq!(gone, [goes(1, &oldest), goes(0, &second)], "each goes once");
    drop((oldest, second, third, fourth, admitted));
    assert_eq!(connections.open(), 0);
    assert!(
        connections.unadmitted.lock().by_age.is_empty()
            && connections.unadmitted.lock().by_address.is_empty()
    );
}

#[test]
fn when_all_were_admitted_the_newest_strangers_stay_for_health_checks() {
    let (connections, evicted) = connections(1, 2, 100);
    let mut admitted = connections.enter(address(1), false, 0);
    admitted.admitted();
    let strangers: Vec<_> = (2..5).map(|last| connections.enter(address(last), false, 0)).collect();
    let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
    assert_eq!(gone, [strangers[0].id()]);
}

#[test]
fn an_address_drives_out_its_own_and_no_other() {
    let (connections, evicted) = connections(100, 1, 2);
    let goes = || evicted.try_iter().map(|goes| goes.id).collect::<Vec<_>>();
    let mut other = connections.enter(address(1), false, 0);
    let first = connections.enter(address(2), false, 0);
    let mut second = connections.enter(address(2), false, 0);
    assert!(goes().is_empty());
    let third = connections.enter(address(2), false, 0);
    assert_eq!(goes(), [first.id()]);
    second.admitted();
    let fourth = connections.enter(address(2), false, 0);
    assert!(goes().is_empty(), "who was admitted is no stranger");
    let mut balancer = connections.enter(address(2), true, 0);
    assert!(goes().is_empty(), "a balancer may have many");
    balancer.speaks_for(address(3));
    assert!(goes().is_empty());
    // Whom a balancer speaks for may not.
    other.speaks_for(address(2));
    assert_eq!(goes(), [third.id()]);
    drop(fourth);
}

fn has_turn(turn: &mut Option<oneshot::Receiver<()>>) -> bool {
    turn.as_mut().is_none_or(|turn| turn.try_recv().is_ok())
}

/// A connection whose ClientHello is here, and the turn that it waits for.
fn begun(
    connections: &Arc<Connections>,
    last: u8,
    is_balancer: bool,
) -> (ConnectionSlot, Option<oneshot::Receiver<()>>) {
    let place = connections.enter(address(last), is_balancer, 0);
    let turn = place.begin_handshake();
    (place, turn)
}

#[test]
fn of_an_address_so_many_shake_hands_at_once_and_the_others_have_their_turns() {
    let (connections, evicted) = connections(100, 1, 100);
    let enter = |last, is_balancer| begun(&connections, last, is_balancer);
    let (other, mut first, second) = (enter(1, false), enter(2, false), enter(2, false));
    assert!(other.1.is_none() && first.1.is_none() && second.1.is_none());
    let (mut third, mut fourth, mut fifth) = (enter(2, false), enter(2, false), enter(2, false));
    assert!(!has_turn(&mut third.1));
    first.0.end_handshake();
    assert!(has_turn(&mut third.1) && !has_turn(&mut fifth.1), "the oldest");
    third.0.end_handshake();
    assert!(has_turn(&mut fifth.1) && !has_turn(&mut fourth.1), "and the newest, alternately");
    let mut sixth = enter(2, false);
    drop(fourth);
    assert!(!has_turn(&mut sixth.1), "who waits and leaves makes no room");
    drop(second);
    assert!(has_turn(&mut sixth.1));
    let mut seventh = enter(2, false);
    assert!(!has_turn(&mut seventh.1));
    // One more may run.
    connections.set_limits(100, PerAddress { connections: 100, handshakes: 3 });
    connections.tick();
    assert!(has_turn(&mut seventh.1));
    let balancers: Vec<_> = (0..3).map(|_| enter(3, true)).collect();
    assert!(balancers.iter().all(|(_, turn)| turn.is_none()), "a balancer may have many");
    connections.tick();
    assert_eq!(evicted.try_iter().count(), 0, "nobody goes");
    drop((other, first, third, fifth, sixth, seventh, balancers));
    assert!(connections.unadmitted.lock().by_address.is_empty());
}

#[test]
fn a_handshake_that_stalls_passes_its_turn_on_to_those_that_wait_and_is_not_ended() {
    let (connections, evicted) = patient(100, 1, 100, Duration::ZERO);
    let enter = |last| begun(&connections, last, false);
    let (other, mut first, second) = (enter(2), enter(1), enter(1));
    connections.tick();
    let mut third = enter(1);
    assert!(!has_turn(&mut third.1));
    connections.tick();
    assert!(has_turn(&mut third.1));
    let mut fourth = enter(1);
    // It has no turn any more that could become another's.
    first.0.end_handshake();
    assert!(!has_turn(&mut fourth.1), "no more turns than waited were passed on");
    drop(second);
    assert!(has_turn(&mut fourth.1));
    assert_eq!(evicted.try_iter().count(), 0);
    drop((other, first, third, fourth));
    assert!(connections.unadmitted.lock().by_address.is_empty());
}

#[test]
fn who_has_a_turn_goes_last_and_who_has_sent_less_goes_first() {
    let (connections, evicted) = connections(100, 1, 6);
    let goes = || evicted.try_iter().map(|goes| goes.id).collect::<Vec<_>>();
    let silent = || connections.enter(address(1), false, 0);
    let mut begun: Vec<_> = (0..4).map(|_| begun(&connections, 1, false)).collect();
    let (first, second) = (silent(), silent());
    let third = silent();
    assert_eq!(goes(), [first.id()], "the oldest that is silent, though others wait for longer");
    // Who has just shaken hands stays longer than who sends nothing.
    begun[0].0.end_handshake();
    assert!(has_turn(&mut begun[2].1));
    let fourth = silent();
    assert_eq!(goes(), [second.id()]);
    let late = second.begin_handshake();
    assert!(late.is_some_and(|mut turn| turn.try_recv().is_err()), "who has to go has no turn any more");
    // Where nobody is silent, whoever waits.
    let waits: Vec<_> = [&third, &fourth].map(ConnectionSlot::begin_handshake).into();
    let _fifth = silent();
    assert_eq!(goes(), [begun[3].0.id()]);
    drop(waits);
}

#[test]
fn a_flood_of_one_kind_leaves_the_others_their_time() {
    for shakes_hands in [false, true] {
        let (connections, evicted) = patient(1000, 1, 64, Duration::ZERO);
        let mut open: Vec<_> = (0..200)
            .map(|_| {
                connections.tick();
                begun(&connections, 1, false)
            })
            .collect();
        let _gone = evicted.try_iter().count();
        // One that is new has time to send its ClientHello, and one that has, time to have its turn.
        let (silent, waits) = (connections.enter(address(1), false, 0), begun(&connections, 1, false));
        for _ in 0..5 {
            let place = connections.enter(address(1), false, 0);
            let turn = shakes_hands.then(|| place.begin_handshake()).flatten();
            open.push((place, turn));
        }
        let goes: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
        assert!(!goes.is_empty() && !goes.contains(&silent.id()) && !goes.contains(&waits.0.id()));
    }
}

#[test]
fn where_all_have_turns_the_oldest_goes() {
    let (connections, evicted) = connections(100, 1, 2);
    let begun = [begun(&connections, 1, false), begun(&connections, 1, false)];
    let _third = connections.enter(address(1), false, 0);
    assert_eq!(evicted.try_iter().map(|goes| goes.id).collect::<Vec<_>>(), [begun[0].0.id()]);
}

#[test]
fn beyond_the_limit_an_address_that_opens_without_end_drives_out_its_own() {
    let (connections, evicted) = connections(3, 2, 100);
    let patient = connections.enter(address(1), false, 0);
    let mut flood: Vec<_> = (0..10).map(|_| connections.enter(address(2), false, 0)).collect();
    let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
    let oldest: Vec<_> = flood.iter().take(8).map(ConnectionSlot::id).collect();
    assert_eq!(gone, oldest);
    flood.clear();
    drop(patient);
    assert!(connections.unadmitted.lock().by_count.is_empty());
}

#[tokio::test]
async fn a_limit_that_is_lowered_below_what_is_open_leaves_room_for_health_checks() {
    let (connections, _evicted) = connections(10, 1, 100);
    let mut places: Vec<_> = (0..10).map(|last| connections.enter(address(last), false, 0)).collect();
    places.iter_mut().for_each(ConnectionSlot::admitted);
    connections.set_limits(2, most(100));
    assert!(now_or_never(std::pin::pin!(connections.room())).is_some());
    let strangers: Vec<_> = (0..2).map(|last| connections.enter(address(last), false, 0)).collect();
    let waiting = connections.room();
    tokio::pin!(waiting);
    assert!(now_or_never(waiting.as_mut()).is_none());
    connections.set_limits(20, most(100));
    assert!(now_or_never(waiting.as_mut()).is_some(), "a limit that is raised is room");
    drop(strangers);
}

#[test]
fn who_is_not_admitted_any_more_is_a_stranger_again_and_goes_first() {
    let (connections, evicted) = connections(2, 1, 100);
    let mut removed = connections.enter(address(1), false, 0);
    removed.admitted();
    let other = connections.enter(address(2), false, 0);
    removed.refused();
    let third = connections.enter(address(3), false, 0);
    let gone: Vec<_> = evicted.try_iter().map(|goes| goes.id).collect();
    assert_eq!(gone, [removed.id()]);
    drop((removed, other, third));
    assert_eq!(connections.admitted.load(Relaxed), 0);
}

#[test]
fn connections_of_all_listeners_have_ids_of_their_own() {
    let enter = || Connections::new(1, 1, most(1)).enter(address(1), false, 0).id();
    assert_ne!(enter(), enter());
}

#[tokio::test]
async fn accepting_waits_only_for_those_that_are_on_their_way_out() {
    let connections = Connections::new(1, 1, most(100));
    let mut places: Vec<_> = (0..3).map(|last| connections.enter(address(last), false, 0)).collect();
    let waiting = connections.room();
    tokio::pin!(waiting);
    assert!(now_or_never(waiting.as_mut()).is_none(), "two were evicted, and are still open");
    drop(places.pop());
    assert!(now_or_never(waiting.as_mut()).is_some());
}

fn now_or_never<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(ready) => Some(ready),
        std::task::Poll::Pending => None,
    }
}
