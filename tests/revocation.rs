//! Whatever takes a right away, in each way that there is, while other streams run: requests are refused and streams end soon,
//! and the others lose nothing.
//!
//! Real time: this measures, and at full size it holds figures that the project promises.
//!
//! Small by default. The figures that the project promises come from the full size:
//!
//! ```text
//! SLUICEGATE_REVOCATIONS=200 SLUICEGATE_STREAMS=500 cargo test --test revocation -- --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    fmt::Write as _,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::{
    browser::{Browser, PLAIN, form},
    harness::{DEV, pause, soon},
    idp::TestIdp,
    issuer::{TestIssuer, claims},
    numbered::{
        PACE, becomes, connect, count_events, from_env, percentile, raise_file_limit, server, status, stream,
    },
    process::{Process, program, save, text},
    users::{CHEAP_HASHES, Tokens, bare, log_in, refresh},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Users, and tokens, whose streams run for the whole test.
const OTHERS: usize = 10;
/// Streams of each caller that loses its right.
const STREAMS_OF_ONE: usize = 3;

/// What takes a right away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Logout,
    Replay,
    Disabled,
    Removed,
    Password,
    Role,
    TokenRevoke,
    /// The issuer of its token is taken out.
    Issuer,
    /// What gave it a role for what its token says.
    Assign,
    /// The identity provider at which its user logged in is taken out.
    Idp,
    /// It is a program that has tokens for itself, and is taken out.
    Client,
}

const WAYS: [Way; 11] = [
    Way::Logout,
    Way::Replay,
    Way::Disabled,
    Way::Removed,
    Way::Password,
    Way::Role,
    Way::TokenRevoke,
    Way::Issuer,
    Way::Assign,
    Way::Idp,
    Way::Client,
];

/// A program that asks for tokens of others, and where it is answered.
const PROGRAM: (&str, &str) = ("program", "https://app.example/callback");
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Its SHA-256.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The caller that loses its right in a round.
fn name(round: usize) -> String {
    format!("loses-{round}")
}

fn other(n: usize) -> String {
    format!("keeps-{}", n % OTHERS)
}

fn token_of(name: &str) -> String {
    format!("{name}-token-0123456789abcdef")
}

/// An issuer of this name, by the keys of `issuer`.
fn issuer_of(issuer: &TestIssuer, name: &str) -> Value {
    let mut config = issuer.config();
    config["issuer"] = json!(format!("{}/{name}", issuer.url()));
    config
}

/// The token of somebody whose name it says, of the issuer of this name.
fn jwt(issuer: &TestIssuer, of: &str, name: &str) -> String {
    // Who has an issuer alone is given the role for something that all of them are given it for.
    let all = if of == name { "reader" } else { "nothing" };
    let says = claims(&format!("{}/{of}", issuer.url()), name, json!({ "name": name, "all": all }));
    issuer.sign(json!({ "typ": "at+jwt" }), &says)
}

/// The identity provider, with whom it lets in.
fn add_idp(auth: &mut Value, idp: &TestIdp) {
    auth["idp"] = idp.config();
    auth["allowedDomains"] = json!(["corp.example"]);
}

/// What a program gets that somebody lets in who logs in at the identity provider.
async fn let_in(addr: SocketAddr, idp: &TestIdp) -> String {
    let mut browser = Browser::plain(addr, PLAIN);
    let (id, redirect) = PROGRAM;
    let target = format!(
        "/authorize?response_type=code&client_id={id}&redirect_uri={redirect}&code_challenge={CHALLENGE}\
         &code_challenge_method=S256&state=x&scope=mcp"
    );
    // The provider may have been added a moment ago.
    let page = soon("a page that leads to the provider", async {
        loop {
            let page = browser.get(&target).await;
            if page.body.contains("name=\"idp\"") {
                return page;
            }
            pause().await;
        }
    })
    .await;
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let form = [("csrf", &*csrf), ("flow", &*flow), ("idp", "continue")];
    let to = browser.submit("/oauth/login", &form).await;
    let page = browser.get(&idp.sends_back(&to.leads_to().unwrap()).await).await;
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let form = [("csrf", &*csrf), ("flow", &flow), ("answer", "approve"), ("scope:mcp", "on")];
    let code = browser.submit("/oauth/consent", &form).await.answer("code").unwrap();
    let shown = [("code", &*code), ("redirect_uri", redirect), ("code_verifier", VERIFIER)];
    access(addr, &[&[("grant_type", "authorization_code"), ("client_id", id)], &shown[..]].concat()).await
}

/// The access token that comes of this.
async fn access(addr: SocketAddr, fields: &[(&str, &str)]) -> String {
    let mut client = connect(addr).await;
    client.send(form("/token", "", fields)).await;
    let (status, _, body) = client.response().await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned()
}

