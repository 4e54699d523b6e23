//! What a key can take: how each kind of value is read, shown and described.

use std::time::Duration;

use serde_json::Value as Json_;

use super::{Book, Object, Shape};
use crate::{
    config::{
        hint,
        problem::Place,
        reader::{Context, Node, Text},
    },
    secret::Secret,
};

/// A kind of value.
pub(crate) trait Value: Sized {
    /// Bounds that a key sets; `()` where there are none.
    type Rule: Copy + Sync + 'static;
    /// What a key writes as its default.
    type Default: Copy + Sync + 'static;

    /// Reads a value, or notes why it is not good.
    fn read(rule: &Self::Rule, cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self>;

    /// The value of an absent key; `at` is where it would stand.
    fn from_default(default: Self::Default, at: &dyn Fn() -> Place) -> Self;

    /// The default as it would stand in a config.
    fn show(default: Self::Default) -> Json_;

    /// What there is to say about its values.
    fn shape(rule: &Self::Rule, book: &mut Book) -> Shape;
}

/// Bounds of a number or a time span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule<T> {
    pub(crate) least: T,
    pub(crate) most: T,
    pub(crate) unit: &'static str,
}

/// Values whose default is the value itself, and of which a key says nothing more.
macro_rules! plain {
    ($type:ty, $rule:ty, $read:expr, $show:expr, $shape:expr) => {
        impl Value for $type {
            type Rule = $rule;
            type Default = $type;

            fn read(rule: &$rule, cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
                $read(rule, cx, node)
            }

            fn from_default(default: $type, _: &dyn Fn() -> Place) -> Self {
                default
            }

            fn show(default: $type) -> Json_ {
                $show(default)
            }

            fn shape(rule: &$rule, _: &mut Book) -> Shape {
                $shape(rule)
            }
        }
    };
}

type Cx<'a, 'c> = &'a mut Context<'c>;

plain!(bool, (), |(): &(), cx: Cx<'_, '_>, node: &Node<'_>| node.bool(cx), Json_::from, |(): &()| Shape::Bool);
plain!(
    u64,
    Rule<u64>,
    |rule: &Rule<u64>, cx: Cx<'_, '_>, node: &Node<'_>| node.number(cx, rule.least, rule.most),
    Json_::from,
    |rule: &Rule<u64>| Shape::Number(*rule)
);
plain!(
    usize,
    Rule<u64>,
    |rule: &Rule<u64>, cx: Cx<'_, '_>, node: &Node<'_>| {
        // Where a machine's addresses are shorter, so is what it can count.
        node.number(cx, rule.least, rule.most).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    },
    Json_::from,
    |rule: &Rule<u64>| Shape::Number(*rule)
);
plain!(
    Duration,
    Rule<Duration>,
    |rule: &Rule<Duration>, cx: Cx<'_, '_>, node: &Node<'_>| node.duration(cx, rule.least, rule.most),
    |default| Json_::from(humantime::format_duration(default).to_string()),
    |rule: &Rule<Duration>| Shape::Duration(*rule)
);

/// Values that are text in the config.
macro_rules! textual {
    ($type:ty, $read:expr, $default:expr, $shape:expr) => {
        impl Value for $type {
            type Rule = ();
            type Default = &'static str;

            fn read((): &(), cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
                $read(cx, node)
            }

            fn from_default(default: &'static str, at: &dyn Fn() -> Place) -> Self {
                $default(default.to_owned(), at)
            }

            fn show(default: &'static str) -> Json_ {
                default.into()
            }

            fn shape((): &(), _: &mut Book) -> Shape {
                $shape
            }
        }
    };
}

type At<'a> = &'a dyn Fn() -> Place;

textual!(
    Text,
    |cx, node: &Node<'_>| node.string(cx),
    |value, at: At<'_>| Text::literal(value, at()),
    Shape::text()
);
textual!(
    String,
    |cx, node: &Node<'_>| node.string(cx).map(|text| text.value),
    |value, _: At<'_>| value,
    Shape::text()
);
textual!(
    Secret,
    |cx: Cx<'_, '_>, node: &Node<'_>| {
        let text = node.string(cx)?;
        cx.note_secret(&text);
        Some(Secret::new(text.value))
    },
    |value, _: At<'_>| Secret::new(value),
    Shape::Text { pattern: None, is_secret: true }
);
textual!(
    PathText,
    |cx, node: &Node<'_>| node.path(cx).map(PathText),
    |value, at: At<'_>| PathText(Text::literal(value, at())),
    Shape::Path
);

