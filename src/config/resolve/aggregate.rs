//! `proxy.aggregate`: how all servers look as one.

use crate::config::{
    read::{context::Context, fields::Fields},
    snapshot::{Aggregate, Collision, Naming},
};

/// Characters of a separator at most: names of tools are bounded too, and the rest is for server and tool.
const LONGEST_SEPARATOR: usize = 16;

/// What is not good is noted, and its value does not matter any more.
pub(crate) fn resolve(cx: &mut Context<'_>, proxy: &Fields<'_>) -> Aggregate {
    let fields = proxy.object_or_empty(cx, "aggregate");
    Aggregate {
        naming: naming(cx, &fields),
        lazy: fields.bool(cx, "lazy").unwrap_or_default(),
        discovery_timeout: fields.duration(cx, "discoveryTimeout").unwrap_or_default(),
    }
}

fn naming(cx: &mut Context<'_>, fields: &Fields<'_>) -> Naming {
    let separator = separator(cx, fields);
    let is_flat = fields.word(cx, "mode") == Some("flat");
    let on_collision = match fields.word(cx, "onCollision") {
        Some("first") => Collision::First,
        Some("prefix") => Collision::Prefix,
        _ => Collision::Error,
    };
    if !is_flat {
        if fields.has("onCollision") {
            let message =
                "has no effect, because prefixed names cannot collide; set `mode` to \"flat\", or remove it";
            cx.notice(&fields.key("onCollision"), message);
        }
        return Naming::Prefixed { separator };
    }
    if on_collision != Collision::Prefix && fields.has("separator") {
        let message = "has no effect on flat names; set `onCollision` to \"prefix\", or remove it";
        cx.notice(&fields.key("separator"), message);
    }
    Naming::Flat { on_collision, separator }
}

fn separator(cx: &mut Context<'_>, fields: &Fields<'_>) -> Box<str> {
    let Some(text) = fields.text(cx, "separator") else { return "".into() };
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
pub(crate) fn is_tool_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
}
