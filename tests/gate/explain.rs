//! What `sluicegate explain` says is what the gateway does, whatever the config.

use std::{
    cell::Cell,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use serde_json::{Map, Value, json};
use sluicegate::{
    config::{self, Credential, ScopeTags, Snapshot},
    error::ErrorKind,
    identity::{
        Allowed, Identity, Principal, Proof,
        audience::Audience,
        login::grants::{ClientGrant, NewCode, Token},
        scope::Scope,
    },
    policy::decide::{Ask, Decision, DenyKind, ManageAsk, Policy, decide},
};

use crate::{
    harness::{Gate, get, post},
    mcp::{call, modern, modern_call, names},
    numbered::from_env,
    oauth_tokens::access_of,
    recorder::Recorder,
    users::{CHEAP_HASHES, log_in},
};

/// How often gateway and decision are compared; `SLUICEGATE_CASES` has another number.
const CASES: usize = 10_000;
const TOKENS: [&str; 3] = ["t0", "t1", "t2"];
const TENANTS: [&str; 2] = ["c0", "c1"];
/// In each config they are called anew: nobody logs in often by one name.
const USERS: [&str; 2] = ["u0", "u1"];
/// Two that are reached byte for byte, and two that are reached message by message.
const SERVERS: [&str; 4] = ["h0", "h1", "i0", "i1"];
const TOOLS: [&str; 2] = ["x", "y"];
const ROLES: [&str; 4] = ["a", "b", "admin", "metrics"];
const TAGS: [&str; 2] = ["even", "odd"];

const BASE: &str = "http://localhost";
/// Words of scopes, of which some mean nothing.
const SCOPES: [&str; 12] = [
    "mcp",
    "offline_access",
    "server:h0",
    "server:i0",
    "server:i1",
    "server:none",
    "tag:even",
    "tag:odd",
    "tag:inline",
    "tag:none",
    "x:write",
    "y:write",
];
/// Scopes that tools may ask for.
const TOOL_SCOPES: [&str; 2] = ["x:write", "y:write"];
/// Clients: of the config, if it has it; registered; by a document.
const CLIENTS: [&str; 3] = ["portal", "sgc_AAAA", "https://client.example/id"];
/// Where they were sent back to.
const RECEIVERS: [&str; 4] = ["client.example", "client.example:8443", "localhost", "cursor:"];

/// A credential of its own for each place in the config.
fn secret(token: &str, index: usize) -> String {
    format!("{token}-credential-{index}-0123456789abcdef")
}

fn limit(names: &'static [&str]) -> impl Strategy<Value = Option<Vec<&'static str>>> {
    option::weighted(0.2, subsequence(names, 0..=names.len()))
}

/// Of a token or a tenant.
fn any_token(name: &'static str) -> impl Strategy<Value = Value> {
    let expires = select(vec![None, None, Some("2020-01-01T00:00:00Z"), Some("2100-01-01T00:00:00Z")]);
    let credential = (subsequence(ROLES.to_vec(), 0..=3), limit(&SERVERS), limit(&TAGS), expires);
    vec(credential, 1..=2).prop_map(move |credentials| {
        type Drawn =
            (Vec<&'static str>, Option<Vec<&'static str>>, Option<Vec<&'static str>>, Option<&'static str>);
        let with_secret = |(index, (roles, servers, tags, expires)): (usize, Drawn)| {
            let mut credential = json!({ "value": secret(name, index), "roles": roles });
            servers.iter().for_each(|servers| credential["servers"] = json!(servers));
            tags.iter().for_each(|tags| credential["tags"] = json!(tags));
            expires.iter().for_each(|end| credential["expires"] = json!(end));
            credential
        };
        credentials.into_iter().enumerate().map(with_secret).collect()
    })
}

fn any_user() -> impl Strategy<Value = Value> {
    let drawn =
        (subsequence(ROLES.to_vec(), 0..=3), limit(&SERVERS), limit(&TAGS), prop::bool::weighted(0.2));
    drawn.prop_map(|(roles, servers, tags, disabled)| {
        let mut user = json!({ "passwordHash": CHEAP_HASHES[0], "roles": roles, "disabled": disabled });
        servers.iter().for_each(|servers| user["servers"] = json!(servers));
        tags.iter().for_each(|tags| user["tags"] = json!(tags));
        user
    })
}

/// The part of a server that says who may use what of it.
fn any_rules() -> impl Strategy<Value = Value> {
    let names = || (option::of(subsequence(TOKENS.to_vec(), 0..=3)), any_users());
    let roles = || option::of(subsequence(ROLES.to_vec(), 0..=2));
    let filter = option::of((any::<bool>(), subsequence(TOOLS.to_vec(), 0..=2)));
    let access = prop_oneof![1 => Just(None), 4 => (names(), roles()).prop_map(Some)];
    let pattern = select(vec!["x", "y", "*"]);
    let may = option::weighted(0.8, subsequence(ROLES.to_vec(), 0..=3));
    let scopes = option::weighted(0.3, subsequence(TOOL_SCOPES.to_vec(), 0..=2));
    let tool = (pattern, may, any_users(), scopes, any::<bool>());
    (access, filter, vec(tool, 0..=2)).prop_map(|(access, filter, tools)| {
        let mut rules = json!({});
        match access {
            None => rules["public"] = json!(true),
            Some(((names, users), roles)) => {
                for (pattern, roles, users, scopes, hide) in tools {
                    rules["tools"][pattern] = json!({ "hide": hide });
                    roles.iter().for_each(|roles| rules["tools"][pattern]["roles"] = json!(roles));
                    users.iter().for_each(|users| rules["tools"][pattern]["users"] = json!(users));
                    scopes.iter().for_each(|scopes| rules["tools"][pattern]["scopes"] = json!(scopes));
                }
                names.iter().for_each(|names| rules["authTokens"] = json!(names));
                users.iter().for_each(|users| rules["users"] = json!(users));
                roles.iter().for_each(|roles| rules["roles"] = json!(roles));
            }
        }
        if let Some((allows, list)) = filter {
            let mode = if allows { "allow" } else { "block" };
            rules["options"] = json!({ "toolFilter": { "mode": mode, "list": list } });
        }
        rules
    })
}

fn any_users() -> impl Strategy<Value = Option<Vec<&'static str>>> {
    option::weighted(0.3, subsequence(USERS.to_vec(), 0..=2))
}

/// The part of the config that is about clients.
fn any_oauth() -> impl Strategy<Value = Value> {
    let registration = select(vec![
        json!("open"),
        json!("open"),
        json!("off"),
        json!(["client.example"]),
        json!(["other.example", "client.example:8443"]),
    ]);
    (registration, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(registration, all, offers, has)| {
            let portal = json!({ "portal": { "redirectUris": ["https://client.example/cb"] } });
            json!({
                "registration": registration,
                "scopeTags": if all { "all" } else { "any" },
                "scopeValidation": offers,
                "clients": if has { portal } else { json!({}) },
            })
        },
    )
}

/// What somebody allowed a client.
#[derive(Debug, Clone)]
struct Access {
    /// Which of those who may log in at the pages.
    who: prop::sample::Index,
    client: &'static str,
    receiver: &'static str,
    resource: &'static str,
    scope: String,
    is_revoked: bool,
}

fn any_access() -> impl Strategy<Value = Access> {
    let resource = select(vec![
        "",
        "",
        "",
        "/",
        "/mcp",
        "/mcp",
        "/sse?x=1",
        "/h0",
        "/h1/mcp",
        "/i0/sse",
        "/i1",
        "/none/mcp",
    ]);
    let scope = subsequence(SCOPES.to_vec(), 0..=5).prop_shuffle();
    let revoked = prop::bool::weighted(0.1);
    (
        any::<prop::sample::Index>(),
        select(CLIENTS.to_vec()),
        select(RECEIVERS.to_vec()),
        resource,
        scope,
        revoked,
    )
        .prop_map(|(who, client, receiver, resource, scope, is_revoked)| Access {
            who,
            client,
            receiver,
            resource,
            scope: scope.join(" "),
            is_revoked,
        })
}

impl Access {
    fn resource(&self) -> String {
        format!("{BASE}{}", self.resource)
    }

    /// What of a principal's rights it has.
    fn allowed(&self, tags: ScopeTags) -> Arc<Allowed> {
        Arc::new(Allowed {
            client_id: self.client.into(),
            receiver: None,
            base: BASE.into(),
            audience: Audience::of(&self.resource(), BASE).unwrap(),
            scope: Scope::parse(&self.scope, tags),
        })
    }

    /// Whether the config lets such a client in.
    fn is_let_in(&self, config: &Value) -> bool {
        let auth = &config["proxy"]["auth"];
        let is_listed = |host: &str| auth["registration"].as_array().unwrap().contains(&json!(host));
        match (self.client, &auth["registration"]) {
            ("portal", _) => auth["clients"].get("portal").is_some() && self.receiver == "client.example",
            (_, Value::String(word)) => word == "open",
            (client, _) => {
                ["localhost", "cursor:"].contains(&self.receiver)
                    || is_listed(self.receiver)
                    || client.starts_with("https:") && is_listed("client.example")
            }
        }
    }

    /// The token, and whose it is, as the config says.
    async fn begin(&self, gate: &Gate, snapshot: &Snapshot) -> (String, Identity) {
        let tokens = snapshot.credentials.iter().map(Identity::of).enumerate();
        let users = snapshot.users.iter().map(|user| Identity::of_user(user, Proof::Nothing));
        let users = users.enumerate().map(|(index, user)| (snapshot.credentials.len() + index, user));
        let is_at_pages =
            |(_, identity): &(usize, Identity)| !matches!(identity.principal, Principal::Tenant(_));
        let all: Vec<_> = tokens.chain(users).filter(is_at_pages).collect();
        let (slot, identity) = self.who.get(&all);
        let client = ClientGrant {
            client_id: self.client.into(),
            client_name: "A client".into(),
            redirect_host: self.receiver.into(),
            resource: self.resource().into(),
            scope: self.scope.as_str().into(),
        };
        let new = NewCode {
            principal: identity.principal.clone(),
            fingerprint: gate.gateway.shared().live().fingerprint(*slot).unwrap(),
            client: Arc::new(client),
            redirect_uri: "https://client.example/cb".into(),
            challenge: [7; 32],
        };
        let (token, claims) = access_of(gate, new).await;
        if self.is_revoked {
            let grants = gate.gateway.shared().logins.grants().unwrap();
            grants.revoke(vec![Token::Access(claims)], SystemTime::now()).await.unwrap();
        }
        (token, identity.clone())
    }
}

fn any_config(url: String) -> impl Strategy<Value = Value> {
    let callers = (TOKENS.map(any_token), TENANTS.map(any_token), USERS.map(|_| any_user()));
    let drawn = (callers, SERVERS.map(|_| any_rules()), any::<bool>(), any_oauth());
    drawn.prop_map(move |((tokens, tenants, users), rules, admin_sees_all, oauth)| {
        let tools = TOOLS.map(|name| json!({ "name": name, "command": "true" }));
        let server = |(name, mut server): (&str, Value)| {
            let tag = TAGS[usize::from(name.ends_with('1'))];
            match name.starts_with('h') {
                true => {
                    server["url"] = json!(url);
                    server["tags"] = json!([tag]);
                }
                false => {
                    server["inline"] = json!({ "tools": tools });
                    server["tags"] = json!(["inline", tag]);
                }
            }
            (name.to_owned(), server)
        };
        let named = |names: &[&str], entries: &[Value]| {
            names.iter().copied().map(str::to_owned).zip(entries.iter().cloned()).collect::<Map<_, _>>()
        };
        let mut config = json!({
            "proxy": {
                "baseUrl": BASE,
                "auth": {
                    "kind": "oauth",
                    "schemes": ["bearer", "apikey", "x-api-key"],
                    "adminSeesAll": admin_sees_all,
                    "tokens": named(&TOKENS, &tokens),
                    "tenants": { "header": "X-Customer", "tokens": named(&TENANTS, &tenants) },
                    "users": named(&USERS, &users),
                },
                "debug": true,
            },
            "mcpServers": SERVERS.into_iter().zip(rules).map(server).collect::<serde_json::Map<_, _>>(),
        });
        for (key, value) in oauth.as_object().unwrap() {
            config["proxy"]["auth"][key] = value.clone();
        }
        config
    })
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Allowed,
    Hidden,
    Refused(u16),
}

fn outcome(decision: Decision) -> Outcome {
    match decision {
        Decision::Allow { .. } => Outcome::Allowed,
        Decision::Deny { kind: DenyKind::Hidden, .. } => Outcome::Hidden,
        Decision::Deny { kind, .. } => Outcome::Refused(ErrorKind::from(kind).status().as_u16()),
    }
}

/// A gateway, and one caller of it.
struct Asking<'a> {
    gate: &'a Gate,
    /// The field by which the caller says who it is, if it does.
    credential: String,
    /// How often it was seen to do what is decided.
    cases: Cell<usize>,
}