textual!(
    Label,
    |cx: Cx<'_, '_>, node: &Node<'_>| {
        let text = node.string(cx)?;
        if text.value.trim().is_empty() {
            cx.error(&text.at, "is empty; write a word, or remove it");
            return None;
        }
        Some(Label(text.value))
    },
    |value, _: At<'_>| Label(value),
    Shape::Text { pattern: Some(r"\S"), is_secret: false }
);

/// A word of the user's own, which is not empty: a tag or a role.
pub(crate) struct Label(pub(crate) String);

/// The path of a file.
pub(crate) struct PathText(pub(crate) Text);

/// A list; elements that are not good are noted and left out.
impl<T: Value> Value for Vec<T> {
    type Rule = T::Rule;
    type Default = &'static [T::Default];

    fn read(rule: &T::Rule, cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
        Some(node.list(cx)?.iter().filter_map(|node| T::read(rule, cx, node)).collect())
    }

    fn from_default(default: &'static [T::Default], at: &dyn Fn() -> Place) -> Self {
        default.iter().map(|&element| T::from_default(element, at)).collect()
    }

    fn show(default: &'static [T::Default]) -> Json_ {
        default.iter().map(|&element| T::show(element)).collect()
    }

    fn shape(rule: &T::Rule, book: &mut Book) -> Shape {
        Shape::List(Box::new(book.within("[]", |book| T::shape(rule, book))))
    }
}

/// One value, or a list of them; each with its position, from 1.
pub(crate) struct OneOrMany<T> {
    pub(crate) at: Place,
    /// Those that are good.
    pub(crate) values: Vec<(usize, T)>,
    /// Whether it is a list with nothing in it.
    pub(crate) is_empty: bool,
}

impl<T: Value> Value for OneOrMany<T> {
    type Rule = T::Rule;
    type Default = &'static [T::Default];

    fn read(rule: &T::Rule, cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
        let nodes = node.elements().unwrap_or_else(|| vec![node.clone()]);
        let read = |(index, node)| Some((index + 1, T::read(rule, cx, node)?));
        let values = nodes.iter().enumerate().filter_map(read).collect();
        Some(Self { at: node.at.clone(), values, is_empty: nodes.is_empty() })
    }

    fn from_default(default: &'static [T::Default], at: &dyn Fn() -> Place) -> Self {
        let values = default.iter().enumerate().map(|(index, &value)| (index + 1, T::from_default(value, at)));
        Self { at: at(), values: values.collect(), is_empty: default.is_empty() }
    }

    fn show(default: &'static [T::Default]) -> Json_ {
        Vec::<T>::show(default)
    }

    fn shape(rule: &T::Rule, book: &mut Book) -> Shape {
        let one = T::shape(rule, book);
        Shape::Either(vec![one.clone(), Shape::List(Box::new(one))])
    }
}

/// An object whose keys are names that the user chose, in file order.
pub(crate) struct Map<T> {
    pub(crate) entries: Vec<Named<T>>,
}

/// An entry of a [`Map`].
pub(crate) struct Named<T> {
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) key: Place,
    /// `None` if it is not good.
    pub(crate) value: Option<T>,
}

impl<T: Value> Value for Map<T> {
    type Rule = T::Rule;
    type Default = ();

    fn read(rule: &T::Rule, cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
        let fields = node.map(cx)?;
        let entries = fields.entries().into_iter().map(|(name, key, node)| {
            let value = T::read(rule, cx, &node);
            Named { name: name.to_owned(), key, value }
        });
        Some(Self { entries: entries.collect() })
    }

    fn from_default((): (), _: &dyn Fn() -> Place) -> Self {
        Self { entries: Vec::new() }
    }

    fn show((): ()) -> Json_ {
        Json_::Object(serde_json::Map::new())
    }

    fn shape(rule: &T::Rule, book: &mut Book) -> Shape {
        let of = Box::new(book.within("NAME", |book| T::shape(rule, book)));
        Shape::Map { names: None, of }
    }
}

/// JSON that is not the gate's own, so that nothing in it is a reference: a JSON Schema.
pub(crate) struct Json {
    pub(crate) at: Place,
    pub(crate) value: Json_,
}

impl Value for Json {
    type Rule = ();
    type Default = ();

    fn read((): &(), _: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
        Some(Self { at: node.at.clone(), value: node.json() })
    }

    fn from_default((): (), at: &dyn Fn() -> Place) -> Self {
        Self { at: at(), value: Json_::Null }
    }

    fn show((): ()) -> Json_ {
        Json_::Null
    }

    fn shape((): &(), _: &mut Book) -> Shape {
        Shape::JsonSchema
    }
}

/// Whatever stands there: it means nothing.
pub(crate) struct Anything;

impl Value for Anything {
    type Rule = ();
    type Default = ();

