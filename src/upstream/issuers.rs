//! What issuers and identity providers are asked: documents, as their keys and the metadata that says where those are, and questions
//! that only they can answer.
//!
//! Whom [`Issuers`] asks is in the config, or in metadata of an issuer of the config. So, other than what a stranger names, which
//! [`NamedIssuers`] asks, it may be at any address. The rest is the same: no redirect is followed, nothing is longer or takes longer than
//! it may, and nothing of an answer is shown to anybody.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use url::{Position, Url};

use super::{
    Origin, SystemTrust, Trusts, UpstreamSocket,
    document::{self, answered, exchange, is_failing},
    internet::{Internet, NotReached, PublicHosts, SystemInternet},
};
use crate::{
    config::SystemRoots,
    error::ErrorKind,
    identity::foreign::source::{Ask, Asking, Heading, IssuerAnswer, NotFetched, Source},
};

/// How long a connection may take. Who asks has this time for all, or not much more.
const MOST_TIME: Duration = Duration::from_secs(5);
/// Names that strangers gave, which are looked up at a time. Each has a thread as long.
const MOST_LOOK_UPS: usize = 32;

/// Asks issuers, all of them.
#[derive(Default)]
pub struct Issuers {
    trust: SystemTrust,
}

impl Source for Issuers {
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a> {
        Box::pin(async move { answer(self.connect(url).await?, url, ask, most).await })
    }

    fn head<'a>(&'a self, url: &'a Url, ask: Ask) -> Heading<'a> {
        Box::pin(async move { head(self.connect(url).await?, url, ask).await })
    }
}

/// Where an issuer is, and a connection to it.
type Connected = (Origin, UpstreamSocket);

impl Issuers {
    async fn connect(&self, url: &Url) -> Result<Connected, NotFetched> {
        let origin = match url.scheme() {
            "https" => {
                let trust = self.trust.get(|| SystemRoots::default().take()).await;
                Origin::trusting(url, trust.ok_or(NotFetched::Unreachable)?)
            }
            _ => Origin::new(url, None, &mut Trusts::default()),
        };
        let origin = origin.map_err(|_| NotFetched::Unreachable)?;
        let connected = origin.connect(MOST_TIME, false).await;
        let transport = connected.map_err(|error| match error.kind {
            ErrorKind::UpstreamTimeout => NotFetched::Timeout,
            _ => NotFetched::Unreachable,
        })?;
        Ok((origin, transport))
    }
}

/// Asks issuers that a stranger names: over HTTPS, at hosts of the [public Internet](super::internet) alone.
pub struct NamedIssuers {
    hosts: PublicHosts,
    look_ups: Arc<Semaphore>,
}

impl Default for NamedIssuers {
    fn default() -> Self {
        Self::of(Arc::new(SystemInternet))
    }
}

impl NamedIssuers {
    /// Those of this Internet.
    pub fn of(internet: Arc<dyn Internet>) -> Self {
        Self { hosts: PublicHosts::of(internet), look_ups: Arc::new(Semaphore::new(MOST_LOOK_UPS)) }
    }

    async fn connect(&self, url: &Url) -> Result<Connected, NotFetched> {
        // Whoever asks has seen to it; what is not so goes nowhere.
        if url.scheme() != "https" {
            return Err(NotFetched::NotPublic);
        }
        let begin = || Arc::clone(&self.look_ups).try_acquire_owned().ok();
        self.hosts.connect(url, begin).await.map_err(|why| match why {
            NotReached::Busy => NotFetched::Busy,
            NotReached::NotPublic => NotFetched::NotPublic,
            NotReached::Unresolved | NotReached::Unreachable => NotFetched::Unreachable,
        })
    }
}

impl Source for NamedIssuers {
    fn ask<'a>(&'a self, url: &'a Url, ask: Ask, most: usize) -> Asking<'a> {
        Box::pin(async move { answer(self.connect(url).await?, url, ask, most).await })
    }

    fn head<'a>(&'a self, url: &'a Url, ask: Ask) -> Heading<'a> {
        Box::pin(async move { head(self.connect(url).await?, url, ask).await })
    }
}

fn target(url: &Url) -> &str {
    &url[Position::BeforePath..Position::AfterQuery]
}

async fn answer(
    (origin, transport): Connected,
    url: &Url,
    ask: Ask,
    most: usize,
) -> Result<IssuerAnswer, NotFetched> {
    match exchange(origin, transport, target(url), ask, most).await {
        Ok((status, _)) if is_failing(status) => Err(NotFetched::Failing),
        Ok((status, document)) => {
            Ok(IssuerAnswer { status, body: document.body, fresh_for: document.fresh_for })
        }
        Err(why) => Err(of_document(why)),
    }
}

async fn head(
    (origin, transport): Connected,
    url: &Url,
    ask: Ask,
) -> Result<(http::StatusCode, http::HeaderMap), NotFetched> {
    let answered = answered(origin, transport, target(url), ask).await;
    answered.map(|answer| (answer.status, answer.headers)).map_err(of_document)
}

