//! The reference page of the config, `docs/config.md`.

use std::fmt::Write;

use super::{
    LONGEST, Shape,
    book::{Absence, Book, Described, Entry, paragraphs},
    value::Rule,
};

const INTRO: &str = r#"# Config reference

<!-- Written by `SLUICEGATE_BLESS=1 cargo test --lib config` from src/config/table: change it there. -->

One file in JSON, in which comments and trailing commas are allowed. A key that is not on this page is an error, and so is
a key that is there twice. `sluicegate check` finds every mistake at once. A running gate follows changes of the file; what
takes effect at the next start only says so here.

`sluicegate schema` prints the same as a JSON Schema, from which editors complete; the one of this version is
[sluicegate.schema.json](sluicegate.schema.json). `sluicegate schema --markdown` prints this page.

A **duration** is text with units (`"30s"`, `"500ms"`, `"5m"`, `"1h 30m"`) or a number of seconds, and at most 30 days.
**Paths** are relative to the config. Words such as `"info"` may be written in any letter case.

Any **text** may hold references:

| written | means |
|---|---|
| `"$env:VAR"`, `"env:VAR"` | the environment variable, as the whole value |
| `"$env:VAR\|default"` | with a default, which may be another reference |
| `"a ${VAR} b"`, `"${VAR:-default}"` | the variable, anywhere in the text |
| `{ "$env": "VAR" }` | the variable |
| `{ "$file": "path" }` | what stands in the file, without one line break at its end; not where a path is asked for |
| `"$$"` | a plain dollar sign |

A variable that is not set or empty, and has no default, is an error. What a variable holds is not expanded again.
"#;

/// The page, which ends with a line break.
pub fn page() -> String {
    let book = Book::of_the_config();
    let mut page = INTRO.to_owned();
    for described in &book.objects {
        // The introduction says more of references than a table could.
        if !described.path.starts_with('$') {
            section(&mut page, &book, described);
        }
    }
    page
}

fn section(page: &mut String, book: &Book, described: &Described) {
    let title = match described.path.as_str() {
        "" => "The file".to_owned(),
        path => format!("`{path}`"),
    };
    let doc = paragraphs(described.doc);
    let _ = write!(page, "\n## {title}\n\n{doc}");
    if !described.one_of.is_empty() {
        let names: Vec<_> = described.one_of.iter().map(|name| format!("`{name}`")).collect();
        let _ = write!(page, " It has exactly one of {}.", names.join(", "));
    }
    page.push_str("\n\n| key | takes | default | meaning |\n|---|---|---|---|\n");
    for entry in &described.keys {
        let names: Vec<_> = std::iter::once(&entry.facts.name).chain(entry.facts.others).collect();
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let cells =
            [names.join(" or "), takes(book, &entry.shape), default(&entry.absent), meaning(entry)];
        let cells = cells.map(|cell| cell.replace('|', r"\|").replace("\n\n", "<br>"));
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
}

fn meaning(entry: &Entry) -> String {
    let mut text = entry.sentences();
    if !entry.facts.examples.is_empty() {
        let examples: Vec<_> = entry.facts.examples.iter().map(|example| format!("`{example}`")).collect();
        let _ = write!(text, " Such as {}.", examples.join(", "));
    }
    text
}

fn default(absent: &Absence) -> String {
    match absent {
        Absence::Default(value) => format!("`{value}`"),
        Absence::Means("") => "–".to_owned(),
        Absence::Means(words) => (*words).to_owned(),
        Absence::Required => "required".to_owned(),
    }
}

/// What a value of this shape looks like, in a few words.
fn takes(book: &Book, shape: &Shape) -> String {
    match shape {
        Shape::Anything => "anything".to_owned(),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Number(rule) => number(rule),
        Shape::Duration(Rule { least, most, unit }) => {
            let mut text = (*unit).to_owned();
            if least.as_millis() > 1 {
                let _ = write!(text, ", at least {}", humantime::format_duration(*least));
            }
            if *most < LONGEST {
                let _ = write!(text, ", at most {}", humantime::format_duration(*most));
            }
            text
        }
        Shape::Text { is_secret: true, .. } => "secret text".to_owned(),
        Shape::Text { .. } => "text".to_owned(),
        Shape::Path => "path".to_owned(),
        Shape::Variable => "name of a variable".to_owned(),
        Shape::Words(words) => {
            let quoted: Vec<_> = words.iter().map(|(word, _, _)| format!("`\"{word}\"`")).collect();
            quoted.join(", ")
        }
        Shape::List(of) => format!("list of {}", takes(book, of)),
        Shape::Map { of, .. } => format!("object: names, each with {}", takes(book, of)),
        Shape::Object(name) => {
            let path = book.objects.iter().find(|known| known.name == *name).map_or("", |known| &known.path);
            format!("[object](#{})", anchor(path))
        }
        Shape::Either(shapes) => {
            let shapes: Vec<_> = shapes.iter().map(|shape| takes(book, shape)).collect();
            shapes.join(", or ")
        }
        Shape::JsonSchema => "JSON Schema".to_owned(),
    }
}

fn number(rule: &Rule<u64>) -> String {
    let Rule { least, most, unit } = rule;
    match (least, most) {
        (0, &u64::MAX) => (*unit).to_owned(),
        (least, &u64::MAX) => format!("{unit}, at least {least}"),
        (least, most) => format!("{unit}, {least} to {most}"),
    }
}

/// The anchor that GitHub gives to a heading.
fn anchor(path: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    path.chars().filter(kept).map(|c| c.to_ascii_lowercase()).collect()
}
