//! An issuer of tokens that the gateway takes: it publishes a key, and signs what a test has it say.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::recorder::Recorder;

/// What its tokens are for.
pub const AUDIENCE: &str = "the-gateway";

/// The issuer.
pub struct TestIssuer {
    /// Where its keys are asked for.
    pub host: Recorder,
    signer: Signer,
}

/// A key.
pub struct Signer {
    pair: Ed25519KeyPair,
    id: String,
}

impl Signer {
    pub fn new(id: &str) -> Self {
        Self { pair: Ed25519KeyPair::generate().unwrap(), id: id.to_owned() }
    }

    /// The answer with the set of this key.
    pub fn answer(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let key = json!({ "kty": "OKP", "kid": self.id, "crv": "Ed25519", "x": x, "use": "sig" });
        let body = json!({ "keys": [key] }).to_string();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// A token with this header, but for algorithm and key, that says `claims`.
    pub fn sign(&self, mut header: Value, claims: &Value) -> String {
        header["alg"] = json!("EdDSA");
        header["kid"] = json!(self.id);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

impl TestIssuer {
    pub async fn start() -> Self {
        let signer = Signer::new("k1");
        Self { host: Recorder::answering(signer.answer()).await, signer }
    }

    /// What `iss` of its tokens is.
    pub fn url(&self) -> String {
        self.host.url("")
    }

    /// It, as `proxy.auth.issuers` has it.
    pub fn config(&self) -> Value {
        json!({ "issuer": self.url(), "jwksUrl": self.host.url("/keys"), "audiences": [AUDIENCE] })
    }

    /// What a good token of this subject says, with `more`.
    pub fn claims(&self, subject: &str, more: Value) -> Value {
        claims(&self.url(), subject, more)
    }

    /// A token of this subject that says `more`.
    pub fn token(&self, subject: &str, more: Value) -> String {
        self.signer.sign(json!({ "typ": "at+jwt" }), &self.claims(subject, more))
    }

    /// One that says this and has this header.
    pub fn sign(&self, header: Value, claims: &Value) -> String {
        self.signer.sign(header, claims)
    }
}

/// What a good token says, with `more`.
pub fn claims(issuer: &str, subject: &str, more: Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": issuer, "sub": subject, "aud": AUDIENCE, "scope": "mcp", "iat": now, "exp": now + 600,
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}
