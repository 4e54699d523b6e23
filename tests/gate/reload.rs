//! A config that people edit while the gateway runs.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    harness::{Client, Upstream, get, open_stream, passes, pause, post, soon, until},
    process::{Process, save, serve, text},
    tls::Identity,
};

pub const OPS: &str = "ops-token-0123456789abcdef";
pub const STAYS: &str = "stays-token-0123456789abcdef";
pub const GOES: &str = "goes-token-0123456789abcdef";

/// A config with an admin and `tokens`, and the server `db` at `url`.
pub fn config(url: &str, tokens: &[(&str, &str)]) -> Value {
    let mut all = json!({ "ops": { "value": OPS, "roles": ["admin"] } });
    for (name, token) in tokens {
        all[*name] = json!(token);
    }
    json!({
        "proxy": { "workers": 1, "auth": { "kind": "bearer_token", "tokens": all } },
        "mcpServers": { "db": { "url": url } }
    })
}

/// A config by which `token` is valid. Nothing is behind the gateway, so that a valid token gets 404 for a name that
/// does not exist, and any other 401.
fn with_token(token: &str) -> String {
    text(config("http://127.0.0.1:9/mcp", &[("user", token)]))
}

const NOWHERE: &str = "/nowhere";

/// A way to save, and its name.
type Writer<'a> = (&'a str, &'a dyn Fn(&str));

