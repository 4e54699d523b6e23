//! How a provider is asked.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use url::Url;

use super::error::IdpError;
use crate::{
    config::IdpConfig,
    identity::foreign::source::{Ask, IssuerAnswer, NotFetched, Source},
};

/// How long one answer may take.
const MOST_TIME: Duration = Duration::from_secs(5);

/// A provider, and what asks it.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) config: Arc<IdpConfig>,
    pub(super) source: Arc<dyn Source>,
}

impl Asking {
    /// What it answers, in so many bytes at most.
    pub(super) async fn ask(&self, url: &Url, ask: Ask, most: usize) -> Result<IssuerAnswer, IdpError> {
        let asking = timeout(MOST_TIME, self.source.ask(url, ask, most));
        Ok(asking.await.unwrap_or(Err(NotFetched::Timeout))?)
    }
}
