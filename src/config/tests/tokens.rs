//! Tokens, and who may use a server.

use super::*;
use crate::config::ClientProof;

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
    assert_eq!(hashed.limits, CallerLimits { servers: None, tags: Some(vec!["web".into()]) });
    assert_eq!(snapshot.credentials[6].limits, CallerLimits::ALL);
}

#[test]
fn users_are_read_with_what_they_may_and_a_file_that_is_lost_closes_one_alone() {
    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
    let config = format!(
        r#"{{"proxy": {{"auth": {{"users": {{
            "alice": {{"passwordHash": "{HASH}", "roles": ["dev"], "servers": ["a"], "tags": []}},
            "bob": {{"passwordHash": {{"$file": "bob.hash"}}, "disabled": true}},
            "eve": {{"passwordHash": {{"$file": "none.hash"}}}}
        }}}}}}, "mcpServers": {{"a": {{"url": "http://a/mcp", "users": ["alice", "eve"]}}}}}}"#
    );
    let loaded = Place::new().file("bob.hash", &format!("{HASH}\n")).load(&config);
    assert!(!said(&loaded).contains("c2FsdHNhbHQ"), "{}", said(&loaded));
    let remaining = loaded.remaining.as_ref().map(|remaining| remaining.users.len());
    let snapshot = good(loaded);
    let found: Vec<_> = snapshot.users.iter().map(|user| (&*user.name, user.disabled)).collect();
    assert_eq!((found, remaining), (vec![("alice", false), ("bob", true)], Some(2)));
    let alice = &snapshot.users[0];
    assert_eq!((alice.password_hash.expose(), &*alice.roles), (HASH, &["dev".to_owned()][..]));
    assert_eq!(alice.limits, CallerLimits { servers: Some(vec!["a".into()]), tags: Some(Vec::new()) });
    assert_eq!(snapshot.users[1].password_hash.expose(), HASH);
    let users = Some(vec!["alice".into(), "eve".into()]);
    assert_eq!(snapshot.servers[0].access, Access::Only { tokens: None, users, roles: None });
    assert!(!format!("{snapshot:?}").contains("c2FsdHNhbHQ"), "a hash is not shown");
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
        users: None,
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

