//! `sluicegate store rekey`: step by step as docs/operate.md has it.

use std::{
    io::Read as _,
    process::{Command, Stdio},
};

use test_support::{harness::Upstream, process::Process, users::log_in};

use super::*;

#[tokio::test]
async fn a_key_is_replaced_while_gateways_run_and_no_login_is_lost() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let url = server.url("/mcp");
    let gate = Process::start(place.keyed(&url, &["old"])).await;
    let login = log_in(&mut gate.client().await, "alice").await;
    connect(&place.open_keyed(&["old"]), &of("alice"), "github").await;
    stop(gate).await;

    // All gateways know both; what they write is sealed with the old one.
    let gate = Process::start(place.keyed(&url, &["old", "new"])).await;
    let path = place.write(&place.keyed(&url, &["new", "old"]));
    assert_eq!(pairs(&listed(&path, &[])).len(), 2);
    let said = done(&path, &["rekey"]);
    assert_eq!(
        said,
        "All 2 rows are sealed with the first key; 2 of them were sealed with another one before. `encryptionKey` needs no \
         other any more.\n"
    );
    assert!(done(&path, &["rekey"]).contains("; 0 of them"), "it is done");
    assert_eq!(refresh(&gate, &login.refresh).await, 200);
    // Which the gateway has sealed with the old one again.
    assert!(done(&path, &["rekey"]).contains("; 1 of them"));
    stop(gate).await;

    let path = place.write(&place.keyed(&url, &["old"]));
    assert!(failed(&path, &["list"], 1).contains("another `encryptionKey`"));
    place.write(&place.keyed(&url, &["new"]));
    assert_eq!(pairs(&listed(&path, &[])).len(), 2);
    let gate = Process::start(place.keyed(&url, &["new"])).await;
    assert_eq!(refresh(&gate, &login.refresh).await, 200);
    let found = rows(&place.open_keyed(&["new"])).get(&of("alice"), "github").await.unwrap().unwrap();
    assert_eq!(&found.body[..], CANARY.as_bytes());
}

/// What a command writes before all is sealed anew has to be read by gateways that know the old key alone.
#[tokio::test]
async fn a_command_seals_with_the_key_that_the_file_is_sealed_with() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let url = server.url("/mcp");
    let gate = Process::start(place.keyed(&url, &["old"])).await;
    let login = log_in(&mut gate.client().await, "alice").await;
    let path = place.write(&place.keyed(&url, &["new", "old"]));
    assert!(done(&path, &["revoke", "--principal", "user:alice"]).contains("1 grant"));
    gate.answers("/db", &login.session, 401).await;
    assert!(!gate.log.text().contains("do not open"), "{}", gate.log.text());
    stop(gate).await;
}

/// A key that is in no config any more has sealed something: nothing says that all is well.
#[tokio::test]
async fn what_no_key_opens_is_named_by_rekey_and_stays() {
    let (server, place) = (Upstream::bind().await, Place::new());
    let url = server.url("/mcp");
    connect(&place.open_keyed(&["old"]), &of("alice"), "github").await;
    let broken = "UPDATE upstream SET body = CAST(substr(body, 1, 40) AS BLOB)";
    let sql = rusqlite::Connection::open(place.file()).unwrap();
    sql.execute_batch(broken).unwrap();
    let body = || sql.query_row("SELECT body FROM upstream", (), |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let before = body();
    let path = place.write(&place.keyed(&url, &["new", "old"]));
    let said = failed(&path, &["rekey"], 1);
    assert!(said.contains("upstream") && said.contains("user:alice github"), "{said}");
    assert_eq!(body(), before);
}

#[tokio::test]
async fn a_rekey_that_is_killed_goes_on_where_it_was() {
    const ROWS: usize = 3_000;
    let (server, place) = (Upstream::bind().await, Place::new());
    let url = server.url("/mcp");
    let old = place.open_keyed(&["old"]);
    for n in 0..30 {
        connect(&old, &UpstreamOwner::Everyone, &format!("server{n}")).await;
    }
    drop(old);
    place.closed().await;
    let sql = rusqlite::Connection::open(place.file()).unwrap();
    // Rows that open with no key are looked at as the others are.
    sql.execute_batch(&format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {ROWS})
         INSERT INTO clients SELECT randomblob(32), 'db', x, x'00' FROM n"
    ))
    .unwrap();
    let path = place.write(&place.keyed(&url, &["new", "old"]));
    for _ in 0..5 {
        let mut command = Command::new(program());
        command.args(["store", "rekey", "-c"]).arg(&path).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut random = [0; 1];
        getrandom::fill(&mut random).unwrap();
        // Somewhere in the middle of it, or before, or after.
        for _ in 0..random[0] {
            std::thread::yield_now();
        }
        let _ = child.kill();
        let mut rest = String::new();
        child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        child.wait().unwrap();
        assert_eq!(listed(&path, &[]).len(), 30, "all of them open");
    }
    sql.execute("DELETE FROM clients", ()).unwrap();
    assert!(done(&path, &["rekey"]).starts_with("All 30 rows"));
    drop(sql);
    place.closed().await;
    assert_eq!(rows(&place.open_keyed(&["new"])).all(100).await.unwrap().len(), 30);
}
