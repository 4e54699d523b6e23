//! What the gateway asks authorization servers, and what it takes of what they say.

use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{played::*, *};
use crate::{
    config::{
        ClientAuthWay, ExchangeProfile, ExchangeSubject, ResourceParameter, SecondExchange, TokenExchange,
        UpstreamClientKey,
    },
    identity::foreign::source::NotFetched,
    secret::Secret,
};

#[tokio::test]
async fn what_a_server_says_of_itself_is_looked_for_where_it_may_be_and_no_further() {
    let played = Played::new();
    let found = played.discover().await.unwrap();
    assert_eq!((&*found.issuer, found.resource.as_deref()), (ISSUER, Some(SERVER)));
    assert_eq!(found.authorization.as_ref().unwrap().as_str(), "https://login.example/authorize?p=1");
    assert_eq!(found.token.as_str(), TOKEN);
    assert_eq!(found.ways, Some(vec![ClientAuthWay::Basic, ClientAuthWay::None]));
    assert!(found.says_iss && !found.takes_client_document && !found.has_offline_access);
    // The server is asked what it wants, in both ways in which servers are.
    assert_eq!(played.world.places(), [SERVER, SERVER, OF_PATH, OF_ISSUER]);
    let asked = played.world.asked.lock().clone();
    assert!(serde_json::from_str::<Value>(&asked[0].text).unwrap()["method"] == "tools/list");
    // The server's own place is the config's word; the issuer's is the server's.
    assert_eq!(asked.iter().map(|it| it.is_public).collect::<Vec<_>>(), [false, false, false, true]);

    let played = Played::bare();
    played.world.has(OF_ROOT, resource(json!({ "resource": "https://mcp.example" })));
    played.world.has(OF_ISSUER, metadata(json!({})));
    let found = played.discover().await.unwrap();
    assert_eq!(found.resource.as_deref(), Some("https://mcp.example"), "byte for byte");
    assert_eq!(played.world.places(), [SERVER, SERVER, OF_PATH, OF_ROOT, OF_ISSUER]);
}

