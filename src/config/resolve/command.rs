//! `command` and `env`: what a program is started with.

use crate::config::{
    read::{context::Context, fields::Fields},
    table::{COMMAND, SERVER},
};
use crate::secret::Secret;

/// `command`: the name or path of a program.
pub(crate) fn program(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<String> {
    let command = fields.text(cx, COMMAND)?;
    if command.value.trim().is_empty() || command.value.contains('\0') {
        return cx.refuse(&command.at, "is no program; write its name or path");
    }
    Some(command.value)
}

/// The names in `env`.
pub(crate) fn own_variables<'a>(fields: &Fields<'a>) -> Vec<&'a str> {
    fields.get("env").and_then(|node| node.fields()).map(|env| env.names().collect()).unwrap_or_default()
}

/// `env`, but for what has the token of a caller in it: a server may have that, and `upstream_auth` reads it.
pub(crate) fn environment(cx: &mut Context<'_>, fields: &Fields<'_>) -> Vec<(String, Secret)> {
    let mut variables = Vec::new();
    let entries = fields.get("env").and_then(|node| node.map(cx)).map(|fields| fields.entries());
    let may_have_tokens = fields.kind.is_some_and(|kind| kind.name == SERVER.name);
    for (name, key, node) in entries.unwrap_or_default() {
        if name.is_empty() || name.contains(['=', '\0']) {
            cx.error(&key, "is no variable name; use letters, digits and _");
        }
        if may_have_tokens && node.is_user_token() {
            continue;
        }
        node.part_of_file(cx, |cx| match node.string(cx) {
            Some(text) if text.value.contains('\0') => {
                cx.error(&text.at, "holds a zero byte, which no variable can; remove it");
            }
            Some(text) => variables.push((name.to_owned(), Secret::new(text.value))),
            None => {}
        });
    }
    variables
}
