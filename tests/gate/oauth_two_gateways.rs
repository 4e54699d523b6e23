//! Two gateways of one file of logins, as behind a balancer that sends each request where it likes. Each is a process of its own.

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::{
    browser::{Browser, query},
    users::{CHEAP_HASHES, PASSWORD},
};

use crate::{
    harness::{DEV, Upstream, open_stream, passes},
    login::futures,
    oauth_flow::{Program, REDIRECT, redemption},
    oauth_pages::{approve, asking, is_consent, is_sign_in, log_in, target, with},
    process::Process,
};

const BASE: &str = "http://localhost:8080";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

struct World {
    one: Process,
    other: Process,
    server: Upstream,
    _state: TempDir,
}

impl World {
    async fn start() -> Self {
        let (server, state) = (Upstream::bind().await, TempDir::new().unwrap());
        let user = |hash: &str| json!({ "passwordHash": hash });
        let config = json!({
            "proxy": {
                "baseUrl": BASE,
                "stateDir": state.path().join("state"),
                "auth": {
                    "kind": "oauth",
                    "tokens": { "dev": DEV },
                    "users": { "alice": user(CHEAP_HASHES[0]), "bob": user(CHEAP_HASHES[1]) },
                },
            },
            "mcpServers": { "db": { "url": server.url("/mcp") } },
        });
        // Both make what is missing at the same time.
        let (one, other) = tokio::join!(Process::start(config.clone()), Process::start(config));
        Self { one, other, server, _state: state }
    }

    /// A program that this user lets in: no two requests of it, or of the browser, are answered by the same gateway.
    async fn let_in(&self, user: &str) -> Program {
        let about = json!({ "client_name": "A program", "redirect_uris": [REDIRECT] }).to_string();
        let json_type = "Content-Type: application/json\r\n";
        let got = at(&self.one).send("POST", "/register", json_type, &about).await;
        let registered: Value = serde_json::from_str(&got.body).unwrap();
        let id = registered["client_id"].as_str().unwrap_or_else(|| panic!("{got:?}")).to_owned();
        let asked = with(asking(&id, REDIRECT), [("scope", Some("mcp offline_access"))]);
        let mut here = at(&self.other);
        let page = here.get(&target(&asked)).await;
        assert!(is_sign_in(&page), "{page:?}");
        let mut there = at(&self.one);
        there.cookies = here.cookies;
        let page = log_in(&mut there, &page, user).await;
        assert!(is_consent(&page), "{page:?}");
        let mut here = at(&self.other);
        here.cookies = there.cookies;
        let done = approve(&mut here, &page, &["mcp", "offline_access"]).await;
        let code = done.answer("code").unwrap_or_else(|| panic!("{done:?}"));
        let (status, tokens) = token(&self.one, &redemption(&id, &code)).await;
        assert_eq!(status, 200, "{tokens}");
        let text = |name: &str| tokens[name].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned();
        Program { id, code, access: text("access_token"), refresh: text("refresh_token") }
    }

    async fn is_out(&self, program: &Program, refresh: &str) {
        for gateway in [&self.one, &self.other] {
            let answer = gateway.get("/db", &program.access).await;
            assert_eq!(answer.0, 401, "{answer:?}");
            let (status, answer) = refreshed(gateway, program, refresh).await;
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
        }
    }
}

fn at(gateway: &Process) -> Browser<'static> {
    Browser::plain(gateway.addr, BASE)
}

async fn token(gateway: &Process, form: &[(&str, &str)]) -> (u16, Value) {
    let got = at(gateway).send("POST", "/token", FORM, &query(form)).await;
    (got.status, serde_json::from_str(&got.body).unwrap())
}

async fn refreshed(gateway: &Process, program: &Program, refresh: &str) -> (u16, Value) {
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", &program.id)];
    token(gateway, &form).await
}

#[tokio::test]
async fn who_is_let_in_at_one_calls_at_the_other_and_is_out_at_both_once_it_is_revoked_at_one() {
    let world = World::start().await;
    let (alices, bobs) = (world.let_in("alice").await, world.let_in("bob").await);
    let (mut lost, mut behind_lost) = open_stream(world.other.addr, &world.server, &alices.access).await;
    let (mut kept, mut behind_kept) = open_stream(world.other.addr, &world.server, &bobs.access).await;
    let (mut own, mut behind_own) = open_stream(world.one.addr, &world.server, DEV).await;
    passes(&mut behind_lost, &mut lost, "data: before\n\n").await;
    // It refreshes from many processes, at both.
    let both = [&world.one, &world.other];
    let answers = futures((0..100).map(|n| refreshed(both[n % 2], &alices, &alices.refresh))).await;
    let mut successors: Vec<_> = answers
        .iter()
        .map(|(status, answer)| {
            assert_eq!(*status, 200, "{answer}");
            answer["refresh_token"].as_str().unwrap()
        })
        .collect();
    successors.sort_unstable();
    successors.dedup();
    let [successor] = successors[..] else { panic!("one rotation, one successor") };
    passes(&mut behind_lost, &mut lost, "data: after\n\n").await;
    let form = query(&[("token", successor), ("client_id", &alices.id)]);
    assert_eq!(at(&world.one).send("POST", "/revoke", FORM, &form).await.status, 200);
    assert_eq!(lost.rest().await, b"", "nothing more came");
    world.is_out(&alices, successor).await;
    for (client, behind) in [(&mut kept, &mut behind_kept), (&mut own, &mut behind_own)] {
        passes(behind, client, "data: goes on\n\n").await;
    }
    assert_eq!(refreshed(&world.other, &bobs, &bobs.refresh).await.0, 200);
}

#[tokio::test]
async fn a_code_that_was_changed_at_one_ends_what_came_of_it_if_it_comes_again_at_the_other() {
    let world = World::start().await;
    let program = world.let_in("alice").await;
    let (mut stream, _behind) = open_stream(world.one.addr, &world.server, &program.access).await;
    let (status, answer) = token(&world.other, &redemption(&program.id, &program.code)).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert_eq!(stream.rest().await, b"", "nothing more came");
    world.is_out(&program, &program.refresh).await;
}

#[tokio::test]
async fn a_user_sees_and_revokes_at_one_what_was_let_in_at_the_other() {
    let world = World::start().await;
    let program = world.let_in("alice").await;
    let (mut stream, _behind) = open_stream(world.one.addr, &world.server, &program.access).await;
    let mut browser = at(&world.other);
    let page = browser.get("/oauth/login").await;
    let form = [("csrf", &*page.hidden("csrf")), ("username", "alice"), ("password", PASSWORD)];
    assert_eq!(browser.submit("/oauth/login", &form).await.leads_to().as_deref(), Some("/oauth"));
    let (target, [(_, csrf), (_, account)]) = browser.get("/oauth").await.revocation("A program");
    let gone = browser.submit(&target, &[("csrf", &csrf), ("account", &account)]).await;
    assert_eq!(gone.leads_to().as_deref(), Some("/oauth?did=revoked"), "{gone:?}");
    assert_eq!(stream.rest().await, b"", "nothing more came");
    world.is_out(&program, &program.refresh).await;
}
