//! Reads a body to its end, where it has to be whole before anything is done with it.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{Late, Pace};
use crate::{
    error::{Error, ErrorKind},
    identity::Subject,
    ledger::{Resource, Share},
    watchdog::{Ending, Watched},
};

/// How a body is read.
pub struct Collect<'a> {
    /// Most bytes that it may have.
    pub most: u64,
    /// How it is ended from outside.
    pub watched: &'a Watched<Subject>,
    /// How fast it has to come.
    pub pace: Pace,
    /// What it is if it is slower.
    pub late: ErrorKind,
}

impl Collect<'_> {
    /// The whole body; `None` if it is too large. What is read is counted in `share`; while its owner has no room, nothing more
    /// is read, and if that lasts, the body may be one of those that are given up.
    pub async fn read(
        self,
        share: &mut Share,
        mut poll_data: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>>,
    ) -> Result<Option<Bytes>, Error> {
        let Self { most, watched, pace, late } = self;
        let mut progress = pace.begin(watched.now());
        let mut room = share.owner().room();
        // Nearly always the only piece.
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        watched.set_deadline(progress.look(watched.now(), 0).ok());
        let fits = poll_fn(|cx| {
            loop {
                // The signal comes first: what is there behind it is not for this caller any more.
                match watched.poll_ending(cx) {
                    None => {}
                    Some(Ending::Deadline) => match progress.look(watched.now(), share.amount()) {
                        Ok(left) => watched.set_deadline(Some(left)),
                        Err(Late) => {
                            let limit = room.waits_for().map(|limit| Error::out_of(Resource::Bytes, limit));
                            return Poll::Ready(Err(limit.unwrap_or_else(|| late.into())));
                        }
                    },
                    Some(ending) => return Poll::Ready(Err(ending.error())),
                }
                ready!(room.poll_or_give_up(cx, share.amount()))
                    .map_err(|limit| Error::out_of(Resource::Bytes, limit))?;
                let Some(data) = ready!(poll_data(cx)).transpose()? else { return Poll::Ready(Ok(true)) };
                share.grow(data.len() as u64);
                if share.amount() > most {
                    return Poll::Ready(Ok::<_, Error>(false));
                }
                match progress.look(watched.now(), share.amount()) {
                    Ok(left) => watched.set_deadline(Some(left)),
                    Err(Late) => return Poll::Ready(Err(late.into())),
                }
                if first.is_empty() && rest.is_empty() {
                    first = data;
                } else {
                    if rest.is_empty() {
                        rest.extend_from_slice(&std::mem::take(&mut first));
                    }
                    rest.extend_from_slice(&data);
                }
            }
        })
        .await?;
        watched.set_deadline(None);
        Ok(fits.then(|| if rest.is_empty() { first } else { rest.freeze() }))
    }
}
