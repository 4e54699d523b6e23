//! The field `csrf` of forms: only a page of the gateway, for this very person and purpose, has it.

use std::ops::Deref;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Characters of a field: 32 bytes in base64.
const CHARS: usize = 43;

/// Makes the fields, and knows them again.
pub struct Csrf {
    /// The first makes them, all of them know them. They are keyed states, so that a field costs only the hashing of what it is for.
    keys: Box<[Hmac<Sha256>]>,
}

/// What a form does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signs somebody in.
    SignIn,
    /// Answers the question of a program.
    Consent,
    /// Takes from a program what it has.
    Revoke,
    /// Signs out.
    SignOut,
    /// Sends somebody to where their account at a server is.
    Connect,
    /// Keeps what they were granted there, or does not.
    Approve,
    /// Keeps a token that they entered.
    SetToken,
    /// Ends what is connected.
    Disconnect,
}

/// A form, as one person sees it.
#[derive(Debug, Clone, Copy)]
pub struct FormOf<'a> {
    /// Whose it is: the id of the grant that the login cookie stands for, or, as long as nobody is signed in, the flow cookie.
    pub owner: &'a [u8],
    /// What it does.
    pub purpose: Purpose,
    /// What it does that to: a question of a program, a grant. Empty if there is only one.
    pub object: &'a [u8],
}

impl Csrf {
    /// With these keys, of which the first makes fields.
    pub fn new<K: Deref<Target = [u8; 32]>>(keys: impl IntoIterator<Item = K>) -> Self {
        let keyed = |key: K| {
            // HMAC pads a short key with zeros to the block size; done here, it takes no fallible constructor.
            let mut block = zeroize::Zeroizing::new([0; 64]);
            block[..32].copy_from_slice(&*key);
            Hmac::new(&(*block).into())
        };
        Self { keys: keys.into_iter().map(keyed).collect() }
    }

    /// The field of a form. `None` if there is no key.
    pub fn field(&self, form: &FormOf<'_>) -> Option<String> {
        let field = mac(self.keys.first()?, form);
        String::from_utf8(field.to_vec()).ok()
    }

    /// Whether `presented` is the field of this form. Constant in time.
    pub fn holds(&self, form: &FormOf<'_>, presented: &str) -> bool {
        let is_it = |key| mac(key, form).ct_eq(presented.as_bytes());
        self.keys.iter().map(is_it).fold(subtle::Choice::from(0), |any, this| any | this).into()
    }
}

/// Every part carries its length, so that no two lists of parts hash alike.
fn mac(key: &Hmac<Sha256>, form: &FormOf<'_>) -> [u8; CHARS] {
    let FormOf { owner, purpose, object } = form;
    let purpose: &[u8] = match purpose {
        Purpose::SignIn => b"sign in",
        Purpose::Consent => b"consent",
        Purpose::Revoke => b"revoke",
        Purpose::SignOut => b"sign out",
        Purpose::Connect => b"connect",
        Purpose::Approve => b"approve",
        Purpose::SetToken => b"set token",
        Purpose::Disconnect => b"disconnect",
    };
    let mut mac = key.clone();
    for part in [owner, purpose, object] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let mut text = [0; CHARS];
    // 32 bytes always fill 43 characters, so the error for a short buffer cannot occur.
    let _ = URL_SAFE_NO_PAD.encode_slice(mac.finalize().into_bytes(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSENT: FormOf<'_> = FormOf { owner: b"grant", purpose: Purpose::Consent, object: b"flow" };

    #[test]
    fn a_field_is_good_for_its_form_alone() {
        let csrf = Csrf::new([&[7; 32]]);
        let field = csrf.field(&CONSENT).unwrap();
        assert!(csrf.holds(&CONSENT, &field));
        for other in [
            FormOf { owner: b"another", ..CONSENT },
            FormOf { purpose: Purpose::SignIn, ..CONSENT },
            FormOf { object: b"", ..CONSENT },
            FormOf { owner: b"grantflow", object: b"", ..CONSENT },
        ] {
            assert!(!csrf.holds(&other, &field), "{other:?}");
        }
        let changed = format!("{}{}", &field[..42], if field.ends_with('A') { 'B' } else { 'A' });
        for presented in ["", &field[1..], &format!("{field}="), &field.to_uppercase(), &changed] {
            assert!(!csrf.holds(&CONSENT, presented), "{presented}");
        }
    }

    #[test]
    fn a_field_of_the_old_key_is_good_after_the_key_is_rotated() {
        let old = Csrf::new([&[7; 32]]).field(&CONSENT).unwrap();
        let rotated = Csrf::new([&[8; 32], &[7; 32]]);
        assert!(rotated.holds(&CONSENT, &old));
        assert_ne!(rotated.field(&CONSENT).unwrap(), old);
        assert!(!Csrf::new([&[8; 32]]).holds(&CONSENT, &old));
        let none = Csrf::new::<&[u8; 32]>([]);
        assert!(none.field(&CONSENT).is_none() && !none.holds(&CONSENT, &old) && !none.holds(&CONSENT, ""));
    }
}
