//! `100 Continue` over HTTP/2: a client that sent `Expect: 100-continue` may hold its body back until it has that, or the
//! answer (RFC 9110 §10.1.1).
//!
//! h2 can send it by a handle that hyper keeps to itself, and hyper sends it over HTTP/1.1 only. So the gateway puts the
//! frame between two of those that h2 writes, once a body is waited for that was promised with an `Expect`. It takes
//! this:
//!
//! - The stream of a request, which hyper does not tell. Of all heads with an `Expect`, h2 is given one at a time, and nothing
//!   behind it until it has handed over every request that it has. The one of these that has an `Expect` is of that stream; if
//!   none has, h2 has refused it.
//! - A place where a frame may stand: between frames, and not within a header block, even if a frame is written in parts.
//! - A header block that leaves the table of h2's own as it is, and begins as the client's settings ask for.
//! - That the answer has not begun, and the client not ended its side.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use http::{HeaderMap, header};
use tokio::io::AsyncWrite;

use crate::downstream::frames::{
    ACK, CONTINUATION, END_HEADERS, HEAD, HEADERS, RST_STREAM, SETTINGS, StreamId,
};

/// `:status: 100`, by name 8 of the static table, and kept in none (RFC 7541 §6.2.2).
const STATUS: &[u8] = b"\x08\x03100";
/// Size of the table of a sender who was asked for no other (RFC 9113 §6.5.2). h2 takes no larger one.
const TABLE: u32 = 4096;

/// What is known of the requests of a connection that came with an `Expect`. They are no more than h2 has streams.
#[derive(Default)]
pub(super) struct Expectations {
    given: Cell<Option<Given>>,
    /// Those that were handed over, and have no answer yet.
    open: RefCell<Vec<Open>>,
    /// One of them is waited for.
    is_due: Cell<bool>,
    /// Of the connection's task.
    waker: RefCell<Option<Waker>>,
    tables: RefCell<Tables>,
}

/// A head with an `Expect` that h2 was given.
#[derive(Clone, Copy)]
struct Given {
    stream: StreamId,
    /// h2 has asked for more, so it has taken this.
    is_taken: bool,
}

struct Open {
    stream: StreamId,
    /// Its body is waited for.
    is_due: bool,
}

/// How large a table the client lets h2 have.
#[derive(Default)]
struct Tables {
    /// What each of the client's SETTINGS says of that which has no acknowledgement yet.
    unacknowledged: VecDeque<Option<u32>>,
    /// The smallest that holds since h2's last header block. The next one has to begin with it (RFC 7541 §4.2).
    smallest: Option<u32>,
}

impl Expectations {
    /// h2 is given the head of a request with an `Expect`, and nothing more until [`Self::has_handed_over`].
    pub(super) fn gives(&self, stream: StreamId, cx: &Context<'_>) {
        self.given.set(Some(Given { stream, is_taken: false }));
        self.waker.replace(Some(cx.waker().clone()));
    }

    /// h2 asks for more. True if it gets nothing as yet; whoever polls it asks [`Self::has_handed_over`].
    pub(super) fn withholds(&self) -> bool {
        self.given.get().is_some_and(|given| {
            self.given.set(Some(Given { is_taken: true, ..given }));
            true
        })
    }

    /// hyper has nothing to do any more, and so h2 has no request that it could hand over. True if it waits for what was
    /// withheld: poll it again.
    pub(super) fn has_handed_over(&self) -> bool {
        let is_taken = self.given.get().is_some_and(|given| given.is_taken);
        if is_taken {
            self.given.set(None);
        }
        is_taken
    }

    /// h2 has handed over a request with these fields.
    pub(super) fn begins(self: &Rc<Self>, fields: &HeaderMap) -> Option<Leave> {
        let given = self.given.get().filter(|_| fields.contains_key(header::EXPECT))?;
        self.open.borrow_mut().push(Open { stream: given.stream, is_due: false });
        Some(Leave { expectations: Rc::clone(self), stream: given.stream })
    }

    /// The stream has its answer, its client ended its side, or it was reset.
    pub(super) fn ended(&self, stream: StreamId) {
        let mut open = self.open.borrow_mut();
        if !open.is_empty() {
            open.retain(|open| open.stream != stream);
        }
    }

    /// The client's frames are not looked at any more.
    pub(super) fn give_up(&self) {
        self.open.borrow_mut().clear();
        self.is_due.set(false);
    }

    /// The client has sent SETTINGS, which may say how large a table it keeps.
    pub(super) fn settings(&self, table: Option<u32>) {
        self.tables.borrow_mut().unacknowledged.push_back(table);
    }

