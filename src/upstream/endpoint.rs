//! Where a server is, and how to get a connection to it.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderValue;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::Url;

use super::trust::{Trust, Trusts};
use crate::net::tcp::tune;

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

/// Why an endpoint cannot be built from its URL.
#[derive(Debug)]
pub struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    /// The endpoint that `url` names, trusting `ca_pem` instead of the system's certificates if it is given. Where nothing is
    /// trusted, connections fail.
    pub fn new(url: &Url, ca_pem: Option<&Arc<[u8]>>, trusts: &mut Trusts) -> Result<Self, Unusable> {
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
                Some((trusts.of(ca_pem), name))
            }
            _ => None,
        };
        let authority =
            HeaderValue::try_from(authority).map_err(|_| unusable("the host is no header value"))?;
        Ok(Self { url_host, host, port, authority, tls })
    }

    /// Whether a connection to this endpoint may serve requests for `url`.
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

    /// Opens a connection: name resolution, TCP and TLS together within `timeout`.
    pub async fn connect(&self, timeout: Duration) -> io::Result<UpstreamSocket> {
        let tcp = async { TcpStream::connect((self.host.as_str(), self.port)).await };
        self.connect_by(tcp, timeout).await
    }

    /// The same for a stream of events that may never end: while its client does not read, the kernel keeps little of it.
    pub async fn connect_for_stream(&self, timeout: Duration) -> io::Result<UpstreamSocket> {
        let tcp = async {
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
        };
        self.connect_by(tcp, timeout).await
    }

    async fn connect_by(
        &self,
        tcp: impl Future<Output = io::Result<TcpStream>>,
        timeout: Duration,
    ) -> io::Result<UpstreamSocket> {
        let connecting = async {
            let tcp = tcp.await?;
            // Best effort: a socket without these options works, less well.
            let _ = tune((&tcp).into());
            Ok(match &self.tls {
                None => UpstreamSocket::Tcp(tcp),
                Some((trust, name)) => {
                    let config = trust.config().map_err(|why| io::Error::other(why.to_owned()))?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    UpstreamSocket::Tls(Box::new(connector.connect(name.clone(), tcp).await?))
                }
            })
        };
        tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// A byte stream to a server.
pub enum UpstreamSocket {
    /// `http`
    Tcp(TcpStream),
    /// `https`
    Tls(Box<TlsStream<TcpStream>>),
}

impl UpstreamSocket {
    /// The socket below, whatever it carries.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Lets the kernel acknowledge every second event of a stream instead of each by itself.
    ///
    /// Without it, a read that empties the socket sends an acknowledgment at once while the traffic goes one way only
    /// (Linux, `tcp_cleanup_rbuf`), which costs about as much again as the read: a sixth of all that an event costs.
    /// The kernel goes back to its own ways when an event was left unacknowledged for 40 ms.
    pub(super) fn delay_acks(&self) {
        // Nothing depends on it.
        let _ = SockRef::from(self.tcp()).set_tcp_quickack(false);
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            UpstreamSocket::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            UpstreamSocket::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for UpstreamSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, bufs))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod stream_tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_for_a_stream_keeps_little_in_the_kernel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let endpoint = Origin::new(&url, None, &mut Default::default()).unwrap();
        let timeout = Duration::from_secs(9);
        let size = |transport: &UpstreamSocket| SockRef::from(transport.tcp()).recv_buffer_size().unwrap();
        let usual = size(&endpoint.connect(timeout).await.unwrap());
        let of_stream = size(&endpoint.connect_for_stream(timeout).await.unwrap());
        assert!(of_stream <= 2 * STREAM_BUFFER as usize && of_stream < usual, "{of_stream}, not {usual}");
    }
}
