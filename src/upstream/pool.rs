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

use super::{Origin, UpstreamSocket, codec::KeepAlive, spares::Spares};

/// Size of the buffer that a worker reads into. One read takes what 32 KiB hold, events are then
/// copied out; an idle stream owns no buffer. 64 KiB measured worse on event streams.
pub const SCRATCH: usize = 32 * 1024;
/// Room in front of a read for what tasks hold until their next turn: some hundred events, and no large body.
const HOLD: usize = 16 * 1024;
/// Most that one read may hold: what is larger is worth its own way to the client.
const HOLD_EACH: usize = 4 * 1024;
/// Most of one read of a stream. What a client takes nothing of waits in memory by the read, for as many streams as there are;
/// HTTP/2 cuts what is larger into frames of this size anyway (RFC 9113 §4.2).
pub(super) const STREAM_READ: usize = 16 * 1024;
/// Size of a read of a body that keeps filling [`SCRATCH`]. Allocated by a worker that meets one.
const LARGE: usize = 256 * 1024;
/// How long a connection may wait for its next request when the server says nothing: just below the 5 s after which
/// Node and uvicorn close theirs, so that a request is not sent into a connection that is being closed.
const IDLE: Duration = Duration::from_secs(4);
/// The longest wait, whatever the server says in `Keep-Alive: timeout=`.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Connections kept per origin and worker.
const IDLE_CONNECTIONS: usize = 256;
/// Connections that a worker keeps in all, however few there may be.
const LEAST_IDLE: usize = 16;

/// A worker's idle connections and shared buffers.
pub struct Pool {
    idle: RefCell<Vec<(Arc<Origin>, Vec<Idle>)>>,
    /// How many of them there are, and may be.
    count: Cell<usize>,
    most: Cell<usize>,
    /// How many were given so far.
    given: Cell<u64>,
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
pub struct DeferredRead {
    pool: Rc<Pool>,
    range: Range<usize>,
}

/// What became of bytes that were read.
pub enum ReadOutcome<R, H = DeferredRead> {
    /// They were dealt with, with this result.
    Done(R),
    /// They are held.
    Deferred(H),
}

impl DeferredRead {
    /// Hands the bytes to `then`, which must not read from the pool, and gives their room back.
    pub fn take<R>(self, then: impl FnOnce(&[u8]) -> R) -> R {
        then(&self.pool.scratch.borrow().bytes[self.range.clone()])
    }
}

impl Drop for DeferredRead {
    fn drop(&mut self) {
        let mut scratch = self.pool.scratch.borrow_mut();
        scratch.holders -= 1;
        if scratch.holders == 0 {
            scratch.held = 0;
        }
    }
}

struct Idle {
    transport: UpstreamSocket,
    until: Instant,
    /// Its number among all that were given. Those of an origin are in this order.
    number: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
            count: Cell::new(0),
            most: Cell::new(usize::MAX),
            given: Cell::new(0),
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
    /// A live connection to `origin` that waits for a request, the one used last first.
    pub fn take(&self, origin: &Arc<Origin>) -> Option<UpstreamSocket> {
        let mut idle = self.idle.borrow_mut();
        let (_, connections) = idle.iter_mut().find(|(known, _)| Arc::ptr_eq(known, origin))?;
        let now = self.now.get();
        while let Some(mut connection) = connections.pop() {
            self.count.set(self.count.get() - 1);
            if connection.until > now && is_quiet(&mut connection.transport) {
                return Some(connection.transport);
            }
        }
        None
    }

