//! An MCP server that wants a token for each call, and the authorization server that issues these: what a server behind the gateway with
//! `upstreamAuth` is.
//!
//! It is as strict as a good one: codes are good once, for their client, redirect and verifier; a refresh token is good once, and one that
//! comes a second time ends all that came of it. It sends a browser back at once, as the account that the test has at the browser.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use url::{Url, form_urlencoded};

use crate::harness::{Client, field};

/// The client that a test may have in its config.
pub const CLIENT: &str = "gate-at-upstream";
/// By which it proves itself.
pub const CLIENT_SECRET: &str = "upstream-client-secret-0123456789";

/// What the token endpoint does when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// What it should.
    Gives,
    /// It says no with this word, for whatever it is asked.
    Refuses(&'static str),
    /// 500
    Fails,
    /// It never answers.
    Hangs,
    /// It sends elsewhere.
    Redirects,
    /// It does not stop.
    IsHuge,
    /// It says something that is no answer.
    Babbles,
}

/// What the answer that a browser brings says of its issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iss {
    Right,
    Wrong,
    Missing,
}

/// What of the documents is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documents {
    Right,
    /// No S256.
    WithoutPkce,
    /// The metadata is of another issuer.
    OfOtherIssuer,
    /// What the server says of itself is of another resource.
    OfOtherResource,
}

/// A call that came to the MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The token that it had.
    pub token: Option<String>,
    /// Whose that is, if it is good.
    pub account: Option<String>,
    /// Its method.
    pub method: String,
}

/// Both.
pub struct UpstreamIssuer {
    /// Where the MCP server is.
    pub server: SocketAddr,
    /// Where the authorization server is.
    pub issuer: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    server: String,
    issuer: String,
    tokens: Tokens,
    iss: Iss,
    documents: Documents,
    /// Whether there may be clients that registered.
    registers: bool,
    /// Whether refresh tokens change.
    rotates: bool,
    lifetime: Option<u64>,
    /// What its challenge asks for, and what a call of a tool needs.
    scope: Option<String>,
    scope_of_tools: Option<String>,
    at_browser: Option<String>,
    clients: HashMap<String, OauthClient>,
    codes: HashMap<String, Grant>,
    refresh: HashMap<String, Grant>,
    spent: HashMap<String, u64>,
    access: HashMap<String, Grant>,
    ended: HashSet<u64>,
    issued: Vec<String>,
    subjects: Vec<String>,
    calls: Vec<Call>,
    asked: Vec<String>,
    made: u64,
}

struct OauthClient {
    secret: Option<String>,
    redirect_uris: Vec<String>,
}

/// What somebody allowed.
#[derive(Clone)]
struct Grant {
    family: u64,
    account: String,
    client: String,
    scope: String,
    asked: HashMap<String, String>,
}

impl UpstreamIssuer {
    /// One with which all is well: it registers clients, rotates, and gives tokens for an hour.
    pub async fn start() -> Self {
        let [server, issuer] = [listener().await, listener().await];
        let addr = |listener: &TcpListener| listener.local_addr().unwrap();
        let (server_addr, issuer_addr) = (addr(&server), addr(&issuer));
        let configured = OauthClient { secret: Some(CLIENT_SECRET.into()), redirect_uris: Vec::new() };
        let state = Arc::new(Mutex::new(State {
            server: format!("http://{server_addr}"),
            issuer: format!("http://{issuer_addr}"),
            tokens: Tokens::Gives,
            iss: Iss::Right,
            documents: Documents::Right,
            registers: true,
            rotates: true,
            lifetime: Some(3600),
            scope: None,
            scope_of_tools: None,
            at_browser: None,
            clients: HashMap::from([(CLIENT.to_owned(), configured)]),
            codes: HashMap::new(),
            refresh: HashMap::new(),
            spent: HashMap::new(),
            access: HashMap::new(),
            ended: HashSet::new(),
            issued: Vec::new(),
            subjects: Vec::new(),
            calls: Vec::new(),
            asked: Vec::new(),
            made: 0,
        }));
        for listener in [server, issuer] {
            accept(listener, Arc::clone(&state));
        }
        Self { server: server_addr, issuer: issuer_addr, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the MCP server is.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.server)
    }

    /// Who the authorization server is.
    pub fn issuer(&self) -> String {
        self.state().issuer.clone()
    }