#[tokio::test]
async fn what_the_servers_challenge_says_comes_first() {
    let played = Played::bare();
    let place = "https://mcp.example/custom/here.json";
    *played.world.challenge.lock() = Some(format!("Bearer scope=\"a b\", resource_metadata=\"{place}\""));
    played.world.has(place, resource(json!({ "scopes_supported": ["c", "d", "no scope"] })));
    played.world.has(OF_ISSUER, metadata(json!({})));
    let found = played.discover().await.unwrap();
    assert_eq!(found.scopes_of_challenge, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(found.scopes_of_resource, Some(vec!["c".to_owned(), "d".to_owned()]));
    assert_eq!(played.world.places(), [SERVER, place, OF_ISSUER]);
    // One that is known already is not asked for again.
    let known = Challenge { resource_metadata: place.parse().ok(), ..Challenge::default() };
    played.world.asked.lock().clear();
    let found = discover(&played.outgoing, &played.config, Purpose::Code, &played.server, Some(&known)).await;
    assert_eq!(found.unwrap().scopes_of_challenge, None);
    assert_eq!(played.world.places(), [place, OF_ISSUER]);
    // Where nothing is there, the usual places are left.
    played.world.has(place, (404, json!({})));
    played.world.has(OF_PATH, resource(json!({})));
    assert!(played.discover().await.is_ok());
}

#[tokio::test]
async fn metadata_of_an_issuer_with_a_path_is_at_three_places() {
    for issuer in ["https://login.example/a/b", "https://login.example/a/b/"] {
        let places = [
            "https://login.example/.well-known/oauth-authorization-server/a/b",
            "https://login.example/.well-known/openid-configuration/a/b",
            "https://login.example/a/b/.well-known/openid-configuration",
        ];
        for (at, place) in places.iter().enumerate() {
            let played = Played::bare();
            played.world.has(OF_PATH, resource(json!({ "authorization_servers": [issuer] })));
            played.world.has(place, metadata(json!({ "issuer": issuer })));
            assert_eq!(&*played.discover().await.unwrap().issuer, issuer);
            assert_eq!(played.world.places()[3..], places[..=at]);
        }
    }
}

#[tokio::test]
async fn an_issuer_of_the_config_is_the_one_and_may_be_anywhere() {
    let mut played = Played::new();
    played.config.issuer = Some("http://127.0.0.1:9/realm".into());
    played.world.has(
        "http://127.0.0.1:9/.well-known/oauth-authorization-server/realm",
        metadata(json!({ "issuer": "http://127.0.0.1:9/realm", "token_endpoint": "https://10.0.0.1/token" })),
    );
    let found = played.discover().await.unwrap();
    assert_eq!(&*found.issuer, "http://127.0.0.1:9/realm");
    assert_eq!(found.reach(&found.token), Reach::Anywhere);
    assert!(played.world.asked.lock().iter().all(|asked| !asked.is_public));
    // Whatever the server says, or does not.
    played.world.has(OF_PATH, (404, json!({})));
    assert_eq!(played.discover().await.unwrap().resource.as_deref(), Some(SERVER));
}

#[tokio::test]
async fn a_server_of_2025_03_26_has_all_at_its_origin() {
    let of_origin = "https://mcp.example/.well-known/oauth-authorization-server";
    let played = Played::bare();
    let found = played.discover().await.unwrap();
    assert_eq!(&*found.issuer, "https://mcp.example");
    assert_eq!(found.authorization.as_ref().unwrap().as_str(), "https://mcp.example/authorize");
    assert_eq!(found.token.as_str(), "https://mcp.example/token");
    assert_eq!(found.registration.as_ref().unwrap().as_str(), "https://mcp.example/register");
    assert_eq!(found.reach(&found.token), Reach::Anywhere);
    assert!(!found.says_iss && found.ways.is_none());
    assert_eq!(played.world.places(), [SERVER, SERVER, OF_PATH, OF_ROOT, of_origin]);

    for issuer in ["https://mcp.example", "https://mcp.example/"] {
        played.world.has(of_origin, metadata(json!({ "issuer": issuer })));
        let found = played.discover().await.unwrap();
        assert_eq!((&*found.issuer, found.token.as_str()), (issuer, TOKEN));
        assert_eq!(found.reach(&found.token), Reach::Public, "it is at another place");
    }
}

#[tokio::test]
async fn with_both_urls_in_the_config_nothing_is_looked_for() {
    let mut played = Played::new();
    played.config.token_url = "http://10.0.0.1/token".parse().ok();
    played.config.authorization_url = "https://login.example/authorize".parse().ok();
    let found = played.discover().await.unwrap();
    assert_eq!((&*found.issuer, found.resource.as_deref()), ("http://10.0.0.1", Some(SERVER)));
    assert_eq!(found.reach(&found.token), Reach::Anywhere);
    // One that sends nobody anywhere needs one of them.
    played.config.authorization_url = None;
    played.purpose = Purpose::ClientCredentials;
    assert_eq!(played.discover().await.unwrap().authorization, None);
    assert_eq!(played.world.places(), Vec::<String>::new());
    // One alone is taken, and the rest is looked for.
    played.purpose = Purpose::Code;
    let found = played.discover().await.unwrap();
    assert_eq!((found.token.as_str(), &*found.issuer), ("http://10.0.0.1/token", ISSUER));
    assert_eq!(found.reach(&found.token), Reach::Anywhere);
}

#[tokio::test]
async fn what_tokens_are_for_is_said_as_the_config_has_it() {
    for (configured, sent) in [
        (ResourceParameter::Auto, Some("https://mcp.example/team")),
        (ResourceParameter::Never, None),
        (ResourceParameter::Is("urn:db".into()), Some("urn:db")),
    ] {
        let mut played = Played::new();
        played.world.has(OF_PATH, resource(json!({ "resource": "https://mcp.example/team" })));
        played.config.resource = configured;
        assert_eq!(played.discover().await.unwrap().resource.as_deref(), sent);
    }
    // A server without a path is called by its origin.
    let mut played = Played::bare();
    played.server = "https://mcp.example".parse().unwrap();
    assert_eq!(played.discover().await.unwrap().resource.as_deref(), Some("https://mcp.example"));
    // One that has another name outside is known by that, if the config has it.
    let mut played = Played::new();
    played.world.has(OF_PATH, resource(json!({ "resource": "https://outside.example/mcp" })));
    assert!(played.discover().await.is_err());
    played.config.resource = ResourceParameter::Is("https://outside.example/mcp".into());
    assert!(played.discover().await.is_ok());
}

#[tokio::test]
async fn the_gateway_is_the_client_of_the_config_or_of_its_document_or_registers() {
    let mut played = Played::new();
    played.config.client_metadata_url = "https://gate.example/oauth/client.json".parse().ok();
    played.world.has(REGISTER, (201, json!({ "client_id": "c1", "client_secret": "s1" })));
    let registered = played.client().await.unwrap();
    assert_eq!((&*registered.client_id, registered.is_registered), ("c1", true), "no documents are taken");

    played.world.has(OF_ISSUER, metadata(json!({ "client_id_metadata_document_supported": true })));
    let by_document = played.client().await.unwrap();
    assert_eq!(&*by_document.client_id, "https://gate.example/oauth/client.json");
    assert_eq!((by_document.way, by_document.is_registered), (ClientAuthWay::None, false));

    played.config.client_id = Some("gate".into());
    played.config.client_key.secret = Some(secret("s"));
    let configured = played.client().await.unwrap();
    assert_eq!((&*configured.client_id, configured.way), ("gate", ClientAuthWay::Basic));
    assert_eq!(played.world.asked(REGISTER).len(), 1);
}

#[tokio::test]
async fn how_the_client_proves_itself_is_chosen_of_what_both_sides_have() {
    use ClientAuthWay::{Basic, None as Nothing, Post, PrivateKeyJwt};
    let (with_secret, with_key) = (Some(secret("s")), Some(pem(&key_pair())));
    for (listed, secret, key, way) in [
        (json!(null), &with_secret, &None, Basic),
        (json!(["client_secret_post"]), &with_secret, &None, Post),
        (json!(["client_secret_post", "client_secret_basic"]), &with_secret, &None, Basic),
        (json!(["none"]), &with_secret, &None, Basic),
        (json!(null), &None, &None, Nothing),
        (json!(["client_secret_basic"]), &None, &None, Nothing),
        (json!(null), &None, &with_key, PrivateKeyJwt),
        (json!(["client_secret_basic"]), &None, &with_key, PrivateKeyJwt),
        (json!(["client_secret_basic"]), &with_secret, &with_key, Basic),
        (json!(["private_key_jwt"]), &with_secret, &with_key, PrivateKeyJwt),
    ] {
        let mut played = Played::new();
        let listed_ = listed.clone();
        played.world.has(OF_ISSUER, metadata(json!({ "token_endpoint_auth_methods_supported": listed })));
        played.config.client_id = Some("gate".into());
        played.config.client_key =
            UpstreamClientKey { way: None, secret: secret.clone(), private_key: key.clone() };
        assert_eq!(played.client().await.unwrap().way, way, "{listed_}");
        played.config.client_key.way = Some(Nothing);
        assert_eq!(played.client().await.unwrap().way, Nothing);
    }
}

#[tokio::test]
async fn a_registration_says_what_the_gateway_is_and_is_kept_for_its_issuer() {
    let played = Played::new();
    let answer = json!({ "client_id": "c1", "client_secret": "s 1", "client_secret_expires_at": 0 });
    played.world.has(REGISTER, (201, answer));
    let client = played.client().await.unwrap();
    let asked = played.world.last(REGISTER);
    assert_eq!(
        serde_json::from_str::<Value>(&asked.text).unwrap(),
        json!({
            "client_name": "the gate", "redirect_uris": [REDIRECT], "application_type": "web",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic",
        })
    );
    assert!(asked.is_public && asked.authorization.is_none());
    assert_eq!((client.way, &*client.issuer, client.ends), (ClientAuthWay::Basic, ISSUER, None));

    // It is used again, as it was kept, by the same issuer and place to come back to, until its secret ends.
    let discovered = played.discover().await.unwrap();
    let kept = UpstreamClient::read(&client.written(), &played.config.client_key).unwrap();
    assert!(kept == client && kept.secret == client.secret);
    let again = async |kept: UpstreamClient, redirect_uri: &str| {
        client_of(&played, &discovered, redirect_uri, Some(kept)).await
    };
    assert!(again(kept.clone(), REDIRECT).await == client);
    assert_eq!(played.world.asked(REGISTER).len(), 1);
    let other = |change: fn(&mut UpstreamClient)| {
        let mut other = kept.clone();
        change(&mut other);
        other
    };
    again(kept.clone(), "https://gate.example/oauth/callback/other").await;
    again(other(|client| client.issuer = "https://other.example".into()), REDIRECT).await;
    again(other(|client| client.ends = Some(NOW)), REDIRECT).await;
    assert_eq!(played.world.asked(REGISTER).len(), 4);
    again(other(|client| client.ends = Some(NOW + 1)), REDIRECT).await;
    assert_eq!(played.world.asked(REGISTER).len(), 4);
}

async fn client_of(
    played: &Played,
    discovered: &Discovered,
    redirect_uri: &str,
    registered: Option<UpstreamClient>,
) -> UpstreamClient {
    let (outgoing, config) = (&played.outgoing, &played.config);
    client(outgoing, config, discovered, redirect_uri, registered, "the gate").await.unwrap()
}

#[tokio::test]
async fn what_a_registration_says_of_the_proof_counts() {
    use ClientAuthWay::{Basic, None as Nothing, Post};
    for (listed, answer, way) in [
        (json!(["client_secret_post"]), json!({ "client_id": "c", "client_secret": "s" }), Post),
        (json!(["none"]), json!({ "client_id": "c", "client_secret": "s" }), Nothing),
        (json!(null), json!({ "client_id": "c", "client_secret": "s" }), Basic),
        (json!(null), json!({ "client_id": "c" }), Nothing),
        (
            json!(["none"]),
            json!({ "client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post" }),
            Post,
        ),
        (
            json!(null),
            json!({ "client_id": "c", "token_endpoint_auth_method": "client_secret_basic" }),
            Nothing,
        ),
    ] {
        let played = Played::new();
        played.world.has(OF_ISSUER, metadata(json!({ "token_endpoint_auth_methods_supported": listed })));
        let shown = answer.to_string();
        played.world.has(REGISTER, answer);
        assert_eq!(played.client().await.unwrap().way, way, "{shown}");
    }
    // With a key, its public half is registered.
    let mut played = Played::new();
    played.config.client_key.private_key = Some(pem(&key_pair()));
    played
        .world
        .has(OF_ISSUER, metadata(json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] })));
    played.world.has(REGISTER, (201, json!({ "client_id": "c" })));
    let client = played.client().await.unwrap();
    let asked: Value = serde_json::from_str(&played.world.last(REGISTER).text).unwrap();
    assert_eq!(asked["token_endpoint_auth_method"], "private_key_jwt");
    assert_eq!(asked["jwks"]["keys"][0], client.key.as_ref().unwrap().public_jwk());
    let kept = UpstreamClient::read(&client.written(), &played.config.client_key).unwrap();
    assert!(kept.key.is_some() && UpstreamClient::read(&client.written(), &Default::default()).is_none());
}

