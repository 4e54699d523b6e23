use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    config::{CallerLimits, ScopeTags, ToolFilter, ToolPattern, ToolRule, ToolRules},
    identity::{Allowed, Principal, Proof, audience::Audience, scope::Scope},
    policy::tools::ToolView,
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn server(name: &str, access: Access) -> Server {
    Server { name: name.into(), access, ..Server::all(Duration::ZERO) }
}

fn only(tokens: Option<&[&str]>, roles: Option<&[&str]>) -> Access {
    Access::Only {
        tokens: tokens.map(|names| names.iter().map(|&name| name.into()).collect()),
        users: None,
        roles: roles.map(|roles| roles.iter().map(ToString::to_string).collect()),
    }
}

fn token(name: &str, roles: &[&str]) -> Identity {
    Identity {
        principal: Principal::Token(name.into()),
        proof: Proof::StaticToken([0; 32]),
        roles: roles.iter().map(ToString::to_string).collect(),
        ..Identity::NOBODY
    }
}

fn user(name: &str, roles: &[&str]) -> Identity {
    Identity { principal: Principal::User(name.into()), proof: Proof::Nothing, ..token("", roles) }
}

fn ask(server: &Server, now: Option<SystemTime>, identity: &Identity, ask: Ask<'_>) -> Decision {
    decide(&Policy { servers: server, now, admin_sees_all: false }, identity, &ask)
}

fn allow(rule: Rule) -> Decision {
    Decision::Allow { rule }
}

fn deny(kind: DenyKind, rule: Rule) -> Decision {
    Decision::Deny { kind, scope_needed: None, rule }
}

#[test]
fn a_decoy_has_nothing_whatever_its_rule_says_but_what_asks_for_no_token() {
    let decoy = Identity { is_decoy: true, ..token("dev", &["admin"]) };
    let tool = Ask::Tool { server: "db", name: "x" };
    let asks = [
        Ask::Server("db"),
        Ask::Server("none"),
        tool,
        Ask::Aggregate,
        Ask::Manage(ManageAsk::Metrics),
        Ask::Manage(ManageAsk::Servers),
    ];
    for access in [Access::AnyToken, only(Some(&["dev"]), None)] {
        for asked in asks {
            let decided = ask(&server("db", access.clone()), None, &decoy, asked);
            assert_eq!(decided, deny(DenyKind::Forbidden, Rule::Decoy), "{asked:?}");
        }
    }
    assert!(ask(&server("db", Access::Public), None, &decoy, Ask::Server("db")).is_allow());
}

#[test]
fn a_public_server_asks_for_nothing() {
    let docs = server("docs", Access::Public);
    let expired = Identity { not_after: Some(NOW), ..token("dev", &[]) };
    for identity in [&Identity::NOBODY, &token("dev", &[]), &expired] {
        assert_eq!(ask(&docs, Some(NOW), identity, Ask::Server("docs")), allow(Rule::Public));
    }
}

#[test]
fn without_a_token_nobody_learns_what_exists() {
    let db = server("db", Access::AnyToken);
    let asks = [
        Ask::Server("db"),
        Ask::Server("none"),
        Ask::Tool { server: "db", name: "t" },
        Ask::Tool { server: "none", name: "t" },
        Ask::Aggregate,
        Ask::Manage(ManageAsk::Metrics),
        Ask::Manage(ManageAsk::Servers),
    ];
    let expired = Identity { not_after: Some(NOW), ..token("dev", &["admin"]) };
    for what in asks {
        let nobody = ask(&db, Some(NOW), &Identity::NOBODY, what);
        assert_eq!(nobody, deny(DenyKind::Unauthenticated, Rule::NoCredential), "{what:?}");
        let late = ask(&db, Some(NOW), &expired, what);
        assert_eq!(late, deny(DenyKind::InvalidToken, Rule::Expires), "{what:?}");
    }
}

#[test]
fn a_token_is_valid_up_to_the_moment_at_which_it_expires() {
    let db = server("db", Access::AnyToken);
    let until = |end| Identity { not_after: Some(end), ..token("dev", &[]) };
    let later = NOW + Duration::from_nanos(1);
    assert!(ask(&db, Some(NOW), &until(later), Ask::Server("db")).is_allow());
    assert!(!ask(&db, Some(later), &until(later), Ask::Server("db")).is_allow());
    // An answer that is kept does not depend on the time.
    assert_eq!(ask(&db, None, &until(NOW), Ask::Server("db")), allow(Rule::AnyToken));
}

