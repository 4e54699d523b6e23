//! The gate's own TLS: the certificate that new handshakes get, and the one made on the spot.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::secret::Secret;

/// The one cryptography provider of this program, for both sides.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

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

/// A certificate made on the spot, its key, and the CA that signed it, for clients to trust; all PEM.
pub struct SelfSigned {
    /// The CA certificate. Its key is gone: it signs nothing else.
    pub ca: String,
    /// The server's certificate.
    pub cert: String,
    /// The server's key.
    pub key: Secret,
}

/// Makes a CA and a certificate for `names` (host names and IP addresses): ECDSA P-256, valid for 90 days.
pub fn self_signed(names: &[String]) -> io::Result<SelfSigned> {
    make(names).map_err(io::Error::other)
}

fn make(names: &[String]) -> Result<SelfSigned, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = params(&[], "Sluicegate self-made CA")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_cert = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let mut leaf = params(names, "Sluicegate")?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    Ok(SelfSigned { ca: ca_cert.pem(), cert: cert.pem(), key: Secret::new(key.serialize_pem()) })
}

fn params(names: &[String], common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let now = SystemTime::now();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    // An hour back, for clients whose clock is behind.
    params.not_before = (now - HOUR).into();
    params.not_after = (now + 90 * 24 * HOUR).into();
    Ok(params)
}

impl SelfSigned {
    /// Certificate and key as a TLS server takes them.
    pub fn certified(&self) -> io::Result<Arc<CertifiedKey>> {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes()).map_err(io::Error::other)?;
        CertifiedKey::from_der(vec![cert], key, &provider()).map(Arc::new).map_err(io::Error::other)
    }
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

    #[test]
    fn a_made_certificate_has_a_validity() {
        let certified = self_signed(&["localhost".into()]).unwrap().certified().unwrap();
        let validity = Validity::of(&certified).unwrap();
        assert_eq!(validity.left(SystemTime::now()), Left::Enough);
    }
}
