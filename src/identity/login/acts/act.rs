//! What an act is, and what is left of it if nobody awaits its answer.

use std::time::SystemTime;

use crate::identity::login::{grant_id::GrantId, rows::Rows};

/// Something that is done to the rows: all of it, or nothing.
pub(in crate::identity::login) trait Act: Send + 'static {
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
pub(in crate::identity::login) enum Undelivered {
    /// A grant that nobody knows.
    Begun(GrantId),
    /// The refresh token of this generation.
    Refreshed(GrantId, u32),
}
