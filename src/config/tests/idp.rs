//! Logins by an identity provider: which one it is, and whom it lets in.

use super::*;

fn with_idp(idp: &str, more: &str) -> Loaded {
    with_auth(&format!(r#""idp": {{{idp}}}{more}"#))
}

fn with_auth(keys: &str) -> Loaded {
    with_proxy(&format!(r#""baseUrl": "https://mcp.example/", "auth": {{"kind": "oauth", {keys}}}"#))
}

fn idp(loaded: Loaded) -> IdpConfig {
    let oauth = good(loaded).oauth.expect("oauth");
    IdpConfig::clone(oauth.idp.as_ref().expect("an idp"))
}

const SECRET: &str = r#""clientId": "gate", "clientSecret": {"$text": "secret-of-the-gateway"}"#;
const DOMAIN: &str = r#", "allowedDomains": ["Company.com"]"#;

#[test]
fn a_provider_has_a_default_for_all_but_who_the_gateway_is_there() {
    let google = idp(with_idp(&format!(r#""provider": "Google", {SECRET}"#), DOMAIN));
    assert_eq!((google.provider, &*google.issuer), (IdpProvider::Google, "https://accounts.google.com"));
    assert_eq!(&*google.redirect_uri, "https://mcp.example/oauth/callback");
    assert_eq!((google.allowed_domains, google.recheck), (vec!["company.com".into()], IdpConfig::RECHECK));
    let github = idp(with_idp(&format!(r#""provider": "github", {SECRET}, "allowedOrgs": ["our-org"]"#), ""));
    assert_eq!((&*github.issuer, &*github.allowed_orgs), ("https://github.com", &["our-org".to_owned()][..]));
    let entra = idp(with_idp(&format!(r#""provider": "entra", {SECRET}, "tenantId": "72F9-A""#), DOMAIN));
    assert_eq!(&*entra.issuer, "https://login.microsoftonline.com/72f9-a/v2.0");
    for (keys, issuer) in [
        (r#""issuer": "https://x.auth0.com/""#, "https://x.auth0.com/"),
        (
            r#""discoveryUrl": "https://sso.example/realms/r/.well-known/openid-configuration""#,
            "https://sso.example/realms/r",
        ),
        (r#""issuer": "https://a.example", "discoveryUrl": "https://b.example/x""#, "https://a.example"),
        (r#""issuer": "http://127.0.0.1:9000""#, "http://127.0.0.1:9000"),
    ] {
        let oidc = idp(with_idp(&format!(r#""provider": "oidc", "clientId": "gate", {keys}"#), DOMAIN));
        assert_eq!((&*oidc.issuer, oidc.client_secret), (issuer, None), "{keys}");
    }
}

#[test]
fn what_mcp_front_calls_it_is_read() {
    let keys = r#""googleClientId": "gate", "googleClientSecret": {"$text": "secret-of-the-gateway"},
        "googleRedirectUri": "https://mcp.example/oauth/callback", "allowedDomains": ["company.com"]"#;
    let flat = idp(with_auth(keys));
    let nested = idp(with_idp(
        &format!(r#""provider": "google", {SECRET}, "redirectUri": "https://mcp.example/oauth/callback""#),
        DOMAIN,
    ));
    assert_eq!(flat, nested);
    assert!(
        said(&with_auth(&format!(r#"{keys}, "idp": {{"provider": "google", {SECRET}}}"#)))
            .contains("keep that one")
    );
    let old = keys.replace("/oauth/callback", "/callback");
    assert!(
        said(&with_auth(&old)).contains("register \"https://mcp.example/oauth/callback\" at the provider")
    );
}

#[test]
fn each_host_of_github_has_people_of_its_own() {
    let github = |more: &str| idp(with_idp(&format!(r#""provider": "github", {SECRET}{more}"#), DOMAIN));
    let own = |host: &str| github(&format!(r#", "userInfoUrl": "https://{host}/api/v3/user""#)).place();
    assert_eq!(github("").place(), "https://github.com");
    assert_ne!(own("a.example"), github("").place());
    assert_ne!(own("a.example"), own("b.example"));
}

#[test]
fn what_would_let_in_everybody_or_could_be_overheard_is_refused() {
    let google = format!(r#""provider": "google", {SECRET}"#);
    for (idp, more, wanted) in [
        (&*google, "", "needs `allowedDomains`, `allowedOrgs` or `assign`"),
        (&google, r#", "allowedDomains": []"#, "everybody is let in who has an account there"),
        (
            &google,
            r#", "assign": [{"if": {"issuer": "google"}, "roles": ["user"]}]"#,
            "is met by everybody who has an account there",
        ),
        (
            &google,
            r#", "assign": [{"if": {"claim": "email_verified", "has": "true"}, "roles": ["user"]}]"#,
            "is met by everybody who has an account there",
        ),
        (&google, r#", "assign": []"#, "needs `allowedDomains`, `allowedOrgs` or `assign`"),
        (&google, r#", "allowedDomains": ["*"]"#, "is no domain"),
        (&google, r#", "allowedDomains": ["@company.com"]"#, "is no domain"),
        (r#""provider": "google""#, DOMAIN, "needs a `clientId`"),
        (r#""provider": "okta", "clientId": "gate""#, DOMAIN, "is no provider"),
        (r#""provider": "azure", "clientId": "gate""#, DOMAIN, "write the id of your tenant"),
        (
            r#""provider": "azure", "clientId": "gate", "tenantId": "Common""#,
            DOMAIN,
            "everybody who has an account at Microsoft",
        ),
        (
            r#""provider": "azure", "clientId": "gate", "tenantId": "organizations""#,
            DOMAIN,
            "everybody who has",
        ),
        (r#""provider": "azure", "clientId": "gate", "tenantId": "a/b""#, DOMAIN, "is no id of a tenant"),
        (r#""provider": "oidc", "clientId": "gate""#, DOMAIN, "needs an `issuer`, or a `discoveryUrl`"),
        (
            r#""provider": "oidc", "clientId": "gate", "discoveryUrl": "https://a.example/x""#,
            DOMAIN,
            "write `issuer`, too",
        ),
        (r#""provider": "oidc", "clientId": "gate", "issuer": "http://a.example""#, DOMAIN, "is http://"),
        (
            r#""provider": "oidc", "clientId": "gate", "issuer": "https://a.example", "tokenUrl": "http://a.example/t""#,
            DOMAIN,
            "is http://",
        ),
    ] {
        let loaded = with_idp(idp, more);
        assert!(loaded.snapshot.is_none(), "{idp} {more}");
        assert!(said(&loaded).contains(wanted), "{idp} {more}: {}", said(&loaded));
    }
    let assigned =
        r#", "assign": [{"if": {"issuer": "google", "email": "*@company.com"}, "roles": ["user"]}]"#;
    assert!(idp(with_idp(&google, assigned)).allowed_domains.is_empty());
}

#[test]
fn a_provider_is_nothing_without_the_pages_and_has_no_name_of_an_issuer() {
    let idp = format!(r#""idp": {{"provider": "google", {SECRET}}}{DOMAIN}"#);
    let loaded = with_proxy(&format!(r#""auth": {{"tokens": {{"ci": "token-of-ci-alone"}}, {idp}}}"#));
    assert!(
        said(&loaded).contains("idp: notice: has no effect without `\"kind\": \"oauth\"`"),
        "{}",
        said(&loaded)
    );
    assert!(good(loaded).oauth.is_none());
    let issuers = r#", "issuers": {"google": {"issuer": "https://a.example"}}"#;
    assert!(
        said(&with_auth(&format!("{idp}{issuers}")))
            .contains("is also what `assign` calls the people of `idp`")
    );
}

#[test]
fn what_a_refused_file_takes_from_people_is_taken_whatever_else_is_wrong_with_it() {
    let keys = |more: &str, domains: &str| {
        format!(
            r#""idp": {{"provider": "google", {SECRET}{more}}}, "allowedDomains": [{domains}], "users": {{}}"#
        )
    };
    let in_force = good(with_auth(&keys("", r#""a.example", "b.example""#)));
    let left = |keys: &str| {
        let loaded = with_auth(&format!(r#"{keys}, "tokenTtl": "never""#));
        assert!(loaded.snapshot.is_none());
        let left = loaded.remaining.expect("known").restrict(&in_force);
        left.oauth.expect("oauth").idp.as_ref().map(|idp| idp.allowed_domains.clone())
    };
    let both = vec!["a.example".to_owned(), "b.example".to_owned()];
    assert_eq!(left(&keys("", r#""a.example", "b.example", "c.example""#)), Some(both.clone()));
    assert_eq!(left(&keys("", r#""b.example""#)), Some(vec!["b.example".to_owned()]));
    assert_eq!(left(&keys("", r#""c.example""#)), None, "nobody is left");
    assert_eq!(
        left(&keys(r#", "recheck": "soon""#, r#""a.example""#)),
        Some(vec!["a.example".to_owned()]),
        "a slip elsewhere"
    );
    assert_eq!(
        left(&keys("", r#""a.example", "@b.example""#)),
        Some(vec!["a.example".to_owned()]),
        "what cannot be read lets in nobody"
    );
    assert_eq!(left(&keys("", r#""a.example", 7, {"$env": "NONE"}"#)), Some(vec!["a.example".to_owned()]));
    let no_list = keys("", "").replace(r#""allowedDomains": []"#, r#""allowedDomains": "b.example""#);
    assert_eq!(left(&no_list), None, "it is no list");
    assert_eq!(left(&keys(r#", "recheck": "soon""#, "")), Some(both.clone()), "nobody means everybody");
    assert_eq!(left(r#""users": {}"#), None);
    assert_eq!(
        left(&keys("", r#""a.example", "b.example""#).replace("gate\"", "other\"")),
        None,
        "another client"
    );
    assert_eq!(
        left(&keys("", r#""a.example", "@b.example""#).replace("gate\"", "other\"")),
        None,
        "another client, whatever is wrong with the list"
    );
}

#[test]
fn an_organization_that_a_refused_file_takes_out_is_out_whatever_else_is_wrong_with_it() {
    let keys = |more: &str, orgs: &str| {
        format!(r#""idp": {{"provider": "github", {SECRET}, "allowedOrgs": {orgs}{more}}}, "users": {{}}"#)
    };
    let in_force = good(with_auth(&keys("", r#"["a", "b"]"#)));
    let left = |keys: &str| {
        let loaded = with_auth(&format!(r#"{keys}, "tokenTtl": "never""#));
        let left = loaded.remaining.expect("known").restrict(&in_force);
        left.oauth.expect("oauth").idp.as_ref().map(|idp| idp.allowed_orgs.join(" "))
    };
    let slip = r#", "recheck": "soon""#;
    for (more, orgs, wanted) in [
        ("", r#"["a", "b", "c"]"#, Some("a b")),
        ("", r#"["b"]"#, Some("b")),
        (slip, r#"["b"]"#, Some("b")),
        (slip, r#"["a", "b"]"#, Some("a b")),
        (slip, r#"["c"]"#, None),
        (slip, "[]", Some("a b")),
        ("", r#"["a", ""]"#, Some("a")),
        ("", r#"["a", 7]"#, Some("a")),
        (slip, r#"["a", {"$env": "NONE"}]"#, Some("a")),
        ("", r#"{"a": true}"#, None),
        (r#", "provider": "gitbub""#, r#"["a"]"#, Some("a")),
    ] {
        assert_eq!(left(&keys(more, orgs)).as_deref(), wanted, "{more} {orgs}");
    }
    // One that was not there before lets in nobody else.
    let everybody =
        r#""idp": {"provider": "github", "clientId": "gate"}, "allowedDomains": ["a.example"], "users": {}"#;
    let in_force = good(with_auth(everybody));
    let limited = with_auth(&everybody.replace(r#""gate""#, r#""gate", "allowedOrgs": ["a", 7]"#));
    let left = limited.remaining.expect("known").restrict(&in_force).oauth.expect("oauth");
    assert_eq!(left.idp.as_ref().expect("left").allowed_orgs, ["a"]);
}
