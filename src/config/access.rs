//! Who may use a server, as the config says it. This is the only reading of that rule.

use std::sync::Arc;

/// Who may use a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a token.
    Public,
    /// Any valid token.
    AnyToken,
    /// A valid token that the rule names.
    Only {
        /// `authTokens`: names in `proxy.auth.tokens`; `None` leaves the choice to `roles`. An empty list admits nobody.
        tokens: Option<Vec<Arc<str>>>,
        /// `roles`: the caller must have at least one of them; `None` leaves the choice to `authTokens`. An empty list
        /// admits nobody.
        roles: Option<Vec<String>>,
    },
}

/// The part of a config that decides a question. [`RuleLines`](crate::config::RuleLines) has its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `public` of the server.
    Public,
    /// The server, or the aggregate, has no rule of its own: any valid token opens it.
    AnyToken,
    /// `authTokens` of the server.
    AuthTokens,
    /// `roles` of the server.
    ServerRoles,
    /// `options.toolFilter` of the server.
    ToolFilter,
    /// `roles` of the token: `admin`, or `metrics`.
    TokenRoles,
    /// `expires` of the token.
    Expires,
    /// `decoy` of the token.
    Decoy,
    /// No line: a token is needed, and there is none.
    NoToken,
    /// No line: there is no server of this name.
    NoServer,
}

impl Rule {
    /// What the audit calls it where no line of the config says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::AnyToken => "any_token",
            Self::AuthTokens => "auth_tokens",
            Self::ServerRoles => "server_roles",
            Self::ToolFilter => "tool_filter",
            Self::TokenRoles => "token_roles",
            Self::Expires => "expires",
            Self::Decoy => "decoy",
            Self::NoToken => "no_token",
            Self::NoServer => "no_server",
        }
    }
}

impl Access {
    /// Whether the holder of a valid token with this name and these roles may use the server: the part of the rule that
    /// lets them in, or else the part that keeps them out.
    pub fn admits(&self, token_name: &str, roles: &[String]) -> Result<Rule, Rule> {
        match self {
            Self::Public => Ok(Rule::Public),
            Self::AnyToken => Ok(Rule::AnyToken),
            Self::Only { tokens, roles: wanted } => {
                if tokens.as_ref().is_some_and(|names| names.iter().all(|name| **name != *token_name)) {
                    return Err(Rule::AuthTokens);
                }
                match wanted {
                    None => Ok(Rule::AuthTokens),
                    Some(wanted) if wanted.iter().any(|role| roles.contains(role)) => Ok(Rule::ServerRoles),
                    Some(_) => Err(Rule::ServerRoles),
                }
            }
        }
    }

    /// A rule that admits nobody whom one of the two keeps out. Of two lists of roles, one role of each would do; the
    /// result asks for one that is in both, so it may admit fewer.
    pub fn narrowed_by(&self, other: &Self) -> Self {
        fn common<T: PartialEq + Clone>(one: Option<&Vec<T>>, other: Option<&Vec<T>>) -> Option<Vec<T>> {
            match (one, other) {
                (Some(one), Some(other)) => {
                    Some(one.iter().filter(|it| other.contains(it)).cloned().collect())
                }
                (one, other) => one.or(other).cloned(),
            }
        }
        match (self, other) {
            (Self::Public, rule) | (rule, Self::Public) => rule.clone(),
            (Self::AnyToken, rule) | (rule, Self::AnyToken) => rule.clone(),
            (Self::Only { tokens, roles }, Self::Only { tokens: others, roles: other_roles }) => Self::Only {
                tokens: common(tokens.as_ref(), others.as_ref()),
                roles: common(roles.as_ref(), other_roles.as_ref()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn roles(roles: &[&str]) -> Vec<String> {
        roles.iter().map(ToString::to_string).collect()
    }

    fn only(tokens: Option<&[&str]>, wanted: Option<&[&str]>) -> Access {
        Access::Only {
            tokens: tokens.map(|names| names.iter().map(|&name| name.into()).collect()),
            roles: wanted.map(roles),
        }
    }

    #[test]
    fn a_rule_that_names_tokens_admits_those_and_an_empty_one_nobody() {
        assert_eq!(Access::Public.admits("dev", &[]), Ok(Rule::Public));
        assert_eq!(Access::AnyToken.admits("dev", &[]), Ok(Rule::AnyToken));
        assert_eq!(only(Some(&["dev", "ci"]), None).admits("ci", &[]), Ok(Rule::AuthTokens));
        assert_eq!(only(Some(&["dev"]), None).admits("ci", &roles(&["admin"])), Err(Rule::AuthTokens));
        assert_eq!(only(Some(&[]), None).admits("dev", &[]), Err(Rule::AuthTokens));
        assert_eq!(only(None, Some(&[])).admits("dev", &roles(&["admin"])), Err(Rule::ServerRoles));
    }

    #[test]
    fn names_and_roles_must_both_hold_where_both_are_given() {
        let admin = roles(&["admin"]);
        assert_eq!(only(None, Some(&["deploy", "admin"])).admits("dev", &admin), Ok(Rule::ServerRoles));
        assert_eq!(only(None, Some(&["deploy"])).admits("dev", &admin), Err(Rule::ServerRoles));
        assert_eq!(only(Some(&["dev"]), Some(&["deploy"])).admits("dev", &[]), Err(Rule::ServerRoles));
        assert_eq!(only(Some(&["ci"]), Some(&["admin"])).admits("dev", &admin), Err(Rule::AuthTokens));
        assert_eq!(only(Some(&["dev"]), Some(&["admin"])).admits("dev", &admin), Ok(Rule::ServerRoles));
        assert_eq!(only(Some(&["dev"]), Some(&[])).admits("dev", &admin), Err(Rule::ServerRoles));
    }

    #[test]
    fn a_rule_only_ever_gets_narrower() {
        let (ab, b) = (only(Some(&["a", "b"]), None), only(Some(&["b", "c"]), Some(&["x"])));
        for (one, other, both_of_them) in [
            (&Access::Public, &Access::AnyToken, &Access::AnyToken),
            (&Access::Public, &ab, &ab),
            (&Access::AnyToken, &ab, &ab),
            (&Access::Public, &Access::Public, &Access::Public),
            (&ab, &b, &only(Some(&["b"]), Some(&["x"]))),
            (&only(None, Some(&["x", "y"])), &b, &only(Some(&["b", "c"]), Some(&["x"]))),
        ] {
            assert_eq!(&one.narrowed_by(other), both_of_them);
            assert_eq!(&other.narrowed_by(one), both_of_them);
        }
    }

    fn any_rule() -> impl Strategy<Value = Access> {
        let names = || option::of(vec("[ab]", 0..3));
        prop_oneof![
            Just(Access::Public),
            Just(Access::AnyToken),
            (names(), names()).prop_map(|(tokens, roles)| Access::Only {
                tokens: tokens.map(|names| names.into_iter().map(Into::into).collect()),
                roles,
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_two_rules_leave_both_of_them_admit(
            one in any_rule(), other in any_rule(), name in "[ab]", roles in vec("[ab]", 0..3),
        ) {
            let admits = |rule: &Access| rule.admits(&name, &roles).is_ok();
            let both = admits(&one) && admits(&other);
            let narrowed = admits(&one.narrowed_by(&other));
            prop_assert!(both || !narrowed);
            // With one list of roles at most, it is exactly both.
            let has_roles = |rule: &Access| matches!(rule, Access::Only { roles: Some(_), .. });
            prop_assert!(narrowed == both || has_roles(&one) && has_roles(&other));
        }
    }
}
