//! Scheme × state of the credential × rule of the server × path × method: what each combination is answered with, and which of
//! them reach a server. Paths and methods are those of the table of endpoints.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::{Value, json};
use sluicegate::{
    downstream::connection::ListenerKind,
    endpoints::table::{Answer, ENDPOINTS, Endpoint, McpEndpoint, Who, find},
};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    harness::{Client, DEV, Gate, field, fields},
    recorder::Recorder,
};

const EXPIRED: &str = "expired-token-0123456789abcdef";
const UNKNOWN: &str = "unknown-token-0123456789abcdef";
const TENANT: &str = "tenant-token-0123456789abcdef";
const TENANT_EXPIRED: &str = "tenant-expired-0123456789abcdef";
const PASSWORD: &str = "password-0123456789abcdef";
/// As cheap as may be: many are compared.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let cheap = Params::new(64, 1, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cheap);
    argon2.hash_password_with_salt(PASSWORD.as_bytes(), b"salt of the matrix").unwrap().to_string()
});
/// Users, so that none of them is tried so often that it is slowed; as many are disabled.
const USERS: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    ApiKey,
    Basic,
    XApiKey,
    Cookie,
    Query,
    Tenant,
    /// `Basic` with the password of a user.
    Password,
}

const SCHEMES: [Scheme; 8] = [
    Scheme::Bearer,
    Scheme::ApiKey,
    Scheme::Basic,
    Scheme::XApiKey,
    Scheme::Cookie,
    Scheme::Query,
    Scheme::Tenant,
    Scheme::Password,
];

/// All that are on where there are no users.
const WITHOUT_USERS: &[Scheme] = SCHEMES.split_at(7).0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Expired,
    Unknown,
    WrongForm,
    Twice,
    /// Beside another that is good.
    WithAnother,
}

const STATES: [State; 6] =
    [State::Good, State::Expired, State::Unknown, State::WrongForm, State::Twice, State::WithAnother];

impl Scheme {
    fn is_in_authorization(self) -> bool {
        matches!(self, Self::Bearer | Self::ApiKey | Self::Basic | Self::Password)
    }

    fn is_on(self, on: &[Self]) -> bool {
        on.contains(if self == Self::Password { &Self::Basic } else { &self })
    }

    /// A good one beside it, in another place.
    fn another(self) -> Self {
        if self.is_in_authorization() { Self::XApiKey } else { Self::Bearer }
    }

    /// Field lines, and parameters of the query.
    fn written(self, name: &str, token: &str) -> (String, Option<String>) {
        let line = match self {
            Self::Bearer => format!("Authorization: Bearer {token}\r\n"),
            Self::ApiKey => format!("Authorization: ApiKey {token}\r\n"),
            Self::Basic | Self::Password => {
                format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{token}")))
            }
            Self::XApiKey => format!("X-API-Key: {token}\r\n"),
            Self::Cookie => format!("Cookie: token={token}\r\n"),
            Self::Query => return (String::new(), Some(format!("token={token}"))),
            Self::Tenant => format!("X-Tenant-Token: {token}\r\n"),
        };
        (line, None)
    }

    fn malformed(self) -> (String, Option<String>) {
        let line = match self {
            Self::Bearer => format!("Authorization: {DEV}\r\n"),
            Self::ApiKey => format!("Authorization: ApiKey{DEV}\r\n"),
            Self::Basic => format!("Authorization: Basic {DEV}\r\n"),
            Self::XApiKey => format!("X-API-Key: Bearer {DEV}\r\n"),
            Self::Cookie => "Cookie: token=\r\n".to_owned(),
            Self::Query => return (String::new(), Some("token=".to_owned())),
            Self::Tenant => format!("X-Tenant-Token: Bearer {TENANT}\r\n"),
            Self::Password => {
                format!("Authorization: Basic {}!\r\n", STANDARD.encode(format!("user0:{PASSWORD}")))
            }
        };
        (line, None)
    }

