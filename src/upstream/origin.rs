//! Where a server is, and how to get a connection to it.

use std::{fmt, io, sync::Arc, time::Duration};

use http::HeaderValue;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use url::Url;

use super::trust::{Trust, Trusts};
use crate::{
    error::{Error, ErrorKind},
    net::tcp::tune,
};

/// Bytes of a server's event stream that the kernel may keep, as it is set; the kernel doubles them for its own needs.
/// Bounds what an unread stream costs, from 130 KiB: the kernel begins with that, and more comes with each burst that is
/// read fast.
const STREAM_BUFFER: u32 = 16 * 1024;

/// One place to connect to: the key by which connections are pooled. It outlives a reload that leaves
/// scheme, host, port and trust as they were.
pub struct Origin {
    /// As a URL writes it: IPv6 in brackets.
    url_host: String,
    /// As sockets and certificates take it.
    host: String,
    port: u16,
    /// Value of `Host`: with the port only if it is not the scheme's own.
    pub authority: HeaderValue,
    tls: Option<(Arc<Trust>, ServerName<'static>)>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a URL names no origin.
#[derive(Debug)]
pub struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    /// The origin that `url` names, trusting `ca_pem` instead of the system's certificates if it is given. Where nothing is
    /// trusted, connections fail.
    pub fn new(url: &Url, ca_pem: Option<&Arc<[u8]>>, trusts: &mut Trusts) -> Result<Self, Unusable> {
        Self::made(url, || trusts.of(ca_pem))
    }

    /// The origin that `url` names, with what it is trusted by.
    pub(super) fn trusting(url: &Url, trust: Arc<Trust>) -> Result<Self, Unusable> {
        Self::made(url, || trust)
    }

    fn made(url: &Url, trust: impl FnOnce() -> Arc<Trust>) -> Result<Self, Unusable> {
        let unusable = |what: &str| Unusable(format!("{url}: {what}"));
        let host = url.host_str().ok_or_else(|| unusable("no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| unusable("no port"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let url_host = host.to_owned();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match url.scheme() {
            "https" => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| unusable("the host is no name that a certificate can have"))?;
                Some((trust(), name))
            }
            _ => None,
        };
        let authority =
            HeaderValue::try_from(authority).map_err(|_| unusable("the host is no header value"))?;
        Ok(Self { url_host, host, port, authority, tls })
    }

    /// Whether a connection to this origin may serve requests for `url`.
    pub fn is_same_place(&self, url: &Url, ca_pem: Option<&Arc<[u8]>>) -> bool {
        url.host_str() == Some(self.url_host.as_str())
            && url.port_or_known_default() == Some(self.port)
            && (url.scheme() == "https") == self.tls.is_some()
            && self.trust().is_none_or(|trust| trust.is_by(ca_pem))
    }

    /// What its certificate is checked against.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.tls.as_ref().map(|(trust, _)| trust)
    }

    /// Opens a connection: name resolution, TCP and TLS together within `timeout`. `is_for_stream`: for a stream of events that
    /// may never end, of which the kernel keeps little while its client does not read.
    pub async fn connect(&self, timeout: Duration, is_for_stream: bool) -> Result<UpstreamSocket, Error> {
        let connecting = async {
            let tcp = match is_for_stream {
                true => self.connect_for_stream().await?,
                false => TcpStream::connect((self.host.as_str(), self.port)).await?,
            };
            self.over(tcp).await
        };
        let connected = tokio::time::timeout(timeout, connecting).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|e: io::Error| {
            match e.kind() {
                io::ErrorKind::TimedOut => {
                    ErrorKind::UpstreamTimeout.with_cause("no connection within connectTimeout")
                }
                _ => ErrorKind::UpstreamUnreachable.with_cause(e.to_string()),
            }
        })
    }

    /// What goes over this connection, behind the handshake of TLS if the URL asks for it.
    pub(super) async fn over(&self, tcp: TcpStream) -> io::Result<UpstreamSocket> {
        // Best effort: a socket without these options works, less well.
        let _ = tune((&tcp).into());
        Ok(match &self.tls {
            None => Either::Left(tcp),
            Some((trust, name)) => {
                let config = trust.config().map_err(|why| io::Error::other(why.to_owned()))?;
                let connector = TlsConnector::from(Arc::clone(config));
                Either::Right(Box::new(connector.connect(name.clone(), tcp).await?))
            }
        })
    }

    async fn connect_for_stream(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for addr in tokio::net::lookup_host((self.host.as_str(), self.port)).await? {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // What is announced in the handshake cannot be taken back later.
            let _ = socket.set_recv_buffer_size(STREAM_BUFFER);
            match socket.connect(addr).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A byte stream to a server: plain, or in TLS.
pub type UpstreamSocket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The socket below, whatever it carries.
pub(super) fn tcp(socket: &UpstreamSocket) -> &TcpStream {
    match socket {
        Either::Left(tcp) => tcp,
        Either::Right(tls) => tls.get_ref().0,
    }
}

#[cfg(test)]
mod stream_tests {
    use socket2::SockRef;

    use super::*;

    #[tokio::test]
    async fn a_connection_for_a_stream_keeps_little_in_the_kernel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let origin = Origin::new(&url, None, &mut Default::default()).unwrap();
        let timeout = Duration::from_secs(9);
        let size = |transport: &UpstreamSocket| SockRef::from(tcp(transport)).recv_buffer_size().unwrap();
        let usual = size(&origin.connect(timeout, false).await.unwrap());
        let of_stream = size(&origin.connect(timeout, true).await.unwrap());
        assert!(of_stream <= 2 * STREAM_BUFFER as usize && of_stream < usual, "{of_stream}, not {usual}");
    }
}
