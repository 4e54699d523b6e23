//! What speaks for the gateway's own host does not come from a server: pages, cookies, policies, commands to a proxy in
//! front.

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Gate, SSE, Upstream, chunk, field, get, post, until},
    recorder::Recorder,
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;

async fn gate_before(entry: Value) -> Gate {
    Gate::start(json!({ "mcpServers": { "db": entry } })).await
}

fn all<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

#[tokio::test]
async fn an_answer_that_is_neither_json_nor_an_event_stream_is_no_page_of_the_gate() {
    let lax = "Content-Security-Policy: default-src *\r\nContent-Security-Policy: script-src *\r\nX-Content-Type-Options: sniff\r\n";
    for (kind, is_mcp) in [
        ("Content-Type: application/json\r\n", true),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", true),
        ("Content-Type: text/event-stream\r\n", true),
        ("Content-Type: text/html\r\n", false),
        ("Content-Type: text/plain\r\n", false),
        ("Content-Type: image/svg+xml\r\n", false),
        ("Content-Type: text/json\r\n", false),
        ("Content-Type: application/jsonx\r\n", false),
        ("", false),
        ("Content-Type:\r\n", false),
        // A browser takes the last of several types (WHATWG Fetch, "extract a MIME type").
        ("Content-Type: application/json, text/html\r\n", false),
        ("Content-Type: application/json;x=y,text/html\r\n", false),
        ("Content-Type: application/json\r\nContent-Type: text/html\r\n", false),
    ] {
        for status in [200, 404, 500] {
            let page = "<script>document.cookie</script>";
            let server = Recorder::answering(format!(
                "HTTP/1.1 {status} X\r\n{kind}{lax}Content-Length: {}\r\n\r\n{page}",
                page.len()
            ))
            .await;
            let gate = gate_before(json!({ "url": server.url("/mcp"), "public": true })).await;
            let (got, head, body) = gate.ask("GET /db/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert_eq!((got, body.as_str()), (status, page), "{head}");
            let wanted: &[&str] =
                if is_mcp { &["default-src *", "script-src *"] } else { &["sandbox; default-src 'none'"] };
            assert_eq!(all(&head, "content-security-policy"), wanted, "{kind}\n{head}");
            assert_eq!(
                all(&head, "x-content-type-options"),
                [if is_mcp { "sniff" } else { "nosniff" }],
                "{kind}\n{head}"
            );
        }
    }
}

#[tokio::test]
async fn what_a_browser_loads_as_anything_but_data_is_no_mcp_call() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({ "mcpServers": {
        "db": { "url": server.url("/mcp") },
        "docs": { "url": server.url("/mcp"), "public": true },
        "events": { "url": server.url("/sse") },
    } }))
    .await;
    for dest in [
        "document",
        "iframe",
        "frame",
        "embed",
        "object",
        "fencedframe",
        "script",
        "style",
        "serviceworker",
        "worker",
        "image",
        "Document",
        "empty, document",
        "\"empty\"",
        "",
    ] {
        let field = format!("Sec-Fetch-Dest: {dest}\r\n");
        for path in ["/db/mcp", "/db", "/docs/mcp", "/events/sse", "/db/sse", "/mcp", "/sse"] {
            let (status, _, body) = gate.ask(&get(path, DEV, &field)).await;
            assert_eq!(status, 406, "{dest} {path} {body}");
            assert!(body.contains("not_a_page"), "{body}");
        }
        assert_eq!(gate.ask(&get("/docs", DEV, &format!("Sec-Fetch-Dest: empty\r\n{field}"))).await.0, 406);
    }
    server.saw_nothing("no page is loaded from a server").await;
    gate.log.line("Refused request", &[("reason", json!("not_a_page")), ("server", json!("docs"))]).await;
    assert_eq!(gate.ask(&get("/db/mcp", DEV, "Sec-Fetch-Dest: empty\r\n")).await.0, 200);
    // What exists is not said without a token, and what is no MCP path is shown.
    let bare =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Dest: document\r\n\r\n");
    assert_eq!(gate.ask(&bare("/db/mcp")).await.0, 401);
    assert_eq!(gate.ask(&bare("/nope/mcp")).await.0, 401);
    assert_eq!(gate.ask(&bare("/health")).await.0, 200);
}

