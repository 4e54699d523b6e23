//! The schema and the reader are two descriptions of one thing; these hold them together.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{SCHEMA, keys, keys::Known};

fn schema() -> Json {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

#[test]
fn schema_and_reader_know_the_same_keys() {
    let objects: [(&str, Known); 18] = [
        ("", keys::ROOT),
        ("/$defs/proxy", keys::PROXY),
        ("/$defs/tls", keys::TLS),
        ("/$defs/auth", keys::AUTH),
        ("/$defs/token", keys::TOKEN),
        ("/$defs/limits", keys::LIMITS),
        ("/$defs/perCaller", keys::PER_CALLER),
        ("/$defs/perAddress", keys::PER_ADDRESS),
        ("/$defs/admin", keys::ADMIN),
        ("/$defs/log", keys::LOG),
        ("/$defs/sessions", keys::SESSIONS),
        ("/$defs/aggregate", keys::AGGREGATE),
        ("/$defs/server", keys::SERVER),
        ("/$defs/inline", keys::INLINE),
        ("/$defs/tool", keys::INLINE_TOOL),
        ("/$defs/server/properties/options", keys::OPTIONS),
        ("/$defs/server/properties/options/properties/toolFilter", keys::TOOL_FILTER),
        ("/$defs/reference", keys::REFERENCES),
    ];
    let schema = schema();
    for (pointer, known) in objects {
        let object = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is in the schema"));
        assert_eq!(object["additionalProperties"], false, "{pointer} refuses other keys, as the reader does");
        let properties = object["properties"].as_object().expect("an object has properties");
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(described, known.iter().copied().collect(), "{pointer}");
        for (key, property) in properties {
            let described = property.get("description").is_some() || property.get("$ref").is_some();
            assert!(described, "{pointer} says what {key} means");
        }
    }
    assert_eq!(count_closed_objects(&schema), objects.len(), "every object of the schema is compared");
}

fn count_closed_objects(schema: &Json) -> usize {
    match schema {
        Json::Object(object) => {
            let this = usize::from(object.get("additionalProperties") == Some(&Json::Bool(false)));
            this + object.values().map(count_closed_objects).sum::<usize>()
        }
        Json::Array(list) => list.iter().map(count_closed_objects).sum(),
        _ => 0,
    }
}

#[test]
fn the_examples_fit_the_schema() {
    let schema = schema();
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("examples exist")
    {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).expect("readable");
            let (document, _) = super::parse::parse(&text).expect("an example parses");
            let document = super::Node::root(&document).json();
            fits(&schema, &schema, &document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} examples were found");
}

#[test]
fn a_key_or_a_type_that_is_not_in_the_schema_does_not_fit() {
    let schema = schema();
    for bad in [
        r#"{"mcpServers": {"a": {"ulr": "x"}}}"#,
        r#"{"mcpServers": {"a": {"url": 1}}}"#,
        r#"{"mcpServers": {"a": {"transportType": "grpc"}}}"#,
        r#"{"proxy": {}}"#,
        r#"{"mcpServers": {}, "proxy": {"auth": {"tokens": {"a": [{"sha": "x"}]}}}}"#,
    ] {
        assert!(fits(&schema, &schema, &serde_json::from_str(bad).expect("JSON")).is_err(), "{bad}");
    }
}

/// As much of JSON Schema as our schema uses to tell right from wrong.
fn fits(root: &Json, schema: &Json, value: &Json) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            root.pointer(reference.trim_start_matches('#')).ok_or(format!("{reference} leads nowhere"))?;
        fits(root, target, value)?;
    }
    if let Some(choices) = schema["anyOf"].as_array()
        && !choices.iter().any(|choice| fits(root, choice, value).is_ok())
    {
        return Err(format!("{value} is none of {}", schema["anyOf"]));
    }
    let right_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        None => true,
        Some(other) => return Err(format!("the schema has an unexpected type {other}")),
    };
    if !right_type || schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        return Err(format!("{value} does not fit {schema}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        value.get(required.as_str().unwrap_or_default()).ok_or(format!("{required} is missing"))?;
    }
    for item in value.as_array().into_iter().flatten() {
        fits(root, &schema["items"], item)?;
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(property), _) => fits(root, property, value)?,
            (None, Json::Bool(false)) => return Err(format!("{key} is not in the schema")),
            (None, other) => fits(root, other, value)?,
        }
    }
    Ok(())
}