    /// Keeps a connection whose exchange is over, if need be in place of the one that was given first.
    pub fn give(&self, origin: &Arc<Origin>, transport: UpstreamSocket, keep_alive: KeepAlive) {
        // A second less than promised: the promise began when the server sent it.
        let wait = keep_alive
            .promised
            .map_or(IDLE, |promised| promised.saturating_sub(Duration::from_secs(1)).min(IDLE_MAX));
        self.given.set(self.given.get() + 1);
        let connection = Idle { transport, until: self.now.get() + wait, number: self.given.get() };
        let mut idle = self.idle.borrow_mut();
        match idle.iter_mut().find(|(known, _)| Arc::ptr_eq(known, origin)) {
            Some((_, connections)) if connections.len() >= IDLE_CONNECTIONS => return,
            Some((_, connections)) => connections.push(connection),
            None => idle.push((Arc::clone(origin), vec![connection])),
        }
        self.count.set(self.count.get() + 1);
        if self.count.get() > self.most.get() {
            let first = |connections: &[Idle]| connections.first().map_or(u64::MAX, |first| first.number);
            if let Some((_, connections)) = idle.iter_mut().min_by_key(|(_, connections)| first(connections))
                && !connections.is_empty()
            {
                connections.remove(0);
                self.count.set(self.count.get() - 1);
            }
        }
    }

