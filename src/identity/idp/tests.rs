//! Logins by each kind of provider, from the first hop on, and what is asked about somebody later.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{task::yield_now, time::advance};

use super::{
    IdpError, IdpLogin,
    played::{
        Answer, Asked, GITHUB_TOKENS, KEYS, METADATA, OIDC, Played, TOKENS, USER_INFO, claim, kind, metadata,
        now, secrets,
    },
};
use crate::{
    config::{IdpConfig, IdpProvider},
    identity::foreign::{
        signer::{OTHER_RSA, key_set},
        source::NotFetched,
    },
    secret::Secret,
};

/// What each request for a code has, beside this.
fn asks(query: &HashMap<String, String>, more: &[(&str, &str)]) {
    let secrets = secrets();
    let challenge = secrets.challenge();
    let mut expected: HashMap<_, _> = [
        ("response_type", "code"),
        ("client_id", "gate"),
        ("redirect_uri", "https://gate.example/oauth/callback"),
        ("state", secrets.state.expose()),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]
    .into_iter()
    .chain(more.iter().copied())
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if query.contains_key("nonce") {
        expected.insert("nonce".into(), secrets.nonce.expose().into());
    }
    assert_eq!(query, &expected);
    assert!(query.values().all(|value| value != secrets.verifier.expose()));
}

