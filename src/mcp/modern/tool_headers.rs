//! Arguments of tools that are repeated in `Mcp-Param-*` fields.

use std::{borrow::Cow, collections::HashMap, fmt};

use http::{HeaderMap, HeaderName};
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::fields::{PARAM_PREFIX, RejectionReason, differs, is_param, is_second_spelling, missing, only};
use crate::mcp::{codes::HEADER_MISMATCH, header, reading::keys::is_spelling_of};

const ANNOTATION: &str = "x-mcp-header";

/// JSON Schema 2020-12 keywords that hold a schema.
const HOLD_ONE: [&str; 11] = [
    "items",
    "contains",
    "unevaluatedItems",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];
/// Those that hold a list of schemas.
const HOLD_LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Those that hold schemas by name, other than `properties`.
const HOLD_MAP: [&str; 4] = ["patternProperties", "dependentSchemas", "$defs", "definitions"];

/// Which arguments of a server's tools come in `Mcp-Param-*` fields as well: `x-mcp-header` in their `inputSchema`.
///
/// Of a tool whose annotations break the rules of SEP-2243 nothing is known: clients have to drop such a tool, and nothing
/// that it says of fields can be relied on.
#[derive(Debug, Clone, Default)]
pub struct ToolHeaders(HashMap<Box<str>, Option<Vec<Param>>>);

#[derive(Debug, Clone)]
struct Param {
    field: HeaderName,
    /// Names of properties, from the root of `arguments`.
    path: Vec<Box<str>>,
}

/// Why a schema's annotations count for nothing.
struct Invalid;

impl ToolHeaders {
    /// Reads the `result` of `tools/list`. What is no such result has no tools.
    pub fn read(result: &str) -> Self {
        #[derive(Deserialize)]
        struct Listed<'a> {
            #[serde(borrow)]
            tools: Vec<&'a RawValue>,
        }
        // One by one: a tree is many times as large as its text.
        let tools = serde_json::from_str::<Listed<'_>>(result).map(|listed| listed.tools).unwrap_or_default();
        let tools = tools.iter().filter_map(|tool| serde_json::from_str(tool.get()).ok());
        Self(tools.filter_map(|tool| annotated(&tool)).collect())
    }

    /// Whether the tool was listed.
    pub fn lists(&self, tool: &str) -> bool {
        self.0.contains_key(tool)
    }

    /// How many tools were listed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another page of the list.
    pub fn extend(&mut self, page: Self) {
        self.0.extend(page.0);
    }

    /// Compares the fields of a call with its arguments. Where nothing is known of the tool, there must be none: whoever
    /// decided on one of them in front of the gateway would have decided on what nobody can check.
    pub(super) fn compare(
        &self,
        tool: &str,
        headers: &HeaderMap,
        arguments: Option<&str>,
    ) -> Result<(), RejectionReason> {
        let mut given = headers.keys().filter(|name| is_param(name));
        let Some(Some(params)) = self.0.get(tool) else {
            let reason = "Mcp-Param-* fields cannot be checked for this tool";
            return given.next().map_or(Ok(()), |_| Err((HEADER_MISMATCH, reason.into())));
        };
        if let Some(name) = given.find(|name| params.iter().any(|it| is_second_spelling(&it.field, name))) {
            return Err(differs(name.as_str()));
        }
        for Param { field, path } in params {
            let name = field.as_str();
            let value = only(headers, name)?;
            let argument = match arguments.map_or(Ok(None), |arguments| at(arguments, path)) {
                Ok(Some(raw)) if raw.starts_with('"') => {
                    // Text that not every reader can read says what it says to some of them.
                    Some(Scalar::read(raw).ok_or_else(|| differs(name))?)
                }
                Ok(argument) => argument.and_then(Scalar::read),
                Err(Ambiguous) => return Err(differs(name)),
            };
            match (value, argument) {
                (None, None) => {}
                (None, Some(_)) => return Err(missing(name)),
                (Some(value), Some(argument))
                    if header::decode(value).is_some_and(|text| argument.equals(&text)) => {}
                // Also without an argument: a hop before has seen a value that the server will not.
                (Some(_), _) => return Err(differs(name)),
            }
        }
        Ok(())
    }
}