/// Fields of an answer by which a server would speak for the gateway's host, or to a proxy before the gateway.
const FOREIGN: [&str; 48] = [
    "Set-Cookie: sid=1; Path=/",
    "Set-Cookie2: sid=1",
    "Strict-Transport-Security: max-age=1",
    "Public-Key-Pins: pin-sha256=x",
    "Public-Key-Pins-Report-Only: pin-sha256=x",
    "Expect-CT: enforce",
    "Clear-Site-Data: \"*\"",
    "NEL: {}",
    "Report-To: {}",
    "Reporting-Endpoints: a=\"https://evil.example\"",
    "Content-Security-Policy-Report-Only: report-uri https://evil.example",
    "Service-Worker-Allowed: /",
    "Refresh: 0; url=https://evil.example",
    "Location: /other",
    "Content-Location: /other",
    "Link: </x>; rel=preload; as=script",
    "Alt-Svc: h3=\":443\"",
    "Onion-Location: http://x.onion",
    "Accept-CH: UA",
    "Critical-CH: UA",
    "Origin-Agent-Cluster: ?0",
    "Use-As-Dictionary: match=\"/*\"",
    "Set-Login: logged-in",
    "Secure-Session-Registration: x",
    "Sec-Session-Registration: x",
    "Attribution-Reporting-Register-Source: {}",
    "Access-Control-Allow-Origin: *",
    "Timing-Allow-Origin: *",
    "Cross-Origin-Resource-Policy: cross-origin",
    "Cross-Origin-Opener-Policy: unsafe-none",
    "WWW-Authenticate: Bearer",
    "Proxy-Authenticate: Basic",
    "Authentication-Info: x",
    "X-Accel-Redirect: /etc/passwd",
    "X-Accel-Expires: 9",
    "X-Accel-Limit-Rate: 1",
    "X-Sendfile: /etc/passwd",
    "X-Sendfile2: /etc/passwd 0-",
    "X-LIGHTTPD-send-file: /etc/passwd",
    "X-LiteSpeed-Location: /x",
    "X-Reproxy-URL: http://169.254.169.254/",
    "X-Reproxy-File: /etc/passwd",
    "X-Envoy-Immediate-Health-Check-Fail: true",
    "Surrogate-Control: content=\"ESI/1.0\"",
    "Edge-Control: dca=esi",
    "CDN-Cache-Control: public",
    "Keep-Alive: timeout=9",
    "Speculation-Rules: \"/x\"",
];

#[tokio::test]
async fn a_server_does_not_speak_for_the_gate_s_host_nor_to_a_proxy_before_it() {
    let kept = [
        "X-Accel-Buffering: no",
        "Cache-Control: no-store",
        "X-Frame-Options: DENY",
        "Server-Timing: a",
        "Retry-After: 3",
        "X-Kept: 1",
    ];
    let fields = FOREIGN.iter().chain(&kept).map(|field| format!("{field}\r\n")).collect::<String>();
    for (kind, cookies) in
        [("application/json", None), ("text/html", None), ("application/json", Some(false))]
    {
        let server = Recorder::answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{fields}Content-Length: 2\r\n\r\n{{}}"
        ))
        .await;
        let mut entry = json!({ "url": server.url("/mcp") });
        if let Some(cookies) = cookies {
            entry["cookies"] = json!(cookies);
        }
        let gate = gate_before(entry).await;
        let (status, head, body) =
            gate.ask(&post("/db/mcp", DEV, "Cookie: sid=1\r\nCookie2: $Version=1\r\n", "{}")).await;
        assert_eq!((status, body.as_str()), (200, "{}"), "{head}");
        for line in FOREIGN {
            let (name, _) = line.split_once(':').unwrap();
            assert_eq!(field(&head, name), None, "{head}");
        }
        for line in kept {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(field(&head, name), Some(value), "{head}");
        }
        let seen = server.only();
        assert!(!seen.contains("sid=1") && !seen.to_ascii_lowercase().contains("cookie"), "{seen}");
    }
}

