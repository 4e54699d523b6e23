//! What certificates of servers are checked against: one TLS config for all servers that trust the same.
//!
//! To build one means to parse every certificate that the system trusts, some 150, which takes milliseconds: two hundred
//! servers of their own would keep a reload for seconds, and hold as many copies.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use tokio::task::spawn_blocking;

use crate::config::SystemRoots;

/// How long what the system trusts is not read again.
const SYSTEM_TRUST_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What some servers are trusted by.
pub struct Trust {
    /// The PEM file, if it is not what the system trusts.
    ca_pem: Option<Arc<[u8]>>,
    roots: Arc<RootCertStore>,
    config: Result<Arc<ClientConfig>, String>,
}

impl Trust {
    fn new(ca_pem: Option<Arc<[u8]>>, roots: Result<RootCertStore, String>) -> Self {
        let roots = roots.and_then(|roots| match roots.is_empty() {
            true => Err("no certificate to trust: the system has none; give the server a caFile".to_owned()),
            false => Ok(Arc::new(roots)),
        });
        let (roots, config) = match roots {
            Ok(roots) => (Arc::clone(&roots), client_config(&roots)),
            Err(why) => (Arc::new(RootCertStore::empty()), Err(why)),
        };
        Self { ca_pem, roots, config }
    }

    /// The config, or why there can be none.
    pub fn config(&self) -> Result<&Arc<ClientConfig>, &str> {
        self.config.as_ref().map_err(String::as_str)
    }

    /// Whether it trusts these certificates, or what the system trusts.
    pub fn is_by(&self, ca_pem: Option<&Arc<[u8]>>) -> bool {
        self.ca_pem.as_ref() == ca_pem
    }
}

fn client_config(roots: &Arc<RootCertStore>) -> Result<Arc<ClientConfig>, String> {
    let mut config = ClientConfig::builder_with_provider(crate::net::crypto::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The distinct trusts of one load. It begins with those of the one before, so that they are built once only.
#[derive(Default)]
pub struct Trusts {
    by_pem: HashMap<Option<Arc<[u8]>>, Arc<Trust>>,
    /// What the system trusted when it was read last: it is read again for a load that needs it, once.
    of_before: Option<Arc<Trust>>,
    /// What it trusts now.
    system_roots: SystemRoots,
}

impl Trusts {
    /// None so far. What the system trusts is read if it is asked for, and was not before.
    pub fn new(system_roots: SystemRoots) -> Self {
        Self { system_roots, ..Self::default() }
    }

    /// Takes over what servers had before.
    pub fn keep(&mut self, trust: &Arc<Trust>) {
        match trust.ca_pem {
            Some(_) => drop(self.by_pem.insert(trust.ca_pem.clone(), Arc::clone(trust))),
            None => self.of_before = Some(Arc::clone(trust)),
        }
    }

    /// What is trusted by these certificates, or by those of the system.
    pub fn of(&mut self, ca_pem: Option<&Arc<[u8]>>) -> Arc<Trust> {
        let (of_before, roots) = (self.of_before.as_ref(), &self.system_roots);
        let trust = self.by_pem.entry(ca_pem.cloned()).or_insert_with(|| match ca_pem {
            Some(pem) => Arc::new(Trust::new(Some(Arc::clone(pem)), parse(pem))),
            None => of_system(roots, of_before),
        });
        Arc::clone(trust)
    }
}

/// What the system trusts, for those who ask now and then. To read it takes milliseconds, and it changes once in months.
#[derive(Default)]
pub struct SystemTrust(Mutex<Option<(Instant, Arc<Trust>)>>);

impl SystemTrust {
    /// What it trusts, which is read by `read` unless that was done lately; `None`: nothing.
    pub async fn get(
        &self,
        read: impl FnOnce() -> Vec<CertificateDer<'static>> + Send + 'static,
    ) -> Option<Arc<Trust>> {
        let kept = self.0.lock().clone();
        if let Some((at, trust)) = kept
            && at.elapsed() < SYSTEM_TRUST_KEPT
        {
            return Some(trust);
        }
        let trust = spawn_blocking(move || Trusts::new(read().into()).of(None)).await.ok()?;
        // If there is none, somebody may mend it.
        trust.config().ok()?;
        *self.0.lock() = Some((Instant::now(), Arc::clone(&trust)));
        Some(trust)
    }
}

/// What the system trusts now, which is mostly what it trusted before.
fn of_system(now: &SystemRoots, before: Option<&Arc<Trust>>) -> Arc<Trust> {
    let mut roots = RootCertStore::empty();
    // Certificates that the system keeps but rustls cannot parse are common and none of our business.
    roots.add_parsable_certificates(now.take());
    match before {
        Some(before) if before.config.is_ok() && before.roots.roots == roots.roots => Arc::clone(before),
        _ => Arc::new(Trust::new(None, Ok(roots))),
    }
}

fn parse(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| format!("caFile: {e}"))?;
        roots.add(certificate).map_err(|e| format!("caFile: {e}"))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> Arc<[u8]> {
        crate::downstream::self_signed::self_signed(&["localhost".into()]).unwrap().ca.into_bytes().into()
    }

    #[test]
    fn servers_that_trust_the_same_share_one_config_over_loads_too() {
        let (one, other) = (pem(), pem());
        let mut first = Trusts::default();
        let trust = first.of(Some(&one));
        let config = trust.config().unwrap();
        for _ in 0..200 {
            // Each server has read the file for itself.
            let same: Arc<[u8]> = one.to_vec().into();
            assert!(Arc::ptr_eq(config, first.of(Some(&same)).config().unwrap()));
        }
        assert!(!Arc::ptr_eq(config, first.of(Some(&other)).config().unwrap()));

        let mut next = Trusts::default();
        next.keep(&trust);
        assert!(Arc::ptr_eq(config, next.of(Some(&one)).config().unwrap()), "built again");
    }

    #[test]
    fn what_the_system_trusts_is_one_trust_as_long_as_it_is_the_same() {
        let mut first = Trusts::default();
        let trust = first.of(None);
        assert!(Arc::ptr_eq(&trust, &first.of(None)), "read twice in one load");
        let mut next = Trusts::default();
        next.keep(&trust);
        // A system without any is asked again: somebody may have mended it.
        assert_eq!(Arc::ptr_eq(&trust, &next.of(None)), trust.config().is_ok());
    }

    #[test]
    fn what_the_system_trusts_is_not_read_again_where_it_was_read_for_the_same_load() {
        let certificate = CertificateDer::pem_slice_iter(&pem()).next().unwrap().unwrap();
        let mut trusts = Trusts::new(vec![certificate].into());
        assert_eq!(trusts.of(None).roots.len(), 1, "read again");
    }

    #[test]
    fn where_nothing_is_trusted_it_is_said_why() {
        for (roots, told) in
            [(Ok(RootCertStore::empty()), "give the server a caFile"), (Err("broken".to_owned()), "broken")]
        {
            let trust = Trust::new(None, roots);
            assert!(trust.config().unwrap_err().contains(told));
        }
    }
}
