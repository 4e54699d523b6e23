//! What owners may have beside each other, and that it all comes back.

use std::time::Duration;

use super::*;

fn ledger(total: u64) -> Ledger {
    Ledger::new(|_| Capacity { total, per_owner: 0 })
}

fn token(ledger: &Ledger, name: &str) -> Arc<Owner> {
    let owner = ledger.owner(OwnerName::Token(name.into()));
    owner.note_active();
    owner
}

fn address(ledger: &Ledger, last: u8) -> Arc<Owner> {
    let owner = ledger.owner(OwnerName::Address(std::net::IpAddr::from([192, 0, 2, last]).into()));
    owner.note_active();
    owner
}

fn all(owner: &Arc<Owner>) -> Vec<Share> {
    std::iter::from_fn(|| owner.take(Resource::Sessions).ok()).collect()
}

#[test]
fn one_token_alone_has_everything_and_gives_it_back() {
    let ledger = ledger(8);
    let team = token(&ledger, "team");
    let shares = all(&team);
    assert_eq!((shares.len(), ledger.usage(Resource::Sessions)), (8, (8, 8)));
    drop(shares);
    assert_eq!((team.used(Resource::Sessions), ledger.usage(Resource::Sessions)), (0, (8, 0)));
    assert_eq!(ledger.usage(Resource::Requests), (8, 0));
}

#[test]
fn a_greedy_owner_leaves_the_others_their_part() {
    let ledger = ledger(16);
    let (greedy, modest) = (token(&ledger, "greedy"), token(&ledger, "modest"));
    let taken = all(&greedy);
    assert_eq!(taken.len(), 12);
    assert_eq!(greedy.take(Resource::Sessions).err(), Some(Limit::Caller));
    assert_eq!(all(&modest).len(), 4);
}

#[test]
fn who_was_not_active_for_five_minutes_has_nothing_kept_for_it() {
    let ledger = ledger(16);
    let (greedy, _guest) = (token(&ledger, "greedy"), token(&ledger, "guest"));
    assert_eq!(all(&greedy).len(), 12);
    ledger.tick(ledger.began + Duration::from_secs(310));
    greedy.note_active();
    assert_eq!(all(&greedy).len(), 16);
    // The guest is back: what is taken stays taken, and nothing more is.
    let taken = all(&greedy);
    token(&ledger, "guest");
    drop(taken.into_iter().take(4).collect::<Vec<_>>());
    assert_eq!(all(&greedy).len(), 12);
}

#[test]
fn a_crowd_of_addresses_leaves_room_for_a_token() {
    let ledger = ledger(16);
    let crowd: Vec<_> = (0..100).map(|last| address(&ledger, last)).collect();
    token(&ledger, "dev");
    let taken: Vec<_> = crowd.iter().flat_map(all).collect();
    assert_eq!(taken.len(), 14);
    assert_eq!(all(&token(&ledger, "dev")).len(), 2, "the half of the reserve that no address gets");
    drop(taken);
    assert_eq!(all(&token(&ledger, "dev")).len(), 12);
}

#[test]
fn what_is_passed_on_is_counted_for_its_new_owner_and_once() {
    let ledger = ledger(16);
    let [one, two] = ["one", "two"].map(|name| token(&ledger, name));
    let used = || (one.used(Resource::Bytes), two.used(Resource::Bytes), ledger.usage(Resource::Bytes).1);
    let mut share = one.hold(Resource::Bytes, 7);
    share.pass_to(&one).unwrap();
    assert_eq!(used(), (7, 0, 7));
    share.pass_to(&two).unwrap();
    assert_eq!(used(), (0, 7, 7));
    share.pass_to(&Owner::unlimited()).unwrap();
    assert_eq!(used(), (0, 0, 0));
    share.pass_to(&one).unwrap();
    assert_eq!(used(), (7, 0, 7));
    drop(share);
    assert_eq!(used(), (0, 0, 0));
    // All who pass on to and fro at once see what there is.
    let share = one.hold(Resource::Bytes, 7);
    std::thread::scope(|scope| {
        let passing = scope.spawn(|| {
            let mut share = share;
            for _ in 0..10_000 {
                share.pass_to(&two).unwrap();
                share.pass_to(&one).unwrap();
            }
            share
        });
        while !passing.is_finished() {
            assert_eq!(ledger.usage(Resource::Bytes).1, 7);
        }
        drop(passing.join().unwrap());
    });
    assert_eq!(used(), (0, 0, 0));
}

