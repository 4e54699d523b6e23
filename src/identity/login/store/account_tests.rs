//! People of the identity provider, as two gateways on one file know them, and as one knows them that keeps nothing.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_basics::waiting::until;

use super::Opening;
use crate::{
    config::{LoginStorage, LoginStore},
    identity::{
        Principal,
        login::{
            Logins,
            account::{Account, Claimed, KeptAccount},
            fingerprint::Fingerprint,
            grants::{Grants, PageLogin},
        },
    },
    secret::Secret,
};

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn open(state: &Path, storage: LoginStorage) -> Logins {
    let logins = Logins::new().unwrap();
    let config = LoginStore { storage, ..LoginStore::default() };
    let opening = Opening { now: &|| at(0), is_wanted: &|| true };
    logins.keep_store(logins.open_store(&config, state, opening).unwrap());
    logins
}

fn grants(logins: &Logins) -> &Grants {
    logins.grants().unwrap()
}

fn alice() -> Principal {
    Principal::Idp("google:1".into())
}

fn account(groups: &[&str], keep: Option<&str>, checked: u64) -> KeptAccount {
    let Value::Object(claims) = json!({ "groups": groups }) else { unreachable!() };
    let account = Account {
        principal: alice(),
        fingerprint: Fingerprint::new([7; 8]),
        display: "alice@corp.example".into(),
        claims,
        known: ["groups".to_owned()].into(),
        checked: at(checked),
    };
    KeptAccount::new(account, keep.map(|keep| Secret::new(keep.into())))
}

async fn log_in(logins: &Logins, account: KeptAccount, now: u64) -> (Secret, PageLogin) {
    let (cookie, login, _) = grants(logins).begin_page_as(account, at(now)).await.unwrap();
    (cookie, login)
}

async fn claim(logins: &Logins, now: u64) -> Claimed {
    grants(logins).claim_recheck(&alice(), HOUR, Vec::new(), at(now)).await.unwrap()
}

async fn claimed(logins: &Logins, now: u64) -> KeptAccount {
    match claim(logins, now).await {
        Claimed::Due(kept) => kept,
        other => panic!("{other:?}"),
    }
}

fn groups(logins: &Logins) -> Option<Value> {
    grants(logins).account(&alice()).map(|account| account.claims["groups"].clone())
}

#[tokio::test]
async fn what_is_said_of_somebody_is_asked_for_once_and_kept() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    for storage in [LoginStorage::Memory, LoginStorage::File] {
        let logins = open(&state, storage);
        log_in(&logins, account(&["eng"], Some("refresh-1"), 0), 0).await;
        assert_eq!(groups(&logins), Some(json!(["eng"])));
        assert!(matches!(claim(&logins, 3_599).await, Claimed::Fresh));
        let kept = claimed(&logins, 3_600).await;
        assert_eq!(kept.keep.as_ref().map(Secret::expose), Some("refresh-1"));
        assert!(matches!(claim(&logins, 3_629).await, Claimed::Asked));
        // A provider that gives no other one.
        let changes = grants(&logins).changes();
        grants(&logins).renew_account(account(&["ops"], None, 3_601), kept.asked).await.unwrap();
        assert_eq!(groups(&logins), Some(json!(["ops"])));
        assert_eq!(grants(&logins).changes(), changes + 1, "what was opened is looked at anew");
        let again = claimed(&logins, 7_300).await;
        assert_eq!(again.keep.as_ref().map(Secret::expose), Some("refresh-1"));
        // Somebody logs in while the provider is asked: what it says then counts.
        log_in(&logins, account(&["new"], Some("refresh-2"), 7_301), 7_301).await;
        grants(&logins)
            .renew_account(account(&["old"], Some("refresh-x"), 7_302), again.asked)
            .await
            .unwrap();
        assert_eq!(groups(&logins), Some(json!(["new"])));
        assert_eq!(claimed(&logins, 20_000).await.keep.as_ref().map(Secret::expose), Some("refresh-2"));
    }
    let file = std::fs::read(state.join("logins.db")).unwrap_or_default();
    let wal = std::fs::read(state.join("logins.db-wal")).unwrap_or_default();
    for secret in ["refresh-2", "alice@corp.example"] {
        let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!is_in(&file) && !is_in(&wal), "{secret} in the file");
    }
}

#[tokio::test]
async fn a_no_ends_all_that_somebody_has_at_both_gateways_of_a_file() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    let (one, two) = (open(&state, LoginStorage::File), open(&state, LoginStorage::File));
    let (cookie, login) = log_in(&one, account(&["eng"], Some("refresh-1"), 0), 0).await;
    until("the other one to hear of it", || groups(&two).is_some()).await;
    // What it takes to ask the provider is nowhere but in the file, and one of both asks.
    claimed(&two, 3_600).await;
    assert!(matches!(claim(&one, 3_600).await, Claimed::Asked));
    grants(&two).end_account(&alice()).await.unwrap();
    assert!(grants(&two).is_revoked(login.grant) && groups(&two).is_none());
    until("the other one to hear of it", || grants(&one).is_revoked(login.grant)).await;
    assert!(grants(&one).find_page(cookie.expose(), at(3_601)).await.unwrap().is_none());
    assert!(matches!(claim(&one, 3_601).await, Claimed::Gone));
}

#[tokio::test]
async fn somebody_without_a_grant_is_forgotten() {
    let directory = TempDir::new().unwrap();
    for storage in [LoginStorage::Memory, LoginStorage::File] {
        let logins = open(&directory.path().join("state"), storage);
        let (cookie, _) = log_in(&logins, account(&[], None, 0), 0).await;
        grants(&logins).sweep(at(20_000));
        assert!(groups(&logins).is_some(), "the login lasts for twelve hours");
        grants(&logins).end_page(cookie.expose()).await.unwrap();
        grants(&logins).sweep(at(20_100));
        assert!(groups(&logins).is_none());
        if storage == LoginStorage::File {
            let sql = rusqlite::Connection::open(directory.path().join("state/logins.db")).unwrap();
            let count = || sql.query_row("SELECT count(*) FROM accounts", (), |row| row.get::<_, i64>(0));
            until("the file to forget it", || count().unwrap() == 0).await;
        }
    }
}
