//! A typed view of the syntax tree that notes every problem and goes on, so that all of them come out at once.

use std::time::Duration;

use jsonc_parser::{
    ast::{self, Value},
    common::Ranged,
};

use crate::config::{
    read::{
        context::Context,
        fields::Fields,
        reference::{self, Expanded, TextSource, Unresolved},
    },
    report::{mistaken, problem::Location},
    table::{
        REFERENCE,
        key::{LONGEST, Object},
    },
};

/// A word that a message repeats has at most so many bytes; if it is longer than the second, no digits.
const LONGEST_WORD: usize = 24;
const SHORT_WORD: usize = 8;

/// In place of a text: one in which the token of a caller is put.
const USER_TOKEN: &str = "$userToken";

/// A time span in seconds from which on milliseconds may have been meant.
const PROBABLY_MILLISECONDS: u64 = 1000;

/// One value and where it is.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a Value<'a>,
    pub(crate) at: Location,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value<'a>) -> Self {
        Self { value, at: Location { offset: value.range().start, path: String::new() } }
    }

    /// Notes that it is something else, which has no value.
    pub(crate) fn expected<T>(&self, cx: &mut Context<'_>, what: &str) -> Option<T> {
        let found = match self.value {
            Value::StringLit(_) => "text",
            Value::NumberLit(_) => "a number",
            Value::BooleanLit(_) => "true or false",
            Value::Object(_) => "an object",
            Value::Array(_) => "a list",
            Value::NullKeyword(_) => "null",
        };
        cx.refuse(&self.at, format!("must be {what}, not {found}"))
    }

    /// An object of this kind, in which other keys are errors.
    pub(crate) fn object(&self, cx: &mut Context<'_>, kind: &'static Object) -> Option<Fields<'a>> {
        let mut fields = self.unchecked_object(cx, kind)?;
        fields.check_names(cx);
        Some(fields)
    }

    /// An object of this kind, whatever keys are in it.
    pub(crate) fn unchecked_object(&self, cx: &mut Context<'_>, kind: &'static Object) -> Option<Fields<'a>> {
        Some(Fields { kind: Some(kind), ..self.map(cx)? })
    }

    /// An object whose keys are names that the user chose.
    pub(crate) fn map(&self, cx: &mut Context<'_>) -> Option<Fields<'a>> {
        self.map_as(cx, "an object { … }")
    }

    /// [`Node::map`] with words of its own for what is expected.
    pub(crate) fn map_as(&self, cx: &mut Context<'_>, what: &str) -> Option<Fields<'a>> {
        self.fields().or_else(|| self.expected(cx, what))
    }

    /// The entries if this is an object, whatever they are.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        let properties = &self.value.as_object()?.properties;
        Some(Fields { properties, kind: None, at: self.at.clone(), meant: Vec::new() })
    }

    pub(crate) fn list(&self, cx: &mut Context<'_>) -> Option<Vec<Node<'a>>> {
        match (self.elements(), self.value) {
            (Some(elements), _) => Some(elements),
            (None, Value::StringLit(_)) => {
                cx.refuse(&self.at, "must be a list, as in [\"…\"]; put brackets around this text")
            }
            (None, _) => self.expected(cx, "a list [ … ]"),
        }
    }

    /// The elements if this is a list.
    pub(crate) fn elements(&self) -> Option<Vec<Node<'a>>> {
        let array = self.value.as_array()?;
        let place = |(index, value): (usize, &'a Value<'a>)| Node {
            value,
            at: self.at.index(index, value.range().start),
        };
        Some(array.elements.iter().enumerate().map(place).collect())
    }

    /// A list of strings; elements that are none are noted and left out.
    pub(crate) fn strings(&self, cx: &mut Context<'_>) -> Option<Vec<ReadText>> {
        Some(self.list(cx)?.iter().filter_map(|node| node.string(cx)).collect())
    }

    /// The text as it is written, references and all.
    pub(crate) fn literal(&self) -> Option<&'a str> {
        literal(self.value)
    }

    /// [`Node::literal`], where nothing else is good.
    fn literal_as(&self, cx: &mut Context<'_>, what: &str) -> Option<&'a str> {
        self.literal().or_else(|| self.expected(cx, what))
    }

    /// Whether this is an object, and not a reference to a string.
    pub(crate) fn is_plain_object(&self) -> bool {
        self.value.as_object().is_some() && self.reference().is_none()
    }

    pub(crate) fn is_object(&self) -> bool {
        self.value.as_object().is_some()
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::NullKeyword(_))
    }

    /// Whether this is the path of a file that holds the value.
    pub(crate) fn is_file(&self) -> bool {
        self.file_value().is_some()
    }

    /// The path of the file that holds the value, if it is written out.
    pub(crate) fn file(&self) -> Option<&'a str> {
        literal(self.file_value()?)
    }

    /// Whether this is a text in which the token of a caller is put.
    pub(crate) fn is_user_token(&self) -> bool {
        self.value.as_object().is_some_and(|object| object.get(USER_TOKEN).is_some())
    }

    /// That text, if it is all there is.
    pub(crate) fn user_token(&self) -> Option<&'a str> {
        match &*self.value.as_object()?.properties {
            [only] if only.name.as_str() == USER_TOKEN => literal(&only.value),
            _ => None,
        }
    }

    fn file_value(&self) -> Option<&'a Value<'a>> {
        match &*self.value.as_object()?.properties {
            [only] if only.name.as_str() == "$file" => Some(&only.value),
            _ => None,
        }
    }

    /// Reads this value: what is wrong with it is wrong with its file, if it is in one.
    pub(crate) fn part_of_file<T>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        if cx.are_files_parts && self.is_file() { cx.part(read) } else { read(cx) }
    }

    fn reference(&self) -> Option<&'a ast::Object<'a>> {
        // What is a reference in other places only is reported as such.
        let names = |property: &ast::ObjectProp<'_>| {
            let name = property.name.as_str();
            REFERENCE.key(name).is_some() || name == USER_TOKEN
        };
        self.value.as_object().filter(|object| object.properties.iter().any(names))
    }

    /// A string, with its references replaced.
    pub(crate) fn string(&self, cx: &mut Context<'_>) -> Option<ReadText> {
        self.warn_of_references(cx);
        self.text(cx, &Unresolved::message)
    }

    /// The arguments of a program whose own environment is `own`.
    pub(crate) fn arguments(&self, cx: &mut Context<'_>, own: &[&str]) -> Option<Vec<ReadText>> {
        let nodes = self.list(cx)?;
        let argument = |node: &Node<'_>| {
            node.warn_of_references(cx);
            node.text(cx, &|unresolved| unresolved.message_for_argument(own))
        };
        Some(nodes.iter().filter_map(argument).collect())
    }

    /// Warns of what looks like a reference and is none.
    fn warn_of_references(&self, cx: &mut Context<'_>) {
        let Some(text) = self.literal().filter(|_| !self.at.path.ends_with("description")) else { return };
        if reference::has_bare_variable(text) {
            cx.warning(
                &self.at,
                "a name behind a dollar sign is passed as it stands; write `${NAME}` for a variable, or `$$` for the sign",
            );
        } else if mistaken::has_foreign_reference(text) {
            cx.warning(
                &self.at,
                "looks like a reference, which has another form here, and is passed as it stands; write `${NAME}` for a \
                 variable, { \"$file\": \"PATH\" } for a file, or { \"$text\": \"…\" } if that is meant",
            );
        }
    }

    /// [`Node::string`] of a text that opens this gateway. A reference that is none by mistake would open it to everybody who
    /// has the config.
    pub(crate) fn secret(&self, cx: &mut Context<'_>) -> Option<ReadText> {
        let text = self.text(cx, &Unresolved::message_for_secret)?;
        let mistake =
            mistaken::secret(&text.value).filter(|mistake| !mistake.is_reference() || !self.is_verbatim());
        let Some(mistake) = mistake else { return Some(text) };
        let message = match (text.origin, self.is_file()) {
            (TextSource::Literal | TextSource::Default, _) => mistake.message().into(),
            (TextSource::Elsewhere, false) => mistake.message_of_variable(),
            (TextSource::Elsewhere, true) => mistake.message_of_file(self.file().unwrap_or("the file")),
        };
        cx.refuse(&text.at, message)
    }

    /// Text by which a secret is checked. It has signs that elsewhere look like references.
    pub(crate) fn verifier(&self, cx: &mut Context<'_>) -> Option<ReadText> {
        self.text(cx, &Unresolved::message_for_secret)
    }

    /// Whether it is written so that nothing in it is a reference.
    fn is_verbatim(&self) -> bool {
        let object = self.value.as_object();
        object.is_some_and(|object| object.get("$text").is_some())
            || self.literal().is_some_and(|text| text.contains("$$"))
    }

    fn text(&self, cx: &mut Context<'_>, message: &dyn Fn(&Unresolved) -> String) -> Option<ReadText> {
        let Expanded { value, origin } = match (self.literal(), self.reference()) {
            (Some(text), _) => or_error(cx, &self.at, reference::expand(text, cx.env), message),
            (None, Some(_)) => self.part_of_file(cx, |cx| self.referenced(cx, message)),
            (None, None) => self.expected(cx, "text in double quotes"),
        }?;
        Some(ReadText { value, origin, at: self.at.clone() })
    }

    /// `{"$env": "VAR"}`, `{"$file": "path"}` or `{"$text": "text"}`.
    fn referenced(&self, cx: &mut Context<'_>, message: &dyn Fn(&Unresolved) -> String) -> Option<Expanded> {
        if self.is_user_token() {
            return cx.refuse(&self.at, self.why_no_user_token());
        }
        let fields = self.object(cx, &REFERENCE)?;
        match (fields.get("$env"), fields.get("$file"), fields.get("$text")) {
            (Some(name), None, None) => {
                let literal = name.literal_as(cx, "the name of a variable in double quotes")?;
                or_error(cx, &name.at, reference::from_env(literal, cx.env), message)
            }
            (None, Some(path), None) => path.contents(cx),
            (None, None, Some(text)) => {
                let literal = text.literal_as(cx, "text in double quotes, which is taken as it stands")?;
                Some(Expanded { value: literal.into(), origin: TextSource::Literal })
            }
            // What is there is no reference, which was reported.
            (None, None, None) => None,
            _ => cx.refuse(&self.at, "take one of `$env`, `$file` and `$text`"),
        }
    }

    /// Why the token of a caller cannot be here.
    fn why_no_user_token(&self) -> &'static str {
        match &*self.at.path {
            path if path.contains(".args[") => {
                "would show a caller's token to everybody on this machine, who can read the arguments of programs; put it into `env`"
            }
            path if path.ends_with(".url") => {
                "would put a caller's token into a URL, which servers and what is before them write to their logs; put it into `headers`"
            }
            path if path.contains(".headers.") || path.contains(".env.") => {
                "has to be all there is, as in { \"$userToken\": \"Bearer {{token}}\" }, and in a server of its own"
            }
            _ => "is for `headers` and `env` of a server: it is the token of whoever calls",
        }
    }

    /// The text in the file of this path.
    fn contents(&self, cx: &mut Context<'_>) -> Option<Expanded> {
        let path = self.path(cx)?;
        let bytes = std::mem::take(&mut *cx.read_secret(&path.value, &self.at)?.bytes);
        let Ok(mut value) = String::from_utf8(bytes) else {
            return cx.refuse(&self.at, "this file is not UTF-8 text; store the secret as text");
        };
        // Editors and `echo` end a file with a line break that is no part of the secret.
        if value.ends_with('\n') {
            value.pop();
            if value.ends_with('\r') {
                value.pop();
            }
        }
        if value.is_empty() {
            return cx.refuse(&self.at, "this file is empty; write the secret into it");
        }
        Some(Expanded { value, origin: TextSource::Elsewhere })
    }

    /// The path of a file. References are fine, except to the contents of another file.
    pub(crate) fn path(&self, cx: &mut Context<'_>) -> Option<ReadText> {
        if self.reference().is_some_and(|object| object.get("$file").is_some()) {
            return cx.refuse(&self.at, "needs a path here; write the path itself instead of `$file`");
        }
        self.string(cx)
    }

    pub(crate) fn bool(&self, cx: &mut Context<'_>) -> Option<bool> {
        match self.value {
            Value::BooleanLit(literal) => Some(literal.value),
            _ => self.expected(cx, "true or false"),
        }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(&self, cx: &mut Context<'_>, least: u64, most: u64) -> Option<u64> {
        let Value::NumberLit(literal) = self.value else { return self.expected(cx, "a number") };
        match literal.value.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => cx.refuse(&self.at, format!("must be a whole number from {least} to {most}")),
        }
    }

    /// A time span: text with units (`"30s"`, `"1m 30s"`), or a number of seconds.
    pub(crate) fn duration(&self, cx: &mut Context<'_>, least: Duration) -> Option<Duration> {
        let mut milliseconds = None;
        let duration = match self.value {
            Value::NumberLit(literal) => {
                let duration: Option<Duration> =
                    literal.value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                milliseconds = duration
                    .map(|duration| duration.as_secs())
                    .filter(|seconds| *seconds >= PROBABLY_MILLISECONDS);
                duration
            }
            Value::StringLit(_) | Value::Object(_) => {
                humantime::parse_duration(self.string(cx)?.value.trim()).ok()
            }
            _ => return self.expected(cx, "a time span such as \"30s\""),
        };
        match duration {
            Some(duration) if (least..=LONGEST).contains(&duration) => {
                if let Some(number) = milliseconds {
                    let shown = humantime::format_duration(duration);
                    cx.warning(
                        &self.at,
                        format!(
                            "is {shown}, because a number is seconds; write \"{number}ms\" if it is milliseconds, and \
                             \"{shown}\" if not"
                        ),
                    );
                }
                Some(duration)
            }
            Some(_) => {
                let (least, most) = (humantime::format_duration(least), humantime::format_duration(LONGEST));
                let way = milliseconds.map(|number| {
                    format!("; a number is seconds: write \"{number}ms\" if it is milliseconds")
                });
                cx.refuse(
                    &self.at,
                    format!("must be at least {least} and at most {most}{}", way.unwrap_or_default()),
                )
            }
            None => cx.refuse(
                &self.at,
                "is not a time span; write it with a unit, as in \"30s\", \"500ms\" or \"5m\"",
            ),
        }
    }
}

