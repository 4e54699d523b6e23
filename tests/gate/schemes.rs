//! In which ways a request may present its token. Whatever way it is, it ends at the gateway.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Version};
use http_body_util::{BodyExt as _, Empty};
use serde_json::{Value, json};

use crate::{
    harness::{Client, DEV, Gate, Upstream, field, fields, get, post, with_defaults},
    mcp::{modern_call, text},
    recorder::Recorder,
    tls::{Identity, http2},
};

/// Another token, which is to be seen nowhere either.
const OTHER: &str = "other-token-0123456789abcdef";

fn basic(name: &str, secret: &str) -> String {
    STANDARD.encode(format!("{name}:{secret}"))
}

fn config(server: &Recorder, schemes: &[&str]) -> Value {
    json!({
        "proxy": { "auth": { "schemes": schemes, "queryToken": schemes.len() > 1, "tokens": { "dev": DEV, "other": OTHER } } },
        "mcpServers": {
            "db": { "url": server.url("/mcp"), "authTokens": ["dev"], "cookies": true },
            "open": { "url": server.url("/mcp"), "public": true, "cookies": true },
        },
    })
}

const ALL: &[&str] = &["bearer", "basic", "apikey", "x-api-key", "cookie"];

/// Ways to present the token: a word, the field, the query.
fn ways(name: &str, token: &str) -> Vec<(&'static str, String, String)> {
    vec![
        ("bearer", format!("Authorization: bearer {token}\r\n"), String::new()),
        ("apikey", format!("Authorization: ApiKey {token}\r\n"), String::new()),
        ("basic", format!("Authorization: Basic {}\r\n", basic(name, token)), String::new()),
        ("x-api-key", format!("X-API-Key: {token}\r\n"), String::new()),
        ("cookie", format!("Cookie: a=1; token={token}; b=2\r\n"), String::new()),
        ("query", String::new(), format!("?token={token}&kept=1")),
    ]
}

fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

fn is_free_of(text: &str, secrets: &[String], what: &str) {
    for secret in secrets {
        assert!(!text.contains(&**secret), "{what}: {secret} in {text}");
    }
}

#[tokio::test]
async fn a_token_opens_in_each_way_that_is_on_and_the_server_sees_none() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server, ALL)).await;
    let secrets = [DEV.to_owned(), basic("dev", DEV)];
    for (way, credential, query) in ways("dev", DEV) {
        for server_name in ["db", "open"] {
            // What repeats it stays here too, in whatever form it was presented.
            let repeated = format!("X-Kept: 1\r\nX-Custom: {DEV}\r\nX-Form: {}\r\n", basic("dev", DEV));
            let repeated = if way == "basic" { repeated } else { repeated.replace("X-Form: ", "X-None: ") };
            let path = format!("/{server_name}/mcp{query}");
            let (status, _, body) = gate.ask(&request(&path, &format!("{credential}{repeated}"))).await;
            assert_eq!(status, 200, "{way} {body}");
            let seen = server.only();
            let secrets = if way == "basic" { &secrets[..] } else { &secrets[..1] };
            is_free_of(&seen, secrets, way);
            assert!(seen.contains("x-kept: 1\r\n") && !seen.contains("x-custom"), "{seen}");
            assert!(!seen.contains("authorization") && !seen.contains("x-api-key"), "{seen}");
            assert_eq!(field(&seen, "cookie"), (way == "cookie").then_some("a=1; b=2"), "{seen}");
            assert_eq!(seen.starts_with("GET /mcp?kept=1 "), way == "query", "{seen}");
            server.forget();
        }
        gate.log.line("Authenticated request", &[("token_name", json!("dev"))]).await;
    }
    is_free_of(&gate.log.text(), &secrets, "log");
    is_free_of(&gate.metrics(), &secrets, "metrics");
}

#[tokio::test]
async fn a_cookie_opens_nothing_for_pages_of_other_ports() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server, ALL)).await;
    let with = |fields: &str| request("/db/mcp", &format!("Cookie: token={DEV}\r\n{fields}"));
    // Pages of loopback may call here, and to a browser another port is the same site.
    let (status, _, body) = gate.ask(&with("Origin: http://localhost:3000\r\n")).await;
    assert_eq!((status, body.contains("\"unauthorized\"")), (401, true), "{body}");
    server.saw_nothing("the page is not the gateway's").await;
    for fields in ["", "Origin: http://localhost\r\n"] {
        assert_eq!(gate.ask(&with(fields)).await.0, 200, "{fields}");
    }
    let bearer = format!("Authorization: Bearer {DEV}\r\nOrigin: http://localhost:3000\r\n");
    assert_eq!(gate.ask(&request("/db/mcp", &bearer)).await.0, 200, "what a page adds by itself");
}

