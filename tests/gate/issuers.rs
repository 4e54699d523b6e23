//! Tokens of others: what opens with them, for how long, and what becomes of what runs by them.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use sluicegate::clock::Clock;
use test_support::issuer::{AUDIENCE, Signer, TestIssuer, claims};

use crate::{
    harness::{DEV, Gate, Upstream, field, get, open_stream, passes, post, soon},
    mcp::{Session, call, names, request},
    recorder::Recorder,
};

const BASE: &str = "http://localhost";

fn config(issuer: &Value, url: &str) -> Value {
    json!({
        "proxy": {
            "baseUrl": BASE,
            "auth": {
                "tokens": { "dev": DEV },
                "issuers": { "corp": issuer },
                "assign": [
                    { "if": { "issuer": "corp", "claim": "groups", "has": "eng" }, "roles": ["eng"] },
                    { "if": { "email": "*@corp.example" }, "roles": ["staff"] },
                    { "if": { "claim": "team", "has": "ops" }, "roles": ["admin"] },
                    { "if": { "claim": "level", "has": "guest" }, "servers": ["db"] },
                ],
            },
        },
        "mcpServers": {
            "db": { "url": url },
            "code": { "url": url, "roles": ["eng"] },
            "wiki": { "url": url, "roles": ["staff"], "tags": ["texts"] },
            "tokens": { "url": url, "authTokens": ["dev"] },
            "own": {
                "inline": { "tools": [{ "name": "read", "command": "true" }, { "name": "write", "command": "true" }] },
                "tools": { "write": { "roles": ["eng"] } },
            },
        },
    })
}

async fn status(gate: &Gate, path: &str, token: &str) -> u16 {
    gate.ask(&post(path, token, "", "{}")).await.0
}

#[tokio::test]
async fn who_has_a_token_of_an_issuer_may_do_what_the_config_gives_for_what_it_says() {
    let (issuer, server) = (TestIssuer::start().await, Recorder::start().await);
    let gate = Gate::start(config(&issuer.config(), &server.url("/mcp"))).await;
    let verified = json!({ "email": "Bob@Corp.example", "email_verified": true });
    let unverified = json!({ "email": "bob@corp.example" });
    for (says, opens) in [
        (json!({}), ["db"].as_slice()),
        (json!({ "groups": ["eng", "x"] }), &["db", "code"]),
        (json!({ "groups": "eng" }), &["db", "code"]),
        (json!({ "groups": ["engineers"] }), &["db"]),
        (verified, &["db", "wiki"]),
        (unverified, &["db"]),
        (json!({ "groups": ["eng"], "level": "guest" }), &["db"]),
        (json!({ "groups": ["eng"], "scope": "server:code" }), &["code"]),
        (json!({ "groups": ["eng"], "scope": ["openid", "server:db"] }), &["db"]),
        (json!({ "scope": "openid" }), &[]),
        (json!({ "scope": null }), &[]),
        // For a place of the gateway.
        (json!({ "groups": ["eng"], "aud": format!("{BASE}/code/mcp") }), &["code"]),
        (
            json!({ "groups": ["eng"], "aud": [format!("{BASE}/code"), format!("{BASE}/db/")] }),
            &["db", "code"],
        ),
        (json!({ "groups": ["eng"], "aud": [BASE, "other"] }), &["db", "code"]),
        (json!({ "groups": ["eng"], "aud": ["other", AUDIENCE] }), &["db", "code"]),
    ] {
        let token = issuer.token("bob", says.clone());
        for name in ["db", "code", "wiki", "tokens"] {
            let status = status(&gate, &format!("/{name}/mcp"), &token).await;
            assert_eq!(status == 200, opens.contains(&name), "{says} {name} {status}");
        }
    }
    let seen = server.requests();
    assert!(seen.iter().all(|request| field(request, "authorization").is_none() && !request.contains("eyJ")));
    assert_eq!(issuer.host.requests().len(), 1, "its keys are asked for once");
    let token = issuer.token("bob", json!({}));
    gate.log.line("Authenticated request", &[("principal", json!("jwt:corp:bob"))]).await;
    for (path, status, code) in [
        ("/tokens/mcp", 403, "insufficient_scope"),
        ("/nowhere", 404, "not_found"),
        ("/servers", 403, "insufficient_scope"),
        ("/metrics", 403, "insufficient_scope"),
    ] {
        let (found, _, body) = gate.ask(&get(path, &token, "")).await;
        assert!(found == status && body.contains(code), "{path} {found} {body}");
    }
    let admin = issuer.token("root", json!({ "team": "ops" }));
    for path in ["/servers", "/metrics"] {
        assert_eq!(gate.ask(&get(path, &admin, "")).await.0, 200, "{path}");
    }
    // A scope that would do is named, where one would.
    let (status, head, _) =
        gate.ask(&post("/db/mcp", &issuer.token("bob", json!({ "scope": "openid" })), "", "{}")).await;
    let challenge = field(&head, "www-authenticate").unwrap();
    assert!(status == 403 && challenge.contains("scope=\"openid server:db\""), "{challenge}");
    let text = gate.log.text();
    assert!(!text.contains("eyJ") && !gate.metrics().contains("eyJ"), "no token is anywhere");
}

