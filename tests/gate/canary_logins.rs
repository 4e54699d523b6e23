//! What users and tenants present, and what logins give, is in no log, audit, metric, error or page of `/debug`, in whichever
//! field of whichever request it stands.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    harness::{CI, Gate, OPS, field, get, post, until},
    mcp::call,
    recorder::Recorder,
    users::{CHEAP_HASHES, PASSWORD, bare, log_in, login, refresh},
};

const TENANT: &str = "canary-tenant-0123456789abcdef";
/// Of nobody.
const WRONG: &str = "canary-wrong-0123456789abcdef";

fn config(server: &Recorder) -> Value {
    json!({
        "proxy": {
            "auth": {
                "schemes": ["bearer", "basic", "apikey", "x-api-key", "cookie"],
                "queryToken": true,
                "tokens": { "ci": CI, "ops": { "value": OPS, "roles": ["admin"] } },
                "users": { "alice": { "passwordHash": CHEAP_HASHES[0] }, "carol": { "passwordHash": CHEAP_HASHES[1], "disabled": true } },
                "tenants": { "header": "X-Customer", "tokens": { "acme": { "value": TENANT } } },
                "sessions": { "reuseGrace": "0s" },
            },
            "audit": { "file": "audit.log", "tools": true },
            "debug": true,
        },
        "mcpServers": {
            "db": { "url": server.url("/mcp") },
            "closed": { "url": server.url("/mcp"), "roles": ["nobody-has-it"] },
            "own": { "inline": { "tools": [{ "name": "nothing", "command": "true" }] } },
            "open": { "url": server.url("/mcp"), "public": true },
        },
    })
}

/// A head without credentials, and whatever fields.
fn request(method: &str, path: &str, fields: &str) -> String {
    get(path, "", fields).replacen("Authorization: Bearer \r\n", "", 1).replacen("GET", method, 1)
}

/// All forms in which a client sends a secret.
fn forms(secret: &str) -> Vec<String> {
    let basic = |name: &str| STANDARD.encode(format!("{name}:{secret}"));
    vec![secret.to_owned(), basic("alice"), basic("ci"), STANDARD.encode(secret)]
}

fn credentials(secret: &str) -> Vec<String> {
    let mut fields = vec![
        format!("Authorization: Bearer {secret}"),
        format!("Authorization: ApiKey {secret}"),
        format!("Authorization: {secret}"),
        format!("Authorization: Digest {secret}"),
        format!("X-API-Key: {secret}"),
        format!("Cookie: a=1; token={secret}; b=2"),
        format!("Cookie: token={secret}; token={secret}"),
        format!("X-Customer: {secret}"),
        format!("X-Tenant-Token: {secret}"),
        format!("X-Customer: {secret}\r\nX-API-Key: {secret}"),
        format!("Cookie: token={secret}\r\nOrigin: http://localhost"),
        format!("Cookie: token={secret}\r\nOrigin: https://evil.example"),
    ];
    fields.extend(forms(secret)[1..].iter().map(|basic| format!("Authorization: Basic {basic}")));
    fields
}

/// Bodies of the endpoints of logins that have a secret in each of their fields, well-formed or not.
fn bodies(secret: &str) -> Vec<String> {
    let mut bodies: Vec<String> = [
        json!({ "username": secret, "password": secret }),
        json!({ "username": "alice", "password": format!("{secret}x") }),
        json!({ "username": "carol", "password": secret }),
        json!({ "username": "nobody", "password": secret }),
        json!({ "userId": secret, "password": secret }),
        json!({ "userId": "alice", "token": secret }),
        json!({ "token": format!("{secret}x") }),
        json!({ "refreshToken": format!("{secret}x") }),
        json!({ "refreshToken": [secret] }),
        json!({ "password": secret }),
        json!([secret, secret]),
        json!({ secret: secret }),
    ]
    .map(|body| body.to_string())
    .to_vec();
    bodies.push(format!("{{\"username\": \"alice\", \"password\": \"{secret}"));
    bodies.push(format!("{{\"username\": \"alice\", \"password\": \"x\", \"password\": \"{secret}\"}}"));
    bodies.push(secret.to_owned());
    bodies
}

fn is_free_of(output: &str, secrets: &[String], what: &str) {
    for secret in secrets.iter().flat_map(|secret| forms(secret)) {
        assert!(!output.contains(&secret), "{what}: {secret} in {output}");
    }
}

