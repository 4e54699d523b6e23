//! One client connection: bytes out, replies in.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use rustls::ClientConnection;

use super::{Counts, Kind, events};
use crate::{
    http::{self, Framing},
    sys,
};

pub struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Beginning of a head whose end has not come.
    head: Vec<u8>,
    body: Option<Framing>,
    events: events::Reader,
    output: Vec<u8>,
    kind: Kind,
    /// When the request that waits for its reply was sent, or was due.
    pub sent_at: u64,
    pub busy: bool,
    /// When the next request was due, if the reply before it has not come yet.
    pub late: Option<u64>,
    pub replied: bool,
    /// Segments that had come when the measurement began.
    pub segments_before: u64,
}

impl Connection {
    pub fn new(stream: TcpStream, tls: Option<Box<ClientConnection>>, kind: Kind) -> Self {
        Self {
            stream,
            tls,
            head: Vec::new(),
            body: None,
            events: events::Reader::default(),
            output: Vec::new(),
            kind,
            sent_at: 0,
            busy: false,
            late: None,
            replied: false,
            segments_before: 0,
        }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send(&mut self, request: &[u8], at: u64) -> io::Result<()> {
        self.busy = true;
        self.sent_at = at;
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(request)?,
            None => self.output.extend_from_slice(request),
        }
        self.flush()
    }

    /// Begins the TLS handshake; the first request does so too.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && sys::ready(tls.write_tls(&mut self.stream))?.is_some() {}
        } else if !self.output.is_empty() {
            let n = sys::ready(self.stream.write(&self.output))?.unwrap_or(0);
            self.output.drain(..n);
        }
        Ok(())
    }

    /// Reads once. An error means that the connection is over.
    pub fn on_ready(&mut self, scratch: &mut [u8], counts: &mut Counts) -> io::Result<()> {
        self.flush()?;
        let Some(mut tls) = self.tls.take() else {
            return match sys::ready(self.stream.read(scratch))? {
                None => Ok(()),
                Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(n) => self.take(&scratch[..n], counts),
            };
        };
        if let Some(0) = sys::ready(tls.read_tls(&mut self.stream))? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        while let Some(n) = sys::ready(tls.reader().read(scratch))? {
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.take(&scratch[..n], counts)?;
        }
        self.tls = Some(tls);
        self.flush()
    }

    /// Takes bytes of replies.
    fn take(&mut self, mut bytes: &[u8], counts: &mut Counts) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.body.is_none() {
                let known = self.head.len();
                self.head.extend_from_slice(bytes);
                let Some(end) = http::head_end(&self.head) else { return Ok(()) };
                let head = &self.head[..end];
                counts.errors += u64::from(head.get(9..12) != Some(b"200"));
                self.body = Some(Framing::of(head));
                self.head.clear();
                self.replied = true;
                bytes = &bytes[end - known..];
            }
            let Self { body: Some(framing), events, kind, .. } = self else { return Ok(()) };
            let (used, complete) = framing.feed(bytes, |data| {
                counts.bytes += data.len() as u64;
                if *kind == Kind::Sse {
                    events.push(data, counts);
                }
            })?;
            bytes = &bytes[used..];
            if complete {
                self.body = None;
                self.busy = false;
                if self.kind == Kind::Sse {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                counts.requests += 1;
                counts.latency.add(sys::now().saturating_sub(self.sent_at));
            }
        }
        Ok(())
    }
}