    /// `case` is its number: each tries another user.
    fn request_parts(self, state: State, case: usize) -> Vec<(String, Option<String>)> {
        if self == Self::Password {
            // Of each path and method.
            let number = case / STATES.len() % USERS;
            let wrong = [
                self.written(&format!("user{number}"), UNKNOWN),
                self.written(&format!("nobody{case}"), PASSWORD),
                self.written(&format!("user{number}"), DEV),
            ];
            let long = self.written("user0", &"x".repeat(7 * 1024));
            let good = self.written("user0", PASSWORD);
            return match state {
                State::Good => vec![good],
                State::Expired => vec![self.written(&format!("disabled{number}"), PASSWORD)],
                State::Unknown => vec![wrong[number % wrong.len()].clone()],
                State::WrongForm => vec![if number.is_multiple_of(2) { self.malformed() } else { long }],
                State::Twice => vec![good.clone(), good],
                State::WithAnother => vec![good, self.another().written("dev", DEV)],
            };
        }
        let is_tenant = self == Self::Tenant;
        let good = self.written("dev", if is_tenant { TENANT } else { DEV });
        match state {
            State::Good => vec![good],
            State::Expired => vec![self.written("old", if is_tenant { TENANT_EXPIRED } else { EXPIRED })],
            State::Unknown => vec![self.written("dev", UNKNOWN)],
            State::WrongForm => vec![self.malformed()],
            State::Twice => vec![good.clone(), good],
            State::WithAnother => vec![good, self.another().written("dev", DEV)],
        }
    }
}

/// Each server, and whether the token `dev` and the tenant `acme` may use it. `none` is no server.
const SERVERS: [(&str, bool, bool); 8] = [
    ("any", true, true),
    ("named", true, false),
    ("unnamed", false, false),
    ("nobody", false, false),
    ("roled", true, true),
    ("unroled", false, false),
    ("open", true, true),
    ("none", false, false),
];

fn config(server: &Recorder, on: &[Scheme]) -> Value {
    let words: Vec<_> = on.iter().filter_map(|scheme| word(*scheme)).collect();
    let url = server.url("/mcp");
    let mut config = json!({
        "proxy": { "debug": true, "auth": {
            "schemes": words,
            "queryToken": on.contains(&Scheme::Query),
            "tokens": {
                "dev": { "value": DEV, "roles": ["reader"] },
                "old": { "value": EXPIRED, "expires": "2020-01-01T00:00:00Z", "roles": ["reader", "admin"] },
            },
        } },
        "mcpServers": {
            "any": { "url": url },
            "named": { "url": url, "authTokens": ["dev", "old"] },
            "unnamed": { "url": url, "authTokens": ["old"] },
            "nobody": { "url": url, "authTokens": [] },
            "roled": { "url": url, "roles": ["reader"] },
            "unroled": { "url": url, "roles": ["admin"] },
            "open": { "url": url, "public": true },
        },
    });
    if on.contains(&Scheme::Tenant) {
        config["proxy"]["auth"]["tenants"] = json!({ "tokens": {
            "acme": { "value": TENANT, "roles": ["reader"] },
            "old": { "value": TENANT_EXPIRED, "expires": "2020-01-01T00:00:00Z", "roles": ["reader", "admin"] },
        } });
    }
    if has_users(on) {
        // Each case has an address of its own, so that none tries too often.
        config["proxy"]["trustedProxies"] = json!(["127.0.0.1"]);
        for number in 0..USERS {
            let user = json!({ "passwordHash": *HASH, "roles": ["reader"] });
            config["proxy"]["auth"]["users"][format!("user{number}")] = user.clone();
            config["proxy"]["auth"]["users"][format!("disabled{number}")] = user;
            config["proxy"]["auth"]["users"][format!("disabled{number}")]["disabled"] = json!(true);
        }
    }
    config
}

/// Whether there are users who may have a password.
fn has_users(on: &[Scheme]) -> bool {
    on.contains(&Scheme::Password)
}

fn word(scheme: Scheme) -> Option<&'static str> {
    Some(match scheme {
        Scheme::Bearer => "bearer",
        Scheme::ApiKey => "apikey",
        Scheme::Basic => "basic",
        Scheme::XApiKey => "x-api-key",
        Scheme::Cookie => "cookie",
        Scheme::Query | Scheme::Tenant | Scheme::Password => return None,
    })
}

