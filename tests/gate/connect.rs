//! Somebody connects an account at a server: they go to its issuer, come back, see what was granted, and keep it or do not. And all the
//! ways in which somebody else would like to have it, or to have them keep what is not theirs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use sluicegate::{
    clock::Clock,
    identity::login::upstream::{UpstreamOwner, UpstreamRow, UpstreamState},
};
use test_support::{
    browser::{Browser, Got, PLAIN},
    upstream_issuer::UpstreamIssuer,
    users::{CHEAP_HASHES, PASSWORD},
};

use crate::{
    harness::{CI, DEV, Gate, post, until},
    oauth_pages::{approve, asking, is_consent, is_sign_in, log_in, target, with},
    process::Process,
};

const REDIRECT: &str = "https://app.example/callback";
const TOKEN: &str = "secret_0a1b2c3d4e5f6g7hx9zq";

fn config(issuer: &UpstreamIssuer) -> Value {
    let user = |hash: &str| json!({ "passwordHash": hash });
    let oauth =
        |kind: &str, name: &str| json!({ "kind": kind, "displayName": name, "allowPrivateIssuers": true });
    let url = issuer.url();
    json!({
        "proxy": {
            "baseUrl": PLAIN,
            "audit": {},
            "auth": {
                "kind": "oauth",
                "storage": "memory",
                "tokens": { "dev": DEV, "ci": CI },
                "users": {
                    "alice": user(CHEAP_HASHES[0]),
                    "bob": user(CHEAP_HASHES[1]),
                    "root": { "passwordHash": CHEAP_HASHES[0], "roles": ["admin"] },
                },
            },
        },
        "mcpServers": {
            "github": { "url": url, "upstreamAuth": oauth("user_oauth", "GitHub") },
            "team": { "url": url, "upstreamAuth": oauth("shared_oauth", "Team calendar") },
            "hidden": { "url": url, "users": ["bob"], "upstreamAuth": oauth("user_oauth", "Hidden place") },
            "notion": { "url": url, "upstreamAuth": {
                "kind": "user_token", "displayName": "Notion", "header": "X-Notion", "format": "{token}",
                "instructions": "Copy the secret of an integration.", "helpUrl": "https://notion.example/keys",
                "validation": "^secret_[a-z0-9]{20}$",
            } },
            "plain": { "url": url },
        },
    })
}

struct World {
    gate: Gate,
    issuer: UpstreamIssuer,
}

impl World {
    async fn start() -> Self {
        let issuer = UpstreamIssuer::start().await;
        issuer.at_browser("somebody");
        let gate = Gate::start(config(&issuer)).await;
        Self { gate, issuer }
    }

    fn browser(&self) -> Browser<'_> {
        Browser::plain(self.gate.addr, PLAIN)
    }

    async fn user(&self, name: &str) -> Browser<'_> {
        let mut browser = self.browser();
        sign_in(&mut browser, name).await;
        browser
    }

    async fn row(&self, owner: &str, server: &str) -> Option<UpstreamRow> {
        let owner: UpstreamOwner = owner.parse().unwrap();
        self.gate.gateway.shared().logins.upstream().unwrap().get(&owner, server).await.unwrap()
    }

    async fn rows(&self) -> usize {
        self.gate.gateway.shared().logins.upstream().unwrap().all(1000).await.unwrap().len()
    }

    /// Where the issuer sends a browser back to that was sent there with `url`.
    async fn sends_back(&self, url: &str) -> String {
        self.issuer.sends_back(url).await
    }

    /// The page on which somebody sees what was granted at a server.
    async fn granted(&self, browser: &mut Browser<'_>, server: &str) -> Got {
        let url = begin(browser, server).await;
        let back = self.sends_back(&url).await;
        let page = browser.get(&back).await;
        assert!(is_approval(&page), "{page:?}");
        page
    }

    async fn connect(&self, browser: &mut Browser<'_>, server: &str) -> Got {
        let page = self.granted(browser, server).await;
        decide(browser, &page, "approve").await
    }
}

async fn sign_in(browser: &mut Browser<'_>, name: &str) {
    let csrf = browser.get("/oauth/login").await.hidden("csrf");
    let form = [("csrf", csrf.as_str()), ("username", name), ("password", PASSWORD)];
    let got = browser.submit("/oauth/login", &form).await;
    assert_eq!(got.leads_to().as_deref(), Some("/oauth"), "{got:?}");
}