    fn read((): &(), _: &mut Context<'_>, _: &Node<'_>) -> Option<Self> {
        Some(Self)
    }

    fn from_default((): (), _: &dyn Fn() -> Place) -> Self {
        Self
    }

    fn show((): ()) -> Json_ {
        Json_::Null
    }

    fn shape((): &(), _: &mut Book) -> Shape {
        Shape::Anything
    }
}

/// The name of an environment variable, as it stands.
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) at: Place,
}

impl Value for Variable {
    type Rule = ();
    type Default = &'static str;

    fn read((): &(), cx: &mut Context<'_>, node: &Node<'_>) -> Option<Self> {
        let name = node.literal(cx, "the name of a variable in double quotes")?;
        Some(Self { name, at: node.at.clone() })
    }

    fn from_default(default: &'static str, at: &dyn Fn() -> Place) -> Self {
        Self { name: default.to_owned(), at: at() }
    }

    fn show(default: &'static str) -> Json_ {
        default.into()
    }

    fn shape((): &(), _: &mut Book) -> Shape {
        Shape::Variable
    }
}

/// An object as the value of a key: [`Value`] for what `keys!` makes.
macro_rules! object_value {
    ($name:ident) => {
        impl key::Value for $name {
            type Rule = ();
            type Default = ();

            fn read((): &(), cx: &mut Context<'_>, node: &$crate::config::reader::Node<'_>) -> Option<Self> {
                key::read_object(cx, node)
            }

            fn from_default((): (), at: &dyn Fn() -> Place) -> Self {
                Self::empty(&at())
            }

            fn show((): ()) -> serde_json::Value {
                serde_json::Value::Object(serde_json::Map::new())
            }

            fn shape((): &(), book: &mut key::Book) -> key::Shape {
                book.object::<Self>()
            }
        }
    };
}

/// Reads an object; a key that is not among its own is an error.
pub(crate) fn read_object<O: Object>(cx: &mut Context<'_>, node: &Node<'_>) -> Option<O> {
    let mut fields = node.map(cx)?;
    for (name, key, _) in fields.entries() {
        if !O::knows(name) {
            fields.has_unknown = true;
            cx.error(&key, hint::unknown(name, &O::names()));
        }
    }
    Some(O::of(cx, &fields))
}

/// A word that a key can have, and what it stands for.
#[derive(Debug)]
pub(crate) struct WordFacts<T: 'static> {
    pub(crate) word: &'static str,
    /// Other spellings of it.
    pub(crate) others: &'static [&'static str],
    pub(crate) doc: &'static str,
    pub(crate) value: T,
}

/// A word as the value of a key: [`Value`] for what `words!` makes.
macro_rules! one_of {
    ($name:ident, $what:literal, $words:ident) => {
        impl key::Value for $name {
            type Rule = ();
            type Default = $name;

            fn read(
                (): &(),
                cx: &mut $crate::config::reader::Context<'_>,
                node: &$crate::config::reader::Node<'_>,
            ) -> Option<Self> {
                key::read_word(cx, node, $what, $words)
            }

            fn from_default(default: Self, _: &dyn Fn() -> $crate::config::problem::Place) -> Self {
                default
            }

            fn show(default: Self) -> serde_json::Value {
                key::show_word(default, $words)
            }

            fn shape((): &(), _: &mut key::Book) -> key::Shape {
                key::shape_of_words($words)
            }
        }
    };
}

/// Reads one of `words`, in any letter case; `what` says what they are.
pub(crate) fn read_word<T: Copy>(
    cx: &mut Context<'_>,
    node: &Node<'_>,
    what: &str,
    words: &[WordFacts<T>],
) -> Option<T> {
    let text = node.string(cx)?;
    let is = |word: &&str| word.eq_ignore_ascii_case(&text.value);
    let found = words.iter().find(|known| is(&known.word) || known.others.iter().any(|word| is(word)));
    if found.is_none() {
        let quoted: Vec<_> = words.iter().map(|known| format!("\"{}\"", known.word)).collect();
        cx.error(&text.at, format!("{} is no {what}; use {}", text.shown(), hint::any_of(&quoted)));
    }
    found.map(|known| known.value)
}

/// The word for `value`.
pub(crate) fn show_word<T: PartialEq>(value: T, words: &[WordFacts<T>]) -> Json_ {
    words.iter().find(|known| known.value == value).map(|known| known.word).into()
}

/// What there is to say about `words`.
pub(crate) fn shape_of_words<T>(words: &[WordFacts<T>]) -> Shape {
    Shape::Words(words.iter().map(|known| (known.word, known.others, known.doc)).collect())
}

pub(crate) use {object_value, one_of};
