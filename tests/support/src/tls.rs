//! Certificates, and clients that trust them.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use sluicegate::{
    downstream::self_signed::{SelfSigned, self_signed},
    net::crypto::provider,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::soon;

/// A certificate for `localhost`, with its key, in files.
pub struct Identity {
    pub made: SelfSigned,
    dir: TempDir,
}

impl Identity {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let made = self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let identity = Self { made, dir: TempDir::new().unwrap() };
        identity.write_cert(&identity.made);
        identity.write_key(&identity.made);
        std::fs::write(identity.path("ca.pem"), &identity.made.ca).unwrap();
        identity
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts the certificate of `other` in place of the one in the file.
    pub fn write_cert(&self, other: &SelfSigned) {
        std::fs::write(self.path("cert.pem"), &other.cert).unwrap();
    }

    pub fn write_key(&self, other: &SelfSigned) {
        std::fs::write(self.path("key.pem"), other.key.expose()).unwrap();
    }

    /// `proxy.tls`
    pub fn config(&self) -> Value {
        json!({ "cert": self.path("cert.pem"), "key": self.path("key.pem") })
    }

    /// Handshakes with `stream` and verifies the certificate against this identity's CA.
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: T,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<T>> {
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(self.client_config(alpn, versions)).connect(name, stream);
        soon("the handshake", connecting).await
    }

    /// The config of a client that trusts this identity's CA alone.
    pub fn client_config(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.made.ca.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
