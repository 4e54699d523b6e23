//! Three tools that stand for all: to look for one, to see its schema, to call it. A model that would get hundreds of
//! tools gets these, and reads the schemas that it needs.

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::json;
use crate::mcp::{
    message::{Message, Part},
    splice::splice,
};

const LIST: &str = "tool_list";
const SCHEMA: &str = "tool_schema";
pub(super) const INVOKE: &str = "tool_invoke";

/// Characters of a description that a list shows.
const SUMMARY: usize = 160;

/// How long a client may keep the list of these three, in milliseconds: they change with the gateway's config at most.
const TTL_MS: &str = "300000";

/// A call, as far as it concerns this module.
pub(super) enum LazyCall {
    /// It is answered from the list of tools.
    Query(Query),
    /// It is this call of a tool.
    Invoke(Message),
    /// It names a tool itself.
    Direct,
    /// It lacks something.
    Wrong(&'static str),
}

/// A question about tools.
pub(super) enum Query {
    /// `tool_list`
    List { server: Option<String>, query: Option<String> },
    /// `tool_schema`
    Schema { name: String },
}

/// A tool, as clients see it.
pub(super) struct LazyTool<'a> {
    pub(super) server: &'a str,
    pub(super) name: &'a str,
    /// Its definition, in which it has its server's name for it.
    pub(super) text: &'a str,
}

/// The result of `tools/list`.
pub(super) fn list(modern: bool) -> String {
    let tools = json!([
        {
            "name": LIST,
            "title": "List tools",
            "description": "Lists the tools that are available here, with one line about each. Begin with this.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "server": { "type": "string", "description": "Only tools of this server." },
                    "query": { "type": "string", "description": "Only tools with this text in name or description." },
                },
            },
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": SCHEMA,
            "title": "Show a tool",
            "description": "Shows the full definition of a tool, with the schema of its arguments.",
            "inputSchema": {
                "type": "object",
                "properties": { "name": { "type": "string", "description": "Name, as tool_list shows it." } },
                "required": ["name"],
            },
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": INVOKE,
            "title": "Call a tool",
            "description": "Calls a tool. Its arguments have to fit the schema that tool_schema shows.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "name": { "type": "string", "description": "Name, as tool_list shows it." },
                    "arguments": { "type": "object", "description": "Arguments of that tool." },
                },
                "required": ["name"],
            },
        },
    ])
    .to_string();
    json::object(&[
        ("tools", Some(&tools)),
        ("resultType", modern.then_some("\"complete\"")),
        ("ttlMs", modern.then_some(TTL_MS)),
        ("cacheScope", modern.then_some("\"private\"")),
    ])
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Wanted {
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// Reads a call.
pub(super) fn read(message: &Message) -> LazyCall {
    let wanted = || match message.part(Part::Arguments) {
        Some("null") | None => Some(Wanted::default()),
        Some(arguments) => serde_json::from_str::<Wanted>(arguments).ok(),
    };
    match message.name() {
        Some(LIST) => match wanted() {
            Some(wanted) => LazyCall::Query(Query::List { server: wanted.server, query: wanted.query }),
            None => LazyCall::Wrong("tool_list takes the strings server and query, or neither."),
        },
        Some(SCHEMA) => match wanted().and_then(|wanted| wanted.name) {
            Some(name) => LazyCall::Query(Query::Schema { name }),
            None => LazyCall::Wrong("tool_schema takes the string name."),
        },
        Some(INVOKE) => match invoked(message) {
            Some(message) => LazyCall::Invoke(message),
            None => LazyCall::Wrong("tool_invoke takes the string name and the object arguments."),
        },
        _ => LazyCall::Direct,
    }
}

/// The call that a `tool_invoke` stands for: everything but name and arguments stays as it is.
fn invoked(message: &Message) -> Option<Message> {
    let outer = message.part(Part::Arguments)?;
    let inner: Params<'_> = serde_json::from_str(outer).ok()?;
    let arguments = inner.arguments.map_or("{}", RawValue::get);
    if !inner.name.get().starts_with('"') || !outer.starts_with('{') || !arguments.starts_with('{') {
        return None;
    }
    message.with(&[(Part::Name, inner.name.get().into()), (Part::Arguments, arguments.into())]).ok()
}

impl Query {
    /// The result of the call, from all tools that there are.
    pub(super) fn answer<'a>(&self, tools: impl Iterator<Item = LazyTool<'a>>, modern: bool) -> String {
        match self {
            Self::List { server, query } => {
                let query = query.as_deref().map(str::to_lowercase);
                let found: Vec<_> = tools
                    .filter(|tool| server.as_deref().is_none_or(|server| server == tool.server))
                    .map(|tool| (tool.name, description(tool.text)))
                    .filter(|(name, description)| {
                        query.as_deref().is_none_or(|query| {
                            name.to_lowercase().contains(query) || description.to_lowercase().contains(query)
                        })
                    })
                    .map(|(name, description)| (name, summary(&description)))
                    .collect();
                let lines: Vec<_> =
                    found.iter().map(|(name, summary)| format!("{name}: {summary}")).collect();
                let each: Vec<_> = found
                    .iter()
                    .map(|(name, summary)| json!({ "name": name, "description": summary }))
                    .collect();
                let lines_or_none =
                    if lines.is_empty() { "No tool fits.".to_owned() } else { lines.join("\n") };
                text(&lines_or_none, Some(&json!({ "tools": each }).to_string()), false, modern)
            }
            Self::Schema { name } => {
                let found = tools.into_iter().find(|tool| tool.name == name).and_then(|tool| {
                    let own: Params<'_> = serde_json::from_str(tool.text).ok()?;
                    splice(tool.text, &[(own.name.get(), &json::quoted(tool.name))])
                });
                match found {
                    Some(definition) => text(&definition, Some(&definition), false, modern),
                    None => text(&format!("Unknown tool: {name}"), None, true, modern),
                }
            }
        }
    }
}

/// The result of a call: text for the model, and the same as JSON.
pub(super) fn text(text: &str, structured: Option<&str>, is_error: bool, modern: bool) -> String {
    let content = json!([{ "type": "text", "text": text }]).to_string();
    json::object(&[
        ("content", Some(&content)),
        ("structuredContent", structured),
        ("isError", is_error.then_some("true")),
        ("resultType", modern.then_some("\"complete\"")),
    ])
}

fn description(tool: &str) -> String {
    #[derive(Deserialize)]
    struct Described {
        #[serde(default)]
        description: Option<String>,
    }
    serde_json::from_str::<Described>(tool).ok().and_then(|tool| tool.description).unwrap_or_default()
}

fn summary(description: &str) -> String {
    let line = description.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(SUMMARY) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
