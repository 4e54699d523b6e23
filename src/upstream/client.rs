//! A request that the gateway makes itself, to a server over HTTP. What it is for, and what the answer means, is for who asks.

use std::{future::poll_fn, rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{Exchange, Origin, Pool, RequestBody, ResponseBody, Upload, UpstreamSocket};
use crate::error::{Error, ErrorKind};

/// What the gateway calls itself to servers, unless a client speaks, or the config has another name.
const USER_AGENT: &str = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));

/// A header field.
pub type Field = (HeaderName, HeaderValue);

/// A server, as one worker reaches it.
pub struct Client {
    /// Where to connect to.
    pub origin: Arc<Origin>,
    /// The worker's connections.
    pub pool: Rc<Pool>,
    /// Longest that a connection may take.
    pub connect_timeout: Duration,
    /// Longest that a response head may take once there is a connection.
    pub head_timeout: Duration,
}

/// What is asked.
pub struct ClientRequest<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Header fields.
    pub fields: &'a [Field],
    /// Header fields of the config, which replace others of the same name.
    pub configured: &'a [Field],
    /// The body.
    pub body: Bytes,
}

/// What a server answered: the head, and the body as it comes.
pub struct ClientResponse {
    /// The status. Of [`Client::send`], it is no redirect and asks for no credential.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body, which is not compressed.
    pub body: ResponseBody,
}

impl Client {
    /// Sends one request and waits for the response head; calls `on_sent` once all of the request was written. Nothing is ever
    /// sent twice: a pooled connection is looked at before it is used, and after that the server may have read. A redirect is
    /// an error, since what a server names is not what the config names.
    pub async fn send(
        &self,
        request: ClientRequest<'_>,
        on_sent: impl Fn(),
    ) -> Result<ClientResponse, Error> {
        self.send_over(self.transport().await?, request, on_sent).await
    }

    /// The same, where a redirect or a challenge is an answer, too.
    pub async fn ask(&self, request: ClientRequest<'_>) -> Result<ClientResponse, Error> {
        self.answered_over(self.transport().await?, request, || ()).await?.plain()
    }

    /// The same; calls `on_sent` once all of the request was written.
    pub async fn ask_noting(
        &self,
        request: ClientRequest<'_>,
        on_sent: impl Fn(),
    ) -> Result<ClientResponse, Error> {
        self.answered_over(self.transport().await?, request, on_sent).await?.plain()
    }

    /// [`Client::send`] on a connection that is there.
    async fn send_over(
        &self,
        transport: UpstreamSocket,
        request: ClientRequest<'_>,
        on_sent: impl Fn(),
    ) -> Result<ClientResponse, Error> {
        let response = self.answered_over(transport, request, on_sent).await?;
        ErrorKind::refuse_challenge(response.status)?;
        if response.status.is_redirection() {
            return Err(ErrorKind::UpstreamRedirect.into());
        }
        response.plain()
    }

    async fn transport(&self) -> Result<UpstreamSocket, Error> {
        match self.pool.take(&self.origin) {
            Some(transport) => Ok(transport),
            None => self.origin.connect(self.connect_timeout, false).await,
        }
    }

    /// [`Client::ask`] on a connection that is there, whatever coding the body has.
    pub(super) async fn answered_over(
        &self,
        transport: UpstreamSocket,
        request: ClientRequest<'_>,
        on_sent: impl Fn(),
    ) -> Result<ClientResponse, Error> {
        let head = self.head(&request);
        let (origin, pool) = (Arc::clone(&self.origin), Rc::clone(&self.pool));
        let upload = Upload { body: RequestBody::Whole(request.body), inspect: None, max_bytes: 0 };
        let mut exchange = Exchange::new(origin, pool, transport, request.method, head, upload);
        let mut is_noted = false;
        let answered = poll_fn(|cx| {
            let polled = exchange.poll_head(cx);
            if !is_noted && exchange.is_sent() {
                is_noted = true;
                on_sent();
            }
            polled
        });
        let (head, first) = tokio::time::timeout(self.head_timeout, answered)
            .await
            .map_err(|_| ErrorKind::UpstreamTimeout.with_cause("no response head in time"))??;
        let body = exchange.into_body(&head, first);
        Ok(ClientResponse { status: head.status, headers: head.headers, body })
    }

