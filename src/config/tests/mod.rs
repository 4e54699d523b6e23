//! What a config means, shown by loading one.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod gateway;
mod idp;
mod inline;
mod issuers;
mod servers;
mod tls;
mod tokens;
mod upstream_auth;

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, SystemTime},
};

use http::HeaderName;
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

/// `proxy.aggregate` of a config that has none.
fn default_aggregate() -> Aggregate {
    let naming = Naming::Prefixed { separator: "__".into() };
    Aggregate { naming, lazy: false, discovery_timeout: Duration::from_secs(5) }
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
    assert_eq!(snapshot.aggregate, default_aggregate());
    assert_eq!(snapshot.log, LogConfig { level: Level::Info, format: None });
    assert!((1..=10_000).contains(&snapshot.limits.max_connections));
    assert!(snapshot.workers >= 1);
    assert!(snapshot.credentials.is_empty() && snapshot.schemes == Schemes::default());
    assert_eq!(hosts(&snapshot), ["localhost", "127.0.0.1", "::1"]);
    assert!(snapshot.loopback_origins);
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
fn a_byte_order_mark_is_no_mistake() {
    good(Place::new().load("\u{feff}{\"mcpServers\": {}}"));
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
            .var("IDP_SECRET", "secret-at-the-provider")
            .var("JWT_SECRET", "fedcba9876543210fedcba9876543210")
            .var("INTROSPECTION_SECRET", "secret-of-the-gateway")
            .var("GITHUB_SECRET", "secret-at-github-of-the-gateway")
            .var("ENCRYPTION_KEY", "89abcdef0123456789abcdef01234567")
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
