//! The entries of an object, read as the table of keys says.

use std::time::Duration;

use jsonc_parser::{ast, common::Ranged};

use crate::config::{
    read::{
        context::Context,
        reader::{Node, ReadText},
        reference::TextSource,
    },
    report::problem::Location,
    table::{
        REFERENCE,
        key::{Absent, Key, Object, ValueKind},
    },
};

/// The entries of an object. What they may be, and what their absence means, is looked up in the table.
pub(crate) struct Fields<'a> {
    pub(crate) properties: &'a [ast::ObjectProp<'a>],
    /// `None` if its keys are names that the user chose.
    pub(crate) kind: Option<&'static Object>,
    pub(crate) at: Location,
    /// Keys that were probably meant by some that were refused: they are not missing.
    pub(crate) meant: Vec<&'static str>,
}

/// What the names of keys begin with that mean nothing, in any object.
const COMMENT: &str = "//";

/// Whether a key means nothing: JSON has no comments, and other programs have `description`.
fn is_comment(name: &str, kind: &Object) -> bool {
    let is_odd = name.starts_with('_') || name.starts_with(COMMENT) || name == "description";
    is_odd && kind.key(name).is_none() && kind.name != REFERENCE.name
}

impl<'a> Fields<'a> {
    /// The entry of the table. A name that is not there is a defect of the caller's, which every test of it shows.
    fn described(&self, name: &str) -> Option<&'static Key> {
        let key = self.kind.and_then(|kind| kind.key(name));
        debug_assert!(key.is_some() || self.kind.is_none(), "{name} is not in the table");
        key
    }

    /// The property, by any of its names.
    fn find(&self, name: &str) -> Option<&'a ast::ObjectProp<'a>> {
        let key = self.described(name);
        let is_it = |property: &&ast::ObjectProp<'_>| match key {
            Some(key) => key.names().any(|known| known == property.name.as_str()),
            None => property.name.as_str() == name,
        };
        self.properties.iter().find(is_it)
    }

    /// Notes keys that the table does not have, and those that are there by two names.
    pub(crate) fn check_names(&mut self, cx: &mut Context<'_>) {
        let Some(kind) = self.kind else { return };
        for (name, place, _) in self.entries() {
            if is_comment(name, kind) {
                continue;
            }
            if kind.key(name).is_none() {
                self.meant.extend(cx.unknown(&place, name, kind));
            } else if let Some(first) = self.find(name).map(|first| first.name.as_str())
                && first != name
            {
                cx.error(&place, format!("is the same as `{first}`; keep one of them"));
            }
        }
    }

    /// The names of all entries, comments included.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.properties.iter().map(|property| property.name.as_str())
    }

    /// The name by which this key is there.
    pub(crate) fn name_of(&self, name: &str) -> Option<&'a str> {
        self.find(name).map(|property| property.name.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether none of these keys is there, nor a word that means one of them.
    pub(crate) fn lacks(&self, names: &[&str]) -> bool {
        !names.iter().any(|name| self.has(name) || self.meant.contains(name))
    }

    /// Whether some key is none of the table's: any other may be meant by it.
    pub(crate) fn has_unknown(&self) -> bool {
        let is_unknown =
            |kind: &Object| self.properties.iter().any(|property| kind.key(property.name.as_str()).is_none());
        self.kind.is_some_and(is_unknown)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Node<'a>> {
        let property = self.find(name)?;
        let value = &property.value;
        Some(Node { value, at: self.at.key(property.name.as_str(), value.range().start) })
    }

    /// True or false. `None` if it is absent and has no default, or not good; so of those below.
    pub(crate) fn bool(&self, cx: &mut Context<'_>, name: &str) -> Option<bool> {
        match (self.get(name), self.described(name)?.absent) {
            (Some(node), _) => node.bool(cx),
            (None, Absent::Bool(default)) => Some(default),
            (None, _) => None,
        }
    }

    /// A whole number in its range.
    pub(crate) fn number(&self, cx: &mut Context<'_>, name: &str) -> Option<u64> {
        let key = self.described(name)?;
        match (self.get(name), key.kind, key.absent) {
            (Some(node), ValueKind::Number { least, most, .. }, _) => node.number(cx, least, most),
            (None, _, Absent::Number(default)) => Some(default),
            _ => None,
        }
    }

    /// A time span in its range.
    pub(crate) fn duration(&self, cx: &mut Context<'_>, name: &str) -> Option<Duration> {
        let key = self.described(name)?;
        match (self.get(name), key.kind, key.absent) {
            (Some(node), ValueKind::Duration(least), _) => node.duration(cx, least),
            (None, _, Absent::Duration(default)) => Some(default),
            _ => None,
        }
    }

    /// One of the key's words, as the table spells it.
    pub(crate) fn word(&self, cx: &mut Context<'_>, name: &str) -> Option<&'static str> {
        let key = self.described(name)?;
        match (self.get(name), key.kind, key.absent) {
            (Some(node), ValueKind::Word(words), _) => {
                let text = node.string(cx)?;
                let found = words.find(&text.value);
                if found.is_none() {
                    cx.error(&text.at, format!("{} {}", text.shown(), words.otherwise));
                }
                found
            }
            (None, _, Absent::Text(default)) => Some(default),
            _ => None,
        }
    }

    /// Text, with its references replaced.
    pub(crate) fn text(&self, cx: &mut Context<'_>, name: &str) -> Option<ReadText> {
        match (self.get(name), self.described(name)?.absent) {
            (Some(node), _) => node.string(cx),
            (None, Absent::Text(default)) => Some(self.literal(name, default)),
            (None, _) => None,
        }
    }

    /// As [`Fields::text`], of a key that may be `null`, which is `None`, too.
    pub(crate) fn text_or_null(&self, cx: &mut Context<'_>, name: &str) -> Option<ReadText> {
        match self.get(name) {
            Some(node) if node.is_null() => None,
            _ => self.text(cx, name),
        }
    }

    /// The texts of a list; elements that are none are noted and left out.
    pub(crate) fn texts(&self, cx: &mut Context<'_>, name: &str) -> Option<Vec<ReadText>> {
        match (self.get(name), self.described(name)?.absent) {
            (Some(node), _) => node.strings(cx),
            (None, Absent::List(default)) => {
                Some(default.iter().map(|value| self.literal(name, value)).collect())
            }
            (None, _) => None,
        }
    }

    fn literal(&self, name: &str, value: &str) -> ReadText {
        ReadText { value: value.to_owned(), origin: TextSource::Literal, at: self.key(name) }
    }

    /// An object of the table. `None` if it is absent or none.
    pub(crate) fn object(&self, cx: &mut Context<'_>, name: &str) -> Option<Fields<'a>> {
        match self.described(name)?.kind {
            ValueKind::Object(kind) => self.get(name)?.object(cx, kind),
            _ => None,
        }
    }

    /// As [`Fields::object`]; one that is absent or none is read as one without keys.
    pub(crate) fn object_or_empty(&self, cx: &mut Context<'_>, name: &str) -> Fields<'a> {
        let kind = match self.described(name).map(|key| key.kind) {
            Some(ValueKind::Object(kind)) => Some(kind),
            _ => None,
        };
        let empty = || Fields { properties: &[], kind, at: self.key(name), meant: Vec::new() };
        self.object(cx, name).unwrap_or_else(empty)
    }

    /// Name, place of the key, value; in file order.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Location, Node<'a>)> {
        let entry = |property: &'a ast::ObjectProp<'a>| {
            let name = property.name.as_str();
            let at = self.at.key(name, property.value.range().start);
            (name, self.at.key(name, property.range.start), Node { value: &property.value, at })
        };
        let is_entry = |property: &&ast::ObjectProp<'_>| {
            self.kind.is_some() || !property.name.as_str().starts_with(COMMENT)
        };
        self.properties.iter().filter(is_entry).map(entry).collect()
    }

    /// The place of the key `name`, for a problem with its being there at all.
    pub(crate) fn key(&self, name: &str) -> Location {
        match self.find(name) {
            Some(property) => self.at.key(property.name.as_str(), property.range.start),
            None => self.at.key(name, self.at.offset),
        }
    }
}