#[tokio::test]
async fn explain_says_of_somebody_of_an_issuer_what_the_gateway_does() {
    let (issuer, server) = (TestIssuer::start().await, Recorder::start().await);
    let gate = Gate::start(config(&issuer.config(), &server.url("/mcp"))).await;
    let (file, mut may) = (gate.dir.path().join("explained.json"), [0, 0]);
    std::fs::write(&file, config(&issuer.config(), &server.url("/mcp")).to_string()).unwrap();
    for (says, claims) in [
        (json!({}), vec![]),
        (json!({ "groups": ["x", "eng"] }), vec!["groups=x", "groups=eng"]),
        (json!({ "groups": "eng" }), vec!["groups=eng"]),
        (json!({ "groups": ["eng"], "level": "guest" }), vec!["groups=eng", "level=guest"]),
        (
            json!({ "email": "bob@corp.example", "email_verified": true }),
            vec!["email=bob@corp.example", "email_verified=true"],
        ),
        (json!({ "email": "bob@corp.example" }), vec!["email=bob@corp.example"]),
        (json!({ "groups": ["eng"], "scope": "server:code" }), vec!["groups=eng", "scope=server:code"]),
        (json!({ "scope": "openid" }), vec!["--scope", "openid"]),
        (
            json!({ "groups": ["eng"], "aud": format!("{BASE}/code/mcp") }),
            vec!["groups=eng", "--resource", "http://localhost/code/mcp"],
        ),
        (json!({ "team": "ops" }), vec!["team=ops"]),
    ] {
        let token = issuer.token("bob", says.clone());
        for (name, path) in [
            ("db", "/db/mcp"),
            ("code", "/code/mcp"),
            ("wiki", "/wiki/mcp"),
            ("tokens", "/tokens/mcp"),
            ("servers", "/servers"),
        ] {
            let mut explain = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
            explain.args(["explain", "--as", "jwt:corp:bob", "--server", name, "-c"]).arg(&file);
            for claim in &claims {
                let is_claim = claim.contains('=');
                explain.args(is_claim.then_some("--claim")).arg(claim);
            }
            let output = explain.output().unwrap();
            let request = match name {
                "servers" => get(path, &token, ""),
                _ => post(path, &token, "", "{}"),
            };
            let is_let_in = gate.ask(&request).await.0 == 200;
            assert_eq!(output.status.code(), Some(i32::from(!is_let_in)), "{says} {name} {output:?}");
            may[usize::from(is_let_in)] += 1;
        }
    }
    assert!(may[0] > 0 && may[1] > 0, "{may:?}");
    for (arguments, why) in [
        (["--as", "jwt:other:bob", "--claim", "a=b"], "there is no such issuer"),
        (["--as", "token:dev", "--claim", "a=b"], "--claim is of tokens of an issuer"),
        (["--as", "jwt:corp:bob", "--resource", "http://elsewhere.example"], "--resource is no place"),
    ] {
        let mut explain = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        let output =
            explain.arg("explain").args(arguments).args(["--server", "db", "-c"]).arg(&file).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(why), "{output:?}");
    }
}

