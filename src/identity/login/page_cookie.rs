//! What the cookie of the pages holds (`sgp_…`): the name of a grant, and the proof that this gateway began it.

use super::{
    grant_id::GrantId,
    kind::KindTag,
    refresh_token::{GrantKey, RefreshToken},
};
use crate::secret::Secret;

/// What each of them begins with.
pub(super) const PREFIX: &str = "sgp_";

/// The value of the cookie of this grant.
pub(super) fn make(key: &GrantKey, grant: GrantId) -> Secret {
    key.text(PREFIX, KindTag::Page, grant, 0)
}

/// The grant that a value names, if this gateway made it. Takes as long for any other.
pub(super) fn grant(key: &GrantKey, value: &str) -> Option<GrantId> {
    let named = RefreshToken::decode(PREFIX, value)?;
    (key.has_made(KindTag::Page, &named) && named.generation == 0).then_some(named.grant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::login::keys::Keys;

    #[test]
    fn a_cookie_names_its_grant_and_no_other_token_is_one() {
        let key = GrantKey::new(&Keys::random().unwrap()).unwrap();
        let id = GrantId::random().unwrap();
        let cookie = make(&key, id);
        assert_eq!(grant(&key, cookie.expose()), Some(id));
        assert!(RefreshToken::parse(cookie.expose()).is_none());
        for kind in [KindTag::Session, KindTag::Page, KindTag::Client] {
            let token = key.make(kind, id, 0);
            assert_eq!(grant(&key, token.expose()), None);
            let as_cookie = token.expose().replacen("sgr_", PREFIX, 1);
            assert_eq!(grant(&key, &as_cookie).is_some(), kind == KindTag::Page);
        }
        assert_eq!(grant(&key, ""), None);
    }
}
