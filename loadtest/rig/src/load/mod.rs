//! The load generator: one thread, bare epoll, many connections.

mod connection;
mod events;
mod options;
mod tls;

use std::{cmp::Reverse, collections::BinaryHeap, io, mem};

use serde_json::{Value, json};

use self::connection::Connection;
pub use self::options::{Kind, Options};
use crate::{
    hist::Histogram,
    procstat::{self, Usage},
    sys::{self, Epoll, EventFlags},
};

/// Connections opened in one turn of the loop, so that accept queues keep up.
const OPENED_AT_ONCE: usize = 32;
/// Connections that may wait for their first reply while others are opened.
const OPENING: usize = 256;
/// Longest time for every connection to have its first reply, nanoseconds.
const PATIENCE: u64 = 60_000_000_000;

/// What happened in the measurement.
#[derive(Default)]
pub struct Counts {
    events: u64,
    requests: u64,
    bytes: u64,
    /// Events whose predecessor never came.
    gaps: u64,
    /// Replies other than 200, events that cannot be read, and connections that ended.
    errors: u64,
    latency: Histogram,
}

struct Load {
    options: Options,
    request: Vec<u8>,
    period: u64,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    /// How many of them had their first reply, or ended without it; and how many ended.
    settled: usize,
    ended: usize,
    /// Paced posts: when, and on which connection.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    counts: Counts,
    /// Errors and missing events from before the measurement.
    early_errors: u64,
}

/// Runs the load, and returns what was measured.
pub fn run(options: Options) -> io::Result<Value> {
    let idle = procstat::usage(&options.pids);
    let mut load = Load {
        request: options.request(),
        period: options.period(),
        epoll: Epoll::new()?,
        connections: Vec::with_capacity(options.conns),
        settled: 0,
        ended: 0,
        due: BinaryHeap::new(),
        counts: Counts::default(),
        early_errors: 0,
        options,
    };
    load.open()?;
    load.run_until(sys::now() + (load.options.warm * 1e9) as u64)?;

    let early = mem::take(&mut load.counts);
    load.early_errors = early.errors + early.gaps;
    for connection in load.connections.iter_mut().flatten() {
        connection.segments_before = sys::data_segments_in(connection.stream());
    }
    let before = procstat::usage(&load.options.pids);
    let start = sys::now();
    load.run_until(start + (load.options.secs * 1e9) as u64)?;
    let after = procstat::usage(&load.options.pids);
    Ok(load.result(idle, before, after, (sys::now() - start) as f64 / 1e9))
}

impl Load {
    /// Opens every connection and sees each to its first reply.
    fn open(&mut self) -> io::Result<()> {
        let tls = self.options.tls.then(tls::config).transpose().map_err(io::Error::other)?;
        let give_up = sys::now() + PATIENCE;
        let mut scratch = scratch();
        loop {
            let (settled, conns) = (self.settled, self.options.conns);
            if settled >= conns {
                return Ok(());
            }
            if sys::now() > give_up {
                return Err(io::Error::other(format!("only {settled} of {conns} connections had a reply")));
            }
            for _ in 0..OPENED_AT_ONCE {
                let opened = self.connections.len();
                if opened >= conns || opened >= settled + OPENING {
                    break;
                }
                let tls = tls.as_ref().map(tls::connection).transpose().map_err(io::Error::other)?;
                let stream = sys::connect(self.options.target)?;
                self.epoll.add(&stream, opened as u64, EventFlags::IN | EventFlags::RDHUP)?;
                let mut connection = Connection::new(stream, tls, self.options.kind);
                let now = sys::now();
                connection.send(&self.request, now)?;
                self.connections.push(Some(connection));
                if self.period > 0 {
                    let phase = self.period * opened as u64 / self.options.conns as u64;
                    self.due.push(Reverse((now + self.period + phase, opened)));
                }
            }
            self.turn(sys::now() + 1_000_000, &mut scratch)?;
        }
    }

    fn run_until(&mut self, end: u64) -> io::Result<()> {
        let mut scratch = scratch();
        while sys::now() < end {
            if self.ended * 2 > self.options.conns {
                return Err(io::Error::other("more than half of the connections ended"));
            }
            self.turn(end, &mut scratch)?;
        }
        Ok(())
    }

    /// Sends what is due and takes what has come, until `end` at the latest.
    fn turn(&mut self, end: u64, scratch: &mut [u8]) -> io::Result<()> {
        let mut now = sys::now();
        while let Some(&Reverse((due, id))) = self.due.peek() {
            if due > now {
                break;
            }
            self.due.pop();
            let Some(connection) = &mut self.connections[id] else { continue };
            if connection.busy {
                connection.late = Some(due);
                continue;
            }
            connection.send(&self.request, due)?;
            self.due.push(Reverse((due + self.period, id)));
            now = sys::now();
        }
        let next = self.due.peek().map_or(end, |Reverse((due, _))| end.min(*due));
        let ready = self.epoll.wait(Some(next.saturating_sub(now)));
        for (id, _) in ready {
            let slot = &mut self.connections[id as usize];
            let Some(connection) = slot else { continue };
            let was_settled = connection.replied;
            let mut result = connection.on_ready(scratch, &mut self.counts);
            if result.is_ok() && !connection.busy {
                if let Some(due) = connection.late.take() {
                    // Sent in the next turn; its latency counts from when it was due.
                    self.due.push(Reverse((due, id as usize)));
                } else if self.period == 0 {
                    result = connection.send(&self.request, sys::now());
                }
            }
            self.settled += usize::from(!was_settled && (connection.replied || result.is_err()));
            if result.is_err() {
                self.counts.errors += 1;
                self.ended += 1;
                *slot = None;
            }
        }
        Ok(())
    }

    fn result(&self, idle: Usage, before: Usage, after: Usage, secs: f64) -> Value {
        let Self { options, counts, .. } = self;
        let (kind, units) = match options.kind {
            Kind::Sse => ("sse", counts.events),
            Kind::Rpc => ("rpc", counts.requests),
            Kind::Bulk => ("bulk", counts.bytes),
        };
        let segments: u64 = (self.connections.iter().flatten())
            .map(|connection| sys::data_segments_in(connection.stream()) - connection.segments_before)
            .sum();
        let cpu = (after.cpu - before.cpu) as f64;
        let per = |total: f64| if units == 0 { 0.0 } else { total / units as f64 };
        let micros = |q| counts.latency.quantile(q) as f64 / 1e3;
        json!({
            "workload": options.workload,
            "contender": options.contender,
            "tls": options.tls,
            "kind": kind,
            "conns": options.conns,
            "secs": secs,
            "expected_per_s": options.expected(),
            "units_per_s": units as f64 / secs,
            "cpu_share": cpu / 1e9 / secs,
            "cpu_us_per_unit": per(cpu / 1e3),
            "gb_per_cpu_s": if cpu > 0.0 { counts.bytes as f64 / cpu } else { 0.0 },
            "segments_per_unit": per(segments as f64),
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
            "rss_idle": idle.rss,
            "rss": after.rss,
            "rss_per_conn": after.rss.saturating_sub(idle.rss) as f64 / options.conns as f64,
            "errors": counts.errors + self.early_errors,
            "gaps": counts.gaps,
        })
    }
}

fn scratch() -> Vec<u8> {
    vec![0; 256 * 1024]
}
