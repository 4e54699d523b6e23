//! Tokens that bring the next session token, or the next access token (`sgr_…`). Each is good once: it names its grant and which
//! one of it it is.
//!
//! `sgr_` and base64url(grant ‖ generation ‖ HMAC-SHA256(key, kind of the grant ‖ grant ‖ generation)). The next one is derived,
//! not stored. The key is one for all grants, so that a text that this gateway never made is refused before any grant is looked
//! for: how long that takes says nothing of which grants there are.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{
    grant_id::GrantId,
    keys::{Keys, NoKey, Purpose},
    kind::KindTag,
};
use crate::secret::Secret;

/// What each of them begins with.
pub const PREFIX: &str = "sgr_";

const GRANT: usize = 16;
const GENERATION: usize = 4;
const MAC: usize = 32;
const LENGTH: usize = GRANT + GENERATION + MAC;

/// Makes what names a grant and proves it.
pub struct GrantKey(hmac::Key);

impl GrantKey {
    /// That of these keys. It never changes as long as the store is the same, so that no refresh token is lost by a new key.
    pub fn new(keys: &Keys) -> Result<Self, NoKey> {
        let key = keys.first(Purpose::GrantProof)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*key)))
    }

    /// The refresh token of this generation.
    pub fn make(&self, kind: KindTag, grant: GrantId, generation: u32) -> Secret {
        self.text(PREFIX, kind, grant, generation)
    }

    /// Whether it made this one, for a grant of this kind. Takes as long for any other.
    pub fn has_made(&self, kind: KindTag, token: &RefreshToken) -> bool {
        let message = [&[kind as u8], &message(token.grant, token.generation)[..]].concat();
        hmac::verify(&self.0, &message, &token.mac).is_ok()
    }

    pub(super) fn text(&self, prefix: &str, kind: KindTag, grant: GrantId, generation: u32) -> Secret {
        let message = [&[kind as u8], &message(grant, generation)[..]].concat();
        encoded(prefix, grant, generation, &hmac::sign(&self.0, &message))
    }
}

/// What proves refresh tokens of a grant that is older than [`GrantKey`]: a secret of its own.
#[derive(Clone)]
pub struct GrantSecret(Zeroizing<[u8; 32]>);

impl GrantSecret {
    /// The one of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*self.0)
    }
}

/// What a refresh token says. Whether it is one, only a key tells.
#[derive(Clone)]
pub struct RefreshToken {
    /// Which grant it is of.
    pub grant: GrantId,
    /// How many there were before it.
    pub generation: u32,
    mac: [u8; MAC],
}

impl RefreshToken {
    /// The one of this generation, of a grant with a secret of its own.
    pub fn make(grant: GrantId, generation: u32, secret: &GrantSecret) -> Secret {
        encoded(PREFIX, grant, generation, &hmac::sign(&secret.key(), &message(grant, generation)))
    }

    /// What a text says that looks like one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::decode(PREFIX, text)
    }

    pub(super) fn decode(prefix: &str, text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(prefix)?;
        let mut bytes = Zeroizing::new([0; LENGTH + 3]);
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
        let (grant, rest) = bytes[..length].split_first_chunk()?;
        let (generation, mac) = rest.split_first_chunk()?;
        let mac = mac.try_into().ok()?;
        Some(Self { grant: GrantId::new(*grant), generation: u32::from_be_bytes(*generation), mac })
    }

    /// Whether it was made with this secret. Takes as long for any other token.
    pub fn is_of(&self, secret: &GrantSecret) -> bool {
        hmac::verify(&secret.key(), &message(self.grant, self.generation), &self.mac).is_ok()
    }
}

fn encoded(prefix: &str, grant: GrantId, generation: u32, mac: &hmac::Tag) -> Secret {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    bytes[..GRANT + GENERATION].copy_from_slice(&message(grant, generation));
    bytes[GRANT + GENERATION..].copy_from_slice(mac.as_ref());
    Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(*bytes)))
}

fn message(grant: GrantId, generation: u32) -> [u8; GRANT + GENERATION] {
    let mut message = [0; GRANT + GENERATION];
    message[..GRANT].copy_from_slice(&grant.bytes());
    message[GRANT..].copy_from_slice(&generation.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_of_its_grant_and_generation_and_kind_and_nothing_else_is() {
        let [key, other] = [(); 2].map(|()| GrantKey::new(&Keys::random().unwrap()).unwrap());
        let grant = GrantId::new([7; 16]);
        let token = key.make(KindTag::Client, grant, 3);
        assert_eq!((&token.expose()[..4], token.expose().len()), ("sgr_", 74));
        assert_eq!(key.make(KindTag::Client, grant, 3), token, "the same each time");
        let parsed = RefreshToken::parse(token.expose()).unwrap();
        assert_eq!((parsed.grant, parsed.generation), (grant, 3));
        assert!(key.has_made(KindTag::Client, &parsed) && !other.has_made(KindTag::Client, &parsed));
        for kind in [KindTag::Session, KindTag::Page] {
            assert!(!key.has_made(kind, &parsed), "{kind:?}");
        }

        let bytes = URL_SAFE_NO_PAD.decode(&token.expose()[4..]).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let parsed = RefreshToken::parse(&format!("sgr_{}", URL_SAFE_NO_PAD.encode(changed))).unwrap();
            assert!(!key.has_made(KindTag::Client, &parsed), "bit {bit}");
        }
        let longer = format!("sgr_{}", URL_SAFE_NO_PAD.encode([&bytes[..], b"x"].concat()));
        for bad in
            ["", "sgr_", "sgr_!", &token.expose()[4..], &token.expose()[..70], &longer, &"sgr_A".repeat(99)]
        {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
        assert!(RefreshToken::parse(&token.expose().replacen("sgr_", "sgs_", 1)).is_none());
    }

    #[test]
    fn a_token_of_a_grant_with_a_secret_of_its_own_is_of_that_secret() {
        let (secret, other) = (GrantSecret::new([1; 32]), GrantSecret::new([2; 32]));
        let token = RefreshToken::make(GrantId::new([7; 16]), 3, &secret);
        let parsed = RefreshToken::parse(token.expose()).unwrap();
        assert!(parsed.is_of(&secret) && !parsed.is_of(&other));
    }
}
