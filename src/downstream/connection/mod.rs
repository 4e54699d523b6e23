//! What is known of one client connection, and when it ends. How it is served is in `serving`.

mod requests;
mod serving;

pub use crate::downstream::connection::{
    requests::Fault,
    serving::{Handler, StreamTakeover, TakeoverSlot, serve},
};

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use http::Method;

use crate::downstream::connection::requests::{HeadProgress, Requests};
use crate::downstream::{
    rejection::Rejection,
    slots::{ConnectionId, ConnectionSlot},
};
use crate::{
    config::Limits,
    identity::{Subject, Visitor},
    ledger::{Ledger, Limit, Owner, OwnerName, Resource, Share},
    watchdog::{Moment, Signal, SignalView, Watched},
};

/// How long a connection may be kept open between two requests; nginx's default.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The same as long as none of its requests was admitted.
const KEEP_ALIVE_UNADMITTED: Duration = Duration::from_secs(5);
/// Most header fields of a request. Over HTTP/1.1 hyper counts them; over HTTP/2 that is left to who reads the request.
pub const MAX_FIELDS: usize = 100;

/// How long a connection is kept in a drain on which no answer is waited for: what a client is about to send may still come,
/// and what it received (RFC 9113 §6.8) it may answer.
const UNUSED_IN_DRAIN: Duration = Duration::from_secs(1);

/// How long a client that ended its side may wait for the answer to a call. Closing the connection looks the same, so it is also
/// how late a server learns that its caller left.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// Which of the gateway's listeners a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// `proxy.addr`
    Public,
    /// `proxy.admin.addr`
    Admin {
        /// Whether others than this machine can connect to it, who need a token then.
        is_remote: bool,
    },
}

/// What the gateway knows of a connection, shared by its requests.
pub struct Connection {
    /// Address of the client, as text: every line of the log has it.
    pub peer: Box<str>,
    /// The same, without the port.
    pub address: IpAddr,
    /// Listener it came in by.
    pub listener_kind: ListenerKind,
    connection_slot: RefCell<ConnectionSlot>,
    /// Whose it is, since the first request that was admitted.
    share: Cell<Option<Share>>,
    /// For whom the last request without a token was counted, and the address that it came from.
    of_address: Cell<Option<Box<OfAddress>>>,
    limits: Arc<Limits>,
    watched: Watched<Visitor>,
    phase: Cell<Phase>,
    /// Requests that run; HTTP/2 has several.
    running: Cell<u32>,
    /// Those of them that were admitted.
    awaited: Cell<u32>,
    /// Since when the socket takes nothing.
    stalled: Cell<bool>,
    slow_reader: Cell<bool>,
    /// What comes over HTTP/1.
    requests: RefCell<Requests>,
    /// What is wrong with the head of the current one.
    fault: Cell<Option<Fault>>,
    /// Whether the current request is a call, whose client may end its side and wait for the answer.
    is_call: Cell<bool>,
    /// When the client ended its side of it.
    half_closed: Cell<Option<Moment>>,
    /// The client sent more frames than it had reason for.
    is_flood: Cell<bool>,
    /// A request of this HTTP/2 connection had one; which, is not known.
    is_rejected: Cell<bool>,
    draining: Cell<bool>,
    /// The gateway drains.
    is_gateway_draining: Cell<bool>,
    /// Since when no answer is waited for on it, in a drain.
    unused_since: Cell<Option<Moment>>,
    /// It was ended from outside.
    is_cut: Cell<bool>,
    http1: Cell<bool>,
    /// Why it ended, if it was for something that never became a request.
    rejected: Cell<Option<Rejection>>,
    /// The response that the task of this moment began; its task takes it from here.
    response: Cell<Option<SignalView<Subject>>>,
}