/// Saves a new token by each of `writers` in turn and waits until it, and only it, is valid.
async fn each_way_is_noticed(gate: &Process, writers: &[Writer<'_>]) {
    assert!(!writers.is_empty());
    let mut last = "first-token-0123456789abcdef".to_owned();
    gate.answers(NOWHERE, &last, 404).await;
    for (n, (name, write)) in writers.iter().enumerate() {
        let token = format!("token-{n}-0123456789abcdef");
        write(&with_token(&token));
        gate.answers(NOWHERE, &token, 404).await;
        assert_eq!(gate.get(NOWHERE, &last).await.0, 401, "{name}: the old token is still valid");
        last = token;
    }
    assert_eq!(
        gate.metric(OPS, r#"sluicegate_config_reloads_total{result="failure"}"#).await,
        0.0,
        "half a save was read: {}",
        gate.log.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_may_be_saved_in_any_way() {
    let (dir, first) = (TempDir::new().unwrap(), with_token("first-token-0123456789abcdef"));
    let path = dir.path().join("sluicegate.json");
    fs::write(&path, first).unwrap();
    let gate = Process::with_file(dir, path.clone()).await;
    let in_place = |text: &str| fs::write(&path, text).unwrap();
    let rename_over = |text: &str| save(&path, text);
    let slowly = |text: &str| {
        let mut file = File::create(&path).unwrap();
        for part in text.as_bytes().chunks(text.len() / 4 + 1) {
            file.write_all(part).unwrap();
            file.sync_data().unwrap();
            // Real time: a save that takes long is what is tried.
            std::thread::sleep(Duration::from_millis(70));
        }
    };
    let backup_and_new = |text: &str| {
        fs::rename(&path, path.with_extension("json~")).unwrap();
        fs::write(&path, text).unwrap();
    };
    let delete_and_recreate = |text: &str| {
        fs::remove_file(&path).unwrap();
        // Real time: a file that is gone for a while is what is tried.
        std::thread::sleep(Duration::from_millis(50));
        fs::write(&path, text).unwrap();
    };
    each_way_is_noticed(
        &gate,
        &[
            ("in place", &in_place),
            ("rename over", &rename_over),
            ("slowly", &slowly),
            ("backup and new", &backup_and_new),
            ("delete and recreate", &delete_and_recreate),
            ("in place again", &in_place),
        ],
    )
    .await;
}

fn relink(target: &Path, link: &Path) {
    let new = link.with_file_name("new-link");
    symlink(target, &new).unwrap();
    fs::rename(&new, link).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_behind_a_link_may_be_swapped_with_the_link_or_without() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().to_owned();
    let first = root.join("0.json");
    fs::write(&first, with_token("first-token-0123456789abcdef")).unwrap();
    let link = root.join("sluicegate.json");
    symlink(&first, &link).unwrap();
    let gate = Process::with_file(dir, link.clone()).await;
    let swapped = |text: &str| {
        fs::write(root.join("1.json"), text).unwrap();
        relink(&root.join("1.json"), &link);
    };
    let removed_and_linked = |text: &str| {
        fs::write(root.join("2.json"), text).unwrap();
        fs::remove_file(&link).unwrap();
        symlink(root.join("2.json"), &link).unwrap();
    };
    let behind_it = |text: &str| save(&root.join("2.json"), text);
    each_way_is_noticed(
        &gate,
        &[("swapped", &swapped), ("removed and linked", &removed_and_linked), ("behind it", &behind_it)],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_map_is_swapped_as_kubernetes_does() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().to_owned();
    let publish = |version: &str, text: &str| {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("sluicegate.json"), text).unwrap();
        relink(Path::new(version), &root.join("..data"));
    };
    publish("..v0", &with_token("first-token-0123456789abcdef"));
    let path = root.join("sluicegate.json");
    symlink("..data/sluicegate.json", &path).unwrap();
    let gate = Process::with_file(dir, path).await;
    let second = |text: &str| {
        publish("..v1", text);
        fs::remove_dir_all(root.join("..v0")).unwrap();
    };
    let third = |text: &str| {
        publish("..v2", text);
        fs::remove_dir_all(root.join("..v1")).unwrap();
    };
    each_way_is_noticed(&gate, &[("second", &second), ("third", &third)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_config_changes_nothing_and_is_seen_and_a_good_one_heals() {
    let server = Upstream::bind().await;
    let good = config(&server.url("/mcp"), &[("stays", STAYS)]);
    let gate = Process::start(good.clone()).await;
    let (mut client, mut behind) = open_stream(gate.addr, &server, STAYS).await;
    let successful = "sluicegate_config_last_reload_successful";
    assert_eq!(gate.metric(OPS, successful).await, 1.0);

    let mut bad = good.clone();
    bad["proxy"]["shutdwonGrace"] = json!("5s");
    let bad = text(bad);
    let line = 1 + bad.lines().position(|line| line.contains("shutdwonGrace")).unwrap();
    save(&gate.path, &bad);
    gate.log
        .line("Config not reloaded; the last good one stays in force", &[("level", json!("ERROR"))])
        .await;
    let problem = gate.log.line("Config", &[("level", json!("ERROR"))]).await["problem"].to_string();
    assert!(problem.contains(&format!("sluicegate.json:{line}:")), "{problem}");
    assert!(problem.contains("shutdwonGrace"), "{problem}");
    assert_eq!(gate.metric(OPS, successful).await, 0.0);
    assert_eq!(gate.get(NOWHERE, STAYS).await.0, 404, "the last good config is in force");
    passes(&mut behind, &mut client, "data: 1\n\n").await;

    // It is not told again what it was told: that, and a warning.
    let refused = "Config not reloaded; the last good one stays in force";
    gate.signal(Signal::HUP);
    gate.log.line(refused, &[("cause", json!("the same 2 problems as before"))]).await;
    let told =
        || gate.log.all().iter().filter(|line| line["msg"] == "Config" && line["level"] == "ERROR").count();
    assert_eq!(told(), 1, "{}", gate.log.text());

    // The very file that is in force, again.
    gate.save(good.clone());
    gate.log.line("Config reloaded", &[]).await;
    assert_eq!(gate.metric(OPS, successful).await, 1.0);
    passes(&mut behind, &mut client, "data: 2\n\n").await;

    // What was mended since is news.
    save(&gate.path, &bad);
    until("it is told", || told() == 2).await;
    assert!(!gate.log.text().contains(STAYS), "a token in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads_whether_the_file_changed_or_not() {
    let gate = Process::start(config("http://127.0.0.1:9/mcp", &[])).await;
    gate.signal(Signal::HUP);
    gate.log.line("Config reloaded", &[]).await;
    assert_eq!(gate.metric(OPS, r#"sluicegate_config_reloads_total{result="success"}"#).await, 1.0);
}

/// A script that saves often and sends a signal each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_signals_are_a_few_reloads() {
    let gate = Process::start(config("http://127.0.0.1:9/mcp", &[])).await;
    // Real time: how many reloads are few depends on how long the storm took.
    let began = Instant::now();
    for _ in 0..1_000 {
        gate.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(1));
    }
    gate.save(config("http://127.0.0.1:9/mcp", &[("stays", STAYS)]));
    gate.answers(NOWHERE, STAYS, 404).await;
    let (took, lines) = (began.elapsed(), gate.log.all());
    let reloads = lines.iter().filter(|line| line["msg"] == "Config reloaded").count();
    assert!(reloads as f64 <= 1.0 + 20.0 * took.as_secs_f64(), "{reloads} reloads in {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_what_a_reload_changed() {
    let server = Upstream::bind().await;
    let url = server.url("/mcp");
    let mut before =
        config(&url, &[("stays", STAYS), ("goes", GOES), ("turns", "turns-token-0123456789abcdef")]);
    before["mcpServers"]["gone"] = json!({ "url": "http://127.0.0.1:9/mcp" });
    before["mcpServers"]["moved"] = json!({ "url": "http://127.0.0.1:9/mcp" });
    let gate = Process::start(before.clone()).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, STAYS).await;
    let mut cut = Vec::new();
    for _ in 0..3 {
        cut.push(open_stream(gate.addr, &server, GOES).await);
    }

    let mut after = before;
    let tokens = after["proxy"]["auth"]["tokens"].as_object_mut().unwrap();
    tokens.remove("goes");
    tokens.insert("turns".to_owned(), json!("turned-token-0123456789abcdef"));
    let servers = after["mcpServers"].as_object_mut().unwrap();
    servers.remove("gone");
    servers["moved"]["url"] = json!("http://127.0.0.1:8/mcp");
    for n in 10..30 {
        servers.insert(format!("s{n}"), json!({ "url": "http://127.0.0.1:9/mcp" }));
    }
    gate.save(after.clone());
    let line = gate.log.line("Config reloaded", &[]).await;
    for (key, value) in [
        ("servers", json!(22)),
        ("servers_added", json!("s10, s11, s12, s13, s14, s15, s16, s17 and 12 more")),
        ("servers_removed", json!("gone")),
        ("servers_changed", json!("moved")),
        ("tokens_removed", json!("goes")),
        ("tokens_changed", json!("turns")),
        ("streams_cut", json!(3)),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert!(line.get("tokens_added").is_none(), "{line}");
    passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;

    gate.signal(Signal::HUP);
    gate.log.line("Config reloaded", &[("streams_cut", json!(0)), ("servers_added", Value::Null)]).await;
}

/// Somebody saves all the time: what he saves applies all the same, a removal too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_saves_the_newest_state_applies() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    let url = "http://127.0.0.1:9/mcp";
    fs::write(&path, text(config(url, &[]))).unwrap();
    let gate = Process::with_file(dir, path.clone()).await;
    type Save = fn(&Path, &str);
    let in_place: Save = |path, text| fs::write(path, text).unwrap();
    for save in [in_place, save] {
        let (has_user, is_over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let storm = std::thread::spawn({
            let (path, has_user, is_over) = (path.clone(), Arc::clone(&has_user), Arc::clone(&is_over));
            move || {
                for n in 0.. {
                    let passing = format!("passing-token-{n}-0123456789abcdef");
                    let user = has_user.load(Ordering::Relaxed).then_some(("user", STAYS));
                    let tokens: Vec<_> = [("passing", &*passing)].into_iter().chain(user).collect();
                    save(&path, &text(config(url, &tokens)));
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    // Real time: saves follow each other, as fast as a watcher may not settle.
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        gate.answers(NOWHERE, STAYS, 404).await;
        has_user.store(false, Ordering::Relaxed);
        gate.answers(NOWHERE, STAYS, 401).await;
        is_over.store(true, Ordering::Relaxed);
        storm.join().unwrap();
    }
    let failures = gate.metric(OPS, r#"sluicegate_config_reloads_total{result="failure"}"#).await;
    assert_eq!(failures, 0.0, "half a save was taken for a config: {}", gate.log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_problems_the_log_shows_a_hundred_and_their_number() {
    let gate = Process::start(config("http://127.0.0.1:9/mcp", &[])).await;
    let mut bad = config("http://127.0.0.1:9/mcp", &[]);
    for n in 0..1_000 {
        bad["proxy"][format!("unheardOf{n}")] = json!(n);
    }
    gate.save(bad);
    gate.log.line("Config not reloaded; the last good one stays in force", &[]).await;
    let lines = gate.log.all();
    let said = lines.iter().filter(|line| line["msg"] == "Config" && line["level"] == "ERROR");
    let said: Vec<_> = said.map(|line| line["problem"].to_string()).collect();
    assert_eq!(said.len(), 101, "{said:?}");
    assert!(said[100].contains(" more like these"), "{}", said[100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_a_removed_token_ends_and_the_others_lose_nothing() {
    let server = Upstream::bind().await;
    let url = server.url("/mcp");
    let gate = Process::start(config(&url, &[("stays", STAYS), ("goes", GOES)])).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, STAYS).await;
    let (mut cut, mut behind_cut) = open_stream(gate.addr, &server, GOES).await;
    // One that waits for its head is admitted by the same token.
    let mut waits = gate.client().await;
    waits.send(post("/db", GOES, "", "{}")).await;
    let mut behind_waiting = server.accept().await;
    behind_waiting.head().await;
    behind_waiting.exactly(2).await;
    passes(&mut behind_cut, &mut cut, "data: 1\n\n").await;
    passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;

    gate.save(config(&url, &[("stays", STAYS)]));
    let rest = String::from_utf8(soon("the cut", cut.rest()).await).unwrap();
    assert!(!rest.contains('0'), "an end was made up: {rest:?}");
    assert_eq!(soon("the end of the server's stream", behind_cut.rest()).await, b"");
    gate.log
        .line("Stream closed", &[("reason", json!("token_revoked")), ("token_name", json!("goes"))])
        .await;
    assert_eq!(waits.response().await.0, 401);
    assert_eq!(soon("the end of the waiting request", behind_waiting.rest()).await, b"");
    assert_eq!(gate.get("/db", GOES).await.0, 401);
    for n in 2..10 {
        passes(&mut behind_kept, &mut kept, &format!("data: {n}\n\n")).await;
    }
    assert_eq!(gate.metric(OPS, r#"sluicegate_stream_cut_total{reason="token_revoked"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_takes_its_stream_with_it() {
    let server = Upstream::bind().await;
    // Real time: the gateway is a process of its own, and so is its clock.
    let expires = SystemTime::now() + Duration::from_secs(3);
    let mut config = config(&server.url("/mcp"), &[("stays", STAYS)]);
    config["proxy"]["auth"]["tokens"]["goes"] =
        json!({ "value": GOES, "expires": humantime::format_rfc3339_millis(expires).to_string() });
    let gate = Process::start(config).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, STAYS).await;
    let (mut cut, mut behind_cut) = open_stream(gate.addr, &server, GOES).await;
    passes(&mut behind_cut, &mut cut, "data: 1\n\n").await;
    soon("the cut", cut.rest()).await;
    assert!(SystemTime::now() >= expires, "not before it expires");
    gate.log.line("Stream closed", &[("reason", json!("token_revoked"))]).await;
    assert_eq!(gate.get("/db", GOES).await.0, 401);
    passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_loses_a_server_loses_its_streams_there_only() {
    let (server, other) = (Upstream::bind().await, Upstream::bind().await);
    let granted = |to_db: &[&str]| {
        let mut config = config(&server.url("/mcp"), &[("stays", STAYS), ("goes", GOES)]);
        config["mcpServers"]["db"]["authTokens"] = json!(to_db);
        config["mcpServers"]["other"] = json!({ "url": other.url("/mcp") });
        config
    };
    let gate = Process::start(granted(&["stays", "goes"])).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, STAYS).await;
    let (mut cut, _behind_cut) = open_stream(gate.addr, &server, GOES).await;
    let mut elsewhere = gate.client().await;
    elsewhere.send(get("/other", GOES, "")).await;
    let mut behind_elsewhere = other.accept().await;
    behind_elsewhere.head().await;
    behind_elsewhere.send(crate::harness::SSE).await;
    elsewhere.head().await;

    gate.save(granted(&["stays"]));
    soon("the cut", cut.rest()).await;
    assert_eq!(gate.get("/db", GOES).await.0, 403);
    passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;
    passes(&mut behind_elsewhere, &mut elsewhere, "data: 1\n\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_address_is_said_to_need_a_restart_and_the_rest_is_taken() {
    let mut moved = config("http://127.0.0.1:9/mcp", &[("stays", STAYS)]);
    let gate = Process::start(config("http://127.0.0.1:9/mcp", &[])).await;
    moved["proxy"]["addr"] = json!("127.0.0.1:1");
    gate.save(moved);
    gate.answers(NOWHERE, STAYS, 404).await;
    let fields = [("level", json!("WARN")), ("keys", json!("addr"))];
    gate.log.line("Changed keys that take effect at the next start", &fields).await;
}

#[test]
fn a_bad_config_at_the_start_ends_with_2_and_every_problem() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    let mut bad = config("ftp://127.0.0.1/", &[("user", "$env:SLUICEGATE_NO_SUCH_VARIABLE")]);
    bad["mcpServers"]["db"]["authTokens"] = json!(["nobody"]);
    bad["proxy"]["unheardOf"] = json!(1);
    fs::write(&path, text(bad)).unwrap();
    let output = serve(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    for expected in
        ["mcpServers.db.url", "SLUICEGATE_NO_SUCH_VARIABLE", "mcpServers.db.authTokens[0]", "unheardOf"]
    {
        assert!(told.contains(expected), "{expected} is not among\n{told}");
    }
    // Each with its place, and the line that it is about below, without what may be a secret.
    for line in told.lines().filter(|line| !line.contains(" |")) {
        assert!(line.contains("sluicegate.json:"), "without its place: {line}");
    }
    assert!(!told.contains("nobody"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_servers_survive_a_reload_that_does_not_touch_them() {
    let server = Upstream::bind().await;
    let url = server.url("/mcp");
    let gate = Process::start(config(&url, &[])).await;
    let mut client = gate.client().await;
    client.send(get("/db", OPS, "")).await;
    let mut behind = server.accept().await;
    for n in 0..3 {
        behind.head().await;
        behind.send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\n{}").await;
        assert_eq!(client.response().await.0, 200);
        let token = format!("token-{n}-0123456789abcdef");
        gate.save(config(&url, &[("user", &token)]));
        gate.answers(NOWHERE, &token, 404).await;
        client.send(get("/db", &token, "")).await;
    }
    behind.head().await;
    assert!(!server.was_reached().await, "a second connection was opened");

    // One to a server that is gone is closed.
    behind.send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(client.response().await.0, 200);
    gate.save(config("http://127.0.0.1:9/mcp", &[]));
    assert_eq!(soon("the end of a connection without use", behind.rest()).await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_and_its_key_may_be_replaced_in_two_steps() {
    let (identity, renewed) = (Identity::new(), Identity::new());
    let mut config = config("http://127.0.0.1:9/mcp", &[]);
    config["proxy"]["tls"] = identity.config();
    let gate = Process::start(config).await;
    let connect = async |to: &Identity| {
        let tcp = TcpStream::connect(gate.addr).await.unwrap();
        to.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await
    };
    connect(&identity).await.unwrap();

    identity.write_cert(&renewed.made);
    gate.log.line("Config reloaded, but for files that cannot be used", &[]).await;
    connect(&identity).await.expect("the old pair is presented until the new one is whole");
    identity.write_key(&renewed.made);
    soon("the new certificate", async {
        while connect(&renewed).await.is_err() {
            pause().await;
        }
    })
    .await;
    assert!(connect(&identity).await.is_err(), "the old certificate is still presented");
}

/// A pair for `localhost` that clients take between the first days of these years, in place of the one in the files.
fn write_pair(identity: &Identity, from: i32, to: i32) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(identity.path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(identity.path("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_no_client_takes_now_is_no_success_and_the_last_good_one_stays() {
    for (from, to, said) in [
        (2000, 2001, "The new certificate has expired; the last good one stays"),
        (2900, 2901, "The new certificate is not valid yet; the last good one stays"),
    ] {
        let identity = Identity::new();
        let mut config = config("http://127.0.0.1:9/mcp", &[]);
        config["proxy"]["tls"] = identity.config();
        let gate = Process::start(config).await;
        let connect = async || {
            let tcp = TcpStream::connect(gate.addr).await.unwrap();
            identity.connect(tcp, &["http/1.1"], rustls::DEFAULT_VERSIONS).await
        };
        let is_successful = async || {
            let mut client = Client::new(connect().await.unwrap());
            client.send(get("/metrics", OPS, "")).await;
            client.response().await.2.contains("\nsluicegate_config_last_reload_successful 1\n")
        };
        assert!(is_successful().await);
        write_pair(&identity, from, to);
        gate.log.line(said, &[("level", json!("ERROR"))]).await;
        // Of the pair as a whole, and once more when it is asked for.
        for asked in 1..=2 {
            until("it is said to be a part", || {
                let log = gate.log.text();
                let behind = log.split(said).skip(1);
                behind.filter(|behind| behind.contains("Config reloaded, but for files")).count() >= asked
            })
            .await;
            assert!(!is_successful().await);
            gate.signal(Signal::HUP);
        }
        identity.write_cert(&identity.made);
        identity.write_key(&identity.made);
        // The log is no word on it: files that were written just before the start may be loaded once more behind it.
        soon("the pair is whole again", async {
            while !is_successful().await {
                pause().await;
            }
        })
        .await;
    }
}

/// A leaked token is taken out while something else is broken: it ends all the same.
#[tokio::test]
async fn a_removal_applies_whatever_files_are_broken() {
    let (identity, other) = (Identity::new(), Identity::new());
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file.token");
    fs::write(&file, "file-token-0123456789abcdef").unwrap();
    let mut config = config("http://127.0.0.1:9/mcp", &[("stays", STAYS), ("goes", GOES)]);
    config["proxy"]["tls"] = identity.config();
    config["proxy"]["auth"]["tokens"]["file"] = json!({ "$file": file });
    let gate = Process::start(config.clone()).await;
    let ask = async |token: &str| {
        let tcp = TcpStream::connect(gate.addr).await.unwrap();
        let stream = identity.connect(tcp, &["http/1.1"], rustls::DEFAULT_VERSIONS).await.unwrap();
        let mut client = Client::new(stream);
        client.send(get(NOWHERE, token, "")).await;
        client.response().await.0
    };
    let tokens = [STAYS, GOES, "file-token-0123456789abcdef"];
    for token in tokens {
        assert_eq!(ask(token).await, 404, "{token} is valid");
    }

    fs::remove_file(&file).unwrap();
    identity.write_cert(&other.made);
    config["proxy"]["auth"]["tokens"].as_object_mut().unwrap().remove("goes");
    gate.save(config);
    soon("the removed token is refused", async {
        while ask(GOES).await != 401 {
            pause().await;
        }
    })
    .await;
    assert_eq!(ask("file-token-0123456789abcdef").await, 401, "a credential whose file is gone is closed");
    assert_eq!(ask(STAYS).await, 404);
    gate.log.line("Config reloaded, but for files that cannot be used", &[]).await;
    let said = gate.log.text();
    for part in ["do not match", "file.token"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

/// Whoever takes every descriptor is stopped by taking its token away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_applies_when_all_descriptors_are_in_use() {
    let url = "http://127.0.0.1:9/mcp";
    let gate = Process::start(config(url, &[("stays", STAYS), ("goes", GOES)])).await;
    let mut client = gate.client().await;
    let mut ask = async |token: &str| {
        client.send(get(NOWHERE, token, "")).await;
        client.response().await.0
    };
    assert_eq!((ask(GOES).await, ask(STAYS).await), (404, 404));

    gate.lower_open_files();
    gate.save(config(url, &[("stays", STAYS)]));
    gate.log.line("Config reloaded", &[("tokens_removed", json!("goes"))]).await;
    assert_eq!((ask(GOES).await, ask(STAYS).await), (401, 404));
    // The descriptors are back for the next time.
    gate.save(config(url, &[]));
    gate.log.line("Config reloaded", &[("tokens_removed", json!("stays"))]).await;
    assert_eq!(ask(STAYS).await, 401);
    assert!(!gate.log.text().contains("Config not reloaded"), "{}", gate.log.text());
}
