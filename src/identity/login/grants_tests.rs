use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;

use super::{
    super::{Logins, keys::Keys, refresh_token::GrantSecret, rows::MOST, store::Opening, table::Table},
    *,
};
use crate::config::{LoginStorage, LoginStore};

const TERMS: LoginTerms = LoginTerms { per_user: 3, ..LoginTerms::DEFAULT };

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn opening() -> Opening<'static> {
    Opening { now: &|| at(0), is_wanted: &|| true }
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of(&Keys::random().unwrap(), "hash").unwrap()
}

/// Logins of each kind of store, new and empty.
fn each() -> impl Iterator<Item = (Arc<Logins>, TempDir)> {
    [LoginStorage::Memory, LoginStorage::File].into_iter().map(|storage| {
        let directory = TempDir::new().unwrap();
        let logins = Arc::new(Logins::new().unwrap());
        let config = LoginStore { storage, ..LoginStore::default() };
        logins.keep_store(logins.open_store(&config, &directory.path().join("state"), opening()).unwrap());
        (logins, directory)
    })
}

async fn begin(grants: &Grants, user: &str, now: u64) -> Issued {
    grants.begin(&user.into(), fingerprint(), &TERMS, at(now)).await.unwrap().0
}

fn user(name: &str) -> Principal {
    Principal::User(name.into())
}

fn anybody() -> Admits {
    Box::new(|_, _, _| Ok(()))
}

async fn refresh(grants: &Grants, token: &Secret, now: u64) -> Result<Issued, NotRefreshed> {
    let token = RefreshToken::parse(token.expose()).unwrap();
    grants.refresh(token, RefreshOf::Session, anybody(), &TERMS, at(now)).await
}

async fn revoke(grants: &Grants, token: &Secret) -> Option<Principal> {
    let token = Token::Refresh(RefreshToken::parse(token.expose()).unwrap());
    grants.revoke(vec![token], at(0)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_refreshes_at_once_are_one_rotation_and_one_successor() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let login = begin(grants, "alice", 0).await;
        let token = &login.refresh_token;
        let refreshing: Vec<_> = (0..100)
            .map(|_| {
                let (logins, token) = (Arc::clone(&logins), token.clone());
                tokio::spawn(async move { refresh(logins.grants().unwrap(), &token, 1).await.unwrap() })
            })
            .collect();
        let mut successors = Vec::new();
        for refreshed in refreshing {
            successors.push(refreshed.await.unwrap().refresh_token);
        }
        assert!(successors.iter().all(|successor| *successor == successors[0] && successor != token));
        // It is the only one that is good.
        let next = refresh(grants, &successors[0], 2).await.unwrap();
        assert_eq!((next.grant, next.principal), (login.grant, user("alice")));
    }
}

#[tokio::test]
async fn a_login_that_nobody_refreshed_is_over_with_its_last_token_and_is_there_until_then() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let login = begin(grants, "alice", 0).await;
        let refresh_ends = 12 * 3600;
        assert!(grants.has(login.grant, at(refresh_ends - 1)) && !grants.has(login.grant, at(refresh_ends)));
        let other = begin(grants, "alice", refresh_ends + 120).await;
        assert_eq!(revoke(grants, &other.refresh_token).await, Some(user("alice")));
        assert!(!grants.has(other.grant, at(refresh_ends + 121)) && grants.is_revoked(other.grant));
    }
}

#[tokio::test]
async fn a_token_used_again_later_ends_its_grant_and_one_just_before_does_not() {
    for (first, then, replay) in [(1, 11, true), (1, 10, false)] {
        for (logins, _directory) in each() {
            let grants = logins.grants().unwrap();
            let login = begin(grants, "alice", 0).await;
            let others = begin(grants, "alice", 0).await;
            let next = refresh(grants, &login.refresh_token, first).await.unwrap();
            let again = refresh(grants, &login.refresh_token, then).await;
            assert_eq!(grants.is_revoked(login.grant), replay);
            if replay {
                assert_eq!(again.unwrap_err(), NotRefreshed::Replayed(user("alice")));
                let late = refresh(grants, &next.refresh_token, then).await;
                assert_eq!(late.unwrap_err(), NotRefreshed::Invalid);
            } else {
                assert_eq!(again.unwrap().refresh_token, next.refresh_token);
            }
            assert!(!grants.is_revoked(others.grant));
            assert!(refresh(grants, &others.refresh_token, then).await.is_ok());
        }
    }
    // Within the time, but two generations ago.
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let login = begin(grants, "alice", 0).await;
        let next = refresh(grants, &login.refresh_token, 1).await.unwrap();
        refresh(grants, &next.refresh_token, 2).await.unwrap();
        let replayed = refresh(grants, &login.refresh_token, 3).await;
        assert_eq!(replayed.unwrap_err(), NotRefreshed::Replayed(user("alice")));
    }
}

