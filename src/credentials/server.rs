//! The credentials of one server, as one config has it.

use std::sync::Arc;

use http::{HeaderName, header};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    ready::{Asker, NotReady, ReadyCredential, sensitive},
    vault::Vault,
};
use crate::{
    config::{Passthrough, Server, Target, TokenPlace, UpstreamAuth},
    identity::{Principal, credential_key::CredentialKey},
};

/// The credentials of one server. A reload that leaves `upstreamAuth` and the URL as they are takes it over.
pub struct ServerCredentials {
    server: Arc<str>,
    /// Where the server is, if it is reached over HTTP.
    url: Option<Url>,
    config: Arc<UpstreamAuth>,
    /// Fields of a client's request that never pass, since others go in their place.
    replaced: Box<[HeaderName]>,
    vault: Arc<Vault>,
}

impl ServerCredentials {
    /// Those of `server`, which has `config` for that; `kept` are those of the server of this name before.
    pub fn build(
        server: &Server,
        config: &Arc<UpstreamAuth>,
        kept: Option<&Arc<Self>>,
        vault: &Arc<Vault>,
    ) -> Arc<Self> {
        let url = match &server.target {
            Target::Http(target) => Some(target.url.clone()),
            Target::Stdio(_) | Target::Inline(_) => None,
        };
        let is_same =
            |kept: &&Arc<Self>| kept.config == *config && kept.url == url && Arc::ptr_eq(&kept.vault, vault);
        if let Some(kept) = kept.filter(is_same) {
            return Arc::clone(kept);
        }
        let fields = config.places().iter().filter_map(|place| match place {
            TokenPlace::Header(field) => Some(field.header.clone()),
            TokenPlace::Env { .. } => None,
        });
        let replaced = match &**config {
            UpstreamAuth::Passthrough(passthrough) => {
                [header::AUTHORIZATION, passthrough.from.clone()].into()
            }
            _ => fields.collect(),
        };
        Arc::new(Self {
            server: Arc::clone(&server.name),
            url,
            config: Arc::clone(config),
            replaced,
            vault: Arc::clone(vault),
        })
    }

    /// As configured.
    pub fn config(&self) -> &Arc<UpstreamAuth> {
        &self.config
    }

    /// Name of the server.
    pub fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Fields of a client's request that never pass to the server, whatever goes in their place.
    pub fn replaced(&self) -> &[HeaderName] {
        &self.replaced
    }

    /// Which credential the server is called with for a principal, as far as that is known here: whoever keeps something for it asks
    /// [`Self::obtain`] first, and takes the key from what that gives. Without a connection it is a key of the principal's own.
    /// [`CredentialKey::STATIC`] is that of `client_credentials`, where there is no principal's.
    pub fn key(&self, principal: &Principal) -> CredentialKey {
        match &*self.config {
            UpstreamAuth::ClientCredentials(_) => CredentialKey::STATIC,
            _ => key_without_connection(principal),
        }
    }

    /// The credential of a principal, if it can be sent as it is: one look-up.
    pub fn ready(&self, _principal: &Principal) -> Option<Arc<ReadyCredential>> {
        None
    }

    /// The credential for `asker`, who waits for it if it has to be read, refreshed or exchanged. To be called on a worker.
    pub async fn obtain(self: &Arc<Self>, asker: &Asker<'_>) -> Result<Arc<ReadyCredential>, NotReady> {
        match &*self.config {
            UpstreamAuth::Passthrough(passthrough) => Ok(self.passed_through(passthrough, asker)),
            _ => Err(NotReady::Unavailable("credentials of this kind cannot be had yet")),
        }
    }

    /// The field that the caller brought, as it is. Without one nothing goes out, and the server says what it wants.
    fn passed_through(&self, passthrough: &Passthrough, asker: &Asker<'_>) -> Arc<ReadyCredential> {
        let mut values = asker.incoming.into_iter().flat_map(|fields| fields.get_all(&passthrough.from));
        // Of several, nobody knows which the server would take.
        let value = values.next().filter(|_| values.next().is_none());
        let value = value.and_then(|value| sensitive(value.as_bytes()));
        let key = match &value {
            Some(value) => key_of(&[asker.principal.to_string().as_bytes(), value.as_bytes()]),
            None => key_without_connection(asker.principal),
        };
        Arc::new(ReadyCredential {
            fields: value.map(|value| (header::AUTHORIZATION, value)).into_iter().collect(),
            env: Vec::new(),
            key,
            version: 0,
        })
    }
}

/// The key of a principal that has no connection. It is not that of any connection, which are random.
fn key_without_connection(principal: &Principal) -> CredentialKey {
    key_of(&[principal.to_string().as_bytes()])
}

fn key_of(parts: &[&[u8]]) -> CredentialKey {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    CredentialKey::of_caller(id)
}
