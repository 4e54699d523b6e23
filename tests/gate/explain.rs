//! What `sluicegate explain` says is what the gateway does, whatever the config.

use std::{
    cell::Cell,
    process::Command,
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
    config::{self, Credential},
    error::ErrorKind,
    identity::{Identity, Principal, Proof},
    policy::decide::{Ask, Decision, DenyKind, ManageAsk, Policy, decide},
};

use crate::{
    harness::{Gate, get, post},
    mcp::{call, modern, modern_call, names},
    numbered::from_env,
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
    let tool = (pattern, may, any_users(), any::<bool>());
    (access, filter, vec(tool, 0..=2)).prop_map(|(access, filter, tools)| {
        let mut rules = json!({});
        match access {
            None => rules["public"] = json!(true),
            Some(((names, users), roles)) => {
                for (pattern, roles, users, hide) in tools {
                    rules["tools"][pattern] = json!({ "hide": hide });
                    roles.iter().for_each(|roles| rules["tools"][pattern]["roles"] = json!(roles));
                    users.iter().for_each(|users| rules["tools"][pattern]["users"] = json!(users));
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

fn any_config(url: String) -> impl Strategy<Value = Value> {
    let callers = (TOKENS.map(any_token), TENANTS.map(any_token), USERS.map(|_| any_user()));
    let drawn = (callers, SERVERS.map(|_| any_rules()), any::<bool>());
    drawn.prop_map(move |((tokens, tenants, users), rules, admin_sees_all)| {
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
        json!({
            "proxy": {
                "auth": {
                    "schemes": ["bearer", "apikey", "x-api-key"],
                    "adminSeesAll": admin_sees_all,
                    "tokens": named(&TOKENS, &tokens),
                    "tenants": { "header": "X-Customer", "tokens": named(&TENANTS, &tenants) },
                    "users": named(&USERS, &users),
                },
                "debug": true,
            },
            "mcpServers": SERVERS.into_iter().zip(rules).map(server).collect::<serde_json::Map<_, _>>(),
        })
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

/// Asks the gateway for everything, and the decision too.
async fn compare(asking: &Asking<'_>, policy: &Policy<'_>, identity: &Identity, why: &str) {
    let decided = |ask: Ask<'_>| outcome(decide(policy, identity, &ask));
    let shown = |server| {
        // A tool that says what it requires is listed.
        let shown = [Outcome::Allowed, Outcome::Refused(403)];
        let is_shown = |name: &&str| shown.contains(&decided(Ask::Tool { server, name }));
        // Where the server itself is closed, none is.
        let is_open = decided(Ask::Server(server)) == Outcome::Allowed;
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
                && decided(Ask::Server(server)) == Outcome::Allowed;
            if is_member && decided(ask) != Outcome::Hidden {
                let in_all = asking.call_modern("/mcp", &format!("{server}__{name}")).await;
                assert_eq!(in_all, decided(ask), "{ask:?} in the aggregate, {identity:?} {why}");
            }
        }
        let wanted = match decided(Ask::Server(server)) {
            Outcome::Refused(status) => Err(status),
            _ => Ok(shown(server).into_iter().map(str::to_owned).collect()),
        };
        let listed = asking.listed(&format!("/{server}/mcp")).await;
        assert_eq!(listed, wanted, "{server} {identity:?} {why}");
    }
    // The aggregate lists of each member what it lists by itself, and nothing of those that are closed.
    let wanted = match decided(Ask::Aggregate) {
        Outcome::Refused(status) => Err(status),
        _ => {
            let of_member = |server| shown(server).into_iter().map(move |tool| format!("{server}__{tool}"));
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

/// Every credential of tokens and tenants, users who logged in, nobody, and a token that is none, at every server, tool, list
/// and page of configs that nobody chose.
#[tokio::test]
async fn the_gateway_does_what_is_decided_whatever_the_config() {
    let server = Recorder::start().await;
    let mut runner = TestRunner::default();
    let configs = any_config(server.url("/mcp"));
    let mut next = || configs.new_tree(&mut runner).unwrap().current();
    let mut gate = Gate::start_pausing(next(), Duration::from_secs(60)).await;
    let path = gate.dir.path().join("sluicegate.json");
    let wanted = from_env("SLUICEGATE_CASES", CASES);
    let (mut cases, mut allowed, mut explained) = (0, 0, [0, 0]);
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
        let why = renamed(next().to_string());
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
        gate.reload(config);
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
        for (credential, identity) in &callers {
            let asking = Asking { gate: &gate, credential: credential.clone(), cases: Cell::default() };
            compare(&asking, &policy, identity, &why).await;
            cases += asking.cases.get();
        }

        // The command says the same: one question about each kind of caller.
        let (server, tool) = (SERVERS[round % 4], TOOLS[round / 4 % 2]);
        for principal in [
            Principal::Token(TOKENS[round % 3].into()),
            Principal::Tenant(TENANTS[round % 2].into()),
            Principal::User(users[round % 2].as_str().into()),
            Principal::Nobody,
        ] {
            let ask = Ask::Tool { server, name: tool };
            let of_it = callers.iter().filter(|(_, identity)| identity.principal == principal);
            let may = of_it
                .map(|(_, identity)| decide(&policy, identity, &ask))
                .any(|decision| decision.is_allow());
            let mut explain = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
            explain.args([
                "explain",
                "--as",
                &principal.to_string(),
                "--server",
                server,
                "--tool",
                tool,
                "-c",
            ]);
            let output = explain.arg(&path).output().unwrap();
            assert_eq!(output.status.code(), Some(i32::from(!may)), "{principal} {ask:?} {output:?} {why}");
            explained[usize::from(may)] += 1;
            allowed += usize::from(may && principal != Principal::Nobody);
        }
    }
    println!("{cases} requests as decided; explained: {} yes, {} no", explained[1], explained[0]);
    assert!(allowed > 0 && explained[0] > 0, "all configs were alike: {explained:?}");
}
