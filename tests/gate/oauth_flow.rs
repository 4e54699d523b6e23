//! From the first request of a program to the end of what it was let in to: it registers, its user logs in and lets it in, it calls
//! with its token; and whatever takes that away ends what runs by it, and nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::{
    browser::{self, Browser, query},
    tls::Identity,
    users::HASH,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, get, post, soon},
    oauth_pages::{CHALLENGE, VERIFIER, approve, asking, log_in, target, with},
};

pub const REDIRECT: &str = "http://localhost:49152/callback";

fn config(tls: &Identity, server: &Upstream) -> Value {
    browser::config(tls, &json!({ "db": { "url": server.url("/mcp") } }))
}

struct World {
    gate: Gate,
    tls: Identity,
    server: Upstream,
}

/// A program that somebody let in.
pub struct Program {
    pub id: String,
    pub code: String,
    pub access: String,
    pub refresh: String,
}

impl World {
    async fn start() -> Self {
        let (tls, server) = (Identity::new(), Upstream::bind().await);
        let gate = Gate::start(config(&tls, &server)).await;
        Self { gate, tls, server }
    }

    async fn client(&self) -> Client<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.gate.addr).await.unwrap();
        Client::new(self.tls.connect(stream, &["http/1.1"], rustls::ALL_VERSIONS).await.unwrap())
    }

    async fn ask(&self, request: &str) -> (u16, String, String) {
        let mut client = self.client().await;
        client.send(request.replace("Host: localhost", "Host: mcp.example.com")).await;
        client.response().await
    }

    /// What a program sends without a token.
    async fn send(&self, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let request = post(path, "", "", body).replace("Authorization: Bearer \r\n", "");
        let (status, _, body) = self.ask(&request.replace("application/json", content_type)).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn token(&self, form: &[(&str, &str)]) -> (u16, Value) {
        self.send("/token", "application/x-www-form-urlencoded", &query(form)).await
    }

    async fn refreshed(&self, id: &str, refresh: &str) -> (u16, Value) {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", id)];
        self.token(&form).await
    }

    fn browser(&self) -> Browser<'_> {
        Browser::new(&self.gate, &self.tls)
    }

    /// A program that this user lets in, with this browser.
    async fn let_in(&self, browser: &mut Browser<'_>, user: &str) -> Program {
        let body = json!({ "client_name": "A program", "redirect_uris": [REDIRECT] }).to_string();
        let (status, registered) = self.send("/register", "application/json", &body).await;
        assert_eq!(status, 201, "{registered}");
        let id = registered["client_id"].as_str().unwrap().to_owned();
        let asked = with(asking(&id, REDIRECT), [("scope", Some("mcp offline_access"))]);
        let page = browser.get(&target(&asked)).await;
        let page = log_in(browser, &page, user).await;
        let done = approve(browser, &page, &["mcp", "offline_access"]).await;
        let code = done.answer("code").unwrap_or_else(|| panic!("{done:?}"));
        let (status, tokens) = self.token(&redemption(&id, &code)).await;
        assert_eq!(status, 200, "{tokens}");
        let text = |name: &str| tokens[name].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned();
        Program { id, code, access: text("access_token"), refresh: text("refresh_token") }
    }

    /// A stream by a token, and the server's side of it.
    async fn stream(&self, token: &str) -> (Client<TlsStream<TcpStream>>, Client<TcpStream>) {
        let mut client = self.client().await;
        let request = get("/db", token, "Accept: text/event-stream\r\n");
        client.send(request.replace("Host: localhost", "Host: mcp.example.com")).await;
        let mut behind = self.server.accept().await;
        let asked = behind.head().await;
        assert!(!asked.contains("sga_"), "what came in never goes out: {asked}");
        behind.send(SSE).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        (client, behind)
    }

    async fn is_refused(&self, token: &str) -> bool {
        // A page is refused, after the token was looked at and before the server is asked.
        let (status, head, _) = self.ask(&get("/db", token, "Sec-Fetch-Dest: document\r\n")).await;
        assert!([401, 406].contains(&status), "{head}");
        status == 401 && head.contains("/.well-known/oauth-protected-resource/db")
    }
}

pub fn redemption<'a>(id: &'a str, code: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]
}

