//! Who is known by an account, and has nothing without it.

use crate::identity::{
    login::{fingerprint::Fingerprint, rows::Rows},
    principal::Principal,
};

/// Whether somebody is known who logged in so: others than those of the identity provider need no account.
pub(super) fn is_known<R: Rows>(
    rows: &mut R,
    principal: &Principal,
    fingerprint: Fingerprint,
) -> Result<bool, R::Error> {
    Ok(match principal {
        Principal::Idp(_) => {
            rows.account(principal)?.is_some_and(|kept| kept.account.fingerprint == fingerprint)
        }
        _ => true,
    })
}