    /// The server, as `mcpServers` has it, with `user_oauth`: all is discovered, and `more` of `upstreamAuth`.
    pub fn server_config(&self, more: Value) -> Value {
        let mut auth = json!({ "kind": "user_oauth", "allowPrivateIssuers": true });
        for (name, value) in more.as_object().unwrap() {
            auth[name] = value.clone();
        }
        json!({ "url": self.url(), "upstreamAuth": auth })
    }

    /// What the token endpoint does from now on.
    pub fn tokens(&self, tokens: Tokens) {
        self.state().tokens = tokens;
    }

    /// What answers say of the issuer from now on.
    pub fn iss(&self, iss: Iss) {
        self.state().iss = iss;
    }

    /// What is wrong with the documents from now on.
    pub fn documents(&self, documents: Documents) {
        self.state().documents = documents;
    }

    /// Whether clients may register from now on.
    pub fn registers(&self, registers: bool) {
        self.state().registers = registers;
    }

    /// Whether a refresh gives another refresh token from now on.
    pub fn rotates(&self, rotates: bool) {
        self.state().rotates = rotates;
    }

    /// How many seconds access tokens are good that are issued from now on, as their answer says. `None`: it does not say.
    pub fn lifetime(&self, seconds: Option<u64>) {
        self.state().lifetime = seconds;
    }

    /// What the server's challenge asks for from now on.
    pub fn wants(&self, scope: &str) {
        self.state().scope = Some(scope.into());
    }

    /// The scope that a call of a tool needs from now on.
    pub fn wants_for_tools(&self, scope: &str) {
        self.state().scope_of_tools = Some(scope.into());
    }

    /// Whose account is at the browser from now on.
    pub fn at_browser(&self, account: &str) {
        self.state().at_browser = Some(account.into());
    }

    /// Whoever is at the browser refuses.
    pub fn nobody_at_browser(&self) {
        self.state().at_browser = None;
    }

    /// A token that somebody made there by hand, and that the server takes from now on.
    pub fn knows(&self, token: &str, account: &str) {
        let mut state = self.state();
        let family = state.next();
        let grant = Grant {
            family,
            account: account.into(),
            client: String::new(),
            scope: String::new(),
            asked: HashMap::new(),
        };
        state.issued.push(token.into());
        state.access.insert(token.into(), grant);
    }

    /// Access tokens that were issued are not good any more; refresh tokens are.
    pub fn expires_access(&self) {
        self.state().access.clear();
    }

    /// All that an account allowed is over.
    pub fn revokes(&self, account: &str) {
        let mut state = self.state();
        state.access.retain(|_, grant| grant.account != account);
        state.refresh.retain(|_, grant| grant.account != account);
    }

    /// The server has its tokens from another authorization server from now on. Nothing of the one that it had is good.
    pub async fn moves(&mut self) {
        let listener = listener().await;
        self.issuer = listener.local_addr().unwrap();
        {
            let mut state = self.state();
            state.issuer = format!("http://{}", self.issuer);
            state.access.clear();
            state.refresh.clear();
        }
        self.forgets_clients();
        accept(listener, Arc::clone(&self.state));
    }

    /// It forgets clients that registered.
    pub fn forgets_clients(&self) {
        self.state().clients.retain(|name, _| name == CLIENT);
    }

    /// All tokens that it issued, and those that the server knows: nobody but the server is to see one.
    pub fn issued(&self) -> Vec<String> {
        self.state().issued.clone()
    }

    /// Tokens that were brought to be exchanged.
    pub fn subjects(&self) -> Vec<String> {
        self.state().subjects.clone()
    }

    /// Calls that came to the server.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Calls of this method that had a good token: whose.
    pub fn accounts(&self, method: &str) -> Vec<String> {
        let calls = self.calls().into_iter().filter(|call| call.method == method);
        calls.filter_map(|call| call.account).collect()
    }

    /// How often something was asked for at a path: of a token endpoint also `/token authorization_code`, `/token refresh_token`, and so
    /// on.
    pub fn asked(&self, path: &str) -> usize {
        self.state()
            .asked
            .iter()
            .filter(|asked| *asked == path || asked.split(' ').next() == Some(path))
            .count()
    }

    /// How many grants are over because a refresh token came twice.
    pub fn reused(&self) -> usize {
        self.state().ended.len()
    }

