//! People who log in at an identity provider: who they are, what they may do, and what ends it.

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use sluicegate::clock::Clock;
use tempfile::TempDir;
use test_support::{
    browser::{Browser, Got, PLAIN, form},
    idp::{CLIENT_SECRET, Mood, Speaks, TestIdp},
};
use tokio::net::TcpStream;
use url::form_urlencoded;

use crate::{
    harness::{Client, DEV, Gate, OPS, PATIENCE, Upstream, get, open_stream, passes, post, soon, until},
    oauth_pages::{VERIFIER, approve, asking, is_consent, target, with},
};

const REDIRECT: &str = "https://app.example/callback";
/// Longer than `recheck`.
const WHILE: u64 = 100;
const DAY: u64 = 24 * 3600;

fn config(idp: &Value, server: &Upstream) -> Value {
    let (mut idp, provider) = (idp.clone(), &idp["provider"]);
    idp["recheck"] = json!("60s");
    json!({
        "proxy": {
            "baseUrl": PLAIN,
            "auth": {
                "kind": "oauth",
                "storage": "memory",
                "tokens": { "dev": DEV },
                "idp": idp,
                "allowedDomains": ["corp.example"],
                "assign": [{ "if": { "issuer": provider, "claim": "groups", "has": "eng" }, "roles": ["eng"] }],
            },
        },
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "code": { "url": server.url("/mcp"), "roles": ["eng"] },
            "tokens": { "url": server.url("/mcp"), "authTokens": ["dev"] },
        },
    })
}

struct World {
    gate: Gate,
    idp: TestIdp,
    server: Upstream,
    ahead: Arc<AtomicU64>,
}

fn clock(ahead: &Arc<AtomicU64>) -> Clock {
    let ahead = Arc::clone(ahead);
    Clock::by(move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed)))
}

fn keeps_in(config: &mut Value, directory: &TempDir) {
    config["proxy"]["auth"].as_object_mut().unwrap().remove("storage");
    config["proxy"]["stateDir"] = json!(directory.path().join("state"));
}

/// What a program sends to have its tokens renewed.
fn refresh_of(program: &Program) -> String {
    let (refresh, id) = (("refresh_token", &*program.refresh), ("client_id", &*program.id));
    form("/token", "", &[("grant_type", "refresh_token"), refresh, id])
}

/// A program that somebody let in.
struct Program {
    id: String,
    access: String,
    refresh: String,
}

impl World {
    async fn start() -> Self {
        Self::start_with(TestIdp::start().await, |_| ()).await
    }

    async fn start_with(idp: TestIdp, change: impl FnOnce(&mut Value)) -> Self {
        let server = Upstream::bind().await;
        let mut config = config(&idp.config(), &server);
        change(&mut config);
        let ahead = Arc::new(AtomicU64::new(0));
        let gate = Gate::start_by(config, Duration::ZERO, clock(&ahead)).await;
        Self { gate, idp, server, ahead }
    }

    /// One that keeps logins in a file there.
    async fn start_in(directory: &TempDir) -> Self {
        Self::start_with(TestIdp::start().await, |config| keeps_in(config, directory)).await
    }

    /// Another gateway, of the same file.
    async fn another(&self, directory: &TempDir) -> Gate {
        let mut config = self.config();
        keeps_in(&mut config, directory);
        Gate::start_by(config, Duration::ZERO, clock(&self.ahead)).await
    }

    fn config(&self) -> Value {
        config(&self.idp.config(), &self.server)
    }

    fn passes_time(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    fn browser(&self) -> Browser<'_> {
        Browser::plain(self.gate.addr, PLAIN)
    }

