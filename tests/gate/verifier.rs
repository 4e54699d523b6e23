//! A token that is checked later, because somebody has to be asked, meets the same refusals in the same order as one that is
//! known at once. While it is checked, its request counts for its address.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use sluicegate::{
    clock::Clock,
    error::ErrorKind,
    identity::{
        Caller,
        verifier::{Found, Identified, Verifier},
    },
    ledger::Resource,
    mcp::seal::SessionKey,
    state::Live,
};
use tokio::sync::watch;

use crate::harness::{DEV, Gate, Upstream, get, post, until};

/// The same caller as `DEV`, by a token that the config does not have.
const LATER: &str = "later-token-0123456789abcdef";

/// Knows `LATER`, and says so once the test opens it.
struct Slow {
    asked: Arc<AtomicUsize>,
    opened: watch::Receiver<bool>,
    /// The only caller of the config.
    known: Caller,
}

impl Verifier for Slow {
    fn identify<'a>(&'a self, token: &'a [u8]) -> Identified<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (mut opened, known) = (self.opened.clone(), self.known.clone());
        let found: Pin<Box<dyn Future<Output = Found> + 'a>> = Box::pin(async move {
            opened.wait_for(|opened| *opened).await.unwrap();
            if token == LATER.as_bytes() { Ok(known) } else { Err(ErrorKind::InvalidToken.into()) }
        });
        Identified::Later(found)
    }
}

struct Slowly {
    gate: Gate,
    asked: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
}

fn config(server: &Upstream) -> Value {
    json!({
        "proxy": {
            "auth": { "tokens": { "dev": DEV, "ops": "ops-token-0123456789abcdef" } },
            "limits": { "perCaller": { "requests": 2 } },
        },
        "mcpServers": {
            "db": { "url": server.url("/mcp"), "authTokens": ["dev"] },
            "other": { "url": server.url("/mcp"), "authTokens": ["ops"] },
        },
    })
}

async fn start(server: &Upstream) -> Slowly {
    let gate = Gate::start(config(server)).await;
    let shared = gate.gateway.shared();
    let previous = shared.live().clone();
    let key = SessionKey::random().unwrap();
    let (snapshot, clock) = (gate.gateway.in_force(), Arc::new(Clock::default()));
    let mut live = Live::build(
        snapshot,
        Some(&previous),
        &gate.observer,
        &shared.ledger,
        &key,
        (&clock, &shared.logins),
    )
    .unwrap();
    let (asked, (open, opened)) = (Arc::<AtomicUsize>::default(), watch::channel(false));
    let known = live.caller(Some(0));
    live.verifier = Some(Arc::new(Slow { asked: Arc::clone(&asked), opened, known }));
    shared.swap(Arc::new(live));
    Slowly { gate, asked, open }
}

/// Requests in use, of whomever.
fn requests(gate: &Gate) -> u64 {
    gate.gateway.shared().ledger.usage(Resource::Requests).1
}

#[tokio::test]
async fn a_token_that_is_checked_later_meets_the_same_refusals_in_the_same_order() {
    let server = Upstream::bind().await;
    let Slowly { gate, asked, open } = start(&server).await;
    open.send_replace(true);
    let foreign = "Origin: https://elsewhere.example\r\n";
    for (request, status, is_asked) in [
        (get("/db", LATER, foreign), 403, false),
        (get("/db", LATER, "").replace("Host: localhost", "Host: elsewhere.example"), 403, false),
        (post("/db", LATER, "Authorization: Bearer x\r\n", "{}"), 401, false),
        (get("/nowhere", LATER, ""), 404, true),
        (get("/other", LATER, ""), 403, true),
        (get("/servers", LATER, ""), 403, true),
        (get("/db", LATER, "Sec-Fetch-Dest: document\r\n"), 406, true),
        (get("/db", "wrong-token-0123456789abcdef", ""), 401, true),
    ] {
        let before = asked.load(Ordering::Relaxed);
        let (found, _, body) = gate.ask(&request).await;
        assert_eq!(found, status, "{request} {body}");
        assert_eq!(asked.load(Ordering::Relaxed) - before, usize::from(is_asked), "{request}");
        let (at_once, _, same) = gate.ask(&request.replace(LATER, DEV)).await;
        let code = |body: &str| serde_json::from_str::<Value>(body).unwrap()["error"].clone();
        assert_eq!((at_once, code(&same)), (status, code(&body)), "{request}");
    }
    let mut client = gate.client().await;
    client.send(post("/db", LATER, "", "{}")).await;
    let mut behind = server.accept().await;
    assert!(!behind.head().await.contains(LATER), "nor does it go to the server");
}

#[tokio::test]
async fn a_request_counts_for_its_address_while_its_token_is_checked() {
    let server = Upstream::bind().await;
    let Slowly { gate, open, .. } = start(&server).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = gate.client().await;
        client.send(post("/db", LATER, "", "{}")).await;
        waiting.push(client);
    }
    until("both wait", || requests(&gate) == 2).await;
    assert_eq!(gate.ask(&post("/db", LATER, "", "{}")).await.0, 429, "the address has no more");
    assert_eq!(gate.ask(&get("/nowhere", DEV, "")).await.0, 404, "who is known at once does not wait");
    // Who leaves gives its place back.
    drop(waiting.pop());
    until("one has left", || requests(&gate) == 1).await;
    open.send_replace(true);
    let mut behind = server.accept().await;
    behind.head().await;
    assert_eq!(requests(&gate), 1, "now it counts for its caller");
    behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(waiting[0].response().await.0, 200);
}

#[tokio::test]
async fn what_a_reload_takes_away_while_a_token_is_checked_is_gone() {
    let server = Upstream::bind().await;
    let Slowly { mut gate, open, .. } = start(&server).await;
    let mut client = gate.client().await;
    client.send(post("/db", LATER, "", "{}")).await;
    until("it waits", || requests(&gate) == 1).await;
    let mut without = config(&server);
    without["mcpServers"].as_object_mut().unwrap().remove("db");
    gate.reload(without);
    open.send_replace(true);
    let (status, _, body) = client.response().await;
    assert_eq!(status, 503, "{body}");
}