#[tokio::test]
async fn what_is_off_opens_nothing_and_goes_to_no_server() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server, &["bearer"])).await;
    for (way, credential, query) in ways("dev", DEV).into_iter().skip(1) {
        let (status, head, body) = gate.ask(&request(&format!("/db/mcp{query}"), &credential)).await;
        assert_eq!(status, 401, "{way} {body}");
        assert_eq!(fields(&head, "www-authenticate").count(), 1, "{head}");
        let error = serde_json::from_str::<Value>(&body).unwrap()["error"].clone();
        let wanted = match way {
            "query" => "query_token_disabled",
            "x-api-key" | "cookie" => "unauthorized",
            _ => "invalid_token",
        };
        assert_eq!(error, wanted, "{way}");
    }
    server.saw_nothing("none of them opens").await;
    // It means nothing beside what is on.
    let beside = format!("X-API-Key: {OTHER}\r\nX-API-Key: x\r\nCookie: token={OTHER}; token=x; a=1\r\n");
    for path in ["/db/mcp", "/open/mcp"] {
        assert_eq!(gate.ask(&get(path, DEV, &beside)).await.0, 200);
        let seen = server.only();
        is_free_of(&seen, &[OTHER.to_owned(), DEV.to_owned()], path);
        assert_eq!(field(&seen, "cookie"), Some("a=1"), "{seen}");
        server.forget();
    }
}

#[tokio::test]
async fn one_credential_is_presented_in_one_place() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server, ALL)).await;
    for (one, first, query) in ways("dev", DEV) {
        for (other, second, other_query) in ways("dev", DEV) {
            let query = match (&*query, &*other_query) {
                ("", query) | (query, "") => query.to_owned(),
                (query, _) => format!("{query}&token={DEV}"),
            };
            let (status, head, body) =
                gate.ask(&request(&format!("/db/mcp{query}"), &format!("{first}{second}"))).await;
            assert_eq!(status, 401, "{one} and {other}: {body}");
            assert!(body.contains("\"invalid_token\""), "{body}");
            assert!(field(&head, "www-authenticate").unwrap().starts_with("Bearer "), "{head}");
        }
    }
    server.saw_nothing("which of two counts is not for the gateway to choose").await;
}

#[tokio::test]
async fn what_a_server_could_take_for_a_credential_stays_here_however_it_is_spelled() {
    let server = Recorder::start().await;
    for schemes in [ALL, &["bearer"][..]] {
        let mut config = config(&server, schemes);
        config["proxy"]["auth"]["tenants"] =
            json!({ "header": "X-Team-Key", "tokens": { "acme": "acme-token-0123456789abcdef" } });
        let gate = Gate::start(config).await;
        let reaches = async |query: &str, fields: &str| {
            for path in ["/db/mcp", "/open/mcp"] {
                let (status, _, body) = gate.ask(&get(&format!("{path}?{query}"), DEV, fields)).await;
                assert_eq!(status, 200, "{query} {fields} {body}");
                let seen = server.only();
                is_free_of(&seen, &[OTHER.to_owned(), DEV.to_owned()], path);
                assert!(seen.starts_with("GET /mcp?kept=1 ") && seen.contains("x-kept: 1\r\n"), "{seen}");
                assert_eq!(field(&seen, "cookie"), Some("kept=1"), "{seen}");
                server.forget();
            }
        };
        for name in [
            "%74oken",
            "TOKEN",
            "tok%45n",
            "%2574oken",
            "+token",
            "token+",
            "token%20",
            "token[]",
            "token%5B%5D",
            "token[x]",
            "token.x",
            "%u0074oken",
            "token%00",
        ] {
            for query in [
                format!("kept=1&{name}={OTHER}"),
                format!("{name}={OTHER}&kept=1"),
                format!("kept=1;{name}={OTHER}"),
            ] {
                reaches(&query, "Cookie: kept=1\r\nX-Kept: 1\r\n").await;
            }
        }
        for name in ["Token", "%74oken", "%2574oken", "token[x]", "\"token\"", "sg-x", "%73g-x"] {
            for cookies in [format!("kept=1; {name}={OTHER}"), format!("{name}={OTHER}; kept=1")] {
                reaches("kept=1", &format!("Cookie: {cookies}\r\nX-Kept: 1\r\n")).await;
            }
        }
        for name in [
            "X_API_KEY",
            "X.Api-Key",
            "X_Team_Key",
            "X-Team_Key",
            "X.Team.Key",
            "Proxy-Authorization",
            "HTTP-Authorization",
        ] {
            let twice = format!("{name}: {OTHER}\r\n{name}: x{OTHER}\r\n");
            reaches("kept=1", &format!("{twice}Cookie: kept=1\r\nX-Kept: 1\r\n")).await;
        }
        // Nor does one open.
        for (query, fields) in [
            (format!("?%74oken={DEV}"), String::new()),
            (format!("?TOKEN={DEV}"), String::new()),
            (format!("?a=1;token={DEV}"), String::new()),
            (String::new(), format!("Cookie: %74oken={DEV}\r\n")),
            (String::new(), format!("X_API_KEY: {DEV}\r\n")),
            (String::new(), "X_Team_Key: acme-token-0123456789abcdef\r\n".to_owned()),
        ] {
            let (status, _, body) = gate.ask(&request(&format!("/db/mcp{query}"), &fields)).await;
            assert_eq!((status, body.contains("\"unauthorized\"")), (401, true), "{query} {fields} {body}");
        }
        server.saw_nothing("each has one spelling").await;
    }
}

