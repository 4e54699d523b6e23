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
    let mut definitions = Map::new();
    for (_, described) in objects(&ROOT).into_iter().skip(1) {
        definitions.insert(described.name.into(), object(described).into());
    }
    definitions.insert(REFERENCE.name.into(), object(&REFERENCE).into());
    definitions.insert("duration".into(), duration());
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "Sluicegate config".into());
    schema.extend(object(&ROOT));
    schema.insert("$defs".into(), definitions.into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn object(object: &Object) -> Map<String, Json> {
    let mut properties = Map::new();
    for key in object.keys {
        properties.insert(key.name.into(), property(key));
        for other in key.also {
            let mut schema = kind(&key.kind);
            schema["description"] = format!("Another name of `{}`.", key.name).into();
            properties.insert((*other).into(), schema);
        }
    }
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("description".into(), without_links(object.doc).into());
    schema.insert("properties".into(), properties.into());
    let required = object.keys.iter().filter(|key| matches!(key.absent, Absent::Required));
    let required: Vec<_> = required.map(|key| key.name).collect();
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    if !object.one_of.is_empty() {
        let choices = object.one_of.iter().map(|name| json!({ "required": [name] }));
        schema.insert("oneOf".into(), choices.collect());
    }
    if object.name != REFERENCE.name {
        // They mean nothing.
        let mut comments = json!({ "^(_|//)": true });
        if object.key("description").is_none() {
            comments["^description$"] = true.into();
        }
        schema.insert("patternProperties".into(), comments);
    }
    schema.insert("additionalProperties".into(), false.into());
    schema
}

/// The schema of a key's value, with all that is known of the key.
fn property(key: &Key) -> Json {
    let mut schema = kind(&key.kind);
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
    if let ValueKind::Word(Words { words, .. }) = key.kind {
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

fn kind(kind: &ValueKind) -> Json {
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
            let mut schema = text(&format!("^({})$", spellings.join("|")));
            if let Some(choices) = schema["anyOf"].as_array_mut() {
                choices.insert(0, json!({ "enum": preferred }));
            }
            schema
        }
        ValueKind::List(of) => json!({ "type": "array", "items": crate::config::report::schema::kind(of) }),
        ValueKind::Map { names: Names { pattern, reserved }, of } => {
            let mut names = json!({ "pattern": pattern });
            if !reserved.is_empty() {
                names["not"] = json!({ "enum": reserved });
            }
            json!({
                "type": "object",
                "propertyNames": { "anyOf": [names, { "pattern": "^//" }] },
                "patternProperties": { "^//": true },
                "additionalProperties": crate::config::report::schema::kind(of)
            })
        }
        ValueKind::Object(object) => json!({ "$ref": format!("#/$defs/{}", object.name) }),
        ValueKind::SecretOr(object) => {
            let mut schema = text("^[!-~]+$");
            if let Some(choices) = schema["anyOf"].as_array_mut() {
                choices.push(json!({ "$ref": format!("#/$defs/{}", object.name) }));
            }
            schema
        }
        ValueKind::OneOrMany(of) => {
            let one = crate::config::report::schema::kind(of);
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        ValueKind::JsonSchema => {
            json!({ "type": "object", "properties": { "type": { "const": "object" } }, "required": ["type"] })
        }
        ValueKind::Ignored => json!({}),
    }
}

/// Text of this pattern, or a reference to it.
fn text(pattern: &str) -> Json {
    let plain = match pattern {
        "" => json!({ "type": "string" }),
        pattern => json!({ "type": "string", "pattern": format!("{pattern}|{A_REFERENCE}") }),
    };
    json!({ "anyOf": [plain, { "$ref": format!("#/$defs/{}", REFERENCE.name) }] })
}

fn duration() -> Json {
    // The units that the crate `humantime` knows.
    const UNIT: &str = "nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|\
                        weeks?|wks?|w|months?|M|years?|yrs?|y";
    let spans = format!(r"^\s*((\d+(\.\d+)?\s*({UNIT})\s*)+|0\s*)$");
    let Json::Object(mut schema) = text(&spans) else { return Json::Null };
    if let Some(choices) = schema.get_mut("anyOf").and_then(Json::as_array_mut) {
        choices.push(json!({ "type": "number" }));
    }
    let says = "Time span with a unit, as in \"30s\", \"500ms\" or \"5m\"; a number is seconds.";
    schema.insert("description".into(), says.into());
    schema.into()
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
