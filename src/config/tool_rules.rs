//! `tools` of a server: who may use which of its tools. This is the only reading of those rules.

use std::sync::Arc;

use memchr::memmem;

use crate::config::access::{RuleName, RuleSubject};

/// What a caller has to be for the tools of a name or pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRule {
    /// Which tools it is about.
    pub pattern: ToolPattern,
    /// `roles`: one of them; `None` asks for none. With an empty list, nobody may.
    pub roles: Option<Vec<String>>,
    /// `users`: to be one of them; `None` asks for none.
    pub users: Option<Vec<Arc<str>>>,
    /// `scopes`: a client must have all of them; `None` asks for none.
    pub scopes: Option<Vec<String>>,
    /// `hide`: whether the tool is as if it did not exist for whoever may not use it. Else it is listed, and a call of it says
    /// what it requires.
    pub hide: bool,
}

impl ToolRule {
    /// Whether a caller may use the tools of the rule.
    fn is_met_by(&self, caller: Option<RuleSubject<'_>>) -> bool {
        let roles = caller.map_or(&[][..], |caller| caller.roles);
        let user = match caller.map(|caller| caller.name) {
            Some(RuleName::User(name)) => Some(name),
            _ => None,
        };
        self.roles.as_ref().is_none_or(|wanted| wanted.iter().any(|role| roles.contains(role)))
            && self.users.as_ref().is_none_or(|users| users.iter().any(|listed| user == Some(&**listed)))
    }

    /// Whether a caller has the scopes that the rule asks for.
    fn is_in_scope(&self, caller: Option<RuleSubject<'_>>) -> bool {
        let held = caller.and_then(|caller| caller.scopes);
        let wanted = self.scopes.as_deref().unwrap_or_default();
        held.is_none_or(|held| wanted.iter().all(|scope| held.contains(scope)))
    }

    /// What it asks for, in words for whoever does not have it. Names of users are not for others.
    pub fn requirement(&self) -> String {
        let of_roles = self.roles.as_ref().map(|roles| match &**roles {
            [] => "a role that nobody has".to_owned(),
            [role] => format!("{role} role"),
            roles => format!("one of the roles {}", roles.join(", ")),
        });
        let of_users = self.users.as_ref().map(|_| "another user".to_owned());
        let of_scopes = self.scopes.as_ref().map(|scopes| match &**scopes {
            [scope] => format!("the scope {scope}"),
            scopes => format!("the scopes {}", scopes.join(" ")),
        });
        let all: Vec<_> = of_roles.into_iter().chain(of_users).chain(of_scopes).collect();
        format!("Requires {}", all.join(" and "))
    }
}

/// The rules for the tools of one server, in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolRules(Vec<ToolRule>);

/// What rules say of a caller and a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolAccess {
    /// No rule is about the tool.
    Unruled,
    /// All rules about it are met; the last of them.
    Met(usize),
    /// This rule is not met, and hides the tool.
    Hidden(usize),
    /// This rule is not met.
    Forbidden(usize),
    /// All rules about it are met, but for the scopes of this one.
    OutOfScope(usize),
}

impl ToolRules {
    /// Rules in this order.
    pub fn new(rules: Vec<ToolRule>) -> Self {
        Self(rules)
    }

    /// The rule at this place.
    pub fn get(&self, index: usize) -> Option<&ToolRule> {
        self.0.get(index)
    }

    /// Whether the caller may use the tool. Every rule that is about it must be met; of those that are not, one that hides it
    /// decides.
    pub fn access(&self, tool: &str, caller: Option<RuleSubject<'_>>) -> ToolAccess {
        let mut found = ToolAccess::Unruled;
        for (index, rule) in self.0.iter().enumerate() {
            if matches!(found, ToolAccess::Forbidden(_)) && !rule.hide || !rule.pattern.matches(tool) {
                continue;
            }
            match (rule.is_met_by(caller), found) {
                (true, ToolAccess::Forbidden(_) | ToolAccess::OutOfScope(_)) => {}
                (true, _) if !rule.is_in_scope(caller) => found = ToolAccess::OutOfScope(index),
                (true, _) => found = ToolAccess::Met(index),
                (false, _) if rule.hide => return ToolAccess::Hidden(index),
                (false, _) => found = ToolAccess::Forbidden(index),
            }
        }
        found
    }