fn annotated(tool: &Value) -> Option<(Box<str>, Option<Vec<Param>>)> {
    let name = tool["name"].as_str()?;
    let mut params = Vec::new();
    let read = collect(&tool["inputSchema"], Some(&[]), &mut params);
    Some((name.into(), read.is_ok().then_some(params)))
}

/// Finds the annotations in a schema. `path` is where it is, as long as only `properties` lead there: what stands
/// elsewhere describes no one argument, and must not be annotated.
fn collect(schema: &Value, path: Option<&[Box<str>]>, found: &mut Vec<Param>) -> Result<(), Invalid> {
    let Some(keywords) = schema.as_object() else { return Ok(()) };
    if let Some(annotation) = keywords.get(ANNOTATION) {
        let path = path.filter(|path| !path.is_empty()).ok_or(Invalid)?;
        let suffix = annotation.as_str().filter(|suffix| !suffix.is_empty()).ok_or(Invalid)?;
        let of_type = keywords.get("type").and_then(Value::as_str).ok_or(Invalid)?;
        let field = HeaderName::try_from(format!("{PARAM_PREFIX}{suffix}")).map_err(|_| Invalid)?;
        // Not `number`: two programs write one fraction in two ways.
        let is_scalar = matches!(of_type, "string" | "integer" | "boolean");
        let is_taken = |known: &Param| known.field == field || is_second_spelling(&known.field, &field);
        if !is_scalar || found.iter().any(is_taken) {
            return Err(Invalid);
        }
        found.push(Param { field, path: path.to_vec() });
    }
    for (keyword, held) in keywords {
        let keyword = keyword.as_str();
        if keyword == "properties" {
            for (name, schema) in held.as_object().into_iter().flatten() {
                let below = path.map(|path| [path, &[name.as_str().into()]].concat());
                collect(schema, below.as_deref(), found)?;
            }
        } else if HOLD_ONE.contains(&keyword) {
            collect(held, None, found)?;
        } else if HOLD_LIST.contains(&keyword) {
            held.as_array().into_iter().flatten().try_for_each(|schema| collect(schema, None, found))?;
        } else if HOLD_MAP.contains(&keyword) {
            held.as_object()
                .into_iter()
                .flatten()
                .try_for_each(|(_, schema)| collect(schema, None, found))?;
        }
    }
    Ok(())
}

/// Which argument a server takes, who knows: it is there twice or in another spelling, or could be an element of a list,
/// which some take for the fields of an object in their order.
struct Ambiguous;

/// The argument at a path.
fn at<'a>(arguments: &'a str, path: &[Box<str>]) -> Result<Option<&'a str>, Ambiguous> {
    let mut here = arguments;
    for name in path {
        if here == "null" {
            return Ok(None);
        }
        let Fields(fields) = serde_json::from_str(here).map_err(|_| Ambiguous)?;
        let mut named = fields.into_iter().filter(|(field, _)| is_spelling_of(field, name));
        match (named.next(), named.next()) {
            (None, _) => return Ok(None),
            (Some((field, value)), None) if *field == **name => here = value.get(),
            _ => return Err(Ambiguous),
        }
    }
    Ok(Some(here))
}

/// All fields of an object, also those that are there twice.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<Cow<'de, str>, _>()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

/// An argument that a field can repeat.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(&'a str),
}

impl<'a> Scalar<'a> {
    /// `None` for `null`, which counts as absent, and for what no client could have put into a field.
    fn read(raw: &'a str) -> Option<Self> {
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(raw).ok().map(|text| Self::Text(text.into())),
            b't' | b'f' => Some(Self::Text(raw.into())),
            b'-' | b'0'..=b'9' => Some(Self::Number(raw)),
            _ => None,
        }
    }

    fn equals(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => own == text,
            // By value, as the specification asks for: `42.0` is `42`.
            Self::Number(own) => *own == text || integer(own).is_some_and(|own| integer(text) == Some(own)),
        }
    }
}

/// The whole number that a decimal stands for.
fn integer(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_whole =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && fraction.bytes().all(|byte| byte == b'0');
    (is_whole && !fraction.is_empty()).then(|| whole.parse().ok()).flatten()
}