/// Of public servers only, and so in a box.
struct OfAddress {
    address: IpAddr,
    owner: Arc<Owner>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte of the next request is here.
    Idle,
    /// Inside the head.
    Head,
    /// Behind the head, of which the request is about to begin.
    BehindHead,
    /// At least one request runs.
    Serving,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(
        peer: SocketAddr,
        listener_kind: ListenerKind,
        connection_slot: ConnectionSlot,
        limits: Arc<Limits>,
        watched: Watched<Visitor>,
    ) -> Self {
        watched.set_deadline(Some(limits.header_timeout));
        let longest_line = limits.max_header_bytes;
        Self {
            peer: peer.to_string().into(),
            address: peer.ip(),
            listener_kind,
            connection_slot: RefCell::new(connection_slot),
            share: Cell::default(),
            of_address: Cell::default(),
            limits,
            watched,
            phase: Cell::new(Phase::Idle),
            running: Cell::new(0),
            awaited: Cell::new(0),
            stalled: Cell::new(false),
            slow_reader: Cell::new(false),
            requests: RefCell::new(Requests::new(longest_line)),
            fault: Cell::new(None),
            is_call: Cell::new(false),
            half_closed: Cell::new(None),
            is_flood: Cell::new(false),
            is_rejected: Cell::new(false),
            draining: Cell::new(false),
            is_gateway_draining: Cell::new(false),
            unused_since: Cell::new(None),
            is_cut: Cell::new(false),
            http1: Cell::new(false),
            rejected: Cell::new(None),
            response: Cell::new(None),
        }
    }

    /// Which connection it is.
    pub fn id(&self) -> ConnectionId {
        self.connection_slot.borrow().id()
    }

    /// A request of `owner` may pass, if the owner may have another connection. Asked for each request, and decided by the
    /// first.
    pub fn admit(&self, owner: &Arc<Owner>) -> Result<(), Limit> {
        if !self.is_admitted() {
            self.share.set(Some(owner.take(Resource::Connections)?));
            self.keep();
        }
        Ok(())
    }

    /// It is not one of strangers any more, and is not evicted.
    pub fn keep(&self) {
        if !self.watched.subject().is_admitted.replace(true) {
            self.connection_slot.borrow_mut().admitted();
        }
    }

    /// The token of a request is not good. A connection whose caller was admitted by one that was taken away since is one of
    /// strangers again; not if other requests run on it, nor if it is a balancer's, who sends those of many.
    pub fn refused(&self, ledger: &Ledger) {
        let is_caller_s = |share: &Share| !Arc::ptr_eq(share.owner(), ledger.gateway());
        let share = self.share.take();
        if self.running.get() <= 1 && share.as_ref().is_some_and(is_caller_s) {
            self.watched.subject().is_admitted.set(false);
            self.connection_slot.borrow_mut().refused();
        } else {
            self.share.set(share);
        }
    }

    /// For whom a request without a token counts: `client`, for which a balancer forwards it, or the address that connected.
    pub fn owner(&self, client: Option<IpAddr>, ledger: &Ledger) -> Arc<Owner> {
        let address = client.unwrap_or(self.address);
        let last = self.of_address.take().filter(|last| last.address == address);
        let last = last.unwrap_or_else(|| {
            let owner = ledger.owner(OwnerName::Address(address.into()));
            Box::new(OfAddress { address, owner })
        });
        let owner = Arc::clone(&last.owner);
        self.of_address.set(Some(last));
        owner
    }

    fn is_admitted(&self) -> bool {
        self.watched.subject().is_admitted.get()
    }

    fn keep_alive(&self) -> Duration {
        if self.is_admitted() { KEEP_ALIVE } else { KEEP_ALIVE_UNADMITTED }
    }

    /// Has it end `after` this time from now, or never; in a drain soon, if no answer is waited for here.
    fn set_deadline(&self, after: Option<Duration>) {
        let mut after = after;
        if self.is_gateway_draining.get() {
            let unused_since =
                self.is_unused().then(|| self.unused_since.get().unwrap_or_else(|| self.watched.moment()));
            self.unused_since.set(unused_since);
            if let Some(since) = unused_since {
                let left = (since + UNUSED_IN_DRAIN).saturating_duration_since(self.watched.moment());
                after = Some(after.map_or(left, |after| after.min(left)));
            }
        }
        self.watched.set_deadline(after);
    }