    /// Frames that are due.
    fn take_due(&self, frames: &mut Vec<u8>) {
        self.is_due.set(false);
        let mut block = Vec::new();
        if let Some(table) = self.tables.borrow().smallest.filter(|table| *table < TABLE) {
            resize(table, &mut block);
        }
        block.extend_from_slice(STATUS);
        self.open.borrow_mut().retain(|open| {
            if open.is_due {
                frames.extend_from_slice(&[0, 0, block.len() as u8, HEADERS, END_HEADERS]);
                frames.extend_from_slice(&open.stream);
                frames.extend_from_slice(&block);
            }
            !open.is_due
        });
    }
}

impl Tables {
    fn acknowledged(&mut self) {
        let table = self.unacknowledged.pop_front().flatten();
        self.smallest = self.smallest.into_iter().chain(table).min();
    }
}

/// A dynamic table size update (RFC 7541 §6.3).
fn resize(table: u32, block: &mut Vec<u8>) {
    const MOST: u32 = 0x1F;
    let Some(mut rest) = table.checked_sub(MOST) else {
        return block.push(0x20 | table as u8);
    };
    block.push(0x3F);
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// What a client that sent `Expect: 100-continue` waits for.
pub(super) struct Leave {
    expectations: Rc<Expectations>,
    stream: StreamId,
}

impl Leave {
    /// Lets it send the body, unless it has its answer.
    pub(super) fn give(self) {
        let mut open = self.expectations.open.borrow_mut();
        let Some(open) = open.iter_mut().find(|open| open.stream == self.stream) else { return };
        open.is_due = true;
        self.expectations.is_due.set(true);
        if let Some(waker) = &*self.expectations.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Frames as they go to the client, and what is put between them.
pub(super) struct OutgoingFrames {
    expectations: Rc<Expectations>,
    /// The head that is under way.
    head: [u8; HEAD],
    of_head: usize,
    /// Bytes to come of the payload.
    payload: usize,
    /// Frames of the block so far are not all of it.
    is_in_block: bool,
    /// What of frames of the gateway's own has yet to be written.
    own: Vec<u8>,
}

impl OutgoingFrames {
    pub(super) fn new(expectations: Rc<Expectations>) -> Self {
        Self { expectations, head: [0; HEAD], of_head: 0, payload: 0, is_in_block: false, own: Vec::new() }
    }

    /// Writes what is due, where it may stand. Says how many bytes of h2's may be written next.
    pub(super) fn poll_due<T>(&mut self, inner: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        T: AsyncWrite + Unpin,
    {
        // Once more after what was under way: something may have become due meanwhile, and nobody asks again.
        loop {
            if self.own.is_empty() {
                if !self.expectations.is_due.get() {
                    return Poll::Ready(Ok(usize::MAX));
                }
                if let left @ 1.. = self.left() {
                    return Poll::Ready(Ok(left));
                }
                self.expectations.take_due(&mut self.own);
            }
            while !self.own.is_empty() {
                let written = ready!(Pin::new(&mut *inner).poll_write(cx, &self.own))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.own.drain(..written);
            }
        }
    }

    /// These bytes of h2's were written.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.payload > 0 {
                let here = self.payload.min(rest.len());
                self.payload -= here;
                rest = &rest[here..];
                continue;
            }
            let here = (HEAD - self.of_head).min(rest.len());
            self.head[self.of_head..self.of_head + here].copy_from_slice(&rest[..here]);
            self.of_head += here;
            rest = &rest[here..];
            if self.of_head == HEAD {
                self.of_head = 0;
                self.begins();
            }
        }
    }

    /// A frame begins.
    fn begins(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            HEADERS | CONTINUATION => {
                self.is_in_block = flags & END_HEADERS == 0;
                self.expectations.tables.borrow_mut().smallest = None;
                self.expectations.ended(stream);
            }
            RST_STREAM => self.expectations.ended(stream),
            SETTINGS if flags & ACK != 0 => self.expectations.tables.borrow_mut().acknowledged(),
            _ => {}
        }
    }

    /// How many bytes of h2's have to come before another frame may begin, as far as is known.
    fn left(&self) -> usize {
        match (self.payload, self.of_head) {
            (0, 0) if self.is_in_block => HEAD,
            (0, 0) => 0,
            (0, of_head) => HEAD - of_head,
            (payload, _) => payload,
        }
    }

    /// Whether another frame may begin here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.own.is_empty() && self.left() == 0
    }
}

#[cfg(test)]
#[path = "interim_tests.rs"]
mod tests;
