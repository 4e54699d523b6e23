//! A token that is checked later, because the keys of its issuer have to be fetched, meets the same refusals in the same order as one
//! that is known at once. While it is checked, its request counts for its address.

use serde_json::{Value, json};
use sluicegate::ledger::Resource;
use test_support::issuer::{AUDIENCE, Signer, claims};

use crate::harness::{DEV, Gate, Upstream, get, post, until};

/// An issuer whose keys come when the test sends them.
struct Slowly {
    gate: Gate,
    keys: Upstream,
    signer: Signer,
    /// Of somebody who may do what `DEV` may.
    later: String,
}

fn config(server: &Upstream, keys: &Upstream) -> Value {
    json!({
        "proxy": {
            "auth": {
                "tokens": { "dev": { "value": DEV, "roles": ["eng"] } },
                "issuers": { "corp": {
                    "issuer": keys.url(""), "jwksUrl": keys.url("/keys"), "audiences": [AUDIENCE],
                } },
                "assign": [{ "if": { "issuer": "corp" }, "roles": ["eng"] }],
            },
            "limits": { "perCaller": { "requests": 2 } },
        },
        "mcpServers": {
            "db": { "url": server.url("/mcp"), "roles": ["eng"] },
            "other": { "url": server.url("/mcp"), "roles": ["ops"] },
        },
    })
}

impl Slowly {
    async fn start(server: &Upstream) -> Self {
        let keys = Upstream::bind().await;
        let gate = Gate::start(config(server, &keys)).await;
        let signer = Signer::new("k1");
        let later = signer.sign(json!({ "typ": "at+jwt" }), &claims(&keys.url(""), "bob", json!({})));
        Self { gate, keys, signer, later }
    }

    /// Lets the keys come.
    async fn open(&self) {
        let mut asked = self.keys.accept().await;
        asked.head().await;
        asked.send(self.signer.answer()).await;
    }
}

/// Requests in use, of whomever.
fn requests(gate: &Gate) -> u64 {
    gate.gateway.shared().ledger.usage(Resource::Requests).1
}

#[tokio::test]
async fn a_token_that_is_checked_later_meets_the_same_refusals_in_the_same_order() {
    let server = Upstream::bind().await;
    let slowly = Slowly::start(&server).await;
    let Slowly { gate, later, .. } = &slowly;
    let foreign = "Origin: https://elsewhere.example\r\n";
    let wrong =
        Signer::new("k1").sign(json!({ "typ": "at+jwt" }), &claims(&slowly.keys.url(""), "bob", json!({})));
    let none = "wrong-token-0123456789abcdef".to_owned();
    for (request, status, is_asked) in [
        // As long as no keys come, these are answered.
        (get("/db", later, foreign), 403, false),
        (get("/db", later, "").replace("Host: localhost", "Host: elsewhere.example"), 403, false),
        (post("/db", later, "Authorization: Bearer x\r\n", "{}"), 401, false),
        (get("/db", &none, ""), 401, false),
        (get("/nowhere", later, ""), 404, true),
        (get("/other", later, ""), 403, true),
        (get("/servers", later, ""), 403, true),
        (get("/db", later, "Sec-Fetch-Dest: document\r\n"), 406, true),
        (get("/db", &wrong, ""), 401, true),
    ] {
        let asking = gate.ask(&request);
        let (found, _, body) = match is_asked && requests(gate) == 0 && request.starts_with("GET /nowhere") {
            // The first that waits for keys.
            true => tokio::join!(asking, slowly.open()).0,
            false => asking.await,
        };
        assert_eq!(found, status, "{request} {body}");
        let (at_once, _, same) = gate.ask(&request.replace(later, DEV).replace(&wrong, &none)).await;
        let code = |body: &str| serde_json::from_str::<Value>(body).unwrap()["error"].clone();
        assert_eq!((at_once, code(&same)), (status, code(&body)), "{request}");
    }
    let mut client = gate.client().await;
    client.send(post("/db", later, "", "{}")).await;
    let mut behind = server.accept().await;
    assert!(!behind.head().await.contains(&**later), "nor does it go to the server");
}

#[tokio::test]
async fn a_request_counts_for_its_address_while_its_token_is_checked() {
    let server = Upstream::bind().await;
    let slowly = Slowly::start(&server).await;
    let Slowly { gate, later, .. } = &slowly;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = gate.client().await;
        client.send(post("/db", later, "", "{}")).await;
        waiting.push(client);
    }
    until("both wait", || requests(gate) == 2).await;
    assert_eq!(gate.ask(&post("/db", later, "", "{}")).await.0, 429, "the address has no more");
    assert_eq!(gate.ask(&get("/nowhere", DEV, "")).await.0, 404, "who is known at once does not wait");
    // Who leaves gives its place back, and takes nothing from the other, also if the keys were asked for by it.
    let leaves = waiting.remove(0);
    leaves.stream.set_zero_linger().unwrap();
    drop(leaves);
    until("one has left", || requests(gate) == 1).await;
    slowly.open().await;
    let mut behind = server.accept().await;
    behind.head().await;
    assert_eq!(requests(gate), 1, "now it counts for its caller");
    behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(waiting[0].response().await.0, 200);
}

#[tokio::test]
async fn what_a_reload_takes_away_while_a_token_is_checked_is_gone() {
    let server = Upstream::bind().await;
    let mut slowly = Slowly::start(&server).await;
    let mut client = slowly.gate.client().await;
    client.send(post("/db", &slowly.later, "", "{}")).await;
    until("it waits", || requests(&slowly.gate) == 1).await;
    let mut without = config(&server, &slowly.keys);
    without["mcpServers"].as_object_mut().unwrap().remove("db");
    slowly.gate.reload(without);
    slowly.open().await;
    let (status, _, body) = client.response().await;
    assert_eq!(status, 503, "{body}");
}
