//! Private keys by which the gateway signs, and what others know of them.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A private key: EC at P-256 (ES256), or RSA (RS256).
pub struct SigningKey {
    pair: Pair,
    /// RFC 7638, so that all who have the key call it alike.
    id: String,
}

enum Pair {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

impl SigningKey {
    /// The one of this text, which is PEM: PKCS #8, SEC 1 or PKCS #1. `None`: it is no key that can be used, as RSA below 2048 bits.
    pub fn of_pem(pem: &str) -> Option<Self> {
        let pair = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
            PrivateKeyDer::Pkcs8(key) => {
                let der = key.secret_pkcs8_der();
                let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::P256);
                p256.or_else(|_| RsaKeyPair::from_pkcs8(der).map(Pair::Rsa)).ok()?
            }
            PrivateKeyDer::Sec1(key) => {
                let der = key.secret_sec1_der();
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                    .map(Pair::P256)
                    .ok()?
            }
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).map(Pair::Rsa).ok()?,
            _ => return None,
        };
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(public(&pair)?.to_string()));
        Some(Self { pair, id })
    }

    /// As JWTs name it (RFC 7518 §3.1).
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::P256(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// By what it is known among others: `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key, as whoever checks signatures takes it (RFC 7517).
    pub fn public_jwk(&self) -> Value {
        let mut jwk = public(&self.pair).unwrap_or_default();
        jwk["kid"] = json!(self.id);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    /// A JWT of this type that says `claims`. `None`: the system has no randomness to give.
    pub fn jwt(&self, kind: &str, claims: &Value) -> Option<Zeroizing<String>> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": self.algorithm(), "typ": kind, "kid": self.id });
        let message = format!("{}.{}", part(&header), part(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::P256(pair) => pair.sign(&random, message.as_bytes()).ok()?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).ok()?;
                signature
            }
        };
        Some(Zeroizing::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

/// What RFC 7638 makes the name of a key of, in the order of names.
fn public(pair: &Pair) -> Option<Value> {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match pair {
        Pair::P256(pair) => {
            // SEC 1 §2.3.3, not compressed.
            let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
            Some(json!({ "crv": "P-256", "kty": "EC", "x": encoded(x), "y": encoded(y) }))
        }
        Pair::Rsa(pair) => {
            let public = pair.public_key();
            let n = encoded(public.modulus().big_endian_without_leading_zero());
            let e = encoded(public.exponent().big_endian_without_leading_zero());
            Some(json!({ "e": e, "kty": "RSA", "n": n }))
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer as _, Pkcs8V1Der},
        rsa::KeySize,
        signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
    };
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    fn p256() -> EcdsaKeyPair {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
    }

    fn split(jwt: &str) -> (String, Value, Value, Vec<u8>) {
        let parts: Vec<_> = jwt.split('.').collect();
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        (format!("{}.{}", parts[0], parts[1]), json(parts[0]), json(parts[1]), signature)
    }

    #[test]
    fn what_a_key_signs_is_good_by_its_public_half() {
        let pair = p256();
        let der = pair.to_pkcs8v1().unwrap();
        let key = SigningKey::of_pem(&pem("PRIVATE KEY", der.as_ref())).unwrap();
        let (message, header, claims, signature) = split(&key.jwt("JWT", &json!({ "iss": "gate" })).unwrap());
        assert_eq!(header, json!({ "alg": "ES256", "typ": "JWT", "kid": key.id() }));
        assert_eq!(claims, json!({ "iss": "gate" }));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        public.verify(message.as_bytes(), &signature).unwrap();
        let jwk = key.public_jwk();
        assert_eq!(
            (&jwk["kty"], &jwk["crv"], &jwk["kid"]),
            (&json!("EC"), &json!("P-256"), &json!(key.id()))
        );
        assert!(jwk.get("d").is_none() && format!("{key:?}") == "SigningKey(ES256)");
    }

    #[test]
    fn rsa_is_taken_from_2048_bits_on() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let key = SigningKey::of_pem(&pem("PRIVATE KEY", der.as_ref())).unwrap();
        let (message, header, _, signature) = split(&key.jwt("JWT", &json!({})).unwrap());
        assert_eq!(header["alg"], "RS256");
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        public.verify(message.as_bytes(), &signature).unwrap();
        assert_eq!(key.public_jwk()["e"], "AQAB");
    }

    #[test]
    fn what_is_no_private_key_is_none() {
        let der = p256().to_pkcs8v1().unwrap();
        for bad in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "secret"] {
            assert!(SigningKey::of_pem(bad).is_none(), "{bad}");
        }
        assert!(SigningKey::of_pem(&pem("PUBLIC KEY", der.as_ref())).is_none());
    }

    #[test]
    fn a_key_is_named_as_the_standard_names_it() {
        // RFC 7638 §3.1 has an example for the digest over these members in this order, without blanks.
        let jwk = json!({ "kty": "RSA", "e": "AQAB", "n": "x" });
        assert_eq!(jwk.to_string(), r#"{"e":"AQAB","kty":"RSA","n":"x"}"#);
    }
}