#[test]
fn the_rule_of_the_server_decides_and_is_named() {
    let cases = [
        (only(Some(&["dev"]), None), allow(Rule::AuthTokens)),
        (only(Some(&["ci"]), None), deny(DenyKind::Forbidden, Rule::AuthTokens)),
        (only(None, Some(&["ops"])), allow(Rule::ServerRoles)),
        (only(None, Some(&["deploy"])), deny(DenyKind::Forbidden, Rule::ServerRoles)),
        (only(Some(&["dev"]), Some(&["ops"])), allow(Rule::ServerRoles)),
        (only(Some(&["ci"]), Some(&["ops"])), deny(DenyKind::Forbidden, Rule::AuthTokens)),
        (Access::AnyToken, allow(Rule::AnyToken)),
    ];
    for (access, wanted) in cases {
        let db = server("db", access);
        assert_eq!(ask(&db, Some(NOW), &token("dev", &["ops"]), Ask::Server("db")), wanted, "{db:?}");
    }
    let db = server("db", Access::AnyToken);
    let missing = ask(&db, Some(NOW), &token("dev", &["admin"]), Ask::Server("other"));
    assert_eq!(missing, deny(DenyKind::NotFound, Rule::NoServer));
}

#[test]
fn the_role_admin_opens_no_server_by_itself() {
    let db = server("db", only(Some(&["dev"]), None));
    let admin = ask(&db, Some(NOW), &token("ops", &["admin"]), Ask::Server("db"));
    assert_eq!(admin, deny(DenyKind::Forbidden, Rule::AuthTokens));
}

#[test]
fn with_admin_sees_all_the_role_passes_rules_of_servers_and_nothing_else() {
    let db = server("db", only(Some(&["dev"]), None));
    let decided = |identity: &Identity, ask: Ask<'_>| {
        decide(&Policy { servers: &db, now: Some(NOW), admin_sees_all: true }, identity, &ask)
    };
    let admin = token("ops", &["admin"]);
    assert_eq!(decided(&admin, Ask::Server("db")), allow(Rule::AdminSeesAll));
    assert_eq!(decided(&user("root", &["admin"]), Ask::Server("db")), allow(Rule::AdminSeesAll));
    assert_eq!(
        decided(&token("ops", &["metrics"]), Ask::Server("db")),
        deny(DenyKind::Forbidden, Rule::AuthTokens)
    );
    assert_eq!(decided(&admin, Ask::Server("none")), deny(DenyKind::NotFound, Rule::NoServer));
    let limits = CallerLimits { servers: Some(vec!["files".into()]), tags: None };
    let limited = Identity { limits, ..admin.clone() };
    assert_eq!(decided(&limited, Ask::Server("db")), deny(DenyKind::Forbidden, Rule::OwnServers));
    // What the gateway says of itself is no server.
    assert_eq!(decided(&limited, Ask::Manage(ManageAsk::Servers)), allow(Rule::OwnRoles));
    let expired = Identity { not_after: Some(NOW), ..admin };
    assert_eq!(decided(&expired, Ask::Server("db")), deny(DenyKind::InvalidToken, Rule::Expires));
}

#[test]
fn a_user_is_a_caller_as_a_token_is_unless_it_is_disabled() {
    let of = |users: &[&str]| Access::Only {
        tokens: None,
        users: Some(users.iter().map(|&name| name.into()).collect()),
        roles: None,
    };
    let db = server("db", of(&["alice"]));
    assert_eq!(ask(&db, Some(NOW), &user("alice", &[]), Ask::Server("db")), allow(Rule::Users));
    let dev = ask(&db, Some(NOW), &token("alice", &[]), Ask::Server("db"));
    assert_eq!(dev, deny(DenyKind::Forbidden, Rule::Users));
    let admin = user("root", &["admin"]);
    assert_eq!(ask(&db, Some(NOW), &admin, Ask::Manage(ManageAsk::Servers)), allow(Rule::OwnRoles));
    let disabled = Identity { is_disabled: true, ..user("alice", &["admin"]) };
    for what in [Ask::Server("db"), Ask::Server("none"), Ask::Aggregate, Ask::Manage(ManageAsk::Metrics)] {
        for now in [None, Some(NOW)] {
            assert_eq!(ask(&db, now, &disabled, what), deny(DenyKind::InvalidToken, Rule::Disabled));
        }
    }
}

