//! Tests wait for what they expect and not for a time, and assert nothing about how long something took: a busy machine would
//! make them fail, and a fast one wait in vain.
//!
//! Where the clock is the runtime's and paused, time is part of the story and costs nothing. Anything else has to say why, in a
//! comment that begins with "Real time:" and is right above, or at the top of its file.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What waits for a time, or measures one. A moment that is handed to code without a clock does neither.
const WORDS: [&str; 5] =
    ["sleep(", ".elapsed(", "Instant::now() <", "Instant::now() >", "timeout(Duration::from_millis("];
/// How far above a line its reason may begin.
const NEAR: usize = 3;

/// All Rust files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// The line numbers, from 1, that wait or measure without a reason. `from` is where tests begin.
fn without_reason(text: &str, from: usize) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let gives_reason = |line: &&str| line.trim_start().starts_with("//") && line.contains("Real time:");
    if lines.iter().take_while(|line| line.starts_with("//!")).any(gives_reason) {
        return Vec::new();
    }
    let waits = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        WORDS.iter().any(|word| code.contains(word))
    };
    let mut found = Vec::new();
    // A reason also holds for what follows of the same thought: until the next item.
    let mut is_given = false;
    for (at, line) in lines.iter().enumerate().skip(from) {
        is_given &= !line.trim_start().starts_with("#[") && !line.starts_with('}');
        is_given |= lines[at.saturating_sub(NEAR)..=at].iter().any(gives_reason);
        if waits(line) && !is_given {
            found.push(at + 1);
        }
    }
    found
}

/// Where tests begin in a file of the source: nowhere, if there are none.
fn tests_in(file: &Path, text: &str) -> Option<usize> {
    let is_test = file.to_string_lossy().ends_with("tests.rs") || file.iter().any(|part| part == "tests");
    match is_test {
        true => Some(0),
        false => text.lines().position(|line| line.starts_with("mod ") && line.ends_with("tests {")),
    }
}

#[test]
fn no_test_waits_for_a_time_or_judges_by_one_without_a_reason() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut note = |file: &Path, text: &str, from| {
        let name = file.strip_prefix(package).expect("below the package").display().to_string();
        found.extend(without_reason(text, from).into_iter().map(|line| format!("{name}:{line}")));
    };
    for file in files(&package.join("tests")).into_iter().filter(|file| !file.ends_with("layers/waits.rs")) {
        note(&file, &fs::read_to_string(&file).expect("readable"), 0);
    }
    for file in files(&package.join("src")) {
        let text = fs::read_to_string(&file).expect("readable");
        let Some(from) = tests_in(&file, &text) else { continue };
        // The harness of a directory of tests pauses the clock for all of them.
        let nearby = files(file.parent().expect("a directory"))
            .into_iter()
            .filter(|near| near == &file || file.iter().any(|part| part == "tests"));
        let is_paused = |near: PathBuf| fs::read_to_string(near).expect("readable").contains("start_paused");
        if !nearby.into_iter().any(is_paused) {
            note(&file, &text, from);
        }
    }
    assert!(
        found.is_empty(),
        "wait for what you expect, or say why not (see tests/layers/waits.rs): {found:#?}"
    );
}

#[test]
fn a_reason_holds_for_its_function_and_no_further() {
    let text = "fn a() {\n    // Real time: it is slow.\n    sleep(1);\n    x();\n    y();\n    z();\n    sleep(2);\n}\n\nfn b() {\n    \
                sleep(3);\n    let x = now; // sleep(4)\n}\n";
    assert_eq!(without_reason(text, 0), [11]);
    assert_eq!(without_reason(&format!("//! Real time: all of it.\n{text}"), 0), [0; 0]);
}
