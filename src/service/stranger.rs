//! Requests of strangers, who log in or ask for tokens: their bodies are small, and are read whole before anybody is known.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use hyper::body::Body as _;

use crate::{
    error::{Error, ErrorKind},
    ledger::{Resource, Share},
    request::Request,
    state::Live,
};

/// How long a body may take, if the config does not say less: it is a packet or two.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request all of which is here.
pub(super) struct Whole {
    pub(super) body: Bytes,
    /// The config of the moment in which it was: a body may take its time, and what is in it is judged by the config of when it is
    /// looked at.
    pub(super) live: Arc<Live>,
    /// What its address has of the gateway, whose turn it is from here on. Before, there is nothing of it that others may need.
    pub(super) _share: Share,
}

/// Waits for all of a request: for a body of at most so many bytes, or for none. `is_served` says whether a config has what it is
/// for.
pub(super) async fn whole(
    request: &mut Request<'_>,
    most: Option<usize>,
    is_served: impl Fn(&Live) -> bool,
) -> Result<Whole, Error> {
    let body = match most {
        Some(most) => read(request, most).await?,
        None => Bytes::new(),
    };
    request.worker.stranger_turns.next().await;
    let live = request.worker.shared.live().clone();
    if !is_served(&live) {
        return Err(ErrorKind::Unavailable.with_cause("the config changed while the body came"));
    }
    let share = request.address_owner().take(Resource::Requests);
    let share = share.map_err(|limit| Error::out_of(Resource::Requests, limit))?;
    Ok(Whole { body, live, _share: share })
}

/// The body as a whole. It has little time; less, if many others come.
async fn read(request: &mut Request<'_>, most: usize) -> Result<Bytes, Error> {
    let address = request.client.unwrap_or(request.connection.address).into();
    let Some(body) = &mut request.body else { return Ok(Bytes::new()) };
    if body.size_hint().lower() > most as u64 {
        return Err(ErrorKind::BodyTooLarge.into());
    }
    let mut read = Vec::new();
    let reading = async {
        while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await.transpose()? {
            if read.len() + data.len() > most {
                return Err(Error::from(ErrorKind::BodyTooLarge));
            }
            read.extend_from_slice(&data);
        }
        Ok(())
    };
    let within = request.live.limits.small_body_timeout.min(PATIENCE);
    let mut reading = pin!(tokio::time::timeout(within, reading));
    // What is here already needs no place, and drives out nobody.
    let read_in_time = match poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        Poll::Ready(read) => read,
        Poll::Pending => {
            let place = request.worker.shared.logins.pending.begin(address);
            place.during(reading).await.ok_or_else(Error::gave_way)?
        }
    };
    read_in_time.map_err(|_| ErrorKind::BodyTimeout)??;
    request.body = None;
    request.record.received(read.len() as u64);
    Ok(read.into())
}