/// What takes away what a program was let in to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cause {
    RevokedByUser,
    GivenBack,
    RefreshReplayed,
    CodeReplayed,
    /// By somebody who has seen the code, and not the verifier.
    CodeWithoutVerifier,
    OtherPassword,
    Disabled,
    Removed,
}

use Cause::{
    CodeReplayed, CodeWithoutVerifier, Disabled, GivenBack, OtherPassword, RefreshReplayed, Removed,
    RevokedByUser,
};

/// Takes away what `alice` let in; `cookies` are of the browser in which she did.
async fn take_away(world: &mut World, cookies: BTreeMap<String, String>, program: &Program, cause: Cause) {
    let mut config = config(&world.tls, &world.server);
    let auth = &mut config["proxy"]["auth"];
    match cause {
        RevokedByUser => {
            let mut browser = world.browser();
            browser.cookies = cookies;
            let (target, [(_, csrf), (_, account)]) = browser.get("/oauth").await.revocation("A program");
            let gone = browser.submit(&target, &[("csrf", &csrf), ("account", &account)]).await;
            assert_eq!(gone.leads_to().as_deref(), Some("/oauth?did=revoked"), "{gone:?}");
            return;
        }
        GivenBack => {
            let form = query(&[("token", &program.refresh), ("client_id", &program.id)]);
            let form_type = "application/x-www-form-urlencoded";
            assert_eq!(world.send("/revoke", form_type, &form).await.0, 200);
            return;
        }
        RefreshReplayed => {
            // The token before the one that is good may come again for a while, the one before that may not.
            let (status, next) = world.refreshed(&program.id, &program.refresh).await;
            assert_eq!(status, 200, "{next}");
            let next = next["refresh_token"].as_str().unwrap();
            assert_eq!(world.refreshed(&program.id, next).await.0, 200);
            let (status, answer) = world.refreshed(&program.id, &program.refresh).await;
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
            return;
        }
        CodeReplayed => {
            let (status, answer) = world.token(&redemption(&program.id, &program.code)).await;
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
            return;
        }
        CodeWithoutVerifier => {
            let [rest @ .., _] = redemption(&program.id, &program.code);
            // Also by what a client without S256 would show.
            for more in [&[][..], &[("code_verifier", CHALLENGE)], &[("code_verifier", "")]] {
                let (status, answer) = world.token(&[&rest[..], more].concat()).await;
                assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
            }
            return;
        }
        OtherPassword => auth["users"]["alice"]["passwordHash"] = json!(HASH),
        Disabled => auth["users"]["alice"]["disabled"] = json!(true),
        Removed => drop(auth["users"].as_object_mut().unwrap().remove("alice")),
    }
    world.gate.reload(config);
}

async fn what_takes_a_program_away_ends_what_runs_by_it(cause: Cause) {
    let mut world = World::start().await;
    let (alices, cookies) = {
        let mut browser = world.browser();
        let program = world.let_in(&mut browser, "alice").await;
        (program, browser.cookies)
    };
    let bobs = world.let_in(&mut world.browser(), "bob").await;
    let (mut ends, _behind) = world.stream(&alices.access).await;
    let mut others = Vec::new();
    for token in [&bobs.access, DEV] {
        others.push(world.stream(token).await);
    }
    for (client, behind) in &mut others {
        behind.send(chunk("data: before\n\n")).await;
        assert_eq!(client.chunk().await.as_deref(), Some(&b"data: before\n\n"[..]));
    }
    take_away(&mut world, cookies, &alices, cause).await;
    soon("the end of the stream", ends.rest()).await;
    assert!(world.is_refused(&alices.access).await, "{cause:?}");
    let (status, answer) = world.refreshed(&alices.id, &alices.refresh).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")), "{cause:?}");
    for (client, behind) in &mut others {
        behind.send(chunk("data: after\n\n")).await;
        assert_eq!(client.chunk().await.as_deref(), Some(&b"data: after\n\n"[..]), "{cause:?}");
    }
    assert!(!world.is_refused(&bobs.access).await, "{cause:?}");
    assert_eq!(world.refreshed(&bobs.id, &bobs.refresh).await.0, 200, "{cause:?}");
}

macro_rules! stories {
    ($($name:ident: $cause:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            what_takes_a_program_away_ends_what_runs_by_it(Cause::$cause).await;
        }
    )*};
}

