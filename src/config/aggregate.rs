//! `proxy.aggregate`: how all servers look as one.

use std::time::Duration;

use super::{
    keys,
    reader::{Context, Fields, Node, Text},
    snapshot::{Aggregate, Collision, Naming},
};

/// Characters of a separator at most: names of tools are bounded too, and the rest is for server and tool.
const LONGEST_SEPARATOR: usize = 16;
/// Least that `discoveryTimeout` may be.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads what is set; the rest has its default.
pub(super) fn resolve(cx: &mut Context<'_>, node: Option<&Node<'_>>) -> Aggregate {
    let default = Aggregate::default();
    let Some(fields) = node.and_then(|node| node.object(cx, keys::AGGREGATE)) else { return default };
    let timeout = fields.get("discoveryTimeout").and_then(|node| node.duration(cx, SHORTEST));
    Aggregate {
        naming: naming(cx, &fields),
        lazy: fields.get("lazy").and_then(|node| node.bool(cx)).unwrap_or(default.lazy),
        discovery_timeout: timeout.unwrap_or(default.discovery_timeout),
    }
}

fn naming(cx: &mut Context<'_>, fields: &Fields<'_>) -> Naming {
    let separator = separator(cx, fields);
    let is_flat = fields
        .get("mode")
        .and_then(|node| node.string(cx))
        .and_then(|text| one_of(cx, &text, "mode", &[("prefixed", false), ("flat", true)]));
    let collision = fields.get("onCollision").and_then(|node| node.string(cx)).and_then(|text| {
        let known = [("error", Collision::Error), ("first", Collision::First), ("prefix", Collision::Prefix)];
        one_of(cx, &text, "rule", &known)
    });
    if is_flat != Some(true) {
        if collision.is_some() {
            let message =
                "has no effect, because prefixed names cannot collide; set `mode` to \"flat\", or remove it";
            cx.notice(&fields.key("onCollision"), message);
        }
        return Naming::Prefixed { separator };
    }
    let on_collision = collision.unwrap_or(Collision::Error);
    if on_collision != Collision::Prefix && fields.get("separator").is_some() {
        let message = "has no effect on flat names; set `onCollision` to \"prefix\", or remove it";
        cx.notice(&fields.key("separator"), message);
    }
    Naming::Flat { on_collision, separator }
}

fn separator(cx: &mut Context<'_>, fields: &Fields<'_>) -> Box<str> {
    const DEFAULT: &str = "__";
    let Some(text) = fields.get("separator").and_then(|node| node.string(cx)) else { return DEFAULT.into() };
    if !(1..=LONGEST_SEPARATOR).contains(&text.value.len()) || !is_tool_text(&text.value) {
        cx.error(
            &text.at,
            format!("must be 1 to {LONGEST_SEPARATOR} of the characters that names of tools have: letters, digits, _ - . and /; write \"__\" or \".\""),
        );
    }
    text.value.into()
}

/// Whether `text` has only characters that the name of a tool may have (MCP 2025-11-25, "Tool Names", and the slash that
/// servers use besides).
pub(super) fn is_tool_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
}

fn one_of<T: Copy>(cx: &mut Context<'_>, text: &Text, what: &str, known: &[(&str, T)]) -> Option<T> {
    let found = known.iter().find(|(name, _)| *name == text.value).map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("{name:?}")).collect();
        cx.error(&text.at, format!("{} is no {what}; use one of {}", text.shown(), names.join(", ")));
    }
    found
}
