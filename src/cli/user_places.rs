//! The users of a config as they are written, and where these are in the text.

use jsonc_parser::{
    ast::{Object, ObjectProp, Value},
    common::Ranged,
};
use serde_json::Value as Json;

use super::common::proposed;
use crate::config::{
    self,
    edit::{Editor, property},
    read::{lines::LineIndex, reader::Node, reference::first_variable},
};

/// Where users are, from the root.
const PLACE: [&str; 3] = ["proxy", "auth", "users"];

/// `proxy.auth.users`.
pub(super) struct Users<'a> {
    text: &'a str,
    /// The objects of the way to it, as far as they are there: the root first.
    way: Vec<&'a Object<'a>>,
}

/// One user.
pub(super) struct User<'a> {
    pub(super) name: &'a str,
    text: &'a str,
    property: &'a ObjectProp<'a>,
}

/// Where the hash of a password is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HashSource {
    Config,
    /// In a variable, whose name may be shown.
    Variable(Option<String>),
    /// In a file, whose name may be shown.
    File(Option<String>),
}

impl<'a> Users<'a> {
    /// The users of `document`, which `text` was parsed to; or the problem with that, behind the name of the file.
    pub(super) fn of(document: &'a Value<'a>, text: &'a str) -> Result<Self, String> {
        let at = |offset| position(text, offset);
        let no_object =
            |value: &Value<'_>, path: &str| format!("{}{path}: is no object", at(value.range().start));
        let root = document.as_object().ok_or_else(|| no_object(document, ""))?;
        let mut way = vec![root];
        for (depth, key) in PLACE.into_iter().enumerate() {
            let path = PLACE[..=depth].join(".");
            let object = way[depth];
            let mut found = object.properties.iter().filter(|property| property.name.as_str() == key);
            let Some(first) = found.next() else { break };
            if let Some(second) = found.next() {
                return Err(format!("{}{path}: is there twice; keep one of them", at(second.range.start)));
            }
            way.push(first.value.as_object().ok_or_else(|| no_object(&first.value, &path))?);
        }
        Ok(Self { text, way })
    }

    fn object(&self) -> Option<&'a Object<'a>> {
        self.way.get(PLACE.len()).copied()
    }

    /// All of them, in the order of the file.
    pub(super) fn all(&self) -> impl Iterator<Item = User<'a>> + use<'a> {
        let text = self.text;
        let properties = self.object().map_or(&[][..], |object| &object.properties);
        // The others are comments.
        let is_name = |property: &&ObjectProp<'_>| !property.name.as_str().starts_with("//");
        let user = move |property: &'a ObjectProp<'a>| User { name: property.name.as_str(), text, property };
        properties.iter().filter(is_name).map(user)
    }

    /// The user of this name; or the problem with that.
    pub(super) fn named(&self, name: &str) -> Result<User<'a>, String> {
        let mut found = self.all().filter(|user| user.name == name);
        let Some(first) = found.next() else {
            let proposed = proposed(name, self.all().map(|user| user.name));
            let nearest = self.way.last().map_or(0, |object| object.range.start);
            let message = "proxy.auth.users: has no user of this name";
            return Err(format!("{}{message}; {proposed}", position(self.text, nearest)));
        };
        match found.next() {
            Some(second) => Err(second.problem("is there twice; keep one of them")),
            None => Ok(first),
        }
    }

    /// Whether the name is free; or the problem with that.
    pub(super) fn is_free(&self, name: &str) -> Result<(), String> {
        if let Some(user) = self.all().find(|user| user.name == name) {
            return Err(user.problem("is there already; `sluicegate user passwd` gives it another password"));
        }
        if name.starts_with("//") {
            return Err(" a name that begins with `//` is a comment in the config; choose another one".into());
        }
        if let Some(fault) = config::user_name_fault(name) {
            return Err(format!(" {fault}"));
        }
        match self.is_token(name) {
            true => Err(
                " there is a token of this name; choose another one, so that nobody takes one for the other"
                    .into(),
            ),
            false => Ok(()),
        }
    }

    /// Whether a token is called so.
    fn is_token(&self, name: &str) -> bool {
        let tokens = self.way.get(PLACE.len() - 1).and_then(|auth| property(auth, "tokens"));
        tokens.and_then(|tokens| property(tokens.value.as_object()?, name)).is_some()
    }

    /// Puts a user there.
    pub(super) fn insert(&self, editor: &mut Editor<'_>, name: &str, entry: &str) {
        let Some(last) = self.way.last() else { return };
        let (mut key, mut value) = (name, entry.to_owned());
        for missing in PLACE[self.way.len() - 1..].iter().rev() {
            value = format!("{{ {}: {value} }}", Json::from(key));
            key = missing;
        }
        editor.set(last, key, &value);
    }

    /// Takes a user out.
    pub(super) fn remove(&self, editor: &mut Editor<'_>, name: &str) {
        if let Some(object) = self.object() {
            editor.unset(object, name);
        }
    }
}

impl<'a> User<'a> {
    /// A message about it, behind the name of the file.
    pub(super) fn problem(&self, message: &str) -> String {
        let name = config::shown_name(self.name).unwrap_or("…");
        let at = position(self.text, self.property.range.start);
        format!("{at}proxy.auth.users.{name}: {message}")
    }

    /// What the config says of it.
    pub(super) fn object(&self) -> Result<&'a Object<'a>, String> {
        self.property.value.as_object().ok_or_else(|| self.problem("is no object with a `passwordHash`"))
    }

    /// Whether it says this no more than once; or the problem with that.
    pub(super) fn says_once(&self, key: &str) -> Result<(), String> {
        let of_key = |property: &&ObjectProp<'_>| property.name.as_str() == key;
        match self.object()?.properties.iter().filter(of_key).nth(1) {
            Some(second) => {
                let at = position(self.text, second.range.start);
                let name = config::shown_name(self.name).unwrap_or("…");
                Err(format!("{at}proxy.auth.users.{name}.{key}: is there twice; keep one of them"))
            }
            None => Ok(()),
        }
    }

    /// Whether it says that the user is disabled, as far as that can be read here.
    pub(super) fn says_disabled(&self) -> Option<bool> {
        match property(self.object().ok()?, "disabled") {
            None => Some(false),
            Some(disabled) => disabled.value.as_boolean_lit().map(|literal| literal.value),
        }
    }

    /// Where the hash of its password is; `None` if it has none.
    pub(super) fn hash_source(&self) -> Option<HashSource> {
        let node = Node::root(&property(self.object().ok()?, "passwordHash")?.value);
        if node.is_file() {
            return Some(HashSource::File(node.file().and_then(config::shown_path).map(str::to_owned)));
        }
        let named = node.value.as_object().and_then(|object| property(object, "$env"));
        let variable = match named {
            Some(name) => name.value.as_string_lit().map(|literal| &*literal.value),
            None => node.literal().and_then(first_variable),
        };
        Some(match (variable, named) {
            (None, None) => HashSource::Config,
            _ => HashSource::Variable(variable.and_then(config::shown_variable).map(str::to_owned)),
        })
    }
}

fn position(text: &str, offset: usize) -> String {
    let (line, column) = LineIndex::new(text).position(offset);
    format!("{line}:{column}: ")
}
