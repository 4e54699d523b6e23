//! What ends with what somebody allowed a client.

use super::consents;
use crate::identity::{
    Principal,
    login::{
        code::{CodeId, CodeState},
        rows::Rows,
    },
};

/// What somebody allowed a client is to hold no longer: neither does what it has not come for yet.
pub(super) fn forget<R: Rows>(rows: &mut R, principal: &Principal, client_id: &str) -> Result<(), R::Error> {
    consents::forget(rows, principal, client_id)?;
    for (id, _) in rows.codes_of(principal)? {
        let waits = rows.code(id)?.is_some_and(|code| match code.state {
            CodeState::New(new) => *new.client.client_id == *client_id,
            CodeState::Used(_) => false,
        });
        if waits {
            use_up(rows, id)?;
        }
    }
    Ok(())
}

/// The code brings nothing any more.
pub(super) fn use_up<R: Rows>(rows: &mut R, id: CodeId) -> Result<(), R::Error> {
    if let Some(mut code) = rows.code(id)? {
        code.state = CodeState::Used(None);
        rows.put_code(id, &code)?;
    }
    Ok(())
}
