//! The JSON Schema (draft 2020-12) of the config, for editors.
//!
//! It accepts and refuses what the reader does, as far as a schema can say it: what a reference leads to is not known
//! before a config is read, so text that may hold one is taken as it is.

use serde_json::{Map, Value as Json, json};

use crate::config::table::{
    REFERENCE, ROOT,
    key::{Absent, Key, LONGEST, Names, Object, ValueKind, Words, objects},
};

/// What text begins with, or has in it, that holds a reference.
const A_REFERENCE: &str = r"\$|^env:";

/// The schema, which ends with a line break.
pub fn schema() -> String {
    let below = objects(&ROOT).into_iter().skip(1).map(|(_, object)| object);
    let define = |described: &'static Object| (described.name.to_owned(), object(described));
    let mut definitions: Map<_, _> = below.chain([&REFERENCE]).map(define).collect();
    definitions.insert("duration".into(), duration());
    let mut schema = object(&ROOT);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Sluicegate config".into();
    schema["$defs"] = definitions.into();
    format!("{schema:#}\n")
}

fn object(object: &Object) -> Json {
    let mut properties = Map::new();
    for key in object.keys {
        properties.insert(key.name.into(), property(key));
        for other in key.also {
            let mut schema = of_kind(&key.kind);
            schema["description"] = format!("Another name of `{}`.", key.name).into();
            properties.insert((*other).into(), schema);
        }
    }
    let mut schema = json!({
        "type": "object",
        "description": without_links(object.doc),
        "properties": properties,
        "additionalProperties": false,
    });
    let required = object.keys.iter().filter(|key| matches!(key.absent, Absent::Required));
    let required: Vec<_> = required.map(|key| key.name).collect();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if !object.one_of.is_empty() {
        schema["oneOf"] = object.one_of.iter().map(|name| json!({ "required": [name] })).collect();
    }
    if object.name != REFERENCE.name {
        // They mean nothing.
        schema["patternProperties"] = json!({ "^(_|//)": true });
        if object.key("description").is_none() {
            schema["patternProperties"]["^description$"] = true.into();
        }
    }
    schema
}

/// The schema of a key's value, with all that is known of the key.
fn property(key: &Key) -> Json {
    let mut schema = of_kind(&key.kind);
    let mut description = sentences(key);
    if let ValueKind::Number { unit, .. } = key.kind
        && !unit.is_empty()
    {
        description += &format!(" In {unit}.");
    }
    if let Absent::Means(words) = key.absent {
        description += &format!(" Default: {words}.");
    }
    schema["description"] = without_links(&description).into();
    if let Some(default) = default(key) {
        schema["default"] = default;
    }
    if !key.examples.is_empty() {
        let parse = |text: &&str| serde_json::from_str::<Json>(text).ok();
        schema["examples"] = key.examples.iter().filter_map(parse).collect();
    }
    if key.deprecated.is_some() {
        schema["deprecated"] = true.into();
    }
    schema
}

/// The default as it would be in a config.
pub(crate) fn default(key: &Key) -> Option<Json> {
    Some(match key.absent {
        Absent::Required | Absent::Nothing | Absent::Means(_) => return None,
        Absent::Empty => json!({}),
        Absent::Bool(value) => value.into(),
        Absent::Number(value) => value.into(),
        Absent::Duration(value) => humantime::format_duration(value).to_string().into(),
        Absent::Text(value) => value.into(),
        Absent::List(values) => values.into(),
    })
}

/// The documentation of a key, with what follows from the rest of its entry; Markdown.
pub(crate) fn sentences(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if let ValueKind::Word(Words { words, .. }) | ValueKind::List(ValueKind::Word(Words { words, .. })) =
        key.kind
    {
        let described = words.iter().map(|word| format!("`{}`: {}", word.0, word.2));
        text += &format!(" {}.", described.collect::<Vec<_>>().join("; "));
        for word in words.iter().filter(|word| !word.1.is_empty()) {
            let others: Vec<_> = word.1.iter().map(|other| format!("`{other}`")).collect();
            text += &format!(" Other spellings of `{}`: {}.", word.0, others.join(", "));
        }
    }
    if let ValueKind::Map { names: Names { reserved: reserved @ [_, ..], .. }, .. } = key.kind {
        let quoted: Vec<_> = reserved.iter().map(|name| format!("`{name}`")).collect();
        text += &format!(" These names are reserved for the gateway's own paths: {}.", quoted.join(", "));
    }
    if let Some(tag) = key.beside {
        text += &format!(" Only beside `{tag}`.");
    }
    match key.restart {
        None => {}
        Some("") => text += " A change takes effect at the next start.",
        Some(part) => text += &format!(" A change of its {part} takes effect at the next start."),
    }
    if let Some(instead) = key.deprecated {
        text += &format!(" Deprecated: {instead}.");
    }
    text
}

