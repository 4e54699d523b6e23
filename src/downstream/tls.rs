//! The gateway's own TLS: the certificate that new handshakes get.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::net::crypto::provider;

/// The certificate that new handshakes get. A reload swaps it; running connections keep theirs.
#[derive(Default)]
pub struct Certificate(ArcSwapOption<CertifiedKey>);

impl Certificate {
    /// Makes `certified` the one to present from now on.
    pub fn set(&self, certified: Arc<CertifiedKey>) {
        self.0.store(Some(certified));
    }

    /// The one that is presented.
    pub fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// From when until when clients take a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

/// How much of a certificate's lifetime is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// More than a third.
    Enough,
    /// A third or less: one that is renewed by itself should have been.
    Third,
    /// A tenth or less.
    Tenth,
    /// Nothing.
    Nothing,
}

impl Validity {
    /// That of the first certificate of a chain.
    pub fn of(certified: &CertifiedKey) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certified.cert.first()?).ok()?;
        let at = |timestamp: i64| {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(timestamp).unwrap_or(0)))
        };
        let validity = parsed.validity();
        Some(Self {
            not_before: at(validity.not_before.timestamp())?,
            not_after: at(validity.not_after.timestamp())?,
        })
    }

    /// Whether it is not too early for it at `now`.
    pub fn has_begun(&self, now: SystemTime) -> bool {
        self.not_before <= now
    }

    /// How much is left at `now`.
    pub fn left(&self, now: SystemTime) -> Left {
        let lifetime = self.not_after.duration_since(self.not_before).unwrap_or_default();
        match self.not_after.duration_since(now) {
            Err(_) => Left::Nothing,
            Ok(left) if left <= lifetime / 10 => Left::Tenth,
            Ok(left) if left <= lifetime / 3 => Left::Third,
            Ok(_) => Left::Enough,
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// TLS 1.2 and 1.3 with AEAD suites only, HTTP/2 preferred; no early data, which could be replayed.
pub fn server_config(certificate: Arc<Certificate>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A session ticket saves a reconnecting client the signature, which is the dear part of a handshake.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_certificate_is_told_by_thirds_and_tenths() {
        let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * days);
        let validity = Validity { not_before: day(0), not_after: day(90) };
        for (now, left) in
            [(0, Left::Enough), (59, Left::Enough), (60, Left::Third), (81, Left::Tenth), (91, Left::Nothing)]
        {
            assert_eq!(validity.left(day(now)), left, "day {now}");
        }
    }
}