/// Paths of the table, and the server in each.
fn paths() -> Vec<(String, Option<&'static str>)> {
    let mut paths = Vec::new();
    for pattern in ENDPOINTS.iter().flat_map(|row| row.paths) {
        let pattern = if *pattern == "*" { "/any/x" } else { pattern }.replace('*', "x");
        if pattern.starts_with("/{server}") {
            let of_server = |name: &'static str| (pattern.replace("{server}", name), Some(name));
            paths.extend(SERVERS.map(|(name, ..)| of_server(name)));
        } else {
            paths.push((pattern.replace("{server}", "any"), None));
        }
    }
    paths
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// With this status, code and these challenges.
    Refused(u16, &'static str, Vec<String>),
    /// The server's answer.
    Reaches,
    /// An answer of the gateway to somebody whom it has let in.
    Answers,
}

/// By which scheme the caller is known, or the code of the refusal of what is presented.
fn verdict(scheme: Scheme, state: State, on: &[Scheme]) -> Result<Scheme, &'static str> {
    let presented = match state {
        State::Twice => vec![scheme, scheme],
        State::WithAnother => vec![scheme, scheme.another()],
        _ => vec![scheme],
    };
    if presented.contains(&Scheme::Query) && !on.contains(&Scheme::Query) {
        return Err("query_token_disabled");
    }
    if presented.iter().any(|one| one.is_in_authorization() && !one.is_on(on)) {
        return Err("invalid_token");
    }
    let counts: Vec<_> = presented.iter().filter(|one| one.is_on(on)).collect();
    match counts[..] {
        [] => Err("unauthorized"),
        [Scheme::Password] if !has_users(on) => Err("invalid_token"),
        [one] if *one != scheme || matches!(state, State::Good | State::WithAnother) => Ok(*one),
        _ => Err("invalid_token"),
    }
}

fn wanted(
    row: &Endpoint,
    server: Option<&str>,
    method: &Method,
    asked: (Scheme, State),
    on: &[Scheme],
) -> Wanted {
    let (scheme, state) = asked;
    let refused = |code: &'static str| {
        let mut challenges = vec![match code {
            "invalid_token" => "Bearer realm=\"test gate\", error=\"invalid_token\"".to_owned(),
            _ => "Bearer realm=\"test gate\"".to_owned(),
        }];
        let tries_basic = matches!(scheme, Scheme::Basic | Scheme::Password) && scheme.is_on(on);
        if tries_basic && state != State::Twice && code == "invalid_token" {
            challenges.push("Basic realm=\"test gate\", charset=\"UTF-8\"".to_owned());
        }
        Wanted::Refused(401, code, challenges)
    };
    let other = |status, code| Wanted::Refused(status, code, Vec::new());
    let forbidden =
        || Wanted::Refused(403, "insufficient_scope", vec!["Bearer error=\"insufficient_scope\"".to_owned()]);
    let by_method = |reaches: Wanted| {
        if row.methods.have(method) { reaches } else { other(405, "method_not_allowed") }
    };
    let verdict = verdict(scheme, state, on);
    match (row.who(ListenerKind::Public), verdict) {
        (Who::Nobody, _) => other(404, "not_found"),
        // A login takes whatever comes beside its body.
        (Who::Guest, _) if has_users(on) => by_method(Wanted::Answers),
        (Who::Anyone, _) => by_method(Wanted::Answers),
        (Who::Server, verdict) => {
            if server == Some("open") {
                let is_read = scheme.is_in_authorization() || scheme == Scheme::Query || scheme.is_on(on);
                if state == State::Twice && is_read {
                    return refused("invalid_token");
                }
            } else if let Err(code) = verdict {
                return refused(code);
            }
            let of_name = SERVERS.iter().find(|(name, ..)| Some(*name) == server);
            // Neither a tenant nor a user is in `authTokens`.
            let is_unlisted = matches!(verdict, Ok(Scheme::Tenant | Scheme::Password));
            let may = of_name.map(|(_, dev, acme)| if is_unlisted { *acme } else { *dev });
            match may {
                Some(false) if server == Some("none") => other(404, "not_found"),
                Some(false) => forbidden(),
                // Its server speaks Streamable HTTP, so that the others are answered by the gateway.
                Some(true) if matches!(row.answer, Answer::Mcp(McpEndpoint::Mcp)) => {
                    by_method(Wanted::Reaches)
                }
                _ => by_method(Wanted::Answers),
            }
        }
        (_, Err(code)) => refused(code),
        (Who::Manage(_), Ok(_)) => forbidden(),
        (Who::Guest | Who::Hidden, Ok(_)) => other(404, "not_found"),
    }
}

/// A connection that is kept as long as it can be.
struct Asker {
    at: SocketAddr,
    client: Option<Client<TcpStream>>,
}

impl Asker {
    async fn send(&mut self, request: &str) {
        if self.client.is_none() {
            self.client = Some(Client::new(TcpStream::connect(self.at).await.unwrap()));
        }
        self.client.as_mut().unwrap().send(request).await;
    }

