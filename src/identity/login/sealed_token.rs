//! Tokens that are opened without a look-up: what they say is sealed in them.
//!
//! A prefix, and base64url(key id ‖ nonce ‖ AES-256-GCM(what it says)). Each kind has a prefix and a key of its own.

use std::{
    marker::PhantomData,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{
    fingerprint::Fingerprint,
    grant_id::GrantId,
    keys::{KEY_ID, Keys, NoKey, Purpose, key_id},
};
use crate::secret::Secret;

/// How far a token may be from the future: clocks of two gateways differ, and one that was set back must not bring an expired
/// token to life.
pub(in crate::identity) const LEEWAY: Duration = Duration::from_secs(60);

const NONCE: usize = 12;
const TAG: usize = 16;
/// Moments of issue, of its own end and of the grant's end, grant, fingerprint.
const FIXED: usize = 3 * 8 + 16 + 8;
/// Bytes of a token that is opened without an allocation.
const SHORT: usize = 512;

/// What each of them says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Common {
    /// What it is of.
    pub grant: GrantId,
    /// Of what the login was proved with.
    pub fingerprint: Fingerprint,
    /// When it was made.
    pub issued: SystemTime,
    /// From this moment on it is refused.
    pub expires: SystemTime,
    /// From this moment on the grant is over.
    pub grant_ends: SystemTime,
}

/// What tokens of one kind say.
pub trait Claims: Sized {
    /// What each of them begins with.
    const PREFIX: &str;
    /// What its key is for.
    const PURPOSE: Purpose;
    /// Bytes that are sealed beside what is in each, at most.
    const LONGEST: usize;

    /// What is in each.
    fn common(&self) -> Common;
    /// Appends the rest.
    fn write(&self, text: &mut Vec<u8>);
    /// What this says, and the rest.
    fn read(common: Common, rest: &[u8]) -> Option<Self>;
}

/// Makes and opens tokens of one kind.
pub struct TokenSealer<C> {
    /// With the id of each. The first seals.
    pub(super) keys: Box<[([u8; KEY_ID], RandomizedNonceKey)]>,
    claims: PhantomData<fn() -> C>,
}

impl<C: Claims> TokenSealer<C> {
    /// One whose tokens others of the same keys open.
    pub fn new(keys: &Keys) -> Result<Self, NoKey> {
        let sealing = |key: Result<Zeroizing<[u8; 32]>, NoKey>| {
            let key = key?;
            Ok((key_id(&key)?, RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(|_| NoKey)?))
        };
        let keys = keys.all(C::PURPOSE).map(sealing).collect::<Result<_, _>>()?;
        Ok(Self { keys, claims: PhantomData })
    }

    /// A token that says this.
    pub fn seal(&self, claims: &C) -> Result<Secret, NoKey> {
        let (id, key) = self.keys.first().ok_or(NoKey)?;
        let mut text = Vec::with_capacity(SHORT);
        let Common { grant, fingerprint, issued, expires, grant_ends } = claims.common();
        for moment in [issued, expires, grant_ends] {
            text.extend(seconds(moment).to_be_bytes());
        }
        text.extend(grant.bytes());
        text.extend(fingerprint.bytes());
        claims.write(&mut text);
        if text.len() > FIXED + C::LONGEST {
            return Err(NoKey);
        }
        let nonce = key.seal_in_place_append_tag(Self::aad(), &mut text).map_err(|_| NoKey)?;
        let sealed = [&id[..], nonce.as_ref(), &text].concat();
        let mut token = String::with_capacity(C::PREFIX.len() + sealed.len() * 4 / 3 + 4);
        token.push_str(C::PREFIX);
        URL_SAFE_NO_PAD.encode_string(sealed, &mut token);
        Ok(Secret::new(token))
    }

    /// What a token says that this gateway made, and that has not expired at `now`. Whether its grant still holds is for
    /// others to say.
    pub fn open(&self, token: &[u8], now: SystemTime) -> Option<C> {
        let claims = self.opened(token)?;
        let Common { issued, expires, grant_ends, .. } = claims.common();
        (issued <= now + LEEWAY && now < expires && now < grant_ends).then_some(claims)
    }

    /// What a token says that this gateway made, whenever.
    pub fn opened(&self, token: &[u8]) -> Option<C> {
        let encoded = token.strip_prefix(C::PREFIX.as_bytes())?;
        let longest = KEY_ID + NONCE + FIXED + C::LONGEST + TAG;
        let room = (encoded.len() / 4 + 1) * 3;
        if room > longest + 3 {
            return None;
        }
        let (mut short, mut long) = ([0; SHORT], Vec::new());
        let buffer = match room <= SHORT {
            true => &mut short[..room],
            false => {
                long.resize(room, 0);
                &mut long[..]
            }
        };
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, buffer).ok()?;
        let (id, rest) = buffer[..length].split_first_chunk_mut::<KEY_ID>()?;
        let (nonce, sealed) = rest.split_first_chunk_mut::<NONCE>()?;
        let (_, key) = self.keys.iter().find(|(known, _)| known == id)?;
        let text = key.open_in_place(Nonce::from(&*nonce), Self::aad(), sealed).ok()?;
        let (issued, rest) = text.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (grant_ends, rest) = rest.split_first_chunk()?;
        let (grant, rest) = rest.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let common = Common {
            grant: GrantId::new(*grant),
            fingerprint: Fingerprint::new(*fingerprint),
            issued: moment(*issued)?,
            expires: moment(*expires)?,
            grant_ends: moment(*grant_ends)?,
        };
        C::read(common, rest)
    }

    fn aad() -> Aad<&'static str> {
        Aad::from(C::PURPOSE.label())
    }
}

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn moment(seconds: [u8; 8]) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_be_bytes(seconds)))
}

#[cfg(test)]
#[path = "sealed_token_tests.rs"]
mod tests;
