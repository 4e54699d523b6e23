//! Tokens that are forged in each way that anybody has thought of, and those that are not.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{
    jwks::KeySet,
    jwt::{LONGEST, NotTaken, UnverifiedJwt},
    signer::{ED25519, ISSUER, NOW, OTHER_RSA, P256, P384, RSA, Signer, base64, claims, issuer, key_set},
    verified::VerifiedJwt,
};
use crate::config::Issuer;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn keys() -> KeySet {
    KeySet::parse(key_set(&[&RSA, &P256, &P384, &ED25519]).as_bytes()).unwrap()
}

/// What becomes of a token at an issuer with all keys but that of somebody else; `None`: it cannot even be read.
fn taken_by(issuer: &Issuer, token: &[u8]) -> Result<VerifiedJwt, Option<NotTaken>> {
    let token = UnverifiedJwt::parse(token).ok_or(None)?;
    token.verify(issuer, &keys(), now()).map_err(Some)
}

fn taken(token: &str) -> Result<VerifiedJwt, Option<NotTaken>> {
    taken_by(&issuer(), token.as_bytes())
}

/// A token of the RSA key, but for one member of its header; without it, if that is null.
fn header(member: &str, value: Value) -> String {
    RSA.signed(&set(RSA.header(), member, value).to_string(), &claims().to_string())
}

/// The same of its claims.
fn claim(member: &str, value: Value) -> String {
    RSA.signed(&RSA.header().to_string(), &set(claims(), member, value).to_string())
}

fn set(mut object: Value, member: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(member)),
        value => object[member] = value,
    }
    object
}

/// The text of a good token's claims, with something written into it.
fn claims_with(text: &str) -> String {
    let claims = claims().to_string();
    RSA.signed(&RSA.header().to_string(), &format!("{{{text},{}", &claims[1..]))
}

/// A token of which a claim is this text.
fn raw_claim(member: &str, text: &str) -> String {
    let claims = set(claims(), member, Value::Null).to_string();
    RSA.signed(&RSA.header().to_string(), &format!("{{\"{member}\":{text},{}", &claims[1..]))
}

fn header_with(text: &str) -> String {
    let header = RSA.header().to_string();
    RSA.signed(&format!("{{{text},{}", &header[1..]), &claims().to_string())
}

/// A token by a secret that everybody knows.
fn hs256(secret: &[u8]) -> String {
    let header = set(RSA.header(), "alg", json!("HS256"));
    let message = format!("{}.{}", base64(header.to_string()), base64(claims().to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", base64(tag))
}

fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", str::from_utf8(line).unwrap());
    }
    text + "-----END PUBLIC KEY-----\n"
}

/// A signature of ES256 as certificates have it.
fn in_der(signature: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let from = number.iter().position(|byte| *byte != 0).unwrap();
        let sign: &[u8] = if number[from] >= 0x80 { &[0] } else { &[] };
        let number = [sign, &number[from..]].concat();
        [&[2, number.len() as u8], &number[..]].concat()
    };
    let (r, s) = signature.split_at(32);
    let both = [integer(r), integer(s)].concat();
    [&[0x30, both.len() as u8], &both[..]].concat()
}

