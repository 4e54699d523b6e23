//! What a tool's arguments have to look like: JSON Schema, of draft 2020-12 unless `$schema` names an older one (MCP
//! 2025-11-25, "JSON Schema Usage").

use std::{error::Error, fmt, sync::Arc};

use boon::{CompileError, Compiler, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::{Value, json};

/// Faults that are reported at once; whoever mends these finds the rest.
const MOST_FAULTS: usize = 5;
/// Longest message, in bytes: a fault may repeat the value that it is about.
const MOST_BYTES: usize = 2048;
/// What the schema is called while it is compiled. Messages come without it.
const LOCATION: &str = "schema:///inputSchema";

/// `inputSchema` of a tool, ready to check with.
#[derive(Clone)]
pub struct InputSchema {
    json: Value,
    compiled: Arc<(Schemas, SchemaIndex)>,
}

impl InputSchema {
    /// Compiles a schema. It must be of type `object`, as MCP demands, and refer to nothing outside of itself.
    ///
    /// The error says what is wrong with it, in words that go on after the name of the key.
    pub fn compile(json: Value) -> Result<Self, String> {
        if json.get("type") != Some(&json!("object")) {
            return Err("needs \"type\": \"object\" at its top, because arguments have names".into());
        }
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Nowhere));
        let mut schemas = Schemas::new();
        let index = match compiler.add_resource(LOCATION, json.clone()) {
            Ok(()) => compiler.compile(LOCATION, &mut schemas),
            Err(error) => Err(error),
        };
        let index = index.map_err(|error| format!("is no JSON Schema: {}", explain(&error)))?;
        Ok(Self { json, compiled: Arc::new((schemas, index)) })
    }

    /// The schema of a tool that takes no arguments.
    pub fn empty() -> Result<Self, String> {
        Self::compile(json!({ "type": "object", "additionalProperties": false }))
    }

    /// The schema as it was written.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The schema of one argument, if it is among the `properties` at the top.
    pub fn property(&self, name: &str) -> Option<&Value> {
        self.json.get("properties")?.get(name)
    }

    /// Names of the `properties` at the top.
    pub fn properties(&self) -> impl Iterator<Item = &str> {
        self.json
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
    }

    /// Checks the arguments of a call. The error names each that does not fit, for whoever made the call: it may hold
    /// their values.
    pub fn check(&self, arguments: &Value) -> Result<(), String> {
        let (schemas, index) = &*self.compiled;
        schemas.validate(arguments, *index).map_err(|error| faults(&error))
    }
}

impl PartialEq for InputSchema {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for InputSchema {}

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json.fmt(f)
    }
}

/// A config is complete: its schemas load no file and no URL.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        Err("it is outside of this schema".into())
    }
}

fn explain(error: &CompileError) -> String {
    match error {
        CompileError::ValidationError { src, .. } => faults(src),
        CompileError::LoadUrlError { url, .. } => {
            format!("{url} is not part of it; write what it holds under \"$defs\" and refer to it there")
        }
        other => other.to_string().replace(LOCATION, ""),
    }
}

