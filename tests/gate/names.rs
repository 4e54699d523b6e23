//! What the gateway strips, seals or sets cannot be said in a second spelling: names of fields, and parameters of the query.

use http::{HeaderName, HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    harness::{Client, DEV, Gate, SSE, Upstream, chunk, field, get, post},
    recorder::Recorder,
    tls::Identity,
};

/// Names that some server takes for another field's, or for a command of a proxy that it trusts.
const FOLDED: [&str; 30] = [
    // WSGI, CGI, FastCGI and Rack make HTTP_MCP_SESSION_ID of each.
    "Mcp_Session_Id",
    "mcp_session-id",
    "MCP-Session_ID",
    "Mcp.Session.Id",
    "Mcp~Session~Id",
    "Mcp+Session+Id",
    "X_Forwarded_For",
    "X-Forwarded_For",
    "X_Api_Key",
    "X_Team",
    "X.Team",
    "Content_Length",
    "Transfer_Encoding",
    "Mcp_Param_X",
    "Mcp-Param_X",
    "Mcp_Param-X",
    "_",
    // CGI makes HTTP_PROXY of it.
    "Proxy",
    // Another method, another path, another host.
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Original-Host",
    // Another client, or another user.
    "True-Client-IP",
    "X-Client-IP",
    "Remote-User",
    "X-Remote-User",
    "X-Auth-Request-Email",
    // Files and redirects of a server that thinks that it is behind its own proxy.
    "X-Sendfile-Type",
    "X-Accel-Mapping",
];

/// Names that look like the ones above and are fields like any other.
const KEPT: [&str; 6] =
    ["X-Mcp-Session-Id", "Mcp-Param-Under_Score", "mcp-param-a.b", "X-Teams", "X-Proxy", "X-Request-Id"];

/// Fields by which proxies tell servers who calls, from where, or what was asked for.
const OF_PROXIES: [&str; 118] = [
    "Akamai-Client-IP",
    "Base-Url",
    "Cf-Access-Authenticated-User-Email",
    "Cf-Access-Client-Id",
    "Cf-Access-Jwt-Assertion",
    "Cf-Connecting-IP",
    "Cf-Connecting-O2O",
    "Cf-IPCountry",
    "Cf-Pseudo-IPv4",
    "Cf-Ray",
    "Cf-Visitor",
    "Cf-Worker",
    "Client-Cert",
    "Client-Cert-Chain",
    "Client-IP",
    "CloudFront-Viewer-Address",
    "CloudFront-Viewer-Country",
    "Do-Connecting-IP",
    "Fastly-Client-IP",
    "Fastly-SSL",
    "Fly-Client-IP",
    "Fly-Forwarded-Proto",
    "Forwarded",
    "Front-End-Https",
    "Http-Authorization",
    "Http-Client-IP",
    "Impersonate-Extra-Scopes",
    "Impersonate-Group",
    "Impersonate-Uid",
    "Impersonate-User",
    "Incap-Client-IP",
    "Kerberos-Principal",
    "OIDC-Access-Token",
    "OIDC-Claim-Sub",
    "Path-Info",
    "Proxy-User",
    "Remote-Addr",
    "Remote-Email",
    "Remote-Groups",
    "Request-Uri",
    "Script-Name",
    "Server-Name",
    "SSL-Cert",
    "SSL-Client-S-DN",
    "Tailscale-User-Login",
    "Tailscale-App-Capabilities",
    "WL-Proxy-Client-IP",
    "WL-Proxy-SSL",
    "X-Akamai-Edgescape",
    "X-Amzn-Mtls-Clientcert",
    "X-Amzn-Oidc-Accesstoken",
    "X-Amzn-Oidc-Data",
    "X-Amzn-Oidc-Identity",
    "X-Anonymous-Consumer",
    "X-AppEngine-Cron",
    "X-AppEngine-User-Email",
    "X-AppEngine-User-IP",
    "X-ARR-ClientCert",
    "X-ARR-SSL",
    "X-Auth-Email",
    "X-Auth-Groups",
    "X-Auth-User",
    "X-Authelia-User",
    "X-Authenticated-Userid",
    "X-Authentik-Groups",
    "X-Authentik-Username",
    "X-Azure-ClientIP",
    "X-Azure-SocketIP",
    "X-Base-Url",
    "X-Client-Cert",
    "X-Client-DN",
    "X-Client-IP",
    "X-Client-Verify",
    "X-Cluster-Client-Ip",
    "X-Consumer-Custom-Id",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "X-Custom-IP-Authorization",
    "X-Email",
    "X-Envoy-External-Address",
    "X-Envoy-Original-Path",
    "X-FD-HealthProbe",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-User",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-IAP-JWT-Assertion",
    "X-Grafana-User",
    "X-Groups",
    "X-JWT-Claim-Sub",
    "X-Kong-Consumer",
    "X-Method",
    "X-Middleware-Subrequest",
    "X-MS-Client-Principal",
    "X-MS-Client-Principal-Name",
    "X-MS-Token-AAD-Id-Token",
    "X-Original-Authorization",
    "X-Path-Info",
    "X-Pomerium-Claim-Email",
    "X-Pomerium-JWT-Assertion",
    "X-ProxyUser-Ip",
    "X-Real-Port",
    "X-Remote-Groups",
    "X-Rewrite-Url",
    "X-Role",
    "X-Scheme",
    "X-Script-Name",
    "X-SSL-Cert",
    "X-SSL-Client-Verify",
    "X-TLS-Client-Cert",
    "X-Token-Subject",
    "X-Token-User-Email",
    "X-Url-Scheme",
    "X-User",
    "X-User-Id",
    "X-Userinfo",
    "X-Username",
    "X-Vercel-Forwarded-For",
    "X-WEBAUTH-USER",
];