    /// The request head, but for the fields that frame the body.
    fn head(&self, request: &ClientRequest<'_>) -> Vec<u8> {
        let ClientRequest { method, path, fields, configured, .. } = request;
        let identity = (header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let host = (header::HOST, self.origin.authority.clone());
        let agent = (header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let own = fields.iter().chain([&agent]);
        let own = own.filter(|(name, _)| configured.iter().all(|(set, _)| set != name));
        let configured = configured.iter().filter(|(name, _)| *name != header::ACCEPT_ENCODING);
        let mut out = self.pool.spares.buffer();
        for part in [method.as_str(), " ", path, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        for (name, value) in [&host, &identity].into_iter().chain(own).chain(configured) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out
    }
}

impl ClientResponse {
    /// Itself, if its body is not compressed: nobody asked for that.
    pub(super) fn plain(self) -> Result<Self, Error> {
        if is_coded(&self.headers) {
            return Err(ErrorKind::UpstreamUnreachable
                .with_cause("the response is compressed although identity was asked for"));
        }
        Ok(self)
    }
}

/// All of `body`: at most so many bytes, of which each part comes within `patience`. `hold` is awaited before each part, with
/// how many bytes are there by then.
pub async fn whole(
    body: &mut ResponseBody,
    most: usize,
    patience: Duration,
    mut hold: impl AsyncFnMut(usize) -> Result<(), Error>,
) -> Result<Bytes, Error> {
    const MIB: usize = 1024 * 1024;
    let mut whole = BytesMut::new();
    loop {
        let next = async {
            hold(whole.len()).await?;
            poll_fn(|cx| body.poll_data(cx)).await.transpose().map_err(Error::from)
        };
        let next = tokio::time::timeout(patience, next).await;
        let stalled = |_| ErrorKind::UpstreamTimeout.with_cause("the response stalled");
        let Some(data) = next.map_err(stalled)?? else { return Ok(whole.freeze()) };
        if whole.len() + data.len() > most {
            let size = if most < MIB { format!("{most} bytes") } else { format!("{} MiB", most / MIB) };
            return Err(
                ErrorKind::UpstreamUnreachable.with_cause(format!("the response is larger than {size}"))
            );
        }
        whole.extend_from_slice(&data);
    }
}

/// Whether a body is compressed, or in any other coding.
pub fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Sends a request to a server that answers so, and reads the whole body, of which 8 bytes are wanted at most. Returns what
    /// the server got, too.
    async fn ask(answer: &'static str) -> (String, Result<Bytes, Error>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let client = Client {
            origin: Arc::new(Origin::new(&url, None, &mut Default::default()).unwrap()),
            pool: Rc::default(),
            connect_timeout: Duration::from_secs(20),
            head_timeout: Duration::from_secs(20),
        };
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\nname=value") {
                assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(got).unwrap()
        });
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let request = ClientRequest {
            method: Method::POST,
            path: "/token?x=1",
            fields: &[field("accept", "application/json"), field("x-team", "mine")],
            configured: &[field("x-team", "blue")],
            body: Bytes::from_static(b"name=value"),
        };
        let sent = Cell::new(0);
        let answered = async {
            let mut response = client.send(request, || sent.set(sent.get() + 1)).await?;
            assert_eq!((response.status, response.headers.contains_key("x-more")), (StatusCode::OK, true));
            whole(&mut response.body, 8, Duration::from_secs(20), async |_| Ok(())).await
        };
        let answered = answered.await;
        assert_eq!(sent.get(), 1);
        (server.await.unwrap(), answered)
    }

    #[tokio::test(flavor = "local")]
    async fn a_request_says_what_it_is_to_say_and_a_body_is_read_whole() {
        let (got, body) = ask("HTTP/1.1 200 OK\r\nX-More: 1\r\nContent-Length: 8\r\n\r\n12345678").await;
        assert_eq!(&body.unwrap()[..], b"12345678");
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "name=value");
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("POST /token?x=1 HTTP/1.1"));
        let lines: Vec<_> = lines.map(str::to_ascii_lowercase).collect();
        for line in ["accept: application/json", "accept-encoding: identity", "content-length: 10"] {
            assert!(lines.iter().any(|other| other == line), "{line}: {head}");
        }
        let own: Vec<_> = lines.iter().filter(|line| line.starts_with("x-team")).collect();
        assert_eq!(own, ["x-team: blue"], "what the config says goes in its place");
    }

    #[tokio::test(flavor = "local")]
    async fn what_no_request_of_the_gateway_wants_is_an_error() {
        for (answer, kind, cause) in [
            (
                "200 OK\r\nX-More: 1\r\nContent-Length: 9\r\n\r\n123456789",
                "unreachable",
                "larger than 8 bytes",
            ),
            ("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", "unreachable", "compressed"),
            ("302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "redirect", ""),
            ("401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "unauthorized", "401"),
        ] {
            let answer: &'static str = Box::leak(format!("HTTP/1.1 {answer}").into_boxed_str());
            let error = ask(answer).await.1.unwrap_err();
            assert_eq!(error.kind.code(), format!("upstream_{kind}"), "{answer}");
            assert!(error.cause.unwrap_or_default().contains(cause), "{answer}");
        }
    }
}
