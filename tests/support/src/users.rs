//! Users for tests and benches: a password, hashes of it that cost next to nothing to compare, and logins.

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::harness::{Client, post};

pub const PASSWORD: &str = "password123";

/// Hashes of [`PASSWORD`], each with a salt of its own, at the least cost that argon2id has. To a gateway they are two passwords.
pub const CHEAP_HASHES: [&str; 2] = [
    "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$rqReNQSuNpi+3YF2W7U7W9ByJ6959j7LZ/qa31zY2Gg",
    "$argon2id$v=19$m=8,t=1,p=1$dGxhc3RsYXM$WCfLW1pGZmr0ovSvvA5pSc9MUfNZ/tcw1PIHRYcFMUg",
];

/// A hash of [`PASSWORD`] at the cost of those that `sluicegate user hash` makes.
pub const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$3jtYL3SdgstQf1Q9/SpoBw7W4pQU12o+ftkSq8jCOWc";

/// What a login brings.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub session: String,
    pub refresh: String,
}

/// A POST of JSON as a client makes it that has no credential yet.
pub fn bare(path: &str, body: &Value) -> String {
    post(path, "", "", &body.to_string()).replacen("Authorization: Bearer \r\n", "", 1)
}

/// The request that logs in.
pub fn login(user: &str, password: &str) -> String {
    bare("/auth/login", &json!({ "username": user, "password": password }))
}

/// Logs in with [`PASSWORD`].
pub async fn log_in<T: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<T>, user: &str) -> Tokens {
    tokens(client, login(user, PASSWORD)).await
}

/// Brings the next tokens of a login.
pub async fn refresh<T: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<T>, token: &str) -> Tokens {
    tokens(client, bare("/auth/refresh", &json!({ "refreshToken": token }))).await
}

async fn tokens<T: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<T>, request: String) -> Tokens {
    client.send(request).await;
    let (status, _, body) = client.response().await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("no {key} in {answer}")).to_owned();
    Tokens { session: text("token"), refresh: text("refreshToken") }
}