stories! {
    a_program_is_out_once_its_user_revokes_it_at_the_pages: RevokedByUser;
    a_program_is_out_once_it_gives_its_tokens_back: GivenBack;
    a_refresh_token_that_comes_again_ends_what_runs_by_its_grant: RefreshReplayed;
    a_code_that_comes_again_ends_what_runs_by_its_grant: CodeReplayed;
    a_code_that_comes_again_without_its_verifier_ends_what_runs_by_its_grant: CodeWithoutVerifier;
    a_program_is_out_once_its_user_has_another_password: OtherPassword;
    a_program_is_out_once_its_user_is_disabled: Disabled;
    a_program_is_out_once_its_user_is_no_more: Removed;
}

#[tokio::test]
async fn log_and_audit_name_the_client_that_acts_for_somebody() {
    let mut world = World::start().await;
    let mut config = config(&world.tls, &world.server);
    config["proxy"]["audit"] = json!({});
    world.gate.reload(config);
    let program = world.let_in(&mut world.browser(), "alice").await;
    let (client, _behind) = world.stream(&program.access).await;
    let who = [("principal", json!("user:alice")), ("client", json!("localhost")), ("server", json!("db"))];
    world.gate.log.line("Authenticated request", &who).await;
    world.gate.log.line("Audit", &who).await;
    drop(client);
    world.gate.log.line("Stream closed", &who).await;
    // Nobody acts for a token of the config.
    let _streams = world.stream(DEV).await;
    for msg in ["Authenticated request", "Audit"] {
        let line = world.gate.log.line(msg, &[("token_name", json!("dev"))]).await;
        assert_eq!(line.get("client"), None, "{line}");
    }
}

#[tokio::test]
async fn what_becomes_of_requests_for_tokens_is_counted() {
    let world = World::start().await;
    let counts = |grant: &str, result: &str, count: u32| {
        let series = format!(r#"sluicegate_oauth_tokens_total{{grant="{grant}",result="{result}"}} {count}"#);
        let metrics = world.gate.metrics();
        assert!(metrics.contains(&format!("{series}\n")), "{series}\n{metrics}");
    };
    // What has not happened is 0.
    counts("authorization_code", "replayed", 0);
    let Program { id, code, refresh, .. } = world.let_in(&mut world.browser(), "alice").await;
    counts("authorization_code", "success", 1);
    assert_eq!(world.refreshed(&id, &refresh).await.0, 200);
    counts("refresh_token", "success", 1);
    world.refreshed(&id, "sgr_none").await;
    counts("refresh_token", "invalid_grant", 1);
    world.refreshed("sgc_none", &refresh).await;
    counts("other", "invalid_client", 1);
    world.token(&[("client_id", &id)]).await;
    counts("other", "invalid_request", 1);
    world.token(&[("client_id", &id), ("grant_type", "a word of a stranger")]).await;
    counts("other", "unsupported_grant_type", 1);
    world.token(&redemption(&id, &code)).await;
    counts("authorization_code", "replayed", 1);
    assert!(!world.gate.metrics().contains("stranger"));
}

#[tokio::test]
async fn the_audit_says_what_was_used_again_and_by_which_key_that_is_refused() {
    let mut world = World::start().await;
    let mut config = config(&world.tls, &world.server);
    config["proxy"]["audit"] = json!({});
    config["proxy"]["auth"]["refreshReuseGrace"] = json!("0s");
    world.gate.reload(config);
    let program = world.let_in(&mut world.browser(), "alice").await;
    let other = world.let_in(&mut world.browser(), "bob").await;
    assert_eq!(world.refreshed(&program.id, &program.refresh).await.0, 200);
    assert_eq!(world.refreshed(&program.id, &program.refresh).await.0, 400);
    assert_eq!(world.token(&redemption(&other.id, &other.code)).await.0, 400);
    for (principal, reason, rule) in [
        ("user:alice", "refresh_token_reused", Some("proxy.auth.refreshReuseGrace")),
        ("user:bob", "code_reused", None),
    ] {
        let fields = [
            ("verdict", json!("deny")),
            ("principal", json!(principal)),
            ("reason", json!(reason)),
            ("path", json!("/token")),
        ];
        let line = world.gate.log.line("Audit", &fields).await;
        assert_eq!(line.get("rule").and_then(Value::as_str), rule, "{line}");
    }
}