    /// Whether every rule is met, whatever the tool.
    pub fn are_met_by(&self, caller: Option<RuleSubject<'_>>) -> bool {
        self.0.iter().all(|rule| rule.is_met_by(caller) && rule.is_in_scope(caller))
    }

    /// Whether the caller has the scopes of every rule, whatever the tool.
    pub fn are_in_scope_of(&self, caller: Option<RuleSubject<'_>>) -> bool {
        self.0.iter().all(|rule| rule.is_in_scope(caller))
    }

    /// All scopes that the rules about a tool ask for.
    pub fn scopes<'a>(&'a self, tool: &'a str) -> impl Iterator<Item = &'a str> {
        let about = self.0.iter().filter(move |rule| rule.pattern.matches(tool));
        about.flat_map(|rule| rule.scopes.iter().flatten()).map(String::as_str)
    }

    /// All scopes that rules ask for.
    pub fn all_scopes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|rule| rule.scopes.iter().flatten()).map(String::as_str)
    }

    /// Whether `caller` meets every rule that `other` meets.
    pub fn cover(&self, caller: Option<RuleSubject<'_>>, other: Option<RuleSubject<'_>>) -> bool {
        let has = |rule: &ToolRule, caller| rule.is_met_by(caller) && rule.is_in_scope(caller);
        self.0.iter().all(|rule| has(rule, caller) || !has(rule, other))
    }

    /// Whether `caller` has the scopes of every rule of which `other` has them.
    pub fn cover_scopes(&self, caller: Option<RuleSubject<'_>>, other: Option<RuleSubject<'_>>) -> bool {
        self.0.iter().all(|rule| rule.is_in_scope(caller) || !rule.is_in_scope(other))
    }

    /// The rules of both.
    pub fn joined(&self, other: &Self) -> Self {
        let more = other.0.iter().filter(|rule| !self.0.contains(rule));
        Self(self.0.iter().chain(more).cloned().collect())
    }
}

/// Names of tools: one, or all that fit a pattern in which `*` is any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolPattern(Vec<Box<str>>);

impl ToolPattern {
    /// The pattern that `text` is.
    pub fn new(text: &str) -> Self {
        Self(text.split('*').map(Box::from).collect())
    }

