//! How a key of the config is described: once, as a field of a struct, from which all else follows.
//!
//! ```text
//! keys! {
//!     /// What one peer may cost.
//!     pub struct Limits {
//!         /// From accept to the end of the handshake.
//!         pub tls_handshake_timeout: Duration = duration("tlsHandshakeTimeout", MILLISECOND, secs(10)),
//!     }
//! }
//! ```
//!
//! The field's type says what the key takes ([`Value`]) and what its absence means ([`Field`]); its comment is the
//! documentation. The reader, "did you mean", the JSON Schema and `docs/config.md` are made of this and of nothing else.
//! A field that nobody uses is a compile error where the struct is private, and a failing test where it is public.

mod book;
mod field;
mod page;
mod schema;
#[cfg(test)]
mod tests;
mod value;

use std::time::Duration;

pub(crate) use self::{
    book::{Book, Entry, Shape},
    field::{FLAT, Field, Flat, Given, HERE, Here, Placed, Variant, VariantKey},
    value::{
        Anything, Json, Label, Map, Named, OneOrMany, PathText, Rule, Value, Variable, WordFacts, object_value,
        one_of, read_object, read_word, shape_of_words, show_word,
    },
};
pub use self::{page::page, schema::schema};
use super::{
    problem::Place,
    reader::{Context, Fields},
};

/// What is true of a key whatever its type is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Its name, as people write it.
    pub(crate) name: &'static str,
    /// Other names that mean the same.
    pub(crate) others: &'static [&'static str],
    /// Its documentation: Markdown, the lines of a doc comment.
    pub(crate) doc: &'static str,
    /// Likely values, each as JSON.
    pub(crate) examples: &'static [&'static str],
    /// What its text has to look like, or the names of a map: a regular expression for the schema. What the reader
    /// demands is for [`Key::check`] and the resolvers to say, in words.
    pub(crate) pattern: Option<&'static str>,
    /// Whether a change takes effect at the next start only.
    pub(crate) restart: bool,
    /// What to write in its place, if it is there for old configs only.
    pub(crate) deprecated: Option<&'static str>,
    /// The version that had it first.
    pub(crate) since: &'static str,
}

/// One key: its [`Facts`], the bounds of its values, and what stands for them if it is absent.
pub(crate) struct Key<T: Value, A> {
    facts: Facts,
    rule: T::Rule,
    absent: A,
    computed: Option<Computed<T>>,
    check: Option<Check<T>>,
}

/// A default that depends on the machine: the words for it, and the value.
type Computed<T> = (&'static str, fn() -> T);

/// Looks at a value for what its type does not say, and notes what is wrong.
pub(crate) type Check<T> = fn(&mut Context<'_>, &Found, &T);

/// Where a key and its value stand.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) key: Place,
    pub(crate) at: Place,
}

/// What the absence of a key means that has no default.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Absent {
    /// These words say it; none do if they are empty.
    Means(&'static str),
    /// An error. The words say what to write.
    Required(&'static str),
}

/// Absence means nothing in particular.
pub(crate) const NONE: Absent = Absent::Means("");

/// Absence means what the words say.
pub(crate) const fn or(words: &'static str) -> Absent {
    Absent::Means(words)
}

/// Absence is an error; the words are the way out.
pub(crate) const fn required(way_out: &'static str) -> Absent {
    Absent::Required(way_out)
}

/// A key whose type says all about its values. `absent` is its default, or for an optional one what absence means.
pub(crate) const fn key<T: Value<Rule = ()>, A>(name: &'static str, absent: A) -> Key<T, A> {
    Key::new(name, (), absent)
}

/// An object, which is empty if it is absent.
pub(crate) const fn object<T: Value<Rule = (), Default = ()>>(name: &'static str) -> Key<T, ()> {
    Key::new(name, (), ())
}

/// A list with a default.
pub(crate) const fn list<T: Value<Rule = ()>>(
    name: &'static str,
    default: &'static [T::Default],
) -> Key<Vec<T>, &'static [T::Default]> {
    Key::new(name, (), default)
}

/// A whole number from `least` to `most`.
pub(crate) const fn number<T: Value<Rule = Rule<u64>>, A>(
    name: &'static str,
    least: u64,
    most: u64,
    absent: A,
) -> Key<T, A> {
    Key::new(name, Rule { least, most, unit: "whole number" }, absent)
}

/// A number of bytes.
pub(crate) const fn bytes<T: Value<Rule = Rule<u64>>, A>(
    name: &'static str,
    least: u64,
    most: u64,
    absent: A,
) -> Key<T, A> {
    Key::new(name, Rule { least, most, unit: "bytes" }, absent)
}

/// A time span of at least `least`.
pub(crate) const fn duration<A>(name: &'static str, least: Duration, absent: A) -> Key<Duration, A> {
    Key::new(name, Rule { least, most: LONGEST, unit: "duration" }, absent)
}

/// The version of every key that does not name one.
const FIRST_VERSION: &str = "0.1.0";
/// No limit above.
pub(crate) const ANY: u64 = u64::MAX;
/// Least that a time-out may be: a shorter one would refuse honest peers.
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
/// A longer wait than this is a typing error, and would overflow clocks further on.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl<T: Value, A> Key<T, A> {
    const fn new(name: &'static str, rule: T::Rule, absent: A) -> Self {
        let facts = Facts {
            name,
            others: &[],
            doc: "",
            examples: &[],
            pattern: None,
            restart: false,
            deprecated: None,
            since: FIRST_VERSION,
        };
        Self { facts, rule, absent, computed: None, check: None }
    }

    /// The comment of the field; `keys!` passes it on.
    pub(crate) const fn doc(mut self, doc: &'static str) -> Self {
        self.facts.doc = doc;
        self
    }

    /// Other names that are taken for this one.
    pub(crate) const fn or_as(mut self, others: &'static [&'static str]) -> Self {
        self.facts.others = others;
        self
    }

    /// Likely values, each as JSON.
    pub(crate) const fn examples(mut self, examples: &'static [&'static str]) -> Self {
        self.facts.examples = examples;
        self
    }

    /// What text, or a map's names, have to look like, for the schema.
    pub(crate) const fn pattern(mut self, pattern: &'static str) -> Self {
        self.facts.pattern = Some(pattern);
        self
    }

    /// The version that had it first, if it is not the first version.
    #[expect(dead_code, reason = "there is only one version so far")]
    pub(crate) const fn since(mut self, version: &'static str) -> Self {
        self.facts.since = version;
        self
    }

    /// A change takes effect at the next start.
    pub(crate) const fn restart(mut self) -> Self {
        self.facts.restart = true;
        self
    }

    /// The key stays for old configs; `instead` says what to write.
    pub(crate) const fn deprecated(mut self, instead: &'static str) -> Self {
        self.facts.deprecated = Some(instead);
        self
    }

    /// A check of each value, besides that of its type.
    pub(crate) const fn check(mut self, check: Check<T>) -> Self {
        self.check = Some(check);
        self
    }

    /// The default is what `value` finds out on this machine; `words` describe it.
    pub(crate) const fn computed(mut self, words: &'static str, value: fn() -> T) -> Self {
        self.computed = Some((words, value));
        self
    }
}

