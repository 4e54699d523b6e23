//! Configs, read to the end: each problem has its place in the file, and comments change nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use sluicegate::config::{Loaded, Severity, load};

use super::config_parse::blank;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    directory.join(format!("sluicegate-fuzz-{}.json", std::process::id()))
});

/// The whole input is the file.
pub fn run(input: &[u8]) {
    // Whatever else is on the machine is no part of the input.
    if input.contains(&b'/') && names_a_file(input) {
        return;
    }
    let loaded = read(input);
    let text = String::from_utf8_lossy(input);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.split('\n').count();
    for problem in &loaded.problems {
        assert!((1..=lines).contains(&problem.line), "{problem}");
        let line = text.split('\n').nth(problem.line - 1).unwrap_or_default();
        assert!((1..=line.chars().count() + 1).contains(&problem.column), "{problem} of {line:?}");
        assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem}");
    }
    let failed = loaded.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(loaded.snapshot.is_none(), failed);
    // A zero byte says that it is no text at all, in a comment too.
    let is_text = std::str::from_utf8(input).is_ok() && !input.contains(&0);
    let Some(blank) = blank(text).filter(|blank| is_text && blank != text && is_json(blank)) else { return };
    let again = read(blank.as_bytes());
    // Whose expiry passes between the two is told at the next try.
    if told(&again) != told(&loaded) {
        assert_eq!(told(&read(blank.as_bytes())), told(&read(text.as_bytes())), "{text:?}");
    }
}

fn names_a_file(input: &[u8]) -> bool {
    input.windows(2).any(|two| matches!(two, b"\"/" | b"./" | b":/" | b"~/"))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

fn read(text: &[u8]) -> Loaded {
    fs::write(&*FILE, text).expect("a file can be written");
    load(&FILE, &|name| (name == "SET").then(|| "a-value-of-a-variable".to_owned()))
}

/// What is said of a config, but for the lines that are shown.
fn told(loaded: &Loaded) -> Vec<(Severity, usize, usize, &str, &str)> {
    let problems = loaded.problems.iter();
    problems.map(|it| (it.severity, it.line, it.column, it.key_path.as_str(), it.message.as_str())).collect()
}
