//! The table at the top of `src/lib.rs` is true: each module uses only what stands behind it there.
#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Modules in the order of the table: row by row, and within a row from left to right.
fn table() -> Vec<String> {
    let lib = fs::read_to_string(source().join("lib.rs")).expect("readable");
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | "));
    let modules: Vec<String> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2).map(str::to_owned)).collect();
    let declared: BTreeSet<_> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(!modules.is_empty(), "the table was not found");
    assert_eq!(modules.iter().map(String::as_str).collect::<BTreeSet<_>>(), declared);
    assert_eq!(modules.len(), declared.len(), "a module stands in the table twice");
    modules
}

/// Source files below `directory`, without those that hold tests only.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found
}

/// The top module that a file belongs to: `src/auth/tokens.rs` to `auth`.
fn owner(file: &Path) -> String {
    let below = file.strip_prefix(source()).expect("below src");
    let first = Path::new(below.components().next().expect("a name").as_os_str());
    first.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// Modules that `text` reaches by `crate::…`, outside of comments and unit tests.
fn uses(text: &str) -> BTreeSet<String> {
    let text = text.split("mod tests {").next().unwrap_or_default();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    code.split("crate::").skip(1).flat_map(heads).collect()
}

/// The first names of the path or paths that begin here: `{a::b, c::{d, e}}` begins with `a` and `c`.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut heads = Vec::new();
    let (mut depth, mut begins) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !c.is_whitespace() => {
                heads.push(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn a_module_uses_only_what_stands_behind_it_in_the_table() {
    let table = table();
    let position = |module: &str| table.iter().position(|known| known == module);
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&source()) {
        let text = fs::read_to_string(&file).expect("readable");
        used.entry(owner(&file)).or_default().extend(uses(&text));
    }
    let forward: Vec<_> = used
        .iter()
        .filter_map(|(module, uses)| Some((module, position(module)?, uses)))
        .flat_map(|(module, at, uses)| uses.iter().map(move |used| (module.as_str(), at, used.as_str())))
        .filter(|(module, at, used)| module != used && position(used).is_some_and(|used| used < *at))
        .map(|(module, _, used)| (module, used))
        .collect();
    let arrows: usize = used.values().map(BTreeSet::len).sum();
    assert!(arrows > table.len(), "only {arrows} uses were found; is the source still read right?");

    assert!(forward.is_empty(), "these use what stands before them in the table: {forward:?}");
}

#[test]
fn paths_are_found_in_every_way_to_write_them() {
    let text = "use crate::secret::Secret;\nuse crate::{\n    auth::{a, b::{c}}, body,\n    cors::{self},\n};\n\
                // crate::comment\nfn f() -> crate::route::Door {}\n#[cfg(test)]\nmod tests {\n use crate::tested;";
    let wanted = ["auth", "body", "cors", "route", "secret"].map(str::to_owned);
    assert_eq!(uses(text), BTreeSet::from(wanted));
}
