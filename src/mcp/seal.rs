//! Session ids that only the caller who got them can use, without a table of sessions.
//!
//! MCP asks gateways to bind a session to its caller, because who holds a session id is not thereby authenticated
//! (MCP 2025-11-25, security best practices). Here the id that a client sees is the upstream's own id behind a MAC
//! over server name, principal and that id. The upstream sees only its own. As nothing is stored, a session survives
//! a config reload, and with a configured key also a restart and a second node.
//!
//! An id that does not open is to be answered with 404, on which an MCP client starts a new session.

use std::{error::Error, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// Characters of base64url that 128 bits of MAC take.
const MAC_CHARS: usize = 22;

/// Query parameter that the gateway adds to a message URL, always the last one.
const PARAMETER: &str = "sluicegate=";

/// To whom a session belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOwner<'a> {
    /// Somebody without a credential, at a public server.
    Nobody,
    /// The token of this name.
    Token(&'a str),
    /// The user of this name.
    User(&'a str),
    /// The tenant of this name.
    Tenant(&'a str),
    /// Somebody of this issuer, and of this name there.
    Foreign(&'a str),
    /// Somebody of this identity provider, and of this name there.
    Idp(&'a str),
    /// The client of this name, for itself.
    Client(&'a str),
}

impl<'a> SessionOwner<'a> {
    /// What the MAC is over. A kind never changes: ids that clients have would be worthless.
    fn kind_and_name(self) -> (u8, &'a str) {
        match self {
            Self::Nobody => (0, ""),
            Self::Token(name) => (1, name),
            Self::User(name) => (2, name),
            Self::Tenant(name) => (3, name),
            Self::Foreign(name) => (4, name),
            Self::Idp(name) => (5, name),
            Self::Client(name) => (6, name),
        }
    }
}

/// Key that binds sessions to callers: HMAC-SHA256 (RFC 2104), truncated to 128 bits.
///
/// Holds the keyed state, so that a request costs only the hashing of its own id.
#[derive(Clone)]
pub struct SessionKey(Hmac<Sha256>);

/// An upstream's session id is empty or not made of visible ASCII, against MCP 2025-03-26, section "Session Management".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidSessionId;

impl fmt::Display for InvalidSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream's session id is empty or not visible ASCII")
    }
}

impl Error for InvalidSessionId {}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl SessionKey {
    /// A key of this process alone: its sessions end with it. Fails if the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self::new(key))
    }

    /// The key that `proxy.sessionKey` stands for, the same on every node that has the same secret.
    pub fn from_secret(secret: &Secret) -> Self {
        // The label keeps this key apart from anything else that may ever be derived from the same secret.
        Self::new(
            Sha256::new()
                .chain_update(b"sluicegate session key v1\0")
                .chain_update(secret.expose())
                .finalize()
                .into(),
        )
    }

    /// The key of what is begun with this credential of a caller's: no session goes on with another one.
    pub fn of_credential(&self, id: &[u8; 16]) -> Self {
        let mut mac = self.0.clone();
        mac.update(b"sluicegate sessions of a credential\0");
        mac.update(id);
        Self::new(mac.finalize().into_bytes().into())
    }

    fn new(key: [u8; 32]) -> Self {
        // HMAC pads a short key with zeros to the block size; done here, it takes no fallible constructor.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(&key);
        Self(Hmac::new(&block.into()))
    }

    /// What the client gets as `Mcp-Session-Id` in place of `upstream_id`: 22 more characters in front.
    pub fn seal(
        &self,
        server: &str,
        owner: SessionOwner<'_>,
        upstream_id: &[u8],
    ) -> Result<HeaderValue, InvalidSessionId> {
        if upstream_id.is_empty() || !upstream_id.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidSessionId);
        }
        let mac = self.mac("session", server, owner, &[upstream_id]);
        let mut sealed =
            HeaderValue::from_bytes(&[&mac, upstream_id].concat()).map_err(|_| InvalidSessionId)?;
        sealed.set_sensitive(true);
        Ok(sealed)
    }

    /// The upstream's id in a presented `Mcp-Session-Id`; `None` if it was not sealed for this caller and server.
    pub fn open<'a>(&self, server: &str, owner: SessionOwner<'_>, presented: &'a [u8]) -> Option<&'a [u8]> {
        let (mac, upstream_id) = presented.split_at_checked(MAC_CHARS)?;
        let expected = self.mac("session", server, owner, &[upstream_id]);
        bool::from(expected.ct_eq(mac)).then_some(upstream_id)
    }

    /// Eight characters by which a credential is distinguished from others, and nothing is revealed of it: of what a
    /// short token hashes to, it would be guessed.
    pub fn name_of_credential(&self, digest: &[u8; 32]) -> String {
        let mac = self.mac("credential", "", SessionOwner::Nobody, &[digest]);
        String::from_utf8_lossy(&mac[..8]).into_owned()
    }

    /// What the client gets as message URL of an HTTP+SSE session in place of the upstream's `path` and `raw_query`:
    /// `/{server}/message?{raw_query}&sluicegate={seal}`, the query byte for byte.
    pub fn seal_message(
        &self,
        server: &str,
        owner: SessionOwner<'_>,
        path: &str,
        raw_query: Option<&str>,
    ) -> String {
        let mac = self.message_mac(server, owner, path, raw_query);
        let mac = String::from_utf8_lossy(&mac);
        let path = URL_SAFE_NO_PAD.encode(path);
        match raw_query {
            Some(query) => format!("/{server}/message?{query}&{PARAMETER}{mac}{path}"),
            None => format!("/{server}/message?{PARAMETER}{mac}{path}"),
        }
    }

    /// The upstream's path and query behind the query of a message URL; `None` if it was not sealed for this caller
    /// and server. Parameters that are not the upstream's (`token`) have to be removed before.
    pub fn open_message(&self, server: &str, owner: SessionOwner<'_>, raw_query: &str) -> Option<String> {
        let (query, sealed) = match raw_query.rsplit_once("&sluicegate=") {
            Some((query, sealed)) => (Some(query), sealed),
            None => (None, raw_query.strip_prefix(PARAMETER)?),
        };
        let (mac, path) = sealed.split_at_checked(MAC_CHARS)?;
        let path = String::from_utf8(URL_SAFE_NO_PAD.decode(path).ok()?).ok()?;
        let expected = self.message_mac(server, owner, &path, query);
        bool::from(expected.ct_eq(mac.as_bytes())).then(|| match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        })
    }

    fn message_mac(
        &self,
        server: &str,
        owner: SessionOwner<'_>,
        path: &str,
        query: Option<&str>,
    ) -> [u8; MAC_CHARS] {
        let query = query.map(canonical);
        match &query {
            Some(query) => self.mac("message", server, owner, &[path.as_bytes(), query]),
            None => self.mac("message", server, owner, &[path.as_bytes()]),
        }
    }

    /// What a request that the gateway sends back to its client brings when it comes again: good for this request, of this caller
    /// to this server, until `ends`, in seconds of Unix time.
    pub fn seal_request(
        &self,
        server: &str,
        owner: SessionOwner<'_>,
        digest: &[u8; 32],
        ends: u64,
    ) -> String {
        let mac = self.mac("request", server, owner, &[digest, &ends.to_be_bytes()]);
        format!("{ends}.{}", String::from_utf8_lossy(&mac))
    }

    /// Whether this was sealed for this request, of this caller to this server, and its time is not over.
    pub fn opens_request(
        &self,
        server: &str,
        owner: SessionOwner<'_>,
        digest: &[u8; 32],
        now: u64,
        sealed: &str,
    ) -> bool {
        let Some((ends, mac)) = sealed.split_once('.') else { return false };
        let Ok(ends) = ends.parse::<u64>() else { return false };
        let expected = self.mac("request", server, owner, &[digest, &ends.to_be_bytes()]);
        bool::from(expected.ct_eq(mac.as_bytes())) && now < ends
    }

    /// Every field carries its length, so that no two lists of fields hash alike.
    fn mac(&self, kind: &str, server: &str, owner: SessionOwner<'_>, what: &[&[u8]]) -> [u8; MAC_CHARS] {
        let mut mac = self.0.clone();
        let mut field = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        field(kind.as_bytes());
        field(server.as_bytes());
        // A caller without a name is not the caller with the empty name, nor a user the token of that name.
        let (kind, name) = owner.kind_and_name();
        field(&[kind]);
        field(name.as_bytes());
        what.iter().for_each(|bytes| field(bytes));
        let full = mac.finalize().into_bytes();
        let mut text = [0; MAC_CHARS];
        // 16 bytes always fill 22 characters, so the error for a short buffer cannot occur.
        let _ = URL_SAFE_NO_PAD.encode_slice(&full[..16], &mut text);
        text
    }
}

/// The query with those bytes escaped that some clients escape and some do not (`'` and everything that
/// RFC 3986, section 3.4, leaves out), so that the seal holds whichever way the query comes back.
fn canonical(query: &str) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(query.len());
    for byte in query.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&()*+,;=:@/?%".contains(&byte) {
            canonical.push(byte);
        } else {
            canonical.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    canonical
}

/// The query of a message URL that [`SessionKey`] sealed, without what a client put behind it.
pub fn up_to_seal(query: &str) -> &str {
    &query[..end_of_seal(query)]
}

/// What a client put behind the sealed query. A `token` parameter in front of the seal is the server's own.
pub fn behind_seal(query: &str) -> &str {
    query[end_of_seal(query)..].trim_start_matches('&')
}

fn end_of_seal(query: &str) -> usize {
    let seal = match query.rfind("&sluicegate=") {
        Some(at) => at + 1,
        None if query.starts_with(PARAMETER) => 0,
        None => return 0,
    };
    query[seal..].find('&').map_or(query.len(), |at| seal + at)
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
