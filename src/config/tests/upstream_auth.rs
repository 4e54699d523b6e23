//! `upstreamAuth`: with whose credential a server is called, in the words of this gateway and of others.

use proptest::prelude::*;
use url::Url;

use super::*;
use crate::secret::Secret;

/// A config with somebody who logs in, an issuer of other tokens, and this server.
fn with(server: &str) -> Loaded {
    let auth = r#""kind": "oauth", "tokens": {"dev": "token-of-dev-alone"},
        "issuers": {"corp": {"issuer": "https://login.corp.example", "audiences": ["gate"]}}"#;
    load_with(auth, server)
}

fn load_with(auth: &str, server: &str) -> Loaded {
    let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let place = Place::new()
        .file("key.pem", &key)
        .file("secret", "secret-in-a-file")
        .var("KEY", "secret-of-the-variable");
    place.load(&format!(
        r#"{{"proxy": {{"baseUrl": "https://mcp.corp.com", "auth": {{{auth}}}}}, "mcpServers": {{"it": {{{server}}}}}}}"#
    ))
}

fn server(loaded: Loaded) -> Server {
    good(loaded).servers.remove(0)
}

/// What `upstreamAuth` of a server over HTTP says.
fn auth(text: &str) -> UpstreamAuth {
    let server = server(with(&format!(r#""url": "https://api.corp.com/mcp", {text}"#)));
    UpstreamAuth::clone(&server.upstream_auth.expect("a credential of its own"))
}

fn oauth(text: &str) -> UpstreamOauth {
    match auth(text) {
        UpstreamAuth::UserOauth(oauth)
        | UpstreamAuth::SharedOauth(oauth)
        | UpstreamAuth::ClientCredentials(oauth) => oauth,
        other => panic!("{other:?}"),
    }
}

/// Where the token of somebody goes, as text.
fn places(auth: &UpstreamAuth) -> Vec<String> {
    let token = Secret::new("TOKEN".to_owned());
    let shown = |place: &TokenPlace| match place {
        TokenPlace::Header(field) => format!("{}: {}", field.header, field.format.with(&token).expose()),
        TokenPlace::Env { name, format } => format!("{name}={}", format.with(&token).expose()),
    };
    auth.places().iter().map(shown).collect()
}

#[test]
fn an_account_of_each_caller_has_a_default_for_all() {
    let of = oauth(r#""upstreamAuth": {"kind": "user_oauth"}"#);
    assert_eq!(of.redirect_uri.as_deref(), Some("https://mcp.corp.com/oauth/callback/it"));
    let document = of.client_metadata_url.as_ref().map(Url::as_str);
    assert_eq!(document, Some("https://mcp.corp.com/oauth/client.json"));
    assert_eq!((of.issuer, of.token_url, of.client_id), (None, None, None));
    assert_eq!(
        (of.registers, of.resource, of.allows_private_issuers),
        (true, ResourceParameter::Auto, false)
    );
    assert_eq!(of.client_key, UpstreamClientKey::default());
    assert_eq!(of.shown, ShownAs { display_name: "it".into(), awaiting: Awaiting::Tool, elicit: true });
    assert_eq!(places(&auth(r#""upstreamAuth": {"kind": "user_oauth"}"#)), ["authorization: Bearer TOKEN"]);
}

#[test]
fn every_key_of_an_account_is_read() {
    let text = r#""upstreamAuth": {
        "kind": "shared_oauth", "issuer": "https://id.corp.com", "authorizationUrl": "https://id.corp.com/a",
        "tokenUrl": "https://id.corp.com/t", "revocationUrl": "https://id.corp.com/r", "clientId": "gate",
        "clientSecret": {"$env": "KEY"}, "tokenAuth": "client_secret_post", "clientMetadataUrl": false,
        "autoRegister": false, "redirectUrl": "https://mcp.corp.com/oauth/callback", "scopes": ["a", "b"],
        "resource": false, "extraParams": {"access_type": "offline"}, "allowPrivateIssuers": true,
        "header": "X-API-Key", "format": "key {token}", "displayName": "Corp", "awaiting": "refuse", "elicit": false}"#;
    let of = oauth(text);
    assert_eq!(of.issuer.as_deref(), Some("https://id.corp.com"));
    let urls = [&of.authorization_url, &of.token_url, &of.revocation_url];
    assert_eq!(urls.map(|url| url.as_ref().map_or("", Url::path)), ["/a", "/t", "/r"]);
    assert_eq!((of.client_id.as_deref(), of.client_metadata_url, of.registers), (Some("gate"), None, false));
    assert_eq!(of.client_key.way, Some(ClientAuthWay::Post));
    assert_eq!(of.client_key.secret.as_ref().map(Secret::expose), Some("secret-of-the-variable"));
    assert_eq!(of.redirect_uri.as_deref(), Some("https://mcp.corp.com/oauth/callback"));
    assert_eq!((of.scopes, of.resource), (vec!["a".into(), "b".into()], ResourceParameter::Never));
    assert_eq!(
        (of.extra_params, of.allows_private_issuers),
        (vec![("access_type".into(), "offline".into())], true)
    );
    assert_eq!(of.shown, ShownAs { display_name: "Corp".into(), awaiting: Awaiting::Refuse, elicit: false });
    assert_eq!(places(&auth(text)), ["x-api-key: key TOKEN"]);
    assert!(!auth(text).is_per_principal() && auth(text).kind() == "shared_oauth");
}

#[test]
fn a_machine_has_a_secret_or_a_key() {
    let with_key = oauth(
        r#""upstreamAuth": {"kind": "client_credentials", "clientId": "gate", "privateKey": {"$file": "key.pem"},
            "tokenUrl": "http://127.0.0.1:9000/token", "resource": "urn:x:y"}"#,
    );
    assert!(with_key.client_key.private_key.is_some() && with_key.redirect_uri.is_none());
    assert_eq!(with_key.resource, ResourceParameter::Is("urn:x:y".into()));
    let with_secret = oauth(
        r#""upstreamAuth": {"kind": "client_credentials", "clientId": "gate", "clientSecret": {"$file": "secret"}}"#,
    );
    assert_eq!(with_secret.client_key.secret.as_ref().map(Secret::expose), Some("secret-in-a-file"));
    // It needs no page, and so no OAuth of the gateway's own.
    let alone = r#""url": "https://api.corp.com/mcp", "upstreamAuth": {"kind": "client_credentials", "clientId": "gate", "clientSecret": "$env:KEY"}"#;
    assert!(server(load_with("", alone)).upstream_auth.is_some());
}

#[test]
fn a_token_that_a_caller_enters_goes_where_the_config_says() {
    let of = |server: &str| {
        let server = self::server(with(server));
        (UpstreamAuth::clone(server.upstream_auth.as_ref().expect("a token")), server)
    };
    let url = r#""url": "https://api.corp.com/mcp", "#;
    let (header, _) = of(&format!(
        r#"{url}"upstreamAuth": {{"kind": "user_token", "header": "X-Key", "format": "{{token}}"}}"#
    ));
    assert_eq!(places(&header), ["x-key: TOKEN"]);
    let (headers, at) = of(&format!(
        r#"{url}"headers": {{"X-Team": "core", "X-Key": {{"$userToken": "{{{{token}}}}"}}, "Authorization": {{"$userToken": "Bearer {{token}}"}}}}"#
    ));
    assert_eq!(places(&headers), ["x-key: TOKEN", "authorization: Bearer TOKEN"]);
    let Target::Http(http) = at.target else { panic!("{:?}", at.target) };
    assert_eq!(http.headers.len(), 1, "what is the token's is no header of the config");
    let (env, at) = of(
        r#""command": "notion", "env": {"A": "b", "HEADERS": {"$userToken": "{\"Authorization\": \"Bearer {{token}}\"}"}},
            "upstreamAuth": {"kind": "user_token", "displayName": "Notion", "instructions": "Make one.",
            "helpUrl": "https://notion.so/x", "validation": "secret_[a-z]{3}", "format": "x-{token}"}"#,
    );
    assert_eq!(places(&env), [r#"HEADERS={"Authorization": "Bearer x-TOKEN"}"#]);
    let Target::Stdio(stdio) = at.target else { panic!("{:?}", at.target) };
    assert_eq!(stdio.env.len(), 1);
    let UpstreamAuth::UserToken(token) = env else { panic!("{env:?}") };
    assert!(
        token.takes("secret_abc")
            && !token.takes("secret_abcd")
            && !token.takes("xsecret_abc")
            && !token.takes("")
    );
    assert_eq!((token.instructions.as_deref(), token.help_url.is_some()), (Some("Make one."), true));
    // The account of a caller, for a command.
    let (account, _) = of(
        r#""command": "x", "env": {"T": {"$userToken": "{{token}}"}}, "upstreamAuth": {"kind": "user_oauth", "issuer": "https://id.corp.com"}"#,
    );
    assert_eq!((account.kind(), places(&account)), ("user_oauth", vec!["T=TOKEN".to_owned()]));
}

#[test]
fn a_pattern_is_of_the_whole_token_whatever_stands_in_it() {
    for (pattern, taken, refused) in [
        ("^a$", "a", "ab"),
        ("a|b", "b", "ab"),
        ("(?m)a", "a", "a-"),
        ("(?x)a # b\n", "a", "b"),
        ("[a-z]+$", "abc", "abc1"),
    ] {
        let text = serde_json::to_string(pattern).expect("text");
        let auth = auth(&format!(
            r#""upstreamAuth": {{"kind": "user_token", "header": "X", "validation": {text}}}"#
        ));
        let UpstreamAuth::UserToken(token) = auth else { panic!() };
        assert!(token.takes(taken) && !token.takes(refused), "{pattern}");
    }
}

#[test]
fn a_token_is_exchanged_in_three_ways() {
    let of = |text: &str| match auth(&format!(r#""upstreamAuth": {{"kind": "exchange", {text}}}"#)) {
        UpstreamAuth::Exchange(exchange) => exchange,
        other => panic!("{other:?}"),
    };
    let plain = of(r#""tokenUrl": "https://id.corp.com/t", "audience": "api://graph""#);
    assert_eq!((plain.profile, plain.subject), (ExchangeProfile::TokenExchange, ExchangeSubject::Caller));
    assert_eq!((plain.audience.as_deref(), plain.resource, plain.second), (Some("api://graph"), None, None));
    let entra = of(
        r#""profile": "entra_obo", "tokenUrl": "https://login.corp.com/t", "clientId": "g", "clientSecret": "$env:KEY",
            "scopes": ["api://graph/.default"]"#,
    );
    assert_eq!((entra.profile, entra.scopes.len()), (ExchangeProfile::EntraOnBehalfOf, 1));
    let jag = of(
        r#""profile": "id_jag", "tokenUrl": "https://idp.corp.com/t", "clientId": "g", "clientSecret": "$env:KEY",
            "audience": "https://as.corp.com", "resource": "https://api.corp.com/mcp", "serverTokenUrl": "https://as.corp.com/t",
            "serverClientSecret": {"$file": "secret"}"#,
    );
    let second = jag.second.expect("a second half");
    assert_eq!(
        (second.client_id.as_deref(), jag.resource.as_deref()),
        (Some("g"), Some("https://api.corp.com/mcp"))
    );
    assert_eq!(second.client_key.secret.as_ref().map(Secret::expose), Some("secret-in-a-file"));
}

#[test]
fn what_is_unsafe_is_called_so_and_warned_of_each_time() {
    let text = r#""url": "https://api.corp.com/mcp", "upstreamAuth": {"kind": "passthrough", "unsafe": true, "from": "X-Upstream-Authorization"}"#;
    let loaded = with(text);
    assert!(said(&loaded).contains("passes a caller's credential on"), "{}", said(&loaded));
    let auth = server(loaded).upstream_auth.expect("a credential");
    let UpstreamAuth::Passthrough(Passthrough { from }) = &*auth else { panic!("{auth:?}") };
    assert_eq!(from, "x-upstream-authorization");
    let public = r#""url": "https://api.corp.com/mcp", "public": true, "upstreamAuth": {"kind": "passthrough", "unsafe": true, "from": "Authorization"}"#;
    assert!(server(with(public)).upstream_auth.is_some());
}

#[test]
fn what_nobody_can_connect_and_a_secret_that_any_issuer_gets_are_warned_of() {
    const NOBODY: &str = "somebody with the role `admin` connects, and nobody has that";
    const ANY: &str = "clientSecret: warning: goes to whichever issuer the server names";
    let shared = r#""url": "https://api.corp.com/mcp", "upstreamAuth": {"kind": "shared_oauth"}"#;
    let told = said(&with(shared));
    assert!(told.contains(NOBODY) && !told.contains(ANY), "{told}");
    let auth = r#""kind": "oauth", "tokens": {"ops": {"value": "token-of-ops-alone", "roles": ["admin"]}}"#;
    assert!(!said(&load_with(auth, shared)).contains(NOBODY));
    let secret = |more: &str| {
        let text = r#""url": "https://api.corp.com/mcp", "upstreamAuth": {"kind": "user_oauth", "clientId": "a", "clientSecret": "$env:KEY"#;
        said(&with(&format!("{text}\"{more}}}")))
    };
    assert!(secret("").contains(ANY), "{}", secret(""));
    assert!(!secret(r#", "issuer": "https://id.corp.com""#).contains("goes to whichever"));
}

#[test]
fn one_credential_for_all_is_one_of_the_config() {
    for text in [
        r#""upstreamAuth": {"kind": "static", "token": {"$env": "KEY"}}"#,
        r#""auth_strategy": "proxy_oauth", "auth_config": {"token_source": "env:KEY"}"#,
        r#""serviceAuths": [{"type": "bearer", "name": "x", "userToken": {"$env": "KEY"}}]"#,
        r#""headers": {"Authorization": {"$userToken": "Bearer {{token}}"}}, "requiresUserToken": true,
            "serviceAuths": [{"userToken": {"$env": "KEY"}}]"#,
        r#""headers": {"Authorization": "Bearer ${KEY}"}, "upstreamAuth": {"kind": "static"}"#,
    ] {
        let server = server(load_with("", &format!(r#""url": "https://api.corp.com/mcp", {text}"#)));
        assert!(server.upstream_auth.is_none(), "{text}");
        let Target::Http(http) = server.target else { panic!() };
        let [(name, value)] = &*http.headers else { panic!("{text}: {:?}", http.headers) };
        assert!(value.is_sensitive());
        let found = (name.as_str(), value.to_str().ok());
        assert_eq!(found, ("authorization", Some("Bearer secret-of-the-variable")), "{text}");
    }
    let command = r#""command": "x", "env": {"T": {"$userToken": "{{token}}"}}, "serviceAuths": [{"userToken": "$env:KEY"}]"#;
    let Target::Stdio(stdio) = server(load_with("", command)).target else { panic!() };
    assert_eq!(stdio.env[0].1.expose(), "secret-of-the-variable");
    for text in [r#""upstreamAuth": {"kind": "none"}"#, r#""auth_strategy": "bypass_auth""#] {
        let server = server(load_with("", &format!(r#""url": "https://api.corp.com/mcp", {text}"#)));
        let Target::Http(http) = server.target else { panic!() };
        assert!(server.upstream_auth.is_none() && http.headers.is_empty(), "{text}");
    }
}

#[test]
fn what_other_gateways_write_is_the_same() {
    let pairs = [
        // Master MCP Server, as its document has it.
        (
            r#""auth_strategy": "delegate_oauth", "auth_config": {"provider": "github",
                "authorization_endpoint": "https://github.com/login/oauth/authorize",
                "token_endpoint": "https://github.com/login/oauth/access_token",
                "client_id": "${KEY}", "client_secret": "env:KEY", "scopes": ["repo", "read:user"]}"#,
            r#""upstreamAuth": {"kind": "user_oauth", "authorizationUrl": "https://github.com/login/oauth/authorize",
                "tokenUrl": "https://github.com/login/oauth/access_token", "clientId": "$env:KEY", "clientSecret": "$env:KEY",
                "scopes": ["repo", "read:user"]}"#,
        ),
        (
            r#""auth_strategy": "master_oauth", "auth_config": {"token_endpoint": "https://id.corp.com/t", "audience": "search"}"#,
            r#""upstreamAuth": {"kind": "exchange", "tokenUrl": "https://id.corp.com/t", "audience": "search"}"#,
        ),
        // MCP Front.
        (
            r#""requiresUserToken": true, "headers": {"X-Key": {"$userToken": "{{token}}"}}, "userAuthentication": {"type": "manual",
                "displayName": "Notion", "instructions": "Make one.", "helpUrl": "https://notion.so/x", "validation": "^a$"}"#,
            r#""upstreamAuth": {"kind": "user_token", "header": "X-Key", "format": "{token}", "displayName": "Notion",
                "instructions": "Make one.", "helpUrl": "https://notion.so/x", "validation": "^a$"}"#,
        ),
        (
            r#""requiresUserToken": true, "userAuthentication": {"type": "oauth", "displayName": "S", "clientId": {"$env": "KEY"},
                "clientSecret": {"$env": "KEY"}, "authorizationUrl": "https://s.corp.com/a", "tokenUrl": "https://s.corp.com/t",
                "scopes": ["mcp:read"], "tokenFormat": "key {{token}}"}"#,
            r#""upstreamAuth": {"kind": "user_oauth", "displayName": "S", "clientId": {"$env": "KEY"},
                "clientSecret": {"$env": "KEY"}, "authorizationUrl": "https://s.corp.com/a", "tokenUrl": "https://s.corp.com/t",
                "scopes": ["mcp:read"], "format": "key {token}"}"#,
        ),
        (
            r#""requiresUserToken": true, "headers": {"X-Key": {"$userToken": "{{token}}"}},
                "tokenSetup": {"displayName": "G", "tokenFormat": "^(ghp_[a-zA-Z0-9]{36})$"}"#,
            r#""upstreamAuth": {"kind": "user_token", "header": "X-Key", "format": "{token}", "displayName": "G",
                "validation": "^(ghp_[a-zA-Z0-9]{36})$"}"#,
        ),
        (
            r#""requiresUserToken": true, "headers": {"X-Key": {"$userToken": "{{token}}"}}"#,
            r#""upstreamAuth": {"kind": "user_token", "header": "X-Key", "format": "{token}"}"#,
        ),
        // 1MCP.
        (
            r#""oauth": {"clientId": "c", "clientSecret": "$env:KEY", "scopes": ["a"], "autoRegister": false,
                "redirectUrl": "https://mcp.corp.com/oauth/callback/it"}"#,
            r#""upstreamAuth": {"kind": "shared_oauth", "clientId": "c", "clientSecret": "$env:KEY", "scopes": ["a"], "autoRegister": false}"#,
        ),
    ];
    for (there, here) in pairs {
        assert_eq!(auth(there), auth(here), "{there}");
    }
}

#[test]
fn what_does_not_go_together_says_what_to_write() {
    let url = r#""url": "https://api.corp.com/mcp", "#;
    let rows: &[(&str, &str, &str)] = &[
        ("", r#""upstreamAuth": {}"#, "upstreamAuth: needs a `kind`"),
        ("", r#""userAuthentication": {}"#, "userAuthentication: needs a `type`"),
        ("", r#""upstreamAuth": {"kind": "oauth2"}"#, "kind: \"oauth2\" is no kind; use"),
        ("", r#""auth_config": {}"#, "needs an `auth_strategy` beside it"),
        (
            "",
            r#""auth_strategy": "delegate_oauth", "upstreamAuth": {"kind": "none"}"#,
            "auth_strategy: is the same as `upstreamAuth`",
        ),
        (
            "",
            r#""auth_strategy": "bypass_auth", "auth_config": {"kind": "none"}"#,
            "kind: is the same as `auth_strategy`",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "none"}, "oauth": {}"#,
            "oauth: is the same as `upstreamAuth`; keep one of them",
        ),
        ("", r#""auth_strategy": "proxy_oauth""#, "needs a `token_source`"),
        ("", r#""auth_strategy": "master_oauth""#, "the kind \"exchange\" and a `tokenUrl`"),
        ("", r#""upstreamAuth": {"kind": "user_token"}"#, "needs a place for the token"),
        ("", r#""upstreamAuth": {"kind": "user_token", "header": "Host"}"#, "header: is set by the gateway"),
        (
            "",
            r#""upstreamAuth": {"kind": "user_token", "header": "mcp_session.id"}"#,
            "header: is set by the gateway",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_token", "header": "X", "format": "Bearer"}"#,
            "format: has to have `{token}` in it, once",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_token", "header": "X", "format": "{token}{token}"}"#,
            "format: has to have `{token}` in it, once",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_token", "header": "X", "validation": "(?=a)b"}"#,
            "validation: is no regular expression",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_token", "header": "X", "validation": "a)|(b"}"#,
            "validation: is no regular expression",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_token", "header": "X", "validation": "(((\\pL{1000}){1000}){1000})"}"#,
            "validation: takes too much memory",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_token", "header": "X", "tokenFormat": "a", "validation": "b"}"#,
            "tokenFormat: is the same as `validation`",
        ),
        (
            "",
            r#""headers": {"X-Key": {"$userToken": "{{token}}"}}, "upstreamAuth": {"kind": "user_token", "header": "X"}"#,
            "header: says where the token goes, and so does",
        ),
        (
            "",
            r#""headers": {"authorization": "x"}, "upstreamAuth": {"kind": "user_oauth"}"#,
            "headers.authorization: is also where the token",
        ),
        (
            "",
            r#""headers": {"X": {"$userToken": "{{token}}"}}, "upstreamAuth": {"kind": "none"}"#,
            "is of the kind \"none\", which has no token for it",
        ),
        (
            "",
            r#""headers": {"X": {"$userToken": "{{token}}"}}, "upstreamAuth": {"kind": "static"}"#,
            "is of the kind \"static\", which has one token",
        ),
        (
            "",
            r#""headers": {"X": {"$userToken": "token"}}"#,
            "headers.X: has to have `{{token}}` in it, once",
        ),
        ("", r#""upstreamAuth": {"kind": "static"}"#, "is in `headers` of the server, which has none"),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "tokenUrl": "https://a.com"}"#,
            "tokenUrl: is one of two",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "tokenUrl": "https://a.com", "authorizationUrl": "https://a.com"}"#,
            "needs a `clientId`: with",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "issuer": "http://id.corp.com"}"#,
            "issuer: is http://",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "revocationUrl": "http://id.corp.com"}"#,
            "revocationUrl: is http://",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "clientSecret": "$env:KEY"}"#,
            "clientSecret: proves that the gateway is a client",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "clientId": "a", "clientSecret": "$env:KEY", "privateKey": {"$file": "key.pem"}}"#,
            "privateKey: stands in place of",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "clientId": "a", "privateKey": "$env:KEY"}"#,
            "privateKey: is no key that can sign",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "clientId": "a", "tokenAuth": "client_secret_basic"}"#,
            "tokenAuth: needs a `clientSecret`",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "clientId": "a", "clientSecret": "$env:KEY", "tokenAuth": "none"}"#,
            "tokenAuth: sends no `clientSecret`",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "redirectUrl": "https://mcp.corp.com/callback"}"#,
            "redirectUrl: leads to a place",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth", "extraParams": {"State": "x"}}"#,
            "extraParams.State: is set by the gateway",
        ),
        ("", r#""upstreamAuth": {"kind": "user_oauth", "resource": "mcp"}"#, "resource: is no resource"),
        ("", r#""upstreamAuth": {"kind": "user_oauth"}, "public": true"#, "is for callers who are somebody"),
        (
            "",
            r#""upstreamAuth": {"kind": "user_oauth"}, "requiresUserToken": false"#,
            "requiresUserToken: says that no caller has",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "none"}, "requiresUserToken": true"#,
            "requiresUserToken: says that each caller has",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "none"}, "serviceAuths": [{"userToken": "$env:KEY"}]"#,
            "make a server of its own",
        ),
        ("", r#""upstreamAuth": {"kind": "client_credentials"}"#, "needs a `clientId`, and a `clientSecret`"),
        ("", r#""upstreamAuth": {"kind": "exchange"}"#, "needs a `tokenUrl`"),
        (
            "",
            r#""upstreamAuth": {"kind": "exchange", "tokenUrl": "https://a.com"}"#,
            "needs an `audience`, a `resource` or `scopes`",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "exchange", "tokenUrl": "https://a.com", "profile": "entra_obo"}"#,
            "needs `scopes`, by which Entra",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "exchange", "tokenUrl": "https://a.com", "profile": "id_jag"}"#,
            "needs an `audience`, the issuer",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "exchange", "tokenUrl": "https://a.com", "audience": "b", "subject": "login"}"#,
            "cannot be used yet: the gateway keeps no token of the identity provider",
        ),
        ("", r#""upstreamAuth": {"kind": "passthrough", "from": "X-Up"}"#, "or write `\"unsafe\": true`"),
        ("", r#""upstreamAuth": {"kind": "passthrough", "unsafe": true}"#, "needs a `from`"),
        (
            "",
            r#""upstreamAuth": {"kind": "passthrough", "unsafe": true, "from": "Authorization"}"#,
            "from: has what the gateway knows its callers by",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "passthrough", "unsafe": true, "from": "X-API-Key"}"#,
            "from: is a header that means something",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "passthrough", "unsafe": true, "from": "Mcp-Session-Id"}"#,
            "from: is a header that means something",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "passthrough", "unsafe": true, "from": "cookie"}"#,
            "from: is a header that means something",
        ),
        (
            "",
            r#""upstreamAuth": {"kind": "passthrough", "unsafe": true, "from": "X_API_Key"}"#,
            "from: is a header that means something",
        ),
        ("stdio", r#""upstreamAuth": {"kind": "user_token"}"#, "needs a variable of the command"),
        (
            "stdio",
            r#""upstreamAuth": {"kind": "user_token", "header": "X"}"#,
            "header: is for a server with a `url`",
        ),
        (
            "stdio",
            r#""upstreamAuth": {"kind": "user_oauth", "issuer": "https://a.com"}"#,
            "needs a variable of the command",
        ),
        (
            "stdio",
            r#""env": {"T": {"$userToken": "{{token}}"}}, "upstreamAuth": {"kind": "user_oauth"}"#,
            "a command names no issuer itself",
        ),
        ("stdio", r#""upstreamAuth": {"kind": "shared_oauth"}"#, "is for a server with a `url`"),
        ("stdio", r#""upstreamAuth": {"kind": "exchange"}"#, "is for a server with a `url`"),
        (
            "stdio",
            r#""args": [{"$userToken": "{{token}}"}]"#,
            "args[0]: would show a caller's token to everybody",
        ),
        (
            "none",
            r#""url": {"$userToken": "https://a.com/{{token}}"}"#,
            "url: would put a caller's token into a URL",
        ),
        (
            "none",
            r#""inline": {"tools": []}, "upstreamAuth": {"kind": "user_token"}"#,
            "has no effect on `inline`",
        ),
    ];
    let mut faults = Vec::new();
    for (kind, text, told) in rows {
        let target = match *kind {
            "stdio" => r#""command": "x", "#,
            "none" => "",
            _ => url,
        };
        let loaded = with(&format!("{target}{text}"));
        if loaded.snapshot.is_some() || !said(&loaded).contains(told) {
            faults.push(format!("{text}\n  wanted {told}\n  said {}", said(&loaded)));
        }
        assert!(!said(&loaded).contains("secret-of"), "{text}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn kinds_of_people_need_the_pages_at_which_they_sign_in() {
    for kind in ["user_oauth", "shared_oauth", "user_token"] {
        let text =
            format!(r#""url": "https://a.com/mcp", "upstreamAuth": {{"kind": "{kind}", "header": "X-Key"}}"#);
        let loaded = load_with(r#""tokens": {"dev": "token-of-dev-alone"}"#, &text);
        assert!(
            loaded.snapshot.is_none() && said(&loaded).contains("needs `\"kind\": \"oauth\"`"),
            "{}",
            said(&loaded)
        );
    }
    let exchange = r#""url": "https://a.com/mcp", "upstreamAuth": {"kind": "exchange", "tokenUrl": "https://a.com/t", "audience": "b"}"#;
    let loaded = load_with(r#""tokens": {"dev": "token-of-dev-alone"}"#, exchange);
    assert!(said(&loaded).contains("there are no `issuers` in `proxy.auth`"), "{}", said(&loaded));
}

#[test]
fn a_key_of_another_kind_has_no_effect_and_that_is_said() {
    let loaded = with(
        r#""url": "https://a.com/mcp", "upstreamAuth": {"kind": "user_token", "header": "X-Key", "scopes": ["a"], "profile": "rfc8693", "provider": 1}"#,
    );
    let said = said(&loaded);
    for key in ["scopes", "profile"] {
        assert!(
            said.contains(&format!("{key}: notice: has no effect with the kind \"user_token\"")),
            "{said}"
        );
    }
    assert!(!said.contains("provider"), "{said}");
}

#[test]
fn a_lost_file_of_a_secret_takes_the_server_and_nothing_else() {
    let loaded = with(
        r#""url": "https://a.com/mcp", "upstreamAuth": {"kind": "user_oauth", "clientId": "a", "clientSecret": {"$file": "gone"}}"#,
    );
    let snapshot = loaded.snapshot.expect("the rest");
    assert!(snapshot.servers.is_empty() && *snapshot.lost.servers[0].name == *"it");
}

#[test]
fn a_document_is_offered_at_a_name_that_others_can_reach() {
    for (base, is_offered) in [
        ("https://mcp.corp.com", true),
        ("https://mcp.corp.com:8443", true),
        ("http://localhost:8080", false),
        ("https://10.0.0.1", false),
        ("https://gate", false),
        ("https://gate.corp.internal", false),
        ("https://gate.local", false),
    ] {
        let config = format!(
            r#"{{"proxy": {{"baseUrl": "{base}", "auth": {{"kind": "oauth", "tokens": {{"dev": "token-of-dev-alone"}}}}}},
                "mcpServers": {{"it": {{"url": "https://a.com/mcp", "upstreamAuth": {{"kind": "user_oauth"}}}}}}}}"#
        );
        let server = good(Place::new().load(&config)).servers.remove(0);
        let auth = server.upstream_auth.expect("a credential");
        let UpstreamAuth::UserOauth(oauth) = &*auth else { panic!("{auth:?}") };
        assert_eq!(oauth.client_metadata_url.is_some(), is_offered, "{base}");
    }
}

#[test]
fn what_people_are_told_ends_nothing_and_what_the_server_is_told_does() {
    let of = |more: &str| {
        let text = format!(r#""url": "https://a.com/mcp", "upstreamAuth": {{"kind": "user_oauth"{more}}}"#);
        server(with(&text))
    };
    let before = of("");
    for more in [r#", "displayName": "A""#, r#", "awaiting": "refuse""#, r#", "elicit": false"#] {
        assert!(before.serves_like(&of(more)) && before != of(more), "{more}");
    }
    for more in [
        r#", "issuer": "https://id.corp.com""#,
        r#", "clientId": "a""#,
        r#", "scopes": ["a"]"#,
        r#", "header": "X-Key""#,
        r#", "format": "{token}""#,
    ] {
        assert!(!before.serves_like(&of(more)), "{more}");
    }
    let plain = server(with(r#""url": "https://a.com/mcp""#));
    assert!(!before.serves_like(&plain) && !plain.serves_like(&before));
}

/// Any JSON, with words of the keys in it.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let words = table::key::objects(&table::ROOT)
        .into_iter()
        .filter(|(_, object)| ["upstreamAuth", "serviceAuth", "reference"].contains(&object.name))
        .flat_map(|(_, object)| object.names())
        .chain(["$userToken", "$env", "$file", "$text", "token"]);
    let words: Vec<String> = words.map(str::to_owned).collect();
    let texts: Vec<String> = [
        "user_oauth",
        "shared_oauth",
        "user_token",
        "exchange",
        "passthrough",
        "static",
        "none",
        "manual",
        "client_credentials",
        "{token}",
        "Bearer {{token}}",
        "https://a.com/x",
        "http://a.com",
        "^a{9999}$",
        "[",
        "auto",
        "Authorization",
        "Host",
        "X-Key",
        "$env:KEY",
        "${KEY}",
        "",
        "\u{0}",
        "é",
        "entra_obo",
        "id_jag",
        "login",
    ]
    .map(str::to_owned)
    .into();
    let leaf = prop_oneof![
        proptest::sample::select(texts).prop_map(serde_json::Value::from),
        ".{0,12}".prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        let key = prop_oneof![4 => proptest::sample::select(words.clone()), 1 => "[a-z$]{1,6}"];
        prop_oneof![
            3 => proptest::collection::btree_map(key, inner.clone(), 0..8)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            1 => proptest::collection::vec(inner, 0..4).prop_map(serde_json::Value::from),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever stands there, it is read or refused, and a kind that is read has what it needs.
    #[test]
    fn any_text_is_read_or_refused(json in any_json(), other in any_json(), name in 0..8_usize, target in 0..3_usize) {
        let key = ["upstreamAuth", "userAuthentication", "tokenSetup", "auth_config", "oauth", "headers", "env", "serviceAuths"][name];
        let target = [r#""url": "https://a.com/mcp""#, r#""command": "x""#, r#""inline": {"tools": []}"#][target];
        let loaded = with(&format!(r#"{target}, "{key}": {json}, "auth_strategy": {other}"#));
        let again = with(&format!(r#"{target}, "{key}": {json}"#));
        for loaded in [&loaded, &again] {
            let failed = loaded.problems.iter().any(|problem| problem.severity == Severity::Error);
            prop_assert_eq!(loaded.snapshot.is_none(), failed);
            let servers = loaded.snapshot.iter().flat_map(|snapshot| &snapshot.servers);
            for auth in servers.filter_map(|server| server.upstream_auth.as_deref()) {
                prop_assert!(matches!(auth, UpstreamAuth::Passthrough(_)) || !auth.places().is_empty(), "{:?}", auth);
            }
        }
    }
}