fn page_of(server: &str) -> String {
    format!("/oauth/authorize?server_id={server}")
}

/// Where the button of the page of a server leads.
async fn begin(browser: &mut Browser<'_>, server: &str) -> String {
    begin_at(browser, &page_of(server)).await
}

async fn begin_at(browser: &mut Browser<'_>, path: &str) -> String {
    let page = browser.get(path).await;
    let to = press(browser, &page, "connect").await;
    assert_eq!(to.status, 200, "no redirect answers a form: {to:?}");
    to.leads_to().unwrap_or_else(|| panic!("{to:?}"))
}

/// Sends the form of a page on which somebody connects.
async fn press(browser: &mut Browser<'_>, page: &Got, answer: &str) -> Got {
    let (csrf, server) = (page.hidden("csrf"), page.hidden("server_id"));
    let mut form = vec![("csrf", csrf.as_str()), ("server_id", &server), ("answer", answer)];
    let return_to = page.body.contains("name=\"return\"").then(|| unescaped(&page.hidden("return")));
    form.extend(return_to.as_deref().map(|path| ("return", path)));
    browser.submit("/oauth/authorize", &form).await
}

fn unescaped(text: &str) -> String {
    text.replace("&#38;", "&").replace("&amp;", "&")
}

fn is_approval(page: &Got) -> bool {
    page.status == 200 && page.body.contains("action=\"/oauth/approve\"")
}

async fn decide(browser: &mut Browser<'_>, page: &Got, answer: &str) -> Got {
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let form = [("csrf", csrf.as_str()), ("flow", &flow), ("answer", answer)];
    browser.submit("/oauth/approve", &form).await
}

/// What nothing comes of.
fn assert_over(got: &Got, word: &str) {
    assert_eq!(got.leads_to(), Some(format!("/oauth/error?code={word}")), "{got:?}");
}

/// The form of a page whose button is called that: where it goes, and its hidden fields.
fn form_of(page: &Got, button: &str) -> (String, Vec<(String, String)>) {
    let button = format!("aria-label=\"{button}\"");
    let (before, _) = page.body.split_once(&button).unwrap_or_else(|| panic!("no {button}: {}", page.body));
    let (_, form) = before.rsplit_once("<form method=\"post\" action=\"").unwrap();
    let action = form.split('"').next().unwrap().to_owned();
    let fields = form.split("<input type=\"hidden\" name=\"").skip(1).map(|field| {
        let mut parts = field.split('"');
        let name = parts.next().unwrap().to_owned();
        (name, parts.nth(1).unwrap().to_owned())
    });
    (action, fields.collect())
}

async fn submit(browser: &mut Browser<'_>, (action, fields): &(String, Vec<(String, String)>)) -> Got {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    browser.submit(action, &fields).await
}

/// A query with one field in place of what it has, or without it.
fn with_field(url: &str, name: &str, value: Option<&str>) -> String {
    let (path, query) = url.split_once('?').unwrap();
    let kept = query.split('&').filter(|pair| pair.split('=').next() != Some(name)).map(str::to_owned);
    let more = value.map(|value| format!("{name}={value}"));
    format!("{path}?{}", kept.chain(more).collect::<Vec<_>>().join("&"))
}

