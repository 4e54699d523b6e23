//! CPU time and memory of other processes, from /proc.

use std::fs;

/// What processes, together, have used so far.
#[derive(Default, Clone, Copy)]
pub struct Usage {
    /// User and system time of all threads, nanoseconds.
    pub cpu: u64,
    /// Resident memory, bytes.
    pub rss: u64,
}

/// Adds up `pids`; a process that is gone counts nothing.
pub fn usage(pids: &[u32]) -> Usage {
    let page = rustix::param::page_size() as u64;
    let mut sum = Usage::default();
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            // Finer than the clock ticks of `stat`: time on a core, to the nanosecond.
            sum.cpu += number(&thread.path().join("schedstat").to_string_lossy(), 0);
        }
        sum.rss += number(&format!("/proc/{pid}/statm"), 1) * page;
    }
    sum
}

/// The word at `index` of a file, as a number.
fn number(path: &str, index: usize) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_show() {
        let me = [std::process::id()];
        let before = usage(&me);
        assert!(before.rss > 100_000);
        let memory = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = usage(&me);
        assert!(after.cpu > before.cpu);
        assert!(after.rss >= before.rss + (16 << 20));
        drop(memory);
        assert_eq!(usage(&[]).cpu, 0);
    }
}
