//! Who may use a server, and which of its tools there are for them: `public`, `authTokens`, `roles` and `toolFilter`.

use std::sync::Arc;

use crate::config::{
    access::{Access, Rule},
    read::{context::Context, fields::Fields, reader::Node},
    report::{hint, problem::Location, shown},
    resolve::tokens::{Auth, words},
    rule_lines::RuleOf,
    snapshot::{Server, ToolFilter},
};
use crate::mcp::walk::MAX_TEXT;

/// Who may use a server; and, where something of that cannot be read, whom the rest admits at most: an entry that cannot be
/// read admits no one, and a value that is no list is left out.
pub(super) fn access(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    options: &Fields<'_>,
    auth: &Auth,
) -> (Access, Access) {
    const TOKENS: &str = "authTokens";
    let public = fields.bool(cx, "public");
    let may_be_public = public.unwrap_or(true) || !fields.has("public") && !fields.lacks(&["public"]);
    let lists: Vec<_> = [fields.get(TOKENS), options.get(TOKENS)].into_iter().flatten().collect();
    if let [_, nested] = &*lists {
        cx.error(&nested.at, "is the same as the server's `authTokens`; keep one of them");
    }
    let read: Vec<_> = lists.iter().map(|node| token_names(cx, node, auth)).collect();
    let tokens = read.into_iter().collect::<Option<Vec<_>>>().filter(|_| !lists.is_empty());
    let tokens = tokens.map(|names| names.concat());
    let roles_node = fields.get("roles");
    let roles = roles_node.as_ref().and_then(|_| words(cx, fields, "roles"));

    if public == Some(true) {
        for node in lists.iter().chain(&roles_node) {
            cx.error(&node.at, "cannot stand beside `public: true`, which lets anyone in; keep one of them");
        }
    }
    let certain = match (tokens, roles) {
        (None, None) if may_be_public => Access::Public,
        (None, None) => Access::AnyToken,
        (tokens, roles) => Access::Only { tokens, roles },
    };
    let access = match public {
        Some(true) => Access::Public,
        _ => certain.clone(),
    };
    (access, certain)
}

/// Notes the places of the rules about who may use the server.
pub(super) fn note_rules(
    cx: &mut Context<'_>,
    name: &Arc<str>,
    key: &Location,
    fields: &Fields<'_>,
    options: &Fields<'_>,
) {
    let keys = [
        (fields, "public", Rule::Public),
        (fields, "authTokens", Rule::AuthTokens),
        (options, "authTokens", Rule::AuthTokens),
        (fields, "roles", Rule::ServerRoles),
        (options, "toolFilter", Rule::ToolFilter),
    ];
    let found = keys.into_iter().filter(|(fields, name, _)| fields.has(name));
    let found = found.map(|(fields, name, rule)| (rule, fields.key(name)));
    let of = || RuleOf::Server(Arc::clone(name));
    // A server without a rule has the line of the server.
    let all = found.chain([(Rule::AnyToken, key.clone())]);
    cx.rules.extend(all.map(|(rule, at)| (of(), rule, at)));
}

pub(super) fn tool_filter(cx: &mut Context<'_>, fields: &Fields<'_>) -> Option<ToolFilter> {
    let listed = fields.get("list");
    if fields.lacks(&["mode"]) || fields.lacks(&["list"]) {
        cx.error(&fields.at, "needs a `mode`, \"allow\" or \"block\", and a `list` of names of tools");
    }
    let allows = fields.word(cx, "mode").map(|mode| mode == "allow");
    let listed = listed?;
    let names = listed.strings(cx)?;
    for name in &names {
        if name.value.is_empty() || name.value.len() > MAX_TEXT {
            cx.error(&name.at, format!("is no name of a tool; write 1 to {MAX_TEXT} bytes"));
        }
    }
    let allows = allows?;
    if names.is_empty() {
        cx.warning(
            &listed.at,
            if allows {
                "hides every tool of this server; name those to allow"
            } else {
                "hides no tool; name some, or remove the filter"
            },
        );
    }
    Some(ToolFilter { allows, list: names.into_iter().map(|name| name.value.into()).collect() })
}

/// With more names than this, none is looked for that one is a slip of: it would take long.
const MANY_NAMES: usize = 500;

/// Those that are names of tokens; `None` if this is no list.
fn token_names(cx: &mut Context<'_>, node: &Node<'_>, auth: &Auth) -> Option<Vec<Arc<str>>> {
    let mut names = Vec::new();
    if node.literal().is_some() {
        let mut names = auth.names.iter().flatten();
        let example = names.find_map(|name| shown::name(name)).unwrap_or("dev");
        return cx.refuse(&node.at, format!("must be a list of names of tokens, as in [{example:?}]"));
    }
    for text in node.strings(cx)? {
        let Some(known) = &auth.names else { continue };
        match auth.known.get(&*text.value) {
            Some(name) => names.push(name.clone()),
            None => {
                let near = match cx.is_full() || known.len() > MANY_NAMES {
                    true => None,
                    false => hint::closest(&text.value, known.iter().filter_map(|name| shown::name(name))),
                };
                // Not shown: people take it for the place of the token itself.
                let message = match near {
                    Some(near) => format!("is no name in proxy.auth.tokens; did you mean {near:?}?"),
                    None => no_token_name(known),
                };
                cx.error(&text.at, message);
            }
        }
    }
    Some(names)
}

/// What to say of a name that no token has. It is not proposed to add it: it may be a token.
fn no_token_name(known: &[Arc<str>]) -> String {
    // What may be a token in the place of a name is not shown.
    let known: Vec<_> = known.iter().filter(|name| !name.starts_with("sg_")).collect();
    match known.is_empty() {
        true => {
            "is no name in proxy.auth.tokens, which has none; a token's name stands here, its value there"
                .into()
        }
        false => format!(
            "is no name in proxy.auth.tokens; name one of {}. A token's value stands there, not here",
            shown::first_names(&known)
        ),
    }
}

/// Warns of servers that no credential opens, which is safe and seldom meant; and of those that every credential opens,
/// although it looks as if one were for them.
pub(crate) fn warn_of_access(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    of_auth: &Location,
    servers: &[Server],
    auth: &Auth,
) {
    if auth.credentials.iter().all(|held| held.decoy)
        && servers.iter().any(|server| server.access != Access::Public)
    {
        cx.warning(
            of_auth,
            match auth.credentials.is_empty() {
                true => "there is no token, so nobody can use a server; `sluicegate token new` makes one for `proxy.auth.tokens`",
                false => "every token is a decoy, so nobody can use a server; `sluicegate token new` makes one that is none",
            },
        );
        return;
    }
    let live: Vec<_> = auth
        .credentials
        .iter()
        .filter(|held| !held.decoy && held.expires.is_none_or(|end| end > cx.now))
        .collect();
    for server in servers {
        // A config of MCP Front's may have its tokens by server.
        if server.access == Access::AnyToken
            && auth.credentials.len() > 1
            && auth.known.contains(&*server.name)
        {
            let name = shown::name_or_hidden(&server.name);
            let message = format!(
                "any token may use this server, though one has its name; write \"authTokens\": [\"{name}\"] if no other is to"
            );
            cx.warning(&fields.key(name), message);
        }
        let is_open = server.access == Access::Public
            || live.iter().any(|held| server.access.admits(&held.token_name, &held.roles).is_ok());
        if !is_open {
            cx.warning(
                &fields.key(&server.name),
                "nobody can use this server, because no valid token meets its `authTokens` and `roles`; name one that does",
            );
        }
    }
}