#[test]
fn a_hidden_tool_does_not_exist_for_whoever_may_use_the_server() {
    let filter = |allows| {
        let list = ["read".into()].into();
        Some(std::sync::Arc::new(ToolFilter { allows, list }))
    };
    let db = |access, allows| Server { tool_filter: filter(allows), ..server("db", access) };
    let tool = |name| Ask::Tool { server: "db", name };
    let dev = token("dev", &[]);
    let (allowing, blocking) = (db(Access::AnyToken, true), db(Access::AnyToken, false));
    assert_eq!(ask(&allowing, Some(NOW), &dev, tool("read")), allow(Rule::ToolFilter));
    assert_eq!(ask(&allowing, Some(NOW), &dev, tool("drop")), deny(DenyKind::Hidden, Rule::ToolFilter));
    assert_eq!(ask(&blocking, Some(NOW), &dev, tool("read")), deny(DenyKind::Hidden, Rule::ToolFilter));
    assert_eq!(ask(&blocking, Some(NOW), &dev, tool("drop")), allow(Rule::ToolFilter));
    // The server as such has no filter, and a server without one hides nothing.
    assert_eq!(ask(&allowing, Some(NOW), &dev, Ask::Server("db")), allow(Rule::AnyToken));
    let plain = server("db", Access::AnyToken);
    assert_eq!(ask(&plain, Some(NOW), &dev, tool("drop")), allow(Rule::AnyToken));
    // A public server's filter holds for everybody, and nobody learns of tools of a server that is closed to them.
    let public = db(Access::Public, true);
    assert_eq!(
        ask(&public, Some(NOW), &Identity::NOBODY, tool("drop")),
        deny(DenyKind::Hidden, Rule::ToolFilter)
    );
    let closed = db(only(Some(&["ci"]), None), true);
    assert_eq!(ask(&closed, Some(NOW), &dev, tool("read")), deny(DenyKind::Forbidden, Rule::AuthTokens));
}

#[test]
fn a_rule_keeps_a_tool_from_those_who_do_not_meet_it_and_the_filter_comes_first() {
    let rule = |pattern: &str, hide| ToolRule {
        pattern: ToolPattern::new(pattern),
        roles: Some(vec!["ops".into()]),
        users: None,
        scopes: None,
        hide,
    };
    let filter = ToolFilter { allows: false, list: ["drop_all".into()].into() };
    let db = Server {
        tool_filter: Some(std::sync::Arc::new(filter)),
        tool_rules: Some(std::sync::Arc::new(ToolRules::new(vec![
            rule("drop_*", true),
            rule("say_*", false),
        ]))),
        ..server("db", Access::AnyToken)
    };
    let tool = |name| Ask::Tool { server: "db", name };
    let (dev, ops, admin) = (token("dev", &[]), token("ops", &["ops"]), token("root", &["admin"]));
    let decided = |identity: &Identity, name| ask(&db, Some(NOW), identity, tool(name));
    assert_eq!(decided(&dev, "read"), allow(Rule::ToolFilter));
    assert_eq!(decided(&dev, "drop_one"), deny(DenyKind::Hidden, Rule::ToolRule(0)));
    assert_eq!(decided(&dev, "say_so"), deny(DenyKind::ToolForbidden, Rule::ToolRule(1)));
    assert_eq!(decided(&ops, "drop_one"), allow(Rule::ToolRule(0)));
    assert_eq!(decided(&ops, "drop_all"), deny(DenyKind::Hidden, Rule::ToolFilter));
    assert_eq!(decided(&admin, "say_so"), deny(DenyKind::ToolForbidden, Rule::ToolRule(1)));
    let of_all =
        |name| decide(&Policy { servers: &db, now: None, admin_sees_all: true }, &admin, &tool(name));
    assert_eq!(of_all("say_so"), allow(Rule::AdminSeesAll));
    assert_eq!(of_all("read"), allow(Rule::ToolFilter));
    assert_eq!(of_all("drop_all"), deny(DenyKind::Hidden, Rule::ToolFilter));
    // What lists and calls ask says the same.
    for identity in [dev, ops, admin] {
        for admin_sees_all in [false, true] {
            let identity = std::sync::Arc::new(identity.clone());
            let view = ToolView::of(&db, &identity, admin_sees_all).unwrap();
            let policy = Policy { servers: &db, now: None, admin_sees_all };
            for name in ["read", "drop_one", "drop_all", "say_so"] {
                let decided = decide(&policy, &identity, &tool(name));
                assert_eq!(view.may_call(name), decided.is_allow(), "{name} {identity:?}");
                let is_hidden = matches!(decided, Decision::Deny { kind: DenyKind::Hidden, .. });
                assert_eq!(view.lists(name), !is_hidden, "{name} {identity:?}");
            }
        }
    }
}

