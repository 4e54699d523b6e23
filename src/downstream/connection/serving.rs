//! Serving a connection: handshake under a deadline, then hyper, chosen by ALPN.
//!
//! The protocol is never guessed from the first bytes: hyper-util's `auto` builder has no time-out for them, and answers
//! a broken HTTP/2 preface with an HTTP/1.1 response.

use std::{
    cell::Cell,
    error::Error as StdError,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Body,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tokio_util::either::Either;

use crate::downstream::connection::{Connection, MAX_FIELDS};
use crate::{
    downstream::{
        frames::Http2Stream,
        incoming::Incoming,
        interim::Expectations,
        io::{Received, Socket},
        rejection::{PlainHttp, Rejection},
    },
    watchdog::{Signal, SignalView},
};

/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 100;
/// Most bytes of one HTTP/2 stream that wait in memory for a client. Less than its first window of 64 KiB: what it takes is
/// asked for as it takes it.
const SEND_BUFFER: usize = 16 * 1024;

/// Runs futures of HTTP/2 streams on the worker's own thread. One whose response is to end and is not asked for more is
/// dropped, which resets its stream and no other.
#[derive(Clone)]
struct LocalExecutor(Rc<Connection>);

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        let connection = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            let mut response = None;
            poll_fn(|cx| {
                let ended = future.as_mut().poll(cx).is_ready();
                response = connection.response.take().or(response.take());
                let unheard = response.as_ref().and_then(SignalView::signal).is_some();
                if ended || unheard { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
    }
}

/// A response that has left hyper and writes to the client's stream itself.
pub trait StreamTakeover {
    /// `early` is what the client sent behind its request already.
    fn begin(&mut self, early: Bytes);

    /// Goes on until the response is through (true) or broken off (false).
    fn poll<T>(&mut self, stream: &mut T, cx: &mut Context<'_>) -> Poll<bool>
    where
        T: AsyncRead + AsyncWrite + Unpin;

    /// Ends a response that is through; returns what the client sent of its next request.
    fn finish(self: Box<Self>) -> Bytes;
}

/// Where a request's handler leaves its relay. The handler then never returns; the connection takes the stream out of
/// hyper, which drops the handler.
pub type TakeoverSlot<R> = Rc<Cell<Option<Box<R>>>>;

/// A client's side of a connection, whatever carries it.
trait ByteStream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> ByteStream for T {}

/// What answers requests: any function with the bounds that hyper asks for, written once.
pub trait Handler {
    /// Response body.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + 'static;
    /// Why a connection has to close instead of carrying a response.
    type Error: Into<Box<dyn StdError + Send + Sync>>;

    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Self::Error>> + 'static;
}

impl<H, F, B, E> Handler for H
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, E>> + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    type Body = B;
    type Error = E;

    fn handle(&self, request: Request<Incoming>) -> impl Future<Output = Result<Response<B>, E>> + 'static {
        self(request)
    }
}

/// Serves a connection to its end, and drops `guard` then. Each request that had begun leaves a record of its own; what ended
/// the connection before it became one is [`Connection::take_rejection`].
///
/// A task is as large as the largest thing that it ever awaits, for as long as it lives. So what is large and passes is boxed:
/// an idle stream then costs its sockets, its TLS state and a few hundred bytes. And what a task has from its beginning is
/// captured by an `async` block: an argument of an `async fn` that is moved on has two places in its future.
pub fn serve<H, R, G>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    connection: Rc<Connection>,
    slot: TakeoverSlot<R>,
    handle: H,
    guard: G,
) -> impl Future<Output = ()>
where
    H: Handler,
    R: StreamTakeover,
{
    let socket = Socket::new(stream, Rc::clone(&connection));
    match tls {
        None => Either::Left(serve_http1(socket, connection, slot, handle, guard)),
        Some(acceptor) => {
            Either::Right(Box::pin(serve_tls(socket, acceptor, connection, slot, handle, guard)))
        }
    }
}

