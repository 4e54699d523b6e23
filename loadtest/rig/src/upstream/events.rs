//! Event streams: what one write of a stream holds.

use crate::http::parameter;

/// Bytes of a head that every event begins with: `data: `, 19 digits of send time, a space, 12 of sequence number.
const STAMPED: usize = "data: ".len() + TIME + 1 + SEQUENCE + 1;
const TIME: usize = 19;
const SEQUENCE: usize = 12;

/// An event stream as a request asked for it.
pub struct Events {
    /// `batch` events, each a chunk of its own.
    template: Vec<u8>,
    batch: usize,
    /// Length of one chunk in `template`, and of its size line.
    chunk: usize,
    size_line: usize,
    /// Nanoseconds between writes; 0 = as fast as the reader takes them.
    pub period: u64,
    sequence: u64,
    end: u64,
}

impl Events {
    /// Reads `size` (bytes of an event), `rate` (events a second), `batch` (events a write) and `n` (events in all).
    pub fn of(target: &str) -> Self {
        let number = |name, default: f64| {
            parameter(target, name).and_then(|value| value.parse::<f64>().ok()).unwrap_or(default)
        };
        let size = (number("size", 100.0) as usize).max(STAMPED + 2);
        let batch = (number("batch", 1.0) as usize).clamp(1, 256);
        let rate = number("rate", 0.0);
        let mut event = format!("{size:x}\r\n").into_bytes();
        let size_line = event.len();
        event.extend_from_slice(b"data: ");
        event.resize(size_line + size - 2, b' ');
        event[size_line + STAMPED..].fill(b'x');
        event.extend_from_slice(b"\n\n\r\n");
        Self {
            chunk: event.len(),
            template: event.repeat(batch),
            batch,
            size_line,
            period: if rate > 0.0 { (1e9 * batch as f64 / rate) as u64 } else { 0 },
            sequence: 0,
            end: number("n", f64::MAX) as u64,
        }
    }

    /// The bytes of the next write, sent at `now`; `None` when the stream has had all its events.
    pub fn next(&mut self, now: u64) -> Option<&[u8]> {
        let left = self.end - self.sequence;
        let count = left.min(self.batch as u64) as usize;
        for event in self.template.chunks_mut(self.chunk).take(count) {
            let stamp = &mut event[self.size_line + "data: ".len()..];
            digits(&mut stamp[..TIME], now);
            digits(&mut stamp[TIME + 1..TIME + 1 + SEQUENCE], self.sequence);
            self.sequence += 1;
        }
        (count > 0).then(|| &self.template[..count * self.chunk])
    }

    pub fn is_over(&self) -> bool {
        self.sequence >= self.end
    }
}

fn digits(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_holds_its_batch_and_the_last_one_what_is_left() {
        let mut events = Events::of("/sse?size=50&batch=2&n=3&rate=4");
        assert_eq!(events.period, 500_000_000);
        let event = |sequence| {
            format!("32\r\ndata: 0000000000000000007 00000000000{sequence} xxxxxxxxx\n\n\r\n").into_bytes()
        };
        assert_eq!(events.next(7).unwrap(), [event(0), event(1)].concat());
        assert!(!events.is_over());
        assert_eq!(events.next(7).unwrap(), event(2));
        assert!(events.is_over());
        assert_eq!(events.next(7), None);
    }
}