fn of_kind(kind: &ValueKind) -> Json {
    match *kind {
        ValueKind::Bool => json!({ "type": "boolean" }),
        ValueKind::Number { least, most: u64::MAX, .. } => json!({ "type": "integer", "minimum": least }),
        ValueKind::Number { least, most, .. } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        ValueKind::Duration(least) => {
            let (least, most) = (least.as_secs_f64(), LONGEST.as_secs_f64());
            json!({ "$ref": "#/$defs/duration", "minimum": least, "maximum": most })
        }
        ValueKind::Text(pattern) | ValueKind::Secret(pattern) => text(pattern),
        ValueKind::SecretOrToken(pattern) => {
            let mut choices = text_choices(pattern);
            let token = json!({ "type": "string", "pattern": r"\{token\}" });
            choices.push(json!({
                "type": "object",
                "properties": { "$userToken": token },
                "required": ["$userToken"],
                "additionalProperties": false
            }));
            json!({ "anyOf": choices })
        }
        // Parsers of URLs let spaces pass in front, and any letter case.
        ValueKind::Url => text(r"^\s*[Hh][Tt][Tt][Pp][Ss]?:"),
        // What is in a file is no path.
        ValueKind::Path => json!({ "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": { "$env": { "type": "string" }, "$text": { "type": "string" } },
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": false
            }
        ] }),
        ValueKind::Literal => json!({ "type": "string" }),
        ValueKind::Variable => json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" }),
        ValueKind::Word(Words { words, .. }) => {
            let preferred: Vec<_> = words.iter().map(|word| word.0).collect();
            let spellings = words.iter().flat_map(|word| std::iter::once(&word.0).chain(word.1));
            let spellings: Vec<_> = spellings.map(|word| in_any_case(word)).collect();
            // Editors complete from the first choice.
            let mut choices = vec![json!({ "enum": preferred })];
            choices.extend(text_choices(&format!("^({})$", spellings.join("|"))));
            json!({ "anyOf": choices })
        }
        ValueKind::List(of) => json!({ "type": "array", "items": of_kind(of) }),
        ValueKind::OrNull(of) => json!({ "anyOf": [of_kind(of), { "type": "null" }] }),
        ValueKind::OrFalse(of) => json!({ "anyOf": [of_kind(of), { "const": false }] }),
        ValueKind::Map { names: Names { pattern, reserved }, of } => {
            let mut names = json!({ "pattern": pattern });
            if !reserved.is_empty() {
                names["not"] = json!({ "enum": reserved });
            }
            json!({
                "type": "object",
                "propertyNames": { "anyOf": [names, { "pattern": "^//" }] },
                "patternProperties": { "^//": true },
                "additionalProperties": of_kind(of)
            })
        }
        ValueKind::Object(object) => json!({ "$ref": format!("#/$defs/{}", object.name) }),
        ValueKind::SecretOr(object) => {
            let mut choices = text_choices("^[!-~]+$");
            choices.push(json!({ "$ref": format!("#/$defs/{}", object.name) }));
            json!({ "anyOf": choices })
        }
        ValueKind::OneOrMany(of) => {
            let one = of_kind(of);
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        ValueKind::JsonSchema => {
            json!({ "type": "object", "properties": { "type": { "const": "object" } }, "required": ["type"] })
        }
        ValueKind::Jwks => {
            let keys = json!({ "type": "array", "items": { "type": "object", "required": ["kty", "kid"] } });
            json!({ "type": "object", "properties": { "keys": keys }, "required": ["keys"] })
        }
        ValueKind::Ignored => json!({}),
    }
}

/// Text of this pattern, or a reference to it.
fn text(pattern: &str) -> Json {
    json!({ "anyOf": text_choices(pattern) })
}

fn text_choices(pattern: &str) -> Vec<Json> {
    let plain = match pattern {
        "" => json!({ "type": "string" }),
        pattern => json!({ "type": "string", "pattern": format!("{pattern}|{A_REFERENCE}") }),
    };
    vec![plain, json!({ "$ref": format!("#/$defs/{}", REFERENCE.name) })]
}

fn duration() -> Json {
    // The units of the crate `humantime`.
    const UNIT: &str = "nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|\
                        weeks?|wks?|w|months?|M|years?|yrs?|y";
    let mut choices = text_choices(&format!(r"^\s*((\d+(\.\d+)?\s*({UNIT})\s*)+|0\s*)$"));
    choices.push(json!({ "type": "number" }));
    let description = "Time span with a unit, as in \"30s\", \"500ms\" or \"5m\"; a number is seconds.";
    json!({ "anyOf": choices, "description": description })
}

/// `on` as `[oO][nN]`: the dialect of schemas has no flag for it.
fn in_any_case(word: &str) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase()),
        false => c.to_string(),
    };
    word.chars().map(letter).collect()
}

/// Markdown without its links: `[text](where)` is `text`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let Some((start, (_, after))) = before.rfind('[').zip(link.split_once(')')) else { break };
        plain += &before[..start];
        plain += &before[start + 1..];
        rest = after;
    }
    plain + rest
}
