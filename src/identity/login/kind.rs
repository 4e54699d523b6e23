//! What a grant is for: a session of a user, the pages, or a client that was allowed to act for somebody.

use std::sync::Arc;

/// What a grant is for, and what it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantKind {
    /// A login at `/auth`, whose session tokens are the user's.
    Session,
    /// A login at the pages: a cookie, which no other place takes.
    Page,
    /// What somebody allowed a client of OAuth.
    Client(Arc<ClientGrant>),
}

impl GrantKind {
    /// Which kind it is.
    pub fn tag(&self) -> KindTag {
        match self {
            Self::Session => KindTag::Session,
            Self::Page => KindTag::Page,
            Self::Client(_) => KindTag::Client,
        }
    }

    /// What a client was allowed, if it is one's.
    pub fn client(&self) -> Option<&Arc<ClientGrant>> {
        match self {
            Self::Client(client) => Some(client),
            Self::Session | Self::Page => None,
        }
    }
}

/// Which kind a grant is of. It is in the MAC of what proves the grant, so that nothing of one kind passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KindTag {
    /// A login at `/auth`.
    Session = 1,
    /// A login at the pages.
    Page = 2,
    /// A client of OAuth.
    Client = 3,
}

/// What somebody allowed a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientGrant {
    /// Which client: a name of the config, the URL of a document, or what a registration gave.
    pub client_id: Arc<str>,
    /// How the client calls itself.
    pub client_name: Arc<str>,
    /// Where the client was sent back to.
    pub redirect_host: Arc<str>,
    /// The place that it is for.
    pub resource: Arc<str>,
    /// What was allowed there: words with a blank between each two.
    pub scope: Arc<str>,
}

impl ClientGrant {
    /// Whether a refresh token comes with it, if one comes with these scopes, or, if there are none, with any.
    pub fn is_refreshed(&self, scopes: &[String]) -> bool {
        scopes.is_empty() || self.scope.split(' ').any(|word| scopes.iter().any(|other| other == word))
    }

    /// Whether a token and a row of the store have room for it. Ids that registrations give are the longest.
    pub(super) fn fits(&self) -> bool {
        self.client_id.len() <= 2_048
            && self.client_name.len() <= 512
            && self.redirect_host.len() <= 255
            && self.resource.len() <= 1_024
            && self.scope.len() <= 1_024
    }
}
