//! The tokens of a config as they are written: each name with its credentials, and where these are in the text.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use jsonc_parser::{
    ast::{Array, Object, ObjectProp, Value},
    common::Ranged,
};
use serde_json::Value as Json;

use super::common::proposed;
use crate::{
    config::{
        self, Credential, Loaded,
        edit::property,
        read::{
            lines::LineIndex,
            reader::{Node, to_json},
        },
    },
    mcp::seal::SessionKey,
};

/// `proxy.auth.tokens`.
pub(super) struct Tokens<'a> {
    pub(super) names: Vec<Named<'a>>,
    /// Line and column.
    at: (usize, usize),
}

/// A name with its credentials.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    pub(super) property: &'a ObjectProp<'a>,
    pub(super) held: Vec<Held<'a>>,
    is_twice: bool,
}

/// One credential.
pub(super) struct Held<'a> {
    /// Its place in the list of its name.
    pub(super) index: usize,
    pub(super) value: &'a Value<'a>,
    text: &'a str,
    /// What was loaded of it, if its token is known.
    pub(super) known: Option<&'a Credential>,
    /// What metrics call it, if `sessionKey` says that and it has no `id`.
    of_metrics: Option<String>,
}

impl<'a> Tokens<'a> {
    /// The tokens of `document`, which `text` was parsed to and `loaded` was loaded from; or the problem with that, behind
    /// the name of the file.
    pub(super) fn of(document: &'a Value<'a>, text: &'a str, loaded: &'a Loaded) -> Result<Self, String> {
        let lines = LineIndex::new(text);
        let at = |offset| {
            let (line, column) = lines.position(offset);
            format!("{line}:{column}: ")
        };
        let (mut value, mut path) = (document, String::new());
        for key in ["proxy", "auth", "tokens"] {
            let object = value.as_object().ok_or_else(|| {
                format!("{}{path}: is no object, so it has no tokens", at(value.range().start))
            })?;
            path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let mut found = object.properties.iter().filter(|property| property.name.as_str() == key);
            let first = found.next().ok_or_else(|| {
                let message = "is not there; `sluicegate token new` prints an entry for it";
                format!("{}{path}: {message}", at(object.range.start))
            })?;
            if let Some(second) = found.next() {
                return Err(format!("{}{path}: is there twice; keep one of them", at(second.range.start)));
            }
            value = &first.value;
        }
        let object = value
            .as_object()
            .ok_or_else(|| format!("{}{path}: is no object, so it has no tokens", at(value.range().start)))?;
        let is_name = |property: &&ObjectProp<'_>| !property.name.as_str().starts_with("//");
        let key = loaded.snapshot.as_ref().and_then(|snapshot| snapshot.session_key.as_ref());
        let key = key.map(SessionKey::from_secret);
        let mut names: Vec<Named<'a>> = Vec::new();
        for property in object.properties.iter().filter(is_name) {
            let name = property.name.as_str();
            match names.iter_mut().find(|known| known.name == name) {
                Some(known) => known.is_twice = true,
                None => names.push(Named::of(property, text, loaded, key.as_ref())),
            }
        }
        Ok(Self { names, at: lines.position(object.range.start) })
    }

    /// The token of this name; or the problem with that.
    pub(super) fn named(&self, name: &str) -> Result<&Named<'a>, String> {
        let found = self.names.iter().find(|named| named.name == name).ok_or_else(|| {
            let proposed = proposed(name, self.names.iter().map(|named| named.name));
            format!("{}:{}: proxy.auth.tokens: has no token of this name; {proposed}", self.at.0, self.at.1)
        })?;
        match found.is_twice {
            true => Err(found.problem("is there twice; keep one of them")),
            false => Ok(found),
        }
    }
}

impl<'a> Named<'a> {
    fn of(property: &'a ObjectProp<'a>, text: &'a str, loaded: &'a Loaded, key: Option<&SessionKey>) -> Self {
        let values: Vec<&Value<'_>> = match &property.value {
            Value::Array(list) => list.elements.iter().collect(),
            value => vec![value],
        };
        let held = |(index, value): (usize, &'a Value<'a>)| {
            let is_it = |(offset, _): &&(usize, Credential)| *offset == value.range().start;
            let known = loaded.credentials.iter().find(is_it).map(|(_, credential)| credential);
            let unnamed = known.filter(|known| known.id.is_none()).zip(key);
            let of_metrics = unnamed.map(|(known, key)| key.name_of_credential(&known.digest));
            Held { index, value, text, known, of_metrics }
        };
        let held = values.into_iter().enumerate().map(held).collect();
        Self { name: property.name.as_str(), text, property, held, is_twice: false }
    }

    /// The list in which the credentials are, if they are in one.
    pub(super) fn list(&self) -> Option<&'a Array<'a>> {
        self.property.value.as_array()
    }

    /// What `--id` can name.
    pub(super) fn labels(&self) -> String {
        self.held.iter().map(Held::label).collect::<Vec<_>>().join(", ")
    }

    /// A message about it, behind the name of the file.
    pub(super) fn problem(&self, message: &str) -> String {
        let (line, column) = LineIndex::new(self.text).position(self.property.range.start);
        let name = config::shown_name(self.name).unwrap_or("…");
        format!("{line}:{column}: proxy.auth.tokens.{name}: {message}")
    }

    /// An `id` that none of the credentials has: the day, and a number if need be.
    pub(super) fn fresh_id(&self, now: SystemTime) -> String {
        let day = rfc3339(now)[..10].to_owned();
        let is_free = |id: &String| self.held.iter().all(|held| held.id() != Some(id));
        let numbered = (2_u32..).map(|number| format!("{day}-{number}"));
        std::iter::once(day.clone()).chain(numbered).find(is_free).unwrap_or(day)
    }
}

