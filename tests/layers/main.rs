//! The table at the top of `src/lib.rs` is true: each module uses only what is in the rows below its own. And within a
//! module, files use each other in one direction.
#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod source;
mod waits;

use std::{collections::BTreeSet, fs};

use source::{Graph, ModulePath, Sources, circles, root};

/// The circles of files that are left. This list may only become shorter.
const CIRCLES: &[&[&str]] = &[
    &["child", "child::keeper"],
    &["config::read::fields", "config::read::reader"],
    &["demo", "demo::modern", "demo::response", "demo::rpc", "demo::run", "demo::sessions", "demo::tools"],
    &["downstream::frames", "downstream::interim"],
];

/// The modules in the rows of the table, from top to bottom.
fn table() -> Vec<Vec<String>> {
    let lib = fs::read_to_string(root().join("lib.rs")).expect("readable");
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

/// Which file uses which.
fn graph() -> Graph {
    let sources = Sources::read();
    sources.0.keys().map(|module| (module.clone(), sources.uses(module))).collect()
}

#[test]
fn a_module_uses_only_what_stands_below_it_in_the_table() {
    let table = table();
    let row = |module: &str| table.iter().position(|row| row.iter().any(|known| known == module));
    let graph = graph();
    let arrows: BTreeSet<_> = graph
        .iter()
        .flat_map(|(file, uses)| uses.keys().map(|used| (file[0].as_str(), used[0].as_str())))
        .filter(|(module, used)| module != used)
        .collect();
    assert!(
        arrows.len() > 2 * table.len(),
        "only {} uses were found; is the source still read right?",
        arrows.len()
    );
    let upward: Vec<_> = arrows
        .into_iter()
        .filter(|(module, used)| row(module).zip(row(used)).is_some_and(|(from, to)| to <= from))
        .collect();
    assert!(upward.is_empty(), "these use what does not stand below them in the table: {upward:?}");
}

#[test]
fn files_of_a_module_use_each_other_in_one_direction() {
    let graph = graph();
    let arrows: usize = graph.values().map(|uses| uses.len()).sum();
    assert!(arrows > 3 * graph.len(), "only {arrows} uses were found; is the source still read right?");
    let found: Vec<BTreeSet<String>> =
        circles(&graph).iter().map(|circle| circle.iter().map(|file| file.join("::")).collect()).collect();
    let is_listed = |circle: &BTreeSet<String>| CIRCLES.iter().any(|listed| circle.iter().eq(listed.iter()));
    let new: Vec<_> = found.iter().filter(|circle| !is_listed(circle)).collect();
    assert!(
        new.is_empty(),
        "these files use each other in a circle: {new:#?}\n{}",
        arrows_within(&graph, &new)
    );
    let is_met = |listed: &&[&str]| found.iter().any(|circle| circle.iter().eq(listed.iter()));
    let gone: Vec<_> = CIRCLES.iter().filter(|listed| !is_met(listed)).collect();
    assert!(gone.is_empty(), "these circles are cut, take them out of the list: {gone:#?}");
}

/// The uses that make up the circles.
fn arrows_within(graph: &Graph, circles: &[&BTreeSet<String>]) -> String {
    let mut text = String::new();
    for circle in circles {
        for (file, uses) in graph {
            let is_inside = |file: &ModulePath| circle.contains(&file.join("::"));
            for (used, names) in uses.iter().filter(|(used, _)| is_inside(file) && is_inside(used)) {
                text += &format!("{} -> {}: {names:?}\n", file.join("::"), used.join("::"));
            }
        }
        text += "\n";
    }
    text
}
