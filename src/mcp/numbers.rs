//! Numbers for requests on their way: none comes twice, and nobody can guess one.

use std::hash::{BuildHasher, RandomState};

use super::id::Id;

/// Bits of a number: 14 decimal digits at most. A number that large survives whoever takes it for a floating-point one (53
/// bits), and whoever writes that with as few digits as Lua and R do.
const BITS: u32 = 46;
const HALF: u32 = BITS / 2;
const MASK: u64 = (1 << HALF) - 1;
/// A Feistel network is a permutation after any number of rounds, and a random one to who does not know the key after four.
const ROUNDS: u64 = 6;

/// A row of numbers below 2⁴⁶ that begins anew, elsewhere, with each process and each value of this type.
///
/// It is the row of natural numbers under a secret permutation: so none repeats before all are used up, without a memory of
/// those that were given out, and those that were seen say nothing of the others.
#[derive(Debug, Default)]
pub struct Numbers {
    drawn: u64,
    key: RandomState,
}

impl Numbers {
    /// A number that was not given out before.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.permuted(self.drawn)
    }

    fn permuted(&self, number: u64) -> u64 {
        let (mut left, mut right) = (number >> HALF & MASK, number & MASK);
        for round in 0..ROUNDS {
            let mixed = left ^ self.key.hash_one((round, right)) & MASK;
            (left, right) = (right, mixed);
        }
        left << HALF | right
    }
}

/// The number that an id is. A server that writes it as a string, or with a fraction, means the same.
pub fn read(id: &Id) -> Option<u64> {
    id.as_integer().and_then(|number| u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_number_comes_twice_and_all_are_exact_in_a_double() {
        let mut numbers = Numbers::default();
        let drawn: Vec<u64> = (0..100_000).map(|_| numbers.draw()).collect();
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
        for number in &drawn {
            assert!(*number < 1 << BITS);
            assert_eq!(*number as f64 as u64, *number);
        }
    }

    #[test]
    fn who_has_seen_some_knows_nothing_of_the_next() {
        let mut numbers = Numbers::default();
        let drawn: Vec<u64> = (0..10_000).map(|_| numbers.draw()).collect();
        // Neighbours are nowhere near each other, and every bit is as often set as not.
        let near = drawn.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 1 << (BITS - 12)).count();
        assert!(near < 50, "{near} of 10,000");
        for bit in 0..BITS {
            let set = drawn.iter().filter(|number| *number >> bit & 1 == 1).count();
            assert!((4_600..5_400).contains(&set), "bit {bit}: {set} of 10,000");
        }
        let mut others = Numbers::default();
        let known: HashSet<_> = drawn.into_iter().collect();
        assert!((0..10_000).all(|_| !known.contains(&others.draw())), "another row");
    }
}