#[test]
fn a_token_is_presented_in_the_ways_that_are_listed() {
    let schemes = |auth: &str| good(with_proxy(&format!(r#""auth": {{{auth}}}"#))).schemes;
    assert_eq!(schemes(""), Schemes { bearer: true, ..Schemes::NONE });
    assert_eq!(schemes(r#""schemes": [], "queryToken": true"#), Schemes { query: true, ..Schemes::NONE });
    assert_eq!(
        schemes(r#""schemes": ["Basic", "basic", "X-Api-Key"]"#),
        Schemes { basic: true, x_api_key: true, ..Schemes::NONE }
    );
    let all =
        schemes(r#""schemes": ["bearer", "basic", "apikey", "x-api-key", "cookie"], "queryToken": true"#);
    assert_eq!(all, Schemes::ALL);
}

#[test]
fn schemes_that_do_not_do_what_is_meant_are_told_of() {
    for (auth, told) in [
        (r#""schemes": ["digest"]"#, r#"schemes[0]: "digest" is no scheme; use "bearer", "basic", "apikey""#),
        (r#""schemes": []"#, "schemes: warning: is empty, so no request can present a token"),
        (
            r#""schemes": ["cookie"], "tokens": {"a": "token-number-one-a"}"#,
            "schemes: warning: lacks \"bearer\"",
        ),
        (
            r#""schemes": ["bearer", "basic"], "tokens": {"a:b": "token-number-one-a"}"#,
            "schemes: warning: has \"basic\", by which no token with a `:` in its name",
        ),
        (
            r#""schemes": ["bearer", "cookie"]}, "allowedOrigins": ["*"], "log": {"#,
            "allowedOrigins: is \"*\" while",
        ),
        (r#""kind": "basic""#, "is a scheme and no kind; use \"bearer_token\""),
    ] {
        let said = said(&with_proxy(&format!(r#""auth": {{{auth}}}"#)));
        assert!(said.contains(told), "{auth}: {said}");
    }
    let fine = r#""auth": {"schemes": ["bearer", "basic", "apikey"], "tokens": {"a": "token-number-one-a"}}"#;
    let said = said(&with_proxy(fine));
    assert!(!said.contains("schemes"), "{said}");
}

#[test]
fn a_scheme_is_taken_out_only_if_it_is_certain_that_it_is_off() {
    let remaining = |auth: &str| {
        let loaded = with_proxy(&format!(r#""unheardOf": 1, "auth": {{{auth}}}"#));
        assert!(loaded.snapshot.is_none());
        loaded.remaining.map(|remaining| remaining.schemes)
    };
    let (bearer, every) = (Schemes::default(), Schemes { query: false, ..Schemes::ALL });
    assert_eq!(remaining(""), Some(bearer));
    assert_eq!(remaining(r#""schemes": ["apikey"]"#), Some(Schemes { api_key: true, ..Schemes::NONE }));
    assert_eq!(remaining(r#""schemes": ["apikey", "digest"]"#), Some(every));
    assert_eq!(remaining(r#""schemes": "apikey""#), Some(every));
}

#[test]
fn tenants_have_tokens_of_their_own() {
    let snapshot = good(with_proxy(
        r#""auth": {"tokens": {"a": "token-number-one-a"}, "tenants": {"header": "X-Customer", "tokens": {
            "a": [{"value": "tenant-number-one", "roles": ["x"]}, "tenant-number-two"]
        }}}"#,
    ));
    assert_eq!(snapshot.tenant_header.as_ref().map(HeaderName::as_str), Some("x-customer"));
    let found: Vec<_> =
        snapshot.credentials.iter().map(|held| (&*held.token_name, held.is_tenant, held.label())).collect();
    let tenant = ("a", true, "tenant:a".into());
    assert_eq!(found, [("a", false, "a".into()), tenant.clone(), tenant]);
    let named = good(with_proxy(r#""auth": {"tenants": {"tokens": {"a": "tenant-number-one"}}}"#));
    assert_eq!(named.tenant_header.as_ref().map(HeaderName::as_str), Some("x-tenant-token"));
    assert_eq!(good(with_proxy(r#""auth": {}"#)).tenant_header, None);
}

#[test]
fn tenants_that_would_not_work_are_told_of() {
    for (auth, told) in [
        (r#""tenants": {}"#, "tenants: warning: has no `tokens`, so there is no tenant"),
        (
            r#""tenants": {"header": "X_Tenant", "tokens": {}}"#,
            "header: has to be 1 to 64 letters, digits or `-`",
        ),
        (
            r#""tenants": {"header": "Authorization", "tokens": {}}"#,
            "header: is a field with a meaning of its own",
        ),
        (
            r#""tenants": {"header": "mcp-name", "tokens": {}}"#,
            "header: is a field with a meaning of its own",
        ),
        (
            r#""tokens": {"a": "token-number-one-a"}, "tenants": {"tokens": {"b": "token-number-one-a"}}"#,
            r#"tokens.b: is the same token as "a" has; give each tenant a token that nobody else has"#,
        ),
        (r#""tenants": {"tokens": 1}"#, "tokens: must be an object with a name for each tenant"),
    ] {
        let said = said(&with_proxy(&format!(r#""auth": {{{auth}}}"#)));
        assert!(said.contains(told), "{auth}: {said}");
    }
    let config = r#"{"proxy": {"auth": {"tokens": {}, "tenants": {"tokens": {"acme": "tenant-number-one"}}}},
        "mcpServers": {"a": {"url": "http://h", "authTokens": ["acme"]}}}"#;
    let loaded = Place::new().load(config);
    assert!(loaded.snapshot.is_none(), "`authTokens` lists no tenants: {}", said(&loaded));
}

#[test]
fn with_oauth_each_key_has_its_default_and_the_issuer_is_what_is_written() {
    let of = |base: &str, more: &str| {
        let config = format!(
            r#"{{"proxy": {{"baseUrl": "{base}", "auth": {{"kind": "oauth", "tokens": {{"ci": "token-of-ci-alone"}}{more}}}}},
            "mcpServers": {{"a": {{"url": "http://a/mcp"}}}}}}"#
        );
        good(Place::new().load(&config)).oauth.expect("OAuth is on")
    };
    let plain = of("HTTPS://Gate.Example:443/", "");
    assert_eq!((&*plain.base, &*plain.issuer), ("HTTPS://Gate.Example:443", "HTTPS://Gate.Example:443"));
    assert_eq!((plain.token_ttl.as_secs(), plain.refresh_token_ttl.as_secs()), (3600, 720 * 3600));
    assert_eq!((plain.refresh_reuse_grace.as_secs(), &plain.registration), (120, &Registration::Open));
    assert_eq!(plain.redirect_schemes, ["cursor", "vscode", "vscode-insiders"]);
    assert_eq!((plain.scope_tags, plain.offers_tags, plain.advertise_tags), (ScopeTags::All, true, false));
    assert!(!plain.require_resource && plain.clients.is_empty() && plain.refresh_token_scopes.is_empty());

    let hash = "0a".repeat(32);
    let clients = format!(
        r#", "issuer": "https://gate.example/", "registration": ["Claude.ai", "a.example:8443", "b.example:443"], "scopeTags": "ANY",
        "clients": {{"ops": {{"secretSha256": "{hash}", "roles": ["admin"], "redirectUris": ["http://127.0.0.1/callback"]}}}}"#
    );
    let set = of("https://gate.example", &clients);
    assert_eq!((&*set.base, &*set.issuer), ("https://gate.example", "https://gate.example/"));
    assert_eq!(
        (&set.registration, set.scope_tags),
        (
            &Registration::Hosts(vec!["claude.ai".into(), "a.example:8443".into(), "b.example".into()]),
            ScopeTags::Any
        )
    );
    let ops = set.client("ops").expect("is there");
    assert_eq!((&ops.proof, &*ops.roles), (&ClientProof::Secret([10; 32]), &["admin".to_owned()][..]));
    assert_eq!(*ops.redirect_uris, ["http://127.0.0.1/callback".into()]);
    assert!(set.client("none").is_none());
}

#[test]
fn without_oauth_its_keys_are_read_and_mean_nothing() {
    let loaded = with_proxy(r#""auth": {"tokens": {"ci": "token-of-ci-alone"}, "tokenTtl": "5m"}"#);
    assert!(said(&loaded).contains("auth.tokenTtl: notice: has no effect without"), "{}", said(&loaded));
    assert!(good(loaded).oauth.is_none());
}