#[tokio::test]
async fn somebody_connects_an_account_sees_what_was_granted_and_approves() {
    let world = World::start().await;
    let mut alice = world.user("alice").await;
    let page = alice.get(&page_of("github")).await;
    for shown in ["Connect GitHub", "alice", "github", "127.0.0.1"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert_eq!(page.body, alice.get("/oauth/authorize/github").await.body, "the same page");
    let page = world.granted(&mut alice, "github").await;
    for shown in ["Keep this connection?", "GitHub", "alice", "somebody@upstream.example"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert_eq!(world.rows().await, 0, "nothing is kept before somebody has approved");
    let done = decide(&mut alice, &page, "approve").await;
    assert_eq!((done.status, done.leads_to().as_deref()), (303, Some("/oauth/success?server_id=github")));
    let page = alice.get("/oauth/success?server_id=github").await;
    assert!(page.body.contains("GitHub is connected"), "{page:?}");
    let row = world.row("user:alice", "github").await.expect("it is kept");
    assert_eq!(row.state, UpstreamState::Connected);
    let page = alice.get("/oauth").await;
    assert!(page.body.contains("Connected") && page.body.contains("id=\"github\""), "{}", page.body);
    assert!(page.body.contains("aria-label=\"Disconnect GitHub\""), "{}", page.body);
    // Nobody else has it, and it is nothing that an admin would be asked to do.
    assert!(
        world.row("user:bob", "github").await.is_none() && world.row("everyone", "github").await.is_none()
    );
    let page = world.user("bob").await.get("/oauth").await;
    assert!(page.body.contains("Awaiting OAuth") && !page.body.contains("Disconnect GitHub"));
    // What is connected is what its page says, and not what a link says.
    let lie = world.user("bob").await.get("/oauth/success?server_id=github").await;
    assert_eq!(lie.leads_to().as_deref(), Some("/oauth"));
}

#[tokio::test]
async fn who_has_connected_is_who_calls_and_what_is_disconnected_is_revoked() {
    let world = World::start().await;
    let mut browser = world.browser();
    let csrf = browser.get("/oauth/login").await.hidden("csrf");
    browser.submit("/oauth/login", &[("csrf", csrf.as_str()), ("token", DEV)]).await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "whoami" } });
    let request =
        post("/github/mcp", DEV, "Accept: application/json, text/event-stream\r\n", &call.to_string());
    let (_, _, body) = world.gate.ask(&request).await;
    assert!(body.contains("/oauth/authorize?server_id=github"), "{body}");
    assert_eq!(world.connect(&mut browser, "github").await.status, 303);
    let (status, _, body) = world.gate.ask(&request).await;
    assert!(status == 200 && body.contains("somebody"), "{body}");
    assert_eq!(world.issuer.accounts("tools/call"), ["somebody"]);
    let form = form_of(&browser.get("/oauth").await, "Disconnect GitHub");
    assert_eq!(submit(&mut browser, &form).await.leads_to().as_deref(), Some("/oauth?did=disconnected"));
    until("it is revoked", || world.issuer.asked("/revoke") == 1).await;
    let (_, _, body) = world.gate.ask(&request).await;
    assert!(body.contains("/oauth/authorize?server_id=github"), "{body}");
    assert_eq!(world.issuer.accounts("tools/call").len(), 1);
}

#[tokio::test]
async fn who_takes_too_long_has_nothing_and_what_was_granted_is_revoked() {
    let issuer = UpstreamIssuer::start().await;
    issuer.at_browser("somebody");
    let ahead = Arc::new(AtomicU64::new(0));
    let of_clock = Arc::clone(&ahead);
    let clock = Clock::by(move || SystemTime::now() + Duration::from_secs(of_clock.load(Ordering::Relaxed)));
    let gate = Gate::start_by(config(&issuer), Duration::ZERO, clock).await;
    let world = World { gate, issuer };
    let mut alice = world.user("alice").await;
    // At the issuer.
    let url = begin(&mut alice, "github").await;
    let back = world.sends_back(&url).await;
    ahead.fetch_add(10 * 60 + 1, Ordering::Relaxed);
    assert_over(&alice.get(&back).await, "over");
    // With the decision.
    let page = world.granted(&mut alice, "github").await;
    ahead.fetch_add(10 * 60 + 1, Ordering::Relaxed);
    assert_over(&decide(&mut alice, &page, "approve").await, "over");
    assert_eq!((world.rows().await, world.issuer.asked("/revoke")), (0, 1));
}

#[tokio::test]
async fn who_denies_has_it_revoked_and_nothing_is_kept() {
    let world = World::start().await;
    let mut alice = world.user("alice").await;
    let page = world.granted(&mut alice, "github").await;
    assert_over(&decide(&mut alice, &page, "deny").await, "denied");
    assert_eq!((world.rows().await, world.issuer.asked("/revoke")), (0, 1));
    // There is nothing left to approve.
    assert_over(&decide(&mut alice, &page, "approve").await, "over");
    assert_eq!(world.rows().await, 0);
    let page = alice.get("/oauth/error?code=denied").await;
    assert!(page.status == 400 && page.body.contains("it was denied"), "{page:?}");
    // Who did not go on at all is sent where they came from.
    let page = alice.get("/oauth/authorize?server_id=github&return=/oauth?x=1").await;
    let cancelled = press(&mut alice, &page, "cancel").await;
    assert_eq!(cancelled.leads_to().as_deref(), Some("/oauth?x=1"));
}