async fn serve_tls<H, R, G>(
    socket: Socket,
    acceptor: TlsAcceptor,
    connection: Rc<Connection>,
    slot: TakeoverSlot<R>,
    handle: H,
    guard: G,
) where
    H: Handler,
    R: StreamTakeover,
{
    connection.watched.set_deadline(Some(connection.limits.tls_handshake_timeout));
    let mut handshake = Box::pin(async {
        // Who has sent nothing costs nothing.
        poll_fn(|cx| socket.poll_readable(cx)).await;
        let mut hello = LazyConfigAcceptor::new(Acceptor::default(), socket.expecting_tls());
        let hello = match (&mut hello).await {
            Ok(hello) => hello,
            Err(e) => return Err((e, hello.take_io())),
        };
        let turn = connection.connection_slot.borrow().begin_handshake();
        if let Some(turn) = turn
            && turn.await.is_err()
        {
            // It has to go.
            std::future::pending::<()>().await;
        }
        let mut behind = Ok(());
        // What came behind the ClientHello is otherwise looked at when more comes.
        let mut accepting = hello.into_stream_with(Arc::clone(acceptor.config()), |tls| {
            behind = tls.process_new_packets().map(drop);
        });
        if let Err(e) = behind {
            // The alert that says so goes out, if the socket takes it now.
            poll_fn(|cx| {
                let _ = Pin::new(&mut accepting).poll(cx);
                Poll::Ready(())
            })
            .await;
            return Err((io::Error::other(e), None));
        }
        accepting.into_fallible().await.map_err(|(e, socket)| (e, Some(socket)))
    });
    let shaken = poll_fn(|cx| {
        if connection.poll_signal(cx, || {}) || connection.draining.get() {
            return Poll::Ready(None);
        }
        handshake.as_mut().poll(cx).map(Some)
    });
    let stream = match shaken.await {
        Some(Ok(stream)) => stream,
        Some(Err((e, socket))) => {
            connection.rejected.set(Rejection::of_handshake(&e));
            if PlainHttp::is_in(&e)
                && let Some(socket) = socket
            {
                until_signal(&connection, PlainHttp::answer(socket)).await;
            }
            return;
        }
        // Who made room for another, or was there when the gateway ended, took no longer than it may.
        // The gateway takes no request any more, and this one has none yet.
        None if connection.is_cut.get() || connection.draining.get() => return,
        None => return connection.rejected.set(Some(Rejection::TlsTimeout)),
    };
    drop(handshake);
    connection.connection_slot.borrow_mut().end_handshake();
    // The acceptor's session keeps what it needs of it.
    drop(acceptor);
    connection.watched.set_deadline(Some(connection.limits.header_timeout));
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(serve_http2(stream, connection, handle)).await;
        drop(guard);
    } else {
        serve_http1(stream, connection, slot, handle, guard).await;
    }
}

/// Waits for `future`, until a signal ends the connection.
async fn until_signal(connection: &Connection, future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|cx| match connection.poll_signal(cx, || {}) {
        true => Poll::Ready(()),
        false => future.as_mut().poll(cx).map(drop),
    })
    .await;
}

/// Goes back and forth between hyper, which serves requests, and relays, which take the stream for one response.
fn serve_http1<T, H, R, G>(
    stream: T,
    connection: Rc<Connection>,
    slot: TakeoverSlot<R>,
    handle: H,
    guard: G,
) -> impl Future<Output = ()>
where
    T: ByteStream,
    H: Handler,
    R: StreamTakeover,
{
    connection.http1.set(true);
    let mut stream = Received::new(stream, Rc::clone(&connection));
    async move {
        loop {
            let until_taken = Box::pin(serve_until_taken(stream, &connection, &slot, &handle));
            let Some((relay, early, returned)) = until_taken.await else { break };
            stream = returned;
            if !run_relay(relay, early, &mut stream, &connection).await {
                break drop(stream);
            }
            if connection.is_draining() {
                until_signal(&connection, stream.shutdown()).await;
                break drop(stream);
            }
        }
        drop(guard);
    }
}

