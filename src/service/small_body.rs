//! Bodies of strangers, which are small.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use hyper::body::Body as _;

use crate::{
    error::{Error, ErrorKind},
    request::Request,
};

/// How long a body may take, if the config does not say less: it is a packet or two.
const PATIENCE: Duration = Duration::from_secs(5);

/// The body as a whole, of at most so many bytes. It has little time; less, if many others come.
pub(super) async fn read(request: &mut Request<'_>, most: usize) -> Result<Bytes, Error> {
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
