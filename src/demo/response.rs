//! Response bodies: a whole text, or events as they come.

use std::{
    convert::Infallible,
    fmt::Display,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use super::rpc::Reply;

pub(super) type Response = http::Response<Either<Full<Bytes>, Events>>;

/// Events that may wait for a client that reads slowly; then their sender waits.
pub(super) const WAITING_EVENTS: usize = 16;

/// An event stream that ends when its last sender is gone.
pub(super) struct Events {
    events: mpsc::Receiver<Bytes>,
    /// Keeps a stream open that has no other sender.
    _open: Option<mpsc::Sender<Bytes>>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

/// One `message` event.
pub(super) fn event(message: &impl Display) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    with_body(status, "text/plain; charset=utf-8", Either::Left(Full::from(text)))
}

pub(super) fn json(status: StatusCode, message: impl Into<Bytes>) -> Response {
    with_body(status, "application/json", Either::Left(Full::from(message.into())))
}

/// 202: taken note of, nothing to answer.
pub(super) fn accepted() -> Response {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// The event stream that `events` feeds.
pub(super) fn events(events: mpsc::Receiver<Bytes>) -> Response {
    event_stream(Events { events, _open: None })
}

/// An event stream that stays open and silent until the client leaves.
pub(super) fn open_stream() -> Response {
    let (open, events) = mpsc::channel(1);
    event_stream(Events { events, _open: Some(open) })
}

/// An event stream of these replies.
pub(super) fn stream(replies: Vec<Reply>) -> Response {
    let (to, received) = mpsc::channel(WAITING_EVENTS);
    tokio::spawn(deliver(replies, to));
    events(received)
}

/// Sends the replies one after the other, each as it becomes ready, until the client is gone.
pub(super) async fn deliver(replies: Vec<Reply>, to: mpsc::Sender<Bytes>) {
    for reply in replies {
        match reply {
            Reply::Message(_, message) => drop(to.send(event(&message)).await),
            Reply::Countdown(countdown) => countdown.run(&to).await,
        }
    }
}

fn event_stream(events: Events) -> Response {
    let mut response = with_body(StatusCode::OK, "text/event-stream", Either::Right(events));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn with_body(status: StatusCode, content_type: &'static str, body: Either<Full<Bytes>, Events>) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
