//! Hosts that a stranger names: only those of the public Internet are connected to.
//!
//! Whoever has the gateway ask a host must not reach by it what only the gateway reaches: services of its machine, of its network, of
//! its cloud. A name is resolved once, all its addresses are looked at, and what is connected to is what was looked at: a name that
//! points elsewhere a moment later gains nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{net::TcpStream, task::spawn_blocking, time::timeout};
use url::{Host, Url};

use super::{Origin, SystemTrust, UpstreamSocket};
use crate::{config::SystemRoots, net::global::is_global};

/// The port of `https`.
const PORT: u16 = 443;
/// How long a connection may take. Who asks has this time for all, or less.
const MOST_TIME: Duration = Duration::from_secs(5);
/// How long one address of several may take to be connected to.
const EACH_ADDRESS: Duration = Duration::from_millis(1500);
/// Addresses of one host that are tried.
const MOST_ADDRESSES: usize = 4;

/// A connection that is made.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + 'a>>;

/// The Internet, as the gateway reaches it. Tests have one of their own; whatever it is, which addresses may be connected to
/// is not for it to say.
pub trait Internet: Send + Sync {
    /// The addresses of a host. It may block.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
    /// A connection to exactly this address.
    fn connect(&self, address: SocketAddr) -> Connecting<'_>;
    /// The certificates that hosts are trusted by. It may block.
    fn roots(&self) -> Vec<CertificateDer<'static>>;
}

/// The Internet.
pub(super) struct SystemInternet;

impl Internet for SystemInternet {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, PORT).to_socket_addrs()?.map(|address| address.ip()).collect())
    }

    fn connect(&self, address: SocketAddr) -> Connecting<'_> {
        Box::pin(TcpStream::connect(address))
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        SystemRoots::default().take()
    }
}

/// Why a host is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotReached {
    /// As many names are looked up as may be.
    Busy,
    /// The host has no address.
    Unresolved,
    /// An address of the host is not of the public Internet.
    NotPublic,
    /// It cannot be connected to, or its certificate is not good.
    Unreachable,
}

/// Hosts of the public Internet, over HTTPS.
pub(super) struct PublicHosts {
    internet: Arc<dyn Internet>,
    trust: SystemTrust,
}

impl PublicHosts {
    /// Those of this Internet.
    pub(super) fn of(internet: Arc<dyn Internet>) -> Self {
        Self { internet, trust: SystemTrust::default() }
    }

    /// A connection to the host of `url`, all of whose addresses are of the public Internet. A name is looked up if `begin` gives what is
    /// kept as long as that takes: nothing ends a look-up before its time, whoever has left, and it has a thread as long.
    pub(super) async fn connect<H: Send + 'static>(
        &self,
        url: &Url,
        begin: impl FnOnce() -> Option<H>,
    ) -> Result<(Origin, UpstreamSocket), NotReached> {
        let internet = Arc::clone(&self.internet);
        let trust = self.trust.get(move || internet.roots()).await.ok_or(NotReached::Unreachable)?;
        let addresses = self.addresses(url, begin).await?;
        let origin = Origin::trusting(url, trust).map_err(|_| NotReached::Unreachable)?;
        let port = url.port_or_known_default().unwrap_or(PORT);
        let tried = &addresses[..addresses.len().min(MOST_ADDRESSES)];
        for (at, address) in tried.iter().enumerate() {
            let connecting = async {
                let tcp = self.internet.connect(SocketAddr::new(*address, port)).await?;
                origin.over(tcp).await
            };
            // The last may take all the time that is left.
            let patience = if at + 1 == tried.len() { MOST_TIME } else { EACH_ADDRESS };
            if let Ok(Ok(transport)) = timeout(patience, connecting).await {
                return Ok((origin, transport));
            }
        }
        Err(NotReached::Unreachable)
    }

    async fn addresses<H: Send + 'static>(
        &self,
        url: &Url,
        begin: impl FnOnce() -> Option<H>,
    ) -> Result<Vec<IpAddr>, NotReached> {
        let addresses = match url.host() {
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            Some(Host::Domain(name)) => {
                let (internet, host) = (Arc::clone(&self.internet), name.to_owned());
                let look_up = begin().ok_or(NotReached::Busy)?;
                let resolved = spawn_blocking(move || {
                    let resolved = internet.resolve(&host);
                    drop(look_up);
                    resolved
                });
                resolved.await.ok().and_then(Result::ok).unwrap_or_default()
            }
            None => Vec::new(),
        };
        if addresses.is_empty() {
            return Err(NotReached::Unresolved);
        }
        // One that is not gives the host away: it is not what it seems, or not outside.
        match addresses.iter().all(|address| is_global(*address)) {
            true => Ok(addresses),
            false => Err(NotReached::NotPublic),
        }
    }
}