#[tokio::test]
async fn a_server_that_may_have_cookies_has_its_own_and_below_its_own_path() {
    let given = [
        "sid=a; Path=/; Domain=example.com; HttpOnly; Secure; SameSite=None",
        "two=b;path=/other;DOMAIN=.example.com;Max-Age=9",
        "three=c",
        "four=\"d=1\"; Path; Domain ; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
        "five=e; Path=/db2/x; Path=/",
        // Those of the gateway, and those that a browser takes for the gateway's.
        "__Host-sid=x; Path=/; Secure",
        "__host-sid=x; Secure",
        "__Host-sg-login=x; Secure",
        "__Secure-sg-flow=x; Secure",
        "sg-admin=x",
        "SG-admin=x",
        "=sg-admin=x",
        "sg-admin",
        "; Path=/",
        "",
    ];
    let fields: String = given.iter().map(|cookie| format!("Set-Cookie: {cookie}\r\n")).collect();
    let server = Recorder::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: 2\r\n\r\n{{}}"
    ))
    .await;
    let gate = gate_before(json!({ "url": server.url("/mcp"), "cookies": true })).await;
    let cookies = format!(
        "Cookie: sid=a; __Host-sg-login=mine\r\nCookie: two=b;;sg-admin=mine; __Host-x=mine; three=\"c;d\"\r\nCookie: t={DEV}; four = e; =mine; =sg-x=mine; mine; sg-x; \"sg-x=mine\"\r\nCookie2: mine\r\n"
    );
    let (status, head, _) = gate.ask(&post("/db/mcp", DEV, &cookies, "{}")).await;
    assert_eq!(status, 200);
    assert_eq!(
        all(&head, "set-cookie"),
        [
            "sid=a; HttpOnly; Secure; SameSite=None; Path=/db",
            "two=b;Max-Age=9; Path=/db",
            "three=c; Path=/db",
            "four=\"d=1\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/db",
            "five=e; Path=/db",
        ]
    );
    // RFC 9113 §8.2.3: HTTP/2 may send crumbs; towards a server of HTTP/1.1 they are one line.
    let seen = server.only();
    assert_eq!(all(&seen, "cookie"), ["sid=a; two=b; three=\"c; four = e"], "{seen}");
    assert!(!seen.contains("mine") && !seen.contains(DEV), "{seen}");
    server.forget();
    // What the config sets is the server's credential, and the caller's is not beside it.
    let gate =
        gate_before(json!({ "url": server.url("/mcp"), "cookies": true, "headers": { "Cookie": "own=1" } }))
            .await;
    assert_eq!(gate.ask(&post("/db/mcp", DEV, "Cookie: sid=a\r\n", "{}")).await.0, 200);
    assert_eq!(all(&server.only(), "cookie"), ["own=1"]);
}

