//! Keys of the gateway's own tokens: one per purpose, all from one secret.
//!
//! Each purpose has a key of its own (HKDF-SHA256, RFC 5869), so that nothing that is made for one passes for another.

use aws_lc_rs::hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret::SecretKey;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Seals session tokens.
    SessionToken,
    /// Seals access tokens of clients.
    AccessToken,
    /// Proves which grant a refresh token, or a cookie of the pages, is of.
    GrantProof,
    /// Makes fingerprints of password hashes, and of tokens that somebody logged in with.
    Fingerprint,
    /// Makes codes of the requests that they are for.
    Code,
    /// Proves which ids of clients a registration gave, and makes their secrets.
    RegisteredClient,
    /// Seals what a request for a grant waits with in the pages.
    PendingRequest,
    /// Proves which forms of the pages are the gateway's.
    PageForm,
    /// Seals what the file of logins says of itself.
    Store,
    /// Seals its rows of grants.
    StoredGrants,
    /// Seals its rows of revoked grants.
    StoredRevocations,
    /// Seals its rows of codes.
    StoredCodes,
    /// Seals its rows of what somebody allowed before.
    StoredConsents,
    /// Seals its rows of people of the identity provider.
    StoredAccounts,
    /// Seals its rows of credentials for servers.
    StoredUpstream,
    /// Seals its rows of what waits for somebody at the issuer of a server.
    StoredFlows,
    /// Seals its rows of how the gateway is registered at those.
    StoredClients,
    /// Seals what a login waits with at the identity provider.
    IdpLogin,
}

impl Purpose {
    /// What sets its key apart from others of the same secret.
    pub fn label(self) -> &'static str {
        match self {
            Self::SessionToken => "sluicegate session token v1",
            Self::AccessToken => "sluicegate access token v1",
            Self::GrantProof => "sluicegate grant proof v1",
            Self::Fingerprint => "sluicegate password fingerprint v1",
            Self::Code => "sluicegate code v1",
            Self::RegisteredClient => "sluicegate registered client v1",
            Self::PendingRequest => "sluicegate pending request v1",
            Self::PageForm => "sluicegate page form v1",
            Self::Store => "store/store",
            Self::StoredGrants => "store/grants",
            Self::StoredRevocations => "store/revoked",
            Self::StoredCodes => "store/codes",
            Self::StoredConsents => "store/consents",
            Self::StoredAccounts => "store/accounts",
            Self::StoredUpstream => "store/upstream",
            Self::StoredFlows => "store/flows",
            Self::StoredClients => "store/clients",
            Self::IdpLogin => "sluicegate login at an identity provider v1",
        }
    }
}

/// Secrets that keys are made of: the first makes tokens, all of them open tokens.
pub struct Keys {
    secrets: Box<[hkdf::Prk]>,
}

/// Bytes by which what is sealed names its key.
pub(super) const KEY_ID: usize = 4;

/// By what a key is named: a hash, which says nothing of it.
pub(super) fn key_id(key: &[u8; 32]) -> Result<[u8; KEY_ID], NoKey> {
    let id = Sha256::new().chain_update(b"sluicegate key id\0").chain_update(key).finalize();
    id.first_chunk().copied().ok_or(NoKey)
}

/// The system has no randomness to give, or the cryptography fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKey;

/// A key is 256 bits.
struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl Keys {
    /// Keys of this process alone: what they seal ends with it.
    pub fn random() -> Result<Self, NoKey> {
        let secret = SecretKey::random().map_err(|_| NoKey)?;
        Ok(Self::of([secret.expose()], b""))
    }

    /// Keys of these secrets, with a salt: others with the same secrets and another salt open none of it.
    pub fn of<T: AsRef<[u8]>>(secrets: impl IntoIterator<Item = T>, salt: &[u8]) -> Self {
        Self { secrets: secrets.into_iter().map(|secret| extracted(secret.as_ref(), salt)).collect() }
    }

    /// The same, of which this one is the first.
    pub(super) fn beginning_with(&self, first: usize) -> Self {
        let mut secrets = self.secrets.clone();
        if let Some(upto) = secrets.get_mut(..=first) {
            upto.rotate_right(1);
        }
        Self { secrets }
    }

    /// The key that makes something for this purpose.
    pub fn first(&self, purpose: Purpose) -> Result<Zeroizing<[u8; 32]>, NoKey> {
        self.secrets.first().ok_or(NoKey).and_then(|secret| expanded(secret, purpose))
    }

    /// All keys for this purpose, the first of which makes things.
    pub fn all(&self, purpose: Purpose) -> impl Iterator<Item = Result<Zeroizing<[u8; 32]>, NoKey>> {
        self.secrets.iter().map(move |secret| expanded(secret, purpose))
    }
}

fn extracted(secret: &[u8], salt: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[b"sluicegate keys v1", salt].concat()).extract(secret)
}

fn expanded(secret: &hkdf::Prk, purpose: Purpose) -> Result<Zeroizing<[u8; 32]>, NoKey> {
    let mut key = Zeroizing::new([0; 32]);
    let info = [purpose.label().as_bytes()];
    let expanded = secret.expand(&info, KeyLength).and_then(|key_material| key_material.fill(&mut *key));
    expanded.map(|()| key).map_err(|_| NoKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_and_each_process_has_a_key_of_its_own() {
        let (one, other) = (Keys::random().unwrap(), Keys::random().unwrap());
        let key = |keys: &Keys, purpose| *keys.first(purpose).unwrap();
        assert_eq!(key(&one, Purpose::SessionToken), key(&one, Purpose::SessionToken));
        assert_ne!(key(&one, Purpose::SessionToken), key(&one, Purpose::Fingerprint));
        assert_ne!(key(&one, Purpose::SessionToken), key(&other, Purpose::SessionToken));
        let salted = |salt| Keys::of([[7; 32]], salt);
        assert_ne!(key(&salted(b"a"), Purpose::SessionToken), key(&salted(b"b"), Purpose::SessionToken));
        let all: Vec<_> = one.all(Purpose::SessionToken).map(Result::unwrap).collect();
        assert_eq!(all, [one.first(Purpose::SessionToken).unwrap()]);
    }

    #[test]
    fn a_key_is_what_rfc_5869_makes_of_its_secret() {
        use hmac::{Hmac, KeyInit, Mac};
        use sha2::Sha256;

        let mac = |key: &[u8], text: &[u8]| -> [u8; 32] {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.update(text);
            mac.finalize().into_bytes().into()
        };
        let keys = Keys::of(["a secret of somebody"], b"");
        let extract = mac(b"sluicegate keys v1", b"a secret of somebody");
        let expand = mac(&extract, &[Purpose::Fingerprint.label().as_bytes(), &[1]].concat());
        assert_eq!(*keys.first(Purpose::Fingerprint).unwrap(), expand);
    }
}