#[test]
fn what_an_owner_may_not_have_is_not_passed_on_to_it() {
    let ledger = Ledger::new(|_| Capacity { total: 1 << 20, per_owner: 0 });
    let [greedy, _modest] = ["greedy", "modest"].map(|name| token(&ledger, name));
    let mut kept = Vec::new();
    let limit = loop {
        let mut share = ledger.gateway().hold(Resource::Bytes, 1 << 18);
        match share.pass_to(&greedy) {
            Ok(()) => kept.push(share),
            Err(limit) => break limit,
        }
    };
    assert_eq!((kept.len(), limit), (3, Limit::Caller));
    assert_eq!((greedy.used(Resource::Bytes), ledger.usage(Resource::Bytes).1), (3 << 18, 3 << 18));
    // What is read for all is not kept back by what one has.
    kept.push(greedy.hold(Resource::Bytes, 1 << 20));
    assert_eq!(ledger.gateway().has_room(), Ok(()));
    let _many = ledger.gateway().hold(Resource::Bytes, LEAST_OF_GATEWAY);
    assert_eq!(ledger.gateway().has_room(), Err(Limit::Gateway));
}

#[test]
fn what_is_refused_takes_nothing_from_anybody() {
    let ledger = ledger(16);
    let [greedy, modest] = ["greedy", "modest"].map(|name| token(&ledger, name));
    let _taken = all(&greedy);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    assert!(greedy.take(Resource::Sessions).is_err());
                }
            });
        }
        let refused = (0..100_000).filter(|_| {
            let four: Vec<_> = (0..4).map(|_| modest.take(Resource::Sessions)).collect();
            four.iter().any(Result::is_err)
        });
        let refused = refused.count();
        is_over.store(true, Relaxed);
        assert_eq!(refused, 0);
    });
}

#[test]
fn of_what_callers_share_elsewhere_a_part_is_kept_for_others_too() {
    let ledger = ledger(16);
    let greedy = token(&ledger, "greedy");
    assert_eq!((greedy.may_have(8, 7, 7), greedy.may_have(8, 8, 8)), (Ok(()), Err(Limit::Gateway)));
    let modest = token(&ledger, "modest");
    assert_eq!(greedy.may_have(8, 6, 6), Err(Limit::Caller));
    assert_eq!(modest.may_have(8, 6, 0), Ok(()));
}

#[test]
fn owners_that_have_nothing_are_forgotten_in_time() {
    let ledger = ledger(16);
    let share = address(&ledger, 1).take(Resource::Sessions).unwrap();
    address(&ledger, 2);
    ledger.tick(ledger.began + Duration::from_secs(310));
    assert_eq!(ledger.owners.lock().len(), 1);
    drop(share);
    ledger.tick(ledger.began + Duration::from_secs(320));
    assert_eq!(ledger.owners.lock().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_until_there_is_room_for_bytes() {
    let ledger = Ledger::new(|_| Capacity { total: 100, per_owner: 0 });
    let dev = token(&ledger, "dev");
    let mut held = dev.hold(Resource::Bytes, 60);
    assert!(!dev.has_room_to_spare() && dev.has_room().is_ok());
    held.grow(60);
    assert_eq!((dev.has_room(), held.amount()), (Err(Limit::Gateway), 120));
    let mut room = dev.room();
    let soon = tokio::time::timeout(Duration::from_secs(1), room.open()).await;
    assert!(soon.is_err() && room.waits_for() == Some(Limit::Gateway), "there is no room");
    drop(held);
    room.open().await;
    assert_eq!(room.waits_for(), None);
    assert!(dev.has_room_to_spare());
}
