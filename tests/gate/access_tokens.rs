//! Access tokens of clients: what clients read before they log in, what a token opens, and what one that opens too little is told.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sluicegate::identity::{
    Principal,
    login::{access_token::AccessClaims, grant_id::GrantId, grants::Token},
};

use crate::{
    harness::{CI, DEV, Gate, field, get, post},
    mcp::{Session, SseSession, call, modern, modern_call, names, text},
    recorder::Recorder,
};

const BASE: &str = "http://localhost";
const PAGE: &str = "https://claude.ai";

async fn gate(server: &Recorder, auth: Value) -> Gate {
    let mut config = json!({
        "proxy": {
            "baseUrl": BASE,
            "auth": { "kind": "oauth", "tokens": { "dev": DEV, "ci": { "value": CI, "servers": ["files"] } } },
        },
        "mcpServers": {
            "db": { "url": server.url("/mcp"), "tags": ["web", "eu"], "tools": { "write_*": { "scopes": ["db:write"] } } },
            "files": { "url": server.url("/mcp"), "tags": ["web"] },
            "own": {
                "inline": { "tools": [{ "name": "read", "command": "true" }, { "name": "write", "command": "true" }] },
                "tags": ["eu"],
                "tools": { "write": { "scopes": ["own:write"] } },
            },
            "docs": { "url": server.url("/mcp"), "public": true },
        },
    });
    for (key, value) in auth.as_object().unwrap() {
        config["proxy"]["auth"][key] = value.clone();
    }
    Gate::start(config).await
}

/// A token by which a client acts for `token:dev`.
fn token(gate: &Gate, resource: &str, scope: &str) -> String {
    of(gate, "dev", resource, scope)
}

fn of(gate: &Gate, name: &str, resource: &str, scope: &str) -> String {
    let live = gate.gateway.shared().live().clone();
    let principal = Principal::Token(name.into());
    let slot = live.callers.iter().position(|entry| entry.identity.principal == principal).unwrap();
    let now = SystemTime::now();
    let claims = AccessClaims {
        vouched: None,
        fingerprint: live.fingerprint(slot).unwrap(),
        principal,
        grant: GrantId::new([7; 16]),
        client_id: "https://client.example/id".into(),
        resource: format!("{BASE}{resource}").into(),
        scope: scope.into(),
        issued: now,
        expires: now + Duration::from_secs(600),
        grant_ends: now + Duration::from_secs(6000),
    };
    gate.gateway.shared().logins.seal_access(&claims).unwrap().expose().to_owned()
}

fn plain(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}\r\n")
}

#[tokio::test]
async fn each_place_has_metadata_that_repeats_it_as_it_was_asked_for() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    for (asked, resource) in [
        ("", ""),
        ("/", ""),
        ("/db", "/db"),
        ("/db/", "/db/"),
        ("/db/mcp", "/db/mcp"),
        ("/db/mcp/", "/db/mcp/"),
        ("/db/sse?a=b", "/db/sse?a=b"),
        ("/mcp", "/mcp"),
        ("/mcp?servers=db,files&x=%20", "/mcp?servers=db,files&x=%20"),
        ("/sse", "/sse"),
        // Whether there is such a server, nobody learns.
        ("/none/mcp", "/none/mcp"),
        ("/docs/mcp", "/docs/mcp"),
    ] {
        let path = format!("/.well-known/oauth-protected-resource{asked}");
        let (status, head, body) = gate.ask(&plain("GET", &path, &format!("Origin: {PAGE}\r\n"))).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(field(&head, "access-control-allow-origin"), Some("*"), "{path}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let wanted = json!({
            "resource": format!("{BASE}{resource}"),
            "authorization_servers": [BASE],
            "scopes_supported": ["mcp"],
            "bearer_methods_supported": ["header"],
            "resource_name": "test gate",
        });
        assert_eq!(body, wanted, "{path}");
    }
    for asked in [
        "/health",
        "/servers",
        "/token",
        "/db/other",
        "/db/mcp/x",
        "/db.x/mcp",
        "/mcp?token=x",
        &format!("/mcp?{}", "x".repeat(513)),
        &format!("/{}/mcp", "n".repeat(65)),
    ] {
        let path = format!("/.well-known/oauth-protected-resource{asked}");
        assert_eq!(gate.ask(&plain("GET", &path, "")).await.0, 404, "{path}");
    }
    for path in ["oauth-authorization-server/db/mcp", "openid-configuration", "openid-configuration/db", "x"]
    {
        let (status, head, _) =
            gate.ask(&plain("GET", &format!("/.well-known/{path}"), &format!("Origin: {PAGE}\r\n"))).await;
        assert_eq!((status, field(&head, "access-control-allow-origin")), (404, Some("*")), "{path}");
    }
}