    /// The head and the body of the next answer, if its end can be told. `None` if there is no connection any more.
    async fn answer(&mut self, is_head: bool) -> Option<(String, String)> {
        let mut client = self.client.take()?;
        let head = client.next_head().await?;
        if field(&head, "transfer-encoding").is_some() {
            return Some((head, String::new()));
        }
        let length = field(&head, "content-length").filter(|_| !is_head);
        let body = client.exactly(length.map_or(0, |length| length.parse().unwrap())).await;
        if field(&head, "connection") != Some("close") {
            self.client = Some(client);
        }
        Some((head, String::from_utf8(body).unwrap()))
    }
}

/// Asks everything of a gateway with the schemes `on`, by each of `schemes`. Says how many cases there were.
async fn ask_everything(on: &[Scheme], schemes: &[Scheme]) -> usize {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server, on)).await;
    let mut asker = Asker { at: gate.addr, client: None };
    let (mut cases, mut reaching) = (0, BTreeSet::new());
    for (path, name) in paths() {
        let row = find(&path).endpoint.by(&gate.gateway.in_force());
        let first = row.methods.allow.split(", ").next().unwrap();
        for method in [first, "PUT"] {
            for (scheme, state) in schemes.iter().flat_map(|scheme| STATES.map(|state| (*scheme, state))) {
                let parts = scheme.request_parts(state, cases);
                let lines: String = parts.iter().map(|(line, _)| line.as_str()).collect();
                let query: Vec<_> = parts.into_iter().filter_map(|(_, query)| query).collect();
                let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
                let case = format!("{cases} {on:?} {scheme:?} {state:?} {method} {path}");
                asker
                    .send(&format!(
                        "{method} {path}{query} HTTP/1.1\r\nHost: localhost\r\nX-Case: {cases}\r\nX-Forwarded-For: 10.0.{}.{}\r\nContent-Length: 0\r\n{lines}\r\n",
                        cases / 256,
                        cases % 256,
                    ))
                    .await;
                let (head, body) = asker.answer(false).await.expect(&case);
                let status: u16 = head[9..12].parse().unwrap();
                let challenges: Vec<_> = fields(&head, "www-authenticate").map(str::to_owned).collect();
                match wanted(row, name, &method.parse().unwrap(), (scheme, state), on) {
                    Wanted::Refused(wanted, code, wanted_challenges) => {
                        assert_eq!((status, challenges), (wanted, wanted_challenges), "{case}\n{body}");
                        let body: Value = serde_json::from_str(&body).unwrap();
                        assert_eq!(body["error"], code, "{case}");
                    }
                    Wanted::Reaches => {
                        assert_eq!(status, 200, "{case}\n{body}");
                        reaching.insert(cases.to_string());
                    }
                    Wanted::Answers => {
                        assert!(![401, 403].contains(&status) && challenges.is_empty(), "{case}\n{head}");
                    }
                }
                cases += 1;
            }
        }
    }
    let seen = server.requests();
    let reached: BTreeSet<_> =
        seen.iter().filter_map(|seen| field(seen, "x-case").map(str::to_owned)).collect();
    assert_eq!(reached, reaching);
    assert_eq!(seen.len(), reaching.len(), "each of them once, and nothing else");
    let encoded = STANDARD.encode(format!("dev:{DEV}"));
    for secret in [DEV, EXPIRED, UNKNOWN, TENANT, TENANT_EXPIRED, PASSWORD, &encoded] {
        assert!(!seen.iter().any(|seen| seen.contains(secret)), "{secret} at the server");
        assert!(!gate.log.text().contains(secret), "{secret} in the log");
        assert!(!gate.metrics().contains(secret), "{secret} in the metrics");
    }
    cases
}

#[tokio::test]
async fn each_way_to_present_a_credential_is_answered_as_it_should_be_with_all_schemes_on() {
    assert!(ask_everything(WITHOUT_USERS, &SCHEMES).await >= 3_000);
}

#[tokio::test]
async fn each_way_to_present_a_credential_is_answered_as_it_should_be_with_bearer_alone() {
    assert!(ask_everything(&[Scheme::Bearer], &SCHEMES).await >= 3_000);
}

#[tokio::test]
async fn each_way_to_present_a_credential_is_answered_as_it_should_be_without_bearer() {
    assert!(ask_everything(&[Scheme::Basic, Scheme::XApiKey, Scheme::Tenant], &SCHEMES).await >= 3_000);
}

