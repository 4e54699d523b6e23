use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::config::Server;

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|&name| name.into()).collect()
}

fn only(tokens: Option<&[&str]>, users: Option<&[&str]>, roles: Option<&[&str]>) -> Access {
    Access::Only { tokens: tokens.map(names), users: users.map(names), roles: roles.map(list) }
}

const DEV: RuleName<'_> = RuleName::Token("dev");
const ALICE: RuleName<'_> = RuleName::User("alice");

#[test]
fn a_rule_that_names_tokens_admits_those_and_an_empty_one_nobody() {
    let admin = list(&["admin"]);
    assert_eq!(Access::Public.admits(DEV, &[]), Ok(Rule::Public));
    assert_eq!(Access::AnyToken.admits(DEV, &[]), Ok(Rule::AnyToken));
    assert_eq!(only(Some(&["ci", "dev"]), None, None).admits(DEV, &[]), Ok(Rule::AuthTokens));
    assert_eq!(only(Some(&["ci"]), None, None).admits(DEV, &admin), Err(Rule::AuthTokens));
    assert_eq!(only(Some(&[]), None, None).admits(DEV, &[]), Err(Rule::AuthTokens));
    assert_eq!(only(None, None, Some(&[])).admits(DEV, &admin), Err(Rule::ServerRoles));
}

#[test]
fn names_and_roles_must_both_hold_where_both_are_given() {
    let admin = list(&["admin"]);
    assert_eq!(only(None, None, Some(&["deploy", "admin"])).admits(DEV, &admin), Ok(Rule::ServerRoles));
    assert_eq!(only(None, None, Some(&["deploy"])).admits(DEV, &admin), Err(Rule::ServerRoles));
    assert_eq!(only(Some(&["dev"]), None, Some(&["deploy"])).admits(DEV, &[]), Err(Rule::ServerRoles));
    assert_eq!(only(Some(&["ci"]), None, Some(&["admin"])).admits(DEV, &admin), Err(Rule::AuthTokens));
    assert_eq!(only(Some(&["dev"]), None, Some(&["admin"])).admits(DEV, &admin), Ok(Rule::ServerRoles));
    assert_eq!(only(Some(&["dev"]), None, Some(&[])).admits(DEV, &admin), Err(Rule::ServerRoles));
}

#[test]
fn a_list_of_names_admits_nobody_of_another_kind() {
    let both = only(Some(&["dev"]), Some(&["alice"]), None);
    assert_eq!((both.admits(DEV, &[]), both.admits(ALICE, &[])), (Ok(Rule::AuthTokens), Ok(Rule::Users)));
    assert_eq!(both.admits(RuleName::Token("alice"), &[]), Err(Rule::AuthTokens));
    assert_eq!(both.admits(RuleName::User("dev"), &[]), Err(Rule::Users));
    assert!(both.admits(RuleName::Unlisted, &[]).is_err());
    // Of one list alone, that line decides about everybody.
    let tokens = only(Some(&["dev", "alice"]), None, None);
    assert_eq!(tokens.admits(ALICE, &list(&["admin"])), Err(Rule::AuthTokens));
    let users = only(None, Some(&["alice", "dev"]), None);
    assert_eq!((users.admits(ALICE, &[]), users.admits(DEV, &[])), (Ok(Rule::Users), Err(Rule::Users)));
    assert_eq!(users.admits(RuleName::Unlisted, &[]), Err(Rule::Users));
    let roles = only(None, None, Some(&["x"]));
    for name in [DEV, ALICE, RuleName::Unlisted] {
        assert_eq!(roles.admits(name, &list(&["x"])), Ok(Rule::ServerRoles));
        assert_eq!(Access::AnyToken.admits(name, &[]), Ok(Rule::AnyToken));
    }
}

fn server(access: Access, tags: &[&str]) -> Server {
    Server { name: "db".into(), access, tags: list(tags), ..Server::all(Duration::ZERO) }
}

fn limits(servers: Option<&[&str]>, tags: Option<&[&str]>) -> CallerLimits {
    CallerLimits { servers: servers.map(names), tags: tags.map(list) }
}

#[test]
fn the_limits_of_a_caller_hold_beside_the_rule_of_the_server() {
    let open = server(Access::AnyToken, &["sql", "prod"]);
    let admits = |server: &Server, limits: &CallerLimits| {
        server.admits(RuleSubject { name: DEV, roles: &[], limits, scopes: None }, false)
    };
    for (limits, wanted) in [
        (CallerLimits::ALL, Ok(Rule::AnyToken)),
        (limits(Some(&["files", "db"]), None), Ok(Rule::OwnServers)),
        (limits(Some(&["files"]), None), Err(Rule::OwnServers)),
        (limits(Some(&[]), None), Err(Rule::OwnServers)),
        (limits(None, Some(&["web", "prod"])), Ok(Rule::OwnTags)),
        (limits(None, Some(&["web"])), Err(Rule::OwnTags)),
        (limits(None, Some(&[])), Err(Rule::OwnTags)),
        (limits(Some(&["db"]), Some(&["sql"])), Ok(Rule::OwnTags)),
        (limits(Some(&["db"]), Some(&["web"])), Err(Rule::OwnTags)),
        (limits(Some(&["files"]), Some(&["sql"])), Err(Rule::OwnServers)),
    ] {
        assert_eq!(admits(&open, &limits), wanted, "{limits:?}");
        // They open nothing, and close nothing that is public.
        let closed = server(only(Some(&["ci"]), None, None), &["sql", "prod"]);
        assert_eq!(admits(&closed, &limits), Err(Rule::AuthTokens), "{limits:?}");
        assert_eq!(admits(&server(Access::Public, &[]), &limits), Ok(Rule::Public));
    }
    assert_eq!(admits(&server(Access::AnyToken, &[]), &limits(None, Some(&["sql"]))), Err(Rule::OwnTags));
}