impl Asking<'_> {
    async fn ask(&self, request: String) -> (u16, String) {
        let request = request.replacen("Authorization: Bearer \r\n", &self.credential, 1);
        let (status, _, body) = self.gate.ask(&request).await;
        self.cases.set(self.cases.get() + 1);
        (status, body)
    }

    /// What becomes of a call to a server that is reached byte for byte, which answers all that it gets with `{}`.
    async fn call(&self, server: &str, tool: &str) -> Outcome {
        let call = call(1, tool, json!({}));
        match self.ask(post(&format!("/{server}/mcp"), "", "", &call)).await {
            (200, body) if body == "{}" => Outcome::Allowed,
            (200, body) if body.contains("Unknown tool") => Outcome::Hidden,
            (200, body) => panic!("neither the server's answer nor a refusal: {body}"),
            (status, _) => Outcome::Refused(status),
        }
    }

    /// What becomes of a call to a tool that runs `true`.
    async fn call_modern(&self, path: &str, tool: &str) -> Outcome {
        match self.ask(modern_call(path, "", 1, tool, json!({}))).await {
            (_, body) if body.contains("Unknown tool") => Outcome::Hidden,
            (200, body) if body.contains("\"result\"") => Outcome::Allowed,
            (200, body) => panic!("neither the result nor a refusal: {body}"),
            (status, _) => Outcome::Refused(status),
        }
    }

    /// The tools that are listed here, or the status of the refusal.
    async fn listed(&self, path: &str) -> Result<Vec<String>, u16> {
        match self.ask(modern(path, "", 1, "tools/list", json!({}))).await {
            (200, body) => Ok(names(&serde_json::from_str(&body).unwrap())),
            (status, _) => Err(status),
        }
    }

    /// What becomes of a request for what the gateway itself serves, or for the stream of the aggregate, for which there has
    /// to be a session.
    async fn get(&self, path: &str) -> Outcome {
        match self.ask(get(path, "", "")).await {
            (200 | 405, _) => Outcome::Allowed,
            (status, _) => Outcome::Refused(status),
        }
    }
}

