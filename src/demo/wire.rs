//! What the program of `sluicegate demo --oauth` sends and gets, and how that is told: in short, and no secret in full.

use std::{fmt::Write as _, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use url::Url;

use crate::upstream::{
    Origin, Trusts,
    client::{Client, ClientRequest, whole},
};

/// Longest that a connection, an answer or a part of one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer.
const MOST: usize = 1024 * 1024;
/// Characters that are shown of a secret, at its begin and at its end: the begins of two tokens of one grant are the same.
const SHOWN: (usize, usize) = (8, 4);

/// Why the story ends early.
pub(super) type Fault = String;

/// The wire to one gateway, and what was told of it so far.
pub(super) struct Wire {
    base: String,
    client: Client,
    told: String,
    steps: u32,
}

/// What came back.
pub(super) struct Answer {
    /// What it answers, for when it is not what was expected.
    asked: String,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Wire {
    /// To the gateway at this URL.
    pub(super) fn to(base: &str) -> Result<Self, Fault> {
        let url: Url = base.parse().map_err(|e| format!("{base}: {e}"))?;
        let origin = Origin::new(&url, None, &mut Trusts::default()).map_err(|e| e.to_string())?;
        let client = Client {
            origin: Arc::new(origin),
            pool: Rc::default(),
            connect_timeout: PATIENCE,
            head_timeout: PATIENCE,
        };
        Ok(Self { base: base.to_owned(), client, told: String::new(), steps: 0 })
    }

    /// Waits until the gateway listens, which is about to start.
    pub(super) async fn listens(&self) -> Result<(), Fault> {
        let asking = async {
            while self.client.origin.connect(PATIENCE, false).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.map_err(|_| "nothing listens there".to_owned())
    }

    /// Tells a step: what it is for, what was sent, and what came back.
    pub(super) fn tell(&mut self, what: &str, sent: &str, got: &str) {
        self.steps += 1;
        // Of a text, that cannot fail.
        let _ = write!(self.told, "{:>3}. {what}\n       > {sent}\n       < {got}\n\n", self.steps);
    }

    /// All that was told.
    pub(super) fn told(&self) -> &str {
        &self.told
    }

    pub(super) async fn get(&self, url: &str, fields: &[(HeaderName, &str)]) -> Result<Answer, Fault> {
        self.send(Method::GET, url, fields, String::new()).await
    }

    /// Posts JSON.
    pub(super) async fn post_json(
        &self,
        url: &str,
        fields: &[(HeaderName, &str)],
        body: &Value,
    ) -> Result<Answer, Fault> {
        let json = (header::CONTENT_TYPE, "application/json");
        self.send(Method::POST, url, &[&[json], fields].concat(), body.to_string()).await
    }

    /// Posts a form.
    pub(super) async fn post_form(
        &self,
        url: &str,
        fields: &[(HeaderName, &str)],
        form: &[(&str, &str)],
    ) -> Result<Answer, Fault> {
        let type_ = (header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(Method::POST, url, &[&[type_], fields].concat(), form_text(form)).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        fields: &[(HeaderName, &str)],
        body: String,
    ) -> Result<Answer, Fault> {
        let path = self.path(url)?;
        let asked = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let failed =
            |e: crate::error::Error| format!("{asked}: {}", e.cause.unwrap_or_else(|| e.kind.code().into()));
        let mut sent = Vec::new();
        for (name, value) in fields {
            let mut value = HeaderValue::try_from(*value).map_err(|_| format!("{name} is no field"))?;
            value.set_sensitive(true);
            sent.push((name.clone(), value));
        }
        let request = ClientRequest { method, path, fields: &sent, configured: &[], body: Bytes::from(body) };
        let mut response = self.client.ask(request).await.map_err(failed)?;
        let body = whole(&mut response.body, MOST, PATIENCE, async |_| Ok(())).await.map_err(failed)?;
        let body = String::from_utf8(body.into()).map_err(|_| format!("{asked}: the answer is no text"))?;
        Ok(Answer { asked, status: response.status.as_u16(), headers: response.headers, body })
    }

    /// The path of a URL of this gateway. What it names elsewhere is not gone to.
    pub(super) fn path<'u>(&self, url: &'u str) -> Result<&'u str, Fault> {
        let path = url.strip_prefix(&self.base).filter(|path| path.starts_with('/'));
        path.ok_or_else(|| format!("{url} is not at {}", self.base))
    }
}

impl Answer {
    /// Itself, if it has this status.
    pub(super) fn of(self, status: u16) -> Result<Self, Fault> {
        if self.status == status {
            return Ok(self);
        }
        Err(format!("{} was answered with {} in place of {status}: {}", self.asked, self.status, self.body))
    }

    /// The JSON that it is.
    pub(super) fn json(&self) -> Result<Value, Fault> {
        serde_json::from_str(&self.body).map_err(|_| format!("{}: the answer is no JSON", self.asked))
    }

    /// A header field.
    pub(super) fn field(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A text of a JSON object.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> Result<&'a str, Fault> {
    object[name].as_str().ok_or_else(|| format!("the answer has no {name}"))
}

/// Fields as a form or a query has them.
pub(super) fn form_text(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// What is shown of a secret: how it begins and ends. All that are made here are longer by far.
pub(super) fn short(secret: &str) -> String {
    let ends = secret.get(..SHOWN.0).zip(secret.get(secret.len().saturating_sub(SHOWN.1)..));
    match ends.filter(|_| secret.len() > 2 * (SHOWN.0 + SHOWN.1)) {
        Some((begin, end)) => format!("{begin}…{end}"),
        None => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_it_is_shown_how_it_begins_and_ends() {
        for (secret, shown) in [
            ("sga_0123456789abcdefghijklmnop", "sga_0123…mnop"),
            ("sga_0123456789abcdefghij", "…"),
            ("", "…"),
            ("1234567é0123456789abcdefghijklmnop", "…"),
        ] {
            assert_eq!(short(secret), shown);
        }
    }

    #[test]
    fn nothing_is_sent_elsewhere() {
        let wire = Wire::to("http://127.0.0.1:8080").unwrap();
        assert_eq!(wire.path("http://127.0.0.1:8080/token").unwrap(), "/token");
        for elsewhere in
            ["http://127.0.0.1:80801/token", "http://127.0.0.1:8080@evil.example/", "https://127.0.0.1:8080/"]
        {
            assert!(wire.path(elsewhere).is_err(), "{elsewhere}");
        }
    }
}