fn literal<'a>(value: &'a Value<'a>) -> Option<&'a str> {
    value.as_string_lit().map(|literal| &*literal.value)
}

fn or_error(
    cx: &mut Context<'_>,
    at: &Location,
    expanded: Result<Expanded, Unresolved>,
    message: &dyn Fn(&Unresolved) -> String,
) -> Option<Expanded> {
    let note = |unresolved: Unresolved| match unresolved.is_unset() {
        true => cx.unset(at, message(&unresolved)),
        false => cx.error(at, message(&unresolved)),
    };
    expanded.map_err(note).ok()
}

/// The value as it is: for JSON that is not the gateway's own, so that nothing in it is a reference.
pub(crate) fn to_json(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Object(object) => {
            let entry = |property: &ast::ObjectProp<'_>| {
                (property.name.as_str().to_owned(), to_json(&property.value))
            };
            serde_json::Value::Object(object.properties.iter().map(entry).collect())
        }
        Value::Array(array) => array.elements.iter().map(to_json).collect(),
        Value::StringLit(text) => text.value.as_ref().into(),
        // The parser takes the numbers of JSON and no others; one too large for any machine becomes null.
        Value::NumberLit(number) => serde_json::from_str(number.value).unwrap_or_default(),
        Value::BooleanLit(literal) => literal.value.into(),
        Value::NullKeyword(_) => serde_json::Value::Null,
    }
}

/// A string from the config and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct ReadText {
    pub(crate) value: String,
    pub(crate) origin: TextSource,
    pub(crate) at: Location,
}

impl ReadText {
    /// The value for a message, unless it came from outside the file, or may be a secret that strayed.
    pub(crate) fn shown(&self) -> String {
        let is_word = |text: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            text.len() <= LONGEST_WORD
                && text.chars().all(fits)
                && (text.len() <= SHORT_WORD || !text.contains(|c: char| c.is_ascii_digit()))
        };
        match self.origin {
            TextSource::Literal if is_word(&self.value) => format!("{:?}", self.value),
            _ => "this value".into(),
        }
    }
}
