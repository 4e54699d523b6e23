//! `proxy.aggregate`: how all servers look as one.

use super::{
    key::Found,
    reader::{Context, Text},
    snapshot::{Aggregate, Naming},
    table::{AggregateKeys, Collision, Mode},
};

/// Characters of a separator at most: names of tools are bounded too, and the rest is for server and tool.
const LONGEST_SEPARATOR: usize = 16;

pub(super) fn resolve(cx: &mut Context<'_>, keys: AggregateKeys) -> Aggregate {
    let (lazy, discovery_timeout) = (keys.lazy, keys.discovery_timeout);
    Aggregate { naming: naming(cx, keys), lazy, discovery_timeout }
}

fn naming(cx: &mut Context<'_>, keys: AggregateKeys) -> Naming {
    let on_collision = keys.on_collision.value;
    if keys.mode == Mode::Prefixed {
        if let Some(found) = keys.on_collision.found() {
            let message =
                "has no effect, because prefixed names cannot collide; set `mode` to \"flat\", or remove it";
            cx.notice(&found.key, message);
        }
        return Naming::Prefixed { separator: keys.separator.value.value.into() };
    }
    if on_collision != Collision::Prefix
        && let Some(found) = keys.separator.found()
    {
        let message = "has no effect on flat names; set `onCollision` to \"prefix\", or remove it";
        cx.notice(&found.key, message);
    }
    Naming::Flat { on_collision, separator: keys.separator.value.value.into() }
}

pub(super) fn check_separator(cx: &mut Context<'_>, _: &Found, text: &Text) {
    if !(1..=LONGEST_SEPARATOR).contains(&text.value.len()) || !is_tool_text(&text.value) {
        cx.error(
            &text.at,
            format!("must be 1 to {LONGEST_SEPARATOR} of the characters that names of tools have: letters, digits, _ - . and /; write \"__\" or \".\""),
        );
    }
}

/// Whether `text` has only characters that the name of a tool may have (MCP 2025-11-25, "Tool Names", and the slash that
/// servers use besides).
pub(super) fn is_tool_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
}