/// Fields of callers that only begin alike, or that prove what they say.
const OF_CALLERS: [&str; 26] = [
    "Accept-Language",
    "Baggage",
    "Cache-Control",
    "Client-Version",
    "If-None-Match",
    "Idempotency-Key",
    "Mcp-Method",
    "Mcp-Name",
    "Mcp-Param-X-User",
    "Mcp-Protocol-Version",
    "Priority",
    "Request-Id",
    "Sec-Fetch-Mode",
    "Server-Timing",
    "Traceparent",
    "Tracestate",
    "User-Agent",
    "X-Auth-Token",
    "X-B3-Traceid",
    "X-Correlation-Id",
    "X-GitHub-Token",
    "X-Requested-With",
    "X-Request-Id",
    "X-Session-Name",
    "X-Stainless-Lang",
    "X-Tenant-Name",
];

#[tokio::test]
async fn a_caller_does_not_say_what_only_a_proxy_could_know() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    for (names, passes) in [(&OF_PROXIES[..], false), (&OF_CALLERS[..], true)] {
        for names in names.chunks(60) {
            let fields: String = names.iter().map(|name| format!("{name}: mine\r\n")).collect();
            assert_eq!(gate.ask(&post("/db/mcp", DEV, &fields, "{}")).await.0, 200);
            let seen = server.only();
            for name in names {
                assert_eq!(field(&seen, name).is_some(), passes, "{name}\n{seen}");
            }
            server.forget();
        }
    }
    // On purpose, the config may say any of them.
    let headers = json!({ "X-User": "core", "Impersonate-User": "core", "Remote-User": "core" });
    let servers = json!({ "db": { "url": server.url("/mcp"), "headers": headers } });
    let gate = Gate::start(json!({ "mcpServers": servers })).await;
    assert_eq!(gate.ask(&get("/db/mcp", DEV, "X-User: mine\r\n")).await.0, 200);
    let seen = server.only();
    assert!(!seen.contains("mine") && seen.matches(": core").count() == 3, "{seen}");
}

fn behind(url: &str) -> Value {
    json!({ "db": { "url": url, "headers": { "X-Team": "core" }, "cookies": true } })
}

fn is_clean(seen: &str) {
    for name in FOLDED {
        assert_eq!(field(seen, name), None, "{name}\n{seen}");
    }
    for name in KEPT {
        assert_eq!(field(seen, name), Some("mine"), "{name}\n{seen}");
    }
    assert_eq!(seen.matches("x-team:").count(), 1, "{seen}");
}

#[tokio::test]
async fn a_field_in_a_second_spelling_does_not_reach_the_server() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({ "mcpServers": behind(&server.url("/mcp")) })).await;
    let fields: String = FOLDED.iter().chain(&KEPT).map(|name| format!("{name}: mine\r\n")).collect();
    assert_eq!(gate.ask(&post("/db/mcp", DEV, &fields, "{}")).await.0, 200);
    is_clean(&server.only());
    server.forget();
    // What `Connection` names is gone either way.
    let fields = "Connection: x_kept, X_Team\r\nX_Kept: mine\r\nX_Team: mine\r\n";
    assert_eq!(gate.ask(&get("/db/mcp", DEV, fields)).await.0, 200);
    assert!(!server.only().contains("mine"), "{}", server.only());
}

