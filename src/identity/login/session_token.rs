//! Tokens that the gateway gives to users who log in (`sgs_…`). They are opened without a look-up: what they say is sealed in
//! them.
//!
//! `sgs_` and base64url(key id ‖ nonce ‖ AES-256-GCM(what it says)). Roles are not in it: the config in force says them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    fingerprint::Fingerprint,
    grant_id::GrantId,
    keys::{KEY_ID, Keys, NoKey, Purpose, key_id},
};
use crate::secret::Secret;

/// What each of them begins with.
pub const PREFIX: &str = "sgs_";

/// How far a token may be from the future: clocks of two gateways differ, and one that was set back must not bring an expired
/// token to life.
pub(super) const LEEWAY: Duration = Duration::from_secs(60);

const NONCE: usize = 12;
const TAG: usize = 16;
/// Moments of issue, of its own end and of the grant's end, grant, fingerprint.
const FIXED: usize = 3 * 8 + 16 + 8;
/// Bytes of a user's name at most.
const LONGEST_NAME: usize = 128;
const LONGEST: usize = KEY_ID + NONCE + FIXED + LONGEST_NAME + TAG;

/// What a session token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionClaims {
    /// Name of the user.
    pub user: Arc<str>,
    /// What the login began, and what a logout ends.
    pub grant: GrantId,
    /// Of the password hash at the time of the login.
    pub fingerprint: Fingerprint,
    /// When it was made.
    pub issued: SystemTime,
    /// From this moment on it is refused.
    pub expires: SystemTime,
    /// From this moment on the grant is over.
    pub grant_ends: SystemTime,
}

/// Makes and opens session tokens.
pub struct TokenSealer {
    /// With the id of each. The first seals.
    keys: Box<[([u8; KEY_ID], RandomizedNonceKey)]>,
}

impl TokenSealer {
    /// One whose tokens others of the same keys open.
    pub fn new(keys: &Keys) -> Result<Self, NoKey> {
        let sealing = |key: Result<zeroize::Zeroizing<[u8; 32]>, NoKey>| {
            let key = key?;
            Ok((key_id(&key)?, RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(|_| NoKey)?))
        };
        Ok(Self { keys: keys.all(Purpose::SessionToken).map(sealing).collect::<Result<_, _>>()? })
    }

    /// A token that says this.
    pub fn seal(&self, claims: &SessionClaims) -> Result<Secret, NoKey> {
        let (id, key) = self.keys.first().ok_or(NoKey)?;
        let mut text = Vec::with_capacity(LONGEST);
        for moment in [claims.issued, claims.expires, claims.grant_ends] {
            text.extend(seconds(moment).to_be_bytes());
        }
        text.extend(claims.grant.bytes());
        text.extend(claims.fingerprint.bytes());
        if claims.user.len() > LONGEST_NAME {
            return Err(NoKey);
        }
        text.extend(claims.user.as_bytes());
        let nonce = key.seal_in_place_append_tag(aad(), &mut text).map_err(|_| NoKey)?;
        let sealed = [&id[..], nonce.as_ref(), &text].concat();
        let mut token = String::with_capacity(PREFIX.len() + sealed.len() * 4 / 3 + 4);
        token.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(sealed, &mut token);
        Ok(Secret::new(token))
    }

    /// What a token says that this gateway made, and that has not expired at `now`. Whether its grant still holds is for
    /// others to say.
    pub fn open(&self, token: &[u8], now: SystemTime) -> Option<SessionClaims> {
        let claims = self.opened(token)?;
        (claims.issued <= now + LEEWAY && now < claims.expires && now < claims.grant_ends).then_some(claims)
    }

    /// What a token says that this gateway made, whenever.
    pub fn opened(&self, token: &[u8]) -> Option<SessionClaims> {
        let encoded = token.strip_prefix(PREFIX.as_bytes())?;
        let mut buffer = [0; LONGEST + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut buffer).ok()?;
        let (id, rest) = buffer[..length].split_first_chunk_mut::<KEY_ID>()?;
        let (nonce, sealed) = rest.split_first_chunk_mut::<NONCE>()?;
        let (_, key) = self.keys.iter().find(|(known, _)| known == id)?;
        let text = key.open_in_place(Nonce::from(&*nonce), aad(), sealed).ok()?;
        let (issued, rest) = text.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (grant_ends, rest) = rest.split_first_chunk()?;
        let (grant, rest) = rest.split_first_chunk()?;
        let (fingerprint, name) = rest.split_first_chunk()?;
        Some(SessionClaims {
            user: std::str::from_utf8(name).ok()?.into(),
            grant: GrantId::new(*grant),
            fingerprint: Fingerprint::new(*fingerprint),
            issued: moment(*issued)?,
            expires: moment(*expires)?,
            grant_ends: moment(*grant_ends)?,
        })
    }
}