#[test]
fn any_token_opens_the_aggregate_and_a_role_what_the_gateway_says_of_itself() {
    let db = server("db", only(Some(&[]), None));
    assert_eq!(ask(&db, Some(NOW), &token("dev", &[]), Ask::Aggregate), allow(Rule::AnyToken));
    assert_eq!(Ask::server("mcp"), Ask::Aggregate);
    assert_eq!(Ask::server("db"), Ask::Server("db"));
    for (role, metrics, servers) in
        [("admin", true, true), ("metrics", true, false), ("deploy", false, false), ("Admin", false, false)]
    {
        for (what, may) in [(ManageAsk::Metrics, metrics), (ManageAsk::Servers, servers)] {
            let decided = ask(&db, Some(NOW), &token("dev", &["other", role]), Ask::Manage(what));
            let wanted = if may { allow(Rule::OwnRoles) } else { deny(DenyKind::Forbidden, Rule::OwnRoles) };
            assert_eq!(decided, wanted, "{role} {what:?}");
        }
    }
}

#[test]
fn a_no_is_an_error_and_a_yes_is_none() {
    let kinds = [
        (DenyKind::Unauthenticated, ErrorKind::Unauthorized),
        (DenyKind::InvalidToken, ErrorKind::InvalidToken),
        (DenyKind::Forbidden, ErrorKind::InsufficientScope),
        (DenyKind::NotFound, ErrorKind::NotFound),
        (DenyKind::Hidden, ErrorKind::ToolNotAllowed),
        (DenyKind::ToolForbidden, ErrorKind::ToolForbidden),
        (DenyKind::OutOfScope, ErrorKind::InsufficientScope),
    ];
    for (kind, error) in kinds {
        let no = deny(kind, Rule::NoServer);
        assert_eq!((no.is_allow(), no.rule()), (false, Rule::NoServer));
        assert_eq!(no.into_result().map_err(|error| error.kind), Err(error));
    }
    let yes = allow(Rule::Public);
    assert_eq!((yes.is_allow(), yes.rule()), (true, Rule::Public));
    assert!(yes.into_result().is_ok());
}

#[test]
fn the_servers_of_a_config_are_found_by_name() {
    let db = server("db", Access::AnyToken);
    assert_eq!(db.server("db"), Some(&db));
    assert_eq!(db.server("d"), None);
}

/// The rules once more, written down as the documents have them.
fn may_use(server: &Server, identity: &Identity, admin_sees_all: bool) -> bool {
    let open = match &server.access {
        Access::Public => return true,
        Access::AnyToken => true,
        Access::Only { tokens, users, roles } => {
            let listed = match &identity.principal {
                Principal::Token(name) => tokens.iter().flatten().any(|listed| listed == name),
                Principal::User(name) => users.iter().flatten().any(|listed| listed == name),
                Principal::Tenant(_) | Principal::Client(_) | Principal::Foreign(_) | Principal::Idp(_) => {
                    false
                }
                Principal::Nobody => return false,
            };
            let has_one = |roles: &Vec<String>| roles.iter().any(|role| identity.roles.contains(role));
            (listed || tokens.is_none() && users.is_none()) && roles.as_ref().is_none_or(has_one)
        }
    };
    let CallerLimits { servers, tags } = &identity.limits;
    (open || admin_sees_all && identity.roles.contains(&"admin".to_owned()))
        && servers.as_ref().is_none_or(|servers| servers.contains(&server.name))
        && tags.as_ref().is_none_or(|tags| tags.iter().any(|tag| server.tags.contains(tag)))
}

