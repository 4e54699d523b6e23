//! The JSON Schema (draft 2020-12) of the config, for editors.
//!
//! It accepts and refuses what the reader does, as far as a schema can say it: what a reference leads to is not known
//! before a config is read, so text that may hold one is taken as it is.

use serde_json::{Map, Value as Json, json};

use super::{
    Shape,
    book::{Absence, Book, Described, Entry, paragraphs, without_links},
};

/// Text that holds a reference, whatever else the key demands.
const REFERENCE: &str = r"\$|^env:";
/// A number with a unit, perhaps several, or a reference.
const DURATION: &str = r"^\s*(\d+(\.\d+)?\s*[A-Za-zµ]+\s*)+$|^\s*0\s*$|\$|^env:";

/// The schema, which ends with a line break.
pub fn schema() -> String {
    let book = Book::of_the_config();
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "Sluicegate config".into());
    let mut definitions = Map::new();
    for (index, described) in book.objects.iter().enumerate() {
        match index {
            0 => schema.extend(object(described)),
            _ => _ = definitions.insert(described.name.into(), object(described).into()),
        }
    }
    definitions.insert("duration".into(), duration());
    schema.insert("$defs".into(), definitions.into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn object(described: &Described) -> Map<String, Json> {
    let mut properties = Map::new();
    let mut needed = Vec::new();
    for entry in &described.keys {
        let facts = &entry.facts;
        properties.insert(facts.name.into(), key(entry));
        for other in facts.others {
            let mut schema = key(entry);
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".into(), format!("Another name of `{}`.", facts.name).into());
                for keyword in ["default", "examples"] {
                    schema.remove(keyword);
                }
            }
            properties.insert((*other).into(), schema);
        }
        if matches!(entry.absent, Absence::Required) {
            needed.push(facts.name);
        }
    }
    let mut schema = Map::new();
    schema.insert("description".into(), without_links(&paragraphs(described.doc)).into());
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    if !needed.is_empty() {
        schema.insert("required".into(), needed.into());
    }
    if !described.one_of.is_empty() {
        let choices = described.one_of.iter().map(|name| json!({ "required": [name] }));
        schema.insert("oneOf".into(), choices.collect());
    }
    schema.insert("additionalProperties".into(), false.into());
    schema
}

/// The schema of a key's value, with all that is known of the key.
fn key(entry: &Entry) -> Json {
    let facts = &entry.facts;
    let mut schema = shape(&entry.shape);
    let Some(map) = schema.as_object_mut() else { return schema };
    map.insert("description".into(), description(entry).into());
    if let Absence::Default(default) = &entry.absent {
        map.insert("default".into(), default.clone());
    }
    if !facts.examples.is_empty() {
        let parse = |text: &&str| serde_json::from_str::<Json>(text).ok();
        map.insert("examples".into(), facts.examples.iter().filter_map(parse).collect());
    }
    if facts.deprecated.is_some() {
        map.insert("deprecated".into(), true.into());
    }
    schema
}

fn description(entry: &Entry) -> String {
    let mut text = entry.sentences();
    if let Absence::Means(words) = entry.absent
        && !words.is_empty()
    {
        text += &format!(" Default: {words}.");
    }
    without_links(&text).into_owned()
}

fn shape(shape: &Shape) -> Json {
    match shape {
        Shape::Anything => json!({}),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Number(rule) => {
            let mut schema = json!({ "type": "integer", "minimum": rule.least });
            if rule.most < u64::MAX {
                schema["maximum"] = rule.most.into();
            }
            schema
        }
        Shape::Duration(rule) => {
            let (least, most) = (rule.least.as_secs_f64(), rule.most.as_secs_f64());
            json!({ "$ref": "#/$defs/duration", "minimum": least, "maximum": most })
        }
        Shape::Text { pattern: None, .. } => text(json!({ "type": "string" })),
        Shape::Text { pattern: Some(pattern), .. } => {
            text(json!({ "type": "string", "pattern": format!("{pattern}|{REFERENCE}") }))
        }
        // An object that names a file would be what stands in it, which is no path.
        Shape::Path => json!({ "anyOf": [
            { "type": "string" },
            { "type": "object", "properties": { "$env": { "type": "string" } }, "required": ["$env"], "additionalProperties": false }
        ] }),
        Shape::Variable => json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" }),
        Shape::Words(words) => {
            let preferred: Vec<_> = words.iter().map(|(word, _, _)| word).collect();
            let spellings = words.iter().flat_map(|(word, others, _)| std::iter::once(word).chain(*others));
            let any_case: Vec<_> = spellings.map(|word| in_any_case(word)).collect();
            let pattern = format!("^({})$|{REFERENCE}", any_case.join("|"));
            // The first choice is what editors complete from.
            json!({ "anyOf": [
                { "enum": preferred },
                { "type": "string", "pattern": pattern },
                { "$ref": "#/$defs/Reference" }
            ] })
        }
        Shape::List(of) => json!({ "type": "array", "items": self::shape(of) }),
        Shape::Map { names, of } => {
            let mut schema = json!({ "type": "object", "additionalProperties": self::shape(of) });
            if let Some(pattern) = names {
                schema["propertyNames"] = json!({ "pattern": pattern });
            }
            schema
        }
        Shape::Object(name) => json!({ "$ref": format!("#/$defs/{name}") }),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(self::shape).collect::<Vec<_>>() }),
        Shape::JsonSchema => {
            json!({ "type": "object", "properties": { "type": { "const": "object" } }, "required": ["type"] })
        }
    }
}

fn text(plain: Json) -> Json {
    json!({ "anyOf": [plain, { "$ref": "#/$defs/Reference" }] })
}

fn duration() -> Json {
    json!({
        "description": "Time span with a unit, as in \"30s\", \"500ms\" or \"5m\"; a number is seconds.",
        "anyOf": [
            { "type": "string", "pattern": DURATION },
            { "type": "number" },
            { "$ref": "#/$defs/Reference" }
        ]
    })
}

/// `on` as `[oO][nN]`: the dialect of schemas has no flag for it.
fn in_any_case(word: &str) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase()),
        false => c.to_string(),
    };
    word.chars().map(letter).collect()
}