fn aad() -> Aad<&'static str> {
    Aad::from(Purpose::SessionToken.label())
}

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn moment(seconds: [u8; 8]) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_be_bytes(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn claims(keys: &Keys) -> SessionClaims {
        SessionClaims {
            user: "alice".into(),
            grant: GrantId::new([7; 16]),
            fingerprint: Fingerprint::of(keys, "$argon2id$…").unwrap(),
            issued: at(NOW),
            expires: at(NOW + 900),
            grant_ends: at(NOW + 86_400),
        }
    }

    #[test]
    fn a_token_says_what_it_was_made_of_and_only_to_the_gateway_that_made_it() {
        let (keys, others) = (Keys::random().unwrap(), Keys::random().unwrap());
        let (sealer, other) = (TokenSealer::new(&keys).unwrap(), TokenSealer::new(&others).unwrap());
        for user in ["a", "alice", &"é".repeat(64)] {
            let claims = SessionClaims { user: user.into(), ..claims(&keys) };
            let token = sealer.seal(&claims).unwrap();
            assert!(token.expose().starts_with("sgs_") && token.expose().len() <= 400);
            assert!(token.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            assert_eq!(sealer.open(token.expose().as_bytes(), at(NOW)), Some(claims.clone()));
            assert_eq!(other.open(token.expose().as_bytes(), at(NOW)), None);
            assert_ne!(sealer.seal(&claims).unwrap(), token, "each has a nonce of its own");
        }
        let too_long = SessionClaims { user: "n".repeat(129).into(), ..claims(&keys) };
        assert_eq!(sealer.seal(&too_long), Err(NoKey));
    }

    #[test]
    fn a_token_with_any_bit_changed_or_any_byte_missing_is_none() {
        let keys = Keys::random().unwrap();
        let sealer = TokenSealer::new(&keys).unwrap();
        let token = sealer.seal(&claims(&keys)).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token.expose()[4..]).unwrap();
        let opened =
            |bytes: &[u8]| sealer.opened(format!("sgs_{}", URL_SAFE_NO_PAD.encode(bytes)).as_bytes());
        assert!(opened(&bytes).is_some());
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&changed), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(opened(&bytes[..length]), None);
            assert_eq!(opened(&bytes[length + 1..]), None);
        }
        assert_eq!(opened(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(opened(&[0; 4000]), None);
        for bad in ["", "sgs_", "sgs_!", "sgr_x", &token.expose()[4..], &token.expose().to_uppercase()] {
            assert_eq!(sealer.opened(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn whatever_the_clock_does_no_token_opens_outside_of_its_time() {
        let keys = Keys::random().unwrap();
        let sealer = TokenSealer::new(&keys).unwrap();
        let token = sealer.seal(&claims(&keys)).unwrap();
        let opens = |now| sealer.open(token.expose().as_bytes(), at(now)).is_some();
        for good in [NOW - 60, NOW, NOW + 899] {
            assert!(opens(good), "{good}");
        }
        for bad in [0, NOW - 400 * 86_400, NOW - 61, NOW + 900, NOW + 86_400, NOW + 400 * 86_400] {
            assert!(!opens(bad), "{bad}");
        }
        let beyond = SessionClaims { grant_ends: at(NOW + 10), ..claims(&keys) };
        let token = sealer.seal(&beyond).unwrap();
        assert!(sealer.open(token.expose().as_bytes(), at(NOW + 10)).is_none(), "the grant has ended");
    }

    #[test]
    fn what_another_key_of_the_same_secret_seals_is_no_token() {
        let keys = Keys::random().unwrap();
        let sealer = TokenSealer::new(&keys).unwrap();
        let key = keys.first(Purpose::Fingerprint).unwrap();
        let (id, _) = sealer.keys[0];
        let mut text = vec![0; FIXED + 5];
        let other = RandomizedNonceKey::new(&AES_256_GCM, &*key).unwrap();
        let nonce = other.seal_in_place_append_tag(aad(), &mut text).unwrap();
        let token = format!("sgs_{}", URL_SAFE_NO_PAD.encode([&id[..], nonce.as_ref(), &text].concat()));
        assert_eq!(sealer.opened(token.as_bytes()), None);
        // Nor is it one if it was sealed for something else by the same key.
        let key = keys.first(Purpose::SessionToken).unwrap();
        let mut text = vec![0; FIXED + 5];
        let same = RandomizedNonceKey::new(&AES_256_GCM, &*key).unwrap();
        let nonce = same.seal_in_place_append_tag(Aad::from("another purpose"), &mut text).unwrap();
        let token = format!("sgs_{}", URL_SAFE_NO_PAD.encode([&id[..], nonce.as_ref(), &text].concat()));
        assert_eq!(sealer.opened(token.as_bytes()), None);
    }
}