#[tokio::test]
async fn a_browser_is_sent_with_all_that_the_answer_is_bound_to() {
    let mut played = Played::new();
    played.config.extra_params =
        [("access_type", "offline"), ("state", "mine"), ("redirect_uri", "https://evil.example/")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    let discovered = played.discover().await.unwrap();
    let (scopes, none) = (["a".to_owned(), "b".to_owned()], []);
    let ask = AuthorizationAsk {
        state: "st",
        challenge: "ch",
        redirect_uri: REDIRECT,
        scopes: &scopes,
        resource: Some(SERVER),
    };
    let url = authorization_url(&discovered, &played.config, &confidential(), &ask).unwrap();
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let expected = [
        ("p", "1"),
        ("response_type", "code"),
        ("client_id", "gate"),
        ("redirect_uri", REDIRECT),
        ("state", "st"),
        ("code_challenge", "ch"),
        ("code_challenge_method", "S256"),
        ("scope", "a b"),
        ("resource", SERVER),
        ("access_type", "offline"),
    ];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let bare = AuthorizationAsk { scopes: &none, resource: None, ..ask };
    let url = authorization_url(&discovered, &played.config, &confidential(), &bare).unwrap();
    assert!(url.query_pairs().all(|(name, _)| name != "scope" && name != "resource"));
    let offline = ["offline_access".to_owned()];
    let ask = AuthorizationAsk { scopes: &offline, ..ask };
    let prompt = |config: &crate::config::UpstreamOauth| {
        let url = authorization_url(&discovered, config, &confidential(), &ask).unwrap();
        url.query_pairs()
            .filter(|(name, _)| name == "prompt")
            .map(|(_, value)| value.into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(prompt(&played.config), ["consent"]);
    played.config.extra_params = vec![("prompt".into(), "login".into())];
    assert_eq!(prompt(&played.config), ["login"]);
}

#[tokio::test]
async fn what_is_asked_for_is_what_is_wanted_at_least() {
    let played = Played::new();
    let discovered = played.discover().await.unwrap();
    let list = |text: &str| text.split_terminator(' ').map(str::to_owned).collect::<Vec<_>>();
    for (challenged, configured, listed, offline, more, asked) in [
        ("", "", "", false, "", ""),
        ("", "", "c d", false, "", "c d"),
        ("a", "", "c d", false, "", "a"),
        ("", "b", "c d", false, "", "b"),
        ("a", "b a", "c", true, "x a", "a b x offline_access"),
        ("", "", "c", false, "x", "c x"),
        ("", "", "", true, "", "offline_access"),
    ] {
        let mut config = played.config.clone();
        config.scopes = list(configured);
        let said = |text: &str| (!text.is_empty()).then(|| list(text));
        let discovered = Discovered {
            scopes_of_challenge: said(challenged),
            scopes_of_resource: said(listed),
            has_offline_access: offline,
            ..discovered.clone()
        };
        assert_eq!(
            scopes(&config, &discovered, &list(more)),
            list(asked),
            "{challenged}|{configured}|{listed}"
        );
    }
}

#[tokio::test]
async fn an_answer_of_a_browser_is_of_the_issuer_or_of_none() {
    let says = Played::new().discover().await.unwrap();
    let silent = Discovered { says_iss: false, ..says.clone() };
    for (iss, of_one_that_says, of_one_that_does_not) in [
        (Some(ISSUER), true, true),
        (None, false, true),
        (Some("https://login.example/"), false, false),
        (Some("https://LOGIN.example"), false, false),
        (Some("https://evil.example"), false, false),
        (Some(""), false, false),
    ] {
        let found = (says.is_answered_by(iss), silent.is_answered_by(iss));
        assert_eq!(found, (of_one_that_says, of_one_that_does_not), "{iss:?}");
    }
}

#[tokio::test]
async fn a_code_is_redeemed_with_all_that_it_is_bound_to() {
    let played = Played::new();
    let id_token =
        format!("x.{}.y", URL_SAFE_NO_PAD.encode(json!({ "email": "alice@db.example" }).to_string()));
    let mut answer = tokens();
    answer["scope"] = json!("read  write");
    answer["id_token"] = json!(id_token);
    let got = played.redeem(answer).await.unwrap();
    let asked = played.world.last(TOKEN);
    assert!(asked.is_public);
    assert_eq!(asked.authorization.as_deref(), Some("Basic Z2F0ZTpzJTI2Y3IlM0F0"));
    let mut form: Vec<_> = asked.form().into_iter().collect();
    form.sort();
    let expected = [
        ("code", "the code"),
        ("code_verifier", "the verifier"),
        ("grant_type", "authorization_code"),
        ("redirect_uri", REDIRECT),
        ("resource", SERVER),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!((got.access.expose(), got.refresh.as_ref().unwrap().expose()), ("at1", "rt2"));
    assert_eq!(got.ends, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 300)));
    assert_eq!(got.scopes, Some(vec!["read".to_owned(), "write".to_owned()]));
    assert_eq!(got.account.as_deref(), Some("alice@db.example"));
    let kept = TokenAnswer::read(&got.written()).unwrap();
    assert_eq!((&kept.access, &kept.refresh, kept.ends), (&got.access, &got.refresh, got.ends));
    assert!(!format!("{got:?}").contains("at1") && !format!("{:?}", confidential()).contains("s&cr"));
}

#[tokio::test]
async fn a_refresh_says_again_what_is_wanted_and_keeps_what_came_whatever_else_is_wrong() {
    let played = Played::new();
    let got = played.refresh(tokens()).await.unwrap();
    let asked = played.world.last(TOKEN);
    assert_eq!(asked.field("grant_type").as_deref(), Some("refresh_token"));
    assert_eq!(asked.field("refresh_token").as_deref(), Some("rt1"));
    assert_eq!(
        (asked.field("scope").as_deref(), asked.field("resource").as_deref()),
        (Some("read"), Some(SERVER))
    );
    assert_eq!((got.refresh.unwrap().expose(), got.fault), ("rt2", None));
    let got = played.refresh(json!({ "access_token": "at2", "token_type": "Bearer" })).await.unwrap();
    assert!(got.refresh.is_none() && got.ends.is_none());
    for odd in [
        json!({ "access_token": "at3", "token_type": "DPoP", "refresh_token": "rt3" }),
        json!({ "access_token": "at3", "refresh_token": "rt3" }),
        json!({ "access_token": "a t", "token_type": "Bearer", "refresh_token": "rt3" }),
        json!({ "token_type": "Bearer", "refresh_token": "rt3" }),
    ] {
        let got = played.refresh(odd.clone()).await.unwrap();
        assert!(got.fault.is_some() && got.refresh.unwrap().expose() == "rt3", "{odd}");
        // Of a code nothing is there to be lost.
        assert!(matches!(played.redeem(odd).await, Err(OauthError::Broken(_))));
    }
}

fn key_pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn pem(pair: &EcdsaKeyPair) -> Secret {
    let der = STANDARD.encode(pair.to_pkcs8v1().unwrap());
    Secret::new(format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n"))
}

#[tokio::test]
async fn a_client_with_a_key_signs_for_the_issuer_each_time_anew() {
    let mut played = Played::new();
    let pair = key_pair();
    played.purpose = Purpose::ClientCredentials;
    played.config.client_id = Some("gate".into());
    played.config.client_key.private_key = Some(pem(&pair));
    // Of one that sends nobody anywhere, nothing is wanted that is for browsers.
    let only = json!({
        "authorization_endpoint": null, "code_challenge_methods_supported": null,
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    });
    played.world.has(OF_ISSUER, metadata(only));
    played.world.has(TOKEN, tokens());
    let discovered = played.discover().await.unwrap();
    let client = played.client().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        client_credentials(&played.outgoing, &discovered, &client, &[], discovered.resource.as_deref())
            .await
            .unwrap();
        let asked = played.world.last(TOKEN);
        assert_eq!(asked.field("grant_type").as_deref(), Some("client_credentials"));
        assert_eq!(
            (asked.field("client_id").as_deref(), asked.authorization.as_deref()),
            (Some("gate"), None)
        );
        let kind = asked.field("client_assertion_type");
        assert_eq!(kind.as_deref(), Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        let assertion = asked.field("client_assertion").unwrap();
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        public.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(message.split('.').nth(1).unwrap()).unwrap();
        let mut claims: Value = serde_json::from_slice(&claims).unwrap();
        ids.push(claims["jti"].take());
        let expected =
            json!({ "iss": "gate", "sub": "gate", "aud": ISSUER, "iat": NOW, "exp": NOW + 60, "jti": null });
        assert_eq!(claims, expected);
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_token_is_revoked_where_that_is_possible() {
    const REVOKE: &str = "https://login.example/revoke";
    let played = Played::new();
    let discovered = played.discover().await.unwrap();
    let revoked = async |discovered: &Discovered| {
        revoke(&played.outgoing, discovered, &confidential(), &secret("rt1"), TokenKind::Refresh).await
    };
    played.world.has(REVOKE, Answer::Json(200, String::new()));
    assert_eq!(revoked(&discovered).await, Ok(()));
    let asked = played.world.last(REVOKE);
    assert_eq!((asked.field("token").as_deref(), asked.is_public), (Some("rt1"), true));
    assert!(asked.authorization.is_some());
    played.world.has(REVOKE, (503, json!({})));
    assert!(matches!(revoked(&discovered).await, Err(OauthError::Unavailable(_))));
    played.world.has(REVOKE, (400, json!({})));
    assert!(matches!(revoked(&discovered).await, Err(OauthError::Broken(_))));
    assert_eq!(revoked(&Discovered { revocation: None, ..discovered }).await, Ok(()));
}

fn exchange_config(profile: ExchangeProfile) -> TokenExchange {
    let key = |text: &str| UpstreamClientKey { secret: Some(secret(text)), ..UpstreamClientKey::default() };
    TokenExchange {
        profile,
        subject: ExchangeSubject::Caller,
        token_url: TOKEN.parse().unwrap(),
        client_id: Some("gate".into()),
        client_key: key("s1"),
        audience: Some("api://graph".into()),
        resource: Some(SERVER.into()),
        scopes: vec!["read".into()],
        second: (profile == ExchangeProfile::IdJag).then(|| SecondExchange {
            token_url: "https://as.example/token".parse().unwrap(),
            client_id: Some("gate-there".into()),
            client_key: key("s2"),
        }),
        places: Vec::new(),
    }
}

#[tokio::test]
async fn a_token_is_exchanged_in_each_of_three_ways() {
    let played = Played::new();
    let fields = |asked: &Asked, names: &[&str]| {
        names.iter().map(|name| asked.field(name).unwrap_or_default()).collect::<Vec<_>>()
    };
    let exchanged = async |config: &TokenExchange, kind| {
        exchange(&played.outgoing, config, &secret("subject"), kind).await
    };
    played.world.has(TOKEN, tokens());
    let config = exchange_config(ExchangeProfile::TokenExchange);
    assert_eq!(exchanged(&config, SubjectKind::AccessToken).await.unwrap().access.expose(), "at1");
    let asked = played.world.last(TOKEN);
    assert_eq!(
        fields(&asked, &["grant_type", "subject_token", "subject_token_type", "requested_token_type"]),
        [
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject",
            "urn:ietf:params:oauth:token-type:access_token",
            "urn:ietf:params:oauth:token-type:access_token",
        ]
    );
    assert_eq!(fields(&asked, &["audience", "resource", "scope"]), ["api://graph", SERVER, "read"]);
    assert!(!asked.is_public && asked.authorization.is_some(), "the config names it");

    let config = exchange_config(ExchangeProfile::EntraOnBehalfOf);
    exchanged(&config, SubjectKind::AccessToken).await.unwrap();
    let asked = played.world.last(TOKEN);
    assert_eq!(
        fields(&asked, &["grant_type", "assertion", "requested_token_use", "scope", "subject_token"]),
        ["urn:ietf:params:oauth:grant-type:jwt-bearer", "subject", "on_behalf_of", "read", ""]
    );
    let no_person = json!({ "error": "invalid_grant", "error_codes": [7000114] });
    played.world.has(TOKEN, (400, no_person));
    let refused = exchanged(&config, SubjectKind::AccessToken).await.err();
    assert_eq!(refused, Some(OauthError::Refused(OauthRefusal::ApplicationOnly)));

    let config = exchange_config(ExchangeProfile::IdJag);
    let jag = "urn:ietf:params:oauth:token-type:id-jag";
    played
        .world
        .has(TOKEN, json!({ "access_token": "the.jag.x", "issued_token_type": jag, "token_type": "N_A" }));
    played.world.has("https://as.example/token", tokens());
    exchanged(&config, SubjectKind::IdToken).await.unwrap();
    let asked = played.world.last(TOKEN);
    assert_eq!(
        fields(&asked, &["requested_token_type", "subject_token_type", "audience", "resource"]),
        [jag, "urn:ietf:params:oauth:token-type:id_token", "api://graph", SERVER]
    );
    let asked = played.world.last("https://as.example/token");
    assert_eq!(
        fields(&asked, &["grant_type", "assertion"]),
        ["urn:ietf:params:oauth:grant-type:jwt-bearer", "the.jag.x"]
    );
    assert_eq!(asked.authorization.as_deref(), Some("Basic Z2F0ZS10aGVyZTpzMg=="), "the client there");
    // An access token of the identity provider is no assertion.
    let access =
        json!({ "access_token": "at", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token" });
    played.world.has(TOKEN, access);
    assert!(matches!(exchanged(&config, SubjectKind::IdToken).await, Err(OauthError::Broken(_))));
    assert_eq!(played.world.asked("https://as.example/token").len(), 1);
}

#[tokio::test]
async fn what_was_discovered_is_kept_as_it_is() {
    let mut played = Played::new();
    played.config.issuer = Some(ISSUER.into());
    let found = played.discover().await.unwrap();
    let written = serde_json::to_string(&found).unwrap();
    let kept: Discovered = serde_json::from_str(&written).unwrap();
    assert!(kept == found && kept.reach(&kept.token) == Reach::Anywhere);
    assert_eq!(Played::new().discover().await.unwrap().reach(&found.token), Reach::Public);
    // Something that cannot be asked is not taken for one that has nothing.
    played.world.has(OF_ISSUER, NotFetched::Timeout);
    assert!(matches!(played.discover().await, Err(OauthError::Unavailable(_))));
}