#[tokio::test]
async fn the_authorization_server_says_what_it_can() {
    let server = Recorder::start().await;
    let open = gate(&server, json!({ "advertiseTags": true })).await;
    let path = "/.well-known/oauth-authorization-server";
    let (status, _, body) = open.ask(&plain("GET", path, "")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    let at = |path: &str| format!("{BASE}{path}");
    for (key, wanted) in [
        ("issuer", json!(BASE)),
        ("authorization_endpoint", json!(at("/authorize"))),
        ("token_endpoint", json!(at("/token"))),
        ("registration_endpoint", json!(at("/register"))),
        ("revocation_endpoint", json!(at("/revoke"))),
        ("introspection_endpoint", json!(at("/oauth/introspect"))),
        ("code_challenge_methods_supported", json!(["S256"])),
        ("response_types_supported", json!(["code"])),
        (
            "token_endpoint_auth_methods_supported",
            json!(["none", "client_secret_basic", "client_secret_post"]),
        ),
        ("authorization_response_iss_parameter_supported", json!(true)),
        ("client_id_metadata_document_supported", json!(true)),
        ("scopes_supported", json!(["mcp", "offline_access", "tag:eu", "tag:web", "db:write", "own:write"])),
    ] {
        assert_eq!(body[key], wanted, "{key}");
    }
    let (_, _, body) = open.ask(&plain("GET", "/.well-known/oauth-protected-resource/mcp", "")).await;
    assert!(body.contains(r#"["mcp","tag:eu","tag:web"]"#), "{body}");

    let closed = json!({ "registration": "off", "advertiseTags": true, "scopeValidation": false });
    let (_, _, body) = gate(&server, closed).await.ask(&plain("GET", path, "")).await;
    assert!(!body.contains("registration_endpoint") && !body.contains("tag:"), "{body}");
    assert!(body.contains(r#""client_id_metadata_document_supported":false"#), "{body}");
}

#[tokio::test]
async fn whoever_lacks_a_token_is_told_where_to_get_one_for_the_place_that_was_asked_for() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    let of_place = |place: &str| {
        format!(r#"resource_metadata="{BASE}/.well-known/oauth-protected-resource{place}", scope="mcp""#)
    };
    for (asked, place) in [
        ("/db/mcp", "/db/mcp"),
        ("/db", "/db"),
        ("/db/", "/db/"),
        ("/db/mcp/?a=b&c", "/db/mcp/?a=b&c"),
        ("/none/mcp", "/none/mcp"),
        ("/mcp?servers=db", "/mcp?servers=db"),
        ("/db/sse", "/db/sse"),
        // A client knows the stream, and not where its messages go.
        ("/db/message?sessionId=secret", "/db/sse"),
        ("/message", "/sse"),
        ("/d.b/mcp", ""),
        (&format!("/db?{}", "x".repeat(600)), "/db"),
    ] {
        let method = if asked.contains("message") { "POST" } else { "GET" };
        let realm = r#"Bearer realm="test gate""#;
        let (status, head, _) = gate.ask(&plain(method, asked, "")).await;
        let challenge = field(&head, "www-authenticate");
        assert_eq!((status, challenge), (401, Some(&*format!("{realm}, {}", of_place(place)))), "{asked}");
        let bad = plain(method, asked, "Authorization: Bearer sga_bad\r\n");
        let (status, head, _) = gate.ask(&bad).await;
        let wanted = format!(r#"{realm}, error="invalid_token", {}"#, of_place(place));
        assert_eq!((status, field(&head, "www-authenticate")), (401, Some(&*wanted)), "{asked}");
    }
    // What is no place is as it was, and where nobody is asked nobody is told.
    let (_, head, _) = gate.ask(&plain("GET", "/servers", "")).await;
    assert_eq!(field(&head, "www-authenticate"), Some(r#"Bearer realm="test gate""#));
    assert_eq!(gate.ask(&get("/docs/mcp", "sga_bad", "")).await.0, 200);
    let (_, head, _) = gate.ask(&get("/db/mcp?token=x", "", "")).await;
    assert!(field(&head, "www-authenticate").unwrap().contains(&of_place("/db/mcp")), "{head}");
}

#[tokio::test]
async fn pages_of_every_origin_may_read_what_needs_no_cookie_and_send_no_form() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    let own = format!("Origin: {BASE}\r\n");
    let foreign = format!("Origin: {PAGE}\r\n");
    let asks = "Access-Control-Request-Method: POST\r\n";
    for path in ["/token", "/register", "/revoke", "/.well-known/oauth-authorization-server"] {
        let method = if path.starts_with("/.well") { "GET" } else { "POST" };
        let (status, head, _) = gate.ask(&plain(method, path, &foreign)).await;
        assert_ne!(status, 403, "{path}");
        assert_eq!(field(&head, "access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(field(&head, "access-control-allow-credentials"), None, "{path}");
        let (status, head, _) = gate.ask(&plain("OPTIONS", path, &format!("{foreign}{asks}"))).await;
        assert_eq!((status, field(&head, "access-control-allow-origin")), (204, Some("*")), "{path}");
        let rebound = plain(method, path, "").replace("localhost", "rebound.example");
        assert_eq!(gate.ask(&rebound).await.0, 403, "{path}");
    }
    for path in ["/oauth/login", "/oauth/consent", "/oauth/logout", "/oauth/grants/x/revoke"] {
        for sent in [&*foreign, "", "Origin: null\r\n", "Origin: https://localhost\r\n", &own.repeat(2)] {
            let (status, _, body) = gate.ask(&plain("POST", path, sent)).await;
            assert_eq!(status, 403, "{path} {sent:?}");
            assert!(body.contains("forbidden_origin"), "{path} {body}");
        }
        let (status, head, _) = gate.ask(&plain("POST", path, &own)).await;
        assert_ne!(status, 403, "{path}");
        assert_eq!(field(&head, "access-control-allow-origin"), None, "{path}");
        let (status, _, _) = gate.ask(&plain("OPTIONS", path, &format!("{foreign}{asks}"))).await;
        assert_eq!(status, 405, "{path}");
    }
    // Where no form goes, nobody may send one.
    for path in ["/authorize", "/oauth"] {
        for sent in [&*foreign, "", &*own] {
            let (status, head, _) = gate.ask(&plain("POST", path, sent)).await;
            assert_eq!((status, field(&head, "allow")), (405, Some("GET, HEAD")), "{path} {sent:?}");
        }
    }
    // A link leads to a page from anywhere.
    for path in ["/authorize", "/oauth/login", "/oauth"] {
        assert_ne!(gate.ask(&plain("GET", path, &foreign)).await.0, 403, "{path}");
    }
    // Places are as they were.
    for path in ["/db/mcp", "/mcp", "/auth/login", "/oauth/introspect"] {
        assert_eq!(gate.ask(&plain("POST", path, &foreign)).await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn a_token_opens_the_place_that_it_is_for_and_no_other() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    let list = |path: &str, token: &str| modern(path, token, 1, "tools/list", json!({}));
    for (resource, opens) in [
        ("", [true, true, true, true]),
        ("/", [true, true, true, true]),
        ("/db/mcp", [true, false, false, false]),
        ("/db", [true, false, false, false]),
        ("/db/sse?x=1", [true, false, false, false]),
        ("/files/message/", [false, true, false, false]),
        ("/own", [false, false, true, false]),
        ("/mcp", [false, false, false, true]),
        ("/sse/", [false, false, false, true]),
        ("/none/mcp", [false, false, false, false]),
        ("/db/other", [false, false, false, false]),
    ] {
        let token = token(&gate, resource, "mcp");
        for (path, opens) in ["/db/mcp", "/files/mcp", "/own/mcp", "/mcp"].into_iter().zip(opens) {
            let (status, head, _) = gate.ask(&list(path, &token)).await;
            assert_eq!(status, if opens { 200 } else { 401 }, "{resource} at {path}");
            let challenge = field(&head, "www-authenticate").unwrap_or_default();
            assert_eq!(challenge.contains("invalid_token"), !opens, "{resource} at {path}: {challenge}");
        }
        // Who has a token for another place learns nothing of what there is here.
        let (status, _, _) = gate.ask(&list("/none/mcp", &token)).await;
        let may_know = resource.len() < 2 || resource.starts_with("/none");
        assert_eq!(status, if may_know { 404 } else { 401 }, "{resource} at /none/mcp");
        // What is not for operators asks nothing; their pages are no place.
        let (status, _, _) = gate.ask(&get("/servers", &token, "")).await;
        assert_eq!(status, if resource.len() < 2 { 403 } else { 401 }, "{resource}");
    }
    // All that an aggregate has is there for a token of its place, though none of it is by itself.
    let (_, _, body) = gate.ask(&list("/mcp?servers=own", &token(&gate, "/mcp", "mcp"))).await;
    assert_eq!(names(&serde_json::from_str(&body).unwrap()), ["own__read", "own__write"]);
    // No server ever sees one.
    let is_seen =
        |request: &String| request.contains("sga_") || request.to_lowercase().contains("authorization");
    assert!(!server.requests().iter().any(is_seen));
}

#[tokio::test]
async fn a_scope_opens_the_servers_that_it_names_and_those_that_have_its_tags() {
    let server = Recorder::start().await;
    for (scope_tags, of_two) in [("all", [true, false, false]), ("any", [true, true, true])] {
        let gate = gate(&server, json!({ "scopeTags": scope_tags })).await;
        for (scope, opens) in [
            ("mcp", [true, true, true]),
            ("mcp offline_access", [true, true, true]),
            ("server:db", [true, false, false]),
            ("server:db server:own", [true, false, true]),
            ("tag:web", [true, true, false]),
            ("tag:eu", [true, false, true]),
            ("tag:web tag:eu", of_two),
            ("tag:none", [false, false, false]),
            ("tag:none server:files", [false, true, false]),
            ("offline_access", [false, false, false]),
            ("db:write", [false, false, false]),
            ("", [false, false, false]),
        ] {
            let token = token(&gate, "", scope);
            for (name, opens) in ["db", "files", "own"].into_iter().zip(opens) {
                let path = format!("/{name}/mcp");
                let (status, head, _) = gate.ask(&modern(&path, &token, 1, "tools/list", json!({}))).await;
                let why = format!("{scope:?} at {name}, {scope_tags}");
                assert_eq!(status, if opens { 200 } else { 403 }, "{why}");
                let challenge = field(&head, "www-authenticate");
                let held = scope.replace("offline_access", "");
                let needed = format!("{} server:{name}", held.trim());
                let needed = format!(
                    r#"Bearer error="insufficient_scope", scope="{}", resource_metadata="{BASE}/.well-known/oauth-protected-resource{path}""#,
                    needed.trim()
                );
                assert_eq!(challenge, (!opens).then_some(&*needed), "{why}");
            }
            // The aggregate has of each caller what opens by itself.
            let (status, _, body) =
                gate.ask(&modern("/mcp?servers=own", &token, 1, "tools/list", json!({}))).await;
            let reaches = scope
                .split(' ')
                .any(|word| word == "mcp" || word.starts_with("tag:") || word.starts_with("server:"));
            assert_eq!(status, if reaches { 200 } else { 403 }, "{scope:?} at all, {scope_tags}");
            if reaches {
                let found = names(&serde_json::from_str(&body).unwrap());
                assert_eq!(
                    found.len(),
                    if opens[2] { 2 } else { 0 },
                    "{scope:?} at all, {scope_tags}: {found:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_scope_gives_nothing_that_the_rules_do_not_give() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    let token = of(&gate, "ci", "", "mcp server:db");
    let ask = |path: &str| modern(path, &token, 1, "tools/list", json!({}));
    assert_eq!(gate.ask(&ask("/files/mcp")).await.0, 200);
    let (status, head, _) = gate.ask(&ask("/db/mcp")).await;
    // No scope would do, so none is asked for.
    let challenge = field(&head, "www-authenticate");
    assert_eq!((status, challenge), (403, Some(r#"Bearer error="insufficient_scope""#)));
}

#[tokio::test]
async fn a_tool_that_asks_for_more_is_listed_and_a_call_says_what_it_takes() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    let narrow = token(&gate, "", "mcp offline_access");
    let wide = token(&gate, "", "mcp own:write db:write");
    let needs = |scope: &str, path: &str| {
        format!(
            r#"Bearer error="insufficient_scope", scope="{scope}", resource_metadata="{BASE}/.well-known/oauth-protected-resource{path}""#
        )
    };
    let (_, _, body) = gate.ask(&modern("/own/mcp", &narrow, 1, "tools/list", json!({}))).await;
    assert_eq!(names(&serde_json::from_str(&body).unwrap()), ["read", "write"]);
    // Message by message, alone and in the aggregate, and byte by byte.
    for (path, tool) in [("/own/mcp", "write"), ("/mcp", "own__write")] {
        let (status, head, _) = gate.ask(&modern_call(path, &narrow, 1, tool, json!({}))).await;
        let wanted = needs("mcp own:write", path);
        assert_eq!((status, field(&head, "www-authenticate")), (403, Some(&*wanted)), "{path}");
        for token in [&*wide, DEV] {
            let (status, _, body) = gate.ask(&modern_call(path, token, 1, tool, json!({}))).await;
            assert_eq!(status, 200, "{path} {body}");
        }
    }
    let write = call(1, "write_row", json!({}));
    let (status, head, _) = gate.ask(&post("/db/mcp", &narrow, "", &write)).await;
    let wanted = needs("mcp db:write", "/db/mcp");
    assert_eq!((status, field(&head, "www-authenticate")), (403, Some(&*wanted)));
    assert_eq!(gate.ask(&post("/db/mcp", &wide, "", &write)).await.0, 200);
    assert_eq!(gate.ask(&post("/db/mcp", &narrow, "", &call(1, "read_row", json!({})))).await.0, 200);
}

#[tokio::test]
async fn a_session_goes_on_with_what_its_client_was_allowed_meanwhile() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    let narrow: &str = token(&gate, "", "mcp").leak();
    let wide: &str = token(&gate, "", "mcp own:write").leak();
    for (place, tool) in [("/own/mcp", "write"), ("/mcp", "own__write")] {
        let session = Session::open(&gate, place, narrow).await;
        let write = |id| call(id, tool, json!({}));
        let refused = async |session: &Session, id| {
            let mut client = session.sent(&write(id)).await;
            let (status, head, _) = client.response().await;
            let challenge = field(&head, "www-authenticate").unwrap();
            assert!(status == 403 && challenge.contains(r#"scope="mcp own:write""#), "{place} {head}");
        };
        refused(&session, 1).await;
        // Its user was asked, and said yes; and so says the config of a token without a scope.
        assert_eq!(text(&session.by(wide).ask(&write(2)).await), "", "{place}");
        assert_eq!(text(&session.by(DEV).ask(&write(3)).await), "", "{place}");
        // Another client of the same user was not allowed that.
        refused(&session, 4).await;
    }
    // What was begun with more is nothing to whoever has less.
    let session = Session::open(&gate, "/own/mcp", wide).await;
    assert_eq!(session.by(narrow).post(&call(1, "read", json!({}))).await.0, 404);
    // Over HTTP+SSE, too, the answer to the message says what it takes.
    let mut session = SseSession::open(&gate, "/own/sse", narrow).await;
    let (status, head, _) = gate.ask(&post(&session.url, narrow, "", &call(1, "write", json!({})))).await;
    let challenge = field(&head, "www-authenticate").unwrap_or_default();
    assert!(status == 403 && challenge.contains(r#"scope="mcp own:write""#), "{head}");
    assert_eq!(gate.ask(&post(&session.url, wide, "", &call(2, "write", json!({})))).await.0, 202);
    assert_eq!(session.event().await["id"], 2);
}

#[tokio::test]
async fn a_token_is_over_with_its_grant() {
    let server = Recorder::start().await;
    let gate = gate(&server, json!({})).await;
    let token = token(&gate, "", "mcp");
    let ask = modern("/db/mcp", &token, 1, "tools/list", json!({}));
    assert_eq!(gate.ask(&ask).await.0, 200);
    let shared = gate.gateway.shared();
    let claims = shared.logins.opened_access(token.as_bytes()).unwrap();
    let (grants, now) = (shared.logins.grants().unwrap(), SystemTime::now());
    grants.revoke(vec![Token::Access(claims)], now).await.unwrap();
    assert_eq!(gate.ask(&ask).await.0, 401);
}