fn config(server: SocketAddr, rounds: usize, issuer: &TestIssuer, idp: &TestIdp) -> Value {
    let user = json!({ "passwordHash": CHEAP_HASHES[0], "roles": ["reader"] });
    let (mut users, mut tokens) = (json!({}), json!({ "dev": DEV }));
    for n in 0..OTHERS {
        users[other(n)] = user.clone();
        tokens[other(n)] = json!({ "value": token_of(&other(n)), "roles": ["reader"] });
    }
    let mut issuers = json!({ "people": issuer_of(issuer, "people") });
    let (id, redirect) = PROGRAM;
    let mut clients = json!({ id: { "redirectUris": [redirect] } });
    let mut assign = vec![json!({ "if": { "claim": "all", "has": "reader" }, "roles": ["reader"] })];
    for round in 0..rounds {
        match WAYS[round % WAYS.len()] {
            Way::Issuer => issuers[name(round)] = issuer_of(issuer, &name(round)),
            Way::Assign => {
                let condition = json!({ "issuer": "people", "claim": "name", "has": name(round) });
                assign.push(json!({ "if": condition, "roles": ["reader"] }));
            }
            Way::TokenRevoke => {
                tokens[name(round)] = json!({ "value": token_of(&name(round)), "roles": ["reader"] });
            }
            Way::Idp => {}
            Way::Client => {
                let secret = hex::encode(Sha256::digest(token_of(&name(round))));
                clients[name(round)] = json!({
                    "secretSha256": secret, "grants": ["client_credentials"], "roles": ["reader"],
                });
            }
            _ => users[name(round)] = user.clone(),
        }
    }
    let mut config = json!({
        "proxy": {
            "workers": 2,
            "baseUrl": PLAIN,
            "auth": {
                "kind": "oauth",
                "storage": "memory",
                "clients": clients,
                "tokens": tokens,
                "users": users,
                "sessions": { "reuseGrace": "0s" },
                "issuers": issuers,
                "assign": assign,
            },
        },
        "mcpServers": { "db": { "url": format!("http://{server}/mcp"), "roles": ["reader"] } },
    });
    add_idp(&mut config["proxy"]["auth"], idp);
    config
}

/// Takes the right of `name` away, and says from which moment on it has none. That is before the first byte of the change, where
/// it is a request or a command, and before the new file has the name of the old one, where it is a change of the config.
async fn revoke(gate: &Process, config: &mut Value, way: Way, name: &str, tokens: &Tokens) -> Instant {
    let mut client = connect(gate.addr).await;
    let auth = &mut config["proxy"]["auth"];
    match way {
        Way::Logout => {
            let began = Instant::now();
            client.send(bare("/auth/logout", &json!({ "refreshToken": tokens.refresh }))).await;
            assert_eq!(client.response().await.0, 204);
            return began;
        }
        Way::Replay => {
            refresh(&mut client, &tokens.refresh).await;
            let began = Instant::now();
            client.send(bare("/auth/refresh", &json!({ "refreshToken": tokens.refresh }))).await;
            assert_eq!(client.response().await.0, 401);
            return began;
        }
        Way::TokenRevoke => {
            // The command finds what the test wrote, and the test goes on with what the command left.
            auth["tokens"].as_object_mut().unwrap().remove(name);
            let mut command = Command::new(program());
            command.args(["token", "revoke", name, "-c"]).arg(&gate.path);
            let began = Instant::now();
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{output:?}");
            return began;
        }
        Way::Idp => {
            auth.as_object_mut().unwrap().retain(|key, _| !["idp", "allowedDomains"].contains(&&**key))
        }
        Way::Client => drop(auth["clients"].as_object_mut().unwrap().remove(name)),
        Way::Issuer => drop(auth["issuers"].as_object_mut().unwrap().remove(name)),
        Way::Assign => auth["assign"].as_array_mut().unwrap().retain(|entry| entry["if"]["has"] != name),
        Way::Disabled => auth["users"][name]["disabled"] = json!(true),
        Way::Password => auth["users"][name]["passwordHash"] = json!(CHEAP_HASHES[1]),
        Way::Role => auth["users"][name]["roles"] = json!(["another"]),
        Way::Removed => drop(auth["users"].as_object_mut().unwrap().remove(name)),
    }
    let text = text(config.clone());
    let began = Instant::now();
    save(&gate.path, &text);
    began
}

