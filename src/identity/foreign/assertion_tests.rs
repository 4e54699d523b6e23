//! Assertions that are forged in each way that anybody has thought of, and those that are not.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{
    assertion::{AssertionId, ClientAssertion, IdJag, VerifiedIdJag},
    jwks::KeySet,
    jwt::{NotTaken, UnverifiedJwt},
    signer::{
        ED25519, ISSUER, NOW, OTHER_RSA, P256, P384, RSA, Signer, base64, claims as access_claims, issuer,
        key_set,
    },
};

const GATE: &str = "https://mcp.example.com";
const PLACE: &str = "https://mcp.example.com/db";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn keys(signers: &[&Signer]) -> KeySet {
    KeySet::parse(key_set(signers).as_bytes()).unwrap()
}

fn of_client() -> Value {
    json!({ "iss": "ops", "sub": "ops", "aud": GATE, "iat": NOW - 5, "exp": NOW + 300, "jti": "1" })
}

fn id_jag() -> Value {
    json!({
        "iss": ISSUER, "sub": "u1", "aud": GATE, "resource": PLACE, "client_id": "ops", "iat": NOW - 5, "exp": NOW + 300,
        "jti": "1", "scope": "mcp",
    })
}

fn set(mut object: Value, member: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(member)),
        value => object[member] = value,
    }
    object
}

fn header(typ: &str) -> Value {
    set(RSA.header(), "typ", json!(typ))
}

fn signed(header: &Value, claims: &Value) -> String {
    RSA.signed(&header.to_string(), &claims.to_string())
}

/// What becomes of it at a gateway that knows all keys but that of somebody else.
fn proves(text: &str) -> Result<AssertionId, Option<NotTaken>> {
    let assertion = ClientAssertion::parse(text).ok_or(None)?;
    let id = assertion.check("ops", GATE, now()).map_err(Some)?;
    assertion.verify(&keys(&[&RSA, &P256, &P384, &ED25519])).map_err(Some)?;
    Ok(id)
}

fn vouches(text: &str) -> Result<VerifiedIdJag, Option<NotTaken>> {
    let assertion = IdJag::parse(text).ok_or(None)?;
    let keys = keys(&[&RSA, &P256, &P384, &ED25519]);
    assertion.verify(&issuer(), &keys, "ops", GATE, now()).map_err(Some)
}

