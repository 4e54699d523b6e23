//! Who has the password that somebody presents: at a login, or with each request by `Basic`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use super::{Live, LoginUser};
use crate::{
    error::{Error, ErrorKind},
    identity::{
        login::{
            attempts::Attempt,
            passwords::{Busy, Place},
            verdicts::{Turn, awaited},
        },
        verifier::{Found, Identified},
    },
    ledger::{AddressBlock, RateKey},
    secret::Secret,
};

impl Live {
    /// The user of this name, if the password is theirs; `wrong` otherwise. A name that there is not takes as long, and says the
    /// same, as a password that is wrong. Attempts that come too often are refused before anything is compared.
    pub async fn user_by_password(
        &self,
        name: &str,
        password: Secret,
        address: AddressBlock,
        wrong: ErrorKind,
    ) -> Result<LoginUser<'_>, Error> {
        let user = self.user(name);
        let hash = self.hash_for(name, user.as_ref()).ok_or(wrong)?;
        let slot = user.map(|user| user.slot);
        let is_right = self.compared(name, password, hash, address).await?;
        slot.filter(|_| is_right).and_then(|slot| self.user_in(slot)).ok_or_else(|| wrong.into())
    }

    /// The user who presents a password by `Basic`.
    pub(super) fn by_basic<'a>(
        &'a self,
        name: &'a [u8],
        password: &'a [u8],
        address: AddressBlock,
    ) -> Identified<'a> {
        // Neither a name nor a password is anything else than UTF-8, as the challenge says. What is not is no user's, and takes
        // as long.
        let text = str::from_utf8(name).ok().zip(str::from_utf8(password).ok());
        let user = text.and_then(|(name, _)| self.user(name));
        let shown_name = String::from_utf8_lossy(name);
        let Some(hash) = self.hash_for(&shown_name, user.as_ref()) else {
            return Identified::Ready(Err(ErrorKind::InvalidToken.into()));
        };
        let verdicts = &self.logins.verdicts;
        let trial = verdicts.trial(name, password, hash);
        let slot = user.map(|user| user.slot);
        if slot.is_some() && verdicts.has(&trial, Instant::now()) {
            return Identified::Ready(Ok(self.caller(slot)));
        }
        Identified::Later(Box::pin(async move {
            loop {
                let is_right = match verdicts.turn(trial, Instant::now()) {
                    Turn::Right => true,
                    Turn::Compare(comparison) => {
                        let password = Secret::new(String::from_utf8_lossy(password).into_owned());
                        let is_right = self.compared(&shown_name, password, hash, address).await?;
                        let is_right = is_right && slot.is_some();
                        comparison.end(is_right, Instant::now());
                        is_right
                    }
                    Turn::Wait(verdict) => match awaited(verdict).await {
                        Some(is_right) => is_right,
                        None => continue,
                    },
                };
                return self.proved(slot.filter(|_| is_right));
            }
        }))
    }

    fn proved(&self, slot: Option<usize>) -> Found {
        slot.map(|slot| self.caller(Some(slot))).ok_or_else(|| ErrorKind::InvalidToken.into())
    }

    /// The hash to compare with: the user's, or that of some other one whose result does not count.
    fn hash_for<'a>(&'a self, name: &str, user: Option<&LoginUser<'a>>) -> Option<&'a Secret> {
        let users = &self.config.users;
        let (first, second) = self.logins.attempts.any_two_of(name, users.len());
        let (first, second) = (users.get(first)?, users.get(second)?);
        // Whether there is such a name or not, two look-ups find somebody and one finds nobody, so that they take as long: the
        // processor's caches have seldom what each of them reads.
        let nobody = first.name.split_at_checked(1).map_or("", |(_, rest)| rest);
        let _ = black_box(self.user(&first.name));
        let stand_in = black_box(self.user(if user.is_some() { nobody } else { &second.name }));
        let found = user.or(stand_in.as_ref()).map_or(second, |found| found.user);
        Some(&found.password_hash)
    }

    /// Whether this is the password of that hash: compared on a thread of its own, once it is this address's turn.
    async fn compared(
        &self,
        name: &str,
        password: Secret,
        hash: &Secret,
        address: AddressBlock,
    ) -> Result<bool, Error> {
        let logins = &self.logins;
        // Only who has a place is noted: a flood that gets none fills no table.
        let mut place = self.place(address)?;
        match logins.attempts.note(address, name, Instant::now()) {
            Attempt::Now => {}
            Attempt::After(delay) => {
                drop(place);
                let waited = logins.pending.begin(address).during(tokio::time::sleep(delay)).await;
                waited.ok_or_else(Error::gave_way)?;
                place = self.place(address)?;
            }
            Attempt::Refused(wait) => return Err(too_often(wait)),
        }
        logins.passwords.compare(password, hash.clone(), place).await.map_err(busy)
    }

    fn place(&self, address: AddressBlock) -> Result<Place, Error> {
        self.logins.passwords.place(address).map_err(busy)
    }
}

fn busy(busy: Busy) -> Error {
    match busy {
        Busy::Full => ErrorKind::Unavailable.with_cause("as many passwords are compared as may be"),
        // It may have room as soon as one is compared.
        Busy::Address => too_often(Duration::from_secs(1)),
    }
}

fn too_often(wait: Duration) -> Error {
    Error::too_often(RateKey::Logins, wait)
}
