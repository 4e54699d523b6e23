//! Reads the source text: which file uses which. No parser of Rust: comments and texts are blanked, paths are found by their
//! `::`, and names are followed through `use`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The path of a module below the root of the crate: `["net", "tcp"]`.
pub(crate) type ModulePath = Vec<String>;

/// The source directory of this crate.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Source files below `directory`, without those that hold only tests.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found
}

/// The path of the module that a file holds: `src/identity/token_table.rs` is `identity`, `token_table`.
pub(crate) fn module(file: &Path) -> ModulePath {
    let below = file.strip_prefix(root()).expect("below src").with_extension("");
    let names = below.components().map(|name| name.as_os_str().to_string_lossy().into_owned());
    names.filter(|name| !matches!(name.as_str(), "mod" | "lib" | "main")).collect()
}

/// One file, as far as its paths tell.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The names that `use` brings, with the paths that they stand for.
    names: BTreeMap<String, Vec<String>>,
    /// The modules of which it has all names.
    globs: Vec<Vec<String>>,
    /// The names of its own items.
    items: BTreeSet<String>,
    /// All paths that it uses, each from its first name. What it only passes on by `pub use` is none of them.
    paths: Vec<Vec<String>>,
}

impl Source {
    /// Reads the text of a file.
    pub(crate) fn read(text: &str) -> Self {
        let code = without_scopes(&without_tests(&blanked(text)));
        let mut source = Self::default();
        let mut rest = String::with_capacity(code.len());
        let mut at = 0;
        let mut uses = Vec::new();
        while let Some((start, end)) = next_use(&code, at) {
            rest.push_str(&code[at..start]);
            let is_public = code[..start].trim_end().ends_with(['b', ')']) && is_behind_pub(&code[..start]);
            let mut leaves = Vec::new();
            leaves_of(&code[start + "use ".len()..end], &[], &mut leaves);
            uses.extend(leaves.into_iter().map(|(path, name)| (path, name, is_public)));
            at = end + 1;
        }
        rest.push_str(&code[at..]);
        for (path, name, is_public) in uses {
            let is_only_passed_on = is_public && (name == "*" || !has_word(&rest, &name));
            source.paths.extend((!is_only_passed_on).then(|| path.clone()));
            if name == "*" {
                source.globs.push(path);
            } else {
                source.names.insert(name, path);
            }
        }
        source.items = items(&rest);
        source.paths.extend(inline_paths(&rest));
        source
    }
}