#[tokio::test]
async fn what_is_no_good_token_of_the_issuer_opens_nothing_wherever_it_is() {
    let (issuer, server) = (TestIssuer::start().await, Recorder::start().await);
    let gate = Gate::start(config(&issuer.config(), &server.url("/mcp"))).await;
    let good = issuer.token("bob", json!({}));
    assert_eq!(status(&gate, "/db/mcp", &good).await, 200);
    server.forget();
    let (url, typ) = (issuer.url(), json!({ "typ": "at+jwt" }));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let says = |more: Value| issuer.token("bob", more);
    let (message, _) = good.rsplit_once('.').unwrap();
    let stranger = Signer::new("k1");
    for bad in [
        says(json!({ "aud": "other" })),
        says(json!({ "aud": [] })),
        says(json!({ "aud": "https://elsewhere.example/db" })),
        says(json!({ "aud": null })),
        says(json!({ "exp": now - 31 })),
        says(json!({ "exp": null })),
        says(json!({ "nbf": now + 60 })),
        says(json!({ "iat": now + 60 })),
        says(json!({ "iss": format!("{url}/") })),
        says(json!({ "iss": "https://elsewhere.example" })),
        says(json!({ "nonce": "n" })),
        says(json!({ "at_hash": "h" })),
        says(json!({ "sub": "" })),
        says(json!({ "sub": "a\u{0}b" })),
        issuer.sign(json!({ "typ": "JWT" }), &issuer.claims("bob", json!({}))),
        issuer.sign(json!({}), &issuer.claims("bob", json!({}))),
        issuer.sign(json!({ "typ": "at+jwt", "crit": ["exp"] }), &issuer.claims("bob", json!({}))),
        issuer.sign(
            json!({ "typ": "at+jwt", "jku": issuer.host.url("/keys") }),
            &issuer.claims("bob", json!({})),
        ),
        stranger.sign(typ.clone(), &claims(&url, "bob", json!({}))),
        Signer::new("k2").sign(typ, &claims(&url, "bob", json!({}))),
        format!("{message}."),
        message.to_owned(),
        format!("{good}="),
        format!("{good}.{good}"),
    ] {
        for path in ["/db/mcp", "/mcp", "/servers"] {
            let (status, head, body) = gate.ask(&post(path, &bad, "", "{}")).await;
            let challenge = field(&head, "www-authenticate").unwrap_or_default();
            assert!(status == 401 && challenge.contains("invalid_token"), "{path} {status} {bad} {body}");
        }
    }
    // As what it is not.
    for fields in [format!("X-API-Key: {good}\r\n"), format!("Cookie: token={good}\r\n")] {
        let request = format!("GET /db/mcp HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        assert_eq!(gate.ask(&request).await.0, 401, "{fields}");
    }
    server.saw_nothing("none of them comes in").await;
    assert_eq!(status(&gate, "/db/mcp", DEV).await, 200, "a named token is what it was");
}

#[tokio::test]
async fn whose_keys_were_never_there_is_told_to_come_again_and_not_to_log_in_anew() {
    let (issuer, server) = (TestIssuer::start().await, Recorder::start().await);
    let down = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", down.local_addr().unwrap());
    drop(down);
    let mut of_nobody = issuer.config();
    of_nobody["jwksUrl"] = json!(format!("{nobody}/keys"));
    let gate = Gate::start(config(&of_nobody, &server.url("/mcp"))).await;
    let (status, head, body) = gate.ask(&post("/db/mcp", &issuer.token("bob", json!({})), "", "{}")).await;
    assert!(status == 503 && field(&head, "retry-after").is_some(), "{status} {body}");
    assert!(field(&head, "www-authenticate").is_none());
    assert_eq!(gate.ask(&post("/db/mcp", DEV, "", "{}")).await.0, 200, "others notice nothing");
    server.forget();
}

/// Streams of two people of an issuer, through a server that both may use.
#[tokio::test]
async fn streams_end_with_what_let_them_in_and_no_other_loses_a_byte() {
    let (issuer, server) = (TestIssuer::start().await, Upstream::bind().await);
    let before = {
        let mut config = config(&issuer.config(), &server.url("/mcp"));
        config["mcpServers"]["db"]["roles"] = json!(["eng", "staff"]);
        config["proxy"]["auth"]["tokens"]["dev"] = json!({ "value": DEV, "roles": ["eng"] });
        config
    };
    let mut changed = vec![];
    // The role, by the entry that gave it; by the rule of the server; the issuer; what it has to have for a token.
    let mut without = before.clone();
    without["proxy"]["auth"]["assign"].as_array_mut().unwrap().remove(0);
    changed.push((without, 403));
    let mut other = before.clone();
    other["mcpServers"]["db"]["roles"] = json!(["staff"]);
    other["proxy"]["auth"]["tokens"]["dev"]["roles"] = json!(["eng", "staff"]);
    changed.push((other, 403));
    let mut gone = before.clone();
    gone["proxy"]["auth"]["issuers"] = json!({});
    gone["proxy"]["auth"]["assign"] = json!([]);
    changed.push((gone, 401));
    let mut stricter = before.clone();
    stricter["proxy"]["auth"]["issuers"]["corp"]["audiences"] = json!(["another"]);
    changed.push((stricter, 401));
    let eng = issuer.token("bob", json!({ "groups": ["eng"] }));
    let mut gate = Gate::start(before.clone()).await;
    for (after, status) in changed {
        gate.reload(before.clone());
        let (mut cut, _behind_cut) = open_stream(gate.addr, &server, &eng).await;
        let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, DEV).await;
        let mut same = before.clone();
        same["proxy"]["keepAlive"] = json!("14s");
        gate.reload(same);
        passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;
        gate.reload(after.clone());
        let (found, _, body) = gate.ask(&post("/db/mcp", &eng, "", "{}")).await;
        assert_eq!(found, status, "{after} {body}");
        soon("the end of the stream", cut.rest()).await;
        passes(&mut behind_kept, &mut kept, "data: 2\n\n").await;
    }
}

