//! `proxy`: where the gateway listens, what it is called, what it keeps.

use super::*;

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
fn the_base_url_says_under_which_names_the_gateway_is_called() {
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
fn all_servers_as_one_are_named_as_the_config_says() {
    let aggregate = |json: &str| good(with_proxy(&format!(r#""aggregate": {{{json}}}"#))).aggregate;
    let prefixed = |separator: &str| Naming::Prefixed { separator: separator.into() };
    assert_eq!(aggregate(""), default_aggregate());
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
fn the_state_is_where_the_config_or_systemd_says_or_beside_the_config() {
    let directory_of = |place: Place, key: &str| {
        let root = place.directory.path().to_owned();
        let loaded = place.load(&format!(
            r#"{{"proxy": {{"addr": "127.0.0.1:0", "tls": {{"selfSigned": true}}{key}}}, "mcpServers": {{}}}}"#
        ));
        let state_dir = good(loaded).state_dir;
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