    /// Keeps no more connections in all than this from now on, or a few.
    pub fn keep_most(&self, most: usize) {
        let most = most.max(LEAST_IDLE);
        self.most.set(most);
        let too_many = self.count.get().saturating_sub(most);
        if too_many == 0 {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let all = idle.iter().flat_map(|(_, connections)| connections);
        let mut numbers: Vec<u64> = all.map(|connection| connection.number).collect();
        let (_, last, _) = numbers.select_nth_unstable(too_many - 1);
        for (_, connections) in idle.iter_mut() {
            connections.retain(|connection| connection.number > *last);
        }
        self.count.set(most);
    }

    /// Closes what has waited too long, and everything to origins for which `in_use` is false.
    pub fn sweep(&self, now: Instant, in_use: impl Fn(&Arc<Origin>) -> bool) {
        self.now.set(now);
        let mut count = 0;
        self.idle.borrow_mut().retain_mut(|(origin, connections)| {
            connections.retain(|connection| connection.until > now);
            let stays = !connections.is_empty() && in_use(origin);
            count += if stays { connections.len() } else { 0 };
            stays
        });
        self.count.set(count);
    }

    /// Like [`Pool::read_up_to`], for bodies that have filled the buffer before: fewer, larger reads.
    pub fn read_large<R>(
        &self,
        transport: &mut UpstreamSocket,
        cx: &mut Context<'_>,
        then: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        let mut large = self.large.borrow_mut();
        large.resize(LARGE, 0);
        read_into(&mut large, transport, cx, then)
    }

    /// Reads once from `transport` into the worker's buffer, at most so many bytes, and hands what came to `then`; an empty
    /// slice is the end.
    pub fn read_up_to<R>(
        &self,
        most: usize,
        transport: &mut UpstreamSocket,
        cx: &mut Context<'_>,
        then: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        let mut scratch = self.scratch.borrow_mut();
        read_into(&mut scratch.free()[..most.min(SCRATCH)], transport, cx, then)
    }

    /// Like [`Pool::read_up_to`], for a task that may leave what it read to its next turn: `then` also gets how many bytes
    /// there is room to hold.
    pub fn read_or_hold<R>(
        self: &Rc<Self>,
        transport: &mut UpstreamSocket,
        cx: &mut Context<'_>,
        then: impl FnOnce(&mut Context<'_>, &[u8], usize) -> ReadOutcome<R, usize>,
    ) -> Poll<io::Result<ReadOutcome<R>>> {
        let mut scratch = self.scratch.borrow_mut();
        let room = (HOLD - scratch.held).min(HOLD_EACH);
        let passed = ready!(read_into(scratch.free(), transport, cx, |cx, bytes| then(cx, bytes, room)))?;
        Poll::Ready(Ok(match passed {
            ReadOutcome::Done(done) => ReadOutcome::Done(done),
            ReadOutcome::Deferred(bytes) => {
                let start = scratch.held;
                scratch.held += bytes;
                scratch.holders += 1;
                ReadOutcome::Deferred(DeferredRead { pool: Rc::clone(self), range: start..start + bytes })
            }
        }))
    }
}

fn read_into<R>(
    buffer: &mut [u8],
    transport: &mut UpstreamSocket,
    cx: &mut Context<'_>,
    then: impl FnOnce(&mut Context<'_>, &[u8]) -> R,
) -> Poll<io::Result<R>> {
    let mut buf = ReadBuf::new(buffer);
    ready!(Pin::new(transport).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(then(cx, buf.filled())))
}

/// Whether nothing happened on an idle connection: neither end nor bytes.
fn is_quiet(transport: &mut UpstreamSocket) -> bool {
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

    async fn server() -> (UpstreamSocket, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let theirs = listener.accept().await.unwrap().0.into_std().unwrap();
        theirs.set_nonblocking(false).unwrap();
        (UpstreamSocket::Left(ours), theirs)
    }

    /// Reads what `server` is made to write, and holds it if there is room.
    async fn read(
        pool: &Rc<Pool>,
        (transport, server): &mut (UpstreamSocket, std::net::TcpStream),
        what: &[u8],
    ) -> ReadOutcome<Vec<u8>> {
        server.write_all(what).unwrap();
        poll_fn(|cx| {
            pool.read_or_hold(transport, cx, |_, bytes, room| {
                assert_eq!(bytes, what);
                if bytes.len() <= room {
                    ReadOutcome::Deferred(bytes.len())
                } else {
                    ReadOutcome::Done(bytes.to_vec())
                }
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
                let ReadOutcome::Deferred(held) = read(&pool, &mut servers[n % 2], &what).await else {
                    panic!("round {round}, read {n}")
                };
                all.push((held, what));
            }
            let ReadOutcome::Done(more) = read(&pool, &mut servers[0], b"more").await else {
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
        let ReadOutcome::Done(bytes) = read(&pool, &mut server().await, &large).await else {
            panic!("it was held")
        };
        assert_eq!(bytes, large);
    }

    #[tokio::test]
    async fn other_reads_leave_what_is_held_alone() {
        let pool = Rc::new(Pool::default());
        let (mut one, mut other) = (server().await, server().await);
        let ReadOutcome::Deferred(held) = read(&pool, &mut one, b"held").await else {
            panic!("there is room")
        };
        other.1.write_all(b"something else").unwrap();
        let (transport, _) = &mut other;
        let len =
            poll_fn(|cx| pool.read_up_to(SCRATCH, transport, cx, |_, bytes| bytes.len())).await.unwrap();
        assert_eq!(len, 14);
        held.take(|bytes| assert_eq!(bytes, b"held"));
    }

    fn origin() -> Arc<Origin> {
        Arc::new(Origin::new(&"http://127.0.0.1:9".parse().unwrap(), None, &mut Default::default()).unwrap())
    }

    #[tokio::test]
    async fn what_is_kept_has_a_bound_in_all_and_the_oldest_goes() {
        let pool = Pool::default();
        let origins: Vec<_> = (0..LEAST_IDLE).map(|_| origin()).collect();
        let mut theirs = Vec::new();
        let mut give = async |at: usize| {
            let (transport, server) = server().await;
            pool.give(&origins[at], transport, KeepAlive { promised: None });
            theirs.push(server);
        };
        // Two each, of which the first half were given first.
        for at in (0..LEAST_IDLE).chain(0..LEAST_IDLE) {
            give(at).await;
        }
        give(0).await;
        assert_eq!(pool.count.get(), 2 * LEAST_IDLE + 1);
        pool.keep_most(0);
        assert_eq!(pool.count.get(), LEAST_IDLE, "a few are kept however few there may be");
        give(1).await;
        assert_eq!(pool.count.get(), LEAST_IDLE);
        let kept = |at: usize| std::iter::from_fn(|| pool.take(&origins[at])).count();
        // That of the second round at 0 was given before all others but those of the first round, then that at 1.
        assert_eq!([kept(0), kept(1), kept(2)], [1, 1, 1]);
        assert!((3..LEAST_IDLE).all(|at| kept(at) == 1));
        assert_eq!(pool.count.get(), 0);

        give(0).await;
        pool.sweep(Instant::now(), |_| false);
        assert_eq!(pool.count.get(), 0);
        give(0).await;
        pool.sweep(Instant::now() + IDLE_MAX, |_| true);
        assert_eq!(pool.count.get(), 0);
    }
}