/// The code with blanks for its comments, its texts and its characters.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let mut blank = |from: usize, to: usize| {
        out[from..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let end = match rest {
            [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            [b'r', b'#', b'"', ..] | [b'r', b'"', ..] => {
                let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
                let close = format!("\"{}", "#".repeat(hashes));
                let body = at + 2 + hashes;
                body + find(&bytes[body..], close.as_bytes()).unwrap_or(0) + close.len()
            }
            [b'"', ..] => {
                let mut end = at + 1;
                while bytes.get(end).is_some_and(|byte| *byte != b'"') {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                end + 1
            }
            [b'\'', b'\\', _, ..] => {
                at + 3 + rest[3..].iter().position(|byte| *byte == b'\'').unwrap_or(0) + 1
            }
            [b'\'', _, b'\'', ..] => at + 3,
            [byte, ..] if byte.is_ascii_alphanumeric() || *byte == b'_' => {
                at += rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                // `br"…"` and `b'…'`: the prefix is a word before a text.
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        let end = end.min(bytes.len());
        blank(at, end);
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The code without the items behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    // The condition is code; only what is quoted was blanked.
    while let Some((before, behind)) = rest.split_once("#[cfg(test)]") {
        out.push_str(before);
        rest = &behind[end_of_item(behind)..];
    }
    out.push_str(rest);
    out
}

/// The code without the paths of visibilities, as in `pub(in crate::mcp)`, which use nothing.
fn without_scopes(code: &str) -> String {
    let mut parts = code.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |code, part| {
        code + "pub(" + part.split_once(')').map_or("", |(scope, _)| &part[scope.len()..])
    })
}

/// Where the item ends that begins here: at its `;`, or behind its braces.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The next `use` item from `from` on: where it starts, and its `;`.
fn next_use(code: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let start = at + code[at..].find("use ")?;
        let is_word = !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // `impl Trait + use<'a>` has no blank.
        if is_word {
            return Some((start, start + code[start..].find(';')?));
        }
        at = start + 1;
    }
}

fn is_behind_pub(before: &str) -> bool {
    let before = before.trim_end();
    let before = match before.strip_suffix(')') {
        Some(inner) => inner.rsplit_once('(').map_or(before, |(before, _)| before),
        None => before,
    };
    before.ends_with("pub")
}

/// The paths of a `use` tree, each with the name that it brings.
fn leaves_of(tree: &str, prefix: &[String], leaves: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if tree.is_empty() {
        return;
    }
    if let Some(group) = tree.strip_prefix('{').and_then(|group| group.strip_suffix('}')) {
        let (mut depth, mut start) = (0, 0);
        for (at, byte) in group.bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b',' if depth == 0 => {
                    leaves_of(&group[start..at], prefix, leaves);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return leaves_of(&group[start..], prefix, leaves);
    }
    let name: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut path = prefix.to_vec();
    if name != "self" || prefix.is_empty() {
        path.extend((!name.is_empty()).then(|| name.clone()));
    }
    match tree[name.len()..].trim_start() {
        rest if rest.starts_with("::") => leaves_of(&rest[2..], &path, leaves),
        rest => {
            let alias = rest.strip_prefix("as ").map(|alias| alias.trim().to_owned());
            let alias = alias.or_else(|| rest.starts_with('*').then(|| "*".to_owned()));
            if let Some(name) = alias.or_else(|| path.last().cloned()) {
                leaves.push((path, name));
            }
        }
    }
}

/// The names of all items.
fn items(code: &str) -> BTreeSet<String> {
    let words: Vec<_> =
        code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules"];
    words.windows(2).filter(|pair| kinds.contains(&pair[0])).map(|pair| pair[1].to_owned()).collect()
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
    })
}

/// Paths with a `::` outside of `use`.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let mut paths: Vec<Vec<String>> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        let is_inside = rest[..start].trim() == "::" && !path.is_empty();
        if !is_inside {
            paths.extend((path.len() > 1).then(|| std::mem::take(&mut path)));
            path.clear();
        }
        let word = &rest[start..];
        let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
        path.push(word[..end].to_owned());
        rest = &word[end..];
    }
    paths.extend((path.len() > 1).then_some(path));
    paths
}

/// All files of the crate.
pub(crate) struct Sources(pub(crate) BTreeMap<ModulePath, Source>);

impl Sources {
    /// Reads them.
    pub(crate) fn read() -> Self {
        let read = |file: PathBuf| {
            let text = fs::read_to_string(&file).expect("readable");
            (module(&file), Source::read(&text))
        };
        Self(files(&root()).into_iter().map(read).filter(|(module, _)| !module.is_empty()).collect())
    }

    /// The files that this one uses, each with what of it.
    pub(crate) fn uses(&self, module: &[String]) -> BTreeMap<ModulePath, BTreeSet<String>> {
        let mut used: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for path in self.0[module].paths.iter().filter_map(|path| self.absolute(module, path)) {
            let file = self.file_of(&path, 0).filter(|file| file.as_slice() != module);
            if let Some(file) = file {
                used.entry(file).or_default().extend(path.last().cloned());
            }
        }
        used
    }

    /// The path from the root of the crate; `None` of what is outside of it.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut from = module.to_vec();
        match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => {}
            "super" => {
                from.pop()?;
                if rest.first().is_some_and(|next| next == "super") {
                    return self.absolute(&from, rest);
                }
            }
            name => {
                let child = [module, &[name.to_owned()]].concat();
                if self.0.contains_key(&child) {
                    return Some([child.as_slice(), rest].concat());
                }
                let named =
                    self.0.get(module)?.names.get(name).filter(|named| named.first() != Some(first))?;
                return Some([self.absolute(module, named)?.as_slice(), rest].concat());
            }
        }
        from.extend_from_slice(rest);
        Some(from)
    }

    /// The file that has what an absolute path names, past those that only pass it on.
    fn file_of(&self, path: &[String], depth: usize) -> Option<ModulePath> {
        let length = (1..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let (file, rest) = path.split_at(length);
        let source = &self.0[file];
        // Whoever has a name by a `use` of this file uses the file that the name is from.
        let name = rest.first().filter(|name| depth < 8 && !source.items.contains(*name));
        let named = name.and_then(|name| {
            let glob = || {
                let from = source.globs.iter().filter(|from| {
                    let from = self.absolute(file, from).and_then(|from| self.0.get(&from));
                    from.is_some_and(|from| from.items.contains(name))
                });
                from.map(|from| [from.as_slice(), std::slice::from_ref(name)].concat()).next()
            };
            source.names.get(name).cloned().or_else(glob)
        });
        let passed = named.and_then(|path| self.absolute(file, &path));
        match passed {
            Some(passed) => self.file_of(&[&passed, &rest[1..]].concat(), depth + 1),
            None => Some(file.to_vec()),
        }
    }
}

