//! Tokens that bring the next session token (`sgr_…`). Each is good once: it names its grant and which one of it it is.
//!
//! `sgr_` and base64url(grant ‖ generation ‖ HMAC-SHA256(secret of the grant, generation)). The next one is derived, not stored.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::grant_id::GrantId;
use crate::secret::Secret;

/// What each of them begins with.
pub const PREFIX: &str = "sgr_";

const GRANT: usize = 16;
const GENERATION: usize = 4;
const MAC: usize = 32;
const LENGTH: usize = GRANT + GENERATION + MAC;

/// What of a grant proves its refresh tokens.
#[derive(Clone)]
pub struct GrantSecret(Zeroizing<[u8; 32]>);

impl GrantSecret {
    /// A new one. Fails if the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        Ok(Self(secret))
    }

    /// The one of these bytes.
    pub(super) fn new(bytes: [u8; 32]) -> Self {
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

/// What a refresh token says. Whether it is one, only the secret of its grant tells.
pub struct RefreshToken {
    /// Which grant it is of.
    pub grant: GrantId,
    /// How many there were before it.
    pub generation: u32,
    mac: [u8; MAC],
}

impl RefreshToken {
    /// The one of this generation.
    pub fn make(grant: GrantId, generation: u32, secret: &GrantSecret) -> Secret {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        bytes[..GRANT].copy_from_slice(&grant.bytes());
        bytes[GRANT..GRANT + GENERATION].copy_from_slice(&generation.to_be_bytes());
        let mac = hmac::sign(&secret.key(), &message(grant, generation));
        bytes[GRANT + GENERATION..].copy_from_slice(mac.as_ref());
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes)))
    }

    /// What a text says that looks like one.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
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

    /// The same, where there may be no such grant. That takes as long too, so that nobody learns by it which grants there are.
    pub fn is_of_known(&self, secret: Option<&GrantSecret>) -> bool {
        let of_nobody = GrantSecret(Zeroizing::new([0; 32]));
        let is_of = self.is_of(secret.unwrap_or(&of_nobody));
        is_of && secret.is_some()
    }
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
    fn of_a_grant_that_there_is_not_no_token_is_good() {
        let (grant, secret) = (GrantId::new([7; 16]), GrantSecret::random().unwrap());
        let of = |secret: &GrantSecret| {
            RefreshToken::parse(RefreshToken::make(grant, 1, secret).expose()).unwrap()
        };
        assert!(of(&secret).is_of_known(Some(&secret)));
        assert!(!of(&secret).is_of_known(None));
        let of_nobody = GrantSecret(Zeroizing::new([0; 32]));
        assert!(!of(&of_nobody).is_of_known(None), "whatever it is compared with");
        assert!(!of(&of_nobody).is_of_known(Some(&secret)));
    }

    #[test]
    fn a_refresh_token_is_of_its_grant_and_generation_and_nothing_else_is() {
        let (secret, other) = (GrantSecret::random().unwrap(), GrantSecret::random().unwrap());
        let grant = GrantId::new([7; 16]);
        let token = RefreshToken::make(grant, 3, &secret);
        assert_eq!((&token.expose()[..4], token.expose().len()), ("sgr_", 74));
        assert_eq!(RefreshToken::make(grant, 3, &secret), token, "the same each time");
        let parsed = RefreshToken::parse(token.expose()).unwrap();
        assert_eq!((parsed.grant, parsed.generation), (grant, 3));
        assert!(parsed.is_of(&secret) && !parsed.is_of(&other));

        let bytes = URL_SAFE_NO_PAD.decode(&token.expose()[4..]).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let parsed = RefreshToken::parse(&format!("sgr_{}", URL_SAFE_NO_PAD.encode(changed))).unwrap();
            assert!(!parsed.is_of(&secret), "bit {bit}");
        }
        let longer = format!("sgr_{}", URL_SAFE_NO_PAD.encode([&bytes[..], b"x"].concat()));
        for bad in
            ["", "sgr_", "sgr_!", &token.expose()[4..], &token.expose()[..70], &longer, &"sgr_A".repeat(99)]
        {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
        assert!(RefreshToken::parse(&token.expose().replacen("sgr_", "sgs_", 1)).is_none());
    }
}