#[tokio::test]
async fn nothing_is_kept_of_an_answer_that_is_not_of_this_browser_person_server_and_issuer() {
    let world = World::start().await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    // Each of them is tried with a connection of its own, which is over then.
    type Change = fn(&str) -> String;
    let changes: [(&str, Change); 12] = [
        ("no state", |url| with_field(url, "state", None)),
        ("another state", |url| with_field(url, "state", Some(&"x".repeat(43)))),
        ("a shorter state", |url| with_field(url, "state", Some("x"))),
        ("a longer state", |url| with_field(url, "state", Some(&"x".repeat(700)))),
        ("another issuer", |url| with_field(url, "iss", Some("https%3A%2F%2Fevil.example"))),
        ("the issuer with a slash", |url| {
            let iss = url.split("iss=").nth(1).unwrap_or_default().split('&').next().unwrap();
            with_field(url, "iss", Some(&format!("{iss}%2F")))
        }),
        ("no issuer", |url| with_field(url, "iss", None)),
        ("an empty issuer", |url| with_field(url, "iss", Some(""))),
        ("another server", |url| url.replace("/oauth/callback/github", "/oauth/callback/hidden")),
        ("no server", |url| url.replace("/oauth/callback/github", "/oauth/callback")),
        ("no code", |url| with_field(url, "code", None)),
        ("a code of nobody", |url| with_field(url, "code", Some("made-up"))),
    ];
    for (what, change) in changes {
        let url = begin(&mut alice, "github").await;
        let back = world.sends_back(&url).await;
        assert!(back.contains("iss="), "{back}");
        let got = alice.get(&change(&back)).await;
        assert!(!is_approval(&got), "{what}: {got:?}");
        assert!(got.leads_to().is_some_and(|to| to.starts_with("/oauth/error?code=")) || got.status == 400);
        if !what.contains("state") {
            assert_over(&alice.get(&back).await, "over");
        }
    }
    // The right answer, in the wrong browser or by the wrong person.
    let mut stranger = world.browser();
    let mut other_browser = world.user("alice").await;
    for what in [
        "stranger",
        "bob",
        "another browser of hers",
        "no flow cookie",
        "two flow cookies",
        "his flow cookie",
    ] {
        let url = begin(&mut alice, "github").await;
        let back = world.sends_back(&url).await;
        let kept = alice.cookies.clone();
        let got = match what {
            "stranger" => stranger.get(&back).await,
            "bob" => bob.get(&back).await,
            "another browser of hers" => other_browser.get(&back).await,
            what => {
                match what {
                    "no flow cookie" => drop(alice.cookies.remove("sg-flow")),
                    "two flow cookies" => {
                        let twice = format!("{0}; sg-flow={0}", kept["sg-flow"]);
                        alice.cookies.insert("sg-flow".into(), twice);
                    }
                    _ => drop(alice.cookies.insert("sg-flow".into(), bob.cookies["sg-flow"].clone())),
                }
                alice.get(&back).await
            }
        };
        assert_over(&got, "over");
        alice.cookies = kept;
        assert_over(&alice.get(&back).await, "over");
    }
    // What was granted, approved in the wrong browser, by the wrong person, or by a form of another page.
    for what in ["bob", "another browser of hers", "no field", "the field of another page", "another grant"] {
        let page = world.granted(&mut alice, "github").await;
        let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
        let (csrf, flow) = match what {
            "no field" => (String::new(), flow),
            "the field of another page" => (alice.get(&page_of("github")).await.hidden("csrf"), flow),
            "another grant" => (csrf, "x".repeat(43)),
            _ => (csrf, flow),
        };
        let form = [("csrf", csrf.as_str()), ("flow", &flow), ("answer", "approve")];
        let browser = match what {
            "bob" => &mut bob,
            "another browser of hers" => &mut other_browser,
            _ => &mut alice,
        };
        let got = browser.submit("/oauth/approve", &form).await;
        assert_over(&got, "over");
        // The page of whom it belongs to is still good.
        assert_over(&decide(&mut alice, &page, "deny").await, "denied");
    }
    assert_eq!(world.rows().await, 0);
}

