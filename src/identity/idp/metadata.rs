//! What an identity provider says of itself (OpenID Connect Discovery §3): where it is asked for what.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use url::Url;

use super::error::IdpError;
use crate::{
    config::{IdpConfig, is_loopback},
    identity::foreign::source::{NotFetched, Source},
};

/// Bytes of a document at most.
const LONGEST: usize = 64 << 10;
/// How long a fetch may take in all, and somebody waits for it.
const MOST_TIME: Duration = Duration::from_secs(5);
/// How long it is fresh at least and at most, whatever its host says.
const FRESH: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(24 * 60 * 60));
/// How long it is fresh if its host does not say.
const FRESH_UNSAID: Duration = Duration::from_secs(60 * 60);
/// How long no other fetch begins after one that failed: while there is an older one, and while there is none.
const FAILED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));
/// Who may wait for a first fetch at a time.
const MOST_WAITING: usize = 64;

/// Where a provider is asked, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// What `iss` of its answers is, byte for byte.
    pub(super) issuer: String,
    pub(super) authorization: Option<Url>,
    pub(super) token: Option<Url>,
    pub(super) user_info: Option<Url>,
    pub(super) keys: Option<Url>,
    /// Whether each authorization response has an `iss` (RFC 9207 §3).
    pub(super) says_iss: bool,
    /// How clients prove themselves at the token endpoint, if it says.
    pub(super) proofs: Option<Vec<String>>,
    /// Whether it lists the scope `offline_access` (OpenID Connect Core §11).
    pub(super) has_offline_access: bool,
}

/// As it is written.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    jwks_uri: Option<String>,
    authorization_response_iss_parameter_supported: Option<bool>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
}

impl Metadata {
    /// What this document says, if it is of the provider of the config.
    fn parse(document: &[u8], config: &IdpConfig) -> Result<Self, NotFetched> {
        let document: Document = serde_json::from_slice(document).map_err(|_| NotFetched::NotADocument)?;
        // OpenID Connect Discovery §4.3: else one host could speak for another issuer. Where the config says where the document is, it
        // may have left out the slash at the end of the issuer.
        let bare = |issuer: &str| issuer.strip_suffix('/').unwrap_or(issuer).to_owned();
        let is_same = document.issuer == *config.issuer
            || config.discovery_url.is_some() && bare(&document.issuer) == bare(&config.issuer);
        if !is_same {
            return Err(NotFetched::OtherIssuer);
        }
        let may_be_local = is_local(config);
        let url = |text: Option<String>| {
            let url = Url::parse(&text?).ok()?;
            may_be_asked(&url, may_be_local).then_some(url)
        };
        Ok(Self {
            issuer: document.issuer,
            authorization: url(document.authorization_endpoint),
            token: url(document.token_endpoint),
            user_info: url(document.userinfo_endpoint),
            keys: url(document.jwks_uri),
            says_iss: document.authorization_response_iss_parameter_supported.unwrap_or_default(),
            proofs: document.token_endpoint_auth_methods_supported,
            has_offline_access: document
                .scopes_supported
                .is_some_and(|all| all.iter().any(|scope| scope == "offline_access")),
        })
    }
}

/// Whether the config has the provider on this machine.
fn is_local(config: &IdpConfig) -> bool {
    let issuer = Url::parse(&config.issuer).ok();
    config.discovery_url.as_ref().or(issuer.as_ref()).is_some_and(is_loopback)
}

/// Codes and tokens go there, and keys come from there: over HTTPS, or on this machine.
fn may_be_asked(url: &Url, may_be_local: bool) -> bool {
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => may_be_local && is_loopback(url),
        _ => false,
    };
    is_safe && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
}

/// Where the document is.
fn document_url(config: &IdpConfig) -> Result<Url, NotFetched> {
    if let Some(url) = &config.discovery_url {
        return Ok(url.clone());
    }
    // OpenID Connect Discovery §4.1
    let issuer = config.issuer.strip_suffix('/').unwrap_or(&config.issuer);
    Url::parse(&format!("{issuer}/.well-known/openid-configuration")).map_err(|_| NotFetched::NotADocument)
}

async fn fetch(config: &IdpConfig, source: &dyn Source) -> Result<Known, NotFetched> {
    let fetching = async {
        let document = source.fetch(&document_url(config)?, LONGEST).await?;
        let metadata = Metadata::parse(&document.body, config)?;
        let fresh_for = document.fresh_for.unwrap_or(FRESH_UNSAID).clamp(FRESH.0, FRESH.1);
        Ok(Known { metadata: Arc::new(metadata), stale_from: Instant::now() + fresh_for })
    };
    timeout(MOST_TIME, fetching).await.unwrap_or(Err(NotFetched::Timeout))
}

struct Known {
    metadata: Arc<Metadata>,
    stale_from: Instant,
}

/// The metadata of a provider, as all workers share it. It is fetched when a login needs it, by one of those who wait; the last good one
/// stays in use, whatever happens to its host.
#[derive(Default)]
pub(super) struct KeptMetadata {
    good: ArcSwapOption<Known>,
    /// When and why the last fetch failed, if it did. Who fetches holds the lock.
    fetching: Mutex<Option<(Instant, NotFetched)>>,
    waiting: AtomicUsize,
}

impl KeptMetadata {
    /// The metadata, as fresh as it may be expected.
    pub(super) async fn get(
        &self,
        config: &IdpConfig,
        source: &dyn Source,
    ) -> Result<Arc<Metadata>, IdpError> {
        let good = self.good.load_full();
        let mut last = match &good {
            Some(known) if Instant::now() < known.stale_from => return Ok(Arc::clone(&known.metadata)),
            // One of those who come asks for a newer one.
            Some(known) => match self.fetching.try_lock() {
                Ok(last) => last,
                Err(_) => return Ok(Arc::clone(&known.metadata)),
            },
            None => {
                let _place = Place::take(&self.waiting).ok_or(IdpError::BUSY)?;
                let locked = timeout(MOST_TIME, self.fetching.lock()).await;
                locked.map_err(|_| IdpError::from(NotFetched::Timeout))?
            }
        };
        let now = Instant::now();
        // Somebody may have fetched it meanwhile.
        let good = self.good.load_full();
        let pause = if good.is_some() { FAILED.0 } else { FAILED.1 };
        let failed = match (&good, *last) {
            (Some(known), _) if now < known.stale_from => return Ok(Arc::clone(&known.metadata)),
            (_, Some((at, why))) if now < at + pause => why,
            _ => match fetch(config, source).await {
                Ok(known) => {
                    let metadata = Arc::clone(&known.metadata);
                    self.good.store(Some(Arc::new(known)));
                    *last = None;
                    return Ok(metadata);
                }
                Err(why) => {
                    *last = Some((Instant::now(), why));
                    why
                }
            },
        };
        good.map(|known| Arc::clone(&known.metadata)).ok_or_else(|| failed.into())
    }
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