    /// Whether no answer is waited for here: no request runs that was admitted, and none of one waits for a client to take
    /// the end of its answer. Answers to strangers do not count.
    fn is_unused(&self) -> bool {
        self.awaited.get() == 0 && !(self.stalled.get() && self.is_admitted())
    }

    /// How long it may be as it is.
    fn deadline(&self) -> Option<Duration> {
        match (self.stalled.get(), self.phase.get()) {
            (true, _) => Some(self.limits.slow_reader_timeout),
            (false, Phase::Serving) => None,
            (false, Phase::Idle) => Some(self.keep_alive()),
            (false, Phase::Head | Phase::BehindHead) => Some(self.limits.header_timeout),
        }
    }

    /// The client opened a window further, and so took something: in a drain, that shows that it waits for the rest.
    pub(super) fn took_something(&self) {
        if self.is_gateway_draining.get() && self.is_admitted() && self.awaited.get() == 0 {
            self.unused_since.set(None);
            self.set_deadline(self.deadline());
        }
    }

    /// The current request was admitted, and its client waits for the answer. Say so to [`Connection::request_ended`].
    pub fn note_awaited(&self) {
        self.awaited.set(self.awaited.get() + 1);
        if self.is_gateway_draining.get() {
            self.set_deadline(self.deadline());
        }
    }

    /// A request's head is complete. Pair it with [`Connection::request_ended`].
    pub fn request_began(&self, method: &Method) {
        self.is_call.set(method == Method::POST);
        self.running.set(self.running.get() + 1);
        self.phase.set(Phase::Serving);
        if self.is_http1() {
            self.fault.set(self.requests.borrow_mut().begins());
        }
        if !self.stalled.get() {
            self.set_deadline(None);
        }
    }

    /// A request's response is through, or was given up.
    pub fn request_ended(&self, was_awaited: bool) {
        self.running.set(self.running.get() - 1);
        self.awaited.set(self.awaited.get() - u32::from(was_awaited));
        if self.running.get() == 0 {
            self.phase.set(self.phase_between());
            if !self.stalled.get() {
                self.set_deadline(self.deadline());
            }
        } else if self.is_gateway_draining.get() {
            self.set_deadline(self.deadline());
        }
    }

    /// A response begins that may have to be ended while hyper does not ask for more of it, because the client takes
    /// nothing. Whoever polls it next takes the view.
    pub fn set_response(&self, view: SignalView<Subject>) {
        self.response.set(Some(view));
    }

    /// Whether the client was cut off because it took nothing for too long.
    pub fn was_slow_reader(&self) -> bool {
        self.slow_reader.get()
    }

    /// Whether the connection closes once its requests are through.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// The current response is the last of an HTTP/1 connection.
    pub fn close_after_response(&self) {
        self.draining.set(true);
    }

    fn is_http1(&self) -> bool {
        self.http1.get()
    }

    /// Whether a response may leave hyper here: not on HTTP/2, where it shares the stream with others, and not on a
    /// connection that is to be closed behind it.
    pub fn may_relay(&self) -> bool {
        self.is_http1() && !self.draining.get()
    }

    /// Whether no request can be served behind the current one of an HTTP/1 connection.
    pub fn ends_with_this(&self) -> bool {
        self.is_http1() && self.requests.borrow().are_over()
    }

    /// What is wrong with the head of the current request; asking forgets it. Of an HTTP/2 connection, every request counts as
    /// having a fragment from the first on that has.
    pub fn take_fault(&self) -> Option<Fault> {
        if self.is_rejected.get() { Some(Fault::Fragment) } else { self.fault.take() }
    }