/// A tool at a place of its own, or of one of all servers.
fn of_tool<'a>(is_alone: bool, server: &'a str, name: &'a str) -> Ask<'a> {
    match is_alone {
        true => Ask::Tool { server, name },
        false => Ask::MemberTool { server, name },
    }
}

/// Asks the gateway for everything, and the decision too.
async fn compare(asking: &Asking<'_>, policy: &Policy<'_>, identity: &Identity, why: &str) {
    let decided = |ask: Ask<'_>| outcome(decide(policy, identity, &ask));
    let shown = |is_alone: bool, server| {
        // A tool that says what it requires is listed.
        let shown = [Outcome::Allowed, Outcome::Refused(403)];
        let is_shown = |name: &&str| shown.contains(&decided(of_tool(is_alone, server, name)));
        // Where the server itself is closed, none is.
        let of_server = if is_alone { Ask::Server(server) } else { Ask::Member(server) };
        let is_open = decided(of_server) == Outcome::Allowed;
        TOOLS.into_iter().filter(|name| is_open && is_shown(name)).collect::<Vec<_>>()
    };
    for server in ["h0", "h1"] {
        for name in TOOLS {
            let ask = Ask::Tool { server, name };
            assert_eq!(asking.call(server, name).await, decided(ask), "{ask:?} {identity:?} {why}");
        }
    }
    for server in ["i0", "i1"] {
        // Message by message, what becomes of a call is the same, alone and as a part of the aggregate.
        for name in TOOLS {
            let ask = Ask::Tool { server, name };
            let alone = asking.call_modern(&format!("/{server}/mcp"), name).await;
            assert_eq!(alone, decided(ask), "{ask:?} {identity:?} {why}");
            // A name that is unknown in the aggregate is looked for a second time after a while. That it is on no list is seen below.
            let is_member = decided(Ask::Aggregate) == Outcome::Allowed
                && decided(Ask::Member(server)) == Outcome::Allowed;
            let ask = of_tool(false, server, name);
            if is_member && decided(ask) != Outcome::Hidden {
                let in_all = asking.call_modern("/mcp", &format!("{server}__{name}")).await;
                assert_eq!(in_all, decided(ask), "{ask:?} in the aggregate, {identity:?} {why}");
            }
        }
        let wanted = match decided(Ask::Server(server)) {
            Outcome::Refused(status) => Err(status),
            _ => Ok(shown(true, server).into_iter().map(str::to_owned).collect()),
        };
        let listed = asking.listed(&format!("/{server}/mcp")).await;
        assert_eq!(listed, wanted, "{server} {identity:?} {why}");
    }
    // The aggregate lists of each member what it lists by itself, and nothing of those that are closed.
    let wanted = match decided(Ask::Aggregate) {
        Outcome::Refused(status) => Err(status),
        _ => {
            let of_member =
                |server| shown(false, server).into_iter().map(move |tool| format!("{server}__{tool}"));
            Ok(["i0", "i1"].into_iter().flat_map(of_member).collect())
        }
    };
    assert_eq!(asking.listed("/mcp?tags=inline").await, wanted, "the aggregate {identity:?} {why}");
    let places = [
        ("/mcp", Ask::Aggregate),
        ("/metrics", Ask::Manage(ManageAsk::Metrics)),
        ("/servers", Ask::Manage(ManageAsk::Servers)),
        ("/debug/ledger", Ask::Manage(ManageAsk::Debug)),
        ("/none", Ask::Server("none")),
    ];
    for (path, ask) in places {
        assert_eq!(asking.get(path).await, decided(ask), "{path} {identity:?} {why}");
    }
}

