//! What is done to what may be used once, and to tokens without a grant.

use std::time::SystemTime;

use super::act::{Act, Undelivered};
use crate::identity::login::{
    grant_id::GrantId,
    rows::{MOST, Rows},
    spent::{NotSpent, Spent},
};

/// Uses something up. It is used also if nobody hears of it any more: whoever signed it signs another.
pub(in crate::identity::login) struct Spend {
    pub(in crate::identity::login) spent: Spent,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Spend {
    type Answer = Result<(), NotSpent>;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        if rows.forgotten_until()?.is_some_and(|until| self.spent.until <= until) {
            return Ok((Err(NotSpent::Forgotten), None));
        }
        Ok((spend(rows, &self.spent)?, None))
    }
}

/// Ends a token that is of no grant that is kept.
pub(in crate::identity::login) struct EndToken {
    /// What the token says it is of: a name that no other has.
    pub(in crate::identity::login) grant: GrantId,
    /// Counts for the client that gives it back.
    pub(in crate::identity::login) spent: Spent,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for EndToken {
    type Answer = Result<(), NotSpent>;

    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let Self { grant, spent, .. } = self;
        // Each grant has its place among the revoked from the beginning, and these have none.
        if rows.count()? >= MOST {
            return Ok((Err(NotSpent::Full), None));
        }
        let done = spend(rows, &spent)?;
        if done.is_ok() {
            rows.put_revoked(grant, spent.until)?;
        }
        Ok((done, None))
    }
}

fn spend<R: Rows>(rows: &mut R, spent: &Spent) -> Result<Result<(), NotSpent>, R::Error> {
    if rows.is_spent(spent.id)? {
        return Ok(Err(NotSpent::Again));
    }
    if rows.count_spent(&spent.owner)? >= spent.most {
        return Ok(Err(NotSpent::Full));
    }
    if let Some((prefix, most)) = spent.most_of_all
        && rows.count_spent_of_all(prefix)? >= most
    {
        return Ok(Err(NotSpent::Full));
    }
    rows.put_spent(spent)?;
    Ok(Ok(()))
}