#[tokio::test]
async fn a_failed_basic_is_told_of_basic_and_nobody_else_is() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server, ALL)).await;
    let challenges = async |fields_of: &str| {
        let (status, head, _) = gate.ask(&request("/db/mcp", fields_of)).await;
        let challenges: Vec<_> = fields(&head, "www-authenticate").map(str::to_owned).collect();
        (status, challenges)
    };
    let bearer = "Bearer realm=\"test gate\"".to_owned();
    let invalid = format!("{bearer}, error=\"invalid_token\"");
    let both = vec![invalid.clone(), "Basic realm=\"test gate\", charset=\"UTF-8\"".to_owned()];
    for (name, secret) in
        [("dev", "wrong"), ("dev", OTHER), ("other", DEV), ("Dev", DEV), ("", DEV), ("nobody", "")]
    {
        let tried = format!("Authorization: bAsic {}\r\n", basic(name, secret));
        assert_eq!(challenges(&tried).await, (401, both.clone()), "{name}");
    }
    assert_eq!(challenges("Authorization: Basic no-base64\r\n").await, (401, both.clone()));
    assert_eq!(challenges("").await, (401, vec![bearer]));
    assert_eq!(challenges("Authorization: Bearer wrong\r\n").await, (401, vec![invalid.clone()]));
    assert_eq!(challenges("X-API-Key: wrong\r\n").await, (401, vec![invalid]));
    // Who may not use the server all the same has presented the right thing.
    let forbidden = format!("Authorization: Basic {}\r\n", basic("other", OTHER));
    let (status, found) = challenges(&forbidden).await;
    assert_eq!((status, &*found[0]), (403, "Bearer error=\"insufficient_scope\""));
    assert_eq!(found.len(), 1, "{found:?}");
    server.saw_nothing("none of them opens").await;
}

#[tokio::test]
async fn a_scheme_that_a_reload_takes_out_opens_no_more_even_if_the_rest_is_refused() {
    let server = Recorder::start().await;
    let mut gate = Gate::start(config(&server, ALL)).await;
    let key = request("/db/mcp", &format!("X-API-Key: {DEV}\r\n"));
    assert_eq!(gate.ask(&key).await.0, 200);
    gate.reload(config(&server, &["bearer", "x-api-key", "cookie"]));
    assert_eq!(gate.ask(&key).await.0, 200);
    assert_eq!(gate.ask(&request("/db/mcp", &format!("Authorization: ApiKey {DEV}\r\n"))).await.0, 401);
    let mut refused = with_defaults(config(&server, &["bearer", "cookie", "basic"]));
    refused["proxy"]["unheardOf"] = json!(1);
    let path = gate.dir.path().join("refused.json");
    std::fs::write(&path, refused.to_string()).unwrap();
    let remaining = sluicegate::config::load(&path, &|_| None).remaining.unwrap();
    assert!(gate.gateway.restrict(&remaining).unwrap().is_some());
    assert_eq!(gate.ask(&key).await.0, 401);
    assert_eq!(gate.ask(&request("/db/mcp", &format!("Cookie: token={DEV}\r\n"))).await.0, 200);
    let basic = format!("Authorization: Basic {}\r\n", basic("dev", DEV));
    assert_eq!(gate.ask(&request("/db/mcp", &basic)).await.0, 401, "what is refused adds nothing");
}

#[tokio::test]
async fn over_http2_each_way_opens_and_stays_here() {
    let identity = Identity::new();
    let server = Recorder::start().await;
    let mut config = config(&server, ALL);
    config["proxy"]["tls"] = identity.config();
    let gate = Gate::start(config).await;
    let mut client = http2(&gate, &identity).await;
    for (way, credential, query) in ways("dev", DEV) {
        let uri = format!("https://localhost/db/mcp{query}");
        let mut request = Request::get(uri).version(Version::HTTP_2).header("x-kept", "1");
        for line in credential.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            // A client may send each cookie in a field of its own (RFC 9113 §8.2.3).
            for value in value.split("; ") {
                request = request.header(name, value);
            }
        }
        let answer = client.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{way}");
        answer.into_body().collect().await.unwrap();
        let seen = server.only();
        is_free_of(&seen, &[DEV.to_owned(), basic("dev", DEV)], way);
        assert_eq!(field(&seen, "cookie"), (way == "cookie").then_some("a=1; b=2"), "{seen}");
        server.forget();
    }
}

