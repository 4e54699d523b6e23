//! Reads the events of `rig upstream`: when each was sent, and whether one is missing.

use super::Counts;
use crate::sys;

/// A stream's place in its sequence, and the beginning of an event whose end has not come.
#[derive(Default)]
pub struct Reader {
    partial: Vec<u8>,
    expected: u64,
}

impl Reader {
    /// Takes bytes of the body.
    pub fn push(&mut self, bytes: &[u8], counts: &mut Counts) {
        let now = sys::now();
        if self.partial.is_empty() {
            let used = self.events(bytes, now, counts);
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let used = self.events(&partial, now, counts);
            partial.drain(..used);
            self.partial = partial;
        }
    }

    fn events(&mut self, bytes: &[u8], now: u64, counts: &mut Counts) -> usize {
        let mut used = 0;
        // These events hold no single line end, so the first one is the event's.
        while let Some(end) = memchr::memchr(b'\n', &bytes[used..])
            && used + end + 1 < bytes.len()
        {
            counts.events += 1;
            match stamp(&bytes[used..used + end]) {
                Some((sent, sequence)) => {
                    counts.gaps += u64::from(sequence != self.expected);
                    self.expected = sequence + 1;
                    counts.latency.add(now.saturating_sub(sent));
                }
                None => counts.errors += 1,
            }
            used += end + 2;
        }
        used
    }
}

/// Send time and sequence number.
fn stamp(event: &[u8]) -> Option<(u64, u64)> {
    let stamp = event.strip_prefix(b"data: ")?;
    let number = |digits: &[u8]| str::from_utf8(digits).ok()?.parse().ok();
    Some((number(stamp.get(..19)?)?, number(stamp.get(20..32)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_however_they_are_cut_and_a_missing_one_is_seen() {
        let event = |sequence: u64| format!("data: {:019} {sequence:012} xxx\n\n", 5).into_bytes();
        let wire = [event(0), event(1), event(3)].concat();
        for step in 1..wire.len() {
            let (mut reader, mut counts) = (Reader::default(), Counts::default());
            wire.chunks(step).for_each(|piece| reader.push(piece, &mut counts));
            assert_eq!((counts.events, counts.gaps, counts.errors), (3, 1, 0), "{step}");
        }
    }
}
