//! One client of the upstream: requests in, a reply or a stream out.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::TcpStream,
};

use super::events::Events;
use crate::{
    http::{self, Framing, parameter},
    sys,
};

/// What bulk bodies are made of: the largest chunk.
static FILLER: [u8; 1 << 20] = [b'z'; 1 << 20];

const EVENTS_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
const BULK_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

pub struct Connection {
    stream: TcpStream,
    /// Tells this connection from one that had its place before.
    pub serial: u64,
    state: State,
    input: Vec<u8>,
    /// Bytes that the socket did not take yet, and how many of them it took.
    output: Vec<u8>,
    sent: usize,
    target: String,
}

enum State {
    Head,
    Body(Framing),
    Events(Events),
    Bulk { left: usize, chunk: usize },
}

/// What a connection waits for.
pub enum Step {
    /// Its socket.
    Wait,
    /// Its next turn.
    Unpaced,
    /// This moment.
    Paced { first: u64 },
}

impl Connection {
    pub fn new(stream: TcpStream, serial: u64) -> Self {
        Self {
            stream,
            serial,
            state: State::Head,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            target: String::new(),
        }
    }

    /// Time between the writes of a paced stream that goes on.
    pub fn period(&self) -> Option<u64> {
        match &self.state {
            State::Events(events) if events.period > 0 => Some(events.period),
            _ => None,
        }
    }

    pub fn on_writable(&mut self) -> io::Result<Step> {
        if matches!(self.state, State::Bulk { .. }) {
            self.write_bulk()?;
        } else {
            self.flush()?;
        }
        Ok(match &self.state {
            State::Events(events) if events.period == 0 => Step::Unpaced,
            _ => Step::Wait,
        })
    }

    pub fn on_readable(&mut self, scratch: &mut [u8]) -> io::Result<Step> {
        while let Some(n) = sys::ready(self.stream.read(scratch))? {
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&scratch[..n]);
            if n < scratch.len() {
                break;
            }
        }
        loop {
            match &mut self.state {
                State::Head => {
                    let Some(end) = http::head_end(&self.input) else { return Ok(Step::Wait) };
                    let head = &self.input[..end];
                    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                    self.target = String::from_utf8_lossy(target).into_owned();
                    self.state = State::Body(match Framing::of(head) {
                        // A request without a length has no body.
                        Framing::UntilClose => Framing::Length(0),
                        framing => framing,
                    });
                    self.input.drain(..end);
                }
                State::Body(framing) => {
                    let (used, complete) = framing.feed(&self.input, |_| ())?;
                    self.input.drain(..used);
                    if !complete {
                        return Ok(Step::Wait);
                    }
                    self.state = State::Head;
                    let step = self.respond()?;
                    if !matches!(self.state, State::Head) {
                        return Ok(step);
                    }
                }
                // No client of ours sends the next request before the reply ended.
                State::Events(_) | State::Bulk { .. } => return Ok(Step::Wait),
            }
        }
    }

    fn respond(&mut self) -> io::Result<Step> {
        let number = |name, default| {
            parameter(&self.target, name).and_then(|value| value.parse().ok()).unwrap_or(default)
        };
        match self.target.split('?').next().unwrap_or_default() {
            "/sse" => {
                let events = Events::of(&self.target);
                let period = events.period;
                self.state = State::Events(events);
                self.output.extend_from_slice(EVENTS_HEAD);
                self.flush()?;
                if period == 0 {
                    return Ok(Step::Unpaced);
                }
                // Steps of the golden ratio spread the streams evenly over the period, however many there are.
                let phase = self.serial.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                Ok(Step::Paced {
                    first: sys::now() + ((u128::from(phase) * u128::from(period)) >> 64) as u64,
                })
            }
            "/bulk" => {
                let chunk = number("chunk", 64 << 10).clamp(1, FILLER.len());
                self.state = State::Bulk { left: number("size", 64 << 20), chunk };
                self.output.extend_from_slice(BULK_HEAD);
                self.write_bulk()?;
                Ok(Step::Wait)
            }
            _ => {
                const OPEN: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":""#;
                const CLOSE: &[u8] = br#""}"#;
                let length = number("size", 1024).max(OPEN.len() + CLOSE.len());
                write!(
                    self.output,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                )?;
                let end = self.output.len() + length;
                self.output.extend_from_slice(OPEN);
                self.output.resize(end - CLOSE.len(), b'r');
                self.output.extend_from_slice(CLOSE);
                self.flush()?;
                Ok(Step::Wait)
            }
        }
    }

    /// Writes once to an event stream. Returns whether it may write more now.
    pub fn write_events(&mut self) -> io::Result<bool> {
        if !self.flush()? {
            return Ok(false);
        }
        let State::Events(events) = &mut self.state else { return Ok(false) };
        if let Some(bytes) = events.next(sys::now()) {
            let n = sys::ready((&self.stream).write(bytes))?.unwrap_or(0);
            self.output.extend_from_slice(&bytes[n..]);
        }
        if events.is_over() {
            self.output.extend_from_slice(LAST_CHUNK);
            self.state = State::Head;
            self.flush()?;
            return Ok(false);
        }
        Ok(self.output.is_empty())
    }

    fn write_bulk(&mut self) -> io::Result<()> {
        while self.flush()? {
            let State::Bulk { left, chunk } = &mut self.state else { return Ok(()) };
            let length = (*chunk).min(*left);
            *left -= length;
            if length == 0 {
                self.output.extend_from_slice(LAST_CHUNK);
                self.state = State::Head;
                continue;
            }
            let size = format!("{length:x}\r\n");
            let parts = [size.as_bytes(), &FILLER[..length], b"\r\n"];
            let mut sent = sys::ready(self.stream.write_vectored(&parts.map(IoSlice::new)))?.unwrap_or(0);
            for part in parts {
                let taken = sent.min(part.len());
                self.output.extend_from_slice(&part[taken..]);
                sent -= taken;
            }
        }
        Ok(())
    }

    /// Sends what waits. Returns whether nothing does any more.
    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            let Some(n) = sys::ready((&self.stream).write(&self.output[self.sent..]))? else {
                return Ok(false);
            };
            self.sent += n;
        }
        self.output.clear();
        self.sent = 0;
        Ok(true)
    }
}
