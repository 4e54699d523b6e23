//! Finds clients: those of the config, those of documents, those that registered themselves.

use std::sync::Arc;

use url::Url;

use super::{
    client::{Client, ClientKind},
    client_document::{CachedDocuments, NotAClient, url},
    redirect::{Receiver, is_at, matches},
    registration::{PREFIX, Registrar},
};
use crate::{
    config::{OauthConfig, Registration},
    identity::login::attempts::Attempts,
    ledger::AddressBlock,
};

/// Why there is no client of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// There is none.
    Unknown,
    /// The config lets none of its kind come.
    NotAllowed,
    /// Its document is not good, or not there.
    Document(NotAClient),
}

/// All clients that there may be. It outlives reloads.
#[derive(Default)]
pub struct Clients {
    /// Who has registered clients lately.
    pub registrations: Attempts,
    documents: CachedDocuments,
}

impl Clients {
    /// Clients whose documents come from there.
    pub fn of(documents: CachedDocuments) -> Self {
        Self { documents, ..Self::default() }
    }

    /// Documents of clients.
    pub fn documents(&self) -> &CachedDocuments {
        &self.documents
    }

    /// The client of this id, for somebody at this address. Its document may have to be fetched.
    pub async fn find(
        &self,
        id: &str,
        config: &OauthConfig,
        registrar: &Registrar,
        address: AddressBlock,
    ) -> Result<Arc<Client>, NotFound> {
        if let Some(client) = config.client(id) {
            return Ok(Arc::new(Client::of_config(client)));
        }
        if config.registration == Registration::Off {
            return Err(NotFound::NotAllowed);
        }
        let client = if id.starts_with(PREFIX) {
            Arc::new(registrar.client(id).ok_or(NotFound::Unknown)?)
        } else {
            let url = url(id).ok_or(NotFound::Unknown)?;
            self.documents.client(&url, address).await.map_err(NotFound::Document)?
        };
        // Nothing of it may come: it has no place to be sent back to.
        if client.redirect_uris.iter().any(|uri| client.may_be_sent_to(uri, config).is_some()) {
            Ok(client)
        } else {
            Err(NotFound::NotAllowed)
        }
    }
}

impl Client {
    /// Who is at the other end of `asked`, if this client named it and the config in force lets it be sent there.
    pub fn receiver(&self, asked: &str, config: &OauthConfig) -> Option<Receiver> {
        self.redirect_uris.iter().find(|named| matches(named, asked))?;
        self.may_be_sent_to(asked, config)
    }

    /// Who is at the other end of `uri`, if the config in force lets this client be sent there, whatever it named before.
    fn may_be_sent_to(&self, uri: &str, config: &OauthConfig) -> Option<Receiver> {
        let receiver = Receiver::of(uri, &config.redirect_schemes)?;
        let is_allowed = self.kind == ClientKind::Config
            || receiver.is_allowed(&config.registration)
            || self.is_of_listed_host(config);
        is_allowed.then_some(receiver)
    }

    fn is_of_listed_host(&self, config: &OauthConfig) -> bool {
        let Registration::Hosts(hosts) = &config.registration else { return false };
        self.kind == ClientKind::Document && Url::parse(&self.id).is_ok_and(|url| is_at(&url, hosts))
    }

    /// Whether somebody vouches for what it says of itself: the config, or whoever has the host of its id.
    pub fn is_verified(&self) -> bool {
        self.kind != ClientKind::Registered
    }
}