#[tokio::test]
async fn two_who_swap_their_browsers_have_what_is_their_own() {
    let world = World::start().await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let (of_alice, of_bob) = (begin(&mut alice, "github").await, begin(&mut bob, "github").await);
    let (of_alice, of_bob) = (world.sends_back(&of_alice).await, world.sends_back(&of_bob).await);
    assert_over(&alice.get(&of_bob).await, "over");
    assert_over(&bob.get(&of_alice).await, "over");
    assert_eq!(world.rows().await, 0);
    // Each connects their own, one after the other.
    let of_bob = world.granted(&mut bob, "github").await;
    let of_alice = world.granted(&mut alice, "github").await;
    assert_over(&decide(&mut alice, &of_bob, "approve").await, "over");
    decide(&mut bob, &of_bob, "approve").await;
    decide(&mut alice, &of_alice, "approve").await;
    let owners = [world.row("user:alice", "github").await, world.row("user:bob", "github").await];
    assert!(owners.iter().all(Option::is_some) && world.rows().await == 2);
}

#[tokio::test]
async fn an_answer_comes_once_and_to_who_is_still_signed_in() {
    let world = World::start().await;
    let mut browser = world.user("alice").await;
    // Twice.
    let url = begin(&mut browser, "github").await;
    let back = world.sends_back(&url).await;
    let page = browser.get(&back).await;
    assert!(is_approval(&page));
    assert_over(&browser.get(&back).await, "over");
    assert_eq!(decide(&mut browser, &page, "approve").await.status, 303);
    assert_over(&decide(&mut browser, &page, "approve").await, "over");
    assert_eq!(world.rows().await, 1);
    // Bob signs in, in the same browser, while it is away.
    let url = begin(&mut browser, "github").await;
    let back = world.sends_back(&url).await;
    browser.cookies.remove("sg-login");
    sign_in(&mut browser, "bob").await;
    assert_over(&browser.get(&back).await, "over");
    // And between what was granted and the decision.
    browser.cookies.remove("sg-login");
    sign_in(&mut browser, "alice").await;
    let page = world.granted(&mut browser, "github").await;
    browser.cookies.remove("sg-login");
    sign_in(&mut browser, "bob").await;
    assert_over(&decide(&mut browser, &page, "approve").await, "over");
    assert!(world.row("user:bob", "github").await.is_none() && world.rows().await == 1);
}

#[tokio::test]
async fn who_is_not_signed_in_signs_in_first_and_goes_on() {
    let world = World::start().await;
    let mut browser = world.browser();
    let path = "/oauth/authorize?server_id=github&return=/oauth?x=1";
    let page = browser.get(path).await;
    assert!(is_sign_in(&page) && !page.body.contains("GitHub"), "{page:?}");
    let (csrf, flow) = (page.hidden("csrf"), unescaped(&page.hidden("flow")));
    assert_eq!(flow, path);
    let form = [("csrf", csrf.as_str()), ("flow", &flow), ("username", "alice"), ("password", PASSWORD)];
    let got = browser.submit("/oauth/login", &form).await;
    assert_eq!(got.leads_to().as_deref(), Some(path), "{got:?}");
    let url = begin_at(&mut browser, path).await;
    let back = world.sends_back(&url).await;
    let page = browser.get(&back).await;
    assert_eq!(decide(&mut browser, &page, "approve").await.leads_to().as_deref(), Some("/oauth?x=1"));
    // Nobody is led away from here, whatever a link or a form says.
    for elsewhere in ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"] {
        let mut browser = world.browser();
        let csrf = browser.get("/oauth/login").await.hidden("csrf");
        let form =
            [("csrf", csrf.as_str()), ("flow", elsewhere), ("username", "alice"), ("password", PASSWORD)];
        let got = browser.submit("/oauth/login", &form).await;
        assert_eq!((got.status, got.leads_to()), (400, None), "{got:?}");
        let mut browser = world.user("alice").await;
        let page = browser.get(&format!("/oauth/authorize?server_id=github&return={elsewhere}")).await;
        assert!(!page.body.contains("name=\"return\""), "{page:?}");
    }
}

