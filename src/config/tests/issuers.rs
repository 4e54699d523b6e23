//! Tokens of others: whose are taken, and what those who come with them are given.

use jsonwebtoken::Algorithm;

use super::*;

fn with_issuers(issuers: &str, more: &str) -> Loaded {
    with_proxy(&format!(
        r#""baseUrl": "https://mcp.example", "auth": {{"tokens": {{"ci": "token-of-ci-alone"}}, "issuers": {{{issuers}}}{more}}}"#
    ))
}

#[test]
fn an_issuer_has_a_default_for_all_but_its_url() {
    let snapshot = good(with_issuers(r#""corp": {"issuer": "https://login.corp.example/"}"#, ""));
    let expected = Issuer {
        name: "corp".into(),
        issuer: "https://login.corp.example/".into(),
        jwks_url: None,
        audiences: Vec::new(),
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        types: vec!["at+jwt".into()],
        principal_claim: "sub".into(),
        scope_claim: Some("scope".into()),
        tenant_id: None,
        leeway: Duration::from_secs(30),
        stream_grace: Duration::ZERO,
        introspection: None,
    };
    assert_eq!(snapshot.issuers.iter().map(|issuer| &**issuer).collect::<Vec<_>>(), [&expected]);
    assert!(snapshot.assignments.is_empty());
}

#[test]
fn an_issuer_is_what_is_written() {
    let all = r#""entra": {
        "issuer": "HTTPS://Login.Example:443/T/v2.0", "jwksUrl": "https://login.example/keys?appid=1", "audiences": ["api://mcp"],
        "algorithms": ["rs256", "RS256", "EDDSA"], "typ": ["application/at+JWT", "JWT", "text/x"], "principalClaim": "oid",
        "scopeClaim": null, "tenantId": "72f9", "leeway": "5m", "streamGrace": "1m"},
        "local": {"issuer": "http://[::1]:9000", "jwksUrl": null, "scopeClaim": "scp"}"#;
    let loaded = with_issuers(all, "");
    assert!(
        said(&loaded).contains("entra.typ: notice: takes \"JWT\", which ID tokens have too"),
        "{}",
        said(&loaded)
    );
    let issuers = good(loaded).issuers;
    let [entra, local] = &*issuers else { panic!("{issuers:?}") };
    assert_eq!(&*entra.issuer, "HTTPS://Login.Example:443/T/v2.0", "it is compared as it is");
    assert_eq!(entra.jwks_url.as_ref().map(url::Url::as_str), Some("https://login.example/keys?appid=1"));
    assert_eq!(entra.audiences, ["api://mcp"]);
    assert_eq!(entra.algorithms, [Algorithm::RS256, Algorithm::EdDSA]);
    assert_eq!(entra.types, ["at+jwt", "jwt", "text/x"]);
    assert_eq!((&*entra.principal_claim, &entra.scope_claim), ("oid", &None));
    assert_eq!(entra.tenant_id.as_deref(), Some("72f9"));
    assert_eq!((entra.leeway.as_secs(), entra.stream_grace.as_secs()), (300, 60));
    assert_eq!((&*local.issuer, local.scope_claim.as_deref()), ("http://[::1]:9000", Some("scp")));
}

#[test]
fn every_algorithm_of_the_table_is_one_of_the_library() {
    let all = r#"["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]"#;
    let config = format!(r#""a": {{"issuer": "https://a", "algorithms": {all}}}"#);
    assert_eq!(good(with_issuers(&config, "")).issuers[0].algorithms.len(), 9);
    for bad in ["none", "None", "HS256", "hs512", "ES512", "ES256K", "RSA-OAEP", ""] {
        let config = format!(r#""a": {{"issuer": "https://a", "algorithms": ["RS256", "{bad}"]}}"#);
        let loaded = with_issuers(&config, "");
        assert!(loaded.snapshot.is_none(), "{bad}: {}", said(&loaded));
    }
}

#[test]
fn an_assignment_says_whom_it_is_for_and_what_they_get() {
    let loaded = with_issuers(
        r#""corp": {"issuer": "https://login.corp.example"}"#,
        r#", "assign": [
            {"if": {"email": "*@CORP.example"}, "roles": ["user"]},
            {"if": {"issuer": "corp", "email": "Alice@corp.example", "claim": "https://corp.example/groups", "has": "Eng"}, "tags": ["x"],
             "servers": []}]"#,
    );
    let found = good(loaded).assignments;
    let of_host = Condition { issuer: None, email: Some("*@corp.example".into()), claim: None };
    let of_alice = Condition {
        issuer: Some("corp".into()),
        email: Some("alice@corp.example".into()),
        claim: Some(("https://corp.example/groups".into(), "Eng".into())),
    };
    let limits = CallerLimits { servers: Some(Vec::new()), tags: Some(vec!["x".into()]) };
    assert_eq!(
        found,
        [
            Assignment { condition: of_host, roles: vec!["user".into()], limits: CallerLimits::ALL },
            Assignment { condition: of_alice, roles: Vec::new(), limits }
        ]
    );
}

#[test]
fn what_a_token_is_for_must_be_known() {
    let with = |proxy: &str| {
        with_proxy(&format!(
            r#"{proxy}"auth": {{"issuers": {{"a": {{"issuer": "https://a", "audiences": ["mcp"]}}, "b": {{"issuer": "https://b"}}}}}}"#
        ))
    };
    let loaded = with("");
    assert!(said(&loaded).contains("issuers.b: needs `proxy.baseUrl`, or `audiences`"), "{}", said(&loaded));
    assert!(!said(&loaded).contains("issuers.a"), "{}", said(&loaded));
    assert_eq!(good(with(r#""baseUrl": "https://mcp.example", "#)).issuers.len(), 2);
}

#[test]
fn who_comes_with_tokens_of_others_is_a_caller() {
    let with = |assign: &str| {
        let config = format!(
            r#"{{"proxy": {{"baseUrl": "https://mcp.example", "debug": true, "admin": {{"addr": "0.0.0.0:0"}},
                "auth": {{"issuers": {{"corp": {{"issuer": "https://a"}}}}, "assign": [{assign}]}}}},
            "mcpServers": {{"any": {{"url": "http://h"}}, "named": {{"url": "http://h", "authTokens": []}},
                "ops": {{"url": "http://h", "roles": ["ops"]}}}}}}"#
        );
        said(&Place::new().load(&config))
    };
    let without = with("");
    assert!(!without.contains("there is no token") && !without.contains("any: warning"), "{without}");
    for key in ["named: warning: nobody can use", "ops: warning: nobody can use", "admin: warning: asks for"]
    {
        assert!(without.contains(key), "{key}: {without}");
    }
    assert!(without.contains("serves `/debug` to nobody"), "{without}");
    let given =
        with(r#"{"if": {"email": "*@a"}, "roles": ["ops"]}, {"if": {"issuer": "corp"}, "roles": ["admin"]}"#);
    assert!(given.contains("named: warning: nobody can use"), "{given}");
    for key in ["ops: warning", "admin: warning", "to nobody"] {
        assert!(!given.contains(key), "{key}: {given}");
    }
}

#[test]
fn a_line_of_the_config_gives_what_those_have_who_come_with_tokens_of_others() {
    let loaded = with_issuers(
        r#""corp": {"issuer": "https://a"}"#,
        r#", "assign": [{"if": {"issuer": "corp"}, "roles": ["dev"]}]"#,
    );
    for rule in [Rule::OwnRoles, Rule::OwnServers, Rule::OwnTags] {
        let line = loaded.rules.get(RuleOf::Auth, rule).expect("is there");
        assert_eq!(line.key_path, "proxy.auth.assign");
    }
}

/// Of a config that is refused, what it takes away applies.
#[test]
fn an_issuer_that_is_taken_out_of_a_file_with_mistakes_is_out() {
    let both = r#""a": {"issuer": "https://a", "audiences": ["x", "y"], "leeway": "1m"}, "b": {"issuer": "https://b"}"#;
    let assign = r#", "assign": [{"if": {"email": "*@h"}, "roles": ["r", "s"]}, {"if": {"claim": "g", "has": "v"}, "roles": ["t"], "tags": ["u"]}]"#;
    let in_force = good(with_issuers(both, assign));
    let left = |issuers: &str, more: &str| {
        let loaded = with_issuers(issuers, &format!(r#"{more}, "sessions": 1"#));
        assert!(loaded.snapshot.is_none(), "{}", said(&loaded));
        loaded.remaining.expect("it is clear").restrict(&in_force)
    };
    let same = left(both, assign);
    assert_eq!((&same.issuers, &same.assignments), (&in_force.issuers, &in_force.assignments));

    let less = left(
        r#""a": {"issuer": "https://a", "audiences": ["y", "z"], "leeway": "2m"}, "c": {"issuer": "https://c"}"#,
        r#", "assign": [{"if": {"email": "*@h"}, "roles": ["s", "admin"], "servers": []}]"#,
    );
    let [a] = &*less.issuers else { panic!("{:?}", less.issuers) };
    assert_eq!((&*a.audiences, a.leeway.as_secs()), (&["y".to_owned()][..], 60));
    let given = |at: usize| (&*less.assignments[at].roles, &less.assignments[at].limits);
    assert_eq!(given(0), (&["s".to_owned()][..], &CallerLimits { servers: Some(Vec::new()), tags: None }));
    assert_eq!(given(1), (&[][..], &CallerLimits { servers: None, tags: Some(Vec::new()) }));

    // With another URL, tenant, or way to read its tokens, it is another one.
    for other in [
        r#""a": {"issuer": "https://other", "audiences": ["x", "y"]}"#,
        r#""a": {"issuer": "https://a", "audiences": ["x", "y"], "jwksUrl": "https://a/keys"}"#,
        r#""a": {"issuer": "https://a", "audiences": ["x", "y"], "principalClaim": "oid"}"#,
        r#""a": {"issuer": "https://a", "audiences": ["x", "y"], "scopeClaim": null}"#,
        r#""a": {"issuer": "https://a", "audiences": ["x", "y"], "tenantId": "t"}"#,
        r#""a": {"issuer": "https://a", "audiences": ["z"]}"#,
        r#""a": {"issuer": "https://a", "audiences": ["x", "y"], "leeway": "1y"}"#,
        "",
    ] {
        assert!(left(other, "").issuers.is_empty(), "{other}");
    }
    // A slip on the way to them does not take them out.
    let slip = with_proxy(
        r#""auth": {"tokens": {"ci": "token-of-ci-alone"}, "users": {}, "tenants": {"tokens": {}}, "isuers": {}}"#,
    );
    let slip = slip.remaining.expect("tokens, users and tenants are clear").restrict(&in_force);
    assert_eq!((&slip.issuers, &slip.assignments), (&in_force.issuers, &in_force.assignments));
}

/// An issuer of this name that is asked about tokens.
fn asked(name: &str, more: &str) -> String {
    format!(
        r#""{name}": {{"issuer": "https://{name}.example", "introspection":
            {{"url": "https://{name}.example/i?x=y", "clientId": "gate", "clientSecret": "secret-of-the-gateway"{more}}}}}"#
    )
}

#[test]
fn an_issuer_that_is_asked_about_tokens_says_where_and_as_whom() {
    let issuers = good(with_issuers(&asked("corp", ""), "")).issuers;
    let found = issuers[0].introspection.as_ref().unwrap();
    assert_eq!((found.url.as_str(), &*found.client_id), ("https://corp.example/i?x=y", "gate"));
    assert_eq!((found.client_secret.expose(), found.cache_ttl.as_secs()), ("secret-of-the-gateway", 30));
    assert_eq!(found.token_prefix, None);
    assert!(!format!("{issuers:?}").contains("secret-of-the-gateway"));
}

#[test]
fn a_token_goes_to_one_issuer_that_is_asked_and_to_no_other() {
    let prefix = |prefix: &str| format!(r#", "tokenPrefix": "{prefix}""#);
    for (one, other, is_clear) in [
        ("", "", false),
        (&*prefix("a_"), "", false),
        ("", &*prefix("a_"), false),
        (&*prefix("a_"), &*prefix("a_"), false),
        (&*prefix("a_"), &*prefix("a_b_"), false),
        (&*prefix("a_b_"), &*prefix("a_"), false),
        (&*prefix("a_"), &*prefix("b_"), true),
        (&*prefix("A_"), &*prefix("a_"), true),
    ] {
        let loaded = with_issuers(&format!("{}, {}", asked("corp", one), asked("other", other)), "");
        assert_eq!(loaded.snapshot.is_some(), is_clear, "{one} {other}: {}", said(&loaded));
        assert_eq!(said(&loaded).contains("does not say whose it is"), !is_clear);
    }
    // One that is not asked is in nobody's way.
    let loaded = with_issuers(&format!(r#"{}, "other": {{"issuer": "https://b"}}"#, asked("corp", "")), "");
    assert_eq!(good(loaded).issuers.len(), 2);
}
