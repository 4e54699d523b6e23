//! What a config takes away is gone, whatever else is wrong with it: a leaked token is taken out in a hurry.

use serde_json::{Value, json};

use crate::{
    harness::{Client, Upstream, open_stream, passes, soon},
    process::{Process, save, text},
    reload::{GOES, OPS, STAYS, config},
};

const NOWHERE: &str = "/nowhere";
const REFUSED: &str = "Config not reloaded; the last good one stays in force";
const RESTRICTED: &str =
    "Config not reloaded; the last good one stays in force, without what this one takes away";

const BOTH: &[(&str, &str)] = &[("stays", STAYS), ("goes", GOES)];
const ONE: &[(&str, &str)] = &[("stays", STAYS)];

/// How a config may be refused.
type Mistake = fn(&mut Value);
const MISTAKES: &[(&str, Mistake)] = &[
    ("a key that nobody knows", |config| config["proxy"]["unheardOf"] = json!(1)),
    ("no such time", |config| config["proxy"]["shutdownGrace"] = json!("soon")),
    ("a server without a target", |config| config["mcpServers"]["more"] = json!({})),
    ("a server that is no object", |config| config["mcpServers"]["db"] = json!(1)),
    ("a token that nobody has", |config| {
        config["mcpServers"]["db"]["authTokens"] = json!(["stays", "nobody"]);
    }),
    ("a variable that is not set", |config| {
        config["proxy"]["auth"]["tokens"]["more"] = json!("$env:SLUICEGATE_NO_SUCH_VARIABLE");
    }),
    ("another token that is no hash", |config| {
        config["proxy"]["auth"]["tokens"]["more"] = json!({ "sha256": "short" });
    }),
    ("no server list", |config| drop(config.as_object_mut().unwrap().remove("mcpServers"))),
    ("no server", |config| config["mcpServers"] = json!({})),
];

async fn reads_on(client: &mut Client<tokio::net::TcpStream>, behind: &mut Client<tokio::net::TcpStream>) {
    passes(behind, client, "data: 1\n\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_out_is_closed_whatever_is_wrong_with_the_rest() {
    let server = Upstream::bind().await;
    let url = server.url("/mcp");
    let gate = Process::start(config(&url, BOTH)).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, STAYS).await;
    for (mistake, make) in MISTAKES {
        gate.save(config(&url, BOTH));
        gate.answers(NOWHERE, GOES, 404).await;
        let (mut cut, mut behind_cut) = open_stream(gate.addr, &server, GOES).await;
        reads_on(&mut cut, &mut behind_cut).await;

        let mut bad = config(&url, ONE);
        make(&mut bad);
        gate.save(bad);
        gate.answers(NOWHERE, GOES, 401).await;
        soon("the cut", cut.rest()).await;
        assert_eq!(gate.get(NOWHERE, STAYS).await.0, 404, "{mistake}");
        reads_on(&mut kept, &mut behind_kept).await;
        let (mut more, mut behind_more) = open_stream(gate.addr, &server, STAYS).await;
        reads_on(&mut more, &mut behind_more).await;
        assert_eq!(gate.metric(OPS, "sluicegate_config_last_reload_successful").await, 0.0, "{mistake}");
    }
    let fields = [("level", json!("ERROR")), ("tokens_removed", json!("goes")), ("streams_cut", json!(1))];
    gate.log.line(RESTRICTED, &fields).await;
    assert!(!gate.log.text().contains(GOES), "a token in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_taken_away_is_gone_too() {
    let server = Upstream::bind().await;
    let mut granted = config(&server.url("/mcp"), BOTH);
    granted["mcpServers"]["db"]["authTokens"] = json!(["stays", "goes"]);
    let gate = Process::start(granted.clone()).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, STAYS).await;
    let (mut cut, mut behind_cut) = open_stream(gate.addr, &server, GOES).await;
    reads_on(&mut cut, &mut behind_cut).await;

    let mut bad = granted;
    bad["mcpServers"]["db"]["authTokens"] = json!(["stays"]);
    bad["proxy"]["unheardOf"] = json!(1);
    gate.save(bad);
    soon("the cut", cut.rest()).await;
    assert_eq!(gate.get("/db", GOES).await.0, 403);
    reads_on(&mut kept, &mut behind_kept).await;
    gate.log.line(RESTRICTED, &[("servers_changed", json!("db"))]).await;
}