    /// What a browser does that is sent to `url`: asks there, and is sent back. Returns where to, from the path on.
    pub async fn sends_back(&self, url: &str) -> String {
        let issuer = self.issuer();
        let target = url.strip_prefix(&issuer).unwrap_or_else(|| panic!("{url} is not of this issuer"));
        let mut client = Client::new(TcpStream::connect(self.issuer).await.unwrap());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: issuer\r\n\r\n")).await;
        let (status, head, body) = client.response().await;
        assert_eq!(status, 302, "{body}");
        let back = Url::parse(field(&head, "location").unwrap()).unwrap();
        back[url::Position::BeforePath..].to_owned()
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(Client::new(stream), Arc::clone(&state)));
        }
    });
}

async fn serve(mut client: Client<TcpStream>, state: Arc<Mutex<State>>) {
    while let Some(head) = client.next_head().await {
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = client.exactly(length).await;
        let answer = state.lock().unwrap_or_else(PoisonError::into_inner).answer(&head, &body);
        match answer {
            Reply::With(answer) => client.send(answer).await,
            Reply::Never => std::future::pending().await,
            Reply::WithoutEnd => {
                use tokio::io::AsyncWriteExt as _;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
                let mut written = client.stream.write_all(head.as_bytes()).await;
                while written.is_ok() {
                    written = client.stream.write_all(&[b' '; 1 << 14]).await;
                }
                return;
            }
        }
    }
}

enum Reply {
    With(String),
    Never,
    WithoutEnd,
}

