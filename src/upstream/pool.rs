//! Connections that a worker keeps for the next request, and the buffers that its requests share.

use std::{
    cell::{Cell, RefCell},
    io,
    ops::Range,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Endpoint, Transport, codec::KeepAlive, spares::Spares};

/// Size of the buffer that a worker reads into. One read takes what 32 KiB hold, events are then
/// copied out; an idle stream owns no buffer. 64 KiB measured worse on event streams.
pub const SCRATCH: usize = 32 * 1024;
/// Room in front of a read for what tasks hold until their next turn: some hundred events, and no large body.
const HOLD: usize = 16 * 1024;
/// Most that one read may hold: what is larger is worth its own way to the client.
const HOLD_EACH: usize = 4 * 1024;
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
    scratch: RefCell<Scratch>,
    large: RefCell<Vec<u8>>,
    /// Memory for what is short.
    pub spares: Spares,
    /// The moment of the last [`Pool::sweep`]: near enough for seconds of idleness.
    now: Cell<Instant>,
}

/// The buffer that reads go to: behind what is held, if anything is.
struct Scratch {
    bytes: Box<[u8]>,
    /// End of what is held.
    held: usize,
    holders: usize,
}

impl Scratch {
    fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.held..][..SCRATCH]
    }
}

/// Bytes that lie where they were read until the task that read them has its next turn. Not for longer: as long as anything is
/// held, the room that others held is not free again.
pub struct Held {
    pool: Rc<Pool>,
    range: Range<usize>,
}

/// What became of bytes that were read.
pub enum Passed<R, H = Held> {
    /// They were dealt with, with this result.
    Now(R),
    /// They are held.
    Held(H),
}

impl Held {
    /// Hands the bytes to `then`, which must not read from the pool, and gives their room back.
    pub fn take<R>(self, then: impl FnOnce(&[u8]) -> R) -> R {
        then(&self.pool.scratch.borrow().bytes[self.range.clone()])
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut scratch = self.pool.scratch.borrow_mut();
        scratch.holders -= 1;
        if scratch.holders == 0 {
            scratch.held = 0;
        }
    }
}

struct Idle {
    transport: Transport,
    until: Instant,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
            scratch: RefCell::new(Scratch {
                bytes: vec![0; HOLD + SCRATCH].into_boxed_slice(),
                held: 0,
                holders: 0,
            }),
            large: RefCell::default(),
            spares: Spares::default(),
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
        read_into(self.scratch.borrow_mut().free(), transport, cx, then)
    }

    /// Like [`Pool::read`], for a task that may leave what it read to its next turn: `then` also hears how many bytes
    /// there is room to hold.
    pub fn read_or_hold<R>(
        self: &Rc<Self>,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        then: impl FnOnce(&mut Context<'_>, &[u8], usize) -> Passed<R, usize>,
    ) -> Poll<io::Result<Passed<R>>> {
        let mut scratch = self.scratch.borrow_mut();
        let room = (HOLD - scratch.held).min(HOLD_EACH);
        let passed = ready!(read_into(scratch.free(), transport, cx, |cx, bytes| then(cx, bytes, room)))?;
        Poll::Ready(Ok(match passed {
            Passed::Now(done) => Passed::Now(done),
            Passed::Held(bytes) => {
                let start = scratch.held;
                scratch.held += bytes;
                scratch.holders += 1;
                Passed::Held(Held { pool: Rc::clone(self), range: start..start + bytes })
            }
        }))
    }
}

fn read_into<R>(
    buffer: &mut [u8],
    transport: &mut Transport,
    cx: &mut Context<'_>,
    then: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
) -> Poll<io::Result<R>> {
    let mut buf = ReadBuf::new(buffer);
    ready!(Pin::new(transport).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(then(cx, buf.filled())))
}

/// Whether nothing happened on an idle connection: neither end nor bytes that nobody asked for.
fn is_quiet(transport: &mut Transport) -> bool {
    let mut byte = [0];
    let read =
        Pin::new(transport).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
    read.is_pending()
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write as _};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn server() -> (Transport, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let theirs = listener.accept().await.unwrap().0.into_std().unwrap();
        theirs.set_nonblocking(false).unwrap();
        (Transport::Tcp(ours), theirs)
    }

    /// Reads what `server` is made to write, and holds it if there is room.
    async fn read(
        pool: &Rc<Pool>,
        (transport, server): &mut (Transport, std::net::TcpStream),
        what: &[u8],
    ) -> Passed<Vec<u8>> {
        server.write_all(what).unwrap();
        poll_fn(|cx| {
            pool.read_or_hold(transport, cx, |_, bytes, room| {
                assert_eq!(bytes, what);
                if bytes.len() <= room { Passed::Held(bytes.len()) } else { Passed::Now(bytes.to_vec()) }
            })
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn what_is_held_stays_as_it_was_read_and_its_room_comes_back() {
        let pool = Rc::new(Pool::default());
        let mut servers = [server().await, server().await];
        for round in 0..3 {
            let mut all = Vec::new();
            for n in 0..HOLD / HOLD_EACH {
                let what = [b'a' + n as u8; HOLD_EACH];
                let Passed::Held(held) = read(&pool, &mut servers[n % 2], &what).await else {
                    panic!("round {round}, read {n}")
                };
                all.push((held, what));
            }
            let Passed::Now(more) = read(&pool, &mut servers[0], b"more").await else {
                panic!("round {round}: there was no room")
            };
            assert_eq!(more, b"more");
            // One is given up with its connection, the others go out.
            drop(all.pop());
            for (held, what) in all {
                held.take(|bytes| assert_eq!(bytes, what));
            }
        }
    }

    #[tokio::test]
    async fn a_large_read_is_not_held() {
        let pool = Rc::new(Pool::default());
        let large = [b'x'; HOLD_EACH + 1];
        let Passed::Now(bytes) = read(&pool, &mut server().await, &large).await else {
            panic!("it was held")
        };
        assert_eq!(bytes, large);
    }

    #[tokio::test]
    async fn other_reads_leave_what_is_held_alone() {
        let pool = Rc::new(Pool::default());
        let (mut one, mut other) = (server().await, server().await);
        let Passed::Held(held) = read(&pool, &mut one, b"held").await else { panic!("there is room") };
        other.1.write_all(b"something else").unwrap();
        let (transport, _) = &mut other;
        let len = poll_fn(|cx| pool.read(transport, cx, |_, bytes| bytes.len())).await.unwrap();
        assert_eq!(len, 14);
        held.take(|bytes| assert_eq!(bytes, b"held"));
    }
}