    /// The client sent a path with a fragment over HTTP/2.
    pub(super) fn reject(&self) {
        self.is_rejected.set(true);
    }

    pub(super) fn is_rejected(&self) -> bool {
        self.is_rejected.get()
    }

    /// The client ended its side. Says whether that means that it left: not yet, if it may be waiting for the answer to a call.
    /// Only a write to it could show that, so it gets some time. The task is woken when it is time to ask again.
    pub(super) fn has_left(&self) -> bool {
        let waits = match self.phase.get() {
            Phase::Idle | Phase::Head => false,
            // The next look finds what the request is.
            Phase::BehindHead => true,
            Phase::Serving => self.is_call.get(),
        };
        let now = self.watched.moment();
        let since = self.half_closed.get().unwrap_or_else(|| {
            self.half_closed.set(Some(now));
            now
        });
        let left_at = since + HALF_CLOSED;
        if !waits || now >= left_at {
            return true;
        }
        let is_known = self.phase.get() == Phase::Serving;
        self.watched.set_alarm(if is_known { left_at } else { now });
        false
    }

    /// The moment of the worker's last tick.
    pub(super) fn now(&self) -> Instant {
        self.watched.now()
    }

    /// The client sent more frames over HTTP/2 than it had reason for, and the connection ends.
    pub(super) fn calm_down(&self) {
        self.is_flood.set(true);
    }

    /// The client sent this over HTTP/1.
    pub(super) fn received(&self, bytes: &[u8]) {
        self.requests.borrow_mut().received(bytes);
        if self.running.get() > 0 {
            return;
        }
        let phase = self.phase_between();
        // A request whose head came at once begins at once.
        if self.phase.replace(phase) == Phase::Idle && phase == Phase::Head {
            self.set_deadline(Some(self.limits.header_timeout));
        }
    }

    /// Where a connection is of which no request runs.
    fn phase_between(&self) -> Phase {
        match self.requests.borrow().progress() {
            HeadProgress::None => Phase::Idle,
            HeadProgress::Begun => Phase::Head,
            HeadProgress::Complete => Phase::BehindHead,
        }
    }

    /// The socket no longer takes anything.
    pub(super) fn write_stalled(&self) {
        self.stalled.set(true);
        self.set_deadline(Some(self.limits.slow_reader_timeout));
    }

    /// The socket takes something again.
    pub(super) fn write_progressed(&self) {
        self.stalled.set(false);
        self.set_deadline(self.deadline());
    }
}

impl Connection {
    /// Why it ended, if it was for something that never became a request.
    pub fn take_rejection(&self) -> Option<Rejection> {
        self.rejected.take()
    }

    /// hyper is through with the connection.
    fn ended(&self, ended: hyper::Result<()>) {
        let flood = self.is_flood.get().then_some(Rejection::Http2Flood);
        self.rejected.set(flood.or_else(|| Rejection::of_http(&ended.err()?)));
    }

    /// Acts on a signal of the worker; true ends the connection now.
    fn poll_signal(&self, cx: &mut Context<'_>, drain: impl FnOnce()) -> bool {
        match self.watched.poll(cx) {
            None => false,
            Some(Signal::Drain) => {
                self.draining.set(true);
                self.is_gateway_draining.set(true);
                drain();
                // What runs under a deadline of its own keeps it, unless this is sooner.
                if self.is_unused() {
                    self.set_deadline(self.deadline());
                }
                false
            }
            Some(Signal::Deadline) if self.unused_since.get().is_some() => {
                self.is_cut.set(true);
                true
            }
            Some(Signal::Deadline) => {
                self.slow_reader.set(self.stalled.get());
                if !self.stalled.get() && self.phase.get() == Phase::Head {
                    self.rejected.set(Some(Rejection::HeadTimeout));
                }
                true
            }
            Some(Signal::Cut | Signal::Revoked(_)) => {
                self.is_cut.set(true);
                true
            }
        }
    }
}
