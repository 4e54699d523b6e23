//! Where the keys of an issuer are, and what they are there.
//!
//! What is asked for is the operator's own word: the address of the keys, or the issuer, whose metadata names it. So it may be in the
//! operator's network, and at any port. It is asked over HTTPS all the same, or on this machine: by keys of somebody else anybody
//! could sign.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::jwks::{self, KeySet};
use crate::config::is_loopback;

/// An answer of an issuer, on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<IssuerAnswer, NotFetched>> + 'a>>;
/// A document of an issuer, on its way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<IssuerAnswer, NotFetched>> + 'a>>;

/// The head of an answer, on its way.
pub type Heading<'a> = Pin<Box<dyn Future<Output = Result<(StatusCode, HeaderMap), NotFetched>> + 'a>>;

/// What asks issuers.
pub trait Source: Send + Sync {
    /// What the issuer answers to this, in so many bytes at most. No redirect is followed.
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a>;

    /// The head of what is answered to this, whatever it is: what comes behind the head is not read.
    fn head<'a>(&'a self, url: &'a Url, ask: Ask) -> Heading<'a> {
        Box::pin(async move {
            let answer = self.ask(url, ask, usize::MAX).await?;
            Ok((answer.status, HeaderMap::new()))
        })
    }

    /// The document there.
    fn fetch<'a>(&'a self, url: &'a Url, most: usize) -> Fetching<'a> {
        Box::pin(async move {
            let answer = self.ask(url, Ask::default(), most).await?;
            if answer.status == StatusCode::OK { Ok(answer) } else { Err(NotFetched::NotADocument) }
        })
    }
}

/// What an issuer is asked: to give something, or, with a body, to do something.
#[derive(Default)]
pub struct Ask {
    /// What is sent.
    pub body: Option<AskBody>,
    /// What proves that the gateway may ask: all of the field `Authorization`.
    pub authorization: Option<HeaderValue>,
    /// Further fields.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// What is sent. It may have secrets in it.
pub enum AskBody {
    /// A form, encoded.
    Form(Zeroizing<String>),
    /// JSON.
    Json(Zeroizing<String>),
}

impl Ask {
    /// A form, by one who proves by this field that it may ask.
    pub fn form(form: Zeroizing<String>, authorization: Option<HeaderValue>) -> Self {
        Self { body: Some(AskBody::Form(form)), authorization, fields: Vec::new() }
    }

    /// What is sent, as text.
    pub fn text(&self) -> Option<&str> {
        self.body.as_ref().map(|body| match body {
            AskBody::Form(text) | AskBody::Json(text) => text.as_str(),
        })
    }
}

/// An answer of an issuer, which is JSON.
#[derive(Debug, Clone)]
pub struct IssuerAnswer {
    /// The status: 200, or one by which it refuses.
    pub status: StatusCode,
    /// What is in it.
    pub body: Bytes,
    /// How long its host says that it stays as it is.
    pub fresh_for: Option<Duration>,
}

/// Why there are no keys, or no answer, of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFetched {
    /// The host cannot be connected to, or its certificate is not good.
    Unreachable,
    /// As much is asked at a time as may be.
    Busy,
    /// An address of the host is not of the public Internet, and nobody but a stranger said that it is to be asked.
    NotPublic,
    /// It took too long.
    Timeout,
    /// It answers that it cannot at the moment.
    Failing,
    /// It sends elsewhere.
    Redirect,
    /// It answers with something else than JSON of the size.
    NotADocument,
    /// The metadata does not say where keys are, or not in a way in which they may be fetched.
    NoKeysUrl,
    /// The metadata is of another issuer.
    OtherIssuer,
    /// It is no set of keys.
    NotAKeySet,
}

impl NotFetched {
    /// As the log calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "its host cannot be connected to",
            Self::Busy => "as much is asked at a time as may be",
            Self::NotPublic => "its host is not of the public Internet",
            Self::Timeout => "it took too long",
            Self::Failing => "it answers that it cannot at the moment",
            Self::Redirect => "it sends elsewhere",
            Self::NotADocument => "the answer is not JSON of at most 64 KiB",
            Self::NoKeysUrl => "its metadata has no jwks_uri that may be fetched",
            Self::OtherIssuer => "its metadata is of another issuer",
            Self::NotAKeySet => "the answer is no set of keys",
        }
    }
}

/// What an issuer says of itself (OpenID Connect Discovery §3, RFC 8414 §2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
}

/// The keys that an issuer publishes, and how long its host says that they stay so.
pub(super) async fn keys_of(
    issuer: &str,
    jwks_url: Option<&Url>,
    source: &dyn Source,
) -> Result<(KeySet, Option<Duration>), NotFetched> {
    let url = match jwks_url {
        Some(url) => url.clone(),
        None => keys_url(issuer, source).await?,
    };
    let document = source.fetch(&url, jwks::LONGEST).await?;
    let keys = KeySet::parse(&document.body).map_err(|_| NotFetched::NotAKeySet)?;
    Ok((keys, document.fresh_for))
}