    /// Whether it is the name of this tool, or fits it.
    pub fn matches(&self, tool: &str) -> bool {
        let [first, middle @ .., last] = &*self.0 else {
            return self.0.first().is_some_and(|name| **name == *tool);
        };
        let Some(rest) = tool.strip_prefix(&**first) else { return false };
        let Some(mut rest) = rest.strip_suffix(&**last).map(str::as_bytes) else { return false };
        for part in middle {
            let Some(at) = memmem::find(rest, part.as_bytes()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::CallerLimits;

    fn rule(pattern: &str, roles: Option<&[&str]>, users: Option<&[&str]>, hide: bool) -> ToolRule {
        ToolRule {
            pattern: ToolPattern::new(pattern),
            roles: roles.map(|roles| roles.iter().map(ToString::to_string).collect()),
            users: users.map(|users| users.iter().map(|&user| user.into()).collect()),
            scopes: None,
            hide,
        }
    }

    fn access(rules: &ToolRules, tool: &str, name: RuleName<'_>, roles: &[&str]) -> ToolAccess {
        let roles: Vec<_> = roles.iter().map(ToString::to_string).collect();
        rules
            .access(tool, Some(RuleSubject { name, roles: &roles, limits: &CallerLimits::ALL, scopes: None }))
    }

    const DEV: RuleName<'_> = RuleName::Token("dev");
    const ALICE: RuleName<'_> = RuleName::User("alice");

    #[test]
    fn every_rule_about_a_tool_must_be_met_and_one_that_hides_it_decides() {
        let rules = ToolRules::new(vec![
            rule("delete_*", Some(&["admin", "ops"]), None, true),
            rule("*_all", Some(&["admin"]), None, false),
            rule("read", None, Some(&["alice"]), false),
            rule("read", Some(&["dev"]), None, false),
            rule("never", Some(&[]), None, true),
        ]);
        assert_eq!(access(&rules, "list", DEV, &[]), ToolAccess::Unruled);
        assert_eq!(access(&rules, "delete_one", DEV, &["ops"]), ToolAccess::Met(0));
        assert_eq!(access(&rules, "delete_one", DEV, &[]), ToolAccess::Hidden(0));
        assert_eq!(access(&rules, "delete_all", DEV, &["ops"]), ToolAccess::Forbidden(1));
        assert_eq!(access(&rules, "delete_all", DEV, &["admin"]), ToolAccess::Met(1));
        assert_eq!(access(&rules, "delete_all", DEV, &[]), ToolAccess::Hidden(0));
        assert_eq!(access(&rules, "read", ALICE, &["dev"]), ToolAccess::Met(3));
        assert_eq!(access(&rules, "read", ALICE, &[]), ToolAccess::Forbidden(3));
        assert_eq!(access(&rules, "read", DEV, &["dev"]), ToolAccess::Forbidden(2));
        assert_eq!(access(&rules, "never", ALICE, &["admin"]), ToolAccess::Hidden(4));
        assert_eq!(rules.access("list", None), ToolAccess::Unruled);
        assert_eq!(rules.access("delete_one", None), ToolAccess::Hidden(0));
        // What comes first does not matter where one hides it.
        let hidden_last =
            ToolRules::new(vec![rule("x", Some(&["a"]), None, false), rule("*", Some(&["b"]), None, true)]);
        assert_eq!(access(&hidden_last, "x", DEV, &[]), ToolAccess::Hidden(1));
        assert_eq!(access(&hidden_last, "x", DEV, &["b"]), ToolAccess::Forbidden(0));
    }

    #[test]
    fn a_caller_covers_another_if_it_meets_what_that_one_meets() {
        let rules =
            ToolRules::new(vec![rule("x", Some(&["a"]), None, true), rule("y", Some(&["b"]), None, true)]);
        let list = |roles: &[&str]| roles.iter().map(ToString::to_string).collect::<Vec<_>>();
        let covers = |one: &[&str], other: &[&str]| {
            let (one, other) = (list(one), list(other));
            let of = |roles| Some(RuleSubject { name: DEV, roles, limits: &CallerLimits::ALL, scopes: None });
            rules.cover(of(&one), of(&other))
        };
        assert!(covers(&["a", "b"], &["a"]) && covers(&["a"], &["a", "c"]) && covers(&[], &[]));
        assert!(!covers(&["a"], &["b"]) && !covers(&[], &["b"]) && !covers(&["a"], &["a", "b"]));
    }

    #[test]
    fn a_requirement_says_the_role_and_no_names() {
        assert_eq!(rule("x", Some(&["admin"]), None, false).requirement(), "Requires admin role");
        assert_eq!(rule("x", Some(&["a", "b"]), None, false).requirement(), "Requires one of the roles a, b");
        assert_eq!(rule("x", Some(&[]), None, false).requirement(), "Requires a role that nobody has");
        assert_eq!(rule("x", None, Some(&["alice"]), false).requirement(), "Requires another user");
        let scoped =
            ToolRule { scopes: Some(["files:write".to_owned()].into()), ..rule("x", None, None, false) };
        assert_eq!(scoped.requirement(), "Requires the scope files:write");
        let both = rule("x", Some(&["admin"]), Some(&["alice"]), false).requirement();
        assert_eq!(both, "Requires admin role and another user");
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, good, bad) in [
            ("read", &["read"][..], &["reads", "rea", "", "Read"][..]),
            ("delete_*", &["delete_", "delete_all"], &["delete", "xdelete_a"]),
            ("*_all", &["_all", "delete_all"], &["delete_all_"]),
            ("a*b*c", &["abc", "axbxc", "abbc", "abcc"], &["ac", "acb", "ab"]),
            ("*", &["", "x"], &[]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("**", &["", "x"], &[]),
            ("*x*", &["x", "axb"], &["", "ab"]),
        ] {
            let pattern = ToolPattern::new(pattern);
            assert!(good.iter().all(|tool| pattern.matches(tool)), "{pattern:?}");
            assert!(!bad.iter().any(|tool| pattern.matches(tool)), "{pattern:?}");
        }
    }

    /// A star as a regular expression has it.
    fn fits(pattern: &[u8], tool: &[u8]) -> bool {
        match pattern.split_first() {
            None => tool.is_empty(),
            Some((b'*', rest)) => (0..=tool.len()).any(|at| fits(rest, &tool[at..])),
            Some((byte, rest)) => tool.first() == Some(byte) && fits(rest, &tool[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_the_same_expression_does(pattern in "[ab*]{0,6}", tool in "[ab]{0,6}") {
            prop_assert_eq!(ToolPattern::new(&pattern).matches(&tool), fits(pattern.as_bytes(), tool.as_bytes()));
        }
    }
}