/// Which file uses which, and what of it.
pub(crate) type Graph = BTreeMap<ModulePath, BTreeMap<ModulePath, BTreeSet<String>>>;

/// The circles in a graph: its strongly connected parts of more than one node.
pub(crate) fn circles(graph: &Graph) -> Vec<BTreeSet<ModulePath>> {
    let reached = |from: &ModulePath| {
        let mut met = BTreeSet::new();
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            open.extend(
                graph
                    .get(node)
                    .into_iter()
                    .flat_map(BTreeMap::keys)
                    .filter(|next| met.insert((*next).clone())),
            );
        }
        met
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|node| (node, reached(node))).collect();
    let mut circles: Vec<BTreeSet<ModulePath>> = Vec::new();
    for (node, far) in &reached {
        let circle: BTreeSet<_> = far
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(*node)))
            .cloned()
            .collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

#[test]
fn paths_are_found_in_every_way_to_write_them() {
    let text = r##"
        use crate::secret::Secret;
        use crate::{identity::{a, b::{c}}, body, net::{self}};
        pub use super::{near as far};
        pub(super) use super::super::{clock, mcp::{id}};
        // crate::comment
        pub(in crate::scope) fn f(c: char) -> crate::route::Endpoint { let _ = ("crate::text", r#"crate::"raw"#, '"', c::d); }
        #[cfg(test)]
        fn only() { crate::tested::f() }
        #[cfg(test)]
        mod tests { use crate::tested; }
    "##;
    let source = Source::read(text);
    let mut paths: Vec<_> = source.paths.iter().map(|path| path.join("::")).collect();
    paths.sort();
    let wanted = [
        "c::d",
        "crate::body",
        "crate::identity::a",
        "crate::identity::b::c",
        "crate::net",
        "crate::route::Endpoint",
        "crate::secret::Secret",
    ];
    assert_eq!(paths, wanted);
    assert_eq!(source.names["far"], ["super", "near"]);
}

#[test]
fn names_are_followed_to_the_file_that_has_them() {
    let path = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let files = [
        ("a", "pub use b::{Given, Used}; mod b; mod c; fn f() { Used::new() }"),
        ("a::b", "use super::c; fn f() { c::g() }"),
        ("a::c", "use super::Given; use crate::d; fn f() { d::f() }"),
        ("d", "pub use e::*;"),
        ("d::e", "use super::super::a::Given; pub const fn f() {}"),
    ];
    let sources = Sources(files.map(|(module, text)| (path(module), Source::read(text))).into());
    let uses = |module: &str| {
        let used = sources.uses(&path(module)).into_keys();
        used.map(|used| used.join("::")).collect::<Vec<_>>()
    };
    assert_eq!(uses("a"), ["a::b"], "what it uses itself counts although it passes it on");
    assert_eq!(uses("a::b"), ["a::c"]);
    assert_eq!(uses("a::c"), ["a::b", "d", "d::e"], "a module that is used is one too");
    assert_eq!(uses("d::e"), ["a::b"]);
}

#[test]
fn a_circle_is_found_once_and_what_only_leads_to_it_is_none_of_it() {
    let node = |name: &str| vec![name.to_owned()];
    let graph = [("a", "b"), ("b", "c"), ("c", "b"), ("d", "d")]
        .map(|(from, to)| (node(from), BTreeMap::from([(node(to), BTreeSet::new())])));
    assert_eq!(circles(&graph.into()), [BTreeSet::from([node("b"), node("c")])]);
}

#[test]
fn a_file_is_a_module_with_the_name_of_its_path() {
    for (file, wanted) in
        [("clock.rs", vec!["clock"]), ("net/mod.rs", vec!["net"]), ("net/tcp.rs", vec!["net", "tcp"])]
    {
        assert_eq!(module(&root().join(file)), wanted, "{file}");
    }
}
