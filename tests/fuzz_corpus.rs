//! The committed corpora of the fuzz targets, replayed: what was found once is not found again, and the targets still build.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "helpers of tests fail as tests do"
)]

use std::{collections::BTreeSet, fs, panic, path::Path};

#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_input_that_is_kept_of_a_fuzz_target_passes() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz.join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let known: BTreeSet<String> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
    for (name, run) in targets::TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(fuzz.join("corpus").join(name)).unwrap() {
            let file = entry.unwrap().path();
            let input = fs::read(&file).unwrap();
            let passed = panic::catch_unwind(|| run(&input));
            assert!(passed.is_ok(), "{name} fails with {}", file.display());
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
}
