//! What a run of the load generator is to do.

use std::net::SocketAddrV4;

use crate::http;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every connection reads one event stream; a unit is an event.
    Sse,
    /// Every connection posts, reads the reply, posts again; a unit is a request.
    Rpc,
    /// Every connection gets one large body after the other; a unit is a byte.
    Bulk,
}

pub struct Options {
    pub kind: Kind,
    pub target: SocketAddrV4,
    pub path: String,
    pub bearer: Option<String>,
    pub conns: usize,
    /// Seconds between the first reply on every connection and the measurement.
    pub warm: f64,
    /// Seconds of the measurement.
    pub secs: f64,
    /// Bytes of a posted body.
    pub body: usize,
    /// Posts a second over all connections; 0 = the next one as soon as the reply is there.
    pub rate: f64,
    pub tls: bool,
    /// Processes whose CPU time and memory are measured.
    pub pids: Vec<u32>,
    /// Words that the result carries along.
    pub workload: String,
    pub contender: String,
}

impl Options {
    /// The request that every connection sends.
    pub fn request(&self) -> Vec<u8> {
        let mut fields = format!("host: {}\r\n", self.target);
        if let Some(token) = &self.bearer {
            fields += &format!("authorization: Bearer {token}\r\n");
        }
        let path = &self.path;
        match self.kind {
            Kind::Sse => {
                format!("GET {path} HTTP/1.1\r\n{fields}accept: text/event-stream\r\n\r\n").into_bytes()
            }
            Kind::Bulk => format!("GET {path} HTTP/1.1\r\n{fields}accept: */*\r\n\r\n").into_bytes(),
            Kind::Rpc => {
                let open = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":""#;
                let close = r#""}}}"#;
                let text = "q".repeat(self.body.saturating_sub(open.len() + close.len()));
                let body = format!("{open}{text}{close}");
                let length = body.len();
                format!(
                    "POST {path} HTTP/1.1\r\n{fields}content-type: application/json\r\n\
                     accept: application/json, text/event-stream\r\ncontent-length: {length}\r\n\r\n{body}"
                )
                .into_bytes()
            }
        }
    }

    /// Units a second that a paced load must come to; `None` when it goes as fast as it can.
    pub fn expected(&self) -> Option<f64> {
        let of_stream = || http::parameter(&self.path, "rate")?.parse::<f64>().ok();
        match self.kind {
            Kind::Sse => of_stream().map(|rate| rate * self.conns as f64),
            Kind::Rpc => (self.rate > 0.0).then_some(self.rate),
            Kind::Bulk => None,
        }
    }

    /// Nanoseconds between two posts of one connection; 0 when they are not paced.
    pub fn period(&self) -> u64 {
        if self.kind == Kind::Rpc && self.rate > 0.0 {
            (1e9 * self.conns as f64 / self.rate) as u64
        } else {
            0
        }
    }
}