fn of_document(why: document::NotFetched) -> NotFetched {
    match why {
        document::NotFetched::Redirect => NotFetched::Redirect,
        document::NotFetched::Timeout => NotFetched::Timeout,
        _ => NotFetched::NotADocument,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::spawn_local,
    };

    use super::*;

    const MOST: usize = 64 << 10;

    /// What comes of asking a host that answers so, and what it was asked. It writes the second text until nobody reads any more.
    async fn fetched(
        answer: &'static str,
        then: &'static [u8],
    ) -> (Result<IssuerAnswer, NotFetched>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?of=corp", listener.local_addr().unwrap()).parse().unwrap();
        let host = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
            }
            let mut written = stream.write_all(answer.as_bytes()).await;
            while !then.is_empty() && written.is_ok() {
                written = stream.write_all(then).await;
            }
            let _ = stream.shutdown().await;
            String::from_utf8(got).unwrap()
        });
        let documents = Issuers::default();
        let document = documents.fetch(&url, MOST).await;
        (document, host.await.unwrap())
    }

    #[tokio::test(flavor = "local")]
    async fn a_document_is_fetched_from_wherever_the_config_says() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/jwk-set+json\r\nCache-Control: max-age=600\r\n\
                      Content-Length: 11\r\n\r\n{\"keys\":[]}";
        let (document, asked) = fetched(answer, b"").await;
        let document = document.unwrap();
        assert_eq!(
            (&document.body[..], document.fresh_for),
            (&b"{\"keys\":[]}"[..], Some(Duration::from_secs(600)))
        );
        assert!(asked.starts_with("GET /keys?of=corp HTTP/1.1\r\n"), "{asked}");
        let asked = asked.to_ascii_lowercase();
        assert!(asked.contains("\r\naccept: application/json\r\n"), "{asked}");
        assert!(!asked.contains("cookie") && !asked.contains("authorization"), "{asked}");
    }

    #[tokio::test(flavor = "local")]
    async fn what_is_no_document_of_the_size_is_none_however_much_comes() {
        const JSON: &str = "Content-Type: application/json\r\n";
        for (answer, then, why) in [
            (
                format!("302 Found\r\nLocation: https://x.example/\r\n{JSON}Content-Length: 0\r\n\r\n"),
                &b""[..],
                NotFetched::Redirect,
            ),
            (format!("500 Oh\r\n{JSON}Content-Length: 2\r\n\r\n{{}}"), b"", NotFetched::Failing),
            (
                "503 No\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nNo".into(),
                b"",
                NotFetched::Failing,
            ),
            (format!("429 No\r\n{JSON}Content-Length: 2\r\n\r\n{{}}"), b"", NotFetched::Failing),
            (format!("401 No\r\n{JSON}Content-Length: 2\r\n\r\n{{}}"), b"", NotFetched::NotADocument),
            (
                "200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}".into(),
                b"",
                NotFetched::NotADocument,
            ),
            (format!("200 OK\r\n{JSON}Content-Length: 9\r\n\r\n{{}}"), b"", NotFetched::NotADocument),
            // As much as is read: it has no end.
            (
                format!("200 OK\r\n{JSON}Content-Length: 10000000000\r\n\r\n"),
                &[b' '; 1 << 16],
                NotFetched::NotADocument,
            ),
            (
                format!("200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n"),
                b"4\r\n    \r\n",
                NotFetched::NotADocument,
            ),
            (format!("200 OK\r\n{JSON}\r\n"), &[b' '; 1 << 16], NotFetched::NotADocument),
            (format!("200 OK\r\n{JSON}X: "), &[b'x'; 1 << 16], NotFetched::NotADocument),
            (
                format!("200 OK\r\n{JSON}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}"),
                b"",
                NotFetched::NotADocument,
            ),
        ] {
            let answer: &'static str = Box::leak(format!("HTTP/1.1 {answer}").into_boxed_str());
            let (document, _) = fetched(answer, then).await;
            assert_eq!(document.err(), Some(why), "{answer}");
        }
    }

    #[tokio::test(flavor = "local")]
    async fn a_form_is_posted_and_a_refusal_of_it_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/token", listener.local_addr().unwrap()).parse().unwrap();
        let host = spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"code=a%26b") {
                assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
            }
            let answer = "HTTP/1.1 400 No\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n\
                          {\"error\":\"invalid_grant\"}";
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(got).unwrap().to_ascii_lowercase()
        });
        let form = String::from("code=a%26b").into();
        let ask = Ask::form(form, Some(HeaderValue::from_static("Basic eDp5")));
        let answer = Issuers::default().ask(&url, ask, MOST).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (400, &b"{\"error\":\"invalid_grant\"}"[..]));
        let asked = host.await.unwrap();
        assert!(asked.starts_with("post /token http/1.1\r\n"), "{asked}");
        for field in [
            "content-type: application/x-www-form-urlencoded",
            "content-length: 10",
            "authorization: basic edp5",
        ] {
            assert!(asked.contains(&format!("\r\n{field}\r\n")), "{asked}");
        }
    }

    #[tokio::test(flavor = "local")]
    async fn where_nobody_listens_there_is_no_document() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let document = Issuers::default().fetch(&url, MOST).await;
        assert_eq!(document.err(), Some(NotFetched::Unreachable));
    }
}