fn kept(login: &IdpLogin) -> Option<&str> {
    login.keep.as_ref().map(Secret::expose)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn somebody_logs_in_by_google_and_google_is_asked_about_them_again() {
    let mut google = Played::new(IdpProvider::Google);
    let (url, query) = google.begin().await;
    assert_eq!(url, "https://at.idp.example/authorize");
    asks(
        &query,
        &[
            ("p", "1"),
            ("scope", "openid email profile"),
            ("nonce", ""),
            ("access_type", "offline"),
            ("prompt", "consent"),
            ("hd", "corp.example"),
        ],
    );
    google.iss = Some(IdpConfig::GOOGLE.into());
    let login = google.login().await.unwrap();
    assert_eq!((&*login.subject, &*login.display, kept(&login)), ("u1", "alice@corp.example", Some("rt1")));
    assert_eq!(
        (&login.claims["hd"], &login.claims["email"]),
        (&json!("corp.example"), &json!("alice@corp.example"))
    );
    let asked = &google.hosts.asked(TOKENS)[0];
    let form = |name: &str| asked.form.get(name).map(String::as_str);
    assert_eq!(form("grant_type"), Some("authorization_code"));
    assert_eq!((form("code"), form("redirect_uri")), (Some("the code"), Some(&*google.config.redirect_uri)));
    assert_eq!(form("code_verifier"), Some(secrets().verifier.expose()));
    // `gate:s%26cr%3At`
    assert_eq!(asked.authorization.as_deref(), Some("Basic Z2F0ZTpzJTI2Y3IlM0F0"));
    assert_eq!((form("client_secret"), form("client_id")), (None, None));
    assert!(google.hosts.asked(USER_INFO).is_empty(), "all is in the ID token");
    assert_eq!(
        google.hosts.asked(METADATA)[0].url.as_str(),
        "https://accounts.google.com/.well-known/openid-configuration"
    );

    google.claims.as_object_mut().unwrap().remove("nonce");
    let tokens = json!({ "access_token": "at2", "token_type": "Bearer", "id_token": google.id_token() });
    google.hosts.will(TOKENS, tokens);
    let (login, keep) = google.recheck("rt1", "u1").await;
    assert_eq!((kept(&login.unwrap()), &*keep), (Some("rt1"), "rt1"), "it gives no new one");
    let asked = google.hosts.asked(TOKENS).pop().unwrap();
    assert_eq!((&*asked.form["grant_type"], &*asked.form["refresh_token"]), ("refresh_token", "rt1"));
    assert_eq!(google.hosts.asked(METADATA).len(), 1, "and is asked once what it says of itself");
    assert_eq!(google.hosts.asked(KEYS).len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn somebody_of_a_tenant_of_entra_is_who_its_directory_says() {
    let mut entra = Played::new(IdpProvider::Azure);
    entra.claims["groups"] = json!(["g1", "g2"]);
    let (_, query) = entra.begin().await;
    asks(&query, &[("p", "1"), ("scope", "openid email profile offline_access"), ("nonce", "")]);
    let login = entra.login().await.unwrap();
    assert_eq!((&*login.subject, &*login.display), ("o1", "alice@corp.example"));
    assert_eq!(
        (&login.claims["email"], &login.claims["groups"][1]),
        (&json!("alice@corp.example"), &json!("g2"))
    );
    let (login, keep) = entra.recheck("rt0", "o1").await;
    assert_eq!((login.unwrap().subject, keep), ("o1".into(), "rt1".into()));
    entra.hosts.will(TOKENS, json!({ "access_token": "at", "refresh_token": "rt2" }));
    let (login, keep) = entra.recheck("rt1", "o1").await;
    assert_eq!(login, Err(IdpError::Broken("it gave no ID token")));
    assert_eq!(keep, "rt2", "which it has to be asked by the next time, all the same");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_any_other_provider_userinfo_says_what_the_id_token_does_not() {
    let mut oidc = Played::new(IdpProvider::Oidc);
    let (_, query) = oidc.begin().await;
    let scope = "openid email profile offline_access";
    asks(&query, &[("p", "1"), ("scope", scope), ("nonce", ""), ("prompt", "consent")]);
    let claims = oidc.claims.as_object_mut().unwrap();
    claims.remove("email");
    claims.insert("email_verified".into(), json!(true));
    oidc.hosts.will(
        USER_INFO,
        json!({ "sub": "u1", "email": "alice@corp.example", "email_verified": true, "groups": ["eng"], "iss": "x" }),
    );
    let login = oidc.login().await.unwrap();
    assert_eq!((&*login.display, &login.claims["groups"]), ("alice@corp.example", &json!(["eng"])));
    assert_eq!(login.claims["iss"], OIDC, "and not what the ID token does say");
    assert_eq!(oidc.hosts.asked(USER_INFO)[0].authorization.as_deref(), Some("Bearer at"));
    // A refresh without an ID token.
    oidc.hosts.will(TOKENS, json!({ "access_token": "at2", "token_type": "bearer", "refresh_token": "rt2" }));
    let (login, keep) = oidc.recheck("rt1", "u1").await;
    let login = login.unwrap();
    assert_eq!((&*login.subject, kept(&login), &*keep), ("u1", Some("rt2"), "rt2"));
    assert_eq!(oidc.recheck("rt2", "u2").await.0, Err(IdpError::Broken("userinfo is of somebody else")));

    // One that does not know the scope is not asked for it, unless the config says so.
    let mut plain = Played::new(IdpProvider::Oidc);
    let mut without = metadata(OIDC);
    without.as_object_mut().unwrap().remove("scopes_supported");
    without.as_object_mut().unwrap().remove("userinfo_endpoint");
    plain.hosts.will(METADATA, without);
    plain.config.scopes = vec!["groups".into(), "email".into()];
    let (_, query) = plain.begin().await;
    asks(&query, &[("p", "1"), ("scope", "openid email profile groups"), ("nonce", "")]);
    plain.gives(&plain.id_token());
    plain.hosts.will(TOKENS, json!({ "id_token": plain.id_token() }));
    let login = plain.finish().await.unwrap();
    assert_eq!((&*login.subject, kept(&login)), ("u1", None), "it cannot be asked again");
    plain.idp = None;
    plain.config.scopes = vec!["offline_access".into()];
    let (_, query) = plain.begin().await;
    assert_eq!((&*query["scope"], &*query["prompt"]), ("openid email profile offline_access", "consent"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn somebody_of_github_is_their_number_there_with_the_address_that_it_has_verified() {
    let mut github = Played::github();
    let (url, query) = github.begin().await;
    assert_eq!(url, "https://github.com/login/oauth/authorize");
    asks(&query, &[("scope", "read:user user:email read:org")]);
    for iss in [None, Some("https://github.com"), Some("https://github.com/login/oauth")] {
        github.iss = iss.map(str::to_owned);
        let login = github.login().await.unwrap();
        assert_eq!((&*login.subject, &*login.display), ("583231", "alice@corp.example"));
        assert_eq!(
            (&login.claims["login"], &login.claims["orgs"]),
            (&json!("alice"), &json!(["corp", "other"]))
        );
        assert_eq!(kept(&login), Some("gho_a"));
    }
    let asked = github.hosts.asked(GITHUB_TOKENS).remove(0);
    assert_eq!((&*asked.form["client_id"], &*asked.form["client_secret"]), ("gate", "s&cr:t"));
    assert_eq!((asked.authorization, &*asked.form["code_verifier"]), (None, secrets().verifier.expose()));
    let api: Vec<String> =
        github.hosts.asked.lock().iter().skip(1).take(3).map(|asked| asked.url.to_string()).collect();
    assert_eq!(
        api,
        [
            "https://api.github.com/user",
            "https://api.github.com/user/emails",
            "https://api.github.com/user/orgs?per_page=100&page=1"
        ]
    );
    assert_eq!(github.hosts.asked("/user")[0].authorization.as_deref(), Some("Bearer gho_a"));

    let (login, keep) = github.recheck("gho_a", "583231").await;
    assert_eq!((login.unwrap().subject, keep), ("583231".into(), "gho_a".into()));
    let (login, _) = github.recheck("gho_a", "1").await;
    assert_eq!(login, Err(IdpError::Broken("it answers for somebody else than was asked about")));
    // An app whose tokens end.
    github.hosts.will(GITHUB_TOKENS, json!({ "access_token": "ghu_b", "refresh_token": "ghr_2" }));
    assert_eq!(kept(&github.login().await.unwrap()), Some("ghr_2"));
    let (login, keep) = github.recheck("ghr_1", "583231").await;
    assert_eq!((kept(&login.unwrap()), &*keep), (Some("ghr_2"), "ghr_2"));
    assert_eq!(github.hosts.asked(GITHUB_TOKENS).pop().unwrap().form["refresh_token"], "ghr_1");
    assert_eq!(github.hosts.asked("/user").pop().unwrap().authorization.as_deref(), Some("Bearer ghu_b"));
    for (answer, expected) in [
        ((401, json!({ "message": "Bad credentials" })), "refused"),
        ((403, json!({ "message": "Sorry. Your account was suspended" })), "refused"),
        ((403, json!({ "message": "API Rate limit exceeded for user" })), "unavailable"),
        ((404, json!({})), "refused"),
        ((422, json!({})), "broken"),
        ((200, json!({ "login": "alice" })), "broken"),
        ((200, json!({ "id": 0, "login": "alice" })), "broken"),
        ((200, json!({ "id": -1, "login": "alice" })), "broken"),
        ((200, json!({ "id": "583231", "login": "alice" })), "broken"),
        ((200, json!({ "id": 583_231, "login": "a\nb" })), "broken"),
        ((200, json!([])), "broken"),
    ] {
        github.hosts.will("/user", answer.clone());
        let found = github.recheck("gho_a", "583231").await.0.unwrap_err();
        assert_eq!(kind(found), expected, "{answer:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whom_github_does_not_vouch_for_as_the_config_asks_is_refused() {
    let address = |email: &str, primary: bool, verified: bool| json!([{ "email": email, "primary": primary, "verified": verified }]);
    let many = |count: usize| json!(vec![json!({ "login": "other", "id": 1 }); count]);
    let cases: [(&str, Answer); 10] = [
        ("/user/emails", address("alice@corp.example", true, false).into()),
        ("/user/emails", address("alice@corp.example", false, true).into()),
        ("/user/emails", address("alice@evil.example", true, true).into()),
        ("/user/emails", json!([]).into()),
        ("/user/emails", (404, json!({})).into()),
        ("/user/emails", (403, json!({})).into()),
        ("/user/orgs", json!([]).into()),
        ("/user/orgs", json!([{ "login": "corporation" }]).into()),
        ("/user/orgs", (403, json!({})).into()),
        ("/user/orgs", many(100).into()),
    ];
    for (place, answer) in cases {
        let mut github = Played::github();
        github.hosts.will(place, answer);
        let refused = github.login().await.unwrap_err();
        assert_eq!(kind(refused), "refused", "{place} {}", refused.reason());
    }
    // The organization is on the second page.
    let mut github = Played::github();
    let pages = vec![many(100).into(), json!([{ "login": "CORP" }]).into()];
    github.hosts.will_each("/user/orgs", pages);
    assert!(github.login().await.is_ok());
    assert_eq!(github.hosts.asked("/user/orgs")[1].url.query(), Some("per_page=100&page=2"));
    // Of GitHub Enterprise.
    let mut own = Played::github();
    own.config.user_info_url = Some("https://git.corp.example/api/v3/user".parse().unwrap());
    own.config.token_url = Some("https://git.corp.example/login/oauth/access_token".parse().unwrap());
    own.config.authorization_url = Some("https://git.corp.example/login/oauth/authorize".parse().unwrap());
    own.config.issuer = "https://git.corp.example".into();
    assert!(own.login().await.is_ok());
    assert!(own.hosts.asked.lock().iter().all(|asked| asked.url.host_str() == Some("git.corp.example")));
    assert_eq!(own.hosts.asked("/emails")[0].url.path(), "/api/v3/user/emails");
    assert!(own.begin().await.0.starts_with("https://git.corp.example/"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_provider_says_instead_is_a_no_or_asks_to_come_again_or_is_against_the_protocol() {
    for (status, error, expected) in [
        (400, "invalid_grant", "refused"),
        (400, "interaction_required", "refused"),
        (400, "access_denied", "refused"),
        (200, "bad_refresh_token", "refused"),
        (400, "temporarily_unavailable", "unavailable"),
        (400, "invalid_client", "broken"),
        (401, "invalid_client", "broken"),
        (401, "", "broken"),
        (403, "", "broken"),
        (400, "invalid_scope", "broken"),
        (400, "unsupported_grant_type", "broken"),
        (400, "anything <b>else</b>", "broken"),
    ] {
        let mut oidc = Played::new(IdpProvider::Oidc);
        let answer =
            if error.is_empty() { json!({}) } else { json!({ "error": error, "error_description": "x" }) };
        oidc.hosts.will(TOKENS, (status, answer));
        let found = oidc.recheck("rt1", "u1").await.0.unwrap_err();
        assert_eq!(kind(found), expected, "{status} {error}");
        assert!(!found.reason().contains('<'), "none of its words is in the log");
    }
    for (answer, expected) in [
        (Answer::Fails(NotFetched::Unreachable), "unavailable"),
        (Answer::Fails(NotFetched::Timeout), "unavailable"),
        (Answer::Fails(NotFetched::Failing), "unavailable"),
        (Answer::Never, "unavailable"),
        (Answer::Fails(NotFetched::Redirect), "broken"),
        (Answer::Fails(NotFetched::NotADocument), "broken"),
    ] {
        for place in [METADATA, TOKENS, USER_INFO] {
            let mut oidc = Played::new(IdpProvider::Oidc);
            oidc.gives(&oidc.id_token());
            oidc.hosts.will(place, answer.clone());
            assert_eq!(kind(oidc.recheck("rt0", "u1").await.0.unwrap_err()), expected, "{place}");
        }
        let mut oidc = Played::new(IdpProvider::Oidc);
        oidc.hosts.will(KEYS, answer.clone());
        assert_eq!(
            kind(oidc.login().await.unwrap_err()),
            "unavailable",
            "of keys, there may be some the next time"
        );
    }
    let mut oidc = Played::new(IdpProvider::Oidc);
    oidc.gives(&oidc.id_token());
    oidc.hosts.will(USER_INFO, Answer::Fails(NotFetched::Timeout));
    let (found, keep) = oidc.recheck("rt0", "u1").await;
    assert_eq!(
        (kind(found.unwrap_err()), &*keep),
        ("unavailable", "rt1"),
        "the refresh has been, all the same"
    );
    // Somebody else, and somebody who is not admitted any more.
    assert_eq!(oidc.recheck("rt0", "u2").await.0.map_err(kind), Err("unavailable"));
    oidc.hosts.will(USER_INFO, json!({ "sub": "u1" }));
    assert_eq!(oidc.recheck("rt0", "u2").await.0.map_err(kind), Err("broken"));
    claim(&mut oidc, "email", json!("alice@left.example"));
    oidc.gives(&oidc.id_token());
    assert_eq!(oidc.recheck("rt0", "u1").await.0.map_err(kind), Err("refused"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_gateway_proves_itself_as_the_provider_takes_it() {
    let ways = |played: &Played| -> Vec<&'static str> {
        let way = |asked: &Asked| match (&asked.authorization, asked.form.get("client_secret")) {
            (Some(_), None) => "basic",
            (None, Some(_)) => "post",
            (None, None) => "none",
            _ => "both",
        };
        played.hosts.asked(TOKENS).iter().map(way).collect()
    };
    let refused = || Answer::from((401, json!({ "error": "invalid_client" })));
    let good = |played: &Played| Answer::from(json!({ "access_token": "at", "id_token": played.id_token() }));
    let mut oidc = Played::new(IdpProvider::Oidc);
    oidc.hosts.will_each(TOKENS, vec![refused(), good(&oidc)]);
    assert!(oidc.finish().await.is_ok() && oidc.finish().await.is_ok());
    assert_eq!(ways(&oidc), ["basic", "post", "post"], "and remembers which way");
    let mut wrong = Played::new(IdpProvider::Oidc);
    wrong.hosts.will(TOKENS, refused());
    assert_eq!(wrong.finish().await, Err(IdpError::UNKNOWN_CLIENT));
    assert_eq!(ways(&wrong), ["basic", "post"]);
    for (listed, secret, expected) in [
        (json!(["client_secret_post"]), Some("x"), &["post"][..]),
        (json!(["client_secret_basic"]), Some("x"), &["basic"]),
        (json!(["private_key_jwt"]), Some("x"), &["basic"]),
        (json!(null), Some("x"), &["basic"]),
        (json!(["none"]), None, &["none"]),
    ] {
        let mut oidc = Played::new(IdpProvider::Oidc);
        oidc.config.client_secret = secret.map(|secret| Secret::new(secret.into()));
        let mut metadata = metadata(OIDC);
        metadata["token_endpoint_auth_methods_supported"] = listed.clone();
        oidc.hosts.will(METADATA, metadata);
        assert!(oidc.login().await.is_ok(), "{listed}");
        assert_eq!(ways(&oidc), expected, "{listed}");
        assert!(oidc.hosts.asked(TOKENS).iter().all(|asked| {
            asked.authorization.is_some() != (asked.form.get("client_id").map(String::as_str) == Some("gate"))
        }));
    }
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn metadata_and_keys_stay_whatever_happens_to_their_host_and_are_fetched_once_for_all() {
    let mut oidc = Played::new(IdpProvider::Oidc);
    let fetches = |played: &Played| (played.hosts.asked(METADATA).len(), played.hosts.asked(KEYS).len());
    oidc.gives(&oidc.id_token());
    let idp = oidc.idp();
    let all: Vec<_> = (0..20)
        .map(|_| {
            let idp = idp.clone();
            tokio::task::spawn_local(async move {
                idp.finish(&Secret::new("c".into()), None, &secrets(), now()).await.is_ok()
            })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap());
    }
    assert_eq!(fetches(&oidc), (1, 1));
    oidc.hosts.will(METADATA, Answer::Never);
    oidc.hosts.will(KEYS, Answer::Fails(NotFetched::Unreachable));
    pass(3600).await;
    for _ in 0..10 {
        assert!(oidc.login().await.is_ok());
    }
    pass(0).await;
    assert_eq!(fetches(&oidc), (2, 2), "none begins sooner than 30 s after one that failed");
    pass(30).await;
    oidc.hosts.will(METADATA, Answer::from(metadata("https://evil.example")));
    assert!(oidc.login().await.is_ok());
    assert_eq!(fetches(&oidc).0, 3);
    pass(30).await;
    oidc.hosts.will(METADATA, metadata(OIDC));
    oidc.hosts.will(KEYS, Answer::Json(200, key_set(&[&OTHER_RSA])));
    assert!(oidc.login().await.is_ok(), "who gets older keys does not wait");
    pass(1).await;
    assert_eq!(kind(oidc.login().await.unwrap_err()), "unavailable", "its key was taken back");
    // A reload that leaves it where it was leaves what is known of it.
    let before = fetches(&oidc);
    let more = IdpConfig { scopes: vec!["groups".into()], ..oidc.config.clone() };
    let after = idp.of_reload(&Arc::new(more)).unwrap();
    assert_eq!((&*after.config().scopes, fetches(&oidc)), (&["groups".to_owned()][..], before));
    assert!(after.begin(&secrets()).await.unwrap().query().unwrap().contains("groups"));
    assert_eq!(fetches(&oidc), before);
    let elsewhere = IdpConfig { issuer: "https://other.example".into(), ..oidc.config.clone() };
    assert!(idp.of_reload(&Arc::new(elsewhere)).is_none());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn where_the_config_says_where_metadata_is_the_slash_of_an_issuer_may_be_missing() {
    let mut oidc = Played::new(IdpProvider::Oidc);
    let slash = format!("{OIDC}/");
    oidc.hosts.will(METADATA, metadata(&slash));
    claim(&mut oidc, "iss", json!(slash));
    assert_eq!(oidc.login().await, Err(IdpError::Broken(NotFetched::OtherIssuer.name())));
    oidc.idp = None;
    oidc.config.discovery_url = Some(format!("{OIDC}{METADATA}").parse().unwrap());
    assert!(oidc.login().await.is_ok());
    claim(&mut oidc, "iss", json!(OIDC));
    assert!(oidc.login().await.is_err(), "its ID tokens have the one of its metadata");
    // Auth0 has one, and it is in the path of its metadata once.
    let mut auth0 = Played::new(IdpProvider::Oidc);
    auth0.config.issuer = slash.clone().into();
    auth0.hosts.will(METADATA, metadata(&slash));
    claim(&mut auth0, "iss", json!(slash));
    assert!(auth0.login().await.is_ok());
    assert_eq!(auth0.hosts.asked(METADATA)[0].url.as_str(), format!("{OIDC}{METADATA}"));
}