#[tokio::test]
async fn nothing_that_a_login_takes_or_gives_is_told_by_the_gateway() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server)).await;
    let mut client = gate.client().await;
    let first = log_in(&mut client, "alice").await;
    let second = refresh(&mut client, &first.refresh).await;
    let ended = log_in(&mut client, "alice").await;
    assert_eq!(gate.ask(&bare("/auth/logout", &json!({ "token": ended.session }))).await.0, 204);
    // Of Atrax's form, and with the cookie that it gets.
    let (status, head, _) =
        gate.ask(&bare("/auth", &json!({ "userId": "alice", "password": PASSWORD }))).await;
    let cookie = field(&head, "set-cookie").unwrap().split(';').next().unwrap().replacen("token=", "", 1);
    assert_eq!(status, 200);
    let held: Vec<String> = [&second.session, &second.refresh, &cookie].map(Clone::clone).to_vec();
    let over = [first.session.clone(), first.refresh, ended.session, ended.refresh];
    let words = [PASSWORD, TENANT, WRONG, CI].map(str::to_owned);
    let hashes = CHEAP_HASHES.map(str::to_owned);
    let secrets: Vec<String> = held.iter().chain(&over).chain(&words).chain(&hashes).cloned().collect();

    let (mut asked, mut refused) = (0, 0);
    let mut ask = async |request: String| {
        let (status, head, body) = gate.ask(&request).await;
        asked += 1;
        if status >= 400 {
            refused += 1;
            is_free_of(&head, &secrets, &request);
            is_free_of(&body, &secrets, &request);
        }
        status
    };
    for secret in held.iter().chain(&over).chain(&words) {
        for fields in credentials(secret) {
            let fields = format!("{fields}\r\n");
            for path in
                ["/db/mcp", "/closed/mcp", "/none/mcp", "/open/mcp", "/mcp", "/servers", "/auth/other"]
            {
                ask(request("GET", path, &fields)).await;
            }
            ask(request("OPTIONS", "/db/mcp", &fields)).await;
            // A logout by a field ends a login, so not with the one that is looked for below.
            ask(request("POST", "/auth/login", &format!("{fields}Content-Length: 0\r\n"))).await;
        }
        for path in ["/db/mcp", "/auth/login", "/auth/refresh", "/auth/logout", "/auth", "/debug", "/metrics"]
        {
            for query in ["token", "password", "refreshToken"] {
                ask(request("GET", &format!("{path}?{query}={secret}"), "")).await;
            }
            ask(request("GET", &format!("{path}/{secret}"), "")).await;
            ask(request(
                "GET",
                path,
                &format!("Referer: http://localhost/?token={secret}\r\nUser-Agent: {secret}\r\n"),
            ))
            .await;
            ask(request("GET", path, &format!("X-Request-Id: {secret}\r\ntraceparent: {secret}\r\n"))).await;
        }
        for body in bodies(secret) {
            for path in ["/auth/login", "/auth/refresh", "/auth"] {
                let length = body.len();
                for kind in ["application/json", "text/plain"] {
                    let fields = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n");
                    ask(request("POST", path, &fields) + &body).await;
                }
            }
        }
    }
    // What a request presents is not logged as the name of a tool or as a host either.
    for secret in [&second.session, &cookie, &TENANT.to_owned()] {
        let presented = match *secret == TENANT {
            true => format!("X-Customer: {secret}\r\n"),
            false => format!("Authorization: Bearer {secret}\r\n"),
        };
        for path in ["/db/mcp", "/own/mcp", "/mcp", "/open/mcp"] {
            let fields = format!("Mcp-Method: tools/call\r\nMcp-Name: {secret}\r\n");
            let named = post(path, "", &fields, &call(1, secret, json!({})));
            ask(named.replacen("Authorization: Bearer \r\n", &presented, 1)).await;
        }
        ask(request("GET", "/db/mcp", &presented).replacen("localhost", &secret.to_lowercase(), 1)).await;
    }
    // Logins whose refresh token is used again, and whose name is tried too often.
    assert_eq!(ask(bare("/auth/refresh", &json!({ "refreshToken": over[1] }))).await, 401);
    for _ in 0..12 {
        ask(login("alice", WRONG)).await;
    }

    assert!(refused > 1_000, "{refused} of {asked}");
    until("every line of the log", || gate.log.all().len() >= refused).await;
    is_free_of(&gate.log.text(), &secrets, "log");
    is_free_of(&gate.metrics(), &secrets, "metrics");
    let audit = gate.dir.path().join("audit.log");
    until("the audit", || std::fs::read_to_string(&audit).is_ok_and(|text| text.lines().count() > 1_000))
        .await;
    is_free_of(&std::fs::read_to_string(&audit).unwrap(), &secrets, "audit");
    for page in ["", "/config", "/connections", "/sessions", "/processes", "/ledger", "/log"] {
        let (status, _, body) = gate.ask(&get(&format!("/debug{page}"), OPS, "")).await;
        assert_eq!(status, 200, "{page} {body}");
        is_free_of(&body, &secrets, page);
    }
    // The body of a request is the server's, whatever is in it.
    let heads = server
        .requests()
        .iter()
        .filter_map(|request| request.split("\r\n\r\n").next())
        .collect::<Vec<_>>()
        .concat();
    let known = [TENANT, CI].map(str::to_owned);
    is_free_of(&heads, &[&held[..], &known[..]].concat(), "server");
    assert!(!heads.is_empty());
}