    async fn registered(&self) -> String {
        let body = json!({ "client_name": "A program", "redirect_uris": [REDIRECT] }).to_string();
        let request = post("/register", "", "", &body).replace("Authorization: Bearer \r\n", "");
        let (status, _, body) = self.gate.ask(&request).await;
        assert_eq!(status, 201, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["client_id"].as_str().unwrap().to_owned()
    }

    /// The page at which a program of this id has its user sign in.
    async fn asks(&self, browser: &mut Browser<'_>, id: &str) -> Got {
        let asked = with(asking(id, REDIRECT), [("scope", Some("mcp offline_access"))]);
        browser.get(&target(&asked)).await
    }

    /// Where the button of that page leads.
    async fn continues(&self, browser: &mut Browser<'_>, page: &Got) -> String {
        let to = self.presses(browser, page, "continue").await;
        assert_eq!(to.status, 200, "no redirect answers a form: {to:?}");
        to.leads_to().unwrap_or_else(|| panic!("{to:?}"))
    }

    async fn presses(&self, browser: &mut Browser<'_>, page: &Got, answer: &str) -> Got {
        let (csrf, flow) =
            (page.hidden("csrf"), page.body.contains("name=\"flow\"").then(|| page.hidden("flow")));
        let mut form = vec![("csrf", csrf.as_str()), ("idp", answer)];
        form.extend(flow.as_deref().map(|flow| ("flow", flow)));
        browser.submit("/oauth/login", &form).await
    }

    /// What somebody sees who has logged in from this page.
    async fn logs_in(&self, browser: &mut Browser<'_>, page: &Got) -> Got {
        let url = self.continues(browser, page).await;
        browser.get(&self.idp.sends_back(&url).await).await
    }

    async fn token(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        let (status, _, body) = self.gate.ask(&form("/token", "", fields)).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn refreshed(&self, program: &Program) -> (u16, Value) {
        let (status, _, body) = self.gate.ask(&refresh_of(program)).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// A program that whoever is at the browser lets in.
    async fn let_in(&self, browser: &mut Browser<'_>) -> Program {
        let id = self.registered().await;
        let page = self.asks(browser, &id).await;
        let page = if is_consent(&page) { page } else { self.logs_in(browser, &page).await };
        assert!(is_consent(&page), "{page:?}");
        let done = approve(browser, &page, &["mcp", "offline_access"]).await;
        let code = done.answer("code").unwrap_or_else(|| panic!("{done:?}"));
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("client_id", &*id),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let (status, tokens) = self.token(&form).await;
        assert_eq!(status, 200, "{tokens}");
        program(id, &tokens)
    }

    async fn status(&self, path: &str, token: &str) -> u16 {
        // What is let in goes to a server that does not answer: a page is refused after the token was looked at, and before that.
        self.gate.ask(&get(path, token, "Sec-Fetch-Dest: document\r\n")).await.0
    }

    async fn is_refused(&self, token: &str) -> bool {
        self.status("/db", token).await == 401
    }

    async fn stream(&self, token: &str) -> (Client<TcpStream>, Client<TcpStream>) {
        open_stream(self.gate.addr, &self.server, token).await
    }
}

fn program(id: String, tokens: &Value) -> Program {
    let text = |name: &str| tokens[name].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned();
    Program { id, access: text("access_token"), refresh: text("refresh_token") }
}

/// Both sides of a stream have ended.
async fn has_ended(mut client: Client<TcpStream>, mut behind: Client<TcpStream>) {
    soon("the end of the stream", client.rest()).await;
    soon("the end of the server's side", behind.rest()).await;
}

/// A page that says what is wrong, leads nowhere, and logs nobody in.
fn assert_trouble(browser: &Browser<'_>, page: &Got, status: u16) {
    assert_eq!((page.status, page.leads_to()), (status, None), "{page:?}");
    assert!(!browser.cookies.contains_key("sg-login"), "{page:?}");
}

#[tokio::test]
async fn somebody_logs_in_at_the_provider_decides_and_is_who_the_provider_says() {
    let world = World::start().await;
    world.idp.knows("1", json!({ "email": "alice@corp.example", "email_verified": true, "groups": ["eng"] }));
    world.idp.at_browser("1");
    let mut browser = world.browser();
    let id = world.registered().await;
    let page = world.asks(&mut browser, &id).await;
    for shown in
        ["A program", "app.example", "not verified", "mcp offline_access", "Continue with 127.0.0.1", "token"]
    {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(!page.asks_for("password"), "there are no users");
    assert_eq!(world.idp.asked("/authorize"), 0, "nobody is sent there unasked");
    let page = world.logs_in(&mut browser, &page).await;
    assert!(is_consent(&page), "{page:?}");
    for shown in ["alice@corp.example (127.0.0.1)", "app.example", "code, db", "not verified"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    let program = world.let_in(&mut browser).await;
    for (path, status) in [("/db", 406), ("/code", 406), ("/tokens", 403)] {
        assert_eq!(world.status(path, &program.access).await, status, "{path}");
    }
    let page = browser.get("/oauth").await;
    assert!(page.body.contains("A program") && page.body.contains("alice@corp.example"), "{page:?}");
    let (status, tokens) = world.refreshed(&program).await;
    assert_eq!(status, 200, "{tokens}");
    let line = world.gate.log.line("Somebody signed in at the pages", &[]).await;
    assert_eq!(line["principal"], "idp:oidc:1");
    let log = world.gate.log.text();
    for secret in [CLIENT_SECRET, "code-1-", "refresh-", "state="] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
    assert!(!world.gate.metrics().contains("alice") && !world.gate.metrics().contains("oidc:1"));
}

#[tokio::test]
async fn somebody_may_cancel_before_anybody_is_sent_to_the_provider() {
    let world = World::start().await;
    let mut browser = world.browser();
    let id = world.registered().await;
    let page = world.asks(&mut browser, &id).await;
    let done = world.presses(&mut browser, &page, "cancel").await;
    assert_eq!(done.answer("error").as_deref(), Some("access_denied"), "{done:?}");
    assert!(done.leads_to().unwrap().starts_with(REDIRECT));
    assert_eq!(world.idp.requests().len(), 0);
    // A page of another site sends nobody there.
    let csrf = "A".repeat(43);
    let page = browser.submit("/oauth/login", &[("csrf", &csrf), ("idp", "continue")]).await;
    assert_trouble(&browser, &page, 400);
    assert_eq!(world.idp.requests().len(), 0);
}

#[tokio::test]
async fn who_is_not_of_an_allowed_domain_or_has_no_verified_address_stays_out() {
    let world = World::start().await;
    for (subject, claims) in [
        ("2", json!({ "email": "bob@other.example", "email_verified": true })),
        ("3", json!({ "email": "bob@evil.corp.example", "email_verified": true })),
        ("4", json!({ "email": "bob@corp.example" })),
        ("5", json!({ "email": "bob@corp.example", "email_verified": false })),
        ("6", json!({})),
    ] {
        world.idp.knows(subject, claims);
        world.idp.at_browser(subject);
        let mut browser = world.browser();
        let page = browser.get("/oauth/login").await;
        let page = world.logs_in(&mut browser, &page).await;
        assert_trouble(&browser, &page, 403);
        assert!(page.body.contains("not let in"), "{page:?}");
    }
    let line = world.gate.log.line("Somebody did not log in by the identity provider", &[]).await;
    assert!(line["reason"].as_str().unwrap().contains("allowedDomains"), "{line}");
    // Who does not sign in there is nobody either, and no client is told anything.
    world.idp.nobody_at_browser();
    let mut browser = world.browser();
    let id = world.registered().await;
    let page = world.asks(&mut browser, &id).await;
    let page = world.logs_in(&mut browser, &page).await;
    assert_trouble(&browser, &page, 403);
}

#[tokio::test]
async fn an_answer_is_good_once_and_for_the_browser_that_went() {
    let world = World::start().await;
    world.idp.has("1", "alice@corp.example");
    let (mut alice, mut mallory) = (world.browser(), world.browser());
    let page = alice.get("/oauth/login").await;
    let url = world.continues(&mut alice, &page).await;
    let back = world.idp.sends_back(&url).await;
    // Somebody leads another browser there.
    let page = mallory.get(&back).await;
    assert_trouble(&mallory, &page, 400);
    let other = mallory.get("/oauth/login").await;
    let url = world.continues(&mut mallory, &other).await;
    let of_mallory = world.idp.sends_back(&url).await;
    let page = mallory.get(&back).await;
    assert_trouble(&mallory, &page, 400);
    let parameter = |target: &str, name: &str| {
        let pair = target.split(['?', '&']).find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        pair.unwrap().to_owned()
    };
    // Mallory's code in Alice's login would have her work as Mallory.
    let mixed = back.replace(&parameter(&back, "code"), &parameter(&of_mallory, "code"));
    assert_ne!(mixed, back);
    let page = alice.get(&mixed).await;
    assert_trouble(&alice, &page, 403);
    // Her own code comes too late: there is one for each time that somebody went there.
    let asked = world.idp.asked("/token");
    let page = alice.get(&back).await;
    assert_trouble(&alice, &page, 400);
    assert_eq!(world.idp.asked("/token"), asked);
    // Answers that nobody gave, and those of another provider.
    for (forge, status) in [
        (
            (|back, state, _| back.replace(state, &"A".repeat(state.len())))
                as fn(&str, &str, &str) -> String,
            400,
        ),
        (|back, _, _| back.replace("state=", "other="), 400),
        (|back, _, _| back.replace("code=", "other="), 400),
        (|back, _, _| format!("{back}&state=x"), 400),
        (|_, _, _| "/oauth/callback".into(), 400),
        (|back, _, _| back.replace("iss=", "other="), 502),
        (|back, _, iss| back.replace(iss, "http%3A%2F%2Fevil.example"), 502),
        (|_, state, _| format!("/oauth/callback?error=access_denied&state={state}"), 403),
    ] {
        let page = alice.get("/oauth/login").await;
        let url = world.continues(&mut alice, &page).await;
        let back = world.idp.sends_back(&url).await;
        let forged = forge(&back, &parameter(&back, "state"), &parameter(&back, "iss"));
        let page = alice.get(&forged).await;
        assert!(!alice.cookies.contains_key("sg-login"), "{forged}");
        assert_eq!(page.status, status, "{forged}");
    }
    let page = alice.get("/oauth/login").await;
    let url = world.continues(&mut alice, &page).await;
    let back = world.idp.sends_back(&url).await;
    let page = alice.get(&back).await;
    assert_eq!(page.leads_to().as_deref(), Some("/oauth"), "{page:?}");
    let login = alice.cookies.remove("sg-login").unwrap();
    let page = alice.get(&back).await;
    assert_trouble(&alice, &page, 400);
    alice.cookies.insert("sg-login".into(), login);
    assert!(alice.get("/oauth").await.body.contains("alice@corp.example"), "the first one is as it was");
}

#[tokio::test]
async fn whoever_makes_up_codes_does_not_have_the_provider_asked_as_often_as_they_like() {
    let limit = |config: &mut Value| config["proxy"]["rateLimits"] = json!({ "authFailures": "3/h" });
    let world = World::start_with(TestIdp::start().await, limit).await;
    let mut mallory = world.browser();
    let iss = form_urlencoded::byte_serialize(world.idp.issuer().as_bytes()).collect::<String>();
    let mut statuses = Vec::new();
    for n in 0..5 {
        let page = mallory.get("/oauth/login").await;
        let url = world.continues(&mut mallory, &page).await;
        let state = url.split(['?', '&']).find_map(|pair| pair.strip_prefix("state=")).unwrap();
        for code in ["made-up", "another"] {
            let back = format!("/oauth/callback?code={code}-{n}&state={state}&iss={iss}");
            statuses.push(mallory.get(&back).await.status);
        }
    }
    assert_eq!(world.idp.asked("/token"), 3, "{statuses:?}");
    let one_each = [403, 400].repeat(3);
    assert_eq!(statuses[..5], one_each[..5], "one for each time that somebody went there");
    assert_eq!(statuses[5..], [429; 5]);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_lets_nobody_in_and_locks_out_nobody_for_a_day() {
    let world = World::start().await;
    world.idp.has("1", "alice@corp.example");
    let mut browser = world.browser();
    let mut program_ = world.let_in(&mut browser).await;
    world.idp.is(Mood::Fails);
    let mut other = world.browser();
    let page = other.get("/oauth/login").await;
    let page = world.presses(&mut other, &page, "continue").await;
    // It knows already where people log in there.
    if let Some(url) = page.leads_to() {
        world.idp.is(Mood::Answers);
        let back = world.idp.sends_back(&url).await;
        world.idp.is(Mood::Fails);
        let page = other.get(&back).await;
        assert_trouble(&other, &page, 503);
    } else {
        assert_trouble(&other, &page, 503);
    }
    for seconds in [WHILE, DAY - WHILE] {
        world.passes_time(seconds);
        let (status, tokens) = world.refreshed(&program_).await;
        assert_eq!(status, 200, "{tokens}");
        program_ = program(program_.id, &tokens);
    }
    let line =
        world.gate.log.line("The identity provider cannot be asked whether somebody may still come", &[]);
    assert_eq!(line.await["principal"], "idp:oidc:1");
    world.passes_time(WHILE);
    assert_eq!(world.refreshed(&program_).await.0, 503, "nobody has said no");
    assert!(!world.is_refused(&program_.access).await, "it is good for as long as it says");
}

#[tokio::test]
async fn who_is_removed_at_the_provider_is_out_once_that_is_asked_again() {
    let world = World::start().await;
    world.idp.has("1", "alice@corp.example");
    let mut browser = world.browser();
    let mut program_ = world.let_in(&mut browser).await;
    let asked = world.idp.asked("/token");
    let (status, tokens) = world.refreshed(&program_).await;
    assert_eq!((status, world.idp.asked("/token")), (200, asked), "it was asked a moment ago");
    program_ = program(program_.id, &tokens);
    // Asked again, it says other groups.
    assert_eq!(world.status("/code", &program_.access).await, 403);
    world.idp.knows("1", json!({ "email": "alice@corp.example", "email_verified": true, "groups": ["eng"] }));
    world.passes_time(WHILE);
    let (status, tokens) = world.refreshed(&program_).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(world.idp.asked("/token"), asked + 1);
    program_ = program(program_.id, &tokens);
    assert_eq!(world.status("/code", &program_.access).await, 406);

    let (mut client, mut behind) = world.stream(&program_.access).await;
    passes(&mut behind, &mut client, "data: 1\n\n").await;
    world.idp.removes("1");
    world.passes_time(WHILE);
    assert!(!world.is_refused(&program_.access).await);
    let (status, refused) = world.refreshed(&program_).await;
    assert_eq!((status, refused["error"].as_str()), (400, Some("invalid_grant")));
    has_ended(client, behind).await;
    assert!(world.is_refused(&program_.access).await);
    assert_eq!(browser.get("/oauth").await.leads_to().as_deref(), Some("/oauth/login"));
    let msg = "The identity provider lets somebody in no more: all that they had is ended";
    assert_eq!(world.gate.log.line(msg, &[]).await["principal"], "idp:oidc:1");
    // Whoever comes back begins anew.
    world.idp.has("1", "alice@corp.example");
    let page = browser.get("/oauth/login").await;
    world.logs_in(&mut browser, &page).await;
    assert!(world.is_refused(&program_.access).await);
    assert_eq!(world.refreshed(&program_).await.0, 400);
}

#[tokio::test]
async fn a_page_that_is_asked_for_after_a_while_asks_the_provider_too() {
    let world = World::start().await;
    world.idp.has("1", "alice@corp.example");
    let mut browser = world.browser();
    let program = world.let_in(&mut browser).await;
    let asked = world.idp.asked("/token");
    world.passes_time(WHILE);
    assert!(browser.get("/oauth").await.body.contains("alice@corp.example"));
    assert_eq!(world.idp.asked("/token"), asked + 1);
    world.idp.removes("1");
    world.passes_time(WHILE);
    assert_eq!(browser.get("/oauth").await.leads_to().as_deref(), Some("/oauth/login"));
    assert!(world.is_refused(&program.access).await, "what a program has ends with it");
}

#[tokio::test]
async fn many_refreshes_at_once_ask_the_provider_once() {
    let world = World::start().await;
    world.idp.has("1", "alice@corp.example");
    let mut browser = world.browser();
    let program_ = world.let_in(&mut browser).await;
    let asked = world.idp.asked("/token");
    world.passes_time(WHILE);
    let all = (0..8).map(|_| world.refreshed(&program_));
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| match one.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(world.idp.asked("/token"), asked + 1);
}

#[tokio::test]
async fn what_the_config_takes_away_is_gone_at_once_and_does_not_come_back() {
    for (what, change) in [
        (
            "the provider",
            (|auth| auth.as_object_mut().unwrap().retain(|key, _| !["idp", "assign"].contains(&&**key)))
                as fn(&mut Value),
        ),
        ("the domain", |auth| auth["allowedDomains"] = json!(["other.example"])),
        ("the client", |auth| auth["idp"]["clientId"] = json!("another")),
    ] {
        let mut world = World::start().await;
        world.idp.has("1", "alice@corp.example");
        let addr = world.gate.addr;
        let mut browser = Browser::plain(addr, PLAIN);
        let program = world.let_in(&mut browser).await;
        let (mut client, mut behind) = world.stream(&program.access).await;
        passes(&mut behind, &mut client, "data: 1\n\n").await;
        let (before, mut after) = (world.config(), world.config());
        change(&mut after["proxy"]["auth"]);
        world.gate.reload(after);
        has_ended(client, behind).await;
        assert!(world.is_refused(&program.access).await, "{what}");
        assert_eq!(browser.get("/oauth").await.leads_to().as_deref(), Some("/oauth/login"), "{what}");
        world.gate.reload(before);
        assert!(world.is_refused(&program.access).await, "{what}");
        assert_eq!(world.refreshed(&program).await.0, 400, "{what}");
    }
}

#[tokio::test]
async fn the_same_address_or_subject_at_another_provider_is_somebody_else() {
    let mut world = World::start().await;
    world.idp.has("1", "alice@corp.example");
    let addr = world.gate.addr;
    let mut browser = Browser::plain(addr, PLAIN);
    let program = world.let_in(&mut browser).await;
    let other = TestIdp::start().await;
    other.has("1", "alice@corp.example");
    let mut waiting = Browser::plain(addr, PLAIN);
    let page = waiting.get("/oauth/login").await;
    let url = world.continues(&mut waiting, &page).await;
    let back = world.idp.sends_back(&url).await;
    world.gate.reload(config(&other.config(), &world.server));
    let page = waiting.get(&back).await;
    assert_trouble(&waiting, &page, 400);
    assert_eq!(other.requests().len(), 0, "the code of one is not shown to the other");
    assert!(world.is_refused(&program.access).await);
    world.idp = other;
    let of_other = world.let_in(&mut browser).await;
    assert!(!world.is_refused(&of_other.access).await && world.is_refused(&program.access).await);
    let page = browser.get("/oauth").await;
    assert_eq!(page.body.matches("aria-label=\"Revoke ").count(), 1, "nothing of the first one: {page:?}");

    let google = TestIdp::speaking(Speaks::Google).await;
    google.has("1", "alice@corp.example");
    world.gate.reload(config(&google.config(), &world.server));
    world.idp = google;
    let of_google = world.let_in(&mut browser).await;
    assert!(!world.is_refused(&of_google.access).await && world.is_refused(&of_other.access).await);
    world.gate.log.line_with("principal", "idp:google:1").await;
}

#[tokio::test]
async fn people_of_github_are_numbers_of_an_organization() {
    let idp = TestIdp::speaking(Speaks::Github).await;
    let world = World::start_with(idp, |config| {
        config["proxy"]["auth"]["allowedDomains"] = json!([]);
        config["proxy"]["auth"]["idp"]["allowedOrgs"] = json!(["our-org"]);
    })
    .await;
    let person = |orgs: &[&str]| json!({ "login": "octo", "email": "octo@example.com", "email_verified": true, "orgs": orgs });
    world.idp.knows("583231", person(&["others"]));
    world.idp.at_browser("583231");
    let mut browser = world.browser();
    let page = browser.get("/oauth/login").await;
    assert!(page.body.contains("Continue with GitHub"), "{page:?}");
    let page = world.logs_in(&mut browser, &page).await;
    assert_trouble(&browser, &page, 403);
    world.idp.knows("583231", person(&["others", "our-org"]));
    let program = world.let_in(&mut browser).await;
    assert!(!world.is_refused(&program.access).await);
    world.gate.log.line_with("principal", "idp:github:583231").await;
    // Who has left the organization is out.
    world.idp.knows("583231", person(&[]));
    world.passes_time(WHILE);
    assert_eq!(world.refreshed(&program).await.0, 400);
    assert!(world.is_refused(&program.access).await);
}

#[tokio::test]
async fn without_a_list_whoever_meets_an_entry_of_assign_is_let_in_and_nobody_else() {
    let idp = TestIdp::start().await;
    let world = World::start_with(idp, |config| {
        config["proxy"]["auth"].as_object_mut().unwrap().remove("allowedDomains");
    })
    .await;
    world.idp.knows("1", json!({ "groups": ["others"] }));
    world.idp.at_browser("1");
    let mut browser = world.browser();
    let page = browser.get("/oauth/login").await;
    let page = world.logs_in(&mut browser, &page).await;
    assert_trouble(&browser, &page, 403);
    world.idp.knows("1", json!({ "groups": ["eng"] }));
    let program = world.let_in(&mut browser).await;
    assert_eq!(world.status("/code", &program.access).await, 406);
}

#[tokio::test]
async fn what_the_provider_is_asked_by_next_is_kept_before_it_is_asked_anything_else() {
    let directory = TempDir::new().unwrap();
    let world = World::start_in(&directory).await;
    world.idp.has("1", "alice@corp.example");
    let program = world.let_in(&mut world.browser()).await;
    world.passes_time(WHILE);
    let asked = world.idp.asked("/userinfo");
    world.idp.is(Mood::HoldsAt("/userinfo"));
    let mut waits = world.gate.client().await;
    waits.send(refresh_of(&program)).await;
    until("the provider has given another token", || world.idp.asked("/userinfo") > asked).await;
    // The first gateway gets no further, as if it had ended there.
    world.idp.is(Mood::Answers);
    let another = world.another(&directory).await;
    world.passes_time(WHILE);
    let (status, _, body) = another.ask(&refresh_of(&program)).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_gateway_that_stops_waits_for_the_answer_of_the_provider() {
    let directory = TempDir::new().unwrap();
    let world = World::start_in(&directory).await;
    world.idp.has("1", "alice@corp.example");
    let program = world.let_in(&mut world.browser()).await;
    world.passes_time(WHILE);
    let asked = world.idp.asked("/token");
    world.idp.is(Mood::HoldsAt("/token"));
    let mut leaves = world.gate.client().await;
    leaves.send(refresh_of(&program)).await;
    until("the provider is asked", || world.idp.asked("/token") > asked).await;
    drop(leaves);
    let gateway = &world.gate.gateway;
    gateway.drain();
    soon("nobody to be connected any more", gateway.drained()).await;
    let mut stopped = pin!(gateway.stop(PATIENCE, pending()));
    tokio::select! {
        biased;
        () = &mut stopped => panic!("it did not wait"),
        () = std::future::ready(()) => world.idp.lets_go(),
    }
    soon("the end of the gateway", stopped).await;
    world.idp.is(Mood::Answers);
    let mut is_done = pin!(gateway.shared().rechecks.done());
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(is_done.as_mut().poll(cx).is_ready())).await);
    let another = world.another(&directory).await;
    world.passes_time(WHILE);
    let (status, _, body) = another.ask(&refresh_of(&program)).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn who_is_of_the_provider_looks_like_nobody_of_the_config() {
    let world = World::start_with(TestIdp::start().await, |config| {
        config["proxy"]["auth"].as_object_mut().unwrap().remove("allowedDomains");
        config["proxy"]["auth"]["tokens"]["ops"] = json!({ "value": OPS, "roles": ["admin"] });
    })
    .await;
    world.idp.knows("1", json!({ "login": "user:root", "groups": ["eng"] }));
    world.idp.at_browser("1");
    let mut browser = world.browser();
    let id = world.registered().await;
    let page = world.asks(&mut browser, &id).await;
    let page = world.logs_in(&mut browser, &page).await;
    let wanted = "your servers as <strong>user:root (127.0.0.1)</strong>";
    assert!(is_consent(&page) && page.body.contains(wanted), "{page:?}");
    world.let_in(&mut browser).await;
    let mut admin = world.browser();
    let page = admin.get("/oauth/login").await;
    admin.submit("/oauth/login", &[("csrf", &page.hidden("csrf")), ("token", OPS)]).await;
    let page = admin.get("/oauth").await;
    let wanted = "data-label=\"Of\">user:root (127.0.0.1)<br><small>idp:oidc:1</small>";
    assert!(page.body.contains(wanted), "{page:?}");
}

#[tokio::test]
async fn a_limit_by_a_claim_that_was_not_kept_is_asked_about_before_anything_is_let_through() {
    let mut world = World::start().await;
    let person = |team: Value| json!({ "email": "a@corp.example", "email_verified": true, "groups": ["eng"], "team": team });
    let mut programs = Vec::new();
    for (subject, team) in [("1", json!("contractors")), ("2", json!(null)), ("3", json!("own"))] {
        world.idp.knows(subject, person(team));
        world.idp.at_browser(subject);
        programs.push(world.let_in(&mut world.browser()).await);
    }
    let (mut client, mut behind) = world.stream(&programs[0].access).await;
    passes(&mut behind, &mut client, "data: 1\n\n").await;
    let mut config = world.config();
    let limit = json!({ "if": { "claim": "team", "has": "contractors" }, "servers": ["db"] });
    config["proxy"]["auth"]["assign"].as_array_mut().unwrap().push(limit);
    world.gate.reload(config);
    has_ended(client, behind).await;
    for (at, program_) in programs.iter().enumerate() {
        assert!(world.is_refused(&program_.access).await, "nobody knows whether they are limited");
        // The grant goes on: the client comes with its refresh token, and the provider is asked at once.
        let asked = world.idp.asked("/token");
        if at == 2 {
            world.idp.is(Mood::Fails);
            assert_eq!(world.refreshed(program_).await.0, 503, "nobody has said no");
            assert!(world.is_refused(&program_.access).await);
            world.idp.is(Mood::Answers);
            world.passes_time(WHILE);
        }
        let (status, tokens) = world.refreshed(program_).await;
        assert_eq!(status, 200, "{tokens}");
        assert!(world.idp.asked("/token") > asked);
        let program_ = program(program_.id.clone(), &tokens);
        let wanted = if at == 0 { 403 } else { 406 };
        let opens =
            (world.status("/db", &program_.access).await, world.status("/code", &program_.access).await);
        assert_eq!(opens, (406, wanted), "{at}");
    }
}
