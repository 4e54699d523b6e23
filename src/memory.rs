//! Gives memory back to the system, after a flood.
//!
//! The C library gives back what lies at the end of its heaps, and a heap ends with whatever lives longest. So after thousands
//! of clients that did not read, all that was held for them stays with the process, until it is asked to give back what lies in
//! between.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    allow(unsafe_code, reason = "malloc_trim has no safe form")
)]

use std::{
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Less is not worth it: some 30 MiB of clients that did not read.
const MUCH: u64 = 1_000;
/// How long it waits, since those that leave together take a moment.
const SETTLE: Duration = Duration::from_secs(5);

/// How much is in use, and was.
#[derive(Default)]
pub struct Memory(Mutex<Use>);

#[derive(Default)]
struct Use {
    /// Connections and requests: the most since memory was given back.
    most: u64,
    /// Since when it is much less.
    fell: Option<Instant>,
}

impl Memory {
    /// So many connections and requests there are now. Gives memory back if there had been many more, on a thread that ends
    /// with it: the pages of some hundred megabytes take a tenth of a second.
    pub fn tick(&self, now: Instant, in_use: u64) {
        // Another worker looks.
        let Some(mut of_all) = self.0.try_lock() else { return };
        if of_all.has_settled(now, in_use) {
            // If there is no thread to be had, it is not the moment.
            let _ = thread::Builder::new().name("trim".into()).spawn(give_back);
        }
    }
}

impl Use {
    fn has_settled(&mut self, now: Instant, in_use: u64) -> bool {
        self.most = self.most.max(in_use);
        if self.most - in_use < MUCH.max(self.most / 2) {
            self.fell = None;
            return false;
        }
        let fell = *self.fell.get_or_insert(now);
        let has_settled = now.saturating_duration_since(fell) >= SETTLE;
        if has_settled {
            *self = Self { most: in_use, fell: None };
        }
        has_settled
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: it takes the allocator's own locks, and touches nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_each_flood_and_never_in_a_usual_day() {
        let began = Instant::now();
        let mut of_all = Use::default();
        let mut at = |seconds, in_use| of_all.has_settled(began + Duration::from_secs(seconds), in_use);
        assert!(!at(0, 900) && !at(1, 0) && !at(100, 0), "it was not much");
        assert!(!at(200, 9_000) && !at(201, 5_000) && !at(300, 5_000), "half of it is still there");
        assert!(!at(301, 4_000) && !at(305, 200), "they are leaving");
        assert!(!at(306, 8_000), "others came");
        assert!(!at(310, 100));
        assert!(at(315, 90), "now");
        assert!(!at(316, 90) && !at(400, 0), "once");
        assert!(!at(401, 2_000) && !at(402, 10) && at(407, 10), "and again");
    }

    #[test]
    fn nothing_that_is_in_use_is_touched() {
        let kept: Vec<Vec<u8>> = (0..1_000_u32).map(|n| vec![n as u8; 1_000]).collect();
        give_back();
        assert!(kept.iter().enumerate().all(|(n, bytes)| bytes.iter().all(|byte| *byte == n as u8)));
    }
}