/// Calls with what others have, which stays good; how many calls there were.
async fn calls(addr: SocketAddr, tokens: Vec<String>, stop: Arc<AtomicBool>) -> usize {
    let mut sent = 0;
    let mut kept = connect(addr).await;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(status(&mut kept, &tokens[sent % tokens.len()]).await, 200, "call {sent} of another");
        sent += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loses_a_right_loses_it_at_once_and_nobody_else_loses_a_byte() {
    let rounds = from_env("SLUICEGATE_REVOCATIONS", WAYS.len());
    let streams = from_env("SLUICEGATE_STREAMS", 40);
    raise_file_limit();
    let server = server().await;
    let (issuer, idp) = (TestIssuer::start().await, TestIdp::start().await);
    let mut config = config(server, rounds, &issuer, &idp);
    let gate = Process::start(config.clone()).await;
    let addr = gate.addr;

    // Half of those who stay are users, half are tokens.
    let mut stay = Vec::new();
    for n in 0..OTHERS {
        stay.push(log_in(&mut connect(addr).await, &other(n)).await.session);
        stay.push(token_of(&other(n)));
    }
    let mut untouched = JoinSet::new();
    let counts: Vec<Arc<AtomicU64>> = (0..streams).map(|_| Arc::default()).collect();
    for (n, count) in counts.iter().enumerate() {
        let count = Arc::clone(count);
        let (status, mut client) = stream(addr, &stay[n % stay.len()]).await;
        assert_eq!(status, 200);
        untouched.spawn(async move { count_events(&mut client, &count).await });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn(calls(addr, stay, Arc::clone(&stop)));

    let mut took: Vec<(Way, Vec<Duration>, Vec<Duration>)> =
        WAYS.iter().map(|way| (*way, Vec::new(), Vec::new())).collect();
    let mut kept = connect(addr).await;
    for round in 0..rounds {
        let (way, name) = (WAYS[round % WAYS.len()], name(round));
        let alone = |session| Tokens { session, refresh: String::new() };
        let tokens = match way {
            Way::Idp => {
                let auth = &mut config["proxy"]["auth"];
                if auth.get("idp").is_none() {
                    add_idp(auth, &idp);
                    save(&gate.path, &text(config.clone()));
                }
                let says = json!({ "email": "a@corp.example", "email_verified": true, "all": "reader" });
                idp.knows(&name, says);
                idp.at_browser(&name);
                alone(let_in(addr, &idp).await)
            }
            Way::Client => {
                let proof = [("client_id", &*name), ("client_secret", &token_of(&name))];
                alone(access(addr, &[&[("grant_type", "client_credentials")], &proof[..]].concat()).await)
            }
            Way::TokenRevoke => alone(token_of(&name)),
            Way::Issuer => alone(jwt(&issuer, &name, &name)),
            Way::Assign => alone(jwt(&issuer, "people", &name)),
            _ => log_in(&mut connect(addr).await, &name).await,
        };
        let (tell, mut told) = mpsc::channel(STREAMS_OF_ONE);
        for _ in 0..STREAMS_OF_ONE {
            let (status, mut client) = stream(addr, &tokens.session).await;
            assert_eq!(status, 200, "{way:?}");
            client.chunk().await.unwrap();
            let tell = tell.clone();
            tokio::spawn(async move {
                while client.more().await {
                    client.buffer.clear();
                }
                tell.send(Instant::now()).await.unwrap();
            });
        }
        assert_eq!(status(&mut kept, &tokens.session).await, 200, "{way:?}");
        let lost = revoke(&gate, &mut config, way, &name, &tokens).await;
        let wanted = if matches!(way, Way::Role | Way::Assign) { 403 } else { 401 };
        becomes(&mut kept, &tokens.session, wanted).await;
        let (_, refused, ended) = &mut took[round % WAYS.len()];
        refused.push(lost.elapsed());
        for _ in 0..STREAMS_OF_ONE {
            let at = soon("the end of a stream", told.recv()).await.unwrap();
            ended.push(at.saturating_duration_since(lost));
        }
    }

    // Every other stream is alive: it brings one more event, in its turn.
    let before: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    soon("one more event on each stream", async {
        while counts.iter().zip(&before).any(|(count, before)| count.load(Ordering::Relaxed) <= *before) {
            tokio::time::sleep(PACE).await;
        }
    })
    .await;
    assert!(untouched.try_join_next().is_none(), "a stream of another ended");
    stop.store(true, Ordering::Relaxed);
    let called = caller.await.unwrap();
    let events: u64 = counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    println!(
        "{rounds} rounds beside {streams} streams of others: {events} events, 0 lost, doubled or out of order; \
         {called} calls of others, 0 failed"
    );
    let (mut refused, mut ended) = (Vec::new(), Vec::new());
    for (way, of_refused, of_ended) in took {
        let mut line = format!("{:<12}", format!("{way:?}"));
        for (what, mut times, all) in
            [("first refusal", of_refused, &mut refused), ("end of stream", of_ended, &mut ended)]
        {
            line.push_str(&times_of(what, &mut times));
            all.append(&mut times);
        }
        println!("{line}");
    }
    let all = [("first refusal", &mut refused), ("end of stream", &mut ended)];
    println!("{:<12}{}", "all", all.map(|(what, times)| times_of(what, times)).concat());
    // At less than full size, the machine may be one that cannot keep this.
    if rounds >= 200 {
        assert!(percentile(&refused, 99) <= Duration::from_millis(250));
        assert!(percentile(&ended, 99) <= Duration::from_secs(1));
    }
}

fn times_of(what: &str, times: &mut [Duration]) -> String {
    times.sort_unstable();
    let mut line = format!("  {what} ({:>3}):", times.len());
    if !times.is_empty() {
        for (name, percent) in [("p50", 50), ("p99", 99), ("longest", 100)] {
            let _ = write!(line, " {name} {:.1} ms", percentile(times, percent).as_secs_f64() * 1e3);
        }
    }
    line
}