fn parts(token: &str) -> [String; 3] {
    let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

#[test]
fn a_token_of_each_algorithm_that_the_config_lists_is_taken_and_says_what_it_says() {
    for signer in [&*RSA, &*P256, &*ED25519] {
        let said = taken(&signer.token()).unwrap();
        assert_eq!((&*said.subject, &*said.audiences), ("u1", &["https://mcp.example.com".to_owned()][..]));
        assert_eq!(said.scope.unwrap(), ["mcp", "tag:web"]);
        assert_eq!(said.expires, now() + Duration::from_secs(600));
        assert_eq!(said.claims["jti"], "1");
    }
    let mut others = issuer();
    others.algorithms = vec![Algorithm::PS256, Algorithm::RS512, Algorithm::ES384];
    for (signer, algorithm) in [(&RSA, Algorithm::PS256), (&RSA, Algorithm::RS512), (&P384, Algorithm::ES384)]
    {
        let header = set(signer.header(), "alg", json!(format!("{algorithm:?}"))).to_string();
        let token = signer.signed_by(algorithm, &header, &claims().to_string());
        assert!(taken_by(&others, token.as_bytes()).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn what_a_good_token_may_look_like_is_taken() {
    let longest = {
        let padding = |bytes| claim("padding", json!("x".repeat(bytes)));
        // Four characters have three bytes.
        let free = LONGEST - padding(0).len();
        (0..3).map(|less| padding(free / 4 * 3 - less)).find(|token| token.len() <= LONGEST).unwrap()
    };
    for good in [
        header("typ", json!("AT+JWT")),
        header("typ", json!("application/at+jwt")),
        header("x5t", json!("AQAB")),
        claim("aud", json!(["https://other.example", "https://mcp.example.com"])),
        claim("exp", json!(NOW as f64 + 0.5)),
        claim("exp", json!(NOW - 29)),
        claim("exp", json!(1e15)),
        claim("nbf", json!(NOW + 30)),
        claim("iat", json!(NOW + 30)),
        claim("nbf", Value::Null),
        claim("iat", Value::Null),
        claim("sub", json!("ä".repeat(255))),
        claim("sub", json!("auth0|5f7c8ec7c33c6c004bbafe82")),
        claim("typ", json!("Bearer")),
        longest,
    ] {
        assert_eq!(taken(&good).err(), None, "{good}");
    }
}

#[test]
fn the_scope_is_a_text_or_a_list_or_in_scp() {
    let words = |issuer: &Issuer, token: String| taken_by(issuer, token.as_bytes()).unwrap().scope;
    let of = |member: &str, value: Value| {
        let claims = set(set(claims(), "scope", Value::Null), member, value);
        RSA.signed(&RSA.header().to_string(), &claims.to_string())
    };
    let some = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    for (member, value, expected) in [
        ("scope", json!("mcp"), some(&["mcp"])),
        ("scope", json!(" mcp  tag:web "), some(&["mcp", "tag:web"])),
        ("scope", json!(["mcp", "tag:web"]), some(&["mcp", "tag:web"])),
        ("scp", json!("mcp tag:web"), some(&["mcp", "tag:web"])),
        ("scp", json!(["mcp"]), some(&["mcp"])),
        ("scope", json!(""), some(&[])),
        ("scope", json!(7), some(&[])),
        ("scope", json!(["mcp", 7]), some(&[])),
        ("scope", Value::Null, some(&[])),
        ("permissions", json!(["mcp"]), some(&[])),
    ] {
        assert_eq!(words(&issuer(), of(member, value)), expected, "{member}");
    }
    let permissions = Issuer { scope_claim: Some("permissions".into()), ..issuer() };
    assert_eq!(words(&permissions, of("permissions", json!(["mcp"]))), some(&["mcp"]));
    assert_eq!(words(&permissions, of("scp", json!("mcp"))), some(&[]), "another claim was named");
    assert_eq!(words(&Issuer { scope_claim: None, ..issuer() }, of("scope", json!("mcp"))), None);
}

#[test]
fn a_tenant_of_entra_and_its_principal_are_taken_and_those_of_another_are_not() {
    let entra = Issuer { tenant_id: Some("t1".into()), principal_claim: "oid".into(), ..issuer() };
    let of = |tid: Value, oid: Value| {
        let claims = set(set(claims(), "tid", tid), "oid", oid);
        let token = RSA.signed(&RSA.header().to_string(), &claims.to_string());
        taken_by(&entra, token.as_bytes()).map(|said| said.subject)
    };
    assert_eq!(of(json!("t1"), json!("o1")), Ok("o1".into()));
    for tid in [json!("t2"), json!("T1"), json!(["t1"]), json!(1), Value::Null] {
        assert_eq!(of(tid, json!("o1")), Err(Some(NotTaken::Tenant)));
    }
    assert_eq!(of(json!("t1"), Value::Null), Err(Some(NotTaken::Subject)), "and not its sub");
}

/// Tokens of which the form is wrong, most of them with a good signature.
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let good = RSA.token();
    let [head, body, signature] = parts(&good);
    let bits = |part: &str| {
        // Bits behind the last byte, which some readers of base64 leave aside.
        let header = |padding: usize| format!("{}{}", RSA.header(), " ".repeat(padding));
        let padded = (0..3).map(|padding| base64(header(padding))).find(|text| text.len() % 4 != 0).unwrap();
        let (start, last) = padded.split_at(padded.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.find(last).unwrap() + 1;
        let message = format!("{start}{}.{part}", &alphabet[next..=next]);
        format!("{message}.{}", base64(RSA.signature(&message, Algorithm::RS256)))
    };
    let standard = {
        let text = format!(r#"{},"x":"???>>>~~~"}}"#, claims().to_string().trim_end_matches('}'));
        let message = format!("{head}.{}", STANDARD_NO_PAD.encode(text));
        assert!(message.contains(['+', '/']));
        format!("{message}.{}", base64(RSA.signature(&message, Algorithm::RS256)))
    };
    let nested = RSA.signed(&set(RSA.header(), "cty", json!("JWT")).to_string(), &P256.token());
    let list = format!(r#"["RS256","at+jwt","{}"]"#, RSA.id());
    let mut tokens = vec![
        ("nothing", String::new()),
        ("one part", head.clone()),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{good}.{signature}")),
        ("an empty fourth part", format!("{good}.")),
        ("an empty first part", format!(".{good}")),
        ("five parts, as of JWE", format!("{head}.{body}.{signature}.{body}.{signature}")),
        ("points alone", "..".into()),
        ("an empty header", format!(".{body}.{signature}")),
        ("empty claims", format!("{head}..{signature}")),
        (
            "JSON serialisation",
            format!(r#"{{"payload":"{body}","protected":"{head}","signature":"{signature}"}}"#),
        ),
        ("padding in the header", format!("{head}=.{body}.{signature}")),
        ("padding in the claims", format!("{head}.{body}==.{signature}")),
        ("the alphabet of base64 that is not for URLs", standard),
        ("bits behind the header", bits(&body)),
        ("space before", format!(" {good}")),
        ("space within", format!("{head}. {body}.{signature}")),
        ("a newline in the claims", format!("{head}.{}\n{}.{signature}", &body[..8], &body[8..])),
        ("a null byte", format!("{head}\0.{body}.{signature}")),
        ("a nested token", nested),
        ("claims that are a list", RSA.signed(&RSA.header().to_string(), "[]")),
        ("claims that are a text", RSA.signed(&RSA.header().to_string(), "\"x\"")),
        ("claims that are null", RSA.signed(&RSA.header().to_string(), "null")),
        ("claims and more", RSA.signed(&RSA.header().to_string(), &format!("{}{{}}", claims()))),
        ("a header that is a list", RSA.signed(&list, &claims().to_string())),
        ("alg twice", header_with(r#""alg":"none""#)),
        ("kid twice", header_with(r#""kid":"other""#)),
        ("crit twice", header_with(r#""crit":[],"crit":[]"#)),
        ("kid twice, once in escapes", header_with(r#""\u006bid":"other""#)),
        ("sub twice", claims_with(r#""sub":"admin""#)),
        ("iss twice", claims_with(r#""iss":"https://evil.example""#)),
        ("exp twice", claims_with(r#""exp":9999999999"#)),
        ("aud twice, once in escapes", claims_with(r#""\u0061ud":"https://evil.example""#)),
        ("a number that is none", claims_with(r#""x":NaN"#)),
        ("a number beyond all", claims_with(r#""x":1e999"#)),
        ("half of a surrogate pair", claims_with(r#""x":"\ud800""#)),
        ("too deep", claims_with(&format!(r#""x":{}{}"#, "[".repeat(200), "]".repeat(200)))),
        ("longer than 8 KiB", claim("x", json!("x".repeat(LONGEST / 4 * 3)))),
    ]
    .into_iter()
    .map(|(what, token)| (what, token.into_bytes()))
    .collect::<Vec<_>>();
    let mut claims = claims().to_string().into_bytes();
    let at = claims.windows(2).position(|two| two == b"u1").unwrap();
    claims[at] = 0xff;
    let message = format!("{head}.{}", base64(&claims));
    let signature = base64(RSA.signature(&message, Algorithm::RS256));
    tokens.push(("a subject that is not UTF-8", format!("{message}.{signature}").into_bytes()));
    tokens.push(("bytes that are not UTF-8", [good.as_bytes(), &[0xff]].concat()));
    tokens
}

/// Tokens that can be read and are not taken.
fn forged() -> Vec<(&'static str, String, NotTaken)> {
    use NotTaken as No;
    let good = RSA.token();
    let [head, body, signature] = parts(&good);
    let with = |signer: &Signer, member: &str, value: Value| {
        signer.signed(&set(signer.header(), member, value).to_string(), &claims().to_string())
    };
    let by = |algorithm: Algorithm| {
        let header = set(RSA.header(), "alg", json!(format!("{algorithm:?}")));
        RSA.signed_by(algorithm, &header.to_string(), &claims().to_string())
    };
    let unsigned = |alg: &str| {
        let header = set(RSA.header(), "alg", json!(alg));
        format!("{}.{body}.", base64(header.to_string()))
    };
    let other_body = base64(set(claims(), "sub", json!("admin")).to_string());
    let other_head = base64(set(RSA.header(), "typ", json!("application/at+jwt")).to_string());
    let [ec_head, ec_body, ec_signature] = parts(&P256.token());
    let ec_message = format!("{ec_head}.{ec_body}");
    let der = in_der(&P256.signature(&ec_message, Algorithm::ES256));
    let mut flipped = RSA.signature(&format!("{head}.{body}"), Algorithm::RS256);
    flipped[100] ^= 1;
    let modulus = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(RSA.jwk["n"].as_str().unwrap());
    let own_key = |member: &str| {
        let header = set(set(OTHER_RSA.header(), "kid", json!(RSA.id())), member, OTHER_RSA.jwk.clone());
        OTHER_RSA.signed(&header.to_string(), &claims().to_string())
    };
    vec![
        ("alg none", unsigned("none"), No::Algorithm),
        ("alg None", unsigned("None"), No::Algorithm),
        ("alg nONE", unsigned("nONE"), No::Algorithm),
        ("alg none with a signature", with(&RSA, "alg", json!("none")), No::Algorithm),
        ("an empty alg", with(&RSA, "alg", json!("")), No::Algorithm),
        ("no alg", with(&RSA, "alg", Value::Null), No::Algorithm),
        ("alg in a list", with(&RSA, "alg", json!(["RS256"])), No::Algorithm),
        ("alg in lower case", with(&RSA, "alg", json!("rs256")), No::Algorithm),
        ("alg with space", with(&RSA, "alg", json!("RS256 ")), No::Algorithm),
        ("alg of nobody", with(&RSA, "alg", json!("RS257")), No::Algorithm),
        ("the public key as a secret, PEM", hs256(pem(&RSA.der).as_bytes()), No::Algorithm),
        ("the same without the last newline", hs256(pem(&RSA.der).trim_end().as_bytes()), No::Algorithm),
        ("the public key as a secret, DER", hs256(&RSA.der), No::Algorithm),
        ("the public key as a secret, its modulus", hs256(&modulus.unwrap()), No::Algorithm),
        ("the public key as a secret, as JSON", hs256(RSA.jwk.to_string().as_bytes()), No::Algorithm),
        ("no secret", hs256(b""), No::Algorithm),
        ("an algorithm that is not listed", by(Algorithm::RS512), No::Algorithm),
        ("another one of a curve", P384.token(), No::Algorithm),
        ("alg of another kind than the key", with(&RSA, "alg", json!("ES256")), No::UnknownKey),
        ("alg of another kind than the key, EdDSA", with(&RSA, "alg", json!("EdDSA")), No::UnknownKey),
        ("a curve's key as one of RSA", with(&P256, "alg", json!("RS256")), No::UnknownKey),
        ("a key of a larger curve", with(&P384, "alg", json!("ES256")), No::UnknownKey),
        ("alg of the same kind, signed by another", with(&RSA, "alg", json!("PS256")), No::Signature),
        ("a key of another issuer", OTHER_RSA.token(), No::UnknownKey),
        ("a key of another issuer by our id", with(&OTHER_RSA, "kid", json!("rsa")), No::Signature),
        ("an id of another key", with(&RSA, "kid", json!("p256")), No::UnknownKey),
        ("no kid", with(&RSA, "kid", Value::Null), No::UnknownKey),
        ("an empty kid", with(&RSA, "kid", json!("")), No::UnknownKey),
        ("kid in a list", with(&RSA, "kid", json!(["rsa"])), No::UnknownKey),
        ("kid in capitals", with(&RSA, "kid", json!("RSA")), No::UnknownKey),
        ("kid of a path", with(&RSA, "kid", json!("../../dev/null")), No::UnknownKey),
        ("kid with a null byte", with(&RSA, "kid", json!("rsa\0")), No::UnknownKey),
        ("crit", header("crit", json!(["exp"])), No::Header),
        ("an empty crit", header("crit", json!([])), No::Header),
        ("crit null", header_with(r#""crit":null"#), No::Header),
        ("jku", header("jku", json!("https://evil.example/keys")), No::Header),
        ("jku of the issuer itself", header("jku", json!(format!("{ISSUER}/keys"))), No::Header),
        ("x5u", header("x5u", json!("https://evil.example/x.pem")), No::Header),
        ("x5c", header("x5c", json!(["MIIB"])), No::Header),
        ("jwk", own_key("jwk"), No::Header),
        ("jwk of the issuer itself", header("jwk", RSA.jwk.clone()), No::Header),
        ("b64 false", header("b64", json!(false)), No::Header),
        ("b64 true", header("b64", json!(true)), No::Header),
        ("zip", header("zip", json!("DEF")), No::Header),
        ("typ JWT", header("typ", json!("JWT")), No::Type),
        ("typ id_token", header("typ", json!("id_token")), No::Type),
        ("typ of a logout", header("typ", json!("logout+jwt")), No::Type),
        ("typ of DPoP", header("typ", json!("dpop+jwt")), No::Type),
        ("no typ", header("typ", Value::Null), No::Type),
        ("an empty typ", header("typ", json!("")), No::Type),
        ("typ of a type alone", header("typ", json!("application/")), No::Type),
        ("typ with a parameter", header("typ", json!("at+jwt;x=y")), No::Type),
        ("typ in a list", header("typ", json!(["at+jwt"])), No::Type),
        ("typ with space", header("typ", json!("at+jwt ")), No::Type),
        ("iss with a slash", claim("iss", json!(format!("{ISSUER}/"))), No::Issuer),
        ("iss in capitals", claim("iss", json!(ISSUER.to_uppercase())), No::Issuer),
        ("iss with a port", claim("iss", json!(format!("{ISSUER}:443"))), No::Issuer),
        ("iss with more", claim("iss", json!(format!("{ISSUER}.evil.example"))), No::Issuer),
        ("iss with a null byte", claim("iss", json!(format!("{ISSUER}\0"))), No::Issuer),
        ("iss in a list", claim("iss", json!([ISSUER])), No::Issuer),
        ("no iss", claim("iss", Value::Null), No::Issuer),
        ("iss of another", claim("iss", json!("https://evil.example")), No::Issuer),
        ("no aud", claim("aud", Value::Null), No::Audience),
        ("an empty aud", claim("aud", json!("")), No::Audience),
        ("aud of nobody", claim("aud", json!([])), No::Audience),
        ("aud of nobody in a list", claim("aud", json!(["https://mcp.example.com", ""])), No::Audience),
        ("aud in a number", claim("aud", json!(7)), No::Audience),
        ("aud in an object", claim("aud", json!({ "x": "https://mcp.example.com" })), No::Audience),
        ("aud in a list of lists", claim("aud", json!([["https://mcp.example.com"]])), No::Audience),
        ("no exp", claim("exp", Value::Null), No::Expired),
        ("exp in a text", claim("exp", json!((NOW + 600).to_string())), No::Expired),
        ("exp null", raw_claim("exp", "null"), No::Expired),
        ("exp true", raw_claim("exp", "true"), No::Expired),
        ("exp in a list", raw_claim("exp", "[9999999999]"), No::Expired),
        ("exp before all time", raw_claim("exp", "-1"), No::Expired),
        ("exp beyond all time", raw_claim("exp", "1e300"), No::Expired),
        ("exp in a text that is no number", raw_claim("exp", "\"NaN\""), No::Expired),
        ("exp that is over", claim("exp", json!(NOW - 30)), No::Expired),
        ("exp zero", claim("exp", json!(0)), No::Expired),
        ("nbf to come", claim("nbf", json!(NOW + 31)), No::NotYet),
        ("nbf in a text", claim("nbf", json!("0")), No::NotYet),
        ("nbf null", raw_claim("nbf", "null"), No::NotYet),
        ("iat to come", claim("iat", json!(NOW + 31)), No::NotYet),
        ("iat before all time", claim("iat", json!(-1)), No::NotYet),
        ("bound to a key", claim("cnf", json!({ "jkt": "x" })), No::Type),
        ("an ID token with nonce", claim("nonce", json!("n")), No::IdToken),
        ("an ID token with at_hash", claim("at_hash", json!("n")), No::IdToken),
        ("an ID token with c_hash", claim("c_hash", json!("n")), No::IdToken),
        ("an ID token with s_hash", claim("s_hash", json!("n")), No::IdToken),
        ("an ID token with nonce null", raw_claim("nonce", "null"), No::IdToken),
        ("an ID token of Keycloak", claim("typ", json!("ID")), No::IdToken),
        ("an ID token of Cognito", claim("token_use", json!("id")), No::IdToken),
        ("a logout token", claim("events", json!({})), No::IdToken),
        ("no sub", claim("sub", Value::Null), No::Subject),
        ("an empty sub", claim("sub", json!("")), No::Subject),
        ("sub in a number", claim("sub", json!(1)), No::Subject),
        ("sub in a list", claim("sub", json!(["u1"])), No::Subject),
        ("a sub that is too long", claim("sub", json!("x".repeat(256))), No::Subject),
        ("sub with a newline", claim("sub", json!("u1\nadmin")), No::Subject),
        ("sub with a null byte", claim("sub", json!("u1\0")), No::Subject),
        ("sub with a control character of Latin-1", claim("sub", json!("u1\u{85}")), No::Subject),
        ("other claims under a signature", format!("{head}.{other_body}.{signature}"), No::Signature),
        ("another header over a signature", format!("{other_head}.{body}.{signature}"), No::Signature),
        ("a signature with a bit changed", format!("{head}.{body}.{}", base64(flipped)), No::Signature),
        ("a signature of zeros", format!("{head}.{body}.{}", base64([0; 256])), No::Signature),
        ("a signature of zeros on a curve", format!("{ec_message}.{}", base64([0; 64])), No::Signature),
        ("an empty signature", format!("{head}.{body}."), No::Signature),
        ("a shorter signature", format!("{head}.{body}.{}", &signature[4..]), No::Signature),
        ("a longer signature", format!("{head}.{body}.{signature}AAAA"), No::Signature),
        ("a signature with padding", format!("{head}.{body}.{signature}=="), No::Signature),
        ("a signature with a newline", format!("{good}\n"), No::Signature),
        ("a signature with space", format!("{good} "), No::Signature),
        ("a signature of another token", format!("{head}.{body}.{ec_signature}"), No::Signature),
        (
            "a signature of a curve as certificates have it",
            format!("{ec_message}.{}", base64(der)),
            No::Signature,
        ),
    ]
}

#[test]
fn no_forged_token_is_taken() {
    let unreadable = unreadable();
    for (what, token) in &unreadable {
        assert_eq!(taken_by(&issuer(), token).err(), Some(None), "{what}");
    }
    let forged = forged();
    for (what, token, why) in &forged {
        assert_eq!(taken(token).err(), Some(Some(*why)), "{what}");
    }
    assert!(unreadable.len() + forged.len() > 140, "{} + {}", unreadable.len(), forged.len());
}

#[test]
fn a_token_of_which_any_character_is_another_is_not_taken() {
    let good = P256.token();
    assert!(taken(&good).is_ok());
    for at in 0..good.len() {
        for other in ["A", "Q", "_", "."] {
            let mut token = good.clone();
            token.replace_range(at..=at, other);
            assert!(token == good || taken(&token).is_err(), "{token}");
        }
    }
}