#[test]
fn a_client_that_was_never_answered_has_its_time_once_more_and_no_other() {
    for (has_answer, is_replay) in [(false, false), (true, true)] {
        let mut table = Table::default();
        let key = Arc::new(GrantKey::new(&Keys::random().unwrap()).unwrap());
        let grant = Grant::new(GrantKind::Session, user("alice"), fingerprint(), &TERMS, at(0)).unwrap();
        let id = grant.id;
        let begin = Begin { grant, terms: TERMS, key: Arc::clone(&key), now: at(0) };
        let Ok((begun, _)) = begin.run(&mut table);
        let token = RefreshToken::parse(begun.unwrap().0.refresh_token.expose()).unwrap();
        let refresh = |now| Refresh {
            token: token.clone(),
            is_by_key: true,
            of: RefreshOf::Session,
            admits: anybody(),
            terms: TERMS,
            key: Arc::clone(&key),
            now: at(now),
        };
        let Ok((first, _)) = refresh(1).run(&mut table);
        // The answer came too late for whoever asked. Of an older one, nothing is to be said any more.
        let lost = if has_answer { 0 } else { 1 };
        let Ok(()) = grants::renew_grace(&mut table, id, lost, at(20));
        let Ok((again, _)) = refresh(29).run(&mut table);
        match is_replay {
            true => assert_eq!(again.unwrap_err(), NotRefreshed::Replayed(user("alice"))),
            false => {
                let (first, again) = (first.unwrap(), again.unwrap());
                assert!(first.is_new && !again.is_new && first.refresh_token == again.refresh_token);
            }
        }
    }
}

#[tokio::test]
async fn a_forged_token_ends_nothing() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let login = begin(grants, "alice", 0).await;
        for generation in [0, 1, 7] {
            let other = RefreshToken::make(login.grant, generation, &GrantSecret::new([7; 32]));
            assert_eq!(refresh(grants, &other, 1).await.unwrap_err(), NotRefreshed::Invalid);
            assert_eq!(revoke(grants, &other).await, None);
        }
        assert!(refresh(grants, &login.refresh_token, 1).await.is_ok());
    }
}

#[tokio::test]
async fn a_grant_ends_when_nobody_refreshes_it_and_at_its_own_end_in_any_case() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let login = begin(grants, "alice", 0).await;
        assert_eq!((login.expires, login.grant_ends), (at(900), at(30 * 86_400)));
        let late = refresh(grants, &login.refresh_token, 12 * 3600).await;
        assert_eq!(late.unwrap_err(), NotRefreshed::Invalid);

        let mut last = begin(grants, "alice", 0).await;
        for hour in (11..30 * 24).step_by(11) {
            last = refresh(grants, &last.refresh_token, hour * 3600).await.unwrap();
        }
        let end = 30 * 86_400;
        let near = refresh(grants, &last.refresh_token, end - 10).await.unwrap();
        assert_eq!((near.expires, near.grant_ends), (at(end), at(end)));
        assert_eq!(refresh(grants, &near.refresh_token, end).await.unwrap_err(), NotRefreshed::Invalid);
    }
}

#[tokio::test]
async fn a_refresh_token_from_the_future_is_good_for_nothing() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let day = 86_400;
        let login = begin(grants, "alice", 400 * day).await;
        assert_eq!(refresh(grants, &login.refresh_token, 0).await.unwrap_err(), NotRefreshed::Invalid);
        // Nor do such logins take the place of others.
        let mine = begin(grants, "alice", 1).await;
        begin(grants, "alice", 2).await;
        begin(grants, "alice", 3).await;
        assert!(grants.is_revoked(login.grant) && !grants.is_revoked(mine.grant));
    }
}

#[tokio::test]
async fn who_has_too_many_loses_the_one_that_was_refreshed_longest_ago() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let mut begun = Vec::new();
        for now in 0..3 {
            begun.push(begin(grants, "alice", now).await);
        }
        refresh(grants, &begun[0].refresh_token, 3).await.unwrap();
        begin(grants, "bob", 4).await;
        let (_, is_beyond) = grants.begin(&"alice".into(), fingerprint(), &TERMS, at(5)).await.unwrap();
        assert!(is_beyond);
        let revoked: Vec<_> = begun.iter().map(|login| grants.is_revoked(login.grant)).collect();
        assert_eq!(revoked, [false, true, false]);
    }
}