/// Where the issuer's metadata says that its keys are.
async fn keys_url(issuer: &str, source: &dyn Source) -> Result<Url, NotFetched> {
    let url = Url::parse(issuer).map_err(|_| NotFetched::NoKeysUrl)?;
    let mut why = None;
    for metadata in metadata_urls(&url) {
        let document = source.fetch(&metadata, jwks::LONGEST).await;
        match document.and_then(|document| jwks_uri(&document.body, issuer, &url)) {
            Ok(found) => return Ok(found),
            // Of both, what says more than that there is none.
            Err(NotFetched::NotADocument) if why.is_some() => {}
            Err(other) => why = Some(other),
        }
    }
    Err(why.unwrap_or(NotFetched::NotADocument))
}

/// Both places of metadata: OpenID Connect Discovery §4, RFC 8414 §3.1.
fn metadata_urls(issuer: &Url) -> [Url; 2] {
    [appended(issuer, "openid-configuration"), inserted(issuer, "oauth-authorization-server")]
}

/// Where a document of this name is, behind the path of what it is of (OpenID Connect Discovery §4).
pub fn appended(of: &Url, name: &str) -> Url {
    well_known(of, |path| format!("{path}/.well-known/{name}"))
}

/// Where a document of this name is, before the path of what it is of (RFC 8414 §3.1, RFC 9728 §3.1).
pub fn inserted(of: &Url, name: &str) -> Url {
    well_known(of, |path| format!("/.well-known/{name}{path}"))
}

fn well_known(of: &Url, path: impl FnOnce(&str) -> String) -> Url {
    let mut url = of.clone();
    url.set_path(&path(of.path().strip_suffix('/').unwrap_or(of.path())));
    url.set_query(None);
    url.set_fragment(None);
    url
}

fn jwks_uri(document: &[u8], issuer: &str, issuer_url: &Url) -> Result<Url, NotFetched> {
    let metadata: Metadata = serde_json::from_slice(document).map_err(|_| NotFetched::NotADocument)?;
    // OpenID Connect Discovery §4.3, RFC 8414 §3.3: else one host could speak for another issuer.
    if metadata.issuer != issuer {
        return Err(NotFetched::OtherIssuer);
    }
    let url = metadata.jwks_uri.and_then(|uri| Url::parse(&uri).ok());
    url.filter(|url| may_have_keys(url, issuer_url)).ok_or(NotFetched::NoKeysUrl)
}

fn may_have_keys(url: &Url, issuer: &Url) -> bool {
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => is_loopback(url) && is_loopback(issuer),
        _ => false,
    };
    is_safe && url.username().is_empty() && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn metadata_is_where_both_standards_put_it() {
        for (issuer, oidc, oauth) in [
            (
                "https://login.corp.example",
                "https://login.corp.example/.well-known/openid-configuration",
                "https://login.corp.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://x.auth0.com/",
                "https://x.auth0.com/.well-known/openid-configuration",
                "https://x.auth0.com/.well-known/oauth-authorization-server",
            ),
            (
                "http://127.0.0.1:8080/realms/a%20b/",
                "http://127.0.0.1:8080/realms/a%20b/.well-known/openid-configuration",
                "http://127.0.0.1:8080/.well-known/oauth-authorization-server/realms/a%20b",
            ),
        ] {
            assert_eq!(metadata_urls(&url(issuer)).map(String::from), [oidc, oauth]);
        }
    }

    #[test]
    fn metadata_is_of_the_issuer_and_names_keys_that_may_be_fetched() {
        let of = |issuer: &str, said: &str, jwks_uri_: &str| {
            let document = format!(r#"{{"issuer":"{said}","jwks_uri":"{jwks_uri_}"}}"#);
            jwks_uri(document.as_bytes(), issuer, &url(issuer))
        };
        let (corp, keys) = ("https://login.corp.example", "https://keys.corp.example:8443/x?y=z");
        let (local, local_keys) = ("http://127.0.0.1:8080/realms/x", "http://localhost:9090/keys");
        assert_eq!(of(corp, corp, keys), Ok(url(keys)));
        assert_eq!(of(corp, corp, "https://10.0.0.1/keys"), Ok(url("https://10.0.0.1/keys")));
        assert_eq!(of(local, local, local_keys), Ok(url(local_keys)));
        for said in ["https://login.corp.example/", "https://LOGIN.corp.example", "https://evil.example", ""]
        {
            assert_eq!(of(corp, said, keys), Err(NotFetched::OtherIssuer), "{said}");
        }
        for jwks_uri in [
            "http://login.corp.example/keys",
            local_keys,
            "https://user@keys.corp.example/",
            "https://user:password@keys.corp.example/",
            "file:///etc/passwd",
            "data:application/json,{}",
            "/keys",
            "",
        ] {
            assert_eq!(of(corp, corp, jwks_uri), Err(NotFetched::NoKeysUrl), "{jwks_uri}");
        }
        assert_eq!(of(local, local, "http://10.0.0.1/keys"), Err(NotFetched::NoKeysUrl));
        let document = |text: &str| jwks_uri(text.as_bytes(), corp, &url(corp));
        assert_eq!(document(&format!(r#"{{"issuer":"{corp}"}}"#)), Err(NotFetched::NoKeysUrl));
        for bad in ["", "<html>", "{}", r#"{"jwks_uri":"https://x.example/"}"#, r#"{"issuer":1}"#] {
            assert_eq!(document(bad), Err(NotFetched::NotADocument), "{bad}");
        }
        let twice = format!(r#"{{"issuer":"https://evil.example","issuer":"{corp}","jwks_uri":"{keys}"}}"#);
        assert_eq!(document(&twice), Err(NotFetched::NotADocument));
    }
}