/// What [`Object::keys`] shows of a key: its facts, and how to describe the rest of it.
pub(crate) type Visitor<'v> = dyn FnMut(&'static Facts, &dyn Fn(&mut Book) -> Entry) + 'v;

/// A kind of object in the config: a struct whose fields are its keys. `keys!` makes one.
pub(crate) trait Object: Sized + 'static {
    /// Name of the struct.
    const NAME: &'static str;
    /// What the object is.
    const DOC: &'static str;
    /// Keys of which it has exactly one; none are an empty list.
    const ONE_OF: &'static [&'static str];

    /// Reads every key; problems are noted, and what is not good counts as absent.
    fn of(cx: &mut Context<'_>, fields: &Fields<'_>) -> Self;

    /// The object with nothing in it; `at` is where it would stand.
    fn empty(at: &Place) -> Self;

    /// Shows each key, in the order of the struct.
    fn keys(visitor: &mut Visitor<'_>);

    /// Whether there is a key of that name.
    fn knows(name: &str) -> bool {
        let mut known = false;
        Self::keys(&mut |facts, _| known |= facts.name == name || facts.others.contains(&name));
        known
    }

    /// Names of all keys.
    fn names() -> Vec<&'static str> {
        let mut names = Vec::new();
        Self::keys(&mut |facts, _| {
            names.push(facts.name);
            names.extend(facts.others);
        });
        names
    }
}

/// Defines a kind of object: a struct, each field of which is a key. See the module's documentation.
macro_rules! keys {
    (
        $(#[doc = $doc:literal])+
        $(#[derive($($derive:ident),+)])?
        $vis:vis struct $name:ident $(has one of $($choice:literal),+)? {
            $(
                $(#[doc = $key_doc:literal])*
                $key_vis:vis $field:ident: $type:ty = $key:expr,
            )+
        }
    ) => {
        $(#[doc = $doc])+
        $(#[derive($($derive),+)])?
        $vis struct $name {
            $($(#[doc = $key_doc])* $key_vis $field: $type,)+
        }

        const _: () = {
            use $crate::config::{
                key::{self, Field, Object},
                problem::Place,
                reader::{Context, Fields},
            };

            struct Keys {
                $($field: <$type as Field>::Key,)+
            }

            static KEYS: Keys = Keys { $($field: $key.doc(concat!($($key_doc, "\n"),*)),)+ };

            impl Object for $name {
                const NAME: &'static str = stringify!($name);
                const DOC: &'static str = concat!($($doc, "\n"),+);
                const ONE_OF: &'static [&'static str] = &[$($($choice),+)?];

                fn of(cx: &mut Context<'_>, fields: &Fields<'_>) -> Self {
                    Self { $($field: Field::take(&KEYS.$field, cx, fields),)+ }
                }

                fn empty(at: &Place) -> Self {
                    Self { $($field: Field::absent(&KEYS.$field, at),)+ }
                }

                fn keys(visitor: &mut key::Visitor<'_>) {
                    $(<$type as Field>::visit(&KEYS.$field, visitor);)+
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::empty(&Place::root())
                }
            }

            key::object_value!($name);
        };
    };
}

/// Defines the words that a key can have: an enum, each variant of which is a word, with other spellings of it.
macro_rules! words {
    (
        $(#[doc = $doc:literal])+
        $(#[derive($($derive:ident),+)])?
        $vis:vis enum $name:ident: $what:literal {
            $($(#[doc = $word_doc:literal])+ $variant:ident = $word:literal $(| $other:literal)*,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq $($(, $derive)+)?)]
        $vis enum $name {
            $($(#[doc = $word_doc])+ $variant,)+
        }

        const _: () = {
            use $crate::config::key::{self, WordFacts};

            static WORDS: &[WordFacts<$name>] = &[$(WordFacts {
                word: $word,
                others: &[$($other),*],
                doc: concat!($($word_doc, "\n"),+),
                value: $name::$variant,
            },)+];

            key::one_of!($name, $what, WORDS);
        };
    };
}

pub(crate) use {keys, words};