/// A member that is another; none at all, if the value is null.
type Change = Option<(&'static str, Value)>;

/// What is wrong with either kind, by what it does to the header or to the claims of a good one.
fn faults() -> Vec<(Change, Change, NotTaken)> {
    let in_header = |member, value, why| (Some((member, value)), None, why);
    let in_claims = |member, value, why| (None, Some((member, value)), why);
    vec![
        in_header("alg", json!("none"), NotTaken::Algorithm),
        in_header("alg", json!("None"), NotTaken::Algorithm),
        in_header("alg", json!("HS256"), NotTaken::Algorithm),
        in_header("alg", json!("ES256"), NotTaken::UnknownKey),
        in_header("alg", json!(["RS256"]), NotTaken::Algorithm),
        in_header("alg", Value::Null, NotTaken::Algorithm),
        in_header("crit", json!(["exp"]), NotTaken::Header),
        in_header("jwk", RSA.jwk.clone(), NotTaken::Header),
        in_header("jku", json!("https://evil.example/keys"), NotTaken::Header),
        in_header("x5u", json!("https://evil.example/cert"), NotTaken::Header),
        in_header("x5c", json!(["MIIB"]), NotTaken::Header),
        in_header("b64", json!(false), NotTaken::Header),
        in_header("typ", json!("at+jwt"), NotTaken::Type),
        in_header("typ", json!("logout+jwt"), NotTaken::Type),
        in_header("typ", json!(1), NotTaken::Type),
        in_header("kid", json!("another"), NotTaken::UnknownKey),
        in_header("kid", json!(""), NotTaken::UnknownKey),
        in_header("kid", json!(1), NotTaken::UnknownKey),
        in_header("kid", json!("p256"), NotTaken::UnknownKey),
        in_claims("iss", json!("https://evil.example"), NotTaken::Issuer),
        in_claims("iss", Value::Null, NotTaken::Issuer),
        in_claims("iss", json!(["ops", ISSUER]), NotTaken::Issuer),
        in_claims("sub", Value::Null, NotTaken::Subject),
        in_claims("sub", json!(""), NotTaken::Subject),
        in_claims("sub", json!(["ops"]), NotTaken::Subject),
        in_claims("aud", json!(format!("{GATE}/")), NotTaken::OtherAudience),
        in_claims("aud", json!(format!("{GATE}/token")), NotTaken::OtherAudience),
        in_claims("aud", json!("https://MCP.example.com"), NotTaken::OtherAudience),
        in_claims("aud", json!([GATE, "https://other.example"]), NotTaken::OtherAudience),
        in_claims("aud", json!([GATE, GATE]), NotTaken::OtherAudience),
        in_claims("aud", json!([]), NotTaken::OtherAudience),
        in_claims("aud", Value::Null, NotTaken::OtherAudience),
        in_claims("aud", json!({ "0": GATE }), NotTaken::OtherAudience),
        in_claims("exp", Value::Null, NotTaken::Expired),
        in_claims("exp", json!(NOW - 30), NotTaken::Expired),
        in_claims("exp", json!((NOW + 60).to_string()), NotTaken::Expired),
        in_claims("exp", json!(NOW + 3_631), NotTaken::Lifetime),
        in_claims("exp", json!(1e300), NotTaken::Expired),
        in_claims("iat", Value::Null, NotTaken::Lifetime),
        in_claims("iat", json!(NOW + 31), NotTaken::NotYet),
        in_claims("iat", json!("now"), NotTaken::NotYet),
        in_claims("nbf", json!(NOW + 31), NotTaken::NotYet),
        in_claims("jti", Value::Null, NotTaken::NoId),
        in_claims("jti", json!(""), NotTaken::NoId),
        in_claims("jti", json!(1), NotTaken::NoId),
        in_claims("jti", json!("x".repeat(513)), NotTaken::NoId),
    ]
}

/// Good parts, with what is wrong with them.
fn forged(typ: &str, claims: &Value) -> Vec<(String, NotTaken)> {
    let with = |to: &Value, change: Change| match change {
        Some((member, value)) => set(to.clone(), member, value),
        None => to.clone(),
    };
    let all = faults().into_iter();
    all.map(|(in_header, in_claims, why)| {
        (signed(&with(&header(typ), in_header), &with(claims, in_claims)), why)
    })
    .collect()
}

/// Signed by what nobody but a forger would sign it by.
fn by_others(typ: &str, claims: &Value) -> Vec<String> {
    let hs256 = |secret: &[u8]| {
        let header = set(header(typ), "alg", json!("HS256")).to_string();
        let message = format!("{}.{}", base64(header), base64(claims.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", base64(tag.as_ref()))
    };
    let by = |signer: &Signer, algorithm, header: Value| {
        signer.signed_by(algorithm, &header.to_string(), &claims.to_string())
    };
    let good = signed(&header(typ), claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = signature.as_bytes().to_vec();
    bytes[9] = if bytes[9] == b'A' { b'B' } else { b'A' };
    vec![
        hs256(&RSA.der),
        hs256(RSA.jwk["n"].as_str().unwrap().as_bytes()),
        hs256(b""),
        by(&OTHER_RSA, Algorithm::RS256, header(typ)),
        by(&RSA, Algorithm::PS256, header(typ)),
        by(&P256, Algorithm::ES256, header(typ)),
        by(&P384, Algorithm::ES384, set(set(header(typ), "alg", json!("ES256")), "kid", json!("p384"))),
        format!("{message}."),
        message.to_owned(),
        format!("{good}="),
        format!("{good}.{good}"),
        format!("{message}.{}", String::from_utf8(bytes).unwrap()),
        format!("{}.{}.", base64(r#"{"alg":"none","typ":"JWT"}"#), base64(claims.to_string())),
    ]
}

#[test]
fn a_client_proves_itself_by_what_it_signs_for_this_gateway_alone() {
    let until = now() + Duration::from_secs(330);
    for header in [
        header("JWT"),
        header("client-authentication+jwt"),
        header("application/JWT"),
        set(RSA.header(), "typ", Value::Null),
    ] {
        for audience in [json!(GATE), json!([GATE])] {
            let taken = proves(&signed(&header, &set(of_client(), "aud", audience)));
            assert_eq!(taken, Ok(AssertionId { id: "1".into(), until }), "{header}");
        }
    }
    for signer in [&*P256, &*P384, &*ED25519] {
        let header = set(signer.header(), "typ", json!("JWT")).to_string();
        assert!(proves(&signer.signed(&header, &of_client().to_string())).is_ok(), "{header}");
    }
}

#[test]
fn no_forged_assertion_proves_a_client() {
    for (text, why) in forged("JWT", &of_client()) {
        assert_eq!(proves(&text), Err(Some(why)), "{text}");
    }
    for text in by_others("JWT", &of_client()) {
        assert!(proves(&text).is_err(), "{text}");
    }
    for (claims, why) in [
        (set(of_client(), "sub", json!("other")), NotTaken::Subject),
        (set(of_client(), "iss", json!("other")), NotTaken::Issuer),
        (set(set(of_client(), "iss", json!("other")), "sub", json!("other")), NotTaken::Issuer),
        (set(of_client(), "exp", json!(NOW + 331)), NotTaken::Lifetime),
    ] {
        assert_eq!(proves(&signed(&header("JWT"), &claims)), Err(Some(why)), "{claims}");
    }
    assert_eq!(proves(&signed(&header("oauth-id-jag+jwt"), &of_client())), Err(Some(NotTaken::Type)));
}

#[test]
fn a_client_with_one_key_of_a_kind_need_not_name_it() {
    let unnamed = set(header("JWT"), "kid", Value::Null);
    let text = signed(&unnamed, &of_client());
    let assertion = ClientAssertion::parse(&text).unwrap();
    assert_eq!(assertion.verify(&keys(&[&RSA, &P256])), Ok("rsa"));
    assert_eq!(assertion.verify(&keys(&[&RSA, &OTHER_RSA])), Err(NotTaken::UnknownKey));
    assert_eq!(assertion.verify(&keys(&[&OTHER_RSA])), Err(NotTaken::Signature));
    assert_eq!(assertion.verify(&keys(&[&P256])), Err(NotTaken::UnknownKey));
}

#[test]
fn an_issuer_says_for_whom_a_client_acts_and_at_which_place() {
    for resource in [json!(PLACE), json!([PLACE])] {
        let taken =
            vouches(&signed(&header("oauth-id-jag+jwt"), &set(id_jag(), "resource", resource))).unwrap();
        assert_eq!((&*taken.token.subject, &*taken.token.audiences), ("u1", &[PLACE.to_owned()][..]));
        assert_eq!(taken.token.scope, Some(vec!["mcp".to_owned()]));
        assert_eq!(taken.id, AssertionId { id: "1".into(), until: now() + Duration::from_secs(330) });
    }
}

/// Where the issuer's access tokens have their scope, or that they have none, is another question.
#[test]
fn what_a_client_may_is_what_the_word_of_the_issuer_says_whatever_its_tokens_call_that() {
    for scope_claim in [Some("scope"), Some("roles"), Some("scp"), None] {
        let issuer = crate::config::Issuer { scope_claim: scope_claim.map(Into::into), ..issuer() };
        for (scope, allowed) in [(json!("server:db"), vec!["server:db".to_owned()]), (Value::Null, vec![])] {
            let claims = set(set(id_jag(), "scope", scope), "roles", json!(["mcp"]));
            let text = signed(&header("oauth-id-jag+jwt"), &claims);
            let taken =
                IdJag::parse(&text).unwrap().verify(&issuer, &keys(&[&RSA]), "ops", GATE, now()).unwrap();
            assert_eq!(taken.token.scope, Some(allowed), "{scope_claim:?} {claims}");
        }
    }
}

#[test]
fn no_forged_word_of_an_issuer_is_taken() {
    const TYP: &str = "oauth-id-jag+jwt";
    for (text, why) in forged(TYP, &id_jag()) {
        assert_eq!(vouches(&text), Err(Some(why)), "{text}");
    }
    for text in by_others(TYP, &id_jag()) {
        assert!(vouches(&text).is_err(), "{text}");
    }
    for (claims, why) in [
        (set(id_jag(), "client_id", json!("other")), NotTaken::Client),
        (set(id_jag(), "client_id", json!(["ops"])), NotTaken::Client),
        (set(id_jag(), "client_id", Value::Null), NotTaken::Client),
        (set(id_jag(), "resource", Value::Null), NotTaken::Resource),
        (set(id_jag(), "resource", json!([PLACE, GATE])), NotTaken::Resource),
        (set(id_jag(), "resource", json!(1)), NotTaken::Resource),
        (set(id_jag(), "sub", json!("a\u{0}b")), NotTaken::Subject),
        (set(id_jag(), "cnf", json!({ "jkt": "x" })), NotTaken::Type),
    ] {
        assert_eq!(vouches(&signed(&header(TYP), &claims)), Err(Some(why)), "{claims}");
    }
    for typ in ["JWT", "", "id-jag+jwt", "at+jwt"] {
        assert_eq!(vouches(&signed(&header(typ), &id_jag())), Err(Some(NotTaken::Type)), "{typ}");
    }
    let unnamed = set(header(TYP), "kid", Value::Null);
    assert_eq!(vouches(&signed(&unnamed, &id_jag())), Err(Some(NotTaken::UnknownKey)));
    let mut of_tenant = issuer();
    of_tenant.tenant_id = Some("t1".into());
    let text = signed(&header(TYP), &set(id_jag(), "tid", json!("t2")));
    let taken = IdJag::parse(&text).unwrap().check(&of_tenant, "ops", GATE, now());
    assert_eq!(taken, Err(NotTaken::Tenant));
}

/// Whatever it says, one that is made for `/token` is no access token.
#[test]
fn an_assertion_opens_nothing_by_itself_and_an_access_token_is_no_assertion() {
    for claims in [access_claims(), set(id_jag(), "aud", json!(GATE)), of_client()] {
        for typ in ["oauth-id-jag+jwt", "client-authentication+jwt", "JWT", ""] {
            let text = signed(&header(typ), &claims);
            let token = UnverifiedJwt::parse(text.as_bytes()).unwrap();
            assert_eq!(token.verify(&issuer(), &keys(&[&RSA]), now()), Err(NotTaken::Type), "{typ}");
        }
    }
    let access = RSA.token();
    assert!(vouches(&access).is_err() && proves(&access).is_err());
}
