//! `inline`: tools that the config itself defines, each of which runs a command.

use std::collections::HashSet;

use serde_json::Value;

use crate::config::{
    read::{
        context::Context,
        fields::Fields,
        reader::{Node, ReadText, to_json},
        reference::TextSource,
    },
    report::{hint, problem::Location, shown},
    resolve::{
        aggregate::is_tool_text,
        command::{environment, own_variables, program},
        programs::{self, Program},
    },
    snapshot::{InlineTarget, InlineTool, Piece},
    table::{INHERITED, INLINE_TOOL},
};
use crate::{mcp::schema::InputSchema, secret::Secret};

/// Characters of a tool's name at most (MCP 2025-11-25, "Tool Names").
const LONGEST_NAME: usize = 128;

pub(crate) fn resolve(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<InlineTarget> {
    let description = fields.text(cx, "description").map(|text| text.value);
    let Some(list) = fields.get("tools") else {
        if fields.lacks(&["tools"]) {
            cx.error(
                &fields.at,
                "has no `tools`; add them, as in { \"tools\": [{ \"name\": \"…\", \"command\": \"…\" }] }",
            );
        }
        return None;
    };
    let nodes = list.list(cx)?;
    if nodes.is_empty() {
        cx.warning(&list.at, "is empty, so this server can do nothing; add a tool");
    }
    let mut names = HashSet::new();
    let tools = nodes.iter().filter_map(|node| tool(cx, node, &mut names)).collect();
    Some(InlineTarget { description, tools })
}

/// One tool, if every part of it is good.
fn tool(cx: &mut Context<'_>, node: &Node<'_>, names: &mut HashSet<String>) -> Option<InlineTool> {
    let fields = node.object(cx, &INLINE_TOOL)?;
    let name = name(cx, &fields, names);
    let description = fields.text(cx, "description").map(|text| text.value);
    let input_schema = input_schema(cx, &fields);
    let command = match fields.has("command") {
        true => program(cx, &fields),
        false => missing(cx, &fields, "command", "the program to run"),
    };
    let args = match (&input_schema, fields.get("args")) {
        (Some(schema), Some(node)) => arguments(cx, &node, schema, &own_variables(&fields)),
        _ => Vec::new(),
    };
    let env = environment(cx, &fields);
    if let Some(command) = &command {
        let inherits_path = INHERITED.contains(&"PATH");
        let cwd = std::env::current_dir().unwrap_or_default();
        programs::warn(cx, &fields, Program { command, env: &env, inherits_path, cwd: &cwd });
    }
    let timeout = fields.duration(cx, "timeout");
    Some(InlineTool {
        name: name?,
        description,
        input_schema: input_schema?,
        command: command?,
        args,
        env,
        timeout: timeout?,
    })
}

fn missing<T>(cx: &mut Context<'_>, fields: &Fields<'_>, key: &str, what: &str) -> Option<T> {
    // It may be there under a wrong name, which is reported already.
    if fields.lacks(&[key]) {
        cx.error(&fields.at, format!("has no `{key}`; add {what}"));
    }
    None
}

fn name(cx: &mut Context<'_>, fields: &Fields<'_>, names: &mut HashSet<String>) -> Option<Box<str>> {
    let Some(node) = fields.get("name") else {
        return missing(cx, fields, "name", "what clients call it");
    };
    let text = node.string(cx)?;
    if !(1..=LONGEST_NAME).contains(&text.value.len()) || !is_tool_text(&text.value) {
        return cx.refuse(
            &text.at,
            format!("a tool's name has 1 to {LONGEST_NAME} letters, digits, _ - . or /; rename it"),
        );
    }
    if !names.insert(text.value.clone()) {
        return cx.refuse(
            &text.at,
            format!("another tool of this server is called {} already; rename one", text.shown()),
        );
    }
    Some(text.value.into())
}

fn input_schema(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<InputSchema> {
    let (at, compiled) = match fields.get("inputSchema") {
        Some(node) => (node.at.clone(), InputSchema::compile(to_json(node.value))),
        None => (fields.at.clone(), InputSchema::empty()),
    };
    compiled.map_err(|message| cx.error(&at, message)).ok()
}

/// `own`: the variables of the tool's `env`.
fn arguments(cx: &mut Context<'_>, node: &Node<'_>, schema: &InputSchema, own: &[&str]) -> Vec<Vec<Piece>> {
    let mut arguments = Vec::new();
    let mut options_are_over = false;
    for text in node.arguments(cx, own).unwrap_or_default() {
        if text.value.contains('\0') {
            cx.error(&text.at, "holds a zero byte, which no argument can; remove it");
        }
        options_are_over |= text.value == "--";
        let pieces = pieces(cx, &text, schema);
        if !options_are_over
            && let Some(Piece::Argument(name)) = pieces.first()
            && schema.property(name).is_some_and(takes_any_text)
        {
            let message = format!(
                "a caller who gives a value that begins with - may set an option of the command; put \"--\" in front, write \"--option={{{{{name}}}}}\", or limit {name} by a `pattern`"
            );
            cx.warning(&text.at, message);
        }
        arguments.push(pieces);
    }
    arguments
}

/// Whether callers choose the first character of this argument freely.
fn takes_any_text(schema: &Value) -> bool {
    let is_limited = ["enum", "const", "pattern", "$ref"].iter().any(|key| schema.get(key).is_some());
    let is_text = schema.get("type").is_none_or(|kind| {
        kind == "string" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "string"))
    });
    is_text && !is_limited
}

/// Splits `--depth={{depth}}` into its text and the arguments that it names. Only names of properties are replaced, so
/// that the templates of other programs (`{{.Names}}`) pass as they are.
fn pieces(cx: &mut Context<'_>, text: &ReadText, schema: &InputSchema) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text.value.as_str();
    while let Some((before, inside)) = rest.split_once("{{") {
        plain.push_str(before);
        let named = inside.split_once("}}").map(|(name, after)| (name.trim(), after));
        if let Some((name, after)) = named
            && schema.property(name).is_some()
        {
            if !plain.is_empty() {
                pieces.push(Piece::Text(Secret::new(std::mem::take(&mut plain))));
            }
            pieces.push(Piece::Argument(name.into()));
            rest = after;
            continue;
        }
        if let Some((name, _)) = named
            && text.origin == TextSource::Literal
        {
            warn_of_stranger(cx, name, &text.at, schema);
        }
        plain.push_str("{{");
        rest = inside;
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(Secret::new(plain)));
    }
    pieces
}

/// A plain word in braces was probably meant to be an argument.
fn warn_of_stranger(cx: &mut Context<'_>, name: &str, at: &Location, schema: &InputSchema) {
    if shown::name(name).is_none()
        || name.is_empty()
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    {
        return;
    }
    let remedy = match hint::closest(name, schema.properties()) {
        Some(near) => format!("did you mean {{{{{near}}}}}?"),
        None => "add it there if callers are to give it".into(),
    };
    cx.warning(
        at,
        format!("{{{{{name}}}}} is passed as it stands, because `inputSchema` has no property of that name; {remedy}"),
    );
}
