//! A request on its way out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Method;
use hyper::body::Body as _;
use tokio::io::AsyncWrite as _;

use super::{ExchangeError, RequestBody, UpstreamSocket};
use crate::error::Error;

/// Request frames up to this size are copied behind the head, so that a small call is one write.
const COPY_UP_TO: usize = 16 * 1024;
/// Most request bytes that are gathered before they are written.
const GATHER: usize = 64 * 1024;

/// Looks at each piece of a request body before it goes out, and at the end (`None`).
pub type Inspect = Box<dyn FnMut(Option<&[u8]>) -> Result<Pass, Error>>;

/// What becomes of a piece of a request body. On an error, nothing more of the request goes out, so that the server is
/// left with a body that its framing does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It goes on.
    Send,
    /// It may go on, but nothing is lost if the request is not begun before more of it is here.
    Wait,
    /// The request was refused. The rest is read only for its sender's sake.
    Drop,
}

/// A request body and how it goes out.
pub struct Upload {
    /// What it carries.
    pub body: RequestBody,
    /// Decides what of it goes on; `None` lets all of it.
    pub inspect: Option<Inspect>,
    /// Most bytes that it may have; 0 is any number.
    pub max_bytes: u64,
}

/// The request on its way out.
pub(super) struct Outgoing {
    /// Bytes to write: the head, chunk framing, and frames small enough to copy.
    buffer: Vec<u8>,
    /// How much of `buffer` is written.
    written: usize,
    /// A frame too large to copy, to be written behind `buffer`.
    frame: Bytes,
    body: Option<RequestBody>,
    inspect: Option<Inspect>,
    /// Nothing is written for now: not yet, or never more.
    held: bool,
    /// Something was written.
    pub(super) begun: bool,
    chunked: bool,
    /// The next step is the client's: part of its body is still to come.
    pub(super) waits_for_client: bool,
    /// Body bytes taken from the client.
    pub(super) taken: u64,
    max_body: u64,
}

impl Outgoing {
    pub(super) fn new(mut buffer: Vec<u8>, upload: Upload, method: &Method) -> Self {
        let Upload { body, inspect, max_bytes: max_body } = upload;
        let exact = body.size_hint().exact();
        let has_body = !body.is_end_stream();
        let chunked = has_body && exact.is_none();
        if chunked {
            buffer.extend_from_slice(b"transfer-encoding: chunked\r\n");
        } else if has_body || method == Method::POST {
            buffer.extend_from_slice(b"content-length: ");
            buffer.extend_from_slice(itoa::Buffer::new().format(exact.unwrap_or(0)).as_bytes());
            buffer.extend_from_slice(b"\r\n");
        }
        buffer.extend_from_slice(b"\r\n");
        Self {
            buffer,
            written: 0,
            frame: Bytes::new(),
            body: has_body.then_some(body),
            held: inspect.is_some() && has_body,
            inspect,
            begun: false,
            chunked,
            waits_for_client: false,
            taken: 0,
            max_body,
        }
    }

    /// The buffer, of a request that is on its way.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.written = 0;
        std::mem::take(&mut self.buffer)
    }

    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written()
    }

    fn is_written(&self) -> bool {
        self.written == self.buffer.len() && self.frame.is_empty()
    }

    /// Writes until everything is sent. Whatever of the body is there already goes out with the head.
    pub(super) fn poll(
        &mut self,
        transport: &mut UpstreamSocket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ExchangeError>> {
        loop {
            self.gather(cx)?;
            if self.held {
                return Poll::Pending;
            }
            if self.is_written() {
                return if self.body.is_some() {
                    Poll::Pending
                } else {
                    // Only TLS holds anything back.
                    Pin::new(transport).poll_flush(cx).map_err(ExchangeError::Io)
                };
            }
            while !self.is_written() {
                ready!(self.poll_write(transport, cx))?;
            }
            self.buffer.clear();
            self.written = 0;
            if self.body.is_some() {
                ready!(Pin::new(&mut *transport).poll_flush(cx))?;
            }
        }
    }

    /// Takes from the client what is ready, up to [`GATHER`].
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), ExchangeError> {
        use io::Write as _;
        while self.frame.is_empty() && self.buffer.len() - self.written < GATHER {
            let Some(body) = &mut self.body else { break };
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    self.waits_for_client = true;
                    break;
                }
                Poll::Ready(Some(frame)) => frame.map_err(ExchangeError::Client)?,
                Poll::Ready(None) => {
                    if let Some(inspect) = &mut self.inspect {
                        inspect(None)?;
                    }
                    self.held = false;
                    self.body = None;
                    self.waits_for_client = false;
                    if self.chunked {
                        self.buffer.extend_from_slice(b"0\r\n\r\n");
                    }
                    break;
                }
            };
            self.waits_for_client = false;
            // Trailers are not forwarded (RFC 9110 §6.5.1 lets an intermediary drop them).
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.taken += data.len() as u64;
            if self.max_body > 0 && self.taken > self.max_body {
                return Err(ExchangeError::TooLarge);
            }
            if let Some(inspect) = &mut self.inspect {
                let pass = inspect(Some(&data))?;
                self.held = pass == Pass::Drop || (pass == Pass::Wait && !self.begun);
                if pass == Pass::Drop {
                    self.buffer.clear();
                    self.written = 0;
                    continue;
                }
            }
            if self.chunked {
                // A Vec takes every write.
                let _ = write!(self.buffer, "{:x}\r\n", data.len());
            }
            if data.len() <= COPY_UP_TO {
                self.buffer.extend_from_slice(&data);
                if self.chunked {
                    self.buffer.extend_from_slice(b"\r\n");
                }
            } else {
                self.frame = data;
            }
        }
        // What is still undecided with this much of it here may be of any size, and goes on.
        self.held &= self.buffer.len() - self.written < GATHER && self.frame.is_empty();
        Ok(())
    }

    fn poll_write(&mut self, transport: &mut UpstreamSocket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let had_frame = !self.frame.is_empty();
        let head = &self.buffer[self.written..];
        let mut transport = Pin::new(transport);
        let n = ready!(match (head.is_empty(), had_frame) {
            (false, true) => {
                let slices = [io::IoSlice::new(head), io::IoSlice::new(&self.frame)];
                transport.as_mut().poll_write_vectored(cx, &slices)
            }
            (false, false) => transport.as_mut().poll_write(cx, head),
            (true, _) => transport.as_mut().poll_write(cx, &self.frame),
        })?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.begun = true;
        let of_head = n.min(head.len());
        self.written += of_head;
        let _ = self.frame.split_to(n - of_head);
        if had_frame && self.frame.is_empty() && self.chunked {
            // The frame's chunk ends; `buffer` before it is written by now.
            self.buffer.clear();
            self.written = 0;
            self.buffer.extend_from_slice(b"\r\n");
        }
        Poll::Ready(Ok(()))
    }
}