/// Asserts that the gateway's own credential is what failed, to the caller, in the log and in the metrics.
async fn gate_is_unauthorized(gate: &Gate, request: &str, status: u16) {
    let (got, head, body) = gate.ask(request).await;
    assert_eq!(got, 502, "{head}{body}");
    assert!(body.contains(r#""error":"upstream_unauthorized""#), "{body}");
    assert!(!body.contains("internal") && !head.contains("internal"), "{head}{body}");
    assert_eq!(field(&head, "www-authenticate"), None, "{head}");
    assert_eq!(field(&head, "proxy-authenticate"), None, "{head}");
    let line = gate.log.line("Authenticated request", &[("reason", json!("upstream_unauthorized"))]).await;
    assert_eq!(line["cause"], format!("the server answered {status}"));
    let series = r#"upstream_errors_total{kind="upstream_unauthorized",server="db"} 1"#;
    until("it is counted", || gate.metrics().contains(series)).await;
}

#[tokio::test]
async fn a_server_that_does_not_know_the_gate_s_credential_does_not_tell_a_client_to_log_in() {
    for status in [401, 407] {
        let answer = format!(
            "HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nWWW-Authenticate: Bearer resource_metadata=\"http://internal/\"\r\nProxy-Authenticate: Basic\r\nContent-Length: 12\r\n\r\n{{\"internal\"}}"
        );
        let server = Recorder::answering(answer).await;
        // Byte for byte, to each of its endpoints.
        for (url, request) in [
            ("/mcp", post("/db/mcp", DEV, "", "{}")),
            ("/mcp", get("/db/mcp", DEV, "")),
            ("/mcp", post("/db/mcp", DEV, "", "{}").replacen("POST", "DELETE", 1)),
            ("/sse", get("/db/sse", DEV, "")),
            // Message by message.
            ("/sse", post("/db/mcp", DEV, "", INITIALIZE)),
        ] {
            let gate = gate_before(json!({ "url": server.url(url) })).await;
            gate_is_unauthorized(&gate, &request, status).await;
        }
        // A filter sees no more of it.
        let filter = json!({ "toolFilter": { "mode": "block", "list": ["drop"] } });
        let gate = gate_before(json!({ "url": server.url("/mcp"), "options": filter })).await;
        gate_is_unauthorized(&gate, &post("/db/mcp", DEV, "", r#"{"id":1,"method":"tools/list"}"#), status)
            .await;
        // On a stream, the status comes as an error of JSON-RPC.
        let gate = gate_before(json!({ "url": server.url("/mcp") })).await;
        let mut client = gate.client().await;
        client.send(get("/db/sse", DEV, "Accept: text/event-stream\r\n")).await;
        client.head().await;
        let endpoint = client.until("\n\n").await;
        let url = endpoint.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
        assert_eq!(gate.ask(&post(&url, DEV, "", INITIALIZE)).await.0, 202);
        let failed = client.until("}\n\n").await;
        assert!(failed.contains("502") && !failed.contains("internal"), "{failed}");
    }
}

#[tokio::test]
async fn other_refusals_of_a_server_pass_without_their_challenge() {
    let server = Recorder::answering("HTTP/1.1 403 No\r\nContent-Type: application/json\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\"\r\nContent-Length: 2\r\n\r\n{}").await;
    let gate = gate_before(json!({ "url": server.url("/mcp") })).await;
    let (status, head, _) = gate.ask(&post("/db/mcp", DEV, "", "{}")).await;
    assert_eq!((status, field(&head, "www-authenticate")), (403, None), "{head}");
}

#[tokio::test]
async fn what_the_gate_says_itself_is_what_it_says_it_is() {
    let server = Upstream::bind().await;
    let gate = gate_before(json!({ "url": server.url("/mcp") })).await;
    for path in ["/health", "/health/ready", "/status", "/nope/mcp", "/db//mcp", "/.well-known/x"] {
        let (_, head, _) = gate.ask(&get(path, DEV, "")).await;
        assert_eq!(field(&head, "x-content-type-options"), Some("nosniff"), "{path}\n{head}");
    }
    // An event stream passes with what its server says of it.
    let mut client = gate.client().await;
    client.send(get("/db/mcp", DEV, "")).await;
    let mut behind = server.accept().await;
    behind.head().await;
    behind.send(SSE.replace("\r\n\r\n", "\r\nX-Accel-Buffering: no\r\nSet-Cookie: a=1\r\n\r\n")).await;
    behind.send(chunk("data: x\n\n")).await;
    let head = client.head().await;
    assert_eq!((field(&head, "x-accel-buffering"), field(&head, "set-cookie")), (Some("no"), None), "{head}");
}
