//! The keys of an issuer, as it publishes them (RFC 7517 §5).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a document at most.
pub const LONGEST: usize = 64 << 10;
/// Keys of it at most, whatever they are.
const MOST: usize = 100;
/// Bits of an RSA key. By fewer, anybody could sign; more take time at each token.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Members that only the holder of a key has (RFC 7518 §6.2.2, §6.3.2, §6.4.1). By a key that has one, whoever reads the set can
/// sign.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// What a document says is no set of keys, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAKeySet;

/// A key of an issuer.
#[derive(Debug)]
struct PublicKey {
    id: String,
    /// The algorithm that it is for alone: as it says, or as its curve does.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// The keys of an issuer by which signatures are checked.
#[derive(Debug)]
pub struct KeySet(Vec<PublicKey>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Those of this document. Keys of another use or kind are left out, as RFC 7517 §5 says: a set may have some that are for
    /// others. There may be none left: an issuer can take all its keys back.
    pub fn parse(document: &[u8]) -> Result<Self, NotAKeySet> {
        if document.len() > LONGEST {
            return Err(NotAKeySet);
        }
        let Document { keys } = serde_json::from_slice(document).map_err(|_| NotAKeySet)?;
        if keys.len() > MOST {
            return Err(NotAKeySet);
        }
        Ok(Self(keys.into_iter().filter_map(PublicKey::of).collect()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key has this id.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// The key of this id that is good for `algorithm`. Two may have one id, if they are of different kinds (RFC 7517 §4.5).
    pub(super) fn find(&self, id: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        self.named(Some(id), algorithm).map(|(_, key)| key)
    }

    /// The key of this id that is good for `algorithm`, and its id. Without an id, the only key that is good for it.
    pub(super) fn named(&self, id: Option<&str>, algorithm: Algorithm) -> Option<(&str, &DecodingKey)> {
        let is_good = |key: &&PublicKey| {
            id.is_none_or(|id| key.id == id)
                && key.algorithm.is_none_or(|only| only == algorithm)
                && key.key.family() == algorithm.family()
        };
        let mut good = self.0.iter().filter(is_good);
        let found = good.next()?;
        (id.is_some() || good.next().is_none()).then_some((&found.id, &found.key))
    }
}

impl PublicKey {
    fn of(key: Value) -> Option<Self> {
        if PRIVATE.iter().any(|member| key.get(member).is_some()) {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        let common = &jwk.common;
        let is_for_signatures =
            common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature)
                && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !is_for_signatures {
            return None;
        }
        let (key, of_kind) = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => (rsa_key(&rsa.n, &rsa.e)?, None),
            AlgorithmParameters::EllipticCurve(point) => {
                let (algorithm, length) = match point.curve {
                    EllipticCurve::P256 => (Algorithm::ES256, 32),
                    EllipticCurve::P384 => (Algorithm::ES384, 48),
                    _ => return None,
                };
                let is_point = [&point.x, &point.y].iter().all(|part| is_of_length(part, length));
                let key = is_point.then(|| DecodingKey::from_ec_components(&point.x, &point.y).ok())??;
                (key, Some(algorithm))
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                let key =
                    is_of_length(&pair.x, 32).then(|| DecodingKey::from_ed_components(&pair.x).ok())??;
                (key, Some(Algorithm::EdDSA))
            }
            // Among them `oct`, a secret: whoever can read the set could sign by it.
            _ => return None,
        };
        let named = match common.key_algorithm {
            Some(named) => Some(Algorithm::try_from(named).ok()?),
            None => None,
        };
        let is_possible = named.is_none_or(|named| {
            of_kind.is_none_or(|only| only == named)
                && named.family() == key.family()
                && named.family() != AlgorithmFamily::Hmac
        });
        let id = common.key_id.clone().filter(|id| !id.is_empty())?;
        is_possible.then_some(Self { id, algorithm: named.or(of_kind), key })
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn is_of_length(text: &str, bytes: usize) -> bool {
    decoded(text).is_some_and(|decoded| decoded.len() == bytes)
}

/// The key of this modulus and exponent. Some issuers write zeros before a number, which RFC 7518 §2 forbids and which mean
/// nothing.
fn rsa_key(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let number = |text| {
        let bytes = decoded(text)?;
        let from = bytes.iter().position(|byte| *byte != 0)?;
        Some(bytes[from..].to_vec())
    };
    let (modulus, exponent) = (number(modulus)?, number(exponent)?);
    let bits = 8 * modulus.len() - modulus[0].leading_zeros() as usize;
    // By an exponent of 1, every padded digest is its own signature.
    let is_exponent =
        exponent.len() <= 4 && exponent.last().is_some_and(|last| last % 2 == 1) && exponent != [1];
    (RSA_BITS.contains(&bits) && is_exponent)
        .then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::foreign::signer::{ED25519, P256, P384, RSA, Signer};

    /// How many keys of a set of these are taken.
    fn taken(keys: &[Value]) -> usize {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap().len()
    }

    fn with(signer: &Signer, member: &str, value: Value) -> Value {
        let mut key = signer.jwk.clone();
        key[member] = value;
        key
    }

    #[test]
    fn a_key_is_taken_if_signatures_can_be_checked_by_it_and_made_by_nobody_else() {
        let all = [&*RSA, &*P256, &*P384, &*ED25519];
        assert_eq!(taken(&all.map(|signer| signer.jwk.clone())), all.len());
        let base64 = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
        let modulus = decoded(RSA.jwk["n"].as_str().unwrap()).unwrap();
        for good in [
            with(&RSA, "use", json!("sig")),
            with(&RSA, "key_ops", json!(["verify"])),
            with(&RSA, "alg", json!("PS512")),
            with(&P256, "alg", json!("ES256")),
            with(&RSA, "x5c", json!(["MIIB"])),
            with(&RSA, "n", base64(&[&[0], &modulus[..]].concat())),
            with(&RSA, "n", base64(&[0xff; 1024])),
            with(&RSA, "e", base64(&[3])),
        ] {
            assert_eq!(taken(std::slice::from_ref(&good)), 1, "{good}");
        }
        let mut without_id = RSA.jwk.clone();
        without_id.as_object_mut().unwrap().remove("kid");
        let bad = [
            with(&RSA, "use", json!("enc")),
            with(&RSA, "use", json!(1)),
            with(&RSA, "key_ops", json!(["sign"])),
            with(&RSA, "alg", json!("HS256")),
            with(&RSA, "alg", json!("ES256")),
            with(&RSA, "alg", json!("none")),
            with(&RSA, "alg", json!("RSA-OAEP")),
            with(&RSA, "d", json!("AQAB")),
            with(&P256, "d", json!("AQAB")),
            with(&ED25519, "d", json!("AQAB")),
            with(&RSA, "k", json!("AQAB")),
            with(&RSA, "kid", json!("")),
            with(&RSA, "kid", json!(1)),
            without_id,
            with(&RSA, "kty", json!("oct")),
            with(&RSA, "kty", json!("rsa")),
            with(&RSA, "n", base64(&modulus[1..])),
            with(&RSA, "n", base64(&[&[0x7f], &modulus[1..]].concat())),
            with(&RSA, "n", base64(&[0xff; 1025])),
            with(&RSA, "n", json!("")),
            with(&RSA, "n", json!("+/==")),
            with(&RSA, "e", base64(&[1])),
            with(&RSA, "e", base64(&[0, 1])),
            with(&RSA, "e", base64(&[2])),
            with(&RSA, "e", base64(&[0])),
            with(&RSA, "e", base64(&[1; 5])),
            with(&P256, "alg", json!("ES384")),
            with(&P256, "crv", json!("P-384")),
            with(&P256, "crv", json!("P-521")),
            with(&P256, "crv", json!("secp256k1")),
            with(&P256, "x", base64(&[1; 33])),
            with(&ED25519, "crv", json!("X25519")),
            with(&ED25519, "crv", json!("Ed448")),
            with(&ED25519, "x", base64(&[1; 31])),
            json!({ "kty": "oct", "kid": "x", "alg": "HS256", "k": "c2VjcmV0" }),
            json!({}),
            json!("RSA"),
            json!(null),
        ];
        for bad in &bad {
            assert_eq!(taken(&[bad.clone(), RSA.jwk.clone()]), 1, "{bad}");
        }
    }

    #[test]
    fn a_key_is_good_for_its_own_algorithm() {
        let set = json!({ "keys": [RSA.jwk, with(&P256, "kid", RSA.jwk["kid"].clone()), P384.jwk] });
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        let (rsa, p384) = (RSA.id(), P384.id());
        let is_found = |id, algorithm| set.find(id, algorithm).map(DecodingKey::family);
        // Two keys of one id, of different kinds.
        assert_eq!(is_found(rsa, Algorithm::RS256), Some(AlgorithmFamily::Rsa));
        assert_eq!(is_found(rsa, Algorithm::PS512), Some(AlgorithmFamily::Rsa));
        assert_eq!(is_found(rsa, Algorithm::ES256), Some(AlgorithmFamily::Ec));
        assert_eq!(is_found(p384, Algorithm::ES384), Some(AlgorithmFamily::Ec));
        for (id, algorithm) in [
            (p384, Algorithm::ES256),
            (p384, Algorithm::RS256),
            (rsa, Algorithm::ES384),
            (rsa, Algorithm::HS256),
            (rsa, Algorithm::EdDSA),
            ("", Algorithm::RS256),
            ("another", Algorithm::RS256),
        ] {
            assert_eq!(is_found(id, algorithm), None, "{id} {algorithm:?}");
        }
        let only_ps = json!({ "keys": [with(&RSA, "alg", json!("PS256"))] });
        let only_ps = KeySet::parse(only_ps.to_string().as_bytes()).unwrap();
        assert!(
            only_ps.find(rsa, Algorithm::PS256).is_some() && only_ps.find(rsa, Algorithm::RS256).is_none()
        );
    }

    #[test]
    fn a_document_is_a_set_of_a_hundred_keys_and_64_kib_at_most() {
        for bad in ["", "{}", "[]", "null", "<html>", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[]"#] {
            assert_eq!(KeySet::parse(bad.as_bytes()).err(), Some(NotAKeySet), "{bad}");
        }
        assert!(KeySet::parse(br#"{"keys":[]}"#).unwrap().is_empty(), "an issuer can take all its keys back");
        let many = |count| json!({ "keys": vec![&P256.jwk; count] }).to_string();
        assert_eq!(KeySet::parse(many(MOST).as_bytes()).unwrap().len(), MOST);
        assert_eq!(KeySet::parse(many(MOST + 1).as_bytes()).err(), Some(NotAKeySet));
        let padded = |bytes: usize| many(1) + &" ".repeat(bytes - many(1).len());
        assert_eq!(KeySet::parse(padded(LONGEST).as_bytes()).unwrap().len(), 1);
        assert_eq!(KeySet::parse(padded(LONGEST + 1).as_bytes()).err(), Some(NotAKeySet));
    }
}
