use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    config::{Credential, ToolFilter},
    identity::Proof,
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn server(name: &str, access: Access) -> Server {
    Server { name: name.into(), access, ..Server::all(Duration::ZERO) }
}

fn only(tokens: Option<&[&str]>, roles: Option<&[&str]>) -> Access {
    Access::Only {
        tokens: tokens.map(|names| names.iter().map(|&name| name.into()).collect()),
        roles: roles.map(|roles| roles.iter().map(ToString::to_string).collect()),
    }
}

fn token(name: &str, roles: &[&str]) -> Identity {
    Identity {
        principal: Principal::Token(name.into()),
        proof: Proof::StaticToken([0; 32]),
        roles: roles.iter().map(ToString::to_string).collect(),
        not_after: None,
        is_decoy: false,
    }
}

fn ask(server: &Server, now: Option<SystemTime>, identity: &Identity, ask: Ask<'_>) -> Decision {
    decide(&Policy { servers: server, now }, identity, &ask)
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
        assert_eq!(nobody, deny(DenyKind::Unauthenticated, Rule::NoToken), "{what:?}");
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
            let wanted =
                if may { allow(Rule::TokenRoles) } else { deny(DenyKind::Forbidden, Rule::TokenRoles) };
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
    ];
    for (kind, error) in kinds {
        let no = deny(kind, Rule::NoServer);
        assert_eq!((no.is_allow(), no.rule(), no.into_result()), (false, Rule::NoServer, Err(error)));
    }
    let yes = allow(Rule::Public);
    assert_eq!((yes.is_allow(), yes.rule(), yes.into_result()), (true, Rule::Public, Ok(())));
}

#[test]
fn the_servers_of_a_config_are_found_by_name() {
    let db = server("db", Access::AnyToken);
    assert_eq!(db.server("db"), Some(&db));
    assert_eq!(db.server("d"), None);
}

/// The rule as it was before there was a decision, written down once more and without its helpers.
fn may_use(access: &Access, credential: &Credential) -> bool {
    match access {
        Access::Public | Access::AnyToken => true,
        Access::Only { tokens, roles } => {
            let named = tokens.as_ref().is_none_or(|tokens| tokens.contains(&credential.token_name));
            let has_one = |roles: &Vec<String>| roles.iter().any(|role| credential.roles.contains(role));
            named && roles.as_ref().is_none_or(has_one)
        }
    }
}

proptest! {
    #[test]
    fn a_valid_token_may_use_what_names_it_and_one_of_its_roles(
        names in option::of(vec("[ab]", 0..3)), wanted in option::of(vec("[xyz]", 0..3)),
        name in "[ab]", roles in vec("[xyz]", 0..3),
    ) {
        let access = match (names, wanted) {
            (None, None) => Access::AnyToken,
            (names, roles) => {
                Access::Only { tokens: names.map(|all| all.into_iter().map(Into::into).collect()), roles }
            }
        };
        let credential =
            Credential { token_name: name.as_str().into(), id: None, digest: [0; 32], expires: None, roles, decoy: false };
        let db = server("db", access);
        let decided = ask(&db, Some(NOW), &Identity::of(&credential), Ask::Server("db"));
        prop_assert_eq!(decided.is_allow(), may_use(&db.access, &credential));
    }
}