/// The fields by which a token can be presented.
fn ways(token: &str) -> [String; 3] {
    ["Authorization: Bearer", "Authorization: ApiKey", "X-API-Key:"].map(|way| format!("{way} {token}\r\n"))
}

/// Every credential of tokens and tenants, users who logged in, clients that somebody allowed something, nobody, and a token that is
/// none, at every server, tool, list and page of configs that nobody chose.
#[tokio::test]
async fn the_gateway_does_what_is_decided_whatever_the_config() {
    let server = Recorder::start().await;
    let mut runner = TestRunner::default();
    let configs = any_config(server.url("/mcp"));
    let accesses = vec(any_access(), 4);
    let mut next = || {
        let config = configs.new_tree(&mut runner).unwrap().current();
        (config, accesses.new_tree(&mut runner).unwrap().current())
    };
    let mut gate = Gate::start_pausing(next().0, Duration::from_secs(60)).await;
    let path = gate.dir.path().join("sluicegate.json");
    let wanted = from_env("SLUICEGATE_CASES", CASES);
    let (mut cases, mut allowed, mut explained, mut of_clients) = (0, 0, [0, 0], [0, 0]);
    for round in 0.. {
        if cases >= wanted {
            break;
        }
        let users = USERS.map(|user| format!("{user}-{round}"));
        let renamed = |text: String| {
            let pairs = USERS.iter().zip(&users);
            pairs
                .fold(text, |text, (user, name)| text.replace(&format!("\"{user}\""), &format!("\"{name}\"")))
        };
        let (drawn, accesses) = next();
        let why = renamed(drawn.to_string());
        let config: Value = serde_json::from_str(&why).unwrap();
        // Whoever is disabled has logged in before.
        let mut before = config.clone();
        let mut logins = Vec::new();
        for user in &users {
            before["proxy"]["auth"]["users"][user]["disabled"] = json!(false);
        }
        gate.reload(before);
        let mut client = gate.client().await;
        for user in &users {
            logins.push(log_in(&mut client, user).await.session);
        }
        gate.reload(config.clone());
        let snapshot = config::load(&path, &|_| None).snapshot.unwrap();
        let (now, admin_sees_all) = (Some(SystemTime::now()), snapshot.admin_sees_all);
        let policy = Policy { servers: &snapshot, now, admin_sees_all };

        let mut callers = Vec::new();
        for (index, credential) in snapshot.credentials.iter().enumerate() {
            let is_alike = |other: &&Credential| {
                (&other.token_name, other.is_tenant) == (&credential.token_name, credential.is_tenant)
            };
            let of_name = snapshot.credentials[..index].iter().filter(is_alike).count();
            let token = secret(&credential.token_name, of_name);
            let field = match credential.is_tenant {
                true => format!("X-Customer: {token}\r\n"),
                false => ways(&token)[index % 3].clone(),
            };
            callers.push((field, Identity::of(credential)));
        }
        for (user, login) in snapshot.users.iter().zip(&logins) {
            callers.push((ways(login)[round % 3].clone(), Identity::of_user(user, Proof::Nothing)));
        }
        let unknown = ways("a-token-that-nobody-has-0123456789abcdef")[round % 3].clone();
        callers.extend([(String::new(), Identity::NOBODY), (unknown, Identity::NOBODY)]);
        // Clients for whoever may log in at the pages. Who lets them in no more gives them nothing.
        let tags = snapshot.oauth.as_ref().unwrap().scope_tags;
        for access in &accesses {
            let (token, of) = access.begin(&gate, &snapshot).await;
            let is_taken = !access.is_revoked && access.is_let_in(&config);
            let identity = match is_taken {
                true => Identity { allowed: Some(access.allowed(tags)), ..of },
                false => Identity::NOBODY,
            };
            let asking = Asking { gate: &gate, credential: ways(&token)[0].clone(), cases: Cell::default() };
            compare(&asking, &policy, &identity, &format!("{access:?} {why}")).await;
            cases += asking.cases.get();
            of_clients[usize::from(is_taken)] += asking.cases.get();
        }
        for (credential, identity) in &callers {
            let asking = Asking { gate: &gate, credential: credential.clone(), cases: Cell::default() };
            compare(&asking, &policy, identity, &why).await;
            cases += asking.cases.get();
        }

        // The command says the same: one question about each kind of caller.
        let (server, tool) = (SERVERS[round % 4], TOOLS[round / 4 % 2]);
        let mut questions = vec![
            (Principal::Token(TOKENS[round % 3].into()), None),
            (Principal::Tenant(TENANTS[round % 2].into()), None),
            (Principal::User(users[round % 2].as_str().into()), None),
            (Principal::Nobody, None),
        ];
        for (number, access) in accesses.iter().enumerate() {
            questions.push((questions[number % 2 * 2].0.clone(), Some(access)));
        }
        for (principal, access) in questions {
            let ask = Ask::Tool { server, name: tool };
            let of_it = callers.iter().filter(|(_, identity)| identity.principal == principal);
            let allowed_to = access.map(|access| access.allowed(tags));
            let may = of_it
                .map(|(_, identity)| Identity { allowed: allowed_to.clone(), ..identity.clone() })
                .any(|identity| decide(&policy, &identity, &ask).is_allow());
            let mut explain = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
            explain.args(["explain", "--as", &principal.to_string(), "--server", server, "--tool", tool]);
            if let Some(access) = access {
                explain.args(["--scope", &access.scope, "--resource", &access.resource()]);
            }
            let output = explain.arg("-c").arg(&path).output().unwrap();
            let code = output.status.code();
            assert_eq!(code, Some(i32::from(!may)), "{principal} {access:?} {ask:?} {output:?} {why}");
            explained[usize::from(may)] += 1;
            allowed += usize::from(may && principal != Principal::Nobody);
        }
    }
    println!(
        "{cases} requests as decided, {} of them of clients, {} of clients that are let in no more; explained: {} yes, {} no",
        of_clients[1], of_clients[0], explained[1], explained[0]
    );
    assert!(of_clients.iter().all(|cases| *cases > 0), "all clients were alike: {of_clients:?}");
    assert!(allowed > 0 && explained[0] > 0, "all configs were alike: {explained:?}");
}
