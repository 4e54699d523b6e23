//! The clients that are out there: what each was seen to send in 2026, from its first request without a token to a call by a token that
//! it refreshed. Only what a client sends of its own is here; what its user does is the same for all.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use test_support::{
    browser::{self, BASE, Browser, Got, query},
    harness::{Client, field, fields},
    internet::{TestHost, TestInternet, json_answer},
    tls::Identity,
};
use tokio::net::TcpStream;

use crate::{
    harness::Gate,
    mcp::INITIALIZE,
    oauth_pages::{VERIFIER, approve, asking, is_consent, is_sign_in, log_in, target, with},
};

/// The hosts at which clients have their documents.
const HOSTS: [&str; 4] = ["claude.ai", "vscode.dev", "chatgpt.com", "opencode.ai"];
const PUBLIC: &str = "93.184.216.34";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// How a client says who it is.
enum About {
    /// A document of its own, at this URL.
    Document(&'static str, Value),
    /// It registers with this.
    Registers(Value),
}

/// How it proves itself at `/token`.
#[derive(Clone, Copy, PartialEq)]
enum Proof {
    None,
    Post,
    Basic,
}

/// When it says for which place its token is (RFC 8707).
#[derive(Clone, Copy, PartialEq)]
enum Resource {
    Always,
    /// Not when it refreshes.
    NotAtRefresh,
    Never,
}

/// What a client sends.
struct Sends {
    about: About,
    /// Where it has its user come back to.
    redirect_uri: &'static str,
    /// The URL that its user gave it.
    place: &'static str,
    scope: Option<&'static str>,
    /// What it sends to `/authorize` besides.
    besides: Vec<(&'static str, Option<&'static str>)>,
    resource: Resource,
    proof: Proof,
    /// The origin of its requests, if it is a page in a browser.
    origin: Option<&'static str>,
}

/// What most clients send.
fn sends(about: About, redirect_uri: &'static str) -> Sends {
    Sends {
        about,
        redirect_uri,
        place: "/db/mcp",
        scope: Some("mcp"),
        besides: Vec::new(),
        resource: Resource::Always,
        proof: Proof::None,
        origin: None,
    }
}

/// What all clients say of themselves in the same way, and this.
fn said(name: &str, redirect_uris: &[&str], more: Value) -> Value {
    let mut said = json!({
        "client_name": name,
        "redirect_uris": redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

fn document(url: &'static str, name: &str, redirect_uris: &[&str], mut more: Value) -> About {
    more["client_id"] = json!(url);
    About::Document(url, said(name, redirect_uris, more))
}

fn registers(name: &str, redirect_uris: &[&str], more: Value) -> About {
    About::Registers(said(name, redirect_uris, more))
}

struct World {
    gate: Gate,
    tls: Identity,
    internet: Arc<TestInternet>,
    host: TestHost,
}

impl World {
    async fn start() -> Self {
        let tls = Identity::new();
        let (internet, host) = TestInternet::new(&HOSTS, PUBLIC).await;
        let tool =
            json!({ "name": "hello", "description": "Says hello", "command": "echo", "args": ["hello"] });
        let server = json!({ "inline": { "tools": [tool] } });
        let config = browser::config(&tls, &json!({ "db": server, "files": server }));
        let gate = Gate::start_in(config, Arc::<TestInternet>::clone(&internet)).await;
        Self { gate, tls, internet, host }
    }

    /// A program, or a page, that asks for something.
    async fn ask(&self, method: &str, url: &str, fields: &str, body: &str) -> Got {
        Browser::new(&self.gate, &self.tls).send(method, url, fields, body).await
    }

    /// Whether a call at `place` by this token is answered; a place that the token is not for is 401.
    async fn opens(&self, place: &str, token: &str) -> bool {
        let authorization = format!("Authorization: Bearer {token}\r\n");
        let (path, _) = place.split_once('?').unwrap_or((place, ""));
        if !path.ends_with("/sse") {
            let fields = format!("{authorization}Content-Type: application/json\r\n");
            let got = self.ask("POST", place, &fields, INITIALIZE).await;
            assert!(got.status == 401 || got.body.contains("\"serverInfo\""), "{got:?}");
            return got.status == 200;
        }
        let stream = TcpStream::connect(self.gate.addr).await.unwrap();
        let stream = self.tls.connect(stream, &["http/1.1"], rustls::ALL_VERSIONS).await.unwrap();
        let mut client = Client::new(stream);
        let asked = format!("GET {place} HTTP/1.1\r\nHost: mcp.example.com\r\n{authorization}\r\n");
        client.send(asked).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 401 "), "{head}");
        if head.starts_with("HTTP/1.1 200 ") {
            client.until("event: endpoint").await;
        }
        head.starts_with("HTTP/1.1 200 ")
    }
}

/// What is there for pages of every origin.
fn for_all(got: Got, origin: Option<&str>) -> Value {
    assert!([200, 201].contains(&got.status), "{got:?}");
    if origin.is_some() {
        assert_eq!(field(&got.head, "access-control-allow-origin"), Some("*"), "{got:?}");
        assert_eq!(field(&got.head, "access-control-allow-credentials"), None, "{got:?}");
    }
    serde_json::from_str(&got.body).unwrap()
}

/// Where a client is to go, as it found out.
struct Found {
    resource: String,
    metadata: Value,
}

impl Found {
    fn url(&self, name: &str) -> &str {
        self.metadata[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", self.metadata))
    }
}

/// It has a URL and nothing else, and learns the rest.
async fn finds_out(world: &World, sends: &Sends, origin: &str) -> Found {
    let fields_ = "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n";
    let refused = world.ask("POST", sends.place, fields_, INITIALIZE).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let challenges: Vec<_> = fields(&refused.head, "www-authenticate").collect();
    let [challenge] = challenges[..] else { panic!("{refused:?}") };
    assert!(challenge.starts_with("Bearer ") && challenge.contains("scope=\"mcp\""), "{challenge}");
    let (_, rest) = challenge.split_once("resource_metadata=\"").unwrap();
    let place = for_all(world.ask("GET", rest.split('"').next().unwrap(), origin, "").await, sends.origin);
    // Some compare all of it with what they were given.
    assert_eq!(place["resource"], format!("{BASE}{}", sends.place));
    assert_eq!(place["authorization_servers"], json!([BASE]));
    let url = format!("{BASE}/.well-known/oauth-authorization-server");
    let metadata = for_all(world.ask("GET", &url, origin, "").await, sends.origin);
    assert_eq!(metadata["issuer"], BASE);
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    // Without both, some do not use their document.
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    assert!(metadata["token_endpoint_auth_methods_supported"].as_array().unwrap().contains(&json!("none")));
    Found { resource: place["resource"].as_str().unwrap().to_owned(), metadata }
}

/// Its id, and its secret if it has one.
async fn introduces_itself(
    world: &World,
    sends: &Sends,
    found: &Found,
    origin: &str,
) -> (String, Option<String>) {
    let body = match &sends.about {
        About::Document(url, _) => return ((*url).to_owned(), None),
        About::Registers(body) => body,
    };
    if let Some(from) = sends.origin {
        let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
        let allowed =
            world.ask("OPTIONS", found.url("registration_endpoint"), &format!("{origin}{asks}"), "").await;
        assert_eq!(
            (allowed.status, field(&allowed.head, "access-control-allow-origin")),
            (204, Some("*")),
            "{from}"
        );
    }
    let fields = format!("{origin}Content-Type: application/json\r\n");
    let got = world.ask("POST", found.url("registration_endpoint"), &fields, &body.to_string()).await;
    assert_eq!(got.status, 201, "{got:?}");
    let registered = for_all(got, sends.origin);
    assert_eq!(registered["token_endpoint_auth_method"], body["token_endpoint_auth_method"]);
    assert!(registered["redirect_uris"].as_array().is_some_and(|uris| !uris.is_empty()), "{registered}");
    let text = |name: &str| registered[name].as_str().map(str::to_owned);
    (text("client_id").unwrap(), text("client_secret"))
}

/// Its user's browser goes to `/authorize`.
async fn sends_its_user(
    world: &World,
    browser: &mut Browser<'_>,
    sends: &Sends,
    found: &Found,
    id: &str,
) -> Got {
    let resource = (sends.resource != Resource::Never).then_some(&*found.resource);
    let asked = with(asking(id, sends.redirect_uri), [("scope", sends.scope), ("resource", resource)]);
    let asked = target(&with(asked, sends.besides.iter().copied()));
    assert_eq!(found.url("authorization_endpoint"), format!("{BASE}/authorize"));
    match &sends.about {
        About::Document(_, document) if world.internet.connected().is_empty() => {
            let answer = json_answer(&document.to_string(), "Cache-Control: max-age=3600\r\n");
            tokio::join!(browser.get(&asked), world.host.answer(&answer)).0
        }
        _ => browser.get(&asked).await,
    }
}

/// It changes a code, or a refresh token, for tokens.
async fn gets_tokens(
    world: &World,
    sends: &Sends,
    found: &Found,
    (id, secret): (&str, Option<&str>),
    form: &[(&str, &str)],
) -> Value {
    let mut form = form.to_vec();
    let mut headers = FORM.to_owned();
    let is_refresh = form.contains(&("grant_type", "refresh_token"));
    let names_it = match sends.resource {
        Resource::Always => true,
        Resource::NotAtRefresh => !is_refresh,
        Resource::Never => false,
    };
    if names_it {
        form.push(("resource", &found.resource));
    }
    match (sends.proof, secret) {
        (Proof::None, None) => form.push(("client_id", id)),
        (Proof::Post, Some(secret)) => form.extend([("client_id", id), ("client_secret", secret)]),
        (Proof::Basic, Some(secret)) => {
            let credentials = STANDARD.encode(format!("{id}:{secret}"));
            headers += &format!("Authorization: Basic {credentials}\r\n");
        }
        _ => panic!("a secret that nobody asked for, or none"),
    }
    if let Some(origin) = sends.origin {
        headers += &format!("Origin: {origin}\r\n");
    }
    let got = world.ask("POST", found.url("token_endpoint"), &headers, &query(&form)).await;
    assert_eq!(field(&got.head, "cache-control"), Some("no-store"), "{got:?}");
    let tokens = for_all(got, sends.origin);
    assert!(
        tokens["token_type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")),
        "{tokens}"
    );
    assert!(tokens["expires_in"].is_u64(), "{tokens}");
    tokens
}

/// All of it, from a URL to a call by a token that was refreshed.
async fn comes_in(world: &World, browser: &mut Browser<'_>, sends: &Sends) {
    let origin = sends.origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    let found = finds_out(world, sends, &origin).await;
    let (id, secret) = introduces_itself(world, sends, &found, &origin).await;
    let page = sends_its_user(world, browser, sends, &found, &id).await;
    let page = if is_sign_in(&page) { log_in(browser, &page, "alice").await } else { page };
    // Somebody else vouches for a client with a document whose redirect is a site, and its user said yes before.
    let done =
        if is_consent(&page) { approve(browser, &page, &["mcp", "offline_access"]).await } else { page };
    assert!(done.leads_to().is_some_and(|url| url.starts_with(sends.redirect_uri)), "{done:?}");
    assert_eq!(done.answer("iss").as_deref(), Some(BASE));
    let has_state = sends.besides.iter().all(|(name, value)| *name != "state" || value.is_some());
    assert_eq!(done.answer("state").is_some(), has_state, "{done:?}");
    let code = done.answer("code").unwrap_or_else(|| panic!("{done:?}"));
    let who = (&*id, secret.as_deref());
    let redemption = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", sends.redirect_uri),
        ("code_verifier", VERIFIER),
    ];
    let first = gets_tokens(world, sends, &found, who, &redemption).await;
    let refresh = first["refresh_token"].as_str().unwrap_or_else(|| panic!("{first}"));
    let refreshing = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let second = gets_tokens(world, sends, &found, who, &refreshing).await;
    assert_ne!(first["access_token"], second["access_token"]);
    for tokens in [first, second] {
        let token = tokens["access_token"].as_str().unwrap();
        assert!(world.opens(sends.place, token).await, "{}", sends.place);
        // A client that did not say where its token is for may use it everywhere.
        assert_eq!(world.opens("/files/mcp", token).await, sends.resource == Resource::Never);
    }
}

/// These come in, one after the other, with one user at one browser.
async fn all_come_in(all: Vec<Sends>) {
    let world = World::start().await;
    let mut browser = Browser::new(&world.gate, &world.tls);
    for sends in &all {
        comes_in(&world, &mut browser, sends).await;
    }
    let documents = all.iter().filter(|sends| matches!(sends.about, About::Document(..))).count();
    assert_eq!(world.internet.connected().len(), documents.min(1), "a document is fetched once");
}

#[tokio::test]
async fn claude_ai_and_claude_desktop_come_in_by_their_document() {
    let about = || {
        let redirects =
            ["https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"];
        document("https://claude.ai/oauth/mcp-oauth-client-metadata", "Claude", &redirects, json!({}))
    };
    let at = |place, redirect_uri| Sends { place, ..sends(about(), redirect_uri) };
    all_come_in(vec![
        at("/db/mcp", "https://claude.ai/api/mcp/auth_callback"),
        at("/mcp", "https://claude.com/api/mcp/auth_callback"),
        at("/db/sse", "https://claude.ai/api/mcp/auth_callback"),
        // It was let in there before, and is not asked again.
        at("/db/mcp", "https://claude.ai/api/mcp/auth_callback"),
    ])
    .await;
}

#[tokio::test]
async fn claude_ai_registers_for_a_secret_that_it_sends_in_the_form() {
    // anthropics/claude-ai-mcp #1043.
    const REDIRECT: &str = "https://claude.ai/api/mcp/auth_callback";
    let more = json!({ "token_endpoint_auth_method": "client_secret_post", "scope": "mcp", "client_uri": "https://claude.ai" });
    let about = registers("Claude", &[REDIRECT], more);
    all_come_in(vec![Sends { proof: Proof::Post, ..sends(about, REDIRECT) }]).await;
}

#[tokio::test]
async fn claude_code_comes_in_from_whatever_port_it_has() {
    // Its document has no port (pomerium #6303); it asks for offline_access where that is offered, and says no resource when it
    // refreshes (anthropics/claude-code #89862), or never (#90497).
    let by_document = || {
        let redirects = ["http://localhost/callback", "http://127.0.0.1/callback"];
        document("https://claude.ai/oauth/claude-code-client-metadata", "Claude Code", &redirects, json!({}))
    };
    let native = json!({ "application_type": "native" });
    let by_registration =
        || registers("Claude Code (db)", &["http://localhost:3118/callback"], native.clone());
    let scope = Some("mcp offline_access");
    all_come_in(vec![
        Sends {
            scope,
            besides: vec![("prompt", Some("consent"))],
            resource: Resource::NotAtRefresh,
            ..sends(by_document(), "http://localhost:51234/callback")
        },
        Sends { scope, place: "/db/sse", ..sends(by_registration(), "http://localhost:3118/callback") },
        Sends {
            scope,
            place: "/mcp",
            resource: Resource::Never,
            ..sends(by_registration(), "http://localhost:49152/callback")
        },
    ])
    .await;
}

#[tokio::test]
async fn vs_code_comes_in_by_its_document_or_with_six_redirects() {
    // Both list what is for devices as well (toolhive #6290, fastmcp #1868). It compares all of the resource, with the query.
    let devices = json!({
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "application_type": "native",
        "client_uri": "https://code.visualstudio.com",
    });
    let by_document = || {
        let redirects = ["http://127.0.0.1:33418", "https://vscode.dev/redirect"];
        document(
            "https://vscode.dev/oauth/client-metadata.json",
            "Visual Studio Code",
            &redirects,
            devices.clone(),
        )
    };
    let by_registration = || {
        let redirects = [
            "https://insiders.vscode.dev/redirect",
            "https://vscode.dev/redirect",
            "http://localhost/",
            "http://127.0.0.1/",
            "http://localhost:33418/",
            "http://127.0.0.1:33418/",
        ];
        registers("Visual Studio Code", &redirects, devices.clone())
    };
    all_come_in(vec![
        sends(by_document(), "http://127.0.0.1:33418/"),
        Sends { place: "/db/mcp?team=a&mode=b", ..sends(by_document(), "https://vscode.dev/redirect") },
        Sends { place: "/mcp", ..sends(by_registration(), "http://127.0.0.1:33418/") },
        Sends { place: "/db/mcp?team=a", ..sends(by_registration(), "https://vscode.dev/redirect") },
        sends(by_registration(), "http://localhost:50123/"),
    ])
    .await;
}

#[tokio::test]
async fn cursor_registers_three_redirects_at_once_and_comes_in_by_each() {
    // erp-mafia/accounted #2225.
    const REDIRECTS: [&str; 3] = [
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "https://www.cursor.com/agents/mcp/oauth/callback",
        "http://localhost:8787/callback",
    ];
    let at = |redirect_uri| {
        let about = registers("Cursor", &REDIRECTS, json!({}));
        Sends { place: "/mcp", ..sends(about, redirect_uri) }
    };
    all_come_in(REDIRECTS.into_iter().map(at).collect()).await;
}

#[tokio::test]
async fn chatgpt_has_a_redirect_for_each_connector() {
    const CONNECTOR: &str = "https://chatgpt.com/connector/oauth/OUbdUMlL15Ct";
    const OLD: &str = "https://chatgpt.com/connector_platform_oauth_redirect";
    all_come_in(vec![
        sends(
            document("https://chatgpt.com/oauth/client.json", "ChatGPT", &[CONNECTOR, OLD], json!({})),
            CONNECTOR,
        ),
        sends(registers("ChatGPT", &[CONNECTOR], json!({})), CONNECTOR),
        Sends { place: "/mcp", ..sends(registers("ChatGPT", &[OLD], json!({})), OLD) },
    ])
    .await;
}

#[tokio::test]
async fn codex_and_gemini_say_for_no_place() {
    // openai/codex #33403: no resource, and a path that is made of the server's URL; words of others in the scope (#17265).
    let codex = |scope| {
        let redirect = "http://127.0.0.1:37819/callback/aGVsbG8td29y";
        let about = registers("Codex", &[redirect], json!({ "application_type": "native" }));
        Sends { scope, resource: Resource::Never, ..sends(about, redirect) }
    };
    let gemini = "http://localhost:7777/oauth/callback";
    let about = registers("Gemini CLI MCP Client", &[gemini], json!({}));
    all_come_in(vec![
        codex(Some("openid profile email offline_access")),
        codex(None),
        Sends { resource: Resource::Never, ..sends(about, gemini) },
    ])
    .await;
}

#[tokio::test]
async fn opencode_comes_in_and_learns_on_a_page_that_its_document_has_another_path() {
    const SENT: &str = "http://127.0.0.1:19876/mcp/oauth/callback";
    all_come_in(vec![sends(registers("OpenCode", &[SENT], json!({})), SENT)]).await;
    // anomalyco/opencode #50510.
    let world = World::start().await;
    let about = document(
        "https://opencode.ai/oauth/client.json",
        "OpenCode",
        &["http://127.0.0.1/callback"],
        json!({}),
    );
    let sends = sends(about, SENT);
    let found = finds_out(&world, &sends, "").await;
    let (id, _) = introduces_itself(&world, &sends, &found, "").await;
    let mut browser = Browser::new(&world.gate, &world.tls);
    let page = sends_its_user(&world, &mut browser, &sends, &found, &id).await;
    assert_eq!((page.status, page.leads_to()), (400, None), "{page:?}");
    assert!(page.body.contains(SENT), "{page:?}");
}

#[tokio::test]
async fn the_inspector_comes_in_from_its_page() {
    // All of it is from a page at another origin; with a short state (mcp-auth-proxy #94), or none when it debugs.
    let at = |redirect_uri, state| Sends {
        origin: Some("http://localhost:6274"),
        besides: vec![("state", state)],
        ..sends(registers("MCP Inspector", &[redirect_uri], json!({ "scope": "mcp" })), redirect_uri)
    };
    all_come_in(vec![
        at("http://localhost:6274/oauth/callback", Some("x")),
        at("http://localhost:6274/oauth/callback/debug", None),
    ])
    .await;
}

#[tokio::test]
async fn a_client_with_a_secret_sends_it_by_basic() {
    const REDIRECT: &str = "https://agents.example/callback";
    let more = json!({ "token_endpoint_auth_method": "client_secret_basic" });
    all_come_in(vec![Sends {
        proof: Proof::Basic,
        ..sends(registers("Agents", &[REDIRECT], more), REDIRECT)
    }])
    .await;
}