proptest! {
    #[test]
    fn a_valid_caller_may_use_what_the_rules_and_its_limits_leave_it(
        tokens in option::of(vec("[ab]", 0..3)), users in option::of(vec("[ab]", 0..3)),
        wanted in option::of(vec("[xyz]", 0..3)), tags in vec("[tu]", 0..3), admin_sees_all in any::<bool>(),
        name in "[ab]", kind in 0..3, roles in vec("[xyz]|admin", 0..3),
        own_servers in option::of(vec("db|files", 0..2)), own_tags in option::of(vec("[tu]", 0..2)),
    ) {
        let names = |all: Vec<String>| all.into_iter().map(Into::into).collect();
        let access = match (tokens.map(names), users.map(names), wanted) {
            (None, None, None) => Access::AnyToken,
            (tokens, users, roles) => Access::Only { tokens, users, roles },
        };
        let db = Server { tags, ..server("db", access) };
        let limits = CallerLimits { servers: own_servers.map(names), tags: own_tags };
        let roles: Vec<_> = roles.iter().map(String::as_str).collect();
        let caller = match kind {
            0 => user(&name, &roles),
            1 => Identity { principal: Principal::Tenant(name.into()), ..token("", &roles) },
            _ => token(&name, &roles),
        };
        let caller = Identity { limits, ..caller };
        let policy = Policy { servers: &db, now: Some(NOW), admin_sees_all };
        let decided = decide(&policy, &caller, &Ask::Server("db"));
        prop_assert_eq!(decided.is_allow(), may_use(&db, &caller, admin_sees_all));
    }
}

/// A client that acts for `identity`.
fn client(identity: &Identity, resource: &str, scope: &str, tags: ScopeTags) -> Identity {
    const BASE: &str = "https://gate.example";
    let allowed = Allowed {
        client_id: "sgc_x".into(),
        receiver: None,
        base: BASE.into(),
        audience: Audience::of(&format!("{BASE}{resource}"), BASE).unwrap(),
        scope: Scope::parse(scope, tags),
    };
    Identity { allowed: Some(allowed.into()), ..identity.clone() }
}

fn out_of_scope(rule: Rule, needed: &str) -> Decision {
    Decision::Deny { kind: DenyKind::OutOfScope, scope_needed: Some(needed.into()), rule }
}

#[test]
fn a_token_for_another_place_is_none_and_one_for_too_little_says_what_it_takes() {
    let db = Server { tags: vec!["web".into()], ..server("db", only(None, Some(&["ops"]))) };
    let (ops, dev) = (user("alice", &["ops"]), user("bob", &[]));
    let decided = |identity: &Identity, resource, scope, what| {
        ask(&db, Some(NOW), &client(identity, resource, scope, ScopeTags::All), what)
    };
    let (direct, member) = (Ask::Server("db"), Ask::Member("db"));
    let elsewhere = deny(DenyKind::InvalidToken, Rule::Audience);
    for (resource, what, wanted) in [
        ("", direct, allow(Rule::ServerRoles)),
        ("", member, allow(Rule::ServerRoles)),
        ("/db/mcp", direct, allow(Rule::ServerRoles)),
        ("/db/mcp", member, elsewhere.clone()),
        ("/db", Ask::Aggregate, elsewhere.clone()),
        ("/mcp", direct, elsewhere.clone()),
        ("/mcp", member, allow(Rule::ServerRoles)),
        ("/mcp", Ask::Aggregate, allow(Rule::AnyToken)),
        ("/files/mcp", direct, elsewhere.clone()),
        ("/files/mcp", Ask::Server("none"), elsewhere.clone()),
        ("/mcp", Ask::Manage(ManageAsk::Servers), elsewhere),
    ] {
        assert_eq!(decided(&ops, resource, "mcp", what), wanted, "{resource} {what:?}");
    }
    for (scope, wanted) in [
        ("mcp", allow(Rule::ServerRoles)),
        ("server:db", allow(Rule::ServerRoles)),
        ("tag:web", allow(Rule::ServerRoles)),
        ("tag:eu offline_access", out_of_scope(Rule::Scope, "tag:eu server:db")),
        ("", out_of_scope(Rule::Scope, "server:db")),
    ] {
        assert_eq!(decided(&ops, "", scope, direct), wanted, "{scope:?}");
        // The rules come first: no scope opens what they close.
        assert_eq!(
            decided(&dev, "", scope, direct),
            deny(DenyKind::Forbidden, Rule::ServerRoles),
            "{scope:?}"
        );
    }
    assert_eq!(
        decided(&ops, "", "files:write", Ask::Aggregate),
        out_of_scope(Rule::Scope, "files:write mcp")
    );
    let admin = user("root", &["admin"]);
    let manage = Ask::Manage(ManageAsk::Servers);
    assert_eq!(decided(&admin, "", "mcp", manage), allow(Rule::OwnRoles));
    assert_eq!(decided(&admin, "", "server:db", manage), out_of_scope(Rule::Scope, "server:db mcp"));
    // What asks for no credential asks for no scope.
    let docs = server("docs", Access::Public);
    let stranger = client(&dev, "/db/mcp", "", ScopeTags::All);
    assert_eq!(ask(&docs, Some(NOW), &stranger, Ask::Server("docs")), allow(Rule::Public));
}

