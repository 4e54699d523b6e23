//! An issuer of tokens that the gateway takes: it publishes a key, and signs what a test has it say.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    harness::{Client, field},
    recorder::Recorder,
    scripted::response,
};

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

    /// The public key, as whoever has it publishes it.
    pub fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "kty": "OKP", "kid": self.id, "crv": "Ed25519", "x": x, "use": "sig" })
    }

    /// The answer with the set of this key.
    pub fn answer(&self) -> String {
        let body = json!({ "keys": [self.jwk()] }).to_string();
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

/// The secret of the gateway at [`Introspection`].
pub const CLIENT_SECRET: &str = "secret-of-the-gateway";

/// Where an issuer is asked about tokens (RFC 7662): it answers what the test says of each, and that it does not know others.
pub struct Introspection {
    addr: SocketAddr,
    state: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    of_tokens: HashMap<String, Value>,
    asked: Vec<String>,
    is_down: bool,
}

impl Introspection {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(Said::default()));
        let of_task = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(Client::new(stream), Arc::clone(&of_task)));
            }
        });
        Self { addr, state }
    }

    /// It, as `introspection` of an issuer has it.
    pub fn config(&self) -> Value {
        let url = format!("http://{}/introspect", self.addr);
        json!({ "url": url, "clientId": "gate", "clientSecret": CLIENT_SECRET })
    }

    /// From now on this is what it says of a token, with `active`.
    pub fn says(&self, token: &str, answer: Value) {
        self.locked().of_tokens.insert(token.to_owned(), answer);
    }

    /// From now on it has never heard of a token.
    pub fn revokes(&self, token: &str) {
        self.locked().of_tokens.remove(token);
    }

    /// Whether it answers 503 to everything.
    pub fn is_down(&self, is_down: bool) {
        self.locked().is_down = is_down;
    }

    /// How often it was asked about a token.
    pub fn asked(&self, token: &str) -> usize {
        self.locked().asked.iter().filter(|asked| *asked == token).count()
    }

    /// How often it was asked.
    pub fn asked_in_all(&self) -> usize {
        self.locked().asked.len()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Said> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it says of a good token of this subject, with `more`.
pub fn active(subject: &str, more: Value) -> Value {
    let mut answer = claims("", subject, more.clone());
    let members = answer.as_object_mut().unwrap();
    members.retain(|name, value| name != "iss" && !value.is_null());
    members.insert("active".into(), json!(true));
    // What it says of itself counts, and not what a JWT would.
    for name in ["iss", "active"] {
        if let Some(value) = more.get(name) {
            members.insert(name.into(), value.clone());
        }
    }
    answer
}

async fn answer(mut client: Client<TcpStream>, state: Arc<Mutex<Said>>) {
    while let Some(head) = client.next_head().await {
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let form = client.exactly(length).await;
        let (status, body) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let token = url::form_urlencoded::parse(&form).find(|(name, _)| name == "token");
            let token = token.map(|(_, token)| token.into_owned()).unwrap_or_default();
            let proof = base64::engine::general_purpose::STANDARD.encode(format!("gate:{CLIENT_SECRET}"));
            let is_known = field(&head, "authorization") == Some(&format!("Basic {proof}"));
            let said = state.of_tokens.get(&token).cloned().unwrap_or(json!({ "active": false }));
            state.asked.push(token);
            match (state.is_down, is_known) {
                (true, _) => (503, json!({})),
                (false, false) => (401, json!({ "error": "invalid_client" })),
                (false, true) => (200, said),
            }
        };
        client.send(response(status, "Content-Type: application/json\r\n", body.to_string())).await;
    }
}
