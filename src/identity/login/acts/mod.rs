//! What a login, a refresh, a logout and the rest do to the rows: the same wherever those are kept.

pub(super) mod accounts;
mod act;
mod clients;
pub(super) mod codes;
pub(super) mod consents;
pub(super) mod grants;
mod known;
pub(super) mod spent;
pub(super) mod upstream;

pub(super) use self::act::{Act, Undelivered};