#[test]
fn a_tool_may_ask_for_scopes_which_only_clients_lack() {
    let rule = |pattern: &str, roles: Option<&str>, scopes: &[&str], hide| ToolRule {
        pattern: ToolPattern::new(pattern),
        roles: roles.map(|role| vec![role.to_owned()]),
        users: None,
        scopes: Some(scopes.iter().map(ToString::to_string).collect()),
        hide,
    };
    let rules = ToolRules::new(vec![
        rule("write_*", None, &["files:write"], true),
        rule("*_all", Some("ops"), &["files:all", "files:write"], true),
    ]);
    let db = Server { tool_rules: Some(std::sync::Arc::new(rules)), ..server("db", Access::AnyToken) };
    let tool = |name| Ask::Tool { server: "db", name };
    let (dev, ops, admin) = (user("d", &[]), user("o", &["ops"]), user("r", &["admin"]));
    let of = |identity: &Identity, scope| client(identity, "", scope, ScopeTags::All);
    for (identity, name, wanted) in [
        (dev.clone(), "write_one", allow(Rule::ToolRule(0))),
        (of(&dev, "mcp"), "read", allow(Rule::AnyToken)),
        (of(&dev, "mcp"), "write_one", out_of_scope(Rule::ToolRule(0), "mcp files:write")),
        (of(&dev, "mcp files:write"), "write_one", allow(Rule::ToolRule(0))),
        // Whoever may not have it by the roles does not learn of it.
        (of(&dev, "mcp files:write"), "write_all", deny(DenyKind::Hidden, Rule::ToolRule(1))),
        (of(&dev, "mcp"), "write_all", deny(DenyKind::Hidden, Rule::ToolRule(1))),
        (of(&ops, "mcp"), "write_all", out_of_scope(Rule::ToolRule(0), "mcp files:write files:all")),
        (
            of(&ops, "mcp files:write"),
            "write_all",
            out_of_scope(Rule::ToolRule(1), "mcp files:write files:all"),
        ),
        (of(&ops, "mcp files:write files:all"), "write_all", allow(Rule::ToolRule(1))),
    ] {
        let decided = ask(&db, None, &identity, tool(name));
        assert_eq!(decided, wanted, "{name} {identity:?}");
    }
    // What lists and calls ask says the same, of an admin of all too: what a client was not allowed is not the role's to give.
    for identity in [
        of(&dev, "mcp"),
        of(&ops, "mcp files:write"),
        of(&admin, "mcp"),
        of(&admin, "mcp files:write files:all"),
        dev,
    ] {
        for admin_sees_all in [false, true] {
            let identity = std::sync::Arc::new(identity.clone());
            let view = ToolView::of(&db, &identity, admin_sees_all);
            let policy = Policy { servers: &db, now: None, admin_sees_all };
            for name in ["read", "write_one", "write_all", "x_all"] {
                let decided = decide(&policy, &identity, &tool(name));
                let may = view.as_ref().is_none_or(|view| view.may_call(name));
                assert_eq!(may, decided.is_allow(), "{name} {admin_sees_all} {identity:?}");
                let is_hidden = matches!(decided, Decision::Deny { kind: DenyKind::Hidden, .. });
                let lists = view.as_ref().is_none_or(|view| view.lists(name));
                assert_eq!(lists, !is_hidden, "{name} {admin_sees_all} {identity:?}");
            }
        }
    }
}