#[tokio::test]
async fn nor_does_it_over_http2() {
    let server = Recorder::start().await;
    let identity = Identity::new();
    let gate = Gate::start(
        json!({ "proxy": { "tls": identity.config() }, "mcpServers": behind(&server.url("/mcp")) }),
    )
    .await;
    let tcp = TcpStream::connect(gate.addr).await.unwrap();
    let stream = identity.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await.unwrap();
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::get(format!("https://localhost:{}/db/mcp", gate.addr.port()))
        .header("authorization", format!("Bearer {DEV}"))
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    // This library's own client would not send the one of the connection.
    for name in FOLDED.iter().chain(&KEPT).filter(|name| **name != "Transfer_Encoding") {
        request.headers_mut().append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_static("mine"));
    }
    // Crumbs of a cookie line (RFC 9113 §8.2.3).
    for crumb in ["a=1", "b=2; c=3", "sg-x=mine"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = server.only();
    is_clean(&seen);
    assert!(seen.contains("\r\ncookie: a=1; b=2; c=3\r\n") && seen.matches("cookie").count() == 1, "{seen}");
}

#[tokio::test]
async fn a_field_of_the_config_wins_however_the_caller_or_the_config_spells_it() {
    let server = Recorder::start().await;
    let servers =
        json!({ "db": { "url": server.url("/mcp"), "headers": { "X_Team": "core", "x-level": "1" } } });
    let gate = Gate::start(json!({ "mcpServers": servers })).await;
    let fields = "X-Team: mine\r\nX_Team: mine\r\nX-Level: mine\r\nX_Level: mine\r\n";
    assert_eq!(gate.ask(&get("/db/mcp", DEV, fields)).await.0, 200);
    let seen = server.only();
    assert!(!seen.contains("mine"), "{seen}");
    assert_eq!((field(&seen, "x_team"), field(&seen, "x-level")), (Some("core"), Some("1")), "{seen}");
}