/// What a file takes away, by itself or beside a mistake; and what `GOES` gets from then on.
const TAKES: &[(&str, Mistake, u16)] = &[
    ("one is left beside a slip", |db| db["authTokens"] = json!(["stays", "goess"]), 403),
    ("one is a slip", |db| db["authTokens"] = json!(["goess"]), 403),
    ("one is left beside a number", |db| db["authTokens"] = json!(["stays", 7]), 403),
    ("one is left beside a variable", |db| db["authTokens"] = json!(["stays", "$env:SLUICEGATE_NONE"]), 403),
    (
        "a list beside `public`",
        |db| *db = json!({"public": true, "authTokens": ["stays"], "url": db["url"]}),
        403,
    ),
    (
        "a list in two places",
        |db| {
            db["authTokens"] = json!(["stays"]);
            db["options"] = json!({ "authTokens": ["stays"] });
        },
        403,
    ),
    ("roles beside a slip", |db| db["roles"] = json!(["admin", ""]), 403),
    (
        "roles beside a list that is none",
        |db| {
            db["authTokens"] = json!("stays");
            db["roles"] = json!(["admin"]);
        },
        403,
    ),
    (
        "a server that is off",
        |db| {
            db["disabled"] = json!(true);
            db["timeout"] = json!("soon");
        },
        503,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_of_a_grant_with_a_mistake_takes_away() {
    let server = Upstream::bind().await;
    let mut granted = config(&server.url("/mcp"), BOTH);
    granted["mcpServers"]["db"]["authTokens"] = json!(["stays", "goes"]);
    let gate = Process::start(granted.clone()).await;
    for (number, (what, take, status)) in TAKES.iter().enumerate() {
        let (mut cut, mut behind_cut) = open_stream(gate.addr, &server, GOES).await;
        reads_on(&mut cut, &mut behind_cut).await;
        let mut bad = granted.clone();
        take(&mut bad["mcpServers"]["db"]);
        gate.save(bad);
        soon(what, cut.rest()).await;
        assert_eq!(gate.get("/db", GOES).await.0, *status, "{what}");
        assert_eq!(gate.metric(OPS, "sluicegate_config_last_reload_successful").await, 0.0, "{what}");
        gate.save(granted.clone());
        let reloads = || gate.log.all().iter().filter(|line| line["msg"] == "Config reloaded").count();
        crate::harness::until("the reload", || reloads() > number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_cannot_be_read_at_all_stays() {
    let server = Upstream::bind().await;
    let mut granted = config(&server.url("/mcp"), BOTH);
    granted["mcpServers"]["db"]["authTokens"] = json!(["stays", "goes"]);
    granted["mcpServers"]["open"] = json!({ "url": "http://127.0.0.1:9/mcp", "public": true });
    let gate = Process::start(granted.clone()).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, GOES).await;
    let changes: &[Mistake] = &[
        |config| config["mcpServers"]["db"]["authTokens"] = json!("stays"),
        |config| config["mcpServers"]["db"]["authTokens"] = json!({ "stays": 1 }),
        |config| config["mcpServers"]["db"]["disabled"] = json!("true"),
        |config| config["mcpServers"]["open"]["public"] = json!("true"),
        |config| config["mcpServers"]["open"] = json!({ "url": "http://h/", "pubilc": true }),
        |config| config["mcpServers"] = json!([]),
        |config| {
            let servers = config["mcpServers"].take();
            *config = json!({ "proxy": config["proxy"], "servers": { "open": servers["open"] } });
        },
    ];
    let refusals = || gate.log.all().iter().filter(|line| line["msg"] == REFUSED).count();
    for (number, change) in changes.iter().enumerate() {
        let mut bad = granted.clone();
        change(&mut bad);
        gate.save(bad);
        crate::harness::until("the refusal", || refusals() > number).await;
        assert_eq!(gate.get("/open", "").await.0, 502, "{number}");
        reads_on(&mut kept, &mut behind_kept).await;
    }
    // Of two lists, nobody knows which was meant.
    let twice = text(granted).replacen(r#""authTokens""#, r#""authTokens":["stays"],"authTokens""#, 1);
    save(&gate.path, &twice);
    crate::harness::until("the refusal", || refusals() > changes.len()).await;
    reads_on(&mut kept, &mut behind_kept).await;
}

/// A server that is taken out, one that is not public any more, and a token in the URL are grants that are taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_and_ways_in_that_are_taken_out_are_gone_too() {
    let server = Upstream::bind().await;
    let mut granted = config(&server.url("/mcp"), BOTH);
    granted["proxy"]["auth"]["queryToken"] = json!(true);
    granted["mcpServers"]["open"] = json!({ "url": "http://127.0.0.1:9/mcp", "public": true });
    granted["mcpServers"]["stays"] = json!({ "url": "http://127.0.0.1:9/mcp" });
    let gate = Process::start(granted.clone()).await;
    let (mut cut, mut behind_cut) = open_stream(gate.addr, &server, STAYS).await;
    reads_on(&mut cut, &mut behind_cut).await;
    let by_query = async || {
        let mut client = gate.client().await;
        client.send(format!("GET /stays?token={STAYS} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        client.response().await.0
    };
    let said = |msg: &str| gate.log.all().iter().filter(|line| line["msg"] == msg).count();
    assert_eq!(by_query().await, 502);

    let mut bad = granted.clone();
    bad["proxy"]["unheardOf"] = json!(1);
    bad["mcpServers"].as_object_mut().unwrap().remove("db");
    bad["mcpServers"]["new"] = json!({ "url": server.url("/mcp") });
    gate.save(bad.clone());
    soon("the cut", cut.rest()).await;
    assert_eq!(gate.get("/db", STAYS).await.0, 404);
    assert_eq!(gate.get("/new", STAYS).await.0, 404, "nothing is added");
    gate.log.line(RESTRICTED, &[("servers_removed", json!("db"))]).await;

    bad["mcpServers"]["open"].as_object_mut().unwrap().remove("public");
    gate.save(bad.clone());
    gate.answers("/open", "", 401).await;
    bad["proxy"]["auth"]["queryToken"] = json!(false);
    gate.save(bad);
    crate::harness::until("the refusal", || said(RESTRICTED) == 3).await;
    assert_eq!(by_query().await, 401);
    assert_eq!(gate.get("/stays", STAYS).await.0, 502);
    // What is mended is there again.
    gate.save(granted);
    crate::harness::until("the reload", || said("Config reloaded") == 1).await;
    assert_eq!(by_query().await, 502);
}

/// Where nobody can tell what was meant, nothing is taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_file_and_a_slip_on_the_way_to_the_tokens_take_nothing_away() {
    let url = "http://127.0.0.1:9/mcp";
    let gate = Process::start(config(url, BOTH)).await;
    let whole = text(config(url, ONE));
    let slip = |from: &str, to: &str| whole.replacen(from, to, 1);
    let files = [
        whole[..whole.len() - 4].to_owned(),
        whole[..whole.len() / 2].to_owned(),
        "".to_owned(),
        slip(r#""proxy""#, r#""prxy""#),
        slip(r#""auth""#, r#""auht""#),
        slip(r#""tokens""#, r#""tokns""#),
        slip(r#""bearer_token""#, r#""bearer""#),
        slip(r#""tokens""#, r#""tokens": {}, "tokens""#),
        slip(r#""proxy""#, r#""proxy": {}, "proxy""#),
        slip(r#""tokens": {"#, r#""tokens": [], "more": {"#),
    ];
    for (number, file) in files.iter().enumerate() {
        save(&gate.path, file);
        let refusals = || gate.log.all().iter().filter(|line| line["msg"] == REFUSED).count();
        crate::harness::until("the refusal", || refusals() > number).await;
        assert_eq!(gate.get(NOWHERE, GOES).await.0, 404, "{file}\n{}", gate.log.text());
    }
    assert!(!gate.log.text().contains("takes away"), "{}", gate.log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_without_servers_is_refused_unless_it_is_meant() {
    let url = "http://127.0.0.1:9/mcp";
    let gate = Process::start(config(url, BOTH)).await;
    let mut empty = config(url, BOTH);
    empty["mcpServers"] = json!({});
    gate.save(empty.clone());
    let said = gate.log.line(REFUSED, &[("level", json!("ERROR"))]).await;
    assert!(said["cause"].as_str().unwrap().contains("allowEmpty"), "{said}");
    assert_eq!(gate.get("/db", STAYS).await.0, 502, "the server is there");

    // The last token, too.
    empty["proxy"]["auth"]["tokens"] = json!({});
    gate.save(empty.clone());
    for token in [STAYS, GOES, OPS] {
        gate.answers(NOWHERE, token, 401).await;
    }

    empty["proxy"]["auth"]["tokens"] = json!({ "stays": STAYS });
    empty["proxy"]["allowEmpty"] = json!(true);
    gate.save(empty);
    let fields = [("servers", json!(0)), ("servers_removed", json!("db")), ("tokens_added", json!("stays"))];
    gate.log.line("Config reloaded", &fields).await;
    assert_eq!(gate.get("/db", STAYS).await.0, 404);
}