#[tokio::test]
async fn on_the_message_path_a_token_opens_in_each_way_and_stays_here() {
    let server = Upstream::bind().await;
    let gate = Gate::start(json!({
        "proxy": { "auth": { "schemes": ALL, "queryToken": true, "tokens": { "dev": DEV } } },
        "mcpServers": {
            "echo": { "inline": { "tools": [{ "name": "env", "command": "env" }] } },
            "old": { "url": server.url("/sse"), "transportType": "sse" },
        },
    }))
    .await;
    for (way, credential, query) in ways("dev", DEV) {
        // The trace goes on, but not with a token in it.
        let trace = format!(
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: x={DEV}\r\n"
        );
        for (path, tool) in [("/echo/mcp", "env"), ("/mcp", "echo__env")] {
            let call = modern_call(&format!("{path}{query}"), DEV, 1, tool, json!({}));
            let call =
                call.replace(&format!("Authorization: Bearer {DEV}\r\n"), &format!("{credential}{trace}"));
            let (status, _, body) = gate.ask(&call).await;
            assert_eq!(status, 200, "{way} {body}");
            let env = text(&serde_json::from_str(&body).unwrap()).to_owned();
            assert!(!env.is_empty());
            is_free_of(&env, &[DEV.to_owned()], way);
        }
        let mut client = gate.client().await;
        let call = modern_call(&format!("/old/mcp{query}"), DEV, 1, "x", json!({}));
        let call = call.replace(&format!("Authorization: Bearer {DEV}\r\n"), &format!("{credential}{trace}"));
        client.send(call).await;
        let head = server.accept().await.head().await;
        is_free_of(&head, &[DEV.to_owned(), basic("dev", DEV)], way);
    }
    is_free_of(&gate.log.text(), &[DEV.to_owned(), basic("dev", DEV)], "log");
}

#[tokio::test]
async fn what_a_request_presents_is_in_no_log_wherever_it_repeats_it() {
    let server = Recorder::start().await;
    let gate = Gate::start(config(&server, ALL)).await;
    let secrets = [DEV.to_owned(), basic("dev", DEV), OTHER.to_owned(), basic("dev", OTHER)];
    for token in [DEV, OTHER] {
        let encoded = basic("dev", token);
        for (way, credential, query) in ways("dev", token) {
            for form in [token, &encoded] {
                // What of it is the presented one in no form is a word of the client's own.
                if way != "basic" && form != token {
                    continue;
                }
                let repeated = format!("{credential}Mcp-Method: tools/call\r\nMcp-Name: {form}\r\n");
                let body =
                    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": form } });
                let path = format!("/db/mcp{query}");
                let call =
                    post(&path, "-", &repeated, &body.to_string()).replace("Authorization: Bearer -\r\n", "");
                gate.ask(&call).await;
                gate.ask(&request(&format!("/{form}{query}"), &credential)).await;
                let foreign = request(&path, &credential).replace("localhost", &format!("{form}.example"));
                gate.ask(&foreign).await;
            }
        }
    }
    gate.ask(&get("/mcp/sse", DEV, "")).await;
    gate.log.line("Refused request", &[("path", json!("/mcp/sse"))]).await;
    is_free_of(&gate.log.text(), &secrets, "log");
    is_free_of(&gate.metrics(), &secrets, "metrics");
}

#[tokio::test]
async fn a_page_may_send_the_field_of_a_scheme_that_is_on() {
    let server = Recorder::start().await;
    for (schemes, is_granted) in [(ALL, true), (&["bearer"][..], false)] {
        let mut config = config(&server, schemes);
        config["proxy"]["allowedOrigins"] = json!(["https://app.example"]);
        let gate = Gate::start(config).await;
        let mut client: Client<_> = gate.client().await;
        client
            .send(
                "OPTIONS /db/mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\
                 Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-api-key\r\n\r\n",
            )
            .await;
        let head = client.head().await;
        let allowed = field(&head, "access-control-allow-headers").unwrap().to_ascii_lowercase();
        assert_eq!(allowed.split(", ").any(|name| name == "x-api-key"), is_granted, "{allowed}");
        assert_eq!(field(&head, "access-control-allow-credentials"), None, "{head}");
    }
}
