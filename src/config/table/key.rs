//! What a key of the config is: the words in which [`table`](super::table) describes each of them.
//!
//! The reader takes names, ranges, words and defaults from the table; `schema` and `docs/config.md` are made of it.

use std::time::Duration;

/// A kind of object in the config.
#[derive(Debug)]
pub(crate) struct Object {
    /// Name of its definition in the schema.
    pub(crate) name: &'static str,
    /// What it is, in Markdown.
    pub(crate) doc: &'static str,
    /// Keys of which it has exactly one; none if that does not matter.
    pub(crate) one_of: &'static [&'static str],
    pub(crate) keys: &'static [Key],
}

impl Object {
    /// The key of that name, or of which it is another name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.names().any(|known| known == name))
    }

    /// All names that keys have here.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().flat_map(Key::names).collect()
    }
}

/// One key. Its documentation is Markdown, without what follows from the rest of the entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: ValueKind,
    pub(crate) absent: Absent,
    pub(crate) doc: &'static str,
    /// Other names that mean the same.
    pub(crate) also: &'static [&'static str],
    /// The key beside which alone this one means something, as `args` does beside `command`.
    pub(crate) beside: Option<&'static str>,
    /// Likely values, each as JSON.
    pub(crate) examples: &'static [&'static str],
    /// Set if a change takes effect at the next start only: which part of the key that is, or nothing for all of it.
    pub(crate) restart: Option<&'static str>,
    /// What to write in its place, if the key is there for old configs only.
    pub(crate) deprecated: Option<&'static str>,
}

pub(crate) const fn key(name: &'static str, kind: ValueKind, absent: Absent, doc: &'static str) -> Key {
    Key { name, kind, absent, doc, also: &[], beside: None, examples: &[], restart: None, deprecated: None }
}

impl Key {
    /// The name that people are to write, and the others.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.also.iter().copied())
    }

    pub(crate) const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }

    pub(crate) const fn beside(mut self, key: &'static str) -> Self {
        self.beside = Some(key);
        self
    }

    pub(crate) const fn examples(mut self, examples: &'static [&'static str]) -> Self {
        self.examples = examples;
        self
    }

    /// A change of `part`, or of all if that is empty, takes effect at the next start.
    pub(crate) const fn restart(mut self, part: &'static str) -> Self {
        self.restart = Some(part);
        self
    }

    pub(crate) const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }
}

/// What a key takes.
///
/// A pattern is a regular expression for the schema. The reader demands the same and says in words what is wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueKind {
    Bool,
    /// A whole number, perhaps of something.
    Number {
        least: u64,
        most: u64,
        unit: &'static str,
    },
    /// A time span of at least this, and at most [`LONGEST`].
    Duration(Duration),
    /// Text, or a reference to it, that fits this pattern.
    Text(&'static str),
    /// Text that no log may have.
    Secret(&'static str),
    /// The same, or a text in which the token of a caller is put: `{ "$userToken": "Bearer {{token}}" }`.
    SecretOrToken(&'static str),
    /// An `http` or `https` URL.
    Url,
    /// Text that names a file, which cannot be a reference to what is in a file.
    Path,
    /// The name of an environment variable, as it is.
    Variable,
    /// Text in which nothing is a reference.
    Literal,
    Word(&'static Words),
    List(&'static ValueKind),
    /// This, or `null`, which says that there is none.
    OrNull(&'static ValueKind),
    /// This, or `false`, which says that there is to be none.
    OrFalse(&'static ValueKind),
    /// An object whose keys are names that the user chose.
    Map {
        names: &'static Names,
        of: &'static ValueKind,
    },
    Object(&'static Object),
    SecretOr(&'static Object),
    OneOrMany(&'static ValueKind),
    /// A JSON Schema of the type `object`, in which nothing is a reference.
    JsonSchema,
    /// A JWK Set (RFC 7517 §5), in which nothing is a reference.
    Jwks,
    /// Whatever it is, it means nothing.
    Ignored,
}

/// A longer wait than this is a typing error, and would overflow clocks further on.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Any text.
pub(crate) const ANY: &str = "";

pub(crate) const fn count(least: u64, most: u64) -> ValueKind {
    ValueKind::Number { least, most, unit: "" }
}

pub(crate) const fn bytes(least: u64, most: u64) -> ValueKind {
    ValueKind::Number { least, most, unit: "bytes" }
}

/// A time-out: a shorter one than a millisecond would refuse honest peers.
pub(crate) const TIMEOUT: ValueKind = ValueKind::Duration(Duration::from_millis(1));

/// The words that a key can have, in any letter case.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) words: &'static [Word],
    /// What to say of any other.
    pub(crate) otherwise: &'static str,
}

impl Words {
    /// The word that `text` is, in any letter case and by any of its spellings.
    pub(crate) fn find(&self, text: &str) -> Option<&'static str> {
        let is = |word: &&str| word.eq_ignore_ascii_case(text);
        self.words.iter().find(|word| is(&word.0) || word.1.iter().any(is)).map(|word| word.0)
    }
}

/// A word, other spellings of it, and what it means.
#[derive(Debug)]
pub(crate) struct Word(pub(crate) &'static str, pub(crate) &'static [&'static str], pub(crate) &'static str);

/// What names the user may choose.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) pattern: &'static str,
    /// Those that fit the pattern and cannot be had all the same.
    pub(crate) reserved: &'static [&'static str],
}

/// What the absence of a key means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Absent {
    /// It is an error.
    Required,
    /// Nothing in particular.
    Nothing,
    /// What these words say.
    Means(&'static str),
    /// An object without keys.
    Empty,
    Bool(bool),
    Number(u64),
    Duration(Duration),
    Text(&'static str),
    List(&'static [&'static str]),
}

/// Every kind of object below `root`, with the path where it is met first: `proxy.auth.tokens.NAME`.
pub(crate) fn objects(root: &'static Object) -> Vec<(String, &'static Object)> {
    fn visit(path: String, kind: &ValueKind, found: &mut Vec<(String, &'static Object)>) {
        match *kind {
            ValueKind::Object(object) | ValueKind::SecretOr(object) => {
                if found.iter().any(|(_, known)| known.name == object.name) {
                    return;
                }
                found.push((path.clone(), object));
                for key in object.keys {
                    let path = if path.is_empty() { key.name.into() } else { format!("{path}.{}", key.name) };
                    visit(path, &key.kind, found);
                }
            }
            ValueKind::List(of) => visit(format!("{path}[]"), of, found),
            ValueKind::OneOrMany(of) => visit(path, of, found),
            ValueKind::Map { of, .. } => visit(format!("{path}.NAME"), of, found),
            _ => {}
        }
    }
    let mut found = Vec::new();
    visit(String::new(), &ValueKind::Object(root), &mut found);
    found
}
