//! Finds clients: those of the config, those of documents, those that registered themselves.

use std::sync::Arc;

use url::Url;

use super::{
    client::{Client, ClientKind},
    client_document::{CachedDocuments, NotAClient, url},
    registration::Registrar,
};
use crate::{
    config::{OauthConfig, RedirectTarget, Registration, is_at, is_same_redirect},
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
    /// Who has lately asked for codes without being logged in.
    pub requests: Attempts,
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

    /// The client of this id, whether the config lets it come or not: it may always give back what it has. Nothing is fetched for it,
    /// since a document names no secret.
    pub fn known(&self, id: &str, config: &OauthConfig, registrar: &Registrar) -> Option<Arc<Client>> {
        if let Some(client) = config.client(id) {
            return Some(Arc::new(Client::of_config(client)));
        }
        if id.starts_with(OauthConfig::REGISTERED_CLIENT) {
            return registrar.client(id).map(Arc::new);
        }
        url(id).map(|_| Arc::new(Client::of_unread_document(id)))
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
        let client = if id.starts_with(OauthConfig::REGISTERED_CLIENT) {
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

/// Whether the config in force lets a client of this id be sent there.
fn is_let_in(id: &str, target: &RedirectTarget, config: &OauthConfig) -> bool {
    config.client(id).is_some()
        || target.is_allowed(&config.registration, &config.own_hosts)
        || is_of_listed_host(id, config) && !target.is_at_host_of(&config.own_hosts)
}

/// Whether it is the URL of a document at a host that the config lists.
fn is_of_listed_host(id: &str, config: &OauthConfig) -> bool {
    match &config.registration {
        Registration::Hosts(hosts) => url(id).is_some() && Url::parse(id).is_ok_and(|url| is_at(&url, hosts)),
        Registration::Open | Registration::Off => false,
    }
}

/// Whether no document at `id` could let its client in: the config lists hosts, and neither `id` nor `redirect_uri`, where the client
/// asks to be answered, is at one of them, or on the user's own machine. Nothing has to be fetched to know that.
pub fn is_refused_unread(id: &str, redirect_uri: Option<&str>, config: &OauthConfig) -> bool {
    let may_be_sent_to = |uri: &str| {
        RedirectTarget::of(uri, &config.redirect_schemes).is_ok_and(|target| is_let_in(id, &target, config))
    };
    matches!(config.registration, Registration::Hosts(_))
        && url(id).is_some()
        && !is_of_listed_host(id, config)
        && redirect_uri.is_some_and(|uri| !may_be_sent_to(uri))
}

/// Whether the config in force lets a client have what it was allowed before. `target` is what its grant calls the place where it
/// was sent back to: `None` of a grant that another gateway has begun a moment ago, by a config that let it.
pub fn may_keep(id: &str, target: Option<&str>, config: &OauthConfig) -> bool {
    // Each stream asks this again and again: what costs least comes first. One that is of no kind may have been of the config.
    if let Some(client) = config.client(id) {
        let is_there = |uri: &Arc<str>, name: &str| {
            RedirectTarget::of(uri, &config.redirect_schemes).is_ok_and(|target| target.name() == name)
        };
        return target.is_none_or(|name| client.redirect_uris.iter().any(|uri| is_there(uri, name)));
    }
    is_of_others(id)
        && match target {
            Some(name) => RedirectTarget::named(name, &config.redirect_schemes)
                .is_some_and(|target| is_let_in(id, &target, config)),
            None => config.registration != Registration::Off,
        }
}

/// Whether the config has taken from a client of its own what that was allowed: it has it no more, or not to be sent to `target`. What
/// it lets other clients do is a rule, which may change and change back.
pub fn has_taken_away(id: &str, target: &str, config: &OauthConfig) -> bool {
    !is_of_others(id) && !may_keep(id, Some(target), config)
}

/// Whether it is the id of a client that has a document, or registered itself.
fn is_of_others(id: &str) -> bool {
    id.starts_with(OauthConfig::REGISTERED_CLIENT) || url(id).is_some()
}

impl Client {
    /// Who is at the other end of `asked`, if this client named it and the config in force lets it be sent there.
    pub fn redirect_target(&self, asked: &str, config: &OauthConfig) -> Option<RedirectTarget> {
        self.redirect_uris.iter().find(|named| is_same_redirect(named, asked))?;
        self.may_be_sent_to(asked, config)
    }

    /// Who is at the other end of `uri`, if the config in force lets this client be sent there, whatever it named before.
    fn may_be_sent_to(&self, uri: &str, config: &OauthConfig) -> Option<RedirectTarget> {
        let target = RedirectTarget::of(uri, &config.redirect_schemes).ok()?;
        is_let_in(&self.id, &target, config).then_some(target)
    }

    /// Whether the config vouches for who is there: it has the client, or lists the host. Nor can anybody be led astray to a program on
    /// their own machine.
    pub fn is_vouched_for_at(&self, target: &RedirectTarget, config: &OauthConfig) -> bool {
        let is_listed = match (target, &config.registration) {
            (RedirectTarget::Loopback, _) => true,
            (RedirectTarget::Site(_), registration @ Registration::Hosts(_)) => {
                target.is_allowed(registration, &config.own_hosts)
            }
            _ => false,
        };
        is_listed || self.kind == ClientKind::Config || is_of_listed_host(&self.id, config)
    }

    /// Whether somebody vouches for what it says of itself: the config, or whoever has the host of its id.
    pub fn is_verified(&self) -> bool {
        self.kind != ClientKind::Registered
    }
}