impl<'a> Held<'a> {
    /// The object of a credential that has conditions; a plain token and a reference have none.
    pub(super) fn object(&self) -> Option<&'a Object<'a>> {
        self.value.as_object().filter(|_| Node::root(self.value).is_plain_object())
    }

    pub(super) fn id(&self) -> Option<&'a str> {
        let id = property(self.object()?, "id")?;
        id.value.as_string_lit().map(|literal| &*literal.value)
    }

    /// What it is called by its place: the first is `@1`.
    pub(super) fn place(&self) -> String {
        format!("@{}", self.index + 1)
    }

    /// What it is called: its `id`, what metrics call it, or its place.
    pub(super) fn label(&self) -> String {
        let id = self.known.and_then(|known| known.id.as_deref()).or_else(|| self.id());
        let shown = id.and_then(config::shown_name).or(self.of_metrics.as_deref());
        shown.map_or_else(|| self.place(), str::to_owned)
    }

    /// Whether this is one of its names.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let known = self.known.and_then(|known| known.id.as_deref());
        self.place() == name || [known, self.id(), self.of_metrics.as_deref()].contains(&Some(name))
    }

    /// When it ends, if it does by itself; or why that cannot be known.
    pub(super) fn end(&self) -> Result<Option<SystemTime>, String> {
        let Some(expires) = self.object().and_then(|object| property(object, "expires")) else {
            return Ok(None);
        };
        let literal = || humantime::parse_rfc3339(&expires.value.as_string_lit()?.value).ok();
        let end = self.known.and_then(|known| known.expires).or_else(literal);
        end.map(Some).ok_or_else(|| {
            let place = self.place();
            format!("has an `expires` of {place} that cannot be read here; set its variable, or edit it in the config")
        })
    }

    /// Whether it opens nothing, and is there to be noticed.
    pub(super) fn is_decoy(&self) -> bool {
        let literal =
            || property(self.object()?, "decoy")?.value.as_boolean_lit().map(|literal| literal.value);
        self.known.map_or_else(|| literal().unwrap_or_default(), |known| known.decoy)
    }

    /// Whether another one has the same secret, as far as it can be known.
    pub(super) fn is_same_token(&self, other: &Self) -> bool {
        match (self.known, other.known) {
            (Some(known), Some(other)) => known.digest == other.digest,
            _ => self.secret() == other.secret(),
        }
    }

    /// Its secret as it is written, whatever that is.
    fn secret(&self) -> Json {
        let of_object = self.object().map(|object| ["sha256", "value"].map(|key| property(object, key)));
        let written = of_object.and_then(|[hash, value]| hash.or(value)).map(|found| &found.value);
        to_json(written.unwrap_or(self.value))
    }

    /// What else than its secret, its `id` and its end the config says of it.
    fn conditions(&self) -> impl Iterator<Item = &'a ObjectProp<'a>> {
        let own = ["sha256", "value", "id", "expires", "description"];
        let is_condition = move |property: &&ObjectProp<'_>| {
            let name = property.name.as_str();
            !own.contains(&name) && !name.starts_with('_') && !name.starts_with("//")
        };
        self.object().into_iter().flat_map(|object| &object.properties).filter(is_condition)
    }

    /// Whether another one has the same conditions.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let of = |held: &Self| -> BTreeMap<String, Json> {
            let conditions = held.conditions();
            conditions.map(|property| (property.name.as_str().to_owned(), to_json(&property.value))).collect()
        };
        of(self) == of(other)
    }

    /// The conditions as the config has them, each behind a comma.
    pub(super) fn conditions_text(&self) -> String {
        let as_written = |property: &ObjectProp<'_>| {
            let value = property.value.range();
            let key = Json::from(property.name.as_str());
            format!(", {key}: {}", &self.text[value.start..value.end])
        };
        self.conditions().map(as_written).collect()
    }
}

/// A moment as the config has it.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// How far a moment is from now, in its largest unit.
pub(super) fn relative(moment: SystemTime, now: SystemTime) -> String {
    let shown = |span: Duration| {
        let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
        let (count, unit) = units
            .into_iter()
            .map(|(length, unit)| (span.as_secs() / length, unit))
            .find(|(count, _)| *count > 0)
            .unwrap_or((0, "second"));
        format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
    };
    match moment.duration_since(now) {
        Ok(left) => format!("in {}", shown(left)),
        Err(past) => format!("{} ago", shown(past.duration())),
    }
}
