//! Tokens, and who may use a server.

use super::*;

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
fn a_secret_in_a_config_that_all_may_read_is_warned_of_once() {
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
