//! A worker: one thread with a runtime, connections and watchdog of its own.
//!
//! Both sockets of a stream live on one thread, so an event costs no hop between threads, and nothing that requests
//! touch is locked.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use hyper::body::Incoming;
use tokio::{
    net::TcpStream,
    runtime,
    sync::{OwnedSemaphorePermit, mpsc},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    identity::Subject,
    server::connection::{self, Connection, Door, Slot},
    service,
    state::{Shared, Worker},
    watchdog::{Signal, TICK},
};

/// A client connection on its way to a worker.
pub struct Arrival {
    /// The socket, registered with no runtime.
    pub stream: std::net::TcpStream,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Listener it came in by.
    pub door: Door,
    /// Held as long as the connection is open.
    pub permit: OwnedSemaphorePermit,
}

enum Message {
    Serve(Arrival),
    Reloaded,
    Drain,
    Cut,
}

/// A running worker, from outside.
pub struct Handle {
    // Unbounded, and bounded all the same: every arrival holds one of the connection permits, and the other messages are
    // a few per reload.
    messages: mpsc::UnboundedSender<Message>,
    open: Arc<AtomicUsize>,
}

impl Handle {
    /// Starts worker number `index`. `acceptor` terminates TLS on the public listener.
    pub fn start(index: usize, shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) -> io::Result<Self> {
        let (messages, inbox) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let of_thread = Arc::clone(&open);
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        // The thread ends when this handle is gone and its connections are.
        thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(runtime::LocalOptions::default());
            match runtime {
                Err(e) => drop(started.send(Err(e))),
                Ok(runtime) => {
                    drop(started.send(Ok(())));
                    runtime.block_on(run(shared, acceptor, inbox, of_thread));
                }
            }
        })?;
        outcome.recv().map_err(io::Error::other)??;
        Ok(Self { messages, open })
    }

    /// Client connections that this worker has.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Hands over a connection.
    pub fn serve(&self, arrival: Arrival) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Serve(arrival));
    }

    /// There is a new config: end what it no longer admits.
    pub fn reloaded(&self) {
        self.send(Message::Reloaded);
    }

    /// Finish what runs, take nothing new on any connection.
    pub fn drain(&self) {
        self.send(Message::Drain);
    }

    /// End everything now.
    pub fn cut(&self) {
        self.send(Message::Cut);
    }

    fn send(&self, message: Message) {
        // Fails only when the worker ended, and then there is nothing to tell.
        let _ = self.messages.send(message);
    }
}

async fn run(
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
    mut inbox: mpsc::UnboundedReceiver<Message>,
    open: Arc<AtomicUsize>,
) {
    let worker = Rc::new(Worker::new(shared));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ended = false;
    loop {
        tokio::select! {
            message = inbox.recv(), if !ended => match message {
                Some(Message::Serve(arrival)) => serve(&worker, arrival, acceptor.clone(), Arc::clone(&open)),
                Some(Message::Reloaded) => worker.reloaded(),
                Some(Message::Drain) => worker.watchdog.signal(|subject| matches!(subject, Subject::Connection).then_some(Signal::Drain)),
                Some(Message::Cut) => worker.cut().await,
                None => ended = true,
            },
            _ = ticks.tick() => worker.tick(),
        }
        if ended && open.load(Ordering::Relaxed) == 0 {
            return;
        }
    }
}

/// Counts a connection for as long as it is open, however it ends.
struct Open {
    of_worker: Arc<AtomicUsize>,
    of_gate: prometheus::IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.of_worker.fetch_sub(1, Ordering::Relaxed);
        self.of_gate.dec();
    }
}

fn serve(worker: &Rc<Worker>, arrival: Arrival, acceptor: Option<TlsAcceptor>, open: Arc<AtomicUsize>) {
    let of_gate = worker.shared.observer.metrics.connections_open.clone();
    of_gate.inc();
    let guard = Open { of_worker: open, of_gate, _permit: arrival.permit };
    let Ok(stream) = TcpStream::from_std(arrival.stream) else { return };
    let acceptor = acceptor.filter(|_| arrival.door == Door::Public);
    let limits = worker.shared.live().limits.clone();
    let watched = worker.watchdog.watch(Subject::Connection);
    let connection = Rc::new(Connection::new(arrival.peer, arrival.door, limits, watched));
    let (worker, observer) = (Rc::clone(worker), Arc::clone(&worker.shared.observer));
    tokio::task::spawn_local(async move {
        let _guard = guard;
        let slot = Slot::default();
        let (of_connection, of_slot) = (Rc::clone(&connection), Rc::clone(&slot));
        let handle = move |request: http::Request<Incoming>| {
            service::handle(Rc::clone(&worker), Rc::clone(&of_connection), Rc::clone(&of_slot), request)
        };
        let served = connection::serve(stream, acceptor, Rc::clone(&connection), slot, handle);
        if let Some(rejection) = served.await {
            observer.rejected(rejection, &connection.peer);
        }
    });
}

impl Worker {
    fn tick(&self) {
        let now = Instant::now();
        self.watchdog.tick(now);
        self.shared.observer.tick();
        let live = self.shared.live();
        self.pool.sweep(now, |endpoint| live.uses(endpoint));
        if live.has_expiry() | self.sees_change() {
            drop(live);
            self.revoke();
        }
    }

    fn reloaded(&self) {
        self.revoke();
        let live = self.shared.live();
        self.pool.sweep(Instant::now(), |endpoint| live.uses(endpoint));
    }

    /// Ends what the config of this moment does not admit.
    fn revoke(&self) {
        let (live, now) = (self.shared.live(), SystemTime::now());
        self.watchdog.signal(|subject| match subject {
            Subject::Request(grant) if !live.still_admits(grant, now) => Some(Signal::Revoked),
            Subject::Request(grant) if live.was_stopped_since(grant) => Some(Signal::Cut),
            Subject::Request(_) | Subject::Connection => None,
        });
    }

    /// Requests first, so that they record why they end; then whatever is left of their connections.
    async fn cut(&self) {
        self.watchdog.signal(|subject| matches!(subject, Subject::Request(_)).then_some(Signal::Cut));
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.watchdog.signal(|subject| matches!(subject, Subject::Connection).then_some(Signal::Cut));
    }
}
