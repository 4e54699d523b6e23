//! Connections that a worker keeps for the next request, and the buffers that its requests share.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Endpoint, Transport, codec::KeepAlive};

/// Size of the buffer that a worker reads into. One read takes what 32 KiB hold, events are then
/// copied out; an idle stream owns no buffer. 64 KiB measured worse on event streams.
pub const SCRATCH: usize = 32 * 1024;
/// Size of a read of a body that keeps filling [`SCRATCH`]. Allocated by a worker that meets one.
const LARGE: usize = 256 * 1024;
/// How long a connection may wait for its next request when the server says nothing: just below the 5 s after which
/// Node and uvicorn close theirs, so that a request is not sent into a connection that is being closed.
const IDLE: Duration = Duration::from_secs(4);
/// The longest wait, whatever the server says in `Keep-Alive: timeout=`.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Connections kept per endpoint and worker.
const IDLE_CONNECTIONS: usize = 256;

/// A worker's idle connections and shared buffers.
pub struct Pool {
    idle: RefCell<Vec<(Arc<Endpoint>, Vec<Idle>)>>,
    scratch: RefCell<Box<[u8]>>,
    large: RefCell<Vec<u8>>,
    /// The moment of the last [`Pool::sweep`]: near enough for seconds of idleness.
    now: Cell<Instant>,
}

struct Idle {
    transport: Transport,
    until: Instant,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            large: RefCell::default(),
            now: Cell::new(Instant::now()),
        }
    }
}

impl Pool {
    /// A live connection to `endpoint` that waits for a request, the one used last first.
    pub fn take(&self, endpoint: &Arc<Endpoint>) -> Option<Transport> {
        let mut idle = self.idle.borrow_mut();
        let (_, connections) = idle.iter_mut().find(|(known, _)| Arc::ptr_eq(known, endpoint))?;
        let now = self.now.get();
        while let Some(mut connection) = connections.pop() {
            if connection.until > now && is_quiet(&mut connection.transport) {
                return Some(connection.transport);
            }
        }
        None
    }

    /// Keeps a connection whose exchange is over.
    pub fn give(&self, endpoint: &Arc<Endpoint>, transport: Transport, keep_alive: KeepAlive) {
        // A second less than promised: the promise began when the server sent it.
        let wait = keep_alive
            .promised
            .map_or(IDLE, |promised| promised.saturating_sub(Duration::from_secs(1)).min(IDLE_MAX));
        let connection = Idle { transport, until: self.now.get() + wait };
        let mut idle = self.idle.borrow_mut();
        match idle.iter_mut().find(|(known, _)| Arc::ptr_eq(known, endpoint)) {
            Some((_, connections)) if connections.len() >= IDLE_CONNECTIONS => {}
            Some((_, connections)) => connections.push(connection),
            None => idle.push((Arc::clone(endpoint), vec![connection])),
        }
    }

    /// Closes what has waited too long, and everything to endpoints for which `in_use` is false.
    pub fn sweep(&self, now: Instant, in_use: impl Fn(&Arc<Endpoint>) -> bool) {
        self.now.set(now);
        self.idle.borrow_mut().retain_mut(|(endpoint, connections)| {
            connections.retain(|connection| connection.until > now);
            !connections.is_empty() && in_use(endpoint)
        });
    }

    /// Like [`Pool::read`], for bodies that have filled the buffer before: fewer, larger reads.
    pub fn read_large<R>(
        &self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        then: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        let mut large = self.large.borrow_mut();
        large.resize(LARGE, 0);
        read_into(&mut large, transport, cx, then)
    }

    /// Reads once from `transport` into the worker's buffer and hands what came to `then`; an empty slice is the end.
    pub fn read<R>(
        &self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        then: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        read_into(&mut self.scratch.borrow_mut(), transport, cx, then)
    }
}

fn read_into<R>(
    buffer: &mut [u8],
    transport: &mut Transport,
    cx: &mut Context<'_>,
    then: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
) -> Poll<io::Result<R>> {
    let mut buf = ReadBuf::new(buffer);
    std::task::ready!(Pin::new(transport).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(then(cx, buf.filled())))
}

/// Whether nothing happened on an idle connection: neither end nor bytes that nobody asked for.
fn is_quiet(transport: &mut Transport) -> bool {
    let mut byte = [0];
    let read =
        Pin::new(transport).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
    read.is_pending()
}
