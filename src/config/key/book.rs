//! Every object and key of the config as data, for those who describe it: the schema, the page, the tests.

use std::{borrow::Cow, time::Duration};

use serde_json::Value as Json;

use super::{FIRST_VERSION, Facts, Object, Value, value::Rule};
use crate::config::table::{Reference, RootKeys};

/// Objects, in the order in which they are met on the way down from the first.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) objects: Vec<Described>,
    /// The way from the root to what is described at the moment.
    path: Vec<&'static str>,
}

/// A kind of object.
#[derive(Debug)]
pub(crate) struct Described {
    /// Name of its struct.
    pub(crate) name: &'static str,
    /// Where it stands, the first place if there are several: `proxy.auth.tokens.NAME`.
    pub(crate) path: String,
    pub(crate) doc: &'static str,
    /// Keys of which it has exactly one; none are an empty list.
    pub(crate) one_of: &'static [&'static str],
    pub(crate) keys: Vec<Entry>,
}

/// A key.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) facts: Facts,
    pub(crate) shape: Shape,
    pub(crate) absent: Absence,
    /// The key beside which alone this one means something.
    pub(crate) beside: Option<&'static str>,
}

impl Entry {
    /// The documentation of the key, with what follows from its facts; Markdown.
    pub(crate) fn sentences(&self) -> String {
        let mut text = paragraphs(self.facts.doc);
        if let Some(words) = self.shape.words() {
            let described = words.iter().map(|(word, _, doc)| {
                let doc = paragraphs(doc);
                format!("`{word}`: {}", doc.trim_end_matches('.'))
            });
            text += &format!(" {}.", described.collect::<Vec<_>>().join("; "));
        }
        if let Some(tag) = self.beside {
            text += &format!(" Only beside `{tag}`.");
        }
        if self.facts.restart {
            text += " A change takes effect at the next start.";
        }
        if let Some(instead) = self.facts.deprecated {
            text += &format!(" Deprecated: {instead}.");
        }
        if self.facts.since != FIRST_VERSION {
            text += &format!(" Since {}.", self.facts.since);
        }
        text
    }
}

/// What there is if a key is absent.
#[derive(Debug)]
pub(crate) enum Absence {
    Default(Json),
    /// What these words say.
    Means(&'static str),
    /// An error.
    Required,
}

/// What a key can take.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// Whatever it is, it means nothing.
    Anything,
    Bool,
    Number(Rule<u64>),
    Duration(Rule<Duration>),
    /// Text, or a reference to it.
    Text { pattern: Option<&'static str>, is_secret: bool },
    /// Text that names a file, which cannot be a reference to what stands in a file.
    Path,
    /// The name of an environment variable.
    Variable,
    /// One of these: the word, other spellings of it, what it means.
    Words(Vec<(&'static str, &'static [&'static str], &'static str)>),
    List(Box<Shape>),
    Map { names: Option<&'static str>, of: Box<Shape> },
    /// The object of this name.
    Object(&'static str),
    Either(Vec<Shape>),
    /// A JSON Schema of the type `object`.
    JsonSchema,
}

impl Shape {
    /// Text of any kind.
    pub(crate) fn text() -> Self {
        Self::Text { pattern: None, is_secret: false }
    }

    fn words(&self) -> Option<&[(&'static str, &'static [&'static str], &'static str)]> {
        match self {
            Self::Words(words) => Some(words),
            _ => None,
        }
    }

    pub(crate) fn with_pattern(mut self, wanted: Option<&'static str>) -> Self {
        if let Self::Text { pattern, .. } | Self::Map { names: pattern, .. } = &mut self {
            *pattern = wanted;
        }
        self
    }
}

pub(crate) fn shape_of<T: Value>(rule: &T::Rule, book: &mut Book) -> Shape {
    T::shape(rule, book)
}

impl Book {
    /// All objects of the config, the root first, and the object that stands for a text.
    pub(crate) fn of_the_config() -> Self {
        let mut book = Self::default();
        book.object::<RootKeys>();
        book.within("$env, $file", Self::object::<Reference>);
        book
    }

    /// Describes what stands below `step`.
    pub(crate) fn within<T>(&mut self, step: &'static str, describe: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let described = describe(self);
        self.path.pop();
        described
    }

    /// Describes `O`, unless that has been done.
    pub(crate) fn object<O: Object>(&mut self) -> Shape {
        if !self.objects.iter().any(|known| known.name == O::NAME) {
            let index = self.objects.len();
            let path = self.path.join(".").replace(".[]", "[]");
            let (name, doc, one_of) = (O::NAME, O::DOC, O::ONE_OF);
            self.objects.push(Described { name, path, doc, one_of, keys: Vec::new() });
            let mut keys = Vec::new();
            O::keys(&mut |_, entry| keys.push(entry(self)));
            self.objects[index].keys = keys;
        }
        Shape::Object(O::NAME)
    }
}

/// A doc comment as Markdown: one line a paragraph.
pub(crate) fn paragraphs(doc: &str) -> String {
    let lines: Vec<_> = doc.trim().lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Markdown without its links: `[text](where)` is `text`.
pub(crate) fn without_links(text: &str) -> Cow<'_, str> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let Some((start, (_, after))) = before.rfind('[').zip(link.split_once(')')) else { break };
        plain += &before[..start];
        plain += &before[start + 1..];
        rest = after;
    }
    if plain.is_empty() { text.into() } else { (plain + rest).into() }
}
