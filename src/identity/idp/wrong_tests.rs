//! Answers of providers that are wrong in each way that anybody has thought of, and those that are not.

use aws_lc_rs::hmac;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::played::{Answer, KEYS, METADATA, OIDC, Played, TOKENS, USER_INFO, claim, metadata, secrets};
use crate::{
    config::IdpProvider,
    identity::foreign::{
        signer::{NOW, OTHER_RSA, P256, RSA, Signer, base64},
        source::NotFetched,
    },
};

/// A login that is wrong in one way.
type Wrong = (&'static str, fn(&mut Played));

fn signed_by(played: &mut Played, signer: &Signer, algorithm: Algorithm, header: &Value) {
    let token = signer.signed_by(algorithm, &header.to_string(), &played.claims.to_string());
    played.gives(&token);
}

fn by_secret(played: &mut Played, secret: &[u8]) {
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": RSA.id() });
    let message = format!("{}.{}", base64(header.to_string()), base64(played.claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    played.gives(&format!("{message}.{}", base64(tag)));
}

/// In an ID token of a good signature.
const WRONG_CLAIMS: &[Wrong] = &[
    ("no nonce", |it| claim(it, "nonce", json!(null))),
    ("nonce of another login", |it| claim(it, "nonce", json!("other"))),
    ("empty nonce", |it| claim(it, "nonce", json!(""))),
    ("nonce in a list", |it| claim(it, "nonce", json!([secrets().nonce.expose()]))),
    ("state as nonce", |it| claim(it, "nonce", json!(secrets().state.expose()))),
    ("iss of another", |it| claim(it, "iss", json!("https://evil.example"))),
    ("iss with a slash", |it| claim(it, "iss", json!(format!("{OIDC}/")))),
    ("iss in capitals", |it| claim(it, "iss", json!("https://LOGIN.corp.example"))),
    ("iss in a list", |it| claim(it, "iss", json!([OIDC]))),
    ("no iss", |it| claim(it, "iss", json!(null))),
    ("aud of another client", |it| claim(it, "aud", json!("other"))),
    ("no aud", |it| claim(it, "aud", json!(null))),
    ("no aud in the list", |it| claim(it, "aud", json!([]))),
    ("aud in a longer text", |it| claim(it, "aud", json!("gate other"))),
    ("several aud without azp", |it| claim(it, "aud", json!(["gate", "other"]))),
    ("several aud, none of them this client", |it| {
        claim(it, "aud", json!(["one", "other"]));
        claim(it, "azp", json!("gate"));
    }),
    ("several aud with the azp of another", |it| {
        claim(it, "aud", json!(["gate", "other"]));
        claim(it, "azp", json!("other"));
    }),
    ("azp of another", |it| claim(it, "azp", json!("other"))),
    ("azp that is no text", |it| claim(it, "azp", json!(["gate"]))),
    ("aud with what is no text", |it| {
        claim(it, "aud", json!(["gate", 1]));
        claim(it, "azp", json!("gate"));
    }),
    ("expired", |it| claim(it, "exp", json!(NOW - 31))),
    ("no exp", |it| claim(it, "exp", json!(null))),
    ("exp that is no number", |it| claim(it, "exp", json!("2100-01-01"))),
    ("made later", |it| claim(it, "iat", json!(NOW + 31))),
    ("no iat", |it| claim(it, "iat", json!(null))),
    ("not yet", |it| claim(it, "nbf", json!(NOW + 31))),
    ("no sub", |it| claim(it, "sub", json!(null))),
    ("empty sub", |it| claim(it, "sub", json!(""))),
    ("sub that is a number", |it| claim(it, "sub", json!(1))),
    ("sub with a line end", |it| claim(it, "sub", json!("u\n1"))),
    ("long sub", |it| claim(it, "sub", json!("u".repeat(256)))),
    ("an access token of Keycloak", |it| claim(it, "typ", json!("Bearer"))),
    ("an access token of Cognito", |it| claim(it, "token_use", json!("access"))),
    ("a logout token", |it| claim(it, "events", json!({}))),
    ("an access token", |it| it.header["typ"] = json!("at+jwt")),
    ("an identity assertion", |it| it.header["typ"] = json!("oauth-id-jag+jwt")),
    ("an extension in the header", |it| it.header["crit"] = json!(["typ"])),
    ("a key in the header", |it| it.header["jwk"] = RSA.jwk.clone()),
    ("a place of keys in the header", |it| it.header["jku"] = json!("https://evil.example/keys")),
];

/// In the signature, or in what is no ID token at all. They give tokens themselves.
const WRONG_TOKENS: &[Wrong] = &[
    ("alg none", |it| {
        let header = json!({ "alg": "none", "typ": "JWT" });
        it.gives(&format!("{}.{}.", base64(header.to_string()), base64(it.claims.to_string())));
    }),
    ("alg none with a kid", |it| {
        let header = json!({ "alg": "None", "typ": "JWT", "kid": RSA.id() });
        it.gives(&format!("{}.{}.", base64(header.to_string()), base64(it.claims.to_string())));
    }),
    ("HS256 with the public key", |it| by_secret(it, &RSA.der)),
    ("HS256 with the client's secret", |it| by_secret(it, b"s&cr:t")),
    ("HS256 with nothing", |it| by_secret(it, b"")),
    ("key of another issuer", |it| {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": OTHER_RSA.id() });
        signed_by(it, &OTHER_RSA, Algorithm::RS256, &header);
    }),
    ("key of another issuer under the id of this one's", |it| {
        let header = it.header.clone();
        signed_by(it, &OTHER_RSA, Algorithm::RS256, &header);
    }),
    ("no kid", |it| signed_by(it, &RSA, Algorithm::RS256, &json!({ "alg": "RS256", "typ": "JWT" }))),
    ("alg of another key", |it| {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": RSA.id() });
        signed_by(it, &P256, Algorithm::ES256, &header);
    }),
    ("other claims under the signature", |it| {
        let token = it.id_token();
        let (_, signature) = token.rsplit_once('.').unwrap();
        claim(it, "sub", json!("u2"));
        let other = it.id_token();
        let (message, _) = other.rsplit_once('.').unwrap();
        it.gives(&format!("{message}.{signature}"));
    }),
    ("no signature", |it| {
        let token = it.id_token();
        it.gives(&token[..=token.rfind('.').unwrap()]);
    }),
    ("two parts", |it| {
        let token = it.id_token();
        it.gives(&token[..token.rfind('.').unwrap()]);
    }),
    ("five parts", |it| it.gives(&format!("{}.a.b", it.id_token()))),
    ("a claim that is there twice", |it| {
        let claims = it.claims.to_string();
        let claims = format!("{{\"sub\":\"u2\",{}", &claims[1..]);
        it.gives(&RSA.signed(&it.header.to_string(), &claims));
    }),
    ("too long", |it| {
        claim(it, "padding", json!("x".repeat(33 << 10)));
        it.gives(&it.id_token());
    }),
    ("an opaque token", |it| it.gives("ya29.abc")),
    ("an empty one", |it| it.gives("")),
    ("none", |it| it.hosts.will(TOKENS, json!({ "access_token": "at", "token_type": "Bearer" }))),
    ("null", |it| it.hosts.will(TOKENS, json!({ "access_token": "at", "id_token": null }))),
    ("of a type that is not known", |it| {
        it.hosts
            .will(TOKENS, json!({ "access_token": "at", "token_type": "DPoP", "id_token": it.id_token() }));
    }),
    ("beside an error", |it| {
        it.hosts.will(
            TOKENS,
            json!({ "id_token": it.id_token(), "access_token": "at", "error": "access_denied" }),
        );
    }),
    ("with a status that is none of success", |it| {
        it.hosts.will(TOKENS, (400, json!({ "id_token": it.id_token(), "access_token": "at" })));
    }),
    ("broken off", |it| {
        let text = json!({ "id_token": it.id_token(), "access_token": "at" }).to_string();
        it.hosts.will(TOKENS, Answer::Json(200, text[..text.len() - 1].to_owned()));
    }),
    ("twice", |it| {
        let token = it.id_token();
        let text = format!("{{\"id_token\":\"{token}\",\"id_token\":\"{token}\",\"access_token\":\"at\"}}");
        it.hosts.will(TOKENS, Answer::Json(200, text));
    }),
    ("in 10 MB", |it| {
        let text = json!({ "id_token": it.id_token(), "access_token": "at", "x": "x".repeat(10 << 20) });
        it.hosts.will(TOKENS, text);
    }),
    ("HTML", |it| it.hosts.will(TOKENS, Answer::Json(200, "<html>".into()))),
    ("elsewhere", |it| it.hosts.will(TOKENS, Answer::Fails(NotFetched::Redirect))),
    ("no code that it knows", |it| it.hosts.will(TOKENS, (400, json!({ "error": "invalid_grant" })))),
    ("no verifier that it knows", |it| it.hosts.will(TOKENS, (400, json!({ "error": "invalid_request" })))),
];

/// Around the ID token, which is good.
const WRONG_ANSWERS: &[Wrong] = &[
    ("mix-up: iss of another provider", |it| it.iss = Some("https://evil.example".into())),
    ("mix-up: iss with a slash", |it| it.iss = Some(format!("{OIDC}/"))),
    ("mix-up: empty iss", |it| it.iss = Some(String::new())),
    ("mix-up: no iss of one that always writes it", |it| {
        let mut metadata = metadata(OIDC);
        metadata["authorization_response_iss_parameter_supported"] = json!(true);
        it.hosts.will(METADATA, metadata);
    }),
    ("metadata of another issuer", |it| it.hosts.will(METADATA, metadata("https://evil.example"))),
    ("metadata without a token endpoint", |it| {
        let mut metadata = metadata(OIDC);
        metadata["token_endpoint"] = json!("http://at.idp.example/token");
        it.hosts.will(METADATA, metadata);
    }),
    ("keys over http", |it| {
        let mut metadata = metadata(OIDC);
        metadata["jwks_uri"] = json!("http://at.idp.example/keys");
        it.hosts.will(METADATA, metadata);
    }),
    ("keys on this machine", |it| {
        let mut metadata = metadata(OIDC);
        metadata["jwks_uri"] = json!("http://127.0.0.1/keys");
        it.hosts.will(METADATA, metadata);
    }),
    ("metadata that is none", |it| it.hosts.will(METADATA, Answer::Json(200, "{".into()))),
    ("metadata of 10 MB", |it| {
        let mut metadata = metadata(OIDC);
        metadata["x"] = json!("x".repeat(10 << 20));
        it.hosts.will(METADATA, metadata);
    }),
    ("metadata elsewhere", |it| it.hosts.will(METADATA, Answer::Fails(NotFetched::Redirect))),
    ("no keys", |it| it.hosts.will(KEYS, json!({ "keys": [] }))),
    ("keys that are none", |it| it.hosts.will(KEYS, Answer::Json(200, "<html>".into()))),
    ("keys elsewhere", |it| it.hosts.will(KEYS, Answer::Fails(NotFetched::Redirect))),
    ("a secret as key", |it| {
        it.hosts.will(
            KEYS,
            json!({ "keys": [{ "kty": "oct", "kid": RSA.id(), "k": "c2VjcmV0", "alg": "HS256" }] }),
        );
    }),
    ("userinfo of somebody else", |it| it.hosts.will(USER_INFO, json!({ "sub": "u2" }))),
    ("userinfo of nobody", |it| it.hosts.will(USER_INFO, json!({ "email": "alice@corp.example" }))),
    ("userinfo that refuses", |it| it.hosts.will(USER_INFO, (401, json!({})))),
    ("userinfo that is broken off", |it| {
        it.hosts.will(USER_INFO, Answer::Json(200, "{\"sub\":\"u1\"".into()))
    }),
    ("userinfo that is a list", |it| it.hosts.will(USER_INFO, json!(["u1"]))),
    ("no address", |it| claim(it, "email", json!(null))),
    ("an address that is not verified", |it| claim(it, "email_verified", json!(false))),
    ("an address of which nothing is said", |it| claim(it, "email_verified", json!(null))),
    ("an address that is verified in a text", |it| claim(it, "email_verified", json!("true"))),
    ("an address elsewhere", |it| claim(it, "email", json!("alice@corp.example.evil.example"))),
    ("two addresses", |it| claim(it, "email", json!("alice@corp.example,alice@evil.example"))),
    ("an address that userinfo verifies for another", |it| {
        claim(it, "email_verified", json!(null));
        it.hosts.will(USER_INFO, json!({ "sub": "u1", "email": "x@evil.example", "email_verified": true }));
    }),
    ("an address of userinfo that the ID token verifies", |it| {
        claim(it, "email", json!(null));
        it.hosts
            .will(USER_INFO, json!({ "sub": "u1", "email": "alice@corp.example", "email_verified": false }));
    }),
];

#[tokio::test(flavor = "local", start_paused = true)]
async fn of_a_hundred_wrong_answers_none_lets_anybody_in() {
    let mut count = 0;
    for (name, wrong) in [WRONG_CLAIMS, WRONG_TOKENS, WRONG_ANSWERS].concat() {
        let mut oidc = Played::new(IdpProvider::Oidc);
        oidc.gives(&oidc.id_token());
        wrong(&mut oidc);
        if !WRONG_TOKENS.iter().any(|(of, _)| *of == name) {
            oidc.gives(&oidc.id_token());
        }
        let found = oidc.finish().await;
        assert!(found.is_err(), "{name}: {found:?}");
        count += 1;
    }
    assert!(count >= 90, "{count}");
    let mut good = Played::new(IdpProvider::Oidc);
    good.iss = Some(OIDC.into());
    assert!(good.login().await.is_ok());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_good_id_token_may_look_like_is_taken() {
    let good: &[Wrong] = &[
        ("one aud in a list", |it| claim(it, "aud", json!(["gate"]))),
        ("several aud with azp", |it| {
            claim(it, "aud", json!(["other", "gate"]));
            claim(it, "azp", json!("gate"));
        }),
        ("no typ", |it| drop(it.header.as_object_mut().unwrap().remove("typ"))),
        ("its clock is behind", |it| claim(it, "exp", json!(NOW - 29))),
        ("its clock is ahead", |it| claim(it, "iat", json!(NOW + 29))),
        ("an ID token of Keycloak", |it| claim(it, "typ", json!("ID"))),
        ("200 groups", |it| claim(it, "groups", json!(vec!["7c1b5f3e-0000-4000-8000-000000000001"; 200]))),
        ("verified by userinfo", |it| {
            claim(it, "email_verified", json!(null));
            let address = it.claims["email"].clone();
            it.hosts.will(USER_INFO, json!({ "sub": "u1", "email": address, "email_verified": true }));
        }),
    ];
    for (name, good) in good {
        let mut oidc = Played::new(IdpProvider::Oidc);
        good(&mut oidc);
        let login = oidc.login().await;
        assert!(login.is_ok(), "{name}: {login:?}");
    }
    let mut by_p256 = Played::new(IdpProvider::Oidc);
    let header = json!({ "alg": "ES256", "kid": P256.id() });
    signed_by(&mut by_p256, &P256, Algorithm::ES256, &header);
    assert!(by_p256.finish().await.is_ok());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn google_and_entra_are_asked_for_more_than_the_address() {
    let wrong: &[(IdpProvider, Wrong)] = &[
        (IdpProvider::Google, ("no hd", |it| claim(it, "hd", json!(null)))),
        (IdpProvider::Google, ("hd that is empty", |it| claim(it, "hd", json!("")))),
        (IdpProvider::Google, ("not verified", |it| claim(it, "email_verified", json!(false)))),
        (
            IdpProvider::Google,
            ("another domain", |it| {
                claim(it, "email", json!("alice@evil.example"));
            }),
        ),
        (IdpProvider::Azure, ("tid of another", |it| claim(it, "tid", json!("other")))),
        (IdpProvider::Azure, ("no tid", |it| claim(it, "tid", json!(null)))),
        (IdpProvider::Azure, ("no oid", |it| claim(it, "oid", json!(null)))),
        (IdpProvider::Azure, ("no tenant in the config", |it| it.config.tenant_id = None)),
        (
            IdpProvider::Azure,
            ("an address that anybody may write", |it| {
                claim(it, "preferred_username", json!("x@evil.example"));
                claim(it, "email", json!("alice@corp.example"));
            }),
        ),
        (
            IdpProvider::Azure,
            ("no name", |it| {
                claim(it, "preferred_username", json!(null));
                claim(it, "email", json!("alice@corp.example"));
            }),
        ),
        (
            IdpProvider::Azure,
            ("a name that is no address", |it| {
                claim(it, "preferred_username", json!("+491701234567"));
            }),
        ),
        (
            IdpProvider::Azure,
            ("the issuer of all tenants", |it| {
                claim(it, "iss", json!("https://login.microsoftonline.com/common/v2.0"));
            }),
        ),
    ];
    for (provider, (name, wrong)) in wrong {
        let mut played = Played::new(*provider);
        wrong(&mut played);
        let login = played.login().await;
        assert!(login.is_err(), "{provider:?} {name}: {login:?}");
    }
    let mut private = Played::new(IdpProvider::Google);
    private.config.allowed_domains = vec!["gmail.com".into()];
    claim(&mut private, "hd", json!(null));
    claim(&mut private, "email", json!("alice@gmail.com"));
    assert!(private.login().await.is_ok(), "which Google itself gives");
}
