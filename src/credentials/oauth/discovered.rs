//! What is known of the authorization server of a server.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{outgoing::Reach, written};
use crate::config::ClientAuthWay;

/// The authorization server of a server: where it is asked for what, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovered {
    /// Who it is: what `iss` of its answers is, byte for byte.
    #[serde(with = "written::text")]
    pub issuer: Arc<str>,
    /// Nobody has said who it is: the config has places alone.
    #[serde(default)]
    pub is_assumed: bool,
    /// What its tokens are for, as it is sent (RFC 8707). `None`: it is not said.
    #[serde(with = "written::maybe_text")]
    pub resource: Option<Arc<str>>,
    /// Where browsers are sent. `None` only where nobody is sent: for `client_credentials`.
    #[serde(with = "written::maybe_url")]
    pub authorization: Option<Url>,
    /// Where tokens come from.
    #[serde(with = "written::url")]
    pub token: Url,
    /// Where the gateway may register.
    #[serde(with = "written::maybe_url")]
    pub registration: Option<Url>,
    /// Where tokens are revoked.
    #[serde(with = "written::maybe_url")]
    pub revocation: Option<Url>,
    /// Whether each answer that a browser brings says of which issuer it is (RFC 9207 §3).
    pub says_iss: bool,
    /// Whether it takes a client by the document that its id names.
    pub takes_client_document: bool,
    /// How clients prove themselves, if it says. What is not known here is left out.
    #[serde(with = "written::ways")]
    pub ways: Option<Vec<ClientAuthWay>>,
    /// The scopes that the server's challenge asked for.
    pub scopes_of_challenge: Option<Vec<String>>,
    /// The scopes that the server lists.
    pub scopes_of_resource: Option<Vec<String>>,
    /// Whether the authorization server lists the scope `offline_access`.
    pub has_offline_access: bool,
    /// Of these places, those that may be anywhere. The others have to be of the public Internet.
    #[serde(with = "written::urls")]
    pub(super) anywhere: Vec<Url>,
}

impl Discovered {
    /// Where this place may be.
    pub(super) fn reach(&self, url: &Url) -> Reach {
        match self.anywhere.contains(url) {
            true => Reach::Anywhere,
            false => Reach::Public,
        }
    }

    /// Whether an answer that a browser brought is of this issuer, by its `iss` (RFC 9207 §2.4). Else whoever had the browser sent to two
    /// issuers has it bring the code of one to the other. It is to be asked before anything else of the answer is read.
    pub fn is_answered_by(&self, iss: Option<&str>) -> bool {
        match iss {
            Some(iss) if self.is_assumed => {
                let origin = |url: &Url| url.origin().ascii_serialization();
                let said = Url::parse(iss).ok().map(|iss| origin(&iss));
                said.is_some() && said == self.authorization.as_ref().map(origin)
            }
            Some(iss) => iss == &*self.issuer,
            None => !self.says_iss,
        }
    }
}
