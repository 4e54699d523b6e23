//! Which request a line of the log, an answer and an error are about.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher as _, RandomState},
};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// Ids that are written at a time.
const BLOCK: usize = 64;

/// A request's id: 16 hexadecimal digits, written once for all who show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

impl RequestId {
    fn of(number: u64) -> Self {
        let mut digits = [0; 16];
        let (high, low) = ((number >> 32) as u32, number as u32);
        digits[..8].copy_from_slice(&hexadecimal(high));
        digits[8..].copy_from_slice(&hexadecimal(low));
        Self(digits)
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The eight digits of `number`, all at once.
fn hexadecimal(number: u32) -> [u8; 8] {
    const EACH: u64 = u64::MAX / 255;
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_FFFF_0000_FFFF;
    let spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF;
    // A digit in each byte; those from 10 on carry into the high half when 6 is added.
    let digits = (spread | spread << 4) & (EACH * 0x0F);
    let are_letters = (digits + EACH * 6) >> 4 & EACH;
    (digits + EACH * u64::from(b'0') + are_letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

/// The ids of one worker. Every answer carries one, so a stranger may compare two: they tell nothing about how many requests
/// there were between them. That is a counter under a keyed hash (SipHash); of a billion ids, the chance that two
/// are the same is 3 in 100.
#[derive(Default)]
pub struct RequestIds {
    key: RandomState,
    count: Cell<u64>,
    /// Those that come next: one allocation for many header fields.
    next: RefCell<Bytes>,
}

impl RequestIds {
    /// Another one, and the same as a header field has it.
    pub fn next(&self) -> (RequestId, Option<HeaderValue>) {
        let mut next = self.next.borrow_mut();
        if next.is_empty() {
            *next = self.block();
        }
        let digits = next.split_to(16);
        let id = digits.first_chunk().map_or_else(|| RequestId::of(0), |digits| RequestId(*digits));
        (id, HeaderValue::from_maybe_shared(digits).ok())
    }

    fn block(&self) -> Bytes {
        let mut block = BytesMut::with_capacity(BLOCK * 16);
        for count in (self.count.get()..).take(BLOCK) {
            block.extend_from_slice(&RequestId::of(self.key.hash_one(count)).0);
        }
        self.count.set(self.count.get().wrapping_add(BLOCK as u64));
        block.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_sixteen_digits() {
        assert_eq!(RequestId::of(0).as_str(), "0000000000000000");
        assert_eq!(RequestId::of(0x0123_4567_89ab_cdef).as_str(), "0123456789abcdef");
        assert_eq!(RequestId::of(u64::MAX).as_str(), "ffffffffffffffff");
    }

    #[test]
    fn the_header_field_says_the_same() {
        let ids = RequestIds::default();
        for _ in 0..3 * BLOCK {
            let (id, field) = ids.next();
            assert_eq!(field.unwrap(), id.as_str());
        }
    }

    #[test]
    fn ids_tell_nothing_of_how_many_there_were_between_them() {
        let number = |id: RequestId| u64::from_str_radix(id.as_str(), 16).unwrap();
        let (ids, others) = (RequestIds::default(), RequestIds::default());
        let numbers: Vec<_> = (0..1_000).map(|_| number(ids.next().0)).collect();
        let steps: HashSet<_> = numbers.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
        assert_eq!(steps.len(), 999, "no step comes twice");
        assert!(steps.iter().all(|step| (1 << 32..u64::MAX - (1 << 32)).contains(step)));
        let theirs: HashSet<_> = (0..1_000).map(|_| number(others.next().0)).collect();
        assert!(numbers.iter().all(|number| !theirs.contains(number)), "each worker has a key of its own");
    }
}
