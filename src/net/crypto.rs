//! The cryptography that both sides share.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one cryptography provider of this program, for both sides.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
