//! The table at the top of `src/lib.rs` is true: each module uses only what is in the rows below its own.
#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules in the rows of the table, from top to bottom.
fn table() -> Vec<Vec<String>> {
    let lib = fs::read_to_string(source().join("lib.rs")).expect("readable");
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.split('`').skip(1).step_by(2).map(str::to_owned).collect())
        .filter(|modules: &Vec<_>| !modules.is_empty())
        .collect();
    let declared: BTreeSet<_> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let drawn: Vec<_> = rows.iter().flatten().map(String::as_str).collect();
    assert!(!rows.is_empty(), "the table was not found");
    assert_eq!(drawn.iter().copied().collect::<BTreeSet<_>>(), declared);
    assert_eq!(drawn.len(), declared.len(), "a module stands in the table twice");
    rows
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

/// The path of the module that a file holds: `src/identity/token_table.rs` is `identity`, `token_table`.
fn module(file: &Path) -> Vec<String> {
    let below = file.strip_prefix(source()).expect("below src").with_extension("");
    let names = below.components().map(|name| name.as_os_str().to_string_lossy().into_owned());
    names.filter(|name| name != "mod").collect()
}

/// Modules that `text`, of a file so deep below the root, reaches by `crate::…` or by `super::…`, outside of comments and
/// unit tests.
fn uses(text: &str, depth: usize) -> BTreeSet<String> {
    let text = text.split("mod tests {").next().unwrap_or_default();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let to_root = "super::".repeat(depth);
    let (from_root, from_here) = (code.split("crate::").skip(1), code.split(&to_root).skip(1));
    from_root.chain(from_here).flat_map(heads).collect()
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
fn a_module_uses_only_what_stands_below_it_in_the_table() {
    let table = table();
    let row = |module: &str| table.iter().position(|row| row.iter().any(|known| known == module));
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&source()) {
        let text = fs::read_to_string(&file).expect("readable");
        let module = module(&file);
        used.entry(module[0].clone()).or_default().extend(uses(&text, module.len()));
    }
    let upward: Vec<_> = used
        .iter()
        .filter_map(|(module, uses)| Some((module, row(module)?, uses)))
        .flat_map(|(module, at, uses)| uses.iter().map(move |used| (module.as_str(), at, used.as_str())))
        .filter(|(module, at, used)| module != used && row(used).is_some_and(|used| used <= *at))
        .map(|(module, _, used)| (module, used))
        .collect();
    let arrows: usize = used.values().map(BTreeSet::len).sum();
    assert!(arrows > 2 * table.len(), "only {arrows} uses were found; is the source still read right?");

    assert!(upward.is_empty(), "these use what does not stand below them in the table: {upward:?}");
}

#[test]
fn paths_are_found_in_every_way_to_write_them() {
    let text = "use crate::secret::Secret;\nuse crate::{\n    identity::{a, b::{c}}, body,\n    net::{self},\n};\n\
                use super::{near};\nuse super::super::{clock, mcp::{id}};\n\
                // crate::comment\nfn f() -> crate::memory::Memory {}\n#[cfg(test)]\nmod tests {\n use crate::tested;";
    let wanted = ["body", "clock", "identity", "mcp", "memory", "net", "secret"].map(str::to_owned);
    assert_eq!(uses(text, 2), BTreeSet::from(wanted));
}

#[test]
fn a_file_is_a_module_with_the_name_of_its_path() {
    for (file, wanted) in
        [("clock.rs", vec!["clock"]), ("net/mod.rs", vec!["net"]), ("net/tcp.rs", vec!["net", "tcp"])]
    {
        assert_eq!(module(&source().join(file)), wanted, "{file}");
    }
}