#[tokio::test]
async fn a_stream_ends_a_while_after_its_token_if_the_config_says_so() {
    let (issuer, server) = (TestIssuer::start().await, Upstream::bind().await);
    let ahead = Arc::new(AtomicU32::new(0));
    let of_clock = Arc::clone(&ahead);
    let clock =
        Clock::by(move || SystemTime::now() + of_clock.load(Ordering::Relaxed) * Duration::from_secs(60));
    let mut config = config(&issuer.config(), &server.url("/mcp"));
    config["proxy"]["auth"]["issuers"]["corp"]["streamGrace"] = json!("10m");
    let gate = Gate::start_by(config, Duration::ZERO, clock).await;
    let token = issuer.token("bob", json!({}));
    let (mut stream, mut behind) = open_stream(gate.addr, &server, &token).await;
    // Ten minutes it is good, and half of one beyond.
    ahead.store(12, Ordering::Relaxed);
    assert_eq!(status(&gate, "/db/mcp", &token).await, 401);
    passes(&mut behind, &mut stream, "data: 1\n\n").await;
    ahead.store(22, Ordering::Relaxed);
    soon("the end of the stream", stream.rest()).await;
}

fn kept(token: String) -> &'static str {
    Box::leak(token.into_boxed_str())
}

#[tokio::test]
async fn a_session_is_somebodys_whichever_of_their_tokens_comes_and_gives_none_more_than_it_says() {
    let (issuer, server) = (TestIssuer::start().await, Recorder::start().await);
    let mut gate = Gate::start(config(&issuer.config(), &server.url("/mcp"))).await;
    let eng = json!({ "groups": ["eng"] });
    let [first, next] = [1, 2].map(|jti| {
        let mut says = eng.clone();
        says["jti"] = json!(jti);
        kept(issuer.token("bob", says))
    });
    let (plain, other) = (kept(issuer.token("bob", json!({}))), kept(issuer.token("eve", eng.clone())));
    for path in ["/own/mcp", "/mcp?servers=own"] {
        let session = Session::open(&gate, path, first).await;
        let prefix = if path == "/own/mcp" { "" } else { "own__" };
        assert_eq!(session.tools().await, [format!("{prefix}read"), format!("{prefix}write")]);
        assert_eq!(session.by(next).tools().await.len(), 2, "{path}");
        let ask = request(9, "tools/list", json!({}));
        assert_eq!(session.by(other).post(&ask).await.0, 404, "{path}: it is another's");
        assert_eq!(session.by(DEV).post(&ask).await.0, 404, "{path}: it is another's");
        let (status, body) = session.by(plain).post(&ask).await;
        assert!(
            status != 200 || names(&serde_json::from_str(&body).unwrap()) == [format!("{prefix}read")],
            "{path} {status} {body}"
        );
        let (_, body) = session.by(plain).post(&call(3, &format!("{prefix}write"), json!({}))).await;
        assert!(!body.contains("\"content\""), "{path} {body}");
    }
    // What a reload asks for, of whoever began a session, it asks of whoever uses it.
    let mut open = config(&issuer.config(), &server.url("/mcp"));
    let own = open["mcpServers"]["own"].as_object_mut().unwrap();
    own.remove("tools");
    let mut locked = open.clone();
    open["proxy"]["auth"]["assign"] = json!([]);
    locked["mcpServers"]["own"]["roles"] = json!(["eng"]);
    locked["mcpServers"]["more"] = json!({ "inline": { "tools": [{ "name": "read", "command": "true" }] } });
    for path in ["/own/mcp", "/mcp?servers=own", "/mcp"] {
        gate.reload(open.clone());
        let session = Session::open(&gate, path, first).await;
        let ask = request(2, "tools/list", json!({}));
        assert_eq!(session.by(plain).post(&ask).await.0, 200, "{path}: anybody may");
        gate.reload(locked.clone());
        for body in [ask, call(3, "own__write", json!({})), call(4, "write", json!({}))] {
            let (status, body) = session.by(plain).post(&body).await;
            assert!(status != 200 || !body.contains("write"), "{path} {status} {body}");
        }
    }
    gate.reload(config(&issuer.config(), &server.url("/mcp")));
    let session = Session::open(&gate, "/own/mcp", first).await;
    let mut gone = config(&issuer.config(), &server.url("/mcp"));
    gone["proxy"]["auth"]["issuers"] = json!({});
    gone["proxy"]["auth"]["assign"] = json!([]);
    gate.reload(gone);
    assert_eq!(session.post(&request(2, "tools/list", json!({}))).await.0, 401);
    crate::harness::until("nothing is left", || gate.gateway.shared().sessions.is_empty()).await;
}