/// What a gateway before `url` asks of it when it is asked for `query`.
async fn target(url: &str, pass: Option<bool>, query: &str) -> String {
    let server = Recorder::start().await;
    let mut entry = json!({ "url": server.url(url) });
    if let Some(pass) = pass {
        entry["passQuery"] = json!(pass);
    }
    let gate = Gate::start(json!({ "proxy": { "auth": { "queryToken": true, "tokens": { "dev": DEV } } }, "mcpServers": { "db": entry } })).await;
    let (status, _, body) = gate.ask(&post(&format!("/db/mcp?{query}"), DEV, "", "{}")).await;
    assert_eq!(status, 200, "{query}: {body}");
    server.only().split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn the_query_of_the_config_is_the_only_one() {
    for query in ["read_only=false", "a=1", "x", "&", "?read_only=false", ";read_only=false"] {
        assert_eq!(
            target("/mcp?project=core&read_only=true", None, query).await,
            "/mcp?project=core&read_only=true"
        );
        assert_eq!(target("/mcp?a=1", Some(false), query).await, "/mcp?a=1");
        assert_eq!(target("/mcp", Some(false), query).await, "/mcp");
    }
    // Without one, the caller's passes as it is.
    for (query, wanted) in [("a=%7E&b;c=[]", "/mcp?a=%7E&b;c=[]"), ("token&a=1", "/mcp?a=1"), ("", "/mcp")] {
        assert_eq!(target("/mcp", None, query).await, wanted);
        assert_eq!(target("/mcp", Some(true), query).await, wanted);
    }
}

#[tokio::test]
async fn of_a_query_that_may_pass_the_parameters_of_the_config_do_not() {
    const OWN: &str = "/mcp?project=core&read_only=true";
    for (query, kept) in [
        ("a=1&b=2", "a=1&b=2"),
        ("a=1&read_only=false&b=2", "a=1&b=2"),
        ("READ_ONLY=false", ""),
        ("read%5fonly=false&re%61d_only", ""),
        ("read%255fonly=false", ""),
        ("read.only=0&read+only=0&read%20only=0&+read_only=0&read-only=0", ""),
        ("read_only[]=0&read_only%5B0%5D=0&[read_only]=0&read_only%00x=0&read_only.x=0", ""),
        ("a=1;read_only=0;b=2", "a=1;b=2"),
        ("read_on%u006cy=0&%=1", "%=1"),
        ("%ef%bd%92ead_only=0&%c1%b2ead_only=0&\u{e9}=1", ""),
        ("readonly_mode=1&my_read_only=1&project_ref=2", "readonly_mode=1&my_read_only=1&project_ref=2"),
        ("token&c=3", "c=3"),
    ] {
        // hyper takes no byte beyond ASCII in a target without an escape.
        let query = query.replace('\u{e9}', "%c3%a9");
        let wanted = if kept.is_empty() { OWN.to_owned() } else { format!("{OWN}&{kept}") };
        assert_eq!(target(OWN, Some(true), &query).await, wanted, "{query}");
    }
}

#[tokio::test]
async fn the_message_url_of_a_server_keeps_its_own_query_and_no_other() {
    let server = Upstream::bind().await;
    let gate =
        Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/sse?read_only=true") } } })).await;
    let mut client = gate.client().await;
    client.send(get("/db/sse?read_only=false", DEV, "")).await;
    let mut behind = server.accept().await;
    let head = behind.head().await;
    assert!(head.starts_with("GET /sse?read_only=true HTTP/1.1\r\n"), "{head}");
    behind.send(SSE).await;
    behind.send(chunk("event: endpoint\ndata: /message?read_only=true&s=1\n\n")).await;
    client.head().await;
    let event = String::from_utf8(client.chunk().await.unwrap()).unwrap();
    let url = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let mut poster = gate.client().await;
    poster.send(post(&format!("{url}&read_only=false"), DEV, "", "{}")).await;
    let head = server.accept().await.head().await;
    assert!(head.starts_with("POST /message?read_only=true&s=1 HTTP/1.1\r\n"), "{head}");
}

/// A frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request by HTTP/2, whose only field beside the token is one with a `#`.
pub fn h2_request(stream: u32, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block = [
        // :method GET and :scheme https, by the static table; the others literal, and not kept.
        vec![0x82, 0x87],
        [vec![0x01], text("localhost")].concat(),
        [vec![0x04], text(path)].concat(),
        [vec![0x0F, 0x08], text(&format!("Bearer {DEV}"))].concat(),
        [vec![0x00], text("x-hash"), text("#1")].concat(),
    ]
    .concat();
    frame(1, 0x05, stream, &block)
}

#[tokio::test]
async fn a_path_with_a_fragment_is_refused_over_http2_as_over_http1() {
    let server = Recorder::start().await;
    let identity = Identity::new();
    let gate = Gate::start(json!({
        "proxy": { "tls": identity.config() },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    for path in ["/db/mcp#", "/db/mcp#/../admin", "/db/mcp?x=1#y", "/db#/mcp", "/#"] {
        let tcp = TcpStream::connect(gate.addr).await.unwrap();
        let stream = identity.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await.unwrap();
        let mut client = Client::new(stream);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.send([&preface[..], &frame(4, 0, 0, &[]), &h2_request(1, "/db/mcp")].concat()).await;
        let (status, _, is_last) = h2_answer(&mut client, 1).await;
        assert_eq!((status, is_last), (200, false), "a # in a field is no fragment");
        client.send(h2_request(3, path)).await;
        // Which of its requests it was is not known, so the client is told to begin anew.
        let (status, body, is_last) = h2_answer(&mut client, 3).await;
        assert_eq!((status, is_last), (400, true), "{path}");
        assert!(body.contains("bad_path"), "{body}");
    }
    assert_eq!(server.requests().len(), 5);
    gate.log.line("Refused request", &[("reason", json!("bad_path"))]).await;
}

#[tokio::test]
async fn a_request_by_http2_may_name_its_host_by_a_field_alone() {
    let server = Recorder::start().await;
    let identity = Identity::new();
    let gate = Gate::start(json!({
        "proxy": { "tls": identity.config() },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let tcp = TcpStream::connect(gate.addr).await.unwrap();
    let stream = identity.connect(tcp, &["h2"], rustls::DEFAULT_VERSIONS).await.unwrap();
    let mut client = Client::new(stream);
    client.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat()).await;
    for (stream, host, wanted) in [(1, "localhost", 200), (3, "", 400)] {
        let block = [
            // :method GET and :scheme https, by the static table; then :path, authorization and host.
            vec![0x82, 0x87],
            [vec![0x04], text("/db/mcp")].concat(),
            [vec![0x0F, 0x08], text(&format!("Bearer {DEV}"))].concat(),
            [vec![0x0F, 0x17], text(host)].concat(),
        ]
        .concat();
        client.send(frame(1, 0x05, stream, &block)).await;
        assert_eq!(h2_answer(&mut client, stream).await.0, wanted, "{host}");
    }
}

pub type H2 = Client<tokio_rustls::client::TlsStream<TcpStream>>;

/// Reads to the end of the response on this stream: its status, its body, and whether GOAWAY came with it.
pub async fn h2_answer(client: &mut H2, stream: u32) -> (u16, String, bool) {
    let (mut status, mut body, mut is_last) = (0, String::new(), false);
    loop {
        let head = client.exactly(9).await;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = client.exactly(length).await;
        let (kind, is_end, is_its) = (head[3], head[4] & 1 != 0, head[5..] == stream.to_be_bytes());
        match kind {
            0 if is_its => body += &String::from_utf8_lossy(&payload),
            // RFC 7541, appendix A; an update of the table's size may be before it.
            1 if is_its => {
                status = match payload.iter().find(|byte| **byte & 0xE0 != 0x20) {
                    Some(0x88) => 200,
                    Some(0x8C) => 400,
                    other => panic!("{other:?}"),
                }
            }
            7 => is_last = true,
            _ => {}
        }
        if is_its && is_end && kind < 2 {
            return (status, body, is_last);
        }
    }
}