/// Runs a relay on a stream that was taken out of hyper. Says whether its response went through, so that hyper can go on.
fn run_relay<T, R>(
    mut relay: Box<R>,
    early: Bytes,
    stream: &mut Received<T>,
    connection: &Connection,
) -> impl Future<Output = bool>
where
    T: ByteStream,
    R: StreamTakeover,
{
    relay.begin(early);
    let signal_cache = connection.watched.signal_cache();
    let mut running = Some(relay);
    poll_fn(move |cx| {
        if !signal_cache.lasts(cx) {
            if connection.poll_signal(cx, || {}) {
                return Poll::Ready(false);
            }
            signal_cache.begin(cx);
        }
        let Some(relay) = &mut running else { return Poll::Ready(false) };
        let is_through = ready!(relay.poll(stream, cx));
        if is_through && let Some(relay) = running.take() {
            stream.put_back(relay.finish());
        }
        Poll::Ready(is_through)
    })
}

/// Serves requests by hyper until one of them leaves a relay; `None` is the end of the connection.
async fn serve_until_taken<T, H, R>(
    stream: Received<T>,
    connection: &Connection,
    slot: &TakeoverSlot<R>,
    handle: &H,
) -> Option<(Box<R>, Bytes, Received<T>)>
where
    T: ByteStream,
    H: Handler,
{
    let mut http = http1::Builder::new()
        .max_headers(MAX_FIELDS)
        .max_header_size(connection.limits.max_header_bytes)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| handle.handle(request.map(|body| Incoming::new(body, None)))),
        );
    let mut response = None;
    let relay = poll_fn(|cx| {
        // A client that takes nothing keeps hyper from asking for more of the response, which would end it.
        let is_cut = response.as_ref().and_then(SignalView::signal) >= Some(Signal::Cut);
        if is_cut || connection.poll_signal(cx, || Pin::new(&mut http).graceful_shutdown()) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(ended) = Pin::new(&mut http).poll(cx) {
            connection.ended(ended);
            return Poll::Ready(None);
        }
        // What is over is let go of: a connection may idle for long.
        response = connection.response.take().or(response.take().filter(|view| !view.is_left()));
        // While the socket takes nothing, hyper may still hold bytes of the response before.
        let relay = if connection.stalled.get() { None } else { slot.take() };
        relay.map_or(Poll::Pending, |relay| Poll::Ready(Some(relay)))
    })
    .await?;
    let parts = http.into_parts();
    Some((relay, parts.read_buf, parts.io.into_inner()))
}

async fn serve_http2<T, H>(stream: T, connection: Rc<Connection>, handle: H)
where
    T: ByteStream,
    H: Handler,
{
    let header_list = u32::try_from(connection.limits.max_header_bytes).unwrap_or(u32::MAX);
    let expectations = Rc::new(Expectations::default());
    let stream = Http2Stream::new(
        stream,
        Rc::clone(&connection),
        Rc::clone(&expectations),
        connection.limits.max_header_bytes,
    );
    let answer = |request: Request<_>| {
        let leave = expectations.begins(request.headers());
        // For as long as its response runs, the stream keeps the room that this takes, unless that is let go of.
        Box::pin(handle.handle(request.map(|body| Incoming::new(body, leave))))
    };
    let mut http = pin!(
        http2::Builder::new(LocalExecutor(Rc::clone(&connection)))
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(header_list)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service_fn(answer))
    );
    let mut is_finishing = false;
    poll_fn(|cx| {
        if connection.poll_signal(cx, || http.as_mut().graceful_shutdown()) {
            return Poll::Ready(());
        }
        loop {
            if let Poll::Ready(ended) = http.as_mut().poll(cx) {
                connection.ended(ended);
                return Poll::Ready(());
            }
            if expectations.has_handed_over() {
                continue;
            }
            if is_finishing || !connection.is_rejected() {
                return Poll::Pending;
            }
            // Whoever shares it, as behind a proxy, is to begin another.
            is_finishing = true;
            http.as_mut().graceful_shutdown();
        }
    })
    .await;
}
