//! Who may use a server, and which of its tools there are for them: `public`, `authTokens`, `users`, `roles` and
//! `toolFilter`.

use std::sync::Arc;

use crate::config::{
    access::{Access, CallerLimits, Rule, RuleName, RuleSubject},
    read::{context::Context, fields::Fields, reader::Node},
    report::{hint, problem::Location, shown},
    resolve::{
        callers::{KnownNames, NO_SCOPE, is_scope, words},
        tokens::Auth,
    },
    rule_lines::RuleOf,
    scope_word::ScopeWord,
    snapshot::{Server, ToolFilter},
    table::TOOL_RULE,
    tool_rules::{ToolPattern, ToolRule, ToolRules},
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
    let read: Vec<_> = lists.iter().map(|node| names(cx, node, &auth.token_names, &TOKENS_LIST)).collect();
    let read_tokens = read.into_iter().collect::<Option<Vec<_>>>().filter(|_| !lists.is_empty());
    let read_tokens = read_tokens.map(|names| names.concat());
    let users_node = fields.get("users");
    let read_users = users_node.as_ref().and_then(|node| names(cx, node, &auth.users.names, &USERS_LIST));
    // Of names of two kinds, of which one list cannot be read, nobody knows who is admitted.
    let is_unclear =
        !lists.is_empty() && read_tokens.is_none() || users_node.is_some() && read_users.is_none();
    let (tokens, users) = if is_unclear { (None, None) } else { (read_tokens, read_users) };
    let roles_node = fields.get("roles");
    let roles = roles_node.as_ref().and_then(|_| words(cx, fields, "roles"));

    if public == Some(true) {
        for node in lists.iter().chain(&users_node).chain(&roles_node) {
            cx.error(&node.at, "cannot stand beside `public: true`, which lets anyone in; keep one of them");
        }
    }
    let certain = match (tokens, users, roles) {
        (None, None, None) if may_be_public => Access::Public,
        (None, None, None) => Access::AnyToken,
        (tokens, users, roles) => Access::Only { tokens, users, roles },
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
        (fields, "users", Rule::Users),
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

/// `tools` of the server, and what of it is certain: `None` if that cannot be known.
pub(super) fn tool_rules(
    cx: &mut Context<'_>,
    name: &Arc<str>,
    fields: &Fields<'_>,
    auth: &Auth,
) -> (Option<Arc<ToolRules>>, Option<Arc<ToolRules>>) {
    let none = (!fields.has_unknown()).then(Arc::default);
    let Some(node) = fields.get("tools") else { return (None, none) };
    let Some(entries) = node.map_as(cx, "an object, as in { \"delete_*\": { \"roles\": [\"admin\"] } }")
    else {
        return (None, None);
    };
    if fields.get("public").is_some_and(|public| public.value.as_boolean_lit().is_some_and(|lit| lit.value)) {
        cx.error(
            &node.at,
            "cannot stand beside `public: true`, which knows no caller; keep one of them, or hide tools from everybody by \
             `toolFilter`",
        );
    }
    let mut rules = Vec::new();
    for (pattern, key, node) in entries.entries() {
        if pattern.is_empty() || pattern.len() > MAX_TEXT {
            cx.error(
                &key,
                format!("is no name of a tool; write 1 to {MAX_TEXT} bytes, in which * is any text"),
            );
        }
        let Some(of_tool) = node.object(cx, &TOOL_RULE) else { continue };
        let roles = of_tool.get("roles").and_then(|_| words(cx, &of_tool, "roles"));
        let users = of_tool.get("users").and_then(|node| names(cx, &node, &auth.users.names, &USERS_LIST));
        let scopes = of_tool.get("scopes").map(|_| tool_scopes(cx, &of_tool));
        if of_tool.lacks(&["roles", "users", "scopes"]) {
            cx.warning(
                &key,
                "asks for nothing, so it keeps the tool from nobody; give it `roles`, `users` or `scopes`",
            );
        }
        for (name, is_empty) in [
            ("roles", roles.as_ref().is_some_and(Vec::is_empty)),
            ("users", users.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if is_empty {
                cx.warning(&of_tool.key(name), "keeps the tool from everybody; name some");
            }
        }
        let hide = of_tool.bool(cx, "hide").unwrap_or(true);
        cx.rules.push((RuleOf::Server(Arc::clone(name)), Rule::ToolRule(rules.len()), key));
        rules.push(ToolRule { pattern: ToolPattern::new(pattern), roles, users, scopes, hide });
    }
    let rules = Arc::new(ToolRules::new(rules));
    (Some(Arc::clone(&rules)).filter(|_| !entries.entries().is_empty()), Some(rules))
}

/// `scopes` of a tool: words of the user's own, all of which a client must have been allowed.
fn tool_scopes(cx: &mut Context<'_>, fields: &Fields<'_>) -> Vec<String> {
    let is_own = |word: &str| !matches!(ScopeWord::of(word), ScopeWord::Other(_));
    let words = fields.texts(cx, "scopes").unwrap_or_default();
    let mut scopes = Vec::new();
    for text in words {
        if !is_scope(&text.value) {
            cx.error(&text.at, NO_SCOPE);
        } else if is_own(&text.value) {
            cx.error(
                &text.at,
                "has a meaning of its own, for servers as a whole; write another word, as in \"files:write\"",
            );
        } else {
            scopes.push(text.value);
        }
    }
    scopes
}

/// With more names than this, none is looked for that one is a slip of: it would take long.
const MANY_NAMES: usize = 500;

/// A list of names, as its messages have it.
struct NameList {
    /// What it is of.
    of: &'static str,
    /// Where the names are.
    place: &'static str,
    example: &'static str,
    /// What to say where there is none, and where there are others.
    ways_out: [&'static str; 2],
}

const TOKENS_LIST: NameList = NameList {
    of: "tokens",
    place: "proxy.auth.tokens",
    example: "dev",
    ways_out: ["a token's name stands here, its value there", "A token's value stands there, not here"],
};
const USERS_LIST: NameList = NameList {
    of: "users",
    place: "proxy.auth.users",
    example: "alice",
    ways_out: [
        "a user's name stands here, its `passwordHash` there",
        "A user's `passwordHash` stands there, not here",
    ],
};

/// Those that are names of this kind; `None` if this is no list.
fn names(
    cx: &mut Context<'_>,
    node: &Node<'_>,
    known: &KnownNames,
    list: &NameList,
) -> Option<Vec<Arc<str>>> {
    let mut names = Vec::new();
    if node.literal().is_some() {
        let mut names = known.all.iter().flatten();
        let example = names.find_map(|name| shown::name(name)).unwrap_or(list.example);
        return cx.refuse(&node.at, format!("must be a list of names of {}, as in [{example:?}]", list.of));
    }
    for text in node.strings(cx)? {
        let Some(all) = &known.all else { continue };
        match known.get(&text.value) {
            Some(name) => names.push(name.clone()),
            None => {
                let near = match cx.is_full() || all.len() > MANY_NAMES {
                    true => None,
                    false => hint::closest(&text.value, all.iter().filter_map(|name| shown::name(name))),
                };
                // Not shown: people take it for the place of the token itself.
                let message = match near {
                    Some(near) => format!("is no name in {}; did you mean {near:?}?", list.place),
                    None => no_name(all, list),
                };
                cx.error(&text.at, message);
            }
        }
    }
    Some(names)
}

/// What to say of a name that is not known. It is not proposed to add it: it may be a token.
fn no_name(known: &[Arc<str>], list: &NameList) -> String {
    // What may be a token in the place of a name is not shown.
    let known: Vec<_> = known.iter().filter(|name| !name.starts_with("sg_")).collect();
    let NameList { place, ways_out: [of_none, of_others], .. } = list;
    match known.is_empty() {
        true => format!("is no name in {place}, which has none; {of_none}"),
        false => format!("is no name in {place}; name one of {}. {of_others}", shown::first_names(&known)),
    }
}

/// Warns of servers that no caller can use, which is safe and seldom meant; and of those that every caller can use, although it
/// looks as if one were for them. Says what the tags of callers leave them.
pub(crate) fn warn_of_access(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    of_auth: &Location,
    servers: &[Server],
    auth: &Auth,
) {
    let has_issuers = !auth.issuers.known.is_empty() || auth.idp.has_people();
    let has_callers = auth.credentials.iter().any(|held| !held.decoy)
        || !auth.users.known.is_empty()
        || has_issuers
        || auth.oauth.callers().next().is_some();
    if !has_callers && servers.iter().any(|server| server.access != Access::Public) {
        cx.warning(
            of_auth,
            match auth.credentials.is_empty() {
                true => "there is no token, so nobody can use a server; `sluicegate token new` makes one for `proxy.auth.tokens`",
                false => "every token is a decoy, so nobody can use a server; `sluicegate token new` makes one that is none",
            },
        );
        return;
    }
    let tokens =
        auth.credentials.iter().filter(|held| !held.decoy && held.expires.is_none_or(|end| end > cx.now));
    let tokens = tokens.map(|held| RuleSubject {
        name: if held.is_tenant { RuleName::Unlisted } else { RuleName::Token(&held.token_name) },
        roles: &held.roles,
        limits: &held.limits,
        scopes: None,
    });
    let users = auth.users.known.iter().filter(|user| !user.disabled).map(|user| RuleSubject {
        name: RuleName::User(&user.name),
        roles: &user.roles,
        limits: &user.limits,
        scopes: None,
    });
    let clients = auth.oauth.callers().map(|client| RuleSubject {
        name: RuleName::Unlisted,
        roles: &client.roles,
        limits: &client.limits,
        scopes: None,
    });
    // What a token of others says is not known: it may meet every condition, or only those that leave it all servers.
    let roles_of_others = auth.issuers.roles();
    let others = has_issuers.then_some(RuleSubject {
        name: RuleName::Unlisted,
        roles: &roles_of_others,
        limits: &CallerLimits::ALL,
        scopes: None,
    });
    let callers: Vec<_> = tokens.chain(users).chain(clients).chain(others).collect();
    for server in servers {
        // A config of MCP Front's may have its tokens by server.
        if server.access == Access::AnyToken
            && auth.credentials.len() > 1
            && auth.token_names.get(&server.name).is_some()
        {
            let name = shown::name_or_hidden(&server.name);
            let message = format!(
                "any token may use this server, though one has its name; write \"authTokens\": [\"{name}\"] if no other is to"
            );
            cx.warning(&fields.key(name), message);
        }
        let mut admitted = callers.iter().map(|caller| server.admits(*caller, auth.admin_sees_all));
        let is_open = server.access == Access::Public || admitted.any(|admitted| admitted.is_ok());
        if !is_open {
            cx.warning(
                &fields.key(&server.name),
                "nobody can use this server, because no valid token or user meets its `authTokens`, `users` and `roles`, and is \
                 not limited to others by `servers` or `tags`; name one that does",
            );
        }
    }
    for (at, tags) in &auth.tag_limits {
        let has_one = |server: &&Server| tags.iter().any(|tag| server.tags.contains(tag));
        let left: Vec<_> =
            servers.iter().filter(has_one).filter_map(|server| shown::name(&server.name)).collect();
        match left.is_empty() {
            true => cx.warning(
                at,
                "no server has one of these tags, so they leave none to this caller but public ones",
            ),
            false => cx.notice(
                at,
                format!(
                    "limit this caller to the servers with one of them, and public ones: {}",
                    shown::first_names(&left)
                ),
            ),
        }
    }
}
