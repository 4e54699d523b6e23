//! An issuer of the tests: keys that are made once, and tokens that are signed by them.

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::config::Issuer;

pub(in crate::identity) const ISSUER: &str = "https://login.corp.example";
/// The moment of the tests, in seconds.
pub(in crate::identity) const NOW: u64 = 1_800_000_000;

/// Makes signatures of messages.
type Make = dyn Fn(&[u8], Algorithm) -> Vec<u8> + Send + Sync;

/// A key: what signs, and as its issuer publishes it.
pub(in crate::identity) struct Signer {
    make: Box<Make>,
    pub(in crate::identity) algorithm: Algorithm,
    pub(in crate::identity) jwk: Value,
    /// The public key, as a certificate has it.
    pub(in crate::identity) der: Vec<u8>,
}

pub(in crate::identity) static RSA: LazyLock<Signer> = LazyLock::new(|| rsa("rsa"));
/// Of somebody else.
pub(in crate::identity) static OTHER_RSA: LazyLock<Signer> = LazyLock::new(|| rsa("other"));
pub(in crate::identity) static P256: LazyLock<Signer> =
    LazyLock::new(|| ec("p256", "P-256", Algorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING));
pub(in crate::identity) static P384: LazyLock<Signer> =
    LazyLock::new(|| ec("p384", "P-384", Algorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING));
pub(in crate::identity) static ED25519: LazyLock<Signer> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({ "kty": "OKP", "kid": "ed25519", "crv": "Ed25519", "x": base64(pair.public_key()) });
    let der = der(pair.public_key());
    let make = Box::new(move |message: &[u8], _| pair.sign(message).as_ref().to_vec());
    Signer { make, algorithm: Algorithm::EdDSA, jwk, der }
});

pub(in crate::identity) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn der(public: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    public.as_der().unwrap().as_ref().to_vec()
}

fn rsa(id: &str) -> Signer {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = pair.public_key();
    let n = base64(public.modulus().big_endian_without_leading_zero());
    let e = base64(public.exponent().big_endian_without_leading_zero());
    let jwk = json!({ "kty": "RSA", "kid": id, "use": "sig", "n": n, "e": e });
    let der = der(public);
    let make = move |message: &[u8], algorithm| {
        let encoding: &dyn RsaEncoding = match algorithm {
            Algorithm::RS256 => &RSA_PKCS1_SHA256,
            Algorithm::RS512 => &RSA_PKCS1_SHA512,
            Algorithm::PS256 => &RSA_PSS_SHA256,
            other => panic!("{other:?}"),
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    Signer { make: Box::new(make), algorithm: Algorithm::RS256, jwk, der }
}

fn ec(id: &str, curve: &str, algorithm: Algorithm, signing: &'static EcdsaSigningAlgorithm) -> Signer {
    let pair = EcdsaKeyPair::generate(signing).unwrap();
    // Behind a byte that says that it is not compressed.
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({ "kty": "EC", "kid": id, "crv": curve, "x": base64(x), "y": base64(y) });
    let der = der(pair.public_key());
    let make = move |message: &[u8], _| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    Signer { make: Box::new(make), algorithm, jwk, der }
}

impl Signer {
    pub(in crate::identity) fn id(&self) -> &str {
        self.jwk["kid"].as_str().unwrap()
    }

    /// The signature of a message.
    pub(in crate::identity) fn signature(&self, message: &str, algorithm: Algorithm) -> Vec<u8> {
        (self.make)(message.as_bytes(), algorithm)
    }

    /// A token of these parts, whatever they are, with a good signature by this algorithm.
    pub(in crate::identity) fn signed_by(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64(header), base64(claims));
        format!("{message}.{}", base64(self.signature(&message, algorithm)))
    }

    /// The same, by the algorithm of the key.
    pub(in crate::identity) fn signed(&self, header: &str, claims: &str) -> String {
        self.signed_by(self.algorithm, header, claims)
    }

    /// A good token.
    pub(in crate::identity) fn token(&self) -> String {
        self.signed(&self.header().to_string(), &claims().to_string())
    }

    /// The header of a good token.
    pub(in crate::identity) fn header(&self) -> Value {
        let algorithm = format!("{:?}", self.algorithm);
        json!({ "alg": algorithm, "typ": "at+jwt", "kid": self.id() })
    }
}

/// Claims of a good token.
pub(in crate::identity) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "u1", "aud": "https://mcp.example.com", "iat": NOW - 10, "nbf": NOW - 10,
        "exp": NOW + 600, "scope": "mcp tag:web", "jti": "1",
    })
}

/// An issuer whose tokens are taken.
pub(in crate::identity) fn issuer() -> Issuer {
    Issuer {
        name: "corp".into(),
        issuer: ISSUER.into(),
        jwks_url: None,
        audiences: Vec::new(),
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        types: vec!["at+jwt".into()],
        principal_claim: "sub".into(),
        scope_claim: Some("scope".into()),
        tenant_id: None,
        leeway: std::time::Duration::from_secs(30),
        stream_grace: std::time::Duration::ZERO,
        introspection: None,
    }
}

/// A set of the keys of these.
pub(in crate::identity) fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| &signer.jwk).collect();
    json!({ "keys": keys }).to_string()
}
