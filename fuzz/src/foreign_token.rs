//! Tokens that strangers send, and what issuers answer about tokens.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value};
use sluicegate::{
    config::{Issuer, load},
    identity::foreign::{answer::Answer, jwks::KeySet, jwt::UnverifiedJwt, verified::VerifiedJwt},
};

const ISSUER: &str = "https://login.corp.example";

static CORP: LazyLock<Arc<Issuer>> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("sluicegate-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("gate.json");
    let config = format!(
        r#"{{"proxy":{{"baseUrl":"https://mcp.example.com","auth":{{"issuers":{{"corp":{{"issuer":"{ISSUER}"}}}}}}}},
            "mcpServers":{{"a":{{"url":"http://127.0.0.1:1/mcp"}}}}}}"#
    );
    std::fs::write(&file, config).expect("a file");
    let snapshot = load(&file, &|_| None).snapshot.expect("a good config");
    std::fs::remove_dir_all(&directory).expect("it is there");
    Arc::clone(&snapshot.issuers[0])
});

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The first byte says what it is.
pub fn run(input: &[u8]) {
    let Some((&kind, input)) = input.split_first() else { return };
    if kind.is_multiple_of(2) { token(input) } else { answer(input) }
}

/// What is read of a token, another reader of base64 and JSON reads too; and nothing is taken that no key has signed.
fn token(input: &[u8]) {
    let parsed = UnverifiedJwt::parse(input);
    let reference = reference(input);
    assert_eq!(parsed.is_some(), reference.is_some());
    let (Some(token), Some((header, claims))) = (parsed, reference) else { return };
    assert_eq!(token.issuer(), claims.get("iss").and_then(Value::as_str));
    assert_eq!(token.key_id(), header.get("kid").and_then(Value::as_str).filter(|id| !id.is_empty()));
    if token.check(&CORP, now()).is_ok() {
        assert_eq!(claims["iss"], ISSUER);
        assert!(claims["exp"].as_f64().is_some_and(|end| end > 1_799_999_969.0));
        assert!(claims["sub"].is_string() && !claims.contains_key("nonce") && !header.contains_key("jku"));
        assert!(matches!(header["alg"].as_str(), Some("RS256" | "PS256" | "ES256" | "EdDSA")));
    }
    let no_keys = KeySet::parse(br#"{"keys":[]}"#).expect("a set");
    assert!(token.verify(&CORP, &no_keys, now()).is_err());
}

/// Three parts, the first two of them objects without a member twice, in base64 of the alphabet for URLs and without padding.
fn reference(input: &[u8]) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let text = std::str::from_utf8(input).ok().filter(|text| text.len() <= 8 << 10)?;
    let parts: Vec<&str> = text.split('.').collect();
    let [header, claims, _] = parts[..] else { return None };
    let object = |part: &str| object(&decoded(part)?);
    Some((object(header)?, object(claims)?))
}

/// Bit by bit.
fn decoded(part: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = Vec::new();
    for byte in part.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    let rest = bits.split_off(bits.len() / 8 * 8);
    let is_end = rest.len() < 6 && rest.iter().all(|bit| *bit == 0);
    is_end.then(|| bits.chunks(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | *bit as u8)).collect())
}

/// An object in which each level that counts, the first, has no member twice.
fn object(text: &[u8]) -> Option<Map<String, Value>> {
    let Ok(Value::Object(members)) = serde_json::from_slice(text) else { return None };
    (members.len() == pairs(text)?).then_some(members)
}

/// How many members there are, twice or not.
fn pairs(text: &[u8]) -> Option<usize> {
    struct Count(usize);
    impl<'de> serde::Deserialize<'de> for Count {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Each;
            impl<'de> serde::de::Visitor<'de> for Each {
                type Value = Count;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                    let mut count = 0;
                    while map.next_entry::<String, serde::de::IgnoredAny>()?.is_some() {
                        count += 1;
                    }
                    Ok(Count(count))
                }
            }
            deserializer.deserialize_map(Each)
        }
    }
    serde_json::from_slice::<Count>(text).ok().map(|Count(count)| count)
}

/// What an answer says of somebody, it says so that serde_json finds the same; and it never says it without `active`.
fn answer(input: &[u8]) {
    let asked = BTreeSet::from(["groups".to_owned()]);
    let reference = object(input).filter(|_| input.len() <= 16 << 10);
    assert_eq!(Answer::parse(input).is_some(), reference.is_some());
    let Some(members) = reference else { return };
    let said = |now| Answer::parse(input).expect("read a moment ago").said(&CORP, &asked, now);
    let confirms =
        |subject: &str| Answer::parse(input).expect("read a moment ago").confirms(&CORP, subject, now());
    let Ok(VerifiedJwt { subject, audiences, scope, expires, claims }) = said(now()) else { return };
    assert_eq!(members["active"], true);
    assert_eq!(members["sub"].as_str(), Some(&*subject));
    assert!(!audiences.is_empty() && audiences.iter().all(|of| !of.is_empty()));
    assert!(members.get("iss").is_none_or(|iss| iss == ISSUER));
    assert!(scope.is_some_and(|words| words.iter().all(|word| !word.contains(' ') && !word.is_empty())));
    assert!(claims.keys().all(|name| name == "groups"));
    assert!(confirms(&subject).is_ok() && confirms("somebody else").is_err());
    assert!(said(expires + CORP.leeway).is_err(), "it ends");
}
