//! What a config means, told by loading one.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

/// A directory with a config in it, and the environment it is loaded in.
struct Place {
    directory: TempDir,
    env: HashMap<&'static str, &'static str>,
}

impl Place {
    fn new() -> Self {
        Self { directory: TempDir::new().expect("a directory"), env: HashMap::new() }
    }

    fn file(self, name: &str, contents: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join(name);
        std::fs::write(&path, contents).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        self
    }

    fn var(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.insert(name, value);
        self
    }

    fn load(self, config: &str) -> Loaded {
        let this = self.file("gate.json", config);
        let path = this.directory.path().join("gate.json");
        super::load(&path, &|name| this.env.get(name).map(|&value| value.to_owned()))
    }
}

/// The snapshot of a config that must be good.
fn good(loaded: Loaded) -> Snapshot {
    let problems = loaded.problems;
    loaded.snapshot.unwrap_or_else(|| panic!("{problems:#?}"))
}

fn with_proxy(proxy: &str) -> Loaded {
    Place::new().load(&format!(r#"{{"proxy": {{{proxy}}}, "mcpServers": {{}}}}"#))
}

fn with_server(server: &str) -> Server {
    let config = format!(r#"{{"mcpServers": {{"it": {{{server}}}}}}}"#);
    good(Place::new().var("KEY", "k1").load(&config)).servers.remove(0)
}

fn said(loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn addresses(proxy: &str) -> String {
    let snapshot = good(with_proxy(proxy));
    snapshot.addr.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn hosts(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.allowed_hosts.iter().map(|pattern| pattern.host.as_str()).collect()
}

#[test]
fn everything_has_a_default() {
    let snapshot = good(Place::new().load(r#"{"mcpServers": {}}"#));
    assert_eq!(snapshot.name, "Sluicegate");
    assert_eq!(snapshot.shutdown_grace, Duration::from_secs(30));
    assert_eq!(snapshot.shutdown_delay, Duration::ZERO);
    let max_connections = snapshot.limits.max_connections;
    let Limits { max_requests, max_processes, max_server_connections, .. } = snapshot.limits;
    let limits = Limits {
        max_connections,
        tls_handshake_timeout: Duration::from_secs(10),
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        small_body_timeout: Duration::from_secs(30),
        min_body_rate: 1 << 10,
        slow_reader_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
        upstream_timeout: Duration::from_secs(60),
        max_header_bytes: 32 << 10,
        max_uri_bytes: 8 << 10,
        max_body_bytes: 0,
        max_sessions: 1_000,
        max_processes,
        max_requests,
        max_server_connections,
        max_held_bytes: 128 << 20,
        per_caller: PerCaller::default(),
        per_address: PerAddress { connections: 256, handshakes: 64 },
    };
    assert_eq!(snapshot.limits, limits);
    assert!(max_requests >= max_connections as u64);
    assert!(
        snapshot.trusted_proxies.is_empty() && snapshot.session_key.is_none() && snapshot.admin.is_none()
    );
    assert_eq!(snapshot.aggregate, Aggregate::default());
    assert_eq!(snapshot.log, LogConfig { level: Level::Info, format: None });
    assert!((1..=10_000).contains(&snapshot.limits.max_connections));
    assert!(snapshot.workers >= 1);
    assert!(snapshot.credentials.is_empty() && !snapshot.query_token);
    assert_eq!(hosts(&snapshot), ["localhost", "127.0.0.1", "::1"]);
    assert!(snapshot.loopback_origins);
}

#[test]
fn without_tls_only_this_machine_can_connect() {
    assert_eq!(addresses(r#""addr": ":8080""#), "127.0.0.1:8080 [::1]:8080");
    assert_eq!(addresses(""), "127.0.0.1:8080 [::1]:8080");
    assert_eq!(
        addresses(r#""addr": ":80", "allowPlainHttp": true, "allowedHosts": ["*"]"#),
        "0.0.0.0:80 [::]:80"
    );
    let tls = r#""tls": {"selfSigned": true}, "baseUrl": "https://gate.example""#;
    assert_eq!(addresses(tls), "0.0.0.0:8443 [::]:8443");
    assert!(with_proxy(r#""addr": "192.0.2.1:8080", "allowedHosts": ["*"]"#).snapshot.is_none());
}

#[test]
fn the_base_url_says_under_which_names_the_gate_is_called() {
    let tls = r#""tls": {"selfSigned": true}, "baseUrl": "https://Gate.Example:8443/""#;
    let snapshot = good(with_proxy(tls));
    assert_eq!(hosts(&snapshot), ["gate.example"]);
    assert_eq!(snapshot.allowed_origins, ["https://gate.example:8443"]);
    assert!(!snapshot.loopback_origins);
    let Some(Tls::SelfSigned { names, .. }) = snapshot.tls else { panic!("{:?}", snapshot.tls) };
    assert_eq!(names, ["gate.example", "localhost", "127.0.0.1", "::1"]);

    let local = good(with_proxy(r#""baseURL": "http://localhost:8080""#));
    assert_eq!(hosts(&local), ["localhost", "127.0.0.1", "::1"]);
    let listed =
        good(with_proxy(r#""baseUrl": "http://localhost:8080", "allowedHosts": ["gate.example:80"]"#));
    assert_eq!(listed.allowed_hosts, [HostPattern { host: "gate.example".into(), port: Some(80) }]);
}

#[test]
fn tokens_come_in_all_forms_and_only_their_hashes_stay() {
    let hash = Sha256::digest("hashed-token").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let config = format!(
        r#"{{"proxy": {{"auth": {{"kind": "bearer_token", "tokens": {{
            "plain": "token-in-the-config",
            "default": "$env:UNSET|token-from-default",
            "var": {{"$env": "TOKEN"}},
            "hash": {{"sha256": "{hash}", "id": "2099-01", "expires": "2099-01-31T00:00:00Z", "roles": ["admin"], "tags": ["web"]}},
            "list": ["${{TOKEN}}-new", {{"$file": "old.token"}}, {{"value": "env:OTHER", "roles": ["x"]}}]
        }}}}}}, "mcpServers": {{"a": {{"url": "http://a/mcp"}}}}}}"#
    );
    let place = Place::new().var("TOKEN", "token-from-variable").var("OTHER", "token-from-another");
    let loaded = place.file("old.token", "token-from-file\r\n").load(&config);
    assert!(said(&loaded).contains("tokens.default: warning: opens with the default"), "{}", said(&loaded));
    assert!(!said(&loaded).contains("token-from"), "{}", said(&loaded));

    let snapshot = good(loaded);
    let found: Vec<_> = snapshot
        .credentials
        .iter()
        .map(|held| (&*held.token_name, held.id.as_deref(), held.digest))
        .collect();
    let expected = [
        ("plain", None, "token-in-the-config"),
        ("default", None, "token-from-default"),
        ("var", None, "token-from-variable"),
        ("hash", Some("2099-01"), "hashed-token"),
        ("list", None, "token-from-variable-new"),
        ("list", None, "token-from-file"),
        ("list", None, "token-from-another"),
    ];
    let digest = |(name, id, token): (&'static str, Option<&'static str>, &str)| {
        (name, id, <[u8; 32]>::from(Sha256::digest(token)))
    };
    assert_eq!(found, expected.map(digest));
    let hashed = &snapshot.credentials[3];
    assert_eq!(hashed.expires, humantime::parse_rfc3339("2099-01-31T00:00:00Z").ok());
    assert_eq!(hashed.roles, ["admin"]);
}

#[test]
fn a_credential_whose_expiry_cannot_be_read_never_opens() {
    let loaded = with_proxy(
        r#""auth": {"tokens": {"a": {"value": "a-token-that-is-long-enough", "expires": "2099-01-31"}}}"#,
    );
    assert!(loaded.snapshot.is_none());
    assert!(said(&loaded).contains("tokens.a.expires: is no date and time"), "{}", said(&loaded));
}

#[test]
fn the_transport_follows_from_the_url_unless_it_is_named() {
    let transport = |server: &str| match with_server(server).target {
        Target::Http(http) => http.transport,
        other => panic!("{other:?}"),
    };
    for (server, expected) in [
        (r#""url": "http://h/mcp""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/sse""#, McpTransport::Sse),
        (r#""url": "http://h/v1/sse/?key=1""#, McpTransport::Sse),
        (r#""url": "http://h/assess""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/sse", "transportType": "streamable-http""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/sse", "type": "http""#, McpTransport::StreamableHttp),
        (r#""url": "http://h/mcp", "transportType": "sse""#, McpTransport::Sse),
    ] {
        assert_eq!(transport(server), expected, "{server}");
    }
}

#[test]
fn headers_for_the_upstream_are_resolved_and_marked_as_secret() {
    let server =
        with_server(r#""url": "http://h", "timeout": 1.5, "headers": {"Authorization": "Bearer ${KEY}"}"#);
    assert_eq!(server.timeout, Some(Duration::from_millis(1500)));
    let Target::Http(http) = server.target else { panic!("{server:?}") };
    let (name, value) = &http.headers[0];
    assert_eq!((name.as_str(), value.to_str().ok()), ("authorization", Some("Bearer k1")));
    assert!(value.is_sensitive());
}

#[test]
fn a_command_gets_its_arguments_and_environment() {
    let server =
        with_server(r#""command": "node", "args": ["a.js", "${KEY}"], "env": {"K": "$env:KEY"}, "cwd": ".""#);
    let Target::Stdio(stdio) = server.target else { panic!("{server:?}") };
    assert_eq!(stdio.command, "node");
    assert_eq!(stdio.args.iter().map(|arg| arg.expose()).collect::<Vec<_>>(), ["a.js", "k1"]);
    assert_eq!(stdio.env[0].1.expose(), "k1");
    assert!(stdio.inherit_env.contains(&"PATH".to_owned()));
    assert!(
        stdio.cwd.is_some_and(|cwd| cwd.is_absolute()),
        "relative to the config, not to where the gateway was started"
    );
}

/// The tools of a server whose `inline.tools` are `tools`.
fn inline_tools(tools: &str) -> Vec<InlineTool> {
    let server = with_server(&format!(r#""inline": {{"tools": [{tools}]}}"#));
    match server.target {
        Target::Inline(inline) => inline.tools,
        other => panic!("{other:?}"),
    }
}

/// The arguments of the first tool, with what callers give in angle brackets.
fn templates(tools: &[InlineTool]) -> Vec<String> {
    let shown = |piece: &Piece| match piece {
        Piece::Text(text) => text.expose().to_owned(),
        Piece::Argument(name) => format!("<{name}>"),
    };
    tools[0].args.iter().map(|pieces| pieces.iter().map(shown).collect()).collect()
}

#[test]
fn inline_tools_have_their_commands_and_what_callers_may_give() {
    let server = with_server(
        r#""transportType": "inline", "inline": {"description": "Things", "tools": [
            {"name": "say", "description": "Says it", "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}},
             "command": "echo", "args": ["--", "{{a}}"], "env": {"K": {"$env": "KEY"}}, "timeout": "2s"},
            {"name": "plain", "command": "true"}
        ]}"#,
    );
    let Target::Inline(inline) = server.target else { panic!("{server:?}") };
    assert_eq!(inline.description.as_deref(), Some("Things"));
    let [say, plain] = inline.tools.as_slice() else { panic!("{inline:?}") };
    assert_eq!((&*say.name, say.description.as_deref(), &*say.command), ("say", Some("Says it"), "echo"));
    assert_eq!(say.env[0].1.expose(), "k1");
    assert_eq!(say.timeout, Duration::from_secs(2));
    assert_eq!(plain.timeout, Duration::from_secs(30));
    assert!(plain.input_schema.check(&serde_json::json!({})).is_ok());
    assert!(
        plain.input_schema.check(&serde_json::json!({ "a": 1 })).is_err(),
        "no arguments unless a schema says so"
    );
}

#[test]
fn braces_stand_for_properties_and_for_nothing_else() {
    let tools = inline_tools(
        r#"{"name": "t", "command": "c",
            "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}, "n-1": {"type": "integer"}}},
            "args": ["--a={{a}}", "x{{ a }}y{{n-1}}", "{{n-1}}", "{{.Names}}", "{{json .}}", "{{", "{\"k\":{{n-1}}}", "", "$${KEY}", "${KEY}"]}"#,
    );
    let wanted = [
        "--a=<a>",
        "x<a>y<n-1>",
        "<n-1>",
        "{{.Names}}",
        "{{json .}}",
        "{{",
        "{\"k\":<n-1>}",
        "",
        "${KEY}",
        "k1",
    ];
    assert_eq!(templates(&tools), wanted);
}

#[test]
fn a_value_that_could_be_taken_for_an_option_is_told() {
    let warned = |property: &str, args: &str| {
        let loaded = Place::new().load(&format!(
            r#"{{"mcpServers": {{"it": {{"public": true, "inline": {{"tools": [{{"name": "t", "command": "c",
                "inputSchema": {{"type": "object", "properties": {{"a": {property}}}}}, "args": {args}}}]}}}}}}}}"#
        ));
        let said = said(&loaded);
        good(loaded);
        said.contains("begins with - may set an option")
    };
    let text = r#"{"type": "string"}"#;
    assert!(warned(text, r#"["{{a}}"]"#));
    assert!(warned("{}", r#"["x", "{{a}}.txt"]"#));
    for (property, args) in [
        (text, r#"["--", "{{a}}"]"#),
        (text, r#"["--name={{a}}"]"#),
        (r#"{"type": "integer"}"#, r#"["{{a}}"]"#),
        (r#"{"type": "string", "pattern": "^[a-z]+$"}"#, r#"["{{a}}"]"#),
        (r#"{"enum": ["x", "y"]}"#, r#"["{{a}}"]"#),
    ] {
        assert!(!warned(property, args), "{property} {args}");
    }
}

#[test]
fn all_servers_as_one_are_named_as_the_config_says() {
    let aggregate = |json: &str| good(with_proxy(&format!(r#""aggregate": {{{json}}}"#))).aggregate;
    let prefixed = |separator: &str| Naming::Prefixed { separator: separator.into() };
    assert_eq!(aggregate(""), Aggregate::default());
    for separator in ["__", ".", "_1mcp_", "/", "-"] {
        assert_eq!(aggregate(&format!(r#""separator": "{separator}""#)).naming, prefixed(separator));
    }
    for separator in ["", "a b", ":", "é", "12345678901234567"] {
        assert!(
            with_proxy(&format!(r#""aggregate": {{"separator": "{separator}"}}"#)).snapshot.is_none(),
            "{separator}"
        );
    }
    let flat = |on_collision| Naming::Flat { on_collision, separator: "__".into() };
    assert_eq!(aggregate(r#""mode": "flat""#).naming, flat(Collision::Error));
    assert_eq!(aggregate(r#""mode": "flat", "onCollision": "first""#).naming, flat(Collision::First));
    assert_eq!(aggregate(r#""mode": "flat", "onCollision": "prefix""#).naming, flat(Collision::Prefix));
    let lazy = aggregate(r#""mode": "prefixed", "lazy": true, "discoveryTimeout": "250ms""#);
    assert_eq!(
        (lazy.naming, lazy.lazy, lazy.discovery_timeout),
        (prefixed("__"), true, Duration::from_millis(250))
    );
}

#[test]
fn sessions_end_when_their_server_says_or_when_all_do() {
    let config = |proxy: &str| {
        let servers = r#""a": {"url": "http://h"}, "b": {"command": "c", "idleTimeout": "1h"}"#;
        let config = format!(r#"{{"proxy": {{{proxy}}}, "mcpServers": {{{servers}}}}}"#);
        good(Place::new().load(&config))
            .servers
            .iter()
            .map(|server| server.idle_timeout.as_secs())
            .collect::<Vec<_>>()
    };
    assert_eq!(config(""), [300, 3600]);
    assert_eq!(config(r#""sessions": {"timeout": "90s"}"#), [90, 3600]);
    assert_eq!(
        config(r#""sessions": {"timeout": "10m", "cleanupInterval": "1m", "maxPerUser": 10}"#),
        [600, 3600]
    );
}

#[test]
fn access_says_who_may_use_a_server() {
    let config = r#"{"proxy": {"auth": {"tokens": {"a": "token-number-one-a", "b": "token-number-two-b"}}}, "mcpServers": {
        "any": {"url": "http://h"},
        "public": {"url": "http://h", "public": true},
        "one": {"url": "http://h", "authTokens": ["b"]},
        "option": {"url": "http://h", "options": {"authTokens": ["a"]}},
        "nobody": {"url": "http://h", "authTokens": []},
        "role": {"url": "http://h", "roles": ["x"]},
        "no-role": {"url": "http://h", "roles": []},
        "neither": {"url": "http://h", "authTokens": ["a"], "roles": []}
    }}"#;
    let only = |tokens: Option<&[&str]>, roles: Option<&[&str]>| Access::Only {
        tokens: tokens.map(|names| names.iter().map(|&name| name.into()).collect()),
        roles: roles.map(|roles| roles.iter().map(|&role| role.to_owned()).collect()),
    };
    let snapshot = good(Place::new().load(config));
    let found: Vec<_> = snapshot.servers.into_iter().map(|server| server.access).collect();
    let expected = vec![
        Access::AnyToken,
        Access::Public,
        only(Some(&["b"]), None),
        only(Some(&["a"]), None),
        only(Some(&[]), None),
        only(None, Some(&["x"])),
        only(None, Some(&[])),
        only(Some(&["a"]), Some(&[])),
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_files_are_known_even_if_the_config_is_bad() {
    let loaded = Place::new().load(
        r#"{"proxy": {"tls": {"cert": "c.pem", "key": "k.pem"}, "auth": {"tokens": {"a": {"$file": "t"}}}},
            "mcpServers": {"a": {"url": "https://h", "caFile": "ca.pem"}}}"#,
    );
    assert!(loaded.snapshot.is_none());
    let names: Vec<_> = loaded.files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    for name in ["gate.json", "c.pem", "k.pem", "t", "ca.pem"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert_eq!(names[0], "gate.json");
    assert_eq!(load(Path::new("nowhere.json"), &|_| None).files, [Path::new("nowhere.json")]);
}

#[test]
fn a_certificate_is_judged_by_the_clock() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["gate.example".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2031, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    let place = Place::new().file("c.pem", &certificate.pem()).file("k.pem", &key.serialize_pem()).file(
        "gate.json",
        r#"{"proxy": {"addr": "127.0.0.1:0", "tls": {"cert": "c.pem", "key": "k.pem"}}, "mcpServers": {}}"#,
    );
    let path = place.directory.path().join("gate.json");
    let at = |date: &str| load_at(&path, &|_| None, humantime::parse_rfc3339(date).expect("a date"));

    for (date, said_of_it) in [
        ("2029-12-31T23:59:59Z", "warning: the certificate is not valid before 2030-01-01T00:00:00Z"),
        ("2030-06-01T00:00:00Z", ""),
        ("2031-01-01T00:00:01Z", "warning: the certificate expired on 2031-01-01T00:00:00Z"),
    ] {
        let loaded = at(date);
        assert!(said(&loaded).contains(said_of_it), "{date}: {}", said(&loaded));
        assert!(loaded.is_whole() && matches!(good(loaded).tls, Some(Tls::Files(Some(_)))), "{date}");
    }
}

#[test]
fn the_state_is_where_the_config_or_systemd_says_or_beside_the_config() {
    let directory_of = |place: Place, key: &str| {
        let root = place.directory.path().to_owned();
        let loaded = place.load(&format!(
            r#"{{"proxy": {{"addr": "127.0.0.1:0", "tls": {{"selfSigned": true}}{key}}}, "mcpServers": {{}}}}"#
        ));
        let Some(Tls::SelfSigned { state_dir, .. }) = good(loaded).tls else { panic!() };
        assert!(!root.join("state").exists(), "to check a config writes nothing");
        state_dir.strip_prefix(&root).map(Path::to_owned).unwrap_or(state_dir)
    };
    assert_eq!(directory_of(Place::new(), ""), Path::new("state"));
    assert_eq!(directory_of(Place::new(), r#", "stateDir": "here/it""#), Path::new("here/it"));
    assert_eq!(directory_of(Place::new(), r#", "stateDir": "/var/lib/it""#), Path::new("/var/lib/it"));
    let systemd = || Place::new().var("STATE_DIRECTORY", "/var/lib/a:/var/lib/b");
    assert_eq!(directory_of(systemd(), ""), Path::new("/var/lib/a"));
    assert_eq!(directory_of(systemd(), r#", "stateDir": "x""#), Path::new("x"));
}

#[test]
fn a_certificate_that_ends_soon_is_told() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["gate.example".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 4, 11);
    let certificate = params.self_signed(&key).expect("a certificate");
    let place = Place::new().file("c.pem", &certificate.pem()).file("k.pem", &key.serialize_pem()).file(
        "gate.json",
        r#"{"proxy": {"addr": "127.0.0.1:0", "tls": {"cert": "c.pem", "key": "k.pem"}}, "mcpServers": {}}"#,
    );
    let path = place.directory.path().join("gate.json");
    let warned = |date: &str| {
        let now = humantime::parse_rfc3339(date).expect("a date");
        said(&load_at(&path, &|_| None, now))
            .contains("less than a tenth of the certificate's lifetime is left")
    };
    assert!(!warned("2030-03-31T00:00:00Z"));
    assert!(warned("2030-04-02T00:00:00Z"));
}

#[test]
fn a_certificate_for_other_names_than_those_of_the_gate_is_told() {
    let told = |names: &[&str], url: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let place = Place::new().file("c.pem", &certificate.pem()).file("k.pem", &key.serialize_pem());
        let config = format!(
            r#"{{"proxy": {{"addr": "127.0.0.1:0", "baseUrl": "{url}", "tls": {{"cert": "c.pem", "key": "k.pem"}}}}, "mcpServers": {{}}}}"#
        );
        let said = said(&place.load(&config));
        said.lines().find(|line| line.contains("the certificate is not for")).map(str::to_owned)
    };
    for (names, url) in [
        (&["gate.example"][..], "https://Gate.Example:8443"),
        (&["other.example", "*.example"], "https://gate.example"),
        (&["127.0.0.1"], "https://127.0.0.1:8443"),
        (&["::1"], "https://[::1]:8443"),
    ] {
        assert_eq!(told(names, url), None, "{names:?} {url}");
    }
    for (names, url) in [
        (&["gate.example"][..], "https://mcp.gate.example"),
        (&["*.example"], "https://a.gate.example"),
        (&["*.gate.example"], "https://gate.example"),
        (&["127.0.0.1"], "https://127.0.0.2"),
        (&["gate.example"], "https://127.0.0.1"),
    ] {
        assert!(told(names, url).is_some_and(|line| line.contains(names[0])), "{names:?} {url}");
    }
    assert!(told(&[], "https://gate.example").is_some_and(|line| line.contains("none at all")));
}

#[test]
fn a_key_file_given_as_its_contents_is_not_shown() {
    let place = Place::new().var("KEY", "-----BEGIN PRIVATE KEY-----\nCANARY\n");
    let loaded = place
        .load(r#"{"proxy": {"tls": {"cert": {"$file": "k.pem"}, "key": "$env:KEY"}}, "mcpServers": {}}"#);
    let said = said(&loaded);
    assert!(
        said.contains("tls.key: is not a path") && said.contains("tls.cert: needs a path here"),
        "{said}"
    );
    assert!(!said.contains("CANARY"), "{said}");
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    good(Place::new().load("\u{feff}{\"mcpServers\": {}}"));
}

#[test]
fn a_secret_in_a_config_that_all_may_read_is_told_once() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new().file(
        "gate.json",
        r#"{"proxy": {"auth": {"tokens": {"a": "token-number-one-a", "b": "token-number-two-b"}}}, "mcpServers": {}}"#,
    );
    let path = place.directory.path().join("gate.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let said = said(&load_at(&path, &|_| None, SystemTime::now()));
    assert_eq!(said.matches("may read this secret; run `chmod o-rwx").count(), 1, "{said}");
}

#[test]
fn every_example_loads() {
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("examples exist")
    {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["mcp.example.com".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let place = Place::new()
            .file("cert.pem", &certificate)
            .file("ca.pem", &certificate)
            .file("key.pem", &key.serialize_pem())
            .file("alice.token", "token-number-one-of-alice\n")
            .var("MY_TOKEN", "token-of-mine-and-mine-alone")
            .var("TEAM_TOKEN", "token-of-the-team-alone")
            .var("OPS_TOKEN", "token-of-operations-alone")
            .var("DB_API_KEY", "key-of-the-database")
            .var("SESSION_KEY", "0123456789abcdef0123456789abcdef");
        let loaded = place.load(&std::fs::read_to_string(&path).expect("readable"));
        assert!(loaded.snapshot.is_some(), "{}: {}", path.display(), said(&loaded));
        let warned = loaded.problems.iter().filter(|problem| problem.severity == Severity::Warning);
        assert!(
            warned.clone().all(|problem| {
                // What is not installed here.
                problem.message.contains("default") || problem.message.contains("is not found in the `PATH`")
            }),
            "{:#?}",
            warned.collect::<Vec<_>>()
        );
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} examples were found");
}

#[test]
fn a_disabled_server_is_read_and_marked() {
    assert!(with_server(r#""url": "http://h", "disabled": true"#).disabled);
    assert!(!with_server(r#""url": "http://h", "disabled": false"#).disabled);
}

#[test]
fn a_query_passes_unless_the_url_has_one_and_the_config_can_say_otherwise() {
    let passes = |server: &str| match with_server(server).target {
        Target::Http(target) => (target.pass_query, target.cookies),
        other => panic!("{other:?}"),
    };
    assert_eq!(passes(r#""url": "http://h/mcp""#), (true, false));
    assert_eq!(passes(r#""url": "http://h/mcp?a=1""#), (false, false));
    assert_eq!(passes(r#""url": "http://h/mcp?""#), (false, false));
    assert_eq!(passes(r#""url": "http://h/mcp?a=1", "passQuery": true, "cookies": true"#), (true, true));
    assert_eq!(passes(r#""url": "http://h/mcp", "passQuery": false"#), (false, false));
    for (said, wanted) in [
        ("", None),
        (r#", "passLastEventId": true"#, Some(true)),
        (r#", "passLastEventId": false"#, Some(false)),
    ] {
        let Target::Http(target) = with_server(&format!(r#""url": "http://h/mcp"{said}"#)).target else {
            panic!()
        };
        assert_eq!(target.pass_last_event_id, wanted, "{said}");
    }
    let said = said(
        &Place::new().load(r#"{"mcpServers": {"it": {"command": "x", "passQuery": true, "cookies": true}}}"#),
    );
    assert!(
        said.contains("passQuery: has no effect") || said.contains("passQuery: notice: has no effect"),
        "{said}"
    );
}

#[test]
fn a_header_that_the_gate_sets_cannot_be_set_in_another_spelling() {
    for name in ["Host", "Content_Length", "mcp_session_id", "Mcp.Name", "last_event-id"] {
        let server =
            format!(r#"{{"mcpServers": {{"it": {{"url": "http://h", "headers": {{"{name}": "x"}}}}}}}}"#);
        let loaded = Place::new().load(&server);
        assert!(said(&loaded).contains("is set by the gateway"), "{name}: {}", said(&loaded));
    }
}

#[test]
fn a_tool_filter_allows_or_blocks_the_tools_on_its_list() {
    let filter = |filter: &str| format!(r#""url": "http://h", "options": {{"toolFilter": {filter}}}"#);
    let allow = with_server(&filter(r#"{"mode": "allow", "list": ["read", "find"]}"#)).tool_filter;
    let allow = allow.expect("a filter");
    assert!(allow.passes("read") && !allow.passes("drop") && !allow.passes("Read"));
    let block = with_server(&filter(r#"{"mode": "block", "list": ["drop"]}"#)).tool_filter;
    let block = block.expect("a filter");
    assert!(block.passes("read") && !block.passes("drop"));
    assert!(with_server(r#""url": "http://h", "options": {}"#).tool_filter.is_none());

    for (bad, place, message) in [
        (r#"{"list": []}"#, "toolFilter", "needs a `mode`"),
        (r#"{"mode": "allow"}"#, "toolFilter", "a `list` of names"),
        (r#"{"mode": "deny", "list": []}"#, "toolFilter.mode", "\"deny\" is no mode"),
        (r#"{"mode": "allow", "list": "read"}"#, "toolFilter.list", "must be a list"),
        (r#"{"mode": "allow", "list": [""]}"#, "toolFilter.list[0]", "is no name of a tool"),
        (r#"{"mode": "allow", "lst": []}"#, "toolFilter.lst", "did you mean `list`?"),
    ] {
        let loaded = Place::new().load(&format!(r#"{{"mcpServers": {{"it": {{{}}}}}}}"#, filter(bad)));
        assert!(loaded.snapshot.is_none(), "{bad}");
        let problem = &loaded.problems[0];
        assert!(problem.key_path.ends_with(place), "{bad}: {problem:?}");
        assert!(problem.message.contains(message), "{bad}: {problem:?}");
    }
    let open = Place::new()
        .load(&format!(r#"{{"mcpServers": {{"it": {{{}}}}}}}"#, filter(r#"{"mode": "allow", "list": []}"#)));
    assert!(said(&open).contains("hides every tool"), "{}", said(&open));
}