#[tokio::test]
async fn what_is_revoked_is_forgotten_once_its_tokens_have_ended() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let login = begin(grants, "alice", 0).await;
        assert_eq!(revoke(grants, &login.refresh_token).await, Some(user("alice")));
        assert_eq!(revoke(grants, &login.refresh_token).await, None);
        grants.sweep(at(899));
        assert!(grants.is_revoked(login.grant));
        grants.sweep(at(960));
        assert!(!grants.is_revoked(login.grant));
        assert_eq!(refresh(grants, &login.refresh_token, 960).await.unwrap_err(), NotRefreshed::Invalid);
    }
}

#[tokio::test]
async fn grants_of_users_that_are_gone_are_revoked_for_good() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let (alice, bob) = (begin(grants, "alice", 0).await, begin(grants, "bob", 0).await);
        grants.keep(|principal, _, _| *principal == user("bob"));
        grants.keep(|_, _, _| true);
        assert!(grants.is_revoked(alice.grant) && !grants.is_revoked(bob.grant));
        assert_eq!(refresh(grants, &alice.refresh_token, 1).await.unwrap_err(), NotRefreshed::Invalid);
        grants.keep(|_, fingerprint, _| fingerprint != bob.fingerprint);
        assert!(grants.is_revoked(bob.grant));
    }
}

#[tokio::test]
async fn no_grant_begins_that_could_not_be_revoked() {
    let grants = Grants::new(Arc::new(Keeper::in_memory()), &Keys::random().unwrap()).unwrap();
    let terms = LoginTerms { per_user: 100, ..TERMS };
    let fingerprint = fingerprint();
    let mut first = None;
    for user in 0..MOST / 100 {
        let user = user.to_string().into();
        for _ in 0..100 {
            let (issued, _) = grants.begin(&user, fingerprint, &terms, at(0)).await.unwrap();
            first.get_or_insert(issued.grant);
        }
    }
    let has_most = "0".into();
    assert_eq!(grants.begin(&has_most, fingerprint, &terms, at(1)).await.unwrap_err(), NotBegun::Full);
    assert!(!grants.is_revoked(first.unwrap()), "none ended for one that did not begin");
    let user = "alice".into();
    assert_eq!(grants.begin(&user, fingerprint, &terms, at(1)).await.unwrap_err(), NotBegun::Full);
    grants.keep(|_, _, _| false);
    assert_eq!(grants.begin(&user, fingerprint, &terms, at(2)).await.unwrap_err(), NotBegun::Full);
    grants.sweep(at(961));
    grants.begin(&user, fingerprint, &terms, at(961)).await.unwrap();
}

#[tokio::test]
async fn each_that_is_revoked_is_seen_at_once_and_until_its_tokens_have_ended_however_many_there_are() {
    let grants = Grants::new(Arc::new(Keeper::in_memory()), &Keys::random().unwrap()).unwrap();
    let terms = LoginTerms { per_user: 2_000, ..TERMS };
    let (user, fingerprint) = ("alice".into(), fingerprint());
    let mut ids = Vec::new();
    for number in 0..1_200 {
        let now = at(if number % 2 == 0 { 0 } else { 100 });
        ids.push(grants.begin(&user, fingerprint, &terms, now).await.unwrap().0.grant);
    }
    let seen = || ids.iter().filter(|id| grants.is_revoked(**id)).count();
    for (number, id) in ids.iter().enumerate().rev() {
        grants.withdraw(*id);
        assert!(grants.is_revoked(*id));
        if number % 100 == 0 {
            assert_eq!(seen(), ids.len() - number);
        }
    }
    grants.sweep(at(950));
    assert_eq!(seen(), 600);
}

#[tokio::test]
async fn what_is_refused_for_who_it_is_uses_up_nothing() {
    for (logins, _directory) in each() {
        let grants = logins.grants().unwrap();
        let login = begin(grants, "alice", 0).await;
        let token = RefreshToken::parse(login.refresh_token.expose()).unwrap();
        let of = login.fingerprint;
        let admits: Admits = Box::new(move |principal, fingerprint, kind| {
            assert_eq!((principal, fingerprint, kind), (&user("alice"), of, &GrantKind::Session));
            Err(Objection::Caller)
        });
        let refused = grants.refresh(token.clone(), RefreshOf::Session, admits, &TERMS, at(1)).await;
        assert_eq!(refused.unwrap_err(), NotRefreshed::Refused(Objection::Caller));
        // It is the first use of it, at a time when a second one would be a replay.
        let refreshed = refresh(grants, &login.refresh_token, 100).await.unwrap();
        assert!(refreshed.is_new);
    }
}