fn response(status: u16, fields: &str, body: &str) -> Reply {
    Reply::With(format!("HTTP/1.1 {status} Status\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn json_response(status: u16, body: &Value) -> Reply {
    response(status, "Content-Type: application/json\r\n", &body.to_string())
}

fn refuses(status: u16, error: &str) -> Reply {
    json_response(status, &json!({ "error": error, "error_description": "canary-of-the-issuer" }))
}

fn pairs(text: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(text).into_owned().collect()
}

impl State {
    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn make(&mut self, what: &str) -> String {
        let token = format!("upstream-{what}-{:06}-0123456789abcdef", self.next());
        self.issued.push(token.clone());
        token
    }

    fn answer(&mut self, head: &str, body: &[u8]) -> Reply {
        let target = head.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/mcp" {
            return self.mcp(head, body);
        }
        let form = pairs(body);
        self.asked.push(match form.get("grant_type") {
            Some(grant) => format!("{path} {grant}"),
            None => path.to_owned(),
        });
        match path {
            "/.well-known/oauth-protected-resource/mcp" => {
                let resource = match self.documents {
                    Documents::OfOtherResource => "https://evil.example/mcp".to_owned(),
                    _ => format!("{}/mcp", self.server),
                };
                json_response(200, &json!({ "resource": resource, "authorization_servers": [self.issuer] }))
            }
            "/.well-known/oauth-authorization-server" => self.metadata(),
            "/register" => self.register(body),
            "/authorize" => self.authorize(pairs(query.as_bytes())),
            "/token" => self.token(head, &form),
            "/revoke" => self.revoke(&form),
            _ => json_response(404, &json!({})),
        }
    }

    fn metadata(&self) -> Reply {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let mut metadata = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "revocation_endpoint": at("/revoke"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "authorization_response_iss_parameter_supported": true,
        });
        if self.registers {
            metadata["registration_endpoint"] = json!(at("/register"));
        }
        match self.documents {
            Documents::WithoutPkce => {
                drop(metadata.as_object_mut().unwrap().remove("code_challenge_methods_supported"))
            }
            Documents::OfOtherIssuer => metadata["issuer"] = json!("https://evil.example"),
            Documents::Right | Documents::OfOtherResource => {}
        }
        json_response(200, &metadata)
    }

    fn register(&mut self, body: &[u8]) -> Reply {
        let Some(asked) = self.registers.then(|| serde_json::from_slice::<Value>(body).unwrap()) else {
            return refuses(403, "access_denied");
        };
        let texts = asked["redirect_uris"].as_array().unwrap().iter();
        let redirect_uris = texts.map(|uri| uri.as_str().unwrap().to_owned()).collect();
        let (id, secret) = (format!("registered-{}", self.next()), self.make("client-secret"));
        let secret = (asked["token_endpoint_auth_method"] != "none").then_some(secret);
        let answer = json!({
            "client_id": id, "client_secret": secret, "redirect_uris": redirect_uris,
            "token_endpoint_auth_method": asked["token_endpoint_auth_method"],
        });
        self.clients.insert(id, OauthClient { secret, redirect_uris });
        json_response(201, &answer)
    }

    /// Sends the browser back, as the account that is there. What is wrong with the request is shown, as a test's mistake.
    fn authorize(&mut self, asked: HashMap<String, String>) -> Reply {
        let is = |name: &str, value: &str| asked.get(name).is_some_and(|found| found == value);
        let has = |name: &str| asked.get(name).is_some_and(|found| !found.is_empty());
        let is_client = asked.get("client_id").and_then(|id| self.clients.get(id)).is_some_and(|client| {
            client.redirect_uris.is_empty() || client.redirect_uris.iter().any(|uri| is("redirect_uri", uri))
        });
        let is_good = is_client
            && is("response_type", "code")
            && is("code_challenge_method", "S256")
            && ["code_challenge", "redirect_uri", "state"].into_iter().all(has);
        if !is_good {
            return response(400, "", &format!("{asked:?}"));
        }
        let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
        back.query_pairs_mut().append_pair("state", &asked["state"]);
        match self.iss {
            Iss::Right => drop(back.query_pairs_mut().append_pair("iss", &self.issuer)),
            Iss::Wrong => drop(back.query_pairs_mut().append_pair("iss", "https://evil.example")),
            Iss::Missing => {}
        }
        match self.at_browser.clone() {
            None => {
                let mut query = back.query_pairs_mut();
                query
                    .append_pair("error", "access_denied")
                    .append_pair("error_description", "canary-of-the-issuer");
            }
            Some(account) => {
                let (code, family) = (self.make("code"), self.next());
                back.query_pairs_mut().append_pair("code", &code);
                let (client, scope) =
                    (asked["client_id"].clone(), asked.get("scope").cloned().unwrap_or_default());
                self.codes.insert(code, Grant { family, account, client, scope, asked });
            }
        }
        response(302, &format!("Location: {back}\r\n"), "")
    }

    fn token(&mut self, head: &str, form: &HashMap<String, String>) -> Reply {
        match self.tokens.clone() {
            Tokens::Gives => {}
            Tokens::Refuses(error) => return refuses(400, error),
            Tokens::Fails => {
                return response(500, "Content-Type: text/html\r\n", "<h1>canary-of-the-issuer</h1>");
            }
            Tokens::Hangs => return Reply::Never,
            Tokens::Redirects => {
                return response(307, &format!("Location: {}/elsewhere\r\n", self.issuer), "");
            }
            Tokens::IsHuge => return Reply::WithoutEnd,
            Tokens::Babbles => return json_response(200, &json!(["canary-of-the-issuer"])),
        }
        let Some(client) = self.proved(head, form) else { return refuses(401, "invalid_client") };
        let is = |name: &str, value: &str| form.get(name).is_some_and(|found| found == value);
        let get = |name: &str| form.get(name).cloned().unwrap_or_default();
        let grant = match &*get("grant_type") {
            "authorization_code" => self.codes.remove(&get("code")).filter(|grant| {
                let digest = digest::digest(&digest::SHA256, get("code_verifier").as_bytes());
                grant.asked["code_challenge"] == URL_SAFE_NO_PAD.encode(digest)
                    && is("redirect_uri", &grant.asked["redirect_uri"])
                    && grant.asked.get("resource") == form.get("resource")
            }),
            "refresh_token" => {
                let token = get("refresh_token");
                if let Some(family) = self.spent.get(&token).copied() {
                    // Somebody has it who should not.
                    self.ended.insert(family);
                    self.refresh.retain(|_, grant| grant.family != family);
                    self.access.retain(|_, grant| grant.family != family);
                }
                let grant = self.refresh.get(&token).cloned();
                if let Some(grant) = grant.as_ref().filter(|_| self.rotates) {
                    self.refresh.remove(&token);
                    self.spent.insert(token, grant.family);
                }
                grant
            }
            "client_credentials" => Some(self.granted("the-gateway", &client, get("scope"))),
            "urn:ietf:params:oauth:grant-type:token-exchange"
            | "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                let subject = form.get("subject_token").or_else(|| form.get("assertion")).cloned();
                let subject = subject.unwrap_or_default();
                let account = subject_of(&subject);
                self.subjects.push(subject);
                account.map(|account| self.granted(&account, &client, get("scope")))
            }
            _ => return refuses(400, "unsupported_grant_type"),
        };
        let Some(grant) = grant.filter(|grant| grant.client == client) else {
            return refuses(400, "invalid_grant");
        };
        let access = self.make("access");
        self.access.insert(access.clone(), grant.clone());
        let mut answer = json!({ "access_token": access, "token_type": "Bearer", "scope": grant.scope });
        if let Some(seconds) = self.lifetime {
            answer["expires_in"] = json!(seconds);
        }
        if is("grant_type", "authorization_code") {
            let claims =
                json!({ "sub": grant.account, "email": format!("{}@upstream.example", grant.account) });
            answer["id_token"] = json!(format!("x.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string())));
        }
        if is("grant_type", "authorization_code") || is("grant_type", "refresh_token") && self.rotates {
            let refresh = self.make("refresh");
            self.refresh.insert(refresh.clone(), grant);
            answer["refresh_token"] = json!(refresh);
        }
        json_response(200, &answer)
    }

    fn granted(&mut self, account: &str, client: &str, scope: String) -> Grant {
        let (account, client) = (account.to_owned(), client.to_owned());
        Grant { family: self.next(), account, client, scope, asked: HashMap::new() }
    }

    /// The client who asks, if it proves that it is that.
    fn proved(&self, head: &str, form: &HashMap<String, String>) -> Option<String> {
        let basic = field(head, "authorization").and_then(|value| value.strip_prefix("Basic "));
        let (id, secret) = match basic {
            Some(basic) => {
                let text = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
                let (id, secret) = text.split_once(':')?;
                let plain = |text: &str| {
                    form_urlencoded::parse(format!("x={text}").as_bytes()).next().unwrap().1.into_owned()
                };
                (plain(id), Some(plain(secret)))
            }
            None => (form.get("client_id")?.clone(), form.get("client_secret").cloned()),
        };
        let client = self.clients.get(&id)?;
        (client.secret == secret).then_some(id)
    }

    fn revoke(&mut self, form: &HashMap<String, String>) -> Reply {
        let token = form.get("token").cloned().unwrap_or_default();
        let grant = self.refresh.remove(&token).or_else(|| self.access.remove(&token));
        if let Some(grant) = grant {
            self.refresh.retain(|_, other| other.family != grant.family);
            self.access.retain(|_, other| other.family != grant.family);
        }
        response(200, "", "")
    }

    fn mcp(&mut self, head: &str, body: &[u8]) -> Reply {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let token = field(head, "authorization").map(|value| value.trim_start_matches("Bearer ").to_owned());
        let grant = token.as_ref().and_then(|token| self.access.get(token)).cloned();
        let account = grant.as_ref().map(|grant| grant.account.clone());
        let has_token = token.is_some();
        self.calls.push(Call { token, account: account.clone(), method: method.clone() });
        let place = format!("{}/.well-known/oauth-protected-resource/mcp", self.server);
        let challenge = |more: &str, scope: &Option<String>| {
            let scope = scope.as_ref().map(|scope| format!(", scope=\"{scope}\"")).unwrap_or_default();
            format!(
                "Content-Type: application/json\r\nWWW-Authenticate: Bearer resource_metadata=\"{place}\"{scope}{more}\r\n"
            )
        };
        let Some(grant) = grant else {
            let more = if has_token { ", error=\"invalid_token\"" } else { "" };
            return response(401, &challenge(more, &self.scope), "{\"error\":\"canary-of-the-server\"}");
        };
        let has = |wanted: &String| grant.scope.split(' ').any(|scope| scope == wanted);
        if method == "tools/call" && self.scope_of_tools.as_ref().is_some_and(|wanted| !has(wanted)) {
            let challenge = challenge(", error=\"insufficient_scope\"", &self.scope_of_tools);
            return response(403, &challenge, "{\"error\":\"canary-of-the-server\"}");
        }
        if !head.starts_with("POST ") {
            return response(405, "", "");
        }
        if message.get("id").is_none() {
            return response(202, "", "");
        }
        let version = message["params"]["protocolVersion"].as_str().unwrap_or("2025-06-18");
        let result = match &*method {
            "initialize" => json!({
                "protocolVersion": version, "capabilities": { "tools": {} },
                "serverInfo": { "name": "protected", "version": "1" },
            }),
            "tools/list" => {
                json!({ "tools": [{ "name": "whoami", "inputSchema": { "type": "object" } }], "ttlMs": 0, "cacheScope": "private" })
            }
            "tools/call" => json!({ "content": [{ "type": "text", "text": account }], "isError": false }),
            "ping" => json!({}),
            _ => {
                let error = json!({ "code": -32601, "message": "unknown method" });
                let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "error": error });
                return json_response(if method == "server/discover" { 400 } else { 200 }, &answer);
            }
        };
        json_response(200, &json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }))
    }
}

/// Whose a token is that says so itself.
fn subject_of(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}
