//! A program sends its user here, who logs in and decides; the program gets a code, or an error. And all the ways in which somebody
//! else would like to have that code.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use sluicegate::identity::{
    Principal,
    login::grants::{NotRedeemed, Redemption},
};
use test_support::{
    browser::{self, BASE, Browser, Got, query},
    internet::{TestHost, TestInternet, json_answer},
    tls::Identity,
    users::PASSWORD,
};

use crate::harness::{CI, DEV, Gate};

/// SHA-256 of `VERIFIER` in base64url (RFC 7636, appendix B).
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const PUBLIC: &str = "93.184.216.34";
const BAIT: &str = "bait-token-0123456789abcdef";
/// Hosts that have certificates in the test's Internet.
const HOSTS: [&str; 4] = ["claude.ai", "vscode.dev", "chatgpt.com", "evil.example"];

fn config(tls: &Identity) -> Value {
    let servers = json!({
        "db": { "url": "http://127.0.0.1:9/", "tags": ["reports"] },
        "files": { "url": "http://127.0.0.1:9/", "users": ["alice"] },
    });
    let mut config = browser::config(tls, &servers);
    config["proxy"]["auth"]["redirectSchemes"] = json!(["cursor"]);
    config
}

struct World {
    gate: Gate,
    tls: Identity,
    internet: Arc<TestInternet>,
    host: TestHost,
}