#[test]
fn the_role_admin_passes_the_rules_of_servers_with_the_key_for_it_and_never_its_own_limits() {
    let closed = server(only(Some(&["ci"]), None, Some(&["deploy"])), &[]);
    let admits = |roles: &[&str], limits: &CallerLimits, admin_sees_all| {
        closed.admits(RuleSubject { name: DEV, roles: &list(roles), limits, scopes: None }, admin_sees_all)
    };
    assert_eq!(admits(&["admin"], &CallerLimits::ALL, false), Err(Rule::AuthTokens));
    assert_eq!(admits(&["admin"], &CallerLimits::ALL, true), Ok(Rule::AdminSeesAll));
    assert_eq!(admits(&["Admin", "ops"], &CallerLimits::ALL, true), Err(Rule::AuthTokens));
    assert_eq!(admits(&["admin"], &limits(Some(&["files"]), None), true), Err(Rule::OwnServers));
    assert_eq!(admits(&["admin"], &limits(None, Some(&[])), true), Err(Rule::OwnTags));
    // What the rule opens anyway is opened by the rule.
    let open = server(Access::AnyToken, &[]);
    let admin = RuleSubject { name: DEV, roles: &list(&["admin"]), limits: &CallerLimits::ALL, scopes: None };
    assert_eq!(open.admits(admin, true), Ok(Rule::AnyToken));
}

#[test]
fn a_rule_only_ever_gets_narrower() {
    let (ab, b) = (only(Some(&["a", "b"]), None, None), only(Some(&["b", "c"]), None, Some(&["x"])));
    for (one, other, both_of_them) in [
        (&Access::Public, &Access::AnyToken, &Access::AnyToken),
        (&Access::Public, &ab, &ab),
        (&Access::AnyToken, &ab, &ab),
        (&Access::Public, &Access::Public, &Access::Public),
        (&ab, &b, &only(Some(&["b"]), None, Some(&["x"]))),
        (&only(None, None, Some(&["x", "y"])), &b, &only(Some(&["b", "c"]), None, Some(&["x"]))),
        (&ab, &only(None, Some(&["u"]), None), &only(Some(&[]), Some(&[]), None)),
        (&only(Some(&["a"]), Some(&["u"]), None), &ab, &only(Some(&["a"]), Some(&[]), None)),
    ] {
        assert_eq!(&one.narrowed_by(other), both_of_them);
        assert_eq!(&other.narrowed_by(one), both_of_them);
    }
    let narrowed = limits(Some(&["a", "b"]), None).narrowed_by(&limits(Some(&["b"]), Some(&["t"])));
    assert_eq!(narrowed, limits(Some(&["b"]), Some(&["t"])));
    assert_eq!(CallerLimits::ALL.narrowed_by(&CallerLimits::ALL), CallerLimits::ALL);
}

fn any_rule() -> impl Strategy<Value = Access> {
    let names = || option::of(vec("[ab]", 0..3).prop_map(|all| all.into_iter().map(Into::into).collect()));
    let roles = option::of(vec("[ab]", 0..3));
    prop_oneof![
        Just(Access::Public),
        Just(Access::AnyToken),
        (names(), names(), roles).prop_map(|(tokens, users, roles)| {
            match (&tokens, &users, &roles) {
                (None, None, None) => Access::AnyToken,
                _ => Access::Only { tokens, users, roles },
            }
        }),
    ]
}

proptest! {
    #[test]
    fn what_two_rules_leave_both_of_them_admit(
        one in any_rule(), other in any_rule(), name in "[ab]", is_user in any::<bool>(), roles in vec("[ab]", 0..3),
    ) {
        let name = if is_user { RuleName::User(&name) } else { RuleName::Token(&name) };
        let admits = |rule: &Access| rule.admits(name, &roles).is_ok();
        let both = admits(&one) && admits(&other);
        let narrowed = admits(&one.narrowed_by(&other));
        prop_assert!(both || !narrowed);
        // With one list of roles at most, it is exactly both.
        let has_roles = |rule: &Access| matches!(rule, Access::Only { roles: Some(_), .. });
        prop_assert!(narrowed == both || has_roles(&one) && has_roles(&other));
    }
}
