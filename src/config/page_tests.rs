//! The reference page of the config: `docs/config.md` is what the table makes of it.
#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::fmt::Write;

use crate::config::{
    report::schema,
    table::{
        ROOT,
        key::{Absent, Key, LONGEST, Object, ValueKind, Words, objects},
    },
};

const INTRO: &str = r#"# Config reference

<!-- Made of src/config/table by `SLUICEGATE_BLESS=1 cargo test --lib config`: change it there. -->

One file in JSON, in which comments and trailing commas are allowed. A key that is not on this page is an error, and so is
a key that is there twice; but `description`, and keys that begin with `_` or `//`, are accepted in every object and mean nothing.
(Where keys are names that you choose, only those that begin with `//`.) `sluicegate check` finds every mistake at once, and `sluicegate schema` prints what stands here as
a JSON Schema, from which editors complete. A running gateway follows the file; a key that takes effect at the next start only
says so.

A **duration** is text with units (`"30s"`, `"500ms"`, `"5m"`, `"1h 30m"`) or a number of seconds, and at most 30 days.
A **path** is relative to the config. Words such as `"info"` may be written in any letter case.

Any **text** may hold references:

| written | means |
|---|---|
| `"$env:VAR"`, `"env:VAR"` | the environment variable, as the whole value |
| `"$env:VAR\|default"` | with a default, which may be another reference |
| `"a ${VAR} b"`, `"${VAR:-default}"` | the variable, anywhere in the text |
| `{ "$env": "VAR" }` | the variable |
| `{ "$file": "path" }` | what stands in the file, without one line break at its end; not where a path is asked for |
| `{ "$text": "env:HOME" }` | the text as it stands, in which nothing is a reference |
| `{ "$userToken": "Bearer {{token}}" }` | in `headers` and `env` of a server alone: the text with the token of whoever calls in it, see [credentials](credentials.md) |
| `"$$"` | a plain dollar sign |

A variable that is not set or empty, and has no default, is an error. What a variable holds is not expanded again. Variables
are those of the environment that the gateway was started with.
"#;

#[test]
fn the_reference_page_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
    let wanted = page();
    if std::env::var_os("SLUICEGATE_BLESS").is_some() {
        std::fs::write(path, &wanted).expect("written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let differs = wanted.lines().zip(found.lines()).find(|(wanted, found)| wanted != found);
    assert!(
        wanted == found,
        "`SLUICEGATE_BLESS=1 cargo test --lib config` writes docs/config.md anew: {differs:?}"
    );
}

fn page() -> String {
    let mut page = INTRO.to_owned();
    for (path, object) in objects(&ROOT) {
        section(&mut page, &path, object);
    }
    page
}

fn section(page: &mut String, path: &str, object: &Object) {
    let (title, doc) = match path {
        "" => ("The file".to_owned(), "All of it is one object."),
        path => (format!("`{path}`"), object.doc),
    };
    let _ = write!(page, "\n## {title}\n\n{doc}");
    if !object.one_of.is_empty() {
        let names: Vec<_> = object.one_of.iter().map(|name| format!("`{name}`")).collect();
        let _ = write!(page, " It has exactly one of {}.", names.join(", "));
    }
    page.push_str("\n\n| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in object.keys {
        let names: Vec<_> = key.names().map(|name| format!("`{name}`")).collect();
        let cells = [names.join(" or "), takes(&key.kind), default(key), meaning(key)];
        let _ = writeln!(page, "| {} |", cells.map(|cell| cell.replace('|', r"\|")).join(" | "));
    }
}

fn meaning(key: &Key) -> String {
    let mut text = schema::sentences(key);
    if !key.examples.is_empty() {
        let examples: Vec<_> = key.examples.iter().map(|example| format!("`{example}`")).collect();
        let _ = write!(text, " Such as {}.", examples.join(", "));
    }
    text
}

fn default(key: &Key) -> String {
    match (key.absent, schema::default(key)) {
        (_, Some(value)) => format!("`{value}`"),
        (Absent::Required, _) => "required".to_owned(),
        (Absent::Means(words), _) => words.to_owned(),
        _ => "–".to_owned(),
    }
}

/// What a value of this kind looks like, in a few words.
fn takes(kind: &ValueKind) -> String {
    match *kind {
        ValueKind::Bool => "`true` or `false`".to_owned(),
        ValueKind::Number { least, most, unit } => {
            let what = if unit.is_empty() { "whole number" } else { unit };
            match (least, most) {
                (0, u64::MAX) => what.to_owned(),
                (_, u64::MAX) => format!("{what}, at least {least}"),
                _ => format!("{what}, {least} to {most}"),
            }
        }
        ValueKind::Duration(least) if least.is_zero() => "duration".to_owned(),
        ValueKind::Duration(least) => format!("duration, at least {}", humantime::format_duration(least)),
        ValueKind::Text(_) => "text".to_owned(),
        ValueKind::Secret(_) => "secret text".to_owned(),
        ValueKind::SecretOrToken(_) => "secret text, or `{ \"$userToken\": \"…{{token}}…\" }`".to_owned(),
        ValueKind::Url => "URL".to_owned(),
        ValueKind::Path => "path".to_owned(),
        ValueKind::Variable => "name of a variable".to_owned(),
        ValueKind::Literal => "text as it stands".to_owned(),
        ValueKind::Word(Words { words, .. }) => {
            let quoted: Vec<_> = words.iter().map(|word| format!("`\"{}\"`", word.0)).collect();
            quoted.join(", ")
        }
        ValueKind::List(of) => format!("list of {}", takes(of)),
        ValueKind::OrNull(of) => format!("{} or `null`", takes(of)),
        ValueKind::OrFalse(of) => format!("{} or `false`", takes(of)),
        ValueKind::Map { of, .. } => format!("object of names, each with {}", takes(of)),
        ValueKind::Object(object) => link(object),
        ValueKind::SecretOr(object) => format!("secret text or {}", link(object)),
        ValueKind::OneOrMany(of) => format!("{}, or a list of them", takes(of)),
        ValueKind::JsonSchema => "JSON Schema".to_owned(),
        ValueKind::Jwks => "JWK Set".to_owned(),
        ValueKind::Ignored => "anything".to_owned(),
    }
}

/// A link to the section, whose anchor GitHub makes of the heading.
fn link(object: &Object) -> String {
    let path = objects(&ROOT).into_iter().find(|(_, known)| known.name == object.name);
    let (path, _) = path.expect("every object is met below the root");
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let anchor: String = path.chars().filter(kept).map(|c| c.to_ascii_lowercase()).collect();
    format!("[object](#{anchor})")
}

#[test]
fn the_longest_duration_is_the_one_that_the_page_names() {
    assert_eq!(humantime::format_duration(LONGEST).to_string(), "30days");
}
