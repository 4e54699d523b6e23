//! What a login, a refresh, a logout and the rest do to the rows: the same wherever those are kept.

pub(super) mod codes;
pub(super) mod consents;
pub(super) mod grants;

use std::time::SystemTime;

use super::{grant_id::GrantId, rows::Rows};

/// Something that is done to the rows: all of it, or nothing.
pub(super) trait Act: Send + 'static {
    /// What comes of it.
    type Answer: Send + 'static;

    /// Whether it is done although nobody awaits the answer any more.
    const IS_MEANT_IN_ANY_CASE: bool = false;

    /// The time of day by which it is done, if it goes by one.
    fn now(&self) -> Option<SystemTime>;

    /// Does it. What is to be put right if the answer reaches nobody is the second half.
    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error>;
}

/// What was done for somebody who did not await it any more, since the disk took too long.
pub(super) enum Undelivered {
    /// A grant that nobody knows.
    Begun(GrantId),
    /// The refresh token of this generation.
    Refreshed(GrantId, u32),
}

impl Undelivered {
    /// Puts it right.
    pub(super) fn undo<R: Rows>(&self, rows: &mut R, now: SystemTime) -> Result<(), R::Error> {
        match *self {
            Self::Begun(id) => grants::revoke(rows, id).map(drop),
            Self::Refreshed(id, generation) => grants::renew_grace(rows, id, generation, now),
        }
    }
}