#[tokio::test]
async fn nobody_learns_of_a_server_that_they_may_not_use() {
    let world = World::start().await;
    let mut alice = world.user("alice").await;
    for server in ["hidden", "none", "plain", "team", "%3Cb%3E", ""] {
        let got = alice.get(&format!("/oauth/authorize?server_id={server}")).await;
        match server {
            "" => assert_eq!(got.leads_to().as_deref(), Some("/oauth")),
            _ => assert_over(&got, "not_allowed"),
        }
        let got = alice.get(&format!("/oauth/success?server_id={server}")).await;
        assert_eq!(got.leads_to().as_deref(), Some("/oauth"), "{server}");
        let csrf = alice.get(&page_of("github")).await.hidden("csrf");
        let form = [("csrf", csrf.as_str()), ("server_id", server), ("answer", "connect")];
        assert_ne!(alice.submit("/oauth/authorize", &form).await.status, 200, "{server}");
    }
    let page = alice.get("/oauth").await;
    assert!(!page.body.contains("Hidden place") && !page.body.contains("Team calendar"), "{}", page.body);
    // The one that a link calls by another name is not the one.
    let by = |provider: &str| format!("/oauth/authorize?server_id=github&provider={provider}");
    assert_eq!(alice.get(&by("GitHub")).await.status, 200);
    assert_over(&alice.get(&by("gitlab")).await, "not_allowed");
    assert_over(&alice.get("/oauth/authorize/github?server_id=notion").await, "not_allowed");
    // As MCP Front has it.
    let got = alice.get("/oauth/connect?service=github").await;
    assert_eq!(got.leads_to().as_deref(), Some("/oauth/authorize?server_id=github"));
    let got = alice.get("/oauth/connect?service=%0d%0ax").await;
    assert_eq!(got.leads_to().as_deref(), Some("/oauth"));
    // Who may, sees it.
    assert!(world.user("bob").await.get("/oauth").await.body.contains("Hidden place"));
}

