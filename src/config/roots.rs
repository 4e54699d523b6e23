//! The certificates that the system trusts. To read them takes milliseconds, so a load reads them once, if it needs them: what
//! was read to find out whether there are any is handed on to the client that uses them.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

type Certificates = Vec<CertificateDer<'static>>;

/// What was read and not taken yet.
#[derive(Clone, Default)]
pub struct SystemRoots(Arc<Mutex<Option<Certificates>>>);

impl SystemRoots {
    /// Whether the system trusts any. Reads them, unless that was done.
    pub(super) fn is_empty(&self) -> bool {
        self.read(|certificates| certificates.get_or_insert_with(of_system).is_empty())
    }

    /// The certificates, which are read if they were not before, or were taken: who asks again wants those of then.
    pub fn take(&self) -> Certificates {
        self.read(Option::take).unwrap_or_else(of_system)
    }

    /// Drops them, once nothing will take them any more.
    pub fn forget(&self) {
        drop(self.read(Option::take));
    }

    fn read<T>(&self, read: impl FnOnce(&mut Option<Certificates>) -> T) -> T {
        read(&mut self.0.lock())
    }
}

fn of_system() -> Certificates {
    rustls_native_certs::load_native_certs().certs
}

impl From<Certificates> for SystemRoots {
    fn from(certificates: Certificates) -> Self {
        Self(Arc::new(Mutex::new(Some(certificates))))
    }
}

impl fmt::Debug for SystemRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemRoots(…)")
    }
}