#[tokio::test]
async fn each_way_to_present_a_password_is_answered_as_it_should_be() {
    // What is no token is compared as a password, whatever it is: so nothing else is asked here.
    assert!(ask_everything(&SCHEMES, &[Scheme::Password]).await >= 600);
}

const METHODS: [&str; 12] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE",
    "QUERY",
];

/// Fields by which somebody may hope to be taken for somebody else.
const SPOOFS: [&str; 30] = [
    "X-Forwarded-User: admin",
    "X-Forwarded-Email: admin@localhost",
    "X-Forwarded-Preferred-Username: admin",
    "X-Forwarded-For: 127.0.0.1",
    "Forwarded: for=127.0.0.1;by=127.0.0.1;host=localhost",
    "X-Real-IP: 127.0.0.1",
    "X-Remote-User: admin",
    "Remote-User: admin",
    "X-User: admin",
    "X-User-Id: 0",
    "X-Authenticated-User: admin",
    "X-Auth-Request-User: admin",
    "X-Auth-Token: dev",
    "X-WebAuth-User: admin",
    "X-Consumer-Username: admin",
    "X-MS-Client-Principal-Name: admin",
    "X-Goog-Authenticated-User-Email: admin@localhost",
    "X-Amzn-Oidc-Identity: admin",
    "Cf-Access-Authenticated-User-Email: admin@localhost",
    "Tailscale-User-Login: admin",
    "X-SSL-Client-Verify: SUCCESS",
    "Client-Cert: :MIIB:",
    "X-Original-URL: /health",
    "X-Rewrite-URL: /health",
    "X-HTTP-Method-Override: OPTIONS",
    "Proxy-Authorization: Bearer dev-token-0123456789abcdef",
    "X-Authorization: Bearer dev-token-0123456789abcdef",
    "Authorization_: Bearer dev-token-0123456789abcdef",
    "Auth: Bearer dev-token-0123456789abcdef",
    "X-Roles: admin",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_that_names_a_caller_stands_for_a_credential() {
    let server = Recorder::start().await;
    // Logins are for anybody.
    let mut config = config(&server, WITHOUT_USERS);
    config["mcpServers"].as_object_mut().unwrap().remove("open");
    let gate = Gate::start(config).await;
    let (at, in_force) = (gate.addr, gate.gateway.in_force());
    let mut tasks = JoinSet::new();
    for method in METHODS {
        let in_force = Arc::clone(&in_force);
        tasks.spawn(async move {
            let mut asker = Asker { at, client: None };
            let mut asked = 0;
            for (path, _) in paths().into_iter().filter(|(_, name)| *name != Some("open")) {
                let who = find(&path).endpoint.by(&in_force).who(ListenerKind::Public);
                let request = |spoof: &str| {
                    format!(
                        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{spoof}\r\n\r\n"
                    )
                };
                // All at once, unless the connection ends meanwhile.
                let all: String = SPOOFS.map(request).concat();
                asker.send(&all).await;
                for spoof in SPOOFS {
                    let answer = match asker.answer(method == "HEAD").await {
                        Some(answer) => Some(answer),
                        None => {
                            asker.send(&request(spoof)).await;
                            asker.answer(method == "HEAD").await
                        }
                    };
                    let (head, _) = answer.unwrap_or_else(|| panic!("{method} {path} {spoof}"));
                    let status: u16 = head[9..12].parse().unwrap();
                    match (method, who) {
                        ("TRACE" | "CONNECT", _) => assert!((400..500).contains(&status), "{head}"),
                        ("OPTIONS", _) => assert!([204, 405].contains(&status), "{path} {head}"),
                        (_, Who::Server | Who::Manage(_) | Who::Guest | Who::Hidden) => {
                            assert_eq!(status, 401, "{method} {path} {spoof}\n{head}");
                        }
                        (_, Who::Nobody) => assert_eq!(status, 404, "{method} {path} {spoof}\n{head}"),
                        (_, Who::Anyone) => assert!([200, 405].contains(&status), "{path} {head}"),
                    }
                    asked += 1;
                }
            }
            asked
        });
    }
    let asked: usize = tasks.join_all().await.iter().sum();
    assert!(asked >= METHODS.len() * SPOOFS.len() * ENDPOINTS.len(), "{asked}");
    server.saw_nothing("nobody has shown a credential").await;
}