#[tokio::test]
async fn no_word_of_the_issuer_stands_on_a_page_or_in_the_log() {
    let world = World::start().await;
    let mut alice = world.user("alice").await;
    let url = begin(&mut alice, "github").await;
    let back = world.sends_back(&url).await;
    let refused = with_field(&back, "code", None);
    for (error, word) in
        [("access_denied", "denied"), ("server_error", "unavailable"), ("canary-of-the-issuer", "refused")]
    {
        let url = begin(&mut alice, "github").await;
        let state = url.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
        let asked = with_field(&refused, "state", Some(&state));
        let asked = format!("{asked}&error={error}&error_description=canary-of-the-issuer");
        let got = alice.get(&asked).await;
        assert_over(&got, word);
        let page = alice.get(&got.leads_to().unwrap()).await;
        assert!(!page.body.contains("canary"), "{page:?}");
        // Without the right issuer, the error is not even read.
        let url = begin(&mut alice, "github").await;
        let state = url.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
        let asked = with_field(&with_field(&refused, "state", Some(&state)), "iss", Some("x"));
        assert_over(&alice.get(&format!("{asked}&error={error}")).await, "issuer");
    }
    for word in ["", "canary-of-the-issuer", "<b>"] {
        let page = alice.get(&format!("/oauth/error?code={word}")).await;
        assert!(page.status == 400 && !page.body.contains("canary"), "{page:?}");
    }
    let log = world.gate.log.text();
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn a_token_that_somebody_enters_is_kept_and_never_shown() {
    let world = World::start().await;
    let mut alice = world.user("alice").await;
    assert!(alice.get("/my/tokens").await.body.contains("Enter token"));
    let page = alice.get(&page_of("notion")).await;
    for shown in ["Enter your token of Notion", "Copy the secret", "https://notion.example/keys"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    let csrf = page.hidden("csrf");
    let set = |token| [("csrf", csrf.as_str()), ("server_id", "notion"), ("token", token)];
    for wrong in ["", "secret_short", "Xsecret_0a1b2c3d4e5f6g7hx9zq", "secret_0a1b2c3d4e5f6g7hx9zq\u{e9}"] {
        let got = alice.submit("/my/tokens/set", &set(wrong)).await;
        assert!(got.status == 400 && got.body.contains("has another form"), "{got:?}");
        assert!(wrong.is_empty() || !got.body.contains(wrong));
    }
    assert_eq!(world.rows().await, 0);
    let got = alice.submit("/my/tokens/set", &set(&format!(" {TOKEN} "))).await;
    assert_eq!(got.leads_to().as_deref(), Some("/oauth?did=token"), "{got:?}");
    assert!(world.row("user:alice", "notion").await.is_some());
    let page = alice.get("/oauth").await;
    assert!(page.body.contains("…x9zq") && !page.body.contains(TOKEN), "{}", page.body);
    assert!(!world.gate.log.text().contains(TOKEN));
    // With a field of another page, of another server, or of somebody else, it is not.
    let mut bob = world.user("bob").await;
    let own = bob.get(&page_of("notion")).await.hidden("csrf");
    for (csrf, server) in [("", "notion"), (&*csrf, "notion"), (&own, "hidden"), (&own, "github")] {
        let form = [("csrf", csrf), ("server_id", server), ("token", TOKEN)];
        assert_eq!(bob.submit("/my/tokens/set", &form).await.status, 400);
    }
    assert_eq!(world.rows().await, 1);
    let forget = form_of(&page, "Disconnect Notion");
    let gone = submit(&mut alice, &("/my/tokens/delete".into(), forget.1)).await;
    assert_eq!(gone.leads_to().as_deref(), Some("/oauth?did=disconnected"), "{gone:?}");
    assert_eq!(world.rows().await, 0);
}

#[tokio::test]
async fn an_admin_sees_all_states_and_no_value_and_nobody_else_does() {
    let world = World::start().await;
    let mut alice = world.user("alice").await;
    world.connect(&mut alice, "github").await;
    let csrf = alice.get(&page_of("notion")).await.hidden("csrf");
    alice.submit("/my/tokens/set", &[("csrf", &*csrf), ("server_id", "notion"), ("token", TOKEN)]).await;
    let mut root = world.user("root").await;
    // One account for all is an admin's to connect.
    assert!(root.get(&page_of("team")).await.body.contains("Everybody who may use"));
    assert_eq!(world.connect(&mut root, "team").await.status, 303);
    assert!(world.row("everyone", "team").await.is_some() && world.row("user:root", "team").await.is_none());
    let page = root.get("/oauth").await;
    for shown in ["Team calendar", "for everybody", "Servers of others", "GitHub", "Notion", "alice"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(!page.body.contains("x9zq"), "not even how it ends: {}", page.body);
    let of_alice = form_of(&page, "Disconnect GitHub of alice");
    let of_all = form_of(&page, "Disconnect Team calendar");
    // The forms are good for nobody else, and no form says whose it is without its field.
    let mut bob = world.user("bob").await;
    for form in [&of_alice, &of_all] {
        assert_eq!(submit(&mut bob, form).await.status, 400);
        assert_eq!(submit(&mut alice, form).await.status, 400);
    }
    assert_eq!(world.rows().await, 3);
    let own = form_of(&alice.get("/oauth").await, "Disconnect GitHub");
    let changed = own.1.iter().map(|(name, value)| match &**name {
        "account" => (name.clone(), "everyone".to_owned()),
        _ => (name.clone(), value.clone()),
    });
    assert_eq!(submit(&mut alice, &(own.0.clone(), changed.collect())).await.status, 400);
    for form in [&of_alice, &of_all] {
        let gone = submit(&mut root, form).await;
        assert_eq!(gone.leads_to().as_deref(), Some("/oauth?did=disconnected"), "{gone:?}");
    }
    assert_eq!(world.rows().await, 1);
}

#[tokio::test]
async fn a_program_that_was_let_in_waits_until_accounts_are_connected_or_skipped() {
    let world = World::start().await;
    let about = json!({ "client_name": "A program", "redirect_uris": [REDIRECT] }).to_string();
    let request = post("/register", "", "", &about).replace("Authorization: Bearer \r\n", "");
    let (_, _, body) = world.gate.ask(&request).await;
    let id = serde_json::from_str::<Value>(&body).unwrap()["client_id"].as_str().unwrap().to_owned();
    let asked = target(&with(asking(&id, REDIRECT), [("scope", Some("mcp"))]));
    let consent = async |browser: &mut Browser<'_>, user: &str| {
        let page = browser.get(&asked).await;
        let page = log_in(browser, &page, user).await;
        assert!(is_consent(&page), "{page:?}");
        approve(browser, &page, &["mcp"]).await
    };
    // One skips it.
    let mut bob = world.browser();
    let page = consent(&mut bob, "bob").await;
    for shown in ["Connect your accounts", "GitHub", "Notion", "Hidden place", "Skip"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(page.leads_to().is_none() && !page.body.contains("code="), "{page:?}");
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let skip = [("csrf", csrf.as_str()), ("flow", &flow), ("answer", "skip")];
    let done = bob.submit("/oauth/consent", &skip).await;
    assert!(done.answer("code").is_some(), "{done:?}");
    // One request brings one code, however often it is asked for.
    assert_eq!(bob.submit("/oauth/consent", &skip).await.answer("code"), done.answer("code"));
    assert!(bob.get(&format!("/oauth/consent?flow={flow}")).await.answer("code").is_none(), "it asks again");
    // The other connects one, is asked about the rest, and connects that, too.
    let mut alice = world.browser();
    let page = consent(&mut alice, "alice").await;
    assert!(!page.body.contains("Hidden place") && !page.body.contains("Team calendar"), "{}", page.body);
    let link = |page: &Got, button: &str| {
        let (before, _) = page.body.split_once(&format!("aria-label=\"{button}\"")).unwrap();
        let (_, link) = before.rsplit_once("href=\"").unwrap();
        unescaped(link.split('"').next().unwrap())
    };
    // Nobody but her goes on with what she has allowed.
    let (_, back) = page.body.split_once("name=\"flow\" value=\"").unwrap();
    let back = format!("/oauth/consent?flow={}", back.split('"').next().unwrap());
    for other in [&mut bob, &mut world.browser()] {
        let got = other.get(&back).await;
        assert!(got.answer("code").is_none() && got.status == 400, "{got:?}");
    }
    let url = begin_at(&mut alice, &link(&page, "Connect GitHub")).await;
    let answer = world.sends_back(&url).await;
    let granted = alice.get(&answer).await;
    let led = decide(&mut alice, &granted, "approve").await.leads_to().unwrap();
    assert!(led.starts_with("/oauth/consent?flow="), "{led}");
    let page = alice.get(&led).await;
    assert!(!page.body.contains("GitHub") && page.body.contains("Notion"), "{page:?}");
    let enter = alice.get(&link(&page, "Enter token Notion")).await;
    let (csrf, path) = (enter.hidden("csrf"), unescaped(&enter.hidden("return")));
    let form = [("csrf", csrf.as_str()), ("server_id", "notion"), ("token", TOKEN), ("return", &path)];
    let led = alice.submit("/my/tokens/set", &form).await.leads_to().unwrap();
    let done = alice.get(&led).await;
    assert!(done.answer("code").is_some(), "{done:?}");
}

#[tokio::test]
async fn everybody_may_read_who_the_gateway_is_and_learns_of_no_server() {
    let world = World::start().await;
    let mut anyone = world.browser();
    let got = anyone.get("/oauth/client.json").await;
    let document: Value = serde_json::from_str(&got.body).unwrap_or_else(|_| panic!("{got:?}"));
    assert_eq!(document["client_id"], format!("{PLAIN}/oauth/client.json"));
    assert_eq!(document["redirect_uris"], json!([format!("{PLAIN}/oauth/callback")]));
    assert_eq!(document["token_endpoint_auth_method"], "none");
    assert!(
        got.head.contains("access-control-allow-origin: *") && !got.head.contains("set-cookie"),
        "{got:?}"
    );
    for name in ["github", "hidden", "team", "GitHub"] {
        assert!(!got.body.contains(name), "{name}: {}", got.body);
    }
    assert_eq!(anyone.get("/oauth/jwks.json").await.status, 404);
}

#[tokio::test]
async fn what_began_at_a_gateway_that_was_killed_goes_on_at_the_next() {
    let issuer = UpstreamIssuer::start().await;
    issuer.at_browser("somebody");
    let state = tempfile::TempDir::new().unwrap();
    let mut config = config(&issuer);
    config["proxy"]["stateDir"] = json!(state.path().join("state"));
    config["proxy"]["auth"].as_object_mut().unwrap().remove("storage");
    config["proxy"].as_object_mut().unwrap().remove("audit");
    let first = Process::start(config.clone()).await;
    let mut browser = Browser::plain(first.addr, PLAIN);
    sign_in(&mut browser, "alice").await;
    let cookies = |browser: &Browser<'_>| browser.cookies.clone();
    let url = begin(&mut browser, "github").await;
    let (kept, back) = (cookies(&browser), issuer.sends_back(&url).await);
    drop(first);
    let second = Process::start(config.clone()).await;
    let mut browser = Browser::plain(second.addr, PLAIN);
    browser.cookies = kept;
    let page = browser.get(&back).await;
    assert!(is_approval(&page), "{page:?}");
    let kept = cookies(&browser);
    drop(second);
    let third = Process::start(config).await;
    let mut browser = Browser::plain(third.addr, PLAIN);
    browser.cookies = kept;
    let done = decide(&mut browser, &page, "approve").await;
    assert_eq!(done.leads_to().as_deref(), Some("/oauth/success?server_id=github"), "{done:?}");
    let page = browser.get("/oauth/success?server_id=github").await;
    assert!(page.body.contains("GitHub is connected"), "{page:?}");
}