impl World {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Value)) -> Self {
        let tls = Identity::new();
        let (internet, host) = TestInternet::new(&HOSTS, PUBLIC).await;
        let mut config = config(&tls);
        change(&mut config);
        let gate = Gate::start_in(config, Arc::<TestInternet>::clone(&internet)).await;
        Self { gate, tls, internet, host }
    }

    fn browser(&self) -> Browser<'_> {
        Browser::new(&self.gate, &self.tls)
    }

    async fn register(&self, body: &Value) -> (u16, Value) {
        let stream = tokio::net::TcpStream::connect(self.gate.addr).await.unwrap();
        let stream = self.tls.connect(stream, &["http/1.1"], rustls::ALL_VERSIONS).await.unwrap();
        let mut client = crate::harness::Client::new(stream);
        let body = body.to_string();
        let length = body.len();
        client
            .send(format!(
                "POST /register HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        let (status, _, body) = client.response().await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The id of a client that registered with this redirect URI.
    async fn registered(&self, redirect_uri: &str) -> String {
        let (status, answer) =
            self.register(&json!({ "client_name": "A program", "redirect_uris": [redirect_uri] })).await;
        assert_eq!(status, 201, "{answer}");
        answer["client_id"].as_str().unwrap().to_owned()
    }

    /// Whether a code brings a grant to who has the verifier.
    async fn is_good(&self, code: &str, client_id: &str, redirect_uri: &str) -> bool {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        use sha2::{Digest as _, Sha256};
        let shared = self.gate.gateway.shared();
        let live = shared.live().clone();
        let challenge: [u8; 32] = Sha256::digest(VERIFIER).into();
        assert_eq!(URL_SAFE_NO_PAD.encode(challenge), CHALLENGE);
        let shown = Redemption {
            client_id: client_id.into(),
            redirect_uri: Some(redirect_uri.into()),
            challenge_of_verifier: Some(challenge),
            refresh_token_scopes: Vec::new(),
        };
        let now = shared.live().clock.now();

        let redeemed = shared
            .logins
            .grants()
            .unwrap()
            .redeem(code, shown, Box::new(|_, _, _| Ok(())), &live.config.login_terms, now)
            .await;
        match redeemed {
            Ok(_) => true,
            Err(NotRedeemed::Invalid) => false,
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// What each client sends in the end.
pub fn asking(client_id: &str, redirect_uri: &str) -> Vec<(&'static str, String)> {
    [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("state", "a state"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

pub fn with<'a>(
    mut fields: Vec<(&'static str, String)>,
    changes: impl IntoIterator<Item = (&'static str, Option<&'a str>)>,
) -> Vec<(&'static str, String)> {
    for (name, value) in changes {
        fields.retain(|(other, _)| *other != name);
        fields.extend(value.map(|value| (name, value.to_owned())));
    }
    fields
}

pub fn target(fields: &[(&'static str, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    format!("/authorize?{}", query(&fields))
}

/// Logs in on a page that asks for it.
pub async fn log_in(browser: &mut Browser<'_>, page: &Got, user: &str) -> Got {
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let form = [("csrf", csrf.as_str()), ("flow", &flow), ("username", user), ("password", PASSWORD)];
    browser.submit("/oauth/login", &form).await
}

/// Approves on the page that asks, with these scopes ticked.
pub async fn approve(browser: &mut Browser<'_>, page: &Got, scopes: &[&str]) -> Got {
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let names: Vec<_> = scopes.iter().map(|scope| format!("scope:{scope}")).collect();
    let mut form = vec![("csrf", csrf.as_str()), ("flow", flow.as_str()), ("answer", "approve")];
    form.extend(names.iter().map(|name| (name.as_str(), "on")));
    browser.submit("/oauth/consent", &form).await
}

pub fn is_sign_in(page: &Got) -> bool {
    page.asks_for("password")
}

pub fn is_consent(page: &Got) -> bool {
    page.status == 200 && page.body.contains("action=\"/oauth/consent\"")
}

/// A page that says what is wrong, and leads nowhere.
fn assert_trouble(page: &Got) {
    assert_eq!((page.status, page.leads_to()), (400, None), "{page:?}");
    assert!(page.head.contains("text/html") && !page.body.contains("csrf"), "{page:?}");
}

#[tokio::test]
async fn a_program_registers_and_gets_a_code_once_its_user_has_logged_in_and_approved() {
    let world = World::start_with(|config| config["proxy"]["audit"] = json!({})).await;
    let redirect_uri = "http://localhost:49152/callback";
    let id = world.registered("http://localhost:3118/callback").await;
    let mut browser = world.browser();
    let page = browser.get(&target(&asking(&id, redirect_uri))).await;
    assert!(is_sign_in(&page), "{page:?}");
    let cookie = page.head.lines().find(|line| line.starts_with("set-cookie")).unwrap();
    assert!(cookie.contains("__Host-sg-flow=") && cookie.contains("Secure") && cookie.contains("HttpOnly"));
    let wrong = [
        ("csrf", &*page.hidden("csrf")),
        ("flow", &page.hidden("flow")),
        ("username", "alice"),
        ("password", "x"),
    ];
    let refused = browser.submit("/oauth/login", &wrong).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("Name, password or token is wrong."), "{refused:?}");
    let page = log_in(&mut browser, &refused, "alice").await;
    assert!(is_consent(&page), "{page:?}");
    assert!(browser.cookies.contains_key("__Host-sg-login"));
    for shown in ["A program", "alice", "db", "files", "not verified", "this computer", "mcp"] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    let done = approve(&mut browser, &page, &["mcp"]).await;
    assert_eq!(done.status, 200, "a page, to which form-action does not apply");
    let leads_to = done.leads_to().unwrap();
    assert!(leads_to.starts_with("http://localhost:49152/callback?code="), "{leads_to}");
    assert_eq!(
        (done.answer("state").as_deref(), done.answer("iss").as_deref()),
        (Some("a+state"), Some(BASE))
    );
    let code = done.answer("code").unwrap();
    assert!(world.is_good(&code, &id, redirect_uri).await);
    for (secret, what) in [
        (&*code, "code"),
        ("a state", "state"),
        (PASSWORD, "password"),
        (&*id, "id"),
        (CHALLENGE, "challenge"),
    ] {
        assert!(!world.gate.log.text().contains(secret), "{what} in the log");
    }
    // The next time, nobody vouches for the program either.
    let again = browser.get(&target(&asking(&id, redirect_uri))).await;
    assert!(is_consent(&again), "{again:?}");
    let (csrf, flow) = (again.hidden("csrf"), again.hidden("flow"));
    let denied =
        browser.submit("/oauth/consent", &[("csrf", &csrf), ("flow", &flow), ("answer", "deny")]).await;
    assert_eq!(denied.answer("error").as_deref(), Some("access_denied"));
    assert_eq!((denied.answer("code"), denied.answer("iss").as_deref()), (None, Some(BASE)));
}

/// What the document of a client says.
fn document(id: &str, name: &str, redirect_uris: &[&str]) -> Value {
    json!({
        "client_id": id,
        "client_name": name,
        "redirect_uris": redirect_uris,
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    })
}

#[tokio::test]
async fn who_was_let_in_before_is_let_in_again_if_somebody_vouches_for_it_and_asks_for_no_more() {
    const ID: &str = "https://claude.ai/oauth/mcp-oauth-client-metadata";
    const REDIRECT: &str = "https://claude.ai/api/mcp/auth_callback";
    let world = World::start().await;
    let document = document(ID, "Claude", &[REDIRECT, "http://localhost/callback"]).to_string();
    let mut browser = world.browser();
    let asked = with(asking(ID, REDIRECT), [("scope", Some("mcp server:db"))]);
    let answer = json_answer(&document, "");
    let target_ = target(&asked);
    let (page, _) = tokio::join!(browser.get(&target_), world.host.answer(&answer));
    let page = log_in(&mut browser, &page, "alice").await;
    assert!(page.body.contains("claude.ai") && !page.body.contains("not verified"));
    // The user lets it have less than it asked for.
    let done = approve(&mut browser, &page, &["server:db"]).await;
    assert!(done.answer("code").is_some());
    let again = |scope| target(&with(asked.clone(), [("scope", Some(scope))]));
    let more = browser.get(&again("mcp server:db")).await;
    assert!(is_consent(&more), "{more:?}");
    let same = browser.get(&again("server:db")).await;
    assert_eq!(
        (same.status, same.answer("code").is_some(), same.answer("iss").as_deref()),
        (302, true, Some(BASE))
    );
    for more in [
        with(asked.clone(), [("scope", Some("server:db")), ("prompt", Some("consent"))]),
        with(asked.clone(), [("scope", Some("server:db")), ("resource", Some("https://mcp.example.com/db"))]),
        with(
            asked.clone(),
            [("scope", Some("server:db")), ("redirect_uri", Some("http://localhost:9/callback"))],
        ),
    ] {
        let page = browser.get(&target(&more)).await;
        assert!(is_consent(&page), "{page:?}");
    }
    let none = |scope| target(&with(asked.clone(), [("scope", Some(scope)), ("prompt", Some("none"))]));
    assert!(browser.get(&none("server:db")).await.answer("code").is_some());
    assert_eq!(browser.get(&none("mcp")).await.offered("error").as_deref(), Some("consent_required"));
    let nobody = world.browser().get(&none("mcp")).await;
    assert_eq!(nobody.offered("error").as_deref(), Some("login_required"));
    let anew = browser.get(&target(&with(asked.clone(), [("prompt", Some("login"))]))).await;
    assert!(is_sign_in(&anew));
    // Who is to be asked in any case is asked also if they have to log in first.
    let mut elsewhere = world.browser();
    let page = elsewhere.get(&again("server:db")).await;
    assert!(log_in(&mut elsewhere, &page, "alice").await.answer("code").is_some());
    let mut elsewhere = world.browser();
    let consent = with(asked.clone(), [("scope", Some("server:db")), ("prompt", Some("consent"))]);
    let page = elsewhere.get(&target(&consent)).await;
    let page = log_in(&mut elsewhere, &page, "alice").await;
    assert!(is_consent(&page), "{page:?}");
    // Another user was not asked.
    let mut other = world.browser();
    let page = other.get(&again("server:db")).await;
    let page = log_in(&mut other, &page, "bob").await;
    assert!(is_consent(&page), "{page:?}");
}

#[tokio::test]
async fn fewer_tags_are_more_servers_so_they_are_allowed_together_or_not_at_all() {
    const ID: &str = "https://claude.ai/oauth/mcp-oauth-client-metadata";
    const REDIRECT: &str = "https://claude.ai/api/mcp/auth_callback";
    let tags = |config: &mut Value| config["mcpServers"]["db"]["tags"] = json!(["reports", "eu"]);
    let world = World::start_with(tags).await;
    let document = document(ID, "Claude", &[REDIRECT]).to_string();
    let mut browser = world.browser();
    let asked = |scope| target(&with(asking(ID, REDIRECT), [("scope", Some(scope))]));
    let (target_, answer) = (asked("tag:reports tag:eu server:db"), json_answer(&document, ""));
    let (page, _) = tokio::join!(browser.get(&target_), world.host.answer(&answer));
    let page = log_in(&mut browser, &page, "alice").await;
    assert!(page.body.contains("all of the tags reports, eu"), "{}", page.body);
    let one = approve(&mut browser, &page, &["tag:reports"]).await;
    assert_eq!(one.answer("error").as_deref(), Some("access_denied"));
    let page = browser.get(&target_).await;
    let both = approve(&mut browser, &page, &["tag:reports tag:eu"]).await;
    assert!(both.answer("code").is_some(), "{both:?}");
    let same = browser.get(&asked("tag:eu tag:reports")).await;
    assert!(same.answer("code").is_some(), "{same:?}");
    for more in ["tag:reports", "tag:eu", "tag:eu server:db"] {
        let page = browser.get(&asked(more)).await;
        assert!(is_consent(&page), "{more} {page:?}");
    }
}

#[tokio::test]
async fn who_asks_for_what_is_not_there_is_not_offered_all() {
    let world = World::start_with(|config| config["proxy"]["auth"]["scopeValidation"] = json!(false)).await;
    let redirect_uri = "https://app.example/cb";
    let id = world.registered(redirect_uri).await;
    let mut browser = world.browser();
    let asked = |scope| target(&with(asking(&id, redirect_uri), [("scope", Some(scope))]));
    let long = format!("mcp {}", "x".repeat(1_024));
    let refused = browser.get(&asked(&long)).await;
    assert_eq!(refused.offered("error").as_deref(), Some("invalid_scope"), "{refused:?}");
    let page = browser.get(&asked("server:none")).await;
    let refused = log_in(&mut browser, &page, "alice").await;
    assert_eq!(refused.offered("error").as_deref(), Some("invalid_scope"), "{refused:?}");
    for scope in ["openid tag:none", "tag:reports", "server:none offline_access"] {
        let answer = browser.get(&asked(scope)).await;
        assert_eq!(answer.offered("error").as_deref(), Some("invalid_scope"), "{scope}: {answer:?}");
        assert_eq!(answer.offered("state").as_deref(), Some("a+state"));
    }
    for scope in ["", "offline_access", "openid server:db", "openid profile"] {
        assert!(is_consent(&browser.get(&asked(scope)).await), "{scope}");
    }
}

#[tokio::test]
async fn a_stranger_learns_nothing_of_which_servers_and_tags_there_are() {
    let world = World::start().await;
    let id = world.registered("https://app.example/cb").await;
    for (there, not_there) in [
        ("server:db", "server:no"),
        ("mcp server:files", "mcp server:nones"),
        ("tag:reports offline_access", "tag:nothing offline_access"),
        ("tag:reports tag:nothing", "tag:nothing tag:reports"),
    ] {
        let mut seen = Vec::new();
        for scope in [there, not_there] {
            let asked = target(&with(asking(&id, "https://app.example/cb"), [("scope", Some(scope))]));
            let page = world.browser().get(&asked).await;
            assert!(is_sign_in(&page), "{scope}: {page:?}");
            let length = format!("{}", page.body.len());
            let head = page.head.lines().filter(|line| !line.starts_with("set-cookie")).collect::<String>();
            seen.push((page.status, length, page.hidden("flow").len(), head.len()));
        }
        assert_eq!(seen[0], seen[1], "{there} and {not_there}");
    }
}

#[tokio::test]
async fn what_is_on_the_machine_of_the_user_is_shown_as_that_with_a_certificate_too() {
    const ID: &str = "https://claude.ai/oauth/mcp-oauth-client-metadata";
    const REDIRECT: &str = "https://localhost:8443/callback";
    let world = World::start().await;
    let document = document(ID, "Claude", &[REDIRECT]).to_string();
    let mut browser = world.browser();
    let (target_, answer) = (target(&asking(ID, REDIRECT)), json_answer(&document, ""));
    let (page, _) = tokio::join!(browser.get(&target_), world.host.answer(&answer));
    let page = log_in(&mut browser, &page, "alice").await;
    assert!(page.body.contains("this computer"), "{}", page.body);
    assert!(approve(&mut browser, &page, &["mcp"]).await.answer("code").is_some());
    // Any program of that machine may be there the next time.
    assert!(is_consent(&browser.get(&target_).await));
}

#[tokio::test]
async fn nobody_is_sent_anywhere_as_long_as_it_is_not_known_who_asks() {
    let world = World::start().await;
    let id = world.registered("https://app.example/cb").await;
    let good = asking(&id, "https://app.example/cb");
    for bad in [
        with(good.clone(), [("client_id", None)]),
        with(good.clone(), [("client_id", Some(""))]),
        with(good.clone(), [("client_id", Some("nobody"))]),
        with(good.clone(), [("client_id", Some("sgc_AAAA"))]),
        with(good.clone(), [("client_id", Some(&id[..id.len() - 2]))]),
        with(good.clone(), [("client_id", Some("http://app.example/client.json"))]),
        with(good.clone(), [("client_id", Some("https://169.254.169.254/latest"))]),
        with(good.clone(), [("client_id", Some("https://nowhere.example/client.json"))]),
    ] {
        assert_trouble(&world.browser().get(&target(&bad)).await);
    }
    for uri in [
        "https://evil.example/cb",
        "https://app.example.evil.example/cb",
        "https://app.example/cb/../evil",
        "https://app.example/cb?x",
        "https://app.example/cb#x",
        "https://app.example:8443/cb",
        "https://app.example@evil.example/cb",
        "http://app.example/cb",
        "//app.example/cb",
        "javascript:alert(1)",
        "https://app.example/cb\u{200b}",
    ] {
        // Also with what else would be told the client.
        for more in
            [("response_type", Some("code")), ("response_type", Some("token")), ("code_challenge", None)]
        {
            let bad = with(good.clone(), [("redirect_uri", Some(uri)), more]);
            assert_trouble(&world.browser().get(&target(&bad)).await);
        }
    }
    for (twice, value) in
        [("client_id", &*id), ("redirect_uri", "https://app.example/cb"), ("state", "x"), ("scope", "mcp")]
    {
        let doubled =
            format!("{}&{twice}={value}&{twice}={value}", target(&with(good.clone(), [(twice, None)])));
        assert_trouble(&world.browser().get(&doubled).await);
    }
    assert_eq!(world.internet.connected(), Vec::<String>::new());
}

/// The name of the gateway would vouch for whoever is behind one of its servers.
#[tokio::test]
async fn nobody_is_sent_back_to_the_gateway_itself_unless_its_config_says_so() {
    let mut world = World::start().await;
    let own = "https://mcp.example.com/db/cb";
    for spelling in [
        own,
        "https://MCP.example.com./cb",
        "https://mcp.example.com%2e/cb",
        "https://mcp.example.com:8443/cb",
    ] {
        let (status, answer) = world.register(&json!({ "redirect_uris": [spelling] })).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_redirect_uri")), "{spelling} {answer}");
    }
    let (_, answer) = world.register(&json!({ "redirect_uris": [own, "https://app.example/cb"] })).await;
    assert_eq!(answer["redirect_uris"], json!(["https://app.example/cb"]));
    let mut named = config(&world.tls);
    named["proxy"]["auth"]["clients"] = json!({ "own": { "redirectUris": [own] } });
    world.gate.reload(named);
    let page = world.browser().get(&target(&asking("own", own))).await;
    assert!(page.status == 200 && page.asks_for("password"), "{page:?}");
}

#[tokio::test]
async fn a_page_says_who_can_let_a_program_in_and_nothing_is_looked_up_for_one_that_may_not_come() {
    let mut world = World::start().await;
    let elsewhere = world.registered("https://app.example/cb").await;
    let uris = ["https://claude.ai/cb", "https://app.example/cb"];
    let (_, both) = world.register(&json!({ "redirect_uris": uris })).await;
    let both = both["client_id"].as_str().unwrap().to_owned();
    let mut listed = config(&world.tls);
    listed["proxy"]["auth"]["registration"] = json!(["claude.ai"]);
    world.gate.reload(listed);
    let not_listed = |host: &str| {
        format!("Only programs at hosts that the gateway lists may come; this one is answered at {host}.")
    };
    let add = "Whoever runs this gateway can add it to <code>registration</code>.".to_owned();
    let evil = "https://evil.example/client.json";
    for (id, redirect_uri, detail) in [
        (evil, "https://evil.example/cb", not_listed("evil.example")),
        (evil, "https://evil.example:8443/cb", not_listed("evil.example:8443")),
        (evil, "zed://cb", "Only programs at hosts that the gateway lists may come.".to_owned()),
        (&elsewhere, "https://app.example/cb", not_listed("app.example")),
        (&both, "https://app.example/cb", not_listed("app.example")),
    ] {
        let page = world.browser().get(&target(&asking(id, redirect_uri))).await;
        assert_trouble(&page);
        assert!(page.body.contains(&detail) && page.body.contains(&add), "{redirect_uri} {page:?}");
    }
    assert_eq!(world.internet.resolved(), 0);
    // What may come by its redirect is looked up, wherever its document is. Its host may have an address in a while; to add it anew
    // would bring the same document.
    for (id, redirect_uri) in [
        ("https://nowhere.example/client.json", "http://localhost/cb"),
        ("https://nowhere.example/other.json", "https://claude.ai/cb"),
    ] {
        let page = world.browser().get(&target(&asking(id, redirect_uri))).await;
        assert_trouble(&page);
        let detail = "The gateway could not look up nowhere.example, where this program describes itself (unresolved).";
        let is_told = page.body.contains(detail) && page.body.contains("Start again in your program.");
        assert!(is_told && !page.body.contains("add it anew"), "{redirect_uri} {page:?}");
    }
    assert_eq!(world.internet.resolved(), 2);
}

#[tokio::test]
async fn a_token_is_asked_for_where_there_are_some() {
    let mut world = World::start().await;
    assert!(world.browser().get("/oauth/login").await.asks_for("token"));
    let mut without = config(&world.tls);
    let _ = without["proxy"]["auth"].as_object_mut().unwrap().remove("tokens");
    world.gate.reload(without);
    let page = world.browser().get("/oauth/login").await;
    assert!(is_sign_in(&page) && !page.body.contains("use a token"), "{page:?}");
}

#[tokio::test]
async fn what_a_client_asks_for_in_vain_is_named() {
    let world = World::start().await;
    let redirect_uri = "https://app.example/cb";
    let id = world.registered(redirect_uri).await;
    let mut browser = world.browser();
    let asked = |more| target(&with(asking(&id, redirect_uri), [more]));
    let refused = browser.get(&asked(("resource", Some("https://other.example/mcp")))).await;
    let no_place = format!("resource is no place of this gateway: it has to begin with {BASE}");
    assert!(refused.body.contains(&no_place), "{refused:?}");
    let page = browser.get(&asked(("scope", Some("server:none tag:\"x\" tag:<b> offline_access")))).await;
    let refused = log_in(&mut browser, &page, "alice").await;
    let unknown = "Nothing of this scope is known here: server:none tag:&#60;b&#62;<";
    assert!(refused.body.contains(unknown), "{refused:?}");
}

#[tokio::test]
async fn documents_that_are_no_good_are_counted_by_what_is_wrong_with_them() {
    let world = World::start().await;
    world.internet.set("inside.example", &[&["10.0.0.1"]]);
    let counts = |reason: &str, count: u32| {
        let series = format!(r#"sluicegate_cimd_rejected_total{{reason="{reason}"}} {count}"#);
        let metrics = world.gate.metrics();
        assert!(metrics.contains(&format!("{series}\n")), "{series}\n{metrics}");
    };
    // What has not happened is 0.
    counts("malformed", 0);
    for (id, reason, count) in [
        ("https://nowhere.example/client.json", "unresolved", 1),
        // Not fetched again, and counted all the same.
        ("https://nowhere.example/client.json", "unresolved", 2),
        ("https://inside.example/client.json", "not_public", 1),
    ] {
        assert_trouble(&world.browser().get(&target(&asking(id, "https://app.example/cb"))).await);
        counts(reason, count);
    }
    assert_eq!((world.internet.resolved(), world.internet.connected().len()), (2, 0));
    assert!(!world.gate.metrics().contains("nowhere.example"));
}

#[tokio::test]
async fn a_client_is_told_that_it_is_none_if_its_document_is_gone_for_good_and_to_wait_if_it_may_come() {
    let world = World::start().await;
    world.internet.set("inside.example", &[&["10.0.0.1"]]);
    for (id, status, told) in [
        ("https://inside.example/client.json", 401, "invalid_client"),
        // Nobody can tell a name that is gone from a resolver that does not answer.
        ("https://nowhere.example/client.json", 503, "unavailable"),
    ] {
        let form = [("grant_type", "refresh_token"), ("client_id", id), ("refresh_token", "sgr_x")];
        let answer = world.browser().submit("/token", &form).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(told), "{answer:?}");
    }
}

#[tokio::test]
async fn what_else_is_wrong_is_for_the_client_which_learns_it_by_a_redirect_if_the_config_vouches_for_it() {
    let world = World::start_with(|config| {
        config["proxy"]["auth"]["clients"] =
            json!({ "portal": { "redirectUris": ["https://app.example/cb?x=1"] } });
    })
    .await;
    let stranger = world.registered("https://app.example/cb?x=1").await;
    let good = asking("portal", "https://app.example/cb?x=1");
    let long = "s".repeat(1025);
    for (changes, error) in [
        (vec![("response_type", None)], "invalid_request"),
        (vec![("response_type", Some("token"))], "unsupported_response_type"),
        (vec![("response_type", Some("code id_token"))], "unsupported_response_type"),
        (vec![("response_mode", Some("fragment"))], "invalid_request"),
        (vec![("code_challenge", None)], "invalid_request"),
        (vec![("code_challenge", None), ("code_challenge_method", None)], "invalid_request"),
        (vec![("code_challenge_method", None)], "invalid_request"),
        (vec![("code_challenge_method", Some("plain"))], "invalid_request"),
        (vec![("code_challenge_method", Some("s256"))], "invalid_request"),
        (vec![("code_challenge", Some("short"))], "invalid_request"),
        (vec![("code_challenge", Some(&CHALLENGE[1..]))], "invalid_request"),
        (vec![("code_challenge", Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM="))], "invalid_request"),
        (vec![("resource", Some("https://other.example/mcp"))], "invalid_target"),
        (vec![("resource", Some("https://mcp.example.com.evil.example/mcp"))], "invalid_target"),
        (vec![("resource", Some("https://mcp.example.com/db/mcp#x"))], "invalid_target"),
        (vec![("resource", Some("https://mcp.example.com/db/other"))], "invalid_target"),
        (vec![("request", Some("x"))], "request_not_supported"),
        (vec![("request_uri", Some("https://10.0.0.1/"))], "request_uri_not_supported"),
        (vec![("state", Some(&long))], "invalid_request"),
    ] {
        let has_state = changes.iter().all(|(name, _)| *name != "state");
        let got = world.browser().get(&target(&with(good.clone(), changes.clone()))).await;
        assert_eq!(got.status, 302, "{changes:?} {got:?}");
        assert!(got.leads_to().unwrap().starts_with("https://app.example/cb?x=1&error="), "{got:?}");
        assert_eq!(got.answer("error").as_deref(), Some(error), "{changes:?}");
        assert_eq!(got.answer("state").is_some(), has_state);
        assert_eq!(got.answer("iss").as_deref(), Some(BASE));
        // Anybody could have registered that address: the gateway leads nobody there who has not seen that it does.
        let bad = with(with(good.clone(), changes.clone()), [("client_id", Some(&*stranger))]);
        let page = world.browser().get(&target(&bad)).await;
        assert_eq!((page.status, page.leads_to()), (400, None), "{changes:?} {page:?}");
        assert_eq!((page.offers(), page.offered("error").as_deref()), (got.leads_to(), Some(error)));
        assert!(page.body.contains("app.example"), "{page:?}");
    }
    let strict = World::start_with(|config| config["proxy"]["auth"]["requireResource"] = json!(true)).await;
    let id = strict.registered("https://app.example/cb").await;
    let got = strict.browser().get(&target(&asking(&id, "https://app.example/cb"))).await;
    assert_eq!(got.offered("error").as_deref(), Some("invalid_target"));
}

#[tokio::test]
async fn nobody_is_led_to_an_address_that_only_a_stranger_names_logged_in_or_not() {
    const ID: &str = "https://claude.ai/oauth/mcp-oauth-client-metadata";
    const REDIRECTS: [&str; 3] =
        ["https://evil.example/cb", "http://localhost/cb", "cursor://anysphere.cursor-mcp/oauth/callback"];
    let mut world = World::start().await;
    let document =
        json_answer(&document(ID, "Claude", &REDIRECTS).to_string(), "Cache-Control: max-age=3600\r\n");
    let bad = |id: &str, uri: &str| target(&with(asking(id, uri), [("response_type", Some("token"))]));
    let registered = (
        world.registered(REDIRECTS[0]).await,
        world.registered(REDIRECTS[1]).await,
        world.registered(REDIRECTS[2]).await,
    );
    let cookies = {
        let mut browser = world.browser();
        let page = browser.get(&target(&asking(&registered.0, REDIRECTS[0]))).await;
        log_in(&mut browser, &page, "alice").await;
        let first = bad(ID, REDIRECTS[0]);
        let (page, _) = tokio::join!(browser.get(&first), world.host.answer(&document));
        assert_eq!((page.status, page.leads_to()), (400, None), "{page:?}");
        browser.cookies
    };
    let leads = async |world: &World, id: &str, uri: &str| {
        let mut found = Vec::new();
        for cookies in [BTreeMap::new(), cookies.clone()] {
            let mut browser = world.browser();
            browser.cookies = cookies;
            let page = browser.get(&bad(id, uri)).await;
            assert!(page.leads_to().or(page.offers()).unwrap().starts_with(uri), "{page:?}");
            found.push(page.leads_to().is_some());
        }
        assert_eq!(found[0], found[1], "{id} {uri}");
        found[0]
    };
    // A program on the user's own machine is no place to lead people astray to; an app is, since it does what a link says.
    for (registered, uri, wanted) in [
        (&registered.0, REDIRECTS[0], false),
        (&registered.1, REDIRECTS[1], true),
        (&registered.2, REDIRECTS[2], false),
    ] {
        for id in [registered, ID] {
            assert_eq!(leads(&world, id, uri).await, wanted, "{id} {uri}");
        }
    }
    // For what the config lists, it vouches: addresses, and documents of which all are.
    let mut listed = config(&world.tls);
    listed["proxy"]["auth"]["registration"] = json!(["claude.ai"]);
    world.gate.reload(listed);
    assert!(leads(&world, ID, REDIRECTS[0]).await);
    let own = "https://claude.ai/api/mcp/auth_callback";
    let id = world.registered(own).await;
    assert!(leads(&world, &id, own).await);
    assert!(!leads(&world, &registered.2, REDIRECTS[2]).await);
}

#[tokio::test]
async fn a_request_brings_one_code_however_often_its_forms_are_sent() {
    let world = World::start().await;
    let redirect_uri = "https://app.example/cb";
    let id = world.registered(redirect_uri).await;
    let mut browser = world.browser();
    let sign_in = browser.get(&target(&asking(&id, redirect_uri))).await;
    let page = log_in(&mut browser, &sign_in, "alice").await;
    let first = approve(&mut browser, &page, &["mcp"]).await.answer("code").unwrap();
    // A second click has the same answer, which the browser shows in place of the first.
    let again = approve(&mut browser, &page, &["mcp"]).await;
    assert_eq!(again.answer("code").as_deref(), Some(&*first));
    assert!(world.is_good(&first, &id, redirect_uri).await);
    // Once it was used there is none, neither by this form nor by another one of the same request.
    assert_trouble(&approve(&mut browser, &page, &["mcp"]).await);
    let page = log_in(&mut browser, &sign_in, "alice").await;
    assert!(is_consent(&page), "{page:?}");
    assert_trouble(&approve(&mut browser, &page, &["mcp"]).await);
    let shared = world.gate.gateway.shared();
    let now = shared.live().clock.now();
    let grants = shared.logins.grants().unwrap().list(&Principal::User("alice".into()), now);
    assert_eq!(
        grants.iter().filter(|grant| grant.kind.client().is_some()).count(),
        1,
        "what it brought stays"
    );
    // A new request is a new question.
    let page = browser.get(&target(&asking(&id, redirect_uri))).await;
    let other = approve(&mut browser, &page, &["mcp"]).await.answer("code").unwrap();
    assert_ne!(other, first);
}

#[tokio::test]
async fn a_program_at_the_gateway_s_own_host_gets_no_login_with_its_answer() {
    let world = World::start_with(|config| {
        config["proxy"]["auth"]["clients"] =
            json!({ "near": { "redirectUris": ["https://mcp.example.com:8443/cb"] } });
    })
    .await;
    let redirect_uri = "https://mcp.example.com:8443/cb";
    let mut browser = world.browser();
    let page = browser.get(&target(&asking("near", redirect_uri))).await;
    let page = log_in(&mut browser, &page, "alice").await;
    let before = browser.cookies.clone();
    let code = approve(&mut browser, &page, &["mcp"]).await.answer("code").unwrap();
    assert!(world.is_good(&code, "near", redirect_uri).await);
    let is_signed_in = async |browser: &mut Browser<'_>| browser.get("/oauth").await.status == 200;
    assert!(!is_signed_in(&mut browser).await, "the browser has forgotten it");
    browser.cookies = before;
    assert!(!is_signed_in(&mut browser).await, "and so has the gateway");

    // Who logs in and is not asked again, and an error that leads there by itself.
    let page = browser.get(&target(&asking("near", redirect_uri))).await;
    assert!(log_in(&mut browser, &page, "alice").await.answer("code").is_some());
    assert!(!is_signed_in(&mut browser).await);
    let id = world.registered("https://app.example/cb").await;
    let sign_in = browser.get(&target(&asking(&id, "https://app.example/cb"))).await;
    log_in(&mut browser, &sign_in, "alice").await;
    assert!(is_signed_in(&mut browser).await);
    let mut faulty = asking("near", redirect_uri);
    faulty.retain(|(name, _)| *name != "response_type");
    assert!(browser.get(&target(&faulty)).await.answer("error").is_some());
    assert!(!is_signed_in(&mut browser).await);
}

/// A consent page of alice's, with its browser.
async fn asked<'a>(world: &'a World, id: &str) -> (Browser<'a>, Got) {
    let mut browser = world.browser();
    let page = browser.get(&target(&asking(id, "https://app.example/cb"))).await;
    let page = log_in(&mut browser, &page, "alice").await;
    assert!(is_consent(&page), "{page:?}");
    (browser, page)
}

#[tokio::test]
async fn no_forged_consent_brings_a_code() {
    let world = World::start().await;
    let id = world.registered("https://app.example/cb").await;
    let (mut browser, page) = asked(&world, &id).await;
    let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
    let form = |csrf, flow| [("csrf", csrf), ("flow", flow), ("answer", "approve"), ("scope:mcp", "on")];
    let assert_no_code = |got: &Got, what: &str| {
        assert_eq!(got.answer("code"), None, "{what} {got:?}");
        assert!(!got.body.contains("code="), "{what} {got:?}");
    };
    // Pages of others.
    for origin in [
        None,
        Some("null"),
        Some("https://evil.example"),
        Some("http://mcp.example.com"),
        Some("https://mcp.example.com:8443"),
        Some("https://mcp.example.com.evil.example"),
    ] {
        let got = browser.submit_from("/oauth/consent", &form(&csrf, &flow), origin).await;
        assert_eq!(got.status, 403, "{origin:?}");
        assert_no_code(&got, "origin");
    }
    // Without the field, or with one of something else.
    let sign_in_csrf = world.browser().get("/oauth/login").await.hidden("csrf");
    let (_, other_page) = asked(&world, &id).await;
    let (other_csrf, other_flow) = (other_page.hidden("csrf"), other_page.hidden("flow"));
    for (csrf, flow) in [
        ("", &*flow),
        (&csrf[1..], &flow),
        (&sign_in_csrf, &flow),
        (&other_csrf, &flow),
        (&csrf, &other_flow),
        (&other_csrf, &other_flow),
        (&csrf, ""),
        (&csrf, &flow[1..]),
    ] {
        let got = browser.submit("/oauth/consent", &form(csrf, flow)).await;
        assert_trouble(&got);
    }
    // In another browser, logged in or not; as another user; with half of the cookies.
    let mut bobs = world.browser();
    let page_of_bob = bobs.get(&target(&asking(&id, "https://app.example/cb"))).await;
    let page_of_bob = log_in(&mut bobs, &page_of_bob, "bob").await;
    let got = bobs.submit("/oauth/consent", &form(&csrf, &flow)).await;
    assert_trouble(&got);
    assert_no_code(&world.browser().submit("/oauth/consent", &form(&csrf, &flow)).await, "no cookie");
    let mut mixed = world.browser();
    mixed.cookies = browser.cookies.clone();
    mixed.cookies.insert("__Host-sg-login".into(), bobs.cookies["__Host-sg-login"].clone());
    assert_trouble(&mixed.submit("/oauth/consent", &form(&csrf, &flow)).await);
    let mut logged_out = world.browser();
    logged_out.cookies.insert("__Host-sg-flow".into(), browser.cookies["__Host-sg-flow"].clone());
    let got = logged_out.submit("/oauth/consent", &form(&csrf, &flow)).await;
    assert!(is_sign_in(&got), "first somebody logs in: {got:?}");
    assert_no_code(&got, "not logged in");
    // By a link, or with the fields in the query.
    let link = format!("/oauth/consent?{}", query(&form(&csrf, &flow)));
    assert_trouble(&browser.get(&link).await);
    assert_trouble(&browser.submit(&link, &[]).await);
    // What was not asked for is not had, and nothing ticked is no.
    let got = approve(&mut browser, &page, &["server:db"]).await;
    assert_eq!((got.answer("error").as_deref(), got.answer("code")), (Some("access_denied"), None));
    // And the real one.
    assert!(approve(&mut browser, &page, &["mcp"]).await.answer("code").is_some());
    assert!(approve(&mut bobs, &page_of_bob, &["mcp"]).await.answer("code").is_some());
}

#[tokio::test]
async fn nobody_is_logged_in_by_a_page_of_somebody_else() {
    let world = World::start().await;
    let mut browser = world.browser();
    let page = browser.get("/oauth/login").await;
    let csrf = page.hidden("csrf");
    let form = |csrf| [("csrf", csrf), ("username", "alice"), ("password", PASSWORD)];
    for origin in [None, Some("null"), Some("https://evil.example")] {
        assert_eq!(browser.submit_from("/oauth/login", &form(&csrf), origin).await.status, 403);
    }
    let others = world.browser().get("/oauth/login").await.hidden("csrf");
    for bad in ["", &others] {
        assert_trouble(&browser.submit("/oauth/login", &form(bad)).await);
    }
    assert_trouble(&world.browser().submit("/oauth/login", &form(&csrf)).await);
    assert!(!browser.cookies.contains_key("__Host-sg-login"));
    let done = browser.submit("/oauth/login", &form(&csrf)).await;
    assert_eq!(done.leads_to().as_deref(), Some("/oauth"));
    let first = browser.cookies["__Host-sg-login"].clone();
    // A new login has a new cookie, and the old one is over.
    let again = browser.submit("/oauth/login", &form(&csrf)).await;
    assert_eq!(again.leads_to().as_deref(), Some("/oauth"));
    assert_ne!(browser.cookies["__Host-sg-login"], first);
    browser.cookies.insert("__Host-sg-login".into(), first);
    assert!(is_sign_in(&browser.get("/oauth/login").await));
}

#[tokio::test]
async fn a_named_token_logs_in_and_is_out_once_the_config_has_it_no_more() {
    let mut world = World::start().await;
    let id = world.registered("https://app.example/cb").await;
    let asked = target(&asking(&id, "https://app.example/cb"));
    let cookies = {
        let mut browser = world.browser();
        let page = browser.get(&asked).await;
        let (csrf, flow) = (page.hidden("csrf"), page.hidden("flow"));
        for bad in ["x", "dev", &DEV[1..]] {
            let got =
                browser.submit("/oauth/login", &[("csrf", &csrf), ("flow", &flow), ("token", bad)]).await;
            assert_eq!(got.status, 403, "{got:?}");
        }
        let page = browser.submit("/oauth/login", &[("csrf", &csrf), ("flow", &flow), ("token", DEV)]).await;
        assert!(
            is_consent(&page) && page.body.contains("the token dev") && !page.body.contains(DEV),
            "{page:?}"
        );
        assert!(approve(&mut browser, &page, &["mcp"]).await.answer("code").is_some());
        browser.cookies
    };
    // A decoy is reported wherever it is used, and lets nobody in.
    let mut decoy = config(&world.tls);
    decoy["proxy"]["auth"]["tokens"]["ci"] = json!([CI, { "value": BAIT, "decoy": true }]);
    world.gate.reload(decoy);
    let mut browser = world.browser();
    let page = browser.get("/oauth/login").await;
    let got = browser.submit("/oauth/login", &[("csrf", &page.hidden("csrf")), ("token", BAIT)]).await;
    assert_eq!(got.status, 403, "{got:?}");
    let used = "sluicegate_decoy_used_total{token_name=\"ci\"} 1\n";
    assert!(world.gate.metrics().contains(used), "{}", world.gate.metrics());
    drop(browser);
    let mut without = config(&world.tls);
    without["proxy"]["auth"]["tokens"] = json!({ "ci": CI });
    world.gate.reload(without);
    let mut browser = world.browser();
    browser.cookies = cookies;
    assert!(is_sign_in(&browser.get(&asked).await));
}

#[tokio::test]
async fn who_may_come_is_for_the_config_to_say_also_of_those_who_came_before() {
    let mut world = World::start().await;
    let (local, elsewhere) =
        (world.registered("http://localhost/cb").await, world.registered("https://app.example/cb").await);
    let at_port = world.registered("https://app.example:8443/cb").await;
    let (status, answer) = world.register(&json!({ "redirect_uris": ["ftp://x/"] })).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_redirect_uri")));
    let mut listed = config(&world.tls);
    listed["proxy"]["auth"]["registration"] = json!(["claude.ai"]);
    world.gate.reload(listed);
    assert_trouble(&world.browser().get(&target(&asking(&elsewhere, "https://app.example/cb"))).await);
    assert!(is_sign_in(&world.browser().get(&target(&asking(&local, "http://localhost:7/cb"))).await));
    let (status, _) = world.register(&json!({ "redirect_uris": ["https://app.example/cb"] })).await;
    assert_eq!(status, 400);
    // Another port is another site.
    let mut other_port = config(&world.tls);
    for (listed, is_let_in) in [("app.example", false), ("app.example:8443", true)] {
        other_port["proxy"]["auth"]["registration"] = json!([listed]);
        world.gate.reload(other_port.clone());
        let page = world.browser().get(&target(&asking(&at_port, "https://app.example:8443/cb"))).await;
        assert_eq!(is_sign_in(&page), is_let_in, "{listed}");
        let page = world.browser().get(&target(&asking(&elsewhere, "https://app.example/cb"))).await;
        assert_eq!(is_sign_in(&page), !is_let_in, "{listed}");
    }
    let mut off = config(&world.tls);
    off["proxy"]["auth"]["registration"] = json!("off");
    off["proxy"]["auth"]["clients"] = json!({ "portal": { "redirectUris": ["https://portal.example/cb"] } });
    world.gate.reload(off);
    assert_trouble(&world.browser().get(&target(&asking(&local, "http://localhost:7/cb"))).await);
    assert_eq!(world.register(&json!({ "redirect_uris": ["http://localhost/"] })).await.0, 404);
    assert_trouble(
        &world.browser().get(&target(&asking("https://claude.ai/x", "https://claude.ai/cb"))).await,
    );
    assert_eq!(world.internet.resolved(), 0, "no document is fetched");
    assert!(is_sign_in(&world.browser().get(&target(&asking("portal", "https://portal.example/cb"))).await));
}

#[tokio::test]
async fn an_address_has_so_many_pages_made_for_strangers_and_who_is_logged_in_waits_for_none() {
    let world = World::start().await;
    let id = world.registered("https://app.example/cb").await;
    let asked = target(&asking(&id, "https://app.example/cb"));
    let mut alice = world.browser();
    let page = alice.get(&asked).await;
    assert!(is_consent(&log_in(&mut alice, &page, "alice").await));

    let mut stranger = world.browser();
    let mut made = 1;
    let page = loop {
        let page = stranger.get(&asked).await;
        if !is_sign_in(&page) {
            break page;
        }
        made += 1;
        // Some come back while it is counted.
        assert!(made < 2_000, "as many as somebody likes");
    };
    assert!(made >= 600, "{made}");
    assert_eq!((page.status, page.leads_to()), (429, None), "{page:?}");
    assert!(
        page.head.contains("text/html") && page.head.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"),
        "{page:?}"
    );
    assert!(
        world.gate.metrics().contains("sluicegate_rate_limited_total{key=\"logins\"} 1\n"),
        "{}",
        world.gate.metrics()
    );
    assert!(is_consent(&alice.get(&asked).await));
}

#[tokio::test]
async fn a_flood_of_strangers_leaves_nothing_behind() {
    let world =
        World::start_with(|config| config["proxy"]["rateLimits"] = json!({ "authFailures": "off" })).await;
    let id = world.registered("https://app.example/cb").await;
    let mut refused = 0;
    for number in 0..40 {
        let (status, _) =
            world.register(&json!({ "redirect_uris": [format!("https://app.example/{number}")] })).await;
        assert!([201, 429].contains(&status), "{status}");
        refused += usize::from(status == 429);
    }
    assert!(refused >= 25, "{refused}");
    let counted = format!("sluicegate_rate_limited_total{{key=\"logins\"}} {refused}\n");
    assert!(world.gate.metrics().contains(&counted), "{}", world.gate.metrics());
    for number in 0..200 {
        let asked = with(asking(&id, "https://app.example/cb"), [("state", Some(&*number.to_string()))]);
        assert!(is_sign_in(&world.browser().get(&target(&asked)).await));
    }
    for number in 0..20 {
        let unknown = format!("https://nowhere{number}.example/client.json");
        assert_trouble(&world.browser().get(&target(&asking(&unknown, "https://app.example/cb"))).await);
    }
    let shared = world.gate.gateway.shared();
    // Names that lead nowhere are known for a minute, and nothing else is kept. Not all were looked for.
    let (documents, failures, running) = shared.clients.documents().counts();
    assert_eq!((documents, running), (0, 0));
    assert!((10..20).contains(&failures), "{failures}");
    let now = shared.live().clock.now();
    let grants = shared.logins.grants().unwrap();
    assert!(grants.list(&Principal::User("alice".into()), now).is_empty());
}