/// The innermost faults, since those say what to change: `/limit: want integer, but got string; …`.
fn faults(error: &ValidationError<'_, '_>) -> String {
    let mut found = Vec::new();
    innermost(error, &mut found);
    let mut text = found.join("; ");
    if text.len() > MOST_BYTES {
        let end = (0..=MOST_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn innermost(error: &ValidationError<'_, '_>, found: &mut Vec<String>) {
    if found.len() == MOST_FAULTS {
        return;
    }
    if error.causes.is_empty() {
        let fault = match &error.kind {
            // Its own words are a drawing of several lines.
            ErrorKind::Format { got, want, .. } => format!("{got} is no valid {want}"),
            other => other.to_string(),
        };
        let place = error.instance_location.to_string();
        found.push(if place.is_empty() { fault } else { format!("{place}: {fault}") });
    } else if matches!(error.kind, ErrorKind::AnyOf | ErrorKind::OneOf(_)) {
        let mut alternatives = Vec::new();
        for cause in &error.causes {
            innermost(cause, &mut alternatives);
        }
        found.push(alternatives.join(", or "));
    } else {
        for cause in &error.causes {
            innermost(cause, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(json: Value) -> InputSchema {
        InputSchema::compile(json).expect("a schema")
    }

    #[test]
    fn arguments_are_checked_to_any_depth() {
        let schema = compiled(json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "pattern": "^[a-z]+$" },
                "limit": { "type": "integer", "minimum": 1 },
                "mode": { "enum": ["fast", "slow"] },
                "near": { "$ref": "#/$defs/point" },
                "size": { "anyOf": [{ "type": "integer" }, { "enum": ["all"] }] },
            },
            "required": ["name"],
            "additionalProperties": false,
            "$defs": { "point": { "type": "object", "properties": { "x": { "type": "number" } } } },
        }));
        assert_eq!(
            schema.check(&json!({ "name": "abc", "limit": 3, "mode": "fast", "near": { "x": 1.5 } })),
            Ok(())
        );
        for (arguments, told) in [
            (json!({}), "missing properties 'name'"),
            (json!({ "name": 1 }), "/name: want string, but got number"),
            (json!({ "name": "A" }), "/name: 'A' does not match pattern '^[a-z]+$'"),
            (json!({ "name": "a", "limit": 1.5 }), "/limit: want integer"),
            (json!({ "name": "a", "limit": 0 }), "/limit: must be >=1"),
            (json!({ "name": "a", "mode": "other" }), "/mode: value must be one of 'fast', 'slow'"),
            (json!({ "name": "a", "other": 1 }), "additionalProperties 'other' not allowed"),
            (json!({ "name": "a", "near": { "x": "1" } }), "/near/x: want number"),
            (
                json!({ "name": "a", "size": "x" }),
                "/size: want integer, but got string, or /size: value must be 'all'",
            ),
            (json!(["name"]), "want object, but got array"),
        ] {
            let error = schema.check(&arguments).expect_err("does not fit");
            assert!(error.contains(told), "{arguments}: {error}");
        }
    }

    #[test]
    fn a_fault_is_told_in_bounded_words() {
        let schema = compiled(json!({ "type": "object", "properties": { "a": { "pattern": "^x$" } } }));
        let error = schema.check(&json!({ "a": "é".repeat(1 << 20) })).expect_err("does not fit");
        assert!(error.len() <= MOST_BYTES + '…'.len_utf8(), "{}", error.len());
        let many = compiled(json!({ "type": "object", "additionalProperties": { "type": "string" } }));
        let arguments: Value =
            (0..100).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into();
        assert_eq!(
            many.check(&arguments).expect_err("does not fit").matches("want string").count(),
            MOST_FAULTS
        );
    }

    #[test]
    fn what_is_no_schema_of_arguments_is_told_apart() {
        for (json, told) in [
            (json!({}), "needs \"type\": \"object\""),
            (json!({ "type": "string" }), "needs \"type\": \"object\""),
            (json!(true), "needs \"type\": \"object\""),
            (json!({ "type": "object", "properties": [] }), "/properties: want object"),
            (
                json!({ "type": "object", "properties": { "a": { "type": "strng" } } }),
                "/properties/a/type: value must be one of 'array'",
            ),
            (
                json!({ "type": "object", "properties": { "a": { "pattern": "(" } } }),
                "/properties/a/pattern: \"(\" is no valid regex",
            ),
            (json!({ "type": "object", "$ref": "#/$defs/gone" }), "/$defs/gone"),
            (
                json!({ "type": "object", "$ref": "file:///etc/passwd" }),
                "file:///etc/passwd is not part of it",
            ),
            (json!({ "type": "object", "$ref": "https://example.com/s" }), "is not part of it"),
        ] {
            let error = InputSchema::compile(json.clone()).expect_err("is none");
            assert!(error.contains(told) && !error.contains(LOCATION), "{json}: {error}");
        }
    }

    #[test]
    fn schemas_are_equal_if_they_say_the_same() {
        assert_eq!(compiled(json!({ "type": "object" })), compiled(json!({ "type": "object" })));
        assert_ne!(compiled(json!({ "type": "object" })), InputSchema::empty().expect("a schema"));
        assert!(InputSchema::empty().expect("a schema").check(&json!({ "a": 1 })).is_err());
    }
}
